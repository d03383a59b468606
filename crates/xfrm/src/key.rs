//! Key bytes: wiped when dropped, never shown.

use std::fmt;

use zeroize::Zeroizing;

/// Key bytes of an algorithm attribute.
///
/// They are wiped when dropped and `Debug` shows their number only.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct KeyBytes(Zeroizing<Vec<u8>>);

impl KeyBytes {
    /// Copies `bytes`; the caller wipes its own copy.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of bits, as the kernel counts keys. Saturates at `u32::MAX`, beyond any attribute.
    pub fn bits(&self) -> u32 {
        u32::try_from(self.0.len().saturating_mul(8)).unwrap_or(u32::MAX)
    }
}

impl AsRef<[u8]> for KeyBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for KeyBytes {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyBytes({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_bytes() {
        let key = KeyBytes::new(&[0xab; 20]);
        assert_eq!(format!("{key:?}"), "KeyBytes(20 bytes)");
        assert_eq!(key.bits(), 160);
    }
}
