//! From an outbound packet to its SAs (K2 to K5), without allocation where nothing is missing.

use std::net::IpAddr;

use super::{SaIndex, Sad, Spd};
use crate::{
    Action, Bundle, Direction, Missing, Mode, Outbound, OutboundDrop, OutboundLookup,
    OutboundLookupError, OutboundPacket, Policy, PolicyType, Protocol, Resolution, SaDirection,
    Selector,
};

pub(super) fn output(spd: &Spd, sad: &Sad, packet: &OutboundPacket<'_>) -> Resolution<SaIndex> {
    let mut missing = Vec::new();
    let verdict = match decide(spd, sad, packet, &mut missing) {
        Ok(verdict) => verdict,
        Err(drop) => Outbound::Drop(drop),
    };
    Resolution { verdict, missing }
}

fn decide(
    spd: &Spd,
    sad: &Sad,
    packet: &OutboundPacket<'_>,
    missing: &mut Vec<Missing>,
) -> Result<Outbound<SaIndex>, OutboundDrop> {
    let (flow, if_id) = (packet.flow, packet.if_id);
    let looked_up = match packet.disable_xfrm && if_id == 0 {
        true => None,
        false => spd.lookup(Direction::Out, flow, if_id),
    };
    let Some(first) = looked_up.map(|found| &found.policy) else {
        return match spd.default_action(Direction::Out) {
            Action::Allow => Ok(Outbound::Clear { policy: None }),
            Action::Block => Err(OutboundDrop::Default),
        };
    };
    if first.action == Action::Block {
        return Err(OutboundDrop::Blocked {
            policy: first.index,
        });
    }
    let second = match first.key.policy_type {
        PolicyType::Main => None,
        PolicyType::Sub => spd.lookup_of_type(PolicyType::Main, Direction::Out, flow, if_id),
    };
    let second = second.map(|found| &found.policy);
    if let Some(second) = second.filter(|second| second.action == Action::Block) {
        return Err(OutboundDrop::Blocked {
            policy: second.index,
        });
    }

    let mut sas = Bundle::new();
    if !first.templates.is_empty() || second.is_some_and(|second| !second.templates.is_empty()) {
        for policy in [Some(first), second].into_iter().flatten() {
            if sas.len() + policy.templates.len() >= Policy::MAX_TEMPLATES {
                return Err(OutboundDrop::TooManyTemplates);
            }
            resolve(sad, packet, policy, &mut sas, missing)?;
        }
    }
    let policy = first.index;
    if sas.is_empty() {
        return Ok(Outbound::Clear {
            policy: Some(policy),
        });
    }
    if second.is_some() && flow.src.is_ipv6() && sas.len() > 1 {
        sas = in_ipv6_order(sad, &sas);
    }
    Ok(Outbound::Protect { policy, sas })
}

fn resolve(
    sad: &Sad,
    packet: &OutboundPacket<'_>,
    policy: &Policy,
    sas: &mut Bundle<SaIndex>,
    missing: &mut Vec<Missing>,
) -> Result<(), OutboundDrop> {
    let mut outer = (packet.flow.src, packet.flow.dst);
    for template in &policy.templates {
        let wanted = match (
            template.mode.is_tunnel_type(),
            template.src.is_unspecified(),
        ) {
            (false, _) => outer,
            (true, false) => (template.src, template.dst),
            (true, true) => match (packet.route_source)(template.dst) {
                Some(source) => (source, template.dst),
                None => return Err(OutboundDrop::NoSource),
            },
        };
        let no_state = OutboundDrop::NoState {
            policy: policy.index,
        };
        let drop = match sad.outbound(policy, template, packet.flow, wanted.0, wanted.1) {
            OutboundLookup::Found(index) => {
                if sad
                    .get(index)
                    .is_some_and(|entry| entry.sa.direction == SaDirection::In)
                {
                    return Err(OutboundDrop::WrongDirection);
                }
                if !sas.push(index) {
                    return Err(OutboundDrop::TooManyTemplates);
                }
                outer = wanted;
                continue;
            }
            OutboundLookup::Pending => no_state,
            OutboundLookup::Error(OutboundLookupError::Dead) => no_state,
            OutboundLookup::Error(OutboundLookupError::SpiTaken) => OutboundDrop::SpiTaken,
            OutboundLookup::Acquire => {
                let given = |address: IpAddr| (!address.is_unspecified()).then_some(address);
                missing.push(Missing {
                    policy: policy.key,
                    policy_index: policy.index,
                    template: *template,
                    selector: Selector::of_flow(packet.flow),
                    src: given(template.src).unwrap_or(wanted.0),
                    dst: given(template.dst).unwrap_or(wanted.1),
                });
                no_state
            }
        };
        if !template.optional {
            return Err(drop);
        }
    }
    Ok(())
}

/// SAs that two policies have contributed: transport but AH, Mobile IPv6, AH, tunnels; else in the order found.
fn in_ipv6_order(sad: &Sad, sas: &Bundle<SaIndex>) -> Bundle<SaIndex> {
    let class = |index: SaIndex| match sad.get(index).map(|entry| &entry.sa) {
        Some(sa) if sa.mode.is_tunnel_type() => 3,
        Some(sa) if sa.mode != Mode::Transport => 1,
        Some(sa) if sa.id.protocol == Protocol::Ah => 2,
        _ => 0,
    };
    let mut ordered = Bundle::new();
    for wanted in 0..=3 {
        for index in sas.iter().filter(|index| class(*index) == wanted) {
            ordered.push(index);
        }
    }
    ordered
}
