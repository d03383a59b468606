//! IKEv2 messages: bytes to values and back. No cryptography, no state.
//!
//! Implements the message format of RFC 7296, section 3, and of RFC 7383 (fragments), and the framing
//! around it (RFC 3948, and RFC 9329 for streams). Received messages are looked at through views that borrow the datagram; what
//! policies make and compare (proposals, traffic selectors) are small owned values; messages are
//! written to the end of a caller's buffer.
//!
//! - Read: [`Message::parse`], then [`Message::payloads`]; after decryption [`PayloadChain::new`].
//! - Write: [`write_message`] and [`PayloadWriter`].
//! - Numbers of the IANA registry are open newtypes such as [`NotifyType`]: unknown values are kept.
//! - [`limits`] bound what one message can make a receiver do.
//!
//! Nothing here panics, whatever the input. Malformed input is a [`ParseError`], values that have no
//! encoding a [`WriteError`]. Reserved bits and octets are ignored when read and zero when written;
//! everything else that is read, known or not, is written again as it was.
//!
//! ```
//! use cygnet_wire::{Message, ParseError, Payload, TransformType, UdpDatagram, classify_natt};
//!
//! /// The key exchange methods that the first proposal of a message offers.
//! fn offered(datagram: &[u8]) -> Result<Vec<u16>, ParseError> {
//!     let UdpDatagram::Ike(bytes) = classify_natt(datagram) else { return Ok(Vec::new()) };
//!     for payload in Message::parse(bytes)?.payloads() {
//!         if let Payload::Sa(sa) = payload? {
//!             let Some(proposal) = sa.proposals().next() else { break };
//!             let offered = proposal.transforms().filter(|t| t.kind == TransformType::KE);
//!             return Ok(offered.map(|transform| transform.id).collect());
//!         }
//!     }
//!     Ok(Vec::new())
//! }
//! # assert_eq!(offered(&[0; 32]).unwrap_err().to_string(), "major version 0 is not IKEv2 at octet 17");
//! ```
#![forbid(unsafe_code)]

pub mod limits;

mod error;
mod framing;
mod header;
mod message;
mod payload;
mod reader;
mod registry;
mod spi;
mod stream;
mod writer;

pub use error::{ParseError, ParseErrorKind, WriteError};
pub use framing::{EspHeader, NAT_KEEPALIVE, NON_ESP_MARKER, UdpDatagram, classify_natt};
pub use header::{Flags, Header, Version};
pub use message::{Message, PayloadChain, Payloads, RawPayload, RawPayloads};
pub use payload::{
    AggfragNotify, Attribute, AttributeValue, AttributeView, Attributes, AuthPayload, CertPayload,
    CertReqPayload, ConfigAttribute, ConfigAttributes, CpPayload, DeletePayload, DigitalSignature,
    EapPayload, Gateway, IdPayload, IpcompNotify, KePayload, MessageIdSync, NoGateway,
    NoncePayload, Notify, Payload, Proposal, ProposalView, Proposals, PsPayload, PuzzleNotify,
    RedirectNotify, ReplayCounterSync, SaPayload, SelectorEntries, SelectorEntry, SkPayload,
    SkfPayload, TicketNotify, TrafficSelector, Transform, TransformView, Transforms, TsPayload,
};
pub use registry::{
    AttributeType, AuthMethodId, CertEncoding, CfgAttributeType, CfgType, EapCode, EapType, EncrId,
    EsnId, ExchangeType, GatewayIdType, GroupControllerAuthId, HashAlgorithm, IdType, IntegId,
    IpcompTransform, KeId, KeyWrapId, NotifyType, PayloadType, PpkIdType, PrfId, ProtocolId,
    RohcAttributeType, SecurePasswordMethod, TransformType, TsType,
};
pub use spi::{IkeSpi, Spi};
pub use stream::{MAX_STREAM_MESSAGE, STREAM_PREFIX, StreamError, StreamReader, stream_length};
pub use writer::{PayloadWriter, write_message};
