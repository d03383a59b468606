//! Group S3.5: the kernel's SAD and SPD. Commands of `cygnet-ipsec` in, events out.
//!
//! [`LinuxSadb`] executes them by XFRM netlink and keeps the [`Ledger`](crate::ledger::Ledger) of
//! what is ours; [`MemorySadb`] is a stand-in for tests. How commands become messages is in
//! `convert`, an SA's move to other addresses in `migrate`, names of algorithms are in `algorithms`, what a kernel can do is found out by `probe`.

mod algorithms;
mod convert;
mod dump;
mod linux;
mod memory;
mod migrate;
mod probe;

use std::os::fd::BorrowedFd;

use cygnet_ipsec as ipsec;
use ipsec::{Command, CommandError, PolicyReport, Reply, SaDatabase, SaReport};

pub use algorithms::AlgorithmError;
pub use convert::Untranslatable;
pub use dump::{Dump, dump};
pub use linux::{LinuxSadb, Reconciliation, SadbError};
pub use memory::MemorySadb;
pub use probe::{Algorithms, Capabilities, EspSupport};

/// What comes from the kernel unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly always an event, and handed on at once"
)]
pub enum SadbEvent {
    /// Something happened to an SA or a policy, or a packet wants an SA.
    Event(ipsec::Event),
    /// Events were lost: compare what is believed with [`Sadb::sas`] and [`Sadb::policies`]. Lost
    /// ACQUIREs come again when their larval SA has expired (30 s by default).
    Resync,
}

/// The kernel's databases, as the daemon uses them.
pub trait Sadb: SaDatabase {
    /// Executes commands in order; one's failure does not stop the others.
    fn execute_all(&mut self, commands: &[Command]) -> Vec<Result<Reply, CommandError>> {
        commands.iter().map(|c| self.execute(c)).collect()
    }

    /// The next event, `None` if there is none now.
    ///
    /// # Errors
    /// The event source failed; it will not recover.
    fn next_event(&mut self) -> Result<Option<SadbEvent>, SadbError>;

    /// A descriptor that is readable when [`Sadb::next_event`] has something; `None` if there is
    /// nothing to wait on.
    fn event_fd(&self) -> Option<BorrowedFd<'_>>;

    /// All SAs, foreign ones included, without keys.
    ///
    /// # Errors
    /// The table could not be read.
    fn sas(&mut self) -> Result<Vec<SaReport>, SadbError>;

    /// All policies, foreign ones included, those of sockets not.
    ///
    /// # Errors
    /// The table could not be read.
    fn policies(&mut self) -> Result<Vec<PolicyReport>, SadbError>;

    /// What the kernel can do, found out by use: a few SAs that match nothing come and go.
    ///
    /// # Errors
    /// The kernel could not be asked; lack of permission or of XFRM is an answer, no error.
    fn probe(&mut self) -> Result<Capabilities, SadbError>;

    /// Which algorithms the kernel has, found out by use. Loads the modules of all of them, which
    /// can take seconds: not for the start of a daemon.
    ///
    /// # Errors
    /// As [`Sadb::probe`].
    fn algorithms(&mut self) -> Result<Algorithms, SadbError>;
}
