//! The cryptography of ESP packets, in place (RFC 4303; AES-GCM: RFC 4106; AES-CCM: RFC 4309; AES-GMAC: RFC 4543;
//! ChaCha20-Poly1305: RFC 7634; implicit IVs: RFC 8750; AES-CBC: RFC 3602; AES-CTR: RFC 3686; HMAC-SHA-2: RFC 4868).
//!
//! ```text
//! | SPI 4 | sequence number 4 | IV | payload, padding, pad length, next header | ICV |
//! |<------ ESP header ------>|    |<-------------- encrypted ---------------->|     |
//! ```
//!
//! Padding and the trailer are the caller's: this module sees octets to encrypt. With extended sequence numbers the high
//! 32 bits do not travel, but the ICV covers them.

use std::fmt;
use std::ops::Range;

use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext};
use thiserror::Error;

use crate::aead::{self, AeadKey};
use crate::algorithm::{Encryption, Integrity, Kind as CipherKind, Prf, UnknownAlgorithm};
use crate::cipher::{DecryptKey, EncryptKey, MAX_IV_LEN, aes_key};
use crate::mac::IntegrityKey;

/// Octets of SPI and sequence number.
const HEADER_LEN: usize = 8;

/// The expanded keys of one ESP SA, for one direction.
pub struct EspCipher {
    encryption: Encryption,
    integrity: Option<Integrity>,
    /// Of the algorithms, at hand for every packet.
    iv_len: usize,
    icv_len: usize,
    block_len: usize,
    kind: Kind,
}

enum Kind {
    Aead(AeadKey),
    /// Boxed: an expanded HMAC key alone is over 1 KiB.
    Separate(Box<Separate>),
}

/// A cipher with an integrity algorithm beside it.
struct Separate {
    encrypt: EncryptKey,
    decrypt: DecryptKey,
    iv: IvSource,
    integrity: IntegrityKey,
}

/// Why an [`EspCipher`] or an [`AhKey`](crate::AhKey) cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EspKeyError {
    /// No such algorithm here.
    #[error(transparent)]
    Unknown(#[from] UnknownAlgorithm),
    /// The integrity key has not the length that its algorithm needs.
    #[error("integrity key of {got} octets where {} needs {}", .algorithm.iana_name(), .algorithm.key_len())]
    IntegrityKeyLength {
        /// The algorithm.
        algorithm: Integrity,
        /// Octets given.
        got: usize,
    },
    /// A cipher that does not authenticate without an integrity algorithm.
    //= rfc8221#4
    //# Encryption without authentication is not effective and MUST NOT be
    //# used.
    #[error("{} needs an integrity algorithm", .0.iana_name())]
    IntegrityMissing(Encryption),
    /// An AEAD cipher with an integrity algorithm besides.
    #[error("{} takes no integrity algorithm", .0.iana_name())]
    IntegrityNotAllowed(Encryption),
}

/// Why a packet cannot be sealed: the caller made a wrong buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EspSealError {
    /// The buffer has no room for header, IV and ICV, or the plaintext is not whole blocks.
    #[error("packet buffer has an impossible length")]
    Length,
    /// The sequence number does not fit into 32 bits and the SA has no extended ones.
    #[error("sequence number overflow")]
    SequenceOverflow,
}

/// Why a packet was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EspOpenError {
    /// Too short for header, IV and ICV, or ciphertext that is not whole blocks.
    #[error("packet has an impossible length")]
    Length,
    /// The ICV is wrong.
    #[error("integrity check failed")]
    AuthenticationFailed,
}

impl EspCipher {
    /// Expands keys. `encryption_id` and `integrity_id` are IANA transform ids; the length of `key` (which has the
    /// AEAD ciphers' salt at its end) tells the key size.
    ///
    /// # Errors
    ///
    /// See [`EspKeyError`].
    pub fn new(
        encryption_id: u16,
        key: &[u8],
        integrity_id: Option<u16>,
        integrity_key: &[u8],
    ) -> Result<Self, EspKeyError> {
        let unknown = UnknownAlgorithm::Encryption {
            id: encryption_id,
            key_len: key.len(),
        };
        let encryption = Encryption::from_key_len(encryption_id, key.len()).ok_or(unknown)?;
        let integrity = integrity_id
            .map(|id| Integrity::from_iana(id).ok_or(UnknownAlgorithm::Integrity(id)))
            .transpose()?;
        let kind = match integrity {
            None if encryption.is_aead() => {
                Kind::Aead(AeadKey::new(encryption, key).ok_or(unknown)?)
            }
            None => return Err(EspKeyError::IntegrityMissing(encryption)),
            Some(_) if encryption.is_aead() => {
                return Err(EspKeyError::IntegrityNotAllowed(encryption));
            }
            Some(algorithm) => Kind::Separate(Box::new(Separate {
                encrypt: EncryptKey::new(encryption, key).ok_or(unknown)?,
                decrypt: DecryptKey::new(encryption, key).ok_or(unknown)?,
                iv: IvSource::new(encryption, key).ok_or(unknown)?,
                integrity: IntegrityKey::new(algorithm, integrity_key).ok_or(
                    EspKeyError::IntegrityKeyLength {
                        algorithm,
                        got: integrity_key.len(),
                    },
                )?,
            })),
        };
        Ok(EspCipher {
            encryption,
            integrity,
            iv_len: encryption.iv_len(),
            icv_len: integrity.map_or(encryption.icv_len(), Integrity::icv_len),
            block_len: encryption.block_len(),
            kind,
        })
    }

    /// The cipher.
    pub fn encryption(&self) -> Encryption {
        self.encryption
    }

    /// The integrity algorithm; `None` with an AEAD cipher.
    pub fn integrity(&self) -> Option<Integrity> {
        self.integrity
    }

    /// Octets of the IV: none, 8 or 16.
    pub fn iv_len(&self) -> usize {
        self.iv_len
    }

    /// Octets of the ICV.
    pub fn icv_len(&self) -> usize {
        self.icv_len
    }

    /// What the octets to encrypt, trailer included, must be a multiple of: the cipher's block, and at least 4 so that
    /// the ICV is aligned (RFC 4303 §2.4).
    pub fn alignment(&self) -> usize {
        self.block_len.max(4)
    }

    /// Octets in front of the plaintext: ESP header and IV.
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.iv_len()
    }

    /// Makes an ESP packet in place. Before: `packet` is [`Self::header_len`] octets of room, the plaintext (payload,
    /// padding, pad length, next header), and [`Self::icv_len`] octets of room. After: the whole ESP packet.
    ///
    /// `sequence` is the full number; with `esn` its high half goes into the ICV, without it must be zero. The IV
    /// follows from `sequence`: **never seal two packets with one number under one key.**
    ///
    /// # Errors
    ///
    /// See [`EspSealError`].
    pub fn seal(
        &self,
        sequence: u64,
        esn: bool,
        spi: u32,
        packet: &mut [u8],
    ) -> Result<(), EspSealError> {
        match &self.kind {
            // The IV need only be unique, and the sequence number is (RFC 4106 §3.1, RFC 4309 §3.1, RFC 7634 §2). Where it
            // does not travel, it must be that (RFC 8750 §4).
            Kind::Aead(_) => self.seal_with_iv(sequence, esn, spi, &sequence.to_be_bytes(), packet),
            Kind::Separate(keys) => {
                let length = EspSealError::Length;
                let iv = keys.iv.of(sequence).ok_or(length)?;
                let iv = iv.get(..self.iv_len).ok_or(length)?;
                self.seal_with_iv(sequence, esn, spi, iv, packet)
            }
        }
    }

    /// [`Self::seal`] with an IV of the caller's choice, for vectors that were made with another one.
    pub(crate) fn seal_with_iv(
        &self,
        sequence: u64,
        esn: bool,
        spi: u32,
        iv: &[u8],
        packet: &mut [u8],
    ) -> Result<(), EspSealError> {
        let (high, low) = halves(sequence);
        //= rfc4303#3.3.3
        //# In other words, the sender MUST NOT send a
        //# packet on an SA if doing so would cause the sequence number to cycle.
        if !esn && high != 0 {
            return Err(EspSealError::SequenceOverflow);
        }
        let length = EspSealError::Length;
        let (header, rest) = packet.split_first_chunk_mut::<HEADER_LEN>().ok_or(length)?;
        let (spi_field, sequence_field) = header.split_at_mut(4);
        spi_field.copy_from_slice(&spi.to_be_bytes());
        sequence_field.copy_from_slice(&low.to_be_bytes());
        let (iv_field, rest) = rest.split_at_mut_checked(self.iv_len).ok_or(length)?;
        if iv.len() == iv_field.len() {
            iv_field.copy_from_slice(iv);
        } else if !iv_field.is_empty() {
            return Err(length);
        }
        let icv_at = rest.len().checked_sub(self.icv_len).ok_or(length)?;
        let (data, icv) = rest.split_at_mut(icv_at);
        match &self.kind {
            Kind::Aead(key) => {
                let iv = iv.try_into().map_err(|_| length)?;
                let aad = Aad::new(spi, high, low, esn);
                key.seal(iv, aad.as_ref(), data, icv).ok_or(length)?;
            }
            Kind::Separate(keys) => {
                keys.encrypt.encrypt(iv, data).ok_or(length)?;
                let high = high.to_be_bytes();
                let high = if esn { &high[..] } else { &[] };
                if !keys.integrity.sign(&[header, iv_field, data, high], icv) {
                    return Err(length);
                }
            }
        }
        Ok(())
    }

    /// Checks and decrypts an ESP packet (SPI to ICV) in place and returns where the plaintext (payload, padding, pad
    /// length, next header) stands.
    ///
    /// `sequence` is the full number that the replay window reconstructed; without `esn` only its low half matters.
    /// The low half is taken from the packet, which the ICV covers.
    ///
    /// On an error nothing of `packet` may be believed; it may have been overwritten.
    ///
    /// # Errors
    ///
    /// See [`EspOpenError`].
    pub fn open(
        &self,
        sequence: u64,
        esn: bool,
        packet: &mut [u8],
    ) -> Result<Range<usize>, EspOpenError> {
        let length = EspOpenError::Length;
        let start = self.header_len();
        let end = packet
            .len()
            .checked_sub(self.icv_len)
            .filter(|end| *end >= start)
            .ok_or(length)?;
        // What cannot be whole blocks is refused before any work is done for it.
        if !(end - start).is_multiple_of(self.block_len) {
            return Err(length);
        }
        let (high, _) = halves(sequence);
        match &self.kind {
            Kind::Aead(key) => {
                let (header, rest) = packet.split_first_chunk_mut::<HEADER_LEN>().ok_or(length)?;
                let (iv, data) = rest.split_at_mut_checked(self.iv_len).ok_or(length)?;
                let iv = <[u8; aead::IV_LEN]>::try_from(&*iv)
                    .unwrap_or_else(|_| implicit_iv(header, high, esn));
                let aad = Aad::of_header(header, high, esn);
                key.open(iv, aad.as_ref(), data)
                    .ok_or(EspOpenError::AuthenticationFailed)?;
            }
            Kind::Separate(keys) => {
                let (covered, icv) = packet.split_at_mut(end);
                let high = high.to_be_bytes();
                let high = if esn { &high[..] } else { &[] };
                if !keys.integrity.verify(&[covered, high], icv) {
                    return Err(EspOpenError::AuthenticationFailed);
                }
                let (_, rest) = covered
                    .split_first_chunk_mut::<HEADER_LEN>()
                    .ok_or(length)?;
                let (iv, data) = rest.split_at_mut_checked(self.iv_len).ok_or(length)?;
                keys.decrypt.decrypt(iv, data).ok_or(length)?;
            }
        }
        Ok(start..end)
    }
}

impl fmt::Debug for EspCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EspCipher")
            .field("encryption", &self.encryption)
            .field("integrity", &self.integrity)
            .finish_non_exhaustive()
    }
}

/// The high and the low half of a sequence number.
fn halves(sequence: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = sequence.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    )
}

/// The IV that does not travel: the sequence number, with ESN in full (RFC 8750 §4).
fn implicit_iv(header: &[u8; HEADER_LEN], high: u32, esn: bool) -> [u8; aead::IV_LEN] {
    let [_, _, _, _, l0, l1, l2, l3] = *header;
    let [h0, h1, h2, h3] = if esn { high.to_be_bytes() } else { [0; 4] };
    [h0, h1, h2, h3, l0, l1, l2, l3]
}

/// The associated data of AEAD ciphers in ESP (RFC 4106 §5): SPI and sequence number, the latter in full with ESN.
struct Aad {
    bytes: [u8; 12],
    len: usize,
}

impl Aad {
    fn new(spi: u32, high: u32, low: u32, esn: bool) -> Self {
        let mut header = [0; HEADER_LEN];
        let (spi_field, low_field) = header.split_at_mut(4);
        spi_field.copy_from_slice(&spi.to_be_bytes());
        low_field.copy_from_slice(&low.to_be_bytes());
        Self::of_header(&header, high, esn)
    }

    fn of_header(header: &[u8; HEADER_LEN], high: u32, esn: bool) -> Self {
        let [s0, s1, s2, s3, l0, l1, l2, l3] = *header;
        let [h0, h1, h2, h3] = high.to_be_bytes();
        if esn {
            Aad {
                bytes: [s0, s1, s2, s3, h0, h1, h2, h3, l0, l1, l2, l3],
                len: 12,
            }
        } else {
            Aad {
                bytes: [s0, s1, s2, s3, l0, l1, l2, l3, 0, 0, 0, 0],
                len: 8,
            }
        }
    }
}

impl AsRef<[u8]> for Aad {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

/// Where the IVs of ciphers come from that are no AEAD.
///
/// For AES-CTR, whose IV need only be unique, it is the sequence number (RFC 3686 §3.1), and NULL has none. A CBC IV must be
/// unpredictable (RFC 3602 §3), so the number itself will not do. Encrypting it under a key of its own makes it so without
/// asking for randomness per packet. The key is derived from the cipher key and not the same: with the same key, somebody
/// who chooses plaintext could have coming IVs computed for him.
struct IvSource(Option<EncryptingKey>);

impl IvSource {
    fn new(encryption: Encryption, cipher_key: &[u8]) -> Option<Self> {
        if matches!(encryption.kind(), CipherKind::AesCtr | CipherKind::Null) {
            return Some(IvSource(None));
        }
        let derived = Prf::HmacSha256.compute(cipher_key, &[b"cygnet ESP CBC IV"]);
        let key = aes_key(derived.as_ref().get(..16)?)?;
        let key = EncryptingKey::ecb(key).ok()?;
        Some(IvSource(Some(key)))
    }

    /// As many octets as the longest IV has, of which a cipher takes the first.
    fn of(&self, sequence: u64) -> Option<[u8; MAX_IV_LEN]> {
        let mut block = [0; MAX_IV_LEN];
        let (number, _) = block.split_first_chunk_mut::<8>()?;
        *number = sequence.to_be_bytes();
        if let Some(key) = &self.0 {
            key.less_safe_encrypt(&mut block, EncryptionContext::None)
                .ok()?;
        }
        Some(block)
    }
}

#[cfg(test)]
mod tests;
