//! Whole messages: type, fixed part and attributes.

use zeroize::Zeroizing;

use crate::attribute::{Attributes, Space};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::numbers::{MessageType, SaProtocol};
use crate::structures::{
    AcquireInfo, AeventId, ExpireInfo, MappingInfo, MigrateState, PolicyDefaults, PolicyExpireInfo,
    PolicyId, PolicyInfo, ReportInfo, SaId, SaInfo, SpiRequest,
};

/// The type of a message together with its fixed part.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// Add an SA; also an SA in an answer, a dump or a notification.
    NewSa(SaInfo),
    /// Complete a larval SA or change a valid one.
    UpdateSa(SaInfo),
    /// Delete an SA.
    DeleteSa(SaId),
    /// Get one SA.
    GetSa(SaId),
    /// Dump all SAs (filters are attributes).
    DumpSa,
    /// Reserve an SPI.
    AllocSpi(SpiRequest),
    /// Delete all SAs of a protocol.
    FlushSa(SaProtocol),
    /// Add a policy; also a policy in an answer, a dump or a notification.
    NewPolicy(PolicyInfo),
    /// Add or replace a policy.
    UpdatePolicy(PolicyInfo),
    /// Delete a policy.
    DeletePolicy(PolicyId),
    /// Get one policy.
    GetPolicy(PolicyId),
    /// Dump all policies.
    DumpPolicy,
    /// Delete all policies.
    FlushPolicy,
    /// The kernel wants an SA.
    Acquire(AcquireInfo),
    /// An SA reached a limit; as a request, make it.
    Expire(ExpireInfo),
    /// A policy reached a limit; as a request, make it.
    PolicyExpire(PolicyExpireInfo),
    /// A peer's address or port changed.
    Mapping(MappingInfo),
    /// Replay and lifetime state of an SA.
    NewAe(AeventId),
    /// Ask for it.
    GetAe(AeventId),
    /// Mobile IPv6 report.
    Report(ReportInfo),
    /// Move policies and SAs.
    Migrate(PolicyId),
    /// Move one SA (7.2).
    MigrateState(MigrateState),
    /// Summary of the SAD (flags).
    NewSadInfo(u32),
    /// Ask for it.
    GetSadInfo(u32),
    /// Summary of the SPD, or setting of its thresholds (flags).
    NewSpdInfo(u32),
    /// Ask for it.
    GetSpdInfo(u32),
    /// Set the defaults.
    SetDefault(PolicyDefaults),
    /// Ask for the defaults; also the answer and the notification.
    GetDefault(PolicyDefaults),
    /// Of a type that is not known here.
    Unknown {
        /// Type.
        kind: MessageType,
        /// All bytes after the netlink header; attributes are not parsed.
        bytes: Vec<u8>,
    },
}

/// One XFRM message without its netlink header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Type and fixed part.
    pub body: Body,
    /// Attributes.
    pub attributes: Attributes,
}

impl Message {
    /// A message without attributes.
    pub const fn new(body: Body) -> Self {
        Self {
            body,
            attributes: Attributes::new(),
        }
    }

    /// The number in the netlink header.
    pub fn kind(&self) -> MessageType {
        use MessageType as T;
        match &self.body {
            Body::NewSa(_) => T::NEWSA,
            Body::UpdateSa(_) => T::UPDSA,
            Body::DeleteSa(_) => T::DELSA,
            Body::GetSa(_) | Body::DumpSa => T::GETSA,
            Body::AllocSpi(_) => T::ALLOCSPI,
            Body::FlushSa(_) => T::FLUSHSA,
            Body::NewPolicy(_) => T::NEWPOLICY,
            Body::UpdatePolicy(_) => T::UPDPOLICY,
            Body::DeletePolicy(_) => T::DELPOLICY,
            Body::GetPolicy(_) | Body::DumpPolicy => T::GETPOLICY,
            Body::FlushPolicy => T::FLUSHPOLICY,
            Body::Acquire(_) => T::ACQUIRE,
            Body::Expire(_) => T::EXPIRE,
            Body::PolicyExpire(_) => T::POLEXPIRE,
            Body::Mapping(_) => T::MAPPING,
            Body::NewAe(_) => T::NEWAE,
            Body::GetAe(_) => T::GETAE,
            Body::Report(_) => T::REPORT,
            Body::Migrate(_) => T::MIGRATE,
            Body::MigrateState(_) => T::MIGRATE_STATE,
            Body::NewSadInfo(_) => T::NEWSADINFO,
            Body::GetSadInfo(_) => T::GETSADINFO,
            Body::NewSpdInfo(_) => T::NEWSPDINFO,
            Body::GetSpdInfo(_) => T::GETSPDINFO,
            Body::SetDefault(_) => T::SETDEFAULT,
            Body::GetDefault(_) => T::GETDEFAULT,
            Body::Unknown { kind, .. } => *kind,
        }
    }

    /// Whether the request asks for a dump (`NLM_F_DUMP`).
    pub fn is_dump(&self) -> bool {
        matches!(self.body, Body::DumpSa | Body::DumpPolicy)
    }

    /// The bytes that follow the netlink header. They may hold keys and wipe themselves.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::with_capacity(512);
        self.write(&mut out);
        out.into_bytes()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        match &self.body {
            Body::NewSa(v) | Body::UpdateSa(v) => v.write(out),
            Body::DeleteSa(v) | Body::GetSa(v) => v.write(out),
            Body::AllocSpi(v) => v.write(out),
            Body::FlushSa(v) => out.u8(v.0),
            Body::NewPolicy(v) | Body::UpdatePolicy(v) => v.write(out),
            Body::DeletePolicy(v) | Body::GetPolicy(v) | Body::Migrate(v) => v.write(out),
            Body::DumpSa | Body::DumpPolicy | Body::FlushPolicy => {}
            Body::Acquire(v) => v.write(out),
            Body::Expire(v) => v.write(out),
            Body::PolicyExpire(v) => v.write(out),
            Body::Mapping(v) => v.write(out),
            Body::NewAe(v) | Body::GetAe(v) => v.write(out),
            Body::Report(v) => v.write(out),
            Body::MigrateState(v) => v.write(out),
            Body::NewSadInfo(v)
            | Body::GetSadInfo(v)
            | Body::NewSpdInfo(v)
            | Body::GetSpdInfo(v) => out.u32(*v),
            Body::SetDefault(v) | Body::GetDefault(v) => v.write(out),
            Body::Unknown { bytes, .. } => {
                out.put(bytes);
                return;
            }
        }
        out.align4();
        self.attributes.write(out);
    }

    /// Reads the bytes that follow a netlink header of type `kind`. `dump` says whether the
    /// header had `NLM_F_DUMP`, which tells requests for one from requests for all.
    ///
    /// # Errors
    /// Bytes that end within the fixed part or within an attribute. Unknown types and attributes
    /// are no error.
    pub fn decode(kind: MessageType, dump: bool, bytes: &[u8]) -> Result<Self, DecodeError> {
        use MessageType as T;
        let mut r = Reader::new("message", bytes);
        let body = match kind {
            T::NEWSA => Body::NewSa(fixed(&mut r)?),
            T::UPDSA => Body::UpdateSa(fixed(&mut r)?),
            T::DELSA => Body::DeleteSa(fixed(&mut r)?),
            T::GETSA if dump => Body::DumpSa,
            T::GETSA => Body::GetSa(fixed(&mut r)?),
            T::ALLOCSPI => Body::AllocSpi(fixed(&mut r)?),
            T::FLUSHSA => Body::FlushSa(SaProtocol(r.u8()?)),
            T::NEWPOLICY => Body::NewPolicy(fixed(&mut r)?),
            T::UPDPOLICY => Body::UpdatePolicy(fixed(&mut r)?),
            T::DELPOLICY => Body::DeletePolicy(fixed(&mut r)?),
            T::GETPOLICY if dump => Body::DumpPolicy,
            T::GETPOLICY => Body::GetPolicy(fixed(&mut r)?),
            T::FLUSHPOLICY => Body::FlushPolicy,
            T::ACQUIRE => Body::Acquire(fixed(&mut r)?),
            T::EXPIRE => Body::Expire(fixed(&mut r)?),
            T::POLEXPIRE => Body::PolicyExpire(fixed(&mut r)?),
            T::MAPPING => Body::Mapping(fixed(&mut r)?),
            T::NEWAE => Body::NewAe(fixed(&mut r)?),
            T::GETAE => Body::GetAe(fixed(&mut r)?),
            T::REPORT => Body::Report(fixed(&mut r)?),
            T::MIGRATE => Body::Migrate(fixed(&mut r)?),
            T::MIGRATE_STATE => Body::MigrateState(fixed(&mut r)?),
            T::NEWSADINFO => Body::NewSadInfo(r.u32()?),
            T::GETSADINFO => Body::GetSadInfo(r.u32()?),
            T::NEWSPDINFO => Body::NewSpdInfo(r.u32()?),
            T::GETSPDINFO => Body::GetSpdInfo(r.u32()?),
            T::SETDEFAULT => Body::SetDefault(fixed(&mut r)?),
            T::GETDEFAULT => Body::GetDefault(fixed(&mut r)?),
            _ => {
                return Ok(Self::new(Body::Unknown {
                    kind,
                    bytes: bytes.to_vec(),
                }));
            }
        };
        let space = match kind {
            T::NEWSADINFO | T::GETSADINFO => Space::Sad,
            T::NEWSPDINFO | T::GETSPDINFO => Space::Spd,
            _ => Space::Main,
        };
        let used = bytes.len() - r.rest().len();
        let padding = used.next_multiple_of(4) - used;
        r.skip(padding.min(r.rest().len()))?;
        Ok(Self {
            body,
            attributes: Attributes::read(space, r.rest())?,
        })
    }
}

fn fixed<T: Wire>(r: &mut Reader<'_>) -> Result<T, DecodeError> {
    let mut inner = Reader::new(T::WHAT, r.rest());
    let value = T::read(&mut inner)?;
    r.skip(r.rest().len() - inner.rest().len())?;
    Ok(value)
}
