//! The in-memory implementations, for tests of everything above the kernel.

mod network;
mod sockets;

pub use network::{AddrMonitor, Network, RouteMonitor};
pub use sockets::{Datagram, Socket};
