//! Policies (SPD entries) and their templates (K1, K3).

use std::net::IpAddr;

use thiserror::Error;

use crate::{CommandError, Family, Lifetime, Mark, SecurityLabel, Selector};

/// The given number has no value of this type in the kernel's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{number} is not a known {what}")]
pub struct UnknownNumber {
    /// What the number was to be.
    pub what: &'static str,
    /// The number.
    pub number: u8,
}

/// The transforms of IPsec, by IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// Encapsulating Security Payload, RFC 4303.
    Esp = 50,
    /// Authentication Header, RFC 4302.
    Ah = 51,
    /// IP payload compression, RFC 3173.
    Comp = 108,
}

impl Protocol {
    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl Protocol {
    /// Its name for people and programs.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Esp => "esp",
            Protocol::Ah => "ah",
            Protocol::Comp => "ipcomp",
        }
    }
}

impl TryFrom<u8> for Protocol {
    type Error = UnknownNumber;

    fn try_from(number: u8) -> Result<Protocol, UnknownNumber> {
        match number {
            50 => Ok(Protocol::Esp),
            51 => Ok(Protocol::Ah),
            108 => Ok(Protocol::Comp),
            _ => Err(UnknownNumber {
                what: "IPsec protocol",
                number,
            }),
        }
    }
}

/// How an SA wraps a packet; the discriminants are the kernel's XFRM_MODE_ numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mode {
    /// Keeps the packet's addresses.
    Transport = 0,
    /// Puts an outer IP header in front.
    Tunnel = 1,
    /// Mobile IPv6 route optimization.
    RouteOptimization = 2,
    /// Mobile IPv6 inbound trigger.
    InTrigger = 3,
    /// Bound end-to-end tunnel: a tunnel whose inner addresses live in the SA's selector.
    Beet = 4,
    /// Aggregation and fragmentation, RFC 9347.
    Iptfs = 5,
}

impl Mode {
    /// Whether the outer addresses are the template's or SA's own and not the packet's (K4): tunnel, BEET, IP-TFS.
    pub const fn is_tunnel_type(self) -> bool {
        matches!(self, Mode::Tunnel | Mode::Beet | Mode::Iptfs)
    }

    /// Its name for people and programs.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Transport => "transport",
            Mode::Tunnel => "tunnel",
            Mode::RouteOptimization => "route-optimization",
            Mode::InTrigger => "in-trigger",
            Mode::Beet => "beet",
            Mode::Iptfs => "iptfs",
        }
    }
}

impl TryFrom<u8> for Mode {
    type Error = UnknownNumber;

    fn try_from(number: u8) -> Result<Mode, UnknownNumber> {
        match number {
            0 => Ok(Mode::Transport),
            1 => Ok(Mode::Tunnel),
            2 => Ok(Mode::RouteOptimization),
            3 => Ok(Mode::InTrigger),
            4 => Ok(Mode::Beet),
            5 => Ok(Mode::Iptfs),
            _ => Err(UnknownNumber {
                what: "XFRM mode",
                number,
            }),
        }
    }
}

/// Which packets a policy is asked about; the discriminants are the kernel's XFRM_POLICY_ numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Direction {
    /// Packets for local delivery.
    In = 0,
    /// Packets leaving, made here or forwarded.
    Out = 1,
    /// Packets to be forwarded, asked before the `Out` policies are (K3).
    Fwd = 2,
}

impl Direction {
    /// All directions, in the order of their numbers.
    pub const ALL: [Direction; 3] = [Direction::In, Direction::Out, Direction::Fwd];
}

impl TryFrom<u8> for Direction {
    type Error = UnknownNumber;

    fn try_from(number: u8) -> Result<Direction, UnknownNumber> {
        match number {
            0 => Ok(Direction::In),
            1 => Ok(Direction::Out),
            2 => Ok(Direction::Fwd),
            _ => Err(UnknownNumber {
                what: "policy direction",
                number,
            }),
        }
    }
}

/// What a policy does with a packet (K3). `Allow` with templates means: protect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Action {
    /// Pass the packet, after the transforms of the policy's templates if it has any.
    #[default]
    Allow = 0,
    /// Drop the packet.
    Block = 1,
}

/// Which of the two policy tables of the kernel holds a policy (K2). Key managers use the main one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum PolicyType {
    /// The ordinary table.
    #[default]
    Main = 0,
    /// Asked before the main one, whatever the priorities; made for Mobile IPv6.
    Sub = 1,
}

/// What an SA must be like to serve a policy (K5, K9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    /// Outer source for tunnel-type modes; unspecified: whatever the route to `dst` gives. Its family is the
    /// template's; in other modes the address itself is not looked at.
    pub src: IpAddr,
    /// Outer destination for tunnel-type modes. In other modes the packet's destination is used.
    pub dst: IpAddr,
    /// A fixed SPI, or 0 for any.
    pub spi: u32,
    /// The IPsec protocol.
    pub protocol: Protocol,
    /// The request id that binds policies to SAs. Outbound an equal one is needed, also if it is 0 (K5); inbound
    /// 0 accepts any (K9).
    pub reqid: u32,
    /// The mode.
    pub mode: Mode,
    /// Whether a packet may pass without this transform.
    pub optional: bool,
}

impl Template {
    /// The family of the SA's outer addresses.
    pub fn family(&self) -> Family {
        Family::of(self.dst)
    }
}

/// What identifies a policy: two policies with equal keys cannot exist together (K1). Priority is not part of it.
///
/// A store clears the bits of the mark's value outside its mask when it takes a policy, but not when it is asked for
/// one: ask with a [`normalized`](PolicyKey::normalized) key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyKey {
    /// The table.
    pub policy_type: PolicyType,
    /// The direction.
    pub direction: Direction,
    /// The packets meant. Compared octet by octet: 10.0.0.1/8 and 10.0.0.0/8 are different keys for equal packets.
    pub selector: Selector,
    /// The packet marks meant; both value and mask belong to the key.
    pub mark: Mark,
    /// The xfrm interface the policy belongs to, 0 for none. Matched exactly.
    pub if_id: u32,
}

impl PolicyKey {
    /// The key of a main-table policy for every packet mark and no xfrm interface.
    pub fn new(direction: Direction, selector: Selector) -> PolicyKey {
        PolicyKey {
            policy_type: PolicyType::Main,
            direction,
            selector,
            mark: Mark::ANY,
            if_id: 0,
        }
    }

    /// The key as a store keeps it: mark bits outside the mask are cleared (K1).
    pub fn normalized(self) -> PolicyKey {
        PolicyKey {
            mark: self.mark.normalized(),
            ..self
        }
    }
}

/// An SPD entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What identifies it.
    pub key: PolicyKey,
    /// Smaller wins; among equals the older policy does (K2).
    pub priority: u32,
    /// What to do.
    pub action: Action,
    /// The transforms, innermost first; at most [`Policy::MAX_TEMPLATES`].
    pub templates: Vec<Template>,
    /// When the policy itself ends. Only the time limits are used.
    pub lifetime: Lifetime,
    /// The number that acquire messages name the policy by; 0 lets the store choose. The low three bits are the
    /// direction's number (K1).
    pub index: u32,
    /// POLICY_ICMP: forwarded ICMP errors follow the policy of the packet they quote (K3).
    pub icmp: bool,
    /// A packet on a CPU that has no SA of its own asks for one, and leaves by the common SA meanwhile (RFC 9611). The
    /// lookups of this crate know nothing of CPUs.
    pub per_cpu: bool,
    /// The security label that its traffic must be allowed to have (RFC 9478), for the kernel's security module.
    pub label: Option<SecurityLabel>,
}

impl Policy {
    /// The kernel's limit on templates (XFRM_MAX_DEPTH).
    pub const MAX_TEMPLATES: usize = 6;

    /// An allowing policy without templates, priority 0 and no end.
    pub fn new(key: PolicyKey) -> Policy {
        Policy {
            key,
            priority: 0,
            action: Action::Allow,
            templates: Vec::new(),
            lifetime: Lifetime::UNLIMITED,
            index: 0,
            icmp: false,
            per_cpu: false,
            label: None,
        }
    }

    /// Checks what every store checks before it takes a policy (K1).
    ///
    /// # Errors
    ///
    /// [`CommandError::Invalid`] naming the first rule broken.
    pub fn validate(&self) -> Result<(), CommandError> {
        let invalid = |reason: &str| Err(CommandError::Invalid(reason.into()));
        if !self.key.selector.is_consistent() {
            return invalid("the selector's prefixes are of different families");
        }
        if self.index != 0 && self.index & 7 != self.key.direction as u32 {
            return invalid("the low bits of the index do not name the policy's direction");
        }
        if self.templates.len() > Policy::MAX_TEMPLATES {
            return invalid("a policy has six templates at most");
        }
        let mut family = self.key.selector.family();
        for template in &self.templates {
            if Family::of(template.src) != Family::of(template.dst) {
                return invalid("a template's addresses are of different families");
            }
            if template.mode.is_tunnel_type() {
                let optional_tunnel = template.optional && template.mode != Mode::Iptfs;
                if optional_tunnel && self.key.direction == Direction::Out {
                    return invalid("a tunnel template of an outbound policy cannot be optional");
                }
            } else if template.family() != family {
                return invalid("only tunnel-type templates may change the family");
            }
            family = template.family();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(outer: &str) -> Template {
        let dst: IpAddr = outer.parse().unwrap();
        let src = match dst {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        let mode = Mode::Tunnel;
        Template {
            src,
            dst,
            spi: 0,
            protocol: Protocol::Esp,
            reqid: 1,
            mode,
            optional: false,
        }
    }

    fn refusal(policy: &Policy) -> String {
        policy.validate().unwrap_err().to_string()
    }

    #[test]
    fn policies_are_checked_as_the_kernel_checks_them() {
        let selector = Selector::any(Family::V4);
        let mut policy = Policy::new(PolicyKey::new(Direction::Out, selector));
        policy.templates = vec![tunnel("2001:db8::1")];
        assert_eq!(policy.validate(), Ok(()));

        policy.templates.push(Template {
            mode: Mode::Transport,
            ..tunnel("192.0.2.1")
        });
        assert!(refusal(&policy).contains("change the family"));

        policy.templates = vec![Template {
            optional: true,
            ..tunnel("192.0.2.1")
        }];
        assert!(refusal(&policy).contains("cannot be optional"));
        policy.key.direction = Direction::In;
        assert_eq!(policy.validate(), Ok(()));

        policy.index = 9;
        assert!(refusal(&policy).contains("low bits"));
        policy.index = 8;
        assert_eq!(policy.validate(), Ok(()));

        policy.templates = vec![tunnel("192.0.2.1"); 7];
        assert!(refusal(&policy).contains("six"));

        policy.key.selector.dst = "::/0".parse().unwrap();
        assert!(refusal(&policy).contains("families"));
    }
}
