//! IKE SAs without a child SA in IKE_AUTH (RFC 6023).

use std::sync::Arc;

use cygnet_crypto::{EspProposal, KeyExchange};
use cygnet_ike::*;
use cygnet_wire::{Message, NotifyType, Payload, PayloadType, ProtocolId};

use crate::forge::{Forge, stopped_at};
use crate::pair::*;
use crate::sim::Sim;

use Childless::{Allow, Force, Never, Prefer};

fn pair(east: Childless, west: Childless) -> Pair {
    let mut pair = Pair::default();
    (pair.east.childless, pair.west.childless) = (east, west);
    let proposals = EspProposal::parse_ipsec_conf("aes_gcm256-dh31").unwrap();
    pair.east_child.proposals = proposals.clone();
    pair.west_child.proposals = proposals;
    pair
}

/// East begins without a child SA to make.
fn bare(pair: Pair) -> Sim {
    let mut sim = pair.sim(1);
    let peer = sim.nodes[0].book.peers[0].clone();
    sim.initiate_with(0, WEST, peer, None);
    sim.run_for(s(1));
    sim
}

fn exchanges(sim: &Sim, name: &str) -> usize {
    sim.trace.iter().filter(|line| line.contains(name)).count()
}

fn failure(sim: &Sim, node: usize) -> &'static str {
    let reasons = sim.nodes[node].events.iter().find_map(|event| match event {
        Event::IkeFailed { reason, .. } => Some(reason.name()),
        _ => None,
    });
    reasons.expect("the IKE SA has failed")
}

//= rfc6023#3
//= type=test
//# A supporting initiator MAY send the modified IKE_AUTH request,
//# described in Section 5, if the notification was included in the
//# IKE_SA_INIT response.  The initiator MUST NOT send the modified
//# IKE_AUTH request if the notification was not present.
#[test]
fn the_first_child_comes_by_an_exchange_of_its_own_if_both_want_it() {
    for ours in [Never, Allow, Prefer, Force] {
        for theirs in [Never, Allow, Prefer, Force] {
            let childless = theirs != Never && matches!(ours, Prefer | Force);
            let impossible = match childless {
                true => false,
                false => ours == Force || theirs == Force,
            };
            let sim = run(pair(ours, theirs));
            let what = format!("{ours:?} to {theirs:?}");
            if impossible {
                assert_eq!(sim.nodes[0].endpoint.ike_sas().count(), 0, "{what}");
                continue;
            }
            established(&sim);
            for node in 0..2 {
                let info = sim.nodes[node].endpoint.ike_sas().next().unwrap();
                assert_eq!(info.childless, childless, "{what}");
                // Keys of its own, which IKE_AUTH cannot give it.
                let own = child(&sim, node).suite.key_exchange;
                assert_eq!(own, childless.then_some(KeyExchange::X25519), "{what}");
            }
            let messages = if childless { 2 } else { 0 };
            assert_eq!(exchanges(&sim, "CREATE_CHILD_SA"), messages, "{what}");
        }
    }
}

#[test]
fn who_insists_is_not_content_with_less() {
    let sim = run(pair(Force, Never));
    assert_eq!(sim.event_names(0), ["child_failed", "ike_failed"]);
    assert_eq!(failure(&sim, 0), "childless_unsupported");
    assert_eq!(exchanges(&sim, "IKE_AUTH"), 0);

    let mut sim = run(pair(Allow, Force));
    assert_eq!(failure(&sim, 0), "invalid_syntax");
    assert_eq!(failure(&sim, 1), "childless_required");
    assert!(sim.nodes[1].plane.installed.is_empty());
    sim.run_for(s(100));
    sim.assert_agreement(0, 1);
}

//= rfc6023#3
//= type=test
//# A supporting responder that has advertised support by including the
//# notification in the IKE_SA_INIT response MUST process a modified
//# IKE_AUTH request, and MUST reply with a modified IKE_AUTH response.
#[test]
fn an_ike_sa_may_stay_without_child() {
    let sim = bare(pair(Allow, Allow));
    assert_eq!(sim.event_names(0), ["ike_established"]);
    assert_eq!(sim.event_names(1), ["ike_established"]);
    sim.assert_agreement(0, 1);
}

#[test]
fn without_the_offer_no_ike_sa_is_made_without_child() {
    let sim = bare(pair(Allow, Never));
    assert_eq!(sim.event_names(0), ["ike_failed"]);
}

#[test]
fn after_a_rekey_it_is_still_known() {
    let mut sim = run(pair(Prefer, Allow));
    let ike = sim.nodes[0].endpoint.ike_sas().next().unwrap().id;
    sim.act(0, |endpoint, now| endpoint.rekey_ike(now, ike));
    sim.run_for(s(200));
    sim.assert_agreement(0, 1);
    let info = sim.nodes[1].endpoint.ike_sas().next().unwrap();
    assert!(info.childless && info.replaces.is_some());
}

//= rfc6023#3
//= type=test
//# A supporting responder that has been configured not to support this
//# extension to the protocol MUST behave as the same as if it didn't
//# support this extension.  It MUST NOT advertise the capability with a
//# notification
#[test]
fn one_candidate_that_cannot_keeps_the_offer_back() {
    let offered = |also: Childless| {
        let mut sim = pair(Allow, Allow).sim(1);
        let book = Arc::make_mut(&mut sim.nodes[1].book);
        let mut other = (*book.peers[0]).clone();
        (other.name, other.childless) = ("other".to_owned(), also);
        book.peers.push(other.into());
        sim.restart_quietly(1);
        sim.initiate(0, WEST);
        sim.run_for(s(1));
        established(&sim);
        sim.lines()[1].contains("N(CHILDLESS_IKEV2_SUPPORTED)")
    };
    assert!(offered(Force));
    assert!(!offered(Never));
}

//= rfc6023#3
//= type=test
//# it SHOULD reply with an INVALID_SYNTAX Notify
//# payload if the client sends an IKE_AUTH request that is modified as
//# described in Section 5.
#[test]
fn a_peer_that_was_not_offered_it_is_refused() {
    let (mut sim, request, keys) = stopped_at(2, || pair(Allow, Never).sim(1));
    let mut forge = Forge::with_keys(keys, Role::Initiator);
    let without_child = forge.edit(&request, |payloads, writer| {
        let of_child = [PayloadType::SA, PayloadType::TS_I, PayloadType::TS_R];
        for payload in payloads {
            if !of_child.contains(&payload.payload_type()) {
                writer.any(payload);
            }
        }
    });
    sim.deliver(without_child);
    let answers: Vec<_> = sim.sent().iter().map(|sent| forge.read(sent)).collect();
    assert_eq!(answers, ["IKE_AUTH response 1 N(INVALID_SYNTAX)"]);
    assert_eq!(failure(&sim, 1), "invalid_syntax");
    assert_eq!(sim.nodes[1].endpoint.ike_sas().count(), 0);
}

//= rfc6023#4
//= type=test
//# Protocol ID (1 octet) MUST be 1, as this message is related to an
//# IKEv2 SA.
//= rfc6023#3
//= type=test
//# A supporting responder MUST include the Notify payload,
//# described in Section 4, within the IKE_SA_INIT response.
//= rfc6023#4
//= type=test
//# SPI Size (1 octet) MUST be zero, in conformance with section 3.10 of
//# [RFC5996].
//= rfc6023#4
//= type=test
//# Childless Notify Message Type (2 octets) - MUST be 16418, the value
//# assigned for CHILDLESS_IKEV2_SUPPORTED.
#[test]
fn the_notification_has_the_octets_of_the_rfc() {
    let (_, response, _) = stopped_at(1, || pair(Allow, Allow).sim(1));
    // No more payloads or fragmentation next; 8 octets: protocol 1, no SPI, 16418.
    let octets = [0, 8, 1, 0, 0x40, 0x22];
    assert!(response.bytes.windows(6).any(|window| window == octets));
    let message = Message::parse(&response.bytes).unwrap();
    let notify = message.payloads().find_map(|payload| match payload {
        Ok(Payload::Notify(n)) if n.kind == NotifyType::CHILDLESS_IKEV2_SUPPORTED => Some(n),
        _ => None,
    });
    let notify = notify.expect("it is offered");
    assert_eq!(notify.protocol, ProtocolId::IKE);
    assert!(notify.spi.is_empty() && notify.data.is_empty());
}

#[test]
fn a_child_that_is_refused_afterwards_leaves_the_ike_sa_alone() {
    let mut pair = pair(Prefer, Allow);
    pair.west_child.proposals = EspProposal::parse_ipsec_conf("aes_gcm128-dh31").unwrap();
    let sim = run(pair);
    assert_eq!(sim.event_names(0), ["ike_established", "child_failed"]);
    sim.assert_agreement(0, 1);
    assert!(sim.nodes[0].plane.reserved.is_empty());
}

#[test]
fn what_is_given_up_meanwhile_is_not_made() {
    let mut sim = pair(Prefer, Allow).sim(1);
    sim.nodes[0].plane.hold = true;
    let ike = sim.initiate(0, WEST);
    sim.run_for(s(1));
    assert_eq!(sim.event_names(0), ["ike_established"]);
    sim.act(0, |endpoint, now| endpoint.delete_ike(now, ike));
    sim.release(0);
    sim.run_for(s(100));
    for node in &sim.nodes {
        assert_eq!(node.endpoint.ike_sas().count(), 0);
        assert!(node.plane.installed.is_empty() && node.plane.reserved.is_empty());
    }
}

//= rfc6023#3
//= type=test
//# Such a responder MUST NOT reply with a modified IKE_AUTH response if
//# the initiator did not send a modified IKE_AUTH request.
#[test]
fn who_asks_for_a_child_sa_in_ike_auth_is_answered_there() {
    let (_, response, keys) = stopped_at(3, || pair(Never, Allow).sim(1));
    let said = Forge::with_keys(keys, Role::Initiator).read(&response);
    assert!(said.ends_with(" SA TSi TSr"), "{said}");
}
