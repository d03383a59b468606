//! What the lookups answer. Shared by [`reference`](mod@crate::reference) and [`fast`](crate::fast), which share no
//! more than such values.

use std::net::IpAddr;

use crate::{Counter, EncapKind, Flow, Policy, PolicyKey, Protocol, Sa, Selector, Template};

/// A policy in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledPolicy {
    /// The policy, its mark normalized and its index filled in.
    pub policy: Policy,
    /// Its age: of two policies with equal priority the one with the smaller `pos` wins (K2).
    pub pos: u64,
}

/// What a search for an outbound SA gave (K5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundLookup<H> {
    /// This SA.
    Found(H),
    /// None, and none asked for: an ACQUIRE is due.
    Acquire,
    /// None yet: a larval state waits for the key manager.
    Pending,
    /// None, and none may be asked for.
    Error(OutboundLookupError),
}

/// Why there is no SA and no ACQUIRE for it either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundLookupError {
    /// The SA for this flow has expired or its negotiation has failed, and it is still there (ESRCH).
    Dead,
    /// The template asks for an SPI that another SA has (EEXIST).
    SpiTaken,
}

/// A template that no SA serves: everything an ACQUIRE needs but its sequence number (K13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The policy's key.
    pub policy: PolicyKey,
    /// The policy's index.
    pub policy_index: u32,
    /// The template.
    pub template: Template,
    /// The packet.
    pub selector: Selector,
    /// The outer source that the SA would have.
    pub src: IpAddr,
    /// The outer destination that the SA would have.
    pub dst: IpAddr,
}

/// The SAs to be applied to a packet, in order. No heap, as this is made per packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle<H> {
    len: usize,
    sas: [Option<H>; Policy::MAX_TEMPLATES],
}

impl<H: Copy> Bundle<H> {
    /// No SA.
    pub fn new() -> Bundle<H> {
        Bundle {
            len: 0,
            sas: [None; Policy::MAX_TEMPLATES],
        }
    }

    /// Adds an SA; tells whether there was room.
    pub fn push(&mut self, sa: H) -> bool {
        match self.sas.get_mut(self.len) {
            Some(slot) => {
                *slot = Some(sa);
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The SAs, the innermost first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = H> + '_ {
        self.sas.iter().flatten().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The only SA, of a bundle of one.
    pub fn single(&self) -> Option<H> {
        if self.len == 1 { self.sas[0] } else { None }
    }
}

impl<H: Copy> Default for Bundle<H> {
    fn default() -> Bundle<H> {
        Bundle::new()
    }
}

/// What becomes of an outbound packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outbound<H> {
    /// It leaves as it is: no policy and the default allows it, or the policy of this index asks for nothing.
    Clear {
        /// The policy that says so.
        policy: Option<u32>,
    },
    /// It leaves protected.
    Protect {
        /// The first policy that matched.
        policy: u32,
        /// The SAs to apply.
        sas: Bundle<H>,
    },
    /// It does not leave.
    Drop(OutboundDrop),
}

/// Why an outbound packet does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundDrop {
    /// No policy, and the default blocks. The sender gets EPERM; nothing counts it (K2).
    Default,
    /// A policy blocks. The sender gets EPERM.
    Blocked {
        /// The blocking policy's index.
        policy: u32,
    },
    /// An SA is missing: asked for, awaited, or dead.
    NoState {
        /// The index of the policy that needs it.
        policy: u32,
    },
    /// The SA found is an inbound one.
    WrongDirection,
    /// No route gives the outer source address that the template leaves open.
    NoSource,
    /// The SPI that the template fixes belongs to another SA.
    SpiTaken,
    /// Six templates or more, counted over both policies: a policy may have six, but the kernel resolves five.
    TooManyTemplates,
}

impl OutboundDrop {
    /// What counts the packet; a template of the wrong direction counts twice.
    pub fn counters(self) -> &'static [Counter] {
        match self {
            OutboundDrop::Default => &[],
            OutboundDrop::Blocked { .. } => &[Counter::OutPolBlock],
            OutboundDrop::NoState { .. } => &[Counter::OutNoStates],
            OutboundDrop::WrongDirection => &[Counter::OutStateDirError, Counter::OutPolError],
            OutboundDrop::NoSource | OutboundDrop::SpiTaken | OutboundDrop::TooManyTemplates => {
                &[Counter::OutPolError]
            }
        }
    }
}

/// The fate of an outbound packet, and the SAs that the key manager is to be asked for on its behalf. A packet may
/// leave and yet ask, if the template is optional.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution<H> {
    /// What becomes of the packet.
    pub verdict: Outbound<H>,
    /// What is missing; to be passed to `begin_acquire`.
    pub missing: Vec<Missing>,
}

/// An outbound packet as the lookups see it.
#[derive(Clone, Copy)]
pub struct OutboundPacket<'a> {
    /// Addresses, ports, mark; `ifindex` is the output device.
    pub flow: &'a Flow,
    /// The xfrm interface it is sent through, or 0.
    pub if_id: u32,
    /// The output device has `disable_xfrm` set: policies are not looked at, the default is. Ignored for xfrm
    /// interfaces (K2, K6).
    pub disable_xfrm: bool,
    /// The source address that a route to an outer destination has; for templates that leave the source open.
    pub route_source: &'a dyn Fn(IpAddr) -> Option<IpAddr>,
}

impl<'a> OutboundPacket<'a> {
    /// A packet that passes no xfrm interface and for which no route gives a source address.
    pub fn new(flow: &'a Flow) -> OutboundPacket<'a> {
        OutboundPacket {
            flow,
            if_id: 0,
            disable_xfrm: false,
            route_source: &|_| None,
        }
    }
}

/// An inbound IPsec packet as far as its SA is concerned (K8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboundSpi {
    /// The outer destination.
    pub dst: IpAddr,
    /// The SPI.
    pub spi: u32,
    /// The IPsec protocol.
    pub protocol: Protocol,
    /// The mark of the outer packet; for VTI its input key.
    pub mark: u32,
    /// What carried the packet.
    pub encap: Option<EncapKind>,
}

/// An inbound or forwarded packet, after decapsulation if it was protected, as the policy check sees it (K9).
#[derive(Clone, Copy, Debug)]
pub struct InboundPacket<'a> {
    /// Addresses, ports, mark; `ifindex` is the input device.
    pub flow: &'a Flow,
    /// If the packet is an ICMP error: the flow of the packet it quotes, reversed ([`Flow::quoted_in`]).
    pub quoted: Option<&'a Flow>,
    /// The xfrm interface it came in by, or 0.
    pub if_id: u32,
    /// The SAs it was opened with, the outermost first.
    pub secpath: &'a [&'a Sa],
    /// How many of these an earlier check has verified; not 0 only in nested tunnels.
    pub verified: usize,
    /// The input device has `disable_policy` set.
    pub disable_policy: bool,
}

impl<'a> InboundPacket<'a> {
    /// A packet that arrived in clear.
    pub fn clear(flow: &'a Flow) -> InboundPacket<'a> {
        InboundPacket {
            flow,
            quoted: None,
            if_id: 0,
            secpath: &[],
            verified: 0,
            disable_policy: false,
        }
    }

    /// A packet that was opened with these SAs, the outermost first.
    pub fn opened(flow: &'a Flow, secpath: &'a [&'a Sa]) -> InboundPacket<'a> {
        InboundPacket {
            secpath,
            ..InboundPacket::clear(flow)
        }
    }
}

/// What becomes of an inbound or forwarded packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// It may pass.
    Accept {
        /// The policy that says so; `None`: no policy applies and none is needed.
        policy: Option<u32>,
        /// How many SAs of the secpath the templates have accounted for.
        verified: usize,
    },
    /// It is dropped, counted here.
    Drop(Counter),
}
