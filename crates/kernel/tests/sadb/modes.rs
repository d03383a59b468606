//! What the kernel has beyond ESP in tunnel mode: BEET, AH, IPComp, padding, IP-TFS, SAs of single CPUs, labels.

use std::time::Duration;

use cygnet_ipsec as ipsec;
use cygnet_kernel::Sadb;
use ipsec::{
    Command, CommandError, Iptfs, Mode, PlaneFeatures, Protocol, Reply, Sa, SaDirection,
    SecurityLabel,
};

use crate::pair::{
    Host, Pair, Recipe, Tunnel, addr, cpi, datagrams, datagrams_of, down, up, with_esp,
};

const COUNT: usize = 10;

fn features(pair: &mut Pair) -> PlaneFeatures {
    pair.west.sadb.probe().unwrap().features
}

/// Addresses of the protected ends.
fn end(host: &Host, recipe: &Recipe) -> std::net::IpAddr {
    match recipe.mode {
        Mode::Transport => host.outer(recipe.inner_v6),
        _ => host.inner(recipe.inner_v6),
    }
}

/// Datagrams of so many octets both ways; the octets that the two SAs have counted at west.
fn counted(pair: &mut Pair, recipe: &Recipe, tunnel: &Tunnel, octets: usize) -> [u64; 2] {
    let (w, e) = (end(&pair.west, recipe), end(&pair.east, recipe));
    let before = [tunnel.there, tunnel.back].map(|id| pair.west.report(id).counters);
    let arrived = datagrams_of(octets, &pair.west, w, &pair.east, e, COUNT);
    assert_eq!(
        arrived,
        COUNT,
        "{recipe:?} {}",
        pair.east.ip("-s xfrm state")
    );
    let arrived = datagrams_of(octets, &pair.east, e, &pair.west, w, COUNT);
    assert_eq!(arrived, COUNT, "{recipe:?}");
    let after = [tunnel.there, tunnel.back].map(|id| pair.west.report(id).counters);
    for (before, after) in before.iter().zip(&after) {
        // IPv6 neighbour discovery runs between the same addresses in transport mode.
        assert!(after.packets >= before.packets + COUNT as u64, "{recipe:?}");
    }
    [0, 1].map(|i| after[i].bytes - before[i].bytes)
}

fn families() -> impl Iterator<Item = (bool, bool)> {
    [(false, false), (false, true), (true, false), (true, true)].into_iter()
}

/// S3.12: features are found by trying.
#[test]
fn the_probe_tells_what_there_is() {
    if !with_esp("the_probe_tells_what_there_is") {
        return;
    }
    let mut pair = Pair::new();
    let found = features(&mut pair);
    eprintln!("{found:?}");
    assert!(found.transport && found.beet && found.ah && found.ipcomp && found.esn);
    assert!(found.tfc_padding);
    assert!(
        pair.west.sadb.sas().unwrap().is_empty(),
        "the probe leaves nothing"
    );
}

#[test]
fn beet_carries_either_family_over_either() {
    if !with_esp("beet_carries_either_family_over_either") {
        return;
    }
    let mut pair = Pair::new();
    for (outer_v6, inner_v6) in families() {
        let recipe = Recipe {
            mode: Mode::Beet,
            outer_v6,
            inner_v6,
            ..Recipe::default()
        };
        let tunnel = up(&mut pair, &recipe);
        counted(&mut pair, &recipe, &tunnel, 100);
        let report = pair.west.report(tunnel.there).sa;
        assert_eq!(report.mode, Mode::Beet);
        assert_eq!(
            report.selector,
            Some(recipe.selectors(&pair.west, &pair.east))
        );
        down(&mut pair, &recipe, &tunnel);
    }
}

#[test]
fn ah_protects_in_both_modes() {
    if !with_esp("ah_protects_in_both_modes") {
        return;
    }
    let mut pair = Pair::new();
    let modes = families()
        .map(|(outer, inner)| (Mode::Tunnel, outer, inner))
        .chain([
            (Mode::Transport, false, false),
            (Mode::Transport, true, true),
        ]);
    for (mode, outer_v6, inner_v6) in modes {
        for (integrity, esn) in [((12, 32), false), ((14, 64), true), ((2, 20), false)] {
            let recipe = Recipe {
                protocol: Protocol::Ah,
                integrity: Some(integrity),
                mode,
                outer_v6,
                inner_v6,
                esn,
                ..Recipe::default()
            };
            let tunnel = up(&mut pair, &recipe);
            counted(&mut pair, &recipe, &tunnel, 100);
            let report = pair.west.report(tunnel.there).sa;
            assert_eq!((report.encryption, report.esn), (None, esn));
            assert_eq!(report.integrity.unwrap().transform, integrity.0);
            down(&mut pair, &recipe, &tunnel);
        }
    }
}

/// S4.1: What compresses well is smaller inside ESP, what is too short to be worth it passes all the same.
#[test]
fn ipcomp_compresses_inside_esp_and_ah() {
    if !with_esp("ipcomp_compresses_inside_esp_and_ah") {
        return;
    }
    let mut pair = Pair::new();
    let modes = [
        (Mode::Tunnel, false, false),
        (Mode::Tunnel, true, true),
        (Mode::Transport, false, false),
        (Mode::Transport, true, true),
    ];
    for (mode, outer_v6, inner_v6) in modes {
        for protocol in [Protocol::Esp, Protocol::Ah] {
            let recipe = Recipe {
                protocol,
                compressed: true,
                integrity: (protocol == Protocol::Ah).then_some((12, 32)),
                mode,
                outer_v6,
                inner_v6,
                ..Recipe::default()
            };
            let tunnel = up(&mut pair, &recipe);
            let long = counted(&mut pair, &recipe, &tunnel, 1000);
            assert!(
                long.iter().all(|octets| *octets < 300 * COUNT as u64),
                "{recipe:?}: {long:?} octets"
            );
            counted(&mut pair, &recipe, &tunnel, 10);
            let mut id = tunnel.there;
            (id.protocol, id.spi) = (Protocol::Comp, cpi(id.spi));
            let report = pair.west.report(id);
            assert_eq!(report.sa.compression, Some(ipsec::Compression::Deflate));
            assert!(report.counters.packets >= 2 * COUNT as u64);
            down(&mut pair, &recipe, &tunnel);
            assert_eq!(pair.west.sadb.sas().unwrap(), []);
        }
    }
}

/// Whether ESP in IPv4 goes by the module esp4_offload, with or without a device that takes it: its esp_xmit
/// (net/ipv4/esp4_offload.c) has no padding against traffic analysis.
fn pads_nothing() -> bool {
    let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    symbols.lines().any(|line| {
        let name = line.split_whitespace().nth(2);
        name == Some("esp_xmit")
    })
}

/// The kernel pads to the length asked for, and as far as the path allows, unless the module esp4_offload is there.
#[test]
fn padding_hides_the_length() {
    if !with_esp("padding_hides_the_length") {
        return;
    }
    let mut pair = Pair::new();
    let unpadded = pads_nothing();
    for (tfc_pad, least) in [(500, 500), (u32::MAX, 1300)] {
        let recipe = Recipe {
            tfc_pad,
            ..Recipe::default()
        };
        let tunnel = up(&mut pair, &recipe);
        assert_eq!(
            pair.west.report(tunnel.there).sa.tfc_pad,
            tfc_pad.min(65_535)
        );
        let before = received(&pair.east);
        let (w, e) = (end(&pair.west, &recipe), end(&pair.east, &recipe));
        assert_eq!(datagrams(&pair.west, w, &pair.east, e, COUNT), COUNT);
        let octets = received(&pair.east) - before;
        let each = octets / COUNT as u64;
        let expected = if unpadded { 1..least } else { least..1600 };
        assert!(expected.contains(&each), "{each} octets each");
        down(&mut pair, &recipe, &tunnel);
    }
}

/// Octets that a host's wire has brought.
fn received(host: &Host) -> u64 {
    let text = host.ip("-s link show dev eth0");
    let mut words = text.split(' ').skip_while(|word| *word != "RX:");
    let numbers = words
        .by_ref()
        .skip_while(|word| word.parse::<u64>().is_err());
    numbers.into_iter().next().unwrap().parse().unwrap()
}

/// SAs for a CPU are kept, where the kernel has them, and with IP-TFS its parameters; elsewhere both are known to be missing.
#[test]
fn what_only_new_kernels_have_is_kept_or_known_to_be_missing() {
    if !with_esp("what_only_new_kernels_have_is_kept_or_known_to_be_missing") {
        return;
    }
    let mut pair = Pair::new();
    let found = features(&mut pair);
    let (there, here) = (addr("192.0.2.9"), pair.west.outer(false));
    let plain = |direction, spi| {
        let (src, dst) = match direction {
            SaDirection::In => (there, here),
            SaDirection::Out => (here, there),
        };
        Recipe::default().sa(src, dst, spi, direction, 1)
    };
    let mut kept = |sa: Sa| {
        let id = sa.id;
        let done = pair.west.execute(Command::InstallSa(Box::new(sa)))?;
        assert_eq!(done, Reply::Done);
        let report = pair.west.report(id).sa;
        pair.west.execute(Command::RemoveSa(id)).unwrap();
        Ok::<_, CommandError>(report)
    };
    if found.per_cpu {
        for direction in [SaDirection::In, SaDirection::Out] {
            let sa = Sa {
                cpu: Some(1),
                ..plain(direction, 0x2000)
            };
            assert_eq!(kept(sa).unwrap().cpu, Some(1));
        }
    }
    let iptfs = Iptfs {
        dont_fragment: true,
        packet_size: 1200,
        max_queue: 123_456,
        init_delay: Duration::from_micros(77),
        reorder_window: 5,
        drop_time: Duration::from_micros(88),
    };
    for direction in [SaDirection::In, SaDirection::Out] {
        let sa = Sa {
            mode: Mode::Iptfs,
            iptfs: Some(iptfs),
            ..plain(direction, 0x2001)
        };
        if found.iptfs {
            let read = kept(sa).unwrap().iptfs.unwrap();
            let expected = match direction {
                SaDirection::In => Iptfs {
                    reorder_window: 5,
                    drop_time: iptfs.drop_time,
                    ..Iptfs::default()
                },
                SaDirection::Out => Iptfs {
                    reorder_window: Iptfs::default().reorder_window,
                    drop_time: Iptfs::default().drop_time,
                    ..iptfs
                },
            };
            assert_eq!(read, expected);
        }
    }
    let label = SecurityLabel::new(*b"system_u:object_r:unlabeled_t:s0").unwrap();
    let labelled = kept(Sa {
        label: Some(label.clone()),
        ..plain(SaDirection::In, 0x2002)
    });
    if !found.labels {
        // A kernel without a security module that knows labels ignores them, which is why it has to be asked before.
        assert_eq!(labelled.unwrap().label, None);
    }
}
