//! Route-based connections: policies and SAs that belong to an interface, and what is asked for beside them.

mod network;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cygnet_engine::{
    Capabilities, Connection, InterfaceUse, IpsecInterface, LoadError, Plane, PlaneChoice,
    StartAction,
};
use cygnet_ike::Encapsulation;
use cygnet_ipsec::{Event, Mapping, Mark, PlaneFeatures, SaDirection};
use cygnet_kernel::sadb::{Sadb as _, SadbEvent};
use network::{EAST, FEATURES, Network, WEST, connection, ip, set};

/// "t" on interface 7.
fn on_interface(start: StartAction) -> Connection {
    let mut connection = connection("t", start, PlaneChoice::Kernel);
    connection.child.interface = Some(IpsecInterface(7));
    connection.child.metric = 3;
    connection.left.interface_ips = vec!["10.1.0.1/24".parse().unwrap()];
    connection
}

/// A tunnel whose western end, the one that begins, is on the interface.
fn up(west: Connection) -> Network {
    let mut net = Network::west_and_east();
    let east = connection("t", StartAction::Add, PlaneChoice::Kernel);
    net.load(EAST, set(vec![east], "secret"));
    net.load(WEST, set(vec![west], "secret"));
    net.run_for(Duration::from_secs(1));
    net
}

/// The marks that a host's SAs set, inbound and outbound.
fn set_marks(net: &mut Network, host: usize) -> [Option<Mark>; 2] {
    let sas = net.hosts[host].database(Plane::Kernel).sas().unwrap();
    [SaDirection::In, SaDirection::Out].map(|direction| {
        let sa = sas.iter().find(|report| report.sa.direction == direction);
        sa.expect("an SA each way").sa.set_mark
    })
}

#[test]
fn everything_of_it_belongs_to_the_interface() {
    let mut net = up(on_interface(StartAction::Start));
    assert_eq!(net.state(WEST, "t"), "up");
    let database = net.west().database(Plane::Kernel);
    let (sas, policies) = (database.sas().unwrap(), database.policies().unwrap());
    assert!(sas.iter().all(|r| r.sa.if_id == 7) && sas.len() == 2);
    assert!(policies.iter().all(|r| r.policy.key.if_id == 7) && policies.len() == 3);
    // S0.3: the number is the mark, too.
    assert_eq!(set_marks(&mut net, WEST), [Some(Mark::exact(7)); 2]);
    assert_eq!(set_marks(&mut net, EAST), [None; 2]);
    let protections: Vec<_> = net.west().protections.values().cloned().collect();
    assert_eq!(protections.len(), 2, "for the trap and for the child SA");
    let wanted = InterfaceUse {
        if_id: 7,
        name: Some("ipsec7".to_owned()),
        addresses: vec!["10.1.0.1/24".parse().unwrap()],
        peer: ip("192.0.2.2"),
        mark: Some(Mark::exact(7)),
        metric: 3,
    };
    for protection in protections {
        assert_eq!(protection.interface.as_ref(), Some(&wanted));
        assert_eq!(protection.routes, ["10.2.0.0/24".parse().unwrap()]);
    }
    assert!(net.hosts[EAST].protections.is_empty());
    assert_eq!(
        net.status(WEST).connections[0].interface.as_deref(),
        Some("ipsec7")
    );

    let now = net.now;
    net.west().engine.down(now, "t").expect("it is loaded");
    net.run_for(Duration::from_secs(1));
    assert!(net.west().protections.is_empty());
    assert_eq!(net.west().leftovers(Plane::Kernel), 0);
}

#[test]
fn marks_can_be_others() {
    let mut west = on_interface(StartAction::Start);
    let masked = Mark {
        value: 0x10,
        mask: 0xf0,
    };
    west.child.mark_out = masked;
    let mut net = up(west);
    assert_eq!(
        set_marks(&mut net, WEST),
        [Some(Mark::exact(7)), Some(masked)]
    );
    let policies = net.west().database(Plane::Kernel).policies().unwrap();
    // They are no lookup keys: the interface is.
    assert!(policies.iter().all(|r| r.policy.key.mark == Mark::ANY));
}

#[test]
fn interface_0_has_an_if_id_that_the_kernel_takes() {
    let mut west = on_interface(StartAction::Start);
    west.child.interface = Some(IpsecInterface(0));
    let mut net = up(west);
    let sas = net.west().database(Plane::Kernel).sas().unwrap();
    assert!(sas.iter().all(|r| r.sa.if_id == 0x4000));
    let protection = net.west().protections.values().next().unwrap().clone();
    let interface = protection.interface.unwrap();
    assert_eq!(
        (interface.name.as_deref(), interface.if_id),
        (Some("ipsec0"), 0x4000)
    );
}

#[test]
fn between_equal_networks_nothing_is_routed() {
    let everything = vec![cygnet_ike::TsTemplate::prefix("0.0.0.0/0".parse().unwrap())];
    let mut west = on_interface(StartAction::Start);
    west.left.subnets.clone_from(&everything);
    west.right.subnets = everything;
    let mut net = Network::west_and_east();
    let mut east = west.clone();
    east.start = StartAction::Add;
    net.load(EAST, set(vec![east], "secret"));
    net.load(WEST, set(vec![west], "secret"));
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.state(WEST, "t"), "up");
    let protection = net.west().protections.values().next().unwrap().clone();
    assert!(protection.routes.is_empty() && protection.interface.is_some());
}

#[test]
fn an_interface_that_cannot_be_had_is_said() {
    let mut net = Network::west_and_east();
    let east = connection("t", StartAction::Add, PlaneChoice::Kernel);
    net.load(EAST, set(vec![east], "secret"));
    net.west().refuse_protection = Some("no such device".to_owned());
    net.load(
        WEST,
        set(vec![on_interface(StartAction::OnDemand)], "secret"),
    );
    net.run_for(Duration::from_millis(100));
    let status = net.status(WEST);
    let failure = status.connections[0]
        .last_failure
        .as_ref()
        .expect("a failure");
    assert_eq!(
        (failure.reason, failure.text.as_str()),
        ("trap_failed", "no such device")
    );
}

#[test]
fn the_way_past_it_follows_the_peer() {
    let mut west = connection("t", StartAction::Start, PlaneChoice::Kernel);
    west.ike.encapsulation = Encapsulation::Yes;
    let mut east = on_interface(StartAction::Add);
    east.ike.mobike = false;
    let mut net = Network::west_and_east();
    net.load(EAST, set(vec![east], "secret"));
    net.load(WEST, set(vec![west], "secret"));
    net.run_for(Duration::from_secs(1));
    assert_eq!(net.state(EAST, "t"), "up");
    let peers = |net: &mut Network| -> Vec<IpAddr> {
        let protections = net.east().protections.values();
        let interfaces = protections.filter_map(|p| p.interface.as_ref());
        interfaces.map(|interface| interface.peer).collect()
    };
    assert_eq!(peers(&mut net), [ip("192.0.2.1")]);
    let sas = net.east().sas(Plane::Kernel);
    let inbound = sas
        .iter()
        .find(|sa| sa.direction == SaDirection::In)
        .unwrap();
    let event = Event::Mapping(Mapping {
        sa: inbound.id,
        reqid: inbound.reqid,
        old: SocketAddr::new(inbound.src, inbound.encap.expect("UDP").remote_port),
        new: "203.0.113.5:61000".parse().unwrap(),
    });
    net.east()
        .database(Plane::Kernel)
        .emit(SadbEvent::Event(event));
    net.settle();
    assert_eq!(peers(&mut net), [ip("203.0.113.5")]);
    let sas = net.east().sas(Plane::Kernel);
    assert!(sas.iter().all(|sa| sa.if_id == 7) && sas.len() == 2);
    let now = net.now;
    net.east().engine.down(now, "t").expect("it is loaded");
    net.run_for(Duration::from_secs(200));
    assert!(net.east().protections.is_empty());
}

#[test]
fn the_user_space_plane_has_none() {
    let mut west = on_interface(StartAction::Add);
    west.plane = PlaneChoice::Userspace;
    let mut net = Network::with_capabilities(Capabilities {
        kernel: None,
        userspace: Some(PlaneFeatures {
            interfaces: false,
            ..FEATURES
        }),
    });
    let now = net.now;
    let refused = net.west().engine.load(now, set(vec![west], "secret"));
    let Err(LoadError::Lacking(lacking)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(lacking.feature, "xfrm interfaces (`ipsec-interface=`)");
}
