//! A hundred thousand policies and SAs: the answers are right, and a lookup costs no more than among ten but for cache
//! misses.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use cygnet_ipsec::fast::Databases;
use cygnet_ipsec::{
    CipherKey, Direction, Flow, KeyMaterial, Lifetime, Mark, Mode, Outbound, OutboundPacket,
    Policy, PolicyKey, Protocol, Sa, SaDirection, SaFlags, SaId, Selector, Template,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The peers' addresses: one each.
fn peer(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0xc633_0000 + n).into()
}

/// Host `n` behind peer `n`; every fifth tunnel is for IPv6, every seventh for a mark.
fn host(n: u32) -> IpAddr {
    if n.is_multiple_of(5) {
        Ipv6Addr::from_bits((0x2001_0db8 << 96) | (u128::from(n) << 64) | 7).into()
    } else {
        Ipv4Addr::from_bits(0x0a00_0000 + n * 16 + 7).into()
    }
}

fn mark(n: u32) -> Mark {
    if n.is_multiple_of(7) {
        Mark::exact(n + 1)
    } else {
        Mark::ANY
    }
}

fn policy(n: u32) -> Policy {
    let (src, dst): (IpNet, IpNet) = match host(n) {
        IpAddr::V4(host) => (
            "172.16.0.0/12".parse().expect("a prefix"),
            Ipv4Net::new(host, 28).expect("a length").trunc().into(),
        ),
        IpAddr::V6(host) => (
            "2001:db8:ffff::/48".parse().expect("a prefix"),
            Ipv6Net::new(host, 64).expect("a length").trunc().into(),
        ),
    };
    // VTI-like: everything, by mark alone.
    let selector = match (n % 7, src) {
        (0, IpNet::V4(_)) => Selector::any(cygnet_ipsec::Family::V4),
        (0, IpNet::V6(_)) => Selector::any(cygnet_ipsec::Family::V6),
        _ => Selector::new(src, dst),
    };
    let key = PolicyKey {
        mark: mark(n),
        ..PolicyKey::new(Direction::Out, selector)
    };
    let template = Template {
        src: GATEWAY,
        dst: peer(n),
        spi: 0,
        protocol: Protocol::Esp,
        reqid: n + 1,
        mode: Mode::Tunnel,
        optional: false,
    };
    // The more specific the sooner, as key managers do it.
    let priority = 1000 - u32::from(dst.prefix_len());
    Policy {
        priority,
        templates: vec![template],
        ..Policy::new(key)
    }
}

fn sa(n: u32, direction: SaDirection) -> Sa {
    let (src, dst) = match direction {
        SaDirection::Out => (GATEWAY, peer(n)),
        SaDirection::In => (peer(n), GATEWAY),
    };
    Sa {
        id: SaId {
            dst,
            spi: 0x1000 + n,
            protocol: Protocol::Esp,
            mark: Mark::ANY,
        },
        src,
        direction,
        mode: Mode::Tunnel,
        reqid: n + 1,
        if_id: 0,
        set_mark: None,
        encryption: Some(CipherKey {
            transform: 20,
            key: KeyMaterial::default(),
        }),
        integrity: None,
        encap: None,
        replay_window: 32,
        esn: false,
        selector: None,
        lifetime: Lifetime::UNLIMITED,
        flags: SaFlags::default(),
        acquire_seq: 0,
        tfc_pad: 0,
        compression: None,
        iptfs: None,
        cpu: None,
        label: None,
    }
}

fn flow(n: u32) -> Flow {
    let src = match host(n) {
        IpAddr::V4(_) => "172.16.9.9",
        IpAddr::V6(_) => "2001:db8:ffff::9",
    };
    let src = src.parse().expect("an address");
    Flow {
        mark: if n.is_multiple_of(7) { n + 1 } else { 0 },
        ..Flow::new(src, host(n), 17)
    }
}

fn databases(tunnels: u32) -> Databases {
    let now = Instant::now();
    let mut databases = Databases::new();
    for n in 0..tunnels {
        databases.spd.insert(&policy(n)).expect("a new policy");
        databases
            .sad
            .install(now, &sa(n, SaDirection::Out))
            .expect("a new SA");
        databases
            .sad
            .install(now, &sa(n, SaDirection::In))
            .expect("a new SA");
    }
    databases
}

/// The best of several rounds of lookups all over the tunnels, outbound and inbound.
fn cost(databases: &Databases, tunnels: u32) -> Duration {
    const LOOKUPS: u32 = 4000;
    let round = |_| {
        let start = Instant::now();
        for i in 0..LOOKUPS {
            let n = i.wrapping_mul(48271) % tunnels;
            black_box(databases.output(&OutboundPacket::new(&flow(n))));
            black_box(databases.sad.inbound(GATEWAY, 0x1000 + n, Protocol::Esp, 0));
        }
        start.elapsed() / LOOKUPS
    };
    (0..3).map(round).min().unwrap_or_default()
}

#[test]
fn a_hundred_thousand_tunnels() {
    const TUNNELS: u32 = 100_000;
    let mut many = databases(TUNNELS);
    let few = databases(10);
    assert_eq!(
        (many.spd.len(), many.sad.len()),
        (TUNNELS as usize, 2 * TUNNELS as usize)
    );

    for n in (0..TUNNELS).step_by(97) {
        let Outbound::Protect { sas, .. } = many.output(&OutboundPacket::new(&flow(n))).verdict
        else {
            panic!("tunnel {n} is not used")
        };
        let index = sas.single().expect("one SA");
        assert_eq!(
            many.sad.get(index).map(|entry| entry.sa.id.spi),
            Some(0x1000 + n)
        );
        let index = many
            .sad
            .inbound(GATEWAY, 0x1000 + n, Protocol::Esp, 0)
            .expect("an SA");
        assert_eq!(many.sad.get(index).map(|entry| entry.sa.reqid), Some(n + 1));
    }

    let (few, cost_of_many) = (cost(&few, 10), cost(&many, TUNNELS));
    println!("a lookup each way among 10 tunnels: {few:?}, among {TUNNELS}: {cost_of_many:?}");
    // A search through lists would take hundreds of microseconds; cache misses on a busy machine do not.
    let bound = few * 40 + Duration::from_micros(50);
    assert!(
        cost_of_many < bound,
        "{cost_of_many:?} among {TUNNELS}, {few:?} among 10"
    );

    for n in (0..TUNNELS).step_by(10) {
        many.spd.remove(&policy(n).key).expect("the policy");
        many.sad
            .remove(&sa(n, SaDirection::Out).id)
            .expect("the SA");
    }
    assert_eq!((many.spd.len(), many.sad.len()), (90_000, 190_000));
}
