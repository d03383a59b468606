//! Inbound SAs of child SAs in whose place there are others: kept for a little while,
//! for what the peer sent before it turned to the successor and that arrives
//! after the message by which it deleted the old one (RFC 7296 section 2.8).

use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_ike::ChildSaId;
use cygnet_ipsec::{Command, SaId};

use crate::connection_state::ConnectionId;
use crate::engine::{Child, Engine};
use crate::io::Plane;
use crate::timers::Timer;

/// How long packets may be on their way.
const ON_THE_WAY: Duration = Duration::from_secs(5);

/// An inbound SA whose child SA is gone.
#[derive(Debug)]
pub(crate) struct Lingering {
    connection: ConnectionId,
    plane: Plane,
    inbound: SaId,
    comp_in: Option<SaId>,
    own_reqid: Option<Arc<u32>>,
}

impl Engine {
    /// Leaves the inbound SA of a child SA that is removed.
    pub(crate) fn leave_inbound(&mut self, now: Instant, child: ChildSaId, record: &Child) {
        let rest = Lingering {
            connection: record.connection,
            plane: record.plane,
            inbound: record.inbound,
            comp_in: record.comp_in,
            own_reqid: record.own_reqid.clone(),
        };
        self.lingering.insert(child, rest);
        self.timers.set(now + ON_THE_WAY, Timer::Lingering(child));
    }

    /// Removes one.
    pub(crate) fn remove_lingering(&mut self, child: ChildSaId) {
        self.timers.clear(Timer::Lingering(child));
        let Some(rest) = self.lingering.remove(&child) else {
            return;
        };
        if let Some(reqid) = rest.own_reqid.and_then(Arc::into_inner) {
            self.reqids.release(reqid);
        }
        let sas = [Some(rest.inbound), rest.comp_in].into_iter().flatten();
        let commands = sas.map(Command::RemoveSa).collect();
        self.execute(
            rest.plane,
            commands,
            "removing an SA that another one has replaced",
        );
    }

    /// Removes those of a connection that is taken down.
    pub(crate) fn remove_lingering_of(&mut self, id: ConnectionId) {
        let of_it = self.lingering.iter().filter(|(_, l)| l.connection == id);
        for child in of_it.map(|(child, _)| *child).collect::<Vec<_>>() {
            self.remove_lingering(child);
        }
    }
}
