//! Security labels (RFC 9478): child SAs come about between ends that have the same label, or none.

use cygnet_ike::*;
use cygnet_ipsec::SecurityLabel;

use crate::pair::*;
use crate::sim::*;

fn label(text: &str) -> Option<SecurityLabel> {
    Some(SecurityLabel::new(text.as_bytes()).unwrap())
}

fn pair(east: Option<SecurityLabel>, west: Option<SecurityLabel>) -> Pair {
    let mut pair = Pair::default();
    pair.east_child.label = east;
    pair.west_child.label = west;
    pair
}

fn only(sim: &Sim, node: usize) -> ChildSaInfo {
    sim.nodes[node].endpoint.child_sas().next().unwrap()
}

#[test]
fn a_label_is_negotiated_and_survives_rekeying_by_either_end() {
    for node in [0, 1] {
        let mut sim = run(pair(label("system_u:a\0"), label("system_u:a\0")));
        established(&sim);
        let old = only(&sim, node);
        sim.act(node, |endpoint, now| endpoint.rekey_child(now, old.id));
        sim.run_for(s(1));
        let new = only(&sim, node);
        assert_eq!(new.replaces, Some(old.id));
        assert_eq!(new.config.label, label("system_u:a\0"));
        assert_eq!(new.ts_local, old.ts_local);
        sim.assert_agreement(0, 1);
    }
}

#[test]
fn ends_with_different_labels_make_no_child_sa() {
    for (east, west) in [
        (label("a\0"), label("b\0")),
        (label("a\0"), None),
        (None, label("b\0")),
    ] {
        let sim = run(pair(east.clone(), west.clone()));
        let refused = child_failure(&sim, 0);
        assert!(
            matches!(
                refused,
                ChildFailure::TsUnacceptable {
                    by: Party::Peer,
                    ..
                }
            ),
            "{refused}"
        );
        let shown = |label: &Option<SecurityLabel>| match label {
            Some(label) => label.to_string(),
            None => "none".to_owned(),
        };
        let reason = ChildFailure::LabelUnacceptable {
            theirs: shown(&east),
            ours: west,
        };
        assert_eq!(child_failure(&sim, 1), reason);
        sim.assert_agreement(0, 1);
    }
}

#[test]
fn the_label_decides_between_configurations_for_the_same_traffic() {
    let mut sim = pair(label("b\0"), None).sim(1);
    let west = &sim.nodes[1].book;
    let mut peer = (*west.peers[0]).clone();
    let named = |name: &str, label| {
        let mut child = (*peer.children[0]).clone();
        (child.name, child.label) = (name.to_owned(), label);
        std::sync::Arc::new(child)
    };
    peer.children = vec![
        named("plain", None),
        named("a", label("a\0")),
        named("b", label("b\0")),
    ];
    let book = Book {
        peers: vec![std::sync::Arc::new(peer)],
        ..(**west).clone()
    };
    sim.nodes[1]
        .endpoint
        .set_directory(std::sync::Arc::new(book));
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    established(&sim);
    assert_eq!(child(&sim, 1).config.name, "b");
}
