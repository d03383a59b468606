//! The fence: what must be protected never passes in clear, outwards or
//! inwards, before, during and after a crash.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use cygnet_tests::{
    Capture, Conf, Daemon, Family, Kind, Netns, Site, raw_socket, ready, udp_packet,
};
use rustix::net::{SendFlags, sendto};

use crate::support::ping_through;

const PORT: u16 = 7777;
const MESSAGE: &[u8] = b"in clear?";

/// Listeners on both sides of west's part of the network, and the means to
/// send in clear from everywhere.
struct Probe<'a> {
    site: &'a Site,
    wire: Capture,
    inside: Vec<(String, UdpSocket)>,
}

impl<'a> Probe<'a> {
    fn new(site: &'a Site, wire: Capture) -> Self {
        let listen = |netns: &Netns, address: IpAddr| {
            let socket = netns.within(move || UdpSocket::bind((address, PORT)).expect("to bind"));
            socket.set_nonblocking(true).expect("not to wait");
            (format!("{address} on {}", netns.name()), socket)
        };
        let inside = Family::ALL
            .into_iter()
            .flat_map(|f| {
                [
                    listen(&site.alice, Site::alice(f)),
                    listen(&site.west, Site::west_inner(f)),
                ]
            })
            .collect();
        Self { site, wire, inside }
    }

    /// Sends from the router, as bob and as east, to alice and to west: what of it arrives.
    fn inwards(&mut self) -> Vec<String> {
        for family in Family::ALL {
            for from in [Site::bob(family), Site::east_inner(family)] {
                for to in [Site::alice(family), Site::west_inner(family)] {
                    spoof(&self.site.router, from, to);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(150));
        let mut arrived = Vec::new();
        for (name, socket) in &self.inside {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                arrived.push(format!("{from} to {name}"));
            }
        }
        arrived
    }

    /// Sends from alice and from west to bob: what of it is seen in clear on the wire.
    fn outwards(&mut self) -> Vec<String> {
        self.wire.new_packets();
        for family in Family::ALL {
            let to = SocketAddr::new(Site::bob(family), 9);
            for (netns, from) in [
                (&self.site.alice, Site::alice(family)),
                (&self.site.west, Site::west_inner(family)),
            ] {
                // An error is as good as a drop.
                netns.within(move || {
                    let socket = UdpSocket::bind((from, 0)).expect("to bind");
                    for _ in 0..3 {
                        let _ = socket.send_to(MESSAGE, to);
                    }
                });
            }
        }
        let packets = self.wire.until(Duration::from_millis(150), |_| false);
        packets
            .iter()
            .filter(|p| p.kind == Kind::Clear && p.payload == MESSAGE)
            .map(|p| format!("{:?} to {:?}", p.source, p.destination))
            .collect()
    }

    #[track_caller]
    fn nothing_passes(&mut self, when: &str) {
        let outwards = self.outwards();
        assert!(
            outwards.is_empty(),
            "{when}, outwards in clear: {outwards:?}"
        );
        let inwards = self.inwards();
        assert!(inwards.is_empty(), "{when}, inwards in clear: {inwards:?}");
    }
}

/// Sends a packet whose sender is elsewhere.
fn spoof(netns: &Netns, from: IpAddr, to: IpAddr) {
    let packet = udp_packet(SocketAddr::new(from, 9), SocketAddr::new(to, PORT), MESSAGE);
    netns.within(move || {
        let socket = raw_socket(to);
        for _ in 0..3 {
            sendto(
                &socket,
                &packet,
                SendFlags::empty(),
                &SocketAddr::new(to, 0),
            )
            .expect("to send");
        }
    });
}

#[test]
fn nothing_passes_in_clear_before_during_and_after_a_crash() {
    if !ready("the fence", &[]) {
        return;
    }
    let site = Site::new();
    let trapped = Conf::site(Family::V4).set("auto", "ondemand");
    let mut west = Daemon::new(&site.west, &trapped);
    let wire = Capture::start(&site.router, Site::TO_WEST, &west.dir().join("wire.pcap"));
    let mut probe = Probe::new(&site, wire);

    // Neighbours know each other, so that no probe is lost for that.
    ping_through(&site);
    // The control: without a daemon all of it passes, so the test would see it.
    assert_eq!(
        probe.outwards().len(),
        2 * 2 * 3,
        "the probes do not reach the wire"
    );
    assert_eq!(
        probe.inwards().len(),
        2 * 4 * 3,
        "the probes do not reach the inside"
    );

    west.start();
    west.await_state("office", "trapped");
    probe.nothing_passes("with a trap and no peer");

    let east = Daemon::running(&site.east, &Conf::site(Family::V4));
    west.must(&["up", "office"]);
    ping_through(&site);
    probe.nothing_passes("with the tunnel up");

    west.crash();
    probe.nothing_passes("after kill -9");

    west.start();
    probe.nothing_passes("after the restart");
    west.must(&["up", "office"]);
    ping_through(&site);
    probe.nothing_passes("with the next tunnel up");

    // The other end sees a new IKE SA of the same peer; whatever it had is replaced or ignored.
    drop(east);
    west.stop();
    assert!(
        !probe.outwards().is_empty(),
        "a polite end takes the fence away"
    );
}

#[test]
fn a_reload_opens_nothing() {
    if !ready("the fence under reload", &[]) {
        return;
    }
    let site = Site::new();
    let trapped = Conf::site(Family::V6).set("auto", "ondemand");
    let west = Daemon::running(&site.west, &trapped);
    let wire = Capture::start(&site.router, Site::TO_WEST, &west.dir().join("wire.pcap"));
    let mut probe = Probe::new(&site, wire);
    west.await_state("office", "trapped");
    probe.nothing_passes("before");
    // Other algorithms: the connection is replaced, and fenced all the time.
    let sender = std::thread::scope(|scope| {
        let probing = scope.spawn(|| {
            for round in 0..8 {
                probe.nothing_passes(&format!("in round {round}"));
            }
        });
        for esp in ["aes_gcm256", "aes128-sha2_256", "chacha20_poly1305"] {
            west.configure(&trapped.clone().set("esp", esp));
            west.must(&["reload"]);
            std::thread::sleep(Duration::from_millis(300));
        }
        probing.join()
    });
    if let Err(panic) = sender {
        std::panic::resume_unwind(panic);
    }
}
