//! Random policies, SAs and flows that have much to do with each other.

pub mod related;

use std::net::IpAddr;

use cygnet_ipsec::{
    Action, AllocateSpi, CipherKey, Command, Compression, Direction, Encap, EncapKind, Flow,
    InboundSpi, IntegrityKey, KeyMaterial, Lifetime, Mark, Mode, MoveSa, Policy, PolicyKey,
    PolicyType, PortMatch, Protocol, Sa, SaDirection, SaFlags, SaId, SaState, Selector, Template,
};
use ipnet::IpNet;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use related::{Related, Topic, related};

/// One thing that happens to both databases.
#[derive(Clone, Debug)]
pub enum Step {
    Command(Command, u32),
    Default(Direction, Action),
    Listener(bool),
    Dying(usize),
    State(usize, SaState),
    Wait(u64),
    Related(Related),
    Lookup(Direction, PolicyType, Flow, u32),
    Find {
        policy: Box<Policy>,
        flow: Flow,
        src: IpAddr,
        dst: IpAddr,
    },
    Accept(InboundSpi),
    Output {
        flow: Flow,
        if_id: u32,
        disable_xfrm: bool,
        source: Option<IpAddr>,
    },
    Check {
        direction: Direction,
        flow: Flow,
        quoted: Option<Flow>,
        if_id: u32,
        secpath: Vec<usize>,
        verified: usize,
        disable_policy: bool,
    },
}

/// What a history is about.
#[derive(Clone, Copy, Debug)]
pub enum Database {
    Policies,
    Sas,
    Both,
}

pub fn step(database: Database) -> BoxedStrategy<Step> {
    let command = |c: BoxedStrategy<Command>| {
        (c, any::<u32>())
            .prop_map(|(c, random)| Step::Command(c, random))
            .boxed()
    };
    let lookup = (direction(), policy_type(), flow(), if_id())
        .prop_map(|(direction, kind, flow, if_id)| Step::Lookup(direction, kind, flow, if_id));
    let pair = any::<bool>().prop_flat_map(|v4| (address(v4), address(v4)));
    let find = (policy(), flow(), pair).prop_map(|(policy, flow, (src, dst))| Step::Find {
        policy: Box::new(policy),
        flow,
        src,
        dst,
    });
    match database {
        Database::Policies => prop_oneof![
            4 => command(policy_command()),
            2 => lookup,
            4 => related(&[
                Topic::UpdatePolicy,
                Topic::Sibling,
                Topic::Sibling,
                Topic::RemovePolicy,
                Topic::QueryPolicy,
                Topic::Send,
                Topic::Send,
                Topic::Send,
                Topic::Send,
            ]),
        ]
        .boxed(),
        Database::Sas => prop_oneof![
            4 => command(sa_command()),
            1 => sa_event(),
            1 => find,
            1 => accept(),
            7 => related(&[
                Topic::Find,
                Topic::Find,
                Topic::Find,
                Topic::Accept,
                Topic::Accept,
                Topic::Install,
                Topic::UpdateSa,
                Topic::MoveSa,
                Topic::MoveSa,
                Topic::RemoveSa,
                Topic::QuerySa,
            ]),
        ]
        .boxed(),
        Database::Both => prop_oneof![
            3 => command(policy_command()),
            1 => command(sa_command()),
            1 => sa_event(),
            1 => (direction(), action()).prop_map(|(d, a)| Step::Default(d, a)),
            1 => output(),
            1 => check(),
            10 => related(&[
                Topic::Send,
                Topic::Send,
                Topic::Send,
                Topic::Serve,
                Topic::Serve,
                Topic::ServeAll,
                Topic::ServeAll,
                Topic::Deliver,
                Topic::Deliver,
                Topic::Sibling,
                Topic::UpdatePolicy,
                Topic::MoveSa,
                Topic::RemoveSa,
            ]),
        ]
        .boxed(),
    }
}

fn policy_command() -> BoxedStrategy<Command> {
    prop_oneof![
        4 => policy().prop_map(|p| Command::InstallPolicy(Box::new(p))),
        2 => policy().prop_map(|p| Command::UpdatePolicy(Box::new(p))),
        2 => policy_key().prop_map(Command::RemovePolicy),
        1 => policy_key().prop_map(Command::QueryPolicy),
    ]
    .boxed()
}

fn sa_command() -> BoxedStrategy<Command> {
    prop_oneof![
        5 => sa().prop_map(|sa| Command::InstallSa(Box::new(sa))),
        2 => sa().prop_map(|sa| Command::UpdateSa(Box::new(sa))),
        2 => move_sa().prop_map(Command::MoveSa),
        2 => sa_id().prop_map(Command::RemoveSa),
        1 => sa_id().prop_map(Command::QuerySa),
        2 => allocate_spi().prop_map(Command::AllocateSpi),
    ]
    .boxed()
}

fn sa_event() -> impl Strategy<Value = Step> {
    let state = select(vec![
        SaState::Valid,
        SaState::Error,
        SaState::Expired,
        SaState::Larval,
    ]);
    prop_oneof![
        3 => any::<usize>().prop_map(Step::Dying),
        3 => (any::<usize>(), state).prop_map(|(which, state)| Step::State(which, state)),
        3 => select(vec![0, 1, 10, 40]).prop_map(Step::Wait),
        1 => select(vec![true, true, false]).prop_map(Step::Listener),
    ]
}

fn output() -> impl Strategy<Value = Step> {
    (flow(), if_id(), rarely(), any::<bool>())
        .prop_flat_map(|(flow, if_id, disable_xfrm, v4)| {
            (
                Just(flow),
                Just(if_id),
                Just(disable_xfrm),
                option::of(host(v4)),
            )
        })
        .prop_map(|(flow, if_id, disable_xfrm, source)| Step::Output {
            flow,
            if_id,
            disable_xfrm,
            source,
        })
}

fn check() -> impl Strategy<Value = Step> {
    let secpath = prop::collection::vec(any::<usize>(), 0..4);
    (
        direction(),
        flow(),
        option::of(flow()),
        if_id(),
        secpath,
        0..3usize,
        rarely(),
    )
        .prop_map(
            |(direction, flow, quoted, if_id, secpath, verified, disable_policy)| Step::Check {
                direction,
                flow,
                quoted,
                if_id,
                secpath,
                verified: verified.saturating_sub(1),
                disable_policy,
            },
        )
}

fn accept() -> impl Strategy<Value = Step> {
    let encap = prop_oneof![3 => Just(None), 1 => Just(Some(EncapKind::Udp))];
    (
        any::<bool>().prop_flat_map(host),
        spi(),
        protocol(),
        mark_value(),
        encap,
    )
        .prop_map(|(dst, spi, protocol, mark, encap)| {
            Step::Accept(InboundSpi {
                dst,
                spi,
                protocol,
                mark,
                encap,
            })
        })
}

fn rarely() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.05)
}

fn host(v4: bool) -> impl Strategy<Value = IpAddr> {
    let hosts: &[&str] = if v4 {
        &["10.0.0.1", "10.0.0.2", "10.0.1.1"]
    } else {
        &["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
    };
    select(
        hosts
            .iter()
            .map(|a| a.parse().expect("an address"))
            .collect::<Vec<IpAddr>>(),
    )
}

/// A host, or no address at all.
fn address(v4: bool) -> impl Strategy<Value = IpAddr> {
    let any = if v4 {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0; 16])
    };
    prop_oneof![4 => host(v4), 1 => Just(any)]
}

fn prefix(v4: bool) -> impl Strategy<Value = IpNet> {
    let lengths: &[u8] = if v4 {
        &[0, 8, 23, 24, 31, 32]
    } else {
        &[0, 48, 63, 64, 127, 128]
    };
    (host(v4), select(lengths)).prop_map(|(address, length)| {
        // Host bits are kept: they count in a key and not in a match.
        let prefix = IpNet::new(address, length).expect("a possible length");
        if length % 2 == 0 {
            prefix.trunc()
        } else {
            prefix
        }
    })
}

fn if_id() -> impl Strategy<Value = u32> {
    select(vec![0, 0, 0, 1, 2])
}

fn mark_value() -> impl Strategy<Value = u32> {
    select(vec![0, 0, 1, 2, 3, 0x101])
}

fn mark() -> impl Strategy<Value = Mark> {
    let masks = vec![0, 0, 0, 1, 3, 0xff, u32::MAX];
    (mark_value(), select(masks)).prop_map(|(value, mask)| Mark { value, mask })
}

fn port() -> impl Strategy<Value = u16> {
    select(vec![0, 8, 80, 81, 500])
}

fn port_match() -> impl Strategy<Value = PortMatch> {
    let masks = vec![0, 0, 0, u16::MAX, u16::MAX, 0xfffe, 0xff00];
    (port(), select(masks)).prop_map(|(port, mask)| PortMatch { port, mask })
}

fn selector(v4: bool) -> impl Strategy<Value = Selector> {
    let protocol = select(vec![0, 0, 0, 6, 17, 1]);
    let ifindex = select(vec![0, 0, 0, 0, 1, 2]);
    (
        prefix(v4),
        prefix(v4),
        protocol,
        port_match(),
        port_match(),
        ifindex,
    )
        .prop_map(|(src, dst, protocol, sport, dport, ifindex)| Selector {
            protocol,
            sport,
            dport,
            ifindex,
            ..Selector::new(src, dst)
        })
}

pub fn flow() -> impl Strategy<Value = Flow> {
    any::<bool>()
        .prop_flat_map(|v4| (host(v4), host(v4)))
        .prop_flat_map(|(src, dst)| {
            let protocol = select(vec![6, 17, 1, 50]);
            let ifindex = select(vec![0, 1, 2]);
            (
                Just((src, dst)),
                protocol,
                port(),
                port(),
                mark_value(),
                ifindex,
            )
        })
        .prop_map(|((src, dst), protocol, sport, dport, mark, ifindex)| Flow {
            src,
            dst,
            protocol,
            sport,
            dport,
            mark,
            ifindex,
        })
}

fn direction() -> impl Strategy<Value = Direction> {
    select(Direction::ALL.to_vec())
}

fn policy_type() -> impl Strategy<Value = PolicyType> {
    select(vec![
        PolicyType::Main,
        PolicyType::Main,
        PolicyType::Main,
        PolicyType::Sub,
    ])
}

fn action() -> impl Strategy<Value = Action> {
    select(vec![
        Action::Allow,
        Action::Allow,
        Action::Allow,
        Action::Allow,
        Action::Block,
    ])
}

fn policy_key() -> impl Strategy<Value = PolicyKey> {
    let selector = prop_oneof![
        // A few selectors that come again and again, so that keys clash.
        1 => any::<bool>().prop_map(|v4| Selector::any(if v4 {
            cygnet_ipsec::Family::V4
        } else {
            cygnet_ipsec::Family::V6
        })),
        3 => any::<bool>().prop_flat_map(selector),
    ];
    (policy_type(), direction(), selector, mark(), if_id()).prop_map(
        |(policy_type, direction, selector, mark, if_id)| PolicyKey {
            policy_type,
            direction,
            selector,
            mark,
            if_id,
        },
    )
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![
        Protocol::Esp,
        Protocol::Esp,
        Protocol::Esp,
        Protocol::Esp,
        Protocol::Ah,
    ])
}

fn mode() -> impl Strategy<Value = Mode> {
    use Mode::{Beet, RouteOptimization, Transport, Tunnel};
    select(vec![
        Transport,
        Transport,
        Transport,
        Tunnel,
        Tunnel,
        Tunnel,
        Beet,
        RouteOptimization,
    ])
}

fn spi() -> impl Strategy<Value = u32> {
    0x100..0x108u32
}

fn reqid() -> impl Strategy<Value = u32> {
    select(vec![1, 1, 1, 1, 2, 0])
}

fn template(v4: bool) -> impl Strategy<Value = Template> {
    let spi = prop_oneof![3 => Just(0), 1 => spi()];
    let addresses = select(vec![v4, v4, v4, v4, !v4])
        .prop_flat_map(|v4| (address(v4), prop_oneof![5 => host(v4), 1 => address(v4)]));
    (addresses, spi, protocol(), reqid(), mode(), 0..5u8).prop_map(
        |((src, dst), spi, protocol, reqid, mode, optional)| Template {
            src,
            dst,
            spi,
            protocol,
            reqid,
            mode,
            optional: optional == 0,
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    let count = select(vec![0, 1, 1, 1, 1, 1, 2, 2, 3, 6, 7]);
    (policy_key(), count)
        .prop_flat_map(|(key, count)| {
            let v4 = key.selector.src.addr().is_ipv4();
            let templates = prop::collection::vec(template(v4), count);
            let index = prop_oneof![8 => Just(0), 1 => 0..40u32];
            (Just(key), templates, 0..4u32, action(), index, 0..60u8)
        })
        .prop_map(
            |(mut key, templates, priority, action, index, inconsistent)| {
                if inconsistent == 0 {
                    key.selector.dst = "192.0.2.0/24".parse().expect("a prefix");
                }
                Policy {
                    templates,
                    priority,
                    action,
                    index,
                    ..Policy::new(key)
                }
            },
        )
}

fn sa_id() -> impl Strategy<Value = SaId> {
    (any::<bool>().prop_flat_map(host), spi(), protocol(), mark()).prop_map(
        |(dst, spi, protocol, mark)| SaId {
            dst,
            spi,
            protocol,
            mark,
        },
    )
}

fn encap() -> impl Strategy<Value = Option<Encap>> {
    prop_oneof![
        3 => Just(None),
        1 => (1..3u16).prop_map(|port| {
            Some(Encap { kind: EncapKind::Udp, local_port: 4500, remote_port: port })
        }),
    ]
}

fn move_sa() -> impl Strategy<Value = MoveSa> {
    let families = select(vec![(true, true), (false, false), (true, false)]);
    (sa_id(), encap(), families)
        .prop_flat_map(|(id, encap, (src, dst))| (Just((id, encap)), address(src), host(dst)))
        .prop_map(|((id, encap), src, dst)| MoveSa {
            id,
            src,
            dst,
            encap,
        })
}

pub fn sa() -> impl Strategy<Value = Sa> {
    sa_id()
        .prop_flat_map(|id| {
            let v4 = id.dst.is_ipv4();
            let selector = prop_oneof![
                2 => Just(None),
                2 => selector(v4).prop_map(Some),
                1 => selector(!v4).prop_map(Some),
            ];
            let outbound = select(vec![true, true, false]);
            (
                (Just(id), address(v4), mode(), reqid(), if_id()),
                (
                    selector,
                    encap(),
                    outbound,
                    0..12u8,
                    0..6u32,
                    option::of(mark()),
                ),
            )
        })
        .prop_map(|((id, src, mode, reqid, if_id), rest)| {
            let (selector, encap, outbound, flags, acquire_seq, set_mark) = rest;
            let sa = Sa {
                id,
                src,
                direction: if outbound {
                    SaDirection::Out
                } else {
                    SaDirection::In
                },
                mode,
                reqid,
                if_id,
                set_mark,
                encryption: None,
                integrity: None,
                encap,
                replay_window: 32,
                esn: false,
                selector,
                lifetime: Lifetime::UNLIMITED,
                flags: SaFlags {
                    wild_recv: flags == 0,
                    icmp: flags < 4,
                    ..SaFlags::default()
                },
                acquire_seq,
                tfc_pad: 0,
                compression: None,
                iptfs: None,
                cpu: None,
                label: None,
            };
            with_fitting_keys(sa)
        })
}

/// The SA with what its protocol asks for and nothing else.
pub fn with_fitting_keys(sa: Sa) -> Sa {
    let key = KeyMaterial::default();
    let protocol = sa.id.protocol;
    Sa {
        encryption: (protocol == Protocol::Esp).then(|| CipherKey {
            transform: 20,
            key: key.clone(),
        }),
        integrity: (protocol == Protocol::Ah).then_some(IntegrityKey { transform: 12, key }),
        compression: (protocol == Protocol::Comp).then_some(Compression::Deflate),
        ..sa
    }
}

fn allocate_spi() -> impl Strategy<Value = AllocateSpi> {
    any::<bool>()
        .prop_flat_map(|v4| (host(v4), host(v4)))
        .prop_flat_map(|(src, dst)| {
            let range = select(vec![
                (0x100, 0x107),
                (0x100, 0x100),
                (0x103, 0x104),
                (9, 1),
                (1, 9),
            ]);
            (
                Just((src, dst)),
                protocol(),
                mode(),
                reqid(),
                if_id(),
                mark(),
                range,
                0..6u32,
            )
        })
        .prop_map(
            |((src, dst), protocol, mode, reqid, if_id, mark, (min, max), acquire_seq)| {
                AllocateSpi {
                    src,
                    dst,
                    protocol,
                    mode,
                    reqid,
                    if_id,
                    mark,
                    min,
                    max,
                    acquire_seq,
                }
            },
        )
}
