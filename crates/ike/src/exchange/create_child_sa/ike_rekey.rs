//! CREATE_CHILD_SA for a successor of the IKE SA, both halves (RFC 7296 §1.3.2, §2.18).

use std::time::Duration;

use cygnet_crypto::{
    AdditionalOffer, IkeProposal, IkeSuite, KeyExchange, PrivateKey, SharedSecret, Skeyseed,
};
use cygnet_wire::{ExchangeType, IkeSpi, KeId, Notify, NotifyType, Proposal};

use super::{Crossing, other_method, refuse};
use crate::channel::Channel;
use crate::contents::Contents;
use crate::context::{Back, Context};
use crate::deleting::Deleting;
use crate::errand::{Current, Patience, Plan, What};
use crate::established::Established;
use crate::exchange::crash_detection::{self, PeerToken};
use crate::exchange::ike_sa_init::{NONCE_LEN, key_log};
use crate::info::{IkeSaState, Role};
use crate::io::{Event, IkeSaId};
use crate::proposal::{IkeOffer, accept_ike, ike_offer};
use crate::reason::{CloseReason, FailureReason, Party};
use crate::sa::{Core, IkeSa, State};
use crate::succession::{Heir, Standing, overdue};

/// So many times the peer may renew an IKE SA within [`RENEWALS_TIME`]: each costs a key exchange and leaves an old one
/// to be deleted.
const RENEWALS: u32 = 8;

/// See [`RENEWALS`].
const RENEWALS_TIME: Duration = Duration::from_secs(60);

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
    /// The peer's successor, as long as there is one.
    crossing: Option<Crossing<Option<Heir>>>,
}

impl RekeyingIke {
    pub(crate) fn abandon(self, cx: &mut Context<'_>) {
        cx.shared.spis.remove(&self.spi);
    }

    /// The peer's successor, if it may take over.
    pub(crate) fn take_heir(&mut self) -> Option<Heir> {
        self.crossing.as_mut()?.other.take()
    }

    fn has_heir(&self) -> bool {
        self.crossing.as_ref().is_some_and(|c| c.other.is_some())
    }

    /// The peer's successor has ended.
    pub(crate) fn forget_heir(&mut self, heir: IkeSaId) {
        if let Some(crossing) = &mut self.crossing {
            crossing.other.take_if(|other| other.ike == heir);
        }
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
    let offered = |method: &KeyExchange| allows_method(core, method);
    // The method that the peer has chosen before will do again.
    let method = core
        .suite
        .map(|suite| suite.key_exchange)
        .filter(offered)
        .or_else(|| {
            let proposals = proposals(core);
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

/// What is offered and accepted for a successor: what can do without additional key exchanges. Its keys come from the
/// old ones too, so that what those have brought in is not lost.
fn proposals(core: &Core) -> Vec<IkeProposal> {
    let optional =
        |methods: &Vec<Option<KeyExchange>>| methods.is_empty() || methods.contains(&None);
    core.config
        .proposals
        .iter()
        .filter(|p| p.additional.iter().all(optional))
        .map(|p| IkeProposal {
            additional: AdditionalOffer::default(),
            ..p.clone()
        })
        .collect()
}

fn allows_method(core: &Core, method: &KeyExchange) -> bool {
    proposals(core)
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
    let offer = ike_offer(&proposals(core), Some(rekeying.spi));
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

fn report(core: &Core, cx: &mut Context<'_>, role: Role, reason: FailureReason) {
    let ike = core.id;
    cx.event(Event::IkeRekeyFailed { ike, role, reason });
}

/// We have made no successor. If the peer has, that takes over.
fn fail(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut rekeying: RekeyingIke,
    reason: FailureReason,
) {
    let heir = rekeying.take_heir();
    rekeying.abandon(cx);
    match heir {
        Some(heir) => established.hand_over(core, cx, heir),
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
    let ours_alone = !rekeying.has_heir();
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
    rekeying: RekeyingIke,
    contents: Option<&Contents<'_>>,
) -> State {
    let error = contents.and_then(|contents| contents.error().map(|notify| notify.kind));
    match (error, contents) {
        (Some(NotifyType::INVALID_KE_PAYLOAD), Some(contents)) => {
            let wanted = contents
                .notifies
                .iter()
                .find_map(Notify::wanted_key_exchange);
            on_invalid_ke(
                &mut established,
                core,
                cx,
                rekeying,
                wanted.unwrap_or(KeId(0)),
            );
        }
        (Some(NotifyType::TEMPORARY_FAILURE), _) => {
            put_off(&mut established, core, cx, rekeying);
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
        (None, contents) => match conclude(core, &rekeying, contents) {
            Ok(agreement) => return succeed(established, core, cx, rekeying, agreement),
            // The peer has a successor that we do not have, and waits for us to delete this one.
            Err(reason) => fail_out_of_step(&mut established, core, cx, rekeying, reason),
        },
    }
    established.proceed(core, cx)
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

fn put_off(
    established: &mut Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut rekeying: RekeyingIke,
) {
    let at = match rekeying.has_heir() {
        false => rekeying.patience.wait(cx),
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
            let reason = FailureReason::TemporaryFailure;
            fail_out_of_step(established, core, cx, rekeying, reason);
        }
    }
}

/// What both ends bring into a successor.
struct Agreement {
    suite: IkeSuite,
    peer_spi: IkeSpi,
    secret: SharedSecret,
    nr: Vec<u8>,
    peer_token: Option<Box<PeerToken>>,
}

fn conclude(
    core: &Core,
    rekeying: &RekeyingIke,
    contents: Option<&Contents<'_>>,
) -> Result<Agreement, FailureReason> {
    let by = Party::Us;
    let invalid = |detail: &str| FailureReason::InvalidSyntax {
        by,
        detail: detail.to_owned(),
    };
    let contents = contents.ok_or_else(|| invalid("a payload cannot be read"))?;
    let (Some(sa), Some(ke), Some(nonce)) = (contents.sa, contents.ke, contents.nonce) else {
        return Err(invalid("a payload of CREATE_CHILD_SA is missing"));
    };
    let answer = sa.to_proposals();
    let peer_spi = answer
        .first()
        .and_then(Proposal::ike_spi)
        .filter(|spi| *spi != IkeSpi::ZERO)
        .ok_or_else(|| invalid("the successor has no SPI"))?;
    let method = rekeying.key.method();
    let suite = accept_ike(&proposals(core), &answer)
        .filter(|suite| suite.key_exchange == method)
        .ok_or_else(|| FailureReason::NoProposalChosen {
            by,
            ours: core.config.proposals.clone(),
            theirs: Some(answer.clone()),
        })?;
    if ke.method.0 != method.iana_id() {
        return Err(FailureReason::KeyExchangeMethod(ke.method.0));
    }
    let secret = rekeying
        .key
        .agree(ke.data)
        .map_err(|error| FailureReason::KeyExchange(error.to_string()))?;
    Ok(Agreement {
        suite,
        peer_spi,
        secret,
        nr: nonce.data().to_vec(),
        peer_token: crash_detection::read(core, contents),
    })
}

/// The keys of a successor, and the log of them.
fn successor(
    established: &Established,
    core: &Core,
    cx: &Context<'_>,
    name: IkeSaId,
    role: Role,
    spis: (IkeSpi, IkeSpi),
    agreement: (&IkeSuite, &SharedSecret, &[u8], &[u8]),
) -> Option<(Core, Channel, Heir)> {
    let (suite, secret, ni, nr) = agreement;
    let (initiator, responder) = spis;
    let keys = Skeyseed::rekeyed(&established.channel.sk_d, ni, nr, secret, &[]).expand(
        suite,
        ni,
        nr,
        initiator.0,
        responder.0,
    );
    let channel = Channel::new(role, suite, &keys).ok()?;
    let core = core.successor(name, role, spis, *suite, cx.now);
    let heir = Heir {
        ike: name,
        info: Box::new(core.info(IkeSaState::Established, Vec::new())),
        keys: cx
            .config
            .key_log
            .then(|| key_log(initiator, responder, &keys, suite)),
    };
    Some((core, channel, heir))
}

/// Both ends have a successor. If the peer has made another one at the same time, one of them is redundant.
fn succeed(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut rekeying: RekeyingIke,
    agreement: Agreement,
) -> State {
    let Agreement {
        suite,
        peer_spi,
        secret,
        nr,
        peer_token,
    } = agreement;
    let made = successor(
        &established,
        core,
        cx,
        rekeying.ike,
        Role::Initiator,
        (rekeying.spi, peer_spi),
        (&suite, &secret, &rekeying.nonce, &nr),
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
            match crossing.other {
                Some(heir) => established.hand_over(core, cx, heir),
                // The peer has deleted the one that stays: everything is over.
                None => established.end(CloseReason::DeletedByPeer),
            }
            established.proceed(core, cx)
        }
        // The peer deletes its own.
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

/// Answers a request.
pub(super) fn answer(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    contents: &Contents<'_>,
    theirs: &[Proposal],
    ni: &[u8],
    back: Back,
) -> State {
    let exchange = ExchangeType::CREATE_CHILD_SA;
    //= rfc7296#2.25.1
    //# If a peer receives a request to rekey the IKE SA, and it is currently
    //# creating, rekeying, or closing a Child SA of that IKE SA, it SHOULD
    //# reply with TEMPORARY_FAILURE.
    let busy = match &established.current {
        Some(Current::Ike(rekeying)) => rekeying.crossing.is_some(),
        Some(_) => true,
        None => false,
    };
    let busy = busy || established.is_deleting_children() || established.answering.is_some();
    // Each leaves an IKE SA behind, which the peer may be slow to delete.
    if busy || !core.renewals.take_within(cx.now, RENEWALS, RENEWALS_TIME) {
        let notify = Notify::new(NotifyType::TEMPORARY_FAILURE, &[]);
        return refuse(established, core, cx, back, &notify);
    }
    //= rfc7296#2.18
    //# In
    //# other words, an initiator MUST NOT propose the value "NONE" for the
    //# Diffie-Hellman transform, and a responder MUST NOT accept such a
    //# proposal.
    let Some((suite, mut choice)) = IkeOffer::rekeying(theirs).select(&proposals(core), false)
    else {
        let reason = FailureReason::NoProposalChosen {
            by: Party::Us,
            ours: core.config.proposals.clone(),
            theirs: Some(theirs.to_vec()),
        };
        report(core, cx, Role::Responder, reason);
        let notify = Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]);
        return refuse(established, core, cx, back, &notify);
    };
    let peer_spi = theirs
        .iter()
        .find(|p| p.number == choice.number)
        .and_then(Proposal::ike_spi);
    let (Some(ke), Some(peer_spi)) = (contents.ke, peer_spi) else {
        let detail = "no key exchange in a request to rekey the IKE SA".to_owned();
        return established.invalid_syntax(core, cx, exchange, back, detail);
    };
    let method = suite.key_exchange;
    if ke.method.0 != method.iana_id() {
        let data = method.iana_id().to_be_bytes();
        let notify = Notify::new(NotifyType::INVALID_KE_PAYLOAD, &data);
        return refuse(established, core, cx, back, &notify);
    }
    let response = cx
        .key_exchange
        .respond(method, ke.data, cx.entropy)
        .map_err(|error| error.to_string());
    let nr: [u8; NONCE_LEN] = cx.random();
    let name = IkeSaId(cx.shared.fresh_id());
    let spi = cx.fresh_spi(name);
    let made = response.and_then(|(public, secret)| {
        let (spis, agreement) = ((peer_spi, spi), (&suite, &secret, ni, &nr[..]));
        successor(
            &established,
            core,
            cx,
            name,
            Role::Responder,
            spis,
            agreement,
        )
        .map(|made| (public, made))
        .ok_or_else(|| "the keys do not fit the algorithms".to_owned())
    });
    let (public, (young, channel, heir)) = match made {
        Ok(made) => made,
        Err(error) => {
            cx.shared.spis.remove(&spi);
            report(core, cx, Role::Responder, FailureReason::KeyExchange(error));
            let notify = Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]);
            return refuse(established, core, cx, back, &notify);
        }
    };
    let mut pretender = Box::new(Established::new(channel));
    pretender.standing = Standing::Pretending {
        until: overdue(core, cx),
    };
    let token = crash_detection::own(&young, cx);
    cx.shared.births.push(IkeSa {
        core: young,
        state: State::Established(pretender),
    });
    choice.spi = spi.0.to_be_bytes().to_vec();
    established.respond(core, cx, exchange, back, |payloads| {
        payloads
            .sa(std::slice::from_ref(&choice))
            .nonce(&nr)
            .ke(KeId(method.iana_id()), &public);
        //= rfc6290#4.3
        //# If only the responder in the rekey
        //# exchange is the token maker, this can be done within the
        //# CREATE_CHILD_SA exchange.
        if let Some(token) = &token {
            token.write(payloads);
        }
    });
    //= rfc7296#2.25.2
    //# If a peer receives a request to rekey an IKE SA that it is currently
    //# rekeying, it SHOULD reply as usual, and SHOULD prepare to close
    //# redundant SAs and move inherited Child SAs later based on the nonces
    //# (see Section 2.8.2).
    match &mut established.current {
        Some(Current::Ike(rekeying)) => {
            let lowest = ni.min(&nr[..]).to_vec();
            let other = Some(heir);
            rekeying.crossing = Some(Crossing { other, lowest });
        }
        _ => established.hand_over(core, cx, heir),
    }
    established.proceed(core, cx)
}
