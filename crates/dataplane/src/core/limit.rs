//! How often ICMP errors are sent.

use std::time::{Duration, Instant};

/// Each error pays this much time; what the kernel allows is 1000 a second too (`net.ipv4.icmp_msgs_per_sec`).
const INTERVAL: Duration = Duration::from_millis(1);
/// So many may come at once (`net.ipv4.icmp_msgs_burst`).
const BURST: u32 = 50;

/// A limit of rate and burst, for all ICMP errors together.
///
/// The kernel exempts the errors of path MTU discovery from its limit. Here they are the only ones, and whoever forges
/// senders must not get one error per packet; a sender who was not answered is when it tries again.
#[derive(Debug, Default)]
pub(super) struct IcmpLimit {
    /// When all errors sent so far are paid for.
    paid: Option<Instant>,
}

impl IcmpLimit {
    //= rfc4443#2.4
    //# Finally, in order to limit the bandwidth and forwarding costs
    //# incurred by originating ICMPv6 error messages, an IPv6 node MUST
    //# limit the rate of ICMPv6 error messages it originates.
    /// Whether one more may be sent.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        let paid = self.paid.map_or(now, |paid| paid.max(now)) + INTERVAL;
        let allowed = paid - now <= INTERVAL * BURST;
        if allowed {
            self.paid = Some(paid);
        }
        allowed
    }
}
