//! The kernel behind nine replaceable groups of operations: Linux and in-memory implementations.
