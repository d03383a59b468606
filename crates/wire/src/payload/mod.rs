//! Payload bodies: what is behind the generic payload header (RFC 7296, 3.3 to 3.16; RFC 7383, 2.5; RFC 8019, 8).
//!
//! Views borrow the message. A view that exists has been checked as a whole, so that walking it cannot fail; each has
//! a `parse` that takes the body without the generic header. Reserved octets are ignored when received.

mod aggfrag;
mod auth;
pub(crate) mod configuration;
mod delete;
mod eap;
mod encrypted;
mod identity;
mod ipcomp;
mod message_id_sync;
mod notify;
pub(crate) mod proposal;
mod puzzle;
mod redirect;
mod replay_counter_sync;
mod sa;
mod ticket;
pub(crate) mod traffic_selector;

pub use aggfrag::AggfragNotify;
pub use auth::{
    AuthPayload, CertPayload, CertReqPayload, DigitalSignature, KePayload, NoncePayload,
};
pub use configuration::{ConfigAttribute, ConfigAttributes, CpPayload};
pub use delete::DeletePayload;
pub use eap::EapPayload;
pub use encrypted::{SkPayload, SkfPayload};
pub use identity::IdPayload;
pub use ipcomp::IpcompNotify;
pub use message_id_sync::MessageIdSync;
pub use notify::Notify;
pub use proposal::{Attribute, AttributeValue, Proposal, Transform};
pub use puzzle::{PsPayload, PuzzleNotify};
pub use redirect::{Gateway, NoGateway, RedirectNotify};
pub use replay_counter_sync::ReplayCounterSync;
pub use sa::{
    AttributeView, Attributes, ProposalView, Proposals, SaPayload, TransformView, Transforms,
};
pub use ticket::TicketNotify;
pub use traffic_selector::{SelectorEntries, SelectorEntry, TrafficSelector, TsPayload};

use crate::registry::PayloadType;

/// One payload of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payload<'a> {
    /// Security Association.
    Sa(SaPayload<'a>),
    /// Key Exchange.
    Ke(KePayload<'a>),
    /// Identification of the initiator.
    IdI(IdPayload<'a>),
    /// Identification of the responder.
    IdR(IdPayload<'a>),
    /// Certificate.
    Cert(CertPayload<'a>),
    /// Certificate Request.
    CertReq(CertReqPayload<'a>),
    /// Authentication.
    Auth(AuthPayload<'a>),
    /// Nonce.
    Nonce(NoncePayload<'a>),
    /// Notify.
    Notify(Notify<'a>),
    /// Delete.
    Delete(DeletePayload<'a>),
    /// Vendor ID.
    VendorId(&'a [u8]),
    /// Traffic selectors of the initiator of the exchange.
    TsI(TsPayload<'a>),
    /// Traffic selectors of the responder of the exchange.
    TsR(TsPayload<'a>),
    /// Encrypted and Authenticated.
    Sk(SkPayload<'a>),
    /// Encrypted and Authenticated Fragment.
    Skf(SkfPayload<'a>),
    /// Configuration.
    Cp(CpPayload<'a>),
    /// Extensible Authentication.
    Eap(EapPayload<'a>),
    /// Puzzle Solution.
    Ps(PsPayload<'a>),
    /// A type that this crate does not know. Ignored by the receiver unless it is critical
    /// (RFC 7296, 2.5); see [`PayloadChain::unsupported_critical`](crate::PayloadChain::unsupported_critical).
    Unknown {
        /// Payload type.
        payload_type: PayloadType,
        /// Critical bit.
        critical: bool,
        /// Everything behind the generic header.
        body: &'a [u8],
    },
}

impl Payload<'_> {
    /// The type that the preceding next-payload field gives.
    #[must_use]
    pub const fn payload_type(&self) -> PayloadType {
        match self {
            Self::Sa(_) => PayloadType::SA,
            Self::Ke(_) => PayloadType::KE,
            Self::IdI(_) => PayloadType::ID_I,
            Self::IdR(_) => PayloadType::ID_R,
            Self::Cert(_) => PayloadType::CERT,
            Self::CertReq(_) => PayloadType::CERTREQ,
            Self::Auth(_) => PayloadType::AUTH,
            Self::Nonce(_) => PayloadType::NONCE,
            Self::Notify(_) => PayloadType::NOTIFY,
            Self::Delete(_) => PayloadType::DELETE,
            Self::VendorId(_) => PayloadType::VENDOR_ID,
            Self::TsI(_) => PayloadType::TS_I,
            Self::TsR(_) => PayloadType::TS_R,
            Self::Sk(_) => PayloadType::SK,
            Self::Skf(_) => PayloadType::SKF,
            Self::Cp(_) => PayloadType::CP,
            Self::Eap(_) => PayloadType::EAP,
            Self::Ps(_) => PayloadType::PS,
            Self::Unknown { payload_type, .. } => *payload_type,
        }
    }
}
