//! SAs that are renewed in place, IKE SAs that several connections share, and
//! what becomes of both when rekeying is refused.

mod network;

use std::time::Duration;

use cygnet_engine::{Connection, Event, Plane, PlaneChoice, StartAction};
use cygnet_ike::{Childless, TsTemplate};
use network::{EAST, Network, WEST, connection, expire, packet, set};

const PLANES: [(PlaneChoice, Plane); 2] = [
    (PlaneChoice::Kernel, Plane::Kernel),
    (PlaneChoice::Userspace, Plane::Userspace),
];

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// West begins, east waits.
fn up_with(choice: PlaneChoice, change: impl Fn(&mut Connection)) -> Network {
    let mut net = Network::west_and_east();
    for (host, start) in [(EAST, StartAction::Add), (WEST, StartAction::Start)] {
        let mut c = connection("t", start, choice);
        change(&mut c);
        net.load(host, set(vec![c], "secret"));
    }
    net.run_for(seconds(1));
    net
}

fn ikes(net: &Network, host: usize) -> Vec<u64> {
    net.status(host).ike_sas.iter().map(|ike| ike.id).collect()
}

fn child_ids(net: &Network, host: usize, name: &str) -> Vec<u64> {
    let status = net.status(host);
    let found = status.connections.iter().find(|c| c.name == name);
    found.map_or(Vec::new(), |c| {
        c.children.iter().map(|child| child.id).collect()
    })
}

/// A connection of that name to another network of east's.
fn branch(name: &str, start: StartAction, third: u8) -> Connection {
    let mut c = connection(name, start, PlaneChoice::Kernel);
    let net = format!("10.2.{third}.0/24");
    c.right.subnets = vec![TsTemplate::prefix(net.parse().expect("a prefix"))];
    c
}

fn branches(start: StartAction) -> Vec<Connection> {
    vec![
        branch("a", start, 0),
        branch("b", start, 1),
        branch("c", start, 2),
    ]
}

#[test]
fn a_soft_limit_makes_a_successor_of_the_child_under_the_same_ike_sa() {
    for (choice, plane) in PLANES {
        for host in [WEST, EAST] {
            let mut net = up_with(choice, |_| {});
            let (ike, old) = (ikes(&net, host), net.hosts[host].sas(plane));
            let reqids: Vec<u32> = old.iter().map(|sa| sa.reqid).collect();
            expire(&mut net, host, plane, false);
            net.run_for(seconds(1));
            let status = net.status(host);
            let children = &status.connections[0].children;
            assert_eq!(children.len(), 1);
            assert!(children[0].replaces.is_some() && children[0].sending);
            assert_eq!(ikes(&net, host), ike, "the IKE SA stays");
            net.run_for(seconds(20));
            net.assert_tunnel(plane);
            let new = net.hosts[host].sas(plane);
            assert!(new.iter().all(|n| old.iter().all(|o| o.id.spi != n.id.spi)));
            assert_eq!(new.iter().map(|sa| sa.reqid).collect::<Vec<_>>(), reqids);
            for host in &mut net.hosts {
                assert!(!host.names().contains(&"connection_down"), "{}", host.name);
                assert_eq!(host.policies(plane), 3, "{}", host.name);
            }
        }
    }
}

#[test]
fn lifetimes_renew_child_and_ike_again_and_again() {
    let mut net = up_with(PlaneChoice::Kernel, |c| {
        c.ike.lifetime = seconds(1000);
        c.child.lifetime = seconds(300);
        c.child.rekey_margin = seconds(60);
        c.child.rekey_fuzz = 100;
    });
    for _ in 0..100 {
        // The memory kernel leaves it to the test to notice lifetimes.
        net.run_for(seconds(200));
        expire(&mut net, WEST, Plane::Kernel, false);
        net.run_for(seconds(20));
        net.assert_tunnel(Plane::Kernel);
        assert_eq!(ikes(&net, WEST).len(), 1);
    }
    for host in &net.hosts {
        let ups = host
            .names()
            .iter()
            .filter(|n| **n == "connection_up")
            .count();
        assert_eq!(ups, 1, "{}: it has been up all the time", host.name);
        let made = host
            .names()
            .iter()
            .filter(|n| **n == "ike_established")
            .count();
        assert!(
            (20..=40).contains(&made),
            "{}: {made} IKE SAs in 22,000 s",
            host.name
        );
    }
}

#[test]
fn reauthentication_makes_everything_anew_before_the_old_goes() {
    let mut net = Network::west_and_east();
    net.load(1, set(branches(StartAction::Add), "secret"));
    let mut west = branches(StartAction::Start);
    for c in &mut west {
        c.ike.reauth = true;
        c.ike.lifetime = seconds(1000);
    }
    net.load(0, set(west, "secret"));
    net.run_for(seconds(1));
    let first = ikes(&net, WEST);
    assert_eq!(first.len(), 1);
    net.run_for(seconds(720));
    let second = ikes(&net, WEST);
    assert_eq!(second.len(), 1);
    assert_ne!(first, second);
    assert_eq!(net.west().sas(Plane::Kernel).len(), 6);
    assert!(
        net.status(WEST).ike_sas[0].replaces.is_none(),
        "not by rekeying"
    );
    for host in &net.hosts {
        assert!(!host.names().contains(&"connection_down"), "{}", host.name);
    }
}

#[test]
fn connections_to_one_peer_share_an_ike_sa_and_the_last_takes_it_along() {
    let mut net = Network::west_and_east();
    net.load(1, set(branches(StartAction::Add), "secret"));
    net.load(0, set(branches(StartAction::Start), "secret"));
    net.run_for(seconds(1));
    for host in [WEST, EAST] {
        assert_eq!(ikes(&net, host).len(), 1);
        assert_eq!(net.hosts[host].sas(Plane::Kernel).len(), 6);
        assert_eq!(net.status(host).ike_sas[0].connections, ["a", "b", "c"]);
    }
    for (name, left) in [("b", 4), ("a", 2), ("c", 0)] {
        let now = net.now;
        net.west().engine.down(now, name).expect("it is loaded");
        net.run_for(seconds(1));
        for host in [WEST, EAST] {
            assert_eq!(net.state(host, name), "waiting");
            assert_eq!(net.hosts[host].sas(Plane::Kernel).len(), left);
            assert_eq!(ikes(&net, host).len(), usize::from(left > 0));
        }
    }
    for host in &mut net.hosts {
        assert_eq!(host.leftovers(Plane::Kernel), 0, "{}", host.name);
    }
}

#[test]
fn the_peer_makes_further_children_under_an_ike_sa_of_ours() {
    let mut net = Network::west_and_east();
    net.load(1, set(branches(StartAction::Add), "secret"));
    net.load(0, set(branches(StartAction::Add), "secret"));
    let now = net.now;
    net.west().engine.up(now, "a").expect("it is loaded");
    net.run_for(seconds(1));
    let now = net.now;
    net.east().engine.up(now, "b").expect("it is loaded");
    net.run_for(seconds(1));
    for host in [WEST, EAST] {
        assert_eq!(ikes(&net, host).len(), 1);
        assert_eq!((net.state(host, "a"), net.state(host, "b")), ("up", "up"));
    }
    // What is loaded later may be asked for as well.
    let mut more = branches(StartAction::Add);
    more.push(branch("d", StartAction::Add, 3));
    net.load(0, set(more.clone(), "secret"));
    net.load(1, set(more, "secret"));
    for (host, name) in [(EAST, "d"), (WEST, "c")] {
        let now = net.now;
        net.hosts[host].engine.up(now, name).expect("it is loaded");
        net.run_for(seconds(1));
        assert_eq!(net.state(WEST, name), "up");
    }
    assert_eq!(ikes(&net, WEST).len(), 1);
}

#[test]
fn both_ends_that_begin_all_connections_at_once_end_with_one_of_each() {
    for seed in 0..60 {
        let mut net = Network::seeded(seed);
        net.load(0, set(branches(StartAction::Start), "secret"));
        net.run_for(Duration::from_millis(seed % 25));
        net.load(1, set(branches(StartAction::Start), "secret"));
        net.run_for(seconds(40));
        for host in [WEST, EAST] {
            for name in ["a", "b", "c"] {
                assert_eq!(net.state(host, name), "up", "seed {seed}");
                assert_eq!(child_ids(&net, host, name).len(), 1, "seed {seed}, {name}");
            }
            assert_eq!(ikes(&net, host).len(), 1, "seed {seed}");
            assert_eq!(net.hosts[host].sas(Plane::Kernel).len(), 6, "seed {seed}");
        }
    }
}

#[test]
fn one_connection_that_fails_leaves_the_others_alone() {
    let mut net = Network::west_and_east();
    let mut east = branches(StartAction::Add);
    east.pop();
    net.load(1, set(east, "secret"));
    net.load(0, set(branches(StartAction::Start), "secret"));
    net.run_for(seconds(120));
    assert_eq!((net.state(WEST, "a"), net.state(WEST, "b")), ("up", "up"));
    assert_ne!(net.state(WEST, "c"), "up");
    assert_eq!(ikes(&net, WEST).len(), 1);
    let made = net
        .west()
        .names()
        .iter()
        .filter(|n| **n == "ike_established")
        .count();
    assert_eq!(
        made, 1,
        "each attempt is made under the IKE SA that there is"
    );
    net.load(1, set(branches(StartAction::Add), "secret"));
    net.run_for(seconds(90));
    assert_eq!(net.state(WEST, "c"), "up");
}

#[test]
fn a_rekey_that_the_peer_refuses_leads_to_a_new_ike_sa() {
    let mut net = Network::west_and_east();
    let mut east = connection("t", StartAction::Add, PlaneChoice::Kernel);
    // East wants no key exchange for its child SAs, west insists on one.
    let mut west = connection("t", StartAction::Start, PlaneChoice::Kernel);
    for p in &mut west.child.proposals.value {
        p.key_exchange = vec![cygnet_crypto::KeyExchange::X25519];
    }
    for p in &mut east.child.proposals.value {
        p.key_exchange.clear();
    }
    net.load(1, set(vec![east], "secret"));
    net.load(0, set(vec![west], "secret"));
    net.run_for(seconds(1));
    let (ike, old) = (ikes(&net, WEST), net.west().sas(Plane::Kernel));
    expire(&mut net, WEST, Plane::Kernel, false);
    net.run_for(seconds(30));
    net.assert_tunnel(Plane::Kernel);
    assert_ne!(net.west().sas(Plane::Kernel), old);
    assert_ne!(ikes(&net, WEST), ike);
    assert!(net.west().names().contains(&"child_rekey_failed"));
    assert!(!net.west().names().contains(&"connection_down"));
}

#[test]
fn a_persons_word_renews_at_once() {
    let mut net = up_with(PlaneChoice::Kernel, |_| {});
    let (ike, child) = (ikes(&net, WEST), child_ids(&net, WEST, "t"));
    let now = net.now;
    let west = &mut net.west().engine;
    assert_eq!(west.rekey(now, "t", false), Ok(1));
    net.run_for(seconds(1));
    assert_eq!(ikes(&net, WEST), ike);
    let second = child_ids(&net, WEST, "t");
    assert_ne!(second, child);
    let now = net.now;
    assert_eq!(net.east().engine.rekey(now, "t", true), Ok(1));
    net.run_for(seconds(1));
    assert_ne!(ikes(&net, WEST), ike);
    assert_eq!(child_ids(&net, WEST, "t"), second, "it is handed over");
    let now = net.now;
    net.west().engine.down(now, "t").expect("it is loaded");
    net.run_for(seconds(10));
    for host in &mut net.hosts {
        assert_eq!(host.leftovers(Plane::Kernel), 0, "{}", host.name);
    }
    let now = net.now;
    assert_eq!(net.west().engine.rekey(now, "t", true), Ok(0));
}

#[test]
fn a_trap_makes_its_child_under_the_ike_sa_that_there_is() {
    let mut net = Network::west_and_east();
    net.load(1, set(branches(StartAction::Add), "secret"));
    let mut west = branches(StartAction::OnDemand);
    west[1].start = StartAction::Start;
    net.load(0, set(west, "secret"));
    net.run_for(seconds(1));
    assert_eq!(
        (net.state(WEST, "a"), net.state(WEST, "b")),
        ("trapped", "up")
    );
    net.west().kernel.send(&packet());
    net.run_for(seconds(1));
    assert_eq!(net.state(WEST, "a"), "up");
    assert_eq!(ikes(&net, WEST).len(), 1);
    let ups = net
        .west()
        .events
        .iter()
        .filter(|e| matches!(e, Event::ConnectionUp { .. }));
    assert_eq!(ups.count(), 2);
}

#[test]
fn the_old_inbound_sa_stays_for_what_is_still_on_its_way() {
    for (choice, plane) in PLANES {
        let mut net = up_with(choice, |_| {});
        let old = net.west().sas(plane);
        expire(&mut net, WEST, plane, false);
        net.run_for(Duration::from_millis(500));
        for host in 0..2 {
            let address = net.hosts[host].address;
            let sas = net.hosts[host].sas(plane);
            let inbound = sas.iter().filter(|sa| sa.id.dst == address).count();
            assert_eq!((inbound, sas.len()), (2, 3), "the old and the new one");
        }
        net.run_for(seconds(10));
        net.assert_tunnel(plane);
        assert!(net.west().sas(plane).iter().all(|sa| !old.contains(sa)));
        // Nor is it in the way of a shutdown.
        expire(&mut net, WEST, plane, false);
        net.run_for(Duration::from_millis(500));
        let now = net.now;
        net.west().engine.shutdown(now);
        net.run_for(seconds(1));
        assert!(net.west().engine.is_drained());
        assert_eq!(net.west().leftovers(plane), 0);
    }
}

#[test]
fn without_child_in_ike_auth_all_connections_come_up_and_stay() {
    for childless in [Childless::Prefer, Childless::Force] {
        let mut net = Network::west_and_east();
        net.load(1, set(branches(StartAction::Add), "secret"));
        let mut west = branches(StartAction::Start);
        for c in &mut west {
            c.ike.childless = childless;
        }
        net.load(0, set(west, "secret"));
        net.run_for(seconds(60));
        for host in [WEST, EAST] {
            assert_eq!(ikes(&net, host).len(), 1);
            assert!(net.status(host).ike_sas[0].childless);
            assert_eq!(net.status(host).ike_sas[0].connections, ["a", "b", "c"]);
            assert_eq!(net.hosts[host].sas(Plane::Kernel).len(), 6);
            for name in ["a", "b", "c"] {
                assert_eq!(child_ids(&net, host, name).len(), 1);
            }
            assert!(!net.hosts[host].names().contains(&"ike_closed"));
        }
    }
}

#[test]
fn without_child_in_ike_auth_a_packet_brings_its_connection_up() {
    let mut net = Network::west_and_east();
    let childless = |start| {
        let mut c = connection("t", start, PlaneChoice::Kernel);
        c.ike.childless = Childless::Force;
        c
    };
    net.load(EAST, set(vec![childless(StartAction::Add)], "secret"));
    net.load(WEST, set(vec![childless(StartAction::OnDemand)], "secret"));
    net.run_for(seconds(1));
    net.west().kernel.send(&packet());
    net.run_for(seconds(30));
    net.assert_tunnel(Plane::Kernel);
    let now = net.now;
    net.west().engine.down(now, "t").expect("it is loaded");
    net.run_for(seconds(1));
    for host in [WEST, EAST] {
        assert!(ikes(&net, host).is_empty());
        assert!(net.hosts[host].sas(Plane::Kernel).is_empty());
    }
}

#[test]
fn an_ike_sa_whose_child_is_refused_afterwards_goes() {
    let mut net = Network::west_and_east();
    let mut east = connection("t", StartAction::Add, PlaneChoice::Kernel);
    east.right.subnets = vec![TsTemplate::prefix("10.9.0.0/24".parse().expect("a prefix"))];
    net.load(EAST, set(vec![east], "secret"));
    let mut west = connection("t", StartAction::Start, PlaneChoice::Kernel);
    west.ike.childless = Childless::Force;
    net.load(WEST, set(vec![west], "secret"));
    net.run_for(Duration::from_millis(500));
    assert!(net.west().names().contains(&"attempt_failed"));
    let now = net.now;
    net.west().engine.down(now, "t").expect("it is loaded");
    net.run_for(seconds(100));
    for host in [WEST, EAST] {
        assert!(ikes(&net, host).is_empty());
        assert!(net.hosts[host].sas(Plane::Kernel).is_empty());
    }
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// West renews the child SA, and the response to its deletion of the old one is lost.
fn lose_answer_to_deletion(net: &mut Network) {
    expire(net, WEST, Plane::Kernel, false);
    net.run_for(millis(16));
    net.cut = true;
    net.run_for(millis(6));
    net.cut = false;
}

#[test]
fn nothing_goes_out_by_an_sa_whose_deletion_is_under_way() {
    let mut net = up_with(PlaneChoice::Kernel, |_| {});
    lose_answer_to_deletion(&mut net);
    let address = net.west().address;
    let sas = net.west().sas(Plane::Kernel);
    let outbound = sas.iter().filter(|sa| sa.id.dst != address).count();
    assert_eq!((outbound, sas.len()), (1, 3), "both are still received on");
    net.run_for(seconds(20));
    net.assert_tunnel(Plane::Kernel);
}

#[test]
fn what_is_on_the_way_is_received_though_the_successor_has_a_successor() {
    let mut net = up_with(PlaneChoice::Kernel, |_| {});
    let address = net.west().address;
    let sas = net.west().sas(Plane::Kernel);
    let first = sas.into_iter().find(|sa| sa.id.dst == address);
    let first = first.expect("an inbound SA").id;
    lose_answer_to_deletion(&mut net);
    expire(&mut net, EAST, Plane::Kernel, false);
    // Only now is the deletion of the first answered.
    net.run_for(seconds(1));
    assert_eq!(child_ids(&net, WEST, "t").len(), 1);
    let sas = net.west().sas(Plane::Kernel);
    assert!(sas.iter().any(|sa| sa.id == first));
    net.run_for(seconds(20));
    net.assert_tunnel(Plane::Kernel);
}

#[test]
fn a_connection_that_is_unloaded_while_a_successor_is_made_does_not_come_back() {
    let mut net = Network::west_and_east();
    let mut kept = connection("t", StartAction::Keep, PlaneChoice::Kernel);
    net.load(WEST, set(vec![kept.clone()], "secret"));
    let east = connection("t", StartAction::Start, PlaneChoice::Kernel);
    net.load(EAST, set(vec![east], "secret"));
    net.run_for(seconds(1));
    // West cannot say good-bye while it waits for a response.
    net.cut = true;
    expire(&mut net, WEST, Plane::Kernel, false);
    net.run_for(millis(6));
    net.cut = false;
    net.west().holding = true;
    expire(&mut net, EAST, Plane::Kernel, false);
    net.run_for(millis(6));
    // It has its SPI and is being installed.
    net.release_one(WEST);
    kept.child.lifetime = seconds(1800);
    net.west().events.clear();
    net.load(WEST, set(vec![kept], "secret"));
    net.release(WEST);
    let names = net.west().names();
    assert!(names.contains(&"child_established"), "{names:?}");
    net.run_for(seconds(30));
    assert_eq!(net.status(WEST).connections.len(), 1);
}

#[test]
fn a_configuration_that_changes_between_the_first_two_exchanges_is_the_one_that_counts() {
    let mut net = Network::west_and_east();
    let mut east = connection("t", StartAction::Add, PlaneChoice::Kernel);
    net.load(EAST, set(vec![east.clone()], "secret"));
    let west = connection("t", StartAction::Start, PlaneChoice::Kernel);
    net.load(WEST, set(vec![west], "secret"));
    net.run_for(millis(6));
    east.child.lifetime = seconds(1800);
    net.load(EAST, set(vec![east], "secret"));
    net.run_for(millis(500));
    net.assert_tunnel(Plane::Kernel);
    assert!(!net.west().names().contains(&"attempt_failed"));
}

#[test]
fn an_ike_sa_that_has_a_successor_gets_no_further_child_sas() {
    let mut net = up_with(PlaneChoice::Kernel, |c| {
        c.ike.liveness = Some(seconds(5));
        c.ike.retransmit.timeout = seconds(10);
    });
    let (now, old) = (net.now, ikes(&net, WEST));
    let rekeyed = net.east().engine.rekey(now, "t", true);
    assert_eq!(rekeyed.expect("it is loaded"), 1);
    net.settle();
    // CREATE_CHILD_SA, and IKE_FOLLOWUP_KE on its way back.
    net.run_for(millis(16));
    // West has made the successor. East never hears of it and does not delete the old one.
    net.cut = true;
    net.run_for(seconds(19));
    let status = net.status(WEST);
    assert!(status.ike_sas.iter().any(|ike| old.contains(&ike.id)));
    let states: Vec<_> = status.ike_sas.iter().map(|ike| ike.state).collect();
    assert!(states.contains(&"initiating"), "{states:?}");
    net.cut = false;
    net.run_for(seconds(200));
    net.assert_tunnel(Plane::Kernel);
}

/// West takes over: both ends agree on Message IDs, the child SA gets new keys, and both ends go on (RFC 6311).
#[test]
fn a_gateway_that_takes_over_synchronises_and_renews() {
    for member in [WEST, EAST] {
        let mut net = Network::west_and_east();
        let east = connection("t", StartAction::Add, PlaneChoice::Kernel);
        net.load(EAST, set(vec![east], "secret"));
        let west = connection("t", StartAction::Start, PlaneChoice::Kernel);
        net.load(WEST, set(vec![west], "secret"));
        net.run_for(seconds(1));
        net.assert_tunnel(Plane::Kernel);
        assert!(net.status(member).ike_sas[0].message_id_sync);
        let before = net.status(WEST).connections[0].children[0].spi_in.clone();
        let now = net.now;
        let engine = &mut net.hosts[member].engine;
        assert_eq!(engine.synchronise(now, "t"), Ok(1));
        assert!(engine.synchronise(now, "nobody").is_err());
        net.run_for(seconds(10));
        net.assert_tunnel(Plane::Kernel);
        let after = net.status(WEST).connections[0].children[0].spi_in.clone();
        assert_ne!(before, after);
        for host in [WEST, EAST] {
            let names = net.hosts[host].names();
            assert!(names.contains(&"synchronised"), "{names:?}");
            assert!(names.contains(&"replay_counters"), "{names:?}");
            assert!(!names.contains(&"skip_failed"), "{names:?}");
            assert!(!names.contains(&"ike_closed"), "{names:?}");
            assert!(!names.contains(&"retransmitting"), "{names:?}");
        }
    }
}
