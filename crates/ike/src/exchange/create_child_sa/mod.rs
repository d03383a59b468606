//! CREATE_CHILD_SA: further child SAs, and successors of child SAs and of the IKE SA
//! (RFC 7296 §1.3, §2.8, §2.17, §2.18, §2.25).
//!
//! Both ends may begin, also at the same time and for the same SA. What then holds:
//!
//! * Child SA: the exchange with the lowest of the four nonces has made a redundant child SA, which its initiator
//!   deletes; the initiator of the other exchange deletes the old child SA (§2.8.1).
//! * IKE SA: the same, and the child SAs go to the successor that stays (§2.8.2). Until it is known which one that is,
//!   they stay with the old IKE SA.
//! * With additional key exchanges ([`followup`]) nothing has been made when that is known: who has lost stops.
//! * Different things at once: whoever is asked for something that his own exchange stands in the way of says
//!   TEMPORARY_FAILURE (§2.25).

mod child_initiator;
mod child_responder;
mod followup;
mod ike_initiator;
mod ike_rekey;
mod ike_responder;

use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::KeyExchange;
use cygnet_wire::{ExchangeType, KeId, Notify, NotifyType, ProtocolId};

pub(crate) use child_initiator::{
    CreatingChild, SpiWanted, attempt, cancel, on_child_response, on_spi,
};
pub(crate) use followup::{MAX_FORGOTTEN, answer as answer_followup};
pub(crate) use ike_initiator::{RekeyingIke, on_ike_response};

use child_responder::AnsweringChild;
use ike_responder::AnsweringIke;

use super::ike_auth;
use crate::child::ChildState;
use crate::config::ChildConfig;
use crate::contents::Contents;
use crate::context::{Back, Context};
use crate::errand::{Current, Plan, What};
use crate::established::Established;
use crate::info::Role;
use crate::io::{Answer, ChildSaId, Event, RequestId};
use crate::reason::{ChildFailure, FailureReason};
use crate::sa::{Core, State};
use crate::succession::{Heir, Standing};

/// What the peer has asked for and what is worked on; one thing at a time.
#[derive(Debug)]
pub(crate) enum Answering {
    /// A child SA: the data plane or the next key exchange is awaited.
    Child(Box<AnsweringChild>),
    /// A successor of the IKE SA: the next key exchange is awaited.
    Ike(Box<AnsweringIke>),
}

impl Answering {
    /// Whether it waits for this answer of the data plane.
    pub(crate) fn awaits(&self, id: RequestId) -> bool {
        match self {
            Self::Child(answering) => answering.awaits(id),
            Self::Ike(_) => false,
        }
    }

    /// Whether it renews this child SA.
    fn concerns(&self, id: ChildSaId) -> bool {
        match self {
            Self::Child(answering) => answering.concerns(id),
            Self::Ike(_) => false,
        }
    }

    /// Whether a request is the additional key exchange that is awaited.
    fn goes_on_with(&self, contents: &Contents<'_>) -> bool {
        match self {
            Self::Child(answering) => answering.goes_on_with(contents),
            Self::Ike(answering) => answering.goes_on_with(contents),
        }
    }

    /// When it has been waited for long enough.
    pub(crate) fn deadline(&self) -> Instant {
        match self {
            Self::Child(answering) => answering.deadline,
            Self::Ike(answering) => answering.deadline,
        }
    }

    fn abandon(self, core: &Core, cx: &mut Context<'_>) {
        match self {
            Self::Child(answering) => answering.abandon(core, cx),
            Self::Ike(answering) => answering.abandon(cx),
        }
    }
}

impl Established {
    /// Our successor of a child SA has won over the peer's, which the peer is to delete until then, or not to make.
    fn lose(&mut self, core: &Core, cx: &mut Context<'_>, peers: ChildSaId, until: Instant) {
        if let Some(child) = self.child_mut(peers) {
            child.redundant = Some(until);
        } else if let Some(Answering::Child(answering)) = &mut self.answering {
            if answering.is_idle(peers) {
                self.drop_unfinished(core, cx);
            } else {
                answering.lose(peers, until);
            }
        }
    }

    /// The peer will not go on with what it has begun: ours has won.
    fn drop_unfinished(&mut self, core: &Core, cx: &mut Context<'_>) {
        if let Some(answering) = self.answering.take() {
            answering.abandon(core, cx);
        }
    }
}

/// The peer has renewed the same SA while our request for it was under way.
#[derive(Debug)]
pub(crate) struct Crossing<T> {
    /// What the peer has made.
    pub(crate) other: T,
    /// The lower one of the nonces of that exchange.
    pub(crate) lowest: Vec<u8>,
}

impl<T> Crossing<T> {
    /// Whether an exchange with these nonces is the one whose outcome is redundant.
    //= rfc7296#2.8.1
    //# If redundant SAs are created through such a collision, the SA
    //# created with the lowest of the four nonces used in the two exchanges
    //# SHOULD be closed by the endpoint that created it.
    fn beats(&self, ni: &[u8], nr: &[u8]) -> bool {
        // Octet by octet, and the end of a nonce is lower than any octet: so slices are compared.
        ni.min(nr) < self.lowest.as_slice()
    }
}

/// Begins what we want, as far as it is still to be had.
pub(crate) fn begin(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    plan: Plan,
) {
    let Plan { what, patience } = plan;
    match what {
        What::Child(wanted) => {
            child_initiator::begin(established, core, cx, wanted, None, patience);
        }
        What::Rekey(old) => child_initiator::rekey(established, core, cx, old, patience),
        What::Ike => ike_initiator::begin(established, core, cx, patience),
    }
}

/// Answers a request.
pub(crate) fn answer(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    contents: &Contents<'_>,
    back: Back,
) -> State {
    if established.standing != Standing::Reigning {
        return refuse(
            established,
            core,
            cx,
            ExchangeType::CREATE_CHILD_SA,
            back,
            &Notify::new(NotifyType::TEMPORARY_FAILURE, &[]),
        );
    }
    let (Some(sa), Some(nonce)) = (contents.sa, contents.nonce) else {
        let detail = "a payload of CREATE_CHILD_SA is missing".to_owned();
        return established.invalid_syntax(core, cx, ExchangeType::CREATE_CHILD_SA, back, detail);
    };
    if sa.proposals().any(|p| p.protocol == ProtocolId::IKE) {
        return ike_responder::answer(established, core, cx, contents, &sa, nonce.data(), back);
    }
    match child_responder::consider(&mut established, core, cx, contents, nonce.data(), back) {
        Ok(()) => established.proceed(core, cx),
        Err(refusal) => {
            let notify = Notify {
                protocol: refusal
                    .sa
                    .map_or(ProtocolId::NONE, |(protocol, _)| protocol),
                spi: refusal.sa.map_or(&[], |(_, spi)| spi),
                kind: refusal.kind,
                data: &refusal.data,
            };
            let exchange = ExchangeType::CREATE_CHILD_SA;
            refuse(established, core, cx, exchange, back, &notify)
        }
    }
}

fn refuse(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    exchange: ExchangeType,
    back: Back,
    notify: &Notify<'_>,
) -> State {
    established.respond(core, cx, exchange, back, |payloads| {
        payloads.notify(notify);
    });
    established.proceed(core, cx)
}

/// The successor that the peer has made of an IKE SA, if that is about to end and the peer's may take over.
pub(crate) fn peers_successor(established: &mut Established) -> Option<Heir> {
    match &mut established.current {
        Some(Current::Ike(rekeying)) => rekeying.take_heir(),
        _ => None,
    }
}

/// The data plane has answered what the peer's request waits for.
pub(crate) fn on_plane(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    answer: Answer,
) -> State {
    match established.answering.take() {
        Some(Answering::Child(answering)) => {
            child_responder::on_plane(established, core, cx, *answering, answer)
        }
        other => {
            established.answering = other;
            State::Established(established)
        }
    }
}

/// What the peer's request waits for has not come in time.
pub(crate) fn on_timeout(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
) -> State {
    match established.answering.take() {
        Some(Answering::Child(answering)) => {
            child_responder::on_timeout(established, core, cx, *answering)
        }
        Some(Answering::Ike(answering)) => {
            ike_responder::on_timeout(established, core, cx, *answering)
        }
        None => State::Established(established),
    }
}

/// Sends the additional key exchange that waits for the window, which is free; or goes no further, if the IKE SA is to
/// end.
pub(crate) fn follow_up(established: &mut Established, core: &mut Core, cx: &mut Context<'_>) {
    let unsent = established.current.take_if(|current| current.has_unsent());
    match unsent {
        Some(current) if established.is_ending() => current.abandon(core, cx),
        Some(Current::Child(creating)) => {
            child_initiator::send_followup(established, core, cx, creating);
        }
        Some(Current::Ike(rekeying)) => {
            ike_initiator::send_followup(established, core, cx, rekeying);
        }
        Some(Current::SpiWanted(_)) | None => {}
    }
}

impl Current {
    /// Whether an additional key exchange waits for the window.
    fn has_unsent(&self) -> bool {
        match self {
            Self::SpiWanted(_) => false,
            Self::Child(creating) => creating.has_unsent(),
            Self::Ike(rekeying) => rekeying.has_unsent(),
        }
    }

    fn abandon(self, core: &Core, cx: &mut Context<'_>) {
        match self {
            Self::SpiWanted(wanted) => wanted.abandon(core, cx),
            Self::Child(creating) => creating.abandon(core, cx),
            Self::Ike(rekeying) => rekeying.abandon(cx),
        }
    }
}

/// Lets go of everything that is under way: the IKE SA ends.
pub(crate) fn abandon(established: &mut Established, core: &Core, cx: &mut Context<'_>) {
    if let Some(current) = established.current.take() {
        current.abandon(core, cx);
    }
    if let Some(answering) = established.answering.take() {
        answering.abandon(core, cx);
    }
}

/// Begins anew later what is under way: its end will not be heard of. What the peer has asked for, it will ask for again.
pub(crate) fn restart(established: &mut Established, core: &mut Core, cx: &mut Context<'_>) {
    match established.current.take() {
        Some(Current::SpiWanted(wanted)) => {
            let plan = wanted.give_back(core, cx);
            established.plan(plan, None);
        }
        Some(Current::Child(creating)) => {
            let reason = ChildFailure::TemporaryFailure;
            child_initiator::put_off(established, core, cx, *creating, reason);
        }
        Some(Current::Ike(rekeying)) => {
            let reason = FailureReason::TemporaryFailure;
            ike_initiator::put_off(established, core, cx, *rekeying, reason);
        }
        None => {}
    }
    established.drop_unfinished(core, cx);
}

/// An attempt to make a child SA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) child: ChildSaId,
    /// The child SA that it was to replace.
    pub(crate) replaces: Option<ChildSaId>,
    /// We began the exchange, or the peer did.
    pub(crate) role: Role,
}

/// Reports that a child SA has not come about, or that an old one has no successor.
pub(crate) fn child_failed(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    attempt: Attempt,
    config: Arc<ChildConfig>,
    reason: ChildFailure,
) {
    let Attempt {
        child,
        replaces,
        role,
    } = attempt;
    let Some(old) = replaces else {
        return ike_auth::child_failed(core, cx, child, Some(config), reason);
    };
    cx.shared.children.remove(&child);
    established.relieve(old);
    let stands = |state: &ChildState| matches!(state, ChildState::Installed);
    if established.child(old).is_some_and(|c| stands(&c.state)) {
        cx.event(Event::ChildRekeyFailed {
            ike: core.id,
            child: old,
            role,
            reason,
        });
    }
}

/// Another method that the peer asks for, if it is one that we allow and have not tried: so each is tried once.
fn other_method(
    wanted: KeId,
    tried: &[KeyExchange],
    allowed: impl Fn(&KeyExchange) -> bool,
) -> Option<KeyExchange> {
    KeyExchange::from_iana(wanted.0).filter(|method| allowed(method) && !tried.contains(method))
}
