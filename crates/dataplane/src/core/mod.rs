//! The plane without I/O: packets, commands and the time go in; packets and events come out.
//!
//! Outbound (K2–K5): flow, policy, SA, then a run of packets for one SA is sealed together under
//! one block of sequence numbers. Inbound (K8, K9): SPI, SA, open, then the policy check with the SA
//! as secpath. Databases, lookup rules and commands are those of `cygnet-ipsec`; this module adds
//! what acts: ciphers, counters, clocks, queues.
//!
//! To drive it: [`Core::execute`] for commands; [`Core::outbound`] and [`Core::inbound`] for
//! batches; [`Core::handle_timeout`] when [`Core::next_timeout`] has come; after each of them empty
//! the [`Output`] and ask [`Core::poll_event`] until it has no more. `now` never goes back.

mod batch;
mod commands;
mod compression;
mod early;
mod hold;
mod inbound;
mod limit;
mod live;
mod numbers;
mod outbound;
mod path;
#[cfg(test)]
mod tests;
mod timer;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Instant;

use cygnet_ipsec::fast::{Databases, SaIndex};
use cygnet_ipsec::{Counters, Event, PolicyKey, PolicyLifetimeState};
use hashbrown::HashMap;

use crate::config::CoreConfig;
use crate::counters::CoreCounters;
use crate::packet::Packet;

pub use batch::{Arrival, Delivery, Output, Path, Ports, Transmit};

use compression::Compressing;
use early::EarlyPackets;
use hold::HoldQueues;
use limit::IcmpLimit;
use live::LiveTable;
use numbers::KeyNumbers;
use path::Paths;
use timer::Timers;

/// The databases with everything that acts on them.
pub struct Core {
    config: CoreConfig,
    db: Databases,
    live: LiveTable,
    numbers: KeyNumbers,
    /// The policies that have a life of their own, by index.
    policy_lives: HashMap<u32, (PolicyKey, PolicyLifetimeState)>,
    timers: Timers,
    held: HoldQueues,
    early: EarlyPackets,
    ipcomp: Compressing,
    icmp: IcmpLimit,
    paths: Paths,
    events: VecDeque<Event>,
    xfrm: Counters,
    counters: CoreCounters,
    random: Random,
    /// Packets in a row that share an SA, not sealed yet.
    run: Vec<Packet>,
    run_sa: Option<SaIndex>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("xfrm", &self.xfrm)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// Empty databases.
    pub fn new(config: CoreConfig) -> Self {
        let mut db = Databases::new();
        db.sad.set_acquire_expires(config.larval_lifetime);
        Self {
            db,
            live: LiveTable::default(),
            numbers: KeyNumbers::default(),
            policy_lives: HashMap::new(),
            timers: Timers::default(),
            held: HoldQueues::default(),
            early: EarlyPackets::default(),
            ipcomp: Compressing::default(),
            icmp: IcmpLimit::default(),
            paths: Paths::new(config.default_mtu),
            events: VecDeque::new(),
            xfrm: Counters::new(),
            counters: CoreCounters::default(),
            random: Random(config.seed),
            run: Vec::new(),
            run_sa: None,
            config,
        }
    }

    /// The next event for the key manager.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The counters of `/proc/net/xfrm_stat` (K10).
    pub fn xfrm_counters(&self) -> &Counters {
        &self.xfrm
    }

    /// What the kernel has no counter for.
    pub fn counters(&self) -> &CoreCounters {
        &self.counters
    }

    /// A pair of addresses, ours first, that an SA has begun to use and whose MTU is not known yet.
    pub fn take_new_path(&mut self) -> Option<(IpAddr, IpAddr)> {
        self.paths.take_new()
    }

    /// All pairs of addresses that outbound SAs use.
    pub fn paths(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        self.paths.iter()
    }

    /// Says how large an outer packet may be, IP header included, on the way between two addresses.
    pub fn set_path_mtu(&mut self, local: IpAddr, remote: IpAddr, mtu: usize) {
        if self.paths.set(local, remote, mtu) {
            self.live
                .set_path_mtu(local, remote, self.paths.mtu(local, remote));
        }
    }

    /// When [`Core::handle_timeout`] is due next.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers
            .next()
            .into_iter()
            .chain(self.db.sad.next_larval_expiry())
            .chain(self.early.next_expiry())
            .min()
    }
}

/// Numbers that need to differ and not to be secret (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }
}
