//! Policies by what identifies them and by what they match (K1, K2).
//!
//! A policy matches on two prefixes, an if_id, a mark under a mask, and a few upper-layer fields. The first four are
//! hashed: policies with equal values share a *bucket*. To find the buckets that a flow can be in, each combination of
//! prefix lengths and mark mask that is in use must be tried. It is organised so that only combinations which exist
//! under a matching destination are tried:
//!
//! * a [`Table`] per type, direction and family knows which destination prefix lengths exist;
//! * a [`Node`] per (if_id, destination prefix) knows which [`Shape`]s of source prefix length and mark mask exist there;
//! * a bucket per (if_id, destination, source, mark) lists its policies, the preferred first.
//!
//! Every level keeps a bound on the rank of what is below it, so that a search passes over what cannot win. For
//! policies whose priorities follow their specificity, as key managers make them, the first hit is the last.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use slab::Slab;

use super::prefix::{FlowBits, UpperBits, network, truncate};
use crate::{
    Action, CommandError, Direction, Family, Flow, InstalledPolicy, Policy, PolicyKey, PolicyType,
};

/// Smaller is preferred: priority, then age.
type Rank = (u32, u64);

/// The Security Policy Database.
#[derive(Debug, Default)]
pub struct Spd {
    policies: Slab<InstalledPolicy>,
    by_key: HashMap<PolicyKey, usize>,
    by_index: HashMap<u32, usize>,
    tables: [Table; TABLES],
    defaults: [Action; 3],
    next_pos: u64,
    next_index: u32,
}

/// Two types, three directions, two families.
const TABLES: usize = 12;

#[derive(Debug, Default)]
struct Table {
    /// How many nodes there are for each destination prefix length, the longest first.
    lengths: Vec<(u8, usize)>,
    nodes: HashMap<NodeKey, Node>,
    buckets: HashMap<BucketKey, Vec<Candidate>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct NodeKey {
    if_id: u32,
    dst: (u128, u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct BucketKey {
    node: NodeKey,
    src: (u128, u8),
    mark: (u32, u32),
}

#[derive(Debug)]
struct Node {
    bound: Rank,
    shapes: Vec<Shape>,
}

/// A combination of source prefix length and mark mask.
#[derive(Debug)]
struct Shape {
    src_len: u8,
    mark_mask: u32,
    /// How many policies have it.
    count: usize,
    /// No policy of this shape ranks before this. Removals leave it as it is: it is then lower than need be, which
    /// costs a probe and no error.
    bound: Rank,
}

#[derive(Debug)]
struct Candidate {
    rank: Rank,
    upper: UpperBits,
    policy: usize,
}

impl Spd {
    /// An empty database; everything is allowed by default.
    pub fn new() -> Spd {
        Spd::default()
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// All policies, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &InstalledPolicy> {
        self.policies.iter().map(|(_, policy)| policy)
    }

    /// Sets what happens in a direction where no policy applies.
    pub fn set_default(&mut self, direction: Direction, action: Action) {
        if let Some(default) = self.defaults.get_mut(direction as usize) {
            *default = action;
        }
    }

    /// What happens in a direction where no policy applies.
    pub fn default_action(&self, direction: Direction) -> Action {
        self.defaults
            .get(direction as usize)
            .copied()
            .unwrap_or_default()
    }

    /// The policy with that key.
    pub fn get(&self, key: &PolicyKey) -> Option<&InstalledPolicy> {
        self.policies.get(*self.by_key.get(key)?)
    }

    /// The policy with that index.
    pub fn get_by_index(&self, index: u32) -> Option<&InstalledPolicy> {
        self.policies.get(*self.by_index.get(&index)?)
    }

    /// Adds a policy and gives its index.
    ///
    /// # Errors
    ///
    /// [`CommandError::Exists`] if there is one of that key, [`CommandError::Invalid`] if [`Policy::validate`]
    /// refuses it.
    pub fn insert(&mut self, policy: &Policy) -> Result<u32, CommandError> {
        if self.by_key.contains_key(&policy.key.normalized()) {
            policy.validate()?;
            return Err(CommandError::Exists);
        }
        self.update(policy)
    }

    /// Adds a policy, or puts it in the place of the one with that key; it then has the old index and a new age (K1).
    ///
    /// # Errors
    ///
    /// [`CommandError::Invalid`] if [`Policy::validate`] refuses it.
    pub fn update(&mut self, policy: &Policy) -> Result<u32, CommandError> {
        policy.validate()?;
        let mut policy = policy.clone();
        policy.key = policy.key.normalized();
        policy.index = match self.remove(&policy.key) {
            Ok(old) => old.index,
            Err(_) => self.free_index(policy.key.direction, policy.index),
        };
        let (key, index, pos) = (policy.key, policy.index, self.next_pos);
        self.next_pos += 1;
        let rank = (policy.priority, pos);
        let slot = self.policies.insert(InstalledPolicy { policy, pos });
        self.by_key.insert(key, slot);
        self.by_index.insert(index, slot);
        if let Some(table) = self.tables.get_mut(table_of(&key)) {
            table.insert(&key, rank, slot);
        }
        Ok(index)
    }

    /// Removes a policy.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`].
    pub fn remove(&mut self, key: &PolicyKey) -> Result<Policy, CommandError> {
        let slot = self.by_key.remove(key).ok_or(CommandError::NotFound)?;
        let InstalledPolicy { policy, pos } = self
            .policies
            .try_remove(slot)
            .ok_or(CommandError::NotFound)?;
        self.by_index.remove(&policy.index);
        if let Some(table) = self.tables.get_mut(table_of(key)) {
            table.remove(key, (policy.priority, pos));
        }
        Ok(policy)
    }

    /// Removes all policies. Indexes and ages go on from where they were.
    pub fn flush(&mut self) {
        self.policies.clear();
        self.by_key.clear();
        self.by_index.clear();
        self.tables = Default::default();
    }

    /// The policy for a flow: one of the sub table if there is any, else one of the main table (K2).
    pub fn lookup(
        &self,
        direction: Direction,
        flow: &Flow,
        if_id: u32,
    ) -> Option<&InstalledPolicy> {
        self.lookup_of_type(PolicyType::Sub, direction, flow, if_id)
            .or_else(|| self.lookup_of_type(PolicyType::Main, direction, flow, if_id))
    }

    /// The policy of one table for a flow.
    pub fn lookup_of_type(
        &self,
        policy_type: PolicyType,
        direction: Direction,
        flow: &Flow,
        if_id: u32,
    ) -> Option<&InstalledPolicy> {
        if flow.src.is_ipv4() != flow.dst.is_ipv4() {
            return None;
        }
        let table = self
            .tables
            .get(table_number(policy_type, direction, flow.family()))?;
        self.policies.get(table.lookup(flow, if_id)?)
    }

    fn free_index(&mut self, direction: Direction, wanted: u32) -> u32 {
        if wanted != 0 && !self.by_index.contains_key(&wanted) {
            return wanted;
        }
        loop {
            let generated = self.next_index | direction as u32;
            self.next_index = self.next_index.wrapping_add(8);
            let index = if generated == 0 { 8 } else { generated };
            if !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }
}

fn table_of(key: &PolicyKey) -> usize {
    table_number(key.policy_type, key.direction, key.selector.family())
}

fn table_number(policy_type: PolicyType, direction: Direction, family: Family) -> usize {
    let family = match family {
        Family::V4 => 0,
        Family::V6 => 1,
    };
    (policy_type as usize * 3 + direction as usize) * 2 + family
}

fn bucket_key(key: &PolicyKey) -> BucketKey {
    BucketKey {
        node: NodeKey {
            if_id: key.if_id,
            dst: network(&key.selector.dst),
        },
        src: network(&key.selector.src),
        mark: (key.mark.value, key.mark.mask),
    }
}

impl Table {
    fn insert(&mut self, key: &PolicyKey, rank: Rank, policy: usize) {
        let bucket_key = bucket_key(key);
        let BucketKey {
            node: node_key,
            src: (_, src_len),
            mark: (_, mark_mask),
        } = bucket_key;

        let bucket = self.buckets.entry(bucket_key).or_default();
        let place = bucket.partition_point(|candidate| candidate.rank < rank);
        bucket.insert(
            place,
            Candidate {
                rank,
                upper: UpperBits::new(&key.selector),
                policy,
            },
        );

        let node = match self.nodes.entry(node_key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let len = node_key.dst.1;
                match self.lengths.binary_search_by(|(other, _)| len.cmp(other)) {
                    Ok(place) => self.lengths[place].1 += 1,
                    Err(place) => self.lengths.insert(place, (len, 1)),
                }
                entry.insert(Node {
                    bound: rank,
                    shapes: Vec::new(),
                })
            }
        };
        node.bound = node.bound.min(rank);
        match node
            .shapes
            .iter_mut()
            .find(|s| s.src_len == src_len && s.mark_mask == mark_mask)
        {
            Some(shape) => {
                shape.count += 1;
                shape.bound = shape.bound.min(rank);
            }
            None => node.shapes.push(Shape {
                src_len,
                mark_mask,
                count: 1,
                bound: rank,
            }),
        }
    }

    fn remove(&mut self, key: &PolicyKey, rank: Rank) {
        let bucket_key = bucket_key(key);
        let BucketKey {
            node: node_key,
            src: (_, src_len),
            mark: (_, mark_mask),
        } = bucket_key;

        if let Entry::Occupied(mut bucket) = self.buckets.entry(bucket_key) {
            bucket.get_mut().retain(|candidate| candidate.rank != rank);
            if bucket.get().is_empty() {
                bucket.remove();
            }
        }
        let Entry::Occupied(mut node) = self.nodes.entry(node_key) else {
            return;
        };
        node.get_mut().shapes.retain_mut(|shape| {
            if shape.src_len == src_len && shape.mark_mask == mark_mask {
                shape.count -= 1;
            }
            shape.count != 0
        });
        if node.get().shapes.is_empty() {
            node.remove();
            self.lengths.retain_mut(|(len, count)| {
                if *len == node_key.dst.1 {
                    *count -= 1;
                }
                *count != 0
            });
        }
    }

    fn lookup(&self, flow: &Flow, if_id: u32) -> Option<usize> {
        let bits = FlowBits::new(flow);
        let mut best: Option<(Rank, usize)> = None;
        let cannot_win =
            |best: Option<(Rank, usize)>, bound: Rank| best.is_some_and(|(rank, _)| rank <= bound);
        for &(dst_len, _) in &self.lengths {
            let node_key = NodeKey {
                if_id,
                dst: (truncate(bits.dst, dst_len), dst_len),
            };
            let Some(node) = self.nodes.get(&node_key) else {
                continue;
            };
            if cannot_win(best, node.bound) {
                continue;
            }
            for shape in &node.shapes {
                if cannot_win(best, shape.bound) {
                    continue;
                }
                let key = BucketKey {
                    node: node_key,
                    src: (truncate(bits.src, shape.src_len), shape.src_len),
                    mark: (flow.mark & shape.mark_mask, shape.mark_mask),
                };
                for candidate in self.buckets.get(&key).into_iter().flatten() {
                    if cannot_win(best, candidate.rank) {
                        break;
                    }
                    if candidate.upper.accepts(&bits) {
                        best = Some((candidate.rank, candidate.policy));
                        break;
                    }
                }
            }
        }
        best.map(|(_, policy)| policy)
    }
}
