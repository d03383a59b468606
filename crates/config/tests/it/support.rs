//! Files in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use cygnet_config::{Loaded, Loader, Report, load};
use cygnet_engine::Connection;

/// A file system for one test.
#[derive(Debug, Default)]
pub struct Files(pub BTreeMap<PathBuf, Vec<u8>>);

impl Files {
    pub fn new<const N: usize>(files: [(&str, &str); N]) -> Self {
        Self(
            files
                .map(|(path, text)| (path.into(), text.as_bytes().to_vec()))
                .into(),
        )
    }
}

impl Loader for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn glob(&self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        // In no order: sorting is not the loader's business.
        let found = self
            .0
            .keys()
            .rev()
            .filter(|path| matches(pattern.as_bytes(), path.as_os_str().as_encoded_bytes()));
        Ok(found.cloned().collect())
    }
}

/// Enough of glob(7): `*`, `?` and `[c]`, none of which matches a slash.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            matches(rest, name)
                || matches!(name, [c, tail @ ..] if *c != b'/' && matches(pattern, tail))
        }
        ([b'?', rest @ ..], [c, tail @ ..]) => *c != b'/' && matches(rest, tail),
        ([b'[', one, b']', rest @ ..], [c, tail @ ..]) => one == c && matches(rest, tail),
        ([p, rest @ ..], [c, tail @ ..]) => p == c && matches(rest, tail),
        _ => false,
    }
}

/// Loads `/etc/ipsec.conf` without secrets.
pub fn load_text(text: &str) -> Result<Loaded, Report> {
    load(
        Path::new("/etc/ipsec.conf"),
        None,
        &Files::new([("/etc/ipsec.conf", text)]),
    )
}

/// A configuration that must be right.
pub fn accept(text: &str) -> Loaded {
    load_text(text).unwrap_or_else(|report| panic!("{report}"))
}

/// A configuration that must be wrong; what is said about it.
pub fn refuse(text: &str) -> String {
    load_text(text)
        .expect_err("the configuration is wrong")
        .to_string()
}

/// The one connection that results from some lines, between the ends 192.0.2.1 and 192.0.2.2.
pub fn connection(lines: &str) -> Connection {
    let loaded = accept(&conn(lines));
    assert_eq!(loaded.warnings, []);
    let [connection] = <[Connection; 1]>::try_from(loaded.set.connections).expect("one connection");
    connection
}

/// The configuration around those lines.
pub fn conn(lines: &str) -> String {
    let mut text =
        "conn c\n left=192.0.2.1\n right=192.0.2.2\n authby=secret\n auto=add\n".to_owned();
    for line in lines.lines() {
        text.push(' ');
        text.push_str(line.trim_start());
        text.push('\n');
    }
    text
}
