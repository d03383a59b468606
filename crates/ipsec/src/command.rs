//! What a key manager asks of a data plane: SA and policy commands as values, executed alike by the kernel's XFRM and
//! by a plane in user space.

use std::net::IpAddr;

use thiserror::Error;

use crate::{
    Encap, Family, Mark, Mode, Policy, PolicyKey, Protocol, Sa, SaCounters, SaDirection, SaId,
};

/// Asks for an SPI for an inbound SA (XFRM_MSG_ALLOCSPI). Creates a larval state, or gives the SPI to the one that
/// an acquire has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AllocateSpi {
    /// The outer source: the peer.
    pub src: IpAddr,
    /// The outer destination: this host.
    pub dst: IpAddr,
    /// The IPsec protocol.
    pub protocol: Protocol,
    /// The mode of the SA to come.
    pub mode: Mode,
    /// The request id of the SA to come.
    pub reqid: u32,
    /// The xfrm interface of the SA to come.
    pub if_id: u32,
    /// The mark of the SA to come.
    pub mark: Mark,
    /// The smallest SPI wanted; at least 256 (RFC 4303 §2.1 reserves the rest).
    pub min: u32,
    /// The largest SPI wanted.
    pub max: u32,
    /// The sequence number of the ACQUIRE being answered, or 0.
    pub acquire_seq: u32,
}

impl AllocateSpi {
    /// The smallest SPI that is not reserved (RFC 4303 §2.1).
    pub const SMALLEST_SPI: u32 = 256;

    /// Checks the range and the addresses.
    ///
    /// # Errors
    ///
    /// [`CommandError::Invalid`] naming the first rule broken.
    pub fn validate(&self) -> Result<(), CommandError> {
        let invalid = |reason: &str| Err(CommandError::Invalid(reason.into()));
        if self.min > self.max {
            return invalid("the smallest SPI wanted is greater than the largest");
        }
        if self.protocol == Protocol::Comp {
            // A CPI has 16 bits (RFC 3173 §2.1).
            if self.max > 0xffff {
                return invalid("a compression parameter index has 16 bits");
            }
        } else if self.min < AllocateSpi::SMALLEST_SPI {
            return invalid("SPIs below 256 are reserved");
        }
        if Family::of(self.src) != Family::of(self.dst) {
            return invalid("the addresses are of different families");
        }
        Ok(())
    }
}

/// Gives an installed SA other outer addresses, other ports, or takes or gives it UDP encapsulation: its peer has moved,
/// or we have (RFC 4555 §3.5, RFC 7296 §2.23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MoveSa {
    /// The SA as it is known until now.
    pub id: SaId,
    /// Its outer source from now on.
    pub src: IpAddr,
    /// Its outer destination from now on, and so part of its [`SaId`].
    pub dst: IpAddr,
    /// Its encapsulation from now on.
    pub encap: Option<Encap>,
}

impl MoveSa {
    /// What identifies the SA after the move.
    pub fn new_id(&self) -> SaId {
        SaId {
            dst: self.dst,
            ..self.id
        }
    }

    /// The SA after the move.
    ///
    /// # Errors
    ///
    /// [`CommandError::Invalid`] if it breaks a rule of [`Sa::validate`] then.
    pub fn apply(&self, sa: &Sa) -> Result<Sa, CommandError> {
        let mut moved = sa.clone();
        moved.id.dst = self.dst;
        moved.src = self.src;
        moved.encap = self.encap;
        moved.validate()?;
        Ok(moved)
    }
}

/// Has an outbound SA go on with later sequence numbers: some may have been used elsewhere (RFC 6311 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SkipSequence {
    /// The SA.
    pub id: SaId,
    /// So many numbers are left out, at most [`Self::MAX`].
    pub by: u64,
}

impl SkipSequence {
    /// The most numbers that are left out at once: whoever receives extended ones is not told their high half, and has to
    /// conclude it (RFC 4303 §2.2.1).
    pub const MAX: u64 = 1 << 31;

    /// So many numbers an SA must keep: it is to be renewed before the last one is used.
    pub const LEAST_LEFT: u64 = 1 << 30;

    /// The last number that counts as used then.
    ///
    /// # Errors
    ///
    /// [`CommandError::Invalid`] if it is too far, or leaves too few.
    pub fn after(&self, last: u64, esn: bool) -> Result<u64, CommandError> {
        let end = if esn { u64::MAX } else { u64::from(u32::MAX) };
        let skipped = last.checked_add(self.by).filter(|skipped| {
            self.by <= Self::MAX && *skipped <= end.saturating_sub(Self::LEAST_LEFT)
        });
        skipped.ok_or_else(|| {
            let text = "the SA does not have so many sequence numbers to leave out";
            CommandError::Invalid(text.into())
        })
    }

    /// Whether an SA may do that: only one that sends, and numbers its packets.
    ///
    /// # Errors
    ///
    /// [`CommandError::Invalid`].
    pub fn validate(&self, sa: &Sa) -> Result<(), CommandError> {
        if sa.direction != SaDirection::Out || sa.id.protocol == Protocol::Comp {
            let text = "only an outbound SA of ESP or AH numbers packets";
            return Err(CommandError::Invalid(text.into()));
        }
        Ok(())
    }
}

/// A request to a data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Reserve an SPI; answered by [`Reply::Spi`].
    AllocateSpi(AllocateSpi),
    /// Install an SA. One whose SPI was allocated replaces its larval state; an existing SA with that id is an error.
    InstallSa(Box<Sa>),
    /// Change what may change in an installed SA: encapsulation ports, lifetimes, set-mark, if_id (K14).
    UpdateSa(Box<Sa>),
    /// Move an installed SA to other addresses, under its keys. Sequence numbers, replay window, lifetimes and counters
    /// go on: no sequence number is used twice, no packet taken twice. A plane may skip sequence numbers.
    MoveSa(MoveSa),
    /// Leave sequence numbers of an outbound SA out. None is used twice, whatever else is under way.
    SkipSequence(SkipSequence),
    /// Remove an SA.
    RemoveSa(SaId),
    /// Install a policy; an existing one with that key is an error.
    InstallPolicy(Box<Policy>),
    /// Install a policy, or replace the one with that key.
    UpdatePolicy(Box<Policy>),
    /// Remove a policy.
    RemovePolicy(PolicyKey),
    /// Report an SA; answered by [`Reply::Sa`].
    QuerySa(SaId),
    /// Report a policy; answered by [`Reply::Policy`].
    QueryPolicy(PolicyKey),
}

/// Where in its life an SA is (the kernel's XFRM_STATE_ values).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SaState {
    /// No keys yet: made by an acquire or by the allocation of its SPI (XFRM_STATE_ACQ).
    Larval,
    /// In use.
    Valid,
    /// Negotiation has failed.
    Error,
    /// A hard limit was reached.
    Expired,
}

/// An SA as a data plane holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaReport {
    /// The SA; a plane may leave the keys out, they are empty then.
    pub sa: Sa,
    /// Its state.
    pub state: SaState,
    /// What it has done.
    pub counters: SaCounters,
}

/// A policy as a data plane holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyReport {
    /// The policy, its index filled in.
    pub policy: Policy,
}

/// The answer to a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// The SPI reserved.
    Spi(u32),
    /// The SA asked for.
    Sa(Box<SaReport>),
    /// The policy asked for.
    Policy(Box<PolicyReport>),
}

/// Why a [`Command`] was not executed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Something with that identity is there already.
    #[error("it exists already")]
    Exists,
    /// Nothing with that identity is there.
    #[error("no such entry")]
    NotFound,
    /// The data plane does not know how.
    #[error("not supported by this data plane: {0}")]
    Unsupported(String),
    /// The request contradicts itself or the rules.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The caller may not.
    #[error("no permission to change the IPsec databases")]
    NoPermission,
    /// No memory, no free SPI, a table is full.
    #[error("out of resources")]
    OutOfResources,
    /// The data plane refused for a reason of its own.
    #[error("{text} (errno {errno})")]
    Failed {
        /// The error number.
        errno: i32,
        /// Its text, or the kernel's extended one.
        text: String,
    },
}

/// A data plane's databases, seen from the key manager.
pub trait SaDatabase {
    /// Executes one command.
    ///
    /// # Errors
    ///
    /// See [`CommandError`]. A refused command has changed nothing, but that an allocation which finds no SPI may leave
    /// a larval state for as long as such states last.
    fn execute(&mut self, command: &Command) -> Result<Reply, CommandError>;
}
