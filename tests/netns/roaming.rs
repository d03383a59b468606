//! Gateways that change their address or stand behind a NAT.

use std::time::Duration;

use cygnet_tests::{Capture, Conf, Family, Kind, Netns, Site, ready, within};
use serde_json::Value;

use crate::support::{Pair, esp, ping_through};

/// The first IKE SA that a daemon shows.
fn ike(status: &Value) -> &Value {
    &status["ike_sas"][0]
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A host of the site gets another address on its device.
fn readdress(netns: &Netns, from: &str, to: &str) {
    netns.sysctl("net.ipv4.conf.all.promote_secondaries", "1");
    netns.exec(&format!("ip addr add {to}/24 dev wan"));
    netns.exec(&format!("ip addr del {from}/24 dev wan"));
}

#[test]
fn a_tunnel_outlives_its_address() {
    if !ready("MOBIKE", &[]) {
        return;
    }
    let pair = Pair::up(&Conf::site(Family::V4).set("mobike", "yes"));
    ping_through(&pair.site);
    let before = pair.west.status();
    assert_eq!(ike(&before)["mobike"], true);
    let spis = |status: &Value| text(&ike(status)["initiator_spi"]);
    let mut wire = Capture::start(
        &pair.site.router,
        Site::TO_WEST,
        &pair.west.dir().join("wire.pcap"),
    );
    for (from, to) in [("192.0.2.1", "192.0.2.11"), ("192.0.2.11", "192.0.2.1")] {
        readdress(&pair.site.west, from, to);
        let there = within(Duration::from_secs(5), || {
            let remote = text(&ike(&pair.east.status())["remote"]);
            remote.starts_with(&format!("{to}:")).then_some(())
        });
        assert!(there.is_some(), "east has west at {to}");
        ping_through(&pair.site);
    }
    let after = pair.west.status();
    assert_eq!(spis(&before), spis(&after), "the same IKE SA");
    let child = |status: &Value| {
        let child = &status["connections"][0]["children"][0];
        (child["spi_in"].clone(), child["spi_out"].clone())
    };
    assert_eq!(child(&before), child(&after), "and the same child SA");
    // Three times five echoes of each family, all answered; nothing was counted anew.
    assert_eq!(pair.west.packets("office"), Some((30, 30)));
    assert_eq!(pair.east.packets("office"), Some((30, 30)));
    let packets = wire.until(Duration::from_secs(2), |p| esp(p) >= 40);
    assert!(packets.iter().all(|p| p.kind != Kind::Clear), "{packets:?}");
}

/// The router translates the addresses of all that comes from west, and forgets a mapping after some seconds of silence.
fn behind_nat(site: &Site, memory: u32) {
    let rules = format!(
        "add table ip nat; \
         add chain ip nat out {{ type nat hook postrouting priority 100; }}; \
         add rule ip nat out oifname {} ip saddr 192.0.2.1 masquerade random",
        Site::TO_EAST
    );
    site.router.exec(&format!("nft {rules}"));
    for timeout in ["udp_timeout", "udp_timeout_stream"] {
        site.router.sysctl(
            &format!("net.netfilter.nf_conntrack_{timeout}"),
            &memory.to_string(),
        );
    }
}

/// West stands behind a NAT that forgets after `memory` seconds.
fn natted(west: &Conf, memory: u32) -> Pair {
    let east = Conf::site(Family::V4).set("left", "%any");
    let pair = Pair::different(west, &east);
    behind_nat(&pair.site, memory);
    pair.west.must(&["up", "office"]);
    pair.east.await_state("office", "up");
    pair
}

/// Where east has its peer.
fn peer_of_east(pair: &Pair) -> String {
    text(&ike(&pair.east.status())["remote"])
}

fn ping(from: &Netns, to: std::net::IpAddr) -> bool {
    from.try_exec(&format!("ping -q -c 3 -i 0.1 -W 2 {to}"))
        .ok()
}

#[test]
fn keepalives_keep_the_mapping() {
    if !ready("NAT keepalives", &[]) {
        return;
    }
    let pair = natted(&Conf::site(Family::V4).setup("keep-alive", "1s"), 4);
    ping_through(&pair.site);
    let before = peer_of_east(&pair);
    assert!(before.starts_with("198.51.100.254:"), "{before}");
    std::thread::sleep(Duration::from_secs(10));
    // Nothing but keepalives has passed: what begins behind east still finds its way.
    assert!(ping(&pair.site.bob, Site::alice(Family::V4)));
    assert_eq!(peer_of_east(&pair), before);
}

#[test]
fn a_forgotten_mapping_is_followed() {
    if !ready("NAT mappings", &[]) {
        return;
    }
    let conf = Conf::site(Family::V4).set("nat-keepalive", "no");
    let pair = natted(&conf, 2);
    ping_through(&pair.site);
    let before = peer_of_east(&pair);
    std::thread::sleep(Duration::from_secs(6));
    assert!(
        !ping(&pair.site.bob, Site::alice(Family::V4)),
        "the NAT has forgotten"
    );
    // West's packets come by a new port; the answers go there.
    ping_through(&pair.site);
    assert_ne!(peer_of_east(&pair), before);
    assert_eq!(
        pair.east.status()["ike_sas"].as_array().map(Vec::len),
        Some(1)
    );
}
