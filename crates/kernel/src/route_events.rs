//! S3.9: changes of routes and rules. A connection with `%defaultroute` that was loaded before there was a default
//! route orients itself when one appears.

use crate::netlink::RequestError;
use crate::routes::{Route, Rule};

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteEvent {
    /// A route appeared or was replaced.
    Added(Route),
    /// A route is gone. A device that goes down takes its IPv4 routes along *without* an event for each: watch
    /// [`crate::AddrEvent::Link`] as well.
    Removed(Route),
    /// A rule appeared.
    RuleAdded(Rule),
    /// A rule is gone.
    RuleRemoved(Rule),
    /// Changes were lost; ask the kernel again.
    Overrun,
}

impl RouteEvent {
    /// Whether the answer to "which is the default route" may have changed.
    #[must_use]
    pub fn touches_default_route(&self) -> bool {
        match self {
            Self::Added(route) | Self::Removed(route) => route.destination.prefix_len() == 0,
            Self::RuleAdded(_) | Self::RuleRemoved(_) | Self::Overrun => true,
        }
    }
}

/// The stream of changes.
pub trait RouteEvents {
    /// The next change, or `None` when there is none at the moment. Never blocks.
    ///
    /// # Errors
    /// When the source of events is broken for good.
    fn next_event(&mut self) -> Result<Option<RouteEvent>, RequestError>;
}
