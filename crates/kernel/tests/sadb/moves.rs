//! SAs that move to other addresses (`Command::MoveSa`): traffic goes on under the old numbers.

use std::net::{IpAddr, SocketAddr};

use cygnet_ipsec as ipsec;
use cygnet_kernel::Sadb;
use cygnet_kernel::sadb::LinuxSadb;
use ipsec::{
    Command, CommandError, Direction, Encap, EncapKind, Mode, MoveSa, Policy, Reply, SaId, SaState,
    SkipSequence,
};

use crate::esp::espinudp;
use crate::pair::{Host, Pair, Recipe, Tunnel, addr, datagrams, up, with_esp};

/// The last sequence numbers of an SA: received and sent.
fn sequence(host: &Host, id: SaId) -> (u32, u32) {
    let text = host.ip(&format!(
        "-s xfrm state get dst {} proto esp spi {}",
        id.dst, id.spi
    ));
    let (_, replay) = text.split_once("anti-replay").expect(&text);
    let number = |name: &str| {
        let (_, rest) = replay.split_once(&format!(" {name} 0x")).expect(&text);
        let digits = rest.split([',', ' ']).next().unwrap();
        u32::from_str_radix(digits, 16).expect(&text)
    };
    (number("seq"), number("oseq"))
}

/// Moves both SAs of a tunnel at both ends, and the policies with them.
fn move_to(
    pair: &mut Pair,
    recipe: &Recipe,
    tunnel: &mut Tunnel,
    west: SocketAddr,
    east: SocketAddr,
    encapsulated: bool,
) {
    let encap = |local: SocketAddr, remote: SocketAddr| {
        encapsulated.then_some(Encap {
            kind: EncapKind::Udp,
            local_port: local.port(),
            remote_port: remote.port(),
        })
    };
    for at_west in [true, false] {
        let (local, remote) = if at_west { (west, east) } else { (east, west) };
        let policies = policies(pair, recipe, at_west, local.ip(), remote.ip());
        let host = if at_west {
            &mut pair.west
        } else {
            &mut pair.east
        };
        for (id, src, dst) in [
            (tunnel.there, west.ip(), east.ip()),
            (tunnel.back, east.ip(), west.ip()),
        ] {
            let encap = encap(local, remote);
            let request = MoveSa {
                id,
                src,
                dst,
                encap,
            };
            assert_eq!(
                host.execute(Command::MoveSa(request)),
                Ok(Reply::Done),
                "{request:?}"
            );
            let report = host.report(request.new_id());
            assert_eq!((report.sa.src, report.sa.encap), (src, encap));
            assert_eq!(report.state, SaState::Valid);
            if src != dst && id.dst != dst {
                let old = host.execute(Command::QuerySa(id));
                assert_eq!(old, Err(CommandError::NotFound));
            }
        }
        for policy in policies {
            host.execute(Command::UpdatePolicy(Box::new(policy)))
                .unwrap();
        }
    }
    tunnel.there.dst = east.ip();
    tunnel.back.dst = west.ip();
}

fn policies(
    pair: &Pair,
    recipe: &Recipe,
    at_west: bool,
    local: IpAddr,
    remote: IpAddr,
) -> Vec<Policy> {
    let (own, other) = if at_west {
        (&pair.west, &pair.east)
    } else {
        (&pair.east, &pair.west)
    };
    let mut outbound = recipe.policy(own, other, Direction::Out);
    let mut inbound = recipe.policy(other, own, Direction::In);
    for (policy, (src, dst)) in [
        (&mut outbound, (local, remote)),
        (&mut inbound, (remote, local)),
    ] {
        policy.templates[0].src = src;
        policy.templates[0].dst = dst;
    }
    vec![outbound, inbound]
}

/// Both ends move, several times: addresses, ports, encapsulation, family. Every packet arrives, and no number is
/// used again.
#[test]
fn sas_move_and_keep_their_numbers() {
    if !with_esp("sas_move_and_keep_their_numbers") {
        return;
    }
    let mut pair = Pair::new();
    pair.west.ns.ip("addr add 192.0.2.11/24 dev eth0");
    pair.east.ns.ip("addr add 192.0.2.12/24 dev eth0");
    let _sockets = [
        pair.west
            .ns
            .run(|| espinudp(SocketAddr::new(addr("192.0.2.11"), 4500))),
        pair.west
            .ns
            .run(|| espinudp(SocketAddr::new(addr("192.0.2.11"), 4501))),
        pair.east
            .ns
            .run(|| espinudp(SocketAddr::new(addr("192.0.2.2"), 4500))),
    ];
    eprintln!(
        "MIGRATE_STATE: {}",
        pair.west.sadb.probe().unwrap().migrate_state
    );
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let ways = [
        ("192.0.2.11:4500", "192.0.2.2:4500", true),
        ("192.0.2.11:4501", "192.0.2.2:4500", true),
        ("192.0.2.11:4501", "192.0.2.12:4500", false),
        ("[2001:db8::1]:500", "[2001:db8::2]:500", false),
        ("192.0.2.1:500", "192.0.2.2:500", false),
    ];
    for (esn, window) in [(false, 32), (true, 128), (false, 1024)] {
        for migrate_state in [false, true] {
            let recipe = Recipe {
                esn,
                window,
                ..Recipe::default()
            };
            let mut tunnel = up(&mut pair, &recipe);
            if !migrate_state {
                pair.west.sadb.without_migrate_state();
                pair.east.sadb.without_migrate_state();
            }
            let (w, e) = (pair.west.inner(false), pair.east.inner(false));
            let mut expected = 0;
            let mut check = |pair: &Pair, tunnel: &Tunnel, what: &str| {
                assert_eq!(datagrams(&pair.west, w, &pair.east, e, 10), 10, "{what}");
                assert_eq!(datagrams(&pair.east, e, &pair.west, w, 10), 10, "{what}");
                expected += 10;
                for (id, from, to) in [
                    (tunnel.there, &pair.west, &pair.east),
                    (tunnel.back, &pair.east, &pair.west),
                ] {
                    assert_eq!(sequence(from, id), (0, expected), "{what}");
                    assert_eq!(sequence(to, id), (expected, 0), "{what}");
                }
            };
            check(&pair, &tunnel, "at first");
            for (west, east, encapsulated) in ways {
                move_to(
                    &mut pair,
                    &recipe,
                    &mut tunnel,
                    at(west),
                    at(east),
                    encapsulated,
                );
                check(&pair, &tunnel, &format!("{west} {east} {encapsulated}"));
            }
            let packets = pair.east.report(tunnel.there).counters.packets;
            assert_eq!(packets, 60, "counters go on");
            crate::pair::down(&mut pair, &recipe, &tunnel);
            // The next one finds out for itself what the kernel can do.
            for host in [&mut pair.west, &mut pair.east] {
                host.sadb = host.ns.run(|| LinuxSadb::open(None)).unwrap();
            }
        }
    }
}

/// Sequence numbers are left out after a failover (RFC 6311 §5.2): traffic goes on behind them under the same key.
#[test]
fn sequence_numbers_are_left_out() {
    if !with_esp("sequence_numbers_are_left_out") {
        return;
    }
    let mut pair = Pair::new();
    for (esn, window) in [(false, 32), (true, 128), (false, 1024)] {
        let recipe = Recipe {
            esn,
            window,
            ..Recipe::default()
        };
        let tunnel = up(&mut pair, &recipe);
        let (w, e) = (pair.west.inner(false), pair.east.inner(false));
        assert_eq!(datagrams(&pair.west, w, &pair.east, e, 10), 10);
        let skip = |id, by| Command::SkipSequence(SkipSequence { id, by });
        let mut last = 10;
        for _ in 0..2 {
            assert_eq!(
                pair.west.execute(skip(tunnel.there, 1 << 30)),
                Ok(Reply::Done)
            );
            assert_eq!(datagrams(&pair.west, w, &pair.east, e, 10), 10);
            last += (1 << 30) + 10;
            assert_eq!(sequence(&pair.west, tunnel.there), (0, last));
            assert_eq!(sequence(&pair.east, tunnel.there), (last, 0));
        }
        let packets = pair.east.report(tunnel.there).counters.packets;
        assert_eq!(packets, 30, "counters go on");
        let end = pair.west.execute(skip(tunnel.there, 1 << 30));
        assert_eq!(end.is_ok(), esn, "a fourth of 32 bits is kept back");
        let inbound = pair.west.execute(skip(tunnel.back, 1));
        assert!(matches!(inbound, Err(CommandError::Invalid(_))));
        let nobody = SaId {
            spi: tunnel.there.spi ^ 1,
            ..tunnel.there
        };
        assert_eq!(
            pair.west.execute(skip(nobody, 1)),
            Err(CommandError::NotFound)
        );
        assert_eq!(datagrams(&pair.west, w, &pair.east, e, 10), 10);
        crate::pair::down(&mut pair, &recipe, &tunnel);
    }
}

/// What cannot be moved stays as it is.
#[test]
fn an_impossible_move_changes_nothing() {
    if !with_esp("an_impossible_move_changes_nothing") {
        return;
    }
    let mut pair = Pair::new();
    let recipe = Recipe::default();
    let tunnel = up(&mut pair, &recipe);
    let (w, e) = (pair.west.outer(false), pair.east.outer(false));
    let nowhere = MoveSa {
        id: SaId {
            spi: 0x999,
            ..tunnel.there
        },
        src: w,
        dst: e,
        encap: None,
    };
    assert_eq!(
        pair.west.execute(Command::MoveSa(nowhere)),
        Err(CommandError::NotFound)
    );
    let taken = recipe.sa(
        w,
        addr("192.0.2.9"),
        tunnel.there.spi,
        ipsec::SaDirection::Out,
        9,
    );
    pair.west
        .execute(Command::InstallSa(Box::new(taken)))
        .unwrap();
    let onto = MoveSa {
        id: tunnel.there,
        dst: addr("192.0.2.9"),
        ..nowhere
    };
    assert_eq!(
        pair.west.execute(Command::MoveSa(onto)),
        Err(CommandError::Exists)
    );
    let mixed = MoveSa {
        src: pair.west.outer(true),
        ..onto
    };
    assert!(matches!(
        pair.west.execute(Command::MoveSa(mixed)),
        Err(CommandError::Invalid(_))
    ));
    let spi = crate::pair::allocate(&mut pair.east, w, e, Mode::Tunnel);
    let larval = MoveSa {
        id: SaId {
            spi,
            ..tunnel.there
        },
        ..nowhere
    };
    assert!(matches!(
        pair.east.execute(Command::MoveSa(larval)),
        Err(CommandError::Invalid(_))
    ));
    let (wi, ei) = (pair.west.inner(false), pair.east.inner(false));
    assert_eq!(datagrams(&pair.west, wi, &pair.east, ei, 5), 5);
}
