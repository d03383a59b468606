//! What becomes of a message for an IKE SA: its place in the windows, its integrity, its fragments, and the state that gets
//! to see it (RFC 7296 §2.1 to §2.3, RFC 7383 §2.6).

use cygnet_crypto::sha256;
use cygnet_wire::{ExchangeType, Message, NotifyType};

use crate::channel::{Channel, Protected};
use crate::context::{Back, Context};
use crate::exchange::mobike;
use crate::fragment::Assembled;
use crate::sa::{Arrival, Core, IkeSa, State};
use crate::stats::DropReason;
use crate::window::Classified;

impl Core {
    /// Sends the response to a request again.
    fn repeat_response(&self, cx: &mut Context<'_>, arrival: Arrival, message_id: u32) {
        if let Some(response) = self.incoming.response(message_id) {
            let stats = &mut cx.shared.stats;
            stats.responses_repeated = stats.responses_repeated.saturating_add(1);
            cx.transmit_message(arrival.back(), response);
        }
    }
}

impl IkeSa {
    /// A message for this SA.
    pub(crate) fn on_message(
        &mut self,
        cx: &mut Context<'_>,
        arrival: Arrival,
        message: &Message<'_>,
    ) {
        let header = message.header();
        if header.flags.response {
            self.on_response(cx, arrival, message);
        } else {
            self.on_request(cx, arrival, message);
        }
    }

    fn on_response(&mut self, cx: &mut Context<'_>, arrival: Arrival, message: &Message<'_>) {
        if self.on_sync_response(cx, arrival, message) {
            return;
        }
        let header = message.header();
        if !self
            .core
            .outgoing
            .awaits(header.message_id, header.exchange)
        {
            return cx.drop(DropReason::UnexpectedResponse);
        }
        if is_first(header.exchange) {
            return self.step(|state, core| match state {
                State::InitSent(s) => s.on_response(core, cx, arrival, message),
                State::ResumeSent(s) => s.on_response(core, cx, arrival, message),
                other => other,
            });
        }
        let opened = match self.open(cx, arrival, message) {
            Ok(Some(assembled)) => assembled,
            Ok(None) => return,
            Err(reason) => return cx.drop(reason),
        };
        self.core.heard(cx, arrival);
        self.core.outgoing.answered(header.message_id);
        mobike::on_answered(&mut self.core, cx, arrival.back());
        self.core.fragments.forget(true, header.message_id);
        self.step(|state, core| match state {
            State::IntermediateSent(s) => s.on_response(core, cx, &opened),
            State::AuthSent(s) => s.on_response(core, cx, opened.plain.chain()),
            State::Established(s) => {
                s.on_response(core, cx, header.message_id, opened.plain.chain())
            }
            State::Deleting(s) => s.on_response(core, cx),
            other => other,
        });
    }

    /// Checks the integrity of a message that is waited for and decrypts it; if it is a fragment, gives the whole
    /// message with the last one.
    fn open(
        &mut self,
        cx: &mut Context<'_>,
        arrival: Arrival,
        message: &Message<'_>,
    ) -> Result<Option<Assembled>, DropReason> {
        let channel = self.state.channel().ok_or_else(|| keyless(message))?;
        match Protected::find(message) {
            Some(Protected::Whole(sk)) => {
                let plain = channel.open(message, &sk)?;
                // Responses are not looked up again.
                let digest = match message.header().flags.response {
                    true => [0; 32],
                    false => sha256(&[message.as_bytes()]),
                };
                let clear = sk.prefix.to_vec();
                Ok(Some(Assembled {
                    plain,
                    clear,
                    digest,
                }))
            }
            Some(Protected::Fragment(fragment)) => {
                let known = self.core.established.is_some();
                let fragments = &mut self.core.fragments;
                let stats = &mut cx.shared.stats;
                stats.fragments_in = stats.fragments_in.saturating_add(1);
                fragments.take(cx, channel, message, &fragment, arrival.back(), known)
            }
            //= rfc9242#3.2
            //# the Encrypted payload MUST be present in the IKE_INTERMEDIATE exchange
            //# messages,
            None => Err(DropReason::Unprotected),
        }
    }

    /// A request that has been answered has come again, in another form.
    //= rfc7383#2.6.1
    //# If the responder receives a retransmitted fragment of a request when
    //# it has already processed that request and has sent back a response,
    //# that event MUST only trigger a retransmission of the response message
    //# (fragmented or not) if the Fragment Number field in the received
    //# fragment is set to 1; otherwise, it MUST be ignored.
    //= rfc7383#2.6.1
    //# If an incoming message contains an Encrypted Fragment payload, the
    //# values of the Fragment Number and Total Fragments fields MUST be used
    //# along with the Message ID to detect retransmissions and replays.
    fn on_reshaped(&mut self, cx: &mut Context<'_>, arrival: Arrival, message: &Message<'_>) {
        match Protected::find(message) {
            Some(Protected::Fragment(fragment)) if fragment.number == 1 => {}
            Some(Protected::Fragment(_)) => return cx.drop(DropReason::FragmentRepeated),
            _ => return cx.drop(DropReason::MessageId),
        }
        let mut checked = is_authentic(self.state.channel(), message);
        if checked.is_err() && self.state.previous_channel().is_some() {
            checked = is_authentic(self.state.previous_channel(), message);
        }
        match checked {
            Ok(()) => {
                let id = message.header().message_id;
                self.core.repeat_response(cx, arrival, id);
            }
            Err(reason) => cx.drop(reason),
        }
    }

    fn on_request(&mut self, cx: &mut Context<'_>, arrival: Arrival, message: &Message<'_>) {
        if self.on_sync_request(cx, arrival, message) {
            return;
        }
        let header = message.header();
        let in_window = match self
            .core
            .incoming
            .classify(header.message_id, message.as_bytes())
        {
            Classified::Repeated => {
                return self.core.repeat_response(cx, arrival, header.message_id);
            }
            Classified::Reshaped => return self.on_reshaped(cx, arrival, message),
            Classified::InProgress => return cx.drop(DropReason::InProgress),
            Classified::Old => return cx.drop(DropReason::MessageId),
            //= rfc9242#3.2
            //# Implementations MUST verify that Message IDs in the IKE_INTERMEDIATE
            //# messages they receive actually follow this rule.
            Classified::Ahead => false,
            Classified::New => true,
        };
        if in_window && !self.state.takes_request(header.exchange) {
            return cx.drop(DropReason::UnexpectedExchange);
        }
        if in_window && let State::KeysDeferred(s) = &self.state {
            if !s.is_worth_computing(message) {
                return cx.drop(DropReason::PuzzleUnsolved);
            }
            self.step(|state, core| match state {
                State::KeysDeferred(s) => s.compute(core, cx),
                other => other,
            });
            if !self.state.takes_request(header.exchange) {
                return cx.drop(DropReason::UnexpectedExchange);
            }
        }
        if let State::AuthAwaited(s) = &mut self.state
            && header.exchange == ExchangeType::IKE_AUTH
            && !s.is_worth_reading(message)
        {
            return cx.drop(DropReason::PuzzleUnsolved);
        }
        if !in_window {
            if let Err(reason) = is_authentic(self.state.channel(), message) {
                return cx.drop(reason);
            }
            cx.drop(DropReason::MessageId);
            //= rfc7296#2.3
            //# This Notify message
            //# MUST NOT be sent in a response; the invalid request MUST NOT be
            //# acknowledged.  Instead, inform the other side by initiating an
            //# INFORMATIONAL exchange with Notification Data containing the
            //# four-octet invalid Message ID.  Sending this notification is
            //# OPTIONAL, and notifications of this type MUST be rate limited.
            let id = header.message_id.to_be_bytes().to_vec();
            let kind = NotifyType::INVALID_MESSAGE_ID;
            return self.complain(cx, kind, None, id);
        }
        let opened = match self.open(cx, arrival, message) {
            Ok(Some(assembled)) => assembled,
            Ok(None) => return,
            Err(reason) => {
                if let State::AuthAwaited(s) = &mut self.state {
                    s.spoilt |= reason == DropReason::IntegrityCheck;
                }
                return cx.drop(reason);
            }
        };
        if self.is_pretending() && !opened.plain.deletes_ike() {
            // Whoever sends it has decided already; we have not, and it will come again.
            return cx.drop(DropReason::UnexpectedExchange);
        }
        self.core.incoming.accept(header.message_id, opened.digest);
        if let Some(state) = &mut self.core.synchronisation {
            state.forget_response();
        }
        self.core.fragments.forget(false, header.message_id);
        self.core.heard(cx, arrival);
        mobike::on_reached(&mut self.core, cx.now);
        let exchange = header.exchange;
        let back = Back {
            path: arrival.back(),
            message_id: header.message_id,
        };
        self.step(|state, core| match state {
            State::AuthAwaited(s) if exchange == ExchangeType::IKE_INTERMEDIATE => {
                s.on_intermediate(core, cx, &opened, back)
            }
            State::AuthAwaited(s) => s.on_request(core, cx, opened.plain.chain(), back),
            State::Established(s) => s.on_request(core, cx, exchange, opened.plain.chain(), back),
            State::Deleting(s) => s.on_request(core, cx, exchange, opened.plain.chain(), back),
            other => other,
        });
    }

    /// The request that made this SA has come again.
    pub(crate) fn on_repeated_init(
        &mut self,
        cx: &mut Context<'_>,
        arrival: Arrival,
        bytes: &[u8],
    ) {
        match self.core.incoming.classify(0, bytes) {
            Classified::Repeated => self.core.repeat_response(cx, arrival, 0),
            // The peer has gone on: this one was late.
            _ => cx.drop(DropReason::MessageId),
        }
    }
}

/// Whether an exchange begins an IKE SA: it is not protected.
pub(crate) fn is_first(exchange: ExchangeType) -> bool {
    matches!(
        exchange,
        ExchangeType::IKE_SA_INIT | ExchangeType::IKE_SESSION_RESUME
    )
}

/// Whether a message, or fragment of one, is from the peer. It is looked at for nothing else.
fn is_authentic(channel: Option<&Channel>, message: &Message<'_>) -> Result<(), DropReason> {
    let channel = channel.ok_or_else(|| keyless(message))?;
    match Protected::find(message) {
        Some(Protected::Whole(sk)) => channel.open(message, &sk).map(drop),
        Some(Protected::Fragment(fragment)) => channel.open_fragment(message, &fragment).map(drop),
        None => Err(DropReason::Unprotected),
    }
}

/// A protected message where there are no keys, or no more, to open it.
fn keyless(message: &Message<'_>) -> DropReason {
    if message.header().flags.response {
        DropReason::UnexpectedResponse
    } else {
        DropReason::UnexpectedExchange
    }
}
