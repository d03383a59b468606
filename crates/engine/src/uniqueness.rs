//! One IKE SA, and one child SA of a kind, between the same two ends:
//! `uniqueids=`, and what both ends have begun at the same time.

use std::time::{Duration, Instant};

use cygnet_ike::{ChildSaId, ChildSaInfo, IkeSaId, IkeSaState, Uniqueness};

use crate::connection_state::ConnectionId;
use crate::engine::Engine;
use crate::timers::Timer;

/// Time for which an IKE SA outlives the one that replaces it: packets under its child SAs are still on their way, and
/// the peer may be about to end it itself.
const OVERLAP: Duration = Duration::from_secs(10);

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
            self.overlap(now, other);
        }
    }

    /// Something that an IKE SA does another one does too: it goes when nothing is on its way any more under its child
    /// SAs.
    pub(crate) fn overlap(&mut self, now: Instant, old: IkeSaId) {
        let timer = Timer::Redundant(old);
        if self.timers.due(timer).is_none() {
            self.timers.set(now + OVERLAP, timer);
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
        let is_further_child = ours
            .as_ref()
            .is_some_and(|o| o.state == IkeSaState::Established);
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            // What has not been answered yet the peer cannot have established: nobody loses anything.
            && ours.state == IkeSaState::Authenticating
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
        let loser = if smallest(&other) < smallest(&new) {
            &other
        } else {
            &new
        };
        if loser.initiator {
            self.endpoint.delete_child(now, loser.id);
        }
    }

    /// The overlap of an IKE SA with a younger one is over: whoever has another one leaves it.
    pub(crate) fn on_redundant(&mut self, now: Instant, ike: IkeSaId) {
        let Some(record) = self.ikes.get(&ike) else {
            return;
        };
        let remote = self.remote_id(ike);
        let elsewhere = |id: &ConnectionId| {
            let children = self.connections.get(id).map(|c| c.children.iter());
            children.into_iter().flatten().any(|child| {
                let other = self.endpoint.child_sa(*child).map(|info| info.ike);
                other.is_some_and(|other| other != ike && self.remote_id(other) == remote)
            })
        };
        let served: Vec<ConnectionId> = record.users.iter().copied().filter(elsewhere).collect();
        for id in served {
            self.leave(now, ike, id);
        }
    }
}
