//! The policy check of inbound and forwarded packets (K9).

use super::{Databases, selector_matches};
use crate::{
    Action, Counter, Direction, Family, Inbound, InboundPacket, Mode, Policy, PolicyType, Sa,
    Template,
};

impl Databases {
    /// Whether a packet may be delivered (`In`) or forwarded (`Fwd`), given the SAs it was opened with.
    pub fn check(&self, direction: Direction, packet: &InboundPacket<'_>) -> Inbound {
        if packet.disable_policy {
            return Inbound::Accept {
                policy: None,
                verified: packet.verified,
            };
        }
        // Each SA must have been meant for what it carried.
        for sa in packet.secpath.iter().rev() {
            let Some(selector) = &sa.selector else {
                continue;
            };
            let quoted = if sa.flags.icmp { packet.quoted } else { None };
            if !selector_matches(selector, packet.flow)
                && !quoted.is_some_and(|quoted| selector_matches(selector, quoted))
            {
                return Inbound::Drop(Counter::InStateMismatch);
            }
        }

        let mut first = self.lookup_policy(direction, packet.flow, packet.if_id);
        if first.is_none() && direction == Direction::Fwd {
            first = packet
                .quoted
                .and_then(|quoted| self.lookup_policy(Direction::Fwd, quoted, packet.if_id));
        }
        let Some(first) = first.map(|p| &p.policy) else {
            return self.check_without_policy(direction, packet);
        };
        let mut policies = vec![first];
        if first.key.policy_type == PolicyType::Sub {
            // The kernel asks the main table for an `in` policy here, also of a forwarded packet.
            let main = self.lookup_policy_of_type(
                PolicyType::Main,
                Direction::In,
                packet.flow,
                packet.if_id,
            );
            policies.extend(main.map(|p| &p.policy));
        }
        if first.action == Action::Block {
            return Inbound::Drop(Counter::InPolBlock);
        }
        let mut templates: Vec<&Template> = Vec::new();
        for policy in &policies {
            if policy.action == Action::Block {
                return Inbound::Drop(Counter::InPolBlock);
            }
            if templates.len() + policy.templates.len() >= Policy::MAX_TEMPLATES {
                return Inbound::Drop(Counter::InBufferError);
            }
            templates.extend(&policy.templates);
        }
        if policies.len() > 1 && packet.flow.family() == Family::V6 {
            templates.sort_by_key(|template| match template.mode {
                Mode::Transport => 1,
                Mode::RouteOptimization | Mode::InTrigger => 2,
                Mode::Tunnel | Mode::Beet | Mode::Iptfs => 3,
            });
        }

        // The last template is the outermost, and so is the first SA.
        let mut position = 0;
        for template in templates.iter().rev() {
            match find_in_secpath(template, packet, position) {
                Some(next) => position = next,
                None => return Inbound::Drop(Counter::InTmplMismatch),
            }
        }
        if packet
            .secpath
            .iter()
            .skip(position)
            .any(|sa| sa.mode != Mode::Transport)
        {
            return Inbound::Drop(Counter::InTmplMismatch);
        }
        Inbound::Accept {
            policy: Some(first.index),
            verified: position,
        }
    }

    fn check_without_policy(&self, direction: Direction, packet: &InboundPacket<'_>) -> Inbound {
        let tunnelled = packet.secpath.iter().any(|sa| sa.mode != Mode::Transport);
        if self.default_action(direction) == Action::Block || tunnelled {
            Inbound::Drop(Counter::InNoPols)
        } else {
            Inbound::Accept {
                policy: None,
                verified: packet.verified,
            }
        }
    }
}

/// The position behind the SA that a template accounts for, looking from `start` on; `None` if there is none.
fn find_in_secpath(template: &Template, packet: &InboundPacket<'_>, start: usize) -> Option<usize> {
    if template.optional && template.mode == Mode::Transport {
        return Some(start);
    }
    for (position, sa) in packet.secpath.iter().enumerate().skip(start) {
        if serves(template, sa, packet.if_id) {
            return Some(position + 1);
        }
        // A tunnel is not passed over, unless an earlier check has accounted for it.
        if sa.mode != Mode::Transport && position >= packet.verified {
            break;
        }
    }
    template.optional.then_some(start)
}

fn serves(template: &Template, sa: &Sa, if_id: u32) -> bool {
    sa.id.protocol == template.protocol
        && (template.spi == 0 || sa.id.spi == template.spi)
        && (template.reqid == 0 || sa.reqid == template.reqid)
        && sa.mode == template.mode
        // Of the addresses the kernel compares the source only.
        && (sa.mode == Mode::Transport || template.src.is_unspecified() || sa.src == template.src)
        && (if_id == 0 || sa.if_id == if_id)
}
