//! ML-KEM (FIPS 203) as a key exchange of IKEv2 (draft-ietf-ipsecme-ikev2-mlkem): the initiator sends an encapsulation
//! key, the responder a ciphertext.
//!
//! The crypto library draws its randomness itself; there is no door for another source.

use std::fmt;

use aws_lc_rs::kem::{
    Algorithm, AlgorithmId, Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_512, ML_KEM_768,
    ML_KEM_1024,
};

use super::{KeyExchangeError, PrivateKey, SharedSecret, check_len};
use crate::algorithm::KeyExchange;
use crate::secret::SecretBytes;

struct MlKemKey {
    method: KeyExchange,
    private: DecapsulationKey,
    public: Vec<u8>,
}

fn algorithm(method: KeyExchange) -> Option<&'static Algorithm<AlgorithmId>> {
    match method {
        KeyExchange::MlKem512 => Some(&ML_KEM_512),
        KeyExchange::MlKem768 => Some(&ML_KEM_768),
        KeyExchange::MlKem1024 => Some(&ML_KEM_1024),
        _ => None,
    }
}

pub(super) fn generate(method: KeyExchange) -> Result<Box<dyn PrivateKey>, KeyExchangeError> {
    let algorithm = algorithm(method).ok_or(KeyExchangeError::Unsupported(method))?;
    let pair = || {
        let private = DecapsulationKey::generate(algorithm).ok()?;
        let public = private.encapsulation_key().ok()?.key_bytes().ok()?;
        Some((private, public.as_ref().to_vec()))
    };
    let (private, public) = pair().ok_or(KeyExchangeError::Entropy(method))?;
    Ok(Box::new(MlKemKey {
        method,
        private,
        public,
    }))
}

/// The responder's part: the ciphertext to send and the shared secret, for the initiator's encapsulation key.
pub(super) fn encapsulate(
    method: KeyExchange,
    peer_public: &[u8],
) -> Result<(Vec<u8>, SharedSecret), KeyExchangeError> {
    let algorithm = algorithm(method).ok_or(KeyExchangeError::Unsupported(method))?;
    let invalid = KeyExchangeError::PublicInvalid(method);
    // The "modulus check" of FIPS 203 §7.2 is part of encapsulation; its "type check" is that of the length.
    let key = EncapsulationKey::new(algorithm, peer_public).map_err(|_| invalid)?;
    let (ciphertext, secret) = key.encapsulate().map_err(|_| invalid)?;
    Ok((
        ciphertext.as_ref().to_vec(),
        SharedSecret(SecretBytes::copy_from(secret.as_ref())),
    ))
}

/// A key from its expanded form (FIPS 203 dk), for published vectors; without its public half.
#[cfg(test)]
pub(super) fn from_decapsulation_key_for_test(
    method: KeyExchange,
    octets: &[u8],
) -> Option<Box<dyn PrivateKey>> {
    let private = DecapsulationKey::new(algorithm(method)?, octets).ok()?;
    Some(Box::new(MlKemKey {
        method,
        private,
        public: Vec::new(),
    }))
}

impl PrivateKey for MlKemKey {
    fn public(&self) -> &[u8] {
        &self.public
    }

    /// Any ciphertext of the right length has a result (FIPS 203 §6.3): with a wrong one the ends do not share it, which
    /// the integrity check of the next message shows.
    fn agree(&self, peer_public: &[u8]) -> Result<SharedSecret, KeyExchangeError> {
        check_len(self.method, self.method.responder_public_len(), peer_public)?;
        let secret = self
            .private
            .decapsulate(Ciphertext::from(peer_public))
            .map_err(|_| KeyExchangeError::PublicInvalid(self.method))?;
        Ok(SharedSecret(SecretBytes::copy_from(secret.as_ref())))
    }

    fn method(&self) -> KeyExchange {
        self.method
    }
}

impl fmt::Debug for MlKemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MlKemKey")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}
