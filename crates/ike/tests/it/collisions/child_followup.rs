//! The renewal of a child SA with additional key exchanges, alone and where it meets another exchange (RFC 9370 §2.2.4).
//!
//! Until the last IKE_FOLLOWUP_KE is over there is nothing new: who loses a collision stops, and deletes nothing.

use cygnet_crypto::EspProposal;
use cygnet_wire::ExchangeType;

use super::*;

const THREE: &str = "aes_gcm_16_256-dh31;addke1=dh19;addke5=dh20";

fn esp(text: &str) -> Vec<EspProposal> {
    EspProposal::parse_ipsec_conf(text).unwrap()
}

fn pair(east: &str, west: &str) -> Pair {
    let mut pair = Pair::default();
    pair.east_child.proposals = esp(east);
    pair.west_child.proposals = esp(west);
    pair
}

/// A test with each end in each part, where both do three key exchanges.
fn both(test: impl Fn(Lab)) {
    for turned in [false, true] {
        test(Lab::new(pair(THREE, THREE), turned));
    }
}

fn with_lowest(nonces: &[Nonce], test: impl Fn(Lab, Nonce)) {
    for lowest in nonces {
        both(|lab| test(lab, *lowest));
    }
}

const EAST_LOSES: [Nonce; 2] = [Nonce::EastInitiator, Nonce::EastResponder];
const WEST_LOSES: [Nonce; 2] = [Nonce::WestInitiator, Nonce::WestResponder];
const EACH: [Nonce; 4] = [
    Nonce::EastInitiator,
    Nonce::EastResponder,
    Nonce::WestInitiator,
    Nonce::WestResponder,
];

fn exchange_of(datagram: &Datagram) -> ExchangeType {
    Message::parse(&datagram.bytes).unwrap().header().exchange
}

/// The next request of an end, which is an additional key exchange.
#[track_caller]
fn followup(lab: &mut Lab, end: usize) -> Datagram {
    let request = lab.request(end);
    assert_eq!(exchange_of(&request), ExchangeType::IKE_FOLLOWUP_KE);
    assert_eq!(lab.read(&request), "N(ADDITIONAL_KEY_EXCHANGE)");
    request
}

/// Both additional key exchanges of an end, all the way.
#[track_caller]
fn both_followups(lab: &mut Lab, end: usize) {
    let first = followup(lab, end);
    let response = lab.answer(&first);
    assert_eq!(lab.read(&response), "N(ADDITIONAL_KEY_EXCHANGE)");
    lab.deliver(&response);
    let last = followup(lab, end);
    let response = lab.answer(&last);
    assert_eq!(lab.read(&response), "");
    lab.deliver(&response);
}

#[test]
fn either_end_renews_it() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        let response = lab.answer(&request);
        assert_eq!(lab.read(&response), "N(ADDITIONAL_KEY_EXCHANGE)");
        lab.deliver(&response);
        let first = followup(&mut lab, E);
        lab.exchange(&first);
        let last = followup(&mut lab, E);
        lab.planes("e1>w1", "w1>e1");
        let response = lab.answer(&last);
        assert_eq!(lab.read(&response), "");
        lab.planes("e1>w1", "w1>e1 w2-e2");
        lab.tells(&[], &["child w2 e2"]);
        lab.deliver(&response);
        lab.planes("e1+w1 e2>w2", "w1>e1 w2-e2");
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("e2>w2", "w2>e2");
        lab.tells(
            &["child e2 w2", "child_closed e1 rekeyed"],
            &["child_closed w1 rekeyed"],
        );
        for end in [E, W] {
            let child = lab.node(end).endpoint.child_sas().next().unwrap();
            assert_eq!(
                child.suite.to_string(),
                "AES_GCM_16_256-X25519-KE1_ECP_256-KE5_ECP_384-ESN"
            );
        }
        lab.silent();
        lab.finish();
    });
}

#[test]
fn the_method_that_the_peer_wants_is_tried() {
    for turned in [false, true] {
        let pair = pair(
            "aes_gcm_16_256-dh31+dh21;addke1=dh19",
            "aes_gcm_16_256-dh20+dh21;addke1=dh19",
        );
        let mut lab = Lab::new(pair, turned);
        lab.rekey(E, "e1");
        let request = lab.request(E);
        let response = lab.answer(&request);
        assert_eq!(lab.read(&response), "N(INVALID_KE_PAYLOAD)");
        lab.deliver(&response);
        let request = lab.request(E);
        lab.exchange(&request);
        let last = followup(&mut lab, E);
        lab.exchange(&last);
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("e2>w2", "w2>e2");
        lab.silent();
        lab.finish_with(
            &["child e2 w2", "child_closed e1 rekeyed"],
            &["child w2 e2", "child_closed w1 rekeyed"],
        );
    }
}

/// West's successor is there, and of east's no trace: west is the third to be given an SPI at east.
#[track_caller]
fn only_wests(mut lab: Lab) {
    lab.planes("e3>w2", "w2>e3");
    lab.tells(
        &["child e3 w2", "child_closed e1 rekeyed"],
        &["child w2 e3", "child_closed w1 rekeyed"],
    );
    assert!(lab.node(E).plane.reserved.is_empty());
    assert!(lab.node(W).plane.reserved.is_empty());
    lab.silent();
    lab.finish();
}

/// RFC 9370 §2.2.4: the initiator of the exchange with the lowest nonce stops, since there is nothing to delete.
#[test]
fn both_renew_it() {
    with_lowest(&EAST_LOSES, |mut lab, lowest| {
        let (e, w) = lab.both_rekey(lowest);
        let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        lab.deliver(&from_west);
        lab.planes("e1>w1", "w1>e1");
        both_followups(&mut lab, W);
        let delete = lab.request(W);
        lab.exchange(&delete);
        only_wests(lab);
    });
}

#[test]
fn both_renew_it_and_only_the_winner_has_more_key_exchanges() {
    for lowest in EAST_LOSES {
        for turned in [false, true] {
            // Who answers follows the order of who asks: east's exchange has one key exchange, west's three.
            let plain = "aes_gcm_16_256-dh31";
            let pair = match turned {
                false => pair(&format!("{plain}, {THREE}"), &format!("{THREE}, {plain}")),
                true => pair(&format!("{THREE}, {plain}"), &format!("{plain}, {THREE}")),
            };
            let mut lab = Lab::new(pair, turned);
            let (e, w) = lab.both_rekey(lowest);
            let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
            lab.planes("e1>w1", "w1>e1 w3-e2");
            lab.deliver(&from_east);
            lab.deliver(&from_west);
            lab.planes("e1>w1 e2-w3", "w1>e1 w3-e2");
            let redundant = lab.request(E);
            lab.exchange(&redundant);
            lab.planes("e1>w1", "w1>e1");
            lab.tells(
                &["child e2 w3", "child_closed e2 redundant"],
                &["child w3 e2", "child_closed w3 redundant"],
            );
            both_followups(&mut lab, W);
            let delete = lab.request(W);
            lab.exchange(&delete);
            only_wests(lab);
        }
    }
}

#[test]
fn both_renew_it_and_only_the_loser_has_more_key_exchanges() {
    for lowest in EAST_LOSES {
        for turned in [false, true] {
            let plain = "aes_gcm_16_256-dh31";
            let pair = match turned {
                true => pair(&format!("{plain}, {THREE}"), &format!("{THREE}, {plain}")),
                false => pair(&format!("{THREE}, {plain}"), &format!("{plain}, {THREE}")),
            };
            let mut lab = Lab::new(pair, turned);
            let (e, w) = lab.both_rekey(lowest);
            let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
            lab.deliver(&from_west);
            lab.silent();
            lab.deliver(&from_east);
            let delete = lab.request(W);
            lab.exchange(&delete);
            only_wests(lab);
        }
    }
}

#[test]
fn both_renew_it_and_the_losers_response_is_late() {
    // While the winner goes on, after it has come to its end, and after it has deleted the old one.
    for when in 0..4 {
        with_lowest(&EAST_LOSES, |mut lab, lowest| {
            let (e, w) = lab.both_rekey(lowest);
            let (from_east, late) = (lab.answer(&w), lab.answer(&e));
            let mut late = Some(late);
            let mut arrive = |lab: &mut Lab, now: usize| {
                if now == when {
                    lab.deliver(&late.take().unwrap());
                    lab.sim
                        .outbox
                        .iter()
                        .for_each(|d| assert_eq!(d.src.ip(), lab.sim.nodes[lab.at(W)].address));
                }
            };
            lab.deliver(&from_east);
            arrive(&mut lab, 0);
            let first = followup(&mut lab, W);
            lab.exchange(&first);
            arrive(&mut lab, 1);
            let last = followup(&mut lab, W);
            lab.exchange(&last);
            arrive(&mut lab, 2);
            let delete = lab.request(W);
            lab.exchange(&delete);
            arrive(&mut lab, 3);
            only_wests(lab);
        });
    }
}

#[test]
fn both_renew_it_and_the_winners_response_is_late() {
    with_lowest(&WEST_LOSES, |mut lab, lowest| {
        let (e, w) = lab.both_rekey(lowest);
        let (from_east, late) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        lab.silent();
        lab.deliver(&late);
        both_followups(&mut lab, E);
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("e2>w3", "w3>e2");
        lab.tells(
            &["child e2 w3", "child_closed e1 rekeyed"],
            &["child w3 e2", "child_closed w1 rekeyed"],
        );
        lab.silent();
        lab.finish();
    });
}

/// RFC 9370 §2.2.4: who has come as far as IKE_FOLLOWUP_KE says TEMPORARY_FAILURE.
#[test]
fn both_renew_it_and_one_does_not_notice() {
    for when in 0..3 {
        with_lowest(&EACH, |mut lab, lowest| {
            let (late, w) = lab.both_rekey(lowest);
            let refused = |lab: &mut Lab, now: usize| {
                if now == when {
                    let refusal = lab.answer(&late);
                    assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
                    lab.deliver(&refusal);
                }
            };
            lab.exchange(&w);
            let first = followup(&mut lab, W);
            refused(&mut lab, 0);
            lab.exchange(&first);
            let last = followup(&mut lab, W);
            refused(&mut lab, 1);
            lab.exchange(&last);
            let delete = lab.request(W);
            refused(&mut lab, 2);
            lab.exchange(&delete);
            only_wests(lab);
        });
    }
}

#[test]
fn both_renew_it_and_one_does_not_notice_at_all() {
    with_lowest(&EACH, |mut lab, lowest| {
        let (late, w) = lab.both_rekey(lowest);
        lab.exchange(&w);
        both_followups(&mut lab, W);
        let delete = lab.request(W);
        lab.exchange(&delete);
        let refusal = lab.answer(&late);
        assert_eq!(lab.read(&refusal), "N(CHILD_SA_NOT_FOUND)");
        lab.deliver(&refusal);
        only_wests(lab);
    });
}

#[test]
fn both_renew_it_and_the_winners_plane_is_slow() {
    with_lowest(&EAST_LOSES, |mut lab, lowest| {
        let (e, w) = lab.both_rekey(lowest);
        let from_east = lab.answer(&w);
        // West has not reserved an SPI for east's when its own has won: the answer to east's request is still owed.
        lab.node(W).plane.hold = true;
        lab.deliver(&e);
        lab.deliver(&from_east);
        let first = followup(&mut lab, W);
        lab.release(W);
        let from_west = lab.response(W);
        assert!(lab.node(W).plane.reserved.len() == 1, "that of its own");
        lab.deliver(&from_west);
        lab.exchange(&first);
        let last = followup(&mut lab, W);
        lab.exchange(&last);
        let delete = lab.request(W);
        lab.exchange(&delete);
        only_wests(lab);
    });
}

/// The old child SA goes by the responder's will: the renewal goes with it, whichever of the two is heard first.
#[test]
fn a_delete_crosses_its_key_exchanges() {
    for (delete_first, at) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
        both(|mut lab| {
            lab.rekey(E, "e1");
            let request = lab.request(E);
            lab.exchange(&request);
            let mut next = followup(&mut lab, E);
            if at == 1 {
                lab.exchange(&next);
                next = followup(&mut lab, E);
            }
            lab.delete(W, "w1");
            let delete = lab.request(W);
            if delete_first {
                lab.exchange(&delete);
            }
            let refusal = lab.answer(&next);
            assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
            lab.deliver(&refusal);
            if !delete_first {
                lab.exchange(&delete);
            }
            lab.planes("", "");
            lab.tells(
                &["child_closed e1 deleted_by_peer"],
                &["child_closed w1 deleted_by_us"],
            );
            lab.sim.run_for(s(60));
            lab.silent();
            assert!(lab.node(E).plane.reserved.is_empty());
            assert!(lab.node(W).plane.reserved.is_empty());
            lab.finish();
        });
    }
}

#[test]
fn its_initiator_deletes_the_old_one_meanwhile() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        lab.exchange(&request);
        let first = followup(&mut lab, E);
        lab.delete(E, "e1");
        lab.silent();
        lab.exchange(&first);
        let delete = lab.request(E);
        assert_eq!(lab.read(&delete), "D(ESP 1)");
        lab.exchange(&delete);
        lab.planes("", "");
        lab.tells(
            &["child_closed e1 deleted_by_us"],
            &["child_closed w1 deleted_by_peer"],
        );
        lab.sim.run_for(s(30));
        // West has waited for the rest in vain; what it was for is gone, so that there is nothing to tell.
        lab.finish();
    });
}

#[test]
fn the_successor_is_deleted_before_it_is_known() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        lab.exchange(&request);
        let first = followup(&mut lab, E);
        lab.exchange(&first);
        let last = followup(&mut lab, E);
        let late = lab.answer(&last);
        lab.delete(W, "w2");
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.deliver(&late);
        lab.planes("e1>w1", "w1>e1");
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("", "");
        lab.tells(
            &["child_closed e1 deleted_by_peer"],
            &[
                "child w2 e2",
                "child_closed w2 deleted_by_us",
                "child_closed w1 deleted_by_peer",
            ],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn a_renewal_of_the_ike_sa_is_put_off() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        lab.rekey_ike(W);
        let (child, ike) = (lab.request(E), lab.request(W));
        let refusal = lab.answer(&ike);
        assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
        lab.deliver(&refusal);
        lab.exchange(&child);
        let first = followup(&mut lab, E);
        lab.exchange(&first);
        let last = followup(&mut lab, E);
        lab.exchange(&last);
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("e2>w2", "w2>e2");
        lab.tells(
            &["child e2 w2", "child_closed e1 rekeyed"],
            &["child w2 e2", "child_closed w1 rekeyed"],
        );
        lab.finish_with(
            &["ike west's", "moved e2", "ike_closed first rekeyed"],
            &["ike west's", "moved w2", "ike_closed first rekeyed"],
        );
    });
}

#[test]
fn the_end_of_the_ike_sa_crosses_it() {
    for by in [E, W] {
        both(|mut lab| {
            lab.rekey(E, "e1");
            let request = lab.request(E);
            lab.exchange(&request);
            let first = followup(&mut lab, E);
            lab.delete_ike(by);
            if by == E {
                // It goes alone, and no further key exchange before it.
                lab.silent();
                lab.exchange(&first);
                let delete = lab.request(E);
                assert_eq!(lab.read(&delete), "D(IKE 0)");
                lab.exchange(&delete);
            } else {
                let delete = lab.request(W);
                let refusal = lab.answer(&first);
                assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
                lab.exchange(&delete);
                lab.deliver(&refusal);
            }
            lab.planes("", "");
            let (us, peer) = (
                "ike_closed first deleted_by_us",
                "ike_closed first deleted_by_peer",
            );
            let (east, west) = if by == E { (us, peer) } else { (peer, us) };
            lab.tells(
                &["child_closed e1 ike_sa_closed", east],
                &["child_closed w1 ike_sa_closed", west],
            );
            lab.silent();
            for end in [E, W] {
                assert!(lab.node(end).plane.reserved.is_empty());
            }
            lab.finish();
        });
    }
}

#[test]
fn both_ask_for_further_ones_at_once() {
    both(|mut lab| {
        lab.create(E);
        lab.create(W);
        let (e, w) = (lab.request(E), lab.request(W));
        lab.exchange(&e);
        lab.exchange(&w);
        let (e, w) = (followup(&mut lab, E), followup(&mut lab, W));
        lab.exchange(&e);
        lab.exchange(&w);
        let (e, w) = (followup(&mut lab, E), followup(&mut lab, W));
        lab.exchange(&w);
        lab.exchange(&e);
        lab.planes("e1+w1 e2>w3 e3+w2", "w1+e1 w2+e3 w3>e2");
        lab.silent();
        lab.finish_with(
            &["child e3 w2", "child e2 w3"],
            &["child w2 e3", "child w3 e2"],
        );
    });
}

#[test]
fn a_further_one_is_given_up_meanwhile() {
    both(|mut lab| {
        let child = lab.create(E);
        let request = lab.request(E);
        lab.exchange(&request);
        let first = followup(&mut lab, E);
        lab.act(E, |endpoint, now| endpoint.delete_child(now, child));
        lab.exchange(&first);
        lab.silent();
        lab.tells(&["child_failed cancelled"], &[]);
        assert!(lab.node(E).plane.reserved.is_empty());
        // The responder does not wait for ever.
        lab.sim.run_for(s(21));
        lab.tells(&[], &["child_failed unfinished"]);
        assert!(lab.node(W).plane.reserved.is_empty());
        lab.planes("e1>w1", "w1>e1");
        lab.finish();
    });
}

#[test]
fn a_key_exchange_waits_for_the_window() {
    for turned in [false, true] {
        let mut pair = pair(THREE, THREE);
        pair.east.window = 2;
        pair.west.window = 2;
        let mut lab = Lab::new(pair, turned);
        lab.sim.manual = false;
        lab.create(E);
        lab.sim.run_for(s(1));
        lab.sim.manual = true;
        lab.delete(E, "e2");
        let delete = lab.request(E);
        lab.rekey(E, "e1");
        let request = lab.request(E);
        lab.exchange(&request);
        // The Delete, which is older by one, is not answered.
        lab.silent();
        lab.exchange(&delete);
        both_followups(&mut lab, E);
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("e3>w3", "w3>e3");
        lab.told(E);
        lab.told(W);
        lab.finish();
    }
}

/// The responder waits 20 s; who comes later begins anew, but not for ever.
#[test]
fn a_responder_that_has_lost_its_state_is_asked_again() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        lab.exchange(&request);
        for times in 1.. {
            let first = followup(&mut lab, E);
            lab.sim.run_for(s(21));
            lab.tells(&[], &["child_rekey_failed w1 unfinished"]);
            lab.sim.outbox.clear();
            let refusal = lab.answer(&first);
            assert_eq!(lab.read(&refusal), "N(STATE_NOT_FOUND)");
            lab.deliver(&refusal);
            assert!(lab.node(E).plane.reserved.is_empty());
            if times == 4 {
                break;
            }
            lab.planes("e1>w1", "w1>e1");
            lab.silent();
            lab.sim.run_for(s(31));
            // Some of its repetitions are there, too.
            let again = lab.sim.outbox.remove(0);
            lab.sim.outbox.clear();
            assert_eq!(exchange_of(&again), ExchangeType::CREATE_CHILD_SA);
            lab.exchange(&again);
        }
        lab.tells(
            &[
                "child_rekey_failed e1 peer_notify",
                "child_closed e1 ike_sa_closed",
            ],
            &[],
        );
        let delete = lab.request(E);
        assert_eq!(lab.read(&delete), "D(IKE 0)");
        lab.exchange(&delete);
        lab.finish_with(
            &["ike_closed first out_of_step"],
            &[
                "child_closed w1 ike_sa_closed",
                "ike_closed first deleted_by_peer",
            ],
        );
    });
}
