//! Whether the peer lives (RFC 7296 §2.4): before it is asked, the planes are, for what it has sent on the child SAs.
//!
//! Nothing is polled: one question when a check is due. Traffic puts the check off for another interval.

use std::time::{Duration, Instant};

use crate::child::ChildState;
use crate::context::Context;
use crate::errand::Errand;
use crate::established::Established;
use crate::exchange::mobike;
use crate::io::{Answer, ChildSaId, Request, RequestId};
use crate::sa::{Core, State};
use crate::succession::Standing;

/// How many child SAs are asked for at most, the youngest: where those are silent, the peer is asked itself.
const MOST_CHILDREN: usize = 16;
/// How long a plane may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The planes are asked for traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looking {
    request: RequestId,
    deadline: Instant,
}

impl Established {
    /// When something about liveness is due.
    pub(crate) fn liveness_deadline(&self, core: &Core) -> Option<Instant> {
        match self.looking {
            Some(looking) => Some(looking.deadline),
            None => self.check_due(core),
        }
    }

    /// When a liveness check is due; none while something is said that brings a sign of life.
    fn check_due(&self, core: &Core) -> Option<Instant> {
        let interval = core.config.liveness.filter(|_| self.may_probe(core))?;
        let heard = mobike::unreached_since(core).or(core.last_heard);
        let heard = heard.or(core.established)?;
        Some(heard + interval)
    }

    /// Does what is due.
    pub(crate) fn on_liveness_timeout(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
    ) -> State {
        if let Some(looking) = self.looking {
            if looking.deadline > cx.now {
                return self.proceed(core, cx);
            }
            self.looking = None;
            return self.check_if_due(core, cx);
        }
        if self.check_due(core).is_none_or(|at| at > cx.now) {
            return self.proceed(core, cx);
        }
        //= rfc7296#2.4
        //# Receipt of a fresh cryptographically
        //# protected message on an IKE SA or any of its Child SAs ensures
        //# liveness of the IKE SA and all of its Child SAs.
        let installed = self.children.iter().rev();
        let installed = installed.filter(|child| matches!(child.state, ChildState::Installed));
        let children: Vec<ChildSaId> = installed
            .map(|child| child.id)
            .take(MOST_CHILDREN)
            .collect();
        if children.is_empty() {
            return self.check_liveness(core, cx);
        }
        let ike = core.id;
        self.looking = Some(Looking {
            request: cx.request(ike, Request::LookForTraffic { ike, children }),
            deadline: cx.now + PATIENCE,
        });
        self.proceed(core, cx)
    }

    /// Whether this answers the question for traffic.
    pub(crate) fn looks_for_traffic(&self, id: RequestId) -> bool {
        self.looking.is_some_and(|looking| looking.request == id)
    }

    /// The planes have answered.
    pub(crate) fn on_traffic(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        answer: Answer,
    ) -> State {
        self.looking = None;
        if answer == Answer::Traffic(true) {
            core.last_heard = Some(cx.now);
            mobike::on_reached(core, cx.now);
        }
        self.check_if_due(core, cx)
    }

    fn check_if_due(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        // The peer may have been heard meanwhile.
        match self.check_due(core) {
            Some(at) if at <= cx.now => self.check_liveness(core, cx),
            _ => self.proceed(core, cx),
        }
    }

    /// Asks for a sign of life, unless one is asked for already.
    //= rfc7296#2.4
    //# If no cryptographically protected
    //# messages have been received on an IKE SA or any of its Child SAs
    //# recently, the system needs to perform a liveness check in order to
    //# prevent sending messages to a dead peer.
    pub(crate) fn check_liveness(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
    ) -> State {
        if self.may_probe(core) {
            self.queue.push_back(Errand::Liveness);
        }
        self.proceed(core, cx)
    }

    /// Whether a sign of life may be asked for: nothing is said, or waits to be, that would bring one.
    fn may_probe(&self, core: &Core) -> bool {
        let silent = core.outgoing.is_idle() && self.current.is_none() && self.queue.is_empty();
        silent && self.standing == Standing::Reigning
    }
}
