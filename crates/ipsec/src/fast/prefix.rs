//! Addresses and selectors as numbers that can be masked, compared and hashed cheaply.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Flow, Selector};

/// An address in the high bits of a number, so that prefix lengths mean the same for both families. The family itself
/// is kept apart.
pub(super) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first `len` bits of an address.
pub(super) fn truncate(bits: u128, len: u8) -> u128 {
    // A shift by 128 is not defined.
    if len == 0 {
        0
    } else {
        bits & (u128::MAX << 128u8.saturating_sub(len).min(127))
    }
}

/// The bits of a prefix that count, and their number.
pub(super) fn network(prefix: &IpNet) -> (u128, u8) {
    (
        truncate(bits(prefix.addr()), prefix.prefix_len()),
        prefix.prefix_len(),
    )
}

/// A flow with its ports in one word.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlowBits {
    pub(super) src: u128,
    pub(super) dst: u128,
    ports: u32,
    protocol: u8,
    ifindex: u32,
}

impl FlowBits {
    pub(super) fn new(flow: &Flow) -> FlowBits {
        FlowBits {
            src: bits(flow.src),
            dst: bits(flow.dst),
            ports: u32::from(flow.sport) << 16 | u32::from(flow.dport),
            protocol: flow.protocol,
            ifindex: flow.ifindex,
        }
    }
}

/// What a selector asks beside the addresses, as values under masks: a mask of zero asks nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpperBits {
    ports: u32,
    ports_mask: u32,
    protocol: u8,
    protocol_mask: u8,
    ifindex: u32,
    ifindex_mask: u32,
}

impl UpperBits {
    pub(super) fn new(selector: &Selector) -> UpperBits {
        UpperBits {
            ports: u32::from(selector.sport.port) << 16 | u32::from(selector.dport.port),
            ports_mask: u32::from(selector.sport.mask) << 16 | u32::from(selector.dport.mask),
            protocol: selector.protocol,
            protocol_mask: if selector.protocol == 0 { 0 } else { u8::MAX },
            ifindex: selector.ifindex,
            ifindex_mask: if selector.ifindex == 0 { 0 } else { u32::MAX },
        }
    }

    pub(super) fn accepts(&self, flow: &FlowBits) -> bool {
        let differences = u32::from((flow.protocol ^ self.protocol) & self.protocol_mask)
            | ((flow.ports ^ self.ports) & self.ports_mask)
            | ((flow.ifindex ^ self.ifindex) & self.ifindex_mask);
        differences == 0
    }
}

/// An SA's selector, ready to be matched.
#[derive(Clone, Copy, Debug)]
pub(super) struct SelectorBits {
    is_v4: bool,
    src: (u128, u8),
    dst: (u128, u8),
    upper: UpperBits,
}

impl SelectorBits {
    pub(super) fn new(selector: &Selector) -> SelectorBits {
        SelectorBits {
            is_v4: matches!(selector.src, IpNet::V4(_)),
            src: network(&selector.src),
            dst: network(&selector.dst),
            upper: UpperBits::new(selector),
        }
    }

    pub(super) fn accepts(&self, flow: &Flow) -> bool {
        if flow.src.is_ipv4() != self.is_v4 || flow.dst.is_ipv4() != self.is_v4 {
            return false;
        }
        let flow = FlowBits::new(flow);
        truncate(flow.src, self.src.1) == self.src.0
            && truncate(flow.dst, self.dst.1) == self.dst.0
            && self.upper.accepts(&flow)
    }
}
