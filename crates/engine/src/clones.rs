//! Child SAs of single CPUs beside the first one of a connection (`clones=`, RFC 9611).
//!
//! The first child SA carries all packets that have no other. The kernel tells of the CPUs on which it meets packets
//! without an SA of their own (an ACQUIRE with a CPU), and each of them gets a child SA with the same selectors, as long as
//! the configuration and the peer want more. They go with the first one.
//!
//! While such a question is open (until it is answered or for 30 s), the kernel drops all further packets of that CPU,
//! though the first child SA is there (K13). So the policies ask only as long as there is an answer to give.

use std::time::Instant;

use cygnet_ike::{AcquireHint, ChildFailure, ChildRequest, ChildSaId, ChildSaInfo, Resource};
use cygnet_ipsec::Direction;

use crate::connection_state::{ConnectionId, State};
use crate::engine::Engine;

/// The further child SAs of a connection that are being made, and whether there are to be more.
#[derive(Debug, Default)]
pub(crate) struct Clones {
    /// With their CPUs; at most as many as `clones=` says.
    pending: Vec<(ChildSaId, u32)>,
    /// No more are to be had from the peer under this first child SA.
    refused: bool,
    /// The packet that asked for the first child SA, if it was met on a CPU.
    first: Option<AcquireHint>,
}

/// Whether a child SA is one for a single CPU, by what it is for.
pub(crate) fn is_clone(resource: Option<Resource>) -> bool {
    matches!(resource, Some(Resource::Cpu(_)))
}

/// How many may be beside this one.
fn limit(fallback: &ChildSaInfo) -> usize {
    usize::try_from(fallback.config.clones).unwrap_or(usize::MAX)
}

impl Engine {
    /// The packet for which the first child SA is made. What is for a CPU comes after it.
    pub(crate) fn hint_for_first(&mut self, id: ConnectionId, hint: AcquireHint) -> AcquireHint {
        let first = AcquireHint {
            cpu: None,
            ..hint.clone()
        };
        if let Some(c) = self.connections.get_mut(&id) {
            c.clones.first = hint.cpu.is_some().then_some(hint);
        }
        first
    }

    /// Whether a connection has a child SA beside which there may be others for single CPUs.
    pub(crate) fn has_fallback(&self, id: ConnectionId) -> bool {
        self.connections
            .get(&id)
            .is_some_and(|c| self.fallback(c).is_some())
    }

    fn child_sas_of(&self, c: &State) -> impl DoubleEndedIterator<Item = ChildSaInfo> {
        let children = c.children.iter();
        children.filter_map(|id| self.endpoint.child_sa(*id))
    }

    fn fallback(&self, c: &State) -> Option<ChildSaInfo> {
        self.child_sas_of(c)
            .rfind(|info| info.resource == Some(Resource::Fallback))
    }

    fn clones_beside(
        &self,
        c: &State,
        fallback: &ChildSaInfo,
    ) -> impl Iterator<Item = ChildSaInfo> {
        let ike = fallback.ike;
        self.child_sas_of(c)
            .filter(move |info| is_clone(info.resource) && info.ike == ike)
    }

    /// Whether there are more for single CPUs than the configuration wants.
    pub(crate) fn has_too_many_clones(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|c| {
            self.fallback(c)
                .is_some_and(|fallback| self.clones_beside(c, &fallback).count() > limit(&fallback))
        })
    }

    /// Makes a child SA for the CPU on which a packet was met, unless there is one or there are enough.
    pub(crate) fn add_clone(&mut self, now: Instant, id: ConnectionId, hint: AcquireHint) {
        let (Some(cpu), Some(c)) = (hint.cpu, self.connections.get(&id)) else {
            return;
        };
        let Some(fallback) = self.fallback(c) else {
            return;
        };
        let cpus: Vec<Option<u32>> = self
            .clones_beside(c, &fallback)
            .map(|info| info.resource.and_then(Resource::cpu))
            .chain(c.clones.pending.iter().map(|(_, cpu)| Some(*cpu)))
            .collect();
        if self.has_enough_clones(c, &fallback)
            || c.unloaded
            || self.shutting_down
            || cpus.contains(&Some(cpu))
        {
            return;
        }
        let request = ChildRequest {
            config: fallback.config,
            acquire: Some(hint),
        };
        let child = self.endpoint.create_child(now, fallback.ike, request);
        if let (Some(child), Some(c)) = (child, self.connections.get_mut(&id)) {
            c.clones.pending.push((child, cpu));
        }
        self.ask_for_clones(id);
    }

    /// Whether there are not to be any more, those under way included.
    fn has_enough_clones(&self, c: &State, fallback: &ChildSaInfo) -> bool {
        let count = self.clones_beside(c, fallback).count() + c.clones.pending.len();
        c.clones.refused || count >= limit(fallback)
    }

    /// Whether the policies of a child SA that is about to be installed are to ask for SAs of single CPUs.
    pub(crate) fn asks_for_clones(&self, id: ConnectionId, resource: Option<Resource>) -> bool {
        resource.is_some_and(|resource| {
            let c = self.connections.get(&id);
            let fallback = c.and_then(|c| Some((c, self.fallback(c)?)));
            match fallback {
                Some((c, fallback)) => !self.has_enough_clones(c, &fallback),
                None => resource == Resource::Fallback,
            }
        })
    }

    /// Has the outbound policies of a connection's child SAs ask for SAs of single CPUs, or no longer, as is wanted now.
    pub(crate) fn ask_for_clones(&mut self, id: ConnectionId) {
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        let Some(fallback) = self.fallback(c) else {
            return;
        };
        let wanted = !self.has_enough_clones(c, &fallback);
        let plane = c.plane;
        let Some(shared) = self.policies.get_mut(&plane) else {
            return;
        };
        let mut commands = Vec::new();
        for child in c.children.iter().filter_map(|id| self.children.get(id)) {
            for key in &child.policies {
                if key.direction == Direction::Out {
                    commands.extend(shared.set_per_cpu(child.owner, key, wanted));
                }
            }
        }
        self.execute(plane, commands, "asking for SAs of single CPUs");
    }

    /// A first child SA stands, or its successor, under which the peer may have changed its mind: the CPU of the packet
    /// that has asked for it waits for one of its own.
    pub(crate) fn on_fallback(&mut self, now: Instant, id: ConnectionId) {
        let first = self.connections.get_mut(&id).and_then(|c| {
            c.clones.refused = false;
            c.clones.first.take()
        });
        if let Some(hint) = first {
            self.add_clone(now, id, hint);
        }
        self.ask_for_clones(id);
    }

    /// A child SA for a CPU stands, or could not be made. Whether it was one that is waited for.
    pub(crate) fn end_of_clone(
        &mut self,
        id: ConnectionId,
        child: ChildSaId,
        failure: Option<&ChildFailure>,
    ) -> bool {
        let Some(c) = self.connections.get_mut(&id) else {
            return false;
        };
        let before = c.clones.pending.len();
        c.clones.pending.retain(|(pending, _)| *pending != child);
        let was_pending = c.clones.pending.len() < before;
        // Whatever the reason is: the next one would fail by it too, while the packets of its CPU are dropped.
        if was_pending && failure.is_some_and(|failure| *failure != ChildFailure::Cancelled) {
            c.clones.refused = true;
        }
        if was_pending {
            self.ask_for_clones(id);
        }
        was_pending
    }

    /// What is being made for single CPUs is not wanted any more.
    pub(crate) fn cancel_clones(&mut self, now: Instant, id: ConnectionId) {
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        c.clones.first = None;
        // Each is forgotten when its failure is told.
        for (child, _) in c.clones.pending.clone() {
            self.endpoint.delete_child(now, child);
        }
    }

    /// A child SA has ended. If it was the first one, and has no successor, those for single CPUs go with it.
    pub(crate) fn end_clones_of(&mut self, now: Instant, id: ConnectionId, gone: &ChildSaInfo) {
        if gone.resource != Some(Resource::Fallback) || self.has_fallback(id) {
            return self.ask_for_clones(id);
        }
        self.cancel_clones(now, id);
        for child in self.children_under(gone.ike, id) {
            let info = self.endpoint.child_sa(child);
            if info.is_some_and(|info| is_clone(info.resource)) {
                self.endpoint.delete_child(now, child);
            }
        }
    }
}
