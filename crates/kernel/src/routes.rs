//! Routes and routing rules: the values, and the operations on the kernel's tables.
//!
//! Everything that we add carries [`crate::OWNER_PROTOCOL`] as its protocol number; `ip route show proto 67 table all`
//! and `ip rule show proto 67` list it, and so do [`Routing::owned_routes`] and [`Routing::owned_rules`] after a crash.

use std::net::IpAddr;

use cygnet_ipsec::Mark;
use ipnet::IpNet;

use crate::netlink::RequestError;

/// The table `main`.
pub const TABLE_MAIN: u32 = 254;

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKind {
    /// Sends it to a device or gateway.
    Unicast,
    /// Delivers it locally.
    Local,
    /// Drops it silently.
    Blackhole,
    /// Drops it with an ICMP host-unreachable error.
    Unreachable,
    /// Drops it with an ICMP administratively-prohibited error.
    Prohibit,
    /// Another one, by the kernel's number (`RTN_*`).
    Other(u8),
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// The table; [`TABLE_MAIN`] for the ordinary one.
    pub table: u32,
    /// The device's index, if it has one (and only one).
    pub ifindex: Option<u32>,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// The source that the kernel proposes to sockets that did not choose one.
    pub preferred_source: Option<IpAddr>,
    /// The metric; 0 means the kernel's default (0 for IPv4, 1024 for IPv6).
    pub metric: u32,
    /// The path MTU in octets, if set.
    pub mtu: Option<u32>,
    /// What it does.
    pub kind: RouteKind,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
}

impl Route {
    /// A route of ours to a device, in a table.
    #[must_use]
    pub fn to_device(destination: IpNet, ifindex: u32, table: u32) -> Self {
        Self {
            destination,
            table,
            ifindex: Some(ifindex),
            gateway: None,
            preferred_source: None,
            metric: 0,
            mtu: None,
            kind: RouteKind::Unicast,
            protocol: crate::OWNER_PROTOCOL,
        }
    }

    /// Whether we made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.protocol == crate::OWNER_PROTOCOL
    }
}

impl std::fmt::Display for Route {
    /// In the words of `ip route`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(ifindex) = self.ifindex {
            write!(f, " dev #{ifindex}")?;
        }
        if let Some(source) = self.preferred_source {
            write!(f, " src {source}")?;
        }
        write!(f, " table {}", self.table)
    }
}

/// A routing rule: packets that match use a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Whether it is an IPv6 rule.
    pub ipv6: bool,
    /// Place in the order; lower is earlier, `main` is at 32766.
    pub priority: u32,
    /// The mark that a packet must have, or with `invert` must not have.
    pub mark: Option<Mark>,
    /// `not`: matches what does *not* fulfil all the other conditions together.
    pub invert: bool,
    /// Source prefix.
    pub source: Option<IpNet>,
    /// Destination prefix.
    pub destination: Option<IpNet>,
    /// The table to use.
    pub table: u32,
    /// Who made it.
    pub protocol: u8,
}

impl std::fmt::Display for Rule {
    /// In the words of `ip rule`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} priority {}",
            if self.ipv6 { "-6" } else { "-4" },
            self.priority
        )?;
        if self.invert {
            write!(f, " not")?;
        }
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        if let Some(destination) = self.destination {
            write!(f, " to {destination}")?;
        }
        if let Some(mark) = self.mark {
            write!(f, " fwmark {:#x}/{:#x}", mark.value, mark.mask)?;
        }
        write!(f, " lookup {}", self.table)
    }
}

/// Operations on routes and rules.
pub trait Routing {
    /// Adds a route.
    ///
    /// # Errors
    /// [`RequestError::Exists`] if the table has one of the same destination and metric.
    fn add_route(&mut self, route: &Route) -> Result<(), RequestError>;

    /// Adds a route or replaces the one of the same destination and metric in its table.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn replace_route(&mut self, route: &Route) -> Result<(), RequestError>;

    /// Removes a route; destination, table, device, metric, kind and protocol must fit.
    ///
    /// # Errors
    /// [`RequestError::NotFound`] if there is none.
    fn delete_route(&mut self, route: &Route) -> Result<(), RequestError>;

    /// Every route of ours, in all tables and both families.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn owned_routes(&mut self) -> Result<Vec<Route>, RequestError>;

    /// Every route of a table and family, whoever made it.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn routes_of(&mut self, table: u32, ipv6: bool) -> Result<Vec<Route>, RequestError>;

    /// Adds a rule.
    ///
    /// # Errors
    /// [`RequestError::Exists`] if there is an equal one.
    fn add_rule(&mut self, rule: &Rule) -> Result<(), RequestError>;

    /// Removes a rule.
    ///
    /// # Errors
    /// [`RequestError::NotFound`] if there is none.
    fn delete_rule(&mut self, rule: &Rule) -> Result<(), RequestError>;

    /// Every rule of ours, of both families.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn owned_rules(&mut self) -> Result<Vec<Rule>, RequestError>;
}
