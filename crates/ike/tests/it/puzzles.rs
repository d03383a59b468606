//! Client puzzles (RFC 8019).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cygnet_crypto::testing::InsecureKeyExchange;
use cygnet_crypto::{
    Entropy, KeyExchange, KeyExchangeError, KeyExchangeProvider, Prf, PrivateKey, SharedSecret,
};
use cygnet_ike::*;
use cygnet_wire::{
    ExchangeType, Flags, Header, Message, Notify, NotifyType, Payload, PayloadType, PsPayload,
    write_message,
};

use crate::pair::*;
use crate::sim::*;

/// West asks everybody for the solution of an easy puzzle, and keeps no place for others.
fn demanding() -> Pair {
    let mut pair = Pair::default();
    pair.west_config.puzzles = Some(PuzzlePolicy {
        threshold: 0,
        difficulty: 8,
    });
    pair.west_config.max_half_open = 1;
    pair
}

fn notified(datagram: &Datagram, kind: NotifyType) -> Option<&[u8]> {
    let message = Message::parse(&datagram.bytes).unwrap();
    message.payloads().find_map(|payload| match payload {
        Ok(Payload::Notify(notify)) if notify.kind == kind => Some(notify.data),
        _ => None,
    })
}

/// The puzzle that an answer contains.
fn puzzle(answer: &Datagram) -> Option<Puzzle> {
    let cookie = notified(answer, NotifyType::COOKIE)?;
    let &[high, low, difficulty] = notified(answer, NotifyType::PUZZLE)? else {
        panic!("a malformed puzzle")
    };
    Some(Puzzle {
        prf: Prf::from_iana(u16::from_be_bytes([high, low])).unwrap(),
        difficulty,
        data: cookie.to_vec(),
    })
}

/// A request again, with a cookie, the solution of a puzzle, and at the end whatever else.
fn again(request: &[u8], cookie: &[u8], solution: Option<&[u8]>, more: &[u8]) -> Vec<u8> {
    let old = Message::parse(request).unwrap();
    let mut bytes = Vec::new();
    write_message(&mut bytes, old.header(), |payloads| {
        payloads.notify(&Notify::new(NotifyType::COOKIE, cookie));
        if let Some(solution) = solution {
            payloads.ps(solution);
        }
        for payload in old.payloads().map(Result::unwrap) {
            payloads.any(&payload);
        }
        if !more.is_empty() {
            payloads.vendor_id(more);
        }
    })
    .unwrap();
    bytes
}

/// An IKE_SA_INIT request that west accepts, different for each `n`.
fn init_request(n: u64) -> Vec<u8> {
    let mut sim = Pair::default().sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    let mut bytes = sim.sent().remove(0).bytes;
    bytes[..8].copy_from_slice(&(n + 1).to_be_bytes());
    bytes
}

/// Sends something to west from 10.0.0.0 + `n`; gives what it answers.
fn from(sim: &mut Sim, n: u32, bytes: &[u8]) -> Vec<Datagram> {
    let address = Ipv4Addr::from_bits(0x0a00_0000 + n);
    let src = SocketAddr::new(address.into(), 500);
    let dst = format!("{WEST}:500").parse().unwrap();
    sim.deliver(Datagram {
        src,
        dst,
        transport: Transport::Udp,
        bytes: bytes.to_vec(),
    });
    sim.trace.clear();
    sim.transcript.clear();
    sim.sent()
}

fn dropped(sim: &Sim, node: usize) -> u64 {
    let stats = sim.nodes[node].endpoint.stats();
    stats.dropped(DropReason::PuzzleUnsolved)
}

//= rfc8019#7.1.1
//= type=test
//# Note that the PUZZLE notification MUST
//# always be accompanied with the COOKIE notification, since the content
//# of the COOKIE notification is used as an input data when solving the
//# puzzle.
#[test]
fn an_initiator_works_to_be_served() {
    let mut sim = demanding().sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    let plain = sim.outbox[0].bytes.clone();
    sim.exchange();
    assert_eq!(sim.nodes[1].endpoint.size(), 0, "no state before the work");
    let asked = sim.outbox[0].clone();
    let puzzle = puzzle(&asked).expect("cookie and puzzle");
    assert_eq!((puzzle.prf, puzzle.difficulty), (Prf::HmacSha256, 8));
    sim.exchange();
    // HDR, N(COOKIE), PS, and the rest unchanged, octet by octet.
    let solved = sim.outbox[0].bytes.clone();
    let rest = &plain[28..];
    let (head, tail) = solved.split_at(solved.len() - rest.len());
    assert_eq!(tail, rest);
    let cookie_len = 8 + puzzle.data.len();
    assert_eq!(head.len(), 28 + cookie_len + 4 + 16);
    let (cookie, ps) = head[28..].split_at(cookie_len);
    assert_eq!(head[16], PayloadType::NOTIFY.0);
    assert_eq!(cookie[..4], [PayloadType::PS.0, 0, 0, cookie_len as u8]);
    assert_eq!(cookie[8..], puzzle.data);
    assert_eq!(ps[..4], [plain[16], 0, 0, 20]);
    assert!(puzzle.is_solved_by(&PsPayload::parse(&ps[4..]).unwrap()));
    sim.manual = false;
    sim.exchange();
    sim.run_for(s(1));
    assert_eq!(
        sim.event_names(0),
        ["puzzled", "ike_established", "child_established"]
    );
    sim.assert_agreement(0, 1);
    let stats = sim.nodes[1].endpoint.stats();
    assert_eq!((stats.puzzles_sent, stats.puzzles_solved), (1, 1));
    assert_eq!(stats.cookies_sent, 0);
}

//= rfc8019#8.1
//= type=test
//# PRF (2 octets) -- Transform ID of the PRF algorithm that MUST be used
//# to solve the puzzle.
#[test]
fn the_function_is_one_that_the_initiator_offers() {
    for (prf, id) in [("sha2_384", 6), ("sha2_512", 7), ("sha2_512+sha2_384", 7)] {
        let mut pair = demanding();
        pair.east.proposals = ike(&format!("aes_gcm_16_256-{prf}-dh31"));
        pair.west.proposals = ike("aes_gcm_16_256-sha2_512+sha2_384+sha2_256-dh31");
        let mut sim = pair.sim(1);
        sim.manual = true;
        sim.initiate(0, WEST);
        sim.exchange();
        assert_eq!(puzzle(&sim.outbox[0]).unwrap().prf.iana_id(), id);
        sim.manual = false;
        sim.exchange();
        sim.run_for(s(1));
        sim.assert_agreement(0, 1);
    }
}

//= rfc8019#10
//= type=test
//# Implementations MUST use one of the above (or some other)
//# countermeasures to completely eliminate or make insignificant the
//# possible benefit an attacker can get from reusing puzzle solutions.
//= rfc8019#7.1.4
//= type=test
//# First, the cookie MUST be checked for validity.
//= rfc8019#7.1.1.3
//= type=test
//# When selecting cookie generation, algorithm implementations MUST
//# ensure that an attacker gains no or insignificant benefit from reusing
//# puzzle solutions in several requests.
#[test]
fn a_solution_is_good_once() {
    let mut pair = demanding();
    pair.west_config.max_half_open = 100;
    pair.west_config.puzzles = Some(PuzzlePolicy {
        threshold: 0,
        difficulty: 10,
    });
    let mut sim = pair.sim(1);
    sim.manual = true;
    let request = init_request(1);
    let answer = from(&mut sim, 1, &request).remove(0);
    let puzzle = puzzle(&answer).unwrap();
    let solution = puzzle.solve(|| true).unwrap();
    let bring = |more: &[u8]| again(&request, &puzzle.data, Some(&solution), more);
    // Not from another address, where the cookie is none.
    from(&mut sim, 2, &bring(&[]));
    assert_eq!(sim.nodes[1].endpoint.size(), 0);
    from(&mut sim, 1, &bring(&[]));
    assert_eq!(sim.nodes[1].endpoint.size(), 1);
    // The same SPI, nonce, cookie and solution in other requests.
    for n in 0..100_u8 {
        from(&mut sim, 1, &bring(&[n; 8]));
    }
    assert_eq!((sim.nodes[1].endpoint.size(), dropped(&sim, 1)), (1, 100));
    // Nor when the half-open SA is forgotten.
    sim.run_for(s(31));
    assert_eq!(sim.nodes[1].endpoint.size(), 0);
    from(&mut sim, 1, &bring(&[]));
    // Nor when the serial number is forgotten.
    sim.run_for(s(30));
    from(&mut sim, 1, &bring(&[]));
    assert_eq!(sim.nodes[1].endpoint.size(), 0);
}

/// Another round because of the key exchange method does not cost another puzzle.
#[test]
fn another_method_goes_with_the_same_solution() {
    let mut pair = demanding();
    pair.east.proposals = ike("aes_gcm_16_256-sha2_512-dh19+dh31");
    pair.west.proposals = ike("aes_gcm_16_256-sha2_512-dh31");
    let sim = run(pair);
    assert_eq!(
        sim.event_names(0),
        ["puzzled", "ike_established", "child_established"]
    );
    let stats = sim.nodes[1].endpoint.stats();
    assert_eq!((stats.puzzles_sent, stats.invalid_ke_sent), (1, 1));
}

//= rfc8019#7.1.4
//= type=test
//# If a PS payload is found in the message, then the Responder MUST
//# verify the puzzle solution that it contains.
#[test]
fn wrong_solutions_get_a_new_puzzle() {
    let mut sim = demanding().sim(1);
    sim.manual = true;
    let request = init_request(1);
    let answer = from(&mut sim, 1, &request).remove(0);
    let cookie = puzzle(&answer).unwrap().data;
    for solution in [&[0; 4][..], &[7; 16], &[1, 2, 3, 4], &[9; 4000]] {
        let answer = from(&mut sim, 1, &again(&request, &cookie, Some(solution), &[]));
        let another = puzzle(&answer[0]).expect("a new puzzle");
        assert_ne!(another.data, cookie);
    }
    assert_eq!((sim.nodes[1].endpoint.size(), dropped(&sim, 1)), (0, 4));
    // Keys of different lengths are no solution at all (RFC 8019 §8.2).
    assert!(from(&mut sim, 1, &again(&request, &cookie, Some(&[1; 7]), &[])).is_empty());
}

/// 100,000 strangers, half of them from made-up addresses, half returning their cookie, none of them working.
//= rfc8019#7.1
//= type=test
//# The decision whether to process any particular request
//# must be probabilistic, with the probability depending on the
//# Responder's load (i.e., on the volume of attack).  The requests that
//# don't contain the COOKIE notification MUST NOT participate in this
//# lottery.
#[test]
fn a_flood_of_the_idle_leaves_room_for_who_works() {
    const FLOOD: u32 = 100_000;
    let mut pair = Pair::default();
    pair.west_config.cookie_threshold = 100;
    pair.west_config.max_half_open = 600;
    pair.west_config.puzzles = Some(PuzzlePolicy {
        threshold: 200,
        difficulty: 9,
    });
    let mut sim = pair.sim(1);
    sim.manual = true;
    let template = init_request(0);
    for n in 0..FLOOD {
        let mut request = template.clone();
        request[..8].copy_from_slice(&u64::from(n + 1).to_be_bytes());
        let before = sim.nodes[1].endpoint.half_open();
        let answers = from(&mut sim, n, &request);
        if before >= 100 {
            let after = sim.nodes[1].endpoint.half_open();
            assert_eq!(after, before, "who returns no cookie is not served");
        }
        let cookie = answers
            .first()
            .and_then(|answer| notified(answer, NotifyType::COOKIE));
        if let Some(cookie) = cookie.filter(|_| n % 2 == 0) {
            from(&mut sim, n, &again(&request, cookie, None, &[]));
        }
        sim.nodes[1].events.clear();
    }
    // A few that do not work are served, but half of the room beyond the threshold is not theirs.
    let half_open = sim.nodes[1].endpoint.half_open();
    let stats = sim.nodes[1].endpoint.stats().clone();
    println!("{half_open} half open; {stats:?}");
    assert!((201..=400).contains(&half_open), "{half_open}");
    assert_eq!(
        sim.nodes[1].endpoint.defence(sim.now),
        DefenceLevel::Puzzles
    );
    assert!(stats.puzzles_sent > 140_000, "{}", stats.puzzles_sent);
    assert_eq!(stats.puzzles_solved, 0);
    // And who works gets in.
    sim.manual = false;
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    assert_eq!(
        sim.event_names(0),
        ["puzzled", "ike_established", "child_established"]
    );
    assert_eq!(sim.nodes[1].endpoint.stats().puzzles_solved, 1);
    // The flood is forgotten, and nobody has to work any more.
    sim.run_for(s(100));
    assert_eq!(sim.nodes[1].endpoint.half_open(), 0);
    assert_eq!(sim.nodes[1].endpoint.defence(sim.now), DefenceLevel::None);
}

/// One of many behind the NAT that an attacker sits behind too.
#[test]
fn work_opens_the_door_beyond_the_limit_of_an_address() {
    let mut pair = Pair::default();
    pair.west_config.max_half_open_per_address = 4;
    pair.west_config.puzzles = Some(PuzzlePolicy {
        threshold: 1000,
        difficulty: 8,
    });
    let mut sim = pair.sim(1);
    sim.manual = true;
    let mut difficulties = Vec::new();
    for n in 0..20 {
        let mut request = init_request(n);
        while let Some(answer) = from(&mut sim, 1, &request).first() {
            let Some(cookie) = notified(answer, NotifyType::COOKIE) else {
                break;
            };
            let puzzle = puzzle(answer);
            difficulties.extend(puzzle.as_ref().map(|puzzle| puzzle.difficulty));
            let solution = puzzle.map(|puzzle| puzzle.solve(|| true).unwrap());
            request = again(&init_request(n), cookie, solution.as_deref(), &[]);
        }
    }
    // Each doubling costs a bit.
    assert_eq!(
        difficulties,
        [
            10, 10, 10, 11, 11, 11, 11, 11, 11, 11, 11, 12, 12, 12, 12, 12
        ]
    );
    assert_eq!(sim.nodes[1].endpoint.half_open(), 20);
    // Whoever does not work is refused there, and nobody else is asked for anything.
    assert!(puzzle(&from(&mut sim, 1, &init_request(50))[0]).is_some());
    assert!(notified(&from(&mut sim, 2, &init_request(51))[0], NotifyType::COOKIE).is_none());
}

//= rfc8019#7.1.2
//= type=test
//# If the received message contains a PUZZLE notification and doesn't
//# contain a COOKIE notification, then this message is malformed because
//# it requests to solve the puzzle but doesn't provide enough
//# information to allow the puzzle to be solved.  In this case, the
//# Initiator MUST ignore the received message
#[test]
fn a_puzzle_without_a_cookie_is_ignored() {
    let mut sim = Pair::default().sim(1);
    sim.manual = true;
    sim.initiate(0, WEST);
    let request = sim.sent().remove(0);
    let header = *Message::parse(&request.bytes).unwrap().header();
    let flags = Flags {
        response: true,
        ..Flags::default()
    };
    let mut bytes = Vec::new();
    write_message(&mut bytes, &Header { flags, ..header }, |payloads| {
        payloads.notify(&Notify::new(NotifyType::PUZZLE, &[0, 5, 8]));
    })
    .unwrap();
    sim.deliver(Datagram {
        src: request.dst,
        dst: request.src,
        transport: Transport::Udp,
        bytes,
    });
    assert!(sim.sent().is_empty());
    sim.manual = false;
    sim.deliver(request);
    sim.run_for(s(1));
    established(&sim);
}

/// Why east's attempt fails, and how many puzzles it has been given.
fn refused(change: impl FnOnce(&mut Pair), work: impl FnOnce(&mut Plane)) -> (FailureReason, u64) {
    let mut pair = demanding();
    change(&mut pair);
    let mut sim = pair.sim(1);
    work(&mut sim.nodes[0].plane);
    sim.initiate(0, WEST);
    sim.run_for(s(40));
    sim.assert_agreement(0, 1);
    let given = sim.nodes[1].endpoint.stats().puzzles_sent;
    (ike_failure(&sim, 0), given)
}

//= rfc8019#9
//= type=test
//# Initiators SHOULD set a maximum difficulty level beyond which they
//# won't try to solve the puzzle and log or display a failure message to
//# the administrator or user.
#[test]
fn work_is_bounded() {
    let (reason, given) = refused(|pair| pair.east_config.max_puzzle_difficulty = 7, |_| ());
    let (difficulty, limit) = (8, 7);
    assert_eq!(reason, FailureReason::PuzzleTooHard { difficulty, limit });
    assert_eq!(reason.name(), "puzzle_too_hard");
    assert!(given <= 10, "{given}");
    let (reason, _) = refused(|pair| pair.east_config.max_puzzle_difficulty = 0, |_| ());
    assert_eq!(reason.name(), "puzzle_too_hard");
    let (reason, _) = refused(|_| (), |plane| plane.refuse_puzzle = true);
    assert_eq!(
        reason.to_string(),
        "the peer's puzzle of 8 bits was not solved: too tired"
    );
    // Nobody ever answers.
    let (reason, _) = refused(|_| (), |plane| plane.hold = true);
    assert_eq!(
        reason.to_string(),
        "the peer's puzzle of 8 bits was not solved: no solution in time"
    );
}

/// While it works, the request without a solution is not sent again, and other cookies do not count.
#[test]
fn one_puzzle_at_a_time() {
    let mut sim = demanding().sim(1);
    sim.nodes[0].plane.hold = true;
    sim.initiate(0, WEST);
    sim.run_for(s(10));
    assert_eq!(sim.nodes[0].held.len(), 1);
    assert_eq!(sim.lines().len(), 2, "{:#?}", sim.lines());
    sim.release(0);
    sim.run_for(s(1));
    sim.assert_agreement(0, 1);
    // Taken down while it works: nothing is left.
    let mut sim = demanding().sim(1);
    sim.nodes[0].plane.hold = true;
    let ike = sim.initiate(0, WEST);
    sim.run_for(s(1));
    sim.act(0, |endpoint, now| endpoint.delete_ike(now, ike));
    assert_eq!(ike_failure(&sim, 0), FailureReason::Cancelled);
    sim.release(0);
    sim.run_for(s(40));
    assert_eq!(sim.nodes[0].endpoint.size(), 0);
    let stats = sim.nodes[0].endpoint.stats();
    assert_eq!(stats.dropped(DropReason::UnknownAnswer), 0);
}

/// A stranger's half-open SA that gets an IKE_AUTH request full of junk.
fn spoil(sim: &mut Sim) {
    let request = init_request(77);
    let answer = from(sim, 1, &request).remove(0);
    let puzzle = puzzle(&answer).unwrap();
    let solution = puzzle.solve(|| true).unwrap();
    let answer = from(sim, 1, &again(&request, &puzzle.data, Some(&solution), &[]));
    let mut header = *Message::parse(&answer[0].bytes).unwrap().header();
    header.exchange = ExchangeType::IKE_AUTH;
    header.flags = Flags {
        initiator: true,
        ..Flags::default()
    };
    header.message_id = 1;
    let mut junk = Vec::new();
    write_message(&mut junk, &header, |payloads| {
        payloads.sk(PayloadType::ID_I, 64);
    })
    .unwrap();
    junk.extend([0xee; 64]);
    assert!(from(sim, 1, &junk).is_empty());
    let stats = sim.nodes[1].endpoint.stats();
    assert_eq!(stats.dropped(DropReason::IntegrityCheck), 1);
}

fn before_auth(change: impl FnOnce(&mut Pair)) -> Sim {
    let mut pair = demanding();
    pair.west_config.max_half_open = 10;
    change(&mut pair);
    let mut sim = pair.sim(1);
    sim.manual = true;
    spoil(&mut sim);
    sim.initiate(0, WEST);
    for _ in 0..4 {
        sim.exchange();
    }
    sim
}

/// Key exchanges as in the simulation, and how many secrets were computed.
#[derive(Clone, Debug, Default)]
struct Counted(Arc<AtomicUsize>);

#[derive(Debug)]
struct CountedKey(Box<dyn PrivateKey>, Counted);

impl PrivateKey for CountedKey {
    fn public(&self) -> &[u8] {
        self.0.public()
    }

    fn agree(&self, peer_public: &[u8]) -> Result<SharedSecret, KeyExchangeError> {
        self.1.0.fetch_add(1, Ordering::Relaxed);
        self.0.agree(peer_public)
    }

    fn method(&self) -> KeyExchange {
        self.0.method()
    }
}

impl KeyExchangeProvider for Counted {
    fn generate(
        &self,
        method: KeyExchange,
        entropy: &mut dyn Entropy,
    ) -> Result<Box<dyn PrivateKey>, KeyExchangeError> {
        let key = InsecureKeyExchange.generate(method, entropy)?;
        Ok(Box::new(CountedKey(key, self.clone())))
    }

    fn respond(
        &self,
        method: KeyExchange,
        peer_public: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<(Vec<u8>, SharedSecret), KeyExchangeError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        InsecureKeyExchange.respond(method, peer_public, entropy)
    }
}

//= rfc8019#7.2.4
//= type=test
//# Once the message containing a solution to the puzzle is received, the
//# Responder MUST verify the solution before performing computationally
//# intensive operations, i.e., computing the DH shared secret and the
//# SK_* keys.
#[test]
fn no_secret_is_computed_before_the_puzzle_is_solved() {
    let mut pair = demanding();
    pair.west_config.max_half_open = 10;
    let mut sim = pair.sim(1);
    let counted = Counted::default();
    sim.key_exchange = Arc::new(counted.clone());
    sim.restart_quietly(1);
    let computed = || counted.0.load(Ordering::Relaxed);
    sim.manual = true;
    // The first one is not asked for more than the puzzle of IKE_SA_INIT.
    spoil(&mut sim);
    assert_eq!(computed(), 1);
    sim.initiate(0, WEST);
    for _ in 0..4 {
        sim.exchange();
    }
    assert_eq!(computed(), 1, "IKE_SA_INIT has been answered");
    let auth = sim.outbox[0].clone();
    let message = Message::parse(&auth.bytes).unwrap();
    let sk = message.payloads().find_map(|payload| match payload {
        Ok(Payload::Sk(sk)) => Some(sk),
        _ => None,
    });
    let mut wrong = Vec::new();
    write_message(&mut wrong, message.header(), |payloads| {
        payloads.ps(&[3; 16]).any(&Payload::Sk(sk.unwrap()));
    })
    .unwrap();
    for exchange in [ExchangeType::IKE_AUTH, ExchangeType::INFORMATIONAL] {
        let mut bytes = wrong.clone();
        bytes[18] = exchange.0;
        sim.deliver(Datagram {
            bytes,
            ..auth.clone()
        });
    }
    assert_eq!(computed(), 1);
    assert_eq!(dropped(&sim, 1), 1);
    sim.manual = false;
    sim.deliver(auth);
    assert_eq!(computed(), 2);
    sim.run_for(Duration::from_millis(500));
    let events = ["puzzled", "puzzled", "ike_established", "child_established"];
    assert_eq!(sim.event_names(0), events);
}

/// Nobody solves it: the half-open IKE SA goes in time.
#[test]
fn a_puzzle_that_nobody_solves_is_forgotten() {
    let mut sim = before_auth(|_| ());
    sim.outbox.clear();
    sim.run_for(s(60));
    assert_eq!(sim.nodes[1].endpoint.size(), 0);
}

//= rfc8019#7.2.2
//= type=test
//# The PS payload MUST be placed outside the Encrypted payload, so that
//# the Responder is able to verify the puzzle before calculating the DH
//# shared secret and the SK_* keys.
//= rfc8019#7.2.2
//= type=test
//# If the IKE_SA_INIT regular response message (i.e., the message
//# containing SA, KE, NONCE payloads) contains the PUZZLE notification
//# and the Initiator supports puzzles, it MUST solve the puzzle.
//= rfc8019#7.2.1.1
//= type=test
//# Unlike puzzles in the IKE_SA_INIT, the requested difficulty level for
//# IKE_AUTH puzzles MUST NOT be 0.
//= rfc8019#8.1
//= type=test
//# Protocol ID (1 octet) -- MUST be 0.
//= rfc8019#8.1
//= type=test
//# SPI Size (1 octet) -- MUST be 0, meaning no SPI is present.
//= rfc8019#8.1
//= type=test
//# Notify Message Type (2 octets) -- MUST be 16434, the value assigned
//# for the PUZZLE notification.
#[test]
fn when_many_send_junk_work_is_asked_for_before_ike_auth_too() {
    let mut sim = before_auth(|_| ());
    let lines = sim.lines();
    assert!(
        lines[3].contains("IKE_SA_INIT response 0 SA KE Nonce") && lines[3].ends_with("N(PUZZLE)"),
        "{lines:#?}"
    );
    let init = sim.transcript.clone();
    // N(PUZZLE): no protocol, no SPI, 16434; HMAC-SHA2-256 and bits to find.
    let octets = [0, 0, 0x40, 0x32, 0, 5];
    let at = init.windows(6).rposition(|window| window == octets);
    assert!(init[at.expect("the puzzle") + 6] > 0, "a difficulty");
    let auth = sim.outbox[0].clone();
    let message = Message::parse(&auth.bytes).unwrap();
    let payloads: Vec<_> = message.payloads().map(Result::unwrap).collect();
    let [Payload::Ps(_), Payload::Sk(sk)] = payloads[..] else {
        panic!("{payloads:?}")
    };
    assert_eq!(sk.aad_len(), 28 + 20 + 4);
    //= rfc8019#7.2.4
    //= type=test
    //# The Responder MUST silently discard the received message if any
    //# checked verification result is not correct (contains insufficient
    //# number of trailing zero bits).
    //= rfc8019#7.2.4
    //= type=test
    //# If the Responder requested the Initiator to solve a puzzle in the
    //# IKE_AUTH exchange, then it MUST silently discard all the IKE_AUTH
    //# request messages without the PS payload.
    let mut without = Vec::new();
    write_message(&mut without, message.header(), |payloads| {
        payloads.any(&Payload::Sk(sk));
    })
    .unwrap();
    let mut wrong = Vec::new();
    write_message(&mut wrong, message.header(), |payloads| {
        payloads.ps(&[3; 16]).any(&Payload::Sk(sk));
    })
    .unwrap();
    for bytes in [without, wrong] {
        sim.sent();
        sim.deliver(Datagram {
            bytes,
            ..auth.clone()
        });
        assert!(sim.sent().is_empty());
    }
    assert_eq!(dropped(&sim, 1), 2);
    sim.manual = false;
    sim.deliver(auth);
    sim.run_for(Duration::from_millis(500));
    assert_eq!(
        sim.event_names(0),
        ["puzzled", "puzzled", "ike_established", "child_established"]
    );
    assert_eq!(dropped(&sim, 1), 2);
}

//= rfc8019#7.2.2
//= type=test
//# If IKE fragmentation [RFC7383] is used in the IKE_AUTH exchange, then
//# the PS payload MUST be present only in the first IKE Fragment
//# message, in accordance with Section 2.5.3 of [RFC7383].
#[test]
fn the_solution_is_in_the_first_fragment_only() {
    let mut sim = before_auth(|pair| {
        pair.east.fragmentation = Fragmentation::Force;
        pair.east.fragment_size = MIN_FRAGMENT_SIZE;
        pair.east.local_id = format!("@{}", "east".repeat(200)).parse().unwrap();
        pair.west.remote_id = PeerIdentity::Exactly(pair.east.local_id.clone());
    });
    let fragments: Vec<_> = sim
        .outbox
        .iter()
        .map(|datagram| {
            assert!(datagram.bytes.len() + 28 <= usize::from(MIN_FRAGMENT_SIZE));
            let message = Message::parse(&datagram.bytes).unwrap();
            let kinds = message.payloads().map(|p| p.unwrap().payload_type());
            kinds.collect::<Vec<_>>()
        })
        .collect();
    assert!(fragments.len() > 1);
    assert_eq!(fragments[0], [PayloadType::PS, PayloadType::SKF]);
    assert!(fragments[1..].iter().all(|f| *f == [PayloadType::SKF]));
    sim.manual = false;
    sim.exchange();
    sim.run_for(Duration::from_millis(500));
    assert!(sim.event_names(0).contains(&"child_established"));
}

/// What strangers do does not keep us from telling a peer what is wrong, nor the other way round.
#[test]
fn strangers_and_peers_have_limits_of_their_own() {
    let mut sim = run(Pair::default());
    sim.manual = true;
    let limited = |sim: &Sim| {
        let stats = sim.nodes[1].endpoint.stats();
        stats.dropped(DropReason::RateLimited)
    };
    let stranger = |sim: &mut Sim, n: u32| {
        let mut bytes = init_request(n.into());
        // INFORMATIONAL for an IKE SA that is not here.
        bytes[8..16].copy_from_slice(&[9; 8]);
        bytes[18] = ExchangeType::INFORMATIONAL.0;
        let answers = from(sim, n, &bytes);
        let inform = |d: &&Datagram| describe(d).contains("INVALID_IKE_SPI");
        answers.iter().filter(inform).count()
    };
    let heard: usize = (0..100).map(|n| stranger(&mut sim, n)).sum();
    assert_eq!((heard, limited(&sim)), (20, 80));
    // A peer is told all the same, so many times.
    let ike = sim.nodes[1].endpoint.ike_sas().next().unwrap().id;
    for spi in 0..100 {
        sim.act(1, |endpoint, now| {
            endpoint.report_invalid_spi(now, ike, spi)
        });
    }
    assert_eq!(sim.sent().len(), 1);
    assert_eq!(limited(&sim), 80 + 96);
    sim.run_for(s(2));
    assert_eq!(stranger(&mut sim, 200), 1);
}

//= rfc8019#7.1.4
//= type=test
//# In this
//# case, the received request message must not contain the PS payload,
//# and this payload MUST be ignored if the message contains a PS payload
//# for any reason.
#[test]
fn a_solution_that_nobody_asked_for_is_ignored() {
    let mut pair = Pair::default();
    pair.west_config.cookie_threshold = 0;
    let mut sim = pair.sim(1);
    sim.manual = true;
    let request = init_request(1);
    let answer = from(&mut sim, 1, &request).remove(0);
    assert!(notified(&answer, NotifyType::PUZZLE).is_none());
    let cookie = notified(&answer, NotifyType::COOKIE).unwrap();
    let served = from(&mut sim, 1, &again(&request, cookie, Some(&[1; 16]), &[]));
    assert!(describe(&served[0]).contains("IKE_SA_INIT response 0 SA KE Nonce"));
    assert_eq!(sim.nodes[1].endpoint.half_open(), 1);
    assert_eq!(
        (
            dropped(&sim, 1),
            sim.nodes[1].endpoint.stats().puzzles_solved
        ),
        (0, 0)
    );
    // Nor does it help who has to solve a puzzle by now: this cookie is of none.
    let other = init_request(2);
    let answer = from(&mut sim, 2, &other).remove(0);
    let cookie = notified(&answer, NotifyType::COOKIE).unwrap();
    let busy = EndpointConfig {
        max_half_open: 2,
        ..demanding().west_config
    };
    sim.act(1, |endpoint, _| endpoint.set_config(busy));
    let asked = from(&mut sim, 2, &again(&other, cookie, Some(&[1; 16]), &[]));
    assert!(puzzle(&asked[0]).is_some());
    assert_eq!(dropped(&sim, 1), 0);
}

//= rfc8019#7.2.1
//= type=test
//# The
//# Responder MUST NOT use puzzles in the IKE_AUTH exchange unless a
//# puzzle has been previously presented and solved in the preceding
//# IKE_SA_INIT exchange.
#[test]
fn who_has_solved_no_puzzle_gets_none_before_ike_auth() {
    let mut pair = demanding();
    pair.west_config.max_half_open = 10;
    let mut sim = pair.sim(1);
    sim.manual = true;
    // The same world in which the others get one, but the first puzzle is over.
    spoil(&mut sim);
    let calm = EndpointConfig {
        puzzles: None,
        ..sim.nodes[1].config.clone()
    };
    sim.act(1, |endpoint, _| endpoint.set_config(calm));
    sim.initiate(0, WEST);
    sim.exchange();
    let response = describe(&sim.outbox[0]);
    assert!(
        response.contains("IKE_SA_INIT response 0 SA KE Nonce"),
        "{response}"
    );
    assert!(!response.contains("PUZZLE"), "{response}");
}
