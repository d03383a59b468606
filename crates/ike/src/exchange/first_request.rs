//! What the requests that begin an IKE SA have in common: IKE_SA_INIT (RFC 7296 §1.2) and IKE_SESSION_RESUME (RFC 5723
//! §4.3.2). They come from strangers, and are answered without protection.

use std::net::IpAddr;
use std::sync::Arc;

use cygnet_crypto::{IkeSuite, Prf, Skeyseed};
use cygnet_wire::{
    ExchangeType, Flags, Header, IkeSpi, Message, Notify, NotifyType, PayloadWriter, PrfId,
    ProtocolId, PsPayload, PuzzleNotify, TransformType, TransformView, write_message,
};

use crate::channel::TYPICAL_LEN;
use crate::config::{Childless, Encapsulation, PeerConfig};
use crate::contents::{Contents, Unreadable};
use crate::context::Context;
use crate::cookie::Bearer;
use crate::exchange::ike_auth::{AuthAwaited, Deferred, KeysDeferred};
use crate::exchange::ike_sa_init::{Finished, Handshake, Spis, write_abilities, write_nat_hashes};
use crate::exchange::ike_session_resume::Resumption;
use crate::exchange::redirect;
use crate::fragment::{self, Fragments};
use crate::info::{NatSituation, Role};
use crate::io::IkeSaId;
use crate::nat::{self, HASH_LEN};
use crate::ppk;
use crate::puzzle::Puzzle;
use crate::reason::{Party, RejectReason};
use crate::sa::{Arrival, Core, IkeSa, State};
use crate::stats::DropReason;

/// A request with a nonce that begins an IKE SA.
#[derive(Debug)]
pub(crate) struct FirstRequest<'a> {
    pub(crate) message: Message<'a>,
    /// The hash of the message, by which a repetition is known.
    digest: [u8; 32],
    pub(crate) contents: Contents<'a>,
    pub(crate) nonce: &'a [u8],
}

/// What becomes of such a request.
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

impl<'a> FirstRequest<'a> {
    /// Reads a request, whose hash is `digest`.
    pub(crate) fn read(message: &Message<'a>, digest: [u8; 32]) -> Result<Self, Verdict> {
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
            Err(error @ Unreadable::Critical(payload)) => {
                let (kind, data) = error.notify();
                return Err(Verdict::Refused {
                    answer: answer(header, |payloads| {
                        payloads.notify(&Notify::new(kind, &data));
                    }),
                    reason: RejectReason::UnsupportedCriticalPayload(payload),
                });
            }
            //= rfc7296#3.10.1
            //# To avoid a DoS
            //# attack using forged messages, this status may only be
            //# returned for and in an encrypted packet if the Message ID and
            //# cryptographic checksum were valid.
            Err(error) => return Err(malformed(error.to_string())),
        };
        let nonce = contents.nonce.ok_or_else(missing)?.data();
        Ok(Self {
            message: *message,
            digest,
            contents,
            nonce,
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

    /// Whether it resumes a session.
    pub(crate) fn resumes(&self) -> bool {
        self.message.header().exchange == ExchangeType::IKE_SESSION_RESUME
    }

    /// Whether it offers a pseudorandom function.
    pub(crate) fn offers(&self, prf: Prf) -> bool {
        let offered = |t: TransformView<'_>| t.kind == TransformType::PRF && t.id == prf.iana_id();
        let sa = self.contents.sa.as_ref();
        sa.is_some_and(|sa| sa.proposals().any(|p| p.transforms().any(offered)))
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
        self.answer(|payloads| {
            payloads.notify(&Notify::new(NotifyType::REDIRECT, &data));
        })
        .map(Verdict::Redirected)
    }

    /// An answer without state.
    pub(crate) fn answer(&self, write: impl FnOnce(&mut PayloadWriter<'_>)) -> Option<Vec<u8>> {
        answer(self.message.header(), write)
    }

    /// The answer that makes an IKE SA with this SPI of ours.
    pub(crate) fn answer_with_spi(
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

/// What is agreed on by notifications.
#[derive(Debug)]
pub(crate) struct Terms {
    nat: NatSituation,
    nat_hashes: Option<[[u8; HASH_LEN]; 2]>,
    fragmentation: bool,
    intermediate: bool,
    childless: bool,
    fake_strongswan: bool,
}

/// What the keys of a half-open IKE SA come from.
pub(crate) enum Keying {
    /// It is computed.
    Known(Skeyseed),
    /// It will be when a puzzle is solved.
    Deferred(Deferred),
}

/// What a half-open IKE SA is made of.
pub(crate) struct Agreed<'a> {
    pub(crate) config: Arc<PeerConfig>,
    pub(crate) candidates: Vec<Arc<PeerConfig>>,
    pub(crate) suite: IkeSuite,
    pub(crate) keying: Keying,
    pub(crate) nr: &'a [u8],
    pub(crate) response: Vec<u8>,
    pub(crate) terms: Terms,
    pub(crate) ppk: ppk::Stage,
    /// What IKE_AUTH must bring the solution of.
    pub(crate) puzzle: Option<(Prf, u8)>,
    /// The session that is resumed.
    pub(crate) resumption: Option<Box<Resumption>>,
}

impl FirstRequest<'_> {
    /// What this request and our configuration have in common.
    pub(crate) fn terms(
        &self,
        cx: &mut Context<'_>,
        config: &PeerConfig,
        candidates: &[Arc<PeerConfig>],
        responder_spi: IkeSpi,
        arrival: Arrival,
    ) -> Terms {
        let (spi_i, spi_r) = (self.message.header().initiator_spi.0, responder_spi.0);
        let Arrival { local, remote, .. } = arrival;
        let encapsulation = config.force_encapsulation;
        let mut nat = NatSituation::default();
        if encapsulation != Encapsulation::No {
            nat = nat::judge(&self.contents.notifies, spi_i, 0, local, remote);
        }
        let entropy = &mut *cx.entropy;
        let nat_hashes = nat
            .supported
            .then(|| nat::offer(encapsulation, spi_i, spi_r, local, remote, entropy))
            .flatten();
        Terms {
            nat,
            nat_hashes,
            fragmentation: fragment::agreed(config.fragmentation, &self.contents),
            //= rfc9242#3.1
            //# If the responder also supports this
            //# exchange, it includes this notification in the response message.
            intermediate: self
                .contents
                .has(NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED),
            // Who the peer is comes out in IKE_AUTH: what is said now must hold for any of them.
            //= rfc6023#3
            //# A supporting responder that has been configured not to support this
            //# extension to the protocol MUST behave as the same as if it didn't
            //# support this extension.  It MUST NOT advertise the capability with a
            //# notification
            childless: candidates.iter().all(|c| c.childless != Childless::Never),
            fake_strongswan: candidates.iter().any(|c| c.fake_strongswan),
        }
    }

    /// Makes a half-open IKE SA and sends the response.
    pub(crate) fn half_open(
        self,
        cx: &mut Context<'_>,
        arrival: Arrival,
        id: IkeSaId,
        responder_spi: IkeSpi,
        agreed: Agreed<'_>,
    ) -> Verdict {
        let initiator_spi = self.message.header().initiator_spi;
        let Agreed {
            config,
            candidates,
            suite,
            keying,
            nr,
            response,
            terms,
            ppk,
            puzzle,
            resumption,
        } = agreed;
        let finished = Finished {
            role: Role::Responder,
            suite,
            spis: Spis {
                initiator: initiator_spi,
                responder: responder_spi,
            },
            ni: self.nonce.to_vec(),
            nr: nr.to_vec(),
            request: self.message.as_bytes().to_vec(),
            response: response.clone(),
            intermediate: terms.intermediate,
            ppk,
            childless: terms.childless,
            key_log: cx.config.key_log,
            resumption,
        };
        let puzzle =
            puzzle.map(|(prf, difficulty)| Puzzle::before_auth(prf, difficulty, nr, responder_spi));
        let state = match keying {
            Keying::Known(seed) => {
                let Some(handshake) = Handshake::new(finished, seed) else {
                    return Verdict::Dropped(DropReason::BadInit);
                };
                State::AuthAwaited(Box::new(AuthAwaited {
                    handshake,
                    candidates,
                    puzzle,
                    spoilt: false,
                }))
            }
            Keying::Deferred(deferred) => State::KeysDeferred(Box::new(KeysDeferred {
                finished,
                deferred,
                candidates,
                puzzle,
            })),
        };
        let spis = (initiator_spi, responder_spi);
        let mut core = Core {
            nat: terms.nat,
            suite: Some(suite),
            fragments: Fragments::new(terms.fragmentation),
            redirectable: redirect::is_supported(&self.contents).then_some(Party::Peer),
            ..Core::new(id, Role::Responder, spis, config, arrival.back(), cx.now)
        };
        core.incoming.accept(0, self.digest);
        core.incoming.respond(0, response.clone().into());
        cx.transmit(arrival.back(), response);
        Verdict::Accepted(Box::new(IkeSa { core, state }))
    }
}

impl Terms {
    /// Says it in the response.
    pub(crate) fn write(
        &self,
        cx: &Context<'_>,
        config: &PeerConfig,
        payloads: &mut PayloadWriter<'_>,
    ) {
        write_nat_hashes(self.nat_hashes.as_ref(), payloads);
        if self.fragmentation {
            fragment::announce(config.fragmentation, payloads);
        }
        //= rfc6023#3
        //# A supporting responder MUST include the Notify payload,
        //# described in Section 4, within the IKE_SA_INIT response.
        if self.childless {
            //= rfc6023#4
            //# Protocol ID (1 octet) MUST be 1, as this message is related to an
            //# IKEv2 SA.
            let protocol = ProtocolId::IKE;
            //= rfc6023#4
            //# SPI Size (1 octet) MUST be zero, in conformance with section 3.10 of
            //# [RFC5996].
            //= rfc6023#4
            //# Childless Notify Message Type (2 octets) - MUST be 16418, the value
            //# assigned for CHILDLESS_IKEV2_SUPPORTED.
            let kind = NotifyType::CHILDLESS_IKEV2_SUPPORTED;
            payloads.notify(&Notify {
                protocol,
                ..Notify::new(kind, &[])
            });
        }
        write_abilities(cx, self.intermediate, self.fake_strongswan, payloads);
    }
}

/// Nobody hears of it that a message is malformed.
pub(crate) fn malformed(detail: String) -> Verdict {
    let reason = RejectReason::InvalidSyntax(detail);
    let answer = None;
    Verdict::Refused { answer, reason }
}

/// One that lacks what it must have.
pub(crate) fn missing() -> Verdict {
    malformed("a payload is missing".to_owned())
}

/// Writes what the solution is to be found of.
//= rfc8019#8.1
//# Protocol ID (1 octet) -- MUST be 0.
//= rfc8019#8.1
//# SPI Size (1 octet) -- MUST be 0, meaning no SPI is present.
//= rfc8019#8.1
//# Notify Message Type (2 octets) -- MUST be 16434, the value assigned
//# for the PUZZLE notification.
pub(crate) fn write_puzzle(payloads: &mut PayloadWriter<'_>, (prf, difficulty): (Prf, u8)) {
    let prf = PrfId(prf.iana_id());
    let data = PuzzleNotify { prf, difficulty }.to_bytes();
    payloads.notify(&Notify::new(NotifyType::PUZZLE, &data));
}

/// An unprotected response.
fn answer(request: &Header, write: impl FnOnce(&mut PayloadWriter<'_>)) -> Option<Vec<u8>> {
    let flags = Flags {
        response: true,
        ..Flags::default()
    };
    let (i, r) = (request.initiator_spi, request.responder_spi);
    let header = Header::new(i, r, request.exchange, flags, request.message_id);
    let mut bytes = Vec::with_capacity(TYPICAL_LEN);
    write_message(&mut bytes, &header, write).ok()?;
    Some(bytes)
}
