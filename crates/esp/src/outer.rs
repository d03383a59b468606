//! The IP header around ESP or AH: what to put into it outbound, what it said inbound.

use std::net::IpAddr;

use crate::buffer::PacketBuffer;
use crate::error::OpenError;
use crate::ip::{self, IpError, IpHeader, NewHeader};

/// The fields of the outer IP header that ESP processing decides or looks at.
///
/// Outbound it says what the socket or [`Outbound::write_outer`](crate::Outbound::write_outer) shall send; inbound it
/// is what the packet arrived with (from the raw packet, or from the control messages of the socket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterHeader {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IPv4 TOS or IPv6 Traffic Class: DSCP and ECN (IP_TOS, IPV6_TCLASS).
    pub tos: u8,
    /// IPv4 TTL or IPv6 Hop Limit. Inbound it matters in transport mode only.
    pub hop_limit: u8,
    /// IPv4 DF; without meaning for IPv6.
    pub dont_fragment: bool,
    /// IPv6 flow label, 0 for IPv4.
    pub flow_label: u32,
}

impl OuterHeader {
    /// What is known of a datagram when nothing but its addresses is: no DSCP, not ECN-capable, hop limit 64.
    pub fn between(src: IpAddr, dst: IpAddr) -> Self {
        Self {
            src,
            dst,
            tos: 0,
            hop_limit: DEFAULT_HOP_LIMIT,
            dont_fragment: false,
            flow_label: 0,
        }
    }

    /// Takes the IP header off a received packet, and what lies behind the packet's own length.
    ///
    /// Gives the header and the protocol that follows; the buffer then holds the payload. For IPv6 only the fixed header
    /// is taken off. Fragments have to be reassembled before (RFC 4303 §3.4.1) and are refused with
    /// [`IpError::Length`].
    pub fn strip(packet: &mut PacketBuffer<'_>) -> Result<(Self, u8), IpError> {
        let header = IpHeader::parse(packet.bytes())?;
        if header.fragment {
            return Err(IpError::Length);
        }
        let (src, dst) = ip::addresses(packet.bytes(), header.version).ok_or(IpError::Length)?;
        packet.truncate(header.total_len);
        packet.trim_front(header.header_len);
        let outer = Self {
            src,
            dst,
            tos: header.tos,
            hop_limit: header.hop_limit,
            dont_fragment: header.dont_fragment,
            flow_label: header.flow_label,
        };
        Ok((outer, header.next_header))
    }

    /// Puts an IP header in front of the payload in the buffer: the reverse of [`strip`](Self::strip), for packets that came
    /// by a socket that shows no IP header.
    ///
    /// # Errors
    ///
    /// [`OpenError::NoRoom`]; [`OpenError::Header`] if the addresses are of different families or the packet is too long.
    pub fn restore(&self, packet: &mut PacketBuffer<'_>, protocol: u8) -> Result<(), OpenError> {
        let header = NewHeader {
            src: self.src,
            dst: self.dst,
            tos: self.tos,
            hop_limit: self.hop_limit,
            dont_fragment: self.dont_fragment,
            identification: 0,
            flow_label: self.flow_label,
            protocol,
        };
        packet.prepend(header.len())?;
        header.write(packet.bytes_mut()).ok_or(OpenError::Header)
    }
}

/// TTL and Hop Limit of outer headers, as `net.ipv4.ip_default_ttl` and `net.ipv6.conf.*.hop_limit` have it.
pub const DEFAULT_HOP_LIMIT: u8 = 64;
