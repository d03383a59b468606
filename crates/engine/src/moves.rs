//! Child SAs follow their IKE SA to other addresses (RFC 7296 §2.23, RFC 4555 §3.5): a peer behind a NAT whose
//! mapping has changed, a peer or this host that has another address now.
//!
//! SAs keep their keys, numbers and windows ([`MoveSa`]); the templates of their policies get the new addresses.
//! A child SA moves once at a time; what has changed meanwhile is caught up with when it has arrived.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use cygnet_ike::{ChildSaId, IkeSaId};
use cygnet_ipsec::{Command, Direction, Encap, EncapKind, Mapping, Mode, MoveSa, SaId};

use crate::engine::Engine;
use crate::event::Event;
use crate::io::Plane;
use crate::transaction::{Completion, Outcome, Step, Transaction};

/// Between what a child SA runs, ours first. Without encapsulation there are no ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    local: IpAddr,
    remote: IpAddr,
    ports: Option<(u16, u16)>,
}

impl Ends {
    pub(crate) fn new(local: SocketAddr, remote: SocketAddr, encapsulated: bool) -> Self {
        Self {
            local: local.ip(),
            remote: remote.ip(),
            ports: encapsulated.then_some((local.port(), remote.port())),
        }
    }

    fn encap(&self) -> Option<Encap> {
        self.ports.map(|(local_port, remote_port)| Encap {
            kind: EncapKind::Udp,
            local_port,
            remote_port,
        })
    }

    fn addresses(&self) -> (IpAddr, IpAddr) {
        (self.local, self.remote)
    }
}

/// A move that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    /// The SAs as they were called before.
    pub(crate) sas: [SaId; 2],
}

impl Engine {
    /// A data plane has seen protected packets of a child SA come from elsewhere.
    pub(crate) fn on_mapping(&mut self, now: Instant, plane: Plane, mapping: &Mapping) {
        if let Some(&child) = self.by_sa.get(&(plane, mapping.sa)) {
            self.endpoint.note_peer_address(now, child, mapping.new);
        }
    }

    /// Brings the child SAs of an IKE SA to where it is.
    pub(crate) fn follow(&mut self, now: Instant, ike: IkeSaId) {
        let children = self.endpoint.ike_sa(ike).map(|info| info.children);
        for child in children.unwrap_or_default() {
            self.follow_with(now, child);
        }
    }

    /// Brings one child SA to where its IKE SA is, unless it is there, or on its way to somewhere.
    pub(crate) fn follow_with(&mut self, now: Instant, child: ChildSaId) {
        let Some(info) = self.endpoint.child_sa(child) else {
            return;
        };
        let ends = Ends::new(info.local, info.remote, info.encapsulated);
        let Some(record) = self.children.get_mut(&child) else {
            return;
        };
        if record.ends == ends || record.installed_sas < 2 || record.departure.is_some() {
            return;
        }
        if info.mode == Mode::Transport && record.ends.addresses() != ends.addresses() {
            // Its selectors are the addresses themselves.
            return self.endpoint.delete_child(now, child);
        }
        let before = std::mem::replace(&mut record.ends, ends);
        record.departed_from = Some(before.addresses());
        let former = [record.inbound, record.outbound];
        record.departure = Some(Departure { sas: former });
        record.inbound.dst = ends.local;
        record.outbound.dst = ends.remote;
        let (plane, owner) = (record.plane, record.owner);
        let policies = record.policies.clone();
        for id in [record.inbound, record.outbound] {
            self.by_sa.insert((plane, id), child);
        }
        let [inbound, outbound] = former;
        let encap = ends.encap();
        // The peer's packets come from there already.
        let mut commands = vec![
            Command::MoveSa(MoveSa {
                id: inbound,
                src: ends.remote,
                dst: ends.local,
                encap,
            }),
            Command::MoveSa(MoveSa {
                id: outbound,
                src: ends.local,
                dst: ends.remote,
                encap,
            }),
        ];
        if before.addresses() != ends.addresses() {
            let shared = self.policies.entry(plane).or_default();
            for key in policies {
                let Some(mut policy) = shared.wanted_by(owner, &key).cloned() else {
                    continue;
                };
                for template in &mut policy.templates {
                    (template.src, template.dst) = match key.direction {
                        Direction::Out => (ends.local, ends.remote),
                        Direction::In | Direction::Fwd => (ends.remote, ends.local),
                    };
                }
                commands.push(shared.add(owner, policy));
            }
        }
        let steps = [Step::Execute { plane, commands }];
        self.run(
            now,
            Transaction::building(steps, Completion::ChildMoved { child }),
        );
    }

    pub(crate) fn on_child_moved(&mut self, now: Instant, child: ChildSaId, outcome: Outcome) {
        let Some(record) = self.children.get_mut(&child) else {
            return;
        };
        let plane = record.plane;
        let current = [record.inbound, record.outbound];
        match outcome {
            Outcome::Done => {
                let former = record.departure.take().map(|d| d.sas);
                for id in former.into_iter().flatten() {
                    if !current.contains(&id) && self.by_sa.get(&(plane, id)) == Some(&child) {
                        self.by_sa.remove(&(plane, id));
                    }
                }
                self.follow_with(now, child);
            }
            Outcome::Failed { text, .. } => {
                // Nobody knows any more what stands. All that may is removed with it; a new one is made where one is wanted.
                let connection = record.connection;
                if let Some(connection) = self.connections.get(&connection) {
                    let connection = connection.name.clone();
                    self.tell(Event::MoveFailed {
                        connection,
                        child,
                        text,
                    });
                }
                self.endpoint.delete_child(now, child);
            }
        }
        self.drain_endpoint(now);
    }

    /// Whether an ACQUIRE was raised by a policy whose SA was just leaving for other addresses.
    pub(crate) fn has_departed(
        &self,
        children: &[ChildSaId],
        acquire: &cygnet_ipsec::Acquire,
    ) -> bool {
        let template = (acquire.template.src, acquire.template.dst);
        children
            .iter()
            .filter_map(|child| self.children.get(child))
            .any(|c| {
                c.policies.contains(&acquire.policy)
                    && (c.departure.is_some() || c.departed_from == Some(template))
            })
    }
}
