//! Modes of child SAs: what the planes are told, and what cannot be loaded.

mod network;

use std::time::Duration;

use cygnet_crypto::EspProposal;
use cygnet_engine::{
    Capabilities, Connection, ConnectionKind, Event, LabelMode, Lacking, LoadError, Plane,
    PlaneChoice, Sourced, StartAction,
};
use cygnet_ike::TsTemplate;
use cygnet_ipsec::{
    Acquire, Direction, Iptfs, Mode, PlaneFeatures, Protocol, Sa, SaDirection, SecurityLabel,
};

use cygnet_kernel::sadb::{Sadb, SadbEvent};
use network::*;

/// Both ends with this change to the usual connection, up; their SAs.
fn up(kind: ConnectionKind, change: impl Fn(&mut Connection)) -> (Network, [Vec<Sa>; 2]) {
    let mut net = Network::west_and_east();
    for (host, start) in [(EAST, StartAction::Add), (WEST, StartAction::Start)] {
        let mut c = connection("t", start, PlaneChoice::Kernel);
        c.kind = kind;
        change(&mut c);
        net.load(host, set(vec![c], "secret"));
    }
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.state(WEST, "t"), "up", "{:?}", net.status(WEST));
    let sas = [WEST, EAST].map(|host| net.hosts[host].sas(Plane::Kernel));
    (net, sas)
}

fn hosts(c: &mut Connection) {
    c.left.subnets = vec![TsTemplate::prefix("10.1.0.1/32".parse().unwrap())];
    c.right.subnets = vec![TsTemplate::prefix("10.2.0.1/32".parse().unwrap())];
}

#[test]
fn sas_in_beet_mode_have_the_inner_addresses_as_selectors() {
    let (_, sas) = up(ConnectionKind::Beet, hosts);
    for (at, own, other) in [
        (0, "10.1.0.1/32", "10.2.0.1/32"),
        (1, "10.2.0.1/32", "10.1.0.1/32"),
    ] {
        assert_eq!(sas[at].len(), 2);
        for sa in &sas[at] {
            assert_eq!(sa.mode, Mode::Beet);
            let inner = sa.selector.expect("a selector");
            let ends = (inner.src.to_string(), inner.dst.to_string());
            let expected = match sa.direction {
                SaDirection::Out => (own.to_owned(), other.to_owned()),
                SaDirection::In => (other.to_owned(), own.to_owned()),
            };
            assert_eq!(ends, expected);
        }
    }
}

#[test]
fn padding_is_sent_unless_the_peer_does_not_take_it() {
    for (refused, expected) in [(false, 1200), (true, 0)] {
        let (_, [west, _]) = up(ConnectionKind::Tunnel, |c| {
            c.child.tfc = 1200;
            c.child.refuse_tfc = refused;
        });
        for sa in west {
            let out = sa.direction == SaDirection::Out;
            assert_eq!(sa.tfc_pad, if out { expected } else { 0 });
        }
    }
}

#[test]
fn what_a_plane_lacks_cannot_be_loaded() {
    let tunnels = PlaneFeatures::default();
    let beet = PlaneFeatures {
        beet: true,
        ..tunnels
    };
    let load = |kernel, userspace, choice| {
        let mut net = Network::with_capabilities(Capabilities {
            kernel: Some(kernel),
            userspace: Some(userspace),
        });
        let mut c = connection("t", StartAction::Add, choice);
        c.kind = ConnectionKind::Beet;
        hosts(&mut c);
        let now = net.now;
        let loaded = net.west().engine.load(now, set(vec![c], "secret"));
        loaded.map(|()| net.status(WEST).connections[0].plane)
    };
    let lacking = |plane| {
        Err(LoadError::Lacking(Lacking {
            connection: "t".to_owned(),
            plane,
            feature: "BEET mode",
        }))
    };
    use PlaneChoice::{Auto, Kernel, Userspace};
    assert_eq!(load(beet, beet, Auto), Ok(Plane::Kernel));
    assert_eq!(load(tunnels, beet, Auto), Ok(Plane::Userspace));
    assert_eq!(load(tunnels, tunnels, Auto), lacking("this kernel"));
    assert_eq!(load(tunnels, beet, Kernel), lacking("this kernel"));
    let userspace = lacking("the data plane in user space");
    assert_eq!(load(beet, tunnels, Userspace), userspace);
}

#[test]
fn a_label_is_in_sas_and_policies_unless_it_is_only_negotiated() {
    let label = || Some(SecurityLabel::new(*b"system_u:object_r:a_t:s0\0").unwrap());
    for (mode, expected) in [(LabelMode::SeLinux, label()), (LabelMode::Simple, None)] {
        let (mut net, sas) = up(ConnectionKind::Tunnel, |c| {
            c.child.label = label();
            c.child.label_mode = mode;
            c.child.compress = true;
        });
        assert!(sas.iter().flatten().all(|sa| sa.label == expected));
        let policies = net.west().kernel.policies().expect("a dump");
        assert_eq!(policies.len(), 3);
        assert!(policies.iter().all(|p| p.policy.label == expected));
        let status = net.status(WEST).connections[0].children[0].label.clone();
        assert_eq!(status.as_deref(), Some("system_u:object_r:a_t:s0"));
    }
}

/// SELinux lets a packet go by an SA with its own label only: an SA with another one would be made again and again.
#[test]
fn a_packet_with_another_label_gets_no_sa() {
    let label = |text: &[u8]| SecurityLabel::new(text).unwrap();
    let ours = label(b"system_u:object_r:a_t:s0\0");
    let cases = [
        (LabelMode::SeLinux, b"system_u:object_r:b_t:s0\0", true),
        (LabelMode::SeLinux, b"system_u:object_r:a_t:s0\0", false),
        // The kernel's labels are none of this connection's business.
        (LabelMode::Simple, b"system_u:object_r:b_t:s0\0", false),
    ];
    for (mode, theirs, refused) in cases {
        let mut net = Network::west_and_east();
        for (host, start) in [(EAST, StartAction::Add), (WEST, StartAction::OnDemand)] {
            let mut c = connection("t", start, PlaneChoice::Kernel);
            c.child.label = Some(ours.clone());
            c.child.label_mode = mode;
            net.load(host, set(vec![c], "secret"));
        }
        net.run_for(Duration::from_secs(1));
        let out = outbound_policy(&mut net, WEST);
        let acquire = Acquire {
            label: Some(label(theirs)),
            ..acquire(&out, 7)
        };
        let event = SadbEvent::Event(cygnet_ipsec::Event::Acquire(acquire));
        net.west().database(Plane::Kernel).emit(event);
        net.run_for(Duration::from_secs(1));
        let said = net.west().events.iter().find_map(|event| match event {
            Event::AcquireRefused { reason, .. } => Some(reason.to_string()),
            _ => None,
        });
        let expected = "the packet's security label is system_u:object_r:b_t:s0, \
             that of the connection system_u:object_r:a_t:s0";
        assert_eq!(said.as_deref(), refused.then_some(expected));
        let sas = net.west().sas(Plane::Kernel).len();
        assert_eq!(sas, if refused { 0 } else { 2 });
    }
}

#[test]
fn a_kernel_without_a_security_module_takes_labels_only_for_negotiation() {
    for (mode, loaded) in [(LabelMode::SeLinux, false), (LabelMode::Simple, true)] {
        let mut net = Network::with_capabilities(Capabilities {
            kernel: Some(PlaneFeatures::default()),
            userspace: Some(PlaneFeatures::default()),
        });
        let mut c = connection("t", StartAction::Add, PlaneChoice::Auto);
        c.child.label = Some(SecurityLabel::new(*b"a\0").unwrap());
        c.child.label_mode = mode;
        let now = net.now;
        let outcome = net.west().engine.load(now, set(vec![c], "secret"));
        assert_eq!(outcome.is_ok(), loaded, "{outcome:?}");
    }
}

#[test]
fn ah_has_integrity_keys_only() {
    let (mut net, sas) = up(ConnectionKind::Tunnel, |c| {
        c.child.protocol = Protocol::Ah;
        c.child.proposals = Sourced::default_value(EspProposal::ah_default_list());
    });
    for sa in sas.iter().flatten() {
        assert_eq!(sa.id.protocol, Protocol::Ah);
        assert!(sa.encryption.is_none() && sa.integrity.is_some() && sa.flags.align4);
    }
    assert_eq!(net.status(WEST).connections[0].children[0].protocol, "ah");
    let now = net.now;
    net.west().engine.down(now, "t").unwrap();
    net.run_for(Duration::from_secs(1));
    for host in [WEST, EAST] {
        assert_eq!(net.hosts[host].leftovers(Plane::Kernel), 0);
    }
}

#[test]
fn compressed_children_have_sas_of_ipcomp_that_come_and_go_with_them() {
    let (mut net, sas) = up(ConnectionKind::Tunnel, |c| c.child.compress = true);
    for sas in &sas {
        let of = |protocol| sas.iter().filter(move |sa| sa.id.protocol == protocol);
        assert_eq!(of(Protocol::Esp).count(), 2);
        assert!(of(Protocol::Esp).all(|sa| sa.mode == Mode::Transport && !sa.flags.af_unspec));
        assert_eq!(of(Protocol::Comp).count(), 2);
        let inside = |sa: &Sa| sa.mode == Mode::Tunnel && (256..=61439).contains(&sa.id.spi);
        assert!(of(Protocol::Comp).all(inside));
    }
    let policies = net.west().kernel.policies().expect("a dump");
    assert_eq!(policies.len(), 3);
    for report in policies {
        let inbound = report.policy.key.direction != Direction::Out;
        let [inside, outside] = &report.policy.templates[..] else {
            panic!("{:?}", report.policy.templates)
        };
        assert_eq!(
            (inside.protocol, inside.mode),
            (Protocol::Comp, Mode::Tunnel)
        );
        assert_eq!((inside.optional, outside.optional), (inbound, false));
        assert_eq!(
            (outside.protocol, outside.mode),
            (Protocol::Esp, Mode::Transport)
        );
    }
    assert!(net.status(WEST).connections[0].children[0].ipcomp.is_some());
    // Renewed by the peer: the old inbound SAs stay for a while, and then go.
    for host in [EAST, WEST] {
        expire(&mut net, host, Plane::Kernel, false);
        net.run_for(Duration::from_secs(30));
        for host in [WEST, EAST] {
            assert_eq!(net.hosts[host].sas(Plane::Kernel).len(), 4);
        }
    }
    let now = net.now;
    net.west().engine.down(now, "t").unwrap();
    net.run_for(Duration::from_secs(1));
    for host in [WEST, EAST] {
        assert_eq!(net.hosts[host].leftovers(Plane::Kernel), 0);
    }
}

#[test]
fn nothing_is_left_where_only_one_end_compresses() {
    let mut net = Network::west_and_east();
    for (host, start) in [(EAST, StartAction::Add), (WEST, StartAction::Start)] {
        let mut c = connection("t", start, PlaneChoice::Kernel);
        c.child.compress = host == WEST;
        net.load(host, set(vec![c], "secret"));
    }
    net.run_for(Duration::from_secs(1));
    for host in [WEST, EAST] {
        assert_eq!(net.state(host, "t"), "up");
        assert_eq!(net.hosts[host].sas(Plane::Kernel).len(), 2);
        assert_eq!(net.hosts[host].leftovers(Plane::Kernel), 5);
    }
}

#[test]
fn ip_tfs_is_told_to_the_plane_in_traps_too_and_renewed() {
    let mut net = Network::west_and_east();
    for (host, start) in [(EAST, StartAction::Add), (WEST, StartAction::OnDemand)] {
        let mut c = connection("t", start, PlaneChoice::Kernel);
        c.child.iptfs = Some(Iptfs {
            dont_fragment: host == EAST,
            packet_size: 1000,
            reorder_window: 5,
            ..Iptfs::default()
        });
        net.load(host, set(vec![c], "secret"));
    }
    net.run_for(Duration::from_secs(1));
    let mode_of_policies = |net: &mut Network| {
        let policies = net.west().kernel.policies().expect("a dump");
        let modes: Vec<Mode> = policies
            .iter()
            .map(|p| p.policy.templates[0].mode)
            .collect();
        assert!(modes.len() == 3 && modes.iter().all(|mode| *mode == modes[0]));
        modes[0]
    };
    assert_eq!(mode_of_policies(&mut net), Mode::Iptfs);
    let now = net.now;
    net.west().engine.up(now, "t").unwrap();
    net.run_for(Duration::from_secs(1));
    for renewed in [None, Some(EAST), Some(WEST)] {
        if let Some(host) = renewed {
            expire(&mut net, host, Plane::Kernel, false);
            net.run_for(Duration::from_secs(30));
        }
        assert_eq!(mode_of_policies(&mut net), Mode::Iptfs);
        for host in [WEST, EAST] {
            let sas = net.hosts[host].sas(Plane::Kernel);
            assert_eq!(sas.len(), 2);
            for sa in sas {
                assert!(sa.mode == Mode::Iptfs && sa.flags.af_unspec && sa.tfc_pad == 0);
                let iptfs = sa.iptfs.expect("parameters");
                assert_eq!((iptfs.packet_size, iptfs.reorder_window), (1000, 5));
                // East does not want fragments, and so nobody sends them.
                assert!(iptfs.dont_fragment);
            }
        }
    }
    assert_eq!(net.status(WEST).connections[0].children[0].mode, "iptfs");
}

#[test]
fn a_plane_without_ip_tfs_gets_tunnels() {
    let lacking = Capabilities {
        kernel: Some(PlaneFeatures {
            iptfs: false,
            ..FEATURES
        }),
        userspace: Some(FEATURES),
    };
    for initiator in [WEST, EAST] {
        let mut net = Network::with_capabilities(lacking);
        for host in [1 - initiator, initiator] {
            let start = match host == initiator {
                true => StartAction::Start,
                false => StartAction::Add,
            };
            let mut c = connection("t", start, PlaneChoice::Auto);
            c.child.iptfs = Some(Iptfs::default());
            net.load(host, set(vec![c], "secret"));
        }
        net.run_for(Duration::from_secs(1));
        for host in [WEST, EAST] {
            assert_eq!(net.state(host, "t"), "up");
            let sas = net.hosts[host].sas(Plane::Kernel);
            assert!(sas.len() == 2 && sas.iter().all(|sa| sa.mode == Mode::Tunnel));
            assert!(sas.iter().all(|sa| sa.iptfs.is_none()));
        }
    }
}
