//! AH (RFC 4302): integrity of a packet and of the IP header in front of it, without encryption.
//!
//! ```text
//! IP header | next header 1 | length 1 | reserved 2 | SPI 4 | sequence number 4 | ICV, padding | payload
//!           |<------------------------- authentication header ---------------------------->|
//! ```
//!
//! The ICV covers all of it, with zeros in the place of what routers change ([`immutable`]) and of the ICV itself, and
//! with extended sequence numbers their high half behind the payload.

use cygnet_crypto::AhKey;
use cygnet_ipsec::{Protocol, ReplayWindow, Sa};

use crate::error::{OpenError, SaError, SealError};
use crate::ip::{self, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpError, IpHeader, Version, protocol};

/// Octets of the header without ICV and padding.
const FIXED_LEN: usize = 12;
/// Octets of the longest ICV, HMAC-SHA2-512-256's.
const MAX_ICV: usize = 32;
/// Octets of IP header, options and extension headers in front of AH, at most. More is refused: senders have no use for it,
/// and the copy without mutable fields lies on the stack.
const MAX_HEADERS: usize = 512;
/// Octets of padding at most: what fills up to a multiple of 8.
const MAX_PADDING: usize = 7;

/// SPI and sequence number of an AH packet, read without any check but for length: for finding the SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AhHeader {
    /// Security parameters index.
    pub spi: u32,
    /// The low 32 bits of the sequence number.
    pub sequence: u32,
}

impl AhHeader {
    /// Octets from the beginning of AH to the SPI.
    pub const SPI_AT: usize = 4;

    /// Finds AH in an IP packet; `None` if there is none, or it is cut.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let header = IpHeader::parse(packet).ok()?;
        let (at, _) = locate(packet, &header).ok()?;
        let fixed: &[u8; FIXED_LEN] = packet.get(at..)?.first_chunk()?;
        let [_, _, _, _, a, b, c, d, e, f, g, h] = *fixed;
        Some(Self {
            spi: u32::from_be_bytes([a, b, c, d]),
            sequence: u32::from_be_bytes([e, f, g, h]),
        })
    }
}

/// Where AH begins in a received packet, behind all headers that routers may look at, and where the octet is that says so.
fn locate(packet: &[u8], header: &IpHeader) -> Result<(usize, usize), OpenError> {
    //= rfc4302#3.4.1
    //# If a
    //# packet offered to AH for processing appears to be an IP fragment,
    //# i.e., the OFFSET field is nonzero or the MORE FRAGMENTS flag is set,
    //# the receiver MUST discard the packet; this is an auditable event.
    if header.fragment {
        return Err(OpenError::Fragment);
    }
    let mut named_at = match header.version {
        Version::V4 => ip::v4::PROTOCOL,
        Version::V6 => ip::v6::NEXT_HEADER,
    };
    let (mut next, mut at) = (header.next_header, header.header_len);
    loop {
        match next {
            protocol::AH => return Ok((at, named_at)),
            protocol::FRAGMENT => return Err(OpenError::Fragment),
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS
                if header.version == Version::V6 =>
            {
                let &[following, units] = packet
                    .get(at..)
                    .and_then(<[u8]>::first_chunk)
                    .ok_or(IpError::Length)?;
                next = following;
                named_at = at;
                at += (usize::from(units) + 1) * 8;
            }
            _ => return Err(OpenError::Length(packet.len())),
        }
    }
}

/// The key of an SA and the sizes that follow from it.
#[derive(Debug)]
pub(crate) struct Ah {
    key: AhKey,
    /// What the length of the header is a multiple of.
    alignment: usize,
}

impl Ah {
    pub fn new(sa: &Sa) -> Result<Self, SaError> {
        let Some(integrity) = &sa.integrity else {
            return Err(SaError::NoIntegrity);
        };
        if sa.id.protocol != Protocol::Ah {
            return Err(SaError::Protocol(sa.id.protocol));
        }
        if sa.encap.is_some() {
            return Err(SaError::Encapsulated);
        }
        // The ICV covers the source address: the route cannot choose it afterwards.
        if sa.src.is_unspecified() {
            return Err(SaError::OpenSource);
        }
        let key = AhKey::new(integrity.transform, integrity.key.as_bytes())
            .map_err(|error| SaError::Keys(error.to_string()))?;
        //= rfc4302#2.6
        //# All implementations MUST
        //# support such padding and MUST insert only enough padding to satisfy
        //# the IPv4/IPv6 alignment requirements.
        // The kernel pads to 8 octets over IPv4 too unless it is told not to (XFRM_STATE_ALIGN4).
        let alignment = if sa.flags.align4 && sa.id.dst.is_ipv4() {
            4
        } else {
            8
        };
        Ok(Self { key, alignment })
    }

    /// Octets of the header, ICV and padding included.
    pub fn header_len(&self) -> usize {
        self.unpadded_len().next_multiple_of(self.alignment)
    }

    fn unpadded_len(&self) -> usize {
        FIXED_LEN + self.key.icv_len()
    }

    /// What stands in the place of the ICV while it is computed.
    fn zeros(&self) -> &'static [u8] {
        const ZEROS: &[u8] = &[0; MAX_ICV];
        ZEROS.get(..self.key.icv_len()).unwrap_or(ZEROS)
    }

    /// Writes the header `at` octets behind the beginning of an IP packet that has room for it there and says all else.
    pub fn seal(
        &self,
        spi: u32,
        sequence: u64,
        esn: bool,
        packet: &mut [u8],
        at: usize,
        next_header: u8,
    ) -> Result<(), SealError> {
        let mut masked = [0; MAX_HEADERS];
        let headers = immutable(packet, at, &mut masked)?;
        let len = self.header_len();
        let (ah, payload) = packet
            .get_mut(at..)
            .and_then(|rest| rest.split_at_mut_checked(len))
            .ok_or(SealError::Cipher)?;
        let (fixed, rest) = ah
            .split_first_chunk_mut::<FIXED_LEN>()
            .ok_or(SealError::Cipher)?;
        let [a, b, c, d] = spi.to_be_bytes();
        let (high, [e, f, g, h]) = halves(sequence);
        //= rfc4302#2.2
        //# This 8-bit field specifies the length of AH in 32-bit words (4-byte
        //# units), minus "2".
        let units = (len / 4 - 2) as u8;
        //= rfc4302#2.3
        //# This 16-bit field is reserved for future use.  It MUST be set to
        //# "zero" by the sender, and it SHOULD be ignored by the recipient.
        *fixed = [next_header, units, 0, 0, a, b, c, d, e, f, g, h];
        let (icv, padding) = rest.split_at_mut(self.key.icv_len());
        padding.fill(0);
        let parts = [
            headers,
            fixed,
            self.zeros(),
            padding,
            payload,
            high_part(&high, esn),
        ];
        self.key
            .sign(&parts, icv)
            .then_some(())
            .ok_or(SealError::Cipher)
    }

    /// Checks the sequence number and the ICV of a whole IP packet.
    pub fn open(
        &self,
        esn: bool,
        replay: &mut ReplayWindow,
        packet: &[u8],
    ) -> Result<OpenedAh, OpenError> {
        let impossible = OpenError::Length(packet.len());
        let header = IpHeader::parse(packet)?;
        let (at, named_at) = locate(packet, &header)?;
        let (fixed, _) = packet
            .get(at..)
            .and_then(<[u8]>::split_first_chunk::<FIXED_LEN>)
            .ok_or(impossible)?;
        let &[next_header, units, _, _, _, _, _, _, e, f, g, h] = fixed;
        let len = (usize::from(units) + 2) * 4;
        // Not more padding than there has to be, but over IPv4 to a multiple of 8 too: the kernel's way.
        let padding = len.checked_sub(self.unpadded_len()).ok_or(impossible)?;
        let alignment = match header.version {
            Version::V4 => 4,
            Version::V6 => 8,
        };
        if padding > MAX_PADDING || !len.is_multiple_of(alignment) {
            return Err(impossible);
        }
        let (ah, payload) = packet
            .get(at..)
            .and_then(|rest| rest.split_at_checked(len))
            .ok_or(impossible)?;
        let (icv, padding) = ah
            .get(FIXED_LEN..)
            .and_then(|rest| rest.split_at_checked(self.key.icv_len()))
            .ok_or(impossible)?;

        //= rfc4302#3.4.3
        //# If the received packet falls within the window and is not a
        //# duplicate, or if the packet is to the right of the window, then the
        //# receiver proceeds to ICV verification.  If the ICV validation fails,
        //# the receiver MUST discard the received IP datagram as invalid.
        let sequence = replay.check(u32::from_be_bytes([e, f, g, h]))?;
        let mut masked = [0; MAX_HEADERS];
        let headers = immutable(packet, at, &mut masked)?;
        let (high, _) = halves(sequence);
        let parts = [
            headers,
            fixed,
            self.zeros(),
            padding,
            payload,
            high_part(&high, esn),
        ];
        if !self.key.verify(&parts, icv) {
            return Err(OpenError::NotAuthentic);
        }
        replay.commit(sequence)?;
        Ok(OpenedAh {
            sequence,
            at,
            named_at,
            len,
            next_header,
            tos: header.tos,
        })
    }
}

/// Where AH stood in an authentic packet, and what it said.
pub(crate) struct OpenedAh {
    pub sequence: u64,
    /// Octets in front of AH.
    pub at: usize,
    /// Where among them the octet is that says that AH follows.
    pub named_at: usize,
    /// Octets of AH.
    pub len: usize,
    pub next_header: u8,
    /// TOS or traffic class of the header in front.
    pub tos: u8,
}

/// The high half of a sequence number, and the octets of the low one.
fn halves(sequence: u64) -> ([u8; 4], [u8; 4]) {
    let [a, b, c, d, e, f, g, h] = sequence.to_be_bytes();
    ([a, b, c, d], [e, f, g, h])
}

//= rfc4302#3.3.3.2.2
//# If the ESN option is elected for an SA, then the high-order 32 bits
//# of the ESN must be included in the ICV computation.
fn high_part(high: &[u8; 4], esn: bool) -> &[u8] {
    if esn { high } else { &[] }
}

/// Copies the first `len` octets of a packet, its headers, with zeros in the place of what may change on the way
/// (RFC 4302 §3.3.3.1 and appendix A).
fn immutable<'a>(
    packet: &[u8],
    len: usize,
    masked: &'a mut [u8; MAX_HEADERS],
) -> Result<&'a [u8], IpError> {
    let masked = masked.get_mut(..len).ok_or(IpError::Length)?;
    masked.copy_from_slice(packet.get(..len).ok_or(IpError::Length)?);
    if packet.first().is_some_and(|first| first >> 4 == 4) {
        mask_v4(masked)?;
    } else {
        mask_v6(masked)?;
    }
    Ok(masked)
}

//= rfc4302#3.3.3.1
//# If a field may be modified during transit, the value of the field is
//# set to zero for purposes of the ICV computation.
fn mask_v4(headers: &mut [u8]) -> Result<(), IpError> {
    let (fixed, options) = headers
        .split_first_chunk_mut::<IPV4_HEADER_LEN>()
        .ok_or(IpError::Length)?;
    let [
        _,
        tos,
        _,
        _,
        _,
        _,
        flags,
        offset,
        ttl,
        _,
        checksum @ ..,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
    ] = fixed;
    for octet in [tos, flags, offset, ttl].into_iter().chain(checksum) {
        *octet = 0;
    }
    mask_v4_options(options)
}

fn mask_v4_options(mut options: &mut [u8]) -> Result<(), IpError> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    /// Security, extended security, commercial security, router alert, sender directed multi-destination delivery.
    const IMMUTABLE: [u8; 5] = [130, 133, 134, 148, 149];
    const SOURCE_ROUTES: [u8; 2] = [131, 137];
    loop {
        match *options {
            [] | [END, ..] => return Ok(()),
            [NO_OPERATION, ..] => options = options.split_at_mut(1).1,
            [kind, len, ..] if len >= 2 => {
                let (option, rest) = options
                    .split_at_mut_checked(usize::from(len))
                    .ok_or(IpError::Length)?;
                // The third octet points behind the route when that is at its end (RFC 791 §3.1).
                let pending = option.get(2).is_none_or(|pointer| *pointer <= len);
                if SOURCE_ROUTES.contains(&kind) && pending {
                    return Err(IpError::SourceRoute);
                }
                //= rfc4302#3.3.3.1.1.2
                //# if an option is classified as mutable, the entire option
                //# is zeroed for ICV computation purposes.
                if !IMMUTABLE.contains(&kind) {
                    option.fill(0);
                }
                options = rest;
            }
            _ => return Err(IpError::Length),
        }
    }
}

fn mask_v6(headers: &mut [u8]) -> Result<(), IpError> {
    let (fixed, mut rest) = headers
        .split_first_chunk_mut::<IPV6_HEADER_LEN>()
        .ok_or(IpError::Length)?;
    let [version, label @ .., _, _, next, hop_limit] =
        fixed.first_chunk_mut::<8>().ok_or(IpError::Length)?;
    *version &= 0xf0;
    label.fill(0);
    *hop_limit = 0;
    let mut kind = *next;
    while let [next, units, ..] = *rest {
        let (header, behind) = rest
            .split_at_mut_checked((usize::from(units) + 1) * 8)
            .ok_or(IpError::Length)?;
        match kind {
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => {
                mask_v6_options(header.split_at_mut(2).1)?;
            }
            // Until it has reached its end, addresses stand elsewhere than where the receiver finds them.
            protocol::ROUTING if header.get(3).is_some_and(|left| *left == 0) => {}
            protocol::ROUTING => return Err(IpError::SourceRoute),
            _ => return Err(IpError::Length),
        }
        kind = next;
        rest = behind;
    }
    Ok(())
}

fn mask_v6_options(mut options: &mut [u8]) -> Result<(), IpError> {
    const PAD1: u8 = 0;
    /// The bit of an option's type that says that its data may change (RFC 8200 §4.2).
    const MUTABLE: u8 = 0x20;
    loop {
        match *options {
            [] => return Ok(()),
            [PAD1, ..] => options = options.split_at_mut(1).1,
            [kind, len, ..] => {
                let (option, rest) = options
                    .split_at_mut_checked(2 + usize::from(len))
                    .ok_or(IpError::Length)?;
                //= rfc4302#3.3.3.1.2.2
                //# For any option for which contents
                //# may change en-route, the entire "Option Data" field must be treated
                //# as zero-valued octets when computing or verifying the ICV.
                if kind & MUTABLE != 0 {
                    option.split_at_mut(2).1.fill(0);
                }
                options = rest;
            }
            _ => return Err(IpError::Length),
        }
    }
}
