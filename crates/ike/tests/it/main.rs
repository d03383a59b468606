//! Endpoints against each other in a simulated network, and against hostile input.

mod failures;
mod forge;
mod handshake;
mod hostile;
mod informational;
mod sim;
mod simulation;
