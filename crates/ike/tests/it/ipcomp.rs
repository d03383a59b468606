//! IPComp: negotiated only if both want it, and only what was offered (RFC 7296 §2.22).

use cygnet_ike::*;
use cygnet_wire::{IpcompNotify, IpcompTransform, NotifyType};

use crate::forge::asked_for;
use crate::pair::*;
use crate::sim::*;

fn pair(east: bool, west: bool) -> Pair {
    let mut pair = Pair::default();
    pair.east_child.compress = east;
    pair.west_child.compress = west;
    pair
}

#[test]
fn packets_are_compressed_if_both_want_it() {
    for (east, west) in [(true, true), (true, false), (false, true), (false, false)] {
        let sim = run(pair(east, west));
        established(&sim);
        let [ours, theirs] = [0, 1].map(|node| child(&sim, node));
        assert_eq!(ours.ipcomp.is_some(), east && west);
        assert_eq!(theirs.ipcomp.is_some(), east && west);
        // What was reserved in vain is to be given back; a responder reserves nothing in vain.
        assert_eq!(ours.unused_cpi.is_some(), east && !west);
        assert_eq!(theirs.unused_cpi, None);
    }
}

#[test]
fn a_successor_has_cpis_of_its_own() {
    for node in 0..2 {
        let mut sim = run(pair(true, true));
        let old = sim.nodes[node].endpoint.child_sas().next().unwrap();
        sim.act(node, |endpoint, now| endpoint.rekey_child(now, old.id));
        sim.run_for(s(1));
        let new = sim.nodes[node].endpoint.child_sas().next().unwrap();
        let cpis = [old.ipcomp, new.ipcomp].map(|cpis| cpis.expect("compressed"));
        assert!(cpis[0].0 != cpis[1].0 && cpis[0].1 != cpis[1].1);
        sim.assert_agreement(0, 1);
    }
}

/// Two ends that want compression, west's response to the IKE_AUTH of east edited so that it says this of IPComp.
fn answered(said: &[&[u8]]) -> Sim {
    let said: Vec<_> = said
        .iter()
        .map(|data| (NotifyType::IPCOMP_SUPPORTED, *data))
        .collect();
    crate::forge::answered(|| pair(true, false), &said)
}

//= rfc7296#2.22
//= type=test
//# implementations of this specification MUST NOT accept an IPComp
//# algorithm that was not proposed, MUST NOT accept more than one, and
//# MUST NOT compress using an algorithm other than one proposed and
//# accepted in the setup of the Child SA.
#[test]
fn what_was_not_offered_is_not_accepted() {
    let good = IpcompNotify {
        cpi: 0x1234,
        transform: IpcompTransform::DEFLATE,
    };
    let good = good.to_bytes();
    let sim = answered(&[&good]);
    assert_eq!(child(&sim, 0).ipcomp.map(|cpis| cpis.1), Some(0x1234));
    let wrong: [&[&[u8]]; 6] = [
        &[&good, &good],
        &[&[0x12, 0x34, 3]],
        &[&[0, 255, 2]],
        &[&[0xf0, 0, 2]],
        &[&[0x12, 0x34]],
        &[&[]],
    ];
    for said in wrong {
        let sim = answered(said);
        let failure = child_failure(&sim, 0);
        assert!(
            matches!(&failure, ChildFailure::NotOffered(what) if what == "IPCOMP_SUPPORTED"),
            "{failure}"
        );
        assert!(sim.nodes[0].plane.installed.is_empty());
    }
}

#[test]
fn of_many_offers_the_one_that_is_known_is_taken() {
    let offers: [&[u8]; 6] = [
        &[],
        &[0, 9, 2],
        &[0xff, 0xff, 2],
        &[0x20, 0, 3],
        &[0x30, 0, 2],
        &[0x40, 0, 2],
    ];
    let said = offers.map(|data| (NotifyType::IPCOMP_SUPPORTED, data));
    let (_, old, new) = asked_for(pair(false, true), &said);
    assert_eq!(old.ipcomp, None);
    let cpis = new.ipcomp.expect("compressed");
    assert_eq!(cpis.1, 0x3000);
    assert!(IpcompNotify::NEGOTIATED.contains(&cpis.0));
}

#[test]
fn a_tunnel_for_the_other_family_is_not_compressed() {
    let mut pair = pair(true, true);
    pair.east_child.local_ts.push(net("2001:db8:1::/48"));
    pair.east_child.remote_ts.push(net("2001:db8:2::/48"));
    pair.west_child.local_ts.push(net("2001:db8:2::/48"));
    pair.west_child.remote_ts.push(net("2001:db8:1::/48"));
    let sim = run(pair);
    established(&sim);
    for node in [0, 1] {
        assert_eq!(child(&sim, node).ipcomp, None);
        assert_eq!(child(&sim, node).unused_cpi, None);
    }
}
