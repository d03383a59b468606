//! INFORMATIONAL and what an established SA says to anything else, read as packet traces.

use std::time::Duration;

use cygnet_ike::*;
use cygnet_wire::{
    ExchangeType, Message, Notify, NotifyType, PayloadType, Proposal, ProtocolId, Spi,
};

use crate::forge::Forge;
use crate::pair::*;
use crate::sim::*;

/// An established pair, stepped by hand from here on, and a forger with the keys of each end.
fn established() -> (Sim, Forge, Forge) {
    let mut pair = Pair::default();
    pair.east_config.key_log = true;
    let mut sim = pair.sim(1);
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    sim.manual = true;
    let (east, west) = (
        Forge::new(&sim, 0, Role::Initiator),
        Forge::new(&sim, 0, Role::Responder),
    );
    (sim, east, west)
}

fn ids(sim: &Sim, node: usize) -> (IkeSaId, ChildSaId) {
    let endpoint = &sim.nodes[node].endpoint;
    (
        endpoint.ike_sas().next().unwrap().id,
        endpoint.child_sas().next().unwrap().id,
    )
}

/// Delivers one message of the forger to the other end; what that answers.
fn ask(sim: &mut Sim, forge: &Forge, datagram: Datagram) -> Vec<String> {
    sim.deliver(datagram);
    sim.run_for(Duration::ZERO);
    sim.sent().iter().map(|answer| forge.read(answer)).collect()
}

const INFORMATIONAL: ExchangeType = ExchangeType::INFORMATIONAL;

//= rfc7296#1.4.1
//= type=test
//# The recipient MUST close the designated SAs.
#[test]
fn a_deleted_child_goes_at_both_ends() {
    for node in 0..2 {
        let (mut sim, east, west) = established();
        let forges = [&east, &west];
        let (ike, child) = ids(&sim, node);
        sim.act(node, |endpoint, now| endpoint.delete_child(now, child));
        // Who reads is the other end of who has written.
        assert_eq!(
            forges[1 - node].read(&sim.outbox[0]),
            format!(
                "INFORMATIONAL request {} D(ESP 1)",
                if node == 0 { 2 } else { 0 }
            )
        );
        assert_eq!(
            sim.nodes[node].plane.installed.len(),
            1,
            "until the peer has answered"
        );
        sim.exchange();
        assert!(forges[node].read(&sim.outbox[0]).ends_with("D(ESP 1)"));
        sim.exchange();
        assert_eq!(sim.event_names(0).last(), Some(&"child_closed"));
        assert_eq!(sim.event_names(1).last(), Some(&"child_closed"));
        assert!(sim.nodes[node].endpoint.ike_sa(ike).is_some());
        sim.assert_agreement(0, 1);
    }
}

//= rfc7296#1.4.1
//= type=test
//# In that case, the responses MUST NOT
//# include Delete payloads for the deleted SAs, since that would result
//# in duplicate deletion and could in theory delete the wrong SA.
#[test]
fn crossing_deletes_of_a_child_are_answered_empty() {
    let (mut sim, east, west) = established();
    for node in 0..2 {
        let (_, child) = ids(&sim, node);
        sim.act(node, |endpoint, now| endpoint.delete_child(now, child));
    }
    sim.exchange();
    let answers: Vec<_> = sim
        .outbox
        .iter()
        .map(|d| (d.src.ip().to_string() == EAST, d))
        .collect();
    let read: Vec<_> = answers
        .iter()
        .map(|(is_east, d)| if *is_east { west.read(d) } else { east.read(d) })
        .collect();
    assert_eq!(
        read,
        ["INFORMATIONAL response 2", "INFORMATIONAL response 0"]
    );
    sim.exchange();
    sim.assert_agreement(0, 1);
}

#[test]
fn deleting_the_ike_sa_takes_the_children_along() {
    for node in 0..2 {
        let (mut sim, ..) = established();
        let (ike, _) = ids(&sim, node);
        sim.act(node, |endpoint, now| endpoint.delete_ike(now, ike));
        sim.exchange();
        sim.exchange();
        for n in 0..2 {
            let events = sim.event_names(n);
            assert_eq!(events[events.len() - 2..], ["child_closed", "ike_closed"]);
        }
        sim.run_for(s(100));
        sim.assert_agreement(0, 1);
        assert_eq!(sim.nodes[0].endpoint.size(), 0);
    }
}

//= rfc7296#2.25.2
//= type=test
//# If a peer receives a request to close an IKE SA that it is
//# currently trying to close, it SHOULD reply as usual, and forget about
//# its own close request.
#[test]
fn crossing_deletes_of_the_ike_sa() {
    let (mut sim, ..) = established();
    for node in 0..2 {
        let (ike, _) = ids(&sim, node);
        sim.act(node, |endpoint, now| endpoint.delete_ike(now, ike));
    }
    sim.exchange();
    assert_eq!(sim.outbox.len(), 2);
    sim.exchange();
    sim.run_for(s(100));
    sim.assert_agreement(0, 1);
    assert_eq!(sim.nodes[1].endpoint.size(), 0);
}

#[test]
fn a_lost_answer_to_a_delete_is_repeated_by_the_lingering_sa() {
    let (mut sim, ..) = established();
    let (ike, _) = ids(&sim, 0);
    sim.act(0, |endpoint, now| endpoint.delete_ike(now, ike));
    sim.exchange();
    let lost = sim.sent().remove(0);
    sim.run_for(Duration::from_millis(600));
    sim.exchange();
    assert_eq!(sim.outbox[0].bytes, lost.bytes);
    sim.exchange();
    assert_eq!(sim.event_names(0).last(), Some(&"ike_closed"));
}

#[test]
fn a_delete_that_is_never_answered_ends_all_the_same() {
    let (mut sim, ..) = established();
    let (ike, _) = ids(&sim, 0);
    sim.act(0, |endpoint, now| endpoint.delete_ike(now, ike));
    assert!(sim.nodes[0].plane.installed.len() <= 1);
    sim.run_for(s(100));
    assert_eq!(sim.event_names(0).last(), Some(&"ike_closed"));
    assert!(sim.nodes[0].plane.installed.is_empty());
}

#[test]
fn deletions_wished_for_too_early_happen_later() {
    let mut sim = Pair::default().sim(1);
    sim.manual = true;
    let ike = sim.initiate(0, WEST);
    sim.exchange();
    sim.exchange();
    // IKE_AUTH is on its way: the peer may have the SA already.
    sim.act(0, |endpoint, now| endpoint.delete_ike(now, ike));
    sim.manual = false;
    sim.exchange();
    sim.run_for(s(100));
    assert_eq!(
        sim.event_names(0),
        ["ike_established", "child_failed", "ike_closed"]
    );
    sim.assert_agreement(0, 1);

    // Before that, nobody needs to be told.
    let mut sim = Pair::default().sim(1);
    let ike = sim.initiate(0, WEST);
    sim.act(0, |endpoint, now| endpoint.delete_ike(now, ike));
    sim.run_for(s(100));
    assert_eq!(sim.event_names(0), ["child_failed", "ike_failed"]);
    sim.assert_agreement(0, 1);
}

//= rfc7296#2.4
//= type=test
//# An endpoint MUST conclude
//# that the other endpoint has failed only when repeated attempts to
//# contact it have gone unanswered for a timeout period or when a
//# cryptographically protected INITIAL_CONTACT notification is received
//# on a different IKE SA to the same authenticated identity.
#[test]
fn an_idle_peer_is_probed_and_a_dead_one_found() {
    let mut pair = Pair::default();
    pair.east.liveness = Some(s(10));
    let mut sim = pair.sim(1);
    sim.initiate(0, WEST);
    sim.run_for(s(65));
    let probes = sim
        .lines()
        .iter()
        .filter(|l| l.contains("INFORMATIONAL request"))
        .count();
    assert_eq!(probes, 6);
    assert_eq!(sim.nodes[0].plane.asked_for_traffic, 6);
    // Protected packets from the peer are proof enough, and one question in each interval tells.
    //= rfc7296#2.4
    //= type=test
    //# Receipt of a fresh cryptographically
    //# protected message on an IKE SA or any of its Child SAs ensures
    //# liveness of the IKE SA and all of its Child SAs.
    sim.nodes[0].plane.receives = true;
    sim.run_for(s(100));
    let probes_now = |sim: &Sim| {
        sim.lines()
            .iter()
            .filter(|l| l.contains("INFORMATIONAL request"))
            .count()
    };
    assert_eq!(probes_now(&sim), probes);
    assert_eq!(sim.nodes[0].plane.asked_for_traffic, 16);
    // Without an answer from the plane the peer is asked, a little later.
    sim.nodes[0].plane.hold = true;
    sim.run_for(s(29));
    assert_eq!(probes_now(&sim), probes + 2, "after 15 s, and 15 s later");
    sim.nodes[0].plane.hold = false;
    sim.nodes[0].plane.receives = false;
    sim.run_for(s(10));
    sim.link.loss = 1000;
    sim.run_for(s(80));
    let closed = sim.nodes[0].events.last();
    assert!(matches!(
        closed,
        Some(Event::IkeClosed {
            reason: CloseReason::PeerUnresponsive { .. },
            ..
        })
    ));
    assert!(sim.nodes[0].plane.installed.is_empty());
}

#[test]
fn create_child_sa_is_refused_in_the_right_words() {
    let (mut sim, mut east, _) = established();
    let peers = sim.nodes[0].plane.installed.values().next().unwrap().spi_in;
    let exchange = ExchangeType::CREATE_CHILD_SA;
    let rekey = |spi: u32| {
        move |payloads: &mut cygnet_wire::PayloadWriter<'_>| {
            let octets = Spi(spi).to_bytes();
            let (protocol, kind) = (ProtocolId::ESP, NotifyType::REKEY_SA);
            payloads
                .notify(&Notify {
                    protocol,
                    spi: &octets,
                    kind,
                    data: &[],
                })
                .sa(&[Proposal::esp(1, Spi(0x4445), Vec::new())])
                .nonce(&[1; 32]);
        }
    };
    let new = east.message(exchange, false, 2, |payloads| {
        payloads
            .sa(&[Proposal::esp(1, Spi(0x4444), Vec::new())])
            .nonce(&[1; 32]);
    });
    assert_eq!(
        ask(&mut sim, &east, new),
        ["CREATE_CHILD_SA response 2 N(TS_UNACCEPTABLE)"]
    );
    let known = east.message(exchange, false, 3, rekey(peers));
    assert_eq!(
        ask(&mut sim, &east, known),
        ["CREATE_CHILD_SA response 3 N(TS_UNACCEPTABLE)"]
    );
    //= rfc7296#2.25
    //= type=test
    //# A CHILD_SA_NOT_FOUND notification SHOULD be sent when a peer receives
    //# a request to rekey a Child SA that does not exist.
    let unknown = east.message(exchange, false, 4, rekey(0x9999));
    assert_eq!(
        ask(&mut sim, &east, unknown),
        ["CREATE_CHILD_SA response 4 N(CHILD_SA_NOT_FOUND)"]
    );
    //= rfc7296#2.25.1
    //= type=test
    //# If a peer receives a request to rekey a Child SA that it is currently
    //# trying to close, it SHOULD reply with TEMPORARY_FAILURE.
    let (ike, child) = ids(&sim, 1);
    sim.act(1, |endpoint, now| endpoint.delete_child(now, child));
    sim.sent();
    let closing = east.message(exchange, false, 5, rekey(peers));
    assert_eq!(
        ask(&mut sim, &east, closing),
        ["CREATE_CHILD_SA response 5 N(TEMPORARY_FAILURE)"]
    );
    sim.act(1, |endpoint, now| endpoint.delete_ike(now, ike));
    let answer = east.message(INFORMATIONAL, true, 0, |_| {});
    assert_eq!(
        ask(&mut sim, &east, answer),
        ["INFORMATIONAL request 1 D(IKE 0)"]
    );
    let closing = east.message(exchange, false, 6, rekey(peers));
    assert_eq!(
        ask(&mut sim, &east, closing),
        ["CREATE_CHILD_SA response 6 N(TEMPORARY_FAILURE)"]
    );
}

//= rfc7296#2.25
//= type=test
//# A peer that receives a CHILD_SA_NOT_FOUND notification
//# SHOULD silently delete the Child SA (if it still exists) and send a
//# request to create a new Child SA from scratch (if the Child SA does
//# not yet exist).
#[test]
fn what_the_peer_has_lost_is_removed_in_silence() {
    let (mut sim, _, mut west) = established();
    let (_, child) = ids(&sim, 0);
    let spi = sim.nodes[0].plane.installed[&child].spi_in;
    sim.act(0, |endpoint, now| endpoint.rekey_child(now, child));
    sim.run_for(s(0));
    sim.sent();
    let octets = Spi(spi).to_bytes();
    let answer = west.message(ExchangeType::CREATE_CHILD_SA, true, 2, |payloads| {
        payloads.notify(&Notify {
            protocol: ProtocolId::ESP,
            spi: &octets,
            kind: NotifyType::CHILD_SA_NOT_FOUND,
            data: &[],
        });
    });
    assert_eq!(ask(&mut sim, &west, answer), [""; 0]);
    sim.run_for(s(0));
    assert!(sim.nodes[0].plane.installed.is_empty());
    assert!(sim.nodes[0].plane.reserved.is_empty());
    assert!(matches!(
        sim.nodes[0].events.last(),
        Some(Event::ChildClosed {
            reason: ChildCloseReason::UnknownToPeer,
            ..
        })
    ));
    assert_eq!(
        sim.nodes[0].endpoint.ike_sas().count(),
        1,
        "the IKE SA stands"
    );
}

#[test]
fn malformed_but_authentic_requests() {
    let (mut sim, mut east, _) = established();
    let critical = east.message(INFORMATIONAL, false, 2, |payloads| {
        payloads.raw(PayloadType(200), true, b"?");
    });
    assert_eq!(
        ask(&mut sim, &east, critical),
        ["INFORMATIONAL response 2 N(UNSUPPORTED_CRITICAL_PAYLOAD)"]
    );
    assert_eq!(sim.nodes[1].endpoint.ike_sas().count(), 1, "the SA stands");
    let malformed = east.message(INFORMATIONAL, false, 3, |payloads| {
        payloads.raw(PayloadType::NOTIFY, false, &[0, 9]);
    });
    assert_eq!(
        ask(&mut sim, &east, malformed),
        ["INFORMATIONAL response 3 N(INVALID_SYNTAX)"]
    );
    //= rfc7296#2.21.3
    //= type=test
    //# this
    //# error notification is considered fatal in both peers, meaning that
    //# the IKE SA is deleted without needing an explicit Delete payload.
    assert_eq!(sim.event_names(1).last(), Some(&"ike_closed"));
    // And at the other end.
    let (mut sim, _, mut west) = established();
    let (ike, _) = ids(&sim, 0);
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    sim.sent();
    let answer = west.message(INFORMATIONAL, true, 2, |payloads| {
        payloads.notify(&Notify::new(NotifyType::INVALID_SYNTAX, &[]));
    });
    assert!(ask(&mut sim, &west, answer).is_empty());
    assert_eq!(sim.event_names(0).last(), Some(&"ike_closed"));
}

#[test]
fn an_unknown_exchange_is_answered() {
    let (mut sim, mut east, _) = established();
    let odd = east.message(ExchangeType(99), false, 2, |_| {});
    assert_eq!(
        ask(&mut sim, &east, odd),
        ["ExchangeType(99) response 2 N(INVALID_SYNTAX)"]
    );
}

//= rfc7296#2.3
//= type=test
//# This Notify message MUST NOT be sent in a response; the
//# invalid request MUST NOT be acknowledged.
#[test]
fn a_message_id_out_of_the_window_is_reported_by_a_request() {
    let (mut sim, mut east, _) = established();
    let wrong = east.message(INFORMATIONAL, false, 7, |_| {});
    assert_eq!(
        ask(&mut sim, &east, wrong),
        ["INFORMATIONAL request 0 N(INVALID_MESSAGE_ID)"]
    );
    // Only one at a time.
    for id in 8..100 {
        let wrong = east.message(INFORMATIONAL, false, id, |_| {});
        assert!(ask(&mut sim, &east, wrong).is_empty());
    }
    let stats = sim.nodes[1].endpoint.stats();
    assert_eq!(stats.dropped(DropReason::MessageId), 93);
    // The right one is still welcome.
    let right = east.message(INFORMATIONAL, false, 2, |_| {});
    assert_eq!(ask(&mut sim, &east, right), ["INFORMATIONAL response 2"]);
}

//= rfc7296#2.21.4
//= type=test
//# The recipient MUST NOT change the state of any SAs as a result, but
//# may wish to audit the event to aid in diagnosing malfunctions.
#[test]
fn complaints_are_made_and_heard() {
    let (mut sim, _, west) = established();
    let (ike, child) = ids(&sim, 0);
    let spi = sim.nodes[0].plane.installed[&child].spi_out;
    sim.act(0, |endpoint, now| {
        endpoint.report_invalid_spi(now, ike, spi ^ 1)
    });
    assert_eq!(
        west.read(&sim.outbox[0]),
        "INFORMATIONAL request 2 N(INVALID_SPI)"
    );
    sim.exchange();
    sim.exchange();
    sim.act(0, |endpoint, now| {
        endpoint.report_invalid_selectors(now, child, &[0x45; 2000])
    });
    assert_eq!(
        west.read(&sim.outbox[0]),
        "INFORMATIONAL request 3 N(INVALID_SELECTORS)"
    );
    sim.exchange();
    let complaints: Vec<_> = sim.nodes[1]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::PeerComplaint { child, notify, .. } => Some((child.is_some(), *notify)),
            _ => None,
        })
        .collect();
    assert_eq!(
        complaints,
        [
            (false, NotifyType::INVALID_SPI),
            (true, NotifyType::INVALID_SELECTORS)
        ]
    );
    sim.exchange();
    sim.assert_agreement(0, 1);
}

//= rfc7296#2.21.4
//= type=test
//# A peer receiving such an unprotected Notify payload MUST NOT respond
//# and MUST NOT change the state of any existing SAs.
//= rfc7296#2.21.4
//= type=test
//# If a response is sent, the response MUST be sent to the IP
//# address and port from where it came with the same IKE SPIs and the
//# Message ID copied.  The response MUST NOT be cryptographically
//# protected and MUST contain an INVALID_IKE_SPI Notify payload.
#[test]
fn a_peer_that_has_forgotten_says_so_and_is_probed() {
    let (mut sim, ..) = established();
    let (ike, _) = ids(&sim, 0);
    sim.crash(1);
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    let asked = sim.outbox[0].clone();
    sim.exchange();
    let answer = sim.outbox[0].clone();
    assert_eq!((answer.src, answer.dst), (asked.dst, asked.src));
    let [asked, answer] = [asked, answer].map(|d| *Message::parse(&d.bytes).unwrap().header());
    assert_eq!(answer.initiator_spi, asked.initiator_spi);
    assert_eq!(answer.responder_spi, asked.responder_spi);
    assert_eq!(answer.message_id, asked.message_id);
    assert!(
        sim.lines()
            .last()
            .unwrap()
            .ends_with("INFORMATIONAL response 2 N(INVALID_IKE_SPI)")
    );
    sim.exchange();
    assert!(
        sim.nodes[0].endpoint.ike_sa(ike).is_some(),
        "it may be a forgery"
    );
    assert!(sim.outbox.is_empty());
    sim.manual = false;
    sim.run_for(s(100));
    assert_eq!(sim.event_names(0).last(), Some(&"ike_closed"));
}

#[test]
fn responses_without_sa_and_old_versions_meet_silence() {
    let (mut sim, mut east, _) = established();
    sim.crash(1);
    let response = east.message(INFORMATIONAL, true, 2, |_| {});
    sim.deliver(response);
    //= rfc7296#2.21.4
    //= type=test
    //# If the message is marked as a response, the node can audit the
    //# suspicious event but MUST NOT respond.
    assert!(sim.outbox.is_empty());
    let mut version = east.message(INFORMATIONAL, false, 2, |_| {});
    version.bytes[17] = 0x10;
    sim.deliver(version.clone());
    assert!(sim.outbox.is_empty());
    //= rfc7296#2.5
    //= type=test
    //# If an endpoint receives a message with a higher major version number,
    //# it MUST drop the message and SHOULD send an unauthenticated Notify
    //# message of type INVALID_MAJOR_VERSION containing the highest
    //# (closest) version number it supports.
    version.bytes[17] = 0x30;
    sim.deliver(version);
    assert!(
        sim.lines()
            .last()
            .unwrap()
            .ends_with("INFORMATIONAL response 2 N(INVALID_MAJOR_VERSION)")
    );
    assert_eq!(
        sim.nodes[1]
            .endpoint
            .stats()
            .dropped(DropReason::MajorVersion),
        2
    );
}

/// The network may deliver a datagram again, and late: that is no news for the peer.
#[test]
fn an_old_request_again_is_dropped_without_a_word() {
    let (mut sim, mut east, _) = established();
    let requests: Vec<_> = (2..5)
        .map(|id| east.message(INFORMATIONAL, false, id, |_| {}))
        .collect();
    for request in &requests {
        assert_eq!(ask(&mut sim, &east, request.clone()).len(), 1);
    }
    // The last one is answered again, older ones are not even looked at.
    assert_eq!(ask(&mut sim, &east, requests[2].clone()).len(), 1);
    for request in &requests[..2] {
        assert!(ask(&mut sim, &east, request.clone()).is_empty());
    }
    let stats = sim.nodes[1].endpoint.stats();
    assert_eq!(stats.dropped(DropReason::MessageId), 2);
}

/// One message full of notifications is one event.
#[test]
fn a_flood_of_complaints_is_few_events() {
    let (mut sim, mut east, _) = established();
    let before = sim.nodes[1].events.len();
    let many = east.message(INFORMATIONAL, false, 2, |payloads| {
        for kind in 0..120 {
            payloads.notify(&Notify::new(NotifyType(9000 + kind), &[]));
        }
    });
    assert_eq!(ask(&mut sim, &east, many), ["INFORMATIONAL response 2"]);
    assert_eq!(sim.nodes[1].events.len() - before, 4);
}

/// The peer deletes a child SA that is still being installed here; our own wish to delete it adds nothing.
#[test]
fn a_child_that_the_peer_has_deleted_is_not_deleted_again() {
    let mut pair = Pair::default();
    pair.east_config.key_log = true;
    let mut sim = pair.sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    sim.exchange();
    sim.exchange();
    sim.exchange();
    sim.nodes[0].plane.hold = true;
    sim.exchange();
    let mut west = Forge::new(&sim, 0, Role::Responder);
    let (request, install) = &sim.nodes[0].held[0];
    let Request::InstallChild(install) = install else {
        panic!("{request} is no installation")
    };
    let (child, peers) = (install.child, Spi(install.spi_out));
    let delete = west.message(INFORMATIONAL, false, 0, |payloads| {
        payloads.delete(ProtocolId::ESP, &[peers]);
    });
    assert_eq!(
        ask(&mut sim, &west, delete),
        ["INFORMATIONAL response 0 D(ESP 1)"]
    );
    sim.act(0, |endpoint, now| endpoint.delete_child(now, child));
    sim.release(0);
    sim.run_for(Duration::ZERO);
    assert!(sim.sent().is_empty());
    assert!(sim.nodes[0].plane.installed.is_empty());
}

//= rfc4478#2
//= type=test
//# The AUTH_LIFETIME notification MUST be protected and MAY be sent by
//# the original Responder at any time.
#[test]
fn a_lifetime_counts_from_who_is_authenticated() {
    let (mut sim, _, mut west) = established();
    let told = |sim: &Sim| {
        let events = sim.nodes[0].events.iter();
        events
            .filter(|event| matches!(event, Event::AuthLifetime { .. }))
            .count()
    };
    let said = Notify::new(NotifyType::AUTH_LIFETIME, &[0, 0, 0x0e, 0x10]);
    let good = west.message(INFORMATIONAL, false, 0, |payloads| {
        payloads.notify(&said);
    });
    let header = *Message::parse(&good.bytes).unwrap().header();
    let mut bytes = Vec::new();
    cygnet_wire::write_message(&mut bytes, &header, |payloads| {
        payloads.notify(&said);
    })
    .unwrap();
    let bare = Datagram {
        bytes,
        ..good.clone()
    };
    sim.deliver(bare);
    assert!(sim.sent().is_empty());
    assert_eq!(told(&sim), 0);
    assert_eq!(ask(&mut sim, &west, good), ["INFORMATIONAL response 0"]);
    assert_eq!(told(&sim), 1);
}

//= rfc7296#2.3
//= type=test
//# Sending this notification is OPTIONAL, and notifications of this type
//# MUST be rate limited.
#[test]
fn who_sends_nothing_but_wrong_message_ids_is_told_so_now_and_then() {
    let (mut sim, mut east, _) = established();
    let mut told = 0;
    for id in 1000..2000 {
        let wrong = east.message(INFORMATIONAL, false, id, |_| {});
        for complaint in ask(&mut sim, &east, wrong) {
            assert_eq!(
                complaint,
                format!("INFORMATIONAL request {told} N(INVALID_MESSAGE_ID)")
            );
            let answer = east.message(INFORMATIONAL, true, told, |_| {});
            assert!(ask(&mut sim, &east, answer).is_empty());
            told += 1;
        }
    }
    assert!((1..=10).contains(&told), "{told}");
    let stats = sim.nodes[1].endpoint.stats();
    assert_eq!(
        stats.dropped(DropReason::RateLimited),
        1000 - u64::from(told)
    );
}
