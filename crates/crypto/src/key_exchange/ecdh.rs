//! Elliptic curves: the ECP groups of RFC 5903 and Curve25519 of RFC 8031.

use std::fmt;

use aws_lc_rs::agreement::{self, ParsedPublicKey, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::{KeyExchangeError, PrivateKey, SharedSecret, check_len};
use crate::algorithm::KeyExchange;
use crate::entropy::Entropy;
use crate::secret::SecretBytes;

/// SEC 1's sign of an uncompressed point, which IKE leaves away (RFC 5903 §7).
const UNCOMPRESSED: u8 = 4;

/// How often a scalar is drawn before the entropy source is called broken. For P-256, where most are refused, it is
/// one in 2^32.
const ATTEMPTS: usize = 16;

struct EcdhKey {
    method: KeyExchange,
    private: agreement::PrivateKey,
    public: Vec<u8>,
}

fn algorithm(method: KeyExchange) -> Option<&'static agreement::Algorithm> {
    match method {
        KeyExchange::Ecp256 => Some(&agreement::ECDH_P256),
        KeyExchange::Ecp384 => Some(&agreement::ECDH_P384),
        KeyExchange::Ecp521 => Some(&agreement::ECDH_P521),
        KeyExchange::X25519 => Some(&agreement::X25519),
        _ => None,
    }
}

/// The peer's public value, if it is a point of the curve.
fn parse(method: KeyExchange, peer_public: &[u8]) -> Result<ParsedPublicKey, KeyExchangeError> {
    let algorithm = algorithm(method).ok_or(KeyExchangeError::Unsupported(method))?;
    let mut encoded = Vec::with_capacity(peer_public.len() + 1);
    if method != KeyExchange::X25519 {
        encoded.push(UNCOMPRESSED);
    }
    encoded.extend_from_slice(peer_public);
    //= rfc6989#2.3
    //# A receiving peer MUST
    //# check that its peer's public value is valid; that is, the x and y
    //# parameters from the peer's public value satisfy the curve equation,
    // Parsing checks that, and that the coordinates are below p.
    //
    //= rfc8031#3.2
    //# receiving entities MUST mask the most-significant bit in the final
    //# byte for X25519 (but not X448), and implementations MUST accept non-
    //# canonical values.
    // The crypto library does both.
    UnparsedPublicKey::new(algorithm, encoded)
        .try_into()
        .map_err(|_| KeyExchangeError::PublicInvalid(method))
}

/// Whether a key is worth being made for the peer's value. For Curve25519 only the agreement can tell.
pub(super) fn validate(method: KeyExchange, peer_public: &[u8]) -> Result<(), KeyExchangeError> {
    parse(method, peer_public).map(|_| ())
}

pub(super) fn generate(
    method: KeyExchange,
    entropy: &mut dyn Entropy,
) -> Result<Box<dyn PrivateKey>, KeyExchangeError> {
    let mut scalar = Zeroizing::new(vec![0; method.shared_len()]);
    for _ in 0..ATTEMPTS {
        entropy.fill(&mut scalar);
        if method == KeyExchange::Ecp521
            && let Some(first) = scalar.first_mut()
        {
            // 521 bits in 66 octets.
            *first &= 1;
        }
        // Scalars of 0 and from the group order on are refused, so that the rest are uniform.
        if let Some(key) = from_scalar(method, &scalar) {
            return Ok(Box::new(key));
        }
    }
    Err(KeyExchangeError::Entropy(method))
}

/// The key of a scalar (for Curve25519: of 32 octets, which need no clamping beforehand).
fn from_scalar(method: KeyExchange, scalar: &[u8]) -> Option<EcdhKey> {
    let private = agreement::PrivateKey::from_private_key(algorithm(method)?, scalar).ok()?;
    let public = private.compute_public_key().ok()?;
    let public = match method {
        KeyExchange::X25519 => public.as_ref(),
        _ => public.as_ref().strip_prefix(&[UNCOMPRESSED])?,
    };
    Some(EcdhKey {
        method,
        public: public.to_vec(),
        private,
    })
}

/// A key with a given scalar, for published vectors.
#[cfg(test)]
pub(super) fn from_scalar_for_test(
    method: KeyExchange,
    scalar: &[u8],
) -> Option<Box<dyn PrivateKey>> {
    from_scalar(method, scalar).map(|key| Box::new(key) as Box<dyn PrivateKey>)
}

impl PrivateKey for EcdhKey {
    fn public(&self) -> &[u8] {
        &self.public
    }

    fn agree(&self, peer_public: &[u8]) -> Result<SharedSecret, KeyExchangeError> {
        check_len(self.method, self.public.len(), peer_public)?;
        let peer = parse(self.method, peer_public)?;
        let invalid = KeyExchangeError::PublicInvalid(self.method);
        // `agree` fails if the result is all zeros, as a point of small order makes it (RFC 7748 §6.1).
        agreement::agree(&self.private, peer, invalid, |shared| {
            Ok(SharedSecret(SecretBytes::copy_from(shared)))
        })
    }

    fn method(&self) -> KeyExchange {
        self.method
    }
}

impl fmt::Debug for EcdhKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EcdhKey")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}
