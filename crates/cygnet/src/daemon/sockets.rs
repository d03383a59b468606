//! The IKE sockets: a pair (500 and 4500) on every suitable address, opened and
//! closed as addresses come and go, and where TCP streams are taken.
//!
//! Who reads port 4500 depends on the planes. If the kernel transforms ESP for
//! any connection, the sockets are given to it (`UDP_ENCAP`) and IKE is what it
//! leaves over; the data plane then has a second socket on the port, for the
//! SPIs that it has chosen, and user-space peers get connected sockets of
//! their own, which win over both. If only user space does, its thread reads them
//! and hands IKE back. A plane that has had a part in the port keeps it: where
//! peers have connected sockets, the port cannot be taken exclusively again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use cygnet_dataplane::{Handle, StreamMessage};
use cygnet_engine::USERSPACE_SPIS;
use cygnet_ike::{Transmit, Transport};
use cygnet_kernel::linux::{UdpSocket, UdpSockets};
use cygnet_kernel::{IkeSocket, IkeSocketSpec, IkeSockets, OpenError, PathMtu};
use cygnet_wire::{UdpDatagram, classify_natt};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::watch::watch;

/// An IKE message that came in.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) transport: Transport,
}

/// IKE messages that may wait for the engine; more are dropped, as the network would.
pub(super) const MAX_DATAGRAMS: usize = 4096;

/// Datagrams read from one socket before the others have their turn.
const BURST: usize = 64;

/// Who takes ESP from port 4500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Takers {
    /// The kernel, through `UDP_ENCAP`.
    pub(super) kernel: bool,
    /// The user-space plane.
    pub(super) userspace: bool,
}

impl Takers {
    /// The user-space plane reads the port itself.
    fn by_plane(self) -> bool {
        self.userspace && !self.kernel
    }
}

/// What is open.
pub(super) struct Sockets {
    open: BTreeMap<SocketAddr, Entry>,
    /// Where TCP streams are taken; with `listen_tcp` that is port 4500 of each address.
    listening: BTreeSet<SocketAddr>,
    listen_tcp: bool,
    takers: Takers,
    plane: Option<Handle>,
    mark: u32,
    ports: (u16, u16),
    datagrams: mpsc::Sender<Datagram>,
}

struct Entry {
    socket: UdpSocket,
    reader: Option<JoinHandle<()>>,
    /// The data plane has a socket there: this one, or the one beside it.
    plane: bool,
}

impl Sockets {
    pub(super) fn new(ports: (u16, u16), mark: u32, datagrams: mpsc::Sender<Datagram>) -> Self {
        let takers = Takers {
            kernel: false,
            userspace: false,
        };
        Self {
            open: BTreeMap::new(),
            listening: BTreeSet::new(),
            listen_tcp: false,
            takers,
            plane: None,
            mark,
            ports,
            datagrams,
        }
    }

    /// Whether TCP streams are taken (`listen-tcp`), from the next time on that sockets are opened and closed.
    pub(super) fn take_streams(&mut self, wanted: bool) {
        self.listen_tcp = wanted;
    }

    /// Whether IKE can be spoken at all.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether both planes take ESP from port 4500.
    pub(super) fn is_shared(&self) -> bool {
        self.takers.kernel && self.takers.userspace
    }

    /// Closes what is not on `addresses`, and port 4500 if another plane is to read it.
    ///
    /// Waits until the readers are gone: only then is a port free again.
    pub(super) async fn close_stale(
        &mut self,
        addresses: &[IpAddr],
        takers: Takers,
        plane: Option<&Handle>,
    ) {
        let nat_port = self.ports.1;
        let takers = Takers {
            kernel: takers.kernel || self.takers.kernel,
            userspace: takers.userspace || self.takers.userspace,
        };
        let readers = |t: Takers| (t.kernel, t.by_plane());
        let changed = readers(takers) != readers(self.takers);
        let gone: Vec<SocketAddr> = self
            .open
            .keys()
            .filter(|s| !addresses.contains(&s.ip()) || (changed && s.port() == nat_port))
            .copied()
            .collect();
        for local in gone {
            let Some(entry) = self.open.remove(&local) else {
                continue;
            };
            if let Some(reader) = entry.reader {
                reader.abort();
                // It was aborted: there is nothing to learn from how it ended.
                let _ = reader.await;
            }
            if entry.plane
                && let Some(plane) = &self.plane
                && let Err(error) = plane.remove_udp_socket(local, None)
            {
                tracing::warn!(%local, %error, "the data plane did not give a socket back");
            }
        }
        self.takers = takers;
        self.plane = plane.cloned();
        let wanted = self.listen_tcp;
        let stale = |local: &SocketAddr| !wanted || !addresses.contains(&local.ip());
        for local in self.listening.extract_if(.., stale) {
            if let Some(plane) = &self.plane
                && let Err(error) = plane.unlisten(local)
            {
                tracing::warn!(%local, %error, "the data plane still takes TCP streams");
            }
        }
    }

    /// Opens what is missing on `addresses`.
    pub(super) fn open_missing(&mut self, addresses: &[IpAddr]) -> Vec<OpenError> {
        let mut errors = Vec::new();
        for &ip in addresses {
            for port in [self.ports.0, self.ports.1] {
                let local = SocketAddr::new(ip, port);
                let opened = match self.open.get(&local) {
                    None => self.open_one(local),
                    Some(_) => self.open_beside(local),
                };
                errors.extend(opened.err());
            }
            let local = SocketAddr::new(ip, self.ports.1);
            if self.listen_tcp && !self.listening.contains(&local) {
                match self.listen(local) {
                    Ok(()) => _ = self.listening.insert(local),
                    Err(error) => errors.push(error),
                }
            }
        }
        errors
    }

    /// Where the kernel has port 4500, the data plane gets a socket of its own beside the kernel's: ESP from where a NAT has
    /// moved a peer matches no connected socket, and the kernel would swallow it.
    fn open_beside(&mut self, local: SocketAddr) -> Result<(), OpenError> {
        let wanted = local.port() == self.ports.1 && self.is_shared();
        let (Some(plane), Some(entry)) = (&self.plane, self.open.get_mut(&local)) else {
            return Ok(());
        };
        if !wanted || entry.plane {
            return Ok(());
        }
        let spec = IkeSocketSpec {
            mark: Some(self.mark),
            shared: true,
            path_mtu: PathMtu::Want,
            ..IkeSocketSpec::new(local)
        };
        let socket = UdpSockets.open_beside(&spec, &USERSPACE_SPIS)?;
        give(plane, OwnedFd::from(socket), local)?;
        entry.plane = true;
        Ok(())
    }

    fn listen(&self, local: SocketAddr) -> Result<(), OpenError> {
        let listening = match &self.plane {
            Some(plane) => plane.listen(local).map_err(io::Error::other),
            None => Err(io::Error::other("the user-space data plane is not running")),
        };
        listening.map_err(|source| OpenError::Failed {
            local,
            action: "take TCP streams",
            source,
        })
    }

    /// An IKE SA uses a stream, or none does any more.
    pub(super) fn use_stream(&self, local: SocketAddr, remote: SocketAddr, used: bool) {
        if let Some(plane) = &self.plane
            && let Err(error) = plane.use_stream(local, remote, used)
        {
            tracing::warn!(%error, "the data plane does not hear of a TCP stream's use");
        }
    }

    fn send_into_stream(&self, transmit: &Transmit) -> io::Result<()> {
        let Some(plane) = &self.plane else {
            return Err(io::Error::other("the user-space data plane is not running"));
        };
        // A stream from the port on which we take them is the peer's: only the peer can open it again.
        let open = transmit.local.port() != self.ports.1;
        let message = StreamMessage {
            local: transmit.local,
            remote: transmit.remote,
            open,
            bytes: transmit.bytes.clone(),
        };
        plane.send_message(message).map_err(io::Error::other)
    }

    fn open_one(&mut self, local: SocketAddr) -> Result<(), OpenError> {
        let natt = local.port() == self.ports.1;
        let by_plane = natt && self.takers.by_plane() && self.plane.is_some();
        let spec = IkeSocketSpec {
            mark: Some(self.mark),
            kernel_esp: natt && self.takers.kernel,
            // Connected sockets of user-space peers may come at any time.
            shared: natt && self.takers.kernel,
            // ESP learns the path's MTU; IKE alone is rather fragmented than lost.
            path_mtu: if by_plane {
                PathMtu::Want
            } else {
                PathMtu::Fragment
            },
            ..IkeSocketSpec::new(local)
        };
        let failed = |action| {
            move |source| OpenError::Failed {
                local,
                action,
                source,
            }
        };
        let socket = UdpSockets.open(&spec)?;
        if by_plane && let Some(plane) = &self.plane {
            let copy = OwnedFd::from(socket.try_clone().map_err(failed("share the socket"))?);
            give(plane, copy, local)?;
        }
        // What the plane reads is not watched: every ESP packet would wake this thread for nothing.
        let reader = if by_plane {
            None
        } else {
            let copy = socket.try_clone().map_err(failed("share the socket"))?;
            let watched = watch(copy).map_err(failed("watch the socket"))?;
            let reader = read(watched, natt, self.datagrams.clone());
            Some(tokio::task::spawn_local(reader))
        };
        let entry = Entry {
            socket,
            reader,
            plane: by_plane,
        };
        self.open.insert(local, entry);
        self.open_beside(local)
    }

    /// Sends an IKE message; what the socket buffer has no room for is lost like on the network.
    pub(super) fn send(&self, transmit: &Transmit) -> io::Result<()> {
        if transmit.transport == Transport::Tcp {
            return self.send_into_stream(transmit);
        }
        let Some(entry) = self.open.get(&transmit.local) else {
            return Err(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                "no socket on the local address",
            ));
        };
        let socket = &entry.socket;
        match transmit.transport.marker() {
            [] => socket.send(&transmit.bytes, transmit.remote, None),
            marker => {
                let bytes = [marker, &transmit.bytes].concat();
                socket.send(&bytes, transmit.remote, None)
            }
        }
    }
}

fn give(plane: &Handle, socket: OwnedFd, local: SocketAddr) -> Result<(), OpenError> {
    plane
        .add_udp_socket(socket, local)
        .map_err(|e| OpenError::Failed {
            local,
            action: "give the socket to the data plane",
            source: io::Error::other(e),
        })
}

/// Reads one socket until it is closed.
async fn read(socket: AsyncFd<UdpSocket>, natt: bool, datagrams: mpsc::Sender<Datagram>) {
    let mut buffer = vec![0; 65_536];
    let mut dropped = 0u64;
    loop {
        let Ok(mut ready) = socket.readable().await else {
            return;
        };
        for _ in 0..BURST {
            let received = match ready.try_io(|s| s.get_ref().receive(&mut buffer)) {
                Err(_would_block) => break,
                // An ICMP error queued for the socket, say: the next read is a fresh one.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "receiving on an IKE socket failed");
                    break;
                }
                Ok(Ok(received)) => received,
            };
            if received.truncated {
                continue;
            }
            let bytes = buffer.get(..received.len).unwrap_or_default();
            let (bytes, transport) = match natt.then(|| classify_natt(bytes)) {
                None => (bytes, Transport::Udp),
                Some(UdpDatagram::Ike(ike)) => (ike, Transport::UdpEncap),
                Some(_) => continue,
            };
            let datagram = Datagram {
                local: received.local,
                remote: received.remote,
                bytes: bytes.to_vec(),
                transport,
            };
            match datagrams.try_send(datagram) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    dropped += 1;
                    if dropped.is_power_of_two() {
                        tracing::warn!(dropped, "the engine is behind, IKE datagrams are dropped");
                    }
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
        tokio::task::yield_now().await;
    }
}
