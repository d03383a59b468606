//! Starting up: everything that can be wrong with a machine is found out here
//! and told with one precise sentence.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{StandardKeyExchange, SystemEntropy};
use cygnet_dataplane::{
    Config as PlaneConfig, Dataplane, DataplaneEvent, EventSink, Handle, Report, SetupError,
    SinkFull,
};
use cygnet_engine::{
    Capabilities, ConnectionSet, Engine, EngineOptions, Input, Plane, USERSPACE_SPIS,
};
use cygnet_ike::Transport;
use cygnet_kernel::ledger::{Ledger, LedgerError};
use cygnet_kernel::linux::{AddrMonitor, Nftables, RouteMonitor, Rtnetlink, exempt_from_policies};
use cygnet_kernel::sadb::{LinuxSadb, Sadb, SadbError};
use cygnet_kernel::{
    AddrEvents, InterfaceAddr, InterfaceAddrs, Links, RequestError, RouteEvents, Scope,
    listen_addresses,
};
use tokio::sync::mpsc;

use super::control_server;
use super::kernel_counters::KernelCounters;
use super::key_log::KeyLogFiles;
use super::keyring::{Keyring, Purpose};
use super::log::EventLog;
use super::planes::{Executor, Job, Userspace, escape_mark, make_run_dir};
use super::puzzles::Solver;
use super::sockets::{Datagram, MAX_DATAGRAMS, Sockets, Takers};
use super::watch::watch;
use super::{Daemon, Notice};
use crate::cli::DaemonOptions;
use crate::control::socket_path;
use crate::loader::Files;

/// Notices that may wait for the loop. Whatever is lost beyond that is counted
/// by its source and made good by retransmission or by the next event.
const MAX_NOTICES: usize = 1024;

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The run directory cannot be used.
    #[error("run directory {}: {error}", .path.display())]
    RunDir { path: PathBuf, error: io::Error },
    /// There is one already.
    #[error("another daemon runs with the run directory {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// The configuration is wrong.
    #[error("the configuration was not loaded:\n{0}")]
    Configuration(String),
    /// The kernel's databases are out of reach.
    #[error("the kernel's IPsec databases cannot be used: {0}")]
    Sadb(SadbError),
    /// We may not touch them.
    #[error(
        "no permission to change the kernel's IPsec databases: run as root or with CAP_NET_ADMIN and CAP_NET_RAW"
    )]
    NoPermission,
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Links, addresses and routes are out of reach.
    #[error("the kernel's network configuration cannot be read: {0}")]
    Network(#[from] RequestError),
    /// The user-space plane does not start.
    #[error("the user-space data plane does not start: {0}")]
    Userspace(#[from] SetupError),
    /// There is no TUN driver.
    #[error("the user-space data plane needs /dev/net/tun: {error} (is the tun module loaded?)")]
    NoTun { error: io::Error },
    /// No IKE socket could be opened.
    #[error("no IKE socket could be opened: {0}")]
    NoSockets(String),
    /// The control socket cannot be opened.
    #[error("control socket {}: {error}", .path.display())]
    Control { path: PathBuf, error: io::Error },
    /// The key log cannot be opened.
    #[error("key log {}: {error}", .path.display())]
    KeyLog { path: PathBuf, error: io::Error },
    /// Signals cannot be received.
    #[error("cannot receive signals: {error}")]
    Signals { error: io::Error },
    /// A thread of the daemon has ended; it cannot go on without.
    #[error("the thread {0} has ended unexpectedly, see above")]
    ThreadEnded(&'static str),
    /// Something cannot be watched or started.
    #[error("cannot {what}: {error}")]
    System {
        what: &'static str,
        error: io::Error,
    },
}

impl From<SadbError> for StartError {
    fn from(error: SadbError) -> Self {
        match error {
            SadbError::Socket(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                Self::NoPermission
            }
            error => Self::Sadb(error),
        }
    }
}

impl StartError {
    /// The stable name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::RunDir { .. } => "run_dir",
            Self::AlreadyRunning(_) => "already_running",
            Self::Configuration(_) => "configuration",
            Self::Sadb(_) => "kernel_databases",
            Self::NoPermission => "no_permission",
            Self::Ledger(_) => "ledger",
            Self::Network(_) => "network",
            Self::Userspace(_) => "userspace_plane",
            Self::NoTun { .. } => "tun_missing",
            Self::NoSockets(_) => "no_sockets",
            Self::Control { .. } => "control_socket",
            Self::KeyLog { .. } => "key_log",
            Self::Signals { .. } => "signals",
            Self::ThreadEnded(_) => "thread_ended",
            Self::System { .. } => "system",
        }
    }
}

/// Reads the configuration; the error is the whole report.
pub(super) fn load(config: &Path, secrets: &Path) -> Result<ConnectionSet, String> {
    let loaded =
        cygnet_config::load(config, Some(secrets), &Files).map_err(|report| report.to_string())?;
    for warning in &loaded.warnings {
        tracing::warn!(event = "configuration_warning", "{warning}");
    }
    Ok(loaded.set)
}

/// This host's addresses.
pub(super) struct Network {
    rtnetlink: Rtnetlink,
    wanted: Vec<IpAddr>,
}

impl Network {
    /// Restricts the addresses that IKE listens on (`listen=`).
    pub(super) fn listen_on(&mut self, wanted: &[IpAddr]) {
        self.wanted = wanted.to_vec();
    }

    /// The addresses to listen on, and those by which connections know their local end.
    pub(super) fn addresses(&mut self) -> Result<(Vec<IpAddr>, Vec<IpAddr>), RequestError> {
        let links = self.rtnetlink.links()?;
        let all = self.rtnetlink.addresses()?;
        let usable = |a: &&InterfaceAddr| a.is_usable() && a.scope != Scope::LINK;
        let ours = all
            .iter()
            .filter(usable)
            .map(|a| a.address.addr())
            .collect();
        Ok((listen_addresses(&all, &links, &self.wanted), ours))
    }
}

/// Which planes want ESP from port 4500.
pub(super) fn takers(engine: &Engine) -> Takers {
    Takers {
        kernel: engine.uses(Plane::Kernel),
        userspace: engine.uses(Plane::Userspace),
    }
}

/// The user-space plane's counters that moved.
pub(super) fn counters(report: &Report) -> serde_json::Value {
    let xfrm = report
        .xfrm
        .iter()
        .map(|(counter, n)| (counter.name().to_owned(), n));
    let own = report
        .core
        .iter()
        .chain(report.io.iter())
        .map(|(name, n)| (name.to_owned(), n));
    let moved = xfrm
        .chain(own)
        .filter(|(_, n)| *n > 0)
        .map(|(name, n)| (name, n.into()));
    serde_json::Value::Object(moved.collect())
}

/// The user-space plane's events on their way to the loop.
struct PlaneSink {
    notices: mpsc::Sender<Notice>,
    datagrams: mpsc::Sender<Datagram>,
}

impl EventSink for PlaneSink {
    fn try_send(&mut self, event: DataplaneEvent) -> Result<(), SinkFull> {
        match event {
            DataplaneEvent::Ike {
                local,
                remote,
                bytes,
                stream,
            } => {
                let transport = if stream {
                    Transport::Tcp
                } else {
                    Transport::UdpEncap
                };
                let datagram = Datagram {
                    local,
                    remote,
                    bytes,
                    transport,
                };
                match self.datagrams.try_send(datagram) {
                    Ok(()) => Ok(()),
                    Err(e) => {
                        let d = e.into_inner();
                        Err(SinkFull(DataplaneEvent::Ike {
                            local: d.local,
                            remote: d.remote,
                            bytes: d.bytes,
                            stream,
                        }))
                    }
                }
            }
            DataplaneEvent::Ipsec(event) => match self.notices.try_reserve() {
                Ok(place) => {
                    place.send(Notice::Plane(Plane::Userspace, Box::new(event)));
                    Ok(())
                }
                Err(_) => Err(SinkFull(DataplaneEvent::Ipsec(event))),
            },
            DataplaneEvent::StreamLost { local, remote } => match self.notices.try_reserve() {
                Ok(place) => {
                    place.send(Notice::StreamLost(local, remote));
                    Ok(())
                }
                Err(_) => Err(SinkFull(DataplaneEvent::StreamLost { local, remote })),
            },
            DataplaneEvent::DeviceLost { if_id, name } => match self.notices.try_reserve() {
                Ok(place) => {
                    place.send(Notice::DeviceLost(name));
                    Ok(())
                }
                Err(_) => Err(SinkFull(DataplaneEvent::DeviceLost { if_id, name })),
            },
        }
    }
}

/// Takes the run directory for this process.
fn lock(run_dir: &Path) -> Result<std::fs::File, StartError> {
    let wrong = |error| StartError::RunDir {
        path: run_dir.to_owned(),
        error,
    };
    make_run_dir(run_dir).map_err(wrong)?;
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(run_dir.join("lock"))
        .map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(StartError::AlreadyRunning(run_dir.to_owned()))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(wrong(error)),
    }
}

/// Starts the plane's thread. The device is made when a connection needs it.
fn start_userspace(sink: PlaneSink) -> Result<Handle, StartError> {
    std::fs::metadata("/dev/net/tun").map_err(|error| StartError::NoTun { error })?;
    let mut config = PlaneConfig::new(sink);
    config.core.spis = USERSPACE_SPIS;
    config.socket_mark = Some(escape_mark());
    config.exempt = Some(|socket, ipv6| exempt_from_policies(socket, ipv6));
    Ok(Dataplane::start(config)?)
}

/// Brings everything up to the first turn of the loop.
pub(super) async fn start(run_dir: &Path, options: &DaemonOptions) -> Result<Daemon, StartError> {
    let lock = lock(run_dir)?;
    let set = load(&options.config, &options.secrets).map_err(StartError::Configuration)?;

    let mut kernel = LinuxSadb::open(Some(Ledger::open(run_dir)?))?;
    let probed = kernel.probe()?;
    if probed.esp_v4 == cygnet_kernel::sadb::EspSupport::NoPermission {
        return Err(StartError::NoPermission);
    }
    let found = kernel.reconcile()?;
    for sa in &found.removed_sas {
        tracing::info!(
            event = "leftover_removed",
            "removed the SA {:08x} to {} of an earlier run",
            sa.spi,
            sa.dst
        );
    }
    for key in &found.adopted_policies {
        tracing::info!(
            event = "leftover_adopted",
            "took over the {:?} policy {} to {}",
            key.direction,
            key.selector.src,
            key.selector.dst
        );
    }

    let (notices, notices_in) = mpsc::channel(MAX_NOTICES);
    let (datagrams, datagrams_in) = mpsc::channel(MAX_DATAGRAMS);
    let (jobs, jobs_in) = std::sync::mpsc::channel();
    let (answers, answers_in) = mpsc::unbounded_channel();

    watch_kernel_events(&kernel, &jobs)?;
    let sink = PlaneSink {
        notices: notices.clone(),
        datagrams: datagrams.clone(),
    };
    let userspace = match start_userspace(sink) {
        Ok(handle) => Some(handle),
        Err(error)
            if set
                .connections
                .iter()
                .any(|c| c.plane == cygnet_engine::PlaneChoice::Userspace) =>
        {
            return Err(error);
        }
        Err(error) => {
            tracing::info!(%error, "without user-space data plane");
            None
        }
    };
    let key_log = options
        .key_log
        .as_ref()
        .map(|dir| {
            KeyLogFiles::open(dir).map_err(|error| StartError::KeyLog {
                path: dir.clone(),
                error,
            })
        })
        .transpose()?;
    let executor = Executor::new(
        kernel,
        Rtnetlink::open()?,
        Nftables::open()?,
        userspace.as_ref().map(|handle| Userspace {
            handle: handle.clone(),
            device: options.device.clone(),
        }),
        key_log
            .as_ref()
            .map(KeyLogFiles::try_clone)
            .transpose()
            .map_err(|error| StartError::System {
                what: "share the key log",
                error,
            })?,
        notices.clone(),
    );
    let executor_answers = answers.clone();
    std::thread::Builder::new()
        .name("cygnet-kernel".to_owned())
        .spawn(move || executor.run(&jobs_in, &executor_answers))
        .map_err(|error| StartError::System {
            what: "start a thread",
            error,
        })?;

    let mut crash_secrets = Keyring::new(Purpose::CrashTokens, &options.state_dir);
    let engine_options = EngineOptions {
        capabilities: Capabilities {
            kernel: probed.has_esp().then_some(probed.features),
            userspace: userspace.is_some().then_some(cygnet_dataplane::FEATURES),
        },
        key_log: options.key_log.is_some(),
        vendor_ids: Vec::new(),
        crash_secrets: crash_secrets.secrets(),
        cpus: std::thread::available_parallelism()
            .map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
    };
    tracing::info!(
        event = "started",
        kernel_esp = engine_options.capabilities.kernel.is_some(),
        userspace = engine_options.capabilities.userspace.is_some(),
        connections = set.connections.len(),
        "cygnet {}",
        env!("CARGO_PKG_VERSION")
    );
    let setup = set.setup.clone();
    let mut engine = Engine::new(
        engine_options,
        setup.clone(),
        Arc::new(StandardKeyExchange),
        Box::new(SystemEntropy::default()),
        Box::new(SystemEntropy::default()),
    );

    // Watch first, read then: nothing falls between.
    watch_network(&notices)?;
    let mut network = Network {
        rtnetlink: Rtnetlink::open()?,
        wanted: setup.listen.clone(),
    };
    let (listen, all) = network.addresses()?;
    engine.handle(Instant::now(), Input::Addresses(all));
    engine
        .load(Instant::now(), set)
        .map_err(|error| StartError::Configuration(error.to_string()))?;

    let mut sockets = Sockets::new((setup.ike_port, setup.nat_port), escape_mark(), datagrams);
    sockets.take_streams(setup.listen_tcp);
    let takers = takers(&engine);
    let _ = jobs.send(Job::SharedPort(takers.kernel && takers.userspace));
    sockets
        .close_stale(&listen, takers, userspace.as_ref())
        .await;
    let errors = sockets.open_missing(&listen);
    for error in &errors {
        tracing::error!(event = "socket_failed", "{error}");
    }
    if sockets.is_empty()
        && let Some(first) = errors.first()
    {
        return Err(StartError::NoSockets(first.to_string()));
    }
    let control_path = socket_path(run_dir);
    let listener = control_server::bind(&control_path).map_err(|error| StartError::Control {
        path: control_path.clone(),
        error,
    })?;
    let (calls, calls_in) = mpsc::channel(64);
    tokio::task::spawn_local(control_server::serve(listener, calls));

    let mut kernel_counters = KernelCounters::default();
    kernel_counters.look();
    Ok(Daemon {
        engine,
        sockets,
        network,
        jobs,
        userspace,
        answers: answers_in,
        solver: Solver::new(answers.clone()),
        own_answers: answers,
        datagrams: datagrams_in,
        notices: notices_in,
        calls: calls_in,
        event_log: EventLog::new(Instant::now()),
        kernel_counters,
        key_log,
        ticket_keys: Keyring::new(Purpose::Tickets, &options.state_dir),
        crash_secrets,
        waiters: HashMap::new(),
        config: options.config.clone(),
        secrets: options.secrets.clone(),
        _lock: lock,
        control_path,
        listen: None,
        lost_thread: None,
        started: Instant::now(),
        leftovers: true,
    })
}

/// Has the executor read the XFRM events whenever there are any.
fn watch_kernel_events(
    kernel: &LinuxSadb,
    jobs: &std::sync::mpsc::Sender<Job>,
) -> Result<(), StartError> {
    let Some(fd) = kernel.event_fd() else {
        return Ok(());
    };
    let watched = fd.try_clone_to_owned().and_then(watch);
    let events = watched.map_err(|error| StartError::System {
        what: "watch the kernel's IPsec events",
        error,
    })?;
    let jobs = jobs.clone();
    tokio::task::spawn_local(async move {
        while let Ok(mut ready) = events.readable().await {
            // Cleared before the executor reads until nothing is left: no event is missed.
            ready.clear_ready();
            if jobs.send(Job::KernelEvents).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Tells the loop when links, addresses, routes or rules change.
fn watch_network(notices: &mpsc::Sender<Notice>) -> Result<(), StartError> {
    let mut addresses = AddrMonitor::open()?;
    let fd = addresses.as_fd().try_clone_to_owned();
    let changed = move || {
        let mut any = false;
        while let Ok(Some(_)) = addresses.next_event() {
            any = true;
        }
        any.then_some(Notice::Addresses)
    };
    forward(fd, changed, notices)?;
    let mut routes = RouteMonitor::open()?;
    let fd = routes.as_fd().try_clone_to_owned();
    let changed = move || {
        let mut any = false;
        while let Ok(Some(event)) = routes.next_event() {
            any |= event.touches_default_route();
        }
        any.then_some(Notice::Routes)
    };
    forward(fd, changed, notices)
}

/// Whenever the descriptor is readable, reads all there is and passes on what came of it.
fn forward(
    fd: io::Result<OwnedFd>,
    mut read_all: impl FnMut() -> Option<Notice> + 'static,
    notices: &mpsc::Sender<Notice>,
) -> Result<(), StartError> {
    let fd = fd.and_then(watch).map_err(|error| StartError::System {
        what: "watch the network configuration",
        error,
    })?;
    let notices = notices.clone();
    tokio::task::spawn_local(async move {
        while let Ok(mut ready) = fd.readable().await {
            ready.clear_ready();
            if let Some(notice) = read_all()
                && notices.send(notice).await.is_err()
            {
                return;
            }
        }
    });
    Ok(())
}
