//! The fence against the running kernel: nothing that a tunnel protects passes in clear, inwards or outwards, of either
//! family, for this host or for hosts behind, before the tunnel device is there, while it is, and after it vanished.

mod common;

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use common::{Capture, Netns, Tun, ends, ip, privileged, settle, udp_packet, veth};
use cygnet_ipsec::{Command, Direction, Policy, PolicyKey, SaDatabase, Selector};
use cygnet_kernel::linux::{Nftables, Rtnetlink, set_mark};
use cygnet_kernel::sadb::LinuxSadb;
use cygnet_kernel::{
    Enclosure, Fence, InnerAddrs, Links, PacketFilter, RoutingOptions, Setting, TunnelRoute,
    TunnelRouting, fence, routing,
};
use ipnet::IpNet;

const DEVICE: &str = "ipsec0";
const PORT: u16 = 7000;

/// One family's addresses.
struct Family {
    local: IpNet,
    remote: IpNet,
    /// The gateway's own address in the local network, and a host's behind it.
    gateway: IpAddr,
    inside: IpAddr,
    /// A host in the remote network.
    far: IpAddr,
    /// An inner address on the tunnel device.
    inner: IpAddr,
}

fn families() -> [Family; 2] {
    let family =
        |local: &str, remote: &str, gateway: &str, inside: &str, far: &str, inner: &str| Family {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
            inside: inside.parse().unwrap(),
            far: far.parse().unwrap(),
            inner: inner.parse().unwrap(),
        };
    [
        family(
            "10.1.0.0/16",
            "10.2.0.0/16",
            "10.1.0.1",
            "10.1.0.2",
            "10.2.0.1",
            "10.1.9.9",
        ),
        family(
            "2001:db8:1::/48",
            "2001:db8:2::/48",
            "2001:db8:1::1",
            "2001:db8:1::2",
            "2001:db8:2::1",
            "2001:db8:1:9::9",
        ),
    ]
}

/// Outside — gateway — inside; the calling thread is in the gateway's namespace.
struct Site {
    outside: Netns,
    gateway: Netns,
    _inside: Netns,
    wire: Capture,
    /// Per family: listeners outside, on the gateway, inside; connected senders that are older than the fence.
    sockets: Vec<Sockets>,
}

struct Sockets {
    outside: UdpSocket,
    gateway: UdpSocket,
    inside: UdpSocket,
    inner: Option<UdpSocket>,
    old: UdpSocket,
}

impl Site {
    fn new() -> Self {
        let (outside, gateway, inside) = (Netns::new("out"), Netns::new("gw"), Netns::new("in"));
        veth(&gateway, "eth0", &outside, "wan");
        veth(&gateway, "eth1", &inside, "lan");
        outside.run(|| {
            ip("addr add 192.0.2.2/24 dev wan");
            ip("addr add 2001:db8:a::2/64 dev wan nodad");
            ip("addr add 10.2.0.1/32 dev lo");
            ip("addr add 2001:db8:2::1/128 dev lo nodad");
            ip("route add default via 192.0.2.1");
            ip("-6 route add default via 2001:db8:a::1");
        });
        gateway.run(|| {
            ip("addr add 192.0.2.1/24 dev eth0");
            ip("addr add 2001:db8:a::1/64 dev eth0 nodad");
            ip("addr add 10.1.0.1/16 dev eth1");
            ip("addr add 2001:db8:1::1/64 dev eth1 nodad");
            ip("route add default via 192.0.2.2");
            ip("-6 route add default via 2001:db8:a::2");
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        inside.run(|| {
            ip("addr add 10.1.0.2/16 dev lan");
            ip("addr add 2001:db8:1::2/64 dev lan nodad");
            ip("route add default via 10.1.0.1");
            ip("-6 route add default via 2001:db8:1::1");
        });
        gateway.enter();
        let wire = outside.run(|| Capture::open("wan"));
        let sockets = families()
            .iter()
            .map(|f| {
                let old = gateway.udp(SocketAddr::new(f.gateway, 0));
                old.connect(SocketAddr::new(f.far, PORT)).unwrap();
                Sockets {
                    outside: outside.udp(SocketAddr::new(f.far, PORT)),
                    gateway: gateway.udp(SocketAddr::new(f.gateway, PORT)),
                    inside: inside.udp(SocketAddr::new(f.inside, PORT)),
                    inner: None,
                    old,
                }
            })
            .collect();
        Self {
            outside,
            gateway,
            _inside: inside,
            wire,
            sockets,
        }
    }

    /// Sends every probe and says which arrived in clear.
    fn clear_text(&self) -> Vec<String> {
        let mut found = Vec::new();
        // Whatever was under way before is not this probe's.
        settle();
        self.wire.drain();
        for (f, s) in families().iter().zip(&self.sockets) {
            for socket in [&s.outside, &s.gateway, &s.inside]
                .into_iter()
                .chain(&s.inner)
            {
                drain(socket);
            }
            let far = SocketAddr::new(f.far, PORT);
            // Outwards. Refusal by the kernel (EPERM) is as good as silence.
            let _ = s.gateway.send_to(b"out local", far);
            let _ = s.old.send(b"out old");
            let _ = s.inside.send_to(b"out forwarded", far);
            let bound = self.gateway.udp(SocketAddr::new(f.gateway, 0));
            bind_to_device(&bound, "eth0");
            let _ = bound.send_to(b"out bound", far);
            let marked = self.gateway.udp(SocketAddr::new(f.gateway, 0));
            set_mark(&marked, routing::ESCAPE_MARK.value).unwrap();
            let _ = marked.send_to(b"out marked", far);
            // Inwards; TCP has a check of its own in the kernel.
            let listener = self
                .gateway
                .run(|| TcpListener::bind(SocketAddr::new(f.gateway, PORT)).unwrap());
            let reached = self.outside.run(|| {
                let to = SocketAddr::new(f.gateway, PORT);
                let from = TcpFrom(f.far);
                from.connect(to, Duration::from_millis(50))
            });
            drop(listener);
            if reached {
                found.push(format!("{}: in tcp", f.local));
            }
            for target in [f.gateway, f.inside]
                .into_iter()
                .chain(s.inner.as_ref().map(|_| f.inner))
            {
                let _ = s.outside.send_to(b"in", SocketAddr::new(target, PORT));
            }
        }
        settle();
        for (f, s) in families().iter().zip(&self.sockets) {
            for payload in drain(&s.outside) {
                found.push(format!("{}: {payload}", f.remote));
            }
            for (place, socket) in [("gateway", Some(&s.gateway)), ("inside", Some(&s.inside))]
                .into_iter()
                .chain([("inner", s.inner.as_ref())])
            {
                for payload in socket.map(drain).unwrap_or_default() {
                    found.push(format!("{}: {payload} {place}", f.local));
                }
            }
            // Beyond the probes: no packet at all leaves with protected ends.
            for packet in self.wire.drain() {
                if let Some((src, dst)) = ends(&packet)
                    && families()
                        .iter()
                        .any(|f| f.local.contains(&src) && f.remote.contains(&dst))
                {
                    found.push(format!("wire: {src} to {dst}"));
                }
            }
        }
        found
    }

    /// What goes through the device: sends from here and from inside, injects to both; says what did not pass.
    fn through(&self, tun: &mut Tun) -> Vec<String> {
        let mut missing = Vec::new();
        settle();
        tun.drain();
        for (f, s) in families().iter().zip(&self.sockets) {
            drain(&s.gateway);
            drain(&s.inside);
            let far = SocketAddr::new(f.far, PORT);
            let local = s.gateway.send_to(b"local", far);
            let old = s.old.send(b"old");
            let _ = s.inside.send_to(b"forwarded", far);
            let mut packets = Vec::new();
            let outwards = [("local", local), ("old", old), ("forwarded", Ok(0))];
            let came = |packets: &[Vec<u8>], payload: &str| {
                packets.iter().any(|p| p.ends_with(payload.as_bytes()))
            };
            eventually(|| {
                packets.extend(tun.drain());
                outwards.iter().all(|(payload, _)| came(&packets, payload))
            });
            for (payload, result) in outwards {
                if !came(&packets, payload) {
                    missing.push(format!("{} out {payload} {result:?}", f.remote));
                }
            }
            for (to, socket, place) in [
                (f.gateway, &s.gateway, "gateway"),
                (f.inside, &s.inside, "inside"),
            ]
            .into_iter()
            .chain(s.inner.as_ref().map(|i| (f.inner, i, "inner")))
            {
                drain(socket);
                tun.inject(&udp_packet(far, SocketAddr::new(to, PORT), b"tunnelled"));
                if !eventually(|| drain(socket) == ["tunnelled"]) {
                    missing.push(format!("{} in {place}", f.local));
                }
            }
        }
        missing
    }
}

/// Waits for what is expected, longer than it takes on a busy machine, without wasting time on an idle one.
fn eventually(mut happened: impl FnMut() -> bool) -> bool {
    (0..40).any(|_| {
        let there = happened();
        if !there {
            std::thread::sleep(Duration::from_millis(10));
        }
        there
    })
}

fn drain(socket: &UdpSocket) -> Vec<String> {
    let mut payloads = Vec::new();
    let mut buffer = [0; 256];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((length, _)) => {
                payloads.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return payloads,
            // An ICMP error for an earlier probe.
            Err(_) => {}
        }
    }
}

/// A TCP client with a chosen source.
struct TcpFrom(IpAddr);

impl TcpFrom {
    fn connect(self, to: SocketAddr, patience: Duration) -> bool {
        use rustix::net::{AddressFamily, SocketFlags, SocketType};
        let family = if to.is_ipv6() {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        };
        let fd = rustix::net::socket_with(
            family,
            SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::net::bind(&fd, &SocketAddr::new(self.0, 0)).unwrap();
        let _ = rustix::net::connect(&fd, &to);
        std::thread::sleep(patience);
        rustix::net::getpeername(&fd).is_ok()
    }
}

fn bind_to_device(socket: &UdpSocket, device: &str) {
    // SAFETY: pointer and length describe `device`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            device.as_ptr().cast(),
            device.len() as u32,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

fn enclosures() -> [Enclosure; 2] {
    families().map(|f| Enclosure {
        outbound: Selector::new(f.local, f.remote),
        priority: 3000,
    })
}

/// What a daemon does when a tunnel comes up.
fn open(
    fence: &mut Fence,
    routing: &mut TunnelRouting,
    kernel: &mut Rtnetlink,
    spd: &mut LinuxSadb,
    filter: &mut Nftables,
) -> u32 {
    let link = kernel.link(DEVICE).unwrap();
    fence.admit_device(kernel, link.index, DEVICE).unwrap();
    kernel.set_up(link.index, true).unwrap();
    for (f, enclosure) in families().iter().zip(enclosures()) {
        let source = routing
            .add(
                kernel,
                &TunnelRoute {
                    remote: f.remote,
                    ifindex: link.index,
                    local: vec![f.local],
                    source: None,
                    mtu: Some(1400),
                },
            )
            .unwrap();
        assert_eq!(source, Some(f.gateway));
        fence.open(spd, filter, &enclosure, link.index).unwrap();
    }
    link.index
}

fn nothing() -> Vec<String> {
    Vec::new()
}

/// Five probes outwards and three inwards per family.
fn everything_passes(site: &Site) {
    let mut clear = Vec::new();
    let all = eventually(|| {
        clear = site.clear_text();
        clear.iter().filter(|c| !c.starts_with("wire")).count() == 16
    });
    assert!(all, "{clear:#?}");
}

/// Runs nft in the calling thread's namespace.
fn nft(command: &str) {
    let output = std::process::Command::new("nft").arg(command).output();
    let output = output.unwrap();
    assert!(output.status.success(), "nft {command}: {output:?}");
}

/// Takes the pieces away one by one; what the module's documentation says of each must be seen.
fn each_piece_is_needed(
    site: &Site,
    tun: &mut Tun,
    kernel: &mut Rtnetlink,
    spd: &mut LinuxSadb,
    filter: &mut Nftables,
) {
    let starting = |list: Vec<String>, start: &str| {
        assert!(!list.is_empty());
        assert!(list.iter().all(|m| m.starts_with(start)), "{list:?}");
        list.len()
    };
    // Without disable_xfrm no IPv4 goes in: made here, by an older socket, forwarded.
    kernel
        .set_setting(DEVICE, Setting::DisableXfrmV4, 0)
        .unwrap();
    assert_eq!(starting(site.through(tun), "10.2.0.0/16 out"), 3);
    kernel
        .set_setting(DEVICE, Setting::DisableXfrmV4, 1)
        .unwrap();
    // Without disable_policy no IPv4 comes out: for here, for inside, for the inner address.
    kernel
        .set_setting(DEVICE, Setting::DisablePolicyV4, 0)
        .unwrap();
    assert_eq!(starting(site.through(tun), "10.1.0.0/16 in"), 3);
    kernel
        .set_setting(DEVICE, Setting::DisablePolicyV4, 1)
        .unwrap();
    // With the IPv6 one, the inner address on the device accepts clear text from outside.
    kernel
        .set_setting(DEVICE, Setting::DisablePolicyV6, 1)
        .unwrap();
    assert_eq!(site.clear_text(), ["2001:db8:1::/48: in inner"]);
    kernel
        .set_setting(DEVICE, Setting::DisablePolicyV6, 0)
        .unwrap();
    assert_eq!(site.clear_text(), nothing());
    // Without the packet filter (a firewall was reloaded) no IPv6 comes out, and a socket bound to another device gets past.
    // Its packets are all: what is not bound goes into the device, and the escape mark is blocked by the SPD.
    filter.unload().unwrap();
    assert_eq!(starting(site.through(tun), "2001:db8:1::/48 in"), 3);
    let mut leaks = site.clear_text();
    leaks.sort();
    assert_eq!(
        leaks,
        [
            "2001:db8:2::/48: out bound",
            "wire: 2001:db8:1::1 to 2001:db8:2::1"
        ]
    );
    // A device in the selector of an inbound policy is not the one that the packet came in by, but its route's.
    let f = &families()[1];
    let mut allow = |direction, device: &str, site: &Site, tun: &mut Tun| {
        let mut selector = Selector::new(f.remote, f.local);
        selector.ifindex = kernel.link(device).unwrap().index;
        let policy = Policy::new(PolicyKey::new(direction, selector));
        let key = policy.key;
        spd.execute(&Command::InstallPolicy(Box::new(policy)))
            .unwrap();
        let missing = site.through(tun);
        spd.execute(&Command::RemovePolicy(key)).unwrap();
        missing
    };
    let (gateway, inside, inner) = (
        "2001:db8:1::/48 in gateway",
        "2001:db8:1::/48 in inside",
        "2001:db8:1::/48 in inner",
    );
    assert_eq!(
        allow(Direction::In, DEVICE, site, tun),
        [gateway, inside, inner]
    );
    assert_eq!(
        allow(Direction::Fwd, DEVICE, site, tun),
        [gateway, inside, inner]
    );
    assert_eq!(allow(Direction::In, "lo", site, tun), [inside]);
    assert_eq!(allow(Direction::Fwd, "eth1", site, tun), [gateway, inner]);
}

#[test]
fn nothing_protected_travels_in_clear() {
    if !privileged("nothing_protected_travels_in_clear") {
        return;
    }
    let mut site = Site::new();
    let mut kernel = Rtnetlink::open().unwrap();
    let mut spd = LinuxSadb::open(None).unwrap();
    let mut filter = Nftables::open().unwrap();
    let mut fence = Fence::default();
    let mut routing = TunnelRouting::new(RoutingOptions::default());

    // Control: without a fence every probe arrives.
    everything_passes(&site);

    // Before there is a device.
    for enclosure in enclosures() {
        fence.raise(&mut spd, &enclosure).unwrap();
    }
    assert_eq!(site.clear_text(), nothing(), "before");

    // While the device is there.
    let mut tun = Tun::new(DEVICE);
    let ifindex = open(&mut fence, &mut routing, &mut kernel, &mut spd, &mut filter);
    assert_eq!(site.through(&mut tun), nothing(), "while open");
    assert_eq!(site.clear_text(), nothing(), "while open");
    // A firewall that keeps marks by connection gives clear text the mark of what came from the device before.
    nft("add table ip6 marks");
    nft("add chain ip6 marks restore { type filter hook prerouting priority mangle; }");
    nft("add rule ip6 marks restore meta mark set 0x20000000");
    assert_eq!(site.through(&mut tun), nothing(), "with foreign marks");
    assert_eq!(site.clear_text(), nothing(), "with foreign marks");
    nft("delete table ip6 marks");
    assert_eq!(fence::weaknesses(&mut kernel, &[DEVICE]).unwrap(), []);

    // An inner address on the device itself: IPv6 would let anything in if the device had disable_policy.
    let mut inner = InnerAddrs::new();
    for (f, s) in families().iter().zip(&mut site.sockets) {
        inner
            .acquire(&mut kernel, ifindex, IpNet::from(f.inner))
            .unwrap();
        s.inner = Some(site.gateway.udp(SocketAddr::new(f.inner, PORT)));
    }
    assert_eq!(site.through(&mut tun), nothing(), "with inner addresses");
    assert_eq!(site.clear_text(), nothing(), "with inner addresses");

    each_piece_is_needed(&site, &mut tun, &mut kernel, &mut spd, &mut filter);
    fence.refresh(&mut spd, &mut filter).unwrap();
    assert_eq!(site.through(&mut tun), nothing(), "refreshed");
    assert_eq!(site.clear_text(), nothing(), "refreshed");

    // kill -9: the device and its routes vanish, nobody tidies up.
    for s in &mut site.sockets {
        s.inner = None;
    }
    drop(tun);
    drop((fence, routing, inner));
    assert_eq!(site.clear_text(), nothing(), "after the device vanished");

    // A new run over the leftovers.
    let mut fence = Fence::default();
    let mut routing = TunnelRouting::new(RoutingOptions::default());
    let left = cygnet_kernel::routing::remove_leftovers(
        &mut kernel,
        |r| routing.uses_route(r),
        |r| routing.uses_rule(r),
    )
    .unwrap();
    assert_eq!(left.rules.len(), 2);
    for enclosure in enclosures() {
        fence.raise(&mut spd, &enclosure).unwrap();
    }
    assert_eq!(site.clear_text(), nothing(), "after the restart");
    let mut tun = Tun::new(DEVICE);
    let ifindex = open(&mut fence, &mut routing, &mut kernel, &mut spd, &mut filter);
    assert_eq!(site.through(&mut tun), nothing(), "again open");
    assert_eq!(site.clear_text(), nothing(), "again open");

    // An orderly end: closed, then lowered, and everything is as it was.
    fence
        .dismiss_device(&mut spd, &mut filter, ifindex)
        .unwrap();
    routing.stop(&mut kernel).unwrap();
    assert_eq!(site.clear_text(), nothing(), "closed");
    for enclosure in enclosures() {
        assert!(fence.lower(&mut spd, &mut filter, &enclosure).unwrap());
    }
    drop(tun);
    everything_passes(&site);
    assert_eq!(
        cygnet_kernel::routing::remove_leftovers(
            &mut kernel,
            |r| routing.uses_route(r),
            |r| routing.uses_rule(r)
        )
        .unwrap(),
        cygnet_kernel::Leftovers::default()
    );
}
