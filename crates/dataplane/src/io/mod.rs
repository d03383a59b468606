//! The plane with its devices and sockets: one thread around an epoll instance.
//!
//! Each turn reads one batch from whatever is ready, runs it through the [`Core`] and writes out
//! what comes of it. Epoll is level-triggered, so a batch that did not empty its source comes again
//! at once, after the others had their turn.

mod receive;
mod send;
mod socket;
mod stream;
#[allow(unsafe_code)] // The only module that may; see there.
mod sys;
mod tun;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cygnet_ipsec::{Command, CommandError, Protocol, Reply};
use hashbrown::HashMap;
use rustix::event::{Timespec, epoll};
use thiserror::Error;
use tracing::{debug, warn};

use crate::config::{Config, DataplaneEvent, EventSink, Exempt, SinkFull};
use crate::core::{Arrival, Core, Output};
use crate::counters::{IoCounters, Report};
use crate::handle::{HandleError, Mailbox, Request};
use crate::packet::Packet;

use socket::{Kind, Socket};
use stream::Streams;
pub use tun::{Tun, TunError};

/// A step of the set-up that the kernel refused.
#[derive(Debug, Error)]
#[error("cannot {what}: {error}")]
pub struct SetupError {
    /// The step.
    pub what: &'static str,
    /// The kernel's answer.
    #[source]
    pub error: io::Error,
}

/// How often the kernel is asked for the MTU of the paths in use.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// How many paths are asked for in one go; each costs four system calls.
const PROBE_BATCH: usize = 32;
/// How many events wait when the daemon is behind; more are dropped and counted.
const BACKLOG: usize = 1024;
/// When the backlog is tried again.
const BACKLOG_RETRY: Duration = Duration::from_millis(20);

/// What an epoll event is about.
#[derive(Clone, Copy)]
enum Token {
    Wake,
    Device(usize),
    Socket(usize),
    Listener(usize),
    Stream(usize),
}

impl Token {
    fn encode(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Token::Wake => 0,
            Token::Device(slot) => 1 << 32 | slot as u64,
            Token::Socket(slot) => 2 << 32 | slot as u64,
            Token::Listener(slot) => 3 << 32 | slot as u64,
            Token::Stream(slot) => 4 << 32 | slot as u64,
        })
    }

    fn decode(data: epoll::EventData) -> Self {
        let slot = data.u64() as u32 as usize;
        match data.u64() >> 32 {
            1 => Token::Device(slot),
            2 => Token::Socket(slot),
            3 => Token::Listener(slot),
            4 => Token::Stream(slot),
            _ => Token::Wake,
        }
    }
}

struct Device {
    tun: Tun,
    if_id: u32,
}

/// Devices and sockets by what packets name them with.
#[derive(Default)]
struct Tables {
    devices: Vec<Option<Device>>,
    device_by_if_id: HashMap<u32, usize>,
    sockets: Vec<Option<Socket>>,
    /// Unconnected UDP sockets by bound address; unspecified addresses are keys like others.
    udp: HashMap<SocketAddr, usize>,
    /// Connected ones by both addresses.
    peers: HashMap<(SocketAddr, SocketAddr), usize>,
    /// Raw sockets.
    raw: HashMap<Kind, usize>,
}

/// The first free slot of a table.
fn insert<T>(slots: &mut Vec<Option<T>>, value: T) -> usize {
    match slots.iter().position(Option::is_none) {
        Some(slot) => {
            slots[slot] = Some(value);
            slot
        }
        None => {
            slots.push(Some(value));
            slots.len() - 1
        }
    }
}

/// The state of the plane's thread.
pub(crate) struct Plane {
    core: Core,
    epoll: OwnedFd,
    mailbox: Mailbox,
    tables: Tables,
    streams: Streams,
    socket_mark: Option<u32>,
    exempt: Option<Exempt>,
    events: Box<dyn EventSink>,
    backlog: VecDeque<DataplaneEvent>,
    counters: IoCounters,
    scratch: sys::Scratch,
    /// Buffers for the next read: as many as a batch has, always.
    spare: Vec<Packet>,
    inner: Vec<Packet>,
    arrivals: Vec<Arrival>,
    output: Output,
    /// Paths that wait for their MTU probe, and when all are asked for again.
    unprobed: VecDeque<(IpAddr, IpAddr)>,
    next_probe: Instant,
}

impl Plane {
    pub(crate) fn new(config: Config, mailbox: Mailbox) -> Result<Self, SetupError> {
        let failed = |what: &'static str| move |error: io::Error| SetupError { what, error };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| failed("make an epoll instance")(error.into()))?;
        epoll::add(
            &epoll,
            &*mailbox.wake,
            Token::Wake.encode(),
            epoll::EventFlags::IN,
        )
        .map_err(|error| failed("watch an eventfd")(error.into()))?;
        let mut plane = Self {
            core: Core::new(config.core.clone()),
            epoll,
            mailbox,
            tables: Tables::default(),
            streams: Streams::default(),
            socket_mark: config.socket_mark,
            exempt: config.exempt,
            events: config.events,
            backlog: VecDeque::new(),
            counters: IoCounters::default(),
            scratch: sys::Scratch::new(),
            spare: (0..sys::BATCH).map(|_| Packet::new()).collect(),
            inner: Vec::with_capacity(sys::BATCH),
            arrivals: Vec::with_capacity(sys::BATCH),
            output: Output::new(4 * sys::BATCH),
            unprobed: VecDeque::new(),
            next_probe: Instant::now() + PROBE_INTERVAL,
        };
        for (protocol, v6, wanted, what) in [
            (
                Protocol::Esp,
                false,
                config.raw_v4,
                "open a raw IPv4 socket for ESP",
            ),
            (
                Protocol::Ah,
                false,
                config.raw_v4,
                "open a raw IPv4 socket for AH",
            ),
            (
                Protocol::Esp,
                true,
                config.raw_v6,
                "open a raw IPv6 socket for ESP",
            ),
            (
                Protocol::Ah,
                true,
                config.raw_v6,
                "open a raw IPv6 socket for AH",
            ),
        ] {
            if !wanted {
                continue;
            }
            let (mark, exempt) = (config.socket_mark, config.exempt);
            let sockets =
                Socket::raw(protocol, v6, mark, exempt, &config.core.spis).map_err(failed(what))?;
            for socket in sockets {
                let kind = socket.kind;
                let slot = plane.watch_socket(socket)?;
                plane.tables.raw.insert(kind, slot);
            }
        }
        Ok(plane)
    }

    fn watch_socket(&mut self, socket: Socket) -> Result<usize, SetupError> {
        let slot = insert(&mut self.tables.sockets, socket);
        if let Some(Some(socket)) = self.tables.sockets.get(slot) {
            let token = Token::Socket(slot).encode();
            if let Err(error) = epoll::add(&self.epoll, socket, token, epoll::EventFlags::IN) {
                self.tables.sockets[slot] = None;
                return Err(SetupError {
                    what: "watch a socket",
                    error: error.into(),
                });
            }
        }
        Ok(slot)
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        let mut ready = Vec::with_capacity(sys::BATCH);
        loop {
            ready.clear();
            let timeout = self.timeout(Instant::now());
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut ready),
                Some(&timeout),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    // Cannot happen with a valid descriptor; going on would be a busy loop.
                    warn!(%error, "the user-space data plane cannot wait for packets and stops");
                    return;
                }
            }
            for event in &ready {
                match Token::decode(event.data) {
                    Token::Wake => {
                        if self.requests() == Flow::Stop {
                            return;
                        }
                    }
                    Token::Device(slot) => self.read_device(slot),
                    Token::Socket(slot) => self.read_socket(slot),
                    Token::Listener(slot) => self.accept_streams(slot),
                    Token::Stream(slot) => self.serve_stream(slot, event.flags),
                }
                self.flush();
            }
            let now = Instant::now();
            if self.core.next_timeout().is_some_and(|at| at <= now) {
                self.core.handle_timeout(now, &mut self.output);
                self.flush();
            }
            self.probe_paths(now);
            self.sweep_streams(now);
            self.report_events();
        }
    }

    fn timeout(&self, now: Instant) -> Timespec {
        let mut at = self.next_probe;
        if let Some(timer) = self.core.next_timeout() {
            at = at.min(timer);
        }
        if let Some(sweep) = self.streams.next_sweep() {
            at = at.min(sweep);
        }
        if !self.backlog.is_empty() {
            at = at.min(now + BACKLOG_RETRY);
        }
        if !self.unprobed.is_empty() {
            at = now;
        }
        let wait = at.saturating_duration_since(now);
        // Where the kernel takes milliseconds only, rounding down would make the last one a busy
        // loop.
        let wait = if wait.is_zero() {
            wait
        } else {
            wait + Duration::from_millis(1)
        };
        Timespec::try_from(wait).unwrap_or(Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        })
    }

    fn requests(&mut self) -> Flow {
        let mut count = [0; 8];
        // Nothing to read: another turn has done it.
        let _ = rustix::io::read(&*self.mailbox.wake, &mut count);
        // An answer whose asker has gone is dropped.
        while let Ok(request) = self.mailbox.requests.try_recv() {
            match request {
                Request::Execute(command, answer) => {
                    let _ = answer.send(self.execute(&command));
                }
                Request::AddDevice(tun, if_id, answer) => {
                    let _ = answer.send(self.add_device(tun, if_id));
                }
                Request::RemoveDevice(if_id, answer) => {
                    let _ = answer.send(self.remove_device(if_id));
                }
                Request::AddSocket(fd, local, remote, answer) => {
                    let _ = answer.send(self.add_socket(fd, local, remote));
                }
                Request::RemoveSocket(local, remote, answer) => {
                    let _ = answer.send(self.remove_socket(local, remote));
                }
                Request::Listen(local, answer) => {
                    let _ = answer.send(self.listen(local));
                }
                Request::Unlisten(local, answer) => {
                    let _ = answer.send(self.unlisten(local));
                }
                Request::SendMessage(message, answer) => {
                    let _ = answer.send(self.send_message(&message));
                }
                Request::UseStream(name, used, answer) => {
                    self.use_stream(name, used);
                    let _ = answer.send(());
                }
                Request::Report(answer) => {
                    let _ = answer.send(Report {
                        xfrm: *self.core.xfrm_counters(),
                        core: *self.core.counters(),
                        io: self.counters,
                    });
                }
                Request::Stop => return Flow::Stop,
            }
        }
        Flow::Continue
    }

    fn execute(&mut self, command: &Command) -> Result<Reply, CommandError> {
        let reply = self.core.execute(Instant::now(), command, &mut self.output);
        debug!(
            ok = reply.is_ok(),
            error = reply.as_ref().err().map(tracing::field::display),
            "executed a command of the key manager"
        );
        // A new SA may be the first on its path; ask before the first packet if possible.
        while let Some(path) = self.core.take_new_path() {
            self.probe_path(path);
        }
        reply
    }

    fn add_device(&mut self, tun: Tun, if_id: u32) -> Result<(), HandleError> {
        if self.tables.device_by_if_id.contains_key(&if_id) {
            return Err(HandleError::DeviceExists(if_id));
        }
        let slot = insert(&mut self.tables.devices, Device { tun, if_id });
        if let Some(Some(device)) = self.tables.devices.get(slot) {
            let token = Token::Device(slot).encode();
            if let Err(error) = epoll::add(&self.epoll, &device.tun, token, epoll::EventFlags::IN) {
                self.tables.devices[slot] = None;
                let error = SetupError {
                    what: "watch a TUN device",
                    error: error.into(),
                };
                return Err(error.into());
            }
        }
        self.tables.device_by_if_id.insert(if_id, slot);
        Ok(())
    }

    fn remove_device(&mut self, if_id: u32) -> Result<(), HandleError> {
        let slot = self
            .tables
            .device_by_if_id
            .remove(&if_id)
            .ok_or(HandleError::NotFound)?;
        // Closing the only descriptor takes it out of the epoll set and the device off the host.
        self.tables.devices[slot] = None;
        Ok(())
    }

    fn add_socket(
        &mut self,
        fd: OwnedFd,
        local: SocketAddr,
        remote: Option<SocketAddr>,
    ) -> Result<(), HandleError> {
        let known = match remote {
            Some(remote) => self.tables.peers.contains_key(&(local, remote)),
            None => self.tables.udp.contains_key(&local),
        };
        if known {
            return Err(HandleError::SocketExists);
        }
        let kind = match remote {
            Some(remote) => Kind::Peer { local, remote },
            None => Kind::Udp { local },
        };
        let socket = Socket::udp(fd, kind, self.socket_mark).map_err(|error| SetupError {
            what: "set the options of a UDP socket",
            error,
        })?;
        let slot = self.watch_socket(socket)?;
        match remote {
            Some(remote) => self.tables.peers.insert((local, remote), slot),
            None => self.tables.udp.insert(local, slot),
        };
        Ok(())
    }

    fn remove_socket(
        &mut self,
        local: SocketAddr,
        remote: Option<SocketAddr>,
    ) -> Result<(), HandleError> {
        let slot = match remote {
            Some(remote) => self.tables.peers.remove(&(local, remote)),
            None => self.tables.udp.remove(&local),
        }
        .ok_or(HandleError::NotFound)?;
        if let Some(socket) = self.tables.sockets[slot].take() {
            // Other descriptors of the same socket keep it in the epoll set unless it is taken out.
            let _ = epoll::delete(&self.epoll, socket.as_fd());
        }
        Ok(())
    }

    /// Asks for the MTU of some paths: the new ones, and all of them now and then.
    fn probe_paths(&mut self, now: Instant) {
        if now >= self.next_probe {
            self.next_probe = now + PROBE_INTERVAL;
            self.unprobed.clear();
            self.unprobed.extend(self.core.paths());
        }
        for _ in 0..PROBE_BATCH {
            let Some(path) = self.unprobed.pop_front() else {
                break;
            };
            self.probe_path(path);
        }
    }

    fn probe_path(&mut self, (local, remote): (IpAddr, IpAddr)) {
        match socket::path_mtu(local, remote, self.socket_mark, self.exempt) {
            Ok(mtu) => self.core.set_path_mtu(local, remote, mtu),
            // No route just now, say: what is known stays.
            Err(error) => debug!(%local, %remote, %error, "the path MTU is not known"),
        }
    }

    /// Hands the core's events to the daemon.
    fn report_events(&mut self) {
        while let Some(event) = self.core.poll_event() {
            self.backlog.push_back(DataplaneEvent::Ipsec(event));
        }
        while let Some(event) = self.backlog.pop_front() {
            if let Err(SinkFull(event)) = self.events.try_send(event) {
                self.backlog.push_front(event);
                break;
            }
        }
        while self.backlog.len() > BACKLOG {
            self.backlog.pop_front();
            self.counters.events_dropped += 1;
        }
    }
}

/// Whether the thread goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}
