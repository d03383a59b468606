//! Published ESP packets.

mod support;

use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use cygnet_crypto::EspCipher;
use cygnet_esp::{Inbound, OuterHeader, PacketBuffer};
use cygnet_ipsec::{CipherKey, IntegrityKey, Mode, ReplayWindow, Sa, SaDirection, SaId};
use support::*;

#[test]
fn rfc7634_appendix_a_chacha20_poly1305_tunnel() {
    let keymat: Vec<u8> = (0x80..=0xa3).collect();
    let source = hex(
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10000736270809
                      0a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f
                      3031323334353637",
    );
    let mut wire = hex("4500008c234500004032de5bcb007199cb0071050102030400000005101112131415161724039428
                        b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95df
                        ab4c02f72aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b828
                        29f641e076aaa8266b7fb0f7b11b369907e1ad43");
    let sa = Sa {
        id: SaId {
            dst: "203.0.113.5".parse().unwrap(),
            spi: 0x0102_0304,
            ..sa().id
        },
        src: "203.0.113.153".parse().unwrap(),
        encryption: Some(CipherKey {
            transform: ENCR_CHACHA20_POLY1305,
            key: key(keymat.clone()),
        }),
        ..sa()
    };

    // Ours differs in the IV only: its plaintext, with the padding, is the one of the example.
    let sent = outbound(&sa);
    sent.resume_after(4);
    let sequence = sent.reserve(1).unwrap().next().unwrap();
    let (sealed, ours) = within(&source, sent.headroom(), sent.tailroom(), |buffer| {
        let sealed = sent.seal(sequence, buffer).unwrap();
        sent.write_outer(&sealed, buffer, 0x2345).unwrap();
        sealed
    });
    assert_eq!(sealed.outer.hop_limit, 64);
    assert_eq!(
        ours[..28],
        wire[..28],
        "outer header, SPI and sequence number"
    );
    assert_eq!(ours.len(), wire.len());
    let cipher = EspCipher::new(ENCR_CHACHA20_POLY1305, &keymat, None, &[]).unwrap();
    let [ours, theirs] = [&ours[20..], &wire[20..]].map(|esp| {
        let mut esp = esp.to_vec();
        let plaintext = cipher.open(5, false, &mut esp).unwrap();
        esp[plaintext].to_vec()
    });
    assert_eq!(ours, theirs);
    assert!(theirs.ends_with(&hex("01020204")));

    let len = wire.len();
    let mut buffer = PacketBuffer::new(&mut wire, 0..len).unwrap();
    let (outer, protocol) = OuterHeader::strip(&mut buffer).unwrap();
    assert_eq!((outer.src, outer.dst, protocol), (sa.src, sa.id.dst, 50));
    let opened = inbound(&sa).open(&mut buffer, &outer).unwrap();
    assert_eq!(opened.sequence, 5);
    assert_eq!(buffer.bytes(), source);
}

/// RFC 3602 §4, cases 5 to 8: ESP with AES-CBC, without authentication.
struct CbcCase {
    mode: Mode,
    key: &'static str,
    spi: u32,
    sequence: u64,
    iv: &'static str,
    original: &'static str,
    plaintext: &'static str,
    /// Headers before the IV.
    wire: &'static str,
    ciphertext: &'static str,
}

const RFC_3602: [CbcCase; 4] = [
    CbcCase {
        mode: Mode::Transport,
        key: "90d382b4 10eeba7a d938c46c ec1a82bf",
        spi: 0x4321,
        sequence: 1,
        iv: "e96e8c08 ab465763 fd098d45 dd3ff893",
        original: "45000054 08f20000 4001f9fe c0a87b03 c0a87b64
            08000ebd a70a0000 8e9c083d b95b0700 08090a0b 0c0d0e0f 10111213 14151617
            18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637",
        plaintext: "08000ebd a70a0000 8e9c083d b95b0700 08090a0b 0c0d0e0f 10111213 14151617
            18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637
            01020304 05060708 090a0b0c 0d0e0e01",
        wire: "4500007c 08f20000 4032f9a5 c0a87b03 c0a87b64 00004321 00000001",
        ciphertext: "f663c25d 325c18c6 a9453e19 4e120849 a4870b66 cc6b9965 330013b4 898dc856
            a4699e52 3a55db08 0b59ec3a 8e4b7e52 775b07d1 db34ed9c 538ab50c 551b874a
            a269add0 47ad2d59 13ac19b7 cfbad4a6",
    },
    CbcCase {
        mode: Mode::Transport,
        key: "90d382b4 10eeba7a d938c46c ec1a82bf",
        spi: 0x4321,
        sequence: 8,
        iv: "69d08df7 d203329d b093fc49 24e5bd80",
        original: "45000030 08fe0000 4001fa16 c0a87b03 c0a87b64
            0800b5e8 a80a0500 a69c083d 0b660e00 77777777 77777777 77777777",
        plaintext: "0800b5e8 a80a0500 a69c083d 0b660e00 77777777 77777777 77777777 01020201",
        wire: "4500004c 08fe0000 4032f9c9 c0a87b03 c0a87b64 00004321 00000008",
        ciphertext: "f5199588 1ec4e0c4 488987ce 742e8109 689bb379 d2d750c0 d915dca3 46a89f75",
    },
    CbcCase {
        mode: Mode::Tunnel,
        key: "01234567 89abcdef 01234567 89abcdef",
        spi: 0x8765,
        sequence: 2,
        iv: "f4e76524 4f6407ad f13dc138 0f673f37",
        original: "45000054 09040000 4001f988 c0a87b03 c0a87bc8
            08009f76 a90a0100 b49c083d 02a20400 08090a0b 0c0d0e0f 10111213 14151617
            18191a1b 1c1d1e1f 20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637",
        plaintext: "45000054 09040000 4001f988 c0a87b03 c0a87bc8 08009f76 a90a0100 b49c083d
            02a20400 08090a0b 0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f 20212223
            24252627 28292a2b 2c2d2e2f 30313233 34353637 01020304 05060708 090a0a04",
        wire: "4500008c 09050000 4032f91e c0a87b03 c0a87bc8 00008765 00000002",
        ciphertext: "773b5241 a4c44922 5e4f3ce5 ed611b0c 237ca96c f74a9301 3c1b0ea1 a0cf70f8
            e4ecaec7 8ac53aad 7a0f022b 859243c6 47752e94 a859352b 8a4d4d2d ecd136e5
            c177f132 ad3fbfb2 201ac990 4c74ee0a 109e0ca1 e4dfe9d5 a100b842 f1c22f0d",
    },
    CbcCase {
        mode: Mode::Tunnel,
        key: "01234567 89abcdef 01234567 89abcdef",
        spi: 0x8765,
        sequence: 5,
        iv: "85d47224 b5f3dd5d 2101d4ea 8dffab22",
        original: "45000044 090c0000 4001f990 c0a87b03 c0a87bc8
            0800d63c aa0a0200 c69c083d a3de0300 ffffffff ffffffff ffffffff ffffffff
            ffffffff ffffffff ffffffff ffffffff",
        plaintext: "45000044 090c0000 4001f990 c0a87b03 c0a87bc8 0800d63c aa0a0200 c69c083d
            a3de0300 ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff
            ffffffff 01020304 05060708 090a0a04",
        wire: "4500007c 090d0000 4032f926 c0a87b03 c0a87bc8 00008765 00000005",
        ciphertext: "15b92683 819596a8 047232cc 00f7048f e45318e1 1f8a0f62 ede3c3fc 61203bb5
            0f980a08 c9843fd3 a1b06d5c 07ff9639 b7eb7dfb 3512e5de 435e7207 ed971ef3
            d2726d9b 5ef6affc 6d17a0de cbb13892",
    },
];

#[test]
fn rfc3602_section_4_aes_cbc_packets() {
    const INTEGRITY_KEY: [u8; 32] = [7; 32];
    for case in RFC_3602 {
        let (original, wire, iv) = (hex(case.original), hex(case.wire), hex(case.iv));
        let address = |at: usize| -> std::net::IpAddr {
            <[u8; 4]>::try_from(&wire[at..at + 4]).unwrap().into()
        };
        let sa = Sa {
            id: SaId {
                dst: address(16),
                spi: case.spi,
                ..sa().id
            },
            src: address(12),
            mode: case.mode,
            encryption: Some(CipherKey {
                transform: ENCR_AES_CBC,
                key: key(hex(case.key)),
            }),
            integrity: Some(IntegrityKey {
                transform: AUTH_HMAC_SHA2_256_128,
                key: key(INTEGRITY_KEY),
            }),
            ..sa()
        };

        // The packet of the RFC with the ICV that it lacks is opened to the original packet.
        let mut esp = [&wire[20..], &iv, &hex(case.ciphertext)].concat();
        let icv = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &INTEGRITY_KEY), &esp);
        esp.extend(&icv.as_ref()[..16]);
        let outer = OuterHeader::between(sa.src, sa.id.dst);
        let (opened, mut packet) = open(&mut inbound(&sa), &esp, &outer).unwrap();
        assert_eq!(opened.sequence, case.sequence);
        if case.mode == Mode::Transport {
            // The header is made anew, without identification.
            packet[..20].copy_from_slice(&original[..20]);
        }
        assert_eq!(packet, original);

        // The original packet is sealed to the RFC's headers, padding and, with its IV, ciphertext.
        let sent = outbound(&sa);
        let identification = u16::from_be_bytes([wire[4], wire[5]]);
        let (_, ours) = within(&original, ROOM, ROOM, |buffer| {
            let sealed = sent.seal(case.sequence, buffer).unwrap();
            sent.write_outer(&sealed, buffer, identification).unwrap();
        });
        let (header, sum_at) = (wire[..20].to_vec(), 10..12);
        assert_eq!(ours[20..28], wire[20..28], "SPI and sequence number");
        assert_eq!(ours.len(), 28 + esp.len() - 8);
        let mut plaintext = ours[20..].to_vec();
        let cipher = EspCipher::new(
            ENCR_AES_CBC,
            &hex(case.key),
            Some(AUTH_HMAC_SHA2_256_128),
            &INTEGRITY_KEY,
        )
        .unwrap();
        let range = cipher.open(case.sequence, false, &mut plaintext).unwrap();
        assert_eq!(plaintext[range], hex(case.plaintext), "payload and trailer");
        // The total length of the RFC's header knows no ICV; but for that the headers are equal.
        let mut ours = ours[..20].to_vec();
        let total = u16::from_be_bytes([ours[2], ours[3]]) - 16;
        ours[2..4].copy_from_slice(&total.to_be_bytes());
        ours[sum_at.clone()].copy_from_slice(&header[sum_at]);
        assert_eq!(ours, header);

        let unbound = UnboundCipherKey::new(&AES_128, &hex(case.key)).unwrap();
        let cbc = EncryptingKey::cbc(unbound).unwrap();
        let mut ciphertext = hex(case.plaintext);
        let context = EncryptionContext::Iv128(<[u8; 16]>::try_from(&iv[..]).unwrap().into());
        cbc.less_safe_encrypt(&mut ciphertext, context).unwrap();
        assert_eq!(
            ciphertext,
            hex(case.ciphertext),
            "the vector is what it says"
        );
    }
}

/// draft-mcgrew-gcm-test-01 §4, the cases with 128- and 256-bit keys and an SPI: key, salt and IV, SPI and sequence
/// number, plaintext, ciphertext with ICV.
const MCGREW: [[&str; 5]; 12] = [
    [
        "4c80cdefbb5d10da906ac73c3613a634",
        "2e443b684956ed7e3b244cfe",
        "000043218765432100000000",
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f756470037369700963796265
         726369747902646b000021000101020201",
        "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff
         6247aeabb786b93bce61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
    ],
    [
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "0000a5f80000000a",
        "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d001000001000000000000037369700963796265726369747902
         646b00000100010001",
        "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48
         a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a",
    ],
    [
        "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        "112233440102030405060708",
        "4a2cbfe300000002",
        "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
        "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99def842d8eb335f4
         eecfdbf831824b4c4915956c96",
    ],
    [
        "00000000000000000000000000000000",
        "000000000000000000000000",
        "0000000000000001",
        "4500003c99c500008001cb7a40679318010101010800075c020044006162636465666768696a6b6c6d6e6f707172737475767761626364
         656667686901020201",
        "4688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284456476492719ffb64de7d9dca1e1d894bc3bd57873ed4d
         181d19d4d5c8c18af3f821d496eeb096e98ad2b69e4799c71d",
    ],
    [
        "3de09874b388e6491988d0c3607eae1f",
        "57690e434e280000a2fca1a3",
        "42f67e3f1010101010101010",
        "4500003c99c300008001cb7c40679318010101010800085c020043006162636465666768696a6b6c6d6e6f707172737475767761626364
         656667686901020201",
        "fba2caa4853cf9f0f22cb10d86dd83b0fec75691cf1a04b00d1138ec9c35791765acbd8701ad79845bf9fe3fba487bc91755e6662b4c8d
         0d1f5e22739530320ae0d731cc978ecafaeae88f00e80d6e48",
    ],
    [
        "3de09874b388e6491988d0c3607eae1f",
        "57690e434e280000a2fca1a3",
        "42f67e3f1010101010101010",
        "4500001c42a200008001441f406793b6e00000020a00f5ff01020201",
        "fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed369f071f35e034be95f112e4e7d05d35",
    ],
    [
        "abbccddef00112233445566778899aab",
        "decaf888cafedebaceface74",
        "000001000000000000000001",
        "4500004933ba00007f119106c3fb1d10c2b1d326c02831ce0035dd7b800302d500004e20001e8c18d75b81dc91baa0476b91b924b28038
         9d92c963bac046ec959b6266c04722b14923010101",
        "18a6fd42f72cbf4ab2a2ea901f73d814e3e7f243d95412e1c349c1d2fbec168f9190feebaf2cb01984e65863965d7472b79da345e0e780
         191f0d2f0e0f496c226f2127b27db35724e7845d68651f57e65f354f75ff17015769623436",
    ],
    [
        "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        "73616c74616e640169766563",
        "17405e67156f3126dd0db99b",
        "45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb71260250101f646d540001",
        "f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57ff4d3a31ce673119e451626c2415771e3b7eebca614c89b
         35",
    ],
    [
        "3de09874b388e6491988d0c3607eae1f",
        "57690e434e280000a2fca1a3",
        "42f67e3f1010101010101010",
        "45000049333e00007f119182c3fb1d10c2b1d326c02831ce0035cb458003025b000001e0001e8c18d65759d52284a0352c71475c888039
         1c764d6e5ee0496b325ae270c03899493915010101",
        "fba2cad12fc1f9f00d3cebf305410db83d7784b607323d220f24b0a97d54182800cadb0f68d99ef0e0c0c89ae9bea8884e52d65bc1afd0
         740f742444747b5b39ab533163aad4550ee5160975cdb608c5769189609763b8e18caa81e2",
    ],
    [
        "7d773d00c144c525ac619d18c84a3f47",
        "d966426743457e9182443bc6",
        "335467aeffffffff",
        "01020201",
        "437f866bcb3f699fe9b0822bac961c4504bef270",
    ],
    [
        "abbccddef00112233445566778899aab",
        "decaf888cafedebaceface74",
        "000001000000000000000001",
        "746f016265016f72016e6f7401746f0162650001",
        "29c9fc69a197d038ccdd14e2ddfcaa0543332164412503524303ed3c6c5f283843af8c3e",
    ],
    [
        "6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961",
        "7475726e333021696765746d",
        "796b6963ffffffffffffffff",
        "45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201",
        "f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458fb57dbe821dcc63b9d0937b
         a2945f669368661a329fb4c053",
    ],
];

#[test]
fn draft_mcgrew_gcm_test_packets() {
    for [secret, nonce, numbers, plaintext, ciphertext] in MCGREW {
        let (nonce, numbers, plaintext) = (hex(nonce), hex(numbers), hex(plaintext));
        let esn = numbers.len() == 12;
        let (spi, sequence) = numbers.split_at(4);
        let low = &sequence[sequence.len() - 4..];
        let esp = [spi, low, &nonce[4..], &hex(ciphertext)].concat();
        let sequence = sequence
            .iter()
            .fold(0_u64, |number, octet| number << 8 | u64::from(*octet));
        // All plaintexts name ICMP as what follows, though they look like tunnel packets: so the mode is transport.
        let sa = Sa {
            direction: SaDirection::In,
            mode: Mode::Transport,
            encryption: Some(CipherKey {
                transform: ENCR_AES_GCM_16,
                key: key([hex(secret), nonce[..4].to_vec()].concat()),
            }),
            esn,
            ..sa()
        };
        let mut inbound = Inbound::new(&sa).unwrap();
        if let Some(before) = sequence.checked_sub(1).filter(|before| *before != 0) {
            let mut window = ReplayWindow::new(64, esn).unwrap();
            window.commit(before).unwrap();
            inbound.resume_with(window);
        }
        let outer = OuterHeader::between(sa.src, sa.id.dst);
        let (opened, packet) = open(&mut inbound, &esp, &outer).unwrap();
        assert_eq!(opened.sequence, sequence);
        let [pad_len, next_header] = plaintext[plaintext.len() - 2..] else {
            unreachable!()
        };
        assert_eq!(packet[9], next_header);
        assert_eq!(
            packet[20..],
            plaintext[..plaintext.len() - 2 - usize::from(pad_len)]
        );
    }
}
