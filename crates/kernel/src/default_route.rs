//! S3.2: address selection for `left=%defaultroute`: the kernel is asked which route it would take.
//!
//! The kernel's own lookup (`RTM_GETROUTE`) is used, never a reading of the tables: rules, marks, preferred sources and
//! next-hop objects all have their effect, and nobody has to imitate them. Only when there is no peer address to ask
//! for are the default routes listed.

use std::net::IpAddr;

use crate::netlink::RequestError;

/// A question to the kernel's routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteQuery {
    /// Where the packet would go.
    pub destination: IpAddr,
    /// The source it would have; `None` lets the kernel choose.
    pub source: Option<IpAddr>,
    /// The mark it would carry (our sockets' `SO_MARK`); 0 for none.
    pub mark: u32,
    /// The device it would be bound to.
    pub ifindex: Option<u32>,
}

impl RouteQuery {
    /// An unmarked packet to a destination.
    #[must_use]
    pub fn to(destination: IpAddr) -> Self {
        Self {
            destination,
            source: None,
            mark: 0,
            ifindex: None,
        }
    }

    /// The same question for packets that carry a mark.
    #[must_use]
    pub fn marked(mut self, mark: u32) -> Self {
        self.mark = mark;
        self
    }
}

/// The kernel's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteAnswer {
    /// The source address that the kernel would use.
    pub source: Option<IpAddr>,
    /// The next hop; `None` if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the device.
    pub ifindex: u32,
    /// The table that answered.
    pub table: u32,
    /// The path MTU, where the route has one.
    pub mtu: Option<u32>,
    /// The destination is one of this host's own addresses.
    pub local: bool,
}

/// Why there is no route.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// `ENETUNREACH`, `EHOSTUNREACH` or an unreachable route.
    #[error("no route to {destination}")]
    NoRoute {
        /// Where to.
        destination: IpAddr,
    },
    /// There is no default route of the family at the moment; [`crate::RouteEvents`] tell when one appears (S3.9).
    #[error("no {} default route", if *.ipv6 { "ipv6" } else { "ipv4" })]
    NoDefaultRoute {
        /// Of which family.
        ipv6: bool,
    },
    /// A blackhole or prohibit route.
    #[error("the route to {destination} forbids it")]
    Forbidden {
        /// Where to.
        destination: IpAddr,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Asking the kernel for routes.
pub trait RouteLookup {
    /// The route that a packet would take.
    ///
    /// # Errors
    /// [`LookupError::NoRoute`] and [`LookupError::Forbidden`] are the kernel's answer; others mean that it was not asked.
    fn route_to(&mut self, query: &RouteQuery) -> Result<RouteAnswer, LookupError>;

    /// The default route of the family with the lowest metric, and the source address that goes with it.
    ///
    /// For connections whose peer is not known (`right=%any`); with a known peer use [`RouteLookup::route_to`].
    ///
    /// # Errors
    /// [`LookupError::NoDefaultRoute`] if there is none.
    fn default_route(&mut self, ipv6: bool) -> Result<RouteAnswer, LookupError>;
}
