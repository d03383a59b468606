//! The authentication of GCM by itself (NIST SP 800-38D §6.4): GHASH over parts that need not stand together, and its
//! whole tag. For AES-GMAC (RFC 4543) and for truncated ICVs; everything else lets aws-lc do it.

use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext};
use ghash::universal_hash::UniversalHash;
use ghash::{Block, GHash};
use zeroize::Zeroizing;

use crate::cipher::aes_key;

const BLOCK_LEN: usize = 16;
const SALT_LEN: usize = 4;

/// An expanded key with its salt.
pub(crate) struct GcmHash {
    aes: EncryptingKey,
    hash: GHash,
    salt: [u8; SALT_LEN],
}

impl GcmHash {
    /// From key material with the salt at its end.
    pub(crate) fn new(keymat: &[u8]) -> Option<Self> {
        let (key, salt) = keymat.split_last_chunk()?;
        let aes = EncryptingKey::ecb(aes_key(key)?).ok()?;
        let mut subkey = Zeroizing::new([0; BLOCK_LEN]);
        aes.less_safe_encrypt(&mut *subkey, EncryptionContext::None)
            .ok()?;
        Some(GcmHash {
            hash: GHash::new((&*subkey).into()),
            aes,
            salt: *salt,
        })
    }

    /// The tag of additional data in parts and of a ciphertext.
    pub(crate) fn tag(&self, iv: [u8; 8], aad: &[&[u8]], data: &[u8]) -> Option<[u8; BLOCK_LEN]> {
        let mut hash = self.hash.clone();
        let aad_bits = absorb(&mut hash, aad)?;
        let data_bits = absorb(&mut hash, &[data])?;
        let lengths = (u128::from(aad_bits) << 64) | u128::from(data_bits);
        hash.update(&[Block::from(lengths.to_be_bytes())]);
        // The first counter block: salt, IV, 1.
        let [s0, s1, s2, s3] = self.salt;
        let [i0, i1, i2, i3, i4, i5, i6, i7] = iv;
        let mut tag = [s0, s1, s2, s3, i0, i1, i2, i3, i4, i5, i6, i7, 0, 0, 0, 1];
        self.aes
            .less_safe_encrypt(&mut tag, EncryptionContext::None)
            .ok()?;
        for (octet, hashed) in tag.iter_mut().zip(hash.finalize()) {
            *octet ^= hashed;
        }
        Some(tag)
    }
}

/// Hashes parts as one text, filled up with zeros to whole blocks; its length in bits.
fn absorb(hash: &mut GHash, parts: &[&[u8]]) -> Option<u64> {
    let mut bits = 0u64;
    let mut block = [0; BLOCK_LEN];
    let mut filled = 0;
    for part in parts {
        bits = u64::try_from(part.len())
            .ok()
            .and_then(|octets| octets.checked_mul(8))
            .and_then(|more| bits.checked_add(more))?;
        let mut rest = *part;
        while !rest.is_empty() {
            let room = block.get_mut(filled..)?;
            let (now, later) = rest.split_at_checked(room.len()).unwrap_or((rest, &[]));
            room.get_mut(..now.len())?.copy_from_slice(now);
            filled += now.len();
            rest = later;
            if filled == BLOCK_LEN {
                hash.update(&[Block::from(block)]);
                block = [0; BLOCK_LEN];
                filled = 0;
            }
        }
    }
    if filled != 0 {
        hash.update(&[Block::from(block)]);
    }
    Some(bits)
}
