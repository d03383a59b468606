//! Dead peers, peers that move, attempts that are not worth repeating, and
//! connections that do not go together; child SAs that carry nothing.

mod network;

use std::num::NonZeroU32;
use std::time::Duration;

use cygnet_engine::{
    Connection, DeadPeerAction, HostSpec, Intent, LoadError, Plane, PlaneChoice, PlaneConflict,
    ResolveQuery, Sourced, StartAction,
};
use network::{EAST, Network, WEST, connection, ip, packet, set};

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A connection that finds its peer dead after 10 s of silence and 10 s of questions.
fn watchful(start: StartAction, dead_peer: Option<DeadPeerAction>) -> Connection {
    let mut c = connection("t", start, PlaneChoice::Kernel);
    c.ike.liveness = Some(seconds(10));
    c.ike.retransmit.timeout = seconds(10);
    c.ike.dead_peer = dead_peer;
    c
}

/// What is wanted of the connection.
fn intent(net: &Network, host: usize) -> Intent {
    net.status(host).connections[0].intent
}

/// A tunnel whose peer has just been found dead by west.
fn bereaved(start: StartAction, dead_peer: Option<DeadPeerAction>) -> Network {
    let mut net = Network::west_and_east();
    let east = connection("t", StartAction::Add, PlaneChoice::Kernel);
    net.load(1, set(vec![east], "secret"));
    net.load(0, set(vec![watchful(start, dead_peer)], "secret"));
    if start != StartAction::Start {
        let now = net.now;
        net.west().engine.up(now, "t").expect("it is loaded");
    }
    net.run_for(seconds(1));
    net.assert_tunnel(Plane::Kernel);
    net.cut = true;
    net.run_for(seconds(21));
    assert!(net.west().sas(Plane::Kernel).is_empty(), "the peer is dead");
    net
}

#[test]
fn a_dead_peers_connection_stays_wanted_unless_told_otherwise() {
    let mut net = bereaved(StartAction::Start, None);
    assert_eq!(intent(&net, WEST), Intent::Up);
    net.cut = false;
    net.run_for(seconds(30));
    assert_eq!(net.state(WEST, "t"), "up");
}

#[test]
fn clear_ends_the_connection_for_good() {
    let mut net = bereaved(StartAction::Start, Some(DeadPeerAction::Clear));
    net.cut = false;
    net.run_for(seconds(120));
    assert_eq!(
        (intent(&net, WEST), net.state(WEST, "t")),
        (Intent::Down, "waiting")
    );
    assert_eq!(net.west().leftovers(Plane::Kernel), 0);
}

#[test]
fn hold_leaves_a_trap_that_brings_it_back() {
    let mut net = bereaved(StartAction::Start, Some(DeadPeerAction::Trap));
    net.cut = false;
    net.run_for(seconds(120));
    assert_eq!(
        (intent(&net, WEST), net.state(WEST, "t")),
        (Intent::OnDemand, "trapped")
    );
    net.west().kernel.send(&packet());
    net.run_for(seconds(1));
    assert_eq!(net.state(WEST, "t"), "up");
}

#[test]
fn restart_brings_back_what_the_peer_had_made() {
    let mut net = Network::west_and_east();
    let east = watchful(StartAction::Add, Some(DeadPeerAction::Restart));
    net.load(1, set(vec![east], "secret"));
    let west = connection("t", StartAction::Start, PlaneChoice::Kernel);
    net.load(0, set(vec![west], "secret"));
    net.run_for(seconds(1));
    net.cut = true;
    net.run_for(seconds(21));
    assert!(net.east().sas(Plane::Kernel).is_empty(), "the peer is dead");
    assert_eq!(intent(&net, EAST), Intent::Up);
    let now = net.now;
    net.west().engine.down(now, "t").expect("it is loaded");
    net.cut = false;
    net.run_for(seconds(60));
    assert_eq!(net.state(EAST, "t"), "up", "east calls");
}

/// A peer that was restarted shows it with its token in answer to whatever is said next: the tunnel is back, or what is
/// wanted instead, before anybody could have lost patience (RFC 6290).
#[test]
fn a_restarted_peer_is_found_out_at_once() {
    for (action, intended, state) in [
        (None, Intent::Up, "up"),
        (Some(DeadPeerAction::Restart), Intent::Up, "up"),
        (Some(DeadPeerAction::Trap), Intent::OnDemand, "trapped"),
        (Some(DeadPeerAction::Clear), Intent::Down, "waiting"),
    ] {
        let mut net = Network::west_and_east();
        let east = connection("t", StartAction::Add, PlaneChoice::Kernel);
        net.load(EAST, set(vec![east.clone()], "secret"));
        let mut west = connection("t", StartAction::Add, PlaneChoice::Kernel);
        west.ike.dead_peer = action;
        net.load(WEST, set(vec![west], "secret"));
        let now = net.now;
        net.west().engine.up(now, "t").expect("it is loaded");
        net.run_for(seconds(1));
        net.assert_tunnel(Plane::Kernel);
        assert!(net.status(WEST).ike_sas[0].crash_token);
        net.restart(EAST);
        net.load(EAST, set(vec![east], "secret"));
        net.run_for(seconds(1));
        let now = net.now;
        let begun = net.west().engine.rekey(now, "t", false);
        begun.expect("there is something to renew");
        net.run_for(seconds(2));
        assert_eq!(
            (intent(&net, WEST), net.state(WEST, "t")),
            (intended, state)
        );
        let names = net.west().names();
        assert!(!names.contains(&"retransmitting"), "{names:?}");
        if intended == Intent::Up {
            net.assert_tunnel(Plane::Kernel);
        } else {
            assert!(net.west().sas(Plane::Kernel).is_empty());
        }
    }
}

#[test]
fn keyingtries_bounds_the_attempts_and_a_packet_starts_anew() {
    let mut net = Network::west_and_east();
    net.cut = true;
    let mut west = watchful(StartAction::Start, None);
    west.ike.keying_tries = NonZeroU32::new(3);
    net.load(0, set(vec![west], "secret"));
    net.run_for(seconds(3600));
    let failed = |net: &mut Network| {
        let names = net.west().names();
        names.iter().filter(|n| **n == "attempt_failed").count()
    };
    assert_eq!(failed(&mut net), 3);
    assert_eq!(
        (intent(&net, WEST), net.state(WEST, "t")),
        (Intent::OnDemand, "trapped")
    );
    net.west().kernel.send(&packet());
    net.run_for(seconds(60));
    assert_eq!(failed(&mut net), 4);
    let now = net.now;
    net.west().engine.up(now, "t").expect("it is loaded");
    net.run_for(seconds(3600));
    assert_eq!(failed(&mut net), 7, "a person's word counts from the start");
}

#[test]
fn a_named_peer_is_looked_up_again_when_it_does_not_answer() {
    let mut net = Network::west_and_east();
    let query = ResolveQuery::Name("east.example".to_owned());
    net.west()
        .resolved
        .insert(query.clone(), vec![ip("203.0.113.99")]);
    let mut west = watchful(StartAction::Start, None);
    west.right.host = Sourced::default_value(HostSpec::Name("east.example".to_owned()));
    let east = connection("t", StartAction::Add, PlaneChoice::Kernel);
    net.load(1, set(vec![east], "secret"));
    net.load(0, set(vec![west], "secret"));
    net.run_for(seconds(30));
    assert_ne!(net.state(WEST, "t"), "up");
    net.west()
        .resolved
        .insert(query.clone(), vec![ip("192.0.2.2")]);
    net.run_for(seconds(60));
    net.assert_tunnel(Plane::Kernel);
    assert_eq!(
        net.west().policies(Plane::Kernel),
        3,
        "the trap has moved along"
    );
    // A resolver that is out of order does not take away an address that was good.
    net.west().resolved.remove(&query);
    net.cut = true;
    net.run_for(seconds(200));
    net.cut = false;
    net.run_for(seconds(90));
    net.assert_tunnel(Plane::Kernel);
}

#[test]
fn equal_traffic_on_both_planes_is_refused_with_both_names() {
    let mut net = Network::west_and_east();
    let a = connection("a", StartAction::Add, PlaneChoice::Kernel);
    net.load(0, set(vec![a.clone()], "secret"));
    // Written the other way round, it is the same traffic.
    let mut b = connection("b", StartAction::Add, PlaneChoice::Userspace);
    std::mem::swap(&mut b.left, &mut b.right);
    let now = net.now;
    let mut load = |connections: Vec<Connection>| {
        let engine = &mut net.west().engine;
        engine.load(now, set(connections, "secret"))
    };
    assert_eq!(
        load(vec![a.clone(), b.clone()]),
        Err(LoadError::PlaneConflict(PlaneConflict {
            first: "a".to_owned(),
            second: "b".to_owned(),
            traffic: "10.2.0.0/24 to 10.1.0.0/24".to_owned(),
        }))
    );
    let mut ignored = b.clone();
    ignored.start = StartAction::Ignore;
    assert_eq!(load(vec![a.clone(), ignored]), Ok(()));
    let mut marked = b.clone();
    marked.child.mark_in = cygnet_ipsec::Mark::exact(7);
    marked.child.mark_out = cygnet_ipsec::Mark::exact(7);
    assert_eq!(load(vec![a.clone(), marked]), Ok(()), "other policies");
    b.plane = PlaneChoice::Kernel;
    assert_eq!(load(vec![a, b]), Ok(()));
    net.settle();
    assert_eq!(net.status(WEST).connections.len(), 2);
}

#[test]
fn a_child_that_carries_nothing_goes_and_comes_back_with_a_packet() {
    for (choice, plane) in [
        (PlaneChoice::Kernel, Plane::Kernel),
        (PlaneChoice::Userspace, Plane::Userspace),
    ] {
        let mut net = Network::west_and_east();
        let east = connection("t", StartAction::Add, choice);
        net.load(1, set(vec![east], "secret"));
        let mut west = connection("t", StartAction::Start, choice);
        west.child.inactivity = Some(seconds(60));
        net.load(0, set(vec![west], "secret"));
        for _ in 0..300 {
            net.run_for(seconds(1));
            net.west().carried += 1;
        }
        assert_eq!(net.state(WEST, "t"), "up", "it is in use");
        let questions = net.west().questions;
        assert!(
            (20..=60).contains(&questions),
            "{questions} in five minutes"
        );
        net.run_for(seconds(59));
        assert_eq!(net.state(WEST, "t"), "up");
        net.run_for(seconds(17));
        assert_eq!(net.state(WEST, "t"), "trapped");
        assert_eq!(net.state(EAST, "t"), "waiting", "the peer was told");
        assert!(net.west().sas(plane).is_empty());
        net.west().database(plane).send(&packet());
        net.run_for(seconds(1));
        assert_eq!(net.state(WEST, "t"), "up");
    }
}

/// What comes in on a child SA proves that the peer lives, though no IKE message arrives; a plane is asked once in each
/// interval.
#[test]
fn traffic_on_a_child_sa_is_a_sign_of_life() {
    for (choice, plane) in [
        (PlaneChoice::Kernel, Plane::Kernel),
        (PlaneChoice::Userspace, Plane::Userspace),
    ] {
        let mut net = Network::west_and_east();
        let east = connection("t", StartAction::Add, choice);
        net.load(1, set(vec![east], "secret"));
        let west = Connection {
            plane: choice,
            ..watchful(StartAction::Start, None)
        };
        net.load(0, set(vec![west], "secret"));
        net.run_for(seconds(1));
        net.assert_tunnel(plane);
        net.cut = true;
        for _ in 0..100 {
            net.west().carried += 1;
            net.run_for(seconds(1));
        }
        assert_eq!(net.state(WEST, "t"), "up");
        let questions = net.west().questions;
        assert!((9..=11).contains(&questions), "{questions} in 100 s");
        // From now on it is silent: the question after the last packet finds that, and the peer is asked.
        net.run_for(seconds(32));
        assert!(net.west().sas(plane).is_empty(), "the peer is dead");
    }
}
