//! The notation of swanctl.conf (strongSwan's): words separated by hyphens, alternatives simply one after the other,
//! proposals separated by commas.

use super::{
    AdditionalOffer, ESP_ONLY, EspProposal, IkeProposal, NameError, NameErrorKind, additional,
    push_unique,
};
use crate::algorithm::{Encryption, Integrity, KeyExchange, Prf};

/// What a word stands for.
#[derive(Clone, Copy)]
enum Word {
    Encr(Encryption),
    Integ(Integrity),
    Prf(Prf),
    Ke(KeyExchange),
    NoKe,
    Esn(bool),
    Unsupported(&'static str),
}
use Word::{Encr, Esn, Integ, Ke, NoKe, Unsupported};

const CAMELLIA: &str = "Camellia in this mode";
const WEAK: &str = "768-bit MODP group is broken (RFC 8247: MUST NOT)";
const SUBGROUP: &str = "MODP group with a small subgroup (RFC 8247: MUST NOT or SHOULD NOT)";
const SMALL_CURVE: &str = "elliptic curve of less than 256 bits";
const BRAINPOOL: &str = "Brainpool curve";
const MD5: &str = "HMAC-MD5 is broken (RFC 8221, RFC 8247: MUST NOT)";
const TRUNCATED: &str = "HMAC-SHA-256 truncated to 96 bits";

const WORDS: &[(&str, Word)] = &[
    ("aes128gcm16", Encr(Encryption::Aes128Gcm16)),
    ("aes128gcm128", Encr(Encryption::Aes128Gcm16)),
    ("aes128gcm", Encr(Encryption::Aes128Gcm16)),
    ("aes256gcm16", Encr(Encryption::Aes256Gcm16)),
    ("aes256gcm128", Encr(Encryption::Aes256Gcm16)),
    ("aes256gcm", Encr(Encryption::Aes256Gcm16)),
    ("chacha20poly1305", Encr(Encryption::Chacha20Poly1305)),
    (
        "chacha20poly1305compat",
        Unsupported("the draft form of ChaCha20-Poly1305"),
    ),
    ("aes", Encr(Encryption::Aes128Cbc)),
    ("aes128", Encr(Encryption::Aes128Cbc)),
    ("aes192", Encr(Encryption::Aes192Cbc)),
    ("aes256", Encr(Encryption::Aes256Cbc)),
    ("aes128gcm8", Encr(Encryption::Aes128Gcm8)),
    ("aes128gcm64", Encr(Encryption::Aes128Gcm8)),
    ("aes128gcm12", Encr(Encryption::Aes128Gcm12)),
    ("aes128gcm96", Encr(Encryption::Aes128Gcm12)),
    ("aes128ccm8", Encr(Encryption::Aes128Ccm8)),
    ("aes128ccm64", Encr(Encryption::Aes128Ccm8)),
    ("aes128ccm12", Encr(Encryption::Aes128Ccm12)),
    ("aes128ccm96", Encr(Encryption::Aes128Ccm12)),
    ("aes128ccm16", Encr(Encryption::Aes128Ccm16)),
    ("aes128ccm128", Encr(Encryption::Aes128Ccm16)),
    ("aes128ccm", Encr(Encryption::Aes128Ccm16)),
    ("aes128ctr", Encr(Encryption::Aes128Ctr)),
    ("aes128gmac", Encr(Encryption::Aes128Gmac)),
    ("camellia128", Encr(Encryption::Camellia128Cbc)),
    ("aes128gcm16iiv", Encr(Encryption::Aes128Gcm16Iiv)),
    ("aes128ccm8iiv", Encr(Encryption::Aes128Ccm8Iiv)),
    ("aes192gcm8", Encr(Encryption::Aes192Gcm8)),
    ("aes192gcm64", Encr(Encryption::Aes192Gcm8)),
    ("aes192gcm12", Encr(Encryption::Aes192Gcm12)),
    ("aes192gcm96", Encr(Encryption::Aes192Gcm12)),
    ("aes192gcm16", Encr(Encryption::Aes192Gcm16)),
    ("aes192gcm128", Encr(Encryption::Aes192Gcm16)),
    ("aes192gcm", Encr(Encryption::Aes192Gcm16)),
    ("aes192ccm8", Encr(Encryption::Aes192Ccm8)),
    ("aes192ccm64", Encr(Encryption::Aes192Ccm8)),
    ("aes192ccm12", Encr(Encryption::Aes192Ccm12)),
    ("aes192ccm96", Encr(Encryption::Aes192Ccm12)),
    ("aes192ccm16", Encr(Encryption::Aes192Ccm16)),
    ("aes192ccm128", Encr(Encryption::Aes192Ccm16)),
    ("aes192ccm", Encr(Encryption::Aes192Ccm16)),
    ("aes192ctr", Encr(Encryption::Aes192Ctr)),
    ("aes192gmac", Encr(Encryption::Aes192Gmac)),
    ("camellia192", Encr(Encryption::Camellia192Cbc)),
    ("aes192gcm16iiv", Encr(Encryption::Aes192Gcm16Iiv)),
    ("aes192ccm8iiv", Encr(Encryption::Aes192Ccm8Iiv)),
    ("aes256gcm8", Encr(Encryption::Aes256Gcm8)),
    ("aes256gcm64", Encr(Encryption::Aes256Gcm8)),
    ("aes256gcm12", Encr(Encryption::Aes256Gcm12)),
    ("aes256gcm96", Encr(Encryption::Aes256Gcm12)),
    ("aes256ccm8", Encr(Encryption::Aes256Ccm8)),
    ("aes256ccm64", Encr(Encryption::Aes256Ccm8)),
    ("aes256ccm12", Encr(Encryption::Aes256Ccm12)),
    ("aes256ccm96", Encr(Encryption::Aes256Ccm12)),
    ("aes256ccm16", Encr(Encryption::Aes256Ccm16)),
    ("aes256ccm128", Encr(Encryption::Aes256Ccm16)),
    ("aes256ccm", Encr(Encryption::Aes256Ccm16)),
    ("aes256ctr", Encr(Encryption::Aes256Ctr)),
    ("aes256gmac", Encr(Encryption::Aes256Gmac)),
    ("camellia256", Encr(Encryption::Camellia256Cbc)),
    ("aes256gcm16iiv", Encr(Encryption::Aes256Gcm16Iiv)),
    ("aes256ccm8iiv", Encr(Encryption::Aes256Ccm8Iiv)),
    ("camellia", Encr(Encryption::Camellia128Cbc)),
    ("chacha20poly1305iiv", Encr(Encryption::Chacha20Poly1305Iiv)),
    ("3des", Encr(Encryption::TripleDesCbc)),
    ("null", Encr(Encryption::Null)),
    ("sha", Integ(Integrity::HmacSha1_96)),
    ("sha1", Integ(Integrity::HmacSha1_96)),
    ("aesxcbc", Integ(Integrity::AesXcbc96)),
    ("aescmac", Integ(Integrity::AesCmac96)),
    ("prfsha1", Word::Prf(Prf::HmacSha1)),
    ("prfaesxcbc", Word::Prf(Prf::AesXcbc)),
    ("prfaescmac", Word::Prf(Prf::AesCmac)),
    ("modp1024", Ke(KeyExchange::Modp1024)),
    ("modp1536", Ke(KeyExchange::Modp1536)),
    ("modp6144", Ke(KeyExchange::Modp6144)),
    ("modp8192", Ke(KeyExchange::Modp8192)),
    ("sha256", Integ(Integrity::HmacSha256_128)),
    ("sha2_256", Integ(Integrity::HmacSha256_128)),
    ("sha384", Integ(Integrity::HmacSha384_192)),
    ("sha2_384", Integ(Integrity::HmacSha384_192)),
    ("sha512", Integ(Integrity::HmacSha512_256)),
    ("sha2_512", Integ(Integrity::HmacSha512_256)),
    ("prfsha256", Word::Prf(Prf::HmacSha256)),
    ("prfsha384", Word::Prf(Prf::HmacSha384)),
    ("prfsha512", Word::Prf(Prf::HmacSha512)),
    ("x25519", Ke(KeyExchange::X25519)),
    ("mlkem512", Ke(KeyExchange::MlKem512)),
    ("mlkem768", Ke(KeyExchange::MlKem768)),
    ("mlkem1024", Ke(KeyExchange::MlKem1024)),
    ("curve25519", Ke(KeyExchange::X25519)),
    ("ecp256", Ke(KeyExchange::Ecp256)),
    ("ecp384", Ke(KeyExchange::Ecp384)),
    ("ecp521", Ke(KeyExchange::Ecp521)),
    ("modp2048", Ke(KeyExchange::Modp2048)),
    ("modp3072", Ke(KeyExchange::Modp3072)),
    ("modp4096", Ke(KeyExchange::Modp4096)),
    ("none", NoKe),
    ("modpnone", NoKe),
    ("esn", Esn(true)),
    ("noesn", Esn(false)),
    ("des", Unsupported("DES is broken (RFC 8221: MUST NOT)")),
    ("cast128", Unsupported("CAST-128")),
    ("blowfish", Unsupported("Blowfish")),
    ("blowfish128", Unsupported("Blowfish")),
    ("blowfish192", Unsupported("Blowfish")),
    ("blowfish256", Unsupported("Blowfish")),
    ("camellia128ctr", Unsupported(CAMELLIA)),
    ("camellia192ctr", Unsupported(CAMELLIA)),
    ("camellia256ctr", Unsupported(CAMELLIA)),
    ("serpent", Unsupported("Serpent")),
    ("twofish", Unsupported("Twofish")),
    ("serpent128", Unsupported("Serpent")),
    ("serpent192", Unsupported("Serpent")),
    ("serpent256", Unsupported("Serpent")),
    ("twofish128", Unsupported("Twofish")),
    ("twofish192", Unsupported("Twofish")),
    ("twofish256", Unsupported("Twofish")),
    ("camellia128ccm8", Unsupported(CAMELLIA)),
    ("camellia128ccm64", Unsupported(CAMELLIA)),
    ("camellia128ccm12", Unsupported(CAMELLIA)),
    ("camellia128ccm96", Unsupported(CAMELLIA)),
    ("camellia128ccm16", Unsupported(CAMELLIA)),
    ("camellia128ccm128", Unsupported(CAMELLIA)),
    ("camellia192ccm8", Unsupported(CAMELLIA)),
    ("camellia192ccm64", Unsupported(CAMELLIA)),
    ("camellia192ccm12", Unsupported(CAMELLIA)),
    ("camellia192ccm96", Unsupported(CAMELLIA)),
    ("camellia192ccm16", Unsupported(CAMELLIA)),
    ("camellia192ccm128", Unsupported(CAMELLIA)),
    ("camellia256ccm8", Unsupported(CAMELLIA)),
    ("camellia256ccm64", Unsupported(CAMELLIA)),
    ("camellia256ccm12", Unsupported(CAMELLIA)),
    ("camellia256ccm96", Unsupported(CAMELLIA)),
    ("camellia256ccm16", Unsupported(CAMELLIA)),
    ("camellia256ccm128", Unsupported(CAMELLIA)),
    ("sha1_160", Unsupported("HMAC-SHA-1 that is not truncated")),
    ("sha256_96", Unsupported(TRUNCATED)),
    ("sha2_256_96", Unsupported(TRUNCATED)),
    ("md5", Unsupported(MD5)),
    ("md5_128", Unsupported(MD5)),
    ("camelliaxcbc", Unsupported(CAMELLIA)),
    ("prfmd5", Unsupported(MD5)),
    ("prfcamelliaxcbc", Unsupported(CAMELLIA)),
    ("modp768", Unsupported(WEAK)),
    ("modp1024s160", Unsupported(SUBGROUP)),
    ("modp2048s224", Unsupported(SUBGROUP)),
    ("modp2048s256", Unsupported(SUBGROUP)),
    ("ecp192", Unsupported(SMALL_CURVE)),
    ("ecp224", Unsupported(SMALL_CURVE)),
    ("ecp224bp", Unsupported(BRAINPOOL)),
    ("ecp256bp", Unsupported(BRAINPOOL)),
    ("ecp384bp", Unsupported(BRAINPOOL)),
    ("ecp512bp", Unsupported(BRAINPOOL)),
    ("x448", Unsupported("Curve448")),
    ("curve448", Unsupported("Curve448")),
];

/// The algorithms of one proposal.
#[derive(Default)]
struct Lists {
    encryption: Vec<Encryption>,
    integrity: Vec<Integrity>,
    prf: Vec<Prf>,
    key_exchange: Vec<KeyExchange>,
    no_key_exchange: bool,
    additional: AdditionalOffer,
    esn: Vec<bool>,
}

fn parse_one(text: &str, offset: usize) -> Result<Lists, NameError> {
    let mut lists = Lists::default();
    let mut at = offset;
    for word in text.split('-') {
        let here = at;
        at += word.len() + 1;
        parse_word(word, here, &mut lists)?;
    }
    let error = |kind| NameError::new(kind, text, offset);
    let aead = lists.encryption.iter().filter(|e| e.is_aead()).count();
    if lists.encryption.is_empty() {
        return Err(error(NameErrorKind::Missing("encryption algorithm")));
    }
    if aead != 0 && aead != lists.encryption.len() {
        return Err(error(NameErrorKind::NotAllowed(
            "AEAD ciphers and others must be in different proposals",
        )));
    }
    if aead == 0 && lists.integrity.is_empty() {
        return Err(error(NameErrorKind::Missing("integrity algorithm")));
    }
    if lists.key_exchange.is_empty() && additional::any(&lists.additional) {
        return Err(error(NameErrorKind::NotAllowed(
            "additional key exchanges need a first one",
        )));
    }
    if lists.no_key_exchange && !lists.key_exchange.is_empty() {
        return Err(error(NameErrorKind::NotSupported(
            "a key exchange that may be left out",
        )));
    }
    Ok(lists)
}

fn parse_word(word: &str, offset: usize, lists: &mut Lists) -> Result<(), NameError> {
    let name = word.to_ascii_lowercase();
    // RFC 9370: ke1_… to ke7_… are further key exchanges.
    if let Some((methods, method)) = name
        .strip_prefix("ke")
        .and_then(|rest| rest.split_once('_'))
        .and_then(|(number, method)| {
            let index = additional::index(number)?;
            Some((lists.additional.get_mut(index)?, method))
        })
    {
        match find(method) {
            Some(NoKe) => push_unique(methods, None),
            Some(Ke(method)) => push_unique(methods, Some(method)),
            Some(Unsupported(what)) => {
                let kind = NameErrorKind::NotSupported(what);
                return Err(NameError::new(kind, word, offset));
            }
            _ => {
                let what = "key exchange method";
                return Err(NameError::unknown(what, word, offset, names()));
            }
        }
        return Ok(());
    }
    if name.is_empty() {
        let kind = NameErrorKind::Missing("algorithm");
        return Err(NameError::new(kind, word, offset));
    }
    match find(&name) {
        Some(Encr(encryption)) => push_unique(&mut lists.encryption, encryption),
        Some(Integ(integrity)) => push_unique(&mut lists.integrity, integrity),
        Some(Word::Prf(prf)) => push_unique(&mut lists.prf, prf),
        Some(Ke(method)) => push_unique(&mut lists.key_exchange, method),
        Some(NoKe) => lists.no_key_exchange = true,
        Some(Esn(esn)) => push_unique(&mut lists.esn, esn),
        Some(Unsupported(what)) => {
            return Err(NameError::new(
                NameErrorKind::NotSupported(what),
                word,
                offset,
            ));
        }
        None => return Err(NameError::unknown("algorithm", word, offset, names())),
    }
    Ok(())
}

fn find(name: &str) -> Option<Word> {
    let (_, word) = WORDS.iter().find(|(known, _)| *known == name)?;
    Some(*word)
}

fn names() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(name, _)| *name)
}

/// The proposals between commas, trimmed, with their offsets.
fn proposals(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut at = 0;
    text.split(',').map(move |one| {
        let offset = at + (one.len() - one.trim_start().len());
        at += one.len() + 1;
        (one.trim(), offset)
    })
}

pub(super) fn parse_ike(text: &str) -> Result<Vec<IkeProposal>, NameError> {
    let mut parsed = Vec::new();
    for (one, offset) in proposals(text) {
        if one.eq_ignore_ascii_case("default") {
            parsed.extend(IkeProposal::default_list());
            continue;
        }
        let mut lists = parse_one(one, offset)?;
        let error = |kind| NameError::new(kind, one, offset);
        if !lists.encryption.iter().all(|e| e.is_for_ike()) {
            return Err(error(NameErrorKind::NotAllowed(ESP_ONLY)));
        }
        if !lists.esn.is_empty() {
            return Err(error(NameErrorKind::NotAllowed(
                "IKE takes no kind of sequence numbers",
            )));
        }
        if lists.encryption.iter().any(|e| e.is_aead()) && !lists.integrity.is_empty() {
            // strongSwan turns the integrity algorithm of an AEAD proposal into the PRF that is missing.
            if lists.prf.is_empty() {
                lists.prf = lists.integrity.iter().map(|i| i.matching_prf()).collect();
            }
            lists.integrity.clear();
        }
        if lists.prf.is_empty() {
            lists.prf = lists.integrity.iter().map(|i| i.matching_prf()).collect();
        }
        if lists.prf.is_empty() {
            return Err(error(NameErrorKind::Missing("PRF")));
        }
        if lists.key_exchange.is_empty() {
            return Err(error(NameErrorKind::Missing("key exchange method")));
        }
        let proposal = IkeProposal {
            encryption: lists.encryption,
            integrity: lists.integrity,
            prf: lists.prf,
            key_exchange: lists.key_exchange,
            additional: lists.additional,
        };
        push_unique(&mut parsed, proposal);
    }
    Ok(parsed)
}

pub(super) fn parse_esp(text: &str) -> Result<Vec<EspProposal>, NameError> {
    let mut parsed = Vec::new();
    for (one, offset) in proposals(text) {
        if one.eq_ignore_ascii_case("default") {
            // As strongSwan's: no extended sequence numbers unless asked for.
            parsed.extend(
                EspProposal::default_list()
                    .into_iter()
                    .map(|proposal| EspProposal {
                        esn: vec![false],
                        ..proposal
                    }),
            );
            continue;
        }
        let mut lists = parse_one(one, offset)?;
        let error = |kind| NameError::new(kind, one, offset);
        if !lists.prf.is_empty() {
            return Err(error(NameErrorKind::NotAllowed("ESP takes no PRF")));
        }
        if lists.encryption.iter().any(|e| e.is_aead()) {
            // strongSwan ignores the integrity algorithm of an AEAD proposal.
            lists.integrity.clear();
        }
        if lists.esn.is_empty() {
            lists.esn.push(false);
        }
        let proposal = EspProposal {
            encryption: lists.encryption,
            integrity: lists.integrity,
            key_exchange: lists.key_exchange,
            additional: lists.additional,
            esn: lists.esn,
        };
        push_unique(&mut parsed, proposal);
    }
    Ok(parsed)
}
