//! A flood of IKE_SA_INIT from made-up addresses, and the work that a responder under load asks for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use cygnet_tests::{Capture, Conf, Daemon, Family, Kind, Site, raw_socket, ready, udp_packet};
use cygnet_wire::{
    EncrId, ExchangeType, Flags, Header, IkeSpi, KeId, Message, NotifyType, Payload, PayloadType,
    PrfId, Proposal, ProtocolId, Transform, TransformType, Version, write_message,
};
use rustix::net::{SendFlags, sendto};

/// A whole IKE_SA_INIT request that the responder would accept: AES-GCM-256, SHA2-256, X25519.
fn request(number: u32) -> Vec<u8> {
    let spi = 0x1000_0000_0000_0000 | u64::from(number);
    let header = Header {
        initiator_spi: IkeSpi(spi),
        responder_spi: IkeSpi(0),
        next_payload: PayloadType::NONE,
        version: Version::IKEV2,
        exchange: ExchangeType::IKE_SA_INIT,
        flags: Flags {
            initiator: true,
            response: false,
            version: false,
        },
        message_id: 0,
        length: 0,
    };
    let proposal = Proposal {
        number: 1,
        protocol: ProtocolId::IKE,
        spi: Vec::new(),
        transforms: vec![
            Transform::encr(EncrId::AES_GCM_16, Some(256)),
            Transform::new(TransformType::PRF, PrfId::HMAC_SHA2_256.0),
            Transform::new(TransformType::KE, KeId::CURVE25519.0),
        ],
    };
    let mut nonce = [7; 32];
    nonce[..4].copy_from_slice(&number.to_be_bytes());
    let mut public = [9; 32];
    public[..4].copy_from_slice(&number.to_le_bytes());
    let mut message = Vec::new();
    write_message(&mut message, &header, |p| {
        p.sa(&[proposal])
            .ke(KeId::CURVE25519, &public)
            .nonce(&nonce);
    })
    .expect("a message");
    message
}

fn is_cookie(datagram: &[u8]) -> bool {
    let Ok(message) = Message::parse(datagram) else {
        return false;
    };
    message
        .payloads()
        .flatten()
        .any(|p| matches!(p, Payload::Notify(n) if n.kind == NotifyType::COOKIE))
}

#[test]
fn a_flood_of_requests_costs_cookies_not_memory() {
    if !ready("a flood of IKE_SA_INIT", &[]) {
        return;
    }
    const FLOOD: u32 = 20_000;
    const MAX_HALF_OPEN: usize = 200;
    let site = Site::new();
    // Whoever asks is answered as far as IKE_AUTH.
    let conf = Conf::site(Family::V4)
        .set("ike", "aes_gcm256-sha2_256-dh31")
        .setup("ddos-ike-threshold", "50")
        .setup("max-halfopen-ike", &MAX_HALF_OPEN.to_string());
    let mut west = Daemon::running(&site.west, &conf.clone().set("right", "%any"));
    let east = Daemon::running(&site.east, &conf);
    let mut wire = Capture::start(&site.router, Site::TO_WEST, &west.dir().join("wire.pcap"));
    let before = west.resident();

    let target = SocketAddr::new(Site::west_outer(Family::V4), 500);
    let flood = site.router.spawn(move || {
        let socket = raw_socket(target.ip());
        let start = Instant::now();
        for number in 0..FLOOD {
            let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a63_0000 | number)), 500);
            let packet = udp_packet(source, target, &request(number));
            // A full queue is part of a flood.
            let _ = sendto(
                &socket,
                &packet,
                SendFlags::empty(),
                &SocketAddr::new(target.ip(), 0),
            );
            if number % 50 == 0 {
                std::thread::sleep(Duration::from_millis(4));
            }
        }
        start.elapsed()
    });

    // A real peer gets through meanwhile: it returns its cookie.
    std::thread::sleep(Duration::from_millis(500));
    let under_flood = east.cygnet(&["up", "office"]);
    let status = west.status();
    let sas = status["ike_sas"].as_array().map_or(0, Vec::len);
    let took = flood.join().expect("the flood");
    assert!(
        under_flood.ok(),
        "under the flood: {under_flood:?}\n{}",
        west.log().lines().rev().take(5).collect::<String>()
    );
    assert!(
        sas <= MAX_HALF_OPEN + 1,
        "{sas} IKE SAs, at most {MAX_HALF_OPEN} half open were allowed"
    );

    let packets = wire.until(Duration::from_millis(500), |_| false);
    let answers: Vec<_> = packets
        .iter()
        .filter(|p| {
            p.kind == Kind::Ike
                && p.source == Some(target.ip())
                && p.destination != Some(Site::east_outer(Family::V4))
        })
        .collect();
    let cookies = answers.iter().filter(|p| is_cookie(&p.payload)).count();
    let received = packets
        .iter()
        .filter(|p| p.kind == Kind::Ike && p.destination == Some(target.ip()))
        .count();
    let after = west.resident();
    println!(
        "{received} of {FLOOD} requests on the wire in {took:?}: {} answers, {cookies} of them cookies, {sas} IKE SAs; memory {before} KiB before, {after} KiB after",
        answers.len(),
    );
    let lines = west.log().lines().count();
    assert!(
        lines < 300,
        "{lines} lines of log: whoever floods could fill the disk"
    );
    assert!(
        received > FLOOD as usize / 2,
        "the flood did not get through: {received}"
    );
    assert!(cookies > 0, "no cookies were asked for");
    let accepted = answers.len() - cookies;
    assert!(
        accepted <= MAX_HALF_OPEN,
        "{accepted} requests were accepted"
    );
    assert!(
        after < before + 16 * 1024,
        "memory grew from {before} KiB to {after} KiB"
    );
}

/// The payload types in clear of an IKE message.
fn kinds(datagram: &[u8]) -> Vec<PayloadType> {
    Message::parse(datagram).map_or_else(
        |_| Vec::new(),
        |message| {
            message
                .payloads()
                .flatten()
                .map(|p| p.payload_type())
                .collect()
        },
    )
}

#[test]
fn a_puzzle_is_solved_beside_the_daemons_work() {
    if !ready("client puzzles", &[]) {
        return;
    }
    let site = Site::new();
    let conf = Conf::site(Family::V4);
    let hard = conf
        .clone()
        .setup("ddos-mode", "puzzles")
        .setup("ddos-puzzle-difficulty", "19");
    let west = Daemon::running(&site.west, &hard);
    let east = Daemon::running(&site.east, &conf);
    let mut wire = Capture::start(&site.router, Site::TO_WEST, &west.dir().join("wire.pcap"));
    // While it computes, the daemon answers at once.
    let slowest = std::thread::scope(|scope| {
        let up = scope.spawn(|| east.cygnet(&["up", "office"]));
        let mut slowest = Duration::ZERO;
        while !up.is_finished() {
            let begun = Instant::now();
            drop(east.status());
            slowest = slowest.max(begun.elapsed());
        }
        let up = up.join().expect("a thread");
        assert!(up.ok(), "{up:?}");
        assert!(format!("{up:?}").contains("puzzle of 19 bits"), "{up:?}");
        slowest
    });
    let strangers = &west.status()["strangers"];
    assert_eq!(strangers["defence"], "puzzles");
    assert_eq!(
        (&strangers["puzzles_sent"], &strangers["puzzles_solved"]),
        (&1.into(), &1.into())
    );
    let packets = wire.until(Duration::from_millis(500), |_| false);
    let messages: Vec<_> = packets
        .iter()
        .filter(|p| p.kind == Kind::Ike)
        .map(|p| (p.at, kinds(&p.payload)))
        .collect();
    let asked = messages
        .iter()
        .find(|(_, kinds)| *kinds == [PayloadType::NOTIFY; 2])
        .expect("a cookie and a puzzle");
    let solved = messages
        .iter()
        .find(|(_, kinds)| kinds.starts_with(&[PayloadType::NOTIFY, PayloadType::PS]))
        .expect("its solution");
    println!(
        "solved in {:?}, the slowest status meanwhile took {slowest:?}",
        solved.0 - asked.0
    );
    assert!(slowest < Duration::from_millis(700), "{slowest:?}");
}
