//! The IPsec databases: selectors, policies, security associations, and the kernel's lookup rules.
//!
//! This crate is the one model of the SPD and the SAD (RFC 4301 §4.4) as Linux XFRM keeps them. It does no I/O, reads
//! no clock and draws no random numbers.
//!
//! * Values: [`Selector`], [`Flow`], [`Mark`], [`Policy`], [`Template`], [`Sa`], [`Lifetime`], and the [`Command`]s,
//!   [`Reply`]s and [`Event`]s that every data plane understands ([`SaDatabase`]).
//! * Behaviour of one SA: [`ReplayWindow`] (RFC 4303 §3.4.3, Appendix A) and [`LifetimeState`] (K11).
//! * Lookups, twice: [`reference`](mod@reference) is written for the reader and follows the kernel's rules one by one;
//!   [`fast`] is what a data plane uses. They share these values and no matching code, and are tested to agree.
//!
//! Rules of the kernel are cited as K1 to K16; ARCHITECTURE.md lists them.
#![forbid(unsafe_code)]

mod command;
mod counter;
mod event;
mod features;
mod flow;
mod key;
mod label;
mod lifetime;
mod mark;
mod policy;
mod replay;
mod sa;
mod selector;
mod verdict;

pub mod fast;
pub mod reference;

pub use command::{
    AllocateSpi, Command, CommandError, MoveSa, PolicyReport, Reply, SaDatabase, SaReport, SaState,
    SkipSequence,
};
pub use counter::{Counter, Counters};
pub use event::{Acquire, Event, Expire, Mapping, PolicyExpire};
pub use features::PlaneFeatures;
pub use flow::{Family, Flow, FlowError};
pub use key::{CipherKey, IntegrityKey, KeyMaterial};
pub use label::{LabelError, SecurityLabel};
pub use lifetime::{Lifetime, LifetimeState, Limit, PolicyLifetimeState};
pub use mark::Mark;
pub use policy::{
    Action, Direction, Mode, Policy, PolicyKey, PolicyType, Protocol, Template, UnknownNumber,
};
pub use replay::{ReplayError, ReplayWindow, ReplayWindowError};
pub use sa::{Compression, Encap, EncapKind, Iptfs, Sa, SaCounters, SaDirection, SaFlags, SaId};
pub use selector::{PortMatch, Selector, masks_of_port_range, prefixes_of_range};
pub use verdict::{
    Bundle, Inbound, InboundPacket, InboundSpi, InstalledPolicy, Missing, Outbound, OutboundDrop,
    OutboundLookup, OutboundLookupError, OutboundPacket, Resolution,
};
