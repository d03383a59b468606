//! What becomes of an IKE SA that is renewed, and of its successor (RFC 7296 §2.8, §2.8.2).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::child::{ChildSa, ChildState};
use crate::context::{Context, Path};
use crate::errand::{Current, Errand, Later, What};
use crate::established::Established;
use crate::exchange::crash_detection;
use crate::exchange::mobike::{ChildPath, Mobike};
use crate::info::{IkeSaInfo, NatSituation, Role};
use crate::io::{Event, IkeKeyLog, IkeSaId};
use crate::sa::{Core, State};

/// How long we wait at least for the peer to delete what it should delete, before we do.
pub(crate) const OVERDUE: Duration = Duration::from_secs(120);

/// When the peer should have deleted what it is to delete: later than a request of ours, or of a peer that has our
/// patience, can have been repeated.
pub(crate) fn overdue(core: &Core, cx: &Context<'_>) -> Instant {
    let patience = core.config.retransmit.timeout.saturating_mul(2);
    cx.now + OVERDUE.max(patience)
}

/// What an IKE SA is, seen from a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The one that counts.
    Reigning,
    /// The peer has made it as a successor while we were making one: which one stays is open, or the other one. It
    /// serves nothing yet. If the peer does not delete it until then, we do.
    Pretending { until: Instant },
    /// Its successor has taken over, and the peer will delete it; we do at this time.
    Succeeded { until: Instant },
    /// The peer has been sent to another gateway, and will delete it; we do at this time.
    SentAway { until: Instant },
}

/// The successor of an IKE SA, as it will be told of when it takes over.
#[derive(Debug)]
pub(crate) struct Heir {
    pub(crate) ike: IkeSaId,
    pub(crate) info: Box<IkeSaInfo>,
    pub(crate) keys: Option<Box<IkeKeyLog>>,
}

/// What goes from an IKE SA to its successor.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) to: IkeSaId,
    pub(crate) children: Vec<ChildSa>,
    errands: VecDeque<Errand>,
    later: Vec<Later>,
    /// We want the IKE SA deleted.
    unwanted: bool,
    place: Place,
}

/// Where an IKE SA and its child SAs are. They may have moved since the successor was made.
#[derive(Debug)]
struct Place {
    path: Path,
    nat: NatSituation,
    mobike: Option<Box<Mobike>>,
    children_at: Option<ChildPath>,
}

impl Place {
    fn of(core: &Core) -> Self {
        Self {
            path: core.path,
            nat: core.nat,
            mobike: core.mobike.as_ref().map(|mobike| Box::new(mobike.heir())),
            children_at: core.children_at,
        }
    }

    fn give(self, core: &mut Core) {
        let Self {
            path,
            nat,
            mobike,
            children_at,
        } = self;
        core.path = path;
        core.nat = nat;
        core.mobike = mobike;
        core.children_at = children_at;
    }
}

impl Established {
    /// Gives everything to the successor.
    //= rfc7296#2.8
    //# An IKE SA so
    //# created inherits all of the original IKE SA's Child SAs, and the new
    //# IKE SA is used for all control messages needed to maintain those
    //# Child SAs.
    pub(crate) fn hand_over(&mut self, core: &mut Core, cx: &mut Context<'_>, heir: Heir) {
        let Heir { ike, info, keys } = heir;
        cx.shared.stats.established = cx.shared.stats.established.saturating_add(1);
        cx.event(Event::IkeEstablished { ike, info, keys });
        let children = std::mem::take(&mut self.children);
        for child in &children {
            cx.shared.children.insert(child.id, ike);
            if let ChildState::Installing { request, .. } = child.state {
                cx.reassign(request, ike);
            }
        }
        let mut errands = std::mem::take(&mut self.queue);
        // What is not known to have been heard is said again.
        errands.extend(self.informational.drain(..).map(|(_, errand)| errand));
        // What belongs to this IKE SA stays here.
        errands.retain(|errand| match errand {
            Errand::Liveness
            | Errand::Window(_)
            | Errand::CrashToken
            | Errand::Mobike(_)
            | Errand::Ticket
            | Errand::DeleteIke(_) => false,
            Errand::Create(plan) => !matches!(plan.what, What::Ike),
            _ => true,
        });
        let mut later = std::mem::take(&mut self.later);
        later.retain(|later| !matches!(later.plan.what, What::Ike));
        let wanted = errands
            .iter()
            .filter_map(|errand| match errand {
                Errand::Create(plan) => Some(plan),
                _ => None,
            })
            .chain(later.iter().map(|later| &later.plan));
        for plan in wanted {
            if let What::Child(wanted) = &plan.what {
                cx.shared.children.insert(wanted.id, ike);
            }
        }
        cx.event(Event::ChildrenMoved {
            from: core.id,
            to: ike,
            children: children.iter().map(|child| child.id).collect(),
        });
        cx.shared.transfers.push(Transfer {
            to: ike,
            children,
            errands,
            later,
            unwanted: std::mem::take(&mut core.unwanted),
            place: Place::of(core),
        });
        self.standing = Standing::Succeeded {
            until: overdue(core, cx),
        };
    }

    /// Takes over from the predecessor.
    pub(crate) fn inherit(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        transfer: Transfer,
    ) -> State {
        core.announced = true;
        core.unwanted |= transfer.unwanted;
        transfer.place.give(core);
        self.standing = Standing::Reigning;
        self.children.extend(transfer.children);
        self.queue.extend(transfer.errands);
        self.later.extend(transfer.later);
        self.announce_window(core);
        //= rfc6290#4.3
        //# If the initiator is also a token maker, it SHOULD initiate an
        //# INFORMATIONAL exchange immediately after the CREATE_CHILD_SA exchange
        if core.role == Role::Initiator && crash_detection::own(core, cx).is_some() {
            self.queue.push_back(Errand::CrashToken);
        }
        self.proceed(core, cx)
    }

    /// It ends. If it was yet to take over, whoever has made it must not count on it.
    pub(crate) fn withdraw(&self, core: &Core, cx: &mut Context<'_>) {
        if let (Standing::Pretending { .. }, Some(old)) = (self.standing, core.replaces) {
            cx.shared.withdrawn.push((old, core.id));
        }
    }

    /// The successor that the peer has made while we are making one has ended.
    pub(crate) fn forget_heir(&mut self, heir: IkeSaId) {
        if let Some(Current::Ike(rekeying)) = &mut self.current {
            rekeying.forget_heir(heir);
        }
    }
}
