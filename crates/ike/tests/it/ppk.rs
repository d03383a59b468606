//! Post-quantum pre-shared keys between our own ends, which take the way by IKE_INTERMEDIATE (RFC 9867). The one by
//! IKE_AUTH (RFC 8784) is tested with strongSwan and libreswan.

use std::sync::Arc;

use cygnet_crypto::{IkeProposal, SecretBytes};
use cygnet_ike::*;

use crate::pair::*;
use crate::sim::Sim;

use PpkPolicy::{Insist, Never, Permit, Propose};

fn ppk(id: &str, key: &str) -> Ppk {
    Ppk {
        id: id.as_bytes().to_vec(),
        key: SecretBytes::copy_from(key.as_bytes()),
    }
}

fn pair(east: PpkPolicy, west: PpkPolicy) -> Pair {
    let mut pair = Pair::default();
    (pair.east.ppk, pair.west.ppk) = (east, west);
    pair.east_ppks = vec![ppk("one", "the first key")];
    pair.west_ppks = vec![ppk("zero", "another"), ppk("one", "the first key")];
    pair
}

fn used(sim: &Sim) -> (bool, bool) {
    let of = |node: usize| {
        sim.nodes[node]
            .endpoint
            .ike_sas()
            .next()
            .expect("an IKE SA")
            .ppk
    };
    (of(0), of(1))
}

fn says(sim: &Sim, what: &str) -> usize {
    sim.trace.iter().filter(|line| line.contains(what)).count()
}

#[test]
fn both_ends_mix_in_what_both_have() {
    for (east, west) in [
        (Propose, Permit),
        (Propose, Insist),
        (Insist, Permit),
        (Insist, Insist),
    ] {
        let sim = run(pair(east, west));
        established(&sim);
        assert_eq!(used(&sim), (true, true), "{east:?} {west:?}");
        assert_eq!(says(&sim, "USE_PPK_INT"), 2);
        assert_eq!(says(&sim, "IKE_INTERMEDIATE"), 2);
    }
}

#[test]
fn with_additional_key_exchanges_the_last_one_names_the_ppk() {
    let mut pair = pair(Propose, Permit);
    let text = "aes256-sha2_256-dh31;addke1=dh19;addke2=ml_kem_768";
    pair.east.proposals = IkeProposal::parse_ipsec_conf(text).unwrap();
    pair.west.proposals = pair.east.proposals.clone();
    let sim = run(pair);
    established(&sim);
    assert_eq!(used(&sim), (true, true));
}

/// What either end wants, who has which key, and what comes of it: the PPK is used, it is not, or a failure of the
/// initiator and the responder.
//= rfc8784#3
//= type=test
//# If the responder did
//# not include the USE_PPK notification and the flag mandatory_or_not
//# indicates that using PPKs is mandatory for communication with this
//# responder, then the initiator MUST abort the exchange.
#[test]
fn who_wants_what_and_what_comes_of_it() {
    type Change = fn(&mut Pair);
    let none: Change = |_| {};
    let unknown: Change = |pair| pair.west_ppks = vec![ppk("two", "the first key")];
    let different: Change = |pair| pair.west_ppks = vec![ppk("one", "not the same")];
    let west_has_none: Change = |pair| pair.west_ppks.clear();
    let east_has_none: Change = |pair| pair.east_ppks.clear();
    let not_this: Change = |pair| pair.west.ppk_ids = vec![b"zero".to_vec()];
    for (east, west, change, outcome) in [
        (Never, Never, none, Ok(false)),
        (Never, Permit, none, Ok(false)),
        (Never, Propose, none, Ok(false)),
        (Permit, Propose, none, Ok(false)),
        (Propose, Never, none, Ok(false)),
        (Propose, Propose, none, Ok(true)),
        (Propose, Permit, unknown, Ok(false)),
        (Propose, Permit, different, Ok(false)),
        (Propose, Permit, west_has_none, Ok(false)),
        (Propose, Permit, east_has_none, Ok(false)),
        (Propose, Permit, not_this, Ok(false)),
        (Insist, Never, none, Err(("ppk_required", ""))),
        (
            Insist,
            Permit,
            unknown,
            Err(("ppk_required", "half_open_timeout")),
        ),
        (Insist, Permit, east_has_none, Err(("no_ppk", ""))),
        (
            Never,
            Insist,
            none,
            Err(("authentication_failed", "ppk_required")),
        ),
        (
            Permit,
            Insist,
            none,
            Err(("authentication_failed", "ppk_required")),
        ),
        (
            Propose,
            Insist,
            unknown,
            Err(("peer_notify", "ppk_required")),
        ),
        (
            Propose,
            Insist,
            different,
            Err(("peer_notify", "ppk_required")),
        ),
    ] {
        let mut pair = pair(east, west);
        change(&mut pair);
        let mut sim = run(pair);
        let what = format!("{east:?} {west:?} {outcome:?}");
        match outcome {
            Ok(ppk) => {
                established(&sim);
                assert_eq!(used(&sim), (ppk, ppk), "{what}");
            }
            Err((of_east, of_west)) => {
                sim.run_for(s(40));
                assert_eq!(ike_failure(&sim, 0).name(), of_east, "{what}");
                if !of_west.is_empty() {
                    assert_eq!(ike_failure(&sim, 1).name(), of_west, "{what}");
                }
                assert_eq!(sim.nodes[0].endpoint.size(), 0, "{what}");
            }
        }
    }
}

/// A child SA of a configuration that insists on a PPK is not to be had under an IKE SA without one.
#[test]
fn what_insists_on_a_ppk_is_not_shared_with_what_has_none() {
    for insists in [false, true] {
        let pair = pair(Never, Never);
        let mut secret = pair.west.clone();
        secret.name = "secret".to_owned();
        let child =
            |name: &str, local, remote| ChildConfig::new(name, vec![net(local)], vec![net(remote)]);
        secret.children = vec![Arc::new(child("secret", "10.9.0.0/16", "10.1.0.0/16"))];
        if insists {
            secret.ppk = Insist;
        }
        let mut sim = pair.sim(1);
        let mut book = (*sim.nodes[1].book).clone();
        book.peers.push(Arc::new(secret));
        sim.nodes[1].endpoint.set_directory(Arc::new(book));
        let ike = sim.initiate(0, WEST);
        sim.run_for(s(1));
        established(&sim);
        let config = Arc::new(child("secret", "10.1.0.0/16", "10.9.0.0/16"));
        let request = ChildRequest {
            config,
            acquire: None,
        };
        sim.act(0, |endpoint, now| endpoint.create_child(now, ike, request));
        sim.run_for(s(1));
        let made = sim.nodes[1].endpoint.child_sas().count();
        assert_eq!(made, if insists { 1 } else { 2 });
    }
}
