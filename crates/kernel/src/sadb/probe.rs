//! What a kernel can do, found out by use: SAs that match nothing are added, read and deleted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cygnet_ipsec::{Compression, PlaneFeatures};
use cygnet_xfrm as xfrm;
use rustix::io::Errno;
use xfrm::{Attribute, Attributes, Body, Client, Message, RequestError};

use super::algorithms::{
    compression_attribute, encryption_attribute, encryption_variants, integrity_attribute,
    integrity_variants,
};
use super::convert::security_context;

/// SPIs up to 255 are reserved by IANA (RFC 4303 §2.1): no peer's packet has one.
const PROBE_SPI: u32 = 255;
/// And no packet has this mark by accident.
const PROBE_MARK: u32 = 0xc957_7e57;

// IANA numbers of what a kernel with ESP has, one or the other.
const AES_GCM_16: u16 = 20;
const AES_CBC: u16 = 12;
const HMAC_SHA2_256_128: u16 = 12;

/// Whether the kernel does ESP for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EspSupport {
    /// It accepts SAs.
    Available,
    /// It knows XFRM but not ESP (`CONFIG_INET_ESP`, `CONFIG_INET6_ESP`), or has no algorithm.
    Missing {
        /// The kernel's words.
        reason: String,
    },
    /// We may not ask.
    NoPermission,
}

impl EspSupport {
    /// Whether SAs can be installed.
    pub fn is_available(&self) -> bool {
        *self == Self::Available
    }
}

/// What a kernel can do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// ESP with IPv4 outside.
    pub esp_v4: EspSupport,
    /// ESP with IPv6 outside.
    pub esp_v6: EspSupport,
    /// UDP encapsulation (NAT traversal) with IPv4 outside.
    pub udp_encapsulation: bool,
    /// SAs have a direction (6.10), so outbound ones need no replay window.
    pub sa_direction: bool,
    /// SAs have an if_id (4.19).
    pub if_id: bool,
    /// Defaults for packets without a policy can be set (5.15).
    pub policy_defaults: bool,
    /// One SA can be moved to other addresses by one message (7.2).
    pub migrate_state: bool,
    /// Modes, protocols and the like, with IPv4 outside, or IPv6 where that is missing.
    pub features: PlaneFeatures,
}

/// Which algorithms a kernel has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Algorithms {
    /// Encryption transforms by IANA number, each with the key lengths in octets, salt included.
    pub encryption: Vec<(u16, usize)>,
    /// Integrity transforms by IANA number.
    pub integrity: Vec<u16>,
}

impl Algorithms {
    /// All that have a name in the kernel; for stand-ins.
    pub(super) fn everything() -> Self {
        Self {
            encryption: encryption_variants()
                .map(|(id, len, _)| (id, len))
                .collect(),
            integrity: integrity_variants().map(|(id, _)| id).collect(),
        }
    }
}

impl Capabilities {
    /// Whether the kernel can be the data plane at all: what `dataplane=auto` asks.
    pub fn has_esp(&self) -> bool {
        self.esp_v4.is_available() || self.esp_v6.is_available()
    }

    /// What a perfect kernel has; for stand-ins.
    pub(super) fn everything() -> Self {
        Self {
            esp_v4: EspSupport::Available,
            esp_v6: EspSupport::Available,
            udp_encapsulation: true,
            sa_direction: true,
            if_id: true,
            policy_defaults: true,
            migrate_state: true,
            features: PlaneFeatures {
                transport: true,
                beet: true,
                ah: true,
                ipcomp: true,
                esn: true,
                tfc_padding: true,
                iptfs: true,
                per_cpu: true,
                labels: true,
                interfaces: true,
            },
        }
    }

    /// Whether SAs between addresses of this family can be installed.
    pub fn has_esp_for(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.esp_v4.is_available(),
            IpAddr::V6(_) => self.esp_v6.is_available(),
        }
    }
}

pub(super) fn probe(client: &mut Client) -> Result<Capabilities, RequestError> {
    let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let esp_v4 = esp(client, v4)?;
    let esp_v6 = esp(client, v6)?;
    let mut capabilities = Capabilities {
        esp_v4,
        esp_v6,
        udp_encapsulation: false,
        sa_direction: false,
        if_id: false,
        policy_defaults: client.defaults().is_ok(),
        migrate_state: knows_migrate_state(client)?,
        features: PlaneFeatures::default(),
    };
    let address = match (&capabilities.esp_v4, &capabilities.esp_v6) {
        (EspSupport::Available, _) => v4,
        (_, EspSupport::Available) => v6,
        _ => return Ok(capabilities),
    };
    features(client, address, &mut capabilities)?;
    Ok(capabilities)
}

/// Whether the direction of an SA comes back when the SA is read (older kernels ignore it).
pub(super) fn knows_direction(client: &mut Client) -> Result<bool, RequestError> {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let attributes = base(aead(AES_GCM_16, 20)).with(Attribute::SaDirection(xfrm::SaDirection::IN));
    let attributes = add_read_delete(client, address, attributes)?;
    Ok(attributes.sa_direction().is_some())
}

/// Whether the kernel has XFRM_MSG_MIGRATE_STATE: it says that there is no such SA, instead of not knowing the message.
pub(super) fn knows_migrate_state(client: &mut Client) -> Result<bool, RequestError> {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (id, _) = ProbeSa::new(address).id();
    let nothing = xfrm::MigrateState {
        id,
        new_daddr: address.into(),
        new_saddr: address.into(),
        old_mark: xfrm::Mark {
            value: PROBE_MARK,
            mask: u32::MAX,
        },
        new_family: (&address).into(),
        ..xfrm::MigrateState::default()
    };
    match client.call(&Message::new(Body::MigrateState(nothing))) {
        Ok(_) => Ok(true),
        Err(RequestError::Refused(refusal)) => {
            Ok(Errno::from_raw_os_error(refusal.errno) == Errno::SRCH)
        }
        Err(error) => Err(error),
    }
}

fn esp(client: &mut Client, address: IpAddr) -> Result<EspSupport, RequestError> {
    let candidates = [
        base(aead(AES_GCM_16, 20)),
        base(cipher_and_integrity(AES_CBC, 16, HMAC_SHA2_256_128, 32)),
    ];
    let mut reason = String::new();
    for attributes in candidates {
        match add_read_delete(client, address, attributes) {
            Ok(_) => return Ok(EspSupport::Available),
            Err(RequestError::Refused(refusal)) => match Errno::from_raw_os_error(refusal.errno) {
                Errno::PERM | Errno::ACCESS => return Ok(EspSupport::NoPermission),
                _ => reason = refusal.to_string(),
            },
            Err(error) => return Err(error),
        }
    }
    Ok(EspSupport::Missing { reason })
}

/// Tries every algorithm: slow where that loads modules and tests ciphers.
pub(super) fn algorithms(client: &mut Client) -> Result<Algorithms, RequestError> {
    let mut found = Algorithms::default();
    let address = if esp(client, IpAddr::V4(Ipv4Addr::LOCALHOST))?.is_available() {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else if esp(client, IpAddr::V6(Ipv6Addr::LOCALHOST))?.is_available() {
        IpAddr::V6(Ipv6Addr::LOCALHOST)
    } else {
        return Ok(found);
    };
    let encryption: Vec<_> = encryption_variants().collect();
    let integrity: Vec<_> = integrity_variants().collect();
    let encryption_attributes = encryption.iter().map(|(id, len, is_aead)| {
        if *is_aead {
            base(aead(*id, *len))
        } else {
            base(cipher_and_integrity(*id, *len, HMAC_SHA2_256_128, 32))
        }
    });
    let integrity_attributes = integrity
        .iter()
        .map(|(id, len)| base(cipher_and_integrity(AES_CBC, 16, *id, *len)));
    // Each is added and deleted in turn, so the same id serves all.
    let probe = ProbeSa::new(address);
    let requests: Vec<Message> = encryption_attributes
        .chain(integrity_attributes)
        .flat_map(|attributes| [probe.add(attributes), probe.delete()])
        .collect();
    let mut accepted = client
        .batch(&requests)
        .into_iter()
        .step_by(2)
        .map(|outcome| outcome.is_ok());
    for (id, len, _) in encryption {
        if accepted.next() == Some(true) {
            found.encryption.push((id, len));
        }
    }
    for (id, _) in integrity {
        if accepted.next() == Some(true) {
            found.integrity.push(id);
        }
    }
    Ok(found)
}

fn features(
    client: &mut Client,
    address: IpAddr,
    capabilities: &mut Capabilities,
) -> Result<(), RequestError> {
    // Whichever of the two `esp` found to work.
    let key = match add_read_delete(client, address, base(aead(AES_GCM_16, 20))) {
        Ok(_) => aead(AES_GCM_16, 20),
        Err(RequestError::Refused(_)) => cipher_and_integrity(AES_CBC, 16, HMAC_SHA2_256_128, 32),
        Err(error) => return Err(error),
    };
    let attributes = base(key.clone())
        .with(Attribute::SaDirection(xfrm::SaDirection::IN))
        .with(Attribute::IfId(PROBE_MARK));
    let read = add_read_delete(client, address, attributes)?;
    capabilities.sa_direction = read.sa_direction().is_some();
    capabilities.if_id = read.if_id() == Some(PROBE_MARK);

    let encap = xfrm::Encap {
        kind: xfrm::EncapType::ESPINUDP,
        sport: 4500,
        dport: 4500,
        oa: xfrm::Address::default(),
    };
    let attributes = base(key.clone()).with(Attribute::Encap(encap));
    let read = if_accepted(add_read_delete(client, address, attributes))?;
    capabilities.udp_encapsulation = read.is_some_and(|read| read.encap().is_some());
    capabilities.features = PlaneFeatures {
        interfaces: capabilities.if_id,
        ..plane_features(client, address, key)?
    };
    Ok(())
}

/// What SAs can be beyond ESP in tunnel mode. What an older kernel does not know of it ignores, so it has to come back.
fn plane_features(
    client: &mut Client,
    address: IpAddr,
    key: Vec<Attribute>,
) -> Result<PlaneFeatures, RequestError> {
    let esp = |mode| ProbeSa {
        mode,
        ..ProbeSa::new(address)
    };
    let of = |proto| ProbeSa {
        proto,
        ..ProbeSa::new(address)
    };
    let key = || base(key.clone());
    let mut read = |probe: ProbeSa, attributes| if_accepted(probe.run(client, attributes));

    let directed = key().with(Attribute::SaDirection(xfrm::SaDirection::IN));
    let integrity = integrity_attribute(HMAC_SHA2_256_128, &pattern(32));
    let window = xfrm::ReplayStateEsn {
        replay_window: 32,
        bitmap: vec![0],
        ..xfrm::ReplayStateEsn::default()
    };
    let label = security_context(b"system_u:object_r:unlabeled_t:s0");
    let has = |read: Option<Attributes>, what: fn(&Attribute) -> bool| {
        read.is_some_and(|attributes| attributes.iter().any(what))
    };
    // A security module that does not know the label is one all the same.
    let labels = read(esp(xfrm::Mode::TUNNEL), key().with(label))?;
    let labels =
        labels.is_none_or(|a| a.iter().any(|a| matches!(a, Attribute::SecurityContext(_))));
    Ok(PlaneFeatures {
        transport: read(esp(xfrm::Mode::TRANSPORT), key())?.is_some(),
        beet: read(esp(xfrm::Mode::BEET), key())?.is_some(),
        ah: read(
            of(xfrm::SaProtocol::AH),
            base(integrity.into_iter().collect()),
        )?
        .is_some(),
        ipcomp: read(
            of(xfrm::SaProtocol::COMP),
            base(
                compression_attribute(Compression::Deflate)
                    .into_iter()
                    .collect(),
            ),
        )?
        .is_some(),
        esn: has(
            read(
                ProbeSa {
                    flags: xfrm::SaFlags::ESN,
                    ..ProbeSa::new(address)
                },
                key().with(Attribute::ReplayEsn(window)),
            )?,
            |a| matches!(a, Attribute::ReplayEsn(_)),
        ),
        tfc_padding: has(
            read(
                esp(xfrm::Mode::TUNNEL),
                key().with(Attribute::TfcPadding(1)),
            )?,
            |a| matches!(a, Attribute::TfcPadding(_)),
        ),
        // A kernel without the module takes the SA and drops what it should carry.
        iptfs: has(
            read(
                esp(xfrm::Mode::IPTFS),
                key()
                    .with(Attribute::SaDirection(xfrm::SaDirection::OUT))
                    .with(Attribute::IptfsPacketSize(1400)),
            )?,
            |a| matches!(a, Attribute::IptfsPacketSize(_)),
        ),
        per_cpu: has(
            read(esp(xfrm::Mode::TUNNEL), directed.with(Attribute::Cpu(0)))?,
            |a| matches!(a, Attribute::Cpu(_)),
        ),
        labels,
        interfaces: false,
    })
}

/// A refusal is an answer.
fn if_accepted(
    outcome: Result<Attributes, RequestError>,
) -> Result<Option<Attributes>, RequestError> {
    match outcome {
        Ok(read) => Ok(Some(read)),
        Err(RequestError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Adds an ESP SA in transport mode and returns what the kernel says it has.
fn add_read_delete(
    client: &mut Client,
    address: IpAddr,
    attributes: Attributes,
) -> Result<Attributes, RequestError> {
    ProbeSa::new(address).run(client, attributes)
}

/// An SA that is there for a moment.
#[derive(Clone, Copy)]
struct ProbeSa {
    address: IpAddr,
    proto: xfrm::SaProtocol,
    mode: xfrm::Mode,
    flags: xfrm::SaFlags,
}

impl ProbeSa {
    /// ESP in transport mode.
    fn new(address: IpAddr) -> Self {
        Self {
            address,
            proto: xfrm::SaProtocol::ESP,
            mode: xfrm::Mode::TRANSPORT,
            flags: xfrm::SaFlags::default(),
        }
    }

    /// Adds the SA, reads it and deletes it; what the kernel says it has.
    fn run(&self, client: &mut Client, attributes: Attributes) -> Result<Attributes, RequestError> {
        let (id, mark) = self.id();
        let read = Message {
            body: Body::GetSa(id),
            attributes: mark,
        };
        let mut outcomes = client
            .batch(&[self.add(attributes), read, self.delete()])
            .into_iter();
        if let Some(added) = outcomes.next() {
            added?;
        }
        match outcomes.next() {
            Some(read) => Ok(read?.message.map(|m| m.attributes).unwrap_or_default()),
            None => Ok(Attributes::new()),
        }
    }

    fn id(&self) -> (xfrm::SaId, Attributes) {
        let id = xfrm::SaId {
            daddr: self.address.into(),
            spi: PROBE_SPI,
            family: (&self.address).into(),
            proto: self.proto,
        };
        (id, base(Vec::new()))
    }

    fn add(&self, attributes: Attributes) -> Message {
        let info = xfrm::SaInfo {
            id: xfrm::Id {
                daddr: self.address.into(),
                spi: PROBE_SPI,
                proto: self.proto,
            },
            saddr: self.address.into(),
            family: (&self.address).into(),
            mode: self.mode,
            flags: self.flags,
            // Should a crash leave it behind, it does not stay.
            limits: xfrm::LifetimeLimits {
                hard_add_seconds: 5,
                ..xfrm::LifetimeLimits::NONE
            },
            ..xfrm::SaInfo::default()
        };
        Message {
            body: Body::NewSa(info),
            attributes,
        }
    }

    fn delete(&self) -> Message {
        let (id, attributes) = self.id();
        Message {
            body: Body::DeleteSa(id),
            attributes,
        }
    }
}

fn base(keys: Vec<Attribute>) -> Attributes {
    let mark = xfrm::Mark {
        value: PROBE_MARK,
        mask: u32::MAX,
    };
    Attributes(keys).with(Attribute::Mark(mark))
}

// The keys protect nothing. They are not all zero because some ciphers refuse weak keys.
fn aead(id: u16, len: usize) -> Vec<Attribute> {
    encryption_attribute(id, &pattern(len))
        .into_iter()
        .collect()
}

fn cipher_and_integrity(id: u16, len: usize, auth: u16, auth_len: usize) -> Vec<Attribute> {
    let cipher = encryption_attribute(id, &pattern(len)).into_iter();
    let auth = integrity_attribute(auth, &pattern(auth_len)).into_iter();
    cipher.chain(auth).collect()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..=u8::MAX)
        .cycle()
        .map(|b| b.wrapping_mul(151))
        .take(len)
        .collect()
}
