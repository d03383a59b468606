//! The initiator's half of IKE_SESSION_RESUME (RFC 5723 §4.3).

use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_crypto::Skeyseed;
use cygnet_wire::{
    ExchangeType, IkeSpi, Message, Notify, NotifyType, PayloadWriter, WriteError, write_message,
};

use super::{Resumption, ResumptionAuth};
use crate::channel::TYPICAL_LEN;
use crate::child::Wanted;
use crate::config::PeerConfig;
use crate::contents::Contents;
use crate::context::{Context, Path};
use crate::exchange::ike_intermediate;
use crate::exchange::ike_sa_init::{
    self, Finished, Handshake, Held, NONCE_LEN, ReturnedCookie, Spis, fail,
};
use crate::exchange::redirect;
use crate::fragment;
use crate::info::Role;
use crate::io::IkeSaId;
use crate::nat::{self, HASH_LEN};
use crate::ppk::Stage;
use crate::reason::{FailureReason, Party};
use crate::sa::{Arrival, Core, IkeSa, State};
use crate::stream::Streams;
use crate::ticket::Session;

/// How long the peer may be silent. A gateway that is there answers at once, and one that does not know the exchange
/// never does: with that one IKE_SA_INIT should not wait for long.
const PATIENCE: Duration = Duration::from_secs(10);

/// The request has been sent, the response is awaited.
#[derive(Debug)]
pub(crate) struct ResumeSent {
    ticket: Vec<u8>,
    session: Session,
    auth: ResumptionAuth,
    nonce: [u8; NONCE_LEN],
    nat_hashes: Option<[[u8; HASH_LEN]; 2]>,
    cookie: ReturnedCookie,
    child: Option<Wanted>,
    held: Held,
    until: Instant,
}

/// Begins an IKE SA in the place of another one.
//= rfc5723#4.3.2
//# The
//# initiator sets the SPIi (Security Parameter Index, Initiator) value
//# in the HDR to a new, unique value and the SPIr value is set to 0.
pub(crate) fn begin(
    cx: &mut Context<'_>,
    (id, initiator_spi): (IkeSaId, IkeSpi),
    config: Arc<PeerConfig>,
    (path, streams): (Path, Streams),
    child: Option<Wanted>,
    (ticket, session, auth): (Vec<u8>, Session, ResumptionAuth),
) -> IkeSa {
    let encapsulation = config.force_encapsulation;
    let patience = config.retransmit.timeout.min(PATIENCE);
    let mut core = ike_sa_init::initiator(cx, id, initiator_spi, config, (path, streams), None);
    let Path { local, remote, .. } = path;
    let state = Box::new(ResumeSent {
        ticket,
        session,
        auth,
        nonce: cx.random(),
        //= rfc5723#4.3.2
        //# The client's NAT traversal status SHOULD be determined anew in
        //# IKE_SESSION_RESUME.
        nat_hashes: nat::offer(encapsulation, initiator_spi.0, 0, local, remote, cx.entropy),
        cookie: ReturnedCookie::default(),
        child,
        held: Held::default(),
        until: cx.now + patience,
    });
    let state = match state.request(&core, cx) {
        Ok(bytes) => {
            ike_sa_init::send_first(&mut core, cx, ExchangeType::IKE_SESSION_RESUME, bytes);
            State::ResumeSent(state)
        }
        Err(error) => state.unsendable(&mut core, cx, &error),
    };
    IkeSa { core, state }
}

impl ResumeSent {
    /// The request as it must look now. Apart from the cookie it is always the same.
    fn request(&self, core: &Core, cx: &Context<'_>) -> Result<Vec<u8>, WriteError> {
        let mut bytes = Vec::with_capacity(TYPICAL_LEN);
        let header = core.first_header(ExchangeType::IKE_SESSION_RESUME);
        write_message(&mut bytes, &header, |payloads: &mut PayloadWriter<'_>| {
            if let Some(cookie) = self.cookie.data() {
                payloads.notify(&Notify::new(NotifyType::COOKIE, cookie));
            }
            //= rfc5723#7
            //# For all these notifications, the Protocol ID and the SPI Size fields
            //# MUST both be sent as 0.
            payloads
                .nonce(&self.nonce)
                .notify(&Notify::new(NotifyType::TICKET_OPAQUE, &self.ticket));
            //= rfc5723#4.3.2
            //# Notifications normally associated with IKE_SA_INIT can be sent.
            //# In particular, NAT detection payloads.
            ike_sa_init::write_nat_hashes(self.nat_hashes.as_ref(), payloads);
            fragment::announce(core.config.fragmentation, payloads);
            redirect::announce(core, payloads);
            //= rfc9242#4
            //# To be able to use it, peers MUST negotiate support for
            //# Intermediate Exchange by including INTERMEDIATE_EXCHANGE_SUPPORTED
            //# notifications in the IKE_SESSION_RESUME messages.
            let PeerConfig {
                intermediate,
                fake_strongswan,
                ..
            } = *core.config;
            ike_sa_init::write_abilities(cx, intermediate, fake_strongswan, payloads);
        })?;
        Ok(bytes)
    }

    /// Sends the request in its new form.
    fn resend(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        match self.request(core, cx) {
            Ok(bytes) => {
                ike_sa_init::resend_first(core, cx, bytes);
                State::ResumeSent(self)
            }
            Err(error) => self.unsendable(core, cx, &error),
        }
    }

    /// A response. Nothing in it is authenticated: what cannot be used counts only if nothing better comes.
    //= rfc5723#4.3.2
    //# This exchange is equivalent to the IKE_SA_INIT exchange, and MUST be
    //# followed by an IKE_AUTH exchange.
    pub(crate) fn on_response(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        arrival: Arrival,
        message: &Message<'_>,
    ) -> State {
        let contents = match Contents::read(message.chain()) {
            Ok(contents) => contents,
            Err(error) => return self.unusable(cx, error.into()),
        };
        if let Some(notify) = contents.notify(NotifyType::REDIRECT) {
            // The ticket is of no use there.
            return match self.held.on_redirect(core, cx, notify.data, &self.nonce) {
                Some(reason) => fail(core, cx, self.child, reason),
                None => State::ResumeSent(self),
            };
        }
        //= rfc5723#4.3.2
        //# The first message MAY be rejected in denial-of-service (DoS)
        //# situations, with the initiator instructed to send a cookie.
        if let Some(cookie) = contents.notify(NotifyType::COOKIE) {
            return match self.cookie.take(cx, &mut self.held, cookie.data) {
                true => self.resend(core, cx),
                false => State::ResumeSent(self),
            };
        }
        //= rfc5723#4.3.2
        //# It responds with an unprotected N(TICKET_NACK) notification, if it
        //# rejects the ticket for any reason.  In that case, the initiator
        //# should re-initiate a regular IKE exchange.
        if contents.has(NotifyType::TICKET_NACK) {
            self.held.hold(cx, FailureReason::TicketRefused);
            return State::ResumeSent(self);
        }
        if let Some(error) = contents.error() {
            self.held.hold(cx, FailureReason::PeerNotify(error.kind));
            return State::ResumeSent(self);
        }
        self.on_answer(core, cx, arrival, message, &contents)
    }

    fn on_answer(
        self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        arrival: Arrival,
        message: &Message<'_>,
        contents: &Contents<'_>,
    ) -> State {
        let responder_spi = message.header().responder_spi;
        let Some(nonce) = contents.nonce.filter(|_| responder_spi != IkeSpi::ZERO) else {
            let (by, detail) = (Party::Us, "it has no nonce or no SPI".to_owned());
            return self.unusable(cx, FailureReason::InvalidSyntax { by, detail });
        };
        let request = core.outgoing.first_answered();
        core.responder_spi = responder_spi;
        let Session {
            suite,
            sk_d,
            local_id,
            remote_id,
            ppk,
        } = self.session;
        core.suite = Some(suite);
        let seed = Skeyseed::resumed(&sk_d, &self.nonce, nonce.data());
        let finished = Finished {
            role: Role::Initiator,
            suite,
            spis: Spis {
                initiator: core.initiator_spi,
                responder: responder_spi,
            },
            ni: self.nonce.to_vec(),
            nr: nonce.data().to_vec(),
            request,
            response: message.as_bytes().to_vec(),
            intermediate: core.config.intermediate
                && contents.has(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED),
            ppk: Stage::Unused,
            childless: contents.has(NotifyType::CHILDLESS_IKEV2_SUPPORTED),
            key_log: cx.config.key_log,
            resumption: Some(Box::new(Resumption {
                local_id,
                remote_id,
                ppk,
                auth: self.auth,
                granted: None,
            })),
        };
        let Some(handshake) = Handshake::new(finished, seed) else {
            let text = "the keys do not fit the algorithms".to_owned();
            return fail(core, cx, self.child, FailureReason::KeyExchange(text));
        };
        ike_sa_init::heed_first(core, cx, arrival, contents);
        //= rfc5723#4.3.3
        //# Following the IKE_SESSION_RESUME exchange, the client MUST initiate
        //# an IKE_AUTH exchange
        ike_intermediate::begin(core, cx, handshake, self.child)
    }

    /// Drops a response that no exchange can go on from.
    fn unusable(mut self: Box<Self>, cx: &mut Context<'_>, reason: FailureReason) -> State {
        self.held.drop_and_hold(cx, reason);
        State::ResumeSent(self)
    }

    fn unsendable(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>, e: &WriteError) -> State {
        let reason = FailureReason::Unsendable(e.to_string());
        fail(core, cx, self.child, reason)
    }

    /// When something is due besides retransmission.
    pub(crate) fn deadline(&self) -> Instant {
        self.held.deadline().unwrap_or(self.until).min(self.until)
    }

    pub(crate) fn on_timeout(mut self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        if let Some(reason) = self.held.due(cx.now) {
            return fail(core, cx, self.child, reason);
        }
        if cx.now < self.until {
            return State::ResumeSent(self);
        }
        let sent = core.outgoing.pending(0).map_or(0, |pending| pending.sent);
        self.give_up(core, cx, sent)
    }

    pub(crate) fn give_up(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        sent: u32,
    ) -> State {
        let exchange = ExchangeType::IKE_SESSION_RESUME;
        let silence = FailureReason::NoResponse { exchange, sent };
        let reason = self.held.take().unwrap_or(silence);
        fail(core, cx, self.child, reason)
    }

    pub(crate) fn cancel(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        fail(core, cx, self.child, FailureReason::Cancelled)
    }
}
