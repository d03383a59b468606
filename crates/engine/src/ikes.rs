//! What the engine knows of each IKE SA: whom it serves, how long it lives, and
//! which of several between the same two ends stays.

use std::time::{Duration, Instant};

use cygnet_ike::{Identity, IkeSaId, IkeSaInfo, IkeSaState, Role, Uniqueness};

use crate::commands::rekey_margin;
use crate::connection::DeadPeerAction;
use crate::connection_state::{ConnectionId, Intent};
use crate::engine::Engine;
use crate::timers::Timer;

/// Time for which an IKE SA outlives the one that replaces it by `uniqueids=`: the peer may be
/// renewing it and about to end it itself.
const OVERLAP: Duration = Duration::from_secs(10);

/// The least time between two authentications that the peer can ask for. RFC 4478 section 5 leaves
/// such limits to the initiator: without one, a peer could keep us authenticating.
const MIN_AUTH_LIFETIME: Duration = Duration::from_secs(30);

/// What the engine knows of an IKE SA.
#[derive(Clone, Debug)]
pub(crate) struct Ike {
    /// The connection that it was made for or that its first child belongs to.
    pub(crate) connection: Option<ConnectionId>,
    /// Random: how much earlier than others it is renewed.
    fuzz: u32,
    established: Option<Established>,
}

/// What is known of an IKE SA once the peer is authenticated.
#[derive(Clone, Debug)]
struct Established {
    at: Instant,
    role: Role,
    remote_id: Option<Identity>,
    /// The configured end of its life.
    ends: Option<Instant>,
    /// When the peer wants to be authenticated to anew (RFC 4478).
    reauthenticate: Option<Instant>,
}

impl Engine {
    /// What is known of an IKE SA, from the first time that anything is.
    fn ike_record(&mut self, ike: IkeSaId) -> &mut Ike {
        let fuzz = if self.ikes.contains_key(&ike) {
            0
        } else {
            self.random()
        };
        self.ikes.entry(ike).or_insert(Ike {
            connection: None,
            fuzz,
            established: None,
        })
    }

    /// Says which connection an IKE SA serves, if that is not known yet.
    pub(crate) fn assign_ike(&mut self, now: Instant, ike: IkeSaId, id: ConnectionId) {
        let record = self.ike_record(ike);
        if record.connection.is_some() {
            return;
        }
        record.connection = Some(id);
        if let Some(c) = self.connections.get_mut(&id) {
            c.ikes.insert(ike);
        }
        self.plan_lifetime(now, ike);
    }

    /// The connection that is to come up with this IKE SA.
    pub(crate) fn negotiating_with(&self, ike: IkeSaId) -> Option<ConnectionId> {
        let id = self.ikes.get(&ike)?.connection?;
        (self.connections.get(&id)?.negotiating == Some(ike)).then_some(id)
    }

    pub(crate) fn forget_ike(&mut self, ike: IkeSaId) {
        for timer in [
            Timer::ReplaceIke(ike),
            Timer::ExpireIke(ike),
            Timer::Redundant(ike),
        ] {
            self.timers.clear(timer);
        }
        let connection = self.ikes.remove(&ike).and_then(|record| record.connection);
        if let Some(c) = connection.and_then(|id| self.connections.get_mut(&id)) {
            c.ikes.remove(&ike);
            if c.replacing == Some(ike) {
                c.replacing = None;
            }
        }
    }

    pub(crate) fn on_ike_established(&mut self, now: Instant, ike: IkeSaId, info: &IkeSaInfo) {
        let lifetime = info.config.as_ref().and_then(|c| c.lifetime);
        // What was said of the authentication holds for the successor too, which has none of its own.
        let predecessor = info.replaces.and_then(|old| self.ikes.get(&old));
        let connection = predecessor.and_then(|old| old.connection);
        let reauthenticate = predecessor
            .and_then(|old| old.established.as_ref())
            .and_then(|old| old.reauthenticate);
        self.ike_record(ike).established = Some(Established {
            at: now,
            role: info.role,
            remote_id: info.remote_id.clone(),
            ends: lifetime.map(|lifetime| now + lifetime),
            reauthenticate,
        });
        if let Some(connection) = connection {
            self.assign_ike(now, ike, connection);
        }
        self.plan_lifetime(now, ike);
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

    /// Sets the timers of an established IKE SA. One without a connection is not renewed, and does not live for ever
    /// either.
    fn plan_lifetime(&mut self, now: Instant, ike: IkeSaId) {
        let Some(record) = self.ikes.get(&ike) else {
            return;
        };
        let Some(known) = &record.established else {
            return;
        };
        if let Some(ends) = known.ends {
            self.timers.set(ends, Timer::ExpireIke(ike));
        }
        let connection = record.connection.and_then(|id| self.connections.get(&id));
        let Some(config) = connection.map(|c| &c.config) else {
            return;
        };
        let initiator = known.role == Role::Initiator;
        let margin = rekey_margin(&config.child, initiator, record.fuzz);
        let own = margin
            .and_then(|m| known.ends?.checked_sub(m))
            .filter(|at| *at > known.at);
        // Half of what is left, if the margin is longer than that.
        let asked = known.reauthenticate.map(|end| {
            let left = end.saturating_duration_since(now);
            let at = end - margin.unwrap_or(config.child.rekey_margin).min(left / 2);
            at.max(known.at + MIN_AUTH_LIFETIME)
        });
        if let Some(at) = own.into_iter().chain(asked).min() {
            self.timers.set(at, Timer::ReplaceIke(ike));
        }
    }

    /// The peer of a connection does not answer any more (`dpdaction`).
    pub(crate) fn on_dead_peer(&mut self, id: ConnectionId) {
        let Some(c) = self.connections.get_mut(&id).filter(|c| !c.unloaded) else {
            return;
        };
        c.intent = match c.config.ike.dead_peer {
            None => c.intent,
            Some(DeadPeerAction::Clear) => c.config.start.resting(),
            Some(DeadPeerAction::Trap) => Intent::OnDemand,
            Some(DeadPeerAction::Restart) => Intent::Up,
        };
    }

    /// A connection has a new child SA: other IKE SAs that do the same are not needed (`uniqueids=`).
    pub(crate) fn enforce_uniqueness(&mut self, now: Instant, new: IkeSaId, id: ConnectionId) {
        if self.setup.uniqueness != Uniqueness::Replace {
            return;
        }
        self.resolve_crossing(now, new, id);
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        let remote = self.remote_id(new);
        let others = c.ikes.iter().copied().filter(|other| *other != new);
        let redundant: Vec<IkeSaId> = others
            .filter(|other| remote.is_some() && self.remote_id(*other) == remote)
            .filter(|other| self.timers.due(Timer::Redundant(*other)).is_none())
            .collect();
        for other in redundant {
            self.timers.set(now + OVERLAP, Timer::Redundant(other));
        }
    }

    fn remote_id(&self, ike: IkeSaId) -> Option<&Identity> {
        self.ikes
            .get(&ike)?
            .established
            .as_ref()?
            .remote_id
            .as_ref()
    }

    /// Both ends may have begun at the same time. Both then see the same two initiators' SPIs, and the one with the
    /// smaller SPI gives up what it has begun. Where the peer has another rule, [`OVERLAP`] ends the older one.
    fn resolve_crossing(&mut self, now: Instant, new: IkeSaId, id: ConnectionId) {
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        let Some(own) = c.negotiating else {
            return;
        };
        let (ours, theirs) = (self.endpoint.ike_sa(own), self.endpoint.ike_sa(new));
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            // What has not been answered yet the peer cannot have established: nobody loses anything.
            && ours.state != IkeSaState::Initiating
            && ours.initiator_spi > theirs.initiator_spi
        {
            return;
        }
        if let Some(c) = self.connections.get_mut(&id) {
            c.negotiating = None;
            c.replacing = None;
        }
        self.endpoint.delete_ike(now, own);
    }

    /// The overlap of an IKE SA with a younger one is over: it goes if another one still does the same.
    pub(crate) fn on_redundant(&mut self, now: Instant, ike: IkeSaId) {
        let connection = self.ikes.get(&ike).and_then(|record| record.connection);
        let Some(c) = connection.and_then(|id| self.connections.get(&id)) else {
            return;
        };
        let remote = self.remote_id(ike);
        let serves = |child: &cygnet_ike::ChildSaId| {
            let other = self.endpoint.child_sa(*child).map(|info| info.ike);
            other.is_some_and(|other| other != ike && self.remote_id(other) == remote)
        };
        if c.children.iter().any(serves) {
            self.endpoint.delete_ike(now, ike);
        }
    }
}
