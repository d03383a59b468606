//! The fixed structures of `linux/xfrm.h`, field by field, with their padding zeroed.
//!
//! Layouts are those of 64-bit kernels (a 32-bit process on a 64-bit kernel gets them translated
//! by `XFRM_USER_COMPAT`). Zeroed padding matters: the kernel compares selectors bytewise.

mod address;
mod event;
mod info;
mod lifetime;
mod policy;
mod sa;

pub use address::{Address, Id, Selector};
pub use event::{AcquireInfo, ExpireInfo, PolicyExpireInfo};
pub use info::{HashInfo, HashThresholds, SpdCounts};
pub use lifetime::{INFINITE, LifetimeLimits, LifetimeUsed, SaStats};
pub(crate) use policy::PolicyTypeWire;
pub use policy::{
    KmAddress, Mark, Migrate, PolicyDefaults, PolicyId, PolicyInfo, ReportInfo, Template,
};
pub use sa::{
    AddressFilter, AeventId, Encap, MappingInfo, MigrateState, Offload, ReplayState,
    ReplayStateEsn, SaId, SaInfo, SpiRequest,
};
