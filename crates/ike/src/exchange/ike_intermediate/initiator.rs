//! The initiator's half of IKE_INTERMEDIATE.

use cygnet_crypto::{PrivateKey, SharedSecret};
use cygnet_wire::{ExchangeType, KeId, Notify, NotifyType};

use super::int_auth;
use crate::channel::{Plaintext, SealError};
use crate::child::Wanted;
use crate::config::PeerConfig;
use crate::contents::Contents;
use crate::context::Context;
use crate::exchange::ike_auth;
use crate::exchange::ike_sa_init::{Handshake, fail};
use crate::fragment::Assembled;
use crate::ppk::{self, Ppk, PpkPolicy, Stage};
use crate::reason::{FailureReason, Party};
use crate::sa::{Core, State};

/// The request has been sent, the response is awaited.
#[derive(Debug)]
pub(crate) struct IntermediateSent {
    pub(crate) handshake: Handshake,
    child: Option<Wanted>,
    key: Option<Box<dyn PrivateKey>>,
    /// The PPKs that it names; empty if it is not the exchange for them.
    ppks: Vec<Ppk>,
    ppk_due: bool,
    /// The request in the form that is authenticated.
    request: Vec<u8>,
}

/// Goes on from IKE_SA_INIT: to the next IKE_INTERMEDIATE exchange if one is needed, else to IKE_AUTH.
//= rfc9242#3.2
//# Since window size is initially set to 1 for both peers
//# (Section 2.3 of [RFC7296]), these exchanges MUST be sequential and
//# MUST all be completed before the IKE_AUTH exchange is initiated.
//= rfc9242#3.2
//# The IKE SA MUST NOT be considered as established until the IKE_AUTH
//# exchange is successfully completed.
pub(crate) fn begin(
    core: &mut Core,
    cx: &mut Context<'_>,
    mut handshake: Handshake,
    child: Option<Wanted>,
) -> State {
    let method = handshake.intermediate.next_method();
    let ppk_due = handshake.is_ppk_due();
    if method.is_none() && !ppk_due {
        return ike_auth::begin(core, cx, handshake, child);
    }
    let key = method.map(|method| cx.key_exchange.generate(method, cx.entropy));
    let key = match key.transpose() {
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
    let ppks = if ppk_due {
        ppk::usable(cx, &core.config)
    } else {
        Vec::new()
    };
    let named: Vec<_> = ppks.iter().map(|ppk| handshake.identity_key(ppk)).collect();
    //= rfc9242#3.2
    //# The Message IDs for IKE_INTERMEDIATE exchanges MUST be chosen
    //# according to the standard IKEv2 rule, described in Section 2.2 of
    //# [RFC7296], i.e., it is set to 1 for the first IKE_INTERMEDIATE
    //# exchange, 2 for the next (if any), and so on.
    let exchange = ExchangeType::IKE_INTERMEDIATE;
    let sent = Plaintext::write(|payloads| {
        if let Some(key) = &key {
            payloads.ke(KeId(key.method().iana_id()), key.public());
        }
        for named in &named {
            payloads.notify(&Notify::new(NotifyType::PPK_IDENTITY_KEY, named));
        }
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
            ppks,
            ppk_due,
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

impl IntermediateSent {
    /// The response. Whoever made it took part in IKE_SA_INIT, but need not be the peer.
    pub(crate) fn on_response(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        opened: &Assembled,
    ) -> State {
        if let Err(reason) = self.take_in(&core.config, opened) {
            return fail(core, cx, self.child, reason);
        }
        begin(core, cx, self.handshake, self.child)
    }

    fn take_in(&mut self, config: &PeerConfig, opened: &Assembled) -> Result<(), FailureReason> {
        let contents = Contents::read(opened.plain.chain())?;
        if let Some(error) = contents.error() {
            return Err(FailureReason::PeerNotify(error.kind));
        }
        let secret = match &self.key {
            Some(key) => Some(agree(&**key, &contents)?),
            None => None,
        };
        let response = int_auth::theirs(opened);
        self.handshake
            .intermediate_done(&self.request, &response, secret.as_ref())?;
        if self.ppk_due {
            self.take_in_ppk(config, &contents)?;
        }
        Ok(())
    }

    /// Which PPK the responder has chosen.
    fn take_in_ppk(
        &mut self,
        config: &PeerConfig,
        contents: &Contents<'_>,
    ) -> Result<(), FailureReason> {
        match ppk::named(contents) {
            Some(id) => {
                let chosen = self.ppks.iter().find(|ppk| Some(&ppk.id[..]) == id);
                self.handshake
                    .mix_in(chosen.ok_or(FailureReason::PpkUnknown)?)
            }
            None if config.ppk == PpkPolicy::Insist => Err(FailureReason::PpkRequired),
            None => {
                self.handshake.ppk = Stage::Unused;
                Ok(())
            }
        }
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

/// The secret of a key exchange.
fn agree(key: &dyn PrivateKey, contents: &Contents<'_>) -> Result<SharedSecret, FailureReason> {
    let ke = contents.ke.ok_or_else(|| FailureReason::InvalidSyntax {
        by: Party::Us,
        detail: "a key exchange of IKE_INTERMEDIATE is missing".to_owned(),
    })?;
    if ke.method.0 != key.method().iana_id() {
        return Err(FailureReason::KeyExchangeMethod(ke.method.0));
    }
    key.agree(ke.data)
        .map_err(|error| FailureReason::KeyExchange(error.to_string()))
}
