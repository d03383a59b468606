//! ipsec.conf and ipsec.secrets, read into the engine's connections.
//!
//! [`load`] reads both through a [`Loader`] and yields either everything or a
//! [`Report`] of all that is wrong, each mistake with file, line, column, the
//! marked line and, where one is near, the right word. Nothing is half loaded.
//!
//! The grammar is libreswan's. What each keyword does is in [`KEYWORDS`], one
//! table for the parser and the documentation.

#![forbid(unsafe_code)]

mod address;
mod conn;
mod diagnostic;
mod document;
mod keyword;
mod lexer;
mod redirect;
mod secrets;
mod section;
mod setup;
mod value;

use std::io;
use std::path::{Path, PathBuf};

use cygnet_engine::{ConnectionSet, Secrets};

pub use diagnostic::{Diagnostic, Report, Severity};
pub use keyword::{KEYWORDS, Keyword, Section, Status};

/// Where files come from. The crate itself opens none.
pub trait Loader {
    /// The content of a file.
    ///
    /// # Errors
    /// Those of the file system.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The files that a pattern names. The pattern is in the notation of glob(7): `*`, `?`, `[…]`.
    ///
    /// # Errors
    /// A pattern that is none, a directory that cannot be read.
    fn glob(&self, pattern: &str) -> io::Result<Vec<PathBuf>>;
}

/// A configuration that was read.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub set: ConnectionSet,
    /// What is odd about it without being wrong.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a configuration and its secrets.
///
/// A file of secrets that is not there is a file without secrets, with a warning if a connection
/// needs one.
///
/// # Errors
/// All that is wrong at once; nothing is half loaded.
pub fn load(config: &Path, secrets: Option<&Path>, loader: &dyn Loader) -> Result<Loaded, Report> {
    let mut diagnostics = diagnostic::Diagnostics::default();
    let document = document::read(config, loader, &mut diagnostics);
    let setup = setup::setup(&document.setup, &mut diagnostics);
    let connections = conn::connections(&document, &mut diagnostics);
    let secrets = match secrets {
        Some(path) => {
            let needed = connections
                .iter()
                .any(cygnet_engine::Connection::negotiates);
            secrets::read(path, needed, loader, &mut diagnostics)
        }
        None => Secrets::default(),
    };
    let warnings = diagnostics.finish()?;
    Ok(Loaded {
        set: ConnectionSet {
            setup,
            connections,
            secrets,
        },
        warnings,
    })
}
