//! The responder's half of IKE_AUTH.

use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{PskKey, SecretBytes};
use cygnet_wire::{
    AuthMethodId, ExchangeType, Gateway, IdType, Message, Notify, NotifyType, PayloadChain,
    PayloadType,
};

use super::{Credential, child_failed, is_heeded};
use crate::child::{ChildSa, ChildState, Chosen, Fresh, KeySource, Phase, Refused};
use crate::config::{Childless, PeerConfig, Uniqueness};
use crate::contents::Contents;
use crate::context::{Acquaintance, Back, Context, InitialContact};
use crate::established::{Established, close_ike};
use crate::exchange::ike_sa_init::Handshake;
use crate::exchange::ike_session_resume::{self as tickets, Resumption, Tickets};
use crate::exchange::{
    auth_lifetime, crash_detection, message_id_sync, mobike, redirect, replay_counter_sync,
    set_window_size,
};
use crate::identity::Identity;
use crate::info::Role;
use crate::io::{Answer, ChildSaId, Event, Refusal, RefusalKind, RequestId, Reserved};
use crate::ppk::{self, Mixed, PpkPolicy, Stage};
use crate::proposal::{ChildExchange, allows};
use crate::puzzle::Puzzle;
use crate::reason::{AuthFailure, ChildFailure, CloseReason, FailureReason, Party};
use crate::sa::{Core, State};
use crate::ticket::{Session, TicketRefusal};

/// IKE_SA_INIT has been answered, IKE_AUTH is awaited, or IKE_INTERMEDIATE exchanges before it.
#[derive(Debug)]
pub(crate) struct AuthAwaited {
    pub(crate) handshake: Handshake,
    /// The configurations that the peer may use, best first.
    pub(crate) candidates: Vec<Arc<PeerConfig>>,
    /// What the request must bring the solution of, before it is looked at; `None` once it has.
    pub(crate) puzzle: Option<Puzzle>,
    /// A request has come that the keys do not open.
    pub(crate) spoilt: bool,
}

/// The peer is authenticated; its answer waits for the child SA.
#[derive(Debug)]
pub(crate) struct ChildPending {
    handshake: Handshake,
    reply: Reply,
    chosen: Chosen,
    phase: Phase,
    /// When the data plane is no longer waited for.
    pub(crate) deadline: Instant,
}

/// Our part of the authentication, and where it goes.
#[derive(Debug)]
struct Reply {
    back: Back,
    id: Identity,
    auth: SecretBytes,
    /// The PPK that the initiator has named in its request is used.
    names_ppk: bool,
    /// The initiator asks for a ticket.
    ticket: bool,
}

/// What the child SA part of the response says.
enum ChildPart<'a> {
    /// There is none.
    Nothing,
    Made(&'a Chosen, Reserved),
    Refused(NotifyType),
    /// None, since the peer is sent to another gateway.
    Elsewhere(Gateway),
}

/// A peer that is who it says it is, and the configurations that it may use.
struct Authenticated {
    remote: Identity,
    credential: Credential,
    /// The keys with the PPK that it has named and we have too.
    mixed: Option<Mixed>,
    configs: Vec<Arc<PeerConfig>>,
}

/// What shows who an initiator is.
struct Proof<'a> {
    /// The keys by which it was made, if a PPK is in them.
    mixed: Option<Mixed>,
    data: &'a [u8],
}

impl AuthAwaited {
    /// Whether a request of this type may come now.
    pub(crate) fn takes_request(&self, exchange: ExchangeType) -> bool {
        match exchange {
            ExchangeType::IKE_INTERMEDIATE => self.handshake.intermediate.may_go_on(),
            ExchangeType::IKE_AUTH => self.handshake.is_ready(),
            _ => false,
        }
    }

    /// Whether the work that was asked for has been done. IKE_INTERMEDIATE does not need it: RFC 9242 has no place for a
    /// solution there (its §5 points to RFC 8019, which knows IKE_AUTH only). What guards it is the puzzle of IKE_SA_INIT,
    /// the number of exchanges, and that nobody's messages are authentic who has not exchanged keys himself.
    //= rfc8019#7.2.4
    //# If the Responder requested the Initiator to solve a puzzle in the
    //# IKE_AUTH exchange, then it MUST silently discard all the IKE_AUTH
    //# request messages without the PS payload.
    //= rfc8019#7.2.4
    //# If the Responder successfully
    //# verifies the puzzle and calculates the SK_* key, but the message
    //# authenticity check fails, then it SHOULD save the calculated keys in
    //# the IKE SA state while waiting for the retransmissions from the
    //# Initiator.  In this case, the Responder may skip verification of the
    //# puzzle solution and ignore the PS payload in the retransmitted
    //# messages.
    //= rfc8019#7.2.4
    //# The Responder MUST silently discard the received message if any
    //# checked verification result is not correct (contains insufficient
    //# number of trailing zero bits).
    pub(crate) fn is_worth_reading(&mut self, message: &Message<'_>) -> bool {
        let Some(puzzle) = &self.puzzle else {
            return true;
        };
        let solved = puzzle.is_solved_in(message);
        if solved {
            self.puzzle = None;
        }
        solved
    }

    pub(crate) fn on_request(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        chain: PayloadChain<'_>,
        back: Back,
    ) -> State {
        let contents = match Contents::read(chain) {
            Ok(contents) => contents,
            //= rfc7296#2.21.2
            //# Note, however, that request messages that contain an unsupported
            //# critical payload, or where the whole message is malformed (rather
            //# than just bad payload contents), MUST be rejected in their entirety,
            //# and MUST only lead to an UNSUPPORTED_CRITICAL_PAYLOAD or
            //# INVALID_SYNTAX Notification sent as a response.
            Err(error) => {
                let (kind, data) = error.notify();
                return self.refuse(core, cx, back, kind, &data, error.into());
            }
        };
        //= rfc6023#3
        //# it SHOULD reply with an INVALID_SYNTAX Notify
        //# payload if the client sends an IKE_AUTH request that is modified as
        //# described in Section 5.
        if contents.sa.is_none() && !self.handshake.childless {
            let kind = NotifyType::INVALID_SYNTAX;
            let reason = FailureReason::InvalidSyntax {
                by: Party::Us,
                detail: "no child SA is asked for".to_owned(),
            };
            return self.refuse(core, cx, back, kind, &[], reason);
        }
        let authenticated = match self.authenticate(core, cx, &contents) {
            Ok(authenticated) => authenticated,
            //= rfc7296#2.21.2
            //# All errors that occur in an IKE_AUTH exchange, causing the
            //# authentication to fail for whatever reason (invalid shared secret,
            //# invalid ID, untrusted certificate issuer, revoked or expired
            //# certificate, etc.) SHOULD result in an AUTHENTICATION_FAILED
            //# notification.
            Err(reason) => {
                let kind = NotifyType::AUTHENTICATION_FAILED;
                return self.refuse(core, cx, back, kind, &[], reason);
            }
        };
        let resumption = self.handshake.resumption.as_deref();
        if let Some(reason) = unwelcome(core, cx, &contents, &authenticated, resumption) {
            let kind = NotifyType::AUTHENTICATION_FAILED;
            return self.refuse(core, cx, back, kind, &[], reason);
        }
        let Authenticated {
            remote,
            credential,
            mixed,
            mut configs,
        } = authenticated;
        if contents.sa.is_some() {
            configs.retain(|config| config.childless != Childless::Force);
            if configs.is_empty() {
                let kind = NotifyType::INVALID_SYNTAX;
                return self.refuse(core, cx, back, kind, &[], FailureReason::ChildlessRequired);
            }
        }
        if mobike::met_unexpected_nat(&contents, back.path) {
            let kind = NotifyType::UNEXPECTED_NAT_DETECTED;
            return self.refuse(core, cx, back, kind, &[], FailureReason::UnexpectedNat);
        }
        let names_ppk = mixed.is_some();
        if let Some(mixed) = mixed {
            self.handshake.adopt(mixed);
        }
        //= rfc5685#6
        //# The gateway
        //# MUST verify the client's AUTH payload before sending the REDIRECT
        //# payload
        let elsewhere = configs.first().and_then(|config| {
            let (when, own) = (config.send_redirect, back.path.local.ip());
            (core.redirectable == Some(Party::Peer))
                .then(|| redirect::elsewhere(cx, when, &config.redirect_to, own))?
        });
        let child_id = ChildSaId(cx.shared.fresh_id());
        let choice = contents
            .sa
            .filter(|_| elsewhere.is_none())
            .map(|_| choose_child(core, child_id, &configs, &contents, ChildExchange::IkeAuth));
        if let Some(config) = match &choice {
            Some(Ok((config, _))) => Some(config),
            _ => configs.first(),
        } {
            core.config = Arc::clone(config);
        }
        let id = core.config.local_id.clone();
        core.local_id = Some(id.clone());
        core.childless = choice.is_none();
        mobike::agree(core, cx, &contents);
        let resumption = self.handshake.resumption.as_deref();
        let granted = resumption.and_then(|resumption| resumption.granted.as_ref());
        let reauthenticate = granted.and_then(|granted| granted.reauthenticate);
        core.tickets = Tickets::of_gateway(&core.config, cx.now, reauthenticate);
        //= rfc5723#4.3.4
        //# When the responder receives a ticket for an IKE SA that is still
        //# active and if the responder accepts it (i.e., following successful
        //# completion of the IKE_AUTH exchange), the old SA SHOULD be silently
        //# deleted without sending a DELETE informational exchange.
        if let Some(granted) = granted {
            cx.shared.tickets.make_void(cx.now, granted.old);
            cx.shared.superseded.push(granted.old);
        }
        core.authenticated(cx, &mut self.handshake, remote.clone());
        set_window_size::heed(core, &contents);
        crash_detection::heed(core, &contents);
        message_id_sync::agree(core, &contents);
        replay_counter_sync::agree(core, &contents);
        if is_heeded(&core.config, &contents) {
            let (by, begun, local) = (core.id, core.created, id.clone());
            cx.shared.initial_contacts.push(InitialContact {
                by,
                begun,
                local,
                remote,
            });
        }
        let auth = self.handshake.auth_data(
            Role::Responder,
            &self.handshake.sk_pr,
            &credential,
            &id.payload_body(),
        );
        let reply = Reply {
            back,
            id,
            auth,
            names_ppk,
            ticket: contents.has(NotifyType::TICKET_REQUEST),
        };
        let handshake = self.handshake;
        match choice {
            None => {
                let part = elsewhere.map_or(ChildPart::Nothing, ChildPart::Elsewhere);
                finish(core, cx, handshake, &reply, part, None)
            }
            Some(Ok((_, chosen))) => {
                cx.shared.children.insert(child_id, core.id);
                let phase = Phase::Spi(cx.request(core.id, chosen.allocate_spi(core)));
                State::ChildPending(Box::new(ChildPending {
                    handshake,
                    reply,
                    chosen,
                    phase,
                    deadline: cx.now + cx.config.half_open_timeout,
                }))
            }
            Some(Err(Refused {
                notify,
                reason,
                config,
            })) => {
                child_failed(core, cx, child_id, config, reason);
                finish(
                    core,
                    cx,
                    handshake,
                    &reply,
                    ChildPart::Refused(notify),
                    None,
                )
            }
        }
    }

    /// Which of an initiator's proofs counts with a configuration: the one with the PPK that it names, or the one without.
    fn proof<'a>(
        &self,
        cx: &Context<'_>,
        config: &PeerConfig,
        contents: &Contents<'a>,
        auth: &'a [u8],
    ) -> Result<Proof<'a>, FailureReason> {
        let without = |data| match config.ppk {
            PpkPolicy::Insist => Err(FailureReason::PpkRequired),
            _ => Ok(Proof { mixed: None, data }),
        };
        match &self.handshake.ppk {
            Stage::Unused | Stage::InIntermediate => without(auth),
            Stage::Mixed(id) => {
                let ours = ppk::usable(cx, config);
                match ours.iter().any(|ppk| ppk.id == *id) {
                    true => Ok(Proof {
                        mixed: None,
                        data: auth,
                    }),
                    false => Err(FailureReason::PpkUnknown),
                }
            }
            Stage::InAuth => {
                //= rfc8784#3
                //# If no PPK_IDENTITY notification is
                //# found and the peers successfully exchanged USE_PPK notifications in
                //# the IKE_SA_INIT exchange, then the responder MUST send back an
                //# AUTHENTICATION_FAILED notification and then fail the negotiation.
                let named = ppk::named(contents).ok_or(FailureReason::PpkRequired)?;
                let ours = ppk::usable(cx, config);
                if let Some(ppk) = ours.iter().find(|ppk| Some(&ppk.id[..]) == named) {
                    let mixed = Some(self.handshake.mixed(ppk));
                    return Ok(Proof { mixed, data: auth });
                }
                //= rfc8784#3
                //# If using PPKs is mandatory
                //# or no NO_PPK_AUTH notification is found, then the responder MUST send
                //# back an AUTHENTICATION_FAILED notification and then fail the
                //# negotiation.
                //= rfc8784#3
                //# Since the Auth Method field is not present in the notification, the
                //# authentication method used for computing the authentication data MUST
                //# be the same as the method indicated in the AUTH payload.
                let fallback = contents.notify(NotifyType::NO_PPK_AUTH);
                without(fallback.ok_or(FailureReason::PpkUnknown)?.data)
            }
        }
    }

    /// Whether the initiator is who it says it is, and which configurations it may use.
    fn authenticate(
        &self,
        core: &Core,
        cx: &Context<'_>,
        contents: &Contents<'_>,
    ) -> Result<Authenticated, FailureReason> {
        let failed = |cause| FailureReason::AuthenticationFailed {
            by: Party::Us,
            cause,
        };
        let missing = |kind| failed(AuthFailure::Missing(kind));
        let auth = contents.auth.ok_or_else(|| missing(PayloadType::AUTH))?;
        let id = contents.id_i.ok_or_else(|| missing(PayloadType::ID_I))?;
        let remote =
            Identity::from_wire(id.id_type.0, id.data).map_err(FailureReason::BadIdentity)?;
        if let Some(resumption) = &self.handshake.resumption {
            let shown = (id.body(), auth.method, auth.data);
            return self.resumed(core, cx, contents, resumption, remote, shown);
        }
        // Not those of IKE_SA_INIT: the configuration may have changed since.
        let candidates = cx.candidates(core.path);
        let mut configs: Vec<_> = candidates
            .iter()
            .filter(|c| allows(&c.proposals, &self.handshake.suite))
            .filter(|c| c.remote_id.accepts(&remote))
            .cloned()
            .collect();
        if configs.is_empty() {
            let expected: Vec<_> = candidates.iter().map(|c| c.remote_id.to_string()).collect();
            return Err(FailureReason::WrongIdentity {
                expected: expected.join(" or "),
                got: remote,
            });
        }
        if let Some(hint) = contents.id_r {
            let wanted = Identity::from_wire(hint.id_type.0, hint.data)
                .map_err(FailureReason::BadIdentity)?;
            if !configs.iter().any(|c| c.local_id.matches(&wanted)) {
                let ours: Vec<_> = configs.iter().map(|c| c.local_id.to_string()).collect();
                let ours = ours.join(" or ");
                return Err(FailureReason::WrongLocalIdentity { wanted, ours });
            }
            configs.retain(|c| c.local_id.matches(&wanted));
        }
        // Who is named goes before who may be anybody.
        configs.sort_by_key(|c| c.remote_id.exact().is_none());
        let (local_addr, remote_addr) = core.addresses();
        let mut failure = None;
        for config in &configs {
            let local = &config.local_id;
            let Some(psk) = cx.directory.psk(local, &remote, local_addr, remote_addr) else {
                failure.get_or_insert_with(|| FailureReason::NoPsk {
                    local: local.clone(),
                    remote: remote.clone(),
                });
                continue;
            };
            let psk = PskKey::new(self.handshake.suite.prf, psk.as_ref());
            let proof = match self.proof(cx, config, contents, auth.data) {
                Ok(proof) => proof,
                Err(reason) => {
                    failure = Some(reason);
                    continue;
                }
            };
            let sk_p = proof.mixed.as_ref().map(|mixed| &mixed.sk_pi);
            let verified = self.handshake.verify(
                Role::Initiator,
                sk_p.unwrap_or(&self.handshake.sk_pi),
                &psk,
                id.body(),
                (auth.method, proof.data),
            );
            match verified {
                Ok(()) => {
                    // The reply names one identity of ours: what else is to serve must bear it too.
                    let (local, ppk) = (local.clone(), (config.ppk, config.ppk_ids.clone()));
                    configs.retain(|c| (&c.local_id, c.ppk, &c.ppk_ids) == (&local, ppk.0, &ppk.1));
                    return Ok(Authenticated {
                        remote,
                        credential: Credential::Psk(psk),
                        mixed: proof.mixed,
                        configs,
                    });
                }
                // That a key is wrong says more than that another one is missing.
                Err(cause) => failure = Some(failed(cause)),
            }
        }
        Err(failure.unwrap_or(FailureReason::NoConfiguration { remote }))
    }

    /// Whether the initiator has the keys of the session that it resumes, and which configurations it may use.
    fn resumed(
        &self,
        core: &Core,
        cx: &Context<'_>,
        contents: &Contents<'_>,
        resumption: &Resumption,
        remote: Identity,
        (id_body, method, data): (&[u8], AuthMethodId, &[u8]),
    ) -> Result<Authenticated, FailureReason> {
        let Resumption {
            local_id,
            remote_id,
            ..
        } = resumption;
        if remote != *remote_id {
            let expected = remote_id.to_string();
            let got = remote;
            return Err(FailureReason::WrongIdentity { expected, got });
        }
        if let Some(hint) = contents.id_r {
            let wanted = Identity::from_wire(hint.id_type.0, hint.data)
                .map_err(FailureReason::BadIdentity)?;
            if wanted != *local_id {
                let ours = local_id.to_string();
                return Err(FailureReason::WrongLocalIdentity { wanted, ours });
            }
        }
        let way = self
            .handshake
            .verify_session(
                Role::Initiator,
                &self.handshake.sk_pi,
                id_body,
                (method, data),
            )
            .map_err(|cause| FailureReason::AuthenticationFailed {
                by: Party::Us,
                cause,
            })?;
        // The configuration may have changed since, and another IKE SA may have resumed the session.
        let session = Session {
            suite: self.handshake.suite,
            sk_d: self.handshake.channel.sk_d.clone(),
            local_id: local_id.clone(),
            remote_id: remote.clone(),
            ppk: resumption.ppk,
        };
        let configs = match &resumption.granted {
            Some(granted) if cx.shared.tickets.is_void(granted.old) => Err(TicketRefusal::Void),
            Some(granted) => {
                let path = core.path;
                tickets::permitted(cx, path, &session, granted.psk)
            }
            None => Err(TicketRefusal::NoConfiguration),
        };
        Ok(Authenticated {
            remote,
            credential: Credential::Session(way),
            mixed: None,
            configs: configs.map_err(FailureReason::TicketVoid)?,
        })
    }

    fn refuse(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        back: Back,
        kind: NotifyType,
        data: &[u8],
        reason: FailureReason,
    ) -> State {
        let channel = &mut self.handshake.channel;
        let sent = core.respond(cx, channel, ExchangeType::IKE_AUTH, back, |payloads| {
            payloads.notify(&Notify::new(kind, data));
        });
        debug_assert_eq!(sent, Ok(()), "one notification fits into a message");
        core.fail(cx, reason)
    }

    pub(crate) fn on_timeout(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        if cx.now < core.created + cx.config.half_open_timeout {
            return State::AuthAwaited(self);
        }
        core.report_failure(cx, FailureReason::HalfOpenTimeout);
        State::Gone
    }
}

/// Why an authenticated peer is refused because of the IKE SAs that it has already.
fn unwelcome(
    core: &Core,
    cx: &Context<'_>,
    contents: &Contents<'_>,
    peer: &Authenticated,
    resumption: Option<&Resumption>,
) -> Option<FailureReason> {
    let config = peer.configs.first()?;
    let pair = (config.local_id.clone(), peer.remote.clone());
    let others = cx.shared.pairs.get(&pair)?;
    let remote = peer.remote.clone();
    // The one whose session is resumed goes, and so do those that end with the peer's word.
    let old = resumption.and_then(|resumption| resumption.granted.as_ref());
    let old = old.and_then(|granted| cx.shared.spis.get(&granted.old));
    let heeded = is_heeded(config, contents);
    let others = others.iter().filter(|(id, _)| Some(*id) != old);
    let others: Vec<_> = others.map(|(_, other)| *other).collect();
    let stays = |other: &&Acquaintance| !heeded || !other.is_before(core.created);
    let count = others.iter().filter(stays).count();
    if count >= cx.config.max_per_identity {
        return Some(FailureReason::TooManyIkeSas { remote, count });
    }
    // From the same address it is the same peer, which may be authenticating itself anew.
    let own = core.path.remote.ip();
    let mut addresses = others.iter().map(|other| other.address);
    let address = addresses.find(|address| *address != own)?;
    let refused = config.uniqueness == Uniqueness::Keep && !heeded;
    refused.then_some(FailureReason::AlreadyConnected { remote, address })
}

/// The first configuration that can make what the peer asks for, or why the first one cannot.
pub(crate) fn choose_child(
    core: &Core,
    id: ChildSaId,
    configs: &[Arc<PeerConfig>],
    contents: &Contents<'_>,
    exchange: ChildExchange,
) -> Result<(Arc<PeerConfig>, Chosen), Refused> {
    let mut refusal = None;
    for config in configs {
        match Chosen::choose(core, id, &config.children, contents, exchange) {
            Ok(chosen) => return Ok((Arc::clone(config), chosen)),
            Err(refused) => refusal = refusal.or(Some(refused)),
        }
    }
    Err(refusal.unwrap_or(Refused {
        notify: NotifyType::NO_PROPOSAL_CHOSEN,
        reason: ChildFailure::NoAdditionalSas,
        config: None,
    }))
}

impl ChildPending {
    pub(crate) fn on_answer(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        id: RequestId,
        answer: Answer,
    ) -> State {
        match (&self.phase, answer) {
            (Phase::Spi(request), Answer::Spi(spi)) if *request == id => {
                let Handshake {
                    channel, ni, nr, ..
                } = &self.handshake;
                let source = KeySource {
                    sk_d: &channel.sk_d,
                    secrets: &[],
                    ni,
                    nr,
                };
                let install =
                    self.chosen
                        .agreed(spi)
                        .install(core, self.chosen.id, None, true, source);
                self.phase = Phase::Install {
                    request: cx.request(core.id, install),
                    spi,
                };
                State::ChildPending(self)
            }
            (Phase::Install { request, spi }, Answer::Done) if *request == id => {
                let spi = *spi;
                let child = ChildSa {
                    id: self.chosen.id,
                    state: ChildState::Installed,
                    established: Some(cx.now),
                    agreed: self.chosen.agreed(spi),
                    replaces: None,
                    outbound: true,
                    redundant: None,
                };
                let Self {
                    handshake,
                    reply,
                    chosen,
                    ..
                } = *self;
                finish(
                    core,
                    cx,
                    handshake,
                    &reply,
                    ChildPart::Made(&chosen, spi),
                    Some(child),
                )
            }
            (Phase::Spi(request) | Phase::Install { request, .. }, answer) if *request == id => {
                let refusal = match answer {
                    Answer::Failed(refusal) => refusal,
                    _ => Refusal::new(RefusalKind::Failed, "an answer of the wrong kind"),
                };
                self.refused(core, cx, refusal)
            }
            _ => State::ChildPending(self),
        }
    }

    /// The data plane does not make the child SA; the IKE SA stands.
    fn refused(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>, refusal: Refusal) -> State {
        let Self {
            handshake,
            reply,
            chosen,
            phase,
            ..
        } = *self;
        let reason = phase.failure(refusal);
        child_failed(core, cx, chosen.id, Some(chosen.config), reason);
        //= rfc7296#3.10.1
        //# This can also be used as "generic" Child SA error when Child SA
        //# cannot be created for some other reason.
        let part = ChildPart::Refused(NotifyType::NO_PROPOSAL_CHOSEN);
        finish(core, cx, handshake, &reply, part, None)
    }

    pub(crate) fn on_timeout(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        if cx.now < self.deadline {
            return State::ChildPending(self);
        }
        self.chosen.abandon(core, cx, self.phase);
        let refusal = Refusal::new(RefusalKind::Failed, "no answer from the data plane in time");
        self.refused(core, cx, refusal)
    }

    /// The IKE SA ends before it has been answered.
    pub(crate) fn close(
        self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        reason: CloseReason,
    ) -> State {
        self.chosen.abandon(core, cx, self.phase);
        child_failed(
            core,
            cx,
            self.chosen.id,
            Some(self.chosen.config),
            ChildFailure::IkeSaEnded,
        );
        close_ike(core, cx, Vec::new(), reason)
    }
}

/// Sends the response; the IKE SA is established.
fn finish(
    core: &mut Core,
    cx: &mut Context<'_>,
    mut handshake: Handshake,
    reply: &Reply,
    part: ChildPart<'_>,
    child: Option<ChildSa>,
) -> State {
    let window = core.config.window;
    let lifetime = tickets::auth_lifetime(core, cx.now).map(auth_lifetime::data);
    let introduction = mobike::introduction(core, cx);
    let token = crash_detection::own(core, cx);
    let sync = [
        message_id_sync::announcement(core),
        replay_counter_sync::announcement(core),
    ];
    //= rfc5723#4.1
    //# Regardless of this choice, there is no change to the behavior of the
    //# responder with respect to the IKE exchange, and the proper IKE
    //# response (e.g., an IKE_AUTH response or an error notification) MUST
    //# be sent.
    let ticket = tickets::answer(core, cx, &handshake.channel.sk_d, reply.ticket);
    let channel = &mut handshake.channel;
    let sent = core.respond(
        cx,
        channel,
        ExchangeType::IKE_AUTH,
        reply.back,
        |payloads| {
            payloads
                .id_r(IdType(reply.id.id_type()), &reply.id.data())
                .auth(AuthMethodId::SHARED_KEY, reply.auth.as_ref());
            //= rfc6290#4.2
            //# The QCD_TOKEN notification is related to the IKE SA and should follow
            //# the AUTH payload and precede the Configuration payload and all
            //# payloads related to the child SA.
            if let Some(token) = &token {
                token.write(payloads);
            }
            //= rfc8784#3
            //# sends back
            //# a response, which includes the PPK_IDENTITY notification with no data
            //# to indicate that the PPK is used in the exchange
            if reply.names_ppk {
                payloads.notify(&Notify::new(NotifyType::PPK_IDENTITY, &[]));
            }
            if let Some(lifetime) = lifetime {
                payloads.notify(&Notify::new(NotifyType::AUTH_LIFETIME, &lifetime));
            }
            set_window_size::announce(window, payloads);
            for sync in sync.iter().flatten() {
                payloads.notify(sync);
            }
            match &part {
                //= rfc6023#3
                //# A supporting responder that has advertised support by including the
                //# notification in the IKE_SA_INIT response MUST process a modified
                //# IKE_AUTH request, and MUST reply with a modified IKE_AUTH response.
                ChildPart::Nothing => {}
                //= rfc6023#3
                //# Such a responder MUST NOT reply with a modified IKE_AUTH response if
                //# the initiator did not send a modified IKE_AUTH request.
                ChildPart::Made(chosen, spi) => chosen.write(*spi, Fresh::default(), payloads),
                ChildPart::Refused(kind) => {
                    payloads.notify(&Notify::new(*kind, &[]));
                }
                ChildPart::Elsewhere(gateway) => {
                    let data = redirect::data(gateway, &[]);
                    payloads.notify(&Notify::new(NotifyType::REDIRECT, &data));
                }
            }
            for (kind, data) in introduction.iter().chain(&ticket) {
                payloads.notify(&Notify::new(*kind, data));
            }
        },
    );
    set_window_size::begin(core);
    let mut established = Established::new(handshake.channel);
    established.peers_verdict = reply.back.message_id.checked_add(1);
    if let ChildPart::Elsewhere(gateway) = part {
        established.sent_away(core, cx, gateway);
    }
    if let Some(child) = child {
        let (ike, id) = (core.id, child.id);
        let info = Box::new(child.info(core));
        cx.shared.children.insert(id, ike);
        established.children.reserve_exact(1);
        established.children.push(child);
        cx.event(Event::ChildEstablished {
            ike,
            child: id,
            info,
        });
    }
    match sent {
        Ok(()) => Box::new(established).proceed(core, cx),
        // Only an identity or selectors of absurd length get here. The peer hears nothing and gives up.
        Err(error) => {
            let detail = error.to_string();
            let reason = CloseReason::InvalidSyntax {
                by: Party::Us,
                detail,
            };
            Box::new(established).close(core, cx, reason)
        }
    }
}
