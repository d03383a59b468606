//! Whole configurations, read from memory.

mod support;

mod accepted;
mod documentation;
mod fuzz;
mod includes;
mod layout;
mod refused;
mod secrets;
