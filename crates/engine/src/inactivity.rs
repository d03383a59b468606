//! `inactivity=`: a child SA that carries nothing for that long is deleted.
//!
//! The planes are not polled: when the time is over one question tells what a
//! child SA has carried since, and if that is something the time starts anew.

use std::time::Instant;

use cygnet_ike::ChildSaId;
use cygnet_ipsec::{Command, Reply};

use crate::connection_state::Intent;
use crate::engine::{Engine, Waiting};
use crate::io::{Answer, Request};
use crate::timers::Timer;

/// A child SA is asked about so many times in its time: it may live on for one such part longer.
const QUESTIONS: u32 = 4;

impl Engine {
    /// Sets the time of the next question about a child SA, if it is one to be asked about.
    pub(crate) fn watch_inactivity(&mut self, now: Instant, child: ChildSaId) {
        let Some(record) = self.children.get(&child) else {
            return;
        };
        let config = self.connections.get(&record.connection).map(|c| &c.config);
        if let Some(time) = config.and_then(|c| c.child.inactivity) {
            self.timers
                .set(now + time / QUESTIONS, Timer::Inactivity(child));
        }
    }

    /// Asks what a child SA has carried.
    pub(crate) fn ask_for_activity(&mut self, child: ChildSaId) {
        let Some(record) = self.children.get(&child) else {
            return;
        };
        let request = Request::Execute {
            plane: record.plane,
            commands: vec![
                Command::QuerySa(record.inbound),
                Command::QuerySa(record.outbound),
            ],
        };
        self.ask(request, Waiting::Activity(child));
    }

    pub(crate) fn on_activity(&mut self, now: Instant, child: ChildSaId, answer: Answer) {
        let Answer::Executed(results) = answer else {
            // Nobody can tell: better an SA too many than one too few.
            return self.watch_inactivity(now, child);
        };
        let packets = results.iter().map(|result| match result {
            Ok(Reply::Sa(report)) => report.counters.packets,
            _ => 0,
        });
        let packets = packets.fold(0u64, u64::saturating_add);
        let Some(record) = self.children.get_mut(&child) else {
            return;
        };
        let owner = record.connection;
        let Some(c) = self.connections.get_mut(&owner) else {
            return;
        };
        let Some(time) = c.config.child.inactivity else {
            return;
        };
        if packets != record.packets {
            record.packets = packets;
            record.idle_since = now;
        }
        if now.saturating_duration_since(record.idle_since) < time {
            return self.watch_inactivity(now, child);
        }
        if c.intent == Intent::Up {
            c.intent = c.config.quiet();
        }
        self.endpoint.delete_child(now, child);
    }
}
