//! Configuration files from the file system, for the parser that reads none itself.

use std::io;
use std::path::{Path, PathBuf};

use cygnet_config::Loader;

/// The longest configuration file that is read, in octets.
const MAX_FILE: u64 = 16 << 20;

/// The file system.
pub(crate) struct Files;

impl Loader for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let mut bytes = Vec::new();
        std::fs::File::open(path)?
            .take(MAX_FILE + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "larger than 16 MiB",
            ));
        }
        Ok(bytes)
    }

    fn glob(&self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        let found = glob::glob(pattern).map_err(io::Error::other)?;
        found.map(|entry| entry.map_err(io::Error::from)).collect()
    }
}
