//! Further child SAs where their making meets another exchange or comes to nothing (RFC 7296 §1.3.1, §2.25).

use super::*;

#[test]
fn both_create_one() {
    both(|mut lab| {
        lab.create(E);
        lab.create(W);
        let (e, w) = (lab.request(E), lab.request(W));
        let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        lab.deliver(&from_west);
        lab.planes("e1+w1 e2>w3 e3+w2", "w1+e1 w2>e3 w3+e2");
        lab.tells(
            &["child e3 w2", "child e2 w3"],
            &["child w3 e2", "child w2 e3"],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn one_is_created_while_the_other_is_renewed() {
    both(|mut lab| {
        lab.create(E);
        lab.rekey(W, "w1");
        let (e, w) = (lab.request(E), lab.request(W));
        let (from_east, from_west) = (lab.answer(&w), lab.answer(&e));
        lab.deliver(&from_east);
        lab.deliver(&from_west);
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.planes("e2+w3 e3>w2", "w2>e3 w3+e2");
        lab.tells(
            &["child e3 w2", "child e2 w3", "child_closed e1 rekeyed"],
            &["child w3 e2", "child w2 e3", "child_closed w1 rekeyed"],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn a_renewal_of_the_ike_sa_crosses_it() {
    both(|mut lab| {
        lab.create(E);
        lab.rekey_ike(W);
        let (create, rekey) = (lab.request(E), lab.request(W));
        let (from_east, from_west) = (lab.answer(&rekey), lab.answer(&create));
        for refusal in [from_east, from_west] {
            assert_eq!(lab.read(&refusal), "N(TEMPORARY_FAILURE)");
            lab.deliver(&refusal);
        }
        lab.tells(&[], &[]);
        lab.silent();
        lab.sim.manual = false;
        lab.sim.run_for(s(10));
        lab.planes("e1+w1 e3>w2", "w1+e1 w2>e3");
        let (east, west) = (lab.told(E), lab.told(W));
        assert!(east.contains(&"child e3 w2".to_owned()), "{east:?}");
        assert!(east.contains(&"ike west's".to_owned()), "{east:?}");
        assert_eq!((east.len(), west.len()), (4, 4), "{east:?} {west:?}");
        lab.finish();
    });
}

#[test]
fn it_waits_for_the_successor_of_the_ike_sa() {
    both(|mut lab| {
        lab.rekey_ike(E);
        let rekey = lab.request(E);
        lab.create(E);
        lab.silent();
        lab.exchange(&rekey);
        for _ in 0..2 {
            lab.sim.exchange();
        }
        lab.tells(
            &[
                "ike east's",
                "moved e1",
                "ike_closed first rekeyed",
                "child e2 w2",
            ],
            &[
                "ike east's",
                "moved w1",
                "ike_closed first rekeyed",
                "child w2 e2",
            ],
        );
        lab.planes("e1+w1 e2>w2", "w1+e1 w2>e2");
        lab.silent();
        lab.finish();
    });
}

#[test]
fn the_end_of_the_ike_sa_crosses_it() {
    // Before the request is sent, on its way, while the peer's plane works, while ours does.
    for stage in 0..4 {
        both(|mut lab| {
            lab.node(E).plane.hold = stage == 0;
            lab.node(W).plane.hold = stage == 2;
            lab.create(E);
            if stage == 2 {
                let create = lab.request(E);
                lab.deliver(&create);
            }
            if stage == 3 {
                let create = lab.request(E);
                let response = lab.answer(&create);
                lab.node(E).plane.hold = true;
                lab.deliver(&response);
            }
            lab.sim.outbox.clear();
            // The end that is not busy.
            lab.delete_ike(W);
            let delete = lab.request(W);
            lab.exchange(&delete);
            lab.release(E);
            lab.release(W);
            lab.planes("", "");
            let east = [
                "child_failed ike_sa_ended",
                "child_closed e1 ike_sa_closed",
                "ike_closed first deleted_by_peer",
            ];
            let mut told = lab.told(E);
            told.sort();
            let mut wanted = east.map(str::to_owned);
            wanted.sort();
            assert_eq!(told, wanted, "stage {stage}");
            let west = lab.told(W);
            let failed = west
                .iter()
                .filter(|l| l.starts_with("child_failed"))
                .count();
            assert_eq!(failed, usize::from(stage == 2), "{west:?}");
            lab.finish();
        });
    }
}

#[test]
fn it_is_not_wanted_any_more() {
    // While the SPI is awaited, the response, the installation, and the time to ask again.
    for stage in 0..4 {
        both(|mut lab| {
            if stage == 3 {
                lab.rekey_ike(W);
            }
            lab.node(E).plane.hold = stage == 0;
            let child = lab.create(E);
            let rekey = (stage == 3).then(|| lab.request(W));
            let mut response = None;
            if stage >= 2 {
                let request = lab.request(E);
                let said = lab.answer(&request);
                lab.node(E).plane.hold = stage == 2;
                lab.deliver(&said);
            } else if stage == 1 {
                let request = lab.request(E);
                response = Some(lab.answer(&request));
            }
            lab.act(E, |endpoint, now| endpoint.delete_child(now, child));
            lab.release(E);
            if let Some(response) = response {
                lab.deliver(&response);
            }
            if let Some(rekey) = rekey {
                lab.exchange(&rekey);
            }
            lab.sim.manual = false;
            lab.sim.exchange();
            lab.sim.run_for(s(20));
            lab.planes("e1>w1", "w1>e1");
            let told = lab.told(E);
            let about = told.iter().filter(|l| l.starts_with("child"));
            let about: Vec<_> = about.map(String::as_str).collect();
            if stage == 1 || stage == 2 {
                assert_eq!(about, ["child e2 w2", "child_closed e2 deleted_by_us"]);
            } else {
                assert_eq!(about, ["child_failed cancelled"]);
            }
            lab.told(W);
            lab.finish();
        });
    }
}

#[test]
fn the_peer_deletes_it_before_it_is_known() {
    both(|mut lab| {
        lab.create(E);
        let request = lab.request(E);
        let late = lab.answer(&request);
        lab.delete(W, "w2");
        let delete = lab.request(W);
        lab.exchange(&delete);
        lab.deliver(&late);
        lab.planes("e1>w1", "w1>e1");
        lab.tells(
            &["child_failed deleted_by_peer"],
            &["child w2 e2", "child_closed w2 deleted_by_us"],
        );
        lab.silent();
        lab.finish();
    });
}

#[test]
fn a_plane_that_does_not_answer_ends_the_attempt() {
    both(|mut lab| {
        lab.node(W).plane.hold = true;
        lab.create(E);
        let request = lab.request(E);
        lab.deliver(&request);
        lab.sim.run_for(s(31));
        let refusal = lab.response(W);
        assert_eq!(lab.read(&refusal), "N(NO_PROPOSAL_CHOSEN)");
        lab.deliver(&refusal);
        // What it gives after all is given back.
        lab.release(W);
        lab.tells(
            &["child_failed no_proposal_chosen"],
            &["child_failed spi_refused"],
        );
        lab.planes("e1>w1", "w1>e1");
        lab.finish();
    });
}

/// Neither end must spin when a sign of life is due and cannot be asked for.
#[test]
fn a_plane_that_does_not_answer_while_a_sign_of_life_is_due() {
    for end in [E, W] {
        for turned in [false, true] {
            let mut pair = Pair::default();
            (pair.east.liveness, pair.west.liveness) = (Some(s(5)), Some(s(5)));
            let mut lab = Lab::new(pair, turned);
            lab.node(end).plane.hold = true;
            lab.create(E);
            if end == W {
                let request = lab.request(E);
                lab.deliver(&request);
                // What it wants itself waits for its plane.
                lab.create(W);
            }
            lab.sim.run_for(s(28));
            lab.release(end);
            lab.planes("e1>w1", if end == E { "w1>e1" } else { "w1+e1 w2>e2" });
            lab.sim.outbox.clear();
            lab.sim.manual = false;
            lab.sim.run_for(s(400));
            lab.sim.assert_agreement(0, 1);
        }
    }
}
