//! Quick crash detection (RFC 6290): a restarted daemon shows its peers that it has lost everything.

use cygnet_tests::{Conf, Family, Need, ready};

use crate::support::{Pair, ping_through, tshark};

#[test]
fn the_peer_of_a_killed_daemon_comes_back_at_its_next_word() {
    if !ready("kill -9 and a token", &[Need::Program("tshark")]) {
        return;
    }
    // Nobody probes: only the token can tell.
    let conf = Conf::site(Family::V4)
        .set("dpddelay", "0")
        .set("ike", "aes_gcm256-sha2_256-dh31");
    let (mut pair, keys) = Pair::logging_keys(&conf);
    let capture = pair.capture();
    pair.west.must(&["up", "office"]);
    ping_through(&pair.site);
    assert_eq!(pair.west.status()["ike_sas"][0]["crash_token"], true);

    let secret = pair.east.dir().join("state/crash-secrets");
    let before = std::fs::read(&secret).expect("a secret");
    pair.east.crash();
    pair.east.start();
    assert_eq!(std::fs::read(&secret).expect("a secret"), before);
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(&secret).expect("a secret").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);

    // Whatever is said next under the lost IKE SA brings the token, and with it a new IKE SA.
    pair.west.must(&["rekey", "office"]);
    pair.east.await_state("office", "up");
    pair.west.await_state("office", "up");
    ping_through(&pair.site);
    let closed = pair.west.events("ike_closed");
    assert_eq!(closed.len(), 1, "{closed:?}");
    assert_eq!(closed[0]["reason"], "peer_crashed");
    assert_eq!(pair.west.events("ike_established").len(), 2);
    // Nothing was said twice: nobody has waited.
    assert!(pair.west.events("retransmitting").is_empty());

    let file = capture.finish();
    // In clear, in one datagram, the token that IKE_AUTH had brought under protection.
    let clear = "isakmp.exchangetype == 36 && isakmp.notify.msgtype == 4";
    let shown = tshark(&keys, &file, clear, &["isakmp.notify.data"]);
    let types = tshark(&keys, &file, clear, &["isakmp.notify.msgtype"]);
    assert_eq!(types.trim(), "4,16419");
    let given = tshark(
        &keys,
        &file,
        "isakmp.exchangetype == 35 && isakmp.notify.msgtype == 16419",
        &["isakmp.notify.data"],
    );
    let shown = shown.trim().rsplit(',').next().unwrap_or_default();
    assert_eq!(shown.len(), 32, "{shown}");
    assert!(given.contains(shown), "{shown} in {given}");
    let malformed = tshark(
        &keys,
        &file,
        "_ws.malformed || isakmp.notify.msgtype == 7",
        &["frame.number"],
    );
    assert_eq!(malformed, "");
}

/// Who does not want it gives no token, and a daemon whose secret everybody can read goes without.
#[test]
fn without_it_a_killed_daemon_is_not_missed_so_soon() {
    if !ready("kill -9 without tokens", &[]) {
        return;
    }
    let conf = Conf::site(Family::V4)
        .set("crash-detection", "no")
        .set("retransmit-timeout", "2s");
    let mut pair = Pair::up(&conf);
    assert_eq!(pair.west.status()["ike_sas"][0]["crash_token"], false);
    pair.east.crash();
    pair.east.start();
    pair.west.must(&["rekey", "office"]);
    pair.east.await_state("office", "up");
    let closed = pair.west.events("ike_closed");
    assert_eq!(closed[0]["reason"], "peer_unresponsive");

    let secret = pair.east.dir().join("state/crash-secrets");
    use std::os::unix::fs::PermissionsExt as _;
    let everybodys = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&secret, everybodys).expect("to change its mode");
    pair.east.crash();
    pair.east.start();
    assert_eq!(pair.east.events("state_dir").len(), 1);
}
