//! Keyed hashes as PRF and as integrity algorithm, and prf+ (RFC 7296 §2.13): HMAC (RFC 2104, 4868), AES-CMAC (RFC 4494,
//! 4615), AES-XCBC (RFC 3566, 4434).
//!
//! Keys are kept as octets and expanded on use: an expanded HMAC key is up to 288 octets, the expansion takes 0.06 µs.

use aws_lc_rs::cmac;
use hmac::digest::{FixedOutput, Output, Update};
use hmac::{Hmac, KeyInit};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::{Zeroize, Zeroizing};

use crate::algorithm::{Integrity, Prf};
use crate::secret::{SecretBytes, constant_time_eq};
use crate::xcbc::Xcbc;

/// Octets of the longest output.
const MAX_OUTPUT: usize = 64;
/// Octets of key and output of the PRFs on AES.
const AES_LEN: usize = 16;

/// An expanded key of some algorithm. It is wiped when dropped.
enum MacKey {
    HmacSha1(Hmac<Sha1>),
    HmacSha256(Hmac<Sha256>),
    HmacSha384(Hmac<Sha384>),
    HmacSha512(Hmac<Sha512>),
    Cmac(cmac::Key),
    Xcbc(Box<Xcbc>),
}

/// Writes the first octets of the HMAC of the concatenated parts. Neither they nor it stay behind in unwiped memory.
fn sign_hmac<M>(mut mac: M, parts: &[&[u8]], out: &mut [u8]) -> Option<()>
where
    M: Update + FixedOutput,
{
    for part in parts {
        mac.update(part);
    }
    if let Ok(out) = <&mut Output<M>>::try_from(&mut *out) {
        mac.finalize_into(out);
        return Some(());
    }
    let mut whole = mac.finalize_fixed();
    let signed = whole.get(..out.len()).map(|mac| out.copy_from_slice(mac));
    whole.as_mut_slice().zeroize();
    signed
}

impl MacKey {
    // HMAC takes keys of any length.

    fn hmac_sha1(key: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(key).ok().map(MacKey::HmacSha1)
    }

    fn hmac_sha256(key: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(key).ok().map(MacKey::HmacSha256)
    }

    fn hmac_sha384(key: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(key).ok().map(MacKey::HmacSha384)
    }

    fn hmac_sha512(key: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(key).ok().map(MacKey::HmacSha512)
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
            Prf::HmacSha1 => Self::hmac_sha1(key),
            Prf::HmacSha256 => Self::hmac_sha256(key),
            Prf::HmacSha384 => Self::hmac_sha384(key),
            Prf::HmacSha512 => Self::hmac_sha512(key),
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
            MacKey::HmacSha1(key) => sign_hmac(key.clone(), parts, out)?,
            MacKey::HmacSha256(key) => sign_hmac(key.clone(), parts, out)?,
            MacKey::HmacSha384(key) => sign_hmac(key.clone(), parts, out)?,
            MacKey::HmacSha512(key) => sign_hmac(key.clone(), parts, out)?,
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

    /// The same with a key that is used once, which saves an HMAC key from being copied.
    fn sign_once(self, parts: &[&[u8]], out: &mut [u8]) -> Option<()> {
        match self {
            MacKey::HmacSha1(key) => sign_hmac(key, parts, out),
            MacKey::HmacSha256(key) => sign_hmac(key, parts, out),
            MacKey::HmacSha384(key) => sign_hmac(key, parts, out),
            MacKey::HmacSha512(key) => sign_hmac(key, parts, out),
            MacKey::Cmac(_) | MacKey::Xcbc(_) => self.sign(parts, out),
        }
    }
}

/// `prf(key, parts…)`.
pub(crate) fn prf(prf: Prf, key: &[u8], parts: &[&[u8]]) -> SecretBytes {
    SecretBytes::written(prf.output_len(), |out| {
        expect_signed(MacKey::of_prf(prf, key).and_then(|key| key.sign_once(parts, out)));
    })
}

/// `prf+(key, seed…)`, the first `len` octets:
/// `T1 | T2 | …` with `T1 = prf(K, S | 0x01)` and `Tn = prf(K, Tn-1 | S | n)`.
pub(crate) fn prf_plus(prf: Prf, key: &[u8], seed: &[&[u8]], len: usize) -> Option<SecretBytes> {
    //= rfc7296#2.13
    //# The prf+ function is not defined beyond 255 times the size of
    //# the prf function output.
    let rounds = u8::try_from(len.div_ceil(prf.output_len())).ok()?;
    let key = MacKey::of_prf(prf, key);
    // S | n in one piece.
    let input_len = seed.iter().map(|part| part.len()).sum::<usize>() + 1;
    let mut input = Zeroizing::new(Vec::with_capacity(input_len));
    for part in seed {
        input.extend_from_slice(part);
    }
    input.push(0);
    Some(SecretBytes::written(len, |out| {
        let mut previous: &[u8] = &[];
        for (n, piece) in (1..=rounds).zip(out.chunks_mut(prf.output_len())) {
            if let Some(last) = input.last_mut() {
                *last = n;
            }
            let signed = [previous, &input[..]];
            expect_signed(key.as_ref().and_then(|key| key.sign(&signed, piece)));
            previous = piece;
        }
    }))
}

fn expect_signed(signed: Option<()>) {
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
            Integrity::HmacSha1_96 => MacKey::hmac_sha1(key)?,
            Integrity::HmacSha256_128 => MacKey::hmac_sha256(key)?,
            Integrity::HmacSha384_192 => MacKey::hmac_sha384(key)?,
            Integrity::HmacSha512_256 => MacKey::hmac_sha512(key)?,
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
