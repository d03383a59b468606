//! The responder's half of IKE_SA_INIT: from a stranger's datagram to a half-open IKE SA, or to a refusal without state.

use std::sync::Arc;

use cygnet_crypto::{IkeProposal, KeyExchange, Prf, Skeyseed};
use cygnet_wire::{IkeSpi, KeId, KePayload, Message, Notify, NotifyType, SaPayload};

use super::NONCE_LEN;
use crate::config::PeerConfig;
use crate::context::Context;
use crate::exchange::first_request::{self, Agreed, FirstRequest, Keying, Verdict, write_puzzle};
use crate::exchange::ike_auth::Deferred;
use crate::io::IkeSaId;
use crate::ppk;
use crate::proposal::IkeOffer;
use crate::reason::RejectReason;
use crate::sa::Arrival;
use crate::stats::DropReason;

/// A well-formed IKE_SA_INIT request.
#[derive(Debug)]
pub(crate) struct InitRequest<'a> {
    pub(crate) first: FirstRequest<'a>,
    ke: KePayload<'a>,
    sa: SaPayload<'a>,
}

impl<'a> InitRequest<'a> {
    /// Reads a request, whose hash is `digest`.
    pub(crate) fn read(message: &Message<'a>, digest: [u8; 32]) -> Result<Self, Verdict> {
        let first = FirstRequest::read(message, digest)?;
        let (Some(sa), Some(ke)) = (first.contents.sa, first.contents.ke) else {
            return Err(first_request::missing());
        };
        Ok(Self { first, ke, sa })
    }

    /// Refuses one that offers no pseudorandom function that we know.
    pub(crate) fn incompatible(&self, cx: &Context<'_>, arrival: Arrival) -> Verdict {
        let candidates = cx.candidates(arrival.back());
        self.no_proposal_chosen(RejectReason::NoProposalChosen {
            ours: all_proposals(&candidates),
            theirs: self.sa.to_proposals(),
        })
    }

    /// Chooses a configuration and algorithms, and makes a half-open IKE SA. With `puzzle`, IKE_AUTH must bring its
    /// solution.
    pub(crate) fn accept(
        self,
        cx: &mut Context<'_>,
        arrival: Arrival,
        id: IkeSaId,
        responder_spi: IkeSpi,
        puzzle: Option<(Prf, u8)>,
    ) -> Verdict {
        let first = &self.first;
        let candidates = cx.candidates(arrival.back());
        if candidates.is_empty() {
            return self.no_proposal_chosen(RejectReason::NoConfiguration);
        }
        let offer = IkeOffer::new(&self.sa);
        let intermediate = first
            .contents
            .has(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED);
        let ppk = candidates.iter().any(|c| !ppk::usable(cx, c).is_empty());
        let ppk = ppk::agreed(ppk, intermediate, &first.contents);
        let selected = candidates.iter().find_map(|config| {
            let (suite, proposal) = offer.select(&config.proposals, intermediate)?;
            Some((Arc::clone(config), suite, proposal))
        });
        let Some((config, suite, proposal)) = selected else {
            return self.no_proposal_chosen(RejectReason::NoProposalChosen {
                ours: all_proposals(&candidates),
                theirs: self.sa.to_proposals(),
            });
        };
        let method = suite.key_exchange;
        if self.ke.method.0 != method.iana_id() {
            return self.another_method(method);
        }
        let nr: [u8; NONCE_LEN] = cx.random();
        let exchanged = match puzzle {
            // An encapsulation has no public value without the secret.
            Some(_) if !method.is_kem() => Deferred::begin(cx, method, self.ke.data)
                .map(|(public_value, deferred)| (public_value, Keying::Deferred(deferred))),
            _ => cx
                .key_exchange
                .respond(method, self.ke.data, cx.entropy)
                .map(|(public_value, secret)| {
                    let seed = Skeyseed::initial(suite.prf, first.nonce, &nr, &secret);
                    (public_value, Keying::Known(seed))
                }),
        };
        let (public_value, keying) = match exchanged {
            Ok(exchanged) => exchanged,
            Err(error) => {
                let reason = RejectReason::KeyExchange(error.to_string());
                return Verdict::Refused {
                    answer: None,
                    reason,
                };
            }
        };
        let terms = first.terms(cx, &config, &candidates, responder_spi, arrival);
        let response = first.answer_with_spi(responder_spi, |payloads| {
            payloads
                .sa(std::slice::from_ref(&proposal))
                .ke(KeId(method.iana_id()), &public_value)
                .nonce(&nr);
            terms.write(cx, &config, payloads);
            if let Some(puzzle) = puzzle {
                write_puzzle(payloads, puzzle);
            }
            ppk::confirm(&ppk, payloads);
        });
        let Some(response) = response else {
            return Verdict::Dropped(DropReason::BadInit);
        };
        let agreed = Agreed {
            config,
            candidates,
            suite,
            keying,
            nr: &nr,
            response,
            terms,
            ppk,
            puzzle,
            resumption: None,
        };
        self.first.half_open(cx, arrival, id, responder_spi, agreed)
    }

    fn no_proposal_chosen(&self, reason: RejectReason) -> Verdict {
        let answer = self.first.answer(|payloads| {
            payloads.notify(&Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]));
        });
        Verdict::Refused { answer, reason }
    }

    /// Asks for another method, without state (RFC 7296 §1.2, §2.6.1).
    fn another_method(&self, method: KeyExchange) -> Verdict {
        let wanted = method.iana_id().to_be_bytes();
        let answer = self.first.answer(|payloads| {
            payloads.notify(&Notify::new(NotifyType::INVALID_KE_PAYLOAD, &wanted));
        });
        answer.map_or(
            Verdict::Dropped(DropReason::BadInit),
            Verdict::AnotherMethod,
        )
    }
}

/// Proposals of ours that a refusal names.
const MAX_NAMED: usize = 16;

/// What we accept from a peer whose configuration is not known yet.
fn all_proposals(candidates: &[Arc<PeerConfig>]) -> Vec<IkeProposal> {
    let mut all: Vec<IkeProposal> = Vec::new();
    for proposal in candidates.iter().flat_map(|c| &c.proposals) {
        if all.len() == MAX_NAMED {
            break;
        }
        if !all.contains(proposal) {
            all.push(proposal.clone());
        }
    }
    all
}
