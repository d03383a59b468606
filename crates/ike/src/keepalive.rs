//! NAT keepalives (RFC 3948 §4): an octet now and then, so that the NAT in front of us does not forget the mapping.
//!
//! ESP in UDP has the ports of the IKE SA, so the mapping is one, and one keepalive serves both, whichever plane does ESP.
//! That ESP packets keep the mapping alive too is not known here; an octet too many does no harm.

use std::time::Instant;

use crate::config::EndpointConfig;
use crate::context::{Context, Path};
use crate::sa::Core;
use crate::transport::Transport;

/// The payload (RFC 3948 §2.3).
const KEEPALIVE: [u8; 1] = [0xff];

/// When the next one is due; `None`: no NAT in front of us, or none wanted.
pub(crate) fn due(core: &Core, config: &EndpointConfig) -> Option<Instant> {
    let interval = config.keepalive_interval;
    let wanted = core.config.nat_keepalive && !interval.is_zero();
    (wanted && core.nat.local && core.path.transport == Transport::UdpEncap)
        .then(|| core.last_sent + interval)
}

/// Sends one if it is due.
//= rfc3948#4
//# A peer SHOULD send a NAT-keepalive packet if a need for it is
//# detected according to [RFC3947] and if no other packet to the peer
//# has been sent in M seconds.
pub(crate) fn on_timeout(core: &mut Core, cx: &mut Context<'_>) {
    if due(core, cx.config).is_none_or(|at| cx.now < at) {
        return;
    }
    core.last_sent = cx.now;
    // No IKE message: it goes without the non-ESP marker.
    let path = Path {
        transport: Transport::Udp,
        ..core.path
    };
    cx.transmit(path, KEEPALIVE.to_vec());
    let stats = &mut cx.shared.stats;
    stats.keepalives_sent = stats.keepalives_sent.saturating_add(1);
}
