//! BEET mode: ESP as in transport mode between the outer addresses, while inside the packet has a fixed pair of addresses,
//! those of the SA's selector, which do not travel (draft-nikander-esp-beet-mode-09; the kernel's `xfrm4_mode_beet`).
//!
//! The two pairs may be of different families. IPv4 options travel behind a pseudo header of their own:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+---------------+---------------+
//! |  Next Header  | Header Length | Padding Length|   Reserved    |
//! +---------------+---------------+---------------+---------------+
//! |   Padding (NOPs) and the options, up to a multiple of 8 octets
//! ```

use std::net::IpAddr;

use cygnet_ipsec::Sa;

use crate::buffer::PacketBuffer;
use crate::error::{OpenError, SaError, SealError};
use crate::ip::{
    self, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader, NewHeader, Version, protocol, set_length,
};
use crate::outer::OuterHeader;

/// Octets of the pseudo header without padding and options.
const PSEUDO_HEADER_LEN: usize = 4;
/// The option that says nothing (RFC 791 §3.1).
const NO_OPERATION: u8 = 1;
/// The most octets of options that an IPv4 header has.
const MAX_OPTIONS_LEN: usize = 40;

/// The inner addresses of a BEET SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hosts {
    pub src: IpAddr,
    pub dst: IpAddr,
}

impl Hosts {
    /// From the SA's selector.
    pub fn of(sa: &Sa) -> Result<Self, SaError> {
        let selector = sa.selector.as_ref().ok_or(SaError::BeetAddresses)?;
        let (src, dst) = (selector.src, selector.dst);
        let single =
            src.prefix_len() == src.max_prefix_len() && dst.prefix_len() == dst.max_prefix_len();
        if !single || !selector.is_consistent() {
            return Err(SaError::BeetAddresses);
        }
        Ok(Self {
            src: src.addr(),
            dst: dst.addr(),
        })
    }

    /// Octets of the inner header that does not travel.
    pub fn header_len(&self) -> usize {
        if self.dst.is_ipv4() {
            IPV4_HEADER_LEN
        } else {
            IPV6_HEADER_LEN
        }
    }

    /// Takes the inner header off a packet; what follows it, for ESP to say.
    pub fn strip(&self, packet: &mut PacketBuffer<'_>, header: &IpHeader) -> Result<u8, SealError> {
        // The receiver puts the SA's addresses in: others would be changed on the way.
        if ip::addresses(packet.bytes(), header.version) != Some((self.src, self.dst)) {
            return Err(SealError::BeetAddresses);
        }
        // The fragment fields of the inner header do not travel.
        if header.fragment {
            return Err(SealError::Fragment);
        }
        // The receiver would take the payload for the pseudo header of options.
        if header.version == Version::V4 && header.next_header == protocol::BEET_PSEUDO_HEADER {
            return Err(SealError::BeetProtocol);
        }
        let options = match header.version {
            Version::V4 => header.header_len - IPV4_HEADER_LEN,
            Version::V6 => 0,
        };
        packet.trim_front(header.header_len - options);
        if options == 0 {
            return Ok(header.next_header);
        }
        // Options are a multiple of 4, so that 0 or 4 octets are missing to a multiple of 8 with the pseudo header.
        let padding = 4 - (options & 4);
        let front = packet.prepend(PSEUDO_HEADER_LEN + padding)?;
        front.fill(NO_OPERATION);
        let units = (options / 8) as u8;
        let fields = [header.next_header, units, padding as u8, 0];
        for (octet, value) in front.iter_mut().zip(fields) {
            *octet = value;
        }
        Ok(protocol::BEET_PSEUDO_HEADER)
    }

    /// Puts the inner header in front of a decrypted payload; what else it says is what the outer one said.
    pub fn restore(
        &self,
        packet: &mut PacketBuffer<'_>,
        mut next_header: u8,
        outer: &OuterHeader,
    ) -> Result<(), OpenError> {
        let mut options = 0;
        if next_header == protocol::BEET_PSEUDO_HEADER && self.dst.is_ipv4() {
            let &[next, units, padding, _] = packet
                .bytes()
                .first_chunk::<PSEUDO_HEADER_LEN>()
                .ok_or(OpenError::PseudoHeader)?;
            let front = PSEUDO_HEADER_LEN + usize::from(padding);
            options = ((usize::from(units) + 1) * 8)
                .checked_sub(front)
                .filter(|options| {
                    options.is_multiple_of(4)
                        && *options <= MAX_OPTIONS_LEN
                        && front + options <= packet.len()
                })
                .ok_or(OpenError::PseudoHeader)?;
            packet.trim_front(front);
            next_header = next;
        }
        let header = NewHeader {
            src: self.src,
            dst: self.dst,
            tos: outer.tos,
            hop_limit: outer.hop_limit,
            dont_fragment: outer.dont_fragment,
            identification: 0,
            flow_label: outer.flow_label,
            protocol: next_header,
        };
        packet.prepend(header.len())?;
        header.write(packet.bytes_mut()).ok_or(OpenError::Header)?;
        if options > 0 {
            // The options lie behind the header already.
            let len = header.len() + options;
            let units = (len / 4) as u8;
            if let Some(first) = packet.bytes_mut().first_mut() {
                *first = 0x40 | units;
            }
            set_length(packet.bytes_mut(), len).ok_or(OpenError::Header)?;
        }
        Ok(())
    }
}
