//! The lines of ipsec.conf.
//!
//! A line that starts in the first column is `config setup`, `conn NAME`,
//! `include PATTERN` or `version …`; one that starts with a blank belongs to
//! the section above it and is `key = value`. A value is the rest of the line,
//! or stands in `"…"` or `{…}`; `#` starts a comment at the start of a line or
//! behind a blank. Lines are not continued.

use std::ops::Range;

/// A stretch of text with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) range: Range<usize>,
}

/// One line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// `config setup`
    ConfigSetup(Range<usize>),
    /// `conn NAME`
    Conn(Word),
    /// `include PATTERN`
    Include(Word),
    /// `key = value` in a section.
    Assignment { key: Word, value: Word },
}

/// A line that is none of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    #[error("this is not the start of a section")]
    UnknownStart(Word),
    #[error("a connection needs a name")]
    MissingName(Range<usize>),
    #[error("only `config setup` can follow `config`")]
    NotSetup(Range<usize>),
    #[error("`include` needs a file name")]
    MissingPattern(Range<usize>),
    #[error("`=` and a value are missing")]
    MissingEquals(Word),
    #[error("the keyword is missing")]
    MissingKey(Range<usize>),
    #[error("the quotation mark is not closed")]
    OpenQuote(Range<usize>),
    #[error("the brace is not closed")]
    OpenBrace(Range<usize>),
    #[error("unexpected text behind the value")]
    Trailing(Range<usize>),
}

impl LineError {
    pub(crate) fn range(&self) -> Range<usize> {
        match self {
            Self::UnknownStart(w) | Self::MissingEquals(w) => w.range.clone(),
            Self::MissingName(r)
            | Self::NotSetup(r)
            | Self::MissingPattern(r)
            | Self::MissingKey(r)
            | Self::OpenQuote(r)
            | Self::OpenBrace(r)
            | Self::Trailing(r) => r.clone(),
        }
    }
}

/// The words that can start a line in the first column.
pub(crate) const STARTS: [&str; 4] = ["config", "conn", "include", "version"];

/// All lines of a file that are neither empty nor a comment.
pub(crate) fn lines(text: &str) -> Vec<Result<Line, LineError>> {
    let mut out = Vec::new();
    let mut at = 0;
    for raw in text.split_inclusive('\n') {
        let line = raw.strip_suffix('\n').unwrap_or(raw);
        let line = line.strip_suffix('\r').unwrap_or(line);
        match parse(line, at) {
            Ok(Some(parsed)) => out.push(Ok(parsed)),
            Ok(None) => {}
            Err(error) => out.push(Err(error)),
        }
        at += raw.len();
    }
    out
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// The word at the start of `text`, up to a blank, and what follows it without leading blanks.
fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(is_blank).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_start_matches(is_blank))
}

fn parse(line: &str, base: usize) -> Result<Option<Line>, LineError> {
    let body = line.trim_start_matches(is_blank);
    let indented = body.len() < line.len();
    if body.is_empty() || body.starts_with('#') {
        return Ok(None);
    }
    let start = base + (line.len() - body.len());
    if indented {
        assignment(body, start).map(Some)
    } else {
        section(body, start)
    }
}

fn section(body: &str, start: usize) -> Result<Option<Line>, LineError> {
    let (word, rest) = split_word(body);
    let whole = start..start + word.len();
    let rest_start = start + (body.len() - rest.len());
    let argument = uncomment(rest);
    match word {
        "version" => Ok(None),
        "config" if argument == "setup" => Ok(Some(Line::ConfigSetup(whole))),
        "config" => Err(LineError::NotSetup(whole)),
        "conn" if argument.is_empty() => Err(LineError::MissingName(whole)),
        "conn" => {
            let (name, trailing) = split_word(argument);
            if !trailing.is_empty() {
                let at = rest_start + (argument.len() - trailing.len());
                return Err(LineError::Trailing(at..at + trailing.len()));
            }
            let range = rest_start..rest_start + name.len();
            Ok(Some(Line::Conn(Word {
                text: name.to_owned(),
                range,
            })))
        }
        "include" if argument.is_empty() => Err(LineError::MissingPattern(whole)),
        "include" => value(rest, rest_start).map(|pattern| Some(Line::Include(pattern))),
        _ => Err(LineError::UnknownStart(Word {
            text: word.to_owned(),
            range: whole,
        })),
    }
}

/// A bare text without the comment behind it.
fn uncomment(text: &str) -> &str {
    let comment = text.char_indices().find(|(i, c)| {
        *c == '#' && (*i == 0 || text.get(..*i).is_some_and(|t| t.ends_with(is_blank)))
    });
    comment
        .map_or(text, |(i, _)| text.get(..i).unwrap_or(text))
        .trim_end_matches(is_blank)
}

fn assignment(body: &str, start: usize) -> Result<Line, LineError> {
    let end = body.find(|c| c == '=' || is_blank(c)).unwrap_or(body.len());
    let (key, rest) = body.split_at(end);
    let key_word = Word {
        text: key.to_owned(),
        range: start..start + key.len(),
    };
    let after = rest.trim_start_matches(is_blank);
    let Some(after) = after.strip_prefix('=') else {
        return Err(LineError::MissingEquals(key_word));
    };
    if key.is_empty() {
        return Err(LineError::MissingKey(start..start + 1));
    }
    let after = after.trim_start_matches(is_blank);
    let value = value(after, start + (body.len() - after.len()))?;
    Ok(Line::Assignment {
        key: key_word,
        value,
    })
}

/// A value: quoted, in braces, or bare.
fn value(text: &str, start: usize) -> Result<Word, LineError> {
    let closed = |close: char, error: fn(Range<usize>) -> LineError| {
        let inner = text.get(1..).unwrap_or_default();
        let end = inner
            .find(close)
            .ok_or_else(|| error(start..start + text.len()))?;
        let (inside, rest) = inner.split_at(end);
        let rest = rest.get(1..).unwrap_or_default();
        let trailing = uncomment(rest.trim_start_matches(is_blank));
        if !trailing.is_empty() {
            let at = start + text.len() - rest.trim_start_matches(is_blank).len();
            return Err(LineError::Trailing(at..at + trailing.len()));
        }
        Ok(Word {
            text: inside.to_owned(),
            range: start + 1..start + 1 + inside.len(),
        })
    };
    match text.chars().next() {
        Some('"') => closed('"', LineError::OpenQuote),
        Some('{') => {
            let word = closed('}', LineError::OpenBrace)?;
            let inner = word.text.trim_matches(is_blank);
            let lead = word.text.len() - word.text.trim_start_matches(is_blank).len();
            let from = word.range.start + lead;
            Ok(Word {
                text: inner.to_owned(),
                range: from..from + inner.len(),
            })
        }
        _ => {
            let bare = uncomment(text);
            Ok(Word {
                text: bare.to_owned(),
                range: start..start + bare.len(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignments(text: &str) -> Vec<(String, String)> {
        lines(text)
            .into_iter()
            .map(|l| match l {
                Ok(Line::Assignment { key, value }) => (key.text, value.text),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn values_are_bare_quoted_or_in_braces() {
        let text =
            "\ta=b\n  c = d # why\n x=\"e # f\"\n y={ 10.0.0.0/8 10.1.0.0/16 }\n z=0#1\n w=\n";
        let expected = [
            ("a", "b"),
            ("c", "d"),
            ("x", "e # f"),
            ("y", "10.0.0.0/8 10.1.0.0/16"),
            ("z", "0#1"),
            ("w", ""),
        ];
        assert_eq!(
            assignments(text),
            expected.map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
    }

    #[test]
    fn ranges_point_at_what_they_name() {
        let text = "conn a\n\tleft = \"192.0.2.1\"\n\tright={ x }\r\n";
        for line in lines(text) {
            match line.expect("all lines are right") {
                Line::Assignment { key, value } => {
                    assert_eq!(&text[key.range], key.text);
                    assert_eq!(&text[value.range], value.text);
                }
                Line::Conn(name) => assert_eq!(&text[name.range], "a"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        let message = |text: &str| match lines(text).into_iter().next() {
            Some(Err(e)) => e.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(message("con a\n"), "this is not the start of a section");
        assert_eq!(message("conn\n"), "a connection needs a name");
        assert_eq!(message("conn a b\n"), "unexpected text behind the value");
        assert_eq!(
            message("config set\n"),
            "only `config setup` can follow `config`"
        );
        assert_eq!(message("include # x\n"), "`include` needs a file name");
        assert_eq!(message("\tleft\n"), "`=` and a value are missing");
        assert_eq!(message("\t=x\n"), "the keyword is missing");
        assert_eq!(message("\tid=\"x\n"), "the quotation mark is not closed");
        assert_eq!(message("\tid={x\n"), "the brace is not closed");
        assert_eq!(
            message("\tid=\"x\" y\n"),
            "unexpected text behind the value"
        );
    }

    #[test]
    fn comments_and_versions_say_nothing() {
        assert!(lines("# a\n\n  # b\nversion 2.0\n\t\n").is_empty());
    }
}
