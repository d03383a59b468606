//! What the planes tell: packets without an SA, limits that SAs have reached.

use std::net::IpAddr;
use std::time::Instant;

use cygnet_ike::AcquireHint;
use cygnet_ipsec::SecurityLabel;
use cygnet_wire::TrafficSelector;

use crate::connection_state::State;
use crate::engine::Engine;
use crate::event::{AcquireRefusal, Event};
use crate::io::Plane;

impl Engine {
    /// A plane speaks up.
    pub(crate) fn on_plane_event(
        &mut self,
        now: Instant,
        plane: Plane,
        event: cygnet_ipsec::Event,
    ) {
        match event {
            cygnet_ipsec::Event::Acquire(acquire) => self.on_acquire(now, plane, &acquire),
            cygnet_ipsec::Event::Expire(expire) => {
                let Some(&child) = self.by_sa.get(&(plane, expire.sa)) else {
                    return;
                };
                if expire.hard {
                    self.endpoint.delete_child(now, child);
                } else {
                    self.endpoint.rekey_child(now, child);
                }
            }
            cygnet_ipsec::Event::Mapping(mapping) => self.on_mapping(now, plane, &mapping),
            // Policies here have no limits.
            cygnet_ipsec::Event::PolicyExpire(_) => {}
        }
    }

    /// What a plane has, after it could not tell everything: a child whose SA
    /// is gone has expired unheard.
    pub(crate) fn on_plane_sas(&mut self, now: Instant, plane: Plane, sas: &[cygnet_ipsec::SaId]) {
        let sas: std::collections::HashSet<_> = sas.iter().collect();
        let gone: Vec<cygnet_ike::ChildSaId> = self
            .children
            .iter()
            .filter(|(_, c)| c.plane == plane && c.installed_sas == 2 && c.departure.is_none())
            .filter(|(_, c)| !sas.contains(&c.inbound) || !sas.contains(&c.outbound))
            .map(|(id, _)| *id)
            .collect();
        for child in gone {
            self.endpoint.delete_child(now, child);
        }
    }

    /// A packet met a trap: whose? By reqid and policy, never by guess.
    fn on_acquire(&mut self, now: Instant, plane: Plane, acquire: &cygnet_ipsec::Acquire) {
        let reqid = acquire.template.reqid;
        let has_policy = |c: &State| {
            let mut records = c.children.iter().filter_map(|id| self.children.get(id));
            records.any(|record| record.policies.contains(&acquire.policy))
        };
        let owner = self.reqids.connections(reqid).find_map(|id| {
            let c = self.connections.get(&id)?;
            let is_ours = c.trap_policies.contains(&acquire.policy)
                // Those of child SAs ask too, for single CPUs.
                || acquire.cpu.is_some() && has_policy(c);
            (c.plane == plane && is_ours).then_some((id, c))
        });
        let Some((id, c)) = owner else {
            return self.tell(Event::ForeignAcquire { plane, reqid });
        };
        if self.has_departed(now, &c.children, acquire) {
            return;
        }
        let connection = c.name.clone();
        if let Some(reason) = label_refusal(c, acquire) {
            return self.tell(Event::AcquireRefused {
                connection,
                plane,
                selector: acquire.selector,
                reason,
            });
        }
        let has_children = !c.children.is_empty();
        let busy = c.negotiating.is_some() || c.unloaded || self.shutting_down;
        self.tell(Event::Acquired {
            connection,
            plane,
            selector: acquire.selector,
        });
        let hint = acquire_hint(acquire);
        if hint.cpu.is_some() && has_children {
            self.add_clone(now, id, hint);
            self.drain_endpoint(now);
        } else if !busy {
            let hint = Some(self.hint_for_first(id, hint));
            if let Some(c) = self.connections.get_mut(&id) {
                c.retry_at = None;
            }
            self.initiate(now, id, hint);
        }
    }
}

/// An SA with another label would not carry the packet, which would ask again and again.
fn label_refusal(c: &State, acquire: &cygnet_ipsec::Acquire) -> Option<AcquireRefusal> {
    let ours = c.config.child.kernel_label()?;
    let theirs = acquire.label.as_ref()?;
    // The kernel's contexts end with a zero octet, whether the configured one does or not.
    let text = |label: &SecurityLabel| {
        let bytes = label.as_bytes();
        bytes.strip_suffix(&[0]).unwrap_or(bytes).to_vec()
    };
    (text(ours) != text(theirs)).then(|| AcquireRefusal::LabelDiffers {
        ours: ours.clone(),
        theirs: theirs.clone(),
    })
}

/// The packet as the first, narrow traffic selectors of the proposal (RFC 7296 section 2.9).
fn acquire_hint(acquire: &cygnet_ipsec::Acquire) -> AcquireHint {
    let s = &acquire.selector;
    let icmp = matches!(s.protocol, 1 | 58);
    let selector = |address: IpAddr, own: cygnet_ipsec::PortMatch| {
        let (start_port, end_port) = match own.mask {
            u16::MAX if !icmp => (own.port, own.port),
            _ => (0, u16::MAX),
        };
        TrafficSelector {
            protocol: s.protocol,
            start_port,
            end_port,
            start: address,
            end: address,
        }
    };
    AcquireHint {
        seq: acquire.seq,
        local: selector(s.src.addr(), s.sport),
        remote: selector(s.dst.addr(), s.dport),
        cpu: acquire.cpu,
    }
}
