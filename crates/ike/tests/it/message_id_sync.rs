//! Synchronisation of Message IDs (RFC 6311): the member that has taken over, its peer, and who abuses it.

use cygnet_ike::*;
use cygnet_wire::*;

use crate::forge::{Forge, stopped_at};
use crate::pair::*;
use crate::sim::{Datagram, Sim, describe};

const INFORMATIONAL: ExchangeType = ExchangeType::INFORMATIONAL;

/// An IKE SA that stands; everything goes by hand from now on. East's requests have the Message IDs from 2, west's from 0.
fn up(mut pair: Pair) -> Sim {
    pair.east_config.key_log = true;
    pair.east.replay_counter_sync = false;
    let mut sim = run(pair);
    established(&sim);
    sim.manual = true;
    sim
}

/// The Message IDs that a node goes on with: its own, and the peer's.
fn ids(sim: &Sim, node: usize) -> (u32, u32) {
    let ike = only(sim, node);
    (ike.next_request, ike.next_peer_request)
}

fn said(nonce: u32, expected_send: u32, expected_receive: u32) -> MessageIdSync {
    MessageIdSync {
        nonce,
        expected_send,
        expected_receive,
    }
}

fn synchronise(sim: &mut Sim, node: usize) -> Datagram {
    let ike = only(sim, node).id;
    assert!(sim.act(node, |endpoint, now| endpoint.synchronise(now, ike)));
    sim.sent().remove(0)
}

/// What came of a datagram.
fn answers(sim: &mut Sim, datagram: &Datagram) -> Vec<Datagram> {
    sim.deliver(datagram.clone());
    sim.sent()
}

/// What a cluster at west says to east, and what east answers.
fn west_says(sim: &mut Sim, west: &mut Forge, what: MessageIdSync) -> Option<MessageIdSync> {
    let request = west.message(INFORMATIONAL, false, 0, |payloads| what.write(payloads));
    let mut answers = answers(sim, &request);
    let answer = answers.pop()?;
    assert!(answers.is_empty());
    let mut back = None;
    west.look(&answer, |payloads| match payloads {
        [Payload::Notify(notify)] => {
            assert_eq!(notify.kind, NotifyType::IKEV2_MESSAGE_ID_SYNC);
            assert_eq!((notify.protocol, notify.spi.len()), (ProtocolId::NONE, 0));
            back = MessageIdSync::parse(notify.data);
        }
        other => panic!("{other:?}"),
    });
    let header = *Message::parse(&answer.bytes).unwrap().header();
    assert_eq!((header.message_id, header.exchange), (0, INFORMATIONAL));
    assert!(header.flags.response);
    back
}

//= rfc6311#5.1
//= type=test
//# The request and the response MUST both be sent with a Message ID
//# value of zero.
//= rfc6311#5.1
//= type=test
//# M1
//# MUST be chosen so that it is larger than any value known to have
//# been used.  It is RECOMMENDED to increment the known value at
//# least by the size of the IKE sender window.
//= rfc6311#11
//= type=test
//# After it receives a valid response, it MUST NOT process the same
//# response again and MUST discard any additional responses.
#[test]
fn either_end_takes_over() {
    for member in 0..2 {
        let mut sim = up(Pair::default());
        assert!(only(&sim, 0).message_id_sync && only(&sim, 1).message_id_sync);
        let before = ids(&sim, member);
        let request = synchronise(&mut sim, member);
        assert!(describe(&request).ends_with("INFORMATIONAL request 0 SK"));
        let response = answers(&mut sim, &request).remove(0);
        assert!(describe(&response).ends_with("INFORMATIONAL response 0 SK"));
        assert!(answers(&mut sim, &response).is_empty());
        let after = ids(&sim, member);
        assert_eq!(after, (before.0 + 1, before.1));
        let other = ids(&sim, 1 - member);
        assert_eq!(other, (after.1, after.0));
        for node in 0..2 {
            assert_eq!(sim.event_names(node).last(), Some(&"synchronised"));
        }
        // The same response once more is to nothing.
        assert!(answers(&mut sim, &response).is_empty());
        assert_eq!(ids(&sim, member), after);
        // Both ends go on.
        sim.manual = false;
        for node in 0..2 {
            let ike = only(&sim, node).id;
            sim.act(node, |endpoint, now| endpoint.check_liveness(now, ike));
            sim.run_for(s(1));
            let child = child(&sim, node).child;
            sim.act(node, |endpoint, now| endpoint.rekey_child(now, child));
            sim.run_for(s(1));
        }
        sim.assert_agreement(0, 1);
        let names = [sim.event_names(0), sim.event_names(1)].concat();
        assert!(!names.contains(&"retransmitting") && !names.contains(&"ike_closed"));
    }
}

/// The numbers of RFC 6311, A.1; and where the member knows less than the peer, or more.
//= rfc6311#5.1
//= type=test
//# P2 MUST be the higher of the received P1 value, and one more than
//# the highest sender value used by the peer.
//= rfc6311#5.1
//= type=test
//# The request contains a Nonce field.  This field MUST be returned
//# in the response, unchanged.
//= rfc6311#5.1
//= type=test
//# M2 MUST be at least the higher of the received M1, and one more
//# than the highest sender value received from the cluster.
//= rfc6311#5
//= type=test
//# Following that, the peer MUST respond to any synchronization message
//# it receives from the newly active cluster member, subject to the rules
//# noted below.
#[test]
fn the_higher_values_count() {
    let cases = [
        // The member's next, what it expects, and the peer's answer.
        ((0, 5), (5, 0)),
        ((0, 2), (2, 0)),
        ((0, 0), (2, 0)),
        ((7, 1), (2, 7)),
        ((7, 9), (9, 7)),
    ];
    for ((m1, p1), (p2, m2)) in cases {
        let mut sim = up(Pair::default());
        assert_eq!(ids(&sim, 0), (2, 0));
        let mut west = Forge::new(&sim, 0, Role::Responder);
        let answer = west_says(&mut sim, &mut west, said(77, m1, p1));
        assert_eq!(answer, Some(said(77, p2, m2)));
        assert_eq!(ids(&sim, 0), (p2, m2));
        // Neither what is before that nor what is beyond it is heard.
        for id in [m2.wrapping_sub(1), m2 + 1] {
            let request = west.message(INFORMATIONAL, false, id, |_| {});
            let heard = answers(&mut sim, &request);
            let heard = heard.iter().filter(|d| describe(d).contains("response"));
            assert_eq!(heard.count(), 0, "{id}");
        }
        let request = west.message(INFORMATIONAL, false, m2, |_| {});
        assert!(
            answers(&mut sim, &request)
                .iter()
                .any(|d| describe(d).ends_with(&format!("response {m2} SK")))
        );
    }
}

//= rfc6311#5.1
//= type=test
//# The peer MUST silently drop any received synchronization message
//# if M1 is lower than or equal to the highest value it has seen from
//# the cluster.  This includes any previous received synchronization
//# messages.
#[test]
fn what_has_been_seen_is_not_seen_again() {
    let mut sim = up(Pair::default());
    let mut west = Forge::new(&sim, 0, Role::Responder);
    for id in 0..3 {
        let request = west.message(INFORMATIONAL, false, id, |_| {});
        assert_eq!(answers(&mut sim, &request).len(), 1);
    }
    for stale in 0..3 {
        assert_eq!(west_says(&mut sim, &mut west, said(1, stale, 2)), None);
    }
    assert_eq!(ids(&sim, 0), (2, 3));
    let first = west.message(INFORMATIONAL, false, 0, |p| said(9, 5, 2).write(p));
    let response = answers(&mut sim, &first).remove(0);
    assert_eq!(ids(&sim, 0), (2, 5));
    // Another one with the same number, and with what was skipped.
    for stale in 3..6 {
        assert_eq!(west_says(&mut sim, &mut west, said(2, stale, 2)), None);
    }
    // The same octets are a retransmission: the response is the same, and nothing moves.
    assert_eq!(answers(&mut sim, &first)[0].bytes, response.bytes);
    assert_eq!(ids(&sim, 0), (2, 5));
    // After the peer has gone on they are a replay.
    let request = west.message(INFORMATIONAL, false, 5, |_| {});
    assert_eq!(answers(&mut sim, &request).len(), 1);
    assert!(answers(&mut sim, &first).is_empty());
    assert_eq!(ids(&sim, 0), (2, 6));
    assert_eq!(only(&sim, 0).state, IkeSaState::Established);
}

/// A hostile peer skips far, asks often, says more than it may, or is not to ask at all.
//= rfc6311#5.1
//= type=test
//# Both the request and the response MUST NOT contain any additional
//# payloads, other than an optional IPSEC_REPLAY_COUNTER_SYNC
//# notification in the request.
#[test]
fn hostile_requests_move_nothing() {
    let mut sim = up(Pair::default());
    let mut west = Forge::new(&sim, 0, Role::Responder);
    for (m1, p1) in [(u32::MAX, 2), (5, u32::MAX), (65_537, 2), (5, 65_539)] {
        assert_eq!(west_says(&mut sim, &mut west, said(1, m1, p1)), None);
    }
    let sync = said(1, 5, 2).to_bytes();
    let notify = |data| Notify::new(NotifyType::IKEV2_MESSAGE_ID_SYNC, data);
    let more = west.message(INFORMATIONAL, false, 0, |payloads| {
        payloads.notify(&notify(&sync)).delete_ike();
    });
    let twice = west.message(INFORMATIONAL, false, 0, |payloads| {
        payloads.notify(&notify(&sync)).notify(&notify(&sync));
    });
    let unknown = west.message(INFORMATIONAL, false, 0, |payloads| {
        payloads.notify(&notify(&sync)).vendor_id(b"x");
    });
    // Message ID 0 is that of west's first request, too: these would be such, so they come after it.
    let request = west.message(INFORMATIONAL, false, 0, |_| {});
    assert_eq!(answers(&mut sim, &request).len(), 1);
    let short = west.message(INFORMATIONAL, false, 0, |payloads| {
        payloads.notify(&notify(&sync[..11]));
    });
    let forged = {
        let mut other = west.message(INFORMATIONAL, false, 0, |p| said(1, 5, 2).write(p));
        *other.bytes.last_mut().unwrap() ^= 1;
        other
    };
    for message in [more, twice, unknown, short, forged] {
        assert!(answers(&mut sim, &message).is_empty());
    }
    assert_eq!(ids(&sim, 0), (2, 1));
    let heard = (1..100).filter(|n| west_says(&mut sim, &mut west, said(1, n * 10, 2)).is_some());
    assert_eq!(heard.count(), 8);
    assert_eq!(only(&sim, 0).state, IkeSaState::Established);
}

//= rfc6311#5
//= type=test
//# Only a capability whose support was asserted by
//# both parties can be used during the lifetime of the SA.
#[test]
fn only_where_both_have_said_so() {
    for unwilling in 0..2 {
        let mut pair = Pair::default();
        if unwilling == 0 {
            pair.east.message_id_sync = false;
        } else {
            pair.west.message_id_sync = false;
        }
        let mut sim = up(pair);
        for node in 0..2 {
            let ike = only(&sim, node);
            assert!(!ike.message_id_sync);
            assert!(!sim.act(node, |endpoint, now| endpoint.synchronise(now, ike.id)));
        }
        let mut west = Forge::new(&sim, 0, Role::Responder);
        let request = west.message(INFORMATIONAL, false, 0, |_| {});
        assert_eq!(answers(&mut sim, &request).len(), 1);
        assert_eq!(west_says(&mut sim, &mut west, said(1, 5, 2)), None);
        assert_eq!(ids(&sim, 0), (2, 1));
    }
}

/// What a request of east says.
fn asked_by(west: &mut Forge, request: &Datagram) -> MessageIdSync {
    let mut asked = None;
    west.look(request, |payloads| match payloads {
        [Payload::Notify(notify)] => asked = MessageIdSync::parse(notify.data),
        other => panic!("{other:?}"),
    });
    asked.expect("a request to synchronise")
}

//= rfc6311#5.1
//= type=test
//# A response MUST be silently dropped
//# if the received nonce does not match the one that was sent.
#[test]
fn only_the_response_to_our_request_counts() {
    let mut sim = up(Pair::default());
    let mut west = Forge::new(&sim, 0, Role::Responder);
    let request = synchronise(&mut sim, 0);
    let asked = asked_by(&mut west, &request);
    assert_eq!((asked.expected_send, asked.expected_receive), (3, 0));
    let wrong = [
        said(asked.nonce ^ 1, 0, 3),
        said(asked.nonce, 0, 2),
        said(asked.nonce, u32::MAX, 3),
        said(asked.nonce, 0, u32::MAX),
        said(asked.nonce, 65_537, 3),
    ];
    for what in wrong {
        let response = west.message(INFORMATIONAL, true, 0, |payloads| what.write(payloads));
        assert!(answers(&mut sim, &response).is_empty());
    }
    // It is asked again, and nothing else is said meanwhile.
    let child = child(&sim, 0).child;
    sim.act(0, |endpoint, now| endpoint.rekey_child(now, child));
    sim.run_for(s(3));
    let again = sim.sent().pop().expect("another request");
    assert!(describe(&again).ends_with("INFORMATIONAL request 0 SK"));
    // The answer to the former one comes too late.
    let late = said(asked.nonce, 4, 9);
    let response = west.message(INFORMATIONAL, true, 0, |payloads| late.write(payloads));
    assert!(answers(&mut sim, &response).is_empty());
    let asked = asked_by(&mut west, &again);
    let right = said(asked.nonce, 4, 9);
    let response = west.message(INFORMATIONAL, true, 0, |payloads| right.write(payloads));
    let next = answers(&mut sim, &response);
    assert_eq!(ids(&sim, 0).1, 4);
    sim.run_for(s(0));
    let next: Vec<_> = next.into_iter().chain(sim.sent()).collect();
    assert!(describe(&next[0]).ends_with("CREATE_CHILD_SA request 9 SK"));
}

/// A peer does not answer twice to the same: who has not heard the answer asks for more.
//= rfc6311#5.1
//= type=test
//# The peer MUST silently drop any received synchronization message
//# if M1 is lower than or equal to the highest value it has seen from
//# the cluster.  This includes any previous received synchronization
//# messages.
#[test]
fn each_repetition_asks_for_more() {
    let mut sim = up(Pair::default());
    let mut west = Forge::new(&sim, 0, Role::Responder);
    let first = synchronise(&mut sim, 0);
    let lost = answers(&mut sim, &first);
    assert_eq!(lost.len(), 1);
    // It waits longer than other requests do.
    sim.run_for(s(1));
    assert!(sim.sent().is_empty());
    sim.run_for(s(20));
    let again = sim.sent();
    assert!(again.len() > 2);
    let mut before = asked_by(&mut west, &first);
    for request in &again {
        let asked = asked_by(&mut west, request);
        assert!(asked.expected_send > before.expected_send && asked.nonce != before.nonce);
        assert_eq!(asked.expected_receive, before.expected_receive);
        before = asked;
    }
    for datagram in answers(&mut sim, again.last().unwrap()) {
        answers(&mut sim, &datagram);
    }
    // The others come late.
    for request in again.iter().rev().skip(1).chain([&first]) {
        for datagram in answers(&mut sim, request) {
            answers(&mut sim, &datagram);
        }
    }
    let (east, west) = (ids(&sim, 0), ids(&sim, 1));
    assert_eq!(east, (west.1, west.0));
    assert_eq!(east.0, before.expected_send);
}

/// A peer that does not answer at all is dead.
#[test]
fn without_an_answer_the_peer_is_given_up() {
    let mut sim = up(Pair::default());
    synchronise(&mut sim, 0);
    sim.run_for(s(100));
    let closed = sim.nodes[0].events.iter().find_map(|event| match event {
        Event::IkeClosed { reason, .. } => Some(reason.name()),
        _ => None,
    });
    assert_eq!(closed, Some("peer_unresponsive"));
}

/// Both ends have taken over at once (RFC 6311, A.4): the requests cross each other.
#[test]
fn both_at_once() {
    let mut sim = up(Pair::default());
    let (e, w) = (synchronise(&mut sim, 0), synchronise(&mut sim, 1));
    let from_west = answers(&mut sim, &e);
    let from_east = answers(&mut sim, &w);
    for response in from_west.iter().chain(&from_east) {
        answers(&mut sim, response);
    }
    let (east, west) = (ids(&sim, 0), ids(&sim, 1));
    assert_eq!(east, (west.1, west.0));
    sim.manual = false;
    sim.run_for(s(5));
    for node in 0..2 {
        let ike = only(&sim, node).id;
        sim.act(node, |endpoint, now| endpoint.check_liveness(now, ike));
        sim.run_for(s(2));
    }
    sim.run_for(s(100));
    sim.assert_agreement(0, 1);
    assert_eq!(only(&sim, 0).state, IkeSaState::Established);
}

/// Lost and repeated messages, at all times: whatever happens, both ends come to the same numbers.
#[test]
fn on_a_bad_network() {
    for seed in 0..100 {
        let mut pair = Pair::default();
        pair.east.window = 1 + (seed % 3) as u32;
        pair.west.window = 1 + (seed % 4) as u32;
        let mut sim = pair.sim(seed);
        sim.initiate(0, WEST);
        sim.run_for(s(2));
        sim.link.loss = 300;
        sim.link.duplicate = 200;
        let node = (seed % 2) as usize;
        for other in [node, 1 - node] {
            let child = child(&sim, other).child;
            sim.act(other, |endpoint, now| endpoint.rekey_child(now, child));
        }
        let ike = only(&sim, node).id;
        sim.act(node, |endpoint, now| endpoint.synchronise(now, ike));
        sim.run_for(s(40));
        sim.link.loss = 0;
        sim.link.duplicate = 0;
        sim.run_for(s(300));
        let (east, west) = (ids(&sim, 0), ids(&sim, 1));
        assert_eq!(
            east,
            (west.1, west.0),
            "seed {seed}\n{}",
            sim.trace.join("\n")
        );
    }
}

//= rfc6311#8.1
//= type=test
//# After sending its "receive" counter, the cluster member MUST reject
//# (silently drop) any incoming IKE messages that are outside its
//# declared window.
#[test]
fn who_has_asked_hears_nothing_outside_of_what_it_has_said() {
    let mut pair = Pair::default();
    pair.east.window = 4;
    let mut sim = up(pair);
    let mut west = Forge::new(&sim, 0, Role::Responder);
    // Requests of west have come out of order: the first two are under way.
    let [zero, one, two] = [0, 1, 2].map(|id| west.message(INFORMATIONAL, false, id, |_| {}));
    assert_eq!(answers(&mut sim, &two).len(), 1);
    let request = synchronise(&mut sim, 0);
    let mut asked = None;
    west.look(&request, |payloads| {
        if let [Payload::Notify(notify)] = payloads {
            asked = MessageIdSync::parse(notify.data);
        }
    });
    assert_eq!(asked.expect("it asks").expected_receive, 3);
    for late in [zero, one, two] {
        assert!(answers(&mut sim, &late).is_empty());
    }
    let beyond = west.message(INFORMATIONAL, false, 7, |_| {});
    assert!(answers(&mut sim, &beyond).is_empty());
    let within = west.message(INFORMATIONAL, false, 3, |_| {});
    assert_eq!(answers(&mut sim, &within).len(), 1);
}

/// RFC 6311, 6.1 and 6.2: neither protocol nor SPI nor data.
//= rfc6311#6.1
//= type=test
//# The 'SPI Size' field MUST be set to 0 to indicate that the SPI is not
//# present in this message.
//= rfc6311#6.2
//= type=test
//# The 'SPI Size' field MUST be set to 0 to indicate that the SPI is not
//# present in this message.
//= rfc6311#6.1
//= type=test
//# The 'Protocol ID' MUST be set to 0, since the notification is not
//# specific to a particular security association.
//= rfc6311#6.2
//= type=test
//# The 'Protocol ID' MUST be set to 0, since the notification is not
//# specific to a particular security association.
#[test]
fn support_is_said_without_anything() {
    let (_, request, keys) = stopped_at(2, || Pair::default().sim(1));
    let mut said = Vec::new();
    let kinds = [
        NotifyType::IKEV2_MESSAGE_ID_SYNC_SUPPORTED,
        NotifyType::IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED,
    ];
    Forge::with_keys(keys, Role::Responder).look(&request, |payloads| {
        for payload in payloads {
            if let Payload::Notify(n) = payload
                && kinds.contains(&n.kind)
            {
                said.push((n.kind, n.protocol, n.spi.len(), n.data.len()));
            }
        }
    });
    assert_eq!(said, kinds.map(|kind| (kind, ProtocolId::NONE, 0, 0)));
}
