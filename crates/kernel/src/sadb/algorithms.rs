//! IANA transform numbers and the names of the kernel's crypto API (`net/xfrm/xfrm_algo.c`).

use cygnet_ipsec::Compression;
use cygnet_xfrm::{Algorithm, AlgorithmIcv, AlgorithmName, Attribute, Attributes, KeyBytes};

/// How the kernel is told about an encryption algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `XFRMA_ALG_AEAD`, with the length of the ICV in bits.
    Aead(u32),
    /// `XFRMA_ALG_CRYPT`.
    Cipher,
}

struct Encryption {
    /// IKEv2 Transform Type 1 number.
    id: u16,
    name: &'static str,
    kind: Kind,
    /// Key material the kernel wants, in octets, salt or nonce included: one entry per key size.
    key_lens: &'static [usize],
}

const GCM: &str = "rfc4106(gcm(aes))";
const CCM: &str = "rfc4309(ccm(aes))";

/// In the order of the numbers. Ciphers that RFC 8247 and RFC 8221 forbid are not in it; those with implicit IV (RFC 8750)
/// the kernel does not have.
const ENCRYPTION: &[Encryption] = &[
    cipher(3, "cbc(des3_ede)", &[24]),
    cipher(11, "ecb(cipher_null)", &[0]),
    cipher(12, "cbc(aes)", &[16, 24, 32]),
    cipher(13, "rfc3686(ctr(aes))", &[20, 28, 36]),
    aead(14, CCM, 64, &[19, 27, 35]),
    aead(15, CCM, 96, &[19, 27, 35]),
    aead(16, CCM, 128, &[19, 27, 35]),
    aead(18, GCM, 64, &[20, 28, 36]),
    aead(19, GCM, 96, &[20, 28, 36]),
    aead(20, GCM, 128, &[20, 28, 36]),
    aead(21, "rfc4543(gcm(aes))", 128, &[20, 28, 36]),
    cipher(23, "cbc(camellia)", &[16, 24, 32]),
    aead(28, "rfc7539esp(chacha20,poly1305)", 128, &[36]),
];

struct Integrity {
    /// IKEv2 Transform Type 3 number.
    id: u16,
    name: &'static str,
    icv_bits: u32,
    key_len: usize,
}

/// The ICV length is always said: the kernel's default for `hmac(sha256)` is 96 bits, RFC 4868
/// wants 128.
const INTEGRITY: &[Integrity] = &[
    integrity(2, "hmac(sha1)", 96, 20),
    integrity(5, "xcbc(aes)", 96, 16),
    integrity(8, "cmac(aes)", 96, 16),
    integrity(12, "hmac(sha256)", 128, 32),
    integrity(13, "hmac(sha384)", 192, 48),
    integrity(14, "hmac(sha512)", 256, 64),
];

const fn aead(id: u16, name: &'static str, icv: u32, key_lens: &'static [usize]) -> Encryption {
    Encryption {
        id,
        name,
        kind: Kind::Aead(icv),
        key_lens,
    }
}

const fn cipher(id: u16, name: &'static str, key_lens: &'static [usize]) -> Encryption {
    Encryption {
        id,
        name,
        kind: Kind::Cipher,
        key_lens,
    }
}

const fn integrity(id: u16, name: &'static str, icv_bits: u32, key_len: usize) -> Integrity {
    Integrity {
        id,
        name,
        icv_bits,
        key_len,
    }
}

/// Why a transform cannot be told to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlgorithmError {
    /// The number has no name in the kernel.
    #[error("encryption transform {0} has no kernel name")]
    UnknownEncryption(u16),
    /// The number has no name in the kernel.
    #[error("integrity transform {0} has no kernel name")]
    UnknownIntegrity(u16),
    /// The key has a length that the algorithm does not know.
    #[error("{name} takes no key of {len} octets")]
    KeyLength {
        /// Kernel's name.
        name: &'static str,
        /// Octets given, salt included.
        len: usize,
    },
}

/// The attribute for an encryption or AEAD key.
pub(crate) fn encryption_attribute(id: u16, key: &[u8]) -> Result<Attribute, AlgorithmError> {
    let entry = ENCRYPTION
        .iter()
        .find(|e| e.id == id)
        .ok_or(AlgorithmError::UnknownEncryption(id))?;
    if !entry.key_lens.contains(&key.len()) {
        return Err(AlgorithmError::KeyLength {
            name: entry.name,
            len: key.len(),
        });
    }
    let name = name(entry.name).ok_or(AlgorithmError::UnknownEncryption(id))?;
    let key = KeyBytes::new(key);
    Ok(match entry.kind {
        Kind::Aead(icv_bits) => Attribute::Aead(AlgorithmIcv {
            name,
            icv_bits,
            key,
        }),
        Kind::Cipher => Attribute::Crypt(Algorithm { name, key }),
    })
}

/// The attribute for an integrity key.
pub(crate) fn integrity_attribute(id: u16, key: &[u8]) -> Result<Attribute, AlgorithmError> {
    let entry = INTEGRITY
        .iter()
        .find(|e| e.id == id)
        .ok_or(AlgorithmError::UnknownIntegrity(id))?;
    if entry.key_len != key.len() {
        return Err(AlgorithmError::KeyLength {
            name: entry.name,
            len: key.len(),
        });
    }
    let name = name(entry.name).ok_or(AlgorithmError::UnknownIntegrity(id))?;
    Ok(Attribute::AuthTrunc(AlgorithmIcv {
        name,
        icv_bits: entry.icv_bits,
        key: KeyBytes::new(key),
    }))
}

fn name(name: &'static str) -> Option<AlgorithmName> {
    AlgorithmName::new(name)
}

/// The attribute for compression, which has no key.
pub(crate) fn compression_attribute(compression: Compression) -> Option<Attribute> {
    let name = name(match compression {
        Compression::Deflate => "deflate",
    })?;
    let key = KeyBytes::default();
    Some(Attribute::Compression(Algorithm { name, key }))
}

/// The encryption number of a dumped SA, if it has an algorithm from the table.
pub(crate) fn encryption_id(attributes: &Attributes) -> Option<u16> {
    let (name, kind) = match (attributes.aead(), attributes.crypt()) {
        (Some(aead), _) => (&aead.name, Kind::Aead(aead.icv_bits)),
        (None, Some(cipher)) => (&cipher.name, Kind::Cipher),
        (None, None) => return None,
    };
    ENCRYPTION
        .iter()
        .find(|e| e.name.as_bytes() == name.as_bytes() && e.kind == kind)
        .map(|e| e.id)
}

/// The integrity number of a dumped SA, if it has an algorithm from the table.
pub(crate) fn integrity_id(attributes: &Attributes) -> Option<u16> {
    let auth = attributes.auth_trunc()?;
    INTEGRITY
        .iter()
        .find(|e| e.name.as_bytes() == auth.name.as_bytes() && e.icv_bits == auth.icv_bits)
        .map(|e| e.id)
}

/// Every encryption transform with each of its key lengths in octets, for probing.
pub(crate) fn encryption_variants() -> impl Iterator<Item = (u16, usize, bool)> {
    ENCRYPTION.iter().flat_map(|e| {
        let is_aead = matches!(e.kind, Kind::Aead(_));
        e.key_lens.iter().map(move |len| (e.id, *len, is_aead))
    })
}

/// Every integrity transform with its key length in octets, for probing.
pub(crate) fn integrity_variants() -> impl Iterator<Item = (u16, usize)> {
    INTEGRITY.iter().map(|i| (i.id, i.key_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_recognised_again() {
        for (id, len, _) in encryption_variants() {
            let attribute = encryption_attribute(id, &vec![7; len]).unwrap();
            assert_eq!(encryption_id(&Attributes(vec![attribute])), Some(id));
        }
        for (id, len) in integrity_variants() {
            let attribute = integrity_attribute(id, &vec![7; len]).unwrap();
            assert_eq!(integrity_id(&Attributes(vec![attribute])), Some(id));
        }
    }

    #[test]
    fn sha256_has_the_icv_of_rfc_4868() {
        let Ok(Attribute::AuthTrunc(auth)) = integrity_attribute(12, &[0; 32]) else {
            panic!("no AUTH_TRUNC");
        };
        assert_eq!(
            (auth.name.as_str(), auth.icv_bits),
            (Some("hmac(sha256)"), 128)
        );
    }

    #[test]
    fn wrong_keys_and_numbers_are_named() {
        assert_eq!(
            encryption_attribute(20, &[0; 16]).unwrap_err().to_string(),
            "rfc4106(gcm(aes)) takes no key of 16 octets"
        );
        assert_eq!(
            encryption_attribute(2, &[0; 8]).unwrap_err(),
            AlgorithmError::UnknownEncryption(2)
        );
        assert_eq!(
            integrity_attribute(1, &[0; 16]).unwrap_err().to_string(),
            "integrity transform 1 has no kernel name"
        );
    }
}
