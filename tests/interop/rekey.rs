//! SAs renewed under traffic, by either end, with strongSwan as the other. No
//! packet may be lost, though a responder may send on a new child SA before the
//! initiator has the keys.

use std::time::Duration;

use cygnet_tests::{Conf, Daemon, Family, Site, Swan, SwanConf, Until, echo};
use libtest_mimic::Failed;

use crate::fragmentation::Trial;

/// What is renewed, and by whom.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    /// Keywords of our connection.
    ours: &'static [(&'static str, &'static str)],
    /// Settings of strongSwan's connection and of its child.
    theirs: [&'static str; 2],
    /// Events of ours that count successors, and how many there must be at least.
    counted: (&'static str, usize),
}

const NEVER: [&str; 2] = ["rekey_time = 0", "rekey_time = 0"];

const CASES: [Case; 6] = [
    Case {
        name: "cygnet_rekeys_the_child",
        ours: &[("salifetime", "5s"), ("rekeymargin", "3s"), ("pfs", "no")],
        theirs: NEVER,
        counted: ("child_established", 5),
    },
    Case {
        name: "cygnet_rekeys_the_child_with_forward_secrecy",
        ours: &[
            ("salifetime", "5s"),
            ("rekeymargin", "3s"),
            ("esp", "aes_gcm256-dh31"),
        ],
        theirs: [
            "rekey_time = 0",
            "rekey_time = 0\n esp_proposals = aes256gcm16-curve25519",
        ],
        counted: ("child_established", 5),
    },
    Case {
        name: "cygnet_rekeys_the_ike_sa",
        ours: &[("ikelifetime", "5s"), ("rekeymargin", "3s")],
        theirs: NEVER,
        counted: ("children_moved", 4),
    },
    Case {
        name: "cygnet_authenticates_anew",
        ours: &[
            ("ikelifetime", "6s"),
            ("rekeymargin", "3s"),
            ("reauth", "yes"),
        ],
        theirs: NEVER,
        counted: ("child_established", 4),
    },
    Case {
        name: "strongswan_rekeys_the_child",
        ours: &[("pfs", "no")],
        theirs: [
            "rekey_time = 0",
            "rekey_time = 2s\n life_time = 10s\n rand_time = 0",
        ],
        counted: ("child_established", 5),
    },
    Case {
        name: "strongswan_rekeys_the_ike_sa",
        ours: &[],
        theirs: [
            "rekey_time = 2s\n over_time = 10s\n rand_time = 0",
            "rekey_time = 0",
        ],
        counted: ("children_moved", 4),
    },
];

/// All of them.
pub fn trials() -> Vec<Trial> {
    let trial = |case: Case| -> Trial {
        let title = format!("rekey::{}", case.name);
        (title, Box::new(move || run(&case).map_err(Failed::from)))
    };
    CASES.into_iter().map(trial).collect()
}

/// Runs one.
fn run(case: &Case) -> Result<(), String> {
    let site = Site::new();
    let mut ours = Conf::site(Family::V4)
        .set("ike", "aes_gcm256-sha2_256-dh31")
        .set("esp", "aes_gcm256")
        .set("rekeyfuzz", "0%");
    for (key, value) in case.ours {
        ours = ours.set(key, value);
    }
    let cygnet = Daemon::running(&site.west, &ours);
    let swan = Swan::start(&site.east);
    let outcome = exchange(case, &site, &cygnet, &swan);
    outcome.map_err(|text| format!("{text}\n{}\n{}", swan.log_tail(), cygnet.log()))
}

fn exchange(case: &Case, site: &Site, cygnet: &Daemon, swan: &Swan) -> Result<(), String> {
    let [of_ike, of_child] = case.theirs;
    let mut theirs = SwanConf::site(Family::V4)
        .connection("proposals = aes256gcm16-prfsha256-curve25519")
        .connection(of_ike)
        .child(of_child);
    if !of_child.contains("esp_proposals") {
        theirs = theirs.child("esp_proposals = aes256gcm16");
    }
    swan.load(&theirs);
    cygnet.must(&["up", "office"]);
    let (mut sent, mut lost) = (0, 0);
    for family in Family::ALL {
        let echoes = echo(site, family, Until::Time(Duration::from_secs(8)))?;
        sent += echoes.sent;
        lost += echoes.lost;
    }
    let (event, least) = case.counted;
    let count = cygnet.events(event).len();
    if count < least {
        return Err(format!("{count} times {event}, expected {least} or more"));
    }
    if lost > 0 {
        return Err(format!("{lost} of {sent} datagrams did not come back"));
    }
    for failure in [
        "connection_down",
        "attempt_failed",
        "child_rekey_failed",
        "ike_rekey_failed",
    ] {
        let failed = cygnet.events(failure);
        if !failed.is_empty() {
            return Err(format!("{failed:?}"));
        }
    }
    println!(
        "{}: {count} renewals, {sent} datagrams, none lost",
        case.name
    );
    Ok(())
}
