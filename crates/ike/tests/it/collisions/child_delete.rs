//! The deletion of a child SA where it meets another exchange (RFC 7296 §1.4.1, §2.25).

use super::*;

//= rfc7296#1.4.1
//= type=test
//# If a node receives a delete request for SAs for
//# which it has already issued a delete request, it MUST delete the
//# outgoing SAs while processing the request and the incoming SAs while
//# processing the response.  In that case, the responses MUST NOT
//# include Delete payloads for the deleted SAs, since that would result
//# in duplicate deletion and could in theory delete the wrong SA.
#[test]
fn both_delete_it() {
    both(|mut lab| {
        lab.delete(E, "e1");
        lab.delete(W, "w1");
        let (e, w) = (lab.request(E), lab.request(W));
        let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
        for response in [from_east, from_west] {
            assert_eq!(lab.read(&response), "");
            lab.deliver(&response);
        }
        gone(lab, "deleted_by_us", "deleted_by_us");
    });
}

/// The child SA is gone at both ends, for these reasons.
fn gone(mut lab: Lab, east: &str, west: &str) {
    lab.planes("", "");
    lab.tells(
        &[&format!("child_closed e1 {east}")],
        &[&format!("child_closed w1 {west}")],
    );
    lab.sim.run_for(s(60));
    lab.silent();
    lab.finish();
}

#[test]
fn both_delete_it_and_one_request_is_late() {
    both(|mut lab| {
        lab.delete(E, "e1");
        lab.delete(W, "w1");
        let (late, w) = (lab.request(E), lab.request(W));
        let response = lab.answer(&w);
        assert_eq!(lab.read(&response), "");
        lab.deliver(&response);
        lab.planes("", "");
        //= rfc7296#2.25.1
        //= type=test
        //# If a peer receives a request to close a Child SA
        //# that does not exist, it SHOULD reply without a Delete payload.
        let response = lab.answer(&late);
        assert_eq!(lab.read(&response), "");
        lab.deliver(&response);
        gone(lab, "deleted_by_us", "deleted_by_us");
    });
}

#[test]
fn a_renewal_of_the_ike_sa_crosses_it() {
    both(|mut lab| {
        lab.delete(E, "e1");
        lab.rekey_ike(W);
        let (delete, rekey) = (lab.request(E), lab.request(W));
        //= rfc7296#2.25.2
        //= type=test
        //# If a peer receives a request to delete a Child SA
        //# when it is currently rekeying the IKE SA, it SHOULD reply as usual,
        //# with a Delete payload.
        let deleted = lab.answer(&delete);
        assert_eq!(lab.read(&deleted), "D(ESP 1)");
        let refusal = lab.answer(&rekey);
        assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
        lab.deliver(&refusal);
        lab.deliver(&deleted);
        lab.planes("", "");
        lab.finish_with(
            &[
                "child_closed e1 deleted_by_us",
                "ike west's",
                "moved ",
                "ike_closed first rekeyed",
            ],
            &[
                "child_closed w1 deleted_by_peer",
                "ike west's",
                "moved ",
                "ike_closed first rekeyed",
            ],
        );
    });
}

#[test]
fn it_waits_for_the_successor_of_the_ike_sa() {
    both(|mut lab| {
        lab.rekey_ike(E);
        let rekey = lab.request(E);
        lab.delete(E, "e1");
        lab.silent();
        let response = lab.answer(&rekey);
        // The responder has the successor already, and the initiator not yet.
        lab.delete(W, "w1");
        let early = lab.request(W);
        lab.deliver(&early);
        let hint = lab.response(E);
        assert!(describe(&hint).ends_with("N(INVALID_IKE_SPI)"));
        lab.deliver(&response);
        lab.deliver(&early);
        for _ in 0..3 {
            lab.sim.exchange();
        }
        lab.planes("", "");
        lab.tells(
            &[
                "ike east's",
                "moved e1",
                "child_closed e1 deleted_by_us",
                "ike_closed first rekeyed",
            ],
            &[
                "ike east's",
                "moved w1",
                "ike_closed first rekeyed",
                "child_closed w1 deleted_by_us",
            ],
        );
        lab.sim.run_for(s(60));
        lab.silent();
        lab.finish();
    });
}

#[test]
fn the_end_of_the_ike_sa_crosses_it() {
    both(|mut lab| {
        lab.delete(E, "e1");
        lab.delete_ike(W);
        let (child, ike) = (lab.request(E), lab.request(W));
        let response = lab.answer(&child);
        assert_eq!(lab.read(&response), "");
        lab.exchange(&ike);
        lab.deliver(&response);
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
fn the_old_one_is_deleted_by_the_user_while_it_is_renewed() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        lab.delete(E, "e1");
        lab.silent();
        lab.exchange(&request);
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("e2>w2", "w2>e2");
        lab.tells(
            &["child e2 w2", "child_closed e1 deleted_by_us"],
            &["child w2 e2", "child_closed w1 rekeyed"],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn the_successor_is_deleted_by_the_user_before_the_peer_sends_on_it() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        lab.exchange(&request);
        let old = lab.request(E);
        lab.delete(W, "w2");
        let young = lab.request(W);
        lab.exchange(&old);
        lab.planes("e2>w2", "w2-e2");
        lab.exchange(&young);
        lab.planes("", "");
        lab.tells(
            &[
                "child e2 w2",
                "child_closed e1 rekeyed",
                "child_closed e2 deleted_by_peer",
            ],
            &[
                "child w2 e2",
                "child_closed w1 rekeyed",
                "child_closed w2 deleted_by_us",
            ],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn the_peer_deletes_a_successor_that_is_being_installed() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        let response = lab.answer(&request);
        lab.node(E).plane.hold = true;
        lab.deliver(&response);
        lab.delete(W, "w2");
        let delete = lab.request(W);
        let deleted = lab.answer(&delete);
        assert_eq!(lab.read(&deleted), "D(ESP 1)");
        lab.deliver(&deleted);
        lab.release(E);
        // The old one is not to stay either.
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("", "");
        lab.tells(
            &[
                "child e2 w2",
                "child_closed e2 deleted_by_peer",
                "child_closed e1 rekeyed",
            ],
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
