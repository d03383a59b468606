//! **Insecure.** Deterministic stand-ins for simulations and tests. Nothing here protects anything.

use std::fmt;

use crate::algorithm::KeyExchange;
use crate::digest::sha256;
use crate::entropy::Entropy;
use crate::key_exchange::{
    KeyExchangeError, KeyExchangeProvider, PrivateKey, SharedSecret, check_len,
};
use crate::secret::SecretBytes;

/// **Insecure.** A generator whose whole output follows from a 64-bit seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct InsecureEntropy {
    state: u64,
}

impl InsecureEntropy {
    /// The generator of a seed.
    pub fn from_seed(seed: u64) -> Self {
        InsecureEntropy { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Entropy for InsecureEntropy {
    fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(word) {
                *to = from;
            }
        }
    }
}

/// **Insecure.** A key exchange that costs two hashes. Public values have the real lengths, both ends get the same
/// secret, and anybody who sees the public values can compute it.
///
/// The first 16 octets of a public value are the key; the rest repeats them and is checked, so that a damaged value is
/// noticed as with the real methods.
#[derive(Debug, Clone, Copy, Default)]
pub struct InsecureKeyExchange;

struct InsecureKey {
    method: KeyExchange,
    public: Vec<u8>,
}

const ID_LEN: usize = 16;

impl KeyExchangeProvider for InsecureKeyExchange {
    fn generate(
        &self,
        method: KeyExchange,
        entropy: &mut dyn Entropy,
    ) -> Result<Box<dyn PrivateKey>, KeyExchangeError> {
        let public = public_value(method.initiator_public_len(), entropy);
        Ok(Box::new(InsecureKey { method, public }))
    }

    fn respond(
        &self,
        method: KeyExchange,
        peer_public: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<(Vec<u8>, SharedSecret), KeyExchangeError> {
        let theirs = id_of(method, method.initiator_public_len(), peer_public)?;
        let public = public_value(method.responder_public_len(), entropy);
        let ours = public.get(..ID_LEN).unwrap_or_default();
        let secret = secret_of(method, theirs, ours);
        Ok((public, secret))
    }
}

fn public_value(len: usize, entropy: &mut dyn Entropy) -> Vec<u8> {
    let mut id = [0; ID_LEN];
    entropy.fill(&mut id);
    id.into_iter().cycle().take(len).collect()
}

/// The key that a public value repeats.
fn id_of(method: KeyExchange, len: usize, public: &[u8]) -> Result<&[u8], KeyExchangeError> {
    check_len(method, len, public)?;
    let id = public.get(..ID_LEN).unwrap_or_default();
    if id.iter().cycle().zip(public).all(|(a, b)| a == b) {
        Ok(id)
    } else {
        Err(KeyExchangeError::PublicInvalid(method))
    }
}

/// As with the real methods, whoever began does not matter, but where one end encapsulates for the other.
fn secret_of(method: KeyExchange, initiator: &[u8], responder: &[u8]) -> SharedSecret {
    let id = method.iana_id().to_be_bytes();
    let (first, second) = match !method.is_kem() && responder < initiator {
        true => (responder, initiator),
        false => (initiator, responder),
    };
    let secret = sha256(&[b"insecure", &id, first, second])
        .into_iter()
        .cycle()
        .take(method.shared_len())
        .collect();
    SharedSecret::new(SecretBytes::new(secret))
}

impl PrivateKey for InsecureKey {
    fn public(&self) -> &[u8] {
        &self.public
    }

    fn agree(&self, peer_public: &[u8]) -> Result<SharedSecret, KeyExchangeError> {
        let theirs = id_of(self.method, self.method.responder_public_len(), peer_public)?;
        let ours = self.public.get(..ID_LEN).unwrap_or_default();
        Ok(secret_of(self.method, ours, theirs))
    }

    fn method(&self) -> KeyExchange {
        self.method
    }
}

impl fmt::Debug for InsecureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InsecureKey")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_agree_and_a_seed_reproduces() {
        for method in KeyExchange::ALL {
            let run = |seed| {
                let mut entropy = InsecureEntropy::from_seed(seed);
                let initiator = InsecureKeyExchange.generate(method, &mut entropy).unwrap();
                let (public, theirs) = InsecureKeyExchange
                    .respond(method, initiator.public(), &mut entropy)
                    .unwrap();
                assert_eq!(initiator.public().len(), method.initiator_public_len());
                assert_eq!(public.len(), method.responder_public_len());
                let ours = initiator.agree(&public).unwrap();
                assert_eq!(ours, theirs);
                assert_eq!(ours.as_ref().len(), method.shared_len());
                (public, ours)
            };
            assert_eq!(run(7), run(7));
            assert_ne!(run(7), run(8));
        }
    }
}
