//! An authenticated peer that is hostile: memory and work stay bounded, each refusal has its reason, and another peer's SAs
//! are not harmed.
//!
//! | what it sends | tests |
//! |---|---|
//! | absurd selectors, EAP, floods of notifications | here |
//! | thousands of child SAs, storms of renewals, key exchanges of a wrong length | here, and `collisions::rules` |
//! | endless fragments | here, and `fragmentation` |
//! | messages that are none | `informational`, `hostile` |
//! | requests for Message IDs and sequence numbers | `message_id_sync`, `replay_counter_sync` |
//! | puzzles, tokens, tickets, redirects, addresses, streams | `puzzles`, `crash_detection`, `resumption`, `redirect`, `mobike`, `tcp` |

use std::net::IpAddr;
use std::sync::Arc;

use cygnet_crypto::EspProposal;
use cygnet_ike::*;
use cygnet_wire::limits::MAX_FRAGMENTS;
use cygnet_wire::*;

use crate::forge::Forge;
use crate::pair::*;
use crate::sim::{Book, Datagram, Sim};

const CREATE_CHILD_SA: ExchangeType = ExchangeType::CREATE_CHILD_SA;
const INFORMATIONAL: ExchangeType = ExchangeType::INFORMATIONAL;

/// A peer of west that does no harm, node 2.
const NORTH: &str = "192.0.2.3";

/// East is the hostile end; the Message IDs of its requests go on from 2.
struct Hostile {
    sim: Sim,
    east: Forge,
    next: u32,
}

impl Hostile {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Pair)) -> Self {
        let mut pair = Pair::default();
        pair.east_config.key_log = true;
        change(&mut pair);
        let mut sim = pair.sim(1);
        add_north(&mut sim);
        sim.initiate(0, WEST);
        sim.initiate(2, WEST);
        sim.run_for(s(1));
        assert_eq!(sim.nodes[1].plane.installed.len(), 2);
        sim.nodes[1].events.clear();
        sim.manual = true;
        let east = Forge::new(&sim, 0, Role::Initiator);
        Self { sim, east, next: 2 }
    }

    /// Sends a request; what is answered.
    #[track_caller]
    fn says(
        &mut self,
        exchange: ExchangeType,
        write: impl FnOnce(&mut PayloadWriter<'_>),
    ) -> String {
        let request = self.east.message(exchange, false, self.next, write);
        self.next += 1;
        self.sim.deliver(request);
        self.sim.run_for(s(0));
        self.sim.trace.clear();
        self.sim.transcript.clear();
        let sent: Vec<Datagram> = self.sim.sent();
        assert_eq!(sent.len(), 1, "one answer, and nothing else");
        self.east.read(&sent[0])
    }

    #[track_caller]
    fn asks_for(&mut self, ours: &[SelectorEntry<'_>], theirs: &[SelectorEntry<'_>]) -> String {
        let spi = Spi(0x7000 + self.next);
        self.says(CREATE_CHILD_SA, |payloads| {
            payloads
                .sa(&[Proposal::esp(1, spi, transforms())])
                .nonce(&[7; 32])
                .ts_i_entries(ours)
                .ts_r_entries(theirs);
        })
    }

    /// What west has with the peer at `address`.
    fn of(&self, address: &str) -> IkeSaInfo {
        let address: IpAddr = address.parse().unwrap();
        let mut all = self.sim.nodes[1].endpoint.ike_sas();
        all.find(|ike| ike.remote.ip() == address)
            .expect("an IKE SA with it")
    }

    /// The names of the reasons that west has told since it was asked last.
    fn reasons(&mut self) -> Vec<&'static str> {
        let events = std::mem::take(&mut self.sim.nodes[1].events);
        let reason = |event: &Event| match event {
            Event::ChildFailed { reason, .. } | Event::ChildRekeyFailed { reason, .. } => {
                reason.name()
            }
            Event::IkeRekeyFailed { reason, .. } => reason.name(),
            other => other.name(),
        };
        events.iter().map(reason).collect()
    }

    /// The IKE SA and its child SA are as they were, and nothing is left over.
    #[track_caller]
    fn is_unharmed(&mut self) {
        let west = &self.sim.nodes[1];
        let ike = self.of(EAST);
        assert_eq!(
            (ike.state, ike.children.len()),
            (IkeSaState::Established, 1)
        );
        assert_eq!(west.plane.installed.len(), 2);
        assert!(west.plane.reserved.is_empty());
        let answer = self.says(INFORMATIONAL, |_| {});
        assert_eq!(answer, format!("INFORMATIONAL response {}", self.next - 1));
        self.north_is_unharmed();
    }

    /// The other peer's SAs are, and it is answered.
    #[track_caller]
    fn north_is_unharmed(&mut self) {
        let before = only(&self.sim, 2);
        assert_eq!(self.of(NORTH).children.len(), 1);
        self.sim
            .act(2, |endpoint, now| endpoint.check_liveness(now, before.id));
        self.sim.exchange();
        self.sim.exchange();
        assert!(self.sim.sent().is_empty());
        let after = only(&self.sim, 2);
        assert_eq!(after.state, IkeSaState::Established);
        assert_eq!(after.next_request, before.next_request + 1);
        assert_eq!(self.of(NORTH).next_peer_request, after.next_request);
        assert_eq!(self.sim.nodes[2].plane.installed.len(), 1);
    }
}

/// A third gateway with 10.3.0.0/16, which west knows too.
fn add_north(sim: &mut Sim) {
    let (west, north): (Identity, Identity) = (
        "@west.example.com".parse().unwrap(),
        "@north.example.com".parse().unwrap(),
    );
    let child = |local, remote| ChildConfig::new("north", vec![net(local)], vec![net(remote)]);
    let peer = |local: &Identity, remote: &Identity, child: ChildConfig| {
        let mut peer = (*sim.nodes[1].book.peers[0]).clone();
        peer.name = "north".to_owned();
        peer.local_id = local.clone();
        peer.remote_id = PeerIdentity::Exactly(remote.clone());
        peer.children = vec![Arc::new(child)];
        Arc::new(peer)
    };
    let mut book = (*sim.nodes[1].book).clone();
    book.peers
        .push(peer(&west, &north, child("10.2.0.0/16", "10.3.0.0/16")));
    let key = b"another good secret".to_vec();
    book.psks.push((west.clone(), north.clone(), key.clone()));
    let of_north = Book {
        peers: vec![peer(&north, &west, child("10.3.0.0/16", "10.2.0.0/16"))],
        psks: vec![(north, west, key)],
        ppks: Vec::new(),
    };
    sim.nodes[1].endpoint.set_directory(Arc::new(book));
    sim.add("north", NORTH, EndpointConfig::default(), of_north);
}

fn transforms() -> Vec<Transform> {
    vec![
        Transform::encr(EncrId::AES_GCM_16, Some(256)),
        Transform::esn(EsnId(0)),
        Transform::esn(EsnId(1)),
    ]
}

fn range(start: &str, end: &str) -> TrafficSelector {
    TrafficSelector::addresses(start.parse().unwrap(), end.parse().unwrap())
}

#[test]
fn absurd_selectors_make_no_child_sa() {
    let all = range("0.0.0.0", "255.255.255.255");
    let nothing = range("255.255.255.255", "0.0.0.0");
    let no_port = TrafficSelector {
        start_port: 5,
        end_port: 4,
        ..all
    };
    // ICMP with the code before the type, and "opaque" ports of a protocol that has some (RFC 7296 §3.13.1).
    let no_type = TrafficSelector {
        protocol: 1,
        start_port: 0xff00,
        end_port: 0,
        ..all
    };
    let six = range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    let elsewhere = range("203.0.113.1", "203.0.113.2");
    let ip = SelectorEntry::Ip;
    let unknown = SelectorEntry::Other {
        ts_type: TsType(200),
        protocol: 255,
        data: &[0xff; 100],
    };
    let cases: Vec<(&str, Vec<SelectorEntry<'_>>, Vec<SelectorEntry<'_>>)> = vec![
        (
            "empty ranges",
            vec![ip(nothing); 255],
            vec![ip(nothing); 255],
        ),
        ("one end empty", vec![ip(all)], vec![ip(nothing)]),
        ("no port", vec![ip(no_port)], vec![ip(all)]),
        ("no ICMP type", vec![ip(all)], vec![ip(no_type)]),
        ("two families", vec![ip(all)], vec![ip(six)]),
        (
            "elsewhere",
            vec![ip(elsewhere); 255],
            vec![ip(elsewhere); 255],
        ),
        ("of no known type", vec![unknown; 255], vec![unknown; 255]),
        ("one end of no known type", vec![ip(all)], vec![unknown]),
    ];
    let mut hostile = Hostile::new();
    for (what, ours, theirs) in cases {
        let answer = hostile.asks_for(&ours, &theirs);
        assert!(answer.ends_with("N(TS_UNACCEPTABLE)"), "{what}: {answer}");
        assert_eq!(hostile.reasons(), ["ts_unacceptable"], "{what}");
        hostile.is_unharmed();
    }
}

/// Every pair of addresses once, as many as a message has room for: the answer is what is configured, not their product.
#[test]
fn hundreds_of_selectors_are_narrowed_to_what_is_configured() {
    let mut hostile = Hostile::new();
    let (local, remote) = (
        range("10.2.0.0", "10.2.255.255"),
        range("10.1.0.0", "10.1.255.255"),
    );
    let mut many = vec![SelectorEntry::Ip(remote); 200];
    many.extend([SelectorEntry::Ip(range("0.0.0.0", "255.255.255.255")); 55]);
    let answer = hostile.asks_for(&many, &vec![SelectorEntry::Ip(local); 255]);
    assert!(answer.contains(" SA Nonce TSi TSr"), "{answer}");
    let west = &hostile.sim.nodes[1];
    let of_east: Vec<_> = west
        .endpoint
        .child_sas()
        .filter(|info| info.remote.ip().to_string() == EAST)
        .collect();
    assert_eq!(of_east.len(), 2);
    for info in of_east {
        assert_eq!(
            (&info.ts_local[..], &info.ts_remote[..]),
            (&[local][..], &[remote][..])
        );
    }
    hostile.north_is_unharmed();
}

/// There is no EAP: neither in place of AUTH nor afterwards.
#[test]
fn eap_leads_nowhere() {
    let mut hostile = Hostile::new();
    let before = hostile.sim.nodes[1].events.len();
    for id in 0..200_u32 {
        let octets = [2, id as u8, 0, 6, 1, 0x61];
        let message =
            hostile
                .east
                .message(ExchangeType::IKE_AUTH, false, hostile.next, |payloads| {
                    payloads.eap(&octets);
                });
        hostile.sim.deliver(message);
        assert!(hostile.sim.sent().is_empty());
    }
    hostile.is_unharmed();
    assert_eq!(hostile.sim.nodes[1].events.len(), before);
    let stats = hostile.sim.nodes[1].endpoint.stats();
    assert_eq!(stats.dropped(DropReason::UnexpectedExchange), 200);
}

/// Every notification that there is, and many that there are not, as long as a message may be.
//= rfc7296#1.4
//= type=test
//# Messages in an INFORMATIONAL exchange contain zero or more
//# Notification, Delete, and Configuration payloads.  The recipient of
//# an INFORMATIONAL exchange request MUST send some response; otherwise,
//# the sender will assume the message was lost in the network and will
//# retransmit it.  That response MAY be an empty message.
#[test]
fn floods_of_notifications() {
    let mut hostile = Hostile::new();
    let before = hostile.sim.nodes[1].events.len();
    // What ends or moves an IKE SA when its peer says so.
    let meant = [
        NotifyType::INVALID_SYNTAX,
        NotifyType::AUTHENTICATION_FAILED,
        NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD,
        NotifyType::UPDATE_SA_ADDRESSES,
        NotifyType::REDIRECT,
    ];
    let mut kinds = (0..60_000_u16)
        .map(NotifyType)
        .filter(|kind| !meant.contains(kind));
    for _ in 0..600 {
        let some: Vec<NotifyType> = kinds.by_ref().take(100).collect();
        let answer = hostile.says(INFORMATIONAL, |payloads| {
            for kind in &some {
                payloads.notify(&Notify::new(*kind, &[0xff; 24]));
            }
        });
        assert!(answer.starts_with("INFORMATIONAL response"), "{answer}");
    }
    hostile.is_unharmed();
    // Errors are below 16384: 164 messages, four events each; of the others few mean anything.
    let told = hostile.sim.nodes[1].events.len() - before;
    assert!(told <= 4 * 164 + 8, "{told}");
}

const OURS: (&str, &str) = ("10.1.0.0", "10.1.255.255");
const THEIRS: (&str, &str) = ("10.2.0.0", "10.2.255.255");

#[test]
fn thousands_of_child_sas_come_to_an_end() {
    let mut hostile = Hostile::new();
    let ours = [SelectorEntry::Ip(range(OURS.0, OURS.1))];
    let theirs = [SelectorEntry::Ip(range(THEIRS.0, THEIRS.1))];
    let limit = EndpointConfig::default().max_children;
    let (mut made, mut refused) = (0, 0);
    for _ in 0..3000 {
        let answer = hostile.asks_for(&ours, &theirs);
        match answer.ends_with("N(NO_ADDITIONAL_SAS)") {
            true => refused += 1,
            false => made += 1,
        }
    }
    assert_eq!((made + 1, made + refused), (limit, 3000));
    let reasons = hostile.reasons();
    let told = reasons.iter().filter(|name| **name == "too_many_children");
    assert_eq!(told.count(), refused);
    let west = &hostile.sim.nodes[1];
    assert_eq!(west.plane.installed.len(), limit + 1);
    assert!(west.plane.reserved.is_empty());
    // What is refused costs the plane nothing.
    assert_eq!(west.plane.next_spi as usize, limit + 1);
    assert_eq!(west.endpoint.size(), 2);
    hostile.north_is_unharmed();
}

#[test]
fn storms_of_renewals_are_put_off() {
    let mut hostile = Hostile::new();
    let before = hostile.sim.nodes[1].plane.next_spi;
    let mut old = Spi(hostile.sim.nodes[0]
        .plane
        .installed
        .values()
        .next()
        .unwrap()
        .spi_in);
    let (mut made, mut put_off) = (0, 0);
    for n in 0..2000 {
        let new = Spi(0x7000 + n);
        let answer = hostile.says(CREATE_CHILD_SA, |payloads| {
            payloads
                .notify(&Notify {
                    protocol: ProtocolId::ESP,
                    spi: &old.0.to_be_bytes(),
                    kind: NotifyType::REKEY_SA,
                    data: &[],
                })
                .sa(&[Proposal::esp(1, new, transforms())])
                .nonce(&[7; 32])
                .ts_i(&[range(OURS.0, OURS.1)])
                .ts_r(&[range(THEIRS.0, THEIRS.1)]);
        });
        if answer.ends_with("N(TEMPORARY_FAILURE)") {
            put_off += 1;
            continue;
        }
        made += 1;
        hostile.says(INFORMATIONAL, |payloads| {
            payloads.delete(ProtocolId::ESP, &[old]);
        });
        hostile.sim.run_for(s(0));
        old = new;
    }
    assert_eq!(made + put_off, 2000);
    let west = &hostile.sim.nodes[1];
    let work = west.plane.next_spi - before;
    assert_eq!(work, made);
    assert!(
        u64::from(made) <= 2 * EndpointConfig::default().max_children as u64,
        "{made}"
    );
    let reasons = hostile.reasons();
    assert!(reasons.len() <= 3 * made as usize, "{}", reasons.len());
    hostile.is_unharmed();
}

#[test]
fn key_exchanges_of_a_wrong_length_make_nothing() {
    let mut hostile = Hostile::with(|pair| {
        let esp = EspProposal::parse_ipsec_conf("aes_gcm_16_256-dh31").unwrap();
        (pair.east_child.proposals, pair.west_child.proposals) = (esp.clone(), esp);
    });
    let before = hostile.sim.nodes[1].plane.next_spi;
    let x25519 = KeId(31);
    for len in [0, 1, 31, 33, 1184, 60_000] {
        let mut with_key = transforms();
        with_key.push(Transform::ke(x25519));
        let answer = hostile.says(CREATE_CHILD_SA, |payloads| {
            payloads
                .sa(&[Proposal::esp(1, Spi(0x7777), with_key)])
                .nonce(&[7; 32])
                .ke(x25519, &vec![9; len])
                .ts_i(&[range(OURS.0, OURS.1)])
                .ts_r(&[range(THEIRS.0, THEIRS.1)]);
        });
        assert!(answer.ends_with("N(NO_PROPOSAL_CHOSEN)"), "{len}: {answer}");
        assert_eq!(hostile.reasons(), ["key_exchange_failed"], "{len}");
        hostile.is_unharmed();
    }
    assert_eq!(hostile.sim.nodes[1].plane.next_spi, before);
}

#[test]
fn endless_fragments_cost_little() {
    let mut hostile = Hostile::with(|pair| pair.west_config.max_datagram = 20_000);
    let part = [1; 1000];
    let dropped = |hostile: &Hostile, reason| {
        let stats = hostile.sim.nodes[1].endpoint.stats();
        stats.dropped(reason)
    };
    let mut most = 0;
    for round in 0..20 {
        // Never the first one, ever more of them, and messages that never become whole.
        for number in 2..=MAX_FRAGMENTS {
            let of = (INFORMATIONAL, false, hostile.next);
            let total = [MAX_FRAGMENTS, MAX_FRAGMENTS.min(number + round)][usize::from(round % 2)];
            let fragment = hostile
                .east
                .fragment(of, (number, total), PayloadType::NONE, &part);
            hostile.sim.deliver(fragment);
            most = most.max(hostile.sim.nodes[1].endpoint.reassembling());
        }
        assert!(hostile.sim.sent().is_empty());
    }
    assert!(most < 22_000, "{most}");
    assert!(dropped(&hostile, DropReason::TooLong) > 0);
    assert!(dropped(&hostile, DropReason::FragmentMismatch) > 0);
    assert_eq!(hostile.reasons(), [""; 0]);
    hostile.sim.run_for(s(31));
    assert_eq!(hostile.sim.nodes[1].endpoint.reassembling(), 0);
    hostile.is_unharmed();
}
