//! AES-CBC without padding (RFC 3602): the protocols above make the padding.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;

use crate::algorithm::Encryption;

/// Octets of a block and of an IV.
pub(crate) const BLOCK_LEN: usize = 16;

fn unbound(encryption: Encryption, key: &[u8]) -> Option<UnboundCipherKey> {
    let algorithm = match encryption {
        Encryption::Aes128Cbc => &AES_128,
        Encryption::Aes192Cbc => &AES_192,
        Encryption::Aes256Cbc => &AES_256,
        Encryption::Aes128Gcm16 | Encryption::Aes256Gcm16 | Encryption::Chacha20Poly1305 => {
            return None;
        }
    };
    UnboundCipherKey::new(algorithm, key).ok()
}

/// An expanded AES key for CBC encryption. The crypto library wipes it.
pub(crate) struct CbcEncrypt(EncryptingKey);

impl CbcEncrypt {
    /// `None` if the algorithm is not AES-CBC or the key has the wrong length.
    pub(crate) fn new(encryption: Encryption, key: &[u8]) -> Option<Self> {
        EncryptingKey::cbc(unbound(encryption, key)?)
            .ok()
            .map(CbcEncrypt)
    }

    /// Encrypts whole blocks in place; `None` if `data` is not whole blocks.
    pub(crate) fn encrypt(&self, iv: [u8; BLOCK_LEN], data: &mut [u8]) -> Option<()> {
        if !data.len().is_multiple_of(BLOCK_LEN) {
            return None;
        }
        self.0
            .less_safe_encrypt(data, EncryptionContext::Iv128(FixedLength::from(iv)))
            .ok()
            .map(|_| ())
    }
}

/// An expanded AES key for CBC decryption. The crypto library wipes it.
pub(crate) struct CbcDecrypt(DecryptingKey);

impl CbcDecrypt {
    /// `None` if the algorithm is not AES-CBC or the key has the wrong length.
    pub(crate) fn new(encryption: Encryption, key: &[u8]) -> Option<Self> {
        DecryptingKey::cbc(unbound(encryption, key)?)
            .ok()
            .map(CbcDecrypt)
    }

    /// Decrypts whole blocks in place; `None` if `data` is not whole blocks.
    pub(crate) fn decrypt(&self, iv: [u8; BLOCK_LEN], data: &mut [u8]) -> Option<()> {
        if !data.len().is_multiple_of(BLOCK_LEN) {
            return None;
        }
        self.0
            .decrypt(data, DecryptionContext::Iv128(FixedLength::from(iv)))
            .ok()
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests;
