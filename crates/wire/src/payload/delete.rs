//! Delete payload (RFC 7296, 3.11).

use crate::error::{ParseError, ParseErrorKind};
use crate::limits::MAX_DELETE_SPIS;
use crate::reader::Reader;
use crate::registry::ProtocolId;
use crate::spi::Spi;

/// SAs that the sender has deleted: this IKE SA (no SPIs), or ESP or AH SAs by the SPIs that the sender receives with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletePayload<'a> {
    /// The protocol of the SAs.
    pub protocol: ProtocolId,
    spi_size: u8,
    spis: &'a [u8],
}

impl<'a> DeletePayload<'a> {
    /// Reads the body of a Delete payload.
    ///
    /// # Errors
    /// If the SPI size and count do not give the length, the SPI size is not that of the protocol, or there are
    /// more than [`MAX_DELETE_SPIS`].
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let protocol = ProtocolId(reader.u8()?);
        let spi_size = reader.u8()?;
        let count = reader.u16()?;
        let bad_size = reader.error(ParseErrorKind::BadSpiSize { spi_size, count });
        //= rfc7296#3.11
        //# SPI Size (1 octet) - Length in octets of the SPI as defined by the
        //# protocol ID.  It MUST be zero for IKE (SPI is in message header)
        //# or four for AH and ESP.
        match protocol {
            ProtocolId::IKE if spi_size != 0 || count != 0 => return Err(bad_size),
            ProtocolId::AH | ProtocolId::ESP if spi_size != 4 => return Err(bad_size),
            // Without octets to count there is nothing that a count can mean.
            _ if spi_size == 0 && count != 0 => return Err(bad_size),
            _ => {}
        }
        let count = usize::from(count);
        if count > MAX_DELETE_SPIS {
            return Err(reader.error(ParseErrorKind::TooMany {
                what: "spis",
                limit: MAX_DELETE_SPIS,
            }));
        }
        let spis = reader.take(count.saturating_mul(usize::from(spi_size)))?;
        reader.finish()?;
        Ok(Self {
            protocol,
            spi_size,
            spis,
        })
    }

    /// Octets of each SPI.
    #[must_use]
    pub const fn spi_size(&self) -> u8 {
        self.spi_size
    }

    /// The SPIs, whatever their size.
    pub fn spis(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        // With a size of zero there are no octets, so any other chunk size gives the same: nothing.
        self.spis.chunks_exact(usize::from(self.spi_size.max(1)))
    }

    /// The SPIs of a Delete for ESP or AH; nothing for other protocols.
    pub fn esp_spis(&self) -> impl Iterator<Item = Spi> + use<'a> {
        let spis = if self.spi_size == 4 { self.spis } else { &[] };
        spis.as_chunks::<4>()
            .0
            .iter()
            .map(|spi| Spi(u32::from_be_bytes(*spi)))
    }
}
