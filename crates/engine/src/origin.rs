//! Where a configured value came from, kept beside the value until run time.
//!
//! A refusal that is decided long after parsing (no proposal in common, no
//! such interface) can then still point at the file and the column that asked
//! for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The source of a configured value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Nobody wrote it: the documented default.
    #[default]
    Default,
    /// A place in a configuration file.
    File(FileSpan),
    /// A management command named so (`vici`, `control`).
    Command(&'static str),
}

/// A stretch of text in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileSpan {
    /// The file as it was opened.
    pub file: Arc<PathBuf>,
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// Byte offset of the first octet in the file.
    pub start: usize,
    /// Byte offset behind the last octet.
    pub end: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(s) => write!(f, "{}:{}:{}", s.file.display(), s.line, s.column),
            Self::Command(name) => f.write_str(name),
        }
    }
}

/// A value with its origin.
///
/// Two sourced values are equal if their values are: a comment added above a
/// line must not make a reload tear a tunnel down.
#[derive(Clone, Debug, Default)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    /// A value that nobody configured.
    pub fn default_value(value: T) -> Self {
        Self {
            value,
            origin: Origin::Default,
        }
    }

    /// A value from `origin`.
    pub fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }
}

impl<T: PartialEq> PartialEq for Sourced<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Sourced<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_value_is_still_the_same_value() {
        let file = Arc::new(PathBuf::from("/etc/ipsec.conf"));
        let at = |line| {
            Origin::File(FileSpan {
                file: file.clone(),
                line,
                column: 5,
                start: 0,
                end: 1,
            })
        };
        assert_eq!(Sourced::new(7, at(3)), Sourced::new(7, at(9)));
        assert_ne!(Sourced::new(7, at(3)), Sourced::new(8, at(3)));
        assert_eq!(at(3).to_string(), "/etc/ipsec.conf:3:5");
    }
}
