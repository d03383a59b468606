//! Against the Linux kernel: packets that it sealed are opened to what it opened them to; what it was given to seal
//! is sealed to the same plaintext, sizes and outer headers. `data/README.md` says how the captures were made.

mod support;

use std::collections::HashMap;
use std::path::PathBuf;

use cygnet_esp::{Inbound, OpenError, Outbound, OuterHeader, PacketBuffer, SealError, icmp};
use cygnet_ipsec::{CipherKey, IntegrityKey, Mode, ReplayWindow, Sa, SaDirection, SaFlags, SaId};
use support::*;

const PROTOCOL_ESP: u8 = 50;
const PROTOCOL_UDP: u8 = 17;
const TO_EAST: u32 = 0xc100_0001;
const TO_WEST: u32 = 0xc200_0002;

/// A line of cases.txt.
struct Case {
    name: String,
    to_east: Sa,
    to_west: Sa,
    /// The sequence numbers begin just before the low half wraps.
    wraps: bool,
    /// The packets to east were marked with congestion on the way.
    congested: bool,
}

fn data(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", file]
        .iter()
        .collect()
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(data("cases.txt")).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(case)
        .collect()
}

fn case(line: &str) -> Case {
    let fields: Vec<&str> = line.split(' ').collect();
    let &[
        name,
        mode,
        _inner,
        outer,
        enc,
        auth,
        esn,
        udp,
        flags,
        extra,
        sequence,
        tfc,
        mangle,
        k1,
        a1,
        k2,
        a2,
    ] = &fields[..]
    else {
        panic!("{line}")
    };
    let sa = |spi, enc_key, auth_key| Sa {
        mode: if mode == "tunnel" {
            Mode::Tunnel
        } else {
            Mode::Transport
        },
        encryption: Some(CipherKey {
            transform: match enc {
                "gcm128" | "gcm256" => ENCR_AES_GCM_16,
                "chacha20" => ENCR_CHACHA20_POLY1305,
                "cbc128" | "cbc192" | "cbc256" => ENCR_AES_CBC,
                _ => panic!("{enc}"),
            },
            key: key(hex(enc_key)),
        }),
        integrity: (auth != "-").then(|| IntegrityKey {
            transform: match auth {
                "sha256" => AUTH_HMAC_SHA2_256_128,
                "sha384" => AUTH_HMAC_SHA2_384_192,
                "sha512" => AUTH_HMAC_SHA2_512_256,
                _ => panic!("{auth}"),
            },
            key: key(hex(auth_key)),
        }),
        encap: (udp == "1").then_some(UDP_4500),
        esn: esn == "1",
        tfc_pad: tfc.parse().unwrap_or(0),
        flags: SaFlags {
            decap_dscp: flags == "decap-dscp",
            no_ecn: flags == "noecn",
            no_pmtu_disc: flags == "nopmtudisc",
            dont_encap_dscp: extra == "dont-encap-dscp",
            af_unspec: mode == "tunnel",
            ..SaFlags::default()
        },
        id: SaId {
            spi,
            ..support::sa().id
        },
        ..support::sa()
    };
    let outer = |sa| if outer == "6" { over_ipv6(sa) } else { sa };
    let to_east = outer(sa(TO_EAST, k1, a1));
    let to_west = outer(sa(TO_WEST, k2, a2));
    let to_west = Sa {
        src: to_west.id.dst,
        id: SaId {
            dst: to_west.src,
            ..to_west.id
        },
        ..to_west
    };
    Case {
        name: name.into(),
        to_east,
        to_west,
        wraps: sequence == "wrap",
        congested: mangle == "ce",
    }
}

/// The packets of a capture file of raw IP packets in this machine's byte order.
fn packets(case: &Case) -> Vec<Vec<u8>> {
    let file = std::fs::read(data(&format!("{}.pcap", case.name))).unwrap();
    let (header, mut rest) = file.split_at(24);
    assert_eq!(header[..4], 0xa1b2_c3d4_u32.to_le_bytes());
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        packets.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    packets
}

/// An ESP packet as captured, and the clear packet.
struct Pair {
    wire: Vec<u8>,
    clear: Vec<u8>,
    outer: OuterHeader,
    /// SPI to ICV.
    esp: Vec<u8>,
    spi: u32,
    /// The low half.
    sequence: u32,
}

/// A packet that was too big, and the ICMP error for it.
type TooBig = (Vec<u8>, Vec<u8>);

/// The pairs of ESP and clear packets, and the packet that was too big.
fn pairs(case: &Case) -> (Vec<Pair>, Option<TooBig>) {
    let mut pairs = Vec::new();
    let mut too_big = None;
    let packets = packets(case);
    for pair in packets.chunks(2) {
        let [wire, clear] = pair else {
            panic!("an odd number of packets")
        };
        let mut copy = wire.clone();
        let len = copy.len();
        let mut buffer = PacketBuffer::new(&mut copy, 0..len).unwrap();
        let (outer, protocol) = OuterHeader::strip(&mut buffer).unwrap();
        match protocol {
            PROTOCOL_ESP => {}
            PROTOCOL_UDP => buffer.trim_front(8),
            _ => {
                too_big = Some((wire.clone(), clear.clone()));
                continue;
            }
        }
        let esp = buffer.bytes().to_vec();
        let header = cygnet_esp::EspHeader::parse(&esp).unwrap();
        pairs.push(Pair {
            wire: wire.clone(),
            clear: clear.clone(),
            outer,
            esp,
            spi: header.spi,
            sequence: header.sequence,
        });
    }
    (pairs, too_big)
}

fn receiver(case: &Case, sa: &Sa) -> Inbound {
    let mut inbound = inbound(sa);
    if case.wraps {
        let mut window = ReplayWindow::new(64, true).unwrap();
        window.commit(0xffff_fff0).unwrap();
        inbound.resume_with(window);
    }
    inbound
}

/// The IPv4 header that transport mode makes anew lacks what a socket does not tell: the identification.
fn without_identification(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn tos(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 {
        packet[1]
    } else {
        packet[0] << 4 | packet[1] >> 4
    }
}

fn counted_by_kernel() -> HashMap<String, (usize, usize)> {
    let text = std::fs::read_to_string(data("counters.txt")).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (
                fields[0].to_string(),
                (fields[1].parse().unwrap(), fields[2].parse().unwrap()),
            )
        })
        .collect()
}

#[test]
fn what_the_kernel_sealed_opens_to_what_the_kernel_opened() {
    let counters = counted_by_kernel();
    for case in cases() {
        let mut east = receiver(&case, &case.to_east);
        let mut west = receiver(&case, &case.to_west);
        let mut counted = 0;
        let (pairs, _) = pairs(&case);
        assert!(pairs.len() >= 12, "{}", case.name);
        let mut high = 0;
        for pair in &pairs {
            let inbound = if pair.spi == TO_EAST {
                &mut east
            } else {
                &mut west
            };
            let what = format!("{} spi {:x} seq {:x}", case.name, pair.spi, pair.sequence);
            let result = open(inbound, &pair.esp, &pair.outer);
            let propagates = case.congested && pair.spi == TO_EAST && !case.to_east.flags.no_ecn;
            if propagates && tos(&pair.clear) & 3 == 0 {
                // The kernel delivers these; RFC 6040 §4.2 has them dropped.
                assert_eq!(result.unwrap_err(), OpenError::Congestion, "{what}");
                counted += pair.clear.len();
                continue;
            }
            let (opened, inner) = result.unwrap_or_else(|error| panic!("{what}: {error}"));
            let transport = case.to_east.mode == Mode::Transport;
            let expected = if transport {
                without_identification(&pair.clear)
            } else {
                pair.clear.clone()
            };
            assert_eq!(inner, expected, "{what}");
            assert_eq!(opened.sequence as u32, pair.sequence, "{what}");
            high = high.max(opened.sequence >> 32);
            if pair.spi == TO_EAST {
                counted += opened.counted;
            }
            assert!(
                matches!(
                    open(inbound, &pair.esp, &pair.outer),
                    Err(OpenError::Replay(_))
                ),
                "{what}, replayed"
            );
        }
        assert_eq!(high, u64::from(case.wraps), "{}", case.name);
        assert_eq!(
            counted, counters[&case.name].1,
            "{}: bytes counted",
            case.name
        );
    }
}

#[test]
fn what_the_kernel_was_given_is_sealed_as_the_kernel_sealed_it() {
    let counters = counted_by_kernel();
    for case in cases() {
        let sa = &case.to_west;
        let outbound = Outbound::new(sa).unwrap();
        outbound.set_path_mtu(1500);
        let cipher = cipher(sa);
        if case.wraps {
            outbound.resume_after(0xffff_fffc);
        }
        let mut counted = 0;
        for pair in pairs(&case)
            .0
            .into_iter()
            .filter(|pair| pair.spi == TO_WEST)
        {
            let what = format!("{} seq {:x}", case.name, pair.sequence);
            let sequence = outbound.reserve(1).unwrap().next().unwrap();
            assert_eq!(sequence as u32, pair.sequence, "{what}");
            // The kernel's own: hop limit from the route, and the identification of outer IPv4 headers.
            let identification = u16::from_be_bytes([pair.wire[4], pair.wire[5]]);
            let (sealed, mut wire) = within(
                &pair.clear,
                outbound.headroom(),
                outbound.tailroom(),
                |buffer| {
                    let sealed = outbound.seal(sequence, buffer).unwrap();
                    outbound
                        .write_outer(&sealed, buffer, identification)
                        .unwrap();
                    sealed
                },
            );
            counted += sealed.counted;
            let mut theirs = pair.wire.clone();
            if sa.mode == Mode::Tunnel && !sa.flags.no_ecn && tos(&pair.clear) & 3 == 3 {
                // The kernel resets CE to ECT(0) outside (RFC 3168); RFC 6040 §4.1 has it copied.
                assert_eq!((tos(&wire) & 3, tos(&theirs) & 3), (3, 2), "{what}");
                set_ecn(&mut theirs, 3);
            }
            let headers = wire.len() - pair.esp.len();
            if sa.encap.is_some() && sa.src.is_ipv6() {
                // The UDP checksum covers the ciphertext.
                for packet in [&mut wire, &mut theirs] {
                    let udp = packet.len() - 40;
                    let pseudo = [
                        &packet[8..40],
                        &(udp as u32).to_be_bytes(),
                        &[0, 0, 0, PROTOCOL_UDP],
                        &packet[40..],
                    ];
                    assert_eq!(checksum(&pseudo.concat()), 0, "{what}");
                    packet[46..48].fill(0);
                }
            }
            // Outer headers, SPI and sequence number are the same, and so is what is inside once decrypted, padding
            // included. IV, ciphertext and ICV differ: IVs are each sender's to choose.
            assert_eq!(wire.len(), theirs.len(), "{what}");
            assert_eq!(wire[..headers + 8], theirs[..headers + 8], "{what}");
            let [ours, theirs] = [&wire[headers..], &theirs[headers..]].map(|esp| {
                let mut esp = esp.to_vec();
                let plaintext = cipher.open(sequence, sa.esn, &mut esp).unwrap();
                esp[plaintext].to_vec()
            });
            assert_eq!(ours, theirs, "{what}");
        }
        assert_eq!(
            counted, counters[&case.name].0,
            "{}: bytes counted",
            case.name
        );
    }
}

/// Writes the ECN field of an IP packet, and the IPv4 checksum.
fn set_ecn(packet: &mut [u8], ecn: u8) {
    if packet[0] >> 4 == 4 {
        packet[1] = packet[1] & 0xfc | ecn;
        packet[10..12].fill(0);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[1] = packet[1] & 0xcf | ecn << 4;
    }
}

#[test]
fn a_packet_too_big_is_answered_as_the_kernel_answers_it() {
    let mut seen = 0;
    for case in cases() {
        let Some((big, theirs)) = pairs(&case).1 else {
            continue;
        };
        seen += 1;
        let outbound = Outbound::new(&case.to_east).unwrap();
        outbound.set_path_mtu(1500);
        let Err(SealError::TooBig { mtu }) = outbound.check_size(&big) else {
            panic!("{}", case.name)
        };
        let mut theirs = theirs;
        let v4 = theirs[0] >> 4 == 4;
        let source = if v4 { "10.1.0.1" } else { "2001:db8:1::1" }
            .parse()
            .unwrap();
        let mut error = [0; icmp::MAX_ICMP_ERROR_LEN];
        let len = icmp::too_big(&big, mtu, source, &mut error).unwrap();
        // The kernel's own: identification, flow label.
        if v4 {
            theirs = without_identification(&theirs);
        } else {
            theirs[1] &= 0xf0;
            theirs[2..4].fill(0);
        }
        assert_eq!(error[..len], theirs, "{}", case.name);
        // The greatest packet that passes is as great as said, and not a byte greater.
        let sa = Sa {
            tfc_pad: 0,
            direction: SaDirection::Out,
            ..case.to_east.clone()
        };
        let outbound = Outbound::new(&sa).unwrap();
        for (len, fits) in [(mtu, true), (mtu + 1, false)] {
            let header = if v4 { 20 } else { 40 };
            let packet = if v4 {
                inner4(len - header)
            } else {
                inner6(len - header)
            };
            let (_, wire) = within(
                &packet,
                outbound.headroom(),
                outbound.tailroom(),
                |buffer| {
                    let sealed = outbound.seal(1, buffer).unwrap();
                    outbound.write_outer(&sealed, buffer, 0).unwrap();
                },
            );
            assert_eq!(
                wire.len() <= 1500,
                fits,
                "{}: inner {len}, outer {}",
                case.name,
                wire.len()
            );
        }
    }
    assert_eq!(seen, 20);
}
