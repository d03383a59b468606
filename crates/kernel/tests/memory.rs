//! The in-memory implementations: they keep the promises that the Linux ones keep in `network.rs`.

use std::net::{IpAddr, SocketAddr};

use cygnet_ipsec::{
    Action, Command, CommandError, Direction, PolicyKey, Reply, SaDatabase, Selector,
};
use cygnet_kernel::memory::{Datagram, Network};
use cygnet_kernel::{
    Acquired, AddrEvent, AddrEvents, AddressControl, Enclosure, Fence, FenceError, IkeSocket,
    IkeSocketSpec, IkeSockets, InnerAddrs, InterfaceAddrs, LinkKind, Links, LookupError, OpenError,
    Route, RouteEvent, RouteEvents, RouteLookup, RouteQuery, Routing, RoutingError, RoutingOptions,
    Setting, TunnelRoute, TunnelRouting, fence, routing,
};
use ipnet::IpNet;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(addr(text), port)
}

fn host() -> (Network, u32, u32) {
    let network = Network::new();
    let eth0 = network.add_link("eth0", LinkKind::Plain);
    let tun = network.add_link("ipsec0", LinkKind::Tun);
    network.add_foreign_address(eth0, net("192.0.2.1/24"));
    network.add_foreign_address(eth0, net("10.1.0.1/16"));
    network.add_foreign_address(eth0, net("2001:db8:1::1/64"));
    (network, eth0, tun)
}

#[test]
fn tunnel_routes_are_counted_and_escape_by_mark() {
    let (mut kernel, eth0, tun) = host();
    assert!(matches!(
        kernel.default_route(false),
        Err(LookupError::NoDefaultRoute { ipv6: false })
    ));
    let mut monitor = kernel.route_monitor();
    let mut default = Route::to_device(net("0.0.0.0/0"), eth0, 254);
    default.gateway = Some(addr("192.0.2.254"));
    default.protocol = 4;
    kernel.add_route(&default).unwrap();
    assert_eq!(
        monitor.next_event().unwrap(),
        Some(RouteEvent::Added(default))
    );
    assert_eq!(
        kernel.default_route(false).unwrap().source,
        Some(addr("192.0.2.1"))
    );

    let mut routes = TunnelRouting::new(RoutingOptions::default());
    let mut wanted = TunnelRoute {
        remote: net("0.0.0.0/0"),
        ifindex: tun,
        local: vec![net("10.1.0.0/16")],
        source: None,
        mtu: None,
    };
    for _ in 0..2 {
        let source = routes.add(&mut kernel, &wanted).unwrap();
        assert_eq!(source, Some(addr("10.1.0.1")));
    }
    let query = RouteQuery::to(addr("203.0.113.1"));
    // Configured anew: another source, before the earlier use has gone.
    kernel.add_foreign_address(eth0, net("10.1.0.9/32"));
    wanted.source = Some(addr("10.1.0.9"));
    assert_eq!(routes.add(&mut kernel, &wanted).unwrap(), wanted.source);
    assert!(!routes.remove(&mut kernel, wanted.remote).unwrap());
    routes.restore(&mut kernel).unwrap();
    assert_eq!(kernel.route_to(&query).unwrap().source, wanted.source);
    assert_eq!(kernel.route_to(&query).unwrap().ifindex, tun);
    let escape = query.marked(routing::ESCAPE_MARK.value);
    assert_eq!(kernel.route_to(&escape).unwrap().ifindex, eth0);
    wanted.ifindex = eth0;
    assert!(matches!(
        routes.add(&mut kernel, &wanted),
        Err(RoutingError::Conflict { .. })
    ));
    assert!(!routes.remove(&mut kernel, wanted.remote).unwrap());
    assert!(routes.remove(&mut kernel, wanted.remote).unwrap());
    assert!(kernel.owned_rules().unwrap().is_empty());
    assert_eq!(kernel.route_to(&query).unwrap().ifindex, eth0);

    // A crash.
    wanted.ifindex = tun;
    TunnelRouting::new(RoutingOptions::default())
        .add(&mut kernel, &wanted)
        .unwrap();
    let left = cygnet_kernel::routing::remove_leftovers(
        &mut kernel,
        |r| routes.uses_route(r),
        |r| routes.uses_rule(r),
    )
    .unwrap();
    assert_eq!((left.routes.len(), left.rules.len()), (1, 1));
    // Somebody else's default route is still there.
    assert!(kernel.default_route(false).is_ok());
}

#[test]
fn a_device_takes_addresses_and_routes_along() {
    let (mut kernel, _, tun) = host();
    let mut monitor = kernel.addr_monitor();
    let mut inner = InnerAddrs::new();
    let address = net("10.1.9.9/32");
    assert_eq!(
        inner.acquire(&mut kernel, tun, address).unwrap(),
        Acquired::Added
    );
    assert_eq!(
        inner.acquire(&mut kernel, tun, address).unwrap(),
        Acquired::Shared
    );
    let route = Route::to_device(net("10.2.0.0/16"), tun, 4500);
    kernel.add_route(&route).unwrap();
    kernel.delete_link(tun).unwrap();
    assert!(kernel.routes().is_empty());
    assert!(kernel.addresses_of("ipsec0").is_err());
    let mut seen = Vec::new();
    while let Some(event) = monitor.next_event().unwrap() {
        seen.push(match event {
            AddrEvent::Added(a) => format!("+{}", a.address),
            AddrEvent::Removed(a) => format!("-{}", a.address),
            AddrEvent::LinkRemoved { ifindex } => format!("-#{ifindex}"),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(seen, ["+10.1.9.9/32", "-10.1.9.9/32", &format!("-#{tun}")]);
    // Releasing what is gone is no error.
    assert!(!inner.release(&mut kernel, tun, address).unwrap());
    assert!(!inner.release(&mut kernel, tun, address).unwrap());
    assert!(kernel.add_address(tun, address).unwrap_err().is_not_found());
}

#[test]
fn sockets_deliver_to_the_connected_one_first() {
    let (mut kernel, ..) = host();
    let mut spec = IkeSocketSpec::new(at("192.0.2.1", 4500));
    spec.shared = true;
    let socket = kernel.open(&spec).unwrap();
    assert!(matches!(
        kernel.open(&spec),
        Err(OpenError::PortInUse { .. })
    ));
    spec.peer = Some(at("203.0.113.1", 4500));
    let connected = kernel.open(&spec).unwrap();
    for (from, bytes) in [("203.0.113.1", b"a"), ("203.0.113.2", b"b")] {
        assert!(kernel.deliver(Datagram {
            from: at(from, 4500),
            to: at("192.0.2.1", 4500),
            bytes: bytes.to_vec(),
        }));
    }
    let mut buffer = [0; 8];
    assert_eq!(connected.receive(&mut buffer).unwrap().len, 1);
    assert_eq!(buffer[0], b'a');
    assert_eq!(
        socket.receive(&mut buffer).unwrap().remote,
        at("203.0.113.2", 4500)
    );
    assert_eq!(buffer[0], b'b');
    drop(socket);
    drop(connected);
    spec.peer = None;
    let socket = kernel.open(&spec).unwrap();
    socket.send(b"out", at("203.0.113.3", 500), None).unwrap();
    let sent = kernel.take_sent().unwrap();
    assert_eq!(sent.from, at("192.0.2.1", 4500));
    assert_eq!(sent.bytes, b"out");
    assert!(matches!(
        kernel.open(&IkeSocketSpec::new(at("198.51.100.1", 500))),
        Err(OpenError::NoSuchAddress { .. })
    ));
}

/// A database that counts, and refuses when told to.
#[derive(Default)]
struct Spd {
    policies: Vec<cygnet_ipsec::Policy>,
    /// Refuses the installation of these.
    refuse: Option<Direction>,
    /// Every step, for the order.
    steps: Vec<String>,
}

impl SaDatabase for Spd {
    fn execute(&mut self, command: &Command) -> Result<Reply, CommandError> {
        match command {
            Command::UpdatePolicy(policy) => {
                if self.refuse == Some(policy.key.direction) && policy.action == Action::Allow {
                    return Err(CommandError::OutOfResources);
                }
                self.policies.retain(|p| p.key != policy.key);
                self.policies.push((**policy).clone());
                self.steps
                    .push(format!("{:?} {:?}", policy.action, policy.key.direction));
                Ok(Reply::Done)
            }
            Command::RemovePolicy(key) => {
                let before = self.policies.len();
                self.policies.retain(|p| p.key != *key);
                if self.policies.len() == before {
                    return Err(CommandError::NotFound);
                }
                Ok(Reply::Done)
            }
            other => Err(CommandError::Unsupported(format!("{other:?}"))),
        }
    }
}

impl Spd {
    fn count(&self, action: Action) -> usize {
        self.policies.iter().filter(|p| p.action == action).count()
    }
}

fn enclosure(local: &str, remote: &str) -> Enclosure {
    Enclosure {
        outbound: Selector::new(net(local), net(remote)),
        priority: 3000,
    }
}

#[test]
fn the_fence_never_opens_before_its_guard_and_closes_when_refused() {
    let (mut kernel, _, tun) = host();
    let mut spd = Spd::default();
    let mut filter = kernel.clone();
    let mut fence = Fence::default();
    let v4 = enclosure("10.1.0.0/16", "10.2.0.0/16");
    let v6 = enclosure("2001:db8:1::/48", "2001:db8:2::/48");
    for e in [v4, v6, v6] {
        fence.raise(&mut spd, &e).unwrap();
    }
    assert_eq!((spd.count(Action::Block), spd.count(Action::Allow)), (6, 0));
    assert!(matches!(
        fence.open(&mut spd, &mut filter, &v6, tun),
        Err(FenceError::UnknownDevice { .. })
    ));
    fence.admit_device(&mut kernel, tun, "ipsec0").unwrap();
    for (setting, value) in fence::DEVICE_SETTINGS {
        assert_eq!(kernel.setting("ipsec0", setting).unwrap(), value);
    }
    // IPv4 needs nothing more.
    fence.open(&mut spd, &mut filter, &v4, tun).unwrap();
    assert_eq!(kernel.filter_table(), None);
    assert_eq!(spd.count(Action::Allow), 0);
    // A refusal half way: all of it is taken back.
    spd.refuse = Some(Direction::Fwd);
    assert!(fence.open(&mut spd, &mut filter, &v6, tun).is_err());
    assert_eq!((spd.count(Action::Block), spd.count(Action::Allow)), (6, 0));
    assert_eq!(kernel.filter_table(), None);
    spd.refuse = None;
    fence.open(&mut spd, &mut filter, &v6, tun).unwrap();
    assert_eq!((spd.count(Action::Block), spd.count(Action::Allow)), (6, 3));
    let table = kernel.filter_table().unwrap();
    assert_eq!(table.guarded, [v6.outbound]);
    assert_eq!(table.devices, ["ipsec0"]);
    // The allowing policies win over the blocking ones by priority, and none replaced another by an equal key (K1).
    let mut keys: Vec<PolicyKey> = spd.policies.iter().map(|p| p.key).collect();
    keys.dedup();
    assert_eq!(keys.len(), 9);
    assert!(spd.policies.iter().all(|p| p.priority
        == if p.action == Action::Allow {
            2999
        } else {
            3000
        }));

    fence
        .set_exceptions(
            &mut filter,
            vec![Selector::new(
                net("2001:db8:1::/48"),
                net("2001:db8:2:5::/64"),
            )],
        )
        .unwrap();
    assert_eq!(kernel.filter_table().unwrap().exceptions.len(), 1);

    // A crash and a new run: raising closes.
    let mut fence = Fence::default().with_lease(std::time::Duration::from_secs(30));
    fence.raise(&mut spd, &v6).unwrap();
    assert_eq!((spd.count(Action::Block), spd.count(Action::Allow)), (6, 0));
    fence.admit_device(&mut kernel, tun, "ipsec0").unwrap();
    fence.open(&mut spd, &mut filter, &v6, tun).unwrap();
    assert!(
        spd.policies
            .iter()
            .filter(|p| p.action == Action::Allow)
            .all(|p| p.lifetime.hard_add.is_some())
    );
    fence.refresh(&mut spd, &mut filter).unwrap();
    fence.dismiss_device(&mut spd, &mut filter, tun).unwrap();
    assert_eq!((spd.count(Action::Block), spd.count(Action::Allow)), (6, 0));
    assert_eq!(kernel.filter_table(), None);
    assert!(fence.lower(&mut spd, &mut filter, &v6).unwrap());
    assert!(!fence.lower(&mut spd, &mut filter, &v6).unwrap());
    assert_eq!(spd.count(Action::Block), 3);

    kernel
        .set_setting("eth0", Setting::DisablePolicyV4, 1)
        .unwrap();
    assert_eq!(
        fence::weaknesses(&mut kernel, &["ipsec0"]).unwrap(),
        [("eth0".to_owned(), Setting::DisablePolicyV4)]
    );
}
