//! From the device to the wire: the whole way there, traps, policies, sizes.

use super::*;

/// With ESN, in UDP.
fn suite(transform: u16, key_len: usize, integrity: Option<(u16, usize)>) -> Suite {
    Suite {
        encryption: (transform, key_len),
        integrity,
        esn: true,
        udp: true,
        ..GCM
    }
}

/// Without encryption there is no cipher key to tell SAs apart: each still has its own numbers.
#[test]
fn sas_without_encryption_have_their_own_numbers() {
    let null = suite(11, 0, Some((12, 32)));
    let mut pair = Pair::keyed(false, &null);
    let packet = pair.small();
    let sent = pair.a_sends(&[&packet, &packet]);
    assert_eq!(pair.b_receives(sent).len(), 2);
    // A new SA with another key, at first beside the old one.
    let next = sa(pair.a.outer, pair.b.outer, 0x7e57, &null);
    pair.at_a(install(outbound(&next))).unwrap();
    let old = pair.there(&null).id;
    pair.at_a(Command::RemoveSa(old)).unwrap();
    pair.at_b(Command::RemoveSa(old)).unwrap();
    pair.at_b(install(next)).unwrap();
    let sent = pair.a_sends(&[&packet]);
    assert_eq!(pair.b_receives(sent).len(), 1, "{:?}", pair.b.drops());
}

#[test]
fn every_suite_carries_both_families_over_both_families() {
    let suites = [
        GCM,
        Suite {
            encryption: (20, 36),
            esn: true,
            udp: true,
            ..GCM
        },
        Suite {
            encryption: (28, 36),
            ..GCM
        },
        Suite {
            encryption: (12, 16),
            integrity: Some((12, 32)),
            udp: true,
            ..GCM
        },
        Suite {
            encryption: (12, 32),
            integrity: Some((14, 64)),
            esn: true,
            ..GCM
        },
        // CCM with 12 octets of ICV, GMAC, GCM with implicit IV; AES-CTR, Camellia, triple DES, NULL.
        suite(15, 27, None),
        suite(21, 28, None),
        suite(30, 20, None),
        suite(13, 28, Some((8, 16))),
        suite(23, 24, Some((5, 16))),
        suite(3, 24, Some((2, 20))),
        suite(11, 0, Some((12, 32))),
    ];
    for suite in &suites {
        for v6 in [false, true] {
            let mut pair = Pair::keyed(v6, suite);
            let packets: Vec<Vec<u8>> = (0..40)
                .map(|n| {
                    let data: Vec<u8> = (0..n * 33).map(|i| i as u8).collect();
                    if n % 2 == 0 {
                        udp(pair.a.inner4, pair.b.inner4, &data)
                    } else {
                        udp(pair.a.inner6, pair.b.inner6, &data)
                    }
                })
                .collect();
            let views: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
            let sent = pair.a_sends(&views);
            assert_eq!(sent.len(), 40);
            assert!(sent.iter().all(|t| t.path.ports.is_some() == suite.udp));
            assert_eq!(pair.b_receives(sent), packets);
            assert_eq!((pair.a.drops(), pair.b.drops()), (vec![], vec![]));
            let bytes = packets.iter().map(|packet| packet.len() as u64).sum();
            let id = pair.there(suite).id;
            for counters in [pair.counters_at_a(id), pair.counters_at_b(id)] {
                assert_eq!((counters.packets, counters.bytes), (40, bytes));
                assert_eq!(counters.used, Some(pair.now));
            }
        }
    }
}

#[test]
fn packets_of_two_sas_keep_their_order_and_each_sa_its_numbers() {
    let mut pair = Pair::keyed(false, &GCM);
    // The IPv6 policy gets an SA of its own.
    let mut trap = policy(
        Direction::Out,
        pair.a.inner6,
        pair.b.inner6,
        pair.template(pair.a.outer, pair.b.outer, Mode::Tunnel),
    );
    trap.templates[0].reqid = 8;
    pair.at_a(Command::UpdatePolicy(Box::new(trap))).unwrap();
    let mut other = outbound(&sa(pair.a.outer, pair.b.outer, 0x8000_0001, &GCM));
    other.reqid = 8;
    pair.at_a(install(other)).unwrap();

    let v4 = pair.small();
    let v6 = udp(pair.a.inner6, pair.b.inner6, b"small");
    let sent = pair.a_sends(&[&v4, &v4, &v6, &v4, &v6, &v6, &v4]);
    let seen: Vec<(u32, u32)> = sent
        .iter()
        .map(|t| {
            (
                u32::from_be_bytes(t.packet.bytes()[..4].try_into().unwrap()),
                sequence(t),
            )
        })
        .collect();
    let (x, y) = (SPI_AB, 0x8000_0001);
    assert_eq!(
        seen,
        [(x, 1), (x, 2), (y, 1), (x, 3), (y, 2), (y, 3), (x, 4)]
    );
}

#[test]
fn a_trap_raises_one_acquire_and_holds_what_it_may() {
    let config = CoreConfig {
        held_per_policy: 3,
        ..CoreConfig::default()
    };
    let mut pair = Pair::with(false, config);
    pair.policies(Mode::Tunnel);
    let packets: Vec<_> = (0..5u8)
        .map(|n| udp(pair.a.inner4, pair.b.inner4, &[n]))
        .collect();
    for packet in &packets {
        assert!(pair.a_sends(&[packet]).is_empty());
    }
    let Some(Event::Acquire(acquire)) = pair.a.event() else {
        panic!("no acquire")
    };
    assert_eq!((acquire.src, acquire.dst), (pair.a.outer, pair.b.outer));
    assert_eq!(acquire.selector.dport.port, 2000);
    assert_eq!(acquire.template.reqid, REQID);
    assert_eq!(pair.a.event(), None, "one larval state, one acquire (K5)");
    assert_eq!(pair.a.drops(), [(Counter::OutNoStates, 5)]);
    let counters = *pair.a.core.counters();
    assert_eq!((counters.held, counters.held_full), (3, 2));

    // The key manager answers: the inbound SA first, as always.
    let back = pair.back(&GCM);
    pair.at_a(install(back)).unwrap();
    assert!(pair.a.sent().is_empty(), "an inbound SA frees nothing");
    let there = pair.there(&GCM);
    pair.at_b(install(there.clone())).unwrap();
    pair.at_a(install(Sa {
        acquire_seq: acquire.seq,
        ..outbound(&there)
    }))
    .unwrap();
    let sent = pair.a.sent();
    assert_eq!(
        pair.b_receives(sent),
        packets[..3],
        "in the order of their arrival"
    );
    assert_eq!(
        pair.a.drops(),
        [(Counter::OutNoStates, 5)],
        "none is counted twice"
    );
    assert_eq!(pair.a_sends(&[&packets[4]]).len(), 1);
    assert_eq!(pair.a.event(), None);
}

#[test]
fn a_trap_that_gets_the_reqid_of_new_sas_lets_its_packets_go() {
    let mut pair = Pair::new(false);
    pair.policies(Mode::Tunnel);
    let packet = pair.small();
    pair.a_sends(&[&packet]);
    let there = pair.there(&GCM);
    pair.at_a(install(Sa {
        reqid: 99,
        ..outbound(&there)
    }))
    .unwrap();
    assert!(
        pair.a.sent().is_empty(),
        "outbound, reqids must be equal (K5)"
    );
    let mut real = policy(
        Direction::Out,
        pair.a.inner4,
        pair.b.inner4,
        pair.template(pair.a.outer, pair.b.outer, Mode::Tunnel),
    );
    real.templates[0].reqid = 99;
    pair.at_a(Command::UpdatePolicy(Box::new(real))).unwrap();
    assert_eq!(pair.a.sent().len(), 1);
}

#[test]
fn a_larval_state_expires_with_what_waited_for_it() {
    let mut pair = Pair::new(false);
    pair.policies(Mode::Tunnel);
    // Both policies share one template, so one larval state stands for both.
    let v4 = pair.small();
    let v6 = udp(pair.a.inner6, pair.b.inner6, b"small");
    pair.a_sends(&[&v4, &v6]);
    assert!(matches!(pair.a.event(), Some(Event::Acquire(_))));
    assert_eq!(pair.a.event(), None);
    assert_eq!(
        pair.a.core.next_timeout(),
        Some(pair.now + Duration::from_secs(30))
    );
    pair.advance(Duration::from_secs(29));
    assert_eq!(pair.a.event(), None);
    pair.advance(Duration::from_secs(1));
    let Some(Event::Expire(expire)) = pair.a.event() else {
        panic!("no expiry")
    };
    assert_eq!(
        (expire.sa.spi, expire.hard, expire.sa.dst),
        (0, true, pair.b.outer)
    );
    assert_eq!(pair.a.core.counters().held_expired, 2);
    assert_eq!(pair.a.core.next_timeout(), None);
    pair.a_sends(&[&v4]);
    assert!(
        matches!(pair.a.event(), Some(Event::Acquire(_))),
        "the next packet asks again"
    );
}

#[test]
fn held_packets_go_with_their_policy() {
    let mut pair = Pair::new(false);
    pair.policies(Mode::Tunnel);
    let packet = pair.small();
    pair.a_sends(&[&packet]);
    let selector = Selector::new(pair.a.inner4.into(), pair.b.inner4.into());
    pair.at_a(Command::RemovePolicy(PolicyKey::new(
        Direction::Out,
        selector,
    )))
    .unwrap();
    assert_eq!(pair.a.core.counters().held_expired, 1);
    pair.sas(&GCM);
    assert!(pair.a.sent().is_empty());
}

#[test]
fn nothing_leaves_in_clear() {
    let mut pair = Pair::new(false);
    let packet = pair.small();
    assert!(
        pair.a_sends(&[&packet, b"", b"\x45", &[0xff; 60]])
            .is_empty()
    );
    let selector = Selector::new(pair.a.inner4.into(), pair.b.inner4.into());
    let key = PolicyKey::new(Direction::Out, selector);
    pair.at_a(Command::InstallPolicy(Box::new(Policy::new(key))))
        .unwrap();
    assert!(pair.a_sends(&[&packet]).is_empty());
    let block = Policy {
        action: Action::Block,
        ..Policy::new(key)
    };
    pair.at_a(Command::UpdatePolicy(Box::new(block))).unwrap();
    assert!(pair.a_sends(&[&packet]).is_empty());
    let counters = pair.a.core.counters();
    assert_eq!(
        (counters.no_policy, counters.not_ip, counters.clear_refused),
        (1, 3, 1)
    );
    assert_eq!(pair.a.drops(), [(Counter::OutPolBlock, 1)]);
    assert!(pair.a.output.deliveries.is_empty());
}

#[test]
fn packets_too_big_are_answered_unless_they_may_be_fragmented() {
    let mut pair = Pair::keyed(false, &GCM);
    assert_eq!(
        pair.a.core.take_new_path(),
        Some((pair.a.outer, pair.b.outer))
    );
    pair.a.core.set_path_mtu(pair.a.outer, pair.b.outer, 1400);
    // 1400 - 20 - 8 - 8 - 16 = 1348, whole words, - 2.
    let fits = udp(pair.a.inner4, pair.b.inner4, &[0; 1346 - 28]);
    let too_big = udp(pair.a.inner4, pair.b.inner4, &[0; 1347 - 28]);
    let mut may_fragment = too_big.clone();
    may_fragment[6] = 0;
    set_checksum(&mut may_fragment);
    let sent = pair.a_sends(&[&fits, &too_big, &may_fragment]);
    assert_eq!(
        sent.iter().map(sequence).collect::<Vec<_>>(),
        [1, 2],
        "no number is lost"
    );
    assert_eq!(
        sent.iter().map(|t| t.dont_fragment).collect::<Vec<_>>(),
        [true, false]
    );
    assert!(sent[0].packet.len() + 20 <= 1400);
    let answers = pair.a.delivered();
    let [(0, answer)] = &answers[..] else {
        panic!("{answers:?}")
    };
    // ICMP destination unreachable, fragmentation needed (RFC 1191), quoting the packet.
    assert_eq!((answer[9], answer[20], answer[21]), (1, 3, 4));
    assert_eq!(u16::from_be_bytes([answer[26], answer[27]]), 1346);
    assert_eq!(answer[28..48], too_big[..20]);
    assert_eq!(pair.a.core.counters().too_big, 1);
    assert_eq!(pair.a.drops(), [(Counter::OutStateModeError, 1)]);

    let too_big = udp(pair.a.inner6, pair.b.inner6, &[0; 1347 - 48]);
    assert!(pair.a_sends(&[&too_big]).is_empty());
    let answers = pair.a.delivered();
    assert_eq!(
        (answers[0].1[6], answers[0].1[40]),
        (58, 2),
        "ICMPv6 packet too big"
    );

    // Nobody may be told less than 1280 octets (RFC 8200): then ESP is fragmented, without DF.
    pair.a.core.set_path_mtu(pair.a.outer, pair.b.outer, 1300);
    let least = udp(pair.a.inner6, pair.b.inner6, &[0; 1280 - 48]);
    let fits = udp(pair.a.inner6, pair.b.inner6, &[0; 1200 - 48]);
    let sent = pair.a_sends(&[&least, &fits]);
    assert_eq!(
        sent.iter().map(|t| t.dont_fragment).collect::<Vec<_>>(),
        [false, true]
    );
}

#[test]
fn icmp_errors_are_few() {
    //= rfc4443#2.4
    //= type=test
    //# Finally, in order to limit the bandwidth and forwarding costs
    //# incurred by originating ICMPv6 error messages, an IPv6 node MUST
    //# limit the rate of ICMPv6 error messages it originates.
    let mut pair = Pair::keyed(false, &GCM);
    pair.a.core.set_path_mtu(pair.a.outer, pair.b.outer, 1400);
    let too_big = udp(pair.a.inner6, pair.b.inner6, &[0; 1400 - 48]);
    let answers = |pair: &mut Pair| {
        pair.a_sends(&[&too_big[..]; 100]);
        pair.a.delivered().len()
    };
    assert_eq!(answers(&mut pair), 50);
    assert_eq!(answers(&mut pair), 0);
    pair.advance(Duration::from_millis(20));
    assert_eq!(answers(&mut pair), 20);
    pair.advance(Duration::from_secs(3600));
    assert_eq!(answers(&mut pair), 50);
    let counters = pair.a.core.counters();
    assert_eq!((counters.too_big, counters.icmp_limited), (400, 280));
}

#[test]
fn transport_mode_keeps_addresses_and_refuses_what_a_socket_cannot_carry() {
    for v6 in [false, true] {
        for udp_encap in [false, true] {
            let suite = Suite {
                mode: Mode::Transport,
                udp: udp_encap,
                ..GCM
            };
            let mut pair = Pair::keyed(v6, &suite);
            let packet = udp(pair.a.outer, pair.b.outer, b"transport");
            let sent = pair.a_sends(&[&packet]);
            let received = pair.b_receives(sent);
            let [received] = &received[..] else {
                panic!("{:?}", pair.b.drops())
            };
            let header = if v6 { 40 } else { 20 };
            assert_eq!(received[header..], packet[header..]);
            let addresses = if v6 { 8..40 } else { 12..20 };
            assert_eq!(received[addresses.clone()], packet[addresses]);
            if !v6 {
                let mut options = packet.clone();
                options.splice(20..20, [1; 4]);
                options[0] = 0x46;
                options[3] += 4;
                assert!(pair.a_sends(&[&options]).is_empty());
                assert_eq!(pair.a.drops(), [(Counter::OutStateModeError, 1)]);
            }
        }
    }
}

#[test]
fn what_the_plane_cannot_do_is_refused_and_changes_nothing() {
    let mut pair = Pair::new(false);
    let there = outbound(&pair.there(&GCM));
    let refused = |pair: &mut Pair, command: Command| {
        assert!(matches!(
            pair.at_a(command),
            Err(CommandError::Unsupported(_))
        ));
    };
    refused(
        &mut pair,
        install(Sa {
            mode: Mode::Iptfs,
            ..there.clone()
        }),
    );
    let id = SaId {
        protocol: Protocol::Ah,
        ..there.id
    };
    refused(
        &mut pair,
        install(Sa {
            id,
            mode: Mode::Beet,
            encryption: None,
            integrity: Some(cygnet_ipsec::IntegrityKey {
                transform: 12,
                key: vec![7; 32].into(),
            }),
            ..there.clone()
        }),
    );
    let template = pair.template(pair.a.outer, pair.b.outer, Mode::Tunnel);
    let one = policy(Direction::Out, pair.a.inner4, pair.b.inner4, template);
    for templates in [
        vec![template, template],
        vec![Template {
            protocol: Protocol::Ah,
            mode: Mode::Beet,
            ..template
        }],
        vec![Template {
            mode: Mode::Iptfs,
            ..template
        }],
    ] {
        refused(
            &mut pair,
            Command::InstallPolicy(Box::new(Policy {
                templates,
                ..one.clone()
            })),
        );
    }
    let short = CipherKey {
        transform: 20,
        key: vec![0; 19].into(),
    };
    assert!(matches!(
        pair.at_a(install(Sa {
            encryption: Some(short),
            ..there.clone()
        })),
        Err(CommandError::Invalid(_))
    ));
    assert_eq!(
        pair.at_a(Command::QuerySa(there.id)),
        Err(CommandError::NotFound)
    );
    assert_eq!(
        pair.at_a(Command::QueryPolicy(one.key)),
        Err(CommandError::NotFound)
    );
    assert_eq!(pair.a.core.paths().count(), 0);
    assert_eq!(
        pair.at_a(Command::RemoveSa(there.id)),
        Err(CommandError::NotFound)
    );
    pair.at_a(install(there.clone())).unwrap();
    assert_eq!(pair.at_a(install(there)), Err(CommandError::Exists));
}

#[test]
fn set_mark_and_tos_travel_with_the_packet() {
    let mut pair = Pair::new(false);
    pair.policies(Mode::Tunnel);
    let mark = Mark {
        value: 5,
        mask: 0xff,
    };
    let there = pair.there(&GCM);
    pair.at_a(install(Sa {
        set_mark: Some(mark),
        ..outbound(&there)
    }))
    .unwrap();
    pair.at_b(install(there)).unwrap();
    let mut packet = pair.small();
    packet[1] = 0xb8 | 0b10;
    set_checksum(&mut packet);
    let mut sent = pair.a_sends(&[&packet]);
    assert_eq!((sent[0].mark, sent[0].tos), (Some(mark), 0xba));
    // A router on the way has marked congestion (RFC 6040).
    sent[0].tos |= 0b11;
    let received = pair.b_receives(sent);
    assert_eq!(received[0][1], 0xbb);
}
