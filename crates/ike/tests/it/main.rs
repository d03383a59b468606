//! Endpoints against each other in a simulated network, and against hostile input.

mod ah;
mod changed;
mod childless;
mod collisions;
mod crash_detection;
mod failures;
mod followup;
mod forge;
mod fragmentation;
mod handshake;
mod hostile;
mod informational;
mod intermediate;
mod message_id_sync;
mod mobike;
mod narrowing;
mod nat;
mod pair;
mod ppk;
mod puzzles;
mod redirect;
mod rekey;
mod resumption;
mod sim;
mod simulation;
mod window;
