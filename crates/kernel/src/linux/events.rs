//! Address, link, route and rule events from rtnetlink's multicast groups.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_route::RouteNetlinkMessage;

use super::{addresses::address_of, links::link_of, routes::route_of, rules::rule_of};
use crate::addr_events::{AddrEvent, AddrEvents};
use crate::netlink::{EventSocket, Notice, RequestError};
use crate::route_events::{RouteEvent, RouteEvents};

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV4_RULE: u32 = 8;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_IPV6_RULE: u32 = 19;

macro_rules! pollable {
    ($type:ty) => {
        impl AsRawFd for $type {
            fn as_raw_fd(&self) -> RawFd {
                self.socket.as_raw_fd()
            }
        }

        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.socket.as_fd()
            }
        }
    };
}

/// [`AddrEvents`] from the kernel. Readable (`poll`) when there may be an event; read until `None`.
#[derive(Debug)]
pub struct AddrMonitor {
    socket: EventSocket,
    pending: VecDeque<AddrEvent>,
}

impl AddrMonitor {
    /// Subscribes. Read the state *after* this, so that nothing falls between.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn open() -> Result<Self, RequestError> {
        Ok(Self {
            socket: EventSocket::open(
                "subscribe to address events",
                &[RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR],
            )?,
            pending: VecDeque::new(),
        })
    }
}

pollable!(AddrMonitor);

impl AddrEvents for AddrMonitor {
    fn next_event(&mut self) -> Result<Option<AddrEvent>, RequestError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            let event = match self.socket.next()? {
                None => return Ok(None),
                Some(Notice::Overrun) => Some(AddrEvent::Overrun),
                Some(Notice::Message(message)) => match *message {
                    RouteNetlinkMessage::NewAddress(m) => address_of(&m).map(AddrEvent::Added),
                    RouteNetlinkMessage::DelAddress(m) => address_of(&m).map(AddrEvent::Removed),
                    RouteNetlinkMessage::NewLink(m) => link_of(&m).map(AddrEvent::Link),
                    RouteNetlinkMessage::DelLink(m) => Some(AddrEvent::LinkRemoved {
                        ifindex: m.header.index,
                    }),
                    _ => None,
                },
            };
            self.pending.extend(event);
        }
    }
}

/// [`RouteEvents`] from the kernel. Readable (`poll`) when there may be an event; read until `None`.
#[derive(Debug)]
pub struct RouteMonitor {
    socket: EventSocket,
    pending: VecDeque<RouteEvent>,
}

impl RouteMonitor {
    /// Subscribes. Read the state *after* this, so that nothing falls between.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn open() -> Result<Self, RequestError> {
        Ok(Self {
            socket: EventSocket::open(
                "subscribe to route events",
                &[
                    RTNLGRP_IPV4_ROUTE,
                    RTNLGRP_IPV4_RULE,
                    RTNLGRP_IPV6_ROUTE,
                    RTNLGRP_IPV6_RULE,
                ],
            )?,
            pending: VecDeque::new(),
        })
    }
}

pollable!(RouteMonitor);

impl RouteEvents for RouteMonitor {
    fn next_event(&mut self) -> Result<Option<RouteEvent>, RequestError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            let event = match self.socket.next()? {
                None => return Ok(None),
                Some(Notice::Overrun) => Some(RouteEvent::Overrun),
                Some(Notice::Message(message)) => match *message {
                    RouteNetlinkMessage::NewRoute(m) => route_of(&m).map(RouteEvent::Added),
                    RouteNetlinkMessage::DelRoute(m) => route_of(&m).map(RouteEvent::Removed),
                    RouteNetlinkMessage::NewRule(m) => rule_of(&m).map(RouteEvent::RuleAdded),
                    RouteNetlinkMessage::DelRule(m) => rule_of(&m).map(RouteEvent::RuleRemoved),
                    _ => None,
                },
            };
            self.pending.extend(event);
        }
    }
}
