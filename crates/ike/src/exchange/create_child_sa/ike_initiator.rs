//! CREATE_CHILD_SA for a successor of the IKE SA, the initiator's half.

use cygnet_crypto::{Additional, AdditionalOffer, IkeProposal, IkeSuite, KeyExchange, PrivateKey};
use cygnet_wire::{ExchangeType, IkeSpi, KeId, NotifyType};

use super::followup::{Asking, KeyExchanges};
use super::ike_rekey::{Rival, report, successor};
use super::{Crossing, other_method};
use crate::contents::Contents;
use crate::context::Context;
use crate::deleting::Deleting;
use crate::errand::{Current, Patience, Plan, What};
use crate::established::Established;
use crate::exchange::crash_detection::{self, PeerToken};
use crate::exchange::ike_sa_init::NONCE_LEN;
use crate::info::Role;
use crate::io::IkeSaId;
use crate::proposal::{accept_ike, ike_offer, is_optional};
use crate::reason::{CloseReason, FailureReason, Party};
use crate::sa::{Core, IkeSa, State};
use crate::succession::{Heir, Standing};

/// The request has been sent, the response is awaited.
#[derive(Debug)]
pub(crate) struct RekeyingIke {
    /// The successor's name and our SPI of it.
    ike: IkeSaId,
    spi: IkeSpi,
    patience: Patience,
    /// Drawn anew for each request.
    nonce: [u8; NONCE_LEN],
    key: Box<dyn PrivateKey>,
    /// Methods that the peer has seen a public value for.
    tried: Vec<KeyExchange>,
    /// The peer's successor.
    pub(super) crossing: Option<Crossing<Rival>>,
    /// CREATE_CHILD_SA is over, and IKE_FOLLOWUP_KE under way.
    following: Option<Box<Following>>,
}

/// What both have agreed on in CREATE_CHILD_SA, and the additional key exchanges that follow it.
#[derive(Debug)]
struct Following {
    terms: Terms,
    asking: Asking,
}

impl RekeyingIke {
    pub(super) fn abandon(self, cx: &mut Context<'_>) {
        cx.shared.spis.remove(&self.spi);
    }

    /// The peer's successor, if it may take over.
    pub(crate) fn take_heir(&mut self) -> Option<Heir> {
        let rival = &mut self.crossing.as_mut()?.other;
        match std::mem::replace(rival, Rival::Gone) {
            Rival::Made(heir) => Some(heir),
            other => {
                *rival = other;
                None
            }
        }
    }

    /// Whether the peer's successor is there or may come.
    fn has_rival(&self) -> bool {
        let rival = self.crossing.as_ref().map(|crossing| &crossing.other);
        matches!(rival, Some(Rival::Coming | Rival::Made(_)))
    }

    /// The peer's successor has ended.
    pub(crate) fn forget_heir(&mut self, heir: IkeSaId) {
        if let Some(Crossing { other, .. }) = &mut self.crossing
            && matches!(other, Rival::Made(made) if made.ike == heir)
        {
            *other = Rival::Gone;
        }
    }

    /// Whether the peer has not noticed, or cannot have noticed, that its own request crosses ours: it has made another one
    /// already, or our CREATE_CHILD_SA is over (RFC 9370 §2.2.4).
    pub(super) fn refuses_another(&self) -> bool {
        self.crossing.is_some() || self.following.is_some()
    }

    /// Whether an additional key exchange waits for the window.
    pub(super) fn has_unsent(&self) -> bool {
        self.following.as_ref().is_some_and(|f| f.asking.unsent)
    }
}

/// Sends the first request.
pub(super) fn begin(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    patience: Patience,
) {
    if established.standing != Standing::Reigning {
        return;
    }
    let allowed = |method: &KeyExchange| allows_method(core, method);
    // The method that the peer has chosen before will do again.
    let method = core
        .suite
        .map(|suite| suite.key_exchange)
        .filter(allowed)
        .or_else(|| {
            let proposals = offered(core);
            let mut methods = proposals.iter().flat_map(|p| &p.key_exchange);
            methods.next().copied()
        });
    let Some(method) = method else {
        let reason = FailureReason::KeyExchange("no method is configured".to_owned());
        return report(core, cx, Role::Initiator, reason);
    };
    match cx.key_exchange.generate(method, cx.entropy) {
        Ok(key) => {
            let ike = IkeSaId(cx.shared.fresh_id());
            let spi = cx.fresh_spi(ike);
            let rekeying = RekeyingIke {
                ike,
                spi,
                patience,
                nonce: [0; NONCE_LEN],
                key,
                tried: vec![method],
                crossing: None,
                following: None,
            };
            send(established, core, cx, rekeying);
        }
        Err(error) => report(
            core,
            cx,
            Role::Initiator,
            FailureReason::KeyExchange(error.to_string()),
        ),
    }
}

/// What is offered for a successor. Additional key exchanges must be in it only if the IKE SA has some: who has not
/// made them in IKE_SA_INIT is not asked for them again. Where one end can do without, its keys come from the old ones
/// all the same, so that what those have brought in is not lost.
fn offered(core: &Core) -> Vec<IkeProposal> {
    let ours = &core.config.proposals;
    let has_some = |suite: IkeSuite| suite.additional != Additional::default();
    if core.suite.is_some_and(has_some) {
        return ours.clone();
    }
    let plain = ours.iter().filter(|p| is_optional(&p.additional));
    let plain = plain.map(|p| IkeProposal {
        additional: AdditionalOffer::default(),
        ..p.clone()
    });
    plain.collect()
}

fn allows_method(core: &Core, method: &KeyExchange) -> bool {
    offered(core)
        .iter()
        .any(|p| p.key_exchange.contains(method))
}

//= rfc7296#1.3.2
//# The KEi
//# payload MUST be included.
fn send(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut rekeying: RekeyingIke,
) {
    rekeying.nonce = cx.random();
    //= rfc7296#2.18
    //# New initiator and responder SPIs are
    //# supplied in the SPI fields in the Proposal structures inside the
    //# Security Association (SA) payloads (not the SPI fields in the IKE
    //# header).
    let offer = ike_offer(&offered(core), Some(rekeying.spi));
    let (channel, exchange) = (&mut established.channel, ExchangeType::CREATE_CHILD_SA);
    let sent = core.request(cx, channel, exchange, |payloads| {
        let key = &rekeying.key;
        payloads
            .sa(&offer)
            .nonce(&rekeying.nonce)
            .ke(KeId(key.method().iana_id()), key.public());
    });
    match sent {
        Ok(()) => established.current = Some(Current::Ike(Box::new(rekeying))),
        Err(error) => {
            let reason = FailureReason::Unsendable(error.to_string());
            fail(established, core, cx, rekeying, reason);
        }
    }
}

/// We have made no successor. If the peer has, that takes over.
fn fail(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut rekeying: RekeyingIke,
    reason: FailureReason,
) {
    let (heir, rival) = (rekeying.take_heir(), rekeying.has_rival());
    rekeying.abandon(cx);
    match heir {
        Some(heir) => established.hand_over(core, cx, heir),
        None if rival => {}
        None => report(core, cx, Role::Initiator, reason),
    }
}

/// The same where the two ends have different pictures of the IKE SA: it ends, unless the peer's successor takes over.
fn fail_out_of_step(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    rekeying: RekeyingIke,
    reason: FailureReason,
) {
    let ours_alone = !rekeying.has_rival();
    fail(established, core, cx, rekeying, reason);
    if ours_alone {
        established.end(CloseReason::OutOfStep);
    }
}

/// The response.
pub(crate) fn on_ike_response(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut rekeying: RekeyingIke,
    contents: Option<&Contents<'_>>,
) -> State {
    let error = contents.and_then(|contents| contents.error().map(|notify| notify.kind));
    let following = rekeying.following.take();
    match (error, contents) {
        (Some(NotifyType::INVALID_KE_PAYLOAD), Some(contents)) if following.is_none() => {
            let wanted = contents.wanted_key_exchange();
            on_invalid_ke(
                &mut established,
                core,
                cx,
                rekeying,
                wanted.unwrap_or(KeId(0)),
            );
        }
        (Some(NotifyType::TEMPORARY_FAILURE), _) => {
            let reason = FailureReason::TemporaryFailure;
            put_off(&mut established, core, cx, rekeying, reason);
        }
        (Some(kind @ NotifyType::STATE_NOT_FOUND), _) if following.is_some() => {
            rekeying.patience.forgotten();
            let reason = FailureReason::PeerNotify(kind);
            put_off(&mut established, core, cx, rekeying, reason);
        }
        (Some(kind), _) => {
            let reason = match kind {
                NotifyType::NO_PROPOSAL_CHOSEN => FailureReason::NoProposalChosen {
                    by: Party::Peer,
                    ours: core.config.proposals.clone(),
                    theirs: None,
                },
                other => FailureReason::PeerNotify(other),
            };
            fail(&mut established, core, cx, rekeying, reason);
        }
        (None, contents) => {
            let peer_has_it = following.as_ref().is_none_or(|f| f.asking.is_last());
            match agree(core, &rekeying, following, contents) {
                Ok((terms, exchanges)) => {
                    return follow(established, core, cx, rekeying, terms, exchanges, contents);
                }
                // The peer has a successor that we do not have, and waits for us to delete this one.
                Err(reason) if peer_has_it => {
                    fail_out_of_step(&mut established, core, cx, rekeying, reason);
                }
                Err(reason) => fail(&mut established, core, cx, rekeying, reason),
            }
        }
    }
    established.proceed(core, cx)
}

/// What a response brings.
fn agree(
    core: &Core,
    rekeying: &RekeyingIke,
    following: Option<Box<Following>>,
    contents: Option<&Contents<'_>>,
) -> Result<(Terms, KeyExchanges), FailureReason> {
    let invalid = |detail: &str| FailureReason::InvalidSyntax {
        by: Party::Us,
        detail: detail.to_owned(),
    };
    let contents = contents.ok_or_else(|| invalid("a payload cannot be read"))?;
    match following {
        Some(following) => {
            let Following { terms, asking } = *following;
            Ok((terms, asking.finish(contents)?))
        }
        None => conclude(core, rekeying, contents),
    }
}

/// Prepares the next additional key exchange; if there is none, both ends have a successor.
fn follow(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut rekeying: RekeyingIke,
    terms: Terms,
    exchanges: KeyExchanges,
    contents: Option<&Contents<'_>>,
) -> State {
    let (Some(method), Some(contents)) = (exchanges.next(), contents) else {
        return succeed(established, core, cx, rekeying, terms, &exchanges);
    };
    // Nothing is made yet: who has lost goes no further, and needs nothing more of the winner (RFC 9370 §2.2.4).
    if let Some(crossing) = rekeying.crossing.take() {
        if crossing.beats(&rekeying.nonce, &terms.nr) {
            rekeying.abandon(cx);
            give_way(&mut established, core, cx, crossing.other);
            return established.proceed(core, cx);
        }
        established.drop_unfinished(core, cx);
    }
    match Asking::new(cx, exchanges, method, contents) {
        Ok(asking) => {
            rekeying.following = Some(Box::new(Following { terms, asking }));
            established.current = Some(Current::Ike(Box::new(rekeying)));
        }
        Err(fault) => fail(&mut established, core, cx, rekeying, fault.into()),
    }
    established.proceed(core, cx)
}

/// Sends an additional key exchange: the window is free.
pub(super) fn send_followup(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut rekeying: Box<RekeyingIke>,
) {
    let Some(following) = &mut rekeying.following else {
        return;
    };
    match following.asking.send(established, core, cx) {
        Ok(()) => established.current = Some(Current::Ike(rekeying)),
        Err(error) => {
            let reason = FailureReason::Unsendable(error);
            fail(established, core, cx, *rekeying, reason);
        }
    }
}

/// The peer's successor has won over ours.
fn give_way(established: &mut Established, core: &mut Core, cx: &mut Context<'_>, rival: Rival) {
    match rival {
        Rival::Made(heir) => established.hand_over(core, cx, heir),
        Rival::Coming => {}
        // The peer has deleted the one that stays: everything is over.
        Rival::Gone => established.end(CloseReason::DeletedByPeer),
    }
}

fn on_invalid_ke(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut rekeying: RekeyingIke,
    wanted: KeId,
) {
    let allowed = |method: &KeyExchange| allows_method(core, method);
    let Some(method) = other_method(wanted, &rekeying.tried, allowed) else {
        let reason = FailureReason::KeyExchangeMethod(wanted.0);
        return fail(established, core, cx, rekeying, reason);
    };
    match cx.key_exchange.generate(method, cx.entropy) {
        Ok(key) => {
            rekeying.key = key;
            rekeying.tried.push(method);
            send(established, core, cx, rekeying);
        }
        Err(error) => {
            let reason = FailureReason::KeyExchange(error.to_string());
            fail(established, core, cx, rekeying, reason);
        }
    }
}

pub(super) fn put_off(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut rekeying: RekeyingIke,
    reason: FailureReason,
) {
    let at = match rekeying.has_rival() {
        false => rekeying.patience.wait(cx, Some(core)),
        // What the peer is busy with is its own renewal.
        true => None,
    };
    let patience = rekeying.patience;
    match at {
        Some(at) => {
            rekeying.abandon(cx);
            let what = What::Ike;
            established.plan(Plan { what, patience }, Some(at));
        }
        None => {
            fail_out_of_step(established, core, cx, rekeying, reason);
        }
    }
}

/// What both ends have agreed on for a successor.
#[derive(Debug)]
struct Terms {
    suite: IkeSuite,
    /// The peer's SPI of it.
    peer_spi: IkeSpi,
    /// The nonce of the responder in CREATE_CHILD_SA.
    nr: Vec<u8>,
    peer_token: Option<Box<PeerToken>>,
}

/// What the response to CREATE_CHILD_SA brings.
fn conclude(
    core: &Core,
    rekeying: &RekeyingIke,
    contents: &Contents<'_>,
) -> Result<(Terms, KeyExchanges), FailureReason> {
    let by = Party::Us;
    let invalid = |detail: &str| FailureReason::InvalidSyntax {
        by,
        detail: detail.to_owned(),
    };
    let (Some(sa), Some(ke), Some(nonce)) = (contents.sa, contents.ke, contents.nonce) else {
        return Err(invalid("a payload of CREATE_CHILD_SA is missing"));
    };
    let peer_spi = sa
        .proposals()
        .next()
        .and_then(|p| p.ike_spi())
        .filter(|spi| *spi != IkeSpi::ZERO)
        .ok_or_else(|| invalid("the successor has no SPI"))?;
    let method = rekeying.key.method();
    let suite = accept_ike(&offered(core), &sa)
        .filter(|suite| suite.key_exchange == method)
        .ok_or_else(|| FailureReason::NoProposalChosen {
            by,
            ours: core.config.proposals.clone(),
            theirs: Some(sa.to_proposals()),
        })?;
    if ke.method.0 != method.iana_id() {
        return Err(FailureReason::KeyExchangeMethod(ke.method.0));
    }
    let secret = rekeying
        .key
        .agree(ke.data)
        .map_err(|error| FailureReason::KeyExchange(error.to_string()))?;
    let exchanges = KeyExchanges::new(Some(secret), &suite.additional);
    let nr = nonce.data().to_vec();
    let terms = Terms {
        suite,
        peer_spi,
        nr,
        peer_token: crash_detection::read(core, contents),
    };
    Ok((terms, exchanges))
}

/// Both ends have a successor. If the peer has made another one at the same time, one of them is redundant.
fn succeed(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut rekeying: RekeyingIke,
    terms: Terms,
    exchanges: &KeyExchanges,
) -> State {
    let Terms {
        suite,
        peer_spi,
        nr,
        peer_token,
    } = terms;
    let made = successor(
        &established,
        core,
        cx,
        rekeying.ike,
        Role::Initiator,
        (rekeying.spi, peer_spi),
        (&suite, exchanges.secrets(), &rekeying.nonce, &nr),
    );
    let Some((mut young, channel, heir)) = made else {
        let reason = FailureReason::KeyExchange("the keys do not fit the algorithms".to_owned());
        fail(&mut established, core, cx, rekeying, reason);
        established.end(CloseReason::OutOfStep);
        return established.proceed(core, cx);
    };
    young.peer_token = peer_token;
    match rekeying.crossing.take() {
        Some(crossing) if crossing.beats(&rekeying.nonce, &nr) => {
            let state = Deleting::begin(&mut young, cx, channel, Some(CloseReason::Rekeyed));
            cx.shared.births.push(IkeSa { core: young, state });
            give_way(&mut established, core, cx, crossing.other);
            established.proceed(core, cx)
        }
        // The peer deletes its own, or does not make it.
        _ => {
            let state = State::Established(Box::new(Established::new(channel)));
            cx.shared.births.push(IkeSa { core: young, state });
            established.hand_over(core, cx, heir);
            //= rfc7296#2.8
            //# After the new equivalent IKE SA is created, the initiator
            //# deletes the old IKE SA, and the Delete payload to delete itself MUST
            //# be the last request sent over the old IKE SA.
            established.delete(core, cx, CloseReason::Rekeyed)
        }
    }
}
