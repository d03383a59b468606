//! The initiator's half of IKE_SA_INIT.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{Additional, KeyExchange, KeyExchangeError, PrivateKey, Skeyseed};
use cygnet_wire::{
    ExchangeType, IkeSpi, KeId, Message, Notify, NotifyType, PayloadWriter, Proposal, PuzzleNotify,
    WriteError, write_message,
};

use super::{
    Finished, Handshake, Held, NONCE_LEN, ReturnedCookie, Spis, fail, heed_first, resend_first,
    send_first, write_abilities, write_nat_hashes,
};
use crate::channel::TYPICAL_LEN;
use crate::child::Wanted;
use crate::config::{PeerConfig, Tcp};
use crate::contents::Contents;
use crate::context::{Context, Path};
use crate::exchange::puzzle::{self, Solving};
use crate::exchange::redirect;
use crate::fragment;
use crate::info::Role;
use crate::io::{Answer, Event, IkeSaId, RequestId};
use crate::nat::{self, HASH_LEN};
use crate::ppk::{self, PpkPolicy, Stage};
use crate::proposal::{accept_ike, ike_offer};
use crate::reason::{FailureReason, Party};
use crate::sa::{Arrival, Core, IkeSa, State};
use crate::stats::DropReason;
use crate::stream::Streams;
use crate::transport::Transport;
use crate::window::Outgoing;

/// The request has been sent, the response is awaited.
#[derive(Debug)]
pub(crate) struct InitSent {
    key: Box<dyn PrivateKey>,
    /// Methods that the peer has seen a public value for.
    tried: Vec<KeyExchange>,
    offer: Vec<Proposal>,
    nonce: [u8; NONCE_LEN],
    nat_hashes: Option<[[u8; HASH_LEN]; 2]>,
    cookie: ReturnedCookie,
    /// The puzzle that came with the cookie, while it is worked on.
    solving: Option<Solving>,
    /// One was not solved: no other one is tried.
    tired: bool,
    /// The solution.
    solution: Option<Vec<u8>>,
    /// We have a PPK for the peer and say so.
    ppk: bool,
    child: Option<Wanted>,
    held: Held,
}

/// Begins an IKE SA, perhaps where another gateway has sent us.
pub(crate) fn begin(
    cx: &mut Context<'_>,
    id: IkeSaId,
    initiator_spi: IkeSpi,
    config: Arc<PeerConfig>,
    (path, streams): (Path, Streams),
    child: Option<Wanted>,
    redirected_from: Option<IpAddr>,
) -> IkeSa {
    let encapsulation = config.force_encapsulation;
    let mut core = super::initiator(
        cx,
        id,
        initiator_spi,
        config,
        (path, streams),
        redirected_from,
    );
    let method = core
        .config
        .proposals
        .iter()
        .find_map(|p| p.key_exchange.first())
        .copied();
    let key = method.map(|method| cx.key_exchange.generate(method, cx.entropy));
    let state = match (method, key) {
        (Some(method), Some(Ok(key))) => {
            let Path { local, remote, .. } = path;
            let nat_hashes =
                nat::offer(encapsulation, initiator_spi.0, 0, local, remote, cx.entropy);
            let ppk = core.config.proposes_ppk() && !ppk::usable(cx, &core.config).is_empty();
            if core.config.ppk == PpkPolicy::Insist && !ppk {
                let state = fail(&mut core, cx, child, FailureReason::NoPpk);
                return IkeSa { core, state };
            }
            let state = Box::new(InitSent {
                key,
                tried: vec![method],
                offer: ike_offer(&core.config.proposals, None),
                nonce: cx.random(),
                nat_hashes,
                cookie: ReturnedCookie::default(),
                solving: None,
                tired: false,
                solution: None,
                ppk,
                child,
                held: Held::default(),
            });
            state.send(&mut core, cx)
        }
        (_, Some(Err(error))) => fail(
            &mut core,
            cx,
            child,
            FailureReason::KeyExchange(error.to_string()),
        ),
        _ => {
            let reason = FailureReason::KeyExchange("no method is configured".to_owned());
            fail(&mut core, cx, child, reason)
        }
    };
    IkeSa { core, state }
}

impl InitSent {
    /// The request as it must look now. Apart from the cookie and the key exchange it is always the same.
    //= rfc7296#2.6
    //# If the IKE_SA_INIT response
    //# includes the COOKIE notification, the initiator MUST then retry the
    //# IKE_SA_INIT request, and include the COOKIE notification containing
    //# the received data as the first payload, and all other payloads
    //# unchanged.
    fn request(&self, core: &Core, cx: &Context<'_>) -> Result<Vec<u8>, WriteError> {
        let mut bytes = Vec::with_capacity(TYPICAL_LEN);
        let header = core.first_header(ExchangeType::IKE_SA_INIT);
        write_message(&mut bytes, &header, |payloads: &mut PayloadWriter<'_>| {
            if let Some(cookie) = self.cookie.data() {
                payloads.notify(&Notify::new(NotifyType::COOKIE, cookie));
            }
            if let Some(solution) = &self.solution {
                payloads.ps(solution);
            }
            payloads
                .sa(&self.offer)
                .ke(KeId(self.key.method().iana_id()), self.key.public())
                .nonce(&self.nonce);
            write_nat_hashes(self.nat_hashes.as_ref(), payloads);
            fragment::announce(core.config.fragmentation, payloads);
            redirect::announce(core, payloads);
            if self.ppk {
                ppk::propose(payloads);
            }
            //= rfc9242#3.1
            //# The initiator indicates its support for Intermediate Exchange by
            //# including a notification of type INTERMEDIATE_EXCHANGE_SUPPORTED in
            //# the IKE_SA_INIT request message.
            let intermediate = core.config.wants_intermediate();
            write_abilities(cx, intermediate, core.config.fake_strongswan, payloads);
        })?;
        Ok(bytes)
    }

    /// Sends the request for the first time.
    fn send(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        match self.request(core, cx) {
            Ok(bytes) => {
                send_first(core, cx, ExchangeType::IKE_SA_INIT, bytes);
                State::InitSent(self)
            }
            Err(error) => self.fail(core, cx, FailureReason::Unsendable(error.to_string())),
        }
    }

    /// Whether TCP may be tried: nothing has come over UDP.
    pub(crate) fn may_fall_back(&self, core: &Core) -> bool {
        let silent = self.cookie.data().is_none() && self.held.is_empty() && self.tried.len() == 1;
        silent && core.config.tcp == Tcp::Fallback && core.path.transport != Transport::Tcp
    }

    /// Begins anew over TCP.
    //= rfc9329#5.1
    //# When switching from UDP to TCP, a new IKE_SA_INIT exchange MUST be
    //# initiated with the Initiator's new SPI and with recalculated content
    //# of NAT_DETECTION_*_IP notifications.
    pub(crate) fn fall_back(mut self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        cx.shared.spis.remove(&core.initiator_spi);
        core.initiator_spi = cx.fresh_spi(core.id);
        let remote = SocketAddr::new(core.path.remote.ip(), core.config.tcp_remote_port);
        core.path = core.streams.open(cx, core.path.local.ip(), remote);
        core.outgoing = Outgoing::default();
        self.nonce = cx.random();
        let Path { local, remote, .. } = core.path;
        let (encapsulation, spi) = (core.config.force_encapsulation, core.initiator_spi.0);
        self.nat_hashes = nat::offer(encapsulation, spi, 0, local, remote, cx.entropy);
        cx.event(Event::FallingBack {
            ike: core.id,
            to: remote,
        });
        self.send(core, cx)
    }

    /// Sends the request in its new form.
    fn resend(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        match self.request(core, cx) {
            Ok(bytes) => {
                resend_first(core, cx, bytes);
                State::InitSent(self)
            }
            Err(error) => self.fail(core, cx, FailureReason::Unsendable(error.to_string())),
        }
    }

    /// A response. Nothing in it is authenticated: what cannot be used counts only if nothing better comes.
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
            return match self.held.on_redirect(core, cx, notify.data, &self.nonce) {
                Some(reason) => self.fail(core, cx, reason),
                None => State::InitSent(self),
            };
        }
        let puzzle = puzzle::given(&contents.notifies);
        if let Some(cookie) = contents.notify(NotifyType::COOKIE) {
            return self.on_cookie(core, cx, cookie.data, puzzle);
        }
        //= rfc8019#7.1.2
        //# If the received message contains a PUZZLE notification and doesn't
        //# contain a COOKIE notification, then this message is malformed because
        //# it requests to solve the puzzle but doesn't provide enough
        //# information to allow the puzzle to be solved.  In this case, the
        //# Initiator MUST ignore the received message
        if puzzle.is_some() && contents.sa.is_none() {
            cx.drop(DropReason::BadResponse);
            return State::InitSent(self);
        }
        if let Some(wanted) = contents.wanted_key_exchange() {
            return self.on_invalid_ke(core, cx, wanted);
        }
        if let Some(error) = contents.error() {
            let reason = self.refusal(core, error);
            //= rfc9329#6.4
            //# Thus, in the case of TCP encapsulation, an Initiator SHOULD NOT wait
            //# for additional messages in case it receives an error notification
            //# from the Responder in the IKE_SA_INIT exchange.
            if core.path.transport == Transport::Tcp {
                return self.fail(core, cx, reason);
            }
            self.held.hold(cx, reason);
            return State::InitSent(self);
        }
        self.on_answer(core, cx, arrival, message, &contents)
    }

    fn on_cookie(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        cookie: &[u8],
        puzzle: Option<PuzzleNotify>,
    ) -> State {
        if self.solving.is_some() {
            cx.drop(DropReason::BadResponse);
            return State::InitSent(self);
        }
        if !self.cookie.take(cx, &mut self.held, cookie) {
            return State::InitSent(self);
        }
        self.solution = None;
        let puzzle = puzzle.filter(|_| !self.tired);
        match puzzle.map(|puzzle| Solving::begin(core, cx, puzzle, cookie.to_vec())) {
            None => self.resend(core, cx),
            Some(Ok(solving)) => {
                self.solving = Some(solving);
                // An error that came before this counts no more, and the request goes out again when it is another one.
                self.held.forget();
                core.outgoing.pause();
                State::InitSent(self)
            }
            Some(Err(reason)) => self.unsolved(core, cx, reason),
        }
    }

    /// Returns the cookie without a solution; the responder may serve us all the same.
    //= rfc8019#7.1.2
    //# In both cases, the Initiator acts as
    //# described in Section 2.6 of [RFC7296] -- it restarts the request and
    //# includes the received COOKIE notification in it.
    fn unsolved(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        reason: FailureReason,
    ) -> State {
        self.held.hold(cx, reason);
        self.resend(core, cx)
    }

    /// Somebody has worked on the puzzle.
    pub(crate) fn on_solution(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        id: RequestId,
        answer: Answer,
    ) -> State {
        let Some(solving) = self.solving.take_if(|solving| solving.asked(id)) else {
            return State::InitSent(self);
        };
        match solving.outcome(answer) {
            Ok(solution) => {
                self.solution = Some(solution);
                self.resend(core, cx)
            }
            Err(reason) => {
                self.tired = true;
                self.unsolved(core, cx, reason)
            }
        }
    }

    fn on_invalid_ke(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        wanted: KeId,
    ) -> State {
        if wanted.0 == self.key.method().iana_id() {
            // The answer to what we sent before.
            cx.drop(DropReason::BadResponse);
            return State::InitSent(self);
        }
        let offered = |method: &KeyExchange| {
            core.config
                .proposals
                .iter()
                .any(|p| p.key_exchange.contains(method))
        };
        // Each method is tried once, so this ends.
        let method = KeyExchange::from_iana(wanted.0)
            .filter(offered)
            .filter(|method| !self.tried.contains(method));
        let Some(method) = method else {
            self.held
                .hold(cx, FailureReason::KeyExchangeMethod(wanted.0));
            return State::InitSent(self);
        };
        match cx.key_exchange.generate(method, cx.entropy) {
            Ok(key) => {
                self.key = key;
                self.tried.push(method);
                self.resend(core, cx)
            }
            Err(error) => self.fail(core, cx, FailureReason::KeyExchange(error.to_string())),
        }
    }

    /// What an error of the peer means.
    fn refusal(&self, core: &Core, error: &Notify<'_>) -> FailureReason {
        match error.kind {
            NotifyType::NO_PROPOSAL_CHOSEN => FailureReason::NoProposalChosen {
                by: Party::Peer,
                ours: core.config.proposals.clone(),
                theirs: None,
            },
            NotifyType::INVALID_MAJOR_VERSION => {
                FailureReason::MajorVersion(error.data.first().copied().unwrap_or_default())
            }
            NotifyType::INVALID_SYNTAX => FailureReason::InvalidSyntax {
                by: Party::Peer,
                detail: String::new(),
            },
            other => match error.unsupported_payload() {
                Some(payload) => FailureReason::UnsupportedCriticalPayload {
                    by: Party::Peer,
                    payload,
                },
                None => FailureReason::PeerNotify(other),
            },
        }
    }

    /// Drops a response that no exchange can go on from.
    //= rfc7296#3.3.6
    //# The initiator of an exchange MUST check that the
    //# accepted offer is consistent with one of its proposals, and if not
    //# MUST terminate the exchange.
    fn unusable(mut self: Box<Self>, cx: &mut Context<'_>, reason: FailureReason) -> State {
        self.held.drop_and_hold(cx, reason);
        State::InitSent(self)
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
        let by = Party::Us;
        let (Some(sa), Some(ke), Some(nonce)) = (contents.sa, contents.ke, contents.nonce) else {
            let detail = "a payload of IKE_SA_INIT is missing".to_owned();
            return self.unusable(cx, FailureReason::InvalidSyntax { by, detail });
        };
        //= rfc9242#3.1
        //# Implementations MUST ignore non-empty Notification Data if they don't
        //# understand its purpose.
        let intermediate = core.config.wants_intermediate()
            && contents.has(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED);
        // Without IKE_INTERMEDIATE there is no place for additional key exchanges (RFC 9370 §2.2.1).
        let suite = accept_ike(&core.config.proposals, &sa)
            .filter(|suite| intermediate || suite.additional == Additional::default());
        let Some(suite) = suite else {
            let (ours, theirs) = (core.config.proposals.clone(), Some(sa.to_proposals()));
            return self.unusable(cx, FailureReason::NoProposalChosen { by, ours, theirs });
        };
        let ppk = ppk::agreed(self.ppk, intermediate, contents);
        //= rfc8784#3
        //# If the responder did
        //# not include the USE_PPK notification and the flag mandatory_or_not
        //# indicates that using PPKs is mandatory for communication with this
        //# responder, then the initiator MUST abort the exchange.
        if core.config.ppk == PpkPolicy::Insist && ppk == Stage::Unused {
            return self.unusable(cx, FailureReason::PpkRequired);
        }
        let method = self.key.method();
        if responder_spi == IkeSpi::ZERO
            || suite.key_exchange != method
            || ke.method.0 != method.iana_id()
            || ke.data.len() != method.responder_public_len()
        {
            cx.drop(DropReason::BadResponse);
            return State::InitSent(self);
        }
        let secret = match self.key.agree(ke.data) {
            Ok(secret) => secret,
            // Nobody is answerable for it: the peer's own may still come.
            Err(error) => return self.unusable(cx, bad_key_exchange(error)),
        };
        core.responder_spi = responder_spi;
        core.suite = Some(suite);
        if let Some(solving) = &self.solving {
            solving.abandon(cx);
        }
        let request = core.outgoing.first_answered();
        let seed = Skeyseed::initial(suite.prf, &self.nonce, nonce.data(), &secret);
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
            intermediate,
            ppk,
            childless: contents.has(NotifyType::CHILDLESS_IKEV2_SUPPORTED),
            key_log: cx.config.key_log,
            resumption: None,
        };
        let Some(handshake) = Handshake::new(finished, seed) else {
            let reason =
                FailureReason::KeyExchange("the keys do not fit the algorithms".to_owned());
            return fail(core, cx, self.child, reason);
        };
        heed_first(core, cx, arrival, contents);
        puzzle::begin(
            core,
            cx,
            handshake,
            self.child,
            puzzle::given(&contents.notifies),
        )
    }

    /// When something is due besides retransmission.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let solving = self.solving.as_ref().map(|solving| solving.deadline);
        [solving, self.held.deadline()].into_iter().flatten().min()
    }

    pub(crate) fn on_timeout(mut self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        if let Some(solving) = self.solving.take_if(|s| cx.now >= s.deadline) {
            let reason = solving.too_late(cx);
            self.tired = true;
            return self.unsolved(core, cx, reason);
        }
        match self.held.due(cx.now) {
            Some(reason) => self.fail(core, cx, reason),
            None => State::InitSent(self),
        }
    }

    pub(crate) fn give_up(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        exchange: ExchangeType,
        sent: u32,
    ) -> State {
        if self.may_fall_back(core) {
            return self.fall_back(core, cx);
        }
        let silence = FailureReason::NoResponse { exchange, sent };
        let reason = self.held.take().unwrap_or(silence);
        self.fail(core, cx, reason)
    }

    pub(crate) fn cancel(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        self.fail(core, cx, FailureReason::Cancelled)
    }

    fn fail(
        self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        reason: FailureReason,
    ) -> State {
        if let Some(solving) = &self.solving {
            solving.abandon(cx);
        }
        fail(core, cx, self.child, reason)
    }
}

fn bad_key_exchange(error: KeyExchangeError) -> FailureReason {
    FailureReason::KeyExchange(error.to_string())
}
