//! IKE and ESP in TCP streams (RFC 9329): between two daemons, against strangers, and as tshark reads it.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cygnet_tests::{
    Capture, Conf, Daemon, Family, Kind, Need, Netns, Site, Until, echo_all, ready, within,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Pair, ping_through};

/// The same file for both: west opens the streams.
fn conf(outer: Family, tcp: &str) -> Conf {
    Conf::site(outer)
        .setup("listen-tcp", "yes")
        .set("enable-tcp", tcp)
}

/// The router lets no UDP of IKE and ESP through, and nothing but TCP of ESP.
fn without_udp(site: &Site) {
    site.router.exec(
        "nft add table inet t; add chain inet t f { type filter hook forward priority 0; }; \
         add rule inet t f udp dport { 500, 4500 } drop; add rule inet t f udp sport { 500, 4500 } drop; \
         add rule inet t f meta l4proto esp drop",
    );
}

fn ike(status: &Value) -> &Value {
    &status["ike_sas"][0]
}

fn counter(daemon: &Daemon, name: &str) -> u64 {
    daemon.status()["counters"][name].as_u64().unwrap_or(0)
}

fn soon(what: &str, check: impl Fn() -> bool) {
    let seen = within(Duration::from_secs(15), || check().then_some(()));
    assert!(seen.is_some(), "{what}");
}

#[test]
fn a_tunnel_over_tcp_carries_ike_and_esp_and_nothing_else() {
    if !ready("TCP encapsulation", &[]) {
        return;
    }
    for outer in Family::ALL {
        let pair = Pair::new(&conf(outer, "yes"));
        let file = pair.west.dir().join("wire.pcap");
        let mut wire = Capture::start(&pair.site.router, Site::TO_WEST, &file);
        pair.west.must(&["up", "office"]);
        pair.east.await_state("office", "up");
        ping_through(&pair.site);
        for daemon in [&pair.west, &pair.east] {
            let status = daemon.status();
            assert_eq!(ike(&status)["transport"], "tcp");
            let child = &status["connections"][0]["children"][0];
            assert_eq!(child["encapsulation"], "tcp");
            assert_eq!(
                ike(&status)["nat_local"],
                false,
                "the ports are those of TCP"
            );
        }
        assert!(pair.west.must(&["status"]).contains("ESP in TCP"));
        assert_eq!(pair.west.packets("office"), Some((10, 10)));
        let told = |daemon: &Daemon| (counter(daemon, "stream_sent"), counter(daemon, "no_stream"));
        assert_eq!((told(&pair.west), told(&pair.east)), ((10, 0), (10, 0)));
        // Rekeyed, both SAs, by the end that does not open streams.
        pair.east.must(&["rekey", "office"]);
        pair.east.must(&["rekey", "office", "--ike"]);
        soon("east has a successor", || {
            pair.east.status()["ike_sas"]
                .as_array()
                .is_some_and(|sas| sas.len() == 1 && !sas[0]["replaces"].is_null())
        });
        ping_through(&pair.site);
        pair.west.must(&["down", "office"]);
        soon("the originator closes the stream", || {
            !pair
                .site
                .west
                .exec("ss -Htn state established")
                .contains(":4500")
        });
        let packets = wire.until(Duration::from_secs(2), |p| p.len() > 40);
        let odd = packets
            .iter()
            .find(|p| !matches!(p.kind, Kind::Stream | Kind::Link));
        assert!(odd.is_none(), "{outer:?}: {odd:?}");
        dissected(&file);
    }
}

/// Both directions of the first stream of a capture, the originator's first, as tshark puts them together.
fn followed(file: &Path) -> [Vec<u8>; 2] {
    let output = Command::new("tshark")
        .args(["-n", "-q", "-z", "follow,tcp,raw,0", "-r"])
        .arg(file)
        .output()
        .expect("tshark");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut streams = [Vec::new(), Vec::new()];
    for line in text.lines() {
        let digits = line.trim_start_matches('\t');
        let octets: Option<Vec<u8>> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
            .collect();
        // What the other side has sent is indented.
        streams[usize::from(digits.len() < line.len())].extend(octets.unwrap_or_default());
    }
    streams
}

/// Wireshark 4.0 knows no RFC 9329. Taken apart by their lengths, the messages must be to it what they would be as
/// datagrams on port 4500.
fn dissected(file: &Path) {
    let programs = [Need::Program("tshark"), Need::Program("text2pcap")];
    if !ready("the dissection of TCP encapsulation", &programs) {
        return;
    }
    let [originator, responder] = followed(file);
    //= rfc9329#6.1
    //= type=test
    //# The first bytes sent on the TCP stream MUST be the stream
    //# prefix value (Section 4).
    let first = originator.strip_prefix(b"IKETCP");
    let mut dump = String::new();
    for mut rest in [first.expect("the prefix"), &responder] {
        while let [high, low, ..] = *rest {
            let length = usize::from(u16::from_be_bytes([high, low]));
            let (message, later) = rest.split_at(length);
            dump += "000000";
            for octet in &message[2..] {
                let _ = write!(dump, " {octet:02x}");
            }
            dump.push('\n');
            rest = later;
        }
        assert!(rest.is_empty(), "a length goes beyond the end");
    }
    let (text, datagrams) = (file.with_extension("txt"), file.with_extension("udp"));
    std::fs::write(&text, dump).expect("to write");
    let converted = Command::new("text2pcap")
        .args(["-q", "-u", "4500,4500"])
        .args([&text, &datagrams])
        .output();
    assert!(converted.expect("text2pcap").status.success());
    let output = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(&datagrams)
        .args(["-T", "fields", "-e", "frame.protocols"])
        .args(["-e", "isakmp.exchangetype", "-e", "_ws.malformed"])
        .output()
        .expect("tshark");
    let text = String::from_utf8_lossy(&output.stdout);
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count(":esp"), 40, "{text}");
    let messages = count(":isakmp") + count(":esp");
    assert_eq!(messages, text.lines().count(), "{text}");
    assert_eq!(count("alformed"), 0, "{text}");
    // IKE_SA_INIT, IKE_AUTH, CREATE_CHILD_SA, INFORMATIONAL.
    for exchange in ["\t34", "\t35", "\t36", "\t37"] {
        assert!(count(exchange) >= 2, "{exchange}: {text}");
    }
}

#[test]
fn a_network_without_udp_is_crossed_over_tcp() {
    if !ready("the fallback to TCP", &[]) {
        return;
    }
    let pair = Pair::new(&conf(Family::V4, "fallback"));
    // Where UDP works, it is used.
    pair.west.must(&["up", "office"]);
    ping_through(&pair.site);
    assert_eq!(ike(&pair.west.status())["transport"], "udp");
    pair.west.must(&["down", "office"]);
    without_udp(&pair.site);
    let outcome = pair.west.cygnet(&["up", "office"]);
    let said = outcome.stderr.contains("no answer over UDP, trying TCP");
    assert!(outcome.ok() && said, "{outcome:?}");
    assert_eq!(ike(&pair.west.status())["transport"], "tcp");
    ping_through(&pair.site);
    pair.west.must(&["down", "office"]);
    soon("nothing is left over at east", || {
        pair.east.status()["ike_sas"]
            .as_array()
            .is_some_and(Vec::is_empty)
    });
}

/// West's end of its stream.
fn stream_of(site: &Site) -> String {
    let sockets = site.west.exec("ss -Htn state established");
    let line = sockets.lines().find(|line| line.contains(":4500"));
    let line = line.unwrap_or_else(|| panic!("no stream: {sockets}"));
    line.split_whitespace()
        .nth(2)
        .unwrap_or_default()
        .to_owned()
}

//= rfc9329#6.1
//= type=test
//# Whenever the TCP Originator opens a new TCP connection to be used for
//# an existing IKE SA, it MUST send the stream prefix first, before any
//# IKE or ESP messages.
#[test]
fn a_broken_stream_is_opened_again_and_the_sas_stay() {
    if !ready("streams that break", &[]) {
        return;
    }
    for mobike in ["no", "yes"] {
        let pair = Pair::up(&conf(Family::V4, "yes").set("mobike", mobike));
        ping_through(&pair.site);
        let before = pair.west.status();
        // Whichever end's kernel ends it, and when both think that it still stands.
        for (round, breaker) in ["west", "east", "router"].into_iter().enumerate() {
            let stream = stream_of(&pair.site);
            match breaker {
                "west" => pair.site.west.exec("ss -K dport = 4500"),
                "east" => pair.site.east.exec("ss -K sport = 4500"),
                // From now on the router answers the old stream with resets.
                _ => {
                    let port = stream.rsplit_once(':').expect("a port").1;
                    pair.site.router.exec(&format!(
                        "nft add table ip k; add chain ip k f {{ type filter hook forward priority 0; }}; \
                         add rule ip k f tcp sport {port} reject with tcp reset"
                    ))
                }
            };
            if breaker == "router" {
                let _ = pair
                    .site
                    .alice
                    .try_exec("ping -q -c 2 -i 0.2 -W 1 10.2.0.10");
            }
            soon("another stream", || {
                let now = pair.site.west.exec("ss -Htn state established");
                now.contains(":4500") && !now.contains(&stream)
            });
            soon("east follows", || {
                let status = pair.east.status();
                ike(&status)["remote"] == stream_of(&pair.site).as_str()
            });
            ping_through(&pair.site);
            let again = counter(&pair.west, "streams_opened");
            assert_eq!(again, round as u64 + 2, "one stream each time");
        }
        let after = pair.west.status();
        let names = |status: &Value| {
            let child = &status["connections"][0]["children"][0];
            (
                ike(status)["initiator_spi"].clone(),
                child["spi_in"].clone(),
                child["spi_out"].clone(),
            )
        };
        assert_eq!(names(&before), names(&after), "the same SAs");
    }
}

/// A stranger's stream to east's port 4500.
fn connect(from: &Netns) -> TcpStream {
    let east = SocketAddr::new(Site::east_outer(Family::V4), 4500);
    let stream = from.within(move || TcpStream::connect(east));
    let stream = stream.expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a limit");
    stream
}

/// Whether the other end closes it.
fn is_closed(mut stream: &TcpStream) -> bool {
    let mut octets = [0; 4096];
    loop {
        match stream.read(&mut octets) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn garbage_closes_its_stream_and_nothing_else() {
    if !ready("garbage in TCP streams", &[]) {
        return;
    }
    let pair = Pair::up(&conf(Family::V4, "yes"));
    let good = stream_of(&pair.site);
    let many = |frame: &[u8]| [b"IKETCP", &frame.repeat(300)[..]].concat();
    let esp = [&[0, 22, 0x12, 0x34, 0x56, 0x78][..], &[7; 16]].concat();
    let floods = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"IKETCP\0\0".to_vec(),
        b"IKETCP\0\x01".to_vec(),
        // Neither ESP nor IKE; no IKE; ESP of no SA.
        many(&[0, 5, 1, 2, 3]),
        many(&[0, 10, 0, 0, 0, 0, 1, 2, 3, 4]),
        many(&esp),
    ];
    for octets in &floods {
        let mut stream = connect(&pair.site.router);
        // It may be closed before all is written.
        let _ = stream.write_all(octets);
        assert!(is_closed(&stream), "{octets:x?}");
    }
    // Those that say nothing, or only the prefix, or keepalives and empty messages, go when their time is over.
    let silent = connect(&pair.site.router);
    let mut begun = connect(&pair.site.router);
    let connected = Instant::now();
    begun
        .write_all(&many(b"\0\x03\xff\0\x02"))
        .expect("to write");
    assert!(is_closed(&silent), "who does not begin is closed");
    begun
        .set_read_timeout(Some(Duration::from_secs(40)))
        .expect("a limit");
    assert!(is_closed(&begun), "what nobody uses is closed");
    //= rfc9329#6.6
    //= type=test
    //# Any implementation using
    //# TCP encapsulation MUST silently drop incoming NAT-keepalive packets
    //# and not treat them as errors.
    assert!(connected.elapsed() > Duration::from_secs(20), "not before");
    assert_eq!(stream_of(&pair.site), good, "the good one stands");
    ping_through(&pair.site);
}

#[test]
fn strangers_streams_are_few_and_others_are_served() {
    if !ready("many TCP streams", &[]) {
        return;
    }
    let pair = Pair::new(&conf(Family::V4, "yes"));
    let strangers: Vec<TcpStream> = (0..200).map(|_| connect(&pair.site.router)).collect();
    soon("most are refused", || {
        counter(&pair.east, "streams_refused") == 136
    });
    assert_eq!(counter(&pair.east, "streams_accepted"), 64);
    // Another source is served all the same.
    pair.west.must(&["up", "office"]);
    ping_through(&pair.site);
    drop(strangers);
}

#[test]
fn who_does_not_read_costs_packets_and_no_memory() {
    if !ready("a slow reader of a TCP stream", &[]) {
        return;
    }
    let mut pair = Pair::up(&conf(Family::V4, "yes"));
    ping_through(&pair.site);
    let before = pair.west.resident();
    // East's daemon stands still: its kernel takes what it has room for.
    pair.east.process().signal(Signal::STOP);
    let socket = pair.site.alice.within(|| UdpSocket::bind("10.1.0.10:0"));
    let socket = socket.expect("a socket");
    for n in 0..20_000 {
        socket.send_to(&[7; 1300], "10.2.0.10:9").expect("to send");
        if n % 20 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(
        counter(&pair.west, "stream_full") > 1000,
        "dropped and counted"
    );
    let grown = pair.west.resident().saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB more");
    pair.east.process().signal(Signal::CONT);
    soon("it goes on", || {
        let ping = "ping -q -c 1 -W 1 10.2.0.10";
        pair.site.alice.try_exec(ping).ok()
    });
    ping_through(&pair.site);
}

#[test]
fn packets_of_all_sizes_fit() {
    if !ready("sizes over TCP", &[]) {
        return;
    }
    let pair = Pair::up(&conf(Family::V4, "yes"));
    echo_all(&pair.site, Family::V4, Until::Count(500)).expect("all come back");
    // The largest packet with DF is the one that fills a segment; larger ones are told so.
    let ping = |size: u32| {
        let ping = format!("ping -q -M do -s {size} -c 1 -W 2 10.2.0.10");
        pair.site.alice.try_exec(&ping).ok()
    };
    assert!(ping(1300));
    assert!(!ping(1450));
}

#[test]
fn who_is_not_to_use_tcp_is_refused() {
    if !ready("TCP that is not wanted", &[]) {
        return;
    }
    let east = Conf::site(Family::V4).setup("listen-tcp", "yes");
    let pair = Pair::different(&conf(Family::V4, "yes"), &east);
    let outcome = pair.west.cygnet(&["up", "office"]);
    assert!(!outcome.ok());
    assert!(outcome.stderr.contains("no proposal chosen"), "{outcome:?}");
    assert_eq!(
        pair.east.events("rejected")[0]["reason"],
        "no_configuration"
    );
    // And where nobody listens, it is said in time.
    drop(pair);
    let west = conf(Family::V4, "yes").set("retransmit-timeout", "3s");
    let pair = Pair::different(&west, &Conf::site(Family::V4));
    let outcome = pair.west.cygnet(&["up", "office"]);
    assert!(!outcome.ok());
}
