//! IPComp inside ESP and AH.

use cygnet_ipsec::Compression;

use super::*;

const CPI_AB: u32 = 0x4001;
const CPI_BA: u32 = 0x4002;

/// The IPComp SA beside an ESP SA.
fn comp(esp: &Sa, cpi: u32, mode: Mode) -> Sa {
    let id = SaId {
        protocol: Protocol::Comp,
        spi: cpi,
        ..esp.id
    };
    Sa {
        compression: Some(Compression::Deflate),
        ..Sa::new(id, esp.src, esp.direction, mode, esp.reqid)
    }
}

/// A pair that compresses; in transport mode between the outer addresses.
fn compressing(around: &Suite, v6: bool, mode: Mode) -> Pair {
    let mut pair = Pair::new(v6);
    pair.protocol = around.protocol;
    let suite = Suite {
        mode: Mode::Transport,
        ..around.clone()
    };
    pair.sas(&suite);
    let (there, back) = (pair.there(&suite), pair.back(&suite));
    let (there, back) = (comp(&there, CPI_AB, mode), comp(&back, CPI_BA, mode));
    pair.at_a(install(outbound(&there))).unwrap();
    pair.at_b(install(there)).unwrap();
    pair.at_b(install(outbound(&back))).unwrap();
    pair.at_a(install(back)).unwrap();

    let (a, b) = (pair.a.outer, pair.b.outer);
    let nets = match mode {
        Mode::Transport => vec![(a, b)],
        _ => vec![
            (pair.a.inner4, pair.b.inner4),
            (pair.a.inner6, pair.b.inner6),
        ],
    };
    for (net_a, net_b) in nets {
        for (from, to, net_from, net_to, a_sends) in
            [(a, b, net_a, net_b, true), (b, a, net_b, net_a, false)]
        {
            for direction in [Direction::Out, Direction::In] {
                let esp = pair.template(from, to, Mode::Transport);
                let mut policy = policy(direction, net_from, net_to, esp);
                let ipcomp = Template {
                    protocol: Protocol::Comp,
                    optional: direction == Direction::In,
                    ..pair.template(from, to, mode)
                };
                policy.templates.insert(0, ipcomp);
                let command = Command::InstallPolicy(Box::new(policy));
                match (direction == Direction::Out) == a_sends {
                    true => pair.at_a(command).unwrap(),
                    false => pair.at_b(command).unwrap(),
                };
            }
        }
    }
    pair
}

/// Compresses well; of another length each time.
fn long(src: IpAddr, dst: IpAddr, n: usize) -> Vec<u8> {
    udp(src, dst, &vec![n as u8; 1000 + n])
}

/// Does not compress.
fn noise(src: IpAddr, dst: IpAddr) -> Vec<u8> {
    let mut state = 1u64;
    let octets: Vec<u8> = (0..1000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    udp(src, dst, &octets)
}

#[test]
fn what_becomes_smaller_is_compressed_and_the_rest_passes() {
    for (around, v6, mode) in [
        (&GCM, false, Mode::Tunnel),
        (&GCM, true, Mode::Tunnel),
        (&GCM, false, Mode::Transport),
        (&GCM, true, Mode::Transport),
        (&AH, false, Mode::Tunnel),
        (&AH, true, Mode::Tunnel),
        (&AH, false, Mode::Transport),
        (&AH, true, Mode::Transport),
    ] {
        let mut pair = compressing(around, v6, mode);
        let ends = match mode {
            Mode::Transport => vec![(pair.a.outer, pair.b.outer)],
            _ => vec![
                (pair.a.inner4, pair.b.inner4),
                (pair.a.inner6, pair.b.inner6),
            ],
        };
        for (src, dst) in ends {
            let packets = [
                long(src, dst, 1),
                noise(src, dst),
                udp(src, dst, b"short"),
                long(src, dst, 2),
            ];
            let refs: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
            let sent = pair.a_sends(&refs);
            let sizes: Vec<usize> = sent.iter().map(|t| t.packet.len()).collect();
            assert!(sizes[0] < 150 && sizes[3] < 150, "{sizes:?}");
            assert!(sizes[1] > 1000, "{sizes:?}");
            let numbers: Vec<u32> = sent.iter().map(sequence).collect();
            assert!(numbers.is_sorted());
            let received = pair.b_receives(sent);
            assert_eq!(received.len(), 4, "{:?}", pair.b.drops());
            for (received, packet) in received.iter().zip(&packets) {
                // In transport mode the IP header is made anew.
                let from = match (mode, src.is_ipv4()) {
                    (Mode::Transport, true) => 20,
                    (Mode::Transport, false) => 40,
                    _ => 0,
                };
                assert_eq!(received[from..], packet[from..], "{mode:?}");
            }
            assert_eq!(pair.b.drops(), []);
            assert_eq!(pair.a.drops(), []);
        }
    }
}

#[test]
fn both_sas_count_and_expire() {
    let mut pair = compressing(&GCM, false, Mode::Tunnel);
    let there = pair.there(&GCM);
    let id = comp(&there, CPI_AB, Mode::Tunnel).id;
    let (src, dst) = (pair.a.inner4, pair.b.inner4);
    let packet = long(src, dst, 1);
    let sent = pair.a_sends(&[&packet[..]; 3]);
    pair.b_receives(sent);
    let at_a = pair.counters_at_a(id);
    assert_eq!((at_a.packets, at_a.bytes), (3, 3 * packet.len() as u64));
    let at_b = pair.counters_at_b(id);
    assert_eq!((at_b.packets, at_b.bytes), (3, 3 * packet.len() as u64));
    assert!(pair.counters_at_a(there.id).bytes < 300);

    let expiring = Sa {
        lifetime: Lifetime {
            hard_packets: Some(4),
            ..Lifetime::UNLIMITED
        },
        direction: SaDirection::Out,
        ..comp(&there, CPI_AB, Mode::Tunnel)
    };
    pair.at_a(Command::UpdateSa(Box::new(expiring))).unwrap();
    assert_eq!(pair.a_sends(&[&packet[..]; 2]).len(), 1);
    assert_eq!(pair.a.drops(), [(Counter::OutStateExpired, 1)]);
    assert!(matches!(pair.a.event(), Some(Event::Expire(e)) if e.sa == id && e.hard));
}

/// The ends of a tunnel are not opened to whatever lies in ESP: only where IPComp was agreed on is an IP packet inside taken.
#[test]
fn without_ipcomp_nothing_is_decapsulated() {
    let mut pair = compressing(&GCM, false, Mode::Tunnel);
    let packet = pair.small();
    let sent = pair.a_sends(&[&packet]);
    assert_eq!(pair.b_receives(sent).len(), 1);
    let id = comp(&pair.there(&GCM), CPI_AB, Mode::Tunnel).id;
    let sent = pair.a_sends(&[&packet, &long(pair.a.inner4, pair.b.inner4, 0)]);
    pair.at_b(Command::RemoveSa(id)).unwrap();
    // What comes without IPComp is a packet between the ends themselves then, which no policy forbids (K9).
    let received = pair.b_receives(sent);
    assert_eq!(received.len(), 1);
    assert_eq!(
        (received[0][9], &received[0][16..20]),
        (4, &[192, 0, 2, 2][..])
    );
    assert_eq!(pair.b.drops(), [(Counter::InNoStates, 1)]);
}

#[test]
fn a_moved_tunnel_goes_on() {
    let mut pair = compressing(&GCM, false, Mode::Tunnel);
    let elsewhere = ip("192.0.2.77");
    let esp = pair.there(&GCM);
    for sa in [esp.clone(), comp(&esp, CPI_AB, Mode::Tunnel)] {
        let moved = MoveSa {
            id: sa.id,
            src: elsewhere,
            dst: sa.id.dst,
            encap: None,
        };
        pair.at_b(Command::MoveSa(moved)).unwrap();
    }
    let mut moved = policy(
        Direction::In,
        pair.a.inner4,
        pair.b.inner4,
        pair.template(elsewhere, pair.b.outer, Mode::Transport),
    );
    let ipcomp = Template {
        protocol: Protocol::Comp,
        optional: true,
        ..pair.template(elsewhere, pair.b.outer, Mode::Tunnel)
    };
    moved.templates.insert(0, ipcomp);
    pair.at_b(Command::UpdatePolicy(Box::new(moved))).unwrap();
    let packet = pair.small();
    let sent = pair.a_sends(&[&packet, &long(pair.a.inner4, pair.b.inner4, 0)]);
    let mut arrivals: Vec<Arrival> = sent
        .into_iter()
        .map(|transmit| Arrival {
            remote: elsewhere,
            ..wire(transmit)
        })
        .collect();
    pair.b
        .core
        .inbound(pair.now, &mut arrivals, &mut pair.b.output);
    assert_eq!(pair.b.delivered().len(), 2, "{:?}", pair.b.drops());
}

/// A NAT changes the addresses that the checksums of TCP and UDP cover; ESP cannot put them right in what is compressed.
#[test]
fn checksums_are_computed_anew_behind_a_nat() {
    //= rfc3948#3.1.2
    //= type=test
    //# Depending on local policy, one of the following MUST be done:
    let checksum = |packet: &[u8]| {
        let pseudo = [&packet[12..20], &[0, 17], &packet[24..26]].concat();
        let mut sum: u32 = pseudo
            .chunks(2)
            .chain(packet[20..].chunks(2))
            .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    };
    for udp_encapsulated in [true, false] {
        let around = Suite {
            udp: udp_encapsulated,
            ..GCM
        };
        let mut pair = compressing(&around, false, Mode::Transport);
        let mut packet = long(pair.a.outer, pair.b.outer, 1);
        packet[26..28].copy_from_slice(&[0xab, 0xcd]);
        let sent = pair.a_sends(&[&packet]);
        assert!(sent[0].packet.len() < 150);
        let received = pair.b_receives(sent);
        assert_eq!(received.len(), 1, "{:?}", pair.b.drops());
        assert_eq!(checksum(&received[0]) == 0xffff, udp_encapsulated);
        assert_eq!(received[0][28..], packet[28..]);
    }
}

/// A packet of the size that is announced fits though it does not compress.
#[test]
fn the_mtu_is_that_of_packets_that_do_not_compress() {
    let mut pair = compressing(&GCM, false, Mode::Tunnel);
    let (src, dst) = (pair.a.inner4, pair.b.inner4);
    let of = |len: usize| udp(src, dst, &vec![7; len - 28]);
    let mut largest = 0;
    for len in 1380..1500 {
        let sent = pair.a_sends(&[&of(len)]);
        if !sent.is_empty() {
            largest = len;
        }
    }
    // 1500 - IP 20 - ESP 8 - IV 8 - ICV 16 - trailer 2.
    assert_eq!(largest, 1446);
}
