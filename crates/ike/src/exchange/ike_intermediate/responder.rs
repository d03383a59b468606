//! The responder's half of IKE_INTERMEDIATE.

use std::sync::Arc;

use cygnet_crypto::SharedSecret;
use cygnet_wire::{ExchangeType, KeId, Notify, NotifyType};

use super::int_auth;
use crate::channel::{Plaintext, SealError};
use crate::config::PeerConfig;
use crate::contents::{Contents, Unreadable};
use crate::context::{Back, Context};
use crate::exchange::ike_auth::AuthAwaited;
use crate::fragment::Assembled;
use crate::ppk::{self, Ppk, PpkPolicy, Stage};
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

impl From<Unreadable> for Refused {
    fn from(error: Unreadable) -> Self {
        let (notify, data) = error.notify();
        Self {
            notify,
            data,
            reason: error.into(),
        }
    }
}

/// Our part of a key exchange.
struct Exchanged {
    method: KeId,
    public: Vec<u8>,
    secret: SharedSecret,
}

/// Our part of an exchange.
struct Answer {
    /// `None` if no key exchange is due, and the peer has other reasons to talk.
    exchanged: Option<Exchanged>,
    /// The PPK that both ends have, if one is due.
    ppk: Option<Ppk>,
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
        let ppk_due = self.handshake.is_ppk_due();
        let Answer { exchanged, ppk } = match self.answer(cx, opened) {
            Ok(answer) => answer,
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
            if let Some(ppk) = &ppk {
                let id = ppk::write_id(&ppk.id);
                payloads.notify(&Notify::new(NotifyType::PPK_IDENTITY, &id));
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
                    .and_then(|()| match &ppk {
                        Some(ppk) => self.handshake.mix_in(ppk),
                        None => Ok(()),
                    })
            }
            Err(error) => Err(FailureReason::Unsendable(error.to_string())),
        };
        if ppk_due && ppk.is_none() {
            self.handshake.ppk = Stage::Unused;
        }
        match updated {
            Ok(()) => State::AuthAwaited(self),
            Err(reason) => core.fail(cx, reason),
        }
    }

    fn answer(&self, cx: &mut Context<'_>, opened: &Assembled) -> Result<Answer, Refused> {
        let contents = Contents::read(opened.plain.chain())?;
        let ppk = self.ppk(cx, &contents)?;
        let exchanged = self.exchange(cx, &contents)?;
        Ok(Answer { exchanged, ppk })
    }

    /// The PPK of ours that the peer has named, if one is due.
    fn ppk(&self, cx: &Context<'_>, contents: &Contents<'_>) -> Result<Option<Ppk>, Refused> {
        if !self.handshake.is_ppk_due() {
            return Ok(None);
        }
        // Who the peer is comes out later: then the PPK must be one for it.
        let common = self.candidates.iter().find_map(|config| {
            let ours = ppk::usable(cx, config);
            self.handshake.confirmed(contents, &ours).cloned()
        });
        let insists = |config: &Arc<PeerConfig>| config.ppk == PpkPolicy::Insist;
        if common.is_none() && self.candidates.iter().all(insists) {
            return Err(Refused {
                notify: NotifyType::AUTHENTICATION_FAILED,
                data: Vec::new(),
                reason: FailureReason::PpkRequired,
            });
        }
        Ok(common)
    }

    /// The key exchange, if one is due.
    fn exchange(
        &self,
        cx: &mut Context<'_>,
        contents: &Contents<'_>,
    ) -> Result<Option<Exchanged>, Refused> {
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
