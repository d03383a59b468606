//! The mode of a child SA: how an initiator asks for another one than tunnel mode, and how a responder agrees
//! (RFC 7296 §1.3.1).

use cygnet_ipsec::Mode;
use cygnet_wire::{Notify, NotifyType, PayloadWriter};

use crate::contents::Contents;

/// The notifications by which both ends agree on a mode. That of BEET is strongSwan's, of a number for private use: it
/// counts only where the configuration says BEET, and so knows the peer.
const NOTIFICATIONS: [(Mode, NotifyType); 2] = [
    (Mode::Transport, NotifyType::USE_TRANSPORT_MODE),
    (Mode::Beet, NotifyType::USE_BEET_MODE),
];

/// Asks for a mode, or agrees to it. Nothing is said of tunnel mode.
pub(crate) fn announce(mode: Mode, payloads: &mut PayloadWriter<'_>) {
    for (_, notification) in NOTIFICATIONS.iter().filter(|(of, _)| *of == mode) {
        payloads.notify(&Notify::new(*notification, &[]));
    }
}

/// Whether the peer, who initiates, may have a child SA of this mode.
//= rfc7296#1.3.1
//# If the request is accepted, the response MUST also include a
//# notification of type USE_TRANSPORT_MODE.  If the responder declines
//# the request, the Child SA will be established in tunnel mode.
pub(crate) fn is_asked_for(mode: Mode, contents: &Contents<'_>) -> bool {
    let asks = |(of, notification): &(Mode, NotifyType)| *of != mode || contents.has(*notification);
    NOTIFICATIONS.iter().all(asks)
}

/// Whether the peer, who responds, has agreed to this mode and to no other.
pub(crate) fn is_agreed(mode: Mode, contents: &Contents<'_>) -> bool {
    NOTIFICATIONS
        .iter()
        .all(|(of, notification)| (*of == mode) == contents.has(*notification))
}
