//! The groups of operations against the running kernel, in network namespaces, with ip(8) and ss-like facts as witnesses.

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use common::{Netns, Tun, ip, privileged, settle, veth};
use cygnet_ipsec::{Mark, PortMatch, Selector};
use cygnet_kernel::linux::{AddrMonitor, Ethtool, Nftables, RouteMonitor, Rtnetlink, UdpSockets};
use cygnet_kernel::{
    Acquired, AddrEvent, AddrEvents, AddressControl, FilterTable, IkeSocket, IkeSocketSpec,
    IkeSockets, InnerAddrs, InterfaceAddrs, LinkKind, Links, LookupError, OWNER_ALIAS,
    OWNER_PROTOCOL, OffloadProbe, OpenError, PacketFilter, PathMtu, RequestError, Route,
    RouteEvent, RouteEvents, RouteLookup, RouteQuery, Routing, RoutingOptions, Rule, Setting,
    TunnelRoute, TunnelRouting, listen_addresses, routing,
};
use ipnet::IpNet;

/// What ip(8) prints, for comparison.
fn shown(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("ip runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(addr(text), port)
}

/// A host with one link to a router, the calling thread in it.
fn host() -> (Netns, Netns) {
    let (host, router) = (Netns::new("host"), Netns::new("router"));
    veth(&host, "eth0", &router, "r0");
    router.run(|| {
        ip("addr add 192.0.2.2/24 dev r0");
        ip("addr add 2001:db8:a::2/64 dev r0 nodad");
    });
    host.enter();
    ip("addr add 192.0.2.1/24 dev eth0");
    ip("addr add 2001:db8:a::1/64 dev eth0 nodad");
    (host, router)
}

#[test]
fn links_and_their_settings() {
    if !privileged("links_and_their_settings") {
        return;
    }
    let _spaces = host();
    let mut kernel = Rtnetlink::open().unwrap();
    let names: Vec<String> = kernel
        .links()
        .unwrap()
        .into_iter()
        .map(|l| l.name)
        .collect();
    assert_eq!(names, ["lo", "eth0"]);
    let lo = kernel.link("lo").unwrap();
    assert!(lo.loopback && lo.up && lo.kind == LinkKind::Plain);
    assert_eq!(
        kernel.link("eth0").unwrap().kind,
        LinkKind::Other("veth".into())
    );

    let tun = Tun::new("ipsec3");
    let link = kernel.link("ipsec3").unwrap();
    assert_eq!(link.kind, LinkKind::Tun);
    assert!(!link.up && !link.is_ours());
    kernel.set_mtu(link.index, 1391).unwrap();
    kernel.set_alias(link.index, OWNER_ALIAS).unwrap();
    kernel.set_up(link.index, true).unwrap();
    let link = kernel.link("ipsec3").unwrap();
    assert!(link.up && link.is_ours());
    assert_eq!(link.mtu, 1391);

    for setting in Setting::ALL {
        assert!(kernel.setting("ipsec3", setting).is_ok(), "{setting:?}");
    }
    kernel
        .set_setting("ipsec3", Setting::DisableXfrmV4, 1)
        .unwrap();
    assert_eq!(kernel.setting("ipsec3", Setting::DisableXfrmV4).unwrap(), 1);
    assert!(
        kernel
            .setting("../all", Setting::RpFilter)
            .unwrap_err()
            .is_not_found()
    );
    // The kernel's own words reach the error.
    let error = kernel.set_mtu(link.index, 10).unwrap_err();
    assert!(
        matches!(&error, RequestError::Refused { text, .. } if text.contains("mtu")),
        "{error}"
    );

    drop(tun);
    assert!(kernel.link("ipsec3").unwrap_err().is_not_found());
    assert!(
        kernel
            .link("a-name-that-is-too-long")
            .unwrap_err()
            .is_not_found()
    );
    let eth0 = kernel.link("eth0").unwrap();
    kernel.delete_link(eth0.index).unwrap();
    assert_eq!(kernel.links().unwrap().len(), 1);
}

/// S3.8, and S3.3: those of one interface.
#[test]
fn inner_addresses_are_counted_and_foreign_ones_left() {
    if !privileged("inner_addresses_are_counted_and_foreign_ones_left") {
        return;
    }
    let _spaces = host();
    let mut kernel = Rtnetlink::open().unwrap();
    let eth0 = kernel.link("eth0").unwrap().index;
    let mut inner = InnerAddrs::new();
    for address in ["10.9.0.1/32", "2001:db8:9::1/128"] {
        let address = net(address);
        let there = |k: &mut Rtnetlink| k.addresses().unwrap().iter().any(|a| a.address == address);
        assert_eq!(
            inner.acquire(&mut kernel, eth0, address).unwrap(),
            Acquired::Added
        );
        assert_eq!(
            inner.acquire(&mut kernel, eth0, address).unwrap(),
            Acquired::Shared
        );
        let found = kernel.addresses_of("eth0").unwrap();
        let found = found.iter().find(|a| a.address == address).unwrap();
        assert!(found.is_ours() && found.is_usable());
        assert!(!inner.release(&mut kernel, eth0, address).unwrap());
        assert!(there(&mut kernel));
        assert!(inner.release(&mut kernel, eth0, address).unwrap());
        assert!(!there(&mut kernel));
        assert!(!inner.release(&mut kernel, eth0, address).unwrap());
    }
    // Somebody else's stays, also one of another prefix length for IPv6, which has one entry per address.
    for (theirs, ours) in [
        ("192.0.2.1/24", "192.0.2.1/24"),
        ("2001:db8:a::1/64", "2001:db8:a::1/128"),
    ] {
        assert_eq!(
            inner.acquire(&mut kernel, eth0, net(ours)).unwrap(),
            Acquired::Foreign
        );
        assert!(!inner.release(&mut kernel, eth0, net(ours)).unwrap());
        let all = kernel.addresses().unwrap();
        assert!(all.iter().any(|a| a.address == net(theirs)));
    }
    // A crash: what it left is known by IFA_PROTO, and taken over or removed.
    inner
        .acquire(&mut kernel, eth0, net("10.9.0.2/32"))
        .unwrap();
    inner
        .acquire(&mut kernel, eth0, net("2001:db8:9::2/128"))
        .unwrap();
    let mut inner = InnerAddrs::new();
    assert_eq!(
        inner
            .acquire(&mut kernel, eth0, net("10.9.0.2/32"))
            .unwrap(),
        Acquired::Adopted
    );
    let left = inner.remove_leftovers(&mut kernel).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].address, net("2001:db8:9::2/128"));
    assert!(kernel.addresses().unwrap().iter().any(|a| a.is_ours()));
    assert!(
        kernel
            .add_address(9999, net("10.9.0.3/32"))
            .unwrap_err()
            .is_not_found()
    );
}

/// S3.2: the source address is that of the route which the kernel would take.
#[test]
fn the_kernel_is_asked_for_the_route() {
    if !privileged("the_kernel_is_asked_for_the_route") {
        return;
    }
    let _spaces = host();
    let mut kernel = Rtnetlink::open().unwrap();
    let eth0 = kernel.link("eth0").unwrap().index;
    for ipv6 in [false, true] {
        assert!(matches!(
            kernel.default_route(ipv6),
            Err(LookupError::NoDefaultRoute { .. })
        ));
    }
    let far = [addr("203.0.113.9"), addr("2001:db8:ffff::9")];
    for far in far {
        assert!(
            matches!(
                kernel.route_to(&RouteQuery::to(far)),
                Err(LookupError::NoRoute { .. })
            ),
            "{far}"
        );
    }
    ip("route add default via 192.0.2.2 mtu 1400");
    ip("-6 route add default via 2001:db8:a::2");
    for (far, gateway, source) in [
        (far[0], "192.0.2.2", "192.0.2.1"),
        (far[1], "2001:db8:a::2", "2001:db8:a::1"),
    ] {
        let answer = kernel.route_to(&RouteQuery::to(far)).unwrap();
        assert_eq!(answer.gateway, Some(addr(gateway)));
        assert_eq!(answer.source, Some(addr(source)));
        assert_eq!(answer.ifindex, eth0);
        assert_eq!(answer.table, 254);
        assert!(!answer.local);
        let default = kernel.default_route(far.is_ipv6()).unwrap();
        assert_eq!(default.gateway, Some(addr(gateway)));
        assert_eq!(default.source, Some(addr(source)));
        assert_eq!(default.ifindex, eth0);
    }
    assert_eq!(kernel.default_route(false).unwrap().mtu, Some(1400));
    assert!(
        kernel
            .route_to(&RouteQuery::to(addr("192.0.2.1")))
            .unwrap()
            .local
    );
    // A better default route with its own source wins; a gateway of IPv6 that is link-local does not confuse.
    ip("addr add 192.0.2.77/32 dev lo");
    ip("route add default via 192.0.2.2 src 192.0.2.77 metric 0 table 254 proto static tos 0x10");
    ip("-6 route replace default via fe80::1 dev eth0");
    let default = kernel.default_route(true).unwrap();
    assert_eq!(default.gateway, Some(addr("fe80::1")));
    assert_eq!(default.source, Some(addr("2001:db8:a::1")));
    for (route, far) in [
        ("blackhole 198.51.100.0/24", "198.51.100.1"),
        ("prohibit 198.51.101.0/24", "198.51.101.1"),
        ("prohibit 2001:db8:b::/48", "2001:db8:b::1"),
    ] {
        ip(&format!("route add {route}"));
        assert!(
            matches!(
                kernel.route_to(&RouteQuery::to(addr(far))),
                Err(LookupError::Forbidden { .. })
            ),
            "{route}"
        );
    }
}

/// S1.11: a rule by the absence of the mark, S1.9: with the peer inside.
#[test]
fn tunnel_routes_escape_by_mark_and_are_counted() {
    if !privileged("tunnel_routes_escape_by_mark_and_are_counted") {
        return;
    }
    let _spaces = host();
    ip("route add default via 192.0.2.2");
    ip("-6 route add default via 2001:db8:a::2");
    ip("addr add 10.1.0.1/16 dev eth0");
    let mut kernel = Rtnetlink::open().unwrap();
    let eth0 = kernel.link("eth0").unwrap().index;
    let _tun = Tun::new("ipsec0");
    let tun = kernel.link("ipsec0").unwrap().index;
    kernel.set_up(tun, true).unwrap();

    let mut routes = TunnelRouting::new(RoutingOptions::default());
    let wanted = |remote: &str, local: &str| TunnelRoute {
        remote: net(remote),
        ifindex: tun,
        local: vec![net(local)],
        source: None,
        mtu: Some(1380),
    };
    // Everything, the peer included, goes into the device (S1.9).
    let all = wanted("0.0.0.0/0", "10.1.0.0/16");
    assert_eq!(
        routes.add(&mut kernel, &all).unwrap(),
        Some(addr("10.1.0.1"))
    );
    assert_eq!(
        routes.add(&mut kernel, &all).unwrap(),
        Some(addr("10.1.0.1"))
    );
    let all6 = wanted("::/0", "2001:db8:a::/64");
    assert_eq!(
        routes.add(&mut kernel, &all6).unwrap(),
        Some(addr("2001:db8:a::1"))
    );
    for (far, source) in [
        ("203.0.113.9", "10.1.0.1"),
        ("2001:db8:ffff::9", "2001:db8:a::1"),
    ] {
        let query = RouteQuery::to(addr(far));
        let inside = kernel.route_to(&query).unwrap();
        assert_eq!((inside.ifindex, inside.table), (tun, 4500));
        assert_eq!(inside.source, Some(addr(source)));
        // IKE and ESP go out by the uplink.
        let escape = kernel
            .route_to(&query.marked(routing::ESCAPE_MARK.value))
            .unwrap();
        assert_eq!((escape.ifindex, escape.table), (eth0, 254));
    }
    let rules = shown("rule show");
    assert!(
        rules.contains("4500:\tnot from all fwmark 0x10000000/0x10000000 lookup 4500 proto 67"),
        "{rules}"
    );
    assert!(shown("route show table 4500").contains("default dev ipsec0 proto 67 scope link"));

    // Another device for the same network is a conflict, not a silent replacement.
    let mut other = wanted("0.0.0.0/0", "10.1.0.0/16");
    other.ifindex = eth0;
    assert!(matches!(
        routes.add(&mut kernel, &other),
        Err(cygnet_kernel::RoutingError::Conflict { .. })
    ));

    assert!(!routes.remove(&mut kernel, net("0.0.0.0/0")).unwrap());
    assert!(routes.remove(&mut kernel, net("0.0.0.0/0")).unwrap());
    assert!(!shown("-4 rule show").contains("4500"));
    assert!(shown("-6 rule show").contains("4500"));

    // Addresses change: the kernel leaves a preferred source in other tables than `main` standing although the address is
    // gone; restoring chooses anew.
    routes
        .add(&mut kernel, &wanted("10.2.0.0/16", "10.1.0.0/16"))
        .unwrap();
    ip("addr add 10.1.7.7/16 dev eth0");
    ip("addr del 10.1.0.1/16 dev eth0");
    // Whether the second survives the first depends on promote_secondaries.
    ip("addr replace 10.1.7.7/16 dev eth0");
    ip("rule del priority 4500");
    routes.restore(&mut kernel).unwrap();
    let source = |kernel: &mut Rtnetlink| {
        let query = RouteQuery::to(addr("10.2.0.1"));
        kernel.route_to(&query).unwrap().source
    };
    assert_eq!(source(&mut kernel), Some(addr("10.1.7.7")));
    ip("addr add 10.1.0.1/16 dev eth0");

    // A crash with a configuration of other numbers; somebody else's things are not touched.
    let mut former = TunnelRouting::new(RoutingOptions {
        table: 777_777,
        priority: 77,
        escape: Mark::exact(0x77),
    });
    former
        .add(&mut kernel, &wanted("10.3.0.0/16", "10.1.0.0/16"))
        .unwrap();
    drop(former);
    ip("route add 10.4.0.0/16 dev ipsec0 table 777777");
    ip("rule add priority 78 to 10.4.0.0/16 lookup 777777");
    let left = cygnet_kernel::routing::remove_leftovers(
        &mut kernel,
        |r| routes.uses_route(r),
        |r| routes.uses_rule(r),
    )
    .unwrap();
    assert_eq!((left.routes.len(), left.rules.len()), (1, 1));
    assert_eq!(left.routes[0].destination, net("10.3.0.0/16"));
    assert_eq!(left.rules[0].priority, 77);
    assert!(shown("route show table 777777").contains("10.4.0.0/16"));
    assert!(shown("rule show").contains("78:"));

    routes.stop(&mut kernel).unwrap();
    assert!(kernel.owned_routes().unwrap().is_empty());
    assert!(kernel.owned_rules().unwrap().is_empty());
    // The device takes its routes along; removing them again is no error.
    routes
        .add(&mut kernel, &wanted("10.2.0.0/16", "10.1.0.0/16"))
        .unwrap();
    drop(_tun);
    assert!(routes.remove(&mut kernel, net("10.2.0.0/16")).unwrap());
}

#[test]
fn rules_and_routes_round_trip() {
    if !privileged("rules_and_routes_round_trip") {
        return;
    }
    let _spaces = host();
    let mut kernel = Rtnetlink::open().unwrap();
    let eth0 = kernel.link("eth0").unwrap().index;
    for (destination, gateway, source) in [
        ("10.5.0.0/16", "192.0.2.2", "192.0.2.1"),
        ("2001:db8:5::/48", "2001:db8:a::2", "2001:db8:a::1"),
    ] {
        let mut route = Route::to_device(net(destination), eth0, 123_456);
        route.gateway = Some(addr(gateway));
        route.preferred_source = Some(addr(source));
        route.metric = 7;
        route.mtu = Some(1300);
        kernel.add_route(&route).unwrap();
        assert!(kernel.add_route(&route).unwrap_err().is_exists());
        assert_eq!(kernel.owned_routes().unwrap(), [route.clone()]);
        route.mtu = Some(1301);
        kernel.replace_route(&route).unwrap();
        assert_eq!(kernel.owned_routes().unwrap(), std::slice::from_ref(&route));
        kernel.delete_route(&route).unwrap();
        assert!(kernel.delete_route(&route).unwrap_err().is_not_found());

        let ipv6 = route.destination.addr().is_ipv6();
        let rule = Rule {
            ipv6,
            priority: 99,
            mark: Some(Mark {
                value: 0,
                mask: 0xf0,
            }),
            invert: false,
            source: Some(IpNet::from(addr(source))),
            destination: Some(net(destination)),
            table: 123_456,
            protocol: OWNER_PROTOCOL,
        };
        kernel.add_rule(&rule).unwrap();
        assert!(kernel.add_rule(&rule).unwrap_err().is_exists());
        assert_eq!(kernel.owned_rules().unwrap(), std::slice::from_ref(&rule));
        kernel.delete_rule(&rule).unwrap();
        assert!(kernel.delete_rule(&rule).unwrap_err().is_not_found());
    }
}

/// S3.4, S3.9: as the kernel tells them.
#[test]
fn changes_are_told() {
    if !privileged("changes_are_told") {
        return;
    }
    let _spaces = host();
    let mut kernel = Rtnetlink::open().unwrap();
    let eth0 = kernel.link("eth0").unwrap().index;
    let mut addrs = AddrMonitor::open().unwrap();
    let mut routes = RouteMonitor::open().unwrap();
    let readable = |fd: std::os::fd::BorrowedFd<'_>| {
        let mut poll = [rustix::event::PollFd::new(
            &fd,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut poll, Some(&rustix::event::Timespec::default())).unwrap() == 1
    };
    assert!(!readable(addrs.as_fd()));
    assert_eq!(addrs.next_event().unwrap(), None);

    ip("addr add 10.6.0.1/24 dev eth0");
    ip("addr add 2001:db8:6::1/64 dev eth0 nodad");
    ip("route add default via 192.0.2.2");
    ip("rule add priority 55 lookup 55");
    settle();
    assert!(readable(addrs.as_fd()));
    let mut seen = Vec::new();
    while let Some(event) = addrs.next_event().unwrap() {
        if let AddrEvent::Added(address) = event {
            assert_eq!(address.ifindex, eth0);
            seen.push(address.address);
        }
    }
    // Others may be told again in between, such as the link-local one after duplicate address detection.
    for address in ["10.6.0.1/24", "2001:db8:6::1/64"] {
        assert!(seen.contains(&net(address)), "{address}");
    }
    let mut default = 0;
    let mut rules = 0;
    while let Some(event) = routes.next_event().unwrap() {
        match &event {
            RouteEvent::Added(r) if r.destination.prefix_len() == 0 => {
                assert!(event.touches_default_route());
                default += 1;
            }
            RouteEvent::Added(_) => assert!(!event.touches_default_route()),
            RouteEvent::RuleAdded(rule) => {
                assert_eq!((rule.priority, rule.table), (55, 55));
                rules += 1;
            }
            _ => {}
        }
    }
    assert_eq!((default, rules), (1, 1));

    ip("addr del 10.6.0.1/24 dev eth0");
    ip("link set eth0 down");
    settle();
    let mut removed = Vec::new();
    let mut down = false;
    while let Some(event) = addrs.next_event().unwrap() {
        match event {
            AddrEvent::Removed(a) => removed.push(a.address),
            AddrEvent::Link(link) => down |= link.index == eth0 && !link.up,
            _ => {}
        }
    }
    assert!(removed.contains(&net("10.6.0.1/24")));
    assert!(down);
    ip("link del eth0");
    settle();
    let mut gone = false;
    while let Some(event) = addrs.next_event().unwrap() {
        gone |= event == AddrEvent::LinkRemoved { ifindex: eth0 };
    }
    assert!(gone);
}

#[test]
fn a_burst_of_changes_is_reported_as_an_overrun() {
    if !privileged("a_burst_of_changes_is_reported_as_an_overrun") {
        return;
    }
    let _spaces = host();
    let mut routes = RouteMonitor::open().unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(routes.as_fd(), 4096).unwrap();
    let mut kernel = Rtnetlink::open().unwrap();
    let eth0 = kernel.link("eth0").unwrap().index;
    for number in 0..200u8 {
        let route = Route::to_device(IpNet::from(IpAddr::from([10, 8, 0, number])), eth0, 254);
        kernel.add_route(&route).unwrap();
    }
    let mut events = Vec::new();
    while let Some(event) = routes.next_event().unwrap() {
        events.push(event);
    }
    assert!(events.contains(&RouteEvent::Overrun));
    assert_eq!(kernel.owned_routes().unwrap().len(), 200);
}

/// S3.1: a socket for each address, and none on devices of tunnels.
#[test]
fn ike_sockets_know_their_addresses_and_say_why_not() {
    if !privileged("ike_sockets_know_their_addresses_and_say_why_not") {
        return;
    }
    let (_host, router) = host();
    let mut kernel = Rtnetlink::open().unwrap();
    let listen = listen_addresses(&kernel.addresses().unwrap(), &kernel.links().unwrap(), &[]);
    assert_eq!(listen, [addr("192.0.2.1"), addr("2001:db8:a::1")]);
    // Everything between the two is forbidden; the sockets speak all the same, and nobody else does.
    for family in ["-4", "-6"] {
        for direction in ["in", "out"] {
            ip(&format!(
                "{family} xfrm policy add src {0} dst {0} dir {direction} priority 10 action block",
                if family == "-4" { "0.0.0.0/0" } else { "::/0" }
            ));
        }
    }
    // Neighbour discovery is policed too (S3.6).
    for direction in ["in", "out"] {
        for kind in [135, 136] {
            ip(&format!(
                "-6 xfrm policy add src ::/0 dst ::/0 proto ipv6-icmp type {kind} dir {direction} priority 1 action allow"
            ));
        }
    }
    let mut sockets = UdpSockets;
    let mut buffer = [0; 4096];
    for (local, remote) in [
        ("192.0.2.1", "192.0.2.2"),
        ("2001:db8:a::1", "2001:db8:a::2"),
    ] {
        let peer = router.udp(at(remote, 500));
        let mut spec = IkeSocketSpec::new(at(local, 500));
        spec.mark = Some(routing::ESCAPE_MARK.value);
        spec.shared = true;
        spec.kernel_esp = true;
        spec.error_queue = true;
        spec.buffer = Some(1 << 20);
        let socket = sockets.open(&spec).unwrap();
        assert_eq!(socket.local(), at(local, 500));
        assert_eq!(
            socket.receive(&mut buffer).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );

        socket.send(b"hello", at(remote, 500), None).unwrap();
        settle();
        let (length, from) = peer.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"hello"[..], at(local, 500)));
        peer.send_to(&[0; 3000], at(local, 500)).unwrap();
        settle();
        let received = socket.receive(&mut buffer).unwrap();
        assert_eq!((received.len, received.truncated), (3000, false));
        assert_eq!(received.remote, at(remote, 500));
        assert_eq!(received.local, at(local, 500));
        assert_eq!(received.ifindex, kernel.link("eth0").unwrap().index);
        // Larger than the MTU: fragmented, as IKE needs; a socket for ESP refuses instead.
        socket.send(&[8; 3000], at(remote, 500), None).unwrap();
        settle();
        assert_eq!(peer.recv_from(&mut buffer).unwrap().0, 3000);

        // The fence holds for others.
        let plain = UdpSocket::bind(at(local, 0)).unwrap();
        assert_eq!(
            plain
                .send_to(b"x", at(remote, 500))
                .unwrap_err()
                .raw_os_error(),
            Some(libc::EPERM)
        );

        // A connected socket of ours on the same port takes its peer's packets, and only those.
        let mut connected = spec.clone();
        connected.peer = Some(at(remote, 4600));
        connected.kernel_esp = false;
        connected.path_mtu = PathMtu::Discover;
        let connected = sockets.open(&connected).unwrap();
        let other_peer = router.udp(at(remote, 4600));
        other_peer.send_to(b"mine", at(local, 500)).unwrap();
        peer.send_to(b"yours", at(local, 500)).unwrap();
        settle();
        let received = connected.receive(&mut buffer).unwrap();
        assert_eq!(&buffer[..received.len], b"mine");
        let received = socket.receive(&mut buffer).unwrap();
        assert_eq!(&buffer[..received.len], b"yours");
        connected.send(b"back", at(remote, 4600), None).unwrap();
        assert_eq!(
            connected
                .send(&[9; 3000], at(remote, 4600), None)
                .unwrap_err()
                .raw_os_error(),
            Some(libc::EMSGSIZE)
        );
        settle();
        assert_eq!(other_peer.recv_from(&mut buffer).unwrap().0, 4);

        // The kernel takes what looks like ESP out of the stream; the connected socket gets it as it is.
        peer.send_to(&[0xff; 64], at(local, 500)).unwrap();
        other_peer.send_to(&[0xff; 64], at(local, 500)).unwrap();
        settle();
        assert_eq!(
            socket.receive(&mut buffer).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );
        assert_eq!(connected.receive(&mut buffer).unwrap().len, 64);
        let _ = OwnedFd::from(connected);

        // Beside it, a socket for some SPIs: it gets their packets from anyone, and the first one all else. The kernel
        // takes neither these packets nor that socket's keepalives.
        let mut plain = spec.clone();
        plain.kernel_esp = false;
        let spis = 0xd000_0000..=0xdfff_ffff;
        let beside = sockets.open_beside(&plain, &spis).unwrap();
        let esp = |spi: u32, len: usize| [&spi.to_be_bytes()[..], &vec![7; len]].concat();
        for (port, len) in [(500, 60), (4600, 61), (4600, 62)] {
            let from = [&peer, &other_peer][usize::from(port == 4600)];
            from.send_to(&esp(0xd000_0000 + len as u32, len), at(local, 500))
                .unwrap();
            settle();
            let received = beside.receive(&mut buffer).unwrap();
            assert_eq!((received.len, received.remote), (4 + len, at(remote, port)));
        }
        for octets in [
            esp(0xcfff_ffff, 60),
            esp(0xe000_0000, 60),
            vec![0xff],
            esp(0, 60),
        ] {
            other_peer.send_to(&octets, at(local, 500)).unwrap();
        }
        settle();
        assert_eq!(
            beside.receive(&mut buffer).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );
        // Of all that, only IKE is left over by the kernel.
        assert_eq!(socket.receive(&mut buffer).unwrap().len, 64);
        assert_eq!(
            socket.receive(&mut buffer).unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );
        let _ = OwnedFd::from(beside);

        // Someone else has the port: even one who would share it.
        let error = sockets
            .open(&IkeSocketSpec::new(at(local, 500)))
            .unwrap_err();
        assert!(matches!(error, OpenError::PortInUse { .. }));
        assert_eq!(
            error.to_string(),
            format!("udp port 500 of {local} is already in use by another program")
        );
        let foreign = rustix::net::socket(
            if addr(local).is_ipv6() {
                rustix::net::AddressFamily::INET6
            } else {
                rustix::net::AddressFamily::INET
            },
            rustix::net::SocketType::DGRAM,
            None,
        )
        .unwrap();
        rustix::net::sockopt::set_socket_reuseaddr(&foreign, true).unwrap();
        rustix::net::bind(&foreign, &at(local, 4500)).unwrap();
        spec.local = at(local, 4500);
        assert!(matches!(
            sockets.open(&spec),
            Err(OpenError::PortInUse { .. })
        ));
    }
    // Unspecified addresses: the destination is known, the source is chosen.
    ip("addr add 192.0.2.9/24 dev eth0");
    let any = sockets
        .open(&IkeSocketSpec::new(at("0.0.0.0", 600)))
        .unwrap();
    let peer = router.udp(at("192.0.2.2", 600));
    peer.send_to(b"x", at("192.0.2.9", 600)).unwrap();
    settle();
    assert_eq!(
        any.receive(&mut buffer).unwrap().local,
        at("192.0.2.9", 600)
    );
    any.send(b"y", at("192.0.2.2", 600), Some(addr("192.0.2.9")))
        .unwrap();
    settle();
    assert_eq!(peer.recv_from(&mut buffer).unwrap().1, at("192.0.2.9", 600));

    let error = sockets
        .open(&IkeSocketSpec::new(at("198.51.100.1", 500)))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "198.51.100.1 is not an address of this host"
    );
    let mut mixed = IkeSocketSpec::new(at("192.0.2.1", 700));
    mixed.peer = Some(at("2001:db8::1", 500));
    assert!(matches!(
        sockets.open(&mixed),
        Err(OpenError::FamilyMismatch { .. })
    ));
}

#[test]
fn a_missing_capability_is_named() {
    if !privileged("a_missing_capability_is_named") {
        return;
    }
    let (host, _router) = host();
    host.run(|| {
        let none = rustix::thread::CapabilitySets {
            effective: rustix::thread::CapabilitySet::empty(),
            permitted: rustix::thread::CapabilitySet::empty(),
            inheritable: rustix::thread::CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, none).unwrap();

        let mut spec = IkeSocketSpec::new(at("192.0.2.1", 500));
        assert_eq!(
            UdpSockets.open(&spec).unwrap_err().to_string(),
            "no permission to exempt the socket from ipsec policies on 192.0.2.1:500 (CAP_NET_ADMIN is needed)"
        );
        spec.bypass = false;
        assert_eq!(
            UdpSockets.open(&spec).unwrap_err().to_string(),
            "no permission to bind on 192.0.2.1:500 (CAP_NET_BIND_SERVICE is needed)"
        );
        spec.local.set_port(50_000);
        assert!(UdpSockets.open(&spec).is_ok());
        spec.mark = Some(1);
        assert!(matches!(
            UdpSockets.open(&spec),
            Err(OpenError::NoPermission { capability: "CAP_NET_ADMIN", .. })
        ));

        let mut kernel = Rtnetlink::open().unwrap();
        let eth0 = kernel.link("eth0").unwrap().index;
        assert_eq!(
            kernel
                .add_address(eth0, net("10.0.0.1/32"))
                .unwrap_err()
                .to_string(),
            format!("add address 10.0.0.1/32 dev #{eth0}: no permission (CAP_NET_ADMIN is needed)")
        );
        let mut filter = Nftables::open().unwrap();
        assert!(matches!(
            filter.unload(),
            Err(RequestError::NoPermission { .. })
        ));
    });
}

#[test]
fn the_packet_filter_is_what_nft_reads() {
    if !privileged("the_packet_filter_is_what_nft_reads") {
        return;
    }
    let listed = || {
        let output = Command::new("nft").args(["list", "ruleset"]).output();
        output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
    };
    let _spaces = host();
    if listed().is_err() {
        assert!(std::env::var_os("CYGNET_REQUIRE_ALL").is_none_or(|v| v != "1"));
        eprintln!("skipped the_packet_filter_is_what_nft_reads: it needs nft(8)");
        return;
    }
    let selector = |src: &str, dst: &str| Selector::new(net(src), net(dst));
    let mut udp = selector("2001:db8:1::/48", "2001:db8:3::/48");
    udp.protocol = 17;
    udp.dport = PortMatch::exact(53);
    let mut range = selector("2001:db8:1::7/128", "::/0");
    range.protocol = 6;
    range.sport = PortMatch {
        port: 0x400,
        mask: 0xfc00,
    };
    let mut echo = selector("2001:db8:1::/48", "2001:db8:4::/48");
    echo.protocol = 58;
    echo.sport = PortMatch::exact(128);
    echo.dport = PortMatch::exact(0);
    let table = FilterTable {
        devices: vec!["ipsec0".into(), "ipsec1".into()],
        arrival: cygnet_kernel::fence::ARRIVAL_MARK,
        escape: routing::ESCAPE_MARK,
        guarded: vec![
            selector("2001:db8:1::/48", "2001:db8:2::/48"),
            udp,
            range,
            echo,
        ],
        exceptions: vec![selector("2001:db8:1::/48", "2001:db8:2:5::/64")],
    };
    let mut filter = Nftables::open().unwrap();
    // Twice: the second replaces, nothing doubles.
    filter.load(&table).unwrap();
    filter.load(&table).unwrap();
    insta::assert_snapshot!(listed().unwrap());
    filter.unload().unwrap();
    filter.unload().unwrap();
    assert_eq!(listed().unwrap(), "");
}

/// S3.7: as far as devices without ESP hardware show it.
#[test]
fn features_are_read() {
    if !privileged("features_are_read") {
        return;
    }
    let _spaces = host();
    // A veth has no ESP hardware; that it is asked and understood is shown by the loopback device, whose driver
    // offers none either, and by the error for a device that is not there.
    for device in ["eth0", "lo"] {
        let offload = Ethtool.esp_offload(device).unwrap();
        assert!(!offload.esp, "{device}");
    }
    assert!(Ethtool.esp_offload("nope").unwrap_err().is_not_found());
    assert!(
        Ethtool
            .esp_offload("a-name-that-is-too-long")
            .unwrap_err()
            .is_not_found()
    );
}
