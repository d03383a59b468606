//! How many IKE SAs are half open, in all and by source (RFC 7296 §2.6).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Counts of IKE SAs that peers have begun and not yet finished.
#[derive(Debug, Default)]
pub(crate) struct HalfOpen {
    pub(crate) total: usize,
    /// Those that got an IKE_AUTH request which their keys do not open.
    pub(crate) spoilt: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// What counts as one source: an IPv4 address, or an IPv6 network of 64 bits, since whoever has one address of that has
/// them all (RFC 4291 §2.5.1) and could return a cookie from each.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

impl HalfOpen {
    /// How many are of the source of an address.
    pub(crate) fn of(&self, address: IpAddr) -> usize {
        let count = self.by_source.get(&source(address));
        count.copied().unwrap_or_default()
    }

    /// One more of an address.
    pub(crate) fn add(&mut self, address: IpAddr) {
        self.total = self.total.saturating_add(1);
        let count = self.by_source.entry(source(address)).or_default();
        *count = count.saturating_add(1);
    }

    /// One less of an address.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.by_source.get_mut(&source(address)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_source.remove(&source(address));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut half_open = HalfOpen::default();
        for text in [
            "2001:db8::1",
            "2001:db8::ffff:1",
            "2001:db8:0:1::1",
            "192.0.2.1",
            "192.0.2.2",
        ] {
            half_open.add(address(text));
        }
        assert_eq!(half_open.total, 5);
        assert_eq!(half_open.of(address("2001:db8::77")), 2);
        assert_eq!(half_open.of(address("2001:db8:0:1::")), 1);
        assert_eq!(half_open.of(address("192.0.2.1")), 1);
        half_open.remove(address("2001:db8::1"));
        half_open.remove(address("2001:db8::ffff:1"));
        assert_eq!(half_open.of(address("2001:db8::77")), 0);
        assert_eq!((half_open.total, half_open.by_source.len()), (3, 3));
    }
}
