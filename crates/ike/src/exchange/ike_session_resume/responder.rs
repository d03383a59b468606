//! The responder's half of IKE_SESSION_RESUME: a ticket of ours comes back (RFC 5723 §4.3.2).

use std::sync::Arc;
use std::time::Duration;

use cygnet_crypto::Skeyseed;
use cygnet_wire::{IkeSpi, Message, Notify, NotifyType};

use super::{Granted, Resumption, ResumptionAuth, permitted};
use crate::config::PeerConfig;
use crate::context::Context;
use crate::exchange::first_request::{self, Agreed, FirstRequest, Keying, Verdict};
use crate::exchange::ike_sa_init::NONCE_LEN;
use crate::io::IkeSaId;
use crate::ppk::Stage;
use crate::reason::RejectReason;
use crate::sa::Arrival;
use crate::stats::DropReason;
use crate::ticket::{Grant, TicketRefusal};

/// A well-formed IKE_SESSION_RESUME request.
#[derive(Debug)]
pub(crate) struct ResumeRequest<'a> {
    pub(crate) first: FirstRequest<'a>,
    ticket: &'a [u8],
}

/// What a ticket says, and the configurations that permit it.
pub(crate) struct Opened {
    grant: Grant,
    candidates: Vec<Arc<PeerConfig>>,
}

impl<'a> ResumeRequest<'a> {
    /// Reads a request, whose hash is `digest`.
    pub(crate) fn read(message: &Message<'a>, digest: [u8; 32]) -> Result<Self, Verdict> {
        let first = FirstRequest::read(message, digest)?;
        let ticket = first.contents.notify(NotifyType::TICKET_OPAQUE);
        let ticket = ticket.ok_or_else(first_request::missing)?.data;
        Ok(Self { first, ticket })
    }

    /// Opens the ticket, if there is still a configuration for what it says.
    pub(crate) fn open(&self, cx: &Context<'_>, arrival: Arrival) -> Result<Opened, TicketRefusal> {
        let grant = cx.shared.tickets.open(cx.now, self.ticket)?;
        // A ticket that is good where sessions are not resumed any more is not.
        let candidates = permitted(cx, arrival.back(), &grant.session, grant.psk)?;
        Ok(Opened { grant, candidates })
    }

    /// Refuses the ticket.
    //= rfc5723#4.3.2
    //# It responds with an unprotected N(TICKET_NACK) notification, if it
    //# rejects the ticket for any reason.
    pub(crate) fn refuse(&self, refusal: TicketRefusal) -> Verdict {
        let answer = self.first.answer(|payloads| {
            payloads.notify(&Notify::new(NotifyType::TICKET_NACK, &[]));
        });
        let reason = RejectReason::Ticket(refusal);
        Verdict::Refused { answer, reason }
    }

    /// Makes a half-open IKE SA with the keys that the old ones and the nonces give.
    pub(crate) fn accept(
        self,
        cx: &mut Context<'_>,
        arrival: Arrival,
        id: IkeSaId,
        responder_spi: IkeSpi,
        Opened { grant, candidates }: Opened,
    ) -> Verdict {
        let Grant {
            session,
            own_spi,
            reauthenticate,
            psk,
            ..
        } = grant;
        let Some(config) = candidates.first().cloned() else {
            return self.refuse(TicketRefusal::NoConfiguration);
        };
        let first = &self.first;
        let nr: [u8; NONCE_LEN] = cx.random();
        let terms = first.terms(cx, &config, &candidates, responder_spi, arrival);
        //= rfc5723#4.3.2
        //# The
        //# responder copies the SPIi value from the request, and the SPIr value
        //# is set to a new, unique value.
        let response = first.answer_with_spi(responder_spi, |payloads| {
            payloads.nonce(&nr);
            terms.write(cx, &config, payloads);
        });
        let Some(response) = response else {
            return Verdict::Dropped(DropReason::BadInit);
        };
        let unix = cx.shared.tickets.unix(cx.now).unwrap_or_default();
        let left = Duration::from_secs(reauthenticate.saturating_sub(unix));
        let reauthenticate = (reauthenticate != u64::MAX)
            .then(|| cx.now.checked_add(left))
            .flatten();
        let resumption = Resumption {
            local_id: session.local_id,
            remote_id: session.remote_id,
            ppk: session.ppk,
            auth: ResumptionAuth::default(),
            granted: Some(Granted {
                old: own_spi,
                reauthenticate,
                psk,
            }),
        };
        let agreed = Agreed {
            config,
            candidates,
            suite: session.suite,
            keying: Keying::Known(Skeyseed::resumed(&session.sk_d, first.nonce, &nr)),
            nr: &nr,
            response,
            terms,
            ppk: Stage::Unused,
            puzzle: None,
            resumption: Some(Box::new(resumption)),
        };
        self.first.half_open(cx, arrival, id, responder_spi, agreed)
    }
}
