//! Child SAs of single CPUs (RFC 9611): the first one, further ones with the same selectors, and no more than are wanted.

use cygnet_ike::*;
use cygnet_wire::NotifyType;

use crate::pair::*;
use crate::sim::*;

fn pair(east: u32, west: u32) -> Pair {
    let mut pair = Pair::default();
    pair.east_child.clones = east;
    pair.west_child.clones = west;
    pair.east_config.cpus = 4;
    pair.west_config.cpus = 3;
    pair
}

fn children(sim: &Sim, node: usize) -> Vec<ChildSaInfo> {
    sim.nodes[node].endpoint.child_sas().collect()
}

fn resources(sim: &Sim, node: usize) -> Vec<Option<Resource>> {
    let all = children(sim, node).into_iter();
    all.map(|child| child.resource).collect()
}

/// A packet on this CPU asks east for a child SA.
fn ask(sim: &mut Sim, cpu: u32) {
    let first = children(sim, 0).remove(0);
    let hint = AcquireHint {
        seq: 7 + cpu,
        local: range("10.1.0.1/32"),
        remote: range("10.2.0.1/32"),
        cpu: Some(cpu),
    };
    let request = ChildRequest {
        config: first.config,
        acquire: Some(hint),
    };
    sim.act(0, |endpoint, now| {
        endpoint.create_child(now, first.ike, request);
    });
    sim.run_for(s(1));
}

const FALLBACK: Option<Resource> = Some(Resource::Fallback);

fn on(cpu: u32) -> Option<Resource> {
    Some(Resource::Cpu(Some(cpu)))
}

#[test]
fn both_ends_say_whether_there_may_be_several() {
    for (east, west) in [(2, 2), (2, 0), (0, 2), (0, 0)] {
        let sim = run(pair(east, west));
        established(&sim);
        let expected = (east > 0 && west > 0).then_some(Resource::Fallback);
        for node in [0, 1] {
            assert_eq!(resources(&sim, node), [expected]);
        }
    }
}

#[test]
fn each_further_one_has_a_cpu_of_its_own_at_either_end() {
    let mut sim = run(pair(4, 4));
    for cpu in [0, 3, 1, 2] {
        ask(&mut sim, cpu);
    }
    assert_eq!(resources(&sim, 0), [FALLBACK, on(0), on(3), on(1), on(2)]);
    // West has three CPUs only.
    let none = Some(Resource::Cpu(None));
    assert_eq!(resources(&sim, 1), [FALLBACK, on(2), on(1), on(0), none]);
    let selectors = |child: &ChildSaInfo| (child.ts_local.clone(), child.ts_remote.clone());
    let all = children(&sim, 0);
    assert!(
        all.iter()
            .all(|child| selectors(child) == selectors(&all[0]))
    );
    sim.assert_agreement(0, 1);
}

#[test]
fn there_are_no_more_than_the_responder_wants() {
    let mut sim = run(pair(4, 2));
    for cpu in 0..3 {
        ask(&mut sim, cpu);
    }
    assert_eq!(children(&sim, 0).len(), 3);
    assert_eq!(child_failure(&sim, 0), ChildFailure::MaxQueue(Party::Peer));
    assert_eq!(child_failure(&sim, 1), ChildFailure::MaxQueue(Party::Us));
    assert_eq!(NotifyType::TS_MAX_QUEUE.0, 48);
    sim.assert_agreement(0, 1);
    // When one goes there is room for another.
    let last = children(&sim, 0).pop().unwrap();
    sim.act(0, |endpoint, now| endpoint.delete_child(now, last.id));
    sim.run_for(s(1));
    ask(&mut sim, 3);
    assert_eq!(resources(&sim, 0), [FALLBACK, on(0), on(3)]);
}

#[test]
fn a_successor_stays_on_its_cpu() {
    for node in 0..2 {
        let mut sim = run(pair(2, 2));
        ask(&mut sim, 1);
        let before = [0, 1].map(|node| resources(&sim, node));
        for child in children(&sim, node) {
            sim.act(node, |endpoint, now| endpoint.rekey_child(now, child.id));
            sim.run_for(s(1));
        }
        assert_eq!([0, 1].map(|node| resources(&sim, node)), before);
        sim.assert_agreement(0, 1);
    }
}
