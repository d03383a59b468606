//! When "packet too big" may be said, and what it looks like; `kernel.rs` compares it with the kernel's.

mod support;

use cygnet_esp::icmp::{MAX_ICMP_ERROR_LEN, NoIcmp, too_big};
use support::*;

const GATEWAY: &str = "10.1.0.1";
const GATEWAY6: &str = "2001:db8:1::1";

fn answer(packet: &[u8]) -> Result<Vec<u8>, NoIcmp> {
    let source = if packet.first().is_some_and(|first| first >> 4 == 6) {
        GATEWAY6
    } else {
        GATEWAY
    };
    let mut error = [0xee; MAX_ICMP_ERROR_LEN];
    let len = too_big(packet, 1446, source.parse().unwrap(), &mut error)?;
    Ok(error[..len].to_vec())
}

#[test]
fn icmpv4_quotes_up_to_576_octets() {
    for (len, expected) in [(1400, 576), (100, 148)] {
        let packet = inner4(len);
        let error = answer(&packet).unwrap();
        assert_eq!(error.len(), expected);
        assert_eq!(
            usize::from(u16::from_be_bytes([error[2], error[3]])),
            expected
        );
        assert_eq!((checksum(&error[..20]), checksum(&error[20..])), (0, 0));
        assert_eq!(error[12..20], [10, 1, 0, 1, 10, 1, 0, 2]);
        // Type 3, code 4, next-hop MTU in the second half of the second word.
        assert_eq!(
            (&error[20..22], &error[24..28]),
            (&[3, 4][..], &[0, 0, 0x05, 0xa6][..])
        );
        assert_eq!(error[28..], packet[..expected - 28]);
    }
}

#[test]
fn icmpv6_quotes_up_to_the_minimum_mtu() {
    for (len, expected) in [(1400, 1280), (100, 188)] {
        let packet = inner6(len);
        let error = answer(&packet).unwrap();
        assert_eq!(error.len(), expected);
        let icmp_len = (error.len() - 40) as u8;
        let pseudo = [
            &error[8..40],
            &[0, 0, ((expected - 40) >> 8) as u8, icmp_len, 0, 0, 0, 58],
            &error[40..],
        ]
        .concat();
        assert_eq!(checksum(&pseudo), 0);
        assert_eq!(
            (&error[40..42], &error[44..48]),
            (&[2, 0][..], &1446_u32.to_be_bytes()[..])
        );
        assert_eq!(error[48..], packet[..expected - 48]);
    }
}

#[test]
fn an_mtu_beyond_16_bits_is_said_as_the_greatest() {
    let mut error = [0; MAX_ICMP_ERROR_LEN];
    too_big(&inner4(9), 100_000, GATEWAY.parse().unwrap(), &mut error).unwrap();
    assert_eq!(error[24..28], [0, 0, 0xff, 0xff]);
}

#[test]
fn errors_are_not_answered_by_errors() {
    //= rfc1122#3.2.2
    //= type=test
    //# An ICMP error message MUST NOT be sent as the result of
    //# receiving:
    //#
    //#      *    an ICMP error message, or
    for (kind, answered) in [
        (0, true),
        (3, false),
        (5, false),
        (8, true),
        (11, false),
        (12, false),
        (13, true),
    ] {
        let packet = ip(
            "10.1.0.2",
            "10.2.0.1",
            1,
            0,
            true,
            &[kind, 0, 0, 0, 0, 0, 0, 0],
        );
        assert_eq!(answer(&packet).is_ok(), answered, "type {kind}");
    }
    //= rfc4443#2.4
    //= type=test
    //# An ICMPv6 error message MUST NOT be originated as a result of
    //# receiving the following:
    for (kind, answered) in [
        (1, false),
        (2, false),
        (127, false),
        (128, true),
        (129, true),
        (137, false),
    ] {
        let message = [kind, 0, 0, 0, 0, 0, 0, 0];
        let packet = |first, chain: &[u8]| {
            ip(
                "2001:db8:1::2",
                "2001:db8:2::1",
                first,
                0,
                true,
                &[chain, &message].concat(),
            )
        };
        assert_eq!(answer(&packet(58, &[])).is_ok(), answered, "type {kind}");
        assert_eq!(
            answer(&packet(0, &[58, 0, 1, 4, 0, 0, 0, 0])).is_ok(),
            answered,
            "type {kind}, hop-by-hop"
        );
        assert_eq!(
            answer(&packet(44, &[58, 0, 0, 1, 0, 0, 0, 9])).is_ok(),
            answered,
            "type {kind}, first fragment"
        );
        assert_eq!(
            answer(&packet(44, &[58, 0, 0, 8, 0, 0, 0, 9])),
            Err(NoIcmp::Forbidden),
            "later fragment"
        );
    }
    // Cut off before the type: it might be one.
    assert_eq!(
        answer(&ip("10.1.0.2", "10.2.0.1", 1, 0, true, &[])),
        Err(NoIcmp::Forbidden)
    );
    assert_eq!(
        answer(&ip("2001:db8:1::2", "2001:db8:2::1", 0, 0, true, &[58])),
        Err(NoIcmp::Forbidden)
    );
}

#[test]
fn only_single_hosts_are_answered() {
    for (src, dst, answered) in [
        ("10.1.0.2", "10.2.0.1", true),
        ("0.0.0.0", "10.2.0.1", false),
        ("127.0.0.1", "10.2.0.1", false),
        ("224.0.0.1", "10.2.0.1", false),
        ("255.255.255.255", "10.2.0.1", false),
        ("10.1.0.2", "239.1.1.1", false),
        ("10.1.0.2", "255.255.255.255", false),
        ("::", "2001:db8:2::1", false),
        ("ff02::1", "2001:db8:2::1", false),
        // RFC 4443 §2.4 (e.3): path MTU discovery works for multicast.
        ("2001:db8:1::2", "ff0e::1", true),
    ] {
        assert_eq!(
            answer(&ip(src, dst, 253, 0, true, &payload(9))).is_ok(),
            answered,
            "{src} to {dst}"
        );
    }
    let mut later_fragment = inner4(20);
    later_fragment[7] = 1;
    assert_eq!(answer(&later_fragment), Err(NoIcmp::Forbidden));
}

#[test]
fn wrong_arguments_are_errors() {
    let mut out = [0; 100];
    assert_eq!(
        too_big(&inner4(9), 1400, GATEWAY6.parse().unwrap(), &mut out),
        Err(NoIcmp::Family)
    );
    assert_eq!(
        too_big(&inner4(9), 1400, "239.1.1.1".parse().unwrap(), &mut out),
        Err(NoIcmp::Forbidden),
        "a group sends nothing"
    );
    assert_eq!(
        too_big(&inner4(90), 1400, GATEWAY.parse().unwrap(), &mut out),
        Err(NoIcmp::NoRoom)
    );
    assert!(matches!(answer(&[]), Err(NoIcmp::Malformed(_))));
}
