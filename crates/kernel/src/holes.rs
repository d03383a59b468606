//! Group S3.6: what must pass in clear whatever is protected.
//!
//! A tunnel whose selectors cover the link's own addresses would swallow IPv6 neighbour discovery,
//! without which the ESP packets find no next hop: the link goes dead as soon as the neighbour's
//! entry expires. So solicitations and advertisements (ICMPv6 types 135 and 136, RFC 4861) get
//! policies of their own in all three directions. They are ordinary policies: installed through
//! [`SaDatabase`], recorded in the ledger, gone after a stop.
//!
//! The IKE sockets' exemption, the other hole, is [`linux::exempt_from_policies`](crate::linux).

use cygnet_ipsec::{
    Command, CommandError, Direction, Family, Policy, PolicyKey, PortMatch, SaDatabase, Selector,
};

/// Before any policy of connections.
pub const NEIGHBOUR_DISCOVERY_PRIORITY: u32 = 1;

const IPPROTO_ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u16 = 135;
const NEIGHBOUR_ADVERTISEMENT: u16 = 136;

/// The policies that let neighbour discovery pass.
pub fn neighbour_discovery_policies() -> impl Iterator<Item = Policy> {
    [NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT]
        .into_iter()
        .flat_map(|kind| {
            Direction::ALL.into_iter().map(move |direction| {
                let selector = Selector {
                    protocol: IPPROTO_ICMPV6,
                    // For ICMP the source port is the type (K2).
                    sport: PortMatch::exact(kind),
                    ..Selector::any(Family::V6)
                };
                Policy {
                    priority: NEIGHBOUR_DISCOVERY_PRIORITY,
                    ..Policy::new(PolicyKey::new(direction, selector))
                }
            })
        })
}

/// The holes for neighbour discovery that we have made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NeighbourDiscoveryHoles {
    ours: Vec<PolicyKey>,
}

impl NeighbourDiscoveryHoles {
    /// Makes them. One that is there already (another key manager has made it) serves as well and
    /// is left alone, also by [`close`](Self::close).
    ///
    /// # Errors
    /// The first refusal; what was made before it is taken back.
    pub fn open(database: &mut dyn SaDatabase) -> Result<Self, CommandError> {
        let mut holes = Self::default();
        for policy in neighbour_discovery_policies() {
            let key = policy.key;
            match database.execute(&Command::InstallPolicy(Box::new(policy))) {
                Ok(_) => holes.ours.push(key),
                Err(CommandError::Exists) => {}
                Err(error) => {
                    let _ = holes.close(database);
                    return Err(error);
                }
            }
        }
        Ok(holes)
    }

    /// How many of them are ours.
    pub fn made(&self) -> usize {
        self.ours.len()
    }

    /// Closes those that are ours.
    ///
    /// # Errors
    /// The last refusal but "not found"; the others are closed all the same.
    pub fn close(self, database: &mut dyn SaDatabase) -> Result<(), CommandError> {
        let mut result = Ok(());
        for key in self.ours {
            match database.execute(&Command::RemovePolicy(key)) {
                Ok(_) | Err(CommandError::NotFound) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sadb::{MemorySadb, Sadb};

    #[test]
    fn six_policies_come_and_go() {
        let mut database = MemorySadb::new();
        let holes = NeighbourDiscoveryHoles::open(&mut database).unwrap();
        assert_eq!(holes.made(), 6);
        assert_eq!(database.policies().unwrap().len(), 6);
        holes.close(&mut database).unwrap();
        assert!(database.policies().unwrap().is_empty());
    }

    #[test]
    fn foreign_holes_serve_and_stay() {
        let mut database = MemorySadb::new();
        let foreign = neighbour_discovery_policies().next().unwrap();
        database
            .execute(&Command::InstallPolicy(Box::new(foreign)))
            .unwrap();
        let holes = NeighbourDiscoveryHoles::open(&mut database).unwrap();
        assert_eq!(holes.made(), 5);
        holes.close(&mut database).unwrap();
        assert_eq!(database.policies().unwrap().len(), 1);
    }

    #[test]
    fn a_refusal_takes_back_what_was_made() {
        let mut database = MemorySadb::new();
        database.refuse_after(3, CommandError::NoPermission);
        assert_eq!(
            NeighbourDiscoveryHoles::open(&mut database),
            Err(CommandError::NoPermission)
        );
        assert!(database.policies().unwrap().is_empty());
    }
}
