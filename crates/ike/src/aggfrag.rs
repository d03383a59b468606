//! IP-TFS: how both ends agree that a child SA in tunnel mode carries aggregated and fragmented packets, AGGFRAG
//! payloads (RFC 9347 §5.1, §6.1.4).
//!
//! The initiator asks, and a responder that says nothing gets an ordinary tunnel. Each end names what it requires of the
//! other one. One that requires what we do not do, such as congestion control, cannot have it.

use cygnet_ipsec::{Mode, Protocol};
use cygnet_wire::{AggfragNotify, Notify, NotifyType, PayloadWriter};

use crate::config::ChildConfig;
use crate::contents::Contents;

/// What we can be required to do: not to spread an inner packet over several outer ones.
const MET: AggfragNotify = AggfragNotify::DONT_FRAGMENT;

/// Whether a child SA is to have it: ESP in tunnel mode only, and the notification does not go with USE_TRANSPORT_MODE.
pub(crate) fn is_wanted(config: &ChildConfig) -> bool {
    config.iptfs && config.mode == Mode::Tunnel && config.protocol == Protocol::Esp
}

/// Asks for it, or agrees to it.
pub(crate) fn announce(config: &ChildConfig, payloads: &mut PayloadWriter<'_>) {
    let required = match config.refuse_fragments {
        true => AggfragNotify::DONT_FRAGMENT,
        false => AggfragNotify::default(),
    };
    payloads.notify(&Notify::new(NotifyType::USE_AGGFRAG, &required.to_bytes()));
}

/// What the peer, who initiates, requires for what it may have; nothing if it does not ask, or may not.
pub(crate) fn asked_for(config: &ChildConfig, contents: &Contents<'_>) -> Option<AggfragNotify> {
    let combined = contents.has(NotifyType::USE_TRANSPORT_MODE);
    required(contents)
        .ok()?
        .filter(|_| is_wanted(config) && !combined)
}

/// What the peer, who responds, requires, if it agrees.
///
/// # Errors
/// If it was not asked, or requires what we do not do: it has an SA of another kind than ours would be. The notification
/// and its flags.
pub(crate) fn agreed(
    config: &ChildConfig,
    contents: &Contents<'_>,
) -> Result<Option<AggfragNotify>, String> {
    match required(contents)? {
        Some(_) if !is_wanted(config) => Err(NotifyType::USE_AGGFRAG.to_string()),
        required => Ok(required),
    }
}

/// What the only notification of the peer requires, if there is one and it can be met.
fn required(contents: &Contents<'_>) -> Result<Option<AggfragNotify>, String> {
    let kind = NotifyType::USE_AGGFRAG;
    let mut all = contents.notifies.iter().filter(|n| n.kind == kind);
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(notify), None) => AggfragNotify::from_notify(notify)
            .filter(|required| required.without(MET) == AggfragNotify::default())
            .map(Some)
            .ok_or_else(|| format!("{kind} with {:02x?}", notify.data)),
        (Some(_), Some(_)) => Err(format!("{kind}, more than once")),
    }
}
