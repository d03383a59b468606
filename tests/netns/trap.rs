//! Traps: the first packet brings the tunnel up.

use std::time::Duration;

use cygnet_tests::{Conf, Family, Kind, Site, ready};

use crate::support::{Pair, esp, ping};

#[test]
fn the_first_packet_brings_the_tunnel_up_and_is_not_lost() {
    if !ready("trap", &[]) {
        return;
    }
    let pair = Pair::new(&Conf::site(Family::V4));
    let mut wire = pair.capture();
    pair.west.must(&["route", "office"]);
    pair.west.await_state("office", "trapped");
    // Five echoes, five answers: the packet that raised the ACQUIRE waited for the SA.
    ping(&pair.site.alice, Site::bob(Family::V4));
    pair.west.await_state("office", "up");
    ping(&pair.site.alice, Site::bob(Family::V6));
    assert_eq!(pair.west.packets("office"), Some((10, 10)));
    let packets = wire.until(Duration::from_secs(2), |p| esp(p) >= 20);
    assert!(packets.iter().all(|p| p.kind != Kind::Clear), "{packets:?}");

    // The tunnel ends, the trap stays: the next packet brings the next tunnel.
    pair.west.must(&["down", "office"]);
    pair.west.must(&["route", "office"]);
    pair.west.await_state("office", "trapped");
    ping(&pair.site.alice, Site::bob(Family::V6));
    pair.west.await_state("office", "up");

    pair.west.must(&["down", "office"]);
    pair.west.must(&["unroute", "office"]);
}

#[test]
fn ondemand_connections_are_trapped_when_they_are_loaded() {
    if !ready("auto=ondemand", &[]) {
        return;
    }
    let conf = Conf::site(Family::V6);
    let pair = Pair::different(&conf.clone().set("auto", "ondemand"), &conf);
    pair.west.await_state("office", "trapped");
    // From the gateway itself, too.
    let (from, to) = (Site::west_inner(Family::V4), Site::east_inner(Family::V4));
    pair.site
        .west
        .exec(&format!("ping -q -c 3 -i 0.1 -W 3 -I {from} {to}"));
    pair.west.await_state("office", "up");
}

#[test]
fn what_waits_for_a_silent_peer_is_bounded_and_counted() {
    if !ready("held packets", &[]) {
        return;
    }
    let conf = Conf::site(Family::V4);
    let mut pair = Pair::different(&conf.clone().set("auto", "ondemand"), &conf);
    pair.east.stop();
    let mut wire = pair.capture();
    pair.west.await_state("office", "trapped");
    let _ = pair.site.alice.try_exec(&format!(
        "ping -q -f -c 2000 -W 1 -w 2 {}",
        Site::bob(Family::V4)
    ));
    let packets = wire.until(Duration::from_millis(300), |_| false);
    assert!(packets.iter().all(|p| p.kind != Kind::Clear), "{packets:?}");
    let counters = pair.west.status()["counters"].clone();
    let total: u64 = counters
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(_, n)| n.as_u64())
        .sum();
    assert!(total > 0, "nothing was counted: {counters}");
}
