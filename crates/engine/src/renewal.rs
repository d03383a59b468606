//! Renewing SAs before they end: rekeying in place (RFC 7296 section 2.8), or a
//! new IKE SA with new child SAs, made before the old ones go, where the
//! configuration or the peer wants authentication anew (RFC 4478) or rekeying
//! is refused.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cygnet_ike::{IkeSaId, Role};

use crate::commands::rekey_margin;
use crate::connection_state::{ConnectionId, Intent};
use crate::engine::{Engine, UnknownConnection};
use crate::timers::Timer;

/// The least time between two authentications that the peer can ask for. RFC 4478 section 5 leaves
/// such limits to the initiator: without one, a peer could keep us authenticating.
const MIN_AUTH_LIFETIME: Duration = Duration::from_secs(30);

/// How often it is looked whether an IKE SA whose time is over is still being rekeyed.
const REPRIEVE: Duration = Duration::from_secs(1);

impl Engine {
    /// Sets the timers of an established IKE SA. One without a connection is not renewed, and does not live for ever
    /// either.
    pub(crate) fn plan_lifetime(&mut self, now: Instant, ike: IkeSaId) {
        let Some(record) = self.ikes.get(&ike) else {
            return;
        };
        let Some(known) = &record.established else {
            return;
        };
        if let Some(ends) = known.ends {
            self.timers.set(ends, Timer::ExpireIke(ike));
        }
        let first = record.users.first().and_then(|id| self.connections.get(id));
        let Some(config) = first.map(|c| &c.config) else {
            return;
        };
        let initiator = known.role == Role::Initiator;
        let lifetime = config.ike.lifetime;
        let margin = rekey_margin(&config.child, lifetime, initiator, record.fuzz);
        let own = margin
            .and_then(|m| known.ends?.checked_sub(m))
            .filter(|at| *at > known.at);
        // Half of what is left, if the margin is longer than that.
        let asked = known.reauthenticate.map(|end| {
            let left = end.saturating_duration_since(now);
            let margin = margin.unwrap_or(config.child.rekey_margin);
            (end - margin.min(left / 2)).max(known.at + MIN_AUTH_LIFETIME)
        });
        if let Some(at) = own.into_iter().chain(asked).min() {
            self.timers.set(at, Timer::RenewIke(ike));
        }
    }

    /// The peer says how long it takes us for who we are.
    //= rfc4478#2
    //# An Initiator that received an AUTH_LIFETIME notification SHOULD
    //# repeat the Initial exchange within the time indicated in the
    //# notification.
    pub(crate) fn on_auth_lifetime(&mut self, now: Instant, ike: IkeSaId, lifetime: Duration) {
        if let Some(known) = &mut self.ike_record(ike).established {
            known.reauthenticate = Some(now + lifetime);
        }
        self.plan_lifetime(now, ike);
    }

    /// The time of an IKE SA is nearly over.
    pub(crate) fn renew_ike(&mut self, now: Instant, ike: IkeSaId) {
        let Some(record) = self.ikes.get(&ike) else {
            return;
        };
        let known = record.established.as_ref();
        let asked = known.is_some_and(|known| known.reauthenticate.is_some());
        let first = record.users.first().and_then(|id| self.connections.get(id));
        // What is being replaced already, and could not be the first time, is not rekeyed either.
        if record.retiring || asked || first.is_some_and(|c| c.config.ike.reauth) {
            self.replace(now, ike);
        } else {
            self.endpoint.rekey_ike(now, ike);
        }
    }

    /// The time of an IKE SA is over. It is not ended while its successor is being made, with which all that is under it
    /// would go; that takes as long as one exchange may, or the successor has not come about.
    pub(crate) fn expire_ike(&mut self, now: Instant, ike: IkeSaId) {
        if self.endpoint.is_rekeying(ike) {
            self.timers.set(now + REPRIEVE, Timer::ExpireIke(ike));
        } else {
            self.end_ike(now, ike);
        }
    }

    /// Makes new child SAs under a new IKE SA for all that is under this one, which goes with the last of them.
    pub(crate) fn replace(&mut self, now: Instant, ike: IkeSaId) {
        let Some(record) = self.ikes.get_mut(&ike) else {
            return;
        };
        if self.shutting_down {
            return;
        }
        let users = record.users.clone();
        let known = record.established.as_ref();
        let ours = known.is_some_and(|known| known.role == Role::Initiator);
        let renewable = |id: &ConnectionId| {
            self.connections.get(id).is_some_and(|c| {
                let can = c
                    .oriented
                    .as_ref()
                    .is_ok_and(|o| o.orientation.remote.is_some());
                // What nobody asks for any more, and nobody has taken down, is renewed by who has begun it.
                let wanted = ours || c.intent != Intent::Down;
                can && wanted && !c.unloaded && c.negotiating.is_none()
            })
        };
        let users: Vec<ConnectionId> = users.into_iter().filter(renewable).collect();
        if users.is_empty() {
            return;
        }
        self.ike_record(ike).retiring = true;
        for id in users {
            if let Some(c) = self.connections.get_mut(&id) {
                c.replacing = Some(ike);
            }
            self.initiate(now, id, None);
        }
    }

    /// Renews the child SAs of a connection now, or the IKE SAs that they are under. Tells how many.
    ///
    /// # Errors
    /// [`UnknownConnection`].
    pub fn rekey(
        &mut self,
        now: Instant,
        name: &str,
        ike: bool,
    ) -> Result<usize, UnknownConnection> {
        let id = self.find(name)?;
        let children = match self.connections.get(&id) {
            Some(c) => c.children.clone(),
            None => Vec::new(),
        };
        let infos = children
            .iter()
            .filter_map(|child| self.endpoint.child_sa(*child));
        let ikes: BTreeSet<IkeSaId> = infos.map(|info| info.ike).collect();
        let count = if ike { ikes.len() } else { children.len() };
        if ike {
            for ike in ikes {
                self.renew_ike(now, ike);
            }
        } else {
            for child in children {
                self.endpoint.rekey_child(now, child);
            }
        }
        self.drain_endpoint(now);
        Ok(count)
    }
}
