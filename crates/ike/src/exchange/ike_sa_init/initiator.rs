//! The initiator's half of IKE_SA_INIT.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{Additional, KeyExchange, KeyExchangeError, PrivateKey};
use cygnet_wire::{
    ExchangeType, IkeSpi, KeId, Message, Notify, NotifyType, PayloadWriter, Proposal, PuzzleNotify,
    WriteError, limits, write_message,
};

use super::{Finished, Handshake, NONCE_LEN, STRONGSWAN, Spis, nat_hashes};
use crate::child::Wanted;
use crate::config::{AcceptRedirect, Encapsulation, PeerConfig};
use crate::contents::{Contents, Unreadable};
use crate::context::{Context, Limiter, Path};
use crate::exchange::ike_auth;
use crate::exchange::puzzle::{self, Solving};
use crate::exchange::redirect::{self, Asked};
use crate::fragment::{self, Fragments};
use crate::info::{NatSituation, Role};
use crate::io::{Answer, IkeSaId, RequestId};
use crate::nat::{self, HASH_LEN};
use crate::ppk::{self, PpkPolicy, Stage};
use crate::proposal::{accept_ike, ike_offer};
use crate::reason::{ChildFailure, FailureReason, Party};
use crate::sa::{Arrival, Core, IkeSa, State};
use crate::stats::DropReason;
use crate::window::{Incoming, Outgoing};

/// Cookies that are returned before the peer counts as mad.
const MAX_COOKIES: u32 = 5;

/// The request has been sent, the response is awaited.
#[derive(Debug)]
pub(crate) struct InitSent {
    key: Box<dyn PrivateKey>,
    /// Methods that the peer has seen a public value for.
    tried: Vec<KeyExchange>,
    offer: Vec<Proposal>,
    nonce: [u8; NONCE_LEN],
    nat_hashes: Option<[[u8; HASH_LEN]; 2]>,
    cookie: Option<Vec<u8>>,
    cookies: u32,
    /// The puzzle that came with the cookie, while it is worked on.
    solving: Option<Solving>,
    /// One was not solved: no other one is tried.
    tired: bool,
    /// The solution.
    solution: Option<Vec<u8>>,
    /// We have a PPK for the peer and say so.
    ppk: bool,
    child: Option<Wanted>,
    /// An unauthenticated error that counts unless something better comes until then.
    held: Option<(Instant, FailureReason)>,
}

/// Begins an IKE SA, perhaps where another gateway has sent us.
pub(crate) fn begin(
    cx: &mut Context<'_>,
    id: IkeSaId,
    initiator_spi: IkeSpi,
    config: Arc<PeerConfig>,
    path: Path,
    child: Option<Wanted>,
    redirected_from: Option<IpAddr>,
) -> IkeSa {
    let encapsulation = config.force_encapsulation;
    let accepts = config.accept_redirect != AcceptRedirect::No;
    let mut core = Core {
        id,
        role: Role::Initiator,
        initiator_spi,
        responder_spi: IkeSpi::ZERO,
        local_id: Some(config.local_id.clone()),
        remote_id: None,
        config,
        path,
        nat: NatSituation::default(),
        suite: None,
        ppk: false,
        childless: false,
        created: cx.now,
        established: None,
        replaces: None,
        announced: true,
        last_heard: None,
        last_sent: cx.now,
        mobike: None,
        children_at: None,
        outgoing: Outgoing::default(),
        incoming: Incoming::default(),
        fragments: Fragments::default(),
        unwanted: false,
        spoken_up: Limiter::default(),
        renewals: Limiter::default(),
        unwanted_children: Vec::new(),
        redirectable: accepts.then_some(Party::Us),
        redirected_from,
        peer_token: None,
        synchronisation: None,
        creations: Limiter::default(),
    };
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
                cookie: None,
                cookies: 0,
                solving: None,
                tired: false,
                solution: None,
                ppk,
                child,
                held: None,
            });
            match state.request(&core, cx) {
                Ok(bytes) => {
                    let policy = &core.config.retransmit;
                    core.outgoing.sent(
                        cx.now,
                        ExchangeType::IKE_SA_INIT,
                        bytes.clone().into(),
                        None,
                        policy,
                        cx.entropy,
                    );
                    cx.transmit(path, bytes);
                    State::InitSent(state)
                }
                Err(error) => {
                    state.fail(&mut core, cx, FailureReason::Unsendable(error.to_string()))
                }
            }
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

/// Neither the IKE SA nor its child SA has come about.
fn fail(
    core: &mut Core,
    cx: &mut Context<'_>,
    child: Option<Wanted>,
    reason: FailureReason,
) -> State {
    if let Some(wanted) = child {
        ike_auth::child_failed(
            core,
            cx,
            wanted.id,
            Some(wanted.config),
            ChildFailure::IkeSaEnded,
        );
    }
    core.fail(cx, reason)
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
        let mut bytes = Vec::new();
        let header = core.init_header();
        write_message(&mut bytes, &header, |payloads: &mut PayloadWriter<'_>| {
            if let Some(cookie) = &self.cookie {
                payloads.notify(&Notify::new(NotifyType::COOKIE, cookie));
            }
            if let Some(solution) = &self.solution {
                payloads.ps(solution);
            }
            payloads
                .sa(&self.offer)
                .ke(KeId(self.key.method().iana_id()), self.key.public())
                .nonce(&self.nonce);
            if let Some([source, destination]) = &self.nat_hashes {
                payloads
                    .notify(&Notify::new(NotifyType::NAT_DETECTION_SOURCE_IP, source))
                    .notify(&Notify::new(
                        NotifyType::NAT_DETECTION_DESTINATION_IP,
                        destination,
                    ));
            }
            fragment::announce(core.config.fragmentation, payloads);
            redirect::announce(core, payloads);
            //= rfc9242#3.1
            //# The initiator indicates its support for Intermediate Exchange by
            //# including a notification of type INTERMEDIATE_EXCHANGE_SUPPORTED in
            //# the IKE_SA_INIT request message.
            if core.config.wants_intermediate() {
                payloads.notify(&Notify::new(
                    NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED,
                    &[],
                ));
            }
            if self.ppk {
                ppk::propose(payloads);
            }
            if core.config.fake_strongswan {
                payloads.vendor_id(&STRONGSWAN);
            }
            for id in &cx.config.vendor_ids {
                payloads.vendor_id(id);
            }
        })?;
        Ok(bytes)
    }

    /// Sends the request in its new form.
    fn resend(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        match self.request(core, cx) {
            Ok(bytes) => {
                let policy = &core.config.retransmit;
                core.outgoing
                    .replace(cx.now, bytes.clone().into(), policy, cx.entropy);
                cx.transmit(core.path, bytes);
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
            Err(error) => {
                let by = Party::Us;
                let reason = match error {
                    Unreadable::Critical(payload) => {
                        FailureReason::UnsupportedCriticalPayload { by, payload }
                    }
                    error => FailureReason::InvalidSyntax {
                        by,
                        detail: error.to_string(),
                    },
                };
                return self.unusable(cx, reason);
            }
        };
        if let Some(notify) = contents.notify(NotifyType::REDIRECT) {
            return self.on_redirect(core, cx, notify.data);
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
        if let Some(wanted) = contents
            .notifies
            .iter()
            .find_map(Notify::wanted_key_exchange)
        {
            return self.on_invalid_ke(core, cx, wanted);
        }
        if let Some(error) = contents.error() {
            let reason = self.refusal(core, error);
            self.hold(cx, reason);
            return State::InitSent(self);
        }
        self.on_answer(core, cx, arrival, message, &contents)
    }

    /// The gateway sends us to another one. Who knows the nonce has seen our request; who else the new gateway is, it has
    /// to prove like the old one.
    fn on_redirect(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> State {
        match redirect::asked_in_init(core, data, &self.nonce) {
            Some(Asked::Go(to)) => self.fail(core, cx, FailureReason::Redirected { to }),
            Some(Asked::Forbidden(to)) => {
                self.hold(cx, FailureReason::RedirectForbidden { to });
                State::InitSent(self)
            }
            None => {
                cx.drop(DropReason::BadResponse);
                State::InitSent(self)
            }
        }
    }

    fn on_cookie(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        cookie: &[u8],
        puzzle: Option<PuzzleNotify>,
    ) -> State {
        //= rfc7296#2.6
        //# The data associated with this notification MUST
        //# be between 1 and 64 octets in length (inclusive)
        if !limits::COOKIE_LEN.contains(&cookie.len())
            || self.cookie.as_deref() == Some(cookie)
            || self.solving.is_some()
        {
            // Malformed, or the answer to what we sent before the cookie.
            cx.drop(DropReason::BadResponse);
            return State::InitSent(self);
        }
        //= rfc7296#2.6
        //# The initiator should limit the number of cookie exchanges it
        //# tries before giving up
        if self.cookies >= MAX_COOKIES {
            let reason = FailureReason::CookieLoop(self.cookies);
            self.hold(cx, reason);
            return State::InitSent(self);
        }
        self.cookies = self.cookies.saturating_add(1);
        // Kept for all later forms of the request (RFC 7296 §2.6.1).
        self.cookie = Some(cookie.to_vec());
        self.solution = None;
        let puzzle = puzzle.filter(|_| !self.tired);
        match puzzle.map(|puzzle| Solving::begin(core, cx, puzzle, cookie.to_vec())) {
            None => self.resend(core, cx),
            Some(Ok(solving)) => {
                self.solving = Some(solving);
                // An error that came before this counts no more, and the request goes out again when it is another one.
                self.held = None;
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
        self.hold(cx, reason);
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
            self.hold(cx, FailureReason::KeyExchangeMethod(wanted.0));
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

    /// Keeps an error back; the first one counts.
    //= rfc7296#2.21.1
    //# Because all error notifications are completely
    //# unauthenticated, the recipient should continue trying for some time
    //# before giving up.
    fn hold(&mut self, cx: &Context<'_>, reason: FailureReason) {
        if self.held.is_none() {
            self.held = Some((cx.now + cx.config.error_grace, reason));
        }
    }

    /// Drops a response that no exchange can go on from. The peer has no better one unless this is a forgery.
    //= rfc7296#3.3.6
    //# The initiator of an exchange MUST check that the
    //# accepted offer is consistent with one of its proposals, and if not
    //# MUST terminate the exchange.
    fn unusable(mut self: Box<Self>, cx: &mut Context<'_>, reason: FailureReason) -> State {
        cx.drop(DropReason::BadResponse);
        self.hold(cx, reason);
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
        let answer = sa.to_proposals();
        let intermediate = core.config.wants_intermediate()
            && contents.has(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED);
        // Without IKE_INTERMEDIATE there is no place for additional key exchanges (RFC 9370 §2.2.1).
        let suite = accept_ike(&core.config.proposals, &answer)
            .filter(|suite| intermediate || suite.additional == Additional::default());
        let Some(suite) = suite else {
            let (ours, theirs) = (core.config.proposals.clone(), Some(answer));
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
        let request = core
            .outgoing
            .pending(0)
            .map(|p| p.message.first().to_vec())
            .unwrap_or_default();
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
        core.outgoing.answered(0);
        let handshake = Handshake::new(Finished {
            role: Role::Initiator,
            suite,
            spis: Spis {
                initiator: core.initiator_spi,
                responder: responder_spi,
            },
            ni: &self.nonce,
            nr: nonce.data(),
            secret: &secret,
            request,
            response: message.as_bytes().to_vec(),
            intermediate,
            ppk,
            childless: contents.has(NotifyType::CHILDLESS_IKEV2_SUPPORTED),
            key_log: cx.config.key_log,
        });
        let Some(handshake) = handshake else {
            let reason =
                FailureReason::KeyExchange("the keys do not fit the algorithms".to_owned());
            return fail(core, cx, self.child, reason);
        };
        core.fragments.agreed = fragment::agreed(core.config.fragmentation, contents);
        if core.config.force_encapsulation != Encapsulation::No {
            let (local, remote) = (arrival.local, arrival.remote);
            core.nat =
                nat_hashes(contents).judge(core.initiator_spi.0, responder_spi.0, local, remote);
        }
        //= rfc4555#3.3
        //# To
        //# simplify things, implementations that support both this specification
        //# and NAT Traversal MUST change to port 4500 if the correspondent also
        //# supports both, even if no NAT was detected between them (this way,
        //# there is no need to change the ports later if a NAT is detected on
        //# some other path).
        let may_move = core.config.mobike && core.nat.supported;
        if core.wants_encapsulation() || may_move {
            float(core, cx);
        }
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
        let held = self.held.as_ref().map(|(deadline, _)| *deadline);
        [solving, held].into_iter().flatten().min()
    }

    pub(crate) fn on_timeout(mut self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        if let Some(solving) = self.solving.take_if(|s| cx.now >= s.deadline) {
            let reason = solving.too_late(cx);
            self.tired = true;
            return self.unsolved(core, cx, reason);
        }
        match self.held.take_if(|(deadline, _)| cx.now >= *deadline) {
            Some((_, reason)) => self.fail(core, cx, reason),
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
        let reason = match self.held.take() {
            Some((_, reason)) => reason,
            None => FailureReason::NoResponse { exchange, sent },
        };
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

/// Moves to the ports on which IKE and ESP share UDP (RFC 7296 §2.23).
//= rfc7296#2.23
//# An IPsec
//# endpoint that discovers a NAT between it and its correspondent (as
//# described below) MUST send all subsequent traffic from port 4500,
//# which NATs should not treat specially (as they might with port 500).
fn float(core: &mut Core, cx: &Context<'_>) {
    if core.path.marker {
        return;
    }
    core.path.marker = true;
    core.path.local.set_port(cx.config.nat_port);
    // A port other than the usual one was chosen by the user, and serves both.
    if core.path.remote.port() == cx.config.ike_port {
        core.path.remote.set_port(cx.config.nat_port);
    }
}

fn bad_key_exchange(error: KeyExchangeError) -> FailureReason {
    FailureReason::KeyExchange(error.to_string())
}
