//! Child SAs follow their IKE SA to other addresses (RFC 7296 §2.23, RFC 4555 §3.5): a peer behind a NAT whose
//! mapping has changed, a peer or this host that has another address now.
//!
//! SAs keep their keys, numbers and windows ([`MoveSa`]); the templates of their policies get the new addresses.
//! A child SA moves once at a time; what has changed meanwhile is caught up with when it has arrived.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use cygnet_ike::{ChildSaId, IkeSaId, RequestId};
use cygnet_ipsec::{Command, Direction, Encap, EncapKind, Mapping, Mode, MoveSa, SaId};
use ipnet::IpNet;

use crate::connection_state::ConnectionId;
use crate::engine::Engine;
use crate::event::Event;
use crate::io::Plane;
use crate::transaction::{Completion, Outcome, Step, Transaction};

/// How late an ACQUIRE may come that was raised between two commands of a move: it goes another way than their answers.
const LATE_ACQUIRE: Duration = Duration::from_secs(5);

/// Between what a child SA runs, ours first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    local: IpAddr,
    remote: IpAddr,
    encap: Option<Encap>,
}

impl Ends {
    pub(crate) fn new(
        local: SocketAddr,
        remote: SocketAddr,
        encapsulation: Option<EncapKind>,
    ) -> Self {
        Self {
            local: local.ip(),
            remote: remote.ip(),
            encap: encapsulation.map(|kind| Encap {
                kind,
                local_port: local.port(),
                remote_port: remote.port(),
            }),
        }
    }

    fn addresses(&self) -> (IpAddr, IpAddr) {
        (self.local, self.remote)
    }
}

/// A move that is under way, or that has failed.
#[derive(Clone, Debug)]
pub(crate) struct Departure {
    /// The SAs as they were called before.
    pub(crate) sas: Vec<SaId>,
    pub(crate) under_way: bool,
    /// The child SA is to be removed when the move is over, and what the endpoint asked that with.
    pub(crate) removal: Option<Option<RequestId>>,
}

impl Engine {
    /// A data plane has seen protected packets of a child SA come from elsewhere.
    pub(crate) fn on_mapping(&mut self, now: Instant, plane: Plane, mapping: &Mapping) {
        if let Some(&child) = self.by_sa.get(&(plane, mapping.sa)) {
            self.endpoint.note_peer_address(now, child, mapping.new);
        }
    }

    /// Tells the IKE SAs at which addresses this host may be reached: not those that only protected traffic has.
    pub(crate) fn tell_addresses(&mut self, now: Instant) {
        let oriented = self.connections.values().filter_map(|c| {
            let oriented = c.oriented.as_ref().ok()?;
            Some((&c.config, oriented))
        });
        let mut inner = Vec::new();
        for (config, oriented) in oriented {
            let (own, _) = oriented.orientation.ends(config);
            inner.extend(own.source_ips.iter().copied().map(IpNet::from));
            inner.extend(own.interface_ips.iter().map(|net| IpNet::from(net.addr())));
            // All that there is names nothing in particular, and a host is its own outer address.
            let nets = oriented.selectors.iter().map(|s| s.src);
            inner.extend(nets.filter(|net| {
                net.prefix_len() > 0 && *net != IpNet::from(oriented.orientation.local)
            }));
        }
        let listen = &self.setup.listen;
        let outer = self.known.ours.iter().copied().filter(|address| {
            (listen.is_empty() || listen.contains(address))
                && !inner.iter().any(|net| net.contains(address))
        });
        let outer = outer.collect();
        self.endpoint.set_addresses(now, outer);
    }

    /// Whether a connection has SAs that go on without the address that it has lost.
    pub(crate) fn is_mobile(&self, id: ConnectionId) -> bool {
        self.ikes_in_use(id).any(|ike| ike.mobike)
    }

    /// Where SAs of a connection have gone: our address. One that has been made there cannot move on, perhaps.
    pub(crate) fn gone_to(&self, id: ConnectionId) -> Option<IpAddr> {
        self.ikes_in_use(id)
            .map(|ike| ike.local.ip())
            .find(|local| self.known.ours.contains(local))
    }

    /// The IKE SAs that the child SAs of a connection are under.
    fn ikes_in_use(&self, id: ConnectionId) -> impl Iterator<Item = cygnet_ike::IkeSaInfo> {
        let children = self.connections.get(&id).map(|c| c.children.as_slice());
        children
            .unwrap_or_default()
            .iter()
            .filter_map(|child| self.endpoint.child_sa(*child))
            .filter_map(|child| self.endpoint.ike_sa(child.ike))
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
        let ends = Ends::new(info.local, info.remote, info.encapsulation);
        let Some(record) = self.children.get_mut(&child) else {
            return;
        };
        // One that is not sent on yet, or not any more, has no outbound SA.
        let inbound_only = record.deferred.is_some() || record.superseded;
        let installed = record.installed_sas == 2 || inbound_only && record.installed_sas == 1;
        if record.ends == ends || !installed || record.departure.is_some() {
            return;
        }
        if info.mode == Mode::Transport && record.ends.addresses() != ends.addresses() {
            // Its selectors are the addresses themselves.
            return self.endpoint.delete_child(now, child);
        }
        let outbound = SaId {
            dst: ends.remote,
            ..record.outbound
        };
        // The peer chose this SPI: another one behind the same NAT may have it. Its SA is not to go with this one.
        let taken = self.by_sa.get(&(record.plane, outbound));
        if taken.is_some_and(|other| *other != child) {
            return self.endpoint.delete_child(now, child);
        }
        let before = std::mem::replace(&mut record.ends, ends);
        let former = [record.inbound, record.outbound];
        let comps = [record.comp_in, record.comp_out];
        let sas = former.into_iter().chain(comps.into_iter().flatten());
        record.departure = Some(Departure {
            sas: sas.collect(),
            under_way: true,
            removal: None,
        });
        record.inbound.dst = ends.local;
        record.outbound.dst = ends.remote;
        let (plane, owner) = (record.plane, record.owner);
        let policies = record.policies.clone();
        for id in [record.inbound, record.outbound] {
            self.by_sa.insert((plane, id), child);
        }
        if let Some(id) = &mut record.comp_in {
            id.dst = ends.local;
        }
        if let Some(id) = &mut record.comp_out {
            id.dst = ends.remote;
        }
        if let Some(sa) = &mut record.deferred_comp {
            (sa.id.dst, sa.src) = (ends.remote, ends.local);
        }
        let [inbound, outbound] = former;
        let encap = ends.encap;
        let outbound = MoveSa {
            id: outbound,
            src: ends.local,
            dst: ends.remote,
            encap,
        };
        // The peer's packets come from there already.
        let mut commands = vec![Command::MoveSa(MoveSa {
            id: inbound,
            src: ends.remote,
            dst: ends.local,
            encap,
        })];
        match &mut record.deferred {
            Some(sa) => {
                (sa.id.dst, sa.src, sa.encap) = (outbound.dst, outbound.src, outbound.encap)
            }
            None if record.superseded => {}
            None => commands.push(Command::MoveSa(outbound)),
        }
        let ways = [(ends.remote, ends.local), (ends.local, ends.remote)];
        for (comp, (src, dst)) in comps.into_iter().zip(ways) {
            // The headers of ESP around it are what goes into UDP.
            let encap = None;
            let moved = comp.filter(|_| before.addresses() != ends.addresses());
            commands.extend(moved.map(|id| {
                Command::MoveSa(MoveSa {
                    id,
                    src,
                    dst,
                    encap,
                })
            }));
        }
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
        // The way past an interface is there before the packets that need it.
        let mut steps: Vec<Step> = self.lead_to(child, ends.remote).into_iter().collect();
        steps.push(Step::Execute { plane, commands });
        self.run(
            now,
            Transaction::building(steps, Completion::ChildMoved { child }),
        );
    }

    /// What an interface's protection has to be for a peer at another address; `None` if there is nothing to change.
    fn lead_to(&mut self, child: ChildSaId, peer: IpAddr) -> Option<Step> {
        let led = self.children.get_mut(&child)?.led.as_mut()?;
        let interface = led.interface.as_mut()?;
        let moves = std::mem::replace(&mut interface.peer, peer) != peer;
        moves.then(|| Step::Protect(led.clone()))
    }

    pub(crate) fn on_child_moved(&mut self, now: Instant, child: ChildSaId, outcome: Outcome) {
        let Some(record) = self.children.get_mut(&child) else {
            return;
        };
        let plane = record.plane;
        let current = [record.inbound, record.outbound];
        let mut removal = None;
        if let Some(departure) = &mut record.departure {
            departure.under_way = false;
            removal = departure.removal.take();
        }
        match outcome {
            Outcome::Done => {
                record.moved = Some(now);
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
        if let Some(request) = removal {
            self.remove_child(now, request, child);
        }
        self.drain_endpoint(now);
    }

    /// Whether an ACQUIRE was raised by a policy whose SA was just leaving for other addresses.
    pub(crate) fn has_departed(
        &self,
        now: Instant,
        children: &[ChildSaId],
        acquire: &cygnet_ipsec::Acquire,
    ) -> bool {
        let recent = |at: Instant| now.saturating_duration_since(at) < LATE_ACQUIRE;
        children
            .iter()
            .filter_map(|child| self.children.get(child))
            .filter(|c| c.policies.contains(&acquire.policy))
            .any(|c| c.departure.is_some() || c.moved.is_some_and(recent))
    }
}
