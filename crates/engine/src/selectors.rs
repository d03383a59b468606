//! From traffic selectors (address and port ranges, RFC 7296 section 3.13.1)
//! to the selectors of the databases (prefixes and port masks), and from those
//! to a priority.

use cygnet_ipsec::{PortMatch, Selector, masks_of_port_range, prefixes_of_range};
use cygnet_wire::TrafficSelector;

/// The most database selectors one child SA may expand to. A range of
/// addresses can need 2·(width−1) prefixes and a range of ports 30 masks;
/// without a bound, a peer could have us install millions of policies.
pub const MAX_SELECTORS: usize = 256;

/// The selectors of a child SA are too many for the databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the traffic selectors expand to more than {MAX_SELECTORS} policies")]
pub struct TooManySelectors;

/// Outbound database selectors for every pair of our and the peer's traffic
/// selectors of the same family whose protocols go together.
///
/// ICMP types and codes stand in the port fields as RFC 7296 puts them (type in
/// the high octet, code in the low) and are moved to where the kernel wants
/// them: type to the source port, code to the destination port (K2).
///
/// # Errors
/// [`TooManySelectors`] if there would be more than [`MAX_SELECTORS`].
pub fn outbound_selectors(
    local: &[TrafficSelector],
    remote: &[TrafficSelector],
) -> Result<Vec<Selector>, TooManySelectors> {
    let mut out = Vec::new();
    for l in local {
        for r in remote {
            let Some(protocol) = common_protocol(l.protocol, r.protocol) else {
                continue;
            };
            if l.start.is_ipv4() != r.start.is_ipv4() {
                continue;
            }
            let sources = prefixes_of_range(l.start, l.end);
            let destinations = prefixes_of_range(r.start, r.end);
            let ports = port_pairs(protocol, l, r);
            let count = sources
                .len()
                .saturating_mul(destinations.len())
                .saturating_mul(ports.len());
            if out.len().saturating_add(count) > MAX_SELECTORS {
                return Err(TooManySelectors);
            }
            for &src in &sources {
                for &dst in &destinations {
                    for &(sport, dport) in &ports {
                        let mut selector = Selector::new(src, dst);
                        selector.protocol = protocol;
                        selector.sport = sport;
                        selector.dport = dport;
                        if !out.contains(&selector) {
                            out.push(selector);
                        }
                    }
                }
            }
        }
    }
    Ok(out)
}

/// The protocol that both select, 0 if both select all.
fn common_protocol(a: u8, b: u8) -> Option<u8> {
    match (a, b) {
        (0, p) | (p, 0) => Some(p),
        (a, b) if a == b => Some(a),
        _ => None,
    }
}

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

fn port_pairs(
    protocol: u8,
    l: &TrafficSelector,
    r: &TrafficSelector,
) -> Vec<(PortMatch, PortMatch)> {
    if protocol == ICMP || protocol == ICMPV6 {
        // Either end may carry the type and code; the narrower one says more.
        let (start, end) = if l.end_port - l.start_port.min(l.end_port)
            <= r.end_port - r.start_port.min(r.end_port)
        {
            (l.start_port, l.end_port)
        } else {
            (r.start_port, r.end_port)
        };
        if (start, end) == (0, u16::MAX) || start > end {
            return vec![(PortMatch::ANY, PortMatch::ANY)];
        }
        let (first_type, last_type) = (start >> 8, end >> 8);
        let types = masks_of_port_range(first_type, last_type);
        let codes = if first_type == last_type && (start & 0xff, end & 0xff) != (0, 0xff) {
            masks_of_port_range(start & 0xff, end & 0xff)
        } else {
            vec![PortMatch::ANY]
        };
        return types
            .iter()
            .flat_map(|&t| codes.iter().map(move |&c| (t, c)))
            .collect();
    }
    let masks = |ts: &TrafficSelector| match (ts.start_port, ts.end_port) {
        // OPAQUE: packets without ports (RFC 4301 section 4.4.1.1), which the kernel shows as port 0 (K2).
        (u16::MAX, 0) => vec![PortMatch {
            port: 0,
            mask: u16::MAX,
        }],
        (start, end) => masks_of_port_range(start, end),
    };
    let (sports, dports) = (masks(l), masks(r));
    sports
        .iter()
        .flat_map(|&s| dports.iter().map(move |&d| (s, d)))
        .collect()
}

/// A traffic selector as people write it: a prefix where it is one, then
/// protocol and ports as in `leftsubnet`.
pub fn describe(ts: &TrafficSelector) -> String {
    let addresses = match prefixes_of_range(ts.start, ts.end).as_slice() {
        [one] => one.to_string(),
        _ => format!("{}-{}", ts.start, ts.end),
    };
    match (ts.protocol, ts.start_port, ts.end_port) {
        (0, 0, u16::MAX) => addresses,
        (protocol, 0, u16::MAX) => format!("{addresses}/{protocol}"),
        (protocol, u16::MAX, 0) => format!("{addresses}/{protocol}/opaque"),
        (protocol, port, last) if port == last => format!("{addresses}/{protocol}/{port}"),
        (protocol, first, last) => format!("{addresses}/{protocol}/{first}-{last}"),
    }
}

/// What a policy is for; decides which of two overlapping ones is stronger
/// before their selectors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriorityClass {
    /// Passthrough and drop connections.
    Shunt,
    /// Traps and child SAs.
    Protect,
}

/// Size of a class: larger than the sum of all that specificity can take off.
const CLASS_SIZE: u32 = 200_000;

/// Priority of a policy in the kernel's sense: the smaller number wins.
///
/// The kernel does not prefer the more specific selector (K2), so the priority
/// has to: first longer prefixes, then a protocol, then ports. The scale is
/// the one that users of strongSwan know.
pub fn priority(selector: &Selector, class: PriorityClass) -> u32 {
    let base = match class {
        PriorityClass::Shunt => CLASS_SIZE,
        PriorityClass::Protect => 2 * CLASS_SIZE,
    };
    let prefixes = u32::from(selector.src.prefix_len()) + u32::from(selector.dst.prefix_len());
    let port_bits = selector.sport.mask.count_ones() + selector.dport.mask.count_ones();
    base - prefixes * 512 - u32::from(selector.protocol != 0) * 256 - port_bits * 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;
    use proptest::prelude::*;

    fn ts(protocol: u8, start: &str, end: &str, ports: (u16, u16)) -> TrafficSelector {
        TrafficSelector {
            protocol,
            start_port: ports.0,
            end_port: ports.1,
            start: start.parse().unwrap(),
            end: end.parse().unwrap(),
        }
    }

    #[test]
    fn every_pair_of_one_family_becomes_a_policy() {
        let local = [
            ts(0, "10.1.0.0", "10.1.0.255", (0, 65535)),
            ts(
                0,
                "2001:db8:1::",
                "2001:db8:1::ffff:ffff:ffff:ffff",
                (0, 65535),
            ),
        ];
        let remote = [
            ts(0, "10.2.0.0", "10.2.0.255", (0, 65535)),
            ts(0, "10.3.0.0", "10.3.0.255", (0, 65535)),
            ts(
                0,
                "2001:db8:2::",
                "2001:db8:2::ffff:ffff:ffff:ffff",
                (0, 65535),
            ),
        ];
        let selectors = outbound_selectors(&local, &remote).unwrap();
        let text: Vec<_> = selectors
            .iter()
            .map(|s| format!("{} {}", s.src, s.dst))
            .collect();
        assert_eq!(
            text,
            [
                "10.1.0.0/24 10.2.0.0/24",
                "10.1.0.0/24 10.3.0.0/24",
                "2001:db8:1::/64 2001:db8:2::/64"
            ]
        );
    }

    #[test]
    fn icmp_type_and_code_go_where_the_kernel_looks() {
        // Type 8, any code.
        let local = [ts(1, "10.1.0.1", "10.1.0.1", (0x0800, 0x08ff))];
        let remote = [ts(1, "10.2.0.1", "10.2.0.1", (0, 65535))];
        let s = &outbound_selectors(&local, &remote).unwrap()[0];
        assert_eq!(
            (s.protocol, s.sport.port, s.sport.mask, s.dport.mask),
            (1, 8, 0xffff, 0)
        );
        // Type 3, code 4.
        let local = [ts(1, "10.1.0.1", "10.1.0.1", (0x0304, 0x0304))];
        let s = &outbound_selectors(&local, &remote).unwrap()[0];
        assert_eq!((s.sport.port, s.dport.port, s.dport.mask), (3, 4, 0xffff));
    }

    #[test]
    fn selectors_read_as_they_are_written() {
        let text = |protocol, start, end, ports| describe(&ts(protocol, start, end, ports));
        assert_eq!(text(0, "10.1.0.0", "10.1.0.255", (0, 65535)), "10.1.0.0/24");
        assert_eq!(text(0, "10.1.0.1", "10.1.0.1", (0, 65535)), "10.1.0.1/32");
        assert_eq!(
            text(6, "10.1.0.0", "10.1.0.255", (80, 80)),
            "10.1.0.0/24/6/80"
        );
        assert_eq!(
            text(17, "2001:db8::", "2001:db8::2", (1, 9)),
            "2001:db8::-2001:db8::2/17/1-9"
        );
        assert_eq!(
            text(17, "10.0.0.1", "10.0.0.1", (65535, 0)),
            "10.0.0.1/32/17/opaque"
        );
    }

    #[test]
    fn disjoint_protocols_select_nothing() {
        let local = [ts(6, "10.1.0.1", "10.1.0.1", (0, 65535))];
        let remote = [ts(17, "10.2.0.1", "10.2.0.1", (0, 65535))];
        assert!(outbound_selectors(&local, &remote).unwrap().is_empty());
    }

    #[test]
    fn a_peer_cannot_make_us_install_thousands() {
        let awkward = [ts(6, "10.0.0.1", "10.255.255.254", (1, 65534))];
        assert_eq!(
            outbound_selectors(&awkward, &awkward),
            Err(TooManySelectors)
        );
    }

    #[test]
    fn priorities_are_those_of_two_slash_24() {
        let s = Selector::new(
            "10.1.0.0/24".parse().unwrap(),
            "10.2.0.0/24".parse().unwrap(),
        );
        assert_eq!(priority(&s, PriorityClass::Protect), 375_424);
        assert!(priority(&s, PriorityClass::Shunt) < priority(&s, PriorityClass::Protect));
    }

    proptest! {
        #[test]
        fn the_more_specific_is_the_stronger(a in 0u8..=128, b in 0u8..=128, c in 0u8..=128, d in 0u8..=128) {
            let net = |len| IpNet::new("::".parse().unwrap(), len).unwrap();
            let wide = Selector::new(net(a.min(c)), net(b.min(d)));
            let narrow = Selector::new(net(a.max(c)), net(b.max(d)));
            for class in [PriorityClass::Shunt, PriorityClass::Protect] {
                prop_assert!(priority(&narrow, class) <= priority(&wide, class));
            }
        }
    }
}
