//! When an SA or a policy ends (K11).

use std::time::{Duration, Instant};

/// Limits on the life of an SA or a policy. `None`: no such limit.
///
/// A *soft* limit asks the key manager for a replacement, a *hard* one ends the SA (RFC 4301 §4.4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Lifetime {
    /// Octets until the soft limit.
    pub soft_bytes: Option<u64>,
    /// Octets until the hard limit.
    pub hard_bytes: Option<u64>,
    /// Packets until the soft limit.
    pub soft_packets: Option<u64>,
    /// Packets until the hard limit.
    pub hard_packets: Option<u64>,
    /// Time from installation until the soft limit; whole seconds in the kernel.
    pub soft_add: Option<Duration>,
    /// Time from installation until the hard limit.
    pub hard_add: Option<Duration>,
    /// Time from the first packet until the soft limit.
    pub soft_use: Option<Duration>,
    /// Time from the first packet until the hard limit.
    pub hard_use: Option<Duration>,
}

impl Lifetime {
    /// No limit at all.
    pub const UNLIMITED: Lifetime = Lifetime {
        soft_bytes: None,
        hard_bytes: None,
        soft_packets: None,
        hard_packets: None,
        soft_add: None,
        hard_add: None,
        soft_use: None,
        hard_use: None,
    };
}

/// Which of its limits an SA or a policy has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// A replacement is due. An SA goes on, *dying* (K5 prefers others over it).
    Soft,
    /// It has ended.
    Hard,
}

/// The life of an SA: what it has carried, and when its limits are reached.
///
/// For each packet: [`before_packet`](LifetimeState::before_packet), and once the packet is sealed or opened
/// [`count`](LifetimeState::count). At [`deadline`](LifetimeState::deadline): [`on_timer`](LifetimeState::on_timer).
/// Each limit is reported once: after a hard one the SA is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifetimeState {
    lifetime: Lifetime,
    added: Instant,
    /// When the first packet came.
    used: Option<Instant>,
    bytes: u64,
    packets: u64,
    /// A soft limit was reached.
    dying: bool,
    /// A hard limit was reached.
    expired: bool,
}

impl LifetimeState {
    /// The life of an SA that is installed now.
    pub fn new(lifetime: Lifetime, now: Instant) -> LifetimeState {
        LifetimeState {
            lifetime,
            added: now,
            used: None,
            bytes: 0,
            packets: 0,
            dying: false,
            expired: false,
        }
    }

    /// Octets counted.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets counted.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// When it was installed.
    pub fn added(&self) -> Instant {
        self.added
    }

    /// When its first packet came.
    pub fn used(&self) -> Option<Instant> {
        self.used
    }

    /// Whether a soft limit was reached since the last update.
    pub fn is_dying(&self) -> bool {
        self.dying
    }

    /// Whether a hard limit was reached.
    pub fn is_expired(&self) -> bool {
        self.expired
    }

    /// Tests the octet and packet limits before a packet is sealed or opened, and starts the use time.
    ///
    /// With [`Limit::Hard`] the packet is to be dropped ([`OutStateExpired`](crate::Counter::OutStateExpired),
    /// [`InStateExpired`](crate::Counter::InStateExpired)) and the SA is expired, again at every further packet. As the
    /// packet at hand is not counted yet, a limit of n packets lets n packets pass, and one of n octets every packet
    /// that begins below n.
    pub fn before_packet(&mut self, now: Instant) -> Option<Limit> {
        self.used.get_or_insert(now);
        let reached = |bytes: Option<u64>, packets: Option<u64>| {
            bytes.is_some_and(|limit| self.bytes >= limit)
                || packets.is_some_and(|limit| self.packets >= limit)
        };
        if self.expired || reached(self.lifetime.hard_bytes, self.lifetime.hard_packets) {
            self.expired = true;
            return Some(Limit::Hard);
        }
        if !self.dying && reached(self.lifetime.soft_bytes, self.lifetime.soft_packets) {
            self.dying = true;
            return Some(Limit::Soft);
        }
        None
    }

    /// Counts a packet.
    pub fn count(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.packets = self.packets.saturating_add(1);
    }

    /// When the next time limit is reached, if there is one.
    pub fn deadline(&self) -> Option<Instant> {
        if self.expired {
            return None;
        }
        let hard = self.earliest(self.lifetime.hard_add, self.lifetime.hard_use);
        let soft = self.earliest(self.lifetime.soft_add, self.lifetime.soft_use);
        hard.into_iter().chain(soft.filter(|_| !self.dying)).min()
    }

    /// Tests the time limits.
    pub fn on_timer(&mut self, now: Instant) -> Option<Limit> {
        let reached = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.expired {
            return None;
        }
        if reached(self.earliest(self.lifetime.hard_add, self.lifetime.hard_use)) {
            self.expired = true;
            return Some(Limit::Hard);
        }
        if !self.dying && reached(self.earliest(self.lifetime.soft_add, self.lifetime.soft_use)) {
            self.dying = true;
            return Some(Limit::Soft);
        }
        None
    }

    /// Sets other limits, as UPDSA does. Counts and times go on, and the SA is no longer dying.
    pub fn update(&mut self, lifetime: Lifetime) {
        self.lifetime = lifetime;
        self.dying = false;
    }

    fn earliest(&self, add: Option<Duration>, use_: Option<Duration>) -> Option<Instant> {
        let add = add.and_then(|add| self.added.checked_add(add));
        let use_ = use_.and_then(|use_| self.used?.checked_add(use_));
        add.into_iter().chain(use_).min()
    }
}

/// The life of a policy: like that of an SA with the time limits only, but that a soft limit repeats its warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLifetimeState {
    lifetime: Lifetime,
    added: Instant,
    used: Option<Instant>,
    warned: Option<Instant>,
}

impl PolicyLifetimeState {
    /// How long after a warning the next one comes.
    pub const WARNING_INTERVAL: Duration = Duration::from_secs(30);

    /// The life of a policy that is installed now.
    pub fn new(lifetime: Lifetime, now: Instant) -> PolicyLifetimeState {
        PolicyLifetimeState {
            lifetime,
            added: now,
            used: None,
            warned: None,
        }
    }

    /// Notes that a lookup has hit the policy.
    pub fn on_use(&mut self, now: Instant) {
        self.used.get_or_insert(now);
    }

    /// When the next limit is reached or the next warning is due.
    pub fn deadline(&self) -> Option<Instant> {
        let hard = self.earliest(self.lifetime.hard_add, self.lifetime.hard_use);
        hard.into_iter().chain(self.next_warning()).min()
    }

    /// Tests the limits. After [`Limit::Hard`] the policy is to be removed.
    pub fn on_timer(&mut self, now: Instant) -> Option<Limit> {
        let hard = self.earliest(self.lifetime.hard_add, self.lifetime.hard_use);
        if hard.is_some_and(|at| at <= now) {
            return Some(Limit::Hard);
        }
        if self.next_warning().is_some_and(|at| at <= now) {
            self.warned = Some(now);
            return Some(Limit::Soft);
        }
        None
    }

    fn next_warning(&self) -> Option<Instant> {
        let soft = self.earliest(self.lifetime.soft_add, self.lifetime.soft_use)?;
        match self.warned {
            Some(warned) => warned.checked_add(PolicyLifetimeState::WARNING_INTERVAL),
            None => Some(soft),
        }
    }

    fn earliest(&self, add: Option<Duration>, use_: Option<Duration>) -> Option<Instant> {
        let add = add.and_then(|add| self.added.checked_add(add));
        let use_ = use_.and_then(|use_| self.used?.checked_add(use_));
        add.into_iter().chain(use_).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// K11: limits of packets are tested before the packet is counted.
    #[test]
    fn packet_limits() {
        let now = Instant::now();
        let lifetime = Lifetime {
            soft_packets: Some(2),
            hard_packets: Some(4),
            ..Lifetime::UNLIMITED
        };
        let mut sa = LifetimeState::new(lifetime, now);
        let mut seen = Vec::new();
        for _ in 0..6 {
            let limit = sa.before_packet(now);
            seen.push(limit);
            if limit != Some(Limit::Hard) {
                sa.count(100);
            }
        }
        let (soft, hard) = (Some(Limit::Soft), Some(Limit::Hard));
        assert_eq!(seen, [None, None, soft, None, hard, hard]);
        assert_eq!((sa.packets(), sa.bytes()), (4, 400));
        assert_eq!(sa.used(), Some(now));
    }

    #[test]
    fn byte_limits_let_the_packet_pass_that_crosses_them() {
        let now = Instant::now();
        let lifetime = Lifetime {
            hard_bytes: Some(1000),
            ..Lifetime::UNLIMITED
        };
        let mut sa = LifetimeState::new(lifetime, now);
        sa.count(999);
        assert_eq!(sa.before_packet(now), None);
        sa.count(1500);
        assert_eq!(sa.before_packet(now), Some(Limit::Hard));
        assert!(sa.is_expired());
        assert_eq!((sa.deadline(), sa.on_timer(now + seconds(9))), (None, None));
    }

    #[test]
    fn time_limits_from_installation_and_from_first_use() {
        let start = Instant::now();
        let lifetime = Lifetime {
            soft_add: Some(seconds(50)),
            hard_add: Some(seconds(100)),
            hard_use: Some(seconds(30)),
            ..Lifetime::UNLIMITED
        };
        let mut sa = LifetimeState::new(lifetime, start);
        assert_eq!(sa.deadline(), Some(start + seconds(50)));
        assert_eq!(sa.on_timer(start + seconds(49)), None);
        assert_eq!(sa.on_timer(start + seconds(50)), Some(Limit::Soft));
        assert!(sa.is_dying());
        assert_eq!(
            sa.on_timer(start + seconds(51)),
            None,
            "soft limits are told once"
        );
        assert_eq!(sa.deadline(), Some(start + seconds(100)));

        assert_eq!(sa.before_packet(start + seconds(60)), None);
        assert_eq!(sa.deadline(), Some(start + seconds(90)));
        assert_eq!(sa.on_timer(start + seconds(90)), Some(Limit::Hard));
        assert_eq!(sa.before_packet(start + seconds(90)), Some(Limit::Hard));
    }

    /// K11: UPDSA re-arms and clears dying.
    #[test]
    fn an_update_revives_a_dying_sa() {
        let start = Instant::now();
        let lifetime = Lifetime {
            soft_packets: Some(1),
            ..Lifetime::UNLIMITED
        };
        let mut sa = LifetimeState::new(lifetime, start);
        sa.count(1);
        assert_eq!(sa.before_packet(start), Some(Limit::Soft));
        sa.update(Lifetime {
            soft_packets: Some(1),
            ..Lifetime::UNLIMITED
        });
        assert!(!sa.is_dying());
        assert_eq!(
            sa.before_packet(start),
            Some(Limit::Soft),
            "its counts have gone on"
        );
    }

    #[test]
    fn policies_warn_every_thirty_seconds() {
        let start = Instant::now();
        let lifetime = Lifetime {
            soft_add: Some(seconds(10)),
            hard_add: Some(seconds(60)),
            soft_packets: Some(0),
            ..Lifetime::UNLIMITED
        };
        let mut policy = PolicyLifetimeState::new(lifetime, start);
        let mut told = Vec::new();
        while let Some(at) = policy.deadline() {
            let limit = policy.on_timer(at);
            told.push(((at - start).as_secs(), limit));
            if limit == Some(Limit::Hard) {
                break;
            }
        }
        let (soft, hard) = (Some(Limit::Soft), Some(Limit::Hard));
        assert_eq!(told, [(10, soft), (40, soft), (60, hard)]);
    }
}
