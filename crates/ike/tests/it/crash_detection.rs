//! Quick crash detection (RFC 6290): tokens given, shown and believed, and those that are not to be believed.

use cygnet_crypto::{SecretBytes, sha256};
use cygnet_ike::*;
use cygnet_wire::*;

use crate::forge::Forge;
use crate::pair::*;
use crate::sim::{Datagram, Sim, describe};

const INFORMATIONAL: ExchangeType = ExchangeType::INFORMATIONAL;

fn secret(node: usize) -> SecretBytes {
    SecretBytes::new(vec![node as u8 + 1; 32])
}

/// Both ends give tokens.
fn pair() -> Pair {
    let mut pair = Pair::default();
    for (node, config) in [&mut pair.east_config, &mut pair.west_config]
        .into_iter()
        .enumerate()
    {
        config.crash_secrets = vec![secret(node)];
        config.key_log = true;
    }
    pair
}

/// An IKE SA between them that stands; everything goes by hand from now on.
fn up(pair: Pair) -> Sim {
    let mut sim = run(pair);
    established(&sim);
    sim.manual = true;
    sim
}

/// The token of an IKE SA, by RFC 6290 §5.1.
fn token(secret: &SecretBytes, ike: &IkeSaInfo) -> [u8; 16] {
    let (i, r) = (ike.initiator_spi.0, ike.responder_spi.0);
    let hash = sha256(&[secret.as_ref(), &i.to_be_bytes(), &r.to_be_bytes()]);
    hash[..16].try_into().unwrap()
}

/// Node 0 asks for a sign of life; its request.
fn probe(sim: &mut Sim) -> Datagram {
    let ike = only(sim, 0).id;
    sim.act(0, |endpoint, now| endpoint.check_liveness(now, ike));
    sim.sent().remove(0)
}

/// What came of a datagram.
fn answers(sim: &mut Sim, datagram: Datagram) -> Vec<Datagram> {
    sim.deliver(datagram);
    sim.sent()
}

/// An unprotected message of node 1 about the only IKE SA of node 0.
fn say(sim: &Sim, response: bool, notifies: &[Notify<'_>]) -> Datagram {
    let ike = only(sim, 0);
    let flags = Flags {
        initiator: ike.role == Role::Responder,
        response,
        version: false,
    };
    let header = Header::new(
        ike.initiator_spi,
        ike.responder_spi,
        INFORMATIONAL,
        flags,
        2,
    );
    let mut bytes = Vec::new();
    write_message(&mut bytes, &header, |payloads| {
        for notify in notifies {
            payloads.notify(notify);
        }
    })
    .unwrap();
    Datagram {
        src: "203.0.113.77:999".parse().unwrap(),
        dst: ike.local,
        transport: Transport::Udp,
        bytes,
    }
}

fn shown(token: &[u8]) -> Notify<'_> {
    Notify {
        protocol: ProtocolId::IKE,
        ..Notify::new(NotifyType::QUICK_CRASH_DETECTION, token)
    }
}

const UNKNOWN: Notify<'static> = Notify::new(NotifyType::INVALID_IKE_SPI, &[]);

fn closed(sim: &Sim, node: usize) -> Option<CloseReason> {
    sim.nodes[node].events.iter().find_map(|event| match event {
        Event::IkeClosed { reason, .. } => Some(reason.clone()),
        _ => None,
    })
}

//= rfc6290#4.5
//= type=test
//# If the QCD_TOKEN verifies OK, the receiver MUST silently discard the
//# IKE SA and all associated child SAs.
//= rfc6290#1.1
//= type=test
//# A conforming
//# implementation MUST be able to generate the same token from the same
//# input even after rebooting.
//= rfc6290#3
//= type=test
//# A supporting implementation receiving such a token MUST store it (or
//# a digest thereof) along with the IKE SA.
//= rfc6290#4.1
//= type=test
//# Protocol ID (1 octet) MUST be 1, as this message is related to an
//# IKE SA.
//= rfc6290#3
//= type=test
//# If it succeeds, it MUST silently delete the IKE SA associated with the
//# IKE_SPI fields and all dependent child SAs.
//= rfc6290#4.1
//= type=test
//# SPI Size (1 octet) MUST be zero, in conformance with Section 3.10 of
//# [RFC5996].
//= rfc6290#4.1
//= type=test
//# QCD Token Notify Message Type (2 octets) - MUST be 16419, the value
//# assigned for QCD token notifications.
//= rfc6290#5
//= type=test
//# The token maker MUST be able to re-generate or retrieve the token
//# based on the IKE SPIs even after it reboots.
#[test]
fn who_has_lost_everything_shows_it() {
    let mut sim = up(pair());
    let ike = only(&sim, 0);
    assert!(ike.crash_token && only(&sim, 1).crash_token);
    sim.crash(1);
    let request = probe(&mut sim);
    let size = request.bytes.len();
    let answer = answers(&mut sim, request).remove(0);
    // Header with both SPIs and the Message ID of the request, N(INVALID_IKE_SPI), N(QCD_TOKEN), octet by octet after
    // RFC 7296 §3.1 and §3.10 and RFC 6290 §4.1 and §4.5.
    let mut expected = Vec::new();
    expected.extend(ike.initiator_spi.0.to_be_bytes());
    expected.extend(ike.responder_spi.0.to_be_bytes());
    expected.extend([41, 0x20, 37, 0x20, 0, 0, 0, 2, 0, 0, 0, 60]);
    expected.extend([41, 0, 0, 8, 0, 0, 0, 4]);
    expected.extend([0, 0, 0, 24, 1, 0, 0x40, 0x23]);
    expected.extend(token(&secret(1), &ike));
    assert_eq!(answer.bytes, expected);
    assert!(answer.bytes.len() <= size + 3, "{size}");
    assert_eq!(sim.nodes[1].endpoint.stats().crash_tokens_sent, 1);
    let said = answers(&mut sim, answer.clone());
    assert!(said.is_empty(), "silently");
    sim.run_for(s(0));
    assert_eq!(closed(&sim, 0), Some(CloseReason::PeerCrashed));
    assert!(sim.nodes[0].plane.installed.is_empty());
    // The same once more is about nothing.
    assert!(answers(&mut sim, answer).is_empty());
}

/// Also the end that has not begun the IKE SA, also in another form of the message, and from wherever it comes.
//= rfc6290#3
//= type=test
//# The token taker MUST accept
//# such tokens from any IP address and port combination, so as to allow
//# different kinds of high-availability configurations of the token
//# maker.
#[test]
fn from_anywhere_and_for_either_role() {
    for (response, alone) in [(true, false), (false, false), (true, true)] {
        let mut sim = up(pair());
        let good = token(&secret(1), &only(&sim, 0));
        let notifies = [UNKNOWN, shown(&good)];
        let message = say(&sim, response, &notifies[usize::from(alone)..]);
        assert!(answers(&mut sim, message).is_empty());
        assert_eq!(closed(&sim, 0), Some(CloseReason::PeerCrashed));
    }
    let mut sim = up(pair());
    sim.crash(0);
    let ike = only(&sim, 1).id;
    sim.act(1, |endpoint, now| endpoint.check_liveness(now, ike));
    sim.exchange();
    sim.exchange();
    assert_eq!(closed(&sim, 1), Some(CloseReason::PeerCrashed));
}

//= rfc6290#4.5
//= type=test
//# To support a periodic rollover of the secret used for token
//# generation, the token taker MUST support at least four QCD_TOKEN
//# notifications in a single packet.  The token is considered verified
//# if any of the QCD_TOKEN notifications matches.
#[test]
fn one_of_four_is_enough() {
    for place in 0..5 {
        let mut sim = up(pair());
        let good = token(&secret(1), &only(&sim, 0));
        let mut notifies = vec![shown(&[7; 16]); 5];
        notifies[place] = shown(&good);
        notifies.insert(0, UNKNOWN);
        let message = say(&sim, true, &notifies);
        answers(&mut sim, message);
        assert_eq!(closed(&sim, 0).is_some(), place < 4, "at {place}");
    }
}

//= rfc6290#4.5
//= type=test
//# If the QCD_TOKEN cannot be
//# validated, a response MUST NOT be sent, and the event may be logged.
//= rfc6290#3
//= type=test
//# When a token taker receives the QCD token in an unprotected
//# notification, it MUST verify that the TOKEN_SECRET_DATA matches the
//# token stored with the matching IKE SA.
#[test]
fn forged_tokens_do_nothing_but_are_told_of() {
    let mut sim = up(pair());
    let ours = token(&secret(0), &only(&sim, 0));
    let theirs = token(&secret(1), &only(&sim, 0));
    let mut longer = theirs.to_vec();
    longer.push(0);
    let wrong: [&[u8]; 6] = [&ours, &theirs[..15], &longer, &[], &[0; 16], &[0; 200]];
    for token in wrong {
        let message = say(&sim, true, &[shown(token)]);
        sim.deliver(message);
    }
    // A hint is one even so: the peer is asked once whether it is alive.
    let said = sim.sent();
    assert_eq!(said.len(), 1);
    assert!(describe(&said[0]).ends_with("INFORMATIONAL request 2 SK"));
    for _ in 0..100 {
        let message = say(&sim, true, &[UNKNOWN, shown(&[1; 16])]);
        sim.deliver(message);
    }
    assert!(sim.sent().is_empty());
    assert_eq!(only(&sim, 0).state, IkeSaState::Established);
    let told = sim.nodes[0]
        .events
        .iter()
        .filter(|event| matches!(event, Event::CrashTokenForged { .. }));
    assert_eq!(told.count(), 1);
    // No more are compared than so many, in each second.
    let dropped = |sim: &Sim| {
        let stats = sim.nodes[0].endpoint.stats();
        stats.dropped(DropReason::CrashToken)
    };
    assert_eq!(dropped(&sim), 20);
    sim.run_for(s(1));
    sim.sent();
    let message = say(&sim, true, &[shown(&theirs)]);
    sim.deliver(message);
    assert_eq!(closed(&sim, 0), Some(CloseReason::PeerCrashed));
}

//= rfc6290#9.2
//= type=test
//# A token maker MUST NOT send a valid QCD token in an unprotected
//# message for an existing IKE SA.
#[test]
fn nobody_gets_the_token_of_an_ike_sa_that_lives() {
    let mut sim = up(pair());
    let mut east = Forge::new(&sim, 0, Role::Initiator);
    let mut west = Forge::new(&sim, 0, Role::Responder);
    let (e, w) = (only(&sim, 0).local, only(&sim, 1).local);
    // What west has sent, and what east has, to either end; as it is, and with the flag of the other role, which makes
    // the receiver look for its own SPI in the wrong place.
    for node in 0..2 {
        for from in [&mut east, &mut west] {
            for flags in [0x00, 0x08] {
                let mut message = from.message(INFORMATIONAL, false, 9, |_| {});
                message.bytes[19] = flags;
                message.src = if node == 0 { w } else { e };
                message.dst = if node == 0 { e } else { w };
                for answer in answers(&mut sim, message) {
                    assert!(!describe(&answer).contains("QUICK_CRASH"), "{flags}");
                }
            }
        }
    }
    // The SPIs of one that is about to be: what the peer chooses may be seen before it is here.
    let peer = sim.nodes[0].book.peers[0].clone();
    sim.initiate_with(0, WEST, peer, None);
    let init = sim.sent().remove(0);
    let spi = Message::parse(&init.bytes).unwrap().header().initiator_spi;
    let mut message = east.message(INFORMATIONAL, false, 9, |_| {});
    message.bytes[..8].copy_from_slice(&spi.0.to_be_bytes());
    (message.src, message.dst) = (w, e);
    for flags in [0x00, 0x08] {
        message.bytes[19] = flags;
        for answer in answers(&mut sim, message.clone()) {
            assert!(!describe(&answer).contains("QUICK_CRASH"), "{flags}");
        }
    }
    for node in 0..2 {
        assert_eq!(sim.nodes[node].endpoint.stats().crash_tokens_sent, 0);
    }
}

/// Strangers get no more than so many, and only for something as long as a protected request.
#[test]
fn no_amplification() {
    let mut sim = up(pair());
    let mut east = Forge::new(&sim, 0, Role::Initiator);
    sim.crash(1);
    let request = east.message(INFORMATIONAL, false, 2, |_| {});
    // Without protection, with a half of the SPIs, as a response, and as the beginning of something new.
    let mut clear = request.clone();
    clear.bytes.truncate(28);
    clear.bytes[16] = 0;
    clear.bytes[24..28].copy_from_slice(&28_u32.to_be_bytes());
    let mut zero = request.clone();
    zero.bytes[8..16].fill(0);
    let mut response = request.clone();
    response.bytes[19] |= 0x20;
    let mut short = request.clone();
    short.bytes.truncate(48);
    short.bytes[24..28].copy_from_slice(&48_u32.to_be_bytes());
    short.bytes[30..32].copy_from_slice(&20_u16.to_be_bytes());
    for message in [clear, zero, response, short] {
        for answer in answers(&mut sim, message) {
            assert!(!describe(&answer).contains("QUICK_CRASH"));
        }
    }
    let mut sent = 0;
    for spi in 0..1000_u64 {
        let mut message = request.clone();
        message.bytes[..8].copy_from_slice(&(spi + 1).to_be_bytes());
        for answer in answers(&mut sim, message.clone()) {
            assert!(answer.bytes.len() <= message.bytes.len() + 3);
            sent += 1;
        }
    }
    assert!(sent <= 20, "{sent}");
    let stats = sim.nodes[1].endpoint.stats();
    assert!(stats.crash_tokens_sent <= 20 && stats.crash_tokens_sent > 0);
}

/// The secret has changed since: a token of each is shown, and the right one is among them. Four at most are.
//= rfc6290#5.1
//= type=test
//# When sending an unprotected QCD_TOKEN, as many as 4
//# notification payloads may be sent, each from a different
//# QCD_SECRET.
#[test]
fn a_former_secret_still_counts() {
    for former in 1..=4 {
        let mut sim = up(pair());
        let ike = only(&sim, 0);
        let mut secrets: Vec<SecretBytes> = (10..10 + former).map(secret).collect();
        secrets.push(secret(1));
        sim.nodes[1].config.crash_secrets = secrets;
        sim.crash(1);
        let request = probe(&mut sim);
        let answer = answers(&mut sim, request).remove(0);
        let shown = Message::parse(&answer.bytes).unwrap().payloads().count() - 1;
        assert_eq!(shown, (former + 1).min(4));
        sim.deliver(answer);
        let expected = (former < 4).then_some(CloseReason::PeerCrashed);
        assert_eq!(closed(&sim, 0), expected, "{ike:?}");
    }
}

/// Each end's token of the successor goes by the exchange that makes it or by the next one.
//= rfc6290#4.4
//= type=test
//# A token taker MUST accept such gratuitous QCD_TOKEN notifications as
//# long as they are carried in protected exchanges.
#[test]
fn a_renewed_ike_sa_has_new_tokens() {
    for renewer in 0..2 {
        for lost in 0..2 {
            let mut sim = run(pair());
            let first = only(&sim, 0);
            let ike = only(&sim, renewer).id;
            sim.act(renewer, |endpoint, now| endpoint.rekey_ike(now, ike));
            sim.run_for(s(1));
            let second = only(&sim, 0);
            assert_ne!(first.id, second.id);
            assert!(second.crash_token && only(&sim, 1).crash_token);
            sim.manual = true;
            // The old one's is good for nothing.
            let old = token(&secret(1), &first);
            let message = say(&sim, true, &[UNKNOWN, shown(&old)]);
            sim.deliver(message);
            assert_eq!(only(&sim, 0).id, second.id);
            sim.manual = false;
            sim.run_for(s(1));
            sim.crash(lost);
            let other = 1 - lost;
            let ike = only(&sim, other).id;
            sim.nodes[other].events.clear();
            sim.act(other, |endpoint, now| endpoint.check_liveness(now, ike));
            sim.run_for(s(1));
            assert_eq!(closed(&sim, other), Some(CloseReason::PeerCrashed));
        }
    }
}

/// A peer replaces its token; one of a length that none may have is not taken.
//= rfc6290#5
//= type=test
//# Tokens MUST be at least 16 octets long, and no more than 128
//# octets long, to facilitate storage and transmission.
#[test]
fn the_peer_may_change_its_token() {
    let mut sim = up(pair());
    let mut west = Forge::new(&sim, 0, Role::Responder);
    for (id, len) in [15, 16, 128, 129].into_iter().enumerate() {
        let data = vec![id as u8 + 1; len];
        let message = west.message(INFORMATIONAL, false, id as u32, |payloads| {
            payloads.notify(&shown(&data));
        });
        assert_eq!(answers(&mut sim, message).len(), 1);
    }
    for (value, len, proven) in [(2, 16, false), (4, 129, false), (3, 128, true)] {
        let data = vec![value; len];
        let message = say(&sim, true, &[UNKNOWN, shown(&data)]);
        sim.deliver(message);
        assert_eq!(closed(&sim, 0).is_some(), proven, "{value}");
    }
}

/// Who does not want it neither gives a token nor believes one; who has no secret gives none.
#[test]
fn only_where_it_is_wanted() {
    let mut unwilling = pair();
    unwilling.east.crash_detection = false;
    let mut sim = up(unwilling);
    assert!(!only(&sim, 0).crash_token && !only(&sim, 1).crash_token);
    let good = token(&secret(1), &only(&sim, 0));
    let message = say(&sim, true, &[UNKNOWN, shown(&good)]);
    sim.deliver(message);
    assert_eq!(only(&sim, 0).state, IkeSaState::Established);

    let mut poor = pair();
    poor.west_config.crash_secrets.clear();
    let mut sim = up(poor);
    assert!(!only(&sim, 0).crash_token && only(&sim, 1).crash_token);
    sim.crash(1);
    let request = probe(&mut sim);
    let answer = answers(&mut sim, request).remove(0);
    assert!(describe(&answer).ends_with("N(INVALID_IKE_SPI)"));
}

/// The keys are not needed to be believed, so a token in IKE_SA_INIT or before there is one is nothing.
#[test]
fn before_there_is_a_token_none_is_believed() {
    let mut sim = pair().sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    sim.exchange();
    sim.exchange();
    sim.run_for(std::time::Duration::ZERO);
    let request = sim.sent().remove(0);
    let header = *Message::parse(&request.bytes).unwrap().header();
    let mut bytes = Vec::new();
    let flags = Flags {
        initiator: false,
        response: true,
        version: false,
    };
    let (i, r) = (header.initiator_spi, header.responder_spi);
    let made = Header::new(i, r, ExchangeType::IKE_AUTH, flags, 1);
    let hash = sha256(&[secret(1).as_ref(), &i.0.to_be_bytes(), &r.0.to_be_bytes()]);
    write_message(&mut bytes, &made, |payloads| {
        payloads.notify(&UNKNOWN).notify(&shown(&hash[..16]));
    })
    .unwrap();
    let forged = Datagram {
        src: request.dst,
        dst: request.src,
        transport: request.transport,
        bytes,
    };
    sim.deliver(forged);
    sim.deliver(request);
    sim.manual = false;
    sim.run_for(s(2));
    established(&sim);
}

/// It may come late: who has said nothing in IKE_AUTH may still be one that has a token.
//= rfc6290#4.2
//= type=test
//# In any case, the lack of a QCD_TOKEN notification MUST NOT be taken as
//# an indication that the peer does not support this standard.
#[test]
fn a_token_may_come_after_ike_auth() {
    let mut poor = pair();
    poor.west_config.crash_secrets.clear();
    let mut sim = up(poor);
    assert!(!only(&sim, 0).crash_token);
    let mut west = Forge::new(&sim, 0, Role::Responder);
    let good = token(&secret(1), &only(&sim, 0));
    let message = west.message(INFORMATIONAL, false, 0, |payloads| {
        payloads.notify(&shown(&good));
    });
    assert_eq!(answers(&mut sim, message).len(), 1);
    assert!(only(&sim, 0).crash_token);
    let message = say(&sim, true, &[UNKNOWN, shown(&good)]);
    sim.deliver(message);
    assert_eq!(closed(&sim, 0), Some(CloseReason::PeerCrashed));
}

/// Neither the tokens of other IKE SAs nor the SPIs lead to a token: each is a hash that the secret goes into.
//= rfc6290#5
//= type=test
//# The method of token generation MUST be such that a collision of QCD
//# tokens between different pairs of IKE SPI will be highly unlikely.
#[test]
fn tokens_have_nothing_in_common() {
    let mut tokens = Vec::new();
    for seed in 0..50 {
        let mut sim = pair().sim(seed);
        sim.initiate(0, WEST);
        sim.run_for(s(1));
        let ike = only(&sim, 0);
        sim.manual = true;
        sim.crash(1);
        let request = probe(&mut sim);
        let answer = answers(&mut sim, request).remove(0);
        let said = answer.bytes[answer.bytes.len() - 16..].to_vec();
        assert_eq!(said, token(&secret(1), &ike));
        assert_ne!(said, token(&secret(0), &ike), "of another secret");
        assert!(!tokens.contains(&said));
        tokens.push(said);
    }
}
