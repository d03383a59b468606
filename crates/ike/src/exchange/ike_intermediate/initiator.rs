//! The initiator's half of IKE_INTERMEDIATE.

use cygnet_crypto::PrivateKey;
use cygnet_wire::{ExchangeType, KeId};

use super::int_auth;
use crate::channel::{Plaintext, SealError};
use crate::child::Wanted;
use crate::contents::{Contents, Unreadable};
use crate::context::Context;
use crate::exchange::ike_auth;
use crate::exchange::ike_sa_init::Handshake;
use crate::fragment::Assembled;
use crate::reason::{ChildFailure, FailureReason, Party};
use crate::sa::{Core, State};

/// The request has been sent, the response is awaited.
#[derive(Debug)]
pub(crate) struct IntermediateSent {
    pub(crate) handshake: Handshake,
    child: Option<Wanted>,
    key: Box<dyn PrivateKey>,
    /// The request in the form that is authenticated.
    request: Vec<u8>,
}

/// Goes on from IKE_SA_INIT: to the next IKE_INTERMEDIATE exchange if one is needed, else to IKE_AUTH.
//= rfc9242#3.2
//# Since window size is initially set to 1 for both peers
//# (Section 2.3 of [RFC7296]), these exchanges MUST be sequential and
//# MUST all be completed before the IKE_AUTH exchange is initiated.
pub(crate) fn begin(
    core: &mut Core,
    cx: &mut Context<'_>,
    mut handshake: Handshake,
    child: Option<Wanted>,
) -> State {
    let Some(method) = handshake.intermediate.next_method() else {
        return ike_auth::begin(core, cx, handshake, child);
    };
    let key = match cx.key_exchange.generate(method, cx.entropy) {
        Ok(key) => key,
        Err(error) => {
            return fail(
                core,
                cx,
                child,
                FailureReason::KeyExchange(error.to_string()),
            );
        }
    };
    let exchange = ExchangeType::IKE_INTERMEDIATE;
    let sent = Plaintext::write(|payloads| {
        payloads.ke(KeId(method.iana_id()), key.public());
    })
    .and_then(|plain| {
        let request = int_auth::ours(&core.request_header(exchange), &plain)?;
        Ok((request, plain))
    })
    .map_err(SealError::from)
    .and_then(|(request, plain)| {
        core.request_plain(cx, &mut handshake.channel, exchange, plain)?;
        Ok(request)
    });
    match sent {
        Ok(request) => State::IntermediateSent(Box::new(IntermediateSent {
            handshake,
            child,
            key,
            request,
        })),
        Err(error) => fail(
            core,
            cx,
            child,
            FailureReason::Unsendable(error.to_string()),
        ),
    }
}

/// Neither the IKE SA nor its child SA has come about.
fn fail(
    core: &mut Core,
    cx: &mut Context<'_>,
    child: Option<Wanted>,
    reason: FailureReason,
) -> State {
    if let Some(Wanted { id, config, .. }) = child {
        ike_auth::child_failed(core, cx, id, Some(config), ChildFailure::IkeSaEnded);
    }
    core.fail(cx, reason)
}

impl IntermediateSent {
    /// The response. Whoever made it took part in IKE_SA_INIT, but need not be the peer.
    pub(crate) fn on_response(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        opened: &Assembled,
    ) -> State {
        if let Err(reason) = self.take_in(opened) {
            return fail(core, cx, self.child, reason);
        }
        begin(core, cx, self.handshake, self.child)
    }

    fn take_in(&mut self, opened: &Assembled) -> Result<(), FailureReason> {
        let by = Party::Us;
        let contents = Contents::read(opened.plain.chain()).map_err(|error| match error {
            Unreadable::Critical(payload) => {
                FailureReason::UnsupportedCriticalPayload { by, payload }
            }
            error => FailureReason::InvalidSyntax {
                by,
                detail: error.to_string(),
            },
        })?;
        if let Some(error) = contents.error() {
            return Err(FailureReason::PeerNotify(error.kind));
        }
        let method = self.key.method();
        let ke = contents.ke.ok_or_else(|| FailureReason::InvalidSyntax {
            by,
            detail: "a key exchange of IKE_INTERMEDIATE is missing".to_owned(),
        })?;
        if ke.method.0 != method.iana_id() {
            return Err(FailureReason::KeyExchangeMethod(ke.method.0));
        }
        let secret = self
            .key
            .agree(ke.data)
            .map_err(|error| FailureReason::KeyExchange(error.to_string()))?;
        self.handshake
            .intermediate_done(&self.request, &int_auth::theirs(opened), Some(&secret))
    }

    pub(crate) fn give_up(
        self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        exchange: ExchangeType,
        sent: u32,
    ) -> State {
        fail(
            core,
            cx,
            self.child,
            FailureReason::NoResponse { exchange, sent },
        )
    }

    pub(crate) fn cancel(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        fail(core, cx, self.child, FailureReason::Cancelled)
    }
}
