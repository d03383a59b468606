//! Proposals as owned values: what a policy makes, and what an answer repeats (RFC 7296, 3.3.1 to 3.3.5).

use crate::error::WriteError;
use crate::limits::{MAX_ATTRIBUTES, MAX_PROPOSALS, MAX_TRANSFORMS};
use crate::payload::sa::{ATTRIBUTE_FORMAT_TV, MORE_PROPOSALS, MORE_TRANSFORMS};
use crate::registry::{
    AttributeType, EncrId, EsnId, IntegId, KeId, PrfId, ProtocolId, TransformType,
};
use crate::spi::{IkeSpi, Spi};
use crate::writer::{check_count, put_u8_length, with_u16_length};

/// One proposal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// Proposal Num: 1 for the first, one more for each further one; in an answer that of the accepted one.
    pub number: u8,
    /// The protocol it is for.
    pub protocol: ProtocolId,
    /// The sender's SPI: empty in the IKE_SA_INIT exchange, 8 octets for IKE, 4 for ESP and AH. At most 255 octets.
    pub spi: Vec<u8>,
    /// The transforms. Several of one kind are alternatives, those of different kinds go together.
    pub transforms: Vec<Transform>,
}

impl Proposal {
    /// A proposal for the first IKE SA, which has no SPI field.
    #[must_use]
    pub const fn ike(number: u8, transforms: Vec<Transform>) -> Self {
        Self {
            number,
            protocol: ProtocolId::IKE,
            spi: Vec::new(),
            transforms,
        }
    }

    /// A proposal for ESP.
    #[must_use]
    pub fn esp(number: u8, spi: Spi, transforms: Vec<Transform>) -> Self {
        Self {
            number,
            protocol: ProtocolId::ESP,
            spi: spi.to_bytes().to_vec(),
            transforms,
        }
    }

    /// The transforms of one kind, in order.
    pub fn of_kind(&self, kind: TransformType) -> impl Iterator<Item = &Transform> {
        self.transforms
            .iter()
            .filter(move |transform| transform.kind == kind)
    }

    /// The SPI of an ESP or AH proposal, if it has four octets.
    #[must_use]
    pub fn esp_spi(&self) -> Option<Spi> {
        Spi::from_slice(&self.spi)
    }

    /// The SPI of an IKE proposal, if it has eight octets.
    #[must_use]
    pub fn ike_spi(&self) -> Option<IkeSpi> {
        IkeSpi::from_slice(&self.spi)
    }

    fn write(&self, out: &mut Vec<u8>, last: bool) -> Result<(), WriteError> {
        check_count("transforms", self.transforms.len(), MAX_TRANSFORMS)?;
        out.extend([if last { 0 } else { MORE_PROPOSALS }, 0]);
        with_u16_length(out, "proposal", 4, |out| {
            out.extend([self.number, self.protocol.0]);
            put_u8_length(out, "spi of a proposal", self.spi.len())?;
            put_u8_length(out, "number of transforms", self.transforms.len())?;
            out.extend_from_slice(&self.spi);
            let mut rest = self.transforms.iter();
            while let Some(transform) = rest.next() {
                transform.write(out, rest.len() == 0)?;
            }
            Ok(())
        })
    }
}

/// Writes the body of an SA payload.
pub(crate) fn write_proposals(out: &mut Vec<u8>, proposals: &[Proposal]) -> Result<(), WriteError> {
    check_count("proposals", proposals.len(), MAX_PROPOSALS)?;
    let mut rest = proposals.iter();
    while let Some(proposal) = rest.next() {
        proposal.write(out, rest.len() == 0)?;
    }
    Ok(())
}

/// One transform.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transform {
    /// Which kind of algorithm.
    pub kind: TransformType,
    /// Which algorithm, a number of the registry that belongs to `kind`.
    pub id: u16,
    /// Attributes, usually none or a Key Length.
    pub attributes: Vec<Attribute>,
}

impl Transform {
    /// A transform without attributes.
    #[must_use]
    pub const fn new(kind: TransformType, id: u16) -> Self {
        Self {
            kind,
            id,
            attributes: Vec::new(),
        }
    }

    /// An encryption algorithm; `key_bits` for those that come in several sizes, and only for those.
    #[must_use]
    pub fn encr(id: EncrId, key_bits: Option<u16>) -> Self {
        let attributes = key_bits.map(Attribute::key_length).into_iter().collect();
        Self {
            kind: TransformType::ENCR,
            id: id.0,
            attributes,
        }
    }

    /// A pseudorandom function.
    #[must_use]
    pub const fn prf(id: PrfId) -> Self {
        Self::new(TransformType::PRF, id.0)
    }

    /// An integrity algorithm.
    #[must_use]
    pub const fn integ(id: IntegId) -> Self {
        Self::new(TransformType::INTEG, id.0)
    }

    /// A key exchange method.
    #[must_use]
    pub const fn ke(id: KeId) -> Self {
        Self::new(TransformType::KE, id.0)
    }

    /// Extended sequence numbers or not.
    #[must_use]
    pub const fn esn(id: EsnId) -> Self {
        Self::new(TransformType::ESN, id.0)
    }

    /// The Key Length attribute, in bits. One in the TLV form is malformed and not seen here
    /// (RFC 7296, 3.3.5).
    #[must_use]
    pub fn key_length(&self) -> Option<u16> {
        self.attributes
            .iter()
            .find_map(|attribute| match attribute {
                Attribute {
                    kind: AttributeType::KEY_LENGTH,
                    value: AttributeValue::Short(bits),
                } => Some(*bits),
                _ => None,
            })
    }

    fn write(&self, out: &mut Vec<u8>, last: bool) -> Result<(), WriteError> {
        check_count("attributes", self.attributes.len(), MAX_ATTRIBUTES)?;
        out.extend([if last { 0 } else { MORE_TRANSFORMS }, 0]);
        with_u16_length(out, "transform", 4, |out| {
            out.extend([self.kind.0, 0]);
            out.extend(self.id.to_be_bytes());
            self.attributes
                .iter()
                .try_for_each(|attribute| attribute.write(out))
        })
    }
}

impl std::fmt::Display for Transform {
    /// The registry's name and the key length: `ENCR_AES_GCM_16-256`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind.id_name(self.id) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{}({})", self.kind, self.id)?,
        }
        match self.key_length() {
            Some(bits) => write!(f, "-{bits}"),
            None => Ok(()),
        }
    }
}

/// One transform attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attribute {
    /// Which attribute; 15 bits.
    pub kind: AttributeType,
    /// Its value.
    pub value: AttributeValue,
}

impl Attribute {
    /// A Key Length.
    #[must_use]
    pub const fn key_length(bits: u16) -> Self {
        Self {
            kind: AttributeType::KEY_LENGTH,
            value: AttributeValue::Short(bits),
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        if self.kind.0 & ATTRIBUTE_FORMAT_TV != 0 {
            return Err(WriteError::BadAttributeType {
                what: "transform attribute type",
                value: self.kind.0,
            });
        }
        match &self.value {
            AttributeValue::Short(value) => {
                out.extend((self.kind.0 | ATTRIBUTE_FORMAT_TV).to_be_bytes());
                out.extend(value.to_be_bytes());
                Ok(())
            }
            AttributeValue::Long(value) => {
                out.extend(self.kind.0.to_be_bytes());
                with_u16_length(out, "transform attribute", 0, |out| {
                    out.extend_from_slice(value);
                    Ok(())
                })
            }
        }
    }
}

/// The value of a transform attribute, in the form that it has on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttributeValue<B = Vec<u8>> {
    /// Type/Value: two octets.
    Short(u16),
    /// Type/Length/Value.
    Long(B),
}
