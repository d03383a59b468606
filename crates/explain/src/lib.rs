//! The way of a packet through routes, devices, policies, SAs and marks: where it ends, and why.
//!
//! A [`Machine`] is what is known of a host: its devices, its SPD and SAD as a dump gives them, and someone to ask for
//! [`Routes`]. [`Machine::explain`] follows a [`Question`] through it by the kernel's rules (K2 to K10) and says at each
//! [`Step`] what was chosen and why everything that nearly was chosen was not. The lookups themselves are those of
//! [`cygnet_ipsec::reference`], which are tried against real kernels; this crate only gives reasons.
//!
//! Nothing here does I/O: a machine may as well be imagined.
#![forbid(unsafe_code)]

mod blame;
mod inbound;
mod machine;
mod objection;
mod outbound;
mod report;

pub use machine::{Device, DeviceKind, Machine, NoRoute, Question, Route, RouteQuestion, Routes};
pub use objection::{PolicyObjection, SaObjection};
pub use report::{Candidate, Cause, Explanation, Fate, Stage, Step, Verdict};
