//! Ciphers that authenticate by themselves: AES-GCM and ChaCha20-Poly1305 by aws-lc (RFC 4106, 5282, 7634), AES-CCM by
//! RustCrypto (RFC 4309, 5282), AES-GMAC (RFC 4543).
//!
//! The nonce is the salt from the key material and eight octets of IV, which travel with the packet or follow from its
//! sequence number (RFC 8750).

use std::panic::{RefUnwindSafe, UnwindSafe};

use aes::cipher::consts::{U8, U11, U12, U16};
use aes::cipher::{BlockCipherEncrypt, BlockSizeUser};
use aes::{Aes128, Aes192, Aes256};
use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce,
    UnboundKey,
};
use ccm::aead::array::ArraySize;
use ccm::{AeadInOut, Ccm, KeyInit, TagSize};

use crate::algorithm::{Encryption, Kind};
use crate::cipher::AesCtr;
use crate::gcm_hash::GcmHash;
use crate::secret::constant_time_eq;

/// Octets of every IV here.
pub(crate) const IV_LEN: usize = 8;
/// Octets of a whole ICV.
const WHOLE_ICV_LEN: usize = 16;
const SALT_LEN: usize = 4;
const CCM_SALT_LEN: usize = 3;

/// An expanded AEAD key with its salt. It is wiped when dropped.
pub(crate) enum AeadKey {
    /// With an ICV of 16 octets, which is nearly always.
    Whole(WholeIcv),
    /// The others are boxed, so that they do not make the first one larger.
    ShortGcm(Box<ShortGcm>),
    Ccm(Box<CcmKey>),
    Gmac(Box<GcmHash>),
}

impl AeadKey {
    /// From key material with the salt at its end; `None` if the algorithm is not an AEAD or the length is wrong.
    pub(crate) fn new(encryption: Encryption, keymat: &[u8]) -> Option<Self> {
        if keymat.len() != encryption.key_len() {
            return None;
        }
        match encryption.kind() {
            Kind::Gcm | Kind::Chacha20Poly1305 if encryption.icv_len() == WHOLE_ICV_LEN => {
                WholeIcv::new(encryption, keymat).map(AeadKey::Whole)
            }
            Kind::Gcm => {
                ShortGcm::new(encryption, keymat).map(|key| AeadKey::ShortGcm(Box::new(key)))
            }
            Kind::Ccm => CcmKey::new(encryption, keymat).map(|key| AeadKey::Ccm(Box::new(key))),
            Kind::Gmac => GcmHash::new(keymat).map(|key| AeadKey::Gmac(Box::new(key))),
            _ => None,
        }
    }

    /// Encrypts `data` in place and writes the ICV. The caller never uses an IV twice.
    ///
    /// `None` only if `icv` has the wrong length or `data` is longer than the cipher can take (64 GiB).
    pub(crate) fn seal(
        &self,
        iv: [u8; IV_LEN],
        aad: &[u8],
        data: &mut [u8],
        icv: &mut [u8],
    ) -> Option<()> {
        match self {
            AeadKey::Whole(key) => key.seal(iv, aad, data, icv),
            AeadKey::ShortGcm(key) => key.seal(iv, aad, data, icv),
            AeadKey::Ccm(key) => key.key.seal(&key.nonce(iv), aad, data, icv),
            //= rfc4543#3.3
            //# This is done by including those
            //# fields in the AES-GMAC Additional Authenticated Data (AAD) field.
            // The IV is among them, which the RFC's figures leave out and its vectors and all implementations have.
            AeadKey::Gmac(key) => {
                let tag = key.tag(iv, &[aad, &iv, data], &[])?;
                (icv.len() == tag.len()).then(|| icv.copy_from_slice(&tag))
            }
        }
    }

    /// Checks and decrypts `data`, which ends with the ICV, in place; `None` if the ICV is wrong or missing.
    /// The plaintext is what stood before the ICV.
    pub(crate) fn open(&self, iv: [u8; IV_LEN], aad: &[u8], data: &mut [u8]) -> Option<()> {
        match self {
            AeadKey::Whole(key) => key.open(iv, aad, data),
            AeadKey::ShortGcm(key) => key.open(iv, aad, data),
            AeadKey::Ccm(key) => key.key.open(&key.nonce(iv), aad, data),
            AeadKey::Gmac(key) => {
                let (data, icv) = data.split_last_chunk::<WHOLE_ICV_LEN>()?;
                let tag = key.tag(iv, &[aad, &iv, data], &[])?;
                constant_time_eq(&tag, icv).then_some(())
            }
        }
    }
}

/// The nonce of GCM and ChaCha20-Poly1305.
fn nonce(salt: [u8; SALT_LEN], iv: [u8; IV_LEN]) -> Nonce {
    let [s0, s1, s2, s3] = salt;
    let [i0, i1, i2, i3, i4, i5, i6, i7] = iv;
    Nonce::assume_unique_for_key([s0, s1, s2, s3, i0, i1, i2, i3, i4, i5, i6, i7])
}

/// AES-GCM and ChaCha20-Poly1305 with the ICV that the crypto library makes.
pub(crate) struct WholeIcv {
    key: LessSafeKey,
    salt: [u8; SALT_LEN],
}

impl WholeIcv {
    fn new(encryption: Encryption, keymat: &[u8]) -> Option<Self> {
        let (key, salt) = keymat.split_last_chunk()?;
        let algorithm: &Algorithm = match (encryption.kind(), key.len()) {
            (Kind::Gcm, 16) => &AES_128_GCM,
            (Kind::Gcm, 24) => &AES_192_GCM,
            (Kind::Gcm, 32) => &AES_256_GCM,
            _ => &CHACHA20_POLY1305,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(WholeIcv { key, salt: *salt })
    }

    /// The ICV is written where it belongs: handing it on by value costs a packet some 13 ns.
    fn seal(&self, iv: [u8; IV_LEN], aad: &[u8], data: &mut [u8], icv: &mut [u8]) -> Option<()> {
        let icv = <&mut [u8; WHOLE_ICV_LEN]>::try_from(icv).ok()?;
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(self.salt, iv), Aad::from(aad), data)
            .ok()?;
        *icv = *<&[u8; WHOLE_ICV_LEN]>::try_from(tag.as_ref()).ok()?;
        Some(())
    }

    fn open(&self, iv: [u8; IV_LEN], aad: &[u8], data: &mut [u8]) -> Option<()> {
        self.key
            .open_in_place(nonce(self.salt, iv), Aad::from(aad), data)
            .ok()
            .map(|_| ())
    }
}

/// AES-GCM with an ICV of 8 or 12 octets. The crypto library makes the ICV but does not compare a part of it, so that is
/// done here.
pub(crate) struct ShortGcm {
    sealing: WholeIcv,
    hash: GcmHash,
    ctr: AesCtr,
    icv_len: usize,
}

impl ShortGcm {
    fn new(encryption: Encryption, keymat: &[u8]) -> Option<Self> {
        Some(ShortGcm {
            sealing: WholeIcv::new(encryption, keymat)?,
            hash: GcmHash::new(keymat)?,
            ctr: AesCtr::new(keymat)?,
            icv_len: encryption.icv_len(),
        })
    }

    fn seal(&self, iv: [u8; IV_LEN], aad: &[u8], data: &mut [u8], icv: &mut [u8]) -> Option<()> {
        let mut whole = [0; WHOLE_ICV_LEN];
        self.sealing.seal(iv, aad, data, &mut whole)?;
        let part = whole.get(..self.icv_len)?;
        (icv.len() == part.len()).then(|| icv.copy_from_slice(part))
    }

    fn open(&self, iv: [u8; IV_LEN], aad: &[u8], data: &mut [u8]) -> Option<()> {
        let (data, icv) = data.split_at_mut_checked(data.len().checked_sub(self.icv_len)?)?;
        let tag = self.hash.tag(iv, &[aad], data)?;
        if !constant_time_eq(tag.get(..self.icv_len)?, icv) {
            return None;
        }
        // GCM encrypts in counter mode from block 2 on (NIST SP 800-38D §7.1).
        self.ctr.apply_from(iv, 2, data)
    }
}

/// AES-CCM with a salt of three octets (RFC 4309 §4, RFC 5282 §4).
pub(crate) struct CcmKey {
    key: Box<dyn CcmCipher>,
    salt: [u8; CCM_SALT_LEN],
}

type CcmNonce = [u8; CCM_SALT_LEN + IV_LEN];

impl CcmKey {
    fn new(encryption: Encryption, keymat: &[u8]) -> Option<Self> {
        fn sized<M>(key: &[u8]) -> Option<Box<dyn CcmCipher>>
        where
            M: ArraySize + TagSize + Send + Sync + UnwindSafe + RefUnwindSafe + 'static,
        {
            Some(match key.len() {
                16 => Box::new(Ccm::<Aes128, M, U11>::new_from_slice(key).ok()?),
                24 => Box::new(Ccm::<Aes192, M, U11>::new_from_slice(key).ok()?),
                _ => Box::new(Ccm::<Aes256, M, U11>::new_from_slice(key).ok()?),
            })
        }
        let (key, salt) = keymat.split_last_chunk()?;
        let key = match encryption.icv_len() {
            8 => sized::<U8>(key)?,
            12 => sized::<U12>(key)?,
            _ => sized::<U16>(key)?,
        };
        Some(CcmKey { key, salt: *salt })
    }

    fn nonce(&self, iv: [u8; IV_LEN]) -> CcmNonce {
        let [s0, s1, s2] = self.salt;
        let [i0, i1, i2, i3, i4, i5, i6, i7] = iv;
        [s0, s1, s2, i0, i1, i2, i3, i4, i5, i6, i7]
    }
}

/// AES-CCM of some key and ICV length.
trait CcmCipher: Send + Sync + UnwindSafe + RefUnwindSafe {
    fn seal(&self, nonce: &CcmNonce, aad: &[u8], data: &mut [u8], icv: &mut [u8]) -> Option<()>;
    fn open(&self, nonce: &CcmNonce, aad: &[u8], data: &mut [u8]) -> Option<()>;
}

impl<C, M> CcmCipher for Ccm<C, M, U11>
where
    C: BlockSizeUser<BlockSize = U16> + BlockCipherEncrypt,
    M: ArraySize + TagSize,
    Self: Send + Sync + UnwindSafe + RefUnwindSafe,
{
    fn seal(&self, nonce: &CcmNonce, aad: &[u8], data: &mut [u8], icv: &mut [u8]) -> Option<()> {
        let tag = self
            .encrypt_inout_detached(nonce.into(), aad, data.into())
            .ok()?;
        (icv.len() == tag.len()).then(|| icv.copy_from_slice(&tag))
    }

    fn open(&self, nonce: &CcmNonce, aad: &[u8], data: &mut [u8]) -> Option<()> {
        let (data, icv) = data.split_at_mut_checked(data.len().checked_sub(M::USIZE)?)?;
        let icv = ccm::Tag::<M>::try_from(&*icv).ok()?;
        self.decrypt_inout_detached(nonce.into(), aad, data.into(), &icv)
            .ok()
    }
}

#[cfg(test)]
mod tests;
