//! Requests of ours on an established IKE SA: those that wait for the window, and those that are under way
//! (RFC 7296 §2.3).

use std::time::{Duration, Instant};

use cygnet_wire::{Gateway, Notify, NotifyType, PayloadWriter, Spi};

use crate::child::{ChildSa, ChildState, Wanted};
use crate::context::Context;
use crate::established::Established;
use crate::exchange::create_child_sa::{CreatingChild, MAX_FORGOTTEN, RekeyingIke, SpiWanted};
use crate::exchange::mobike::{self, Ask};
use crate::exchange::{redirect, replay_counter_sync, set_window_size};
use crate::io::ChildSaId;
use crate::proposal::SaSpi;
use crate::reason::CloseReason;
use crate::sa::Core;

/// The first wait after TEMPORARY_FAILURE. It doubles, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// The longest wait after TEMPORARY_FAILURE.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long a peer may go on to say TEMPORARY_FAILURE.
const PATIENCE: Duration = Duration::from_secs(180);

/// Something that we want to say.
#[derive(Debug)]
pub(crate) enum Errand {
    /// An empty INFORMATIONAL (RFC 7296 §2.4).
    Liveness,
    /// Delete a child SA.
    DeleteChild(ChildSaId),
    /// Delete a child SA that only the peer believes in, by our SPI.
    DeleteSpi(SaSpi),
    /// Delete the IKE SA.
    DeleteIke(CloseReason),
    /// Something about addresses.
    Mobike(Ask),
    /// Tell the peer of a problem.
    Complain {
        kind: NotifyType,
        spi: Option<SaSpi>,
        data: Vec<u8>,
    },
    /// Send the peer to another gateway.
    Redirect(Gateway),
    /// Tell the peer how many requests it may send at a time.
    Window(u32),
    /// Have the peer go on with later sequence numbers.
    ReplayCounters,
    /// Give the peer our token of the IKE SA.
    CrashToken,
    /// Ask for a ticket (RFC 5723).
    Ticket,
    /// A CREATE_CHILD_SA.
    Create(Plan),
}

impl Errand {
    /// The payloads of those that are INFORMATIONAL.
    pub(crate) fn write(&self, children: &[ChildSa], payloads: &mut PayloadWriter<'_>) {
        match self {
            Self::Liveness | Self::Mobike(_) | Self::CrashToken | Self::Create(_) => {}
            Self::DeleteChild(id) => {
                for child in children.iter().filter(|child| child.id == *id) {
                    let SaSpi { protocol, spi } = child.agreed.own_spi();
                    payloads.delete(protocol, &[Spi(spi)]);
                }
            }
            Self::DeleteSpi(SaSpi { protocol, spi }) => {
                payloads.delete(*protocol, &[Spi(*spi)]);
            }
            Self::DeleteIke(_) => {
                payloads.delete_ike();
            }
            Self::Redirect(to) => {
                let data = redirect::data(to, &[]);
                payloads.notify(&Notify::new(NotifyType::REDIRECT, &data));
            }
            Self::ReplayCounters => {
                if let Some(counters) = replay_counter_sync::of(children) {
                    counters.write(payloads);
                }
            }
            Self::Window(size) => set_window_size::write(*size, payloads),
            Self::Ticket => {
                payloads.notify(&Notify::new(NotifyType::TICKET_REQUEST, &[]));
            }
            Self::Complain { kind, spi, data } => {
                let sa = spi.map(|sa| (sa.protocol, Spi(sa.spi).to_bytes()));
                let mut notify = Notify::new(*kind, data);
                if let Some((protocol, octets)) = &sa {
                    notify.protocol = *protocol;
                    notify.spi = octets;
                }
                payloads.notify(&notify);
            }
        }
    }
}

/// A CREATE_CHILD_SA that we want to make.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) what: What,
    pub(crate) patience: Patience,
}

/// What a CREATE_CHILD_SA is for.
#[derive(Debug)]
pub(crate) enum What {
    /// A further child SA.
    Child(Wanted),
    /// A successor of a child SA.
    Rekey(ChildSaId),
    /// A successor of the IKE SA.
    Ike,
}

impl Plan {
    pub(crate) fn new(what: What) -> Self {
        let patience = Patience::default();
        Self { what, patience }
    }
}

/// How often and since when the peer has put us off.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    since: Option<Instant>,
    times: u32,
    /// So many times it has lost its state in the middle of additional key exchanges.
    forgotten: u32,
}

impl Patience {
    /// The peer has lost its state.
    pub(crate) fn forgotten(&mut self) {
        self.forgotten = self.forgotten.saturating_add(1);
    }

    /// When to ask again after one more TEMPORARY_FAILURE or STATE_NOT_FOUND; `None`: the peer has had its chances.
    /// `renewed`: the IKE SA, if it is that one that is to be renewed, not a child SA.
    //= rfc7296#2.25
    //# When a peer receives a TEMPORARY_FAILURE
    //# notification, it MUST NOT immediately retry the operation; it MUST
    //# wait so that the sender may complete whatever operation caused the
    //# temporary condition.  The recipient MAY retry the request one or more
    //# times over a period of several minutes.
    pub(crate) fn wait(&mut self, cx: &mut Context<'_>, renewed: Option<&Core>) -> Option<Instant> {
        let since = *self.since.get_or_insert(cx.now);
        let tired = cx.now.saturating_duration_since(since) >= PATIENCE;
        if tired || self.forgotten > MAX_FORGOTTEN {
            return None;
        }
        let longest = FIRST_WAIT
            .saturating_mul(1 << self.times.min(4))
            .min(LONGEST_WAIT);
        self.times = self.times.saturating_add(1);
        let random = u32::from(u16::from_be_bytes(cx.random()));
        let half = longest / 2;
        let wait = half + half / 65_536 * random;
        let Some(core) = renewed else {
            return Some(cx.now + wait);
        };
        // Two ends that block each other must not go on to do so: one renews the IKE SA, the other a child SA, which is
        // to be over when the IKE SA is renewed again. Of the time that is left to the IKE SA no more than half goes by.
        let left = core.ends().map(|end| end.saturating_duration_since(cx.now));
        let most = left.map_or(Duration::MAX, |left| (left / 2).max(FIRST_WAIT));
        Some(cx.now + (wait + longest).min(most))
    }
}

/// An errand that waits for its time.
#[derive(Debug)]
pub(crate) struct Later {
    pub(crate) at: Instant,
    pub(crate) plan: Plan,
}

/// The CREATE_CHILD_SA that is under way.
#[derive(Debug)]
pub(crate) enum Current {
    /// Before CREATE_CHILD_SA: the data plane has been asked for an SPI.
    SpiWanted(Box<SpiWanted>),
    /// CREATE_CHILD_SA for a child SA, and its IKE_FOLLOWUP_KE.
    Child(Box<CreatingChild>),
    /// CREATE_CHILD_SA for a successor of the IKE SA, and its IKE_FOLLOWUP_KE.
    Ike(Box<RekeyingIke>),
}

impl Current {
    /// The child SA that it makes beside the others.
    pub(crate) fn begins(&self) -> Option<&Wanted> {
        match self {
            Self::SpiWanted(wanted) => wanted.begins(),
            Self::Child(creating) => creating.begins(),
            Self::Ike(_) => None,
        }
    }

    /// Whether it renews this child SA.
    pub(crate) fn concerns(&self, id: ChildSaId) -> bool {
        match self {
            Self::SpiWanted(wanted) => wanted.replaces == Some(id),
            Self::Child(creating) => creating.replaces == Some(id),
            Self::Ike(_) => false,
        }
    }
}

impl Established {
    /// The next thing to say, if anything may be said now. The end of the IKE SA, its renewal and its moves go alone.
    pub(crate) fn next_errand(&mut self, core: &mut Core) -> Option<Errand> {
        let spi_wanted = matches!(self.current, Some(Current::SpiWanted(_)));
        // The SPI that is waited for is for a request, too.
        if core.outgoing.room() <= u32::from(spi_wanted) {
            return None;
        }
        // It is not known yet under which Message ID.
        if core.synchronisation.as_ref().is_some_and(|s| s.is_asking()) {
            return None;
        }
        let renewing = matches!(self.current, Some(Current::Ike(_)));
        if renewing || self.is_under_way(|errand| matches!(errand, Errand::Mobike(_))) {
            return None;
        }
        let idle = self.current.is_none() && core.outgoing.is_idle();
        let (ending, renewal) = match self.queue.front() {
            Some(Errand::DeleteIke(_)) => (true, false),
            Some(Errand::Create(plan)) => (false, matches!(plan.what, What::Ike)),
            _ => (false, false),
        };
        let moving = !ending && mobike::wants(core);
        if (ending || renewal || moving) && !idle {
            return None;
        }
        if moving {
            return mobike::next(core).map(Errand::Mobike);
        }
        let next = self.queue.iter().position(|errand| match errand {
            Errand::DeleteIke(_) => idle,
            Errand::DeleteChild(id) => !self.is_being_renewed(*id),
            // One after the other: what the peer is making may be what we want.
            Errand::Create(_) if self.current.is_some() || self.answering.is_some() => false,
            Errand::Create(plan) => match &plan.what {
                What::Ike => idle,
                What::Rekey(id) => !self.is_deleting(*id),
                What::Child(_) => true,
            },
            _ => true,
        });
        self.queue.remove(next?)
    }

    /// Whether we are making a successor of a child SA. Until that can receive, the peer must not be told to leave the
    /// old one: it would turn to the successor at once.
    fn is_being_renewed(&self, id: ChildSaId) -> bool {
        let is_installing = |child: &ChildSa| {
            child.replaces == Some(id) && matches!(child.state, ChildState::Installing { .. })
        };
        self.current.as_ref().is_some_and(|c| c.concerns(id))
            || self.children.iter().any(is_installing)
    }

    /// Tells the peer how many requests it may send at a time, unless that is one.
    pub(crate) fn announce_window(&mut self, core: &Core) {
        if core.config.window > 1 {
            self.queue.push_back(Errand::Window(core.config.window));
        }
    }
}
