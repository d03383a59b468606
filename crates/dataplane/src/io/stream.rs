//! TCP streams that carry IKE and ESP (RFC 9329).
//!
//! The plane's thread is the only one that reads and writes a stream, so that messages of IKE and packets never mix. A
//! stream is named by its two addresses, ours first. What cannot be read on is closed; what has come before counts, and no
//! SA is touched. Nothing here grows without bound: see the constants.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use cygnet_ipsec::{Counter, EncapKind};
use cygnet_wire::{
    Header, MAX_STREAM_MESSAGE, STREAM_PREFIX, StreamError, StreamReader, stream_length,
};
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::receive::{Datagram, NON_ESP_MARKER, classify};
use super::*;
use crate::core::{Ports, Transmit};
use crate::handle::StreamMessage;

/// Streams in all; more are refused.
const MAX_STREAMS: usize = 16_384;
/// Streams in all that no IKE SA uses; more are refused.
const MAX_UNUSED: usize = 1024;
/// The same of one source: an IPv4 address or an IPv6 network of 64 bits.
const MAX_UNUSED_OF_SOURCE: usize = 64;
/// Streams taken from a listening socket before the others have their turn.
const ACCEPT_BURST: usize = 16;
/// How long the peer may take to begin, or to accept.
const BEGIN_TIME: Duration = Duration::from_secs(10);
/// How long a stream stays that no IKE SA uses, as long as a half-open IKE SA at most.
const UNUSED_TIME: Duration = Duration::from_secs(30);
/// How often those are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// Octets that may wait to be written until ESP packets are dropped. The kernel holds as many more as it has not sent.
const MAX_WAITING: usize = 256 << 10;
/// IKE messages still find room then, this many octets of them.
const MAX_WAITING_IKE: usize = 64 << 10;
/// Octets that the kernel takes before it has sent them: what waits longer is better dropped.
const NOT_SENT: i32 = 128 << 10;
/// Octets read from a stream in one turn.
const READ: usize = 64 << 10;
/// Messages in a row that make no sense after which the stream counts as corrupted.
//= rfc9329#6.1
//# Implementations SHOULD NOT tear down
//# a connection if only a few consecutive ESP packets have unknown SPIs
//# since the SPI databases may be momentarily out of sync.
const MAX_SENSELESS: u32 = 256;
/// Seconds until the kernel asks a silent peer whether it is there, and between its questions; how many; and milliseconds
/// for which it repeats what is not acknowledged.
const KEEPALIVE: (i32, i32, i32) = (60, 10, 3);
const UNACKNOWLEDGED: i32 = 30_000;

/// The two ends of a stream, ours first.
type Name = (SocketAddr, SocketAddr);

struct Stream {
    socket: TcpStream,
    name: Name,
    /// We have opened it.
    ours: bool,
    /// The connection is there.
    connected: bool,
    /// An IKE SA uses it.
    used: bool,
    /// It is closed when all is written.
    closing: bool,
    /// Since when no IKE SA uses it.
    since: Instant,
    reader: StreamReader,
    /// What is to be written, from `written` on.
    waiting: Vec<u8>,
    written: usize,
    /// Epoll tells when it can be written to.
    watched: bool,
    senseless: u32,
}

/// Why a stream ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the peer has closed it")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Framing(#[from] StreamError),
    #[error("nothing that comes over it makes sense")]
    Senseless,
}

/// All streams.
#[derive(Default)]
pub(super) struct Streams {
    slots: Vec<Option<Stream>>,
    by_name: HashMap<Name, usize>,
    listeners: Vec<Option<(OwnedFd, SocketAddr)>>,
    /// Unused streams that peers have opened, by their sources.
    unused_of: HashMap<IpAddr, usize>,
    /// All that no IKE SA uses.
    unused: usize,
    /// Those to be written to.
    dirty: Vec<usize>,
    next_sweep: Option<Instant>,
    buffer: Vec<u8>,
}

impl Streams {
    /// When unused streams are to be looked for.
    pub(super) fn next_sweep(&self) -> Option<Instant> {
        self.next_sweep
    }

    fn get(&mut self, slot: usize) -> Option<&mut Stream> {
        self.slots.get_mut(slot)?.as_mut()
    }

    fn count_unused(&mut self, name: Name, ours: bool, now: Instant) {
        self.unused += 1;
        if !ours {
            *self.unused_of.entry(source(name.1.ip())).or_default() += 1;
        }
        self.next_sweep.get_or_insert(now + SWEEP);
    }

    fn forget_unused(&mut self, name: Name, ours: bool) {
        self.unused = self.unused.saturating_sub(1);
        let source = source(name.1.ip());
        if !ours && let Some(count) = self.unused_of.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.unused_of.remove(&source);
            }
        }
    }

    /// Whether a stream of this source may be accepted.
    fn admits(&self, remote: IpAddr) -> bool {
        let of_source = self.unused_of.get(&source(remote)).copied();
        self.by_name.len() < MAX_STREAMS
            && self.unused < MAX_UNUSED
            && of_source.unwrap_or_default() < MAX_UNUSED_OF_SOURCE
    }
}

/// What counts as one source.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

impl Stream {
    fn new(socket: TcpStream, name: Name, ours: bool, now: Instant) -> Self {
        let (reader, waiting) = if ours {
            //= rfc9329#6.1
            //# The first bytes sent on the TCP stream MUST be the stream
            //# prefix value (Section 4).
            //= rfc9329#6.1
            //# Whenever the TCP Originator opens a new TCP connection to be used for
            //# an existing IKE SA, it MUST send the stream prefix first, before any
            //# IKE or ESP messages.
            (StreamReader::originated(), STREAM_PREFIX.to_vec())
        } else {
            (StreamReader::accepted(), Vec::new())
        };
        Self {
            socket,
            name,
            ours,
            connected: !ours,
            used: false,
            closing: false,
            since: now,
            reader,
            waiting,
            written: 0,
            watched: false,
            senseless: 0,
        }
    }

    /// Puts a message behind what waits; false if there is no room.
    fn put(&mut self, parts: &[&[u8]], room: usize) -> bool {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let waiting = self.waiting.len() - self.written;
        let Some(length) = stream_length(len).filter(|_| waiting + len <= room) else {
            return false;
        };
        self.waiting.extend_from_slice(&length);
        for part in parts {
            self.waiting.extend_from_slice(part);
        }
        true
    }

    /// Writes what the socket takes; whether all was written.
    fn write(&mut self) -> io::Result<bool> {
        while let Some(rest) = self.waiting.get(self.written..)
            && !rest.is_empty()
        {
            match self.socket.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting.drain(..self.written);
                    self.written = 0;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.waiting.clear();
        self.waiting.shrink_to(READ);
        self.written = 0;
        Ok(true)
    }
}

/// A TCP socket that is not blocking, carries `mark` and is exempt from the kernel's policies.
fn open(v6: bool, mark: Option<u32>, exempt: Option<Exempt>) -> io::Result<OwnedFd> {
    let family = if v6 {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    if v6 {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    if let Some(mark) = mark {
        let mark = mark.to_ne_bytes();
        sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_MARK, &mark)?;
    }
    if let Some(exempt) = exempt {
        exempt(fd.as_fd(), v6)?;
    }
    sockopt::set_socket_reuseaddr(&fd, true)?;
    Ok(fd)
}

/// Packets leave at once, and a peer that is gone is found out.
fn tune(fd: impl AsFd) -> io::Result<()> {
    let set = |name, value| sys::set_int_option(fd.as_fd(), libc::IPPROTO_TCP, name, value);
    set(libc::TCP_NODELAY, 1)?;
    set(libc::TCP_NOTSENT_LOWAT, NOT_SENT)?;
    set(libc::TCP_USER_TIMEOUT, UNACKNOWLEDGED)?;
    set(libc::TCP_KEEPIDLE, KEEPALIVE.0)?;
    set(libc::TCP_KEEPINTVL, KEEPALIVE.1)?;
    set(libc::TCP_KEEPCNT, KEEPALIVE.2)?;
    sys::set_int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)
}

/// A connection that is being made.
fn connect(
    (local, remote): Name,
    mark: Option<u32>,
    exempt: Option<Exempt>,
) -> io::Result<TcpStream> {
    let fd = open(local.is_ipv6(), mark, exempt)?;
    tune(&fd)?;
    rustix::net::bind(&fd, &local)?;
    match rustix::net::connect(&fd, &remote) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(fd.into()),
        Err(error) => Err(error.into()),
    }
}

impl Plane {
    pub(super) fn listen(&mut self, local: SocketAddr) -> Result<(), HandleError> {
        let known = |(_, known): &(OwnedFd, SocketAddr)| *known == local;
        if self.streams.listeners.iter().flatten().any(known) {
            return Err(HandleError::SocketExists);
        }
        let (mark, exempt) = (self.socket_mark, self.exempt);
        let fd = open(local.is_ipv6(), mark, exempt).and_then(|fd| {
            rustix::net::bind(&fd, &local)?;
            rustix::net::listen(&fd, 128)?;
            Ok(fd)
        });
        let failed = |error| SetupError {
            what: "listen for TCP streams",
            error,
        };
        let fd = fd.map_err(failed)?;
        let slot = insert(&mut self.streams.listeners, (fd, local));
        if let Some(Some((fd, _))) = self.streams.listeners.get(slot) {
            let token = Token::Listener(slot).encode();
            if let Err(error) = epoll::add(&self.epoll, fd, token, epoll::EventFlags::IN) {
                self.streams.listeners[slot] = None;
                return Err(failed(error.into()).into());
            }
        }
        Ok(())
    }

    pub(super) fn unlisten(&mut self, local: SocketAddr) -> Result<(), HandleError> {
        let listeners = &mut self.streams.listeners;
        let found = listeners
            .iter_mut()
            .find(|slot| slot.as_ref().is_some_and(|(_, known)| *known == local));
        // Closing the only descriptor takes it out of the epoll set.
        *found.ok_or(HandleError::NotFound)? = None;
        Ok(())
    }

    pub(super) fn accept_streams(&mut self, slot: usize) {
        for _ in 0..ACCEPT_BURST {
            let Some(Some((listener, local))) = self.streams.listeners.get(slot) else {
                return;
            };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (fd, remote) = match rustix::net::acceptfrom_with(listener, flags) {
                Ok((fd, remote)) => (fd, remote),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::CONNABORTED) => return,
                // No descriptors left, say: it would be ready again at once.
                Err(error) => {
                    warn!(%error, "TCP streams cannot be accepted now");
                    return self.watch_listener(slot, epoll::EventFlags::empty());
                }
            };
            let Some(remote) = remote.and_then(|any| SocketAddr::try_from(any).ok()) else {
                continue;
            };
            let name = (*local, remote);
            if !self.streams.admits(remote.ip()) {
                self.counters.streams_refused += 1;
                continue;
            }
            if tune(&fd).is_ok() && self.add_stream(fd.into(), name, false).is_some() {
                self.counters.streams_accepted += 1;
            }
        }
    }

    /// Whether streams are accepted there. Where they are not, they are again after [`SWEEP`].
    fn watch_listener(&mut self, slot: usize, flags: epoll::EventFlags) {
        let Some(Some((listener, _))) = self.streams.listeners.get(slot) else {
            return;
        };
        let token = Token::Listener(slot).encode();
        if let Err(error) = epoll::modify(&self.epoll, listener, token, flags) {
            warn!(%error, "a listening TCP socket cannot be watched");
        }
        if flags.is_empty() {
            let next = Instant::now() + SWEEP;
            self.streams.next_sweep.get_or_insert(next);
        }
    }

    fn add_stream(&mut self, socket: TcpStream, name: Name, ours: bool) -> Option<usize> {
        if self.streams.by_name.contains_key(&name) {
            return None;
        }
        let now = Instant::now();
        let slot = insert(
            &mut self.streams.slots,
            Stream::new(socket, name, ours, now),
        );
        let stream = self.streams.slots.get_mut(slot)?.as_mut()?;
        let mut flags = epoll::EventFlags::IN;
        if ours {
            // It can be written to when it is connected.
            flags |= epoll::EventFlags::OUT;
            stream.watched = true;
        }
        let token = Token::Stream(slot).encode();
        if let Err(error) = epoll::add(&self.epoll, &stream.socket, token, flags) {
            warn!(%error, "a TCP stream cannot be watched");
            self.streams.slots[slot] = None;
            return None;
        }
        self.streams.by_name.insert(name, slot);
        self.streams.count_unused(name, ours, now);
        Some(slot)
    }

    /// Sends an IKE message.
    pub(super) fn send_message(&mut self, message: &StreamMessage) -> Result<(), HandleError> {
        let name = (message.local, message.remote);
        let known = self.streams.by_name.get(&name).copied();
        let slot = match known {
            Some(slot) => slot,
            None if !message.open => return Err(HandleError::NotFound),
            None => match self.open_stream(name) {
                Ok(slot) => slot,
                Err(error) => {
                    debug!(local = %name.0, remote = %name.1, %error, "a TCP stream could not be opened");
                    self.tell_lost(name);
                    return Ok(());
                }
            },
        };
        let Some(stream) = self.streams.get(slot) else {
            return Err(HandleError::NotFound);
        };
        let room = MAX_WAITING + MAX_WAITING_IKE;
        if !stream.put(&[&[0; NON_ESP_MARKER], &message.bytes], room) {
            self.counters.stream_full += 1;
            return Ok(());
        }
        self.streams.dirty.push(slot);
        self.flush_streams();
        Ok(())
    }

    fn open_stream(&mut self, name: Name) -> io::Result<usize> {
        if self.streams.by_name.len() >= MAX_STREAMS {
            return Err(io::Error::other("there are too many"));
        }
        let socket = connect(name, self.socket_mark, self.exempt)?;
        self.counters.streams_opened += 1;
        self.add_stream(socket, name, true)
            .ok_or_else(|| io::Error::other("it cannot be watched"))
    }

    /// Sends an ESP packet.
    pub(super) fn send_into_stream(&mut self, transmit: &Transmit) {
        let Some(ports) = transmit.path.ports else {
            return;
        };
        let name = (
            SocketAddr::new(transmit.path.local, ports.local),
            SocketAddr::new(transmit.path.remote, ports.remote),
        );
        let slot = self.streams.by_name.get(&name).copied();
        let found = slot.and_then(|slot| Some((slot, self.streams.get(slot)?)));
        let Some((slot, stream)) = found.filter(|(_, stream)| !stream.closing) else {
            self.counters.no_stream += 1;
            return;
        };
        let bytes = transmit.packet.bytes();
        if bytes.len() > MAX_STREAM_MESSAGE {
            self.counters.send_too_big += 1;
        } else if stream.put(&[bytes], MAX_WAITING) {
            self.counters.stream_sent += 1;
            if self.streams.dirty.last() != Some(&slot) {
                self.streams.dirty.push(slot);
            }
        } else {
            self.counters.stream_full += 1;
        }
    }

    /// Writes to the streams that have got something.
    pub(super) fn flush_streams(&mut self) {
        while let Some(slot) = self.streams.dirty.pop() {
            self.write_stream(slot);
        }
    }

    fn write_stream(&mut self, slot: usize) {
        let Some(stream) = self.streams.get(slot).filter(|s| s.connected) else {
            return;
        };
        let done = match stream.write() {
            Ok(done) => done,
            Err(error) => return self.lose_stream(slot, &error.into()),
        };
        if done && stream.closing {
            return self.remove_stream(slot);
        }
        if stream.watched == done {
            stream.watched = !done;
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, !done);
            let token = Token::Stream(slot).encode();
            let Some(Some(stream)) = self.streams.slots.get(slot) else {
                return;
            };
            if let Err(error) = epoll::modify(&self.epoll, &stream.socket, token, flags) {
                self.lose_stream(slot, &End::Io(error.into()));
            }
        }
    }

    /// Something has happened to a stream.
    pub(super) fn serve_stream(&mut self, slot: usize, flags: epoll::EventFlags) {
        let Some(stream) = self.streams.get(slot) else {
            return;
        };
        if flags.intersects(epoll::EventFlags::OUT | epoll::EventFlags::ERR) {
            match stream.socket.take_error() {
                Ok(None) => stream.connected = true,
                Ok(Some(error)) | Err(error) => return self.lose_stream(slot, &error.into()),
            }
            self.write_stream(slot);
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP)
            && let Err(end) = self.read_stream(slot)
        {
            self.lose_stream(slot, &end);
        }
    }

    fn read_stream(&mut self, slot: usize) -> Result<(), End> {
        let Some(Some(stream)) = self.streams.slots.get_mut(slot) else {
            return Ok(());
        };
        self.streams.buffer.resize(READ, 0);
        let read = match stream.socket.read(&mut self.streams.buffer) {
            Ok(0) => return Err(End::Closed),
            Ok(read) => read,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
                    _ => Err(error.into()),
                };
            }
        };
        let mut input = self.streams.buffer.get(..read).unwrap_or_default();
        let (local, remote) = stream.name;
        let (mut ike, mut ended) = (0, None);
        loop {
            let message = match stream.reader.next(&mut input) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    ended = Some(End::Framing(error));
                    break;
                }
            };
            self.counters.stream_received += 1;
            match classify(message) {
                //= rfc9329#6.6
                //# Any implementation using
                //# TCP encapsulation MUST silently drop incoming NAT-keepalive packets
                //# and not treat them as errors.
                Datagram::Keepalive => self.counters.keepalives += 1,
                Datagram::Malformed => {
                    self.counters.malformed += 1;
                    stream.senseless += 1;
                }
                Datagram::Ike => {
                    let bytes = message.get(NON_ESP_MARKER..).unwrap_or_default();
                    //= rfc9329#6.1
                    //# If there is instead a syntax issue within an IKE message, an
                    //# implementation MUST send the INVALID_SYNTAX notify payload and tear
                    //# down the IKE SA as usual, rather than tearing down the TCP connection
                    //# directly.
                    if Header::parse(bytes).is_err() {
                        stream.senseless += 1;
                    } else {
                        ike += 1;
                    }
                    let event = DataplaneEvent::Ike {
                        local,
                        remote,
                        bytes: bytes.to_vec(),
                        stream: true,
                    };
                    match self.events.try_send(event) {
                        Ok(()) => self.counters.ike_received += 1,
                        Err(_) => self.counters.ike_dropped += 1,
                    }
                }
                Datagram::Esp => {
                    let mut packet = self.output.pool.take();
                    packet.fill(message);
                    let ports = Ports {
                        kind: EncapKind::Tcp,
                        local: local.port(),
                        remote: remote.port(),
                    };
                    self.arrivals.push(Arrival {
                        protocol: Protocol::Esp,
                        packet,
                        local: local.ip(),
                        remote: remote.ip(),
                        ports: Some(ports),
                        //= rfc9329#9.5
                        //# In compatibility mode, the outer
                        //# tunnel TCP connection marks its packet headers as not ECN-capable.
                        tos: 0,
                    });
                }
            }
            if self.arrivals.len() == sys::BATCH {
                let sense = open_batch(&mut self.core, &mut self.arrivals, &mut self.output);
                stream.senseless = sense.unwrap_or(stream.senseless.saturating_add(BATCH));
            }
        }
        if !self.arrivals.is_empty() {
            let count = u32::try_from(self.arrivals.len()).unwrap_or(BATCH);
            let sense = open_batch(&mut self.core, &mut self.arrivals, &mut self.output);
            stream.senseless = sense.unwrap_or(stream.senseless.saturating_add(count));
        } else if ike > 0 {
            stream.senseless = 0;
        }
        match ended {
            Some(end) => Err(end),
            None if stream.senseless > MAX_SENSELESS => Err(End::Senseless),
            None => Ok(()),
        }
    }

    /// An IKE SA uses a stream, or none does any more.
    pub(super) fn use_stream(&mut self, name: Name, used: bool) {
        let Some(slot) = self.streams.by_name.get(&name).copied() else {
            return;
        };
        let Some(stream) = self.streams.get(slot).filter(|s| s.used != used) else {
            return;
        };
        let now = Instant::now();
        stream.used = used;
        stream.since = now;
        let ours = stream.ours;
        if used {
            return self.streams.forget_unused(name, ours);
        }
        stream.closing = ours;
        self.streams.count_unused(name, ours, now);
        if ours {
            self.write_stream(slot);
        }
    }

    /// Closes streams that no IKE SA has come to use, or uses any more.
    //= rfc9329#6.1
    //# If the TCP connection is no longer
    //# associated with any active IKE SA, the TCP Responder MAY close the
    //# connection to clean up IKE resources if the TCP Originator didn't
    //# close it within some reasonable period of time (e.g., a few seconds).
    pub(super) fn sweep_streams(&mut self, now: Instant) {
        if self.streams.next_sweep.is_none_or(|at| now < at) {
            return;
        }
        for slot in 0..self.streams.listeners.len() {
            self.watch_listener(slot, epoll::EventFlags::IN);
        }
        for slot in 0..self.streams.slots.len() {
            let Some(stream) = self.streams.get(slot) else {
                continue;
            };
            let begun = stream.connected && stream.reader.has_begun();
            let patience = if begun { UNUSED_TIME } else { BEGIN_TIME };
            let late = now.saturating_duration_since(stream.since) >= patience;
            if late && !stream.connected {
                let error = io::Error::from(io::ErrorKind::TimedOut);
                self.lose_stream(slot, &error.into());
            } else if late && !stream.used {
                self.counters.streams_unused += 1;
                self.remove_stream(slot);
            }
        }
        let unused = self.streams.unused > 0;
        let connecting = self.streams.slots.iter().flatten().any(|s| !s.connected);
        self.streams.next_sweep = (unused || connecting).then_some(now + SWEEP);
    }

    fn remove_stream(&mut self, slot: usize) {
        let Some(stream) = self.streams.slots.get_mut(slot).and_then(Option::take) else {
            return;
        };
        self.streams.by_name.remove(&stream.name);
        if !stream.used {
            self.streams.forget_unused(stream.name, stream.ours);
        }
        // Closing the only descriptor takes it out of the epoll set.
    }

    fn lose_stream(&mut self, slot: usize, end: &End) {
        let Some(stream) = self.streams.get(slot) else {
            return;
        };
        let (name, told) = (stream.name, stream.closing);
        let framing = match end {
            End::Framing(error) => Some(error.name()),
            _ => None,
        };
        debug!(local = %name.0, remote = %name.1, framing, "a TCP stream ends: {end}");
        self.counters.streams_lost += 1;
        self.remove_stream(slot);
        if !told {
            self.tell_lost(name);
        }
    }

    fn tell_lost(&mut self, (local, remote): Name) {
        self.backlog
            .push_back(DataplaneEvent::StreamLost { local, remote });
    }
}

/// A full batch.
const BATCH: u32 = sys::BATCH as u32;

/// Opens a batch of ESP packets. `Some` with no senseless packets if one of them at least was for an SA of ours and authentic.
fn open_batch(core: &mut Core, arrivals: &mut Vec<Arrival>, output: &mut Output) -> Option<u32> {
    let senseless = |core: &Core| {
        let xfrm = core.xfrm_counters();
        xfrm.get(Counter::InNoStates)
            .wrapping_add(xfrm.get(Counter::InStateProtoError))
            .wrapping_add(xfrm.get(Counter::InHdrError))
    };
    let (before, count) = (senseless(core), arrivals.len() as u64);
    core.inbound(Instant::now(), arrivals, output);
    (senseless(core).wrapping_sub(before) < count).then_some(0)
}
