//! The lookups that a data plane uses: the answers of [`reference`](mod@crate::reference) from hashed indexes, made
//! for a hundred thousand policies and SAs.
//!
//! [`Spd`] and [`Sad`] can be used apart; [`Databases`] joins them and executes [`Command`]s.

mod check;
mod output;
mod prefix;
mod sad;
mod spd;

use std::time::Instant;

pub use sad::{SaIndex, Sad, SadEntry};
pub use spd::Spd;

use crate::{
    Command, CommandError, Direction, Inbound, InboundPacket, OutboundPacket, PolicyReport, Reply,
    Resolution,
};

/// SPD and SAD together.
#[derive(Debug, Default)]
pub struct Databases {
    /// The policies.
    pub spd: Spd,
    /// The SAs.
    pub sad: Sad,
}

impl Databases {
    /// Empty databases; everything is allowed by default.
    pub fn new() -> Databases {
        Databases::default()
    }

    /// What becomes of an outbound packet (K2 to K5).
    pub fn output(&self, packet: &OutboundPacket<'_>) -> Resolution<SaIndex> {
        output::output(&self.spd, &self.sad, packet)
    }

    /// Whether a packet may be delivered (`In`) or forwarded (`Fwd`), given the SAs it was opened with (K9).
    pub fn check(&self, direction: Direction, packet: &InboundPacket<'_>) -> Inbound {
        self.spd.check(direction, packet)
    }

    /// Executes a command. `random` is drawn from once when an SPI is to be chosen.
    ///
    /// # Errors
    ///
    /// As the kernel refuses it; see [`SaDatabase::execute`](crate::SaDatabase::execute).
    pub fn execute(
        &mut self,
        now: Instant,
        random: &mut dyn FnMut() -> u32,
        command: &Command,
    ) -> Result<Reply, CommandError> {
        Ok(match command {
            Command::AllocateSpi(request) => {
                Reply::Spi(self.sad.allocate_spi(now, random, request)?)
            }
            Command::InstallSa(sa) => {
                self.sad.install(now, sa)?;
                Reply::Done
            }
            Command::UpdateSa(sa) => {
                self.sad.update(now, sa)?;
                Reply::Done
            }
            Command::MoveSa(request) => {
                self.sad.move_sa(request)?;
                Reply::Done
            }
            Command::SkipSequence(request) => {
                self.sad.sender(request)?;
                Reply::Done
            }
            Command::RemoveSa(id) => {
                self.sad.remove(id)?;
                Reply::Done
            }
            Command::QuerySa(id) => Reply::Sa(Box::new(self.sad.report(id)?)),
            Command::InstallPolicy(policy) => {
                self.spd.insert(policy)?;
                Reply::Done
            }
            Command::UpdatePolicy(policy) => {
                self.spd.update(policy)?;
                Reply::Done
            }
            Command::RemovePolicy(key) => {
                self.spd.remove(key)?;
                Reply::Done
            }
            Command::QueryPolicy(key) => {
                let policy = self
                    .spd
                    .get(key)
                    .ok_or(CommandError::NotFound)?
                    .policy
                    .clone();
                Reply::Policy(Box::new(PolicyReport { policy }))
            }
        })
    }
}
