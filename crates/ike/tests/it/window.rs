//! Windows of more than one request (RFC 7296 §2.3): several under way at the same time, in any order.

use std::time::Duration;

use cygnet_ike::*;
use cygnet_wire::{ExchangeType, Notify, NotifyType, ProtocolId, Spi};

use crate::forge::Forge;
use crate::pair::*;
use crate::sim::*;

const INFORMATIONAL: ExchangeType = ExchangeType::INFORMATIONAL;

/// A pair that announces these windows, with `children` child SAs, stepped by hand from here on.
fn established_with(east: u32, west: u32, children: usize) -> (Sim, Forge, Forge) {
    let mut pair = Pair::default();
    pair.east_config.key_log = true;
    (pair.east.window, pair.west.window) = (east, west);
    let mut sim = run(pair);
    established(&sim);
    let (ike, config) = {
        let endpoint = &sim.nodes[0].endpoint;
        let child = endpoint.child_sas().next().unwrap();
        (child.ike, child.config)
    };
    for _ in 1..children {
        let (config, acquire) = (config.clone(), None);
        let request = ChildRequest { config, acquire };
        sim.act(0, |endpoint, now| endpoint.create_child(now, ike, request));
        sim.run_for(s(1));
    }
    assert_eq!(sim.nodes[1].plane.installed.len(), children);
    sim.assert_agreement(0, 1);
    sim.manual = true;
    let east = Forge::new(&sim, 0, Role::Initiator);
    let west = Forge::new(&sim, 0, Role::Responder);
    (sim, east, west)
}

fn windows(sim: &Sim, node: usize) -> (u32, u32) {
    let sa = sim.nodes[node].endpoint.ike_sas().next().unwrap();
    (sa.own_window, sa.peer_window)
}

/// The next Message ID of east's requests.
fn next_id(sim: &Sim) -> u32 {
    let sa = sim.nodes[1].endpoint.ike_sas().next().unwrap();
    sa.next_peer_request
}

/// Begins to delete all child SAs of east.
fn delete_all(sim: &mut Sim) -> Vec<Datagram> {
    let ids: Vec<_> = sim.nodes[0].endpoint.child_sas().map(|c| c.id).collect();
    for id in ids {
        sim.act(0, |endpoint, now| endpoint.delete_child(now, id));
    }
    sim.sent()
}

fn ids(datagrams: &[Datagram]) -> Vec<u32> {
    let id = |d: &Datagram| {
        let message = cygnet_wire::Message::parse(&d.bytes).unwrap();
        message.header().message_id
    };
    datagrams.iter().map(id).collect()
}

#[test]
fn each_end_says_what_it_keeps_state_for_if_that_is_more_than_one() {
    for (east, west) in [(1, 1), (4, 1), (1, 16), (3, 5)] {
        let (sim, ..) = established_with(east, west, 1);
        assert_eq!(windows(&sim, 0), (east, west));
        assert_eq!(windows(&sim, 1), (west, east));
    }
}

//= rfc7296#2.3
//= type=test
//# An IKE endpoint MUST wait for a response to each of its messages
//# before sending a subsequent message unless it has received a
//# SET_WINDOW_SIZE Notify message from its peer
#[test]
fn without_a_word_of_the_peer_one_request_waits_for_the_other() {
    let (mut sim, ..) = established_with(4, 1, 3);
    assert_eq!(delete_all(&mut sim).len(), 1);
}

#[test]
fn as_many_requests_are_under_way_as_the_peer_allows() {
    let (mut sim, ..) = established_with(1, 4, 6);
    let requests = delete_all(&mut sim);
    let first = next_id(&sim);
    assert_eq!(ids(&requests), [first, first + 1, first + 2, first + 3]);
    // They arrive in another order, and so do the answers.
    for at in [2, 0, 3, 1] {
        sim.deliver(requests[at].clone());
    }
    let mut answers = sim.sent();
    assert_eq!(ids(&answers), [first + 2, first, first + 3, first + 1]);
    answers.reverse();
    sim.deliver(answers.remove(0));
    sim.deliver(answers.remove(0));
    // The first one has no answer yet: nothing new may be sent.
    assert_eq!(sim.sent().len(), 0);
    sim.deliver(answers.remove(0));
    assert_eq!(ids(&sim.sent()), [first + 4, first + 5]);
    sim.deliver(answers.remove(0));
    // The last two are lost, and come again each for itself.
    sim.run_for(Duration::from_millis(600));
    let again = sim.sent();
    assert_eq!(ids(&again), [first + 4, first + 5]);
    for datagram in again {
        sim.deliver(datagram);
    }
    sim.exchange();
    sim.run_for(Duration::ZERO);
    assert_eq!(sim.nodes[0].endpoint.child_sas().count(), 0);
    sim.assert_agreement(0, 1);
}

#[test]
fn a_slow_peer_does_not_hold_up_what_does_not_depend_on_it() {
    let (mut sim, ..) = established_with(1, 3, 2);
    let (first, second) = {
        let mut all = sim.nodes[0].endpoint.child_sas().map(|c| c.id);
        (all.next().unwrap(), all.next().unwrap())
    };
    sim.nodes[1].plane.hold = true;
    sim.act(0, |endpoint, now| endpoint.rekey_child(now, first));
    sim.run_for(Duration::ZERO);
    sim.exchange();
    // West is still at it.
    sim.act(0, |endpoint, now| endpoint.delete_child(now, second));
    // But what is being renewed is not deleted meanwhile.
    sim.act(0, |endpoint, now| endpoint.delete_child(now, first));
    assert_eq!(sim.outbox.len(), 1);
    sim.exchange();
    sim.exchange();
    assert_eq!(sim.nodes[0].endpoint.child_sas().count(), 1);
    sim.nodes[1].plane.hold = false;
    sim.release(1);
    sim.manual = false;
    sim.run_for(s(5));
    sim.assert_agreement(0, 1);
}

/// The two child SAs of east.
fn two(sim: &Sim) -> (ChildSaId, ChildSaId) {
    let mut all = sim.nodes[0].endpoint.child_sas().map(|c| c.id);
    (all.next().unwrap(), all.next().unwrap())
}

#[test]
fn an_spi_that_is_waited_for_takes_its_place_in_the_window() {
    for (window, sent) in [(1, 0), (2, 1)] {
        let (mut sim, ..) = established_with(1, window, 2);
        let (first, second) = two(&sim);
        sim.nodes[0].plane.hold = true;
        sim.act(0, |endpoint, now| endpoint.rekey_child(now, first));
        sim.act(0, |endpoint, now| endpoint.delete_child(now, second));
        assert_eq!(sim.outbox.len(), sent);
        sim.release(0);
        sim.run_for(Duration::ZERO);
        assert_eq!(sim.outbox.len(), sent + 1);
        sim.manual = false;
        for datagram in sim.sent() {
            sim.deliver(datagram);
        }
        sim.run_for(s(5));
        sim.assert_agreement(0, 1);
        assert_eq!(sim.nodes[1].plane.installed.len(), 1);
    }
}

#[test]
fn the_end_of_an_ike_sa_and_its_renewal_go_alone() {
    type Act = fn(&mut Endpoint, std::time::Instant, IkeSaId);
    let acts: [Act; 2] = [rekey, delete];
    for act in acts {
        let (mut sim, ..) = established_with(1, 8, 2);
        let (first, second) = two(&sim);
        let ike = sim.nodes[0].endpoint.ike_sas().next().unwrap().id;
        sim.act(0, |endpoint, now| endpoint.delete_child(now, first));
        let request = sim.sent();
        assert_eq!(request.len(), 1);
        // They wait for what is under way, and the rest for them.
        sim.act(0, |endpoint, now| act(endpoint, now, ike));
        sim.act(0, |endpoint, now| endpoint.delete_child(now, second));
        assert_eq!(sim.outbox.len(), 0);
        sim.deliver(request[0].clone());
        sim.exchange();
        assert_eq!(sim.outbox.len(), 1);
        sim.manual = false;
        for datagram in sim.sent() {
            sim.deliver(datagram);
        }
        sim.run_for(s(100));
        assert_eq!(sim.nodes[1].plane.installed.len(), 0);
        sim.assert_agreement(0, 1);
    }
}

fn rekey(endpoint: &mut Endpoint, now: std::time::Instant, ike: IkeSaId) {
    endpoint.rekey_ike(now, ike);
}

fn delete(endpoint: &mut Endpoint, now: std::time::Instant, ike: IkeSaId) {
    endpoint.delete_ike(now, ike);
}

#[test]
fn of_a_peers_create_child_sas_one_is_worked_on_at_a_time() {
    let (mut sim, mut east, _) = established_with(1, 4, 2);
    let (first, _) = two(&sim);
    sim.act(0, |endpoint, now| endpoint.rekey_child(now, first));
    sim.run_for(Duration::ZERO);
    let request = sim.sent().remove(0);
    let id = next_id(&sim);
    let again = east.again(&request, id + 1);
    sim.nodes[1].plane.hold = true;
    sim.deliver(request);
    assert_eq!(sim.sent().len(), 0);
    sim.deliver(again);
    let sent = sim.sent();
    assert_eq!(
        east.read(&sent[0]),
        format!("CREATE_CHILD_SA response {} N(TEMPORARY_FAILURE)", id + 1)
    );
    sim.release(1);
    sim.run_for(Duration::ZERO);
    assert_eq!(ids(&sim.outbox), [id]);
}

//= rfc7296#2.3
//= type=test
//# An IKE endpoint MUST keep a copy of (or be
//# able to regenerate exactly) the number of previous responses equal to
//# its declared window size in case its response was lost and the
//# initiator requests its retransmission by retransmitting the request.
#[test]
fn requests_are_answered_in_any_order_and_again() {
    let (mut sim, mut east, _) = established_with(1, 3, 1);
    let first = next_id(&sim);
    let mut ask = |sim: &mut Sim, offset: u32| {
        let request = east.message(INFORMATIONAL, false, first + offset, |payloads| {
            payloads.vendor_id(&offset.to_be_bytes());
        });
        sim.deliver(request.clone());
        (request, sim.sent())
    };
    let mut known = Vec::new();
    for offset in [2, 0, 1] {
        let (request, answer) = ask(&mut sim, offset);
        assert_eq!(ids(&answer), [first + offset]);
        known.push((request, answer[0].bytes.clone()));
    }
    for (request, answer) in &known {
        sim.deliver(request.clone());
        assert_eq!(&sim.sent()[0].bytes, answer);
    }
    // One beyond is complained of, and not answered.
    let (_, answer) = ask(&mut sim, 6);
    assert_eq!(
        east.read(&answer[0]),
        "INFORMATIONAL request 0 N(INVALID_MESSAGE_ID)"
    );
    assert_eq!(sim.nodes[1].endpoint.stats().responses_repeated, 3);
}

#[test]
fn fragments_of_several_requests_do_not_mix() {
    let (mut sim, mut east, _) = established_with(1, 3, 1);
    let first = next_id(&sim);
    let mut parts = Vec::new();
    for id in first..first + 3 {
        let mut plain = Vec::new();
        let mut writer = cygnet_wire::PayloadWriter::new(&mut plain);
        writer.vendor_id(&[7; 100]);
        let kind = writer.finish().unwrap();
        for (number, part) in (1..).zip(plain.chunks(60)) {
            parts.push(east.fragment((INFORMATIONAL, false, id), (number, 2), kind, part));
        }
    }
    let mut answers = Vec::new();
    for at in [0, 2, 4, 5, 3, 1] {
        sim.deliver(parts[at].clone());
        answers.extend(sim.sent());
    }
    assert_eq!(ids(&answers), [first + 2, first + 1, first]);
    assert_eq!(sim.nodes[1].endpoint.reassembling(), 0);
}

//= rfc7296#2.3
//= type=test
//# The data associated with a SET_WINDOW_SIZE
//# notification MUST be 4 octets long and contain the big endian
//# representation of the number of messages the sender promises to keep.
#[test]
fn what_is_no_size_says_nothing_and_a_smaller_one_neither() {
    let (mut sim, mut east, _) = established_with(1, 1, 1);
    let mut say = |sim: &mut Sim, data: &[u8]| {
        let id = next_id(sim);
        let request = east.message(INFORMATIONAL, false, id, |payloads| {
            payloads.notify(&Notify::new(NotifyType::SET_WINDOW_SIZE, data));
        });
        sim.deliver(request);
        assert_eq!(sim.sent().len(), 1);
        windows(sim, 1)
    };
    for nothing in [&[][..], &[0, 0, 9], &[0; 4], &[0, 0, 0, 0, 9]] {
        assert_eq!(say(&mut sim, nothing), (1, 1));
    }
    assert_eq!(say(&mut sim, &[0, 0, 0, 3]), (1, 3));
    assert_eq!(say(&mut sim, &[0, 0, 0, 2]), (1, 3));
    assert_eq!(say(&mut sim, &[0xff; 4]), (1, MAX_WINDOW));
}

//= rfc7296#2.3
//= type=test
//# When rekeying
//# an IKE SA, the new IKE SA starts with window size 1 until it is
//# explicitly increased by sending a new SET_WINDOW_SIZE notification.
#[test]
fn a_successor_begins_with_one_and_says_so_anew() {
    let (mut sim, ..) = established_with(3, 5, 2);
    let ike = sim.nodes[0].endpoint.ike_sas().next().unwrap().id;
    sim.act(0, |endpoint, now| endpoint.rekey_ike(now, ike));
    sim.exchange();
    let young = |sim: &Sim| {
        let sa = sim.nodes[0]
            .endpoint
            .ike_sas()
            .find(|sa| sa.replaces == Some(ike));
        sa.map(|sa| (sa.own_window, sa.peer_window))
    };
    let [response, announcement] = &sim.sent()[..] else {
        panic!("west answers, and says what it keeps state for")
    };
    sim.deliver(response.clone());
    assert_eq!(young(&sim), Some((3, 1)));
    sim.deliver(announcement.clone());
    assert_eq!(young(&sim), Some((3, 5)));
    for _ in 0..4 {
        sim.exchange();
    }
    assert_eq!(windows(&sim, 1), (5, 3));
    sim.manual = false;
    sim.run_for(s(100));
    sim.assert_agreement(0, 1);
}

/// A peer that uses the window for nonsense: the same child SA deleted, renewed and created all at once.
#[test]
fn everything_at_once_from_a_hostile_peer() {
    let (mut sim, mut east, _) = established_with(1, MAX_WINDOW, 2);
    sim.nodes[1].plane.hold = true;
    let first = next_id(&sim);
    let spi = Spi(sim.nodes[1].endpoint.child_sas().next().unwrap().spi_out);
    let mut answered = 0;
    for id in first..first + 2 * MAX_WINDOW {
        let request = match id % 4 {
            0 => east.message(INFORMATIONAL, false, id, |payloads| {
                payloads.delete(ProtocolId::ESP, &[spi]);
            }),
            1 => east.message(ExchangeType::CREATE_CHILD_SA, false, id, |payloads| {
                let octets = spi.to_bytes();
                payloads
                    .notify(&Notify {
                        protocol: ProtocolId::ESP,
                        spi: &octets,
                        kind: NotifyType::REKEY_SA,
                        data: &[],
                    })
                    .nonce(&[1; 32]);
            }),
            2 => east.message(INFORMATIONAL, false, id, |_| {}),
            _ => east.message(ExchangeType::IKE_AUTH, false, id, |_| {}),
        };
        sim.deliver(request);
        answered += sim.sent().len();
    }
    // The malformed CREATE_CHILD_SA ends the IKE SA, once; nothing is left of it.
    assert!(answered <= MAX_WINDOW as usize);
    sim.release(1);
    sim.run_for(s(200));
    assert_eq!(sim.nodes[1].endpoint.ike_sas().count(), 0);
    assert!(sim.nodes[1].plane.installed.is_empty() && sim.nodes[1].plane.reserved.is_empty());
}

//= rfc4555#3.5
//= type=test
//# Determines whether it has already received a newer
//# UPDATE_SA_ADDRESSES request than this one (if the responder uses a
//# window size greater than one, it is possible that requests are
//# received out of order).  If it has, a normal response message
//# (described below) is sent, but no other action is taken.
#[test]
fn a_move_that_is_overtaken_by_the_next_one_is_none() {
    let mut pair = Pair::default();
    pair.east_config.key_log = true;
    (pair.east.mobike, pair.west.mobike) = (true, true);
    pair.west.window = 2;
    let mut sim = run(pair);
    established(&sim);
    sim.manual = true;
    let mut east = Forge::new(&sim, 0, Role::Initiator);
    let first = next_id(&sim);
    let sa = |sim: &Sim| sim.nodes[1].endpoint.ike_sas().next().unwrap();
    let (local, remote) = (sa(&sim).local, sa(&sim).remote);
    for (id, address) in [(first + 1, "198.51.100.2"), (first, "198.51.100.1")] {
        let mut update = east.message(INFORMATIONAL, false, id, |payloads| {
            payloads.notify(&Notify::new(NotifyType::UPDATE_SA_ADDRESSES, &[]));
        });
        update.src = std::net::SocketAddr::new(address.parse().unwrap(), remote.port());
        update.dst = local;
        if local.port() == 4500 {
            update.transport = Transport::UdpEncap;
        }
        sim.deliver(update);
        let answered = |d: &&Datagram| d.dst.ip().to_string() == address;
        assert!(sim.sent().iter().any(|d| answered(&d)));
    }
    assert_eq!(sa(&sim).remote.ip().to_string(), "198.51.100.2");
}

//= rfc7296#2.1
//= type=test
//# The responder MUST never retransmit a response unless it receives a retransmission of the request.
#[test]
fn a_response_is_sent_again_only_when_the_request_is() {
    let (mut sim, mut east, _) = established_with(1, 1, 1);
    let request = east.message(INFORMATIONAL, false, next_id(&sim), |_| {});
    sim.deliver(request.clone());
    let first = sim.sent();
    assert_eq!(first.len(), 1);
    sim.run_for(Duration::from_secs(200));
    assert_eq!(sim.sent().len(), 0);
    sim.deliver(request);
    let again = sim.sent();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].bytes, first[0].bytes);
}

/// Whatever waits on the old IKE SA waits for the successor, or is said before.
//= rfc7296#2.8
//= type=test
//# After the new equivalent IKE SA is created, the initiator
//# deletes the old IKE SA, and the Delete payload to delete itself MUST
//# be the last request sent over the old IKE SA.
#[test]
fn its_own_delete_is_the_last_that_is_said_on_a_renewed_ike_sa() {
    let (mut sim, _, west) = established_with(1, 8, 3);
    let old = sim.nodes[0].endpoint.ike_sas().next().unwrap();
    sim.act(0, |endpoint, now| endpoint.rekey_ike(now, old.id));
    sim.exchange();
    let children: Vec<_> = sim.nodes[0].endpoint.child_sas().map(|c| c.id).collect();
    let mut said = Vec::new();
    let mut note = |sim: &mut Sim| {
        for datagram in &sim.outbox {
            let header = *cygnet_wire::Message::parse(&datagram.bytes)
                .unwrap()
                .header();
            if header.initiator_spi == old.initiator_spi && header.flags.initiator {
                said.push(west.read(datagram));
            }
        }
    };
    sim.exchange();
    note(&mut sim);
    for child in children {
        sim.act(0, |endpoint, now| endpoint.rekey_child(now, child));
    }
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, old.id));
    for _ in 0..6 {
        sim.run_for(Duration::ZERO);
        note(&mut sim);
        sim.exchange();
    }
    let id = old.next_request + 1;
    said.dedup();
    assert_eq!(said, [format!("INFORMATIONAL request {id} D(IKE 0)")]);
}
