//! From the first message to the end of a peer, with strongSwan as the other: cookies that we ask for (RFC 7296 §2.6),
//! liveness checks by either end, and how long an authentication holds (AUTH_LIFETIME, RFC 4478).

use std::time::Duration;

use cygnet_tests::{Conf, Daemon, Family, Site, Swan, SwanConf, Until, echo, echo_all, within};
use libtest_mimic::Failed;

use crate::fragmentation::Trial;

/// All of them.
pub fn trials() -> Vec<Trial> {
    type Run = fn() -> Result<(), String>;
    let all: [(&str, Run); 4] = [
        ("brings_the_cookie_that_cygnet_asks_for", brings_a_cookie),
        ("is_killed_and_found_dead", is_found_dead),
        ("asks_whether_cygnet_is_there", asks),
        ("heeds_how_long_its_authentication_holds", heeds_lifetime),
    ];
    let trial = |(name, run): (&str, Run)| -> Trial {
        let title = format!("life::strongswan_{name}");
        (title, Box::new(move || run().map_err(Failed::from)))
    };
    all.into_iter().map(trial).collect()
}

fn ours() -> Conf {
    Conf::site(Family::V4)
        .set("ike", "aes_gcm256-sha2_256-dh31")
        .set("esp", "aes_gcm256")
}

/// Configures strongSwan, with more lines of the connection.
fn load(swan: &Swan, more: &str) {
    let conf = SwanConf::site(Family::V4)
        .connection("proposals = aes256gcm16-prfsha256-curve25519")
        .connection(more)
        .child("esp_proposals = aes256gcm16");
    swan.load(&conf);
}

const INITIATE: [&str; 5] = ["--initiate", "--child", "net", "--timeout", "20"];

fn counted(cygnet: &Daemon, name: &str) -> u64 {
    cygnet.status()["ike_counters"][name].as_u64().unwrap_or(0)
}

fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn brings_a_cookie() -> Result<(), String> {
    let site = Site::new();
    let cygnet = Daemon::running(&site.west, &ours().setup("ddos-mode", "busy"));
    let swan = Swan::start(&site.east);
    load(&swan, "");
    swan.must(&INITIATE);
    echo_all(&site, Family::V4, Until::Count(20))?;
    let cookies = ["cookies_sent", "cookies_accepted"].map(|name| counted(&cygnet, name));
    expect(cookies == [1, 1], || {
        format!("asked for, brought: {cookies:?}")
    })
}

fn is_found_dead() -> Result<(), String> {
    let site = Site::new();
    let quick = ours()
        .set("dpddelay", "1s")
        .set("dpdaction", "restart")
        .set("retransmit-interval", "300ms")
        .set("retransmit-timeout", "2s");
    let cygnet = Daemon::running(&site.west, &quick);
    let swan = Swan::start(&site.east);
    load(&swan, "");
    cygnet.must(&["up", "office"]);
    // It says nothing any more.
    drop(swan);
    cygnet.await_state("office", "retrying");
    let ended = cygnet.events("ike_closed");
    let unresponsive = |event: &serde_json::Value| event["reason"] == "peer_unresponsive";
    expect(ended.iter().any(unresponsive), || format!("{ended:?}"))?;
    let swan = Swan::start(&site.east);
    load(&swan, "");
    cygnet.await_state("office", "up");
    echo_all(&site, Family::V4, Until::Count(20)).map(drop)
}

fn asks() -> Result<(), String> {
    let site = Site::new();
    let cygnet = Daemon::running(&site.west, &ours());
    let swan = Swan::start(&site.east);
    load(&swan, "dpd_delay = 1s");
    cygnet.must(&["up", "office"]);
    let before = counted(&cygnet, "datagrams_in");
    let asked = || swan.log().matches("sending DPD request").count();
    let answered = within(Duration::from_secs(15), || (asked() >= 4).then_some(()));
    answered.ok_or("strongSwan asks too seldom")?;
    let came = counted(&cygnet, "datagrams_in") - before;
    expect(came >= 3, || format!("{came} came"))?;
    expect(!swan.log().contains("retransmit 1 of request"), || {
        "an answer was late".to_owned()
    })?;
    echo_all(&site, Family::V4, Until::Count(20)).map(drop)
}

fn heeds_lifetime() -> Result<(), String> {
    let site = Site::new();
    let short = ours()
        .set("reauth", "yes")
        .set("ikelifetime", "8s")
        .set("rekeymargin", "1s")
        .set("rekeyfuzz", "0%");
    let cygnet = Daemon::running(&site.west, &short);
    // Else it ends the old IKE SA first.
    let swan = Swan::start_with(&site.east, "make_before_break = yes");
    load(&swan, "rekey_time = 1h\n over_time = 4s\n rand_time = 0");
    swan.must(&INITIATE);
    let echoes = echo(&site, Family::V4, Until::Time(Duration::from_secs(12)))?;
    expect(
        swan.log().contains("scheduling reauthentication in 4s"),
        || swan.log_tail(),
    )?;
    let made = cygnet.events("ike_established").len();
    expect(made >= 3, || format!("{made} IKE SAs"))?;
    // Who begins anew deletes the old SAs at once, and what is under way on them is lost.
    expect(echoes.lost * 50 <= echoes.sent, || {
        format!("{} of {} lost", echoes.lost, echoes.sent)
    })
}
