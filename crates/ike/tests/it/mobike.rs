//! MOBIKE (RFC 4555): SAs that go on at other addresses.

mod messages;

use std::net::{IpAddr, SocketAddr};

use cygnet_ike::*;
use cygnet_wire::{ExchangeType, Notify, NotifyType, Payload, PayloadType};

use crate::forge::{Forge, stopped_at};
use crate::pair::*;
use crate::sim::*;

const EAST2: &str = "198.51.100.1";
const EAST6: &str = "2001:db8::1";
const WEST2: &str = "198.51.100.2";
const WEST6: &str = "2001:db8::2";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mobile() -> Pair {
    let mut pair = Pair::default();
    pair.east.mobike = true;
    pair.west.mobike = true;
    pair
}

/// East and west with these addresses each, up.
fn up(pair: Pair, east: &[&str], west: &[&str]) -> (Sim, IkeSaId) {
    let mut sim = pair.sim(1);
    addresses(&mut sim, 0, east);
    addresses(&mut sim, 1, west);
    let ike = sim.initiate(0, WEST);
    sim.run_for(s(1));
    established(&sim);
    (sim, ike)
}

/// A node has these addresses now, and its endpoint hears of it.
fn addresses(sim: &mut Sim, node: usize, addresses: &[&str]) {
    let addresses: Vec<IpAddr> = addresses.iter().map(|a| ip(a)).collect();
    sim.nodes[node].addresses = Some(addresses.clone());
    sim.act(node, |endpoint, now| endpoint.set_addresses(now, addresses));
}

fn info(sim: &Sim, node: usize) -> IkeSaInfo {
    sim.nodes[node]
        .endpoint
        .ike_sas()
        .next()
        .expect("an IKE SA")
}

fn child_info(sim: &Sim, node: usize) -> ChildSaInfo {
    sim.nodes[node]
        .endpoint
        .child_sas()
        .next()
        .expect("a child SA")
}

/// Both ends have the IKE SA and its child SA between these addresses, whatever the ports.
fn assert_between(sim: &Sim, east: &str, west: &str) {
    for (node, local, remote) in [(0, east, west), (1, west, east)] {
        let (local, remote) = (ip(local), ip(remote));
        let ike = info(sim, node);
        assert_eq!((ike.local.ip(), ike.remote.ip()), (local, remote), "{node}");
        let child = child_info(sim, node);
        let at = (child.local.ip(), child.remote.ip());
        assert_eq!(at, (local, remote), "child of {node}");
    }
    assert_eq!(child_info(sim, 0).spi_in, child_info(sim, 1).spi_out);
}

/// What was sent since `from`, without times.
fn since(sim: &Sim, from: usize) -> Vec<String> {
    sim.lines()[from..].to_vec()
}

fn moves(sim: &Sim, node: usize) -> usize {
    let moved = |e: &&Event| matches!(e, Event::Moved { .. });
    sim.nodes[node].events.iter().filter(moved).count()
}

//= rfc4555#3.2
//= type=test
//# Implementations that wish to use MOBIKE for a particular IKE_SA MUST
//# include a MOBIKE_SUPPORTED notification in the IKE_AUTH exchange (in
//# case of multiple IKE_AUTH exchanges, in the message containing the SA
//# payload).
//= rfc4555#3.3
//= type=test
//# To
//# simplify things, implementations that support both this specification
//# and NAT Traversal MUST change to port 4500 if the correspondent also
//# supports both, even if no NAT was detected between them (this way,
//# there is no need to change the ports later if a NAT is detected on
//# some other path).
#[test]
fn both_ends_agree_and_use_port_4500() {
    let (sim, _) = up(mobile(), &[EAST], &[WEST]);
    assert!(info(&sim, 0).mobike && info(&sim, 1).mobike);
    assert_eq!(sim.lines()[2], "east 4500 > 4500 IKE_AUTH request 1 SK");
    assert!(
        child_info(&sim, 0).encapsulation.is_none(),
        "there is no NAT"
    );
    for (east, west) in [(true, false), (false, true)] {
        let mut pair = mobile();
        (pair.east.mobike, pair.west.mobike) = (east, west);
        let (sim, _) = up(pair, &[EAST], &[WEST]);
        assert!(!info(&sim, 0).mobike && !info(&sim, 1).mobike);
    }
}

//= rfc4555#3.7
//= type=test
//# By
//# default, the return routability check SHOULD be done before updating
//# the IPsec SAs, but in some environments it MAY be postponed until
//# after the IPsec SAs have been updated.
#[test]
fn an_initiator_with_another_address_takes_its_sas_along() {
    let (mut sim, _) = up(mobile(), &[EAST], &[WEST]);
    let spis = (child_info(&sim, 0).spi_in, child_info(&sim, 0).spi_out);
    let from = sim.lines().len();
    addresses(&mut sim, 0, &[EAST2]);
    // East's packets go from its new address at once; west's go there when east has shown that it is there.
    assert_eq!(child_info(&sim, 0).local.ip(), ip(EAST2));
    sim.run_for(std::time::Duration::from_millis(15));
    assert_eq!(info(&sim, 1).remote.ip(), ip(EAST2));
    assert_eq!(child_info(&sim, 1).remote.ip(), ip(EAST));
    sim.run_for(s(1));
    assert_between(&sim, EAST2, WEST);
    assert_eq!(
        since(&sim, from),
        [
            "east 4500 > 4500 INFORMATIONAL request 2 SK",
            "west 4500 > 4500 INFORMATIONAL response 2 SK",
            "west 4500 > 4500 INFORMATIONAL request 0 SK",
            "east 4500 > 4500 INFORMATIONAL response 0 SK",
        ]
    );
    assert_eq!((moves(&sim, 0), moves(&sim, 1)), (1, 1));
    assert_eq!(
        spis,
        (child_info(&sim, 0).spi_in, child_info(&sim, 0).spi_out)
    );
    // Without any address it waits, and goes on when there is one.
    addresses(&mut sim, 0, &[]);
    sim.run_for(s(300));
    addresses(&mut sim, 0, &[EAST]);
    sim.run_for(s(1));
    assert_between(&sim, EAST, WEST);
    sim.assert_agreement(0, 1);
}

#[test]
fn of_several_paths_the_one_that_works_is_taken() {
    // East loses its address; of the two that it has left only one leads to west.
    let (mut sim, _) = up(mobile(), &[EAST, EAST2, "203.0.113.1"], &[WEST]);
    sim.broken.push((ip("203.0.113.1"), ip(WEST)));
    addresses(&mut sim, 0, &["203.0.113.1", EAST2]);
    sim.run_for(s(2));
    assert_between(&sim, EAST2, WEST);

    // Nothing has gone, but nothing comes through any more: west has another address.
    let (mut sim, ike) = up(mobile(), &[EAST, EAST2], &[WEST, WEST2]);
    sim.broken.push((ip(EAST), ip(WEST)));
    sim.broken.push((ip(EAST2), ip(WEST)));
    sim.broken.push((ip(EAST), ip(WEST2)));
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    sim.run_for(s(1));
    assert_eq!(info(&sim, 0).remote.ip(), ip(WEST), "patience");
    sim.run_for(s(10));
    assert_between(&sim, EAST2, WEST2);
    sim.assert_agreement(0, 1);

    // All paths are broken: the peer is given up.
    for (east, west) in [(EAST2, WEST2), (EAST, WEST2)] {
        sim.broken.push((ip(east), ip(west)));
    }
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    sim.run_for(s(200));
    assert!(matches!(
        sim.nodes[0].events.last(),
        Some(Event::IkeClosed {
            reason: CloseReason::PeerUnresponsive { .. },
            ..
        })
    ));
}

#[test]
fn a_request_under_way_is_not_lost_by_the_move() {
    let (mut sim, ike) = up(mobile(), &[EAST], &[WEST]);
    sim.broken.push((ip(EAST), ip(WEST)));
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    sim.run_for(s(1));
    addresses(&mut sim, 0, &[EAST2]);
    sim.run_for(s(2));
    assert_between(&sim, EAST2, WEST);
    sim.assert_agreement(0, 1);
}

#[test]
fn a_nat_appears_and_vanishes() {
    let (mut sim, _) = up(mobile(), &[EAST], &[WEST]);
    sim.nat = Some(Nat::new(ip(EAST2), ip(NAT)));
    addresses(&mut sim, 0, &[EAST2]);
    sim.run_for(s(1));
    let (east, west) = (child_info(&sim, 0), child_info(&sim, 1));
    assert!(east.encapsulation.is_some() && west.encapsulation.is_some());
    assert_eq!(west.remote, SocketAddr::new(ip(NAT), 40_001));
    assert!(info(&sim, 0).nat.local && info(&sim, 1).nat.remote);
    // Now the NAT needs keepalives.
    sim.run_for(s(50));
    assert!(sim.nodes[0].endpoint.stats().keepalives_sent >= 2);

    addresses(&mut sim, 0, &[EAST]);
    sim.run_for(s(1));
    assert_between(&sim, EAST, WEST);
    assert!(
        child_info(&sim, 0).encapsulation.is_none() && child_info(&sim, 1).encapsulation.is_none()
    );
}

//= rfc4555#3.8
//= type=test
//# When the initiator is behind a NAT (as detected earlier using the
//# NAT_DETECTION_SOURCE_IP and NAT_DETECTION_DESTINATION_IP
//# notifications), it SHOULD include these notifications in DPD messages
//# and compare the received NAT_DETECTION_DESTINATION_IP notifications
//# with the value from the previous UPDATE_SA_ADDRESSES response (or the
//# IKE_SA_INIT response).
//= rfc4555#3.8
//= type=test
//# The host not behind a NAT MUST NOT use these dynamic
//# updates for IKEv2 packets, but MAY use them for ESP packets.
#[test]
fn a_changed_mapping_is_found_by_a_sign_of_life() {
    let mut sim = mobile().sim(1);
    sim.nat = Some(Nat::new(ip(EAST), ip(NAT)));
    addresses(&mut sim, 0, &[EAST]);
    addresses(&mut sim, 1, &[WEST]);
    let ike = sim.initiate(0, WEST);
    sim.run_for(s(1));
    established(&sim);
    let ask = |sim: &mut Sim| {
        sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
        sim.run_for(s(1));
    };
    ask(&mut sim);
    assert_eq!(info(&sim, 1).remote.port(), 40_002);
    sim.nat.as_mut().unwrap().rebind();
    // ESP shows it first: child SAs may follow that, the IKE SA must not.
    let child = child_info(&sim, 1).id;
    let new = SocketAddr::new(ip(NAT), 40_003);
    sim.act(1, |endpoint, now| {
        endpoint.note_peer_address(now, child, new)
    });
    assert_eq!(child_info(&sim, 1).remote, new);
    assert_eq!(info(&sim, 1).remote.port(), 40_002);
    ask(&mut sim);
    assert_eq!(info(&sim, 1).remote.port(), 40_003, "by an update");
    assert_eq!(child_info(&sim, 1).remote.port(), 40_003);
    let before = sim.lines().len();
    ask(&mut sim);
    assert_eq!(since(&sim, before).len(), 2, "all is well");
}

/// Random exploration, seed 10915: who is behind the NAT is busy. The responses that it gets come to where its requests
/// came from: they do not show that requests of the peer would. Nor is it known of a new IKE SA how it was seen first.
#[test]
fn a_changed_mapping_is_found_by_a_busy_initiator() {
    for renews_ike in [false, true] {
        let mut pair = mobile();
        pair.east.liveness = Some(s(20));
        let mut sim = pair.sim(1);
        sim.nat = Some(Nat::new(ip(EAST), ip(NAT)));
        addresses(&mut sim, 0, &[EAST]);
        addresses(&mut sim, 1, &[WEST]);
        sim.initiate(0, WEST);
        sim.run_for(s(1));
        established(&sim);
        sim.nat.as_mut().unwrap().rebind();
        for _ in 0..5 {
            let (ike, child) = (info(&sim, 0).id, child_info(&sim, 0).id);
            sim.act(0, |endpoint, now| match renews_ike {
                true => endpoint.rekey_ike(now, ike),
                false => endpoint.rekey_child(now, child),
            });
            sim.run_for(s(8));
        }
        assert_eq!(info(&sim, 1).remote.port(), 40_003);
        let before = sim.lines().len();
        let ike = info(&sim, 1).id;
        sim.act(1, |endpoint, now| endpoint.check_liveness(now, ike));
        sim.run_for(s(1));
        assert_eq!(since(&sim, before).len(), 2, "it is reached");
    }
}

#[test]
fn the_responder_tells_when_its_addresses_change() {
    let (mut sim, _) = up(mobile(), &[EAST], &[WEST, WEST2]);
    let from = sim.lines().len();
    // One more: only told.
    addresses(&mut sim, 1, &[WEST, WEST2, "198.51.100.3"]);
    sim.run_for(s(1));
    assert_eq!(since(&sim, from).len(), 2);
    assert_between(&sim, EAST, WEST);
    // The one in use is gone: it speaks from another, and the initiator follows.
    addresses(&mut sim, 1, &[WEST2, "198.51.100.3"]);
    sim.run_for(s(3));
    assert_between(&sim, EAST, WEST2);
    sim.assert_agreement(0, 1);
}

#[test]
fn the_family_may_change() {
    let (mut sim, _) = up(mobile(), &[EAST, EAST6], &[WEST, WEST6]);
    addresses(&mut sim, 0, &[EAST6]);
    sim.run_for(s(2));
    assert_between(&sim, EAST6, WEST6);
    addresses(&mut sim, 0, &[EAST2]);
    sim.run_for(s(2));
    assert_between(&sim, EAST2, WEST);
}

#[test]
fn transport_mode_stays_where_it_is() {
    let mut pair = mobile();
    for child in [&mut pair.east_child, &mut pair.west_child] {
        child.mode = cygnet_ipsec::Mode::Transport;
        child.local_ts = vec![TsTemplate::dynamic()];
        child.remote_ts = child.local_ts.clone();
    }
    let (mut sim, _) = up(pair, &[EAST], &[WEST]);
    addresses(&mut sim, 0, &[EAST2]);
    sim.run_for(s(5));
    // There is no other path: refused, it ends.
    assert_eq!(sim.nodes[0].endpoint.ike_sas().count(), 0);
    assert_eq!(sim.nodes[1].endpoint.ike_sas().count(), 0);
}

//= rfc4555#3.9
//= type=test
//# The exchange responder MUST verify that the contents
//# of the NO_NATS_ALLOWED notification match the addresses in the IP
//# header.
#[test]
fn a_forbidden_nat_is_found() {
    let mut pair = mobile();
    pair.east.force_encapsulation = Encapsulation::No;
    pair.west.force_encapsulation = Encapsulation::No;
    let mut sim = pair.sim(1);
    sim.nat = Some(Nat::new(ip(EAST), ip(NAT)));
    addresses(&mut sim, 0, &[EAST]);
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    assert_eq!(ike_failure(&sim, 1), FailureReason::UnexpectedNat);

    // Without one all is well, until there is one on the way.
    let mut pair = mobile();
    pair.east.force_encapsulation = Encapsulation::No;
    pair.west.force_encapsulation = Encapsulation::No;
    let (mut sim, _) = up(pair, &[EAST], &[WEST]);
    sim.nat = Some(Nat::new(ip(EAST2), ip(NAT)));
    addresses(&mut sim, 0, &[EAST2]);
    sim.run_for(s(5));
    assert_eq!(info_or_none(&sim, 0), None, "there is no other path");
}

fn info_or_none(sim: &Sim, node: usize) -> Option<IkeSaId> {
    sim.nodes[node].endpoint.ike_sas().next().map(|i| i.id)
}

/// A rekeyed IKE SA goes on where the old one was, and who began the first one still decides (RFC 4555 §1.3).
#[test]
fn a_rekeyed_ike_sa_moves_like_the_first() {
    let (mut sim, _) = up(mobile(), &[EAST], &[WEST]);
    let theirs = info(&sim, 1).id;
    sim.act(1, |endpoint, now| endpoint.rekey_ike(now, theirs));
    sim.run_for(s(2));
    let east = info(&sim, 0);
    assert_eq!((east.role, east.mobike), (Role::Responder, true));
    addresses(&mut sim, 0, &[EAST2]);
    sim.run_for(s(2));
    assert_between(&sim, EAST2, WEST);
    // The old one is still there for repeated requests.
    sim.run_for(s(100));
    sim.assert_agreement(0, 1);
}

/// Says something as the other end, over port 4500.
fn say(
    sim: &mut Sim,
    forge: &mut Forge,
    from: (&str, &str),
    (response, id): (bool, u32),
    notifies: &[(NotifyType, Vec<u8>)],
) {
    let mut datagram = forge.message(ExchangeType::INFORMATIONAL, response, id, |payloads| {
        for (kind, data) in notifies {
            payloads.notify(&Notify::new(*kind, data));
        }
    });
    datagram.src = SocketAddr::new(ip(from.0), 4500);
    datagram.dst = SocketAddr::new(ip(from.1), 4500);
    datagram.transport = Transport::UdpEncap;
    sim.deliver(datagram);
}

fn logged() -> Pair {
    let mut pair = mobile();
    pair.east_config.key_log = true;
    pair.west_config.key_log = true;
    pair
}

//= rfc4555#3.7
//= type=test
//# When processing the response, the original sender MUST
//# verify that the value is the same one as sent.  If the values do not
//# match, the IKE_SA MUST be closed.
#[test]
fn a_peer_that_does_not_return_the_cookie_is_dropped() {
    for cookie in [None, Some(vec![7; 16]), Some(vec![7; 64])] {
        let (mut sim, _) = up(logged(), &[EAST], &[WEST]);
        let mut west = Forge::new(&sim, 0, Role::Responder);
        sim.manual = true;
        addresses(&mut sim, 0, &[EAST2]);
        let id = info(&sim, 0).next_request - 1;
        let said: Vec<_> = cookie
            .into_iter()
            .map(|c| (NotifyType::COOKIE2, c))
            .collect();
        say(&mut sim, &mut west, (WEST, EAST2), (true, id), &said);
        assert!(matches!(
            sim.nodes[0].events.last(),
            Some(Event::IkeClosed {
                reason: CloseReason::ReturnRoutability,
                ..
            })
        ));
    }
}

/// What the peer says instead of an answer does not keep us from saying anything else.
#[test]
fn an_unreadable_answer_is_an_answer() {
    for moved in [false, true] {
        let mut pair = logged();
        pair.east.liveness = Some(s(20));
        let (mut sim, ike) = up(pair, &[EAST], &[WEST]);
        let mut west = Forge::new(&sim, 0, Role::Responder);
        sim.manual = true;
        if moved {
            addresses(&mut sim, 0, &[EAST2]);
        } else {
            sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
        }
        let asked = sim.sent().pop().expect("a request");
        let id = info(&sim, 0).next_request - 1;
        let mut answer = west.message(ExchangeType::INFORMATIONAL, true, id, |payloads| {
            payloads.raw(PayloadType(200), true, b"?");
        });
        (answer.src, answer.dst, answer.transport) = (asked.dst, asked.src, Transport::UdpEncap);
        sim.deliver(answer);
        sim.manual = false;
        if moved {
            // There was no cookie in it.
            let closed = sim.nodes[0].events.last();
            assert!(matches!(
                closed,
                Some(Event::IkeClosed {
                    reason: CloseReason::ReturnRoutability,
                    ..
                })
            ));
            continue;
        }
        // West waits for the request that it has not got.
        sim.nodes[1].addresses = Some(Vec::new());
        let from = sim.lines().len();
        addresses(&mut sim, 0, &[EAST, EAST2]);
        assert_eq!(
            since(&sim, from),
            ["east 4500 > 4500 INFORMATIONAL request 3 SK"]
        );
        sim.run_for(s(200));
        assert_eq!(info_or_none(&sim, 0), None, "west was silent");
    }
}

/// Behind the same address of a NAT, transport mode goes on with the port that the NAT has chosen anew.
#[test]
fn transport_mode_follows_a_changed_mapping() {
    let mut pair = mobile();
    for child in [&mut pair.east_child, &mut pair.west_child] {
        child.mode = cygnet_ipsec::Mode::Transport;
        child.local_ts = vec![TsTemplate::dynamic()];
        child.remote_ts = child.local_ts.clone();
    }
    let mut sim = pair.sim(1);
    sim.nat = Some(Nat::new(ip(EAST), ip(NAT)));
    addresses(&mut sim, 0, &[EAST]);
    addresses(&mut sim, 1, &[WEST]);
    let ike = sim.initiate(0, WEST);
    sim.run_for(s(1));
    established(&sim);
    for port in [40_002, 40_003] {
        sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
        sim.run_for(s(1));
        assert_eq!(info(&sim, 1).remote.port(), port);
        assert_eq!(child_info(&sim, 1).remote.port(), port);
        sim.nat.as_mut().unwrap().rebind();
    }
}

/// libreswan 5 returns the cookie of a check only if it is asked for NAT detection too, which whoever is asked has to answer.
//= rfc4555#3.8
//= type=test
//# if the
//# request includes them, the responder MUST also include them in the
//# response (but no other action is taken, unless otherwise specified).
#[test]
fn a_check_asks_for_nat_detection_too() {
    let (mut sim, _) = up(logged(), &[EAST], &[WEST]);
    let initiator = Forge::new(&sim, 0, Role::Initiator);
    sim.manual = true;
    addresses(&mut sim, 0, &[EAST2]);
    for update in sim.sent() {
        sim.deliver(update);
    }
    let check = sim.sent().pop().expect("it follows the answer");
    assert_eq!(
        initiator.read(&check),
        "INFORMATIONAL request 0 N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP) N(COOKIE2)"
    );
    let responder = Forge::new(&sim, 0, Role::Responder);
    sim.deliver(check);
    let answer = sim.sent().pop().expect("it is answered");
    assert_eq!(
        responder.read(&answer),
        "INFORMATIONAL response 0 N(COOKIE2) N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP)"
    );
}

/// The initiator has moved and renews the IKE SA before it has shown that it is there: that is asked on the new IKE SA.
#[test]
fn a_check_that_a_renewal_overtakes_is_made_again() {
    let (mut sim, ike) = up(mobile(), &[EAST], &[WEST]);
    sim.manual = true;
    addresses(&mut sim, 0, &[EAST2]);
    for update in sim.sent() {
        sim.deliver(update);
    }
    let mut sent = sim.sent();
    // The answer to the update; what is left is the check.
    sim.deliver(sent.remove(0));
    sim.act(0, |endpoint, now| endpoint.rekey_ike(now, ike));
    for rekey in sim.sent() {
        sim.deliver(rekey);
    }
    sim.manual = false;
    for late in sent.into_iter().chain(sim.sent()) {
        sim.deliver(late);
    }
    assert_eq!(child_info(&sim, 1).remote.ip(), ip(EAST), "unchecked");
    sim.run_for(s(5));
    assert_between(&sim, EAST2, WEST);
}

/// Whoever is authenticated may tell addresses and updates as much as it likes: what is kept and sent stays little, and
/// child SAs go nowhere without a check.
#[test]
fn floods_of_addresses_and_updates_cost_little() {
    let (mut sim, ike) = up(logged(), &[EAST, EAST2], &[WEST]);
    let mut west = Forge::new(&sim, 0, Role::Responder);
    let many: Vec<_> = (0..120u32)
        .map(|n| {
            let octets = (0xcb00_7100 + n).to_be_bytes().to_vec();
            (NotifyType::ADDITIONAL_IP4_ADDRESS, octets)
        })
        .collect();
    say(&mut sim, &mut west, (WEST, EAST), (false, 0), &many);
    sim.run_for(s(1));
    sim.broken.push((ip(EAST), ip(WEST)));
    sim.broken.push((ip(EAST2), ip(WEST)));
    let from = sim.lines().len();
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    sim.run_for(s(100));
    let sent = since(&sim, from).len();
    assert!(sent < 16 * 12, "{sent} datagrams for one request");

    let (mut sim, _) = up(logged(), &[EAST], &[WEST]);
    let mut east = Forge::new(&sim, 1, Role::Initiator);
    sim.manual = true;
    let id = info(&sim, 1).next_peer_request;
    for n in 0..1000 {
        let source = format!("203.0.113.{}", n % 250 + 1);
        let update = [(NotifyType::UPDATE_SA_ADDRESSES, Vec::new())];
        say(
            &mut sim,
            &mut east,
            (&source, WEST),
            (false, id + n),
            &update,
        );
        sim.trace.clear();
        sim.transcript.clear();
        sim.outbox.clear();
    }
    assert_eq!(child_info(&sim, 1).remote.ip(), ip(EAST), "unchecked");
    assert_eq!(moves(&sim, 1), 0);

    // An address at which nobody can be.
    let next = id + 1000;
    for (n, source) in (0..).zip(["224.0.0.1", "127.0.0.1", "0.0.0.0", "255.255.255.255"]) {
        let update = [(NotifyType::UPDATE_SA_ADDRESSES, Vec::new())];
        let before = info(&sim, 1).remote;
        say(
            &mut sim,
            &mut east,
            (source, WEST),
            (false, next + n),
            &update,
        );
        assert_eq!(info(&sim, 1).remote, before);
    }
}

/// Notifications of MOBIKE with any content, from an authenticated peer in either part.
#[test]
fn fuzz_mobike_notifications_of_an_authenticated_peer() {
    const KINDS: [NotifyType; 11] = [
        NotifyType::UNACCEPTABLE_ADDRESSES,
        NotifyType::UNEXPECTED_NAT_DETECTED,
        NotifyType::MOBIKE_SUPPORTED,
        NotifyType::ADDITIONAL_IP4_ADDRESS,
        NotifyType::ADDITIONAL_IP6_ADDRESS,
        NotifyType::NO_ADDITIONAL_ADDRESSES,
        NotifyType::UPDATE_SA_ADDRESSES,
        NotifyType::COOKIE2,
        NotifyType::NO_NATS_ALLOWED,
        NotifyType::NAT_DETECTION_SOURCE_IP,
        NotifyType::NAT_DETECTION_DESTINATION_IP,
    ];
    bolero::check!()
        .with_test_time(std::time::Duration::from_secs(1))
        .for_each(|input: &[u8]| {
            let (mut sim, _) = up(logged(), &[EAST, EAST6], &[WEST]);
            let mut ends = [
                Forge::new(&sim, 1, Role::Initiator),
                Forge::new(&sim, 0, Role::Responder),
            ];
            sim.manual = true;
            for message in input.chunks(40).take(6) {
                let (who, rest) = message.split_first().expect("a chunk");
                let forged = usize::from(who & 1);
                let node = 1 - forged;
                let said: Vec<_> = rest
                    .chunks(9)
                    .filter_map(|part| {
                        let (kind, data) = part.split_first()?;
                        Some((KINDS[usize::from(*kind) % KINDS.len()], data.to_vec()))
                    })
                    .collect();
                if who & 2 != 0 {
                    let now: &[&str] = if who & 4 != 0 {
                        &[EAST2]
                    } else {
                        &[EAST, EAST6]
                    };
                    addresses(&mut sim, 0, now);
                }
                let Some(info) = sim.nodes[node].endpoint.ike_sas().next() else {
                    return;
                };
                let response = who & 8 != 0;
                let id = if response {
                    info.next_request.saturating_sub(1)
                } else {
                    info.next_peer_request
                };
                let at = info.local.ip().to_string();
                let source = if who & 16 != 0 { "203.0.113.7" } else { WEST };
                say(
                    &mut sim,
                    &mut ends[forged],
                    (source, &at),
                    (response, id),
                    &said,
                );
                let sent = std::mem::take(&mut sim.outbox);
                assert!(sent.len() <= 40, "{} datagrams", sent.len());
            }
        });
}
