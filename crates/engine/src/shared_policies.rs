//! Policies that several owners want: a trap and the child SA that it raised,
//! or the old and the new child SA of a replacement.
//!
//! The kernel keeps one policy per key (K1). Whoever came last decides what it
//! says; when that owner goes, the one before decides again; only the last one
//! to go removes it.

use std::collections::HashMap;

use cygnet_ipsec::{Command, Policy, PolicyKey};

/// Who wants a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OwnerId(pub u64);

/// The wanted policies of one plane.
#[derive(Debug, Default)]
pub(crate) struct SharedPolicies {
    wanted: HashMap<PolicyKey, Vec<(OwnerId, Policy)>>,
}

impl SharedPolicies {
    /// Records a wish and returns the command that makes it true.
    pub(crate) fn add(&mut self, owner: OwnerId, policy: Policy) -> Command {
        let stack = self.wanted.entry(policy.key).or_default();
        let known = !stack.is_empty();
        stack.retain(|(o, _)| *o != owner);
        stack.push((owner, policy.clone()));
        if known {
            Command::UpdatePolicy(Box::new(policy))
        } else {
            Command::InstallPolicy(Box::new(policy))
        }
    }

    /// What an owner wants the policy to say.
    pub(crate) fn wanted_by(&self, owner: OwnerId, key: &PolicyKey) -> Option<&Policy> {
        let stack = self.wanted.get(key)?;
        stack.iter().find(|(o, _)| *o == owner).map(|(_, p)| p)
    }

    /// Has an owner's policy ask for SAs of single CPUs, or not, and returns the command that follows from it, if any.
    pub(crate) fn set_per_cpu(
        &mut self,
        owner: OwnerId,
        key: &PolicyKey,
        per_cpu: bool,
    ) -> Option<Command> {
        let stack = self.wanted.get_mut(key)?;
        let top = stack.len().checked_sub(1)?;
        let (at, (_, policy)) = stack
            .iter_mut()
            .enumerate()
            .find(|(_, (o, policy))| *o == owner && policy.per_cpu != per_cpu)?;
        policy.per_cpu = per_cpu;
        (at == top).then(|| Command::UpdatePolicy(Box::new(policy.clone())))
    }

    /// Forgets a wish and returns the command that follows from it, if any.
    pub(crate) fn remove(&mut self, owner: OwnerId, key: &PolicyKey) -> Option<Command> {
        let stack = self.wanted.get_mut(key)?;
        let was_top = stack.last().is_some_and(|(o, _)| *o == owner);
        let before = stack.len();
        stack.retain(|(o, _)| *o != owner);
        if stack.len() == before {
            return None;
        }
        match stack.last() {
            None => {
                self.wanted.remove(key);
                Some(Command::RemovePolicy(*key))
            }
            Some((_, policy)) if was_top => Some(Command::UpdatePolicy(Box::new(policy.clone()))),
            Some(_) => None,
        }
    }

    /// What a command that was to follow from a wish is to be by now, since others may have wished meanwhile.
    pub(crate) fn brought_up_to_date(&self, command: Command) -> Option<Command> {
        let key = match &command {
            Command::InstallPolicy(policy) | Command::UpdatePolicy(policy) => policy.key,
            Command::RemovePolicy(key) => *key,
            _ => return Some(command),
        };
        let wanted = self.wanted.get(&key).and_then(|stack| stack.last());
        match (wanted, &command) {
            (Some((_, policy)), Command::InstallPolicy(_) | Command::UpdatePolicy(_)) => {
                Some(Command::UpdatePolicy(Box::new(policy.clone())))
            }
            (None, Command::RemovePolicy(_)) => Some(command),
            // It is as it should be: whoever has changed it since has seen to that.
            _ => None,
        }
    }

    /// Number of distinct policies.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.wanted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_ipsec::{Direction, Selector};

    fn policy(priority: u32) -> Policy {
        let selector = Selector::new(
            "10.1.0.0/24".parse().unwrap(),
            "10.2.0.0/24".parse().unwrap(),
        );
        Policy {
            priority,
            ..Policy::new(PolicyKey::new(Direction::Out, selector))
        }
    }

    #[test]
    fn what_an_owner_asks_for_takes_effect_when_it_decides() {
        let mut shared = SharedPolicies::default();
        let key = policy(0).key;
        let (old, new) = (OwnerId(1), OwnerId(2));
        shared.add(old, policy(1));
        shared.add(new, policy(2));
        assert!(shared.set_per_cpu(old, &key, true).is_none());
        assert!(shared.set_per_cpu(new, &key, false).is_none(), "as it is");
        match shared.set_per_cpu(new, &key, true) {
            Some(Command::UpdatePolicy(p)) => assert!((p.per_cpu, p.priority) == (true, 2)),
            other => panic!("{other:?}"),
        }
        match shared.remove(new, &key) {
            Some(Command::UpdatePolicy(p)) => assert!((p.per_cpu, p.priority) == (true, 1)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_owner_decides_and_the_last_to_go_removes() {
        let mut shared = SharedPolicies::default();
        let key = policy(0).key;
        let (trap, old, new) = (OwnerId(1), OwnerId(2), OwnerId(3));
        assert!(matches!(
            shared.add(trap, policy(1)),
            Command::InstallPolicy(_)
        ));
        assert!(matches!(
            shared.add(old, policy(2)),
            Command::UpdatePolicy(_)
        ));
        assert!(matches!(
            shared.add(new, policy(3)),
            Command::UpdatePolicy(_)
        ));
        assert!(
            shared.remove(old, &key).is_none(),
            "the newest still decides"
        );
        match shared.remove(new, &key) {
            Some(Command::UpdatePolicy(p)) => assert_eq!(p.priority, 1, "back to the trap"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            shared.remove(trap, &key),
            Some(Command::RemovePolicy(_))
        ));
        assert!(
            shared.remove(trap, &key).is_none(),
            "removing twice does nothing"
        );
        assert_eq!(shared.len(), 0);
    }
}
