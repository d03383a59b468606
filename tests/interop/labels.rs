//! Security labels (RFC 9478), with strongSwan at either end. It and we negotiate them and no more (`label_mode=simple`): what
//! the kernel would make of them takes SELinux.

use std::time::Duration;

use cygnet_tests::{Conf, Daemon, Family, Site, Swan, SwanConf, Until, echo_all, within};
use libtest_mimic::Failed;

use crate::Initiator;
use crate::fragmentation::Trial;

const LABEL: &str = "system_u:object_r:ipsec_spd_t:s0";

/// The labels of both ends; without one there is none.
#[derive(Clone, Copy, Debug)]
struct Case {
    initiator: Initiator,
    ours: Option<&'static str>,
    theirs: Option<&'static str>,
}

/// All of them.
pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    for (name, ours, theirs) in [
        ("the_same", Some(LABEL), Some(LABEL)),
        ("others", Some(LABEL), Some("system_u:object_r:other_t:s0")),
        ("ours_alone", Some(LABEL), None),
        ("theirs_alone", None, Some(LABEL)),
    ] {
        for initiator in Initiator::ALL {
            let case = Case {
                initiator,
                ours,
                theirs,
            };
            let title = format!("labels::{name}::{}", initiator.name());
            trials.push((title, Box::new(move || run(&case).map_err(Failed::from))));
        }
    }
    trials
}

fn run(case: &Case) -> Result<(), String> {
    let site = Site::new();
    let mut ours = Conf::site(Family::V4)
        .set("ike", "aes_gcm256-sha2_256-dh31")
        .set("esp", "aes_gcm256-dh31")
        .set("label-mode", "simple");
    if let Some(label) = case.ours {
        ours = ours.set("sec-label", label);
    }
    let cygnet = Daemon::running(&site.west, &ours);
    let swan = Swan::start(&site.east);
    let outcome = exchange(case, &site, &cygnet, &swan);
    outcome.map_err(|text| format!("{text}\n{}\n{}", swan.log_tail(), cygnet.log()))
}

fn exchange(case: &Case, site: &Site, cygnet: &Daemon, swan: &Swan) -> Result<(), String> {
    let mut theirs = SwanConf::site(Family::V4)
        .connection("proposals = aes256gcm16-prfsha256-curve25519")
        .child("esp_proposals = aes256gcm16-curve25519")
        .child("label_mode = simple");
    if let Some(label) = case.theirs {
        theirs = theirs.child(format!("label = {label}"));
    }
    swan.load(&theirs);
    let outcome = match case.initiator {
        Initiator::Cygnet => cygnet.cygnet(&["up", "office"]),
        Initiator::StrongSwan => swan.swanctl(&["--initiate", "--child", "net", "--timeout", "20"]),
    };
    if case.ours != case.theirs {
        return apart(case, outcome.ok(), cygnet, swan);
    }
    if !outcome.ok() {
        return Err(format!("{outcome:?}"));
    }
    together(site, cygnet, swan, None)?;
    // The successors have it too, whoever makes them.
    for ours in [true, false] {
        let before = child_id(cygnet);
        let outcome = match ours {
            true => cygnet.cygnet(&["rekey", "office"]),
            false => swan.swanctl(&["--rekey", "--child", "net"]),
        };
        if !outcome.ok() {
            return Err(format!("{outcome:?}"));
        }
        together(site, cygnet, swan, before)?;
    }
    Ok(())
}

/// The number of the child SA, if there is one and no other.
fn child_id(cygnet: &Daemon) -> Option<u64> {
    match &cygnet.status()["connections"][0]["children"].as_array()?[..] {
        [child] if child["label"] == LABEL => child["id"].as_u64(),
        _ => None,
    }
}

/// Both ends have one child SA with the label, another one than `before`, and it carries traffic.
fn together(site: &Site, cygnet: &Daemon, swan: &Swan, before: Option<u64>) -> Result<(), String> {
    let new = within(Duration::from_secs(10), || {
        child_id(cygnet).filter(|id| Some(*id) != before)
    });
    new.ok_or_else(|| format!("no child SA with the label: {:#}", cygnet.status()))?;
    // The zero octet at its end makes it no text for swanctl.
    let octets: String = LABEL.bytes().map(|octet| format!("{octet:02x}")).collect();
    let listed = swan.swanctl(&["--list-sas", "--raw"]);
    if !listed.stdout.contains(&format!("label={octets}00 "))
        && !listed.stdout.contains(&format!("label={octets} "))
    {
        return Err(format!("strongSwan does not show the label: {listed:?}"));
    }
    for family in Family::ALL {
        echo_all(site, family, Until::Count(20))?;
    }
    Ok(())
}

/// Neither end has a child SA, and ours knows why.
fn apart(case: &Case, up: bool, cygnet: &Daemon, swan: &Swan) -> Result<(), String> {
    if up || cygnet.packets("office").is_some() || swan.child("office").is_some() {
        return Err("it came up".to_owned());
    }
    let reason = match case.initiator {
        Initiator::Cygnet => "ts_unacceptable",
        Initiator::StrongSwan => "label_unacceptable",
    };
    let told = cygnet.events("child_failed");
    match told.iter().any(|event| event.to_string().contains(reason)) {
        true => Ok(()),
        false => Err(format!("expected {reason:?}: {told:?}")),
    }
}
