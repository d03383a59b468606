//! IKE_INTERMEDIATE: exchanges between IKE_SA_INIT and IKE_AUTH (RFC 9242).
//!
//! They carry the additional key exchanges (RFC 9370 §2.2.2), one each, and in the last one a post-quantum pre-shared
//! key (RFC 9867). Each replaces the keys of the IKE SA, and what was said enters the AUTH payloads as IntAuth.

mod initiator;
mod int_auth;
mod responder;

pub(crate) use initiator::{IntermediateSent, begin};
pub(crate) use int_auth::{IntAuth, clear_of_fragment};

use cygnet_crypto::{Additional, KeyExchange, SharedSecret, Skeyseed};

use crate::exchange::ike_sa_init::Handshake;
use crate::ppk::Stage;
use crate::reason::FailureReason;

/// Exchanges that a responder takes part in at most: seven key exchanges, and some that a peer may have for purposes
/// of its own.
//= rfc9242#5
//# Specifications utilizing the Intermediate Exchange MUST
//# NOT allow an unlimited number of these exchanges to take place at the
//# initiator's discretion.
const MAX_EXCHANGES: u32 = 10;

/// How far the exchanges have come.
#[derive(Debug, Default)]
pub(crate) struct Intermediate {
    /// Both ends have said that they know IKE_INTERMEDIATE.
    pub(crate) supported: bool,
    /// Additional key exchanges that are still to be made, the last one first.
    to_do: Vec<KeyExchange>,
    pub(crate) int_auth: IntAuth,
}

impl Intermediate {
    /// What follows an IKE_SA_INIT exchange, with these key exchanges to be made.
    pub(crate) fn new(supported: bool, additional: Additional) -> Self {
        let mut to_do: Vec<_> = additional.into_iter().flatten().collect();
        to_do.reverse();
        Self {
            supported,
            to_do,
            int_auth: IntAuth::default(),
        }
    }

    /// The key exchange of the next IKE_INTERMEDIATE exchange.
    pub(crate) fn next_method(&self) -> Option<KeyExchange> {
        self.to_do.last().copied()
    }

    /// Whether a responder may let another one begin.
    pub(crate) fn may_go_on(&self) -> bool {
        self.supported && self.int_auth.exchanges() < MAX_EXCHANGES
    }
}

impl Handshake {
    /// An exchange is over: its messages, in the form that is authenticated, and the secret of its key exchange.
    //= rfc9242#3.3.1
    //# Every subsequent IKE_INTERMEDIATE exchange uses the most recently
    //# calculated IKE SA keys before this exchange is started.
    fn intermediate_done(
        &mut self,
        request: &[u8],
        response: &[u8],
        secret: Option<&SharedSecret>,
    ) -> Result<(), FailureReason> {
        self.previous = None;
        let Self {
            intermediate,
            sk_pi,
            sk_pr,
            ..
        } = self;
        intermediate.int_auth.add(sk_pi, sk_pr, request, response);
        let Some(secret) = secret else { return Ok(()) };
        intermediate.to_do.pop();
        self.update_keys(|sk_d, ni, nr| Skeyseed::additional(sk_d, ni, nr, secret))
    }

    /// Whether IKE_AUTH may come: nothing is left to be agreed on before it.
    pub(crate) fn is_ready(&self) -> bool {
        self.intermediate.to_do.is_empty() && self.ppk != Stage::InIntermediate
    }

    /// Whether the next exchange is the one in which a PPK is named: the last one.
    fn is_ppk_due(&self) -> bool {
        self.ppk == Stage::InIntermediate && self.intermediate.to_do.len() <= 1
    }
}
