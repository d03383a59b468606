//! Two gateways in two network namespaces joined by a veth pair.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use cygnet_dataplane::{Config, Dataplane, DataplaneEvent, Handle, Tun};
use cygnet_ipsec::{
    CipherKey, Command as Ipsec, Direction, Encap, EncapKind, Lifetime, Mark, Mode, Policy,
    PolicyKey, Protocol, Reply, Sa, SaDatabase, SaDirection, SaFlags, SaId, SaReport, Selector,
    Template,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Whether namespaces can be made; says why not otherwise.
pub fn ready(test: &str) -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        Some("it needs root")
    } else if !std::path::Path::new("/dev/net/tun").exists() {
        Some("it needs /dev/net/tun")
    } else if Command::new("ip")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        Some("it needs the ip command (package iproute2)")
    } else {
        None
    };
    skip_unless(test, missing)
}

/// Whether a program is there; says so otherwise.
pub fn has(test: &str, program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    let missing = (!found).then(|| format!("it needs {program}"));
    skip_unless(test, missing.as_deref())
}

fn skip_unless(test: &str, missing: Option<&str>) -> bool {
    if let Some(missing) = missing {
        assert!(
            std::env::var_os("CYGNET_REQUIRE_ALL").is_none_or(|v| v != "1"),
            "{test}: {missing}"
        );
        eprintln!("skipped {test}: {missing}");
    }
    missing.is_none()
}

/// Runs a command and returns what it printed; panics with its errors.
pub fn run(line: &str) -> String {
    let output = try_run(line);
    assert!(
        output.status.success(),
        "{line}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn try_run(line: &str) -> Output {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    Command::new(program).args(words).output().expect(line)
}

/// A network namespace that goes away with the value.
pub struct Netns {
    pub name: String,
}

impl Netns {
    fn new(name: String) -> Self {
        run(&format!("ip netns add {name}"));
        let netns = Self { name };
        netns.ip("link set lo up");
        netns
    }

    /// `ip` inside.
    pub fn ip(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.name))
    }

    /// A command inside.
    pub fn exec(&self, line: &str) -> String {
        run(&format!("ip netns exec {} {line}", self.name))
    }

    /// Runs `f` on a thread inside.
    pub fn enter<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(f).join().expect("a thread in the namespace")
    }

    /// Starts a thread inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let file = File::open(format!("/run/netns/{}", self.name)).expect("the namespace");
        thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("to enter the namespace");
            f()
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = try_run(&format!("ip netns delete {}", self.name));
    }
}

/// One end: addresses on the wire between them and behind the tunnel.
pub struct Gateway {
    pub netns: Netns,
    pub plane: Handle,
    pub events: Receiver<DataplaneEvent>,
    pub outer4: IpAddr,
    pub outer6: IpAddr,
    pub inner4: IpAddr,
    pub inner6: IpAddr,
}

/// The inner MTU of the tests' tunnels.
pub const TUN_MTU: usize = 1400;
/// The port of UDP encapsulation.
pub const NATT: u16 = 4500;

impl Gateway {
    pub fn outer(&self, v6: bool) -> IpAddr {
        if v6 { self.outer6 } else { self.outer4 }
    }

    /// The counters of an SA.
    pub fn sa(&self, id: SaId) -> SaReport {
        match self.plane.clone().execute(&Ipsec::QuerySa(id)) {
            Ok(Reply::Sa(report)) => *report,
            other => panic!("{id:?}: {other:?}"),
        }
    }

    pub fn execute(&self, command: Ipsec) {
        self.plane.clone().execute(&command).expect("a command");
    }

    /// All counters that are not zero, for messages of failed tests.
    pub fn counters(&self) -> String {
        let report = self.plane.counters().expect("counters");
        let xfrm = report.xfrm.iter().map(|(counter, n)| (counter.name(), n));
        let all = xfrm.chain(report.core.iter()).chain(report.io.iter());
        all.filter(|(_, n)| *n > 0)
            .map(|(name, n)| format!("{name} {n}, "))
            .collect()
    }
}

/// Both ends.
pub struct Lab {
    pub a: Gateway,
    pub b: Gateway,
}

impl Lab {
    /// Wires two gateways whose planes run: TUN devices up, routes set, nothing keyed.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |end| format!("cygdp-{}-{number}{end}", std::process::id());
        let (a, b) = (Netns::new(name('a')), Netns::new(name('b')));
        run(&format!(
            "ip link add wire netns {} type veth peer name wire netns {}",
            a.name, b.name
        ));
        Self::between(a, b)
    }

    /// The same with a router between them, behind which packets may be of `mtu` octets at most.
    pub fn routed(mtu: usize) -> (Self, Netns) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |end| format!("cygdp-{}-r{number}{end}", std::process::id());
        let (a, b, router) = (
            Netns::new(name('a')),
            Netns::new(name('b')),
            Netns::new(name('r')),
        );
        for (end, n) in [(&a, 1), (&b, 2)] {
            run(&format!(
                "ip link add wire netns {} type veth peer name wire{n} netns {}",
                end.name, router.name
            ));
            router.ip(&format!("addr add 192.0.2.254/32 dev wire{n}"));
            router.ip(&format!("link set wire{n} up"));
            router.ip(&format!("route add 192.0.2.{n}/32 dev wire{n}"));
        }
        router.exec("sysctl -q -w net.ipv4.ip_forward=1");
        router.ip(&format!("link set wire2 mtu {mtu}"));
        b.ip(&format!("link set wire mtu {mtu}"));
        let lab = Self::between(a, b);
        lab.a
            .netns
            .ip("route add 192.0.2.2/32 via 192.0.2.254 dev wire src 192.0.2.1");
        lab.b
            .netns
            .ip("route add 192.0.2.1/32 via 192.0.2.254 dev wire src 192.0.2.2");
        (lab, router)
    }

    fn between(a: Netns, b: Netns) -> Self {
        let a = Self::gateway(a, 1);
        let b = Self::gateway(b, 2);
        for (one, other) in [(&a, &b), (&b, &a)] {
            one.netns.ip(&format!(
                "route add {} dev cygnet0 src {}",
                other.inner4, one.inner4
            ));
            one.netns.ip(&format!(
                "-6 route add {} dev cygnet0 src {}",
                other.inner6, one.inner6
            ));
        }
        Self { a, b }
    }

    fn gateway(netns: Netns, n: u8) -> Gateway {
        let address = |text: String| text.parse::<IpAddr>().expect("an address");
        let outer4 = address(format!("192.0.2.{n}"));
        let outer6 = address(format!("2001:db8::{n}"));
        let inner4 = address(format!("10.0.{n}.1"));
        let inner6 = address(format!("fd00:{n}::1"));
        netns.ip(&format!("addr add {outer4}/24 dev wire"));
        netns.ip(&format!("addr add {outer6}/64 dev wire nodad"));
        netns.ip("link set wire up");
        netns.ip(&format!("addr add {inner4}/32 dev lo"));
        netns.ip(&format!("addr add {inner6}/128 dev lo nodad"));
        let (sender, events) = sync_channel(64);
        let plane = netns.enter(move || {
            let plane = Dataplane::start(Config::new(sender)).expect("the plane");
            plane
                .add_device(Tun::create("cygnet0").expect("a TUN device"), 0)
                .expect("a device");
            // One socket bound to its address, one to the port only: both kinds are used.
            let v4 = SocketAddr::new(outer4, NATT);
            let socket = UdpSocket::bind(v4).expect("a UDP socket");
            plane
                .add_udp_socket(socket.into(), v4)
                .expect("to add a UDP socket");
            let v6: SocketAddr = format!("[::]:{NATT}").parse().expect("an address");
            let socket = v6_only(v6);
            plane
                .add_udp_socket(socket.into(), v6)
                .expect("to add a UDP socket");
            plane
        });
        netns.ip(&format!("link set cygnet0 mtu {TUN_MTU} up"));
        // Router solicitations on the device would be counted as packets without policy.
        Gateway {
            netns,
            plane,
            events,
            outer4,
            outer6,
            inner4,
            inner6,
        }
    }

    /// Installs policies for everything between the inner addresses, both families, with one reqid.
    pub fn policies(&self, v6: bool) {
        for (one, other) in [(&self.a, &self.b), (&self.b, &self.a)] {
            for (local, remote) in [(one.inner4, other.inner4), (one.inner6, other.inner6)] {
                for direction in [Direction::Out, Direction::In] {
                    let (src, dst, from, to) = match direction {
                        Direction::Out => (local, remote, one.outer(v6), other.outer(v6)),
                        _ => (remote, local, other.outer(v6), one.outer(v6)),
                    };
                    let selector = Selector::new(src.into(), dst.into());
                    let mut policy = Policy::new(PolicyKey::new(direction, selector));
                    policy.templates = vec![Template {
                        src: from,
                        dst: to,
                        spi: 0,
                        protocol: Protocol::Esp,
                        reqid: 7,
                        mode: Mode::Tunnel,
                        optional: false,
                    }];
                    one.execute(Ipsec::InstallPolicy(Box::new(policy)));
                }
            }
        }
    }

    /// Installs a pair of SAs and returns the ids of the one from `a` to `b` and of the one back.
    pub fn sas(&self, v6: bool, udp: bool) -> (SaId, SaId) {
        let there = sa(self.a.outer(v6), self.b.outer(v6), 0x8000_0a0b, udp);
        let back = sa(self.b.outer(v6), self.a.outer(v6), 0x8000_0b0a, udp);
        for (sa, from, to) in [(&there, &self.a, &self.b), (&back, &self.b, &self.a)] {
            let outbound = Sa {
                direction: SaDirection::Out,
                replay_window: 0,
                ..sa.clone()
            };
            // The receiver first: packets may be waiting at the sender.
            to.execute(Ipsec::InstallSa(Box::new(sa.clone())));
            from.execute(Ipsec::InstallSa(Box::new(outbound)));
        }
        (there.id, back.id)
    }
}

/// An IPv6 only UDP socket.
fn v6_only(local: SocketAddr) -> UdpSocket {
    use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
    let fd = socket(AddressFamily::INET6, SocketType::DGRAM, None).expect("a socket");
    sockopt::set_ipv6_v6only(&fd, true).expect("IPV6_V6ONLY");
    bind(&fd, &local).expect("to bind");
    fd.into()
}

/// The key of the SA with this SPI, as AES-GCM-128 KEYMAT.
pub fn key(spi: u32) -> Vec<u8> {
    (0..20u8).map(|i| i.wrapping_mul(7) ^ spi as u8).collect()
}

/// An inbound AES-GCM-128 tunnel SA.
fn sa(src: IpAddr, dst: IpAddr, spi: u32, udp: bool) -> Sa {
    Sa {
        id: SaId {
            dst,
            spi,
            protocol: Protocol::Esp,
            mark: Mark::ANY,
        },
        src,
        direction: SaDirection::In,
        mode: Mode::Tunnel,
        reqid: 7,
        if_id: 0,
        set_mark: None,
        encryption: Some(CipherKey {
            transform: 20,
            key: key(spi).into(),
        }),
        integrity: None,
        encap: udp.then_some(Encap {
            kind: EncapKind::Udp,
            local_port: NATT,
            remote_port: NATT,
        }),
        replay_window: 64,
        esn: false,
        selector: None,
        lifetime: Lifetime::UNLIMITED,
        flags: SaFlags {
            af_unspec: true,
            ..SaFlags::default()
        },
        acquire_seq: 0,
        tfc_pad: 0,
        compression: None,
        iptfs: None,
        cpu: None,
        label: None,
    }
}

/// The next event of the key manager's kind, within two seconds.
pub fn next_event(gateway: &Gateway) -> DataplaneEvent {
    gateway
        .events
        .recv_timeout(Duration::from_secs(2))
        .expect("an event")
}
