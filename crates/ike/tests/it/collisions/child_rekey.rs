//! The renewal of a child SA, alone and where it meets another exchange (RFC 7296 §2.8.1, §2.25.1).

use cygnet_crypto::EspProposal;

use super::*;

#[test]
fn either_end_renews_it() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        lab.planes("e1>w1", "w1>e1");
        let response = lab.answer(&request);
        lab.planes("e1>w1", "w1>e1 w2-e2");
        lab.tells(&[], &["child w2 e2"]);
        lab.deliver(&response);
        lab.planes("e1+w1 e2>w2", "w1>e1 w2-e2");
        lab.tells(&["child e2 w2"], &[]);
        let delete = lab.request(E);
        assert_eq!(lab.read(&delete), "D(ESP 1)");
        let response = lab.answer(&delete);
        assert_eq!(lab.read(&response), "D(ESP 1)");
        lab.planes("e1+w1 e2>w2", "w2>e2");
        lab.tells(&[], &["child_closed w1 rekeyed"]);
        lab.deliver(&response);
        lab.planes("e2>w2", "w2>e2");
        lab.tells(&["child_closed e1 rekeyed"], &[]);
        lab.silent();
        lab.finish();
    });
}

/// Each end begins with a method that the other one does not have.
fn other_methods(turned: bool) -> Lab {
    let mut pair = Pair::default();
    let esp = |text| EspProposal::parse_ipsec_conf(text).unwrap();
    pair.east_child.proposals = esp("aes_gcm_16_256-dh31+dh19");
    pair.west_child.proposals = esp("aes_gcm_16_256-dh20+dh19");
    Lab::new(pair, turned)
}

#[test]
fn the_method_that_the_peer_wants_is_tried() {
    for turned in [false, true] {
        let mut lab = other_methods(turned);
        lab.rekey(E, "e1");
        let request = lab.request(E);
        let response = lab.answer(&request);
        assert_eq!(lab.read(&response), "N(INVALID_KE_PAYLOAD)");
        lab.deliver(&response);
        lab.planes("e1>w1", "w1>e1");
        let request = lab.request(E);
        lab.exchange(&request);
        lab.planes("e1+w1 e2>w2", "w1>e1 w2-e2");
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("e2>w2", "w2>e2");
        lab.tells(
            &["child e2 w2", "child_closed e1 rekeyed"],
            &["child w2 e2", "child_closed w1 rekeyed"],
        );
        lab.finish();
    }
}

#[test]
fn a_soft_limit_at_the_responder_that_awaits_the_delete_changes_nothing() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        let response = lab.answer(&request);
        lab.rekey(W, "w1");
        lab.silent();
        lab.deliver(&response);
        lab.rekey(W, "w1");
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.silent();
        lab.planes("e2>w2", "w2>e2");
        lab.tells(
            &["child e2 w2", "child_closed e1 rekeyed"],
            &["child w2 e2", "child_closed w1 rekeyed"],
        );
        lab.finish();
    });
}

#[test]
fn a_hard_limit_at_the_responder_that_awaits_the_delete() {
    // Before the response has come, and after.
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        let response = lab.answer(&request);
        lab.delete(W, "w1");
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.planes("", "w2>e2");
        lab.tells(
            &["child_closed e1 deleted_by_peer"],
            &["child w2 e2", "child_closed w1 deleted_by_us"],
        );
        lab.deliver(&response);
        lab.planes("e2>w2", "w2>e2");
        lab.tells(&["child e2 w2"], &[]);
        lab.silent();
        lab.finish();
    });
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        lab.exchange(&request);
        let ours = lab.request(E);
        lab.delete(W, "w1");
        let theirs = lab.request(W);
        //= rfc7296#2.25.1
        //= type=test
        //# If a peer receives a request to close a Child SA that it is currently
        //# trying to close, it SHOULD reply without a Delete payload (see
        //# Section 1.4.1).
        let (a, b) = (lab.answer(&ours), lab.answer(&theirs));
        assert_eq!((lab.read(&a), lab.read(&b)), (String::new(), String::new()));
        lab.deliver(&a);
        lab.deliver(&b);
        lab.planes("e2>w2", "w2>e2");
        lab.tells(
            &["child e2 w2", "child_closed e1 rekeyed"],
            &["child w2 e2", "child_closed w1 deleted_by_us"],
        );
        lab.finish();
    });
}

#[test]
fn the_responder_deletes_the_successor_before_the_old_one_is_deleted() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        lab.exchange(&request);
        let delete = lab.request(E);
        lab.delete(W, "w2");
        let theirs = lab.request(W);
        lab.exchange(&theirs);
        lab.planes("e1>w1", "w1>e1");
        lab.tells(
            &["child e2 w2", "child_closed e2 deleted_by_peer"],
            &["child w2 e2", "child_closed w2 deleted_by_us"],
        );
        lab.exchange(&delete);
        lab.planes("", "");
        lab.tells(
            &["child_closed e1 rekeyed"],
            &["child_closed w1 deleted_by_peer"],
        );
        lab.finish();
    });
}

#[test]
fn the_responder_deletes_the_old_one_before_its_response_arrives() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        let response = lab.answer(&request);
        lab.delete(W, "w1");
        let delete = lab.request(W);
        let deleted = lab.answer(&delete);
        lab.deliver(&response);
        lab.planes("e2>w2", "w1>e1 w2-e2");
        lab.deliver(&deleted);
        lab.planes("e2>w2", "w2>e2");
        lab.tells(
            &["child_closed e1 deleted_by_peer", "child e2 w2"],
            &["child w2 e2", "child_closed w1 deleted_by_us"],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn a_delete_without_response_ends_everything_once() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        lab.exchange(&request);
        lab.request(E);
        lab.sim.run_for(s(100));
        lab.planes("", "w1>e1 w2-e2");
        lab.tells(
            &[
                "child e2 w2",
                "child_closed e1 ike_sa_closed",
                "child_closed e2 ike_sa_closed",
                "ike_closed first peer_unresponsive",
            ],
            &["child w2 e2"],
        );
        lab.delete_ike(W);
        lab.finish_with(
            &[],
            &[
                "child_closed w1 ike_sa_closed",
                "child_closed w2 ike_sa_closed",
                "ike_closed first deleted_by_us",
            ],
        );
    });
}

//= rfc7296#2.8.1
//= type=test
//# If redundant SAs are created through such a collision, the SA
//# created with the lowest of the four nonces used in the two exchanges
//# SHOULD be closed by the endpoint that created it.
#[test]
fn both_renew_it() {
    east_loses(|mut lab, lowest| {
        let (e, w) = lab.both_rekey(lowest);
        collide(lab, e, w);
    });
}

/// Two requests of which east's turns out to be redundant, all the way.
fn collide(mut lab: Lab, e: Datagram, w: Datagram) {
    let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
    lab.planes("e1>w1 e3-w2", "w1>e1 w3-e2");
    lab.tells(&["child e3 w2"], &["child w3 e2"]);
    lab.deliver(&from_east);
    lab.deliver(&from_west);
    lab.planes("e1>w1 e2-w3 e3-w2", "w1+e1 w2>e3 w3-e2");
    lab.tells(&["child e2 w3"], &["child w2 e3"]);
    let (e, w) = (lab.request(E), lab.request(W));
    let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
    lab.planes("e2-w3 e3>w2", "w1+e1 w2>e3");
    lab.tells(&["child_closed e1 rekeyed"], &["child_closed w3 redundant"]);
    lab.deliver(&from_east);
    lab.deliver(&from_west);
    lab.planes("e3>w2", "w2>e3");
    lab.tells(&["child_closed e2 redundant"], &["child_closed w1 rekeyed"]);
    lab.silent();
    lab.finish();
}

#[test]
fn both_renew_it_and_the_losers_response_comes_after_the_winners_delete() {
    east_loses(|mut lab, lowest| {
        let (e, w) = lab.both_rekey(lowest);
        let (from_east, late) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.planes("e3>w2", "w2>e3 w3-e2");
        lab.tells(
            &["child e3 w2", "child_closed e1 rekeyed"],
            &["child w3 e2", "child w2 e3", "child_closed w1 rekeyed"],
        );
        lab.deliver(&late);
        lab.planes("e2-w3 e3>w2", "w2>e3 w3-e2");
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("e3>w2", "w2>e3");
        lab.tells(
            &["child e2 w3", "child_closed e2 redundant"],
            &["child_closed w3 redundant"],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn both_renew_it_and_the_winners_response_comes_after_the_losers_delete() {
    west_loses(|mut lab, lowest| {
        let (e, w) = lab.both_rekey(lowest);
        let (from_east, late) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        lab.planes("e1>w1 e3-w2", "w1>e1 w2-e3 w3-e2");
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.planes("e1>w1", "w1>e1 w3-e2");
        lab.tells(
            &["child e3 w2", "child_closed e3 redundant"],
            &["child w3 e2", "child w2 e3", "child_closed w2 redundant"],
        );
        lab.deliver(&late);
        lab.planes("e1+w1 e2>w3", "w1>e1 w3-e2");
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("e2>w3", "w3>e2");
        lab.tells(
            &["child e2 w3", "child_closed e1 rekeyed"],
            &["child_closed w1 rekeyed"],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn both_renew_it_and_the_winner_deletes_all_before_the_losers_response_comes() {
    east_loses(|mut lab, lowest| {
        let (e, w) = lab.both_rekey(lowest);
        let (from_east, late) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.delete(W, "w2");
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.planes("", "w3-e2");
        lab.deliver(&late);
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("", "");
        lab.tells(
            &[
                "child e3 w2",
                "child_closed e1 rekeyed",
                "child_closed e3 deleted_by_peer",
                "child e2 w3",
                "child_closed e2 redundant",
            ],
            &[
                "child w3 e2",
                "child w2 e3",
                "child_closed w1 rekeyed",
                "child_closed w2 deleted_by_us",
                "child_closed w3 redundant",
            ],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn both_renew_it_and_the_loser_deletes_all_before_the_winners_response_comes() {
    west_loses(|mut lab, lowest| {
        let (e, w) = lab.both_rekey(lowest);
        let (from_east, late) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.delete(W, "w3");
        let delete = lab.request(W);
        let deleted = lab.answer(&delete);
        assert_eq!(lab.read(&deleted), "");
        lab.deliver(&deleted);
        lab.planes("e1>w1", "w1>e1");
        lab.tells(
            &["child e3 w2", "child_closed e3 redundant"],
            &[
                "child w3 e2",
                "child w2 e3",
                "child_closed w2 redundant",
                "child_closed w3 deleted_by_us",
            ],
        );
        // What the response speaks of is gone, and what it was to replace is not to stay.
        lab.deliver(&late);
        lab.planes("e1>w1", "w1>e1");
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("", "");
        lab.tells(
            &["child_closed e1 deleted_by_peer"],
            &["child_closed w1 deleted_by_peer"],
        );
        lab.silent();
        lab.finish();
    });
}

/// West renews it and knows nothing of east's request; gives that request and west's Delete.
fn unnoticed(lab: &mut Lab, lowest: Nonce) -> (Datagram, Datagram) {
    let (late, w) = lab.both_rekey(lowest);
    lab.exchange(&w);
    let delete = lab.request(W);
    lab.planes("e1>w1 e3-w2", "w1+e1 w2>e3");
    lab.tells(&["child e3 w2"], &["child w2 e3"]);
    (late, delete)
}

#[test]
fn both_renew_it_and_one_does_not_notice_before_it_deletes() {
    each_nonce(|mut lab, lowest| {
        let (late, delete) = unnoticed(&mut lab, lowest);
        let refusal = lab.answer(&late);
        assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
        lab.deliver(&refusal);
        lab.exchange(&delete);
        only_west(lab);
    });
}

#[test]
fn both_renew_it_and_one_does_not_notice_while_it_deletes() {
    each_nonce(|mut lab, lowest| {
        let (late, delete) = unnoticed(&mut lab, lowest);
        let deleted = lab.answer(&delete);
        lab.planes("e3>w2", "w1+e1 w2>e3");
        let refusal = lab.answer(&late);
        assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
        lab.deliver(&refusal);
        lab.deliver(&deleted);
        only_west(lab);
    });
}

#[test]
fn both_renew_it_and_one_does_not_notice_at_all() {
    each_nonce(|mut lab, lowest| {
        let (late, delete) = unnoticed(&mut lab, lowest);
        lab.exchange(&delete);
        let refusal = lab.answer(&late);
        assert_eq!(lab.read(&refusal), "N(CHILD_SA_NOT_FOUND)");
        lab.deliver(&refusal);
        only_west(lab);
    });
}

/// West's successor is there, and nobody asks for another.
fn only_west(mut lab: Lab) {
    lab.planes("e3>w2", "w2>e3");
    lab.tells(&["child_closed e1 rekeyed"], &["child_closed w1 rekeyed"]);
    lab.silent();
    lab.finish();
}

#[test]
fn both_renew_it_and_one_does_not_notice_and_deletes_all() {
    each_nonce(|mut lab, lowest| {
        let (late, delete) = unnoticed(&mut lab, lowest);
        lab.exchange(&delete);
        lab.delete(W, "w2");
        let delete = lab.request(W);
        lab.exchange(&delete);
        let refusal = lab.answer(&late);
        assert_eq!(lab.read(&refusal), "N(CHILD_SA_NOT_FOUND)");
        lab.deliver(&refusal);
        lab.planes("", "");
        lab.tells(
            &["child_closed e1 rekeyed", "child_closed e3 deleted_by_peer"],
            &["child_closed w1 rekeyed", "child_closed w2 deleted_by_us"],
        );
        lab.silent();
        lab.finish();
    });
}

/// Both have been told to take another method; gives their second requests.
fn second_requests(lab: &mut Lab, lowest: Nonce) -> (Datagram, Datagram) {
    let (e, w) = lab.both_rekey(lowest);
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
fn both_renew_it_with_methods_that_the_other_one_does_not_have() {
    for lowest in [Nonce::EastInitiator, Nonce::EastResponder] {
        for turned in [false, true] {
            let mut lab = other_methods(turned);
            let (e, w) = second_requests(&mut lab, lowest);
            collide(lab, e, w);
        }
    }
}

#[test]
fn both_renew_it_with_other_methods_and_one_second_request_is_late() {
    for lowest in [Nonce::EastInitiator, Nonce::WestInitiator] {
        for turned in [false, true] {
            let mut lab = other_methods(turned);
            let (late, w) = second_requests(&mut lab, lowest);
            lab.exchange(&w);
            let delete = lab.request(W);
            lab.exchange(&delete);
            lab.tells(
                &["child e3 w2", "child_closed e1 rekeyed"],
                &["child w2 e3", "child_closed w1 rekeyed"],
            );
            let refusal = lab.answer(&late);
            assert_eq!(lab.read(&refusal), "N(CHILD_SA_NOT_FOUND)");
            lab.deliver(&refusal);
            lab.planes("e3>w2", "w2>e3");
            lab.silent();
            lab.finish();
        }
    }
}

#[test]
fn both_renew_it_and_one_is_told_of_another_method_too_late() {
    for turned in [false, true] {
        let mut lab = other_methods(turned);
        let (e, w) = lab.both_rekey(Nonce::EastInitiator);
        let refusal = lab.answer(&w);
        let late = lab.answer(&e);
        lab.deliver(&refusal);
        let w = lab.request(W);
        lab.exchange(&w);
        // The matter is settled: no second request.
        lab.deliver(&late);
        lab.planes("e1>w1 e3-w2", "w1+e1 w2>e3");
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.planes("e3>w2", "w2>e3");
        lab.silent();
        lab.finish_with(
            &["child e3 w2", "child_closed e1 rekeyed"],
            &["child w2 e3", "child_closed w1 rekeyed"],
        );
    }
}

#[test]
fn a_delete_crosses_its_renewal() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        lab.delete(W, "w1");
        let (rekey, delete) = (lab.request(E), lab.request(W));
        let refusal = lab.answer(&rekey);
        assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
        //= rfc7296#2.25.1
        //= type=test
        //# If a peer receives a request to close a Child SA
        //# that it is currently rekeying, it SHOULD reply as usual, with a
        //# Delete payload.
        let deleted = lab.answer(&delete);
        assert_eq!(lab.read(&deleted), "D(ESP 1)");
        lab.deliver(&refusal);
        lab.deliver(&deleted);
        lab.planes("", "");
        lab.tells(
            &["child_closed e1 deleted_by_peer"],
            &["child_closed w1 deleted_by_us"],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn a_late_delete_crosses_its_renewal() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        lab.delete(W, "w1");
        let (rekey, delete) = (lab.request(E), lab.request(W));
        lab.exchange(&rekey);
        lab.planes("e1>w1", "w1>e1");
        // It is to be tried again, but then there is nothing more to renew.
        lab.exchange(&delete);
        lab.planes("", "");
        lab.tells(
            &["child_closed e1 deleted_by_peer"],
            &["child_closed w1 deleted_by_us"],
        );
        lab.sim.run_for(s(60));
        lab.silent();
        lab.finish();
    });
}

#[test]
fn a_late_renewal_crosses_its_delete() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        lab.delete(W, "w1");
        let (rekey, delete) = (lab.request(E), lab.request(W));
        lab.exchange(&delete);
        let refusal = lab.answer(&rekey);
        assert_eq!(lab.read(&refusal), "N(CHILD_SA_NOT_FOUND)");
        lab.deliver(&refusal);
        lab.planes("", "");
        lab.tells(
            &["child_closed e1 deleted_by_peer"],
            &["child_closed w1 deleted_by_us"],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn the_successor_is_deleted_before_it_is_known() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        let late = lab.answer(&request);
        lab.delete(W, "w2");
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.planes("e1>w1", "w1>e1");
        lab.tells(&[], &["child w2 e2", "child_closed w2 deleted_by_us"]);
        lab.deliver(&late);
        lab.planes("e1>w1", "w1>e1");
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("", "");
        lab.tells(
            &["child_closed e1 deleted_by_peer"],
            &["child_closed w1 deleted_by_peer"],
        );
        lab.silent();
        lab.finish();
    });
}

//= rfc7296#2.25.2
//= type=test
//# If a peer receives a request to create or rekey a Child SA when it is
//# currently rekeying the IKE SA, it SHOULD reply with
//# TEMPORARY_FAILURE.
#[test]
fn a_renewal_of_the_ike_sa_crosses_it() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        lab.rekey_ike(W);
        let (child, ike) = (lab.request(E), lab.request(W));
        let (from_east, from_west) = (lab.answer(&ike), lab.answer(&child));
        for refusal in [from_east, from_west] {
            assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
            lab.deliver(&refusal);
        }
        lab.planes("e1>w1", "w1>e1");
        lab.tells(&[], &[]);
        //= rfc7296#2.25
        //= type=test
        //# When a peer receives a TEMPORARY_FAILURE
        //# notification, it MUST NOT immediately retry the operation; it MUST
        //# wait so that the sender may complete whatever operation caused the
        //# temporary condition.
        lab.silent();
        lab.sim.manual = false;
        lab.sim.run_for(s(10));
        // The SPI of the first attempt has been given back.
        lab.planes("e3>w2", "w2>e3");
        let (mut east, mut west) = (lab.told(E), lab.told(W));
        east.sort();
        west.sort();
        let moved: Vec<_> = east
            .extract_if(.., |line| line.starts_with("moved"))
            .collect();
        assert_eq!(moved.len(), 1);
        west.retain(|line| !line.starts_with("moved"));
        assert_eq!(
            east,
            [
                "child e3 w2",
                "child_closed e1 rekeyed",
                "ike west's",
                "ike_closed first rekeyed"
            ]
        );
        assert_eq!(
            west,
            [
                "child w2 e3",
                "child_closed w1 rekeyed",
                "ike west's",
                "ike_closed first rekeyed"
            ]
        );
        lab.finish();
    });
}

#[test]
fn the_end_of_the_ike_sa_crosses_it() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        lab.delete_ike(W);
        let (rekey, delete) = (lab.request(E), lab.request(W));
        let refusal = lab.answer(&rekey);
        assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
        lab.exchange(&delete);
        lab.deliver(&refusal);
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
        lab.silent();
        lab.finish();
    });
}

#[test]
fn the_plane_answers_late_when_both_renew_it() {
    each_nonce(|mut lab, lowest| {
        let (e, w) = lab.both_rekey(lowest);
        let from_west = lab.answer(&e);
        // East works on west's request, and hears of its own one meanwhile.
        lab.node(E).plane.hold = true;
        lab.deliver(&w);
        lab.deliver(&from_west);
        lab.release(E);
        let from_east = lab.response(E);
        lab.deliver(&from_east);
        for _ in 0..4 {
            lab.sim.exchange();
        }
        if [Nonce::EastInitiator, Nonce::EastResponder].contains(&lowest) {
            lab.planes("e3>w2", "w2>e3");
        } else {
            lab.planes("e2>w3", "w3>e2");
        }
        let (east, west) = (lab.told(E), lab.told(W));
        assert_eq!((east.len(), west.len()), (4, 4), "{east:?} {west:?}");
        lab.silent();
        lab.finish();
    });
}

#[test]
fn a_late_request_meets_a_successor_that_is_being_installed() {
    each_nonce(|mut lab, lowest| {
        let (late, w) = lab.both_rekey(lowest);
        let response = lab.answer(&w);
        lab.node(W).plane.hold = true;
        lab.deliver(&response);
        let refusal = lab.answer(&late);
        assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
        lab.deliver(&refusal);
        lab.release(W);
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.planes("e3>w2", "w2>e3");
        lab.silent();
        lab.finish_with(
            &["child e3 w2", "child_closed e1 rekeyed"],
            &["child w2 e3", "child_closed w1 rekeyed"],
        );
    });
}
