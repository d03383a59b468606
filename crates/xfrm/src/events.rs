//! What the kernel tells unasked.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use crate::codec::DecodeError;
use crate::message::Message;
use crate::netlink::{Frames, Kind};
use crate::numbers::{Group, MessageType};
use crate::socket::{Received, XfrmSocket};

/// Memory for events not read yet: room for a burst of thousands (every SA expiring at once).
const RECEIVE_BUFFER: usize = 16 << 20;

/// What came over the event socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A notification. `port` is the netlink port of the process whose request caused it, 0 if
    /// the kernel acted by itself.
    Message {
        /// The notification.
        message: Box<Message>,
        /// Netlink port of the process that caused it.
        port: u32,
    },
    /// Events were lost (`ENOBUFS`): what they would have told must be read from the tables.
    Resync,
    /// A notification that could not be read; the next ones are not affected.
    Unreadable {
        /// Its type.
        kind: MessageType,
        /// What is wrong with it.
        error: DecodeError,
    },
}

/// A non-blocking socket that receives the notifications of some groups.
///
/// Separate from [`Client`](crate::Client): events never come between a request and its answer.
/// While a socket listens to [`Group::ACQUIRE`] the kernel makes larval SAs and asks for SAs;
/// without any it only counts the packets that lack one.
pub struct EventSocket {
    socket: XfrmSocket,
    /// Read but not handed out, newest first.
    ready: Vec<Event>,
}

impl std::fmt::Debug for EventSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventSocket")
            .field("ready", &self.ready.len())
            .finish_non_exhaustive()
    }
}

impl EventSocket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` where the kernel has no XFRM, `EPERM` without `CAP_NET_ADMIN`.
    pub fn open(groups: &[Group]) -> io::Result<Self> {
        let socket = XfrmSocket::open(groups, RECEIVE_BUFFER)?;
        socket.set_non_blocking()?;
        Ok(Self {
            socket,
            ready: Vec::new(),
        })
    }

    /// Begins or ends to receive the notifications of a group. What has come by then stays to be received.
    ///
    /// # Errors
    /// Failure of the socket.
    pub fn listen(&mut self, group: Group, on: bool) -> io::Result<()> {
        self.socket.listen(group, on)
    }

    /// The next event, or `None` if there is none now: wait until the descriptor is readable.
    ///
    /// # Errors
    /// Failure of the socket. Loss of events is an [`Event::Resync`], no error.
    pub fn receive(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(event) = self.ready.pop() {
                return Ok(Some(event));
            }
            match self.socket.receive()? {
                Received::Nothing => return Ok(None),
                Received::Lost => return Ok(Some(Event::Resync)),
                Received::Datagram(datagram) => {
                    self.ready.extend(Frames::new(datagram).filter_map(event));
                    self.ready.reverse();
                }
            }
            self.socket.wipe();
        }
    }
}

fn event(frame: Result<crate::netlink::Frame<'_>, DecodeError>) -> Option<Event> {
    let unreadable = |kind, error| Some(Event::Unreadable { kind, error });
    let frame = match frame {
        Ok(frame) => frame,
        Err(error) => return unreadable(MessageType::default(), error),
    };
    match frame.kind() {
        Ok(Kind::Message {
            kind,
            dump,
            payload,
        }) => match Message::decode(kind, dump, payload) {
            Ok(message) => Some(Event::Message {
                message: Box::new(message),
                port: frame.header.port,
            }),
            Err(error) => unreadable(kind, error),
        },
        // This socket sends nothing, so nothing is acknowledged.
        Ok(Kind::Noop | Kind::Outcome { .. }) => None,
        Err(error) => unreadable(MessageType(frame.header.kind), error),
    }
}

impl AsFd for EventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for EventSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
