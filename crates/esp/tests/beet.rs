//! BEET mode: what travels is the payload of the inner packet, between other addresses.

mod support;

use std::time::Duration;

use cygnet_esp::{Inbound, OpenError, Outbound, OuterHeader, SaError, SealError};
use cygnet_ipsec::{Mode, Sa, SaDirection, Selector};
use support::*;

const INNER4: [&str; 2] = ["10.1.0.2", "10.2.0.1"];
const INNER6: [&str; 2] = ["2001:db8:1::2", "2001:db8:2::1"];

fn beet(inner: [&str; 2]) -> Sa {
    let host = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
    Sa {
        mode: Mode::Beet,
        selector: Some(Selector::new(host(inner[0]), host(inner[1]))),
        ..sa()
    }
}

/// The four pairs of families.
fn sas() -> Vec<(Sa, Vec<u8>)> {
    let packets = [(INNER4, inner4(100)), (INNER6, inner6(100))];
    packets
        .into_iter()
        .flat_map(|(inner, packet)| {
            let sa = beet(inner);
            [(over_ipv6(sa.clone()), packet.clone()), (sa, packet)]
        })
        .collect()
}

/// Protocol 94 says that a pseudo header follows: the receiver would read one in the payload.
#[test]
fn the_protocol_of_the_pseudo_header_does_not_travel() {
    let packet = ip(INNER4[0], INNER4[1], 94, 0, true, &payload(40));
    assert_eq!(
        seal(&outbound(&beet(INNER4)), 1, &packet).unwrap_err(),
        SealError::BeetProtocol
    );
    // Over IPv6 there is none, and it is a protocol as any other.
    let packet = ip(INNER6[0], INNER6[1], 94, 0, true, &payload(40));
    assert!(seal(&outbound(&beet(INNER6)), 1, &packet).is_ok());
}

#[test]
fn either_family_travels_over_either_without_its_header() {
    for (sa, packet) in sas() {
        let v6 = packet[0] >> 4 == 6;
        let header = if v6 { 40 } else { 20 };
        let (sealed, esp) = seal(&outbound(&sa), 1, &packet).unwrap();
        assert_eq!(sealed.outer.dst, sa.id.dst);
        assert_eq!(sealed.outer.hop_limit, 63, "that of the inner header");
        assert_eq!(sealed.counted, packet.len() - header);
        // The payload, and what it is, in the trailer.
        let inside = plaintext(&sa, 1, &esp);
        assert_eq!(inside, with_trailer4(&packet[header..], 253));
        let (opened, received) = open(&mut inbound(&sa), &esp, &sealed.outer).unwrap();
        assert_eq!(opened.counted, sealed.counted);
        // The IPv4 identification does not travel, nor does the flow label over IPv4.
        let mut expected = packet.clone();
        if v6 && sa.id.dst.is_ipv4() {
            expected[1] &= 0xf0;
            expected[2..4].fill(0);
        }
        if !v6 {
            expected[4..6].fill(0);
            expected[10..12].fill(0);
            let sum = checksum(&expected[..20]);
            expected[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        assert_eq!(received, expected, "{:?}", sa.id.dst);
    }
}

/// Payload, padding to 4, pad length, next header.
fn with_trailer4(payload: &[u8], next_header: u8) -> Vec<u8> {
    let pad = (payload.len() + 2).next_multiple_of(4) - payload.len() - 2;
    let mut bytes = payload.to_vec();
    bytes.extend(1..=pad as u8);
    bytes.extend([pad as u8, next_header]);
    bytes
}

/// A packet with IPv4 options and what travels of it, octet by octet as the draft (section 5.3) and the kernel have it.
#[test]
fn ipv4_options_travel_in_a_pseudo_header() {
    let router_alert = [0x94, 0x04, 0, 0];
    let record_route = [7, 7, 4, 0, 0, 0, 0, 1];
    let cases: [(&[u8], &[u8]); 3] = [
        (&router_alert, &[253, 0, 0, 0, 0x94, 0x04, 0, 0]),
        (
            &record_route,
            &[253, 1, 4, 0, 1, 1, 1, 1, 7, 7, 4, 0, 0, 0, 0, 1],
        ),
        (
            &[0x94, 0x04, 0, 0, 7, 7, 4, 0, 0, 0, 0, 1],
            &[253, 1, 0, 0, 0x94, 0x04, 0, 0, 7, 7, 4, 0, 0, 0, 0, 1],
        ),
    ];
    for outer6 in [false, true] {
        for (options, travels) in cases {
            let mut packet = ip(INNER4[0], INNER4[1], 253, 0, true, b"payload!");
            packet.splice(20..20, options.iter().copied());
            packet[0] = 0x45 + (options.len() / 4) as u8;
            packet[3] += options.len() as u8;
            packet[4..6].fill(0);
            packet[10..12].fill(0);
            let sum = checksum(&packet[..20 + options.len()]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());

            let sa = match outer6 {
                false => beet(INNER4),
                true => over_ipv6(beet(INNER4)),
            };
            let (sealed, esp) = seal(&outbound(&sa), 1, &packet).unwrap();
            let inside = plaintext(&sa, 1, &esp);
            let expected = [travels, b"payload!"].concat();
            assert_eq!(inside, with_trailer4(&expected, 94));
            let (_, received) = open(&mut inbound(&sa), &esp, &sealed.outer).unwrap();
            let mut expected = packet.clone();
            if outer6 {
                // "Do not fragment" does not travel over IPv6: nothing is said about the fragments of what is inside.
                expected[6] = received[6];
                expected[10..12].fill(0);
                let sum = checksum(&expected[..20 + options.len()]);
                expected[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            assert_eq!(received, expected);
        }
    }
}

#[test]
fn only_packets_between_the_two_hosts_are_sealed() {
    let sa = beet(INNER4);
    for (src, dst) in [
        ("10.1.0.3", INNER4[1]),
        (INNER4[0], "10.2.0.9"),
        (INNER4[1], INNER4[0]),
    ] {
        let packet = ip(src, dst, 253, 0, true, b"x");
        assert_eq!(
            seal(&outbound(&sa), 1, &packet),
            Err(SealError::BeetAddresses)
        );
    }
    assert_eq!(
        seal(&outbound(&sa), 1, &inner6(9)),
        Err(SealError::BeetAddresses)
    );
    let mut fragment = inner4(8);
    fragment[6] = 0x20;
    assert_eq!(seal(&outbound(&sa), 1, &fragment), Err(SealError::Fragment));
}

#[test]
fn malformed_pseudo_headers_are_refused() {
    let sa = beet(INNER4);
    let outer = OuterHeader::between(sa.src, sa.id.dst);
    let cases: [&[u8]; 6] = [
        &[],
        &[253, 0, 0],
        // More padding than there is.
        &[253, 0, 8, 0, 1, 1, 1, 1],
        // Options that are no multiple of four.
        &[253, 0, 1, 0, 1, 1, 1, 1],
        // Longer than an IPv4 header has room for, and longer than the packet.
        &[253, 6, 4, 0, 1, 1, 1, 1],
        &[253, 2, 4, 0, 1, 1, 1, 1, 1, 1, 1, 1],
    ];
    for case in cases {
        let esp = with_plaintext(&sa, 1, &with_trailer4(case, 94));
        assert_eq!(
            open(&mut inbound(&sa), &esp, &outer),
            Err(OpenError::PseudoHeader),
            "{case:?}"
        );
    }
    // For IPv6 hosts it is a protocol like any other.
    let sa = beet(INNER6);
    let esp = with_plaintext(&sa, 1, &with_trailer4(&[253, 0], 94));
    let (_, received) = open(&mut inbound(&sa), &esp, &outer).unwrap();
    assert_eq!((received[6], received.len()), (94, 42));
}

#[test]
fn sas_without_two_hosts_are_refused() {
    let good = beet(INNER4);
    for selector in [
        None,
        Some(Selector::new(
            "10.1.0.0/24".parse().unwrap(),
            "10.2.0.1/32".parse().unwrap(),
        )),
        Some(Selector::new(
            "10.1.0.2/32".parse().unwrap(),
            "2001:db8:2::1/128".parse().unwrap(),
        )),
    ] {
        let sa = Sa {
            selector,
            ..good.clone()
        };
        assert_eq!(Outbound::new(&sa).err(), Some(SaError::BeetAddresses));
        let sa = Sa {
            direction: SaDirection::In,
            ..sa
        };
        assert_eq!(Inbound::new(&sa).err(), Some(SaError::BeetAddresses));
    }
}

/// A packet of the size that the MTU leaves fills the path, one octet more does not fit.
#[test]
fn the_mtu_counts_the_header_that_does_not_travel() {
    for (sa, _) in sas() {
        let sent = outbound(&sa);
        sent.set_path_mtu(1400);
        let inner = match sa.selector.unwrap().dst.addr().is_ipv4() {
            true => INNER4,
            false => INNER6,
        };
        let header = if inner == INNER4 { 20 } else { 40 };
        let packet = |len: usize| ip(inner[0], inner[1], 253, 0, true, &payload(len - header));
        let outer = |len: usize| {
            let (sealed, mut esp) = seal(&sent, 1, &packet(len)).unwrap();
            let _ = sealed;
            esp.splice(0..0, vec![0; if sa.id.dst.is_ipv4() { 20 } else { 40 }]);
            esp.len()
        };
        let most = sent.max_inner();
        assert!(outer(most) <= 1400);
        assert!(outer(most + 1) > 1400);
        let room = seal(&sent, 1, &packet(most));
        assert!(room.is_ok());
    }
}

/// An authentic peer that sends nonsense.
#[test]
fn fuzz_open_authentic_beet() {
    let sas: Vec<Sa> = sas()
        .into_iter()
        .map(|(sa, _)| Sa {
            replay_window: 0,
            ..sa
        })
        .collect();
    bolero::check!()
        .with_test_time(Duration::from_millis(800))
        .for_each(|input: &[u8]| {
            let Some((&[selector, tos, next_header], payload)) = input.split_first_chunk() else {
                return;
            };
            let sa = &sas[usize::from(selector) % sas.len()];
            let outer = OuterHeader {
                tos,
                ..OuterHeader::between(sa.src, sa.id.dst)
            };
            let next_header = if next_header & 1 == 0 {
                94
            } else {
                next_header
            };
            let esp = with_plaintext(sa, 1, &with_trailer4(payload, next_header));
            if let Ok((opened, inner)) = open(&mut inbound(sa), &esp, &outer) {
                let len = match inner[0] >> 4 {
                    4 => usize::from(u16::from_be_bytes([inner[2], inner[3]])),
                    6 => 40 + usize::from(u16::from_be_bytes([inner[4], inner[5]])),
                    version => panic!("ip version {version}"),
                };
                assert_eq!(inner.len(), len);
                assert!(opened.counted <= esp.len());
                if inner[0] >> 4 == 4 {
                    let header = usize::from(inner[0] & 15) * 4;
                    assert_eq!(checksum(&inner[..header]), 0);
                }
                // What was opened can be sent back and forth, but for what looks like a dummy packet or a pseudo header then.
                let protocol = inner[if inner[0] >> 4 == 4 { 9 } else { 6 }];
                if let Ok((sealed, again)) = seal(&outbound(sa), 2, &inner)
                    && ![59, 94].contains(&protocol)
                {
                    assert!(open(&mut inbound(sa), &again, &sealed.outer).is_ok());
                }
            }
        });
}
