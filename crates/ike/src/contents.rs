//! The payloads of one message, sorted.

use cygnet_wire::{
    AuthPayload, CpPayload, DeletePayload, IdPayload, KeId, KePayload, NoncePayload, Notify,
    NotifyType, ParseError, Payload, PayloadChain, PayloadType, PsPayload, SaPayload,
    TrafficSelector, TsPayload,
};
use thiserror::Error;

use crate::reason::{FailureReason, Party};

/// What a message holds. Of the payloads that may come once only, the one.
#[derive(Debug, Default)]
pub(crate) struct Contents<'a> {
    pub(crate) sa: Option<SaPayload<'a>>,
    pub(crate) ke: Option<KePayload<'a>>,
    pub(crate) nonce: Option<NoncePayload<'a>>,
    pub(crate) id_i: Option<IdPayload<'a>>,
    pub(crate) id_r: Option<IdPayload<'a>>,
    pub(crate) auth: Option<AuthPayload<'a>>,
    pub(crate) ts_i: Option<TsPayload<'a>>,
    pub(crate) ts_r: Option<TsPayload<'a>>,
    pub(crate) cp: Option<CpPayload<'a>>,
    pub(crate) solution: Option<PsPayload<'a>>,
    pub(crate) notifies: Vec<Notify<'a>>,
    pub(crate) deletes: Vec<DeletePayload<'a>>,
}

/// Why the payloads of a message cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Unreadable {
    /// One that must be understood is not.
    #[error("critical payload {0} is not understood")]
    Critical(PayloadType),
    /// One is malformed.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// One is there twice that may be there once only.
    #[error("more than one {0} payload")]
    Twice(PayloadType),
}

impl Unreadable {
    /// What the peer is told.
    pub(crate) fn notify(&self) -> (NotifyType, Vec<u8>) {
        match self {
            Self::Critical(payload) => (NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![payload.0]),
            Self::Malformed(_) | Self::Twice(_) => (NotifyType::INVALID_SYNTAX, Vec::new()),
        }
    }
}

/// Why an IKE SA does not come about whose peer has sent it.
impl From<Unreadable> for FailureReason {
    fn from(error: Unreadable) -> Self {
        let by = Party::Us;
        match error {
            Unreadable::Critical(payload) => Self::UnsupportedCriticalPayload { by, payload },
            Unreadable::Malformed(_) | Unreadable::Twice(_) => {
                let detail = error.to_string();
                Self::InvalidSyntax { by, detail }
            }
        }
    }
}

impl<'a> Contents<'a> {
    /// Sorts the payloads of a message.
    pub(crate) fn read(chain: PayloadChain<'a>) -> Result<Self, Unreadable> {
        //= rfc7296#2.5
        //# If the critical flag is set
        //# and the payload type is unrecognized, the message MUST be rejected
        //# and the response to the IKE request containing that payload MUST
        //# include a Notify payload UNSUPPORTED_CRITICAL_PAYLOAD, indicating an
        //# unsupported critical payload was included.
        if let Some(payload) = chain.unsupported_critical() {
            return Err(Unreadable::Critical(payload));
        }
        let mut contents = Self::default();
        for payload in chain.payloads() {
            let payload = payload?;
            let kind = payload.payload_type();
            match payload {
                Payload::Sa(sa) => once(&mut contents.sa, sa, kind)?,
                Payload::Ke(ke) => once(&mut contents.ke, ke, kind)?,
                Payload::Nonce(nonce) => once(&mut contents.nonce, nonce, kind)?,
                Payload::IdI(id) => once(&mut contents.id_i, id, kind)?,
                Payload::IdR(id) => once(&mut contents.id_r, id, kind)?,
                Payload::Auth(auth) => once(&mut contents.auth, auth, kind)?,
                Payload::TsI(ts) => once(&mut contents.ts_i, ts, kind)?,
                Payload::TsR(ts) => once(&mut contents.ts_r, ts, kind)?,
                Payload::Cp(cp) => once(&mut contents.cp, cp, kind)?,
                Payload::Ps(ps) => once(&mut contents.solution, ps, kind)?,
                Payload::Notify(notify) => contents.notifies.push(notify),
                Payload::Delete(delete) => contents.deletes.push(delete),
                //= rfc7296#2.5
                //# If the critical flag is not set and the payload type
                //# is unsupported, that payload MUST be ignored.
                _ => {}
            }
        }
        Ok(contents)
    }

    /// The first notification of a kind.
    pub(crate) fn notify(&self, kind: NotifyType) -> Option<&Notify<'a>> {
        self.notifies.iter().find(|n| n.kind == kind)
    }

    /// Whether there is a notification of a kind.
    pub(crate) fn has(&self, kind: NotifyType) -> bool {
        self.notify(kind).is_some()
    }

    /// The first error.
    pub(crate) fn error(&self) -> Option<&Notify<'a>> {
        self.notifies.iter().find(|n| n.kind.is_error())
    }

    /// The key exchange method that INVALID_KE_PAYLOAD asks for.
    pub(crate) fn wanted_key_exchange(&self) -> Option<KeId> {
        self.notifies.iter().find_map(Notify::wanted_key_exchange)
    }

    /// The data of all notifications of a kind.
    pub(crate) fn data_of(&self, kind: NotifyType) -> Vec<&'a [u8]> {
        self.notifies
            .iter()
            .filter(|n| n.kind == kind)
            .map(|n| n.data)
            .collect()
    }
}

fn once<T>(slot: &mut Option<T>, value: T, kind: PayloadType) -> Result<(), Unreadable> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Unreadable::Twice(kind)),
    }
}

/// The selectors of a payload that are ranges of addresses and not empty.
//= rfc7296#2.9
//# If the type of Traffic Selector proposed is unknown, the responder
//# ignores that Traffic Selector, so that the unknown type is not
//# returned in the narrowed set.
pub(crate) fn ranges(ts: &TsPayload<'_>) -> Vec<TrafficSelector> {
    ts.selectors().filter(|s| s.start <= s.end).collect()
}
