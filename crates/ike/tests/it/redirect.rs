//! REDIRECT (RFC 5685): at IKE_SA_INIT, in IKE_AUTH and in the middle of a session, both roles, and gateways that lie.

use std::net::IpAddr;
use std::sync::Arc;

use cygnet_ike::*;
use cygnet_wire::{ExchangeType, Message, Notify, NotifyType, Payload, ProtocolId, write_message};

use crate::forge::{Forge, stopped_at};
use crate::pair::*;
use crate::sim::{Datagram, Sim};

/// Another gateway with the identity of `west`, node 2.
const NORTH: &str = "192.0.2.3";

fn gateway(text: &str) -> Gateway {
    text.parse().unwrap()
}

/// A pair whose initiator goes anywhere.
fn willing() -> Pair {
    let mut pair = Pair::default();
    pair.east.accept_redirect = AcceptRedirect::Any;
    pair.east_config.key_log = true;
    pair
}

/// The pair, and a second gateway that does what the first one does but never sends anybody away.
fn world(pair: Pair) -> Sim {
    let mut sim = pair.sim(1);
    let mut book = (*sim.nodes[1].book).clone();
    let mut peer = (*book.peers[0]).clone();
    peer.send_redirect = SendRedirect::No;
    book.peers = vec![peer.into()];
    sim.add("north", NORTH, EndpointConfig::default(), book);
    sim
}

/// `east` goes where `west` has sent it.
fn follow(sim: &mut Sim) {
    let peer = sim.nodes[0].book.peers[0].clone();
    let child = peer.children.first().cloned().map(|config| ChildRequest {
        config,
        acquire: None,
    });
    let end = |address: &str| format!("{address}:500").parse().unwrap();
    let from: IpAddr = WEST.parse().unwrap();
    let ends = (end(EAST), end(NORTH));
    sim.act(0, |e, now| e.follow_redirect(now, peer, child, ends, from));
    sim.run_for(s(1));
    sim.assert_agreement(0, 2);
    let info = sim.nodes[0].endpoint.ike_sas().next().unwrap();
    assert_eq!(info.remote, end(NORTH));
    assert_eq!(info.redirected_from, Some(from));
    assert_eq!(sim.nodes[2].endpoint.child_sas().count(), 1);
}

fn says(sim: &Sim, what: &str) -> usize {
    sim.trace.iter().filter(|line| line.contains(what)).count()
}

fn redirected() -> FailureReason {
    let to = gateway(NORTH);
    FailureReason::Redirected { to }
}

//= rfc5685#3
//= type=test
//# In the IKE_SA_INIT exchange with the new VPN gateway,
//# the client MUST include the REDIRECTED_FROM payload (see
//# Section 9.3).
#[test]
fn at_ike_sa_init() {
    let mut pair = willing();
    pair.west_config.send_redirect = SendRedirect::Yes;
    pair.west_config.redirect_to = vec![gateway(NORTH)];
    let mut sim = world(pair);
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    assert_eq!(ike_failure(&sim, 0), redirected());
    assert_eq!(sim.event_names(0), ["child_failed", "ike_failed"]);
    assert_eq!(
        sim.nodes[1].endpoint.size(),
        0,
        "a redirection makes no state"
    );
    assert_eq!(sim.nodes[1].endpoint.stats().redirected, 1);
    assert_eq!(says(&sim, "REDIRECT_SUPPORTED"), 1);
    follow(&mut sim);
    assert_eq!(says(&sim, "REDIRECTED_FROM"), 1);
}

//= rfc5685#6
//= type=test
//# The gateway
//# MUST verify the client's AUTH payload before sending the REDIRECT
//# payload
#[test]
fn in_ike_auth() {
    let mut pair = willing();
    pair.west.send_redirect = SendRedirect::Yes;
    pair.west.redirect_to = vec![gateway(NORTH)];
    let mut sim = world(pair);
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    assert_eq!(ike_failure(&sim, 0), redirected());
    assert_eq!(
        sim.event_names(1),
        ["ike_established", "redirecting", "ike_closed"]
    );
    for node in [0, 1] {
        assert_eq!(sim.nodes[node].endpoint.ike_sas().count(), 0);
        assert!(sim.nodes[node].plane.installed.is_empty());
        assert!(sim.nodes[node].plane.reserved.is_empty());
    }
    follow(&mut sim);

    // Who does not prove to be who it says hears nothing of other gateways.
    let mut pair = willing();
    pair.west.send_redirect = SendRedirect::Yes;
    pair.west.redirect_to = vec![gateway(NORTH)];
    pair.east_psk = b"wrong".to_vec();
    let sim = run(pair);
    assert_eq!(ike_failure(&sim, 0).name(), "authentication_failed");
    assert_eq!(sim.event_names(1), ["ike_failed"]);
}

#[test]
fn in_the_middle_of_a_session() {
    let mut sim = world(willing());
    let ike = sim.initiate(0, WEST);
    sim.run_for(s(1));
    let theirs = sim.nodes[1].endpoint.ike_sas().next().unwrap().id;
    // Who has begun the IKE SA sends nobody anywhere.
    assert!(!sim.act(0, |e, now| e.redirect(now, ike, gateway(NORTH))));
    // Also after a renewal that the gateway has begun.
    sim.act(1, |e, now| e.rekey_ike(now, theirs));
    sim.run_for(s(1));
    let ike = sim.nodes[0].endpoint.ike_sas().next().unwrap().id;
    let theirs = sim.nodes[1].endpoint.ike_sas().next().unwrap().id;
    assert!(!sim.act(0, |e, now| e.redirect(now, ike, gateway(NORTH))));
    assert!(sim.act(1, |e, now| e.redirect(now, theirs, gateway(NORTH))));
    sim.run_for(s(1));
    let closed = sim.nodes[0]
        .events
        .iter()
        .rev()
        .find_map(|event| match event {
            Event::IkeClosed { reason, .. } => Some(reason.clone()),
            _ => None,
        });
    let to = gateway(NORTH);
    assert_eq!(closed, Some(CloseReason::Redirected { to }));
    assert!(sim.event_names(1).contains(&"redirecting"));
    // What lingers is over, too.
    sim.run_for(s(61));
    for node in [0, 1] {
        assert_eq!(sim.nodes[node].endpoint.ike_sas().count(), 0);
        assert!(sim.nodes[node].plane.installed.is_empty());
    }
    follow(&mut sim);
}

#[test]
fn under_load_only_and_each_in_its_turn() {
    let (first, second) = (gateway("198.51.100.1"), gateway("gw.example.com"));
    let mut pair = willing();
    pair.west_config.send_redirect = SendRedirect::UnderLoad;
    pair.west_config.redirect_to = vec![
        gateway(WEST),
        first.clone(),
        gateway("2001:db8::1"),
        second.clone(),
    ];
    let mut sim = world(pair);
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    established(&sim);
    let busy = EndpointConfig {
        cookie_threshold: 0,
        ..sim.nodes[1].config.clone()
    };
    sim.nodes[1].endpoint.set_config(busy);
    let mut targets = Vec::new();
    for _ in 0..3 {
        sim.nodes[0].events.clear();
        sim.initiate(0, WEST);
        sim.run_for(s(1));
        match ike_failure(&sim, 0) {
            FailureReason::Redirected { to } => targets.push(to),
            other => panic!("{other}"),
        }
    }
    // Neither to itself nor to another address family.
    assert_eq!(targets, [first.clone(), second, first]);
}

//= rfc5685#3
//= type=test
//# If the
//# IKE_SA_INIT request did not indicate support for the redirect
//# mechanism, the responder MUST NOT send the REDIRECT payload to the
//# VPN client.
//= rfc5685#3
//= type=test
//# The gateway MUST keep track of those clients that indicated support
//# for the redirect mechanism and those that didn't.
#[test]
fn who_has_not_said_that_it_goes_is_not_sent() {
    let mut pair = Pair::default();
    pair.west_config.send_redirect = SendRedirect::Yes;
    pair.west_config.redirect_to = vec![gateway(NORTH)];
    pair.west.send_redirect = SendRedirect::Yes;
    pair.west.redirect_to = vec![gateway(NORTH)];
    let mut sim = run(pair);
    established(&sim);
    let theirs = sim.nodes[1].endpoint.ike_sas().next().unwrap().id;
    assert!(!sim.act(1, |e, now| e.redirect(now, theirs, gateway(NORTH))));
    sim.run_for(s(5));
    assert_eq!(says(&sim, "REDIRECT"), 0, "{}", sim.trace.join("\n"));
}

/// The first request of `east`, held back, and an answer to it that nobody has authenticated.
fn forged(sim: &mut Sim, to: &str, nonce: impl Fn(&[u8]) -> Vec<u8>) -> Datagram {
    sim.manual = true;
    sim.initiate(0, WEST);
    let request = sim.sent().remove(0);
    // The request will be repeated, and the gateway answers.
    sim.manual = false;
    let message = Message::parse(&request.bytes).unwrap();
    let ni = message.payloads().find_map(|payload| match payload {
        Ok(Payload::Nonce(nonce)) => Some(nonce.data().to_vec()),
        _ => None,
    });
    let said = cygnet_wire::RedirectNotify {
        gateway: gateway(to),
        nonce: &nonce(&ni.unwrap()),
    }
    .to_bytes();
    let mut header = *message.header();
    header.flags.initiator = false;
    header.flags.response = true;
    let mut bytes = Vec::new();
    write_message(&mut bytes, &header, |payloads| {
        payloads.notify(&Notify::new(NotifyType::REDIRECT, &said));
    })
    .unwrap();
    Datagram {
        src: request.dst,
        dst: request.src,
        transport: Transport::Udp,
        bytes,
    }
}

//= rfc5685#3
//= type=test
//# When the client receives the IKE_SA_INIT response, it MUST verify
//# that the nonce data matches the value sent in the IKE_SA_INIT
//# request.  If the values do not match, the client MUST silently
//# discard the response (and keep waiting for another response).
#[test]
fn an_answer_without_our_nonce_is_none() {
    type Spoil = fn(&[u8]) -> Vec<u8>;
    let wrong: [Spoil; 4] = [
        |_| Vec::new(),
        |ni| ni[..ni.len() - 1].to_vec(),
        |ni| [ni, &[0]].concat(),
        |ni| ni.iter().map(|octet| octet ^ 1).collect(),
    ];
    for nonce in wrong {
        let mut sim = willing().sim(1);
        let answer = forged(&mut sim, NORTH, nonce);
        sim.deliver(answer);
        sim.run_for(s(2));
        established(&sim);
        let stats = sim.nodes[0].endpoint.stats();
        assert_eq!(stats.dropped(DropReason::BadResponse), 1);
    }
    // With the nonce it counts.
    let mut sim = willing().sim(1);
    let answer = forged(&mut sim, NORTH, <[u8]>::to_vec);
    sim.deliver(answer);
    assert_eq!(ike_failure(&sim, 0), redirected());
    // For who has not said that it goes anywhere it never does.
    let mut sim = Pair::default().sim(1);
    let answer = forged(&mut sim, NORTH, <[u8]>::to_vec);
    sim.deliver(answer);
    sim.run_for(s(2));
    established(&sim);
}

#[test]
fn where_we_do_not_go() {
    let list = |texts: &[&str]| AcceptRedirect::To(texts.iter().map(|t| gateway(t)).collect());
    let forbidden = [
        (AcceptRedirect::Any, "0.0.0.0"),
        (AcceptRedirect::Any, "127.0.0.1"),
        (AcceptRedirect::Any, "224.0.0.1"),
        (AcceptRedirect::Any, "255.255.255.255"),
        (AcceptRedirect::Any, "::"),
        (AcceptRedirect::Any, "::1"),
        (AcceptRedirect::Any, "ff02::1"),
        (AcceptRedirect::Any, "::ffff:192.0.2.3"),
        (list(&["198.51.100.1", "gw.example.com"]), NORTH),
        (list(&["gw.example.com"]), "other.example.com"),
    ];
    for (accept, to) in forbidden {
        // Nobody has authenticated it: the true answer comes and counts.
        let mut pair = willing();
        pair.east.accept_redirect = accept.clone();
        let mut sim = pair.sim(1);
        let answer = forged(&mut sim, to, <[u8]>::to_vec);
        sim.deliver(answer);
        sim.run_for(s(2));
        established(&sim);

        // The gateway says so at once, and there is no other answer.
        let reason = FailureReason::RedirectForbidden { to: gateway(to) };
        let mut pair = willing();
        pair.east.accept_redirect = accept.clone();
        let mut sim = pair.sim(1);
        let answer = forged(&mut sim, to, <[u8]>::to_vec);
        sim.crash(1);
        sim.nodes[1].addresses = Some(Vec::new());
        sim.deliver(answer);
        sim.run_for(s(2));
        assert_eq!(ike_failure(&sim, 0), reason, "{to}");

        // In the middle of a session the IKE SA stays.
        let mut pair = willing();
        pair.east.accept_redirect = accept;
        let mut sim = run(pair);
        let theirs = sim.nodes[1].endpoint.ike_sas().next().unwrap().id;
        assert!(sim.act(1, |e, now| e.redirect(now, theirs, gateway(to))));
        sim.run_for(s(1));
        assert!(sim.event_names(0).contains(&"redirect_refused"), "{to}");
        assert_eq!(sim.nodes[0].endpoint.child_sas().count(), 1);
    }
    let listed = list(&["198.51.100.1", "gw.example.com"]);
    for to in ["198.51.100.1", "GW.example.com", "other.example.com"] {
        assert!(listed.permits(&gateway(to)), "{to}");
    }
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    assert!(listed.permits_resolved("gw.EXAMPLE.com", address("203.0.113.5")));
    assert!(!listed.permits_resolved("gw.example.com", address("127.0.0.1")));
    assert!(listed.permits_resolved("other.example.com", address("198.51.100.1")));
    assert!(!listed.permits_resolved("other.example.com", address("203.0.113.5")));
}

/// A peer that stays although it has been sent away is told good-bye, and gets no more until then.
#[test]
fn who_does_not_go_is_deleted() {
    let mut pair = willing();
    pair.west.send_redirect = SendRedirect::Yes;
    pair.west.redirect_to = vec![gateway(NORTH)];
    pair.west_config.key_log = true;
    let mut sim = pair.sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    // As far as the response of IKE_AUTH, and no further.
    for _ in 0..3 {
        sim.exchange();
    }
    sim.run_for(s(119));
    assert_eq!(sim.nodes[1].endpoint.ike_sas().count(), 1);
    sim.run_for(s(100));
    assert_eq!(
        sim.event_names(1),
        ["ike_established", "redirecting", "ike_closed"]
    );
    assert_eq!(sim.nodes[1].endpoint.ike_sas().count(), 0);
}

/// Only the gateway sends its client away, and a client that is flooded with it goes once.
#[test]
fn forged_by_an_authenticated_peer() {
    let mut pair = willing();
    pair.west.accept_redirect = AcceptRedirect::Any;
    pair.west_config.key_log = true;
    let mut sim = run(pair);
    let data = cygnet_wire::RedirectNotify {
        gateway: gateway(NORTH),
        nonce: &[],
    }
    .to_bytes();
    let informational = ExchangeType::INFORMATIONAL;
    let redirect = |data: &[u8], times: usize, forge: &mut Forge, id: u32| {
        forge.message(informational, false, id, |payloads| {
            for _ in 0..times {
                payloads.notify(&Notify::new(NotifyType::REDIRECT, data));
            }
        })
    };
    let mut initiator = Forge::new(&sim, 0, Role::Initiator);
    let message = redirect(&data, 1, &mut initiator, 2);
    sim.deliver(message);
    sim.run_for(s(1));
    let info = sim.nodes[1].endpoint.ike_sas().next().expect("it stays");
    assert_eq!(info.next_peer_request, 3, "it has been heard");
    let mut responder = initiator.turned(Role::Responder);
    // Malformed: as if it were not there.
    for (id, data) in [&b""[..], b"\x01", b"\x09\x00", b"\x01\x04\x01"]
        .iter()
        .enumerate()
    {
        let message = redirect(data, 1, &mut responder, id as u32);
        sim.deliver(message);
        sim.run_for(s(1));
        assert_eq!(sim.nodes[0].endpoint.ike_sas().count(), 1);
    }
    let message = redirect(&data, 100, &mut responder, 4);
    sim.deliver(message);
    // The true gateway has not said so, and takes the Delete for a repetition of what was forged.
    sim.run_for(s(100));
    let closed = sim.event_names(0);
    assert_eq!(closed.iter().filter(|n| **n == "ike_closed").count(), 1);
}

//= rfc5685#5
//= type=test
//# The gateway MUST NOT include
//# any nonce data in the REDIRECT payload, since it is a gateway-
//# initiated redirect and is protected by the IKEv2 security
//# association.
//= rfc5685#5
//= type=test
//# The REDIRECT payload MUST carry information about the new VPN gateway.
#[test]
fn in_the_middle_of_a_session_no_nonce_is_said() {
    let mut sim = world(willing());
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    let east = Forge::new(&sim, 0, Role::Initiator);
    let theirs = sim.nodes[1].endpoint.ike_sas().next().unwrap().id;
    sim.manual = true;
    assert!(sim.act(1, |e, now| e.redirect(now, theirs, gateway(NORTH))));
    east.look(&sim.outbox[0], |payloads| match payloads {
        // An IPv4 address of four octets, and nothing after it.
        [Payload::Notify(n)] => {
            assert_eq!(
                (n.kind, n.data),
                (NotifyType::REDIRECT, &[1, 4, 192, 0, 2, 3][..])
            );
        }
        other => panic!("{other:?}"),
    });
}

//= rfc5685#6
//= type=test
//# the client MUST verify the gateway's AUTH payload before
//# acting on the REDIRECT payload.
#[test]
fn who_does_not_prove_itself_sends_nobody_elsewhere() {
    let (mut sim, response, keys) = stopped_at(3, || {
        let mut pair = willing();
        pair.west.send_redirect = SendRedirect::Yes;
        pair.west.redirect_to = vec![gateway(NORTH)];
        world(pair)
    });
    let forged = Forge::with_keys(keys, Role::Responder).edit(&response, |payloads, writer| {
        for payload in payloads {
            match payload {
                Payload::Auth(auth) => writer.auth(auth.method, &[7; 64]),
                other => writer.any(other),
            };
        }
    });
    sim.deliver(forged);
    assert_eq!(ike_failure(&sim, 0).name(), "authentication_failed");
}

/// The notifications of one kind in a message.
fn of_kind(datagram: &Datagram, kind: NotifyType) -> Vec<(ProtocolId, usize, Vec<u8>)> {
    let message = Message::parse(&datagram.bytes).unwrap();
    message
        .payloads()
        .flatten()
        .filter_map(|payload| match payload {
            Payload::Notify(n) if n.kind == kind => {
                Some((n.protocol, n.spi.len(), n.data.to_vec()))
            }
            _ => None,
        })
        .collect()
}

/// Octet by octet after RFC 5685, 9.1 to 9.3: neither protocol nor SPI; the gateway; the nonce in IKE_SA_INIT only.
//= rfc5685#9.1
//= type=test
//# The 'SPI Size' field MUST be set to 0 to indicate that the SPI is not
//# present in this message.
//= rfc5685#9.1
//= type=test
//# The 'Protocol ID' MUST be set to 0, since the notification is not
//# specific to a particular security association.
//= rfc5685#9.3
//= type=test
//# The 'SPI Size' field MUST be set to 0 to indicate that the SPI is not
//# present in this message.
//= rfc5685#9.3
//= type=test
//# The 'Protocol ID' MUST be set to 0, since the notification is not
//# specific to a particular security association.
//= rfc5685#9.2
//= type=test
//# The 'SPI Size' field MUST be set to 0 to indicate that the SPI is not
//# present in this message.
//= rfc5685#9.2
//= type=test
//# The 'Protocol ID' MUST be set to 0, since the notification is not
//# specific to a particular security association.
//= rfc5685#9.2
//= type=test
//# It MUST NOT be included in the REDIRECT payload if sent in an IKE_AUTH
//# response or in a gateway-initiated redirect message.
#[test]
fn what_the_notifications_contain() {
    let mut pair = willing();
    pair.west_config.send_redirect = SendRedirect::Yes;
    pair.west_config.redirect_to = vec![gateway(NORTH)];
    let mut sim = world(pair);
    sim.manual = true;
    sim.initiate(0, WEST);
    let request = sim.outbox[0].clone();
    let none = (ProtocolId::NONE, 0, Vec::new());
    assert_eq!(of_kind(&request, NotifyType::REDIRECT_SUPPORTED), [none]);
    sim.exchange();
    let nonce = Message::parse(&request.bytes)
        .unwrap()
        .payloads()
        .flatten()
        .find_map(|p| match p {
            Payload::Nonce(nonce) => Some(nonce.data().to_vec()),
            _ => None,
        });
    let north = vec![1, 4, 192, 0, 2, 3];
    let with_nonce = [north.clone(), nonce.unwrap()].concat();
    let said = of_kind(&sim.outbox[0], NotifyType::REDIRECT);
    assert_eq!(said, [(ProtocolId::NONE, 0, with_nonce)]);
    sim.manual = false;
    sim.exchange();
    let peer = sim.nodes[0].book.peers[0].clone();
    let end = |address: &str| format!("{address}:500").parse().unwrap();
    let ends = (end(EAST), end(NORTH));
    sim.manual = true;
    sim.act(0, |e, now| {
        e.follow_redirect(now, peer, None, ends, WEST.parse().unwrap())
    });
    let said = of_kind(&sim.outbox[0], NotifyType::REDIRECTED_FROM);
    assert_eq!(said, [(ProtocolId::NONE, 0, vec![1, 4, 192, 0, 2, 2])]);

    let (_, response, keys) = stopped_at(3, || {
        let mut pair = willing();
        pair.west.send_redirect = SendRedirect::Yes;
        pair.west.redirect_to = vec![gateway(NORTH)];
        world(pair)
    });
    let mut said = Vec::new();
    Forge::with_keys(keys, Role::Initiator).look(&response, |payloads| {
        for payload in payloads {
            if let Payload::Notify(n) = payload
                && n.kind == NotifyType::REDIRECT
            {
                said.push(n.data.to_vec());
            }
        }
    });
    assert_eq!(said, [north]);
}

/// What is configured for the first gateway holds for the next one: another identity is not accepted there.
//= rfc5685#3
//= type=test
//# When the client gets redirected, it MUST use the same Peer
//# Authorization Database (PAD) and Security Policy Database (SPD)
//# entries as it would have used with the original gateway.
#[test]
fn the_next_gateway_is_to_be_who_the_first_one_is() {
    for identity in ["@west.example.com", "@north.example.com"] {
        let mut sim = world(willing());
        let north = &mut sim.nodes[2];
        let mut book = (*north.book).clone();
        let mut peer = (*book.peers[0]).clone();
        peer.local_id = identity.parse().unwrap();
        book.psks[0].0 = peer.local_id.clone();
        book.peers = vec![peer.into()];
        north.endpoint.set_directory(Arc::new(book));
        let peer = sim.nodes[0].book.peers[0].clone();
        let child = peer.children.first().cloned().map(|config| ChildRequest {
            config,
            acquire: None,
        });
        let end = |address: &str| format!("{address}:500").parse().unwrap();
        let ends = (end(EAST), end(NORTH));
        sim.act(0, |e, now| {
            e.follow_redirect(now, peer, child, ends, WEST.parse().unwrap())
        });
        sim.run_for(s(1));
        let accepted = sim.nodes[0].endpoint.ike_sas().count() == 1;
        assert_eq!(accepted, identity == "@west.example.com");
    }
}
