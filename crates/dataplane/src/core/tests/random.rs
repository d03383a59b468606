//! Arbitrary input: nothing panics, nothing forged is delivered, no buffer is lost.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_datagrams_are_never_delivered(
        datagrams in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), any::<bool>(), any::<bool>()), 1..20),
    ) {
        let mut pair = Pair::keyed(false, &GCM);
        let mut arrivals: Vec<Arrival> = datagrams
            .iter()
            .map(|(bytes, encapsulated, known_spi)| {
                let mut packet = Packet::from_slice(bytes);
                if let (true, Some(spi)) = (*known_spi, packet.bytes_mut().get_mut(..4)) {
                    spi.copy_from_slice(&SPI_AB.to_be_bytes());
                }
                Arrival {
                    protocol: Protocol::Esp,
                    packet,
                    local: pair.b.outer,
                    remote: pair.a.outer,
                    ports: encapsulated.then_some(Ports { kind: EncapKind::Udp, local: 4500, remote: 4500 }),
                    tos: 0,
                }
            })
            .collect();
        let count = arrivals.len();
        pair.b.core.inbound(pair.now, &mut arrivals, &mut pair.b.output);
        prop_assert!(pair.b.output.deliveries.is_empty());
        prop_assert_eq!(pair.b.output.pool.available(), count);
        prop_assert_eq!(pair.b.drops().iter().map(|(_, n)| *n).sum::<u64>(), count as u64);
    }

    #[test]
    fn arbitrary_clear_packets_are_sealed_or_dropped(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..120), 0..3), 1..20),
    ) {
        let mut pair = Pair::keyed(false, &GCM);
        let template = pair.template(pair.a.outer, pair.b.outer, Mode::Tunnel);
        for family in [cygnet_ipsec::Family::V4, cygnet_ipsec::Family::V6] {
            let mut any = policy(Direction::Out, pair.a.inner4, pair.b.inner4, template);
            any.key.selector = Selector::any(family);
            pair.at_a(Command::InstallPolicy(Box::new(any))).unwrap();
        }
        let mut batch: Vec<Packet> = packets
            .iter()
            .map(|(bytes, version)| {
                let mut packet = Packet::from_slice(bytes);
                if let Some(first) = packet.bytes_mut().first_mut() {
                    *first = [*first, 0x45, 0x60][*version as usize];
                }
                packet
            })
            .collect();
        let count = batch.len();
        pair.a.core.outbound(pair.now, 0, &mut batch, &mut pair.a.output);
        let output = &pair.a.output;
        prop_assert_eq!(output.transmits.len() + output.pool.available(), count);
    }

    /// Commands, packets and time in any order: the core goes on, and what it was lent comes back.
    #[test]
    fn any_order_of_operations_keeps_every_buffer(steps in prop::collection::vec((0..10u8, any::<u8>()), 1..60)) {
        let config = CoreConfig { held_per_policy: 4, held_total: 6, ..CoreConfig::default() };
        let mut pair = Pair::with(false, config);
        let (mut lent, mut out) = (0u64, 0u64);
        for (step, value) in steps {
            let spi = 0x8000_0100 + u32::from(value % 4);
            let lifetime = Lifetime {
                soft_packets: (value & 0x10 != 0).then_some(2),
                hard_packets: (value & 0x20 != 0).then_some(5),
                hard_add: (value & 0x40 != 0).then_some(Duration::from_secs(20)),
                ..Lifetime::UNLIMITED
            };
            let one = Sa { lifetime, ..outbound(&sa(pair.a.outer, pair.b.outer, spi, &GCM)) };
            let template = pair.template(pair.a.outer, pair.b.outer, Mode::Tunnel);
            let trap = policy(Direction::Out, pair.a.inner4, pair.b.inner4, template);
            // Commands may be refused; that is part of the game.
            match step {
                0 => drop(pair.at_a(Command::InstallPolicy(Box::new(trap)))),
                1 => drop(pair.at_a(Command::RemovePolicy(trap.key))),
                2 => drop(pair.at_a(install(one))),
                3 => drop(pair.at_a(Command::UpdateSa(Box::new(one)))),
                4 => drop(pair.at_a(Command::RemoveSa(one.id))),
                5 => pair.advance(Duration::from_secs(u64::from(value))),
                6 => drop(pair.at_a(Command::UpdatePolicy(Box::new(trap)))),
                7 => {
                    let host = |bit: u8| ip(if value & bit == 0 { "192.0.2.1" } else { "192.0.2.7" });
                    let (src, dst) = (host(0x10), host(0x20));
                    drop(pair.at_a(Command::MoveSa(MoveSa { id: one.id, src, dst, encap: None })));
                }
                _ => {
                    let packet = pair.small();
                    lent += u64::from(value % 5);
                    let batch = vec![&packet[..]; usize::from(value % 5)];
                    out += pair.a_sends(&batch).len() as u64;
                }
            }
            out += pair.a.sent().len() as u64;
            while pair.a.event().is_some() {}
        }
        let core = pair.a.core.counters();
        let dropped: u64 = pair.a.drops().iter().map(|(_, n)| *n).sum::<u64>()
            - pair.a.xfrm(Counter::OutNoStates)
            + core.no_policy + core.held_full + core.held_expired;
        let waiting = lent - out - dropped;
        prop_assert!(waiting <= 4, "{waiting} packets wait");
        let selector = Selector::new(pair.a.inner4.into(), pair.b.inner4.into());
        let before = core.held_expired;
        drop(pair.at_a(Command::RemovePolicy(PolicyKey::new(Direction::Out, selector))));
        prop_assert_eq!(pair.a.core.counters().held_expired - before, waiting);
    }
}
