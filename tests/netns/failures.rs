//! What goes wrong, and what the log, `status` and `cygnet up` say about it.

use std::net::UdpSocket;
use std::time::Duration;

use cygnet_tests::{Conf, Daemon, Family, Need, Site, ready, within};

use crate::support::Pair;

/// The exit status of `cygnet up` when the attempt failed.
const FAILED: Option<i32> = Some(1);

/// `cygnet up` fails with `reason`; its words, the status and the log agree, and
/// all of `words` are among them.
#[track_caller]
fn up_fails(daemon: &Daemon, reason: &str, words: &[&str]) {
    let outcome = daemon.cygnet(&["up", "office"]);
    assert_eq!(outcome.code, FAILED, "{outcome:?}\n{}", daemon.log());
    for word in words {
        assert!(
            outcome.stderr.contains(word),
            "no {word:?} in what `cygnet up` says: {}",
            outcome.stderr
        );
    }
    let failure = daemon.connection("office")["last_failure"].clone();
    assert_eq!(failure["reason"], reason, "status: {failure}");
    let text = failure["text"].as_str().unwrap_or_default().to_owned();
    assert!(
        outcome.stderr.contains(&text),
        "status says {text:?}, `cygnet up` {:?}",
        outcome.stderr
    );
    let logged = daemon
        .log()
        .lines()
        .any(|line| line.contains(reason) && words.iter().all(|w| mentions(line, w)));
    assert!(
        logged,
        "no line about {reason} in the log:\n{}",
        daemon.log()
    );
}

/// Whether a line of JSON contains a text.
fn mentions(line: &str, text: &str) -> bool {
    let escaped = serde_json::to_string(text).unwrap_or_default();
    line.contains(escaped.trim_matches('"'))
}

/// The responder's log has a line with this reason and these words.
#[track_caller]
fn peer_says(daemon: &Daemon, reason: &str, words: &[&str]) {
    let found = within(Duration::from_secs(3), || {
        let log = daemon.log();
        log.lines()
            .any(|l| l.contains(reason) && words.iter().all(|w| mentions(l, w)))
            .then_some(())
    });
    assert!(
        found.is_some(),
        "no line about {reason} with {words:?} in the peer's log:\n{}",
        daemon.log()
    );
}

#[test]
fn wrong_psk() {
    if !ready("wrong PSK", &[]) {
        return;
    }
    let conf = Conf::site(Family::V4);
    let pair = Pair::different(&conf, &conf.clone().secret("another key"));
    up_fails(
        &pair.west,
        "authentication_failed",
        &[
            "authentication failed",
            "the peer refused our identity or key",
        ],
    );
    peer_says(
        &pair.east,
        "authentication_failed",
        &["the pre-shared keys differ"],
    );
}

#[test]
fn wrong_id() {
    if !ready("wrong ID", &[]) {
        return;
    }
    let conf = Conf::site(Family::V4);
    // The peer is somebody else than we expect.
    let east = conf.clone().set("rightid", "@impostor.example");
    let pair = Pair::different(&conf, &east);
    let outcome = pair.west.cygnet(&["up", "office"]);
    assert_eq!(outcome.code, FAILED, "{outcome:?}");
    // East does not answer to the name that west asks for, or west refuses the one it gets.
    let reason = pair.west.connection("office")["last_failure"]["reason"].clone();
    assert!(
        ["authentication_failed", "wrong_identity"]
            .iter()
            .any(|r| reason == *r),
        "{reason}"
    );
    let told = [pair.west.log(), pair.east.log(), outcome.stderr].concat();
    assert!(
        told.contains("east.example") && told.contains("impostor.example"),
        "{told}"
    );
}

#[test]
fn no_common_ike_proposal() {
    if !ready("no common IKE proposal", &[]) {
        return;
    }
    let conf = Conf::site(Family::V4);
    let pair = Pair::different(
        &conf.clone().set("ike", "aes_gcm256-sha2_256-dh31"),
        &conf.set("ike", "aes128-sha2_512-dh14"),
    );
    up_fails(
        &pair.west,
        "no_proposal_chosen",
        &["no proposal chosen", "aes_gcm_16_256"],
    );
    // Who has both lists shows both.
    peer_says(
        &pair.east,
        "no_proposal_chosen",
        &["aes_cbc_128", "ENCR_AES_GCM_16-256"],
    );
}

#[test]
fn no_common_esp_proposal() {
    if !ready("no common ESP proposal", &[]) {
        return;
    }
    let conf = Conf::site(Family::V4);
    let pair = Pair::different(
        &conf.clone().set("esp", "aes_gcm256"),
        &conf.set("esp", "aes128-sha2_256"),
    );
    up_fails(
        &pair.west,
        "no_proposal_chosen",
        &["no proposal chosen", "aes_gcm_16_256"],
    );
    peer_says(
        &pair.east,
        "no_proposal_chosen",
        &["aes_cbc_128", "ENCR_AES_GCM_16-256"],
    );
}

#[test]
fn no_common_selectors() {
    if !ready("no common selectors", &[]) {
        return;
    }
    let conf = Conf::site(Family::V4);
    let pair = Pair::different(&conf, &conf.clone().set("leftsubnet", "10.77.0.0/16"));
    up_fails(
        &pair.west,
        "ts_unacceptable",
        &["traffic selectors unacceptable", "10.1.0.0"],
    );
    peer_says(&pair.east, "ts_unacceptable", &["10.77.0.0", "10.1.0.0"]);
}

#[test]
fn silent_peer() {
    if !ready("silent peer", &[]) {
        return;
    }
    let site = Site::new();
    // Nobody listens, and nobody says so.
    site.router.exec("nft add table inet quiet");
    site.router.exec(
        "nft add chain inet quiet everything { type filter hook forward priority 0 ; policy drop ; }",
    );
    let conf = Conf::site(Family::V4)
        .set("retransmit-timeout", "2s")
        .set("retransmit-interval", "250ms");
    let west = Daemon::running(&site.west, &conf);
    up_fails(&west, "no_response", &["no response to IKE_SA_INIT after"]);
    // It goes on trying by itself.
    let again = within(Duration::from_secs(5), || {
        let state = west.connection("office")["state"].clone();
        (state == "retrying" || state == "connecting").then_some(())
    });
    assert!(again.is_some(), "{:#}", west.status());
}

#[test]
fn port_already_bound() {
    if !ready("port already bound", &[]) {
        return;
    }
    let site = Site::new();
    let taken = site
        .west
        .within(|| [500, 4500].map(|p| UdpSocket::bind(("192.0.2.1", p)).expect("to bind")));
    let conf = Conf::site(Family::V4).setup("listen", "192.0.2.1");
    let mut west = Daemon::new(&site.west, &conf);
    west.launch(&[]);
    let status = west.process().wait(Duration::from_secs(10));
    assert_eq!(status.code(), FAILED);
    let log = west.log();
    assert!(log.contains("no IKE socket could be opened"), "{log}");
    assert!(
        log.contains("port 500 of 192.0.2.1 is already in use by another program"),
        "{log}"
    );
    let outcome = west.cygnet(&["up", "office"]);
    assert_eq!(outcome.code, Some(4), "{outcome:?}");
    assert!(
        outcome.stderr.contains("no daemon answers at"),
        "{outcome:?}"
    );

    // One address of several: the daemon runs, says which, and serves the others.
    let mut west = Daemon::new(&site.west, &Conf::site(Family::V6));
    west.start();
    let failed = west.events("socket_failed");
    assert!(
        failed
            .iter()
            .any(|e| e.to_string().contains("port 500 of 192.0.2.1 ")),
        "{}",
        west.log()
    );
    let east = Daemon::running(&site.east, &Conf::site(Family::V6));
    west.must(&["up", "office"]);
    drop((taken, east));
}

#[test]
fn no_permission() {
    if !ready("no permission", &[Need::Program("setpriv")]) {
        return;
    }
    let site = Site::new();
    let mut west = Daemon::new(&site.west, &Conf::site(Family::V4));
    let dir = west.dir().display().to_string();
    cygnet_tests::run(&format!("chown -R 65534:65534 {dir}"));
    west.launch(&[
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--",
    ]);
    let status = west.process().wait(Duration::from_secs(10));
    assert_eq!(status.code(), FAILED, "{}", west.log());
    assert!(west.log().contains("no permission"), "{}", west.log());
    assert!(west.log().contains("CAP_NET_ADMIN"), "{}", west.log());
}

#[test]
fn no_tun_driver() {
    if !ready("/dev/net/tun missing", &[]) {
        return;
    }
    let site = Site::new();
    let mut west = Daemon::new(&site.west, &Conf::site(Family::V4));
    // `ip netns exec` has a mount namespace of its own.
    west.launch(&[
        "sh",
        "-c",
        "mount -t tmpfs none /dev/net && exec \"$@\"",
        "sh",
    ]);
    let status = west.process().wait(Duration::from_secs(10));
    assert_eq!(status.code(), FAILED, "{}", west.log());
    assert!(
        west.log()
            .contains("the user-space data plane needs /dev/net/tun"),
        "{}",
        west.log()
    );
}

#[test]
fn unknown_connection_and_no_daemon() {
    if !ready("exit statuses", &[]) {
        return;
    }
    let site = Site::new();
    let mut west = Daemon::running(&site.west, &Conf::site(Family::V4));
    let outcome = west.cygnet(&["up", "offcie"]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.stderr.contains("offcie"), "{outcome:?}");
    west.stop();
    let outcome = west.cygnet(&["status"]);
    assert_eq!(outcome.code, Some(4), "{outcome:?}");
    assert!(
        outcome.stderr.contains("no daemon answers at"),
        "{outcome:?}"
    );
}

#[test]
fn a_wrong_configuration_is_told_with_its_place() {
    if !ready("wrong configuration", &[]) {
        return;
    }
    let site = Site::new();
    let mut west = Daemon::new(
        &site.west,
        &Conf::site(Family::V4).set("leftsubnet", "10.1.0.0/33"),
    );
    west.launch(&[]);
    let status = west.process().wait(Duration::from_secs(10));
    assert_eq!(status.code(), FAILED, "{}", west.log());
    let log = west.log();
    assert!(
        log.contains("ipsec.conf:") && log.contains("10.1.0.0/33"),
        "{log}"
    );
    let config = west.dir().join("ipsec.conf").display().to_string();
    let outcome = west.cygnet(&["check", &config]);
    assert!(
        outcome.code == FAILED && outcome.stderr.contains("10.1.0.0/33"),
        "{outcome:?}"
    );
}
