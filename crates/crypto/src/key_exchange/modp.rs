//! The MODP groups of RFC 3526, and that of 1024 bits of RFC 2409.
//!
//! Exponents are short, as RFC 3526 §8 and RFC 7919 §5.2 allow for safe primes: twice the strength that RFC 3526 §8 gives
//! to the group in its larger estimate, and exponentiation takes the same time for every exponent.

use std::fmt;
use std::sync::LazyLock;

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, Uint};
use zeroize::{Zeroize, Zeroizing};

use super::{KeyExchangeError, PrivateKey, SharedSecret, check_len, primes};
use crate::algorithm::KeyExchange;
use crate::entropy::Entropy;
use crate::secret::SecretBytes;

/// Limbs of a number of so many bits.
const fn limbs(bits: u32) -> usize {
    bits.div_ceil(crypto_bigint::Limb::BITS) as usize
}

const L1024: usize = limbs(1024);
const L1536: usize = limbs(1536);
const L2048: usize = limbs(2048);
const L3072: usize = limbs(3072);
const L4096: usize = limbs(4096);
const L6144: usize = limbs(6144);
const L8192: usize = limbs(8192);
// RFC 3526 §8, second estimate: 240, 320, 420, 480, 540 and 620 bits, rounded up to whole limbs of 64 bits. The group of
// 1024 bits is not there and gets what the next one has.
const E1024: usize = limbs(256);
const E1536: usize = limbs(256);
const E2048: usize = limbs(320);
const E3072: usize = limbs(448);
const E4096: usize = limbs(512);
const E6144: usize = limbs(576);
const E8192: usize = limbs(640);

static MODP_1024: LazyLock<Group<L1024>> = LazyLock::new(|| Group::new(primes::MODP_1024));
static MODP_1536: LazyLock<Group<L1536>> = LazyLock::new(|| Group::new(primes::MODP_1536));
static MODP_2048: LazyLock<Group<L2048>> = LazyLock::new(|| Group::new(primes::MODP_2048));
static MODP_3072: LazyLock<Group<L3072>> = LazyLock::new(|| Group::new(primes::MODP_3072));
static MODP_4096: LazyLock<Group<L4096>> = LazyLock::new(|| Group::new(primes::MODP_4096));
static MODP_6144: LazyLock<Group<L6144>> = LazyLock::new(|| Group::new(primes::MODP_6144));
static MODP_8192: LazyLock<Group<L8192>> = LazyLock::new(|| Group::new(primes::MODP_8192));

struct Group<const L: usize> {
    params: FixedMontyParams<L>,
    generator: FixedMontyForm<L>,
    /// The largest public value that is allowed: p - 2.
    max_public: Uint<L>,
}

impl<const L: usize> Group<L> {
    fn new(prime: &str) -> Self {
        let prime = Odd::<Uint<L>>::from_be_hex(prime);
        let params = FixedMontyParams::new_vartime(prime);
        Group {
            generator: FixedMontyForm::new(&Uint::from(2u8), &params),
            max_public: prime.get().wrapping_sub(&Uint::from(2u8)),
            params,
        }
    }

    /// The peer's public value as a number, if it is allowed.
    fn validate(&self, bytes: &[u8]) -> Option<Uint<L>> {
        if bytes.len() != Uint::<L>::BYTES {
            return None;
        }
        let public = Uint::from_be_slice(bytes);
        //= rfc6989#2.1
        //# Each recipient MUST verify that the peer's
        //# public value r is in the legal range (1 < r < p-1).
        (public > Uint::ONE && public <= self.max_public).then_some(public)
    }
}

/// A private exponent of `E` limbs.
struct ModpKey<const L: usize, const E: usize> {
    method: KeyExchange,
    group: &'static Group<L>,
    exponent: Zeroizing<Uint<E>>,
    public: Vec<u8>,
}

pub(super) fn generate(
    method: KeyExchange,
    entropy: &mut dyn Entropy,
) -> Result<Box<dyn PrivateKey>, KeyExchangeError> {
    Ok(match method {
        KeyExchange::Modp1024 => Box::new(draw::<L1024, E1024>(method, &MODP_1024, entropy)),
        KeyExchange::Modp1536 => Box::new(draw::<L1536, E1536>(method, &MODP_1536, entropy)),
        KeyExchange::Modp2048 => Box::new(draw::<L2048, E2048>(method, &MODP_2048, entropy)),
        KeyExchange::Modp3072 => Box::new(draw::<L3072, E3072>(method, &MODP_3072, entropy)),
        KeyExchange::Modp4096 => Box::new(draw::<L4096, E4096>(method, &MODP_4096, entropy)),
        KeyExchange::Modp6144 => Box::new(draw::<L6144, E6144>(method, &MODP_6144, entropy)),
        KeyExchange::Modp8192 => Box::new(draw::<L8192, E8192>(method, &MODP_8192, entropy)),
        _ => return Err(KeyExchangeError::Unsupported(method)),
    })
}

/// Whether the peer's public value is one that the group allows.
pub(super) fn validate(method: KeyExchange, peer_public: &[u8]) -> Result<(), KeyExchangeError> {
    let valid = match method {
        KeyExchange::Modp1024 => MODP_1024.validate(peer_public).is_some(),
        KeyExchange::Modp1536 => MODP_1536.validate(peer_public).is_some(),
        KeyExchange::Modp2048 => MODP_2048.validate(peer_public).is_some(),
        KeyExchange::Modp3072 => MODP_3072.validate(peer_public).is_some(),
        KeyExchange::Modp4096 => MODP_4096.validate(peer_public).is_some(),
        KeyExchange::Modp6144 => MODP_6144.validate(peer_public).is_some(),
        KeyExchange::Modp8192 => MODP_8192.validate(peer_public).is_some(),
        _ => return Err(KeyExchangeError::Unsupported(method)),
    };
    valid
        .then_some(())
        .ok_or(KeyExchangeError::PublicInvalid(method))
}

fn draw<const L: usize, const E: usize>(
    method: KeyExchange,
    group: &'static Group<L>,
    entropy: &mut dyn Entropy,
) -> ModpKey<L, E> {
    let mut bytes = Zeroizing::new(vec![0; Uint::<E>::BYTES]);
    entropy.fill(&mut bytes);
    // The top bit keeps the exponent, and with it the public value, away from the small numbers that peers refuse.
    if let Some(first) = bytes.first_mut() {
        *first |= 0x80;
    }
    ModpKey::new(method, group, Uint::from_be_slice(&bytes))
}

impl<const L: usize, const E: usize> ModpKey<L, E> {
    fn new(method: KeyExchange, group: &'static Group<L>, exponent: Uint<E>) -> Self {
        let exponent = Zeroizing::new(exponent);
        let public = group.generator.pow(&*exponent).retrieve();
        ModpKey {
            method,
            group,
            public: to_octets(&public),
            exponent,
        }
    }
}

/// All octets of a number, the leading zeros too.
fn to_octets<const L: usize>(number: &Uint<L>) -> Vec<u8> {
    number
        .as_words()
        .iter()
        .rev()
        .flat_map(|word| word.to_be_bytes())
        .collect()
}

impl<const L: usize, const E: usize> PrivateKey for ModpKey<L, E> {
    fn public(&self) -> &[u8] {
        &self.public
    }

    fn agree(&self, peer_public: &[u8]) -> Result<SharedSecret, KeyExchangeError> {
        //= rfc7296#3.4
        //# The length of the Diffie-Hellman public value for MODP groups MUST be
        //# equal to the length of the prime modulus over which the
        //# exponentiation was performed, prepending zero bits to the value if
        //# necessary.
        check_len(self.method, self.public.len(), peer_public)?;
        let public = self
            .group
            .validate(peer_public)
            .ok_or(KeyExchangeError::PublicInvalid(self.method))?;
        let mut shared = FixedMontyForm::new(&public, &self.group.params)
            .pow(&*self.exponent)
            .retrieve();
        // Padded with zeros to the length of the modulus (RFC 7296 §2.14).
        let secret = SharedSecret(SecretBytes::new(to_octets(&shared)));
        shared.zeroize();
        Ok(secret)
    }

    fn method(&self) -> KeyExchange {
        self.method
    }
}

impl<const L: usize, const E: usize> fmt::Debug for ModpKey<L, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModpKey")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// A key with a given exponent in octets, for vectors.
#[cfg(test)]
pub(super) fn from_exponent_for_test(method: KeyExchange, exponent: &[u8]) -> Box<dyn PrivateKey> {
    fn key<const L: usize, const E: usize>(
        method: KeyExchange,
        group: &'static Group<L>,
        exponent: &[u8],
    ) -> Box<dyn PrivateKey> {
        let mut padded = vec![0; Uint::<E>::BYTES - exponent.len()];
        padded.extend_from_slice(exponent);
        let exponent = Uint::from_be_slice(&padded);
        Box::new(ModpKey::<L, E>::new(method, group, exponent))
    }
    match method {
        KeyExchange::Modp1024 => key::<L1024, E1024>(method, &MODP_1024, exponent),
        KeyExchange::Modp1536 => key::<L1536, E1536>(method, &MODP_1536, exponent),
        KeyExchange::Modp2048 => key::<L2048, E2048>(method, &MODP_2048, exponent),
        KeyExchange::Modp3072 => key::<L3072, E3072>(method, &MODP_3072, exponent),
        KeyExchange::Modp6144 => key::<L6144, E6144>(method, &MODP_6144, exponent),
        KeyExchange::Modp8192 => key::<L8192, E8192>(method, &MODP_8192, exponent),
        _ => key::<L4096, E4096>(method, &MODP_4096, exponent),
    }
}
