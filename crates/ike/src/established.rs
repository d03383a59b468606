//! An authenticated IKE SA: its child SAs, what we ask of the peer and what the peer asks of us.
//!
//! Requests of ours wait in a queue for the window (RFC 7296 §2.3). What a renewed IKE SA leaves behind goes to its
//! successor ([`Established::hand_over`]).

use std::collections::VecDeque;
use std::time::Instant;

use cygnet_wire::{ExchangeType, Gateway, Notify, NotifyType, PayloadChain, PayloadWriter};

use crate::channel::Channel;
use crate::child::{ChildSa, ChildState, Wanted};
use crate::contents::{Contents, Unreadable};
use crate::context::{Back, Context};
use crate::deleting::Deleting;
use crate::errand::{Current, Errand, Later, Plan, What};
use crate::exchange::create_child_sa::{self, Answering};
use crate::exchange::ike_session_resume as tickets;
use crate::exchange::{crash_detection, ike_auth, informational, mobike, set_window_size};
use crate::info::IkeSaState;
use crate::io::{Answer, ChildRequest, ChildSaId, Event, Refusal, RefusalKind, RequestId};
use crate::liveness::Looking;
use crate::proposal::SaSpi;
use crate::reason::{ChildCloseReason, ChildFailure, CloseReason, Party};
use crate::sa::{Core, State};
use crate::stats::DropReason;
use crate::succession::{OVERDUE, Standing};

/// Complaints that wait for the window; more are dropped.
const MAX_COMPLAINTS: usize = 4;

/// An authenticated IKE SA.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) channel: Channel,
    /// In the order of their making.
    pub(crate) children: Vec<ChildSa>,
    /// What we want to say, in this order as far as the one does not wait for the other.
    pub(crate) queue: VecDeque<Errand>,
    /// What the peer has put off.
    pub(crate) later: Vec<Later>,
    /// Our INFORMATIONAL requests that are under way, by Message ID.
    pub(crate) informational: Vec<(u32, Errand)>,
    /// Our CREATE_CHILD_SA that is under way.
    pub(crate) current: Option<Current>,
    /// The peer's CREATE_CHILD_SA that is worked on.
    pub(crate) answering: Option<Answering>,
    /// What is to become of it.
    pub(crate) standing: Standing,
    /// The planes are asked whether the peer has sent anything.
    pub(crate) looking: Option<Looking>,
    /// As responder: the Message ID of the peer's first request after IKE_AUTH, by which it may refuse our part of that.
    pub(crate) peers_verdict: Option<u32>,
}

impl Established {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            channel,
            children: Vec::new(),
            queue: VecDeque::new(),
            later: Vec::new(),
            informational: Vec::new(),
            current: None,
            answering: None,
            standing: Standing::Reigning,
            looking: None,
            peers_verdict: None,
        }
    }

    /// Sends what waits, if the window is free.
    pub(crate) fn proceed(mut self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        for id in std::mem::take(&mut core.unwanted_children) {
            self.give_up_child(core, cx, id);
        }
        if core.unwanted {
            self.end(CloseReason::DeletedByUs);
        }
        if core.outgoing.room() > 0 {
            create_child_sa::follow_up(&mut self, core, cx);
        }
        while let Some(errand) = self.next_errand(core) {
            match errand {
                Errand::DeleteIke(reason) => return self.delete(core, cx, reason),
                // The peer may have deleted it meanwhile.
                Errand::DeleteChild(id) if self.child(id).is_none() => {}
                Errand::Create(plan) => create_child_sa::begin(&mut self, core, cx, plan),
                errand => {
                    let Self {
                        channel, children, ..
                    } = &mut *self;
                    let said = match &errand {
                        Errand::Mobike(ask) => mobike::request(core, cx, *ask),
                        Errand::Liveness => mobike::liveness(core, cx),
                        _ => Vec::new(),
                    };
                    let token = match &errand {
                        Errand::CrashToken => crash_detection::own(core, cx),
                        _ => None,
                    };
                    let (informational, id) =
                        (ExchangeType::INFORMATIONAL, core.outgoing.next_id());
                    let sent = core.request(cx, channel, informational, |payloads| {
                        errand.write(children, payloads);
                        if let Some(token) = &token {
                            token.write(payloads);
                        }
                        for (kind, data) in &said {
                            payloads.notify(&Notify::new(*kind, data));
                        }
                    });
                    debug_assert_eq!(sent, Ok(()), "an errand fits into a message");
                    if let Errand::Window(size) = errand {
                        core.incoming.enlarge(size);
                    }
                    self.informational.push((id, errand));
                }
            }
        }
        State::Established(self)
    }

    /// Queues the deletion of the IKE SA, before all else.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        if !self.is_ending() {
            self.queue.push_front(Errand::DeleteIke(reason));
        }
    }

    /// Whether the deletion of the IKE SA waits to be sent.
    pub(crate) fn is_ending(&self) -> bool {
        let deletes = |errand: &Errand| matches!(errand, Errand::DeleteIke(_));
        self.queue.iter().any(deletes)
    }

    /// Deletes the IKE SA: the window is free.
    pub(crate) fn delete(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        reason: CloseReason,
    ) -> State {
        self.withdraw(core, cx);
        self.drop_exchanges(core, cx);
        tickets::end(core, cx, &reason);
        end_children(core, cx, self.children, &reason);
        Deleting::begin(core, cx, self.channel, Some(reason))
    }

    pub(crate) fn child(&self, id: ChildSaId) -> Option<&ChildSa> {
        self.children.iter().find(|child| child.id == id)
    }

    pub(crate) fn child_mut(&mut self, id: ChildSaId) -> Option<&mut ChildSa> {
        self.children.iter_mut().find(|child| child.id == id)
    }

    /// Whether an exchange of ours has made a successor of a child SA.
    pub(crate) fn has_renewed(&self, old: ChildSaId) -> bool {
        let made = |child: &ChildSa| child.agreed.initiator && child.replaces == Some(old);
        self.children.iter().any(made)
    }

    /// A child SA by the SPI under which the peer knows it: that of what we send.
    pub(crate) fn child_by_peer_spi(&mut self, spi: SaSpi) -> Option<&mut ChildSa> {
        self.children
            .iter_mut()
            .find(|child| child.agreed.peers_spi() == spi)
    }

    /// Why the peer cannot have another child SA by this SPI.
    pub(crate) fn spi_in_use(&self, peers: SaSpi) -> Option<ChildFailure> {
        let is_it = |child: &ChildSa| child.agreed.peers_spi() == peers;
        let taken = self.children.iter().any(is_it);
        taken.then_some(ChildFailure::SpiInUse(peers.spi))
    }

    /// Whether we are waiting for the peer to acknowledge the deletion of a child SA.
    pub(crate) fn is_deleting(&self, id: ChildSaId) -> bool {
        self.is_under_way(|errand| matches!(errand, Errand::DeleteChild(child) if *child == id))
    }

    /// Whether we are waiting for the peer to acknowledge the deletion of any child SA.
    pub(crate) fn is_deleting_children(&self) -> bool {
        self.is_under_way(|e| matches!(e, Errand::DeleteChild(_) | Errand::DeleteSpi(_)))
    }

    /// Whether there is such an INFORMATIONAL request of ours without a response.
    pub(crate) fn is_under_way(&self, is_it: impl Fn(&Errand) -> bool) -> bool {
        self.informational.iter().any(|(_, errand)| is_it(errand))
    }

    /// The peer is to delete a child SA that we do not have.
    pub(crate) fn delete_spi(&mut self, spi: SaSpi) {
        self.queue.push_back(Errand::DeleteSpi(spi));
    }

    /// Queues a CREATE_CHILD_SA, or plans it for later.
    pub(crate) fn plan(&mut self, plan: Plan, at: Option<Instant>) {
        match at {
            None => self.queue.push_back(Errand::Create(plan)),
            Some(at) => self.later.push(Later { at, plan }),
        }
    }

    /// A child SA is to go.
    pub(crate) fn doom(&mut self, id: ChildSaId, reason: ChildCloseReason) {
        let Some(child) = self.child_mut(id) else {
            return;
        };
        match &mut child.state {
            // If the peer has deleted it already, it must not be asked to.
            ChildState::Installing { doomed, .. } => {
                doomed.get_or_insert(reason);
            }
            state @ (ChildState::Installed | ChildState::Replaced) => {
                *state = ChildState::Deleting(reason);
                self.queue.push_back(Errand::DeleteChild(id));
            }
            ChildState::Deleting(_) => {}
        }
    }

    /// We do not want a child SA, or not any more, however far it has come.
    fn give_up_child(&mut self, core: &mut Core, cx: &mut Context<'_>, id: ChildSaId) {
        let is_it = |errand: &Errand| matches!(errand, Errand::Create(Plan { what: What::Child(wanted), .. }) if wanted.id == id);
        let queued = self.queue.iter().position(is_it);
        let later = self
            .later
            .iter()
            .position(|l| matches!(&l.plan.what, What::Child(wanted) if wanted.id == id));
        let wanted = match (queued, later) {
            (Some(at), _) => self.queue.remove(at).and_then(|errand| match errand {
                Errand::Create(plan) => Some(plan.what),
                _ => None,
            }),
            (None, Some(at)) => Some(self.later.remove(at).plan.what),
            (None, None) => None,
        };
        if let Some(What::Child(wanted)) = wanted {
            let (config, reason) = (Some(wanted.config), ChildFailure::Cancelled);
            return ike_auth::child_failed(core, cx, id, config, reason);
        }
        if create_child_sa::cancel(self, core, cx, id) {
            return;
        }
        self.doom(id, ChildCloseReason::DeletedByUs);
    }

    /// Deletes a child SA.
    pub(crate) fn delete_child(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        id: ChildSaId,
    ) -> State {
        self.give_up_child(core, cx, id);
        self.proceed(core, cx)
    }

    /// Asks the peer for a further child SA.
    pub(crate) fn create_child(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        id: ChildSaId,
        request: ChildRequest,
    ) -> State {
        let wanted = Wanted::new(id, request);
        self.plan(Plan::new(What::Child(wanted)), None);
        self.proceed(core, cx)
    }

    /// Renews a child SA, unless that is under way.
    pub(crate) fn rekey_child(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        id: ChildSaId,
    ) -> State {
        let is_it = |plan: &Plan| matches!(plan.what, What::Rekey(child) if child == id);
        let planned = self.plans().any(is_it);
        let current = self.current.as_ref().is_some_and(|c| c.concerns(id));
        if !planned && !current && !self.is_deleting(id) {
            self.plan(Plan::new(What::Rekey(id)), None);
        }
        self.proceed(core, cx)
    }

    /// Renews the IKE SA, unless that is under way.
    pub(crate) fn rekey_ike(mut self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        let planned = self.plans().any(|plan| matches!(plan.what, What::Ike));
        if !planned && !self.is_rekeying() && self.standing == Standing::Reigning {
            self.plan(Plan::new(What::Ike), None);
        }
        self.proceed(core, cx)
    }

    /// Whether a successor is being made.
    pub(crate) fn is_rekeying(&self) -> bool {
        matches!(self.current, Some(Current::Ike(_)))
    }

    fn plans(&self) -> impl Iterator<Item = &Plan> {
        let queued = self.queue.iter().filter_map(|errand| match errand {
            Errand::Create(plan) => Some(plan),
            _ => None,
        });
        queued.chain(self.later.iter().map(|later| &later.plan))
    }

    /// Whether the IKE SA is one whose session may be resumed.
    fn may_ask_for_a_ticket(&self) -> bool {
        self.standing == Standing::Reigning && !self.is_ending()
    }

    /// Everything goes over another stream now; the peer has to learn of it, if nothing that it is asked anyway tells.
    //= rfc9329#6.1
    //# If the session had been fully established
    //# previously, it is suggested that the TCP Originator send an
    //# UPDATE_SA_ADDRESSES message if MOBIKE is supported and an empty
    //# informational message if it is not.
    pub(crate) fn on_reopened(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        if self.standing == Standing::Reigning && mobike::announce_stream(core) {
            return self.proceed(core, cx);
        }
        self.check_liveness(core, cx)
    }

    /// The addresses of this host have changed. A successor that does not reign yet learns it when it does.
    pub(crate) fn on_addresses(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        if self.standing == Standing::Reigning {
            mobike::on_addresses(core, cx);
        }
        self.proceed(core, cx)
    }

    /// Sends the peer to another gateway, unless it is being sent to one already.
    pub(crate) fn redirect(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        to: Gateway,
    ) -> State {
        let redirects = |errand: &Errand| matches!(errand, Errand::Redirect(_));
        if self.standing == Standing::Reigning
            && !self.queue.iter().any(redirects)
            && !self.is_under_way(redirects)
        {
            self.queue.push_back(Errand::Redirect(to));
        }
        self.proceed(core, cx)
    }

    /// The peer knows that it is to go to another gateway. We wait for it to do so.
    //= rfc5685#5
    //# The gateway
    //# MAY also decide to delete the security associations without any
    //# signaling from the client, again by sending an INFORMATIONAL message
    //# with a DELETE payload; however, it should allow sufficient time for
    //# the client to set up the required security associations with the new
    //# security gateway.
    pub(crate) fn sent_away(&mut self, core: &Core, cx: &mut Context<'_>, to: Gateway) {
        let until = cx.now + OVERDUE;
        self.standing = Standing::SentAway { until };
        cx.event(Event::Redirecting { ike: core.id, to });
    }

    /// Tells the peer of a problem.
    pub(crate) fn complain(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        kind: NotifyType,
        spi: Option<SaSpi>,
        data: Vec<u8>,
    ) -> State {
        let waiting = self
            .queue
            .iter()
            .filter(|e| matches!(e, Errand::Complain { .. }))
            .count();
        if waiting < MAX_COMPLAINTS && core.may_speak_up(cx) {
            self.queue.push_back(Errand::Complain { kind, spi, data });
        }
        self.proceed(core, cx)
    }

    /// Takes a child SA out and has it removed. What was made in its place is used from now on; what it was made to
    /// replace goes on without it.
    pub(crate) fn remove_child(
        &mut self,
        core: &Core,
        cx: &mut Context<'_>,
        id: ChildSaId,
        reason: ChildCloseReason,
    ) {
        let Some(at) = self.children.iter().position(|child| child.id == id) else {
            return;
        };
        let gone = self.children.remove(at);
        self.activate_successors(core, cx, id);
        if let Some(old) = gone.replaces {
            self.relieve(old);
        }
        close_child(core, cx, gone, reason);
    }

    /// A child SA whose successor has not come about, or is gone, goes on.
    pub(crate) fn relieve(&mut self, old: ChildSaId) {
        let succeeds = |child: &ChildSa| {
            child.replaces == Some(old)
                && child.redundant.is_none()
                && !matches!(child.state, ChildState::Deleting(_))
        };
        if !self.children.iter().any(succeeds)
            && let Some(child) = self.child_mut(old)
            && matches!(child.state, ChildState::Replaced)
        {
            child.state = ChildState::Installed;
        }
    }

    /// What we send goes to the successors of a child SA that is gone.
    //= rfc7296#2.8
    //# When rekeying an SA, the responder
    //# continues to send traffic on the old SA until one of those events
    //# occurs.
    pub(crate) fn activate_successors(
        &mut self,
        core: &Core,
        cx: &mut Context<'_>,
        old: ChildSaId,
    ) {
        for child in &mut self.children {
            let waits = child.replaces == Some(old) && !child.outbound && child.redundant.is_none();
            if waits && matches!(child.state, ChildState::Installed | ChildState::Replaced) {
                child.outbound = true;
                cx.request_unheard(child.activate(core));
            }
        }
    }

    pub(crate) fn on_response(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        message_id: u32,
        chain: PayloadChain<'_>,
    ) -> State {
        let is_it = |(id, _): &(u32, Errand)| *id == message_id;
        let informational = self.informational.iter().position(is_it);
        let informational = informational.map(|at| self.informational.remove(at).1);
        if let Some(Errand::DeleteChild(id)) = informational {
            let reason = self.child(id).and_then(|child| match &child.state {
                ChildState::Deleting(reason) => Some(reason.clone()),
                _ => None,
            });
            self.remove_child(
                core,
                cx,
                id,
                reason.unwrap_or(ChildCloseReason::DeletedByUs),
            );
        }
        let contents = match Contents::read(chain) {
            //= rfc7296#2.21.3
            //# If a peer parsing a request notices that it is badly formatted (after
            //# it has passed the message authentication code checks and window
            //# checks) and it returns an INVALID_SYNTAX notification, then this
            //# error notification is considered fatal in both peers, meaning that
            //# the IKE SA is deleted without needing an explicit Delete payload.
            Ok(contents) if contents.has(NotifyType::INVALID_SYNTAX) => {
                let (by, detail) = (Party::Peer, String::new());
                return self.close(core, cx, CloseReason::InvalidSyntax { by, detail });
            }
            Ok(contents) => Some(contents),
            Err(_) => {
                cx.drop(DropReason::BadResponse);
                None
            }
        };
        let ended = match &informational {
            Some(Errand::Mobike(ask)) => {
                mobike::on_response(core, cx, Some(*ask), contents.as_ref())
            }
            Some(Errand::Liveness) => mobike::on_response(core, cx, None, contents.as_ref()),
            _ => None,
        };
        if let Some(reason) = ended {
            return self.close(core, cx, reason);
        }
        if let Some(contents) = &contents {
            set_window_size::heed(core, contents);
            // What answers CREATE_CHILD_SA is of the successor.
            if informational.is_some() {
                crash_detection::heed(core, contents);
            }
            if let Some(Errand::Ticket) = informational {
                tickets::heed(core, cx, &self.channel.sk_d, contents);
            }
        }
        if let Some(Errand::Redirect(to)) = informational {
            self.sent_away(core, cx, to);
            return self.proceed(core, cx);
        }
        if informational.is_some() {
            return self.proceed(core, cx);
        }
        match self.current.take() {
            Some(Current::Child(creating)) => {
                create_child_sa::on_child_response(self, core, cx, *creating, contents.as_ref())
            }
            Some(Current::Ike(rekeying)) => {
                create_child_sa::on_ike_response(self, core, cx, *rekeying, contents.as_ref())
            }
            // It is no response that a request of this state has.
            other @ (Some(Current::SpiWanted(_)) | None) => {
                self.current = other;
                self.proceed(core, cx)
            }
        }
    }

    pub(crate) fn on_request(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        exchange: ExchangeType,
        chain: PayloadChain<'_>,
        back: Back,
    ) -> State {
        match Contents::read(chain) {
            Ok(contents) => match exchange {
                ExchangeType::INFORMATIONAL => {
                    informational::answer(self, core, cx, &contents, back)
                }
                ExchangeType::CREATE_CHILD_SA => {
                    create_child_sa::answer(self, core, cx, &contents, back)
                }
                ExchangeType::IKE_FOLLOWUP_KE => {
                    create_child_sa::answer_followup(self, core, cx, &contents, back)
                }
                other => {
                    let detail = format!("unexpected exchange {other}");
                    self.invalid_syntax(core, cx, exchange, back, detail)
                }
            },
            Err(error @ Unreadable::Critical(_)) => {
                let (kind, data) = error.notify();
                self.respond(core, cx, exchange, back, |payloads| {
                    payloads.notify(&Notify::new(kind, &data));
                });
                self.proceed(core, cx)
            }
            Err(error) => {
                let detail = error.to_string();
                self.invalid_syntax(core, cx, exchange, back, detail)
            }
        }
    }

    /// Answers a malformed request, which ends the IKE SA.
    pub(crate) fn invalid_syntax(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        exchange: ExchangeType,
        back: Back,
        detail: String,
    ) -> State {
        self.respond(core, cx, exchange, back, |payloads| {
            payloads.notify(&Notify::new(NotifyType::INVALID_SYNTAX, &[]));
        });
        self.close(
            core,
            cx,
            CloseReason::InvalidSyntax {
                by: Party::Us,
                detail,
            },
        )
    }

    /// Sends the response to the request that was accepted last.
    pub(crate) fn respond(
        &mut self,
        core: &mut Core,
        cx: &mut Context<'_>,
        exchange: ExchangeType,
        back: Back,
        write: impl FnOnce(&mut PayloadWriter<'_>),
    ) {
        let sent = core.respond(cx, &mut self.channel, exchange, back, write);
        debug_assert_eq!(
            sent,
            Ok(()),
            "responses of an established SA fit into a message"
        );
    }

    pub(crate) fn on_answer(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        id: RequestId,
        answer: Answer,
    ) -> State {
        if matches!(&self.current, Some(Current::SpiWanted(wanted)) if wanted.request == id) {
            return create_child_sa::on_spi(self, core, cx, answer);
        }
        if self.answering.as_ref().is_some_and(|a| a.awaits(id)) {
            return create_child_sa::on_plane(self, core, cx, answer);
        }
        if self.looks_for_traffic(id) {
            return self.on_traffic(core, cx, answer);
        }
        let ike = core.id;
        let waiting = self
            .children
            .iter_mut()
            .find(|c| matches!(&c.state, ChildState::Installing { request, .. } if *request == id));
        let Some(child) = waiting else {
            return State::Established(self);
        };
        let state = std::mem::replace(&mut child.state, ChildState::Installed);
        let ChildState::Installing { doomed, .. } = state else {
            return State::Established(self);
        };
        let (child_id, spi, replaces) = (child.id, child.agreed.own_spi(), child.replaces);
        let refusal = match answer {
            Answer::Done => {
                child.established = Some(cx.now);
                let outbound = child.outbound;
                let info = Box::new(child.info(core));
                cx.event(Event::ChildEstablished {
                    ike,
                    child: child_id,
                    info,
                });
                //= rfc7296#2.8.1
                //# The
                //# node that initiated the surviving rekeyed SA should delete the
                //# replaced SA after the new one is established.
                if let Some(old) = replaces.filter(|_| outbound) {
                    self.doom(old, ChildCloseReason::Rekeyed);
                }
                match doomed {
                    None => {}
                    Some(ChildCloseReason::DeletedByPeer) => {
                        let reason = ChildCloseReason::DeletedByPeer;
                        self.remove_child(core, cx, child_id, reason);
                    }
                    Some(reason) => self.doom(child_id, reason),
                }
                return self.proceed(core, cx);
            }
            Answer::Failed(refusal) => refusal,
            Answer::Spi(_) | Answer::Solution(_) | Answer::Traffic(_) => {
                Refusal::new(RefusalKind::Failed, "an answer of the wrong kind")
            }
        };
        if let Some(at) = self.children.iter().position(|child| child.id == child_id) {
            let config = self.children.remove(at).agreed.config;
            let reason = ChildFailure::InstallFailed(refusal);
            let attempt = create_child_sa::attempt(child_id, replaces);
            create_child_sa::child_failed(&mut self, core, cx, attempt, config, reason);
        }
        if doomed != Some(ChildCloseReason::DeletedByPeer) {
            self.delete_spi(spi);
        }
        self.proceed(core, cx)
    }

    /// When something is due besides retransmission.
    pub(crate) fn deadline(&self, core: &Core) -> Option<Instant> {
        let probe = self.liveness_deadline(core);
        let plane = match &self.current {
            Some(Current::SpiWanted(wanted)) => Some(wanted.deadline),
            _ => None,
        };
        let answering = self.answering.as_ref().map(Answering::deadline);
        let standing = match self.standing {
            // It ends as soon as that can be said.
            _ if self.is_ending() => None,
            Standing::Reigning => None,
            Standing::Pretending { until }
            | Standing::Succeeded { until }
            | Standing::SentAway { until } => Some(until),
        };
        let later = self.later.iter().map(|later| later.at).min();
        let ticket = core.tickets.as_ref().and_then(|tickets| tickets.due());
        let ticket = ticket.filter(|_| self.may_ask_for_a_ticket());
        let redundant = self
            .children
            .iter()
            .filter(|child| !child.is_doomed())
            .filter_map(|child| child.redundant)
            .min();
        [probe, plane, answering, standing, later, redundant, ticket]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn on_timeout(mut self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        let now = cx.now;
        for later in self.later.extract_if(.., |later| later.at <= now) {
            self.queue.push_back(Errand::Create(later.plan));
        }
        let overdue = |child: &ChildSa| child.redundant.is_some_and(|until| until <= now);
        let overdue: Vec<_> = self
            .children
            .iter()
            .filter(|child| overdue(child))
            .map(|child| child.id)
            .collect();
        for id in overdue {
            self.doom(id, ChildCloseReason::Redundant);
        }
        match self.standing {
            Standing::Pretending { until } | Standing::Succeeded { until } if until <= now => {
                self.end(CloseReason::Rekeyed);
            }
            Standing::SentAway { until } if until <= now => self.end(CloseReason::SentAway),
            _ => {}
        }
        if self.may_ask_for_a_ticket() && core.tickets.as_mut().is_some_and(|t| t.ask(now)) {
            self.queue.push_back(Errand::Ticket);
        }
        if matches!(&self.current, Some(Current::SpiWanted(wanted)) if wanted.deadline <= now) {
            let text = "no answer to the request for an SPI";
            let answer = Answer::Failed(Refusal::new(RefusalKind::Failed, text));
            return create_child_sa::on_spi(self, core, cx, answer);
        }
        if self.answering.as_ref().is_some_and(|a| a.deadline() <= now) {
            return create_child_sa::on_timeout(self, core, cx);
        }
        self.on_liveness_timeout(core, cx)
    }

    //= rfc7296#2.4
    //# An endpoint MUST conclude
    //# that the other endpoint has failed only when repeated attempts to
    //# contact it have gone unanswered for a timeout period or when a
    //# cryptographically protected INITIAL_CONTACT notification is received
    //# on a different IKE SA to the same authenticated identity.
    pub(crate) fn give_up(
        self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        exchange: ExchangeType,
        sent: u32,
    ) -> State {
        self.close(core, cx, CloseReason::PeerUnresponsive { exchange, sent })
    }

    /// Ends the IKE SA without a word to the peer. If the peer has made a successor while we were about to, that takes
    /// over, unless the peer has forgotten everything.
    pub(crate) fn close(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        reason: CloseReason,
    ) -> State {
        self.withdraw(core, cx);
        let heir = match reason {
            CloseReason::ReplacedByInitialContact | CloseReason::PeerCrashed => None,
            _ => create_child_sa::peers_successor(&mut self),
        };
        let reason = match (self.standing, heir) {
            (Standing::Succeeded { .. }, _) => CloseReason::Rekeyed,
            (_, Some(heir)) => {
                self.hand_over(core, cx, heir);
                CloseReason::Rekeyed
            }
            (_, None) => reason,
        };
        self.drop_exchanges(core, cx);
        close_ike(core, cx, self.children, reason)
    }

    /// Lets go of exchanges that will not come to an end, and of what waits.
    fn drop_exchanges(&mut self, core: &Core, cx: &mut Context<'_>) {
        create_child_sa::abandon(self, core, cx);
        self.informational.clear();
        let queued =
            std::mem::take(&mut self.queue)
                .into_iter()
                .filter_map(|errand| match errand {
                    Errand::Create(plan) => Some(plan),
                    _ => None,
                });
        let later = std::mem::take(&mut self.later)
            .into_iter()
            .map(|later| later.plan);
        for plan in queued.chain(later) {
            if let What::Child(wanted) = plan.what {
                let (config, reason) = (Some(wanted.config), ChildFailure::IkeSaEnded);
                ike_auth::child_failed(core, cx, wanted.id, config, reason);
            }
        }
    }
}

/// Ends an IKE SA and its child SAs.
pub(crate) fn close_ike(
    core: &mut Core,
    cx: &mut Context<'_>,
    children: Vec<ChildSa>,
    reason: CloseReason,
) -> State {
    end_children(core, cx, children, &reason);
    report_closed(core, cx, reason);
    core.linger(cx)
}

/// Reports that an established IKE SA is gone.
pub(crate) fn report_closed(core: &mut Core, cx: &mut Context<'_>, reason: CloseReason) {
    let ticket = tickets::end(core, cx, &reason);
    if !core.announced {
        return;
    }
    cx.shared.stats.closed = cx.shared.stats.closed.saturating_add(1);
    let info = Box::new(core.info(IkeSaState::Closed, Vec::new()));
    cx.event(Event::IkeClosed {
        ike: core.id,
        info,
        reason,
        ticket,
    });
}

//= rfc7296#1.4.1
//# Deleting an IKE SA
//# implicitly closes any remaining Child SAs negotiated under it.
pub(crate) fn end_children(
    core: &Core,
    cx: &mut Context<'_>,
    children: Vec<ChildSa>,
    reason: &CloseReason,
) {
    for child in children {
        let id = child.id;
        if let ChildState::Installing { request, .. } = child.state {
            cx.abandon(request, child.agreed.undo_install(core, id));
            let config = Some(child.agreed.config);
            ike_auth::child_failed(core, cx, id, config, ChildFailure::IkeSaEnded);
        } else {
            close_child(
                core,
                cx,
                child,
                ChildCloseReason::IkeSaClosed(reason.clone()),
            );
        }
    }
}

/// Has an installed child SA removed and reports it.
fn close_child(core: &Core, cx: &mut Context<'_>, child: ChildSa, reason: ChildCloseReason) {
    cx.shared.children.remove(&child.id);
    cx.request_unheard(child.remove(core));
    let (ike, id, info) = (core.id, child.id, Box::new(child.info(core)));
    cx.event(Event::ChildClosed {
        ike,
        child: id,
        info,
        reason,
    });
}
