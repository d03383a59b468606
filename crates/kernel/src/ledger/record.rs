//! What the ledger writes down: identities of SAs and policies, and what tells ours from others'.

use std::net::IpAddr;

use cygnet_ipsec as ipsec;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A mark as (value under the mask, mask): how the kernel compares it.
type MarkRecord = (u32, u32);

fn mark_record(mark: ipsec::Mark) -> MarkRecord {
    (mark.value & mark.mask, mark.mask)
}

fn mark_of((value, mask): MarkRecord) -> ipsec::Mark {
    ipsec::Mark { value, mask }
}

/// Identity of an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SaRecord {
    dst: IpAddr,
    spi: u32,
    protocol: u8,
    mark: MarkRecord,
}

impl From<&ipsec::SaId> for SaRecord {
    fn from(id: &ipsec::SaId) -> Self {
        Self {
            dst: id.dst,
            spi: id.spi,
            protocol: id.protocol.number(),
            mark: mark_record(id.mark),
        }
    }
}

impl SaRecord {
    /// Back again; `None` if the protocol is none (a damaged file).
    pub(crate) fn id(&self) -> Option<ipsec::SaId> {
        Some(ipsec::SaId {
            dst: self.dst,
            spi: self.spi,
            protocol: ipsec::Protocol::try_from(self.protocol).ok()?,
            mark: mark_of(self.mark),
        })
    }
}

/// What an SA of ours has besides its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaDetails {
    pub(crate) src: IpAddr,
    pub(crate) reqid: u32,
}

/// A request for an SPI whose answer has not come: the larval SA has one of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SpiRecord {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    reqid: u32,
    min: u32,
    max: u32,
}

impl From<&ipsec::AllocateSpi> for SpiRecord {
    fn from(request: &ipsec::AllocateSpi) -> Self {
        Self {
            src: request.src,
            dst: request.dst,
            protocol: request.protocol.number(),
            reqid: request.reqid,
            min: request.min,
            max: request.max,
        }
    }
}

impl SpiRecord {
    /// Whether a larval SA may be what this asked for.
    pub(crate) fn may_be(&self, sa: &ipsec::Sa) -> bool {
        self.src == sa.src
            && self.dst == sa.id.dst
            && self.protocol == sa.id.protocol.number()
            && self.reqid == sa.reqid
            && (self.min..=self.max).contains(&sa.id.spi)
    }
}

/// Identity of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PolicyRecord {
    table: u8,
    direction: u8,
    #[serde(with = "as_text")]
    src: IpNet,
    #[serde(with = "as_text")]
    dst: IpNet,
    protocol: u8,
    sport: (u16, u16),
    dport: (u16, u16),
    ifindex: u32,
    user: u32,
    mark: MarkRecord,
    if_id: u32,
}

impl From<&ipsec::PolicyKey> for PolicyRecord {
    fn from(key: &ipsec::PolicyKey) -> Self {
        let s = &key.selector;
        Self {
            table: key.policy_type as u8,
            direction: key.direction as u8,
            src: s.src,
            dst: s.dst,
            protocol: s.protocol,
            sport: (s.sport.port, s.sport.mask),
            dport: (s.dport.port, s.dport.mask),
            ifindex: s.ifindex,
            user: s.user,
            mark: mark_record(key.mark),
            if_id: key.if_id,
        }
    }
}

impl PolicyRecord {
    /// Back again; `None` if a number has no meaning (a damaged file).
    pub(crate) fn key(&self) -> Option<ipsec::PolicyKey> {
        let port = |(port, mask)| ipsec::PortMatch { port, mask };
        Some(ipsec::PolicyKey {
            policy_type: match self.table {
                0 => ipsec::PolicyType::Main,
                1 => ipsec::PolicyType::Sub,
                _ => return None,
            },
            direction: ipsec::Direction::try_from(self.direction).ok()?,
            selector: ipsec::Selector {
                src: self.src,
                dst: self.dst,
                protocol: self.protocol,
                sport: port(self.sport),
                dport: port(self.dport),
                ifindex: self.ifindex,
                user: self.user,
            },
            mark: mark_of(self.mark),
            if_id: self.if_id,
        })
    }
}

/// Something in the kernel's databases that may be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Object {
    /// An SA.
    Sa(SaRecord),
    /// A larval SA whose SPI is not known yet.
    Spi(SpiRecord),
    /// A policy.
    Policy(PolicyRecord),
}

/// What is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub(crate) object: Object,
    pub(crate) details: Option<SaDetails>,
}

impl Claim {
    /// An SA to be installed.
    pub fn sa(sa: &ipsec::Sa) -> Self {
        Self {
            object: Object::Sa(SaRecord::from(&sa.id)),
            details: Some(SaDetails {
                src: sa.src,
                reqid: sa.reqid,
            }),
        }
    }

    /// An SPI to be reserved.
    pub fn spi(request: &ipsec::AllocateSpi) -> Self {
        Self {
            object: Object::Spi(SpiRecord::from(request)),
            details: None,
        }
    }

    /// The larval SA that a request for an SPI has made.
    pub(crate) fn larval(request: &ipsec::AllocateSpi, id: &ipsec::SaId) -> Self {
        Self {
            object: Object::Sa(SaRecord::from(id)),
            details: Some(SaDetails {
                src: request.src,
                reqid: request.reqid,
            }),
        }
    }

    /// A policy to be installed or replaced.
    pub fn policy(key: &ipsec::PolicyKey) -> Self {
        Self {
            object: Object::Policy(PolicyRecord::from(key)),
            details: None,
        }
    }

    /// The claim after the kernel has carried the request out, or refused it.
    pub(crate) fn settled(self, done: bool) -> Change {
        if done {
            Change::Confirm(self)
        } else {
            Change::Refuse(self.object)
        }
    }
}

/// What has become of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is made.
    Confirm(Claim),
    /// The kernel refused to make it (or to change it).
    Refuse(Object),
    /// It is gone.
    End(Object),
}

mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(d: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}
