//! The network of most tests: alice - west - router - east - bob.
//!
//! West and east are the gateways; alice and bob are hosts behind them. The
//! router knows the way to the inner networks, so that a packet which a gateway
//! fails to protect arrives, and is seen.

use std::net::IpAddr;

use crate::netns::Netns;
use crate::process::run;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// For names of tests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    fn pick<T>(self, v4: T, v6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }
}

/// The five namespaces. Dropping it takes them away.
#[derive(Debug)]
pub struct Site {
    /// A host behind west.
    pub alice: Netns,
    /// A gateway.
    pub west: Netns,
    /// Between the gateways; knows the inner networks too.
    pub router: Netns,
    /// The other gateway.
    pub east: Netns,
    /// A host behind east.
    pub bob: Netns,
}

/// Device, addresses and routes of one host.
type Host<'a> = (&'a Netns, &'a [(&'a str, &'a [&'a str])], &'a [&'a str]);

impl Site {
    /// The device of the router toward west.
    pub const TO_WEST: &'static str = "to-west";
    /// The device of the router toward east.
    pub const TO_EAST: &'static str = "to-east";
    /// `leftsubnet` of west.
    pub const WEST_NET: &'static str = "10.1.0.0/24,2001:db8:1::/64";
    /// `rightsubnet`: the networks behind east.
    pub const EAST_NET: &'static str = "10.2.0.0/24,2001:db8:2::/64";

    /// Makes it.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    pub fn new() -> Self {
        let group = Netns::group();
        let make = |host| Netns::new(group, host);
        let site = Self {
            alice: make("alice"),
            west: make("west"),
            router: make("router"),
            east: make("east"),
            bob: make("bob"),
        };
        let hosts: [Host<'_>; 5] = [
            (
                &site.alice,
                &[("lan", &["10.1.0.10/24", "2001:db8:1::10/64"])],
                &["default via 10.1.0.1", "default via 2001:db8:1::1"],
            ),
            (
                &site.west,
                &[
                    ("lan", &["10.1.0.1/24", "2001:db8:1::1/64"]),
                    ("wan", &["192.0.2.1/24", "2001:db8:a::1/64"]),
                ],
                &["default via 192.0.2.254", "default via 2001:db8:a::fe"],
            ),
            (
                &site.router,
                &[
                    (Self::TO_WEST, &["192.0.2.254/24", "2001:db8:a::fe/64"]),
                    (Self::TO_EAST, &["198.51.100.254/24", "2001:db8:b::fe/64"]),
                ],
                &[
                    "10.1.0.0/24 via 192.0.2.1",
                    "2001:db8:1::/64 via 2001:db8:a::1",
                    "10.2.0.0/24 via 198.51.100.1",
                    "2001:db8:2::/64 via 2001:db8:b::1",
                ],
            ),
            (
                &site.east,
                &[
                    ("lan", &["10.2.0.1/24", "2001:db8:2::1/64"]),
                    ("wan", &["198.51.100.1/24", "2001:db8:b::1/64"]),
                ],
                &["default via 198.51.100.254", "default via 2001:db8:b::fe"],
            ),
            (
                &site.bob,
                &[("lan", &["10.2.0.10/24", "2001:db8:2::10/64"])],
                &["default via 10.2.0.1", "default via 2001:db8:2::1"],
            ),
        ];
        for host in [&site.alice, &site.west, &site.router, &site.east, &site.bob] {
            // Addresses are usable at once, and nothing is sent that no test has asked for.
            host.sysctl("net.ipv6.conf.default.accept_dad", "0");
            host.sysctl("net.ipv6.conf.default.router_solicitations", "0");
        }
        site.wire(&site.alice, "lan", &site.west, "lan");
        site.wire(&site.west, "wan", &site.router, Self::TO_WEST);
        site.wire(&site.router, Self::TO_EAST, &site.east, "wan");
        site.wire(&site.east, "lan", &site.bob, "lan");
        for gateway in [&site.west, &site.router, &site.east] {
            gateway.sysctl("net.ipv4.ip_forward", "1");
            gateway.sysctl("net.ipv6.conf.all.forwarding", "1");
        }
        for (host, devices, routes) in hosts {
            let mut batch = "link set lo up\n".to_owned();
            for (device, addresses) in devices {
                for address in *addresses {
                    let nodad = if address.contains(':') { " nodad" } else { "" };
                    batch += &format!("addr add {address} dev {device}{nodad}\n");
                }
                batch += &format!("link set {device} up\n");
            }
            for route in routes {
                batch += &format!("route add {route}\n");
            }
            host.ip(&batch);
        }
        site
    }

    fn wire(&self, a: &Netns, device_a: &str, b: &Netns, device_b: &str) {
        run(&format!(
            "ip link add {device_a} netns {} type veth peer name {device_b} netns {}",
            a.name(),
            b.name()
        ));
    }

    /// West's address toward the router.
    #[must_use]
    pub fn west_outer(family: Family) -> IpAddr {
        address(family.pick("192.0.2.1", "2001:db8:a::1"))
    }

    /// East's address toward the router.
    #[must_use]
    pub fn east_outer(family: Family) -> IpAddr {
        address(family.pick("198.51.100.1", "2001:db8:b::1"))
    }

    /// West's address toward alice.
    #[must_use]
    pub fn west_inner(family: Family) -> IpAddr {
        address(family.pick("10.1.0.1", "2001:db8:1::1"))
    }

    /// East's address toward bob.
    #[must_use]
    pub fn east_inner(family: Family) -> IpAddr {
        address(family.pick("10.2.0.1", "2001:db8:2::1"))
    }

    /// Alice's address.
    #[must_use]
    pub fn alice(family: Family) -> IpAddr {
        address(family.pick("10.1.0.10", "2001:db8:1::10"))
    }

    /// Bob's address.
    #[must_use]
    pub fn bob(family: Family) -> IpAddr {
        address(family.pick("10.2.0.10", "2001:db8:2::10"))
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
