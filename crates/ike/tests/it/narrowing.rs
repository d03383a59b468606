//! Traffic selectors and modes: what is offered, narrowed and refused (RFC 7296 §2.9, §1.3.1, §2.23.1).

use std::sync::Arc;

use cygnet_ike::*;
use cygnet_ipsec::Mode;
use cygnet_wire::{Payload, TrafficSelector};

use crate::forge::{Forge, stopped_at};
use crate::pair::*;
use crate::sim::*;

//= rfc7296#2.9
//= type=test
//# If the responder's policy allows it to accept the first selector
//# of TSi and TSr, then the responder MUST narrow the Traffic
//# Selectors to a subset that includes the initiator's first choices.
#[test]
fn selectors_are_narrowed_around_the_packet() {
    let mut pair = Pair::default();
    pair.west_child.remote_ts = vec![net("10.1.2.0/24"), net("10.1.9.0/24")];
    let mut sim = pair.sim(1);
    let peer = sim.nodes[0].book.peers[0].clone();
    let udp = |text: &str, port| TrafficSelector {
        protocol: 17,
        start_port: port,
        end_port: port,
        ..range(text)
    };
    let acquire = AcquireHint {
        cpu: None,
        seq: 7,
        local: udp("10.1.2.43/32", 53),
        remote: udp("10.2.0.1/32", 53),
    };
    let request = ChildRequest {
        config: peer.children[0].clone(),
        acquire: Some(acquire),
    };
    sim.initiate_with(0, WEST, peer, Some(request));
    sim.run_for(s(1));
    established(&sim);
    assert_eq!(
        child(&sim, 0).ts_local,
        [range("10.1.2.0/24"), range("10.1.9.0/24")]
    );
    assert_eq!(child(&sim, 0).ts_remote, [range("10.2.0.0/16")]);
    assert_eq!(child(&sim, 0).acquire_seq, 7);
}

#[test]
fn the_child_that_fits_best_is_chosen() {
    let mut pair = Pair::default();
    pair.east_child.local_ts = vec![net("10.1.7.0/24")];
    let mut sim = pair.sim(1);
    let mut peer = (*sim.nodes[1].book.peers[0]).clone();
    let all = ChildConfig::new("all", vec![net("0.0.0.0/0")], vec![net("0.0.0.0/0")]);
    let exact = ChildConfig::new("exact", vec![net("10.2.0.0/16")], vec![net("10.1.7.0/24")]);
    peer.children = vec![Arc::new(all), peer.children[0].clone(), Arc::new(exact)];
    let book = Book {
        peers: vec![Arc::new(peer)],
        ..(*sim.nodes[1].book).clone()
    };
    sim.nodes[1].endpoint.set_directory(Arc::new(book));
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    established(&sim);
    assert_eq!(child(&sim, 1).config.name, "exact");
}

#[test]
fn single_pairs_are_served_and_required() {
    let single = |local, remote| {
        let mut pair = Pair::default();
        pair.west_child.single_pair = true;
        let mut sim = pair.sim(1);
        let peer = sim.nodes[0].book.peers[0].clone();
        let acquire = AcquireHint {
            cpu: None,
            seq: 1,
            local: range(local),
            remote: range(remote),
        };
        let request = ChildRequest {
            config: peer.children[0].clone(),
            acquire: Some(acquire),
        };
        sim.initiate_with(0, WEST, peer, Some(request));
        sim.run_for(s(1));
        sim.assert_agreement(0, 1);
        sim
    };
    let sim = single("10.1.2.3/32", "10.2.3.4/32");
    assert_eq!(child(&sim, 1).ts_local, [range("10.2.3.4/32")]);
    let sim = single("10.1.2.0/24", "10.2.3.4/32");
    let refused = |event: &Event| {
        matches!(
            event,
            Event::ChildFailed {
                reason: ChildFailure::SinglePairRequired(Party::Peer),
                ..
            }
        )
    };
    assert!(sim.nodes[0].events.iter().any(refused));
}

fn transport(child: &mut ChildConfig) {
    child.mode = Mode::Transport;
    (child.local_ts, child.remote_ts) = (vec![TsTemplate::dynamic()], vec![TsTemplate::dynamic()]);
}

//= rfc7296#1.3.1
//= type=test
//# If the request is accepted, the response MUST also include a
//# notification of type USE_TRANSPORT_MODE.  If the responder declines
//# the request, the Child SA will be established in tunnel mode.
#[test]
fn transport_mode_is_negotiated() {
    let mut pair = Pair::default();
    transport(&mut pair.east_child);
    transport(&mut pair.west_child);
    let sim = run(pair);
    established(&sim);
    assert_eq!(child(&sim, 0).mode, Mode::Transport);
    assert_eq!(child(&sim, 0).ts_remote, [range("192.0.2.2/32")]);
}

#[test]
fn transport_mode_through_a_nat_sees_the_addresses_of_its_own_end() {
    let mut pair = Pair::default();
    transport(&mut pair.east_child);
    transport(&mut pair.west_child);
    let mut sim = pair.sim(1);
    sim.nat = Some(Nat::new(EAST.parse().unwrap(), NAT.parse().unwrap()));
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    established(&sim);
    assert_eq!(child(&sim, 0).ts_local, [range("192.0.2.1/32")]);
    assert_eq!(child(&sim, 1).ts_remote, [range("203.0.113.9/32")]);
}

//= rfc7296#1.3.1
//= type=test
//# If the responder declines the request, the Child
//# SA will be established in tunnel mode.  If this is unacceptable to
//# the initiator, the initiator MUST delete the SA.
#[test]
fn transport_mode_declined_is_deleted_by_the_initiator() {
    let mut pair = Pair::default();
    transport(&mut pair.east_child);
    pair.west_child.local_ts = vec![TsTemplate::dynamic()];
    pair.west_child.remote_ts = vec![TsTemplate::dynamic()];
    let sim = run(pair);
    assert_eq!(sim.event_names(0), ["ike_established", "child_failed"]);
    assert_eq!(
        sim.event_names(1),
        ["ike_established", "child_established", "child_closed"]
    );
    assert_eq!(sim.lines()[4], "east 500 > 500 INFORMATIONAL request 2 SK");
    sim.assert_agreement(0, 1);
}

fn beet(child: &mut ChildConfig, local: &str, remote: &str) {
    child.mode = Mode::Beet;
    (child.local_ts, child.remote_ts) = (vec![net(local)], vec![net(remote)]);
}

#[test]
fn beet_mode_is_negotiated() {
    let mut pair = Pair::default();
    beet(&mut pair.east_child, "10.1.0.1/32", "10.2.0.1/32");
    beet(&mut pair.west_child, "10.2.0.1/32", "10.1.0.1/32");
    let sim = run(pair);
    established(&sim);
    for node in [0, 1] {
        assert_eq!(child(&sim, node).mode, Mode::Beet);
    }
}

#[test]
fn beet_mode_declined_is_deleted_by_the_initiator() {
    let mut pair = Pair::default();
    beet(&mut pair.east_child, "10.1.0.1/32", "10.2.0.1/32");
    let sim = run(pair);
    assert_eq!(sim.event_names(0), ["ike_established", "child_failed"]);
    assert_eq!(child_failure(&sim, 0), ChildFailure::ModeMismatch("beet"));
    assert_eq!(
        sim.event_names(1),
        ["ike_established", "child_established", "child_closed"]
    );
    sim.assert_agreement(0, 1);
}

#[test]
fn what_is_configured_as_beet_is_not_had_as_a_tunnel() {
    let mut pair = Pair::default();
    beet(&mut pair.west_child, "10.2.0.1/32", "10.1.0.1/32");
    let sim = run(pair);
    assert_eq!(child_failure(&sim, 1), ChildFailure::ModeMismatch("beet"));
    let refused = ChildFailure::NoProposalChosen {
        by: Party::Peer,
        ours: sim.nodes[0].book.peers[0].children[0].proposals.clone(),
        theirs: None,
    };
    assert_eq!(child_failure(&sim, 0), refused);
}

#[test]
fn beet_mode_is_for_one_address_at_each_end() {
    let mut pair = Pair::default();
    beet(&mut pair.east_child, "10.1.0.0/30", "10.2.0.1/32");
    beet(&mut pair.west_child, "10.2.0.1/32", "10.1.0.0/16");
    let sim = run(pair);
    for node in [0, 1] {
        let failure = child_failure(&sim, node);
        assert!(
            matches!(failure, ChildFailure::TsUnacceptable { .. }),
            "{failure}"
        );
    }
    sim.assert_agreement(0, 1);
}

//= rfc7296#1.3.1
//= type=test
//# The ESP_TFC_PADDING_NOT_SUPPORTED notification asserts that the
//# sending endpoint will not accept packets that contain Traffic Flow
//# Confidentiality (TFC) padding over the Child SA being negotiated.
#[test]
fn each_end_says_for_itself_whether_it_takes_padding() {
    for refusing in [0, 1] {
        let mut pair = Pair::default();
        pair.east_child.refuse_tfc = refusing == 0;
        pair.west_child.refuse_tfc = refusing == 1;
        let sim = run(pair);
        established(&sim);
        assert!(!child(&sim, refusing).peer_refuses_tfc);
        assert!(child(&sim, 1 - refusing).peer_refuses_tfc);
    }
}

//= rfc7296#2.23.1
//= type=test
//# For
//# transport mode, it MUST use exactly one IP address in the TSi and TSr
//# payloads.
#[test]
fn transport_mode_asks_for_one_address_whatever_is_configured() {
    let ends = ["192.0.2.1/32", "192.0.2.2/32"].map(range);
    let (_, request, keys) = stopped_at(2, || {
        let mut pair = Pair::default();
        for child in [&mut pair.east_child, &mut pair.west_child] {
            transport(child);
            child.local_ts = vec![net("192.0.2.0/24")];
            child.remote_ts = vec![net("192.0.2.0/24")];
        }
        pair.sim(1)
    });
    let mut asked = Vec::new();
    Forge::with_keys(keys, Role::Responder).look(&request, |payloads| {
        for payload in payloads {
            if let Payload::TsI(ts) | Payload::TsR(ts) = payload {
                asked.push(ts.selectors().collect::<Vec<_>>());
            }
        }
    });
    assert_eq!(asked, ends.map(|end| vec![end]));
}
