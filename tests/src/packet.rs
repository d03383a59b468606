//! Packets with made-up senders.

use std::net::{IpAddr, SocketAddr};

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketType, ipproto, socket};

/// A socket that sends whole IP packets. To be opened inside a namespace.
///
/// # Panics
/// Without `CAP_NET_RAW`.
#[must_use]
pub fn raw_socket(destination: IpAddr) -> OwnedFd {
    let family = if destination.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    socket(family, SocketType::RAW, Some(ipproto::RAW)).expect("a raw socket")
}

/// A whole IP packet with a UDP datagram in it.
#[must_use]
pub fn udp_packet(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let udp_len = u16::try_from(8 + payload.len())
        .expect("a short payload")
        .to_be_bytes();
    let mut udp = Vec::with_capacity(8 + payload.len());
    udp.extend(source.port().to_be_bytes());
    udp.extend(destination.port().to_be_bytes());
    udp.extend(udp_len);
    udp.extend([0, 0]);
    udp.extend(payload);
    let mut packet = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = u16::try_from(20 + udp.len())
                .expect("a short payload")
                .to_be_bytes();
            // The kernel fills in identification and header checksum; a UDP checksum is optional.
            let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let pseudo = [
                &from.octets()[..],
                &to.octets(),
                &[0, 0],
                &udp_len,
                &[0, 0, 0, 17],
                &udp,
            ]
            .concat();
            udp[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());
            let mut header = vec![0x60, 0, 0, 0, udp_len[0], udp_len[1], 17, 64];
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        _ => panic!("{source} and {destination} are of different families"),
    };
    packet.extend(udp);
    packet
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |&low| u32::from(low)));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        // Zero would mean that there is none.
        0 => 0xffff,
        sum => sum,
    }
}
