//! What goes into the core and what comes out: packets with their addresses, in batches.

use std::net::IpAddr;

use cygnet_esp::{AhHeader, EspHeader};
use cygnet_ipsec::{EncapKind, Mark, Protocol};

use crate::packet::{Packet, Pool};

/// The ports of encapsulated ESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    /// Of UDP, or of a TCP stream.
    pub kind: EncapKind,
    /// Ours.
    pub local: u16,
    /// The peer's.
    pub remote: u16,
}

/// From where to where a protected packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Our address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// The ports of encapsulation; none for native ESP.
    pub ports: Option<Ports>,
}

/// A received packet of ESP or AH.
#[derive(Debug)]
pub struct Arrival {
    /// Which of them.
    pub protocol: Protocol,
    /// The ESP packet, SPI first; with AH, which covers it, from the IP header.
    pub packet: Packet,
    /// The outer destination: our address.
    pub local: IpAddr,
    /// The outer source.
    pub remote: IpAddr,
    /// The ports if it came encapsulated.
    pub ports: Option<Ports>,
    /// TOS or traffic class of the outer header.
    pub tos: u8,
}

impl Arrival {
    /// The SPI; `None` if the packet has none.
    pub(super) fn spi(&self) -> Option<u32> {
        let packet = self.packet.bytes();
        match self.protocol {
            Protocol::Ah => AhHeader::parse(packet).map(|header| header.spi),
            _ => EspHeader::parse(packet).map(|header| header.spi),
        }
    }
}

/// A packet of ESP or AH to be sent.
#[derive(Debug)]
pub struct Transmit {
    /// Which of them.
    pub protocol: Protocol,
    /// The ESP or AH packet, without IP and UDP header; with AH over IPv4 with the IP header, all of which is settled but TOS,
    /// DF, TTL and checksum.
    pub packet: Packet,
    /// How it travels.
    pub path: Path,
    /// TOS or traffic class of the outer header.
    pub tos: u8,
    /// Whether the outer IPv4 header has DF. Native ESP and AH obey; a UDP socket is shared with IKE and
    /// keeps its own setting.
    pub dont_fragment: bool,
    /// What the SA makes of the packet's mark, which is the socket's at first (set-mark, K4).
    pub mark: Option<Mark>,
}

/// A clear packet for a TUN device.
#[derive(Debug)]
pub struct Delivery {
    /// The IP packet.
    pub packet: Packet,
    /// Which device.
    pub if_id: u32,
}

/// What the core has produced. The caller empties both lists and gives the buffers to the pool.
#[derive(Debug)]
pub struct Output {
    /// Protected packets to be sent, in order.
    pub transmits: Vec<Transmit>,
    /// Clear packets to be delivered, in order.
    pub deliveries: Vec<Delivery>,
    /// Free buffers: dropped packets go here, new ones are taken from here.
    pub pool: Pool,
}

impl Output {
    /// An empty output with a pool of at most `buffers` free buffers.
    pub fn new(buffers: usize) -> Self {
        Self {
            transmits: Vec::new(),
            deliveries: Vec::new(),
            pool: Pool::new(buffers),
        }
    }
}
