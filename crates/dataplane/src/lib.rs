//! The user-space data plane: between TUN devices and the sockets that carry ESP and AH.
//!
//! For hosts where the kernel's ESP is missing or cannot be used. The rules are those of the kernel:
//! policies and SAs live in the databases of `cygnet-ipsec`, packets are transformed by
//! `cygnet-esp`, drops are counted under the names of `/proc/net/xfrm_stat`.
//!
//! * [`Core`]: everything but the I/O. Batches of clear packets become batches of ESP or AH with their
//!   destinations, and the reverse; traps raise acquires and hold packets; SAs expire. Time is an
//!   argument.
//! * [`Dataplane`] and its [`Handle`]: a thread that moves batches between devices, sockets and the
//!   core. The handle is an [`ipsec::SaDatabase`](cygnet_ipsec::SaDatabase) like the kernel's plane.
//!
//! # What it does not do
//!
//! Nothing leaves in clear: a packet that a policy passes unprotected, or that no policy covers,
//! and that was routed into a TUN device all the same, is dropped and counted. Blocking what must
//! not travel in clear, and passing what may, is the work of the kernel's policies and routes.
//! Of SA bundles only IPComp inside ESP or AH is carried out; IP-TFS is refused.
#![deny(unsafe_code)]

mod config;
mod core;
mod counters;
mod handle;
mod io;
mod packet;

pub use config::{Config, CoreConfig, DEFAULT_SPIS, DataplaneEvent, EventSink, Exempt, SinkFull};
pub use core::{Arrival, Core, Delivery, Output, Path, Ports, Transmit};
pub use counters::{CoreCounters, IoCounters, Report};
pub use handle::{Dataplane, Handle, HandleError, StreamMessage};
pub use io::{SetupError, Tun, TunError};
pub use packet::{HEADROOM, MAX_PACKET, Packet, Pool, TAILROOM};

use cygnet_ipsec::PlaneFeatures;

/// What this plane can do beyond ESP in tunnel mode.
pub const FEATURES: PlaneFeatures = PlaneFeatures {
    transport: true,
    beet: true,
    ah: true,
    ipcomp: true,
    esn: true,
    tfc_padding: true,
    iptfs: false,
    per_cpu: false,
    labels: false,
    interfaces: false,
};
