//! IPComp (RFC 3173) with DEFLATE (RFC 2394): a payload that becomes smaller travels behind a header of four octets, one
//! that does not travels as it is.
//!
//! ```text
//! transport:  IP  payload           ->  IP  IPComp  DEFLATE(payload)
//! tunnel:     IP' payload'          ->  IP  IPComp  DEFLATE(IP' payload')
//! ```
//!
//! An IPComp SA lies inside one of ESP in transport mode: what comes out of [`IpComp::compress`] goes into
//! [`Outbound::seal`](crate::Outbound::seal), and what comes out of [`Inbound::open`](crate::Inbound::open) goes into
//! [`IpComp::decompress`], or into [`IpComp::decapsulate`] if it was not compressed.

use std::net::IpAddr;

use cygnet_ipsec::{Compression, Mode, Protocol, Sa};
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, TDEFLStatus, compress};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use miniz_oxide::{DataFormat, deflate::CompressionLevel};

use crate::buffer::PacketBuffer;
use crate::ecn::TosPolicy;
use crate::error::{OpenError, SaError, SealError};
use crate::inbound::decapsulate;
use crate::ip::{
    self, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader, NewHeader, TransportSplit, Version, protocol,
    set_length,
};
use crate::outer::DEFAULT_HOP_LIMIT;
use crate::sa;

/// Octets of the IPComp header: next header, flags, CPI.
const HEADER_LEN: usize = 4;
/// Payloads that are shorter are not tried, as in the kernel.
const THRESHOLD: usize = 90;
/// No packet becomes longer than that, whatever its DEFLATE stream asks for.
const MAX_LEN: usize = 65_535;

/// What compresses and decompresses: state of some hundred kilobytes that SAs share.
pub struct Deflate {
    compressor: Box<CompressorOxide>,
    decompressor: Box<DecompressorOxide>,
    output: Box<[u8]>,
}

impl std::fmt::Debug for Deflate {
    // What is in there are the users' packets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflate").finish_non_exhaustive()
    }
}

impl Default for Deflate {
    fn default() -> Self {
        let mut compressor = Box::<CompressorOxide>::default();
        compressor.set_format_and_level(DataFormat::Raw, CompressionLevel::DefaultLevel as u8);
        Self {
            compressor,
            decompressor: Box::default(),
            output: vec![0; MAX_LEN].into_boxed_slice(),
        }
    }
}

impl Deflate {
    /// The payload compressed, if it is less than `limit` octets then.
    fn compress(&mut self, payload: &[u8], limit: usize) -> Option<&[u8]> {
        let output = self.output.get_mut(..limit)?;
        self.compressor.reset();
        let (status, _, len) = compress(&mut self.compressor, payload, output, TDEFLFlush::Finish);
        (status == TDEFLStatus::Done)
            .then(|| self.output.get(..len))
            .flatten()
    }

    /// What the whole DEFLATE stream decompresses to, if that is an IP packet's length at most.
    fn decompress(&mut self, stream: &[u8]) -> Option<&[u8]> {
        self.decompressor.init();
        let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, _, len) =
            decompress(&mut self.decompressor, stream, &mut self.output, 0, flags);
        (status == TINFLStatus::Done)
            .then(|| self.output.get(..len))
            .flatten()
    }
}

/// An IPComp SA, of either direction.
#[derive(Clone, Debug)]
pub struct IpComp {
    cpi: u16,
    tunnel: bool,
    src: IpAddr,
    dst: IpAddr,
    tos: TosPolicy,
    copy_dont_fragment: bool,
}

/// The compression parameter index of an IP packet that has an IPComp header behind its own; for finding the SA.
pub fn cpi(packet: &[u8]) -> Option<u16> {
    let header = IpHeader::parse(packet).ok()?;
    let payload = packet.get(header.header_len..)?;
    match (header.next_header, payload) {
        (protocol::IPCOMP, &[_, _, a, b, ..]) => Some(u16::from_be_bytes([a, b])),
        _ => None,
    }
}

/// Whether what an IP packet carries is an IP packet: one of an IPComp tunnel that was not compressed.
pub fn is_encapsulated(packet: &[u8]) -> bool {
    IpHeader::parse(packet)
        .is_ok_and(|header| matches!(header.next_header, protocol::IPV4 | protocol::IPV6))
}

impl IpComp {
    /// Takes what it needs from an SA.
    ///
    /// # Errors
    ///
    /// The SA is none of IPComp with DEFLATE in tunnel or transport mode.
    pub fn new(sa: &Sa) -> Result<Self, SaError> {
        if sa.id.protocol != Protocol::Comp {
            return Err(SaError::Protocol(sa.id.protocol));
        }
        if sa.compression != Some(Compression::Deflate) {
            return Err(SaError::NoCipher);
        }
        if !matches!(sa.mode, Mode::Tunnel | Mode::Transport) {
            return Err(SaError::Mode(sa.mode));
        }
        if sa.src.is_ipv4() != sa.id.dst.is_ipv4() {
            return Err(SaError::MixedFamilies);
        }
        let cpi = u16::try_from(sa.id.spi).map_err(|_| SaError::ReservedSpi(sa.id.spi))?;
        Ok(Self {
            cpi,
            tunnel: sa.mode == Mode::Tunnel,
            src: sa.src,
            dst: sa.id.dst,
            tos: sa::tos_policy(sa),
            copy_dont_fragment: !sa.flags.no_pmtu_disc,
        })
    }

    /// Octets of the IP header that a packet gets in front.
    pub fn outer_ip(&self) -> usize {
        match (self.tunnel, self.dst.is_ipv4()) {
            (false, _) => 0,
            (true, true) => IPV4_HEADER_LEN,
            (true, false) => IPV6_HEADER_LEN,
        }
    }

    /// Compresses the IP packet in the buffer if that makes it smaller, and puts the tunnel's header in front. Afterwards
    /// the buffer holds a packet for ESP in transport mode. What is counted is returned: octets of the packet as it came.
    ///
    /// # Errors
    ///
    /// [`SealError::Malformed`], [`SealError::NoRoom`], [`SealError::TooLong`].
    pub fn compress(
        &self,
        packet: &mut PacketBuffer<'_>,
        deflate: &mut Deflate,
    ) -> Result<usize, SealError> {
        let header = IpHeader::parse(packet.bytes())?;
        packet.truncate(header.total_len);
        let counted = packet.len();
        if !self.tunnel {
            let split = TransportSplit::find(packet.bytes(), &header)?;
            //= rfc3173#2.2
            //# If the total size of a compressed payload and the IPComp header, as
            //# defined in section 3, is not smaller than the size of the original
            //# payload, the IP datagram MUST be sent in the original non-compressed
            //# form.
            if !split.fragment
                && self.shrink(packet, split.header_len, split.next_header, deflate)?
            {
                if let Some(next) = packet.bytes_mut().get_mut(split.next_header_at) {
                    *next = protocol::IPCOMP;
                }
                set_length(packet.bytes_mut(), split.header_len).ok_or(SealError::TooLong)?;
            }
            return Ok(counted);
        }
        let inside = match header.version {
            Version::V4 => protocol::IPV4,
            Version::V6 => protocol::IPV6,
        };
        let shrunk = self.shrink(packet, 0, inside, deflate)?;
        let outer = NewHeader {
            src: self.src,
            dst: self.dst,
            tos: self.tos.encapsulate(header.tos),
            hop_limit: DEFAULT_HOP_LIMIT,
            dont_fragment: header.dont_fragment && self.copy_dont_fragment,
            identification: 0,
            flow_label: if self.dst.is_ipv6() {
                header.flow_label
            } else {
                0
            },
            protocol: if shrunk { protocol::IPCOMP } else { inside },
        };
        packet.prepend(outer.len())?;
        outer.write(packet.bytes_mut()).ok_or(SealError::TooLong)?;
        Ok(counted)
    }

    /// Puts an IPComp header and the compressed payload in the place of the payload, which begins at `from`, if that is
    /// shorter; says whether it is.
    fn shrink(
        &self,
        packet: &mut PacketBuffer<'_>,
        from: usize,
        next_header: u8,
        deflate: &mut Deflate,
    ) -> Result<bool, SealError> {
        let payload = packet.bytes().get(from..).unwrap_or_default();
        if payload.len() < THRESHOLD {
            return Ok(false);
        }
        let Some(compressed) = deflate.compress(payload, payload.len() - HEADER_LEN - 1) else {
            return Ok(false);
        };
        packet.truncate(from);
        let [a, b] = self.cpi.to_be_bytes();
        //= rfc3173#3.3
        //# Reserved for future use.  MUST be set to zero.  MUST be ignored by
        //# the receiving node.
        packet
            .append(HEADER_LEN)?
            .copy_from_slice(&[next_header, 0, a, b]);
        packet.append(compressed.len())?.copy_from_slice(compressed);
        Ok(true)
    }

    /// Decompresses the IP packet in the buffer, which has an IPComp header behind its own, and takes the tunnel's header
    /// off. What is counted is returned: octets of the packet without its IP header, decompressed.
    ///
    /// # Errors
    ///
    /// [`OpenError::Decompression`], and as [`decapsulate`](Self::decapsulate).
    pub fn decompress(
        &self,
        packet: &mut PacketBuffer<'_>,
        deflate: &mut Deflate,
    ) -> Result<usize, OpenError> {
        let header = IpHeader::parse(packet.bytes())?;
        packet.truncate(header.total_len);
        let split = TransportSplit::find(packet.bytes(), &header)?;
        let payload = packet.bytes().get(split.header_len..).unwrap_or_default();
        let (&[next_header, _, _, _], stream) = payload
            .split_first_chunk::<HEADER_LEN>()
            .filter(|_| split.next_header == protocol::IPCOMP)
            .ok_or(OpenError::Decompression)?;
        let plain = deflate.decompress(stream).ok_or(OpenError::Decompression)?;
        packet.truncate(split.header_len);
        packet.append(plain.len())?.copy_from_slice(plain);
        if let Some(next) = packet.bytes_mut().get_mut(split.next_header_at) {
            *next = next_header;
        }
        set_length(packet.bytes_mut(), split.header_len).ok_or(OpenError::Decompression)?;
        let counted = packet.len() - split.header_len;
        if self.tunnel {
            self.decapsulate(packet)?;
        }
        Ok(counted)
    }

    /// Writes the TCP or UDP checksum of a packet anew that was compressed in transport mode, inside ESP in UDP: a NAT has changed
    /// the addresses that it covers, and ESP could not reach it.
    pub fn rewrite_checksum(&self, packet: &mut PacketBuffer<'_>) {
        let Ok(header) = IpHeader::parse(packet.bytes()) else {
            return;
        };
        let addresses = ip::addresses(packet.bytes(), header.version).filter(|_| !self.tunnel);
        if let Some((src, dst)) = addresses
            && let Some(payload) = packet.bytes_mut().get_mut(header.header_len..)
        {
            //= rfc3948#3.1.2
            //# Depending on local policy, one of the following MUST be done:
            ip::rewrite_transport_checksum(payload, header.next_header, src, dst);
        }
    }

    /// Takes the tunnel's header off a packet that was not compressed.
    ///
    /// # Errors
    ///
    /// [`OpenError::NextHeader`] if no IP packet is inside, [`OpenError::Inner`] if it is malformed,
    /// [`OpenError::Congestion`].
    pub fn decapsulate(&self, packet: &mut PacketBuffer<'_>) -> Result<(), OpenError> {
        let outer = IpHeader::parse(packet.bytes())?;
        let version = match outer.next_header {
            protocol::IPV4 => Version::V4,
            protocol::IPV6 => Version::V6,
            other => return Err(OpenError::NextHeader(other)),
        };
        packet.trim_front(outer.header_len);
        decapsulate(&self.tos, packet, version, outer.tos)
    }
}
