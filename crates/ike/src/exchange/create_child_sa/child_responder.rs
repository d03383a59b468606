//! CREATE_CHILD_SA for a child SA, the responder's half.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_crypto::{KeyExchangeError, SharedSecret};
use cygnet_wire::{ExchangeType, KeId, Notify, NotifyType, ProtocolId};

use super::followup::{self, Awaiting, KeyExchanges, OurHalf};
use super::{Answering, Attempt, Crossing, child_failed, refuse};
use crate::child::{ChildSa, ChildState, Chosen, Fresh, KeySource, Phase, Refused};
use crate::config::{ChildConfig, PeerConfig};
use crate::contents::Contents;
use crate::context::{Back, Context};
use crate::errand::Current;
use crate::established::Established;
use crate::exchange::ike_auth;
use crate::exchange::ike_sa_init::NONCE_LEN;
use crate::info::Role;
use crate::io::{Answer, ChildSaId, Event, Refusal, RefusalKind, RequestId, Reserved};
use crate::proposal::SaSpi;
use crate::proposal::{ChildExchange, allows};
use crate::reason::{ChildFailure, Party};
use crate::resource;
use crate::sa::{Core, State};
use crate::stats::DropReason;

/// A child SA that the peer has asked for and that is worked on.
#[derive(Debug)]
pub(crate) struct AnsweringChild {
    chosen: Chosen,
    /// The child SA that the peer replaces.
    replaces: Option<ChildSaId>,
    /// The request that is to be answered.
    exchange: ExchangeType,
    back: Back,
    ni: Vec<u8>,
    nr: [u8; NONCE_LEN],
    /// Our part of that request's key exchange.
    half: Option<OurHalf>,
    exchanges: KeyExchanges,
    stage: Stage,
    pub(super) deadline: Instant,
    /// As [`ChildSa::redundant`]: our own exchange has come to its end meanwhile, and has won.
    redundant: Option<Instant>,
}

/// What is waited for.
#[derive(Debug)]
enum Stage {
    /// The data plane.
    Plane(Phase),
    /// The peer's next additional key exchange. An SPI is reserved.
    KeyExchange { spi: Reserved, awaiting: Awaiting },
}

/// What the peer is told if there is no such child SA.
#[derive(Debug)]
pub(super) struct Rejection<'a> {
    pub(super) kind: NotifyType,
    /// The SA that it is about: protocol and SPI.
    pub(super) sa: Option<(ProtocolId, &'a [u8])>,
    pub(super) data: Vec<u8>,
}

impl From<NotifyType> for Rejection<'_> {
    fn from(kind: NotifyType) -> Self {
        Self {
            kind,
            sa: None,
            data: Vec::new(),
        }
    }
}

impl AnsweringChild {
    /// Whether it waits for this answer.
    pub(super) fn awaits(&self, id: RequestId) -> bool {
        match self.stage {
            Stage::Plane(Phase::Spi(request) | Phase::Install { request, .. }) => request == id,
            Stage::KeyExchange { .. } => false,
        }
    }

    /// Whether it renews this child SA.
    pub(super) fn concerns(&self, id: ChildSaId) -> bool {
        self.replaces == Some(id)
    }

    /// Whether a request is the additional key exchange that is awaited.
    pub(super) fn goes_on_with(&self, contents: &Contents<'_>) -> bool {
        match &self.stage {
            Stage::KeyExchange { awaiting, .. } => awaiting.is_meant(contents),
            Stage::Plane(_) => false,
        }
    }

    /// Whether it makes this child SA and waits for the peer to go on.
    pub(super) fn is_idle(&self, child: ChildSaId) -> bool {
        self.chosen.id == child && matches!(self.stage, Stage::KeyExchange { .. })
    }

    /// Another successor has won: if it makes this child SA, the peer is to delete that until then.
    pub(super) fn lose(&mut self, child: ChildSaId, until: Instant) {
        if self.chosen.id == child {
            self.redundant = Some(until);
        }
    }

    /// Lets go of it: the IKE SA ends.
    pub(super) fn abandon(self, core: &Core, cx: &mut Context<'_>) {
        self.release(core, cx);
        if self.replaces.is_some() {
            cx.shared.children.remove(&self.chosen.id);
        } else {
            let (id, config) = (self.chosen.id, Some(self.chosen.config));
            ike_auth::child_failed(core, cx, id, config, ChildFailure::IkeSaEnded);
        }
    }

    /// Gives back what the data plane has reserved.
    fn release(&self, core: &Core, cx: &mut Context<'_>) {
        match self.stage {
            Stage::Plane(phase) => self.chosen.abandon(core, cx, phase),
            Stage::KeyExchange { spi, .. } => {
                cx.request_unheard(self.chosen.release_spi(core, spi));
            }
        }
    }

    /// There will be no such child SA.
    fn fail(
        self,
        established: &mut Established,
        core: &Core,
        cx: &mut Context<'_>,
        reason: ChildFailure,
    ) {
        self.release(core, cx);
        if let Some(Current::Child(creating)) = &mut established.current {
            creating.uncross(self.chosen.id);
        }
        let (id, config) = (self.chosen.id, self.chosen.config);
        let attempt = attempt(id, self.replaces);
        child_failed(established, core, cx, attempt, config, reason);
    }
}

/// Within this time a peer may make twice as many child SAs as there may be.
const CREATIONS_TIME: Duration = Duration::from_secs(60);

/// Decides on a request, and begins to carry it out.
pub(super) fn consider<'a>(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    contents: &Contents<'a>,
    ni: &[u8],
    back: Back,
) -> Result<(), Rejection<'a>> {
    //= rfc7296#2.25.2
    //# If a peer receives a request to create or rekey a Child SA when it is
    //# currently rekeying the IKE SA, it SHOULD reply with
    //# TEMPORARY_FAILURE.
    // And only one at a time is worked on, however many the window lets in.
    if matches!(established.current, Some(Current::Ike(_))) || established.answering.is_some() {
        return Err(NotifyType::TEMPORARY_FAILURE.into());
    }
    let replaces = replaced(established, contents)?;
    let id = ChildSaId(cx.shared.fresh_id());
    let limit = match replaces {
        Some(_) => cx.config.max_children.saturating_mul(2),
        None => cx.config.max_children,
    };
    let outcome = if established.children.len() >= limit {
        Err(Refused {
            notify: NotifyType::NO_ADDITIONAL_SAS,
            reason: ChildFailure::TooMany,
            config: None,
        })
    } else {
        choose(established, core, cx, id, replaces, contents)
    };
    let chosen = outcome.map_err(|refused| {
        let Refused {
            notify,
            reason,
            config,
        } = refused;
        report(established, core, cx, id, replaces, config, reason);
        Rejection::from(notify)
    })?;
    // Each costs work of the data plane, and what it replaces stays for a moment. All that there may be can be renewed, and
    // as many made.
    let rate = u32::try_from(cx.config.max_children.saturating_mul(2)).unwrap_or(u32::MAX);
    if !core.creations.take_within(cx.now, rate, CREATIONS_TIME) {
        cx.drop(DropReason::RateLimited);
        return Err(NotifyType::TEMPORARY_FAILURE.into());
    }
    let (half, secret) = match exchange_keys(cx, &chosen, contents) {
        Ok(exchanged) => exchanged.unzip(),
        Err(NoSecret::AnotherMethod(method)) => {
            return Err(Rejection {
                data: method.0.to_be_bytes().to_vec(),
                ..NotifyType::INVALID_KE_PAYLOAD.into()
            });
        }
        Err(NoSecret::Useless(error)) => {
            let (config, reason) = (chosen.config, ChildFailure::KeyExchange(error.to_string()));
            report(established, core, cx, id, replaces, Some(config), reason);
            return Err(NotifyType::NO_PROPOSAL_CHOSEN.into());
        }
    };
    cx.shared.children.insert(id, core.id);
    let phase = Phase::Spi(cx.request(core.id, chosen.allocate_spi(core)));
    let nr: [u8; NONCE_LEN] = cx.random();
    //= rfc7296#2.25.1
    //# If a peer receives a request to rekey a Child SA that it is currently rekeying,
    //# it SHOULD reply as usual, and SHOULD prepare to close redundant SAs
    //# later based on the nonces (see Section 2.8.1).
    // The response to ours may come before the data plane has done its part.
    if let Some(Current::Child(creating)) = &mut established.current
        && creating.replaces.is_some()
        && creating.replaces == replaces
    {
        creating.crossing = Some(Crossing {
            other: id,
            lowest: ni.min(&nr[..]).to_vec(),
        });
    }
    let exchanges = KeyExchanges::new(secret, &chosen.choice.suite.additional);
    established.answering = Some(Answering::Child(Box::new(AnsweringChild {
        chosen,
        replaces,
        exchange: ExchangeType::CREATE_CHILD_SA,
        back,
        ni: ni.to_vec(),
        nr,
        half,
        exchanges,
        stage: Stage::Plane(phase),
        deadline: cx.now + cx.config.half_open_timeout,
        redundant: None,
    })));
    Ok(())
}

fn report(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    id: ChildSaId,
    replaces: Option<ChildSaId>,
    config: Option<Arc<ChildConfig>>,
    reason: ChildFailure,
) {
    match (replaces, config) {
        (Some(_), Some(config)) => {
            child_failed(established, core, cx, attempt(id, replaces), config, reason);
        }
        (_, config) => ike_auth::child_failed(core, cx, id, config, reason),
    }
}

/// An attempt of the peer's.
fn attempt(child: ChildSaId, replaces: Option<ChildSaId>) -> Attempt {
    Attempt {
        child,
        replaces,
        role: Role::Responder,
    }
}

/// The child SA that the peer wants to replace, if it is one that can be.
fn replaced<'a>(
    established: &mut Established,
    contents: &Contents<'a>,
) -> Result<Option<ChildSaId>, Rejection<'a>> {
    let Some(rekey) = contents.notify(NotifyType::REKEY_SA) else {
        return Ok(None);
    };
    let child = rekey
        .esp_spi()
        .and_then(|spi| {
            let (protocol, spi) = (rekey.protocol, spi.0);
            established.child_by_peer_spi(SaSpi { protocol, spi })
        })
        .map(|child| child.id);
    let Some(child) = child else {
        // The peer may mean what it has made for us, in a response that has not come yet.
        if matches!(established.current, Some(Current::Child(_))) {
            return Err(NotifyType::TEMPORARY_FAILURE.into());
        }
        //= rfc7296#2.25.1
        //# If a peer receives a request to rekey a Child SA that does not exist, it SHOULD reply with
        //# CHILD_SA_NOT_FOUND.
        //= rfc7296#2.25
        //# The SA that the
        //# initiator attempted to rekey is indicated by the SPI field in the
        //# Notify payload, which is copied from the SPI field in the REKEY_SA
        //# notification.
        return Err(Rejection {
            sa: Some((rekey.protocol, rekey.spi)),
            ..NotifyType::CHILD_SA_NOT_FOUND.into()
        });
    };
    //= rfc7296#2.25.1
    //# If a peer receives a request to rekey a Child SA that it is currently
    //# trying to close, it SHOULD reply with TEMPORARY_FAILURE.
    if may_be_replaced(established, child) {
        Ok(Some(child))
    } else {
        Err(NotifyType::TEMPORARY_FAILURE.into())
    }
}

/// Whether the peer may renew a child SA.
fn may_be_replaced(established: &Established, id: ChildSaId) -> bool {
    let stands = established.child(id).is_some_and(|child| {
        child.redundant.is_none()
            && matches!(child.state, ChildState::Installed | ChildState::Replaced)
    });
    // If we have renewed it, we are about to close it.
    let renewed = established.has_renewed(id);
    // We are renewing it, and so has the peer already; or our CREATE_CHILD_SA is over, and the peer has not noticed that
    // its own has crossed it (RFC 9370 §2.2.4).
    let crossed = matches!(
        &established.current,
        Some(Current::Child(creating)) if creating.replaces == Some(id)
            && (creating.crossing.is_some() || creating.is_following())
    );
    stands && !renewed && !crossed
}

/// The configuration for what the peer asks for: that of the child SA which it replaces, or any one that is for this
/// peer.
fn choose(
    established: &Established,
    core: &Core,
    cx: &Context<'_>,
    id: ChildSaId,
    replaces: Option<ChildSaId>,
    contents: &Contents<'_>,
) -> Result<Chosen, Refused> {
    let chosen = choose_any(established, core, cx, id, replaces, contents)?;
    match established.spi_in_use(chosen.peers_spi()) {
        Some(reason) => Err(Refused {
            notify: NotifyType::NO_PROPOSAL_CHOSEN,
            reason,
            config: Some(chosen.config),
        }),
        None => Ok(chosen),
    }
}

fn choose_any(
    established: &Established,
    core: &Core,
    cx: &Context<'_>,
    id: ChildSaId,
    replaces: Option<ChildSaId>,
    contents: &Contents<'_>,
) -> Result<Chosen, Refused> {
    let exchange = ChildExchange::CreateChildSa;
    if let Some(old) = replaces.and_then(|old| established.child(old)) {
        let configs = [old.agreed.config.clone()];
        let mut chosen = Chosen::choose(core, id, &configs, contents, exchange)?;
        // Whether the peer says so or not.
        chosen.resource = old.agreed.resource;
        return Ok(chosen);
    }
    let mut configs = vec![core.config.clone()];
    let (local, remote) = (core.path.local, core.path.remote);
    let others = cx.directory.candidates(local, remote).into_iter();
    // What IKE_AUTH asks of a peer of theirs it has asked of this one.
    let ppk = |config: &PeerConfig| (config.ppk, config.ppk_ids.clone());
    configs.extend(others.filter(|config| {
        ppk(config) == ppk(&core.config)
            && Some(&config.local_id) == core.local_id.as_ref()
            && core
                .remote_id
                .as_ref()
                .is_some_and(|id| config.remote_id.accepts(id))
            && core
                .suite
                .as_ref()
                .is_some_and(|suite| allows(&config.proposals, suite))
    }));
    let (_, mut chosen) = ike_auth::choose_child(core, id, &configs, contents, exchange)?;
    if chosen.resource.is_some() {
        let place = resource::place(&chosen, established, core.role, cx.config.cpus);
        chosen.resource = Some(place.ok_or_else(|| Refused {
            notify: NotifyType::TS_MAX_QUEUE,
            reason: ChildFailure::MaxQueue(Party::Us),
            config: Some(Arc::clone(&chosen.config)),
        })?);
    }
    Ok(chosen)
}

/// Why there is no shared secret.
#[derive(Debug)]
enum NoSecret {
    /// The peer's public value is of another method than this one.
    AnotherMethod(KeId),
    /// The peer's public value is useless.
    Useless(KeyExchangeError),
}

/// Our half of the key exchange, if the chosen proposal has one.
//= rfc7296#1.3
//# If the responder selects a proposal using a
//# different Diffie-Hellman group (other than NONE), the responder MUST
//# reject the request and indicate its preferred Diffie-Hellman group in
//# the INVALID_KE_PAYLOAD Notify payload.
fn exchange_keys(
    cx: &mut Context<'_>,
    chosen: &Chosen,
    contents: &Contents<'_>,
) -> Result<Option<(OurHalf, SharedSecret)>, NoSecret> {
    let Some(method) = chosen.choice.suite.key_exchange else {
        return Ok(None);
    };
    let id = KeId(method.iana_id());
    let ke = contents.ke.filter(|ke| ke.method == id);
    let ke = ke.ok_or(NoSecret::AnotherMethod(id))?;
    let (public, secret) = cx
        .key_exchange
        .respond(method, ke.data, cx.entropy)
        .map_err(NoSecret::Useless)?;
    let half = OurHalf { method: id, public };
    Ok(Some((half, secret)))
}

/// The data plane has done its part, or not.
pub(super) fn on_plane(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    answering: AnsweringChild,
    answer: Answer,
) -> State {
    match (&answering.stage, answer) {
        (Stage::Plane(Phase::Spi(_)), Answer::Spi(spi)) => {
            if answering.exchanges.next().is_some() {
                await_key_exchange(&mut established, core, cx, answering, spi);
            } else {
                install(&mut established, core, cx, answering, spi);
            }
        }
        (&Stage::Plane(Phase::Install { spi, .. }), Answer::Done) => {
            finish(&mut established, core, cx, answering, spi);
        }
        (&Stage::Plane(phase), answer) => {
            let refusal = match answer {
                Answer::Failed(refusal) => refusal,
                _ => Refusal::new(RefusalKind::Failed, "an answer of the wrong kind"),
            };
            let (exchange, back) = (answering.exchange, answering.back);
            answering.fail(&mut established, core, cx, phase.failure(refusal));
            //= rfc7296#3.10.1
            //# This can also be used as "generic" Child SA error when Child SA
            //# cannot be created for some other reason.
            let notify = Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]);
            established.respond(core, cx, exchange, back, |payloads| {
                payloads.notify(&notify);
            });
        }
        (Stage::KeyExchange { .. }, _) => {
            established.answering = Some(Answering::Child(Box::new(answering)));
        }
    }
    established.proceed(core, cx)
}

/// Who has been waited for is late.
pub(super) fn on_timeout(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    answering: AnsweringChild,
) -> State {
    match answering.stage {
        Stage::Plane(_) => {
            let text = "no answer from the data plane in time";
            let answer = Answer::Failed(Refusal::new(RefusalKind::Failed, text));
            on_plane(established, core, cx, answering, answer)
        }
        // The peer may have forgotten all about it (RFC 9370 §2.2.4).
        Stage::KeyExchange { .. } => {
            answering.fail(&mut established, core, cx, ChildFailure::Unfinished);
            established.proceed(core, cx)
        }
    }
}

/// Answers CREATE_CHILD_SA with what there will be when the additional key exchanges are over.
//= rfc9370#2.2.4
//# Therefore, it is essential to link the
//# IKE_FOLLOWUP_KE exchanges together with the corresponding
//# CREATE_CHILD_SA exchange.
fn await_key_exchange(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut answering: AnsweringChild,
    spi: Reserved,
) {
    let awaiting = Awaiting::new(cx);
    let (exchange, back) = (answering.exchange, answering.back);
    established.respond(core, cx, exchange, back, |payloads| {
        let AnsweringChild {
            chosen, nr, half, ..
        } = &answering;
        chosen.write(spi, fresh(nr, half.as_ref()), payloads);
        awaiting.write(payloads);
    });
    answering.stage = Stage::KeyExchange { spi, awaiting };
    answering.deadline = cx.now + followup::TIMEOUT;
    let redundant = answering.redundant.is_some();
    established.answering = Some(Answering::Child(Box::new(answering)));
    if redundant {
        // Ours has won meanwhile: the peer goes no further.
        established.drop_unfinished(core, cx);
    }
}

/// An additional key exchange.
pub(super) fn on_followup(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut answering: AnsweringChild,
    contents: &Contents<'_>,
    back: Back,
) -> State {
    let exchange = ExchangeType::IKE_FOLLOWUP_KE;
    let Stage::KeyExchange { spi, .. } = answering.stage else {
        return established.proceed(core, cx);
    };
    let closing = |old| {
        let child = established.child(old);
        child.is_none_or(|child| matches!(child.state, ChildState::Deleting(_)))
    };
    if answering.replaces.is_some_and(closing) {
        answering.fail(&mut established, core, cx, ChildFailure::Cancelled);
        let notify = Notify::new(NotifyType::TEMPORARY_FAILURE, &[]);
        return refuse(established, core, cx, exchange, back, &notify);
    }
    let half = match followup::respond(cx, &mut answering.exchanges, contents) {
        Ok(half) => half,
        Err(fault) => {
            answering.fail(&mut established, core, cx, fault.into());
            let notify = Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]);
            return refuse(established, core, cx, exchange, back, &notify);
        }
    };
    if answering.exchanges.next().is_some() {
        let awaiting = Awaiting::new(cx);
        established.respond(core, cx, exchange, back, |payloads| {
            half.write(payloads);
            awaiting.write(payloads);
        });
        answering.stage = Stage::KeyExchange { spi, awaiting };
        answering.deadline = cx.now + followup::TIMEOUT;
        established.answering = Some(Answering::Child(Box::new(answering)));
    } else {
        answering.exchange = exchange;
        answering.back = back;
        answering.half = Some(half);
        answering.deadline = cx.now + cx.config.half_open_timeout;
        install(&mut established, core, cx, answering, spi);
    }
    established.proceed(core, cx)
}

/// Has the data plane install it.
//= rfc7296#2.8
//# The
//# responder to a CREATE_CHILD_SA MUST be prepared to accept messages on
//# an SA before sending its response to the creation request, so there
//# is no ambiguity for the initiator.
fn install(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    mut answering: AnsweringChild,
    spi: Reserved,
) {
    let source = KeySource {
        sk_d: &established.channel.sk_d,
        secrets: answering.exchanges.secrets(),
        ni: &answering.ni,
        nr: &answering.nr,
    };
    let (id, replaces) = (answering.chosen.id, answering.replaces);
    let outbound = replaces.is_none();
    let agreed = answering.chosen.agreed(spi);
    let order = agreed.install(core, id, replaces, outbound, source);
    let request = cx.request(core.id, order);
    answering.stage = Stage::Plane(Phase::Install { request, spi });
    established.answering = Some(Answering::Child(Box::new(answering)));
}

/// What CREATE_CHILD_SA brings in beside the child SA.
fn fresh<'a>(nr: &'a [u8], half: Option<&'a OurHalf>) -> Fresh<'a> {
    Fresh {
        nonce: Some(nr),
        key_exchange: half.map(|half| (half.method, half.public.as_slice())),
    }
}

/// The child SA is there: the peer is told.
fn finish(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    answering: AnsweringChild,
    spi: Reserved,
) {
    let AnsweringChild {
        chosen,
        replaces,
        exchange,
        back,
        nr,
        half,
        redundant,
        ..
    } = answering;
    let (ike, id) = (core.id, chosen.id);
    let child = ChildSa {
        id,
        state: ChildState::Installed,
        established: Some(cx.now),
        agreed: chosen.agreed(spi),
        replaces,
        outbound: replaces.is_none(),
        redundant,
    };
    let info = Box::new(child.info(core));
    established.children.push(child);
    cx.event(Event::ChildEstablished {
        ike,
        child: id,
        info,
    });
    established.respond(core, cx, exchange, back, |payloads| {
        match (&half, exchange) {
            (Some(half), ExchangeType::IKE_FOLLOWUP_KE) => half.write(payloads),
            (half, _) => chosen.write(spi, fresh(&nr, half.as_ref()), payloads),
        }
    });
    let Some(old) = replaces else { return };
    match established.child_mut(old).map(|old| &mut old.state) {
        Some(state @ ChildState::Installed) => *state = ChildState::Replaced,
        Some(_) => {}
        // It went while this one was made.
        None => established.activate_successors(core, cx, old),
    }
}
