//! Reqids: allocated for connections and for children with a reqid of their
//! own, and the way from a reqid in an ACQUIRE back to the connections.

use std::collections::BTreeSet;

use crate::connection_state::ConnectionId;

/// First reqid that is given out; smaller ones are the user's (`reqid=`).
const FIRST: u32 = 16384;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Reqids {
    /// None from here on has been given out.
    next: u32,
    /// Given out and given back, all below `next`.
    free: BTreeSet<u32>,
    used: BTreeSet<(u32, ConnectionId)>,
}

impl Default for Reqids {
    fn default() -> Self {
        Self {
            next: FIRST,
            free: BTreeSet::new(),
            used: BTreeSet::new(),
        }
    }
}

impl Reqids {
    /// The smallest free reqid.
    pub(crate) fn allocate(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            let reqid = self.next;
            self.next = self.next.saturating_add(1);
            reqid
        })
    }

    /// Gives a reqid back; one that the user chose was not ours to give.
    pub(crate) fn release(&mut self, reqid: u32) {
        if (FIRST..self.next).contains(&reqid) {
            self.free.insert(reqid);
        }
    }

    /// The policies of a connection carry this reqid. Several may, with `reqid=`.
    pub(crate) fn assign(&mut self, reqid: u32, connection: ConnectionId) {
        self.used.insert((reqid, connection));
    }

    /// A connection is gone.
    pub(crate) fn unassign(&mut self, reqid: u32, connection: ConnectionId) {
        self.used.remove(&(reqid, connection));
        self.release(reqid);
    }

    /// Whose policies carry a reqid.
    pub(crate) fn connections(&self, reqid: u32) -> impl Iterator<Item = ConnectionId> + '_ {
        self.used
            .range((reqid, ConnectionId(0))..=(reqid, ConnectionId(u64::MAX)))
            .map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_free_one_is_given_out_and_found_again() {
        let mut reqids = Reqids::default();
        let (a, b) = (reqids.allocate(), reqids.allocate());
        assert_eq!((a, b), (FIRST, FIRST + 1));
        reqids.assign(a, ConnectionId(1));
        reqids.assign(7, ConnectionId(2));
        reqids.assign(7, ConnectionId(3));
        let of = |reqids: &Reqids, reqid| reqids.connections(reqid).collect::<Vec<_>>();
        assert_eq!(of(&reqids, 7), [ConnectionId(2), ConnectionId(3)]);
        reqids.unassign(a, ConnectionId(1));
        reqids.unassign(7, ConnectionId(2));
        assert_eq!(of(&reqids, a), []);
        assert_eq!(of(&reqids, 7), [ConnectionId(3)]);
        assert_eq!((reqids.allocate(), reqids.allocate()), (a, FIRST + 2));
    }
}
