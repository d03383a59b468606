//! What people write wrong, and what they are told.

use super::*;

/// (text, token, offset, message)
type Mistake = (&'static str, &'static str, usize, &'static str);

fn check_mistakes<T: std::fmt::Debug>(
    mistakes: &[Mistake],
    parse: impl Fn(&str) -> Result<T, NameError>,
) {
    for (text, token, offset, message) in mistakes {
        let error = parse(text).expect_err(text);
        assert_eq!(error.to_string(), *message, "{text}");
        assert_eq!(
            (error.token.as_str(), error.offset),
            (*token, *offset),
            "{text}"
        );
        assert!(text[error.offset..].starts_with(&error.token), "{text}");
    }
}

#[test]
fn mistakes_in_ipsec_conf_ike() {
    check_mistakes(
        &[
            (
                "ase256-sha2_256",
                "ase256",
                0,
                "unknown encryption algorithm \"ase256\" (did you mean \"aes256\"?)",
            ),
            (
                "aes_gcm256, aes129-sha2_256",
                "aes129",
                12,
                "impossible key length in \"aes129\" (did you mean \"aes128\"?)",
            ),
            (
                "aes_gcm-16-sha2_256",
                "aes_gcm-16",
                0,
                "impossible key length in \"aes_gcm-16\" (did you mean \"aes_gcm_128\"?)",
            ),
            (
                "aes_gcm_16_123456789012345",
                "aes_gcm_16_123456789012345",
                0,
                "impossible key length in \"aes_gcm_16_123456789012345\" (did you mean \"aes_gcm_16_256\"?)",
            ),
            (
                "des-sha1;modp1024",
                "des",
                0,
                "\"des\" is known but not supported: DES is broken (RFC 8221: MUST NOT)",
            ),
            (
                "aes256-md5-dh14",
                "md5",
                7,
                "\"md5\" is known but not supported: HMAC-MD5 is broken (RFC 8221, RFC 8247: MUST NOT)",
            ),
            (
                "aes_gmac256-sha2_256",
                "aes_gmac256-sha2_256",
                0,
                "\"aes_gmac256-sha2_256\": this cipher is for ESP only",
            ),
            (
                "null-sha2_256",
                "null-sha2_256",
                0,
                "\"null-sha2_256\": this cipher is for ESP only",
            ),
            (
                "aes256-sha2_256;modp768",
                "modp768",
                16,
                "\"modp768\" is known but not supported: 768-bit MODP group is broken (RFC 8247: MUST NOT)",
            ),
            (
                "aes256-sha2_256;dh22",
                "dh22",
                16,
                "\"dh22\" is known but not supported: MODP group of 1024 bits with a small subgroup (RFC 8247: MUST NOT)",
            ),
            (
                "aes256-sha2_256;dh24",
                "dh24",
                16,
                "\"dh24\" is known but not supported: MODP group with a small subgroup and unknown seeds (RFC 8247: SHOULD NOT)",
            ),
            (
                "aes_gcm_16_512",
                "aes_gcm_16_512",
                0,
                "impossible key length in \"aes_gcm_16_512\" (did you mean \"aes_gcm_16_256\"?)",
            ),
            (
                "aes256-sha2_265-dh19",
                "sha2_265",
                7,
                "unknown integrity algorithm, PRF or key exchange method \"sha2_265\" (did you mean \"sha2_256\"?)",
            ),
            (
                "aes256-sha2_256-modp2084",
                "modp2084",
                16,
                "unknown key exchange method \"modp2084\" (did you mean \"modp2048\"?)",
            ),
            (
                "aes256-sha2_256;dh99",
                "dh99",
                16,
                "unknown key exchange method \"dh99\" (did you mean \"dh19\"?)",
            ),
            (
                "aes256+sha2_256",
                "sha2_256",
                7,
                "unknown encryption algorithm \"sha2_256\"",
            ),
            (
                "aes_gcm+aes-sha2_256",
                "aes",
                8,
                "\"aes\": AEAD ciphers and others cannot be alternatives of each other",
            ),
            (
                "aes_gcm-sha2_256-sha2_256-dh19",
                "aes_gcm-sha2_256-sha2_256-dh19",
                0,
                "\"aes_gcm-sha2_256-sha2_256-dh19\": an AEAD cipher takes no integrity algorithm",
            ),
            (
                "aes256-sha2_256-dh19-dh20",
                "dh20",
                21,
                "\"dh20\": nothing more can follow",
            ),
            (
                "aes256-sha2_256;none",
                "aes256-sha2_256;none",
                0,
                "\"aes256-sha2_256;none\": IKE needs a key exchange",
            ),
            ("", "", 0, "algorithm is missing"),
            ("aes256,", "", 7, "algorithm is missing"),
            ("aes256+", "", 7, "algorithm is missing"),
            ("aes256-sha2_256;", "", 16, "key exchange method is missing"),
            ("aes256-", "", 7, "algorithm is missing"),
            (
                "aes256-sha2_256-dh19;addke1=ml_kem_786",
                "ml_kem_786",
                28,
                "unknown key exchange method \"ml_kem_786\" (did you mean \"ml_kem_768\"?)",
            ),
            (
                "aes256-sha2_256-dh19;addke8=ml_kem_768",
                "addke8",
                21,
                "unknown type of algorithm \"addke8\" (did you mean \"addke1\"?)",
            ),
            (
                "aes256;inteq=sha2_256",
                "inteq",
                7,
                "unknown type of algorithm \"inteq\" (did you mean \"integ\"?)",
            ),
            (
                "aes256;sn=yes",
                "sn",
                7,
                "\"sn\": IKE takes no kind of sequence numbers",
            ),
            (
                "aes256;ke=dh19=dh20",
                "dh20",
                15,
                "\"dh20\": nothing more can follow",
            ),
        ],
        IkeProposal::parse_ipsec_conf,
    );
}

#[test]
fn mistakes_in_ipsec_conf_esp() {
    check_mistakes(
        &[
            (
                "aes128-null",
                "aes128-null",
                0,
                "\"aes128-null\": a cipher that is not AEAD needs an integrity algorithm",
            ),
            (
                "aes_gcm256-sha2_256",
                "aes_gcm256-sha2_256",
                0,
                "\"aes_gcm256-sha2_256\": an AEAD cipher takes no integrity algorithm",
            ),
            (
                "aes128-sha2_256-sha2_512",
                "sha2_512",
                16,
                "\"sha2_512\": ESP takes no PRF",
            ),
            (
                "null-none",
                "null-none",
                0,
                "\"null-none\": a cipher that is not AEAD needs an integrity algorithm",
            ),
            (
                "aes_gcm256;addke1=ml_kem_768",
                "aes_gcm256;addke1=ml_kem_768",
                0,
                "\"aes_gcm256;addke1=ml_kem_768\": additional key exchanges need a first one (ke=)",
            ),
            (
                "aes256-sha2_256-4096",
                "4096",
                16,
                "unknown key exchange method \"4096\"",
            ),
            (
                "vanitycipher",
                "vanitycipher",
                0,
                "unknown encryption algorithm \"vanitycipher\"",
            ),
            (
                "aes_gcm;sn=on",
                "on",
                11,
                "unknown kind of sequence numbers \"on\" (did you mean \"no\"?)",
            ),
        ],
        EspProposal::parse_ipsec_conf,
    );
}

#[test]
fn mistakes_in_strongswan_notation() {
    check_mistakes(
        &[
            (
                "aes256gcm16-prfsha265-x25519",
                "prfsha265",
                12,
                "unknown algorithm \"prfsha265\" (did you mean \"prfsha256\"?)",
            ),
            (
                "aes256gcm16-x25519",
                "aes256gcm16-x25519",
                0,
                "PRF is missing in \"aes256gcm16-x25519\"",
            ),
            (
                "default, aes256-sha256",
                "aes256-sha256",
                9,
                "key exchange method is missing in \"aes256-sha256\"",
            ),
            (
                "sha256-modp2048",
                "sha256-modp2048",
                0,
                "encryption algorithm is missing in \"sha256-modp2048\"",
            ),
            (
                "aes256-modp2048",
                "aes256-modp2048",
                0,
                "integrity algorithm is missing in \"aes256-modp2048\"",
            ),
            (
                "aes256-aes256gcm16-sha256-modp2048",
                "aes256-aes256gcm16-sha256-modp2048",
                0,
                "\"aes256-aes256gcm16-sha256-modp2048\": AEAD ciphers and others must be in different proposals",
            ),
            (
                "aes256-sha256-x25519-ke1_x448",
                "ke1_x448",
                21,
                "\"ke1_x448\" is known but not supported: Curve448",
            ),
            (
                "aes256-sha256-ke1_mlkem768",
                "aes256-sha256-ke1_mlkem768",
                0,
                "\"aes256-sha256-ke1_mlkem768\": additional key exchanges need a first one",
            ),
            (
                "des-sha1-modp1024",
                "des",
                0,
                "\"des\" is known but not supported: DES is broken (RFC 8221: MUST NOT)",
            ),
            (
                "aes128gmac-prfsha256-x25519",
                "aes128gmac-prfsha256-x25519",
                0,
                "\"aes128gmac-prfsha256-x25519\": this cipher is for ESP only",
            ),
            (
                "aes256-sha256-x25519-esn",
                "aes256-sha256-x25519-esn",
                0,
                "\"aes256-sha256-x25519-esn\": IKE takes no kind of sequence numbers",
            ),
            ("", "", 0, "algorithm is missing"),
        ],
        IkeProposal::parse_strongswan,
    );
    check_mistakes(
        &[
            (
                "aes256gcm16-prfsha256",
                "aes256gcm16-prfsha256",
                0,
                "\"aes256gcm16-prfsha256\": ESP takes no PRF",
            ),
            (
                "aes256gcm16-x25519-none",
                "aes256gcm16-x25519-none",
                0,
                "\"aes256gcm16-x25519-none\" is known but not supported: a key exchange that may be left out",
            ),
        ],
        EspProposal::parse_strongswan,
    );
}
