//! Limits, use and failures.

use crate::codec::{DecodeError, Reader, Wire, Writer};

/// `XFRM_INF`: the byte or packet limit that is never reached.
pub const INFINITE: u64 = u64::MAX;

/// `xfrm_lifetime_cfg` (64 bytes). Byte and packet limits: [`INFINITE`] = none. Seconds: 0 = none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LifetimeLimits {
    /// Bytes after which EXPIRE warns.
    pub soft_bytes: u64,
    /// Bytes after which the SA is dead.
    pub hard_bytes: u64,
    /// Packets after which EXPIRE warns.
    pub soft_packets: u64,
    /// Packets after which the SA is dead.
    pub hard_packets: u64,
    /// Seconds after creation when EXPIRE warns.
    pub soft_add_seconds: u64,
    /// Seconds after creation when it is deleted.
    pub hard_add_seconds: u64,
    /// Seconds after first use when EXPIRE warns.
    pub soft_use_seconds: u64,
    /// Seconds after first use when it is deleted.
    pub hard_use_seconds: u64,
}

impl LifetimeLimits {
    /// No limit at all.
    pub const NONE: Self = Self {
        soft_bytes: INFINITE,
        hard_bytes: INFINITE,
        soft_packets: INFINITE,
        hard_packets: INFINITE,
        soft_add_seconds: 0,
        hard_add_seconds: 0,
        soft_use_seconds: 0,
        hard_use_seconds: 0,
    };
}

/// [`LifetimeLimits::NONE`]: all-zero limits would expire at the first byte.
impl Default for LifetimeLimits {
    fn default() -> Self {
        Self::NONE
    }
}

impl Wire for LifetimeLimits {
    const WHAT: &'static str = "xfrm_lifetime_cfg";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            soft_bytes: r.u64()?,
            hard_bytes: r.u64()?,
            soft_packets: r.u64()?,
            hard_packets: r.u64()?,
            soft_add_seconds: r.u64()?,
            hard_add_seconds: r.u64()?,
            soft_use_seconds: r.u64()?,
            hard_use_seconds: r.u64()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        for value in [
            self.soft_bytes,
            self.hard_bytes,
            self.soft_packets,
            self.hard_packets,
            self.soft_add_seconds,
            self.hard_add_seconds,
            self.soft_use_seconds,
            self.hard_use_seconds,
        ] {
            out.u64(value);
        }
    }
}

/// `xfrm_lifetime_cur` (32 bytes): use so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LifetimeUsed {
    /// Bytes processed.
    pub bytes: u64,
    /// Packets processed.
    pub packets: u64,
    /// Wall-clock second of creation.
    pub add_time: u64,
    /// Wall-clock second of first use; 0 = never.
    pub use_time: u64,
}

impl Wire for LifetimeUsed {
    const WHAT: &'static str = "xfrm_lifetime_cur";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            bytes: r.u64()?,
            packets: r.u64()?,
            add_time: r.u64()?,
            use_time: r.u64()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        out.u64(self.bytes);
        out.u64(self.packets);
        out.u64(self.add_time);
        out.u64(self.use_time);
    }
}

/// `xfrm_stats` (12 bytes): inbound failures of one SA, in packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SaStats {
    /// Too old for the replay window.
    pub replay_window: u32,
    /// Seen before.
    pub replay: u32,
    /// Wrong ICV.
    pub integrity_failed: u32,
}

impl Wire for SaStats {
    const WHAT: &'static str = "xfrm_stats";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            replay_window: r.u32()?,
            replay: r.u32()?,
            integrity_failed: r.u32()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        out.u32(self.replay_window);
        out.u32(self.replay);
        out.u32(self.integrity_failed);
    }
}
