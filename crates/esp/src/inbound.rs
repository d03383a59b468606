//! Opening: RFC 4303 §3.4, RFC 4302 §3.4, with the kernel's order of checks (K8) and RFC 6040 for the inner header.

use cygnet_crypto::EspCipher;
use cygnet_ipsec::{Mode, ReplayWindow, Sa, SaDirection};

use crate::ah::OpenedAh;
use crate::beet::Hosts;
use crate::buffer::PacketBuffer;
use crate::ecn::TosPolicy;
use crate::error::{OpenError, SaError};
use crate::ip::{self, IPV6_HEADER_LEN, IpError, IpHeader, Version, protocol, set_length};
use crate::outer::OuterHeader;
use crate::overhead::{ESP_HEADER_LEN, ESP_TRAILER_LEN, Overhead};
use crate::sa::{self, Protection};

/// SPI and sequence number of an ESP packet, read without any check but for length: for finding the SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspHeader {
    /// Security parameters index.
    pub spi: u32,
    /// The low 32 bits of the sequence number.
    pub sequence: u32,
}

impl EspHeader {
    /// Reads the first 8 octets; `None` if there are fewer.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let &[a, b, c, d, e, f, g, h] = packet.first_chunk::<ESP_HEADER_LEN>()?;
        Some(Self {
            spi: u32::from_be_bytes([a, b, c, d]),
            sequence: u32::from_be_bytes([e, f, g, h]),
        })
    }
}

/// What opening a packet yielded besides the bytes in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The full sequence number.
    pub sequence: u64,
    /// What the SA's byte counter and byte lifetime grow by, as the kernel counts it: the decrypted packet, in transport
    /// mode without an IP header, TFC padding included.
    pub counted: usize,
}

/// An inbound SA, ready to open packets. Whoever has it to himself owns its replay window too.
#[derive(Debug)]
pub struct Inbound {
    protection: Protection,
    esn: bool,
    mode: Mode,
    /// The inner addresses of BEET mode.
    hosts: Option<Hosts>,
    overhead: Overhead,
    tos: TosPolicy,
    encapsulated: bool,
    replay: ReplayWindow,
}

impl Inbound {
    /// Takes what it needs from an SA; its lifetime, selector and marks are the caller's to observe.
    ///
    /// # Errors
    ///
    /// The SA is one that this crate cannot do, or its key does not fit its algorithm.
    pub fn new(sa: &Sa) -> Result<Self, SaError> {
        let protection = Protection::new(sa, SaDirection::In)?;
        Ok(Self {
            overhead: protection.overhead(sa),
            protection,
            esn: sa.esn,
            mode: sa.mode,
            hosts: sa::hosts(sa)?,
            tos: sa::tos_policy(sa),
            encapsulated: sa.encap.is_some(),
            replay: ReplayWindow::new(sa.replay_window, sa.esn)
                .map_err(|error| SaError::ReplayWindow(error.to_string()))?,
        })
    }

    /// The replay window.
    pub fn replay(&self) -> &ReplayWindow {
        &self.replay
    }

    /// Replaces the replay window: for an SA that is taken over with its state.
    pub fn resume_with(&mut self, replay: ReplayWindow) {
        self.replay = replay;
    }

    /// The sizes of what is around a packet.
    pub fn overhead(&self) -> &Overhead {
        &self.overhead
    }

    /// Octets that have to be free in front of the packet for [`open`](Self::open): none in tunnel mode and with AH; in
    /// transport and BEET mode a new IP header may be longer than ESP's.
    pub fn headroom(&self) -> usize {
        let header = match (&self.protection, self.mode, &self.hosts) {
            (Protection::Ah(_), ..) => 0,
            (_, Mode::Transport, _) => IPV6_HEADER_LEN,
            (_, _, Some(hosts)) => hosts.header_len(),
            _ => 0,
        };
        header.saturating_sub(self.overhead.front())
    }

    /// Opens the packet in the buffer in place. Afterwards the buffer holds the IP packet that was inside.
    ///
    /// Of ESP the buffer has the packet from SPI to ICV, without IP and UDP headers; in transport mode its IP header is made
    /// from `outer`, so that IPv4 options and IPv6 extension headers in front of ESP are not passed on. Of AH it has the whole
    /// IP packet, whose headers stay in transport mode; `outer` is not looked at.
    ///
    /// After an error the buffer's content is undefined, and the replay window has moved only if the packet was authentic.
    ///
    /// # Errors
    ///
    /// Why the packet is to be dropped; [`OpenError::counter`] says where it counts.
    pub fn open(
        &mut self,
        packet: &mut PacketBuffer<'_>,
        outer: &OuterHeader,
    ) -> Result<Opened, OpenError> {
        match &self.protection {
            Protection::Esp(cipher) => {
                let (sequence, next_header) =
                    decrypt(cipher, &self.overhead, self.esn, &mut self.replay, packet)?;
                let counted = packet.len();
                self.uncover_esp(packet, next_header, outer)?;
                Ok(Opened { sequence, counted })
            }
            Protection::Ah(ah) => {
                let header = IpHeader::parse(packet.bytes())?;
                packet.truncate(header.total_len);
                let opened = ah.open(self.esn, &mut self.replay, packet.bytes())?;
                let counted = packet.len() - (opened.at + opened.len);
                self.uncover_ah(packet, &opened)?;
                Ok(Opened {
                    sequence: opened.sequence,
                    counted,
                })
            }
        }
    }

    /// Makes an IP packet of what ESP carried.
    fn uncover_esp(
        &self,
        packet: &mut PacketBuffer<'_>,
        next_header: u8,
        outer: &OuterHeader,
    ) -> Result<(), OpenError> {
        match (self.mode, next_header) {
            //= rfc4303#2.6
            //# a receiver MUST be prepared to discard such packets,
            //# without indicating an error.
            (_, protocol::NO_NEXT_HEADER) => Err(OpenError::Dummy),
            (Mode::Transport, _) => self.restore_header(packet, next_header, outer),
            (Mode::Beet, _) => {
                let hosts = self.hosts.as_ref().ok_or(OpenError::Header)?;
                hosts.restore(packet, next_header, outer)
            }
            (_, protocol::IPV4) => decapsulate(&self.tos, packet, Version::V4, outer.tos),
            (_, protocol::IPV6) => decapsulate(&self.tos, packet, Version::V6, outer.tos),
            (_, other) => Err(OpenError::NextHeader(other)),
        }
    }

    /// Takes AH out of an authentic packet, and in tunnel mode what is in front of it too.
    fn uncover_ah(
        &self,
        packet: &mut PacketBuffer<'_>,
        opened: &OpenedAh,
    ) -> Result<(), OpenError> {
        let version = match (self.mode, opened.next_header) {
            (Mode::Transport, _) => {
                // The headers in front move to where AH ends.
                let bytes = packet.bytes_mut();
                bytes.copy_within(..opened.at, opened.len);
                packet.trim_front(opened.len);
                if let Some(field) = packet.bytes_mut().get_mut(opened.named_at) {
                    *field = opened.next_header;
                }
                return set_length(packet.bytes_mut(), opened.at).ok_or(OpenError::Header);
            }
            (_, protocol::IPV4) => Version::V4,
            (_, protocol::IPV6) => Version::V6,
            (_, other) => return Err(OpenError::NextHeader(other)),
        };
        packet.trim_front(opened.at + opened.len);
        decapsulate(&self.tos, packet, version, opened.tos)
    }

    /// Transport mode: the payload belongs behind the IP header that the packet came with.
    fn restore_header(
        &self,
        packet: &mut PacketBuffer<'_>,
        next_header: u8,
        outer: &OuterHeader,
    ) -> Result<(), OpenError> {
        if self.encapsulated {
            //= rfc3948#3.1.2
            //# Depending on local policy, one of the following MUST be done:
            // The second of them: the checksum is computed anew.
            ip::rewrite_transport_checksum(packet.bytes_mut(), next_header, outer.src, outer.dst);
        }
        outer.restore(packet, next_header)
    }
}

/// Checks and decrypts ESP; the sequence number and what it says that follows. The buffer then holds the payload.
fn decrypt(
    cipher: &EspCipher,
    overhead: &Overhead,
    esn: bool,
    replay: &mut ReplayWindow,
    packet: &mut PacketBuffer<'_>,
) -> Result<(u64, u8), OpenError> {
    let len = packet.len();
    let around = overhead.front() + overhead.icv;
    let ciphertext = len.checked_sub(around).ok_or(OpenError::Length(len))?;
    // The alignment to 4 octets of RFC 4303 §2.4 is asked for as well: whoever does not keep it has not made ESP.
    if ciphertext < ESP_TRAILER_LEN || !ciphertext.is_multiple_of(overhead.alignment) {
        return Err(OpenError::Length(len));
    }
    let header = EspHeader::parse(packet.bytes()).ok_or(OpenError::Length(len))?;
    //= rfc4303#3.4.3
    //# If the received packet falls within the window and is not a
    //# duplicate, or if the packet is to the right of the window, and if a
    //# separate integrity algorithm is employed, then the receiver proceeds
    //# to integrity verification.
    let sequence = replay.check(header.sequence)?;
    cipher
        .open(sequence, esn, packet.bytes_mut())
        .map_err(|_| OpenError::NotAuthentic)?;
    replay.commit(sequence)?;

    packet.trim_front(overhead.front());
    packet.truncate(ciphertext);
    let next_header = remove_trailer(packet)?;
    Ok((sequence, next_header))
}

/// Tunnel mode: the payload is a packet, followed by TFC padding perhaps (RFC 4303 §2.7).
pub(crate) fn decapsulate(
    policy: &TosPolicy,
    packet: &mut PacketBuffer<'_>,
    version: Version,
    outer_tos: u8,
) -> Result<(), OpenError> {
    let header = IpHeader::parse(packet.bytes())?;
    if header.version != version {
        return Err(IpError::Version(if header.version == Version::V4 { 4 } else { 6 }).into());
    }
    packet.truncate(header.total_len);
    let tos = policy
        .decapsulate(header.tos, outer_tos)
        .ok_or(OpenError::Congestion)?;
    if tos != header.tos {
        ip::set_tos(packet.bytes_mut(), version, tos);
    }
    Ok(())
}

/// Takes padding, pad length and next header off a decrypted payload; gives the next header.
fn remove_trailer(packet: &mut PacketBuffer<'_>) -> Result<u8, OpenError> {
    let Some((rest, &[pad_len, next_header])) = packet.bytes().split_last_chunk() else {
        return Err(OpenError::Padding);
    };
    let pad_len = usize::from(pad_len);
    let payload = rest.len().checked_sub(pad_len).ok_or(OpenError::Padding)?;
    //= rfc4303#2.4
    //# When this
    //# padding scheme is employed, the receiver SHOULD inspect the Padding
    //# field.
    if !rest[payload..].iter().copied().eq(1..=pad_len as u8) {
        return Err(OpenError::Padding);
    }
    packet.truncate(payload);
    Ok(next_header)
}
