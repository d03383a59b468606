//! A responder that computes no key before the puzzle in front of IKE_AUTH is solved (RFC 8019 §7.2.4): who only sends
//! first messages, however many, makes it generate keys of its own and no more.

use std::sync::Arc;

use cygnet_crypto::{KeyExchange, KeyExchangeError, PrivateKey, Skeyseed};
use cygnet_wire::{ExchangeType, Message};

use super::responder::AuthAwaited;
use crate::config::PeerConfig;
use crate::context::Context;
use crate::exchange::ike_sa_init::{Finished, Handshake};
use crate::puzzle::Puzzle;
use crate::reason::FailureReason;
use crate::sa::{Core, State};

/// A key exchange of which both values are there and the secret is not computed.
#[derive(Debug)]
pub(crate) struct Deferred {
    key: Box<dyn PrivateKey>,
    theirs: Vec<u8>,
}

impl Deferred {
    /// Our value, and what is left to do. Whether the peer's is valid comes out when the secret is computed.
    pub(crate) fn begin(
        cx: &mut Context<'_>,
        method: KeyExchange,
        theirs: &[u8],
    ) -> Result<(Vec<u8>, Self), KeyExchangeError> {
        let key = cx.key_exchange.generate(method, cx.entropy)?;
        let ours = key.public().to_vec();
        let theirs = theirs.to_vec();
        Ok((ours, Self { key, theirs }))
    }
}

/// IKE_SA_INIT has been answered with a puzzle.
#[derive(Debug)]
pub(crate) struct KeysDeferred {
    pub(crate) finished: Finished,
    pub(crate) deferred: Deferred,
    /// As in [`AuthAwaited`].
    pub(crate) candidates: Vec<Arc<PeerConfig>>,
    pub(crate) puzzle: Option<Puzzle>,
}

impl KeysDeferred {
    /// Whether a request of this type may come now.
    pub(crate) fn takes_request(&self, exchange: ExchangeType) -> bool {
        match exchange {
            ExchangeType::IKE_INTERMEDIATE => self.finished.intermediate,
            ExchangeType::IKE_AUTH => true,
            _ => false,
        }
    }

    /// Whether a request is worth the computation: IKE_AUTH with the solution, or IKE_INTERMEDIATE, which can bring none.
    //= rfc8019#7.2.4
    //# Once the message containing a solution to the puzzle is received, the
    //# Responder MUST verify the solution before performing computationally
    //# intensive operations, i.e., computing the DH shared secret and the
    //# SK_* keys.
    pub(crate) fn is_worth_computing(&self, message: &Message<'_>) -> bool {
        let puzzle = self.puzzle.as_ref();
        message.header().exchange == ExchangeType::IKE_INTERMEDIATE
            || puzzle.is_none_or(|puzzle| puzzle.is_solved_in(message))
    }

    /// The same with its keys, as it is without a puzzle.
    pub(crate) fn compute(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        let Self {
            finished,
            deferred: Deferred { key, theirs },
            candidates,
            puzzle,
        } = *self;
        let secret = match key.agree(&theirs) {
            Ok(secret) => secret,
            Err(error) => return core.fail(cx, FailureReason::KeyExchange(error.to_string())),
        };
        let prf = finished.suite.prf;
        let seed = Skeyseed::initial(prf, &finished.ni, &finished.nr, &secret);
        match Handshake::new(finished, seed) {
            Some(handshake) => State::AuthAwaited(Box::new(AuthAwaited {
                handshake,
                candidates,
                puzzle,
                spoilt: false,
            })),
            None => {
                let text = "the keys do not fit the algorithms".to_owned();
                core.fail(cx, FailureReason::KeyExchange(text))
            }
        }
    }

    pub(crate) fn on_timeout(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        if cx.now < core.created + cx.config.half_open_timeout {
            return State::KeysDeferred(self);
        }
        core.report_failure(cx, FailureReason::HalfOpenTimeout);
        State::Gone
    }
}
