//! AUTH_LIFETIME: the responder tells how long it takes the initiator for who it says it is (RFC 4478).

use std::time::Duration;

use cygnet_wire::NotifyType;

use crate::contents::Contents;
use crate::context::Context;
use crate::io::Event;
use crate::sa::Core;

/// The data of the notification: seconds.
//= rfc4478#2
//# The Responder MUST send this information to the Initiator in an
//# AUTH_LIFETIME notification either in the last message of an IKE_AUTH
//# exchange, or in an INFORMATIONAL request, which may be sent at any
//# time.
//= rfc4478#3
//# Protocol ID (1 octet) MUST be 0.
pub(crate) fn data(lifetime: Duration) -> [u8; 4] {
    u32::try_from(lifetime.as_secs())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
}

/// Tells of the time left, if the message says it. Whether anybody has to act is decided above: who is initiator may have
/// changed with the last rekeying.
//= rfc4478#2
//# The AUTH_LIFETIME notification MUST be protected and MAY be sent by
//# the original Responder at any time.
pub(crate) fn heed(core: &Core, cx: &mut Context<'_>, contents: &Contents<'_>) {
    let Some(notify) = contents.notify(NotifyType::AUTH_LIFETIME) else {
        return;
    };
    if let Ok(seconds) = <[u8; 4]>::try_from(notify.data) {
        let lifetime = Duration::from_secs(u32::from_be_bytes(seconds).into());
        cx.event(Event::AuthLifetime {
            ike: core.id,
            lifetime,
        });
    }
}
