//! Routes by rtnetlink, and the kernel's own route lookup (`RTM_GETROUTE`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop,
    RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Rtnetlink, family_of};
use crate::default_route::{LookupError, RouteAnswer, RouteLookup, RouteQuery};
use crate::netlink::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, RequestError};
use crate::routes::{Route, RouteKind, Routing, Rule, TABLE_MAIN};

fn kind_of(kind: RouteType) -> RouteKind {
    match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        other => RouteKind::Other(u8::from(other)),
    }
}

fn type_of(kind: RouteKind) -> RouteType {
    match kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Local => RouteType::Local,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
        RouteKind::Other(number) => RouteType::from(number),
    }
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

/// What a next hop of a multipath route says; the first one stands for all.
fn first_hop(hops: &[RouteNextHop]) -> (Option<u32>, Option<IpAddr>) {
    let Some(hop) = hops.first() else {
        return (None, None);
    };
    let gateway = hop.attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(gateway) => ip_of(gateway),
        RouteAttribute::Via(via) => ip_via(via),
        _ => None,
    });
    (Some(hop.interface_index), gateway)
}

/// The gateway of another family than the route's (RFC 5549 style, `via inet6 …`).
fn ip_via(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteVia::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

/// The route that a message describes; `None` for families other than IP and for cached clones.
pub(crate) fn route_of(message: &RouteMessage) -> Option<Route> {
    if message.header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut destination = unspecified;
    let mut route = Route::to_device(IpNet::from(unspecified), 0, 0);
    route.ifindex = None;
    route.table = u32::from(message.header.table);
    route.kind = kind_of(message.header.kind);
    route.protocol = u8::from(message.header.protocol);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip_of(address)?,
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Oif(ifindex) => route.ifindex = Some(*ifindex),
            RouteAttribute::Gateway(address) => route.gateway = ip_of(address),
            RouteAttribute::Via(via) => route.gateway = ip_via(via),
            RouteAttribute::PrefSource(address) => route.preferred_source = ip_of(address),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::MultiPath(hops) => (route.ifindex, route.gateway) = first_hop(hops),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|m| match m {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    route.destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    Some(route)
}

fn message_of(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family_of(route.destination.addr().is_ipv6());
    header.destination_prefix_length = route.destination.prefix_len();
    // The 8-bit field cannot hold larger numbers; RTA_TABLE counts then.
    header.table = u8::try_from(route.table).unwrap_or(0);
    header.protocol = RouteProtocol::from(route.protocol);
    header.kind = type_of(route.kind);
    header.scope = match (route.kind, route.gateway) {
        (RouteKind::Unicast, None) if !route.destination.addr().is_ipv6() => RouteScope::Link,
        (RouteKind::Local, _) => RouteScope::Host,
        _ => RouteScope::Universe,
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(
        route.destination.network().into(),
    ));
    attributes.push(RouteAttribute::Table(route.table));
    if let Some(ifindex) = route.ifindex {
        attributes.push(RouteAttribute::Oif(ifindex));
    }
    if let Some(gateway) = route.gateway {
        attributes.push(RouteAttribute::Gateway(gateway.into()));
    }
    if let Some(source) = route.preferred_source {
        attributes.push(RouteAttribute::PrefSource(source.into()));
    }
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    if let Some(mtu) = route.mtu {
        attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    message
}

impl Rtnetlink {
    fn list_routes(&mut self, message: RouteMessage) -> Result<Vec<Route>, RequestError> {
        let answers = match self.dump("list routes", &RouteNetlinkMessage::GetRoute(message)) {
            // A host without IPv6 has no IPv6 routes, one without the table none in it.
            Err(RequestError::Unsupported { .. } | RequestError::NotFound { .. }) => {
                return Ok(Vec::new());
            }
            answers => answers?,
        };
        Ok(answers
            .iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewRoute(m) => route_of(m),
                _ => None,
            })
            .collect())
    }
}

impl Routing for Rtnetlink {
    fn add_route(&mut self, route: &Route) -> Result<(), RequestError> {
        self.ask(
            &format!("add route {route}"),
            RouteNetlinkMessage::NewRoute(message_of(route)),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map(drop)
    }

    fn replace_route(&mut self, route: &Route) -> Result<(), RequestError> {
        self.ask(
            &format!("replace route {route}"),
            RouteNetlinkMessage::NewRoute(message_of(route)),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
    }

    fn delete_route(&mut self, route: &Route) -> Result<(), RequestError> {
        let mut message = message_of(route);
        // What identifies it is enough; the preferred source may have been changed since.
        message.attributes.retain(|a| {
            !matches!(
                a,
                RouteAttribute::PrefSource(_) | RouteAttribute::Metrics(_)
            )
        });
        message.header.scope = RouteScope::NoWhere;
        self.ask(
            &format!("delete route {route}"),
            RouteNetlinkMessage::DelRoute(message),
            0,
        )
        .map(drop)
    }

    fn owned_routes(&mut self) -> Result<Vec<Route>, RequestError> {
        let mut routes = Vec::new();
        for ipv6 in [false, true] {
            let mut message = RouteMessage::default();
            message.header.address_family = family_of(ipv6);
            // With strict checking the kernel filters; older ones ignore it, hence the filter below.
            message.header.protocol = RouteProtocol::from(crate::OWNER_PROTOCOL);
            routes.extend(
                self.list_routes(message)?
                    .into_iter()
                    .filter(Route::is_ours),
            );
        }
        Ok(routes)
    }

    fn routes_of(&mut self, table: u32, ipv6: bool) -> Result<Vec<Route>, RequestError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family_of(ipv6);
        message.attributes.push(RouteAttribute::Table(table));
        let mut routes = self.list_routes(message)?;
        routes.retain(|route| route.table == table);
        Ok(routes)
    }

    fn add_rule(&mut self, rule: &Rule) -> Result<(), RequestError> {
        self.create_rule(rule)
    }

    fn delete_rule(&mut self, rule: &Rule) -> Result<(), RequestError> {
        self.remove_rule(rule)
    }

    fn owned_rules(&mut self) -> Result<Vec<Rule>, RequestError> {
        self.list_owned_rules()
    }
}

impl RouteLookup for Rtnetlink {
    fn route_to(&mut self, query: &RouteQuery) -> Result<RouteAnswer, LookupError> {
        let destination = query.destination;
        let mut operation = format!("get route to {destination}");
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = family_of(destination.is_ipv6());
        header.destination_prefix_length = if destination.is_ipv6() { 128 } else { 32 };
        if !destination.is_ipv6() {
            // Name the table that answered instead of saying "main" for all. IPv6 does so anyhow, and refuses the flag.
            header.flags = RouteFlags::LookupTable;
        }
        message
            .attributes
            .push(RouteAttribute::Destination(destination.into()));
        if let Some(source) = query.source {
            operation.push_str(&format!(" from {source}"));
            message.header.source_prefix_length = if source.is_ipv6() { 128 } else { 32 };
            message
                .attributes
                .push(RouteAttribute::Source(source.into()));
        }
        if query.mark != 0 {
            message.attributes.push(RouteAttribute::Mark(query.mark));
        }
        if let Some(ifindex) = query.ifindex {
            message.attributes.push(RouteAttribute::Oif(ifindex));
        }
        let answers = match self.ask(&operation, RouteNetlinkMessage::GetRoute(message), 0) {
            Err(RequestError::Refused {
                errno: libc::ENETUNREACH | libc::EHOSTUNREACH,
                ..
            }) => return Err(LookupError::NoRoute { destination }),
            // A blackhole answers EINVAL, a prohibit route EACCES; both without being a fault of the question.
            Err(RequestError::Refused {
                errno: libc::EINVAL,
                ref text,
                ..
            }) if text.is_empty() => return Err(LookupError::Forbidden { destination }),
            Err(RequestError::NoPermission { .. }) => {
                return Err(LookupError::Forbidden { destination });
            }
            other => other?,
        };
        let answer = answers
            .iter()
            .find_map(|m| match m {
                RouteNetlinkMessage::NewRoute(m) => Some(m),
                _ => None,
            })
            .ok_or_else(|| RequestError::malformed(&operation, "no route in it"))?;
        let mut found = answer.clone();
        found.header.flags.remove(RouteFlags::Cloned);
        let route = route_of(&found)
            .ok_or_else(|| RequestError::malformed(&operation, "not a route of an IP family"))?;
        match route.kind {
            RouteKind::Unicast | RouteKind::Local => {}
            // IPv6 answers with the rejecting route (which has the loopback device) instead of an error.
            RouteKind::Unreachable => return Err(LookupError::NoRoute { destination }),
            _ => return Err(LookupError::Forbidden { destination }),
        }
        Ok(RouteAnswer {
            source: route.preferred_source.or(query.source),
            gateway: route.gateway,
            ifindex: route
                .ifindex
                .ok_or_else(|| RequestError::malformed(&operation, "a route without a device"))?,
            table: route.table,
            mtu: route.mtu,
            local: route.kind == RouteKind::Local,
        })
    }

    fn default_route(&mut self, ipv6: bool) -> Result<RouteAnswer, LookupError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family_of(ipv6);
        let answers = self.dump(
            "list default routes",
            &RouteNetlinkMessage::GetRoute(message),
        )?;
        let best = answers
            .iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewRoute(m) => route_of(m),
                _ => None,
            })
            .filter(|r| {
                r.destination.prefix_len() == 0
                    && r.table == TABLE_MAIN
                    && r.kind == RouteKind::Unicast
                    && !r.is_ours()
            })
            .min_by_key(|r| r.metric)
            .ok_or(LookupError::NoDefaultRoute { ipv6 })?;
        let ifindex = best.ifindex.ok_or(LookupError::NoDefaultRoute { ipv6 })?;
        // The source is the kernel's choice for some packet that takes this route. The gateway is on the link with the
        // right IPv4 source; an IPv6 gateway is link-local and would get a link-local one, so a global address that
        // nobody has (RFC 3849, RFC 5737) is asked for instead.
        let probe = match (best.gateway, ipv6) {
            (Some(gateway @ IpAddr::V4(_)), false) => gateway,
            (_, false) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            (_, true) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        };
        let source = match best.preferred_source {
            Some(source) => Some(source),
            None => {
                let mut query = RouteQuery::to(probe);
                query.ifindex = Some(ifindex);
                self.route_to(&query)?.source
            }
        };
        Ok(RouteAnswer {
            source,
            gateway: best.gateway,
            ifindex,
            table: best.table,
            mtu: best.mtu,
            local: false,
        })
    }
}
