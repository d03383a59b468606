//! The cryptography of AH packets (RFC 4302 §3.3.3): an ICV over parts of a packet that the caller has put in order.

use std::fmt;

use crate::algorithm::{Integrity, UnknownAlgorithm};
use crate::esp::EspKeyError;
use crate::mac::IntegrityKey;

/// The expanded key of one AH SA, for one direction.
pub struct AhKey {
    integrity: Integrity,
    /// Boxed: an expanded HMAC key alone is over 1 KiB.
    key: Box<IntegrityKey>,
}

impl AhKey {
    /// Expands a key. `integrity_id` is an IANA transform id of type 3.
    ///
    /// # Errors
    ///
    /// [`EspKeyError::Unknown`], [`EspKeyError::IntegrityKeyLength`].
    pub fn new(integrity_id: u16, key: &[u8]) -> Result<Self, EspKeyError> {
        let integrity =
            Integrity::from_iana(integrity_id).ok_or(UnknownAlgorithm::Integrity(integrity_id))?;
        let expanded =
            IntegrityKey::new(integrity, key).ok_or(EspKeyError::IntegrityKeyLength {
                algorithm: integrity,
                got: key.len(),
            })?;
        Ok(Self {
            integrity,
            key: Box::new(expanded),
        })
    }

    /// Octets of the ICV.
    pub fn icv_len(&self) -> usize {
        self.integrity.icv_len()
    }

    /// Writes the ICV of the concatenated parts; false if `icv` has not [`icv_len`](Self::icv_len) octets.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]], icv: &mut [u8]) -> bool {
        self.key.sign(parts, icv)
    }

    /// Whether `icv` is the ICV of the concatenated parts, in constant time.
    #[must_use]
    pub fn verify(&self, parts: &[&[u8]], icv: &[u8]) -> bool {
        self.key.verify(parts, icv)
    }
}

impl fmt::Debug for AhKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AhKey")
            .field("integrity", &self.integrity)
            .finish_non_exhaustive()
    }
}
