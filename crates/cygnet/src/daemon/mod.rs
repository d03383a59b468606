//! `cygnet daemon`: the loop around the engine.
//!
//! One thread runs the engine, the IKE sockets and the control socket; one
//! carries out requests ([`planes`]); the user-space plane has its own. They
//! exchange values over channels, and nobody waits for anybody: what the
//! engine wants done is answered later as an input.

mod control_server;
mod kernel_counters;
mod kernel_policies;
mod key_log;
mod keyring;
mod log;
mod planes;
mod protections;
mod puzzles;
mod sockets;
mod start;
mod state_dir;
mod watch;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_engine::{
    Answer, ConnectionStatus, Engine, Event, Input, Output, Plane, Request as EngineRequest,
    ResolveQuery, Traffic,
};
use cygnet_ike::Event as IkeEvent;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use self::control_server::{Call, refusal};
use self::kernel_counters::KernelCounters;
use self::keyring::Keyring;
use self::planes::{Answered, Job};
use self::puzzles::Solver;
use self::sockets::{Datagram, Sockets};
use crate::cli::DaemonOptions;
use crate::control::{Refusal, Reply, Request};

/// How long an earlier run's fence waits for the addresses of the connections that it may be for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often what others may have taken away is put back.
const REFRESH: Duration = Duration::from_secs(15);

/// How long peers may take to answer our good-byes.
const FAREWELL: Duration = Duration::from_secs(3);

/// Runs the daemon until it is told to end.
pub(crate) fn run(run_dir: &Path, options: &DaemonOptions) -> ExitCode {
    if let Err(text) = log::init(&options.log, options.log_format) {
        eprintln!("cygnet: {text}");
        return ExitCode::from(2);
    }
    // What the daemon writes (socket, ledger, keys) is its owner's business only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::FAILURE;
        }
    };
    raise_descriptor_limit();
    let local = tokio::task::LocalSet::new();
    let ended = local.block_on(&runtime, async {
        start::start(run_dir, options).await?.run().await
    });
    drop(local);
    // A resolver that does not answer does not keep us.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(event = error.name(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Each TCP stream is a descriptor: as many as this process may have at all.
fn raise_descriptor_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

/// What the plane threads and the kernel's event sockets tell.
#[derive(Debug)]
enum Notice {
    /// A plane speaks up.
    Plane(Plane, Box<cygnet_ipsec::Event>),
    /// Events of a plane were lost: these are its SAs.
    PlaneSas(Plane, Vec<cygnet_ipsec::SaId>),
    /// Links or addresses changed.
    Addresses,
    /// Routes or rules changed.
    Routes,
    /// The user-space device is gone: somebody deleted it.
    DeviceLost(String),
    /// A TCP stream, ours first, is broken.
    StreamLost(SocketAddr, SocketAddr),
}

/// The running daemon.
struct Daemon {
    engine: Engine,
    sockets: Sockets,
    network: start::Network,
    jobs: std::sync::mpsc::Sender<Job>,
    userspace: Option<cygnet_dataplane::Handle>,
    answers: mpsc::UnboundedReceiver<Answered>,
    own_answers: mpsc::UnboundedSender<Answered>,
    solver: Solver,
    datagrams: mpsc::Receiver<Datagram>,
    notices: mpsc::Receiver<Notice>,
    calls: mpsc::Receiver<Call>,
    event_log: log::EventLog,
    kernel_counters: KernelCounters,
    key_log: Option<key_log::KeyLogFiles>,
    ticket_keys: Keyring,
    crash_secrets: Keyring,
    waiters: HashMap<Arc<str>, Vec<mpsc::Sender<Reply>>>,
    config: PathBuf,
    secrets: PathBuf,
    /// Keeps the run directory ours.
    _lock: std::fs::File,
    control_path: PathBuf,
    /// Addresses to listen on, where the sockets do not fit them yet.
    listen: Option<Vec<std::net::IpAddr>>,
    /// A thread that has ended by itself.
    lost_thread: Option<&'static str>,
    /// When the daemon started.
    started: Instant,
    /// Policies of an earlier run may still stand.
    leftovers: bool,
}

impl Daemon {
    async fn run(mut self) -> Result<(), start::StartError> {
        let failed = |error| start::StartError::Signals { error };
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let mut refresh = tokio::time::interval(REFRESH);
        refresh.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.flush();
        loop {
            let wake = self.engine.next_timeout();
            tokio::select! {
                _ = refresh.tick() => self.refresh(),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => drop(self.reload()),
                Some(answer) = self.answers.recv() => self.answer(answer),
                Some(datagram) = self.datagrams.recv() => self.datagram(&datagram),
                Some(notice) = self.notices.recv() => self.notice(notice),
                Some(call) = self.calls.recv() => self.call(call),
                () = sleep_until(wake) => self.engine.handle(Instant::now(), Input::Timeout),
            }
            // Before anything is sent: an address that is new here needs its sockets.
            self.update_sockets().await;
            self.flush();
            if let Some(name) = self.lost_thread {
                // The fence and the ledger are made for this: a new start finds everything.
                return Err(start::StartError::ThreadEnded(name));
            }
        }
        self.farewell().await;
        Ok(())
    }

    /// Tells the peers, takes everything away, waits a bounded time for both.
    async fn farewell(mut self) {
        tracing::info!("going down");
        let deadline = Instant::now() + FAREWELL;
        self.engine.shutdown(Instant::now());
        self.flush();
        while !self.engine.is_drained() && Instant::now() < deadline {
            let wake = self
                .engine
                .next_timeout()
                .map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                Some(answer) = self.answers.recv() => self.answer(answer),
                Some(datagram) = self.datagrams.recv() => self.datagram(&datagram),
                // Of no interest any more, but whoever tells must not be kept waiting.
                Some(_) = self.notices.recv() => {}
                () = sleep_until(Some(wake)) => self.engine.handle(Instant::now(), Input::Timeout),
            }
            self.flush();
        }
        if !self.engine.is_drained() {
            tracing::warn!("some peers did not answer our good-bye");
        }
        // Nobody listens any more: whoever tells must not wait instead of stopping.
        self.notices.close();
        let (done, stopped) = oneshot::channel();
        if self.jobs.send(Job::Stop(done)).is_ok() {
            let _ = tokio::time::timeout(FAREWELL, stopped).await;
        }
        let _ = std::fs::remove_file(&self.control_path);
    }

    /// Puts back what others may have taken away, and sees whether the threads are still there.
    fn refresh(&mut self) {
        if self.jobs.send(Job::Refresh).is_err() {
            self.lost_thread = Some("cygnet-kernel");
        }
        let plane_answers = |handle: &cygnet_dataplane::Handle| handle.counters().is_ok();
        if !self.userspace.as_ref().is_none_or(plane_answers) {
            self.lost_thread = Some("cygnet-plane");
        }
        self.refresh_keys();
        self.kernel_counters.look();
    }

    /// Gives the engine the keys of tickets, which change, and the time of day, which is set, if it has any use for them, and
    /// the secrets of quick crash detection, which change too.
    fn refresh_keys(&mut self) {
        self.engine.set_crash_secrets(self.crash_secrets.secrets());
        let wanted = self.engine.resumes_sessions();
        let keys = wanted.then(|| self.ticket_keys.current());
        self.engine.set_ticket_keys(keys);
    }

    fn answer(&mut self, (id, answer): Answered) {
        self.engine
            .handle(Instant::now(), Input::Answer { id, answer });
    }

    fn datagram(&mut self, d: &Datagram) {
        let input = Input::Datagram {
            local: d.local,
            remote: d.remote,
            bytes: &d.bytes,
            transport: d.transport,
        };
        self.engine.handle(Instant::now(), input);
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Plane(plane, event) => {
                self.engine.handle(
                    Instant::now(),
                    Input::PlaneEvent {
                        plane,
                        event: *event,
                    },
                );
            }
            Notice::PlaneSas(plane, sas) => {
                self.engine
                    .handle(Instant::now(), Input::PlaneSas { plane, sas });
            }
            Notice::StreamLost(local, remote) => {
                let lost = Input::StreamLost { local, remote };
                self.engine.handle(Instant::now(), lost);
            }
            Notice::Addresses => self.update_addresses(),
            Notice::Routes => {
                let _ = self.jobs.send(Job::RoutesChanged);
                self.engine.handle(Instant::now(), Input::RoutesChanged);
            }
            Notice::DeviceLost(name) => {
                tracing::error!(
                    device = name,
                    "the device of the user-space plane is gone; its traffic stays blocked until a restart"
                );
            }
        }
    }

    /// Reads the addresses anew and tells the engine; the sockets follow.
    fn update_addresses(&mut self) {
        match self.network.addresses() {
            Ok((listen, all)) => {
                self.listen = Some(listen);
                self.engine.handle(Instant::now(), Input::Addresses(all));
                let _ = self.jobs.send(Job::Refresh);
            }
            Err(error) => tracing::warn!(%error, "reading this host's addresses failed"),
        }
    }

    /// Opens and closes IKE sockets so that they fit the addresses and the planes in use.
    async fn update_sockets(&mut self) {
        let Some(listen) = self.listen.take() else {
            return;
        };
        let takers = start::takers(&self.engine);
        self.sockets
            .close_stale(&listen, takers, self.userspace.as_ref())
            .await;
        for error in self.sockets.open_missing(&listen) {
            tracing::error!(event = "socket_failed", "{error}");
        }
        let shared = self.sockets.is_shared();
        let _ = self.jobs.send(Job::SharedPort(shared));
    }

    fn reload(&mut self) -> Result<String, String> {
        let result = start::load(&self.config, &self.secrets).and_then(|set| {
            let (count, setup) = (set.connections.len(), set.setup.clone());
            let loaded = self.engine.load(Instant::now(), set);
            loaded.map_err(|error| error.to_string())?;
            Ok((count, setup))
        });
        match result {
            Ok((count, setup)) => {
                self.network.listen_on(&setup.listen);
                self.sockets.take_streams(setup.listen_tcp);
                self.update_addresses();
                self.refresh_keys();
                let text = format!("{count} connections loaded");
                tracing::info!(event = "reloaded", "{text}");
                Ok(text)
            }
            Err(report) => {
                // Nothing is half loaded: what ran goes on.
                tracing::error!(
                    event = "reload_failed",
                    "the configuration was not loaded:\n{report}"
                );
                Err(report)
            }
        }
    }

    fn call(&mut self, call: Call) {
        let now = Instant::now();
        let Call { request, replies } = call;
        let mut begun = 0;
        let result = match &request {
            Request::Up { connection, .. } => self.engine.up(now, connection),
            Request::Down { connection } => self.engine.down(now, connection),
            Request::Route { connection } => self.engine.route(now, connection),
            Request::Unroute { connection } => self.engine.unroute(now, connection),
            Request::Rekey { connection, ike } => self
                .engine
                .rekey(now, connection, *ike)
                .map(|count| begun = count),
            Request::Redirect { connection, target } => match target.parse() {
                Ok(to) => self
                    .engine
                    .redirect(now, connection.as_deref(), &to)
                    .map(|count| begun = count),
                Err(error) => {
                    let error: cygnet_ike::NoGateway = error;
                    let text = format!("{target}: {error}");
                    let _ = replies.try_send(refusal(Refusal::Failed, "no_gateway", text));
                    return;
                }
            },
            Request::Synchronise { connection } => self
                .engine
                .synchronise(now, connection)
                .map(|count| begun = count),
            Request::Reload => {
                let reply = match self.reload() {
                    Ok(text) => Reply::Done { text },
                    Err(text) => refusal(Refusal::Failed, "reload_failed", text),
                };
                let _ = replies.try_send(reply);
                return;
            }
            Request::Status => return self.status(replies),
        };
        if let Err(unknown) = result {
            let reply = refusal(
                Refusal::UnknownConnection,
                "unknown_connection",
                unknown.to_string(),
            );
            let _ = replies.try_send(reply);
            return;
        }
        match request {
            Request::Up {
                connection,
                wait: true,
            } => self.wait_for(&connection, replies),
            Request::Up { connection, .. } => {
                done(&replies, format!("{connection}: on its way up"))
            }
            Request::Down { connection } => done(&replies, format!("{connection}: down")),
            Request::Route { connection } => done(&replies, format!("{connection}: trap set")),
            Request::Unroute { connection } => {
                done(&replies, format!("{connection}: trap removed"))
            }
            Request::Rekey { connection, .. } if begun == 0 => {
                let text = format!("{connection}: there is nothing to renew");
                let _ = replies.try_send(refusal(Refusal::Failed, "not_up", text));
            }
            Request::Rekey { connection, ike } => {
                let what = if ike { "IKE SAs" } else { "child SAs" };
                done(&replies, format!("{connection}: renewing {what}: {begun}"));
            }
            Request::Redirect { .. } if begun == 0 => {
                let text = "there is no peer that can be sent elsewhere".to_owned();
                let _ = replies.try_send(refusal(Refusal::Failed, "not_redirectable", text));
            }
            Request::Redirect { target, .. } => {
                done(&replies, format!("peers sent to {target}: {begun}"));
            }
            Request::Synchronise { .. } if begun == 0 => {
                let text = "there is no peer that can synchronise Message IDs".to_owned();
                let _ = replies.try_send(refusal(Refusal::Failed, "not_synchronisable", text));
            }
            Request::Synchronise { .. } => {
                done(&replies, format!("peers asked to synchronise: {begun}"));
            }
            Request::Reload | Request::Status => {}
        }
    }

    /// Answers when the connection is up or its attempt has failed.
    fn wait_for(&mut self, connection: &str, replies: mpsc::Sender<Reply>) {
        let status = self.engine.status(Instant::now());
        let Some(c) = status.connections.iter().find(|c| c.name == connection) else {
            return;
        };
        match (c.state, &c.reason) {
            ("up", _) => done(&replies, format!("{connection}: up")),
            // Passthrough and drop: what would negotiate does so by now.
            ("trapped", _) => done(&replies, format!("{connection}: in place")),
            ("unoriented", reason) => {
                let text = format!(
                    "{connection}: {}",
                    reason.as_deref().unwrap_or("no local end")
                );
                let _ = replies.try_send(refusal(Refusal::Failed, "unoriented", text));
            }
            _ => self
                .waiters
                .entry(Arc::from(connection))
                .or_default()
                .push(replies),
        }
    }

    fn status(&mut self, replies: mpsc::Sender<Reply>) {
        self.kernel_counters.look();
        let kernel_counters = self.kernel_counters.report();
        let mut status = self.engine.status(Instant::now());
        let sas = status
            .connections
            .iter()
            .flat_map(|c| &c.children)
            .filter_map(|c| c.sas)
            .collect();
        let counters = self
            .userspace
            .as_ref()
            .and_then(|h| h.counters().ok())
            .map(|r| start::counters(&r));
        let (reply, traffic) = oneshot::channel();
        if self.jobs.send(Job::Traffic { sas, reply }).is_err() {
            return;
        }
        tokio::task::spawn_local(async move {
            let mut traffic: std::vec::IntoIter<(Option<Traffic>, Option<Traffic>)> =
                traffic.await.unwrap_or_default().into_iter();
            for child in status.connections.iter_mut().flat_map(|c| &mut c.children) {
                if child.sas.is_some()
                    && let Some((inbound, outbound)) = traffic.next()
                {
                    child.inbound = inbound;
                    child.outbound = outbound;
                }
            }
            let mut status = serde_json::to_value(status).unwrap_or_default();
            if let Some(counters) = counters {
                status["counters"] = counters;
            }
            status["kernel_counters"] = kernel_counters;
            let _ = replies.try_send(Reply::Status { status });
        });
    }

    /// Carries out what the engine wants done.
    fn flush(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Transmit(transmit) => {
                    if let Err(error) = self.sockets.send(&transmit) {
                        tracing::debug!(remote = %transmit.remote, %error, "an IKE message could not be sent");
                    }
                }
                Output::Request {
                    id,
                    request: EngineRequest::Resolve(ResolveQuery::Name(name)),
                } => {
                    resolve_name(id, name, self.own_answers.clone());
                }
                Output::Request {
                    id,
                    request: EngineRequest::SolvePuzzle { puzzle, time },
                } => self.solver.solve(id, puzzle, time),
                Output::Request { id, request } => {
                    if self.jobs.send(Job::Request { id, request }).is_err() {
                        let text = "the thread of the data planes has ended".to_owned();
                        let _ = self.own_answers.send((id, Answer::Failed(text)));
                    }
                }
                Output::Stream {
                    local,
                    remote,
                    used,
                } => self.sockets.use_stream(local, remote, used),
                Output::Event(event) => self.event(&event),
            }
        }
        // What an earlier run fenced and this configuration does not know is opened only
        // when everything that this one wants stands.
        if self.leftovers && self.engine.is_settled(self.started.elapsed() > PATIENCE) {
            self.leftovers = false;
            let _ = self.jobs.send(Job::RemoveUnclaimed);
        }
    }

    fn event(&mut self, event: &Event) {
        self.event_log.write(event);
        if let (
            Some(files),
            Event::Ike {
                event:
                    IkeEvent::IkeEstablished {
                        keys: Some(keys), ..
                    },
                ..
            },
        ) = (&mut self.key_log, event)
            && let Err(error) = files.ike_sa(keys)
        {
            tracing::warn!(%error, "writing the key log failed");
        }
        match event {
            Event::ConnectionUp { connection, .. } => {
                self.end_wait(connection, || Reply::Done {
                    text: format!("{connection}: up"),
                });
            }
            Event::AttemptFailed {
                connection,
                reason,
                text,
                ..
            } => {
                self.end_wait(connection, || {
                    refusal(Refusal::Failed, reason, format!("{connection}: {text}"))
                });
            }
            Event::Trapped { connection } if self.waiters.contains_key(connection) => {
                let status = self.engine.status(Instant::now());
                let in_place =
                    |c: &ConnectionStatus| c.name == **connection && c.state == "trapped";
                if status.connections.iter().any(in_place) {
                    self.end_wait(connection, || Reply::Done {
                        text: format!("{connection}: in place"),
                    });
                }
            }
            Event::TrapFailed { connection, text } => {
                self.end_wait(connection, || {
                    refusal(
                        Refusal::Failed,
                        "trap_failed",
                        format!("{connection}: {text}"),
                    )
                });
            }
            Event::Ike {
                connection: Some(connection),
                ..
            } => {
                if let (Some(waiting), Some(text)) =
                    (self.waiters.get(connection), log::progress(event))
                {
                    let line = Reply::Progress {
                        event: event.name().to_owned(),
                        text,
                    };
                    for replies in waiting {
                        // A client that does not read misses lines, nobody else does.
                        let _ = replies.try_send(line.clone());
                    }
                }
            }
            _ => {}
        }
    }

    fn end_wait(&mut self, connection: &Arc<str>, reply: impl Fn() -> Reply) {
        for replies in self.waiters.remove(connection).into_iter().flatten() {
            let _ = replies.try_send(reply());
        }
    }
}

fn done(replies: &mpsc::Sender<Reply>, text: String) {
    let _ = replies.try_send(Reply::Done { text });
}

/// DNS may take its time; nobody waits for it here.
fn resolve_name(
    id: cygnet_engine::RequestId,
    name: String,
    answers: mpsc::UnboundedSender<Answered>,
) {
    tokio::task::spawn_local(async move {
        let addresses = match tokio::net::lookup_host((name.as_str(), 0)).await {
            Ok(found) => found.map(|a| a.ip()).collect(),
            Err(error) => {
                tracing::warn!(name, %error, "a name could not be resolved");
                Vec::new()
            }
        };
        let _ = answers.send((id, Answer::Addresses(addresses)));
    });
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
