//! The names of ipsec.conf, and what they stand for.

use crate::algorithm::{Encryption, Integrity, KeyExchange, Prf};

/// What a name stands for.
#[derive(Clone, Copy)]
pub(super) enum Known<T: 'static> {
    /// One or more algorithms, in order of preference.
    Is(&'static [T]),
    /// Explicitly nothing.
    Nothing,
    /// A real algorithm that this crate does not have.
    Unsupported(&'static str),
}
use Known::{Is, Nothing, Unsupported};

/// Ciphers without their key length, with what each key length means.
struct CipherName {
    name: &'static str,
    without_length: Known<Encryption>,
    lengths: &'static [(u16, Known<Encryption>)],
}

/// The key lengths of a cipher, and what its name without one means: the longest and the shortest, as in libreswan.
macro_rules! sizes {
    ($($lengths:ident, $both:ident: $short:ident, $middle:ident, $long:ident;)*) => {
        $(
            const $lengths: &[(u16, Known<Encryption>)] = &[
                (128, Is(&[Encryption::$short])),
                (192, Is(&[Encryption::$middle])),
                (256, Is(&[Encryption::$long])),
            ];
            const $both: Known<Encryption> = Is(&[Encryption::$long, Encryption::$short]);
        )*
    };
}

sizes! {
    GCM_16_LENGTHS, GCM_16: Aes128Gcm16, Aes192Gcm16, Aes256Gcm16;
    GCM_12_LENGTHS, GCM_12: Aes128Gcm12, Aes192Gcm12, Aes256Gcm12;
    GCM_8_LENGTHS, GCM_8: Aes128Gcm8, Aes192Gcm8, Aes256Gcm8;
    CCM_16_LENGTHS, CCM_16: Aes128Ccm16, Aes192Ccm16, Aes256Ccm16;
    CCM_12_LENGTHS, CCM_12: Aes128Ccm12, Aes192Ccm12, Aes256Ccm12;
    CCM_8_LENGTHS, CCM_8: Aes128Ccm8, Aes192Ccm8, Aes256Ccm8;
    CBC_LENGTHS, CBC: Aes128Cbc, Aes192Cbc, Aes256Cbc;
    CTR_LENGTHS, CTR: Aes128Ctr, Aes192Ctr, Aes256Ctr;
    GMAC_LENGTHS, GMAC: Aes128Gmac, Aes192Gmac, Aes256Gmac;
    CAMELLIA_LENGTHS, CAMELLIA: Camellia128Cbc, Camellia192Cbc, Camellia256Cbc;
    GCM_16_IIV_LENGTHS, GCM_16_IIV: Aes128Gcm16Iiv, Aes192Gcm16Iiv, Aes256Gcm16Iiv;
    CCM_8_IIV_LENGTHS, CCM_8_IIV: Aes128Ccm8Iiv, Aes192Ccm8Iiv, Aes256Ccm8Iiv;
}

// A cipher without a choice of key length may still name its only one.
const CHACHA: Known<Encryption> = Is(&[Encryption::Chacha20Poly1305]);
const CHACHA_LENGTHS: &[(u16, Known<Encryption>)] = &[(256, CHACHA)];
const CHACHA_IIV: Known<Encryption> = Is(&[Encryption::Chacha20Poly1305Iiv]);
const CHACHA_IIV_LENGTHS: &[(u16, Known<Encryption>)] = &[(256, CHACHA_IIV)];
const TRIPLE_DES: Known<Encryption> = Is(&[Encryption::TripleDesCbc]);
const TRIPLE_DES_LENGTHS: &[(u16, Known<Encryption>)] = &[(192, TRIPLE_DES)];

const fn cipher(
    name: &'static str,
    without_length: Known<Encryption>,
    lengths: &'static [(u16, Known<Encryption>)],
) -> CipherName {
    CipherName {
        name,
        without_length,
        lengths,
    }
}

const fn unsupported_cipher(name: &'static str, what: &'static str) -> CipherName {
    cipher(name, Unsupported(what), &[])
}

const CIPHERS: &[CipherName] = &[
    cipher("aes_gcm_16", GCM_16, GCM_16_LENGTHS),
    cipher("aes_gcm", GCM_16, GCM_16_LENGTHS),
    cipher("aes_gcm_c", GCM_16, GCM_16_LENGTHS),
    cipher("aesgcm", GCM_16, GCM_16_LENGTHS),
    cipher("aes_gcm_12", GCM_12, GCM_12_LENGTHS),
    cipher("aes_gcm_b", GCM_12, GCM_12_LENGTHS),
    cipher("aes_gcm_8", GCM_8, GCM_8_LENGTHS),
    cipher("aes_gcm_a", GCM_8, GCM_8_LENGTHS),
    cipher("aes_gcm_16_iiv", GCM_16_IIV, GCM_16_IIV_LENGTHS),
    cipher("aes_ccm", CCM_16, CCM_16_LENGTHS),
    cipher("aes_ccm_16", CCM_16, CCM_16_LENGTHS),
    cipher("aes_ccm_c", CCM_16, CCM_16_LENGTHS),
    cipher("aes_ccm_12", CCM_12, CCM_12_LENGTHS),
    cipher("aes_ccm_b", CCM_12, CCM_12_LENGTHS),
    cipher("aes_ccm_8", CCM_8, CCM_8_LENGTHS),
    cipher("aes_ccm_a", CCM_8, CCM_8_LENGTHS),
    cipher("aes_ccm_8_iiv", CCM_8_IIV, CCM_8_IIV_LENGTHS),
    cipher("aes_cbc", CBC, CBC_LENGTHS),
    cipher("aes", CBC, CBC_LENGTHS),
    cipher("aes_ctr", CTR, CTR_LENGTHS),
    cipher("aesctr", CTR, CTR_LENGTHS),
    cipher("null_auth_aes_gmac", GMAC, GMAC_LENGTHS),
    cipher("aes_gmac", GMAC, GMAC_LENGTHS),
    cipher("camellia", CAMELLIA, CAMELLIA_LENGTHS),
    cipher("camellia_cbc", CAMELLIA, CAMELLIA_LENGTHS),
    cipher("chacha20_poly1305", CHACHA, CHACHA_LENGTHS),
    cipher("chacha20poly1305", CHACHA, CHACHA_LENGTHS),
    cipher("chacha20_poly1305_iiv", CHACHA_IIV, CHACHA_IIV_LENGTHS),
    cipher("3des", TRIPLE_DES, TRIPLE_DES_LENGTHS),
    cipher("3des_cbc", TRIPLE_DES, TRIPLE_DES_LENGTHS),
    cipher("null", Is(&[Encryption::Null]), &[]),
    unsupported_cipher("des", "DES is broken (RFC 8221: MUST NOT)"),
    unsupported_cipher("camellia_ctr", "Camellia in counter mode"),
    unsupported_cipher("cast", "CAST-128"),
    unsupported_cipher("cast_cbc", "CAST-128"),
    unsupported_cipher("blowfish", "Blowfish (RFC 8221: MUST NOT)"),
    unsupported_cipher("idea", "IDEA (RFC 8221: MUST NOT)"),
    unsupported_cipher("mars", "MARS"),
    unsupported_cipher("serpent", "Serpent"),
    unsupported_cipher("serpent_cbc", "Serpent"),
    unsupported_cipher("twofish", "Twofish"),
    unsupported_cipher("twofish_cbc", "Twofish"),
];

/// Names of hashes, each as PRF and as integrity algorithm. The wrong kind is `None`.
pub(super) struct HashName {
    pub(super) name: &'static str,
    pub(super) prf: Option<Known<Prf>>,
    pub(super) integrity: Option<Known<Integrity>>,
}

const fn both(
    name: &'static str,
    prf: &'static [Prf],
    integrity: &'static [Integrity],
) -> HashName {
    HashName {
        name,
        prf: Some(Is(prf)),
        integrity: Some(Is(integrity)),
    }
}

const fn truncated(name: &'static str, integrity: &'static [Integrity]) -> HashName {
    HashName {
        name,
        prf: None,
        integrity: Some(Is(integrity)),
    }
}

const fn unsupported_hash(name: &'static str, what: &'static str) -> HashName {
    HashName {
        name,
        prf: Some(Unsupported(what)),
        integrity: Some(Unsupported(what)),
    }
}

const P256: &[Prf] = &[Prf::HmacSha256];
const P384: &[Prf] = &[Prf::HmacSha384];
const P512: &[Prf] = &[Prf::HmacSha512];
const I256: &[Integrity] = &[Integrity::HmacSha256_128];
const I384: &[Integrity] = &[Integrity::HmacSha384_192];
const I512: &[Integrity] = &[Integrity::HmacSha512_256];
const P1: &[Prf] = &[Prf::HmacSha1];
const I1: &[Integrity] = &[Integrity::HmacSha1_96];
const PXCBC: &[Prf] = &[Prf::AesXcbc];
const IXCBC: &[Integrity] = &[Integrity::AesXcbc96];
const PCMAC: &[Prf] = &[Prf::AesCmac];
const ICMAC: &[Integrity] = &[Integrity::AesCmac96];
const MD5: &str = "HMAC-MD5 is broken (RFC 8221, RFC 8247: MUST NOT)";

pub(super) const HASHES: &[HashName] = &[
    both("sha2_256", P256, I256),
    both("sha2_384", P384, I384),
    both("sha2_512", P512, I512),
    both("sha2", P256, I256),
    both("sha256", P256, I256),
    both("sha384", P384, I384),
    both("sha512", P512, I512),
    both("hmac_sha2_256", P256, I256),
    both("hmac_sha2_384", P384, I384),
    both("hmac_sha2_512", P512, I512),
    truncated("sha2_256_128", I256),
    truncated("sha2_384_192", I384),
    truncated("sha2_512_256", I512),
    truncated("hmac_sha2_256_128", I256),
    truncated("hmac_sha2_384_192", I384),
    truncated("hmac_sha2_512_256", I512),
    HashName {
        name: "none",
        prf: None,
        integrity: Some(Nothing),
    },
    HashName {
        name: "null",
        prf: None,
        integrity: Some(Nothing),
    },
    both("sha1", P1, I1),
    both("sha", P1, I1),
    both("hmac_sha1", P1, I1),
    truncated("sha1_96", I1),
    truncated("hmac_sha1_96", I1),
    both("aes_xcbc", PXCBC, IXCBC),
    both("aes128_xcbc", PXCBC, IXCBC),
    truncated("aes_xcbc_96", IXCBC),
    both("aes_cmac", PCMAC, ICMAC),
    both("aes128_cmac", PCMAC, ICMAC),
    truncated("aes_cmac_96", ICMAC),
    unsupported_hash("md5", MD5),
    unsupported_hash("md5_96", MD5),
    unsupported_hash("hmac_md5", MD5),
    unsupported_hash("hmac_md5_96", MD5),
    unsupported_hash(
        "hmac_sha2_256_truncbug",
        "HMAC-SHA-256 truncated to 96 bits",
    ),
];

const WEAK: &str = "768-bit MODP group is broken (RFC 8247: MUST NOT)";
const SUBGROUP_22: &str = "MODP group of 1024 bits with a small subgroup (RFC 8247: MUST NOT)";
const SUBGROUP: &str = "MODP group with a small subgroup and unknown seeds (RFC 8247: SHOULD NOT)";

pub(super) const KEY_EXCHANGES: &[(&str, Known<KeyExchange>)] = &[
    ("dh14", Is(&[KeyExchange::Modp2048])),
    ("dh15", Is(&[KeyExchange::Modp3072])),
    ("dh16", Is(&[KeyExchange::Modp4096])),
    ("dh19", Is(&[KeyExchange::Ecp256])),
    ("dh20", Is(&[KeyExchange::Ecp384])),
    ("dh21", Is(&[KeyExchange::Ecp521])),
    ("dh31", Is(&[KeyExchange::X25519])),
    ("modp2048", Is(&[KeyExchange::Modp2048])),
    ("modp3072", Is(&[KeyExchange::Modp3072])),
    ("modp4096", Is(&[KeyExchange::Modp4096])),
    ("ecp_256", Is(&[KeyExchange::Ecp256])),
    ("ecp_384", Is(&[KeyExchange::Ecp384])),
    ("ecp_521", Is(&[KeyExchange::Ecp521])),
    ("ecp256", Is(&[KeyExchange::Ecp256])),
    ("ecp384", Is(&[KeyExchange::Ecp384])),
    ("ecp521", Is(&[KeyExchange::Ecp521])),
    ("x25519", Is(&[KeyExchange::X25519])),
    ("curve25519", Is(&[KeyExchange::X25519])),
    ("none", Nothing),
    ("null", Nothing),
    ("dh0", Nothing),
    ("dh1", Unsupported(WEAK)),
    ("dh2", Is(&[KeyExchange::Modp1024])),
    ("dh5", Is(&[KeyExchange::Modp1536])),
    ("modp768", Unsupported(WEAK)),
    ("modp1024", Is(&[KeyExchange::Modp1024])),
    ("modp1536", Is(&[KeyExchange::Modp1536])),
    ("dh17", Is(&[KeyExchange::Modp6144])),
    ("dh18", Is(&[KeyExchange::Modp8192])),
    ("modp6144", Is(&[KeyExchange::Modp6144])),
    ("modp8192", Is(&[KeyExchange::Modp8192])),
    ("dh22", Unsupported(SUBGROUP_22)),
    ("dh23", Unsupported(SUBGROUP)),
    ("dh24", Unsupported(SUBGROUP)),
    ("dh32", Unsupported("Curve448")),
    ("x448", Unsupported("Curve448")),
    ("curve448", Unsupported("Curve448")),
    ("dh35", Is(&[KeyExchange::MlKem512])),
    ("dh36", Is(&[KeyExchange::MlKem768])),
    ("dh37", Is(&[KeyExchange::MlKem1024])),
    ("ml_kem_512", Is(&[KeyExchange::MlKem512])),
    ("ml_kem_768", Is(&[KeyExchange::MlKem768])),
    ("ml_kem_1024", Is(&[KeyExchange::MlKem1024])),
    ("mlkem512", Is(&[KeyExchange::MlKem512])),
    ("mlkem768", Is(&[KeyExchange::MlKem768])),
    ("mlkem1024", Is(&[KeyExchange::MlKem1024])),
];

pub(super) const SEQUENCE_NUMBERS: &[(&str, Known<bool>)] = &[
    ("yes", Is(&[true])),
    ("no", Is(&[false])),
    ("esn", Is(&[true])),
    ("noesn", Is(&[false])),
    ("64_bit_sequential", Is(&[true])),
    ("32_bit_sequential", Is(&[false])),
    (
        "32_bit_unspecified",
        Unsupported("unspecified sequence numbers (RFC 9827)"),
    ),
];

pub(super) const TYPES: &[&str] = &[
    "encrypt", "encr", "prf", "integ", "ke", "dh", "sn", "esn", "addke1", "addke2", "addke3",
    "addke4", "addke5", "addke6", "addke7",
];

/// Names are compared without case, and `-` inside of a name is `_`.
pub(super) fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

pub(super) enum CipherProblem {
    Unknown,
    /// The name is right and the length is not; with the nearest name that is right.
    KeyLength(Option<String>),
}

/// A cipher by its name, which may end with `_` or `-` and a key length, or just the key length.
pub(super) fn find_cipher(text: &str) -> Result<Known<Encryption>, CipherProblem> {
    if let Some((name, length)) = text.rsplit_once('-') {
        let name = normal(name);
        let cipher = CIPHERS.iter().find(|cipher| cipher.name == name);
        return with_length(cipher.ok_or(CipherProblem::Unknown)?, length);
    }
    let name = normal(text);
    if let Some(cipher) = CIPHERS.iter().find(|cipher| cipher.name == name) {
        return Ok(cipher.without_length);
    }
    // The longest name that leaves only a number: aes_gcm_16_256 is aes_gcm_16 with 256, and not aes_gcm with 16_256.
    let (cipher, length) = CIPHERS
        .iter()
        .filter_map(|cipher| {
            let rest = name.strip_prefix(cipher.name)?;
            let length = rest.strip_prefix('_').unwrap_or(rest);
            is_number(length).then_some((cipher, length))
        })
        .max_by_key(|(cipher, _)| cipher.name.len())
        .ok_or(CipherProblem::Unknown)?;
    with_length(cipher, length)
}

fn with_length(cipher: &CipherName, length: &str) -> Result<Known<Encryption>, CipherProblem> {
    if let Unsupported(_) = cipher.without_length {
        return Ok(cipher.without_length);
    }
    let bits: Option<u16> = length.parse().ok();
    if let Some((_, known)) = cipher.lengths.iter().find(|(len, _)| Some(*len) == bits) {
        return Ok(*known);
    }
    let near = cipher
        .lengths
        .iter()
        .filter(|(_, known)| matches!(known, Is(_)))
        .min_by_key(|(len, _)| len.abs_diff(bits.unwrap_or(u16::MAX)))
        .map(|(len, _)| format!("{}{}{len}", cipher.name, separator(cipher.name)));
    Err(CipherProblem::KeyLength(near))
}

pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// What is written between a cipher's name and its key length: nothing for `aes256`, else `_`.
fn separator(cipher: &str) -> &'static str {
    if cipher.contains('_') { "_" } else { "" }
}

/// Every cipher name with and without key length, for suggestions.
pub(super) fn cipher_names() -> Vec<String> {
    let mut names = Vec::new();
    for cipher in CIPHERS {
        names.push(cipher.name.to_owned());
        for (length, _) in cipher.lengths {
            names.push(format!("{}{}{length}", cipher.name, separator(cipher.name)));
        }
    }
    names
}

pub(super) fn find_hash(name: &str) -> Option<&'static HashName> {
    let name = normal(name);
    HASHES.iter().find(|hash| hash.name == name)
}

pub(super) fn find_key_exchange(name: &str) -> Option<Known<KeyExchange>> {
    let name = normal(name);
    let (_, known) = KEY_EXCHANGES.iter().find(|(known, _)| *known == name)?;
    Some(*known)
}
