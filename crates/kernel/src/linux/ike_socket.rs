//! IKE sockets on Linux.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt as standard};

use super::sockopt;
use crate::ike_socket::{IkeSocket, IkeSocketSpec, IkeSockets, OpenError, PathMtu, Received};

/// Opens sockets in the calling thread's network namespace.
#[derive(Debug, Default, Clone, Copy)]
pub struct UdpSockets;

/// An open UDP socket for IKE; an ordinary descriptor that a runtime may poll or the data plane take over.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    local: SocketAddr,
    connected: bool,
}

impl UdpSocket {
    /// Another descriptor of the same socket.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            local: self.local,
            connected: self.connected,
        })
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl From<UdpSocket> for OwnedFd {
    fn from(socket: UdpSocket) -> Self {
        socket.fd
    }
}

/// Names the step that failed and what would have allowed it.
fn failed(local: SocketAddr, action: &'static str, error: io::Error) -> OpenError {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => OpenError::PortInUse { local },
        Some(libc::EADDRNOTAVAIL) => OpenError::NoSuchAddress { local },
        Some(libc::EACCES | libc::EPERM) => OpenError::NoPermission {
            local,
            action,
            capability: if action == BIND {
                "CAP_NET_BIND_SERVICE"
            } else {
                "CAP_NET_ADMIN"
            },
        },
        Some(libc::ENOPROTOOPT | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::EOPNOTSUPP) => {
            OpenError::Unsupported { local, action }
        }
        _ => OpenError::Failed {
            local,
            action,
            source: error,
        },
    }
}

const BIND: &str = "bind";

impl IkeSockets for UdpSockets {
    type Socket = UdpSocket;

    fn open(&mut self, spec: &IkeSocketSpec) -> Result<UdpSocket, OpenError> {
        self.open_one(spec, None)
    }
}

impl UdpSockets {
    /// Opens a second unconnected socket beside a shared one of the same address and port, for the ESP packets with SPIs
    /// of this range, whoever sends them: the first one does not see those, and `UDP_ENCAP` of it not either. A peer that
    /// a NAT has given another port is heard there, where no connected socket is for it yet.
    ///
    /// Both have to be closed together: the kernel counts them in the order in which they were opened.
    ///
    /// # Errors
    /// As for any socket; [`OpenError::PortInUse`] if there is no shared one to be beside.
    pub fn open_beside(
        &self,
        spec: &IkeSocketSpec,
        spis: &RangeInclusive<u32>,
    ) -> Result<UdpSocket, OpenError> {
        self.open_one(spec, Some(spis))
    }

    fn open_one(
        &self,
        spec: &IkeSocketSpec,
        spis: Option<&RangeInclusive<u32>>,
    ) -> Result<UdpSocket, OpenError> {
        let local = spec.local;
        let ipv6 = local.is_ipv6();
        if let Some(peer) = spec.peer
            && peer.is_ipv6() != ipv6
        {
            return Err(OpenError::FamilyMismatch { local, peer });
        }
        let step = |action| move |error: io::Error| failed(local, action, error);
        let step_errno =
            |action| move |error: rustix::io::Errno| failed(local, action, io::Error::from(error));

        let family = if ipv6 {
            AddressFamily::INET6
        } else {
            AddressFamily::INET
        };
        let fd = rustix::net::socket_with(
            family,
            SocketType::DGRAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            Some(ipproto::UDP),
        )
        .map_err(step_errno("open a udp socket"))?;

        if ipv6 {
            // Each family has its own sockets; a dual-stack one would claim the IPv4 port as well.
            standard::set_ipv6_v6only(&fd, true).map_err(step_errno("set IPV6_V6ONLY"))?;
        }
        // Policies and the mark come before the bind: from then on packets may arrive and answers leave.
        if spec.bypass {
            sockopt::exempt_from_policies(&fd, ipv6)
                .map_err(step("exempt the socket from ipsec policies"))?;
        }
        if let Some(mark) = spec.mark {
            sockopt::set_mark(&fd, mark).map_err(step("set the packet mark"))?;
        }
        if ipv6 {
            let mode = match spec.path_mtu {
                PathMtu::Fragment => standard::Ipv6PathMtuDiscovery::DONT,
                PathMtu::Discover => standard::Ipv6PathMtuDiscovery::DO,
                PathMtu::Want => standard::Ipv6PathMtuDiscovery::WANT,
                PathMtu::Probe => standard::Ipv6PathMtuDiscovery::PROBE,
            };
            standard::set_ipv6_mtu_discover(&fd, mode)
        } else {
            let mode = match spec.path_mtu {
                PathMtu::Fragment => standard::Ipv4PathMtuDiscovery::DONT,
                PathMtu::Discover => standard::Ipv4PathMtuDiscovery::DO,
                PathMtu::Want => standard::Ipv4PathMtuDiscovery::WANT,
                PathMtu::Probe => standard::Ipv4PathMtuDiscovery::PROBE,
            };
            standard::set_ip_mtu_discover(&fd, mode)
        }
        .map_err(step_errno("set path mtu discovery"))?;
        sockopt::receive_pktinfo(&fd, ipv6).map_err(step("ask for packet information"))?;
        if spec.error_queue {
            sockopt::receive_errors(&fd, ipv6).map_err(step("ask for icmp errors"))?;
        }
        if let Some(size) = spec.buffer {
            standard::set_socket_recv_buffer_size_force(&fd, size)
                .and_then(|()| standard::set_socket_send_buffer_size_force(&fd, size))
                .map_err(step_errno("set the buffer size"))?;
        }
        let share = |group: bool| {
            standard::set_socket_reuseaddr(&fd, true)
                .and_then(|()| standard::set_socket_reuseport(&fd, group))
                .map_err(step_errno("share the port"))
        };
        let is_first = spec.shared && spec.peer.is_none() && spis.is_none();
        if spec.shared && !is_first {
            // A further socket of ours beside the unconnected one, which permits it (below).
            share(spis.is_some())?;
        }
        rustix::net::bind(&fd, &local).map_err(step_errno(BIND))?;
        if is_first {
            // Only now. Set before the bind, it would let us onto a port that another daemon holds with the same option,
            // and each would get some of the other's packets. UDP looks at the option when *another* socket binds.
            share(true)?;
        }
        if let Some(spis) = spis {
            sockopt::steer_spis(&fd, spis).map_err(step("choose among the sockets by spi"))?;
        }
        if let Some(peer) = spec.peer {
            rustix::net::connect(&fd, &peer).map_err(step_errno("connect"))?;
        }
        if spec.kernel_esp {
            sockopt::set_espinudp(&fd).map_err(step("enable udp encapsulation of esp"))?;
        }
        let bound =
            rustix::net::getsockname(&fd).map_err(step_errno("read the name of a socket"))?;
        let local = SocketAddr::try_from(bound).map_err(step_errno("read the name of a socket"))?;
        Ok(UdpSocket {
            fd,
            local,
            connected: spec.peer.is_some(),
        })
    }
}

impl IkeSocket for UdpSocket {
    fn local(&self) -> SocketAddr {
        self.local
    }

    fn send(&self, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        // A bound address needs no pktinfo, which costs a copy; a connected socket no destination.
        let from = from.filter(|_| self.local.ip().is_unspecified());
        let to = (!self.connected).then_some(to);
        sockopt::send(self.fd.as_fd(), bytes, to, from)
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let datagram = sockopt::receive(self.fd.as_fd(), buffer)?;
        let mut local = self.local;
        if let Some(destination) = datagram.destination {
            local.set_ip(destination);
        }
        Ok(Received {
            len: datagram.len,
            truncated: datagram.truncated,
            remote: datagram.remote,
            local,
            ifindex: datagram.ifindex,
        })
    }
}
