//! ipsec.secrets as entries of words.

use std::ops::Range;

use crate::diagnostic::nearest;

/// A word of the file, borrowed so that secrets are not copied around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// Without quotation marks.
    pub(super) text: &'a str,
    start: usize,
    pub(super) quoted: bool,
    flaw: Option<Flaw>,
}

/// What is wrong with the form of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("the quotation mark is not closed")]
    Open,
    #[error("a blank is missing in front of this")]
    Glued,
}

impl Token<'_> {
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    fn is_bare(&self, word: &str) -> bool {
        !self.quoted && self.text.eq_ignore_ascii_case(word)
    }
}

/// An entry by its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// `include pattern`
    Include { tokens: Vec<Token<'a>> },
    /// `whom … : kind secret`
    Secret {
        indices: Vec<Token<'a>>,
        separator: Token<'a>,
        rest: Vec<Token<'a>>,
    },
    /// No colon.
    NoSeparator(Vec<Token<'a>>),
    /// A line that starts with a blank below no entry.
    Indented(Token<'a>),
}

impl<'a> Entry<'a> {
    fn tokens(&self) -> Box<dyn Iterator<Item = &Token<'a>> + '_> {
        match self {
            Self::Include { tokens } | Self::NoSeparator(tokens) => Box::new(tokens.iter()),
            Self::Secret {
                indices,
                separator,
                rest,
            } => Box::new(indices.iter().chain(std::iter::once(separator)).chain(rest)),
            Self::Indented(token) => Box::new(std::iter::once(token)),
        }
    }

    /// The first word whose form is wrong.
    pub(super) fn flaw(&self) -> Option<(&Token<'a>, Flaw)> {
        self.tokens().find_map(|t| Some((t, t.flaw?)))
    }

    /// The words that cannot be secret.
    fn shown(&self) -> Vec<Range<usize>> {
        // Anything near a quotation mark may be a secret that was quoted wrongly.
        let bare = |t: &&Token<'_>| !t.quoted && t.flaw.is_none() && !t.text.contains(['"', '\'']);
        let named = |t: &&Token<'_>| {
            bare(t)
                && (t.text.starts_with(['@', '%']) || t.text.parse::<std::net::IpAddr>().is_ok())
        };
        match self {
            Self::Include { tokens } => tokens.iter().map(Token::range).collect(),
            // Without a colon nobody knows where the secret starts.
            Self::NoSeparator(tokens) => tokens.iter().filter(named).map(Token::range).collect(),
            Self::Secret {
                indices,
                separator,
                rest,
            } => {
                let kind = rest.first().filter(|t| {
                    let word = t.text.to_ascii_uppercase();
                    !t.quoted
                        && nearest(&word, super::KINDS.iter().map(|(name, _)| *name)).is_some()
                });
                // A kind in front of the colon: things are out of order, and what follows it may be the secret.
                let in_order = !indices.iter().any(|t| super::find_kind(t.text).is_some());
                let plain =
                    |t: &&Token<'_>| in_order && bare(t) && !super::decode::has_prefix(t.text);
                let indices = indices.iter().filter(|t| named(t) || plain(t));
                indices
                    .chain(std::iter::once(separator))
                    .chain(kind)
                    .map(Token::range)
                    .collect()
            }
            Self::Indented(_) => Vec::new(),
        }
    }
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// The words of a line that starts at `base`.
fn tokens<'a>(line: &'a str, base: usize, out: &mut Vec<Token<'a>>) {
    let mut at = 0;
    let mut behind_quote = false;
    while let Some(rest) = line.get(at..) {
        let body = rest.trim_start_matches(is_blank);
        let blanks = rest.len() - body.len();
        at += blanks;
        let glued = (behind_quote && blanks == 0).then_some(Flaw::Glued);
        let Some(first) = body.chars().next() else {
            return;
        };
        match first {
            '#' => return,
            '"' | '\'' => {
                let inner = body.get(1..).unwrap_or_default();
                let end = inner.find(first);
                let text = inner.get(..end.unwrap_or(inner.len())).unwrap_or_default();
                let flaw = if end.is_none() {
                    Some(Flaw::Open)
                } else {
                    glued
                };
                out.push(Token {
                    text,
                    start: base + at + 1,
                    quoted: true,
                    flaw,
                });
                at += text.len() + 2;
                behind_quote = true;
            }
            _ => {
                let text = body
                    .get(..body.find(is_blank).unwrap_or(body.len()))
                    .unwrap_or_default();
                out.push(Token {
                    text,
                    start: base + at,
                    quoted: false,
                    flaw: glued,
                });
                at += text.len();
                behind_quote = false;
            }
        }
    }
}

/// All entries of a file.
pub(super) fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut out = Vec::new();
    let mut pending: Option<Vec<Token<'_>>> = None;
    let mut at = 0;
    for raw in text.split_inclusive('\n') {
        let line = raw.strip_suffix('\n').unwrap_or(raw);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let mut words = Vec::new();
        tokens(line, at, &mut words);
        at += raw.len();
        let Some(first) = words.first() else { continue };
        match (line.starts_with(is_blank), &mut pending) {
            (true, Some(entry)) => entry.append(&mut words),
            (true, None) => out.push(Entry::Indented(*first)),
            (false, _) => {
                out.extend(pending.replace(words).map(classify));
            }
        }
    }
    out.extend(pending.map(classify));
    out
}

fn classify(tokens: Vec<Token<'_>>) -> Entry<'_> {
    if tokens.first().is_some_and(|t| t.is_bare("include")) {
        return Entry::Include { tokens };
    }
    for (i, token) in tokens.iter().enumerate() {
        if token.quoted {
            continue;
        }
        let is_address = token.text.parse::<std::net::IpAddr>().is_ok();
        let before = |n: usize| tokens.iter().take(n).copied();
        let after = tokens.iter().skip(i + 1).copied();
        if token.text == ":" {
            return Entry::Secret {
                indices: before(i).collect(),
                separator: *token,
                rest: after.collect(),
            };
        }
        // `@west @east: PSK …`
        if let Some(index) = token.text.strip_suffix(':')
            && !is_address
        {
            let index_token = Token {
                text: index,
                ..*token
            };
            let separator = Token {
                text: ":",
                start: token.start + index.len(),
                ..*token
            };
            let indices = before(i).chain(std::iter::once(index_token)).collect();
            return Entry::Secret {
                indices,
                separator,
                rest: after.collect(),
            };
        }
        // `:PSK …`
        if let Some(kind) = token.text.strip_prefix(':')
            && super::find_kind(kind).is_some()
        {
            let separator = Token {
                text: ":",
                ..*token
            };
            let kind = Token {
                text: kind,
                start: token.start + 1,
                ..*token
            };
            let rest = std::iter::once(kind).chain(after).collect();
            return Entry::Secret {
                indices: before(i).collect(),
                separator,
                rest,
            };
        }
    }
    Entry::NoSeparator(tokens)
}

/// The text as it may be shown: of the same shape, with stars for all but what cannot be secret.
pub(super) fn masked(text: &str, entries: &[Entry<'_>]) -> String {
    let shown = entries.iter().flat_map(Entry::shown);
    let mut out = String::with_capacity(text.len());
    let hide = |out: &mut String, hidden: &str| {
        for c in hidden.chars() {
            // One star per octet keeps every place where it was.
            if c.is_ascii_whitespace() {
                out.push(c)
            } else {
                out.extend(std::iter::repeat_n('*', c.len_utf8()))
            }
        }
    };
    let mut at = 0;
    for range in shown {
        let (Some(hidden), Some(word)) = (text.get(at..range.start), text.get(range.clone()))
        else {
            continue;
        };
        hide(&mut out, hidden);
        out.push_str(word);
        at = range.end;
    }
    hide(&mut out, text.get(at..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        masked(text, &entries(text))
    }

    #[test]
    fn only_what_cannot_be_secret_is_shown() {
        for (text, shown) in [
            (
                "@a @b : PSK \"geheim\" # alt: x\n",
                "@a @b : PSK ******** * **** *\n",
            ),
            ("@a @b: PSK\n\t0sAAAA\n", "@a @b: PSK\n\t******\n"),
            (": geheim\n", ": ******\n"),
            (": PKS \"geheim\"\n", ": PKS ********\n"),
            ("@a geheim 192.0.2.1\n", "@a ****** 192.0.2.1\n"),
            ("@a : PSK \"geheim\n", "@a : PSK *******\n"),
            ("# @a : PSK \"x\"\n\n", "* ** * *** ***\n\n"),
            ("include /etc/*.secrets\n", "include /etc/*.secrets\n"),
            ("@a : PSK \"ü\"", "@a : PSK ****"),
            ("  : PSK x\n", "  * *** *\n"),
            ("@a PSK \"geheim\" : @b\n", "@a *** ******** : **\n"),
            (
                "@a gw.example \"C=x\" 0x12 : PSK y\n",
                "@a gw.example ***** **** : PSK *\n",
            ),
        ] {
            assert_eq!(show(text), shown);
            assert_eq!(text.len(), shown.len());
        }
    }

    #[test]
    fn colons_of_addresses_separate_nothing() {
        let of = |text| match entries(text).into_iter().next() {
            Some(Entry::Secret { indices, .. }) => {
                indices.iter().map(|t| t.text).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(
            of("2001:db8:: 2001:db8::1: PSK \"x\""),
            ["2001:db8::", "2001:db8::1"]
        );
        assert_eq!(of("::1 :PSK \"x\""), ["::1"]);
        assert_eq!(of("\"@a :\" : PSK \"x\""), ["@a :"]);
    }

    #[test]
    fn entries_go_on_in_indented_lines() {
        let text = "@a\n  @b :\n\n# between\n\tPSK 'x' # end\n@c : PSK \"y\"\n";
        let got = entries(text);
        assert_eq!(got.len(), 2);
        assert!(
            matches!(&got[0], Entry::Secret { indices, rest, .. } if indices.len() == 2 && rest.len() == 2)
        );
    }
}
