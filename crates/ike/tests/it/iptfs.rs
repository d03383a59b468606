//! IP-TFS: negotiated only if both want it, with what each requires of the other (RFC 9347 §5.1, §6.1.4).

use std::time::Duration;

use cygnet_ike::*;
use cygnet_ipsec::Mode;
use cygnet_wire::{ExchangeType, Notify, NotifyType};

use crate::forge::Forge;
use crate::pair::*;
use crate::sim::*;

fn pair(east: bool, west: bool) -> Pair {
    let mut pair = Pair::default();
    pair.east_child.iptfs = east;
    pair.west_child.iptfs = west;
    pair
}

fn mode_of(wanted: bool) -> Mode {
    match wanted {
        true => Mode::Iptfs,
        false => Mode::Tunnel,
    }
}

#[test]
fn it_is_an_ordinary_tunnel_unless_both_want_it() {
    for (east, west) in [(true, true), (true, false), (false, true), (false, false)] {
        let sim = run(pair(east, west));
        established(&sim);
        for node in [0, 1] {
            assert_eq!(child(&sim, node).mode, mode_of(east && west));
        }
    }
}

#[test]
fn a_successor_has_the_same_mode() {
    for node in 0..2 {
        let mut sim = run(pair(true, true));
        let old = sim.nodes[node].endpoint.child_sas().next().unwrap();
        sim.act(node, |endpoint, now| endpoint.rekey_child(now, old.id));
        sim.run_for(s(1));
        let new = sim.nodes[node].endpoint.child_sas().next().unwrap();
        assert!(new.id != old.id && new.mode == Mode::Iptfs);
        sim.assert_agreement(0, 1);
    }
}

#[test]
fn each_end_says_for_itself_whether_it_takes_fragments() {
    for (east, west) in [(true, false), (false, true), (true, true)] {
        let mut pair = pair(true, true);
        pair.east_child.refuse_fragments = east;
        pair.west_child.refuse_fragments = west;
        let sim = run(pair);
        established(&sim);
        let told = [0, 1].map(|node| child(&sim, node).peer_refuses_fragments);
        assert_eq!(told, [west, east]);
    }
}

#[test]
fn it_goes_with_no_other_mode_and_not_with_compression() {
    let mut transport = pair(true, true);
    let mut compressed = pair(true, true);
    for child in [&mut transport.east_child, &mut transport.west_child] {
        child.mode = Mode::Transport;
        child.local_ts = vec![TsTemplate::dynamic()];
        child.remote_ts = vec![TsTemplate::dynamic()];
    }
    for child in [&mut compressed.east_child, &mut compressed.west_child] {
        child.compress = true;
    }
    let sim = run(transport);
    established(&sim);
    assert_eq!(child(&sim, 0).mode, Mode::Transport);
    let sim = run(compressed);
    established(&sim);
    assert_eq!(child(&sim, 0).mode, Mode::Iptfs);
    assert_eq!(child(&sim, 0).ipcomp, None);
    assert_eq!(child(&sim, 0).unused_cpi, None);
}

/// West's response to the IKE_AUTH of east, which has asked for IP-TFS if it is so configured, edited so that it says this.
fn answered(asked: bool, said: &[(NotifyType, &[u8])]) -> Sim {
    let make = || {
        let mut pair = pair(asked, false);
        pair.east_config.key_log = true;
        pair.west_config.key_log = true;
        pair.sim(1)
    };
    let (mut sim, response, keys) = crate::forge::stopped_at(3, make);
    let mut west = Forge::with_keys(keys, Role::Responder);
    let edited = west.edit(&response, |payloads, w| {
        for payload in payloads {
            w.any(payload);
        }
        for (kind, data) in said {
            w.notify(&Notify::new(*kind, data));
        }
    });
    sim.deliver(edited);
    sim.run_for(Duration::ZERO);
    sim
}

const AGGFRAG: NotifyType = NotifyType::USE_AGGFRAG;

#[test]
fn an_answer_counts_if_it_was_asked_for_and_can_be_met() {
    for (data, fragments) in [(&[][..], true), (&[0], true), (&[1], false)] {
        let sim = answered(true, &[(AGGFRAG, data)]);
        assert_eq!(child(&sim, 0).mode, Mode::Iptfs);
        assert_eq!(child(&sim, 0).peer_refuses_fragments, !fragments);
    }
    let good = (AGGFRAG, &[0][..]);
    // Not asked for, congestion control, flags of later, of another length, twice.
    for (asked, said) in [
        (false, &[good][..]),
        (true, &[(AGGFRAG, &[2])]),
        (true, &[(AGGFRAG, &[0x81])]),
        (true, &[(AGGFRAG, &[0, 0])]),
        (true, &[good, good]),
    ] {
        let sim = answered(asked, said);
        let failure = child_failure(&sim, 0);
        assert!(
            matches!(&failure, ChildFailure::NotOffered(what) if what.starts_with("USE_AGGFRAG")),
            "{failure}"
        );
        assert!(sim.nodes[0].plane.installed.is_empty());
    }
    let sim = answered(true, &[good, (NotifyType::USE_TRANSPORT_MODE, &[])]);
    assert_eq!(child_failure(&sim, 0), ChildFailure::ModeMismatch("tunnel"));
}

#[test]
fn what_cannot_be_met_is_declined() {
    let transport = (NotifyType::USE_TRANSPORT_MODE, &[][..]);
    for (said, expected) in [
        (&[(AGGFRAG, &[][..])][..], Mode::Iptfs),
        (&[(AGGFRAG, &[0])], Mode::Iptfs),
        (&[(AGGFRAG, &[1])], Mode::Iptfs),
        (&[], Mode::Tunnel),
        (&[(AGGFRAG, &[2])], Mode::Tunnel),
        (&[(AGGFRAG, &[3])], Mode::Tunnel),
        (&[(AGGFRAG, &[0x40])], Mode::Tunnel),
        (&[(AGGFRAG, &[0, 0])], Mode::Tunnel),
        (&[(AGGFRAG, &[0]), (AGGFRAG, &[0])], Mode::Tunnel),
        (&[(AGGFRAG, &[0]), transport], Mode::Tunnel),
    ] {
        let mut pair = pair(false, true);
        pair.east_config.key_log = true;
        let mut sim = pair.sim(1);
        sim.initiate(0, WEST);
        sim.run_for(s(1));
        sim.manual = true;
        let mut east = Forge::new(&sim, 0, Role::Initiator);
        let old = sim.nodes[1].endpoint.child_sas().next().unwrap();
        assert_eq!(old.mode, Mode::Tunnel);
        let request = east.message(ExchangeType::CREATE_CHILD_SA, false, 2, |payloads| {
            for (kind, data) in said {
                payloads.notify(&Notify::new(*kind, data));
            }
            let proposals = [cygnet_wire::Proposal::esp(
                1,
                cygnet_wire::Spi(0x5000),
                vec![
                    cygnet_wire::Transform::encr(cygnet_wire::EncrId(20), Some(256)),
                    cygnet_wire::Transform::esn(cygnet_wire::EsnId(0)),
                ],
            )];
            payloads
                .sa(&proposals)
                .nonce(&[7; 32])
                .ts_i(&[range("10.1.0.0/16")])
                .ts_r(&[range("10.2.0.0/16")]);
        });
        sim.deliver(request);
        sim.run_for(Duration::ZERO);
        let mut children = sim.nodes[1].endpoint.child_sas();
        let new = children.find(|c| c.id != old.id).unwrap();
        assert_eq!(new.mode, expected, "{said:?}");
    }
}
