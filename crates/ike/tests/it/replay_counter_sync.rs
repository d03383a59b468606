//! Sequence numbers left out after a failover (RFC 6311 §5.2): beside the Message IDs, alone, and asked for by who should
//! not.

use cygnet_crypto::EspProposal;
use cygnet_ike::*;
use cygnet_wire::*;

use crate::forge::Forge;
use crate::pair::*;
use crate::sim::{Datagram, Sim, describe};

const INFORMATIONAL: ExchangeType = ExchangeType::INFORMATIONAL;

/// An IKE SA that stands; everything goes by hand from now on.
fn up(mut pair: Pair) -> Sim {
    pair.east_config.key_log = true;
    let mut sim = run(pair);
    established(&sim);
    sim.manual = true;
    sim
}

fn ike(sim: &Sim, node: usize) -> IkeSaInfo {
    sim.nodes[node]
        .endpoint
        .ike_sas()
        .next()
        .expect("an IKE SA")
}

/// What the planes of a node have been told.
fn told(sim: &Sim, node: usize) -> Vec<(Party, ReplayCounterSync)> {
    let events = sim.nodes[node].events.iter();
    events
        .filter_map(|event| match event {
            Event::ReplayCounters { by, counters, .. } => Some((*by, *counters)),
            _ => None,
        })
        .collect()
}

fn counters(delta: u64, extended: bool) -> ReplayCounterSync {
    ReplayCounterSync { delta, extended }
}

fn answers(sim: &mut Sim, datagram: &Datagram) -> Vec<Datagram> {
    sim.deliver(datagram.clone());
    sim.sent()
}

/// The notifications of a message from east.
fn notifies(west: &mut Forge, datagram: &Datagram) -> Vec<(NotifyType, Vec<u8>)> {
    let mut all = Vec::new();
    west.look(datagram, |payloads| {
        for payload in payloads {
            let Payload::Notify(notify) = payload else {
                panic!("{payload:?}")
            };
            assert_eq!((notify.protocol, notify.spi.len()), (ProtocolId::NONE, 0));
            all.push((notify.kind, notify.data.to_vec()));
        }
    });
    all
}

fn with_esn(esn: bool) -> Pair {
    let mut pair = Pair::default();
    for child in [&mut pair.east_child, &mut pair.west_child] {
        child.proposals = vec![EspProposal {
            esn: vec![esn],
            ..EspProposal::default_list().remove(0)
        }];
    }
    pair
}

/// Octet by octet as RFC 6311, 6.4 has it, with 32-bit and with extended sequence numbers.
//= rfc6311#5.2
//= type=test
//# Upon failover, the newly active member MUST increment its own replay
//# counter (the counter used for outgoing traffic), so as to prevent the
//# case of its traffic being dropped by the peer as replay.
//= rfc6311#5.2
//= type=test
//# Then, it MUST increment the replay counters
//# for all Child SAs associated with the current IKE SA by the amount
//# requested by the cluster member.
//= rfc6311#5.2
//= type=test
//# In those
//# implementations where it is difficult to estimate this value, the
//# counter can be incremented by a very large number, e.g., 2**30.
#[test]
fn both_ends_go_on_with_later_numbers() {
    let short: &[u8] = &[0x40, 0, 0, 0];
    let long: &[u8] = &[0, 0, 0, 0, 0x40, 0, 0, 0];
    for (esn, data) in [(false, short), (true, long)] {
        for member in 0..2 {
            let mut sim = up(with_esn(esn));
            assert!(ike(&sim, 0).replay_counter_sync && ike(&sim, 1).replay_counter_sync);
            let id = ike(&sim, member).id;
            assert!(sim.act(member, |endpoint, now| endpoint.synchronise(now, id)));
            let request = sim.sent().remove(0);
            assert!(describe(&request).ends_with("INFORMATIONAL request 0 SK"));
            // Ours go on before the peer has answered.
            assert_eq!(told(&sim, member), [(Party::Us, counters(1 << 30, esn))]);
            let response = answers(&mut sim, &request).remove(0);
            if member == 0 {
                let mut west = Forge::new(&sim, 0, Role::Responder);
                let said = notifies(&mut west, &request);
                assert_eq!(said[0].0, NotifyType::IKEV2_MESSAGE_ID_SYNC);
                let expected = (NotifyType::IPSEC_REPLAY_COUNTER_SYNC, data.to_vec());
                assert_eq!(said[1..], [expected]);
            }
            let other = 1 - member;
            let expected = [(Party::Peer, counters(1 << 30, esn))];
            assert_eq!(told(&sim, other), expected);
            assert_eq!(
                sim.event_names(other).split_last_chunk::<2>().unwrap().1,
                &["synchronised", "replay_counters"]
            );
            assert!(answers(&mut sim, &response).is_empty());
            assert_eq!(sim.event_names(member).last(), Some(&"synchronised"));
            // A request that is repeated is answered as before, and moves nothing.
            assert_eq!(answers(&mut sim, &request).len(), 1);
            assert_eq!(told(&sim, other), expected);
        }
    }
}

/// What is asked for twice is done twice, and 2^32 is not far: only the first request asks, and whether it was heard is made
/// up for by an INFORMATIONAL of the usual kind.
#[test]
fn a_repetition_does_not_ask_again() {
    let mut sim = up(with_esn(false));
    let mut west = Forge::new(&sim, 0, Role::Responder);
    let id = ike(&sim, 0).id;
    assert!(sim.act(0, |endpoint, now| endpoint.synchronise(now, id)));
    // Lost.
    sim.sent();
    sim.run_for(std::time::Duration::from_secs(3));
    let again = sim.sent().pop().expect("another request");
    let said = notifies(&mut west, &again);
    assert!(said.len() == 1 && said[0].0 == NotifyType::IKEV2_MESSAGE_ID_SYNC);
    let response = answers(&mut sim, &again).remove(0);
    let request = answers(&mut sim, &response).remove(0);
    let expected = (NotifyType::IPSEC_REPLAY_COUNTER_SYNC, vec![0x40, 0, 0, 0]);
    assert_eq!(notifies(&mut west, &request), [expected]);
    for datagram in answers(&mut sim, &request) {
        answers(&mut sim, &datagram);
    }
    assert_eq!(told(&sim, 0), [(Party::Us, counters(1 << 30, false))]);
    assert_eq!(told(&sim, 1), [(Party::Peer, counters(1 << 30, false))]);
}

/// Without a word of Message IDs: an INFORMATIONAL of the usual kind.
#[test]
fn alone() {
    let mut pair = with_esn(false);
    pair.east.message_id_sync = false;
    let mut sim = up(pair);
    let before = ike(&sim, 0);
    assert!(before.replay_counter_sync && !before.message_id_sync);
    assert!(sim.act(0, |endpoint, now| endpoint.synchronise(now, before.id)));
    let request = sim.sent().remove(0);
    assert!(describe(&request).ends_with(&format!("request {} SK", before.next_request)));
    let mut west = Forge::new(&sim, 0, Role::Responder);
    let expected = (NotifyType::IPSEC_REPLAY_COUNTER_SYNC, vec![0x40, 0, 0, 0]);
    assert_eq!(notifies(&mut west, &request), [expected]);
    let response = answers(&mut sim, &request).remove(0);
    assert!(describe(&response).ends_with(&format!("response {} SK", before.next_request)));
    assert!(answers(&mut sim, &response).is_empty());
    assert_eq!(told(&sim, 0), [(Party::Us, counters(1 << 30, false))]);
    assert_eq!(told(&sim, 1), [(Party::Peer, counters(1 << 30, false))]);
    assert_eq!(ike(&sim, 0).next_request, before.next_request + 1);
}

//= rfc6311#5
//= type=test
//# When negotiating these capabilities, the responder MUST
//# NOT assert support of a capability unless such support was asserted
//# by the initiator.
#[test]
fn only_where_both_have_said_so() {
    for unwilling in 0..2 {
        let mut pair = Pair::default();
        if unwilling == 0 {
            pair.east.replay_counter_sync = false;
        } else {
            pair.west.replay_counter_sync = false;
        }
        let mut sim = up(pair);
        for node in 0..2 {
            assert!(!ike(&sim, node).replay_counter_sync);
        }
        let mut west = Forge::new(&sim, 0, Role::Responder);
        // Alone it is to nothing, and beside the Message IDs it is what must not be there.
        let alone = west.message(INFORMATIONAL, false, 0, |payloads| {
            counters(1 << 30, false).write(payloads);
        });
        assert_eq!(answers(&mut sim, &alone).len(), 1);
        let both = west.message(INFORMATIONAL, false, 0, |payloads| {
            sync(1, 5, 2).write(payloads);
            counters(1 << 30, false).write(payloads);
        });
        assert!(answers(&mut sim, &both).is_empty());
        assert!(told(&sim, 0).is_empty());
        // Our own request says nothing of it.
        let id = ike(&sim, 0).id;
        assert!(sim.act(0, |endpoint, now| endpoint.synchronise(now, id)));
        let request = sim.sent().remove(0);
        assert_eq!(notifies(&mut west, &request).len(), 1);
    }
}

fn sync(nonce: u32, expected_send: u32, expected_receive: u32) -> MessageIdSync {
    MessageIdSync {
        nonce,
        expected_send,
        expected_receive,
    }
}

/// A hostile peer asks often, says nonsense, or repeats what has been.
//= rfc6311#5.2
//= type=test
//# If the IPSEC_REPLAY_COUNTER_SYNC is included in the same message as
//# IKEV2_MESSAGE_ID_SYNC, the peer MUST process the Message ID
//# notification first (which might cause the entire message to be
//# dropped as a replay).
#[test]
fn hostile_requests() {
    let mut sim = up(Pair::default());
    let mut west = Forge::new(&sim, 0, Role::Responder);
    let mut next = 0;
    let mut say = |sim: &mut Sim, west: &mut Forge, data: &[u8]| {
        let request = west.message(INFORMATIONAL, false, next, |payloads| {
            payloads.notify(&Notify::new(NotifyType::IPSEC_REPLAY_COUNTER_SYNC, data));
        });
        next += 1;
        assert_eq!(answers(sim, &request).len(), 1, "it is acknowledged");
    };
    for data in [&[][..], &[1, 2, 3], &[0; 5], &[0; 7], &[0; 9], &[0; 4096]] {
        say(&mut sim, &mut west, data);
    }
    assert!(told(&sim, 0).is_empty());
    for _ in 0..100 {
        say(&mut sim, &mut west, &[0xff; 8]);
    }
    assert_eq!(told(&sim, 0), [(Party::Peer, counters(u64::MAX, true)); 8]);
    let limited = sim.nodes[0]
        .endpoint
        .stats()
        .dropped(DropReason::RateLimited);
    assert_eq!(limited, 92);
    // A stale Message ID drops the whole message; a response never has it.
    let stale = west.message(INFORMATIONAL, false, 0, |payloads| {
        sync(1, 5, 2).write(payloads);
        counters(1, false).write(payloads);
    });
    let twice = west.message(INFORMATIONAL, false, 0, |payloads| {
        sync(1, 200, 2).write(payloads);
        counters(1, false).write(payloads);
        counters(1, false).write(payloads);
    });
    for message in [stale, twice] {
        assert!(answers(&mut sim, &message).is_empty());
    }
    assert_eq!(told(&sim, 0).len(), 8);
    assert_eq!(ike(&sim, 0).state, IkeSaState::Established);
}
