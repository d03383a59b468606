//! Algorithms and their names: one closed enum per transform type that this crate can compute with.
//!
//! Numbers are those of the IANA registry "Internet Key Exchange Version 2 (IKEv2) Parameters". Numbers that a peer
//! sends and that are not here are not errors of the peer: `from_iana` returns `None` and the transform is not chosen.

mod encryption;
mod integrity;
mod key_exchange;
mod prf;

pub use encryption::Encryption;
pub(crate) use encryption::Kind;
pub use integrity::Integrity;
pub use key_exchange::KeyExchange;
pub use prf::Prf;

/// A number that is not an algorithm of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnknownAlgorithm {
    /// An ENCR transform id that is not supported with so much key material.
    #[error("encryption algorithm {id} with {key_len} octets of key material is not supported")]
    Encryption {
        /// Transform type 1 id.
        id: u16,
        /// Octets of key material, salt included.
        key_len: usize,
    },
    /// An INTEG transform id that is not supported.
    #[error("integrity algorithm {0} is not supported")]
    Integrity(u16),
}
