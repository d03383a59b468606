//! Taking over IKE SAs whose Message IDs, and sequence numbers of child SAs, may have gone on elsewhere (RFC 6311).

use std::time::Instant;

use cygnet_ike::{ChildSaId, IkeSaId, Party};
use cygnet_ipsec::{Command, SkipSequence};
use cygnet_wire::ReplayCounterSync;

use crate::engine::{Engine, UnknownConnection};
use crate::event::Event;
use crate::transaction::{Completion, Outcome, Step, Transaction};

impl Engine {
    /// Asks the peers of a connection to go on from Message IDs and sequence numbers that neither end has used, as far as
    /// that is agreed on, and renews the child SAs. The number of IKE SAs for which that can be done.
    ///
    /// # Errors
    /// If there is no such connection.
    pub fn synchronise(
        &mut self,
        now: Instant,
        connection: &str,
    ) -> Result<usize, UnknownConnection> {
        let id = self.find(connection)?;
        let ikes: Vec<IkeSaId> = self
            .connections
            .get(&id)
            .map(|c| c.ikes.iter().copied().collect())
            .unwrap_or_default();
        let mut asked = 0;
        for ike in ikes {
            asked += usize::from(self.endpoint.synchronise(now, ike));
        }
        self.drain_endpoint(now);
        Ok(asked)
    }

    /// The Message IDs are agreed on. The sequence numbers of child SAs may have gone on elsewhere, too: with new keys
    /// they begin anew.
    pub(crate) fn on_synchronised(&mut self, now: Instant, ike: IkeSaId) {
        for child in self.children_of(ike) {
            self.endpoint.rekey_child(now, child);
        }
    }

    fn children_of(&self, ike: IkeSaId) -> Vec<ChildSaId> {
        let info = self.endpoint.ike_sa(ike);
        info.map(|info| info.children).unwrap_or_default()
    }

    /// What we send on the child SAs of an IKE SA goes on with later sequence numbers. Where that cannot be, new keys do.
    pub(crate) fn on_replay_counters(
        &mut self,
        now: Instant,
        ike: IkeSaId,
        by: Party,
        counters: ReplayCounterSync,
    ) {
        let ids = self
            .endpoint
            .ike_sa(ike)
            .is_some_and(|info| info.message_id_sync);
        for child in self.children_of(ike) {
            let esn = self.endpoint.child_sa(child).map(|info| info.suite.esn);
            let fits = esn == Some(counters.extended);
            if fits {
                self.skip_sequence(now, child, counters.delta);
            }
            //= rfc6311#5.2
            //# In
            //# the latter case, a rekey SHOULD follow shortly afterwards, to ensure
            //# that the counter never wraps around.
            let soon = by == Party::Us && !ids;
            if soon || !fits {
                self.endpoint.rekey_child(now, child);
            }
        }
    }

    fn skip_sequence(&mut self, now: Instant, child: ChildSaId, by: u64) {
        let Some(record) = self.children.get_mut(&child) else {
            return;
        };
        // What is not sent on yet, or not any more.
        if record.deferred.is_some() || record.superseded || record.installed_sas < 2 {
            return;
        }
        // The SA may be gone for a moment, as in a move.
        record.moved = Some(now);
        let skip = SkipSequence {
            id: record.outbound,
            by,
        };
        let steps = [Step::Execute {
            plane: record.plane,
            commands: vec![Command::SkipSequence(skip)],
        }];
        let then = Completion::SequenceSkipped { child };
        self.run(now, Transaction::building(steps, then));
    }

    pub(crate) fn on_sequence_skipped(&mut self, now: Instant, child: ChildSaId, outcome: Outcome) {
        let Some(record) = self.children.get_mut(&child) else {
            return;
        };
        record.moved = Some(now);
        if let Outcome::Failed { text, .. } = outcome {
            let connection = self.connections.get(&record.connection);
            if let Some(connection) = connection.map(|c| c.name.clone()) {
                self.tell(Event::SkipFailed {
                    connection,
                    child,
                    text,
                });
            }
            self.endpoint.rekey_child(now, child);
        }
        self.drain_endpoint(now);
    }
}
