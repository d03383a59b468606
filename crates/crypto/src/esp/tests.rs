//! ESP packets against draft-mcgrew-gcm-test-01, RFC 7634 and RFC 3602, and what must not pass.

mod packets;

use super::*;
use crate::sha1;
use crate::test_util::hex;

struct Vector {
    key: &'static str,
    iv: &'static str,
    spi: u32,
    sequence: u64,
    esn: bool,
    plaintext: &'static str,
    ciphertext: &'static str,
    icv: &'static str,
}

const AES_GCM_16: u16 = 20;
const CHACHA20_POLY1305: u16 = 28;
const AES_CBC: u16 = 12;
const HMAC_SHA2_256_128: u16 = 12;

fn check_aead(encryption_id: u16, vector: &Vector) {
    let cipher = EspCipher::new(encryption_id, &hex(vector.key), None, &[]).unwrap();
    let plaintext = hex(vector.plaintext);
    let mut packet = vec![0; cipher.header_len()];
    packet.extend(&plaintext);
    packet.resize(packet.len() + cipher.icv_len(), 0);
    cipher
        .seal_with_iv(
            vector.sequence,
            vector.esn,
            vector.spi,
            &hex(vector.iv),
            &mut packet,
        )
        .unwrap();

    let [.., s0, s1, s2, s3] = vector.sequence.to_be_bytes();
    let expected = [
        vector.spi.to_be_bytes().to_vec(),
        vec![s0, s1, s2, s3],
        hex(vector.iv),
        hex(vector.ciphertext),
        hex(vector.icv),
    ]
    .concat();
    assert_eq!(packet, expected);

    let mut damaged = packet.clone();
    let range = cipher
        .open(vector.sequence, vector.esn, &mut packet)
        .unwrap();
    assert_eq!(packet[range], plaintext);
    // Nothing may be different: neither any octet, nor the half of the sequence number that does not travel.
    for at in 0..damaged.len() {
        damaged[at] ^= 0x20;
        let mut received = damaged.clone();
        assert_eq!(
            cipher.open(vector.sequence, vector.esn, &mut received),
            Err(EspOpenError::AuthenticationFailed),
        );
        damaged[at] ^= 0x20;
    }
    let other_high = vector.sequence ^ (1 << 32);
    let opened = cipher.open(other_high, vector.esn, &mut damaged).is_ok();
    assert_eq!(opened, !vector.esn);
}

/// "Test Cases for the use of GCM and GMAC in IPsec ESP", §4, some of each key length, with and without ESN.
#[test]
fn draft_mcgrew_gcm_test_section_4() {
    let vectors = [
        Vector {
            key: "4c80cdefbb5d10da906ac73c3613a6342e443b68",
            iv: "4956ed7e3b244cfe",
            spi: 0x00004321,
            sequence: 0x8765432100000000,
            esn: true,
            plaintext: "\
            45000048699a000080114db7c0a80102c0a801010a9bf15638d301000001000000000000045f736970045f7564700373\
            69700963796265726369747902646b000021000101020201",
            ciphertext: "\
            fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34cfa2436f14a3f3cf65925bf1f4a13c5d\
            15b21e1884f5ff6247aeabb786b93bce61bc17d768fd9732",
            icv: "459018148f6cbe722fd04796562dfdb4",
        },
        Vector {
            key: "feffe9928665731c6d6a8f9467308308cafebabe",
            iv: "facedbaddecaf888",
            spi: 0x0000a5f8,
            sequence: 0x0000000a,
            esn: false,
            plaintext: "\
            4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d0010000010000000000000373697009637962\
            65726369747902646b00000100010001",
            ciphertext: "\
            deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642\
            cfbb85a5b47e48a4ec3b9ba95d918bd1",
            icv: "83b70d3aa8bc6ee4c309e9d85a41ad4a",
        },
        Vector {
            key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344",
            iv: "0102030405060708",
            spi: 0x4a2cbfe3,
            sequence: 0x00000002,
            esn: false,
            plaintext: "\
            4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b401010402\
            01020201",
            ciphertext: "\
            ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99d\
            ef842d8e",
            icv: "b335f4eecfdbf831824b4c4915956c96",
        },
        Vector {
            key: "3de09874b388e6491988d0c3607eae1f57690e43",
            iv: "4e280000a2fca1a3",
            spi: 0x42f67e3f,
            sequence: 0x1010101010101010,
            esn: true,
            plaintext: "4500001c42a200008001441f406793b6e00000020a00f5ff01020201",
            ciphertext: "fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed",
            icv: "369f071f35e034be95f112e4e7d05d35",
        },
        Vector {
            key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab73616c74",
            iv: "616e640169766563",
            spi: 0x17405e67,
            sequence: 0x156f3126dd0db99b,
            esn: true,
            plaintext: "45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb71260250101f646d540001",
            ciphertext: "f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57ff4d3a31ce673119e",
            icv: "451626c2415771e3b7eebca614c89b35",
        },
        Vector {
            key: "7d773d00c144c525ac619d18c84a3f47d9664267",
            iv: "43457e9182443bc6",
            spi: 0x335467ae,
            sequence: 0xffffffff,
            esn: false,
            plaintext: "01020201",
            ciphertext: "437f866b",
            icv: "cb3f699fe9b0822bac961c4504bef270",
        },
        Vector {
            key: "6c6567616c697a656d6172696a75616e61616e64646f69746265666f726569617475726e",
            iv: "333021696765746d",
            spi: 0x796b6963,
            sequence: 0xffffffffffffffff,
            esn: true,
            plaintext: "\
            45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f7071727374\
            01020201",
            ciphertext: "\
            f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a864cd3d78ca4ae68a32b42458fb57dbe82\
            1dcc63b9",
            icv: "d0937ba2945f669368661a329fb4c053",
        },
    ];
    for vector in &vectors {
        check_aead(AES_GCM_16, vector);
    }
}

#[test]
fn rfc7634_appendix_a() {
    check_aead(
        CHACHA20_POLY1305,
        &Vector {
            key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3",
            iv: "1011121314151617",
            spi: 0x0102_0304,
            sequence: 5,
            esn: false,
            plaintext: "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10\
                        0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223\
                        2425262728292a2b2c2d2e2f303132333435363701020204",
            ciphertext: "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6\
                         14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3\
                         cbec163fac469b502773f6fb94e664da9165b82829f641e0",
            icv: "76aaa8266b7fb0f7b11b369907e1ad43",
        },
    );
}

/// The RFC's packets have no ICV; it is computed here from the definition in RFC 4303 §3.3.2.1.
#[test]
fn rfc3602_section_4_cases_5_to_8() {
    let vectors = [
        Vector {
            key: "90d382b410eeba7ad938c46cec1a82bf",
            iv: "e96e8c08ab465763fd098d45dd3ff893",
            spi: 0x4321,
            sequence: 1,
            esn: false,
            plaintext: "\
            08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021222324252627\
            28292a2b2c2d2e2f30313233343536370102030405060708090a0b0c0d0e0e01",
            ciphertext: "\
            f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856a4699e523a55db080b59ec3a8e4b7e52\
            775b07d1db34ed9c538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6",
            icv: "",
        },
        Vector {
            key: "90d382b410eeba7ad938c46cec1a82bf",
            iv: "69d08df7d203329db093fc4924e5bd80",
            spi: 0x4321,
            sequence: 8,
            esn: false,
            plaintext: "0800b5e8a80a0500a69c083d0b660e0077777777777777777777777701020201",
            ciphertext: "f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75",
            icv: "",
        },
        Vector {
            key: "0123456789abcdef0123456789abcdef",
            iv: "f4e765244f6407adf13dc1380f673f37",
            spi: 0x8765,
            sequence: 2,
            esn: false,
            plaintext: "\
            45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d02a2040008090a0b0c0d0e0f10111213\
            1415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233343536370102030405060708090a0a04",
            ciphertext: "\
            773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8e4ecaec78ac53aad7a0f022b859243c6\
            47752e94a859352b8a4d4d2decd136e5c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5a100b842f1c22f0d",
            icv: "",
        },
        Vector {
            key: "0123456789abcdef0123456789abcdef",
            iv: "85d47224b5f3dd5d2101d4ea8dffab22",
            spi: 0x8765,
            sequence: 5,
            esn: false,
            plaintext: "\
            45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083da3de0300ffffffffffffffffffffffff\
            ffffffffffffffffffffffffffffffffffffffff0102030405060708090a0a04",
            ciphertext: "\
            15b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb50f980a08c9843fd3a1b06d5c07ff9639\
            b7eb7dfb3512e5de435e7207ed971ef3d2726d9b5ef6affc6d17a0decbb13892",
            icv: "",
        },
    ];
    let integrity_key = [0x42; 32];
    for vector in &vectors {
        let cipher = EspCipher::new(
            AES_CBC,
            &hex(vector.key),
            Some(HMAC_SHA2_256_128),
            &integrity_key,
        )
        .unwrap();
        let plaintext = hex(vector.plaintext);
        let mut packet = vec![0; cipher.header_len()];
        packet.extend(&plaintext);
        packet.resize(packet.len() + cipher.icv_len(), 0);
        cipher
            .seal_with_iv(
                vector.sequence,
                false,
                vector.spi,
                &hex(vector.iv),
                &mut packet,
            )
            .unwrap();
        let mut expected = [
            vector.spi.to_be_bytes().to_vec(),
            u32::try_from(vector.sequence)
                .unwrap()
                .to_be_bytes()
                .to_vec(),
            hex(vector.iv),
            hex(vector.ciphertext),
        ]
        .concat();
        let icv = crate::Prf::HmacSha256.compute(&integrity_key, &[&expected]);
        expected.extend(&icv.as_ref()[..16]);
        assert_eq!(packet, expected);
        let range = cipher.open(vector.sequence, false, &mut packet).unwrap();
        assert_eq!(packet[range], plaintext);
    }
}

/// The case of AES-GMAC in draft-mcgrew-gcm-test-01 that the Linux kernel checks itself with: nothing is encrypted, and
/// the IV is authenticated.
#[test]
fn gmac_authenticates_the_iv_too() {
    check_aead(
        Encryption::Aes128Gmac.iana_id(),
        &Vector {
            key: "4c80cdefbb5d10da906ac73c3613a63422433c64",
            iv: "0000000000000000",
            spi: 0x00004321,
            sequence: 7,
            esn: false,
            plaintext: "\
            45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f7071727374\
            01020201",
            ciphertext: "\
            45000030da3a00008001df3bc0a80005c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f7071727374\
            01020201",
            icv: "f2a9a836e155106aa8dcd618e4099aaa",
        },
    );
}

/// Every combination that ESP can have.
fn ciphers() -> Vec<EspCipher> {
    let mut all = Vec::new();
    for encryption in Encryption::ALL {
        let key = vec![7; encryption.key_len()];
        if encryption.is_aead() {
            all.push(EspCipher::new(encryption.iana_id(), &key, None, &[]).unwrap());
            continue;
        }
        for integrity in Integrity::ALL {
            let integrity_key = vec![9; integrity.key_len()];
            let integrity_id = Some(integrity.iana_id());
            all.push(
                EspCipher::new(encryption.iana_id(), &key, integrity_id, &integrity_key).unwrap(),
            );
        }
    }
    all
}

fn sealed(cipher: &EspCipher, sequence: u64, esn: bool, plaintext: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; cipher.header_len()];
    packet.extend(plaintext);
    packet.resize(packet.len() + cipher.icv_len(), 0);
    cipher
        .seal(sequence, esn, 0xc0de_cafe, &mut packet)
        .unwrap();
    packet
}

#[test]
fn what_is_sealed_can_be_opened() {
    for cipher in ciphers() {
        for len in [0, 16, 64, 1408] {
            for (sequence, esn) in [(1, false), (0xffff_ffff, false), (0x5_0000_0001, true)] {
                let plaintext: Vec<u8> = (0..=255).cycle().take(len).collect();
                let mut packet = sealed(&cipher, sequence, esn, &plaintext);
                assert_eq!(packet[..4], 0xc0de_cafe_u32.to_be_bytes());
                assert_eq!(packet[4..8], sequence.to_be_bytes()[4..]);
                let range = cipher.open(sequence, esn, &mut packet).unwrap();
                assert_eq!(packet[range], plaintext, "{cipher:?}");
            }
        }
    }
}

/// RFC 4303 §2.2.1: the high half of an extended sequence number is covered by the ICV, appended for an HMAC.
#[test]
fn extended_sequence_numbers_are_authenticated() {
    for cipher in ciphers() {
        let packet = sealed(&cipher, 0x1_0000_0007, true, &[1; 32]);
        let open = |sequence, esn| cipher.open(sequence, esn, &mut packet.clone());
        assert!(open(0x1_0000_0007, true).is_ok());
        for sequence in [0x0_0000_0007, 0x2_0000_0007] {
            assert_eq!(
                open(sequence, true),
                Err(EspOpenError::AuthenticationFailed)
            );
        }
        assert_eq!(open(7, false), Err(EspOpenError::AuthenticationFailed));
        if cipher.integrity() == Some(Integrity::HmacSha256_128) {
            let end = packet.len() - 16;
            let icv = crate::Prf::HmacSha256.compute(&[9; 32], &[&packet[..end], &[0, 0, 0, 1]]);
            assert_eq!(packet[end..], icv.as_ref()[..16]);
        }
    }
}

//= rfc4303#3.3.3
//= type=test
//# In other words, the sender MUST NOT send a
//# packet on an SA if doing so would cause the sequence number to cycle.
#[test]
fn short_sequence_numbers_do_not_cycle() {
    for cipher in ciphers() {
        let mut packet = vec![0; cipher.header_len() + 16 + cipher.icv_len()];
        assert_eq!(
            cipher.seal(1 << 32, false, 1, &mut packet),
            Err(EspSealError::SequenceOverflow),
        );
        assert_eq!(packet, vec![0; packet.len()], "nothing was written");
    }
}

#[test]
fn any_changed_octet_is_noticed() {
    for cipher in ciphers() {
        let packet = sealed(&cipher, 3, false, &[5; 48]);
        for at in 0..packet.len() {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            assert_eq!(
                cipher.open(3, false, &mut changed),
                Err(EspOpenError::AuthenticationFailed),
                "{cipher:?} octet {at}",
            );
        }
    }
}

#[test]
fn impossible_lengths_are_refused() {
    for cipher in ciphers() {
        let packet = sealed(&cipher, 3, false, &[5; 48]);
        for len in 0..packet.len() {
            assert!(cipher.open(3, false, &mut packet.clone()[..len]).is_err());
        }
        for len in 0..cipher.header_len() + cipher.icv_len() {
            let mut room = vec![0; len];
            assert_eq!(
                cipher.seal(1, false, 1, &mut room),
                Err(EspSealError::Length)
            );
            assert_eq!(cipher.open(1, false, &mut room), Err(EspOpenError::Length));
        }
    }
}

/// RFC 3602 §3: IVs for CBC must be unpredictable. Here they are at least all different, do not show the sequence
/// number, and depend on the key.
#[test]
fn cbc_ivs_do_not_follow_the_sequence_number() {
    let cipher =
        |key| EspCipher::new(AES_CBC, &[key; 16], Some(HMAC_SHA2_256_128), &[1; 32]).unwrap();
    let (a, b) = (cipher(1), cipher(2));
    let iv =
        |cipher: &EspCipher, sequence| sealed(cipher, sequence, false, &[0; 16])[8..24].to_vec();
    let mut seen = std::collections::HashSet::new();
    for sequence in 1..=1000u64 {
        let (iv_a, iv_b) = (iv(&a, sequence), iv(&b, sequence));
        assert_eq!(iv_a, iv(&a, sequence), "reproducible");
        assert!(seen.insert(iv_a.clone()) && seen.insert(iv_b));
        let bits: u32 = iv_a
            .iter()
            .zip(iv(&a, sequence + 1))
            .map(|(x, y)| (x ^ y).count_ones())
            .sum();
        assert!((30..=98).contains(&bits), "{bits} of 128 bits differ");
    }
}

#[test]
fn wrong_keys_are_refused() {
    let new = EspCipher::new;
    let aead = Encryption::Aes128Gcm16;
    let cbc = Encryption::Aes256Cbc;
    assert_eq!(
        new(AES_GCM_16, &[0; 16], None, &[]).unwrap_err(),
        UnknownAlgorithm::Encryption {
            id: 20,
            key_len: 16
        }
        .into(),
        "the salt is missing",
    );
    assert_eq!(
        new(2, &[0; 8], None, &[]).unwrap_err().to_string(),
        "encryption algorithm 2 with 8 octets of key material is not supported"
    );
    assert_eq!(
        new(AES_GCM_16, &[0; 20], Some(12), &[0; 32]).unwrap_err(),
        EspKeyError::IntegrityNotAllowed(aead),
    );
    //= rfc8221#4
    //= type=test
    //# Encryption without authentication is not effective and MUST NOT be
    //# used.
    assert_eq!(
        new(AES_CBC, &[0; 32], None, &[]).unwrap_err(),
        EspKeyError::IntegrityMissing(cbc)
    );
    assert_eq!(
        new(AES_CBC, &[0; 32], Some(1), &[0; 16]).unwrap_err(),
        UnknownAlgorithm::Integrity(1).into(),
    );
    assert_eq!(
        new(AES_CBC, &[0; 32], Some(12), &[0; 20]).unwrap_err(),
        EspKeyError::IntegrityKeyLength {
            algorithm: Integrity::HmacSha256_128,
            got: 20
        },
    );
}

#[test]
fn keys_do_not_show_themselves() {
    for cipher in ciphers() {
        let text = format!("{cipher:?}");
        assert!(text.len() < 110 && !text.contains("7, 7"), "{text}");
    }
}

/// Any octets as a packet: refused, no panic.
#[test]
fn fuzz_open() {
    let ciphers = ciphers();
    bolero::check!()
        .with_test_time(std::time::Duration::from_secs(1))
        .for_each(|input: &[u8]| {
            let chosen = usize::from(sha1(&[input])[0]) % ciphers.len();
            let sequence = u64::try_from(input.len()).unwrap();
            for esn in [false, true] {
                assert!(
                    ciphers[chosen]
                        .open(sequence, esn, &mut input.to_vec())
                        .is_err()
                );
            }
        });
}
