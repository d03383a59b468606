//! Keyed hashes as PRF and as integrity algorithm, and prf+ (RFC 7296 §2.13): HMAC (RFC 2104, 4868), AES-CMAC (RFC 4494,
//! 4615), AES-XCBC (RFC 3566, 4434).
//!
//! Keys are kept as octets and expanded on use: an expanded HMAC key is more than 1 KiB, the expansion takes 0.14 µs.

use aws_lc_rs::{cmac, hmac};
use zeroize::Zeroizing;

use crate::algorithm::{Integrity, Prf};
use crate::secret::{SecretBytes, constant_time_eq};
use crate::xcbc::Xcbc;

/// Octets of the longest output.
const MAX_OUTPUT: usize = 64;
/// Octets of key and output of the PRFs on AES.
const AES_LEN: usize = 16;

/// An expanded key of some algorithm.
#[expect(
    clippy::large_enum_variant,
    reason = "HMAC is nearly always meant, and its key is used in place"
)]
enum MacKey {
    Hmac(hmac::Key),
    Cmac(cmac::Key),
    Xcbc(Box<Xcbc>),
}

impl MacKey {
    fn hmac(algorithm: hmac::Algorithm, key: &[u8]) -> Self {
        MacKey::Hmac(hmac::Key::new(algorithm, key))
    }

    /// `None` if the key has not 16 octets.
    fn cmac(key: &[u8]) -> Option<Self> {
        cmac::Key::new(cmac::AES_128, key).ok().map(MacKey::Cmac)
    }

    /// `None` if the key has not 16 octets.
    fn xcbc(key: &[u8]) -> Option<Self> {
        let key = Xcbc::new(key.try_into().ok()?);
        Some(MacKey::Xcbc(Box::new(key)))
    }

    /// The key of a PRF, of any length.
    fn of_prf(prf: Prf, key: &[u8]) -> Option<Self> {
        match prf {
            Prf::HmacSha1 => Some(Self::hmac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key)),
            Prf::HmacSha256 => Some(Self::hmac(hmac::HMAC_SHA256, key)),
            Prf::HmacSha384 => Some(Self::hmac(hmac::HMAC_SHA384, key)),
            Prf::HmacSha512 => Some(Self::hmac(hmac::HMAC_SHA512, key)),
            Prf::AesCmac => {
                if key.len() == AES_LEN {
                    return Self::cmac(key);
                }
                // RFC 4615 §3: any other key is hashed with a key of zeros.
                let mut derived = Zeroizing::new([0; AES_LEN]);
                Self::cmac(&[0; AES_LEN])?.sign(&[key], &mut *derived)?;
                Self::cmac(&*derived)
            }
            Prf::AesXcbc => {
                // RFC 4434 §2: a shorter key is padded with zeros, a longer one hashed with a key of zeros.
                let mut derived = Zeroizing::new([0; AES_LEN]);
                match derived.get_mut(..key.len()) {
                    Some(start) => start.copy_from_slice(key),
                    None => Self::xcbc(&[0; AES_LEN])?.sign(&[key], &mut *derived)?,
                }
                Self::xcbc(&*derived)
            }
        }
    }

    /// Writes the first octets of the MAC of the concatenated parts; `None` if there are fewer than `out` has.
    fn sign(&self, parts: &[&[u8]], out: &mut [u8]) -> Option<()> {
        match self {
            MacKey::Hmac(key) => {
                let mut context = hmac::Context::with_key(key);
                for part in parts {
                    context.update(part);
                }
                out.copy_from_slice(context.sign().as_ref().get(..out.len())?);
            }
            MacKey::Cmac(key) => {
                let mut context = cmac::Context::with_key(key);
                for part in parts {
                    context.update(part).ok()?;
                }
                out.copy_from_slice(context.sign().ok()?.as_ref().get(..out.len())?);
            }
            MacKey::Xcbc(key) => {
                out.copy_from_slice(key.sign(parts).get(..out.len())?);
            }
        }
        Some(())
    }
}

/// `prf(key, parts…)`.
pub(crate) fn prf(prf: Prf, key: &[u8], parts: &[&[u8]]) -> SecretBytes {
    let mut out = Zeroizing::new(vec![0; prf.output_len()]);
    let key = MacKey::of_prf(prf, key);
    match parts {
        [message] => sign_secret(key.as_ref(), message, &mut out),
        parts => sign_secret(key.as_ref(), &Zeroizing::new(parts.concat()), &mut out),
    }
    SecretBytes::copy_from(&out)
}

/// `prf+(key, seed…)`, the first `len` octets:
/// `T1 | T2 | …` with `T1 = prf(K, S | 0x01)` and `Tn = prf(K, Tn-1 | S | n)`.
pub(crate) fn prf_plus(prf: Prf, key: &[u8], seed: &[&[u8]], len: usize) -> Option<SecretBytes> {
    //= rfc7296#2.13
    //# The prf+ function is not defined beyond 255 times the size of
    //# the prf function output.
    let rounds = u8::try_from(len.div_ceil(prf.output_len())).ok()?;
    let key = MacKey::of_prf(prf, key);
    let block = prf.output_len();
    let seed_len: usize = seed.iter().map(|part| part.len()).sum();
    // Tn-1 | S | n, with the place of Tn-1 filled from the second round on.
    let mut data = Zeroizing::new(Vec::with_capacity(block + seed_len + 1));
    data.resize(block, 0);
    seed.iter().for_each(|part| data.extend_from_slice(part));
    data.push(0);
    let mut out = Zeroizing::new(vec![0; usize::from(rounds) * block]);
    for (n, next) in (1..=rounds).zip(out.chunks_exact_mut(block)) {
        if let Some(last) = data.last_mut() {
            *last = n;
        }
        let message = if n == 1 {
            data.get(block..)?
        } else {
            &data[..]
        };
        sign_secret(key.as_ref(), message, next);
        data.get_mut(..block)?.copy_from_slice(next);
    }
    Some(SecretBytes::copy_from(out.get(..len)?))
}

/// The whole MAC of a message, a key itself. For HMAC neither the message nor the result stays behind in unwiped
/// memory, which is why this does not use the library's `Context` and `Tag`.
fn sign_secret(key: Option<&MacKey>, message: &[u8], out: &mut [u8]) {
    let signed = match key {
        Some(MacKey::Hmac(key)) => hmac::sign_to_buffer(key, message, out).ok().map(|_| ()),
        Some(key) => key.sign(&[message], out),
        None => None,
    };
    debug_assert!(
        signed.is_some(),
        "every PRF takes every key, and the buffer has the length of its output"
    );
}

/// The key of a truncated MAC, expanded, for many packets.
pub(crate) struct IntegrityKey {
    key: MacKey,
    icv_len: usize,
}

impl IntegrityKey {
    /// `None` if the key does not have the algorithm's length.
    pub(crate) fn new(integrity: Integrity, key: &[u8]) -> Option<Self> {
        //= rfc4868#2.1.1
        //# a fixed key length equal to
        //# the output length of the hash functions MUST be supported, and key
        //# lengths other than the output length of the associated hash function
        //# MUST NOT be supported.
        if key.len() != integrity.key_len() {
            return None;
        }
        let key = match integrity {
            Integrity::HmacSha1_96 => MacKey::hmac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key),
            Integrity::HmacSha256_128 => MacKey::hmac(hmac::HMAC_SHA256, key),
            Integrity::HmacSha384_192 => MacKey::hmac(hmac::HMAC_SHA384, key),
            Integrity::HmacSha512_256 => MacKey::hmac(hmac::HMAC_SHA512, key),
            Integrity::AesXcbc96 => MacKey::xcbc(key)?,
            Integrity::AesCmac96 => MacKey::cmac(key)?,
        };
        Some(IntegrityKey {
            key,
            icv_len: integrity.icv_len(),
        })
    }

    /// Octets of an ICV.
    pub(crate) fn icv_len(&self) -> usize {
        self.icv_len
    }

    /// Writes the ICV of `parts` to `icv`; false if that has the wrong length.
    pub(crate) fn sign(&self, parts: &[&[u8]], icv: &mut [u8]) -> bool {
        icv.len() == self.icv_len && self.key.sign(parts, icv).is_some()
    }

    /// Whether `icv` is the ICV of `parts`, in constant time.
    pub(crate) fn verify(&self, parts: &[&[u8]], icv: &[u8]) -> bool {
        let mut whole = [0; MAX_OUTPUT];
        whole
            .get_mut(..self.icv_len)
            .is_some_and(|expected| self.sign(parts, expected) && constant_time_eq(expected, icv))
    }
}

#[cfg(test)]
mod tests;
