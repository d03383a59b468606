//! What is derived from the policies and SAs that are there: flows and SAs that fit them, all but.

use std::net::IpAddr;

use cygnet_ipsec::{
    Direction, Flow, Mark, Policy, PolicyKey, PortMatch, Sa, SaDirection, SaId, Selector, Template,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::{Step, flow, sa, with_fitting_keys};

/// A step about something that is there already: what is meant is known only when the step is taken.
#[derive(Clone, Debug)]
pub struct Related {
    pub topic: Topic,
    /// Which of the policies or SAs.
    pub which: usize,
    /// Which of its templates.
    pub template: usize,
    /// Which property of what is derived is left to chance after all; most numbers mean none.
    pub twist: u8,
    /// The chance.
    pub flow: Flow,
    /// The chance.
    pub sa: Box<Sa>,
    pub priority: u32,
}

#[derive(Clone, Copy, Debug)]
pub enum Topic {
    /// A packet that a policy means.
    Send,
    /// An SA as a policy's template wants it.
    Serve,
    /// SAs as all templates of a policy want them.
    ServeAll,
    /// A packet opened with the SAs that a policy's templates want.
    Deliver,
    /// A policy again, with another priority.
    UpdatePolicy,
    /// A policy of the same prefixes and mark, for other protocols, ports or devices.
    Sibling,
    RemovePolicy,
    QueryPolicy,
    /// A template that asks for an SA.
    Find,
    /// A packet for an SA.
    Accept,
    /// The same SA again.
    Install,
    UpdateSa,
    MoveSa,
    RemoveSa,
    QuerySa,
}

/// A flow that a policy means, but for the twist.
pub fn flow_for(policy: &Policy, chance: &Flow, twist: u8) -> Flow {
    let key = &policy.key;
    let selector = &key.selector;
    let mix = |wanted: u32, mask: u32, chance: u32| (wanted & mask) | (chance & !mask);
    let port =
        |wanted: PortMatch, chance: u16| (wanted.port & wanted.mask) | (chance & !wanted.mask);
    let or = |wanted: u32, chance: u32| if wanted == 0 { chance } else { wanted };
    let mut flow = Flow {
        src: selector.src.addr(),
        dst: selector.dst.addr(),
        protocol: or(selector.protocol.into(), chance.protocol.into()) as u8,
        sport: port(selector.sport, chance.sport),
        dport: port(selector.dport, chance.dport),
        mark: mix(key.mark.value, key.mark.mask, chance.mark),
        ifindex: or(selector.ifindex, chance.ifindex),
    };
    match twist {
        0 => flow.src = chance.src,
        1 => flow.dst = chance.dst,
        2 => flow.protocol = chance.protocol,
        3 => flow.sport = chance.sport,
        4 => flow.dport = chance.dport,
        5 => flow.mark = chance.mark,
        6 => flow.ifindex = chance.ifindex,
        _ => {}
    }
    flow
}

/// An SA that serves a template of a policy, but for the twist.
pub fn sa_for(policy: &Policy, template: &Template, chance: &Sa, twist: u8) -> Sa {
    let or = |wanted: IpAddr, chance: IpAddr| {
        if wanted.is_unspecified() {
            chance
        } else {
            wanted
        }
    };
    let tunnel = template.mode.is_tunnel_type();
    let selector = &policy.key.selector;
    let (src, dst) = if tunnel {
        (or(template.src, chance.src), template.dst)
    } else {
        (selector.src.addr(), selector.dst.addr())
    };
    let spi = if template.spi == 0 {
        chance.id.spi
    } else {
        template.spi
    };
    let mut sa = Sa {
        id: SaId {
            dst,
            spi,
            protocol: template.protocol,
            mark: Mark::ANY,
        },
        src,
        direction: match policy.key.direction {
            Direction::Out => SaDirection::Out,
            Direction::In | Direction::Fwd => SaDirection::In,
        },
        mode: template.mode,
        reqid: template.reqid,
        if_id: policy.key.if_id,
        selector: None,
        ..chance.clone()
    };
    match twist {
        0 => sa.id = chance.id,
        1 => sa.src = chance.src,
        2 => sa.mode = chance.mode,
        3 => sa.reqid = chance.reqid,
        4 => sa.if_id = chance.if_id,
        5 => sa.direction = chance.direction,
        6 => sa.id.mark = chance.id.mark,
        7 => sa.id.mark = policy.key.mark,
        8 => sa.id.protocol = chance.id.protocol,
        9 => sa.selector = Some(*selector),
        10 => sa.selector = chance.selector,
        11 => {
            sa.src = if dst.is_ipv4() {
                [0; 4].into()
            } else {
                [0; 16].into()
            }
        }
        12 => sa.id.spi = chance.id.spi,
        // The right SPI on the wrong SA.
        14 | 15 => sa.reqid += 1,
        13 => {
            sa.direction = match sa.direction {
                SaDirection::In => SaDirection::Out,
                SaDirection::Out => SaDirection::In,
            }
        }
        _ => {}
    }
    with_fitting_keys(sa)
}

/// SAs that together serve all templates of a policy: each inside the outer addresses of the one before.
pub fn sas_for(policy: &Policy, chance: &Sa) -> Vec<Sa> {
    let mut outer = (
        policy.key.selector.src.addr(),
        policy.key.selector.dst.addr(),
    );
    let mut sas = Vec::new();
    for (n, template) in (0..).zip(&policy.templates) {
        let mut sa = sa_for(policy, template, chance, 99);
        if template.mode.is_tunnel_type() {
            outer = (sa.src, sa.id.dst);
        }
        (sa.src, sa.id.dst) = outer;
        if template.spi == 0 {
            sa.id.spi += n;
        }
        sas.push(sa);
    }
    sas
}

/// Another policy for the same addresses.
pub fn sibling(policy: &Policy, chance: &Flow, twist: u8, priority: u32) -> Policy {
    let mut sibling = Policy {
        priority,
        index: 0,
        ..policy.clone()
    };
    let selector = &mut sibling.key.selector;
    match twist % 8 {
        0 => selector.protocol = chance.protocol,
        1 => selector.sport = PortMatch::exact(chance.sport),
        2 => selector.dport = PortMatch::exact(chance.dport),
        3 => selector.ifindex = chance.ifindex,
        4 => (selector.protocol, selector.ifindex) = (0, 0),
        5 => selector.sport = PortMatch::ANY,
        6 => selector.dport = PortMatch::ANY,
        _ => selector.user = 1,
    }
    sibling
}

/// A template that an SA serves, but for the twist, in a policy that goes with it.
pub fn policy_for(sa: &Sa, chance: &Sa, twist: u8) -> Policy {
    let mut template = Template {
        src: sa.src,
        dst: sa.id.dst,
        spi: 0,
        protocol: sa.id.protocol,
        reqid: sa.reqid,
        mode: sa.mode,
        optional: false,
    };
    let family = Selector::any(sa.family());
    let mut key = PolicyKey::new(Direction::Out, sa.selector.unwrap_or(family));
    key.if_id = sa.if_id;
    key.mark = sa.id.mark;
    match twist {
        0 => template.reqid = chance.reqid,
        1 => template.mode = chance.mode,
        2 => template.protocol = chance.id.protocol,
        3 => template.spi = sa.id.spi,
        4 | 5 => {
            template.spi = sa.id.spi;
            template.reqid += 1;
        }
        6 => key.if_id = chance.if_id,
        7 => key.mark = chance.id.mark,
        _ => {}
    }
    Policy {
        templates: vec![template],
        ..Policy::new(key)
    }
}

pub fn related(topics: &'static [Topic]) -> impl Strategy<Value = Step> {
    (
        select(topics),
        any::<usize>(),
        any::<usize>(),
        0..24u8,
        flow(),
        sa(),
        0..4u32,
    )
        .prop_map(|(topic, which, template, twist, flow, sa, priority)| {
            let sa = Box::new(sa);
            Step::Related(Related {
                topic,
                which,
                template,
                twist,
                flow,
                sa,
                priority,
            })
        })
}
