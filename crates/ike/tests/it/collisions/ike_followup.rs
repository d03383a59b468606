//! The renewal of an IKE SA with additional key exchanges, alone and where it meets another exchange (RFC 9370 §2.2.4).

use cygnet_wire::{ExchangeType, Payload};

use super::*;

const PLAIN: &str = "aes_gcm_16_256-sha2_256-dh31";
const THREE: &str = "aes_gcm_16_256-sha2_256-dh31;addke1=dh19;addke3=dh20";

fn pair(east: &str, west: &str) -> Pair {
    let mut pair = Pair::default();
    pair.east.proposals = ike(east);
    pair.west.proposals = ike(west);
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

/// The next request of an end, which is an additional key exchange.
#[track_caller]
fn followup(lab: &mut Lab, end: usize) -> Datagram {
    let request = lab.request(end);
    let header = *Message::parse(&request.bytes).unwrap().header();
    assert_eq!(header.exchange, ExchangeType::IKE_FOLLOWUP_KE);
    request
}

#[track_caller]
fn both_followups(lab: &mut Lab, end: usize) {
    for _ in 0..2 {
        let request = followup(lab, end);
        lab.exchange(&request);
    }
}

/// West's successor is there, the first IKE SA is gone, and nobody asks for more.
#[track_caller]
fn only_wests(mut lab: Lab) {
    lab.tells(
        &["ike west's", "moved e1", "ike_closed first rekeyed"],
        &["ike west's", "moved w1", "ike_closed first rekeyed"],
    );
    lab.planes("e1>w1", "w1>e1");
    lab.silent();
    lab.finish();
}

#[test]
fn either_end_renews_it() {
    both(|mut lab| {
        lab.rekey_ike(E);
        let request = lab.request(E);
        let response = lab.answer(&request);
        assert_eq!(lab.read(&response), "N(ADDITIONAL_KEY_EXCHANGE)");
        lab.deliver(&response);
        let first = followup(&mut lab, E);
        assert_eq!(lab.read(&first), "N(ADDITIONAL_KEY_EXCHANGE)");
        lab.exchange(&first);
        let last = followup(&mut lab, E);
        lab.tells(&[], &[]);
        let response = lab.answer(&last);
        assert_eq!(lab.read(&response), "");
        lab.tells(&[], &["ike east's", "moved w1"]);
        lab.deliver(&response);
        lab.tells(&["ike east's", "moved e1"], &[]);
        let delete = lab.request(E);
        assert_eq!(lab.read(&delete), "D(IKE 0)");
        lab.exchange(&delete);
        lab.tells(&["ike_closed first rekeyed"], &["ike_closed first rekeyed"]);
        let ike = lab.ike(E);
        let info = lab.node(E).endpoint.ike_sa(ike).unwrap();
        let suite = info.suite.unwrap().to_string();
        assert_eq!(
            suite,
            "AES_GCM_16_256-HMAC_SHA2_256-X25519-KE1_ECP_256-KE3_ECP_384"
        );
        // The keys are the same at both ends: the successor is renewed in its turn.
        lab.rekey_ike(W);
        let request = lab.request(W);
        lab.exchange(&request);
        both_followups(&mut lab, W);
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.silent();
        lab.finish_with(
            &["ike west's", "moved e1", "ike_closed east's rekeyed"],
            &["ike west's", "moved w1", "ike_closed east's rekeyed"],
        );
    });
}

/// What the peer can do without has been left out in IKE_SA_INIT, and is not asked for again.
#[test]
fn what_the_ike_sa_has_not_its_successor_has_not() {
    for turned in [false, true] {
        let mut lab = Lab::new(pair(&format!("{THREE}, {PLAIN}"), PLAIN), turned);
        for end in [E, W] {
            lab.rekey_ike(end);
            let request = lab.request(end);
            lab.exchange(&request);
            let delete = lab.request(end);
            lab.exchange(&delete);
        }
        lab.silent();
        lab.finish_with(
            &[
                "ike east's",
                "moved e1",
                "ike_closed first rekeyed",
                "ike west's",
                "moved e1",
                "ike_closed east's rekeyed",
            ],
            &[
                "ike east's",
                "moved w1",
                "ike_closed first rekeyed",
                "ike west's",
                "moved w1",
                "ike_closed east's rekeyed",
            ],
        );
    }
}

/// A peer that makes additional key exchanges in IKE_SA_INIT only gets a successor without them.
#[test]
fn a_peer_may_do_without_in_a_renewal() {
    for turned in [false, true] {
        let both_kinds = format!("{THREE}, {PLAIN}");
        let mut lab = Lab::new(pair(&both_kinds, &both_kinds), turned);
        let ike_sa = lab.ike(W);
        let mut config = PeerConfig::clone(&lab.node(W).book.peers[0]);
        config.proposals = ike(PLAIN);
        lab.act(W, |endpoint, _| {
            endpoint.set_peer(ike_sa, std::sync::Arc::new(config))
        });
        lab.rekey_ike(E);
        let request = lab.request(E);
        lab.exchange(&request);
        let delete = lab.request(E);
        lab.exchange(&delete);
        let ike = lab.ike(E);
        let info = lab.node(E).endpoint.ike_sa(ike).unwrap();
        assert_eq!(
            info.suite.unwrap().to_string(),
            "AES_GCM_16_256-HMAC_SHA2_256-X25519"
        );
        lab.silent();
        lab.finish_with(
            &["ike east's", "moved e1", "ike_closed first rekeyed"],
            &["ike east's", "moved w1", "ike_closed first rekeyed"],
        );
    }
}

#[test]
fn the_method_that_the_peer_wants_is_tried() {
    for turned in [false, true] {
        let common = "dh21;addke1=dh19";
        let mut lab = Lab::new(
            pair(
                &format!("aes_gcm_16_256-sha2_256-dh31+{common}"),
                &format!("aes_gcm_16_256-sha2_256-dh31+{common}"),
            ),
            turned,
        );
        let ike_sa = lab.ike(W);
        let mut config = PeerConfig::clone(&lab.node(W).book.peers[0]);
        config.proposals = ike(&format!("aes_gcm_16_256-sha2_256-{common}"));
        lab.act(W, |endpoint, _| {
            endpoint.set_peer(ike_sa, std::sync::Arc::new(config))
        });
        lab.rekey_ike(E);
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
        lab.silent();
        lab.finish_with(
            &["ike east's", "moved e1", "ike_closed first rekeyed"],
            &["ike east's", "moved w1", "ike_closed first rekeyed"],
        );
    }
}

/// RFC 9370 §2.2.4: the initiator of the exchange with the lowest nonce stops, since there is nothing to delete.
#[test]
fn both_renew_it() {
    with_lowest(&EAST_LOSES, |mut lab, lowest| {
        let (e, w) = lab.both_rekey_ike(lowest);
        let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        lab.deliver(&from_west);
        lab.tells(&[], &[]);
        both_followups(&mut lab, W);
        let delete = lab.request(W);
        lab.exchange(&delete);
        only_wests(lab);
    });
}

/// Both ends have both kinds; `which` prefers three key exchanges, the other end one.
fn mixed(turned: bool, which: usize) -> Lab {
    let (three, plain) = (format!("{THREE}, {PLAIN}"), format!("{PLAIN}, {THREE}"));
    let three_first = pair(&three, &three);
    let mut lab = Lab::new(three_first, turned);
    let other = 1 - which;
    let ike_sa = lab.ike(other);
    let mut config = PeerConfig::clone(&lab.node(other).book.peers[0]);
    config.proposals = ike(&plain);
    lab.act(other, |endpoint, _| {
        endpoint.set_peer(ike_sa, std::sync::Arc::new(config))
    });
    lab
}

#[test]
fn both_renew_it_and_only_the_winner_has_more_key_exchanges() {
    for lowest in EAST_LOSES {
        for (turned, west_first) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut lab = mixed(turned, W);
            let (e, w) = lab.both_rekey_ike(lowest);
            let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
            let order = match west_first {
                true => [&from_east, &from_west],
                false => [&from_west, &from_east],
            };
            for response in order {
                lab.deliver(response);
            }
            let redundant = lab.request(E);
            lab.exchange(&redundant);
            lab.tells(&[], &[]);
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
        for (turned, west_first) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut lab = mixed(turned, E);
            let (e, w) = lab.both_rekey_ike(lowest);
            let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
            if west_first {
                lab.deliver(&from_east);
                lab.deliver(&from_west);
            } else {
                lab.deliver(&from_west);
                lab.silent();
                lab.deliver(&from_east);
            }
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
            let (e, w) = lab.both_rekey_ike(lowest);
            let (from_east, late) = (lab.answer(&w), lab.answer(&e));
            let arrive = |lab: &mut Lab, now: usize| {
                if now == when {
                    lab.deliver(&late);
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
        let (e, w) = lab.both_rekey_ike(lowest);
        let (from_east, late) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        lab.silent();
        lab.deliver(&late);
        both_followups(&mut lab, E);
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("e1>w1", "w1>e1");
        lab.silent();
        lab.finish_with(
            &["ike east's", "moved e1", "ike_closed first rekeyed"],
            &["ike east's", "moved w1", "ike_closed first rekeyed"],
        );
    });
}

/// RFC 9370 §2.2.4: who has come as far as IKE_FOLLOWUP_KE says TEMPORARY_FAILURE.
#[test]
fn both_renew_it_and_one_does_not_notice() {
    for when in 0..4 {
        with_lowest(&EACH, |mut lab, lowest| {
            let (late, w) = lab.both_rekey_ike(lowest);
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
            let deleted = lab.answer(&delete);
            // What is to end the IKE SA is awaited, and says what it always said.
            refused(&mut lab, 3);
            lab.deliver(&deleted);
            only_wests(lab);
        });
    }
}

#[test]
fn both_renew_it_and_one_does_not_notice_at_all() {
    with_lowest(&EACH, |mut lab, lowest| {
        let (_lost, w) = lab.both_rekey_ike(lowest);
        lab.exchange(&w);
        both_followups(&mut lab, W);
        let delete = lab.request(W);
        lab.exchange(&delete);
        only_wests(lab);
    });
}

#[test]
fn both_renew_it_and_the_winner_takes_its_time() {
    with_lowest(&EAST_LOSES, |mut lab, lowest| {
        let (e, w) = lab.both_rekey_ike(lowest);
        let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        lab.deliver(&from_west);
        let late = followup(&mut lab, W);
        lab.sim.run_for(s(21));
        // East has waited for west. West does not wait for east: that has lost.
        lab.tells(&["ike_rekey_failed unfinished"], &[]);
        lab.sim.outbox.clear();
        let refusal = lab.answer(&late);
        assert_eq!(lab.read(&refusal), "N(STATE_NOT_FOUND)");
        lab.deliver(&refusal);
        lab.finish_with(
            &["ike west's", "moved e1", "ike_closed first rekeyed"],
            &["ike west's", "moved w1", "ike_closed first rekeyed"],
        );
    });
}

/// The loser cannot read what the winner says of its own successor; the winner's goes on all the same.
#[test]
fn both_renew_it_and_the_losers_response_is_useless() {
    with_lowest(&EAST_LOSES, |mut lab, lowest| {
        let (e, w) = lab.both_rekey_ike(lowest);
        let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
        let forged = lab.forge(&from_west, true).edit(&from_west, |payloads, w| {
            let other = |p: &&Payload<'_>| !matches!(p, Payload::Ke(_));
            payloads.iter().filter(other).for_each(|p| {
                w.any(p);
            });
        });
        lab.deliver(&forged);
        lab.silent();
        lab.deliver(&from_east);
        both_followups(&mut lab, W);
        let delete = lab.request(W);
        lab.exchange(&delete);
        only_wests(lab);
    });
}

#[test]
fn the_winner_does_not_go_on() {
    // West has won and falls silent; east's request is lost, or its response is.
    for lost in [false, true] {
        with_lowest(&EAST_LOSES, |mut lab, lowest| {
            let (e, w) = lab.both_rekey_ike(lowest);
            lab.answer(&w);
            if !lost {
                let from_west = lab.answer(&e);
                lab.deliver(&from_west);
                lab.silent();
                // East waits, and then tells that there is no successor of west's.
                lab.sim.run_for(s(21));
                lab.tells(
                    &["ike_rekey_failed unfinished"],
                    &["ike_rekey_failed unfinished"],
                );
            }
            let west = lab.node(W).address;
            lab.sim.outbox.retain(|d| d.src.ip() != west);
            lab.planes("e1>w1", "w1>e1");
            lab.sim.manual = false;
            lab.sim.run_for(s(400));
            lab.sim.assert_agreement(E, W);
        });
    }
}

#[test]
fn a_delete_crosses_its_key_exchanges() {
    for (by, delete_first) in [(E, false), (W, false), (W, true)] {
        both(|mut lab| {
            lab.rekey_ike(E);
            let request = lab.request(E);
            lab.exchange(&request);
            let first = followup(&mut lab, E);
            lab.delete_ike(by);
            if by == E {
                lab.exchange(&first);
                let delete = lab.request(E);
                assert_eq!(lab.read(&delete), "D(IKE 0)");
                lab.exchange(&delete);
            } else {
                let delete = lab.request(W);
                if delete_first {
                    lab.exchange(&delete);
                } else {
                    let refusal = lab.answer(&first);
                    assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
                    lab.exchange(&delete);
                    lab.deliver(&refusal);
                }
            }
            lab.planes("", "");
            let us = "ike_closed first deleted_by_us";
            let peer = "ike_closed first deleted_by_peer";
            let (east, west) = if by == E { (us, peer) } else { (peer, us) };
            lab.tells(
                &["child_closed e1 ike_sa_closed", east],
                &["child_closed w1 ike_sa_closed", west],
            );
            lab.sim.run_for(s(60));
            lab.silent();
            lab.finish();
        });
    }
}

#[test]
fn child_sas_are_put_off_until_it_is_over() {
    both(|mut lab| {
        lab.rekey(W, "w1");
        let child = lab.request(W);
        lab.rekey_ike(E);
        let ike = lab.request(E);
        let refusal = lab.answer(&child);
        assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
        lab.deliver(&refusal);
        lab.exchange(&ike);
        let first = followup(&mut lab, E);
        // Both ends want something meanwhile, and wait.
        lab.create(W);
        lab.create(E);
        lab.exchange(&first);
        let last = followup(&mut lab, E);
        lab.silent();
        lab.exchange(&last);
        lab.sim.manual = false;
        lab.sim.run_for(s(400));
        lab.sim.assert_agreement(E, W);
        assert_eq!(lab.node(E).plane.installed.len(), 3);
    });
}

#[test]
fn a_responder_that_has_lost_its_state_is_asked_again() {
    both(|mut lab| {
        lab.rekey_ike(E);
        let request = lab.request(E);
        lab.exchange(&request);
        for times in 1.. {
            let first = followup(&mut lab, E);
            lab.sim.run_for(s(21));
            lab.tells(&[], &["ike_rekey_failed unfinished"]);
            lab.sim.outbox.clear();
            let refusal = lab.answer(&first);
            assert_eq!(lab.read(&refusal), "N(STATE_NOT_FOUND)");
            lab.deliver(&refusal);
            if times == 4 {
                break;
            }
            lab.planes("e1>w1", "w1>e1");
            lab.silent();
            lab.sim.run_for(s(31));
            let again = lab.sim.outbox.remove(0);
            lab.sim.outbox.clear();
            lab.exchange(&again);
        }
        lab.tells(
            &[
                "ike_rekey_failed peer_notify",
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
