//! The renewal of an IKE SA, alone and where it meets another exchange (RFC 7296 §2.8.2, §2.25.2).

use std::sync::Arc;

use cygnet_crypto::KeyExchange;

use super::*;

#[test]
fn either_end_renews_it() {
    both(|mut lab| {
        lab.rekey_ike(E);
        let request = lab.request(E);
        let response = lab.answer(&request);
        lab.tells(&[], &["ike east's", "moved w1"]);
        lab.deliver(&response);
        lab.tells(&["ike east's", "moved e1"], &[]);
        let delete = lab.request(E);
        assert_eq!(lab.read(&delete), "D(IKE 0)");
        let response = lab.answer(&delete);
        assert_eq!(lab.read(&response), "");
        lab.tells(&[], &["ike_closed first rekeyed"]);
        lab.deliver(&response);
        lab.tells(&["ike_closed first rekeyed"], &[]);
        lab.planes("e1>w1", "w1>e1");
        lab.silent();
        lab.finish();
    });
}

/// Both ends begin with a method that the other one does not have.
fn other_methods(lab: &mut Lab) {
    for (end, first) in [(E, KeyExchange::Ecp384), (W, KeyExchange::Ecp521)] {
        let ike = lab.ike(end);
        let mut config = PeerConfig::clone(&lab.node(end).book.peers[0]);
        for proposal in &mut config.proposals {
            proposal.key_exchange = vec![first, KeyExchange::Ecp256];
        }
        lab.act(end, |endpoint, _| endpoint.set_peer(ike, Arc::new(config)));
    }
}

#[test]
fn the_method_that_the_peer_wants_is_tried() {
    both(|mut lab| {
        other_methods(&mut lab);
        lab.rekey_ike(E);
        let request = lab.request(E);
        let response = lab.answer(&request);
        assert_eq!(lab.read(&response), "N(INVALID_KE_PAYLOAD)");
        lab.deliver(&response);
        lab.tells(&[], &[]);
        let request = lab.request(E);
        lab.exchange(&request);
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.tells(
            &["ike east's", "moved e1", "ike_closed first rekeyed"],
            &["ike east's", "moved w1", "ike_closed first rekeyed"],
        );
        lab.silent();
        lab.finish();
    });
}

/// West's successor is there, the first IKE SA is gone, and nobody asks for more.
fn only_wests(mut lab: Lab) {
    lab.tells(
        &["ike west's", "moved e1", "ike_closed first rekeyed"],
        &["ike west's", "moved w1", "ike_closed first rekeyed"],
    );
    lab.planes("e1>w1", "w1>e1");
    lab.silent();
    lab.finish();
}

/// Two requests of which east's turns out to be redundant, all the way.
fn collide(mut lab: Lab, e: Datagram, w: Datagram) {
    let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
    lab.tells(&[], &[]);
    lab.deliver(&from_east);
    lab.tells(&[], &["ike west's", "moved w1"]);
    lab.deliver(&from_west);
    lab.tells(&["ike west's", "moved e1"], &[]);
    let (redundant, old) = (lab.request(E), lab.request(W));
    assert_eq!(lab.read(&old), "D(IKE 0)");
    let (from_east, from_west) = (lab.answer(&old), lab.answer(&redundant));
    lab.tells(&["ike_closed first rekeyed"], &[]);
    lab.deliver(&from_east);
    lab.deliver(&from_west);
    lab.tells(&[], &["ike_closed first rekeyed"]);
    lab.planes("e1>w1", "w1>e1");
    lab.silent();
    lab.finish();
}

//= rfc7296#2.8.2
//= type=test
//# The new IKE SA containing the lowest nonce SHOULD be deleted by
//# the node that created it, and the other surviving new IKE SA MUST
//# inherit all the Child SAs.
#[test]
fn both_renew_it() {
    east_loses(|mut lab, lowest| {
        let (e, w) = lab.both_rekey_ike(lowest);
        collide(lab, e, w);
    });
}

#[test]
fn both_renew_it_with_methods_that_the_other_one_does_not_have() {
    east_loses(|mut lab, lowest| {
        other_methods(&mut lab);
        let (e, w) = second_requests(&mut lab, lowest);
        collide(lab, e, w);
    });
}

/// Both have been told to take another method; gives their second requests.
fn second_requests(lab: &mut Lab, lowest: Nonce) -> (Datagram, Datagram) {
    let (e, w) = lab.both_rekey_ike(lowest);
    let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
    lab.nonces_of_requests(lowest);
    for response in [from_east, from_west] {
        assert_eq!(lab.read(&response), "N(INVALID_KE_PAYLOAD)");
        lab.deliver(&response);
    }
    lab.nonces_of_responses(lowest);
    (lab.request(E), lab.request(W))
}

#[test]
fn both_renew_it_with_other_methods_and_one_second_request_is_late() {
    each_nonce(|mut lab, lowest| {
        other_methods(&mut lab);
        let (late, w) = second_requests(&mut lab, lowest);
        lab.exchange(&w);
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.deliver(&late);
        only_wests(lab);
    });
}

#[test]
fn both_renew_it_and_the_losers_response_comes_after_the_winners_delete() {
    east_loses(|mut lab, lowest| {
        let (e, w) = lab.both_rekey_ike(lowest);
        let (from_east, late) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        let delete = lab.request(W);
        lab.exchange(&delete);
        // East has learnt enough, and cannot delete what it does not know: west does, when nobody else has.
        lab.deliver(&late);
        only_wests(lab);
    });
}

#[test]
fn both_renew_it_and_the_winners_response_comes_after_the_losers_delete() {
    west_loses(|mut lab, lowest| {
        let (e, w) = lab.both_rekey_ike(lowest);
        let (from_east, late) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        lab.tells(&[], &["ike east's", "moved w1"]);
        let redundant = lab.request(W);
        lab.exchange(&redundant);
        lab.tells(&[], &[]);
        lab.deliver(&late);
        lab.tells(&["ike east's", "moved e1"], &[]);
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.tells(&["ike_closed first rekeyed"], &["ike_closed first rekeyed"]);
        lab.planes("e1>w1", "w1>e1");
        lab.silent();
        lab.finish();
    });
}

/// West renews it and knows nothing of east's request; gives that request and west's Delete.
fn unnoticed(lab: &mut Lab, lowest: Nonce) -> (Datagram, Datagram) {
    let (late, w) = lab.both_rekey_ike(lowest);
    lab.exchange(&w);
    (late, lab.request(W))
}

//= rfc7296#2.8.2
//= type=test
//# In this case, when the peer
//# that did not notice the simultaneous rekey gets the request to rekey
//# the IKE SA that it has already successfully rekeyed, it SHOULD return
//# TEMPORARY_FAILURE because it is an IKE SA that it is currently trying
//# to close (whether or not it has already sent the delete notification
//# for the SA).
#[test]
fn both_renew_it_and_one_does_not_notice_before_it_deletes() {
    each_nonce(|mut lab, lowest| {
        let (late, delete) = unnoticed(&mut lab, lowest);
        let refusal = lab.answer(&late);
        assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
        lab.deliver(&refusal);
        lab.exchange(&delete);
        only_wests(lab);
    });
}

//= rfc7296#2.8.2
//= type=test
//# If the peer that did notice the simultaneous rekey gets
//# the delete request from the other peer for the old IKE SA, it knows
//# that the other peer did not detect the simultaneous rekey, and the
//# first peer can forget its own rekey attempt.
#[test]
fn both_renew_it_and_one_does_not_notice_while_it_deletes() {
    each_nonce(|mut lab, lowest| {
        let (late, delete) = unnoticed(&mut lab, lowest);
        let deleted = lab.answer(&delete);
        let refusal = lab.answer(&late);
        assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
        lab.deliver(&refusal);
        lab.deliver(&deleted);
        only_wests(lab);
    });
}

#[test]
fn both_renew_it_and_one_does_not_notice_at_all() {
    for lost in [false, true] {
        each_nonce(|mut lab, lowest| {
            let (late, delete) = unnoticed(&mut lab, lowest);
            lab.exchange(&delete);
            if !lost {
                unknown(&mut lab, &late);
            }
            only_wests(lab);
        });
    }
}

/// A request comes for an IKE SA that is over: what its sender is told, if anything, is no more than a hint.
fn unknown(lab: &mut Lab, late: &Datagram) {
    lab.deliver(late);
    for hint in lab.sim.sent() {
        assert!(describe(&hint).ends_with("N(INVALID_IKE_SPI)"));
        lab.deliver(&hint);
    }
}

#[test]
fn a_delete_crosses_its_renewal() {
    both(|mut lab| {
        lab.rekey_ike(E);
        lab.delete_ike(W);
        let (rekey, delete) = (lab.request(E), lab.request(W));
        let refusal = lab.answer(&rekey);
        assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
        //= rfc7296#2.25.2
        //= type=test
        //# If a peer receives a request to close an IKE SA that it is currently
        //# rekeying, it SHOULD reply as usual, and forget about its own rekeying
        //# request.
        let deleted = lab.answer(&delete);
        lab.deliver(&refusal);
        lab.deliver(&deleted);
        closed_by_west(lab);
    });
}

#[test]
fn a_late_delete_crosses_its_renewal() {
    both(|mut lab| {
        lab.rekey_ike(E);
        lab.delete_ike(W);
        let (rekey, delete) = (lab.request(E), lab.request(W));
        lab.exchange(&rekey);
        lab.exchange(&delete);
        closed_by_west(lab);
    });
}

#[test]
fn a_late_renewal_crosses_its_delete() {
    for lost in [false, true] {
        both(|mut lab| {
            lab.rekey_ike(E);
            lab.delete_ike(W);
            let (rekey, delete) = (lab.request(E), lab.request(W));
            lab.exchange(&delete);
            if !lost {
                unknown(&mut lab, &rekey);
            }
            closed_by_west(lab);
        });
    }
}

fn closed_by_west(mut lab: Lab) {
    lab.planes("", "");
    lab.tells(
        &[
            "child_closed e1 ike_sa_closed",
            "ike_closed first deleted_by_peer",
        ],
        &[
            "child_closed w1 ike_sa_closed",
            "ike_closed first deleted_by_us",
        ],
    );
    lab.sim.run_for(s(60));
    lab.silent();
    lab.finish();
}

#[test]
fn both_delete_it() {
    both(|mut lab| {
        lab.delete_ike(E);
        lab.delete_ike(W);
        let (e, w) = (lab.request(E), lab.request(W));
        //= rfc7296#2.25.2
        //= type=test
        //# If a peer receives a request to close an IKE SA that it is
        //# currently trying to close, it SHOULD reply as usual, and forget about
        //# its own close request.
        lab.answer(&w);
        lab.answer(&e);
        lab.planes("", "");
        lab.tells(
            &[
                "child_closed e1 ike_sa_closed",
                "ike_closed first deleted_by_us",
            ],
            &[
                "child_closed w1 ike_sa_closed",
                "ike_closed first deleted_by_us",
            ],
        );
        lab.sim.run_for(s(60));
        lab.silent();
        lab.finish();
    });
}

#[test]
fn the_user_deletes_it_while_it_is_renewed() {
    both(|mut lab| {
        lab.rekey_ike(E);
        let request = lab.request(E);
        lab.delete_ike(E);
        let response = lab.answer(&request);
        lab.silent();
        lab.deliver(&response);
        lab.sim.exchange();
        lab.sim.exchange();
        lab.planes("", "");
        lab.tells(
            &[
                "ike east's",
                "moved e1",
                "child_closed e1 ike_sa_closed",
                "ike_closed first rekeyed",
                "ike_closed east's deleted_by_us",
            ],
            &[
                "ike east's",
                "moved w1",
                "ike_closed first rekeyed",
                "child_closed w1 ike_sa_closed",
                "ike_closed east's deleted_by_peer",
            ],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn the_winner_is_renewed_while_the_loser_still_stands() {
    for again in [E, W] {
        east_loses(|mut lab, lowest| {
            let (e, w) = lab.both_rekey_ike(lowest);
            let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
            lab.deliver(&from_east);
            lab.deliver(&from_west);
            let (redundant, old) = (lab.request(E), lab.request(W));
            lab.rekey_ike(again);
            let request = lab.request(again);
            lab.exchange(&request);
            let delete = lab.request(again);
            lab.exchange(&delete);
            lab.exchange(&redundant);
            lab.exchange(&old);
            let youngest = if again == E {
                "ike east's"
            } else {
                "ike west's"
            };
            let told = lab.told(E);
            let begun: Vec<_> = told.iter().filter(|l| l.starts_with("ike ")).collect();
            assert_eq!(begun, ["ike west's", youngest]);
            assert_eq!(told.iter().filter(|l| *l == "moved e1").count(), 2);
            assert_eq!(told.len(), 6, "{told:?}");
            assert_eq!(lab.told(W).len(), 6);
            lab.planes("e1>w1", "w1>e1");
            lab.silent();
            lab.finish();
        });
    }
}

#[test]
fn what_comes_on_a_successor_that_may_be_redundant_waits() {
    for fragmentation in [Fragmentation::No, Fragmentation::Force] {
        for turned in [false, true] {
            let mut pair = Pair::default();
            for peer in [&mut pair.east, &mut pair.west] {
                peer.fragmentation = fragmentation;
                peer.fragment_size = 256;
            }
            let mut lab = Lab::new(pair, turned);
            let (e, w) = both_rekey_in_pieces(&mut lab, Nonce::EastInitiator);
            let from_east = answers(&mut lab, E, &w);
            let from_west = answers(&mut lab, W, &e);
            // West knows that its own one stays, and has at once something to say on it; east does not know yet.
            deliver_all(&mut lab, &from_east);
            let delete = lab.sim.sent();
            lab.rekey(W, "w1");
            let request = lab.sim.sent();
            assert_eq!(request.len() > 1, fragmentation == Fragmentation::Force);
            deliver_all(&mut lab, &request);
            lab.silent();
            // East has decided, too. The request comes again.
            deliver_all(&mut lab, &from_west);
            deliver_all(&mut lab, &delete);
            deliver_all(&mut lab, &request);
            for _ in 0..4 {
                lab.sim.exchange();
            }
            lab.planes("e2>w2", "w2>e2");
            lab.silent();
            let east = lab.told(E);
            assert_eq!(east.first().map(String::as_str), Some("ike west's"));
            assert_eq!((east.len(), lab.told(W).len()), (5, 5), "{east:?}");
            lab.finish();
        }
    }
}

/// Both begin to renew it, in fragments or not.
fn both_rekey_in_pieces(lab: &mut Lab, lowest: Nonce) -> (Vec<Datagram>, Vec<Datagram>) {
    lab.nonces_of_requests(lowest);
    lab.rekey_ike(E);
    let e = lab.sim.sent();
    lab.rekey_ike(W);
    let w = lab.sim.sent();
    lab.nonces_of_responses(lowest);
    (e, w)
}

/// What an end says to a message.
fn answers(lab: &mut Lab, end: usize, message: &[Datagram]) -> Vec<Datagram> {
    deliver_all(lab, message);
    let from = lab.node(end).address;
    let answers = lab.sim.sent();
    assert!(answers.iter().all(|d| d.src.ip() == from));
    answers
}

fn deliver_all(lab: &mut Lab, message: &[Datagram]) {
    for datagram in message {
        lab.deliver(datagram);
    }
}

#[test]
fn a_child_sa_that_is_being_installed_changes_hands() {
    both(|mut lab| {
        lab.create(E);
        let request = lab.request(E);
        let response = lab.answer(&request);
        lab.node(E).plane.hold = true;
        lab.deliver(&response);
        lab.rekey_ike(W);
        let rekey = lab.request(W);
        lab.exchange(&rekey);
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.tells(
            &["ike west's", "moved e1 ?", "ike_closed first rekeyed"],
            &[
                "child w2 e2",
                "ike west's",
                "moved w1 w2",
                "ike_closed first rekeyed",
            ],
        );
        lab.release(E);
        lab.tells(&["child e2 w2"], &[]);
        lab.silent();
        lab.finish();
    });
}

#[test]
fn the_installation_fails_after_the_child_sa_has_changed_hands() {
    both(|mut lab| {
        lab.create(E);
        let request = lab.request(E);
        let response = lab.answer(&request);
        lab.node(E).plane.hold = true;
        lab.deliver(&response);
        lab.rekey_ike(W);
        let rekey = lab.request(W);
        lab.exchange(&rekey);
        lab.node(E).plane.refuse_install = true;
        lab.release(E);
        let (delete, old) = (lab.request(E), lab.request(W));
        lab.exchange(&delete);
        lab.exchange(&old);
        lab.tells(
            &[
                "ike west's",
                "moved e1 ?",
                "child_failed install_failed",
                "ike_closed first rekeyed",
            ],
            &[
                "child w2 e2",
                "ike west's",
                "moved w1 w2",
                "child_closed w2 deleted_by_peer",
                "ike_closed first rekeyed",
            ],
        );
        lab.planes("e1>w1", "w1>e1");
        lab.silent();
        lab.finish();
    });
}

#[test]
fn a_responder_that_waits_for_its_plane_puts_its_renewal_off() {
    both(|mut lab| {
        lab.create(E);
        let create = lab.request(E);
        lab.node(W).plane.hold = true;
        lab.deliver(&create);
        lab.rekey_ike(W);
        lab.silent();
        lab.node(W).plane.hold = false;
        lab.release(W);
        let response = lab.response(W);
        let rekey = lab.request(W);
        //= rfc7296#2.25.1
        //= type=test
        //# If a peer receives a request to rekey the IKE SA, and it is currently
        //# creating, rekeying, or closing a Child SA of that IKE SA, it SHOULD
        //# reply with TEMPORARY_FAILURE.
        let refusal = lab.answer(&rekey);
        assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
        lab.deliver(&refusal);
        lab.deliver(&response);
        lab.finish_with(
            &[
                "child e2 w2",
                "ike west's",
                "moved e1 e2",
                "ike_closed first rekeyed",
            ],
            &[
                "child w2 e2",
                "ike west's",
                "moved w1 w2",
                "ike_closed first rekeyed",
            ],
        );
    });
}

#[test]
fn a_successor_takes_over_when_the_own_exchange_gets_no_answer() {
    both(|mut lab| {
        let (_, w) = lab.both_rekey_ike(Nonce::EastInitiator);
        lab.exchange(&w);
        lab.request(W);
        lab.tells(&[], &["ike west's", "moved w1"]);
        // Neither east's request nor west's Delete arrive.
        lab.sim.run_for(s(100));
        lab.tells(
            &["ike west's", "moved e1", "ike_closed first rekeyed"],
            &["ike_closed first rekeyed"],
        );
        lab.planes("e1>w1", "w1>e1");
        lab.finish();
    });
}

#[test]
fn the_peers_successor_ends_before_our_exchange_does() {
    // Our request is lost, or refused for the time being.
    for refused in [false, true] {
        for turned in [false, true] {
            let mut pair = Pair::default();
            for peer in [&mut pair.east, &mut pair.west] {
                // Longer than what is over is remembered.
                peer.retransmit.timeout = s(90);
            }
            let mut lab = Lab::new(pair, turned);
            let (e, w) = lab.both_rekey_ike(Nonce::EastInitiator);
            lab.exchange(&w);
            lab.delete_ike(W);
            let from_west = lab.sim.sent();
            let [_, delete] = from_west.as_slice() else {
                panic!("the ends of two IKE SAs");
            };
            lab.exchange(delete);
            if refused {
                let refusal = lab.answer(&e);
                assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
                lab.deliver(&refusal);
            }
            lab.tells(
                &[],
                &[
                    "ike west's",
                    "moved w1",
                    "child_closed w1 ike_sa_closed",
                    "ike_closed west's deleted_by_us",
                ],
            );
            lab.planes("e1>w1", "");
            lab.sim.run_for(s(200));
            lab.planes("", "");
            lab.finish_with(
                &[
                    "child_closed e1 ike_sa_closed",
                    "ike_closed first peer_unresponsive",
                ],
                &["ike_closed first rekeyed"],
            );
        }
    }
}

#[test]
fn the_peers_successor_ends_and_it_was_the_winner() {
    east_loses(|mut lab, lowest| {
        let (e, w) = lab.both_rekey_ike(lowest);
        let (from_east, late) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        lab.delete_ike(W);
        let from_west = lab.sim.sent();
        let [old, young] = from_west.as_slice() else {
            panic!("the ends of two IKE SAs");
        };
        lab.exchange(young);
        lab.deliver(&late);
        lab.sim.exchange();
        lab.exchange(old);
        lab.sim.exchange();
        lab.planes("", "");
        lab.tells(
            &[
                "child_closed e1 ike_sa_closed",
                "ike_closed first deleted_by_peer",
            ],
            &[
                "ike west's",
                "moved w1",
                "child_closed w1 ike_sa_closed",
                "ike_closed west's deleted_by_us",
                "ike_closed first rekeyed",
            ],
        );
        lab.finish();
    });
}

#[test]
fn a_peer_that_has_forgotten_everything_ends_both() {
    both(|mut lab| {
        let (_, w) = lab.both_rekey_ike(Nonce::EastInitiator);
        lab.answer(&w);
        let at = lab.at(W);
        lab.sim.crash(at);
        lab.seen[at] = 0;
        lab.sim.outbox.clear();
        lab.sim.manual = false;
        let east = lab.node(E).address.to_string();
        lab.sim.initiate(at, &east);
        lab.sim.run_for(s(1));
        lab.tells(
            &[
                "ike first",
                "child_closed e1 ike_sa_closed",
                "ike_closed first replaced_by_initial_contact",
                "child e2 w2",
            ],
            &["ike first", "child w2 e2"],
        );
        lab.finish();
    });
}

#[test]
fn the_old_one_is_overdue_while_its_window_is_full() {
    both(|mut lab| {
        lab.rekey_ike(W);
        let rekey = lab.request(W);
        let old = lab.ike(E);
        lab.exchange(&rekey);
        lab.request(W);
        lab.sim.run_for(s(119));
        // Something is said on it, and not heard, when it is time to end it.
        lab.sim.outbox.clear();
        lab.act(E, |endpoint, now| {
            endpoint.report_invalid_spi(now, old, 0x1234);
        });
        lab.request(E);
        lab.sim.run_for(s(200));
        lab.tells(
            &["ike west's", "moved e1", "ike_closed first rekeyed"],
            &["ike west's", "moved w1", "ike_closed first rekeyed"],
        );
        lab.finish();
    });
}

#[test]
fn the_path_changes_while_a_successor_waits() {
    let nat = Nat::new(EAST.parse().unwrap(), NAT.parse().unwrap());
    let mut lab = Lab::behind(Some(nat), Pair::default(), false);
    let (e, w) = lab.both_rekey_ike(Nonce::WestInitiator);
    lab.answer(&e);
    lab.deliver(&w);
    let response = lab.response(E);
    // The NAT forgets, and what east says now comes from another port.
    lab.sim.nat.as_mut().unwrap().rebind();
    let before = remote_port(&lab);
    lab.deliver(&response);
    lab.tells(&[], &["moved", "ike east's", "moved w1"]);
    let after = remote_port(&lab);
    assert_ne!(before, after);
    let child = lab.child(W, "w1");
    let info = lab.node(W).endpoint.child_sa(child).unwrap();
    assert_eq!(info.remote.port(), after);
}

/// Where west believes east to be.
fn remote_port(lab: &Lab) -> u16 {
    let endpoint = &lab.sim.nodes[lab.at(W)].endpoint;
    endpoint.ike_sa(lab.ike(W)).unwrap().remote.port()
}
