//! Traffic selectors: templates of the configuration, and narrowing (RFC 7296 §2.9).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cygnet_wire::TrafficSelector;
use ipnet::IpNet;

/// One traffic selector of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TsTemplate {
    /// Which addresses.
    pub addresses: TsAddresses,
    /// IP protocol; 0: any.
    pub protocol: u8,
    /// First and last port. For ICMP, type and code as RFC 4301 §4.4.1.1 packs them; 0 to 65535: any;
    /// 65535 to 0: OPAQUE.
    pub ports: (u16, u16),
}

/// The addresses of a [`TsTemplate`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TsAddresses {
    /// The host itself: its own address or the peer's, known once there is an IKE SA.
    Dynamic,
    /// From the first to the last address, of one family.
    Range(IpAddr, IpAddr),
}

impl TsTemplate {
    /// The host itself, any protocol, any port.
    pub fn dynamic() -> Self {
        Self {
            addresses: TsAddresses::Dynamic,
            protocol: 0,
            ports: (0, u16::MAX),
        }
    }

    /// A prefix, any protocol, any port.
    pub fn prefix(net: IpNet) -> Self {
        let last = match net {
            IpNet::V4(net) => IpAddr::V4(net.broadcast()),
            IpNet::V6(net) => IpAddr::V6(net.broadcast()),
        };
        Self::range(net.network(), last)
    }

    /// A range of addresses, any protocol, any port.
    pub fn range(first: IpAddr, last: IpAddr) -> Self {
        Self {
            addresses: TsAddresses::Range(first, last),
            protocol: 0,
            ports: (0, u16::MAX),
        }
    }

    /// The same for one protocol and range of ports only.
    #[must_use]
    pub fn with_protocol(self, protocol: u8, ports: (u16, u16)) -> Self {
        Self {
            protocol,
            ports,
            ..self
        }
    }

    /// The selector it stands for when the host itself is `own`.
    pub fn resolve(&self, own: IpAddr) -> TrafficSelector {
        let (start, end) = match self.addresses {
            TsAddresses::Dynamic => (own, own),
            TsAddresses::Range(first, last) => (first, last),
        };
        TrafficSelector {
            protocol: self.protocol,
            start_port: self.ports.0,
            end_port: self.ports.1,
            start,
            end,
        }
    }
}

/// The selectors that templates stand for.
pub(crate) fn resolve(templates: &[TsTemplate], own: IpAddr) -> Vec<TrafficSelector> {
    templates
        .iter()
        .map(|template| template.resolve(own))
        .collect()
}

/// Ports as sets: OPAQUE is a value of its own within ANY.
fn intersect_ports(a: (u16, u16), b: (u16, u16)) -> Option<(u16, u16)> {
    const ANY: (u16, u16) = (0, u16::MAX);
    const OPAQUE: (u16, u16) = (u16::MAX, 0);
    match (a, b) {
        (OPAQUE, ANY | OPAQUE) | (ANY, OPAQUE) => Some(OPAQUE),
        (OPAQUE, _) | (_, OPAQUE) => None,
        _ => {
            let (start, end) = (a.0.max(b.0), a.1.min(b.1));
            (start <= end).then_some((start, end))
        }
    }
}

/// What two selectors have in common.
pub(crate) fn intersect(a: &TrafficSelector, b: &TrafficSelector) -> Option<TrafficSelector> {
    let protocol = match (a.protocol, b.protocol) {
        (0, p) | (p, 0) => p,
        (p, q) if p == q => p,
        _ => return None,
    };
    let (start_port, end_port) =
        intersect_ports((a.start_port, a.end_port), (b.start_port, b.end_port))?;
    if a.start.is_ipv4() != b.start.is_ipv4() {
        return None;
    }
    let (start, end) = (a.start.max(b.start), a.end.min(b.end));
    (start <= end).then_some(TrafficSelector {
        protocol,
        start_port,
        end_port,
        start,
        end,
    })
}

/// Whether everything that `inner` selects, `outer` selects too.
pub(crate) fn contains(outer: &TrafficSelector, inner: &TrafficSelector) -> bool {
    intersect(outer, inner).as_ref() == Some(inner)
}

/// Whether everything that `inner` selects is selected by some of `outer` together.
pub(crate) fn covered(inner: &TrafficSelector, outer: &[TrafficSelector]) -> bool {
    // As it nearly always is; the other way takes memory.
    if outer.iter().any(|o| contains(o, inner)) {
        return true;
    }
    // Those that cover its protocol and ports, cut to its addresses, in order of their starts.
    let mut parts: Vec<_> = outer
        .iter()
        .filter_map(|o| intersect(o, inner))
        .filter(|part| {
            part.protocol == inner.protocol
                && part.start_port == inner.start_port
                && part.end_port == inner.end_port
        })
        .collect();
    parts.sort_by_key(|part| part.start);
    let mut next = inner.start;
    for part in parts {
        if part.start > next {
            return false;
        }
        if part.end >= inner.end {
            return true;
        }
        if part.end >= next {
            match successor(part.end) {
                Some(address) => next = address,
                None => return true,
            }
        }
    }
    false
}

/// Whether everything that `inner` selects, `outer` selects too.
pub(crate) fn all_covered(inner: &[TrafficSelector], outer: &[TrafficSelector]) -> bool {
    !inner.is_empty() && inner.iter().all(|selector| covered(selector, outer))
}

fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(a) => a
            .to_bits()
            .checked_add(1)
            .map(|n| Ipv4Addr::from_bits(n).into()),
        IpAddr::V6(a) => a
            .to_bits()
            .checked_add(1)
            .map(|n| Ipv6Addr::from_bits(n).into()),
    }
}

/// The part of `proposed` that `allowed` allows, in the order of `proposed`, without what another part includes.
pub(crate) fn narrow(
    proposed: &[TrafficSelector],
    allowed: &[TrafficSelector],
) -> Vec<TrafficSelector> {
    let mut parts: Vec<TrafficSelector> = Vec::new();
    for p in proposed {
        for a in allowed {
            let Some(part) = intersect(p, a) else {
                continue;
            };
            if parts.iter().any(|known| contains(known, &part)) {
                continue;
            }
            parts.retain(|known| !contains(&part, known));
            parts.push(part);
        }
    }
    // One TS payload has an octet for their number.
    parts.truncate(usize::from(u8::MAX));
    parts
}

/// Whether the selectors are of one single address.
pub(crate) fn single_address(selectors: &[TrafficSelector]) -> bool {
    let mut addresses = selectors.iter().flat_map(|s| [s.start, s.end]);
    match addresses.next() {
        Some(first) => addresses.all(|address| address == first),
        None => false,
    }
}

/// The same selectors with one address in place of whatever they have (RFC 7296 §2.23.1).
pub(crate) fn substitute(selectors: &[TrafficSelector], address: IpAddr) -> Vec<TrafficSelector> {
    selectors
        .iter()
        .map(|s| TrafficSelector {
            start: address,
            end: address,
            ..*s
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> TrafficSelector {
        TsTemplate::prefix(text.parse().unwrap()).resolve(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    fn udp(text: &str, port: u16) -> TrafficSelector {
        TrafficSelector {
            protocol: 17,
            start_port: port,
            end_port: port,
            ..net(text)
        }
    }

    #[test]
    fn the_packet_selector_melts_into_the_net_that_holds_it() {
        let proposed = [udp("198.51.100.43/32", 53), net("198.51.100.0/24")];
        assert_eq!(
            narrow(&proposed, &[net("198.51.100.0/25")]),
            [net("198.51.100.0/25")]
        );
        assert_eq!(
            narrow(&proposed, &[net("0.0.0.0/0")]),
            [net("198.51.100.0/24")]
        );
        assert_eq!(
            narrow(&proposed, &[udp("198.51.100.43/32", 53)]),
            [udp("198.51.100.43/32", 53)]
        );
        assert!(narrow(&proposed, &[net("2001:db8::/32"), net("10.0.0.0/8")]).is_empty());
    }

    #[test]
    fn parts_cover_together() {
        let halves = [net("10.0.1.0/25"), net("10.0.1.128/25")];
        assert!(covered(&net("10.0.1.0/24"), &halves));
        assert!(!covered(
            &net("10.0.1.0/24"),
            &[net("10.0.1.0/25"), udp("10.0.1.128/25", 1)]
        ));
        assert!(covered(&udp("10.0.1.0/24", 1), &halves));
        assert!(covered(&net("255.255.255.0/24"), &[net("0.0.0.0/0")]));
        assert!(!all_covered(&[], &halves));
    }

    #[test]
    fn opaque_ports_are_within_any_only() {
        let opaque = TrafficSelector {
            start_port: u16::MAX,
            end_port: 0,
            ..udp("10.0.0.0/8", 0)
        };
        assert!(contains(&net("10.0.0.0/8"), &opaque));
        assert!(!contains(&opaque, &net("10.0.0.0/8")));
        assert_eq!(intersect(&opaque, &udp("10.0.0.0/8", 53)), None);
        assert_eq!(intersect(&opaque, &opaque), Some(opaque));
    }

    #[test]
    fn dynamic_is_the_host() {
        let host: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(TsTemplate::dynamic().resolve(host), net("192.0.2.7/32"));
        assert!(single_address(&[
            udp("192.0.2.7/32", 1),
            udp("192.0.2.7/32", 2)
        ]));
        assert!(!single_address(&[net("192.0.2.6/31")]));
    }

    fn any_selector() -> impl Strategy<Value = TrafficSelector> {
        (0..4_u8, 0..4_u16, 0..4_u16, 0..16_u32, 0..16_u32).prop_map(|(protocol, p, q, a, b)| {
            TrafficSelector {
                protocol,
                start_port: p.min(q),
                end_port: p.max(q),
                start: Ipv4Addr::from_bits(a.min(b)).into(),
                end: Ipv4Addr::from_bits(a.max(b)).into(),
            }
        })
    }

    /// Every packet of the small world in which [`any_selector`] lives.
    fn packets() -> impl Iterator<Item = (u8, u16, IpAddr)> {
        (1..4_u8).flat_map(|protocol| {
            (0..4_u16).flat_map(move |port| {
                (0..16_u32).map(move |a| (protocol, port, Ipv4Addr::from_bits(a).into()))
            })
        })
    }

    fn selects(s: &TrafficSelector, (protocol, port, address): (u8, u16, IpAddr)) -> bool {
        (s.protocol == 0 || s.protocol == protocol)
            && (s.start_port..=s.end_port).contains(&port)
            && (s.start..=s.end).contains(&address)
    }

    proptest! {
        #[test]
        fn narrowing_selects_what_both_select(
            proposed in proptest::collection::vec(any_selector(), 1..4),
            allowed in proptest::collection::vec(any_selector(), 1..4),
        ) {
            let narrowed = narrow(&proposed, &allowed);
            for packet in packets() {
                let both = proposed.iter().any(|s| selects(s, packet))
                    && allowed.iter().any(|s| selects(s, packet));
                prop_assert_eq!(narrowed.iter().any(|s| selects(s, packet)), both);
            }
            if !narrowed.is_empty() {
                prop_assert!(all_covered(&narrowed, &proposed));
                prop_assert!(all_covered(&narrowed, &allowed));
            }
        }

        #[test]
        fn covering_is_never_claimed_wrongly(
            inner in any_selector(),
            outer in proptest::collection::vec(any_selector(), 1..4),
        ) {
            if covered(&inner, &outer) {
                for packet in packets().filter(|p| selects(&inner, *p)) {
                    prop_assert!(outer.iter().any(|s| selects(s, packet)));
                }
            }
        }
    }
}
