//! Arbitrary and damaged bytes against everything that reads them, after the corpora in `__fuzz__`.
//! `BOLERO_RANDOM_TEST_TIME_MS` makes the harnesses run longer than they do under plain `cargo test`.

mod support;

use std::sync::LazyLock;
use std::time::Duration;

use cygnet_esp::{EspHeader, OpenError, OuterHeader, PacketBuffer, icmp};
use cygnet_ipsec::{Mode, Sa};
use support::*;

/// How long each harness runs under plain `cargo test`.
const TEST_TIME: Duration = Duration::from_millis(800);

/// Every suite, mode, family and way of counting, without replay check.
static SAS: LazyLock<Vec<Sa>> = LazyLock::new(|| {
    let mut sas = Vec::new();
    for (_, encryption, integrity) in suites() {
        for mode in [Mode::Tunnel, Mode::Transport] {
            for encap in [None, Some(UDP_4500)] {
                let sa = Sa {
                    encryption: Some(encryption.clone()),
                    integrity: integrity.clone(),
                    mode,
                    encap,
                    tfc_pad: 80,
                    replay_window: 0,
                    ..sa()
                };
                sas.push(over_ipv6(sa.clone()));
                sas.push(sa);
            }
        }
    }
    sas
});

fn pick(selector: u8) -> &'static Sa {
    &SAS[usize::from(selector) % SAS.len()]
}

/// An ESP packet around this plaintext.
fn esp_around(sa: &Sa, plaintext: &[u8]) -> Vec<u8> {
    let cipher = cipher(sa);
    let len = plaintext.len().next_multiple_of(cipher.alignment());
    let mut esp = vec![0; cipher.header_len() + len + cipher.icv_len()];
    esp[cipher.header_len() + len - plaintext.len()..][..plaintext.len()]
        .copy_from_slice(plaintext);
    cipher.seal(1, sa.esn, sa.id.spi, &mut esp).unwrap();
    esp
}

#[test]
fn fuzz_open_never_accepts_what_was_not_sealed() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .for_each(|input: &[u8]| {
            let Some((selector, packet)) = input.split_first() else {
                return;
            };
            let sa = pick(*selector);
            let outer = OuterHeader::between(sa.src, sa.id.dst);
            assert!(open(&mut inbound(sa), packet, &outer).is_err());
            let _ = EspHeader::parse(packet);
        });
}

/// An authentic peer that sends nonsense: everything behind the integrity check.
#[test]
fn fuzz_open_authentic_plaintext() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .for_each(|input: &[u8]| {
            let Some((&[selector, tos], plaintext)) = input.split_first_chunk() else {
                return;
            };
            let sa = pick(selector);
            let outer = OuterHeader {
                tos,
                ..OuterHeader::between(sa.src, sa.id.dst)
            };
            let esp = esp_around(sa, plaintext);
            if let Ok((opened, inner)) = open(&mut inbound(sa), &esp, &outer) {
                // What comes out is one whole IP packet by its own account.
                let len = match inner[0] >> 4 {
                    4 => usize::from(u16::from_be_bytes([inner[2], inner[3]])),
                    6 => 40 + usize::from(u16::from_be_bytes([inner[4], inner[5]])),
                    version => panic!("ip version {version}"),
                };
                assert_eq!(inner.len(), len);
                assert!(opened.counted <= esp.len());
            }
        });
}

/// What the other end seals, with some octets changed, is refused; unchanged it is opened to what it was.
#[test]
fn fuzz_open_damaged() {
    bolero::check!()
        .with_type::<(u8, u16, u8, Vec<u8>)>()
        .with_test_time(TEST_TIME)
        .for_each(|(selector, at, flip, payload)| {
            let sa = pick(*selector);
            let packet = ip(
                &sa.src.to_string(),
                &sa.id.dst.to_string(),
                253,
                0,
                true,
                payload,
            );
            let (sealed, mut esp) = seal(&outbound(sa), 1, &packet).unwrap();
            let at = usize::from(*at) % esp.len();
            esp[at] ^= flip;
            let result = open(&mut inbound(sa), &esp, &sealed.outer);
            assert_eq!(result.is_ok(), *flip == 0, "{result:?}");
        });
}

/// Whatever is given to be sealed, in whatever room: an error or something that opens to an IP packet.
#[test]
fn fuzz_seal() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .for_each(|input: &[u8]| {
            let Some((&[selector, headroom, tailroom], packet)) = input.split_first_chunk() else {
                return;
            };
            let sa = pick(selector);
            let sent = outbound(sa);
            let _ = sent.check_size(packet);
            let (result, bytes) = within(packet, headroom.into(), tailroom.into(), |buffer| {
                sent.seal(1, buffer)
            });
            if let Ok(sealed) = result {
                let (opened, inner) = match open(&mut inbound(sa), &bytes, &sealed.outer) {
                    Ok(opened) => opened,
                    // Next header 59 in transport mode is what a dummy packet is (RFC 4303 section 2.6).
                    Err(OpenError::Dummy) if sa.mode == Mode::Transport => {
                        let next_header = if packet[0] >> 4 == 6 {
                            packet[6]
                        } else {
                            packet[9]
                        };
                        assert_eq!(next_header, 59);
                        return;
                    }
                    Err(error) => panic!("what was sealed opens: {error}"),
                };
                // A tunnel does not change the packet; TFC padding is counted by the receiver only.
                if sa.mode == Mode::Tunnel {
                    assert!(packet.starts_with(&inner));
                    assert!(opened.counted >= sealed.counted);
                }
            }
            let (result, _) = within(packet, ROOM, ROOM + 100, |buffer| {
                let sealed = sent.seal(1, buffer)?;
                sent.write_outer(&sealed, buffer, 0)?;
                Ok::<_, cygnet_esp::SealError>(buffer.len())
            });
            if let Ok(len) = result {
                assert!(len > packet.len().min(20));
            }
        });
}

#[test]
fn fuzz_too_big_and_strip() {
    bolero::check!()
        .with_test_time(TEST_TIME)
        .for_each(|input: &[u8]| {
            let Some((&[a, b], packet)) = input.split_first_chunk() else {
                return;
            };
            let mut out = [0; icmp::MAX_ICMP_ERROR_LEN];
            for source in [WEST, WEST6] {
                let mtu = usize::from(u16::from_be_bytes([a, b]));
                if let Ok(len) = icmp::too_big(packet, mtu, source.parse().unwrap(), &mut out) {
                    // No error is ever answered by an error.
                    let error = out[..len].to_vec();
                    let answer = icmp::too_big(&error, mtu, source.parse().unwrap(), &mut out);
                    assert_eq!(answer, Err(icmp::NoIcmp::Forbidden));
                }
            }
            let mut copy = packet.to_vec();
            if let Some(mut buffer) = PacketBuffer::new(&mut copy, 0..packet.len()) {
                let before = buffer.len();
                if OuterHeader::strip(&mut buffer).is_ok() {
                    assert!(buffer.len() + 20 <= before);
                }
            }
        });
}
