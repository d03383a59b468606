//! Key material on its way from the key exchange to a data plane: erased when dropped, never printed.

use std::fmt;

use zeroize::ZeroizeOnDrop;

/// Secret bytes. `Debug` shows the length only; the memory is overwritten when the value is dropped.
#[derive(Clone, Default, ZeroizeOnDrop)]
pub struct KeyMaterial(Vec<u8>);

impl KeyMaterial {
    /// Takes ownership of the bytes. The caller must not keep a copy of them.
    pub fn new(bytes: Vec<u8>) -> KeyMaterial {
        KeyMaterial(bytes)
    }

    /// The secret bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length in octets.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no octets at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for KeyMaterial {
    fn from(bytes: Vec<u8>) -> KeyMaterial {
        KeyMaterial(bytes)
    }
}

impl AsRef<[u8]> for KeyMaterial {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Equality looks at every octet whatever the first difference is, so that its duration tells nothing about the key.
impl PartialEq for KeyMaterial {
    fn eq(&self, other: &KeyMaterial) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .fold(0, |differences, (a, b)| differences | (a ^ b))
                == 0
    }
}

impl Eq for KeyMaterial {}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyMaterial({} octets, redacted)", self.0.len())
    }
}

/// An encryption or AEAD algorithm with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CipherKey {
    /// IANA "Transform Type 1 - Encryption Algorithm" number, such as 20 for AES-GCM with a 16-octet ICV.
    pub transform: u16,
    /// The key as KEYMAT yields it (RFC 7296 §2.17): for AEAD and counter modes the salt follows the key.
    pub key: KeyMaterial,
}

/// An integrity algorithm with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntegrityKey {
    /// IANA "Transform Type 3 - Integrity Algorithm" number, such as 12 for HMAC-SHA2-256-128.
    pub transform: u16,
    /// The key as KEYMAT yields it.
    pub key: KeyMaterial,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_no_key() {
        let key = CipherKey {
            transform: 20,
            key: KeyMaterial::new(vec![0xde, 0xad, 0xbe, 0xef]),
        };
        assert_eq!(
            format!("{key:?}"),
            "CipherKey { transform: 20, key: KeyMaterial(4 octets, redacted) }"
        );
    }

    #[test]
    fn equality_is_that_of_the_octets() {
        let key = KeyMaterial::new(vec![1, 2, 3]);
        assert_eq!(key, vec![1, 2, 3].into());
        assert_ne!(key, vec![1, 2, 4].into());
        assert_ne!(key, vec![1, 2].into());
    }
}
