//! One IKE SA, and one child SA of a kind, between the same two ends:
//! `uniqueids=`, and what both ends have begun at the same time.

use std::time::{Duration, Instant};

use cygnet_ike::{ChildSaId, ChildSaInfo, IkeSaId, IkeSaState, Role, Uniqueness};

use crate::clones::is_clone;
use crate::connection_state::ConnectionId;
use crate::engine::Engine;
use crate::timers::Timer;

/// Time for which an IKE SA outlives the one that replaces it: packets under its child SAs are still on their way, and
/// the peer may be about to end it itself.
const OVERLAP: Duration = Duration::from_secs(10);

/// So much longer the end waits that is to hear from the other one which of two IKE SAs goes: for the repetitions of a
/// Delete that is lost.
const DEFERENCE: Duration = Duration::from_secs(20);

/// Of two IKE SAs that were established within this time, one begun by each end, the ends may disagree which is the
/// younger: messages may be that old when they come.
const AT_ONCE: Duration = Duration::from_secs(60);

impl Engine {
    /// A connection has a new child SA that is no successor of another one: what else does the same is not needed.
    pub(crate) fn enforce_uniqueness(
        &mut self,
        now: Instant,
        new: IkeSaId,
        id: ConnectionId,
        child: ChildSaId,
    ) {
        if self.setup.uniqueness != Uniqueness::Replace {
            return;
        }
        self.resolve_crossing(now, new, id);
        self.resolve_duplicates(now, id, child);
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        let remote = self.remote_id(new);
        let others = c.ikes.iter().copied().filter(|other| *other != new);
        let redundant: Vec<IkeSaId> = others
            .filter(|other| remote.is_some() && self.remote_id(*other) == remote)
            .collect();
        for other in redundant {
            match self.outranks(new, other) {
                true => self.overlap(now, other, new),
                false => self.overlap(now, new, other),
            }
        }
    }

    /// Which of two IKE SAs with the same peer stays: the younger one. Of two that the two ends have begun at the same time
    /// each end may have another one first, and both must leave the same one: it is the one of
    /// [`Engine::resolve_crossing`].
    fn outranks(&self, one: IkeSaId, other: IkeSaId) -> bool {
        let infos = (self.endpoint.ike_sa(one), self.endpoint.ike_sa(other));
        let (Some(one), Some(other)) = infos else {
            return true;
        };
        let crossed = one.role != other.role
            && other.established.is_none_or(|at| one.created < at)
            && one.established.is_none_or(|at| other.created < at);
        match crossed {
            true => one.initiator_spi > other.initiator_spi,
            false => one.established > other.established,
        }
    }

    /// Something that an IKE SA does another one does too: it goes when nothing is on its way any more under its child
    /// SAs.
    pub(crate) fn overlap(&mut self, now: Instant, old: IkeSaId, heir: IkeSaId) {
        let timer = Timer::Redundant(old);
        let wait = match self.defers(old, heir) {
            true => OVERLAP + DEFERENCE,
            false => OVERLAP,
        };
        if self.timers.due(timer).is_none()
            && let Some(record) = self.ikes.get_mut(&old)
        {
            record.heir = Some(heir);
            self.timers.set(now + wait, timer);
        }
    }

    /// Whether the peer is to end one of two IKE SAs first. Where the ends may disagree which of them is to go, they must
    /// not end one each: who has begun the one with the larger SPI ends what it takes for the older one, and the other end
    /// keeps what is left.
    fn defers(&self, one: IkeSaId, other: IkeSaId) -> bool {
        let infos = (self.endpoint.ike_sa(one), self.endpoint.ike_sa(other));
        let (Some(one), Some(other)) = infos else {
            return false;
        };
        let apart = match (one.established, other.established) {
            (Some(one), Some(other)) => one.max(other) - one.min(other),
            _ => Duration::ZERO,
        };
        let leads = match one.initiator_spi > other.initiator_spi {
            true => one.role,
            false => other.role,
        };
        one.role != other.role && apart < AT_ONCE && leads == Role::Responder
    }

    /// An IKE SA that another one is to go for, or that is to go itself, is another one now.
    pub(crate) fn succeed_redundant(&mut self, from: IkeSaId, to: IkeSaId) {
        for record in self.ikes.values_mut() {
            if record.heir == Some(from) {
                record.heir = Some(to);
            }
        }
        if let Some(at) = self.timers.due(Timer::Redundant(from)) {
            let heir = self.ikes.get(&from).and_then(|record| record.heir);
            self.ike_record(to).heir = heir;
            self.timers.set(at, Timer::Redundant(to));
        }
    }

    /// Both ends may have begun an IKE SA at the same time. Both then see the same two initiators' SPIs, and the one
    /// with the smaller SPI gives up what it has begun. Where the peer has another rule, [`OVERLAP`] ends the older one.
    fn resolve_crossing(&mut self, now: Instant, new: IkeSaId, id: ConnectionId) {
        let negotiating = self.connections.get(&id).and_then(|c| c.negotiating);
        let Some(own) = negotiating.filter(|own| *own != new) else {
            return;
        };
        let (ours, theirs) = (self.endpoint.ike_sa(own), self.endpoint.ike_sa(new));
        let state = ours.as_ref().map(|ours| ours.state);
        let is_further_child = state == Some(IkeSaState::Established);
        // What has not been answered yet the peer cannot have established: nobody loses anything.
        if (is_further_child || state == Some(IkeSaState::Authenticating))
            && let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours.initiator_spi > theirs.initiator_spi
        {
            return;
        }
        if is_further_child {
            // The IKE SA may serve others; only what was begun under it is given up.
            if let Some(c) = self.connections.get_mut(&id) {
                c.negotiating = None;
                c.replacing = None;
                if let Some(child) = c.pending.take() {
                    self.endpoint.delete_child(now, child);
                }
            }
            return;
        }
        // Who waited for it goes where the peer has gone.
        let others = self.negotiating_with(own);
        for other in &others {
            if let Some(c) = self.connections.get_mut(other) {
                c.negotiating = None;
                c.replacing = None;
            }
        }
        self.end_ike(now, own);
        for other in others.into_iter().filter(|other| *other != id) {
            self.reconcile(now, other);
        }
    }

    /// Both ends may have made the same child SA at the same time, under one IKE SA. The one with the smallest SPI of
    /// the four goes, and who has made it sees to that.
    fn resolve_duplicates(&mut self, now: Instant, id: ConnectionId, child: ChildSaId) {
        let Some(new) = self.endpoint.child_sa(child) else {
            return;
        };
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        let same = |other: &ChildSaInfo| {
            other.id != new.id
                && !is_clone(other.resource)
                && (other.ike, other.initiator) == (new.ike, !new.initiator)
                && other.replaces.is_none()
                && (&other.ts_local, &other.ts_remote) == (&new.ts_local, &new.ts_remote)
        };
        let smallest = |info: &ChildSaInfo| info.spi_in.min(info.spi_out);
        let mut infos = c
            .children
            .iter()
            .filter_map(|other| self.endpoint.child_sa(*other));
        let Some(other) = infos.find(same) else {
            return;
        };
        match smallest(&new) < smallest(&other) {
            true if new.initiator => self.endpoint.delete_child(now, new.id),
            // The peer has yet to hear that the younger one stands.
            false if other.initiator => {
                let timer = Timer::Duplicate(other.id);
                self.timers.set(now + OVERLAP, timer);
            }
            _ => {}
        }
    }

    /// A successor of a child SA is made: it is the one to go if its predecessor was to.
    pub(crate) fn succeed_duplicate(&mut self, now: Instant, from: ChildSaId, to: ChildSaId) {
        if self.timers.due(Timer::Duplicate(from)).is_some() {
            self.timers.clear(Timer::Duplicate(from));
            self.timers.set(now + OVERLAP, Timer::Duplicate(to));
        }
    }

    /// The peer has had time to install the child SA that was made at the same time as this one.
    pub(crate) fn on_duplicate(&mut self, now: Instant, child: ChildSaId) {
        let Some(record) = self.children.get(&child) else {
            return;
        };
        let mut others = self.children.iter();
        let stays = others.any(|(id, other)| {
            *id != child
                && (other.connection, &other.policies) == (record.connection, &record.policies)
                && self.endpoint.child_sa(*id).is_some()
        });
        if stays {
            self.endpoint.delete_child(now, child);
        }
    }

    /// The overlap of an IKE SA with another one is over: whoever has a child SA elsewhere leaves it. If what it was to go
    /// for is gone, what has taken that one's place gets the same time.
    pub(crate) fn on_redundant(&mut self, now: Instant, ike: IkeSaId) {
        let Some(record) = self.ikes.get_mut(&ike) else {
            return;
        };
        let (heir, users) = (record.heir.take(), record.users.clone());
        let remote = self.remote_id(ike);
        let elsewhere = |id: &ConnectionId| {
            let children = self.connections.get(id)?.children.iter();
            let mut others = children.filter_map(|child| Some(self.endpoint.child_sa(*child)?.ike));
            others.find(|other| *other != ike && self.remote_id(*other) == remote)
        };
        let served = users.iter().filter_map(|id| Some((*id, elsewhere(id)?)));
        let served: Vec<(ConnectionId, IkeSaId)> = served.collect();
        if heir.is_none_or(|heir| !self.ikes.contains_key(&heir)) {
            if let Some((_, other)) = served.first() {
                self.overlap(now, ike, *other);
            }
            return;
        }
        for (id, _) in served {
            self.leave(now, ike, id);
        }
    }
}
