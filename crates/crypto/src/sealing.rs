//! Sealing of what is given away and comes back: AES-256-GCM under a key of our own, with random nonces (NIST SP 800-38D §8.2.2).

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::secret::SecretBytes;

/// A key that seals. It must not seal more than 2³² times: its nonces are random.
pub struct SealingKey(LessSafeKey);

impl SealingKey {
    /// Octets of a key.
    pub const LEN: usize = 32;
    /// Octets of a nonce.
    pub const NONCE_LEN: usize = 12;
    /// Octets by which sealing makes something longer.
    pub const TAG_LEN: usize = 16;

    /// `None` if the key has not [`Self::LEN`] octets.
    pub fn new(key: &SecretBytes) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// Encrypts `data` in place and appends the tag, which covers `aad` too. The nonce must be random.
    ///
    /// `None` only if `data` is longer than the cipher can take (64 GiB).
    pub fn seal(&self, nonce: [u8; Self::NONCE_LEN], aad: &[u8], data: &mut Vec<u8>) -> Option<()> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(nonce, Aad::from(aad), data)
            .ok()
    }

    /// Decrypts `data`, which ends with the tag, in place and gives what was sealed; `None` if it was not, or not so.
    pub fn open<'a>(
        &self,
        nonce: [u8; Self::NONCE_LEN],
        aad: &[u8],
        data: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = self.0.open_in_place(nonce, Aad::from(aad), data).ok()?;
        Some(plain)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::hex;

    /// Test case 16 of "The Galois/Counter Mode of Operation (GCM)" by McGrew and Viega.
    #[test]
    fn published_vector() {
        let key = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let nonce = hex("cafebabefacedbaddecaf888").try_into().unwrap();
        let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let plain = hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let sealed = hex(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
        );
        let key = SealingKey::new(&SecretBytes::new(key)).unwrap();
        let mut data = plain.clone();
        key.seal(nonce, &aad, &mut data).unwrap();
        assert_eq!(data, sealed);
        assert_eq!(key.open(nonce, &aad, &mut data).unwrap(), plain);
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert!(key.open(nonce, &aad, &mut forged).is_none());
        }
        assert!(key.open(nonce, &[], &mut sealed.clone()).is_none());
        assert!(key.open(nonce, &aad, &mut []).is_none());
    }

    #[test]
    fn keys_of_other_lengths_are_none() {
        assert!(SealingKey::new(&SecretBytes::new(vec![0; 16])).is_none());
    }
}
