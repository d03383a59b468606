//! Tests of the public interface.

mod fuzz;
mod hostile;
mod messages;
mod registry;
mod samples;
mod walk;
