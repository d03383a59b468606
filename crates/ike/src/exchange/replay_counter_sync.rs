//! Sequence numbers of child SAs after a failover (RFC 6311 §5.2): the member of a cluster that has taken over does not
//! know how far they had come. What either end sends goes on with later ones: the member's at its own discretion, the
//! peer's as the member asks.
//!
//! Asked for beside the Message IDs (`message_id_sync`) or alone; the planes are told by [`Event::ReplayCounters`].

use std::time::Duration;

use cygnet_wire::{Notify, NotifyType, ReplayCounterSync};

use crate::child::ChildSa;
use crate::contents::Contents;
use crate::context::{Context, Limiter};
use crate::errand::Errand;
use crate::established::Established;
use crate::info::Role;
use crate::io::Event;
use crate::reason::Party;
use crate::sa::{Core, IkeSa, State};
use crate::stats::DropReason;
use crate::succession::Standing;

/// So many sequence numbers are left out by either end when we take over.
//= rfc6311#5.2
//# In those
//# implementations where it is difficult to estimate this value, the
//# counter can be incremented by a very large number, e.g., 2**30.
const DELTA: u64 = 1 << 30;

/// So many times the peer may ask within [`REQUESTS_TIME`].
const REQUESTS: u32 = 8;

/// See [`REQUESTS`].
const REQUESTS_TIME: Duration = Duration::from_secs(60);

/// What IKE_AUTH says of it.
//= rfc6311#5
//# When negotiating these capabilities, the responder MUST
//# NOT assert support of a capability unless such support was asserted
//# by the initiator.
//= rfc6311#6.2
//# The 'SPI Size' field MUST be set to 0 to indicate that the SPI is not
//# present in this message.
//= rfc6311#6.2
//# The 'Protocol ID' MUST be set to 0, since the notification is not
//# specific to a particular security association.
pub(crate) fn announcement(core: &Core) -> Option<Notify<'static>> {
    let wanted = match core.role {
        Role::Initiator => core.config.replay_counter_sync,
        Role::Responder => core.replay_counters.is_some(),
    };
    wanted.then(|| Notify::new(NotifyType::IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED, &[]))
}

/// Takes in what the peer's part of IKE_AUTH says of it.
//= rfc6311#5
//# Only a capability whose support was asserted by
//# both parties can be used during the lifetime of the SA.
pub(crate) fn agree(core: &mut Core, contents: &Contents<'_>) {
    let supported = contents.has(NotifyType::IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED);
    core.replay_counters = (core.config.replay_counter_sync && supported).then(Limiter::default);
}

/// What we ask for, where it can be said: one length means all child SAs.
//= rfc6311#6.4
//# Note that this solution requires that either all Child SAs
//# use Extended Sequence Numbers (ESNs) or else that no Child SA uses
//# ESNs.
pub(crate) fn wish(core: &Core, children: &[ChildSa]) -> Option<ReplayCounterSync> {
    core.replay_counters.as_ref()?;
    of(children)
}

/// The same where both ends can.
pub(crate) fn of(children: &[ChildSa]) -> Option<ReplayCounterSync> {
    let mut esn = children.iter().map(|child| child.agreed.suite.esn);
    let extended = esn.next()?;
    esn.all(|other| other == extended)
        .then_some(ReplayCounterSync {
            delta: DELTA,
            extended,
        })
}

/// Tells the planes.
pub(crate) fn tell(core: &Core, cx: &mut Context<'_>, by: Party, counters: ReplayCounterSync) {
    cx.event(Event::ReplayCounters {
        ike: core.id,
        by,
        counters,
    });
}

/// Does what the peer asks for in an INFORMATIONAL of the usual kind.
//= rfc6311#5.2
//# Then, it MUST increment the replay counters
//# for all Child SAs associated with the current IKE SA by the amount
//# requested by the cluster member.
pub(crate) fn heed(core: &mut Core, cx: &mut Context<'_>, contents: &Contents<'_>) {
    let Some(limiter) = &mut core.replay_counters else {
        return;
    };
    let notify = contents.notify(NotifyType::IPSEC_REPLAY_COUNTER_SYNC);
    let Some(counters) = notify.and_then(|notify| ReplayCounterSync::parse(notify.data)) else {
        return;
    };
    if limiter.take_within(cx.now, REQUESTS, REQUESTS_TIME) {
        tell(core, cx, Party::Peer, counters);
    } else {
        cx.drop(DropReason::RateLimited);
    }
}

impl IkeSa {
    /// Has both ends go on with later sequence numbers, without a word of Message IDs.
    pub(crate) fn skip_sequences(&mut self, cx: &mut Context<'_>) {
        self.step(|state, core| match state {
            State::Established(s) => s.ask_to_skip(core, cx),
            other => other,
        });
    }
}

impl Established {
    fn ask_to_skip(mut self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        let wish = wish(core, &self.children).filter(|_| self.standing == Standing::Reigning);
        let Some(counters) = wish else {
            return State::Established(self);
        };
        //= rfc6311#5.2
        //# Upon failover, the newly active member MUST increment its own replay
        //# counter (the counter used for outgoing traffic), so as to prevent the
        //# case of its traffic being dropped by the peer as replay.
        tell(core, cx, Party::Us, counters);
        self.queue.push_back(Errand::ReplayCounters);
        self.proceed(core, cx)
    }
}
