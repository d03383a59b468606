//! The payloads that hold ciphertext (RFC 7296, 3.14; RFC 7383, 2.5).

use crate::registry::PayloadType;

/// Encrypted and Authenticated payload (RFC 7296, 3.14): always the last payload of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkPayload<'a> {
    /// Type of the first payload of the plaintext, for [`PayloadChain::new`](crate::PayloadChain::new).
    pub first_inner: PayloadType,
    /// The message from the IKE header up to and including the generic header of this payload: the
    /// associated data of an AEAD (RFC 5282, 5.1), and the beginning of what a MAC covers (RFC 7296, 3.14).
    pub prefix: &'a [u8],
    /// Initialization vector, ciphertext and integrity checksum: everything after `prefix`.
    pub body: &'a [u8],
}

/// Encrypted and Authenticated Fragment payload (RFC 7383, 2.5): always the last payload of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkfPayload<'a> {
    /// Type of the first payload of the reassembled plaintext in the first fragment, zero in the others.
    pub first_inner: PayloadType,
    /// Fragment Number, from 1 to `total`.
    pub number: u16,
    /// Total Fragments.
    pub total: u16,
    /// The message from the IKE header up to and including Total Fragments: the associated
    /// data of an AEAD, and the beginning of what a MAC covers.
    pub prefix: &'a [u8],
    /// Initialization vector, ciphertext and integrity checksum: everything after `prefix`.
    pub body: &'a [u8],
}

impl SkPayload<'_> {
    /// Octets of the message before the initialization vector.
    #[must_use]
    pub const fn aad_len(&self) -> usize {
        self.prefix.len()
    }
}

impl SkfPayload<'_> {
    /// Octets of the message before the initialization vector.
    #[must_use]
    pub const fn aad_len(&self) -> usize {
        self.prefix.len()
    }
}
