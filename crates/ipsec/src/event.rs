//! What a data plane tells a key manager unasked (K11, K13, K14).

use std::net::{IpAddr, SocketAddr};

use crate::{Mark, PolicyKey, SaId, SecurityLabel, Selector, Template};

/// A message from a data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet needs an SA that is not there.
    Acquire(Acquire),
    /// An SA has reached a limit.
    Expire(Expire),
    /// A peer's address or port as seen on received packets has changed.
    Mapping(Mapping),
    /// A policy has reached a time limit.
    PolicyExpire(PolicyExpire),
}

/// A packet met a policy whose template no SA serves (K13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// The number to be given to [`AllocateSpi`](crate::AllocateSpi) and [`Sa`](crate::Sa) in the answer.
    pub seq: u32,
    /// The policy's index.
    pub policy_index: u32,
    /// The policy's key.
    pub policy: PolicyKey,
    /// The first template that no SA serves.
    pub template: Template,
    /// The packet that was met: exact addresses and ports.
    pub selector: Selector,
    /// The outer source of the SA wanted.
    pub src: IpAddr,
    /// The outer destination of the SA wanted.
    pub dst: IpAddr,
    /// The policy's mark.
    pub mark: Mark,
    /// The policy's xfrm interface.
    pub if_id: u32,
    /// The CPU that the packet was met on, of a policy that asks for SAs of single CPUs ([`Policy::per_cpu`](crate::Policy)).
    pub cpu: Option<u32>,
    /// The packet's security label.
    pub label: Option<SecurityLabel>,
}

/// An SA has reached a limit (K11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expire {
    /// The SA. The SPI of a larval state made by an acquire is 0.
    pub sa: SaId,
    /// Its outer source.
    pub src: IpAddr,
    /// Its request id.
    pub reqid: u32,
    /// Hard: the SA is gone. Soft: it wants to be replaced.
    pub hard: bool,
}

/// A NAT in front of the peer has changed its mapping: packets of an encapsulated SA arrive from elsewhere (K14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The inbound SA.
    pub sa: SaId,
    /// Its request id.
    pub reqid: u32,
    /// The peer's address and port until now.
    pub old: SocketAddr,
    /// The peer's address and port seen.
    pub new: SocketAddr,
}

/// A policy has reached a time limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyExpire {
    /// The policy.
    pub key: PolicyKey,
    /// Its index.
    pub index: u32,
    /// Hard: the policy is gone.
    pub hard: bool,
}
