//! XFRM netlink: the interface of the Linux kernel's IPsec, typed.
//!
//! - [`Message`] with [`Body`] and [`Attributes`]: every message of `linux/xfrm.h`, both ways, to
//!   and from bytes. No input makes it panic; what is unknown is kept; padding is zeroed; keys are
//!   wiped and never shown.
//! - [`Client`]: requests with the kernel's texts for refusals, many in one send, dumps that notice
//!   when the table changed under them.
//! - [`Text`]: SAs, policies and notifications in the words of `ip xfrm`.
//! - [`EventSocket`]: ACQUIRE, EXPIRE, MAPPING and the other notifications; lost ones are noticed.
//!
//! The crate knows nothing of policy or of IKE and stands alone: see its examples.
//!
//! ```no_run
//! let mut client = cygnet_xfrm::Client::open()?;
//! for (sa, attributes) in client.dump_sas()? {
//!     println!("spi {:08x} {:?} if_id {:?}", sa.id.spi, sa.mode, attributes.if_id());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod algorithm;
mod attribute;
mod client;
mod codec;
mod error;
mod events;
mod key;
mod message;
mod netlink;
mod numbers;
mod socket;
mod structures;
mod text;

pub use algorithm::{Algorithm, AlgorithmIcv, AlgorithmName};
pub use attribute::{Attribute, Attributes};
pub use client::{Answer, Client};
pub use codec::DecodeError;
pub use error::{Refusal, RequestError};
pub use events::{Event, EventSocket};
pub use key::KeyBytes;
pub use message::{Body, Message};
pub use numbers::{
    Action, AttributeType, DefaultAction, EncapType, Family, Group, MessageType, Mode,
    OffloadFlags, PolicyDirection, PolicyFlags, PolicyType, SaDirection, SaExtraFlags, SaFlags,
    SaProtocol,
};
pub use structures::{
    AcquireInfo, Address, AddressFilter, AeventId, Encap, ExpireInfo, HashInfo, HashThresholds,
    INFINITE, Id, KmAddress, LifetimeLimits, LifetimeUsed, MappingInfo, Mark, Migrate,
    MigrateState, Offload, PolicyDefaults, PolicyExpireInfo, PolicyId, PolicyInfo, ReplayState,
    ReplayStateEsn, ReportInfo, SaId, SaInfo, SaStats, Selector, SpdCounts, SpiRequest, Template,
};
pub use text::{Text, upper_layer_name};
