//! What comes in on child SAs shows that a peer lives (RFC 7296 §2.4).
//!
//! The planes are not polled: the endpoint asks when a liveness check is due.

use std::time::Instant;

use cygnet_ike::{ChildSaId, Input, RequestId};
use cygnet_ipsec::{Command, Reply};

use crate::engine::{Engine, Waiting};
use crate::io::{Answer, Request};

impl Engine {
    /// Asks the plane of the first of these child SAs what they have received. An IKE SA may have child SAs on both planes:
    /// if those of the one are silent, the peer is asked, which is never wrong.
    pub(crate) fn look_for_traffic(
        &mut self,
        now: Instant,
        request: RequestId,
        mut children: Vec<ChildSaId>,
    ) {
        let plane = |child: &ChildSaId| self.children.get(child).map(|record| record.plane);
        let Some(first) = children.iter().find_map(plane) else {
            return self.tell_traffic(now, request, false);
        };
        children.retain(|child| plane(child) == Some(first));
        let inbound = children.iter().filter_map(|child| self.children.get(child));
        let commands = inbound
            .map(|record| Command::QuerySa(record.inbound))
            .collect();
        let question = Request::Execute {
            plane: first,
            commands,
        };
        self.ask(question, Waiting::Traffic { request, children });
    }

    pub(crate) fn on_traffic(
        &mut self,
        now: Instant,
        request: RequestId,
        children: &[ChildSaId],
        answer: Answer,
    ) {
        let results = match answer {
            Answer::Executed(results) => results,
            // Nobody can tell.
            _ => Vec::new(),
        };
        let mut seen = false;
        for (child, result) in children.iter().zip(results) {
            if let (Some(record), Ok(Reply::Sa(report))) = (self.children.get_mut(child), result) {
                let received = report.counters.packets;
                seen |= received > record.received;
                record.received = received;
            }
        }
        self.tell_traffic(now, request, seen);
    }

    fn tell_traffic(&mut self, now: Instant, id: RequestId, seen: bool) {
        let answer = cygnet_ike::Answer::Traffic(seen);
        self.endpoint.handle(now, Input::Answer { id, answer });
    }
}
