//! IPComp: what comes out by itself, with octets made by zlib, and with streams that were made to do harm.

mod support;

use std::time::Duration;

use cygnet_esp::{Deflate, IpComp, OpenError, SaError, ipcomp};
use cygnet_ipsec::{Compression, Mode, Protocol, Sa, SaDirection, SaId};
use support::*;

const CPI: u32 = 0x4001;

fn comp(mode: Mode) -> Sa {
    let id = SaId {
        protocol: Protocol::Comp,
        spi: CPI,
        ..sa().id
    };
    Sa {
        compression: Some(Compression::Deflate),
        ..Sa::new(id, sa().src, SaDirection::Out, mode, 1)
    }
}

fn compressed(sa: &Sa, packet: &[u8]) -> Vec<u8> {
    let transform = IpComp::new(sa).unwrap();
    let (counted, bytes) = within(packet, transform.outer_ip(), 0, |buffer| {
        transform.compress(buffer, &mut Deflate::default())
    });
    assert_eq!(counted, Ok(packet.len()));
    bytes
}

fn decompressed(sa: &Sa, packet: &[u8]) -> Result<Vec<u8>, OpenError> {
    let transform = IpComp::new(sa).unwrap();
    let (counted, bytes) = within(packet, 0, 70_000, |buffer| {
        transform.decompress(buffer, &mut Deflate::default())
    });
    counted.map(|_| bytes)
}

#[test]
fn what_zlib_has_compressed_is_decompressed() {
    // Python's zlib.compressobj(9, DEFLATED, -15): 200 times "a", and (7 n mod 64) for n below 300.
    let cases = [
        ("4b4c1c1e0000", vec![b'a'; 200]),
        (
            "6360e7139551d632b4b067e3159156d23430b763e5119652d4d037b365e116925450d733b561e6\
             12949057d335b166e214109753d531b662e4e0179355d136b2641841fa01",
            (0..300).map(|n| (n * 7 % 64) as u8).collect(),
        ),
    ];
    for (stream, plain) in cases {
        //= rfc3173#3.3
        //= type=test
        //# Reserved for future use.  MUST be set to zero.  MUST be ignored by
        //# the receiving node.
        // Flags are ignored.
        let header = [17, 0xff, 0x40, 0x01];
        let body = [&header[..], &hex(stream)].concat();
        let packet = ip(WEST, EAST, 108, 0, true, &body);
        assert_eq!(ipcomp::cpi(&packet), Some(0x4001));
        let bytes = decompressed(&comp(Mode::Transport), &packet).unwrap();
        assert_eq!((bytes[9], &bytes[20..]), (17, &plain[..]));
        assert_eq!(checksum(&bytes[..20]), 0);
    }
}

#[test]
fn either_mode_gives_back_what_it_got() {
    for sa in [
        comp(Mode::Tunnel),
        over_ipv6(comp(Mode::Tunnel)),
        comp(Mode::Transport),
    ] {
        let tunnel = sa.mode == Mode::Tunnel;
        let packet = ip("10.1.0.2", "10.2.0.1", 253, 0x2e, true, &[9; 1200]);
        let small = compressed(&sa, &packet);
        assert!(small.len() < 120);
        let v6 = sa.id.dst.is_ipv6();
        let header = if v6 { 40 } else { 20 };
        let next = if v6 { small[6] } else { small[9] };
        assert_eq!(next, 108);
        let inside = if tunnel { 4 } else { 253 };
        assert_eq!(small[header..header + 4], [inside, 0, 0x40, 0x01]);
        assert_eq!(decompressed(&sa, &small).unwrap(), packet);
    }
}

/// RFC 3173 section 2.2: what does not become smaller travels as it is, and no IPComp header with it.
//= rfc3173#2.2
//= type=test
//# If the total size of a compressed payload and the IPComp header, as
//# defined in section 3, is not smaller than the size of the original
//# payload, the IP datagram MUST be sent in the original non-compressed
//# form.
#[test]
fn nothing_grows() {
    let noise: Vec<u8> = (0..600u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ ((n * n) >> 3) as u8)
        .collect();
    for body in [vec![0; 60], noise] {
        let packet = ip("10.1.0.2", "10.2.0.1", 253, 0, true, &body);
        assert_eq!(compressed(&comp(Mode::Transport), &packet), packet);
        let tunnelled = compressed(&comp(Mode::Tunnel), &packet);
        assert_eq!((tunnelled[9], &tunnelled[20..]), (4, &packet[..]));
        assert!(ipcomp::is_encapsulated(&tunnelled));
        let transform = IpComp::new(&comp(Mode::Tunnel)).unwrap();
        let (done, inner) = within(&tunnelled, 0, 0, |buffer| transform.decapsulate(buffer));
        assert_eq!((done, inner), (Ok(()), packet));
    }
}

/// A stream of some kilobytes that would fill megabytes ends where an IP packet ends.
#[test]
fn bombs_do_not_go_off() {
    use miniz_oxide::deflate::compress_to_vec;
    for len in [65_516, 70_000, 40_000_000] {
        let bomb = compress_to_vec(&vec![0; len], 9);
        let mut payload = vec![253, 0, 0x40, 0x01];
        payload.extend(&bomb);
        if payload.len() > 65_000 {
            continue;
        }
        let packet = ip(WEST, EAST, 108, 0, true, &payload);
        assert_eq!(
            decompressed(&comp(Mode::Transport), &packet),
            Err(OpenError::Decompression),
            "{len}"
        );
    }
    let most = compress_to_vec(&[0; 65_515], 9);
    let packet = ip(
        WEST,
        EAST,
        108,
        0,
        true,
        &[&[253, 0, 0x40, 0x01][..], &most].concat(),
    );
    let bytes = decompressed(&comp(Mode::Transport), &packet).unwrap();
    assert_eq!(bytes.len(), 65_535);
}

#[test]
fn malformed_packets_are_refused() {
    for payload in [
        &[][..],
        &[253, 0, 0x40],
        &[253, 0, 0x40, 1],
        &[253, 0, 0x40, 1, 7, 7],
    ] {
        let packet = ip(WEST, EAST, 108, 0, true, payload);
        assert_eq!(
            decompressed(&comp(Mode::Transport), &packet),
            Err(OpenError::Decompression)
        );
    }
    // A tunnel takes IP packets only.
    let packet = ip("10.1.0.2", "10.2.0.1", 253, 0, true, &[9; 1200]);
    let small = compressed(&comp(Mode::Transport), &packet);
    assert_eq!(
        decompressed(&comp(Mode::Tunnel), &small),
        Err(OpenError::NextHeader(253))
    );
}

#[test]
fn unsuitable_sas_are_refused() {
    assert_eq!(
        IpComp::new(&sa()).err(),
        Some(SaError::Protocol(Protocol::Esp))
    );
    assert_eq!(
        IpComp::new(&comp(Mode::Beet)).err(),
        Some(SaError::Mode(Mode::Beet))
    );
    let mut wide = comp(Mode::Tunnel);
    wide.id.spi = 0x1_0000;
    assert_eq!(
        IpComp::new(&wide).err(),
        Some(SaError::ReservedSpi(0x1_0000))
    );
}

#[test]
fn fuzz_decompress() {
    let mut deflate = Deflate::default();
    let transforms = [
        (IpComp::new(&comp(Mode::Tunnel)).unwrap(), true),
        (IpComp::new(&comp(Mode::Transport)).unwrap(), false),
    ];
    bolero::check!()
        .with_test_time(Duration::from_millis(800))
        .for_each(|input: &[u8]| {
            let Some((&[how, next], payload)) = input.split_first_chunk() else {
                return;
            };
            let (transform, tunnel) = &transforms[usize::from(how & 1)];
            // As it comes, or as a stream that is well made of what comes.
            let stream = match how & 2 {
                0 => payload.to_vec(),
                _ => miniz_oxide::deflate::compress_to_vec(payload, how >> 4 & 7),
            };
            let next = if *tunnel && next & 1 == 0 { 4 } else { next };
            let body = [&[next, how, 0x40, 0x01][..], &stream].concat();
            if body.len() > 60_000 {
                return;
            }
            let packet = match how & 4 {
                0 => ip(WEST, EAST, 108, how, true, &body),
                _ => ip(WEST6, EAST6, 108, how, true, &body),
            };
            let _ = ipcomp::cpi(&packet);
            let (outcome, bytes) = within(&packet, 0, 70_000, |buffer| {
                transform.decompress(buffer, &mut deflate)
            });
            if outcome.is_ok() {
                let len = match bytes[0] >> 4 {
                    4 => usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
                    6 => 40 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]])),
                    version => panic!("ip version {version}"),
                };
                assert_eq!(bytes.len(), len);
            }
        });
}
