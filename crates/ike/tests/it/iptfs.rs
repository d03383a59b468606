//! IP-TFS: negotiated only if both want it, with what each requires of the other (RFC 9347 §5.1, §6.1.4).

use cygnet_ike::*;
use cygnet_ipsec::Mode;
use cygnet_wire::NotifyType;

use crate::forge::{answered, asked_for};
use crate::pair::*;

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

const AGGFRAG: NotifyType = NotifyType::USE_AGGFRAG;

#[test]
fn an_answer_counts_if_it_was_asked_for_and_can_be_met() {
    for (data, fragments) in [(&[][..], true), (&[0], true), (&[1], false)] {
        let sim = answered(|| pair(true, false), &[(AGGFRAG, data)]);
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
        let sim = answered(|| pair(asked, false), said);
        let failure = child_failure(&sim, 0);
        assert!(
            matches!(&failure, ChildFailure::NotOffered(what) if what.starts_with("USE_AGGFRAG")),
            "{failure}"
        );
        assert!(sim.nodes[0].plane.installed.is_empty());
    }
    let sim = answered(
        || pair(true, false),
        &[good, (NotifyType::USE_TRANSPORT_MODE, &[])],
    );
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
        let (_, old, new) = asked_for(pair(false, true), said);
        assert_eq!(old.mode, Mode::Tunnel);
        assert_eq!(new.mode, expected, "{said:?}");
    }
}
