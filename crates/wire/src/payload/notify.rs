//! Notify payload (RFC 7296, 3.10).

use crate::error::ParseError;
use crate::reader::Reader;
use crate::registry::{HashAlgorithm, KeId, NotifyType, PayloadType, ProtocolId};
use crate::spi::Spi;

/// A notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notify<'a> {
    /// The protocol of `spi`; [`ProtocolId::NONE`] where there is none. Any value is kept.
    pub protocol: ProtocolId,
    /// The SA it is about, if it is about one other than this IKE SA. At most 255 octets.
    pub spi: &'a [u8],
    /// What it says.
    pub kind: NotifyType,
    /// What goes with it; depends on `kind`.
    pub data: &'a [u8],
}

impl<'a> Notify<'a> {
    /// A notification about nothing but this IKE SA, with data.
    #[must_use]
    pub const fn new(kind: NotifyType, data: &'a [u8]) -> Self {
        Self {
            protocol: ProtocolId::NONE,
            spi: &[],
            kind,
            data,
        }
    }

    /// Reads the body of a Notify payload.
    ///
    /// # Errors
    /// If it is shorter than four octets and the SPI.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let protocol = ProtocolId(reader.u8()?);
        let spi_len = usize::from(reader.u8()?);
        let kind = NotifyType(reader.u16()?);
        Ok(Self {
            protocol,
            kind,
            spi: reader.take(spi_len)?,
            data: reader.take_rest(),
        })
    }

    /// The SPI of a notification about an ESP or AH SA, if it has four octets.
    #[must_use]
    pub fn esp_spi(&self) -> Option<Spi> {
        Spi::from_slice(self.spi)
    }

    /// The method that a peer wants instead, from the two octets of INVALID_KE_PAYLOAD (RFC 7296, 1.3); `None` if
    /// this is not such a notification.
    #[must_use]
    pub fn wanted_key_exchange(&self) -> Option<KeId> {
        match (self.kind, self.data) {
            (NotifyType::INVALID_KE_PAYLOAD, &[high, low]) => {
                Some(KeId(u16::from_be_bytes([high, low])))
            }
            _ => None,
        }
    }

    /// The payload type that a peer did not understand, from UNSUPPORTED_CRITICAL_PAYLOAD (RFC 7296, 2.5).
    #[must_use]
    pub fn unsupported_payload(&self) -> Option<PayloadType> {
        match (self.kind, self.data) {
            (NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, &[payload_type]) => {
                Some(PayloadType(payload_type))
            }
            _ => None,
        }
    }

    /// The hash algorithms of SIGNATURE_HASH_ALGORITHMS (RFC 7427, 4); nothing for other notifications.
    pub fn hash_algorithms(&self) -> impl Iterator<Item = HashAlgorithm> + use<'a> {
        let data = if self.kind == NotifyType::SIGNATURE_HASH_ALGORITHMS {
            self.data
        } else {
            &[]
        };
        data.as_chunks::<2>()
            .0
            .iter()
            .map(|pair| HashAlgorithm(u16::from_be_bytes(*pair)))
    }
}
