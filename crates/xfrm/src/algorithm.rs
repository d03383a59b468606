//! Algorithm attributes: a name of the kernel's crypto API, a key, sometimes an ICV length.

use std::fmt;

use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::key::KeyBytes;

/// Length of the name field, its terminating zero included.
const NAME_LEN: usize = 64;

/// A name of the kernel's crypto API such as `rfc4106(gcm(aes))`: at most 63 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AlgorithmName([u8; NAME_LEN]);

impl AlgorithmName {
    /// `None` if the name has more than 63 bytes or contains a zero byte.
    pub fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; NAME_LEN];
        if name.len() >= NAME_LEN || name.contains('\0') {
            return None;
        }
        bytes
            .get_mut(..name.len())?
            .copy_from_slice(name.as_bytes());
        Some(Self(bytes))
    }

    /// The bytes before the first zero; the kernel's names are ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(NAME_LEN);
        self.0.get(..end).unwrap_or_default()
    }

    /// The name, or nothing if it is not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }
}

impl fmt::Display for AlgorithmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for AlgorithmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

impl Wire for AlgorithmName {
    const WHAT: &'static str = "alg_name";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array().map(Self)
    }
    fn write(&self, out: &mut Writer) {
        out.put(&self.0);
    }
}

/// `xfrm_algo`: a cipher, compression, or an integrity algorithm with its default ICV length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithm {
    /// Kernel's name.
    pub name: AlgorithmName,
    /// Key, with salt or nonce at its end where the algorithm has one.
    pub key: KeyBytes,
}

impl Wire for Algorithm {
    const WHAT: &'static str = "xfrm_algo";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = Wire::read(r)?;
        let bits = r.u32()?;
        Ok(Self {
            name,
            key: read_key(r, bits)?,
        })
    }
    fn write(&self, out: &mut Writer) {
        self.name.write(out);
        out.u32(self.key.bits());
        out.put(self.key.as_ref());
    }
}

/// `xfrm_algo_auth` and `xfrm_algo_aead`, which have the same layout: with an ICV length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlgorithmIcv {
    /// Kernel's name.
    pub name: AlgorithmName,
    /// Length of the ICV in bits.
    pub icv_bits: u32,
    /// Key, with salt at its end where the algorithm has one.
    pub key: KeyBytes,
}

impl Wire for AlgorithmIcv {
    const WHAT: &'static str = "xfrm_algo_auth";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = Wire::read(r)?;
        let bits = r.u32()?;
        Ok(Self {
            name,
            icv_bits: r.u32()?,
            key: read_key(r, bits)?,
        })
    }
    fn write(&self, out: &mut Writer) {
        self.name.write(out);
        out.u32(self.key.bits());
        out.u32(self.icv_bits);
        out.put(self.key.as_ref());
    }
}

fn read_key(r: &mut Reader<'_>, bits: u32) -> Result<KeyBytes, DecodeError> {
    // The kernel rounds up to whole bytes in the same way.
    r.bytes(bits.div_ceil(8) as usize).map(KeyBytes::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_or_are_refused() {
        let longest = "x".repeat(63);
        assert_eq!(
            AlgorithmName::new(&longest).unwrap().as_str(),
            Some(longest.as_str())
        );
        assert!(AlgorithmName::new(&"x".repeat(64)).is_none());
        assert!(AlgorithmName::new("a\0b").is_none());
    }

    #[test]
    fn a_key_length_beyond_the_attribute_is_refused() {
        let mut bytes = vec![0; 64];
        bytes.extend_from_slice(&u32::MAX.to_ne_bytes());
        assert!(matches!(
            Algorithm::decode(&bytes),
            Err(DecodeError::Truncated {
                what: "xfrm_algo",
                ..
            })
        ));
    }
}
