//! Tests of the public interface.

mod captures;
mod framing;
mod fuzz;
mod hostile;
mod messages;
mod registry;
mod samples;
mod stream;
mod tshark;
mod walk;
