//! IKE_SESSION_RESUME: an IKE SA that was lost goes on as a new one without a key exchange (RFC 5723).
//!
//! Whoever has begun an IKE SA asks for a ticket in IKE_AUTH, and on each successor of it. When the peer is lost, and only
//! then, the ticket is left over, and IKE_SESSION_RESUME takes the place of IKE_SA_INIT: its nonces and the old SK_d make
//! the new keys, and IKE_AUTH shows that both ends have them.

mod initiator;
mod responder;
mod tickets;

pub(crate) use initiator::{ResumeSent, begin};
pub(crate) use responder::ResumeRequest;
pub(crate) use tickets::{Tickets, answer, asks, auth_lifetime, end, heed, permitted};

use std::time::Instant;

use cygnet_crypto::{AuthKey, SecretBytes, SignedOctets, constant_time_eq};
use cygnet_wire::IkeSpi;

use crate::identity::Identity;
use crate::ticket::PskHash;

/// Over what an initiator computes the AUTH payload of a session that it resumes. A responder takes both, and answers in
/// the same way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResumptionAuth {
    /// Over all that RFC 7296 §2.15 has signed, as RFC 5723 §4.3.3 says.
    #[default]
    Whole,
    /// Over its own first message alone, as libreswan does (seen in 5.2). That proves the same: the keys come from both
    /// nonces, and the identities must be those of the ticket.
    FirstMessage,
}

impl ResumptionAuth {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Whole => Self::FirstMessage,
            Self::FirstMessage => Self::Whole,
        }
    }

    /// The AUTH data.
    //= rfc5723#4.3.3
    //# AUTH = prf(SK_px, <message octets>)
    pub(crate) fn data(self, sk_p: &AuthKey, octets: &SignedOctets<'_>) -> SecretBytes {
        match self {
            Self::Whole => octets.resumption_auth(),
            Self::FirstMessage => sk_p.mac(&[octets.first_message]),
        }
    }

    /// In which way AUTH data were computed; `None`: in neither, or not with these keys.
    pub(crate) fn of(sk_p: &AuthKey, octets: &SignedOctets<'_>, data: &[u8]) -> Option<Self> {
        [Self::Whole, Self::FirstMessage]
            .into_iter()
            .find(|way| constant_time_eq(way.data(sk_p, octets).as_ref(), data))
    }
}

/// What IKE_AUTH has to know of a session that is resumed.
#[derive(Clone, Debug)]
pub(crate) struct Resumption {
    //= rfc5723#4.3.3
    //# As a result, the IDr value
    //# sent (by the gateway, and optionally by the client) in this exchange
    //# MUST also be identical to the value included in the ticket.
    pub(crate) local_id: Identity,
    //= rfc5723#4.3.3
    //# The IDi value sent in the IKE_AUTH exchange MUST be identical to the
    //# value included in the ticket.
    pub(crate) remote_id: Identity,
    /// A post-quantum pre-shared key has part in the old SK_d, and so in the new keys.
    //= rfc8784#3
    //# It MUST NOT be used when these
    //# subkeys are calculated as result of IKE SA rekey, resumption, or
    //# other similar operations.
    pub(crate) ppk: bool,
    pub(crate) auth: ResumptionAuth,
    /// As responder, what the ticket says besides.
    pub(crate) granted: Option<Granted>,
}

/// What only the one that has made the ticket knows.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    /// Our SPI of the IKE SA that is resumed.
    pub(crate) old: IkeSpi,
    /// When the peer has to authenticate itself anew.
    pub(crate) reauthenticate: Option<Instant>,
    /// The hash of the pre-shared key that it has shown.
    pub(crate) psk: PskHash,
}
