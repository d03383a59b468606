//! The state directory: secrets that must survive a restart of the daemon and of the machine.
//!
//! A secret is a file that only its owner can read. It is replaced as a whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cygnet_crypto::SecretBytes;
use rustix::fs::OFlags;

/// Octets that a secret may have.
const MAX_LEN: u64 = 4096;

/// The directory.
#[derive(Debug)]
pub(super) struct StateDir(PathBuf);

impl StateDir {
    /// Makes the directory if it is not there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self(path.to_owned()))
    }

    /// The secret of that name, if there is one. One that others can read or change is none: it is refused.
    pub(super) fn load(&self, name: &str) -> io::Result<Option<SecretBytes>> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(self.0.join(name));
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let about = file.metadata()?;
        let ours = about.uid() == rustix::process::geteuid().as_raw();
        if !about.is_file() || !ours || about.mode() & 0o077 != 0 || about.len() > MAX_LEN {
            let text = format!("{name} is not a short file of ours that nobody else can read");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        // Room for all of it: growing would leave copies behind.
        let mut octets = Vec::with_capacity(MAX_LEN as usize);
        file.take(MAX_LEN).read_to_end(&mut octets)?;
        Ok(Some(SecretBytes::new(octets)))
    }

    /// Keeps a secret under that name, in the place of an earlier one.
    pub(super) fn store(&self, name: &str, secret: &SecretBytes) -> io::Result<()> {
        let new = self.0.join(format!("{name}.new"));
        // One that a crash has left.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(secret.as_ref())?;
        file.sync_all()?;
        std::fs::rename(&new, self.0.join(name))?;
        File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A directory of this test's own, removed in the end.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("cygnet-state-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn mode(&self, name: &str) -> u32 {
            std::fs::metadata(self.0.join(name)).unwrap().mode() & 0o777
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn secret(octets: &[u8]) -> SecretBytes {
        SecretBytes::copy_from(octets)
    }

    #[test]
    fn a_secret_is_for_its_owner_and_outlives_a_crash() {
        let place = Place::new("once");
        let state = StateDir::open(&place.0).unwrap();
        assert!(state.load("a").unwrap().is_none());
        state.store("a", &secret(b"first")).unwrap();
        let again = StateDir::open(&place.0).unwrap().load("a").unwrap();
        assert_eq!(again, Some(secret(b"first")));
        assert!(state.load("b").unwrap().is_none());
        assert_eq!((place.mode("a"), place.mode(".")), (0o600, 0o700));
        // A crash in the middle leaves the old one.
        std::fs::write(place.0.join("a.new"), "half").unwrap();
        assert_eq!(state.load("a").unwrap(), Some(secret(b"first")));
        state.store("a", &secret(b"other")).unwrap();
        assert_eq!(state.load("a").unwrap(), Some(secret(b"other")));
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let place = Place::new("refused");
        let state = StateDir::open(&place.0).unwrap();
        state.store("a", &secret(b"first")).unwrap();
        let path = place.0.join("a");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(state.load("a").is_err());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(state.load("a").is_err());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![0; MAX_LEN as usize + 1]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(state.load("a").is_err());
    }
}
