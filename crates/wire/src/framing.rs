//! What shares UDP port 4500 with IKE (RFC 3948, RFC 7296, 2.23), and the header of ESP (RFC 4303, 2).

use crate::error::ParseError;
use crate::reader::Reader;
use crate::spi::Spi;

/// The four zero octets before an IKE message on port 4500. An SPI of zero never appears there, so they tell IKE from ESP.
pub const NON_ESP_MARKER: [u8; 4] = [0; 4];

/// The only octet of a NAT keepalive datagram (RFC 3948, 2.3).
pub const NAT_KEEPALIVE: u8 = 0xff;

/// A datagram received on a port that carries IKE and ESP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpDatagram<'a> {
    /// NAT keepalive: ignored.
    Keepalive,
    /// What follows a non-ESP marker; not checked.
    Ike(&'a [u8]),
    /// An ESP packet.
    Esp {
        /// Its SPI, not zero.
        spi: Spi,
        /// Its sequence number, the low 32 bits.
        seq: u32,
        /// The whole packet from the SPI on.
        bytes: &'a [u8],
    },
    /// None of these: empty, or too short.
    Malformed,
}

/// Tells apart what arrives on port 4500 (RFC 3948, 2).
#[must_use]
pub fn classify_natt(datagram: &[u8]) -> UdpDatagram<'_> {
    if datagram == [NAT_KEEPALIVE] {
        return UdpDatagram::Keepalive;
    }
    if let Some(message) = datagram.strip_prefix(&NON_ESP_MARKER) {
        return UdpDatagram::Ike(message);
    }
    match EspHeader::parse(datagram) {
        Ok((EspHeader { spi, seq }, _)) => UdpDatagram::Esp {
            spi,
            seq,
            bytes: datagram,
        },
        Err(_) => UdpDatagram::Malformed,
    }
}

/// The part of an ESP packet that is in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EspHeader {
    /// SPI of the receiver's SA.
    pub spi: Spi,
    /// Sequence number; with extended sequence numbers the low 32 bits.
    pub seq: u32,
}

impl EspHeader {
    /// Octets of the header.
    pub const LEN: usize = 8;

    /// Splits an ESP packet into its header and the rest.
    ///
    /// # Errors
    /// If it has fewer than [`EspHeader::LEN`] octets.
    pub fn parse(packet: &[u8]) -> Result<(Self, &[u8]), ParseError> {
        let mut reader = Reader::new(packet);
        let header = Self {
            spi: Spi(reader.u32()?),
            seq: reader.u32()?,
        };
        Ok((header, reader.rest()))
    }

    /// As on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        ((self.spi.0 as u64) << 32 | self.seq as u64).to_be_bytes()
    }
}
