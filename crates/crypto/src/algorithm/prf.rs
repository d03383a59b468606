//! Pseudorandom functions (transform type 2).

use std::fmt;

use super::Integrity;
use crate::{mac, secret::SecretBytes};

/// A pseudorandom function (transform type 2, PRF).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Prf {
    /// HMAC-SHA-256 (RFC 4868).
    HmacSha256,
    /// HMAC-SHA-384 (RFC 4868).
    HmacSha384,
    /// HMAC-SHA-512 (RFC 4868).
    HmacSha512,
    /// HMAC-SHA-1 (RFC 2104). Only for old peers.
    HmacSha1,
    /// AES-XCBC-PRF-128 (RFC 4434).
    AesXcbc,
    /// AES-CMAC-PRF-128 (RFC 4615).
    AesCmac,
}

impl Prf {
    /// Every supported function.
    pub const ALL: [Prf; 6] = [
        Prf::HmacSha512,
        Prf::HmacSha384,
        Prf::HmacSha256,
        Prf::AesCmac,
        Prf::AesXcbc,
        Prf::HmacSha1,
    ];

    /// What a proposal that names none offers, strongest first.
    pub const DEFAULT: [Prf; 3] = [Prf::HmacSha512, Prf::HmacSha384, Prf::HmacSha256];

    /// The IANA transform id.
    pub const fn iana_id(self) -> u16 {
        match self {
            Prf::HmacSha256 => 5,
            Prf::HmacSha384 => 6,
            Prf::HmacSha512 => 7,
            Prf::HmacSha1 => 2,
            Prf::AesXcbc => 4,
            Prf::AesCmac => 8,
        }
    }

    /// The function of a transform id.
    pub fn from_iana(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.iana_id() == id)
    }

    /// Octets of output, which is also the preferred key length (RFC 4868 §2.4): SK_d and SK_p have it.
    pub const fn output_len(self) -> usize {
        match self {
            Prf::HmacSha256 => 32,
            Prf::HmacSha384 => 48,
            Prf::HmacSha512 => 64,
            Prf::HmacSha1 => 20,
            Prf::AesXcbc | Prf::AesCmac => 16,
        }
    }

    /// Octets of each nonce that go into the key of SKEYSEED, if not all do.
    pub const fn nonce_len(self) -> Option<usize> {
        match self {
            Prf::AesXcbc | Prf::AesCmac => Some(8),
            _ => None,
        }
    }

    /// Why it is weak, for a warning; `None` if it is not.
    pub const fn weakness(self) -> Option<&'static str> {
        match self {
            Prf::HmacSha1 => Some("HMAC-SHA-1 is on its way out (RFC 8221, RFC 8247: MUST-)"),
            _ => None,
        }
    }

    /// `prf(key, parts[0] | parts[1] | …)`.
    pub fn compute(self, key: &[u8], parts: &[&[u8]]) -> SecretBytes {
        mac::prf(self, key, parts)
    }

    /// `prf+(key, seed[0] | seed[1] | …)` cut to `len` octets (RFC 7296 §2.13).
    ///
    /// `None` if `len` is more than 255 times the output length, where prf+ is not defined.
    pub fn expand(self, key: &[u8], seed: &[&[u8]], len: usize) -> Option<SecretBytes> {
        mac::prf_plus(self, key, seed, len)
    }

    /// The integrity algorithm on the same hash or cipher.
    pub const fn matching_integrity(self) -> Integrity {
        match self {
            Prf::HmacSha256 => Integrity::HmacSha256_128,
            Prf::HmacSha384 => Integrity::HmacSha384_192,
            Prf::HmacSha512 => Integrity::HmacSha512_256,
            Prf::HmacSha1 => Integrity::HmacSha1_96,
            Prf::AesXcbc => Integrity::AesXcbc96,
            Prf::AesCmac => Integrity::AesCmac96,
        }
    }

    /// The name in the IANA registry.
    pub const fn iana_name(self) -> &'static str {
        match self {
            Prf::HmacSha256 => "PRF_HMAC_SHA2_256",
            Prf::HmacSha384 => "PRF_HMAC_SHA2_384",
            Prf::HmacSha512 => "PRF_HMAC_SHA2_512",
            Prf::HmacSha1 => "PRF_HMAC_SHA1",
            Prf::AesXcbc => "PRF_AES128_XCBC",
            Prf::AesCmac => "PRF_AES128_CMAC",
        }
    }

    /// The usual name in ipsec.conf.
    pub const fn ipsec_conf_name(self) -> &'static str {
        match self {
            Prf::HmacSha256 => "sha2_256",
            Prf::HmacSha384 => "sha2_384",
            Prf::HmacSha512 => "sha2_512",
            Prf::HmacSha1 => "sha1",
            Prf::AesXcbc => "aes_xcbc",
            Prf::AesCmac => "aes_cmac",
        }
    }

    /// The name in swanctl.conf.
    pub const fn strongswan_name(self) -> &'static str {
        match self {
            Prf::HmacSha256 => "prfsha256",
            Prf::HmacSha384 => "prfsha384",
            Prf::HmacSha512 => "prfsha512",
            Prf::HmacSha1 => "prfsha1",
            Prf::AesXcbc => "prfaesxcbc",
            Prf::AesCmac => "prfaescmac",
        }
    }
}

/// The name people know, for logs and status: `HMAC_SHA2_256`.
impl fmt::Display for Prf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Prf::HmacSha256 => "HMAC_SHA2_256",
            Prf::HmacSha384 => "HMAC_SHA2_384",
            Prf::HmacSha512 => "HMAC_SHA2_512",
            Prf::HmacSha1 => "HMAC_SHA1",
            Prf::AesXcbc => "AES128_XCBC",
            Prf::AesCmac => "AES128_CMAC",
        })
    }
}
