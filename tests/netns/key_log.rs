//! Wireshark with the key log reads what passed the router.

use std::time::Duration;

use cygnet_tests::{Conf, Family, Need, ready, within};

use crate::support::{Pair, ping_through, tshark};

#[test]
fn wireshark_decrypts_ike_and_esp() {
    if !ready("the key log", &[Need::Program("tshark")]) {
        return;
    }
    let suites = [
        ("aes_gcm256-sha2_256-dh31", "aes_gcm256", "no", "no"),
        ("aes128-sha2_256-dh19", "aes128-sha2_256", "yes", "yes"),
        ("aes256-sha2_512-dh20", "aes256-sha2_512", "no", "yes"),
    ];
    for (ike, esp, encapsulation, fragmentation) in suites {
        let conf = Conf::site(Family::V4)
            .set("ike", ike)
            .set("esp", esp)
            .set("encapsulation", encapsulation)
            .set("fragmentation", fragmentation)
            .set("fragment-size", "256")
            .set("ike-window", "4");
        let (pair, keys) = Pair::logging_keys(&conf);
        let capture = pair.capture();
        pair.west.must(&["up", "office"]);
        ping_through(&pair.site);
        pair.west.must(&["down", "office"]);
        let file = capture.finish();

        // Identities and AUTH are in the encrypted part of IKE_AUTH.
        let ids = tshark(
            &keys,
            &file,
            "isakmp.exchangetype == 35 && isakmp.id.data.fqdn",
            &["isakmp.id.data.fqdn"],
        );
        assert!(
            ids.contains("west.example") && ids.contains("east.example"),
            "{ike}: {ids:?}"
        );
        // Wireshark puts fragments together as we do: the traffic selectors are in the last ones.
        let fragments = tshark(
            &keys,
            &file,
            "isakmp.fragment.count && isakmp.ts.start_ipv4",
            &["isakmp.fragment.count"],
        );
        let messages = if fragmentation == "no" { 0 } else { 2 };
        assert_eq!(fragments.lines().count(), messages, "{fragments:?}");
        // Both ends have said how many requests they keep state for.
        let windows = tshark(
            &keys,
            &file,
            "isakmp.exchangetype == 35 && isakmp.notify.msgtype == 16385",
            &["isakmp.notify.data"],
        );
        assert_eq!(windows.matches("00000004").count(), 2, "{ike}: {windows:?}");
        // All echoes and answers, both families.
        let echoes = tshark(
            &keys,
            &file,
            "esp && (icmp.type == 8 || icmp.type == 0)",
            &["ip.dst", "icmp.seq"],
        );
        assert_eq!(echoes.lines().count(), 10, "{esp}: {echoes}");
        let echoes = tshark(
            &keys,
            &file,
            "esp && (icmpv6.type == 128 || icmpv6.type == 129)",
            &["ipv6.dst"],
        );
        assert_eq!(echoes.lines().count(), 10, "{esp}: {echoes}");
        // Without the keys none of that can be read.
        let nothing = tempfile::tempdir().expect("a directory");
        assert_eq!(
            tshark(
                nothing.path(),
                &file,
                "icmp.type == 8 || isakmp.id.data.fqdn",
                &["ip.dst"]
            ),
            ""
        );
        // The files are nobody else's business.
        for name in ["ikev2_decryption_table", "esp_sa"] {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(keys.join(name))
                .expect("a key file")
                .permissions()
                .mode();
            assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
        }
    }
}

/// RFC 9370 §2.2.4: each IKE_FOLLOWUP_KE request brings back what the response before it has given.
#[test]
fn wireshark_reads_additional_key_exchanges_when_rekeying() {
    if !ready(
        "the key log of additional key exchanges",
        &[Need::Program("tshark")],
    ) {
        return;
    }
    let additional = ";addke1=dh19;addke2=dh20";
    let conf = Conf::site(Family::V4)
        .set("ike", &format!("aes_gcm256-sha2_256-dh31{additional}"))
        .set("esp", &format!("aes_gcm256-dh31{additional}"));
    let (pair, keys) = Pair::logging_keys(&conf);
    let capture = pair.capture();
    pair.west.must(&["up", "office"]);
    pair.west.must(&["rekey", "office"]);
    let suite = "X25519-KE1_ECP_256-KE2_ECP_384-ESN";
    let rekeyed = || pair.west.must(&["status"]).contains(suite).then_some(());
    within(Duration::from_secs(10), rekeyed).expect("a child SA from three key exchanges");
    ping_through(&pair.site);
    pair.east.must(&["rekey", "office", "--ike"]);
    let rekeyed = || pair.west.log().contains("IKE SA rekeyed").then_some(());
    within(Duration::from_secs(10), rekeyed).expect("another IKE SA");
    ping_through(&pair.site);
    pair.west.must(&["down", "office"]);
    let file = capture.finish();
    let exchanges = tshark(
        &keys,
        &file,
        "isakmp.exchangetype == 44",
        &[
            "isakmp.flag_r",
            "isakmp.messageid",
            "isakmp.key_exchange.dh_group",
            "isakmp.notify.msgtype",
            "isakmp.notify.data",
        ],
    );
    let lines: Vec<Vec<&str>> = exchanges
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let column = |n: usize| lines.iter().map(|line| line[n]).collect::<Vec<_>>();
    assert_eq!(
        column(0),
        ["0", "1", "0", "1", "0", "1", "0", "1"],
        "{exchanges}"
    );
    assert_eq!(
        column(2),
        ["19", "19", "20", "20", "19", "19", "20", "20"],
        "{exchanges}"
    );
    let notify = "16441";
    assert_eq!(
        column(3),
        [notify, notify, notify, "", notify, notify, notify, ""],
        "{exchanges}"
    );
    let given = tshark(
        &keys,
        &file,
        "isakmp.exchangetype == 36 && isakmp.flag_r == 1 && isakmp.notify.msgtype == 16441",
        &["isakmp.notify.data"],
    );
    let links = column(4);
    for (of, first) in given.lines().zip([0, 4]) {
        assert!(of.ends_with(links[first]), "{given} {exchanges}");
        assert_eq!(links[first].len(), 32);
        assert_eq!(links[first + 1], links[first + 2], "{exchanges}");
        assert_ne!(links[first], links[first + 1], "{exchanges}");
    }
    assert_eq!(given.lines().count(), 2);
    // The keys in use come from all three secrets, at both ends and for Wireshark.
    let echoes = tshark(
        &keys,
        &file,
        "esp && (icmp.type == 8 || icmp.type == 0)",
        &["ip.dst"],
    );
    assert_eq!(echoes.lines().count(), 20, "{echoes}");
}
