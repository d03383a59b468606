//! The TUN device: where clear packets leave and enter the host's stack.
//!
//! It is made here and lives as long as its descriptor: never persistent, so that nothing is left
//! behind by a crash. Its addresses, routes, MTU and sysctls are the caller's.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use thiserror::Error;

use super::sys;

/// Why there is no TUN device.
#[derive(Debug, Error)]
pub enum TunError {
    /// The name is empty, has 16 octets or more, or one that a device name cannot have.
    #[error("'{0}' cannot be the name of a network device")]
    Name(String),
    /// `/dev/net/tun` could not be opened: no `tun` module, or a container without the device node.
    #[error("cannot open /dev/net/tun: {0}")]
    Open(#[source] io::Error),
    /// A device of that name exists; it is not ours and is left alone.
    #[error("a network device named {0} exists already")]
    Exists(String),
    /// Needs CAP_NET_ADMIN in the user namespace that owns the network namespace.
    #[error("no permission to create the TUN device {0} (CAP_NET_ADMIN is needed)")]
    NoPermission(String),
    /// The kernel refused for another reason.
    #[error("cannot create the TUN device {name}: {error}")]
    Create {
        /// The device.
        name: String,
        /// The kernel's answer.
        #[source]
        error: io::Error,
    },
}

/// An open TUN device in the network namespace of the thread that created it.
///
/// It carries IPv4 and IPv6 packets without packet information (`IFF_NO_PI`): the version nibble
/// tells them apart.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    name: String,
}

impl Tun {
    /// Creates the device. It is down and has no address. `%d` in the name stands for the first
    /// free number.
    ///
    /// # Errors
    ///
    /// See [`TunError`].
    pub fn create(name: &str) -> Result<Self, TunError> {
        let valid = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
        if name.is_empty()
            || name.len() >= libc::IFNAMSIZ
            || !name.bytes().all(valid)
            || name == "."
            || name == ".."
        {
            return Err(TunError::Name(name.to_owned()));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(TunError::Open)?;
        let fd = OwnedFd::from(file);
        // Without IFF_TUN_EXCL the ioctl would attach to somebody's persistent device of that name.
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
        match sys::tun_set_iff(fd.as_fd(), name, flags) {
            Ok(name) => Ok(Self { fd, name }),
            Err(error) => Err(match error.raw_os_error() {
                Some(libc::EBUSY | libc::EEXIST) => TunError::Exists(name.to_owned()),
                Some(libc::EPERM | libc::EACCES) => TunError::NoPermission(name.to_owned()),
                _ => TunError::Create {
                    name: name.to_owned(),
                    error,
                },
            }),
        }
    }

    /// The device's name when it was created.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads one packet; `WouldBlock` when there is none.
    pub(crate) fn read(&self, area: &mut [u8]) -> io::Result<usize> {
        rustix::io::read(&self.fd, area).map_err(io::Error::from)
    }

    /// Writes one packet.
    pub(crate) fn write(&self, packet: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.fd, packet)
            .map(drop)
            .map_err(io::Error::from)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_refused_before_the_kernel_is_asked() {
        for name in [
            "",
            "a-name-of-16-oct",
            "a/b",
            "a b",
            ".",
            "..",
            "x:1",
            "n\0",
        ] {
            assert!(
                matches!(Tun::create(name), Err(TunError::Name(_))),
                "{name:?}"
            );
        }
    }
}
