//! A sample of every message, with the size of its fixed part.

use std::net::IpAddr;

use cygnet_xfrm::*;

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn selector() -> Selector {
    Selector {
        daddr: ip("10.2.0.0").into(),
        saddr: ip("10.1.0.0").into(),
        dport: 443,
        dport_mask: 0xffff,
        sport: 0x8000,
        sport_mask: 0x8000,
        family: Family::INET,
        prefixlen_d: 16,
        prefixlen_s: 24,
        proto: 6,
        ifindex: 3,
        user: 1000,
    }
}

fn algorithm(name: &str, key: usize) -> Algorithm {
    Algorithm {
        name: AlgorithmName::new(name).unwrap(),
        key: KeyBytes::new(&vec![0xaa; key]),
    }
}

fn algorithm_icv(name: &str, key: usize, icv_bits: u32) -> AlgorithmIcv {
    AlgorithmIcv {
        name: AlgorithmName::new(name).unwrap(),
        icv_bits,
        key: KeyBytes::new(&vec![0xaa; key]),
    }
}

pub fn sa_info() -> SaInfo {
    SaInfo {
        selector: selector(),
        id: Id {
            daddr: ip("192.0.2.2").into(),
            spi: 0xc0ff_ee01,
            proto: SaProtocol::ESP,
        },
        saddr: ip("192.0.2.1").into(),
        limits: LifetimeLimits {
            soft_bytes: 1 << 30,
            soft_add_seconds: 3000,
            hard_add_seconds: 3600,
            ..LifetimeLimits::NONE
        },
        used: LifetimeUsed {
            bytes: 1,
            packets: 2,
            add_time: 3,
            use_time: 4,
        },
        stats: SaStats {
            replay_window: 5,
            replay: 6,
            integrity_failed: 7,
        },
        seq: 0x0102_0304,
        reqid: 17,
        family: Family::INET,
        mode: Mode::TUNNEL,
        replay_window: 32,
        flags: SaFlags::AF_UNSPEC | SaFlags::NOECN,
    }
}

pub fn policy_info() -> PolicyInfo {
    PolicyInfo {
        selector: selector(),
        limits: LifetimeLimits::NONE,
        used: LifetimeUsed::default(),
        priority: 4711,
        index: 0x59,
        direction: PolicyDirection::OUT,
        action: Action::ALLOW,
        flags: PolicyFlags::ICMP,
        share: 0,
    }
}

pub fn template(reqid: u32) -> Template {
    Template {
        id: Id {
            daddr: ip("2001:db8::2").into(),
            spi: 0,
            proto: SaProtocol::ESP,
        },
        family: Family::INET6,
        saddr: ip("2001:db8::1").into(),
        reqid,
        mode: Mode::TUNNEL,
        share: 0,
        optional: false,
        aalgos: u32::MAX,
        ealgos: u32::MAX,
        calgos: u32::MAX,
    }
}

pub fn new_sa() -> (Message, usize) {
    let encap = Encap {
        kind: EncapType::ESPINUDP,
        sport: 4500,
        dport: 4501,
        oa: Address::default(),
    };
    let attributes = vec![
        Attribute::Aead(algorithm_icv("rfc4106(gcm(aes))", 36, 128)),
        Attribute::Encap(encap),
        Attribute::Mark(Mark {
            value: 5,
            mask: 0xff,
        }),
        Attribute::IfId(9),
        Attribute::SetMark(1),
        Attribute::SetMarkMask(0xf),
        Attribute::SaExtraFlags(SaExtraFlags::DONT_ENCAP_DSCP),
        Attribute::Offload(Offload {
            ifindex: 2,
            flags: OffloadFlags::INBOUND,
        }),
        Attribute::ReplayEsn(ReplayStateEsn {
            oseq: 1,
            seq: 2,
            oseq_hi: 3,
            seq_hi: 4,
            replay_window: 64,
            bitmap: vec![5, 6],
        }),
        Attribute::SecurityContext(b"\x1c\0\x08\0\x01\x01\x14\0system_u:object_r:s0\0".to_vec()),
        Attribute::LastUsed(1_700_000_000),
    ];
    let message = Message {
        body: Body::NewSa(sa_info()),
        attributes: Attributes(attributes),
    };
    (message, 224)
}

pub fn policy() -> (Message, usize) {
    let message = Message {
        body: Body::NewPolicy(policy_info()),
        attributes: Attributes(vec![
            Attribute::Templates(vec![template(17), template(18)]),
            Attribute::PolicyType(PolicyType::SUB),
            Attribute::IfId(9),
        ]),
    };
    (message, 168)
}

/// One of each type, and between them one of each attribute.
pub fn everything() -> Vec<(Message, usize)> {
    let sa_id = SaId {
        daddr: ip("2001:db8::2").into(),
        spi: 0x0bad_cafe,
        family: Family::INET6,
        proto: SaProtocol::AH,
    };
    let policy_id = PolicyId {
        selector: selector(),
        index: 0x81,
        direction: PolicyDirection::FWD,
    };
    let aevent = AeventId {
        id: sa_id,
        saddr: ip("2001:db8::1").into(),
        flags: 0x16,
        reqid: 3,
    };
    let mut list = vec![new_sa(), policy()];
    let mut add = |body, size, attributes| {
        let attributes = Attributes(attributes);
        list.push((Message { body, attributes }, size));
    };
    add(
        Body::UpdateSa(sa_info()),
        224,
        vec![
            Attribute::Auth(algorithm("hmac(sha1)", 20)),
            Attribute::AuthTrunc(algorithm_icv("hmac(sha256)", 32, 128)),
            Attribute::Crypt(algorithm("cbc(aes)", 16)),
            Attribute::Compression(algorithm("deflate", 0)),
            Attribute::Replay(ReplayState {
                oseq: 1,
                seq: 2,
                bitmap: 3,
            }),
            Attribute::ReplayThreshold(32),
            Attribute::TimerThreshold(10),
            Attribute::CareOfAddress(ip("2001:db8::3").into()),
            Attribute::TfcPadding(1400),
            Attribute::MappingThreshold(60),
            Attribute::KmAddress(KmAddress {
                local: ip("192.0.2.1").into(),
                remote: ip("192.0.2.2").into(),
                family: Family::INET,
            }),
        ],
    );
    // What the other implementation does not know by name goes into messages of its own.
    add(
        Body::NewSa(sa_info()),
        224,
        vec![
            Attribute::SaDirection(SaDirection::OUT),
            Attribute::NatKeepaliveInterval(20),
            Attribute::Cpu(1),
            Attribute::IptfsDropTime(1_000_000),
            Attribute::IptfsReorderWindow(3),
            Attribute::IptfsDontFragment,
            Attribute::IptfsInitDelay(10),
            Attribute::IptfsMaxQueueSize(1 << 20),
            Attribute::IptfsPacketSize(1400),
        ],
    );
    add(
        Body::DeleteSa(sa_id),
        24,
        vec![
            Attribute::Sa(Box::new(sa_info())),
            Attribute::SourceAddress(ip("2001:db8::1").into()),
            Attribute::Mark(Mark {
                value: 5,
                mask: 0xff,
            }),
        ],
    );
    add(Body::GetSa(sa_id), 24, vec![]);
    add(
        Body::DumpSa,
        0,
        vec![
            Attribute::Protocol(SaProtocol::ESP),
            Attribute::AddressFilter(AddressFilter {
                saddr: ip("192.0.2.0").into(),
                daddr: Address::default(),
                family: Family::INET,
                splen: 24,
                dplen: 0,
            }),
        ],
    );
    let request = SpiRequest {
        info: sa_info(),
        min: 0xc000_0000,
        max: 0xcfff_ffff,
    };
    add(Body::AllocSpi(request), 232, vec![Attribute::IfId(9)]);
    add(Body::FlushSa(SaProtocol::ESP), 4, vec![]);
    add(
        Body::UpdatePolicy(policy_info()),
        168,
        vec![Attribute::Templates(vec![template(1)])],
    );
    add(
        Body::DeletePolicy(policy_id),
        64,
        vec![
            Attribute::Policy(Box::new(policy_info())),
            Attribute::IfId(1),
        ],
    );
    add(Body::GetPolicy(policy_id), 64, vec![]);
    add(Body::DumpPolicy, 0, vec![]);
    add(
        Body::FlushPolicy,
        0,
        vec![Attribute::PolicyType(PolicyType::MAIN)],
    );
    let acquire = AcquireInfo {
        id: Id {
            daddr: ip("192.0.2.2").into(),
            spi: 0,
            proto: SaProtocol::ESP,
        },
        saddr: ip("192.0.2.1").into(),
        selector: selector(),
        policy: policy_info(),
        aalgos: u32::MAX,
        ealgos: u32::MAX,
        calgos: u32::MAX,
        seq: 42,
    };
    add(
        Body::Acquire(acquire),
        280,
        vec![Attribute::Templates(vec![template(17)])],
    );
    let expire = ExpireInfo {
        sa: sa_info(),
        hard: true,
    };
    add(Body::Expire(expire), 232, vec![Attribute::IfId(9)]);
    let polexpire = PolicyExpireInfo {
        policy: policy_info(),
        hard: false,
    };
    add(Body::PolicyExpire(polexpire), 176, vec![]);
    let mapping = MappingInfo {
        id: sa_id,
        reqid: 17,
        old_saddr: ip("2001:db8::1").into(),
        new_saddr: ip("2001:db8::9").into(),
        old_sport: 4500,
        new_sport: 61234,
    };
    add(Body::Mapping(mapping), 64, vec![]);
    add(
        Body::NewAe(aevent),
        48,
        vec![Attribute::LifetimeUsed(LifetimeUsed {
            bytes: 1,
            packets: 2,
            add_time: 3,
            use_time: 4,
        })],
    );
    add(Body::GetAe(aevent), 48, vec![]);
    let report = ReportInfo {
        proto: SaProtocol::DSTOPTS,
        selector: selector(),
    };
    add(Body::Report(report), 60, vec![]);
    let migrate = Migrate {
        old_daddr: ip("192.0.2.1").into(),
        old_saddr: ip("192.0.2.2").into(),
        new_daddr: ip("2001:db8::1").into(),
        new_saddr: ip("2001:db8::2").into(),
        proto: SaProtocol::ESP,
        mode: Mode::TUNNEL,
        reqid: 17,
        old_family: Family::INET,
        new_family: Family::INET6,
    };
    add(
        Body::Migrate(policy_id),
        64,
        vec![Attribute::Migrate(vec![migrate, migrate])],
    );
    let migrate_state = MigrateState {
        id: sa_id,
        new_daddr: ip("2001:db8::1").into(),
        new_saddr: ip("2001:db8::2").into(),
        old_mark: Mark { value: 1, mask: 3 },
        new_selector: selector(),
        new_reqid: 17,
        flags: 2,
        new_family: Family::INET6,
    };
    add(Body::MigrateState(migrate_state), 132, vec![]);
    let hash = HashInfo {
        buckets: 8,
        max_buckets: 1 << 20,
    };
    add(
        Body::NewSadInfo(u32::MAX),
        4,
        vec![Attribute::SadCount(3), Attribute::SadHash(hash)],
    );
    add(Body::GetSadInfo(u32::MAX), 4, vec![]);
    let thresholds = HashThresholds {
        local_bits: 32,
        remote_bits: 24,
    };
    add(
        Body::NewSpdInfo(u32::MAX),
        4,
        vec![
            Attribute::SpdCounts(SpdCounts {
                inbound: 1,
                outbound: 2,
                forward: 3,
                socket_inbound: 4,
                socket_outbound: 5,
                socket_forward: 0,
            }),
            Attribute::SpdHash(hash),
            Attribute::SpdThresholds(Family::INET, thresholds),
            Attribute::SpdThresholds(Family::INET6, thresholds),
        ],
    );
    add(Body::GetSpdInfo(u32::MAX), 4, vec![]);
    let defaults = PolicyDefaults {
        inbound: DefaultAction::BLOCK,
        forward: DefaultAction::BLOCK,
        outbound: DefaultAction::ACCEPT,
    };
    add(Body::SetDefault(defaults), 4, vec![]);
    add(Body::GetDefault(defaults), 4, vec![]);
    let future = Body::Unknown {
        kind: MessageType(0x2f),
        bytes: vec![7; 132],
    };
    add(future, 132, vec![]);
    list
}
