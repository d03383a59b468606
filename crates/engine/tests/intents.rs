//! "This should be so": brought about, kept up and taken down, through
//! failures, on both planes.

mod network;

use std::time::Duration;

use cygnet_engine::{Event, Input, Plane, PlaneChoice, StartAction};
use cygnet_ipsec::CommandError;
use cygnet_kernel::sadb::Sadb as _;
use network::{EAST, Network, WEST, connection, ip, packet, set};

const PLANES: [(PlaneChoice, Plane); 2] = [
    (PlaneChoice::Kernel, Plane::Kernel),
    (PlaneChoice::Userspace, Plane::Userspace),
];

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn up(choice: PlaneChoice) -> Network {
    let mut net = Network::west_and_east();
    net.load(
        1,
        set(vec![connection("t", StartAction::Add, choice)], "secret"),
    );
    net.load(
        0,
        set(vec![connection("t", StartAction::Start, choice)], "secret"),
    );
    net.run_for(seconds(1));
    net
}

#[test]
fn start_brings_a_tunnel_up_and_down_leaves_nothing() {
    for (choice, plane) in PLANES {
        let mut net = up(choice);
        let now = net.now;
        net.assert_tunnel(plane);
        assert_eq!(net.state(WEST, "t"), "up");
        assert_eq!(net.state(EAST, "t"), "up");
        // out, in and fwd; the trap and the child share them.
        assert_eq!(net.west().policies(plane), 3);
        net.west().engine.down(now, "t").expect("it is loaded");
        net.run_for(seconds(1));
        for host in &mut net.hosts {
            assert_eq!(host.leftovers(plane), 0, "{}", host.name);
            assert!(host.protections.is_empty(), "{}", host.name);
        }
        assert_eq!(net.state(WEST, "t"), "waiting");
        let counted = net.status(EAST).ike_counters;
        for (name, count) in [("responded", 1), ("established", 1), ("closed", 1)] {
            assert_eq!(counted.counters.get(name), Some(&count), "{name}");
        }
        assert_eq!(counted.counters.get("failed"), None, "zeros are left out");
        assert!(counted.dropped.is_empty(), "{:?}", counted.dropped);
    }
}

#[test]
fn what_is_taken_down_in_the_middle_may_be_wanted_again_at_once() {
    let mut net = Network::west_and_east();
    for host in [WEST, EAST] {
        let wanted = connection("t", StartAction::Add, PlaneChoice::Kernel);
        net.load(host, set(vec![wanted], "secret"));
    }
    // East installs nothing for now: west waits for the response to IKE_AUTH, and cannot say that it wants no more of it.
    net.east().holding = true;
    let now = net.now;
    net.west().engine.up(now, "t").expect("it is loaded");
    net.run_for(Duration::from_millis(400));
    assert_eq!(net.status(WEST).ike_sas[0].state, "authenticating");
    let now = net.now;
    net.west().engine.down(now, "t").expect("it is loaded");
    net.settle();
    net.west().engine.up(now, "t").expect("it is loaded");
    net.settle();
    let begun = net.status(WEST).ike_sas.len();
    assert_eq!(begun, 2, "the first one is as good as gone");
    net.release(EAST);
    net.run_for(seconds(5));
    assert_eq!(net.last_failure(WEST, "t"), None);
    assert_eq!(net.state(WEST, "t"), "up");
    assert_eq!(net.status(WEST).ike_sas.len(), 1);
    net.assert_tunnel(Plane::Kernel);
}

#[test]
fn the_fence_stands_before_the_first_message_and_after_the_last() {
    let mut net = Network::west_and_east();
    net.west().holding = true;
    net.load(
        0,
        set(
            vec![connection("t", StartAction::Start, PlaneChoice::Userspace)],
            "secret",
        ),
    );
    net.run_for(seconds(10));
    assert!(
        net.status(WEST).ike_sas.is_empty(),
        "no IKE before the fence stands"
    );
    net.release(0);
    assert_eq!(net.hosts[0].protections.len(), 1);
    assert_eq!(net.status(WEST).ike_sas.len(), 1, "now it negotiates");
}

#[test]
fn a_fence_that_cannot_be_raised_lets_nothing_be_negotiated() {
    let mut net = Network::west_and_east();
    net.west().refuse_protection = Some("TUN is missing".to_owned());
    net.load(
        0,
        set(
            vec![connection("t", StartAction::Start, PlaneChoice::Userspace)],
            "secret",
        ),
    );
    assert!(net.status(WEST).ike_sas.is_empty());
    assert_eq!(
        net.last_failure(WEST, "t"),
        Some(("trap_failed", "TUN is missing".to_owned()))
    );
    assert_eq!(net.state(WEST, "t"), "blocked");
    // What could be raised stands: "blocked" is what it says.
    assert_eq!(net.west().protections.len(), 1);
    let now = net.now;
    net.west().engine.down(now, "t").expect("it is loaded");
    net.run_for(seconds(1));
    assert!(net.west().protections.is_empty());
    assert_eq!(net.west().leftovers(Plane::Userspace), 0);
}

#[test]
fn an_earlier_runs_fence_is_needed_until_this_ones_stands() {
    let mut net = Network::west_and_east();
    assert!(net.west().engine.is_settled(false), "nothing is wanted");
    net.west().holding = true;
    let wanted = connection("t", StartAction::OnDemand, PlaneChoice::Userspace);
    net.load(0, set(vec![wanted.clone()], "secret"));
    assert!(
        !net.west().engine.is_settled(true),
        "the fence is on its way"
    );
    net.release(0);
    assert!(net.west().engine.is_settled(false));
    // An address may come late: patience, but not for ever.
    let mut elsewhere = wanted;
    elsewhere.name = "elsewhere".to_owned();
    elsewhere.left.host =
        cygnet_engine::Sourced::default_value(cygnet_engine::HostSpec::Address(ip("203.0.113.1")));
    net.load(0, set(vec![elsewhere], "secret"));
    assert!(!net.west().engine.is_settled(false));
    assert!(net.west().engine.is_settled(true));
}

#[test]
fn what_a_person_asked_for_outlives_a_changed_file() {
    let mut net = Network::west_and_east();
    let there = connection("t", StartAction::Add, PlaneChoice::Kernel);
    net.load(1, set(vec![there.clone()], "secret"));
    net.load(0, set(vec![there.clone()], "secret"));
    let now = net.now;
    net.west().engine.up(now, "t").expect("it is loaded");
    net.run_for(seconds(1));
    net.assert_tunnel(Plane::Kernel);
    let mut changed = there;
    changed.child.replay_window = 64;
    net.load(0, set(vec![changed], "secret"));
    net.run_for(seconds(5));
    net.assert_tunnel(Plane::Kernel);
}

#[test]
fn a_fence_that_could_not_be_raised_is_tried_again() {
    for (start, state) in [
        (StartAction::Start, "up"),
        (StartAction::OnDemand, "trapped"),
    ] {
        let mut net = Network::west_and_east();
        let there = connection("t", StartAction::Add, PlaneChoice::Userspace);
        net.load(1, set(vec![there], "secret"));
        net.west().refuse_protection = Some("TUN is missing".to_owned());
        let here = connection("t", start, PlaneChoice::Userspace);
        net.load(0, set(vec![here], "secret"));
        assert_eq!(net.state(WEST, "t"), "blocked");
        net.run_for(seconds(3));
        assert_eq!(net.state(WEST, "t"), state);
        assert!(!net.west().protections.is_empty());
    }
}

#[test]
fn the_fence_outlives_the_loss_of_the_address() {
    for (choice, plane) in PLANES {
        let mut net = up(choice);
        let (now, address) = (net.now, net.west().address);
        net.west().engine.handle(now, Input::Addresses(Vec::new()));
        net.run_for(seconds(1));
        assert_eq!(net.state(WEST, "t"), "unoriented");
        assert!(net.west().sas(plane).is_empty());
        assert_eq!(net.west().policies(plane), 3, "the trap stays");
        let fences = usize::from(plane == Plane::Userspace);
        assert_eq!(net.west().protections.len(), fences);
        let now = net.now;
        let back = Input::Addresses(vec![address]);
        net.west().engine.handle(now, back);
        net.run_for(seconds(1));
        net.assert_tunnel(plane);
    }
}

#[test]
fn on_demand_waits_for_a_packet() {
    for (choice, plane) in PLANES {
        let mut net = Network::west_and_east();
        net.load(
            1,
            set(vec![connection("t", StartAction::Add, choice)], "secret"),
        );
        net.load(
            0,
            set(
                vec![connection("t", StartAction::OnDemand, choice)],
                "secret",
            ),
        );
        net.run_for(seconds(5));
        assert_eq!(net.state(WEST, "t"), "trapped");
        assert!(net.status(WEST).ike_sas.is_empty());
        net.west().database(plane).send(&packet());
        net.run_for(seconds(1));
        net.assert_tunnel(plane);
        assert!(net.west().names().contains(&"acquired"));
        // The SA answers the packet's ACQUIRE: no larval state is left to mute the next (K5).
        assert_eq!(
            net.west().database(plane).sas().expect("in memory").len(),
            2
        );
    }
}

#[test]
fn an_acquire_for_somebody_elses_policy_starts_nothing() {
    let mut net = Network::west_and_east();
    net.load(
        0,
        set(
            vec![connection("t", StartAction::OnDemand, PlaneChoice::Kernel)],
            "secret",
        ),
    );
    let mut foreign = cygnet_ipsec::Policy::new(cygnet_ipsec::PolicyKey::new(
        cygnet_ipsec::Direction::Out,
        cygnet_ipsec::Selector::new(
            "10.9.0.0/24".parse().unwrap(),
            "10.8.0.0/24".parse().unwrap(),
        ),
    ));
    // The very reqid of ours: a guess by number would be wrong.
    let reqid = net.status(WEST).connections[0].reqid;
    foreign.templates.push(cygnet_ipsec::Template {
        src: ip("192.0.2.1"),
        dst: ip("192.0.2.2"),
        spi: 0,
        protocol: cygnet_ipsec::Protocol::Esp,
        reqid,
        mode: cygnet_ipsec::Mode::Tunnel,
        optional: false,
    });
    use cygnet_ipsec::SaDatabase as _;
    net.west()
        .kernel
        .execute(&cygnet_ipsec::Command::InstallPolicy(Box::new(foreign)))
        .expect("installed");
    let flow = cygnet_ipsec::Flow {
        src: ip("10.9.0.1"),
        dst: ip("10.8.0.1"),
        ..packet()
    };
    net.west().kernel.send(&flow);
    net.run_for(seconds(1));
    assert!(net.west().names().contains(&"foreign_acquire"));
    assert!(net.status(WEST).ike_sas.is_empty());
}

#[test]
fn a_silent_peer_is_tried_again_and_again_and_found_when_it_wakes() {
    let mut net = Network::west_and_east();
    net.cut = true;
    net.load(
        1,
        set(
            vec![connection("t", StartAction::Add, PlaneChoice::Kernel)],
            "secret",
        ),
    );
    net.load(
        0,
        set(
            vec![connection("t", StartAction::Start, PlaneChoice::Kernel)],
            "secret",
        ),
    );
    net.run_for(seconds(600));
    let failures = net
        .west()
        .names()
        .iter()
        .filter(|n| **n == "attempt_failed")
        .count();
    assert!(failures >= 3, "{failures} attempts in ten minutes");
    let (reason, _) = net.last_failure(WEST, "t").expect("a reason");
    assert_eq!(reason, "no_response");
    net.cut = false;
    net.run_for(seconds(180));
    net.assert_tunnel(Plane::Kernel);
    assert_eq!(net.last_failure(WEST, "t"), None);
}

#[test]
fn wrong_keys_are_told_on_both_sides() {
    let mut net = Network::west_and_east();
    net.load(
        1,
        set(
            vec![connection("t", StartAction::Add, PlaneChoice::Kernel)],
            "secret",
        ),
    );
    net.load(
        0,
        set(
            vec![connection("t", StartAction::Start, PlaneChoice::Kernel)],
            "wrong",
        ),
    );
    net.run_for(seconds(1));
    assert_eq!(
        net.last_failure(WEST, "t").map(|f| f.0),
        Some("authentication_failed")
    );
    assert_eq!(
        net.last_failure(EAST, "t").map(|f| f.0),
        Some("authentication_failed")
    );
    let reasons: Vec<_> = net
        .west()
        .events
        .iter()
        .filter_map(|event| match event {
            Event::AttemptFailed { reason, .. } => Some(*reason),
            _ => None,
        })
        .collect();
    assert_eq!(
        reasons,
        ["authentication_failed"],
        "not that the child SA went with it"
    );
    assert!(net.west().sas(Plane::Kernel).is_empty() && net.east().sas(Plane::Kernel).is_empty());
}

#[test]
fn a_refused_installation_is_undone_and_told_to_the_peer() {
    for victim in [0, 1] {
        let mut net = Network::west_and_east();
        net.load(
            1,
            set(
                vec![connection("t", StartAction::Add, PlaneChoice::Kernel)],
                "secret",
            ),
        );
        let now = net.now;
        let mut west = connection("t", StartAction::Add, PlaneChoice::Kernel);
        west.child.negotiation_shunt = cygnet_engine::Shunt::None;
        net.load(0, set(vec![west], "secret"));
        // The SPI and the inbound SA come first; the outbound one is refused.
        net.hosts[victim]
            .kernel
            .refuse_after(2, CommandError::OutOfResources);
        net.west().engine.up(now, "t").expect("it is loaded");
        net.run_for(Duration::from_millis(500));
        for host in &mut net.hosts {
            assert!(
                host.sas(Plane::Kernel).is_empty(),
                "{}: {:?}",
                host.name,
                host.names()
            );
        }
        assert!(
            net.west().names().contains(&"attempt_failed"),
            "{victim}: {:?}",
            net.hosts[0].names()
        );
        // The next attempt succeeds.
        net.run_for(seconds(30));
        net.assert_tunnel(Plane::Kernel);
    }
}

#[test]
fn a_successor_is_tried_again_while_the_predecessor_works() {
    let mut net = Network::west_and_east();
    let east = connection("t", StartAction::Add, PlaneChoice::Kernel);
    net.load(1, set(vec![east], "secret"));
    let mut west = connection("t", StartAction::Start, PlaneChoice::Kernel);
    west.ike.reauth = true;
    west.ike.lifetime = seconds(1000);
    net.load(0, set(vec![west], "secret"));
    net.run_for(seconds(690));
    let old = net.west().sas(Plane::Kernel);
    net.cut = true;
    net.run_for(seconds(100));
    assert!(net.west().names().contains(&"attempt_failed"));
    assert_eq!(net.west().sas(Plane::Kernel), old);
    net.cut = false;
    net.run_for(seconds(90));
    net.assert_tunnel(Plane::Kernel);
    let new = net.west().sas(Plane::Kernel);
    assert!(
        new.iter().all(|n| old.iter().all(|o| o.id.spi != n.id.spi)),
        "all SPIs are new"
    );
}

#[test]
fn a_hard_limit_ends_the_sa_and_the_intent_brings_it_back() {
    let mut net = up(PlaneChoice::Kernel);
    let inbound = net
        .west()
        .sas(Plane::Kernel)
        .into_iter()
        .find(|sa| sa.id.dst == ip("192.0.2.1"))
        .expect("inbound");
    let expire = cygnet_ipsec::Expire {
        sa: inbound.id,
        src: inbound.src,
        reqid: inbound.reqid,
        hard: true,
    };
    net.west()
        .kernel
        .emit(cygnet_kernel::sadb::SadbEvent::Event(
            cygnet_ipsec::Event::Expire(expire),
        ));
    net.run_for(seconds(10));
    net.assert_tunnel(Plane::Kernel);
    assert!(
        net.west()
            .sas(Plane::Kernel)
            .iter()
            .all(|sa| sa.id != inbound.id)
    );
}

#[test]
fn a_hard_limit_that_nobody_heard_of_is_found_when_the_plane_is_read_back() {
    use cygnet_engine::Input;
    let mut net = up(PlaneChoice::Kernel);
    let sas: Vec<_> = net
        .west()
        .sas(Plane::Kernel)
        .iter()
        .map(|sa| sa.id)
        .collect();
    let now = net.now;
    let told = |sas: &[cygnet_ipsec::SaId]| Input::PlaneSas {
        plane: Plane::Kernel,
        sas: sas.to_vec(),
    };
    net.west().engine.handle(now, told(&sas));
    net.run_for(seconds(1));
    let still: Vec<_> = net
        .west()
        .sas(Plane::Kernel)
        .iter()
        .map(|sa| sa.id)
        .collect();
    assert_eq!(still, sas, "everything is there: nothing happens");
    net.west().engine.handle(now, told(&sas[..1]));
    net.run_for(seconds(10));
    net.assert_tunnel(Plane::Kernel);
    let new: Vec<_> = net
        .west()
        .sas(Plane::Kernel)
        .iter()
        .map(|sa| sa.id)
        .collect();
    assert!(new.iter().all(|id| !sas.contains(id)), "made anew");
}

#[test]
fn a_reload_touches_only_what_changed() {
    let mut net = up(PlaneChoice::Kernel);
    let before = net.west().sas(Plane::Kernel);
    let same = connection("t", StartAction::Start, PlaneChoice::Kernel);
    let mut other = connection("other", StartAction::OnDemand, PlaneChoice::Kernel);
    other.right.subnets = vec![cygnet_ike::TsTemplate::prefix(
        "10.3.0.0/24".parse().unwrap(),
    )];
    net.load(0, set(vec![same, other.clone()], "secret"));
    net.run_for(seconds(2));
    assert_eq!(
        net.west().sas(Plane::Kernel),
        before,
        "the running tunnel was left alone"
    );
    assert_eq!(net.state(WEST, "other"), "trapped");
    // The changed connection starts anew, the vanished one goes.
    let mut changed = connection("t", StartAction::Start, PlaneChoice::Kernel);
    changed.child.replay_window = 64;
    net.load(0, set(vec![changed], "secret"));
    net.run_for(seconds(5));
    net.assert_tunnel(Plane::Kernel);
    assert_eq!(net.state(WEST, "other"), "absent");
    assert_ne!(net.west().sas(Plane::Kernel), before);
    assert_eq!(net.west().policies(Plane::Kernel), 3);
}

#[test]
fn shutdown_says_good_bye_and_leaves_nothing() {
    for (choice, plane) in PLANES {
        let mut net = up(choice);
        let now = net.now;
        net.west().engine.shutdown(now);
        net.run_for(seconds(1));
        assert!(net.west().engine.is_drained());
        for host in &mut net.hosts {
            assert_eq!(host.leftovers(plane), 0, "{}", host.name);
            assert!(host.protections.is_empty(), "{}", host.name);
        }
    }
}

#[test]
fn a_default_route_that_comes_late_is_noticed() {
    use cygnet_engine::{HostSpec, ResolveQuery, Sourced};
    let mut net = Network::west_and_east();
    net.load(
        1,
        set(
            vec![connection("t", StartAction::Add, PlaneChoice::Kernel)],
            "secret",
        ),
    );
    let mut west = connection("t", StartAction::Start, PlaneChoice::Kernel);
    west.left.host = Sourced::default_value(HostSpec::DefaultRoute);
    net.load(0, set(vec![west], "secret"));
    net.run_for(seconds(5));
    assert_eq!(net.state(WEST, "t"), "unoriented");
    let query = ResolveQuery::DefaultRoute {
        toward: Some(ip("192.0.2.2")),
    };
    net.west().resolved.insert(query, vec![ip("192.0.2.1")]);
    let now = net.now;
    net.west().engine.handle(now, Input::RoutesChanged);
    net.run_for(seconds(1));
    net.assert_tunnel(Plane::Kernel);
}

#[test]
fn a_name_that_is_not_found_is_looked_up_again() {
    use cygnet_engine::{HostSpec, ResolveQuery, Sourced};
    let mut net = Network::west_and_east();
    let east = connection("t", StartAction::Add, PlaneChoice::Kernel);
    net.load(1, set(vec![east], "secret"));
    let mut west = connection("t", StartAction::Start, PlaneChoice::Kernel);
    west.right.host = Sourced::default_value(HostSpec::Name("east.example".to_owned()));
    net.load(0, set(vec![west], "secret"));
    net.run_for(seconds(5));
    assert_eq!(net.state(WEST, "t"), "unoriented");
    let query = ResolveQuery::Name("east.example".to_owned());
    net.west().resolved.insert(query, vec![ip("192.0.2.2")]);
    net.run_for(seconds(10));
    net.assert_tunnel(Plane::Kernel);
}

#[test]
fn a_peer_that_hangs_up_at_once_does_not_keep_us_spinning() {
    let mut net = up(PlaneChoice::Kernel);
    let mut rounds = 0;
    for _ in 0..60 {
        let now = net.now;
        if net.state(EAST, "t") == "up" {
            rounds += 1;
            net.east().engine.down(now, "t").expect("it is loaded");
        }
        net.run_for(seconds(1));
    }
    assert!((2..=8).contains(&rounds), "{rounds} tunnels in a minute");
}
