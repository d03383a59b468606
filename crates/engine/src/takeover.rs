//! Taking over IKE SAs whose Message IDs may have gone on elsewhere (RFC 6311).

use std::time::Instant;

use cygnet_ike::{ChildSaId, IkeSaId};

use crate::engine::{Engine, UnknownConnection};

impl Engine {
    /// Asks the peers of a connection to go on from Message IDs that neither end has used, and renews the child SAs when
    /// they have answered. The number of IKE SAs for which that can be done.
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
        let children: Vec<ChildSaId> = self
            .endpoint
            .child_sas()
            .filter(|info| info.ike == ike)
            .map(|info| info.id)
            .collect();
        for child in children {
            self.endpoint.rekey_child(now, child);
        }
    }
}
