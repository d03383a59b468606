//! An IKE SA whose end we have announced, until the peer acknowledges (RFC 7296 §1.4.1, §2.25.2).

use cygnet_wire::{ExchangeType, Notify, NotifyType, PayloadChain, ProtocolId};

use crate::channel::Channel;
use crate::contents::Contents;
use crate::context::{Back, Context};
use crate::established::report_closed;
use crate::reason::CloseReason;
use crate::sa::{Core, State};

/// The end has been announced, the response is awaited.
#[derive(Debug)]
pub(crate) struct Deleting {
    pub(crate) channel: Channel,
    /// What is to be reported at the end, if that has not been done.
    reason: Option<CloseReason>,
}

impl Deleting {
    /// Sends a Delete for the IKE SA. Without a reason, its end has been reported already.
    pub(crate) fn begin(
        core: &mut Core,
        cx: &mut Context<'_>,
        mut channel: Channel,
        reason: Option<CloseReason>,
    ) -> State {
        core.synchronisation = None;
        let sent = core.request(cx, &mut channel, ExchangeType::INFORMATIONAL, |payloads| {
            payloads.delete_ike();
        });
        debug_assert_eq!(sent, Ok(()), "one delete fits into a message");
        State::Deleting(Box::new(Self { channel, reason }))
    }

    /// Tells the peer why there is no IKE SA, after a failure that has been reported.
    pub(crate) fn complain(
        core: &mut Core,
        cx: &mut Context<'_>,
        mut channel: Channel,
        kind: NotifyType,
        data: &[u8],
    ) -> State {
        let sent = core.request(cx, &mut channel, ExchangeType::INFORMATIONAL, |payloads| {
            payloads.notify(&Notify::new(kind, data));
        });
        debug_assert_eq!(sent, Ok(()), "one notification fits into a message");
        State::Deleting(Box::new(Self {
            channel,
            reason: None,
        }))
    }

    pub(crate) fn on_response(self, core: &mut Core, cx: &mut Context<'_>) -> State {
        self.finish(core, cx)
    }

    pub(crate) fn give_up(self, core: &mut Core, cx: &mut Context<'_>) -> State {
        self.finish(core, cx)
    }

    /// Ends at once, without waiting for the peer.
    pub(crate) fn finish(self, core: &mut Core, cx: &mut Context<'_>) -> State {
        if let Some(reason) = self.reason {
            report_closed(core, cx, reason);
        }
        core.linger(cx)
    }

    pub(crate) fn on_request(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        exchange: ExchangeType,
        chain: PayloadChain<'_>,
        back: Back,
    ) -> State {
        //= rfc7296#2.25.2
        //# If a peer receives a request to rekey an IKE SA
        //# that it is currently trying to close, it SHOULD reply with
        //# TEMPORARY_FAILURE.
        let busy = exchange != ExchangeType::INFORMATIONAL;
        let sent = core.respond(cx, &mut self.channel, exchange, back, |payloads| {
            if busy {
                payloads.notify(&Notify::new(NotifyType::TEMPORARY_FAILURE, &[]));
            }
        });
        debug_assert_eq!(sent, Ok(()), "one notification fits into a message");
        let deleted = Contents::read(chain)
            .is_ok_and(|c| c.deletes.iter().any(|d| d.protocol == ProtocolId::IKE));
        //= rfc7296#2.25.2
        //# If a peer receives a request to close an IKE SA that it is
        //# currently trying to close, it SHOULD reply as usual, and forget about
        //# its own close request.
        if deleted {
            self.finish(core, cx)
        } else {
            State::Deleting(self)
        }
    }
}
