//! Fixtures of the tests of the whole: networks of namespaces, daemons that run
//! in them, captures of what passes between.
//!
//! Everything a test makes carries the test process's number in its name, is
//! taken away when its value is dropped, on a panic too, and is found and taken
//! away by the next run if the process was killed. All traffic stays inside
//! the namespaces.

#![forbid(unsafe_code)]

mod capture;
mod conf;
mod daemon;
pub mod matrix;
mod netns;
mod packet;
mod process;
mod require;
mod site;
mod stream;
mod swan;
mod swan_conf;

pub use capture::{Capture, Kind, Packet};
pub use conf::Conf;
pub use daemon::{Daemon, binary};
pub use netns::Netns;
pub use packet::{raw_socket, udp_packet};
pub use process::{Outcome, Process, run, try_run, within};
pub use require::{Need, ready};
pub use site::{Family, Site};
pub use stream::{Echoes, Until, echo, echo_all};
pub use swan::{Swan, SwanChild};
pub use swan_conf::SwanConf;
