//! What is wrong with a configuration, shown where it is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use cygnet_engine::FileSpan;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is loaded all the same.
    Warning,
    /// Nothing is loaded.
    Error,
}

/// One thing worth saying about a place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, without the place.
    pub message: String,
    /// What would help, if anything is known that would.
    pub help: Option<String>,
    /// Where it is; `None` for a whole file that could not be read.
    pub span: Option<FileSpan>,
    rendered: String,
}

/// The message with file, line, column and the marked line.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}

/// Everything that is wrong with a configuration, in the order of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The errors, and the warnings that came with them.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.diagnostics.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            writeln!(f, "{d}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// More errors, or more warnings, than this tell nobody anything new.
const MAX_DIAGNOSTICS: usize = 100;

/// A file that was read. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: Arc<PathBuf>,
    pub(crate) text: Arc<str>,
    /// Where each line starts. Counting anew for every place would take the square of the file's length.
    line_starts: Arc<[usize]>,
}

impl Source {
    pub(crate) fn new(path: &Path, text: &str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            path: Arc::new(path.to_owned()),
            text: text.into(),
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
        }
    }

    /// Line and column of a stretch of the file.
    pub(crate) fn span(&self, range: Range<usize>) -> FileSpan {
        let line = self
            .line_starts
            .partition_point(|start| *start <= range.start);
        let line_start = line
            .checked_sub(1)
            .and_then(|i| self.line_starts.get(i))
            .copied()
            .unwrap_or_default();
        let column = self
            .text
            .get(line_start..range.start)
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        FileSpan {
            file: self.path.clone(),
            line: number(line),
            column: number(column),
            start: range.start,
            end: range.end,
        }
    }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Collects what is to be said.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    sources: BTreeMap<PathBuf, Text>,
    list: Vec<Diagnostic>,
    /// What was said where: a default or a section that several connections take over is wrong only once.
    said: BTreeMap<(PathBuf, usize, usize, String), Severity>,
    errors: usize,
}

/// The text of a file and when it was opened.
#[derive(Debug)]
struct Text {
    order: usize,
    text: Arc<str>,
}

impl Diagnostics {
    /// Takes a file in, if it is text.
    pub(crate) fn open(&mut self, path: &Path, bytes: &[u8]) -> Option<Source> {
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                let source = Source::new(path, text);
                self.add_source(&source);
                Some(source)
            }
            Err(error) => {
                let line = bytes
                    .get(..error.valid_up_to())
                    .unwrap_or_default()
                    .split(|b| *b == b'\n')
                    .count();
                self.file_error(path, &format!("line {line} is not UTF-8 text"));
                None
            }
        }
    }

    /// Remembers a file's text for excerpts.
    pub(crate) fn add_source(&mut self, source: &Source) {
        let order = self.sources.len();
        self.sources
            .entry(source.path.as_ref().clone())
            .or_insert_with(|| Text {
                order,
                text: source.text.clone(),
            });
    }

    pub(crate) fn error(
        &mut self,
        span: &FileSpan,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.say(Severity::Error, Some(span), message.into(), help);
    }

    pub(crate) fn warning(
        &mut self,
        span: &FileSpan,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.say(Severity::Warning, Some(span), message.into(), help);
    }

    /// A file as a whole.
    pub(crate) fn file_error(&mut self, path: &Path, message: &str) {
        self.say(
            Severity::Error,
            None,
            format!("{}: {message}", path.display()),
            None,
        );
    }

    /// A file as a whole.
    pub(crate) fn file_warning(&mut self, path: &Path, message: &str) {
        self.say(
            Severity::Warning,
            None,
            format!("{}: {message}", path.display()),
            None,
        );
    }

    fn say(
        &mut self,
        severity: Severity,
        span: Option<&FileSpan>,
        message: String,
        help: Option<String>,
    ) {
        if let Some(span) = span {
            let key = (
                span.file.as_ref().clone(),
                span.start,
                span.end,
                message.clone(),
            );
            match self.said.get(&key) {
                Some(said) if *said >= severity => return,
                // What was only worth a warning so far.
                Some(_) => self
                    .list
                    .retain(|d| d.span.as_ref() != Some(span) || d.message != message),
                None => {}
            }
            self.said.insert(key, severity);
        }
        self.errors += usize::from(severity == Severity::Error);
        if self.list.iter().filter(|d| d.severity == severity).count() >= MAX_DIAGNOSTICS {
            return;
        }
        let rendered = self.render(severity, span, &message, help.as_deref());
        self.list.push(Diagnostic {
            severity,
            message,
            help,
            span: span.cloned(),
            rendered,
        });
    }

    fn render(
        &self,
        severity: Severity,
        span: Option<&FileSpan>,
        message: &str,
        help: Option<&str>,
    ) -> String {
        let level = match severity {
            Severity::Warning => Level::WARNING,
            Severity::Error => Level::ERROR,
        };
        let title = level.primary_title(message);
        let text = span.and_then(|s| Some((s, &self.sources.get(s.file.as_path())?.text)));
        let group = match &text {
            None => title.elements(help.map(|h| Level::HELP.message(h))),
            Some((span, text)) => {
                let path = span.file.display().to_string();
                let start = span.start.min(text.len());
                let end = span.end.clamp(start, text.len());
                let snippet = Snippet::source(text.as_ref())
                    .path(path)
                    .annotation(AnnotationKind::Primary.span(start..end));
                let group = title.element(snippet);
                match help {
                    Some(help) => group.element(Level::HELP.message(help)),
                    None => group,
                }
            }
        };
        Renderer::plain().render(&[group]).to_string()
    }

    /// The warnings, or everything if there was an error.
    pub(crate) fn finish(mut self) -> Result<Vec<Diagnostic>, Report> {
        let place = |d: &Diagnostic| {
            d.span
                .as_ref()
                .map(|s| (self.sources.get(s.file.as_path()).map(|t| t.order), s.start))
        };
        self.list.sort_by_key(place);
        if self.errors == 0 {
            Ok(self.list)
        } else {
            Err(Report {
                diagnostics: self.list,
            })
        }
    }
}

/// The nearest of `known` to a misspelt word, if it is near.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Long nonsense is near nothing, and distances cost the product of the lengths.
    if word.len() > 64 {
        return None;
    }
    let limit = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// "did you mean" for help lines.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(word, known).map(|k| format!("did you mean `{k}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["leftsubnet", "rightsubnet", "auto"];
        assert_eq!(nearest("leftsubent", known), Some("leftsubnet"));
        assert_eq!(nearest("atuo", known), Some("auto"));
        assert_eq!(nearest("mtu", known), None);
    }

    #[test]
    fn columns_count_characters() {
        let source = Source::new(Path::new("f"), "a\nüö x");
        let place = |range| {
            let span = source.span(range);
            (span.line, span.column)
        };
        assert_eq!(place(7..8), (2, 4));
        assert_eq!(place(0..1), (1, 1));
        assert_eq!(place(2..4), (2, 1));
    }
}
