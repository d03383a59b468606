//! IKE fragmentation (RFC 7383): what goes out in pieces, what is put together, and what a hostile peer gets.

mod sender;

use std::sync::Mutex;
use std::time::Duration;

use cygnet_ike::*;
use cygnet_wire::limits::MAX_FRAGMENTS;
use cygnet_wire::{
    ExchangeType, Flags, Header, IkeSpi, Message, NotifyType, Payload, PayloadType, PayloadWriter,
    ProtocolId,
};

use crate::forge::{Forge, stopped_at};
use crate::pair::*;
use crate::sim::*;

const INFORMATIONAL: ExchangeType = ExchangeType::INFORMATIONAL;
/// Octets of IP and UDP in front of a message on port 500.
const HEADERS: usize = 28;

/// A pair whose IKE_AUTH messages have some 1200 octets and whose datagrams have at most `size`.
fn pair(size: u16) -> Pair {
    let nets = |n: u8| {
        (0..30)
            .map(|i| net(&format!("10.{n}.{i}.0/24")))
            .collect::<Vec<_>>()
    };
    let mut pair = Pair::default();
    (pair.east.fragment_size, pair.west.fragment_size) = (size, size);
    (pair.east_child.local_ts, pair.east_child.remote_ts) = (nets(1), nets(2));
    (pair.west_child.local_ts, pair.west_child.remote_ts) = (nets(2), nets(1));
    pair
}

/// Number and total of a fragment.
fn fragment(bytes: &[u8]) -> Option<(u16, u16)> {
    let message = Message::parse(bytes).unwrap();
    message.payloads().find_map(|payload| match payload {
        Ok(Payload::Skf(skf)) => Some((skf.number, skf.total)),
        _ => None,
    })
}

/// What was sent of IKE_AUTH: `east` or `west`, and the payload.
fn auth_lines(sim: &Sim) -> Vec<String> {
    let of_auth = |line: &String| line.contains("IKE_AUTH");
    let short = |line: String| line.replace("500 > 500 IKE_AUTH ", "");
    sim.lines().into_iter().filter(of_auth).map(short).collect()
}

fn drops(sim: &Sim, node: usize, reason: DropReason) -> u64 {
    sim.nodes[node].endpoint.stats().dropped(reason)
}

/// An established pair, stepped by hand from here on, and a forger with the keys of each end.
fn established_pair(mut pair: Pair) -> (Sim, Forge, Forge) {
    pair.east_config.key_log = true;
    let mut sim = run(pair);
    established(&sim);
    sim.manual = true;
    let east = Forge::new(&sim, 0, Role::Initiator);
    let west = Forge::new(&sim, 0, Role::Responder);
    (sim, east, west)
}

/// Payloads as octets, and the type of the first.
fn plain(write: impl FnOnce(&mut PayloadWriter<'_>)) -> (PayloadType, Vec<u8>) {
    let mut octets = Vec::new();
    let mut writer = PayloadWriter::new(&mut octets);
    write(&mut writer);
    (writer.finish().unwrap(), octets)
}

/// What a node answers to a datagram.
fn answers(sim: &mut Sim, datagram: &Datagram) -> usize {
    sim.deliver(datagram.clone());
    sim.sent().len()
}

//= rfc7383#2.5
//= type=test
//# The content is treated as a binary blob and is
//# split regardless of the boundaries of inner payloads.
#[test]
fn what_is_too_long_goes_in_fragments() {
    let mut sim = pair(576).sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let sent: Vec<_> = sim
            .outbox
            .iter()
            .map(|d| (fragment(&d.bytes), d.bytes.len()))
            .collect();
        seen.extend(sent);
        sim.exchange();
    }
    established(&sim);
    // All but the last are as long as they may be.
    let expected = [
        (Some((1, 3)), 548),
        (Some((2, 3)), 548),
        (Some((3, 3)), 347),
        (Some((1, 3)), 548),
        (Some((2, 3)), 548),
        (Some((3, 3)), 211),
    ];
    assert_eq!(seen[2..], expected);
    assert!(seen.iter().all(|(_, len)| len + HEADERS <= 576));
    let stats = sim.nodes[0].endpoint.stats();
    assert_eq!((stats.fragments_in, stats.fragments_out), (3, 3));
    assert!(sim.nodes[0].endpoint.ike_sas().all(|sa| sa.fragmentation));
}

//= rfc7383#2.4
//= type=test
//# IKE fragmentation MUST NOT be used unless both peers have indicated
//# their support for it.
#[test]
fn both_must_be_able_and_one_may_be_unwilling() {
    use Fragmentation::{Accept, Force, No, Yes};
    let sent = |east, west| {
        let mut pair = pair(1000);
        (pair.east.fragmentation, pair.west.fragmentation) = (east, west);
        let sim = run(pair);
        established(&sim);
        let agreed = sim.lines()[1].contains("FRAGMENTATION_SUPPORTED");
        (agreed, auth_lines(&sim).join(", "))
    };
    let whole = "east request 1 SK, west response 1 SK".to_owned();
    let fragments =
        "east request 1 SKF, east request 1 SKF, west response 1 SKF, west response 1 SKF";
    assert_eq!(sent(Yes, Yes), (true, fragments.to_owned()));
    assert_eq!(sent(Yes, No), (false, whole.clone()));
    assert_eq!(sent(Force, No), (false, whole.clone()));
    assert_eq!(sent(No, Yes), (false, whole.clone()));
    assert_eq!(sent(Accept, Accept), (true, whole));
    assert_eq!(
        sent(Accept, Yes),
        (
            true,
            "east request 1 SK, west response 1 SKF, west response 1 SKF".to_owned()
        )
    );
}

#[test]
fn a_fragment_is_dropped_where_none_was_agreed_on() {
    let mut pair = Pair::default();
    pair.west.fragmentation = Fragmentation::No;
    let (mut sim, mut east, _) = established_pair(pair);
    let (first, octets) = plain(|_| {});
    let whole = east.fragment((INFORMATIONAL, false, 2), (1, 1), first, &octets);
    assert_eq!(answers(&mut sim, &whole), 0);
    assert_eq!(drops(&sim, 1, DropReason::FragmentUnexpected), 1);
}

#[test]
fn forced_fragments_are_used_for_short_messages_where_there_is_a_point() {
    let mut pair = Pair::default();
    pair.east.fragmentation = Fragmentation::Force;
    let mut sim = run(pair);
    let ike = sim.nodes[0].endpoint.ike_sas().next().unwrap().id;
    sim.act(0, |endpoint, now| endpoint.delete_ike(now, ike));
    sim.run_for(s(1));
    assert_eq!(
        sim.lines()[2..],
        [
            "east 500 > 500 IKE_AUTH request 1 SKF",
            "west 500 > 500 IKE_AUTH response 1 SK",
            "east 500 > 500 INFORMATIONAL request 2 SK",
            "west 500 > 500 INFORMATIONAL response 2 SK",
        ]
    );
    assert_eq!(sim.event_names(1).last(), Some(&"ike_closed"));
}

#[test]
fn a_configured_size_of_zero_is_that_of_the_family() {
    let mut sim = pair(0).sim(1);
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    established(&sim);
    assert_eq!(auth_lines(&sim).len(), 6);
}

//= rfc7383#2.6.1
//= type=test
//# If the responder receives a retransmitted fragment of a request when
//# it has already processed that request and has sent back a response,
//# that event MUST only trigger a retransmission of the response message
//# (fragmented or not) if the Fragment Number field in the received
//# fragment is set to 1; otherwise, it MUST be ignored.
//= rfc7383#2.6.1
//= type=test
//# If an incoming message contains an Encrypted Fragment payload, the
//# values of the Fragment Number and Total Fragments fields MUST be used
//# along with the Message ID to detect retransmissions and replays.
#[test]
fn the_first_fragment_alone_asks_for_the_response_again() {
    let mut sim = pair(576).sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    sim.exchange();
    sim.exchange();
    sim.run_for(Duration::ZERO);
    let request = sim.outbox.clone();
    assert_eq!(request.len(), 3);
    sim.exchange();
    let response = sim.sent();
    assert_eq!(response.len(), 3);
    assert_eq!(answers(&mut sim, &request[1]), 0);
    assert_eq!(answers(&mut sim, &request[2]), 0);
    assert_eq!(drops(&sim, 1, DropReason::FragmentRepeated), 2);
    sim.deliver(request[0].clone());
    assert_eq!(
        sim.sent().iter().map(|d| &d.bytes).collect::<Vec<_>>(),
        response.iter().map(|d| &d.bytes).collect::<Vec<_>>()
    );
    assert_eq!(sim.nodes[1].endpoint.stats().responses_repeated, 1);
}

#[test]
fn a_request_that_comes_again_in_smaller_fragments_is_answered_again() {
    let (mut sim, mut east, _) = established_pair(Pair::default());
    let (first, octets) = plain(|payloads| {
        payloads.vendor_id(&[7; 100]);
    });
    let request = east.message(INFORMATIONAL, false, 2, |payloads| {
        payloads.vendor_id(&[7; 100]);
    });
    assert_eq!(answers(&mut sim, &request), 1);
    let again = (INFORMATIONAL, false, 2);
    let one = east.fragment(again, (1, 2), first, &octets[..50]);
    let two = east.fragment(again, (2, 2), first, &octets[50..]);
    assert_eq!(answers(&mut sim, &two), 0);
    assert_eq!(answers(&mut sim, &one), 1);
    // What only looks like it is not answered.
    let mut forged = one;
    *forged.bytes.last_mut().unwrap() ^= 1;
    assert_eq!(answers(&mut sim, &forged), 0);
    assert_eq!(drops(&sim, 1, DropReason::IntegrityCheck), 1);
}

//= rfc7383#2.6
//= type=test
//# the
//# receiver MUST discard all received fragments and start the
//# reassembly process over with just the received IKE Fragment
//# message.
//= rfc7383#2.6
//= type=test
//# If an IKE Fragment message with the same Message
//# ID, Fragment Number, and Total Fragments fields is already present
//# in the reassembling queue, this message is considered a replay and
//# MUST be silently discarded.
//= rfc7383#2.6
//= type=test
//# If any of these tests fail, the message MUST be silently discarded.
#[test]
fn more_and_smaller_fragments_replace_what_is_there() {
    let (mut sim, mut east, _) = established_pair(Pair::default());
    let (first, octets) = plain(|payloads| {
        payloads.delete(ProtocolId::ESP, &[]).vendor_id(&[7; 100]);
    });
    let of = (INFORMATIONAL, false, 2);
    let two_of_two = east.fragment(of, (2, 2), first, &octets[60..]);
    let one_of_two = east.fragment(of, (1, 2), first, &octets[..60]);
    let of_three = |east: &mut Forge, number: u16| {
        let part = octets
            .chunks(octets.len().div_ceil(3))
            .nth(usize::from(number) - 1);
        east.fragment(of, (number, 3), first, part.unwrap())
    };
    assert_eq!(answers(&mut sim, &two_of_two), 0);
    for number in [2, 3] {
        let datagram = of_three(&mut east, number);
        assert_eq!(answers(&mut sim, &datagram), 0);
    }
    // The old set is over.
    assert_eq!(answers(&mut sim, &one_of_two), 0);
    assert_eq!(drops(&sim, 1, DropReason::FragmentMismatch), 1);
    let datagram = of_three(&mut east, 3);
    assert_eq!(answers(&mut sim, &datagram), 0);
    assert_eq!(drops(&sim, 1, DropReason::FragmentRepeated), 1);
    let datagram = of_three(&mut east, 1);
    assert_eq!(answers(&mut sim, &datagram), 1);
    assert_eq!(sim.nodes[1].endpoint.reassembling(), 0);
}

/// Whatever exchanges a peer makes up, a Message ID has the memory of one message.
#[test]
fn a_message_id_is_that_of_one_exchange() {
    let (mut sim, mut east, _) = established_pair(Pair::default());
    for exchange in (0..=u8::MAX).map(ExchangeType) {
        let part = east.fragment((exchange, false, 2), (2, 2), PayloadType::NONE, &[1; 900]);
        assert_eq!(answers(&mut sim, &part), 0);
    }
    let used = sim.nodes[1].endpoint.reassembling();
    assert!((900..2000).contains(&used), "{used}");
    assert!(drops(&sim, 1, DropReason::FragmentMismatch) > 200);
}

#[test]
fn a_whole_message_overtakes_its_fragments() {
    let (mut sim, mut east, _) = established_pair(Pair::default());
    let of = (INFORMATIONAL, false, 2);
    let part = east.fragment(of, (2, 2), PayloadType::NONE, &[1; 9]);
    assert_eq!(answers(&mut sim, &part), 0);
    assert_ne!(sim.nodes[1].endpoint.reassembling(), 0);
    let whole = east.message(INFORMATIONAL, false, 2, |_| {});
    assert_eq!(answers(&mut sim, &whole), 1);
    assert_eq!(sim.nodes[1].endpoint.reassembling(), 0);
}

//= rfc7383#2.6
//= type=test
//# If the receiver does not get all IKE fragments needed to reassemble
//# the original message within a timeout interval, it MUST discard all
//# IKE Fragment messages received so far for the exchange.
#[test]
fn what_does_not_become_whole_is_forgotten() {
    let (mut sim, mut east, _) = established_pair(Pair::default());
    let (first, octets) = plain(|payloads| {
        payloads.vendor_id(&[7; 100]);
    });
    let of = (INFORMATIONAL, false, 2);
    let one = east.fragment(of, (1, 2), first, &octets[..50]);
    let two = east.fragment(of, (2, 2), first, &octets[50..]);
    assert_eq!(answers(&mut sim, &one), 0);
    sim.run_for(s(31));
    assert_eq!(sim.nodes[1].endpoint.reassembling(), 0);
    assert_eq!(drops(&sim, 1, DropReason::FragmentsIncomplete), 1);
    assert_eq!(answers(&mut sim, &two), 0);
    // The SA stands, and the message may come again.
    assert_eq!(answers(&mut sim, &one), 1);
}

#[test]
fn fragments_lost_on_the_way_are_made_up_for_by_repetition() {
    let mut sim = pair(256).sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    sim.exchange();
    sim.exchange();
    sim.run_for(Duration::ZERO);
    let lost = |sim: &mut Sim, node: usize, which: fn(u16) -> bool| {
        for datagram in sim.sent() {
            let (number, _) = fragment(&datagram.bytes).expect("it is a fragment");
            if !which(number) {
                sim.deliver(datagram);
            }
        }
        assert_ne!(sim.nodes[node].endpoint.reassembling(), 0);
    };
    lost(&mut sim, 1, |number| number % 2 == 0);
    sim.run_for(Duration::from_millis(500));
    lost(&mut sim, 1, |number| number == 4);
    let half = drops(&sim, 1, DropReason::FragmentRepeated);
    assert!(half > 2, "{half}");
    sim.run_for(s(1));
    // The response comes upside down.
    sim.exchange();
    let response = sim.sent();
    assert!(response.len() > 5);
    for datagram in response.into_iter().rev() {
        sim.deliver(datagram);
    }
    sim.run_for(Duration::ZERO);
    established(&sim);
    assert_eq!(sim.nodes[0].endpoint.reassembling(), 0);
    assert_eq!(sim.nodes[1].endpoint.reassembling(), 0);
}

//= rfc7383#2.5.2
//= type=test
//# While doing probes, it MUST start from larger values and
//# refragment the original message, using the next smaller value of the
//# threshold if it did not receive a response in a reasonable time after
//# several retransmissions.
#[test]
fn a_path_that_loses_long_datagrams_gets_short_ones() {
    for size in [1280, 3000] {
        let mut sim = pair(size).sim(1);
        sim.link.longest = 576 - HEADERS;
        sim.initiate(0, WEST);
        sim.run_for(s(10));
        established(&sim);
        let stats = sim.nodes[0].endpoint.stats();
        assert_eq!(stats.refragmented, 1);
        // West has not tried: it sends what has come through.
        let of_west = auth_lines(&sim);
        let of_west: Vec<_> = of_west
            .iter()
            .filter(|line| line.starts_with("west"))
            .collect();
        assert_eq!(of_west, ["west response 1 SKF"; 3]);
    }
}

#[test]
fn without_agreement_nothing_is_fragmented_even_in_need() {
    let mut pair = pair(1280);
    pair.west.fragmentation = Fragmentation::No;
    let mut sim = pair.sim(1);
    sim.link.longest = 548;
    sim.initiate(0, WEST);
    sim.run_for(s(100));
    let failure = ike_failure(&sim, 0);
    assert_eq!(failure.name(), "no_response");
    assert!(!sim.lines().iter().any(|line| line.contains("SKF")));
}

#[test]
fn an_ahead_fragment_is_complained_of_and_not_kept() {
    let (mut sim, mut east, west) = established_pair(Pair::default());
    let ahead = east.fragment(
        (INFORMATIONAL, false, 9),
        (2, 3),
        PayloadType::NONE,
        &[1; 99],
    );
    sim.deliver(ahead);
    let sent = sim.sent();
    assert_eq!(
        east.read(&sent[0]),
        "INFORMATIONAL request 0 N(INVALID_MESSAGE_ID)"
    );
    assert_eq!(sim.nodes[1].endpoint.reassembling(), 0);
    drop(west);
}

#[test]
fn endless_fragments_of_a_peer_stay_within_the_limits() {
    let mut pair = Pair::default();
    pair.west_config.max_datagram = 20_000;
    let (mut sim, mut east, _) = established_pair(pair);
    let size = |sim: &Sim| sim.nodes[1].endpoint.reassembling();
    let of = (INFORMATIONAL, false, 2);
    let part = [1; 1000];

    // More than anybody needs.
    for total in [MAX_FRAGMENTS + 1, 1000, u16::MAX] {
        let datagram = east.fragment(of, (total, total), PayloadType::NONE, &part);
        assert_eq!(answers(&mut sim, &datagram), 0);
    }
    assert_eq!(
        (size(&sim), drops(&sim, 1, DropReason::FragmentLimit)),
        (0, 3)
    );

    // Ever more of them: each time all that there is is thrown away.
    for total in 2..=MAX_FRAGMENTS {
        for number in 2..=total.min(10) {
            let datagram = east.fragment(of, (number, total), PayloadType::NONE, &part);
            assert_eq!(answers(&mut sim, &datagram), 0);
            assert!(size(&sim) < 11_000);
        }
    }
    // And so they are when they make too long a message.
    for number in 2..=MAX_FRAGMENTS {
        let datagram = east.fragment(of, (number, MAX_FRAGMENTS), PayloadType::NONE, &part);
        assert_eq!(answers(&mut sim, &datagram), 0);
        assert!(size(&sim) < 22_000);
    }
    assert_ne!(drops(&sim, 1, DropReason::TooLong), 0);

    // Responses to nothing are not even looked at.
    let response = east.fragment((INFORMATIONAL, true, 0), (2, 3), PayloadType::NONE, &part);
    sim.run_for(s(31));
    assert_eq!(answers(&mut sim, &response), 0);
    assert_eq!(
        (size(&sim), drops(&sim, 1, DropReason::UnexpectedResponse)),
        (0, 1)
    );

    // The IKE SA has not suffered.
    let whole = east.message(INFORMATIONAL, false, 2, |_| {});
    assert_eq!(answers(&mut sim, &whole), 1);
}

#[test]
fn fragments_of_no_payloads_and_of_nonsense_are_answered_as_such() {
    // Empty fragments make an empty message.
    let (mut sim, mut east, _) = established_pair(Pair::default());
    let of = (INFORMATIONAL, false, 2);
    for number in (1..=MAX_FRAGMENTS).rev() {
        let datagram = east.fragment(of, (number, MAX_FRAGMENTS), PayloadType::NONE, &[]);
        assert_eq!(answers(&mut sim, &datagram), usize::from(number == 1));
    }
    // What is not a chain of payloads ends the IKE SA, as it does in one piece.
    let of = (INFORMATIONAL, false, 3);
    let one = east.fragment(of, (1, 2), PayloadType::NOTIFY, &[0xff; 99]);
    let two = east.fragment(of, (2, 2), PayloadType::NOTIFY, &[0xff; 99]);
    assert_eq!(answers(&mut sim, &two), 0);
    sim.deliver(one);
    assert_eq!(
        east.read(&sim.sent()[0]),
        "INFORMATIONAL response 3 N(INVALID_SYNTAX)"
    );
    assert_eq!(sim.event_names(1).last(), Some(&"ike_closed"));
    assert_eq!(sim.nodes[1].endpoint.reassembling(), 0);
}

//= rfc7383#2.6
//= type=test
//# If the ICV
//# check fails, the message MUST be silently discarded.
#[test]
fn forgeries_cost_nothing() {
    let (mut sim, mut east, _) = established_pair(Pair::default());
    for number in 1..=100 {
        let of = (INFORMATIONAL, false, 2);
        let mut datagram = east.fragment(of, (number, 100), PayloadType::NONE, &[1; 500]);
        *datagram.bytes.last_mut().unwrap() ^= 1;
        assert_eq!(answers(&mut sim, &datagram), 0);
        assert_eq!(sim.nodes[1].endpoint.reassembling(), 0);
    }
    assert_eq!(drops(&sim, 1, DropReason::IntegrityCheck), 100);
    assert_eq!(sim.nodes[1].endpoint.next_timeout(), None);
}

#[test]
fn who_is_not_authenticated_gets_half_of_the_memory() {
    let limited = || {
        let mut pair = Pair::default();
        pair.west_config.max_reassembly = 10_000;
        pair.sim(1)
    };
    let (mut sim, request, keys) = stopped_at(2, limited);
    let mut east = Forge::with_keys(keys, Role::Initiator);
    let of = (ExchangeType::IKE_AUTH, false, 1);
    for number in 2..=50 {
        let datagram = east.fragment(of, (number, 50), PayloadType::NONE, &[1; 400]);
        assert_eq!(answers(&mut sim, &datagram), 0);
        assert!(sim.nodes[1].endpoint.reassembling() <= 5_000);
    }
    let kept = (5_000 - 512) / (400 + 64);
    assert_eq!(drops(&sim, 1, DropReason::FragmentLimit), 49 - kept);
    // Others are not kept out, and with the SA all is forgotten.
    sim.deliver(request);
    assert_eq!(sim.nodes[1].endpoint.reassembling(), 0);
    for _ in 0..2 {
        sim.run_for(Duration::ZERO);
        sim.exchange();
    }
    established(&sim);

    let (mut sim, _, keys) = stopped_at(2, limited);
    let mut east = Forge::with_keys(keys, Role::Initiator);
    let datagram = east.fragment(of, (2, 50), PayloadType::NONE, &[1; 400]);
    assert_eq!(answers(&mut sim, &datagram), 0);
    assert_ne!(sim.nodes[1].endpoint.reassembling(), 0);
    sim.run_for(s(100));
    assert_eq!(
        (
            sim.nodes[1].endpoint.size(),
            sim.nodes[1].endpoint.reassembling()
        ),
        (0, 0)
    );
}

/// Fragments of an authenticated peer in any order, of any number and content, and the bounds on what they cost.
#[test]
fn fuzz_fragments_of_an_authenticated_peer() {
    let mut pair = Pair::default();
    pair.west_config.max_datagram = 4_000;
    let world = Mutex::new(established_pair(pair));
    bolero::check!()
        .with_test_time(Duration::from_secs(1))
        .for_each(|input: &[u8]| {
            let (sim, east, _) = &mut *world.lock().unwrap();
            for operation in input.chunks(5).take(200) {
                let [kind, number, total, id, len] = *operation else {
                    return;
                };
                let next = sim.nodes[1]
                    .endpoint
                    .ike_sas()
                    .next()
                    .map(|sa| sa.next_peer_request);
                let Some(next) = next else {
                    // Nonsense has ended the SA, as it must.
                    let mut pair = Pair::default();
                    pair.west_config.max_datagram = 4_000;
                    (*sim, *east, _) = established_pair(pair);
                    return;
                };
                let id = next.wrapping_add(u32::from(id % 4)).wrapping_sub(1);
                let total = u16::from(total % 8) + u16::from(kind / 64) * 40 + 1;
                let number = u16::from(number) % total + 1;
                let first = PayloadType([0, 43, 41, 42][usize::from(kind % 4)]);
                let part = vec![kind; usize::from(len) * 3];
                let response = kind % 32 == 31;
                let of = (INFORMATIONAL, response, id);
                let mut datagram = east.fragment(of, (number, total), first, &part);
                if kind % 16 == 15 {
                    datagram.bytes[30] ^= number as u8;
                }
                sim.deliver(datagram);
                let endpoint = &sim.nodes[1].endpoint;
                assert!(endpoint.reassembling() <= 4_000 + 512 + 64 * 128 + 765);
                if kind == 200 {
                    sim.run_for(s(31));
                    assert_eq!(sim.nodes[1].endpoint.reassembling(), 0);
                }
                sim.sent();
                sim.trace.clear();
                sim.transcript.clear();
                sim.nodes[1].events.clear();
            }
        });
}

//= rfc7383#2.3
//= type=test
//# Protocol ID (1 octet) - MUST be 0.
//= rfc7383#2.3
//= type=test
//# SPI Size (1 octet) - MUST be 0, meaning no Security Parameter
//# Index (SPI) is present.
//= rfc7383#2.3
//= type=test
//# Notify Message Type (2 octets) - MUST be 16430, the value assigned for
//# the IKEV2_FRAGMENTATION_SUPPORTED notification.
#[test]
fn the_notification_is_of_the_right_form() {
    let sim = run(Pair::default());
    let init = &sim.transcript;
    let message = Message::parse(init.get(..header_len(init)).unwrap()).unwrap();
    assert_ne!(message.header().initiator_spi, IkeSpi::ZERO);
    let notify = message.payloads().find_map(|payload| match payload {
        Ok(Payload::Notify(n)) if n.kind == NotifyType::IKEV2_FRAGMENTATION_SUPPORTED => Some(n),
        _ => None,
    });
    let notify = notify.expect("it is there");
    assert_eq!(notify.kind, NotifyType(16430));
    assert_eq!(
        (notify.protocol, notify.spi, notify.data),
        (ProtocolId(0), &[][..], &[][..])
    );
}

/// The length of the first message.
fn header_len(transcript: &[u8]) -> usize {
    let field = transcript.get(24..28).unwrap().try_into().unwrap();
    u32::from_be_bytes(field) as usize
}
