//! Working toward what the user wants: attempts, retries, taking down.
//!
//! [`Engine::reconcile`] looks at one connection and takes the next step from
//! what is to what should be. It is called after everything that could have
//! changed either, and calling it once too often does nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_ike::{AcquireHint, ChildRequest};

use crate::clones::Clones;
use crate::connection::{Connection, Shunt};
use crate::connection_state::{Backoff, ConnectionId, Intent, LastFailure, State, Trap};
use crate::directory::Snapshot;
use crate::engine::Engine;
use crate::event::Event;
use crate::orient::Unoriented;
use crate::redirect::Redirects;
use crate::resumption::Resumable;
use crate::shared_policies::OwnerId;
use crate::timers::Timer;

/// A connection that stood this long has shown that it works: the next failure
/// waits as short as the first.
const PROVEN: Duration = Duration::from_secs(60);

impl Engine {
    /// Loads one connection and starts what its `auto=` asks for, or what a person asked of the
    /// connection that it replaces, if that is more.
    pub(crate) fn add(&mut self, now: Instant, connection: Connection, asked: Intent) {
        let id = ConnectionId(self.fresh_id());
        let trap_owner = OwnerId(self.fresh_id());
        let plane = self.plane_for(&connection);
        let reqid = match connection.child.reqid {
            Some(fixed) => fixed,
            None => self.reqids.allocate(),
        };
        let intent = connection.start.intent();
        let state = State {
            name: Arc::from(connection.name.as_str()),
            config: Arc::new(connection),
            plane,
            reqid,
            oriented: Err(Unoriented::NotOurs),
            intent: intent.max(asked),
            trap: Trap::None,
            trap_owner,
            trap_policies: Vec::new(),
            trap_protection: None,
            trap_orientation: None,
            negotiating: None,
            pending: None,
            replacing: None,
            ikes: BTreeSet::new(),
            children: Vec::new(),
            clones: Clones::default(),
            backoff: Backoff::default(),
            tries: 0,
            retry_at: None,
            last_failure: None,
            released: false,
            adrift: false,
            redirects: Redirects::default(),
            resumable: Resumable::default(),
            unloaded: false,
        };
        self.reqids.assign(reqid, id);
        self.by_name.insert(state.name.clone(), id);
        self.connections.insert(id, state);
        self.orient(id);
        self.reconcile(now, id);
    }

    /// Takes a connection out of the configuration.
    pub(crate) fn unload(&mut self, now: Instant, id: ConnectionId) {
        self.disown(id);
        self.take_down(now, id, Intent::Down);
        self.forget_if_idle(id);
    }

    /// A connection is no longer the one of its name.
    pub(crate) fn disown(&mut self, id: ConnectionId) {
        if let Some(c) = self.connections.get_mut(&id) {
            c.unloaded = true;
            if self.by_name.get(&c.name) == Some(&id) {
                self.by_name.remove(&c.name);
            }
        }
    }

    pub(crate) fn forget_if_idle(&mut self, id: ConnectionId) {
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        if c.unloaded && c.is_idle() {
            let reqid = c.reqid;
            self.connections.remove(&id);
            self.reqids.unassign(reqid, id);
            self.timers.clear(Timer::Retry(id));
        }
    }

    /// Records what is wanted and begins to work toward it.
    pub(crate) fn want(&mut self, now: Instant, id: ConnectionId, intent: Intent) {
        if let Some(c) = self.connections.get_mut(&id) {
            c.intent = intent;
            c.trap.forgive();
        }
        self.reconcile(now, id);
        self.drain_endpoint(now);
    }

    /// Ends the connection's SAs and leaves it wanted as `to`.
    pub(crate) fn take_down(&mut self, now: Instant, id: ConnectionId, to: Intent) {
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        c.intent = to;
        c.retry_at = None;
        c.replacing = None;
        c.redirects.cancel();
        let ikes = c.ikes.clone();
        self.cancel_clones(now, id);
        //= rfc5723#6.2
        //# Similarly, when credentials associated
        //# with the IKE SA are invalidated (e.g., when a user logs out), the
        //# ticket MUST be deleted.
        self.forget_ticket(id);
        self.timers.clear(Timer::Retry(id));
        for ike in ikes {
            self.leave(now, ike, id);
        }
        self.remove_lingering_of(id);
        self.drain_endpoint(now);
        if self
            .connections
            .get(&id)
            .is_some_and(|c| c.negotiating.is_some())
        {
            // The peer may have to be told first. Nobody here waits for that, a new attempt least of all.
            self.attempt_failed(
                now,
                id,
                "cancelled",
                "the attempt was cancelled".to_owned(),
                false,
            );
        }
        self.reconcile(now, id);
        self.drain_endpoint(now);
    }

    /// Rebuilds what the responder looks things up in.
    pub(crate) fn refresh_directory(&mut self) {
        let peers = self
            .connections
            .values()
            .filter(|c| !c.unloaded && !self.shutting_down && c.config.negotiates())
            .filter_map(|c| c.oriented.as_ref().ok().map(|o| &o.peer));
        self.directory = Arc::new(Snapshot::new(peers, self.secrets.clone()));
        self.endpoint.set_directory(self.directory.clone());
        self.refresh_peers();
    }

    /// Takes the next step from what is to what should be.
    pub(crate) fn reconcile(&mut self, now: Instant, id: ConnectionId) {
        let anchored = self
            .connections
            .get(&id)
            .is_some_and(|c| c.adrift && c.children.is_empty() && c.negotiating.is_none());
        if anchored {
            self.orient(id);
            self.refresh_directory();
        }
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        if self.shutting_down && c.intent != Intent::Down {
            return;
        }
        let Ok(oriented) = &c.oriented else {
            let settled = !matches!(c.trap, Trap::Installing | Trap::Removing);
            if settled && c.has_trap_parts() && c.intent == Intent::Down {
                self.remove_trap(now, id);
            }
            return self.forget_if_idle(id);
        };
        let wants_trap = !c.released
            && !oriented.selectors.is_empty()
            && match c.intent {
                Intent::Down => false,
                Intent::OnDemand => true,
                Intent::Up => {
                    !c.config.negotiates() || c.config.child.negotiation_shunt == Shunt::Drop
                }
            };
        let stale = c.trap_orientation.as_ref() != Some(&oriented.orientation);
        match c.trap {
            Trap::Installing | Trap::Removing => {}
            _ if c.has_trap_parts() && (!wants_trap || stale) => self.remove_trap(now, id),
            Trap::None if wants_trap => self.install_trap(now, id),
            Trap::None | Trap::Installed | Trap::Failed(_) => {}
        }
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        let idle = c.children.is_empty()
            && c.negotiating.is_none()
            && c.retry_at.is_none()
            && !c.redirects.is_pending();
        // The trap comes first: nothing may pass in clear while we negotiate.
        let trap_pending = match c.trap {
            Trap::Installing | Trap::Removing => true,
            Trap::Failed(_) => wants_trap,
            Trap::None | Trap::Installed => false,
        };
        if c.intent == Intent::Up && c.config.negotiates() && idle && !trap_pending {
            self.initiate(now, id, None);
        }
        self.forget_if_idle(id);
    }

    /// Starts an IKE SA for a connection.
    pub(crate) fn initiate(
        &mut self,
        now: Instant,
        id: ConnectionId,
        acquire: Option<AcquireHint>,
    ) {
        let gone_to = self.gone_to(id);
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        let redirection = c.redirects.take();
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        let Ok(oriented) = &c.oriented else { return };
        let Some(remote) = oriented.orientation.remote else {
            let text = "the peer's address is not known: it has to call".to_owned();
            return self.attempt_failed(now, id, "peer_address_unknown", text, false);
        };
        let child = ChildRequest {
            config: oriented.child.clone(),
            acquire,
        };
        if let Some(ike) = self.ike_to_share(&oriented.peer, c.replacing) {
            return self.make_child(now, ike, id, child.acquire);
        }
        let peer = self.directory.merged(&oriented.peer);
        let peer = peer.unwrap_or(&oriented.peer).clone();
        let local = gone_to
            .filter(|_| c.adrift)
            .unwrap_or(oriented.orientation.local);
        let local = SocketAddr::new(local, peer.local_port);
        let to = redirection.map_or(remote, |(to, _)| to);
        let remote = SocketAddr::new(to, peer.remote_port);
        // A ticket is for the gateway that has given it.
        let ticket = match redirection {
            None => self.take_ticket(now, id, &peer),
            Some(_) => None,
        };
        let (endpoint, child) = (&mut self.endpoint, Some(child));
        let (to, ends) = (peer.clone(), (local, remote));
        let ike = match (redirection, ticket) {
            (None, None) => endpoint.initiate(now, to, child, local, remote),
            (Some((_, from)), _) => endpoint.follow_redirect(now, to, child, ends, from),
            (None, Some((lost, ticket, auth))) => {
                let ike = endpoint.resume(now, to, child, ends, (&ticket, auth));
                self.note_resumption(ike, lost, ticket);
                ike
            }
        };
        if let Some(c) = self.connections.get_mut(&id) {
            c.negotiating = Some(ike);
        }
        self.know_peer(ike, peer);
        self.join(now, ike, id);
    }

    /// Notes a failed attempt and plans the next.
    pub(crate) fn attempt_failed(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reason: &'static str,
        text: String,
        may_retry: bool,
    ) {
        let random = self.random();
        let shutting_down = self.shutting_down;
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        let ike = c.negotiating.take();
        c.pending = None;
        // While the predecessor works, the next attempt is again one to replace it.
        let predecessor = c
            .replacing
            .take()
            .filter(|_| !c.children.is_empty() && c.intent != Intent::Down);
        c.last_failure = Some(LastFailure {
            name: reason,
            text: text.clone(),
            at: now,
        });
        c.tries = c.tries.saturating_add(1);
        let given_up = may_retry
            && predecessor.is_none()
            && c.config
                .ike
                .keying_tries
                .is_some_and(|most| c.tries >= most.get());
        if given_up && c.intent == Intent::Up {
            c.intent = c.config.quiet();
        }
        let wanted = c.intent == Intent::Up || predecessor.is_some();
        let retry_in =
            (wanted && may_retry && !shutting_down).then(|| c.backoff.after_failure(random));
        c.retry_at = retry_in
            .filter(|_| predecessor.is_none())
            .map(|wait| now + wait);
        let connection = c.name.clone();
        let failure_shunt_releases = c.config.child.failure_shunt == Shunt::Passthrough;
        if let (Some(ike), Some(wait)) = (predecessor, retry_in) {
            self.timers.set(now + wait, Timer::RenewIke(ike));
        } else if let Some(at) = c.retry_at {
            self.timers.set(at, Timer::Retry(id));
        } else if failure_shunt_releases
            && self
                .connections
                .get(&id)
                .is_some_and(|c| c.trap == Trap::Installed)
        {
            // `failureshunt=passthrough`: until somebody asks again or the peer brings it up.
            if let Some(c) = self.connections.get_mut(&id) {
                c.released = true;
            }
            self.remove_trap(now, id);
        }
        self.tell(Event::AttemptFailed {
            connection,
            reason,
            text,
            retry_in,
        });
        if let Some(ike) = ike {
            self.drop_out(now, ike, id);
        }
        self.look_up_again(id);
        self.forget_if_idle(id);
    }

    /// A child SA of the connection is gone: what now?
    pub(crate) fn child_gone(&mut self, now: Instant, id: ConnectionId, stood: Option<Duration>) {
        let random = self.random();
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        if !c.children.is_empty() {
            return;
        }
        if stood.is_some_and(|d| d >= PROVEN) {
            c.backoff.reset();
        }
        let connection = c.name.clone();
        let comes_back = c.intent == Intent::Up && c.negotiating.is_none() && c.retry_at.is_none();
        if comes_back {
            // Soon, but not at once: a peer that closes whatever it opens must not keep us spinning.
            let at = now + c.backoff.after_failure(random);
            c.retry_at = Some(at);
            self.timers.set(at, Timer::Retry(id));
        }
        self.tell(Event::ConnectionDown { connection });
        if comes_back {
            self.look_up_again(id);
        }
        self.reconcile(now, id);
    }
}
