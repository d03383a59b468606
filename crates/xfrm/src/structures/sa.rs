//! Security associations and what hangs on them.

use super::{Address, Id, LifetimeLimits, LifetimeUsed, Mark, SaStats, Selector};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::numbers::{EncapType, Family, Mode, OffloadFlags, SaFlags, SaProtocol};

/// `xfrm_usersa_info` (224 bytes): an SA without its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SaInfo {
    /// Which inner packets it may carry.
    pub selector: Selector,
    /// Destination, SPI, protocol.
    pub id: Id,
    /// Source address.
    pub saddr: Address,
    /// Limits.
    pub limits: LifetimeLimits,
    /// Use so far.
    pub used: LifetimeUsed,
    /// Inbound failures.
    pub stats: SaStats,
    /// Sequence number of the ACQUIRE that this answers; 0 = none.
    pub seq: u32,
    /// Request id that templates name.
    pub reqid: u32,
    /// Family of the outer addresses.
    pub family: Family,
    /// Mode.
    pub mode: Mode,
    /// Legacy replay window in packets, at most 32; 0 where an attribute says it.
    pub replay_window: u8,
    /// Flags.
    pub flags: SaFlags,
}

impl Wire for SaInfo {
    const WHAT: &'static str = "xfrm_usersa_info";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let info = Self {
            selector: Wire::read(r)?,
            id: Wire::read(r)?,
            saddr: Wire::read(r)?,
            limits: Wire::read(r)?,
            used: Wire::read(r)?,
            stats: Wire::read(r)?,
            seq: r.u32()?,
            reqid: r.u32()?,
            family: Family(r.u16()?),
            mode: Mode(r.u8()?),
            replay_window: r.u8()?,
            flags: SaFlags(r.u8()?),
        };
        r.skip(7)?;
        Ok(info)
    }
    fn write(&self, out: &mut Writer) {
        self.selector.write(out);
        self.id.write(out);
        self.saddr.write(out);
        self.limits.write(out);
        self.used.write(out);
        self.stats.write(out);
        out.u32(self.seq);
        out.u32(self.reqid);
        out.u16(self.family.0);
        out.u8(self.mode.0);
        out.u8(self.replay_window);
        out.u8(self.flags.0);
        out.zeros(7);
    }
}

/// `xfrm_usersa_id` (24 bytes): names an SA in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SaId {
    /// Destination address.
    pub daddr: Address,
    /// SPI in host order.
    pub spi: u32,
    /// Family of the address.
    pub family: Family,
    /// Protocol.
    pub proto: SaProtocol,
}

impl Wire for SaId {
    const WHAT: &'static str = "xfrm_usersa_id";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = Self {
            daddr: Wire::read(r)?,
            spi: r.u32_be()?,
            family: Family(r.u16()?),
            proto: SaProtocol(r.u8()?),
        };
        r.skip(1)?;
        Ok(id)
    }
    fn write(&self, out: &mut Writer) {
        self.daddr.write(out);
        out.u32_be(self.spi);
        out.u16(self.family.0);
        out.u8(self.proto.0);
        out.zeros(1);
    }
}

/// `xfrm_userspi_info` (232 bytes): what ALLOCSPI asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SpiRequest {
    /// The SA to come: id without SPI, source, mode, reqid, family, seq.
    pub info: SaInfo,
    /// Smallest SPI wanted.
    pub min: u32,
    /// Largest SPI wanted.
    pub max: u32,
}

impl Wire for SpiRequest {
    const WHAT: &'static str = "xfrm_userspi_info";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            info: Wire::read(r)?,
            min: r.u32()?,
            max: r.u32()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        self.info.write(out);
        out.u32(self.min);
        out.u32(self.max);
    }
}

/// `xfrm_user_mapping` (64 bytes): packets of an SA come from another address or port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MappingInfo {
    /// The (inbound) SA.
    pub id: SaId,
    /// Its request id.
    pub reqid: u32,
    /// Address that the SA has.
    pub old_saddr: Address,
    /// Address seen.
    pub new_saddr: Address,
    /// Port that the SA has.
    pub old_sport: u16,
    /// Port seen.
    pub new_sport: u16,
}

impl Wire for MappingInfo {
    const WHAT: &'static str = "xfrm_user_mapping";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: Wire::read(r)?,
            reqid: r.u32()?,
            old_saddr: Wire::read(r)?,
            new_saddr: Wire::read(r)?,
            old_sport: r.u16_be()?,
            new_sport: r.u16_be()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        self.id.write(out);
        out.u32(self.reqid);
        self.old_saddr.write(out);
        self.new_saddr.write(out);
        out.u16_be(self.old_sport);
        out.u16_be(self.new_sport);
    }
}

/// `xfrm_aevent_id` (48 bytes): names an SA in NEWAE and GETAE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AeventId {
    /// The SA.
    pub id: SaId,
    /// Its source.
    pub saddr: Address,
    /// What is asked for or why it is told (`XFRM_AE_*`).
    pub flags: u32,
    /// Its request id.
    pub reqid: u32,
}

impl Wire for AeventId {
    const WHAT: &'static str = "xfrm_aevent_id";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: Wire::read(r)?,
            saddr: Wire::read(r)?,
            flags: r.u32()?,
            reqid: r.u32()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        self.id.write(out);
        self.saddr.write(out);
        out.u32(self.flags);
        out.u32(self.reqid);
    }
}

/// `xfrm_encap_tmpl` (24 bytes): ESP inside UDP or TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Encap {
    /// Kind.
    pub kind: EncapType,
    /// Source port of the SA's packets.
    pub sport: u16,
    /// Destination port of the SA's packets.
    pub dport: u16,
    /// Original address of the peer; unused by the kernel.
    pub oa: Address,
}

impl Wire for Encap {
    const WHAT: &'static str = "xfrm_encap_tmpl";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = EncapType(r.u16()?);
        let sport = r.u16_be()?;
        let dport = r.u16_be()?;
        r.skip(2)?;
        Ok(Self {
            kind,
            sport,
            dport,
            oa: Wire::read(r)?,
        })
    }
    fn write(&self, out: &mut Writer) {
        out.u16(self.kind.0);
        out.u16_be(self.sport);
        out.u16_be(self.dport);
        out.zeros(2);
        self.oa.write(out);
    }
}

/// `xfrm_replay_state` (12 bytes): 32-bit numbers, window at most 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ReplayState {
    /// Last number sent.
    pub oseq: u32,
    /// Highest number received.
    pub seq: u32,
    /// Which of the last 32 were seen.
    pub bitmap: u32,
}

impl Wire for ReplayState {
    const WHAT: &'static str = "xfrm_replay_state";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            oseq: r.u32()?,
            seq: r.u32()?,
            bitmap: r.u32()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        out.u32(self.oseq);
        out.u32(self.seq);
        out.u32(self.bitmap);
    }
}

/// `xfrm_replay_state_esn` (24 bytes and the bitmap): 64-bit numbers or large windows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ReplayStateEsn {
    /// Low half of the last number sent.
    pub oseq: u32,
    /// Low half of the highest number received.
    pub seq: u32,
    /// High half of the last number sent.
    pub oseq_hi: u32,
    /// High half of the highest number received.
    pub seq_hi: u32,
    /// Window in packets, at most 32 per word of the bitmap; 0 = no check.
    pub replay_window: u32,
    /// Packets seen, one bit each; at most 128 words.
    pub bitmap: Vec<u32>,
}

impl Wire for ReplayStateEsn {
    const WHAT: &'static str = "xfrm_replay_state_esn";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let words = r.u32()? as usize;
        let mut state = Self {
            oseq: r.u32()?,
            seq: r.u32()?,
            oseq_hi: r.u32()?,
            seq_hi: r.u32()?,
            replay_window: r.u32()?,
            bitmap: Vec::new(),
        };
        // No allocation by a length that the bytes do not back.
        if words.checked_mul(4).is_none_or(|len| len > r.rest().len()) {
            return Err(DecodeError::BadLength {
                what: Self::WHAT,
                length: words,
            });
        }
        state.bitmap = (0..words).map(|_| r.u32()).collect::<Result<_, _>>()?;
        Ok(state)
    }
    fn write(&self, out: &mut Writer) {
        out.u32(u32::try_from(self.bitmap.len()).unwrap_or(u32::MAX));
        out.u32(self.oseq);
        out.u32(self.seq);
        out.u32(self.oseq_hi);
        out.u32(self.seq_hi);
        out.u32(self.replay_window);
        for word in &self.bitmap {
            out.u32(*word);
        }
    }
}

/// `xfrm_user_offload` (8 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Offload {
    /// Device.
    pub ifindex: i32,
    /// Flags.
    pub flags: OffloadFlags,
}

impl Wire for Offload {
    const WHAT: &'static str = "xfrm_user_offload";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let offload = Self {
            ifindex: r.i32()?,
            flags: OffloadFlags(r.u8()?),
        };
        r.skip(3)?;
        Ok(offload)
    }
    fn write(&self, out: &mut Writer) {
        out.i32(self.ifindex);
        out.u8(self.flags.0);
        out.zeros(3);
    }
}

/// `xfrm_user_migrate_state` (132 bytes, 7.2): an SA and what it is to become. What has an attribute
/// and is left out is inherited; what is a field here is taken as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MigrateState {
    /// The SA as it is.
    pub id: SaId,
    /// Destination after.
    pub new_daddr: Address,
    /// Source after.
    pub new_saddr: Address,
    /// The mark of the SA as it is.
    pub old_mark: Mark,
    /// Selector after.
    pub new_selector: Selector,
    /// Request id after.
    pub new_reqid: u32,
    /// 1: hardware offload is not inherited; 2: the selector is made from the new addresses.
    pub flags: u32,
    /// Family of the new addresses.
    pub new_family: Family,
}

impl Wire for MigrateState {
    const WHAT: &'static str = "xfrm_user_migrate_state";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let change = Self {
            id: Wire::read(r)?,
            new_daddr: Wire::read(r)?,
            new_saddr: Wire::read(r)?,
            old_mark: Wire::read(r)?,
            new_selector: Wire::read(r)?,
            new_reqid: r.u32()?,
            flags: r.u32()?,
            new_family: Family(r.u16()?),
        };
        r.skip(2)?;
        Ok(change)
    }
    fn write(&self, out: &mut Writer) {
        self.id.write(out);
        self.new_daddr.write(out);
        self.new_saddr.write(out);
        self.old_mark.write(out);
        self.new_selector.write(out);
        out.u32(self.new_reqid);
        out.u32(self.flags);
        out.u16(self.new_family.0);
        out.zeros(2);
    }
}

/// `xfrm_address_filter` (36 bytes): which SAs a dump shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AddressFilter {
    /// Source network.
    pub saddr: Address,
    /// Destination network.
    pub daddr: Address,
    /// Family of both.
    pub family: Family,
    /// Source prefix length in bits.
    pub splen: u8,
    /// Destination prefix length in bits.
    pub dplen: u8,
}

impl Wire for AddressFilter {
    const WHAT: &'static str = "xfrm_address_filter";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            saddr: Wire::read(r)?,
            daddr: Wire::read(r)?,
            family: Family(r.u16()?),
            splen: r.u8()?,
            dplen: r.u8()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        self.saddr.write(out);
        self.daddr.write(out);
        out.u16(self.family.0);
        out.u8(self.splen);
        out.u8(self.dplen);
    }
}
