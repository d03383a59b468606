//! The notation of ipsec.conf (libreswan's): `ENCR[-PRF][-INTEG][-KE][;KE][;type=alg+alg…]`, separated by commas, `+` between
//! alternatives. The order ENCR-INTEG-PRF is deprecated but understood where names make it plain.

mod names;

use names::Known::{self, Is, Nothing, Unsupported};
use names::{
    CipherProblem, HASHES, KEY_EXCHANGES, SEQUENCE_NUMBERS, TYPES, cipher_names, find_cipher,
    find_hash, find_key_exchange, is_number, normal,
};

use super::{
    AdditionalOffer, ESP_ONLY, EspProposal, IkeProposal, NameError, NameErrorKind, additional,
    push_unique,
};
use crate::algorithm::{Encryption, Integrity, KeyExchange, Prf};

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
const ADDITIONAL_ALONE: &str = "additional key exchanges need a first one (ke=)";
const EXTRA: &str = "nothing more can follow";

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
    additional: AdditionalOffer,
    esn: Vec<bool>,
    no_integrity: bool,
    no_key_exchange: bool,
}

impl Lists {
    fn cipher(&mut self, token: Token<'_>) -> Result<(), NameError> {
        let known = find_cipher(token.text).map_err(|problem| match problem {
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
        self.no_key_exchange |= add(known_key_exchange(token)?, token, &mut self.key_exchange)?;
        Ok(())
    }

    /// One alternative of the additional key exchange `index`.
    fn additional(&mut self, index: usize, token: Token<'_>) -> Result<(), NameError> {
        let Some(methods) = self.additional.get_mut(index) else {
            return Ok(());
        };
        let mut found = Vec::new();
        if add(known_key_exchange(token)?, token, &mut found)? {
            push_unique(methods, None);
        }
        for method in found {
            push_unique(methods, Some(method));
        }
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

fn known_key_exchange(token: Token<'_>) -> Result<Known<KeyExchange>, NameError> {
    find_key_exchange(token.text).ok_or_else(|| {
        let names = KEY_EXCHANGES.iter().map(|(name, _)| *name);
        NameError::unknown("key exchange method", token.text, token.offset, names)
    })
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

/// Whether the first alternative of a part names a key exchange method.
fn is_key_exchange(part: Token<'_>) -> bool {
    part.split('+')
        .next()
        .and_then(|t| find_key_exchange(t.text))
        .is_some()
}

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Ike,
    Esp,
    Ah,
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
    if protocol == Protocol::Ah {
        return match lists.integrity.is_empty() || lists.no_integrity {
            true => Err(text.error(NameErrorKind::Missing("integrity algorithm"))),
            false => Ok(lists),
        };
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

/// Gives each alternative of a part to `f`.
fn each<'a>(
    part: Token<'a>,
    mut f: impl FnMut(Token<'a>) -> Result<(), NameError>,
) -> Result<(), NameError> {
    part.split('+').try_for_each(|token| {
        if token.text.is_empty() {
            return Err(token.error(NameErrorKind::Missing("algorithm")));
        }
        f(token)
    })
}

/// `ENCR[-PRF][-INTEG][-KE]` for IKE, `ENCR[-INTEG][-KE]` for ESP, `INTEG[-KE]` for AH.
fn parse_positional(
    text: Token<'_>,
    protocol: Protocol,
    lists: &mut Lists,
) -> Result<(), NameError> {
    let parts = cipher_and_rest(text);
    let mut parts = parts.into_iter().peekable();
    if protocol != Protocol::Ah
        && let Some(ciphers) = parts.next()
    {
        each(ciphers, |token| lists.cipher(token))?;
    }
    let aead = lists.encryption.iter().any(|e| e.is_aead());

    let most = match protocol {
        Protocol::Ike => 2,
        Protocol::Esp | Protocol::Ah => 1,
    };
    let mut hashes = Vec::new();
    while hashes.len() < most
        && let Some(part) = parts.next_if(|part| is_hash(*part))
    {
        hashes.push(part);
    }
    match (protocol, hashes.as_slice()) {
        (_, []) => {}
        (Protocol::Ike, [prf]) if aead && !is_only_integrity(*prf) => {
            each(*prf, |token| lists.prf(token))?;
        }
        (Protocol::Ike, [integrity, prf]) if is_only_integrity(*integrity) => {
            each(*integrity, |token| lists.integrity(token))?;
            each(*prf, |token| lists.prf(token))?;
        }
        (Protocol::Ike, [prf, integrity]) => {
            each(*prf, |token| lists.prf(token))?;
            each(*integrity, |token| lists.integrity(token))?;
        }
        // One hash is both: the integrity algorithm, and the PRF on the same hash.
        (_, [integrity, ..]) => each(*integrity, |token| lists.integrity(token))?,
    }
    let Some(part) = parts.next() else {
        return Ok(());
    };
    if part.text.is_empty() {
        return Err(part.error(NameErrorKind::Missing("algorithm")));
    }
    if protocol == Protocol::Esp && is_hash(part) && !is_key_exchange(part) {
        return Err(part.error(NameErrorKind::NotAllowed("ESP takes no PRF")));
    }
    if protocol == Protocol::Ah && hashes.is_empty() {
        return each(part, |token| lists.integrity(token));
    }
    if is_key_exchange(part) || !hashes.is_empty() {
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
        && is_number(length.text)
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
    let name = normal(kind.text);
    if let Some(index) = name.strip_prefix("addke").and_then(additional::index) {
        return each(value, |token| lists.additional(index, token));
    }
    match (name.as_str(), protocol) {
        ("encrypt" | "encr", Protocol::Ah) => {
            Err(kind.error(NameErrorKind::NotAllowed("AH does not encrypt")))
        }
        ("encrypt" | "encr", _) => each(value, |token| lists.cipher(token)),
        ("prf", Protocol::Ike) => each(value, |token| lists.prf(token)),
        ("prf", _) => Err(kind.error(NameErrorKind::NotAllowed("only IKE takes a PRF"))),
        ("integ", _) => each(value, |token| lists.integrity(token)),
        ("ke" | "dh", _) => each(value, |token| lists.key_exchange(token)),
        ("sn" | "esn", Protocol::Esp | Protocol::Ah) => {
            each(value, |token| lists.sequence_numbers(token))
        }
        ("sn" | "esn", Protocol::Ike) => Err(kind.error(NameErrorKind::NotAllowed(
            "IKE takes no kind of sequence numbers",
        ))),
        _ => Err(NameError::unknown(
            "type of algorithm",
            kind.text,
            kind.offset,
            TYPES.iter().copied(),
        )),
    }
}

pub(super) fn parse_ike(text: &str) -> Result<Vec<IkeProposal>, NameError> {
    let mut proposals = Vec::new();
    for one in (Token { text, offset: 0 }).split(',') {
        let mut lists = parse_one(one, Protocol::Ike)?;
        if !lists.encryption.iter().all(|e| e.is_for_ike()) {
            return Err(one.error(NameErrorKind::NotAllowed(ESP_ONLY)));
        }
        if lists.no_key_exchange && lists.key_exchange.is_empty() {
            return Err(one.error(NameErrorKind::NotAllowed("IKE needs a key exchange")));
        }
        let aead = lists.encryption.iter().any(|e| e.is_aead());
        // What is left out follows from what is there.
        if lists.prf.is_empty() {
            lists.prf = lists.integrity.iter().map(|i| i.matching_prf()).collect();
        }
        if lists.prf.is_empty() {
            lists.prf = Prf::DEFAULT.to_vec();
        }
        if lists.integrity.is_empty() && !aead {
            lists.integrity = lists.prf.iter().map(|p| p.matching_integrity()).collect();
        }
        if lists.key_exchange.is_empty() {
            lists.key_exchange = KeyExchange::DEFAULT.to_vec();
        }
        push_unique(
            &mut proposals,
            IkeProposal {
                encryption: lists.encryption,
                integrity: lists.integrity,
                prf: lists.prf,
                key_exchange: lists.key_exchange,
                additional: lists.additional,
            },
        );
    }
    Ok(proposals)
}

pub(super) fn parse_esp(text: &str) -> Result<Vec<EspProposal>, NameError> {
    parse_child(text, Protocol::Esp)
}

pub(super) fn parse_ah(text: &str) -> Result<Vec<EspProposal>, NameError> {
    parse_child(text, Protocol::Ah)
}

fn parse_child(text: &str, protocol: Protocol) -> Result<Vec<EspProposal>, NameError> {
    let mut proposals = Vec::new();
    for one in (Token { text, offset: 0 }).split(',') {
        let mut lists = parse_one(one, protocol)?;
        let aead = lists.encryption.iter().any(|e| e.is_aead());
        if lists.integrity.is_empty() && !aead {
            lists.integrity = Integrity::DEFAULT.to_vec();
        }
        if lists.key_exchange.is_empty() && additional::any(&lists.additional) {
            return Err(one.error(NameErrorKind::NotAllowed(ADDITIONAL_ALONE)));
        }
        if lists.esn.is_empty() {
            lists.esn = vec![true, false];
        }
        push_unique(
            &mut proposals,
            EspProposal {
                encryption: lists.encryption,
                integrity: lists.integrity,
                key_exchange: lists.key_exchange,
                additional: lists.additional,
                esn: lists.esn,
            },
        );
    }
    Ok(proposals)
}
