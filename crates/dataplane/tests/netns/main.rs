//! Two planes in two network namespaces, keyed by hand: real packets of the host's own IP stack
//! through TUN devices, ESP over UDP and native, over IPv4 and IPv6.
//!
//! Needs root, `ip`, `ping`; says so and passes otherwise, or fails with CYGNET_REQUIRE_ALL=1.

mod lab;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cygnet_dataplane::{DataplaneEvent, HandleError, Tun, TunError};
use cygnet_ipsec::{Counter, Event, SaId};

use lab::{Gateway, Lab, NATT, TUN_MTU, has, next_event, ready, run};

/// Pings through the tunnel until so many echoes are back. Without `-w`, ping leaves two round trips
/// after its last request, which on a busy machine is too early; with it, it asks again meanwhile. Two
/// requests may be under way at the end; more are lost ones.
fn ping(from: &Gateway, to: std::net::IpAddr, count: u32, size: usize) {
    let line = format!("ping -n -q -c {count} -w 10 -i 0.05 -s {size} {to}");
    let told = from.netns.exec(&line);
    let number = |word: &str| {
        let before = told.split(&format!(" {word}")).next()?;
        before.rsplit([' ', '\n']).next()?.parse::<u32>().ok()
    };
    let (sent, back) = (number("packets transmitted"), number("received"));
    let (Some(sent), Some(back)) = (sent, back) else {
        panic!("{told}");
    };
    assert!(back >= count && sent - back <= 2, "{told}");
}

/// A TCP stream that stands still for so long has failed.
const STALL: Duration = Duration::from_secs(10);

/// Sends `len` bytes over TCP inside the tunnel and checks that they arrive.
fn tcp(lab: &Lab, v6: bool, len: usize) {
    let address = if v6 { lab.b.inner6 } else { lab.b.inner4 };
    let (ready, listening) = std::sync::mpsc::channel();
    let server = lab.b.netns.spawn(move || {
        let listener = TcpListener::bind((address, 5000)).expect("to listen");
        ready.send(()).expect("the test");
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(STALL)).expect("a time-out");
        let mut seen = Vec::with_capacity(len);
        stream.read_to_end(&mut seen).expect("to read");
        seen
    });
    listening.recv().expect("the server");
    let data: Vec<u8> = (0..len).map(|i| (i * 31 + i / 251) as u8).collect();
    let copy = data.clone();
    let time = lab.a.netns.enter(move || {
        let mut stream = TcpStream::connect((address, 5000)).expect("to connect");
        stream.set_write_timeout(Some(STALL)).expect("a time-out");
        let start = Instant::now();
        stream.write_all(&copy).expect("to write");
        start.elapsed()
    });
    assert!(
        server.join().expect("the server") == data,
        "the stream is changed"
    );
    eprintln!(
        "  TCP: {:.0} Mbit/s",
        len as f64 * 8e-6 / time.as_secs_f64()
    );
}

/// Waits until all that `a` has sent has arrived at `b`, but for what is counted as lost: what a slow
/// machine did not read in time.
fn settle(lab: &Lab, there: SaId) {
    let mut counts = (0, 0);
    for _ in 0..200 {
        let lost = lab
            .b
            .plane
            .counters()
            .expect("counters")
            .io
            .receive_overflow;
        counts = (packets(&lab.a, there), packets(&lab.b, there) + lost);
        if counts.0 == counts.1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("sent and received: {counts:?}; {}", lab.b.counters());
}

fn packets(gateway: &Gateway, id: SaId) -> u64 {
    gateway.sa(id).counters.packets
}

#[test]
fn pings_and_a_tcp_stream_pass_over_every_kind_of_outer_packet() {
    if !ready("pings_and_a_tcp_stream_pass") {
        return;
    }
    for (v6, udp) in [(false, false), (false, true), (true, false), (true, true)] {
        eprintln!(
            "outer {} {}",
            if v6 { "IPv6" } else { "IPv4" },
            if udp { "UDP" } else { "native" }
        );
        let lab = Lab::new();
        lab.policies(v6);
        let (there, back) = lab.sas(v6, udp);
        ping(&lab.a, lab.b.inner4, 20, 56);
        ping(&lab.a, lab.b.inner6, 20, 56);
        for (gateway, id) in [
            (&lab.a, there),
            (&lab.b, there),
            (&lab.a, back),
            (&lab.b, back),
        ] {
            assert_eq!(packets(gateway, id), 40, "{id:?}: {}", gateway.counters());
        }
        // What does not fit the device in one piece.
        ping(&lab.a, lab.b.inner4, 3, 4000);
        ping(&lab.a, lab.b.inner6, 3, 4000);
        tcp(&lab, false, 4_000_000);
        tcp(&lab, true, 4_000_000);
        settle(&lab, there);
        for gateway in [&lab.a, &lab.b] {
            let report = gateway.plane.counters().expect("counters");
            let drops: Vec<_> = report.xfrm.iter().filter(|(_, n)| *n > 0).collect();
            assert!(drops.is_empty(), "{drops:?}");
        }
    }
}

#[test]
fn a_ping_raises_one_acquire_and_waits_for_its_sa() {
    if !ready("a_ping_raises_one_acquire") {
        return;
    }
    let lab = Lab::new();
    lab.policies(false);
    let to = lab.b.inner4;
    let name = lab.a.netns.name.clone();
    let ping = std::thread::spawn(move || {
        run(&format!(
            "ip netns exec {name} ping -n -q -c 3 -i 0.2 -w 10 {to}"
        ))
    });
    let acquire = match next_event(&lab.a) {
        DataplaneEvent::Ipsec(Event::Acquire(acquire)) => acquire,
        other => panic!("{other:?}"),
    };
    assert_eq!((acquire.src, acquire.dst), (lab.a.outer4, lab.b.outer4));
    assert_eq!(acquire.selector.dst, lab.b.inner4.into());
    std::thread::sleep(Duration::from_millis(500));
    assert!(
        lab.a.events.try_recv().is_err(),
        "one acquire stands for all packets"
    );
    // The answering end has its SAs first, as it would after a negotiation.
    lab.sas(false, true);
    let told = ping.join().expect("ping");
    assert!(
        told.contains(" 0% packet loss"),
        "{told}{}",
        lab.a.counters()
    );
    let report = lab.a.plane.counters().expect("counters");
    assert_eq!(report.core.held, report.xfrm.get(Counter::OutNoStates));
    assert!(
        report.core.held >= 2 && report.core.held_expired == 0,
        "{}",
        lab.a.counters()
    );
}

#[test]
fn ike_messages_and_keepalives_on_the_shared_port_are_told_from_esp() {
    if !ready("ike_messages_and_keepalives") {
        return;
    }
    let lab = Lab::new();
    for v6 in [false, true] {
        let (from, to) = (lab.a.outer(v6), lab.b.outer(v6));
        let source = lab.a.netns.enter(move || {
            let socket = UdpSocket::bind((from, 0)).expect("a socket");
            for datagram in [&[0xff][..], &[0, 0, 0], b"\0\0\0\0message", &[9; 40]] {
                socket.send_to(datagram, (to, NATT)).expect("to send");
            }
            socket.local_addr().expect("an address")
        });
        let expected = DataplaneEvent::Ike {
            local: (to, NATT).into(),
            remote: source,
            bytes: b"message".to_vec(),
            stream: false,
        };
        assert_eq!(next_event(&lab.b), expected);
    }
    let mut report = lab.b.plane.counters().expect("counters");
    for _ in 0..100 {
        // The last datagram may still be on its way.
        if report.xfrm.get(Counter::InNoStates) == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
        report = lab.b.plane.counters().expect("counters");
    }
    assert_eq!(report.xfrm.get(Counter::InNoStates), 2);
    assert_eq!(
        (
            report.io.keepalives,
            report.io.malformed,
            report.io.ike_received
        ),
        (2, 2, 2)
    );
}

#[test]
fn packets_too_big_are_answered_and_the_path_mtu_is_learned() {
    if !ready("packets_too_big_are_answered") {
        return;
    }
    let lab = Lab::new();
    lab.policies(false);
    for gateway in [&lab.a, &lab.b] {
        gateway.netns.ip(&format!("link set wire mtu {TUN_MTU}"));
    }
    lab.sas(false, false);
    // 1400 - 20 (IP) - 8 - 8 - 16 (ESP with AES-GCM), whole words, - 2 for the trailer.
    let fits = 1346;
    ping(&lab.a, lab.b.inner4, 1, fits - 28);
    let output = lab::try_run(&format!(
        "ip netns exec {} ping -n -M do -c 1 -W 1 -s {} {}",
        lab.a.netns.name,
        fits - 28 + 1,
        lab.b.inner4
    ));
    let told = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains(&format!("mtu = {fits}")) || told.contains(&format!("mtu={fits}")),
        "{told}"
    );
    assert_eq!(lab.a.plane.counters().expect("counters").core.too_big, 1);
    tcp(&lab, false, 1_000_000);
    tcp(&lab, true, 1_000_000);
}

#[test]
fn the_path_mtu_follows_what_routers_say() {
    if !ready("the_path_mtu_follows") {
        return;
    }
    let (lab, _router) = Lab::routed(1300);
    lab.policies(false);
    lab.sas(false, false);
    ping(&lab.a, lab.b.inner4, 1, 56);
    // The first big packet meets the router, whose ICMP error the host keeps; the next one cannot be
    // sent, so the plane asks the host; from then on the sender is told.
    // 1300 - 20 (IP) - 8 - 8 - 16 (ESP with AES-GCM), whole words, - 2 for the trailer.
    let output = lab::try_run(&format!(
        "ip netns exec {} ping -n -M do -c 6 -i 0.1 -W 1 -s 1300 {}",
        lab.a.netns.name, lab.b.inner4
    ));
    let told = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("mtu = 1246") || told.contains("mtu=1246"),
        "{told}{}",
        lab.a.counters()
    );
    ping(&lab.a, lab.b.inner4, 1, 1246 - 28);
    tcp(&lab, false, 1_000_000);
    tcp(&lab, true, 1_000_000);
    let report = lab.a.plane.counters().expect("counters");
    assert!(
        report.io.send_too_big >= 1 && report.core.too_big >= 1,
        "{}",
        lab.a.counters()
    );
}

/// What Wireshark, which shares no code with us, sees in our packets.
#[test]
fn tshark_decrypts_what_the_plane_sends() {
    let test = "tshark_decrypts_what_the_plane_sends";
    if !ready(test) || !has(test, "tshark") || !has(test, "tcpdump") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    for (v6, udp) in [(false, false), (true, true)] {
        let lab = Lab::new();
        lab.policies(v6);
        let (there, _) = lab.sas(v6, udp);
        let file = directory.path().join(format!("{v6}{udp}.pcap"));
        let mut capture = Command::new("ip")
            .args([
                "netns",
                "exec",
                &lab.b.netns.name,
                "tcpdump",
                "-i",
                "wire",
                "-U",
                "-w",
            ])
            .arg(&file)
            .args(["--immediate-mode", "esp", "or", "udp"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump");
        // It says that it listens; only then the packets may come.
        let mut said = [0; 64];
        let mut stderr = capture.stderr.take().expect("its standard error");
        let _ = stderr.read(&mut said).expect("to listen");
        std::thread::sleep(Duration::from_millis(200));
        run(&format!(
            "ip netns exec {} ping -n -q -c 2 -i 0.2 -W 5 -Q 0xb8 {}",
            lab.a.netns.name, lab.b.inner4
        ));
        std::thread::sleep(Duration::from_millis(200));
        let pid = rustix::process::Pid::from_child(&capture);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("to stop it");
        capture.wait().expect("tcpdump");

        let key: String = lab::key(there.spi)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let family = if v6 { "IPv6" } else { "IPv4" };
        let (src, dst) = (lab.a.outer(v6), lab.b.outer(v6));
        let sa = format!(
            "uat:esp_sa:\"{family}\",\"{src}\",\"{dst}\",\"{:#010x}\",\"AES-GCM with 16 octet ICV [RFC4106]\",\"0x{key}\",\"NULL\",\"\"",
            there.spi
        );
        let output = Command::new("tshark")
            .arg("-r")
            .arg(&file)
            .args(["-o", "esp.enable_encryption_decode:TRUE", "-o", &sa])
            .args(["-Y", "icmp.type == 8", "-T", "fields"])
            .args(["-e", "ip.dst", "-e", "icmp.seq", "-e", "esp.sequence"])
            .args([
                "-e",
                if v6 { "ipv6.tclass" } else { "ip.dsfield" },
                "-e",
                "ip.flags.df",
            ])
            .output()
            .expect("tshark");
        let seen = String::from_utf8_lossy(&output.stdout);
        let fields: Vec<Vec<&str>> = seen.lines().map(|l| l.split('\t').collect()).collect();
        assert_eq!(
            fields.len(),
            2,
            "{seen}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for (i, line) in fields.iter().enumerate() {
            let number = (i + 1).to_string();
            assert!(line[0].ends_with(&lab.b.inner4.to_string()), "{line:?}");
            assert!(
                line[1].starts_with(&number) && line[2] == number,
                "{line:?}"
            );
            // The outer packet has the inner one's DSCP, and its DF where the socket is our own.
            assert_eq!(number_of(line[3]), Some(0xb8), "{line:?}");
            assert!(v6 || line[4] == "1,1" || line[4] == "True,True", "{line:?}");
        }
    }
}

/// The first of the values that tshark prints for a field, in hexadecimal.
fn number_of(field: &str) -> Option<u32> {
    let first = field.split(',').next()?.trim_start_matches("0x");
    u32::from_str_radix(first, 16).ok()
}

#[test]
fn a_device_that_someone_deletes_is_reported_and_the_plane_goes_on() {
    if !ready("a_device_that_someone_deletes") {
        return;
    }
    let lab = Lab::new();
    lab.a.netns.ip("link delete cygnet0");
    let lost = DataplaneEvent::DeviceLost {
        if_id: 0,
        name: "cygnet0".to_owned(),
    };
    assert_eq!(next_event(&lab.a), lost);
    // Others are told no; nothing is left of the old one.
    assert!(matches!(
        lab.a.plane.remove_device(0),
        Err(HandleError::NotFound)
    ));
    let plane = lab.a.plane.clone();
    lab.a.netns.enter(move || {
        let tun = Tun::create("cygnet0").expect("the device again");
        assert!(matches!(Tun::create("cygnet0"), Err(TunError::Exists(name)) if name == "cygnet0"));
        plane.add_device(tun, 0).expect("to add it");
        let second = Tun::create("cygnet%d").expect("a device with a number");
        assert!(second.name().starts_with("cygnet"), "{}", second.name());
        assert!(matches!(
            plane.add_device(second, 0),
            Err(HandleError::DeviceExists(0))
        ));
    });
    // A device lives as long as the plane has it.
    lab.a.plane.remove_device(0).expect("to remove it");
    assert!(!lab.a.netns.ip("link").contains("cygnet0"));
}
