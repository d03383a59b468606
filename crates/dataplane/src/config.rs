//! What the plane is told at its start, and what it tells the daemon.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use cygnet_ipsec::Event;

/// The SPIs that this plane gives out unless told otherwise: the upper half. The kernel's plane has
/// the lower one, so that a packet's SPI tells whose it is.
pub const DEFAULT_SPIS: RangeInclusive<u32> = 0x8000_0000..=0xffff_ffff;

/// Settings of the plane without I/O.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// The SPIs that `AllocateSpi` chooses from, inside the range that the command asks for.
    pub spis: RangeInclusive<u32>,
    /// How many packets wait per policy while its SA is negotiated (the kernel's queue: 100).
    pub held_per_policy: usize,
    /// How many packets wait over all policies; each one holds a buffer.
    pub held_total: usize,
    /// How many received packets wait per SPI that has been given out and has no SA yet.
    pub early_per_spi: usize,
    /// How many of them wait over all SPIs; each one holds a buffer.
    pub early_total: usize,
    /// How long an acquire or an allocated SPI waits for its SA (`xfrm_acq_expires`, K5).
    pub larval_lifetime: Duration,
    /// The MTU of a path until [`Core::set_path_mtu`](crate::Core::set_path_mtu) tells better.
    pub default_mtu: usize,
    /// Start value for the choice of SPIs. SPIs are not secret, but should differ between runs.
    pub seed: u64,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            spis: DEFAULT_SPIS,
            held_per_policy: 16,
            held_total: 256,
            early_per_spi: 64,
            early_total: 256,
            larval_lifetime: Duration::from_secs(30),
            default_mtu: 1500,
            seed: 0,
        }
    }
}

/// See [`Config::exempt`].
pub type Exempt = fn(BorrowedFd<'_>, bool) -> io::Result<()>;

/// Settings of the running plane.
pub struct Config {
    /// The part without I/O.
    pub core: CoreConfig,
    /// The mark of all sockets (SO_MARK), so that ESP is not routed into the tunnel again.
    pub socket_mark: Option<u32>,
    /// Exempts a socket (of IPv6, if true) from the kernel's policies: applied to those that the plane opens itself.
    /// Where the tunnel's ends are among what it protects, the fence would block the ESP packets too.
    pub exempt: Option<Exempt>,
    /// Open the raw sockets for AH and native ESP over IPv4. Needs CAP_NET_RAW.
    pub raw_v4: bool,
    /// Open the raw sockets for AH and native ESP over IPv6. Needs CAP_NET_RAW.
    pub raw_v6: bool,
    /// Where events go.
    pub events: Box<dyn EventSink>,
}

impl Config {
    /// Everything on, no mark, a random seed; events to `events`.
    pub fn new(events: impl EventSink + 'static) -> Self {
        // RandomState is keyed by the operating system: enough for numbers that are not secret.
        let seed = RandomState::new().hash_one(std::process::id());
        Self {
            core: CoreConfig {
                seed,
                ..CoreConfig::default()
            },
            socket_mark: None,
            exempt: None,
            raw_v4: true,
            raw_v6: true,
            events: Box::new(events),
        }
    }
}

/// What the plane tells the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataplaneEvent {
    /// An IKE message that came in on a UDP socket or a stream of the plane; the non-ESP marker is taken off.
    Ike {
        /// The address and port it was sent to.
        local: SocketAddr,
        /// The sender.
        remote: SocketAddr,
        /// The IKE message.
        bytes: Vec<u8>,
        /// It came over a TCP stream.
        stream: bool,
    },
    /// A TCP stream broke, or could not be opened.
    StreamLost {
        /// Our address and port.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
    },
    /// An acquire, an expiry or a changed NAT mapping.
    Ipsec(Event),
    /// A TUN device is gone: someone has deleted it.
    DeviceLost {
        /// Its xfrm interface id.
        if_id: u32,
        /// Its name when it was created.
        name: String,
    },
}

/// The queue is full or its reader is gone; the event comes back.
#[derive(Debug)]
pub struct SinkFull(pub DataplaneEvent);

/// Takes events from the plane's thread. It must not wait, and must not call the plane's handle,
/// which would wait for itself: the data path stands still meanwhile.
pub trait EventSink: Send {
    /// Takes an event or gives it back at once.
    ///
    /// # Errors
    ///
    /// [`SinkFull`]: no room now. The plane drops IKE messages then (they are sent again by their
    /// peers) and tries again later with everything else.
    #[allow(clippy::result_large_err)] // The event itself comes back, by move.
    fn try_send(&mut self, event: DataplaneEvent) -> Result<(), SinkFull>;
}

impl EventSink for SyncSender<DataplaneEvent> {
    fn try_send(&mut self, event: DataplaneEvent) -> Result<(), SinkFull> {
        SyncSender::try_send(self, event).map_err(|error| match error {
            TrySendError::Full(event) | TrySendError::Disconnected(event) => SinkFull(event),
        })
    }
}
