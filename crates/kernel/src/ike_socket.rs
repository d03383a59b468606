//! S3.1: the sockets that IKE (and UDP-encapsulated ESP) is spoken over, one per local address and port.
//!
//! One socket per address instead of one for all: answers then leave from the address that was asked, a newly added
//! address is listened on when [`crate::AddrEvents`] tell of it, and a port that someone else holds on one address does
//! not cost the others. Which addresses may be used is [`listen_addresses`]: never those of a device that carries our
//! own clear traffic, or IKE would be spoken through the tunnel that it negotiates (S3.1, S1.15).

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::interface_addr::{InterfaceAddr, Scope};
use crate::links::{Link, LinkKind};

/// The IKE port (RFC 7296 §2).
pub const IKE_PORT: u16 = 500;
/// The port of IKE and ESP behind NATs (RFC 3948 §2).
pub const NAT_PORT: u16 = 4500;

/// What the kernel does with packets of ours that exceed the path MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PathMtu {
    /// Never set DF, let packets be fragmented (`IP_PMTUDISC_DONT`). Right for IKE: messages with certificates exceed
    /// the MTU, and nobody there would repeat them smaller (RFC 7383 §1 says what this costs).
    #[default]
    Fragment,
    /// Set DF, refuse what exceeds the known path MTU with `EMSGSIZE` (`IP_PMTUDISC_DO`).
    Discover,
    /// Set DF unless a datagram exceeds the known path MTU, and fragment that one (`IP_PMTUDISC_WANT`, the system's
    /// default): for a socket that carries ESP beside IKE.
    Want,
    /// Set DF, ignore the known path MTU (`IP_PMTUDISC_PROBE`): for a data plane that keeps its own.
    Probe,
}

/// Which socket is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IkeSocketSpec {
    /// The local address and port. Link-local IPv6 addresses carry their interface in the scope id.
    pub local: SocketAddr,
    /// Connects the socket: only datagrams of this peer arrive on it, and before any unconnected socket gets them. That
    /// is how the user-space plane keeps its packets from a socket of the same port whose ESP the kernel consumes.
    pub peer: Option<SocketAddr>,
    /// Lets our own further sockets (the connected ones) bind the same address and port. The first bind is still
    /// exclusive, so a foreign daemon is noticed.
    pub shared: bool,
    /// `SO_MARK`: lets our packets escape the rules that lead into the tunnel (S1.15). Needs CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// `UDP_ENCAP_ESPINUDP`: the kernel takes ESP and keepalives out of the stream (RFC 3948) for its own SAs.
    pub kernel_esp: bool,
    /// Gives the socket policies of its own that let it speak in clear whatever the SPD says (K2: socket policies come
    /// first). Needs CAP_NET_ADMIN.
    pub bypass: bool,
    /// Fragmentation.
    pub path_mtu: PathMtu,
    /// Forced socket buffer sizes in octets (`ike-socket-bufsize=`); `None` leaves the system's default.
    pub buffer: Option<usize>,
    /// `IP_RECVERR`: ICMP errors are reported on the socket (`ike-socket-errqueue=`).
    pub error_queue: bool,
}

impl IkeSocketSpec {
    /// An unconnected, exclusive socket that bypasses the SPD: what an IKE daemon opens per address.
    #[must_use]
    pub fn new(local: SocketAddr) -> Self {
        Self {
            local,
            peer: None,
            shared: false,
            mark: None,
            kernel_esp: false,
            bypass: true,
            path_mtu: PathMtu::Fragment,
            buffer: None,
            error_queue: false,
        }
    }
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Someone else listens there.
    #[error("udp port {} of {} is already in use by another program", .local.port(), .local.ip())]
    PortInUse {
        /// The address and port.
        local: SocketAddr,
    },
    /// The address is not on any interface (or still tentative).
    #[error("{} is not an address of this host", .local.ip())]
    NoSuchAddress {
        /// The address and port.
        local: SocketAddr,
    },
    /// A capability is missing.
    #[error("no permission to {action} on {local} ({capability} is needed)")]
    NoPermission {
        /// The address and port.
        local: SocketAddr,
        /// What was tried.
        action: &'static str,
        /// Which capability allows it.
        capability: &'static str,
    },
    /// The kernel has no such address family or socket option.
    #[error("this kernel cannot {action} ({local})")]
    Unsupported {
        /// The address and port.
        local: SocketAddr,
        /// What was tried.
        action: &'static str,
    },
    /// The local address and the peer are of different families.
    #[error("{local} cannot be connected to {peer}: the address families differ")]
    FamilyMismatch {
        /// The local address and port.
        local: SocketAddr,
        /// The peer.
        peer: SocketAddr,
    },
    /// Anything else.
    #[error("cannot {action} on {local}: {source}")]
    Failed {
        /// The address and port.
        local: SocketAddr,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// A datagram that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its length; the buffer's if it was longer, see `truncated`.
    pub len: usize,
    /// The datagram was longer than the buffer.
    pub truncated: bool,
    /// Who sent it.
    pub remote: SocketAddr,
    /// The local address it was sent to (from pktinfo), with the socket's port.
    pub local: SocketAddr,
    /// The interface it arrived on; 0 if the kernel did not say.
    pub ifindex: u32,
}

/// An open socket. Non-blocking.
pub trait IkeSocket {
    /// The address and port it is bound to.
    fn local(&self) -> SocketAddr;

    /// Sends one datagram. `from` chooses the source address where the socket is bound to the unspecified one.
    ///
    /// # Errors
    /// As `sendmsg(2)`: `WouldBlock`, `EMSGSIZE`, `ENETUNREACH`, `EPERM` (a policy or the firewall forbids it), …
    fn send(&self, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()>;

    /// Receives one datagram.
    ///
    /// # Errors
    /// As `recvmsg(2)`; `WouldBlock` when there is none.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received>;
}

/// Opening sockets.
pub trait IkeSockets {
    /// What is opened.
    type Socket: IkeSocket;

    /// Opens a socket.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn open(&mut self, spec: &IkeSocketSpec) -> Result<Self::Socket, OpenError>;
}

/// Why an address is not listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unsuitable {
    /// The device is one of ours, or one that carries IPsec's clear traffic.
    #[error("the device carries tunnelled traffic")]
    TunnelDevice,
    /// The device is down.
    #[error("the device is down")]
    Down,
    /// Loopback addresses reach nobody.
    #[error("a loopback address")]
    Loopback,
    /// Link-local addresses are of no use to a peer elsewhere.
    #[error("a link-local address")]
    LinkLocal,
    /// Duplicate address detection is running or has failed.
    #[error("duplicate address detection is not passed")]
    NotYetValid,
    /// We put the address there, for inner traffic.
    #[error("an inner address")]
    Inner,
}

/// Whether IKE may be spoken from an address of a device.
///
/// # Errors
/// Why not.
pub fn suitable(address: &InterfaceAddr, link: &Link) -> Result<(), Unsuitable> {
    if link.is_ours() || matches!(link.kind, LinkKind::Xfrm { .. } | LinkKind::Vti { .. }) {
        return Err(Unsuitable::TunnelDevice);
    }
    // Names are ours even before the alias is set (S0.1), and those of a TUN that somebody else's tool made for us.
    if is_ipsec_name(&link.name) {
        return Err(Unsuitable::TunnelDevice);
    }
    if address.is_ours() {
        return Err(Unsuitable::Inner);
    }
    if address.address.addr().is_loopback() {
        return Err(Unsuitable::Loopback);
    }
    if address.scope == Scope::LINK {
        return Err(Unsuitable::LinkLocal);
    }
    if !link.up {
        return Err(Unsuitable::Down);
    }
    if !address.is_usable() {
        return Err(Unsuitable::NotYetValid);
    }
    Ok(())
}

/// `ipsec` followed by a decimal number (S0.1).
fn is_ipsec_name(name: &str) -> bool {
    name.strip_prefix("ipsec")
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The addresses to listen on, in the kernel's order and each once. `wanted` (`listen=`) restricts them; empty means all.
#[must_use]
pub fn listen_addresses(
    addresses: &[InterfaceAddr],
    links: &[Link],
    wanted: &[IpAddr],
) -> Vec<IpAddr> {
    let mut out = Vec::new();
    for address in addresses {
        let ip = address.address.addr();
        let Some(link) = links.iter().find(|l| l.index == address.ifindex) else {
            continue;
        };
        let verdict = match suitable(address, link) {
            // An explicitly wanted loopback address is the user's business.
            Err(Unsuitable::Loopback) if wanted.contains(&ip) => Ok(()),
            other => other,
        };
        if verdict.is_ok() && (wanted.is_empty() || wanted.contains(&ip)) && !out.contains(&ip) {
            out.push(ip);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: LinkKind) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind,
            up: true,
            carrier: true,
            loopback: name == "lo",
            mtu: 1500,
            alias: None,
        }
    }

    fn address(ifindex: u32, text: &str, scope: Scope) -> InterfaceAddr {
        InterfaceAddr {
            ifindex,
            address: text.parse().unwrap(),
            peer: None,
            scope,
            tentative: false,
            duplicate: false,
            deprecated: false,
            secondary: false,
            protocol: 0,
        }
    }

    #[test]
    fn ike_is_never_spoken_over_a_device_that_carries_clear_traffic() {
        let mut ours = link(5, "tun9", LinkKind::Tun);
        ours.alias = Some(crate::OWNER_ALIAS.to_owned());
        let links = [
            link(1, "lo", LinkKind::Plain),
            link(2, "eth0", LinkKind::Plain),
            link(3, "ipsec1", LinkKind::Tun),
            link(4, "xfrm0", LinkKind::Xfrm { if_id: 4 }),
            ours,
            link(6, "ipsecurity", LinkKind::Other("veth".into())),
        ];
        let addresses = [
            address(1, "127.0.0.1/8", Scope::HOST),
            address(2, "192.0.2.1/24", Scope::GLOBAL),
            address(2, "fe80::1/64", Scope::LINK),
            address(3, "10.0.0.1/32", Scope::GLOBAL),
            address(4, "10.0.0.2/32", Scope::GLOBAL),
            address(5, "10.0.0.3/32", Scope::GLOBAL),
            address(6, "198.51.100.1/24", Scope::GLOBAL),
        ];
        let all = listen_addresses(&addresses, &links, &[]);
        assert_eq!(
            all,
            [
                "192.0.2.1".parse::<IpAddr>().unwrap(),
                "198.51.100.1".parse().unwrap()
            ]
        );
        let lo = "127.0.0.1".parse().unwrap();
        assert_eq!(listen_addresses(&addresses, &links, &[lo]), [lo]);
        let inner = "10.0.0.3".parse().unwrap();
        assert!(listen_addresses(&addresses, &links, &[inner]).is_empty());
    }
}
