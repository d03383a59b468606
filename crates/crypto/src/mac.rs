//! HMAC as PRF and as integrity algorithm, and prf+ (RFC 7296 §2.13).
//!
//! Keys are kept as octets and expanded on use: an expanded HMAC key is more than 1 KiB, the expansion takes 0.14 µs.

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::algorithm::{Integrity, Prf};
use crate::secret::{SecretBytes, constant_time_eq};

fn prf_algorithm(prf: Prf) -> hmac::Algorithm {
    match prf {
        Prf::HmacSha256 => hmac::HMAC_SHA256,
        Prf::HmacSha384 => hmac::HMAC_SHA384,
        Prf::HmacSha512 => hmac::HMAC_SHA512,
    }
}

/// `prf(key, parts…)`.
pub(crate) fn prf(prf: Prf, key: &[u8], parts: &[&[u8]]) -> SecretBytes {
    let key = hmac::Key::new(prf_algorithm(prf), key);
    let mut out = Zeroizing::new(vec![0; prf.output_len()]);
    sign_into(&key, parts, &mut out);
    SecretBytes::copy_from(&out)
}

/// `prf+(key, seed…)`, the first `len` octets:
/// `T1 | T2 | …` with `T1 = prf(K, S | 0x01)` and `Tn = prf(K, Tn-1 | S | n)`.
pub(crate) fn prf_plus(prf: Prf, key: &[u8], seed: &[&[u8]], len: usize) -> Option<SecretBytes> {
    //= rfc7296#2.13
    //# The prf+ function is not defined beyond 255 times the size of
    //# the prf function output.
    let rounds = u8::try_from(len.div_ceil(prf.output_len())).ok()?;
    let key = hmac::Key::new(prf_algorithm(prf), key);
    let seed = Zeroizing::new(seed.concat());
    let mut out = Zeroizing::new(Vec::with_capacity(usize::from(rounds) * prf.output_len()));
    let mut block = Zeroizing::new(vec![0; prf.output_len()]);
    for n in 1..=rounds {
        let mut next = Zeroizing::new(vec![0; prf.output_len()]);
        let previous: &[u8] = if n == 1 { &[] } else { &block };
        sign_into(&key, &[previous, &seed, &[n]], &mut next);
        block = next;
        out.extend_from_slice(&block);
    }
    Some(SecretBytes::copy_from(out.get(..len)?))
}

/// The whole HMAC of the concatenated parts. Neither they nor the result stay behind in unwiped memory, which is why
/// this does not use the library's `Context` and `Tag`.
fn sign_into(key: &hmac::Key, parts: &[&[u8]], out: &mut [u8]) {
    let data = Zeroizing::new(parts.concat());
    let signed = hmac::sign_to_buffer(key, &data, out);
    debug_assert!(signed.is_ok(), "the buffer has the length of the output");
}

/// A truncated HMAC with its key expanded, for many packets under one key.
pub(crate) struct IntegrityKey {
    key: hmac::Key,
    icv_len: usize,
}

impl IntegrityKey {
    /// `None` if the key does not have the algorithm's length.
    pub(crate) fn new(integrity: Integrity, key: &[u8]) -> Option<Self> {
        let algorithm = match integrity {
            Integrity::HmacSha256_128 => hmac::HMAC_SHA256,
            Integrity::HmacSha384_192 => hmac::HMAC_SHA384,
            Integrity::HmacSha512_256 => hmac::HMAC_SHA512,
        };
        //= rfc4868#2.1.1
        //# a fixed key length equal to
        //# the output length of the hash functions MUST be supported, and key
        //# lengths other than the output length of the associated hash function
        //# MUST NOT be supported.
        (key.len() == integrity.key_len()).then(|| IntegrityKey {
            key: hmac::Key::new(algorithm, key),
            icv_len: integrity.icv_len(),
        })
    }

    /// Octets of an ICV.
    pub(crate) fn icv_len(&self) -> usize {
        self.icv_len
    }

    fn tag(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(part);
        }
        context.sign()
    }

    /// Writes the ICV of `parts` to `icv`; false if that has the wrong length.
    pub(crate) fn sign(&self, parts: &[&[u8]], icv: &mut [u8]) -> bool {
        let tag = self.tag(parts);
        match tag.as_ref().get(..self.icv_len) {
            Some(truncated) if truncated.len() == icv.len() => {
                icv.copy_from_slice(truncated);
                true
            }
            _ => false,
        }
    }

    /// Whether `icv` is the ICV of `parts`, in constant time.
    pub(crate) fn verify(&self, parts: &[&[u8]], icv: &[u8]) -> bool {
        let tag = self.tag(parts);
        tag.as_ref()
            .get(..self.icv_len)
            .is_some_and(|expected| constant_time_eq(expected, icv))
    }
}

#[cfg(test)]
mod tests;
