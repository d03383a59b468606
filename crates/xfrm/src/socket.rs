//! The netlink socket below requests and events.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_XFRM;
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;
use rustix::net::sockopt;
use zeroize::{Zeroize, Zeroizing};

use crate::numbers::Group;

/// The kernel fills datagrams of dumps up to 32 KiB; single messages stay far below.
const DATAGRAM: usize = 64 * 1024;

pub(crate) struct XfrmSocket {
    socket: Socket,
    port: u32,
    buffer: Zeroizing<Vec<u8>>,
    /// How far into the buffer something was received since it was wiped.
    dirty: usize,
}

/// What one call of the receive function gave.
pub(crate) enum Received<'a> {
    /// A datagram of the kernel.
    Datagram(&'a [u8]),
    /// A datagram that did not fit and was cut, or was lost for lack of socket memory.
    Lost,
    /// Nothing (non-blocking socket, or the timeout passed).
    Nothing,
}

impl XfrmSocket {
    pub(crate) fn open(groups: &[Group], receive_buffer: usize) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_XFRM)?;
        // Privileged processes may go beyond rmem_max; others get what they can.
        if sockopt::set_socket_recv_buffer_size_force(&socket, receive_buffer).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, receive_buffer)?;
        }
        // Texts for errors (4.12), and acknowledgements without a copy of the request, which
        // would have keys in it (4.2). Older kernels refuse the options and work without.
        for result in [socket.set_ext_ack(true), socket.set_cap_ack(true)] {
            match result {
                Err(error) if error.raw_os_error() == Some(Errno::NOPROTOOPT.raw_os_error()) => {}
                other => other?,
            }
        }
        let port = socket.bind_auto()?.port_number();
        for group in groups {
            socket.add_membership(group.0)?;
        }
        Ok(Self {
            socket,
            port,
            buffer: Zeroizing::new(vec![0; DATAGRAM]),
            dirty: 0,
        })
    }

    /// Begins or ends to receive the notifications of a group.
    pub(crate) fn listen(&mut self, group: Group, on: bool) -> io::Result<()> {
        if on {
            self.socket.add_membership(group.0)
        } else {
            self.socket.drop_membership(group.0)
        }
    }

    /// The netlink address that the kernel has given to the socket.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    pub(crate) fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Recv, Some(timeout))?;
        Ok(())
    }

    pub(crate) fn set_non_blocking(&self) -> io::Result<()> {
        self.socket.set_non_blocking(true)
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = loop {
            match self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    pub(crate) fn receive(&mut self) -> io::Result<Received<'_>> {
        let len = loop {
            let mut room = &mut self.buffer[..];
            match self.socket.recv_from(&mut room, libc::MSG_TRUNC) {
                Ok((len, from)) if from.port_number() == 0 => break len,
                // Only the kernel speaks for the kernel.
                Ok(_) => {}
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    Some(Errno::AGAIN) => return Ok(Received::Nothing),
                    Some(Errno::NOBUFS) => return Ok(Received::Lost),
                    _ => return Err(error),
                },
            }
        };
        self.dirty = self.dirty.max(len).min(self.buffer.len());
        Ok(match self.buffer.get(..len) {
            Some(datagram) => Received::Datagram(datagram),
            None => Received::Lost,
        })
    }

    /// Wipes what was received: SAs come with their keys.
    pub(crate) fn wipe(&mut self) {
        if let Some(dirty) = self.buffer.get_mut(..self.dirty) {
            dirty.zeroize();
        }
        self.dirty = 0;
    }
}

impl AsFd for XfrmSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for XfrmSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
