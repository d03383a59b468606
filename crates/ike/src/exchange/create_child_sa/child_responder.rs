//! CREATE_CHILD_SA for a child SA, the responder's half.

use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{KeyExchangeError, SharedSecret};
use cygnet_wire::{ExchangeType, KeId, Notify, NotifyType};

use super::{Attempt, Crossing, child_failed};
use crate::child::{ChildSa, ChildState, Chosen, Fresh, KeySource, Phase, Refused};
use crate::config::{ChildConfig, PeerConfig};
use crate::contents::Contents;
use crate::context::{Back, Context};
use crate::errand::Current;
use crate::established::Established;
use crate::exchange::ike_auth;
use crate::exchange::ike_sa_init::NONCE_LEN;
use crate::info::Role;
use crate::io::{Answer, ChildSaId, Event, Refusal, RefusalKind, RequestId};
use crate::proposal::{ChildExchange, allows};
use crate::reason::ChildFailure;
use crate::sa::{Core, State};

/// A request that is worked on: the data plane makes the child SA.
#[derive(Debug)]
pub(crate) struct Answering {
    chosen: Chosen,
    /// The child SA that the peer replaces.
    replaces: Option<ChildSaId>,
    back: Back,
    ni: Vec<u8>,
    nr: [u8; NONCE_LEN],
    key_exchange: Option<OurHalf>,
    phase: Phase,
    pub(crate) deadline: Instant,
    /// As [`ChildSa::redundant`]: our own exchange has come to its end meanwhile, and has won.
    redundant: Option<Instant>,
}

/// Our part of the key exchange and what came of it.
#[derive(Debug)]
struct OurHalf {
    method: KeId,
    public: Vec<u8>,
    secret: SharedSecret,
}

/// What the peer is told if there is no such child SA.
#[derive(Debug)]
pub(super) struct Rejection<'a> {
    pub(super) kind: NotifyType,
    pub(super) spi: Option<&'a [u8]>,
    pub(super) data: Vec<u8>,
}

impl From<NotifyType> for Rejection<'_> {
    fn from(kind: NotifyType) -> Self {
        Self {
            kind,
            spi: None,
            data: Vec::new(),
        }
    }
}

impl Answering {
    /// Whether it waits for this answer.
    pub(crate) fn awaits(&self, id: RequestId) -> bool {
        match self.phase {
            Phase::Spi(request) | Phase::Install { request, .. } => request == id,
        }
    }

    /// Whether it renews this child SA.
    pub(crate) fn concerns(&self, id: ChildSaId) -> bool {
        self.replaces == Some(id)
    }

    /// Another successor has won: if it makes this child SA, the peer is to delete that until then.
    pub(crate) fn lose(&mut self, child: ChildSaId, until: Instant) {
        if self.chosen.id == child {
            self.redundant = Some(until);
        }
    }

    /// Lets go of it: the IKE SA ends.
    pub(crate) fn abandon(self, core: &Core, cx: &mut Context<'_>) {
        self.chosen.abandon(core, cx, self.phase);
        if self.replaces.is_some() {
            cx.shared.children.remove(&self.chosen.id);
        } else {
            let (id, config) = (self.chosen.id, Some(self.chosen.config));
            ike_auth::child_failed(core, cx, id, config, ChildFailure::IkeSaEnded);
        }
    }
}

/// Decides on a request, and begins to carry it out.
pub(super) fn consider<'a>(
    established: &mut Established,
    core: &Core,
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
    let key_exchange = match exchange_keys(cx, &chosen, contents) {
        Ok(half) => half,
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
    established.answering = Some(Box::new(Answering {
        chosen,
        replaces,
        back,
        ni: ni.to_vec(),
        nr,
        key_exchange,
        phase,
        deadline: cx.now + cx.config.half_open_timeout,
        redundant: None,
    }));
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
        .and_then(|spi| established.child_by_peer_spi(spi.0))
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
            spi: Some(rekey.spi),
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
    // We are renewing it, and so has the peer already.
    let crossed = matches!(
        &established.current,
        Some(Current::Child(creating)) if creating.replaces == Some(id) && creating.crossing.is_some()
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
    match established.spi_in_use(chosen.choice.peer_spi) {
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
        return Chosen::choose(core, id, &configs, contents, exchange);
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
    ike_auth::choose_child(core, id, &configs, contents, exchange).map(|(_, chosen)| chosen)
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
) -> Result<Option<OurHalf>, NoSecret> {
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
    Ok(Some(OurHalf {
        method: id,
        public,
        secret,
    }))
}

/// The data plane has done its part, or not.
pub(crate) fn on_plane(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    answer: Answer,
) -> State {
    let Some(mut answering) = established.answering.take() else {
        return State::Established(established);
    };
    match (answering.phase, answer) {
        (Phase::Spi(_), Answer::Spi(spi)) => {
            let source = KeySource {
                sk_d: &established.channel.sk_d,
                secrets: answering
                    .key_exchange
                    .as_ref()
                    .map_or(&[][..], |half| std::slice::from_ref(&half.secret)),
                ni: &answering.ni,
                nr: &answering.nr,
            };
            //= rfc7296#2.8
            //# The
            //# responder to a CREATE_CHILD_SA MUST be prepared to accept messages on
            //# an SA before sending its response to the creation request, so there
            //# is no ambiguity for the initiator.
            let (id, replaces) = (answering.chosen.id, answering.replaces);
            let outbound = replaces.is_none();
            let order = answering
                .chosen
                .agreed(spi)
                .install(core, id, replaces, outbound, source);
            let request = cx.request(core.id, order);
            answering.phase = Phase::Install { request, spi };
            established.answering = Some(answering);
        }
        (Phase::Install { spi, .. }, Answer::Done) => {
            finish(&mut established, core, cx, *answering, spi);
        }
        (phase, answer) => {
            let refusal = match answer {
                Answer::Failed(refusal) => refusal,
                _ => Refusal::new(RefusalKind::Failed, "an answer of the wrong kind"),
            };
            let reason = phase.failure(refusal);
            answering.chosen.abandon(core, cx, answering.phase);
            if let Some(Current::Child(creating)) = &mut established.current {
                creating.uncross(answering.chosen.id);
            }
            let Answering {
                chosen,
                replaces,
                back,
                ..
            } = *answering;
            let (id, config) = (chosen.id, chosen.config);
            let attempt = attempt(id, replaces);
            child_failed(&mut established, core, cx, attempt, config, reason);
            //= rfc7296#3.10.1
            //# This can also be used as "generic" Child SA error when Child SA
            //# cannot be created for some other reason.
            let notify = Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]);
            established.respond(core, cx, ExchangeType::CREATE_CHILD_SA, back, |payloads| {
                payloads.notify(&notify);
            });
        }
    }
    established.proceed(core, cx)
}

/// The child SA is there: the peer is told.
fn finish(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    answering: Answering,
    spi: u32,
) {
    let Answering {
        chosen,
        replaces,
        back,
        nr,
        key_exchange,
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
    let fresh = Fresh {
        nonce: Some(&nr),
        key_exchange: key_exchange
            .as_ref()
            .map(|half| (half.method, half.public.as_slice())),
    };
    established.respond(core, cx, ExchangeType::CREATE_CHILD_SA, back, |payloads| {
        chosen.write(spi, fresh, payloads);
    });
    let Some(old) = replaces else { return };
    match established.child_mut(old).map(|old| &mut old.state) {
        Some(state @ ChildState::Installed) => *state = ChildState::Replaced,
        Some(_) => {}
        // It went while this one was made.
        None => established.activate_successors(core, cx, old),
    }
}
