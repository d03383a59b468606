//! The engine's deadlines: one per timer, found by time and by name, so that no
//! timer costs work that grows with the number of SAs.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use cygnet_ike::{ChildSaId, IkeSaId};

use crate::connection_state::ConnectionId;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Try the connection again.
    Retry(ConnectionId),
    /// Make a successor of the IKE SA.
    RenewIke(IkeSaId),
    /// The IKE SA has reached the end of its life.
    ExpireIke(IkeSaId),
    /// A younger IKE SA has stood beside this one for a while.
    Redundant(IkeSaId),
    /// The peer has made a child SA at the same time as this one, which is the one to go.
    Duplicate(ChildSaId),
    /// Has the child SA carried anything?
    Inactivity(ChildSaId),
    /// Nothing is on its way any more to the inbound SA that the child SA has left.
    Lingering(ChildSaId),
}

/// All deadlines.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Instant, Timer)>,
    due: HashMap<Timer, Instant>,
}

impl Timers {
    /// Sets a timer, anew if it was set already.
    pub(crate) fn set(&mut self, at: Instant, timer: Timer) {
        self.clear(timer);
        self.due.insert(timer, at);
        self.queue.insert((at, timer));
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.due.remove(&timer) {
            self.queue.remove(&(at, timer));
        }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// When this one is due; `None`: it is not set.
    pub(crate) fn due(&self, timer: Timer) -> Option<Instant> {
        self.due.get(&timer).copied()
    }

    /// Takes out one that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.queue.first().filter(|(at, _)| *at <= now)?;
        self.queue.remove(&(at, timer));
        self.due.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_timer_is_due_once_at_the_time_set_last() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let (a, b) = (Timer::RenewIke(IkeSaId(1)), Timer::ExpireIke(IkeSaId(1)));
        let mut timers = Timers::default();
        timers.set(at(1), a);
        timers.set(at(2), b);
        timers.set(at(3), a);
        assert_eq!(timers.next(), Some(at(2)));
        assert_eq!(timers.pop(at(1)), None, "it was set anew");
        assert_eq!(timers.pop(at(9)), Some(b));
        assert_eq!(timers.due(a), Some(at(3)));
        timers.clear(a);
        assert_eq!((timers.pop(at(9)), timers.next()), (None, None));
    }
}
