//! The little of IPv4 (RFC 791), IPv6 (RFC 8200) and UDP (RFC 768) headers that a tunnel reads and writes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use thiserror::Error;

/// Protocol and next header numbers (IANA "Assigned Internet Protocol Numbers").
pub(crate) mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const ESP: u8 = 50;
    pub const AH: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const NO_NEXT_HEADER: u8 = 59;
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const BEET_PSEUDO_HEADER: u8 = 94;
    pub const IPCOMP: u8 = 108;
}

/// Octets of an IPv4 header without options.
pub(crate) const IPV4_HEADER_LEN: usize = 20;
/// Octets of the fixed IPv6 header.
pub(crate) const IPV6_HEADER_LEN: usize = 40;
/// Octets of a UDP header.
pub(crate) const UDP_HEADER_LEN: usize = 8;
/// The smallest MTU that IPv6 works over (RFC 8200 §5).
pub(crate) const IPV6_MIN_MTU: usize = 1280;

/// Byte ranges of IPv4 header fields.
pub(crate) mod v4 {
    use std::ops::Range;
    pub const TOS: usize = 1;
    pub const TOTAL_LEN: Range<usize> = 2..4;
    pub const ID: Range<usize> = 4..6;
    pub const FRAGMENT: Range<usize> = 6..8;
    pub const TTL: usize = 8;
    pub const PROTOCOL: usize = 9;
    pub const CHECKSUM: Range<usize> = 10..12;
    pub const SRC: Range<usize> = 12..16;
    pub const DST: Range<usize> = 16..20;
    pub const DONT_FRAGMENT: u16 = 0x4000;
    /// More fragments, or an offset: part of a fragmented datagram.
    pub const IS_FRAGMENT: u16 = 0x3fff;
    pub const OFFSET: u16 = 0x1fff;
    pub const MORE_FRAGMENTS: u16 = 0x2000;
}

/// Byte ranges of IPv6 header fields.
pub(crate) mod v6 {
    use std::ops::Range;
    pub const VERSION_CLASS_LABEL: Range<usize> = 0..4;
    pub const PAYLOAD_LEN: Range<usize> = 4..6;
    pub const NEXT_HEADER: usize = 6;
    pub const HOP_LIMIT: usize = 7;
    pub const SRC: Range<usize> = 8..24;
    pub const DST: Range<usize> = 24..40;
}

/// Why a byte string is not an IP packet that can be carried.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum IpError {
    /// Fewer bytes than the fixed header, or than the header says there are.
    #[error("ip packet is truncated: {have} bytes, {need} needed")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there have to be.
        need: usize,
    },
    /// The version field is neither 4 nor 6, or not the one announced.
    #[error("ip version {0} is not the expected one")]
    Version(u8),
    /// The IPv4 header length or total length, or an IPv6 extension header, contradicts itself.
    #[error("ip header has an impossible length field")]
    Length,
    /// An IPv4 source route or IPv6 routing header that is not at its end, in front of AH: the addresses that the receiver
    /// sees are others (RFC 4302 §3.3.3.1).
    #[error("ip source route is not at its end")]
    SourceRoute,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

/// What a tunnel needs of an IP header. Extension headers are not looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpHeader {
    pub version: Version,
    /// Octets before the payload: IPv4 with options; IPv6 the fixed header only.
    pub header_len: usize,
    /// Octets of the whole packet by its own account; at most what was given.
    pub total_len: usize,
    pub tos: u8,
    pub hop_limit: u8,
    /// IPv4 DF. IPv6 routers never fragment, so `true` there.
    pub dont_fragment: bool,
    /// IPv4: it is a fragment. IPv6 fragments show only in extension headers.
    pub fragment: bool,
    /// IPv4: fragment other than the first.
    pub later_fragment: bool,
    pub next_header: u8,
    /// IPv6 flow label; 0 for IPv4.
    pub flow_label: u32,
}

impl IpHeader {
    /// Reads the header of a packet of either version. Bytes behind the packet's own length are allowed (TFC padding).
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, IpError> {
        let first = *packet.first().ok_or(IpError::Truncated {
            have: 0,
            need: IPV4_HEADER_LEN,
        })?;
        match first >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            other => Err(IpError::Version(other)),
        }
    }

    #[inline]
    fn parse_v4(packet: &[u8]) -> Result<Self, IpError> {
        let have = packet.len();
        let fixed: &[u8; IPV4_HEADER_LEN] = packet.first_chunk().ok_or(IpError::Truncated {
            have,
            need: IPV4_HEADER_LEN,
        })?;
        let header_len = usize::from(fixed[0] & 0x0f) * 4;
        let total_len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if header_len < IPV4_HEADER_LEN || total_len < header_len {
            return Err(IpError::Length);
        }
        if have < total_len {
            return Err(IpError::Truncated {
                have,
                need: total_len,
            });
        }
        let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
        Ok(Self {
            version: Version::V4,
            header_len,
            total_len,
            tos: fixed[v4::TOS],
            hop_limit: fixed[v4::TTL],
            dont_fragment: fragment & v4::DONT_FRAGMENT != 0,
            fragment: fragment & v4::IS_FRAGMENT != 0,
            later_fragment: fragment & v4::OFFSET != 0,
            next_header: fixed[v4::PROTOCOL],
            flow_label: 0,
        })
    }

    #[inline]
    fn parse_v6(packet: &[u8]) -> Result<Self, IpError> {
        let have = packet.len();
        let fixed: &[u8; IPV6_HEADER_LEN] = packet.first_chunk().ok_or(IpError::Truncated {
            have,
            need: IPV6_HEADER_LEN,
        })?;
        let first = u32::from_be_bytes([fixed[0], fixed[1], fixed[2], fixed[3]]);
        // A payload length of 0 with content is a jumbogram (RFC 2675), which no tunnel of ours carries: it is read as
        // what it says, an empty packet.
        let total_len = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        if have < total_len {
            return Err(IpError::Truncated {
                have,
                need: total_len,
            });
        }
        Ok(Self {
            version: Version::V6,
            header_len: IPV6_HEADER_LEN,
            total_len,
            tos: (first >> 20) as u8,
            hop_limit: fixed[v6::HOP_LIMIT],
            dont_fragment: true,
            fragment: false,
            later_fragment: false,
            next_header: fixed[v6::NEXT_HEADER],
            flow_label: first & 0x000f_ffff,
        })
    }
}

/// Source and destination of a packet whose header was parsed.
pub(crate) fn addresses(packet: &[u8], version: Version) -> Option<(IpAddr, IpAddr)> {
    Some(match version {
        Version::V4 => {
            let address = |range| {
                <[u8; 4]>::try_from(packet.get(range)?)
                    .ok()
                    .map(Ipv4Addr::from)
            };
            (address(v4::SRC)?.into(), address(v4::DST)?.into())
        }
        Version::V6 => {
            let address = |range| {
                <[u8; 16]>::try_from(packet.get(range)?)
                    .ok()
                    .map(Ipv6Addr::from)
            };
            (address(v6::SRC)?.into(), address(v6::DST)?.into())
        }
    })
}

/// Where the payload of ESP or AH in transport mode begins, and where the field that names it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TransportSplit {
    /// Octets of headers that stay in front.
    pub header_len: usize,
    /// Offset of the octet that says what follows these headers.
    pub next_header_at: usize,
    /// What that octet says now.
    pub next_header: u8,
    /// A fragment: transport mode protects whole datagrams only.
    pub fragment: bool,
}

impl TransportSplit {
    /// Finds the split as RFC 4303 §3.1.1 and RFC 4302 §3.1.1 draw it: after IPv4 options; after IPv6 hop-by-hop and routing headers, and
    /// after destination options if a routing header follows them.
    pub fn find(packet: &[u8], header: &IpHeader) -> Result<Self, IpError> {
        if header.version == Version::V4 {
            return Ok(Self {
                header_len: header.header_len,
                next_header_at: v4::PROTOCOL,
                next_header: header.next_header,
                fragment: header.fragment,
            });
        }
        let packet = packet.get(..header.total_len).unwrap_or(packet);
        let mut split = Self {
            header_len: IPV6_HEADER_LEN,
            next_header_at: v6::NEXT_HEADER,
            next_header: header.next_header,
            fragment: false,
        };
        let mut candidate = split;
        loop {
            match candidate.next_header {
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                    let passed = candidate.next_header;
                    let at = candidate.header_len;
                    let &[next, units] = packet
                        .get(at..)
                        .and_then(<[u8]>::first_chunk)
                        .ok_or(IpError::Length)?;
                    candidate.next_header_at = at;
                    candidate.next_header = next;
                    candidate.header_len = at + (usize::from(units) + 1) * 8;
                    if candidate.header_len > packet.len() {
                        return Err(IpError::Length);
                    }
                    if passed != protocol::DESTINATION_OPTIONS {
                        split = candidate;
                    }
                }
                protocol::FRAGMENT => {
                    return Ok(Self {
                        fragment: true,
                        ..split
                    });
                }
                _ => return Ok(split),
            }
        }
    }
}

/// Sums 16-bit words in ones' complement; fold with [`fold`].
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum: u64 = words
        .iter()
        .map(|w| u64::from(u32::from_be_bytes(*w)))
        .sum();
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    sum += u64::from(u32::from_be_bytes(last));
    sum
}

/// The Internet checksum (RFC 1071) for a sum of words.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Replaces the TOS octet of a packet whose header was parsed, keeping the IPv4 checksum as right as it was (RFC 1624).
pub(crate) fn set_tos(packet: &mut [u8], version: Version, tos: u8) {
    match version {
        Version::V4 => {
            let Some(header) = packet.first_chunk_mut::<IPV4_HEADER_LEN>() else {
                return;
            };
            let old = u16::from_be_bytes([header[0], header[1]]);
            header[v4::TOS] = tos;
            let new = u16::from_be_bytes([header[0], header[1]]);
            let checksum = u16::from_be_bytes([header[10], header[11]]);
            let updated = fold(u64::from(!checksum) + u64::from(!old) + u64::from(new));
            header[v4::CHECKSUM].copy_from_slice(&updated.to_be_bytes());
        }
        Version::V6 => {
            let Some(header) = packet.first_chunk_mut::<IPV6_HEADER_LEN>() else {
                return;
            };
            header[0] = (header[0] & 0xf0) | (tos >> 4);
            header[1] = (header[1] & 0x0f) | (tos << 4);
        }
    }
}

/// Replaces total length and checksum of an IPv4 header, or the payload length of an IPv6 one.
/// `header_len` octets of `packet` are the header with its options or extension headers.
/// `None` if the packet is longer than the field can say.
pub(crate) fn set_length(packet: &mut [u8], header_len: usize) -> Option<()> {
    let total = packet.len();
    let header = packet.get_mut(..header_len)?;
    if header.first()? >> 4 == 4 {
        header
            .get_mut(v4::TOTAL_LEN)?
            .copy_from_slice(&u16::try_from(total).ok()?.to_be_bytes());
        header.get_mut(v4::CHECKSUM)?.fill(0);
        let checksum = fold(sum(header));
        header
            .get_mut(v4::CHECKSUM)?
            .copy_from_slice(&checksum.to_be_bytes());
    } else {
        let payload = u16::try_from(total.checked_sub(IPV6_HEADER_LEN)?).ok()?;
        header
            .get_mut(v6::PAYLOAD_LEN)?
            .copy_from_slice(&payload.to_be_bytes());
    }
    Some(())
}

/// Gives an IPv4 packet an identification if it has none; its checksum has to be computed anew.
pub(crate) fn set_missing_identification(packet: &mut [u8], identification: u16) {
    if packet.first().is_some_and(|first| first >> 4 == 4)
        && let Some(field) = packet.get_mut(v4::ID)
        && field == [0, 0]
    {
        field.copy_from_slice(&identification.to_be_bytes());
    }
}

/// The fields of an IPv4 or IPv6 header to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewHeader {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub tos: u8,
    pub hop_limit: u8,
    pub dont_fragment: bool,
    pub identification: u16,
    pub flow_label: u32,
    pub protocol: u8,
}

impl NewHeader {
    /// Octets that [`write`](Self::write) writes.
    pub fn len(&self) -> usize {
        if self.dst.is_ipv4() {
            IPV4_HEADER_LEN
        } else {
            IPV6_HEADER_LEN
        }
    }

    /// Writes the header over the first octets of `packet`, which is header and payload.
    /// `None` if the packet is too long or the address families differ.
    pub fn write(&self, packet: &mut [u8]) -> Option<()> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = packet.first_chunk_mut::<IPV4_HEADER_LEN>()?;
                *header = [0; IPV4_HEADER_LEN];
                header[0] = 0x45;
                header[v4::TOS] = self.tos;
                header[v4::ID].copy_from_slice(&self.identification.to_be_bytes());
                let fragment = if self.dont_fragment {
                    v4::DONT_FRAGMENT
                } else {
                    0
                };
                header[v4::FRAGMENT].copy_from_slice(&fragment.to_be_bytes());
                header[v4::TTL] = self.hop_limit;
                header[v4::PROTOCOL] = self.protocol;
                header[v4::SRC].copy_from_slice(&src.octets());
                header[v4::DST].copy_from_slice(&dst.octets());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = packet.first_chunk_mut::<IPV6_HEADER_LEN>()?;
                let first = 6 << 28 | u32::from(self.tos) << 20 | (self.flow_label & 0x000f_ffff);
                header[v6::VERSION_CLASS_LABEL].copy_from_slice(&first.to_be_bytes());
                header[v6::NEXT_HEADER] = self.protocol;
                header[v6::HOP_LIMIT] = self.hop_limit;
                header[v6::SRC].copy_from_slice(&src.octets());
                header[v6::DST].copy_from_slice(&dst.octets());
            }
            _ => return None,
        }
        set_length(packet, self.len())
    }
}

/// The sum over the pseudo-header of TCP, UDP and ICMPv6 checksums (RFC 9293 §3.1, RFC 8200 §8.1).
pub(crate) fn pseudo_header_sum(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> u64 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    address(src) + address(dst) + u64::from(protocol) + len as u64
}

/// Where in a TCP or UDP header the checksum stands.
fn checksum_at(protocol: u8) -> Option<Range<usize>> {
    match protocol {
        protocol::TCP => Some(16..18),
        protocol::UDP => Some(6..8),
        _ => None,
    }
}

/// Writes the checksum of a UDP datagram, header included.
pub(crate) fn write_udp_checksum(datagram: &mut [u8], src: IpAddr, dst: IpAddr) {
    write_checksum(datagram, protocol::UDP, src, dst);
}

/// Writes the TCP or UDP checksum of a packet anew; other protocols are left alone, and UDP without a checksum.
///
/// For transport mode through a NAT, which changed the addresses that the checksum covers (RFC 3948 §3.1.2). ESP has
/// already proved the content intact. `payload` is all that follows the IP header.
pub(crate) fn rewrite_transport_checksum(
    payload: &mut [u8],
    protocol: u8,
    src: IpAddr,
    dst: IpAddr,
) {
    if protocol == protocol::UDP && payload.get(6..8) == Some(&[0, 0]) {
        return;
    }
    write_checksum(payload, protocol, src, dst);
}

fn write_checksum(payload: &mut [u8], protocol: u8, src: IpAddr, dst: IpAddr) {
    let len = payload.len();
    let Some(at) = checksum_at(protocol) else {
        return;
    };
    let Some(field) = payload.get_mut(at.clone()) else {
        return;
    };
    field.fill(0);
    let mut checksum = fold(pseudo_header_sum(src, dst, protocol, len) + sum(payload));
    // In UDP 0 means that there is none (RFC 768).
    if protocol == protocol::UDP && checksum == 0 {
        checksum = 0xffff;
    }
    if let Some(field) = payload.get_mut(at) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}
