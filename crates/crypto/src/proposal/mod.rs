//! Proposals: lists of algorithms in order of preference, without wire format.
//!
//! ipsec.conf and swanctl.conf write them as names; the `ike` protocol turns them into SA payloads.

mod additional;
mod error;
mod esp;
mod ike;
mod ipsec_conf;
mod strongswan;
#[cfg(test)]
mod tests;

use std::fmt;

pub use additional::{Additional, AdditionalOffer, MAX_ADDITIONAL};
pub use error::{NameError, NameErrorKind};
pub use esp::EspProposal;
pub use ike::IkeProposal;

use crate::algorithm::{Encryption, Integrity, KeyExchange, Prf};

/// The algorithms that the ends of an IKE SA agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IkeSuite {
    /// The cipher.
    pub encryption: Encryption,
    /// The integrity algorithm; `None` with an AEAD cipher.
    pub integrity: Option<Integrity>,
    /// The pseudorandom function.
    pub prf: Prf,
    /// The key exchange method of IKE_SA_INIT, or of the CREATE_CHILD_SA exchange that rekeys.
    pub key_exchange: KeyExchange,
    /// Additional key exchanges, in the order in which they are done.
    pub additional: Additional,
}

/// As libreswan's status shows it: `AES_GCM_16_256-HMAC_SHA2_512-X25519`.
impl fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-", self.encryption)?;
        if let Some(integrity) = self.integrity {
            write!(f, "{integrity}-")?;
        }
        write!(f, "{}-{}", self.prf, self.key_exchange)?;
        additional::fmt_suite(&self.additional, f)
    }
}

/// The algorithms that the ends of a pair of ESP or AH SAs agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EspSuite {
    /// The cipher; `None` for AH.
    pub encryption: Option<Encryption>,
    /// The integrity algorithm; `None` with an AEAD cipher.
    pub integrity: Option<Integrity>,
    /// The key exchange method of CREATE_CHILD_SA; `None` where keys come from SK_d and the nonces alone.
    pub key_exchange: Option<KeyExchange>,
    /// Additional key exchanges, in the order in which they are done; none without the first one.
    pub additional: Additional,
    /// Whether sequence numbers have 64 bits.
    pub esn: bool,
}

/// `AES_GCM_16_256-X25519-ESN`; of AH `HMAC_SHA2_256_128`.
impl fmt::Display for EspSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.encryption, self.integrity) {
            (Some(encryption), Some(integrity)) => write!(f, "{encryption}-{integrity}")?,
            (Some(encryption), None) => write!(f, "{encryption}")?,
            (None, Some(integrity)) => write!(f, "{integrity}")?,
            (None, None) => {}
        }
        if let Some(key_exchange) = self.key_exchange {
            write!(f, "-{key_exchange}")?;
        }
        additional::fmt_suite(&self.additional, f)?;
        if self.esn {
            f.write_str("-ESN")?;
        }
        Ok(())
    }
}

/// AEAD ciphers in order of preference.
const AEAD_CIPHERS: [Encryption; 3] = [
    Encryption::Aes256Gcm16,
    Encryption::Aes128Gcm16,
    Encryption::Chacha20Poly1305,
];

/// Other ciphers in order of preference.
const CBC_CIPHERS: [Encryption; 2] = [Encryption::Aes256Cbc, Encryption::Aes128Cbc];

/// Why a cipher is refused in a proposal for IKE.
const ESP_ONLY: &str = "this cipher is for ESP only";

/// Each weakness once, of algorithms that have one.
fn weaknesses(
    all: impl IntoIterator<Item = Option<&'static str>>,
) -> impl Iterator<Item = &'static str> {
    let mut said = Vec::new();
    for weakness in all.into_iter().flatten() {
        push_unique(&mut said, weakness);
    }
    said.into_iter()
}

/// Appends `value` unless it is there: a list of transforms has no repetitions.
fn push_unique<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

/// Joins names with `separator`.
fn join<T: Copy>(list: &[T], separator: &str, name: impl Fn(T) -> &'static str) -> String {
    list.iter()
        .map(|item| name(*item))
        .collect::<Vec<_>>()
        .join(separator)
}
