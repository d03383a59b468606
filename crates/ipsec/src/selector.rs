//! Selectors: which packets a policy or an SA is for (RFC 4301 §4.4.1.1; K2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{Family, Flow};

/// A port under a mask: accepts port `p` if `(p ^ port) & mask == 0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PortMatch {
    /// The port; for ICMP the type (source) or the code (destination); for GRE one half of the key.
    pub port: u16,
    /// Which bits of it count.
    pub mask: u16,
}

impl PortMatch {
    /// Accepts every port.
    pub const ANY: PortMatch = PortMatch { port: 0, mask: 0 };

    /// Accepts this port only.
    pub const fn exact(port: u16) -> PortMatch {
        PortMatch {
            port,
            mask: u16::MAX,
        }
    }
}

/// Which packets are meant, as XFRM says it: prefixes, a protocol, ports under masks, a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// Source prefix. Host bits are kept, as they count in [`PolicyKey`](crate::PolicyKey), and are not matched.
    pub src: IpNet,
    /// Destination prefix, of the same family as `src`.
    pub dst: IpNet,
    /// IP protocol number, 0 for any.
    pub protocol: u8,
    /// Source port, or ICMP type.
    pub sport: PortMatch,
    /// Destination port, or ICMP code.
    pub dport: PortMatch,
    /// Device: the output device outbound, the input device inbound; 0 for any.
    pub ifindex: u32,
    /// User id; stored and compared by the kernel as part of a policy's key, never matched.
    pub user: u32,
}

impl Selector {
    /// All packets between two prefixes.
    pub fn new(src: IpNet, dst: IpNet) -> Selector {
        Selector {
            src,
            dst,
            protocol: 0,
            sport: PortMatch::ANY,
            dport: PortMatch::ANY,
            ifindex: 0,
            user: 0,
        }
    }

    /// All packets of one family.
    pub fn any(family: Family) -> Selector {
        let all = match family {
            Family::V4 => IpNet::V4(Ipv4Net::default()),
            Family::V6 => IpNet::V6(Ipv6Net::default()),
        };
        Selector::new(all, all)
    }

    /// The packets that look like this one: what an ACQUIRE carries (K13).
    pub fn of_flow(flow: &Flow) -> Selector {
        Selector {
            src: IpNet::from(flow.src),
            dst: IpNet::from(flow.dst),
            protocol: flow.protocol,
            sport: PortMatch::exact(flow.sport),
            dport: PortMatch::exact(flow.dport),
            ifindex: flow.ifindex,
            user: 0,
        }
    }

    /// The family, that of `src`.
    pub fn family(&self) -> Family {
        Family::of(self.src.addr())
    }

    /// Whether both prefixes are of one family. A store refuses a selector for which this does not hold.
    pub fn is_consistent(&self) -> bool {
        self.family() == Family::of(self.dst.addr())
    }
}

/// The fewest prefixes that cover exactly the addresses from `start` to `end`, in ascending order. This is how the
/// address range of an IKEv2 traffic selector becomes selectors.
///
/// Empty if the families differ or `start` is greater than `end`. At most 62 prefixes for IPv4 and 254 for IPv6.
pub fn prefixes_of_range(start: IpAddr, end: IpAddr) -> Vec<IpNet> {
    match (start, end) {
        (IpAddr::V4(start), IpAddr::V4(end)) => {
            blocks_of_range(start.to_bits().into(), end.to_bits().into(), 32)
                .filter_map(|(address, length)| {
                    let address = Ipv4Addr::from_bits(u32::try_from(address).ok()?);
                    Ipv4Net::new(address, length).ok().map(IpNet::V4)
                })
                .collect()
        }
        (IpAddr::V6(start), IpAddr::V6(end)) => {
            blocks_of_range(start.to_bits(), end.to_bits(), 128)
                .filter_map(|(address, length)| {
                    Ipv6Net::new(Ipv6Addr::from_bits(address), length)
                        .ok()
                        .map(IpNet::V6)
                })
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The fewest masked ports that cover exactly the ports from `start` to `end`, in ascending order; the full range is
/// [`PortMatch::ANY`]. Empty if `start` is greater than `end`; at most 30 of them.
pub fn masks_of_port_range(start: u16, end: u16) -> Vec<PortMatch> {
    blocks_of_range(start.into(), end.into(), 16)
        .filter_map(|(port, length)| {
            let host_bits = 16 - u32::from(length);
            let mask = u16::MAX.checked_shl(host_bits).unwrap_or(0);
            Some(PortMatch {
                port: u16::try_from(port).ok()?,
                mask,
            })
        })
        .collect()
}

/// Splits a range of `width`-bit numbers into maximal aligned blocks, each as its first number and prefix length.
fn blocks_of_range(start: u128, end: u128, width: u8) -> impl Iterator<Item = (u128, u8)> {
    let mut next = (start <= end).then_some(start);
    std::iter::from_fn(move || {
        let first = next?;
        // The largest block that begins here is limited by the alignment of `first` and by what is left of the range.
        // `left` is one less than the count, which may be 2^128.
        let left = end - first;
        let aligned = first.trailing_zeros().min(width.into());
        let fitting = if left == u128::MAX {
            128
        } else {
            (left + 1).ilog2()
        };
        let host_bits = aligned.min(fitting);
        let last = first
            | 1u128
                .checked_shl(host_bits)
                .map_or(u128::MAX, |size| size - 1);
        next = if last < end { Some(last + 1) } else { None };
        Some((first, width - host_bits as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> Vec<String> {
        prefixes_of_range(start.parse().unwrap(), end.parse().unwrap())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn ranges_become_the_fewest_prefixes() {
        assert_eq!(range("0.0.0.0", "255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(
            range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ["::/0"]
        );
        assert_eq!(range("10.0.0.0", "10.0.0.255"), ["10.0.0.0/24"]);
        assert_eq!(
            range("10.0.0.1", "10.0.0.6"),
            ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"]
        );
        assert_eq!(range("2001:db8::1", "2001:db8::1"), ["2001:db8::1/128"]);
        assert_eq!(range("0.0.0.1", "255.255.255.254").len(), 62);
        assert_eq!(
            range("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe").len(),
            254
        );
        assert_eq!(range("10.0.0.2", "10.0.0.1"), [""; 0]);
        assert_eq!(range("10.0.0.2", "::1"), [""; 0]);
    }

    #[test]
    fn port_ranges_become_masks_that_accept_just_them() {
        assert_eq!(masks_of_port_range(0, u16::MAX), [PortMatch::ANY]);
        assert_eq!(masks_of_port_range(80, 80), [PortMatch::exact(80)]);
        assert_eq!(masks_of_port_range(1, 0), []);
        for (start, end) in [
            (0, 0),
            (1, 65534),
            (1024, 65535),
            (500, 4500),
            (0, 1023),
            (137, 139),
        ] {
            let matches = masks_of_port_range(start, end);
            assert!(matches.len() <= 30);
            for port in 0..=u16::MAX {
                let accepted = matches
                    .iter()
                    .filter(|m| (port ^ m.port) & m.mask == 0)
                    .count();
                assert_eq!(
                    accepted,
                    usize::from((start..=end).contains(&port)),
                    "{port}"
                );
            }
        }
    }
}
