//! IKE fragmentation (RFC 7383) with strongSwan: each end puts together what the other has cut up.

use std::net::IpAddr;
use std::time::Duration;

use cygnet_tests::{
    Capture, Conf, Daemon, Family, Kind, Need, Packet, Site, Swan, SwanConf, ready, try_run, within,
};
use cygnet_wire::{ExchangeType, Message, Payload};
use libtest_mimic::Failed;

use crate::Initiator;

/// A test by its name.
pub type Trial = (String, Box<dyn FnOnce() -> Result<(), Failed> + Send>);

/// What a test sets up, and what must have been on the wire.
#[derive(Clone, Copy, Debug)]
struct Case {
    initiator: Initiator,
    outer: Family,
    /// `fragmentation=` of ours, and of the peer.
    ours: &'static str,
    theirs: &'static str,
    /// Octets of the longest datagrams of both.
    size: u16,
    /// Octets of the longest datagram that the router lets through.
    passes: Option<u16>,
}

/// All of them.
pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    let mut add = |title: String, case: Case, check: fn(&Case, &Seen) -> Result<(), String>| {
        trials.push((
            title,
            Box::new(move || run(&case, check).map_err(Failed::from)),
        ));
    };
    for initiator in Initiator::ALL {
        for outer in Family::ALL {
            let case = Case {
                initiator,
                outer,
                ours: "yes",
                theirs: "yes",
                size: 300,
                passes: None,
            };
            let title = |what| {
                format!(
                    "fragmentation::{what}::{}::{}",
                    initiator.name(),
                    outer.name()
                )
            };
            add(title("both"), case, both_fragment);
            let forced = Case {
                ours: "force",
                size: 1280,
                ..case
            };
            add(title("forced"), forced, we_fragment_all);
            let unwanted = Case {
                theirs: "no",
                ..case
            };
            add(title("unwanted"), unwanted, nobody_fragments);
            let accepted = Case {
                ours: "accept",
                ..case
            };
            add(title("accepted"), accepted, they_fragment);
        }
    }
    let narrow = Case {
        initiator: Initiator::Cygnet,
        outer: Family::V4,
        ours: "yes",
        theirs: "yes",
        size: 1280,
        passes: Some(576),
    };
    add(
        "fragmentation::narrow_path::cygnet_initiates::ipv4".to_owned(),
        narrow,
        we_try_smaller,
    );
    trials
}

/// A message on the wire.
#[derive(Clone, Copy, Debug)]
struct Sent {
    ours: bool,
    exchange: ExchangeType,
    response: bool,
    /// Octets of the IP datagram.
    len: usize,
    /// Number and total.
    fragment: Option<(u16, u16)>,
}

/// What was on the wire, in order.
#[derive(Debug)]
struct Seen(Vec<Sent>);

impl Seen {
    fn new(case: &Case, packets: &[Packet]) -> Self {
        let us: IpAddr = Site::west_outer(case.outer);
        let ike = packets.iter().filter(|p| p.kind == Kind::Ike);
        let all = ike.filter_map(|packet| {
            let bytes = packet
                .payload
                .strip_prefix(&[0; 4])
                .unwrap_or(&packet.payload);
            let message = Message::parse(bytes).ok()?;
            let header = message.header();
            let headers = 8 + if us.is_ipv4() { 20 } else { 40 };
            let fragment = message
                .payloads()
                .flatten()
                .find_map(|payload| match payload {
                    Payload::Skf(skf) => Some((skf.number, skf.total)),
                    _ => None,
                });
            Some(Sent {
                ours: packet.source == Some(us),
                exchange: header.exchange,
                response: header.flags.response,
                len: packet.payload.len() + headers,
                fragment,
            })
        });
        Self(all.collect())
    }

    /// How many fragments one end has sent in IKE_AUTH.
    fn in_auth(&self, ours: bool) -> usize {
        let auth = |m: &&Sent| m.exchange == ExchangeType::IKE_AUTH && m.ours == ours;
        self.0
            .iter()
            .filter(auth)
            .filter(|m| m.fragment.is_some())
            .count()
    }

    fn need(&self, holds: bool, what: &str) -> Result<(), String> {
        if holds {
            Ok(())
        } else {
            Err(format!("{what}: {self:#?}"))
        }
    }
}

fn both_fragment(case: &Case, seen: &Seen) -> Result<(), String> {
    let limit = usize::from(case.size);
    let long = |m: &&Sent| m.exchange != ExchangeType::IKE_SA_INIT && m.len > limit;
    seen.need(seen.in_auth(true) >= 2, "not fragmented by us")?;
    seen.need(seen.in_auth(false) >= 2, "not fragmented by the peer")?;
    seen.need(seen.0.iter().find(long).is_none(), "a datagram is too long")?;
    // Deleting needs no fragments.
    let short = |m: &&Sent| m.exchange == ExchangeType::INFORMATIONAL;
    let mut short = seen.0.iter().filter(short);
    seen.need(
        short.all(|m| m.fragment.is_none()),
        "fragmented for nothing",
    )
}

fn we_fragment_all(_: &Case, seen: &Seen) -> Result<(), String> {
    let auth = |m: &&Sent| m.ours && m.exchange == ExchangeType::IKE_AUTH;
    let auth: Vec<_> = seen.0.iter().filter(auth).map(|m| m.fragment).collect();
    seen.need(auth == [Some((1, 1))], "not one fragment of one")?;
    // charon takes an INFORMATIONAL message with a fragment for one without protection.
    let informational = |m: &&Sent| m.ours && m.exchange == ExchangeType::INFORMATIONAL;
    let mut informational = seen.0.iter().filter(informational);
    seen.need(
        informational.all(|m| m.fragment.is_none()),
        "fragmented for nothing",
    )
}

fn nobody_fragments(_: &Case, seen: &Seen) -> Result<(), String> {
    let none = seen.0.iter().all(|m| m.fragment.is_none());
    seen.need(
        none && !seen.0.is_empty(),
        "fragments that nobody agreed on",
    )
}

fn they_fragment(_: &Case, seen: &Seen) -> Result<(), String> {
    seen.need(seen.in_auth(true) == 0, "fragmented by us")?;
    seen.need(seen.in_auth(false) >= 2, "not fragmented by the peer")
}

fn we_try_smaller(_: &Case, seen: &Seen) -> Result<(), String> {
    let request = |m: &&Sent| m.ours && m.exchange == ExchangeType::IKE_AUTH && !m.response;
    let requests: Vec<_> = seen.0.iter().filter(request).collect();
    let whole = requests.iter().take_while(|m| m.fragment.is_none()).count();
    seen.need(whole == 3, "whole three times")?;
    let rest = requests.get(whole..).unwrap_or_default();
    let fits = rest.iter().all(|m| m.fragment.is_some() && m.len <= 576);
    seen.need(rest.len() == 2 && fits, "then in two fragments")
}

fn run(case: &Case, check: fn(&Case, &Seen) -> Result<(), String>) -> Result<(), String> {
    let site = Site::new();
    let (ours, theirs) = configurations(case);
    if let Some(octets) = case.passes {
        if !ready("a narrow path", &[Need::Program("nft")]) {
            return Ok(());
        }
        narrow(&site, octets)?;
    }
    let cygnet = Daemon::running(&site.west, &ours);
    let swan = Swan::start_with(&site.east, &format!("fragment_size = {}", case.size));
    swan.load(&theirs);
    let file = cygnet.dir().join("router.pcap");
    let mut capture = Capture::start(&site.router, Site::TO_WEST, &file);
    let outcome = match case.initiator {
        Initiator::Cygnet => cygnet.cygnet(&["up", "office"]),
        Initiator::StrongSwan => swan.swanctl(&["--initiate", "--child", "net", "--timeout", "20"]),
    };
    let tail = || format!("{}\n{}", swan.log_tail(), cygnet.log());
    if !outcome.ok() {
        return Err(format!("{outcome:?}\n{}", tail()));
    }
    // Both ends know what was agreed on.
    let established = within(Duration::from_secs(5), || {
        cygnet.packets("office").and_then(|_| swan.child("office"))
    });
    established.ok_or_else(|| format!("not up on both ends\n{}", tail()))?;
    let status = &cygnet.status()["ike_sas"][0];
    // charon keeps state for one request, and takes no offence at a peer that does for more.
    let windows = status["own_window"] == 4 && status["peer_window"] == 1;
    if status["fragmentation"] != (case.theirs != "no") || !windows {
        return Err(format!("`cygnet status` says {status}"));
    }
    cygnet.must(&["down", "office"]);
    let gone = within(Duration::from_secs(5), || {
        swan.child("office").is_none().then_some(())
    });
    gone.ok_or_else(|| format!("the peer has not heard that it is over\n{}", tail()))?;
    let answered = |packets: &[Packet]| {
        let seen = Seen::new(case, packets);
        let end = |m: &&Sent| m.exchange == ExchangeType::INFORMATIONAL && m.response;
        seen.0.iter().find(end).is_some()
    };
    let packets = capture.until(Duration::from_secs(5), answered);
    check(case, &Seen::new(case, &packets)).map_err(|text| format!("{text}\n{}", tail()))
}

/// Has the router drop what is longer.
fn narrow(site: &Site, octets: u16) -> Result<(), String> {
    let rules = format!(
        "add table ip narrow\n\
         add chain ip narrow forward {{ type filter hook forward priority 0; }}\n\
         add rule ip narrow forward udp dport {{ 500, 4500 }} meta length > {octets} drop\n"
    );
    let name = site.router.name();
    let outcome = try_run("ip", &["netns", "exec", name, "nft", "-f", "-"], &rules);
    if outcome.ok() {
        Ok(())
    } else {
        Err(format!("nft: {outcome:?}"))
    }
}

/// Many algorithms for the child SA make IKE_AUTH requests long.
const ESP: &str = "aes_gcm256, aes_gcm128, chacha20_poly1305, aes256-sha2_512, aes256-sha2_384, \
    aes256-sha2_256, aes192-sha2_512, aes192-sha2_384, aes192-sha2_256, aes128-sha2_512, \
    aes128-sha2_384, aes128-sha2_256";

fn configurations(case: &Case) -> (Conf, SwanConf) {
    // One algorithm of each type: IKE_SA_INIT has to get through the narrow path whole.
    let ours = Conf::site(case.outer)
        .set("ike", "aes_gcm256-sha2_256-dh31")
        .set("esp", ESP)
        .set("fragmentation", case.ours)
        .set("fragment-size", &case.size.to_string())
        .set("ike-window", "4");
    let theirs = SwanConf::site(case.outer)
        .connection(format!("fragmentation = {}", case.theirs))
        .child("esp_proposals = aes256gcm16,aes128gcm16,aes256-sha512,aes256-sha256,aes128-sha256");
    (ours, theirs)
}
