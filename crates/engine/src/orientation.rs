//! Which end of each connection is ours, as addresses, names and routes come and go.

use std::net::IpAddr;
use std::time::Instant;

use cygnet_wire::TrafficSelector;

use crate::connection::{Connection, HostSpec};
use crate::connection_state::{ConnectionId, Oriented};
use crate::directory;
use crate::engine::{Engine, Waiting};
use crate::event::Event;
use crate::io::{Answer, Request, ResolveQuery};
use crate::orient::{Unoriented, orient};
use crate::selectors::outbound_selectors;
use crate::timers::Timer;

impl Engine {
    /// Decides anew which end of a connection is ours.
    pub(crate) fn orient(&mut self, id: ConnectionId) {
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        let config = c.config.clone();
        let oriented = orient(&config, &self.known).map(|orientation| {
            let features = self.features_of(c.plane);
            let cpus = self.options.cpus;
            let (peer, child) =
                directory::build(id, &config, &orientation, &self.setup, features, cpus);
            let (local, remote) = orientation.ends(&config);
            let own: Vec<TrafficSelector> = local
                .subnets
                .iter()
                .map(|ts| ts.resolve(orientation.local))
                .collect();
            let theirs: Vec<TrafficSelector> = match orientation.remote {
                Some(address) => remote
                    .subnets
                    .iter()
                    .map(|ts| ts.resolve(address))
                    .collect(),
                None => Vec::new(),
            };
            let selectors = outbound_selectors(&own, &theirs).unwrap_or_default();
            Oriented {
                orientation,
                peer,
                child,
                selectors,
            }
        });
        if let Err(Unoriented::Unresolved(query)) = &oriented {
            self.resolve(query.clone());
        }
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        c.adrift = false;
        if let Err(reason) = &oriented
            && c.oriented.as_ref().err() != Some(reason)
        {
            let event = Event::Unoriented {
                connection: c.name.clone(),
                text: reason.to_string(),
            };
            c.oriented = oriented;
            return self.tell(event);
        }
        c.oriented = oriented;
    }

    fn resolve(&mut self, query: ResolveQuery) {
        if !self.asked.contains_key(&query) {
            let id = self.ask(
                Request::Resolve(query.clone()),
                Waiting::Resolve(query.clone()),
            );
            self.asked.insert(query, id);
        }
    }

    pub(crate) fn on_resolved(&mut self, now: Instant, query: ResolveQuery, answer: Answer) {
        self.asked.remove(&query);
        let addresses = match answer {
            Answer::Addresses(addresses) => addresses,
            _ => Vec::new(),
        };
        let is_name = matches!(query, ResolveQuery::Name(_));
        let found_nothing = addresses.is_empty();
        if found_nothing && is_name && self.known.answers.contains_key(&query) {
            // An address that was good once is better than none while the resolver is out of order.
        } else {
            let earlier = self.known.answers.insert(query.clone(), addresses.clone());
            if is_name && earlier.is_some_and(|earlier| earlier != addresses) {
                self.follow_name(now, &query);
            }
        }
        self.orient_unoriented(now);
        if !(found_nothing && is_name) {
            return;
        }
        // No event tells when a resolver works again: it has to be asked.
        let waiting: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| matches!(&c.oriented, Err(Unoriented::NotFound(q)) if *q == query))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            let random = self.random();
            if let Some(c) = self.connections.get_mut(&id) {
                let at = now + c.backoff.after_failure(random);
                self.timers.clear(Timer::Retry(id));
                self.timers.set(at, Timer::Retry(id));
            }
        }
    }

    /// Asks once more for the names of a connection that does not come up: the peer may have moved.
    pub(crate) fn look_up_again(&mut self, id: ConnectionId) {
        let Some(c) = self.connections.get(&id).filter(|c| !c.unloaded) else {
            return;
        };
        for query in names(&c.config.clone()) {
            self.resolve(query);
        }
    }

    /// A name has other addresses now: what is not up and uses it looks for its peer there.
    fn follow_name(&mut self, now: Instant, query: &ResolveQuery) {
        let using: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| !c.unloaded && c.oriented.is_ok())
            .filter(|(_, c)| c.children.is_empty() && c.negotiating.is_none())
            .filter(|(_, c)| names(&c.config).any(|name| name == *query))
            .map(|(id, _)| *id)
            .collect();
        for &id in &using {
            self.orient(id);
        }
        self.refresh_directory();
        for id in using {
            self.reconcile(now, id);
        }
    }

    /// The set of our addresses changed.
    pub(crate) fn on_addresses(&mut self, now: Instant, addresses: Vec<IpAddr>) {
        let ours = addresses.into_iter().collect();
        if ours == self.known.ours {
            return;
        }
        self.known.ours = ours;
        // Whatever was found by asking about our own interfaces may be different now.
        self.known
            .answers
            .retain(|query, _| matches!(query, ResolveQuery::Name(_)));
        let lost: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| {
                c.oriented
                    .as_ref()
                    .is_ok_and(|o| !self.known.ours.contains(&o.orientation.local))
            })
            .map(|(id, _)| *id)
            .collect();
        self.tell_addresses(now);
        self.drain_endpoint(now);
        for id in lost {
            let mobile = self.is_mobile(id);
            let Some(c) = self.connections.get_mut(&id) else {
                continue;
            };
            if mobile {
                // When it has no SAs any more, another address will be looked for.
                c.adrift = true;
                continue;
            }
            let intent = c.intent;
            // The trap stays: what is to be protected must not find its way in clear meanwhile.
            c.oriented = Err(Unoriented::NotOurs);
            // Without its address an SA cannot say good-bye; it ends here and is made anew.
            self.take_down(now, id, intent);
        }
        self.orient_unoriented(now);
    }

    /// Routes changed: questions about routes are worth asking again.
    pub(crate) fn on_routes_changed(&mut self, now: Instant) {
        self.known.answers.retain(|query, found| {
            !found.is_empty() && !matches!(query, ResolveQuery::DefaultRoute { .. })
        });
        self.orient_unoriented(now);
    }

    fn orient_unoriented(&mut self, now: Instant) {
        let ids: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, c)| c.oriented.is_err() && !c.unloaded)
            .map(|(id, _)| *id)
            .collect();
        for &id in &ids {
            self.orient(id);
            if let Some(c) = self.connections.get_mut(&id).filter(|c| c.oriented.is_ok()) {
                // What it waited for is there. A trap that could not be set would wait for a retry that is not to come.
                c.retry_at = None;
                c.trap.forgive();
                self.timers.clear(Timer::Retry(id));
            }
        }
        self.tell_addresses(now);
        self.refresh_directory();
        for id in ids {
            self.reconcile(now, id);
        }
    }
}

/// The names that a connection's ends are looked up by.
fn names(connection: &Connection) -> impl Iterator<Item = ResolveQuery> + '_ {
    [&connection.left, &connection.right]
        .into_iter()
        .filter_map(|end| match &end.host.value {
            HostSpec::Name(name) => Some(ResolveQuery::Name(name.clone())),
            _ => None,
        })
}
