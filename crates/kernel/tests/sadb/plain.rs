//! What any kernel with XFRM does: errors, probing, neighbour discovery.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use cygnet_ipsec as ipsec;
use cygnet_kernel::Sadb;
use cygnet_kernel::holes::NeighbourDiscoveryHoles;
use cygnet_kernel::sadb::LinuxSadb;
use ipsec::{
    AllocateSpi, Command, CommandError, Direction, Mark, Mode, Policy, PolicyKey, Protocol, Reply,
    SaDatabase, SaDirection, Selector,
};

use crate::common::{Netns, privileged};
use crate::pair::{Pair, Recipe, addr};

#[test]
fn a_kernel_without_esp_says_so() {
    if !privileged("a_kernel_without_esp_says_so") {
        return;
    }
    let ns = Netns::new("probe");
    let mut sadb = ns.run(|| LinuxSadb::open(None)).unwrap();
    let capabilities = sadb.probe().unwrap();
    eprintln!("{capabilities:?}");
    let recipe = Recipe::default();
    let sa = recipe.sa(
        addr("192.0.2.9"),
        addr("192.0.2.1"),
        0x1234,
        SaDirection::In,
        1,
    );
    match (
        capabilities.has_esp(),
        sadb.execute(&Command::InstallSa(Box::new(sa))),
    ) {
        (true, Ok(Reply::Done)) | (false, Err(CommandError::Unsupported(_))) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_say_what_a_key_manager_must_know() {
    if !privileged("errors_say_what_a_key_manager_must_know") {
        return;
    }
    let mut pair = Pair::new();
    let recipe = Recipe::default();
    let policy = recipe.policy(&pair.west, &pair.east, Direction::Out);
    let install = Command::InstallPolicy(Box::new(policy.clone()));
    assert_eq!(pair.west.execute(install.clone()), Ok(Reply::Done));
    assert_eq!(
        pair.west.execute(install.clone()),
        Err(CommandError::Exists)
    );
    let Ok(Reply::Policy(report)) = pair.west.execute(Command::QueryPolicy(policy.key)) else {
        panic!("no policy");
    };
    assert_ne!(report.policy.index, 0);
    assert_eq!(
        Policy {
            index: 0,
            ..report.policy
        },
        policy
    );
    let changed = Policy {
        priority: 5,
        ..policy.clone()
    };
    pair.west
        .execute(Command::UpdatePolicy(Box::new(changed)))
        .unwrap();
    assert_eq!(
        pair.west.execute(Command::RemovePolicy(policy.key)),
        Ok(Reply::Done)
    );
    assert_eq!(
        pair.west.execute(Command::RemovePolicy(policy.key)),
        Err(CommandError::NotFound)
    );
    // Seven templates are one too many.
    let mut crowded = policy.clone();
    crowded.templates = vec![policy.templates[0]; 7];
    let refused = pair.west.execute(Command::InstallPolicy(Box::new(crowded)));
    assert!(
        matches!(refused, Err(CommandError::Invalid(_))),
        "{refused:?}"
    );
    // A range of one SPI, used up.
    let mut request = AllocateSpi {
        src: addr("192.0.2.2"),
        dst: addr("192.0.2.1"),
        protocol: Protocol::Esp,
        mode: Mode::Tunnel,
        reqid: 1,
        if_id: 0,
        mark: Mark::ANY,
        min: 0x5000,
        max: 0x5000,
        acquire_seq: 0,
    };
    let allocate = |r: AllocateSpi| Command::AllocateSpi(r);
    assert_eq!(pair.west.execute(allocate(request)), Ok(Reply::Spi(0x5000)));
    request.reqid = 2;
    assert_eq!(
        pair.west.execute(allocate(request)),
        Err(CommandError::OutOfResources)
    );
    // What never reaches the kernel.
    let mut sa = recipe.sa(addr("192.0.2.9"), addr("192.0.2.1"), 1, SaDirection::In, 1);
    sa.replay_window = 5000;
    let refused = pair.west.execute(Command::InstallSa(Box::new(sa.clone())));
    assert!(
        matches!(refused, Err(CommandError::Invalid(_))),
        "{refused:?}"
    );
    sa.replay_window = 32;
    sa.encryption.as_mut().unwrap().transform = 999;
    let refused = pair.west.execute(Command::InstallSa(Box::new(sa)));
    assert_eq!(
        refused,
        Err(CommandError::Unsupported(
            "encryption transform 999 has no kernel name".into()
        ))
    );
}

/// S3.6: with everything else blocked the neighbour is still found.
#[test]
fn neighbour_discovery_has_holes() {
    if !privileged("neighbour_discovery_has_holes") {
        return;
    }
    let mut pair = Pair::new();
    let all = Selector::any(ipsec::Family::V6);
    for direction in Direction::ALL {
        let mut block = Policy::new(PolicyKey::new(direction, all));
        block.action = ipsec::Action::Block;
        block.priority = 100;
        pair.west
            .execute(Command::InstallPolicy(Box::new(block)))
            .unwrap();
    }
    let state = |pair: &Pair| {
        pair.west.ip("-6 neigh flush dev eth0");
        // East asks west for its link address, and west answers or not.
        pair.east.ip("-6 neigh flush dev eth0");
        pair.east.ns.run(|| {
            let socket = UdpSocket::bind("[2001:db8::2]:0").unwrap();
            let _ = socket.send_to(b"x", "[2001:db8::1]:9");
        });
        std::thread::sleep(Duration::from_millis(300));
        pair.east.ip("-6 neigh show to 2001:db8::1 dev eth0")
    };
    let found = |text: &str| text.contains("lladdr");
    let without = state(&pair);
    assert!(!found(&without), "blocked: {without}");
    let holes = NeighbourDiscoveryHoles::open(&mut pair.west.sadb).unwrap();
    assert_eq!(holes.made(), 6);
    // The failed entry has to be asked for anew.
    let end = Instant::now() + Duration::from_secs(5);
    let mut with = state(&pair);
    while !found(&with) && Instant::now() < end {
        with = state(&pair);
    }
    assert!(found(&with), "open: {with}");
    holes.close(&mut pair.west.sadb).unwrap();
    assert_eq!(pair.west.sadb.policies().unwrap().len(), 3);
}
