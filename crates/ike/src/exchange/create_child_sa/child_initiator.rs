//! CREATE_CHILD_SA for a child SA, the initiator's half.

use std::time::Instant;

use cygnet_crypto::{KeyExchange, PrivateKey, SharedSecret};
use cygnet_wire::{ExchangeType, KeId, Notify, NotifyType, PayloadType, Spi};

use super::followup::{Asking, KeyExchanges};
use super::{Attempt, Crossing, child_failed, other_method};
use crate::child::{Agreed, ChildSa, ChildState, Fresh, KeySource, NotAccepted, Offer, Wanted};
use crate::contents::Contents;
use crate::context::Context;
use crate::errand::{Current, Patience, Plan, What};
use crate::established::Established;
use crate::exchange::ike_auth;
use crate::exchange::ike_sa_init::NONCE_LEN;
use crate::info::Role;
use crate::io::{Answer, ChildSaId, Refusal, RefusalKind, RequestId};
use crate::proposal::{ChildExchange, SaSpi};
use crate::reason::{ChildCloseReason, ChildFailure, CloseReason};
use crate::sa::{Core, State};
use crate::succession::overdue;

/// Deletions of child SAs that we do not know, and that are remembered while we wait for a response.
const MAX_EARLY_DELETES: usize = 16;

/// An SPI is awaited from the data plane.
#[derive(Debug)]
pub(crate) struct SpiWanted {
    wanted: Wanted,
    /// The child SA that it is to replace.
    pub(crate) replaces: Option<ChildSaId>,
    patience: Patience,
    pub(crate) request: RequestId,
    pub(crate) deadline: Instant,
}

/// The request has been sent, the response is awaited.
#[derive(Debug)]
pub(crate) struct CreatingChild {
    offer: Offer,
    /// The child SA that it is to replace.
    pub(crate) replaces: Option<ChildSaId>,
    patience: Patience,
    /// Drawn anew for each request.
    nonce: [u8; NONCE_LEN],
    key: Option<Box<dyn PrivateKey>>,
    /// Methods that the peer has seen a public value for.
    tried: Vec<KeyExchange>,
    pub(crate) crossing: Option<Crossing<ChildSaId>>,
    /// The peer's SPIs of child SAs that it has deleted and that we do not know: one of them may be this one.
    early_deletes: Vec<SaSpi>,
    /// We do not want it any more.
    doomed: bool,
    /// CREATE_CHILD_SA is over, and IKE_FOLLOWUP_KE under way.
    following: Option<Box<Following>>,
}

/// What both have agreed on in CREATE_CHILD_SA, and the additional key exchanges that follow it.
#[derive(Debug)]
struct Following {
    agreed: Agreed,
    nr: Vec<u8>,
    asking: Asking,
}

impl SpiWanted {
    /// What is to be made, if it replaces nothing.
    pub(crate) fn begins(&self) -> Option<&Wanted> {
        self.replaces.is_none().then_some(&self.wanted)
    }

    pub(crate) fn abandon(self, core: &Core, cx: &mut Context<'_>) {
        self.wanted.abandon(core, cx, self.request);
        report_ended(core, cx, self.replaces, self.wanted);
    }

    /// Stops waiting, and gives what it was for.
    pub(super) fn give_back(self, core: &Core, cx: &mut Context<'_>) -> Plan {
        self.wanted.abandon(core, cx, self.request);
        let patience = self.patience;
        let what = match self.replaces {
            Some(old) => {
                cx.shared.children.remove(&self.wanted.id);
                What::Rekey(old)
            }
            None => What::Child(self.wanted),
        };
        Plan { what, patience }
    }
}

impl CreatingChild {
    /// What is to be made, if it replaces nothing.
    pub(crate) fn begins(&self) -> Option<&Wanted> {
        self.replaces.is_none().then_some(&self.offer.wanted)
    }

    pub(crate) fn abandon(self, core: &Core, cx: &mut Context<'_>) {
        cx.request_unheard(self.offer.release(core));
        report_ended(core, cx, self.replaces, self.offer.wanted);
    }

    /// Whether the peer's exchange, which renews the same child SA, has made this one.
    pub(crate) fn is_crossed_by(&self, child: ChildSaId) -> bool {
        self.crossing.as_ref().is_some_and(|c| c.other == child)
    }

    /// Whether CREATE_CHILD_SA is over: the additional key exchanges are under way.
    pub(crate) fn is_following(&self) -> bool {
        self.following.is_some()
    }

    /// Whether an additional key exchange waits for the window.
    pub(super) fn has_unsent(&self) -> bool {
        self.following.as_ref().is_some_and(|f| f.asking.unsent)
    }

    /// The peer's exchange has not made this one after all.
    pub(crate) fn uncross(&mut self, child: ChildSaId) {
        self.crossing.take_if(|crossing| crossing.other == child);
    }

    /// The peer has deleted a child SA of which we know nothing.
    pub(crate) fn note_early_delete(&mut self, spi: SaSpi) {
        if self.early_deletes.len() < MAX_EARLY_DELETES {
            self.early_deletes.push(spi);
        }
    }
}

fn report_ended(core: &Core, cx: &mut Context<'_>, replaces: Option<ChildSaId>, wanted: Wanted) {
    if replaces.is_some() {
        cx.shared.children.remove(&wanted.id);
    } else {
        let (config, reason) = (Some(wanted.config), ChildFailure::IkeSaEnded);
        ike_auth::child_failed(core, cx, wanted.id, config, reason);
    }
}

/// Asks the data plane for an SPI.
pub(super) fn begin(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    wanted: Wanted,
    replaces: Option<ChildSaId>,
    patience: Patience,
) {
    cx.shared.children.insert(wanted.id, core.id);
    let request = cx.request(core.id, wanted.allocate_spi(core));
    let deadline = cx.now + core.config.retransmit.timeout;
    established.current = Some(Current::SpiWanted(Box::new(SpiWanted {
        wanted,
        replaces,
        patience,
        request,
        deadline,
    })));
}

/// Begins to renew a child SA, unless it is gone, about to go, or the peer has renewed it or is about to.
pub(super) fn rekey(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    old: ChildSaId,
    patience: Patience,
) {
    if !is_renewable(established, old) {
        return;
    }
    let id = ChildSaId(cx.shared.fresh_id());
    let Some(wanted) = established
        .child(old)
        .map(|old| Wanted::successor(id, &old.agreed))
    else {
        return;
    };
    begin(established, core, cx, wanted, Some(old), patience);
}

fn is_renewable(established: &Established, old: ChildSaId) -> bool {
    let answering = established.answering.as_ref();
    established
        .child(old)
        .is_some_and(|c| matches!(c.state, ChildState::Installed) && c.redundant.is_none())
        && !answering.is_some_and(|answering| answering.concerns(old))
        && !established.has_renewed(old)
}

/// We do not want a child SA that is being made. Whether there is one of that name.
pub(crate) fn cancel(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    id: ChildSaId,
) -> bool {
    match &mut established.current {
        Some(Current::SpiWanted(spi_wanted)) if spi_wanted.wanted.id == id => {
            spi_wanted.wanted.abandon(core, cx, spi_wanted.request);
            let config = Some(spi_wanted.wanted.config.clone());
            established.current = None;
            ike_auth::child_failed(core, cx, id, config, ChildFailure::Cancelled);
            true
        }
        Some(Current::Child(creating)) if creating.offer.wanted.id == id => {
            creating.doomed = true;
            true
        }
        _ => false,
    }
}

/// The data plane has given an SPI, or not.
pub(crate) fn on_spi(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    answer: Answer,
) -> State {
    let Some(Current::SpiWanted(spi_wanted)) = established.current.take() else {
        return State::Established(established);
    };
    let refusal = match answer {
        Answer::Spi(spi) => {
            let SpiWanted {
                wanted,
                replaces,
                patience,
                ..
            } = *spi_wanted;
            let offer = wanted.offer(core, spi, ChildExchange::CreateChildSa);
            start(&mut established, core, cx, offer, replaces, patience);
            return established.proceed(core, cx);
        }
        Answer::Failed(refusal) => refusal,
        Answer::Done | Answer::Solution(_) | Answer::Traffic(_) => {
            Refusal::new(RefusalKind::Failed, "done, but no SPI was given")
        }
    };
    spi_wanted.wanted.abandon(core, cx, spi_wanted.request);
    let SpiWanted {
        wanted, replaces, ..
    } = *spi_wanted;
    let reason = ChildFailure::SpiRefused(refusal);
    let (id, config) = (wanted.id, wanted.config);
    let attempt = attempt(id, replaces);
    child_failed(&mut established, core, cx, attempt, config, reason);
    established.proceed(core, cx)
}

/// Sends the first request for an offer.
fn start(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    offer: Offer,
    replaces: Option<ChildSaId>,
    patience: Patience,
) {
    let creating = CreatingChild {
        offer,
        replaces,
        patience,
        nonce: [0; NONCE_LEN],
        key: None,
        tried: Vec::new(),
        crossing: None,
        early_deletes: Vec::new(),
        doomed: false,
        following: None,
    };
    if replaces.is_some_and(|old| !is_renewable(established, old)) {
        // The peer was faster: it has renewed or deleted the old one.
        return creating.abandon(core, cx);
    }
    let proposals = &creating.offer.proposals;
    let method = proposals
        .iter()
        .find_map(|p| p.key_exchange.first())
        .copied();
    match method {
        Some(method) => send_with(established, core, cx, creating, method),
        None => send(established, core, cx, creating),
    }
}

/// Sends a request with a public value.
fn send_with(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut creating: CreatingChild,
    method: KeyExchange,
) {
    match cx.key_exchange.generate(method, cx.entropy) {
        Ok(key) => {
            creating.key = Some(key);
            creating.tried.push(method);
            send(established, core, cx, creating);
        }
        Err(error) => {
            let reason = ChildFailure::KeyExchange(error.to_string());
            fail(established, core, cx, creating, reason);
        }
    }
}

//= rfc7296#1.3.3
//# The REKEY_SA notification MUST be included in a CREATE_CHILD_SA
//# exchange if the purpose of the exchange is to replace an existing ESP
//# or AH SA.
fn send(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut creating: CreatingChild,
) {
    creating.nonce = cx.random();
    //= rfc7296#1.3.3
    //# The SA being rekeyed is identified by the SPI field in the
    //# Notify payload; this is the SPI the exchange initiator would expect
    //# in inbound ESP or AH packets.
    let old = creating
        .replaces
        .and_then(|old| established.child(old))
        .map(|old| old.agreed.own_spi())
        .map(|old| (old.protocol, Spi(old.spi).to_bytes()));
    let fresh = Fresh {
        nonce: Some(&creating.nonce),
        key_exchange: creating
            .key
            .as_ref()
            .map(|key| (KeId(key.method().iana_id()), key.public())),
    };
    let (channel, exchange) = (&mut established.channel, ExchangeType::CREATE_CHILD_SA);
    let sent = core.request(cx, channel, exchange, |payloads| {
        if let Some((protocol, spi)) = &old {
            payloads.notify(&Notify {
                protocol: *protocol,
                spi,
                kind: NotifyType::REKEY_SA,
                data: &[],
            });
        }
        creating.offer.write(fresh, payloads);
    });
    match sent {
        Ok(()) => established.current = Some(Current::Child(Box::new(creating))),
        Err(error) => {
            let reason = ChildFailure::Unsendable(error.to_string());
            fail(established, core, cx, creating, reason);
        }
    }
}

/// There will be no such child SA.
fn fail(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    creating: CreatingChild,
    reason: ChildFailure,
) {
    cx.request_unheard(creating.offer.release(core));
    let CreatingChild {
        offer, replaces, ..
    } = creating;
    let (id, config) = (offer.wanted.id, offer.wanted.config);
    let attempt = attempt(id, replaces);
    child_failed(established, core, cx, attempt, config, reason);
}

/// The same because of what the peer has answered: if it has the child SA, it is told.
fn refuse(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    creating: CreatingChild,
    refusal: NotAccepted,
) {
    if refusal.peer_has_it {
        established.delete_spi(creating.offer.own_spi());
    }
    fail(established, core, cx, creating, refusal.reason);
}

/// An attempt of ours.
pub(crate) fn attempt(child: ChildSaId, replaces: Option<ChildSaId>) -> Attempt {
    Attempt {
        child,
        replaces,
        role: Role::Initiator,
    }
}

/// The response.
pub(crate) fn on_child_response(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut creating: CreatingChild,
    contents: Option<&Contents<'_>>,
) -> State {
    let Some(contents) = contents else {
        // Before the last of its key exchanges the peer has none.
        let following = creating.following.as_ref();
        let refusal = NotAccepted {
            reason: ChildFailure::NotOffered("a malformed message".to_owned()),
            peer_has_it: following.is_none_or(|following| following.asking.is_last()),
        };
        refuse(&mut established, core, cx, creating, refusal);
        return established.proceed(core, cx);
    };
    let error = contents.error().map(|notify| notify.kind);
    match error {
        Some(NotifyType::INVALID_KE_PAYLOAD) if !creating.is_following() => {
            let wanted = contents.wanted_key_exchange();
            on_invalid_ke(
                &mut established,
                core,
                cx,
                creating,
                wanted.unwrap_or(KeId(0)),
            );
        }
        Some(NotifyType::TEMPORARY_FAILURE) => {
            let reason = ChildFailure::TemporaryFailure;
            put_off(&mut established, core, cx, creating, reason);
        }
        Some(NotifyType::CHILD_SA_NOT_FOUND) if creating.replaces.is_some() => {
            lost(&mut established, core, cx, creating);
        }
        Some(kind @ NotifyType::STATE_NOT_FOUND) if creating.is_following() => {
            creating.patience.forgotten();
            let reason = ChildFailure::PeerNotify(kind);
            put_off(&mut established, core, cx, creating, reason);
        }
        Some(_) | None => match creating.following.take() {
            Some(following) => {
                go_on(&mut established, core, cx, creating, *following, contents);
            }
            None => agree(&mut established, core, cx, creating, contents),
        },
    }
    established.proceed(core, cx)
}

/// CREATE_CHILD_SA is over.
fn agree(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    creating: CreatingChild,
    contents: &Contents<'_>,
) {
    match conclude(established, core, &creating, contents) {
        Ok((agreed, secret)) => {
            let nr = contents
                .nonce
                .map_or(&[][..], |nonce| nonce.data())
                .to_vec();
            let exchanges = KeyExchanges::new(secret, &agreed.suite.additional);
            follow(
                established,
                core,
                cx,
                creating,
                (agreed, nr, exchanges),
                contents,
            );
        }
        Err(refusal) => refuse(established, core, cx, creating, refusal),
    }
}

/// Prepares the next additional key exchange, or has the child SA installed if there is none.
fn follow(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    mut creating: CreatingChild,
    (agreed, nr, exchanges): (Agreed, Vec<u8>, KeyExchanges),
    contents: &Contents<'_>,
) {
    let Some(method) = exchanges.next() else {
        return install(
            established,
            core,
            cx,
            creating,
            agreed,
            exchanges.secrets(),
            &nr,
        );
    };
    // Nothing is made yet: who has lost goes no further, and needs nothing more of the winner (RFC 9370 §2.2.4).
    if let Some(crossing) = creating.crossing.take() {
        if crossing.beats(&creating.nonce, &nr) {
            return creating.abandon(core, cx);
        }
        established.lose(core, cx, crossing.other, overdue(core, cx));
    }
    let stands = |old| {
        let child = established.child(old);
        child.is_some_and(|child| !matches!(child.state, ChildState::Deleting(_)))
    };
    if !creating.replaces.is_none_or(stands) {
        return creating.abandon(core, cx);
    }
    if creating.doomed {
        return fail(established, core, cx, creating, ChildFailure::Cancelled);
    }
    match Asking::new(cx, exchanges, method, contents) {
        Ok(asking) => {
            let following = Following { agreed, nr, asking };
            creating.following = Some(Box::new(following));
            established.current = Some(Current::Child(Box::new(creating)));
        }
        Err(fault) => fail(established, core, cx, creating, fault.into()),
    }
}

/// Sends an additional key exchange: the window is free.
pub(super) fn send_followup(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut creating: Box<CreatingChild>,
) {
    let Some(following) = &mut creating.following else {
        return;
    };
    match following.asking.send(established, core, cx) {
        Ok(()) => established.current = Some(Current::Child(creating)),
        Err(error) => {
            let reason = ChildFailure::Unsendable(error);
            fail(established, core, cx, *creating, reason);
        }
    }
}

/// The response to an additional key exchange.
fn go_on(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    creating: CreatingChild,
    following: Following,
    contents: &Contents<'_>,
) {
    let Following { agreed, nr, asking } = following;
    if let Some(error) = contents.error() {
        let reason = creating.offer.refusal(error.kind);
        return fail(established, core, cx, creating, reason);
    }
    let peer_has_it = asking.is_last();
    match asking.finish(contents) {
        Ok(exchanges) => {
            follow(
                established,
                core,
                cx,
                creating,
                (agreed, nr, exchanges),
                contents,
            );
        }
        Err(fault) => {
            let refusal = NotAccepted {
                reason: fault.into(),
                peer_has_it,
            };
            refuse(established, core, cx, creating, refusal);
        }
    }
}

/// The peer wants another key exchange method.
fn on_invalid_ke(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    creating: CreatingChild,
    wanted: KeId,
) {
    if creating.doomed
        || creating
            .replaces
            .is_some_and(|old| !is_renewable(established, old))
    {
        return creating.abandon(core, cx);
    }
    let proposals = &creating.offer.proposals;
    let allowed = |method: &KeyExchange| proposals.iter().any(|p| p.key_exchange.contains(method));
    match other_method(wanted, &creating.tried, allowed) {
        Some(method) => send_with(established, core, cx, creating, method),
        None => {
            let reason = ChildFailure::KeyExchangeMethod(wanted.0);
            fail(established, core, cx, creating, reason);
        }
    }
}

/// The peer is busy, or has lost its state. Asked again later, unless what it is busy with has settled the matter.
pub(super) fn put_off(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    mut creating: CreatingChild,
    reason: ChildFailure,
) {
    if creating.doomed {
        return fail(established, core, cx, creating, ChildFailure::Cancelled);
    }
    if creating
        .replaces
        .is_some_and(|old| !is_renewable(established, old))
    {
        return creating.abandon(core, cx);
    }
    let Some(at) = creating.patience.wait(cx, None) else {
        //= rfc7296#2.25
        //# If a peer continues to
        //# receive TEMPORARY_FAILURE on the same IKE SA after several minutes,
        //# it SHOULD conclude that the state information is out of sync and
        //# close the IKE SA.
        fail(established, core, cx, creating, reason);
        return established.end(CloseReason::OutOfStep);
    };
    cx.request_unheard(creating.offer.release(core));
    let CreatingChild {
        offer,
        replaces,
        patience,
        ..
    } = creating;
    let what = match replaces {
        Some(old) => {
            cx.shared.children.remove(&offer.wanted.id);
            What::Rekey(old)
        }
        None => What::Child(offer.wanted),
    };
    established.plan(Plan { what, patience }, Some(at));
}

/// The peer does not know the old child SA. Either it has renewed or deleted it itself, or it has lost it.
//= rfc7296#2.25
//# A peer that receives a CHILD_SA_NOT_FOUND notification
//# SHOULD silently delete the Child SA (if it still exists) and send a
//# request to create a new Child SA from scratch (if the Child SA does
//# not yet exist).
fn lost(established: &mut Established, core: &Core, cx: &mut Context<'_>, creating: CreatingChild) {
    let old = creating.replaces;
    creating.abandon(core, cx);
    if let Some(old) = old.filter(|old| is_renewable(established, *old)) {
        established.remove_child(core, cx, old, ChildCloseReason::UnknownToPeer);
    }
}

/// What both have agreed on, and the shared secret.
fn conclude(
    established: &Established,
    core: &Core,
    creating: &CreatingChild,
    contents: &Contents<'_>,
) -> Result<(Agreed, Option<SharedSecret>), NotAccepted> {
    let agreed = creating.offer.accept(core, contents)?;
    let refused = |reason| NotAccepted {
        reason,
        peer_has_it: true,
    };
    if contents.nonce.is_none() {
        return Err(refused(ChildFailure::Missing(PayloadType::NONCE)));
    }
    if let Some(reason) = established.spi_in_use(agreed.peers_spi()) {
        return Err(refused(reason));
    }
    let Some(method) = agreed.suite.key_exchange else {
        return Ok((agreed, None));
    };
    let ke = contents
        .ke
        .ok_or_else(|| refused(ChildFailure::Missing(PayloadType::KE)))?;
    match &creating.key {
        Some(key) if key.method() == method && ke.method.0 == method.iana_id() => {
            let secret = key
                .agree(ke.data)
                .map_err(|error| refused(ChildFailure::KeyExchange(error.to_string())))?;
            Ok((agreed, Some(secret)))
        }
        _ => Err(refused(ChildFailure::KeyExchangeMethod(ke.method.0))),
    }
}

/// Has the data plane install it.
fn install(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    creating: CreatingChild,
    agreed: Agreed,
    secrets: &[SharedSecret],
    nr: &[u8],
) {
    let CreatingChild {
        offer,
        replaces,
        nonce,
        crossing,
        early_deletes,
        doomed,
        ..
    } = creating;
    let id = offer.wanted.id;
    if early_deletes.contains(&agreed.peers_spi()) {
        // The peer has made and deleted it before we heard of it, and the old one is not to stay either.
        cx.request_unheard(offer.release(core));
        cx.shared.children.remove(&id);
        match replaces {
            Some(old) => established.doom(old, ChildCloseReason::DeletedByPeer),
            None => {
                let (config, reason) = (Some(offer.wanted.config), ChildFailure::DeletedByPeer);
                ike_auth::child_failed(core, cx, id, config, reason);
            }
        }
        return;
    }
    let mut doomed = doomed.then_some(ChildCloseReason::DeletedByUs);
    let mut outbound = true;
    if let Some(crossing) = crossing {
        if crossing.beats(&nonce, nr) {
            outbound = false;
            doomed = Some(ChildCloseReason::Redundant);
        } else {
            established.lose(core, cx, crossing.other, overdue(core, cx));
        }
    }
    let source = KeySource {
        sk_d: &established.channel.sk_d,
        secrets,
        ni: &nonce,
        nr,
    };
    let order = agreed.install(core, id, replaces, outbound, source);
    let request = cx.request(core.id, order);
    established.children.push(ChildSa {
        id,
        state: ChildState::Installing { request, doomed },
        established: None,
        agreed,
        replaces,
        outbound,
        redundant: None,
    });
}
