//! Packets that wait for their SA.
//!
//! A trap's first packets wait, a bounded number per policy and over all, while the key manager
//! negotiates; they go out when the SA arrives and are dropped when its larval state expires (K5).
//! Where a queue is full the newest packet is dropped: what waits longest is what the connection
//! began with.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::packet::Packet;

/// A packet that waits, and the if_id of the device it came from.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) packet: Packet,
    pub(super) if_id: u32,
}

/// The queues by policy index.
#[derive(Debug, Default)]
pub(super) struct HoldQueues {
    queues: HashMap<u32, VecDeque<Held>>,
    total: usize,
}

impl HoldQueues {
    /// Puts a packet into a policy's queue, or gives it back if there is no room.
    pub(super) fn hold(
        &mut self,
        policy: u32,
        held: Held,
        per_policy: usize,
        total: usize,
    ) -> Result<(), Packet> {
        if self.total >= total || per_policy == 0 {
            return Err(held.packet);
        }
        let queue = self.queues.entry(policy).or_default();
        if queue.len() >= per_policy {
            return Err(held.packet);
        }
        queue.push_back(held);
        self.total += 1;
        Ok(())
    }

    /// Takes all packets of a policy.
    pub(super) fn take(&mut self, policy: u32) -> VecDeque<Held> {
        let queue = self.queues.remove(&policy).unwrap_or_default();
        self.total -= queue.len();
        queue
    }

    /// The policies with waiting packets.
    pub(super) fn policies(&self) -> Vec<u32> {
        self.queues.keys().copied().collect()
    }

    /// Does nothing wait?
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        Held {
            packet: Packet::new(),
            if_id: 0,
        }
    }

    #[test]
    fn queues_are_bounded_each_and_together() {
        let mut queues = HoldQueues::default();
        assert!(queues.hold(1, held(), 2, 3).is_ok());
        assert!(queues.hold(1, held(), 2, 3).is_ok());
        assert!(queues.hold(1, held(), 2, 3).is_err(), "per policy");
        assert!(queues.hold(9, held(), 2, 3).is_ok());
        assert!(queues.hold(9, held(), 2, 3).is_err(), "over all");
        assert_eq!(queues.take(1).len(), 2);
        assert_eq!(queues.policies(), [9]);
        assert!(queues.hold(9, held(), 2, 3).is_ok());
        assert_eq!(queues.take(9).len(), 2);
        assert!(queues.is_empty());
        assert!(
            queues.hold(1, held(), 0, 3).is_err(),
            "a limit of 0 holds nothing"
        );
    }
}
