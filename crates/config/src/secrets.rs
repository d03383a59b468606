//! ipsec.secrets: who shares which secret with whom.
//!
//! An entry starts in the first column and goes on in lines that start with a
//! blank: `[whom …] : PSK "text"`. Excerpts in diagnostics go to logs, so they
//! show the names of an entry and stars for everything else, and no message
//! repeats a word that might be the secret.

mod decode;
mod entries;

use std::path::Path;

use cygnet_crypto::SecretBytes;
use cygnet_engine::{Origin, SecretEntry, SecretKind, SecretOwner, Secrets};
use zeroize::Zeroizing;

use crate::Loader;
use crate::address::{identity, is_unspecified_v6};
use crate::diagnostic::{Diagnostics, Source, did_you_mean};
use crate::document::{Files, reason};
use crate::lexer::Word;
use entries::{Entry, Flaw, Token, entries, masked};

/// What can stand behind the colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Psk,
    Ppk,
    Xauth,
    /// Private keys: since libreswan 4.0 they live elsewhere.
    PrivateKey,
    /// Words of strongSwan's.
    Foreign,
}

const KINDS: [(&str, Kind); 13] = [
    ("PSK", Kind::Psk),
    ("PPKS", Kind::Ppk),
    ("XAUTH", Kind::Xauth),
    ("RSA", Kind::PrivateKey),
    ("ECDSA", Kind::PrivateKey),
    ("PPK_STATIC", Kind::Foreign),
    ("EAP", Kind::Foreign),
    ("NTLM", Kind::Foreign),
    ("PIN", Kind::Foreign),
    ("P12", Kind::Foreign),
    ("PKCS8", Kind::Foreign),
    ("PKCS12", Kind::Foreign),
    ("PPK", Kind::Foreign),
];

fn find_kind(word: &str) -> Option<(&'static str, Kind)> {
    KINDS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))
        .copied()
}

/// What is wrong with an entry, and at which of its words.
struct EntryError<'a> {
    message: String,
    help: Option<String>,
    at: Token<'a>,
}

impl<'a> EntryError<'a> {
    fn new(message: impl Into<String>, at: Token<'a>) -> Self {
        Self {
            message: message.into(),
            help: None,
            at,
        }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }
}

/// Reads a file of secrets and all that it includes.
pub(crate) fn read(
    path: &Path,
    needed: bool,
    loader: &dyn Loader,
    diagnostics: &mut Diagnostics,
) -> Secrets {
    let mut reader = Reader {
        files: Files::new(loader),
        diagnostics,
        secrets: Secrets::default(),
    };
    match reader.files.read(path).map(Zeroizing::new) {
        Ok(bytes) => reader.file(path, &bytes, 0),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if needed {
                reader
                    .diagnostics
                    .file_warning(path, "no such file, so there are no secrets");
            }
        }
        Err(error) => reader.diagnostics.file_error(path, &reason(&error)),
    }
    reader.secrets
}

struct Reader<'a, 'd> {
    files: Files<'a>,
    diagnostics: &'d mut Diagnostics,
    secrets: Secrets,
}

impl Reader<'_, '_> {
    fn file(&mut self, path: &Path, bytes: &[u8], depth: usize) {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => {
                self.diagnostics.file_error(path, "not UTF-8 text");
                return;
            }
        };
        let entries = entries(text);
        let source = Source::new(path, &masked(text, &entries));
        self.diagnostics.add_source(&source);
        for entry in &entries {
            if let Some((token, flaw)) = entry.flaw() {
                let help =
                    (flaw == Flaw::Open).then(|| "a quoted text ends on its line".to_owned());
                self.diagnostics
                    .error(&source.span(token.range()), flaw.to_string(), help);
                continue;
            }
            let result = match entry {
                Entry::Include { tokens, .. } => self.include(tokens, &source, depth),
                Entry::Secret {
                    indices,
                    separator,
                    rest,
                } => self.entry(indices, *separator, rest, &source),
                Entry::Indented(token) => Err(EntryError::new("this continues no entry", *token)
                    .help("an entry starts in the first column")),
                Entry::NoSeparator(tokens) => match tokens.first() {
                    Some(first) => Err(EntryError::new(
                        "the colon in front of the secret is missing",
                        *first,
                    )
                    .help("an entry reads: @west @east : PSK \"secret\"")),
                    None => Ok(()),
                },
            };
            if let Err(error) = result {
                self.diagnostics
                    .error(&source.span(error.at.range()), error.message, error.help);
            }
        }
    }

    fn include<'a>(
        &mut self,
        tokens: &[Token<'a>],
        source: &Source,
        depth: usize,
    ) -> Result<(), EntryError<'a>> {
        let [word, pattern] = tokens else {
            return match tokens {
                [word] => Err(EntryError::new("`include` needs a file name", *word)),
                [_, _, extra, ..] => Err(EntryError::new(
                    "unexpected text behind the file name",
                    *extra,
                )),
                _ => Ok(()),
            };
        };
        if pattern.text.is_empty() {
            return Err(EntryError::new("`include` needs a file name", *word));
        }
        let pattern = Word {
            text: pattern.text.to_owned(),
            range: pattern.range(),
        };
        let files = self
            .files
            .include(self.diagnostics, source, &pattern, depth);
        for (path, bytes) in files
            .into_iter()
            .map(|(path, bytes)| (path, Zeroizing::new(bytes)))
        {
            self.file(&path, &bytes, depth + 1);
        }
        Ok(())
    }

    fn entry<'a>(
        &mut self,
        indices: &[Token<'a>],
        separator: Token<'a>,
        rest: &[Token<'a>],
        source: &Source,
    ) -> Result<(), EntryError<'a>> {
        let owners = || indices.iter().map(owner).collect::<Result<Vec<_>, _>>();
        let Some((first, rest)) = rest.split_first() else {
            return Err(EntryError::new("the secret is missing", separator));
        };
        let entry = |owners, kind, secret, at: &Token<'a>| SecretEntry {
            owners,
            kind,
            name: Vec::new(),
            secret,
            origin: Origin::File(source.span(at.range())),
        };
        if first.quoted {
            // The old form without a word.
            let secret = value(std::slice::from_ref(first), separator)?;
            self.secrets
                .entries
                .push(entry(owners()?, SecretKind::Psk, secret, first));
            return Ok(());
        }
        let Some((name, kind)) = find_kind(first.text) else {
            let near = did_you_mean(
                &first.text.to_ascii_uppercase(),
                KINDS.iter().map(|(name, _)| *name),
            );
            return Err(EntryError::new("this is not a kind of secret", *first)
                .help(near.unwrap_or_else(|| "it can be `PSK`, `PPKS` or `XAUTH`".to_owned())));
        };
        let warn = |diagnostics: &mut Diagnostics, message: String| {
            diagnostics.warning(&source.span(first.range()), message, None);
        };
        match kind {
            Kind::Psk => {
                let secret = value(rest, *first)?;
                self.secrets
                    .entries
                    .push(entry(owners()?, SecretKind::Psk, secret, first));
            }
            Kind::Xauth => {
                let secret = value(rest, *first)?;
                self.secrets
                    .entries
                    .push(entry(owners()?, SecretKind::Xauth, secret, first));
                warn(self.diagnostics, "passwords have no effect yet".to_owned());
            }
            Kind::Ppk => {
                let Some((name, secret)) = rest.split_first() else {
                    return Err(EntryError::new("the name of the key is missing", *first));
                };
                if name.text.is_empty() {
                    return Err(EntryError::new("the name of the key is empty", *name));
                }
                let secret = value(secret, *name)?;
                self.secrets.entries.push(SecretEntry {
                    name: name.text.as_bytes().to_vec(),
                    ..entry(owners()?, SecretKind::Ppk, secret, first)
                });
            }
            Kind::PrivateKey => warn(
                self.diagnostics,
                format!("{name} keys are not read from here: ignored"),
            ),
            Kind::Foreign => {
                return Err(EntryError::new(
                    format!("`{name}` is not supported"),
                    *first,
                ));
            }
        }
        Ok(())
    }
}

/// One word in front of the colon.
fn owner<'a>(token: &Token<'a>) -> Result<SecretOwner, EntryError<'a>> {
    if token.text.eq_ignore_ascii_case("%any") || token.text == "0.0.0.0" {
        return Ok(SecretOwner::AnyV4);
    }
    if token.text.eq_ignore_ascii_case("%any6") || is_unspecified_v6(token.text) {
        return Ok(SecretOwner::AnyV6);
    }
    identity(token.text)
        .map(SecretOwner::Id)
        .map_err(|error| EntryError {
            message: error.message,
            help: error.help.or_else(|| {
                Some(
                    "in front of the colon stand addresses, @names, user@name, `%any` or `%any6`"
                        .to_owned(),
                )
            }),
            at: *token,
        })
}

/// The secret itself: one word.
fn value<'a>(tokens: &[Token<'a>], before: Token<'a>) -> Result<SecretBytes, EntryError<'a>> {
    let (token, extra) = tokens
        .split_first()
        .ok_or_else(|| EntryError::new("the secret is missing", before))?;
    if let Some(extra) = extra.first() {
        return Err(EntryError::new("unexpected text behind the secret", *extra));
    }
    let secret = if token.quoted {
        SecretBytes::copy_from(token.text.as_bytes())
    } else {
        decode::secret(token.text).map_err(|error| EntryError::new(error.to_string(), *token))?
    };
    if secret.is_empty() {
        Err(EntryError::new("the secret is empty", *token))
    } else {
        Ok(secret)
    }
}
