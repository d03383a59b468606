//! AH (RFC 4302): what its ICV covers, computed here from the RFC's text with another library; what passes and what must not.

mod support;

use std::time::Duration;

use aws_lc_rs::hmac;
use cygnet_esp::{AhHeader, IpError, OpenError, Outbound, SaError, SealError};
use cygnet_ipsec::{IntegrityKey, Mode, Protocol, ReplayError, Sa, SaDirection, SaFlags, SaId};
use support::*;

const AH: u8 = 51;
/// IANA integrity transforms with the octets of their keys and ICVs.
const ALGORITHMS: [(u16, u8, usize); 6] = [
    (2, 20, 12),
    (5, 16, 12),
    (8, 16, 12),
    (12, 32, 16),
    (13, 48, 24),
    (14, 64, 32),
];

fn ah(algorithm: (u16, u8, usize), mode: Mode) -> Sa {
    let (transform, key_len, _) = algorithm;
    Sa {
        id: SaId {
            protocol: Protocol::Ah,
            ..sa().id
        },
        mode,
        encryption: None,
        integrity: Some(IntegrityKey {
            transform,
            key: key((0..key_len).collect::<Vec<_>>()),
        }),
        ..sa()
    }
}

/// With HMAC-SHA-1-96, whose ICV needs no padding.
fn sha1(mode: Mode) -> Sa {
    ah(ALGORITHMS[0], mode)
}

fn icv(octets: &[u8]) -> Vec<u8> {
    let key: Vec<u8> = (0..20).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    hmac::sign(&key, octets).as_ref()[..12].to_vec()
}

fn one(sa: &Sa, packet: &[u8]) -> Vec<u8> {
    seal(&outbound(sa), 1, packet).unwrap().1
}

fn opened(sa: &Sa, packet: &[u8]) -> Result<Vec<u8>, OpenError> {
    open(&mut inbound(sa), packet, &outer_of(sa)).map(|(_, inner)| inner)
}

#[test]
fn every_algorithm_mode_and_family_passes_unchanged() {
    //= rfc4302#2.6
    //= type=test
    //# All implementations MUST
    //# support such padding and MUST insert only enough padding to satisfy
    //# the IPv4/IPv6 alignment requirements.
    for algorithm in ALGORITHMS {
        for mode in [Mode::Tunnel, Mode::Transport] {
            for (v6, align4) in [(false, false), (false, true), (true, false)] {
                for esn in [false, true] {
                    let flags = SaFlags {
                        align4,
                        ..SaFlags::default()
                    };
                    let sa = Sa {
                        esn,
                        flags,
                        ..ah(algorithm, mode)
                    };
                    let sa = if v6 { over_ipv6(sa) } else { sa };
                    let (src, dst) = (sa.src.to_string(), sa.id.dst.to_string());
                    let sent = outbound(&sa);
                    let mut received = inbound(&sa);
                    for len in (0..20).chain([1400]) {
                        let packets = match mode {
                            Mode::Transport => vec![ip(&src, &dst, 253, 0x28, true, &payload(len))],
                            _ => vec![inner4(len), inner6(len)],
                        };
                        for packet in packets {
                            let sequence = sent.reserve(1).unwrap().next().unwrap();
                            let (sealed, wire) = seal(&sent, sequence, &packet).unwrap();
                            let header = if v6 { 40 } else { 20 };
                            let unit = if align4 { 4 } else { 8 };
                            let around = (12 + algorithm.2).next_multiple_of(unit);
                            assert_eq!(usize::from(wire[header + 1]), around / 4 - 2);
                            let kept = if mode == Mode::Transport { header } else { 0 };
                            assert_eq!(wire.len(), header + around + packet.len() - kept);
                            assert_eq!(
                                AhHeader::parse(&wire).map(|h| (h.spi, h.sequence)),
                                Some((sa.id.spi, sequence as u32))
                            );
                            let (opened, inner) =
                                open(&mut received, &wire, &sealed.outer).unwrap();
                            assert_eq!(inner, packet, "{algorithm:?} {mode:?}");
                            assert_eq!(opened.sequence, sequence);
                            assert_eq!(opened.counted, sealed.counted);
                            assert_eq!(opened.counted, packet.len() - kept);
                        }
                    }
                }
            }
        }
    }
}

/// RFC 4302 §3.3.3.1.1 and appendix A1, octet by octet.
#[test]
fn the_icv_over_ipv4_is_that_of_the_rfc() {
    //= rfc4302#2.3
    //= type=test
    //# This 16-bit field is reserved for future use.  It MUST be set to
    //# "zero" by the sender, and it SHOULD be ignored by the recipient.
    //= rfc4302#3.3.3.1.1.2
    //= type=test
    //# if an option is classified as mutable, the entire option
    //# is zeroed for ICV computation purposes.
    let packet = hex("48 b8 0028 1234 4000 3f fd 0000 c0000201 c0000202 \
         94 04 0000  07 07 04 00000000  00 \
         01020304 05060708");
    let sa = sha1(Mode::Transport);
    let wire = one(&sa, &packet);
    // TOS, flags, offset, TTL, checksum and the recorded route as zeros; the router alert as it is.
    let covered = hex("48 00 0040 1234 0000 00 33 0000 c0000201 c0000202 \
         94 04 0000  00 00 00 00000000  00 \
         fd 04 0000 c1000001 00000001 000000000000000000000000 \
         01020304 05060708");
    assert_eq!(wire[44..56], icv(&covered));
    assert_eq!(wire[32..44], covered[32..44]);
    assert_eq!(wire[..10], hex("48 b8 0040 1234 4000 3f 33"));
    assert_eq!(checksum(&wire[..32]), 0);
    // With extended sequence numbers their high half stands behind the payload.
    let esn = Sa { esn: true, ..sa };
    let (_, wire) = seal(&outbound(&esn), 0x5_0000_0001, &packet).unwrap();
    assert_eq!(wire[44..56], icv(&[&covered[..], &[0, 0, 0, 5]].concat()));
}

/// RFC 4302 §3.3.3.1.2 and appendix A2, octet by octet.
#[test]
fn the_icv_over_ipv6_is_that_of_the_rfc() {
    //= rfc4302#3.3.3.1.2.2
    //= type=test
    //# For any option for which contents
    //# may change en-route, the entire "Option Data" field must be treated
    //# as zero-valued octets when computing or verifying the ICV.
    let addresses = "20010db8000000000000000000000001 20010db8000000000000000000000002";
    // Hop-by-hop: a router alert (5), then one of type 0x3e that may change. A routing header (of type 253) at its end.
    let extensions = "2b 01 0502 0000 3e02 beef 01 04 00000000  33 00 fd 00 00000000";
    let packet = hex(&format!(
        "6ab abcde 0020 00 3f {addresses} {} 01020304 05060708",
        extensions.replace("33 00 fd", "11 00 fd")
    ));
    let sa = over_ipv6(sha1(Mode::Transport));
    let wire = one(&sa, &packet);
    let covered = hex(&format!(
        "600 00000 0038 00 00 {addresses} {} \
         11 04 0000 c1000001 00000001 000000000000000000000000 01020304 05060708",
        extensions.replace("beef", "0000")
    ));
    assert_eq!(wire[76..88], icv(&covered));
    assert_eq!(wire[64..76], covered[64..76]);
    assert_eq!(wire[40..64], hex(extensions));
    assert_eq!(opened(&sa, &wire).unwrap(), packet);
}

/// Every octet of a packet, changed: either it may change on the way, or the packet is refused.
#[test]
fn only_what_routers_change_may_be_changed() {
    //= rfc4302#3.4.3
    //= type=test
    //# If the received packet falls within the window and is not a
    //# duplicate, or if the packet is to the right of the window, then the
    //# receiver proceeds to ICV verification.  If the ICV validation fails,
    //# the receiver MUST discard the received IP datagram as invalid.
    for v6 in [false, true] {
        let sa = sha1(Mode::Tunnel);
        let sa = if v6 { over_ipv6(sa) } else { sa };
        let wire = one(&sa, &inner4(40));
        let mutable: &[usize] = match v6 {
            // TOS, DF, TTL, checksum.
            false => &[1, 6, 8, 10, 11],
            // The low half of the traffic class, the flow label, the hop limit.
            true => &[1, 2, 3, 7],
        };
        for at in 0..wire.len() {
            let mut changed = wire.clone();
            // ECN stays out of it: it goes to the inner header.
            changed[at] ^= if !v6 && at == 1 { 4 } else { 0x40 };
            let accepted = opened(&sa, &changed).is_ok();
            assert_eq!(accepted, mutable.contains(&at), "octet {at}");
        }
    }
}

#[test]
fn repeated_packets_are_refused() {
    //= rfc4302#3.4.3
    //= type=test
    //# For each received packet, the receiver MUST
    //# verify that the packet contains a Sequence Number that does not
    //# duplicate the Sequence Number of any other packets received during
    //# the life of this SA.
    let sa = sha1(Mode::Tunnel);
    let wire = one(&sa, &inner4(40));
    let mut received = inbound(&sa);
    let mut forged = wire.clone();
    forged[60] ^= 1;
    let outer = outer_of(&sa);
    assert_eq!(
        open(&mut received, &forged, &outer).unwrap_err(),
        OpenError::NotAuthentic
    );
    assert!(open(&mut received, &wire, &outer).is_ok());
    assert_eq!(
        open(&mut received, &wire, &outer).unwrap_err(),
        OpenError::Replay(ReplayError::Replayed)
    );
}

#[test]
fn fragments_are_refused() {
    //= rfc4302#3.4.1
    //= type=test
    //# If a
    //# packet offered to AH for processing appears to be an IP fragment,
    //# i.e., the OFFSET field is nonzero or the MORE FRAGMENTS flag is set,
    //# the receiver MUST discard the packet; this is an auditable event.
    let sa = sha1(Mode::Tunnel);
    let wire = one(&sa, &inner4(40));
    for fragment in [0x20, 0x01] {
        let mut changed = wire.clone();
        changed[6] |= fragment;
        assert_eq!(opened(&sa, &changed), Err(OpenError::Fragment));
    }
    let v6 = over_ipv6(sha1(Mode::Tunnel));
    let mut wire = one(&v6, &inner4(40));
    wire[6] = 44;
    wire.splice(40..40, [AH, 0, 0, 0, 0, 0, 0, 1]);
    wire[5] += 8;
    assert_eq!(opened(&v6, &wire), Err(OpenError::Fragment));
    // Nor does transport mode seal one.
    let mut fragment = ip(WEST, EAST, 253, 0, false, &payload(40));
    fragment[6] = 0x20;
    assert_eq!(
        seal(&outbound(&sha1(Mode::Transport)), 1, &fragment).unwrap_err(),
        SealError::Fragment
    );
}

/// A header of another length is not that of the SA, whatever its ICV says.
#[test]
fn lengths_that_do_not_fit_are_refused() {
    let sa = sha1(Mode::Tunnel);
    let wire = one(&sa, &inner4(40));
    for units in (0..=255).filter(|units| *units != 4) {
        let mut changed = wire.clone();
        changed[21] = units;
        let refused = opened(&sa, &changed).unwrap_err();
        // Of 5, 4 octets of padding to a multiple of 8 would be due, if it were authentic.
        let expected = match units {
            5 => OpenError::NotAuthentic,
            _ => OpenError::Length(wire.len()),
        };
        assert_eq!(refused, expected, "{units}");
    }
    for len in 0..wire.len() {
        let mut cut = wire[..len].to_vec();
        assert!(opened(&sa, &cut).is_err());
        if len >= 20 {
            cut[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            assert!(opened(&sa, &cut).is_err());
        }
        assert!(AhHeader::parse(&cut).is_none() || len >= 32);
    }
    let esp = one(&support::sa(), &inner4(40));
    assert!(AhHeader::parse(&esp).is_none());
}

/// The addresses that the receiver sees are not those that the sender would have covered.
#[test]
fn source_routes_that_are_not_at_their_end_are_refused() {
    let mut packet = ip(WEST, EAST, 253, 0, true, &payload(8));
    packet.splice(20..20, [131, 7, 4, 192, 0, 2, 9, 0]);
    packet[0] = 0x47;
    packet[3] += 8;
    let out = outbound(&sha1(Mode::Transport));
    let refused = SealError::Malformed(IpError::SourceRoute);
    assert_eq!(seal(&out, 1, &packet).unwrap_err(), refused);
    packet[22] = 8;
    assert!(seal(&out, 2, &packet).is_ok());
    let mut packet = ip(WEST6, EAST6, 43, 0, true, &[17, 0, 253, 1, 0, 0, 0, 0]);
    let out = outbound(&over_ipv6(sha1(Mode::Transport)));
    assert_eq!(seal(&out, 1, &packet).unwrap_err(), refused);
    packet[43] = 0;
    assert!(seal(&out, 2, &packet).is_ok());
    // More headers than anybody has a use for.
    let mut long = vec![17, 63, 1, 254];
    long.resize(512, 0);
    assert!(seal(&out, 3, &ip(WEST6, EAST6, 60, 0, true, &long)).is_ok());
    let long = [&[0, 63, 1, 254], &long[4..], &[17, 0, 1, 4, 0, 0, 0, 0]].concat();
    let long = ip(WEST6, EAST6, 0, 0, true, &long);
    assert_eq!(
        seal(&out, 4, &long).unwrap_err(),
        SealError::Malformed(IpError::Length)
    );
}

#[test]
fn what_is_inside_a_tunnel_is_an_ip_packet() {
    let transport = Sa {
        mode: Mode::Transport,
        ..sha1(Mode::Tunnel)
    };
    let tunnel = sha1(Mode::Tunnel);
    // An authentic peer that says so of something else.
    for (protocol, payload, expected) in [
        (253, payload(40), OpenError::NextHeader(253)),
        (59, payload(40), OpenError::NextHeader(59)),
        (4, inner6(4), OpenError::Inner(IpError::Version(6))),
        (
            41,
            vec![],
            OpenError::Inner(IpError::Truncated { have: 0, need: 20 }),
        ),
    ] {
        let wire = one(&transport, &ip(WEST, EAST, protocol, 0, true, &payload));
        assert_eq!(opened(&tunnel, &wire), Err(expected));
    }
}

#[test]
fn the_largest_packet_that_fits_is_the_one_that_is_announced() {
    for algorithm in ALGORITHMS {
        for (mode, v6) in [
            (Mode::Tunnel, false),
            (Mode::Tunnel, true),
            (Mode::Transport, false),
            (Mode::Transport, true),
        ] {
            let sa = ah(algorithm, mode);
            let sa = if v6 { over_ipv6(sa) } else { sa };
            let out = outbound(&sa);
            out.set_path_mtu(1500);
            let header = if v6 { 40 } else { 20 };
            let payload = payload(out.max_inner() - header);
            let packet = ip(
                &sa.src.to_string(),
                &sa.id.dst.to_string(),
                253,
                0,
                true,
                &payload,
            );
            assert_eq!(out.check_size(&packet), Ok(()));
            assert_eq!(one(&sa, &packet).len(), 1500);
        }
    }
}

#[test]
fn unsuitable_sas_are_refused() {
    let refused = |sa: Sa| Outbound::new(&sa).unwrap_err();
    let sa = sha1(Mode::Tunnel);
    assert_eq!(refused(sha1(Mode::Beet)), SaError::Mode(Mode::Beet));
    assert_eq!(
        refused(Sa {
            encap: Some(UDP_4500),
            ..sa.clone()
        }),
        SaError::Encapsulated
    );
    assert_eq!(
        refused(Sa {
            src: "0.0.0.0".parse().unwrap(),
            ..sa.clone()
        }),
        SaError::OpenSource
    );
    assert_eq!(
        refused(Sa {
            integrity: None,
            ..sa.clone()
        }),
        SaError::NoIntegrity
    );
    assert!(matches!(
        refused(ah((12, 31, 16), Mode::Tunnel)),
        SaError::Keys(_)
    ));
    assert!(matches!(
        refused(ah((1, 16, 12), Mode::Tunnel)),
        SaError::Keys(_)
    ));
    let out = outbound(&sa);
    let (result, _) = within(&[], 100, 100, |buffer| out.seal_dummy(1, buffer, 10));
    assert_eq!(result.unwrap_err(), SealError::NoDummies);
    assert_eq!(
        Outbound::new(&Sa {
            direction: SaDirection::In,
            ..sa
        })
        .unwrap_err(),
        SaError::Direction
    );
}

/// How long each harness runs under plain `cargo test`.
const TEST_TIME: Duration = Duration::from_millis(800);

fn any_of(selector: u8) -> Sa {
    let mode = if selector & 1 == 0 {
        Mode::Tunnel
    } else {
        Mode::Transport
    };
    let sa = Sa {
        replay_window: 0,
        flags: SaFlags {
            align4: selector & 2 != 0,
            ..SaFlags::default()
        },
        ..ah(ALGORITHMS[usize::from(selector >> 3) % 6], mode)
    };
    if selector & 4 == 0 { sa } else { over_ipv6(sa) }
}

/// Arbitrary octets, and arbitrary headers in front of AH, are never accepted.
#[test]
fn fuzz_ah_is_not_opened_without_its_key() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .for_each(|input: &[u8]| {
            let Some((selector, packet)) = input.split_first() else {
                return;
            };
            let sa = any_of(*selector);
            assert!(opened(&sa, packet).is_err());
            let behind = ip(WEST, EAST, AH, 0, false, packet);
            assert!(opened(&sa, &behind).is_err());
            let mut behind = ip(WEST6, EAST6, 0, 0, false, packet);
            assert!(opened(&sa, &behind).is_err());
            behind[6] = packet.first().copied().unwrap_or(AH);
            assert!(opened(&sa, &behind).is_err());
            let _ = AhHeader::parse(&behind);
        });
}

/// Whatever is sealed, options and extension headers included, is opened to what it was; and a peer with the key can send
/// whatever it likes.
#[test]
fn fuzz_ah_around_anything() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .for_each(|input: &[u8]| {
            let Some((&[selector, options, ..], rest)) = input.split_first_chunk::<3>() else {
                return;
            };
            let sa = any_of(selector);
            let (src, dst) = (sa.src.to_string(), sa.id.dst.to_string());
            let mut packet = ip(&src, &dst, input[2], 0, false, rest);
            if sa.src.is_ipv4() {
                packet[0] = 0x45 + options % 11;
            }
            let transport = Sa {
                mode: Mode::Transport,
                ..sa.clone()
            };
            let Ok((sealed, wire)) = seal(&outbound(&transport), 1, &packet) else {
                return;
            };
            let (opened, inner) =
                open(&mut inbound(&transport), &wire, &sealed.outer).expect("it is authentic");
            assert_eq!(opened.counted, sealed.counted);
            // But for the checksum, which is computed anew.
            packet[10..12].copy_from_slice(&inner[10..12]);
            if sa.src.is_ipv4() {
                assert_eq!(inner, packet);
            }
            let tunnel = Sa {
                mode: Mode::Tunnel,
                ..sa
            };
            let _ = self::opened(&tunnel, &wire);
        });
}
