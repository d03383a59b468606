//! IKE sockets in memory: what is sent is collected, what arrives is put in by the test.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use super::network::{Network, lock};
use crate::ike_socket::{IkeSocket, IkeSocketSpec, IkeSockets, OpenError, Received};

/// A datagram on the imagined wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// The sender.
    pub from: SocketAddr,
    /// The receiver.
    pub to: SocketAddr,
    /// The octets.
    pub bytes: Vec<u8>,
}

type Inbox = Arc<Mutex<VecDeque<Datagram>>>;

#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// By local address and, for connected sockets, peer.
    open: HashMap<(SocketAddr, Option<SocketAddr>), Inbox>,
    sent: VecDeque<Datagram>,
}

/// A socket of a [`Network`]; closed when dropped.
#[derive(Debug)]
pub struct Socket {
    network: Network,
    local: SocketAddr,
    peer: Option<SocketAddr>,
    inbox: Inbox,
}

impl Network {
    /// Takes the oldest datagram that any socket has sent.
    #[must_use]
    pub fn take_sent(&self) -> Option<Datagram> {
        lock(&self.sockets).sent.pop_front()
    }

    /// Delivers a datagram as the kernel would: to the socket connected to its sender, else to the unconnected one.
    /// Answers whether anybody got it.
    pub fn deliver(&self, datagram: Datagram) -> bool {
        let sockets = lock(&self.sockets);
        let inbox = sockets
            .open
            .get(&(datagram.to, Some(datagram.from)))
            .or_else(|| sockets.open.get(&(datagram.to, None)));
        let Some(inbox) = inbox else {
            return false;
        };
        lock(inbox).push_back(datagram);
        true
    }
}

impl IkeSockets for Network {
    type Socket = Socket;

    fn open(&mut self, spec: &IkeSocketSpec) -> Result<Socket, OpenError> {
        let local = spec.local;
        if let Some(peer) = spec.peer
            && peer.is_ipv6() != local.is_ipv6()
        {
            return Err(OpenError::FamilyMismatch { local, peer });
        }
        let known = local.ip().is_unspecified()
            || lock(&self.state)
                .addresses
                .iter()
                .any(|a| a.address.addr() == local.ip() && a.is_usable());
        if !known {
            return Err(OpenError::NoSuchAddress { local });
        }
        let mut sockets = lock(&self.sockets);
        let taken = sockets.open.keys().any(|(l, _)| *l == local);
        let further = spec.shared && spec.peer.is_some();
        if (taken && !further) || sockets.open.contains_key(&(local, spec.peer)) {
            return Err(OpenError::PortInUse { local });
        }
        let inbox = Inbox::default();
        sockets.open.insert((local, spec.peer), Arc::clone(&inbox));
        Ok(Socket {
            network: self.clone(),
            local,
            peer: spec.peer,
            inbox,
        })
    }
}

impl IkeSocket for Socket {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn send(&self, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        let mut sender = self.local;
        if sender.ip().is_unspecified()
            && let Some(from) = from
        {
            sender.set_ip(from);
        }
        lock(&self.network.sockets).sent.push_back(Datagram {
            from: sender,
            to: self.peer.unwrap_or(to),
            bytes: bytes.to_vec(),
        });
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let datagram = lock(&self.inbox)
            .pop_front()
            .ok_or(io::ErrorKind::WouldBlock)?;
        let len = datagram.bytes.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(&datagram.bytes) {
            *to = *from;
        }
        Ok(Received {
            len,
            truncated: len < datagram.bytes.len(),
            remote: datagram.from,
            local: datagram.to,
            ifindex: 0,
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        lock(&self.network.sockets)
            .open
            .remove(&(self.local, self.peer));
    }
}
