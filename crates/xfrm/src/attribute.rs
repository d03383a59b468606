//! Netlink attributes of XFRM messages, typed; what is not known is kept as bytes.

use crate::algorithm::{Algorithm, AlgorithmIcv};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::numbers::{AttributeType, Family, PolicyType, SaDirection, SaExtraFlags, SaProtocol};
use crate::structures::{
    Address, AddressFilter, Encap, HashInfo, HashThresholds, KmAddress, LifetimeUsed, Mark,
    Migrate, Offload, PolicyInfo, PolicyTypeWire, ReplayState, ReplayStateEsn, SaInfo, SpdCounts,
    Template,
};

/// Which meaning attribute numbers have: SADINFO and SPDINFO messages number their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Main,
    Sad,
    Spd,
}

// Numbers of the two small spaces (`XFRMA_SAD_*`, `XFRMA_SPD_*`).
const SAD_CNT: u16 = 1;
const SAD_HINFO: u16 = 2;
const SPD_INFO: u16 = 1;
const SPD_HINFO: u16 = 2;
const SPD_IPV4_HTHRESH: u16 = 3;
const SPD_IPV6_HTHRESH: u16 = 4;

/// `NLA_F_NESTED | NLA_F_NET_BYTEORDER`: hints in the type field that are not part of the number.
const TYPE_MASK: u16 = 0x3fff;

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attribute {
    /// Integrity algorithm with the kernel's default ICV length (96 bits for `hmac(sha256)`!).
    Auth(Algorithm),
    /// Cipher.
    Crypt(Algorithm),
    /// Compression.
    Compression(Algorithm),
    /// AEAD.
    Aead(AlgorithmIcv),
    /// Integrity algorithm with its ICV length.
    AuthTrunc(AlgorithmIcv),
    /// UDP or TCP encapsulation.
    Encap(Encap),
    /// Templates of a policy, at most six.
    Templates(Vec<Template>),
    /// The SA itself, in notifications of deletion.
    Sa(Box<SaInfo>),
    /// The policy itself, in notifications of deletion.
    Policy(Box<PolicyInfo>),
    /// LSM security context, kept as the kernel's bytes.
    SecurityContext(Vec<u8>),
    /// Use so far.
    LifetimeUsed(LifetimeUsed),
    /// Replay state, legacy form.
    Replay(ReplayState),
    /// Replay state, long form.
    ReplayEsn(ReplayStateEsn),
    /// Packets between replay notifications.
    ReplayThreshold(u32),
    /// Time between replay notifications in units of 100 ms.
    TimerThreshold(u32),
    /// Source address, for route-optimisation protocols.
    SourceAddress(Address),
    /// Care-of address.
    CareOfAddress(Address),
    /// Wall-clock second of last use.
    LastUsed(u64),
    /// Main or sub policy.
    PolicyType(PolicyType),
    /// Address changes.
    Migrate(Vec<Migrate>),
    /// Addresses for key management after a migration.
    KmAddress(KmAddress),
    /// Mark that packets must have.
    Mark(Mark),
    /// TFC padding length in octets.
    TfcPadding(u32),
    /// More SA flags.
    SaExtraFlags(SaExtraFlags),
    /// Dump filter: protocol.
    Protocol(SaProtocol),
    /// Dump filter: addresses.
    AddressFilter(AddressFilter),
    /// Hardware offload.
    Offload(Offload),
    /// Mark that the SA sets.
    SetMark(u32),
    /// Bits of the mark that the SA sets.
    SetMarkMask(u32),
    /// Id of the xfrm interface.
    IfId(u32),
    /// Seconds between mapping events.
    MappingThreshold(u32),
    /// Direction of the SA.
    SaDirection(SaDirection),
    /// Seconds between the kernel's NAT keepalives.
    NatKeepaliveInterval(u32),
    /// CPU that the SA is pinned to.
    Cpu(u32),
    /// IP-TFS: inbound drop time in microseconds.
    IptfsDropTime(u32),
    /// IP-TFS: inbound reorder window in packets.
    IptfsReorderWindow(u16),
    /// IP-TFS: inner packets are not fragmented.
    IptfsDontFragment,
    /// IP-TFS: outbound delay in microseconds.
    IptfsInitDelay(u32),
    /// IP-TFS: outbound queue limit in octets.
    IptfsMaxQueueSize(u32),
    /// IP-TFS: outer packet size in octets.
    IptfsPacketSize(u32),
    /// Number of SAs.
    SadCount(u32),
    /// Size of the SAD's hash table.
    SadHash(HashInfo),
    /// Numbers of policies.
    SpdCounts(SpdCounts),
    /// Size of the SPD's hash table.
    SpdHash(HashInfo),
    /// Hash thresholds for IPv4 or IPv6 policies.
    SpdThresholds(Family, HashThresholds),
    /// One that is not known here, or a known one whose length does not fit (older and newer
    /// kernels may differ): type field and bytes.
    Unknown {
        /// Type field with its flag bits.
        kind: u16,
        /// Payload.
        bytes: Vec<u8>,
    },
}

impl Attribute {
    /// The number in the attribute's header.
    pub fn number(&self) -> u16 {
        use AttributeType as T;
        let kind = match self {
            Self::Auth(_) => T::ALG_AUTH,
            Self::Crypt(_) => T::ALG_CRYPT,
            Self::Compression(_) => T::ALG_COMP,
            Self::Aead(_) => T::ALG_AEAD,
            Self::AuthTrunc(_) => T::ALG_AUTH_TRUNC,
            Self::Encap(_) => T::ENCAP,
            Self::Templates(_) => T::TMPL,
            Self::Sa(_) => T::SA,
            Self::Policy(_) => T::POLICY,
            Self::SecurityContext(_) => T::SEC_CTX,
            Self::LifetimeUsed(_) => T::LTIME_VAL,
            Self::Replay(_) => T::REPLAY_VAL,
            Self::ReplayEsn(_) => T::REPLAY_ESN_VAL,
            Self::ReplayThreshold(_) => T::REPLAY_THRESH,
            Self::TimerThreshold(_) => T::ETIMER_THRESH,
            Self::SourceAddress(_) => T::SRCADDR,
            Self::CareOfAddress(_) => T::COADDR,
            Self::LastUsed(_) => T::LASTUSED,
            Self::PolicyType(_) => T::POLICY_TYPE,
            Self::Migrate(_) => T::MIGRATE,
            Self::KmAddress(_) => T::KMADDRESS,
            Self::Mark(_) => T::MARK,
            Self::TfcPadding(_) => T::TFCPAD,
            Self::SaExtraFlags(_) => T::SA_EXTRA_FLAGS,
            Self::Protocol(_) => T::PROTO,
            Self::AddressFilter(_) => T::ADDRESS_FILTER,
            Self::Offload(_) => T::OFFLOAD_DEV,
            Self::SetMark(_) => T::SET_MARK,
            Self::SetMarkMask(_) => T::SET_MARK_MASK,
            Self::IfId(_) => T::IF_ID,
            Self::MappingThreshold(_) => T::MTIMER_THRESH,
            Self::SaDirection(_) => T::SA_DIR,
            Self::NatKeepaliveInterval(_) => T::NAT_KEEPALIVE_INTERVAL,
            Self::Cpu(_) => T::SA_PCPU,
            Self::IptfsDropTime(_) => T::IPTFS_DROP_TIME,
            Self::IptfsReorderWindow(_) => T::IPTFS_REORDER_WINDOW,
            Self::IptfsDontFragment => T::IPTFS_DONT_FRAG,
            Self::IptfsInitDelay(_) => T::IPTFS_INIT_DELAY,
            Self::IptfsMaxQueueSize(_) => T::IPTFS_MAX_QSIZE,
            Self::IptfsPacketSize(_) => T::IPTFS_PKT_SIZE,
            Self::SadCount(_) => AttributeType(SAD_CNT),
            Self::SadHash(_) => AttributeType(SAD_HINFO),
            Self::SpdCounts(_) => AttributeType(SPD_INFO),
            Self::SpdHash(_) => AttributeType(SPD_HINFO),
            Self::SpdThresholds(Family::INET6, _) => AttributeType(SPD_IPV6_HTHRESH),
            Self::SpdThresholds(..) => AttributeType(SPD_IPV4_HTHRESH),
            Self::Unknown { kind, .. } => AttributeType(*kind),
        };
        kind.0
    }

    fn write_payload(&self, out: &mut Writer) {
        match self {
            Self::Auth(a) | Self::Crypt(a) | Self::Compression(a) => a.write(out),
            Self::Aead(a) | Self::AuthTrunc(a) => a.write(out),
            Self::Encap(v) => v.write(out),
            Self::Templates(v) => v.iter().for_each(|t| t.write(out)),
            Self::Sa(v) => v.write(out),
            Self::Policy(v) => v.write(out),
            Self::SecurityContext(v) => out.put(v),
            Self::LifetimeUsed(v) => v.write(out),
            Self::Replay(v) => v.write(out),
            Self::ReplayEsn(v) => v.write(out),
            Self::SourceAddress(v) | Self::CareOfAddress(v) => v.write(out),
            Self::LastUsed(v) => out.u64(*v),
            Self::PolicyType(v) => PolicyTypeWire(*v).write(out),
            Self::Migrate(v) => v.iter().for_each(|m| m.write(out)),
            Self::KmAddress(v) => v.write(out),
            Self::Mark(v) => v.write(out),
            Self::SaExtraFlags(v) => out.u32(v.0),
            Self::Protocol(v) => out.u8(v.0),
            Self::AddressFilter(v) => v.write(out),
            Self::Offload(v) => v.write(out),
            Self::SaDirection(v) => out.u8(v.0),
            Self::IptfsReorderWindow(v) => out.u16(*v),
            Self::IptfsDontFragment => {}
            Self::SadHash(v) | Self::SpdHash(v) => v.write(out),
            Self::SpdCounts(v) => v.write(out),
            Self::SpdThresholds(_, v) => v.write(out),
            Self::ReplayThreshold(v)
            | Self::TimerThreshold(v)
            | Self::TfcPadding(v)
            | Self::SetMark(v)
            | Self::SetMarkMask(v)
            | Self::IfId(v)
            | Self::MappingThreshold(v)
            | Self::NatKeepaliveInterval(v)
            | Self::Cpu(v)
            | Self::IptfsDropTime(v)
            | Self::IptfsInitDelay(v)
            | Self::IptfsMaxQueueSize(v)
            | Self::IptfsPacketSize(v)
            | Self::SadCount(v) => out.u32(*v),
            Self::Unknown { bytes, .. } => out.put(bytes),
        }
    }

    fn read_known(space: Space, kind: u16, bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        let number = kind & TYPE_MASK;
        let mut r = Reader::new("attribute", bytes);
        Ok(Some(match (space, number) {
            (Space::Sad, SAD_CNT) => Self::SadCount(r.u32()?),
            (Space::Sad, SAD_HINFO) => Self::SadHash(Wire::decode(bytes)?),
            (Space::Spd, SPD_INFO) => Self::SpdCounts(Wire::decode(bytes)?),
            (Space::Spd, SPD_HINFO) => Self::SpdHash(Wire::decode(bytes)?),
            (Space::Spd, SPD_IPV4_HTHRESH) => {
                Self::SpdThresholds(Family::INET, Wire::decode(bytes)?)
            }
            (Space::Spd, SPD_IPV6_HTHRESH) => {
                Self::SpdThresholds(Family::INET6, Wire::decode(bytes)?)
            }
            (Space::Main, number) => match Self::read_main(AttributeType(number), bytes, r)? {
                Some(attribute) => attribute,
                None => return Ok(None),
            },
            _ => return Ok(None),
        }))
    }

    fn read_main(
        number: AttributeType,
        bytes: &[u8],
        mut r: Reader<'_>,
    ) -> Result<Option<Self>, DecodeError> {
        use AttributeType as T;
        Ok(Some(match number {
            T::ALG_AUTH => Self::Auth(Wire::decode(bytes)?),
            T::ALG_CRYPT => Self::Crypt(Wire::decode(bytes)?),
            T::ALG_COMP => Self::Compression(Wire::decode(bytes)?),
            T::ALG_AEAD => Self::Aead(Wire::decode(bytes)?),
            T::ALG_AUTH_TRUNC => Self::AuthTrunc(Wire::decode(bytes)?),
            T::ENCAP => Self::Encap(Wire::decode(bytes)?),
            T::TMPL => Self::Templates(list(bytes, Template::LEN)?),
            T::SA => Self::Sa(Box::new(Wire::decode(bytes)?)),
            T::POLICY => Self::Policy(Box::new(Wire::decode(bytes)?)),
            T::SEC_CTX => Self::SecurityContext(bytes.to_vec()),
            T::LTIME_VAL => Self::LifetimeUsed(Wire::decode(bytes)?),
            T::REPLAY_VAL => Self::Replay(Wire::decode(bytes)?),
            T::REPLAY_ESN_VAL => Self::ReplayEsn(Wire::decode(bytes)?),
            T::REPLAY_THRESH => Self::ReplayThreshold(r.u32()?),
            T::ETIMER_THRESH => Self::TimerThreshold(r.u32()?),
            T::SRCADDR => Self::SourceAddress(Wire::decode(bytes)?),
            T::COADDR => Self::CareOfAddress(Wire::decode(bytes)?),
            T::LASTUSED => Self::LastUsed(r.u64()?),
            T::POLICY_TYPE => Self::PolicyType(PolicyTypeWire::decode(bytes)?.0),
            T::MIGRATE => Self::Migrate(list(bytes, Migrate::LEN)?),
            T::KMADDRESS => Self::KmAddress(Wire::decode(bytes)?),
            T::MARK => Self::Mark(Wire::decode(bytes)?),
            T::TFCPAD => Self::TfcPadding(r.u32()?),
            T::SA_EXTRA_FLAGS => Self::SaExtraFlags(SaExtraFlags(r.u32()?)),
            T::PROTO => Self::Protocol(SaProtocol(r.u8()?)),
            T::ADDRESS_FILTER => Self::AddressFilter(Wire::decode(bytes)?),
            T::OFFLOAD_DEV => Self::Offload(Wire::decode(bytes)?),
            T::SET_MARK => Self::SetMark(r.u32()?),
            T::SET_MARK_MASK => Self::SetMarkMask(r.u32()?),
            T::IF_ID => Self::IfId(r.u32()?),
            T::MTIMER_THRESH => Self::MappingThreshold(r.u32()?),
            T::SA_DIR => Self::SaDirection(SaDirection(r.u8()?)),
            T::NAT_KEEPALIVE_INTERVAL => Self::NatKeepaliveInterval(r.u32()?),
            T::SA_PCPU => Self::Cpu(r.u32()?),
            T::IPTFS_DROP_TIME => Self::IptfsDropTime(r.u32()?),
            T::IPTFS_REORDER_WINDOW => Self::IptfsReorderWindow(r.u16()?),
            T::IPTFS_DONT_FRAG => Self::IptfsDontFragment,
            T::IPTFS_INIT_DELAY => Self::IptfsInitDelay(r.u32()?),
            T::IPTFS_MAX_QSIZE => Self::IptfsMaxQueueSize(r.u32()?),
            T::IPTFS_PKT_SIZE => Self::IptfsPacketSize(r.u32()?),
            _ => return Ok(None),
        }))
    }
}

fn list<T: Wire>(bytes: &[u8], each: usize) -> Result<Vec<T>, DecodeError> {
    if bytes.len().checked_rem(each) != Some(0) {
        return Err(DecodeError::BadLength {
            what: T::WHAT,
            length: bytes.len(),
        });
    }
    bytes.chunks_exact(each).map(T::decode).collect()
}

/// The attributes of one message, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes(pub Vec<Attribute>);

macro_rules! getters {
    ($($(#[$meta:meta])* $name:ident: $variant:ident => $type:ty;)*) => {
        $($(#[$meta])*
        pub fn $name(&self) -> Option<$type> {
            self.0.iter().find_map(|a| match a {
                Attribute::$variant(value) => Some(value.to_owned()),
                _ => None,
            })
        })*
    };
}

impl Attributes {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends one.
    pub fn push(&mut self, attribute: Attribute) {
        self.0.push(attribute);
    }

    /// This with one more.
    #[must_use]
    pub fn with(mut self, attribute: Attribute) -> Self {
        self.0.push(attribute);
        self
    }

    /// Iterates in the order of the message.
    pub fn iter(&self) -> std::slice::Iter<'_, Attribute> {
        self.0.iter()
    }

    /// AEAD algorithm.
    pub fn aead(&self) -> Option<&AlgorithmIcv> {
        self.0.iter().find_map(|a| match a {
            Attribute::Aead(algorithm) => Some(algorithm),
            _ => None,
        })
    }

    /// Cipher.
    pub fn crypt(&self) -> Option<&Algorithm> {
        self.0.iter().find_map(|a| match a {
            Attribute::Crypt(algorithm) => Some(algorithm),
            _ => None,
        })
    }

    /// Integrity algorithm with its ICV length. (Dumps carry it beside the short form.)
    pub fn auth_trunc(&self) -> Option<&AlgorithmIcv> {
        self.0.iter().find_map(|a| match a {
            Attribute::AuthTrunc(algorithm) => Some(algorithm),
            _ => None,
        })
    }

    /// The whole SA, in notifications that one was deleted.
    pub fn sa(&self) -> Option<&SaInfo> {
        self.0.iter().find_map(|a| match a {
            Attribute::Sa(sa) => Some(&**sa),
            _ => None,
        })
    }

    /// The whole policy, in notifications that one was deleted.
    pub fn policy(&self) -> Option<&PolicyInfo> {
        self.0.iter().find_map(|a| match a {
            Attribute::Policy(policy) => Some(&**policy),
            _ => None,
        })
    }

    /// Templates; empty if there are none.
    pub fn templates(&self) -> &[Template] {
        self.0
            .iter()
            .find_map(|a| match a {
                Attribute::Templates(templates) => Some(templates.as_slice()),
                _ => None,
            })
            .unwrap_or_default()
    }

    getters! {
        /// Mark that packets must have.
        mark: Mark => Mark;
        /// Id of the xfrm interface.
        if_id: IfId => u32;
        /// Encapsulation.
        encap: Encap => Encap;
        /// Mark that the SA sets.
        set_mark: SetMark => u32;
        /// Bits of the mark that the SA sets.
        set_mark_mask: SetMarkMask => u32;
        /// Replay state, legacy form.
        replay: Replay => ReplayState;
        /// Replay state, long form.
        replay_esn: ReplayEsn => ReplayStateEsn;
        /// More SA flags.
        extra_flags: SaExtraFlags => SaExtraFlags;
        /// Direction of the SA.
        sa_direction: SaDirection => SaDirection;
        /// Wall-clock second of last use.
        last_used: LastUsed => u64;
        /// Main or sub policy.
        policy_type: PolicyType => PolicyType;
        /// Hardware offload.
        offload: Offload => Offload;
        /// TFC padding length in octets.
        tfc_padding: TfcPadding => u32;
        /// CPU that the SA is pinned to.
        cpu: Cpu => u32;
        /// Number of SAs.
        sad_count: SadCount => u32;
        /// Numbers of policies.
        spd_counts: SpdCounts => SpdCounts;
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        for attribute in &self.0 {
            let start = out.len();
            out.u16(0);
            out.u16(attribute.number());
            attribute.write_payload(out);
            // Longer than 65535 cannot be said; the kernel would refuse such a thing anyway.
            let len = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
            out.patch(start, &len.to_ne_bytes());
            out.align4();
        }
    }

    pub(crate) fn read(space: Space, bytes: &[u8]) -> Result<Self, DecodeError> {
        const HEADER: usize = 4;
        let mut attributes = Vec::new();
        let mut r = Reader::new("attribute header", bytes);
        while !r.rest().is_empty() {
            let len = usize::from(r.u16()?);
            let kind = r.u16()?;
            let payload = len.checked_sub(HEADER).ok_or(DecodeError::BadLength {
                what: "attribute",
                length: len,
            })?;
            let payload = r.bytes(payload)?;
            // The last attribute's padding may be missing.
            let padding = len.next_multiple_of(4) - len;
            r.skip(padding.min(r.rest().len()))?;
            // A payload shorter than we know it is kept rather than refused: the rest of the
            // message is worth more, and getters simply do not find it.
            let attribute = match Attribute::read_known(space, kind, payload) {
                Ok(Some(attribute)) => attribute,
                Ok(None) | Err(_) => Attribute::Unknown {
                    kind,
                    bytes: payload.to_vec(),
                },
            };
            attributes.push(attribute);
        }
        Ok(Self(attributes))
    }
}

impl FromIterator<Attribute> for Attributes {
    fn from_iter<T: IntoIterator<Item = Attribute>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Attributes {
    type Item = &'a Attribute;
    type IntoIter = std::slice::Iter<'a, Attribute>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
