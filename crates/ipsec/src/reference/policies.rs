//! The policy store and the search for a policy (K1, K2).

use super::{Databases, mark_accepts, selector_matches};
use crate::{CommandError, Direction, Flow, InstalledPolicy, Policy, PolicyKey, PolicyType};

impl Databases {
    /// Adds a policy and gives its index. With `replace` a policy of the same key makes way: the new one takes over
    /// its index but not its age (K1).
    ///
    /// # Errors
    ///
    /// [`CommandError::Exists`] without `replace`, [`CommandError::Invalid`] for a policy that [`Policy::validate`]
    /// refuses.
    pub fn insert_policy(&mut self, policy: &Policy, replace: bool) -> Result<u32, CommandError> {
        policy.validate()?;
        let mut policy = policy.clone();
        policy.key = policy.key.normalized();
        let old = self
            .policies
            .iter()
            .position(|p| p.policy.key == policy.key);
        policy.index = match old {
            Some(_) if !replace => return Err(CommandError::Exists),
            Some(position) => self.policies.remove(position).policy.index,
            None => self.new_index(policy.key.direction, policy.index),
        };
        let index = policy.index;
        let pos = self.next_pos;
        self.next_pos += 1;
        self.policies.push(InstalledPolicy { policy, pos });
        Ok(index)
    }

    /// The index wanted, or else the next that nobody has: direction in the low bits, steps of 8, never 0.
    fn new_index(&mut self, direction: Direction, wanted: u32) -> u32 {
        let mut candidate = wanted;
        loop {
            if candidate == 0 {
                candidate = self.next_index | direction as u32;
                self.next_index = self.next_index.wrapping_add(8);
            }
            if candidate == 0 {
                candidate = 8;
            }
            if self.policies.iter().all(|p| p.policy.index != candidate) {
                return candidate;
            }
            candidate = 0;
        }
    }

    /// Removes a policy. Selector, type, if_id and both halves of the mark must be the same.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`].
    pub fn remove_policy(&mut self, key: &PolicyKey) -> Result<Policy, CommandError> {
        match self.policies.iter().position(|p| p.policy.key == *key) {
            Some(position) => Ok(self.policies.remove(position).policy),
            None => Err(CommandError::NotFound),
        }
    }

    /// Removes all policies. Indexes and ages go on from where they were.
    pub fn flush_policies(&mut self) {
        self.policies.clear();
    }

    /// The policy with that key.
    pub fn policy(&self, key: &PolicyKey) -> Option<&InstalledPolicy> {
        self.policies.iter().find(|p| p.policy.key == *key)
    }

    /// All policies, oldest first.
    pub fn policies(&self) -> impl Iterator<Item = &InstalledPolicy> {
        self.policies.iter()
    }

    /// The policy for a flow: one of the sub table if there is any, else one of the main table (K2).
    pub fn lookup_policy(
        &self,
        direction: Direction,
        flow: &Flow,
        if_id: u32,
    ) -> Option<&InstalledPolicy> {
        self.lookup_policy_of_type(PolicyType::Sub, direction, flow, if_id)
            .or_else(|| self.lookup_policy_of_type(PolicyType::Main, direction, flow, if_id))
    }

    /// The policy of one table for a flow: the smallest priority wins, then the greatest age (K2).
    pub fn lookup_policy_of_type(
        &self,
        policy_type: PolicyType,
        direction: Direction,
        flow: &Flow,
        if_id: u32,
    ) -> Option<&InstalledPolicy> {
        self.policies
            .iter()
            .filter(|p| p.policy.key.policy_type == policy_type)
            .filter(|p| p.policy.key.direction == direction)
            .filter(|p| p.policy.key.if_id == if_id)
            .filter(|p| mark_accepts(p.policy.key.mark, flow.mark))
            .filter(|p| selector_matches(&p.policy.key.selector, flow))
            .min_by_key(|p| (p.policy.priority, p.pos))
    }
}
