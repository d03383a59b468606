//! Working toward what the user wants: orientation, traps, attempts, retries.
//!
//! [`Engine::reconcile`] looks at one connection and takes the next step from
//! what is to what should be. It is called after everything that could have
//! changed either, and calling it once too often does nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_ike::{AcquireHint, ChildRequest, IkeSaId};
use cygnet_ipsec::{Action, Mode, Policy, Protocol, Selector};
use cygnet_wire::TrafficSelector;

use crate::commands::{Path, PolicyPlan, shunt_policies};
use crate::connection::{Connection, ConnectionKind, HostSpec, Shunt};
use crate::connection_state::{Backoff, ConnectionId, Intent, LastFailure, Oriented, State, Trap};
use crate::directory::{self, Snapshot};
use crate::engine::{Engine, Waiting};
use crate::event::Event;
use crate::io::{Answer, Plane, Protection, ProtectionId, Request, ResolveQuery};
use crate::orient::{Unoriented, orient};
use crate::selectors::outbound_selectors;
use crate::shared_policies::OwnerId;
use crate::timers::Timer;
use crate::transaction::{Completion, Outcome, Step, Transaction};

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
            replacing: None,
            ikes: BTreeSet::new(),
            children: Vec::new(),
            backoff: Backoff::default(),
            tries: 0,
            retry_at: None,
            last_failure: None,
            released: false,
            adrift: false,
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

    fn forget_if_idle(&mut self, id: ConnectionId) {
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
        let mut ikes: Vec<IkeSaId> = c.negotiating.into_iter().collect();
        ikes.extend(&c.ikes);
        ikes.sort_unstable();
        ikes.dedup();
        self.timers.clear(Timer::Retry(id));
        for ike in ikes {
            self.endpoint.delete_ike(now, ike);
        }
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
        let snapshot = Snapshot::new(peers, self.secrets.clone());
        self.endpoint.set_directory(Arc::new(snapshot));
    }

    /// Decides anew which end of a connection is ours.
    pub(crate) fn orient(&mut self, id: ConnectionId) {
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        let config = c.config.clone();
        let oriented = orient(&config, &self.known).map(|orientation| {
            let (peer, child) = directory::build(id, &config, &orientation, &self.setup);
            let (local, remote) = orientation.ends(&config);
            let own: Vec<TrafficSelector> = local
                .subnets
                .iter()
                .map(|ts| ts.resolve(orientation.local))
                .collect();
            let theirs: Vec<TrafficSelector> = match orientation.remote {
                Some(address) => remote
                    .subnets
                    .iter()
                    .map(|ts| ts.resolve(address))
                    .collect(),
                None => Vec::new(),
            };
            let selectors = outbound_selectors(&own, &theirs).unwrap_or_default();
            Oriented {
                orientation,
                peer,
                child,
                selectors,
            }
        });
        if let Err(Unoriented::Unresolved(query)) = &oriented {
            self.resolve(query.clone());
        }
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        c.adrift = false;
        if let Err(reason) = &oriented
            && c.oriented.as_ref().err() != Some(reason)
        {
            let event = Event::Unoriented {
                connection: c.name.clone(),
                text: reason.to_string(),
            };
            c.oriented = oriented;
            return self.tell(event);
        }
        c.oriented = oriented;
    }

    fn resolve(&mut self, query: ResolveQuery) {
        if !self.asked.contains_key(&query) {
            let id = self.ask(
                Request::Resolve(query.clone()),
                Waiting::Resolve(query.clone()),
            );
            self.asked.insert(query, id);
        }
    }

    pub(crate) fn on_resolved(&mut self, now: Instant, query: ResolveQuery, answer: Answer) {
        self.asked.remove(&query);
        let addresses = match answer {
            Answer::Addresses(addresses) => addresses,
            _ => Vec::new(),
        };
        let is_name = matches!(query, ResolveQuery::Name(_));
        let found_nothing = addresses.is_empty();
        if found_nothing && is_name && self.known.answers.contains_key(&query) {
            // An address that was good once is better than none while the resolver is out of order.
        } else {
            let earlier = self.known.answers.insert(query.clone(), addresses.clone());
            if is_name && earlier.is_some_and(|earlier| earlier != addresses) {
                self.follow_name(now, &query);
            }
        }
        self.orient_unoriented(now);
        if !(found_nothing && is_name) {
            return;
        }
        // No event tells when a resolver works again: it has to be asked.
        let waiting: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| matches!(&c.oriented, Err(Unoriented::NotFound(q)) if *q == query))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            let random = self.random();
            if let Some(c) = self.connections.get_mut(&id) {
                let at = now + c.backoff.after_failure(random);
                self.timers.clear(Timer::Retry(id));
                self.timers.set(at, Timer::Retry(id));
            }
        }
    }

    /// Asks once more for the names of a connection that does not come up: the peer may have moved.
    pub(crate) fn look_up_again(&mut self, id: ConnectionId) {
        let Some(c) = self.connections.get(&id).filter(|c| !c.unloaded) else {
            return;
        };
        for query in names(&c.config.clone()) {
            self.resolve(query);
        }
    }

    /// A name has other addresses now: what is not up and uses it looks for its peer there.
    fn follow_name(&mut self, now: Instant, query: &ResolveQuery) {
        let using: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| !c.unloaded && c.oriented.is_ok())
            .filter(|(_, c)| c.children.is_empty() && c.negotiating.is_none())
            .filter(|(_, c)| names(&c.config).any(|name| name == *query))
            .map(|(id, _)| *id)
            .collect();
        for &id in &using {
            self.orient(id);
        }
        self.refresh_directory();
        for id in using {
            self.reconcile(now, id);
        }
    }

    /// The set of our addresses changed.
    pub(crate) fn on_addresses(&mut self, now: Instant, addresses: Vec<IpAddr>) {
        let ours = addresses.into_iter().collect();
        if ours == self.known.ours {
            return;
        }
        self.known.ours = ours;
        // Whatever was found by asking about our own interfaces may be different now.
        self.known
            .answers
            .retain(|query, _| matches!(query, ResolveQuery::Name(_)));
        let lost: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| {
                c.oriented
                    .as_ref()
                    .is_ok_and(|o| !self.known.ours.contains(&o.orientation.local))
            })
            .map(|(id, _)| *id)
            .collect();
        self.tell_addresses(now);
        self.drain_endpoint(now);
        for id in lost {
            let mobile = self.is_mobile(id);
            let Some(c) = self.connections.get_mut(&id) else {
                continue;
            };
            if mobile {
                // When it has no SAs any more, another address will be looked for.
                c.adrift = true;
                continue;
            }
            let intent = c.intent;
            // The trap stays: what is to be protected must not find its way in clear meanwhile.
            c.oriented = Err(Unoriented::NotOurs);
            // Without its address an SA cannot say good-bye; it ends here and is made anew.
            self.take_down(now, id, intent);
        }
        self.orient_unoriented(now);
    }

    /// Routes changed: questions about routes are worth asking again.
    pub(crate) fn on_routes_changed(&mut self, now: Instant) {
        self.known.answers.retain(|query, found| {
            !found.is_empty() && !matches!(query, ResolveQuery::DefaultRoute { .. })
        });
        self.orient_unoriented(now);
    }

    fn orient_unoriented(&mut self, now: Instant) {
        let ids: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| c.oriented.is_err() && !c.unloaded)
            .map(|(id, _)| *id)
            .collect();
        for &id in &ids {
            self.orient(id);
            if let Some(c) = self.connections.get_mut(&id).filter(|c| c.oriented.is_ok()) {
                // What it waited for is there.
                c.retry_at = None;
                self.timers.clear(Timer::Retry(id));
            }
        }
        self.tell_addresses(now);
        self.refresh_directory();
        for id in ids {
            self.reconcile(now, id);
        }
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
        let idle = c.children.is_empty() && c.negotiating.is_none() && c.retry_at.is_none();
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
        let Ok(oriented) = &c.oriented else { return };
        let Some(remote) = oriented.orientation.remote else {
            let text = "the peer's address is not known: it has to call".to_owned();
            return self.attempt_failed(now, id, "peer_address_unknown", text, false);
        };
        let peer = oriented.peer.clone();
        let child = ChildRequest {
            config: oriented.child.clone(),
            acquire,
        };
        let local = gone_to
            .filter(|_| c.adrift)
            .unwrap_or(oriented.orientation.local);
        let local = SocketAddr::new(local, peer.local_port);
        let remote = SocketAddr::new(remote, peer.remote_port);
        let ike = self
            .endpoint
            .initiate(now, peer, Some(child), local, remote);
        c.negotiating = Some(ike);
        self.assign_ike(now, ike, id);
    }

    /// Makes a successor of an IKE SA that nears its end, while it still works.
    pub(crate) fn replace(&mut self, now: Instant, ike: IkeSaId) {
        let Some(id) = self.ikes.get(&ike).and_then(|i| i.connection) else {
            return;
        };
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        if c.intent == Intent::Down || c.negotiating.is_some() || self.shutting_down {
            return;
        }
        c.replacing = Some(ike);
        self.initiate(now, id, None);
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
        c.negotiating = None;
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
            self.timers.set(now + wait, Timer::ReplaceIke(ike));
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

    fn install_trap(&mut self, now: Instant, id: ConnectionId) {
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        let Ok(oriented) = &c.oriented else { return };
        let config = c.config.clone();
        let (plane, owner, reqid) = (c.plane, c.trap_owner, c.reqid);
        let selectors = oriented.selectors.clone();
        let earlier = c.trap_protection;
        let orientation = oriented.orientation.clone();
        let (local, local_is_left) = (orientation.local, orientation.local_is_left);
        let policies: Vec<Policy> = match (config.kind, oriented.orientation.remote) {
            (ConnectionKind::Passthrough, _) => {
                shunt_policies(&selectors, Action::Allow, &config.child)
            }
            (ConnectionKind::Drop, _) => shunt_policies(&selectors, Action::Block, &config.child),
            (_, None) => return,
            (kind, Some(remote)) => PolicyPlan {
                selectors: &selectors,
                path: Path { local, remote },
                mode: if kind == ConnectionKind::Transport {
                    Mode::Transport
                } else {
                    Mode::Tunnel
                },
                protocol: Protocol::Esp,
                reqid,
                options: &config.child,
            }
            .protecting(),
        };
        let mut steps = Vec::new();
        let mut protection_id = None;
        if plane == Plane::Userspace {
            let mut protection = self.protection(&config, &selectors, local_is_left);
            // What stands of an earlier try is replaced, not doubled.
            protection.id = earlier.unwrap_or(protection.id);
            protection_id = Some(protection.id);
            steps.push(Step::Protect(protection));
        }
        let keys = policies.iter().map(|p| p.key).collect();
        let shared = self.policies.entry(plane).or_default();
        let commands = policies.into_iter().map(|p| shared.add(owner, p)).collect();
        steps.push(Step::Execute { plane, commands });
        if let Some(c) = self.connections.get_mut(&id) {
            c.trap = Trap::Installing;
            c.trap_policies = keys;
            c.trap_protection = protection_id;
            c.trap_orientation = Some(orientation);
        }
        self.run(now, Transaction::building(steps, Completion::Trapped(id)));
    }

    /// The fence and the routes of a user-space connection.
    pub(crate) fn protection(
        &mut self,
        config: &Connection,
        selectors: &[Selector],
        local_is_left: bool,
    ) -> Protection {
        let id = ProtectionId(self.fresh_id());
        let unique = |nets: Vec<ipnet::IpNet>| {
            let mut nets = nets;
            nets.sort();
            nets.dedup();
            nets
        };
        let own = if local_is_left {
            &config.left
        } else {
            &config.right
        };
        Protection {
            id,
            routes: unique(selectors.iter().map(|s| s.dst).collect()),
            local: unique(selectors.iter().map(|s| s.src).collect()),
            source_ips: own.source_ips.clone(),
            selectors: selectors.to_vec(),
            mtu: config.child.mtu,
        }
    }

    /// The steps that take policies and a fence away.
    pub(crate) fn removal_steps(
        &mut self,
        plane: Plane,
        owner: OwnerId,
        policies: Vec<cygnet_ipsec::PolicyKey>,
        sas: Vec<cygnet_ipsec::SaId>,
        protection: Option<ProtectionId>,
    ) -> Vec<Step> {
        let shared = self.policies.entry(plane).or_default();
        let mut commands: Vec<_> = policies
            .iter()
            .filter_map(|key| shared.remove(owner, key))
            .collect();
        commands.extend(sas.into_iter().map(cygnet_ipsec::Command::RemoveSa));
        let mut steps = Vec::new();
        if !commands.is_empty() {
            steps.push(Step::Execute { plane, commands });
        }
        // The fence is the last to fall.
        steps.extend(protection.map(Step::Unprotect));
        steps
    }

    fn remove_trap(&mut self, now: Instant, id: ConnectionId) {
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        let policies = std::mem::take(&mut c.trap_policies);
        let protection = c.trap_protection.take();
        let (plane, owner) = (c.plane, c.trap_owner);
        c.trap = Trap::Removing;
        let steps = self.removal_steps(plane, owner, policies, Vec::new(), protection);
        self.run(
            now,
            Transaction::tearing_down(steps, Completion::Untrapped(id)),
        );
    }

    pub(crate) fn on_trapped(&mut self, now: Instant, id: ConnectionId, outcome: Outcome) {
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        let connection = c.name.clone();
        match outcome {
            Outcome::Done => {
                c.trap = Trap::Installed;
                self.tell(Event::Trapped { connection });
            }
            Outcome::Failed { text, .. } => {
                // What could be raised stands, until the next try or until it is not wanted any
                // more: a tunnel that cannot be built must not let its traffic out in clear.
                c.trap = Trap::Failed(text.clone());
                c.last_failure = Some(LastFailure {
                    name: "trap_failed",
                    text: text.clone(),
                    at: now,
                });
                self.tell(Event::TrapFailed {
                    connection: connection.clone(),
                    text: text.clone(),
                });
                // Without the fence nothing may be sent either.
                match self.connections.get(&id).map(|c| c.intent) {
                    Some(Intent::Up) => {
                        return self.attempt_failed(now, id, "trap_failed", text, true);
                    }
                    Some(Intent::OnDemand) if !self.shutting_down => self.retry_trap(now, id),
                    _ => {}
                }
            }
        }
        self.reconcile(now, id);
    }

    /// Plans the next attempt to set a trap that waits for packets.
    fn retry_trap(&mut self, now: Instant, id: ConnectionId) {
        let random = self.random();
        if let Some(c) = self.connections.get_mut(&id) {
            let at = now + c.backoff.after_failure(random);
            c.retry_at = Some(at);
            self.timers.set(at, Timer::Retry(id));
        }
    }

    pub(crate) fn on_untrapped(&mut self, now: Instant, id: ConnectionId) {
        if let Some(c) = self.connections.get_mut(&id) {
            c.trap = Trap::None;
        }
        self.reconcile(now, id);
        self.forget_if_idle(id);
    }

    /// A plane speaks up.
    pub(crate) fn on_plane_event(
        &mut self,
        now: Instant,
        plane: Plane,
        event: cygnet_ipsec::Event,
    ) {
        match event {
            cygnet_ipsec::Event::Acquire(acquire) => self.on_acquire(now, plane, &acquire),
            cygnet_ipsec::Event::Expire(expire) => {
                let Some(&child) = self.by_sa.get(&(plane, expire.sa)) else {
                    return;
                };
                if expire.hard {
                    self.endpoint.delete_child(now, child);
                } else if let Some(info) = self.endpoint.child_sa(child) {
                    let ike = info.ike;
                    self.replace(now, ike);
                }
            }
            cygnet_ipsec::Event::Mapping(mapping) => self.on_mapping(now, plane, &mapping),
            // Policies here have no limits.
            cygnet_ipsec::Event::PolicyExpire(_) => {}
        }
    }

    /// What a plane has, after it could not tell everything: a child whose SA
    /// is gone has expired unheard.
    pub(crate) fn on_plane_sas(&mut self, now: Instant, plane: Plane, sas: &[cygnet_ipsec::SaId]) {
        let sas: std::collections::HashSet<_> = sas.iter().collect();
        let gone: Vec<cygnet_ike::ChildSaId> = self
            .children
            .iter()
            .filter(|(_, c)| c.plane == plane && c.installed_sas == 2 && c.departure.is_none())
            .filter(|(_, c)| !sas.contains(&c.inbound) || !sas.contains(&c.outbound))
            .map(|(id, _)| *id)
            .collect();
        for child in gone {
            self.endpoint.delete_child(now, child);
        }
    }

    /// A packet met a trap: whose? By reqid and policy, never by guess.
    fn on_acquire(&mut self, now: Instant, plane: Plane, acquire: &cygnet_ipsec::Acquire) {
        let reqid = acquire.template.reqid;
        let owner = self.reqids.connections(reqid).find_map(|id| {
            let c = self.connections.get(&id)?;
            (c.plane == plane && c.trap_policies.contains(&acquire.policy)).then_some((id, c))
        });
        let Some((id, c)) = owner else {
            return self.tell(Event::ForeignAcquire { plane, reqid });
        };
        if self.has_departed(&c.children, acquire) {
            return;
        }
        let connection = c.name.clone();
        let busy = c.negotiating.is_some() || c.unloaded || self.shutting_down;
        self.tell(Event::Acquired {
            connection,
            plane,
            selector: acquire.selector,
        });
        if !busy {
            let hint = Some(acquire_hint(acquire));
            if let Some(c) = self.connections.get_mut(&id) {
                c.retry_at = None;
            }
            self.initiate(now, id, hint);
        }
    }
}

/// The names that a connection's ends are looked up by.
fn names(connection: &Connection) -> impl Iterator<Item = ResolveQuery> + '_ {
    [&connection.left, &connection.right]
        .into_iter()
        .filter_map(|end| match &end.host.value {
            HostSpec::Name(name) => Some(ResolveQuery::Name(name.clone())),
            _ => None,
        })
}

/// The packet as the first, narrow traffic selectors of the proposal (RFC 7296 section 2.9).
fn acquire_hint(acquire: &cygnet_ipsec::Acquire) -> AcquireHint {
    let s = &acquire.selector;
    let icmp = matches!(s.protocol, 1 | 58);
    let selector = |address: IpAddr, own: cygnet_ipsec::PortMatch| {
        let (start_port, end_port) = match own.mask {
            u16::MAX if !icmp => (own.port, own.port),
            _ => (0, u16::MAX),
        };
        TrafficSelector {
            protocol: s.protocol,
            start_port,
            end_port,
            start: address,
            end: address,
        }
    };
    AcquireHint {
        seq: acquire.seq,
        local: selector(s.src.addr(), s.sport),
        remote: selector(s.dst.addr(), s.dport),
    }
}
