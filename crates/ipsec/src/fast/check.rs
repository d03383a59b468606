//! The policy check of inbound and forwarded packets (K9), without allocation.

use super::Spd;
use super::prefix::SelectorBits;
use crate::{
    Action, Counter, Direction, Inbound, InboundPacket, Mode, Policy, PolicyType, Sa, Template,
};

impl Spd {
    /// Whether a packet may be delivered (`In`) or forwarded (`Fwd`), given the SAs it was opened with (K9).
    pub fn check(&self, direction: Direction, packet: &InboundPacket<'_>) -> Inbound {
        if packet.disable_policy {
            return Inbound::Accept {
                policy: None,
                verified: packet.verified,
            };
        }
        if !packet.secpath.iter().all(|sa| carries(sa, packet)) {
            return Inbound::Drop(Counter::InStateMismatch);
        }
        let first = self
            .lookup(direction, packet.flow, packet.if_id)
            .or_else(|| match (direction, packet.quoted) {
                (Direction::Fwd, Some(quoted)) => self.lookup(direction, quoted, packet.if_id),
                _ => None,
            });
        let Some(first) = first.map(|found| &found.policy) else {
            let transport_only = packet.secpath.iter().all(|sa| sa.mode == Mode::Transport);
            return match self.default_action(direction) {
                Action::Allow if transport_only => Inbound::Accept {
                    policy: None,
                    verified: packet.verified,
                },
                _ => Inbound::Drop(Counter::InNoPols),
            };
        };
        // Not `direction`: this is how the kernel asks for the second policy of a forwarded packet, too.
        let second = match first.key.policy_type {
            PolicyType::Main => None,
            PolicyType::Sub => {
                self.lookup_of_type(PolicyType::Main, Direction::In, packet.flow, packet.if_id)
            }
        };
        let second = second.map(|found| &found.policy);
        match verify(first, second, packet) {
            Ok(verified) => Inbound::Accept {
                policy: Some(first.index),
                verified,
            },
            Err(counter) => Inbound::Drop(counter),
        }
    }
}

/// Whether an SA was meant for what it has carried.
fn carries(sa: &Sa, packet: &InboundPacket<'_>) -> bool {
    let Some(selector) = &sa.selector else {
        return true;
    };
    let selector = SelectorBits::new(selector);
    selector.accepts(packet.flow)
        || (sa.flags.icmp && packet.quoted.is_some_and(|quoted| selector.accepts(quoted)))
}

fn verify(
    first: &Policy,
    second: Option<&Policy>,
    packet: &InboundPacket<'_>,
) -> Result<usize, Counter> {
    if first.action == Action::Block {
        return Err(Counter::InPolBlock);
    }
    if first.templates.len() >= Policy::MAX_TEMPLATES {
        return Err(Counter::InBufferError);
    }
    if let Some(second) = second {
        if second.action == Action::Block {
            return Err(Counter::InPolBlock);
        }
        if first.templates.len() + second.templates.len() >= Policy::MAX_TEMPLATES {
            return Err(Counter::InBufferError);
        }
    }

    let mut position = 0;
    let more: &[Template] = second.map_or(&[], |second| &second.templates);
    let mut outermost_first = first.templates.iter().chain(more).rev();
    if second.is_some() && packet.flow.src.is_ipv6() {
        // With two policies IPv6 sorts: transport, Mobile IPv6, tunnel. Backwards here.
        let is_of = |class: u8| move |template: &&Template| ipv6_class(template.mode) == class;
        for class in (0..=2).rev() {
            for template in outermost_first.clone().filter(is_of(class)) {
                position = account(template, packet, position)?;
            }
        }
    } else {
        position = outermost_first.try_fold(position, |at, t| account(t, packet, at))?;
    }

    let rest = packet.secpath.get(position..).unwrap_or(&[]);
    if rest.iter().all(|sa| sa.mode == Mode::Transport) {
        Ok(position)
    } else {
        Err(Counter::InTmplMismatch)
    }
}

fn ipv6_class(mode: Mode) -> u8 {
    match mode {
        Mode::Transport => 0,
        Mode::RouteOptimization | Mode::InTrigger => 1,
        Mode::Tunnel | Mode::Beet | Mode::Iptfs => 2,
    }
}

/// Finds the SA that a template asks for, from `start` on, and gives the place behind it.
fn account(
    template: &Template,
    packet: &InboundPacket<'_>,
    start: usize,
) -> Result<usize, Counter> {
    if template.optional && template.mode == Mode::Transport {
        return Ok(start);
    }
    let mut place = start;
    while let Some(sa) = packet.secpath.get(place) {
        place += 1;
        if is_asked_for(template, sa, packet.if_id) {
            return Ok(place);
        }
        let may_be_skipped = sa.mode == Mode::Transport || place <= packet.verified;
        if !may_be_skipped {
            break;
        }
    }
    if template.optional {
        Ok(start)
    } else {
        Err(Counter::InTmplMismatch)
    }
}

fn is_asked_for(template: &Template, sa: &Sa, if_id: u32) -> bool {
    let any_or = |wanted: u32, is: u32| wanted == 0 || wanted == is;
    let source_fits =
        template.mode == Mode::Transport || template.src.is_unspecified() || template.src == sa.src;
    template.mode == sa.mode
        && template.protocol == sa.id.protocol
        && any_or(template.spi, sa.id.spi)
        && any_or(template.reqid, sa.reqid)
        && any_or(if_id, sa.if_id)
        && source_fits
}
