//! Ciphers that need an integrity algorithm beside them: AES-CBC (RFC 3602) and AES-CTR (RFC 3686, 5930) by aws-lc,
//! Camellia-CBC (RFC 4312, 5529) and triple DES (RFC 2451) by RustCrypto, and none at all (RFC 2410).
//!
//! Nothing is padded here: the protocols above do that.

use std::panic::{RefUnwindSafe, UnwindSafe};

use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use camellia::{Camellia128, Camellia192, Camellia256};
use des::TdesEde3;

use crate::algorithm::{Encryption, Kind};

/// Octets of the longest IV.
pub(crate) const MAX_IV_LEN: usize = 16;
/// Octets of the nonce of AES-CTR that comes from the key material.
const CTR_NONCE_LEN: usize = 4;

/// An AES key without a mode yet; `None` if it has not one of AES's lengths.
pub(crate) fn aes_key(key: &[u8]) -> Option<UnboundCipherKey> {
    let algorithm = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        32 => &AES_256,
        _ => return None,
    };
    UnboundCipherKey::new(algorithm, key).ok()
}

/// An expanded key for encryption. It is wiped when dropped.
pub(crate) enum EncryptKey {
    AesCbc(EncryptingKey),
    AesCtr(AesCtr),
    Blocks(Box<dyn BlockCbc>),
    Null,
}

impl EncryptKey {
    /// `None` if the algorithm is an AEAD or the key material has the wrong length.
    pub(crate) fn new(encryption: Encryption, keymat: &[u8]) -> Option<Self> {
        if keymat.len() != encryption.key_len() {
            return None;
        }
        match encryption.kind() {
            Kind::AesCbc => EncryptingKey::cbc(aes_key(keymat)?)
                .ok()
                .map(EncryptKey::AesCbc),
            Kind::AesCtr => AesCtr::new(keymat).map(EncryptKey::AesCtr),
            Kind::CamelliaCbc | Kind::TripleDesCbc => {
                block_cbc(encryption, keymat).map(EncryptKey::Blocks)
            }
            Kind::Null => Some(EncryptKey::Null),
            Kind::Gcm | Kind::Ccm | Kind::Chacha20Poly1305 | Kind::Gmac => None,
        }
    }

    /// Encrypts in place; `None` if `data` is not whole blocks or `iv` has the wrong length.
    pub(crate) fn encrypt(&self, iv: &[u8], data: &mut [u8]) -> Option<()> {
        match self {
            EncryptKey::AesCbc(key) => {
                let iv = <[u8; 16]>::try_from(iv).ok()?;
                if !data.len().is_multiple_of(iv.len()) {
                    return None;
                }
                key.less_safe_encrypt(data, EncryptionContext::Iv128(FixedLength::from(iv)))
                    .ok()
                    .map(|_| ())
            }
            EncryptKey::AesCtr(key) => key.apply(iv, data),
            EncryptKey::Blocks(key) => key.encrypt(iv, data),
            EncryptKey::Null => Some(()),
        }
    }
}

/// An expanded key for decryption. It is wiped when dropped.
pub(crate) enum DecryptKey {
    AesCbc(DecryptingKey),
    AesCtr(AesCtr),
    Blocks(Box<dyn BlockCbc>),
    Null,
}

impl DecryptKey {
    /// `None` if the algorithm is an AEAD or the key material has the wrong length.
    pub(crate) fn new(encryption: Encryption, keymat: &[u8]) -> Option<Self> {
        if keymat.len() != encryption.key_len() {
            return None;
        }
        match encryption.kind() {
            Kind::AesCbc => DecryptingKey::cbc(aes_key(keymat)?)
                .ok()
                .map(DecryptKey::AesCbc),
            Kind::AesCtr => AesCtr::new(keymat).map(DecryptKey::AesCtr),
            Kind::CamelliaCbc | Kind::TripleDesCbc => {
                block_cbc(encryption, keymat).map(DecryptKey::Blocks)
            }
            Kind::Null => Some(DecryptKey::Null),
            Kind::Gcm | Kind::Ccm | Kind::Chacha20Poly1305 | Kind::Gmac => None,
        }
    }

    /// Decrypts in place; `None` if `data` is not whole blocks or `iv` has the wrong length.
    pub(crate) fn decrypt(&self, iv: &[u8], data: &mut [u8]) -> Option<()> {
        match self {
            DecryptKey::AesCbc(key) => {
                let iv = <[u8; 16]>::try_from(iv).ok()?;
                if !data.len().is_multiple_of(iv.len()) {
                    return None;
                }
                key.decrypt(data, DecryptionContext::Iv128(FixedLength::from(iv)))
                    .ok()
                    .map(|_| ())
            }
            DecryptKey::AesCtr(key) => key.apply(iv, data),
            DecryptKey::Blocks(key) => key.decrypt(iv, data),
            DecryptKey::Null => Some(()),
        }
    }
}

/// AES-CTR with the counter block of RFC 3686 §4: nonce, IV, block counter from 1.
pub(crate) struct AesCtr {
    key: EncryptingKey,
    nonce: [u8; CTR_NONCE_LEN],
}

impl AesCtr {
    /// From key material with the nonce at its end.
    pub(crate) fn new(keymat: &[u8]) -> Option<Self> {
        let (key, nonce) = keymat.split_last_chunk()?;
        let key = EncryptingKey::ctr(aes_key(key)?).ok()?;
        Some(AesCtr { key, nonce: *nonce })
    }

    /// Encryption and decryption are the same.
    fn apply(&self, iv: &[u8], data: &mut [u8]) -> Option<()> {
        self.apply_from(iv.try_into().ok()?, 1, data)
    }

    /// The same with the block counter beginning elsewhere (GCM's begins at 2).
    pub(crate) fn apply_from(&self, iv: [u8; 8], counter: u32, data: &mut [u8]) -> Option<()> {
        let mut block = [0; 16];
        let (nonce_field, rest) = block.split_first_chunk_mut::<CTR_NONCE_LEN>()?;
        let (iv_field, counter_field) = rest.split_first_chunk_mut::<8>()?;
        *nonce_field = self.nonce;
        *iv_field = iv;
        counter_field.copy_from_slice(&counter.to_be_bytes());
        let context = EncryptionContext::Iv128(FixedLength::from(block));
        self.key.less_safe_encrypt(data, context).ok().map(|_| ())
    }
}

/// A block cipher of RustCrypto in CBC mode.
pub(crate) trait BlockCbc: Send + Sync + UnwindSafe + RefUnwindSafe {
    /// Encrypts whole blocks in place.
    fn encrypt(&self, iv: &[u8], data: &mut [u8]) -> Option<()>;
    /// Decrypts whole blocks in place.
    fn decrypt(&self, iv: &[u8], data: &mut [u8]) -> Option<()>;
}

fn block_cbc(encryption: Encryption, key: &[u8]) -> Option<Box<dyn BlockCbc>> {
    Some(match (encryption.kind(), key.len()) {
        (Kind::TripleDesCbc, _) => Box::new(TdesEde3::new_from_slice(key).ok()?),
        (_, 16) => Box::new(Camellia128::new_from_slice(key).ok()?),
        (_, 24) => Box::new(Camellia192::new_from_slice(key).ok()?),
        (_, _) => Box::new(Camellia256::new_from_slice(key).ok()?),
    })
}

impl<C> BlockCbc for C
where
    C: BlockSizeUser + BlockCipherEncrypt + BlockCipherDecrypt,
    C: Send + Sync + UnwindSafe + RefUnwindSafe,
{
    fn encrypt(&self, iv: &[u8], data: &mut [u8]) -> Option<()> {
        let mut previous = Block::<C>::try_from(iv).ok()?;
        if !data.len().is_multiple_of(iv.len()) {
            return None;
        }
        for chunk in data.chunks_exact_mut(iv.len()) {
            for (chained, plain) in previous.iter_mut().zip(chunk.iter()) {
                *chained ^= plain;
            }
            self.encrypt_block(&mut previous);
            chunk.copy_from_slice(&previous);
        }
        Some(())
    }

    fn decrypt(&self, iv: &[u8], data: &mut [u8]) -> Option<()> {
        let mut previous = Block::<C>::try_from(iv).ok()?;
        if !data.len().is_multiple_of(iv.len()) {
            return None;
        }
        for chunk in data.chunks_exact_mut(iv.len()) {
            let ciphertext = Block::<C>::try_from(&*chunk).ok()?;
            let mut block = ciphertext.clone();
            self.decrypt_block(&mut block);
            for ((to, plain), chained) in chunk.iter_mut().zip(&block).zip(&previous) {
                *to = plain ^ chained;
            }
            previous = ciphertext;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
