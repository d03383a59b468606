//! NAT detection, the move to port 4500, and peers whose address changes (RFC 7296 §2.23).

use std::net::SocketAddr;

use cygnet_ike::*;

use crate::pair::*;
use crate::sim::*;

//= rfc7296#2.23
//= type=test
//# The IKE initiator MUST check the NAT_DETECTION_SOURCE_IP or
//# NAT_DETECTION_DESTINATION_IP payloads if present, and if they do
//# not match the addresses in the outer packet, MUST tunnel all
//# future IKE and ESP packets associated with this IKE SA over UDP
//# port 4500.
//= rfc7296#2.11
//= type=test
//# An implementation MUST accept incoming requests even if the
//# source port is not 500 or 4500, and MUST respond to the address and
//# port from which the request was received.
//= rfc7296#2.23
//= type=test
//# However, if a NAT
//# is detected, both devices MUST use UDP encapsulation for ESP.
//= rfc7296#2.23
//= type=test
//# An IPsec
//# endpoint that discovers a NAT between it and its correspondent (as
//# described below) MUST send all subsequent traffic from port 4500,
//# which NATs should not treat specially (as they might with port 500).
//= rfc3948#2.1
//= type=test
//# the Source Port and Destination Port MUST be the same as that used
//# by IKE traffic,
//= rfc7296#2.23
//= type=test
//# UDP encapsulation MUST NOT be done on port 500.
#[test]
fn behind_a_nat_both_move_to_port_4500() {
    let mut sim = Pair::default().sim(1);
    sim.nat = Some(Nat::new(EAST.parse().unwrap(), NAT.parse().unwrap()));
    let ike = sim.initiate(0, WEST);
    sim.run_for(s(1));
    let ports: Vec<_> = sim
        .lines()
        .iter()
        .map(|l| l[..l.find(" IKE").unwrap()].to_owned())
        .collect();
    assert_eq!(
        ports,
        [
            "east 500 > 500",
            "west 500 > 40001",
            "east 4500 > 4500",
            "west 4500 > 40002"
        ]
    );
    established(&sim);
    let (east, west) = (child(&sim, 0).clone(), child(&sim, 1).clone());
    assert!(east.encapsulation.is_some() && west.encapsulation.is_some());
    assert_eq!(
        (east.remote.port(), west.local.port(), west.remote.port()),
        (4500, 4500, 40_002)
    );
    let (e, w) = (
        sim.nodes[0].endpoint.ike_sa(ike).unwrap().nat,
        sim.nodes[1].endpoint.ike_sas().next().unwrap().nat,
    );
    assert!(e.local && !e.remote && w.remote && !w.local);

    // The NAT forgets its mapping: the next authenticated message shows the new one.
    sim.nat.as_mut().unwrap().rebind();
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    sim.run_for(s(1));
    assert_eq!(
        sim.lines().last().unwrap(),
        "west 4500 > 40003 INFORMATIONAL response 2 SK"
    );
    let moved = sim.nodes[1].events.last().unwrap();
    assert!(
        matches!(moved, Event::Moved { from, to, .. } if from.1.port() == 40_002 && to.1.port() == 40_003)
    );
}

/// Whoever catches a message of the peer can send it to port 500 instead: that does not take ESP out of UDP.
#[test]
fn nobody_is_followed_to_port_500() {
    let mut sim = Pair::default().sim(1);
    sim.nat = Some(Nat::new(EAST.parse().unwrap(), NAT.parse().unwrap()));
    let ike = sim.initiate(0, WEST);
    sim.run_for(s(1));
    let before = child_addresses(&sim);
    sim.manual = true;
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    let mut caught = sim.sent().remove(0);
    caught.transport = Transport::Udp;
    caught.src = "203.0.113.66:500".parse().unwrap();
    caught.dst.set_port(500);
    sim.deliver(caught);
    let answer = sim.sent().remove(0);
    assert_eq!(answer.dst.port(), 500, "that is where it came from");
    assert_eq!(child_addresses(&sim), before);
}

/// Where west has its child SA, and whether it is in UDP.
fn child_addresses(sim: &Sim) -> (SocketAddr, SocketAddr, bool) {
    let child = sim.nodes[1].endpoint.child_sas().next();
    let child = child.expect("a child SA");
    (child.local, child.remote, child.encapsulation.is_some())
}

//= rfc3948#4
//= type=test
//# A peer SHOULD send a NAT-keepalive packet if a need for it is
//# detected according to [RFC3947] and if no other packet to the peer
//# has been sent in M seconds.
#[test]
fn the_end_behind_the_nat_keeps_its_mapping_alive() {
    let keepalives = |sim: &Sim, node: usize| sim.nodes[node].endpoint.stats().keepalives_sent;
    let mut sim = Pair::default().sim(1);
    sim.nat = Some(Nat::new(EAST.parse().unwrap(), NAT.parse().unwrap()));
    let ike = sim.initiate(0, WEST);
    sim.run_for(s(19));
    assert_eq!(keepalives(&sim, 0), 0);
    sim.run_for(s(2));
    assert_eq!(keepalives(&sim, 0), 1);
    assert_eq!(sim.lines().last().unwrap(), "east 4500 > 4500 keepalive");
    sim.run_for(s(60));
    assert_eq!(keepalives(&sim, 0), 4);
    // A message of ours serves as well.
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    sim.run_for(s(19));
    assert_eq!(keepalives(&sim, 0), 4);
    sim.run_for(s(2));
    assert_eq!(keepalives(&sim, 0), 5);
    assert_eq!(keepalives(&sim, 1), 0, "the other end needs none");
    sim.act(0, |endpoint, now| endpoint.delete_ike(now, ike));
    sim.run_for(s(100));
    assert_eq!(keepalives(&sim, 0), 5);

    // Not wanted, or not needed.
    let mut pair = Pair::default();
    pair.east.nat_keepalive = false;
    let mut quiet = pair.sim(1);
    quiet.nat = Some(Nat::new(EAST.parse().unwrap(), NAT.parse().unwrap()));
    quiet.initiate(0, WEST);
    let mut open = Pair::default().sim(1);
    open.initiate(0, WEST);
    for mut sim in [quiet, open] {
        sim.run_for(s(100));
        established(&sim);
        assert_eq!(keepalives(&sim, 0) + keepalives(&sim, 1), 0);
    }
}

/// The data plane sees it first: ESP comes from the new port before any message does.
#[test]
fn esp_shows_a_new_mapping_too() {
    let mut sim = Pair::default().sim(1);
    sim.nat = Some(Nat::new(EAST.parse().unwrap(), NAT.parse().unwrap()));
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    let (here, there) = (child(&sim, 0).child, child(&sim, 1).child);
    let new = "203.0.113.9:50000".parse().unwrap();
    // Who is behind the NAT does not follow what may be the NAT's doing.
    sim.act(0, |endpoint, now| {
        endpoint.note_peer_address(now, here, new)
    });
    assert_ne!(sim.nodes[0].endpoint.child_sa(here).unwrap().remote, new);
    sim.act(1, |endpoint, now| {
        endpoint.note_peer_address(now, there, new)
    });
    assert!(matches!(sim.nodes[1].events.last(), Some(Event::Moved { to, .. }) if to.1 == new));
    assert_eq!(sim.nodes[1].endpoint.child_sa(there).unwrap().remote, new);
    let events = sim.nodes[1].events.len();
    sim.act(1, |endpoint, now| {
        endpoint.note_peer_address(now, there, new)
    });
    assert_eq!(sim.nodes[1].events.len(), events, "once");
}

#[test]
fn an_old_packet_from_elsewhere_moves_nobody() {
    let mut sim = Pair::default().sim(1);
    sim.nat = Some(Nat::new(EAST.parse().unwrap(), NAT.parse().unwrap()));
    let ike = sim.initiate(0, WEST);
    sim.run_for(s(1));
    sim.manual = true;
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    let mut probe = sim.sent().remove(0);
    probe.src = "203.0.113.9:40002".parse().unwrap();
    sim.deliver(probe.clone());
    let events = sim.nodes[1].events.len();
    // The same octets again, from an attacker.
    probe.src = "203.0.113.66:4500".parse().unwrap();
    sim.deliver(probe);
    assert_eq!(sim.nodes[1].events.len(), events);
    assert_eq!(
        sim.nodes[1]
            .endpoint
            .ike_sas()
            .next()
            .unwrap()
            .remote
            .port(),
        40_002
    );
    // The repetition was answered, to where it came from.
    assert_eq!(sim.outbox.len(), 2);
    assert_eq!(sim.outbox[0].bytes, sim.outbox[1].bytes);
}

#[test]
fn encapsulation_can_be_forced_by_either_end() {
    for end in 0..2 {
        let mut pair = Pair::default();
        let peer = if end == 0 {
            &mut pair.east
        } else {
            &mut pair.west
        };
        peer.force_encapsulation = Encapsulation::Yes;
        let sim = run(pair);
        established(&sim);
        assert!(child(&sim, 0).encapsulation.is_some());
        assert_eq!(sim.lines()[2], "east 4500 > 4500 IKE_AUTH request 1 SK");
    }
}

#[test]
fn without_encapsulation_nothing_is_said_of_nats() {
    let mut pair = Pair::default();
    pair.east.force_encapsulation = Encapsulation::No;
    let sim = run(pair);
    established(&sim);
    assert_eq!(
        sim.lines()[0],
        "east 500 > 500 IKE_SA_INIT request 0 SA KE Nonce N(IKEV2_FRAGMENTATION_SUPPORTED)"
    );
    assert!(!sim.lines()[1].contains("NAT_DETECTION"));
    assert!(child(&sim, 0).encapsulation.is_none());
}

#[test]
fn port_4500_from_the_start_needs_no_encapsulation() {
    let mut pair = Pair::default();
    (pair.east.local_port, pair.east.remote_port) = (4500, 4500);
    let sim = run(pair);
    established(&sim);
    assert!(sim.lines().iter().all(|l| l.contains(" 4500 > 4500 ")));
    assert!(child(&sim, 0).encapsulation.is_none());
}

#[test]
fn without_a_nat_a_peer_does_not_move() {
    let mut sim = run(Pair::default());
    let ike = sim.nodes[0].endpoint.ike_sas().next().unwrap().id;
    sim.manual = true;
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    let mut probe = sim.sent().remove(0);
    probe.src = "203.0.113.66:500".parse().unwrap();
    sim.deliver(probe.clone());
    // Answered to where it came from, and forgotten.
    assert_eq!(sim.outbox[0].dst, probe.src);
    assert_eq!(
        sim.nodes[1]
            .endpoint
            .ike_sas()
            .next()
            .unwrap()
            .remote
            .to_string(),
        "192.0.2.1:500"
    );
    assert!(!sim.event_names(1).contains(&"peer_moved"));
}
