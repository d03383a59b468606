//! One IKE SA between two ends: crossing initiations, `uniqueids=`,
//! authenticating anew.

mod network;

use std::time::Duration;

use cygnet_engine::{Connection, ConnectionSet, Plane, PlaneChoice, StartAction};
use cygnet_ike::Uniqueness;
use network::{EAST, Network, WEST, connection, set};

fn milliseconds(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn kernel(start: StartAction) -> Connection {
    connection("t", start, PlaneChoice::Kernel)
}

fn with(uniqueness: Uniqueness, connections: Vec<Connection>) -> ConnectionSet {
    let mut set = set(connections, "secret");
    set.setup.uniqueness = uniqueness;
    set
}

/// The responder's SPIs of the IKE SAs that a host has.
fn ikes(net: &Network, host: usize) -> Vec<String> {
    let sas = net.status(host).ike_sas;
    let established = sas.into_iter().filter(|i| i.state == "established");
    established.map(|ike| ike.responder_spi).collect()
}

#[test]
fn two_ends_that_begin_at_once_end_with_one_ike_sa() {
    let mut crossings = 0;
    for seed in 0..40 {
        for delay in [0, 1, 4, 5, 6, 9, 10, 11, 14, 15, 16, 19, 20, 25] {
            let mut net = Network::seeded(seed);
            net.load(0, set(vec![kernel(StartAction::Start)], "secret"));
            net.run_for(milliseconds(delay));
            net.load(1, set(vec![kernel(StartAction::Start)], "secret"));
            net.run_for(milliseconds(200));
            crossings += usize::from(net.east().names().contains(&"ike_established"));
            assert_eq!(net.state(WEST, "t"), "up", "seed {seed}, {delay} ms");
            assert_eq!(net.state(EAST, "t"), "up", "seed {seed}, {delay} ms");
            let early = ikes(&net, WEST);
            net.run_for(seconds(30));
            let late = ikes(&net, WEST);
            assert_eq!(late.len(), 1, "seed {seed}, {delay} ms");
            assert_eq!(late, ikes(&net, EAST), "seed {seed}, {delay} ms");
            assert!(
                early.contains(&late[0]),
                "it is not made anew: {seed}, {delay} ms"
            );
            net.assert_tunnel(Plane::Kernel);
            net.run_for(seconds(300));
            assert_eq!(ikes(&net, WEST), late, "nothing flaps");
        }
    }
    assert!(crossings > 0);
}

/// East, whose peer has lost its memory and comes again without saying so.
fn forgetful(uniqueness: Uniqueness, initial_contact: bool) -> (Network, Vec<String>) {
    let mut net = Network::west_and_east();
    net.load(1, with(uniqueness, vec![kernel(StartAction::Add)]));
    let mut west = kernel(StartAction::Start);
    west.ike.initial_contact = initial_contact;
    net.load(0, set(vec![west.clone()], "secret"));
    net.run_for(seconds(1));
    let first = ikes(&net, EAST);
    assert_eq!(first.len(), 1);
    net.restart(0);
    net.load(0, set(vec![west], "secret"));
    net.run_for(seconds(1));
    (net, first)
}

#[test]
fn replace_ends_the_old_one_a_little_later() {
    let (mut net, first) = forgetful(Uniqueness::Replace, false);
    assert_eq!(ikes(&net, EAST).len(), 2);
    net.run_for(seconds(10));
    let rest = ikes(&net, EAST);
    assert_eq!(rest.len(), 1);
    assert_ne!(rest, first);
    net.run_for(seconds(120));
    net.assert_tunnel(Plane::Kernel);
}

#[test]
fn no_ends_the_old_one_only_if_the_peer_says_so() {
    let (mut net, first) = forgetful(Uniqueness::No, true);
    assert_eq!(ikes(&net, EAST).len(), 1, "at once");
    assert_ne!(ikes(&net, EAST), first);
    let (mut silent, _) = forgetful(Uniqueness::No, false);
    for net in [&mut net, &mut silent] {
        net.run_for(seconds(30));
    }
    assert_eq!(ikes(&net, EAST).len(), 1);
    assert_eq!(ikes(&silent, EAST).len(), 2);
}

#[test]
fn never_does_not_even_listen() {
    let (mut net, _) = forgetful(Uniqueness::Never, true);
    net.run_for(seconds(30));
    assert_eq!(ikes(&net, EAST).len(), 2);
}

#[test]
fn keep_refuses_the_identity_from_elsewhere_unless_it_has_no_other() {
    for (initial_contact, refused) in [(false, true), (true, false)] {
        let mut net = Network::west_and_east();
        let mut east = kernel(StartAction::Add);
        east.left.host = cygnet_engine::Sourced::default_value(cygnet_engine::HostSpec::Any);
        net.load(1, with(Uniqueness::Keep, vec![east]));
        let mut west = kernel(StartAction::Start);
        west.ike.initial_contact = initial_contact;
        net.load(0, set(vec![west.clone()], "secret"));
        net.run_for(seconds(1));
        let first = ikes(&net, EAST);
        net.restart(0);
        net.move_to(0, "192.0.2.77");
        west.left.host = cygnet_engine::Sourced::default_value(cygnet_engine::HostSpec::Address(
            network::ip("192.0.2.77"),
        ));
        net.load(0, set(vec![west], "secret"));
        net.run_for(seconds(1));
        let failure = net.last_failure(WEST, "t").map(|(name, _)| name);
        assert_eq!(failure == Some("authentication_failed"), refused);
        assert_eq!(ikes(&net, EAST) == first, refused);
    }
}

#[test]
fn an_identity_has_so_many_ike_sas_and_no_more() {
    let mut net = Network::west_and_east();
    let mut east = with(Uniqueness::Never, vec![kernel(StartAction::Add)]);
    east.setup.max_per_identity = 3;
    net.load(1, east);
    for round in 1..=5 {
        net.restart(0);
        net.load(0, set(vec![kernel(StartAction::Start)], "secret"));
        net.run_for(milliseconds(500));
        assert_eq!(ikes(&net, EAST).len(), round.min(3));
    }
    assert_eq!(
        net.last_failure(WEST, "t").map(|(name, _)| name),
        Some("authentication_failed")
    );
}

//= rfc4478#2
//= type=test
//# An Initiator that received an AUTH_LIFETIME notification SHOULD
//# repeat the Initial exchange within the time indicated in the
//# notification.
//= rfc4478#2
//= type=test
//# The Responder MUST send this information to the Initiator in an
//# AUTH_LIFETIME notification either in the last message of an IKE_AUTH
//# exchange, or in an INFORMATIONAL request, which may be sent at any
//# time.
#[test]
fn a_responder_that_reauthenticates_tells_the_initiator_when() {
    let mut net = Network::west_and_east();
    let mut east = kernel(StartAction::Add);
    east.ike.reauth = true;
    east.ike.lifetime = seconds(1000);
    net.load(1, set(vec![east], "secret"));
    // West would be content with its IKE SA for 8 h.
    net.load(0, set(vec![kernel(StartAction::Start)], "secret"));
    net.run_for(seconds(1));
    let first = ikes(&net, WEST);
    let status = net.status(WEST);
    let rekey_in = status.ike_sas[0].rekey_in.expect("it is planned");
    assert_eq!(rekey_in.as_secs(), 699, "a margin of 300 s before the end");
    net.run_for(seconds(690));
    assert_eq!(ikes(&net, WEST), first);
    net.run_for(seconds(27));
    net.assert_tunnel(Plane::Kernel);
    assert_ne!(ikes(&net, WEST), first);
    assert!(
        !net.west().names().contains(&"connection_down"),
        "made before the old one was broken"
    );
}

#[test]
fn a_peer_cannot_keep_us_authenticating() {
    let mut net = Network::west_and_east();
    let mut east = kernel(StartAction::Add);
    east.ike.reauth = true;
    east.ike.lifetime = seconds(2);
    east.child.rekey = false;
    net.load(1, set(vec![east], "secret"));
    net.load(0, set(vec![kernel(StartAction::Start)], "secret"));
    net.run_for(seconds(60));
    let made = net
        .west()
        .names()
        .iter()
        .filter(|n| **n == "ike_established")
        .count();
    assert!(
        made <= 30,
        "{made} in a minute, one per time that the SA was gone"
    );
}
