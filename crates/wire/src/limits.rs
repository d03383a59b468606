//! How much of anything one message may hold.
//!
//! The message format allows far more than any peer sends; these bounds keep the work and the memory that one
//! datagram can cause small, and are generous towards real peers. The writer keeps to them too, so
//! that whatever this crate writes it also reads.

/// Octets of a whole IKE message. A UDP datagram or an RFC 9329 frame cannot carry more.
pub const MAX_MESSAGE_LEN: usize = 65_535;
/// Payloads in one chain: in the clear part of a message, or in the plaintext of an Encrypted payload.
/// MOBIKE peers announce each of their addresses in a Notify of its own, so this is not small.
pub const MAX_PAYLOADS: usize = 128;
/// Proposals in one SA payload. The field that numbers them has 8 bits; real peers send fewer than ten.
pub const MAX_PROPOSALS: usize = 64;
/// Transforms in one proposal (its field has 8 bits).
pub const MAX_TRANSFORMS: usize = 255;
/// Attributes in one transform. One is defined (Key Length).
pub const MAX_ATTRIBUTES: usize = 8;
/// Traffic selectors in one TS payload (its field has 8 bits).
pub const MAX_SELECTORS: usize = 255;
/// SPIs in one Delete payload.
pub const MAX_DELETE_SPIS: usize = 1024;
/// Attributes in one Configuration payload.
pub const MAX_CONFIG_ATTRIBUTES: usize = 256;
/// Fragments of one message that an assembler should accept; 64 KiB in the smallest sensible fragments (RFC 7383, 2.5.1).
pub const MAX_FRAGMENTS: u16 = 128;
/// Octets of a nonce, least and most (RFC 7296, 3.9).
pub const NONCE_LEN: std::ops::RangeInclusive<usize> = 16..=256;
/// Octets of a COOKIE notification, least and most (RFC 7296, 2.6).
pub const COOKIE_LEN: std::ops::RangeInclusive<usize> = 1..=64;
