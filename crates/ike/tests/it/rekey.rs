//! Renewing child SAs and IKE SAs, and further child SAs, when nothing comes in between (RFC 7296 §1.3, §2.8, §2.18).

use std::sync::Arc;
use std::time::Duration;

use cygnet_crypto::{EspProposal, KeyExchange};
use cygnet_ike::*;
use cygnet_wire::ExchangeType;

use crate::forge::Forge;
use crate::pair::*;
use crate::sim::*;

/// The only child SA of a node's endpoint.
fn only_child(sim: &Sim, node: usize) -> ChildSaInfo {
    let children: Vec<_> = sim.nodes[node].endpoint.child_sas().collect();
    let [child] = children.try_into().expect("there is one child SA");
    child
}

/// The only IKE SA of a node.
fn only_ike(sim: &Sim, node: usize) -> IkeSaInfo {
    let sas: Vec<_> = sim.nodes[node].endpoint.ike_sas().collect();
    let [ike] = sas.try_into().expect("there is one IKE SA");
    ike
}

/// Events since the SAs were there.
fn events(sim: &Sim, node: usize) -> Vec<&'static str> {
    sim.event_names(node).split_off(2)
}

fn pfs(text: &str) -> Vec<EspProposal> {
    EspProposal::parse_ipsec_conf(text).unwrap()
}

#[test]
fn a_child_sa_is_renewed_by_either_end() {
    for node in 0..2 {
        let mut sim = run(Pair::default());
        let old = only_child(&sim, node);
        sim.act(node, |endpoint, now| endpoint.rekey_child(now, old.id));
        // Once more does not begin anew.
        sim.act(node, |endpoint, now| endpoint.rekey_child(now, old.id));
        sim.run_for(s(1));
        for n in 0..2 {
            assert_eq!(events(&sim, n), ["child_established", "child_closed"]);
            assert!(matches!(
                sim.nodes[n].events.last(),
                Some(Event::ChildClosed {
                    reason: ChildCloseReason::Rekeyed,
                    ..
                })
            ));
        }
        let new = only_child(&sim, node);
        assert_eq!(new.replaces, Some(old.id));
        assert_eq!((new.ts_local, new.ts_remote), (old.ts_local, old.ts_remote));
        assert_ne!(new.spi_in, old.spi_in);
        assert_eq!(
            sim.lines().iter().filter(|l| l.contains("CREATE")).count(),
            2
        );
        sim.assert_agreement(0, 1);
    }
}

//= rfc7296#2.8
//= type=test
//# When rekeying an SA, the responder
//# continues to send traffic on the old SA until one of those events
//# occurs.
#[test]
fn the_responder_sends_on_the_old_child_sa_until_that_is_deleted() {
    let mut sim = run(Pair::default());
    sim.manual = true;
    let old = only_child(&sim, 1).id;
    let child = only_child(&sim, 0).id;
    sim.act(0, |endpoint, now| endpoint.rekey_child(now, child));
    sim.run_for(s(0));
    sim.exchange();
    // West has answered: it can receive on both, and sends on the old one.
    assert_eq!(sim.nodes[1].plane.installed.len(), 2);
    assert_eq!(sim.nodes[1].plane.sending, [old]);
    let new = sim.nodes[1]
        .endpoint
        .child_sas()
        .find(|c| c.id != old)
        .unwrap();
    assert!(!new.outbound);
    // East has the response: it sends on the new one, and has asked for the deletion of the old one.
    sim.exchange();
    assert_eq!(sim.nodes[0].plane.sending.len(), 2);
    assert_eq!(sim.nodes[0].plane.sending[0], child);
    // West has the Delete.
    sim.exchange();
    assert_eq!(sim.nodes[1].plane.sending, [new.id]);
    sim.exchange();
    sim.assert_agreement(0, 1);
}

//= rfc7296#1.3
//= type=test
//# If the responder selects a proposal using a
//# different Diffie-Hellman group (other than NONE), the responder MUST
//# reject the request and indicate its preferred Diffie-Hellman group in
//# the INVALID_KE_PAYLOAD Notify payload.
#[test]
fn forward_secrecy_with_the_method_that_the_responder_wants() {
    let mut pair = Pair::default();
    pair.east_child.proposals = pfs("aes_gcm_16_256-dh31+dh19");
    pair.west_child.proposals = pfs("aes_gcm_16_256-dh19");
    let mut sim = run(pair);
    for (node, requests) in [(0, 2), (1, 1)] {
        let before = sim.lines().len();
        let old = only_child(&sim, node);
        sim.act(node, |endpoint, now| endpoint.rekey_child(now, old.id));
        sim.run_for(s(1));
        let new = only_child(&sim, node);
        assert_eq!(new.replaces, Some(old.id));
        assert_eq!(new.suite.key_exchange, Some(KeyExchange::Ecp256));
        let lines = sim.lines().split_off(before);
        let asked = |l: &&String| l.contains("CREATE_CHILD_SA request");
        assert_eq!(lines.iter().filter(asked).count(), requests);
        sim.assert_agreement(0, 1);
    }
}

#[test]
fn without_forward_secrecy_in_common_the_old_child_sa_stands() {
    let mut pair = Pair::default();
    pair.east_child.proposals = pfs("aes_gcm_16_256-dh31");
    let mut sim = run(pair);
    let old = only_child(&sim, 0);
    sim.act(0, |endpoint, now| endpoint.rekey_child(now, old.id));
    sim.run_for(s(1));
    for (node, role) in [(0, Role::Initiator), (1, Role::Responder)] {
        assert_eq!(events(&sim, node), ["child_rekey_failed"]);
        // Who did not ask has nothing to make up for.
        assert!(matches!(
            sim.nodes[node].events.last(),
            Some(Event::ChildRekeyFailed { role: r, .. }) if *r == role
        ));
    }
    assert_eq!(only_child(&sim, 0).id, old.id);
    sim.assert_agreement(0, 1);
}

#[test]
fn an_ike_sa_is_renewed_by_either_end_and_takes_its_children_along() {
    for node in 0..2 {
        let mut sim = run(Pair::default());
        let (old, child) = (only_ike(&sim, node), only_child(&sim, node));
        sim.act(node, |endpoint, now| endpoint.rekey_ike(now, old.id));
        sim.run_for(s(1));
        for n in 0..2 {
            assert_eq!(
                events(&sim, n),
                ["ike_established", "children_moved", "ike_closed"]
            );
            let new = only_ike(&sim, n);
            //= rfc7296#2.18
            //= type=test
            //# The new IKE SA MUST reset its message counters to 0.
            assert_eq!((new.next_request, new.next_peer_request), (0, 0));
            let begun = if n == node {
                Role::Initiator
            } else {
                Role::Responder
            };
            assert_eq!(new.role, begun);
        }
        let new = only_ike(&sim, node);
        assert_eq!((new.replaces, new.children), (Some(old.id), vec![child.id]));
        assert_ne!(new.initiator_spi, old.initiator_spi);
        assert_eq!(only_child(&sim, node).ike, new.id);
        // The child SA lives on and obeys the new one.
        sim.act(1 - node, |endpoint, now| {
            let child = endpoint.child_sas().next().unwrap().id;
            endpoint.rekey_child(now, child);
        });
        sim.run_for(s(1));
        assert_eq!(only_child(&sim, node).replaces, Some(child.id));
        sim.run_for(s(200));
        sim.assert_agreement(0, 1);
    }
}

#[test]
fn further_child_sas_under_one_ike_sa() {
    let mut pair = Pair::default();
    pair.west_config.max_children = 3;
    let mut sim = run(pair);
    let ike = only_ike(&sim, 0).id;
    let config = sim.nodes[0].book.peers[0].children[0].clone();
    for _ in 0..3 {
        let request = ChildRequest {
            config: Arc::clone(&config),
            acquire: None,
        };
        let child = sim.act(0, |endpoint, now| endpoint.create_child(now, ike, request));
        assert!(child.is_some());
    }
    sim.run_for(s(2));
    assert_eq!(
        events(&sim, 0),
        ["child_established", "child_established", "child_failed"]
    );
    assert_eq!(child_failure(&sim, 0), ChildFailure::NoAdditionalSas);
    assert_eq!(child_failure(&sim, 1), ChildFailure::TooMany);
    sim.assert_agreement(0, 1);
    // All of them change hands, and each can be renewed.
    sim.act(1, |endpoint, now| {
        let ike = endpoint.ike_sas().next().unwrap().id;
        endpoint.rekey_ike(now, ike);
    });
    sim.run_for(s(1));
    let children: Vec<_> = sim.nodes[0].endpoint.child_sas().map(|c| c.id).collect();
    assert_eq!(children.len(), 3);
    for child in children {
        sim.act(0, |endpoint, now| endpoint.rekey_child(now, child));
    }
    sim.run_for(s(2));
    assert_eq!(sim.nodes[0].endpoint.child_sas().count(), 3);
    // The old IKE SA answers repetitions for a while.
    sim.run_for(s(100));
    sim.assert_agreement(0, 1);
}

/// Each renewal leaves an IKE SA behind, for as long as the peer likes not to delete it: there are not too many of them.
#[test]
fn a_peer_that_does_nothing_but_renew_is_put_off() {
    let mut pair = Pair::default();
    pair.east_config.key_log = true;
    let mut sim = run(pair);
    for _ in 0..50 {
        let ike = sim.nodes[0].endpoint.ike_sas().last().map(|info| info.id);
        sim.act(0, |endpoint, now| {
            ike.into_iter().for_each(|ike| endpoint.rekey_ike(now, ike));
        });
        sim.run_for(Duration::from_millis(100));
    }
    let renewed = sim.event_names(1);
    let renewed = renewed.iter().filter(|name| **name == "ike_established");
    let renewed = renewed.count() - 1;
    assert!((5..=24).contains(&renewed), "{renewed} in five seconds");
    sim.run_for(s(300));
    sim.assert_agreement(0, 1);
}

/// An IKE SA that the peer has renewed and does not delete waits quietly for its own last request to be answered, before
/// it says that it ends.
#[test]
fn a_left_over_ike_sa_comes_to_rest() {
    let mut pair = Pair::default();
    pair.east_config.key_log = true;
    let mut sim = run(pair);
    let mut east = Forge::new(&sim, 0, Role::Initiator);
    let ike = only_ike(&sim, 0).id;
    sim.manual = true;
    sim.act(0, |endpoint, now| endpoint.rekey_ike(now, ike));
    for request in sim.sent() {
        sim.deliver(request);
    }
    assert_eq!(sim.sent().len(), 1, "the answer, which is lost");
    sim.manual = false;
    let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    sim.broken.push((address(EAST), address(WEST)));
    sim.run_for(s(119));
    // West complains of a Message ID, and nobody answers.
    let ahead = east.message(ExchangeType::INFORMATIONAL, false, 99, |_| {});
    sim.deliver(ahead);
    sim.run_for(s(300));
    assert!(sim.nodes[1].endpoint.size() <= 1);
}

#[test]
fn a_child_sa_whose_successor_is_being_installed_is_not_renewed_again() {
    let mut sim = run(Pair::default());
    let old = only_child(&sim, 0).id;
    sim.act(0, |endpoint, now| endpoint.rekey_child(now, old));
    sim.run_for(Duration::ZERO);
    sim.nodes[0].plane.hold = true;
    sim.run_for(s(1));
    sim.act(0, |endpoint, now| endpoint.rekey_child(now, old));
    // An SPI is had faster than an SA is installed.
    sim.nodes[0].held.reverse();
    sim.release(0);
    sim.run_for(s(1));
    let creations = sim.lines().iter().filter(|l| l.contains("CREATE")).count();
    assert_eq!(creations, 2);
    assert_eq!(only_child(&sim, 0).replaces, Some(old));
    sim.assert_agreement(0, 1);
}

#[test]
fn a_liveness_check_that_is_due_waits_for_the_data_plane_in_peace() {
    let mut pair = Pair::default();
    pair.east.liveness = Some(s(20));
    let mut sim = run(pair);
    let old = only_child(&sim, 0).id;
    sim.nodes[0].plane.hold = true;
    sim.act(0, |endpoint, now| endpoint.rekey_child(now, old));
    // It would not come to rest.
    sim.run_for(s(30));
    let due = sim.nodes[0].endpoint.next_timeout();
    assert!(due.is_some_and(|due| due > sim.now));
    sim.release(0);
    sim.run_for(s(1));
    assert_eq!(only_child(&sim, 0).replaces, Some(old));
    sim.assert_agreement(0, 1);
}

/// What a request of `east` says, and of what the SA is that it names.
fn asked(act: impl FnOnce(&mut Endpoint, std::time::Instant, IkeSaInfo)) -> String {
    let mut pair = Pair::default();
    pair.east_config.key_log = true;
    let mut sim = run(pair);
    let west = Forge::new(&sim, 0, Role::Responder);
    let ike = only_ike(&sim, 0);
    sim.manual = true;
    sim.act(0, |endpoint, now| act(endpoint, now, ike));
    sim.run_for(s(0));
    west.read(&sim.outbox[0])
}

//= rfc7296#1.3.3
//= type=test
//# The REKEY_SA notification MUST be included in a CREATE_CHILD_SA
//# exchange if the purpose of the exchange is to replace an existing ESP
//# or AH SA.
//= rfc7296#1.3.2
//= type=test
//# The KEi
//# payload MUST be included.
#[test]
fn a_renewal_says_what_it_renews_and_brings_a_key_for_a_new_ike_sa() {
    let said = asked(|endpoint, now, ike| endpoint.rekey_child(now, ike.children[0]));
    assert_eq!(
        said,
        "CREATE_CHILD_SA request 2 N(REKEY_SA) SA Nonce TSi TSr"
    );
    let said = asked(|endpoint, now, ike| endpoint.rekey_ike(now, ike.id));
    assert_eq!(said, "CREATE_CHILD_SA request 2 SA Nonce KE");
}
