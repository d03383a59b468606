//! Traffic Selector payloads (RFC 7296, 3.13).

use std::fmt;
use std::net::IpAddr;

use crate::error::{ParseError, ParseErrorKind, WriteError};
use crate::limits::MAX_SELECTORS;
use crate::reader::Reader;
use crate::registry::TsType;
use crate::writer::{check_count, put_u8_length, with_u16_length};

/// Octets of a selector before what its type defines.
const SELECTOR_HEADER_LEN: usize = 4;

/// Traffic Selector payload, of the initiator or of the responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TsPayload<'a> {
    selectors: &'a [u8],
}

impl<'a> TsPayload<'a> {
    /// Reads the body of a TSi or TSr payload.
    ///
    /// # Errors
    /// If lengths and the count do not agree, or a selector of an address range has not the length of its type.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let stated = usize::from(reader.u8()?);
        let _reserved = reader.take(3)?;
        let selectors = reader.rest();
        let mut found = 0_usize;
        while !reader.is_empty() {
            if found == MAX_SELECTORS {
                return Err(reader.error(ParseErrorKind::TooMany {
                    what: "traffic selectors",
                    limit: MAX_SELECTORS,
                }));
            }
            SelectorEntry::read(&mut reader)?;
            found = found.saturating_add(1);
        }
        if stated != found {
            return Err(ParseError::new(
                ParseErrorKind::CountMismatch {
                    what: "number of tss",
                    stated,
                    found,
                },
                0,
            ));
        }
        Ok(Self { selectors })
    }

    /// Every selector, in the order of the message.
    #[must_use]
    pub const fn entries(&self) -> SelectorEntries<'a> {
        SelectorEntries {
            reader: Reader::new(self.selectors),
        }
    }

    /// The selectors that are ranges of addresses.
    pub fn selectors(&self) -> impl Iterator<Item = TrafficSelector> + use<'a> {
        self.entries().filter_map(|entry| match entry {
            SelectorEntry::Ip(selector) => Some(selector),
            SelectorEntry::Other { .. } => None,
        })
    }
}

/// Iterator over the selectors of a [`TsPayload`].
#[derive(Debug, Clone)]
pub struct SelectorEntries<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for SelectorEntries<'a> {
    type Item = SelectorEntry<'a>;

    fn next(&mut self) -> Option<SelectorEntry<'a>> {
        SelectorEntry::read(&mut self.reader).ok()
    }
}

/// One traffic selector of any type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectorEntry<'a> {
    /// TS_IPV4_ADDR_RANGE or TS_IPV6_ADDR_RANGE.
    Ip(TrafficSelector),
    /// Another type: TS_FC_ADDR_RANGE, TS_SECLABEL or one that is not known.
    Other {
        /// The TS type.
        ts_type: TsType,
        /// The octet after it: the IP protocol ID of most types, reserved in others.
        protocol: u8,
        /// What follows the length.
        data: &'a [u8],
    },
}

impl<'a> SelectorEntry<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let start = *reader;
        let [ts_type, protocol, l0, l1]: [u8; SELECTOR_HEADER_LEN] = reader.array()?;
        let ts_type = TsType(ts_type);
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let data = reader.take_counted(length, SELECTOR_HEADER_LEN)?;
        let selector = match ts_type {
            TsType::IPV4_ADDR_RANGE => range::<4>(protocol, data),
            TsType::IPV6_ADDR_RANGE => range::<16>(protocol, data),
            _ => {
                return Ok(Self::Other {
                    ts_type,
                    protocol,
                    data,
                });
            }
        };
        selector.map(Self::Ip).ok_or_else(|| {
            start.error(ParseErrorKind::BadSelectorLength {
                ts_type: ts_type.0,
                length,
            })
        })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        match *self {
            Self::Ip(selector) => selector.write(out),
            Self::Other {
                ts_type,
                protocol,
                data,
            } => {
                out.extend([ts_type.0, protocol]);
                with_u16_length(out, "traffic selector", 4, |out| {
                    out.extend_from_slice(data);
                    Ok(())
                })
            }
        }
    }
}

/// Two ports and two addresses of `N` octets; `None` if that is not what `data` has room for.
fn range<const N: usize>(protocol: u8, data: &[u8]) -> Option<TrafficSelector>
where
    IpAddr: From<[u8; N]>,
{
    let ([s0, s1, e0, e1], addresses) = data.split_first_chunk()?;
    let (start, end) = addresses.split_first_chunk::<N>()?;
    Some(TrafficSelector {
        protocol,
        start_port: u16::from_be_bytes([*s0, *s1]),
        end_port: u16::from_be_bytes([*e0, *e1]),
        start: (*start).into(),
        end: <[u8; N]>::try_from(end).ok()?.into(),
    })
}

/// A range of addresses, a protocol and a range of ports (RFC 7296, 3.13.1).
///
/// For ICMP, ICMPv6 and the IPv6 mobility header a "port" holds the message type in its upper and the code in its
/// lower octet (RFC 7296, 3.13.1; RFC 4301, 4.4.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrafficSelector {
    /// IP protocol number, 0 for any.
    pub protocol: u8,
    /// First port; 0 where ports do not matter.
    pub start_port: u16,
    /// Last port; 65535 where ports do not matter.
    pub end_port: u16,
    /// First address.
    pub start: IpAddr,
    /// Last address, of the same family. A received range may be empty (`end` before `start`).
    pub end: IpAddr,
}

impl TrafficSelector {
    /// All protocols and ports of a range of addresses.
    #[must_use]
    pub const fn addresses(start: IpAddr, end: IpAddr) -> Self {
        Self {
            protocol: 0,
            start_port: 0,
            end_port: u16::MAX,
            start,
            end,
        }
    }

    /// The type that this has on the wire.
    #[must_use]
    pub const fn ts_type(&self) -> TsType {
        match self.start {
            IpAddr::V4(_) => TsType::IPV4_ADDR_RANGE,
            IpAddr::V6(_) => TsType::IPV6_ADDR_RANGE,
        }
    }

    /// Whether every port matches.
    #[must_use]
    pub const fn is_any_port(&self) -> bool {
        self.start_port == 0 && self.end_port == u16::MAX
    }

    /// OPAQUE: the port fields are not available, as in later fragments (RFC 7296, 3.13.1).
    #[must_use]
    pub const fn is_opaque_port(&self) -> bool {
        self.start_port == u16::MAX && self.end_port == 0
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        out.extend([self.ts_type().0, self.protocol]);
        with_u16_length(out, "traffic selector", 4, |out| {
            out.extend(self.start_port.to_be_bytes());
            out.extend(self.end_port.to_be_bytes());
            match (self.start, self.end) {
                (IpAddr::V4(start), IpAddr::V4(end)) => {
                    out.extend(start.octets());
                    out.extend(end.octets());
                    Ok(())
                }
                (IpAddr::V6(start), IpAddr::V6(end)) => {
                    out.extend(start.octets());
                    out.extend(end.octets());
                    Ok(())
                }
                (start, end) => Err(WriteError::MixedFamilies { start, end }),
            }
        })
    }
}

impl fmt::Display for TrafficSelector {
    /// `10.0.0.0-10.0.0.255`, and `[6/80]` or `[17/1024-65535]` behind it where protocol or ports matter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start == self.end {
            write!(f, "{}", self.start)?;
        } else {
            write!(f, "{}-{}", self.start, self.end)?;
        }
        match (self.protocol, self.is_any_port()) {
            (0, true) => Ok(()),
            (protocol, true) => write!(f, "[{protocol}]"),
            (protocol, false) if self.is_opaque_port() => write!(f, "[{protocol}/opaque]"),
            (protocol, false) if self.start_port == self.end_port => {
                write!(f, "[{protocol}/{}]", self.start_port)
            }
            (protocol, false) => write!(f, "[{protocol}/{}-{}]", self.start_port, self.end_port),
        }
    }
}

/// Writes the body of a TS payload.
pub(crate) fn write_selectors<'a>(
    out: &mut Vec<u8>,
    selectors: impl ExactSizeIterator<Item = SelectorEntry<'a>>,
) -> Result<(), WriteError> {
    check_count("traffic selectors", selectors.len(), MAX_SELECTORS)?;
    put_u8_length(out, "number of traffic selectors", selectors.len())?;
    out.extend([0, 0, 0]);
    for selector in selectors {
        selector.write(out)?;
    }
    Ok(())
}
