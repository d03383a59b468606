//! Which of the kernel's policies are the kernel plane's own.
//!
//! The fence's policies are in the same database, and the kernel has one per
//! key (K1). A connection of the kernel plane and one of the user-space plane
//! with equal selectors would take each other's away: the one that could not be
//! installed would, on its way out, remove the other's fence.

use std::borrow::Cow;
use std::collections::HashSet;

use cygnet_ipsec::{Command, CommandError, PolicyKey, Reply};
use cygnet_kernel::Enclosure;

/// The policies that the kernel plane has installed.
#[derive(Debug, Default)]
pub(super) struct KernelPolicies(HashSet<PolicyKey>);

impl KernelPolicies {
    /// The command to be executed for one of the kernel plane: never one that
    /// changes or removes what is the fence's.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`]: the kernel plane has no such policy.
    pub(super) fn fitting<'a>(
        &self,
        command: &'a Command,
    ) -> Result<Cow<'a, Command>, CommandError> {
        match command {
            Command::RemovePolicy(key) if !self.0.contains(key) => Err(CommandError::NotFound),
            Command::UpdatePolicy(policy) if !self.0.contains(&policy.key) => {
                Ok(Cow::Owned(Command::InstallPolicy(policy.clone())))
            }
            _ => Ok(Cow::Borrowed(command)),
        }
    }

    /// Takes note of what has become of a command.
    pub(super) fn note(&mut self, command: &Command, result: &Result<Reply, CommandError>) {
        match (command, result) {
            // Only then it is surely another's; of other errors nobody knows what they have left.
            (_, Err(CommandError::Exists)) => {}
            (Command::InstallPolicy(policy) | Command::UpdatePolicy(policy), _) => {
                self.0.insert(policy.key);
            }
            (Command::RemovePolicy(key), Ok(_) | Err(CommandError::NotFound)) => {
                self.0.remove(key);
            }
            _ => {}
        }
    }

    /// The fence puts its own policies in the place of any that are there.
    pub(super) fn fenced(&mut self, enclosure: &Enclosure) {
        for policy in enclosure.block_policies() {
            self.0.remove(&policy.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_ipsec::{Action, Direction, Policy, SaDatabase, Selector};
    use cygnet_kernel::Fence;
    use cygnet_kernel::sadb::MemorySadb;

    fn execute(
        own: &mut KernelPolicies,
        kernel: &mut impl SaDatabase,
        command: &Command,
    ) -> Result<Reply, CommandError> {
        let result = own.fitting(command).and_then(|c| kernel.execute(&c));
        own.note(command, &result);
        result
    }

    #[test]
    fn a_fence_and_a_policy_of_the_kernel_plane_leave_each_other_alone() {
        let outbound = Selector::new(
            "10.1.0.0/16".parse().unwrap(),
            "10.2.0.0/16".parse().unwrap(),
        );
        let enclosure = Enclosure {
            outbound,
            priority: 3000,
        };
        let policy = Box::new(Policy::new(PolicyKey::new(Direction::Out, outbound)));
        let (install, update, remove) = (
            Command::InstallPolicy(policy.clone()),
            Command::UpdatePolicy(policy.clone()),
            Command::RemovePolicy(policy.key),
        );
        let mut kernel = MemorySadb::new();
        let mut own = KernelPolicies::default();
        let mut fence = Fence::default();
        let fenced = |kernel: &mut MemorySadb| {
            matches!(
                kernel.execute(&Command::QueryPolicy(policy.key)),
                Ok(Reply::Policy(report)) if report.policy.action == Action::Block
            )
        };

        // What could not be installed does not take the fence with it.
        fence.raise(&mut kernel, &enclosure).unwrap();
        own.fenced(&enclosure);
        for command in [&install, &update] {
            assert_eq!(
                execute(&mut own, &mut kernel, command),
                Err(CommandError::Exists)
            );
        }
        assert_eq!(
            execute(&mut own, &mut kernel, &remove),
            Err(CommandError::NotFound)
        );
        assert!(fenced(&mut kernel));
        kernel.execute(&remove).unwrap();

        // Alone it comes, changes and goes.
        for command in [&install, &update, &remove, &install] {
            execute(&mut own, &mut kernel, command).unwrap();
        }
        // A fence that comes later stays.
        let mut fence = Fence::default();
        fence.raise(&mut kernel, &enclosure).unwrap();
        own.fenced(&enclosure);
        assert_eq!(
            execute(&mut own, &mut kernel, &remove),
            Err(CommandError::NotFound)
        );
        assert!(fenced(&mut kernel));
    }
}
