//! The Linux implementations: rtnetlink, sockets, nfnetlink, ethtool.

mod addresses;
mod ethtool;
mod events;
mod ike_socket;
mod links;
mod nftables;
mod routes;
mod rules;
mod sockopt;
mod statistics;

pub use ethtool::Ethtool;
pub use events::{AddrMonitor, RouteMonitor};
pub use ike_socket::{UdpSocket, UdpSockets};
pub use nftables::{Nftables, TABLE as NFT_TABLE};
pub use sockopt::{exempt_from_policies, set_mark};
pub use statistics::xfrm_statistics;

use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::{RequestError, RequestSocket};

/// The kernel's network configuration through rtnetlink: links, addresses, routes, rules.
///
/// Works in the network namespace that the opening thread was in. Device settings (`/proc/sys/net`) are those of the
/// *calling* thread's namespace.
#[derive(Debug)]
pub struct Rtnetlink {
    pub(crate) socket: RequestSocket,
}

impl Rtnetlink {
    /// Opens the socket; needs no privilege, changes do.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn open() -> Result<Self, RequestError> {
        Ok(Self {
            socket: RequestSocket::open(netlink_sys::protocols::NETLINK_ROUTE)?,
        })
    }

    pub(crate) fn ask(
        &mut self,
        operation: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, RequestError> {
        self.socket.request(operation, message, flags)
    }

    pub(crate) fn dump(
        &mut self,
        operation: &str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, RequestError> {
        self.socket.dump(operation, message)
    }
}

pub(crate) fn family_of(ipv6: bool) -> AddressFamily {
    if ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}
