//! What the kernel tells unasked.

use super::{Address, Id, PolicyInfo, SaInfo, Selector};
use crate::codec::{DecodeError, Reader, Wire, Writer};

/// `xfrm_user_acquire` (280 bytes): the kernel wants an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AcquireInfo {
    /// Destination and protocol wanted; SPI 0 unless the template fixes one.
    pub id: Id,
    /// Source wanted.
    pub saddr: Address,
    /// The packet's exact selector.
    pub selector: Selector,
    /// The policy that matched, with its index.
    pub policy: PolicyInfo,
    /// Integrity algorithms allowed.
    pub aalgos: u32,
    /// Ciphers allowed.
    pub ealgos: u32,
    /// Compression algorithms allowed.
    pub calgos: u32,
    /// Number of the larval SA; the answer carries it in [`SaInfo::seq`].
    pub seq: u32,
}

impl Wire for AcquireInfo {
    const WHAT: &'static str = "xfrm_user_acquire";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: Wire::read(r)?,
            saddr: Wire::read(r)?,
            selector: Wire::read(r)?,
            policy: Wire::read(r)?,
            aalgos: r.u32()?,
            ealgos: r.u32()?,
            calgos: r.u32()?,
            seq: r.u32()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        self.id.write(out);
        self.saddr.write(out);
        self.selector.write(out);
        self.policy.write(out);
        out.u32(self.aalgos);
        out.u32(self.ealgos);
        out.u32(self.calgos);
        out.u32(self.seq);
    }
}

/// `xfrm_user_expire` (232 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ExpireInfo {
    /// The SA.
    pub sa: SaInfo,
    /// Whether it is gone, not just due for renewal.
    pub hard: bool,
}

impl Wire for ExpireInfo {
    const WHAT: &'static str = "xfrm_user_expire";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let sa = Wire::read(r)?;
        let hard = r.u8()? != 0;
        r.skip(7)?;
        Ok(Self { sa, hard })
    }
    fn write(&self, out: &mut Writer) {
        self.sa.write(out);
        out.u8(self.hard.into());
        out.zeros(7);
    }
}

/// `xfrm_user_polexpire` (176 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PolicyExpireInfo {
    /// The policy.
    pub policy: PolicyInfo,
    /// Whether it is gone.
    pub hard: bool,
}

impl Wire for PolicyExpireInfo {
    const WHAT: &'static str = "xfrm_user_polexpire";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let policy = Wire::read(r)?;
        let hard = r.u8()? != 0;
        r.skip(7)?;
        Ok(Self { policy, hard })
    }
    fn write(&self, out: &mut Writer) {
        self.policy.write(out);
        out.u8(self.hard.into());
        out.zeros(7);
    }
}
