//! The real binary with itself, on its user-space plane, in network namespaces.

mod crash;
mod failures;
mod fence;
mod flood;
mod key_log;
mod lifecycle;
mod rekey;
mod roaming;
mod support;
mod takeover;
mod tcp;
mod traffic;
mod trap;
mod xfrm;
