//! `clones=`: child SAs of single CPUs beside the first one (RFC 9611).

mod network;

use std::time::Duration;

use cygnet_engine::{Plane, PlaneChoice, StartAction};
use cygnet_ipsec::{Acquire, Direction, Event, Mark, PortMatch, SaDirection, Selector};
use cygnet_kernel::sadb::{Sadb, SadbEvent};
use network::*;

/// Both ends with so many clones; west has a trap.
fn loaded(west: u32, east: u32) -> Network {
    let mut net = Network::west_and_east();
    for (host, start, clones) in [
        (EAST, StartAction::Add, east),
        (WEST, StartAction::OnDemand, west),
    ] {
        let mut c = connection("t", start, PlaneChoice::Kernel);
        c.child.clones = clones;
        net.load(host, set(vec![c], "secret"));
    }
    net.run_for(Duration::from_secs(1));
    net
}

/// A packet meets west's outbound policy on this CPU, which asks for an SA if it is for single CPUs.
fn packet_on(net: &mut Network, cpu: u32, seq: u32) {
    let policies = net.west().kernel.policies().expect("a dump");
    let out = policies
        .into_iter()
        .map(|report| report.policy)
        .find(|policy| policy.key.direction == Direction::Out)
        .expect("an outbound policy");
    let template = out.templates[0];
    let packet = packet();
    let port = |port| PortMatch {
        port,
        mask: u16::MAX,
    };
    let selector = Selector {
        protocol: packet.protocol,
        sport: port(packet.sport),
        dport: port(packet.dport),
        ..Selector::new(packet.src.into(), packet.dst.into())
    };
    let acquire = Acquire {
        seq,
        policy_index: out.index,
        policy: out.key,
        template,
        selector,
        src: template.src,
        dst: template.dst,
        mark: Mark::ANY,
        if_id: 0,
        cpu: out.per_cpu.then_some(cpu),
        label: None,
    };
    let event = SadbEvent::Event(Event::Acquire(acquire));
    net.west().database(Plane::Kernel).emit(event);
    net.run_for(Duration::from_secs(1));
}

/// The CPUs of a host's outbound SAs, and the numbers of the packets that they answer.
fn outbound(net: &mut Network, host: usize) -> Vec<(Option<u32>, u32)> {
    let sas = net.hosts[host].sas(Plane::Kernel).into_iter();
    let outbound = sas.filter(|sa| sa.direction == SaDirection::Out);
    let mut cpus: Vec<_> = outbound.map(|sa| (sa.cpu, sa.acquire_seq)).collect();
    cpus.sort_unstable();
    cpus
}

fn cpus(net: &mut Network, host: usize) -> Vec<Option<u32>> {
    outbound(net, host)
        .into_iter()
        .map(|(cpu, _)| cpu)
        .collect()
}

#[test]
fn each_cpu_that_asks_gets_an_sa() {
    let mut net = loaded(u32::MAX, 3);
    // The first packet makes the first child SA, and one for its CPU.
    packet_on(&mut net, 2, 11);
    assert_eq!(outbound(&mut net, WEST), [(None, 11), (Some(2), 11)]);
    assert_eq!(net.state(WEST, "t"), "up");
    packet_on(&mut net, 0, 12);
    // Asked again, before the kernel has seen the SA.
    packet_on(&mut net, 0, 13);
    packet_on(&mut net, 2, 14);
    let three = [None, Some(0), Some(2)];
    assert_eq!(cpus(&mut net, WEST), three);
    // East has other CPUs for them than west.
    assert_eq!(cpus(&mut net, EAST), [None, Some(2), Some(3)]);
    // Policies ask for single CPUs as long as there may be some, and inbound never.
    let policies = net.west().kernel.policies().expect("a dump");
    assert!(policies.iter().all(|report| {
        report.policy.per_cpu == (report.policy.key.direction == Direction::Out)
    }));
    // East wants no more than three.
    packet_on(&mut net, 1, 15);
    packet_on(&mut net, 3, 16);
    assert_eq!(cpus(&mut net, WEST).len(), 4);
    assert_eq!(net.state(WEST, "t"), "up");
    assert!(net.west().names().contains(&"child_failed"));
    let status = net.status(WEST);
    let shown: Vec<_> = status.connections[0]
        .children
        .iter()
        .map(|c| c.cpu)
        .collect();
    assert_eq!(shown, [None, Some(2), Some(0), Some(1)]);
    let now = net.now;
    net.west().engine.down(now, "t").unwrap();
    net.run_for(Duration::from_secs(30));
    assert_eq!(net.hosts[EAST].leftovers(Plane::Kernel), 0);
    // The trap.
    assert_eq!(net.hosts[WEST].leftovers(Plane::Kernel), 3);
}

#[test]
fn successors_stay_on_their_cpus() {
    let mut net = loaded(2, 2);
    packet_on(&mut net, 1, 11);
    packet_on(&mut net, 3, 12);
    let before = [WEST, EAST].map(|host| cpus(&mut net, host));
    assert_eq!(before[WEST], [None, Some(1), Some(3)]);
    for host in [WEST, EAST, WEST] {
        expire(&mut net, host, Plane::Kernel, false);
        net.run_for(Duration::from_secs(30));
        assert_eq!([WEST, EAST].map(|host| cpus(&mut net, host)), before);
    }
}

#[test]
fn they_go_with_the_first() {
    let mut net = loaded(2, 2);
    packet_on(&mut net, 1, 11);
    packet_on(&mut net, 3, 12);
    assert_eq!(cpus(&mut net, WEST).len(), 3);
    let first = net.hosts[EAST].sas(Plane::Kernel).into_iter();
    let first = first
        .filter(|sa| sa.direction == SaDirection::Out)
        .find(|sa| sa.cpu.is_none())
        .expect("the first");
    let end = cygnet_ipsec::Expire {
        sa: first.id,
        src: first.src,
        reqid: first.reqid,
        hard: true,
    };
    let event = SadbEvent::Event(Event::Expire(end));
    net.east().database(Plane::Kernel).emit(event);
    net.run_for(Duration::from_secs(30));
    for host in [WEST, EAST] {
        assert_eq!(cpus(&mut net, host), []);
    }
    // And come anew.
    packet_on(&mut net, 1, 13);
    assert_eq!(cpus(&mut net, WEST), [None, Some(1)]);
}

#[test]
fn a_peer_without_them_is_not_asked() {
    let mut net = loaded(2, 0);
    packet_on(&mut net, 1, 11);
    assert_eq!(cpus(&mut net, WEST), [None]);
    // The policy of the child SA asks for none.
    packet_on(&mut net, 1, 12);
    let policies = net.west().kernel.policies().expect("a dump");
    assert!(policies.iter().all(|report| !report.policy.per_cpu));
    assert!(!net.west().names().contains(&"child_failed"));
}

#[test]
fn what_is_being_made_is_given_up_with_the_connection_or_the_peer() {
    let mut net = loaded(2, 2);
    packet_on(&mut net, 1, 11);
    for lost in [false, true] {
        net.cut = true;
        packet_on(&mut net, 3, 12);
        if lost {
            // Nobody answers until the IKE SA ends.
            net.run_for(Duration::from_secs(120));
        } else {
            let now = net.now;
            net.west().engine.down(now, "t").unwrap();
        }
        net.cut = false;
        net.run_for(Duration::from_secs(120));
        packet_on(&mut net, 1, 13);
        packet_on(&mut net, 3, 14);
        packet_on(&mut net, 3, 15);
        assert_eq!(cpus(&mut net, WEST), [None, Some(1), Some(3)], "{lost}");
    }
}
