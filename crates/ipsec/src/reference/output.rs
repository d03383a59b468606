//! The way of an outbound packet through policies and templates to SAs (K2 to K5).

use std::net::IpAddr;

use super::{Databases, State, mark_accepts, selector_matches};
use crate::{
    Action, Bundle, Direction, Family, InstalledPolicy, Missing, Mode, Outbound, OutboundDrop,
    OutboundLookup, OutboundLookupError, OutboundPacket, Policy, PolicyType, Protocol, Resolution,
    SaDirection, Selector,
};

impl Databases {
    /// What becomes of an outbound packet, made here or forwarded. Changes nothing: larval states for what is missing
    /// are the business of [`begin_acquire`](Databases::begin_acquire).
    pub fn output(&self, packet: &OutboundPacket<'_>) -> Resolution<u64> {
        let policy = if packet.disable_xfrm && packet.if_id == 0 {
            None
        } else {
            self.lookup_policy(Direction::Out, packet.flow, packet.if_id)
        };
        match policy {
            Some(policy) => self.follow(packet, policy),
            None => {
                let verdict = match self.default_action(Direction::Out) {
                    Action::Allow => Outbound::Clear { policy: None },
                    Action::Block => Outbound::Drop(OutboundDrop::Default),
                };
                Resolution {
                    verdict,
                    missing: Vec::new(),
                }
            }
        }
    }

    /// The same for a packet of a socket that has a policy of its own (IP_XFRM_POLICY). If it matches, `flow.mark`
    /// being the socket's mark, it takes the place of the policy that a lookup would give; else it is ignored (K2).
    pub fn output_of_socket(
        &self,
        packet: &OutboundPacket<'_>,
        policy: &InstalledPolicy,
    ) -> Resolution<u64> {
        let key = &policy.policy.key;
        let matches = key.if_id == packet.if_id
            && mark_accepts(key.mark, packet.flow.mark)
            && selector_matches(&key.selector, packet.flow);
        if matches {
            self.follow(packet, policy)
        } else {
            self.output(packet)
        }
    }

    fn follow(&self, packet: &OutboundPacket<'_>, first: &InstalledPolicy) -> Resolution<u64> {
        let mut policies = vec![&first.policy];
        if first.policy.action == Action::Allow && first.policy.key.policy_type == PolicyType::Sub {
            let main = self.lookup_policy_of_type(
                PolicyType::Main,
                Direction::Out,
                packet.flow,
                packet.if_id,
            );
            policies.extend(main.map(|main| &main.policy));
        }
        if let Some(policy) = policies
            .iter()
            .find(|policy| policy.action == Action::Block)
        {
            let verdict = Outbound::Drop(OutboundDrop::Blocked {
                policy: policy.index,
            });
            return Resolution {
                verdict,
                missing: Vec::new(),
            };
        }

        let mut found = Vec::new();
        let mut missing = Vec::new();
        if policies.iter().all(|policy| policy.templates.is_empty()) {
            let verdict = Outbound::Clear {
                policy: Some(first.policy.index),
            };
            return Resolution { verdict, missing };
        }
        for policy in &policies {
            if found.len() + policy.templates.len() >= Policy::MAX_TEMPLATES {
                let verdict = Outbound::Drop(OutboundDrop::TooManyTemplates);
                return Resolution { verdict, missing };
            }
            match self.resolve(packet, policy, &mut missing) {
                Ok(states) => found.extend(states),
                Err(drop) => {
                    return Resolution {
                        verdict: Outbound::Drop(drop),
                        missing,
                    };
                }
            }
        }
        if policies.len() > 1 && packet.flow.family() == Family::V6 {
            found.sort_by_key(|x| order_among_ipv6(x));
        }
        let mut sas = Bundle::new();
        for x in found {
            sas.push(x.serial);
        }
        let policy = first.policy.index;
        let verdict = if sas.is_empty() {
            Outbound::Clear {
                policy: Some(policy),
            }
        } else {
            Outbound::Protect { policy, sas }
        };
        Resolution { verdict, missing }
    }

    /// The SAs for one policy's templates, in their order (K4).
    fn resolve(
        &self,
        packet: &OutboundPacket<'_>,
        policy: &Policy,
        missing: &mut Vec<Missing>,
    ) -> Result<Vec<&State>, OutboundDrop> {
        let mut found = Vec::new();
        let mut src = packet.flow.src;
        let mut dst = packet.flow.dst;
        for template in &policy.templates {
            let (local, remote) = if template.mode.is_tunnel_type() {
                let local = if template.src.is_unspecified() {
                    (packet.route_source)(template.dst).ok_or(OutboundDrop::NoSource)?
                } else {
                    template.src
                };
                (local, template.dst)
            } else {
                (src, dst)
            };
            let error = match self.find_outbound(policy, template, packet.flow, local, remote) {
                OutboundLookup::Found(serial) => {
                    let Some(x) = self.state(serial) else {
                        continue;
                    };
                    if x.sa.direction != SaDirection::Out {
                        return Err(OutboundDrop::WrongDirection);
                    }
                    found.push(x);
                    (src, dst) = (local, remote);
                    continue;
                }
                OutboundLookup::Acquire => {
                    missing.push(Missing {
                        policy: policy.key,
                        policy_index: policy.index,
                        template: *template,
                        selector: Selector::of_flow(packet.flow),
                        src: specified_or(template.src, local),
                        dst: specified_or(template.dst, remote),
                    });
                    OutboundDrop::NoState {
                        policy: policy.index,
                    }
                }
                OutboundLookup::Pending | OutboundLookup::Error(OutboundLookupError::Dead) => {
                    OutboundDrop::NoState {
                        policy: policy.index,
                    }
                }
                OutboundLookup::Error(OutboundLookupError::SpiTaken) => OutboundDrop::SpiTaken,
            };
            if !template.optional {
                return Err(error);
            }
        }
        Ok(found)
    }
}

fn specified_or(address: IpAddr, otherwise: IpAddr) -> IpAddr {
    if address.is_unspecified() {
        otherwise
    } else {
        address
    }
}

/// The order of SAs from two policies, for IPv6 (RFC 3775 §11.3.2 and its kin): transport but AH, Mobile IPv6, AH,
/// tunnels.
fn order_among_ipv6(x: &State) -> u8 {
    match (x.sa.mode, x.sa.id.protocol) {
        (Mode::Transport, Protocol::Esp | Protocol::Comp) => 1,
        (Mode::RouteOptimization | Mode::InTrigger, _) => 2,
        (Mode::Transport, Protocol::Ah) => 3,
        (Mode::Tunnel | Mode::Beet | Mode::Iptfs, _) => 4,
    }
}
