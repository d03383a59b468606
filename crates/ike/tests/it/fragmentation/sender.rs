//! What the sender of fragments does: their headers, and the search for a size that comes through (RFC 7383 §2.5).

use super::*;

/// What would be as many fragments of the smaller size is repeated as it is, however often.
//= rfc7383#2.5.2
//= type=test
//# When selecting the
//# next smaller value for the fragmentation threshold, the sender MUST
//# ensure that the value in the Total Fragments field is really
//# increased.
#[test]
fn what_smaller_fragments_do_not_divide_further_stays_as_it_is() {
    let mut kinds = Vec::new();
    for n in 2..=30 {
        let mut pair = pair(600);
        for child in [&mut pair.east_child, &mut pair.west_child] {
            child.local_ts.truncate(n);
            child.remote_ts.truncate(n);
        }
        let (mut sim, ..) = established_pair(pair);
        let child = child(&sim, 0).child;
        sim.act(0, |endpoint, now| endpoint.rekey_child(now, child));
        sim.run_for(Duration::ZERO);
        let first = sim.sent();
        sim.run_for(s(200));
        let last = sim.sent().pop().expect("it is repeated");
        let same = first.iter().any(|datagram| datagram.bytes == last.bytes);
        let total = fragment(&last.bytes).map_or(1, |(_, total)| usize::from(total));
        assert_eq!(total > first.len(), !same, "{n}");
        let refragmented = sim.nodes[0].endpoint.stats().refragmented;
        assert_eq!(refragmented, u64::from(!same), "{n}");
        kinds.push((first.len(), total));
    }
    for kind in [(1, 1), (2, 2), (2, 3)] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
}

/// Each exchange with long messages finds out for itself what comes through.
//= rfc7383#2.5.2
//= type=test
//# Implementations MUST be prepared to probe in every exchange that
//# utilizes IKE fragmentation to deal with possible changes in path MTU
//# over time.
#[test]
fn a_path_that_gets_narrower_is_found_by_the_next_exchange() {
    let (mut sim, ..) = established_pair(pair(1400));
    sim.manual = false;
    sim.link.longest = 576 - HEADERS;
    for count in 1..3 {
        let child = child(&sim, 0).child;
        sim.act(0, |endpoint, now| endpoint.rekey_child(now, child));
        sim.run_for(s(30));
        // What it has found out it keeps to.
        assert_eq!(sim.nodes[0].endpoint.stats().refragmented, 1);
        assert_eq!(sim.event_names(1).len(), 2 + 2 * count);
        sim.assert_agreement(0, 1);
    }
}

/// With the shortest fragments there are, it goes on until the peer is given up.
//= rfc7383#2.5.2
//= type=test
//# After reaching the smallest allowed value for the fragmentation
//# threshold, an implementation MUST continue retransmitting until the
//# exchange either completes or times out using some timeout interval as
//# discussed in Section 2.4 of [RFC7296].
#[test]
fn who_does_not_answer_the_shortest_fragments_is_asked_until_it_is_over() {
    let mut sim = pair(1280).sim(1);
    sim.link.longest = 100;
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    // IKE_SA_INIT does not come through either: it is let through by hand.
    sim.link.longest = usize::MAX;
    sim.manual = true;
    sim.run_for(s(1));
    for _ in 0..2 {
        sim.exchange();
    }
    let first = sim.sent().len();
    assert!(first > 0);
    let mut sizes = Vec::new();
    for _ in 0..200 {
        sim.run_for(s(1));
        sizes.extend(sim.sent().iter().map(|d| d.bytes.len()));
    }
    assert!(
        sizes.iter().rev().take(6).all(|len| len + HEADERS <= 576),
        "{sizes:?}"
    );
    let failure = ike_failure(&sim, 0);
    assert_eq!(failure.name(), "no_response");
}

/// Of each message the header stays but for its length and the type of the payload behind it; the first fragment names
/// the first payload inside, and the Encrypted Fragment payload is the last one.
//= rfc7383#2.5
//= type=test
//# if present in a message, MUST be the last payload in the message.
//= rfc7383#2.5
//= type=test
//# in the very first fragment (with Fragment Number equal to 1), this
//# field MUST be set to the payload type of the first inner payload (the
//# same as for the Encrypted payload).
//= rfc7383#2.5
//= type=test
//# When prepending the IKE header to the IKE Fragment messages, it MUST
//# be taken intact from the original message, except for the Length and
//# Next Payload fields.
#[test]
fn fragments_have_the_header_of_their_message() {
    let mut sim = pair(576).sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    sim.exchange();
    let response = sim.outbox[0].clone();
    sim.exchange();
    let fragments = sim.sent();
    assert!(fragments.len() > 1);
    let of_init = *Message::parse(&response.bytes).unwrap().header();
    for (number, datagram) in (1..).zip(&fragments) {
        let message = Message::parse(&datagram.bytes).unwrap();
        let whole = Header {
            next_payload: PayloadType::SKF,
            exchange: ExchangeType::IKE_AUTH,
            flags: Flags {
                initiator: true,
                ..Flags::default()
            },
            message_id: 1,
            length: datagram.bytes.len() as u32,
            ..of_init
        };
        assert_eq!(*message.header(), whole);
        let payloads: Vec<_> = message.payloads().map(Result::unwrap).collect();
        let [Payload::Skf(skf)] = payloads[..] else {
            panic!("{payloads:?}")
        };
        let first = [PayloadType::NONE, PayloadType::ID_I][usize::from(number == 1)];
        assert_eq!((skf.number, skf.first_inner), (number, first));
    }
}
