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
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    SecretBytes::copy_from(context.sign().as_ref())
}

/// `prf+(key, seed…)`, the first `len` octets:
/// `T1 | T2 | …` with `T1 = prf(K, S | 0x01)` and `Tn = prf(K, Tn-1 | S | n)`.
pub(crate) fn prf_plus(prf: Prf, key: &[u8], seed: &[&[u8]], len: usize) -> Option<SecretBytes> {
    let key = hmac::Key::new(prf_algorithm(prf), key);
    let mut out = Zeroizing::new(Vec::with_capacity(len + prf.output_len()));
    let mut previous: Option<hmac::Tag> = None;
    let mut counter = 0u8;
    while out.len() < len {
        //= rfc7296#2.13
        //# The prf+ function is not defined beyond 255 times the size of
        //# the prf function output.
        counter = counter.checked_add(1)?;
        let mut context = hmac::Context::with_key(&key);
        if let Some(previous) = &previous {
            context.update(previous.as_ref());
        }
        for part in seed {
            context.update(part);
        }
        context.update(&[counter]);
        let tag = context.sign();
        out.extend_from_slice(tag.as_ref());
        previous = Some(tag);
    }
    Some(SecretBytes::copy_from(out.get(..len)?))
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
