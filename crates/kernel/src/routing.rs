//! Routes into the tunnel devices of the user-space data plane.
//!
//! Recipe B of the reference (S1.11), in a table of our own: a rule `not fwmark MARK lookup TABLE` before `main`, and in the table
//! one route per remote network into the device. The table `main` is not touched, no route has to be split in two halves,
//! and the packets of the IKE and ESP sockets escape because they carry the mark (`SO_MARK`), also where the peer's
//! address lies inside the remote network (S1.9, S1.15). Packets that find no route in the table go on to the next rule.
//!
//! The route names a preferred source (S3.8's address or any local one inside the local network), because the device
//! usually has no address and the kernel would take an outer one, which no selector allows.
//!
//! Everything is counted, carries [`crate::OWNER_PROTOCOL`], and is found again by it after a crash.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cygnet_ipsec::Mark;
use ipnet::IpNet;

use crate::interface_addr::{InterfaceAddr, InterfaceAddrs, source_within};
use crate::links::{Links, Setting};
use crate::netlink::RequestError;
use crate::routes::{Route, Routing, Rule};

/// The mark of our own sockets' packets, unless configured otherwise.
pub const ESCAPE_MARK: Mark = Mark {
    value: 0x1000_0000,
    mask: 0x1000_0000,
};

/// Where routes go (`routing-table=`, `rule-priority=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutingOptions {
    /// Number of our table.
    pub table: u32,
    /// Priority of our rules; must be before `main` (32766) and after `local` (0).
    pub priority: u32,
    /// The mark that escapes.
    pub escape: Mark,
}

impl Default for RoutingOptions {
    fn default() -> Self {
        Self {
            table: 4500,
            priority: 4500,
            escape: ESCAPE_MARK,
        }
    }
}

/// A route that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelRoute {
    /// The remote network.
    pub remote: IpNet,
    /// The device's index; it must be up.
    pub ifindex: u32,
    /// The local networks of the same family; the first that contains an address of ours gives the preferred source.
    pub local: Vec<IpNet>,
    /// A source to use instead (`sourceip=`). It must be an address of this host.
    pub source: Option<IpAddr>,
    /// Path MTU in octets.
    pub mtu: Option<u32>,
}

/// Why a route could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The same network is routed to another device already (by another connection of ours).
    #[error("{remote} is already routed to device #{ifindex}")]
    Conflict {
        /// The network.
        remote: IpNet,
        /// The other device.
        ifindex: u32,
    },
    /// The kernel refused.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// What a crash had left and [`remove_leftovers`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Routes.
    pub routes: Vec<Route>,
    /// Rules.
    pub rules: Vec<Rule>,
}

#[derive(Debug)]
struct Entry {
    wanted: TunnelRoute,
    route: Route,
    users: usize,
}

/// The routes in use, counted.
#[derive(Debug)]
pub struct TunnelRouting {
    options: RoutingOptions,
    routes: BTreeMap<IpNet, Entry>,
    rule_v4: bool,
    rule_v6: bool,
}

impl TunnelRouting {
    /// Nothing routed.
    #[must_use]
    pub fn new(options: RoutingOptions) -> Self {
        Self {
            options,
            routes: BTreeMap::new(),
            rule_v4: false,
            rule_v6: false,
        }
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &RoutingOptions {
        &self.options
    }

    /// Routes a network into a device, or counts one more user of the route. Answers the preferred source.
    ///
    /// Of users that want different sources or MTUs the latest decides: it is the same connection, configured anew or
    /// with another inner address, whose earlier use has not gone yet.
    ///
    /// The route comes before the rule, so that no packet passes the new table while it is empty.
    ///
    /// # Errors
    /// [`RoutingError`]; nothing is counted then.
    pub fn add(
        &mut self,
        kernel: &mut (impl Routing + InterfaceAddrs),
        wanted: &TunnelRoute,
    ) -> Result<Option<IpAddr>, RoutingError> {
        let remote = wanted.remote.trunc();
        if let Some(entry) = self.routes.get(&remote)
            && entry.route.ifindex != Some(wanted.ifindex)
        {
            return Err(RoutingError::Conflict {
                remote,
                ifindex: entry.route.ifindex.unwrap_or(0),
            });
        }
        if let Some(entry) = self.routes.get_mut(&remote)
            && entry.wanted == *wanted
        {
            entry.users += 1;
            return Ok(entry.route.preferred_source);
        }
        let route = self.route(wanted, &kernel.addresses()?);
        // Replacing takes over what an earlier run left; nobody else uses our table.
        kernel.replace_route(&route)?;
        if let Err(error) = self.ensure_rule(kernel, remote.addr().is_ipv6()) {
            let _ = kernel.delete_route(&route);
            return Err(error.into());
        }
        let source = route.preferred_source;
        let users = self.routes.get(&remote).map_or(0, |entry| entry.users) + 1;
        let entry = Entry {
            wanted: wanted.clone(),
            route,
            users,
        };
        self.routes.insert(remote, entry);
        Ok(source)
    }

    /// Counts one user less; the last one removes the route, and with the family's last route goes the rule. Answers
    /// whether the route was removed.
    ///
    /// # Errors
    /// When the kernel refuses; a route that went with its device is no error.
    pub fn remove(
        &mut self,
        kernel: &mut impl Routing,
        remote: IpNet,
    ) -> Result<bool, RoutingError> {
        let remote = remote.trunc();
        let Some(entry) = self.routes.get_mut(&remote) else {
            return Ok(false);
        };
        if entry.users > 1 {
            entry.users -= 1;
            return Ok(false);
        }
        let route = entry.route.clone();
        self.routes.remove(&remote);
        let removed = gone(kernel.delete_route(&route));
        let ipv6 = remote.addr().is_ipv6();
        let ruled = if self.routes.keys().any(|r| r.addr().is_ipv6() == ipv6) {
            Ok(())
        } else {
            self.drop_rule(kernel, ipv6)
        };
        removed?;
        ruled?;
        Ok(true)
    }

    /// Puts everything back as it should be: after the device came back, after addresses changed (preferred sources are
    /// chosen anew), after someone flushed rules.
    ///
    /// # Errors
    /// The first refusal; the rest is tried all the same.
    pub fn restore(
        &mut self,
        kernel: &mut (impl Routing + InterfaceAddrs),
    ) -> Result<(), RoutingError> {
        let addresses = kernel.addresses()?;
        let wanted: Vec<(IpNet, Route)> = self
            .routes
            .iter()
            .map(|(remote, entry)| (*remote, self.route(&entry.wanted, &addresses)))
            .collect();
        let mut result = Ok(());
        for (remote, route) in wanted {
            result = result.and(kernel.replace_route(&route));
            if let Some(entry) = self.routes.get_mut(&remote) {
                entry.route = route;
            }
        }
        for (used, ipv6) in [(self.rule_v4, false), (self.rule_v6, true)] {
            if used {
                result = result.and(exists(kernel.add_rule(&self.rule(ipv6))));
            }
        }
        result.map_err(Into::into)
    }

    /// Removes all routes and rules that are in use, at stop.
    ///
    /// # Errors
    /// The first refusal; the rest is removed all the same.
    pub fn stop(&mut self, kernel: &mut impl Routing) -> Result<(), RoutingError> {
        let mut result = Ok(());
        for entry in std::mem::take(&mut self.routes).into_values() {
            result = result.and(gone(kernel.delete_route(&entry.route)));
        }
        for ipv6 in [false, true] {
            let dropped = self.drop_rule(kernel, ipv6);
            result = result.and(dropped);
        }
        result.map_err(Into::into)
    }

    /// Whether a route is one of those in use.
    #[must_use]
    pub fn uses_route(&self, route: &Route) -> bool {
        let wanted = self.routes.get(&route.destination);
        wanted.is_some_and(|entry| entry.route.table == route.table)
    }

    /// Whether a rule is one of those in use.
    #[must_use]
    pub fn uses_rule(&self, rule: &Rule) -> bool {
        let used = if rule.ipv6 {
            self.rule_v6
        } else {
            self.rule_v4
        };
        used && *rule == self.rule(rule.ipv6)
    }

    /// The rule of a family.
    #[must_use]
    pub fn rule(&self, ipv6: bool) -> Rule {
        Rule {
            ipv6,
            priority: self.options.priority,
            mark: Some(self.options.escape.normalized()),
            invert: true,
            source: None,
            destination: None,
            table: self.options.table,
            protocol: crate::OWNER_PROTOCOL,
        }
    }

    /// The routes in use with the number of their users.
    pub fn iter(&self) -> impl Iterator<Item = (&Route, usize)> {
        self.routes.values().map(|e| (&e.route, e.users))
    }

    fn route(&self, wanted: &TunnelRoute, addresses: &[InterfaceAddr]) -> Route {
        let mut route = Route::to_device(wanted.remote.trunc(), wanted.ifindex, self.options.table);
        route.mtu = wanted.mtu;
        route.preferred_source = wanted.source.or_else(|| {
            wanted
                .local
                .iter()
                .find_map(|local| source_within(addresses, local))
        });
        route
    }

    fn ensure_rule(&mut self, kernel: &mut impl Routing, ipv6: bool) -> Result<(), RequestError> {
        let rule = self.rule(ipv6);
        let used = if ipv6 {
            &mut self.rule_v6
        } else {
            &mut self.rule_v4
        };
        if !*used {
            exists(kernel.add_rule(&rule))?;
            *used = true;
        }
        Ok(())
    }

    fn drop_rule(&mut self, kernel: &mut impl Routing, ipv6: bool) -> Result<(), RequestError> {
        let rule = self.rule(ipv6);
        let used = if ipv6 {
            &mut self.rule_v6
        } else {
            &mut self.rule_v4
        };
        if std::mem::take(used) {
            gone(kernel.delete_rule(&rule))?;
        }
        Ok(())
    }
}

/// Removes every route and rule with our protocol number that is not in use: what a crash has left, also in tables of an
/// earlier configuration.
///
/// # Errors
/// The first refusal.
pub fn remove_leftovers(
    kernel: &mut impl Routing,
    uses_route: impl Fn(&Route) -> bool,
    uses_rule: impl Fn(&Rule) -> bool,
) -> Result<Leftovers, RequestError> {
    let mut left = Leftovers {
        routes: kernel.owned_routes()?,
        rules: kernel.owned_rules()?,
    };
    left.routes.retain(|route| !uses_route(route));
    left.rules.retain(|rule| !uses_rule(rule));
    // Rules first: a table that nobody looks into can be emptied at leisure.
    for rule in &left.rules {
        gone(kernel.delete_rule(rule))?;
    }
    for route in &left.routes {
        gone(kernel.delete_route(route))?;
    }
    Ok(left)
}

/// Whether the kernel drops packets that arrive on a device although the way back to their source leads elsewhere
/// (`rp_filter=1`, RFC 3704 strict mode).
///
/// Where a peer's address lies inside a remote network, the way back to it leads into the tunnel for packets without the
/// escape mark, and that is how the kernel looks it up: IKE and ESP from this peer would be dropped on arrival. Loose mode
/// (2) and off (0) are fine. Worth a warning that names the device.
///
/// # Errors
/// When the device is not there.
pub fn strict_reverse_path(links: &mut impl Links, device: &str) -> Result<bool, RequestError> {
    let all = links.setting("all", Setting::RpFilter)?;
    let own = links.setting(device, Setting::RpFilter)?;
    Ok(all.max(own) == 1)
}

/// For removals: what is not there is removed.
pub(crate) fn gone(result: Result<(), RequestError>) -> Result<(), RequestError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// For additions: what is there is added.
pub(crate) fn exists(result: Result<(), RequestError>) -> Result<(), RequestError> {
    match result {
        Err(error) if error.is_exists() => Ok(()),
        other => other,
    }
}
