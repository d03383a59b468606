//! Sessions whose peer was lost are resumed (RFC 5723).
//!
//! The endpoint leaves a ticket over when an IKE SA ends without having been deleted. The next attempt of one of its
//! connections uses it, and what does not succeed in that way goes on with a full exchange at once. A peer that is silent
//! may be unreachable, or not know what a ticket is: then the ticket is tried in every other attempt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::SecretBytes;
use cygnet_ike::{
    FailureReason, IkeSaId, IkeSaInfo, Party, PeerConfig, ResumptionAuth, Ticket, TicketKeys,
};
use cygnet_wire::ExchangeType;

use crate::connection_state::{ConnectionId, Intent, State};
use crate::engine::Engine;

/// Tickets that are kept. Beyond that the oldest ones are forgotten.
const MAX_TICKETS: usize = 65_536;

/// What is left of lost IKE SAs.
#[derive(Debug, Default)]
pub(crate) struct Resumptions {
    /// By the IKE SA that was lost.
    tickets: BTreeMap<IkeSaId, Arc<Ticket>>,
    /// Those that are being used, by the IKE SA that is to be made, with the one that was lost.
    attempts: BTreeMap<IkeSaId, (IkeSaId, Arc<Ticket>)>,
}

/// What a connection knows of it.
#[derive(Debug, Default)]
pub(crate) struct Resumable {
    /// The IKE SA that was lost.
    lost: Option<IkeSaId>,
    /// The peer was silent last time: this time it is not asked.
    silent: bool,
    /// How it wants to be shown who we are, as far as that is known.
    auth: ResumptionAuth,
}

impl Engine {
    /// See [`Endpoint::set_crash_secrets`](cygnet_ike::Endpoint::set_crash_secrets).
    pub fn set_crash_secrets(&mut self, secrets: Vec<SecretBytes>) {
        self.options.crash_secrets.clone_from(&secrets);
        self.endpoint.set_crash_secrets(secrets);
    }

    /// See [`Endpoint::set_ticket_keys`](cygnet_ike::Endpoint::set_ticket_keys).
    pub fn set_ticket_keys(&mut self, keys: Option<TicketKeys>) {
        self.endpoint.set_ticket_keys(keys);
    }

    /// Whether any connection resumes sessions, so that keys for tickets are of use.
    pub fn resumes_sessions(&self) -> bool {
        let resumes = |c: &State| c.config.ike.resumption && !c.unloaded;
        self.connections.values().any(resumes)
    }

    /// Whether the next attempt of a connection may resume a session.
    pub(crate) fn is_resumable(&self, c: &State, now: Instant) -> bool {
        let ticket = c
            .resumable
            .lost
            .and_then(|lost| self.resumptions.tickets.get(&lost));
        ticket.is_some_and(|ticket| now < ticket.expires())
    }

    /// An IKE SA is lost, and a ticket is left.
    pub(crate) fn keep_ticket(
        &mut self,
        now: Instant,
        ike: IkeSaId,
        info: &IkeSaInfo,
        ticket: Arc<Ticket>,
    ) {
        let users = info.config.as_ref().map(|peer| peer.children.iter());
        let mut wanted = false;
        for child in users.into_iter().flatten() {
            let id = ConnectionId(child.tag);
            let c = self.connections.get_mut(&id);
            if let Some(c) = c.filter(|c| c.config.ike.resumption && !c.unloaded) {
                c.resumable.lost = Some(ike);
                c.resumable.silent = false;
                wanted = true;
            }
        }
        if !wanted || self.shutting_down {
            return;
        }
        let tickets = &mut self.resumptions.tickets;
        tickets.retain(|_, ticket| now < ticket.expires());
        tickets.insert(ike, ticket);
        while tickets.len() > MAX_TICKETS {
            tickets.pop_first();
        }
    }

    /// The ticket that an attempt of a connection is to use.
    pub(crate) fn take_ticket(
        &mut self,
        now: Instant,
        id: ConnectionId,
        peer: &PeerConfig,
    ) -> Option<(IkeSaId, Arc<Ticket>, ResumptionAuth)> {
        let resumable = &mut self.connections.get_mut(&id)?.resumable;
        let lost = resumable.lost?;
        if std::mem::take(&mut resumable.silent) {
            return None;
        }
        resumable.lost = None;
        let auth = resumable.auth;
        // It serves once, whichever of the connections comes first.
        //= rfc5723#4.3.1
        //# Tickets are intended for one-time use, i.e., a client MUST NOT reuse a
        //# ticket.
        let ticket = self.resumptions.tickets.remove(&lost)?;
        ticket.fits(now, peer).then_some((lost, ticket, auth))
    }

    /// An attempt uses a ticket.
    pub(crate) fn note_resumption(&mut self, ike: IkeSaId, lost: IkeSaId, ticket: Arc<Ticket>) {
        self.resumptions.attempts.insert(ike, (lost, ticket));
    }

    /// An IKE SA is established: what was lost before is over.
    pub(crate) fn end_resumption(&mut self, ike: IkeSaId) {
        self.resumptions.attempts.remove(&ike);
        let users = self.ikes.get(&ike).map(|record| record.users.clone());
        for id in users.unwrap_or_default() {
            self.forget_ticket(id);
        }
    }

    /// A connection does not want to resume anything.
    pub(crate) fn forget_ticket(&mut self, id: ConnectionId) {
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        c.resumable.silent = false;
        if let Some(lost) = c.resumable.lost.take() {
            self.resumptions.tickets.remove(&lost);
        }
    }

    /// The credentials may not be what they were.
    pub(crate) fn forget_tickets(&mut self) {
        self.resumptions.tickets.clear();
        self.endpoint.forget_tickets();
    }

    /// An IKE SA has failed. If a session was to be resumed with it, the connections go on with a full exchange, and true
    /// is returned.
    pub(crate) fn on_resumption_failed(
        &mut self,
        now: Instant,
        ike: IkeSaId,
        reason: &FailureReason,
    ) -> bool {
        let Some((lost, ticket)) = self.resumptions.attempts.remove(&ike) else {
            return false;
        };
        if matches!(
            reason,
            FailureReason::Cancelled | FailureReason::Redirected { .. }
        ) {
            return false;
        }
        let silent = matches!(
            reason,
            FailureReason::NoResponse {
                exchange: ExchangeType::IKE_SESSION_RESUME,
                ..
            }
        );
        let by_peer = matches!(
            reason,
            FailureReason::AuthenticationFailed {
                by: Party::Peer,
                ..
            }
        );
        let users = self.negotiating_with(ike);
        self.forget_ike(ike);
        //= rfc5723#4.3.1
        //# Note
        //# that a ticket is considered as used only when an IKE SA has been
        //# established successfully with it.
        if silent {
            self.resumptions.tickets.insert(lost, ticket);
        }
        for id in users {
            let Some(c) = self.connections.get_mut(&id) else {
                continue;
            };
            c.negotiating = None;
            c.pending = None;
            if silent {
                c.resumable.lost = Some(lost);
                c.resumable.silent = true;
            }
            if by_peer {
                c.resumable.auth = c.resumable.auth.other();
            }
            if c.unloaded || self.shutting_down || c.intent == Intent::Down {
                self.reconcile(now, id);
            } else {
                self.initiate(now, id, None);
            }
        }
        true
    }
}
