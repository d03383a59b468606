//! IKE_INTERMEDIATE and additional key exchanges (RFC 9242, RFC 9370).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cygnet_crypto::{IkeProposal, KeyExchange};
use cygnet_ike::*;
use cygnet_wire::{
    ExchangeType, KeId, Message, Notify, NotifyType, Payload, PayloadWriter, write_message,
};

use crate::forge::Forge;
use crate::pair::*;
use crate::sim::{Datagram, Sim, describe};

const CLASSIC: &str = "aes_gcm_16_256-sha2_256-dh31";
const HYBRID: &str = "aes_gcm_16_256-sha2_256-dh31;addke1=ml_kem_768";
const SEVEN: &str = "aes256-sha2_256-dh31;addke1=dh19;addke2=dh20;addke3=dh21;addke4=dh14;addke5=dh15;\
    addke6=ml_kem_512;addke7=ml_kem_1024";

fn proposals(text: &str) -> Vec<IkeProposal> {
    IkeProposal::parse_ipsec_conf(text).unwrap()
}

/// A pair whose ends have these proposals.
fn pair(east: &str, west: &str) -> Pair {
    let mut pair = Pair::default();
    pair.east.proposals = proposals(east);
    pair.west.proposals = proposals(west);
    pair
}

/// The exchanges of a world, without IKE_SA_INIT.
fn exchanges(sim: &Sim) -> Vec<&str> {
    let words = sim.trace.iter().map(|line| line.split_whitespace());
    words
        .filter_map(|mut words| {
            words.find(|word| word.starts_with("IKE_") || *word == "INFORMATIONAL")
        })
        .filter(|exchange| *exchange != "IKE_SA_INIT")
        .collect()
}

fn additional(sim: &Sim) -> Vec<KeyExchange> {
    let sa = sim.nodes[1].endpoint.ike_sas().next().expect("an IKE SA");
    sa.suite.unwrap().additional.into_iter().flatten().collect()
}

//= rfc9242#3.2
//= type=test
//# Since window size is initially set to 1 for both peers
//# (Section 2.3 of [RFC7296]), these exchanges MUST be sequential and
//# MUST all be completed before the IKE_AUTH exchange is initiated.
#[test]
fn each_additional_key_exchange_is_one_exchange_before_ike_auth() {
    for (proposal, count) in [(HYBRID, 1), (SEVEN, 7)] {
        let mut pair = pair(proposal, proposal);
        pair.east.fragment_size = 3000;
        pair.west.fragment_size = 3000;
        let sim = run(pair);
        established(&sim);
        let mut expected = vec!["IKE_INTERMEDIATE"; 2 * count];
        expected.extend(["IKE_AUTH"; 2]);
        assert_eq!(exchanges(&sim), expected);
        assert_eq!(additional(&sim).len(), count);
    }
}

/// Nothing configured: ML-KEM-768 beside X25519 where both can, X25519 where one cannot.
#[test]
fn the_default_is_hybrid_where_both_can() {
    let pair = |east: &[IkeProposal], west: &[IkeProposal]| {
        let mut pair = Pair::default();
        pair.east.proposals = east.to_vec();
        pair.west.proposals = west.to_vec();
        pair
    };
    let default = IkeProposal::default_list();
    let old = &default[1..];
    let hybrid = vec![KeyExchange::MlKem768];
    for (east, west, agreed) in [
        (&default[..], &default[..], &hybrid),
        (&default, old, &vec![]),
        (old, &default, &vec![]),
    ] {
        let sim = run(pair(east, west));
        established(&sim);
        assert_eq!(additional(&sim), *agreed);
        let sa = sim.nodes[1].endpoint.ike_sas().next().unwrap();
        assert_eq!(sa.suite.unwrap().key_exchange, KeyExchange::X25519);
    }
}

#[test]
fn the_ends_agree_on_what_both_can() {
    let three = "aes256-sha2_256-dh31;addke2=ml_kem_768+ml_kem_1024;addke5=dh19+none";
    for (east, west, agreed) in [
        (HYBRID, CLASSIC, None),
        (CLASSIC, HYBRID, None),
        (
            "aes_gcm_16_256-sha2_256-dh31;addke1=ml_kem_768, aes_gcm_16_256-sha2_256-dh31",
            CLASSIC,
            Some(vec![]),
        ),
        (
            CLASSIC,
            "aes_gcm_16_256-sha2_256-dh31;addke1=ml_kem_768+none",
            Some(vec![]),
        ),
        (
            "aes_gcm_16_256-sha2_256-dh31;addke1=ml_kem_768+none",
            CLASSIC,
            Some(vec![]),
        ),
        (
            three,
            "aes256-sha2_256-dh31;addke2=ml_kem_1024",
            Some(vec![KeyExchange::MlKem1024]),
        ),
        (
            three,
            "aes256-sha2_256-dh31;addke2=ml_kem_1024;addke5=dh19",
            Some(vec![KeyExchange::MlKem1024, KeyExchange::Ecp256]),
        ),
        (three, "aes256-sha2_256-dh31;addke1=ml_kem_768", None),
    ] {
        let sim = run(pair(east, west));
        match agreed {
            Some(agreed) => {
                established(&sim);
                assert_eq!(additional(&sim), agreed, "{east} / {west}");
            }
            None => {
                let names = sim.event_names(1);
                assert!(
                    names.iter().all(|name| *name == "rejected"),
                    "{east} / {west}"
                );
            }
        }
    }
}

#[test]
fn without_the_notification_additional_key_exchanges_are_unknown() {
    // The initiator's request without INTERMEDIATE_EXCHANGE_SUPPORTED: nothing else is left to choose.
    let mut sim = pair(HYBRID, HYBRID).sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    let request = sim.sent().remove(0);
    for (known, refused) in [(true, false), (false, true)] {
        let mut bytes = request.bytes.clone();
        if !known {
            let kind = NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED.0.to_be_bytes();
            let at = bytes.windows(2).position(|two| two == kind).unwrap();
            // Another status type, which nobody knows.
            bytes[at..at + 2].copy_from_slice(&40_000_u16.to_be_bytes());
        }
        sim.deliver(Datagram {
            bytes,
            ..request.clone()
        });
        let answer = sim.sent().remove(0);
        let message = cygnet_wire::Message::parse(&answer.bytes).unwrap();
        let no_proposal = |payload| matches!(payload, Ok(Payload::Notify(n)) if n.kind == NotifyType::NO_PROPOSAL_CHOSEN);
        assert_eq!(message.payloads().any(no_proposal), refused);
    }
}

#[test]
fn support_is_announced_if_asked_for_and_then_confirmed() {
    let mut pair = pair(CLASSIC, CLASSIC);
    pair.east.intermediate = true;
    let sim = run(pair);
    established(&sim);
    assert_eq!(exchanges(&sim), ["IKE_AUTH", "IKE_AUTH"]);
    let announced = sim
        .trace
        .iter()
        .filter(|line| line.contains("INTERMEDIATE_EXCHANGE_SUPPORTED"));
    assert_eq!(announced.count(), 2, "{:#?}", sim.trace);
}

#[test]
fn lost_and_repeated_messages_do_no_harm() {
    for seed in 0..60 {
        let mut sim = pair(SEVEN, SEVEN).sim(seed);
        sim.link.loss = 250;
        sim.link.duplicate = 300;
        sim.link.latency = (Duration::from_millis(1), Duration::from_millis(400));
        sim.initiate(0, WEST);
        sim.run_for(s(25));
        sim.link.loss = 0;
        sim.run_for(s(200));
        sim.assert_agreement(0, 1);
        assert!(
            sim.event_names(0).contains(&"ike_established"),
            "seed {seed}"
        );
    }
}

/// The keys have changed with the response: the request that comes again in another form is protected by those before.
#[test]
fn a_request_that_comes_again_in_smaller_fragments_is_answered_again() {
    let mut pair = pair(HYBRID, HYBRID);
    (pair.east.fragment_size, pair.west.fragment_size) = (3000, 3000);
    let mut sim = pair.sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    sim.exchange();
    sim.exchange();
    let request = sim.sent();
    assert_eq!(request.len(), 1);
    sim.deliver(request[0].clone());
    assert_eq!(sim.sent().len(), 1, "the response, which is lost");
    sim.run_for(Duration::from_millis(3600));
    let long = request[0].bytes.len();
    let fragments: Vec<_> = sim
        .sent()
        .into_iter()
        .filter(|d| d.bytes.len() < long)
        .collect();
    assert_eq!(fragments.len(), 3);
    for fragment in fragments {
        sim.deliver(fragment);
    }
    assert_eq!(sim.nodes[1].endpoint.stats().responses_repeated, 1);
    sim.manual = false;
    for response in sim.sent() {
        sim.deliver(response);
    }
    sim.run_for(s(1));
    established(&sim);
}

/// A world that stands before the first IKE_INTERMEDIATE request arrives, with the keys that protect it.
///
/// The keys are those of a world that does not need the exchange and is the same up to there.
fn before_intermediate(proposal: &str) -> (Sim, Datagram, Forge) {
    let make = |proposal: &str| {
        let mut pair = pair(proposal, proposal);
        pair.east.intermediate = true;
        let mut sim = pair.sim(1);
        for node in 0..2 {
            sim.nodes[node].config.key_log = true;
            sim.restart_quietly(node);
        }
        sim.manual = true;
        sim.initiate(0, WEST);
        sim
    };
    let classic = proposal.split(';').next().unwrap();
    let mut plain = make(classic);
    for _ in 0..4 {
        plain.exchange();
    }
    plain.run_for(Duration::ZERO);
    let forge = Forge::new(&plain, 0, Role::Initiator);
    let mut sim = make(proposal);
    sim.exchange();
    sim.exchange();
    let request = sim.sent().remove(0);
    (sim, request, forge)
}

/// What west answers to an IKE_INTERMEDIATE request.
fn answer(
    proposal: &str,
    exchange: ExchangeType,
    write: impl FnOnce(&mut PayloadWriter<'_>),
) -> (Sim, Option<String>) {
    let (mut sim, _, mut forge) = before_intermediate(proposal);
    let forged = forge.message(exchange, false, 1, write);
    sim.deliver(forged);
    sim.run_for(Duration::ZERO);
    let answer = sim.sent().first().map(|datagram| forge.read(datagram));
    (sim, answer)
}

const SYNTAX: &str = "IKE_INTERMEDIATE response 1 N(INVALID_SYNTAX)";

#[test]
fn the_forger_of_these_tests_is_understood() {
    let (mut sim, request, mut forge) = before_intermediate(HYBRID);
    let again = forge.edit(&request, |payloads, writer| {
        let [Payload::Ke(ke)] = payloads else {
            panic!("{payloads:?}")
        };
        writer.ke(ke.method, ke.data);
    });
    sim.deliver(again);
    let answer = sim.sent().remove(0);
    assert_eq!(forge.read(&answer), "IKE_INTERMEDIATE response 1 KE");
}

#[test]
fn a_wrong_key_exchange_ends_the_ike_sa() {
    let mlkem = KeId(KeyExchange::MlKem768.iana_id());
    let x25519 = KeId(KeyExchange::X25519.iana_id());
    type Kes = Vec<(KeId, Vec<u8>)>;
    let cases: [(&str, Kes, &str); 4] = [
        ("none", vec![], "invalid_syntax"),
        ("two", vec![(mlkem, vec![1; 1184]); 2], "invalid_syntax"),
        (
            "another method",
            vec![(x25519, vec![1; 32])],
            "key_exchange_method",
        ),
        (
            "wrong length",
            vec![(mlkem, vec![1; 1183])],
            "key_exchange_failed",
        ),
    ];
    for (what, kes, reason) in cases {
        let (sim, answer) = answer(HYBRID, ExchangeType::IKE_INTERMEDIATE, |payloads| {
            for (method, data) in &kes {
                payloads.ke(*method, data);
            }
        });
        assert_eq!(answer.as_deref(), Some(SYNTAX), "{what}");
        assert_eq!(ike_failure(&sim, 1).name(), reason, "{what}");
    }
}

#[test]
fn ike_auth_does_not_come_before_the_key_exchanges() {
    let (sim, answer) = answer(HYBRID, ExchangeType::IKE_AUTH, |payloads| {
        payloads.notify(&Notify::new(NotifyType::INITIAL_CONTACT, &[]));
    });
    assert_eq!(answer, None);
    assert!(sim.nodes[1].events.is_empty());
}

//= rfc9242#5
//= type=test
//# Specifications utilizing the Intermediate Exchange MUST
//# NOT allow an unlimited number of these exchanges to take place at the
//# initiator's discretion.
#[test]
fn exchanges_without_purpose_are_few() {
    let (mut sim, _, mut forge) = before_intermediate(CLASSIC);
    let mut answers = 0;
    for id in 1..100 {
        let empty = forge.message(ExchangeType::IKE_INTERMEDIATE, false, id, |_| {});
        sim.deliver(empty);
        answers += sim.sent().len();
    }
    assert_eq!(answers, 10);
    assert_eq!(sim.nodes[1].endpoint.half_open(), 1);
    // Who stops there is forgotten like anybody who does not come back.
    sim.run_for(s(31));
    assert_eq!(ike_failure(&sim, 1).name(), "half_open_timeout");
    assert_eq!(sim.nodes[1].endpoint.half_open(), 0);
}

#[test]
fn an_initiator_that_stops_half_way_counts_as_half_open() {
    let (mut sim, request, _) = before_intermediate(SEVEN);
    sim.deliver(request);
    assert_eq!(sim.sent().len(), 1);
    assert_eq!(sim.nodes[1].endpoint.half_open(), 1);
    sim.run_for(s(31));
    assert_eq!(sim.nodes[1].endpoint.half_open(), 0);
    assert_eq!(sim.nodes[1].endpoint.size(), 0);
}

#[test]
fn errors_and_nonsense_of_a_responder_end_the_attempt() {
    let mlkem = KeId(KeyExchange::MlKem768.iana_id());
    type Write = fn(&mut PayloadWriter<'_>, KeId);
    let write: [(&str, Write); 4] = [
        ("peer_notify", |payloads, _| {
            payloads.notify(&Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]));
        }),
        ("invalid_syntax", |_, _| {}),
        ("key_exchange_failed", |payloads, mlkem| {
            payloads.ke(mlkem, &[1; 1184]);
        }),
        ("key_exchange_method", |payloads, _| {
            payloads.ke(KeId(KeyExchange::X25519.iana_id()), &[1; 32]);
        }),
    ];
    for (reason, write) in write {
        let (mut sim, _, forge) = before_intermediate(HYBRID);
        let mut west = forge.turned(Role::Responder);
        let forged = west.message(ExchangeType::IKE_INTERMEDIATE, true, 1, |payloads| {
            write(payloads, mlkem);
        });
        sim.deliver(forged);
        sim.run_for(Duration::ZERO);
        assert_eq!(ike_failure(&sim, 0).name(), reason);
        assert_eq!(child_failure(&sim, 0), ChildFailure::IkeSaEnded);
        assert_eq!(sim.nodes[0].endpoint.size(), 0);
    }
}

/// What was said in IKE_INTERMEDIATE is authenticated: whoever changes it, even with the keys of the IKE SA, is found
/// out in IKE_AUTH.
#[test]
fn a_changed_message_fails_authentication() {
    for changed in [false, true] {
        let (mut sim, request, mut forge) = before_intermediate(HYBRID);
        let request = forge.edit(&request, |payloads, writer| {
            if let [Payload::Ke(ke)] = payloads {
                writer.ke(ke.method, ke.data);
            }
            if changed {
                writer.notify(&Notify::new(NotifyType(40_000), &[]));
            }
        });
        sim.manual = false;
        sim.deliver(request);
        sim.run_for(s(1));
        if changed {
            assert_eq!(ike_failure(&sim, 1).name(), "authentication_failed");
        } else {
            established(&sim);
        }
    }
}

/// The request by which an initiator refuses our part of IKE_AUTH is the one right after it, whatever its Message ID.
#[test]
fn an_initiator_refuses_the_responder_after_key_exchanges_too() {
    let mut pair = pair(HYBRID, HYBRID);
    pair.east.remote_id = PeerIdentity::Any;
    let mut sim = pair.sim(1);
    let mut book = (*sim.nodes[0].book).clone();
    let (east, west): (Identity, Identity) = (
        "@east.example.com".parse().unwrap(),
        "@west.example.com".parse().unwrap(),
    );
    let key = book.psks[0].2.clone();
    // Both have a key for what east says, but not the same for the answer.
    let address = Identity::from(WEST.parse::<IpAddr>().unwrap());
    book.psks = vec![
        (east.clone(), address, key),
        (east, west, b"another".to_vec()),
    ];
    sim.nodes[0].endpoint.set_directory(Arc::new(book));
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    assert_eq!(ike_failure(&sim, 0).name(), "authentication_failed");
    let last = sim
        .lines()
        .into_iter()
        .find(|line| line.contains("INFORMATIONAL request"));
    assert_eq!(
        last.as_deref(),
        Some("east 500 > 500 INFORMATIONAL request 3 SK")
    );
    let closed = sim.nodes[1].events.last();
    assert!(
        matches!(
            closed,
            Some(Event::IkeClosed {
                reason: CloseReason::PeerNotify(NotifyType::AUTHENTICATION_FAILED),
                ..
            })
        ),
        "{closed:?}"
    );
}

/// Later it is a complaint: nothing of what an established IKE SA has may end by it.
#[test]
fn a_later_refusal_ends_nothing() {
    let mut pair = Pair::default();
    pair.east_config.key_log = true;
    let mut sim = run(pair);
    let mut east = Forge::new(&sim, 0, Role::Initiator);
    for id in [2, 3] {
        let failed = east.message(ExchangeType::INFORMATIONAL, false, id, |payloads| {
            if id == 3 {
                payloads.notify(&Notify::new(NotifyType::AUTHENTICATION_FAILED, &[]));
            }
        });
        sim.deliver(failed);
    }
    assert_eq!(sim.nodes[1].endpoint.ike_sas().count(), 1);
    assert_eq!(sim.nodes[1].endpoint.child_sas().count(), 1);
}

//= rfc9242#3.1
//= type=test
//# Implementations MUST ignore non-empty Notification Data if they don't
//# understand its purpose.
#[test]
fn data_of_the_notification_is_ignored() {
    let kind = NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED;
    let with_data = |datagram: &Datagram| {
        let message = Message::parse(&datagram.bytes).unwrap();
        let mut bytes = Vec::new();
        write_message(&mut bytes, message.header(), |payloads| {
            for payload in message.payloads().map(Result::unwrap) {
                match payload {
                    Payload::Notify(notify) if notify.kind == kind => {
                        payloads.notify(&Notify::new(kind, b"of some later version"))
                    }
                    other => payloads.any(&other),
                };
            }
        })
        .unwrap();
        Datagram {
            bytes,
            ..datagram.clone()
        }
    };
    let mut sim = pair(HYBRID, HYBRID).sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    let request = sim.sent().remove(0);
    sim.deliver(with_data(&request));
    let response = sim.sent().remove(0);
    assert!(describe(&response).contains("N(INTERMEDIATE_EXCHANGE_SUPPORTED)"));
    sim.deliver(with_data(&response));
    assert!(describe(&sim.sent()[0]).contains("IKE_INTERMEDIATE request 1 SK"));
}

/// Step by step: what is said under which number, and since when there is an IKE SA.
//= rfc9242#3.2
//= type=test
//# The IKE SA MUST NOT be considered as established until the IKE_AUTH
//# exchange is successfully completed.
//= rfc9242#3.2
//= type=test
//# The Message IDs for IKE_INTERMEDIATE exchanges MUST be chosen
//# according to the standard IKEv2 rule, described in Section 2.2 of
//# [RFC7296], i.e., it is set to 1 for the first IKE_INTERMEDIATE
//# exchange, 2 for the next (if any), and so on.
#[test]
fn message_ids_go_on_and_nothing_is_established_before_ike_auth() {
    let text = "aes256-sha2_256-dh31;addke1=dh19;addke2=dh20";
    let mut sim = pair(text, text).sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    let mut said = Vec::new();
    loop {
        let names = [sim.event_names(0), sim.event_names(1)].concat();
        if sim.outbox.is_empty() {
            assert_eq!(names.iter().filter(|n| **n == "ike_established").count(), 2);
            break;
        }
        let line = describe(&sim.outbox[0]);
        if said.len() < 7 {
            assert!(!names.contains(&"ike_established"), "{line}");
        }
        let words: Vec<_> = line.split_whitespace().skip(3).take(3).collect();
        said.push(words.join(" "));
        sim.exchange();
    }
    assert_eq!(
        said,
        [
            "IKE_SA_INIT request 0",
            "IKE_SA_INIT response 0",
            "IKE_INTERMEDIATE request 1",
            "IKE_INTERMEDIATE response 1",
            "IKE_INTERMEDIATE request 2",
            "IKE_INTERMEDIATE response 2",
            "IKE_AUTH request 3",
            "IKE_AUTH response 3",
        ]
    );
}

//= rfc9242#3.2
//= type=test
//# Implementations MUST verify that Message IDs in the IKE_INTERMEDIATE
//# messages they receive actually follow this rule.
//= rfc9242#3.2
//= type=test
//# the Encrypted payload MUST be present in the IKE_INTERMEDIATE exchange
//# messages,
#[test]
fn out_of_order_or_in_clear_it_is_not_heard() {
    let (mut sim, request, mut forge) = before_intermediate(HYBRID);
    let mut key = Vec::new();
    forge.edit(&request, |payloads, writer| {
        if let [Payload::Ke(ke)] = payloads {
            key = ke.data.to_vec();
            writer.ke(ke.method, ke.data);
        }
    });
    let method = KeId(KeyExchange::MlKem768.iana_id());
    for id in [0, 2, 3, u32::MAX] {
        let early = forge.message(ExchangeType::IKE_INTERMEDIATE, false, id, |payloads| {
            payloads.ke(method, &key);
        });
        sim.deliver(early);
        assert!(sim.sent().is_empty(), "{id}");
    }
    let header = *Message::parse(&request.bytes).unwrap().header();
    let mut bytes = Vec::new();
    write_message(&mut bytes, &header, |payloads| {
        payloads.ke(method, &key);
    })
    .unwrap();
    sim.deliver(Datagram {
        bytes,
        ..request.clone()
    });
    assert!(sim.sent().is_empty());
    sim.deliver(request);
    assert_eq!(sim.sent().len(), 1, "the right one");
}
