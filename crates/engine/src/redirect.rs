//! Redirections (RFC 5685): following a gateway that sends us to another one,
//! and sending the peers of a connection elsewhere.
//!
//! A redirection counts for one attempt: what fails with the new gateway, or
//! ends there, begins again with the one that is configured. The new gateway
//! has to prove to be the peer that the configuration names, as the old one had.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cygnet_ike::{Gateway, IkeSaId, IkeSaState};

use crate::connection_state::{ConnectionId, Intent};
use crate::engine::{Engine, UnknownConnection, Waiting};
use crate::event::Event;
use crate::io::{Answer, Request, RequestId, ResolveQuery};

/// Redirections of a connection that are followed within [`LOOP_DETECT_PERIOD`].
//= rfc5685#7
//# The default value for the MAX_REDIRECTS
//# configuration variable is 5.
const MAX_REDIRECTS: usize = 5;

/// See [`MAX_REDIRECTS`].
//= rfc5685#7
//# The default value for the
//# REDIRECT_LOOP_DETECT_PERIOD configuration variable is 300 seconds.
const LOOP_DETECT_PERIOD: Duration = Duration::from_secs(300);

/// The redirections of a connection.
#[derive(Debug, Default)]
pub(crate) struct Redirects {
    /// When the last ones were followed; no more than [`MAX_REDIRECTS`].
    followed: VecDeque<Instant>,
    /// Where the next attempt goes, and which gateway has said so.
    next: Option<(IpAddr, IpAddr)>,
    /// The name of a gateway is looked up.
    pending: Option<RequestId>,
}

impl Redirects {
    /// Whether one more may be followed now. If so, it counts.
    //= rfc5685#7
    //# To prevent this, the client SHOULD be configured to not
    //# accept more than a certain number of redirects (MAX_REDIRECTS) within
    //# a short time period (REDIRECT_LOOP_DETECT_PERIOD) for a particular
    //# IKEv2 SA setup.
    fn count(&mut self, now: Instant) -> bool {
        let recent = |at: &Instant| now.saturating_duration_since(*at) < LOOP_DETECT_PERIOD;
        self.followed.retain(recent);
        let may = self.followed.len() < MAX_REDIRECTS;
        if may {
            self.followed.push_back(now);
        }
        may
    }

    /// The address of a gateway is awaited: nothing else is tried meanwhile.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Where this attempt goes and who has said so, if not where the configuration says.
    pub(crate) fn take(&mut self) -> Option<(IpAddr, IpAddr)> {
        self.next.take()
    }

    /// Nobody wants to go anywhere any more. What has been followed still counts.
    pub(crate) fn cancel(&mut self) {
        self.next = None;
        self.pending = None;
    }
}

impl Engine {
    /// A gateway sends a connection elsewhere, and the protocol has found that we may go there.
    pub(crate) fn on_redirected(
        &mut self,
        now: Instant,
        id: ConnectionId,
        to: Gateway,
        from: IpAddr,
    ) {
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        c.negotiating = None;
        c.pending = None;
        if c.unloaded || self.shutting_down || c.intent == Intent::Down {
            return self.reconcile(now, id);
        }
        if !c.redirects.count(now) {
            let text = format!(
                "{from} sends us to {to}, the {}th redirection in {} s",
                MAX_REDIRECTS + 1,
                LOOP_DETECT_PERIOD.as_secs()
            );
            return self.attempt_failed(now, id, "redirect_loop", text, true);
        }
        let connection = c.name.clone();
        self.tell(Event::Redirected {
            connection,
            from,
            to: to.clone(),
        });
        match to {
            Gateway::Address(to) => self.go_to(now, id, to, from),
            Gateway::Name(name) => {
                let query = ResolveQuery::Name(name.clone());
                let waiting = Waiting::Gateway {
                    connection: id,
                    name,
                    from,
                };
                let request = self.ask(Request::Resolve(query), waiting);
                if let Some(c) = self.connections.get_mut(&id) {
                    c.redirects.pending = Some(request);
                }
            }
        }
    }

    /// The name of a gateway has been looked up.
    pub(crate) fn on_gateway(
        &mut self,
        now: Instant,
        request: RequestId,
        (id, name, from): (ConnectionId, String, IpAddr),
        answer: Answer,
    ) {
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        if c.redirects.pending != Some(request) {
            return;
        }
        c.redirects.pending = None;
        let found = match answer {
            Answer::Addresses(addresses) => addresses,
            _ => Vec::new(),
        };
        let local = c.oriented.as_ref().ok().map(|o| o.orientation.local);
        let accept = &c.config.ike.accept_redirect;
        let fits = |address: &&IpAddr| {
            local.is_none_or(|local| local.is_ipv4() == address.is_ipv4())
                && accept.permits_resolved(&name, **address)
        };
        if let Some(to) = found.iter().find(fits) {
            return self.go_to(now, id, *to, from);
        }
        let text = format!("{from} sends us to {name}, which has no address that we may use");
        self.attempt_failed(now, id, "redirect_unresolved", text, true);
    }

    /// Begins with the gateway at this address.
    //= rfc5685#3
    //# Receiving a redirect notification MUST NOT result in the modification
    //# of any PAD or SPD entries.
    fn go_to(&mut self, now: Instant, id: ConnectionId, to: IpAddr, from: IpAddr) {
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        let local = c.oriented.as_ref().ok().map(|o| o.orientation.local);
        let reachable = local.is_none_or(|local| local.is_ipv4() == to.is_ipv4());
        if !reachable || self.known.ours.contains(&to) {
            let text = format!("{from} sends us to {to}, where we cannot go from here");
            return self.attempt_failed(now, id, "redirect_unusable", text, true);
        }
        c.redirects.next = Some((to, from));
        self.initiate(now, id, None);
    }

    /// Sends the peers of a connection, or with `None` all peers, to another gateway (RFC 5685 section 5). The number
    /// of those that are told; the others have not begun their IKE SA, or not said that they go where they are sent.
    ///
    /// # Errors
    /// If there is no such connection.
    pub fn redirect(
        &mut self,
        now: Instant,
        connection: Option<&str>,
        to: &Gateway,
    ) -> Result<usize, UnknownConnection> {
        let id = connection.map(|name| self.find(name)).transpose()?;
        let ikes: Vec<IkeSaId> = match id {
            Some(id) => {
                let c = self.connections.get(&id);
                c.map(|c| c.ikes.iter().copied().collect())
                    .unwrap_or_default()
            }
            None => self
                .endpoint
                .ike_sas()
                .filter(|info| info.state == IkeSaState::Established)
                .map(|info| info.id)
                .collect(),
        };
        let mut told = 0;
        for ike in ikes {
            told += usize::from(self.endpoint.redirect(now, ike, to.clone()));
        }
        self.drain_endpoint(now);
        Ok(told)
    }
}
