//! Sessions whose peer was lost (RFC 5723): resumed where that can be, and made anew at once where not.

mod network;

use std::time::Duration;

use cygnet_crypto::SecretBytes;
use cygnet_engine::{Connection, Event, Plane, PlaneChoice, StartAction};
use cygnet_ike::{TicketKey, TicketKeys};
use network::{EAST, Network, WEST, connection, set};

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A connection that may be resumed, and finds its peer dead after 10 s of silence and 10 s of questions.
fn resumable(start: StartAction) -> Connection {
    let mut c = connection("t", start, PlaneChoice::Kernel);
    c.ike.resumption = true;
    c.ike.liveness = Some(seconds(10));
    c.ike.retransmit.timeout = seconds(10);
    c
}

/// East has this key for its tickets.
fn set_key(net: &mut Network, id: u8) {
    let keys = TicketKeys {
        keys: vec![TicketKey {
            id: [id; TicketKey::ID_LEN],
            key: SecretBytes::new(vec![id; TicketKey::LEN]),
        }],
        at: net.now,
        unix: 1_000_000_000,
    };
    net.east().engine.set_ticket_keys(Some(keys));
}

/// A tunnel whose peer is out of reach, which west has found out.
fn lost() -> Network {
    let mut net = Network::west_and_east();
    net.load(EAST, set(vec![resumable(StartAction::Add)], "secret"));
    set_key(&mut net, 1);
    net.load(WEST, set(vec![resumable(StartAction::Start)], "secret"));
    net.run_for(seconds(1));
    net.assert_tunnel(Plane::Kernel);
    assert!(net.status(EAST).ike_sas[0].ticket_granted);
    assert!(net.status(WEST).ike_sas[0].ticket_expires_in.is_some());
    net.cut = true;
    net.run_for(seconds(21));
    assert!(net.west().sas(Plane::Kernel).is_empty(), "the peer is dead");
    net
}

/// Whether the IKE SAs that there are resume a session; they are up.
fn resumed(net: &mut Network) -> bool {
    for host in [WEST, EAST] {
        assert_eq!(net.state(host, "t"), "up");
    }
    net.assert_tunnel(Plane::Kernel);
    let [west, east] = [WEST, EAST].map(|host| net.status(host).ike_sas[0].resumed);
    assert_eq!(west, east);
    west
}

#[test]
fn the_gateway_was_out_of_reach() {
    let mut net = lost();
    // Every other attempt uses the ticket, and none uses it up: this is the third one.
    net.run_for(seconds(25));
    net.cut = false;
    net.run_for(seconds(60));
    assert!(resumed(&mut net));
    // What has been resumed can be lost and resumed again.
    net.cut = true;
    while !net.west().sas(Plane::Kernel).is_empty() {
        net.run_for(seconds(1));
    }
    net.cut = false;
    net.run_for(seconds(60));
    assert!(resumed(&mut net));
}

//= rfc5723#4.3.1
//= type=test
//# Tickets are intended for one-time use, i.e., a client MUST NOT reuse a
//# ticket.
#[test]
fn the_gateway_was_restarted_and_has_its_keys_or_not() {
    for (key, goes_on) in [(1, true), (2, false)] {
        let mut net = lost();
        net.restart(EAST);
        net.load(EAST, set(vec![resumable(StartAction::Add)], "secret"));
        set_key(&mut net, key);
        net.west().events.clear();
        net.cut = false;
        net.run_for(seconds(60));
        assert_eq!(resumed(&mut net), goes_on);
    }
}

/// A refusal is followed by a full exchange at once: whoever waits for the connection hears of no failed attempt.
#[test]
fn a_refusal_is_no_failed_attempt() {
    let mut net = lost();
    net.restart(EAST);
    net.load(EAST, set(vec![resumable(StartAction::Add)], "secret"));
    net.cut = false;
    net.west().events.clear();
    let now = net.now;
    net.west().engine.up(now, "t").expect("it is loaded");
    net.run_for(seconds(60));
    assert!(!resumed(&mut net));
    let events = &net.west().events;
    let failed = |event: &&Event| {
        matches!(event, Event::Ike { event: cygnet_ike::Event::IkeFailed { reason, .. }, .. }
            if reason.name() == "ticket_refused")
    };
    assert_eq!(events.iter().filter(failed).count(), 1);
}

/// Who takes a connection down, or changes what proves its identity, resumes nothing.
//= rfc5723#6.2
//= type=test
//# Similarly, when credentials associated
//# with the IKE SA are invalidated (e.g., when a user logs out), the
//# ticket MUST be deleted.
#[test]
fn whoever_logs_out_comes_back_anew() {
    let mut net = lost();
    // The attempt that uses the ticket is over.
    net.run_for(seconds(15));
    assert!(net.status(WEST).connections[0].resumable);
    let now = net.now;
    net.west().engine.down(now, "t").expect("it is loaded");
    assert!(!net.status(WEST).connections[0].resumable);
    net.cut = false;
    net.run_for(seconds(1));
    let now = net.now;
    net.west().engine.up(now, "t").expect("it is loaded");
    net.run_for(seconds(60));
    assert!(!resumed(&mut net));

    let mut net = lost();
    for host in [WEST, EAST] {
        let start = match host {
            WEST => StartAction::Start,
            _ => StartAction::Add,
        };
        net.load(host, set(vec![resumable(start)], "another secret"));
    }
    assert!(!net.status(WEST).connections[0].resumable);
    net.cut = false;
    net.run_for(seconds(60));
    assert!(!resumed(&mut net));
}

#[test]
fn a_deleted_ike_sa_is_not_resumed() {
    let mut net = Network::west_and_east();
    net.load(EAST, set(vec![resumable(StartAction::Add)], "secret"));
    set_key(&mut net, 1);
    net.load(WEST, set(vec![resumable(StartAction::Start)], "secret"));
    net.run_for(seconds(1));
    let now = net.now;
    net.east().engine.down(now, "t").expect("it is loaded");
    net.run_for(seconds(60));
    assert!(!resumed(&mut net));
}
