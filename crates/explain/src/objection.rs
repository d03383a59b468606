//! Why a policy or an SA is not for a packet: the kernel's conditions, one by one (K2, K5).

use std::fmt;

use cygnet_ipsec::reference::{State, mark_accepts};
use cygnet_ipsec::{
    Action, Family, Flow, InstalledPolicy, Mark, Mode, Policy, PolicyType, PortMatch, SaDirection,
    SaState, Selector, Template,
};
use std::net::IpAddr;

/// A condition of the search for a policy that is not fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyObjection {
    /// The source address is outside.
    Source,
    /// The destination address is outside.
    Destination,
    /// The policy is for an xfrm interface (or none), the packet passes another (or none).
    IfId {
        /// The policy's.
        policy: u32,
        /// The packet's.
        packet: u32,
    },
    /// The packet's mark is not accepted.
    Mark {
        /// What the policy accepts.
        policy: Mark,
        /// The packet's.
        packet: u32,
    },
    /// Another protocol.
    Protocol(u8),
    /// Another source port.
    SourcePort(PortMatch),
    /// Another destination port.
    DestinationPort(PortMatch),
    /// Another device.
    Device(u32),
}

impl PolicyObjection {
    /// All that speaks against a policy of the right direction.
    pub(crate) fn all(policy: &Policy, flow: &Flow, if_id: u32) -> Vec<Self> {
        let key = &policy.key;
        let mut all = of_selector(&key.selector, flow);
        if key.if_id != if_id {
            all.push(Self::IfId {
                policy: key.if_id,
                packet: if_id,
            });
        }
        if !mark_accepts(key.mark, flow.mark) {
            all.push(Self::Mark {
                policy: key.mark,
                packet: flow.mark,
            });
        }
        all
    }

    /// Whether it is about the addresses: such policies are plainly for others.
    pub(crate) fn is_about_addresses(self) -> bool {
        matches!(self, Self::Source | Self::Destination)
    }
}

/// What a selector has against a flow.
fn of_selector(s: &Selector, flow: &Flow) -> Vec<PolicyObjection> {
    let mut all = Vec::new();
    let mut object = |bad: bool, objection| {
        if bad {
            all.push(objection);
        }
    };
    object(!s.src.contains(&flow.src), PolicyObjection::Source);
    object(!s.dst.contains(&flow.dst), PolicyObjection::Destination);
    object(
        s.protocol != 0 && s.protocol != flow.protocol,
        PolicyObjection::Protocol(s.protocol),
    );
    object(
        (flow.sport ^ s.sport.port) & s.sport.mask != 0,
        PolicyObjection::SourcePort(s.sport),
    );
    object(
        (flow.dport ^ s.dport.port) & s.dport.mask != 0,
        PolicyObjection::DestinationPort(s.dport),
    );
    object(
        s.ifindex != 0 && s.ifindex != flow.ifindex,
        PolicyObjection::Device(s.ifindex),
    );
    all
}

impl fmt::Display for PolicyObjection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => write!(f, "the source address is outside"),
            Self::Destination => write!(f, "the destination address is outside"),
            Self::IfId { policy: 0, packet } => write!(
                f,
                "it is for no xfrm interface, the packet passes that with if_id {packet}"
            ),
            Self::IfId { policy, packet: 0 } => write!(
                f,
                "it is for the xfrm interface with if_id {policy}, the packet passes none"
            ),
            Self::IfId { policy, packet } => {
                write!(
                    f,
                    "it is for if_id {policy}, the packet passes if_id {packet}"
                )
            }
            Self::Mark { policy, packet } => {
                write!(f, "it is for mark {policy}, the packet has {packet:#x}")
            }
            Self::Protocol(protocol) => write!(f, "it is for protocol {protocol}"),
            Self::SourcePort(port) => write!(f, "it is for source port {}", PortText(*port)),
            Self::DestinationPort(port) => {
                write!(f, "it is for destination port {}", PortText(*port))
            }
            Self::Device(index) => write!(f, "it is for device {index}"),
        }
    }
}

struct PortText(PortMatch);

impl fmt::Display for PortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.mask {
            u16::MAX => write!(f, "{}", self.0.port),
            mask => write!(f, "{}/{mask:#x}", self.0.port),
        }
    }
}

/// A condition of the search for an outbound SA that is not fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaObjection {
    /// It opens packets.
    Inbound,
    /// Another IPsec protocol.
    Protocol,
    /// Another mode.
    Mode(Mode),
    /// Another reqid, which must be equal, also if it is 0.
    Reqid {
        /// The SA's.
        sa: u32,
        /// The template's.
        template: u32,
    },
    /// It belongs to another xfrm interface than the policy.
    IfId {
        /// The SA's.
        sa: u32,
        /// The policy's.
        policy: u32,
    },
    /// Its mark has bits outside the mask: it accepts nothing.
    MarkOutsideMask(Mark),
    /// It does not accept the mark of the policy, which is what counts here and not the packet's.
    Mark {
        /// What the SA accepts.
        sa: Mark,
        /// The policy's.
        policy: u32,
    },
    /// It goes to another peer.
    Destination(IpAddr),
    /// It comes from another address.
    Source(IpAddr),
    /// The template fixes another SPI.
    Spi(u32),
    /// Its selector does not have the packet.
    Selector,
    /// It waits for its keys.
    Larval,
    /// It is on its way out.
    Dead,
}

impl SaObjection {
    /// All that speaks against an SA for a template of a policy, between two outer addresses.
    pub(crate) fn all(
        x: &State,
        policy: &Policy,
        template: &Template,
        flow: &Flow,
        (local, remote): (IpAddr, IpAddr),
    ) -> Vec<Self> {
        let sa = &x.sa;
        let policy_mark = policy.key.mark.value & policy.key.mark.mask;
        let mut all = Vec::new();
        let mut object = |bad: bool, objection| {
            if bad {
                all.push(objection);
            }
        };
        object(sa.id.protocol != template.protocol, Self::Protocol);
        object(sa.id.dst != remote, Self::Destination(sa.id.dst));
        object(
            sa.src != local && !sa.src.is_unspecified(),
            Self::Source(sa.src),
        );
        object(sa.mode != template.mode, Self::Mode(sa.mode));
        object(
            sa.reqid != template.reqid,
            Self::Reqid {
                sa: sa.reqid,
                template: template.reqid,
            },
        );
        object(
            sa.if_id != policy.key.if_id,
            Self::IfId {
                sa: sa.if_id,
                policy: policy.key.if_id,
            },
        );
        if sa.id.mark != sa.id.mark.normalized() {
            object(true, Self::MarkOutsideMask(sa.id.mark));
        } else {
            object(
                !mark_accepts(sa.id.mark, policy_mark),
                Self::Mark {
                    sa: sa.id.mark,
                    policy: policy_mark,
                },
            );
        }
        object(
            template.spi != 0 && template.spi != sa.id.spi,
            Self::Spi(template.spi),
        );
        object(
            !sa.selector
                .as_ref()
                .is_none_or(|s| of_selector(s, flow).is_empty()),
            Self::Selector,
        );
        match x.state {
            SaState::Valid => object(sa.direction == SaDirection::In, Self::Inbound),
            SaState::Larval => object(true, Self::Larval),
            SaState::Error | SaState::Expired => object(true, Self::Dead),
        }
        all
    }
}

impl fmt::Display for SaObjection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inbound => write!(f, "it is an inbound SA"),
            Self::Protocol => write!(f, "another protocol than the template's"),
            Self::Mode(mode) => write!(f, "mode {} is not the template's", mode.name()),
            Self::Reqid { sa, template } => {
                write!(f, "reqid {sa}, the template wants {template}")
            }
            Self::IfId { sa, policy } => write!(f, "if_id {sa}, the policy has {policy}"),
            Self::MarkOutsideMask(mark) => write!(
                f,
                "its mark {mark} has bits outside the mask: no packet ever has it"
            ),
            Self::Mark { sa, policy } => {
                write!(f, "it is for mark {sa}, the policy's is {policy:#x}")
            }
            Self::Destination(dst) => write!(f, "it goes to {dst}"),
            Self::Source(src) => write!(f, "it comes from {src}"),
            Self::Spi(spi) => write!(f, "the template wants SPI {spi:#010x}"),
            Self::Selector => write!(f, "its selector does not have this packet"),
            Self::Larval => write!(f, "it is larval: it waits for its keys"),
            Self::Dead => write!(f, "it has expired or failed"),
        }
    }
}

/// A policy in a line.
pub(crate) fn policy_text(policy: &InstalledPolicy) -> String {
    let p = &policy.policy;
    let mut text = format!("policy {} {}", p.index, selector_text(&p.key.selector));
    text += match (p.action, p.templates.is_empty()) {
        (Action::Block, _) => " block",
        (Action::Allow, true) => " allow",
        (Action::Allow, false) => " protect",
    };
    text += &format!(" priority {}", p.priority);
    if p.key.policy_type == PolicyType::Sub {
        text += " sub";
    }
    if p.key.mark != Mark::ANY {
        text += &format!(" mark {}", p.key.mark);
    }
    if p.key.if_id != 0 {
        text += &format!(" if_id {}", p.key.if_id);
    }
    text
}

/// A selector in a line.
pub(crate) fn selector_text(s: &Selector) -> String {
    let mut text = format!("{} > {}", s.src, s.dst);
    if s.protocol != 0 {
        text += &format!(" proto {}", s.protocol);
    }
    for (name, port) in [("sport", s.sport), ("dport", s.dport)] {
        if port != PortMatch::ANY {
            text += &format!(" {name} {}", PortText(port));
        }
    }
    text
}

/// A template in a line.
pub(crate) fn template_text(t: &Template) -> String {
    let mut text = format!("{} {}", t.protocol.name(), t.mode.name());
    if t.mode.is_tunnel_type() {
        text += &format!(" {} > {}", t.src, t.dst);
    }
    text + &format!(" reqid {}", t.reqid)
}

/// An SA in a line.
pub(crate) fn sa_text(x: &State) -> String {
    let sa = &x.sa;
    let mut text = format!(
        "SA {} {:#010x} {} {} > {} reqid {}",
        sa.id.protocol.name(),
        sa.id.spi,
        sa.mode.name(),
        sa.src,
        sa.id.dst,
        sa.reqid
    );
    if sa.if_id != 0 {
        text += &format!(" if_id {}", sa.if_id);
    }
    if sa.id.mark != Mark::ANY {
        text += &format!(" mark {}", sa.id.mark);
    }
    text
}

/// The name of a family in the words of `ip`.
pub(crate) fn family_text(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
