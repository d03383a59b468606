//! Synchronisation of Message IDs (RFC 6311) where it meets other exchanges: what was under way is begun anew.

use super::*;

/// An end takes over: its request.
#[track_caller]
fn takes_over(lab: &mut Lab, end: usize) -> Datagram {
    let ike = lab.ike(end);
    assert!(lab.act(end, |endpoint, now| endpoint.synchronise(now, ike)));
    lab.request(end)
}

/// Some time later, with everything that is sent arriving.
fn later(lab: &mut Lab, time: u64) {
    lab.sim.manual = false;
    lab.sim.run_for(s(time));
    lab.sim.manual = true;
}

/// The request was on its way to the member that is gone.
#[test]
fn a_renewal_that_was_not_heard_is_asked_for_again() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        lab.request(E);
        let sync = takes_over(&mut lab, W);
        lab.exchange(&sync);
        lab.tells(
            &["synchronised", "replay_counters"],
            &["replay_counters", "synchronised"],
        );
        lab.planes("e1>w1", "w1>e1");
        later(&mut lab, 3);
        lab.planes("e3>w2", "w2>e3");
        lab.tells(
            &["child e3 w2", "child_closed e1 rekeyed"],
            &["child w2 e3", "child_closed w1 rekeyed"],
        );
        lab.finish();
    });
}

/// The request had been answered, and nobody repeats the answer. West has one child SA more than east until east renews.
#[test]
fn a_renewal_whose_answer_was_lost_is_made_twice() {
    both(|mut lab| {
        lab.rekey(E, "e1");
        let request = lab.request(E);
        lab.answer(&request);
        lab.tells(&[], &["child w2 e2"]);
        let sync = takes_over(&mut lab, W);
        lab.exchange(&sync);
        lab.tells(
            &["synchronised", "replay_counters"],
            &["replay_counters", "synchronised"],
        );
        // The old one may still be used by both.
        lab.planes("e1>w1", "w1>e1 w2-e2");
        later(&mut lab, 3);
        let (east, west) = (lab.plane(E), lab.plane(W));
        assert_eq!(east, "e3>w3");
        assert!(west.contains("w3>e3") || west.contains("w3+e3"), "{west}");
    });
}

#[test]
fn a_renewal_of_the_ike_sa_that_was_not_heard_is_asked_for_again() {
    both(|mut lab| {
        lab.rekey_ike(E);
        lab.request(E);
        let sync = takes_over(&mut lab, W);
        lab.exchange(&sync);
        later(&mut lab, 5);
        lab.tells(
            &[
                "synchronised",
                "replay_counters",
                "ike east's",
                "moved e1",
                "ike_closed first rekeyed",
            ],
            &[
                "replay_counters",
                "synchronised",
                "ike east's",
                "moved w1",
                "ike_closed first rekeyed",
            ],
        );
        // The successor has Message IDs of its own, and may be taken over as well.
        let sync = takes_over(&mut lab, E);
        lab.exchange(&sync);
        lab.tells(
            &["replay_counters", "synchronised"],
            &["synchronised", "replay_counters"],
        );
        lab.finish();
    });
}

#[test]
fn a_deletion_that_was_not_heard_is_said_again() {
    both(|mut lab| {
        lab.delete(E, "e1");
        lab.request(E);
        let sync = takes_over(&mut lab, W);
        let response = lab.answer(&sync);
        let delete = lab.request(E);
        assert_eq!(lab.read(&delete), "D(ESP 1)");
        lab.deliver(&response);
        lab.exchange(&delete);
        lab.planes("", "");
        lab.tells(
            &[
                "synchronised",
                "replay_counters",
                "child_closed e1 deleted_by_us",
            ],
            &[
                "replay_counters",
                "synchronised",
                "child_closed w1 deleted_by_peer",
            ],
        );
        lab.finish();
    });
}

/// What the peer of the one that is gone was working on is asked for again, or not: it keeps nothing of it.
#[test]
fn what_was_being_answered_is_let_go() {
    both(|mut lab| {
        lab.create(E);
        let request = lab.request(E);
        lab.node(W).plane.hold = true;
        lab.deliver(&request);
        let sync = takes_over(&mut lab, E);
        lab.exchange(&sync);
        lab.node(W).plane.hold = false;
        lab.release(W);
        lab.planes("e1>w1", "w1>e1");
        assert!(lab.node(W).plane.reserved.is_empty());
        later(&mut lab, 5);
        lab.sim.assert_agreement(E, W);
        assert_eq!(lab.plane(E).split(' ').count(), 2);
    });
}

/// The one that has asked hears of a renewal before it hears the answer.
#[test]
fn the_answer_comes_after_the_next_request() {
    both(|mut lab| {
        let sync = takes_over(&mut lab, W);
        let response = lab.answer(&sync);
        lab.rekey(E, "e1");
        let request = lab.request(E);
        lab.exchange(&request);
        lab.deliver(&response);
        let delete = lab.request(E);
        lab.exchange(&delete);
        lab.planes("e2>w2", "w2>e2");
        lab.tells(
            &[
                "synchronised",
                "replay_counters",
                "child e2 w2",
                "child_closed e1 rekeyed",
            ],
            &[
                "replay_counters",
                "child w2 e2",
                "synchronised",
                "child_closed w1 rekeyed",
            ],
        );
        lab.finish();
    });
}

/// An IKE SA that has a successor is not taken over any more.
#[test]
fn what_is_over_is_not_taken_over() {
    both(|mut lab| {
        let sync = takes_over(&mut lab, W);
        lab.rekey_ike(E);
        let request = lab.request(E);
        let response = lab.answer(&request);
        lab.deliver(&response);
        let delete = lab.request(E);
        lab.deliver(&sync);
        lab.sim.outbox.clear();
        lab.exchange(&delete);
        later(&mut lab, 100);
        lab.sim.assert_agreement(E, W);
        let names = [lab.told(E), lab.told(W)].concat();
        assert!(!names.contains(&"synchronised".to_owned()), "{names:?}");
        assert!(names.contains(&"ike_closed first rekeyed".to_owned()));
    });
}
