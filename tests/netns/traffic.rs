//! Packets through the tunnel.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use cygnet_tests::{Capture, Conf, Family, Kind, Site, ready};

use crate::support::{Pair, esp, ping, ping_through};

#[test]
fn both_families_cross_a_tunnel_over_either_family() {
    if !ready("tunnel traffic", &[]) {
        return;
    }
    for outer in Family::ALL {
        let pair = Pair::new(&Conf::site(outer));
        let mut wire = pair.capture();
        pair.west.must(&["up", "office"]);
        ping_through(&pair.site);
        for family in Family::ALL {
            // Back, and between the gateways themselves.
            ping(&pair.site.bob, Site::alice(family));
            pair.site.west.exec(&format!(
                "ping -q -c 5 -i 0.02 -W 3 -I {} {}",
                Site::west_inner(family),
                Site::bob(family)
            ));
        }
        let sent = 2 * 3 * 5;
        assert_eq!(pair.west.packets("office"), Some((sent, sent)), "{outer:?}");
        assert_eq!(pair.east.packets("office"), Some((sent, sent)), "{outer:?}");
        let packets = wire.until(Duration::from_secs(2), |p| esp(p) as u64 >= 2 * sent);
        let esp = packets
            .iter()
            .filter(|p| matches!(p.kind, Kind::Esp { udp: false, .. }))
            .count();
        assert_eq!(esp as u64, 2 * sent, "{outer:?}");
        assert!(packets.iter().all(|p| p.kind != Kind::Clear), "{packets:?}");
    }
}

#[test]
fn encapsulation_can_be_asked_for() {
    if !ready("UDP encapsulation", &[]) {
        return;
    }
    for outer in Family::ALL {
        let pair = Pair::new(&Conf::site(outer).set("encapsulation", "yes"));
        let mut wire = Capture::start(
            &pair.site.router,
            Site::TO_EAST,
            &pair.west.dir().join("wire.pcap"),
        );
        pair.west.must(&["up", "office"]);
        ping_through(&pair.site);
        let packets = wire.until(Duration::from_secs(2), |p| esp(p) >= 20);
        assert!(
            packets
                .iter()
                .all(|p| !matches!(p.kind, Kind::Clear | Kind::Esp { udp: false, .. })),
            "{packets:?}"
        );
        assert_eq!(esp(&packets), 20, "{outer:?}");
    }
}

#[test]
fn tcp_arrives_whole() {
    if !ready("TCP", &[]) {
        return;
    }
    let pair = Pair::up(&Conf::site(Family::V4));
    const SIZE: usize = 8 << 20;
    for family in Family::ALL {
        let listener = pair
            .site
            .bob
            .within(move || TcpListener::bind((Site::bob(family), 7000)).expect("to listen"));
        let receiver = std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().expect("a connection");
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .expect("a time limit");
            let mut received = Vec::new();
            stream.read_to_end(&mut received).expect("to read");
            (received, peer.ip())
        });
        let sent: Vec<u8> = (0..SIZE).map(|i| ((i * 31) >> 7) as u8).collect();
        let copy = sent.clone();
        pair.site.alice.within(move || {
            let mut stream = TcpStream::connect((Site::bob(family), 7000)).expect("to connect");
            stream
                .set_write_timeout(Some(Duration::from_secs(20)))
                .expect("a time limit");
            stream.write_all(&copy).expect("to write");
        });
        let (received, peer) = receiver.join().expect("the receiver");
        assert_eq!(peer, Site::alice(family));
        assert!(
            received == sent,
            "{family:?}: {} of {} octets arrived, or others",
            received.len(),
            sent.len()
        );
    }
}

#[test]
fn large_packets_are_cut_or_refused_with_a_reason() {
    if !ready("path MTU", &[]) {
        return;
    }
    let pair = Pair::up(&Conf::site(Family::V4));
    // May be fragmented by who forwards: arrives.
    pair.site.alice.exec(&format!(
        "ping -q -c 3 -i 0.02 -W 3 -M dont -s 1450 {}",
        Site::bob(Family::V4)
    ));
    // May not: its sender is told what would fit.
    let outcome = pair.site.alice.try_exec(&format!(
        "ping -c 1 -W 2 -M do -s 1450 {}",
        Site::bob(Family::V4)
    ));
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(
        !outcome.ok() && text.to_lowercase().contains("frag needed"),
        "{text}"
    );
    // IPv6 is never fragmented on the way: its sender does it, once it has been told.
    let bob = Site::bob(Family::V6);
    let outcome = pair
        .site
        .alice
        .try_exec(&format!("ping -c 1 -W 2 -M do -s 1450 {bob}"));
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(
        !outcome.ok() && text.to_lowercase().contains("too big"),
        "{text}"
    );
    pair.site
        .alice
        .exec(&format!("ping -q -c 3 -i 0.02 -W 3 -M dont -s 1450 {bob}"));
}

#[test]
fn a_transport_mode_connection_protects_the_hosts_themselves() {
    if !ready("transport mode", &[]) {
        return;
    }
    for outer in Family::ALL {
        let (west, east) = (Site::west_outer(outer), Site::east_outer(outer));
        let conf = Conf::site(outer)
            .set("type", "transport")
            .set("leftsubnet", &west.to_string())
            .set("rightsubnet", &east.to_string());
        let pair = Pair::new(&conf);
        let mut wire = pair.capture();
        pair.west.must(&["up", "office"]);
        ping(&pair.site.west, east);
        ping(&pair.site.east, west);
        assert_eq!(pair.west.packets("office"), Some((10, 10)), "{outer:?}");
        let packets = wire.until(Duration::from_secs(2), |p| esp(p) >= 20);
        assert!(
            packets.iter().all(|p| p.kind != Kind::Clear),
            "{outer:?}: {packets:?}"
        );
    }
}
