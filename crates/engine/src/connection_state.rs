//! What the engine remembers about one connection at run time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_ike::{ChildConfig, ChildSaId, IkeSaId, PeerConfig};
use cygnet_ipsec::{PolicyKey, Selector};

use crate::clones::Clones;
use crate::connection::Connection;
use crate::io::{Plane, ProtectionId};
use crate::orient::{Orientation, Unoriented};
use crate::redirect::Redirects;
use crate::resumption::Resumable;
use crate::shared_policies::OwnerId;

/// Names a loaded connection. A changed connection gets a new one, so that
/// what still belongs to the old text is never confused with the new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// What the user wants of a connection. Reality is worked toward it until it
/// is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Nothing; the peer may still bring it up.
    #[default]
    Down,
    /// A trap, and an SA once a packet meets it.
    OnDemand,
    /// An SA, always.
    Up,
}

/// The trap, shunt or fence of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trap {
    #[default]
    None,
    Installing,
    Installed,
    Removing,
    /// It could not be installed; tried again after a while.
    Failed(String),
}

impl Trap {
    /// What failed may be tried again.
    pub(crate) fn forgive(&mut self) {
        if let Self::Failed(_) = self {
            *self = Self::None;
        }
    }
}

/// Time between attempts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);

    /// The wait after one more failure, up to a quarter of it random.
    pub(crate) fn after_failure(&mut self, random: u32) -> Duration {
        let doubled = Self::FIRST
            .saturating_mul(1 << self.failures.min(6))
            .min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        doubled + (doubled / 4).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Why the last attempt failed.
#[derive(Clone, Debug)]
pub(crate) struct LastFailure {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    pub(crate) at: Instant,
}

/// What a connection is when its ends are known.
#[derive(Clone, Debug)]
pub(crate) struct Oriented {
    pub(crate) orientation: Orientation,
    pub(crate) peer: Arc<PeerConfig>,
    pub(crate) child: Arc<ChildConfig>,
    /// Outbound selectors as configured; empty while the peer is `%any`.
    pub(crate) selectors: Vec<Selector>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) name: Arc<str>,
    pub(crate) config: Arc<Connection>,
    pub(crate) plane: Plane,
    pub(crate) reqid: u32,
    pub(crate) oriented: Result<Oriented, Unoriented>,
    pub(crate) intent: Intent,
    pub(crate) trap: Trap,
    pub(crate) trap_owner: OwnerId,
    pub(crate) trap_policies: Vec<PolicyKey>,
    pub(crate) trap_protection: Option<ProtectionId>,
    /// For which ends the trap was made.
    pub(crate) trap_orientation: Option<Orientation>,
    /// The IKE SA with which we are trying to bring it up.
    pub(crate) negotiating: Option<IkeSaId>,
    /// The child SA that is negotiated under it, if that is known already.
    pub(crate) pending: Option<ChildSaId>,
    /// The IKE SA that the negotiation will replace.
    pub(crate) replacing: Option<IkeSaId>,
    /// The IKE SAs under which it has or wants a child SA.
    pub(crate) ikes: BTreeSet<IkeSaId>,
    pub(crate) children: Vec<ChildSaId>,
    /// Child SAs of single CPUs that are being made.
    pub(crate) clones: Clones,
    pub(crate) backoff: Backoff,
    /// Failed attempts since it was up or somebody asked for it.
    pub(crate) tries: u32,
    pub(crate) retry_at: Option<Instant>,
    pub(crate) last_failure: Option<LastFailure>,
    /// Its trap was given up after a failure (`failureshunt=passthrough`).
    pub(crate) released: bool,
    /// The address that it was oriented by is lost, and its SAs have gone on elsewhere.
    pub(crate) adrift: bool,
    /// Where gateways have sent it.
    pub(crate) redirects: Redirects,
    /// What of it was lost and may be resumed.
    pub(crate) resumable: Resumable,
    /// No longer in the configuration; forgotten when nothing of it is left.
    pub(crate) unloaded: bool,
}

impl State {
    /// Whether nothing of it is left anywhere.
    pub(crate) fn is_idle(&self) -> bool {
        self.children.is_empty()
            && self.negotiating.is_none()
            && matches!(self.trap, Trap::None | Trap::Failed(_))
            && !self.has_trap_parts()
    }

    /// Whether anything of a trap may stand, also of one that could not be finished.
    pub(crate) fn has_trap_parts(&self) -> bool {
        !self.trap_policies.is_empty() || self.trap_protection.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..9).map(|_| backoff.after_failure(0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(backoff.after_failure(u32::MAX) <= Duration::from_secs(75));
        backoff.reset();
        assert_eq!(backoff.after_failure(0), Duration::from_secs(1));
    }
}
