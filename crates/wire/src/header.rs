//! The fixed header of every IKE message (RFC 7296, 3.1).

use crate::error::{ParseError, ParseErrorKind};
use crate::reader::Reader;
use crate::registry::{ExchangeType, PayloadType};
use crate::spi::IkeSpi;

/// Version of the protocol: 4 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    /// Major version, 2 for IKEv2.
    pub major: u8,
    /// Minor version, 0 when sent, ignored when received.
    pub minor: u8,
}

impl Version {
    /// 2.0.
    pub const IKEV2: Self = Self { major: 2, minor: 0 };

    pub(crate) const fn from_octet(octet: u8) -> Self {
        Self {
            major: octet >> 4,
            minor: octet & 0x0f,
        }
    }

    pub(crate) const fn to_octet(self) -> u8 {
        (self.major << 4) | (self.minor & 0x0f)
    }
}

/// The flags octet. The other bits are ignored when received and sent as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags {
    /// I: sent by the original initiator of the IKE SA (not of this exchange).
    pub initiator: bool,
    /// R: this is a response to the request with the same message ID.
    pub response: bool,
    /// V: the sender could speak a higher major version.
    pub version: bool,
}

impl Flags {
    const INITIATOR: u8 = 0x08;
    const VERSION: u8 = 0x10;
    const RESPONSE: u8 = 0x20;

    pub(crate) const fn from_octet(octet: u8) -> Self {
        Self {
            initiator: octet & Self::INITIATOR != 0,
            response: octet & Self::RESPONSE != 0,
            version: octet & Self::VERSION != 0,
        }
    }

    pub(crate) const fn to_octet(self) -> u8 {
        let mut octet = 0;
        if self.initiator {
            octet |= Self::INITIATOR;
        }
        if self.version {
            octet |= Self::VERSION;
        }
        if self.response {
            octet |= Self::RESPONSE;
        }
        octet
    }
}

/// The IKE header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// SPI chosen by the original initiator; never zero in a valid message.
    pub initiator_spi: IkeSpi,
    /// SPI chosen by the responder; zero in the first message of an initial exchange.
    pub responder_spi: IkeSpi,
    /// Type of the first payload. The writer fills it in.
    pub next_payload: PayloadType,
    /// Version of the protocol.
    pub version: Version,
    /// Type of the exchange.
    pub exchange: ExchangeType,
    /// Flags.
    pub flags: Flags,
    /// Message ID, the same in a request and its response.
    pub message_id: u32,
    /// Octets of the whole message, this header included. The writer fills it in.
    pub length: u32,
}

impl Header {
    /// Octets of a header.
    pub const LEN: usize = 28;
    /// Where the version octet is.
    pub(crate) const VERSION_AT: usize = 17;
    /// Where the next-payload octet is.
    pub const NEXT_PAYLOAD_AT: usize = 16;
    /// Where the four octets of the length are; they end the header.
    pub const LENGTH_AT: usize = 24;

    /// A header for the writer, which fills in `next_payload` and `length`.
    #[must_use]
    pub const fn new(
        initiator_spi: IkeSpi,
        responder_spi: IkeSpi,
        exchange: ExchangeType,
        flags: Flags,
        message_id: u32,
    ) -> Self {
        Self {
            initiator_spi,
            responder_spi,
            next_payload: PayloadType::NONE,
            version: Version::IKEV2,
            exchange,
            flags,
            message_id,
            length: 0,
        }
    }

    /// Reads the header at the start of `message`, of any version and whatever follows it. This is what a
    /// demultiplexer needs, and what an answer to a higher major version is made from.
    ///
    /// # Errors
    /// [`ParseErrorKind::Truncated`] if there are fewer than [`Header::LEN`] octets.
    pub fn parse(message: &[u8]) -> Result<Self, ParseError> {
        if message.len() < Self::LEN {
            let available = message.len();
            return Err(ParseError::new(
                ParseErrorKind::Truncated {
                    needed: Self::LEN,
                    available,
                },
                0,
            ));
        }
        let mut reader = Reader::new(message);
        Ok(Self {
            initiator_spi: IkeSpi(reader.u64()?),
            responder_spi: IkeSpi(reader.u64()?),
            next_payload: PayloadType(reader.u8()?),
            version: Version::from_octet(reader.u8()?),
            exchange: ExchangeType(reader.u8()?),
            flags: Flags::from_octet(reader.u8()?),
            message_id: reader.u32()?,
            length: reader.u32()?,
        })
    }

    /// The header's octets as they are given, `next_payload` and `length` included.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let halves = |spi: IkeSpi| [(spi.0 >> 32) as u32, spi.0 as u32];
        let ([i1, i2], [r1, r2]) = (halves(self.initiator_spi), halves(self.responder_spi));
        let single = u32::from_be_bytes([
            self.next_payload.0,
            self.version.to_octet(),
            self.exchange.0,
            self.flags.to_octet(),
        ]);
        let fields = [i1, i2, r1, r2, single, self.message_id, self.length];
        for (slot, field) in bytes.as_chunks_mut().0.iter_mut().zip(fields) {
            *slot = field.to_be_bytes();
        }
        bytes
    }
}
