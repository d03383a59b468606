//! What the engine knows of each IKE SA: which connections share it, and how
//! long it lives.
//!
//! Connections whose IKE halves say the same share one IKE SA, as libreswan and
//! strongSwan have it: the first makes it, the others make their child SAs under
//! it, and it goes with the last of them.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use cygnet_ike::{
    AcquireHint, ChildRequest, ChildSaId, Identity, IkeSaId, IkeSaInfo, IkeSaState, PeerConfig,
    Role,
};

use crate::connection_state::{ConnectionId, Intent};
use crate::directory::same_peer;
use crate::engine::Engine;
use crate::timers::Timer;

/// What the engine knows of an IKE SA.
#[derive(Clone, Debug)]
pub(crate) struct Ike {
    /// The connections that have or want a child SA under it, in the order in which they came.
    pub(crate) users: Vec<ConnectionId>,
    /// Those of them that wait for it to be established, and the packets that brought them.
    waiting: VecDeque<(ConnectionId, Option<AcquireHint>)>,
    /// With whom it is.
    peer: Option<Arc<PeerConfig>>,
    /// No more child SAs are made under it: it is being replaced, or the peer takes no more.
    pub(crate) retiring: bool,
    /// Random: how much earlier than others it is renewed.
    pub(crate) fuzz: u32,
    pub(crate) established: Option<Established>,
    /// The IKE SA for which it is to go ([`Timer::Redundant`]).
    pub(crate) heir: Option<IkeSaId>,
}

/// What is known of an IKE SA once the peer is authenticated.
#[derive(Clone, Debug)]
pub(crate) struct Established {
    pub(crate) at: Instant,
    pub(crate) role: Role,
    pub(crate) remote_id: Option<Identity>,
    /// The configured end of its life.
    pub(crate) ends: Option<Instant>,
    /// When the peer wants to be authenticated to anew (RFC 4478).
    pub(crate) reauthenticate: Option<Instant>,
}

/// What IKE SAs with one peer have in common, before they are compared in full.
pub(crate) type PeerKey = (String, Vec<IpAddr>);

/// See [`PeerKey`].
pub(crate) fn peer_key(peer: &PeerConfig) -> PeerKey {
    (peer.remote_id.to_string(), peer.remote.clone())
}

impl Engine {
    /// What is known of an IKE SA, from the first time that anything is.
    pub(crate) fn ike_record(&mut self, ike: IkeSaId) -> &mut Ike {
        let fuzz = if self.ikes.contains_key(&ike) {
            0
        } else {
            self.random()
        };
        self.ikes.entry(ike).or_insert(Ike {
            users: Vec::new(),
            waiting: VecDeque::new(),
            peer: None,
            retiring: false,
            fuzz,
            established: None,
            heir: None,
        })
    }

    /// Notes with whom an IKE SA is.
    pub(crate) fn know_peer(&mut self, ike: IkeSaId, peer: Arc<PeerConfig>) {
        self.by_peer.entry(peer_key(&peer)).or_default().insert(ike);
        self.ike_record(ike).peer = Some(peer);
    }

    /// A connection has or wants a child SA under an IKE SA.
    pub(crate) fn join(&mut self, now: Instant, ike: IkeSaId, id: ConnectionId) {
        let record = self.ike_record(ike);
        if record.users.contains(&id) {
            return;
        }
        record.users.push(id);
        if let Some(c) = self.connections.get_mut(&id) {
            c.ikes.insert(ike);
        }
        self.plan_lifetime(now, ike);
    }

    /// The IKE SA under which a connection's child SA is to be made; `None`: a new one. In the place of another one there
    /// must be a younger one: the peer may be leaving an older one for that.
    pub(crate) fn ike_to_share(
        &self,
        peer: &PeerConfig,
        replacing: Option<IkeSaId>,
    ) -> Option<IkeSaId> {
        let at = |ike: &IkeSaId| Some(self.ikes.get(ike)?.established.as_ref()?.at);
        let replaced = replacing.and_then(|ike| at(&ike));
        let youngest_first = self.by_peer.get(&peer_key(peer))?.iter().rev();
        youngest_first.copied().find(|ike| {
            let fits = self.ikes.get(ike).is_some_and(|record| {
                !record.retiring && record.peer.as_ref().is_some_and(|p| same_peer(p, peer))
            });
            let is_older =
                at(ike).is_some_and(|at| replaced.is_some_and(|replaced| at <= replaced));
            let Some(state) = self.endpoint.ike_sa(*ike).map(|info| info.state) else {
                return false;
            };
            // As responder it has told of it, and its first child SA is still being installed: nothing can be asked of it.
            let is_half_made = state < IkeSaState::Established && at(ike).is_some();
            fits && !is_older && !is_half_made && state <= IkeSaState::Established
        })
    }

    /// Has a further child SA made under an IKE SA, at once or when it is established.
    pub(crate) fn make_child(
        &mut self,
        now: Instant,
        ike: IkeSaId,
        id: ConnectionId,
        acquire: Option<AcquireHint>,
    ) {
        self.join(now, ike, id);
        let record = self.ike_record(ike);
        let is_established = record.established.is_some();
        if !is_established {
            record.waiting.push_back((id, acquire.clone()));
        }
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        c.negotiating = Some(ike);
        let config = c.oriented.as_ref().ok().map(|o| o.child.clone());
        let (Some(config), true) = (config, is_established) else {
            return;
        };
        let request = ChildRequest { config, acquire };
        let pending = self.endpoint.create_child(now, ike, request);
        if let Some(c) = self.connections.get_mut(&id) {
            c.pending = pending;
        }
        if pending.is_none() {
            let text = "the IKE SA is about to end".to_owned();
            self.attempt_failed(now, id, "ike_sa_ends", text, true);
        }
    }

    /// The connections that are to come up with this IKE SA.
    pub(crate) fn negotiating_with(&self, ike: IkeSaId) -> Vec<ConnectionId> {
        let users = self.ikes.get(&ike).map(|record| record.users.iter());
        let is_negotiating = |id: &ConnectionId| {
            let c = self.connections.get(id);
            c.is_some_and(|c| c.negotiating == Some(ike))
        };
        users
            .into_iter()
            .flatten()
            .copied()
            .filter(is_negotiating)
            .collect()
    }

    /// The child SAs that a connection has under an IKE SA.
    pub(crate) fn children_under(&self, ike: IkeSaId, id: ConnectionId) -> Vec<ChildSaId> {
        let children = self.connections.get(&id).map(|c| c.children.iter());
        let is_under = |child: &ChildSaId| {
            let info = self.endpoint.child_sa(*child);
            info.is_some_and(|info| info.ike == ike)
        };
        children
            .into_iter()
            .flatten()
            .copied()
            .filter(is_under)
            .collect()
    }

    /// Whether a connection has no part in an IKE SA any more, or it has none other.
    fn needs(&self, ike: IkeSaId, id: ConnectionId) -> bool {
        let c = self.connections.get(&id);
        c.is_some_and(|c| c.negotiating == Some(ike)) || !self.children_under(ike, id).is_empty()
    }

    /// Ends what a connection has under an IKE SA, and with the last connection the IKE SA.
    pub(crate) fn leave(&mut self, now: Instant, ike: IkeSaId, id: ConnectionId) {
        let Some(record) = self.ikes.get_mut(&ike) else {
            return;
        };
        record.waiting.retain(|(waiting, _)| *waiting != id);
        let others = record.users.clone();
        if !others
            .iter()
            .any(|other| *other != id && self.needs(ike, *other))
        {
            return self.end_ike(now, ike);
        }
        let mut children = self.children_under(ike, id);
        if let Some(c) = self
            .connections
            .get_mut(&id)
            .filter(|c| c.negotiating == Some(ike))
        {
            children.extend(c.pending.take());
        }
        for child in children {
            self.endpoint.delete_child(now, child);
        }
    }

    /// A connection has lost a child SA under an IKE SA, or could not make one: the IKE SA goes with its last user.
    pub(crate) fn drop_out(&mut self, now: Instant, ike: IkeSaId, id: ConnectionId) {
        if self.needs(ike, id) {
            return;
        }
        if let Some(c) = self.connections.get_mut(&id) {
            c.ikes.remove(&ike);
        }
        let Some(record) = self.ikes.get_mut(&ike) else {
            return;
        };
        record.users.retain(|user| *user != id);
        if record.users.is_empty() {
            self.end_ike(now, ike);
        }
    }

    /// Ends an IKE SA, which nothing more is begun under: the peer of one that waits for its response to IKE_AUTH can only
    /// be told afterwards.
    pub(crate) fn end_ike(&mut self, now: Instant, ike: IkeSaId) {
        if let Some(record) = self.ikes.get_mut(&ike) {
            record.retiring = true;
        }
        self.endpoint.delete_ike(now, ike);
    }

    pub(crate) fn forget_ike(&mut self, ike: IkeSaId) {
        for timer in [
            Timer::RenewIke(ike),
            Timer::ExpireIke(ike),
            Timer::Redundant(ike),
        ] {
            self.timers.clear(timer);
        }
        let Some(record) = self.ikes.remove(&ike) else {
            return;
        };
        for id in record.users {
            if let Some(c) = self.connections.get_mut(&id) {
                c.ikes.remove(&ike);
                if c.replacing == Some(ike) {
                    c.replacing = None;
                }
            }
        }
        self.by_peer_without(ike, record.peer.as_deref());
    }

    /// No more child SAs are made under an IKE SA.
    fn stop_sharing(&mut self, ike: IkeSaId) {
        let peer = self.ikes.get(&ike).and_then(|record| record.peer.clone());
        self.by_peer_without(ike, peer.as_deref());
    }

    fn by_peer_without(&mut self, ike: IkeSaId, peer: Option<&PeerConfig>) {
        let Some(key) = peer.map(peer_key) else {
            return;
        };
        if let Some(ikes) = self.by_peer.get_mut(&key) {
            ikes.remove(&ike);
            if ikes.is_empty() {
                self.by_peer.remove(&key);
            }
        }
    }

    pub(crate) fn on_ike_established(&mut self, now: Instant, ike: IkeSaId, info: &IkeSaInfo) {
        let lifetime = info.config.as_ref().and_then(|c| c.lifetime);
        // When the peer wants to be authenticated to anew does not change with a new key.
        //= rfc4478#2
        //# If the IKE SA is rekeyed, then the time limit applies to
        //# the new SA.
        let old = info.replaces.and_then(|old| self.ikes.get(&old));
        let reauthenticate = old
            .and_then(|old| old.established.as_ref())
            .and_then(|known| known.reauthenticate);
        if let Some(peer) = &info.config {
            // The configuration may be another one since the peer has begun to make it.
            let current = self.directory.merged(peer).unwrap_or(peer).clone();
            if !Arc::ptr_eq(&current, peer) {
                self.endpoint.set_peer(ike, current.clone());
            }
            self.know_peer(ike, current);
        }
        let record = self.ike_record(ike);
        record.established = Some(Established {
            at: now,
            role: info.role,
            remote_id: info.remote_id.clone(),
            ends: lifetime.map(|lifetime| now + lifetime),
            reauthenticate,
        });
        let waiting = std::mem::take(&mut record.waiting);
        self.plan_lifetime(now, ike);
        for (id, acquire) in waiting {
            self.make_child(now, ike, id, acquire);
        }
    }

    /// Whom an IKE SA serves its successor serves.
    pub(crate) fn inherit_users(
        &mut self,
        now: Instant,
        from: IkeSaId,
        to: IkeSaId,
    ) -> Vec<ConnectionId> {
        let users = match self.ikes.get(&from) {
            Some(record) => record.users.clone(),
            None => Vec::new(),
        };
        for id in &users {
            self.join(now, to, *id);
        }
        users
    }

    /// The successor of an IKE SA has taken its child SAs over.
    pub(crate) fn on_children_moved(&mut self, now: Instant, from: IkeSaId, to: IkeSaId) {
        self.stop_sharing(from);
        self.succeed_redundant(from, to);
        for id in self.inherit_users(now, from, to) {
            if let Some(c) = self.connections.get_mut(&id) {
                for place in [&mut c.negotiating, &mut c.replacing] {
                    if *place == Some(from) {
                        *place = Some(to);
                    }
                }
            }
        }
        // It may have moved in the moment in which it was succeeded: then nothing was under it any more to follow.
        self.follow(now, to);
    }

    /// What peers may ask for under the IKE SAs that there are follows the configuration.
    pub(crate) fn refresh_peers(&mut self) {
        let mut changed = Vec::new();
        for (ike, record) in &mut self.ikes {
            let Some(peer) = &mut record.peer else {
                continue;
            };
            if let Some(merged) = self.directory.merged(peer)
                && !Arc::ptr_eq(merged, peer)
            {
                *peer = merged.clone();
                changed.push((*ike, merged.clone()));
            }
        }
        for (ike, peer) in changed {
            self.endpoint.set_peer(ike, peer);
        }
    }

    /// The remote identity of an established IKE SA.
    pub(crate) fn remote_id(&self, ike: IkeSaId) -> Option<&Identity> {
        let known = self.ikes.get(&ike)?.established.as_ref()?;
        known.remote_id.as_ref()
    }

    /// The peer of a connection does not answer any more (`dpdaction`).
    pub(crate) fn on_dead_peer(&mut self, id: ConnectionId) {
        use crate::connection::DeadPeerAction as Action;
        let Some(c) = self.connections.get_mut(&id).filter(|c| !c.unloaded) else {
            return;
        };
        c.intent = match c.config.ike.dead_peer {
            None => c.intent,
            Some(Action::Clear) => c.config.start.resting(),
            Some(Action::Trap) => Intent::OnDemand,
            Some(Action::Restart) => Intent::Up,
        };
    }
}

/// The IKE SAs by peer.
pub(crate) type ByPeer = std::collections::HashMap<PeerKey, BTreeSet<IkeSaId>>;
