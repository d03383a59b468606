//! How long the first packet waits: from the first octet of IKE_SA_INIT on the
//! wire to the first echo reply at the host that asked, on an idle veth link,
//! with a pre-shared key, X25519, AES-GCM and the user-space plane.
//!
//! A trap catches the first ping, so that one run is: packet, ACQUIRE, four
//! IKE messages, both ends' SAs, the held packet, its reply. The limit beside
//! it is the round trip of the same ping once the tunnel is up.
//!
//!     cargo bench -p cygnet-tests --bench latency

use std::time::Duration;

use cygnet_tests::{Capture, Conf, Daemon, Family, Kind, Packet, Site};

const ROUNDS: usize = 100;

fn main() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped latency: network namespaces need root");
        return;
    }
    let site = Site::new();
    let conf = Conf::site(Family::V4)
        .set("ike", "aes_gcm256-sha2_256-dh31")
        .set("esp", "aes_gcm256");
    let mut west = Daemon::new(&site.west, &conf.clone().set("auto", "ondemand"));
    west.start();
    let mut east = Daemon::new(&site.east, &conf);
    east.start();
    let dir = tempfile::tempdir().expect("a directory");
    let mut wire = Capture::start(&site.west, "wan", &dir.path().join("wire.pcap"));
    let mut host = Capture::start(&site.alice, "lan", &dir.path().join("host.pcap"));

    let (mut first, mut later) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        west.await_state("office", "trapped");
        site.alice.exec("ping -n -c 2 -i 0.05 -W 5 10.2.0.10");
        let is_reply =
            |p: &Packet| p.source == Some(Site::bob(Family::V4)) && p.payload.first() == Some(&0);
        let is_request = |p: &Packet| {
            p.destination == Some(Site::bob(Family::V4)) && p.payload.first() == Some(&8)
        };
        let seen = host.until(Duration::from_secs(5), |p| {
            p.iter().filter(|p| is_reply(p)).count() >= 2
        });
        let replies: Vec<Duration> = seen.iter().filter(|p| is_reply(p)).map(|p| p.at).collect();
        let requests: Vec<Duration> = seen
            .iter()
            .filter(|p| is_request(p))
            .map(|p| p.at)
            .collect();
        let messages = wire.until(Duration::from_secs(5), |p| {
            p.iter().any(|p| p.kind == Kind::Ike)
        });
        let start = messages
            .iter()
            .find(|p| p.kind == Kind::Ike)
            .map(|p| p.at)
            .unwrap_or_else(|| panic!("round {round}: no IKE message was seen"));
        first.push(replies[0].saturating_sub(start));
        later.push(replies[1].saturating_sub(requests[1]));
        west.must(&["down", "office"]);
        // What belongs to the end of this round is not the start of the next.
        std::thread::sleep(Duration::from_millis(50));
        wire.new_packets();
        host.new_packets();
    }
    let (first, later) = (summary(&mut first), summary(&mut later));
    println!("first IKE_SA_INIT octet to first echo reply, {ROUNDS} rounds: {first}");
    println!("round trip of a ping through the tunnel:              {later}");
}

/// Minimum, median and maximum in milliseconds.
fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    format!(
        "min {:.2} ms, median {:.2} ms, max {:.2} ms",
        ms(times[0]),
        ms(times[times.len() / 2]),
        ms(times[times.len() - 1])
    )
}
