//! Endpoints against each other in a simulated network, and against hostile input.

mod handshake;
mod sim;
