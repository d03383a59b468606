//! Wireshark with the key log reads what passed the router.

use std::path::Path;

use cygnet_tests::{Capture, Conf, Daemon, Family, Need, Site, ready, try_run};

use crate::support::{Pair, ping_through};

fn tshark(keys: &Path, file: &Path, filter: &str, fields: &[&str]) -> String {
    let keys = format!("WIRESHARK_CONFIG_DIR={}", keys.display());
    let file = file.display().to_string();
    let mut args = vec![keys.as_str(), "tshark", "-r", &file, "-Y", filter];
    args.extend([
        "-o",
        "esp.enable_encryption_decode:TRUE",
        "-o",
        "esp.enable_authentication_check:TRUE",
        "-T",
        "fields",
    ]);
    for field in fields {
        args.extend(["-e", field]);
    }
    let outcome = try_run("env", &args, "");
    assert!(outcome.ok(), "tshark: {outcome:?}");
    outcome.stdout
}

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
        let site = Site::new();
        let west = Daemon::new(&site.west, &conf);
        let keys = west.dir().join("keys");
        let mut west = west.options(&["--key-log", &keys.display().to_string()]);
        west.start();
        let pair = Pair {
            west,
            east: Daemon::running(&site.east, &conf),
            site,
        };
        let capture = Capture::start(
            &pair.site.router,
            Site::TO_WEST,
            &pair.west.dir().join("wire.pcap"),
        );
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
