//! Protection of IKE messages: the Encrypted payload SK (RFC 7296 §3.14, RFC 5282 §3) and SKF (RFC 7383 §2.5).
//!
//! ```text
//! | IKE header … generic header of SK [| fragment number, total] | IV | payloads, padding, pad length | ICV |
//! |<------------------------- AAD ----------------------------->|    |<--------- encrypted -------->|     |
//! ```
//!
//! With an AEAD cipher the ICV covers the AAD and the ciphertext; otherwise it covers everything in front of it.

use std::ops::Range;

use thiserror::Error;

use crate::aead::{self, AeadKey};
use crate::algorithm::{Encryption, Integrity, Kind};
use crate::cipher::{DecryptKey, EncryptKey, MAX_IV_LEN};
use crate::entropy::Entropy;
use crate::mac::IntegrityKey;
use crate::secret::SecretBytes;

/// Keys and algorithms that protect the messages of one direction of an IKE SA.
///
/// Keys are kept as octets and expanded for each message: a daemon holds many IKE SAs, each of which speaks rarely.
#[derive(Debug)]
pub struct Protection {
    encryption: Encryption,
    integrity: Option<Integrity>,
    sk_e: SecretBytes,
    sk_a: SecretBytes,
    /// IV of the next message sealed with an AEAD cipher or in counter mode. Counting is enough for them, which need an IV
    /// that is never used twice with a key, not one that is unpredictable (RFC 5282 §3.1, RFC 5930 §2.2).
    next_iv: u64,
}

/// Why a [`Protection`] cannot be made or cannot seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProtectionError {
    /// A key does not have the length that its algorithm needs.
    #[error("key of {got} octets where {algorithm} needs {expected}")]
    KeyLength {
        /// The algorithm's IANA name.
        algorithm: &'static str,
        /// What it needs.
        expected: usize,
        /// What was given.
        got: usize,
    },
    /// An AEAD cipher together with an integrity algorithm, another cipher without one, or a cipher that is not for IKE.
    #[error("{} does not go with {}", .0.iana_name(), .1.map_or("no integrity algorithm", Integrity::iana_name))]
    Combination(Encryption, Option<Integrity>),
    /// All IVs of this key are used up.
    #[error("no unused IV is left for this key")]
    IvsExhausted,
    /// The AAD is longer than the buffer, or the plaintext is longer than the cipher can take.
    #[error("message length is out of range")]
    Length,
}

/// Why a received SK payload was not opened. All but `AuthenticationFailed` are visible to anybody on the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The payload cannot hold an IV, a pad length and an ICV, or its ciphertext is not whole blocks.
    #[error("encrypted payload has an impossible length")]
    Length,
    /// The ICV is wrong: not from the peer, damaged, or made with other keys.
    #[error("integrity check failed")]
    AuthenticationFailed,
    /// The ICV is right but the pad length is more than there is: the peer made an invalid message.
    #[error("pad length exceeds the decrypted payload")]
    Padding,
}

impl Protection {
    /// The protection of one direction with SK_e and SK_a of that direction; `sk_a` is empty with an AEAD cipher.
    ///
    /// # Errors
    ///
    /// If the algorithms do not go together or a key has the wrong length.
    pub fn new(
        encryption: Encryption,
        integrity: Option<Integrity>,
        sk_e: &[u8],
        sk_a: &[u8],
    ) -> Result<Self, ProtectionError> {
        let (sk_e, sk_a) = (SecretBytes::copy_from(sk_e), SecretBytes::copy_from(sk_a));
        Self::with_keys(encryption, integrity, sk_e, sk_a)
    }

    /// The same with keys that are nobody else's.
    pub(crate) fn with_keys(
        encryption: Encryption,
        integrity: Option<Integrity>,
        sk_e: SecretBytes,
        sk_a: SecretBytes,
    ) -> Result<Self, ProtectionError> {
        if encryption.is_aead() != integrity.is_none() || !encryption.is_for_ike() {
            return Err(ProtectionError::Combination(encryption, integrity));
        }
        check_len(encryption.iana_name(), encryption.key_len(), &sk_e)?;
        if let Some(integrity) = integrity {
            check_len(integrity.iana_name(), integrity.key_len(), &sk_a)?;
        }
        Ok(Protection {
            encryption,
            integrity,
            sk_e,
            sk_a,
            next_iv: 1,
        })
    }

    /// Octets of the SK payload's body (IV, ciphertext, ICV, without the generic header) for inner payloads of
    /// `plain_len` octets: what the length fields in the AAD must account for before sealing.
    pub fn body_len(&self, plain_len: usize) -> usize {
        self.encryption.iv_len() + plain_len + self.padding_len(plain_len) + 1 + self.icv_len()
    }

    /// The most octets of inner payloads whose body has at most `body_len` octets; 0 if none fit.
    pub fn max_plain_len(&self, body_len: usize) -> usize {
        let ciphertext = body_len.saturating_sub(self.encryption.iv_len() + self.icv_len());
        let block = self.encryption.block_len();
        (ciphertext / block * block).saturating_sub(1)
    }

    fn icv_len(&self) -> usize {
        self.integrity
            .map_or(self.encryption.icv_len(), Integrity::icv_len)
    }

    /// The least padding: what rounds the payloads and the pad length octet up to whole blocks.
    fn padding_len(&self, plain_len: usize) -> usize {
        let block = self.encryption.block_len();
        (block - (plain_len + 1) % block) % block
    }

    /// Protects a message in place.
    ///
    /// Before: `buf` holds `aad_len` octets up to the end of the SK (or SKF) header, its lengths already final (see
    /// [`Self::body_len`]), followed by the inner payloads in clear. After: the same octets of AAD followed by IV,
    /// ciphertext and ICV. On an error `buf` must not be sent.
    ///
    /// Give every message to `seal` once and keep the result for retransmission.
    ///
    /// # Errors
    ///
    /// [`ProtectionError::Length`] and [`ProtectionError::IvsExhausted`].
    pub fn seal(
        &mut self,
        aad_len: usize,
        buf: &mut Vec<u8>,
        entropy: &mut dyn Entropy,
    ) -> Result<(), ProtectionError> {
        if self.encryption.is_aead() || self.encryption.kind() == Kind::AesCtr {
            //= rfc5282#3.1
            //# The IV MUST be
            //# chosen by the encryptor in a manner that ensures that the same IV
            //# value is used only once for a given key.
            let iv = self.next_iv;
            self.next_iv = iv.checked_add(1).ok_or(ProtectionError::IvsExhausted)?;
            self.seal_with_iv(aad_len, buf, &iv.to_be_bytes(), 0)
        } else {
            //= rfc7296#3.14
            //# Senders MUST select a new
            //# unpredictable IV for every message;
            let mut iv = [0; MAX_IV_LEN];
            let (iv, _) = iv
                .split_at_mut_checked(self.encryption.iv_len())
                .ok_or(ProtectionError::Length)?;
            entropy.fill(iv);
            self.seal_with_iv(aad_len, buf, iv, 0)
        }
    }

    /// Seals with a given IV, and with `extra_padding` octets more of padding than are needed.
    pub(crate) fn seal_with_iv(
        &self,
        aad_len: usize,
        buf: &mut Vec<u8>,
        iv: &[u8],
        extra_padding: usize,
    ) -> Result<(), ProtectionError> {
        let plain_len = buf
            .len()
            .checked_sub(aad_len)
            .ok_or(ProtectionError::Length)?;
        let padding = self.padding_len(plain_len) + extra_padding;
        let pad_length = u8::try_from(padding).map_err(|_| ProtectionError::Length)?;
        buf.resize(buf.len() + padding, 0);
        buf.push(pad_length);
        buf.splice(aad_len..aad_len, iv.iter().copied());
        let icv_at = buf.len();

        if let Some(integrity) = self.integrity {
            let cipher = EncryptKey::new(self.encryption, self.sk_e.as_ref());
            let ciphertext = buf.get_mut(aad_len + iv.len()..);
            cipher
                .zip(ciphertext)
                .and_then(|(cipher, ciphertext)| cipher.encrypt(iv, ciphertext))
                .ok_or(ProtectionError::Length)?;
            let key =
                IntegrityKey::new(integrity, self.sk_a.as_ref()).ok_or(ProtectionError::Length)?;
            buf.resize(icv_at + key.icv_len(), 0);
            let (covered, icv) = buf.split_at_mut(icv_at);
            if !key.sign(&[covered], icv) {
                return Err(ProtectionError::Length);
            }
        } else {
            let key =
                AeadKey::new(self.encryption, self.sk_e.as_ref()).ok_or(ProtectionError::Length)?;
            buf.resize(icv_at + self.icv_len(), 0);
            let (covered, icv) = buf.split_at_mut(icv_at);
            let (aad, rest) = covered.split_at_mut(aad_len);
            rest.split_first_chunk_mut::<{ aead::IV_LEN }>()
                .and_then(|(iv, ciphertext)| key.seal(*iv, aad, ciphertext, icv))
                .ok_or(ProtectionError::Length)?;
        }
        Ok(())
    }

    /// Checks and decrypts a message in place: `message` is the whole message (or up to the end of its SK payload), of
    /// which the first `aad_len` octets are the AAD. Returns where the inner payloads stand, padding removed.
    ///
    /// On an error nothing of `message` may be believed; it may have been overwritten.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(&self, message: &mut [u8], aad_len: usize) -> Result<Range<usize>, OpenError> {
        let iv_len = self.encryption.iv_len();
        let start = aad_len.checked_add(iv_len).ok_or(OpenError::Length)?;
        let end = message
            .len()
            .checked_sub(self.icv_len())
            .filter(|end| *end > start)
            .ok_or(OpenError::Length)?;
        // What cannot be whole blocks is refused before any work is done for it.
        if !(end - start).is_multiple_of(self.encryption.block_len()) {
            return Err(OpenError::Length);
        }
        if let Some(integrity) = self.integrity {
            //= rfc7296#3.14
            //# The checksum MUST be computed over the encrypted message.
            let key = IntegrityKey::new(integrity, self.sk_a.as_ref()).ok_or(OpenError::Length)?;
            let (covered, icv) = message.split_at_mut(end);
            if !key.verify(&[covered], icv) {
                return Err(OpenError::AuthenticationFailed);
            }
            let cipher = DecryptKey::new(self.encryption, self.sk_e.as_ref());
            let body = covered
                .get_mut(aad_len..)
                .and_then(|body| body.split_at_mut_checked(iv_len));
            cipher
                .zip(body)
                .and_then(|(cipher, (iv, ciphertext))| cipher.decrypt(iv, ciphertext))
                .ok_or(OpenError::Length)?;
        } else {
            let key = AeadKey::new(self.encryption, self.sk_e.as_ref()).ok_or(OpenError::Length)?;
            let (aad, body) = message
                .split_at_mut_checked(aad_len)
                .ok_or(OpenError::Length)?;
            let (iv, ciphertext) = body
                .split_first_chunk_mut::<{ aead::IV_LEN }>()
                .ok_or(OpenError::Length)?;
            key.open(*iv, aad, ciphertext)
                .ok_or(OpenError::AuthenticationFailed)?;
        }
        //= rfc7296#3.14
        //# the recipient MUST accept any length that results
        //# in proper alignment.
        let pad_length = message
            .get(end - 1)
            .copied()
            .map(usize::from)
            .ok_or(OpenError::Padding)?;
        let plain_end = (end - 1)
            .checked_sub(pad_length)
            .filter(|plain_end| *plain_end >= start)
            .ok_or(OpenError::Padding)?;
        Ok(start..plain_end)
    }
}

fn check_len(
    algorithm: &'static str,
    expected: usize,
    key: &SecretBytes,
) -> Result<(), ProtectionError> {
    if key.len() == expected {
        Ok(())
    } else {
        Err(ProtectionError::KeyLength {
            algorithm,
            expected,
            got: key.len(),
        })
    }
}

#[cfg(test)]
mod tests;
