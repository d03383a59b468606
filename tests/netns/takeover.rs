//! Synchronisation of Message IDs and of replay counters (RFC 6311), on the wire as Wireshark reads it.

use std::time::Duration;

use cygnet_tests::{Conf, Daemon, Family, Need, ready, within};

use crate::support::{Pair, ping_through, tshark};

#[test]
fn a_gateway_that_takes_over_goes_on_under_new_message_ids() {
    if !ready("synchronisation of Message IDs", &[Need::Program("tshark")]) {
        return;
    }
    let conf = Conf::site(Family::V4).set("ike", "aes_gcm256-sha2_256-dh31");
    let (pair, keys) = Pair::logging_keys(&conf);
    let capture = pair.capture();
    pair.west.must(&["up", "office"]);
    pair.east.await_state("office", "up");
    for agreed in ["message_id_sync", "replay_counter_sync"] {
        assert_eq!(pair.west.status()["ike_sas"][0][agreed], true, "{agreed}");
    }
    let spi = |daemon: &Daemon| daemon.connection("office")["children"][0]["spi_in"].clone();
    let before = spi(&pair.east);
    // East has not begun the IKE SA; west's requests have the Message IDs from 2, east's from 0.
    pair.east.must(&["synchronise", "office"]);
    let renewed = within(Duration::from_secs(10), || {
        let children = pair.east.connection("office")["children"]
            .as_array()
            .map(Vec::len);
        (children == Some(1) && spi(&pair.east) != before).then_some(())
    });
    assert!(renewed.is_some(), "{}", pair.east.log());
    ping_through(&pair.site);
    for daemon in [&pair.west, &pair.east] {
        assert_eq!(daemon.events("synchronised").len(), 1);
        // Both leave sequence numbers of the child SA out until it is renewed.
        assert_eq!(daemon.events("replay_counters").len(), 1);
        assert!(daemon.events("skip_failed").is_empty());
        assert!(daemon.events("retransmitting").is_empty());
    }

    let file = capture.finish();
    let shown = tshark(
        &keys,
        &file,
        "isakmp.exchangetype == 37 && isakmp.notify.msgtype == 16422",
        &["isakmp.messageid", "ip.src", "isakmp.notify.data"],
    );
    let lines: Vec<Vec<&str>> = shown.lines().map(|l| l.split('\t').collect()).collect();
    let [request, response] = &lines[..] else {
        panic!("{shown}")
    };
    assert_eq!((request[0], response[0]), ("0x00000000", "0x00000000"));
    assert_eq!((request[1], response[1]), ("198.51.100.1", "192.0.2.1"));
    // The nonce comes back. East's next request is its second one, west's has 2; each says its own first.
    let (nonce, said) = request[2].split_at(8);
    // Extended sequence numbers are agreed on, so 2^30 has eight octets.
    assert_eq!(said, "0000000100000002,0000000040000000");
    assert_eq!(response[2], format!("{nonce}0000000200000001"));
    // Both have said in IKE_AUTH that they can.
    for kind in [16420, 16421] {
        let supported = format!("isakmp.exchangetype == 35 && isakmp.notify.msgtype == {kind}");
        let supported = tshark(&keys, &file, &supported, &["frame.number"]);
        assert_eq!(supported.lines().count(), 2, "{kind}");
    }
    let malformed = tshark(&keys, &file, "_ws.malformed", &["frame.number"]);
    assert_eq!(malformed, "");
}
