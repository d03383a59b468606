//! Summaries of the databases.

use crate::codec::{DecodeError, Reader, Wire, Writer};

/// `xfrmu_spdinfo` (24 bytes): numbers of policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SpdCounts {
    /// Inbound.
    pub inbound: u32,
    /// Outbound.
    pub outbound: u32,
    /// Forward.
    pub forward: u32,
    /// Sockets' inbound.
    pub socket_inbound: u32,
    /// Sockets' outbound.
    pub socket_outbound: u32,
    /// Sockets' forward (always 0).
    pub socket_forward: u32,
}

impl Wire for SpdCounts {
    const WHAT: &'static str = "xfrmu_spdinfo";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            inbound: r.u32()?,
            outbound: r.u32()?,
            forward: r.u32()?,
            socket_inbound: r.u32()?,
            socket_outbound: r.u32()?,
            socket_forward: r.u32()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        out.u32(self.inbound);
        out.u32(self.outbound);
        out.u32(self.forward);
        out.u32(self.socket_inbound);
        out.u32(self.socket_outbound);
        out.u32(self.socket_forward);
    }
}

/// `xfrmu_sadhinfo`, `xfrmu_spdhinfo` (8 bytes): size of a hash table in buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct HashInfo {
    /// Now.
    pub buckets: u32,
    /// At most.
    pub max_buckets: u32,
}

impl Wire for HashInfo {
    const WHAT: &'static str = "xfrmu_sadhinfo";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            buckets: r.u32()?,
            max_buckets: r.u32()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        out.u32(self.buckets);
        out.u32(self.max_buckets);
    }
}

/// `xfrmu_spdhthresh` (2 bytes): prefix lengths from which policies are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct HashThresholds {
    /// Local prefix length in bits.
    pub local_bits: u8,
    /// Remote prefix length in bits.
    pub remote_bits: u8,
}

impl Wire for HashThresholds {
    const WHAT: &'static str = "xfrmu_spdhthresh";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            local_bits: r.u8()?,
            remote_bits: r.u8()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        out.u8(self.local_bits);
        out.u8(self.remote_bits);
    }
}
