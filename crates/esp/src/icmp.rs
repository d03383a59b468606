//! "Packet too big", said to the sender of a clear packet: RFC 1191, RFC 1812 §4.3.2, RFC 4443 §3.2.
//!
//! How often to say it is the caller's to limit (RFC 1812 §4.3.2.8, RFC 4443 §2.4 f).

use std::net::IpAddr;

use thiserror::Error;

use crate::ip::{
    self, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IPV6_MIN_MTU, IpError, IpHeader, NewHeader, Version,
    fold, protocol, pseudo_header_sum, sum,
};
use crate::outer::DEFAULT_HOP_LIMIT;

/// The largest ICMP error that [`too_big`] writes.
pub const MAX_ICMP_ERROR_LEN: usize = IPV6_MIN_MTU;

/// The largest ICMPv4 error: RFC 1812 §4.3.2.3.
const MAX_ICMPV4_ERROR_LEN: usize = 576;
/// Type, code, checksum, and the word that holds the MTU.
const ICMP_HEADER_LEN: usize = 8;
/// ICMPv4: destination unreachable, fragmentation needed and DF set.
const V4_FRAGMENTATION_NEEDED: [u8; 2] = [3, 4];
/// ICMPv6: packet too big.
const V6_PACKET_TOO_BIG: [u8; 2] = [2, 0];
/// Precedence 6 of ICMPv4 errors (RFC 1812 §4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// The bits of IPv4 TOS that the error takes over from the packet, as the kernel does: RFC 1349's TOS, no ECN.
const TOS_KEPT: u8 = 0x1c;

/// Why no ICMP error answers a packet.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NoIcmp {
    /// The packet is not well-formed.
    #[error(transparent)]
    Malformed(#[from] IpError),
    /// It must not be answered: an ICMP error itself, a later fragment, or not from one host to one host
    /// (RFC 1122 §3.2.2, RFC 4443 §2.4); or not from the source given, which is no host.
    #[error("no icmp error may answer this packet")]
    Forbidden,
    /// The source given for the error is not of the packet's family.
    #[error("icmp error source is of another address family than the packet")]
    Family,
    /// The buffer is smaller than the error, see [`MAX_ICMP_ERROR_LEN`].
    #[error("buffer for the icmp error is too small")]
    NoRoom,
}

/// Writes the error that tells the sender of `packet` the MTU, as a whole IP packet from `source`; returns its length.
///
/// `mtu` is the greatest packet that would have passed, as in [`SealError::TooBig`](crate::SealError::TooBig).
///
/// # Errors
///
/// No error is to be sent, or it does not fit `out`.
pub fn too_big(packet: &[u8], mtu: usize, source: IpAddr, out: &mut [u8]) -> Result<usize, NoIcmp> {
    let header = IpHeader::parse(packet)?;
    let (src, dst) = ip::addresses(packet, header.version).ok_or(NoIcmp::Forbidden)?;
    let packet = packet.get(..header.total_len).ok_or(NoIcmp::Forbidden)?;
    if source.is_ipv4() != src.is_ipv4() {
        return Err(NoIcmp::Family);
    }
    // The destination of a packet to a group is no source for the answer.
    if !is_one_host(src)
        || !is_one_host(source)
        || header.later_fragment
        || is_icmp_error(packet, &header)
    {
        return Err(NoIcmp::Forbidden);
    }
    let (ip_len, limit, protocol, kind, tos) = match header.version {
        //= rfc1122#3.2.2
        //# An ICMP error message MUST NOT be sent as the result of
        //# receiving:
        // ... a datagram destined to an IP broadcast or IP multicast address
        Version::V4 if !is_one_host(dst) => return Err(NoIcmp::Forbidden),
        Version::V4 => (
            IPV4_HEADER_LEN,
            MAX_ICMPV4_ERROR_LEN,
            protocol::ICMP,
            V4_FRAGMENTATION_NEEDED,
            header.tos & TOS_KEPT | INTERNETWORK_CONTROL,
        ),
        // Path MTU discovery works for multicast too: RFC 4443 §2.4 (e.3) exempts this error.
        Version::V6 => (
            IPV6_HEADER_LEN,
            IPV6_MIN_MTU,
            protocol::ICMPV6,
            V6_PACKET_TOO_BIG,
            0,
        ),
    };
    let quoted = packet
        .get(..packet.len().min(limit - ip_len - ICMP_HEADER_LEN))
        .unwrap_or(packet);
    let len = ip_len + ICMP_HEADER_LEN + quoted.len();
    let error = out.get_mut(..len).ok_or(NoIcmp::NoRoom)?;
    let (_, icmp) = error.split_at_mut(ip_len);
    let (head, body) = icmp.split_at_mut(ICMP_HEADER_LEN);
    // Both families keep the MTU in the low bits of the same word; ICMPv4 has 16 of them (RFC 1191 §4).
    let mtu = match header.version {
        Version::V4 => u32::from(u16::try_from(mtu).unwrap_or(u16::MAX)),
        Version::V6 => u32::try_from(mtu).unwrap_or(u32::MAX),
    };
    let [m0, m1, m2, m3] = mtu.to_be_bytes();
    head.copy_from_slice(&[kind[0], kind[1], 0, 0, m0, m1, m2, m3]);
    body.copy_from_slice(quoted);
    let pseudo = match header.version {
        Version::V4 => 0,
        Version::V6 => pseudo_header_sum(source, src, protocol, ICMP_HEADER_LEN + quoted.len()),
    };
    let checksum = fold(pseudo + sum(head) + sum(body));
    head[2..4].copy_from_slice(&checksum.to_be_bytes());
    NewHeader {
        src: source,
        dst: src,
        tos,
        hop_limit: DEFAULT_HOP_LIMIT,
        dont_fragment: false,
        identification: 0,
        flow_label: 0,
        protocol,
    }
    .write(error)
    .ok_or(NoIcmp::NoRoom)?;
    Ok(len)
}

/// Whether an address stands for one host that may be sent an error.
fn is_one_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_loopback()
                || v4.octets()[0] >= 240)
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast() || v6.is_loopback()),
    }
}

/// Whether a packet is an ICMP message that may not be answered by an error. One that is cut off counts as such.
fn is_icmp_error(packet: &[u8], header: &IpHeader) -> bool {
    let kind_at = |offset: usize| packet.get(offset).copied();
    match header.version {
        Version::V4 if header.next_header == protocol::ICMP => {
            // Unreachable, source quench, redirect, time exceeded, parameter problem.
            kind_at(header.header_len).is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12))
        }
        Version::V4 => false,
        Version::V6 => {
            let (mut next, mut at) = (header.next_header, IPV6_HEADER_LEN);
            loop {
                let units = match next {
                    //= rfc4443#2.4
                    //# An ICMPv6 error message MUST NOT be originated as a result of
                    //# receiving the following:
                    // ... an ICMPv6 error message, an ICMPv6 redirect message
                    protocol::ICMPV6 => {
                        return kind_at(at).is_none_or(|kind| kind < 128 || kind == 137);
                    }
                    protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                        kind_at(at + 1).map(|units| (usize::from(units) + 1) * 8)
                    }
                    protocol::AH => kind_at(at + 1).map(|units| (usize::from(units) + 2) * 4),
                    protocol::FRAGMENT => match packet.get(at + 2..at + 4) {
                        // Later fragments do not show what they belong to.
                        Some(&[high, low]) if high == 0 && low & 0xf8 == 0 => Some(8),
                        _ => return true,
                    },
                    _ => return false,
                };
                let (Some(len), Some(following)) = (units, kind_at(at)) else {
                    return true;
                };
                next = following;
                at += len;
            }
        }
    }
}
