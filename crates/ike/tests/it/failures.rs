//! What goes wrong, and that both ends say precisely what.

use cygnet_crypto::{EspProposal, IkeProposal};
use cygnet_ike::*;
use cygnet_wire::NotifyType;

use crate::pair::*;
use crate::sim::*;

/// A pair left to itself for a while: nothing may be left over.
fn run_out(pair: Pair) -> Sim {
    let mut sim = pair.sim(1);
    sim.initiate(0, WEST);
    sim.run_for(s(100));
    for node in &sim.nodes {
        assert!(node.plane.reserved.is_empty() && node.plane.installed.is_empty());
        assert_eq!(node.endpoint.size(), node.endpoint.ike_sas().count());
    }
    sim
}

#[test]
fn wrong_psk() {
    let sim = run_out(Pair {
        west_psk: b"not that one".to_vec(),
        ..Pair::default()
    });
    let failed = |by, cause| FailureReason::AuthenticationFailed { by, cause };
    assert_eq!(
        ike_failure(&sim, 1),
        failed(Party::Us, AuthFailure::WrongPsk)
    );
    assert_eq!(
        ike_failure(&sim, 0),
        failed(Party::Peer, AuthFailure::ByPeer)
    );
    assert_eq!(
        ike_failure(&sim, 1).to_string(),
        "authentication failed: the AUTH payload does not verify: the pre-shared keys differ"
    );
    assert_eq!(sim.event_names(0), ["child_failed", "ike_failed"]);
    assert_eq!(sim.event_names(1), ["ike_failed"]);
}

#[test]
fn no_psk_at_the_initiator() {
    let mut pair = Pair::default();
    pair.east_config.key_log = true;
    let mut sim = pair.sim(1);
    sim.nodes[0]
        .endpoint
        .set_directory(std::sync::Arc::new(Book::default()));
    sim.initiate(0, WEST);
    sim.run_for(s(100));
    assert_eq!(
        ike_failure(&sim, 0).to_string(),
        "no pre-shared key between @east.example.com and @west.example.com"
    );
    assert_eq!(ike_failure(&sim, 1), FailureReason::HalfOpenTimeout);
    assert!(sim.nodes[0].plane.reserved.is_empty());
}

#[test]
fn no_psk_at_the_responder() {
    let mut sim = Pair::default().sim(1);
    let book = Book {
        psks: Vec::new(),
        ..(*sim.nodes[1].book).clone()
    };
    sim.nodes[1]
        .endpoint
        .set_directory(std::sync::Arc::new(book));
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    assert_eq!(ike_failure(&sim, 1).name(), "no_psk");
    assert_eq!(ike_failure(&sim, 0).name(), "authentication_failed");
}

#[test]
fn wrong_identity_of_the_initiator() {
    let mut pair = Pair::default();
    pair.east.local_id = "@mallory.example.com".parse().unwrap();
    let sim = run_out(pair);
    assert_eq!(
        ike_failure(&sim, 1).to_string(),
        "the peer's identity is @mallory.example.com, expected @east.example.com"
    );
    assert_eq!(ike_failure(&sim, 0).name(), "authentication_failed");
}

#[test]
fn wrong_identity_of_the_responder() {
    let mut pair = Pair::default();
    pair.west.local_id = "@other.example.com".parse().unwrap();
    let sim = run_out(pair);
    // The initiator says whom it wants, so the responder knows before it answers.
    assert_eq!(
        ike_failure(&sim, 1).to_string(),
        "the peer wants to talk to @west.example.com, we are @other.example.com"
    );
    assert_eq!(ike_failure(&sim, 0).name(), "authentication_failed");
}

#[test]
fn a_responder_that_cannot_prove_itself_is_told_so() {
    // The initiator asks for nobody in particular; both have a key, but not the same for the answer.
    let mut pair = Pair::default();
    pair.east.remote_id = PeerIdentity::Any;
    let mut sim = pair.sim(1);
    let (east, west): (Identity, Identity) = (
        "@east.example.com".parse().unwrap(),
        "@west.example.com".parse().unwrap(),
    );
    let address = Identity::from(WEST.parse::<std::net::IpAddr>().unwrap());
    let mut book = (*sim.nodes[0].book).clone();
    let key = book.psks[0].2.clone();
    book.psks = vec![
        (east.clone(), address, key),
        (east, west, b"another".to_vec()),
    ];
    sim.nodes[0]
        .endpoint
        .set_directory(std::sync::Arc::new(book));
    sim.initiate(0, WEST);
    sim.run_for(s(100));
    assert_eq!(
        ike_failure(&sim, 0),
        FailureReason::AuthenticationFailed {
            by: Party::Us,
            cause: AuthFailure::WrongPsk
        }
    );
    //= rfc7296#2.21.2
    //= type=test
    //# If the error occurs on the initiator, the notification MAY be
    //# returned in a separate INFORMATIONAL exchange, usually with no other
    //# payloads.
    assert_eq!(sim.lines()[4], "east 500 > 500 INFORMATIONAL request 2 SK");
    assert_eq!(
        sim.event_names(1),
        [
            "ike_established",
            "child_established",
            "child_closed",
            "ike_closed"
        ]
    );
    assert!(matches!(
        sim.nodes[1].events.last(),
        Some(Event::IkeClosed {
            reason: CloseReason::PeerNotify(NotifyType::AUTHENTICATION_FAILED),
            ..
        })
    ));
    assert!(
        sim.nodes
            .iter()
            .all(|n| n.plane.reserved.is_empty() && n.plane.installed.is_empty())
    );
}

#[test]
fn no_common_ike_proposal() {
    let mut pair = Pair::default();
    pair.east.proposals = IkeProposal::parse_ipsec_conf("aes_gcm_16_128-sha2_256-dh31").unwrap();
    pair.west.proposals = IkeProposal::parse_ipsec_conf("aes256-sha2_512-dh20").unwrap();
    let ours = pair.west.proposals.clone();
    let sim = run_out(pair);
    let Some(Event::Rejected { reason, .. }) = sim.nodes[1].events.first() else {
        panic!()
    };
    let RejectReason::NoProposalChosen { ours: o, theirs } = reason else {
        panic!("{reason}")
    };
    assert_eq!((o, theirs.len()), (&ours, 1));
    let text = reason.to_string();
    assert!(
        text.contains("the peer's ENCR_AES_GCM_16-128/PRF_HMAC_SHA2_256/"),
        "{text}"
    );
    assert_eq!(ike_failure(&sim, 0).name(), "no_proposal_chosen");
    //= rfc7296#2.21.1
    //= type=test
    //# Because all error notifications are completely
    //# unauthenticated, the recipient should continue trying for some time
    //# before giving up.
    assert!(
        sim.trace
            .iter()
            .filter(|l| l.contains("IKE_SA_INIT request"))
            .count()
            > 1
    );
}

#[test]
fn a_forged_refusal_does_not_win_against_the_real_answer() {
    use cygnet_wire::*;
    let mut sim = Pair::default().sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    let request = sim.outbox[0].clone();
    let header = *Message::parse(&request.bytes).unwrap().header();
    let header = Header {
        flags: Flags {
            response: true,
            ..Flags::default()
        },
        ..header
    };
    for kind in [
        NotifyType::NO_PROPOSAL_CHOSEN,
        NotifyType::INVALID_SYNTAX,
        NotifyType::INVALID_MAJOR_VERSION,
    ] {
        let mut bytes = Vec::new();
        write_message(&mut bytes, &header, |payloads| {
            payloads.notify(&Notify::new(kind, &[]));
        })
        .unwrap();
        sim.deliver(Datagram {
            src: request.dst,
            dst: request.src,
            transport: Transport::Udp,
            bytes,
        });
    }
    sim.manual = false;
    sim.exchange();
    sim.run_for(s(5));
    assert_eq!(sim.event_names(0), ["ike_established", "child_established"]);
}

/// A public value that is none: whoever sent it, the peer's own may still come. If it does not, that was the reason.
#[test]
fn a_useless_public_value_of_nobody_does_not_stop_the_exchange() {
    for (forged_only, events) in [
        (false, vec!["ike_established", "child_established"]),
        (true, vec!["child_failed", "ike_failed"]),
    ] {
        let mut sim = Pair::default().sim(1);
        sim.manual = true;
        sim.initiate(0, WEST);
        let request = sim.sent().remove(0);
        sim.deliver(request);
        let response = sim.sent().remove(0);
        // The last octets of the peer's public value, which stands behind an SA payload of a known form.
        let message = cygnet_wire::Message::parse(&response.bytes).unwrap();
        let ke = message.payloads().find_map(|p| match p {
            Ok(cygnet_wire::Payload::Ke(ke)) => Some(ke.data.to_vec()),
            _ => None,
        });
        let ke = ke.unwrap();
        let mut bytes = response.bytes.clone();
        let at = bytes.windows(ke.len()).position(|w| w == ke).unwrap();
        bytes[at + 20] ^= 1;
        sim.deliver(Datagram {
            bytes,
            ..response.clone()
        });
        assert!(sim.event_names(0).is_empty());
        if forged_only {
            sim.sent();
            sim.run_for(s(100));
            assert_eq!(ike_failure(&sim, 0).name(), "key_exchange_failed");
        } else {
            sim.deliver(response);
            sim.manual = false;
            sim.run_for(s(1));
        }
        assert_eq!(sim.event_names(0), events);
    }
}

//= rfc7296#2.21.2
//= type=test
//# This failure does not
//# automatically cause the IKE SA to be deleted.
#[test]
fn no_common_esp_proposal_leaves_the_ike_sa() {
    let mut pair = Pair::default();
    pair.east_child.proposals = EspProposal::parse_ipsec_conf("aes_gcm_16_128").unwrap();
    pair.west_child.proposals = EspProposal::parse_ipsec_conf("aes256-sha2_256").unwrap();
    let sim = run_out(pair);
    for node in 0..2 {
        assert_eq!(child_failure(&sim, node).name(), "no_proposal_chosen");
        assert_eq!(
            sim.event_names(node)
                .iter()
                .filter(|n| **n == "ike_established")
                .count(),
            1
        );
    }
    let text = child_failure(&sim, 1).to_string();
    assert!(text.contains("the peer's ENCR_AES_GCM_16-128"), "{text}");
    sim.assert_agreement(0, 1);
}

#[test]
fn no_common_selectors() {
    let mut pair = Pair::default();
    pair.west_child.remote_ts = vec![net("10.9.0.0/16")];
    let sim = run_out(pair);
    assert_eq!(
        child_failure(&sim, 1).to_string(),
        "traffic selectors unacceptable: ours 10.2.0.0-10.2.255.255 === 10.9.0.0-10.9.255.255; \
         the peer's 10.2.0.0-10.2.255.255 === 10.1.0.0-10.1.255.255"
    );
    assert_eq!(child_failure(&sim, 0).name(), "ts_unacceptable");
    sim.assert_agreement(0, 1);
}

#[test]
fn tunnel_asked_for_where_transport_is_required() {
    let mut pair = Pair::default();
    pair.west_child.mode = cygnet_ipsec::Mode::Transport;
    let sim = run_out(pair);
    assert_eq!(
        child_failure(&sim, 1),
        ChildFailure::ModeMismatch("transport")
    );
    sim.assert_agreement(0, 1);
}

#[test]
fn a_silent_peer() {
    let mut sim = Pair::default().sim(1);
    sim.initiate(0, "192.0.2.99");
    sim.run_for(s(100));
    assert_eq!(
        ike_failure(&sim, 0).to_string(),
        "no response to IKE_SA_INIT after 8 transmissions"
    );
    assert_eq!(sim.event_names(0), ["child_failed", "ike_failed"]);
    assert_eq!(
        (
            sim.nodes[0].endpoint.size(),
            sim.nodes[0].endpoint.next_timeout()
        ),
        (0, None)
    );
}

#[test]
fn a_peer_that_falls_silent_in_between() {
    let mut sim = Pair::default().sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    sim.exchange();
    sim.exchange();
    sim.manual = false;
    sim.link.loss = 1000;
    sim.run_for(s(200));
    assert!(
        ike_failure(&sim, 0)
            .to_string()
            .starts_with("no response to IKE_AUTH")
    );
    assert_eq!(ike_failure(&sim, 1), FailureReason::HalfOpenTimeout);
    assert!(sim.nodes[0].plane.reserved.is_empty());
    assert_eq!(sim.nodes[1].endpoint.size(), 0);
}

#[test]
fn no_configuration_for_the_caller() {
    let mut pair = Pair::default();
    pair.west.remote = vec!["192.0.2.77".parse().unwrap()];
    let sim = run_out(pair);
    assert!(matches!(
        sim.nodes[1].events[0],
        Event::Rejected {
            reason: RejectReason::NoConfiguration,
            ..
        }
    ));
    assert_eq!(ike_failure(&sim, 0).name(), "no_proposal_chosen");
}

#[test]
fn planes_that_refuse() {
    for node in 0..2 {
        // Without SPI the initiator has nothing to ask with; the responder says no to the child SA alone.
        let mut sim = Pair::default().sim(1);
        sim.nodes[node].plane.refuse_spi = true;
        sim.initiate(0, WEST);
        sim.run_for(s(100));
        assert_eq!(child_failure(&sim, node).to_string(), "no SPI: no SPI left");
        if node == 0 {
            assert_eq!(ike_failure(&sim, 0).name(), "refused");
        } else {
            assert_eq!(child_failure(&sim, 0).name(), "no_proposal_chosen");
            sim.assert_agreement(0, 1);
        }

        // A failed installation is an error notify of the responder, and a delete by the initiator.
        let mut sim = Pair::default().sim(1);
        sim.nodes[node].plane.refuse_install = true;
        sim.initiate(0, WEST);
        sim.run_for(s(10));
        assert_eq!(
            child_failure(&sim, node).to_string(),
            "installation failed: table full"
        );
        if node == 0 {
            assert_eq!(sim.lines()[4], "east 500 > 500 INFORMATIONAL request 2 SK");
            assert_eq!(sim.event_names(1).last(), Some(&"child_closed"));
        } else {
            assert_eq!(child_failure(&sim, 0).name(), "no_proposal_chosen");
        }
        sim.assert_agreement(0, 1);
    }
}

//= rfc7296#2.8
//= type=test
//# The
//# responder to a CREATE_CHILD_SA MUST be prepared to accept messages on
//# an SA before sending its response to the creation request, so there
//# is no ambiguity for the initiator.
#[test]
fn while_the_plane_works_nothing_is_answered_and_nothing_blocks() {
    let mut sim = Pair::default().sim(1);
    sim.nodes[1].plane.hold = true;
    sim.initiate(0, WEST);
    sim.run_for(s(5));
    // IKE_AUTH was repeated and met with silence.
    let repeated = sim
        .lines()
        .iter()
        .filter(|l| l.contains("IKE_AUTH request"))
        .count();
    assert!(repeated > 2);
    assert!(!sim.lines().iter().any(|l| l.contains("IKE_AUTH response")));
    assert!(
        sim.nodes[1]
            .endpoint
            .stats()
            .dropped(DropReason::InProgress)
            > 1
    );
    sim.release(1);
    sim.run_for(s(20));
    sim.assert_agreement(0, 1);
}

#[test]
fn a_plane_that_never_answers_is_not_waited_for_and_cleaned_up_after() {
    for late in [false, true] {
        for node in 0..2 {
            let mut sim = Pair::default().sim(1);
            sim.nodes[node].plane.hold = true;
            sim.initiate(0, WEST);
            sim.run_for(s(1));
            if late {
                // The SPI comes, the installation does not.
                sim.release(node);
                sim.nodes[node].plane.hold = true;
            }
            sim.run_for(s(100));
            sim.release(node);
            sim.run_for(s(100));
            sim.assert_agreement(0, 1);
        }
    }
}

/// A response that cannot be used is no silence.
//= rfc7296#3.3.6
//= type=test
//# The initiator of an exchange MUST check that the
//# accepted offer is consistent with one of its proposals, and if not
//# MUST terminate the exchange.
#[test]
fn a_response_with_another_suite_than_offered_ends_the_exchange() {
    use cygnet_wire::*;
    let mut sim = Pair::default().sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    sim.exchange();
    let mut answer = sim.sent().remove(0);
    let message = Message::parse(&answer.bytes).unwrap();
    let mut bytes = Vec::new();
    write_message(&mut bytes, message.header(), |payloads| {
        for payload in message.payloads().map(Result::unwrap) {
            match payload {
                Payload::Sa(sa) => {
                    let mut chosen = sa.to_proposals();
                    chosen[0]
                        .transforms
                        .retain(|t| t.kind != TransformType::PRF);
                    chosen[0].transforms.push(Transform::prf(PrfId(2)));
                    payloads.sa(&chosen);
                }
                other => {
                    payloads.any(&other);
                }
            }
        }
    })
    .unwrap();
    answer.bytes = bytes;
    sim.deliver(answer);
    sim.sent();
    sim.run_for(s(5));
    let reason = ike_failure(&sim, 0);
    assert_eq!(reason.name(), "no_proposal_chosen", "{reason}");
    assert!(reason.to_string().contains("PRF_HMAC_SHA1"), "{reason}");
}

/// The time for the data plane begins when it is asked, not when the peer began.
#[test]
fn who_authenticates_at_the_last_moment_gets_its_child_sa() {
    let mut sim = Pair::default().sim(1);
    sim.nodes[1].plane.delay = s(2);
    sim.manual = true;
    sim.initiate(0, WEST);
    sim.exchange();
    sim.exchange();
    let auth = sim.sent();
    sim.run_for(s(29));
    sim.sent();
    sim.manual = false;
    for datagram in auth {
        sim.deliver(datagram);
    }
    sim.run_for(s(10));
    established(&sim);
}
