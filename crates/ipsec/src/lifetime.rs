//! When an SA or a policy ends (K11).

use std::time::Duration;

/// Limits on the life of an SA or a policy. `None`: no such limit.
///
/// A *soft* limit asks the key manager for a replacement, a *hard* one ends the SA (RFC 4301 §4.4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Lifetime {
    /// Octets until the soft limit.
    pub soft_bytes: Option<u64>,
    /// Octets until the hard limit.
    pub hard_bytes: Option<u64>,
    /// Packets until the soft limit.
    pub soft_packets: Option<u64>,
    /// Packets until the hard limit.
    pub hard_packets: Option<u64>,
    /// Time from installation until the soft limit; whole seconds in the kernel.
    pub soft_add: Option<Duration>,
    /// Time from installation until the hard limit.
    pub hard_add: Option<Duration>,
    /// Time from the first packet until the soft limit.
    pub soft_use: Option<Duration>,
    /// Time from the first packet until the hard limit.
    pub hard_use: Option<Duration>,
}

impl Lifetime {
    /// No limit at all.
    pub const UNLIMITED: Lifetime = Lifetime {
        soft_bytes: None,
        hard_bytes: None,
        soft_packets: None,
        hard_packets: None,
        soft_add: None,
        hard_add: None,
        soft_use: None,
        hard_use: None,
    };
}
