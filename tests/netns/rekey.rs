//! SAs renewed under traffic.

use std::time::Duration;

use cygnet_tests::{Conf, Family, Kind, Until, echo_all, ready};
use serde_json::Value;

use crate::support::{Pair, ping_through};

/// Lives of seconds.
fn short_lives() -> Conf {
    Conf::site(Family::V4)
        .set("salifetime", "5s")
        .set("ikelifetime", "8s")
        .set("rekeymargin", "3s")
        .set("rekeyfuzz", "0%")
}

fn ike_ids(status: &Value) -> Vec<u64> {
    let sas = status["ike_sas"].as_array().expect("a list");
    sas.iter().filter_map(|ike| ike["id"].as_u64()).collect()
}

#[test]
fn no_packet_is_lost_while_everything_is_rekeyed() {
    if !ready("rekeying under traffic", &[]) {
        return;
    }
    let pair = Pair::up(&short_lives());
    let mut wire = pair.capture();
    let mut sent = 0;
    for family in Family::ALL {
        let time = Until::Time(Duration::from_secs(12));
        sent += echo_all(&pair.site, family, time).expect("each comes back");
    }
    assert!(sent > 5000, "{sent}");
    for gateway in [&pair.west, &pair.east] {
        let children = gateway.events("child_established").len();
        let ikes = gateway.events("children_moved").len();
        assert!(children >= 6, "{children} child SAs in 24 s");
        assert!(ikes >= 3, "{ikes} successors of the IKE SA in 24 s");
        assert_eq!(gateway.events("connection_down").len(), 0);
        assert_eq!(gateway.events("attempt_failed").len(), 0);
        let counters = &gateway.status()["counters"];
        assert!(counters.get("XfrmInNoStates").is_none(), "{counters}");
    }
    let packets = wire.new_packets();
    let spis: std::collections::BTreeSet<u32> = packets
        .iter()
        .filter_map(|p| match p.kind {
            Kind::Esp { spi, .. } => Some(spi),
            _ => None,
        })
        .collect();
    assert!(
        spis.len() >= 12,
        "{} SAs have carried something",
        spis.len()
    );
    assert!(packets.iter().all(|p| p.kind != Kind::Clear));
}

#[test]
fn cygnet_rekey_renews_at_once_and_status_shows_it() {
    if !ready("cygnet rekey", &[]) {
        return;
    }
    let pair = Pair::new(&Conf::site(Family::V4));
    let refused = pair.west.cygnet(&["rekey", "office"]);
    assert!(
        !refused.ok() && refused.stderr.contains("nothing to renew"),
        "{refused:?}"
    );
    pair.west.must(&["up", "office"]);
    pair.east.await_state("office", "up");
    ping_through(&pair.site);
    let before = pair.west.status();
    pair.west.must(&["rekey", "office"]);
    let child = |status: &Value| status["connections"][0]["children"][0].clone();
    let renewed = cygnet_tests::within(Duration::from_secs(5), || {
        let status = pair.west.status();
        let alone = status["connections"][0]["children"].as_array()?.len() == 1;
        (alone && child(&status)["replaces"] == child(&before)["id"]).then_some(status)
    });
    let renewed = renewed.expect("a successor");
    assert_eq!(ike_ids(&renewed), ike_ids(&before), "the IKE SA stays");
    assert_eq!(child(&renewed)["sending"], true);
    assert!(child(&renewed)["rekey_in"].as_u64() > Some(20_000));
    pair.east.must(&["rekey", "office", "--ike"]);
    let moved = cygnet_tests::within(Duration::from_secs(5), || {
        let status = pair.west.status();
        let ike = &status["ike_sas"][0];
        (ike["replaces"] == ike_ids(&before)[0]).then(|| status.clone())
    });
    let moved = moved.expect("another IKE SA");
    assert_eq!(
        child(&moved)["spi_in"],
        child(&renewed)["spi_in"],
        "it is handed over"
    );
    let text = pair.west.must(&["status"]);
    assert!(
        text.contains("in place of #") && text.contains("in place of $"),
        "{text}"
    );
    ping_through(&pair.site);
}
