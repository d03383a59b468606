//! Between the commands of `cygnet-ipsec` and the messages of `cygnet-xfrm`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cygnet_ipsec as ipsec;
use cygnet_xfrm as xfrm;
use ipnet::IpNet;
use ipsec::CommandError;
use xfrm::{Attribute, Attributes, Body, Message};

use super::algorithms::{
    compression_attribute, encryption_attribute, encryption_id, integrity_attribute, integrity_id,
};

/// The largest replay window of the kernel, in packets (`XFRMA_REPLAY_ESN_MAX`).
const MAX_WINDOW: u32 = 4096;
/// The largest window of the legacy replay state.
const LEGACY_WINDOW: u32 = 32;

/// What the kernel told cannot be said in the terms of `cygnet-ipsec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's {what} has the value {value}, which has no meaning here")]
pub struct Untranslatable {
    what: &'static str,
    value: u32,
}

fn untranslatable(what: &'static str, value: impl Into<u32>) -> Untranslatable {
    Untranslatable {
        what,
        value: value.into(),
    }
}

// ---- Requests

/// The request for an SPI.
pub(crate) fn alloc_spi(command: &ipsec::AllocateSpi) -> Message {
    let info = xfrm::SaInfo {
        id: xfrm::Id {
            daddr: command.dst.into(),
            spi: 0,
            proto: protocol(command.protocol),
        },
        saddr: command.src.into(),
        family: (&command.dst).into(),
        mode: mode(command.mode),
        reqid: command.reqid,
        seq: command.acquire_seq,
        ..xfrm::SaInfo::default()
    };
    let mut attributes = identity(command.mark, command.if_id);
    // The SA that completes the larval state must have the same direction (K14).
    attributes.push(Attribute::SaDirection(xfrm::SaDirection::IN));
    Message {
        body: Body::AllocSpi(xfrm::SpiRequest {
            info,
            min: command.min,
            max: command.max,
        }),
        attributes,
    }
}

/// An SA as the kernel wants it.
///
/// # Errors
/// Algorithms and windows that cannot be said.
pub(crate) fn sa(sa: &ipsec::Sa) -> Result<(xfrm::SaInfo, Attributes), CommandError> {
    let invalid = |error: super::algorithms::AlgorithmError| match error {
        super::algorithms::AlgorithmError::KeyLength { .. } => {
            CommandError::Invalid(error.to_string())
        }
        _ => CommandError::Unsupported(error.to_string()),
    };
    let mut attributes = identity(sa.id.mark, sa.if_id);
    if let Some(key) = &sa.encryption {
        let attribute = encryption_attribute(key.transform, key.key.as_bytes());
        attributes.push(attribute.map_err(invalid)?);
    }
    if let Some(key) = &sa.integrity {
        attributes.push(integrity_attribute(key.transform, key.key.as_bytes()).map_err(invalid)?);
    }
    let compression = sa.compression.and_then(compression_attribute);
    attributes.0.extend(compression);
    let inbound = sa.direction == ipsec::SaDirection::In;
    if let Some(encap) = sa.encap {
        attributes.push(Attribute::Encap(encapsulation(encap, sa.direction)));
    }
    let replay_window = replay(sa, inbound, &mut attributes)?;
    if let Some(mark) = sa.set_mark {
        attributes.push(Attribute::SetMark(mark.value));
        attributes.push(Attribute::SetMarkMask(mark.mask));
    }
    attributes.push(Attribute::SaDirection(if inbound {
        xfrm::SaDirection::IN
    } else {
        xfrm::SaDirection::OUT
    }));
    if sa.tfc_pad > 0 && !inbound {
        // No packet is longer, and since 7.2 the kernel refuses what no packet can have.
        let padding = sa.tfc_pad.min(u32::from(u16::MAX));
        attributes.push(Attribute::TfcPadding(padding));
    }
    if let Some(iptfs) = &sa.iptfs {
        attributes.0.extend(iptfs_attributes(iptfs, inbound));
    }
    if let Some(cpu) = sa.cpu {
        attributes.push(Attribute::Cpu(cpu));
    }
    attributes.0.extend(
        sa.label
            .iter()
            .map(|label| security_context(label.as_bytes())),
    );
    let (flags, extra) = sa_flags(sa, inbound);
    if extra != xfrm::SaExtraFlags::default() {
        attributes.push(Attribute::SaExtraFlags(extra));
    }
    let info = xfrm::SaInfo {
        selector: sa.selector.as_ref().map(selector).unwrap_or_default(),
        id: xfrm::Id {
            daddr: sa.id.dst.into(),
            spi: sa.id.spi,
            proto: protocol(sa.id.protocol),
        },
        saddr: sa.src.into(),
        limits: limits(&sa.lifetime),
        seq: sa.acquire_seq,
        reqid: sa.reqid,
        family: (&sa.id.dst).into(),
        mode: mode(sa.mode),
        replay_window,
        flags,
        ..xfrm::SaInfo::default()
    };
    Ok((info, attributes))
}

/// What the kernel takes of IP-TFS parameters in each direction; it refuses those of the other one.
fn iptfs_attributes(iptfs: &ipsec::Iptfs, inbound: bool) -> Vec<Attribute> {
    let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    if inbound {
        return vec![
            Attribute::IptfsReorderWindow(iptfs.reorder_window),
            Attribute::IptfsDropTime(micros(iptfs.drop_time)),
        ];
    }
    let mut attributes = vec![
        Attribute::IptfsPacketSize(iptfs.packet_size),
        Attribute::IptfsMaxQueueSize(iptfs.max_queue),
        Attribute::IptfsInitDelay(micros(iptfs.init_delay)),
    ];
    attributes.extend(iptfs.dont_fragment.then_some(Attribute::IptfsDontFragment));
    attributes
}

/// `XFRM_SC_DOI_LSM` and `XFRM_SC_ALG_SELINUX`, the only ones of `struct xfrm_user_sec_ctx`.
const CONTEXT_DOI: u8 = 1;
const CONTEXT_ALGORITHM: u8 = 1;
/// Octets of `struct xfrm_user_sec_ctx` before the label: its length with the label, its type, algorithm, DOI, the label's
/// length.
const CONTEXT_HEADER_LEN: usize = 8;

/// A security label, SELinux's, as the kernel wants it.
pub(crate) fn security_context(label: &[u8]) -> Attribute {
    // A label has 4096 octets at most.
    let len = |octets: usize| u16::try_from(octets).unwrap_or(u16::MAX).to_ne_bytes();
    let mut bytes = Vec::with_capacity(CONTEXT_HEADER_LEN + label.len());
    bytes.extend(len(CONTEXT_HEADER_LEN + label.len()));
    bytes.extend(xfrm::AttributeType::SEC_CTX.0.to_ne_bytes());
    bytes.extend([CONTEXT_ALGORITHM, CONTEXT_DOI]);
    bytes.extend(len(label.len()));
    bytes.extend(label);
    Attribute::SecurityContext(bytes)
}

/// An encapsulation as the kernel wants it.
pub(crate) fn encapsulation(encap: ipsec::Encap, direction: ipsec::SaDirection) -> xfrm::Encap {
    let (sport, dport) = match direction {
        ipsec::SaDirection::In => (encap.remote_port, encap.local_port),
        ipsec::SaDirection::Out => (encap.local_port, encap.remote_port),
    };
    xfrm::Encap {
        kind: match encap.kind {
            ipsec::EncapKind::Udp => xfrm::EncapType::ESPINUDP,
            ipsec::EncapKind::Tcp => xfrm::EncapType::ESPINTCP,
        },
        sport,
        dport,
        oa: xfrm::Address::default(),
    }
}

/// Replay state by K12: returns the legacy window and adds the long form where that is needed.
///
/// Outbound SAs have no window and no bitmap: the kernel refuses both with direction "out" (6.10).
fn replay(sa: &ipsec::Sa, inbound: bool, attributes: &mut Attributes) -> Result<u8, CommandError> {
    let window = if inbound { sa.replay_window } else { 0 };
    if window > MAX_WINDOW {
        return Err(CommandError::Invalid(format!(
            "replay window of {window} packets, the kernel's limit is {MAX_WINDOW}"
        )));
    }
    if inbound && sa.esn && window == 0 {
        return Err(CommandError::Invalid(
            "extended sequence numbers need a replay window inbound".into(),
        ));
    }
    if !sa.esn && window <= LEGACY_WINDOW {
        return Ok(u8::try_from(window).unwrap_or(0));
    }
    attributes.push(Attribute::ReplayEsn(xfrm::ReplayStateEsn {
        replay_window: window,
        bitmap: vec![0; window.div_ceil(32) as usize],
        ..xfrm::ReplayStateEsn::default()
    }));
    Ok(0)
}

/// The flags, without those that mean nothing in the SA's direction and that the kernel refuses
/// there (6.10).
fn sa_flags(sa: &ipsec::Sa, inbound: bool) -> (xfrm::SaFlags, xfrm::SaExtraFlags) {
    use xfrm::{SaExtraFlags as X, SaFlags as F};
    // "No selector" means inner packets of either family; only tunnels can have those.
    let any_family = sa.flags.af_unspec || (sa.selector.is_none() && sa.mode.is_tunnel_type());
    let flags = F::default()
        .with(F::NOECN, sa.flags.no_ecn)
        .with(F::DECAP_DSCP, sa.flags.decap_dscp && inbound)
        .with(F::NOPMTUDISC, sa.flags.no_pmtu_disc && !inbound)
        .with(F::WILDRECV, sa.flags.wild_recv && inbound)
        .with(F::ICMP, sa.flags.icmp && inbound)
        .with(F::AF_UNSPEC, any_family)
        .with(F::ALIGN4, sa.flags.align4)
        .with(F::ESN, sa.esn);
    let extra = X::default()
        .with(X::DONT_ENCAP_DSCP, sa.flags.dont_encap_dscp && !inbound)
        .with(X::OSEQ_MAY_WRAP, sa.flags.oseq_may_wrap && !inbound);
    (flags, extra)
}

/// The request that names an SA.
pub(crate) fn sa_id(id: &ipsec::SaId) -> (xfrm::SaId, Attributes) {
    let key = xfrm::SaId {
        daddr: id.dst.into(),
        spi: id.spi,
        family: (&id.dst).into(),
        proto: protocol(id.protocol),
    };
    (key, identity(id.mark, 0))
}

/// A policy as the kernel wants it.
pub(crate) fn policy(policy: &ipsec::Policy) -> (xfrm::PolicyInfo, Attributes) {
    let info = xfrm::PolicyInfo {
        selector: selector(&policy.key.selector),
        limits: limits(&policy.lifetime),
        priority: policy.priority,
        index: policy.index,
        direction: direction(policy.key.direction),
        action: match policy.action {
            ipsec::Action::Allow => xfrm::Action::ALLOW,
            ipsec::Action::Block => xfrm::Action::BLOCK,
        },
        flags: xfrm::PolicyFlags::default()
            .with(xfrm::PolicyFlags::ICMP, policy.icmp)
            .with(xfrm::PolicyFlags::CPU_ACQUIRE, policy.per_cpu),
        ..xfrm::PolicyInfo::default()
    };
    let mut attributes = policy_identity(&policy.key);
    attributes.0.extend(
        policy
            .label
            .iter()
            .map(|label| security_context(label.as_bytes())),
    );
    if !policy.templates.is_empty() {
        attributes.push(Attribute::Templates(
            policy.templates.iter().map(template).collect(),
        ));
    }
    (info, attributes)
}

/// The request that names a policy.
pub(crate) fn policy_id(key: &ipsec::PolicyKey) -> (xfrm::PolicyId, Attributes) {
    let id = xfrm::PolicyId {
        selector: selector(&key.selector),
        index: 0,
        direction: direction(key.direction),
    };
    (id, policy_identity(key))
}

fn policy_identity(key: &ipsec::PolicyKey) -> Attributes {
    let mut attributes = identity(key.mark, key.if_id);
    if key.policy_type != ipsec::PolicyType::Main {
        attributes.push(Attribute::PolicyType(xfrm::PolicyType::SUB));
    }
    attributes
}

/// Mark and if_id, only where they say something: older kernels do not know them.
fn identity(mark: ipsec::Mark, if_id: u32) -> Attributes {
    let mut attributes = Attributes::new();
    if mark != ipsec::Mark::ANY {
        attributes.push(Attribute::Mark(xfrm::Mark {
            value: mark.value,
            mask: mark.mask,
        }));
    }
    if if_id != 0 {
        attributes.push(Attribute::IfId(if_id));
    }
    attributes
}

fn template(t: &ipsec::Template) -> xfrm::Template {
    xfrm::Template {
        id: xfrm::Id {
            daddr: t.dst.into(),
            spi: t.spi,
            proto: protocol(t.protocol),
        },
        family: (&t.dst).into(),
        saddr: t.src.into(),
        reqid: t.reqid,
        mode: mode(t.mode),
        share: 0,
        optional: t.optional,
        // Which algorithms is IKE's business; the bits cannot name AEADs anyway.
        aalgos: u32::MAX,
        ealgos: u32::MAX,
        calgos: u32::MAX,
    }
}

fn protocol(protocol: ipsec::Protocol) -> xfrm::SaProtocol {
    xfrm::SaProtocol(protocol.number())
}

fn mode(mode: ipsec::Mode) -> xfrm::Mode {
    xfrm::Mode(mode as u8)
}

fn direction(direction: ipsec::Direction) -> xfrm::PolicyDirection {
    xfrm::PolicyDirection(direction as u8)
}

pub(crate) fn selector(s: &ipsec::Selector) -> xfrm::Selector {
    xfrm::Selector {
        daddr: s.dst.addr().into(),
        saddr: s.src.addr().into(),
        dport: s.dport.port,
        dport_mask: s.dport.mask,
        sport: s.sport.port,
        sport_mask: s.sport.mask,
        family: (&s.src.addr()).into(),
        prefixlen_d: s.dst.prefix_len(),
        prefixlen_s: s.src.prefix_len(),
        proto: s.protocol,
        // Indices are positive ints in the kernel; a larger number matches no device.
        ifindex: i32::try_from(s.ifindex).unwrap_or(i32::MAX),
        user: s.user,
    }
}

fn limits(l: &ipsec::Lifetime) -> xfrm::LifetimeLimits {
    let amount = |limit: Option<u64>| limit.unwrap_or(xfrm::INFINITE);
    xfrm::LifetimeLimits {
        soft_bytes: amount(l.soft_bytes),
        hard_bytes: amount(l.hard_bytes),
        soft_packets: amount(l.soft_packets),
        hard_packets: amount(l.hard_packets),
        soft_add_seconds: seconds(l.soft_add),
        hard_add_seconds: seconds(l.hard_add),
        soft_use_seconds: seconds(l.soft_use),
        hard_use_seconds: seconds(l.hard_use),
    }
}

/// Whole seconds, rounded up: 0 would mean "no limit".
fn seconds(limit: Option<Duration>) -> u64 {
    limit.map_or(0, |d| {
        d.as_secs()
            .saturating_add(u64::from(d.subsec_nanos() > 0))
            .max(1)
    })
}

// ---- Answers and events

/// An SA as the kernel holds it; keys are left out.
pub(crate) fn sa_report(
    info: &xfrm::SaInfo,
    attributes: &Attributes,
) -> Result<ipsec::SaReport, Untranslatable> {
    let esn = info.flags.contains(xfrm::SaFlags::ESN);
    let replay_window = attributes
        .replay_esn()
        .map_or(u32::from(info.replay_window), |long| long.replay_window);
    // Before 6.10 the kernel did not know; only inbound SAs have a window.
    let direction = match attributes.sa_direction() {
        Some(xfrm::SaDirection::OUT) => ipsec::SaDirection::Out,
        Some(xfrm::SaDirection::IN) => ipsec::SaDirection::In,
        _ if replay_window > 0 => ipsec::SaDirection::In,
        _ => ipsec::SaDirection::Out,
    };
    let extra = attributes.extra_flags().unwrap_or_default();
    let has = |flag| info.flags.contains(flag);
    let has_algorithm = attributes.iter().any(|a| {
        matches!(
            a,
            Attribute::Aead(_)
                | Attribute::Crypt(_)
                | Attribute::Auth(_)
                | Attribute::AuthTrunc(_)
                | Attribute::Compression(_)
        )
    });
    let sa = ipsec::Sa {
        id: ipsec::SaId {
            dst: address(&info.id.daddr, info.family)?,
            spi: info.id.spi,
            protocol: sa_protocol(info.id.proto)?,
            mark: mark(attributes),
        },
        src: address(&info.saddr, info.family)?,
        direction,
        mode: sa_mode(info.mode)?,
        reqid: info.reqid,
        if_id: attributes.if_id().unwrap_or(0),
        set_mark: attributes.set_mark().map(|value| ipsec::Mark {
            value,
            mask: attributes.set_mark_mask().unwrap_or(u32::MAX),
        }),
        encryption: encryption_id(attributes).map(|transform| ipsec::CipherKey {
            transform,
            key: ipsec::KeyMaterial::default(),
        }),
        integrity: integrity_id(attributes).map(|transform| ipsec::IntegrityKey {
            transform,
            key: ipsec::KeyMaterial::default(),
        }),
        encap: attributes.encap().map(|e| encap(&e, direction)),
        replay_window,
        esn,
        selector: inner_selector(info)?,
        lifetime: lifetime(&info.limits),
        flags: ipsec::SaFlags {
            no_ecn: has(xfrm::SaFlags::NOECN),
            decap_dscp: has(xfrm::SaFlags::DECAP_DSCP),
            no_pmtu_disc: has(xfrm::SaFlags::NOPMTUDISC),
            wild_recv: has(xfrm::SaFlags::WILDRECV),
            icmp: has(xfrm::SaFlags::ICMP),
            af_unspec: has(xfrm::SaFlags::AF_UNSPEC),
            align4: has(xfrm::SaFlags::ALIGN4),
            dont_encap_dscp: extra.contains(xfrm::SaExtraFlags::DONT_ENCAP_DSCP),
            oseq_may_wrap: extra.contains(xfrm::SaExtraFlags::OSEQ_MAY_WRAP),
        },
        acquire_seq: info.seq,
        tfc_pad: attributes.tfc_padding().unwrap_or(0),
        compression: attributes
            .iter()
            .any(|a| matches!(a, Attribute::Compression(_)))
            .then_some(ipsec::Compression::Deflate),
        iptfs: (info.mode == xfrm::Mode::IPTFS).then(|| iptfs(attributes)),
        cpu: attributes.cpu(),
        label: label(attributes),
    };
    Ok(ipsec::SaReport {
        sa,
        // The kernel does not tell the state; a larval one has no algorithms.
        state: if has_algorithm {
            ipsec::SaState::Valid
        } else {
            ipsec::SaState::Larval
        },
        counters: ipsec::SaCounters {
            bytes: info.used.bytes,
            packets: info.used.packets,
            added: instant(info.used.add_time),
            used: instant(info.used.use_time),
            replay_window: info.stats.replay_window,
            replay: info.stats.replay,
            integrity_failed: info.stats.integrity_failed,
        },
    })
}

fn encap(e: &xfrm::Encap, direction: ipsec::SaDirection) -> ipsec::Encap {
    let kind = match e.kind {
        xfrm::EncapType::ESPINTCP => ipsec::EncapKind::Tcp,
        _ => ipsec::EncapKind::Udp,
    };
    let (local_port, remote_port) = match direction {
        ipsec::SaDirection::In => (e.dport, e.sport),
        ipsec::SaDirection::Out => (e.sport, e.dport),
    };
    ipsec::Encap {
        kind,
        local_port,
        remote_port,
    }
}

/// The selector of an SA, `None` if it restricts nothing: it is empty (the kernel fills in the
/// family of an empty one), or it has no family (tunnels for both, and larval SAs, whose selector
/// has addresses all the same).
fn inner_selector(info: &xfrm::SaInfo) -> Result<Option<ipsec::Selector>, Untranslatable> {
    let s = &info.selector;
    let empty = xfrm::Selector {
        family: s.family,
        ..xfrm::Selector::default()
    };
    if *s == empty || s.family == xfrm::Family::UNSPEC {
        return Ok(None);
    }
    parse_selector(s).map(Some)
}

/// A policy as the kernel holds it.
pub(crate) fn policy_report(
    info: &xfrm::PolicyInfo,
    attributes: &Attributes,
) -> Result<ipsec::PolicyReport, Untranslatable> {
    Ok(ipsec::PolicyReport {
        policy: ipsec::Policy {
            key: policy_key(info, attributes)?,
            priority: info.priority,
            action: match info.action {
                xfrm::Action::BLOCK => ipsec::Action::Block,
                _ => ipsec::Action::Allow,
            },
            templates: attributes
                .templates()
                .iter()
                .map(|t| parse_template(t, info.selector.family))
                .collect::<Result<_, _>>()?,
            lifetime: lifetime(&info.limits),
            index: info.index,
            icmp: info.flags.contains(xfrm::PolicyFlags::ICMP),
            per_cpu: info.flags.contains(xfrm::PolicyFlags::CPU_ACQUIRE),
            label: label(attributes),
        },
    })
}

/// The key of a policy. Policies of sockets, which dumps also show, are not translatable.
pub(crate) fn policy_key(
    info: &xfrm::PolicyInfo,
    attributes: &Attributes,
) -> Result<ipsec::PolicyKey, Untranslatable> {
    Ok(ipsec::PolicyKey {
        policy_type: match attributes.policy_type() {
            Some(xfrm::PolicyType::SUB) => ipsec::PolicyType::Sub,
            _ => ipsec::PolicyType::Main,
        },
        direction: ipsec::Direction::try_from(info.direction.0)
            .map_err(|_| untranslatable("policy direction", info.direction.0))?,
        selector: parse_selector(&info.selector)?,
        mark: mark(attributes),
        if_id: attributes.if_id().unwrap_or(0),
    })
}

fn parse_template(
    t: &xfrm::Template,
    policy_family: xfrm::Family,
) -> Result<ipsec::Template, Untranslatable> {
    // Family 0 means that of the selector (K1).
    let family = match t.family {
        xfrm::Family::UNSPEC => policy_family,
        family => family,
    };
    Ok(ipsec::Template {
        src: address(&t.saddr, family)?,
        dst: address(&t.id.daddr, family)?,
        spi: t.id.spi,
        protocol: sa_protocol(t.id.proto)?,
        reqid: t.reqid,
        mode: sa_mode(t.mode)?,
        optional: t.optional,
    })
}

/// An event that concerns key management; `None` for others (SAs and policies that came or went).
pub(crate) fn event(message: &Message) -> Result<Option<ipsec::Event>, Untranslatable> {
    let attributes = &message.attributes;
    Ok(Some(match &message.body {
        Body::Acquire(info) => ipsec::Event::Acquire(acquire(info, attributes)?),
        Body::Expire(info) => ipsec::Event::Expire(ipsec::Expire {
            sa: ipsec::SaId {
                dst: address(&info.sa.id.daddr, info.sa.family)?,
                spi: info.sa.id.spi,
                protocol: sa_protocol(info.sa.id.proto)?,
                mark: mark(attributes),
            },
            src: address(&info.sa.saddr, info.sa.family)?,
            reqid: info.sa.reqid,
            hard: info.hard,
        }),
        Body::PolicyExpire(info) => ipsec::Event::PolicyExpire(ipsec::PolicyExpire {
            key: policy_key(&info.policy, attributes)?,
            index: info.policy.index,
            hard: info.hard,
        }),
        Body::Mapping(info) => {
            let family = info.id.family;
            let socket = |addr, port| Ok(SocketAddr::new(address(addr, family)?, port));
            ipsec::Event::Mapping(ipsec::Mapping {
                sa: ipsec::SaId {
                    dst: address(&info.id.daddr, family)?,
                    spi: info.id.spi,
                    protocol: sa_protocol(info.id.proto)?,
                    mark: mark(attributes),
                },
                reqid: info.reqid,
                old: socket(&info.old_saddr, info.old_sport)?,
                new: socket(&info.new_saddr, info.new_sport)?,
            })
        }
        _ => return Ok(None),
    }))
}

fn acquire(
    info: &xfrm::AcquireInfo,
    attributes: &Attributes,
) -> Result<ipsec::Acquire, Untranslatable> {
    let policy_family = info.policy.selector.family;
    // The kernel names the SA wanted by destination and protocol, not by template; templates are
    // resolved in order, so the first that fits is it.
    let fits = |t: &&xfrm::Template| {
        t.id.proto == info.id.proto
            && (t.id.daddr.is_any()
                || t.id.daddr == info.id.daddr
                || t.mode == xfrm::Mode::TRANSPORT)
    };
    let templates = attributes.templates();
    let template = templates
        .iter()
        .find(fits)
        .or_else(|| templates.first())
        .ok_or(untranslatable("number of templates in an acquire", 0_u32))?;
    let template = parse_template(template, policy_family)?;
    let family = xfrm::Family::from(&template.dst);
    let policy = policy_key(&info.policy, attributes)?;
    Ok(ipsec::Acquire {
        seq: info.seq,
        policy_index: info.policy.index,
        policy,
        template,
        selector: parse_selector(&info.selector)?,
        src: address(&info.saddr, family)?,
        dst: address(&info.id.daddr, family)?,
        mark: policy.mark,
        if_id: policy.if_id,
        cpu: attributes.cpu(),
        label: label(attributes),
    })
}

/// The security label of an SA, a policy or an acquire.
fn label(attributes: &Attributes) -> Option<ipsec::SecurityLabel> {
    attributes.iter().find_map(|attribute| match attribute {
        Attribute::SecurityContext(bytes) => {
            let label = bytes.get(CONTEXT_HEADER_LEN..)?;
            ipsec::SecurityLabel::new(label).ok()
        }
        _ => None,
    })
}

/// The IP-TFS parameters of an SA: those of its direction, the others as the kernel begins with.
fn iptfs(attributes: &Attributes) -> ipsec::Iptfs {
    let micros = |time: u32| Duration::from_micros(time.into());
    attributes
        .iter()
        .fold(ipsec::Iptfs::default(), |mut found, attribute| {
            match *attribute {
                Attribute::IptfsDontFragment => found.dont_fragment = true,
                Attribute::IptfsPacketSize(octets) => found.packet_size = octets,
                Attribute::IptfsMaxQueueSize(octets) => found.max_queue = octets,
                Attribute::IptfsInitDelay(time) => found.init_delay = micros(time),
                Attribute::IptfsReorderWindow(packets) => found.reorder_window = packets,
                Attribute::IptfsDropTime(time) => found.drop_time = micros(time),
                _ => {}
            }
            found
        })
}

fn address(address: &xfrm::Address, family: xfrm::Family) -> Result<IpAddr, Untranslatable> {
    address
        .ip(family)
        .ok_or(untranslatable("address family", family.0))
}

fn sa_protocol(protocol: xfrm::SaProtocol) -> Result<ipsec::Protocol, Untranslatable> {
    ipsec::Protocol::try_from(protocol.0).map_err(|_| untranslatable("SA protocol", protocol.0))
}

fn sa_mode(mode: xfrm::Mode) -> Result<ipsec::Mode, Untranslatable> {
    ipsec::Mode::try_from(mode.0).map_err(|_| untranslatable("mode", mode.0))
}

fn mark(attributes: &Attributes) -> ipsec::Mark {
    attributes
        .mark()
        .map_or(ipsec::Mark::ANY, |mark| ipsec::Mark {
            value: mark.value,
            mask: mark.mask,
        })
}

fn parse_selector(s: &xfrm::Selector) -> Result<ipsec::Selector, Untranslatable> {
    let prefix = |addr: &xfrm::Address, len: u8| {
        // A selector without a family has no addresses: everything.
        let addr = match s.family {
            xfrm::Family::INET => addr.ip(s.family).unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            xfrm::Family::INET6 => addr.ip(s.family).unwrap_or(Ipv6Addr::UNSPECIFIED.into()),
            family => return Err(untranslatable("selector family", family.0)),
        };
        IpNet::new(addr, len).map_err(|_| untranslatable("prefix length", len))
    };
    Ok(ipsec::Selector {
        src: prefix(&s.saddr, s.prefixlen_s)?,
        dst: prefix(&s.daddr, s.prefixlen_d)?,
        protocol: s.proto,
        sport: ipsec::PortMatch {
            port: s.sport,
            mask: s.sport_mask,
        },
        dport: ipsec::PortMatch {
            port: s.dport,
            mask: s.dport_mask,
        },
        ifindex: u32::try_from(s.ifindex).unwrap_or(0),
        user: s.user,
    })
}

fn lifetime(l: &xfrm::LifetimeLimits) -> ipsec::Lifetime {
    let amount = |limit: u64| (limit != xfrm::INFINITE).then_some(limit);
    let time = |seconds: u64| (seconds != 0).then(|| Duration::from_secs(seconds));
    ipsec::Lifetime {
        soft_bytes: amount(l.soft_bytes),
        hard_bytes: amount(l.hard_bytes),
        soft_packets: amount(l.soft_packets),
        hard_packets: amount(l.hard_packets),
        soft_add: time(l.soft_add_seconds),
        hard_add: time(l.hard_add_seconds),
        soft_use: time(l.soft_use_seconds),
        hard_use: time(l.hard_use_seconds),
    }
}

/// The kernel counts wall-clock seconds; `None` for 0 and for what the clock cannot express.
fn instant(wall_seconds: u64) -> Option<Instant> {
    if wall_seconds == 0 {
        return None;
    }
    let then = UNIX_EPOCH.checked_add(Duration::from_secs(wall_seconds))?;
    let ago = SystemTime::now().duration_since(then).unwrap_or_default();
    Instant::now().checked_sub(ago)
}
