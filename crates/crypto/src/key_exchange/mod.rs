//! Key exchange (RFC 7296 §1.2, §2.14; peer's values checked as RFC 6989 asks; ML-KEM as FIPS 203 has it).
//!
//! A method sits behind [`KeyExchangeProvider`], so that simulations can use a cheap deterministic one and a token or
//! an asynchronous worker another.

mod ecdh;
mod ml_kem;
mod modp;
mod primes;

use std::fmt;

use thiserror::Error;

use crate::algorithm::KeyExchange;
use crate::entropy::Entropy;
use crate::secret::SecretBytes;

/// The result of a key exchange, g^ir, in the form in which it enters the key schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedSecret(SecretBytes);

impl SharedSecret {
    /// A shared secret computed elsewhere (by a token, or a test).
    pub fn new(bytes: SecretBytes) -> Self {
        SharedSecret(bytes)
    }
}

impl AsRef<[u8]> for SharedSecret {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

/// Why a key exchange failed. All but the last two are the peer's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyExchangeError {
    /// The peer's public value has the wrong length for the method.
    #[error("public value of {got} octets where {} has {}", .method.iana_name(), .expected)]
    PublicLength {
        /// The method.
        method: KeyExchange,
        /// What it needs.
        expected: usize,
        /// What the peer sent.
        got: usize,
    },
    /// The peer's public value is outside of the group or in a small subgroup: somebody is probing for the key.
    #[error("public value is not valid for {}", .0.iana_name())]
    PublicInvalid(KeyExchange),
    /// This provider has no such method.
    #[error("{} is not available", .0.iana_name())]
    Unsupported(KeyExchange),
    /// No key could be made from the octets that the entropy source gave.
    #[error("the entropy source gives no usable private key for {}", .0.iana_name())]
    Entropy(KeyExchange),
}

/// A private key that waits for the peer's public value. It is wiped when dropped: keep it no longer than until the one
/// value of the peer that counts. A value that turned out not to be valid, which anybody can send, does it no harm.
pub trait PrivateKey: Send + Sync + fmt::Debug {
    /// The Key Exchange Data to send.
    fn public(&self) -> &[u8];
    /// Checks the peer's Key Exchange Data and computes the shared secret.
    ///
    /// # Errors
    ///
    /// If the peer's value has the wrong length or is not valid.
    fn agree(&self, peer_public: &[u8]) -> Result<SharedSecret, KeyExchangeError>;
    /// The method.
    fn method(&self) -> KeyExchange;
}

/// A maker of private keys.
pub trait KeyExchangeProvider: Send + Sync {
    /// A new private key for the initiator of an exchange.
    ///
    /// # Errors
    ///
    /// If the method is not available or the entropy is unusable.
    fn generate(
        &self,
        method: KeyExchange,
        entropy: &mut dyn Entropy,
    ) -> Result<Box<dyn PrivateKey>, KeyExchangeError>;

    /// The responder's part in one step: its Key Exchange Data and the shared secret, from the initiator's.
    ///
    /// The initiator's value is checked before anything is made for it: a stranger's nonsense shall cost little.
    ///
    /// # Errors
    ///
    /// Those of [`Self::generate`] and [`PrivateKey::agree`].
    fn respond(
        &self,
        method: KeyExchange,
        peer_public: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<(Vec<u8>, SharedSecret), KeyExchangeError>;
}

/// The real methods: MODP over crypto-bigint, elliptic curves and ML-KEM over aws-lc.
#[derive(Debug, Clone, Copy, Default)]
pub struct StandardKeyExchange;

impl KeyExchangeProvider for StandardKeyExchange {
    fn generate(
        &self,
        method: KeyExchange,
        entropy: &mut dyn Entropy,
    ) -> Result<Box<dyn PrivateKey>, KeyExchangeError> {
        match method {
            KeyExchange::Modp1024
            | KeyExchange::Modp1536
            | KeyExchange::Modp2048
            | KeyExchange::Modp3072
            | KeyExchange::Modp4096
            | KeyExchange::Modp6144
            | KeyExchange::Modp8192 => modp::generate(method, entropy),
            KeyExchange::Ecp256
            | KeyExchange::Ecp384
            | KeyExchange::Ecp521
            | KeyExchange::X25519 => ecdh::generate(method, entropy),
            KeyExchange::MlKem512 | KeyExchange::MlKem768 | KeyExchange::MlKem1024 => {
                ml_kem::generate(method)
            }
        }
    }

    fn respond(
        &self,
        method: KeyExchange,
        peer_public: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<(Vec<u8>, SharedSecret), KeyExchangeError> {
        check_len(method, method.initiator_public_len(), peer_public)?;
        match method {
            KeyExchange::Modp1024
            | KeyExchange::Modp1536
            | KeyExchange::Modp2048
            | KeyExchange::Modp3072
            | KeyExchange::Modp4096
            | KeyExchange::Modp6144
            | KeyExchange::Modp8192 => modp::validate(method, peer_public)?,
            KeyExchange::Ecp256
            | KeyExchange::Ecp384
            | KeyExchange::Ecp521
            | KeyExchange::X25519 => ecdh::validate(method, peer_public)?,
            KeyExchange::MlKem512 | KeyExchange::MlKem768 | KeyExchange::MlKem1024 => {
                return ml_kem::encapsulate(method, peer_public);
            }
        }
        let key = self.generate(method, entropy)?;
        let secret = key.agree(peer_public)?;
        Ok((key.public().to_vec(), secret))
    }
}

/// Whether the peer's value has the length that the method gives to its role.
pub(crate) fn check_len(
    method: KeyExchange,
    expected: usize,
    peer_public: &[u8],
) -> Result<(), KeyExchangeError> {
    if peer_public.len() == expected {
        Ok(())
    } else {
        Err(KeyExchangeError::PublicLength {
            method,
            expected,
            got: peer_public.len(),
        })
    }
}

#[cfg(test)]
mod tests;
