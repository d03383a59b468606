//! Which end of a connection is this host, and at which addresses.
//!
//! ipsec.conf's left and right do not say. The end whose address this host has
//! is the local one; `%defaultroute` and `%eth1` can only be local; a peer may
//! be `%any`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::connection::{Connection, HostEnd, HostSpec};
use crate::io::ResolveQuery;

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orientation {
    /// Left is the local end.
    pub local_is_left: bool,
    /// Our address.
    pub local: IpAddr,
    /// The peer's address; `None`: any.
    pub remote: Option<IpAddr>,
}

impl Orientation {
    /// The local and the remote end of `connection`.
    pub fn ends<'a>(&self, connection: &'a Connection) -> (&'a HostEnd, &'a HostEnd) {
        if self.local_is_left {
            (&connection.left, &connection.right)
        } else {
            (&connection.right, &connection.left)
        }
    }
}

/// Why a connection has no orientation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unoriented {
    /// Something has to be looked up first.
    #[error("waiting for {}", describe(.0))]
    Unresolved(ResolveQuery),
    /// The look-up found nothing.
    #[error("{} not found", describe(.0))]
    NotFound(ResolveQuery),
    /// None of the addresses is ours.
    #[error("neither end is an address of this host")]
    NotOurs,
    /// Both are.
    #[error("both ends are addresses of this host")]
    BothOurs,
    /// The two ends have addresses of different families only.
    #[error("the ends have no address family in common")]
    NoCommonFamily,
    /// The peer is `%any` and so is the local end.
    #[error("both ends are unspecified")]
    BothAny,
}

fn describe(query: &ResolveQuery) -> String {
    match query {
        ResolveQuery::DefaultRoute { toward: Some(peer) } => format!("a route to {peer}"),
        ResolveQuery::DefaultRoute { toward: None } => "a default route".to_owned(),
        ResolveQuery::Interface(name) => format!("an address on interface {name}"),
        ResolveQuery::Name(name) => format!("an address of {name}"),
    }
}

/// What is known about addresses when orienting.
pub trait Addresses {
    /// Whether this host has the address.
    fn is_ours(&self, address: IpAddr) -> bool;
    /// The answer to a query; `None`: not asked yet.
    fn resolved(&self, query: &ResolveQuery) -> Option<&[IpAddr]>;
}

/// What one end may be.
enum End {
    /// Only local.
    Local(Vec<IpAddr>),
    /// One of these addresses, local or not.
    Fixed(Vec<IpAddr>),
    /// Any address.
    Any,
}

fn end(host: &HostSpec, other: &HostSpec, known: &dyn Addresses) -> Result<End, Unoriented> {
    let ask = |query: ResolveQuery| match known.resolved(&query) {
        None => Err(Unoriented::Unresolved(query)),
        Some([]) => Err(Unoriented::NotFound(query)),
        Some(addresses) => Ok(addresses.to_vec()),
    };
    Ok(match host {
        HostSpec::Address(a) => End::Fixed(vec![*a]),
        HostSpec::Any => End::Any,
        HostSpec::Name(name) => End::Fixed(ask(ResolveQuery::Name(name.clone()))?),
        HostSpec::Interface(name) => End::Local(ask(ResolveQuery::Interface(name.clone()))?),
        HostSpec::DefaultRoute => {
            let toward = match other {
                HostSpec::Address(a) => Some(*a),
                _ => None,
            };
            End::Local(ask(ResolveQuery::DefaultRoute { toward })?)
        }
    })
}

/// Decides which end is local.
///
/// # Errors
/// [`Unoriented`] says what is missing or wrong.
pub fn orient(connection: &Connection, known: &dyn Addresses) -> Result<Orientation, Unoriented> {
    let (l, r) = (&connection.left.host.value, &connection.right.host.value);
    let (left, right) = (end(l, r, known)?, end(r, l, known)?);
    let ours = |end: &End| match end {
        End::Local(_) => true,
        End::Fixed(a) => a.iter().any(|a| known.is_ours(*a)),
        End::Any => false,
    };
    let local_is_left = match (ours(&left), ours(&right)) {
        (true, true) => return Err(Unoriented::BothOurs),
        (true, false) => true,
        (false, true) => false,
        (false, false) => {
            return Err(match (&left, &right) {
                (End::Any, End::Any) => Unoriented::BothAny,
                _ => Unoriented::NotOurs,
            });
        }
    };
    let (local, remote) = if local_is_left {
        (left, right)
    } else {
        (right, left)
    };
    let local: Vec<IpAddr> = match local {
        End::Local(a) => a,
        End::Fixed(a) => a.into_iter().filter(|a| known.is_ours(*a)).collect(),
        End::Any => Vec::new(),
    };
    let remote = match remote {
        End::Any => None,
        End::Local(a) | End::Fixed(a) => Some(a),
    };
    match remote {
        None => {
            let local = *local.first().ok_or(Unoriented::NotOurs)?;
            Ok(Orientation {
                local_is_left,
                local,
                remote: None,
            })
        }
        Some(remote) => remote
            .iter()
            .find_map(|r| {
                let l = local.iter().find(|l| l.is_ipv4() == r.is_ipv4())?;
                Some(Orientation {
                    local_is_left,
                    local: *l,
                    remote: Some(*r),
                })
            })
            .ok_or(Unoriented::NoCommonFamily),
    }
}

/// The addresses of this host and the answers so far.
#[derive(Debug, Default)]
pub(crate) struct KnownAddresses {
    pub(crate) ours: BTreeSet<IpAddr>,
    pub(crate) answers: std::collections::HashMap<ResolveQuery, Vec<IpAddr>>,
}

impl Addresses for KnownAddresses {
    fn is_ours(&self, address: IpAddr) -> bool {
        self.ours.contains(&address)
    }

    fn resolved(&self, query: &ResolveQuery) -> Option<&[IpAddr]> {
        self.answers.get(query).map(Vec::as_slice)
    }
}
