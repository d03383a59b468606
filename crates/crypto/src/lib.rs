//! The algorithms of IKEv2 and ESP by IANA number and by name, and the IKEv2 key schedule.
//!
//! This crate knows what an algorithm is called and how it transforms octets. It knows neither messages nor
//! states: proposals are lists of algorithms, keys are octet strings with a type for each stage of their life.
//! Randomness comes in through [`Entropy`]; nothing here reads a clock, a file or a socket.
//!
//! | topic | items | source |
//! |---|---|---|
//! | names and numbers | [`Encryption`], [`Integrity`], [`Prf`], [`KeyExchange`] | IANA registry "IKEv2 Parameters" |
//! | lists of algorithms | [`IkeProposal`], [`EspProposal`], [`NameError`] | ipsec.conf(5), swanctl.conf(5) |
//! | key exchange | [`KeyExchangeProvider`], [`StandardKeyExchange`] | RFC 3526, 5903, 6989, 7748, 8031, FIPS 203 |
//! | key schedule | [`Skeyseed`], [`SkD`], [`IkeKeys`], [`ChildKeys`] | RFC 7296 §2.13–2.18, RFC 9370, 8784, 9867 |
//! | authentication | [`SignedOctets`], [`AuthKey`] | RFC 7296 §2.15 |
//! | SK payload | [`Protection`] | RFC 7296 §3.14, RFC 5282 |
//! | ESP and AH packets | [`EspCipher`], [`AhKey`] | RFC 4302, 4303, 4106, 4309, 4543, 7634, 8750, 3602, 3686, 4868 |
//!
//! Slots for more: a new cipher is a variant of [`Encryption`] and an arm in the private modules `aead` or `cipher`; a new
//! MAC is a variant of [`Integrity`] or [`Prf`] and an arm in `mac`; a key exchange method is a variant of [`KeyExchange`]
//! and an arm in [`StandardKeyExchange`]. A responder calls [`KeyExchangeProvider::respond`] and never `generate` and
//! `agree`, since a key encapsulation mechanism has no key pair there.
#![forbid(unsafe_code)]

mod aead;
mod ah;
mod algorithm;
mod auth;
mod cipher;
mod digest;
mod entropy;
mod esp;
mod gcm_hash;
mod key_exchange;
mod key_schedule;
mod mac;
mod proposal;
mod protection;
mod sealing;
mod secret;
#[cfg(test)]
mod test_util;
pub mod testing;
mod xcbc;

pub use ah::AhKey;
pub use algorithm::{Encryption, Integrity, KeyExchange, Prf, UnknownAlgorithm};
pub use auth::{PskKey, SignedOctets};
pub use digest::{nat_detection_hash, sha1, sha256, sha384, sha512};
pub use entropy::{Entropy, SystemEntropy};
pub use esp::{EspCipher, EspKeyError, EspOpenError, EspSealError};
pub use key_exchange::{
    KeyExchangeError, KeyExchangeProvider, PrivateKey, SharedSecret, StandardKeyExchange,
};
pub use key_schedule::{
    AuthKey, ChildKeys, DirectionKeys, IkeKeys, IkeKeysInUse, SkD, Skeyseed, ppk_confirmation,
};
pub use proposal::{
    Additional, AdditionalOffer, EspProposal, EspSuite, IkeProposal, IkeSuite, MAX_ADDITIONAL,
    NameError, NameErrorKind,
};
pub use protection::{OpenError, Protection, ProtectionError};
pub use sealing::SealingKey;
pub use secret::{SecretBytes, constant_time_eq};
