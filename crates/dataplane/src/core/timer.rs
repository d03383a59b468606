//! When SAs and policies want to be looked at.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use cygnet_ipsec::fast::SaIndex;
use hashbrown::HashSet;

/// What a timer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    /// An SA has a time limit.
    Sa(SaIndex),
    /// The policy of this index has a time limit.
    Policy(u32),
}

/// A heap of deadlines.
///
/// Nothing is ever taken out before its time: whoever comes too early, or for something that is
/// gone, finds nothing to do and sets the next deadline if there is one.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Timer)>>,
    pending: HashSet<(Instant, Timer)>,
}

impl Timers {
    /// Adds a deadline.
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        if self.pending.insert((at, timer)) {
            self.heap.push(Reverse((at, timer)));
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Timer> {
        let Reverse((at, timer)) = *self.heap.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.heap.pop();
        self.pending.remove(&(at, timer));
        Some(timer)
    }
}
