//! `clones=`: child SAs of single CPUs beside the first one (RFC 9611).

mod network;

use std::time::Duration;

use cygnet_engine::{Plane, PlaneChoice, StartAction};
use cygnet_ipsec::{Acquire, Direction, Event, SaDirection};
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
    let out = outbound_policy(net, WEST);
    let acquire = Acquire {
        cpu: out.per_cpu.then_some(cpu),
        ..acquire(&out, seq)
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

/// A host's outbound SA of this CPU, or that of all others, reaches a limit.
fn expire_one(net: &mut Network, host: usize, cpu: Option<u32>, hard: bool) {
    let sas = net.hosts[host].sas(Plane::Kernel).into_iter();
    let mut outbound = sas.filter(|sa| sa.direction == SaDirection::Out);
    let sa = outbound.find(|sa| sa.cpu == cpu).expect("an SA");
    let expire = cygnet_ipsec::Expire {
        sa: sa.id,
        src: sa.src,
        reqid: sa.reqid,
        hard,
    };
    let event = SadbEvent::Event(Event::Expire(expire));
    net.hosts[host].database(Plane::Kernel).emit(event);
    net.run_for(Duration::from_secs(30));
}

/// Whether a host's outbound policy asks for SAs of single CPUs; those for inbound traffic never do.
fn asks(net: &mut Network, host: usize) -> bool {
    let policies = net.hosts[host].kernel.policies().expect("a dump");
    let mut inbound = policies.iter().map(|report| &report.policy);
    assert!(inbound.all(|policy| policy.key.direction == Direction::Out || !policy.per_cpu));
    outbound_policy(net, host).per_cpu
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
    assert_eq!([asks(&mut net, WEST), asks(&mut net, EAST)], [true, true]);
    // East wants no more than three.
    packet_on(&mut net, 1, 15);
    assert_eq!([asks(&mut net, WEST), asks(&mut net, EAST)], [true, false]);
    packet_on(&mut net, 3, 16);
    assert_eq!(cpus(&mut net, WEST).len(), 4);
    // The kernel would drop what that CPU sends while it asks.
    assert!(!asks(&mut net, WEST));
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

/// A kernel that asks drops what that CPU sends until it has an answer: it must not ask for what is not wanted.
#[test]
fn none_is_asked_for_beyond_the_limit() {
    let mut net = loaded(2, u32::MAX);
    packet_on(&mut net, 1, 11);
    assert!(asks(&mut net, WEST));
    packet_on(&mut net, 3, 12);
    assert!(!asks(&mut net, WEST));
    // Nor after they are renewed.
    for cpu in [None, Some(3)] {
        expire_one(&mut net, WEST, cpu, false);
        assert!(!asks(&mut net, WEST));
    }
    // One has ended: there may be another.
    expire_one(&mut net, WEST, Some(1), true);
    assert!(asks(&mut net, WEST));
    packet_on(&mut net, 0, 13);
    assert_eq!(cpus(&mut net, WEST), [None, Some(0), Some(3)]);
    assert!(!asks(&mut net, WEST));
}

#[test]
fn a_peer_that_has_refused_is_asked_again_when_the_first_is_renewed() {
    let mut net = loaded(3, 1);
    packet_on(&mut net, 1, 11);
    packet_on(&mut net, 3, 12);
    assert!(!asks(&mut net, WEST));
    let failures = |net: &mut Network| {
        let names = net.west().names();
        names.iter().filter(|name| **name == "child_failed").count()
    };
    assert_eq!(failures(&mut net), 1);
    expire_one(&mut net, WEST, Some(1), false);
    assert!(!asks(&mut net, WEST));
    expire_one(&mut net, EAST, None, false);
    assert!(asks(&mut net, WEST));
    packet_on(&mut net, 3, 13);
    assert_eq!(failures(&mut net), 2);
    assert!(!asks(&mut net, WEST));
    assert_eq!(cpus(&mut net, WEST), [None, Some(1)]);
}

#[test]
fn they_go_with_the_first() {
    let mut net = loaded(2, 2);
    packet_on(&mut net, 1, 11);
    packet_on(&mut net, 3, 12);
    assert_eq!(cpus(&mut net, WEST).len(), 3);
    expire_one(&mut net, EAST, None, true);
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
