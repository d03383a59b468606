//! The engine: endpoint, connections, planes and timers put together.
//!
//! Call order: feed it with [`Engine::handle`] or one of the user's commands,
//! then drain [`Engine::poll_output`] until it is empty, then sleep until
//! [`Engine::next_timeout`]. Time only moves forward.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{Entropy, KeyExchangeProvider, SecretBytes};
use cygnet_ike::{ChildSaId, Endpoint, EndpointConfig, IkeSaId};
use cygnet_ipsec::{AllocateSpi, Lifetime, PlaneFeatures, PolicyKey, Protocol, Sa, SaId};

use crate::connection::{Connection, ConnectionSet, Setup, StartAction};
use crate::connection_state::{ConnectionId, Intent, State, Trap};
use crate::directory::Snapshot;
use crate::event::Event;
use crate::ikes::{ByPeer, Ike};
use crate::io::{
    Answer, Input, Output, Plane, Protection, ProtectionId, Request, RequestId, ResolveQuery,
};
use crate::lacking::LoadError;
use crate::lingering::Lingering;
use crate::moves::{Departure, Ends};
use crate::orient::KnownAddresses;
use crate::reqids::Reqids;
use crate::reservations::Reservation;
use crate::resumption::Resumptions;
use crate::secrets::Secrets;
use crate::shared_policies::{OwnerId, SharedPolicies};
use crate::timers::{Timer, Timers};
use crate::transaction::{Completion, Outcome, Transaction};

/// What the machine can do; decides where `dataplane=auto` goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// What the kernel can do, if it transforms ESP at all.
    pub kernel: Option<PlaneFeatures>,
    /// What the user-space plane can do, if it is running.
    pub userspace: Option<PlaneFeatures>,
}

/// Settings that are not configuration.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// What the machine can do.
    pub capabilities: Capabilities,
    /// Put the keys of IKE SAs into the events, for a key log.
    pub key_log: bool,
    /// Vendor IDs to send.
    pub vendor_ids: Vec<Vec<u8>>,
    /// See [`crash_secrets`](EndpointConfig::crash_secrets).
    pub crash_secrets: Vec<SecretBytes>,
    /// See [`cpus`](EndpointConfig::cpus).
    pub cpus: u32,
}

/// A connection of that name is not loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no connection named \"{0}\"")]
pub struct UnknownConnection(pub String);

/// SPIs of the two planes never meet: raw sockets filter by them.
pub const KERNEL_SPIS: std::ops::RangeInclusive<u32> = 0xc000_0000..=0xcfff_ffff;
/// See [`KERNEL_SPIS`].
pub const USERSPACE_SPIS: std::ops::RangeInclusive<u32> = 0xd000_0000..=0xdfff_ffff;

/// What waits for an answer.
#[derive(Debug)]
pub(crate) enum Waiting {
    Transaction(Transaction),
    /// An SPI for an IKE SA.
    Spi {
        request: cygnet_ike::RequestId,
        asked: Box<AllocateSpi>,
    },
    /// The solution of a peer's puzzle.
    Puzzle {
        request: cygnet_ike::RequestId,
    },
    /// Addresses.
    Resolve(ResolveQuery),
    /// The addresses of a gateway that a connection is sent to.
    Gateway {
        connection: ConnectionId,
        name: String,
        from: IpAddr,
    },
    /// What a child SA has carried.
    Activity(ChildSaId),
    /// What child SAs have received.
    Traffic {
        request: cygnet_ike::RequestId,
        children: Vec<ChildSaId>,
    },
    /// The outbound SA of a child SA that was installed without.
    Outbound(ChildSaId),
    /// Nobody waits; failures are only told.
    Nothing {
        plane: Plane,
        what: &'static str,
    },
}

/// An installed or half installed child SA.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) connection: ConnectionId,
    pub(crate) plane: Plane,
    pub(crate) owner: OwnerId,
    pub(crate) reqid: u32,
    /// The reqid, if it was allocated for this child and its successors alone; freed with the last of them.
    pub(crate) own_reqid: Option<Arc<u32>>,
    pub(crate) inbound: SaId,
    pub(crate) outbound: SaId,
    /// Those of IPComp beside them, as far as they stand.
    pub(crate) comp_in: Option<SaId>,
    pub(crate) comp_out: Option<SaId>,
    /// How many of the two stand, inbound first.
    pub(crate) installed_sas: usize,
    /// Limits of the inbound SA, which asks to be renewed for both.
    pub(crate) lifetime: Lifetime,
    /// The outbound SA, while it is too early to send on it.
    pub(crate) deferred: Option<Box<Sa>>,
    /// That of IPComp with it.
    pub(crate) deferred_comp: Option<Box<Sa>>,
    /// The child SA in whose place it has been made.
    pub(crate) predecessor: Option<ChildSaId>,
    /// The child SA that has been made in its place.
    pub(crate) successor: Option<ChildSaId>,
    /// The successor is sent on; its own outbound SA is gone.
    pub(crate) superseded: bool,
    pub(crate) policies: Vec<PolicyKey>,
    pub(crate) protection: Option<ProtectionId>,
    /// The same as it was asked for, where the peer's address is part of it.
    pub(crate) led: Option<Box<Protection>>,
    /// Packets that both SAs had carried when last asked (`inactivity=`), and since when no more have come.
    pub(crate) packets: u64,
    pub(crate) idle_since: Instant,
    /// Packets that its inbound SA had received when last asked for a sign of the peer.
    pub(crate) received: u64,
    /// Between what it runs, or will when it has moved.
    pub(crate) ends: Ends,
    pub(crate) departure: Option<Departure>,
    /// When its SAs were taken away last for the time of a move.
    pub(crate) moved: Option<Instant>,
}

/// See the module's text.
pub struct Engine {
    pub(crate) endpoint: Endpoint,
    pub(crate) entropy: Box<dyn Entropy + Send>,
    pub(crate) options: EngineOptions,
    pub(crate) setup: Setup,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) known: KnownAddresses,
    pub(crate) asked: HashMap<ResolveQuery, RequestId>,
    pub(crate) connections: BTreeMap<ConnectionId, State>,
    /// The loaded connections by name; of two with one name, the one that is not on its way out.
    pub(crate) by_name: BTreeMap<Arc<str>, ConnectionId>,
    pub(crate) children: BTreeMap<ChildSaId, Child>,
    /// What is left of child SAs that have been rekeyed.
    pub(crate) lingering: BTreeMap<ChildSaId, Lingering>,
    /// Whose the SAs in the planes are, by both ends of each child SA.
    pub(crate) by_sa: HashMap<(Plane, SaId), ChildSaId>,
    /// The SPIs that are reserved for child SAs to come.
    pub(crate) reserved: HashMap<(u32, Protocol), Reservation>,
    pub(crate) ikes: BTreeMap<IkeSaId, Ike>,
    /// Those of them with whom they are is known, by that.
    pub(crate) by_peer: ByPeer,
    /// What the endpoint looks peers up in.
    pub(crate) directory: Arc<Snapshot>,
    pub(crate) policies: HashMap<Plane, SharedPolicies>,
    pub(crate) waiting: HashMap<RequestId, Waiting>,
    pub(crate) timers: Timers,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) reqids: Reqids,
    /// What is left of IKE SAs whose peers were lost.
    pub(crate) resumptions: Resumptions,
    pub(crate) shutting_down: bool,
    next_id: u64,
}

impl Engine {
    /// An engine without connections; [`Engine::load`] brings them.
    pub fn new(
        options: EngineOptions,
        setup: Setup,
        key_exchange: Arc<dyn KeyExchangeProvider>,
        entropy: Box<dyn Entropy + Send>,
        endpoint_entropy: Box<dyn Entropy + Send>,
    ) -> Self {
        let endpoint = Endpoint::new(
            endpoint_config(&options, &setup),
            Arc::new(Snapshot::default()),
            key_exchange,
            endpoint_entropy,
        );
        Self {
            endpoint,
            entropy,
            options,
            setup,
            secrets: Arc::default(),
            known: KnownAddresses::default(),
            asked: HashMap::new(),
            connections: BTreeMap::new(),
            by_name: BTreeMap::new(),
            children: BTreeMap::new(),
            lingering: BTreeMap::new(),
            by_sa: HashMap::new(),
            reserved: HashMap::new(),
            ikes: BTreeMap::new(),
            by_peer: ByPeer::default(),
            directory: Arc::default(),
            policies: HashMap::from([
                (Plane::Kernel, SharedPolicies::default()),
                (Plane::Userspace, SharedPolicies::default()),
            ]),
            waiting: HashMap::new(),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            reqids: Reqids::default(),
            resumptions: Resumptions::default(),
            shutting_down: false,
            next_id: 1,
        }
    }

    /// Takes in what happened outside.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagram {
                local,
                remote,
                bytes,
                transport,
            } => {
                let datagram = cygnet_ike::Input::Datagram {
                    local,
                    remote,
                    bytes,
                    transport,
                };
                self.endpoint.handle(now, datagram);
            }
            Input::StreamLost { local, remote } => {
                let lost = cygnet_ike::Input::StreamLost { local, remote };
                self.endpoint.handle(now, lost);
            }
            Input::Timeout => self.on_timeout(now),
            Input::Answer { id, answer } => self.on_answer(now, id, answer),
            Input::PlaneEvent { plane, event } => self.on_plane_event(now, plane, event),
            Input::PlaneSas { plane, sas } => self.on_plane_sas(now, plane, &sas),
            Input::Addresses(addresses) => self.on_addresses(now, addresses),
            Input::RoutesChanged => self.on_routes_changed(now),
        }
        self.drain_endpoint(now);
    }

    /// The next effect; `None` when there is nothing more to do for now.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due; `None`: not until something else happens.
    pub fn next_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.endpoint.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The protocol engine, for status and statistics.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn on_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Retry(id) => {
                    if let Some(c) = self.connections.get_mut(&id) {
                        c.retry_at = None;
                        c.trap.forgive();
                        if c.oriented.is_err() {
                            self.look_up_again(id);
                        }
                    }
                    self.reconcile(now, id);
                }
                Timer::RenewIke(ike) => self.renew_ike(now, ike),
                Timer::ExpireIke(ike) => self.expire_ike(now, ike),
                Timer::Redundant(ike) => self.on_redundant(now, ike),
                Timer::Duplicate(child) => self.on_duplicate(now, child),
                Timer::Inactivity(child) => self.ask_for_activity(child),
                Timer::Lingering(child) => self.remove_lingering(child),
            }
        }
        self.endpoint.handle(now, cygnet_ike::Input::Timeout);
    }

    fn on_answer(&mut self, now: Instant, id: RequestId, answer: Answer) {
        match self.waiting.remove(&id) {
            None => {}
            Some(Waiting::Transaction(transaction)) => self.advance(now, transaction, Some(answer)),
            Some(Waiting::Spi { request, asked }) => self.on_spi(now, request, &asked, answer),
            Some(Waiting::Puzzle { request }) => self.on_puzzle(now, request, answer),
            Some(Waiting::Resolve(query)) => self.on_resolved(now, query, answer),
            Some(Waiting::Gateway {
                connection,
                name,
                from,
            }) => self.on_gateway(now, id, (connection, name, from), answer),
            Some(Waiting::Activity(child)) => self.on_activity(now, child, answer),
            Some(Waiting::Traffic { request, children }) => {
                self.on_traffic(now, request, &children, answer);
            }
            Some(Waiting::Outbound(child)) => self.on_outbound(now, child, answer),
            Some(Waiting::Nothing { plane, what }) => {
                let text = match answer {
                    Answer::Failed(text) => Some(text),
                    Answer::Executed(results) => results.into_iter().find_map(|r| match r {
                        Err(cygnet_ipsec::CommandError::NotFound) | Ok(_) => None,
                        Err(e) => Some(e.to_string()),
                    }),
                    Answer::Done | Answer::Addresses(_) | Answer::Solution(_) => None,
                };
                if let Some(text) = text {
                    self.tell(Event::CleanupFailed {
                        plane,
                        text: format!("{what}: {text}"),
                    });
                }
            }
        }
    }

    /// Starts a transaction.
    pub(crate) fn run(&mut self, now: Instant, transaction: Transaction) {
        self.advance(now, transaction, None);
    }

    fn advance(&mut self, now: Instant, mut transaction: Transaction, answer: Option<Answer>) {
        if let Some(outcome) = answer.and_then(|a| transaction.answer(a)) {
            return self.complete(now, transaction, outcome);
        }
        transaction.refresh(&self.policies);
        match transaction.next() {
            Some(request) => {
                self.ask(request, Waiting::Transaction(transaction));
            }
            None => self.complete(now, transaction, Outcome::Done),
        }
    }

    fn complete(&mut self, now: Instant, transaction: Transaction, outcome: Outcome) {
        for (plane, text) in transaction.complaints {
            self.tell(Event::CleanupFailed { plane, text });
        }
        match transaction.then {
            Completion::ChildInstalled { request, child } => {
                self.on_child_installed(now, request, child, outcome);
            }
            Completion::ChildRemoved { request } => {
                if let Some(id) = request {
                    let answer = cygnet_ike::Answer::Done;
                    self.endpoint
                        .handle(now, cygnet_ike::Input::Answer { id, answer });
                }
            }
            Completion::SequenceSkipped { child } => self.on_sequence_skipped(now, child, outcome),
            Completion::ChildMoved { child } => self.on_child_moved(now, child, outcome),
            Completion::Trapped(id) => self.on_trapped(now, id, outcome),
            Completion::Untrapped(id) => self.on_untrapped(now, id),
        }
    }

    /// Emits a request and remembers what its answer is for.
    pub(crate) fn ask(&mut self, request: Request, waiting: Waiting) -> RequestId {
        let id = RequestId(self.fresh_id());
        self.waiting.insert(id, waiting);
        self.outputs.push_back(Output::Request { id, request });
        id
    }

    /// Emits an event.
    pub(crate) fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// A number never used before.
    pub(crate) fn fresh_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// A random number.
    pub(crate) fn random(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.entropy.fill(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    pub(crate) fn execute(
        &mut self,
        plane: Plane,
        commands: Vec<cygnet_ipsec::Command>,
        what: &'static str,
    ) {
        if !commands.is_empty() {
            self.ask(
                Request::Execute { plane, commands },
                Waiting::Nothing { plane, what },
            );
        }
    }

    pub(crate) fn find(&self, name: &str) -> Result<ConnectionId, UnknownConnection> {
        self.by_name
            .get(name)
            .copied()
            .ok_or_else(|| UnknownConnection(name.to_owned()))
    }

    /// "This connection should be up": worked at until it is, through failures.
    ///
    /// # Errors
    /// [`UnknownConnection`].
    pub fn up(&mut self, now: Instant, name: &str) -> Result<(), UnknownConnection> {
        let id = self.find(name)?;
        if let Some(c) = self.connections.get_mut(&id) {
            // Asked by a person: now, not when the wait is over.
            c.retry_at = None;
            c.tries = 0;
            c.backoff.reset();
        }
        self.timers.clear(Timer::Retry(id));
        self.look_up_again(id);
        self.want(now, id, Intent::Up);
        Ok(())
    }

    /// "This connection should be down": its SAs and its trap go.
    ///
    /// # Errors
    /// [`UnknownConnection`].
    pub fn down(&mut self, now: Instant, name: &str) -> Result<(), UnknownConnection> {
        let id = self.find(name)?;
        let to = self
            .connections
            .get(&id)
            .map_or(Intent::Down, |c| c.config.start.resting());
        self.take_down(now, id, to);
        Ok(())
    }

    /// Sets a trap: an SA is made once a packet wants it.
    ///
    /// # Errors
    /// [`UnknownConnection`].
    pub fn route(&mut self, now: Instant, name: &str) -> Result<(), UnknownConnection> {
        let id = self.find(name)?;
        let already = self.connections.get(&id).map_or(Intent::Down, |c| c.intent);
        self.want(now, id, already.max(Intent::OnDemand));
        Ok(())
    }

    /// Takes the trap away; an SA that is up stays, and does not come back when it is gone.
    ///
    /// # Errors
    /// [`UnknownConnection`].
    pub fn unroute(&mut self, now: Instant, name: &str) -> Result<(), UnknownConnection> {
        let id = self.find(name)?;
        self.want(now, id, Intent::Down);
        Ok(())
    }

    /// Makes the loaded connections those of `set`. What did not change is not
    /// touched, what changed is taken down and started anew, what vanished goes.
    ///
    /// The new form of a connection takes its policies over from the old one
    /// before that goes, so that nothing passes in clear in between. Where the
    /// plane changes too the old one goes first: the kernel's policies and the
    /// fence of the user-space plane have the same keys.
    ///
    /// # Errors
    /// [`LoadError`]; nothing has changed then.
    pub fn load(&mut self, now: Instant, set: ConnectionSet) -> Result<(), LoadError> {
        self.check_features(&set.connections)?;
        self.check_planes(&set.connections)?;
        let peers_change = self.setup.uniqueness != set.setup.uniqueness;
        self.setup = set.setup;
        if *self.secrets != set.secrets {
            self.forget_tickets();
        }
        self.secrets = Arc::new(set.secrets);
        self.endpoint
            .set_config(endpoint_config(&self.options, &self.setup));
        // By name: the configuration has each name once.
        let wanted: HashMap<&str, &Connection> = set
            .connections
            .iter()
            .filter(|c| c.start != StartAction::Ignore)
            .map(|c| (c.name.as_str(), c))
            .collect();
        let old: Vec<(ConnectionId, Arc<Connection>)> = self
            .by_name
            .values()
            .filter_map(|id| Some((*id, self.connections.get(id)?.config.clone())))
            .collect();
        // What a person asked for beyond the file outlives a change of the file.
        let asked: HashMap<Arc<str>, Intent> = old
            .iter()
            .filter_map(|(id, _)| self.connections.get(id))
            .filter(|c| c.intent > c.config.start.intent())
            .map(|c| (c.name.clone(), c.intent))
            .collect();
        let mut kept = HashSet::new();
        let mut replaced = Vec::new();
        for (id, known) in &old {
            match wanted.get(known.name.as_str()) {
                Some(new) if **new == **known => {
                    kept.insert(known.name.clone());
                    if peers_change {
                        self.orient(*id);
                    }
                }
                Some(new) if self.plane_for(new) == self.plane_for(known) => {
                    self.disown(*id);
                    replaced.push(*id);
                }
                _ => self.unload(now, *id),
            }
        }
        for connection in set.connections {
            if connection.start != StartAction::Ignore && !kept.contains(&connection.name) {
                let asked = asked.get(connection.name.as_str()).copied();
                self.add(now, connection, asked.unwrap_or_default());
            }
        }
        for id in replaced {
            self.unload(now, id);
        }
        self.tell_addresses(now);
        self.refresh_directory();
        self.drain_endpoint(now);
        Ok(())
    }

    /// Ends everything politely: peers are told, traps and fences go. Done
    /// when [`Engine::is_drained`].
    pub fn shutdown(&mut self, now: Instant) {
        self.shutting_down = true;
        // Whom we say good-bye to must not be let in again.
        self.refresh_directory();
        let ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for id in ids {
            self.take_down(now, id, Intent::Down);
        }
        let ikes: Vec<IkeSaId> = self.ikes.keys().copied().collect();
        for ike in ikes {
            self.end_ike(now, ike);
        }
        self.drain_endpoint(now);
    }

    /// Whether any loaded connection is for this plane.
    pub fn uses(&self, plane: Plane) -> bool {
        self.connections
            .values()
            .any(|c| c.plane == plane && c.config.negotiates())
    }

    /// Whether every trap and fence that is wanted stands. What an earlier run
    /// has left in the databases is not needed any more then. A connection whose
    /// ends are not known yet is waited for until `patience` is over: its address
    /// may be a late one, or never come.
    pub fn is_settled(&self, patience_is_over: bool) -> bool {
        let wanted = |c: &State| c.intent != Intent::Down && !c.unloaded;
        self.connections.values().all(|c| match c.trap {
            Trap::Installing | Trap::Removing => false,
            Trap::Failed(_) => !wanted(c),
            Trap::None => !wanted(c) || c.oriented.is_ok() || patience_is_over,
            Trap::Installed => true,
        })
    }

    /// Whether nothing is installed and nothing is under way any more. Nobody
    /// waits for a slow resolver.
    pub fn is_drained(&self) -> bool {
        self.waiting.values().all(|w| {
            matches!(
                w,
                Waiting::Resolve(_) | Waiting::Puzzle { .. } | Waiting::Gateway { .. }
            )
        }) && self.children.is_empty()
            && self.lingering.is_empty()
            && self.ikes.is_empty()
    }
}

fn endpoint_config(options: &EngineOptions, setup: &Setup) -> EndpointConfig {
    EndpointConfig {
        ike_port: setup.ike_port,
        nat_port: setup.nat_port,
        keepalive_interval: setup.keepalive_interval,
        cookie_threshold: setup.cookie_threshold as usize,
        max_half_open: setup.max_half_open as usize,
        puzzles: setup.puzzles,
        max_puzzle_difficulty: setup.max_puzzle_difficulty,
        max_per_identity: setup.max_per_identity as usize,
        send_redirect: setup.send_redirect,
        redirect_to: setup.redirect_to.clone(),
        vendor_ids: options.vendor_ids.clone(),
        crash_secrets: options.crash_secrets.clone(),
        key_log: options.key_log,
        cpus: options.cpus,
        ..EndpointConfig::default()
    }
}
