//! What a gateway says where it has no ticket to give, and identities of a session that change (RFC 5723 §4.1, §4.3.3).

use super::*;

//= rfc5723#4.1
//= type=test
//# Regardless of this choice, there is no change to the behavior of the
//# responder with respect to the IKE exchange, and the proper IKE
//# response (e.g., an IKE_AUTH response or an error notification) MUST
//# be sent.
//= rfc5723#4.2
//= type=test
//# When a multi-round-trip IKE_AUTH exchange is used, the
//# N(TICKET_REQUEST) payload MUST be included in the first IKE_AUTH
//# request
#[test]
fn who_has_no_ticket_to_give_says_so_and_goes_on() {
    let (_, request, keys) = stopped_at(2, || resuming().sim(1));
    let said = Forge::with_keys(keys, Role::Responder).read(&request);
    assert!(said.starts_with("IKE_AUTH request 1 "), "{said}");
    assert!(said.ends_with(" N(TICKET_REQUEST)"), "{said}");
    // It has no keys for tickets.
    let (mut sim, response, keys) = stopped_at(3, || resuming().sim(1));
    let said = Forge::with_keys(keys, Role::Initiator).read(&response);
    assert!(said.starts_with("IKE_AUTH response 1 IDr AUTH "), "{said}");
    assert!(said.ends_with(" SA TSi TSr N(TICKET_NACK)"), "{said}");
    sim.deliver(response);
    sim.run_for(s(0));
    sim.assert_agreement(0, 1);
    assert!(info(&sim, 0).ticket.is_none());
    // Nor does an error wait for a ticket.
    let mut pair = resuming();
    pair.west_psk = b"another".to_vec();
    let mut sim = pair.sim(1);
    set_keys(&mut sim, 1, &[1]);
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    assert_eq!(ike_failure(&sim, 0).name(), "authentication_failed");
}

/// A world in which `east` resumes with the kind of AUTH data that says nothing of the ID payloads, stopped before the
/// `index`th datagram of that, and the keys that it comes to.
fn resumption_stopped_at(index: usize) -> (Sim, Datagram, Box<IkeKeyLog>) {
    let world = |until: usize| {
        let mut sim = connected(resuming());
        let ticket = lose_west(&mut sim).unwrap();
        // Its configuration permits any identity.
        let book = Arc::make_mut(&mut sim.nodes[0].book);
        Arc::make_mut(&mut book.peers[0]).remote_id = PeerIdentity::Any;
        sim.manual = true;
        resume_with(&mut sim, &ticket, ResumptionAuth::FirstMessage);
        for _ in 0..until {
            sim.exchange();
        }
        sim.run_for(s(0));
        sim
    };
    let whole = world(4);
    let keys = whole.nodes[0].events.iter().find_map(|event| match event {
        Event::IkeEstablished { keys, .. } => keys.clone(),
        _ => None,
    });
    let mut sim = world(index);
    let datagram = sim.sent().remove(0);
    (sim, datagram, keys.expect("it is resumed"))
}

//= rfc5723#4.3.3
//= type=test
//# As a result, the IDr value
//# sent (by the gateway, and optionally by the client) in this exchange
//# MUST also be identical to the value included in the ticket.
//= rfc5723#4.3.3
//= type=test
//# The IDi value sent in the IKE_AUTH exchange MUST be identical to the
//# value included in the ticket.
#[test]
fn identities_are_those_of_the_session() {
    let other = b"north.example.com";
    let (mut sim, request, keys) = resumption_stopped_at(2);
    let changed = Forge::with_keys(keys, Role::Initiator).edit(&request, |payloads, writer| {
        for payload in payloads {
            match payload {
                Payload::IdI(_) => writer.id_i(IdType::FQDN, other),
                payload => writer.any(payload),
            };
        }
    });
    sim.deliver(changed);
    assert_eq!(ike_failure(&sim, 1).name(), "wrong_identity");
    assert_eq!(sim.nodes[1].endpoint.stats().resumed, 0);

    let (mut sim, response, keys) = resumption_stopped_at(3);
    let changed = Forge::with_keys(keys, Role::Responder).edit(&response, |payloads, writer| {
        for payload in payloads {
            match payload {
                Payload::IdR(_) => writer.id_r(IdType::FQDN, other),
                payload => writer.any(payload),
            };
        }
    });
    sim.deliver(changed);
    assert_eq!(ike_failure(&sim, 0).name(), "wrong_identity");
}

/// Nobody but an authenticated peer, or its silence, makes the initiator give an IKE SA up for its ticket.
//= rfc5723#9.4
//= type=test
//# In particular, untrusted messages MUST NOT be relied upon to make this
//# decision.
#[test]
fn a_stranger_makes_nobody_resume() {
    let mut sim = connected(resuming());
    let before = info(&sim, 0);
    sim.crash(1);
    sim.manual = true;
    sim.act(0, |e, now| e.check_liveness(now, before.id));
    sim.exchange();
    let hint = sim.sent().remove(0);
    assert!(describe(&hint).ends_with("N(INVALID_IKE_SPI)"));
    for _ in 0..100 {
        sim.deliver(hint.clone());
    }
    let after = info(&sim, 0);
    assert_eq!((after.id, after.ticket), (before.id, before.ticket));
    assert!(!sim.event_names(0).contains(&"ike_closed"));
}
