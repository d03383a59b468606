//! An authenticated peer that is hostile: memory and work stay bounded, each refusal has its reason, and other SAs are
//! not harmed.
//!
//! | what it sends | tests |
//! |---|---|
//! | absurd selectors, EAP, floods of notifications | here |
//! | thousands of child SAs, storms of renewals, key exchanges of a wrong length | `collisions::rules` |
//! | endless fragments | `fragmentation` |
//! | messages that are none | `informational`, `hostile` |
//! | requests for Message IDs and sequence numbers | `message_id_sync`, `replay_counter_sync` |
//! | puzzles, tokens, tickets, redirects, addresses, streams | `puzzles`, `crash_detection`, `resumption`, `redirect`, `mobike`, `tcp` |

use cygnet_ike::*;
use cygnet_wire::*;

use crate::forge::Forge;
use crate::pair::*;
use crate::sim::{Datagram, Sim};

const CREATE_CHILD_SA: ExchangeType = ExchangeType::CREATE_CHILD_SA;
const INFORMATIONAL: ExchangeType = ExchangeType::INFORMATIONAL;

/// East is the hostile end; the Message IDs of its requests go on from 2.
struct Hostile {
    sim: Sim,
    east: Forge,
    next: u32,
}

impl Hostile {
    fn new() -> Self {
        let mut pair = Pair::default();
        pair.east_config.key_log = true;
        let mut sim = run(pair);
        established(&sim);
        sim.manual = true;
        let east = Forge::new(&sim, 0, Role::Initiator);
        Self { sim, east, next: 2 }
    }

    /// Sends a request; what is answered.
    fn says(
        &mut self,
        exchange: ExchangeType,
        write: impl FnOnce(&mut PayloadWriter<'_>),
    ) -> String {
        let request = self.east.message(exchange, false, self.next, write);
        self.next += 1;
        self.sim.deliver(request);
        self.sim.run_for(s(0));
        let sent: Vec<Datagram> = self.sim.sent();
        assert_eq!(sent.len(), 1, "one answer, and nothing else");
        self.east.read(&sent[0])
    }

    fn asks_for(&mut self, ours: &[SelectorEntry<'_>], theirs: &[SelectorEntry<'_>]) -> String {
        let transforms = vec![
            Transform::encr(EncrId::AES_GCM_16, Some(256)),
            Transform::esn(EsnId(0)),
            Transform::esn(EsnId(1)),
        ];
        let spi = Spi(0x7000 + self.next);
        self.says(CREATE_CHILD_SA, |payloads| {
            payloads
                .sa(&[Proposal::esp(1, spi, transforms)])
                .nonce(&[7; 32])
                .ts_i_entries(ours)
                .ts_r_entries(theirs);
        })
    }

    /// The IKE SA and its child SA are as they were, and nothing is left over.
    #[track_caller]
    fn is_unharmed(&mut self) {
        let west = &self.sim.nodes[1];
        assert_eq!(only(&self.sim, 1).state, IkeSaState::Established);
        assert_eq!(west.endpoint.child_sas().count(), 1);
        assert_eq!(west.plane.installed.len(), 1);
        assert!(west.plane.reserved.is_empty());
        let answer = self.says(INFORMATIONAL, |_| {});
        assert_eq!(answer, format!("INFORMATIONAL response {}", self.next - 1));
    }
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
        hostile.is_unharmed();
    }
}

/// Every pair of addresses once, as many as a message has room for: the answer is what is configured, not their product.
#[test]
fn hundreds_of_selectors_are_narrowed_to_what_is_configured() {
    let mut hostile = Hostile::new();
    let child = child(&hostile.sim, 1);
    let (local, remote) = (child.ts_local[0], child.ts_remote[0]);
    let mut many = vec![SelectorEntry::Ip(remote); 200];
    many.extend([SelectorEntry::Ip(range("0.0.0.0", "255.255.255.255")); 55]);
    let answer = hostile.asks_for(&many, &vec![SelectorEntry::Ip(local); 255]);
    assert!(answer.contains(" SA Nonce TSi TSr"), "{answer}");
    let west = &hostile.sim.nodes[1];
    for info in west.endpoint.child_sas() {
        assert_eq!(
            (&info.ts_local[..], &info.ts_remote[..]),
            (&[local][..], &[remote][..])
        );
    }
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
