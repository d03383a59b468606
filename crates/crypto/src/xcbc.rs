//! AES-XCBC-MAC (RFC 3566 §4): CBC-MAC with a key of its own for the last block, 128-bit keys only.

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use zeroize::{Zeroize, ZeroizeOnDrop};

const BLOCK_LEN: usize = 16;
type Block = [u8; BLOCK_LEN];

/// The three keys that follow from one.
#[derive(ZeroizeOnDrop)]
pub(crate) struct Xcbc {
    k1: Aes128,
    /// For a last block that is whole.
    k2: Block,
    /// For a last block that had to be padded.
    k3: Block,
}

fn encrypt(key: &Aes128, block: &mut Block) {
    let mut array = Array::from(*block);
    key.encrypt_block(&mut array);
    *block = array.into();
    array.zeroize();
}

fn xor(into: &mut Block, other: &Block) {
    for (to, from) in into.iter_mut().zip(other) {
        *to ^= from;
    }
}

impl Xcbc {
    pub(crate) fn new(key: &Block) -> Self {
        let cipher = Aes128::new(key.into());
        let derived = |octet| {
            let mut block = [octet; BLOCK_LEN];
            encrypt(&cipher, &mut block);
            block
        };
        let mut k1 = derived(1);
        let keys = Xcbc {
            k1: Aes128::new((&k1).into()),
            k2: derived(2),
            k3: derived(3),
        };
        k1.zeroize();
        keys
    }

    /// The whole MAC of the concatenated parts.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> Block {
        let mut state = [0; BLOCK_LEN];
        // What is not encrypted yet: it may be the last block, which is treated in another way.
        let mut pending = [0; BLOCK_LEN];
        let mut filled = 0;
        for octet in parts.iter().copied().flatten() {
            if filled == BLOCK_LEN {
                xor(&mut state, &pending);
                encrypt(&self.k1, &mut state);
                filled = 0;
            }
            if let Some(place) = pending.get_mut(filled) {
                *place = *octet;
            }
            filled += 1;
        }
        if filled == BLOCK_LEN {
            xor(&mut state, &self.k2);
        } else {
            for (i, place) in pending.iter_mut().enumerate().skip(filled) {
                *place = if i == filled { 0x80 } else { 0 };
            }
            xor(&mut state, &self.k3);
        }
        xor(&mut state, &pending);
        encrypt(&self.k1, &mut state);
        state
    }
}
