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
pub const ESP: [(&str, Suite); 21] = [
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
    (
        "aes192gcm16",
        esp(proposal(
            "aes_gcm_16_192",
            "aes192gcm16",
            &["AES_GCM_16", "192"],
        )),
    ),
    (
        "aes256gcm12",
        esp(proposal(
            "aes_gcm_12_256",
            "aes256gcm12",
            &["AES_GCM_12", "256"],
        )),
    ),
    (
        "aes128gcm8",
        esp(proposal(
            "aes_gcm_8_128",
            "aes128gcm8",
            &["AES_GCM_8", "128"],
        )),
    ),
    (
        "aes128ccm16",
        esp(proposal(
            "aes_ccm_16_128",
            "aes128ccm16",
            &["AES_CCM_16", "128"],
        )),
    ),
    (
        "aes192ccm12",
        esp(proposal(
            "aes_ccm_12_192",
            "aes192ccm12",
            &["AES_CCM_12", "192"],
        )),
    ),
    (
        "aes256ccm8",
        esp(proposal(
            "aes_ccm_8_256",
            "aes256ccm8",
            &["AES_CCM_8", "256"],
        )),
    ),
    (
        "aes128ctr_sha256",
        esp(proposal(
            "aes_ctr128-sha2_256",
            "aes128ctr-sha256",
            &["AES_CTR", "128"],
        )),
    ),
    (
        "aes256ctr_aescmac",
        esp(proposal(
            "aes_ctr256-aes_cmac",
            "aes256ctr-aescmac",
            &["AES_CTR", "256", "AES_CMAC_96"],
        )),
    ),
    (
        "aes192_aesxcbc",
        esp(proposal(
            "aes192-aes_xcbc",
            "aes192-aesxcbc",
            &["AES_CBC", "192", "AES_XCBC_96"],
        )),
    ),
    (
        "camellia128_sha256",
        esp(proposal(
            "camellia128-sha2_256",
            "camellia128-sha256",
            &["CAMELLIA_CBC", "128"],
        )),
    ),
    (
        "camellia192_sha384",
        esp(proposal(
            "camellia192-sha2_384",
            "camellia192-sha384",
            &["CAMELLIA_CBC", "192"],
        )),
    ),
    (
        "camellia256_sha512",
        esp(proposal(
            "camellia256-sha2_512",
            "camellia256-sha512",
            &["CAMELLIA_CBC", "256"],
        )),
    ),
    (
        "3des_sha1",
        esp(proposal(
            "3des-sha1",
            "3des-sha1",
            &["3DES_CBC", "HMAC_SHA1_96"],
        )),
    ),
    (
        "null_sha256",
        esp(proposal(
            "null-sha2_256",
            "null-sha256",
            &["NULL", "HMAC_SHA2_256_128"],
        )),
    ),
];

/// IKE SAs: encryption, integrity and PRF.
pub const IKE: [(&str, Suite); 16] = [
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
    (
        "aes192gcm16_prfaescmac",
        ike(proposal(
            "aes_gcm_16_192-aes_cmac-dh31",
            "aes192gcm16-prfaescmac-x25519",
            &["AES_GCM_16", "192", "PRF_AES128_CMAC"],
        )),
    ),
    (
        "aes256gcm12",
        ike(proposal(
            "aes_gcm_12_256-sha2_256-dh31",
            "aes256gcm12-prfsha256-x25519",
            &["AES_GCM_12", "256"],
        )),
    ),
    (
        "aes128gcm8",
        ike(proposal(
            "aes_gcm_8_128-sha2_256-dh31",
            "aes128gcm8-prfsha256-x25519",
            &["AES_GCM_8", "128"],
        )),
    ),
    (
        "aes128ccm16",
        ike(proposal(
            "aes_ccm_16_128-sha2_256-dh31",
            "aes128ccm16-prfsha256-x25519",
            &["AES_CCM_16", "128"],
        )),
    ),
    (
        "aes256ccm8",
        ike(proposal(
            "aes_ccm_8_256-sha2_256-dh31",
            "aes256ccm8-prfsha256-x25519",
            &["AES_CCM_8", "256"],
        )),
    ),
    (
        "aes128ctr_aescmac",
        ike(proposal(
            "aes_ctr128-aes_cmac-dh31",
            "aes128ctr-aescmac-x25519",
            &["AES_CTR", "AES_CMAC_96", "PRF_AES128_CMAC"],
        )),
    ),
    (
        "aes192_aesxcbc",
        ike(proposal(
            "aes192-aes_xcbc-dh31",
            "aes192-aesxcbc-x25519",
            &["AES_CBC", "192", "AES_XCBC_96", "PRF_AES128_XCBC"],
        )),
    ),
    (
        "camellia256_sha256",
        ike(proposal(
            "camellia256-sha2_256-dh31",
            "camellia256-sha256-x25519",
            &["CAMELLIA_CBC", "256"],
        )),
    ),
    (
        "3des_sha1",
        ike(proposal(
            "3des-sha1;dh31",
            "3des-sha1-x25519",
            &["3DES_CBC", "HMAC_SHA1_96", "PRF_HMAC_SHA1"],
        )),
    ),
];

/// Key exchange methods.
pub const KEY_EXCHANGE: [(&str, Suite); 11] = [
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
    (
        "modp1024",
        ike(proposal(
            "aes_gcm128-sha2_256-dh2",
            "aes128gcm16-prfsha256-modp1024",
            &["MODP_1024"],
        )),
    ),
    (
        "modp1536",
        ike(proposal(
            "aes_gcm128-sha2_256-dh5",
            "aes128gcm16-prfsha256-modp1536",
            &["MODP_1536"],
        )),
    ),
    (
        "modp6144",
        ike(proposal(
            "aes_gcm128-sha2_256-dh17",
            "aes128gcm16-prfsha256-modp6144",
            &["MODP_6144"],
        )),
    ),
    (
        "modp8192",
        ike(proposal(
            "aes_gcm128-sha2_256-dh18",
            "aes128gcm16-prfsha256-modp8192",
            &["MODP_8192"],
        )),
    ),
];
