//! The notation of swanctl.conf (strongSwan's): words separated by hyphens, alternatives simply one after the other,
//! proposals separated by commas.

use super::{
    AdditionalOffer, EspProposal, IkeProposal, NameError, NameErrorKind, additional, push_unique,
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

const CAMELLIA: &str = "Camellia";
const CCM: &str = "AES-CCM";
const CTR: &str = "AES-CTR";
const GCM_SHORT: &str = "AES-GCM with an ICV of less than 16 octets";
const GCM_192: &str = "AES-GCM with a 192-bit key";
const GMAC: &str = "AES-GMAC";
const WEAK: &str = "MODP group of less than 2048 bits is too weak (RFC 8247)";
const BIG: &str = "MODP group of more than 4096 bits";
const SUBGROUP: &str = "MODP group with a small subgroup (RFC 8247: SHOULD NOT)";
const SMALL_CURVE: &str = "elliptic curve of less than 256 bits";
const BRAINPOOL: &str = "Brainpool curve";
const SHA1: &str = "HMAC-SHA-1";
const MD5: &str = "HMAC-MD5 is broken (RFC 8221, RFC 8247: MUST NOT)";
const TRIPLE_DES: &str = "triple DES is too weak (RFC 8221: SHOULD NOT, 64-bit block)";
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
    ("null", Unsupported("encryption by nothing")),
    ("des", Unsupported("DES is broken (RFC 8221: MUST NOT)")),
    ("3des", Unsupported(TRIPLE_DES)),
    ("cast128", Unsupported("CAST-128")),
    ("blowfish", Unsupported("Blowfish")),
    ("blowfish128", Unsupported("Blowfish")),
    ("blowfish192", Unsupported("Blowfish")),
    ("blowfish256", Unsupported("Blowfish")),
    ("aes128ctr", Unsupported(CTR)),
    ("aes192ctr", Unsupported(CTR)),
    ("aes256ctr", Unsupported(CTR)),
    ("aes192gcm16", Unsupported(GCM_192)),
    ("aes192gcm128", Unsupported(GCM_192)),
    ("aes192gcm", Unsupported(GCM_192)),
    ("aes128gcm8", Unsupported(GCM_SHORT)),
    ("aes128gcm64", Unsupported(GCM_SHORT)),
    ("aes128gcm12", Unsupported(GCM_SHORT)),
    ("aes128gcm96", Unsupported(GCM_SHORT)),
    ("aes192gcm8", Unsupported(GCM_SHORT)),
    ("aes192gcm64", Unsupported(GCM_SHORT)),
    ("aes192gcm12", Unsupported(GCM_SHORT)),
    ("aes192gcm96", Unsupported(GCM_SHORT)),
    ("aes256gcm8", Unsupported(GCM_SHORT)),
    ("aes256gcm64", Unsupported(GCM_SHORT)),
    ("aes256gcm12", Unsupported(GCM_SHORT)),
    ("aes256gcm96", Unsupported(GCM_SHORT)),
    ("aes128ccm", Unsupported(CCM)),
    ("aes128ccm8", Unsupported(CCM)),
    ("aes128ccm12", Unsupported(CCM)),
    ("aes128ccm16", Unsupported(CCM)),
    ("aes128ccm64", Unsupported(CCM)),
    ("aes128ccm96", Unsupported(CCM)),
    ("aes128ccm128", Unsupported(CCM)),
    ("aes192ccm", Unsupported(CCM)),
    ("aes192ccm8", Unsupported(CCM)),
    ("aes192ccm12", Unsupported(CCM)),
    ("aes192ccm16", Unsupported(CCM)),
    ("aes192ccm64", Unsupported(CCM)),
    ("aes192ccm96", Unsupported(CCM)),
    ("aes192ccm128", Unsupported(CCM)),
    ("aes256ccm", Unsupported(CCM)),
    ("aes256ccm8", Unsupported(CCM)),
    ("aes256ccm12", Unsupported(CCM)),
    ("aes256ccm16", Unsupported(CCM)),
    ("aes256ccm64", Unsupported(CCM)),
    ("aes256ccm96", Unsupported(CCM)),
    ("aes256ccm128", Unsupported(CCM)),
    ("aes128gmac", Unsupported(GMAC)),
    ("aes192gmac", Unsupported(GMAC)),
    ("aes256gmac", Unsupported(GMAC)),
    ("camellia", Unsupported(CAMELLIA)),
    ("camellia128", Unsupported(CAMELLIA)),
    ("camellia192", Unsupported(CAMELLIA)),
    ("camellia256", Unsupported(CAMELLIA)),
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
    ("sha", Unsupported(SHA1)),
    ("sha1", Unsupported(SHA1)),
    ("sha1_160", Unsupported(SHA1)),
    ("sha256_96", Unsupported(TRUNCATED)),
    ("sha2_256_96", Unsupported(TRUNCATED)),
    ("md5", Unsupported(MD5)),
    ("md5_128", Unsupported(MD5)),
    ("aesxcbc", Unsupported("AES-XCBC")),
    ("aescmac", Unsupported("AES-CMAC")),
    ("camelliaxcbc", Unsupported(CAMELLIA)),
    ("prfsha1", Unsupported(SHA1)),
    ("prfmd5", Unsupported(MD5)),
    ("prfaesxcbc", Unsupported("AES-XCBC")),
    ("prfcamelliaxcbc", Unsupported(CAMELLIA)),
    ("prfaescmac", Unsupported("AES-CMAC")),
    ("modp768", Unsupported(WEAK)),
    ("modp1024", Unsupported(WEAK)),
    ("modp1536", Unsupported(WEAK)),
    ("modp6144", Unsupported(BIG)),
    ("modp8192", Unsupported(BIG)),
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
