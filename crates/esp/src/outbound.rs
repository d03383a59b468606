//! Sealing: RFC 4303 §3.3, RFC 4302 §3.3, with the kernel's tunnel header rules (K4).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use cygnet_crypto::EspCipher;
use cygnet_ipsec::{Encap, EncapKind, Mode, Sa, SaDirection};

use crate::ah::Ah;
use crate::beet::Hosts;
use crate::buffer::PacketBuffer;
use crate::ecn::TosPolicy;
use crate::error::{SaError, SealError};
use crate::ip::{
    self, IPV6_MIN_MTU, IpHeader, NewHeader, TransportSplit, UDP_HEADER_LEN, Version, protocol,
};
use crate::outer::{DEFAULT_HOP_LIMIT, OuterHeader};
use crate::overhead::{ESP_TRAILER_LEN, Overhead};
use crate::sa::{self, Protection};

/// A block of sequence numbers that belongs to one batch; iterate over it.
///
/// Numbers that are not used are lost, which the receiver sees as lost packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceBlock {
    next: u64,
    end: u64,
}

impl Iterator for SequenceBlock {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let number = self.next;
        (number < self.end).then(|| {
            self.next += 1;
            number
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.end - self.next) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for SequenceBlock {}

/// What sealing a packet yielded besides the bytes in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The IP header to send the ESP packet with.
    pub outer: OuterHeader,
    /// What the SA's byte counter and byte lifetime grow by, as the kernel counts it: the clear packet, in transport mode
    /// without its IP header.
    pub counted: usize,
    /// Transport mode: octets of the packet's own headers that wait in front of the ESP packet for `write_outer`.
    kept_header: usize,
}

/// An outbound SA, ready to seal. Shared by threads: nothing in it needs a lock.
#[derive(Debug)]
pub struct Outbound {
    protection: Protection,
    spi: u32,
    esn: bool,
    mode: Mode,
    /// The inner addresses of BEET mode.
    hosts: Option<Hosts>,
    src: IpAddr,
    dst: IpAddr,
    encap: Option<Encap>,
    overhead: Overhead,
    tos: TosPolicy,
    copy_dont_fragment: bool,
    tfc_pad: usize,
    hop_limit: u8,
    /// The last sequence number that was given away; the kernel's oseq.
    sequence: AtomicU64,
    /// The last sequence number that may be used.
    sequence_limit: u64,
    /// The largest outer packet, 65535 while nothing smaller is known.
    path_mtu: AtomicU32,
}

impl Outbound {
    /// Takes what it needs from an SA; its lifetime, selector and marks are the caller's to observe.
    ///
    /// # Errors
    ///
    /// The SA is one that this crate cannot do, or its key does not fit its algorithm.
    pub fn new(sa: &Sa) -> Result<Self, SaError> {
        let protection = Protection::new(sa, SaDirection::Out)?;
        Ok(Self {
            overhead: protection.overhead(sa),
            protection,
            spi: sa.id.spi,
            esn: sa.esn,
            mode: sa.mode,
            hosts: sa::hosts(sa)?,
            src: sa.src,
            dst: sa.id.dst,
            encap: sa.encap,
            tos: sa::tos_policy(sa),
            copy_dont_fragment: !sa.flags.no_pmtu_disc,
            tfc_pad: sa.tfc_pad.min(u32::from(u16::MAX)) as usize,
            hop_limit: DEFAULT_HOP_LIMIT,
            sequence: AtomicU64::new(0),
            //= rfc4303#2.2
            //# If anti-replay is enabled
            //# (the default), the transmitted sequence number must never be allowed
            //# to cycle.
            // Wrapping (XFRM_SA_XFLAG_OSEQ_MAY_WRAP) is not offered: IVs derive from the number and must not repeat.
            sequence_limit: if sa.esn {
                u64::MAX - 1
            } else {
                u64::from(u32::MAX)
            },
            path_mtu: AtomicU32::new(u32::from(u16::MAX)),
        })
    }

    /// The SPI.
    pub fn spi(&self) -> u32 {
        self.spi
    }

    /// Outer source and destination address.
    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        (self.src, self.dst)
    }

    /// UDP encapsulation, if any.
    pub fn encap(&self) -> Option<Encap> {
        self.encap
    }

    /// The sizes of what is put around a packet.
    pub fn overhead(&self) -> &Overhead {
        &self.overhead
    }

    /// Octets that a packet needs in front of it for [`seal`](Self::seal) and [`write_outer`](Self::write_outer).
    pub fn headroom(&self) -> usize {
        let added = self.overhead.outer_ip + self.overhead.encapsulation + self.overhead.front();
        // A dummy packet in BEET mode has no header to leave out.
        match self.mode {
            Mode::Transport => added - self.overhead.left_out_ip,
            _ => added,
        }
    }

    /// Octets that a packet needs behind it for [`seal`](Self::seal).
    pub fn tailroom(&self) -> usize {
        let tfc = if self.mode == Mode::Tunnel && matches!(self.protection, Protection::Esp(_)) {
            self.tfc_pad
        } else {
            0
        };
        tfc + (self.overhead.alignment - 1) + self.overhead.trailer + self.overhead.icv
    }

    /// Sets the TTL or Hop Limit of outer headers in tunnel mode, which is [`DEFAULT_HOP_LIMIT`] at first.
    ///
    /// The inner one is left as it is: whoever forwarded the packet to the tunnel has decremented it (RFC 4301 §5.1.2).
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        self.hop_limit = hop_limit;
    }

    /// Sets the MTU of the path to the peer: octets of a whole outer IP packet.
    pub fn set_path_mtu(&self, mtu: u32) {
        self.path_mtu.store(mtu, Ordering::Relaxed);
    }

    /// The MTU of the path to the peer, 65535 while nothing smaller was set.
    pub fn path_mtu(&self) -> u32 {
        self.path_mtu.load(Ordering::Relaxed)
    }

    /// The largest clear packet, IP header included, that passes without fragments of ESP; see
    /// [`Overhead::max_inner`].
    pub fn max_inner(&self) -> usize {
        self.overhead.max_inner(self.path_mtu() as usize)
    }

    /// Whether the packet may be sealed as far as its size goes.
    ///
    /// IPv4 packets without DF always may, the outer packets are fragmented then. IPv6 packets of up to 1280 octets may
    /// too, since no one is told a smaller MTU (RFC 8200 §5).
    ///
    /// # Errors
    ///
    /// [`SealError::TooBig`] with the MTU for the ICMP error; [`SealError::Malformed`].
    #[inline]
    pub fn check_size(&self, packet: &[u8]) -> Result<(), SealError> {
        self.check_size_within(packet, 0)
    }

    /// The same for a packet that gets so many octets in front before it is sealed: an IPComp tunnel's header.
    ///
    /// # Errors
    ///
    /// As [`check_size`](Self::check_size).
    #[inline]
    pub fn check_size_within(&self, packet: &[u8], around: usize) -> Result<(), SealError> {
        let mtu = self.max_inner().saturating_sub(around);
        if packet.len() <= mtu {
            return Ok(());
        }
        let header = IpHeader::parse(packet)?;
        let mtu = match header.version {
            Version::V4 if !header.dont_fragment => return Ok(()),
            Version::V4 => mtu,
            Version::V6 => mtu.max(IPV6_MIN_MTU),
        };
        if header.total_len > mtu {
            Err(SealError::TooBig { mtu })
        } else {
            Ok(())
        }
    }

    /// Reserves sequence numbers for that many packets, fewer if not so many are left.
    ///
    /// # Errors
    ///
    /// [`SealError::SequenceExhausted`] if none is left.
    pub fn reserve(&self, packets: u32) -> Result<SequenceBlock, SealError> {
        //= rfc4303#3.3.3
        //# In other words, the sender MUST NOT send a
        //# packet on an SA if doing so would cause the sequence number to cycle.
        let last = self
            .sequence
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                let end = last
                    .saturating_add(u64::from(packets))
                    .min(self.sequence_limit);
                (end > last || packets == 0).then_some(end)
            })
            .map_err(|_| SealError::SequenceExhausted)?;
        let end = last
            .saturating_add(u64::from(packets))
            .min(self.sequence_limit);
        Ok(SequenceBlock {
            next: last + 1,
            end: end + 1,
        })
    }

    /// The last sequence number that was reserved, 0 at first.
    pub fn last_sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// Continues after this sequence number: for an SA that is taken over with its state.
    ///
    /// A smaller number than the key was ever used with breaks the encryption: AEAD nonces repeat.
    pub fn resume_after(&self, sequence: u64) {
        self.sequence.store(sequence, Ordering::Relaxed);
    }

    /// Seals the IP packet in the buffer in place. Afterwards the buffer holds the ESP packet, from SPI to ICV, or with AH the
    /// whole IP packet, since AH covers its header too.
    ///
    /// The sequence number comes from [`reserve`](Self::reserve) and is used once: AEAD nonces derive from it. After an
    /// error the buffer's content is undefined. The size is not checked, see [`check_size`](Self::check_size).
    ///
    /// # Errors
    ///
    /// Any [`SealError`] but `TooBig` and `SequenceExhausted`.
    pub fn seal(&self, sequence: u64, packet: &mut PacketBuffer<'_>) -> Result<Sealed, SealError> {
        let header = IpHeader::parse(packet.bytes())?;
        packet.truncate(header.total_len);
        match (&self.protection, self.mode, &self.hosts) {
            (Protection::Ah(ah), ..) => self.seal_ah(ah, sequence, packet, &header),
            (Protection::Esp(cipher), Mode::Transport, _) => {
                self.seal_transport(cipher, sequence, packet, &header)
            }
            (Protection::Esp(cipher), _, Some(hosts)) => {
                self.seal_beet(cipher, sequence, packet, &header, hosts)
            }
            (Protection::Esp(cipher), ..) => self.seal_tunnel(cipher, sequence, packet, &header),
        }
    }

    fn seal_ah(
        &self,
        ah: &Ah,
        sequence: u64,
        packet: &mut PacketBuffer<'_>,
        header: &IpHeader,
    ) -> Result<Sealed, SealError> {
        // Never 0: in the place of that a raw socket puts what it likes, and the ICV covers it. Other than 65535 packets apart
        // no two are alike (RFC 6864 §4.3).
        let identification = (sequence % u64::from(u16::MAX)) as u16 + 1;
        let room = self.overhead.header;
        if self.mode == Mode::Transport {
            let split = self.split(packet.bytes(), header)?;
            let kept = split.header_len;
            let counted = packet.len() - kept;
            packet.prepend(room)?;
            let bytes = packet.bytes_mut();
            bytes.copy_within(room..room + kept, 0);
            if let Some(next_header) = bytes.get_mut(split.next_header_at) {
                *next_header = protocol::AH;
            }
            ip::set_missing_identification(bytes, identification);
            ip::set_length(bytes, kept).ok_or(SealError::TooLong)?;
            ah.seal(self.spi, sequence, self.esn, bytes, kept, split.next_header)?;
            return Ok(Sealed {
                outer: self.outer_of_transport(header),
                counted,
                kept_header: kept,
            });
        }
        let counted = packet.len();
        let outer = self.outer_of_tunnel(header);
        let new = NewHeader {
            src: outer.src,
            dst: outer.dst,
            tos: outer.tos,
            hop_limit: outer.hop_limit,
            dont_fragment: outer.dont_fragment,
            identification,
            flow_label: outer.flow_label,
            protocol: protocol::AH,
        };
        packet.prepend(room + new.len())?;
        let bytes = packet.bytes_mut();
        new.write(bytes).ok_or(SealError::TooLong)?;
        let inside = inside(header.version);
        ah.seal(self.spi, sequence, self.esn, bytes, new.len(), inside)?;
        Ok(Sealed {
            outer,
            counted,
            kept_header: 0,
        })
    }

    /// Where ESP or AH goes in transport mode.
    fn split(&self, packet: &[u8], header: &IpHeader) -> Result<TransportSplit, SealError> {
        if (header.version == Version::V4) != self.dst.is_ipv4() {
            return Err(SealError::Family);
        }
        let split = TransportSplit::find(packet, header)?;
        //= rfc4303#3.1.1
        //# Thus, transport mode ESP is applied only to
        //# whole IP datagrams (not to IP fragments).
        // So is AH (RFC 4302 §3.3.4).
        if split.fragment {
            return Err(SealError::Fragment);
        }
        Ok(split)
    }

    /// What a packet in transport mode is sent with: what it had.
    fn outer_of_transport(&self, header: &IpHeader) -> OuterHeader {
        OuterHeader {
            src: self.src,
            dst: self.dst,
            tos: header.tos,
            hop_limit: header.hop_limit,
            dont_fragment: header.dont_fragment,
            flow_label: header.flow_label,
        }
    }

    /// The header of a tunnel around a packet.
    #[inline]
    fn outer_of_tunnel(&self, inner: &IpHeader) -> OuterHeader {
        self.outer_header(inner, self.tos.encapsulate(inner.tos), self.hop_limit)
    }

    fn seal_beet(
        &self,
        cipher: &EspCipher,
        sequence: u64,
        packet: &mut PacketBuffer<'_>,
        header: &IpHeader,
        hosts: &Hosts,
    ) -> Result<Sealed, SealError> {
        let next_header = hosts.strip(packet, header)?;
        let counted = packet.len();
        self.protect(cipher, sequence, packet, next_header, 0)?;
        Ok(Sealed {
            outer: self.outer_header(header, header.tos, header.hop_limit),
            counted,
            kept_header: 0,
        })
    }

    #[inline]
    fn seal_tunnel(
        &self,
        cipher: &EspCipher,
        sequence: u64,
        packet: &mut PacketBuffer<'_>,
        header: &IpHeader,
    ) -> Result<Sealed, SealError> {
        let counted = packet.len();
        let tfc = self.tfc_padding(counted);
        self.protect(cipher, sequence, packet, inside(header.version), tfc)?;
        Ok(Sealed {
            outer: self.outer_of_tunnel(header),
            counted,
            kept_header: 0,
        })
    }

    /// The new header around a packet that has this one.
    #[inline]
    fn outer_header(&self, inner: &IpHeader, tos: u8, hop_limit: u8) -> OuterHeader {
        OuterHeader {
            src: self.src,
            dst: self.dst,
            tos,
            hop_limit,
            dont_fragment: inner.dont_fragment && self.copy_dont_fragment,
            flow_label: match self.dst {
                IpAddr::V4(_) => 0,
                IpAddr::V6(_) => inner.flow_label,
            },
        }
    }

    fn seal_transport(
        &self,
        cipher: &EspCipher,
        sequence: u64,
        packet: &mut PacketBuffer<'_>,
        header: &IpHeader,
    ) -> Result<Sealed, SealError> {
        let split = self.split(packet.bytes(), header)?;
        let kept = split.header_len;
        let counted = packet.len() - kept;
        // The kept headers move to the front, where the headers of ESP and UDP leave just room for them.
        let moved = self.overhead.encapsulation + self.overhead.front();
        packet.prepend(moved)?;
        let bytes = packet.bytes_mut();
        bytes.copy_within(moved..moved + kept, 0);
        if let Some(next_header) = bytes.get_mut(split.next_header_at) {
            *next_header = self.outer_protocol();
        }
        packet.trim_front(kept + moved);
        self.protect(cipher, sequence, packet, split.next_header, 0)?;
        Ok(Sealed {
            outer: self.outer_of_transport(header),
            counted,
            kept_header: kept,
        })
    }

    /// Puts a dummy packet (next header 59) with `payload` octets of zeros in the buffer, in place of what it holds.
    ///
    /// Peers discard it silently: it hides how much traffic there really is (RFC 4303 §2.6).
    ///
    /// # Errors
    ///
    /// [`SealError::NoRoom`], [`SealError::NoDummies`].
    pub fn seal_dummy(
        &self,
        sequence: u64,
        packet: &mut PacketBuffer<'_>,
        payload: usize,
    ) -> Result<Sealed, SealError> {
        let Protection::Esp(cipher) = &self.protection else {
            return Err(SealError::NoDummies);
        };
        packet.truncate(0);
        packet.append(payload)?.fill(0);
        self.protect(cipher, sequence, packet, protocol::NO_NEXT_HEADER, 0)?;
        let outer = OuterHeader {
            hop_limit: self.hop_limit,
            ..OuterHeader::between(self.src, self.dst)
        };
        Ok(Sealed {
            outer,
            counted: payload,
            kept_header: 0,
        })
    }

    /// Octets of TFC padding for a tunnel packet of this length (RFC 4303 §2.7): up to the size asked for, but not beyond
    /// what the path carries. In transport mode there is none, as not every protocol tells its own length.
    #[inline]
    fn tfc_padding(&self, len: usize) -> usize {
        if self.tfc_pad == 0 {
            0
        } else {
            self.tfc_pad.min(self.max_inner()).saturating_sub(len)
        }
    }

    /// The payload in the buffer becomes an ESP packet.
    #[inline]
    fn protect(
        &self,
        cipher: &EspCipher,
        sequence: u64,
        packet: &mut PacketBuffer<'_>,
        next_header: u8,
        tfc: usize,
    ) -> Result<(), SealError> {
        let padding = self.overhead.padding(packet.len() + tfc);
        let trailer = packet.append(tfc + padding + ESP_TRAILER_LEN + self.overhead.icv)?;
        let trailer = if tfc == 0 {
            trailer
        } else {
            let (octets, trailer) = trailer.split_at_mut(tfc);
            octets.fill(0);
            trailer
        };
        //= rfc4303#2.4
        //# If Padding bytes are needed but the encryption algorithm does not
        //# specify the padding contents, then the following default processing
        //# MUST be used.  The Padding bytes are initialized with a series of
        //# (unsigned, 1-byte) integer values.
        let [pad_octets @ .., pad_len, last] = &mut trailer[..padding + ESP_TRAILER_LEN] else {
            return Err(SealError::Cipher);
        };
        for (octet, number) in pad_octets.iter_mut().zip(1..) {
            *octet = number;
        }
        *pad_len = padding as u8;
        *last = next_header;
        packet.prepend(self.overhead.front())?;
        cipher
            .seal(sequence, self.esn, self.spi, packet.bytes_mut())
            .map_err(|_| SealError::Cipher)
    }

    /// What the IP header in front says follows: UDP or ESP.
    fn outer_protocol(&self) -> u8 {
        if self.encap.is_some() {
            protocol::UDP
        } else {
            protocol::ESP
        }
    }

    /// Writes UDP (if the SA has it) and IP headers in front of the ESP packet that [`seal`](Self::seal) left in the
    /// buffer: for raw sockets that take whole packets, and for captures. UDP sockets do it themselves, and AH has its header.
    ///
    /// `identification` goes into a new IPv4 header (RFC 6864: any value if DF is set, else unique for a while); in
    /// transport mode the packet keeps its own.
    ///
    /// # Errors
    ///
    /// [`SealError::NoRoom`], [`SealError::TooLong`], [`SealError::Stream`].
    pub fn write_outer(
        &self,
        sealed: &Sealed,
        packet: &mut PacketBuffer<'_>,
        identification: u16,
    ) -> Result<(), SealError> {
        if matches!(self.protection, Protection::Ah(_)) {
            return Ok(());
        }
        if let Some(encap) = self.encap {
            if encap.kind == EncapKind::Tcp {
                return Err(SealError::Stream);
            }
            let len =
                u16::try_from(packet.len() + UDP_HEADER_LEN).map_err(|_| SealError::TooLong)?;
            //= rfc3948#2.1
            //# the Source Port and Destination Port MUST be the same as that used
            //# by IKE traffic,
            let fields = [encap.local_port, encap.remote_port, len, 0];
            for (field, value) in packet
                .prepend(UDP_HEADER_LEN)?
                .as_chunks_mut()
                .0
                .iter_mut()
                .zip(fields)
            {
                *field = value.to_be_bytes();
            }
            // The checksum may be left out over IPv4 only (RFC 3948 §2.1, RFC 8200 §8.1).
            if self.dst.is_ipv6() {
                ip::write_udp_checksum(packet.bytes_mut(), sealed.outer.src, sealed.outer.dst);
            }
        }
        if sealed.kept_header != 0 {
            packet.prepend(sealed.kept_header)?;
            return ip::set_length(packet.bytes_mut(), sealed.kept_header)
                .ok_or(SealError::TooLong);
        }
        let header = NewHeader {
            src: sealed.outer.src,
            dst: sealed.outer.dst,
            tos: sealed.outer.tos,
            hop_limit: sealed.outer.hop_limit,
            dont_fragment: sealed.outer.dont_fragment,
            identification,
            flow_label: sealed.outer.flow_label,
            protocol: self.outer_protocol(),
        };
        packet.prepend(header.len())?;
        header.write(packet.bytes_mut()).ok_or(SealError::TooLong)
    }
}

/// What a tunnel's header says of a packet inside.
fn inside(version: Version) -> u8 {
    match version {
        Version::V4 => protocol::IPV4,
        Version::V6 => protocol::IPV6,
    }
}
