//! IKE_AUTH messages that somebody with the keys has changed: what either end makes of a peer that errs.

use cygnet_ike::*;
use cygnet_wire::{
    AuthMethodId, CfgAttributeType, CfgType, ConfigAttribute, EncrId, EsnId, IdType, Notify,
    NotifyType, Payload, PayloadType, PayloadWriter, Proposal, Spi, TrafficSelector, Transform,
};

use crate::forge::{Forge, stopped_at};
use crate::pair::*;
use crate::sim::*;

/// What comes of an IKE_AUTH request (2) or response (3) that is changed on its way by somebody who has the keys.
fn with_changed(
    index: usize,
    edit: impl Fn(&[Payload<'_>], &mut PayloadWriter<'_>),
) -> (Sim, Forge) {
    let (mut sim, datagram, keys) = stopped_at(index, || Pair::default().sim(1));
    let sender = if index == 2 {
        Role::Initiator
    } else {
        Role::Responder
    };
    let changed = Forge::with_keys(keys.clone(), sender).edit(&datagram, edit);
    sim.deliver(changed);
    sim.run_for(s(0));
    // Whoever reads the answers is the other end of who gives them.
    (sim, Forge::with_keys(keys, sender))
}

/// All payloads, and what `more` adds.
fn and<'a>(
    more: impl Fn(&mut PayloadWriter<'_>) + 'a,
) -> impl Fn(&[Payload<'_>], &mut PayloadWriter<'_>) + 'a {
    move |payloads, writer| {
        for payload in payloads {
            writer.any(payload);
        }
        more(writer);
    }
}

/// All payloads but those of some kinds.
fn without(kinds: &[PayloadType]) -> impl Fn(&[Payload<'_>], &mut PayloadWriter<'_>) + '_ {
    move |payloads, writer| {
        for payload in payloads
            .iter()
            .filter(|p| !kinds.contains(&p.payload_type()))
        {
            writer.any(payload);
        }
    }
}

/// The answer that was sent last, and the rest of the world.
fn answer(sim: &mut Sim, forge: &Forge) -> String {
    let sent = sim.sent();
    let answer = sent
        .last()
        .map(|datagram| forge.read(datagram))
        .unwrap_or_default();
    sim.manual = false;
    sim.run_for(s(150));
    for node in &sim.nodes {
        assert!(node.plane.reserved.is_empty(), "{}", node.name);
    }
    answer
}

#[test]
fn a_configuration_request_for_an_address_fails_the_child_alone() {
    let (mut sim, forge) = with_changed(
        2,
        and(|writer| {
            let kind = CfgAttributeType::INTERNAL_IP4_ADDRESS;
            writer.cp(CfgType::REQUEST, &[ConfigAttribute { kind, value: &[] }]);
        }),
    );
    assert_eq!(
        child_failure(&sim, 1),
        ChildFailure::InternalAddressFailure(Party::Us)
    );
    assert_eq!(
        answer(&mut sim, &forge),
        "IKE_AUTH response 1 IDr AUTH N(IKEV2_MESSAGE_ID_SYNC_SUPPORTED) N(IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED) N(INTERNAL_ADDRESS_FAILURE)"
    );
}

//= rfc7296#2.5
//= type=test
//# If the critical flag is set
//# and the payload type is unrecognized, the message MUST be rejected
//# and the response to the IKE request containing that payload MUST
//# include a Notify payload UNSUPPORTED_CRITICAL_PAYLOAD, indicating an
//# unsupported critical payload was included.
#[test]
fn an_unknown_critical_payload_in_ike_auth() {
    let (mut sim, forge) = with_changed(
        2,
        and(|writer| {
            writer.raw(PayloadType(200), true, b"?");
        }),
    );
    assert_eq!(
        ike_failure(&sim, 1).to_string(),
        "we did not understand critical payload PayloadType(200)"
    );
    assert_eq!(
        answer(&mut sim, &forge),
        "IKE_AUTH response 1 N(UNSUPPORTED_CRITICAL_PAYLOAD)"
    );
}

//= rfc7296#2.5
//= type=test
//# If the critical flag is not set and the payload type
//# is unsupported, that payload MUST be ignored.
#[test]
fn an_unknown_payload_that_is_not_critical_is_ignored() {
    let (mut sim, forge) = with_changed(
        2,
        and(|writer| {
            writer.raw(PayloadType(200), false, b"?");
        }),
    );
    assert_eq!(
        answer(&mut sim, &forge),
        "IKE_AUTH response 1 IDr AUTH N(IKEV2_MESSAGE_ID_SYNC_SUPPORTED) N(IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED) SA TSi TSr"
    );
}

//= rfc7296#2.21.2
//= type=test
//# Note, however, that request messages that contain an unsupported
//# critical payload, or where the whole message is malformed (rather
//# than just bad payload contents), MUST be rejected in their entirety,
//# and MUST only lead to an UNSUPPORTED_CRITICAL_PAYLOAD or
//# INVALID_SYNTAX Notification sent as a response.
#[test]
fn malformed_and_incomplete_ike_auth_requests() {
    let (mut sim, forge) = with_changed(
        2,
        and(|writer| {
            writer.raw(PayloadType::DELETE, false, &[3, 9, 0, 1]);
        }),
    );
    assert_eq!(ike_failure(&sim, 1).name(), "invalid_syntax");
    assert_eq!(
        answer(&mut sim, &forge),
        "IKE_AUTH response 1 N(INVALID_SYNTAX)"
    );

    let (mut sim, forge) = with_changed(2, without(&[PayloadType::AUTH]));
    assert_eq!(
        ike_failure(&sim, 1).to_string(),
        "authentication failed: the peer did not send AUTH"
    );
    assert_eq!(
        answer(&mut sim, &forge),
        "IKE_AUTH response 1 N(AUTHENTICATION_FAILED)"
    );

    let (mut sim, forge) = with_changed(2, without(&[PayloadType::TS_I, PayloadType::TS_R]));
    assert_eq!(child_failure(&sim, 1).name(), "ts_unacceptable");
    assert_eq!(
        answer(&mut sim, &forge),
        "IKE_AUTH response 1 IDr AUTH N(IKEV2_MESSAGE_ID_SYNC_SUPPORTED) N(IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED) N(TS_UNACCEPTABLE)"
    );
}

#[test]
fn every_refusal_of_the_child_is_understood() {
    let child = [PayloadType::SA, PayloadType::TS_I, PayloadType::TS_R];
    for (kind, name) in [
        (NotifyType::NO_PROPOSAL_CHOSEN, "no_proposal_chosen"),
        (NotifyType::TS_UNACCEPTABLE, "ts_unacceptable"),
        (NotifyType::SINGLE_PAIR_REQUIRED, "single_pair_required"),
        (
            NotifyType::INTERNAL_ADDRESS_FAILURE,
            "internal_address_failure",
        ),
        (NotifyType::FAILED_CP_REQUIRED, "failed_cp_required"),
        (NotifyType::NO_ADDITIONAL_SAS, "no_additional_sas"),
        (NotifyType::TEMPORARY_FAILURE, "peer_notify"),
        //= rfc7296#3.10.1
        //= type=test
        //# An
        //# implementation receiving a Notify payload with one of these types
        //# that it does not recognize in a response MUST assume that the
        //# corresponding request has failed entirely.
        (NotifyType(9999), "peer_notify"),
    ] {
        let (sim, _) = with_changed(3, |payloads, writer| {
            without(&child)(payloads, writer);
            writer.notify(&Notify::new(kind, &[]));
        });
        assert_eq!(sim.event_names(0), ["ike_established", "child_failed"]);
        assert_eq!(child_failure(&sim, 0).name(), name);
    }
}

#[test]
fn every_refusal_of_the_peer_is_understood() {
    for (kind, name) in [
        (NotifyType::AUTHENTICATION_FAILED, "authentication_failed"),
        (NotifyType::INVALID_SYNTAX, "invalid_syntax"),
        (
            NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD,
            "unsupported_critical_payload",
        ),
        (NotifyType::NO_PROPOSAL_CHOSEN, "no_proposal_chosen"),
        (NotifyType::TEMPORARY_FAILURE, "peer_notify"),
    ] {
        let (sim, _) = with_changed(3, |_, writer| {
            writer.notify(&Notify::new(kind, &[]));
        });
        assert_eq!(sim.event_names(0), ["child_failed", "ike_failed"]);
        assert_eq!(ike_failure(&sim, 0).name(), name);
        assert!(sim.nodes[0].endpoint.ike_sas().next().is_none());
    }
}

#[test]
fn what_was_not_offered_is_not_accepted() {
    let wide = TrafficSelector {
        start: [0, 0, 0, 0].into(),
        ..range("10.1.0.0/16")
    };
    let (mut sim, forge) = with_changed(3, |payloads, writer| {
        without(&[PayloadType::TS_I])(payloads, writer);
        writer.ts_i(&[wide]);
    });
    assert_eq!(child_failure(&sim, 0).name(), "not_offered");
    // The responder believes in it until it is told.
    let delete = sim.outbox.last().map(|datagram| forge.read(datagram));
    assert_eq!(delete.as_deref(), Some("INFORMATIONAL request 2 D(ESP 1)"));
    answer(&mut sim, &forge);

    let (sim, _) = with_changed(3, |payloads, writer| {
        without(&[PayloadType::SA])(payloads, writer);
        let transforms = vec![
            Transform::encr(EncrId::NULL, None),
            Transform::esn(EsnId(0)),
        ];
        writer.sa(&[Proposal::esp(1, Spi(0x7777), transforms)]);
    });
    assert_eq!(child_failure(&sim, 0).name(), "not_offered");

    let (sim, _) = with_changed(
        3,
        and(|writer| {
            writer.notify(&Notify::new(NotifyType::USE_TRANSPORT_MODE, &[]));
        }),
    );
    assert_eq!(child_failure(&sim, 0), ChildFailure::ModeMismatch("tunnel"));

    let (sim, _) = with_changed(3, without(&[PayloadType::TS_R]));
    assert_eq!(
        child_failure(&sim, 0),
        ChildFailure::Missing(PayloadType::TS_R)
    );
}

#[test]
fn a_response_that_does_not_prove_the_responder_is_refused() {
    let failed = "INFORMATIONAL request 2 N(AUTHENTICATION_FAILED)";
    let wrong_method = |payloads: &[Payload<'_>], writer: &mut PayloadWriter<'_>| {
        without(&[PayloadType::AUTH])(payloads, writer);
        writer.auth(AuthMethodId::RSA_SIGNATURE, &[0; 64]);
    };
    let (mut sim, forge) = with_changed(3, wrong_method);
    assert_eq!(
        ike_failure(&sim, 0).to_string(),
        "authentication failed: the peer uses authentication method 1"
    );
    assert_eq!(answer(&mut sim, &forge), failed);
    let (mut sim, forge) = with_changed(3, without(&[PayloadType::ID_R]));
    assert_eq!(answer(&mut sim, &forge), failed);
    let (mut sim, forge) = with_changed(3, |payloads, writer| {
        without(&[PayloadType::ID_R])(payloads, writer);
        writer.id_r(IdType::FQDN, b"elsewhere.example.com");
    });
    assert_eq!(ike_failure(&sim, 0).name(), "wrong_identity");
    assert_eq!(answer(&mut sim, &forge), failed);
    let (mut sim, forge) = with_changed(
        3,
        and(|writer| {
            writer.raw(PayloadType(200), true, b"?");
        }),
    );
    assert_eq!(
        answer(&mut sim, &forge),
        "INFORMATIONAL request 2 N(UNSUPPORTED_CRITICAL_PAYLOAD)"
    );
}
