//! Both directions together: what passes unchanged, and what must not pass.

mod support;

use cygnet_esp::{IpError, NoRoom, OpenError, Room, SealError};
use cygnet_ipsec::{Counter, Mode, ReplayError, Sa};
use proptest::prelude::*;
use support::*;

const NO_NEXT_HEADER: u8 = 59;

// ---------------------------------------------------------------------------------------------------------------
// Round trips

#[test]
fn every_suite_and_family_pair_and_size_passes_unchanged() {
    for (name, encryption, integrity) in suites() {
        for esn in [false, true] {
            for sa4 in [sa(), over_ipv6(sa())] {
                for encap in [None, Some(UDP_4500)] {
                    let sa = Sa {
                        encryption: Some(encryption.clone()),
                        integrity: integrity.clone(),
                        esn,
                        encap,
                        ..sa4.clone()
                    };
                    let sent = outbound(&sa);
                    let mut received = inbound(&sa);
                    let sizes = (0..40).chain([100, 575, 1400, 8960]);
                    let packets = sizes.flat_map(|len| [inner4(len), inner6(len)]);
                    for packet in packets {
                        let sequence = sent.reserve(1).unwrap().next().unwrap();
                        let (sealed, esp) = seal(&sent, sequence, &packet).unwrap();
                        assert_eq!(esp.len() % 4, 0, "{name}");
                        let (opened, inner) = open(&mut received, &esp, &sealed.outer).unwrap();
                        assert_eq!(inner, packet, "{name}");
                        assert_eq!((opened.sequence, opened.counted), (sequence, packet.len()));
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_packet_passes_in_any_mode(
        suite in 0_usize..6,
        esn: bool,
        tunnel: bool,
        v6: bool,
        tos: u8,
        sequence in 1_u32..,
        tfc_pad in 0_u32..600,
        payload in proptest::collection::vec(any::<u8>(), 0..700),
    ) {
        let (_, encryption, integrity) = suites().swap_remove(suite);
        let mode = if tunnel { Mode::Tunnel } else { Mode::Transport };
        let sa = Sa { encryption: Some(encryption), integrity, esn, mode, tfc_pad, ..sa() };
        let sa = if v6 { over_ipv6(sa) } else { sa };
        let (src, dst) = (sa.src.to_string(), sa.id.dst.to_string());
        let mut packet = ip(&src, &dst, 253, tos, true, &payload);
        let sent = outbound(&sa);
        let (sealed, esp) = seal(&sent, sequence.into(), &packet).unwrap();
        let (_, inner) = open(&mut inbound(&sa), &esp, &sealed.outer).unwrap();
        if !v6 && !tunnel {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
            let sum = checksum(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        prop_assert_eq!(inner, packet);
    }
}

#[test]
fn the_rooms_asked_for_are_enough_and_not_too_much() {
    for (name, encryption, integrity) in suites() {
        for mode in [Mode::Tunnel, Mode::Transport] {
            for tfc_pad in [0, 300] {
                let sa = Sa {
                    encryption: Some(encryption.clone()),
                    integrity: integrity.clone(),
                    mode,
                    tfc_pad,
                    ..sa()
                };
                let sent = outbound(&sa);
                // The size that needs the most padding is among these; the empty IP packet is 20 octets.
                let least = (0..16)
                    .map(|len| {
                        let packet = ip(WEST, EAST, 253, 0, true, &payload(len));
                        let ((), wire) =
                            within(&packet, sent.headroom(), sent.tailroom(), |buffer| {
                                let sealed = sent.seal(1, buffer).unwrap();
                                sent.write_outer(&sealed, buffer, 0).unwrap();
                                assert_eq!(buffer.headroom(), 0, "{name}");
                            });
                        sent.headroom() + packet.len() + sent.tailroom() - wire.len()
                    })
                    .min()
                    .unwrap();
                // TFC padding fills up to a size: a packet of 20 octets is the least that is filled up.
                assert!(
                    least
                        <= if tfc_pad == 0 || mode == Mode::Transport {
                            0
                        } else {
                            36
                        },
                    "{name} {least}"
                );
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Buffers

#[test]
fn too_small_a_buffer_is_an_error() {
    let sent = outbound(&sa());
    let packet = inner4(64);
    let (result, _) = within(&packet, sent.overhead().iv + 7, ROOM, |buffer| {
        sent.seal(1, buffer)
    });
    assert_eq!(
        result.unwrap_err(),
        SealError::NoRoom(NoRoom {
            place: Room::Headroom,
            missing: 1
        })
    );
    let (result, _) = within(&packet, ROOM, 3, |buffer| sent.seal(1, buffer));
    assert!(matches!(
        result,
        Err(SealError::NoRoom(NoRoom {
            place: Room::Tailroom,
            ..
        }))
    ));
    let (result, _) = within(&packet, 16, ROOM, |buffer| {
        let sealed = sent.seal(1, buffer).unwrap();
        sent.write_outer(&sealed, buffer, 0)
    });
    assert_eq!(
        result.unwrap_err(),
        SealError::NoRoom(NoRoom {
            place: Room::Headroom,
            missing: 20
        })
    );
    assert_eq!(
        SealError::NoRoom(NoRoom {
            place: Room::Headroom,
            missing: 1
        })
        .counter(),
        Counter::OutError
    );
}

#[test]
fn octets_behind_the_packet_are_not_sealed() {
    let sent = outbound(&sa());
    let packet = inner4(64);
    let padded = [&packet[..], &[0; 9]].concat();
    let (_, esp) = seal(&sent, 1, &padded).unwrap();
    assert_eq!(esp, seal(&sent, 1, &packet).unwrap().1);
}

#[test]
fn what_is_no_ip_packet_is_not_sealed() {
    let sent = outbound(&sa());
    for (packet, error) in [
        (vec![], IpError::Truncated { have: 0, need: 20 }),
        (vec![0x45; 19], IpError::Truncated { have: 19, need: 20 }),
        (vec![0x60; 39], IpError::Truncated { have: 39, need: 40 }),
        (vec![0x55; 40], IpError::Version(5)),
        (
            inner4(10)[..25].to_vec(),
            IpError::Truncated { have: 25, need: 30 },
        ),
        ([&[0x44][..], &inner4(10)[1..]].concat(), IpError::Length),
    ] {
        let error = SealError::Malformed(error);
        assert_eq!(seal(&sent, 1, &packet).unwrap_err(), error);
        assert_eq!(error.counter(), Counter::OutStateModeError);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Sequence numbers and replay

#[test]
fn sequence_numbers_begin_at_one_and_never_cycle() {
    //= rfc4303#3.3.3
    //= type=test
    //# In other words, the sender MUST NOT send a
    //# packet on an SA if doing so would cause the sequence number to cycle.
    let sent = outbound(&sa());
    assert_eq!(sent.reserve(3).unwrap().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(sent.reserve(0).unwrap().len(), 0);
    assert_eq!(sent.last_sequence(), 3);
    sent.resume_after(0xffff_fffd);
    assert_eq!(
        sent.reserve(64).unwrap().collect::<Vec<_>>(),
        [0xffff_fffe, 0xffff_ffff]
    );
    for _ in 0..2 {
        let error = sent.reserve(1).unwrap_err();
        assert_eq!(error, SealError::SequenceExhausted);
        assert_eq!(error.counter(), Counter::OutStateSeqError);
    }
    assert_eq!(
        seal(&sent, 1 << 32, &inner4(1)).unwrap_err(),
        SealError::Cipher
    );

    let extended = outbound(&Sa { esn: true, ..sa() });
    extended.resume_after(0xffff_ffff);
    assert_eq!(extended.reserve(1).unwrap().next(), Some(0x1_0000_0000));
    extended.resume_after(u64::MAX - 1);
    assert_eq!(extended.reserve(1), Err(SealError::SequenceExhausted));
}

#[test]
fn blocks_reserved_by_threads_do_not_overlap() {
    let sent = outbound(&sa());
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|n| {
                scope.spawn({
                    let sent = &sent;
                    move || {
                        (0..500)
                            .flat_map(|i| sent.reserve(i % 7 + n).unwrap())
                            .collect::<Vec<_>>()
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(1..=sent.last_sequence()));
}

#[test]
fn only_authentic_packets_move_the_window() {
    let sa = sa();
    let sent = outbound(&sa);
    let mut received = inbound(&sa);
    let outer = outer_of(&sa);
    let esp = |sequence| seal(&sent, sequence, &inner4(64)).unwrap().1;

    open(&mut received, &esp(100), &outer).unwrap();
    open(&mut received, &esp(37), &outer).unwrap();
    for (sequence, reason) in [
        (100, ReplayError::Replayed),
        (36, ReplayError::TooOld),
        (37, ReplayError::Replayed),
    ] {
        let error = open(&mut received, &esp(sequence), &outer).unwrap_err();
        assert_eq!(error, OpenError::Replay(reason));
        assert_eq!(error.counter(), Some(Counter::InStateSeqError));
    }
    // A forged number far to the right fails and leaves the window where it was.
    let mut forged = esp(101);
    forged[4..8].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    assert_eq!(
        open(&mut received, &forged, &outer).unwrap_err(),
        OpenError::NotAuthentic
    );
    assert_eq!(received.replay().top(), 100);
    open(&mut received, &esp(99), &outer).unwrap();
    // With a window of zero nothing is checked.
    let mut unchecked = inbound(&Sa {
        replay_window: 0,
        ..sa
    });
    for _ in 0..2 {
        open(&mut unchecked, &esp(5), &outer).unwrap();
    }
}

#[test]
fn the_high_half_of_an_extended_number_is_authenticated() {
    for (name, encryption, integrity) in suites() {
        let sa = Sa {
            encryption: Some(encryption),
            integrity,
            esn: true,
            ..sa()
        };
        let sent = outbound(&sa);
        let mut received = inbound(&sa);
        // The receiver is in the first subspace: a packet of the second one with a low number looks like one of the first.
        let (_, esp) = seal(&sent, 0x1_0000_0005, &inner4(64)).unwrap();
        assert_eq!(
            open(&mut received, &esp, &outer_of(&sa)).unwrap_err(),
            OpenError::NotAuthentic,
            "{name}"
        );
        let (_, esp) = seal(&sent, 5, &inner4(64)).unwrap();
        open(&mut received, &esp, &outer_of(&sa)).unwrap();
        // And a receiver without ESN does not understand one with it.
        let mut plain = inbound(&Sa {
            esn: false,
            ..sa.clone()
        });
        assert_eq!(
            open(&mut plain, &esp, &outer_of(&sa)).unwrap_err(),
            OpenError::NotAuthentic,
            "{name}"
        );
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Integrity

#[test]
fn no_changed_octet_passes() {
    for (name, encryption, integrity) in suites() {
        let sa = Sa {
            encryption: Some(encryption),
            integrity,
            replay_window: 0,
            ..sa()
        };
        let (_, esp) = seal(&outbound(&sa), 1, &inner4(40)).unwrap();
        let mut received = inbound(&sa);
        for at in 0..esp.len() {
            let mut changed = esp.clone();
            changed[at] ^= 1 << (at % 8);
            let error = open(&mut received, &changed, &outer_of(&sa)).unwrap_err();
            assert_eq!(error, OpenError::NotAuthentic, "{name} octet {at}");
            assert_eq!(error.counter(), Some(Counter::InStateProtoError));
        }
        for len in 0..esp.len() {
            let error = open(&mut received, &esp[..len], &outer_of(&sa)).unwrap_err();
            assert!(
                matches!(error, OpenError::NotAuthentic | OpenError::Length(_)),
                "{name} length {len}"
            );
            assert_eq!(error.counter(), Some(Counter::InStateProtoError));
        }
        open(&mut received, &esp, &outer_of(&sa)).unwrap();
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Padding, TFC, dummies

#[test]
fn padding_counts_up_and_is_inspected() {
    //= rfc4303#2.4
    //= type=test
    //# If Padding bytes are needed but the encryption algorithm does not
    //# specify the padding contents, then the following default processing
    //# MUST be used.
    let (_, encryption, integrity) = suites().swap_remove(3);
    let sa = Sa {
        encryption: Some(encryption),
        integrity,
        replay_window: 0,
        ..sa()
    };
    for len in 0..16 {
        let packet = inner4(len);
        let (_, esp) = seal(&outbound(&sa), 1, &packet).unwrap();
        assert_eq!(plaintext(&sa, 1, &esp), with_trailer(&packet, 4));
    }
    let mut received = inbound(&sa);
    let packet = inner4(20);
    // More padding than needed is the sender's right: 40 + 246 + 2 octets are whole blocks.
    let longest = [&packet[..], &(1..=246).collect::<Vec<u8>>(), &[246, 4]].concat();
    assert_eq!(
        open(
            &mut received,
            &with_plaintext(&sa, 1, &longest),
            &outer_of(&sa)
        )
        .unwrap()
        .1,
        packet
    );
    let good = with_trailer(&packet, 4);
    let pad_len_at = good.len() - 2;
    for (at, value) in [
        (pad_len_at, 255),
        (pad_len_at, good.len() as u8 - 1),
        (pad_len_at - 1, 0),
        (pad_len_at - 6, 9),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        let error = open(&mut received, &with_plaintext(&sa, 1, &bad), &outer_of(&sa)).unwrap_err();
        assert_eq!(error, OpenError::Padding, "octet {at} = {value}");
        assert_eq!(error.counter(), Some(Counter::InStateProtoError));
    }
}

#[test]
fn tfc_padding_hides_sizes_in_tunnel_mode() {
    let sa = Sa {
        tfc_pad: 500,
        ..sa()
    };
    let sent = outbound(&sa);
    let mut received = inbound(&sa);
    let mut sizes: Vec<usize> = Vec::new();
    for (sequence, packet) in (1..).zip([inner4(0), inner4(300), inner6(17), inner4(480)]) {
        let (sealed, esp) = seal(&sent, sequence, &packet).unwrap();
        assert_eq!(sealed.counted, packet.len());
        sizes.push(esp.len());
        let (opened, inner) = open(&mut received, &esp, &outer_of(&sa)).unwrap();
        assert_eq!((inner, opened.counted), (packet, 500));
    }
    sizes.dedup();
    assert_eq!(sizes.len(), 1);
    // Not beyond what the path carries,
    sent.set_path_mtu(400);
    let (_, esp) = seal(&sent, 9, &inner4(0)).unwrap();
    assert!(
        (390..=380 + 20).contains(&(esp.len() + 20)),
        "{}",
        esp.len()
    );
    // and not in transport mode, where not every protocol tells its own length.
    let transport = Sa {
        mode: Mode::Transport,
        tfc_pad: 500,
        ..sa
    };
    let (_, esp) = seal(
        &outbound(&transport),
        1,
        &ip(WEST, EAST, 253, 0, true, &[1; 10]),
    )
    .unwrap();
    assert_eq!(esp.len(), 8 + 8 + 12 + 16);
}

#[test]
fn dummy_packets_are_dropped_without_an_error() {
    //= rfc4303#2.6
    //= type=test
    //# a receiver MUST be prepared to discard such packets,
    //# without indicating an error.
    for mode in [Mode::Tunnel, Mode::Transport] {
        let sa = Sa { mode, ..sa() };
        let sent = outbound(&sa);
        let mut received = inbound(&sa);
        for (sequence, len) in (1..).zip([0, 1, 200]) {
            let (_, esp) = within(&[], ROOM, len + ROOM, |buffer| {
                sent.seal_dummy(sequence, buffer, len).unwrap()
            });
            let plain = plaintext(&sa, sequence, &esp);
            assert_eq!(plain[plain.len() - 1], NO_NEXT_HEADER);
            let error = open(&mut received, &esp, &outer_of(&sa)).unwrap_err();
            assert_eq!((error, error.counter()), (OpenError::Dummy, None));
            // It is authentic, and as such not to be seen twice.
            assert_eq!(received.replay().top(), sequence);
        }
    }
}
