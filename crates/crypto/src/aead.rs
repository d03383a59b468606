//! AEAD ciphers with the nonce of RFC 4106, 5282 and 7634: four octets of salt from the key material and eight octets of
//! IV that travel with the packet.
//!
//! A CCM cipher slots in as a second kind of key with three octets of salt (RFC 4309, RFC 5282 §4).

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};

use crate::algorithm::Encryption;

/// Octets of every IV here.
pub(crate) const IV_LEN: usize = 8;
/// Octets of every ICV here.
pub(crate) const ICV_LEN: usize = 16;
const SALT_LEN: usize = 4;

/// An expanded AEAD key with its salt. The crypto library wipes the expanded key.
pub(crate) struct AeadKey {
    key: LessSafeKey,
    salt: [u8; SALT_LEN],
}

impl AeadKey {
    /// From key material with the salt at its end; `None` if the algorithm is not an AEAD or the length is wrong.
    pub(crate) fn new(encryption: Encryption, keymat: &[u8]) -> Option<Self> {
        let algorithm = match encryption {
            Encryption::Aes128Gcm16 => &AES_128_GCM,
            Encryption::Aes256Gcm16 => &AES_256_GCM,
            Encryption::Chacha20Poly1305 => &CHACHA20_POLY1305,
            Encryption::Aes128Cbc | Encryption::Aes192Cbc | Encryption::Aes256Cbc => return None,
        };
        let (key, salt) = keymat.split_last_chunk::<SALT_LEN>()?;
        let key = UnboundKey::new(algorithm, key).ok()?;
        Some(AeadKey {
            key: LessSafeKey::new(key),
            salt: *salt,
        })
    }

    fn nonce(&self, iv: [u8; IV_LEN]) -> Nonce {
        let [s0, s1, s2, s3] = self.salt;
        let [i0, i1, i2, i3, i4, i5, i6, i7] = iv;
        Nonce::assume_unique_for_key([s0, s1, s2, s3, i0, i1, i2, i3, i4, i5, i6, i7])
    }

    /// Encrypts `data` in place and returns the ICV. The caller never uses an IV twice.
    ///
    /// `None` only if `data` is longer than the cipher can take (64 GiB).
    pub(crate) fn seal(
        &self,
        iv: [u8; IV_LEN],
        aad: &[u8],
        data: &mut [u8],
    ) -> Option<[u8; ICV_LEN]> {
        let mut icv = [0; ICV_LEN];
        self.seal_into(iv, aad, data, &mut icv).map(|()| icv)
    }

    /// [`Self::seal`] that writes the ICV where it belongs: handing it on by value costs a packet some 13 ns.
    ///
    /// `None` too if `icv` has not [`ICV_LEN`] octets.
    pub(crate) fn seal_into(
        &self,
        iv: [u8; IV_LEN],
        aad: &[u8],
        data: &mut [u8],
        icv: &mut [u8],
    ) -> Option<()> {
        let icv = <&mut [u8; ICV_LEN]>::try_from(icv).ok()?;
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(iv), Aad::from(aad), data)
            .ok()?;
        *icv = *<&[u8; ICV_LEN]>::try_from(tag.as_ref()).ok()?;
        Some(())
    }

    /// Checks and decrypts `data`, which ends with the ICV, in place; `None` if the ICV is wrong or missing.
    /// The plaintext is what stood before the ICV.
    pub(crate) fn open(&self, iv: [u8; IV_LEN], aad: &[u8], data: &mut [u8]) -> Option<()> {
        self.key
            .open_in_place(self.nonce(iv), Aad::from(aad), data)
            .ok()
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests;
