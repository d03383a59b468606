//! What these tests share.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cygnet_tests::{Capture, Conf, Daemon, Family, Kind, Netns, Packet, Site, try_run};

/// Both gateways running with the same configuration.
pub struct Pair {
    pub west: Daemon,
    pub east: Daemon,
    // Last: the namespaces go after what runs in them.
    pub site: Site,
}

impl Pair {
    pub fn new(conf: &Conf) -> Self {
        Self::different(conf, conf)
    }

    pub fn different(west: &Conf, east: &Conf) -> Self {
        let site = Site::new();
        let west = Daemon::running(&site.west, west);
        let east = Daemon::running(&site.east, east);
        Self { west, east, site }
    }

    /// The same, and west writes its keys out into that directory.
    pub fn logging_keys(conf: &Conf) -> (Self, PathBuf) {
        let site = Site::new();
        let west = Daemon::new(&site.west, conf);
        let keys = west.dir().join("keys");
        let mut west = west.options(&["--key-log", &keys.display().to_string()]);
        west.start();
        let east = Daemon::running(&site.east, conf);
        (Self { west, east, site }, keys)
    }

    /// What passes the router, from now on.
    pub fn capture(&self) -> Capture {
        let file = self.west.dir().join("wire.pcap");
        Capture::start(&self.site.router, Site::TO_WEST, &file)
    }

    /// The same, with the tunnel up.
    pub fn up(conf: &Conf) -> Self {
        let pair = Self::new(conf);
        pair.west.must(&["up", "office"]);
        pair.east.await_state("office", "up");
        pair
    }
}

/// Five echoes; fails with what ping says.
pub fn ping(from: &Netns, to: IpAddr) {
    from.exec(&format!("ping -q -c 5 -i 0.02 -W 3 {to}"));
}

/// Alice pings bob, both families.
pub fn ping_through(site: &Site) {
    for family in Family::ALL {
        ping(&site.alice, Site::bob(family));
    }
}

/// How many ESP packets there are among them.
pub fn esp(packets: &[Packet]) -> usize {
    packets
        .iter()
        .filter(|p| matches!(p.kind, Kind::Esp { .. }))
        .count()
}

/// Fields of those packets of a capture that a filter lets through, a packet a line, decrypted with the key log.
pub fn tshark(keys: &Path, file: &Path, filter: &str, fields: &[&str]) -> String {
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

/// Everything in a namespace that a daemon could have left there, in lines
/// without what changes by itself.
pub fn state(netns: &Netns) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut add = |what: &str, text: &str| {
        let mut block = String::new();
        for line in text.lines() {
            // Entries of several lines are one entry.
            if !block.is_empty() && !line.starts_with([' ', '\t']) {
                assert!(
                    lines.insert(format!("{what}: {block}")),
                    "twice: {what}: {block}"
                );
                block.clear();
            }
            block.push_str(line.trim());
            block.push(' ');
        }
        if !block.is_empty() {
            assert!(
                lines.insert(format!("{what}: {block}")),
                "twice: {what}: {block}"
            );
        }
    };
    add("link", &links(netns));
    for family in ["-4", "-6"] {
        add(
            &format!("rule {family}"),
            &netns.show(&format!("{family} rule show")),
        );
        // Routes that the kernel makes for multicast and neighbours come and go.
        let routes = netns.show(&format!("{family} route show table all"));
        let ours: Vec<&str> = routes
            .lines()
            .filter(|l| !l.contains("proto kernel") && !l.starts_with("multicast"))
            .collect();
        add(&format!("route {family}"), &ours.join("\n"));
    }
    add("policy", &netns.show("xfrm policy show nosock"));
    add("state", &netns.show("xfrm state show"));
    add("nft", &netns.exec("nft list ruleset"));
    lines
}

/// Names of the links: indexes and flags change.
fn links(netns: &Netns) -> String {
    let text = netns.show("-o link show");
    text.lines()
        .filter_map(|l| l.split_whitespace().nth(1))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What is in `after` and was not in `before`.
pub fn added(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<String> {
    after.difference(before).cloned().collect()
}
