//! AH: both ends, and what the ways of ESP and AH have apart.

use super::*;

#[test]
fn packets_cross_in_tunnel_and_transport_mode_over_both_families() {
    for v6 in [false, true] {
        for esn in [false, true] {
            let mut pair = Pair::keyed(v6, &Suite { esn, ..AH });
            for (src, dst) in [
                (pair.a.inner4, pair.b.inner4),
                (pair.a.inner6, pair.b.inner6),
            ] {
                let packet = udp(src, dst, b"in a tunnel");
                let sent = pair.a_sends(&[&packet, &packet]);
                assert!(sent.iter().all(|t| t.protocol == Protocol::Ah));
                assert_eq!(pair.b_receives(sent), [packet.clone(), packet]);
            }
            let mode = Mode::Transport;
            let mut pair = Pair::keyed(v6, &Suite { esn, mode, ..AH });
            let packet = udp(pair.a.outer, pair.b.outer, b"from host to host");
            let sent = pair.a_sends(&[&packet]);
            assert_eq!(pair.b_receives(sent), [packet]);
            assert_eq!(pair.b.drops(), []);
            let counters = pair.counters_at_b(pair.there(&AH).id);
            assert_eq!((counters.packets, counters.bytes), (1, 8 + 17));
        }
    }
}

#[test]
fn a_packet_that_was_changed_or_repeated_is_dropped_and_counted() {
    let mut pair = Pair::keyed(false, &AH);
    let packet = pair.small();
    let sent = pair.a_sends(&[&packet, &packet]);
    let id = pair.there(&AH).id;
    // The source address: what ESP would not see.
    let mut forged = copy(&sent[0]);
    forged.packet.bytes_mut()[15] ^= 1;
    assert!(pair.b_receives(vec![forged]).is_empty());
    assert_eq!(pair.b.drops(), [(Counter::InStateProtoError, 1)]);
    assert_eq!(pair.counters_at_b(id).integrity_failed, 1);
    // What routers change.
    let mut routed = copy(&sent[0]);
    let header = routed.packet.bytes_mut();
    (header[1], header[8], header[10]) = (0xb8, 7, !header[10]);
    assert_eq!(pair.b_receives(vec![routed]).len(), 1);
    assert!(pair.b_receives(vec![copy(&sent[0])]).is_empty());
    assert_eq!(pair.counters_at_b(id).replay, 1);
    // A fragment of it.
    let mut fragment = copy(&sent[1]);
    fragment.packet.bytes_mut()[6] |= 0x20;
    assert!(pair.b_receives(vec![fragment]).is_empty());
    assert_eq!(pair.b.xfrm(Counter::InHdrError), 1);
    assert_eq!(pair.b_receives(sent), [packet]);
}

/// Both protocols may have an SA with the same SPI, and packets are for that of their own.
#[test]
fn spis_of_ah_and_esp_are_apart() {
    let mut pair = Pair::keyed(false, &AH);
    let esp = pair.there(&GCM);
    pair.at_a(install(outbound(&esp))).unwrap();
    pair.at_b(install(esp)).unwrap();
    let packet = pair.small();
    let sent = pair.a_sends(&[&packet]);
    assert_eq!(pair.b_receives(sent), [packet]);
    assert_eq!(pair.counters_at_b(pair.there(&AH).id).packets, 1);
    assert_eq!(pair.counters_at_b(pair.there(&GCM).id).packets, 0);
}

/// Of a packet with a header of our own the kernel makes no fragments.
#[test]
fn what_may_be_fragmented_is_so_before_it_is_sent() {
    let mut pair = Pair::keyed(false, &AH);
    let (a, b) = (pair.a.outer, pair.b.outer);
    pair.a.core.set_path_mtu(a, b, 1400);
    // 20 octets of IP and 32 of AH.
    let payload = |len: usize| vec![5; len - 28];
    let fits = udp(pair.a.inner4, pair.b.inner4, &payload(1348));
    let too_big = udp(pair.a.inner4, pair.b.inner4, &payload(1349));
    let mut may_fragment = too_big.clone();
    may_fragment[6] = 0;
    let sent = pair.a_sends(&[&fits, &too_big, &may_fragment]);
    assert_eq!(pair.a.output.deliveries.drain(..).count(), 1, "ICMP");
    let lens: Vec<usize> = sent.iter().map(|t| t.packet.len()).collect();
    assert_eq!(lens, [1400, 1396, 25]);
    assert_eq!(sent[0].packet.bytes()[6], 0x40);
    assert_eq!(sent[1].packet.bytes()[6..8], [0x20, 0]);
    assert_eq!(sent[2].packet.bytes()[6..8], [0, 172]);
    // The receiver's host puts them together.
    let mut whole = sent[1].packet.bytes().to_vec();
    whole.extend(&sent[2].packet.bytes()[20..]);
    let len = whole.len() as u16;
    whole[2..4].copy_from_slice(&len.to_be_bytes());
    whole[6] = 0;
    let whole = Transmit {
        packet: Packet::from_slice(&whole),
        ..copy(&sent[1])
    };
    let delivered = pair.b_receives(vec![whole]);
    assert_eq!(delivered.len(), 1, "{:?}", pair.b.drops());
    assert_eq!(delivered[0][20..], may_fragment[20..]);
    // Over IPv6 the kernel does it.
    let mut pair = Pair::keyed(true, &AH);
    let (a, b) = (pair.a.outer, pair.b.outer);
    pair.a.core.set_path_mtu(a, b, 1280);
    let packet = udp(pair.a.inner6, pair.b.inner6, &vec![5; 1280 - 48]);
    let sent = pair.a_sends(&[&packet]);
    assert_eq!((sent.len(), sent[0].dont_fragment), (1, false));
    assert_eq!(pair.b_receives(sent), [packet]);
}

/// IPv4 options cross in transport mode, with AH alone: it brings its own header.
#[test]
fn ipv4_options_cross_in_transport_mode() {
    let mode = Mode::Transport;
    let with_option = |pair: &Pair| {
        let mut packet = udp(pair.a.outer, pair.b.outer, b"with a route");
        packet.splice(20..20, [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        packet[0] = 0x48;
        packet[3] += 12;
        packet
    };
    let mut pair = Pair::keyed(false, &Suite { mode, ..AH });
    let packet = with_option(&pair);
    let mut sent = pair.a_sends(&[&packet]);
    // A router writes itself into it.
    let bytes = sent[0].packet.bytes_mut();
    bytes[22..27].copy_from_slice(&[8, 192, 0, 2, 9]);
    let delivered = pair.b_receives(sent);
    assert_eq!(delivered.len(), 1, "{:?}", pair.b.drops());
    assert_eq!(delivered[0][20..27], [7, 11, 8, 192, 0, 2, 9]);
    assert_eq!(delivered[0][32..], packet[32..]);
    let mut pair = Pair::keyed(false, &Suite { mode, ..GCM });
    let packet = with_option(&pair);
    assert!(pair.a_sends(&[&packet]).is_empty());
}
