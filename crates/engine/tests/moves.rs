//! Child SAs follow a peer whose address or port changes, on both planes: the same SAs under the same keys, policies
//! that lead to them, and nothing left over where it fails.

mod network;

use std::net::SocketAddr;
use std::time::Duration;

use cygnet_engine::{
    ConnectionKind, Event, HostSpec, Input, Plane, PlaneChoice, Sourced, StartAction,
};
use cygnet_ike::{Encapsulation, TsTemplate};
use cygnet_ipsec::{Command, CommandError, Mapping, Outbound, Sa, SaDirection};
use cygnet_kernel::sadb::SadbEvent;
use network::{EAST, Network, WEST, connection, ip, packet, set};

const PLANES: [(PlaneChoice, Plane); 2] = [
    (PlaneChoice::Kernel, Plane::Kernel),
    (PlaneChoice::Userspace, Plane::Userspace),
];

/// East believes that west is behind a NAT.
fn up(choice: PlaneChoice) -> Network {
    let mut net = Network::west_and_east();
    let mut west = connection("t", StartAction::Start, choice);
    west.ike.encapsulation = Encapsulation::Yes;
    net.load(
        EAST,
        set(vec![connection("t", StartAction::Add, choice)], "secret"),
    );
    net.load(WEST, set(vec![west], "secret"));
    net.run_for(Duration::from_secs(1));
    net.assert_tunnel(PLANES.iter().find(|p| p.0 == choice).unwrap().1);
    net
}

/// East's SAs: inbound, outbound.
fn sas(net: &mut Network, plane: Plane) -> (Sa, Sa) {
    let sas = net.east().sas(plane);
    let one = |direction| {
        sas.iter()
            .find(|sa| sa.direction == direction)
            .cloned()
            .expect("a pair")
    };
    (one(SaDirection::In), one(SaDirection::Out))
}

/// East's plane sees ESP from elsewhere.
fn mapping(net: &mut Network, plane: Plane, new: &str) {
    let inbound = sas(net, plane).0;
    let event = cygnet_ipsec::Event::Mapping(Mapping {
        sa: inbound.id,
        reqid: inbound.reqid,
        old: SocketAddr::new(inbound.src, inbound.encap.expect("UDP").remote_port),
        new: new.parse().expect("an address and port"),
    });
    net.east().database(plane).emit(SadbEvent::Event(event));
    net.settle();
}

fn reply() -> cygnet_ipsec::Flow {
    let there = packet();
    cygnet_ipsec::Flow {
        src: there.dst,
        dst: there.src,
        sport: there.dport,
        dport: there.sport,
        ..there
    }
}

#[test]
fn the_sas_follow_a_changed_mapping() {
    for (choice, plane) in PLANES {
        let mut net = up(choice);
        let (in_before, out_before) = sas(&mut net, plane);
        for new in ["192.0.2.1:61000", "203.0.113.5:61001", "203.0.113.5:61002"] {
            mapping(&mut net, plane, new);
            let new: SocketAddr = new.parse().unwrap();
            let (inbound, outbound) = sas(&mut net, plane);
            assert_eq!((inbound.src, outbound.id.dst), (new.ip(), new.ip()));
            for sa in [&inbound, &outbound] {
                let encap = sa.encap.expect("UDP");
                assert_eq!((encap.local_port, encap.remote_port), (4500, new.port()));
            }
            assert_eq!(
                (inbound.id.spi, outbound.id.spi),
                (in_before.id.spi, out_before.id.spi),
                "the same SAs"
            );
            let resolution = net.east().database(plane).send(&reply());
            assert!(
                matches!(resolution.verdict, Outbound::Protect { .. }),
                "{resolution:?}"
            );
            assert!(resolution.missing.is_empty());
        }
        let renewed = |c: &Command| matches!(c, Command::InstallSa(_));
        let installed = net
            .east()
            .database(plane)
            .log()
            .iter()
            .filter(|c| renewed(c));
        assert_eq!(installed.count(), 2, "none was installed anew");
        // And they can be taken away from where they are now.
        let now = net.now;
        net.east().engine.down(now, "t").expect("it is loaded");
        net.run_for(Duration::from_secs(200));
        assert_eq!(net.east().leftovers(plane), 0);
    }
}

#[test]
fn an_acquire_of_a_policy_whose_sa_has_just_left_asks_for_nothing() {
    for (choice, plane) in PLANES {
        let mut net = up(choice);
        net.east().holding = true;
        mapping_held(&mut net, plane);
        // The SAs are gone from where the policy still looks for them.
        let (id, request) = net.east().held.pop_front().expect("a move");
        let cygnet_engine::Request::Execute {
            plane: at,
            commands,
        } = request
        else {
            panic!("{request:?}")
        };
        assert_eq!(at, plane);
        assert!(matches!(
            &commands[..2],
            [Command::MoveSa(_), Command::MoveSa(_)]
        ));
        let now = net.now;
        for command in &commands[..2] {
            cygnet_ipsec::SaDatabase::execute(net.east().database(plane), command).unwrap();
        }
        let resolution = net.east().database(plane).send(&reply());
        assert_eq!(resolution.missing.len(), 1);
        for command in &commands[2..] {
            cygnet_ipsec::SaDatabase::execute(net.east().database(plane), command).unwrap();
        }
        let results = commands
            .iter()
            .map(|_| Ok(cygnet_ipsec::Reply::Done))
            .collect();
        let answer = cygnet_engine::Answer::Executed(results);
        net.east().engine.handle(now, Input::Answer { id, answer });
        net.release(EAST);
        net.run_for(Duration::from_secs(5));
        assert_eq!(net.status(EAST).ike_sas.len(), 1, "no second one");
    }
}

fn mapping_held(net: &mut Network, plane: Plane) {
    mapping(net, plane, "203.0.113.5:61001");
}

#[test]
fn what_cannot_follow_is_taken_away_whole() {
    for (choice, plane) in PLANES {
        for done in 0..4 {
            let mut net = up(choice);
            let refusal = CommandError::OutOfResources;
            net.east().database(plane).refuse_after(done, refusal);
            mapping(&mut net, plane, "203.0.113.5:61001");
            let told = net
                .east()
                .events
                .iter()
                .any(|e| matches!(e, Event::MoveFailed { .. }));
            assert!(told, "after {done} commands");
            // The peer is told where it is now; whether it hears that or not, everything goes.
            net.run_for(Duration::from_secs(200));
            assert_eq!(net.east().leftovers(plane), 0, "after {done} commands");
            assert!(net.east().protections.is_empty());
        }
    }
}

/// Two peers have chosen the same SPI, and one comes to be behind the same NAT: the other one's SA is not touched.
#[test]
fn a_peer_with_the_spi_of_another_one_is_not_followed() {
    for (choice, plane) in PLANES {
        let mut net = Network::west_and_east();
        let north = net.add("north", "192.0.2.3");
        let mut other = connection("u", StartAction::Add, choice);
        other.left.host = Sourced::default_value(HostSpec::Address(ip("192.0.2.3")));
        other.left.subnets = vec![TsTemplate::prefix("10.3.0.0/24".parse().unwrap())];
        other.ike.initial_contact = false;
        let both = vec![connection("t", StartAction::Add, choice), other.clone()];
        net.load(EAST, set(both, "secret"));
        for (host, mut connection) in [
            (WEST, connection("t", StartAction::Start, choice)),
            (north, other),
        ] {
            connection.start = StartAction::Start;
            connection.ike.encapsulation = Encapsulation::Yes;
            net.load(host, set(vec![connection], "secret"));
        }
        net.run_for(Duration::from_secs(1));
        let outbound = |net: &mut Network, peer: &str| {
            let is_it = |sa: &&Sa| sa.id.dst == ip(peer);
            net.east().sas(plane).iter().find(is_it).cloned()
        };
        let of_north = outbound(&mut net, "192.0.2.3").expect("north's");
        let of_west = outbound(&mut net, "192.0.2.1").expect("west's");
        assert_eq!(of_north.id.spi, of_west.id.spi);
        let wests = |sa: &&Sa| sa.direction == SaDirection::In && sa.src == ip("192.0.2.1");
        let inbound = net.east().sas(plane).iter().find(wests).cloned();
        let inbound = inbound.expect("west's");
        let event = cygnet_ipsec::Event::Mapping(Mapping {
            sa: inbound.id,
            reqid: inbound.reqid,
            old: "192.0.2.1:4500".parse().unwrap(),
            new: "192.0.2.3:61001".parse().unwrap(),
        });
        net.east().database(plane).emit(SadbEvent::Event(event));
        net.run_for(Duration::from_secs(200));
        assert_eq!(outbound(&mut net, "192.0.2.3"), Some(of_north));
        assert_eq!(net.state(north, "u"), "up");
    }
}

#[test]
fn a_peer_without_nat_is_not_followed() {
    for (choice, plane) in PLANES {
        let mut net = Network::west_and_east();
        for host in [EAST, WEST] {
            let start = if host == WEST {
                StartAction::Start
            } else {
                StartAction::Add
            };
            net.load(host, set(vec![connection("t", start, choice)], "secret"));
        }
        net.run_for(Duration::from_secs(1));
        let before = sas(&mut net, plane).0;
        let event = cygnet_ipsec::Event::Mapping(Mapping {
            sa: before.id,
            reqid: before.reqid,
            old: SocketAddr::new(before.src, 4500),
            new: "203.0.113.66:4500".parse().unwrap(),
        });
        net.east().database(plane).emit(SadbEvent::Event(event));
        net.settle();
        assert_eq!(sas(&mut net, plane).0, before);
    }
}

/// West goes to another address, with everything that is up.
fn roam(net: &mut Network, to: &[&str]) {
    let addresses: Vec<_> = to.iter().map(|a| ip(a)).collect();
    if let Some(first) = addresses.first() {
        net.west().address = *first;
    }
    let now = net.now;
    net.west().engine.handle(now, Input::Addresses(addresses));
    net.run_for(Duration::from_secs(2));
}

#[test]
fn with_mobike_a_tunnel_outlives_its_address() {
    for (choice, plane) in PLANES {
        let mut net = Network::west_and_east();
        let mut mobile = connection("t", StartAction::Start, choice);
        mobile.ike.mobike = true;
        let mut there = mobile.clone();
        there.start = StartAction::Add;
        net.load(EAST, set(vec![there], "secret"));
        net.load(WEST, set(vec![mobile], "secret"));
        net.run_for(Duration::from_secs(1));
        net.assert_tunnel(plane);
        let spis = sas(&mut net, plane).0.id.spi;
        assert!(net.status(WEST).ike_sas[0].mobike);
        for addresses in [&["192.0.2.9"][..], &[], &["198.51.100.9", "10.1.0.1"]] {
            roam(&mut net, addresses);
        }
        net.assert_tunnel(plane);
        assert_eq!(net.state(WEST, "t"), "up");
        assert_eq!(sas(&mut net, plane).0.id.spi, spis, "the same SAs");
        for (host, flow) in [(WEST, packet()), (EAST, reply())] {
            let resolution = net.hosts[host].database(plane).send(&flow);
            assert!(
                matches!(resolution.verdict, Outbound::Protect { .. }),
                "{host} {resolution:?}"
            );
        }
        let outer = sas(&mut net, plane).1.id.dst;
        assert_eq!(outer, ip("198.51.100.9"), "not where the protected net is");

        // East ends it: now the address that the connection is for is looked for again.
        let now = net.now;
        net.east().engine.down(now, "t").expect("it is loaded");
        net.run_for(Duration::from_secs(5));
        assert_eq!(net.state(WEST, "t"), "unoriented");
        assert!(net.west().sas(plane).is_empty());
        roam(&mut net, &["192.0.2.1"]);
        net.run_for(Duration::from_secs(120));
        net.assert_tunnel(plane);
        let now = net.now;
        net.west().engine.down(now, "t").expect("it is loaded");
        net.run_for(Duration::from_secs(5));
        for host in &mut net.hosts {
            assert_eq!(host.leftovers(plane), 0, "{}", host.name);
            assert!(host.protections.is_empty(), "{}", host.name);
        }
    }
}

/// The inner addresses of BEET mode are not the outer ones: they stay.
#[test]
fn so_do_sas_in_beet_mode_but_not_in_transport_mode() {
    for (choice, plane) in PLANES {
        for kind in [ConnectionKind::Beet, ConnectionKind::Transport] {
            let mut net = Network::west_and_east();
            let mut mobile = connection("t", StartAction::Start, choice);
            mobile.ike.mobike = true;
            mobile.kind = kind;
            let inner = |address: &str| vec![TsTemplate::prefix(address.parse().unwrap())];
            let beet = kind == ConnectionKind::Beet;
            if beet {
                mobile.left.subnets = inner("10.1.0.7/32");
                mobile.right.subnets = inner("10.2.0.9/32");
            } else {
                mobile.left.subnets = inner("192.0.2.1/32");
                mobile.right.subnets = inner("192.0.2.2/32");
            }
            let mut there = mobile.clone();
            there.start = StartAction::Add;
            net.load(EAST, set(vec![there], "secret"));
            net.load(WEST, set(vec![mobile], "secret"));
            net.run_for(Duration::from_secs(1));
            assert_eq!(net.state(WEST, "t"), "up", "{kind:?}");
            assert_eq!(net.status(WEST).ike_sas[0].mobike, beet);
            if !beet {
                continue;
            }
            let (before, _) = sas(&mut net, plane);
            roam(&mut net, &["192.0.2.9"]);
            let (inbound, outbound) = sas(&mut net, plane);
            assert_eq!(
                (inbound.src, outbound.id.dst),
                (ip("192.0.2.9"), ip("192.0.2.9"))
            );
            assert_eq!(
                (inbound.id.spi, inbound.selector),
                (before.id.spi, before.selector)
            );
            for (host, flow) in [(WEST, packet()), (EAST, reply())] {
                let resolution = net.hosts[host].database(plane).send(&flow);
                let protected = matches!(resolution.verdict, Outbound::Protect { .. });
                assert!(protected, "{host} {resolution:?}");
            }
        }
    }
}
