//! Routes into xfrm interfaces, and the way past them for the packets to the peer: recipe C of the reference (S1.12).
//!
//! The table `main` has a route to each remote network by the device, where everybody looks. If the peer's own address lies
//! inside such a network (S1.9), the ESP and IKE packets to it would come back into the device: they carry marks, the
//! SA's set-mark and that of our sockets, for which a rule before `main` looks into a table of ours, and there the peer is
//! reached as it would be without the tunnel. That route is followed when the routes of `main` change (S3.9).
//!
//! A default route into the tunnel is split in two halves: the real default route stays, and is the way to the peer.
//!
//! Everything is counted, carries [`crate::OWNER_PROTOCOL`], and is found again by it after a crash.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cygnet_ipsec::Mark;
use ipnet::IpNet;

use crate::default_route::{LookupError, RouteLookup, RouteQuery};
use crate::interface_addr::{InterfaceAddr, InterfaceAddrs, source_within};
use crate::netlink::RequestError;
use crate::routes::{Route, RouteKind, Routing, Rule, TABLE_MAIN};
use crate::routing::{ESCAPE_MARK, RoutingError, exists, gone};

/// Where the way past the tunnel is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EscapeOptions {
    /// Number of the table with the peers' routes.
    pub table: u32,
    /// Priority of the rules; must be before `main` (32766) and after `local` (0).
    pub priority: u32,
    /// The mark of our sockets' packets.
    pub sockets: Mark,
}

impl Default for EscapeOptions {
    /// libreswan's numbers.
    fn default() -> Self {
        Self {
            table: 50,
            priority: 100,
            sockets: ESCAPE_MARK,
        }
    }
}

/// Routes that are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceRoute {
    /// The remote network.
    pub remote: IpNet,
    /// The device's index; it must be up.
    pub ifindex: u32,
    /// The local networks of the same family; the first that contains an address of ours gives the preferred source.
    pub local: Vec<IpNet>,
    /// A source to use instead (`sourceip=`, `interface-ip=`). It must be an address of this host.
    pub source: Option<IpAddr>,
    /// Path MTU in octets.
    pub mtu: Option<u32>,
    /// The metric; 0: the kernel's default.
    pub metric: u32,
    /// Where the ESP packets go.
    pub peer: IpAddr,
    /// The mark that they carry.
    pub mark: Option<Mark>,
}

impl InterfaceRoute {
    /// What stands in `main`: the network, or its halves.
    fn destinations(&self) -> Vec<IpNet> {
        let remote = self.remote.trunc();
        match (remote.prefix_len(), remote) {
            (0, IpNet::V4(all)) => all
                .subnets(1)
                .map_or_else(|_| vec![remote], |halves| halves.map(IpNet::V4).collect()),
            (0, IpNet::V6(all)) => all
                .subnets(1)
                .map_or_else(|_| vec![remote], |halves| halves.map(IpNet::V6).collect()),
            _ => vec![remote],
        }
    }

    fn catches_peer(&self) -> bool {
        self.remote.contains(&self.peer)
    }

    fn route(&self, destination: IpNet, addresses: &[InterfaceAddr]) -> Route {
        let mut route = Route::to_device(destination, self.ifindex, TABLE_MAIN);
        route.mtu = self.mtu;
        route.metric = self.metric;
        route.preferred_source = self.source.or_else(|| {
            let within = |local| source_within(addresses, local);
            self.local.iter().find_map(within)
        });
        route
    }
}

#[derive(Debug)]
struct Entry {
    wanted: InterfaceRoute,
    route: Route,
    users: usize,
}

/// The way to a peer past the tunnels.
#[derive(Debug, Default)]
struct Escape {
    /// The route in our table; `None` while there is no way at all.
    path: Option<Route>,
    /// The marks that take it, by value and mask, with the number of their users.
    marks: BTreeMap<(u32, u32), usize>,
}

/// The routes in use, counted.
#[derive(Debug)]
pub struct InterfaceRouting {
    options: EscapeOptions,
    /// By destination and metric.
    routes: BTreeMap<(IpNet, u32), Entry>,
    escapes: BTreeMap<IpAddr, Escape>,
}

impl InterfaceRouting {
    /// Nothing routed.
    #[must_use]
    pub fn new(options: EscapeOptions) -> Self {
        Self {
            options,
            routes: BTreeMap::new(),
            escapes: BTreeMap::new(),
        }
    }

    /// Routes a network into a device, or counts one more user of the routes. The peer's way out comes first.
    ///
    /// # Errors
    /// [`RoutingError`]; nothing is counted then.
    pub fn add(
        &mut self,
        kernel: &mut (impl Routing + InterfaceAddrs + RouteLookup),
        wanted: &InterfaceRoute,
    ) -> Result<(), RoutingError> {
        let destinations = wanted.destinations();
        for destination in &destinations {
            if let Some(entry) = self.routes.get(&(*destination, wanted.metric))
                && entry.wanted.ifindex != wanted.ifindex
            {
                return Err(RoutingError::Conflict {
                    remote: *destination,
                    ifindex: entry.wanted.ifindex,
                });
            }
        }
        if wanted.catches_peer() {
            self.let_out(kernel, wanted)?;
        }
        let mut done = Vec::new();
        let result = kernel.addresses().and_then(|addresses| {
            for &destination in &destinations {
                let route = wanted.route(destination, &addresses);
                let entry = self.routes.get_mut(&(destination, wanted.metric));
                match entry {
                    Some(entry) if entry.route == route => entry.users += 1,
                    other => {
                        let users = other.map_or(0, |e| e.users) + 1;
                        kernel.replace_route(&route)?;
                        let wanted = wanted.clone();
                        let entry = Entry {
                            wanted,
                            route,
                            users,
                        };
                        self.routes
                            .insert((destination, entry.wanted.metric), entry);
                    }
                }
                done.push(destination);
            }
            Ok(())
        });
        if let Err(error) = result {
            for destination in done {
                let _ = self.drop_route(kernel, destination, wanted.metric);
            }
            let _ = self.keep_in(kernel, wanted);
            return Err(error.into());
        }
        Ok(())
    }

    /// Counts one user less of what [`Self::add`] was given; the last one takes it away.
    ///
    /// # Errors
    /// The first refusal of the kernel; the rest is removed all the same. A route that went with its device is no error.
    pub fn remove(
        &mut self,
        kernel: &mut impl Routing,
        wanted: &InterfaceRoute,
    ) -> Result<(), RoutingError> {
        let mut result = Ok(());
        for destination in wanted.destinations() {
            let dropped = self.drop_route(kernel, destination, wanted.metric);
            result = result.and(dropped);
        }
        let kept = self.keep_in(kernel, wanted);
        result.and(kept).map_err(Into::into)
    }

    /// Looks for the ways to the peers anew: the routes of `main` have changed.
    ///
    /// # Errors
    /// The first refusal; the rest is tried all the same.
    pub fn follow(&mut self, kernel: &mut impl Routing) -> Result<(), RoutingError> {
        let mut result = Ok(());
        for (&peer, escape) in &mut self.escapes {
            // Without any way the last one is as good as none, and may come back.
            let path = path_of(kernel, self.options.table, peer)?;
            if path.is_some() && path != escape.path {
                result = result.and(path.iter().try_for_each(|path| kernel.replace_route(path)));
                escape.path = path;
            }
        }
        result.map_err(Into::into)
    }

    /// Puts everything back as it should be: routes that went with an address or a device, rules that someone flushed.
    ///
    /// # Errors
    /// The first refusal; the rest is tried all the same.
    pub fn restore(
        &mut self,
        kernel: &mut (impl Routing + InterfaceAddrs),
    ) -> Result<(), RoutingError> {
        self.follow(kernel)?;
        let mut result = Ok(());
        for (&peer, escape) in &self.escapes {
            if let Some(path) = &escape.path {
                result = result.and(kernel.replace_route(path));
            }
            for mark in escape.marks.keys() {
                let added = kernel.add_rule(&rule(&self.options, peer, *mark));
                result = result.and(exists(added));
            }
        }
        let addresses = kernel.addresses()?;
        for ((destination, _), entry) in &mut self.routes {
            entry.route = entry.wanted.route(*destination, &addresses);
            result = result.and(kernel.replace_route(&entry.route));
        }
        result.map_err(Into::into)
    }

    /// Whether a route is one of those in use.
    #[must_use]
    pub fn uses_route(&self, route: &Route) -> bool {
        if route.table == TABLE_MAIN {
            // Where none is asked for, IPv6 has a metric of its own.
            return self.routes.values().any(|entry| {
                let metric = entry.route.metric;
                entry.route.destination == route.destination
                    && entry.route.ifindex == route.ifindex
                    && (metric == 0 || metric == route.metric)
            });
        }
        let escape = self.escapes.get(&route.destination.addr());
        let path = escape.and_then(|e| e.path.as_ref());
        path.is_some_and(|path| path.table == route.table && path.destination == route.destination)
    }

    /// Whether a rule is one of those in use.
    #[must_use]
    pub fn uses_rule(&self, wanted: &Rule) -> bool {
        self.escapes.iter().any(|(peer, escape)| {
            let mut rules = escape.marks.keys().map(|m| rule(&self.options, *peer, *m));
            rules.any(|rule| rule == *wanted)
        })
    }

    /// The marks of the packets to the peer: the SA's, and that of our sockets.
    fn marks(&self, wanted: &InterfaceRoute) -> impl Iterator<Item = (u32, u32)> + use<> {
        [Some(self.options.sockets), wanted.mark]
            .into_iter()
            .flatten()
            .map(|m| (m.value & m.mask, m.mask))
    }

    /// One more user of the way to the peer.
    fn let_out(
        &mut self,
        kernel: &mut (impl Routing + RouteLookup),
        wanted: &InterfaceRoute,
    ) -> Result<(), RoutingError> {
        let peer = wanted.peer;
        let options = self.options;
        let marks: Vec<_> = self.marks(wanted).collect();
        let escape = self.escapes.entry(peer).or_default();
        let mut made = || {
            if escape.path.is_none() {
                // Nothing leads it into the tunnel yet: the kernel's own answer is the best there is.
                let query = RouteQuery::to(peer).marked(options.sockets.value);
                let answer = match kernel.route_to(&query) {
                    Ok(answer) => Some(answer),
                    Err(LookupError::Request(error)) => return Err(error),
                    Err(_) => None,
                };
                if let Some(answer) = answer {
                    let mut path =
                        Route::to_device(IpNet::from(peer), answer.ifindex, options.table);
                    path.gateway = answer.gateway;
                    path.mtu = answer.mtu;
                    kernel.replace_route(&path)?;
                    escape.path = Some(path);
                }
            }
            for &mark in &marks {
                exists(kernel.add_rule(&rule(&options, peer, mark)))?;
            }
            Ok(())
        };
        let made = made();
        for mark in marks {
            *escape.marks.entry(mark).or_default() += 1;
        }
        if let Err(error) = made {
            let _ = self.keep_in(kernel, wanted);
            return Err(error.into());
        }
        Ok(())
    }

    /// One user less of the way to the peer.
    fn keep_in(
        &mut self,
        kernel: &mut impl Routing,
        wanted: &InterfaceRoute,
    ) -> Result<(), RequestError> {
        if !wanted.catches_peer() {
            return Ok(());
        }
        let marks: Vec<_> = self.marks(wanted).collect();
        let Some(escape) = self.escapes.get_mut(&wanted.peer) else {
            return Ok(());
        };
        let mut result = Ok(());
        for mark in marks {
            let Some(users) = escape.marks.get_mut(&mark) else {
                continue;
            };
            *users -= 1;
            if *users == 0 {
                escape.marks.remove(&mark);
                let rule = rule(&self.options, wanted.peer, mark);
                result = result.and(gone(kernel.delete_rule(&rule)));
            }
        }
        if escape.marks.is_empty() {
            let path = self.escapes.remove(&wanted.peer).and_then(|e| e.path);
            if let Some(path) = path {
                result = result.and(gone(kernel.delete_route(&path)));
            }
        }
        result
    }

    fn drop_route(
        &mut self,
        kernel: &mut impl Routing,
        destination: IpNet,
        metric: u32,
    ) -> Result<(), RequestError> {
        let Some(entry) = self.routes.get_mut(&(destination, metric)) else {
            return Ok(());
        };
        entry.users -= 1;
        if entry.users > 0 {
            return Ok(());
        }
        let route = entry.route.clone();
        self.routes.remove(&(destination, metric));
        gone(kernel.delete_route(&route))
    }
}

fn rule(options: &EscapeOptions, peer: IpAddr, (value, mask): (u32, u32)) -> Rule {
    Rule {
        ipv6: peer.is_ipv6(),
        priority: options.priority,
        mark: Some(Mark { value, mask }),
        invert: false,
        source: None,
        destination: Some(IpNet::from(peer)),
        table: options.table,
        protocol: crate::OWNER_PROTOCOL,
    }
}

/// How `main` reaches a peer but for our own routes: the longest prefix, of those the smallest metric. The kernel cannot be
/// asked, it would answer with the tunnel.
fn path_of(
    kernel: &mut impl Routing,
    table: u32,
    peer: IpAddr,
) -> Result<Option<Route>, RequestError> {
    let best = kernel
        .routes_of(TABLE_MAIN, peer.is_ipv6())?
        .into_iter()
        .filter(|r| !r.is_ours() && r.kind == RouteKind::Unicast && r.destination.contains(&peer))
        .min_by_key(|r| (std::cmp::Reverse(r.destination.prefix_len()), r.metric));
    let path = best.and_then(|route| {
        let mut path = Route::to_device(IpNet::from(peer), route.ifindex?, table);
        path.gateway = route.gateway;
        path.mtu = route.mtu;
        Some(path)
    });
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::LinkKind;
    use crate::memory::Network;
    use crate::{AddressControl, RouteEvents};

    /// A host with eth0, its default route, and ipsec1.
    fn host() -> (Network, u32, u32) {
        let mut kernel = Network::new();
        let eth = kernel.add_link("eth0", LinkKind::Plain);
        kernel.add_foreign_address(eth, "192.0.2.1/24".parse().unwrap());
        let ipsec = kernel.add_link("ipsec1", LinkKind::Xfrm { if_id: 1 });
        let mut default = Route::to_device("0.0.0.0/0".parse().unwrap(), eth, TABLE_MAIN);
        default.gateway = Some("192.0.2.254".parse().unwrap());
        default.protocol = 3;
        kernel.add_route(&default).unwrap();
        (kernel, eth, ipsec)
    }

    fn wanted(ifindex: u32, remote: &str) -> InterfaceRoute {
        InterfaceRoute {
            remote: remote.parse().unwrap(),
            ifindex,
            local: Vec::new(),
            source: None,
            mtu: None,
            metric: 0,
            peer: "198.51.100.9".parse().unwrap(),
            mark: Some(Mark::exact(1)),
        }
    }

    /// The device that a packet to an address leaves by.
    fn leaves_by(kernel: &mut Network, to: &str, mark: u32) -> u32 {
        let query = RouteQuery::to(to.parse().unwrap()).marked(mark);
        kernel.route_to(&query).unwrap().ifindex
    }

    fn rules(kernel: &mut Network) -> Vec<String> {
        let rules = kernel.owned_rules().unwrap();
        rules.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_network_without_the_peer_needs_a_route_only() {
        let (mut kernel, eth, ipsec) = host();
        let mut routing = InterfaceRouting::new(EscapeOptions::default());
        let wanted = wanted(ipsec, "10.2.0.0/16");
        routing.add(&mut kernel, &wanted).unwrap();
        assert_eq!(leaves_by(&mut kernel, "10.2.3.4", 0), ipsec);
        assert_eq!(leaves_by(&mut kernel, "198.51.100.9", 0), eth);
        assert!(rules(&mut kernel).is_empty());
        routing.remove(&mut kernel, &wanted).unwrap();
        assert!(kernel.owned_routes().unwrap().is_empty());
    }

    #[test]
    fn everything_goes_into_the_tunnel_but_what_carries_it() {
        let (mut kernel, eth, ipsec) = host();
        let mut routing = InterfaceRouting::new(EscapeOptions::default());
        let wanted = wanted(ipsec, "0.0.0.0/0");
        routing.add(&mut kernel, &wanted).unwrap();
        let list: Vec<String> = kernel
            .owned_routes()
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            list,
            [
                format!("198.51.100.9/32 via 192.0.2.254 dev #{eth} table 50"),
                format!("0.0.0.0/1 dev #{ipsec} table 254"),
                format!("128.0.0.0/1 dev #{ipsec} table 254"),
            ]
        );
        assert_eq!(
            rules(&mut kernel),
            [
                "-4 priority 100 to 198.51.100.9/32 fwmark 0x10000000/0x10000000 lookup 50",
                "-4 priority 100 to 198.51.100.9/32 fwmark 0x1/0xffffffff lookup 50",
            ]
        );
        assert_eq!(leaves_by(&mut kernel, "203.0.113.5", 0), ipsec);
        assert_eq!(
            leaves_by(&mut kernel, "198.51.100.9", 0),
            ipsec,
            "what has no mark"
        );
        assert_eq!(leaves_by(&mut kernel, "198.51.100.9", 1), eth, "ESP");
        assert_eq!(
            leaves_by(&mut kernel, "198.51.100.9", 0x1000_0000),
            eth,
            "IKE"
        );
        routing.remove(&mut kernel, &wanted).unwrap();
        assert!(kernel.owned_routes().unwrap().is_empty());
        assert!(rules(&mut kernel).is_empty());
    }

    #[test]
    fn two_tunnels_to_one_peer_share_its_way_out() {
        let (mut kernel, eth, ipsec) = host();
        let other = kernel.add_link("ipsec2", LinkKind::Xfrm { if_id: 2 });
        let mut routing = InterfaceRouting::new(EscapeOptions::default());
        let one = wanted(ipsec, "198.51.100.0/24");
        let two = InterfaceRoute {
            metric: 7,
            mark: Some(Mark::exact(2)),
            ..wanted(other, "198.51.100.0/24")
        };
        routing.add(&mut kernel, &one).unwrap();
        assert!(matches!(
            routing.add(
                &mut kernel,
                &InterfaceRoute {
                    metric: 0,
                    ..two.clone()
                }
            ),
            Err(RoutingError::Conflict { .. })
        ));
        routing.add(&mut kernel, &two).unwrap();
        assert_eq!(rules(&mut kernel).len(), 3);
        routing.remove(&mut kernel, &one).unwrap();
        assert_eq!(leaves_by(&mut kernel, "198.51.100.9", 2), eth);
        assert_eq!(leaves_by(&mut kernel, "198.51.100.9", 0), other);
        assert_eq!(rules(&mut kernel).len(), 2);
        routing.remove(&mut kernel, &two).unwrap();
        assert!(kernel.owned_routes().unwrap().is_empty() && rules(&mut kernel).is_empty());
    }

    #[test]
    fn the_way_to_the_peer_follows_the_default_route() {
        let (mut kernel, _, ipsec) = host();
        let mut routing = InterfaceRouting::new(EscapeOptions::default());
        let source = "10.1.0.1/24".parse().unwrap();
        kernel.add_address(ipsec, source).unwrap();
        let wanted = InterfaceRoute {
            source: Some(source.addr()),
            ..wanted(ipsec, "0.0.0.0/0")
        };
        routing.add(&mut kernel, &wanted).unwrap();
        let wlan = kernel.add_link("wlan0", LinkKind::Plain);
        let mut better = Route::to_device("198.51.100.0/24".parse().unwrap(), wlan, TABLE_MAIN);
        better.protocol = 4;
        kernel.add_route(&better).unwrap();
        // And the routes by the source address went with it.
        kernel.delete_address(ipsec, source).unwrap();
        assert_eq!(leaves_by(&mut kernel, "203.0.113.5", 0), 2);
        kernel.add_address(ipsec, source).unwrap();
        routing.restore(&mut kernel).unwrap();
        assert_eq!(leaves_by(&mut kernel, "198.51.100.9", 1), wlan);
        assert_eq!(leaves_by(&mut kernel, "203.0.113.5", 0), ipsec);
    }

    #[test]
    fn a_way_that_comes_later_is_found() {
        let mut kernel = Network::new();
        let ipsec = kernel.add_link("ipsec1", LinkKind::Xfrm { if_id: 1 });
        let mut monitor = kernel.route_monitor();
        let mut routing = InterfaceRouting::new(EscapeOptions::default());
        routing
            .add(&mut kernel, &wanted(ipsec, "0.0.0.0/0"))
            .unwrap();
        let eth = kernel.add_link("eth0", LinkKind::Plain);
        let mut default = Route::to_device("0.0.0.0/0".parse().unwrap(), eth, TABLE_MAIN);
        default.protocol = 3;
        kernel.add_route(&default).unwrap();
        assert!(monitor.next_event().unwrap().is_some());
        routing.follow(&mut kernel).unwrap();
        assert_eq!(leaves_by(&mut kernel, "198.51.100.9", 1), eth);
    }
}
