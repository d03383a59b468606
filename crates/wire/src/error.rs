//! Why bytes could not be read as IKEv2, and why values could not be written.

use crate::registry::PayloadType;

/// The bytes are not a well-formed IKEv2 message or part of one.
///
/// Whatever the reason, it answers to `INVALID_SYNTAX` in RFC 7296 terms, except
/// [`ParseErrorKind::UnsupportedMajorVersion`], which answers to `INVALID_MAJOR_VERSION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at octet {offset}{}", In(*payload))]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Where, in octets from the start of what was parsed: of the message for
    /// [`Message`](crate::Message), of the chain for [`PayloadChain`](crate::PayloadChain), of the
    /// body for a payload parsed alone.
    pub offset: usize,
    /// The payload in which it happened, if it was inside one.
    pub payload: Option<PayloadType>,
}

/// " in the X payload", or nothing.
struct In(Option<PayloadType>);

impl std::fmt::Display for In {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(payload) => write!(f, " in the {payload} payload"),
            None => Ok(()),
        }
    }
}

impl ParseError {
    pub(crate) const fn new(kind: ParseErrorKind, offset: usize) -> Self {
        Self {
            kind,
            offset,
            payload: None,
        }
    }

    /// The same error seen from `base` octets further out, inside `payload`.
    pub(crate) fn within(self, payload: PayloadType, base: usize) -> Self {
        Self {
            kind: self.kind,
            offset: self.offset.saturating_add(base),
            payload: Some(payload),
        }
    }

    /// The same error seen from `base` octets further out.
    pub(crate) fn shifted(self, base: usize) -> Self {
        Self {
            offset: self.offset.saturating_add(base),
            ..self
        }
    }
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// A field ends beyond the octets there are.
    #[error("truncated: {needed} octets needed, {available} there")]
    Truncated {
        /// Octets that the field takes.
        needed: usize,
        /// Octets that are left.
        available: usize,
    },
    /// A length field is smaller than the fixed part of what it covers, or larger than what holds it.
    #[error("length field of {length} does not fit: at least {minimum}, at most {maximum}")]
    BadLength {
        /// The value of the length field.
        length: usize,
        /// The least that makes sense here.
        minimum: usize,
        /// The most that the enclosing structure has room for.
        maximum: usize,
    },
    /// Octets are left over after the last structure.
    #[error("{0} octets left over")]
    TrailingBytes(usize),
    /// A count or marker says one thing and the lengths another (RFC 7296, 3.3).
    #[error("{what} says {stated}, but there are {found}")]
    CountMismatch {
        /// The field that counts.
        what: &'static str,
        /// Its value.
        stated: usize,
        /// What was found.
        found: usize,
    },
    /// A "last substructure" octet is neither 0 at the end nor the type of the next one before it.
    #[error("last-substructure octet of {found}, expected {expected}")]
    BadSubstructureMarker {
        /// The value found.
        found: u8,
        /// The value that this place calls for.
        expected: u8,
    },
    /// More of something than the limit in [`limits`](crate::limits).
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what there are too many.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The major version is higher than 2; answered with `INVALID_MAJOR_VERSION` (RFC 7296, 2.5).
    #[error("major version {0}, only 2 is spoken here")]
    UnsupportedMajorVersion(u8),
    /// The major version is lower than 2 (IKEv1, for instance): dropped without an answer.
    #[error("major version {0} is not IKEv2")]
    OldMajorVersion(u8),
    /// A nonce is shorter than 16 or longer than 256 octets (RFC 7296, 3.9).
    #[error("nonce of {0} octets, must be 16 to 256")]
    BadNonceLength(usize),
    /// The length of a traffic selector is not that of its type.
    #[error("traffic selector of type {ts_type} with length {length}")]
    BadSelectorLength {
        /// The TS type.
        ts_type: u8,
        /// The value of its length field.
        length: usize,
    },
    /// An Encrypted payload inside the plaintext of another.
    #[error("encrypted payload inside an encrypted payload")]
    NestedEncrypted,
    /// Fragment number or total of zero, or number above total (RFC 7383, 2.5).
    #[error("fragment {number} of {total}")]
    BadFragmentNumber {
        /// Fragment Number.
        number: u16,
        /// Total Fragments.
        total: u16,
    },
    /// A puzzle solution that is not four keys of equal length (RFC 8019, 8.2).
    #[error("puzzle solution of {0} octets, must be a multiple of 4")]
    BadSolutionLength(usize),
    /// The SPI size of a Delete does not go with its protocol (RFC 7296, 3.11).
    #[error("spi size of {spi_size} for {count} spis")]
    BadSpiSize {
        /// SPI Size.
        spi_size: u8,
        /// Num of SPIs.
        count: u16,
    },
}

/// A value that has no encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Longer than its length field can say.
    #[error("{what} of {length} octets, at most {maximum} can be written")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length, octets.
        length: usize,
        /// The most its length field can say.
        maximum: usize,
    },
    /// More of something than the limit in [`limits`](crate::limits), which our own parser would refuse.
    #[error("{count} {what}, at most {limit} can be written")]
    TooMany {
        /// Of what there are too many.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A traffic selector whose two addresses are of different families.
    #[error("traffic selector from {start} to {end}: different address families")]
    MixedFamilies {
        /// First address.
        start: std::net::IpAddr,
        /// Last address.
        end: std::net::IpAddr,
    },
    /// A nonce shorter than 16 or longer than 256 octets (RFC 7296, 3.9).
    #[error("nonce of {0} octets, must be 16 to 256")]
    BadNonceLength(usize),
    /// SPIs of different or impossible sizes in one Delete.
    #[error("spi of {found} octets in a delete of {expected}-octet spis")]
    BadSpiSize {
        /// Size of this one.
        found: usize,
        /// Size of the others.
        expected: usize,
    },
    /// Fragment number or total of zero, or number above total (RFC 7383, 2.5).
    #[error("fragment {number} of {total}")]
    BadFragmentNumber {
        /// Fragment Number.
        number: u16,
        /// Total Fragments.
        total: u16,
    },
    /// An attribute type or configuration attribute type above 15 bits.
    #[error("{what} {value} does not fit into 15 bits")]
    BadAttributeType {
        /// Which attribute type.
        what: &'static str,
        /// Its value.
        value: u16,
    },
    /// A payload after the Encrypted payload, which is always the last (RFC 7296, 3.14).
    #[error("{0} payload after the encrypted payload")]
    AfterEncrypted(PayloadType),
    /// A payload type that cannot be written as it is: 0 ends the chain, SK and SKF have writers of their own.
    #[error("{0} as the type of a raw payload")]
    NotRaw(PayloadType),
    /// The octets of an EAP message are not one.
    #[error("malformed eap message: {0}")]
    MalformedEap(ParseErrorKind),
}
