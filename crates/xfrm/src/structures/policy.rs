//! Policies, templates, marks, migration.

use super::{Address, Id, LifetimeLimits, LifetimeUsed, Selector};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::numbers::{
    Action, DefaultAction, Family, Mode, PolicyDirection, PolicyFlags, PolicyType, SaProtocol,
};

/// `xfrm_userpolicy_info` (168 bytes): a policy without its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PolicyInfo {
    /// Which packets.
    pub selector: Selector,
    /// Limits; only those by time have an effect.
    pub limits: LifetimeLimits,
    /// Use so far; only the times are kept.
    pub used: LifetimeUsed,
    /// Smaller wins.
    pub priority: u32,
    /// Kernel's number, direction in the low three bits; 0 in requests lets the kernel choose.
    pub index: u32,
    /// Direction.
    pub direction: PolicyDirection,
    /// What happens.
    pub action: Action,
    /// Flags.
    pub flags: PolicyFlags,
    /// Sharing; stored but unused by the kernel.
    pub share: u8,
}

impl Wire for PolicyInfo {
    const WHAT: &'static str = "xfrm_userpolicy_info";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let info = Self {
            selector: Wire::read(r)?,
            limits: Wire::read(r)?,
            used: Wire::read(r)?,
            priority: r.u32()?,
            index: r.u32()?,
            direction: PolicyDirection(r.u8()?),
            action: Action(r.u8()?),
            flags: PolicyFlags(r.u8()?),
            share: r.u8()?,
        };
        r.skip(4)?;
        Ok(info)
    }
    fn write(&self, out: &mut Writer) {
        self.selector.write(out);
        self.limits.write(out);
        self.used.write(out);
        out.u32(self.priority);
        out.u32(self.index);
        out.u8(self.direction.0);
        out.u8(self.action.0);
        out.u8(self.flags.0);
        out.u8(self.share);
        out.zeros(4);
    }
}

impl PolicyInfo {
    /// The structure alone, as `IP_XFRM_POLICY` and `IPV6_XFRM_POLICY` want it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(168);
        self.write(&mut out);
        out.as_slice().to_vec()
    }
}

/// `xfrm_userpolicy_id` (64 bytes): names a policy in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PolicyId {
    /// Selector, used when `index` is 0.
    pub selector: Selector,
    /// Kernel's number; 0 = by selector.
    pub index: u32,
    /// Direction.
    pub direction: PolicyDirection,
}

impl Wire for PolicyId {
    const WHAT: &'static str = "xfrm_userpolicy_id";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = Self {
            selector: Wire::read(r)?,
            index: r.u32()?,
            direction: PolicyDirection(r.u8()?),
        };
        r.skip(3)?;
        Ok(id)
    }
    fn write(&self, out: &mut Writer) {
        self.selector.write(out);
        out.u32(self.index);
        out.u8(self.direction.0);
        out.zeros(3);
    }
}

/// `xfrm_user_tmpl` (64 bytes): an SA that a policy asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Template {
    /// Destination (any in transport mode), SPI (0 = any), protocol.
    pub id: Id,
    /// Family of the addresses.
    pub family: Family,
    /// Source; any = chosen by route.
    pub saddr: Address,
    /// Request id that the SA must have.
    pub reqid: u32,
    /// Mode.
    pub mode: Mode,
    /// Sharing; unused by the kernel.
    pub share: u8,
    /// Whether an inbound packet may lack it.
    pub optional: bool,
    /// Integrity algorithms allowed, a bit each; all ones = any.
    pub aalgos: u32,
    /// Ciphers allowed.
    pub ealgos: u32,
    /// Compression algorithms allowed.
    pub calgos: u32,
}

impl Template {
    /// Length of one in `XFRMA_TMPL`.
    pub const LEN: usize = 64;
}

impl Wire for Template {
    const WHAT: &'static str = "xfrm_user_tmpl";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = Wire::read(r)?;
        let family = Family(r.u16()?);
        r.skip(2)?;
        let saddr = Wire::read(r)?;
        let reqid = r.u32()?;
        let mode = Mode(r.u8()?);
        let share = r.u8()?;
        let optional = r.u8()? != 0;
        r.skip(1)?;
        Ok(Self {
            id,
            family,
            saddr,
            reqid,
            mode,
            share,
            optional,
            aalgos: r.u32()?,
            ealgos: r.u32()?,
            calgos: r.u32()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        self.id.write(out);
        out.u16(self.family.0);
        out.zeros(2);
        self.saddr.write(out);
        out.u32(self.reqid);
        out.u8(self.mode.0);
        out.u8(self.share);
        out.u8(self.optional.into());
        out.zeros(1);
        out.u32(self.aalgos);
        out.u32(self.ealgos);
        out.u32(self.calgos);
    }
}

/// `xfrm_user_report` (60 bytes), for mobile IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ReportInfo {
    /// Protocol.
    pub proto: SaProtocol,
    /// Packet's selector.
    pub selector: Selector,
}

impl Wire for ReportInfo {
    const WHAT: &'static str = "xfrm_user_report";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let proto = SaProtocol(r.u8()?);
        r.skip(3)?;
        Ok(Self {
            proto,
            selector: Wire::read(r)?,
        })
    }
    fn write(&self, out: &mut Writer) {
        out.u8(self.proto.0);
        out.zeros(3);
        self.selector.write(out);
    }
}

/// `xfrm_userpolicy_default` (3 bytes): what happens where no policy matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PolicyDefaults {
    /// Received for this host.
    pub inbound: DefaultAction,
    /// To be forwarded.
    pub forward: DefaultAction,
    /// To be sent.
    pub outbound: DefaultAction,
}

impl Wire for PolicyDefaults {
    const WHAT: &'static str = "xfrm_userpolicy_default";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            inbound: DefaultAction(r.u8()?),
            forward: DefaultAction(r.u8()?),
            outbound: DefaultAction(r.u8()?),
        })
    }
    fn write(&self, out: &mut Writer) {
        out.u8(self.inbound.0);
        out.u8(self.forward.0);
        out.u8(self.outbound.0);
    }
}

/// `xfrm_mark` (8 bytes): a packet's mark matches if `mark & mask == value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mark {
    /// Value.
    pub value: u32,
    /// Bits that count.
    pub mask: u32,
}

impl Wire for Mark {
    const WHAT: &'static str = "xfrm_mark";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            value: r.u32()?,
            mask: r.u32()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        out.u32(self.value);
        out.u32(self.mask);
    }
}

/// `xfrm_user_migrate` (76 bytes): one change of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Migrate {
    /// Destination before.
    pub old_daddr: Address,
    /// Source before.
    pub old_saddr: Address,
    /// Destination after.
    pub new_daddr: Address,
    /// Source after.
    pub new_saddr: Address,
    /// Protocol.
    pub proto: SaProtocol,
    /// Mode.
    pub mode: Mode,
    /// Request id; 0 = any.
    pub reqid: u32,
    /// Family before.
    pub old_family: Family,
    /// Family after.
    pub new_family: Family,
}

impl Migrate {
    /// Length of one in `XFRMA_MIGRATE`.
    pub const LEN: usize = 76;
}

impl Wire for Migrate {
    const WHAT: &'static str = "xfrm_user_migrate";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let change = Self {
            old_daddr: Wire::read(r)?,
            old_saddr: Wire::read(r)?,
            new_daddr: Wire::read(r)?,
            new_saddr: Wire::read(r)?,
            proto: SaProtocol(r.u8()?),
            mode: Mode(r.u8()?),
            ..Self::default()
        };
        r.skip(2)?;
        Ok(Self {
            reqid: r.u32()?,
            old_family: Family(r.u16()?),
            new_family: Family(r.u16()?),
            ..change
        })
    }
    fn write(&self, out: &mut Writer) {
        self.old_daddr.write(out);
        self.old_saddr.write(out);
        self.new_daddr.write(out);
        self.new_saddr.write(out);
        out.u8(self.proto.0);
        out.u8(self.mode.0);
        out.zeros(2);
        out.u32(self.reqid);
        out.u16(self.old_family.0);
        out.u16(self.new_family.0);
    }
}

/// `xfrm_user_kmaddress` (40 bytes): addresses for key management after a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct KmAddress {
    /// Ours.
    pub local: Address,
    /// The peer's.
    pub remote: Address,
    /// Family of both.
    pub family: Family,
}

impl Wire for KmAddress {
    const WHAT: &'static str = "xfrm_user_kmaddress";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (local, remote) = (Wire::read(r)?, Wire::read(r)?);
        r.skip(4)?;
        let family = Family(r.u16()?);
        r.skip(2)?;
        Ok(Self {
            local,
            remote,
            family,
        })
    }
    fn write(&self, out: &mut Writer) {
        self.local.write(out);
        self.remote.write(out);
        out.zeros(4);
        out.u16(self.family.0);
        out.zeros(2);
    }
}

/// `xfrm_userpolicy_type` (6 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct PolicyTypeWire(pub(crate) PolicyType);

impl Wire for PolicyTypeWire {
    const WHAT: &'static str = "xfrm_userpolicy_type";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = PolicyType(r.u8()?);
        r.skip(5)?;
        Ok(Self(kind))
    }
    fn write(&self, out: &mut Writer) {
        out.u8(self.0.0);
        out.zeros(5);
    }
}
