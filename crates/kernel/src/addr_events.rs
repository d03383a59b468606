//! S3.4: changes of addresses and links, for MOBIKE, for listening on new addresses and for orienting connections.

use crate::interface_addr::InterfaceAddr;
use crate::links::Link;
use crate::netlink::RequestError;

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddrEvent {
    /// An address appeared or its flags changed; it may still be tentative ([`InterfaceAddr::is_usable`]).
    Added(InterfaceAddr),
    /// An address is gone.
    Removed(InterfaceAddr),
    /// A link appeared or changed: up, carrier, name, MTU.
    Link(Link),
    /// A link is gone, and with it its routes and addresses.
    LinkRemoved {
        /// Its former index.
        ifindex: u32,
    },
    /// Changes were lost; the state must be read anew ([`crate::InterfaceAddrs::addresses`]).
    Overrun,
}

/// The stream of changes.
pub trait AddrEvents {
    /// The next change, or `None` when there is none at the moment. Never blocks.
    ///
    /// # Errors
    /// When the source of events is broken for good.
    fn next_event(&mut self) -> Result<Option<AddrEvent>, RequestError>;
}
