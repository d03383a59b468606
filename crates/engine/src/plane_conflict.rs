//! Connections that cannot be loaded together: equal traffic on both planes.
//!
//! The fence of a user-space connection are block policies in the kernel's SPD
//! (see [`crate::Protection`]), under the same keys as the policies of a kernel
//! connection for the same traffic. One of the two would overwrite the other.

use std::collections::HashMap;

use cygnet_ike::{TsAddresses, TsTemplate};
use cygnet_ipsec::{Mark, Selector};
use cygnet_wire::TrafficSelector;

use crate::commands::mirrored;
use crate::connection::{Connection, HostEnd, HostSpec, StartAction};
use crate::engine::Engine;
use crate::io::Plane;
use crate::selectors::outbound_selectors;

/// Two connections want the same traffic on different planes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "connections \"{first}\" and \"{second}\" protect the same traffic, {traffic}, on different planes: \
     give both the same dataplane="
)]
pub struct PlaneConflict {
    /// The connection that comes first in the files.
    pub first: String,
    /// The other one.
    pub second: String,
    /// What both protect.
    pub traffic: String,
}

/// What makes two policies one (K1), but for the direction.
type Key = (Selector, Mark, Mark, u32);

impl Engine {
    /// Looks for connections that cannot be loaded together. What depends on
    /// addresses that are found only later is not known here and not compared.
    pub(crate) fn check_planes(&self, connections: &[Connection]) -> Result<(), PlaneConflict> {
        let mut seen: HashMap<Key, (&Connection, Plane)> = HashMap::new();
        for connection in connections
            .iter()
            .filter(|c| c.start != StartAction::Ignore)
        {
            let plane = self.plane_for(connection);
            let (left, right) = (literal(&connection.left), literal(&connection.right));
            for selector in outbound_selectors(&left, &right).unwrap_or_default() {
                // Which end is ours is not known yet.
                for selector in [selector, mirrored(&selector)] {
                    let key = (
                        selector,
                        connection.child.mark_in,
                        connection.child.mark_out,
                        connection.child.if_id(),
                    );
                    let (first, known) = *seen.entry(key).or_insert((connection, plane));
                    if known != plane {
                        return Err(PlaneConflict {
                            first: first.name.clone(),
                            second: connection.name.clone(),
                            traffic: format!("{} to {}", selector.src, selector.dst),
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

/// The traffic selectors of an end that are known without asking anybody.
fn literal(end: &HostEnd) -> Vec<TrafficSelector> {
    let resolve = |ts: &TsTemplate| match (&ts.addresses, &end.host.value) {
        (TsAddresses::Dynamic, HostSpec::Address(host)) => Some(ts.resolve(*host)),
        (TsAddresses::Dynamic, _) => None,
        // The address plays no part in it.
        (TsAddresses::Range(first, _), _) => Some(ts.resolve(*first)),
    };
    end.subnets.iter().filter_map(resolve).collect()
}
