//! The responder's half of IKE_INTERMEDIATE.

use cygnet_crypto::SharedSecret;
use cygnet_wire::{ExchangeType, KeId, Notify, NotifyType};

use super::int_auth;
use crate::channel::{Plaintext, SealError};
use crate::contents::{Contents, Unreadable};
use crate::context::{Back, Context};
use crate::exchange::ike_auth::AuthAwaited;
use crate::fragment::Assembled;
use crate::reason::{FailureReason, Party};
use crate::sa::{Core, State};

/// A request that cannot be taken part in: what the peer is told, and what we report.
struct Refused {
    notify: NotifyType,
    data: Vec<u8>,
    reason: FailureReason,
}

impl Refused {
    fn syntax(detail: String) -> Self {
        Self {
            notify: NotifyType::INVALID_SYNTAX,
            data: Vec::new(),
            reason: FailureReason::InvalidSyntax {
                by: Party::Us,
                detail,
            },
        }
    }
}

/// Our part of a key exchange.
struct Exchanged {
    method: KeId,
    public: Vec<u8>,
    secret: SharedSecret,
}

impl AuthAwaited {
    /// An IKE_INTERMEDIATE request, from whoever sent the IKE_SA_INIT request.
    pub(crate) fn on_intermediate(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        opened: &Assembled,
        back: Back,
    ) -> State {
        let exchange = ExchangeType::IKE_INTERMEDIATE;
        let exchanged = match self.exchange(cx, opened) {
            Ok(exchanged) => exchanged,
            Err(Refused {
                notify,
                data,
                reason,
            }) => {
                let channel = &mut self.handshake.channel;
                let sent = core.respond(cx, channel, exchange, back, |payloads| {
                    payloads.notify(&Notify::new(notify, &data));
                });
                debug_assert_eq!(sent, Ok(()), "one notification fits into a message");
                return core.fail(cx, reason);
            }
        };
        let sent = Plaintext::write(|payloads| {
            if let Some(Exchanged { method, public, .. }) = &exchanged {
                payloads.ke(*method, public);
            }
        })
        .and_then(|plain| {
            let response = int_auth::ours(&core.response_header(exchange, back), &plain)?;
            Ok((response, plain))
        })
        .map_err(SealError::from)
        .and_then(|(response, plain)| {
            core.respond_plain(cx, &mut self.handshake.channel, exchange, back, &plain)?;
            Ok(response)
        });
        let updated = match sent {
            Ok(response) => {
                let secret = exchanged.as_ref().map(|exchanged| &exchanged.secret);
                let request = int_auth::theirs(opened);
                self.handshake
                    .intermediate_done(&request, &response, secret)
            }
            Err(error) => Err(FailureReason::Unsendable(error.to_string())),
        };
        match updated {
            Ok(()) => State::AuthAwaited(self),
            Err(reason) => core.fail(cx, reason),
        }
    }

    /// The key exchange that is due; `None` if there is none, and the peer has other reasons to talk.
    fn exchange(
        &self,
        cx: &mut Context<'_>,
        opened: &Assembled,
    ) -> Result<Option<Exchanged>, Refused> {
        let contents = Contents::read(opened.plain.chain()).map_err(|error| match error {
            Unreadable::Critical(payload) => Refused {
                notify: NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD,
                data: vec![payload.0],
                reason: FailureReason::UnsupportedCriticalPayload {
                    by: Party::Us,
                    payload,
                },
            },
            error => Refused::syntax(error.to_string()),
        })?;
        let Some(method) = self.handshake.intermediate.next_method() else {
            return Ok(None);
        };
        let Some(ke) = contents.ke else {
            let detail = "a key exchange of IKE_INTERMEDIATE is missing".to_owned();
            return Err(Refused::syntax(detail));
        };
        if ke.method.0 != method.iana_id() {
            return Err(Refused {
                notify: NotifyType::INVALID_SYNTAX,
                data: Vec::new(),
                reason: FailureReason::KeyExchangeMethod(ke.method.0),
            });
        }
        let (public, secret) = cx
            .key_exchange
            .respond(method, ke.data, cx.entropy)
            .map_err(|error| Refused {
                notify: NotifyType::INVALID_SYNTAX,
                data: Vec::new(),
                reason: FailureReason::KeyExchange(error.to_string()),
            })?;
        Ok(Some(Exchanged {
            method: KeId(method.iana_id()),
            public,
            secret,
        }))
    }
}
