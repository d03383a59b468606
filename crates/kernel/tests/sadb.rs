//! The SAD and SPD against the running kernel, in namespaces.
//!
//! What needs no ESP runs on any kernel with XFRM. The rest says in one line that it was skipped,
//! or fails with `CYGNET_REQUIRE_ESP=1`: so runs the scenario `xfrm-sadb` in the VM.

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use common::{Netns, ip, privileged, settle, veth};
use cygnet_ipsec as ipsec;
use cygnet_kernel::holes::NeighbourDiscoveryHoles;
use cygnet_kernel::ledger::{Claim, Ledger};
use cygnet_kernel::sadb::LinuxSadb;
use cygnet_kernel::{Sadb, SadbEvent};
use ipsec::{
    AllocateSpi, CipherKey, Command, CommandError, Direction, Encap, EncapKind, Event,
    IntegrityKey, Lifetime, Mark, Mode, Policy, PolicyKey, Protocol, Reply, Sa, SaDatabase,
    SaDirection, SaFlags, SaId, SaReport, SaState, Selector, Template,
};

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two hosts on one wire, each with a protected address of each family.
struct Pair {
    west: Host,
    east: Host,
}

struct Host {
    ns: Netns,
    sadb: LinuxSadb,
    outer: [IpAddr; 2],
    inner: [IpAddr; 2],
}

impl Host {
    fn outer(&self, v6: bool) -> IpAddr {
        self.outer[usize::from(v6)]
    }

    fn inner(&self, v6: bool) -> IpAddr {
        self.inner[usize::from(v6)]
    }

    fn execute(&mut self, command: Command) -> Result<Reply, CommandError> {
        self.sadb.execute(&command)
    }

    fn event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            match self.sadb.next_event().unwrap() {
                Some(SadbEvent::Event(event)) if wanted(&event) => return event,
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        panic!("the event did not come");
    }

    fn report(&mut self, id: SaId) -> SaReport {
        match self.execute(Command::QuerySa(id)) {
            Ok(Reply::Sa(report)) => *report,
            other => panic!("{other:?}"),
        }
    }

    fn ip(&self, arguments: &str) -> String {
        self.ns.run(|| {
            let output = Process::new("ip")
                .args(arguments.split_whitespace())
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout)
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
    }
}

impl Pair {
    fn new() -> Self {
        let (west, east) = (Netns::new("west"), Netns::new("east"));
        veth(&west, "eth0", &east, "eth0");
        let host = |ns: Netns, me: u8, peer: u8| {
            ns.ip(&format!("addr add 192.0.2.{me}/24 dev eth0"));
            ns.ip(&format!("addr add 2001:db8::{me}/64 dev eth0 nodad"));
            ns.ip(&format!("addr add 10.{me}.0.1/32 dev lo"));
            ns.ip(&format!("addr add 2001:db8:{me}::1/128 dev lo nodad"));
            ns.ip(&format!(
                "route add 10.{peer}.0.0/16 via 192.0.2.{peer} src 10.{me}.0.1"
            ));
            ns.ip(&format!(
                "-6 route add 2001:db8:{peer}::/48 via 2001:db8::{peer} src 2001:db8:{me}::1"
            ));
            let sadb = ns.run(|| LinuxSadb::open(None)).unwrap();
            Host {
                sadb,
                outer: [
                    addr(&format!("192.0.2.{me}")),
                    addr(&format!("2001:db8::{me}")),
                ],
                inner: [
                    addr(&format!("10.{me}.0.1")),
                    addr(&format!("2001:db8:{me}::1")),
                ],
                ns,
            }
        };
        Self {
            west: host(west, 1, 2),
            east: host(east, 2, 1),
        }
    }
}

/// Whether this kernel does ESP for both families. Says so if not.
fn with_esp(test: &str) -> bool {
    if !privileged(test) {
        return false;
    }
    let ns = Netns::new("probe");
    let capabilities = ns
        .run(|| LinuxSadb::open(None).and_then(|mut sadb| sadb.probe()))
        .unwrap();
    let has = capabilities.esp_v4.is_available() && capabilities.esp_v6.is_available();
    if !has {
        assert!(
            std::env::var_os("CYGNET_REQUIRE_ESP").is_none_or(|v| v != "1"),
            "{test} needs ESP in the kernel: {capabilities:?}"
        );
        eprintln!(
            "skipped {test}: this kernel has no ESP: {:?}",
            capabilities.esp_v4
        );
    }
    has
}

/// What a tunnel is made of.
#[derive(Debug, Clone)]
struct Recipe {
    encryption: (u16, usize),
    integrity: Option<(u16, usize)>,
    mode: Mode,
    outer_v6: bool,
    inner_v6: bool,
    esn: bool,
    window: u32,
    encap: bool,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            encryption: (20, 20),
            integrity: None,
            mode: Mode::Tunnel,
            outer_v6: false,
            inner_v6: false,
            esn: false,
            window: 32,
            encap: false,
        }
    }
}

impl Recipe {
    fn key(len: usize, salt: u8) -> Vec<u8> {
        (0..len)
            .map(|i| (i as u8).wrapping_mul(37) ^ salt)
            .collect()
    }

    /// The SA from `src` to `dst`; `salt` keeps the directions' keys apart.
    fn sa(&self, src: IpAddr, dst: IpAddr, spi: u32, direction: SaDirection, salt: u8) -> Sa {
        Sa {
            id: SaId {
                dst,
                spi,
                protocol: Protocol::Esp,
                mark: Mark::ANY,
            },
            src,
            direction,
            mode: self.mode,
            reqid: 77,
            if_id: 0,
            set_mark: None,
            encryption: CipherKey {
                transform: self.encryption.0,
                key: Self::key(self.encryption.1, salt).into(),
            },
            integrity: self.integrity.map(|(transform, len)| IntegrityKey {
                transform,
                key: Self::key(len, salt ^ 0x80).into(),
            }),
            encap: self.encap.then_some(Encap {
                kind: EncapKind::Udp,
                local_port: 4500,
                remote_port: 4500,
            }),
            replay_window: self.window,
            esn: self.esn,
            selector: None,
            lifetime: Lifetime::UNLIMITED,
            // On both ends and in both directions, as a key manager sets them: what does not suit
            // a direction must not make the kernel refuse it.
            flags: SaFlags {
                decap_dscp: true,
                dont_encap_dscp: true,
                no_pmtu_disc: true,
                icmp: true,
                ..SaFlags::default()
            },
            acquire_seq: 0,
            tfc_pad: 0,
        }
    }

    fn selectors(&self, from: &Host, to: &Host) -> Selector {
        let end = |host: &Host| match self.mode {
            Mode::Transport => host.outer(self.inner_v6),
            _ => host.inner(self.inner_v6),
        };
        Selector::new(end(from).into(), end(to).into())
    }

    fn policy(&self, from: &Host, to: &Host, direction: Direction) -> Policy {
        let mut policy = Policy::new(PolicyKey::new(direction, self.selectors(from, to)));
        policy.priority = 1000;
        policy.templates.push(Template {
            src: from.outer(self.outer_v6),
            dst: to.outer(self.outer_v6),
            spi: 0,
            protocol: Protocol::Esp,
            reqid: 77,
            mode: self.mode,
            optional: false,
        });
        policy
    }
}

fn allocate(host: &mut Host, src: IpAddr, dst: IpAddr, mode: Mode) -> u32 {
    let request = AllocateSpi {
        src,
        dst,
        protocol: Protocol::Esp,
        mode,
        reqid: 77,
        if_id: 0,
        mark: Mark::ANY,
        min: 0xc000_0000,
        max: 0xcfff_ffff,
        acquire_seq: 0,
    };
    match host.execute(Command::AllocateSpi(request)) {
        Ok(Reply::Spi(spi)) => {
            assert!((0xc000_0000..=0xcfff_ffff).contains(&spi));
            spi
        }
        other => panic!("{other:?}"),
    }
}

/// The SAs of a tunnel that is up: identities of west to east and of east to west.
struct Tunnel {
    there: SaId,
    back: SaId,
}

fn up(pair: &mut Pair, recipe: &Recipe) -> Tunnel {
    let (w, e) = (
        pair.west.outer(recipe.outer_v6),
        pair.east.outer(recipe.outer_v6),
    );
    let spi_there = allocate(&mut pair.east, w, e, recipe.mode);
    let spi_back = allocate(&mut pair.west, e, w, recipe.mode);
    let there = |direction| recipe.sa(w, e, spi_there, direction, 1);
    let back = |direction| recipe.sa(e, w, spi_back, direction, 2);

    let inbound = there(SaDirection::In);
    assert_eq!(pair.east.report(inbound.id).state, SaState::Larval);
    let install = |sa: Sa| Command::InstallSa(Box::new(sa));
    let policies = |policies: [Policy; 2]| policies.map(|p| Command::InstallPolicy(Box::new(p)));
    let (west, east) = (&pair.west, &pair.east);
    let mut for_west = vec![
        install(back(SaDirection::In)),
        install(there(SaDirection::Out)),
    ];
    for_west.extend(policies([
        recipe.policy(west, east, Direction::Out),
        recipe.policy(east, west, Direction::In),
    ]));
    let mut for_east = vec![install(inbound), install(back(SaDirection::Out))];
    for_east.extend(policies([
        recipe.policy(east, west, Direction::Out),
        recipe.policy(west, east, Direction::In),
    ]));
    for (host, commands) in [(&mut pair.west, for_west), (&mut pair.east, for_east)] {
        for (command, result) in commands.iter().zip(host.sadb.execute_all(&commands)) {
            assert_eq!(result, Ok(Reply::Done), "{recipe:?} {command:?}");
        }
    }
    Tunnel {
        there: there(SaDirection::Out).id,
        back: back(SaDirection::Out).id,
    }
}

fn down(pair: &mut Pair, recipe: &Recipe, tunnel: &Tunnel) {
    let keys = [
        recipe.policy(&pair.west, &pair.east, Direction::Out).key,
        recipe.policy(&pair.east, &pair.west, Direction::In).key,
        recipe.policy(&pair.east, &pair.west, Direction::Out).key,
        recipe.policy(&pair.west, &pair.east, Direction::In).key,
    ];
    for (host, keys) in [(&mut pair.west, &keys[..2]), (&mut pair.east, &keys[2..])] {
        for id in [tunnel.there, tunnel.back] {
            assert_eq!(host.execute(Command::RemoveSa(id)), Ok(Reply::Done));
            assert_eq!(
                host.execute(Command::RemoveSa(id)),
                Err(CommandError::NotFound)
            );
        }
        for key in keys {
            assert_eq!(host.execute(Command::RemovePolicy(*key)), Ok(Reply::Done));
        }
    }
}

/// Sends datagrams one way and says how many arrived.
fn datagrams(from: &Host, from_ip: IpAddr, to: &Host, to_ip: IpAddr, count: usize) -> usize {
    let receiver = to.ns.udp(SocketAddr::new(to_ip, 7000));
    from.ns.run(|| {
        let socket = UdpSocket::bind(SocketAddr::new(from_ip, 0)).unwrap();
        for n in 0..count {
            let _ = socket.send_to(&[n as u8; 100], SocketAddr::new(to_ip, 7000));
        }
    });
    let mut received = 0;
    let end = Instant::now() + Duration::from_millis(1500);
    while received < count && Instant::now() < end {
        match receiver.recv(&mut [0; 200]) {
            Ok(_) => received += 1,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    received
}

/// Every algorithm that the kernel says it has, both inner and outer families, transport mode,
/// ESN and large windows: traffic flows and both ends count the same.
#[test]
fn traffic_flows_with_every_algorithm() {
    if !with_esp("traffic_flows_with_every_algorithm") {
        return;
    }
    let mut pair = Pair::new();
    let west = &mut pair.west;
    let algorithms = west.sadb.algorithms().unwrap();
    assert!(
        west.sadb.sas().unwrap().is_empty(),
        "the probe leaves nothing"
    );
    for (id, len) in [(20, 20), (20, 36), (12, 16), (12, 32), (28, 36)] {
        assert!(algorithms.encryption.contains(&(id, len)), "{id} {len}");
    }
    for id in [12, 13, 14] {
        assert!(algorithms.integrity.contains(&id), "{id}");
    }
    eprintln!("{algorithms:?}");

    let is_aead = |id: u16| (14..=21).contains(&id) || id == 28;
    let mut recipes: Vec<Recipe> = algorithms
        .encryption
        .iter()
        .map(|&encryption| Recipe {
            encryption,
            integrity: (!is_aead(encryption.0)).then_some((12, 32)),
            ..Recipe::default()
        })
        .collect();
    let integrity = [(2, 20), (5, 16), (8, 16), (12, 32), (13, 48), (14, 64)];
    recipes.extend(
        integrity
            .into_iter()
            .filter(|(id, _)| algorithms.integrity.contains(id))
            .map(|integrity| Recipe {
                encryption: (12, 32),
                integrity: Some(integrity),
                ..Recipe::default()
            }),
    );
    for (outer_v6, inner_v6) in [(false, true), (true, false), (true, true)] {
        recipes.push(Recipe {
            outer_v6,
            inner_v6,
            ..Recipe::default()
        });
    }
    for v6 in [false, true] {
        recipes.push(Recipe {
            mode: Mode::Transport,
            outer_v6: v6,
            inner_v6: v6,
            ..Recipe::default()
        });
    }
    for (esn, window) in [
        (true, 32),
        (true, 1024),
        (false, 0),
        (false, 33),
        (false, 4096),
    ] {
        recipes.push(Recipe {
            esn,
            window,
            ..Recipe::default()
        });
    }
    for recipe in &recipes {
        let tunnel = up(&mut pair, recipe);
        check_traffic(&mut pair, recipe, &tunnel);
        down(&mut pair, recipe, &tunnel);
    }
    eprintln!("{} combinations", recipes.len());
}

fn check_traffic(pair: &mut Pair, recipe: &Recipe, tunnel: &Tunnel) {
    const COUNT: usize = 20;
    let end = |host: &Host| match recipe.mode {
        Mode::Transport => host.outer(recipe.inner_v6),
        _ => host.inner(recipe.inner_v6),
    };
    let (w, e) = (end(&pair.west), end(&pair.east));
    assert_eq!(
        datagrams(&pair.west, w, &pair.east, e, COUNT),
        COUNT,
        "{recipe:?}"
    );
    assert_eq!(
        datagrams(&pair.east, e, &pair.west, w, COUNT),
        COUNT,
        "{recipe:?}"
    );
    for id in [tunnel.there, tunnel.back] {
        let (at_west, at_east) = (pair.west.report(id), pair.east.report(id));
        assert_eq!(at_west.state, SaState::Valid);
        assert!(
            at_west.counters.packets >= COUNT as u64,
            "{recipe:?} {at_west:?}"
        );
        // IPv6 neighbour discovery runs between the same addresses in transport mode.
        if !(recipe.mode == Mode::Transport && recipe.inner_v6) {
            assert_eq!(
                at_west.counters.packets, at_east.counters.packets,
                "{recipe:?}"
            );
        }
        let (out, inbound) = match at_west.sa.direction {
            SaDirection::Out => (at_west, at_east),
            SaDirection::In => (at_east, at_west),
        };
        assert_eq!(inbound.sa.direction, SaDirection::In);
        assert_eq!((out.sa.esn, inbound.sa.esn), (recipe.esn, recipe.esn));
        assert_eq!(
            (out.sa.replay_window, inbound.sa.replay_window),
            (0, recipe.window)
        );
        assert_eq!(out.sa.encryption.transform, recipe.encryption.0);
        assert_eq!(
            out.sa.integrity.map(|i| i.transform),
            recipe.integrity.map(|i| i.0)
        );
        assert!(out.sa.encryption.key.is_empty(), "keys are not read back");
        assert!(inbound.counters.used.is_some() && inbound.counters.integrity_failed == 0);
    }
}

/// iproute2 shows what we meant.
#[test]
fn ip_shows_the_sas_that_we_install() {
    if !with_esp("ip_shows_the_sas_that_we_install") {
        return;
    }
    let mut pair = Pair::new();
    let recipe = Recipe {
        encryption: (12, 16),
        integrity: Some((12, 32)),
        esn: true,
        window: 64,
        encap: true,
        ..Recipe::default()
    };
    let mut sa = recipe.sa(
        addr("192.0.2.9"),
        pair.west.outer(false),
        0x1234,
        SaDirection::In,
        1,
    );
    sa.encap = Some(Encap {
        kind: EncapKind::Udp,
        local_port: 4500,
        remote_port: 61000,
    });
    sa.if_id = 42;
    sa.id.mark = Mark {
        value: 5,
        mask: 0xff,
    };
    sa.set_mark = Some(Mark {
        value: 6,
        mask: 0xf0,
    });
    sa.lifetime.hard_bytes = Some(123_456);
    sa.lifetime.soft_add = Some(Duration::from_millis(1500));
    sa.selector = Some(Selector::new(
        "10.9.0.0/16".parse().unwrap(),
        "10.1.0.0/24".parse().unwrap(),
    ));
    let id = sa.id;
    let key = hex(sa.encryption.key.as_bytes());
    let auth = hex(sa.integrity.as_ref().unwrap().key.as_bytes());
    pair.west
        .execute(Command::InstallSa(Box::new(sa.clone())))
        .unwrap();
    let shown = pair.west.ip("-s xfrm state");
    for expected in [
        "src 192.0.2.9 dst 192.0.2.1 proto esp spi 0x00001234(4660) reqid 77(0x0000004d) mode tunnel".into(),
        "flag decap-dscp icmp esn".into(),
        "mark 0x5/0xff".into(),
        "output-mark 0x6/0xf0".into(),
        format!("auth-trunc hmac(sha256) 0x{auth} (256 bits) 128"),
        format!("enc cbc(aes) 0x{key} (128 bits)"),
        "encap type espinudp sport 61000 dport 4500".into(),
        "replay_window 64, bitmap-length 2".into(),
        "sel src 10.9.0.0/16 dst 10.1.0.0/24".into(),
        "if_id 0x2a".into(),
        "limit: soft (INF)(bytes), hard 123456(bytes)".into(),
        "expire add: soft 2(sec), hard 0(sec)".into(),
        "dir in".into(),
    ] {
        assert!(shown.contains(&expected), "{expected}\nis not in\n{shown}");
    }

    // And what ip writes we read.
    let read = pair.west.report(id).sa;
    pair.west.execute(Command::RemoveSa(id)).unwrap();
    pair.west.ns.ip(&format!(
        "xfrm state add src 192.0.2.9 dst 192.0.2.1 proto esp spi 0x1234 reqid 77 mode tunnel \
         mark 0x5 mask 0xff auth-trunc hmac(sha256) 0x{auth} 128 enc cbc(aes) 0x{key} \
         replay-window 64 flag decap-dscp flag icmp flag esn sel src 10.9.0.0/16 dst 10.1.0.0/24 \
         limit byte-hard 123456 limit time-soft 2 encap espinudp 61000 4500 0.0.0.0 \
         output-mark 0x6 mask 0xf0 if_id 0x2a dir in"
    ));
    assert_eq!(pair.west.report(id).sa, read);
    let expected = Sa {
        encryption: CipherKey {
            transform: 12,
            key: Vec::new().into(),
        },
        integrity: Some(IntegrityKey {
            transform: 12,
            key: Vec::new().into(),
        }),
        lifetime: Lifetime {
            soft_add: Some(Duration::from_secs(2)),
            ..sa.lifetime
        },
        flags: SaFlags {
            decap_dscp: true,
            icmp: true,
            ..SaFlags::default()
        },
        ..sa
    };
    assert_eq!(read, expected);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A packet raises an ACQUIRE; the answer with its number replaces the larval SA; traffic flows.
#[test]
fn an_acquire_is_answered() {
    if !with_esp("an_acquire_is_answered") {
        return;
    }
    let mut pair = Pair::new();
    let recipe = Recipe::default();
    let trap = recipe.policy(&pair.west, &pair.east, Direction::Out);
    pair.west
        .execute(Command::InstallPolicy(Box::new(trap.clone())))
        .unwrap();
    let Ok(Reply::Policy(installed)) = pair.west.execute(Command::QueryPolicy(trap.key)) else {
        panic!("the trap is there");
    };
    let (w, e) = (pair.west.inner(false), pair.east.inner(false));
    assert_eq!(datagrams(&pair.west, w, &pair.east, e, 1), 0);
    let Event::Acquire(acquire) = pair.west.event(|e| matches!(e, Event::Acquire(_))) else {
        unreachable!();
    };
    assert_eq!(acquire.policy_index, installed.policy.index);
    assert_eq!(acquire.policy, trap.key);
    assert_eq!(acquire.template, trap.templates[0]);
    assert_eq!(
        (acquire.src, acquire.dst),
        (pair.west.outer(false), pair.east.outer(false))
    );
    assert_eq!(acquire.selector.dst, e.into());
    let larval = pair.west.sadb.sas().unwrap();
    assert_eq!(larval.len(), 1);
    assert_eq!(
        (larval[0].state, larval[0].sa.acquire_seq),
        (SaState::Larval, acquire.seq)
    );

    let spi = allocate(&mut pair.east, acquire.src, acquire.dst, Mode::Tunnel);
    let inbound = recipe.sa(acquire.src, acquire.dst, spi, SaDirection::In, 1);
    let mut outbound = recipe.sa(acquire.src, acquire.dst, spi, SaDirection::Out, 1);
    outbound.acquire_seq = acquire.seq;
    let policy = recipe.policy(&pair.west, &pair.east, Direction::In);
    pair.east
        .execute(Command::InstallPolicy(Box::new(policy)))
        .unwrap();
    pair.east
        .execute(Command::InstallSa(Box::new(inbound)))
        .unwrap();
    pair.west
        .execute(Command::InstallSa(Box::new(outbound)))
        .unwrap();
    let sas = pair.west.sadb.sas().unwrap();
    assert_eq!(sas.len(), 1, "the larval state is gone: {sas:?}");
    assert_eq!(datagrams(&pair.west, w, &pair.east, e, 5), 5);
}

/// Soft and hard limits by packets and by time, as events; the SA is gone after a hard one.
#[test]
fn limits_raise_expiries() {
    if !with_esp("limits_raise_expiries") {
        return;
    }
    let mut pair = Pair::new();
    let recipe = Recipe::default();
    let tunnel = up(&mut pair, &recipe);
    let (w, e) = (pair.west.outer(false), pair.east.outer(false));
    let mut sa = recipe.sa(w, e, tunnel.there.spi, SaDirection::Out, 1);
    sa.lifetime.soft_packets = Some(3);
    sa.lifetime.hard_packets = Some(6);
    pair.west.execute(Command::UpdateSa(Box::new(sa))).unwrap();
    let (wi, ei) = (pair.west.inner(false), pair.east.inner(false));
    datagrams(&pair.west, wi, &pair.east, ei, 4);
    let is = |hard| move |e: &Event| matches!(e, Event::Expire(x) if x.hard == hard && x.sa.spi == tunnel.there.spi);
    let Event::Expire(soft) = pair.west.event(is(false)) else {
        unreachable!()
    };
    assert_eq!((soft.sa, soft.src, soft.reqid), (tunnel.there, w, 77));
    assert!(datagrams(&pair.west, wi, &pair.east, ei, 10) < 10);
    pair.west.event(is(true));
    assert_eq!(
        pair.west.execute(Command::QuerySa(tunnel.there)),
        Err(CommandError::NotFound)
    );

    // By time, on a fresh inbound SA.
    let mut sa = recipe.sa(addr("192.0.2.9"), w, 0x9999, SaDirection::In, 3);
    sa.lifetime.soft_add = Some(Duration::from_secs(1));
    sa.lifetime.hard_add = Some(Duration::from_secs(2));
    pair.west.execute(Command::InstallSa(Box::new(sa))).unwrap();
    let mine = |hard| move |e: &Event| matches!(e, Event::Expire(x) if x.sa.spi == 0x9999 && x.hard == hard);
    pair.west.event(mine(false));
    pair.west.event(mine(true));
}

/// A larval SA that expired before the answer: the SA is added anew.
#[test]
fn an_expired_reservation_does_not_stop_the_install() {
    if !with_esp("an_expired_reservation_does_not_stop_the_install") {
        return;
    }
    let mut pair = Pair::new();
    let recipe = Recipe::default();
    let (w, e) = (pair.west.outer(false), pair.east.outer(false));
    let spi = allocate(&mut pair.east, w, e, Mode::Tunnel);
    let sa = recipe.sa(w, e, spi, SaDirection::In, 1);
    pair.east.ns.ip(&format!(
        "xfrm state delete src {w} dst {e} proto esp spi {spi}"
    ));
    let install = Command::InstallSa(Box::new(sa.clone()));
    assert_eq!(pair.east.execute(install.clone()), Ok(Reply::Done));
    // And a second one is refused rather than changing the first.
    assert_eq!(pair.east.execute(install), Err(CommandError::Exists));
    assert_eq!(pair.east.report(sa.id).state, SaState::Valid);
}

/// A peer whose port changes: MAPPING with the old and the new one.
#[test]
fn a_changed_nat_mapping_is_told() {
    if !with_esp("a_changed_nat_mapping_is_told") {
        return;
    }
    let mut pair = Pair::new();
    let recipe = Recipe {
        encap: true,
        ..Recipe::default()
    };
    let (w, e) = (pair.west.outer(false), pair.east.outer(false));
    let _sockets = [
        pair.west.ns.run(|| espinudp(SocketAddr::new(w, 4500))),
        pair.east.ns.run(|| espinudp(SocketAddr::new(e, 4500))),
    ];
    let tunnel = up(&mut pair, &recipe);
    let (wi, ei) = (pair.west.inner(false), pair.east.inner(false));
    assert_eq!(datagrams(&pair.west, wi, &pair.east, ei, 5), 5);

    // West's NAT chooses another port.
    let mut sa = recipe.sa(w, e, tunnel.there.spi, SaDirection::Out, 1);
    sa.encap = Some(Encap {
        kind: EncapKind::Udp,
        local_port: 61000,
        remote_port: 4500,
    });
    pair.west.execute(Command::UpdateSa(Box::new(sa))).unwrap();
    assert_eq!(datagrams(&pair.west, wi, &pair.east, ei, 5), 5);
    let Event::Mapping(mapping) = pair.east.event(|e| matches!(e, Event::Mapping(_))) else {
        unreachable!();
    };
    assert_eq!((mapping.sa, mapping.reqid), (tunnel.there, 77));
    assert_eq!(mapping.old, SocketAddr::new(w, 4500));
    assert_eq!(mapping.new, SocketAddr::new(w, 61000));
}

fn espinudp(local: SocketAddr) -> UdpSocket {
    use std::os::fd::AsRawFd;
    const UDP_ENCAP: libc::c_int = 100;
    let socket = UdpSocket::bind(local).unwrap();
    let kind: libc::c_int = 2;
    // SAFETY: the pointer and length describe `kind`, which lives during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_UDP,
            UDP_ENCAP,
            (&raw const kind).cast(),
            4,
        )
    };
    assert_eq!(result, 0);
    socket
}

// ---- From here on no ESP is needed.

#[test]
fn a_kernel_without_esp_says_so() {
    if !privileged("a_kernel_without_esp_says_so") {
        return;
    }
    let ns = Netns::new("probe");
    let mut sadb = ns.run(|| LinuxSadb::open(None)).unwrap();
    let capabilities = sadb.probe().unwrap();
    eprintln!("{capabilities:?}");
    let recipe = Recipe::default();
    let sa = recipe.sa(
        addr("192.0.2.9"),
        addr("192.0.2.1"),
        0x1234,
        SaDirection::In,
        1,
    );
    match (
        capabilities.has_esp(),
        sadb.execute(&Command::InstallSa(Box::new(sa))),
    ) {
        (true, Ok(Reply::Done)) | (false, Err(CommandError::Unsupported(_))) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_say_what_a_key_manager_must_know() {
    if !privileged("errors_say_what_a_key_manager_must_know") {
        return;
    }
    let mut pair = Pair::new();
    let recipe = Recipe::default();
    let policy = recipe.policy(&pair.west, &pair.east, Direction::Out);
    let install = Command::InstallPolicy(Box::new(policy.clone()));
    assert_eq!(pair.west.execute(install.clone()), Ok(Reply::Done));
    assert_eq!(
        pair.west.execute(install.clone()),
        Err(CommandError::Exists)
    );
    let Ok(Reply::Policy(report)) = pair.west.execute(Command::QueryPolicy(policy.key)) else {
        panic!("no policy");
    };
    assert_ne!(report.policy.index, 0);
    assert_eq!(
        Policy {
            index: 0,
            ..report.policy
        },
        policy
    );
    let changed = Policy {
        priority: 5,
        ..policy.clone()
    };
    pair.west
        .execute(Command::UpdatePolicy(Box::new(changed)))
        .unwrap();
    assert_eq!(
        pair.west.execute(Command::RemovePolicy(policy.key)),
        Ok(Reply::Done)
    );
    assert_eq!(
        pair.west.execute(Command::RemovePolicy(policy.key)),
        Err(CommandError::NotFound)
    );
    // Seven templates are one too many.
    let mut crowded = policy.clone();
    crowded.templates = vec![policy.templates[0]; 7];
    let refused = pair.west.execute(Command::InstallPolicy(Box::new(crowded)));
    assert!(
        matches!(refused, Err(CommandError::Invalid(_))),
        "{refused:?}"
    );
    // A range of one SPI, used up.
    let mut request = AllocateSpi {
        src: addr("192.0.2.2"),
        dst: addr("192.0.2.1"),
        protocol: Protocol::Esp,
        mode: Mode::Tunnel,
        reqid: 1,
        if_id: 0,
        mark: Mark::ANY,
        min: 0x5000,
        max: 0x5000,
        acquire_seq: 0,
    };
    let allocate = |r: AllocateSpi| Command::AllocateSpi(r);
    assert_eq!(pair.west.execute(allocate(request)), Ok(Reply::Spi(0x5000)));
    request.reqid = 2;
    assert_eq!(
        pair.west.execute(allocate(request)),
        Err(CommandError::OutOfResources)
    );
    // What never reaches the kernel.
    let mut sa = recipe.sa(addr("192.0.2.9"), addr("192.0.2.1"), 1, SaDirection::In, 1);
    sa.replay_window = 5000;
    let refused = pair.west.execute(Command::InstallSa(Box::new(sa.clone())));
    assert!(
        matches!(refused, Err(CommandError::Invalid(_))),
        "{refused:?}"
    );
    sa.replay_window = 32;
    sa.encryption.transform = 999;
    let refused = pair.west.execute(Command::InstallSa(Box::new(sa)));
    assert_eq!(
        refused,
        Err(CommandError::Unsupported(
            "encryption transform 999 has no kernel name".into()
        ))
    );
}

/// S3.6: with everything else blocked the neighbour is still found.
#[test]
fn neighbour_discovery_has_holes() {
    if !privileged("neighbour_discovery_has_holes") {
        return;
    }
    let mut pair = Pair::new();
    let all = Selector::any(ipsec::Family::V6);
    for direction in Direction::ALL {
        let mut block = Policy::new(PolicyKey::new(direction, all));
        block.action = ipsec::Action::Block;
        block.priority = 100;
        pair.west
            .execute(Command::InstallPolicy(Box::new(block)))
            .unwrap();
    }
    let state = |pair: &Pair| {
        pair.west.ip("-6 neigh flush dev eth0");
        // East asks west for its link address, and west answers or not.
        pair.east.ip("-6 neigh flush dev eth0");
        pair.east.ns.run(|| {
            let socket = UdpSocket::bind("[2001:db8::2]:0").unwrap();
            let _ = socket.send_to(b"x", "[2001:db8::1]:9");
        });
        std::thread::sleep(Duration::from_millis(300));
        pair.east.ip("-6 neigh show to 2001:db8::1 dev eth0")
    };
    let found = |text: &str| text.contains("lladdr");
    let without = state(&pair);
    assert!(!found(&without), "blocked: {without}");
    let holes = NeighbourDiscoveryHoles::open(&mut pair.west.sadb).unwrap();
    assert_eq!(holes.made(), 6);
    // The failed entry has to be asked for anew.
    let end = Instant::now() + Duration::from_secs(5);
    let mut with = state(&pair);
    while !found(&with) && Instant::now() < end {
        with = state(&pair);
    }
    assert!(found(&with), "open: {with}");
    holes.close(&mut pair.west.sadb).unwrap();
    assert_eq!(pair.west.sadb.policies().unwrap().len(), 3);
}

const CRASH: &str = "CYGNET_TEST_CRASH";

fn numbered(n: u8) -> Policy {
    let selector = Selector::new(
        format!("10.{n}.0.0/16").parse().unwrap(),
        "10.200.0.0/16".parse().unwrap(),
    );
    let mut policy = Policy::new(PolicyKey::new(Direction::Out, selector));
    policy.action = ipsec::Action::Block;
    policy.priority = 1000 + u32::from(n);
    policy
}

/// The first life: makes things and is killed. Runs as a child of the next test.
#[test]
fn crash_child() {
    let Some(arguments) = std::env::var_os(CRASH) else {
        return;
    };
    let arguments = arguments.into_string().unwrap();
    let (ledger, recipe) = (PathBuf::from(arguments), Recipe::default());
    let mut ledger = Ledger::open(ledger).unwrap();
    // Death between the entry and the request: once for what is never made, once for what
    // somebody else has.
    ledger
        .begin([8, 9].iter().map(|n| Claim::policy(&numbered(*n).key)))
        .unwrap();
    let mut sadb = LinuxSadb::open(Some(ledger)).unwrap();
    let commands: Vec<_> = [1, 2, 3]
        .map(|n| Command::InstallPolicy(Box::new(numbered(n))))
        .into_iter()
        .chain([Command::AllocateSpi(AllocateSpi {
            src: addr("192.0.2.2"),
            dst: addr("192.0.2.1"),
            protocol: Protocol::Esp,
            mode: Mode::Tunnel,
            reqid: 77,
            if_id: 0,
            mark: Mark::ANY,
            min: 0x6000,
            max: 0x6fff,
            acquire_seq: 0,
        })])
        .collect();
    for result in sadb.execute_all(&commands) {
        result.unwrap();
    }
    // EEXIST: somebody else's, and it stays so.
    assert_eq!(
        sadb.execute(&Command::InstallPolicy(Box::new(numbered(7)))),
        Err(CommandError::Exists)
    );
    if sadb.probe().unwrap().has_esp() {
        let sa = recipe.sa(
            addr("192.0.2.9"),
            addr("192.0.2.1"),
            0x7000,
            SaDirection::In,
            1,
        );
        sadb.execute(&Command::InstallSa(Box::new(sa))).unwrap();
    }
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        .unwrap();
}

#[test]
fn after_kill_9_what_was_ours_is_found_and_nothing_else_is_touched() {
    const TEST: &str = "after_kill_9_what_was_ours_is_found_and_nothing_else_is_touched";
    if !privileged(TEST) {
        return;
    }
    let ns = Netns::new("crash");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("xfrm.ledger");

    // Somebody else's things, also under keys that we will want.
    let mut other = ns.run(|| LinuxSadb::open(None)).unwrap();
    for n in [7, 9, 50] {
        other
            .execute(&Command::InstallPolicy(Box::new(numbered(n))))
            .unwrap();
    }
    let foreign_spi = Command::AllocateSpi(AllocateSpi {
        src: addr("192.0.2.2"),
        dst: addr("192.0.2.1"),
        protocol: Protocol::Esp,
        mode: Mode::Tunnel,
        reqid: 1,
        if_id: 0,
        mark: Mark::ANY,
        min: 0x6000,
        max: 0x6fff,
        acquire_seq: 0,
    });
    other.execute(&foreign_spi).unwrap();
    // The kernel's times have whole seconds, and a second is allowed for clocks that differ.
    std::thread::sleep(Duration::from_millis(2100));

    let exe = std::env::current_exe().unwrap();
    let status = ns
        .run(|| {
            Process::new(&exe)
                .args(["--exact", "crash_child", "--nocapture"])
                .env(CRASH, &path)
                .status()
        })
        .unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(status.signal(), Some(9), "{status}");

    // The next life.
    let mut sadb = ns
        .run(|| LinuxSadb::open(Some(Ledger::open(&path).unwrap())))
        .unwrap();
    let found = sadb.reconcile().unwrap();
    let mut adopted = found.adopted_policies.clone();
    adopted.sort_by_key(|k| k.selector.src);
    assert_eq!(adopted, [1, 2, 3].map(|n| numbered(n).key));
    let larval = found
        .removed_sas
        .iter()
        .filter(|id| (0x6000..=0x6fff).contains(&id.spi))
        .count();
    assert_eq!(larval, 1);
    let esp = found.removed_sas.iter().any(|id| id.spi == 0x7000);
    assert_eq!(found.removed_sas.len(), 1 + usize::from(esp));
    assert_eq!(
        found.dropped_entries, 2,
        "8 was never made, 9 is older than its entry"
    );
    assert_eq!(sadb.sas().unwrap().len(), 1, "the foreign larval state");

    // What is configured still is taken over without a gap; the rest goes.
    for n in [1, 2] {
        assert_eq!(
            sadb.execute(&Command::InstallPolicy(Box::new(numbered(n)))),
            Ok(Reply::Done)
        );
    }
    assert_eq!(
        sadb.execute(&Command::InstallPolicy(Box::new(numbered(1)))),
        Err(CommandError::Exists),
        "only once"
    );
    let removed: Vec<_> = sadb
        .remove_unclaimed()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(removed, [numbered(3).key]);
    assert_eq!(priorities(&mut sadb), [1001, 1002, 1007, 1009, 1050]);

    // What is foreign cannot be removed or replaced, not even by mistake.
    assert_eq!(
        sadb.execute(&Command::RemovePolicy(numbered(50).key)),
        Err(CommandError::NotFound)
    );
    assert_eq!(
        sadb.execute(&Command::UpdatePolicy(Box::new(numbered(50)))),
        Err(CommandError::Exists)
    );
    // Ours can, also what the same send has just made.
    let mut changed = numbered(4);
    changed.priority = 5;
    let commands = [
        Command::UpdatePolicy(Box::new(numbered(4))),
        Command::UpdatePolicy(Box::new(changed.clone())),
        Command::RemovePolicy(changed.key),
    ];
    assert_eq!(
        sadb.execute_all(&commands),
        [Ok(Reply::Done), Ok(Reply::Done), Ok(Reply::Done)]
    );

    // A polite stop.
    assert_eq!(sadb.remove_all(), []);
    assert_eq!(priorities(&mut sadb), [1007, 1009, 1050]);
    assert_eq!(sadb.sas().unwrap().len(), 1);
    assert!(sadb.ledger().unwrap().is_empty());
    settle();
    ns.run(|| ip("link set lo up"));
}

fn priorities(sadb: &mut LinuxSadb) -> Vec<u32> {
    let mut list: Vec<_> = sadb
        .policies()
        .unwrap()
        .iter()
        .map(|report| report.policy.priority)
        .collect();
    list.sort_unstable();
    list
}
