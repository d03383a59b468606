//! SET_WINDOW_SIZE: how many requests an end may have under way at the same time (RFC 7296 §2.3).

use cygnet_wire::{Notify, NotifyType, PayloadWriter};

use crate::contents::Contents;
use crate::sa::Core;
use crate::window::MAX_WINDOW;

/// Says how many the peer may have.
//= rfc7296#2.3
//# The data associated with a SET_WINDOW_SIZE
//# notification MUST be 4 octets long and contain the big endian
//# representation of the number of messages the sender promises to keep.
pub(crate) fn write(size: u32, payloads: &mut PayloadWriter<'_>) {
    let data = size.min(MAX_WINDOW).to_be_bytes();
    payloads.notify(&Notify::new(NotifyType::SET_WINDOW_SIZE, &data));
}

/// The same in IKE_AUTH, if it is more than one.
pub(crate) fn announce(size: u32, payloads: &mut PayloadWriter<'_>) {
    if size > 1 {
        write(size, payloads);
    }
}

/// What has been announced in IKE_AUTH counts from now on.
//= rfc7296#2.3
//# The window size is always one until the initial exchanges complete.
pub(crate) fn begin(core: &mut Core) {
    core.incoming.enlarge(core.config.window);
}

/// Notes what the peer says. What is not four octets long says nothing.
pub(crate) fn heed(core: &mut Core, contents: &Contents<'_>) {
    let notify = contents.notify(NotifyType::SET_WINDOW_SIZE);
    if let Some(size) = notify.and_then(|notify| notify.data.try_into().ok()) {
        core.outgoing.enlarge(u32::from_be_bytes(size));
    }
}
