//! Floods and nonsense.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cygnet_crypto::testing::InsecureEntropy;
use cygnet_ike::*;
use cygnet_wire::{Header, Message, Payload};

use crate::pair::*;
use crate::sim::*;

/// An IKE_SA_INIT request, different for each `n`.
fn init_request(template: &[u8], n: u64) -> Vec<u8> {
    let mut bytes = template.to_vec();
    bytes[..8].copy_from_slice(&(n + 1).to_be_bytes());
    bytes
}

/// A request that west accepts.
fn template() -> Vec<u8> {
    let mut sim = Pair::default().sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    sim.sent().remove(0).bytes
}

fn from(sim: &mut Sim, n: u64, bytes: &[u8]) -> Vec<Datagram> {
    let address = Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(n).unwrap());
    let src = SocketAddr::new(address.into(), 500);
    let dst = format!("{WEST}:500").parse().unwrap();
    sim.deliver(Datagram {
        src,
        dst,
        transport: Transport::Udp,
        bytes: bytes.to_vec(),
    });
    sim.sent()
}

#[test]
fn a_flood_from_many_addresses_costs_no_memory_beyond_the_threshold() {
    const FLOOD: u64 = 100_000;
    let mut pair = Pair::default();
    pair.west_config.cookie_threshold = 100;
    let mut sim = pair.sim(1);
    sim.manual = true;
    let template = template();
    for n in 0..FLOOD {
        from(&mut sim, n, &init_request(&template, n));
        sim.trace.clear();
        sim.transcript.clear();
        sim.nodes[1].events.clear();
    }
    let endpoint = &sim.nodes[1].endpoint;
    assert_eq!((endpoint.size(), endpoint.half_open()), (100, 100));
    assert_eq!(endpoint.stats().cookies_sent, FLOOD - 100);

    // Who is real gets through all the same.
    sim.manual = false;
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    assert_eq!(sim.event_names(0), ["ike_established", "child_established"]);

    // And the flood is forgotten.
    sim.run_for(s(100));
    assert_eq!(sim.nodes[1].endpoint.half_open(), 0);
    assert_eq!(sim.nodes[1].endpoint.size(), 1);
    sim.assert_agreement(0, 1);
}

#[test]
fn a_flood_that_returns_its_cookies_stops_at_the_limits() {
    let mut pair = Pair::default();
    pair.west_config.cookie_threshold = 10;
    pair.west_config.max_half_open = 50;
    let mut sim = pair.sim(1);
    sim.manual = true;
    let template = template();
    for n in 0..500 {
        let request = init_request(&template, n);
        let answers = from(&mut sim, n, &request);
        let Some(answer) = answers.first() else {
            continue;
        };
        let message = Message::parse(&answer.bytes).unwrap();
        let cookie = message.payloads().find_map(|payload| match payload {
            Ok(Payload::Notify(notify)) if notify.kind == cygnet_wire::NotifyType::COOKIE => {
                Some(notify)
            }
            _ => None,
        });
        if let Some(cookie) = cookie {
            let old = Message::parse(&request).unwrap();
            let mut bytes = Vec::new();
            let header = Header { ..*old.header() };
            cygnet_wire::write_message(&mut bytes, &header, |payloads| {
                payloads.notify(&cookie);
                for payload in old.payloads().map(Result::unwrap) {
                    payloads.any(&payload);
                }
            })
            .unwrap();
            from(&mut sim, n, &bytes);
        }
    }
    let endpoint = &sim.nodes[1].endpoint;
    assert_eq!(endpoint.half_open(), 50);
    assert_eq!(endpoint.stats().dropped(DropReason::HalfOpenLimit), 450);
    // Refusals are reported at a bounded rate.
    let reported = sim.nodes[1]
        .events
        .iter()
        .filter(|e| e.name() == "rejected")
        .count();
    assert!(reported <= 20, "{reported}");
}

//= rfc7296#2.6
//= type=test
//# When one party receives an IKE_SA_INIT request containing a cookie
//# whose contents do not match the value expected, that party MUST
//# ignore the cookie and process the message as if no cookie had been
//# included; usually this means sending a response containing a new
//# cookie.
#[test]
fn a_wrong_cookie_is_as_good_as_none() {
    let mut pair = Pair::default();
    pair.west_config.cookie_threshold = 0;
    let mut sim = pair.sim(1);
    sim.manual = true;
    let template = template();
    let old = Message::parse(&template).unwrap();
    let mut bytes = Vec::new();
    cygnet_wire::write_message(&mut bytes, old.header(), |payloads| {
        let kind = cygnet_wire::NotifyType::COOKIE;
        payloads.notify(&cygnet_wire::Notify::new(kind, &[7; 33]));
        for payload in old.payloads().map(Result::unwrap) {
            payloads.any(&payload);
        }
    })
    .unwrap();
    let answers = from(&mut sim, 1, &bytes);
    assert_eq!(answers.len(), 1);
    assert!(describe(&answers[0]).ends_with("N(COOKIE)"));
    assert_eq!(sim.nodes[1].endpoint.size(), 0);
}

#[test]
fn one_address_gets_its_share_only() {
    let mut pair = Pair::default();
    pair.west_config.max_half_open_per_address = 8;
    let mut sim = pair.sim(1);
    sim.manual = true;
    let template = template();
    let address: SocketAddr = "10.0.0.1:500".parse().unwrap();
    let dst: SocketAddr = format!("{WEST}:500").parse().unwrap();
    let mut asked = 0;
    for n in 0..100 {
        let bytes = init_request(&template, n);
        sim.deliver(Datagram {
            src: address,
            dst,
            transport: Transport::Udp,
            bytes,
        });
        asked += sim
            .sent()
            .iter()
            .filter(|d| describe(d).contains("COOKIE"))
            .count();
    }
    // Forgeries cannot use up more than half of it: the rest is for those who return a cookie.
    assert_eq!((sim.nodes[1].endpoint.half_open(), asked), (4, 96));
    assert_eq!(
        from(&mut sim, 77, &init_request(&template, 1000)).len(),
        1,
        "others are served"
    );
}

#[test]
fn replies_to_strangers_are_few() {
    let mut sim = Pair::default().sim(1);
    sim.manual = true;
    let mut nonsense = template();
    nonsense[18] = 37; // INFORMATIONAL
    nonsense[15] = 1; // of an SA that is not there
    let mut replies = 0;
    for n in 0..1000 {
        replies += from(&mut sim, n, &init_request(&nonsense, n)).len();
    }
    assert_eq!(replies, 20);
    sim.run_for(s(1));
    assert_eq!(from(&mut sim, 1, &nonsense).len(), 1);
}

/// Feeds octets to a fresh endpoint and to one in the middle of everything.
fn feed(sim: &mut Sim, bytes: &[u8]) {
    for (node, peer) in [(0, WEST), (1, EAST)] {
        for (port, transport) in [
            (500, Transport::Udp),
            (4500, Transport::UdpEncap),
            (40_000, Transport::Tcp),
        ] {
            let local = SocketAddr::new(sim.nodes[node].address, port);
            let remote = SocketAddr::new(peer.parse().unwrap(), port);
            let input = Input::Datagram {
                local,
                remote,
                bytes,
                transport,
            };
            let now = sim.now;
            sim.nodes[node].endpoint.handle(now, input);
            sim.flush(node);
            sim.sent();
        }
    }
}

#[test]
fn fuzz_arbitrary_datagrams() {
    let mut sim = Pair::default().sim(1);
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    sim.manual = true;
    sim.initiate(0, WEST);
    let sim = std::sync::Mutex::new(sim);
    bolero::check!()
        .with_test_time(Duration::from_secs(1))
        .for_each(|input: &[u8]| {
            let mut sim = sim.lock().unwrap();
            feed(&mut sim, input);
            // The same behind a header that gets further.
            let mut framed =
                template_header(input.len(), input.first().copied().unwrap_or_default());
            framed.extend_from_slice(input);
            feed(&mut sim, &framed);
            sim.trace.clear();
            sim.transcript.clear();
        });
    let sim = sim.into_inner().unwrap();
    assert!(
        sim.nodes[1]
            .endpoint
            .ike_sas()
            .any(|sa| sa.state == IkeSaState::Established)
    );
}

fn template_header(body: usize, dice: u8) -> Vec<u8> {
    let mut header = vec![dice; 28];
    header[8..16].fill(0);
    header[16] = 33;
    header[17] = 0x20;
    header[18] = 34 + dice % 4;
    header[19] = [0x08, 0x20, 0x28, 0][usize::from(dice / 64)];
    header[20..24].copy_from_slice(&u32::from(dice % 2).to_be_bytes());
    header[24..28].copy_from_slice(&u32::try_from(28 + body).unwrap().to_be_bytes());
    header
}

/// Valid runs in which each message may be damaged, repeated, delayed or preceded by others: an operation per octet.
#[test]
fn fuzz_mutated_valid_datagrams_at_every_stage() {
    bolero::check!()
        .with_test_time(Duration::from_secs(3))
        .for_each(|input: &[u8]| {
            let mut pair = Pair::default();
            let first = input.first().copied().unwrap_or_default();
            if first & 1 != 0 {
                pair.west_config.cookie_threshold = 0;
            }
            let mut sim = pair.sim(u64::from(first));
            sim.manual = true;
            sim.initiate(0, WEST);
            let mut dice = InsecureEntropy::from_seed(u64::from(first));
            let mut old: Vec<Datagram> = Vec::new();
            for operation in input.iter().take(64) {
                let sent = sim.sent();
                old.extend(sent.iter().cloned());
                match operation % 8 {
                    // Lost.
                    0 => {}
                    // Damaged: octets changed, cut off, or added.
                    1..=3 => {
                        for mut datagram in sent {
                            let at = below(&mut dice, datagram.bytes.len() as u64) as usize;
                            match operation % 8 {
                                1 => datagram.bytes[at] ^= operation >> 3,
                                2 => datagram.bytes.truncate(at),
                                _ => datagram.bytes.insert(at, *operation),
                            }
                            sim.deliver(datagram);
                        }
                    }
                    // Something old again.
                    4 => {
                        if let Some(datagram) =
                            old.get(usize::from(operation >> 3) % old.len().max(1))
                        {
                            sim.deliver(datagram.clone());
                        }
                    }
                    // Time passes.
                    5 => sim.run_for(Duration::from_millis(u64::from(*operation) * 8)),
                    // Somebody wants something.
                    6 => {
                        let node = usize::from(operation >> 7);
                        let ike = sim.nodes[node].endpoint.ike_sas().next().map(|sa| sa.id);
                        let child = sim.nodes[node].endpoint.child_sas().next().map(|sa| sa.id);
                        sim.act(node, |endpoint, now| {
                            match (operation >> 4 & 3, ike, child) {
                                (0, Some(ike), _) => endpoint.delete_ike(now, ike),
                                (1, _, Some(child)) => endpoint.delete_child(now, child),
                                (_, Some(ike), _) => endpoint.check_liveness(now, ike),
                                _ => {}
                            }
                        });
                    }
                    // As it should be.
                    _ => {
                        for datagram in sent {
                            sim.deliver(datagram);
                        }
                        sim.run_for(Duration::ZERO);
                    }
                }
            }
            // Left alone, what is unfinished ends.
            sim.manual = false;
            sim.link.loss = 1000;
            sim.run_for(s(300));
            for node in &sim.nodes {
                assert!(node.plane.reserved.is_empty(), "SPIs left over");
                assert_eq!(
                    node.plane.installed.len(),
                    node.endpoint.child_sas().count()
                );
                assert_eq!(node.endpoint.size(), node.endpoint.ike_sas().count());
            }
        });
}

/// What a stranger makes us keep until IKE_AUTH is small.
#[test]
fn an_inflated_request_is_not_kept() {
    let mut sim = Pair::default().sim(1);
    sim.manual = true;
    let template = template();
    let old = Message::parse(&template).unwrap();
    let inflated = |octets: usize| {
        let mut bytes = Vec::new();
        cygnet_wire::write_message(&mut bytes, old.header(), |payloads| {
            for payload in old.payloads().map(Result::unwrap) {
                payloads.any(&payload);
            }
            payloads.vendor_id(&vec![0; octets]);
        })
        .unwrap();
        bytes
    };
    assert!(from(&mut sim, 1, &inflated(60_000)).is_empty());
    assert_eq!(sim.nodes[1].endpoint.size(), 0);
    assert_eq!(
        sim.nodes[1].endpoint.stats().dropped(DropReason::TooLong),
        1
    );
    assert_eq!(from(&mut sim, 1, &inflated(4000)).len(), 1);
}

#[test]
fn an_endless_offer_is_not_logged_whole() {
    use cygnet_wire::{EncrId, Payload, Proposal, Transform};
    let mut pair = Pair::default();
    pair.west.proposals =
        cygnet_crypto::IkeProposal::parse_ipsec_conf("aes256-sha2_512-dh20").unwrap();
    let mut sim = pair.sim(1);
    sim.manual = true;
    let template = template();
    let old = Message::parse(&template).unwrap();
    let offer: Vec<_> = (1..=5)
        .map(|n| Proposal::ike(n, vec![Transform::encr(EncrId(20), Some(128)); 150]))
        .collect();
    let mut bytes = Vec::new();
    cygnet_wire::write_message(&mut bytes, old.header(), |payloads| {
        for payload in old.payloads().map(Result::unwrap) {
            match payload {
                Payload::Sa(_) => payloads.sa(&offer),
                other => payloads.any(&other),
            };
        }
    })
    .unwrap();
    assert_eq!(from(&mut sim, 1, &bytes).len(), 1);
    let Some(Event::Rejected { reason, .. }) = sim.nodes[1].events.first() else {
        panic!("it is not reported")
    };
    let length = reason.to_string().len();
    assert!(length < 5000, "{length}");
}

/// Who sends a useless public value has made us compute for nothing, and no half-open SA counts it.
#[test]
fn after_a_useless_public_value_strangers_are_asked_for_a_cookie() {
    use cygnet_wire::{KeId, Payload};
    let mut sim = Pair::default().sim(1);
    sim.manual = true;
    let template = template();
    let old = Message::parse(&template).unwrap();
    let mut useless = Vec::new();
    cygnet_wire::write_message(&mut useless, old.header(), |payloads| {
        for payload in old.payloads().map(Result::unwrap) {
            match payload {
                Payload::Ke(ke) => payloads.ke(KeId(ke.method.0), &[0; 3]),
                other => payloads.any(&other),
            };
        }
    })
    .unwrap();
    assert!(from(&mut sim, 1, &useless).is_empty());
    for n in 2..10 {
        let answers = from(&mut sim, n, &init_request(&useless, n));
        assert!(describe(&answers[0]).ends_with("N(COOKIE)"));
    }
    // Who is real pays with a round trip, and after a while nobody does.
    sim.manual = false;
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    assert_eq!(sim.event_names(0), ["ike_established", "child_established"]);
    assert_eq!(sim.nodes[1].endpoint.stats().cookies_accepted, 1);
    sim.run_for(s(60));
    let asked = sim.nodes[1].endpoint.stats().cookies_sent;
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    assert_eq!(sim.nodes[1].endpoint.stats().cookies_sent, asked);
}
