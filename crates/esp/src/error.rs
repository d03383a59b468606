//! Why packets are dropped and SAs refused, and which of the kernel's counters each reason belongs to (K10).

use cygnet_ipsec::{Counter, Mode, Protocol, ReplayError};
use thiserror::Error;

use crate::buffer::NoRoom;
use crate::ip::IpError;

/// An SA that this crate cannot carry packets for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SaError {
    /// Only ESP and AH are done here, and beside them IPComp.
    #[error("protocol {0:?} is not supported, only esp and ah are")]
    Protocol(Protocol),
    /// Only tunnel and transport mode are done here, and ESP in BEET mode.
    #[error("mode {0:?} is not supported, only tunnel and transport are, and beet with esp")]
    Mode(Mode),
    /// BEET without a selector that names two hosts of one family.
    #[error("a beet sa needs a selector of two single addresses")]
    BeetAddresses,
    /// Outer source and destination of different families.
    #[error("outer source and destination are of different address families")]
    MixedFamilies,
    /// An inbound SA given where an outbound one is needed, or the reverse.
    #[error("the sa is for the other direction")]
    Direction,
    /// SPI 0 is for local use and 1 to 255 are reserved (RFC 4303 §2.1).
    #[error("spi {0:#x} is reserved")]
    ReservedSpi(u32),
    /// Replay window not possible.
    #[error("replay window: {0}")]
    ReplayWindow(String),
    /// AH without an integrity algorithm.
    #[error("the sa has no integrity algorithm")]
    NoIntegrity,
    /// AH in UDP or TCP: what is in front of AH would not be covered.
    #[error("ah cannot be encapsulated")]
    Encapsulated,
    /// AH from no particular address.
    #[error("ah needs a source address")]
    OpenSource,
    /// ESP without even the NULL cipher.
    #[error("the sa has no encryption algorithm")]
    NoCipher,
    /// The algorithm is unknown or the key does not fit it.
    #[error("keys: {0}")]
    Keys(String),
}

/// Why a packet was not sealed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SealError {
    /// The clear packet is not a well-formed IP packet.
    #[error("packet to be sealed: {0}")]
    Malformed(#[from] IpError),
    /// Transport mode protects whole datagrams only (RFC 4303 §3.1.1), and so does BEET.
    #[error("fragments cannot be protected in transport and beet mode")]
    Fragment,
    /// BEET carries packets between the two hosts of the SA's selector only.
    #[error("packet is not between the hosts of the beet sa")]
    BeetAddresses,
    /// IPv4 packets of protocol 94 do not cross BEET: that is the number of its own pseudo header.
    #[error("packet of the protocol that beet has for ipv4 options")]
    BeetProtocol,
    /// Transport mode with a packet whose address family is not that of the SA.
    #[error("packet and transport mode sa are of different address families")]
    Family,
    /// Larger than the path of the SA allows, and not to be fragmented: [`crate::icmp`] tells the sender.
    #[error("packet is larger than the mtu of the sa, {mtu}")]
    TooBig {
        /// The largest packet that passes.
        mtu: usize,
    },
    /// The result would be longer than an IP packet can be.
    #[error("sealed packet would exceed 65535 bytes")]
    TooLong,
    /// All sequence numbers are used up; the SA must be replaced.
    #[error("sequence numbers are exhausted")]
    SequenceExhausted,
    /// The caller's buffer is too small.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// AH has no dummy packets.
    #[error("ah has no dummy packets")]
    NoDummies,
    /// The SA's packets go into a TCP stream, which writes its headers itself.
    #[error("esp in tcp has no headers of its own")]
    Stream,
    /// The cipher refused, which no packet of possible length causes.
    #[error("encryption failed")]
    Cipher,
}

impl SealError {
    /// The counter of `/proc/net/xfrm_stat` for this drop.
    pub const fn counter(&self) -> Counter {
        match self {
            SealError::Malformed(_)
            | SealError::Fragment
            | SealError::BeetAddresses
            | SealError::BeetProtocol
            | SealError::Family
            | SealError::TooBig { .. }
            | SealError::TooLong => Counter::OutStateModeError,
            SealError::SequenceExhausted => Counter::OutStateSeqError,
            SealError::NoRoom(_) | SealError::Stream | SealError::NoDummies => Counter::OutError,
            SealError::Cipher => Counter::OutStateProtoError,
        }
    }
}

/// Why a received ESP or AH packet was dropped.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// Too short for header, IV, trailer and ICV, or not a whole number of cipher blocks; or no AH of the right length in it.
    #[error("esp or ah packet of {0} bytes has an impossible length")]
    Length(usize),
    /// AH in a fragment: it covers whole packets (RFC 4302 §3.4.1).
    #[error("ah in a fragment")]
    Fragment,
    /// The replay check failed.
    #[error("replay check: {0}")]
    Replay(#[from] ReplayError),
    /// The ICV is wrong: corrupted, forged or sealed with another key.
    #[error("integrity check failed")]
    NotAuthentic,
    /// Pad length or padding contradict RFC 4303 §2.4, in an authentic packet: the peer is at fault.
    #[error("padding is malformed")]
    Padding,
    /// A dummy packet (next header 59) sent to hide traffic: no error, silently discarded (RFC 4303 §2.6).
    #[error("dummy packet")]
    Dummy,
    /// Neither IPv4 nor IPv6 in tunnel mode.
    #[error("next header {0} in a tunnel mode sa")]
    NextHeader(u8),
    /// The pseudo header for IPv4 options contradicts itself or the packet.
    #[error("pseudo header of a beet packet is malformed")]
    PseudoHeader,
    /// A packet with an IPComp header that does not decompress to an IP packet.
    #[error("packet does not decompress to an ip packet")]
    Decompression,
    /// What was inside is not a well-formed IP packet.
    #[error("inner packet: {0}")]
    Inner(#[from] IpError),
    /// Congestion was marked on a packet whose transport does not understand it (RFC 6040 §4.2).
    #[error("congestion experienced on a packet that is not ecn-capable")]
    Congestion,
    /// The outer addresses given are of different families, or the packet grew too long.
    #[error("no ip header can be made for the packet")]
    Header,
    /// The caller's buffer is too small.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

impl OpenError {
    /// The counter of `/proc/net/xfrm_stat` for this drop; none for dummy packets, which are not errors.
    pub const fn counter(&self) -> Option<Counter> {
        Some(match self {
            OpenError::Length(_)
            | OpenError::NotAuthentic
            | OpenError::Padding
            | OpenError::Decompression => Counter::InStateProtoError,
            OpenError::Replay(_) => Counter::InStateSeqError,
            OpenError::NextHeader(_)
            | OpenError::PseudoHeader
            | OpenError::Inner(_)
            | OpenError::Congestion
            | OpenError::Header => Counter::InStateModeError,
            OpenError::Fragment => Counter::InHdrError,
            OpenError::NoRoom(_) => Counter::InError,
            OpenError::Dummy => return None,
        })
    }
}
