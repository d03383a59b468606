//! What needs ESP in the kernel: traffic, limits, events.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use cygnet_ipsec as ipsec;
use cygnet_kernel::Sadb;
use ipsec::{
    CipherKey, Command, CommandError, Direction, Encap, EncapKind, Event, IntegrityKey, Lifetime,
    Mark, Mode, Reply, Sa, SaDirection, SaFlags, SaState, Selector,
};

use crate::pair::{Host, Pair, Recipe, Tunnel, addr, allocate, datagrams, down, up, with_esp};

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
        assert_eq!(
            out.sa.encryption.as_ref().unwrap().transform,
            recipe.encryption.0
        );
        assert_eq!(
            out.sa.integrity.map(|i| i.transform),
            recipe.integrity.map(|i| i.0)
        );
        assert!(
            out.sa.encryption.unwrap().key.is_empty(),
            "keys are not read back"
        );
        assert!(inbound.counters.used.is_some() && inbound.counters.integrity_failed == 0);
    }
}

/// S3.5: iproute2 shows what we meant.
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
    let key = hex(sa.encryption.as_ref().unwrap().key.as_bytes());
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
        encryption: Some(CipherKey {
            transform: 12,
            key: Vec::new().into(),
        }),
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

/// S3.5, S4.6: A packet raises an ACQUIRE; the answer with its number replaces the larval SA; traffic flows.
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

/// S3.5: Soft and hard limits by packets and by time, as events; the SA is gone after a hard one.
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

pub fn espinudp(local: SocketAddr) -> UdpSocket {
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
