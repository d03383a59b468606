//! Gateways that send a connection elsewhere (RFC 5685): it goes, as far as it may, and comes back.

mod network;

use std::time::Duration;

use cygnet_engine::{
    Connection, Event, HostSpec, Plane, PlaneChoice, Request, ResolveQuery, Sourced, StartAction,
};
use cygnet_ike::{AcceptRedirect, Gateway, SendRedirect};
use network::{EAST, Network, WEST, connection, ip, set};

/// The gateway that east sends its clients to.
const NORTH: usize = 2;

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn gateway(text: &str) -> Gateway {
    text.parse().expect("a gateway")
}

/// West goes where `accept` says; east and north are gateways of one identity, which `change` may change.
fn world(
    accept: AcceptRedirect,
    choice: PlaneChoice,
    change: impl Fn(usize, &mut Connection),
) -> Network {
    let mut net = Network::west_and_east();
    let north = net.add("north", "192.0.2.3");
    assert_eq!(north, NORTH);
    for (host, address) in [(EAST, "192.0.2.2"), (NORTH, "192.0.2.3")] {
        let mut c = connection("t", StartAction::Add, choice);
        c.right.host = Sourced::default_value(HostSpec::Address(ip(address)));
        change(host, &mut c);
        net.load(host, set(vec![c], "secret"));
    }
    let mut c = connection("t", StartAction::Start, choice);
    c.ike.accept_redirect = accept;
    net.load(WEST, set(vec![c], "secret"));
    net
}

fn send_to<'a>(to: &'a str) -> impl Fn(usize, &mut Connection) + 'a {
    move |host, c| {
        if host == EAST {
            c.ike.send_redirect = SendRedirect::Yes;
            c.ike.redirect_to = vec![gateway(to)];
        }
    }
}

/// West is up with north alone, and has been told who sent it.
fn assert_at_north(net: &mut Network, plane: Plane) {
    let status = net.status(WEST);
    let ends: Vec<_> = status
        .ike_sas
        .iter()
        .map(|ike| (ike.remote.ip(), ike.redirected_from))
        .collect();
    assert_eq!(ends, [(ip("192.0.2.3"), Some(ip("192.0.2.2")))]);
    assert_eq!(net.state(WEST, "t"), "up");
    for (host, sas) in [(WEST, 2), (EAST, 0), (NORTH, 2)] {
        assert_eq!(net.hosts[host].sas(plane).len(), sas, "host {host}");
    }
}

#[test]
fn in_ike_auth_on_both_planes() {
    for (choice, plane) in [
        (PlaneChoice::Kernel, Plane::Kernel),
        (PlaneChoice::Userspace, Plane::Userspace),
    ] {
        let mut net = world(AcceptRedirect::Any, choice, send_to("192.0.2.3"));
        net.run_for(seconds(2));
        assert_at_north(&mut net, plane);
        assert!(net.hosts[WEST].names().contains(&"redirected"));
        //= rfc5685#3
        //= type=test
        //# Receiving a redirect notification MUST NOT result in the modification
        //# of any PAD or SPD entries.
        // A redirection counts for one attempt: the next one begins where the first did.
        net.hosts[NORTH]
            .engine
            .down(net.now, "t")
            .expect("it is loaded");
        net.run_for(seconds(5));
        let events = net.hosts[WEST].names();
        assert_eq!(events.iter().filter(|n| **n == "redirected").count(), 2);
        assert_at_north(&mut net, plane);
    }
}

#[test]
fn at_ike_sa_init_by_name() {
    let mut net = world(
        AcceptRedirect::To(vec![gateway("gw.example.com")]),
        PlaneChoice::Kernel,
        |_, _| {},
    );
    let name = ResolveQuery::Name("gw.example.com".to_owned());
    let found = vec![ip("2001:db8::1"), ip("127.0.0.1"), ip("192.0.2.3")];
    net.hosts[WEST].resolved.insert(name, found);
    let mut c = connection("t", StartAction::Add, PlaneChoice::Kernel);
    c.name = "u".to_owned();
    let mut loaded = set(vec![c], "secret");
    loaded.setup.send_redirect = SendRedirect::Yes;
    loaded.setup.redirect_to = vec![gateway("gw.example.com")];
    net.load(EAST, loaded);
    net.run_for(seconds(2));
    assert_at_north(&mut net, Plane::Kernel);
}

#[test]
fn a_name_that_leads_nowhere() {
    let mut net = world(
        AcceptRedirect::To(vec![gateway("192.0.2.9")]),
        PlaneChoice::Kernel,
        send_to("gw.example.com"),
    );
    let name = ResolveQuery::Name("gw.example.com".to_owned());
    net.hosts[WEST].resolved.insert(name, vec![ip("192.0.2.3")]);
    net.run_for(seconds(1));
    let (reason, text) = net.last_failure(WEST, "t").expect("it has failed");
    assert_eq!(reason, "redirect_unresolved", "{text}");
    assert_eq!(net.hosts[NORTH].names(), Vec::<&str>::new());
}

#[test]
fn in_the_middle_of_a_session() {
    let mut net = world(AcceptRedirect::Any, PlaneChoice::Kernel, |_, _| {});
    net.run_for(seconds(1));
    assert_eq!(net.hosts[EAST].sas(Plane::Kernel).len(), 2);
    let now = net.now;
    let engine = &mut net.hosts[EAST].engine;
    let to = gateway("192.0.2.3");
    assert!(engine.redirect(now, Some("other"), &to).is_err());
    assert_eq!(engine.redirect(now, Some("t"), &to), Ok(1));
    // West goes at once: it does not wait as after a failure.
    net.run_for(seconds(1));
    assert_at_north(&mut net, Plane::Kernel);
    assert_eq!(net.last_failure(WEST, "t"), None);
    // Who has begun the IKE SA sends nobody away.
    let now = net.now;
    let told = net.hosts[WEST].engine.redirect(now, None, &to);
    assert_eq!(told, Ok(0));
}

//= rfc5685#7
//= type=test
//# To prevent this, the client SHOULD be configured to not
//# accept more than a certain number of redirects (MAX_REDIRECTS) within
//# a short time period (REDIRECT_LOOP_DETECT_PERIOD) for a particular
//# IKEv2 SA setup.
#[test]
fn two_gateways_that_send_us_to_each_other() {
    let mut net = world(AcceptRedirect::Any, PlaneChoice::Kernel, |host, c| {
        c.ike.send_redirect = SendRedirect::Yes;
        let other = if host == EAST {
            "192.0.2.3"
        } else {
            "192.0.2.2"
        };
        c.ike.redirect_to = vec![gateway(other)];
    });
    net.run_for(seconds(290));
    let (reason, text) = net.last_failure(WEST, "t").expect("it has failed");
    assert_eq!(reason, "redirect_loop", "{text}");
    let followed = |net: &Network| {
        let is_it = |event: &&Event| matches!(event, Event::Redirected { .. });
        net.hosts[WEST].events.iter().filter(is_it).count()
    };
    assert_eq!(followed(&net), 5);
    // After five minutes it may try again.
    net.run_for(seconds(120));
    assert_eq!(followed(&net), 10);
}

#[test]
fn nobody_goes_where_it_may_not() {
    let only = AcceptRedirect::To(vec![gateway("192.0.2.9")]);
    let cases = [
        (only, "192.0.2.3", "redirect_forbidden"),
        // To itself.
        (AcceptRedirect::Any, "192.0.2.1", "redirect_unusable"),
    ];
    for (accept, to, expected) in cases {
        let mut net = world(accept, PlaneChoice::Kernel, send_to(to));
        net.run_for(seconds(2));
        let (reason, text) = net.last_failure(WEST, "t").expect("it has failed");
        assert_eq!(reason, expected, "{text}");
        assert_eq!(net.hosts[NORTH].names(), Vec::<&str>::new());
        assert_eq!(net.hosts[WEST].sas(Plane::Kernel).len(), 0);
    }
}

/// A connection that is taken down while the name of a gateway is looked up stays down.
#[test]
fn down_while_a_name_is_looked_up() {
    let mut net = world(AcceptRedirect::Any, PlaneChoice::Kernel, |_, _| {});
    net.run_for(seconds(1));
    let now = net.now;
    let to = gateway("gw.example.com");
    let told = net.hosts[EAST].engine.redirect(now, None, &to);
    assert_eq!(told, Ok(1));
    net.hosts[WEST].holding = true;
    net.run_for(seconds(3));
    let asked = |(_, request): &(_, Request)| matches!(request, Request::Resolve(_));
    assert!(net.hosts[WEST].held.iter().any(asked));
    assert_eq!(net.status(WEST).ike_sas.len(), 0, "nothing else is tried");
    assert_eq!(net.state(WEST, "t"), "connecting");
    let now = net.now;
    net.hosts[WEST].engine.down(now, "t").expect("it is loaded");
    let name = ResolveQuery::Name("gw.example.com".to_owned());
    net.hosts[WEST].resolved.insert(name, vec![ip("192.0.2.3")]);
    net.release(WEST);
    net.run_for(seconds(5));
    assert_eq!(net.state(WEST, "t"), "waiting");
    assert_eq!(net.status(WEST).ike_sas.len(), 0);
}
