//! Whole configurations, read from memory.

mod support;

mod accepted;
