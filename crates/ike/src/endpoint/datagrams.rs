//! What becomes of a datagram: it is for an IKE SA, or from a stranger who begins one, or for an SA that is not here.

use std::time::Instant;

use cygnet_crypto::sha256;
use cygnet_wire::{
    ExchangeType, Flags, Header, IkeSpi, Message, Notify, NotifyType, ParseErrorKind, Payload,
    PayloadWriter, Version, write_message,
};

use super::{Endpoint, Entry, InitKey};
use crate::cookie::Task;
use crate::defence::{Admission, DefenceLevel};
use crate::exchange::crash_detection;
use crate::exchange::first_request::{FirstRequest, Verdict};
use crate::exchange::ike_sa_init::InitRequest;
use crate::exchange::ike_session_resume::ResumeRequest;
use crate::info::Role;
use crate::io::{Event, IkeSaId};
use crate::reason::RejectReason;
use crate::receive::is_first;
use crate::sa::Arrival;
use crate::stats::DropReason;

/// Octets of an IKE_SA_INIT request that are read. It is kept whole until IKE_AUTH, for anybody who asks; those of real
/// peers, with all their algorithms and vendor IDs, have a third of that.
const MAX_INIT_REQUEST: usize = 10_000;

/// Why a request that begins an IKE SA is not served.
enum Unserved {
    /// It has been answered as it had to be, or is one too many.
    Told,
    /// There is nothing to negotiate.
    Incompatible,
}

impl Endpoint {
    pub(super) fn on_datagram(&mut self, now: Instant, arrival: Arrival, bytes: &[u8]) {
        if bytes.len() > self.config.max_datagram {
            return self.shared.stats.count(DropReason::TooLong);
        }
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => match error.kind {
                ParseErrorKind::UnsupportedMajorVersion(version) => {
                    return self.on_major_version(now, arrival, bytes, version);
                }
                ParseErrorKind::OldMajorVersion(_) => {
                    return self.shared.stats.count(DropReason::MajorVersion);
                }
                _ => return self.shared.stats.count(DropReason::Malformed),
            },
        };
        self.shared.under_load = self.defence(now) != DefenceLevel::None;
        let header = message.header();
        if is_first(header.exchange) && !header.flags.response {
            return self.on_first_request(now, arrival, &message);
        }
        // The SPI that we have chosen is the one that the sender has not.
        let (ours, theirs) = if header.flags.initiator {
            (header.responder_spi, header.initiator_spi)
        } else {
            (header.initiator_spi, header.responder_spi)
        };
        let id = self.shared.spis.get(&ours).copied();
        let fits = |entry: &Entry| {
            let core = &entry.sa.core;
            let (known, role) = if header.flags.initiator {
                (core.initiator_spi, Role::Responder)
            } else {
                (core.responder_spi, Role::Initiator)
            };
            core.role == role && (known == theirs || known == IkeSpi::ZERO)
        };
        let Some(id) = id.filter(|id| self.entry(*id).is_some_and(fits)) else {
            return self.on_unknown_spi(now, arrival, &message);
        };
        if is_unprotected_hint(&message) {
            return self.with_sa(now, id, |sa, cx| sa.on_unprotected_hint(cx, &message));
        }
        self.with_sa(now, id, |sa, cx| sa.on_message(cx, arrival, &message));
    }

    /// A message of a version that is yet to come.
    //= rfc7296#2.5
    //# If an endpoint receives a message with a higher major version number,
    //# it MUST drop the message and SHOULD send an unauthenticated Notify
    //# message of type INVALID_MAJOR_VERSION containing the highest
    //# (closest) version number it supports.
    fn on_major_version(&mut self, now: Instant, arrival: Arrival, bytes: &[u8], version: u8) {
        self.shared.stats.count(DropReason::MajorVersion);
        let Ok(header) = Header::parse(bytes) else {
            return;
        };
        if header.flags.response {
            return;
        }
        let data = [Version::IKEV2.major];
        let notify = Notify::new(NotifyType::INVALID_MAJOR_VERSION, &data);
        self.reject(now, arrival, RejectReason::MajorVersion(version), || {
            unprotected_answer(&header, |payloads| {
                payloads.notify(&notify);
            })
        });
    }

    /// A message for an IKE SA that is not here.
    fn on_unknown_spi(&mut self, now: Instant, arrival: Arrival, message: &Message<'_>) {
        self.shared.stats.count(DropReason::UnknownSpi);
        let header = message.header();
        //= rfc7296#2.21.4
        //# If the message is marked as a response, the node can audit the
        //# suspicious event but MUST NOT respond.
        if header.flags.response {
            return;
        }
        //= rfc7296#2.21.4
        //# If a response is sent, the response MUST be sent to the IP
        //# address and port from where it came with the same IKE SPIs and the
        //# Message ID copied.  The response MUST NOT be cryptographically
        //# protected and MUST contain an INVALID_IKE_SPI Notify payload.
        let mut cx = context!(self, now);
        if !cx.may_reply() {
            return;
        }
        let tokens = crash_detection::of_lost(&cx, message);
        let answer = unprotected_answer(header, |payloads| {
            crash_detection::write_lost(&tokens, payloads);
        });
        if let Some(answer) = answer {
            let sent = &mut cx.shared.stats.crash_tokens_sent;
            *sent = sent.saturating_add(tokens.len() as u64);
            cx.transmit(arrival.back(), answer);
        }
    }

    /// Refuses something that has no SA, within the limit of such replies.
    fn reject(
        &mut self,
        now: Instant,
        arrival: Arrival,
        reason: RejectReason,
        answer: impl FnOnce() -> Option<Vec<u8>>,
    ) {
        let mut cx = context!(self, now);
        if cx.may_reply() {
            let Arrival { local, remote, .. } = arrival;
            cx.event(Event::Rejected {
                local,
                remote,
                reason,
            });
            if let Some(answer) = answer() {
                cx.transmit(arrival.back(), answer);
            }
        }
    }

    fn on_first_request(&mut self, now: Instant, arrival: Arrival, message: &Message<'_>) {
        if message.as_bytes().len() > MAX_INIT_REQUEST {
            return self.shared.stats.count(DropReason::TooLong);
        }
        //= rfc7296#2.1
        //# Instead, a
        //# robust responder will do the IKE SA lookup using the whole packet,
        //# its hash, or the Ni payload.
        let digest = sha256(&[message.as_bytes()]);
        let key = (digest, arrival.remote);
        if let Some(id) = self.by_init.get(&key).copied() {
            let bytes = message.as_bytes();
            return self.with_sa(now, id, |sa, cx| sa.on_repeated_init(cx, arrival, bytes));
        }
        let verdict = if message.header().exchange == ExchangeType::IKE_SESSION_RESUME {
            ResumeRequest::read(message, digest)
                .map(|request| self.on_resume_request(now, arrival, request))
        } else {
            InitRequest::read(message, digest)
                .map(|request| self.on_init_request(now, arrival, request))
        };
        match verdict {
            Ok(None) => {}
            Ok(Some(verdict)) | Err(verdict) => self.on_verdict(now, arrival, key, verdict),
        }
    }

    /// Whether a request is served at all now, before anything is computed for it: with the puzzle that it has solved.
    /// `Err`: it is not, and has been told so.
    fn admit(
        &mut self,
        now: Instant,
        arrival: Arrival,
        request: &FirstRequest<'_>,
    ) -> Result<Option<Task>, Unserved> {
        let admission = self.defence.admit(
            now,
            &self.config,
            &mut *self.entropy,
            &mut self.shared.stats,
            request,
            arrival,
        );
        match admission {
            Admission::Admitted(solved) => Ok(solved),
            Admission::Asked { cookie, puzzle } => {
                if let Some(answer) = request.ask(&cookie, puzzle) {
                    context!(self, now).transmit(arrival.back(), answer);
                }
                Err(Unserved::Told)
            }
            Admission::Incompatible => Err(Unserved::Incompatible),
            Admission::Refused(drop, reason) => {
                self.shared.stats.count(drop);
                self.reject(now, arrival, reason, || None);
                Err(Unserved::Told)
            }
        }
    }

    fn on_init_request(
        &mut self,
        now: Instant,
        arrival: Arrival,
        request: InitRequest<'_>,
    ) -> Option<Verdict> {
        let solved = match self.admit(now, arrival, &request.first) {
            Ok(solved) => solved,
            Err(Unserved::Told) => return None,
            Err(Unserved::Incompatible) => {
                return Some(request.incompatible(&context!(self, now), arrival));
            }
        };
        if let Some(verdict) = request.first.redirect(&mut context!(self, now), arrival) {
            return Some(verdict);
        }
        let id = IkeSaId(self.shared.fresh_id());
        let puzzle = solved.and_then(|task| self.defence.before_auth(task));
        let mut cx = context!(self, now);
        let spi = cx.fresh_spi(id);
        let verdict = request.accept(&mut cx, arrival, id, spi, puzzle);
        if !matches!(verdict, Verdict::Accepted(_)) {
            self.shared.spis.remove(&spi);
        }
        // Who has to come again with another public value may bring the same solution.
        if let Some(task) = solved
            && !matches!(verdict, Verdict::AnotherMethod(_))
        {
            self.defence.spend(task);
        }
        Some(verdict)
    }

    fn on_resume_request(
        &mut self,
        now: Instant,
        arrival: Arrival,
        request: ResumeRequest<'_>,
    ) -> Option<Verdict> {
        self.admit(now, arrival, &request.first).ok()?;
        let mut cx = context!(self, now);
        if let Some(verdict) = request.first.redirect(&mut cx, arrival) {
            return Some(verdict);
        }
        let opened = match request.open(&cx, arrival) {
            Ok(opened) => opened,
            Err(refusal) => return Some(request.refuse(refusal)),
        };
        let id = IkeSaId(cx.shared.fresh_id());
        let spi = cx.fresh_spi(id);
        let verdict = request.accept(&mut cx, arrival, id, spi, opened);
        if !matches!(verdict, Verdict::Accepted(_)) {
            self.shared.spis.remove(&spi);
        }
        Some(verdict)
    }

    fn on_verdict(&mut self, now: Instant, arrival: Arrival, key: InitKey, verdict: Verdict) {
        match verdict {
            Verdict::Accepted(sa) => {
                self.shared.stats.responded = self.shared.stats.responded.saturating_add(1);
                let (id, spi) = (sa.core.id, sa.core.responder_spi);
                self.insert(id, spi, *sa, Some(key));
            }
            Verdict::Refused { answer, reason } => {
                match reason {
                    RejectReason::KeyExchange(_) => self.defence.note_probe(now),
                    RejectReason::Ticket(_) => {
                        let refused = &mut self.shared.stats.tickets_refused;
                        *refused = refused.saturating_add(1);
                    }
                    _ => {}
                }
                self.shared.stats.count(DropReason::BadInit);
                self.reject(now, arrival, reason, || answer);
            }
            Verdict::AnotherMethod(answer) => {
                let stats = &mut self.shared.stats;
                stats.invalid_ke_sent = stats.invalid_ke_sent.saturating_add(1);
                context!(self, now).transmit(arrival.back(), answer);
            }
            Verdict::Redirected(answer) => {
                let stats = &mut self.shared.stats;
                stats.redirected = stats.redirected.saturating_add(1);
                context!(self, now).transmit(arrival.back(), answer);
            }
            Verdict::Dropped(reason) => self.shared.stats.count(reason),
        }
    }
}

/// Whether a message says, without protection, that the sender does not know the SA or the version: at most a hint,
/// since anybody can send it.
fn is_unprotected_hint(message: &Message<'_>) -> bool {
    !is_first(message.header().exchange)
        && message.payloads().any(|payload| {
            matches!(
                payload,
                Ok(Payload::Notify(Notify {
                    kind: NotifyType::INVALID_IKE_SPI
                        | NotifyType::INVALID_MAJOR_VERSION
                        | NotifyType::QUICK_CRASH_DETECTION,
                    ..
                }))
            )
        })
}

/// A response without protection, with SPIs, Message ID and exchange of the request.
fn unprotected_answer(
    request: &Header,
    write: impl FnOnce(&mut PayloadWriter<'_>),
) -> Option<Vec<u8>> {
    // The sender of the request is the original initiator exactly if we are not.
    let flags = Flags {
        initiator: !request.flags.initiator,
        response: true,
        version: false,
    };
    let (i, r) = (request.initiator_spi, request.responder_spi);
    let header = Header::new(i, r, request.exchange, flags, request.message_id);
    let mut bytes = Vec::new();
    write_message(&mut bytes, &header, write).ok()?;
    Some(bytes)
}
