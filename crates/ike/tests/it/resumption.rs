//! Session resumption (RFC 5723): who gets a ticket, what it is good for, and peers that use it against the rules.

mod answers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cygnet_crypto::SecretBytes;
use cygnet_ike::*;
use cygnet_wire::{
    ExchangeType, IdType, IkeSpi, Message, Notify, NotifyType, Payload, write_message,
};

use crate::forge::{Forge, stopped_at};
use crate::pair::*;
use crate::sim::{Datagram, Sim, describe};

/// Two gateways that resume sessions. The first looks after the other one.
fn resuming() -> Pair {
    let mut pair = Pair::default();
    for config in [&mut pair.east, &mut pair.west] {
        config.resumption = true;
    }
    pair.east.liveness = Some(s(10));
    pair.east_config.key_log = true;
    pair.west_config.key_log = true;
    pair
}

fn key(id: u8) -> TicketKey {
    TicketKey {
        id: [id; TicketKey::ID_LEN],
        key: SecretBytes::new(vec![id; TicketKey::LEN]),
    }
}

/// A node has these keys, and its clock shows how long the world stands.
fn set_keys(sim: &mut Sim, node: usize, ids: &[u8]) {
    let keys = TicketKeys {
        keys: ids.iter().map(|id| key(*id)).collect(),
        at: sim.now,
        unix: 1_000_000 + sim.now.duration_since(sim.start).as_secs(),
    };
    sim.act(node, |e, _| e.set_ticket_keys(Some(keys)));
}

/// The world with both, connected; `west` has ticket keys.
fn connected(pair: Pair) -> Sim {
    let mut sim = pair.sim(1);
    set_keys(&mut sim, 1, &[1]);
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    sim.assert_agreement(0, 1);
    sim
}

fn info(sim: &Sim, node: usize) -> IkeSaInfo {
    let mut all = sim.nodes[node].endpoint.ike_sas();
    all.next().expect("there is an IKE SA")
}

/// `west` loses everything but its keys, and `east` finds that out.
fn lose_west(sim: &mut Sim) -> Option<Arc<Ticket>> {
    sim.crash(1);
    sim.nodes[1].endpoint.set_ticket_keys(None);
    sim.run_for(s(100));
    let ticket = closed(sim, 0).1;
    set_keys(sim, 1, &[1]);
    sim.nodes[0].events.clear();
    ticket
}

/// Why the last IKE SA of a node has ended, and what it has left.
fn closed(sim: &Sim, node: usize) -> (CloseReason, Option<Arc<Ticket>>) {
    let mut events = sim.nodes[node].events.iter().rev();
    let last = events.find_map(|event| match event {
        Event::IkeClosed { reason, ticket, .. } => Some((reason.clone(), ticket.clone())),
        _ => None,
    });
    last.expect("an IKE SA has been closed")
}

/// `east` begins with a ticket.
fn resume_with(sim: &mut Sim, ticket: &Ticket, auth: ResumptionAuth) -> IkeSaId {
    let peer = sim.nodes[0].book.peers[0].clone();
    assert!(ticket.fits(sim.now, &peer));
    let child = peer.children.first().cloned().map(|config| ChildRequest {
        config,
        acquire: None,
    });
    let end = |address: &str| -> SocketAddr { format!("{address}:500").parse().unwrap() };
    let ends = (end(EAST), end(WEST));
    sim.act(0, |e, now| e.resume(now, peer, child, ends, (ticket, auth)))
}

fn resume(sim: &mut Sim, ticket: &Ticket) -> IkeSaId {
    resume_with(sim, ticket, ResumptionAuth::Whole)
}

/// The session goes on, without a key exchange.
fn assert_resumed(sim: &Sim) {
    sim.assert_agreement(0, 1);
    let info = info(sim, 0);
    assert!(info.resumed);
    assert!(sim.nodes[1].endpoint.ike_sas().any(|info| info.resumed));
    assert_eq!(sim.nodes[1].endpoint.child_sas().count(), 1);
    let stats = sim.nodes[1].endpoint.stats();
    assert_eq!((stats.resumed, stats.tickets_refused), (1, 0));
}

fn rejected(sim: &Sim, node: usize) -> Vec<RejectReason> {
    let events = sim.nodes[node].events.iter();
    events
        .filter_map(|event| match event {
            Event::Rejected { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .collect()
}

/// `west` does not take the ticket.
fn assert_refused(sim: &mut Sim, ticket: &Ticket, refusal: TicketRefusal) {
    sim.nodes[0].events.clear();
    sim.nodes[1].events.clear();
    resume(sim, ticket);
    sim.run_for(s(3));
    assert_eq!(ike_failure(sim, 0), FailureReason::TicketRefused);
    // The request may have been repeated before the refusal counts.
    let mut reasons = rejected(sim, 1);
    reasons.dedup();
    assert_eq!(reasons, [RejectReason::Ticket(refusal)]);
    assert_eq!(sim.nodes[1].endpoint.half_open(), 0);
}

/// A datagram in its parts, to look at and to send in another form.
fn changed(datagram: &Datagram, change: impl Fn(&mut Vec<Vec<u8>>)) -> Datagram {
    let message = Message::parse(&datagram.bytes).unwrap();
    let mut tickets: Vec<Vec<u8>> = message
        .payloads()
        .flatten()
        .filter_map(|payload| match payload {
            Payload::Notify(notify) if notify.kind == NotifyType::TICKET_OPAQUE => {
                Some(notify.data.to_vec())
            }
            _ => None,
        })
        .collect();
    change(&mut tickets);
    let mut bytes = Vec::new();
    write_message(&mut bytes, message.header(), |payloads| {
        for payload in message.payloads().flatten() {
            match payload {
                Payload::Notify(notify) if notify.kind == NotifyType::TICKET_OPAQUE => {
                    for ticket in &tickets {
                        payloads.notify(&Notify::new(notify.kind, ticket));
                    }
                }
                other => {
                    payloads.any(&other);
                }
            }
        }
    })
    .unwrap();
    Datagram {
        bytes,
        ..datagram.clone()
    }
}

//= rfc5723#4.3.3
//= type=test
//# Following the IKE_SESSION_RESUME exchange, the client MUST initiate
//# an IKE_AUTH exchange
//= rfc5723#4.2
//= type=test
//# When the client accepts the ticket, it stores it in its local storage
//# for later use, along with the IKE SA to which the ticket refers.
//# Since the ticket itself is opaque to the client, the local storage
//# MUST also include all items marked as "from the ticket" in the table
//# of Section 5.
//= rfc5723#4.3.2
//= type=test
//# This exchange is equivalent to the IKE_SA_INIT exchange, and MUST be
//# followed by an IKE_AUTH exchange.
#[test]
fn a_session_goes_on_after_the_gateway_has_crashed() {
    let mut sim = connected(resuming());
    let (ours, theirs) = (info(&sim, 0), info(&sim, 1));
    assert!(ours.ticket.is_some() && !ours.ticket_granted && !ours.resumed);
    assert!(theirs.ticket.is_none() && theirs.ticket_granted);
    let ticket = lose_west(&mut sim).expect("a ticket is left");
    let from = sim.trace.len();
    resume(&mut sim, &ticket);
    sim.run_for(s(1));
    assert_resumed(&sim);
    // The new one has a ticket, too.
    assert!(info(&sim, 0).ticket.is_some());
    let lines = sim.lines();
    let lines: Vec<_> = lines
        .iter()
        .skip(from)
        .filter(|l| l.contains(" > "))
        .collect();
    assert!(
        lines[0].contains("IKE_SESSION_RESUME request 0 Nonce N(TICKET_OPAQUE)"),
        "{lines:#?}"
    );
    assert!(
        lines[1].contains("IKE_SESSION_RESUME response 0 Nonce"),
        "{lines:#?}"
    );
    assert!(lines[2].contains("IKE_AUTH request 1"), "{lines:#?}");
    //= rfc5723#5
    //= type=test
    //# These
    //# values MUST NOT be used for the resumed SA.
    let new = info(&sim, 0);
    assert_ne!(new.initiator_spi, ours.initiator_spi);
    assert_ne!(new.responder_spi, ours.responder_spi);
    assert_eq!(new.suite, ours.suite);
    // And it lives: it can be rekeyed, and lost and resumed again.
    sim.act(0, |e, now| e.rekey_ike(now, new.id));
    sim.run_for(s(62));
    sim.assert_agreement(0, 1);
    assert!(info(&sim, 0).resumed);
    let ticket = lose_west(&mut sim).expect("a ticket of the successor is left");
    resume(&mut sim, &ticket);
    sim.run_for(s(1));
    assert_resumed(&sim);
}

#[test]
fn as_libreswan_computes_the_auth_payload() {
    let mut sim = connected(resuming());
    let ticket = lose_west(&mut sim).unwrap();
    resume_with(&mut sim, &ticket, ResumptionAuth::FirstMessage);
    sim.run_for(s(1));
    assert_resumed(&sim);
    // It has served, though the gateway knows nothing of the IKE SA that it is of.
    assert_refused(&mut sim, &ticket, TicketRefusal::Void);
}

#[test]
fn with_everything_else() {
    // Each of these goes its own way in IKE_SA_INIT or IKE_AUTH.
    type Variant = fn(&mut Pair);
    let variants: [(&str, Variant); 8] = [
        ("mobike", |p| (p.east.mobike, p.west.mobike) = (true, true)),
        ("childless", |p| {
            p.east.childless = Childless::Force;
            p.west.childless = Childless::Force;
        }),
        ("encapsulation", |p| {
            p.east.force_encapsulation = Encapsulation::Yes
        }),
        ("intermediate", |p| p.east.intermediate = true),
        ("several key exchanges", |p| {
            let proposals = ike("aes_gcm256-sha2_512-dh31;addke1=ml_kem_768");
            p.east.proposals = proposals.clone();
            p.west.proposals = proposals;
        }),
        ("window", |p| (p.east.window, p.west.window) = (4, 4)),
        ("a PPK", |p| {
            let ppk = Ppk {
                id: b"one".to_vec(),
                key: SecretBytes::copy_from(&[3; 32]),
            };
            p.east.ppk = PpkPolicy::Insist;
            p.west.ppk = PpkPolicy::Insist;
            (p.east_ppks, p.west_ppks) = (vec![ppk.clone()], vec![ppk]);
        }),
        ("cookies", |p| p.west_config.cookie_threshold = 0),
    ];
    for (name, vary) in variants {
        let mut pair = resuming();
        vary(&mut pair);
        let mut sim = connected(pair);
        let before = info(&sim, 0);
        let ticket = lose_west(&mut sim).unwrap_or_else(|| panic!("{name}: no ticket"));
        let from = sim.trace.len();
        resume(&mut sim, &ticket);
        sim.run_for(s(2));
        assert_resumed(&sim);
        let after = info(&sim, 0);
        assert_eq!(
            (
                after.ppk,
                after.mobike,
                after.childless,
                after.nat,
                after.suite
            ),
            (
                before.ppk,
                before.mobike,
                before.childless,
                before.nat,
                before.suite
            ),
            "{name}"
        );
        //= rfc8784#3
        //= type=test
        //# It MUST NOT be used when these
        //# subkeys are calculated as result of IKE SA rekey, resumption, or
        //# other similar operations.
        //= rfc9242#4
        //= type=test
        //# To be able to use it, peers MUST negotiate support for
        //# Intermediate Exchange by including INTERMEDIATE_EXCHANGE_SUPPORTED
        //# notifications in the IKE_SESSION_RESUME messages.
        let said = sim.lines().split_off(from);
        let offers = |line: &&String| line.contains("N(INTERMEDIATE_EXCHANGE_SUPPORTED)");
        let offers: Vec<_> = said.iter().filter(offers).collect();
        assert_eq!(
            offers.len(),
            2 * usize::from(name == "intermediate"),
            "{name}: {said:#?}"
        );
        assert!(
            offers
                .iter()
                .all(|line| line.contains("IKE_SESSION_RESUME"))
        );
        let said = said.join("\n");
        assert!(
            !said.contains("PPK") && !said.contains("IKE_INTERMEDIATE re"),
            "{said}"
        );
    }
}

//= rfc5723#6.2
//= type=test
//# In particular, when
//# an IKE SA is deleted by the client or the gateway, the client MUST
//# delete its stored ticket.
#[test]
fn who_deletes_has_no_ticket_any_more() {
    for node in [0, 1] {
        let mut sim = connected(resuming());
        let ike = info(&sim, node).id;
        sim.act(node, |e, now| e.delete_ike(now, ike));
        sim.run_for(s(1));
        assert!(closed(&sim, 0).1.is_none());
    }
    let mut sim = connected(resuming());
    //= rfc5723#6.2
    //= type=test
    //# Similarly, when credentials associated
    //# with the IKE SA are invalidated (e.g., when a user logs out), the
    //# ticket MUST be deleted.
    sim.act(0, |e, _| e.forget_tickets());
    assert!(lose_west(&mut sim).is_none());
    // And one that does not want to gets none.
    let mut pair = resuming();
    pair.east.resumption = false;
    let mut sim = connected(pair);
    assert!(!info(&sim, 1).ticket_granted);
    assert!(lose_west(&mut sim).is_none());
    let mut pair = resuming();
    pair.west.resumption = false;
    let mut sim = connected(pair);
    assert!(lose_west(&mut sim).is_none());
}

//= rfc5723#4.3.4
//= type=test
//# When the responder receives a ticket for an IKE SA that is still
//# active and if the responder accepts it (i.e., following successful
//# completion of the IKE_AUTH exchange), the old SA SHOULD be silently
//# deleted without sending a DELETE informational exchange.
#[test]
fn the_gateway_closes_what_it_still_has() {
    let mut sim = connected(resuming());
    let (east, west) = (EAST.parse().unwrap(), WEST.parse().unwrap());
    sim.broken = vec![(east, west), (west, east)];
    sim.run_for(s(100));
    let ticket = closed(&sim, 0).1.unwrap();
    sim.broken.clear();
    assert_eq!(sim.nodes[1].endpoint.ike_sas().count(), 1);
    sim.nodes[0].events.clear();
    let from = sim.trace.len();
    resume(&mut sim, &ticket);
    sim.run_for(s(1));
    assert_eq!(closed(&sim, 1).0, CloseReason::Resumed);
    let said = sim.lines().split_off(from).join("\n");
    assert!(!said.contains("INFORMATIONAL"), "{said}");
    sim.run_for(s(61));
    assert_resumed(&sim);
    //= rfc5723#4.3.1
    //= type=test
    //# A reused ticket SHOULD be rejected by a gateway.
    assert_refused(&mut sim, &ticket, TicketRefusal::Void);
}

/// `east` is cut off, `west` does something, then `east` comes with its ticket.
fn cut_off(pair: Pair, meanwhile: impl FnOnce(&mut Sim)) -> (Sim, Arc<Ticket>) {
    let mut sim = connected(pair);
    let (east, west) = (EAST.parse().unwrap(), WEST.parse().unwrap());
    sim.broken = vec![(east, west), (west, east)];
    meanwhile(&mut sim);
    sim.run_for(s(100));
    let ticket = closed(&sim, 0).1.unwrap();
    sim.broken.clear();
    (sim, ticket)
}

#[test]
fn the_gateway_asks_its_configuration_again() {
    let (mut sim, ticket) = cut_off(resuming(), |sim| {
        let ike = info(sim, 1).id;
        sim.act(1, |e, now| e.delete_ike(now, ike));
    });
    assert_refused(&mut sim, &ticket, TicketRefusal::Void);

    let with_book = |change: fn(&mut crate::sim::Book)| {
        let (mut sim, ticket) = cut_off(resuming(), |_| {});
        let mut book = (*sim.nodes[1].book).clone();
        change(&mut book);
        sim.act(1, |e, _| e.set_directory(Arc::new(book)));
        (sim, ticket)
    };
    let (mut sim, ticket) = with_book(|book| book.peers.clear());
    assert_refused(&mut sim, &ticket, TicketRefusal::NoConfiguration);
    let (mut sim, ticket) = with_book(|book| {
        let mut peer = (*book.peers[0]).clone();
        peer.resumption = false;
        book.peers = vec![peer.into()];
    });
    assert_refused(&mut sim, &ticket, TicketRefusal::NoConfiguration);
    let (mut sim, ticket) = with_book(|book| {
        let mut peer = (*book.peers[0]).clone();
        peer.proposals = ike("chacha20_poly1305-sha2_512-dh31");
        book.peers = vec![peer.into()];
    });
    assert_refused(&mut sim, &ticket, TicketRefusal::NoConfiguration);
    let (mut sim, ticket) = with_book(|book| {
        let mut peer = (*book.peers[0]).clone();
        peer.remote_id = PeerIdentity::Exactly("@north.example.com".parse().unwrap());
        book.peers = vec![peer.into()];
    });
    assert_refused(&mut sim, &ticket, TicketRefusal::NoConfiguration);
    let (mut sim, ticket) = with_book(|book| book.psks[0].2.push(b'!'));
    assert_refused(&mut sim, &ticket, TicketRefusal::CredentialsChanged);
    let (mut sim, ticket) = with_book(|book| book.psks.clear());
    assert_refused(&mut sim, &ticket, TicketRefusal::CredentialsChanged);
    // A full exchange goes through afterwards where there is something to agree on.
    let (mut sim, ticket) = cut_off(resuming(), |sim| set_keys(sim, 1, &[2]));
    assert_refused(&mut sim, &ticket, TicketRefusal::UnknownKey);
    sim.nodes[0].events.clear();
    sim.initiate(0, WEST);
    sim.run_for(s(70));
    assert_eq!(sim.event_names(0), ["ike_established", "child_established"]);
    assert!(!info(&sim, 0).resumed);
    // Keys rotate: the one before is still good.
    let (mut sim, ticket) = cut_off(resuming(), |sim| set_keys(sim, 1, &[2, 1]));
    resume(&mut sim, &ticket);
    sim.run_for(s(70));
    assert_resumed(&sim);
}

//= rfc5723#4.3.1
//= type=test
//# A client
//# MUST NOT present a ticket when it knows that the ticket's lifetime
//# has expired.
//= rfc5723#6.2
//= type=test
//# Even if neither of
//# these are enforced by the gateway, a finite lifetime MUST be
//# specified for the ticket.
#[test]
fn a_ticket_lives_no_longer_than_its_session() {
    let mut pair = resuming();
    pair.west.lifetime = Some(s(3600));
    pair.west.auth_lifetime = Some(s(600));
    let mut sim = connected(pair);
    let left = info(&sim, 0).ticket.unwrap() - sim.start;
    assert!(left <= s(601) && left >= s(599), "{left:?}");
    let ticket = lose_west(&mut sim).unwrap();
    let peer = sim.nodes[0].book.peers[0].clone();
    assert!(ticket.fits(sim.now, &peer));
    assert!(!ticket.fits(sim.start + s(602), &peer));
    resume(&mut sim, &ticket);
    sim.run_for(s(1));
    assert_resumed(&sim);
    // To be resumed is not to be authenticated: what is left of that time goes on.
    let told = sim.nodes[0].events.iter().find_map(|event| match event {
        Event::AuthLifetime { lifetime, .. } => Some(*lifetime),
        _ => None,
    });
    let told = told.expect("the gateway says how long it is content");
    assert!(told < s(510) && told > s(480), "{told:?}");
    let left = info(&sim, 0).ticket.unwrap() - sim.start;
    assert!(left <= s(602), "{left:?}");
    // Who presents an expired one all the same hears that it has.
    let (mut sim, ticket) = cut_off(resuming(), |_| {});
    let keys = TicketKeys {
        keys: vec![key(1)],
        at: sim.now,
        unix: 1_000_000 + 25 * 3600,
    };
    sim.act(1, |e, _| e.set_ticket_keys(Some(keys)));
    assert_refused(&mut sim, &ticket, TicketRefusal::Expired);
}

//= rfc5723#4.1
//= type=test
//# In an Informational exchange at any time, e.g., if the gateway
//# previously replied with an N(TICKET_ACK) instead of providing a
//# ticket, or when the ticket lifetime is about to expire, or
//# following a gateway-initiated IKE rekey.
#[test]
fn a_ticket_is_renewed() {
    let mut pair = resuming();
    pair.west.lifetime = Some(s(400));
    let mut sim = connected(pair);
    let first = info(&sim, 0).ticket;
    sim.run_for(s(310));
    // The life of the IKE SA bounds it, renewed or not.
    assert!(info(&sim, 0).ticket.unwrap() >= first.unwrap() - s(2));
    assert_eq!(sim.nodes[1].endpoint.stats().tickets_granted, 2);
    for node in [0, 1] {
        let granted = sim.nodes[1].endpoint.stats().tickets_granted;
        let ike = info(&sim, node).id;
        let from = sim.trace.len();
        sim.act(node, |e, now| e.rekey_ike(now, ike));
        sim.run_for(s(2));
        // The Delete of who has renewed it, and the request for a ticket.
        //= rfc5723#4.1
        //= type=test
        //# All such Informational exchanges MUST be initiated by the client.
        let said = sim.lines().split_off(from);
        let asked = |who: &str| {
            let request = |l: &&String| l.starts_with(who) && l.contains("INFORMATIONAL request");
            said.iter().filter(request).count()
        };
        let deletes = usize::from(node == 0);
        assert_eq!((asked(" east"), asked(" west")), (1 + deletes, 1 - deletes));
        assert!(info(&sim, 0).ticket.is_some(), "rekeyed by {node}");
        assert_eq!(sim.nodes[1].endpoint.stats().tickets_granted, granted + 1);
    }
}

#[test]
fn silence_and_forged_refusals() {
    let mut sim = connected(resuming());
    let ticket = lose_west(&mut sim).unwrap();
    let (east, west) = (EAST.parse().unwrap(), WEST.parse().unwrap());
    sim.broken = vec![(east, west)];
    resume(&mut sim, &ticket);
    sim.run_for(s(11));
    let FailureReason::NoResponse { exchange, .. } = ike_failure(&sim, 0) else {
        panic!("{}", ike_failure(&sim, 0))
    };
    assert_eq!(exchange, ExchangeType::IKE_SESSION_RESUME);
    // It has not been used.
    sim.broken.clear();
    sim.nodes[0].events.clear();
    sim.manual = true;
    resume(&mut sim, &ticket);
    let request = sim.sent().remove(0);
    // A refusal that anybody may have sent waits for a better answer.
    let header = *Message::parse(&request.bytes).unwrap().header();
    let mut forged = header;
    forged.flags.response = true;
    forged.flags.initiator = false;
    let mut bytes = Vec::new();
    write_message(&mut bytes, &forged, |payloads| {
        payloads.notify(&Notify::new(NotifyType::TICKET_NACK, &[]));
    })
    .unwrap();
    sim.deliver(Datagram {
        src: request.dst,
        dst: request.src,
        transport: cygnet_ike::Transport::Udp,
        bytes,
    });
    sim.deliver(request);
    sim.manual = false;
    for datagram in sim.sent() {
        sim.deliver(datagram);
    }
    sim.run_for(s(2));
    assert_resumed(&sim);
}

#[test]
fn repeated_and_replayed_requests() {
    let (mut sim, ticket) = cut_off(resuming(), |_| {});
    sim.manual = true;
    resume(&mut sim, &ticket);
    let request = sim.sent().remove(0);
    // Repetitions of the same request get the same answer, and make nothing new.
    sim.deliver(request.clone());
    sim.deliver(request.clone());
    let answers = sim.sent();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0].bytes, answers[1].bytes);
    assert_eq!(sim.nodes[1].endpoint.half_open(), 1);
    // Who has overheard the ticket has not its keys: it gets as far as a half-open IKE SA.
    let mut replayed = request.clone();
    replayed.bytes[0] ^= 0xff;
    sim.deliver(replayed);
    assert_eq!(sim.nodes[1].endpoint.half_open(), 2);
    assert_eq!(
        sim.nodes[1]
            .endpoint
            .ike_sas()
            .filter(|i| i.resumed)
            .count(),
        0
    );
    sim.sent();
    sim.manual = false;
    sim.deliver(answers[0].clone());
    sim.run_for(s(1));
    assert_eq!(sim.nodes[1].endpoint.stats().resumed, 1);
    // Afterwards not even so far.
    let mut replayed = request;
    replayed.bytes[0] ^= 0x0f;
    sim.deliver(replayed);
    assert_eq!(
        rejected(&sim, 1),
        [RejectReason::Ticket(TicketRefusal::Void)]
    );
    sim.run_for(s(65));
    sim.assert_agreement(0, 1);
}

#[test]
fn forged_tickets_make_no_state() {
    let (mut sim, ticket) = cut_off(resuming(), |_| {});
    sim.manual = true;
    resume(&mut sim, &ticket);
    let request = sim.sent().remove(0);
    let before = sim.nodes[1].endpoint.size();
    type Change = fn(&mut Vec<Vec<u8>>);
    let cases: [(Change, Option<TicketRefusal>); 5] = [
        (|t| t[0][30] ^= 1, Some(TicketRefusal::Forged)),
        (|t| t[0].truncate(40), Some(TicketRefusal::Forged)),
        (|t| t[0].truncate(3), Some(TicketRefusal::Malformed)),
        (|t| t[0][4] ^= 1, Some(TicketRefusal::UnknownKey)),
        (|t| t.clear(), None),
    ];
    for (change, refusal) in cases {
        sim.nodes[1].events.clear();
        sim.deliver(changed(&request, change));
        let reasons = rejected(&sim, 1);
        match refusal {
            Some(refusal) => {
                assert_eq!(reasons, [RejectReason::Ticket(refusal)]);
                let answer = sim.sent().remove(0);
                let message = Message::parse(&answer.bytes).unwrap();
                assert_eq!(message.header().exchange, ExchangeType::IKE_SESSION_RESUME);
                assert_eq!(message.header().responder_spi, IkeSpi::ZERO);
                assert_eq!(message.payloads().count(), 1);
            }
            None => {
                assert_eq!(reasons[0].name(), "invalid_syntax");
                assert!(sim.sent().is_empty());
            }
        }
        assert_eq!(sim.nodes[1].endpoint.size(), before);
    }
    // A flood of them is answered at the rate of all such answers.
    for n in 0..100u8 {
        let mut forged = changed(&request, |t| t[0][30] ^= 1);
        forged.bytes[7] ^= n;
        sim.deliver(forged);
    }
    assert!(sim.sent().len() <= 20);
    assert_eq!(sim.nodes[1].endpoint.size(), before);
}

/// An authenticated peer that asks again and again, and one that gives what nobody has asked for.
//= rfc5723#4.1
//= type=test
//# When an IKEv2 responder receives a request for a ticket using the
//# N(TICKET_REQUEST) payload, it MUST perform one of the following
//# operations if it supports the extension defined in this document:
#[test]
fn too_many_tickets() {
    let mut sim = connected(resuming());
    let mut forge = Forge::new(&sim, 0, Role::Initiator);
    sim.manual = true;
    for id in 2..12 {
        let ask = forge.message(ExchangeType::INFORMATIONAL, false, id, |payloads| {
            for _ in 0..20 {
                payloads.notify(&Notify::new(NotifyType::TICKET_REQUEST, &[]));
            }
        });
        sim.deliver(ask);
    }
    let answers: Vec<_> = sim.sent().iter().map(|d| forge.read(d)).collect();
    assert_eq!(answers.len(), 10);
    // One was given in IKE_AUTH.
    for (id, answer) in (2..).zip(&answers) {
        let said = ["N(TICKET_NACK)", "N(TICKET_LT_OPAQUE)"][usize::from(id < 5)];
        assert_eq!(*answer, format!("INFORMATIONAL response {id} {said}"));
    }
    assert_eq!(sim.nodes[1].endpoint.stats().tickets_granted, 4);
    // The gateway is asked by nobody it has itself called, and takes no ticket.
    let mut forge = Forge::new(&sim, 1, Role::Responder);
    let ask = forge.message(ExchangeType::INFORMATIONAL, false, 0, |payloads| {
        payloads
            .notify(&Notify::new(NotifyType::TICKET_REQUEST, &[]))
            .notify(&Notify::new(NotifyType::TICKET_LT_OPAQUE, &[0, 0, 9, 9, 9]));
    });
    let ticket = info(&sim, 0).ticket;
    sim.deliver(ask);
    assert_eq!(info(&sim, 0).ticket, ticket);
    assert!(!info(&sim, 0).ticket_granted);
    assert_eq!(sim.sent().len(), 1);
}

#[test]
fn under_load_a_ticket_needs_a_cookie_but_no_puzzle() {
    let mut pair = resuming();
    pair.west_config.puzzles = Some(PuzzlePolicy {
        threshold: 0,
        difficulty: 20,
    });
    pair.east_config.max_puzzle_difficulty = 0;
    let (mut sim, ticket) = {
        let calm = EndpointConfig {
            puzzles: None,
            ..pair.west_config.clone()
        };
        let busy = std::mem::replace(&mut pair.west_config, calm);
        let (mut sim, ticket) = cut_off(pair, |_| {});
        sim.act(1, |e, _| e.set_config(busy));
        (sim, ticket)
    };
    resume(&mut sim, &ticket);
    sim.run_for(s(65));
    assert_resumed(&sim);
    let stats = sim.nodes[1].endpoint.stats();
    assert_eq!((stats.cookies_sent, stats.puzzles_sent), (1, 0));
}

#[test]
fn other_keys_and_other_identities_are_not_let_in() {
    // A ticket with the keys of another session.
    let mut sim = connected(resuming());
    let first = lose_west(&mut sim).unwrap();
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    let second = lose_west(&mut sim).unwrap();
    sim.manual = true;
    let given_up = resume(&mut sim, &first);
    let request = sim.sent().remove(0);
    sim.act(0, |e, now| e.delete_ike(now, given_up));
    resume(&mut sim, &second);
    let other = sim.sent().remove(0);
    let stolen = {
        let message = Message::parse(&request.bytes).unwrap();
        message.payloads().flatten().find_map(|p| match p {
            Payload::Notify(n) if n.kind == NotifyType::TICKET_OPAQUE => Some(n.data.to_vec()),
            _ => None,
        })
    };
    let stolen = stolen.unwrap();
    sim.deliver(changed(&other, |tickets| tickets[0] = stolen.clone()));
    sim.manual = false;
    for answer in sim.sent() {
        sim.deliver(answer);
    }
    sim.run_for(Duration::from_secs(90));
    assert_eq!(sim.nodes[1].endpoint.ike_sas().count(), 0);
    assert_eq!(sim.nodes[1].endpoint.stats().resumed, 0);
    assert!(
        sim.nodes[1]
            .endpoint
            .stats()
            .dropped(DropReason::IntegrityCheck)
            > 0
    );
}
