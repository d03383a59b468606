//! The responder's half of IKE_SA_INIT: from a stranger's datagram to a half-open IKE SA, or to a refusal without state.

use std::net::IpAddr;
use std::sync::Arc;

use cygnet_crypto::{IkeProposal, KeyExchange, Prf, sha256};
use cygnet_wire::{
    ExchangeType, Flags, Header, IkeSpi, KeId, KePayload, Message, Notify, NotifyType,
    PayloadWriter, PrfId, ProtocolId, PsPayload, PuzzleNotify, SaPayload, TransformType,
    TransformView, write_message,
};

use super::{Finished, Handshake, NONCE_LEN, STRONGSWAN, Spis, nat_hashes};
use crate::config::{Childless, Encapsulation, PeerConfig};
use crate::contents::{Contents, Unreadable};
use crate::context::{Context, Limiter};
use crate::cookie::Bearer;
use crate::exchange::ike_auth::AuthAwaited;
use crate::exchange::redirect;
use crate::fragment::{self, Fragments};
use crate::info::{NatSituation, Role};
use crate::io::IkeSaId;
use crate::nat;
use crate::ppk;
use crate::proposal::IkeOffer;
use crate::puzzle::Puzzle;
use crate::reason::{Party, RejectReason};
use crate::sa::{Arrival, Core, IkeSa, State};
use crate::stats::DropReason;
use crate::window::{Incoming, Outgoing};

/// A well-formed IKE_SA_INIT request.
#[derive(Debug)]
pub(crate) struct InitRequest<'a> {
    message: Message<'a>,
    contents: Contents<'a>,
    ke: KePayload<'a>,
    nonce: &'a [u8],
    sa: SaPayload<'a>,
}

/// What becomes of an IKE_SA_INIT request.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// A half-open IKE SA.
    Accepted(Box<IkeSa>),
    /// No state; the peer is to get this answer, if any.
    Refused {
        answer: Option<Vec<u8>>,
        reason: RejectReason,
    },
    /// No state; the peer is asked for another key exchange method.
    AnotherMethod(Vec<u8>),
    /// No state; the peer is sent to another gateway.
    Redirected(Vec<u8>),
    /// Not worth a word.
    Dropped(DropReason),
}

impl<'a> InitRequest<'a> {
    /// Reads a request.
    pub(crate) fn read(message: &Message<'a>) -> Result<Self, Verdict> {
        let header = message.header();
        //= rfc7296#2.2
        //# The Message ID is a 32-bit quantity, which is zero for the
        //# IKE_SA_INIT messages
        if header.initiator_spi == IkeSpi::ZERO
            || header.responder_spi != IkeSpi::ZERO
            || header.message_id != 0
            || !header.flags.initiator
        {
            return Err(Verdict::Dropped(DropReason::BadInit));
        }
        let contents = match Contents::read(message.chain()) {
            Ok(contents) => contents,
            Err(Unreadable::Critical(payload)) => {
                return Err(Verdict::Refused {
                    answer: answer(header, |payloads| {
                        let data = [payload.0];
                        payloads.notify(&Notify::new(
                            NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD,
                            &data,
                        ));
                    }),
                    reason: RejectReason::UnsupportedCriticalPayload(payload),
                });
            }
            //= rfc7296#3.10.1
            //# To avoid a DoS
            //# attack using forged messages, this status may only be
            //# returned for and in an encrypted packet if the Message ID and
            //# cryptographic checksum were valid.
            Err(error) => {
                let reason = RejectReason::InvalidSyntax(error.to_string());
                return Err(Verdict::Refused {
                    answer: None,
                    reason,
                });
            }
        };
        let (Some(sa), Some(ke), Some(nonce)) = (contents.sa, contents.ke, contents.nonce) else {
            let reason = RejectReason::InvalidSyntax("a payload is missing".to_owned());
            return Err(Verdict::Refused {
                answer: None,
                reason,
            });
        };
        Ok(Self {
            message: *message,
            contents,
            ke,
            nonce: nonce.data(),
            sa,
        })
    }

    /// The cookie that it brings.
    pub(crate) fn cookie(&self) -> Option<&'a [u8]> {
        self.contents
            .notify(NotifyType::COOKIE)
            .map(|notify| notify.data)
    }

    /// The solution of a puzzle that it brings.
    pub(crate) fn solution(&self) -> Option<PsPayload<'a>> {
        self.contents.solution
    }

    /// What a cookie for it is bound to.
    pub(crate) fn bearer(&self, address: IpAddr) -> Bearer<'a> {
        Bearer {
            nonce: self.nonce,
            address,
            initiator_spi: self.message.header().initiator_spi.0,
        }
    }

    /// Whether it offers a pseudorandom function.
    pub(crate) fn offers(&self, prf: Prf) -> bool {
        let offered = |t: TransformView<'_>| t.kind == TransformType::PRF && t.id == prf.iana_id();
        self.sa.proposals().any(|p| p.transforms().any(offered))
    }

    /// The answer that asks for a cookie and, if one is given, for the solution of a puzzle.
    //= rfc8019#7.1.1
    //# Note that the PUZZLE notification MUST
    //# always be accompanied with the COOKIE notification, since the content
    //# of the COOKIE notification is used as an input data when solving the
    //# puzzle.
    pub(crate) fn ask(&self, cookie: &[u8], puzzle: Option<(Prf, u8)>) -> Option<Vec<u8>> {
        answer(self.message.header(), |payloads| {
            payloads.notify(&Notify::new(NotifyType::COOKIE, cookie));
            if let Some(puzzle) = puzzle {
                write_puzzle(payloads, puzzle);
            }
        })
    }

    /// Sends the initiator to another gateway, if that is the order and it goes there.
    //= rfc5685#3
    //# If the
    //# IKE_SA_INIT request did not indicate support for the redirect
    //# mechanism, the responder MUST NOT send the REDIRECT payload to the
    //# VPN client.
    pub(crate) fn redirect(&self, cx: &mut Context<'_>, arrival: Arrival) -> Option<Verdict> {
        if !redirect::is_supported(&self.contents) {
            return None;
        }
        let (when, gateways) = (cx.config.send_redirect, &cx.config.redirect_to);
        let gateway = redirect::elsewhere(cx, when, gateways, arrival.local.ip())?;
        let data = redirect::data(&gateway, self.nonce);
        answer(self.message.header(), |payloads| {
            payloads.notify(&Notify::new(NotifyType::REDIRECT, &data));
        })
        .map(Verdict::Redirected)
    }

    /// Refuses one that offers no pseudorandom function that we know.
    pub(crate) fn incompatible(&self, cx: &Context<'_>, arrival: Arrival) -> Verdict {
        let candidates = cx.directory.candidates(arrival.local, arrival.remote);
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
        let header = self.message.header();
        let candidates = cx.directory.candidates(arrival.local, arrival.remote);
        if candidates.is_empty() {
            return self.no_proposal_chosen(RejectReason::NoConfiguration);
        }
        let theirs = self.sa.to_proposals();
        let offer = IkeOffer::new(&theirs);
        let intermediate = self
            .contents
            .has(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED);
        let ppk = candidates.iter().any(|c| !ppk::usable(cx, c).is_empty());
        let ppk = ppk::agreed(ppk, intermediate, &self.contents);
        let selected = candidates.iter().find_map(|config| {
            let (suite, proposal) = offer.select(&config.proposals, intermediate)?;
            Some((Arc::clone(config), suite, proposal))
        });
        let Some((config, suite, proposal)) = selected else {
            let ours = all_proposals(&candidates);
            return self.no_proposal_chosen(RejectReason::NoProposalChosen { ours, theirs });
        };
        let method = suite.key_exchange;
        if self.ke.method.0 != method.iana_id() {
            return self.another_method(method);
        }
        let (public_value, secret) = match cx.key_exchange.respond(method, self.ke.data, cx.entropy)
        {
            Ok(answer) => answer,
            Err(error) => {
                let reason = RejectReason::KeyExchange(error.to_string());
                return Verdict::Refused {
                    answer: None,
                    reason,
                };
            }
        };
        let nr: [u8; NONCE_LEN] = cx.random();
        let (spi_i, spi_r) = (header.initiator_spi.0, responder_spi.0);
        let encapsulation = config.force_encapsulation;
        let mut nat = NatSituation::default();
        if encapsulation != Encapsulation::No {
            nat = nat_hashes(&self.contents).judge(spi_i, 0, arrival.local, arrival.remote);
        }
        let hashes = nat
            .supported
            .then(|| {
                nat::offer(
                    encapsulation,
                    spi_i,
                    spi_r,
                    arrival.local,
                    arrival.remote,
                    cx.entropy,
                )
            })
            .flatten();
        let agreed = fragment::agreed(config.fragmentation, &self.contents);
        // Who the peer is comes out in IKE_AUTH: what is said now must hold for any of them.
        //= rfc6023#3
        //# A supporting responder that has been configured not to support this
        //# extension to the protocol MUST behave as the same as if it didn't
        //# support this extension.  It MUST NOT advertise the capability with a
        //# notification
        let childless = candidates.iter().all(|c| c.childless != Childless::Never);
        let response = self.answer_with_spi(responder_spi, |payloads| {
            payloads
                .sa(std::slice::from_ref(&proposal))
                .ke(KeId(method.iana_id()), &public_value)
                .nonce(&nr);
            if let Some([source, destination]) = &hashes {
                payloads
                    .notify(&Notify::new(NotifyType::NAT_DETECTION_SOURCE_IP, source))
                    .notify(&Notify::new(
                        NotifyType::NAT_DETECTION_DESTINATION_IP,
                        destination,
                    ));
            }
            if agreed {
                fragment::announce(config.fragmentation, payloads);
            }
            //= rfc6023#3
            //# A supporting responder MUST include the Notify payload,
            //# described in Section 4, within the IKE_SA_INIT response.
            if childless {
                //= rfc6023#4
                //# Protocol ID (1 octet) MUST be 1, as this message is related to an
                //# IKEv2 SA.
                let protocol = ProtocolId::IKE;
                let kind = NotifyType::CHILDLESS_IKEV2_SUPPORTED;
                payloads.notify(&Notify {
                    protocol,
                    ..Notify::new(kind, &[])
                });
            }
            //= rfc9242#3.1
            //# If the responder also supports this
            //# exchange, it includes this notification in the response message.
            if intermediate {
                payloads.notify(&Notify::new(
                    NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED,
                    &[],
                ));
            }
            if let Some(puzzle) = puzzle {
                write_puzzle(payloads, puzzle);
            }
            ppk::confirm(&ppk, payloads);
            if candidates.iter().any(|c| c.fake_strongswan) {
                payloads.vendor_id(&STRONGSWAN);
            }
            for id in &cx.config.vendor_ids {
                payloads.vendor_id(id);
            }
        });
        let Some(response) = response else {
            return Verdict::Dropped(DropReason::BadInit);
        };
        let handshake = Handshake::new(Finished {
            role: Role::Responder,
            suite,
            spis: Spis {
                initiator: header.initiator_spi,
                responder: responder_spi,
            },
            ni: self.nonce,
            nr: &nr,
            secret: &secret,
            request: self.message.as_bytes().to_vec(),
            response: response.clone(),
            intermediate,
            ppk,
            childless,
            key_log: cx.config.key_log,
        });
        let Some(handshake) = handshake else {
            return Verdict::Dropped(DropReason::BadInit);
        };
        let mut incoming = Incoming::default();
        incoming.accept(0, sha256(&[self.message.as_bytes()]));
        incoming.respond(0, response.clone().into());
        let core = Core {
            id,
            role: Role::Responder,
            initiator_spi: header.initiator_spi,
            responder_spi,
            config,
            path: arrival.back(),
            nat,
            suite: Some(suite),
            ppk: false,
            childless: false,
            local_id: None,
            remote_id: None,
            created: cx.now,
            established: None,
            replaces: None,
            announced: true,
            last_heard: None,
            last_sent: cx.now,
            mobike: None,
            children_at: None,
            outgoing: Outgoing::default(),
            incoming,
            fragments: Fragments::new(agreed),
            unwanted: false,
            spoken_up: Limiter::default(),
            renewals: Limiter::default(),
            unwanted_children: Vec::new(),
            redirectable: redirect::is_supported(&self.contents).then_some(Party::Peer),
            redirected_from: None,
            peer_token: None,
            synchronisation: None,
            creations: Limiter::default(),
        };
        cx.transmit(arrival.back(), response);
        let state = State::AuthAwaited(Box::new(AuthAwaited {
            handshake,
            candidates,
            puzzle: puzzle
                .map(|(prf, difficulty)| Puzzle::before_auth(prf, difficulty, &nr, responder_spi)),
            spoilt: false,
        }));
        Verdict::Accepted(Box::new(IkeSa { core, state }))
    }

    fn no_proposal_chosen(&self, reason: RejectReason) -> Verdict {
        let answer = answer(self.message.header(), |payloads| {
            payloads.notify(&Notify::new(NotifyType::NO_PROPOSAL_CHOSEN, &[]));
        });
        Verdict::Refused { answer, reason }
    }

    /// Asks for another method, without state (RFC 7296 §1.2, §2.6.1).
    fn another_method(&self, method: KeyExchange) -> Verdict {
        let wanted = method.iana_id().to_be_bytes();
        let answer = answer(self.message.header(), |payloads| {
            payloads.notify(&Notify::new(NotifyType::INVALID_KE_PAYLOAD, &wanted));
        });
        answer.map_or(
            Verdict::Dropped(DropReason::BadInit),
            Verdict::AnotherMethod,
        )
    }

    fn answer_with_spi(
        &self,
        responder_spi: IkeSpi,
        write: impl FnOnce(&mut PayloadWriter<'_>),
    ) -> Option<Vec<u8>> {
        let request = Header {
            responder_spi,
            ..*self.message.header()
        };
        answer(&request, write)
    }
}

fn write_puzzle(payloads: &mut PayloadWriter<'_>, (prf, difficulty): (Prf, u8)) {
    let prf = PrfId(prf.iana_id());
    let data = PuzzleNotify { prf, difficulty }.to_bytes();
    payloads.notify(&Notify::new(NotifyType::PUZZLE, &data));
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

/// An unprotected response to an IKE_SA_INIT request.
fn answer(request: &Header, write: impl FnOnce(&mut PayloadWriter<'_>)) -> Option<Vec<u8>> {
    let flags = Flags {
        response: true,
        ..Flags::default()
    };
    let (i, r) = (request.initiator_spi, request.responder_spi);
    let header = Header::new(i, r, ExchangeType::IKE_SA_INIT, flags, request.message_id);
    let mut bytes = Vec::new();
    write_message(&mut bytes, &header, write).ok()?;
    Some(bytes)
}
