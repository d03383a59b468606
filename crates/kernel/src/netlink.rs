//! A small blocking request engine for `NETLINK_ROUTE` and `NETLINK_NETFILTER`.
//!
//! One socket, one request at a time: the kernel answers within the `sendmsg` call, so there is nothing to wait for
//! and no reason for a runtime. What this adds to a bare socket is what callers otherwise forget:
//!
//! - answers are matched by sequence number, so that a late answer to an abandoned request is not taken for ours;
//! - the kernel's own explanation (`NLMSGERR_ATTR_MSG`, "extended ACK") reaches the error text;
//! - a dump that the kernel flags as inconsistent (`NLM_F_DUMP_INTR`) is repeated;
//! - a message of a dump that the codec cannot read is skipped, not fatal: an exotic link of someone else's must not
//!   keep us from seeing our own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr};

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLMSGERR_ATTR_MSG: u16 = 1;

const HEADER_LEN: usize = 16;
/// The kernel fills dump datagrams up to 32 KiB when the reader offers that much; twice is safe.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// How often an interrupted dump is repeated before its last state is reported as an error.
const DUMP_ATTEMPTS: usize = 8;

/// Why a request to the kernel was not carried out.
///
/// `operation` says in the words of `ip(8)` what was asked for, such as `add route 10.2.0.0/16 dev ipsec0 table 4500`.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// `EPERM` or `EACCES`.
    #[error("{operation}: no permission (CAP_NET_ADMIN is needed)")]
    NoPermission {
        /// What was asked for.
        operation: String,
    },
    /// `EEXIST`.
    #[error("{operation}: exists already")]
    Exists {
        /// What was asked for.
        operation: String,
    },
    /// `ENOENT`, `ESRCH`, `ENODEV`, `ENXIO` or `EADDRNOTAVAIL`: the object, or the device it is on, is not there.
    #[error("{operation}: not found")]
    NotFound {
        /// What was asked for.
        operation: String,
    },
    /// `EOPNOTSUPP`, `EPROTONOSUPPORT`, `EAFNOSUPPORT`: this kernel cannot.
    #[error("{operation}: not supported by this kernel{}", explain(.text))]
    Unsupported {
        /// What was asked for.
        operation: String,
        /// The kernel's explanation, empty when it gave none.
        text: String,
    },
    /// Any other errno.
    #[error("{operation}: refused by the kernel: {}{}", io::Error::from_raw_os_error(*.errno), explain(.text))]
    Refused {
        /// What was asked for.
        operation: String,
        /// The kernel's errno.
        errno: i32,
        /// The kernel's explanation, empty when it gave none.
        text: String,
    },
    /// The netlink socket itself failed.
    #[error("{operation}: netlink socket: {source}")]
    Socket {
        /// What was asked for.
        operation: String,
        /// What the socket said.
        source: io::Error,
    },
    /// The answer was not what this request's answer looks like.
    #[error("{operation}: unusable answer from the kernel: {text}")]
    Malformed {
        /// What was asked for.
        operation: String,
        /// What is wrong with it.
        text: String,
    },
    /// A dump stayed inconsistent although it was repeated.
    #[error("{operation}: the tables kept changing while they were read")]
    Unstable {
        /// What was asked for.
        operation: String,
    },
}

fn explain(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(" ({text})")
    }
}

impl RequestError {
    /// Sorts an errno (positive) into the variants.
    pub(crate) fn from_errno(operation: &str, errno: i32, text: String) -> Self {
        let operation = operation.to_owned();
        match errno {
            libc::EPERM | libc::EACCES => Self::NoPermission { operation },
            libc::EEXIST => Self::Exists { operation },
            libc::ENOENT | libc::ESRCH | libc::ENODEV | libc::ENXIO | libc::EADDRNOTAVAIL => {
                Self::NotFound { operation }
            }
            libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT => {
                Self::Unsupported { operation, text }
            }
            errno => Self::Refused {
                operation,
                errno,
                text,
            },
        }
    }

    pub(crate) fn socket(operation: &str, source: io::Error) -> Self {
        Self::Socket {
            operation: operation.to_owned(),
            source,
        }
    }

    pub(crate) fn malformed(operation: &str, text: impl Into<String>) -> Self {
        Self::Malformed {
            operation: operation.to_owned(),
            text: text.into(),
        }
    }

    /// Whether the object (or its device) was not there: for a removal, the goal is reached.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the object was there already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Exists { .. })
    }
}

/// One message cut out of a datagram.
pub(crate) struct Frame<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// Cuts a datagram into its messages; stops at the first one whose length cannot be right.
pub(crate) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let body = bytes.get(HEADER_LEN..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Frame {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            body,
        })
    })
}

/// Walks attributes; stops at the first malformed one. Yields (type without flag bits, payload).
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    })
}

/// What an `NLMSG_ERROR` says: errno (0 = acknowledged) and the extended-ACK text.
pub(crate) fn error_of(frame: &Frame<'_>) -> Option<(i32, String)> {
    let code = i32::from_ne_bytes(*frame.body.first_chunk()?);
    let errno = code.checked_neg().unwrap_or(libc::EIO);
    let mut text = String::new();
    if frame.flags & NLM_F_ACK_TLVS != 0 {
        // struct nlmsgerr: the errno, then the request's header, then (unless capped) its payload, then attributes.
        let echoed = frame.body.get(4..)?;
        let request_len = u32::from_ne_bytes(*echoed.first_chunk()?) as usize;
        let skip = if frame.flags & NLM_F_CAPPED != 0 {
            HEADER_LEN
        } else {
            request_len.next_multiple_of(4)
        };
        for (kind, value) in attributes(echoed.get(skip..).unwrap_or(&[])) {
            if kind == NLMSGERR_ATTR_MSG {
                text = String::from_utf8_lossy(value)
                    .trim_end_matches('\0')
                    .to_owned();
            }
        }
    }
    Some((errno, text))
}

/// A netlink socket that asks and waits for the answer.
pub(crate) struct RequestSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for RequestSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestSocket")
            .field("fd", &self.socket.as_raw_fd())
            .field("sequence", &self.sequence)
            .finish()
    }
}

impl RequestSocket {
    /// Opens a socket of the given netlink protocol in the calling thread's network namespace.
    pub(crate) fn open(protocol: isize) -> Result<Self, RequestError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Both only make answers better; a kernel without them still serves.
            let _ = socket.set_ext_ack(true);
            let _ = socket.set_cap_ack(true);
            // Strict checking lets the kernel filter dumps by what the header says (table, device).
            if protocol == netlink_sys::protocols::NETLINK_ROUTE {
                let _ = socket.set_netlink_get_strict_chk(true);
            }
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(|e| RequestError::socket("open netlink socket", e))?,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE_BUFFER),
        })
    }

    pub(crate) fn next_sequence(&mut self) -> u32 {
        // 0 is what unsolicited messages carry.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.sequence
    }

    pub(crate) fn send(&self, operation: &str, bytes: &[u8]) -> Result<(), RequestError> {
        loop {
            match self.socket.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Some families refuse in sendmsg itself instead of by a message.
                Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                    return Err(RequestError::NoPermission {
                        operation: operation.to_owned(),
                    });
                }
                Err(e) => return Err(RequestError::socket(operation, e)),
            }
        }
    }

    /// Receives one datagram of answers.
    pub(crate) fn receive(&mut self, operation: &str) -> Result<&[u8], RequestError> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_TRUNC) {
                Ok(length) if length > self.buffer.len() => {
                    return Err(RequestError::malformed(
                        operation,
                        format!("a datagram of {length} bytes was cut"),
                    ));
                }
                Ok(_) => return Ok(&self.buffer),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(RequestError::socket(operation, e)),
            }
        }
    }

    /// Sends one rtnetlink request and collects its answers up to the acknowledgement.
    pub(crate) fn request(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, RequestError> {
        self.exchange(operation, message, flags | NLM_F_REQUEST | NLM_F_ACK)
            .map(|answer| answer.messages)
    }

    /// Dumps; repeats while the kernel says that the tables changed under the dump.
    pub(crate) fn dump(
        &mut self,
        operation: &str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, RequestError> {
        for _ in 0..DUMP_ATTEMPTS {
            let answer = self.exchange(operation, message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            if !answer.interrupted {
                return Ok(answer.messages);
            }
        }
        Err(RequestError::Unstable {
            operation: operation.to_owned(),
        })
    }

    fn exchange(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Answer, RequestError> {
        let sequence = self.next_sequence();
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.send(operation, &bytes)?;

        let mut answer = Answer::default();
        loop {
            let datagram = self.receive(operation)?;
            for frame in frames(datagram) {
                if frame.sequence != sequence {
                    continue;
                }
                answer.interrupted |= frame.flags & NLM_F_DUMP_INTR != 0;
                match frame.kind {
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => {
                        return Err(RequestError::malformed(operation, "overrun"));
                    }
                    NLMSG_DONE => {
                        // A dump may fail half way; its errno is in the DONE message.
                        if let Some((errno, _)) = error_of(&frame)
                            && errno > 0
                        {
                            return Err(RequestError::from_errno(operation, errno, String::new()));
                        }
                        return Ok(answer);
                    }
                    NLMSG_ERROR => {
                        let (errno, text) = error_of(&frame).ok_or_else(|| {
                            RequestError::malformed(operation, "an error message without a code")
                        })?;
                        return if errno == 0 {
                            Ok(answer)
                        } else {
                            Err(RequestError::from_errno(operation, errno, text))
                        };
                    }
                    _ => match decode(&frame) {
                        Ok(message) => answer.messages.push(message),
                        Err(error) => tracing::debug!(
                            operation,
                            kind = frame.kind,
                            error,
                            "skipped a netlink message that could not be read"
                        ),
                    },
                }
            }
        }
    }
}

#[derive(Default)]
struct Answer {
    messages: Vec<RouteNetlinkMessage>,
    interrupted: bool,
}

fn decode(frame: &Frame<'_>) -> Result<RouteNetlinkMessage, String> {
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(HEADER_LEN + frame.body.len()).unwrap_or(u32::MAX);
    header.message_type = frame.kind;
    header.flags = frame.flags;
    header.sequence_number = frame.sequence;
    RouteNetlinkMessage::deserialize(&header, frame.body).map_err(|e| e.to_string())
}

/// What an event socket delivers.
#[derive(Debug)]
pub(crate) enum Notice {
    /// One message.
    Message(Box<RouteNetlinkMessage>),
    /// The kernel dropped messages because the socket's buffer was full: read everything anew.
    Overrun,
}

/// A non-blocking socket that is subscribed to rtnetlink groups.
pub(crate) struct EventSocket {
    socket: Socket,
    buffer: Vec<u8>,
    pending: std::collections::VecDeque<Notice>,
}

impl std::fmt::Debug for EventSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventSocket")
            .field("fd", &self.socket.as_raw_fd())
            .field("pending", &self.pending.len())
            .finish()
    }
}

impl EventSocket {
    /// Subscribes to the given groups (`RTNLGRP_*` numbers) in the calling thread's network namespace.
    pub(crate) fn open(operation: &str, groups: &[u32]) -> Result<Self, RequestError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(netlink_sys::protocols::NETLINK_ROUTE)?;
            // A burst (a routing daemon's full table) should not cost an overrun. Failing is harmless.
            let _ = socket.set_rx_buf_sz(2 * 1024 * 1024);
            socket.bind_auto()?;
            for group in groups {
                socket.add_membership(*group)?;
            }
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(|e| RequestError::socket(operation, e))?,
            buffer: Vec::with_capacity(RECEIVE_BUFFER),
            pending: std::collections::VecDeque::new(),
        })
    }

    /// The next notice, or `None` when there is none at the moment.
    pub(crate) fn next(&mut self) -> Result<Option<Notice>, RequestError> {
        const OPERATION: &str = "receive network events";
        loop {
            if let Some(notice) = self.pending.pop_front() {
                return Ok(Some(notice));
            }
            self.buffer.clear();
            // `recv_from`, because only the kernel (port 0) is to be believed.
            match self.socket.recv_from(&mut self.buffer, libc::MSG_TRUNC) {
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) if length > self.buffer.len() => {
                    self.pending.push_back(Notice::Overrun);
                }
                Ok(_) => {
                    for frame in frames(&self.buffer) {
                        match decode(&frame) {
                            Ok(message) => {
                                self.pending.push_back(Notice::Message(Box::new(message)))
                            }
                            Err(error) => {
                                tracing::debug!(kind = frame.kind, error, "skipped an event");
                            }
                        }
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Some(Notice::Overrun));
                }
                Err(e) => return Err(RequestError::socket(OPERATION, e)),
            }
        }
    }
}

impl AsRawFd for EventSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for EventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_ack_text_is_found_behind_a_capped_request() {
        let mut body = (-libc::EINVAL).to_ne_bytes().to_vec();
        body.extend(200u32.to_ne_bytes()); // The request was long, but only its header is echoed.
        body.extend([0; 12]);
        let text = b"Invalid prefix\0";
        body.extend(u16::try_from(4 + text.len()).unwrap().to_ne_bytes());
        body.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
        body.extend(text);
        let frame = Frame {
            kind: NLMSG_ERROR,
            flags: NLM_F_CAPPED | NLM_F_ACK_TLVS,
            sequence: 1,
            body: &body,
        };
        assert_eq!(
            error_of(&frame),
            Some((libc::EINVAL, "Invalid prefix".to_owned()))
        );
    }

    #[test]
    fn fuzz_answers() {
        bolero::check!()
            .with_test_time(std::time::Duration::from_secs(1))
            .for_each(|input: &[u8]| {
                for frame in frames(input) {
                    assert!(frame.body.len() <= input.len());
                    let _ = error_of(&frame);
                    assert!(attributes(frame.body).count() <= frame.body.len() / 4);
                }
                // As any message of ours would be read.
                for kind in 16..40 {
                    let _ = decode(&Frame {
                        kind,
                        flags: 0,
                        sequence: 1,
                        body: input,
                    });
                }
            });
    }

    #[test]
    fn cutting_never_panics_and_never_loops() {
        // Every truncation of a datagram with two messages.
        let mut datagram = Vec::new();
        for sequence in [1u32, 2] {
            datagram.extend(20u32.to_ne_bytes());
            datagram.extend(NLMSG_DONE.to_ne_bytes());
            datagram.extend([0, 0]);
            datagram.extend(sequence.to_ne_bytes());
            datagram.extend([0; 8]);
        }
        for cut in 0..=datagram.len() {
            assert_eq!(frames(&datagram[..cut]).count(), cut / 20);
        }
        // A length below the header's must end the walk.
        datagram[..4].copy_from_slice(&3u32.to_ne_bytes());
        assert_eq!(frames(&datagram).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0, 9, 9, 9, 9]).count(), 0);
    }
}
