//! IKE_FOLLOWUP_KE, when nothing comes in between and when a peer breaks the rules (RFC 9370 §2.2.4).

use std::time::Duration;

use cygnet_crypto::{EspProposal, KeyExchange};
use cygnet_wire::{ExchangeType, KeId, Notify, NotifyType, Payload, PayloadWriter};

use crate::collisions::{E, Lab, W};
use crate::pair::*;
use crate::sim::{Datagram, Sim};

const IKE: &str = "aes_gcm_16_256-sha2_256-dh31";
const ESP: &str = "aes_gcm_16_256-dh31";
const SEVEN: &str = ";addke1=dh19;addke2=dh20;addke3=dh21;addke4=dh14;addke5=dh15;addke6=ml_kem_512;\
    addke7=ml_kem_1024";
const TWO: &str = ";addke1=dh19;addke2=ml_kem_768";

fn esp(text: &str) -> Vec<EspProposal> {
    EspProposal::parse_ipsec_conf(text).unwrap()
}

/// Both ends with these additional key exchanges in CREATE_CHILD_SA.
fn pair(additional: &str) -> Pair {
    let mut pair = Pair::default();
    for peer in [&mut pair.east, &mut pair.west] {
        peer.proposals = ike(&format!("{IKE}{additional}"));
        peer.fragment_size = 3000;
    }
    for child in [&mut pair.east_child, &mut pair.west_child] {
        child.proposals = esp(&format!("{ESP}{additional}"));
    }
    pair
}

fn rekey(sim: &mut Sim, node: usize) {
    let child = sim.nodes[node].endpoint.child_sas().last().unwrap().id;
    sim.act(node, |endpoint, now| endpoint.rekey_child(now, child));
}

fn rekey_ike(sim: &mut Sim, node: usize) {
    let ike = sim.nodes[node].endpoint.ike_sas().last().unwrap().id;
    sim.act(node, |endpoint, now| endpoint.rekey_ike(now, ike));
}

fn followups(sim: &Sim, before: usize) -> usize {
    let lines = sim.lines();
    let lines = lines.iter().skip(before);
    lines
        .filter(|l| l.contains("IKE_FOLLOWUP_KE request"))
        .count()
}

#[test]
fn up_to_seven_one_exchange_each() {
    for (additional, count) in [("", 0), (TWO, 2), (SEVEN, 7)] {
        for node in 0..2 {
            let mut sim = pair(additional).sim(1);
            sim.initiate(0, WEST);
            sim.run_for(s(2));
            established(&sim);
            for renew in [rekey, rekey_ike, rekey] {
                let before = sim.lines().len();
                renew(&mut sim, node);
                sim.run_for(s(2));
                assert_eq!(followups(&sim, before), count, "{:#?}", sim.lines());
            }
            let methods =
                |additional: [Option<KeyExchange>; 7]| additional.iter().flatten().count();
            let child = sim.nodes[node].endpoint.child_sas().next().unwrap();
            assert_eq!(methods(child.suite.additional), count);
            let ike = sim.nodes[node].endpoint.ike_sas().next().unwrap();
            assert_eq!(methods(ike.suite.unwrap().additional), count);
            sim.run_for(s(200));
            sim.assert_agreement(0, 1);
        }
    }
}

/// Forward secrecy like the IKE SA's: additional key exchanges are offered if that has some.
#[test]
fn those_of_the_ike_sa_are_asked_for_if_it_has_some() {
    for hybrid in [false, true] {
        for (strict, expected) in [(false, usize::from(hybrid)), (true, 1)] {
            let mut pair = pair(";addke1=ml_kem_768");
            for child in [&mut pair.east_child, &mut pair.west_child] {
                child.proposals = esp(&format!("{ESP};addke1=ml_kem_768, {ESP}"));
                child.additional_of_ike = !strict;
            }
            if !hybrid {
                pair.west.proposals = ike(IKE);
                pair.east.proposals = ike(&format!("{IKE};addke1=ml_kem_768, {IKE}"));
            }
            let mut sim = pair.sim(1);
            sim.initiate(0, WEST);
            sim.run_for(s(1));
            let before = sim.lines().len();
            rekey(&mut sim, 0);
            sim.run_for(s(1));
            assert_eq!(followups(&sim, before), expected, "{hybrid} {strict}");
            sim.assert_agreement(0, 1);
        }
    }
}

#[test]
fn lost_and_repeated_messages_do_no_harm() {
    let mut done = 0;
    for seed in 0..80 {
        let mut sim = pair(TWO).sim(seed);
        sim.initiate(0, WEST);
        sim.run_for(s(2));
        sim.link.loss = 250;
        sim.link.duplicate = 300;
        sim.link.latency = (Duration::from_millis(1), Duration::from_millis(400));
        for round in 0..4 {
            for node in 0..2 {
                match (seed + round) % 3 {
                    0 => rekey(&mut sim, node),
                    1 => rekey_ike(&mut sim, node),
                    _ => {
                        rekey(&mut sim, node);
                        rekey_ike(&mut sim, 1 - node);
                    }
                }
                sim.run_for(Duration::from_millis(100 * (seed % 7)));
            }
            sim.run_for(s(15));
        }
        sim.link.loss = 0;
        sim.run_for(s(600));
        sim.assert_agreement(0, 1);
        for node in &sim.nodes {
            assert!(node.plane.reserved.is_empty(), "seed {seed}");
        }
        done += sim
            .event_names(0)
            .iter()
            .filter(|n| **n == "child_established")
            .count();
    }
    assert!(done > 200, "{done}");
}

//= rfc9370#2.2.4
//= type=test
//# Therefore, it is essential to link the
//# IKE_FOLLOWUP_KE exchanges together with the corresponding
//# CREATE_CHILD_SA exchange.
/// What a peer may do wrong in the middle, as the initiator of a child SA's renewal and of the IKE SA's.
#[test]
fn a_hostile_initiator_gets_nowhere_and_harms_nothing() {
    type Edit = fn(&[Payload<'_>], &mut PayloadWriter<'_>);
    fn copy(
        payloads: &[Payload<'_>],
        w: &mut PayloadWriter<'_>,
        but: impl Fn(&Payload<'_>) -> bool,
    ) {
        payloads.iter().filter(|p| !but(p)).for_each(|p| {
            w.any(p);
        });
    }
    let edits: [(Edit, &str, bool); 7] = [
        (
            |p, w| copy(p, w, |p| matches!(p, Payload::Notify(_))),
            "N(STATE_NOT_FOUND)",
            false,
        ),
        (
            |p, w| {
                copy(p, w, |p| matches!(p, Payload::Notify(_)));
                w.notify(&Notify::new(NotifyType::ADDITIONAL_KEY_EXCHANGE, &[7; 16]));
            },
            "N(STATE_NOT_FOUND)",
            false,
        ),
        (
            |p, w| {
                copy(p, w, |p| matches!(p, Payload::Notify(_)));
                w.notify(&Notify::new(
                    NotifyType::ADDITIONAL_KEY_EXCHANGE,
                    &[7; 9000],
                ));
            },
            "N(STATE_NOT_FOUND)",
            false,
        ),
        (
            |p, w| copy(p, w, |p| matches!(p, Payload::Ke(_))),
            "N(NO_PROPOSAL_CHOSEN)",
            true,
        ),
        (
            |p, w| {
                copy(p, w, |p| matches!(p, Payload::Ke(_)));
                w.ke(KeId(31), &[1; 32]);
            },
            "N(NO_PROPOSAL_CHOSEN)",
            true,
        ),
        (
            |p, w| {
                copy(p, w, |p| matches!(p, Payload::Ke(_)));
                w.ke(KeId(19), &[1; 65]);
            },
            "N(NO_PROPOSAL_CHOSEN)",
            true,
        ),
        (
            |p, w| {
                copy(p, w, |p| matches!(p, Payload::Ke(_)));
                w.ke(KeId(19), &[]);
            },
            "N(NO_PROPOSAL_CHOSEN)",
            true,
        ),
    ];
    for of_ike in [false, true] {
        for (edit, answer, over) in edits {
            let mut lab = Lab::new(pair(TWO), false);
            if of_ike {
                lab.rekey_ike(E);
            } else {
                lab.rekey(E, "e1");
            }
            let request = lab.request(E);
            lab.exchange(&request);
            let first = lab.request(E);
            let forged = lab.forge(&first, true).edit(&first, edit);
            let refusal = lab.answer(&forged);
            assert_eq!(lab.read(&refusal), answer);
            let told: &[&str] = match (over, of_ike) {
                (false, _) => &[],
                (true, true) => &["ike_rekey_failed"],
                (true, false) => &["child_rekey_failed"],
            };
            let west = lab.told(W);
            assert_eq!(west.len(), told.len(), "{west:?}");
            assert!(west.iter().zip(told).all(|(l, t)| l.starts_with(t)));
            // What was there is there, and nothing more is kept than before.
            lab.planes("e1>w1", "w1>e1");
            assert_eq!(
                lab.node(W).plane.reserved.len(),
                usize::from(!over && !of_ike)
            );
            lab.deliver(&refusal);
            lab.sim.manual = false;
            lab.sim.run_for(s(400));
            lab.sim.assert_agreement(E, W);
            assert!(lab.node(W).plane.reserved.is_empty());
        }
    }
}

/// The same as responder: each of its answers, and what the initiator makes of it.
#[test]
fn a_hostile_responder_gets_nowhere_and_harms_nothing() {
    // Of each: what is left out, and whether it counts as late as in the last response.
    let without = |kind: &'static str| {
        move |payloads: &[Payload<'_>], w: &mut PayloadWriter<'_>| {
            for payload in payloads {
                match payload {
                    Payload::Ke(_) if kind == "ke" => {}
                    Payload::Ke(_) if kind == "method" => {
                        w.ke(KeId(31), &[1; 32]);
                    }
                    Payload::Ke(ke) if kind == "value" => {
                        w.ke(ke.method, &[1; 3]);
                    }
                    Payload::Notify(n)
                        if kind == "link" && n.kind == NotifyType::ADDITIONAL_KEY_EXCHANGE => {}
                    other => {
                        w.any(other);
                    }
                }
            }
        }
    };
    for of_ike in [false, true] {
        for (at, kind) in [
            (0, "link"),
            (1, "link"),
            (1, "ke"),
            (1, "method"),
            (1, "value"),
            (2, "ke"),
            (2, "method"),
            (2, "value"),
        ] {
            let mut lab = Lab::new(pair(TWO), false);
            if of_ike {
                lab.rekey_ike(E);
            } else {
                lab.rekey(E, "e1");
            }
            for _ in 0..at {
                let request = lab.request(E);
                lab.exchange(&request);
            }
            let request = lab.request(E);
            let response = lab.answer(&request);
            let forged = lab.forge(&response, true).edit(&response, without(kind));
            lab.told(E);
            lab.deliver(&forged);
            let told = lab.told(E);
            let expected = if of_ike {
                "ike_rekey_failed"
            } else {
                "child_rekey_failed"
            };
            assert!(told[0].starts_with(expected), "{at} {kind}: {told:?}");
            assert!(lab.node(E).plane.reserved.is_empty());
            // With the last response the peer has something that we have not: an IKE SA ends, a child SA is deleted.
            let ended = told.iter().any(|l| l.starts_with("child_closed"));
            assert_eq!(ended, of_ike && at == 2, "{at} {kind}: {told:?}");
            if !of_ike && at == 2 {
                let delete = lab.request(E);
                assert_eq!(lab.read(&delete), "D(ESP 1)");
                lab.exchange(&delete);
                lab.planes("e1>w1", "w1>e1");
            }
            lab.sim.manual = false;
            lab.sim.run_for(s(400));
            if !ended {
                lab.sim.assert_agreement(E, W);
            }
            assert!(lab.node(W).plane.reserved.is_empty());
        }
    }
}

/// Some responders say how to go on in the last response, too.
#[test]
fn a_link_in_the_last_response_means_nothing() {
    let mut lab = Lab::new(pair(";addke1=dh19"), false);
    lab.rekey(E, "e1");
    let request = lab.request(E);
    lab.exchange(&request);
    let last = lab.request(E);
    let response = lab.answer(&last);
    let forged = lab.forge(&response, true).edit(&response, |payloads, w| {
        payloads.iter().for_each(|p| {
            w.any(p);
        });
        w.notify(&Notify::new(NotifyType::ADDITIONAL_KEY_EXCHANGE, &[1; 8]));
    });
    lab.deliver(&forged);
    let delete = lab.request(E);
    lab.exchange(&delete);
    lab.planes("e2>w2", "w2>e2");
}

#[test]
fn an_additional_key_exchange_of_nothing_is_no_state() {
    let mut lab = Lab::new(pair(TWO), false);
    lab.rekey(E, "e1");
    let request = lab.request(E);
    let header = *cygnet_wire::Message::parse(&request.bytes)
        .unwrap()
        .header();
    let (exchange, id) = (ExchangeType::IKE_FOLLOWUP_KE, header.message_id);
    let forged = lab.forge(&request, true).message(exchange, false, id, |w| {
        w.ke(KeId(19), &[1; 64]);
        w.notify(&Notify::new(NotifyType::ADDITIONAL_KEY_EXCHANGE, &[]));
    });
    let forged = Datagram {
        bytes: forged.bytes,
        ..request
    };
    let refusal = lab.answer(&forged);
    assert_eq!(lab.read(&refusal), "N(STATE_NOT_FOUND)");
    lab.planes("e1>w1", "w1>e1");
}
