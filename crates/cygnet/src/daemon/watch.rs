//! Descriptors of ours in tokio's reactor.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::unix::AsyncFd;

/// Watches a descriptor that `inner` owns.
///
/// The constructor is deprecated because a type could close or replace its
/// descriptor while it is watched; the sockets here own theirs until they are
/// dropped. Its replacement is `unsafe`, and this crate has none of that.
#[allow(deprecated)]
pub(super) fn watch<T: AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(inner)
}
