//! From the wire to the device: what is refused and why, NAT mappings, devices.

use super::*;

#[test]
fn a_replayed_packet_is_dropped_and_counted_at_its_sa() {
    let mut pair = Pair::keyed(false, &GCM);
    let packet = pair.small();
    let sent = pair.a_sends(&[&packet[..]; 70]);
    let again: Vec<_> = sent.iter().map(copy).collect();
    assert_eq!(pair.b_receives(sent).len(), 70);
    assert!(pair.b_receives(again).is_empty());
    assert_eq!(pair.b.drops(), [(Counter::InStateSeqError, 70)]);
    let id = pair.there(&GCM).id;
    let counters = pair.counters_at_b(id);
    assert_eq!(
        (counters.packets, counters.replay, counters.replay_window),
        (70, 64, 6)
    );
}

#[test]
fn a_changed_octet_anywhere_is_noticed() {
    let mut pair = Pair::keyed(false, &Suite { udp: true, ..GCM });
    let packet = pair.small();
    let sent = pair.a_sends(&[&packet]);
    let len = sent[0].packet.len();
    for at in 8..len {
        let mut forged = copy(&sent[0]);
        forged.packet.bytes_mut()[at] ^= 1;
        assert!(pair.b_receives(vec![forged]).is_empty(), "octet {at}");
    }
    assert_eq!(
        pair.b.drops(),
        [(Counter::InStateProtoError, len as u64 - 8)]
    );
    let id = pair.there(&GCM).id;
    assert_eq!(
        u64::from(pair.counters_at_b(id).integrity_failed),
        len as u64 - 8
    );
    assert_eq!(pair.b.event(), None, "forged packets move no mapping");
    assert_eq!(
        pair.b_receives(sent),
        [packet],
        "and leave the window alone"
    );
}

#[test]
fn packets_without_a_fitting_sa_are_counted_by_cause() {
    let mut pair = Pair::keyed(false, &GCM);
    let packet = pair.small();
    let sent = pair.a_sends(&[&packet]).remove(0);
    let try_with = |pair: &mut Pair, change: &dyn Fn(&mut Arrival)| {
        let mut arrival = wire(copy(&sent));
        change(&mut arrival);
        pair.b
            .core
            .inbound(pair.now, &mut vec![arrival], &mut pair.b.output);
        assert!(pair.b.output.deliveries.is_empty());
    };
    try_with(&mut pair, &|arrival| arrival.packet.bytes_mut()[0] = 1);
    assert_eq!(pair.b.xfrm(Counter::InNoStates), 1);
    try_with(&mut pair, &|arrival| arrival.local = ip("192.0.2.99"));
    assert_eq!(pair.b.xfrm(Counter::InNoStates), 2);
    try_with(&mut pair, &|arrival| {
        arrival.ports = Some(Ports {
            kind: EncapKind::Udp,
            local: 4500,
            remote: 4500,
        })
    });
    assert_eq!(
        pair.b.xfrm(Counter::InStateMismatch),
        1,
        "encapsulation differs"
    );
    try_with(&mut pair, &|arrival| arrival.packet.narrow(0..7));
    assert_eq!(pair.b.xfrm(Counter::InHdrError), 1);
    try_with(&mut pair, &|arrival| arrival.packet.narrow(0..12));
    assert_eq!(pair.b.xfrm(Counter::InStateProtoError), 1);
    // The SA by which `b` sends is none for receiving.
    let (spi, a) = (SPI_BA.to_be_bytes(), pair.a.outer);
    try_with(&mut pair, &|arrival| {
        arrival.packet.bytes_mut()[..4].copy_from_slice(&spi);
        arrival.local = a;
    });
    assert_eq!(pair.b.xfrm(Counter::InStateDirError), 1);
    // An SPI that was given out and has no SA yet.
    let request = cygnet_ipsec::AllocateSpi {
        src: pair.a.outer,
        dst: pair.b.outer,
        protocol: Protocol::Esp,
        mode: Mode::Tunnel,
        reqid: 50,
        if_id: 0,
        mark: Mark::ANY,
        min: 256,
        max: u32::MAX,
        acquire_seq: 0,
    };
    let Ok(Reply::Spi(spi)) = pair.at_b(Command::AllocateSpi(request)) else {
        panic!()
    };
    assert!(
        spi >= 0x8000_0000,
        "SPIs below belong to the kernel's plane"
    );
    try_with(&mut pair, &|arrival| {
        arrival.packet.bytes_mut()[..4].copy_from_slice(&spi.to_be_bytes());
    });
    assert_eq!(pair.b.core.counters().early, 1, "it waits for its SA");
    assert_eq!(pair.b.xfrm(Counter::AcquireError), 0);
    let kernels = cygnet_ipsec::AllocateSpi {
        max: 0x7fff_ffff,
        ..request
    };
    assert!(matches!(
        pair.at_b(Command::AllocateSpi(kernels)),
        Err(CommandError::Invalid(text)) if text.contains("0x80000000")
    ));
    // The SA with that SPI takes the place of the larval state.
    let sa = Sa {
        id: SaId {
            spi,
            ..pair.there(&GCM).id
        },
        reqid: 50,
        ..pair.there(&GCM)
    };
    pair.at_b(install(sa)).unwrap();
    assert_eq!(pair.b.core.next_timeout(), None);
}

#[test]
fn the_inner_packet_must_pass_the_policy_of_its_sa() {
    let mut pair = Pair::keyed(false, &GCM);
    // `a` is less strict than `b`: it seals what `b` has no policy for.
    let stranger = ip("10.9.9.9");
    let template = pair.template(pair.a.outer, pair.b.outer, Mode::Tunnel);
    let wide = policy(Direction::Out, stranger, pair.b.inner4, template);
    pair.at_a(Command::InstallPolicy(Box::new(wide))).unwrap();
    let packet = udp(stranger, pair.b.inner4, b"x");
    let sent = pair.a_sends(&[&packet]);
    assert!(pair.b_receives(sent).is_empty());
    assert_eq!(pair.b.drops(), [(Counter::InNoPols, 1)]);

    // A policy that wants another SA.
    let mut other = policy(Direction::In, stranger, pair.b.inner4, template);
    other.templates[0].reqid = 1000;
    pair.at_b(Command::InstallPolicy(Box::new(other.clone())))
        .unwrap();
    let sent = pair.a_sends(&[&packet]);
    assert!(pair.b_receives(sent).is_empty());
    assert_eq!(pair.b.xfrm(Counter::InTmplMismatch), 1);
    pair.at_b(Command::RemovePolicy(other.key)).unwrap();

    // One for forwarding alone.
    let forward = policy(Direction::Fwd, stranger, pair.b.inner4, template);
    pair.at_b(Command::InstallPolicy(Box::new(forward)))
        .unwrap();
    let sent = pair.a_sends(&[&packet]);
    assert_eq!(pair.b_receives(sent), [packet]);
}

#[test]
fn the_selector_of_an_sa_binds_what_it_carries() {
    let mut pair = Pair::keyed(false, &GCM);
    let there = pair.there(&GCM);
    pair.at_b(Command::RemoveSa(there.id)).unwrap();
    let selector = Selector::new("10.0.0.0/16".parse().unwrap(), ip("10.0.99.1").into());
    pair.at_b(install(Sa {
        selector: Some(selector),
        ..there
    }))
    .unwrap();
    let packet = pair.small();
    let sent = pair.a_sends(&[&packet]);
    assert!(pair.b_receives(sent).is_empty());
    assert_eq!(pair.b.drops(), [(Counter::InStateMismatch, 1)]);
}

#[test]
fn a_nat_mapping_that_changes_is_reported_once() {
    let suite = Suite { udp: true, ..GCM };
    let mut pair = Pair::keyed(false, &suite);
    let packet = pair.small();
    let old = SocketAddr::new(pair.a.outer, 4500);
    let receive = |pair: &mut Pair, transmit: Transmit, from: SocketAddr| {
        let mut arrival = wire(transmit);
        arrival.remote = from.ip();
        arrival.ports = Some(Ports {
            kind: EncapKind::Udp,
            local: 4500,
            remote: from.port(),
        });
        pair.b
            .core
            .inbound(pair.now, &mut vec![arrival], &mut pair.b.output);
        assert_eq!(pair.b.delivered().len(), 1);
        pair.b.event()
    };
    let mut sent = pair.a_sends(&[&packet[..]; 6]).into_iter();
    let mut next = || sent.next().unwrap();
    assert_eq!(receive(&mut pair, next(), old), None);
    let late = next();
    let new: SocketAddr = "203.0.113.5:61000".parse().unwrap();
    let Some(Event::Mapping(mapping)) = receive(&mut pair, next(), new) else {
        panic!("silence")
    };
    assert_eq!((mapping.old, mapping.new, mapping.reqid), (old, new, REQID));
    assert_eq!(receive(&mut pair, next(), new), None, "once is enough");
    assert_eq!(
        receive(&mut pair, late, old),
        None,
        "a late packet tells nothing new"
    );
    assert_eq!(pair.b.core.counters().mappings, 1);

    // The key manager follows: ports by an update, and the event is for the next change again.
    let newer: SocketAddr = "192.0.2.1:61001".parse().unwrap();
    assert!(matches!(
        receive(&mut pair, next(), newer),
        Some(Event::Mapping(_))
    ));
    let mut there = pair.there(&suite);
    there.encap = Some(Encap {
        kind: EncapKind::Udp,
        local_port: 4500,
        remote_port: 61001,
    });
    pair.at_b(Command::UpdateSa(Box::new(there.clone())))
        .unwrap();
    assert_eq!(receive(&mut pair, next(), newer), None);
    let counters = pair.counters_at_b(there.id);
    assert_eq!(counters.packets, 6, "an update keeps the counters");
}

#[test]
fn an_update_moves_the_ports_and_keeps_the_numbers() {
    let suite = Suite { udp: true, ..GCM };
    let mut pair = Pair::keyed(false, &suite);
    let packet = pair.small();
    let first = pair.a_sends(&[&packet, &packet]);
    let replayed = first.iter().map(copy).collect();
    assert_eq!(pair.b_receives(first).len(), 2);
    let mut there = outbound(&pair.there(&suite));
    there.encap = Some(Encap {
        kind: EncapKind::Udp,
        local_port: 4500,
        remote_port: 61000,
    });
    pair.at_a(Command::UpdateSa(Box::new(there.clone())))
        .unwrap();
    let mut inbound = pair.there(&suite);
    inbound.lifetime.hard_packets = Some(1000);
    pair.at_b(Command::UpdateSa(Box::new(inbound))).unwrap();
    let sent = pair.a_sends(&[&packet]);
    assert_eq!(
        sent[0].path.ports,
        Some(Ports {
            kind: EncapKind::Udp,
            local: 4500,
            remote: 61000
        })
    );
    assert_eq!(sequence(&sent[0]), 3);
    assert!(
        pair.b_receives(replayed).is_empty(),
        "the window is the old one"
    );
    assert_eq!(pair.counters_at_a(there.id).packets, 3);
}

/// After a failover sequence numbers are left out (RFC 6311 §5.2): what is sent goes on behind them and is taken, what was
/// sent before is still no repetition and then one, and none is used twice.
#[test]
fn sequence_numbers_are_left_out() {
    for esn in [false, true] {
        let suite = Suite { esn, ..GCM };
        let mut pair = Pair::keyed(false, &suite);
        let packet = pair.small();
        let first = pair.a_sends(&[&packet, &packet]);
        let late: Vec<Transmit> = first.iter().map(copy).collect();
        assert_eq!(pair.b_receives(first).len(), 2);
        let id = pair.there(&suite).id;
        let skip = |by| Command::SkipSequence(SkipSequence { id, by });
        assert_eq!(pair.at_a(skip(1 << 30)), Ok(Reply::Done));
        let sent = pair.a_sends(&[&packet]);
        assert_eq!(sequence(&sent[0]), (1 << 30) + 3);
        assert_eq!(pair.b_receives(sent).len(), 1);
        assert!(pair.b_receives(late).is_empty(), "left of the window now");
        // Too far at once, and to where too few are left: nothing moves.
        let far = pair.at_a(skip(SkipSequence::MAX + 1));
        assert!(matches!(far, Err(CommandError::Invalid(_))));
        assert_eq!(pair.at_a(skip(1 << 30)), Ok(Reply::Done));
        let end = pair.at_a(skip(1 << 30));
        assert_eq!(end.is_ok(), esn, "a fourth of 32 bits is kept back");
        let next = if esn { 3 << 30 } else { 2 << 30 } + 4;
        let sent = pair.a_sends(&[&packet]);
        assert_eq!(sequence(&sent[0]), next);
        assert_eq!(pair.b_receives(sent).len(), 1);
        if esn {
            // Past the end of the low half.
            assert_eq!(pair.at_a(skip(1 << 30)), Ok(Reply::Done));
            let sent = pair.a_sends(&[&packet]);
            assert_eq!(sequence(&sent[0]), 5);
            assert_eq!(pair.b_receives(sent).len(), 1);
        }
        // Only what is sent has numbers of ours.
        let inbound = pair.at_b(skip(1));
        assert!(matches!(inbound, Err(CommandError::Invalid(_))));
        let unknown = SkipSequence {
            id: SaId { spi: 7777, ..id },
            by: 1,
        };
        let unknown = pair.at_a(Command::SkipSequence(unknown));
        assert_eq!(unknown, Err(CommandError::NotFound));
    }
}

/// NAT appears between two gateways of which one gets another address: RFC 4555 §3.5.
#[test]
fn an_sa_moves_in_place() {
    let mut pair = Pair::keyed(false, &GCM);
    let packet = pair.small();
    let first = pair.a_sends(&[&packet, &packet]);
    let replayed: Vec<Transmit> = first.iter().map(copy).collect();
    assert_eq!(pair.b_receives(first).len(), 2);
    let there = pair.there(&GCM);
    let encap = |local_port, remote_port| {
        Some(Encap {
            kind: EncapKind::Udp,
            local_port,
            remote_port,
        })
    };
    let roamed = ip("198.51.100.7");
    let mut policy = policy(
        Direction::Out,
        pair.a.inner4,
        pair.b.inner4,
        pair.template(roamed, pair.b.outer, Mode::Tunnel),
    );
    let at_a = MoveSa {
        id: there.id,
        src: roamed,
        dst: pair.b.outer,
        encap: encap(4500, 4500),
    };
    assert_eq!(pair.at_a(Command::MoveSa(at_a)), Ok(Reply::Done));
    assert_eq!(
        pair.a.core.paths().collect::<Vec<_>>(),
        [(roamed, pair.b.outer)]
    );
    // Until the policy has followed, packets wait for it, and nothing is lost.
    assert!(pair.a_sends(&[&packet]).is_empty());
    pair.at_a(Command::UpdatePolicy(Box::new(policy.clone())))
        .unwrap();
    let sent = pair.a.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sequence(&sent[0]), 3);
    assert_eq!(
        (sent[0].path.local, sent[0].path.ports),
        (
            roamed,
            Some(Ports {
                kind: EncapKind::Udp,
                local: 4500,
                remote: 4500
            })
        )
    );

    // Seen from b, a is behind a NAT.
    let at_b = MoveSa {
        id: there.id,
        src: ip("203.0.113.5"),
        dst: pair.b.outer,
        encap: encap(4500, 61000),
    };
    pair.at_b(Command::MoveSa(at_b)).unwrap();
    policy.key.direction = Direction::In;
    policy.templates = vec![pair.template(ip("203.0.113.5"), pair.b.outer, Mode::Tunnel)];
    pair.at_b(Command::UpdatePolicy(Box::new(policy))).unwrap();
    let mut arrival = wire(sent.into_iter().next().unwrap());
    arrival.remote = ip("203.0.113.5");
    arrival.ports = Some(Ports {
        kind: EncapKind::Udp,
        local: 4500,
        remote: 61000,
    });
    let (now, b) = (pair.now, &mut pair.b);
    b.core.inbound(now, &mut vec![arrival], &mut b.output);
    assert_eq!(b.delivered().len(), 1);
    assert!(b.event().is_none(), "it comes from where the SA says");
    let mut late = replayed.into_iter().map(wire).collect::<Vec<_>>();
    for arrival in &mut late {
        arrival.ports = Some(Ports {
            kind: EncapKind::Udp,
            local: 4500,
            remote: 61000,
        });
    }
    b.core.inbound(now, &mut late, &mut b.output);
    assert!(b.delivered().is_empty(), "the window is the old one");
    assert_eq!(pair.counters_at_b(there.id).packets, 3);
    assert_eq!(pair.counters_at_a(there.id).packets, 3);

    // What cannot be has changed nothing.
    let mixed = MoveSa {
        src: "2001:db8::1".parse().unwrap(),
        ..at_a
    };
    assert!(pair.at_a(Command::MoveSa(mixed)).is_err());
    assert_eq!(
        sequence(&pair.a_sends(&[&packet])[0]),
        4,
        "and the SA goes on"
    );
}

#[test]
fn an_sa_that_moves_never_repeats_a_number() {
    let mut pair = Pair::keyed(false, &GCM);
    let packet = pair.small();
    let first = pair.a_sends(&[&packet, &packet]);
    let replayed = first.iter().map(copy).collect();
    assert_eq!(pair.b_receives(first).len(), 2);
    // The peer has another address: the SA is removed and installed again with its keys.
    let there = pair.there(&GCM);
    pair.at_a(Command::RemoveSa(there.id)).unwrap();
    assert_eq!(pair.a.core.paths().count(), 0);
    let moved = Sa {
        id: SaId {
            dst: pair.b.outer,
            ..there.id
        },
        ..outbound(&there)
    };
    pair.at_a(install(moved)).unwrap();
    assert_eq!(sequence(&pair.a_sends(&[&packet])[0]), 3);
    // The receiver's window survives the same way.
    pair.at_b(Command::RemoveSa(there.id)).unwrap();
    pair.at_b(install(there.clone())).unwrap();
    assert!(pair.b_receives(replayed).is_empty());
    // Other keys are another SA.
    pair.at_a(Command::RemoveSa(there.id)).unwrap();
    let other = CipherKey {
        transform: 20,
        key: vec![9; 20].into(),
    };
    pair.at_a(install(Sa {
        encryption: Some(other),
        ..outbound(&there)
    }))
    .unwrap();
    assert_eq!(sequence(&pair.a_sends(&[&packet])[0]), 1);
}

#[test]
fn two_outbound_sas_must_not_share_a_key() {
    let mut pair = Pair::keyed(false, &GCM);
    let there = outbound(&pair.there(&GCM));
    let twin = Sa {
        id: SaId {
            dst: ip("192.0.2.77"),
            ..there.id
        },
        ..there
    };
    assert!(
        matches!(pair.at_a(install(twin)), Err(CommandError::Invalid(text)) if text.contains("key"))
    );
}

#[test]
fn each_device_has_policies_and_sas_of_its_own() {
    let mut pair = Pair::keyed(false, &GCM);
    let (there, template) = (
        pair.there(&GCM),
        pair.template(pair.a.outer, pair.b.outer, Mode::Tunnel),
    );
    for direction in [Direction::Out, Direction::In] {
        let mut policy = policy(direction, pair.a.inner4, pair.b.inner4, template);
        policy.key.if_id = 42;
        let command = Command::InstallPolicy(Box::new(policy));
        if direction == Direction::Out {
            pair.at_a(command)
        } else {
            pair.at_b(command)
        }
        .unwrap();
    }
    let there = Sa {
        id: SaId {
            spi: 0x8000_4242,
            ..there.id
        },
        if_id: 42,
        encryption: Some(CipherKey {
            transform: 20,
            key: vec![42; 20].into(),
        }),
        ..there
    };
    pair.at_a(install(outbound(&there))).unwrap();
    pair.at_b(install(there)).unwrap();
    let packet = pair.small();
    let mut batch = vec![Packet::from_slice(&packet)];
    pair.a
        .core
        .outbound(pair.now, 42, &mut batch, &mut pair.a.output);
    let mut arrivals = pair.a.sent().into_iter().map(wire).collect::<Vec<_>>();
    assert_eq!(
        arrivals[0].packet.bytes()[..4],
        0x8000_4242u32.to_be_bytes()
    );
    pair.b
        .core
        .inbound(pair.now, &mut arrivals, &mut pair.b.output);
    assert_eq!(pair.b.delivered(), [(42, packet)]);
}

#[test]
fn a_report_shows_no_keys() {
    let mut pair = Pair::keyed(
        false,
        &Suite {
            encryption: (12, 16),
            integrity: Some((12, 32)),
            ..GCM
        },
    );
    let id = pair.there(&GCM).id;
    let Ok(Reply::Sa(report)) = pair.at_a(Command::QuerySa(id)) else {
        panic!()
    };
    assert!(report.sa.encryption.unwrap().key.is_empty());
    assert!(
        report
            .sa
            .integrity
            .is_some_and(|integrity| integrity.key.is_empty())
    );
}
