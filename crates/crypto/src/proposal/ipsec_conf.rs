//! The notation of ipsec.conf (libreswan's): `ENCR[-PRF][-INTEG][-KE][;KE][;type=alg+alg…]`, separated by commas, `+` between
//! alternatives. The order ENCR-INTEG-PRF is deprecated but understood where names make it plain.

use super::{EspProposal, IkeProposal, NameError, NameErrorKind, push_unique};
use crate::algorithm::{Encryption, Integrity, KeyExchange, Prf};

/// What a name stands for.
#[derive(Clone, Copy)]
enum Known<T: 'static> {
    /// One or more algorithms, in order of preference.
    Is(&'static [T]),
    /// Explicitly nothing.
    Nothing,
    /// A real algorithm that this crate does not have.
    Unsupported(&'static str),
}
use Known::{Is, Nothing, Unsupported};

/// A part of the text with its place.
#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Token<'a> {
    /// The parts between separators, each trimmed.
    fn split(self, separator: char) -> impl Iterator<Item = Token<'a>> {
        let mut offset = self.offset;
        self.text.split(separator).map(move |text| {
            let token = Token { text, offset };
            offset += text.len() + separator.len_utf8();
            token.trim()
        })
    }

    fn trim(self) -> Self {
        let text = self.text.trim_start();
        Token {
            offset: self.offset + (self.text.len() - text.len()),
            text: text.trim_end(),
        }
    }

    fn error(self, kind: NameErrorKind) -> NameError {
        NameError::new(kind, self.text, self.offset)
    }
}

const AEAD: &str = "AEAD ciphers and others cannot be alternatives of each other";
const EXTRA: &str = "nothing more can follow";

/// Ciphers without their key length, with what each key length means.
struct CipherName {
    name: &'static str,
    without_length: Known<Encryption>,
    lengths: &'static [(u16, Known<Encryption>)],
}

const GCM_LENGTHS: &[(u16, Known<Encryption>)] = &[
    (128, Is(&[Encryption::Aes128Gcm16])),
    (192, Unsupported("AES-GCM with a 192-bit key")),
    (256, Is(&[Encryption::Aes256Gcm16])),
];
const CBC_LENGTHS: &[(u16, Known<Encryption>)] = &[
    (128, Is(&[Encryption::Aes128Cbc])),
    (192, Is(&[Encryption::Aes192Cbc])),
    (256, Is(&[Encryption::Aes256Cbc])),
];
/// A cipher without a choice of key length may still name its only one.
const CHACHA_LENGTHS: &[(u16, Known<Encryption>)] = &[(256, Is(&[Encryption::Chacha20Poly1305]))];
// Without a key length the longest and the shortest are meant, as libreswan does it.
const GCM: Known<Encryption> = Is(&[Encryption::Aes256Gcm16, Encryption::Aes128Gcm16]);
const CBC: Known<Encryption> = Is(&[Encryption::Aes256Cbc, Encryption::Aes128Cbc]);
const CHACHA: Known<Encryption> = Is(&[Encryption::Chacha20Poly1305]);

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
    cipher("aes_gcm_16", GCM, GCM_LENGTHS),
    cipher("aes_gcm", GCM, GCM_LENGTHS),
    cipher("aes_gcm_c", GCM, GCM_LENGTHS),
    cipher("aesgcm", GCM, GCM_LENGTHS),
    cipher("aes_cbc", CBC, CBC_LENGTHS),
    cipher("aes", CBC, CBC_LENGTHS),
    cipher("chacha20_poly1305", CHACHA, CHACHA_LENGTHS),
    cipher("chacha20poly1305", CHACHA, CHACHA_LENGTHS),
    unsupported_cipher(
        "3des",
        "triple DES is too weak (RFC 8221: SHOULD NOT, 64-bit block)",
    ),
    unsupported_cipher(
        "3des_cbc",
        "triple DES is too weak (RFC 8221: SHOULD NOT, 64-bit block)",
    ),
    unsupported_cipher("des", "DES is broken (RFC 8221: MUST NOT)"),
    unsupported_cipher("aes_gcm_12", "AES-GCM with a 12-octet ICV"),
    unsupported_cipher("aes_gcm_b", "AES-GCM with a 12-octet ICV"),
    unsupported_cipher("aes_gcm_8", "AES-GCM with an 8-octet ICV"),
    unsupported_cipher("aes_gcm_a", "AES-GCM with an 8-octet ICV"),
    unsupported_cipher("aes_ctr", "AES-CTR"),
    unsupported_cipher("aesctr", "AES-CTR"),
    unsupported_cipher("aes_ccm", "AES-CCM"),
    unsupported_cipher("aes_ccm_8", "AES-CCM"),
    unsupported_cipher("aes_ccm_12", "AES-CCM"),
    unsupported_cipher("aes_ccm_16", "AES-CCM"),
    unsupported_cipher("aes_ccm_a", "AES-CCM"),
    unsupported_cipher("aes_ccm_b", "AES-CCM"),
    unsupported_cipher("aes_ccm_c", "AES-CCM"),
    unsupported_cipher("camellia", "Camellia"),
    unsupported_cipher("camellia_cbc", "Camellia"),
    unsupported_cipher("camellia_ctr", "Camellia"),
    unsupported_cipher("cast", "CAST-128"),
    unsupported_cipher("cast_cbc", "CAST-128"),
    unsupported_cipher("blowfish", "Blowfish"),
    unsupported_cipher("serpent", "Serpent"),
    unsupported_cipher("serpent_cbc", "Serpent"),
    unsupported_cipher("twofish", "Twofish"),
    unsupported_cipher("twofish_cbc", "Twofish"),
    unsupported_cipher("null", "encryption by nothing"),
    unsupported_cipher("null_auth_aes_gmac", "AES-GMAC"),
    unsupported_cipher("aes_gmac", "AES-GMAC"),
];

/// Names of hashes, each as PRF and as integrity algorithm. The wrong kind is `None`.
struct HashName {
    name: &'static str,
    prf: Option<Known<Prf>>,
    integrity: Option<Known<Integrity>>,
}

const fn sha2(
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
const SHA1: &str = "HMAC-SHA-1";
const MD5: &str = "HMAC-MD5 is broken (RFC 8221, RFC 8247: MUST NOT)";

const HASHES: &[HashName] = &[
    sha2("sha2_256", P256, I256),
    sha2("sha2_384", P384, I384),
    sha2("sha2_512", P512, I512),
    sha2("sha2", P256, I256),
    sha2("sha256", P256, I256),
    sha2("sha384", P384, I384),
    sha2("sha512", P512, I512),
    sha2("hmac_sha2_256", P256, I256),
    sha2("hmac_sha2_384", P384, I384),
    sha2("hmac_sha2_512", P512, I512),
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
    unsupported_hash("sha", SHA1),
    unsupported_hash("sha1", SHA1),
    unsupported_hash("sha1_96", SHA1),
    unsupported_hash("hmac_sha1", SHA1),
    unsupported_hash("hmac_sha1_96", SHA1),
    unsupported_hash("md5", MD5),
    unsupported_hash("md5_96", MD5),
    unsupported_hash("hmac_md5", MD5),
    unsupported_hash("hmac_md5_96", MD5),
    unsupported_hash("aes_xcbc", "AES-XCBC"),
    unsupported_hash("aes_xcbc_96", "AES-XCBC"),
    unsupported_hash("aes128_xcbc", "AES-XCBC"),
    unsupported_hash("aes_cmac", "AES-CMAC"),
    unsupported_hash("aes_cmac_96", "AES-CMAC"),
    unsupported_hash(
        "hmac_sha2_256_truncbug",
        "HMAC-SHA-256 truncated to 96 bits",
    ),
];

const WEAK: &str = "MODP group of less than 2048 bits is too weak (RFC 8247)";
const BIG: &str = "MODP group of more than 4096 bits";
const SUBGROUP: &str = "MODP group with a small subgroup (RFC 8247: SHOULD NOT)";

const KEY_EXCHANGES: &[(&str, Known<KeyExchange>)] = &[
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
    ("dh2", Unsupported(WEAK)),
    ("dh5", Unsupported(WEAK)),
    ("modp768", Unsupported(WEAK)),
    ("modp1024", Unsupported(WEAK)),
    ("modp1536", Unsupported(WEAK)),
    ("dh17", Unsupported(BIG)),
    ("dh18", Unsupported(BIG)),
    ("modp6144", Unsupported(BIG)),
    ("modp8192", Unsupported(BIG)),
    ("dh22", Unsupported(SUBGROUP)),
    ("dh23", Unsupported(SUBGROUP)),
    ("dh24", Unsupported(SUBGROUP)),
    ("dh32", Unsupported("Curve448")),
    ("x448", Unsupported("Curve448")),
    ("curve448", Unsupported("Curve448")),
    ("dh35", Unsupported("ML-KEM")),
    ("dh36", Unsupported("ML-KEM")),
    ("dh37", Unsupported("ML-KEM")),
    ("ml_kem_512", Unsupported("ML-KEM")),
    ("ml_kem_768", Unsupported("ML-KEM")),
    ("ml_kem_1024", Unsupported("ML-KEM")),
    ("mlkem512", Unsupported("ML-KEM")),
    ("mlkem768", Unsupported("ML-KEM")),
    ("mlkem1024", Unsupported("ML-KEM")),
];

const SEQUENCE_NUMBERS: &[(&str, Known<bool>)] = &[
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

const TYPES: &[&str] = &[
    "encrypt", "encr", "prf", "integ", "ke", "dh", "sn", "esn", "addke1", "addke2", "addke3",
    "addke4", "addke5", "addke6", "addke7",
];

/// Adds what `known` stands for; `true` if it is explicitly nothing.
fn add<T: Copy + PartialEq>(
    known: Known<T>,
    token: Token<'_>,
    list: &mut Vec<T>,
) -> Result<bool, NameError> {
    match known {
        Is(algorithms) => {
            for algorithm in algorithms {
                push_unique(list, *algorithm);
            }
            Ok(false)
        }
        Nothing => Ok(true),
        Unsupported(what) => Err(token.error(NameErrorKind::NotSupported(what))),
    }
}

/// The algorithms of a proposal as far as they are given.
#[derive(Default)]
struct Lists {
    encryption: Vec<Encryption>,
    prf: Vec<Prf>,
    integrity: Vec<Integrity>,
    key_exchange: Vec<KeyExchange>,
    esn: Vec<bool>,
    no_integrity: bool,
    no_key_exchange: bool,
}

impl Lists {
    fn cipher(&mut self, token: Token<'_>) -> Result<(), NameError> {
        let name = normal(token.text);
        let known = find_cipher(&name).map_err(|problem| match problem {
            CipherProblem::Unknown => NameError::unknown(
                "encryption algorithm",
                token.text,
                token.offset,
                cipher_names().iter().map(String::as_str),
            ),
            CipherProblem::KeyLength(near) => NameError {
                suggestion: near,
                ..token.error(NameErrorKind::KeyLength)
            },
        })?;
        add(known, token, &mut self.encryption)?;
        let aead = self.encryption.iter().filter(|e| e.is_aead()).count();
        if aead != 0 && aead != self.encryption.len() {
            // They differ in whether there is an integrity algorithm, so they need two proposals (RFC 7296 §3.3).
            return Err(token.error(NameErrorKind::NotAllowed(AEAD)));
        }
        Ok(())
    }

    fn prf(&mut self, token: Token<'_>) -> Result<(), NameError> {
        let known = find_hash(token.text)
            .and_then(|hash| hash.prf)
            .ok_or_else(|| {
                let names = HASHES.iter().filter(|h| h.prf.is_some()).map(|h| h.name);
                NameError::unknown("PRF", token.text, token.offset, names)
            })?;
        add(known, token, &mut self.prf)?;
        Ok(())
    }

    fn integrity(&mut self, token: Token<'_>) -> Result<(), NameError> {
        let known = find_hash(token.text)
            .and_then(|hash| hash.integrity)
            .ok_or_else(|| {
                let names = HASHES
                    .iter()
                    .filter(|h| h.integrity.is_some())
                    .map(|h| h.name);
                NameError::unknown("integrity algorithm", token.text, token.offset, names)
            })?;
        self.no_integrity |= add(known, token, &mut self.integrity)?;
        Ok(())
    }

    fn key_exchange(&mut self, token: Token<'_>) -> Result<(), NameError> {
        let known = find_key_exchange(token.text).ok_or_else(|| {
            let names = KEY_EXCHANGES.iter().map(|(name, _)| *name);
            NameError::unknown("key exchange method", token.text, token.offset, names)
        })?;
        self.no_key_exchange |= add(known, token, &mut self.key_exchange)?;
        Ok(())
    }

    fn sequence_numbers(&mut self, token: Token<'_>) -> Result<(), NameError> {
        let name = normal(token.text);
        let known = SEQUENCE_NUMBERS.iter().find(|(known, _)| *known == name);
        let (_, known) = known.ok_or_else(|| {
            let names = SEQUENCE_NUMBERS.iter().map(|(name, _)| *name);
            NameError::unknown("kind of sequence numbers", token.text, token.offset, names)
        })?;
        add(*known, token, &mut self.esn)?;
        Ok(())
    }
}

/// Names are compared without case, and `-` inside of a name is `_`.
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

enum CipherProblem {
    Unknown,
    /// The name is right and the length is not; with the nearest name that is right.
    KeyLength(Option<String>),
}

/// A cipher by its name, which may end with `_` and a key length, or just the key length.
fn find_cipher(name: &str) -> Result<Known<Encryption>, CipherProblem> {
    if let Some(cipher) = CIPHERS.iter().find(|cipher| cipher.name == name) {
        return Ok(cipher.without_length);
    }
    // The longest name that leaves only a number: aes_gcm_16_256 is aes_gcm_16 with 256, and not aes_gcm with 16_256.
    let (cipher, length) = CIPHERS
        .iter()
        .filter_map(|cipher| {
            let rest = name.strip_prefix(cipher.name)?;
            let digits = rest.strip_prefix('_').unwrap_or(rest);
            let number = digits.bytes().all(|b| b.is_ascii_digit());
            (number && !digits.is_empty()).then_some((cipher, digits))
        })
        .max_by_key(|(cipher, _)| cipher.name.len())
        .ok_or(CipherProblem::Unknown)?;
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

/// What is written between a cipher's name and its key length: nothing for `aes256`, else `_`.
fn separator(cipher: &str) -> &'static str {
    if cipher.contains('_') { "_" } else { "" }
}

/// Every cipher name with and without key length, for suggestions.
fn cipher_names() -> Vec<String> {
    let mut names = Vec::new();
    for cipher in CIPHERS {
        names.push(cipher.name.to_owned());
        for (length, _) in cipher.lengths {
            names.push(format!("{}{}{length}", cipher.name, separator(cipher.name)));
        }
    }
    names
}

fn find_hash(name: &str) -> Option<&'static HashName> {
    let name = normal(name);
    HASHES.iter().find(|hash| hash.name == name)
}

fn find_key_exchange(name: &str) -> Option<Known<KeyExchange>> {
    let name = normal(name);
    let (_, known) = KEY_EXCHANGES.iter().find(|(known, _)| *known == name)?;
    Some(*known)
}

/// Whether the first alternative of a part names a hash, in any role.
fn is_hash(part: Token<'_>) -> bool {
    part.split('+')
        .next()
        .and_then(|t| find_hash(t.text))
        .is_some()
}

/// Whether a part can be nothing but an integrity algorithm.
fn is_only_integrity(part: Token<'_>) -> bool {
    part.split('+')
        .any(|t| find_hash(t.text).is_some_and(|hash| hash.prf.is_none()))
}

/// Whether a part can be nothing but a key exchange method (`none` can also be an integrity algorithm).
fn is_only_key_exchange(part: Token<'_>) -> bool {
    part.split('+')
        .any(|t| find_key_exchange(t.text).is_some() && find_hash(t.text).is_none())
}

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Ike,
    Esp,
}

/// One proposal: what stands between commas.
fn parse_one(text: Token<'_>, protocol: Protocol) -> Result<Lists, NameError> {
    let mut lists = Lists::default();
    let mut sections = text.split(';');
    let main = sections.next().unwrap_or(text);
    if !main.text.contains('=') {
        parse_positional(main, protocol, &mut lists)?;
    } else {
        parse_typed(main, protocol, &mut lists)?;
    }
    for section in sections {
        if section.text.contains('=') {
            parse_typed(section, protocol, &mut lists)?;
        } else if section.text.is_empty() {
            return Err(section.error(NameErrorKind::Missing("key exchange method")));
        } else {
            each(section, |token| lists.key_exchange(token))?;
        }
    }
    if lists.encryption.is_empty() {
        return Err(text.error(NameErrorKind::Missing("encryption algorithm")));
    }
    if lists.encryption.iter().any(|e| e.is_aead()) && !lists.integrity.is_empty() {
        return Err(text.error(NameErrorKind::NotAllowed(
            "an AEAD cipher takes no integrity algorithm",
        )));
    }
    if lists.no_integrity && !lists.encryption.iter().all(|e| e.is_aead()) {
        return Err(text.error(NameErrorKind::NotAllowed(
            "a cipher that is not AEAD needs an integrity algorithm",
        )));
    }
    Ok(lists)
}

fn each<'a>(
    part: Token<'a>,
    mut f: impl FnMut(Token<'a>) -> Result<(), NameError>,
) -> Result<(), NameError> {
    part.split('+').try_for_each(&mut f)
}

/// `ENCR[-PRF][-INTEG][-KE]` for IKE, `ENCR[-INTEG][-KE]` for ESP.
fn parse_positional(
    text: Token<'_>,
    protocol: Protocol,
    lists: &mut Lists,
) -> Result<(), NameError> {
    let parts = cipher_and_rest(text);
    let mut parts = parts.into_iter().peekable();
    if let Some(ciphers) = parts.next() {
        each(ciphers, |token| lists.cipher(token))?;
    }
    let aead = lists.encryption.iter().any(|e| e.is_aead());

    let mut hashes = Vec::new();
    while hashes.len() < 2
        && let Some(part) = parts.next_if(|part| is_hash(*part))
    {
        // "none" right before the end, with an integrity algorithm already there, is "no key exchange".
        if part.text.eq_ignore_ascii_case("none")
            && parts.peek().is_none()
            && !(aead && hashes.len() < 2)
        {
            lists.no_key_exchange = true;
            continue;
        }
        hashes.push(part);
    }
    match (protocol, hashes.as_slice()) {
        (_, []) => {}
        (Protocol::Ike, [prf]) if aead && !is_only_integrity(*prf) => {
            each(*prf, |token| lists.prf(token))?;
        }
        // One hash is both: the integrity algorithm, and the PRF on the same hash.
        (Protocol::Ike | Protocol::Esp, [integrity]) => {
            each(*integrity, |token| lists.integrity(token))?;
        }
        (Protocol::Ike, [integrity, prf, ..]) if is_only_integrity(*integrity) => {
            each(*integrity, |token| lists.integrity(token))?;
            each(*prf, |token| lists.prf(token))?;
        }
        (Protocol::Ike, [prf, integrity, ..]) => {
            each(*prf, |token| lists.prf(token))?;
            each(*integrity, |token| lists.integrity(token))?;
        }
        (Protocol::Esp, [integrity, extra, ..]) => {
            each(*integrity, |token| lists.integrity(token))?;
            return Err(extra.error(NameErrorKind::NotAllowed("ESP takes no PRF")));
        }
    }
    let Some(part) = parts.next() else {
        return Ok(());
    };
    if is_only_key_exchange(part) || !hashes.is_empty() {
        each(part, |token| lists.key_exchange(token))?;
    } else {
        // Neither a hash nor a key exchange method: whatever is nearest is meant.
        let names = HASHES
            .iter()
            .map(|hash| hash.name)
            .chain(KEY_EXCHANGES.iter().map(|(name, _)| *name));
        return Err(NameError::unknown(
            "integrity algorithm, PRF or key exchange method",
            part.text,
            part.offset,
            names,
        ));
    }
    match parts.next() {
        None => Ok(()),
        Some(extra) => Err(extra.error(NameErrorKind::NotAllowed(EXTRA))),
    }
}

/// The parts between hyphens. A key length may be set off from its cipher by a hyphen too: `aes-256-sha2_256`.
fn cipher_and_rest(text: Token<'_>) -> Vec<Token<'_>> {
    let mut parts: Vec<Token<'_>> = text.split('-').collect();
    if let [cipher, length, ..] = parts.as_slice()
        && !length.text.is_empty()
        && length.text.bytes().all(|b| b.is_ascii_digit())
        && let Some(joined) = (length.offset + length.text.len())
            .checked_sub(cipher.offset)
            .and_then(|len| {
                let start = cipher.offset.checked_sub(text.offset)?;
                text.text.get(start..start.checked_add(len)?)
            })
    {
        let joined = Token {
            text: joined,
            offset: cipher.offset,
        };
        parts.splice(..2, [joined]);
    }
    parts
}

/// `type=alg+alg…`
fn parse_typed(section: Token<'_>, protocol: Protocol, lists: &mut Lists) -> Result<(), NameError> {
    let mut halves = section.split('=');
    let (Some(kind), Some(value)) = (halves.next(), halves.next()) else {
        return Err(section.error(NameErrorKind::Missing("algorithm")));
    };
    if let Some(extra) = halves.next() {
        return Err(extra.error(NameErrorKind::NotAllowed(EXTRA)));
    }
    match (normal(kind.text).as_str(), protocol) {
        ("encrypt" | "encr", _) => each(value, |token| lists.cipher(token)),
        ("prf", Protocol::Ike) => each(value, |token| lists.prf(token)),
        ("prf", Protocol::Esp) => Err(kind.error(NameErrorKind::NotAllowed("ESP takes no PRF"))),
        ("integ", _) => each(value, |token| lists.integrity(token)),
        ("ke" | "dh", _) => each(value, |token| lists.key_exchange(token)),
        ("sn" | "esn", Protocol::Esp) => each(value, |token| lists.sequence_numbers(token)),
        ("sn" | "esn", Protocol::Ike) => Err(kind.error(NameErrorKind::NotAllowed(
            "IKE takes no kind of sequence numbers",
        ))),
        ("addke1" | "addke2" | "addke3" | "addke4" | "addke5" | "addke6" | "addke7", _) => {
            each(value, |token| match find_key_exchange(token.text) {
                Some(Nothing) => Ok(()),
                Some(_) => Err(token.error(NameErrorKind::NotSupported(
                    "additional key exchanges (RFC 9370)",
                ))),
                None => lists.key_exchange(token),
            })
        }
        _ => Err(NameError::unknown(
            "type of algorithm",
            kind.text,
            kind.offset,
            TYPES.iter().copied(),
        )),
    }
}

pub(super) fn parse_ike(text: &str) -> Result<Vec<IkeProposal>, NameError> {
    let text = Token { text, offset: 0 };
    text.split(',')
        .map(|one| {
            let mut lists = parse_one(one, Protocol::Ike)?;
            if lists.no_key_exchange && lists.key_exchange.is_empty() {
                return Err(one.error(NameErrorKind::NotAllowed("IKE needs a key exchange")));
            }
            let aead = lists.encryption.iter().any(|e| e.is_aead());
            // What is left out follows from what is there.
            if lists.prf.is_empty() {
                lists.prf = lists.integrity.iter().map(|i| i.matching_prf()).collect();
            }
            if lists.prf.is_empty() {
                lists.prf = Prf::ALL.to_vec();
            }
            if lists.integrity.is_empty() && !aead {
                lists.integrity = lists.prf.iter().map(|p| p.matching_integrity()).collect();
            }
            if lists.key_exchange.is_empty() {
                lists.key_exchange = KeyExchange::ALL.to_vec();
            }
            Ok(IkeProposal {
                encryption: lists.encryption,
                integrity: lists.integrity,
                prf: lists.prf,
                key_exchange: lists.key_exchange,
            })
        })
        .collect()
}

pub(super) fn parse_esp(text: &str) -> Result<Vec<EspProposal>, NameError> {
    let text = Token { text, offset: 0 };
    text.split(',')
        .map(|one| {
            let mut lists = parse_one(one, Protocol::Esp)?;
            let aead = lists.encryption.iter().any(|e| e.is_aead());
            if lists.integrity.is_empty() && !aead {
                lists.integrity = Integrity::ALL.to_vec();
            }
            if lists.esn.is_empty() {
                lists.esn = vec![true, false];
            }
            Ok(EspProposal {
                encryption: lists.encryption,
                integrity: lists.integrity,
                key_exchange: lists.key_exchange,
                esn: lists.esn,
            })
        })
        .collect()
}
