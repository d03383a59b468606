//! The algorithms, in the words of ipsec.conf, of swanctl.conf and of what
//! `swanctl --list-sas --raw` calls them.

/// What one test negotiates.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    pub ike: Proposal,
    pub esp: Proposal,
}

/// One proposal in both notations.
#[derive(Clone, Copy, Debug)]
pub struct Proposal {
    /// ipsec.conf.
    pub ours: &'static str,
    /// swanctl.conf.
    pub theirs: &'static str,
    /// Words of swanctl's raw listing that must be there once it is up.
    pub listed: &'static [&'static str],
}

const fn proposal(
    ours: &'static str,
    theirs: &'static str,
    listed: &'static [&'static str],
) -> Proposal {
    Proposal {
        ours,
        theirs,
        listed,
    }
}

const COMMON_IKE: Proposal = proposal(
    "aes_gcm128-sha2_256-dh31",
    "aes128gcm16-prfsha256-x25519",
    &["AES_GCM_16", "128", "CURVE_25519"],
);
const COMMON_ESP: Proposal = proposal("aes_gcm128", "aes128gcm16", &["AES_GCM_16", "128"]);

const fn esp(esp: Proposal) -> Suite {
    Suite {
        ike: COMMON_IKE,
        esp,
    }
}

const fn ike(ike: Proposal) -> Suite {
    Suite {
        ike,
        esp: COMMON_ESP,
    }
}

/// Child SAs.
pub const ESP: [(&str, Suite); 7] = [
    ("aes128gcm16", esp(COMMON_ESP)),
    (
        "aes256gcm16",
        esp(proposal(
            "aes_gcm256",
            "aes256gcm16",
            &["AES_GCM_16", "256"],
        )),
    ),
    (
        "chacha20poly1305",
        esp(proposal(
            "chacha20_poly1305",
            "chacha20poly1305",
            &["CHACHA20_POLY1305"],
        )),
    ),
    (
        "aes128_sha256",
        esp(proposal(
            "aes128-sha2_256",
            "aes128-sha256",
            &["AES_CBC", "128", "HMAC_SHA2_256_128"],
        )),
    ),
    (
        "aes256_sha256",
        esp(proposal(
            "aes256-sha2_256",
            "aes256-sha256",
            &["AES_CBC", "256", "HMAC_SHA2_256_128"],
        )),
    ),
    (
        "aes256_sha384",
        esp(proposal(
            "aes256-sha2_384",
            "aes256-sha384",
            &["AES_CBC", "256", "HMAC_SHA2_384_192"],
        )),
    ),
    (
        "aes256_sha512",
        esp(proposal(
            "aes256-sha2_512",
            "aes256-sha512",
            &["AES_CBC", "256", "HMAC_SHA2_512_256"],
        )),
    ),
];

/// IKE SAs: encryption, integrity and PRF.
pub const IKE: [(&str, Suite); 7] = [
    ("aes128gcm16", ike(COMMON_IKE)),
    (
        "aes256gcm16",
        ike(proposal(
            "aes_gcm256-sha2_384-dh31",
            "aes256gcm16-prfsha384-x25519",
            &["AES_GCM_16", "256", "PRF_HMAC_SHA2_384"],
        )),
    ),
    (
        "chacha20poly1305",
        ike(proposal(
            "chacha20_poly1305-sha2_512-dh31",
            "chacha20poly1305-prfsha512-x25519",
            &["CHACHA20_POLY1305", "PRF_HMAC_SHA2_512"],
        )),
    ),
    (
        "aes128_sha256",
        ike(proposal(
            "aes128-sha2_256-dh31",
            "aes128-sha256-x25519",
            &["AES_CBC", "128", "HMAC_SHA2_256_128", "PRF_HMAC_SHA2_256"],
        )),
    ),
    (
        "aes256_sha256",
        ike(proposal(
            "aes256-sha2_256-dh31",
            "aes256-sha256-x25519",
            &["AES_CBC", "256", "HMAC_SHA2_256_128", "PRF_HMAC_SHA2_256"],
        )),
    ),
    (
        "aes256_sha384",
        ike(proposal(
            "aes256-sha2_384-dh31",
            "aes256-sha384-x25519",
            &["AES_CBC", "256", "HMAC_SHA2_384_192", "PRF_HMAC_SHA2_384"],
        )),
    ),
    (
        "aes256_sha512",
        ike(proposal(
            "aes256-sha2_512-dh31",
            "aes256-sha512-x25519",
            &["AES_CBC", "256", "HMAC_SHA2_512_256", "PRF_HMAC_SHA2_512"],
        )),
    ),
];

/// Key exchange methods.
pub const KEY_EXCHANGE: [(&str, Suite); 7] = [
    ("x25519", ike(COMMON_IKE)),
    (
        "ecp256",
        ike(proposal(
            "aes_gcm128-sha2_256-dh19",
            "aes128gcm16-prfsha256-ecp256",
            &["ECP_256"],
        )),
    ),
    (
        "ecp384",
        ike(proposal(
            "aes_gcm128-sha2_256-dh20",
            "aes128gcm16-prfsha256-ecp384",
            &["ECP_384"],
        )),
    ),
    (
        "ecp521",
        ike(proposal(
            "aes_gcm128-sha2_256-dh21",
            "aes128gcm16-prfsha256-ecp521",
            &["ECP_521"],
        )),
    ),
    (
        "modp2048",
        ike(proposal(
            "aes_gcm128-sha2_256-dh14",
            "aes128gcm16-prfsha256-modp2048",
            &["MODP_2048"],
        )),
    ),
    (
        "modp3072",
        ike(proposal(
            "aes_gcm128-sha2_256-dh15",
            "aes128gcm16-prfsha256-modp3072",
            &["MODP_3072"],
        )),
    ),
    (
        "modp4096",
        ike(proposal(
            "aes_gcm128-sha2_256-dh16",
            "aes128gcm16-prfsha256-modp4096",
            &["MODP_4096"],
        )),
    ),
];
