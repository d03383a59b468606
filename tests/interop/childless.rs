//! IKE SAs without a child SA in IKE_AUTH (RFC 6023), with strongSwan at either end. The child SA must come by a
//! CREATE_CHILD_SA, and carry traffic.

use std::time::Duration;

use cygnet_tests::{
    Capture, Conf, Daemon, Family, Kind, Packet, Site, Swan, SwanConf, Until, echo_all, within,
};
use cygnet_wire::{ExchangeType, Message, NotifyType, Payload};
use libtest_mimic::Failed;

use crate::Initiator;
use crate::fragmentation::Trial;

/// `childless=` of both ends, and what must come of it.
#[derive(Clone, Copy, Debug)]
struct Case {
    initiator: Initiator,
    ours: &'static str,
    theirs: &'static str,
    comes: Comes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// An IKE SA, and then a child SA.
    Apart,
    /// Both with IKE_AUTH.
    Together,
    /// Nothing; the reason that we give.
    Nothing(&'static str),
}

use Comes::{Apart, Nothing, Together};

/// `childless=` of the initiator and of the responder. In the last column the reasons of ours, as initiator and as
/// responder.
const CASES: [(&str, &str, Comes, Comes); 7] = [
    ("prefer", "allow", Apart, Apart),
    ("force", "force", Apart, Apart),
    ("force", "allow", Apart, Apart),
    ("prefer", "never", Together, Together),
    ("allow", "allow", Together, Together),
    (
        "force",
        "never",
        Nothing("childless_unsupported"),
        // The initiator says nothing more.
        Nothing(""),
    ),
    (
        "allow",
        "force",
        Nothing("invalid_syntax"),
        Nothing("childless_required"),
    ),
];

/// All of them.
pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    for (first, second, begun_by_us, begun_by_them) in CASES {
        for initiator in Initiator::ALL {
            // strongSwan 5.9 does not know the word.
            if initiator == Initiator::StrongSwan && first == "prefer" {
                continue;
            }
            let (ours, theirs, comes) = match initiator {
                Initiator::Cygnet => (first, second, begun_by_us),
                Initiator::StrongSwan => (second, first, begun_by_them),
            };
            let case = Case {
                initiator,
                ours,
                theirs,
                comes,
            };
            let title = format!("childless::{first}_with_{second}::{}", initiator.name());
            trials.push((title, Box::new(move || run(&case).map_err(Failed::from))));
        }
    }
    trials
}

fn run(case: &Case) -> Result<(), String> {
    let site = Site::new();
    let ours = Conf::site(Family::V4)
        .set("ike", "aes_gcm256-sha2_256-dh31")
        .set("esp", "aes_gcm256-dh31")
        .set("childless", case.ours);
    let cygnet = Daemon::running(&site.west, &ours);
    let swan = Swan::start(&site.east);
    let outcome = exchange(case, &site, &cygnet, &swan);
    outcome.map_err(|text| format!("{text}\n{}\n{}", swan.log_tail(), cygnet.log()))
}

fn exchange(case: &Case, site: &Site, cygnet: &Daemon, swan: &Swan) -> Result<(), String> {
    let theirs = SwanConf::site(Family::V4)
        .connection("proposals = aes256gcm16-prfsha256-curve25519")
        .connection(format!("childless = {}", case.theirs))
        .child("esp_proposals = aes256gcm16-curve25519");
    swan.load(&theirs);
    let file = cygnet.dir().join("router.pcap");
    let mut capture = Capture::start(&site.router, Site::TO_WEST, &file);
    let outcome = match case.initiator {
        Initiator::Cygnet => cygnet.cygnet(&["up", "office"]),
        Initiator::StrongSwan => swan.swanctl(&["--initiate", "--child", "net", "--timeout", "20"]),
    };
    if let Nothing(reason) = case.comes {
        return nothing(reason, outcome.ok(), cygnet, swan);
    }
    if !outcome.ok() {
        return Err(format!("{outcome:?}"));
    }
    let established = within(Duration::from_secs(5), || {
        cygnet.packets("office").and_then(|_| swan.child("office"))
    });
    established.ok_or("not up on both ends")?;
    for family in Family::ALL {
        echo_all(site, family, Until::Count(20))?;
    }
    let apart = case.comes == Apart;
    let status = cygnet.status();
    let ikes = status["ike_sas"].as_array().map_or(0, Vec::len);
    if ikes != 1 || status["ike_sas"][0]["childless"] != apart {
        return Err(format!("`cygnet status` says {status}"));
    }
    let packets = capture.until(Duration::from_secs(5), |packets| {
        packets.iter().any(|packet| packet.kind == Kind::Ike)
    });
    let offered = packets.iter().any(offers);
    let creating = packets
        .iter()
        .filter(|packet| exchange_of(packet) == Some(ExchangeType::CREATE_CHILD_SA))
        .count();
    let responder = match case.initiator {
        Initiator::Cygnet => case.theirs,
        Initiator::StrongSwan => case.ours,
    };
    if offered != (responder != "never") || creating != if apart { 2 } else { 0 } {
        return Err(format!(
            "offered: {offered}, messages of CREATE_CHILD_SA: {creating}"
        ));
    }
    Ok(())
}

/// Neither end may be left with anything.
fn nothing(reason: &str, up: bool, cygnet: &Daemon, swan: &Swan) -> Result<(), String> {
    if up || cygnet.packets("office").is_some() || swan.child("office").is_some() {
        return Err("it came up".to_owned());
    }
    let told = cygnet.events("ike_failed");
    let has = |event: &serde_json::Value| event.to_string().contains(reason);
    let expected = match reason {
        "" => told.is_empty(),
        _ => told.iter().any(has),
    };
    if !expected {
        return Err(format!("expected {reason:?}: {told:?}"));
    }
    Ok(())
}

fn message(packet: &Packet) -> Option<Message<'_>> {
    if packet.kind != Kind::Ike {
        return None;
    }
    let payload = &packet.payload;
    Message::parse(payload.strip_prefix(&[0; 4]).unwrap_or(payload)).ok()
}

fn exchange_of(packet: &Packet) -> Option<ExchangeType> {
    Some(message(packet)?.header().exchange)
}

/// Whether it is an IKE_SA_INIT response with the offer.
fn offers(packet: &Packet) -> bool {
    let supported = NotifyType::CHILDLESS_IKEV2_SUPPORTED;
    message(packet).is_some_and(|message| {
        let mut payloads = message.payloads().flatten();
        payloads.any(|payload| matches!(payload, Payload::Notify(n) if n.kind == supported))
    })
}
