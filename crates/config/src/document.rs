//! A configuration with its includes, read into sections of assignments.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use cygnet_engine::FileSpan;

use crate::Loader;
use crate::diagnostic::{Diagnostics, Source, did_you_mean};
use crate::keyword::{self, Keyword, Section, Side};
use crate::lexer::{Line, LineError, STARTS, Word, lines};

/// `key = value` with its place.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) side: Side,
    pub(crate) keyword: &'static Keyword,
    pub(crate) key: Word,
    pub(crate) value: Word,
    pub(crate) source: Source,
}

impl Assignment {
    pub(crate) fn key_span(&self) -> FileSpan {
        self.source.span(self.key.range.clone())
    }

    /// The value, or the keyword where there is none.
    pub(crate) fn value_span(&self) -> FileSpan {
        let range = if self.value.range.is_empty() {
            &self.key.range
        } else {
            &self.value.range
        };
        self.source.span(range.clone())
    }
}

/// A `conn`.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    pub(crate) name: String,
    pub(crate) header: FileSpan,
    pub(crate) assignments: Vec<Assignment>,
}

/// All sections of all files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Document {
    /// What `config setup` says, later lines behind earlier ones.
    pub(crate) setup: Vec<Assignment>,
    /// What `conn %default` says, likewise.
    pub(crate) defaults: Vec<Assignment>,
    /// The others in the order of the files.
    pub(crate) conns: Vec<Conn>,
    /// Where each of them is in `conns`.
    pub(crate) by_name: BTreeMap<String, usize>,
}

/// Files included by files included …: libreswan's limit.
const MAX_INCLUDE_DEPTH: usize = 10;

/// Files of one configuration. A pattern that matches its own file would otherwise be followed
/// an exponential number of times.
const MAX_FILES: usize = 1000;

/// Reads files and follows includes.
pub(crate) struct Files<'a> {
    loader: &'a dyn Loader,
    count: usize,
}

impl<'a> Files<'a> {
    pub(crate) fn new(loader: &'a dyn Loader) -> Self {
        Self { loader, count: 0 }
    }

    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.loader.read(path)
    }

    /// The contents of the files that an include names.
    ///
    /// `pattern` is relative to the directory of `source`; `depth` is that of `source`.
    pub(crate) fn include(
        &mut self,
        diagnostics: &mut Diagnostics,
        source: &Source,
        pattern: &Word,
        depth: usize,
    ) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let span = source.span(pattern.range.clone());
        if depth >= MAX_INCLUDE_DEPTH {
            diagnostics.error(
                &span,
                format!("includes are nested more than {MAX_INCLUDE_DEPTH} deep"),
                None,
            );
            return Vec::new();
        }
        let base = source.path.parent().unwrap_or(Path::new(""));
        let is_pattern = pattern.text.contains(['*', '?', '[']);
        let paths = if is_pattern {
            match self.loader.glob(&join_pattern(base, &pattern.text)) {
                Ok(mut paths) => {
                    paths.sort();
                    paths
                }
                Err(error) => {
                    diagnostics.error(&span, format!("cannot look for these files: {error}"), None);
                    return Vec::new();
                }
            }
        } else {
            vec![base.join(&pattern.text)]
        };
        let mut out = Vec::new();
        for path in paths {
            self.count += 1;
            if self.count > MAX_FILES {
                if self.count == MAX_FILES + 1 {
                    diagnostics.error(
                        &span,
                        format!("more than {MAX_FILES} files are included"),
                        None,
                    );
                }
                break;
            }
            match self.loader.read(&path) {
                Ok(bytes) => out.push((path, bytes)),
                Err(error) => {
                    diagnostics.error(
                        &span,
                        format!("cannot read {}: {}", path.display(), reason(&error)),
                        None,
                    );
                }
            }
        }
        out
    }
}

/// Why a file could not be read, in words without error numbers.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// A pattern below a directory whose own name is no pattern.
fn join_pattern(base: &Path, pattern: &str) -> String {
    if Path::new(pattern).is_absolute() || base.as_os_str().is_empty() {
        return pattern.to_owned();
    }
    let mut joined = String::new();
    for c in base.to_string_lossy().chars() {
        match c {
            '*' | '?' | '[' => joined.extend(['[', c, ']']),
            c => joined.push(c),
        }
    }
    if !joined.ends_with('/') {
        joined.push('/');
    }
    joined + pattern
}

/// The section that lines belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    /// None yet, or none since an include.
    None,
    /// One whose header was wrong; an error was reported already.
    Broken,
    Setup,
    Defaults,
    Conn(usize),
}

/// Reads `path` and all that it includes.
pub(crate) fn read(path: &Path, loader: &dyn Loader, diagnostics: &mut Diagnostics) -> Document {
    let mut reader = Reader {
        files: Files::new(loader),
        diagnostics,
        document: Document::default(),
    };
    match reader.files.read(path) {
        Ok(bytes) => reader.file(path, &bytes, 0),
        Err(error) => reader.diagnostics.file_error(path, &reason(&error)),
    }
    reader.document
}

struct Reader<'a, 'd> {
    files: Files<'a>,
    diagnostics: &'d mut Diagnostics,
    document: Document,
}

impl Reader<'_, '_> {
    fn file(&mut self, path: &Path, bytes: &[u8], depth: usize) {
        let Some(source) = self.diagnostics.open(path, bytes) else {
            return;
        };
        let mut current = Current::None;
        for line in lines(&source.text) {
            match line {
                Ok(line) => current = self.line(line, current, &source, depth),
                Err(error) => {
                    let header = matches!(
                        error,
                        LineError::UnknownStart(_)
                            | LineError::MissingName(_)
                            | LineError::NotSetup(_)
                    );
                    self.line_error(&error, &source);
                    if header {
                        current = Current::Broken;
                    }
                }
            }
        }
    }

    fn line_error(&mut self, error: &LineError, source: &Source) {
        let help = match error {
            LineError::UnknownStart(word) if find_anywhere(&word.text) => {
                Some("lines of a section start with a blank".to_owned())
            }
            LineError::UnknownStart(word) => did_you_mean(&word.text, STARTS)
                .or_else(|| Some("a section starts with `config setup` or `conn NAME`".to_owned())),
            LineError::MissingEquals(word) if STARTS.contains(&word.text.as_str()) => {
                Some("a section starts in the first column".to_owned())
            }
            LineError::OpenQuote(_) | LineError::OpenBrace(_) => {
                Some("a value ends on its line".to_owned())
            }
            _ => None,
        };
        self.diagnostics
            .error(&source.span(error.range()), error.to_string(), help);
    }

    fn line(&mut self, line: Line, current: Current, source: &Source, depth: usize) -> Current {
        match line {
            Line::ConfigSetup(_) => Current::Setup,
            Line::Conn(name) if name.text == "%default" => Current::Defaults,
            Line::Conn(name) => self.conn(name, source),
            Line::Include(pattern) => {
                for (path, bytes) in self
                    .files
                    .include(self.diagnostics, source, &pattern, depth)
                {
                    self.file(&path, &bytes, depth + 1);
                }
                Current::None
            }
            Line::Assignment { key, value } => {
                self.assignment(key, value, current, source);
                current
            }
        }
    }

    fn conn(&mut self, name: Word, source: &Source) -> Current {
        let header = source.span(name.range.clone());
        if name.text.starts_with('%') {
            let help = Some("only `%default` starts with a percent sign".to_owned());
            self.diagnostics
                .error(&header, "this is not a name for a connection", help);
            return Current::Broken;
        }
        if let Some(first) = self
            .document
            .by_name
            .get(&name.text)
            .and_then(|i| self.document.conns.get(*i))
        {
            let first = cygnet_engine::Origin::File(first.header.clone());
            let message = format!("there is a connection `{}` already", name.text);
            self.diagnostics.error(
                &header,
                message,
                Some(format!("the first one is at {first}")),
            );
            return Current::Broken;
        }
        let index = self.document.conns.len();
        self.document.by_name.insert(name.text.clone(), index);
        self.document.conns.push(Conn {
            name: name.text,
            header,
            assignments: Vec::new(),
        });
        Current::Conn(index)
    }

    fn assignment(&mut self, key: Word, value: Word, current: Current, source: &Source) {
        let section = match current {
            Current::Broken => return,
            Current::Setup => Section::Setup,
            Current::Defaults | Current::Conn(_) => Section::Conn,
            Current::None => {
                let help = Some(
                    "`config setup` or `conn NAME` must stand above it, behind any `include`"
                        .to_owned(),
                );
                self.diagnostics.error(
                    &source.span(key.range),
                    "this line belongs to no section",
                    help,
                );
                return;
            }
        };
        if is_user_key(&key.text) {
            return;
        }
        let Some((side, keyword)) = keyword::find(section, &key.text) else {
            let help = keyword::help_for_unknown(section, &key.text);
            let message = format!("unknown keyword `{}`", shortened(&key.text));
            self.diagnostics
                .error(&source.span(key.range), message, help);
            return;
        };
        let assignment = Assignment {
            side,
            keyword,
            key,
            value,
            source: source.clone(),
        };
        let list = match current {
            Current::Setup => &mut self.document.setup,
            Current::Defaults if keyword.name == "also" => {
                let message = "`also=` cannot stand in `conn %default`";
                self.diagnostics
                    .error(&assignment.key_span(), message, None);
                return;
            }
            Current::Defaults => &mut self.document.defaults,
            Current::Conn(index) => match self.document.conns.get_mut(index) {
                Some(conn) => &mut conn.assignments,
                None => return,
            },
            Current::None | Current::Broken => return,
        };
        list.push(assignment);
    }
}

/// `x-…` and `x_…` are the user's own.
fn is_user_key(key: &str) -> bool {
    let lower = key.get(..2).map(str::to_ascii_lowercase);
    matches!(lower.as_deref(), Some("x-" | "x_"))
}

fn find_anywhere(line_start: &str) -> bool {
    let key = line_start.split('=').next().unwrap_or_default();
    keyword::find(Section::Setup, key).is_some() || keyword::find(Section::Conn, key).is_some()
}

/// Names of any length, made fit for a message.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
