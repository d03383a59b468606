//! The lookups as the kernel's rules state them, for the reader: lists, loops, one condition a line.
//!
//! This is the yardstick that [`fast`](crate::fast) is measured with, and what explains a packet's fate. Nothing here
//! is meant to be quick.

mod check;
mod output;
mod policies;
mod states;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::{
    Action, Command, CommandError, Direction, Family, Flow, InstalledPolicy, Mark, PolicyReport,
    Reply, Sa, SaState, Selector,
};

/// An SA in the reference's list.
#[derive(Clone, Debug)]
pub struct State {
    /// The order of insertion, starting from 1, which is also the handle that lookups return.
    pub serial: u64,
    /// The SA; of a larval one only identity, source, mode, reqid, if_id and direction mean something.
    pub sa: Sa,
    /// Its state.
    pub state: SaState,
    /// Whether a soft limit was reached.
    pub dying: bool,
    /// When it was inserted.
    pub added: Instant,
}

/// SPD and SAD of one network namespace.
#[derive(Clone, Debug)]
pub struct Databases {
    policies: Vec<InstalledPolicy>,
    states: Vec<State>,
    /// By direction: what happens where no policy applies (XFRM_MSG_SETDEFAULT).
    defaults: [Action; 3],
    /// The next `pos`.
    next_pos: u64,
    /// The kernel's index generator, in steps of 8.
    next_index: u32,
    next_serial: u64,
    acquire_seq: u32,
    /// Whether anybody hears an ACQUIRE. Without, no larval state is made (K5).
    pub listener: bool,
    /// How long a larval state waits: the sysctl `net.core.xfrm_acq_expires`.
    pub acquire_expires: Duration,
}

impl Default for Databases {
    fn default() -> Databases {
        Databases::new()
    }
}

impl Databases {
    /// Empty databases; everything is allowed by default.
    pub fn new() -> Databases {
        Databases {
            policies: Vec::new(),
            states: Vec::new(),
            defaults: [Action::Allow; 3],
            next_pos: 0,
            next_index: 0,
            next_serial: 1,
            acquire_seq: 0,
            listener: true,
            acquire_expires: Duration::from_secs(30),
        }
    }

    /// Sets what happens in a direction where no policy applies.
    pub fn set_default(&mut self, direction: Direction, action: Action) {
        self.defaults[direction as usize] = action;
    }

    fn default_action(&self, direction: Direction) -> Action {
        self.defaults[direction as usize]
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
        match command {
            Command::AllocateSpi(request) => {
                self.allocate_spi(now, random, request).map(Reply::Spi)
            }
            Command::InstallSa(sa) => self.install_sa(now, sa).map(|()| Reply::Done),
            Command::UpdateSa(sa) => self.update_sa(now, sa).map(|()| Reply::Done),
            Command::MoveSa(request) => self.move_sa(request).map(|()| Reply::Done),
            Command::SkipSequence(request) => self.skip_sequence(request).map(|()| Reply::Done),
            Command::RemoveSa(id) => self.remove_sa(id).map(|_| Reply::Done),
            Command::QuerySa(id) => self.query_sa(id).map(|report| Reply::Sa(Box::new(report))),
            Command::InstallPolicy(policy) => {
                self.insert_policy(policy, false).map(|_| Reply::Done)
            }
            Command::UpdatePolicy(policy) => self.insert_policy(policy, true).map(|_| Reply::Done),
            Command::RemovePolicy(key) => self.remove_policy(key).map(|_| Reply::Done),
            Command::QueryPolicy(key) => {
                let policy = self
                    .policy(key)
                    .ok_or(CommandError::NotFound)?
                    .policy
                    .clone();
                Ok(Reply::Policy(Box::new(PolicyReport { policy })))
            }
        }
    }
}

/// K2: whether a selector means a flow.
pub fn selector_matches(selector: &Selector, flow: &Flow) -> bool {
    prefix_contains(&selector.src, flow.src)
        && prefix_contains(&selector.dst, flow.dst)
        && (selector.protocol == 0 || selector.protocol == flow.protocol)
        && (flow.sport ^ selector.sport.port) & selector.sport.mask == 0
        && (flow.dport ^ selector.dport.port) & selector.dport.mask == 0
        && (selector.ifindex == 0 || selector.ifindex == flow.ifindex)
}

/// Whether a mark accepts the mark of a packet.
pub fn mark_accepts(mark: Mark, packet_mark: u32) -> bool {
    packet_mark & mark.mask == mark.value
}

fn prefix_contains(prefix: &IpNet, address: IpAddr) -> bool {
    match (prefix, address) {
        (IpNet::V4(prefix), IpAddr::V4(address)) => prefix.contains(&address),
        (IpNet::V6(prefix), IpAddr::V6(address)) => prefix.contains(&address),
        _ => false,
    }
}

fn family_of(address: IpAddr) -> Family {
    Family::of(address)
}
