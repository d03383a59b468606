//! Tests of the public interface.

mod captures;
mod fuzz;
mod hostile;
mod messages;
mod registry;
mod samples;
mod tshark;
mod walk;
