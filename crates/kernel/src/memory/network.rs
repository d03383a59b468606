//! A host's network configuration in memory: links, addresses, routes, rules, their events, and the route lookup.
//!
//! It keeps the rules that callers depend on: what exists cannot be added again, a device that goes takes its addresses and
//! routes along, a route's device must be up, its preferred source must be there, and the lookup walks rules by priority and takes the
//! longest prefix with the lowest metric. It is not a model of Linux beyond that.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use crate::addr_events::{AddrEvent, AddrEvents};
use crate::default_route::{LookupError, RouteAnswer, RouteLookup, RouteQuery};
use crate::fence::{FilterTable, PacketFilter};
use crate::inner_addr::AddressControl;
use crate::interface_addr::{InterfaceAddr, InterfaceAddrs, Scope, source_within};
use crate::links::{Link, LinkKind, Links, Setting};
use crate::netlink::RequestError;
use crate::offload::{EspOffload, OffloadProbe};
use crate::route_events::{RouteEvent, RouteEvents};
use crate::routes::{Route, RouteKind, Routing, Rule, TABLE_MAIN};

const MAIN_PRIORITY: u32 = 32766;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) links: BTreeMap<u32, Link>,
    pub(crate) addresses: Vec<InterfaceAddr>,
    routes: Vec<Route>,
    rules: Vec<Rule>,
    settings: BTreeMap<(String, Setting), i64>,
    offloads: BTreeMap<String, EspOffload>,
    filter: Option<FilterTable>,
    addr_monitors: Vec<Arc<Mutex<VecDeque<AddrEvent>>>>,
    route_monitors: Vec<Arc<Mutex<VecDeque<RouteEvent>>>>,
    last_index: u32,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked elsewhere does not make the values invalid.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn tell_addr(&self, event: &AddrEvent) {
        for monitor in &self.addr_monitors {
            lock(monitor).push_back(event.clone());
        }
    }

    fn tell_route(&self, event: &RouteEvent) {
        for monitor in &self.route_monitors {
            lock(monitor).push_back(event.clone());
        }
    }

    fn link_mut(&mut self, index: u32, operation: &str) -> Result<&mut Link, RequestError> {
        self.links
            .get_mut(&index)
            .ok_or_else(|| not_found(operation))
    }

    fn device_exists(&self, device: &str) -> bool {
        matches!(device, "all" | "default") || self.links.values().any(|l| l.name == device)
    }

    fn drop_routes(&mut self, gone: impl Fn(&Route) -> bool) {
        let (dropped, kept) = std::mem::take(&mut self.routes).into_iter().partition(gone);
        self.routes = kept;
        let dropped: Vec<Route> = dropped;
        for route in dropped {
            self.tell_route(&RouteEvent::Removed(route));
        }
    }

    fn check_route(&self, route: &Route, operation: &str) -> Result<(), RequestError> {
        if let Some(ifindex) = route.ifindex {
            let link = self
                .links
                .get(&ifindex)
                .ok_or_else(|| not_found(operation))?;
            if !link.up {
                return Err(refused(operation, libc::ENETDOWN));
            }
        }
        if let Some(source) = route.preferred_source
            && !self.addresses.iter().any(|a| a.address.addr() == source)
        {
            return Err(refused(operation, libc::EINVAL));
        }
        Ok(())
    }
}

fn not_found(operation: &str) -> RequestError {
    RequestError::from_errno(operation, libc::ENOENT, String::new())
}

fn exists(operation: &str) -> RequestError {
    RequestError::from_errno(operation, libc::EEXIST, String::new())
}

fn refused(operation: &str, errno: i32) -> RequestError {
    RequestError::from_errno(operation, errno, String::new())
}

fn same_place(a: &Route, b: &Route) -> bool {
    a.table == b.table && a.destination == b.destination && a.metric == b.metric
}

/// A host's network. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Network {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) sockets: Arc<Mutex<super::sockets::Sockets>>,
}

impl Network {
    /// A host with a loopback device.
    #[must_use]
    pub fn new() -> Self {
        let network = Self::default();
        let lo = network.add_link("lo", LinkKind::Plain);
        if let Some(link) = lock(&network.state).links.get_mut(&lo) {
            link.loopback = true;
        }
        network
    }

    /// Adds a link that is up; answers its index.
    pub fn add_link(&self, name: &str, kind: LinkKind) -> u32 {
        let mut state = lock(&self.state);
        state.last_index += 1;
        let link = Link {
            index: state.last_index,
            name: name.to_owned(),
            kind,
            up: true,
            carrier: true,
            loopback: false,
            mtu: 1500,
            alias: None,
        };
        state.links.insert(link.index, link.clone());
        let index = link.index;
        state.tell_addr(&AddrEvent::Link(link));
        index
    }

    /// Adds somebody else's address.
    pub fn add_foreign_address(&self, ifindex: u32, address: IpNet) {
        lock(&self.state).put_address(ifindex, address, 0);
    }

    /// What [`OffloadProbe`] will say of a device.
    pub fn set_offload(&self, device: &str, offload: EspOffload) {
        lock(&self.state)
            .offloads
            .insert(device.to_owned(), offload);
    }

    /// The packet filter's table, if one is loaded.
    #[must_use]
    pub fn filter_table(&self) -> Option<FilterTable> {
        lock(&self.state).filter.clone()
    }

    /// Subscribes to address and link changes.
    #[must_use]
    pub fn addr_monitor(&self) -> AddrMonitor {
        let queue = Arc::default();
        lock(&self.state).addr_monitors.push(Arc::clone(&queue));
        AddrMonitor(queue)
    }

    /// Subscribes to route and rule changes.
    #[must_use]
    pub fn route_monitor(&self) -> RouteMonitor {
        let queue = Arc::default();
        lock(&self.state).route_monitors.push(Arc::clone(&queue));
        RouteMonitor(queue)
    }

    /// Every route, whoever made it.
    #[must_use]
    pub fn routes(&self) -> Vec<Route> {
        lock(&self.state).routes.clone()
    }
}

impl State {
    fn put_address(&mut self, ifindex: u32, address: IpNet, protocol: u8) {
        let ip = address.addr();
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let address = InterfaceAddr {
            ifindex,
            address,
            peer: None,
            scope: if ip.is_loopback() {
                Scope::HOST
            } else if link_local {
                Scope::LINK
            } else {
                Scope::GLOBAL
            },
            tentative: false,
            duplicate: false,
            deprecated: false,
            secondary: false,
            protocol,
        };
        self.addresses.push(address.clone());
        self.tell_addr(&AddrEvent::Added(address));
    }
}

impl Links for Network {
    fn links(&mut self) -> Result<Vec<Link>, RequestError> {
        Ok(lock(&self.state).links.values().cloned().collect())
    }

    fn link(&mut self, name: &str) -> Result<Link, RequestError> {
        lock(&self.state)
            .links
            .values()
            .find(|l| l.name == name)
            .cloned()
            .ok_or_else(|| not_found(&format!("find link {name}")))
    }

    fn set_up(&mut self, index: u32, up: bool) -> Result<(), RequestError> {
        let mut state = lock(&self.state);
        let link = state.link_mut(index, &format!("set link #{index} up"))?;
        link.up = up;
        let link = link.clone();
        state.tell_addr(&AddrEvent::Link(link));
        if !up {
            state.drop_routes(|r| r.ifindex == Some(index));
        }
        Ok(())
    }

    fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), RequestError> {
        lock(&self.state)
            .link_mut(index, &format!("set mtu of link #{index}"))?
            .mtu = mtu;
        Ok(())
    }

    fn set_alias(&mut self, index: u32, alias: &str) -> Result<(), RequestError> {
        lock(&self.state)
            .link_mut(index, &format!("set alias of link #{index}"))?
            .alias = Some(alias.to_owned());
        Ok(())
    }

    fn add_xfrm_interface(&mut self, name: &str, if_id: u32) -> Result<(), RequestError> {
        let operation = format!("add link {name} type xfrm if_id {if_id:#x}");
        let kind = LinkKind::Xfrm { if_id };
        if lock(&self.state)
            .links
            .values()
            .any(|l| l.name == name || l.kind == kind)
        {
            return Err(exists(&operation));
        }
        let index = self.add_link(name, kind);
        self.set_up(index, false)
    }

    fn delete_link(&mut self, index: u32) -> Result<(), RequestError> {
        let mut state = lock(&self.state);
        let link = state
            .links
            .remove(&index)
            .ok_or_else(|| not_found(&format!("delete link #{index}")))?;
        state.settings.retain(|(device, _), _| *device != link.name);
        state.drop_routes(|r| r.ifindex == Some(index));
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut state.addresses)
            .into_iter()
            .partition(|a| a.ifindex == index);
        state.addresses = kept;
        for address in gone {
            state.tell_addr(&AddrEvent::Removed(address));
        }
        state.tell_addr(&AddrEvent::LinkRemoved { ifindex: index });
        Ok(())
    }

    fn setting(&mut self, device: &str, setting: Setting) -> Result<i64, RequestError> {
        let state = lock(&self.state);
        if !state.device_exists(device) {
            return Err(not_found(&format!("read {}", setting.name(device))));
        }
        Ok(state
            .settings
            .get(&(device.to_owned(), setting))
            .copied()
            .unwrap_or(0))
    }

    fn set_setting(
        &mut self,
        device: &str,
        setting: Setting,
        value: i64,
    ) -> Result<(), RequestError> {
        let mut state = lock(&self.state);
        if !state.device_exists(device) {
            return Err(not_found(&format!("set {}", setting.name(device))));
        }
        state.settings.insert((device.to_owned(), setting), value);
        Ok(())
    }
}

impl InterfaceAddrs for Network {
    fn addresses(&mut self) -> Result<Vec<InterfaceAddr>, RequestError> {
        Ok(lock(&self.state).addresses.clone())
    }

    fn addresses_of(&mut self, device: &str) -> Result<Vec<InterfaceAddr>, RequestError> {
        let link = self.link(device)?;
        let mut addresses = self.addresses()?;
        addresses.retain(|a| a.ifindex == link.index);
        Ok(addresses)
    }
}

impl AddressControl for Network {
    fn add_address(&mut self, ifindex: u32, address: IpNet) -> Result<(), RequestError> {
        let operation = format!("add address {address} dev #{ifindex}");
        let mut state = lock(&self.state);
        if !state.links.contains_key(&ifindex) {
            return Err(not_found(&operation));
        }
        if state
            .addresses
            .iter()
            .any(|a| a.ifindex == ifindex && a.address == address)
        {
            return Err(exists(&operation));
        }
        state.put_address(ifindex, address, crate::OWNER_PROTOCOL);
        Ok(())
    }

    fn delete_address(&mut self, ifindex: u32, address: IpNet) -> Result<(), RequestError> {
        let mut state = lock(&self.state);
        let place = state
            .addresses
            .iter()
            .position(|a| a.ifindex == ifindex && a.address == address)
            .ok_or_else(|| not_found(&format!("delete address {address} dev #{ifindex}")))?;
        let removed = state.addresses.remove(place);
        let source = removed.address.addr();
        state.drop_routes(|r| r.preferred_source == Some(source));
        state.tell_addr(&AddrEvent::Removed(removed));
        Ok(())
    }
}

impl Routing for Network {
    fn add_route(&mut self, route: &Route) -> Result<(), RequestError> {
        let operation = format!("add route {route}");
        let mut state = lock(&self.state);
        state.check_route(route, &operation)?;
        if state.routes.iter().any(|r| same_place(r, route)) {
            return Err(exists(&operation));
        }
        state.routes.push(route.clone());
        state.tell_route(&RouteEvent::Added(route.clone()));
        Ok(())
    }

    fn replace_route(&mut self, route: &Route) -> Result<(), RequestError> {
        let mut state = lock(&self.state);
        state.check_route(route, &format!("replace route {route}"))?;
        state.routes.retain(|r| !same_place(r, route));
        state.routes.push(route.clone());
        state.tell_route(&RouteEvent::Added(route.clone()));
        Ok(())
    }

    fn delete_route(&mut self, route: &Route) -> Result<(), RequestError> {
        let mut state = lock(&self.state);
        let place = state
            .routes
            .iter()
            .position(|r| same_place(r, route) && r.ifindex == route.ifindex)
            .ok_or_else(|| not_found(&format!("delete route {route}")))?;
        let removed = state.routes.remove(place);
        state.tell_route(&RouteEvent::Removed(removed));
        Ok(())
    }

    fn owned_routes(&mut self) -> Result<Vec<Route>, RequestError> {
        let mut routes = self.routes();
        routes.retain(Route::is_ours);
        Ok(routes)
    }

    fn routes_of(&mut self, table: u32, ipv6: bool) -> Result<Vec<Route>, RequestError> {
        let mut routes = self.routes();
        routes.retain(|r| r.table == table && r.destination.addr().is_ipv6() == ipv6);
        Ok(routes)
    }

    fn add_rule(&mut self, rule: &Rule) -> Result<(), RequestError> {
        let mut state = lock(&self.state);
        if state.rules.contains(rule) {
            return Err(exists(&format!("add rule {rule}")));
        }
        state.rules.push(rule.clone());
        state.tell_route(&RouteEvent::RuleAdded(rule.clone()));
        Ok(())
    }

    fn delete_rule(&mut self, rule: &Rule) -> Result<(), RequestError> {
        let mut state = lock(&self.state);
        let place = state
            .rules
            .iter()
            .position(|r| r == rule)
            .ok_or_else(|| not_found(&format!("delete rule {rule}")))?;
        let removed = state.rules.remove(place);
        state.tell_route(&RouteEvent::RuleRemoved(removed));
        Ok(())
    }

    fn owned_rules(&mut self) -> Result<Vec<Rule>, RequestError> {
        let mut rules = lock(&self.state).rules.clone();
        rules.retain(|r| r.protocol == crate::OWNER_PROTOCOL);
        Ok(rules)
    }
}

impl State {
    /// The tables that a packet is looked up in, in order.
    fn tables(&self, query: &RouteQuery) -> Vec<u32> {
        let mut rules: Vec<(u32, u32)> = self
            .rules
            .iter()
            .filter(|rule| rule.ipv6 == query.destination.is_ipv6())
            .filter(|rule| {
                let mark = rule
                    .mark
                    .is_none_or(|m| query.mark & m.mask == m.value & m.mask);
                let destination = rule
                    .destination
                    .is_none_or(|d| d.contains(&query.destination));
                let source = rule
                    .source
                    .is_none_or(|s| query.source.is_some_and(|q| s.contains(&q)));
                (mark && destination && source) != rule.invert
            })
            .map(|rule| (rule.priority, rule.table))
            .collect();
        rules.push((MAIN_PRIORITY, TABLE_MAIN));
        rules.sort_by_key(|(priority, _)| *priority);
        rules.into_iter().map(|(_, table)| table).collect()
    }
}

impl RouteLookup for Network {
    fn route_to(&mut self, query: &RouteQuery) -> Result<RouteAnswer, LookupError> {
        let state = lock(&self.state);
        let destination = query.destination;
        let own = state
            .addresses
            .iter()
            .find(|a| a.address.addr() == destination);
        if let Some(own) = own {
            return Ok(RouteAnswer {
                source: Some(destination),
                gateway: None,
                ifindex: own.ifindex,
                table: 255,
                mtu: None,
                local: true,
            });
        }
        let best = state.tables(query).into_iter().find_map(|table| {
            state
                .routes
                .iter()
                .filter(|r| r.table == table && r.destination.contains(&destination))
                .filter(|r| query.ifindex.is_none_or(|i| r.ifindex == Some(i)))
                .min_by_key(|r| (std::cmp::Reverse(r.destination.prefix_len()), r.metric))
        });
        let route = best.ok_or(LookupError::NoRoute { destination })?;
        let (RouteKind::Unicast, Some(ifindex)) = (route.kind, route.ifindex) else {
            return Err(match route.kind {
                RouteKind::Unreachable => LookupError::NoRoute { destination },
                _ => LookupError::Forbidden { destination },
            });
        };
        let on_device: Vec<InterfaceAddr> = state
            .addresses
            .iter()
            .filter(|a| a.ifindex == ifindex)
            .cloned()
            .collect();
        let family: IpNet = if destination.is_ipv6() {
            ipnet::Ipv6Net::default().into()
        } else {
            ipnet::Ipv4Net::default().into()
        };
        Ok(RouteAnswer {
            source: query
                .source
                .or(route.preferred_source)
                // As the kernel does, an address of the next hop's network before others.
                .or_else(|| {
                    let hop = route.gateway.unwrap_or(destination);
                    on_device
                        .iter()
                        .find(|a| a.address.contains(&hop))
                        .map(|a| a.address.addr())
                })
                .or_else(|| source_within(&on_device, &family)),
            gateway: route.gateway,
            ifindex,
            table: route.table,
            mtu: route.mtu,
            local: false,
        })
    }

    fn default_route(&mut self, ipv6: bool) -> Result<RouteAnswer, LookupError> {
        let best = {
            let state = lock(&self.state);
            state
                .routes
                .iter()
                .filter(|r| {
                    r.destination.prefix_len() == 0
                        && r.destination.addr().is_ipv6() == ipv6
                        && r.table == TABLE_MAIN
                        && r.kind == RouteKind::Unicast
                })
                .min_by_key(|r| r.metric)
                .cloned()
        }
        .ok_or(LookupError::NoDefaultRoute { ipv6 })?;
        let mut query = RouteQuery::to(best.gateway.unwrap_or(best.destination.addr()));
        query.ifindex = best.ifindex;
        let mut answer = self.route_to(&query)?;
        answer.gateway = best.gateway;
        answer.source = best.preferred_source.or(answer.source);
        Ok(answer)
    }
}

impl OffloadProbe for Network {
    fn esp_offload(&mut self, device: &str) -> Result<EspOffload, RequestError> {
        self.link(device)?;
        Ok(lock(&self.state)
            .offloads
            .get(device)
            .copied()
            .unwrap_or_default())
    }
}

impl PacketFilter for Network {
    fn load(&mut self, table: &FilterTable) -> Result<(), RequestError> {
        lock(&self.state).filter = Some(table.clone());
        Ok(())
    }

    fn unload(&mut self) -> Result<(), RequestError> {
        lock(&self.state).filter = None;
        Ok(())
    }
}

/// [`AddrEvents`] of a [`Network`].
#[derive(Debug)]
pub struct AddrMonitor(Arc<Mutex<VecDeque<AddrEvent>>>);

impl AddrEvents for AddrMonitor {
    fn next_event(&mut self) -> Result<Option<AddrEvent>, RequestError> {
        Ok(lock(&self.0).pop_front())
    }
}

/// [`RouteEvents`] of a [`Network`].
#[derive(Debug)]
pub struct RouteMonitor(Arc<Mutex<VecDeque<RouteEvent>>>);

impl RouteEvents for RouteMonitor {
    fn next_event(&mut self) -> Result<Option<RouteEvent>, RequestError> {
        Ok(lock(&self.0).pop_front())
    }
}
