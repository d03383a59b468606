//! What stands above the IKE SAs, without I/O.
//!
//! A [`Connection`] is what the user wrote; the [`Engine`] keeps an intent for
//! each (down, on demand, up) and works until reality equals it. It owns the
//! protocol [`Endpoint`](cygnet_ike::Endpoint), tells the planes what to
//! install ([`Request::Execute`]), answers ACQUIREs with negotiations, counts
//! who shares a policy, allocates reqids, retries with growing waits, and takes
//! a changed configuration in as a difference.
//!
//! Everything enters as an [`Input`] or a command and leaves as an [`Output`],
//! with the time as an argument and randomness from an injected source: two
//! engines and two in-memory kernels make a network inside a test.

#![forbid(unsafe_code)]

mod children;
mod clones;
mod commands;
mod connection;
mod connection_state;
mod directory;
mod engine;
mod event;
mod ikes;
mod inactivity;
mod io;
mod lacking;
mod lingering;
mod liveness;
mod moves;
mod orient;
mod orientation;
mod origin;
mod plane_conflict;
mod plane_events;
mod reconcile;
mod redirect;
mod renewal;
mod reqids;
mod reservations;
mod resumption;
mod secrets;
mod selectors;
mod shared_policies;
mod status;
mod takeover;
mod timers;
mod transaction;
mod traps;
mod uniqueness;

pub use connection::{
    ChildOptions, Connection, ConnectionKind, ConnectionSet, DeadPeerAction, HostEnd, HostSpec,
    IkeOptions, IpsecInterface, LabelMode, PlaneChoice, Setup, Shunt, StartAction,
};
pub use connection_state::Intent;
pub use engine::{
    Capabilities, Engine, EngineOptions, KERNEL_SPIS, USERSPACE_SPIS, UnknownConnection,
};
pub use event::{AcquireRefusal, Event};
pub use io::{
    Answer, Input, InterfaceUse, Output, Plane, Protection, ProtectionId, Request, RequestId,
    ResolveQuery,
};
pub use lacking::{Lacking, LoadError};
pub use orient::{Addresses, Orientation, Unoriented, orient};
pub use origin::{FileSpan, Origin, Sourced};
pub use plane_conflict::PlaneConflict;
pub use secrets::{SecretEntry, SecretKind, SecretLookupError, SecretOwner, Secrets};
pub use selectors::{
    MAX_SELECTORS, PriorityClass, TooManySelectors, describe, outbound_selectors, priority,
};
pub use status::{
    ChildStatus, ConnectionStatus, FailureStatus, IkeCounters, IkeStatus, Status, Traffic,
};
