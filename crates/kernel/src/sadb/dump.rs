//! The databases as they are, without taking any part in them: for who explains.

use cygnet_ipsec as ipsec;
use cygnet_xfrm as xfrm;
use ipsec::SaReport;

use super::convert;
use super::linux::SadbError;

/// SPD and SAD of a network namespace.
#[derive(Debug, Clone, Default)]
pub struct Dump {
    /// The SAs without their keys, oldest first.
    pub sas: Vec<SaReport>,
    /// The policies, oldest first, which decides between those of one priority (K2). Those of sockets are not among them.
    pub policies: Vec<ipsec::Policy>,
    /// By direction: what happens where no policy applies. Kernels before 5.15 allow.
    pub defaults: [ipsec::Action; 3],
    /// How many entries say something that has no place in the model: Mobile IPv6.
    pub untranslatable: usize,
}

/// Reads the databases of the calling thread's network namespace. Nobody is asked for SAs because of it, as an open
/// [`LinuxSadb`](super::LinuxSadb) would be.
///
/// # Errors
/// No XFRM in the kernel, no permission, or a table that could not be read.
pub fn dump() -> Result<Dump, SadbError> {
    let mut client = xfrm::Client::open()?;
    let mut dump = Dump::default();
    // The kernel puts what is new in front.
    for (info, attributes) in client.dump_sas()?.into_iter().rev() {
        match convert::sa_report(&info, &attributes) {
            Ok(report) => dump.sas.push(report),
            Err(_) => dump.untranslatable += 1,
        }
    }
    for (info, attributes) in client.dump_policies()?.into_iter().rev() {
        if info.direction.is_socket() {
            continue;
        }
        match convert::policy_report(&info, &attributes) {
            Ok(report) => dump.policies.push(report.policy),
            Err(_) => dump.untranslatable += 1,
        }
    }
    if let Ok(defaults) = client.defaults() {
        let action = |action| match action {
            xfrm::DefaultAction::BLOCK => ipsec::Action::Block,
            _ => ipsec::Action::Allow,
        };
        dump.defaults = [
            action(defaults.inbound),
            action(defaults.outbound),
            action(defaults.forward),
        ];
    }
    Ok(dump)
}
