//! What passes a device, as tcpdump sees it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::netns::Netns;
use crate::process::{Process, within};

/// A running capture. The file grows as packets pass.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
    read: usize,
}

/// What a packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IKE, on port 500 or 4500.
    Ike,
    /// ESP.
    Esp {
        /// Its SPI.
        spi: u32,
        /// Inside UDP.
        udp: bool,
    },
    /// A keepalive on port 4500.
    Keepalive,
    /// A segment of a TCP stream that carries IKE and ESP.
    Stream,
    /// What keeps a link alive: ARP, neighbour discovery, multicast listener reports,
    /// and ICMP errors about IKE and ESP.
    Link,
    /// Anything else is in clear.
    Clear,
}

/// One packet of a capture.
#[derive(Clone, Debug)]
pub struct Packet {
    /// When it passed, since 1970.
    pub at: Duration,
    /// What it is.
    pub kind: Kind,
    /// From where; `None`: not IP.
    pub source: Option<IpAddr>,
    /// To where.
    pub destination: Option<IpAddr>,
    /// The UDP payload, if it is UDP; otherwise the IP payload.
    pub payload: Vec<u8>,
}

const PCAP_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const ETHERNET: usize = 14;

impl Capture {
    /// Captures on a device into a file.
    ///
    /// # Panics
    /// If tcpdump does not start.
    #[must_use]
    pub fn start(netns: &Netns, device: &str, file: &Path) -> Self {
        let mut command = netns.command("tcpdump");
        command
            .args([
                "-i",
                device,
                "-n",
                "-U",
                "--immediate-mode",
                "-s",
                "2048",
                "-B",
                "16384",
                "-Z",
                "root",
                "-w",
            ])
            .arg(file);
        let process = Process::start(&mut command, &file.with_extension("log"));
        let started = within(Duration::from_secs(10), || {
            process.output().contains("listening on").then_some(())
        });
        assert!(started.is_some(), "tcpdump: {}", process.output());
        Self {
            process,
            file: file.to_owned(),
            read: PCAP_HEADER,
        }
    }

    /// The packets since the last call.
    ///
    /// # Panics
    /// If the file is not what tcpdump writes.
    pub fn new_packets(&mut self) -> Vec<Packet> {
        let bytes = std::fs::read(&self.file).unwrap_or_default();
        let mut packets = Vec::new();
        while let Some(header) = bytes.get(self.read..self.read + RECORD_HEADER) {
            let len = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]) as usize;
            let start = self.read + RECORD_HEADER;
            let Some(frame) = bytes.get(start..start + len) else {
                break;
            };
            let word = |at: usize| {
                u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
            };
            let at = Duration::new(u64::from(word(0)), word(4) * 1000);
            packets.push(Packet {
                at,
                ..classify(frame)
            });
            self.read = start + len;
        }
        packets
    }

    /// Waits until `enough` of the packets since the last call have arrived; returns them
    /// with what came meanwhile.
    pub fn until(&mut self, limit: Duration, enough: impl Fn(&[Packet]) -> bool) -> Vec<Packet> {
        let mut packets = Vec::new();
        let _ = within(limit, || {
            packets.extend(self.new_packets());
            enough(&packets).then_some(())
        });
        packets
    }

    /// Packets that the kernel had no room for.
    pub fn finish(mut self) -> PathBuf {
        // What is under way to the file may arrive.
        std::thread::sleep(Duration::from_millis(100));
        self.process.terminate();
        self.file.clone()
    }
}

fn classify(frame: &[u8]) -> Packet {
    let mut packet = Packet {
        at: Duration::ZERO,
        kind: Kind::Clear,
        source: None,
        destination: None,
        payload: Vec::new(),
    };
    let Some((ethernet, ip)) = frame.split_at_checked(ETHERNET) else {
        return packet;
    };
    match (ethernet[12], ethernet[13]) {
        (0x08, 0x06) => packet.kind = Kind::Link,
        (0x08, 0x00) if ip.len() >= 20 => {
            let header = usize::from(ip[0] & 15) * 4;
            let address = |at: usize| IpAddr::from([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
            packet.source = Some(address(12));
            packet.destination = Some(address(16));
            upper(&mut packet, ip[9], ip.get(header..).unwrap_or_default());
        }
        (0x86, 0xdd) if ip.len() >= 40 => {
            let address = |at: usize| {
                let mut octets = [0; 16];
                octets.copy_from_slice(&ip[at..at + 16]);
                IpAddr::from(octets)
            };
            packet.source = Some(address(8));
            packet.destination = Some(address(24));
            // Multicast listener reports carry a hop-by-hop header.
            if ip[6] == 0 && ip.get(48).is_some_and(|t| matches!(t, 130..=132 | 143)) {
                packet.kind = Kind::Link;
            } else {
                upper(&mut packet, ip[6], &ip[40..]);
            }
        }
        _ => {}
    }
    packet
}

fn upper(packet: &mut Packet, protocol: u8, bytes: &[u8]) {
    packet.payload = bytes.to_vec();
    let word = |at: usize| {
        bytes
            .get(at..at + 4)
            .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    };
    let port = |at: usize| {
        bytes
            .get(at..at + 2)
            .map(|b| u16::from_be_bytes([b[0], b[1]]))
    };
    match protocol {
        50 => {
            packet.kind = Kind::Esp {
                spi: word(0).unwrap_or(0),
                udp: false,
            }
        }
        // Errors about what may pass: an IKE port without a listener, say.
        1 if matches!(bytes.first(), Some(3 | 11)) => {
            quoted(packet, bytes.get(8..).unwrap_or_default())
        }
        58 if matches!(bytes.first(), Some(1..=3)) => {
            quoted(packet, bytes.get(8..).unwrap_or_default())
        }
        // Router and neighbour solicitations and advertisements.
        58 if matches!(bytes.first(), Some(133..=136 | 143)) => packet.kind = Kind::Link,
        6 if [port(0), port(2)].contains(&Some(4500)) => packet.kind = Kind::Stream,
        17 => {
            packet.payload = bytes.get(8..).unwrap_or_default().to_vec();
            let ports = [port(0), port(2)];
            if ports.contains(&Some(4500)) {
                packet.kind = match word(8) {
                    Some(0) => Kind::Ike,
                    Some(spi) => Kind::Esp { spi, udp: true },
                    None => Kind::Keepalive,
                };
            } else if ports.contains(&Some(500)) {
                packet.kind = Kind::Ike;
            }
        }
        _ => {}
    }
}

/// An ICMP error is as good as what it quotes.
fn quoted(packet: &mut Packet, ip: &[u8]) {
    let mut inner = packet.clone();
    match ip.first().map(|b| b >> 4) {
        Some(4) if ip.len() >= 20 => upper(
            &mut inner,
            ip[9],
            ip.get(usize::from(ip[0] & 15) * 4..).unwrap_or_default(),
        ),
        Some(6) if ip.len() >= 40 => upper(&mut inner, ip[6], &ip[40..]),
        _ => return,
    }
    if matches!(
        inner.kind,
        Kind::Ike | Kind::Esp { .. } | Kind::Keepalive | Kind::Stream
    ) {
        packet.kind = Kind::Link;
    }
}
