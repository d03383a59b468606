//! The notations of ipsec.conf and swanctl.conf.

mod mistakes;

use super::*;
use Encryption::*;
use Integrity::*;
use KeyExchange::*;

const SHA256: Prf = Prf::HmacSha256;
const SHA384: Prf = Prf::HmacSha384;
const SHA512: Prf = Prf::HmacSha512;

fn ike(
    encryption: &[Encryption],
    prf: &[Prf],
    integrity: &[Integrity],
    key_exchange: &[KeyExchange],
) -> IkeProposal {
    IkeProposal {
        encryption: encryption.to_vec(),
        integrity: integrity.to_vec(),
        prf: prf.to_vec(),
        key_exchange: key_exchange.to_vec(),
        additional: Default::default(),
    }
}

fn esp(
    encryption: &[Encryption],
    integrity: &[Integrity],
    key_exchange: &[KeyExchange],
    esn: &[bool],
) -> EspProposal {
    EspProposal {
        encryption: encryption.to_vec(),
        integrity: integrity.to_vec(),
        key_exchange: key_exchange.to_vec(),
        additional: Default::default(),
        esn: esn.to_vec(),
    }
}

#[test]
fn ipsec_conf_ike() {
    let all = &KeyExchange::DEFAULT;
    let gcm = &[Aes256Gcm16, Aes128Gcm16];
    let cbc = &[Aes256Cbc, Aes128Cbc];
    for (text, expected) in [
        (
            "aes256-sha2_256-dh19",
            ike(&[Aes256Cbc], &[SHA256], &[HmacSha256_128], &[Ecp256]),
        ),
        (
            "aes_gcm_16_256-sha2_512-dh31",
            ike(&[Aes256Gcm16], &[SHA512], &[], &[X25519]),
        ),
        (
            "AES_GCM_C_128-HMAC_SHA2_384-MODP3072",
            ike(&[Aes128Gcm16], &[SHA384], &[], &[Modp3072]),
        ),
        ("aes_gcm256", ike(&[Aes256Gcm16], &Prf::DEFAULT, &[], all)),
        ("aes_gcm_256", ike(&[Aes256Gcm16], &Prf::DEFAULT, &[], all)),
        ("aes_gcm-256", ike(&[Aes256Gcm16], &Prf::DEFAULT, &[], all)),
        (
            "aes_gcm_16-256",
            ike(&[Aes256Gcm16], &Prf::DEFAULT, &[], all),
        ),
        ("aes_gcm", ike(gcm, &Prf::DEFAULT, &[], all)),
        (
            "aes_cbc256",
            ike(&[Aes256Cbc], &Prf::DEFAULT, &Integrity::DEFAULT, all),
        ),
        (
            "aes-sha2;dh14",
            ike(cbc, &[SHA256], &[HmacSha256_128], &[Modp2048]),
        ),
        (
            "chacha20_poly1305-sha2_256-curve25519",
            ike(&[Chacha20Poly1305], &[SHA256], &[], &[X25519]),
        ),
        (
            "3des-sha1;dh2",
            ike(
                &[TripleDesCbc],
                &[Prf::HmacSha1],
                &[HmacSha1_96],
                &[Modp1024],
            ),
        ),
        (
            "aes_ctr128-aes_xcbc-modp8192",
            ike(&[Aes128Ctr], &[Prf::AesXcbc], &[AesXcbc96], &[Modp8192]),
        ),
        (
            "aes_ccm_16_128-aes_cmac-dh5",
            ike(&[Aes128Ccm16], &[Prf::AesCmac], &[], &[Modp1536]),
        ),
        // The integrity algorithm implies the PRF.
        (
            "aes128-hmac_sha2_512_256-dh14",
            ike(&[Aes128Cbc], &[SHA512], &[HmacSha512_256], &[Modp2048]),
        ),
        // ENCR-PRF-INTEG-KE, and the deprecated ENCR-INTEG-PRF-KE where a name makes it plain.
        (
            "aes256-sha2_512-sha2_256-dh19",
            ike(&[Aes256Cbc], &[SHA512], &[HmacSha256_128], &[Ecp256]),
        ),
        (
            "aes256-hmac_sha2_256_128-sha2_512-dh19",
            ike(&[Aes256Cbc], &[SHA512], &[HmacSha256_128], &[Ecp256]),
        ),
        (
            "aes_gcm128-sha2_256-none-dh19",
            ike(&[Aes128Gcm16], &[SHA256], &[], &[Ecp256]),
        ),
        (
            "aes_gcm+chacha20_poly1305-sha2_512+sha2_256-dh31+dh19;modp2048",
            ike(
                &[Aes256Gcm16, Aes128Gcm16, Chacha20Poly1305],
                &[SHA512, SHA256],
                &[],
                &[X25519, Ecp256, Modp2048],
            ),
        ),
        (
            "encrypt=aes256+aes128;prf=sha2_512;integ=sha2_256;ke=ecp_384+dh21",
            ike(
                &[Aes256Cbc, Aes128Cbc],
                &[SHA512],
                &[HmacSha256_128],
                &[Ecp384, Ecp521],
            ),
        ),
        (
            "aes192-sha2_256;ke=dh16;addke1=none",
            IkeProposal {
                additional: offer(&[(1, &[None])]),
                ..ike(&[Aes192Cbc], &[SHA256], &[HmacSha256_128], &[Modp4096])
            },
        ),
        // Repetitions are dropped.
        (
            "aes256+aes-sha2+sha256-dh19+ecp256",
            ike(cbc, &[SHA256], &[HmacSha256_128], &[Ecp256]),
        ),
    ] {
        assert_eq!(
            IkeProposal::parse_ipsec_conf(text),
            Ok(vec![expected]),
            "{text}"
        );
    }
    assert_eq!(
        IkeProposal::parse_ipsec_conf(
            " aes_gcm256-sha2_512-dh31 , aes256-sha2_256;dh14,aes256-sha2_256;dh14"
        ),
        Ok(vec![
            ike(&[Aes256Gcm16], &[SHA512], &[], &[X25519]),
            ike(&[Aes256Cbc], &[SHA256], &[HmacSha256_128], &[Modp2048]),
        ]),
    );
}

#[test]
fn ipsec_conf_esp() {
    let either = &[true, false];
    for (text, expected) in [
        ("aes_gcm_16_256", esp(&[Aes256Gcm16], &[], &[], either)),
        ("aes_gcm_a192", esp(&[Aes192Gcm8], &[], &[], either)),
        (
            "aes_gcm_12",
            esp(&[Aes256Gcm12, Aes128Gcm12], &[], &[], either),
        ),
        (
            "aes_ccm",
            esp(&[Aes256Ccm16, Aes128Ccm16], &[], &[], either),
        ),
        ("aes_ccm_8-128", esp(&[Aes128Ccm8], &[], &[], either)),
        ("aes_gmac-256", esp(&[Aes256Gmac], &[], &[], either)),
        (
            "aes_gcm_16_iiv_256",
            esp(&[Aes256Gcm16Iiv], &[], &[], either),
        ),
        (
            "chacha20_poly1305_iiv",
            esp(&[Chacha20Poly1305Iiv], &[], &[], either),
        ),
        (
            "null-sha2_256",
            esp(&[Null], &[HmacSha256_128], &[], either),
        ),
        (
            "aes_ctr256-aes_cmac",
            esp(&[Aes256Ctr], &[AesCmac96], &[], either),
        ),
        (
            "camellia128-aes_xcbc_96",
            esp(&[Camellia128Cbc], &[AesXcbc96], &[], either),
        ),
        (
            "3des-sha1",
            esp(&[TripleDesCbc], &[HmacSha1_96], &[], either),
        ),
        ("aes_gcm_16-256-null", esp(&[Aes256Gcm16], &[], &[], either)),
        (
            "aes_gcm128-none-dh31",
            esp(&[Aes128Gcm16], &[], &[X25519], either),
        ),
        (
            "aes_gcm256-dh31",
            esp(&[Aes256Gcm16], &[], &[X25519], either),
        ),
        (
            "chacha20_poly1305",
            esp(&[Chacha20Poly1305], &[], &[], either),
        ),
        (
            "aes256-sha2_256",
            esp(&[Aes256Cbc], &[HmacSha256_128], &[], either),
        ),
        (
            "aes-128-sha512-modp2048",
            esp(&[Aes128Cbc], &[HmacSha512_256], &[Modp2048], either),
        ),
        (
            "aes128",
            esp(&[Aes128Cbc], &Integrity::DEFAULT, &[], either),
        ),
        (
            "aes128+aes256-sha2_512+sha2_256;dh19+dh20",
            esp(
                &[Aes128Cbc, Aes256Cbc],
                &[HmacSha512_256, HmacSha256_128],
                &[Ecp256, Ecp384],
                either,
            ),
        ),
        (
            "aes256-sha2_256-none",
            esp(&[Aes256Cbc], &[HmacSha256_128], &[], either),
        ),
        ("aes_gcm256;sn=yes", esp(&[Aes256Gcm16], &[], &[], &[true])),
        (
            "aes_gcm256;sn=no+yes",
            esp(&[Aes256Gcm16], &[], &[], &[false, true]),
        ),
    ] {
        assert_eq!(
            EspProposal::parse_ipsec_conf(text),
            Ok(vec![expected]),
            "{text}"
        );
    }
}

#[test]
fn strongswan_ike() {
    for (text, expected) in [
        (
            "aes256gcm16-prfsha256-x25519",
            ike(&[Aes256Gcm16], &[SHA256], &[], &[X25519]),
        ),
        (
            "aes256-sha256-modp2048",
            ike(&[Aes256Cbc], &[SHA256], &[HmacSha256_128], &[Modp2048]),
        ),
        (
            "aes128-sha256-prfsha512-ecp256",
            ike(&[Aes128Cbc], &[SHA512], &[HmacSha256_128], &[Ecp256]),
        ),
        (
            "aes128gcm128-aes256gcm-chacha20poly1305-prfsha384-prfsha256-curve25519-ecp521",
            ike(
                &[Aes128Gcm16, Aes256Gcm16, Chacha20Poly1305],
                &[SHA384, SHA256],
                &[],
                &[X25519, Ecp521],
            ),
        ),
        (
            "aes256gcm16-sha384-ecp384",
            ike(&[Aes256Gcm16], &[SHA384], &[], &[Ecp384]),
        ),
        (
            "aes192-sha2_512-modp4096-ke1_none",
            IkeProposal {
                additional: offer(&[(1, &[None])]),
                ..ike(&[Aes192Cbc], &[SHA512], &[HmacSha512_256], &[Modp4096])
            },
        ),
    ] {
        assert_eq!(
            IkeProposal::parse_strongswan(text),
            Ok(vec![expected]),
            "{text}"
        );
    }
    assert_eq!(
        IkeProposal::parse_strongswan("default"),
        Ok(IkeProposal::default_list())
    );
}

#[test]
fn strongswan_esp() {
    for (text, expected) in [
        ("aes256gcm16", esp(&[Aes256Gcm16], &[], &[], &[false])),
        ("aes192gcm64", esp(&[Aes192Gcm8], &[], &[], &[false])),
        ("aes128ccm12", esp(&[Aes128Ccm12], &[], &[], &[false])),
        ("aes256gmac", esp(&[Aes256Gmac], &[], &[], &[false])),
        (
            "null-sha256",
            esp(&[Null], &[HmacSha256_128], &[], &[false]),
        ),
        (
            "aes128ctr-aescmac",
            esp(&[Aes128Ctr], &[AesCmac96], &[], &[false]),
        ),
        (
            "camellia256-aesxcbc-modp6144",
            esp(&[Camellia256Cbc], &[AesXcbc96], &[Modp6144], &[false]),
        ),
        (
            "3des-sha1",
            esp(&[TripleDesCbc], &[HmacSha1_96], &[], &[false]),
        ),
        (
            "aes256gcm16-x25519-esn",
            esp(&[Aes256Gcm16], &[], &[X25519], &[true]),
        ),
        (
            "aes128-sha256-modp3072-esn-noesn",
            esp(&[Aes128Cbc], &[HmacSha256_128], &[Modp3072], &[true, false]),
        ),
        (
            "chacha20poly1305-none",
            esp(&[Chacha20Poly1305], &[], &[], &[false]),
        ),
    ] {
        assert_eq!(
            EspProposal::parse_strongswan(text),
            Ok(vec![expected]),
            "{text}"
        );
    }
}

/// What is written is what is read, in both notations, for every algorithm.
#[test]
fn notations_round_trip() {
    let mut ikes = IkeProposal::default_list();
    let mut esps = EspProposal::default_list();
    for encryption in Encryption::ALL {
        for prf in Prf::ALL {
            for key_exchange in KeyExchange::ALL {
                for integrity in Integrity::ALL {
                    let integrity: &[Integrity] = if encryption.is_aead() {
                        &[]
                    } else {
                        &[integrity]
                    };
                    if encryption.is_for_ike() {
                        ikes.push(ike(&[encryption], &[prf], integrity, &[key_exchange]));
                    }
                    esps.push(esp(&[encryption], integrity, &[key_exchange], &[true]));
                    esps.push(esp(&[encryption], integrity, &[], &[false]));
                }
            }
        }
    }
    for proposal in ikes {
        let text = proposal.to_string();
        assert_eq!(
            IkeProposal::parse_ipsec_conf(&text),
            Ok(vec![proposal.clone()]),
            "{text}"
        );
        let text = proposal.to_strongswan();
        assert_eq!(
            IkeProposal::parse_strongswan(&text),
            Ok(vec![proposal]),
            "{text}"
        );
    }
    for proposal in esps {
        let text = proposal.to_string();
        assert_eq!(
            EspProposal::parse_ipsec_conf(&text),
            Ok(vec![proposal.clone()]),
            "{text}"
        );
        let text = proposal.to_strongswan();
        assert_eq!(
            EspProposal::parse_strongswan(&text),
            Ok(vec![proposal]),
            "{text}"
        );
    }
}

fn offer(methods: &[(usize, &[Option<KeyExchange>])]) -> AdditionalOffer {
    let mut offer = AdditionalOffer::default();
    for (number, methods) in methods {
        offer[number - 1] = methods.to_vec();
    }
    offer
}

#[test]
fn additional_key_exchanges() {
    let hybrid = IkeProposal {
        additional: offer(&[(1, &[Some(MlKem768), None]), (3, &[Some(Ecp384)])]),
        ..ike(&[Aes256Gcm16], &[SHA256], &[], &[X25519])
    };
    let text = "aes_gcm_16_256-sha2_256-dh31;addke1=ml_kem_768+none;addke3=dh20";
    assert_eq!(hybrid.to_string(), text);
    for text in [
        text,
        "aes_gcm256-sha2_256-x25519;addke3=ecp384;ADDKE1=mlkem768;addke1=none",
        "encrypt=aes_gcm256;prf=sha2_256;addke1=dh36+none;addke3=dh20;ke=dh31",
    ] {
        assert_eq!(
            IkeProposal::parse_ipsec_conf(text),
            Ok(vec![hybrid.clone()]),
            "{text}"
        );
    }
    let text = "aes256gcm16-prfsha256-x25519-ke1_mlkem768-ke1_none-ke3_ecp384";
    assert_eq!(hybrid.to_strongswan(), text);
    assert_eq!(IkeProposal::parse_strongswan(text), Ok(vec![hybrid]));

    let child = EspProposal {
        additional: offer(&[(7, &[Some(MlKem1024)])]),
        ..esp(&[Aes256Gcm16], &[], &[X25519], &[false])
    };
    let text = "aes_gcm_16_256-dh31;addke7=ml_kem_1024;sn=no";
    assert_eq!(child.to_string(), text);
    assert_eq!(EspProposal::parse_ipsec_conf(text), Ok(vec![child.clone()]));
    let text = "aes256gcm16-x25519-ke7_mlkem1024";
    assert_eq!(child.to_strongswan(), text);
    assert_eq!(EspProposal::parse_strongswan(text), Ok(vec![child]));

    let mut additional = Additional::default();
    additional[0] = Some(MlKem768);
    let suite = IkeSuite {
        encryption: Aes256Gcm16,
        integrity: None,
        prf: SHA256,
        key_exchange: X25519,
        additional,
    };
    assert_eq!(
        suite.to_string(),
        "AES_GCM_16_256-HMAC_SHA2_256-X25519-KE1_ML_KEM_768"
    );
}

#[test]
fn how_proposals_look() {
    let [hybrid, aead, cbc] = &IkeProposal::default_list()[..] else {
        panic!("three default proposals");
    };
    assert_eq!(
        hybrid.to_string(),
        format!("{aead};addke1=ml_kem_768"),
        "the first is for peers that can"
    );
    assert_eq!(
        aead.to_string(),
        "aes_gcm_16_256+aes_gcm_16_128+chacha20_poly1305-sha2_512+sha2_384+sha2_256-\
         dh31+dh19+dh20+dh21+dh15+dh16+dh14",
    );
    assert_eq!(
        cbc.to_strongswan(),
        "aes256-aes128-sha512-sha384-sha256-x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048",
    );
    let suite = IkeSuite {
        encryption: Aes256Cbc,
        integrity: Some(HmacSha256_128),
        prf: SHA256,
        key_exchange: Ecp256,
        additional: Default::default(),
    };
    assert_eq!(
        suite.to_string(),
        "AES_CBC_256-HMAC_SHA2_256_128-HMAC_SHA2_256-ECP_256"
    );
    let suite = EspSuite {
        encryption: Some(Aes256Gcm16),
        integrity: None,
        key_exchange: Some(X25519),
        additional: Default::default(),
        esn: true,
    };
    assert_eq!(suite.to_string(), "AES_GCM_16_256-X25519-ESN");
}

/// Numbers and names go there and back, and are the registry's.
#[test]
fn iana_numbers() {
    for e in Encryption::ALL {
        assert_eq!(Encryption::from_iana(e.iana_id(), e.key_bits()), Some(e));
        assert_eq!(Encryption::from_key_len(e.iana_id(), e.key_len()), Some(e));
    }
    assert!(
        Integrity::ALL
            .iter()
            .all(|i| Integrity::from_iana(i.iana_id()) == Some(*i))
    );
    assert!(
        Prf::ALL
            .iter()
            .all(|p| Prf::from_iana(p.iana_id()) == Some(*p))
    );
    assert!(
        KeyExchange::ALL
            .iter()
            .all(|k| KeyExchange::from_iana(k.iana_id()) == Some(*k))
    );
    // A key length is required for AES (RFC 3602 §5.3, RFC 4106 §8.4) and must not be there for ChaCha20.
    assert_eq!(Encryption::from_iana(20, None), None);
    assert_eq!(Encryption::from_iana(12, Some(512)), None);
    assert_eq!(Encryption::from_iana(28, Some(256)), None);
    assert_eq!(Encryption::from_iana(3, None), Some(TripleDesCbc));
    assert_eq!(Encryption::from_iana(3, Some(192)), None);
    assert_eq!(Encryption::from_iana(2, None), None);
    assert_eq!(Integrity::from_iana(1), None);
    assert_eq!(Prf::from_iana(1), None);
    assert_eq!(KeyExchange::from_iana(22), None);
    assert_eq!(KeyExchange::from_iana(36), Some(MlKem768));
}

/// Any text: proposals that can be written and read again, or an error that points into the text.
#[test]
fn fuzz_names() {
    // Parts of real names, so that arbitrary octets reach the depths of the grammar.
    const PIECES: [&str; 28] = [
        "addke1",
        "mlkem768",
        "ke7_",
        "-ke1_none",
        "aes",
        "256",
        "128",
        "_",
        "-",
        "+",
        ";",
        ",",
        "=",
        " ",
        "gcm",
        "aes_gcm_16",
        "sha2_256",
        "sha256",
        "dh19",
        "none",
        "null",
        "ke",
        "prf",
        "chacha20",
        "poly1305",
        "modp2048",
        "x25519",
        "ß",
    ];
    fn check<T: PartialEq + std::fmt::Debug>(
        text: &str,
        parse: impl Fn(&str) -> Result<Vec<T>, NameError>,
        write: impl Fn(&T) -> String,
    ) {
        match parse(text) {
            Ok(proposals) => {
                assert!(!proposals.is_empty());
                let written = proposals.iter().map(write).collect::<Vec<_>>().join(",");
                assert_eq!(parse(&written), Ok(proposals), "{text} -> {written}");
            }
            Err(error) => {
                let rest = text.get(error.offset..).expect("offset in the text");
                assert!(rest.starts_with(&error.token), "{text}: {error:?}");
            }
        }
    }
    bolero::check!()
        .with_test_time(std::time::Duration::from_secs(2))
        .with_max_len(64)
        .for_each(|input: &[u8]| {
            let pieces: String = input
                .iter()
                .map(|b| PIECES[usize::from(*b) % PIECES.len()])
                .collect();
            for text in [&*String::from_utf8_lossy(input), &pieces] {
                check(text, IkeProposal::parse_ipsec_conf, IkeProposal::to_string);
                check(text, EspProposal::parse_ipsec_conf, EspProposal::to_string);
                check(
                    text,
                    IkeProposal::parse_strongswan,
                    IkeProposal::to_strongswan,
                );
                check(
                    text,
                    EspProposal::parse_strongswan,
                    EspProposal::to_strongswan,
                );
            }
        });
}

#[test]
fn ah_proposals_are_integrity_algorithms() {
    let parse = EspProposal::parse_ah_ipsec_conf;
    let list = parse("sha2_256-dh31, sha2_512+aes_xcbc;ke=dh19;sn=yes, integ=sha1").unwrap();
    let shown: Vec<_> = list.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["sha2_256-dh31", "sha2_512+aes_xcbc-dh19;sn=yes", "sha1"]
    );
    for one in &list {
        assert!(one.encryption.is_empty() && !one.integrity.is_empty());
        assert_eq!(
            &parse(&one.to_string()).unwrap()[..],
            std::slice::from_ref(one)
        );
    }
    assert_eq!(EspProposal::ah_default_list()[0].esn, [true, false]);
    for wrong in [
        "",
        "aes256",
        "aes_gcm",
        "none",
        "sha2_256-aes256",
        "encr=aes;integ=sha1",
        "prf=sha1",
        "sha2_256-dh31-dh19",
        "dh31",
        "sha2_256,",
        "sha2_256-",
        "-sha2_256",
        "sha2_256+",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
