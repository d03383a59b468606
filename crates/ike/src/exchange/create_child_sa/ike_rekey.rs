//! CREATE_CHILD_SA for a successor of the IKE SA: what both halves have in common (RFC 7296 §1.3.2, §2.18;
//! RFC 9370 §2.2.4).

use cygnet_crypto::{IkeSuite, SharedSecret, Skeyseed};
use cygnet_wire::IkeSpi;

use crate::channel::Channel;
use crate::context::Context;
use crate::established::Established;
use crate::exchange::ike_sa_init::key_log;
use crate::info::{IkeSaState, Role};
use crate::io::{Event, IkeSaId};
use crate::reason::FailureReason;
use crate::sa::Core;
use crate::succession::Heir;

/// How far the peer's successor has come.
#[derive(Debug)]
pub(super) enum Rival {
    /// Its additional key exchanges are not over.
    Coming,
    /// It is there, and may take over.
    Made(Heir),
    /// It has ended.
    Gone,
}

pub(super) fn report(core: &Core, cx: &mut Context<'_>, role: Role, reason: FailureReason) {
    let ike = core.id;
    cx.event(Event::IkeRekeyFailed { ike, role, reason });
}

/// The keys of a successor, and the log of them.
pub(super) fn successor(
    established: &Established,
    core: &Core,
    cx: &Context<'_>,
    name: IkeSaId,
    role: Role,
    spis: (IkeSpi, IkeSpi),
    agreement: (&IkeSuite, &[SharedSecret], &[u8], &[u8]),
) -> Option<(Core, Channel, Heir)> {
    let (suite, secrets, ni, nr) = agreement;
    let (secret, additional) = secrets.split_first()?;
    let (initiator, responder) = spis;
    let old = &established.channel.sk_d;
    let keys = Skeyseed::rekeyed(old, ni, nr, secret, additional).expand(
        suite,
        ni,
        nr,
        initiator.0,
        responder.0,
    );
    let log = cx.config.key_log;
    let log = log.then(|| key_log(initiator, responder, &keys, suite));
    let (channel, ..) = Channel::new(role, suite, keys).ok()?;
    let core = core.successor(name, role, spis, *suite, cx.now);
    let heir = Heir {
        ike: name,
        info: Box::new(core.info(IkeSaState::Established, Vec::new())),
        keys: log,
    };
    Some((core, channel, heir))
}
