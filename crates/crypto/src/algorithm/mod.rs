//! Algorithms and their names: one closed enum per transform type that this crate can compute with.
//!
//! Numbers are those of the IANA registry "Internet Key Exchange Version 2 (IKEv2) Parameters". Numbers that a peer
//! sends and that are not here are not errors of the peer: `from_iana` returns `None` and the transform is not chosen.

mod encryption;
mod integrity;
mod key_exchange;
mod prf;

pub use encryption::Encryption;
pub use integrity::Integrity;
pub use key_exchange::KeyExchange;
pub use prf::Prf;

/// A number that is not an algorithm of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnknownAlgorithm {
    /// An ENCR transform id that is not supported with this key length (in bits).
    #[error("encryption algorithm {id} with key length {key_bits:?} is not supported")]
    Encryption {
        /// Transform type 1 id.
        id: u16,
        /// Key Length attribute, in bits.
        key_bits: Option<u16>,
    },
    /// An INTEG transform id that is not supported.
    #[error("integrity algorithm {0} is not supported")]
    Integrity(u16),
}
