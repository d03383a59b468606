//! Two cores back to back: what one sends the other receives, with a clock made by hand.

mod ah;
mod compression;
mod early;
mod inbound;
mod life;
mod outbound;
mod random;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use cygnet_esp::{OuterHeader, PacketBuffer};
use cygnet_ipsec::{
    Action, CipherKey, Command, CommandError, Counter, Direction, Encap, EncapKind, Event,
    IntegrityKey, Lifetime, Mark, Mode, MoveSa, Policy, PolicyKey, Protocol, Reply, Sa, SaCounters,
    SaDirection, SaFlags, SaId, Selector, SkipSequence, Template,
};

use super::{Arrival, Core, Output, Ports, Transmit};
use crate::config::CoreConfig;
use crate::packet::Packet;

const REQID: u32 = 7;
const SPI_AB: u32 = 0x8000_00ab;
const SPI_BA: u32 = 0x8000_00ba;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One gateway.
struct End {
    core: Core,
    output: Output,
    outer: IpAddr,
    inner4: IpAddr,
    inner6: IpAddr,
}

impl End {
    fn new(n: u8, v6: bool, config: CoreConfig) -> Self {
        Self {
            core: Core::new(config),
            output: Output::new(64),
            outer: if v6 {
                ip(&format!("2001:db8::{n}"))
            } else {
                ip(&format!("192.0.2.{n}"))
            },
            inner4: ip(&format!("10.0.{n}.1")),
            inner6: ip(&format!("fd00:{n}::1")),
        }
    }

    fn event(&mut self) -> Option<Event> {
        self.core.poll_event()
    }

    fn xfrm(&self, counter: Counter) -> u64 {
        self.core.xfrm_counters().get(counter)
    }

    /// The kernel counters that are not zero.
    fn drops(&self) -> Vec<(Counter, u64)> {
        self.core
            .xfrm_counters()
            .iter()
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// What it wants to send.
    fn sent(&mut self) -> Vec<Transmit> {
        std::mem::take(&mut self.output.transmits)
    }

    /// What it delivers: if_id and packet.
    fn delivered(&mut self) -> Vec<(u32, Vec<u8>)> {
        let deliveries = self.output.deliveries.drain(..);
        deliveries
            .map(|delivery| (delivery.if_id, delivery.packet.bytes().to_vec()))
            .collect()
    }
}

/// Two gateways and the time.
struct Pair {
    now: Instant,
    /// ESP or AH.
    protocol: Protocol,
    a: End,
    b: End,
}

/// What the tests vary about SAs.
#[derive(Clone)]
struct Suite {
    protocol: Protocol,
    /// ESP's.
    encryption: (u16, usize),
    integrity: Option<(u16, usize)>,
    esn: bool,
    mode: Mode,
    udp: bool,
}

const GCM: Suite = Suite {
    protocol: Protocol::Esp,
    encryption: (20, 20),
    integrity: None,
    esn: false,
    mode: Mode::Tunnel,
    udp: false,
};

const AH: Suite = Suite {
    protocol: Protocol::Ah,
    integrity: Some((12, 32)),
    ..GCM
};

impl Pair {
    fn new(v6: bool) -> Self {
        Self::with(v6, CoreConfig::default())
    }

    fn with(v6: bool, config: CoreConfig) -> Self {
        let now = Instant::now();
        Self {
            now,
            protocol: Protocol::Esp,
            a: End::new(1, v6, config.clone()),
            b: End::new(2, v6, config),
        }
    }

    /// Keyed by hand, policies for everything between the inner addresses.
    fn keyed(v6: bool, suite: &Suite) -> Self {
        let mut pair = Self::new(v6);
        pair.protocol = suite.protocol;
        pair.policies(suite.mode);
        pair.sas(suite);
        pair
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.a.core.handle_timeout(self.now, &mut self.a.output);
        self.b.core.handle_timeout(self.now, &mut self.b.output);
    }

    fn at_a(&mut self, command: Command) -> Result<Reply, CommandError> {
        self.a.core.execute(self.now, &command, &mut self.a.output)
    }

    fn at_b(&mut self, command: Command) -> Result<Reply, CommandError> {
        self.b.core.execute(self.now, &command, &mut self.b.output)
    }

    fn template(&self, from: IpAddr, to: IpAddr, mode: Mode) -> Template {
        Template {
            src: from,
            dst: to,
            spi: 0,
            protocol: self.protocol,
            reqid: REQID,
            mode,
            optional: false,
        }
    }

    /// Policies out and in, at both ends, for both inner families; in transport mode for the outer
    /// addresses.
    fn policies(&mut self, mode: Mode) {
        let (a, b) = (self.a.outer, self.b.outer);
        let nets: Vec<(IpAddr, IpAddr)> = match mode {
            Mode::Transport => vec![(a, b)],
            _ => vec![
                (self.a.inner4, self.b.inner4),
                (self.a.inner6, self.b.inner6),
            ],
        };
        for (net_a, net_b) in nets {
            let there = policy(Direction::Out, net_a, net_b, self.template(a, b, mode));
            let back = policy(Direction::Out, net_b, net_a, self.template(b, a, mode));
            let inbound = |policy: &Policy| {
                let key = PolicyKey {
                    direction: Direction::In,
                    ..policy.key
                };
                Command::InstallPolicy(Box::new(Policy {
                    key,
                    ..policy.clone()
                }))
            };
            self.at_b(inbound(&there)).unwrap();
            self.at_a(inbound(&back)).unwrap();
            self.at_a(Command::InstallPolicy(Box::new(there))).unwrap();
            self.at_b(Command::InstallPolicy(Box::new(back))).unwrap();
        }
    }

    /// The SA from `a` to `b`, as `b` has it.
    fn there(&self, suite: &Suite) -> Sa {
        sa(self.a.outer, self.b.outer, SPI_AB, suite)
    }

    /// The SA from `b` to `a`, as `a` has it.
    fn back(&self, suite: &Suite) -> Sa {
        sa(self.b.outer, self.a.outer, SPI_BA, suite)
    }

    fn sas(&mut self, suite: &Suite) {
        let (there, back) = (self.there(suite), self.back(suite));
        self.at_a(install(outbound(&there))).unwrap();
        self.at_b(install(there)).unwrap();
        self.at_b(install(outbound(&back))).unwrap();
        self.at_a(install(back)).unwrap();
    }

    /// `a`'s host routes packets into its device.
    fn a_sends(&mut self, packets: &[&[u8]]) -> Vec<Transmit> {
        let mut batch = packets
            .iter()
            .map(|packet| Packet::from_slice(packet))
            .collect();
        self.a
            .core
            .outbound(self.now, 0, &mut batch, &mut self.a.output);
        assert!(batch.is_empty());
        self.a.sent()
    }

    /// `b` receives what `a` has sent; the packets delivered.
    fn b_receives(&mut self, transmits: Vec<Transmit>) -> Vec<Vec<u8>> {
        let mut arrivals = transmits.into_iter().map(wire).collect();
        self.b
            .core
            .inbound(self.now, &mut arrivals, &mut self.b.output);
        assert!(arrivals.is_empty());
        self.b
            .delivered()
            .into_iter()
            .map(|(_, packet)| packet)
            .collect()
    }

    /// A small IPv4 packet from `a`'s to `b`'s inner address.
    fn small(&self) -> Vec<u8> {
        udp(self.a.inner4, self.b.inner4, b"small")
    }

    fn counters_at_a(&mut self, id: SaId) -> SaCounters {
        match self.at_a(Command::QuerySa(id)) {
            Ok(Reply::Sa(report)) => report.counters,
            other => panic!("{other:?}"),
        }
    }

    fn counters_at_b(&mut self, id: SaId) -> SaCounters {
        match self.at_b(Command::QuerySa(id)) {
            Ok(Reply::Sa(report)) => report.counters,
            other => panic!("{other:?}"),
        }
    }
}

fn policy(direction: Direction, src: IpAddr, dst: IpAddr, template: Template) -> Policy {
    let mut policy = Policy::new(PolicyKey::new(
        direction,
        Selector::new(src.into(), dst.into()),
    ));
    policy.templates = vec![template];
    policy
}

fn install(sa: Sa) -> Command {
    Command::InstallSa(Box::new(sa))
}

fn sa(src: IpAddr, dst: IpAddr, spi: u32, suite: &Suite) -> Sa {
    let key = |len: usize, salt: u8| {
        (0..len)
            .map(|i| i as u8 ^ salt ^ spi as u8)
            .collect::<Vec<_>>()
    };
    Sa {
        id: SaId {
            dst,
            spi,
            protocol: suite.protocol,
            mark: Mark::ANY,
        },
        src,
        direction: SaDirection::In,
        mode: suite.mode,
        reqid: REQID,
        if_id: 0,
        set_mark: None,
        encryption: (suite.protocol == Protocol::Esp).then(|| CipherKey {
            transform: suite.encryption.0,
            key: key(suite.encryption.1, 0x55).into(),
        }),
        integrity: suite.integrity.map(|(transform, len)| IntegrityKey {
            transform,
            key: key(len, 0xaa).into(),
        }),
        encap: suite.udp.then_some(Encap {
            kind: EncapKind::Udp,
            local_port: 4500,
            remote_port: 4500,
        }),
        replay_window: 64,
        esn: suite.esn,
        selector: None,
        lifetime: Lifetime::UNLIMITED,
        flags: SaFlags {
            af_unspec: suite.mode == Mode::Tunnel,
            ..SaFlags::default()
        },
        acquire_seq: 0,
        tfc_pad: 0,
        compression: None,
        iptfs: None,
        cpu: None,
        label: None,
    }
}

/// The same SA as its sender has it.
fn outbound(sa: &Sa) -> Sa {
    Sa {
        direction: SaDirection::Out,
        replay_window: 0,
        ..sa.clone()
    }
}

/// A sent packet as it arrives.
fn wire(mut transmit: Transmit) -> Arrival {
    if transmit.protocol == Protocol::Ah && transmit.path.remote.is_ipv6() {
        // The kernel makes the header, and the plane makes another one in its image.
        let (storage, range) = transmit.packet.parts();
        let mut buffer = PacketBuffer::new(storage, range).unwrap();
        let outer = OuterHeader::between(transmit.path.local, transmit.path.remote);
        outer.restore(&mut buffer, 51).unwrap();
        let range = buffer.range();
        transmit.packet.set_range(range);
    }
    let swap = |ports: Ports| Ports {
        kind: ports.kind,
        local: ports.remote,
        remote: ports.local,
    };
    Arrival {
        protocol: transmit.protocol,
        packet: transmit.packet,
        local: transmit.path.remote,
        remote: transmit.path.local,
        ports: transmit.path.ports.map(swap),
        tos: transmit.tos,
    }
}

fn copy(transmit: &Transmit) -> Transmit {
    Transmit {
        packet: Packet::from_slice(transmit.packet.bytes()),
        ..*transmit
    }
}

/// The sequence number in an ESP packet.
fn sequence(transmit: &Transmit) -> u32 {
    u32::from_be_bytes(transmit.packet.bytes()[4..8].try_into().unwrap())
}

/// A UDP datagram from port 1000 to port 2000 in an IP packet; the IPv4 one has DF. Without UDP
/// checksum, which nothing here looks at.
fn udp(src: IpAddr, dst: IpAddr, data: &[u8]) -> Vec<u8> {
    let len = (8 + data.len()) as u16;
    let mut packet = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut header = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0];
            header[2..4].copy_from_slice(&(20 + len).to_be_bytes());
            header.extend(src.octets());
            header.extend(dst.octets());
            set_checksum(&mut header);
            header
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
            header[4..6].copy_from_slice(&len.to_be_bytes());
            header.extend(src.octets());
            header.extend(dst.octets());
            header
        }
        _ => panic!("one family"),
    };
    packet.extend(1000u16.to_be_bytes());
    packet.extend(2000u16.to_be_bytes());
    packet.extend(len.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(data);
    packet
}

/// Sets the IPv4 header checksum.
fn set_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum: u32 = header[..20]
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}
