//! The SA payload: proposals, transforms and their attributes (RFC 7296, 3.3).

use crate::error::{ParseError, ParseErrorKind};
use crate::limits::{MAX_ATTRIBUTES, MAX_PROPOSALS, MAX_TRANSFORMS};
use crate::payload::proposal::{Attribute, AttributeValue, Proposal, Transform};
use crate::reader::Reader;
use crate::registry::{AttributeType, ProtocolId, TransformType};
use crate::spi::{IkeSpi, Spi};

/// "Last Substruc" of a proposal that another one follows.
pub(crate) const MORE_PROPOSALS: u8 = 2;
/// "Last Substruc" of a transform that another one follows.
pub(crate) const MORE_TRANSFORMS: u8 = 3;
/// Octets of a proposal before its SPI.
pub(crate) const PROPOSAL_HEADER_LEN: usize = 8;
/// Octets of a transform before its attributes.
pub(crate) const TRANSFORM_HEADER_LEN: usize = 8;
/// The bit of an attribute's first two octets that says "value in the next two".
pub(crate) const ATTRIBUTE_FORMAT_TV: u16 = 0x8000;

/// Security Association payload: a list of proposals, best first. An empty one is well-formed: nothing to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaPayload<'a> {
    body: &'a [u8],
}

impl<'a> SaPayload<'a> {
    /// Checks the body of an SA payload down to the last attribute.
    ///
    /// # Errors
    /// If lengths, counts and "last substructure" octets do not agree, or a limit is exceeded.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        //= rfc7296#3.3
        //# When parsing an SA, an implementation MUST check that the total
        //# Payload Length is consistent with the payload's internal lengths and
        //# counts.
        let mut reader = Reader::new(body);
        let mut count = 0_usize;
        while !reader.is_empty() {
            if count == MAX_PROPOSALS {
                return Err(reader.error(ParseErrorKind::TooMany {
                    what: "proposals",
                    limit: MAX_PROPOSALS,
                }));
            }
            let at = reader.offset();
            let (proposal, transforms_at) = ProposalView::read(&mut reader)?;
            proposal
                .check()
                .map_err(|error| error.shifted(at.saturating_add(transforms_at)))?;
            count = count.saturating_add(1);
        }
        Ok(Self { body })
    }

    /// The proposals, best first.
    #[must_use]
    pub const fn proposals(&self) -> Proposals<'a> {
        Proposals {
            reader: Reader::new(self.body),
        }
    }

    /// The proposals as owned values.
    #[must_use]
    pub fn to_proposals(&self) -> Vec<Proposal> {
        self.proposals()
            .map(|proposal| proposal.to_owned())
            .collect()
    }

    /// The body, as received.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }
}

/// Iterator over the proposals of an [`SaPayload`].
#[derive(Debug, Clone)]
pub struct Proposals<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Proposals<'a> {
    type Item = ProposalView<'a>;

    fn next(&mut self) -> Option<ProposalView<'a>> {
        // Checked by `SaPayload::parse`, so this ends only at the end.
        ProposalView::read(&mut self.reader)
            .ok()
            .map(|(proposal, _)| proposal)
    }
}

/// One proposal, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProposalView<'a> {
    /// Proposal Num: 1 for the first, one more for each further one; in an answer that of the accepted one.
    pub number: u8,
    /// The protocol it is for.
    pub protocol: ProtocolId,
    /// The sender's SPI; empty in the IKE_SA_INIT exchange.
    pub spi: &'a [u8],
    /// Num Transforms.
    count: u8,
    transforms: &'a [u8],
}

impl<'a> ProposalView<'a> {
    /// Reads one proposal; also says how far into it its transforms begin.
    fn read(reader: &mut Reader<'a>) -> Result<(Self, usize), ParseError> {
        let start = *reader;
        let [more, _, l0, l1, number, protocol, spi_len, count]: [u8; PROPOSAL_HEADER_LEN] =
            reader.array()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let protocol = ProtocolId(protocol);
        let spi_len = usize::from(spi_len);
        let already = PROPOSAL_HEADER_LEN.saturating_add(spi_len);
        let spi = reader.take(spi_len)?;
        let transforms = reader.take_counted(length, already)?;
        let expected = if reader.is_empty() { 0 } else { MORE_PROPOSALS };
        if more != expected {
            return Err(start.error(ParseErrorKind::BadSubstructureMarker {
                found: more,
                expected,
            }));
        }
        Ok((
            Self {
                number,
                protocol,
                spi,
                count,
                transforms,
            },
            already,
        ))
    }

    fn check(&self) -> Result<(), ParseError> {
        let mut reader = Reader::new(self.transforms);
        let mut found = 0_usize;
        while !reader.is_empty() {
            if found == MAX_TRANSFORMS {
                return Err(reader.error(ParseErrorKind::TooMany {
                    what: "transforms",
                    limit: MAX_TRANSFORMS,
                }));
            }
            let at = reader.offset();
            let transform = TransformView::read(&mut reader)?;
            transform
                .check()
                .map_err(|error| error.shifted(at.saturating_add(TRANSFORM_HEADER_LEN)))?;
            found = found.saturating_add(1);
        }
        if found != usize::from(self.count) {
            let stated = usize::from(self.count);
            return Err(ParseError::new(
                ParseErrorKind::CountMismatch {
                    what: "num transforms",
                    stated,
                    found,
                },
                0,
            ));
        }
        Ok(())
    }

    /// The transforms, in the order of the message.
    #[must_use]
    pub const fn transforms(&self) -> Transforms<'a> {
        Transforms {
            reader: Reader::new(self.transforms),
        }
    }

    /// The SPI of an ESP or AH proposal, if it has four octets.
    #[must_use]
    pub fn esp_spi(&self) -> Option<Spi> {
        Spi::from_slice(self.spi)
    }

    /// The SPI of an IKE proposal, if it has eight octets.
    #[must_use]
    pub fn ike_spi(&self) -> Option<IkeSpi> {
        IkeSpi::from_slice(self.spi)
    }

    /// An owned copy.
    #[must_use]
    pub fn to_owned(&self) -> Proposal {
        Proposal {
            number: self.number,
            protocol: self.protocol,
            spi: self.spi.to_vec(),
            transforms: self
                .transforms()
                .map(|transform| transform.to_owned())
                .collect(),
        }
    }
}

/// Iterator over the transforms of a [`ProposalView`].
#[derive(Debug, Clone)]
pub struct Transforms<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Transforms<'a> {
    type Item = TransformView<'a>;

    fn next(&mut self) -> Option<TransformView<'a>> {
        TransformView::read(&mut self.reader).ok()
    }
}

/// One transform, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformView<'a> {
    /// Which kind of algorithm.
    pub kind: TransformType,
    /// Which algorithm, a number of the registry that belongs to `kind`.
    pub id: u16,
    attributes: &'a [u8],
}

impl<'a> TransformView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let start = *reader;
        let [more, _, l0, l1, kind, _, i0, i1]: [u8; TRANSFORM_HEADER_LEN] = reader.array()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let kind = TransformType(kind);
        let id = u16::from_be_bytes([i0, i1]);
        let attributes = reader.take_counted(length, TRANSFORM_HEADER_LEN)?;
        let expected = if reader.is_empty() {
            0
        } else {
            MORE_TRANSFORMS
        };
        if more != expected {
            return Err(start.error(ParseErrorKind::BadSubstructureMarker {
                found: more,
                expected,
            }));
        }
        Ok(Self {
            kind,
            id,
            attributes,
        })
    }

    fn check(&self) -> Result<(), ParseError> {
        let mut reader = Reader::new(self.attributes);
        let mut count = 0_usize;
        while !reader.is_empty() {
            if count == MAX_ATTRIBUTES {
                return Err(reader.error(ParseErrorKind::TooMany {
                    what: "attributes",
                    limit: MAX_ATTRIBUTES,
                }));
            }
            AttributeView::read(&mut reader)?;
            count = count.saturating_add(1);
        }
        Ok(())
    }

    /// The attributes, in the order of the message.
    #[must_use]
    pub const fn attributes(&self) -> Attributes<'a> {
        Attributes {
            reader: Reader::new(self.attributes),
        }
    }

    /// The Key Length attribute, in bits. One in the TLV form is malformed and not seen here
    /// (RFC 7296, 3.3.5).
    #[must_use]
    pub fn key_length(&self) -> Option<u16> {
        self.attributes().find_map(|attribute| match attribute {
            AttributeView {
                kind: AttributeType::KEY_LENGTH,
                value: AttributeValue::Short(bits),
            } => Some(bits),
            _ => None,
        })
    }

    /// Whether every attribute is one that this crate knows. A transform with another one must not be chosen
    /// (RFC 7296, 3.3.6).
    #[must_use]
    pub fn attributes_understood(&self) -> bool {
        self.attributes().all(|attribute| {
            matches!(
                attribute,
                AttributeView {
                    kind: AttributeType::KEY_LENGTH,
                    value: AttributeValue::Short(_)
                }
            )
        })
    }

    /// An owned copy.
    #[must_use]
    pub fn to_owned(&self) -> Transform {
        Transform {
            kind: self.kind,
            id: self.id,
            attributes: self
                .attributes()
                .map(|attribute| attribute.to_owned())
                .collect(),
        }
    }
}

/// Iterator over the attributes of a [`TransformView`].
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = AttributeView<'a>;

    fn next(&mut self) -> Option<AttributeView<'a>> {
        AttributeView::read(&mut self.reader).ok()
    }
}

/// One transform attribute, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributeView<'a> {
    /// Which attribute.
    pub kind: AttributeType,
    /// Its value.
    pub value: AttributeValue<&'a [u8]>,
}

impl<'a> AttributeView<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let first = reader.u16()?;
        let second = reader.u16()?;
        let kind = AttributeType(first & !ATTRIBUTE_FORMAT_TV);
        let value = if first & ATTRIBUTE_FORMAT_TV != 0 {
            AttributeValue::Short(second)
        } else {
            AttributeValue::Long(reader.take(usize::from(second))?)
        };
        Ok(Self { kind, value })
    }

    /// An owned copy.
    #[must_use]
    pub fn to_owned(&self) -> Attribute {
        Attribute {
            kind: self.kind,
            value: match self.value {
                AttributeValue::Short(value) => AttributeValue::Short(value),
                AttributeValue::Long(value) => AttributeValue::Long(value.to_vec()),
            },
        }
    }
}
