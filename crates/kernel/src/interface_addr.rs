//! S3.3: addresses of interfaces, for `left=%eth1`, for listening and for choosing preferred sources.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::netlink::RequestError;

/// How far an address is valid (`rtm_scope`, the values of `/etc/iproute2/rt_scopes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(pub u8);

impl Scope {
    /// Valid everywhere.
    pub const GLOBAL: Self = Self(0);
    /// Valid on this link only.
    pub const LINK: Self = Self(253);
    /// Valid in this host only.
    pub const HOST: Self = Self(254);
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddr {
    /// Index of the interface.
    pub ifindex: u32,
    /// The address with the prefix length of its network.
    pub address: IpNet,
    /// The other end of a point-to-point address.
    pub peer: Option<IpAddr>,
    /// Its scope.
    pub scope: Scope,
    /// Duplicate address detection is not done yet (`IFA_F_TENTATIVE` without `IFA_F_OPTIMISTIC`).
    pub tentative: bool,
    /// Duplicate address detection found another owner (`IFA_F_DADFAILED`).
    pub duplicate: bool,
    /// Not to be used for new conversations (`IFA_F_DEPRECATED`).
    pub deprecated: bool,
    /// A privacy address that will change (`IFA_F_TEMPORARY` on IPv6); on IPv4 the bit means "secondary".
    pub secondary: bool,
    /// Who put it there (`IFA_PROTO`, Linux 5.18): 0 unknown, 1–3 the kernel, [`crate::OWNER_PROTOCOL`] us.
    pub protocol: u8,
}

impl InterfaceAddr {
    /// Whether a socket can be bound to it now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.tentative && !self.duplicate
    }

    /// Whether we put it there.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.protocol == crate::OWNER_PROTOCOL
    }
}

/// Reading the interfaces' addresses.
pub trait InterfaceAddrs {
    /// All addresses of all interfaces, in the kernel's order.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn addresses(&mut self) -> Result<Vec<InterfaceAddr>, RequestError>;

    /// The addresses of one interface, by name.
    ///
    /// # Errors
    /// [`RequestError::NotFound`] if there is no such interface.
    fn addresses_of(&mut self, device: &str) -> Result<Vec<InterfaceAddr>, RequestError>;
}

/// The address to use as source for packets of a protected network: one of ours that lies in `local`.
///
/// Usable ones alone; wide scope before narrow, not deprecated before deprecated, primary before secondary, then the lowest
/// interface, then the first in the kernel's order.
/// An address of scope link is never chosen: it would need an interface to mean anything.
#[must_use]
pub fn source_within(addresses: &[InterfaceAddr], local: &IpNet) -> Option<IpAddr> {
    addresses
        .iter()
        .filter(|a| a.is_usable() && a.scope != Scope::LINK)
        .filter(|a| local.contains(&a.address.addr()))
        // 127.0.0.1 lies in 0.0.0.0/0, but nobody outside can answer to it.
        .filter(|a| !a.address.addr().is_loopback())
        .min_by_key(|a| (a.scope, a.deprecated, a.secondary, a.ifindex))
        .map(|a| a.address.addr())
}

/// The address of an interface that `left=%DEVICE` means for a family.
#[must_use]
pub fn primary_address(addresses: &[InterfaceAddr], ipv6: bool) -> Option<IpAddr> {
    let all = if ipv6 {
        IpNet::V6(ipnet::Ipv6Net::default())
    } else {
        IpNet::V4(ipnet::Ipv4Net::default())
    };
    source_within(addresses, &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str, ifindex: u32) -> InterfaceAddr {
        InterfaceAddr {
            ifindex,
            address: text.parse().unwrap(),
            peer: None,
            scope: Scope::GLOBAL,
            tentative: false,
            duplicate: false,
            deprecated: false,
            secondary: false,
            protocol: 0,
        }
    }

    #[test]
    fn the_source_lies_in_the_protected_network_and_is_usable() {
        let mut list = vec![
            address("192.0.2.1/24", 2),
            address("10.1.0.7/16", 3),
            address("10.1.0.1/16", 3),
            address("fe80::1/64", 3),
            address("2001:db8:1::5/64", 3),
        ];
        list[3].scope = Scope::LINK;
        let within = |list: &[InterfaceAddr], net: &str| source_within(list, &net.parse().unwrap());
        assert_eq!(within(&list, "10.1.0.0/16"), "10.1.0.7".parse().ok());
        list[1].secondary = true;
        assert_eq!(within(&list, "10.1.0.0/16"), "10.1.0.1".parse().ok());
        assert_eq!(within(&list, "::/0"), "2001:db8:1::5".parse().ok());
        list[4].tentative = true;
        assert_eq!(within(&list, "::/0"), None);
        assert_eq!(within(&list, "10.9.0.0/16"), None);
        assert_eq!(primary_address(&list, false), "192.0.2.1".parse().ok());
    }
}
