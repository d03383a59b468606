//! The thread that touches the kernel and the user-space plane.
//!
//! The engine's requests are carried out here in the order in which they came,
//! away from the loop that must not wait. At most a few requests per SA are
//! under way at once, since each waits for its answer before the next: the
//! queue needs no bound of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc;

use cygnet_dataplane::Handle;
use cygnet_engine::{Answer, Plane, ProtectionId, Request, RequestId, ResolveQuery, Traffic};
use cygnet_ipsec::{
    Action, Command, CommandError, Direction, Encap, EncapKind, MoveSa, PolicyKey, Reply, Sa,
    SaDatabase, SaId, Selector,
};
use cygnet_kernel::holes::NeighbourDiscoveryHoles;
use cygnet_kernel::linux::{Nftables, Rtnetlink, UdpSockets};
use cygnet_kernel::routing::remove_leftovers;
use cygnet_kernel::sadb::{LinuxSadb, Sadb, SadbEvent};
use cygnet_kernel::{
    EscapeOptions, Fence, IkeSocketSpec, IkeSockets, InterfaceAddrs, InterfaceRouting,
    IpsecInterfaces, PathMtu, RouteLookup, RouteQuery, RoutingOptions, TunnelRouting,
    primary_address,
};
use tokio::sync::{mpsc as tokio_mpsc, oneshot};

use super::Notice;
use super::kernel_policies::KernelPolicies;
use super::key_log::KeyLogFiles;
use super::protections::Protected;

/// Something to do.
pub(super) enum Job {
    /// The engine's request; answered through the channel of answers.
    Request { id: RequestId, request: Request },
    /// Traffic of SA pairs, in order.
    Traffic {
        sas: Vec<(Plane, SaId, SaId)>,
        reply: oneshot::Sender<Vec<(Option<Traffic>, Option<Traffic>)>>,
    },
    /// Whether peers of the user-space plane need sockets of their own. Sent when the port's own
    /// sockets are open.
    SharedPort(bool),
    /// Put back what others may have taken away: routes whose source address came back, rules, the
    /// packet filter's table.
    Refresh,
    /// Routes have changed: the ways to peers past the interfaces may be others.
    RoutesChanged,
    /// The kernel has IPsec events to read.
    KernelEvents,
    /// Policies of an earlier run that nobody has asked for again are to go.
    RemoveUnclaimed,
    /// Take everything away and end.
    Stop(oneshot::Sender<()>),
}

/// An answer for the engine.
pub(super) type Answered = (RequestId, Answer);

/// The user-space plane and its device.
pub(super) struct Userspace {
    pub(super) handle: Handle,
    pub(super) device: String,
}

pub(super) struct Executor {
    pub(super) kernel: LinuxSadb,
    pub(super) rtnetlink: Rtnetlink,
    pub(super) filter: Nftables,
    pub(super) userspace: Option<Userspace>,
    pub(super) ifindex: Option<u32>,
    pub(super) fence: Fence,
    pub(super) own_policies: KernelPolicies,
    pub(super) routing: TunnelRouting,
    pub(super) interfaces: IpsecInterfaces,
    pub(super) interface_routing: InterfaceRouting,
    pub(super) protected: HashMap<ProtectionId, Protected>,
    exceptions: Vec<Selector>,
    key_log: Option<KeyLogFiles>,
    notices: tokio_mpsc::Sender<Notice>,
    holes: Option<NeighbourDiscoveryHoles>,
    shared_port: bool,
    peers: HashMap<(SocketAddr, SocketAddr), usize>,
    encapsulated: HashMap<SaId, (SocketAddr, SocketAddr)>,
}

impl Executor {
    pub(super) fn new(
        kernel: LinuxSadb,
        rtnetlink: Rtnetlink,
        filter: Nftables,
        userspace: Option<Userspace>,
        key_log: Option<KeyLogFiles>,
        notices: tokio_mpsc::Sender<Notice>,
    ) -> Self {
        Self {
            kernel,
            rtnetlink,
            filter,
            userspace,
            ifindex: None,
            fence: Fence::default(),
            own_policies: KernelPolicies::default(),
            routing: TunnelRouting::new(RoutingOptions::default()),
            interfaces: IpsecInterfaces::default(),
            interface_routing: InterfaceRouting::new(EscapeOptions::default()),
            protected: HashMap::new(),
            exceptions: Vec::new(),
            key_log,
            notices,
            holes: None,
            shared_port: false,
            peers: HashMap::new(),
            encapsulated: HashMap::new(),
        }
    }

    fn follow_routes(&mut self) {
        if let Err(error) = self.interface_routing.follow(&mut self.rtnetlink) {
            tracing::warn!(event = "routes_lost", %error, "following the routes to peers failed");
        }
    }

    fn refresh(&mut self) {
        if let Err(error) = self.interface_routing.restore(&mut self.rtnetlink) {
            tracing::warn!(event = "routes_lost", %error, "putting routes into the interfaces back failed");
        }
        if self.ifindex.is_none() {
            return;
        }
        if let Err(error) = self.routing.restore(&mut self.rtnetlink) {
            tracing::warn!(event = "routes_lost", %error, "putting routes into the tunnels back failed");
        }
        if let Err(error) = self.fence.refresh(&mut self.kernel, &mut self.filter) {
            tracing::warn!(event = "fence_closed", "{error}");
        }
    }

    /// Passes on what the kernel tells.
    fn kernel_events(&mut self) {
        loop {
            match self.kernel.next_event() {
                Ok(Some(SadbEvent::Event(event))) => {
                    // The loop is never slower than this for long; here waiting hurts nobody.
                    if self
                        .notices
                        .blocking_send(Notice::Plane(Plane::Kernel, Box::new(event)))
                        .is_err()
                    {
                        return;
                    }
                }
                Ok(Some(SadbEvent::Resync)) => {
                    tracing::warn!(
                        event = "kernel_events_lost",
                        "the kernel had more IPsec events than we could take"
                    );
                    let sas = match self.kernel.sas() {
                        Ok(sas) => sas.iter().map(|report| report.sa.id).collect(),
                        Err(error) => {
                            tracing::warn!(%error, "reading the kernel's SAs back failed");
                            continue;
                        }
                    };
                    let notice = Notice::PlaneSas(Plane::Kernel, sas);
                    if self.notices.blocking_send(notice).is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "reading the kernel's IPsec events failed");
                    return;
                }
            }
        }
    }

    /// Removes policies that an earlier run has left and this one does not want.
    fn remove_unclaimed(&mut self) {
        for (key, result) in self.kernel.remove_unclaimed() {
            let what = format!(
                "the {:?} policy {} to {}",
                key.direction, key.selector.src, key.selector.dst
            );
            match result {
                Ok(_) | Err(CommandError::NotFound) => {
                    tracing::info!(
                        event = "leftover_removed",
                        "removed {what} of an earlier run"
                    );
                }
                Err(error) => tracing::warn!(%error, "removing {what} of an earlier run failed"),
            }
        }
        // Only now: what an earlier run led into an interface does not go out in clear before it is led there again.
        self.remove_leftovers();
        if let Err(error) = self.fence.tidy(&mut self.filter) {
            tracing::warn!(event = "fence_closed", "{error}");
        }
    }

    /// Neighbour discovery works whatever the policies block (S3.6).
    fn open_holes(&mut self) {
        match NeighbourDiscoveryHoles::open(&mut self.kernel) {
            Ok(holes) => self.holes = Some(holes),
            Err(error) => {
                tracing::warn!(%error, "no exception for IPv6 neighbour discovery could be made")
            }
        }
    }

    /// Removes routes, rules and interfaces that a crash has left behind.
    fn remove_leftovers(&mut self) {
        let (tunnels, interfaces) = (&self.routing, &self.interface_routing);
        let removed = remove_leftovers(
            &mut self.rtnetlink,
            |route| tunnels.uses_route(route) || interfaces.uses_route(route),
            |rule| tunnels.uses_rule(rule) || interfaces.uses_rule(rule),
        );
        match removed {
            Ok(left) => {
                for route in left.routes {
                    tracing::info!(%route, "removed a route that an earlier run had left");
                }
                for rule in left.rules {
                    tracing::info!(%rule, "removed a rule that an earlier run had left");
                }
            }
            Err(error) => tracing::warn!(%error, "looking for leftovers of an earlier run failed"),
        }
        match self.interfaces.remove_leftovers(&mut self.rtnetlink) {
            Ok(names) => {
                for device in names {
                    tracing::info!(
                        event = "leftover_removed",
                        device,
                        "removed an xfrm interface that an earlier run had left"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "looking for interfaces of an earlier run failed"),
        }
    }

    /// Works until told to stop or the daemon is gone.
    pub(super) fn run(
        mut self,
        jobs: &mpsc::Receiver<Job>,
        answers: &tokio_mpsc::UnboundedSender<Answered>,
    ) {
        self.open_holes();
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Request { id, request } => {
                    let answer = self.request(request);
                    if answers.send((id, answer)).is_err() {
                        break;
                    }
                }
                Job::Traffic { sas, reply } => {
                    let traffic = sas
                        .into_iter()
                        .map(|(plane, inbound, outbound)| {
                            (self.traffic(plane, inbound), self.traffic(plane, outbound))
                        })
                        .collect();
                    // A client that went away wants nothing any more.
                    let _ = reply.send(traffic);
                }
                Job::SharedPort(shared) => self.share_port(shared),
                Job::Refresh => self.refresh(),
                Job::RoutesChanged => self.follow_routes(),
                Job::KernelEvents => self.kernel_events(),
                Job::RemoveUnclaimed => self.remove_unclaimed(),
                Job::Stop(done) => {
                    self.stop();
                    let _ = done.send(());
                    return;
                }
            }
        }
        self.stop();
    }

    fn request(&mut self, request: Request) -> Answer {
        match request {
            Request::Execute { plane, commands } => {
                Answer::Executed(self.execute(plane, &commands))
            }
            Request::Protect(protection) => outcome(self.protect(&protection)),
            Request::Unprotect(id) => outcome(self.unprotect(id)),
            Request::Resolve(query) => self.resolve(&query),
            Request::SolvePuzzle { .. } => Answer::Failed("not the data planes' work".to_owned()),
        }
    }

    fn execute(&mut self, plane: Plane, commands: &[Command]) -> Vec<Result<Reply, CommandError>> {
        let mut results = Vec::with_capacity(commands.len());
        for command in commands {
            let result = self.execute_one(plane, command);
            let failed = result.is_err();
            results.push(result);
            if failed {
                break;
            }
        }
        results
    }

    fn execute_one(&mut self, plane: Plane, command: &Command) -> Result<Reply, CommandError> {
        let result = match (plane, &mut self.userspace) {
            (Plane::Kernel, _) => {
                let result = self
                    .own_policies
                    .fitting(command)
                    .and_then(|command| self.kernel.execute(&command));
                self.own_policies.note(command, &result);
                result
            }
            (Plane::Userspace, Some(userspace)) => userspace.handle.execute(command),
            (Plane::Userspace, None) => Err(CommandError::Unsupported(
                "the user-space data plane is not running".to_owned(),
            )),
        };
        // What has ended by itself, at a limit, is as gone as what was removed.
        let gone = matches!(result, Ok(_) | Err(CommandError::NotFound));
        match command {
            Command::InstallSa(sa) if result.is_ok() => {
                if let Some(log) = &mut self.key_log
                    && let Err(error) = log.esp_sa(sa)
                {
                    tracing::warn!(%error, "writing the key log failed");
                }
                if plane == Plane::Userspace {
                    self.open_peer_socket(sa);
                }
            }
            Command::MoveSa(request) if plane == Plane::Userspace && result.is_ok() => {
                self.move_peer_socket(request);
            }
            Command::RemoveSa(id) if plane == Plane::Userspace && gone => {
                self.close_peer_socket(id)
            }
            Command::InstallPolicy(p) | Command::UpdatePolicy(p)
                if plane == Plane::Kernel && result.is_ok() =>
            {
                self.note_exception(&p.key, p.action == Action::Allow);
            }
            Command::RemovePolicy(key) if plane == Plane::Kernel && gone => {
                self.note_exception(key, false)
            }
            _ => {}
        }
        result
    }

    /// What a kernel policy lets out may leave by any device even where a
    /// wider fence guards by device; the fence has to be told.
    fn note_exception(&mut self, key: &PolicyKey, allows: bool) {
        if key.direction != Direction::Out || key.selector.src.addr().is_ipv4() {
            return;
        }
        let known = self.exceptions.iter().position(|s| *s == key.selector);
        match (known, allows) {
            (None, true) => self.exceptions.push(key.selector),
            (Some(at), false) => drop(self.exceptions.swap_remove(at)),
            _ => return,
        }
        if let Err(error) = self
            .fence
            .set_exceptions(&mut self.filter, self.exceptions.clone())
        {
            tracing::warn!(event = "fence_closed", "{error}");
        }
    }

    /// From now on the kernel takes ESP from port 4500, or does not.
    fn share_port(&mut self, shared: bool) {
        if std::mem::replace(&mut self.shared_port, shared) || !shared {
            return;
        }
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for (local, remote) in peers {
            self.connect(local, remote);
        }
    }

    /// Counts the SAs with a peer whose ESP goes into UDP.
    fn open_peer_socket(&mut self, sa: &Sa) {
        let Some(Encap {
            kind: EncapKind::Udp,
            local_port,
            remote_port,
        }) = sa.encap
        else {
            return;
        };
        let inbound = sa.direction == cygnet_ipsec::SaDirection::In;
        let (local_ip, remote_ip) = if inbound {
            (sa.id.dst, sa.src)
        } else {
            (sa.src, sa.id.dst)
        };
        let local = SocketAddr::new(local_ip, local_port);
        let remote = SocketAddr::new(remote_ip, remote_port);
        if self.encapsulated.insert(sa.id, (local, remote)).is_some() {
            return;
        }
        let users = self.peers.entry((local, remote)).or_default();
        *users += 1;
        if *users == 1 && self.shared_port {
            self.connect(local, remote);
        }
    }

    /// Where the kernel takes ESP from port 4500, a user-space peer needs a
    /// connected socket: the kernel prefers it for that peer's datagrams.
    fn connect(&self, local: SocketAddr, remote: SocketAddr) {
        let spec = IkeSocketSpec {
            peer: Some(remote),
            shared: true,
            mark: Some(escape_mark()),
            path_mtu: PathMtu::Want,
            ..IkeSocketSpec::new(local)
        };
        let opened = UdpSockets
            .open(&spec)
            .map_err(|e| e.to_string())
            .and_then(|socket| {
                let userspace = self
                    .userspace
                    .as_ref()
                    .ok_or("the user-space data plane is not running")?;
                userspace
                    .handle
                    .add_peer_socket(OwnedFd::from(socket), local, remote)
                    .map_err(|e| e.to_string())
            });
        if let Err(error) = opened {
            tracing::warn!(%local, %remote, error, "no socket for a user-space peer: the kernel will swallow its ESP");
        }
    }

    /// The peer of an SA is elsewhere: the new socket comes before the old one goes.
    fn move_peer_socket(&mut self, request: &MoveSa) {
        let before = self.encapsulated.remove(&request.id);
        let query = Command::QuerySa(request.new_id());
        if let Ok(Reply::Sa(report)) = self.execute_one(Plane::Userspace, &query) {
            self.open_peer_socket(&report.sa);
        }
        if let Some(pair) = before {
            self.release_peer_socket(pair);
        }
    }

    fn close_peer_socket(&mut self, id: &SaId) {
        if let Some(pair) = self.encapsulated.remove(id) {
            self.release_peer_socket(pair);
        }
    }

    fn release_peer_socket(&mut self, pair: (SocketAddr, SocketAddr)) {
        let Some(users) = self.peers.get_mut(&pair) else {
            return;
        };
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.peers.remove(&pair);
            if self.shared_port
                && let Some(userspace) = &self.userspace
                && let Err(error) = userspace.handle.remove_udp_socket(pair.0, Some(pair.1))
            {
                tracing::debug!(%error, "the data plane did not give a peer's socket back");
            }
        }
    }

    fn resolve(&mut self, query: &ResolveQuery) -> Answer {
        let found = match query {
            ResolveQuery::DefaultRoute { toward: Some(peer) } => {
                // As our own sockets would go: past the routes into the tunnels.
                let query = RouteQuery::to(*peer).marked(escape_mark());
                self.rtnetlink
                    .route_to(&query)
                    .map(|r| r.source.into_iter().collect())
                    .map_err(|e| e.to_string())
            }
            ResolveQuery::DefaultRoute { toward: None } => {
                let v4 = self
                    .rtnetlink
                    .default_route(false)
                    .ok()
                    .and_then(|r| r.source);
                let v6 = self
                    .rtnetlink
                    .default_route(true)
                    .ok()
                    .and_then(|r| r.source);
                Ok(v4.into_iter().chain(v6).collect())
            }
            ResolveQuery::Interface(name) => self
                .rtnetlink
                .addresses_of(name)
                .map(|list| {
                    [false, true]
                        .into_iter()
                        .filter_map(|v6| primary_address(&list, v6))
                        .collect::<Vec<IpAddr>>()
                })
                .map_err(|e| e.to_string()),
            ResolveQuery::Name(_) => Err("names are resolved elsewhere".to_owned()),
        };
        match found {
            Ok(addresses) => Answer::Addresses(addresses),
            Err(error) => {
                tracing::debug!(?query, error, "nothing found");
                Answer::Addresses(Vec::new())
            }
        }
    }

    fn traffic(&mut self, plane: Plane, id: SaId) -> Option<Traffic> {
        let reply = self.execute_one(plane, &Command::QuerySa(id)).ok()?;
        let Reply::Sa(report) = reply else {
            return None;
        };
        Some(Traffic {
            bytes: report.counters.bytes,
            packets: report.counters.packets,
            replayed: u64::from(report.counters.replay),
            integrity_failed: u64::from(report.counters.integrity_failed),
        })
    }

    /// Everything of ours that the engine has not taken away itself.
    fn stop(&mut self) {
        let ids: Vec<ProtectionId> = self.protected.keys().copied().collect();
        for id in ids {
            if let Err(error) = self.unprotect(id) {
                tracing::warn!(error, "taking a fence away failed");
            }
        }
        if let Err(error) = self.routing.stop(&mut self.rtnetlink) {
            tracing::warn!(%error, "removing routes failed");
        }
        if let Some(ifindex) = self.ifindex.take()
            && let Err(error) =
                self.fence
                    .dismiss_device(&mut self.kernel, &mut self.filter, ifindex)
        {
            tracing::warn!(%error, "closing the fence failed");
        }
        if let Some(userspace) = self.userspace.take() {
            userspace.handle.stop();
        }
        if let Some(holes) = self.holes.take()
            && let Err(error) = holes.close(&mut self.kernel)
        {
            tracing::warn!(%error, "removing the exception for IPv6 neighbour discovery failed");
        }
        for (command, error) in self.kernel.remove_all() {
            tracing::warn!(?command, %error, "removing something from the kernel's databases failed");
        }
    }
}

fn outcome(result: Result<(), String>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(text) => Answer::Failed(text),
    }
}

/// The mark of our own packets, which escapes the routes into the tunnels.
pub(super) fn escape_mark() -> u32 {
    cygnet_kernel::routing::ESCAPE_MARK.value
}

/// Makes the run directory, for its owner only.
pub(super) fn make_run_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}
