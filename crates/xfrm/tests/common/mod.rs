//! Shared by the tests: a sample of every message, and a way into a network namespace.
#![allow(dead_code, missing_docs)]

pub mod netns;
pub mod samples;
