//! The handle: how the daemon speaks to the plane's thread.
//!
//! Requests go through a channel and an eventfd; each waits for its answer, which the thread gives
//! between two batches. The data path itself shares nothing and takes no lock.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use cygnet_ipsec::{Command, CommandError, Reply, SaDatabase};
use rustix::event::EventfdFlags;
use rustix::io::Errno;
use thiserror::Error;

use crate::config::Config;
use crate::counters::Report;
use crate::io::{Plane, SetupError, Tun};

/// Why the plane did not do what its handle asked.
#[derive(Debug, Error)]
pub enum HandleError {
    /// The plane's thread has ended.
    #[error("the user-space data plane has stopped")]
    Stopped,
    /// There is a device for this if_id already.
    #[error("the user-space data plane has a device with if_id {0} already")]
    DeviceExists(u32),
    /// There is a socket for these addresses already.
    #[error("the user-space data plane has a socket with these addresses already")]
    SocketExists,
    /// Nothing like this is there.
    #[error("the user-space data plane has no such device or socket")]
    NotFound,
    /// The kernel refused a step of the set-up.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// An IKE message for a stream.
#[derive(Clone, Debug)]
pub struct StreamMessage {
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// The stream is opened if it is not there.
    pub open: bool,
    /// The message, without non-ESP marker.
    pub bytes: Vec<u8>,
}

/// A request to the plane's thread, with the way back for the answer.
pub(crate) enum Request {
    Execute(Command, SyncSender<Result<Reply, CommandError>>),
    AddDevice(Tun, u32, SyncSender<Result<(), HandleError>>),
    RemoveDevice(u32, SyncSender<Result<(), HandleError>>),
    AddSocket(
        OwnedFd,
        SocketAddr,
        Option<SocketAddr>,
        SyncSender<Result<(), HandleError>>,
    ),
    RemoveSocket(
        SocketAddr,
        Option<SocketAddr>,
        SyncSender<Result<(), HandleError>>,
    ),
    Listen(SocketAddr, SyncSender<Result<(), HandleError>>),
    Unlisten(SocketAddr, SyncSender<Result<(), HandleError>>),
    SendMessage(StreamMessage, SyncSender<Result<(), HandleError>>),
    UseStream((SocketAddr, SocketAddr), bool, SyncSender<()>),
    Report(SyncSender<Report>),
    Stop,
}

/// The plane's end of the channel.
pub(crate) struct Mailbox {
    pub(crate) requests: Receiver<Request>,
    pub(crate) wake: Arc<OwnedFd>,
}

/// The user-space data plane.
#[derive(Debug)]
pub struct Dataplane;

impl Dataplane {
    /// Opens the raw sockets that `config` asks for, in the calling thread's network namespace, and
    /// starts the plane's thread there. It ends with the last clone of the handle.
    ///
    /// # Errors
    ///
    /// [`SetupError`]: a socket or the thread could not be made.
    pub fn start(config: Config) -> Result<Handle, SetupError> {
        let failed = |what: &'static str| move |error: std::io::Error| SetupError { what, error };
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| failed("make an eventfd")(error.into()))?;
        let wake = Arc::new(wake);
        let (sender, requests) = mpsc::channel();
        let plane = Plane::new(
            config,
            Mailbox {
                requests,
                wake: Arc::clone(&wake),
            },
        )?;
        let thread = thread::Builder::new()
            .name("cygnet-plane".to_owned())
            .spawn(move || plane.run())
            .map_err(failed("start the thread of the data plane"))?;
        let shared = Shared {
            sender,
            wake,
            thread: Mutex::new(Some(thread)),
        };
        Ok(Handle {
            shared: Arc::new(shared),
        })
    }
}

struct Shared {
    sender: Sender<Request>,
    wake: Arc<OwnedFd>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    fn send(&self, request: Request) -> Result<(), HandleError> {
        self.sender
            .send(request)
            .map_err(|_| HandleError::Stopped)?;
        // An eventfd counts to 2^64 - 2: only then would this write fail, and the thread is awake.
        let _ = rustix::io::write(self.wake.as_fd(), &1u64.to_ne_bytes());
        Ok(())
    }

    fn stop(&self) {
        // A thread that has ended already needs no word.
        let _ = self.send(Request::Stop);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            // The last clone may be dropped by an event sink, on the plane's own thread.
            && thread.thread().id() != thread::current().id()
        {
            // A panic of the thread has been printed by its hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A handle to the running plane. Clones speak to the same plane; the last one to go stops it.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    fn ask<T>(&self, request: impl FnOnce(SyncSender<T>) -> Request) -> Result<T, HandleError> {
        let (sender, answer) = mpsc::sync_channel(1);
        self.shared.send(request(sender))?;
        answer.recv().map_err(|_| HandleError::Stopped)
    }

    /// Gives a TUN device to the plane. Packets that the host routes into it meet the outbound
    /// policies with this `if_id`; packets from SAs with this `if_id` come out of it. 0 is the
    /// device of connections without xfrm interface.
    ///
    /// # Errors
    ///
    /// [`HandleError::DeviceExists`], [`HandleError::Stopped`], [`HandleError::Setup`].
    pub fn add_device(&self, tun: Tun, if_id: u32) -> Result<(), HandleError> {
        self.ask(|answer| Request::AddDevice(tun, if_id, answer))?
    }

    /// Closes the device of an `if_id`, which removes it from the host.
    ///
    /// # Errors
    ///
    /// [`HandleError::NotFound`], [`HandleError::Stopped`].
    pub fn remove_device(&self, if_id: u32) -> Result<(), HandleError> {
        self.ask(|answer| Request::RemoveDevice(if_id, answer))?
    }

    /// Lets the plane read a bound UDP socket and send ESP from it. The socket must not have
    /// UDP_ENCAP set; an IPv6 one must be IPv6 only. The caller may keep a duplicate to send IKE
    /// messages (behind a non-ESP marker; it is non-blocking from now on), but must not read it:
    /// received IKE messages come back as
    /// [`DataplaneEvent::Ike`](crate::DataplaneEvent::Ike).
    ///
    /// `local` is the address bound; an unspecified one serves every address of the host that no
    /// socket of its own serves.
    ///
    /// # Errors
    ///
    /// [`HandleError::SocketExists`], [`HandleError::Stopped`], [`HandleError::Setup`].
    pub fn add_udp_socket(&self, socket: OwnedFd, local: SocketAddr) -> Result<(), HandleError> {
        self.ask(|answer| Request::AddSocket(socket, local, None, answer))?
    }

    /// The same with a socket that is connected to one peer: for a host on which the kernel's ESP
    /// owns the unconnected socket of that port.
    ///
    /// # Errors
    ///
    /// As [`Handle::add_udp_socket`].
    pub fn add_peer_socket(
        &self,
        socket: OwnedFd,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(), HandleError> {
        self.ask(|answer| Request::AddSocket(socket, local, Some(remote), answer))?
    }

    /// Closes the plane's descriptor of a UDP socket; `remote` for one connected to a peer.
    ///
    /// # Errors
    ///
    /// [`HandleError::NotFound`], [`HandleError::Stopped`].
    pub fn remove_udp_socket(
        &self,
        local: SocketAddr,
        remote: Option<SocketAddr>,
    ) -> Result<(), HandleError> {
        self.ask(|answer| Request::RemoveSocket(local, remote, answer))?
    }

    /// Takes TCP streams of IKE and ESP (RFC 9329) on an address and port. IKE messages come as
    /// [`DataplaneEvent::Ike`](crate::DataplaneEvent::Ike); a stream that no IKE SA uses within some
    /// time is closed.
    ///
    /// # Errors
    ///
    /// [`HandleError::SocketExists`], [`HandleError::Stopped`], [`HandleError::Setup`].
    pub fn listen(&self, local: SocketAddr) -> Result<(), HandleError> {
        self.ask(|answer| Request::Listen(local, answer))?
    }

    /// Takes no more of them there. Those that are open stay.
    ///
    /// # Errors
    ///
    /// [`HandleError::NotFound`], [`HandleError::Stopped`].
    pub fn unlisten(&self, local: SocketAddr) -> Result<(), HandleError> {
        self.ask(|answer| Request::Unlisten(local, answer))?
    }

    /// Sends an IKE message over a stream. What the peer reads too slowly is dropped; a stream that
    /// breaks is told as [`DataplaneEvent::StreamLost`](crate::DataplaneEvent::StreamLost).
    ///
    /// # Errors
    ///
    /// [`HandleError::NotFound`]: there is no such stream, and it is not ours to open.
    /// [`HandleError::Stopped`].
    pub fn send_message(&self, message: StreamMessage) -> Result<(), HandleError> {
        self.ask(|answer| Request::SendMessage(message, answer))?
    }

    /// Says that an IKE SA uses a stream, ours first, or that none does any more. One that was
    /// opened here is then closed, once what is to be sent has been sent.
    ///
    /// # Errors
    ///
    /// [`HandleError::Stopped`].
    pub fn use_stream(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        used: bool,
    ) -> Result<(), HandleError> {
        self.ask(|answer| Request::UseStream((local, remote), used, answer))
    }

    /// All counters.
    ///
    /// # Errors
    ///
    /// [`HandleError::Stopped`].
    pub fn counters(&self) -> Result<Report, HandleError> {
        self.ask(Request::Report)
    }

    /// Stops the plane and waits for its end; other clones of the handle answer
    /// [`HandleError::Stopped`] from then on. Devices and sockets are closed.
    pub fn stop(self) {
        self.shared.stop();
    }
}

impl SaDatabase for Handle {
    fn execute(&mut self, command: &Command) -> Result<Reply, CommandError> {
        self.ask(|answer| Request::Execute(command.clone(), answer))
            .unwrap_or_else(|stopped| {
                Err(CommandError::Failed {
                    errno: Errno::SHUTDOWN.raw_os_error(),
                    text: stopped.to_string(),
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::mpsc::{RecvTimeoutError, sync_channel};
    use std::time::Duration;

    use cygnet_ipsec::{Mark, Protocol, SaId};

    use super::*;
    use crate::config::DataplaneEvent;

    /// A plane without raw sockets, which need no permission to be left out.
    fn plane(queue: usize) -> (Handle, Receiver<DataplaneEvent>) {
        let (sender, events) = sync_channel(queue);
        let config = Config {
            raw_v4: false,
            raw_v6: false,
            ..Config::new(sender)
        };
        (Dataplane::start(config).unwrap(), events)
    }

    fn local_socket(plane: &Handle) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let local = socket.local_addr().unwrap();
        plane.add_udp_socket(socket.into(), local).unwrap();
        local
    }

    #[test]
    fn the_last_handle_stops_the_thread() {
        let (mut first, events) = plane(1);
        let second = first.clone();
        let id = SaId {
            dst: [192, 0, 2, 1].into(),
            spi: 256,
            protocol: Protocol::Esp,
            mark: Mark::ANY,
        };
        assert_eq!(
            first.execute(&Command::QuerySa(id)),
            Err(CommandError::NotFound)
        );
        drop(first);
        assert!(second.counters().is_ok());
        drop(second);
        // The sink has gone with the thread, which drop has waited for.
        let ended = events.recv_timeout(Duration::ZERO);
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_stopped_plane_says_so() {
        let (plane, _events) = plane(1);
        let mut other = plane.clone();
        plane.stop();
        assert!(matches!(other.counters(), Err(HandleError::Stopped)));
        let key = cygnet_ipsec::PolicyKey::new(
            cygnet_ipsec::Direction::Out,
            cygnet_ipsec::Selector::any(cygnet_ipsec::Family::V4),
        );
        let Err(error) = other.execute(&Command::QueryPolicy(key)) else {
            panic!()
        };
        assert!(
            error.to_string().contains("data plane has stopped"),
            "{error}"
        );
    }

    #[test]
    fn sockets_are_known_by_their_addresses() {
        let (plane, _events) = plane(1);
        let local = local_socket(&plane);
        let again = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(matches!(
            plane.add_udp_socket(again.into(), local),
            Err(HandleError::SocketExists)
        ));
        plane.remove_udp_socket(local, None).unwrap();
        assert!(matches!(
            plane.remove_udp_socket(local, None),
            Err(HandleError::NotFound)
        ));
        UdpSocket::bind(local).expect("the plane has closed its descriptor");
    }

    #[test]
    fn a_daemon_that_is_behind_loses_ike_messages_and_they_are_counted() {
        let (plane, events) = plane(2);
        let local = local_socket(&plane);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        for n in 0..5u8 {
            peer.send_to(&[0, 0, 0, 0, n], local).unwrap();
        }
        let mut io = plane.counters().unwrap().io;
        for _ in 0..200 {
            if io.udp_received == 5 {
                break;
            }
            thread::sleep(Duration::from_millis(5));
            io = plane.counters().unwrap().io;
        }
        assert_eq!((io.ike_received, io.ike_dropped), (2, 3));
        let bytes: Vec<_> = events
            .try_iter()
            .map(|event| match event {
                DataplaneEvent::Ike { bytes, .. } => bytes,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(bytes, [[0], [1]]);
    }

    #[test]
    fn an_idle_plane_sleeps() {
        let (plane, _events) = plane(1);
        local_socket(&plane);
        plane.counters().unwrap();
        let before = cpu_ticks();
        thread::sleep(Duration::from_millis(300));
        // 100 ticks a second: a busy loop would have used some thirty.
        assert!(cpu_ticks().saturating_sub(before) < 10);
    }

    /// User and system time of all threads of planes in this process (other tests have some).
    fn cpu_ticks() -> u64 {
        let mut ticks = 0;
        for entry in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            let Some((name, rest)) = stat.rsplit_once(") ") else {
                continue;
            };
            if name.ends_with("cygnet-plane") {
                let fields: Vec<&str> = rest.split(' ').collect();
                ticks += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
            }
        }
        ticks
    }
}
