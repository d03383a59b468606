//! What the engine tells: one type for the log, `cygnet status`, the event
//! stream and the metrics, so that they use the same names.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cygnet_ike::{ChildSaId, Gateway, IkeSaId};
use thiserror::Error;

use crate::io::Plane;

/// Something happened that a person or a program may want to know.
#[derive(Debug)]
pub enum Event {
    /// Something about one IKE SA or one of its children.
    Ike {
        /// The connection it belongs to, once that is known.
        connection: Option<Arc<str>>,
        /// What.
        event: cygnet_ike::Event,
    },
    /// A connection carries traffic: its child SA is installed.
    ConnectionUp {
        /// Which.
        connection: Arc<str>,
        /// Its IKE SA.
        ike: IkeSaId,
        /// Its child SA.
        child: ChildSaId,
    },
    /// A connection has no child SA any more.
    ConnectionDown {
        /// Which.
        connection: Arc<str>,
    },
    /// An attempt to bring a connection up failed.
    AttemptFailed {
        /// Which.
        connection: Arc<str>,
        /// Stable name of the reason.
        reason: &'static str,
        /// The reason as a sentence.
        text: String,
        /// When it will be tried again; `None`: not by itself.
        retry_in: Option<Duration>,
    },
    /// A gateway sends a connection to another one (RFC 5685), and it goes there.
    Redirected {
        /// Which.
        connection: Arc<str>,
        /// Who sends it.
        from: IpAddr,
        /// To where.
        to: Gateway,
    },
    /// A trap is in place: the first packet will start the negotiation.
    Trapped {
        /// Which.
        connection: Arc<str>,
    },
    /// A trap, a shunt or the fence of a connection could not be installed.
    TrapFailed {
        /// Which.
        connection: Arc<str>,
        /// Why.
        text: String,
    },
    /// A packet met a trap.
    Acquired {
        /// Whose trap it was.
        connection: Arc<str>,
        /// On which plane.
        plane: Plane,
        /// The packet's selector.
        selector: cygnet_ipsec::Selector,
    },
    /// A packet met a trap of ours, and gets no SA.
    AcquireRefused {
        /// Whose trap it was.
        connection: Arc<str>,
        /// On which plane.
        plane: Plane,
        /// The packet's selector.
        selector: cygnet_ipsec::Selector,
        /// Why.
        reason: AcquireRefusal,
    },
    /// A packet met a trap that is none of ours.
    ForeignAcquire {
        /// On which plane.
        plane: Plane,
        /// The reqid that the policy named.
        reqid: u32,
    },
    /// A child SA could not follow its peer, or us, to another address. It is deleted.
    MoveFailed {
        /// Whose.
        connection: Arc<str>,
        /// Which.
        child: ChildSaId,
        /// Why.
        text: String,
    },
    /// Sequence numbers of a child SA could not be left out. It is renewed instead.
    SkipFailed {
        /// Whose.
        connection: Arc<str>,
        /// Which.
        child: ChildSaId,
        /// Why.
        text: String,
    },
    /// A connection has no local address now and waits for one.
    Unoriented {
        /// Which.
        connection: Arc<str>,
        /// Why.
        text: String,
    },
    /// A command that undoes something failed; what it named may be left over.
    CleanupFailed {
        /// On which plane.
        plane: Plane,
        /// What and why.
        text: String,
    },
}

impl Event {
    /// Stable name, the same in log, event stream and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ike { event, .. } => event.name(),
            Self::ConnectionUp { .. } => "connection_up",
            Self::ConnectionDown { .. } => "connection_down",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::Redirected { .. } => "redirected",
            Self::Trapped { .. } => "trapped",
            Self::TrapFailed { .. } => "trap_failed",
            Self::Acquired { .. } => "acquired",
            Self::AcquireRefused { .. } => "acquire_refused",
            Self::ForeignAcquire { .. } => "foreign_acquire",
            Self::MoveFailed { .. } => "move_failed",
            Self::SkipFailed { .. } => "skip_failed",
            Self::Unoriented { .. } => "unoriented",
            Self::CleanupFailed { .. } => "cleanup_failed",
        }
    }
}

/// Why a packet that met a trap gets no SA.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AcquireRefusal {
    /// SELinux lets a packet go by an SA with its own label only, and the SA would have another one.
    #[error("the packet's security label is {theirs}, that of the connection {ours}")]
    LabelDiffers {
        /// The connection's label.
        ours: cygnet_ipsec::SecurityLabel,
        /// The packet's.
        theirs: cygnet_ipsec::SecurityLabel,
    },
}

impl AcquireRefusal {
    /// The stable name of the reason.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LabelDiffers { .. } => "label_differs",
        }
    }
}
