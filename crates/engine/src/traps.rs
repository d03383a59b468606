//! Traps, shunts and fences: what is in the databases while a connection has no SA.

use std::net::IpAddr;
use std::time::Instant;

use cygnet_ipsec::{Action, Policy, SaDirection, Selector};
use ipnet::IpNet;

use crate::commands::{Path, PolicyPlan, shunt_policies};
use crate::connection::{Connection, ConnectionKind};
use crate::connection_state::{ConnectionId, Intent, LastFailure, Trap};
use crate::engine::Engine;
use crate::event::Event;
use crate::io::{InterfaceUse, Plane, Protection, ProtectionId};
use crate::shared_policies::OwnerId;
use crate::timers::Timer;
use crate::transaction::{Completion, Outcome, Step, Transaction};

/// Whether more than policies and SAs has to be there for a connection: user space's fence and device, or an interface.
pub(crate) fn needs_protection(plane: Plane, config: &Connection) -> bool {
    plane == Plane::Userspace || config.child.interface.is_some()
}

impl Engine {
    pub(crate) fn install_trap(&mut self, now: Instant, id: ConnectionId) {
        let Some(c) = self.connections.get(&id) else {
            return;
        };
        let Ok(oriented) = &c.oriented else { return };
        let config = c.config.clone();
        let (plane, owner, reqid) = (c.plane, c.trap_owner, c.reqid);
        let selectors = oriented.selectors.clone();
        let earlier = c.trap_protection;
        let orientation = oriented.orientation.clone();
        let (local, local_is_left) = (orientation.local, orientation.local_is_left);
        let policies: Vec<Policy> = match (config.kind, oriented.orientation.remote) {
            (ConnectionKind::Passthrough, _) => {
                shunt_policies(&selectors, Action::Allow, &config.child)
            }
            (ConnectionKind::Drop, _) => shunt_policies(&selectors, Action::Block, &config.child),
            (_, None) => return,
            (_, Some(remote)) => PolicyPlan {
                selectors: &selectors,
                path: Path { local, remote },
                mode: oriented.child.preferred_mode(),
                protocol: config.child.protocol,
                compressed: false,
                reqid,
                per_cpu: oriented.child.clones > 0,
                options: &config.child,
            }
            .protecting(),
        };
        let mut steps = Vec::new();
        let mut protection_id = None;
        // Shunts have no peer and need none of it.
        if needs_protection(plane, &config)
            && let Some(remote) = orientation.remote
        {
            let mut protection = self.protection(&config, &selectors, local_is_left, remote);
            // What stands of an earlier try is replaced, not doubled.
            protection.id = earlier.unwrap_or(protection.id);
            protection_id = Some(protection.id);
            steps.push(Step::Protect(Box::new(protection)));
        }
        let keys = policies.iter().map(|p| p.key).collect();
        let shared = self.policies.entry(plane).or_default();
        let commands = policies.into_iter().map(|p| shared.add(owner, p)).collect();
        steps.push(Step::Execute { plane, commands });
        if let Some(c) = self.connections.get_mut(&id) {
            c.trap = Trap::Installing;
            c.trap_policies = keys;
            c.trap_protection = protection_id;
            c.trap_orientation = Some(orientation);
        }
        self.run(now, Transaction::building(steps, Completion::Trapped(id)));
    }

    /// The fence, device and routes of a connection whose peer has this address.
    pub(crate) fn protection(
        &mut self,
        config: &Connection,
        selectors: &[Selector],
        local_is_left: bool,
        peer: IpAddr,
    ) -> Protection {
        let id = ProtectionId(self.fresh_id());
        let unique = |nets: Vec<ipnet::IpNet>| {
            let mut nets = nets;
            nets.sort();
            nets.dedup();
            nets
        };
        let own = if local_is_left {
            &config.left
        } else {
            &config.right
        };
        let interface = config.child.interface.map(|interface| InterfaceUse {
            if_id: interface.if_id(),
            name: self.setup.manage_interfaces.then(|| interface.name()),
            addresses: match &own.interface_ips[..] {
                [] => own.source_ips.iter().copied().map(IpNet::from).collect(),
                addresses => addresses.to_vec(),
            },
            peer,
            mark: config.child.set_mark(SaDirection::Out),
            metric: config.child.metric,
        });
        // Between equal networks an interface gets no routes: what goes into it is the administrator's word (S1.4).
        let routed = |s: &&Selector| interface.is_none() || s.src != s.dst;
        let routes = selectors.iter().filter(routed).map(|s| s.dst).collect();
        Protection {
            id,
            routes: unique(routes),
            local: unique(selectors.iter().map(|s| s.src).collect()),
            source_ips: own.source_ips.clone(),
            selectors: selectors.to_vec(),
            mtu: config.child.mtu,
            interface,
        }
    }

    /// The steps that take policies and a fence away.
    pub(crate) fn removal_steps(
        &mut self,
        plane: Plane,
        owner: OwnerId,
        policies: Vec<cygnet_ipsec::PolicyKey>,
        sas: Vec<cygnet_ipsec::SaId>,
        protection: Option<ProtectionId>,
    ) -> Vec<Step> {
        let shared = self.policies.entry(plane).or_default();
        let mut commands: Vec<_> = policies
            .iter()
            .filter_map(|key| shared.remove(owner, key))
            .collect();
        commands.extend(sas.into_iter().map(cygnet_ipsec::Command::RemoveSa));
        let mut steps = Vec::new();
        if !commands.is_empty() {
            steps.push(Step::Execute { plane, commands });
        }
        // The fence is the last to fall.
        steps.extend(protection.map(Step::Unprotect));
        steps
    }

    pub(crate) fn remove_trap(&mut self, now: Instant, id: ConnectionId) {
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        let policies = std::mem::take(&mut c.trap_policies);
        let protection = c.trap_protection.take();
        let (plane, owner) = (c.plane, c.trap_owner);
        c.trap = Trap::Removing;
        let steps = self.removal_steps(plane, owner, policies, Vec::new(), protection);
        self.run(
            now,
            Transaction::tearing_down(steps, Completion::Untrapped(id)),
        );
    }

    pub(crate) fn on_trapped(&mut self, now: Instant, id: ConnectionId, outcome: Outcome) {
        let Some(c) = self.connections.get_mut(&id) else {
            return;
        };
        let connection = c.name.clone();
        match outcome {
            Outcome::Done => {
                c.trap = Trap::Installed;
                self.tell(Event::Trapped { connection });
            }
            Outcome::Failed { text, .. } => {
                // What could be raised stands, until the next try or until it is not wanted any
                // more: a tunnel that cannot be built must not let its traffic out in clear.
                c.trap = Trap::Failed(text.clone());
                c.last_failure = Some(LastFailure {
                    name: "trap_failed",
                    text: text.clone(),
                    at: now,
                });
                self.tell(Event::TrapFailed {
                    connection: connection.clone(),
                    text: text.clone(),
                });
                // Without the fence nothing may be sent either.
                match self.connections.get(&id).map(|c| c.intent) {
                    Some(Intent::Up) => {
                        return self.attempt_failed(now, id, "trap_failed", text, true);
                    }
                    Some(Intent::OnDemand) if !self.shutting_down => self.retry_trap(now, id),
                    _ => {}
                }
            }
        }
        self.reconcile(now, id);
    }

    /// Plans the next attempt to set a trap that waits for packets.
    fn retry_trap(&mut self, now: Instant, id: ConnectionId) {
        let random = self.random();
        if let Some(c) = self.connections.get_mut(&id) {
            let at = now + c.backoff.after_failure(random);
            c.retry_at = Some(at);
            self.timers.set(at, Timer::Retry(id));
        }
    }

    pub(crate) fn on_untrapped(&mut self, now: Instant, id: ConnectionId) {
        if let Some(c) = self.connections.get_mut(&id) {
            c.trap = Trap::None;
        }
        self.reconcile(now, id);
        self.forget_if_idle(id);
    }
}
