//! What the tests of this crate share: SAs, packets, buffers, hexadecimal.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::net::IpAddr;

use cygnet_crypto::EspCipher;
use cygnet_esp::{
    Inbound, OpenError, Opened, Outbound, OuterHeader, PacketBuffer, SealError, Sealed,
};
use cygnet_ipsec::{
    CipherKey, Encap, EncapKind, IntegrityKey, KeyMaterial, Lifetime, Mark, Mode, Protocol, Sa,
    SaDirection, SaFlags, SaId,
};

/// IANA encryption transforms: AES-CBC, AES-GCM with 16-octet ICV, ChaCha20-Poly1305.
pub const ENCR_AES_CBC: u16 = 12;
pub const ENCR_AES_GCM_16: u16 = 20;
pub const ENCR_CHACHA20_POLY1305: u16 = 28;
/// IANA integrity transforms.
pub const AUTH_HMAC_SHA2_256_128: u16 = 12;
pub const AUTH_HMAC_SHA2_384_192: u16 = 13;
pub const AUTH_HMAC_SHA2_512_256: u16 = 14;

pub const WEST: &str = "192.0.2.1";
pub const EAST: &str = "192.0.2.2";
pub const WEST6: &str = "2001:db8::1";
pub const EAST6: &str = "2001:db8::2";

/// Hexadecimal, white space ignored.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect("a hexadecimal digit") as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2));
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

pub fn key(bytes: impl Into<Vec<u8>>) -> KeyMaterial {
    KeyMaterial::new(bytes.into())
}

/// The algorithms that are offered, with keys.
pub fn suites() -> Vec<(&'static str, CipherKey, Option<IntegrityKey>)> {
    let cipher = |transform, len: u8| CipherKey {
        transform,
        key: key((0..len).collect::<Vec<_>>()),
    };
    let integrity = |transform, len: u8| {
        Some(IntegrityKey {
            transform,
            key: key((100..100 + len).collect::<Vec<_>>()),
        })
    };
    vec![
        ("aes128-gcm16", cipher(ENCR_AES_GCM_16, 20), None),
        ("aes256-gcm16", cipher(ENCR_AES_GCM_16, 36), None),
        (
            "chacha20-poly1305",
            cipher(ENCR_CHACHA20_POLY1305, 36),
            None,
        ),
        (
            "aes128-sha256",
            cipher(ENCR_AES_CBC, 16),
            integrity(AUTH_HMAC_SHA2_256_128, 32),
        ),
        (
            "aes192-sha384",
            cipher(ENCR_AES_CBC, 24),
            integrity(AUTH_HMAC_SHA2_384_192, 48),
        ),
        (
            "aes256-sha512",
            cipher(ENCR_AES_CBC, 32),
            integrity(AUTH_HMAC_SHA2_512_256, 64),
        ),
    ]
}

/// A tunnel from west to east over IPv4 with AES-GCM, as its sender has it.
pub fn sa() -> Sa {
    Sa {
        id: SaId {
            dst: EAST.parse().unwrap(),
            spi: 0xc100_0001,
            protocol: Protocol::Esp,
            mark: Mark::ANY,
        },
        src: WEST.parse().unwrap(),
        direction: SaDirection::Out,
        mode: Mode::Tunnel,
        reqid: 7,
        if_id: 0,
        set_mark: None,
        encryption: Some(suites().remove(0).1),
        integrity: None,
        encap: None,
        replay_window: 64,
        esn: false,
        selector: None,
        lifetime: Lifetime::UNLIMITED,
        flags: SaFlags::default(),
        acquire_seq: 0,
        tfc_pad: 0,
        compression: None,
        iptfs: None,
        cpu: None,
        label: None,
    }
}

pub fn over_ipv6(sa: Sa) -> Sa {
    Sa {
        id: SaId {
            dst: EAST6.parse().unwrap(),
            ..sa.id
        },
        src: WEST6.parse().unwrap(),
        ..sa
    }
}

pub const UDP_4500: Encap = Encap {
    kind: EncapKind::Udp,
    local_port: 4500,
    remote_port: 4500,
};

pub fn outbound(sa: &Sa) -> Outbound {
    Outbound::new(sa).unwrap()
}

/// The receiver of what the SA sends.
pub fn inbound(sa: &Sa) -> Inbound {
    Inbound::new(&Sa {
        direction: SaDirection::In,
        ..sa.clone()
    })
    .unwrap()
}

/// Room on both sides that is enough for anything here.
pub const ROOM: usize = 128;

/// Runs something on a packet in a buffer with that much room before and after it; gives what is then in the buffer.
pub fn within<T>(
    packet: &[u8],
    headroom: usize,
    tailroom: usize,
    run: impl FnOnce(&mut PacketBuffer<'_>) -> T,
) -> (T, Vec<u8>) {
    let mut storage = vec![0xee; headroom + packet.len() + tailroom];
    storage[headroom..headroom + packet.len()].copy_from_slice(packet);
    let mut buffer = PacketBuffer::new(&mut storage, headroom..headroom + packet.len()).unwrap();
    let result = run(&mut buffer);
    let bytes = buffer.bytes().to_vec();
    (result, bytes)
}

/// Seals a packet in a buffer of exactly the room asked for.
pub fn seal(
    outbound: &Outbound,
    sequence: u64,
    packet: &[u8],
) -> Result<(Sealed, Vec<u8>), SealError> {
    let (sealed, bytes) = within(packet, outbound.headroom(), outbound.tailroom(), |buffer| {
        outbound.seal(sequence, buffer)
    });
    Ok((sealed?, bytes))
}

/// Opens an ESP packet in a buffer of exactly the room asked for.
pub fn open(
    inbound: &mut Inbound,
    esp: &[u8],
    outer: &OuterHeader,
) -> Result<(Opened, Vec<u8>), OpenError> {
    let (opened, bytes) = within(esp, inbound.headroom(), 0, |buffer| {
        inbound.open(buffer, outer)
    });
    Ok((opened?, bytes))
}

/// The Internet checksum (RFC 1071), written for the tests: independent of the crate's.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IP packet of this protocol and payload; TTL 63.
pub fn ip(
    src: &str,
    dst: &str,
    protocol: u8,
    tos: u8,
    dont_fragment: bool,
    payload: &[u8],
) -> Vec<u8> {
    match (src.parse().unwrap(), dst.parse().unwrap()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut packet = vec![0x45, tos];
            packet.extend((20 + payload.len() as u16).to_be_bytes());
            packet.extend([
                0x12,
                0x34,
                if dont_fragment { 0x40 } else { 0 },
                0,
                63,
                protocol,
                0,
                0,
            ]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
            let sum = checksum(&packet);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet.extend(payload);
            packet
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut packet = (6 << 28 | u32::from(tos) << 20 | 0xabcde)
                .to_be_bytes()
                .to_vec();
            packet.extend((payload.len() as u16).to_be_bytes());
            packet.extend([protocol, 63]);
            packet.extend(src.octets());
            packet.extend(dst.octets());
            packet.extend(payload);
            packet
        }
        _ => panic!("mixed families"),
    }
}

/// A payload of that many bytes.
pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7) as u8).collect()
}

/// An inner packet between the protected networks: protocol 253 (for experiments), DF set.
pub fn inner4(len: usize) -> Vec<u8> {
    ip("10.1.0.2", "10.2.0.1", 253, 0, true, &payload(len))
}

pub fn inner6(len: usize) -> Vec<u8> {
    ip(
        "2001:db8:1::2",
        "2001:db8:2::1",
        253,
        0,
        true,
        &payload(len),
    )
}

pub fn outer_of(sa: &Sa) -> OuterHeader {
    OuterHeader::between(sa.src, sa.id.dst)
}

/// Decrypts an ESP packet without looking at what is inside.
pub fn plaintext(sa: &Sa, sequence: u64, esp: &[u8]) -> Vec<u8> {
    let mut esp = esp.to_vec();
    let range = cipher(sa).open(sequence, sa.esn, &mut esp).unwrap();
    esp[range].to_vec()
}

pub fn cipher(sa: &Sa) -> EspCipher {
    let encryption = sa.encryption.as_ref().unwrap();
    let (integrity, integrity_key) = match &sa.integrity {
        Some(integrity) => (Some(integrity.transform), integrity.key.as_bytes()),
        None => (None, &[][..]),
    };
    EspCipher::new(
        encryption.transform,
        encryption.key.as_bytes(),
        integrity,
        integrity_key,
    )
    .unwrap()
}

/// An ESP packet with exactly this plaintext, as only a faulty or strange peer makes it.
pub fn with_plaintext(sa: &Sa, sequence: u64, plaintext: &[u8]) -> Vec<u8> {
    let cipher = cipher(sa);
    let mut esp = vec![0; cipher.header_len() + plaintext.len() + cipher.icv_len()];
    esp[cipher.header_len()..][..plaintext.len()].copy_from_slice(plaintext);
    cipher.seal(sequence, sa.esn, sa.id.spi, &mut esp).unwrap();
    esp
}

/// Payload, minimal padding for blocks of 16, pad length, next header.
pub fn with_trailer(payload: &[u8], next_header: u8) -> Vec<u8> {
    let pad = (payload.len() + 2).next_multiple_of(16) - payload.len() - 2;
    let mut plaintext = payload.to_vec();
    plaintext.extend(1..=pad as u8);
    plaintext.extend([pad as u8, next_header]);
    plaintext
}
