//! What tunnel and transport mode do to headers and sizes, and which SAs cannot be.

mod support;

use cygnet_esp::{IpError, OpenError, Outbound, OuterHeader, PacketBuffer, SaError, SealError};
use cygnet_ipsec::{Counter, Encap, EncapKind, Mode, Protocol, Sa, SaDirection, SaFlags, SaId};
use support::*;

// ---------------------------------------------------------------------------------------------------------------
// Tunnel mode headers

#[test]
fn the_outer_header_follows_the_inner_one() {
    let flags = |flags| Sa { flags, ..sa() };
    let plain = SaFlags::default();
    let inner = |tos, dont_fragment| ip("10.1.0.2", "10.2.0.1", 253, tos, dont_fragment, &[]);
    for (sa, packet, tos, dont_fragment) in [
        (flags(plain), inner(0xb9, true), 0xb9, true),
        (flags(plain), inner(0xbb, false), 0xbb, false),
        (
            flags(SaFlags {
                no_ecn: true,
                ..plain
            }),
            inner(0xbb, true),
            0xb8,
            true,
        ),
        (
            flags(SaFlags {
                dont_encap_dscp: true,
                ..plain
            }),
            inner(0xba, true),
            0x02,
            true,
        ),
        (
            flags(SaFlags {
                no_pmtu_disc: true,
                ..plain
            }),
            inner(0, true),
            0,
            false,
        ),
        // IPv6 is never fragmented by routers: as if DF were set.
        (
            flags(plain),
            ip(WEST6, EAST6, 253, 0x2e, false, &[]),
            0x2e,
            true,
        ),
    ] {
        let outer = seal(&outbound(&sa), 1, &packet).unwrap().0.outer;
        assert_eq!((outer.tos, outer.dont_fragment), (tos, dont_fragment));
        assert_eq!(
            (outer.src, outer.dst, outer.hop_limit, outer.flow_label),
            (sa.src, sa.id.dst, 64, 0)
        );
    }
    let mut sent = outbound(&over_ipv6(sa()));
    sent.set_hop_limit(7);
    let outer = seal(&sent, 1, &inner6(0)).unwrap().0.outer;
    assert_eq!((outer.flow_label, outer.hop_limit), (0xabcde, 7));
}

#[test]
fn congestion_reaches_the_inner_header_and_its_checksum() {
    let sa = sa();
    for (inner_tos, outer_tos, expected) in [
        (0xb8, 0x00, Some(0xb8)),
        (0xba, 0x03, Some(0xbb)),
        (0xb9, 0x03, Some(0xbb)),
        (0xba, 0x01, Some(0xb9)),
        (0xb8, 0x03, None),
    ] {
        for (src, dst) in [("10.1.0.2", "10.2.0.1"), ("2001:db8:1::2", "2001:db8:2::1")] {
            let packet = |tos| ip(src, dst, 253, tos, true, &payload(30));
            let (sealed, esp) = seal(&outbound(&sa), 1, &packet(inner_tos)).unwrap();
            let outer = OuterHeader {
                tos: outer_tos,
                ..sealed.outer
            };
            let result = open(&mut inbound(&sa), &esp, &outer);
            match expected {
                Some(tos) => assert_eq!(result.unwrap().1, packet(tos)),
                None => {
                    let error = result.unwrap_err();
                    assert_eq!(
                        (error, error.counter()),
                        (OpenError::Congestion, Some(Counter::InStateModeError))
                    );
                }
            }
        }
    }
}

#[test]
fn a_tunnel_carries_ip_and_nothing_else() {
    let sa = Sa {
        replay_window: 0,
        ..sa()
    };
    let mut received = inbound(&sa);
    let mut fails = |payload: &[u8], next_header| {
        let esp = with_plaintext(&sa, 1, &with_trailer(payload, next_header));
        let error = open(&mut received, &esp, &outer_of(&sa)).unwrap_err();
        assert_eq!(error.counter(), Some(Counter::InStateModeError));
        error
    };
    assert_eq!(fails(&inner4(8), 17), OpenError::NextHeader(17));
    assert_eq!(fails(&inner6(8), 4), OpenError::Inner(IpError::Version(6)));
    assert_eq!(fails(&inner4(8), 41), OpenError::Inner(IpError::Version(4)));
    assert_eq!(
        fails(&inner4(8)[..27], 4),
        OpenError::Inner(IpError::Truncated { have: 27, need: 28 })
    );
    assert_eq!(
        fails(&[], 4),
        OpenError::Inner(IpError::Truncated { have: 0, need: 20 })
    );
}

//= rfc3948#2.1
//= type=test
//# the Source Port and Destination Port MUST be the same as that used
//# by IKE traffic,
#[test]
fn udp_encapsulation_writes_ports_length_and_over_ipv6_a_checksum() {
    for sa in [sa(), over_ipv6(sa())] {
        let encap = Encap {
            kind: EncapKind::Udp,
            local_port: 4500,
            remote_port: 40_001,
        };
        let sent = outbound(&Sa {
            encap: Some(encap),
            ..sa.clone()
        });
        let ((), wire) = within(&inner4(10), sent.headroom(), sent.tailroom(), |buffer| {
            let sealed = sent.seal(1, buffer).unwrap();
            sent.write_outer(&sealed, buffer, 0x4242).unwrap();
        });
        let header = if sa.src.is_ipv4() { 20 } else { 40 };
        assert_eq!(wire[header..header + 4], [0x11, 0x94, 0x9c, 0x41]);
        assert_eq!(
            usize::from(u16::from_be_bytes([wire[header + 4], wire[header + 5]])),
            wire.len() - header
        );
        if sa.src.is_ipv4() {
            assert_eq!(wire[header + 6..header + 8], [0, 0]);
        } else {
            let len = (wire.len() - header) as u8;
            let pseudo = [&wire[8..40], &[0, 0, 0, len, 0, 0, 0, 17], &wire[header..]].concat();
            assert_eq!(checksum(&pseudo), 0);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Transport mode

/// What transport mode leaves in front of ESP, and what it names as protected.
fn transport(packet: &[u8], ipv6: bool) -> Result<(Vec<u8>, u8), SealError> {
    let sa = Sa {
        mode: Mode::Transport,
        ..sa()
    };
    let sa = if ipv6 { over_ipv6(sa) } else { sa };
    let sent = outbound(&sa);
    let (result, wire) = within(packet, sent.headroom(), sent.tailroom(), |buffer| {
        let sealed = sent.seal(1, buffer)?;
        let esp = buffer.range().start;
        sent.write_outer(&sealed, buffer, 0)?;
        Ok::<_, SealError>(esp - buffer.range().start)
    });
    let headers = result?;
    let plain = plaintext(&sa, 1, &wire[headers..]);
    assert_eq!(
        wire.len(),
        if ipv6 {
            40 + usize::from(u16::from_be_bytes([wire[4], wire[5]]))
        } else {
            assert_eq!(checksum(&wire[..headers]), 0);
            usize::from(u16::from_be_bytes([wire[2], wire[3]]))
        }
    );
    Ok((wire[..headers].to_vec(), plain[plain.len() - 1]))
}

#[test]
fn transport_mode_keeps_ipv4_options_in_front() {
    let mut packet = ip(WEST, EAST, 6, 0, true, &payload(24));
    // Four octets of no-operation options.
    packet.splice(20..20, [1; 4]);
    packet[0] = 0x46;
    packet[3] += 4;
    let (headers, protected) = transport(&packet, false).unwrap();
    assert_eq!(
        (headers.len(), headers[9], &headers[20..], protected),
        (24, 50, &[1; 4][..], 6)
    );
}

#[test]
fn transport_mode_puts_esp_behind_the_right_extension_headers() {
    let extension =
        |next, octets: usize| [&[next, (octets / 8 - 1) as u8][..], &vec![0; octets - 2]].concat();
    let packet = |first, chain: &[Vec<u8>]| ip(WEST6, EAST6, first, 0, false, &chain.concat());
    let data = payload(24);
    for (what, packet, headers_len, esp_named_at, protected) in [
        ("none", packet(6, std::slice::from_ref(&data)), 40, 6, 6),
        (
            "hop-by-hop",
            packet(0, &[extension(6, 8), data.clone()]),
            48,
            40,
            6,
        ),
        (
            "hop-by-hop, routing",
            packet(0, &[extension(43, 8), extension(6, 24), data.clone()]),
            72,
            48,
            6,
        ),
        (
            "destination options",
            packet(60, &[extension(6, 16), data.clone()]),
            40,
            6,
            60,
        ),
        (
            "destination options, routing, destination options",
            packet(
                60,
                &[
                    extension(43, 16),
                    extension(60, 8),
                    extension(6, 8),
                    data.clone(),
                ],
            ),
            64,
            56,
            60,
        ),
    ] {
        let (headers, inside) = transport(&packet, true).unwrap();
        assert_eq!(
            (headers.len(), inside, headers[esp_named_at]),
            (headers_len, protected, 50),
            "{what}"
        );
    }
    // An extension header that is longer than the packet.
    assert_eq!(
        transport(&packet(0, &[extension(6, 8)[..1].to_vec()]), true).unwrap_err(),
        SealError::Malformed(IpError::Length)
    );
    assert_eq!(
        transport(&packet(0, &[[6, 9].to_vec(), data]), true).unwrap_err(),
        SealError::Malformed(IpError::Length)
    );
}

#[test]
fn transport_mode_refuses_fragments_and_the_other_family() {
    //= rfc4303#3.1.1
    //= type=test
    //# Thus, transport mode ESP is applied only to
    //# whole IP datagrams (not to IP fragments).
    for fragment_field in [[0x20, 0x00], [0x00, 0x08]] {
        let mut packet = ip(WEST, EAST, 6, 0, false, &payload(24));
        packet[6..8].copy_from_slice(&fragment_field);
        assert_eq!(transport(&packet, false).unwrap_err(), SealError::Fragment);
        // A tunnel carries fragments.
        seal(&outbound(&sa()), 1, &packet).unwrap();
    }
    let packet = ip(
        WEST6,
        EAST6,
        44,
        0,
        false,
        &[&[6, 0, 0, 1, 0, 0, 0, 1][..], &payload(24)].concat(),
    );
    assert_eq!(transport(&packet, true).unwrap_err(), SealError::Fragment);
    assert_eq!(transport(&packet, false).unwrap_err(), SealError::Family);
    assert_eq!(transport(&inner4(3), true).unwrap_err(), SealError::Family);
}

#[test]
fn transport_mode_through_a_nat_mends_checksums() {
    let sa = Sa {
        mode: Mode::Transport,
        encap: Some(UDP_4500),
        ..sa()
    };
    let behind_nat = "10.9.0.2";
    let with_checksum = |src: &str, protocol: u8, mut segment: Vec<u8>, at: usize| {
        let packet = ip(src, EAST, protocol, 0, true, &segment);
        let pseudo = [
            &packet[12..20],
            &[0, protocol],
            &(segment.len() as u16).to_be_bytes(),
            &segment,
        ]
        .concat();
        let sum = checksum(&pseudo);
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        ip(src, EAST, protocol, 0, true, &segment)
    };
    let mut tcp = payload(33);
    tcp[16..18].fill(0);
    let mut udp = [&[0x13, 0x88, 0x13, 0x89, 0, 21, 0, 0][..], &payload(13)].concat();
    for (protocol, segment, at) in [(6, &mut tcp, 16), (17, &mut udp, 6)] {
        let sent_packet = with_checksum(behind_nat, protocol, segment.clone(), at);
        let expected = with_checksum(WEST, protocol, segment.clone(), at);
        let (_, esp) = seal(&outbound(&sa), 1, &sent_packet).unwrap();
        // The NAT has changed the source to west.
        let outer = OuterHeader {
            hop_limit: 63,
            dont_fragment: true,
            ..outer_of(&sa)
        };
        let (_, mut packet) = open(&mut inbound(&sa), &esp, &outer).unwrap();
        packet[..20].copy_from_slice(&expected[..20]);
        assert_eq!(packet, expected);
    }
    // UDP without a checksum stays without.
    let packet = ip(behind_nat, EAST, 17, 0, true, &udp);
    let (_, esp) = seal(&outbound(&sa), 1, &packet).unwrap();
    let (_, opened) = open(&mut inbound(&sa), &esp, &outer_of(&sa)).unwrap();
    assert_eq!(opened[26..28], [0, 0]);
}

// ---------------------------------------------------------------------------------------------------------------
// Sizes

#[test]
fn sizes_decide_as_the_kernel_does() {
    let sent = outbound(&sa());
    assert_eq!(sent.path_mtu(), 65_535);
    sent.check_size(&inner4(60_000)).unwrap();
    sent.set_path_mtu(1500);
    assert_eq!(sent.max_inner(), 1446);
    sent.check_size(&inner4(1446 - 20)).unwrap();
    assert_eq!(
        sent.check_size(&inner4(1447 - 20)),
        Err(SealError::TooBig { mtu: 1446 })
    );
    // Without DF the outer packet is fragmented.
    sent.check_size(&ip("10.1.0.2", "10.2.0.1", 253, 0, false, &payload(1480)))
        .unwrap();
    // IPv6 is told at least 1280, and carried if it keeps to that.
    sent.set_path_mtu(1300);
    assert_eq!(sent.max_inner(), 1246);
    sent.check_size(&inner6(1280 - 40)).unwrap();
    assert_eq!(
        sent.check_size(&inner6(1281 - 40)),
        Err(SealError::TooBig { mtu: 1280 })
    );
    // A path that carries nothing.
    sent.set_path_mtu(40);
    assert_eq!(sent.max_inner(), 0);
}

#[test]
fn the_mtu_is_the_largest_size_that_fits() {
    for (name, encryption, integrity) in suites() {
        for mode in [Mode::Tunnel, Mode::Transport] {
            for encap in [None, Some(UDP_4500)] {
                for mtu in 576..=640 {
                    let sa = Sa {
                        encryption: Some(encryption.clone()),
                        integrity: integrity.clone(),
                        mode,
                        encap,
                        ..sa()
                    };
                    let sent = outbound(&sa);
                    sent.set_path_mtu(mtu);
                    let fits = |len: usize| {
                        let packet = ip(WEST, EAST, 253, 0, true, &payload(len - 20));
                        let ((), wire) =
                            within(&packet, sent.headroom(), sent.tailroom(), |buffer| {
                                let sealed = sent.seal(1, buffer).unwrap();
                                sent.write_outer(&sealed, buffer, 0).unwrap();
                            });
                        wire.len() <= mtu as usize
                    };
                    let max = sent.max_inner();
                    assert!(
                        fits(max) && !fits(max + 1),
                        "{name} {mode:?} mtu {mtu}: {max}"
                    );
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// SAs that cannot be

#[test]
fn unsuitable_sas_are_refused() {
    let refused = |sa: Sa| Outbound::new(&sa).unwrap_err();
    let id = |id| Sa { id, ..sa() };
    assert_eq!(
        refused(id(SaId {
            protocol: Protocol::Comp,
            ..sa().id
        })),
        SaError::Protocol(Protocol::Comp)
    );
    assert_eq!(
        refused(id(SaId {
            spi: 255,
            ..sa().id
        })),
        SaError::ReservedSpi(255)
    );
    assert_eq!(
        refused(id(SaId {
            dst: EAST6.parse().unwrap(),
            ..sa().id
        })),
        SaError::MixedFamilies
    );
    assert_eq!(
        refused(Sa {
            mode: Mode::Iptfs,
            ..sa()
        }),
        SaError::Mode(Mode::Iptfs)
    );
    assert_eq!(
        refused(Sa {
            direction: SaDirection::In,
            ..sa()
        }),
        SaError::Direction
    );
    let mut short = sa();
    short.encryption.as_mut().unwrap().key = key([0; 19]);
    assert!(matches!(refused(short), SaError::Keys(_)));
    let esn_without_window = Sa {
        esn: true,
        replay_window: 0,
        direction: SaDirection::In,
        ..sa()
    };
    assert!(matches!(
        cygnet_esp::Inbound::new(&esn_without_window),
        Err(SaError::ReplayWindow(_))
    ));
}

#[test]
fn debug_output_shows_no_key() {
    let shown = format!("{:?} {:?}", outbound(&sa()), inbound(&sa()));
    // The key counts up from zero.
    assert!(
        !shown.contains("0, 1, 2, 3") && !shown.contains("00010203"),
        "{shown}"
    );
}

#[test]
fn stripping_gives_what_lies_behind_the_header() {
    let mut wire = [ip(WEST, EAST, 50, 0xb9, true, b"payload"), vec![0; 5]].concat();
    let len = wire.len();
    let mut buffer = PacketBuffer::new(&mut wire, 0..len).unwrap();
    let (outer, protocol) = OuterHeader::strip(&mut buffer).unwrap();
    assert_eq!((buffer.bytes(), protocol), (&b"payload"[..], 50));
    let expected = OuterHeader {
        tos: 0xb9,
        hop_limit: 63,
        dont_fragment: true,
        ..outer_of(&sa())
    };
    assert_eq!(outer, expected);
}

// ---------------------------------------------------------------------------------------------------------------
// Sizes by number

#[test]
fn the_overhead_is_known_without_keys() {
    use cygnet_crypto::{Encryption, Integrity};
    use cygnet_esp::Overhead;
    use cygnet_ipsec::{CipherKey, IntegrityKey, KeyMaterial};
    let mut compared = 0;
    for encryption in Encryption::ALL {
        for integrity in [
            None,
            Some(Integrity::HmacSha256_128),
            Some(Integrity::HmacSha512_256),
        ] {
            let key = |len| KeyMaterial::new(vec![7; len]);
            let with_keys = Sa {
                encryption: Some(CipherKey {
                    transform: encryption.iana_id(),
                    key: key(encryption.key_len()),
                }),
                integrity: integrity.map(|integrity| IntegrityKey {
                    transform: integrity.iana_id(),
                    key: key(integrity.key_len()),
                }),
                ..sa()
            };
            let Ok(outbound) = Outbound::new(&with_keys) else {
                continue;
            };
            assert_eq!(
                Overhead::of(&with_keys),
                Some(*outbound.overhead()),
                "{encryption:?} {integrity:?}"
            );
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared}");
}
