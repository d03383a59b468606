//! CREATE_CHILD_SA for a successor of the IKE SA, the responder's half.

use std::time::{Duration, Instant};

use cygnet_crypto::IkeSuite;
use cygnet_wire::{ExchangeType, IkeSpi, KeId, Notify, NotifyType, SaPayload};

use super::followup::{self, Awaiting, KeyExchanges};
use super::ike_rekey::{Rival, report, successor};
use super::{Answering, Crossing, refuse};
use crate::contents::Contents;
use crate::context::{Back, Context};
use crate::errand::Current;
use crate::established::Established;
use crate::exchange::crash_detection;
use crate::exchange::ike_sa_init::NONCE_LEN;
use crate::info::Role;
use crate::io::IkeSaId;
use crate::proposal::IkeOffer;
use crate::reason::{FailureReason, Party};
use crate::sa::{Core, IkeSa, State};
use crate::succession::{Heir, Standing, overdue};

/// So many times the peer may renew an IKE SA within [`RENEWALS_TIME`]: each costs a key exchange and leaves an old one
/// to be deleted.
const RENEWALS: u32 = 8;

/// See [`RENEWALS`].
const RENEWALS_TIME: Duration = Duration::from_secs(60);

/// A successor that the peer has asked for and whose next key exchange is awaited.
#[derive(Debug)]
pub(crate) struct AnsweringIke {
    /// The successor's name.
    ike: IkeSaId,
    /// The SPIs of both ends, the peer's first.
    spis: (IkeSpi, IkeSpi),
    suite: IkeSuite,
    ni: Vec<u8>,
    nr: [u8; NONCE_LEN],
    exchanges: KeyExchanges,
    awaiting: Awaiting,
    pub(super) deadline: Instant,
}

impl AnsweringIke {
    /// Whether a request is the additional key exchange that is awaited.
    pub(super) fn goes_on_with(&self, contents: &Contents<'_>) -> bool {
        self.awaiting.is_meant(contents)
    }

    pub(super) fn abandon(self, cx: &mut Context<'_>) {
        cx.shared.spis.remove(&self.spis.1);
    }

    /// There will be no such successor: ours is the only one, if there is any.
    fn fail(
        self,
        established: &mut Established,
        core: &Core,
        cx: &mut Context<'_>,
        reason: FailureReason,
    ) {
        self.abandon(cx);
        if let Some(Current::Ike(rekeying)) = &mut established.current {
            rekeying.crossing = None;
        }
        report(core, cx, Role::Responder, reason);
    }
}

/// The peer does not go on.
pub(super) fn on_timeout(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    answering: AnsweringIke,
) -> State {
    let reason = FailureReason::Unfinished;
    answering.fail(&mut established, core, cx, reason);
    established.proceed(core, cx)
}

/// An additional key exchange.
pub(super) fn on_followup(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    mut answering: AnsweringIke,
    contents: &Contents<'_>,
    back: Back,
) -> State {
    let exchange = ExchangeType::IKE_FOLLOWUP_KE;
    let half = match followup::respond(cx, &mut answering.exchanges, contents) {
        Ok(half) => half,
        Err(fault) => {
            answering.fail(&mut established, core, cx, fault.into());
            let notify = Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]);
            return refuse(established, core, cx, exchange, back, &notify);
        }
    };
    if answering.exchanges.next().is_some() {
        answering.awaiting = Awaiting::new(cx);
        answering.deadline = cx.now + followup::TIMEOUT;
        established.respond(core, cx, exchange, back, |payloads| {
            half.write(payloads);
            answering.awaiting.write(payloads);
        });
        established.answering = Some(Answering::Ike(Box::new(answering)));
        return established.proceed(core, cx);
    }
    match inherit(&established, core, cx, &answering) {
        Ok(heir) => {
            established.respond(core, cx, exchange, back, |payloads| half.write(payloads));
            yield_to(&mut established, core, cx, heir);
            established.proceed(core, cx)
        }
        Err(reason) => {
            answering.fail(&mut established, core, cx, reason);
            let notify = Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]);
            refuse(established, core, cx, exchange, back, &notify)
        }
    }
}

/// Makes the successor that the peer has asked for. Whether it takes over is still to be seen.
fn inherit(
    established: &Established,
    core: &Core,
    cx: &mut Context<'_>,
    answering: &AnsweringIke,
) -> Result<Heir, FailureReason> {
    let AnsweringIke {
        ike,
        spis,
        suite,
        ni,
        nr,
        exchanges,
        ..
    } = answering;
    let agreement = (suite, exchanges.secrets(), &ni[..], &nr[..]);
    let made = successor(
        established,
        core,
        cx,
        *ike,
        Role::Responder,
        *spis,
        agreement,
    );
    let (young, channel, heir) = made.ok_or_else(|| {
        FailureReason::KeyExchange("the keys do not fit the algorithms".to_owned())
    })?;
    let mut pretender = Box::new(Established::new(channel));
    pretender.standing = Standing::Pretending {
        until: overdue(core, cx),
    };
    cx.shared.births.push(IkeSa {
        core: young,
        state: State::Established(pretender),
    });
    Ok(heir)
}

/// The peer has a successor. It takes over, unless we are making another one.
//= rfc7296#2.25.2
//# If a peer receives a request to rekey an IKE SA that it is currently
//# rekeying, it SHOULD reply as usual, and SHOULD prepare to close
//# redundant SAs and move inherited Child SAs later based on the nonces
//# (see Section 2.8.2).
fn yield_to(established: &mut Established, core: &mut Core, cx: &mut Context<'_>, heir: Heir) {
    let crossing = match &mut established.current {
        Some(Current::Ike(rekeying)) => rekeying.crossing.as_mut(),
        _ => None,
    };
    match crossing {
        Some(crossing) => crossing.other = Rival::Made(heir),
        None => established.hand_over(core, cx, heir),
    }
}

/// Answers a request.
pub(super) fn answer(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    contents: &Contents<'_>,
    theirs: &SaPayload<'_>,
    ni: &[u8],
    back: Back,
) -> State {
    let exchange = ExchangeType::CREATE_CHILD_SA;
    //= rfc7296#2.25.1
    //# If a peer receives a request to rekey the IKE SA, and it is currently
    //# creating, rekeying, or closing a Child SA of that IKE SA, it SHOULD
    //# reply with TEMPORARY_FAILURE.
    let busy = match &established.current {
        Some(Current::Ike(rekeying)) => rekeying.refuses_another(),
        Some(_) => true,
        None => false,
    };
    let busy = busy || established.is_deleting_children() || established.answering.is_some();
    // Each leaves an IKE SA behind, which the peer may be slow to delete.
    if busy || !core.renewals.take_within(cx.now, RENEWALS, RENEWALS_TIME) {
        let notify = Notify::new(NotifyType::TEMPORARY_FAILURE, &[]);
        return refuse(established, core, cx, exchange, back, &notify);
    }
    //= rfc7296#2.18
    //# In
    //# other words, an initiator MUST NOT propose the value "NONE" for the
    //# Diffie-Hellman transform, and a responder MUST NOT accept such a
    //# proposal.
    let Some((suite, mut choice)) = IkeOffer::rekeying(theirs).select(&core.config.proposals, true)
    else {
        let reason = FailureReason::NoProposalChosen {
            by: Party::Us,
            ours: core.config.proposals.clone(),
            theirs: Some(theirs.to_proposals()),
        };
        report(core, cx, Role::Responder, reason);
        let notify = Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]);
        return refuse(established, core, cx, exchange, back, &notify);
    };
    let peer_spi = theirs
        .proposals()
        .find(|p| p.number == choice.number)
        .and_then(|p| p.ike_spi());
    let (Some(ke), Some(peer_spi)) = (contents.ke, peer_spi) else {
        let detail = "no key exchange in a request to rekey the IKE SA".to_owned();
        return established.invalid_syntax(core, cx, exchange, back, detail);
    };
    let method = suite.key_exchange;
    if ke.method.0 != method.iana_id() {
        let data = method.iana_id().to_be_bytes();
        let notify = Notify::new(NotifyType::INVALID_KE_PAYLOAD, &data);
        return refuse(established, core, cx, exchange, back, &notify);
    }
    let response = cx
        .key_exchange
        .respond(method, ke.data, cx.entropy)
        .map_err(|error| error.to_string());
    let (public, secret) = match response {
        Ok(response) => response,
        Err(error) => {
            report(core, cx, Role::Responder, FailureReason::KeyExchange(error));
            let notify = Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]);
            return refuse(established, core, cx, exchange, back, &notify);
        }
    };
    let nr: [u8; NONCE_LEN] = cx.random();
    let ike = IkeSaId(cx.shared.fresh_id());
    let spi = cx.fresh_spi(ike);
    let token = crash_detection::of(core, cx, peer_spi, spi);
    choice.spi = spi.0.to_be_bytes().to_vec();
    let answering = AnsweringIke {
        ike,
        spis: (peer_spi, spi),
        suite,
        ni: ni.to_vec(),
        nr,
        exchanges: KeyExchanges::new(Some(secret), &suite.additional),
        awaiting: Awaiting::new(cx),
        deadline: cx.now + followup::TIMEOUT,
    };
    let unfinished = answering.exchanges.next().is_some();
    let heir = match unfinished {
        true => None,
        false => match inherit(&established, core, cx, &answering) {
            Ok(heir) => Some(heir),
            Err(reason) => {
                answering.fail(&mut established, core, cx, reason);
                let notify = Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]);
                return refuse(established, core, cx, exchange, back, &notify);
            }
        },
    };
    let able = core.tickets.is_some();
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
        if unfinished {
            answering.awaiting.write(payloads);
        }
        //= rfc5723#4.1
        //# it returns an N(TICKET_ACK), if it cannot grant a ticket
        //# immediately, e.g., due to packet size limitations.
        // Whether the new IKE SA stays is open until the old one is deleted.
        if contents.has(NotifyType::TICKET_REQUEST) {
            let kind = match able {
                true => NotifyType::TICKET_ACK,
                false => NotifyType::TICKET_NACK,
            };
            payloads.notify(&Notify::new(kind, &[]));
        }
    });
    if let Some(Current::Ike(rekeying)) = &mut established.current {
        let lowest = ni.min(&nr[..]).to_vec();
        let other = Rival::Coming;
        rekeying.crossing = Some(Crossing { other, lowest });
    }
    match heir {
        Some(heir) => yield_to(&mut established, core, cx, heir),
        None => established.answering = Some(Answering::Ike(Box::new(answering))),
    }
    established.proceed(core, cx)
}
