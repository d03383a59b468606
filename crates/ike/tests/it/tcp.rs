//! IKE SAs over TCP (RFC 9329): the fallback, streams that break, and what differs from UDP.

use std::net::SocketAddr;
use std::sync::Arc;

use cygnet_crypto::Entropy;
use cygnet_crypto::testing::{InsecureEntropy, InsecureKeyExchange};
use cygnet_ike::*;
use cygnet_ipsec::EncapKind;
use cygnet_wire::{ExchangeType, PayloadType};

use crate::forge::Forge;
use crate::pair::*;
use crate::sim::*;

/// East, which begins, with `tcp`; west takes streams.
fn pair(tcp: Tcp) -> Pair {
    let mut pair = Pair::default();
    pair.east.tcp = tcp;
    pair.west.tcp = Tcp::Yes;
    pair
}

fn info(sim: &Sim, node: usize) -> IkeSaInfo {
    let mut all = sim.nodes[node].endpoint.ike_sas();
    let info = all.next().expect("an IKE SA");
    assert!(all.next().is_none(), "one only");
    info
}

/// The stream of a node's IKE SA, its own end first.
fn stream(sim: &Sim, node: usize) -> (SocketAddr, SocketAddr) {
    let info = info(sim, node);
    assert_eq!(info.transport, Transport::Tcp);
    (info.local, info.remote)
}

/// A node learns that a stream is broken.
fn lose(sim: &mut Sim, node: usize, (local, remote): (SocketAddr, SocketAddr)) {
    sim.act(node, |endpoint, now| {
        endpoint.handle(now, Input::StreamLost { local, remote });
    });
}

#[test]
fn an_ike_sa_over_tcp() {
    //= rfc9329#6.5
    //= type=test
    //# IKE_SA_INIT packets sent on a TCP
    //# connection SHOULD include these payloads with the same content as
    //# when sending over UDP and SHOULD use the applicable TCP ports when
    //# creating and checking the SHA-1 digests.
    let mut pair = pair(Tcp::Yes);
    pair.east.fragmentation = Fragmentation::Force;
    pair.west.fragmentation = Fragmentation::Force;
    pair.east.tcp_remote_port = 4501;
    let sim = run(pair);
    established(&sim);
    let (local, remote) = stream(&sim, 0);
    assert_eq!(remote.port(), 4501);
    assert!((32_768..61_000).contains(&local.port()));
    assert_eq!(stream(&sim, 1), (remote, local));
    for node in [0, 1] {
        let info = info(&sim, node);
        assert!(info.nat.supported && !info.nat.detected(), "{:?}", info.nat);
        assert!(info.fragmentation, "for another network");
        assert_eq!(child(&sim, node).encapsulation, Some(EncapKind::Tcp));
        assert_eq!(sim.nodes[node].streams, [(info.local, info.remote)]);
        //= rfc9329#7.5
        //= type=test
        //# Even if fragmentation is negotiated, an
        //# implementation SHOULD NOT send fragments when going over a TCP
        //# connection, although it MUST support receiving fragments.
        assert_eq!(sim.nodes[node].endpoint.stats().fragments_out, 0);
    }
}

#[test]
fn a_nat_changes_nothing_over_tcp() {
    let mut sim = pair(Tcp::Yes).sim(1);
    sim.nat = Some(Nat::new(EAST.parse().unwrap(), NAT.parse().unwrap()));
    sim.initiate(0, WEST);
    sim.run_for(s(300));
    assert!(info(&sim, 0).nat.local && info(&sim, 1).nat.remote);
    assert_eq!(child(&sim, 0).encapsulation, Some(EncapKind::Tcp));
    //= rfc9329#6.6
    //= type=test
    //# In general, TCP port mappings are maintained by NATs longer than UDP
    //# port mappings, so IPsec ESP NAT-keepalive packets [RFC3948] SHOULD
    //# NOT be sent when using TCP encapsulation.
    assert_eq!(sim.nodes[0].endpoint.stats().keepalives_sent, 0);
}

#[test]
fn tcp_comes_after_udp_has_failed() {
    //= rfc9329#5.1
    //= type=test
    //# When switching from UDP to TCP, a new IKE_SA_INIT exchange MUST be
    //# initiated with the Initiator's new SPI and with recalculated content
    //# of NAT_DETECTION_*_IP notifications.
    let mut sim = pair(Tcp::Fallback).sim(1);
    sim.without_udp = true;
    let begun = sim.initiate(0, WEST);
    let first = info(&sim, 0).initiator_spi;
    sim.run_for(s(7));
    assert_eq!(info(&sim, 0).transport, Transport::Udp);
    assert_eq!(sim.nodes[0].endpoint.stats().retransmissions, 3);
    sim.run_for(s(2));
    let after = info(&sim, 0);
    assert_eq!((after.id, after.transport), (begun, Transport::Tcp));
    assert_ne!(after.initiator_spi, first);
    assert!(!after.nat.detected());
    assert_eq!(
        sim.event_names(0)
            .iter()
            .filter(|name| **name == "falling_back")
            .count(),
        1
    );
    sim.assert_agreement(0, 1);
    // Where UDP works, or is answered with an error, it stays at that.
    let sim = run(pair(Tcp::Fallback));
    assert_eq!(info(&sim, 0).transport, Transport::Udp);
    assert!(sim.nodes[0].streams.is_empty());
    let mut strange = pair(Tcp::Fallback);
    strange.west.proposals = ike("aes_cbc128-sha2_256-dh14");
    strange.east.proposals = ike("aes_gcm256-sha2_256-dh19");
    let mut sim = run(strange);
    sim.run_for(s(60));
    assert!(!sim.event_names(0).contains(&"falling_back"));
}

#[test]
fn short_patience_with_udp_leaves_time_for_tcp() {
    let mut pair = pair(Tcp::Fallback);
    pair.east.retransmit.timeout = s(2);
    let mut sim = pair.sim(1);
    sim.without_udp = true;
    sim.initiate(0, WEST);
    sim.run_for(s(3));
    sim.assert_agreement(0, 1);
}

#[test]
fn who_is_not_to_use_tcp_is_refused() {
    //= rfc9329#5
    //= type=test
    //# TCP encapsulation is applicable only when it has been configured to
    //# be used with specific IKE peers.
    let mut pair = pair(Tcp::Yes);
    pair.west.tcp = Tcp::No;
    let sim = run(pair);
    //= rfc9329#6.4
    //= type=test
    //# Thus, in the case of TCP encapsulation, an Initiator SHOULD NOT wait
    //# for additional messages in case it receives an error notification
    //# from the Responder in the IKE_SA_INIT exchange.
    assert!(matches!(
        ike_failure(&sim, 0),
        FailureReason::NoProposalChosen { .. }
    ));
    assert_eq!(sim.event_names(1), ["rejected"]);
    assert!(sim.nodes[0].streams.is_empty() && sim.nodes[1].streams.is_empty());
}

//= rfc9329#6.1
//= type=test
//# Since new TCP connections may use different IP addresses and/or ports
//# due to NAT mappings or local address or port allocations changing, the
//# TCP Responder MUST allow packets for existing SAs to be received from
//# new source IP addresses and ports.
#[test]
fn the_originator_opens_another_stream_and_the_responder_follows() {
    //= rfc9329#1.2
    //= type=test
    //# If an IKE SA
    //# is rekeyed one or more times, the TCP Originator MUST remain the peer
    //# that originally initiated the first IKE SA.
    for mobike in [false, true] {
        let mut pair = pair(Tcp::Yes);
        (pair.east.mobike, pair.west.mobike) = (mobike, mobike);
        let mut sim = run(pair);
        // West becomes the initiator of the IKE SA, and stays the one that does not open streams.
        let ike = info(&sim, 1).id;
        sim.act(1, |endpoint, now| endpoint.rekey_ike(now, ike));
        sim.run_for(s(1));
        assert_eq!(info(&sim, 1).role, Role::Initiator);
        let before = stream(&sim, 0);
        assert_eq!(sim.nodes[0].streams, [before]);
        let reverse = (before.1, before.0);
        lose(&mut sim, 1, reverse);
        assert_eq!(stream(&sim, 1), reverse, "it waits");
        lose(&mut sim, 0, before);
        let after = stream(&sim, 0);
        assert_eq!(after.1, before.1);
        assert_ne!(after.0, before.0);
        sim.run_for(s(1));
        assert_eq!(stream(&sim, 1), (after.1, after.0));
        for (node, name) in [(0, after), (1, (after.1, after.0))] {
            assert_eq!(sim.nodes[node].streams, [name], "the other one is let go");
            let moved = sim.event_names(node);
            assert!(moved.contains(&"moved"), "{moved:?}");
        }
        // The old IKE SA is forgotten.
        sim.run_for(s(70));
        sim.assert_agreement(0, 1);
        // What is said of a stream that nobody uses, or of another one, is nothing.
        lose(&mut sim, 0, before);
        assert_eq!(stream(&sim, 0), after);
    }
}

#[test]
fn a_request_is_repeated_over_the_next_stream_and_not_before() {
    //= rfc9329#6.2
    //= type=test
    //# If a new TCP connection for the IKE SA is established while the
    //# exchange Initiator is waiting for a response, the Initiator MUST
    //# retransmit its request over this connection and continue to wait
    //# for a response.
    let mut sim = run(pair(Tcp::Yes));
    let before = stream(&sim, 0);
    let reverse = (before.1, before.0);
    let ike = info(&sim, 1).id;
    sim.manual = true;
    sim.act(1, |endpoint, now| endpoint.check_liveness(now, ike));
    assert_eq!(sim.sent().len(), 1);
    lose(&mut sim, 1, reverse);
    sim.run_for(s(10));
    assert!(sim.sent().is_empty(), "nobody but the peer opens streams");
    lose(&mut sim, 0, before);
    let sign = sim.sent();
    assert_eq!(sign.len(), 1, "of life, over the new one");
    sim.deliver(sign[0].clone());
    let sent = sim.sent();
    let over = |d: &Datagram| (d.src, d.dst) == (sign[0].dst, sign[0].src);
    assert!(
        sent.len() == 2 && sent.iter().all(over),
        "the request, and an answer"
    );
    sim.manual = false;
    for datagram in sent {
        sim.deliver(datagram);
    }
    sim.run_for(s(1));
    assert_eq!(info(&sim, 1).next_request, info(&sim, 0).next_peer_request);
    // A stream that does not break is given time, then it counts as dead.
    let ike = info(&sim, 0).id;
    let standing = stream(&sim, 0);
    sim.manual = true;
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    sim.run_for(s(3));
    assert_eq!(sim.sent().len(), 1, "TCP repeats it");
    sim.run_for(s(1));
    let again = sim.sent();
    assert_eq!(again.len(), 1);
    assert_ne!(again[0].src, standing.0);
    // With no stream at all, that is the end.
    sim.run_for(s(120));
    assert!(sim.event_names(0).contains(&"ike_closed"));
    assert!(sim.nodes[0].streams.is_empty());
}

#[test]
fn a_stream_that_is_refused_is_not_tried_at_once_again() {
    let mut sim = pair(Tcp::Yes).sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    let first = stream(&sim, 0);
    let mut tried = 0;
    for _ in 0..600 {
        tried += sim.sent().len();
        if sim.nodes[0].endpoint.ike_sas().next().is_none() {
            break;
        }
        assert_eq!(stream(&sim, 0), first, "the hash is of this port");
        lose(&mut sim, 0, first);
        sim.run_for(std::time::Duration::from_millis(200));
    }
    assert!((5..15).contains(&tried), "{tried}");
    assert!(matches!(
        ike_failure(&sim, 0),
        FailureReason::NoResponse { .. }
    ));
}

#[test]
fn cookies_are_for_datagrams() {
    //= rfc9329#6.3
    //= type=test
    //# The exchange Responder SHOULD NOT send an IKEv2 Cookie request
    //# without an accompanied Puzzle
    for (tcp, cookies) in [(Tcp::Yes, 0), (Tcp::No, 1)] {
        let mut pair = pair(tcp);
        pair.west_config.cookie_threshold = 0;
        let sim = run(pair);
        established(&sim);
        assert_eq!(sim.nodes[1].endpoint.stats().cookies_sent, cookies);
    }
}

#[test]
fn mobike_goes_from_udp_to_tcp_and_back() {
    //= rfc9329#7.1
    //= type=test
    //# Implementations that implement
    //# both MOBIKE and TCP encapsulation within the same connection
    //# configuration MUST support dynamically enabling and disabling TCP
    //# encapsulation as interfaces change.
    let mut pair = pair(Tcp::Fallback);
    (pair.east.mobike, pair.west.mobike) = (true, true);
    let mut sim = run(pair);
    let addresses = |sim: &mut Sim, own: &[&str]| {
        let own: Vec<std::net::IpAddr> = own.iter().map(|a| a.parse().unwrap()).collect();
        sim.nodes[0].addresses = Some(own.clone());
        sim.act(0, |endpoint, now| endpoint.set_addresses(now, own));
    };
    addresses(&mut sim, &[EAST]);
    sim.run_for(s(1));
    let ike = info(&sim, 0).id;
    assert_eq!(info(&sim, 0).transport, Transport::UdpEncap);
    sim.without_udp = true;
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    sim.run_for(s(10));
    let (local, remote) = stream(&sim, 0);
    assert_eq!(stream(&sim, 1), (remote, local));
    assert_eq!(sim.nodes[0].streams, [(local, remote)]);
    for node in [0, 1] {
        let info = sim.nodes[node].endpoint.child_sas().next();
        let encapsulation = info.expect("a child SA").encapsulation;
        assert_eq!(encapsulation, Some(EncapKind::Tcp));
    }
    // Another network, on which UDP works.
    sim.without_udp = false;
    addresses(&mut sim, &["192.0.2.77"]);
    sim.run_for(s(10));
    for node in [0, 1] {
        assert_eq!(info(&sim, node).transport, Transport::UdpEncap);
        assert!(sim.nodes[node].streams.is_empty());
        let info = sim.nodes[node].endpoint.child_sas().next();
        assert_ne!(
            info.expect("a child SA").encapsulation,
            Some(EncapKind::Tcp)
        );
    }
    assert_eq!(info(&sim, 0).local.ip().to_string(), "192.0.2.77");
}

/// Randomness in which all that is as short as a port is the same.
struct SamePort(InsecureEntropy);

impl Entropy for SamePort {
    fn fill(&mut self, octets: &mut [u8]) {
        match octets {
            [high, low] => (*high, *low) = (0x12, 0x34),
            octets => self.0.fill(octets),
        }
    }
}

//= rfc9329#6.1
//= type=test
//# Multiple IKE SAs MUST NOT share a single TCP connection, unless one is
//# a rekey of an existing IKE SA, in which case there will temporarily be
//# two IKE SAs on the same TCP connection.
#[test]
fn each_ike_sa_has_a_stream_of_its_own() {
    let mut sim = pair(Tcp::Yes).sim(1);
    // Whatever port is drawn, it is the same one.
    let node = &mut sim.nodes[0];
    node.endpoint = Endpoint::new(
        node.config.clone(),
        node.book.clone(),
        Arc::new(InsecureKeyExchange),
        Box::new(SamePort(InsecureEntropy::from_seed(1))),
    );
    for _ in 0..3 {
        sim.initiate(0, WEST);
        sim.run_for(s(1));
    }
    let mut streams: Vec<_> = sim.nodes[0]
        .endpoint
        .ike_sas()
        .map(|ike| (ike.local, ike.remote))
        .collect();
    streams.sort();
    let all = streams.len();
    streams.dedup();
    assert_eq!((all, streams.len()), (3, 3));
    assert_eq!(sim.nodes[0].streams.len(), 3);
}

/// Whatever is said, from the first request to the last, and ESP.
//= rfc9329#2
//= type=test
//# Compliant implementations MUST support TCP encapsulation on TCP port
//# 4500, which is reserved for IPsec NAT traversal.
//= rfc9329#5
//= type=test
//# If TCP encapsulation is being used for a specific IKE SA, all IKE
//# messages for that IKE SA and ESP packets for its Child SAs MUST be
//# sent over a TCP connection until the SA is deleted or IKEv2 Mobility
//# and Multihoming (MOBIKE) is used to change the SA endpoints and/or the
//# encapsulation protocol.
#[test]
fn everything_of_an_ike_sa_goes_over_its_stream() {
    let mut sim = pair(Tcp::Yes).sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    let mut seen = 0;
    let mut step = |sim: &mut Sim| {
        sim.run_for(s(0));
        while !sim.outbox.is_empty() {
            assert!(sim.outbox.iter().all(|d| d.transport == Transport::Tcp));
            assert!(
                sim.outbox
                    .iter()
                    .all(|d| 4500 == d.src.port().min(d.dst.port()))
            );
            seen += sim.outbox.len();
            sim.exchange();
            sim.run_for(s(0));
        }
        for node in &sim.nodes {
            let mut children = node.endpoint.child_sas();
            assert!(children.all(|child| child.encapsulation == Some(EncapKind::Tcp)));
        }
    };
    step(&mut sim);
    for node in 0..2 {
        let child = child(&sim, node).child;
        sim.act(node, |endpoint, now| endpoint.rekey_child(now, child));
        step(&mut sim);
        let ike = sim.nodes[node].endpoint.ike_sas().last().unwrap().id;
        sim.act(node, |endpoint, now| endpoint.rekey_ike(now, ike));
        step(&mut sim);
    }
    let ike = sim.nodes[0].endpoint.ike_sas().last().unwrap().id;
    sim.act(0, |endpoint, now| endpoint.delete_ike(now, ike));
    step(&mut sim);
    assert!(seen >= 4 + 2 * 8 + 2, "{seen}");
}

/// What is wrong with a message is said to its sender, and ends the IKE SA; the stream has nothing to do with it.
//= rfc9329#6.1
//= type=test
//# If there is instead a syntax issue within an IKE message, an
//# implementation MUST send the INVALID_SYNTAX notify payload and tear
//# down the IKE SA as usual, rather than tearing down the TCP connection
//# directly.
#[test]
fn a_malformed_message_ends_the_ike_sa_in_the_usual_way() {
    let mut pair = pair(Tcp::Yes);
    pair.east_config.key_log = true;
    let mut sim = run(pair);
    let mut east = Forge::new(&sim, 0, Role::Initiator);
    let (src, dst) = stream(&sim, 0);
    sim.manual = true;
    let malformed = east.message(ExchangeType::INFORMATIONAL, false, 2, |payloads| {
        payloads.raw(PayloadType::NOTIFY, false, &[0, 9]);
    });
    sim.deliver(Datagram {
        src,
        dst,
        transport: Transport::Tcp,
        ..malformed
    });
    let answer = sim.sent().remove(0);
    assert_eq!((answer.src, answer.dst), (dst, src));
    assert_eq!(
        east.read(&answer),
        "INFORMATIONAL response 2 N(INVALID_SYNTAX)"
    );
    assert_eq!(sim.event_names(1).last(), Some(&"ike_closed"));
}

/// The solution of a puzzle may come over another stream, from another port, with the cookie that goes with it.
//= rfc9329#6.3
//= type=test
//# Note that the Responder MUST NOT include the Initiator's TCP port into
//# the Cookie calculation (*) since the Cookie can be returned over a new
//# TCP connection with a different port.
#[test]
fn a_cookie_may_come_back_over_another_stream() {
    let mut pair = pair(Tcp::Yes);
    pair.west_config.puzzles = Some(PuzzlePolicy {
        threshold: 0,
        difficulty: 8,
    });
    let mut sim = pair.sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    sim.exchange();
    assert!(describe(&sim.outbox[0]).ends_with("N(COOKIE) N(PUZZLE)"));
    sim.exchange();
    sim.run_for(s(0));
    let mut again = sim.sent().pop().expect("the request with a solution");
    assert!(describe(&again).contains("N(COOKIE) PS SA"));
    again.src.set_port(again.src.port() ^ 1);
    sim.deliver(again);
    assert!(describe(&sim.outbox[0]).contains("IKE_SA_INIT response 0 SA KE Nonce"));
}

/// Where a gateway sends us UDP may work, whatever did not work before.
//= rfc9329#7.2
//= type=test
//# the client MUST first try UDP and then fall back to TCP while
//# establishing a new IKE SA, regardless of the transport of the SA the
//# redirect notification was received over (unless the client's
//# configuration instructs it to instantly use TCP for the gateway it is
//# redirected to).
#[test]
fn after_a_redirection_udp_is_tried_first() {
    let mut sim = pair(Tcp::Fallback).sim(1);
    sim.without_udp = true;
    sim.initiate(0, WEST);
    sim.run_for(s(20));
    assert_eq!(info(&sim, 0).transport, Transport::Tcp);
    let peer = sim.nodes[0].book.peers[0].clone();
    let end = |address: &str| format!("{address}:500").parse().unwrap();
    let ends = (end(EAST), end("192.0.2.3"));
    sim.manual = true;
    sim.act(0, |endpoint, now| {
        endpoint.follow_redirect(now, peer, None, ends, WEST.parse().unwrap())
    });
    assert_eq!(sim.sent()[0].transport, Transport::Udp);
}
