//! Octets that must not be seen: wiped when dropped, hidden from `Debug`, compared in constant time.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Secret octets of any length.
///
/// The memory is wiped on drop. It never grows in place, so that no unwiped copy is left behind by a reallocation.
#[derive(Clone, Default)]
pub struct SecretBytes(Zeroizing<Box<[u8]>>);

impl SecretBytes {
    /// Takes the octets over; the vector's spare capacity is wiped with them.
    pub fn new(bytes: Vec<u8>) -> Self {
        // Not `into_boxed_slice`: shrinking may move the octets and leave the old place unwiped.
        let bytes = Zeroizing::new(bytes);
        Self::copy_from(&bytes)
    }

    /// Copies the octets.
    pub fn copy_from(bytes: &[u8]) -> Self {
        SecretBytes(Zeroizing::new(bytes.into()))
    }

    /// `len` octets, zeros before `write` fills them in place.
    pub(crate) fn written(len: usize, write: impl FnOnce(&mut [u8])) -> Self {
        // Not `vec![0; len]`: that asks for zeroed memory, which glibc does not take from its fast lists.
        let mut bytes: Zeroizing<Box<[u8]>> = Zeroizing::new(std::iter::repeat_n(0, len).collect());
        write(&mut bytes);
        SecretBytes(bytes)
    }

    /// The number of octets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no octets.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_from(bytes)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} octets)", self.len())
    }
}

/// Constant-time for equal lengths; the length itself is no secret.
impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(self.as_ref(), other.as_ref())
    }
}

impl Eq for SecretBytes {}

/// Whether `a` and `b` are equal, in a time that depends on their lengths only.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_only_the_length() {
        let secret = SecretBytes::copy_from(b"swordfish");
        assert_eq!(format!("{secret:?}"), "SecretBytes(9 octets)");
    }

    #[test]
    fn comparison() {
        assert!(constant_time_eq(b"", b""));
        assert!(constant_time_eq(b"abc", b"abc"));
        assert!(!constant_time_eq(b"abc", b"abd"));
        assert!(!constant_time_eq(b"abc", b"ab"));
        assert_eq!(SecretBytes::copy_from(b"x"), SecretBytes::new(vec![b'x']));
    }
}
