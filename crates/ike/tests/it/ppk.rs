//! Post-quantum pre-shared keys: between our own ends, which take the way by IKE_INTERMEDIATE (RFC 9867), and with a peer
//! made by hand that knows the one by IKE_AUTH only (RFC 8784).

use std::sync::Arc;

use cygnet_crypto::{IkeProposal, SecretBytes};
use cygnet_ike::*;
use cygnet_wire::{AuthMethodId, Message, Notify, NotifyType, Payload};

use crate::by_hand::ByHand;
use crate::pair::*;
use crate::sim::Sim;

use PpkPolicy::{Insist, Never, Permit, Propose};

fn ppk(id: &str, key: &str) -> Ppk {
    Ppk {
        id: id.as_bytes().to_vec(),
        key: SecretBytes::copy_from(key.as_bytes()),
    }
}

fn pair(east: PpkPolicy, west: PpkPolicy) -> Pair {
    let mut pair = Pair::default();
    (pair.east.ppk, pair.west.ppk) = (east, west);
    pair.east_ppks = vec![ppk("one", "the first key")];
    pair.west_ppks = vec![ppk("zero", "another"), ppk("one", "the first key")];
    pair
}

fn used(sim: &Sim) -> (bool, bool) {
    let of = |node: usize| {
        sim.nodes[node]
            .endpoint
            .ike_sas()
            .next()
            .expect("an IKE SA")
            .ppk
    };
    (of(0), of(1))
}

fn says(sim: &Sim, what: &str) -> usize {
    sim.trace.iter().filter(|line| line.contains(what)).count()
}

#[test]
fn both_ends_mix_in_what_both_have() {
    for (east, west) in [
        (Propose, Permit),
        (Propose, Insist),
        (Insist, Permit),
        (Insist, Insist),
    ] {
        let sim = run(pair(east, west));
        established(&sim);
        assert_eq!(used(&sim), (true, true), "{east:?} {west:?}");
        assert_eq!(says(&sim, "USE_PPK_INT"), 2);
        assert_eq!(says(&sim, "IKE_INTERMEDIATE"), 2);
    }
}

#[test]
fn with_additional_key_exchanges_the_last_one_names_the_ppk() {
    let mut pair = pair(Propose, Permit);
    let text = "aes256-sha2_256-dh31;addke1=dh19;addke2=ml_kem_768";
    pair.east.proposals = IkeProposal::parse_ipsec_conf(text).unwrap();
    pair.west.proposals = pair.east.proposals.clone();
    let sim = run(pair);
    established(&sim);
    assert_eq!(used(&sim), (true, true));
}

/// What either end wants, who has which key, and what comes of it: the PPK is used, it is not, or a failure of the
/// initiator and the responder.
//= rfc8784#3
//= type=test
//# If the responder did
//# not include the USE_PPK notification and the flag mandatory_or_not
//# indicates that using PPKs is mandatory for communication with this
//# responder, then the initiator MUST abort the exchange.
#[test]
fn who_wants_what_and_what_comes_of_it() {
    type Change = fn(&mut Pair);
    let none: Change = |_| {};
    let unknown: Change = |pair| pair.west_ppks = vec![ppk("two", "the first key")];
    let different: Change = |pair| pair.west_ppks = vec![ppk("one", "not the same")];
    let west_has_none: Change = |pair| pair.west_ppks.clear();
    let east_has_none: Change = |pair| pair.east_ppks.clear();
    let not_this: Change = |pair| pair.west.ppk_ids = vec![b"zero".to_vec()];
    for (east, west, change, outcome) in [
        (Never, Never, none, Ok(false)),
        (Never, Permit, none, Ok(false)),
        (Never, Propose, none, Ok(false)),
        (Permit, Propose, none, Ok(false)),
        (Propose, Never, none, Ok(false)),
        (Propose, Propose, none, Ok(true)),
        (Propose, Permit, unknown, Ok(false)),
        (Propose, Permit, different, Ok(false)),
        (Propose, Permit, west_has_none, Ok(false)),
        (Propose, Permit, east_has_none, Ok(false)),
        (Propose, Permit, not_this, Ok(false)),
        (Insist, Never, none, Err(("ppk_required", ""))),
        (
            Insist,
            Permit,
            unknown,
            Err(("ppk_required", "half_open_timeout")),
        ),
        (Insist, Permit, east_has_none, Err(("no_ppk", ""))),
        (
            Never,
            Insist,
            none,
            Err(("authentication_failed", "ppk_required")),
        ),
        (
            Permit,
            Insist,
            none,
            Err(("authentication_failed", "ppk_required")),
        ),
        (
            Propose,
            Insist,
            unknown,
            Err(("peer_notify", "ppk_required")),
        ),
        (
            Propose,
            Insist,
            different,
            Err(("peer_notify", "ppk_required")),
        ),
    ] {
        let mut pair = pair(east, west);
        change(&mut pair);
        let mut sim = run(pair);
        let what = format!("{east:?} {west:?} {outcome:?}");
        match outcome {
            Ok(ppk) => {
                established(&sim);
                assert_eq!(used(&sim), (ppk, ppk), "{what}");
            }
            Err((of_east, of_west)) => {
                sim.run_for(s(40));
                assert_eq!(ike_failure(&sim, 0).name(), of_east, "{what}");
                if !of_west.is_empty() {
                    assert_eq!(ike_failure(&sim, 1).name(), of_west, "{what}");
                }
                assert_eq!(sim.nodes[0].endpoint.size(), 0, "{what}");
            }
        }
    }
}

/// A child SA of a configuration that insists on a PPK is not to be had under an IKE SA without one.
#[test]
fn what_insists_on_a_ppk_is_not_shared_with_what_has_none() {
    for insists in [false, true] {
        let pair = pair(Never, Never);
        let mut secret = pair.west.clone();
        secret.name = "secret".to_owned();
        let child =
            |name: &str, local, remote| ChildConfig::new(name, vec![net(local)], vec![net(remote)]);
        secret.children = vec![Arc::new(child("secret", "10.9.0.0/16", "10.1.0.0/16"))];
        if insists {
            secret.ppk = Insist;
        }
        let mut sim = pair.sim(1);
        let mut book = (*sim.nodes[1].book).clone();
        book.peers.push(Arc::new(secret));
        sim.nodes[1].endpoint.set_directory(Arc::new(book));
        let ike = sim.initiate(0, WEST);
        sim.run_for(s(1));
        established(&sim);
        let config = Arc::new(child("secret", "10.1.0.0/16", "10.9.0.0/16"));
        let request = ChildRequest {
            config,
            acquire: None,
        };
        sim.act(0, |endpoint, now| endpoint.create_child(now, ike, request));
        sim.run_for(s(1));
        let made = sim.nodes[1].endpoint.child_sas().count();
        assert_eq!(made, if insists { 1 } else { 2 });
    }
}

const ID_EAST: &str = "east.example.com";
const ID_WEST: &str = "west.example.com";

/// A pair of which one end is to be replaced by hand.
fn with_one_by_hand(east: PpkPolicy, west: PpkPolicy) -> Sim {
    let mut pair = pair(east, west);
    ByHand::suit(&mut pair);
    pair.sim(1)
}

fn notified(message: &[u8], kind: NotifyType) -> bool {
    let message = Message::parse(message).unwrap();
    let mut payloads = message.payloads().map(Result::unwrap);
    payloads.any(|payload| matches!(payload, Payload::Notify(notify) if notify.kind == kind))
}

/// What west answers in IKE_AUTH to an initiator that has agreed on USE_PPK, names this PPK, uses its content, and proves
/// itself without it besides, or does not.
fn asked_by_hand(policy: PpkPolicy, named: Option<&str>, without: bool) -> (Sim, String) {
    let mut sim = with_one_by_hand(Propose, policy);
    let mut east = ByHand::initiator(&mut sim, &[NotifyType::USE_PPK]);
    assert!(notified(&east.answer, NotifyType::USE_PPK));
    let plain = east.auth(east.sk_p(), ID_EAST);
    let auth = match named {
        Some(_) => east.auth(&east.sk_p().with_ppk(b"the first key"), ID_EAST),
        None => plain.clone(),
    };
    let answers = east.authenticate(&mut sim, ID_EAST, &auth, |payloads| {
        if let Some(id) = named {
            let data = [&[2], id.as_bytes()].concat();
            payloads.notify(&Notify::new(NotifyType::PPK_IDENTITY, &data));
        }
        if without {
            payloads.notify(&Notify::new(NotifyType::NO_PPK_AUTH, plain.as_ref()));
        }
    });
    let answer = east.forge.read(&answers[0]);
    (sim, answer)
}

//= rfc8784#3
//= type=test
//# sends back
//# a response, which includes the PPK_IDENTITY notification with no data
//# to indicate that the PPK is used in the exchange
//= rfc8784#3
//= type=test
//# If no PPK_IDENTITY notification is
//# found and the peers successfully exchanged USE_PPK notifications in
//# the IKE_SA_INIT exchange, then the responder MUST send back an
//# AUTHENTICATION_FAILED notification and then fail the negotiation.
//= rfc8784#3
//= type=test
//# If using PPKs is mandatory
//# or no NO_PPK_AUTH notification is found, then the responder MUST send
//# back an AUTHENTICATION_FAILED notification and then fail the
//# negotiation.
#[test]
fn a_responder_to_whom_ike_auth_names_the_ppk() {
    let refused = "IKE_AUTH response 1 N(AUTHENTICATION_FAILED)";
    for (policy, named, without, outcome) in [
        (Permit, Some("one"), false, Ok(true)),
        (Insist, Some("one"), true, Ok(true)),
        (Permit, Some("unknown"), true, Ok(false)),
        (Permit, Some("unknown"), false, Err("ppk_unknown")),
        (Insist, Some("unknown"), true, Err("ppk_required")),
        (Insist, Some("unknown"), false, Err("ppk_unknown")),
        // Named it must be, even where it could do without.
        (Permit, None, false, Err("ppk_required")),
        (Permit, None, true, Err("ppk_required")),
        (Insist, None, true, Err("ppk_required")),
    ] {
        let (sim, answer) = asked_by_hand(policy, named, without);
        let what = format!("{policy:?} {named:?} {without} {answer}");
        match outcome {
            Ok(used) => {
                assert_eq!(answer.contains("N(PPK_IDENTITY)"), used, "{what}");
                assert_eq!(only(&sim, 1).ppk, used, "{what}");
            }
            Err(reason) => {
                assert_eq!(answer, refused, "{what}");
                assert_eq!(ike_failure(&sim, 1).name(), reason, "{what}");
                assert_eq!(sim.nodes[1].endpoint.ike_sas().count(), 0);
            }
        }
    }
}

/// East with a responder that knows USE_PPK: what east's IKE_AUTH request says, and east after an answer that uses the PPK,
/// whatever it says of that, or does not.
fn answered_by_hand(policy: PpkPolicy, confirms: Option<&[u8]>) -> (Sim, String) {
    let mut sim = with_one_by_hand(policy, Permit);
    sim.manual = true;
    sim.initiate(0, WEST);
    let request = sim.sent().remove(0);
    assert!(notified(&request.bytes, NotifyType::USE_PPK));
    let mut west = ByHand::responder(&mut sim, &request, &[NotifyType::USE_PPK]);
    sim.run_for(s(0));
    let said = west.forge.read(&sim.sent()[0]);
    let auth = match confirms {
        Some(_) => west.auth(&west.sk_p().with_ppk(b"the first key"), ID_WEST),
        None => west.auth(west.sk_p(), ID_WEST),
    };
    let then = west.authenticate(&mut sim, ID_WEST, &auth, |payloads| {
        if let Some(data) = confirms {
            payloads.notify(&Notify::new(NotifyType::PPK_IDENTITY, data));
        }
        payloads.notify(&Notify::new(NotifyType::TS_UNACCEPTABLE, &[]));
    });
    let then: Vec<_> = then.iter().map(|sent| west.forge.read(sent)).collect();
    (sim, [said, then.join(" ")].join(" / "))
}

//= rfc8784#3
//= type=test
//# If the initiator is configured to use a PPK with the responder
//# (whether or not the use of the PPK is mandatory), then it MUST
//# include a notification USE_PPK in the IKE_SA_INIT request message
//= rfc8784#3
//= type=test
//# if using PPKs for communication with this
//# responder is optional for the initiator (based on the
//# mandatory_or_not flag), then the initiator MUST include a NO_PPK_AUTH
//# notification in the above message.
//= rfc8784#3
//= type=test
//# If it receives one, it marks the
//# SA as using the configured PPK to generate SK_d, SK_pi, and SK_pr (as
//# shown above); the content of the received PPK_IDENTITY (if any) MUST
//# be ignored.
//= rfc8784#3
//= type=test
//# If the initiator does not receive the PPK_IDENTITY, it MUST either
//# fail the IKE SA negotiation sending the AUTHENTICATION_FAILED
//# notification in the INFORMATIONAL exchange (if the PPK was configured
//# as mandatory) or continue without using the PPK (if the PPK was not
//# configured as mandatory and the initiator included the NO_PPK_AUTH
//# notification in the request).
#[test]
fn an_initiator_that_names_the_ppk_in_ike_auth() {
    for policy in [Propose, Insist] {
        for content in [&b""[..], b"\x02one", b"\x02zero", b"\x01", &[0xff; 300]] {
            let (sim, said) = answered_by_hand(policy, Some(content));
            assert!(said.contains("N(PPK_IDENTITY)"), "{said}");
            assert_eq!(said.contains("N(NO_PPK_AUTH)"), policy == Propose, "{said}");
            assert!(only(&sim, 0).ppk, "{policy:?} {content:x?}");
        }
    }
    let (sim, _) = answered_by_hand(Propose, None);
    assert!(!only(&sim, 0).ppk);
    let (sim, said) = answered_by_hand(Insist, None);
    assert_eq!(ike_failure(&sim, 0).name(), "ppk_required");
    let refused = " / INFORMATIONAL request 2 N(AUTHENTICATION_FAILED)";
    assert!(said.ends_with(refused), "{said}");
}

//= rfc8784#3
//= type=test
//# Since the Auth Method field is not present in the notification, the
//# authentication method used for computing the authentication data MUST
//# be the same as the method indicated in the AUTH payload.
#[test]
fn what_proves_an_identity_without_the_ppk_is_of_the_same_method() {
    for method in [AuthMethodId::SHARED_KEY, AuthMethodId::RSA_SIGNATURE] {
        let mut sim = with_one_by_hand(Propose, Permit);
        let mut east = ByHand::initiator(&mut sim, &[NotifyType::USE_PPK]);
        east.method = method;
        let plain = east.auth(east.sk_p(), ID_EAST);
        east.authenticate(&mut sim, ID_EAST, &plain, |payloads| {
            payloads
                .notify(&Notify::new(NotifyType::PPK_IDENTITY, b"\x02unknown"))
                .notify(&Notify::new(NotifyType::NO_PPK_AUTH, plain.as_ref()));
        });
        let accepted = sim.nodes[1].endpoint.ike_sas().count() == 1;
        assert_eq!(accepted, method == AuthMethodId::SHARED_KEY);
    }
}
