//! Whole messages and chains of payloads (RFC 7296, 3.1, 3.2).

use crate::error::{ParseError, ParseErrorKind};
use crate::header::{Header, Version};
use crate::limits::{MAX_MESSAGE_LEN, MAX_PAYLOADS};
use crate::payload::{
    AuthPayload, CertPayload, CertReqPayload, CpPayload, DeletePayload, EapPayload, IdPayload,
    KePayload, NoncePayload, Notify, Payload, PsPayload, SaPayload, SkPayload, SkfPayload,
    TsPayload,
};
use crate::reader::Reader;
use crate::registry::PayloadType;

/// Octets of a generic payload header (RFC 7296, 3.2).
pub(crate) const GENERIC_HEADER_LEN: usize = 4;
/// The critical bit in the second octet of a generic payload header.
pub(crate) const CRITICAL: u8 = 0x80;

/// A whole message, its header and the framing of its payloads checked. Borrowed from the datagram.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    header: Header,
    bytes: &'a [u8],
    chain: PayloadChain<'a>,
}

impl<'a> Message<'a> {
    /// Checks that `datagram` (without a non-ESP marker) is one IKEv2 message: header, version, length, and the chain
    /// of payloads up to its end or to the Encrypted payload. Bodies of payloads are checked by
    /// [`Message::payloads`].
    ///
    /// # Errors
    /// See [`ParseErrorKind`]. For a higher major version the header can still be read with [`Header::parse`].
    pub fn parse(datagram: &'a [u8]) -> Result<Self, ParseError> {
        let header = Header::parse(datagram)?;
        match header.version.major {
            major if major > Version::IKEV2.major => {
                return Err(ParseError::new(
                    ParseErrorKind::UnsupportedMajorVersion(major),
                    Header::VERSION_AT,
                ));
            }
            major if major < Version::IKEV2.major => {
                return Err(ParseError::new(
                    ParseErrorKind::OldMajorVersion(major),
                    Header::VERSION_AT,
                ));
            }
            _ => {}
        }
        let available = datagram.len();
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        if !(Header::LEN..=MAX_MESSAGE_LEN).contains(&length) {
            let kind = ParseErrorKind::BadLength {
                length,
                minimum: Header::LEN,
                maximum: MAX_MESSAGE_LEN,
            };
            return Err(ParseError::new(kind, Header::LENGTH_AT));
        }
        if length > available {
            return Err(ParseError::new(
                ParseErrorKind::Truncated {
                    needed: length,
                    available,
                },
                Header::LENGTH_AT,
            ));
        }
        if length < available {
            return Err(ParseError::new(
                ParseErrorKind::TrailingBytes(available.saturating_sub(length)),
                length,
            ));
        }
        let mut reader = Reader::new(datagram);
        reader.take(Header::LEN)?;
        let chain = PayloadChain {
            first: header.next_payload,
            reader,
            message: Some(datagram),
        };
        chain.check()?;
        Ok(Self {
            header,
            bytes: datagram,
            chain,
        })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The whole message, as received.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The chain of payloads outside of encryption.
    #[must_use]
    pub const fn chain(&self) -> PayloadChain<'a> {
        self.chain
    }

    /// The payloads outside of encryption, the Encrypted payload itself included.
    #[must_use]
    pub const fn payloads(&self) -> Payloads<'a> {
        self.chain.payloads()
    }
}

/// A chain of payloads: in the clear part of a message, or in the plaintext of an Encrypted payload.
#[derive(Debug, Clone, Copy)]
pub struct PayloadChain<'a> {
    first: PayloadType,
    reader: Reader<'a>,
    /// The whole message, if this is its clear part.
    message: Option<&'a [u8]>,
}

impl<'a> PayloadChain<'a> {
    /// The plaintext of an Encrypted payload, padding removed, or of reassembled fragments. Nothing is checked yet.
    #[must_use]
    pub const fn new(first: PayloadType, plaintext: &'a [u8]) -> Self {
        Self {
            first,
            reader: Reader::new(plaintext),
            message: None,
        }
    }

    /// Checks the framing of the whole chain: generic headers, their number, and that the last payload ends at the end.
    ///
    /// # Errors
    /// The first thing that is wrong. The iterators report the same when they get there.
    pub fn check(&self) -> Result<(), ParseError> {
        self.raw_payloads()
            .try_for_each(|payload| payload.map(|_| ()))
    }

    /// The payloads, each checked as it is reached. Ends after the first error.
    #[must_use]
    pub const fn payloads(&self) -> Payloads<'a> {
        Payloads {
            raw: self.raw_payloads(),
        }
    }

    /// The payloads without a look into their bodies. Ends after the first error.
    #[must_use]
    pub const fn raw_payloads(&self) -> RawPayloads<'a> {
        RawPayloads {
            next: self.first,
            reader: self.reader,
            message: self.message,
            count: 0,
            done: false,
        }
    }

    /// The first payload that is not understood and has the critical bit set, which makes the whole
    /// message unacceptable (RFC 7296, 2.5).
    #[must_use]
    pub fn unsupported_critical(&self) -> Option<PayloadType> {
        //= rfc7296#2.5
        //# If the critical flag is set
        //# and the payload type is unrecognized, the message MUST be rejected
        self.raw_payloads()
            .map_while(Result::ok)
            .find(|payload| payload.critical && !payload.payload_type.is_understood())
            .map(|payload| payload.payload_type)
    }
}

impl<'a> IntoIterator for PayloadChain<'a> {
    type Item = Result<Payload<'a>, ParseError>;
    type IntoIter = Payloads<'a>;

    fn into_iter(self) -> Payloads<'a> {
        self.payloads()
    }
}

/// A payload as its generic header shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawPayload<'a> {
    /// Its type, from the preceding next-payload field.
    pub payload_type: PayloadType,
    /// The critical bit; without meaning for types that RFC 7296 defines.
    pub critical: bool,
    /// The next-payload field: the type of the next payload, or for SK and SKF of the first inner one.
    pub next_payload: PayloadType,
    /// Where its generic header is, octets from the start of the message or of the plaintext.
    pub offset: usize,
    /// What is behind the generic header.
    pub body: &'a [u8],
}

/// Iterator over a [`PayloadChain`] that looks at generic headers only.
#[derive(Debug, Clone)]
pub struct RawPayloads<'a> {
    next: PayloadType,
    reader: Reader<'a>,
    message: Option<&'a [u8]>,
    count: usize,
    done: bool,
}

impl<'a> RawPayloads<'a> {
    fn read(&mut self) -> Result<Option<RawPayload<'a>>, ParseError> {
        let payload_type = self.next;
        if payload_type == PayloadType::NONE {
            self.done = true;
            return self.reader.finish().map(|()| None);
        }
        if self.count == MAX_PAYLOADS {
            return Err(self.reader.error(ParseErrorKind::TooMany {
                what: "payloads",
                limit: MAX_PAYLOADS,
            }));
        }
        self.count = self.count.saturating_add(1);
        let offset = self.reader.offset();
        if payload_type.is_encrypted() && self.message.is_none() {
            return Err(self.reader.error(ParseErrorKind::NestedEncrypted));
        }
        let [next_payload, flags, l0, l1]: [u8; GENERIC_HEADER_LEN] = self.reader.array()?;
        let next_payload = PayloadType(next_payload);
        let critical = flags & CRITICAL != 0;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let body = self.reader.take_counted(length, GENERIC_HEADER_LEN)?;
        if payload_type.is_encrypted() {
            //= rfc7296#3.14
            //# The Encrypted payload, if present in a message,
            //# MUST be the last payload in the message.
            self.reader.finish()?;
            self.done = true;
        } else {
            self.next = next_payload;
        }
        Ok(Some(RawPayload {
            payload_type,
            critical,
            next_payload,
            offset,
            body,
        }))
    }
}

impl<'a> Iterator for RawPayloads<'a> {
    type Item = Result<RawPayload<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let payload_type = self.next;
        self.read()
            .map_err(|error| {
                self.done = true;
                error.within(payload_type, 0)
            })
            .transpose()
    }
}

impl std::iter::FusedIterator for RawPayloads<'_> {}

/// Iterator over the payloads of a [`PayloadChain`].
#[derive(Debug, Clone)]
pub struct Payloads<'a> {
    raw: RawPayloads<'a>,
}

impl<'a> Iterator for Payloads<'a> {
    type Item = Result<Payload<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let raw = match self.raw.next()? {
            Ok(raw) => raw,
            Err(error) => return Some(Err(error)),
        };
        let body_at = raw.offset.saturating_add(GENERIC_HEADER_LEN);
        let message = self.raw.message.unwrap_or_default();
        let payload = parse_payload(&raw, message, body_at).map_err(|error| {
            self.raw.done = true;
            error.within(raw.payload_type, body_at)
        });
        Some(payload)
    }
}

impl std::iter::FusedIterator for Payloads<'_> {}

fn parse_payload<'a>(
    raw: &RawPayload<'a>,
    message: &'a [u8],
    body_at: usize,
) -> Result<Payload<'a>, ParseError> {
    let body = raw.body;
    Ok(match raw.payload_type {
        PayloadType::SA => Payload::Sa(SaPayload::parse(body)?),
        PayloadType::KE => Payload::Ke(KePayload::parse(body)?),
        PayloadType::ID_I => Payload::IdI(IdPayload::parse(body)?),
        PayloadType::ID_R => Payload::IdR(IdPayload::parse(body)?),
        PayloadType::CERT => Payload::Cert(CertPayload::parse(body)?),
        PayloadType::CERTREQ => Payload::CertReq(CertReqPayload::parse(body)?),
        PayloadType::AUTH => Payload::Auth(AuthPayload::parse(body)?),
        PayloadType::NONCE => Payload::Nonce(NoncePayload::parse(body)?),
        PayloadType::NOTIFY => Payload::Notify(Notify::parse(body)?),
        PayloadType::DELETE => Payload::Delete(DeletePayload::parse(body)?),
        PayloadType::VENDOR_ID => Payload::VendorId(body),
        PayloadType::TS_I => Payload::TsI(TsPayload::parse(body)?),
        PayloadType::TS_R => Payload::TsR(TsPayload::parse(body)?),
        PayloadType::CP => Payload::Cp(CpPayload::parse(body)?),
        PayloadType::EAP => Payload::Eap(EapPayload::parse(body)?),
        PayloadType::PS => Payload::Ps(PsPayload::parse(body)?),
        PayloadType::SK => Payload::Sk(SkPayload {
            first_inner: raw.next_payload,
            prefix: message.get(..body_at).unwrap_or_default(),
            body,
        }),
        PayloadType::SKF => {
            let mut reader = Reader::new(body);
            let (number, total) = (reader.u16()?, reader.u16()?);
            //= rfc7383#2.5
            //# This field MUST be less than or
            //# equal to the next field (Total Fragments).  This field MUST NOT be
            //# zero.
            if number == 0 || number > total {
                return Err(ParseError::new(
                    ParseErrorKind::BadFragmentNumber { number, total },
                    0,
                ));
            }
            let body = reader.take_rest();
            let prefix = message
                .get(..message.len().saturating_sub(body.len()))
                .unwrap_or_default();
            Payload::Skf(SkfPayload {
                first_inner: raw.next_payload,
                number,
                total,
                prefix,
                body,
            })
        }
        payload_type => Payload::Unknown {
            payload_type,
            critical: raw.critical,
            body,
        },
    })
}
