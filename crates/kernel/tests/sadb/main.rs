//! The SAD and SPD against the running kernel, in namespaces.
//!
//! What needs no ESP runs on any kernel with XFRM. The rest says in one line that it was skipped,
//! or fails with `CYGNET_REQUIRE_ESP=1`: so runs the scenario `xfrm-sadb` in the VM.

#[path = "../common/mod.rs"]
mod common;
mod crash;
mod esp;
mod modes;
mod moves;
mod pair;
mod plain;
