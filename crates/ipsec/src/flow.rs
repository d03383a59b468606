//! Flows: what of a packet a selector looks at, and how it is read from a packet (K2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

/// The key of a policy lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// IP protocol number; for IPv6 that of the first header that is no extension header.
    pub protocol: u8,
    /// Source port. ICMP and mobility header: the type. GRE: upper half of the key. Fragments: 0.
    pub sport: u16,
    /// Destination port. ICMP: the code. GRE: lower half of the key. Fragments: 0.
    pub dport: u16,
    /// The packet's mark.
    pub mark: u32,
    /// The device that the packet's route leads to, 0 if not known: the output device of outbound and of forwarded
    /// packets, also in the `Fwd` check. For packets delivered here that is the loopback device (or the VRF), not the
    /// one they came in by. Local IPv6 senders ask the policies before they have a route: 0. (All tried.)
    pub ifindex: u32,
}

/// Why a packet cannot be classified; counted as [`InHdrError`](crate::Counter::InHdrError) or
/// [`FwdHdrError`](crate::Counter::FwdHdrError).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FlowError {
    /// No octets.
    #[error("empty packet")]
    Empty,
    /// Neither IPv4 nor IPv6.
    #[error("IP version {0}")]
    Version(u8),
    /// The packet ends inside a header, or before the length it states.
    #[error("packet of {len} octets ends before octet {needed}")]
    Truncated {
        /// Octets there are.
        len: usize,
        /// Octets there must be at least.
        needed: usize,
    },
    /// A length field is smaller than what it must include.
    #[error("length field of {0} is impossible")]
    Length(usize),
    /// More IPv6 extension headers than anyone sends.
    #[error("more than {} IPv6 extension headers", MAX_EXTENSION_HEADERS)]
    TooManyHeaders,
}

/// More than the kernel's flow dissector would follow in practice; a bound on the work per packet.
const MAX_EXTENSION_HEADERS: usize = 16;

const HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const GRE: u8 = 47;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;
const SCTP: u8 = 132;
const MOBILITY: u8 = 135;
const UDP_LITE: u8 = 136;

impl Flow {
    /// A flow between two hosts: no ports, mark 0, no device.
    pub fn new(src: IpAddr, dst: IpAddr, protocol: u8) -> Flow {
        Flow {
            src,
            dst,
            protocol,
            sport: 0,
            dport: 0,
            mark: 0,
            ifindex: 0,
        }
    }

    /// The address family, that of `src`.
    pub fn family(&self) -> Family {
        Family::of(self.src)
    }

    /// Reads addresses, protocol and ports from an IP packet; mark and device are left 0.
    ///
    /// The ports of fragments are 0, also those of a first fragment, as where the kernel forwards (K2). Octets beyond
    /// the packet's stated length are ignored.
    ///
    /// # Errors
    ///
    /// If the headers cannot be read in full. Unlike the kernel, which takes the ports of a packet that ends within
    /// its transport header for 0, such a packet is refused.
    pub fn from_packet(packet: &[u8]) -> Result<Flow, FlowError> {
        match packet.first() {
            None => Err(FlowError::Empty),
            Some(first) => match first >> 4 {
                4 => Flow::from_ipv4(packet),
                6 => Flow::from_ipv6(packet),
                version => Err(FlowError::Version(version)),
            },
        }
    }

    /// The flow of the packet that an ICMP error quotes, *reversed*: from where that packet was to go to where it came
    /// from, which is the direction in which the error travels (K9). `None` if the packet is no ICMP error of the
    /// kinds that the kernel considers: unreachable, too big, time exceeded.
    pub fn quoted_in(packet: &[u8]) -> Option<Flow> {
        let error = Flow::from_packet(packet).ok()?;
        let transport = match (error.src, error.protocol, error.sport) {
            (IpAddr::V4(_), ICMP, 3 | 11) => usize::from(packet.first()? & 0x0f) * 4,
            (IpAddr::V6(_), ICMPV6, 1..=3) => ipv6_transport(packet).ok()?.1?,
            _ => return None,
        };
        let quoted = Flow::from_quotation(packet.get(transport.checked_add(8)?..)?)?;
        let mut reversed = Flow {
            src: quoted.dst,
            dst: quoted.src,
            ..quoted
        };
        if matches!(quoted.protocol, TCP | UDP | UDP_LITE | SCTP) {
            (reversed.sport, reversed.dport) = (quoted.dport, quoted.sport);
        }
        Some(reversed)
    }

    /// A flow from the beginning of a packet: what an ICMP error quotes may end anywhere behind the ports.
    fn from_quotation(quotation: &[u8]) -> Option<Flow> {
        // Let the stated length be what is there.
        let mut copy = quotation.to_vec();
        let len = u16::try_from(copy.len()).ok()?;
        let (length_field, stated) = match copy.first()? >> 4 {
            4 => (2..4, len),
            6 => (4..6, len.checked_sub(40)?),
            _ => return None,
        };
        copy.get_mut(length_field)?
            .copy_from_slice(&stated.to_be_bytes());
        Flow::from_packet(&copy).ok()
    }

    fn from_ipv4(packet: &[u8]) -> Result<Flow, FlowError> {
        let header: &[u8; 20] = array_at(packet, 0)?;
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_len < 20 {
            return Err(FlowError::Length(header_len));
        }
        if total_len < header_len {
            return Err(FlowError::Length(total_len));
        }
        let packet = bytes_at(packet, 0, total_len)?;
        let [a, b, c, d] = *array_at(packet, 12)?;
        let src = Ipv4Addr::new(a, b, c, d).into();
        let [a, b, c, d] = *array_at(packet, 16)?;
        let dst = Ipv4Addr::new(a, b, c, d).into();
        let mut flow = Flow::new(src, dst, header[9]);
        // More-fragments flag or fragment offset.
        let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        if !is_fragment {
            flow.read_ports(packet, header_len)?;
        }
        Ok(flow)
    }

    fn from_ipv6(packet: &[u8]) -> Result<Flow, FlowError> {
        let header: &[u8; 40] = array_at(packet, 0)?;
        let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let packet = bytes_at(packet, 0, 40 + payload_len)?;
        let src: &[u8; 16] = array_at(packet, 8)?;
        let dst: &[u8; 16] = array_at(packet, 24)?;
        let (protocol, transport) = ipv6_transport(packet)?;
        let mut flow = Flow::new(
            Ipv6Addr::from(*src).into(),
            Ipv6Addr::from(*dst).into(),
            protocol,
        );
        if let Some(transport) = transport {
            flow.read_ports(packet, transport)?;
        }
        Ok(flow)
    }

    fn read_ports(&mut self, packet: &[u8], offset: usize) -> Result<(), FlowError> {
        match self.protocol {
            TCP | UDP | UDP_LITE | SCTP => {
                let [a, b, c, d] = *array_at(packet, offset)?;
                self.sport = u16::from_be_bytes([a, b]);
                self.dport = u16::from_be_bytes([c, d]);
            }
            ICMP | ICMPV6 => {
                let [kind, code] = *array_at(packet, offset)?;
                self.sport = kind.into();
                self.dport = code.into();
            }
            MOBILITY => {
                let [_, _, kind] = *array_at(packet, offset)?;
                self.sport = kind.into();
            }
            GRE => {
                let [flags, version, _, _] = *array_at(packet, offset)?;
                let has_checksum = flags & 0x80 != 0;
                let has_routing = flags & 0x40 != 0;
                let has_key = flags & 0x20 != 0;
                // RFC 2890. Versions other than 0 (PPTP) and source routing are not looked into.
                if has_key && !has_routing && version & 0x07 == 0 {
                    let key = offset + if has_checksum { 8 } else { 4 };
                    let [a, b, c, d] = *array_at(packet, key)?;
                    self.sport = u16::from_be_bytes([a, b]);
                    self.dport = u16::from_be_bytes([c, d]);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Walks the extension headers of an IPv6 packet: the protocol behind them and where its header begins, `None` in a
/// fragment.
fn ipv6_transport(packet: &[u8]) -> Result<(u8, Option<usize>), FlowError> {
    let header: &[u8; 40] = array_at(packet, 0)?;
    let mut protocol = header[6];
    let mut offset = 40;
    for _ in 0..=MAX_EXTENSION_HEADERS {
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let [next, units] = *array_at(packet, offset)?;
                let len = (usize::from(units) + 1) * 8;
                bytes_at(packet, offset, len)?;
                protocol = next;
                offset += len;
            }
            FRAGMENT => {
                let fragment: &[u8; 8] = array_at(packet, offset)?;
                return Ok((fragment[0], None));
            }
            _ => return Ok((protocol, Some(offset))),
        }
    }
    Err(FlowError::TooManyHeaders)
}

fn bytes_at(packet: &[u8], offset: usize, len: usize) -> Result<&[u8], FlowError> {
    let needed = offset.saturating_add(len);
    packet.get(offset..needed).ok_or(FlowError::Truncated {
        len: packet.len(),
        needed,
    })
}

fn array_at<const N: usize>(packet: &[u8], offset: usize) -> Result<&[u8; N], FlowError> {
    bytes_at(packet, offset, N)?
        .first_chunk()
        .ok_or(FlowError::Truncated {
            len: packet.len(),
            needed: offset.saturating_add(N),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend([192, 0, 2, 1, 198, 51, 100, 2]);
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet.extend(payload);
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet
    }

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        packet.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(payload);
        packet
    }

    fn key(packet: &[u8]) -> (u8, u16, u16) {
        let flow = Flow::from_packet(packet).unwrap();
        (flow.protocol, flow.sport, flow.dport)
    }

    const PORTS: [u8; 8] = [0x01, 0xf4, 0x11, 0x94, 0, 8, 0, 0];

    #[test]
    fn ports_types_and_keys() {
        let flow = Flow::from_packet(&ipv4(UDP, 0, &PORTS)).unwrap();
        assert_eq!(flow.src, "192.0.2.1".parse::<IpAddr>().unwrap());
        assert_eq!(flow.dst, "198.51.100.2".parse::<IpAddr>().unwrap());
        assert_eq!((flow.protocol, flow.sport, flow.dport), (17, 500, 4500));
        assert_eq!((flow.mark, flow.ifindex), (0, 0));
        assert_eq!(key(&ipv6(TCP, &PORTS)), (6, 500, 4500));
        assert_eq!(key(&ipv4(ICMP, 0, &[8, 0, 0, 0])), (1, 8, 0));
        assert_eq!(key(&ipv6(ICMPV6, &[1, 4, 0, 0])), (58, 1, 4));
        assert_eq!(key(&ipv6(MOBILITY, &[59, 0, 5, 0])), (135, 5, 0));
        // RFC 2890: a key, behind a checksum too.
        assert_eq!(key(&ipv4(GRE, 0, &[0x20, 0, 8, 0, 0, 1, 0, 2])), (47, 1, 2));
        let with_checksum = [0xa0, 0, 8, 0, 9, 9, 9, 9, 0, 1, 0, 2];
        assert_eq!(key(&ipv4(GRE, 0, &with_checksum)), (47, 1, 2));
        assert_eq!(key(&ipv4(GRE, 0, &[0, 0, 8, 0])), (47, 0, 0));
        // What has no ports may end where it likes.
        assert_eq!(key(&ipv4(50, 0, &[])), (50, 0, 0));
    }

    #[test]
    fn fragments_have_no_ports() {
        assert_eq!(key(&ipv4(UDP, 0x2000, &PORTS)), (17, 0, 0), "the first");
        assert_eq!(key(&ipv4(UDP, 0x0001, &PORTS)), (17, 0, 0), "the last");
        assert_eq!(
            key(&ipv4(UDP, 0x4000, &PORTS)),
            (17, 500, 4500),
            "unfragmented, DF set"
        );
        let first = [&[UDP, 0, 0, 1, 0, 0, 0, 7][..], &PORTS].concat();
        assert_eq!(key(&ipv6(FRAGMENT, &first)), (17, 0, 0));
    }

    #[test]
    fn ipv6_extension_headers_are_walked() {
        let mut payload = vec![DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0];
        payload.extend([UDP, 1, 1, 4, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0]);
        payload.extend(PORTS);
        assert_eq!(key(&ipv6(HOP_BY_HOP, &payload)), (17, 500, 4500));

        let endless = [HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0].repeat(40);
        let error = Flow::from_packet(&ipv6(HOP_BY_HOP, &endless));
        assert_eq!(error, Err(FlowError::TooManyHeaders));
    }

    #[test]
    fn what_ends_too_early_is_refused() {
        for packet in [
            ipv4(UDP, 0, &PORTS),
            ipv4(ICMP, 0, &[8, 0]),
            ipv6(UDP, &PORTS),
            ipv6(
                HOP_BY_HOP,
                &[&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &PORTS].concat(),
            ),
        ] {
            assert!(Flow::from_packet(&packet).is_ok());
            for len in 0..packet.len() {
                assert!(
                    Flow::from_packet(&packet[..len]).is_err(),
                    "{len} of {packet:x?}"
                );
            }
            let padded = [&packet[..], &[0; 6]].concat();
            assert_eq!(Flow::from_packet(&padded), Flow::from_packet(&packet));
        }
        assert_eq!(Flow::from_packet(&[0x25]), Err(FlowError::Version(2)));
        // Consistent in length but too short for ports.
        assert!(Flow::from_packet(&ipv4(UDP, 0, &[1, 2, 3])).is_err());
        let mut packet = ipv4(UDP, 0, &PORTS);
        packet[0] = 0x44;
        assert_eq!(Flow::from_packet(&packet), Err(FlowError::Length(16)));
    }

    #[test]
    fn icmp_errors_quote_the_packet_they_are_about() {
        // Quoted: 192.0.2.1 port 500 to 198.51.100.2 port 4500, cut behind the ports.
        let about = ipv4(UDP, 0, &[&PORTS[..], &[0; 100]].concat());
        let error = ipv4(ICMP, 0, &[&[3, 1, 0, 0, 0, 0, 0, 0], &about[..28]].concat());
        let quoted = Flow::quoted_in(&error).unwrap();
        assert_eq!(quoted.src, "198.51.100.2".parse::<IpAddr>().unwrap());
        assert_eq!(
            (quoted.protocol, quoted.sport, quoted.dport),
            (17, 4500, 500)
        );

        let about = ipv6(TCP, &PORTS);
        let error = ipv6(ICMPV6, &[&[2, 0, 0, 0, 0, 0, 5, 0], &about[..]].concat());
        let quoted = Flow::quoted_in(&error).unwrap();
        assert_eq!((quoted.sport, quoted.dport), (4500, 500));
        assert_eq!(quoted.dst, "2001:db8::1".parse::<IpAddr>().unwrap());

        assert_eq!(
            Flow::quoted_in(&ipv4(ICMP, 0, &[8, 0, 0, 0, 0, 0, 0, 0])),
            None
        );
        assert_eq!(Flow::quoted_in(&ipv4(UDP, 0, &PORTS)), None);
    }

    /// Whatever the octets are: no panic, and what is read is what stands there.
    #[test]
    fn fuzz_from_packet() {
        bolero::check!()
            .with_test_time(std::time::Duration::from_secs(1))
            .for_each(|input: &[u8]| {
                let _ = Flow::quoted_in(input);
                let Ok(flow) = Flow::from_packet(input) else {
                    return;
                };
                assert_eq!(flow.src.is_ipv4(), input[0] >> 4 == 4);
                assert_eq!(flow.src.is_ipv4(), flow.dst.is_ipv4());
                let at = if flow.src.is_ipv4() { 12..16 } else { 8..24 };
                let src = match flow.src {
                    IpAddr::V4(src) => src.octets().to_vec(),
                    IpAddr::V6(src) => src.octets().to_vec(),
                };
                assert_eq!(src, input[at]);
            });
    }

    /// The same, but past the first checks: proper headers before whatever octets.
    #[test]
    fn fuzz_behind_a_header() {
        bolero::check!()
            .with_test_time(std::time::Duration::from_secs(1))
            .for_each(|input: &[u8]| {
                let Some((&next, payload)) = input.split_first() else {
                    return;
                };
                for packet in [ipv4(next, 0, payload), ipv6(next, payload)] {
                    let _ = Flow::from_packet(&packet);
                    let _ = Flow::quoted_in(&packet);
                    let error = [&[3, 0, 0, 0, 0, 0, 0, 0], &packet[..]].concat();
                    let _ = Flow::quoted_in(&ipv4(ICMP, 0, &error));
                    let _ = Flow::quoted_in(&ipv6(ICMPV6, &error));
                }
            });
    }
}
