//! The Encrypted payload against RFC 7634, against OpenSSL, and what must not pass.

use super::*;
use crate::SystemEntropy;
use crate::test_util::hex;

/// Octets of header and generic SK header.
const AAD_LEN: usize = 32;

#[test]
fn rfc7634_appendix_b() {
    let key = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3");
    let protection = Protection::new(Encryption::Chacha20Poly1305, None, &key, &[]).unwrap();
    let aad = hex("c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029");
    let notify = hex("0000000c000040010000000a");
    let message = hex(
        "c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029\
                       1011121314151617610394701f8d017f7c12924889\
                       6b71bfe25236efd7cdc67066906315b2",
    );
    assert_eq!(AAD_LEN + protection.body_len(notify.len()), message.len());

    let mut buf = [aad, notify.clone()].concat();
    protection
        .seal_with_iv(AAD_LEN, &mut buf, &hex("1011121314151617"), 0)
        .unwrap();
    assert_eq!(buf, message);

    let range = protection.open(&mut buf, AAD_LEN).unwrap();
    assert_eq!(buf[range], notify);
}

/// Made with `openssl enc -aes-…-cbc -nopad` and Python's hmac.
#[test]
fn cbc_and_hmac_against_openssl() {
    let vectors = [
        (
            Encryption::Aes128Cbc,
            Integrity::HmacSha256_128,
            "\
            c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000005029000034a0a1a2a3a4a5a6a7a8a9aaabacadaeaf\
            57a545640ac9a72dd85e7209e8390ebb4c593fc4c08ffaacf31770adfd8cac63",
        ),
        (
            Encryption::Aes192Cbc,
            Integrity::HmacSha384_192,
            "\
            c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e20250000000009000000582900003ca0a1a2a3a4a5a6a7a8a9aaabacadaeaf\
            ec24adf986bdfc97534c5479bb367515d19146e908ebc3ae331cdfbcef13f8ea463c8212cb73dc23",
        ),
        (
            Encryption::Aes256Cbc,
            Integrity::HmacSha512_256,
            "\
            c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000006029000044a0a1a2a3a4a5a6a7a8a9aaabacadaeaf\
            163cd716136dfb60b8857ce8e0cebb6f090fbebf442bc8c0a39ab8c08fe059d7d08e3912599dab5ae4a32975797014b1",
        ),
    ];
    let notify = hex("0000000c000040010000000a");
    let iv: Vec<u8> = (0xa0..0xb0).collect();
    for (encryption, integrity, message) in vectors {
        let sk_e: Vec<u8> = (0x10..).take(encryption.key_len()).collect();
        let sk_a: Vec<u8> = (0x60..).take(integrity.key_len()).collect();
        let protection = Protection::new(encryption, Some(integrity), &sk_e, &sk_a).unwrap();
        let message = hex(message);
        assert_eq!(AAD_LEN + protection.body_len(notify.len()), message.len());

        let mut buf = [&message[..AAD_LEN], &notify].concat();
        protection.seal_with_iv(AAD_LEN, &mut buf, &iv, 0).unwrap();
        assert_eq!(buf, message);

        let range = protection.open(&mut buf, AAD_LEN).unwrap();
        assert_eq!(buf[range], notify);
    }
}

/// Every combination that IKE can have.
fn protections() -> Vec<Protection> {
    let mut all = Vec::new();
    for encryption in Encryption::ALL {
        let sk_e = vec![7; encryption.key_len()];
        if !encryption.is_for_ike() {
            assert!(Protection::new(encryption, None, &sk_e, &[]).is_err());
            continue;
        }
        if encryption.is_aead() {
            all.push(Protection::new(encryption, None, &sk_e, &[]).unwrap());
            continue;
        }
        for integrity in Integrity::ALL {
            let sk_a = vec![9; integrity.key_len()];
            all.push(Protection::new(encryption, Some(integrity), &sk_e, &sk_a).unwrap());
        }
    }
    all
}

fn sealed(protection: &mut Protection, plaintext: &[u8]) -> Vec<u8> {
    let mut buf = vec![0xaa; AAD_LEN];
    buf.extend(plaintext);
    protection
        .seal(AAD_LEN, &mut buf, &mut SystemEntropy::default())
        .unwrap();
    buf
}

#[test]
fn what_is_sealed_can_be_opened_and_has_the_foretold_length() {
    for mut protection in protections() {
        for len in (0..70).chain([1200]) {
            let plaintext: Vec<u8> = (0..=255).cycle().take(len).collect();
            let mut message = sealed(&mut protection, &plaintext);
            assert_eq!(message.len(), AAD_LEN + protection.body_len(len));
            assert_eq!(message[..AAD_LEN], [0xaa; AAD_LEN]);
            let range = protection.open(&mut message, AAD_LEN).unwrap();
            assert_eq!(message[range], plaintext, "{protection:?}");
        }
    }
}

/// For fragments (RFC 7383): as much as fits and not an octet more.
#[test]
fn max_plain_len_is_the_most_that_fits() {
    for protection in protections() {
        for body_len in 0..300 {
            let most = protection.max_plain_len(body_len);
            if protection.body_len(0) <= body_len {
                assert!(protection.body_len(most) <= body_len);
                assert!(protection.body_len(most + 1) > body_len);
            } else {
                assert_eq!(most, 0);
            }
        }
    }
}

//= rfc5282#3.1
//= type=test
//# The IV MUST be
//# chosen by the encryptor in a manner that ensures that the same IV
//# value is used only once for a given key.
#[test]
fn no_iv_is_used_twice() {
    for mut protection in protections() {
        let iv_len = protection.encryption.iv_len();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            let message = sealed(&mut protection, b"the same");
            assert!(seen.insert(message[AAD_LEN..AAD_LEN + iv_len].to_vec()));
        }
        if iv_len == 8 && protection.encryption.block_len() == 1 {
            protection.next_iv = u64::MAX;
            let mut buf = vec![0; AAD_LEN];
            assert_eq!(
                protection.seal(AAD_LEN, &mut buf, &mut SystemEntropy::default()),
                Err(ProtectionError::IvsExhausted),
            );
        }
    }
}

//= rfc7296#3.14
//= type=test
//# Senders MUST select a new
//# unpredictable IV for every message;
#[test]
fn cbc_ivs_come_from_the_entropy() {
    let mut protection = Protection::new(
        Encryption::Aes128Cbc,
        Some(Integrity::HmacSha256_128),
        &[1; 16],
        &[2; 32],
    )
    .unwrap();
    let mut expected = [0; 16];
    crate::testing::InsecureEntropy::from_seed(5).fill(&mut expected);
    let mut buf = vec![0; AAD_LEN];
    protection
        .seal(
            AAD_LEN,
            &mut buf,
            &mut crate::testing::InsecureEntropy::from_seed(5),
        )
        .unwrap();
    assert_eq!(buf[AAD_LEN..AAD_LEN + 16], expected);
}

//= rfc7296#3.14
//= type=test
//# the recipient MUST accept any length that results
//# in proper alignment.
#[test]
fn more_padding_than_needed_is_accepted() {
    for protection in protections() {
        let block = protection.encryption.block_len();
        let iv = vec![3; protection.encryption.iv_len()];
        for blocks in [1, 2, 255 / block - 1] {
            let mut buf = vec![0xaa; AAD_LEN];
            buf.extend(b"payload");
            protection
                .seal_with_iv(AAD_LEN, &mut buf, &iv, blocks * block)
                .unwrap();
            let range = protection.open(&mut buf, AAD_LEN).unwrap();
            assert_eq!(&buf[range], b"payload");
        }
    }
}

//= rfc7296#3.14
//= type=test
//# The checksum MUST be computed over the encrypted message.
#[test]
fn any_changed_octet_is_noticed() {
    for mut protection in protections() {
        let message = sealed(&mut protection, b"some payloads");
        for at in 0..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 0x80;
            assert_eq!(
                protection.open(&mut changed, AAD_LEN),
                Err(OpenError::AuthenticationFailed),
                "{protection:?} octet {at}",
            );
        }
        for len in 0..message.len() {
            assert!(
                protection
                    .open(&mut message.clone()[..len], AAD_LEN)
                    .is_err()
            );
        }
        assert_eq!(
            protection.open(&mut message.clone(), message.len()),
            Err(OpenError::Length),
        );
        assert_eq!(
            protection.open(&mut message.clone(), usize::MAX),
            Err(OpenError::Length),
        );
    }
}

/// The peer has the keys and nevertheless lies about its padding: the error blames it, and nothing is read beyond.
#[test]
fn impossible_pad_lengths_are_refused() {
    let protection = Protection::new(Encryption::Aes128Gcm16, None, &[1; 20], &[]).unwrap();
    let key = AeadKey::new(Encryption::Aes128Gcm16, &[1; 20]).unwrap();
    for (plaintext, ok) in [
        (&[0, 0, 0, 3][..], true),
        (&[0, 0, 0, 4][..], false),
        (&[0, 0, 0, 255][..], false),
        (&[0][..], true),
        (&[1][..], false),
    ] {
        let mut ciphertext = plaintext.to_vec();
        let mut icv = [0; 16];
        key.seal([0; 8], &[0xaa; AAD_LEN], &mut ciphertext, &mut icv)
            .unwrap();
        let mut message = [&[0xaa; AAD_LEN][..], &[0; 8], &ciphertext, &icv].concat();
        let opened = protection.open(&mut message, AAD_LEN);
        if ok {
            assert_eq!(opened, Ok(AAD_LEN + 8..AAD_LEN + 8));
        } else {
            assert_eq!(opened, Err(OpenError::Padding));
        }
    }
}

#[test]
fn wrong_keys_are_refused() {
    let gcm = Encryption::Aes128Gcm16;
    let cbc = Encryption::Aes128Cbc;
    let hmac = Some(Integrity::HmacSha256_128);
    assert_eq!(
        Protection::new(gcm, None, &[0; 16], &[])
            .unwrap_err()
            .to_string(),
        "key of 16 octets where ENCR_AES_GCM_16 needs 20",
    );
    assert_eq!(
        Protection::new(cbc, hmac, &[0; 16], &[0; 31])
            .unwrap_err()
            .to_string(),
        "key of 31 octets where AUTH_HMAC_SHA2_256_128 needs 32",
    );
    assert_eq!(
        Protection::new(cbc, None, &[0; 16], &[])
            .unwrap_err()
            .to_string(),
        "ENCR_AES_CBC does not go with no integrity algorithm",
    );
    assert_eq!(
        Protection::new(gcm, hmac, &[0; 20], &[0; 32])
            .unwrap_err()
            .to_string(),
        "ENCR_AES_GCM_16 does not go with AUTH_HMAC_SHA2_256_128",
    );
}

/// Any octets as a message: refused, no panic.
#[test]
fn fuzz_open() {
    let protections = protections();
    bolero::check!()
        .with_test_time(std::time::Duration::from_secs(1))
        .for_each(|input: &[u8]| {
            for protection in &protections {
                for aad_len in [0, AAD_LEN, 36] {
                    assert!(protection.open(&mut input.to_vec(), aad_len).is_err());
                }
            }
        });
}

/// Any plaintext that the peer may have sealed: an inner range within the message or an error, no panic.
#[test]
fn fuzz_open_authentic() {
    let key = AeadKey::new(Encryption::Aes128Gcm16, &[1; 20]).unwrap();
    let protection = Protection::new(Encryption::Aes128Gcm16, None, &[1; 20], &[]).unwrap();
    bolero::check!()
        .with_test_time(std::time::Duration::from_secs(1))
        .for_each(|input: &[u8]| {
            let mut ciphertext = input.to_vec();
            let mut icv = [0; 16];
            key.seal([0; 8], &[], &mut ciphertext, &mut icv).unwrap();
            let mut message = [&[0; 8][..], &ciphertext, &icv].concat();
            match protection.open(&mut message, 0) {
                Ok(range) => assert_eq!(message[range.clone()], input[..range.len()]),
                Err(error) => assert_ne!(error, OpenError::AuthenticationFailed),
            }
        });
}
