//! ESP and AH packet transforms: tunnel, transport and BEET mode, extended sequence numbers, replay protection (RFC 4303,
//! RFC 4302).
//!
//! Pure: no sockets, clocks or randomness, and nothing is allocated per packet. A packet lies in a
//! [`PacketBuffer`], a window on the caller's memory with headroom in front and tailroom behind; it is transformed in
//! place.
//!
//! ```text
//! outbound:  IP packet    --Outbound::seal-->  ESP packet (SPI..ICV) and Sealed { outer: OuterHeader }
//!                         --write_outer---->   whole IP packet, where no UDP socket writes the headers
//! inbound:   ESP packet and OuterHeader  --Inbound::open-->  IP packet
//! ```
//!
//! AH covers the header in front of it. So of AH both have the whole IP packet in the buffer.
//!
//! A batch that shares an SA goes like this:
//!
//! ```text
//! let outbound = Outbound::new(&sa)?;                       // Sync: shared by threads
//! for (seq, packet) in outbound.reserve(batch.len())?.zip(batch) {
//!     outbound.check_size(packet.bytes())?;                 // TooBig { mtu } -> icmp::too_big(..)
//!     let sealed = outbound.seal(seq, packet)?;             // SealError::counter() -> ipsec::Counter
//!     send(packet.bytes(), sealed.outer.tos, sealed.outer.dont_fragment);
//! }
//! let mut inbound = Inbound::new(&sa)?;                     // owns the replay window
//! let opened = inbound.open(packet, &outer)?;               // OpenError::counter() -> Option<ipsec::Counter>
//! ```
//!
//! | module | what | source |
//! |---|---|---|
//! | `outbound`, `inbound` | the transforms | RFC 4303 §3.3, §3.4; K4, K8 |
//! | `ah` | the authentication header, what of a packet it covers | RFC 4302 |
//! | `beet` | BEET mode: a header that does not travel | draft-nikander-esp-beet-mode |
//! | `buffer` | [`PacketBuffer`] | |
//! | `ecn` | ECN and DSCP across a tunnel | RFC 6040, RFC 2983 |
//! | `overhead` | sizes and MTU | K4 |
//! | `fragment` | [`Fragments`] of what has been authenticated | RFC 791 |
//! | [`ipcomp`] | compression inside ESP or AH | RFC 3173, RFC 2394 |
//! | [`icmp`] | "packet too big" to the sender | RFC 1191, RFC 4443 |
//! | `ip`, `outer` | IP headers | RFC 791, RFC 8200 |
#![forbid(unsafe_code)]

mod ah;
mod beet;
mod buffer;
mod ecn;
mod error;
mod fragment;
pub mod icmp;
mod inbound;
mod ip;
pub mod ipcomp;
mod outbound;
mod outer;
mod overhead;
mod sa;

pub use ah::AhHeader;
pub use buffer::{NoRoom, PacketBuffer, Room};
pub use ecn::{ECN_MASK, Ecn, TosPolicy};
pub use error::{OpenError, SaError, SealError};
pub use fragment::Fragments;
pub use inbound::{EspHeader, Inbound, Opened};
pub use ip::IpError;
pub use ipcomp::{Deflate, IpComp};
pub use outbound::{Outbound, Sealed, SequenceBlock};
pub use outer::{DEFAULT_HOP_LIMIT, OuterHeader};
pub use overhead::Overhead;
