//! Integrity algorithms (transform type 3).

use std::fmt;

use super::Prf;

/// An integrity algorithm (transform type 3, INTEG).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Integrity {
    /// HMAC-SHA-256 truncated to 128 bits (RFC 4868).
    HmacSha256_128,
    /// HMAC-SHA-384 truncated to 192 bits (RFC 4868).
    HmacSha384_192,
    /// HMAC-SHA-512 truncated to 256 bits (RFC 4868).
    HmacSha512_256,
    /// HMAC-SHA-1 truncated to 96 bits (RFC 2404). Only for old peers.
    HmacSha1_96,
    /// AES-XCBC truncated to 96 bits (RFC 3566).
    AesXcbc96,
    /// AES-CMAC truncated to 96 bits (RFC 4494).
    AesCmac96,
}

impl Integrity {
    /// Every supported algorithm.
    pub const ALL: [Integrity; 6] = [
        Integrity::HmacSha512_256,
        Integrity::HmacSha384_192,
        Integrity::HmacSha256_128,
        Integrity::AesCmac96,
        Integrity::AesXcbc96,
        Integrity::HmacSha1_96,
    ];

    /// What a proposal that names none offers, strongest first.
    pub const DEFAULT: [Integrity; 3] = [
        Integrity::HmacSha512_256,
        Integrity::HmacSha384_192,
        Integrity::HmacSha256_128,
    ];

    /// The IANA transform id.
    pub const fn iana_id(self) -> u16 {
        match self {
            Integrity::HmacSha256_128 => 12,
            Integrity::HmacSha384_192 => 13,
            Integrity::HmacSha512_256 => 14,
            Integrity::HmacSha1_96 => 2,
            Integrity::AesXcbc96 => 5,
            Integrity::AesCmac96 => 8,
        }
    }

    /// The algorithm of a transform id.
    pub fn from_iana(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|i| i.iana_id() == id)
    }

    /// Octets of key material: the output length of the hash (RFC 4868 §2.1.1), or AES's key.
    pub const fn key_len(self) -> usize {
        match self {
            Integrity::HmacSha256_128 => 32,
            Integrity::HmacSha384_192 => 48,
            Integrity::HmacSha512_256 => 64,
            Integrity::HmacSha1_96 => 20,
            Integrity::AesXcbc96 | Integrity::AesCmac96 => 16,
        }
    }

    /// Octets of the truncated ICV.
    pub const fn icv_len(self) -> usize {
        match self {
            Integrity::HmacSha256_128 => 16,
            Integrity::HmacSha384_192 => 24,
            Integrity::HmacSha512_256 => 32,
            Integrity::HmacSha1_96 | Integrity::AesXcbc96 | Integrity::AesCmac96 => 12,
        }
    }

    /// Why it is weak, for a warning; `None` if it is not.
    pub const fn weakness(self) -> Option<&'static str> {
        match self {
            Integrity::HmacSha1_96 => {
                Some("HMAC-SHA-1 is on its way out (RFC 8221, RFC 8247: MUST-)")
            }
            _ => None,
        }
    }

    /// The PRF on the same hash or cipher: what a configuration that names only the integrity algorithm means.
    pub const fn matching_prf(self) -> Prf {
        match self {
            Integrity::HmacSha256_128 => Prf::HmacSha256,
            Integrity::HmacSha384_192 => Prf::HmacSha384,
            Integrity::HmacSha512_256 => Prf::HmacSha512,
            Integrity::HmacSha1_96 => Prf::HmacSha1,
            Integrity::AesXcbc96 => Prf::AesXcbc,
            Integrity::AesCmac96 => Prf::AesCmac,
        }
    }

    /// The name in the IANA registry.
    pub const fn iana_name(self) -> &'static str {
        match self {
            Integrity::HmacSha256_128 => "AUTH_HMAC_SHA2_256_128",
            Integrity::HmacSha384_192 => "AUTH_HMAC_SHA2_384_192",
            Integrity::HmacSha512_256 => "AUTH_HMAC_SHA2_512_256",
            Integrity::HmacSha1_96 => "AUTH_HMAC_SHA1_96",
            Integrity::AesXcbc96 => "AUTH_AES_XCBC_96",
            Integrity::AesCmac96 => "AUTH_AES_CMAC_96",
        }
    }

    /// The usual name in ipsec.conf.
    pub const fn ipsec_conf_name(self) -> &'static str {
        match self {
            Integrity::HmacSha256_128 => "sha2_256",
            Integrity::HmacSha384_192 => "sha2_384",
            Integrity::HmacSha512_256 => "sha2_512",
            Integrity::HmacSha1_96 => "sha1",
            Integrity::AesXcbc96 => "aes_xcbc",
            Integrity::AesCmac96 => "aes_cmac",
        }
    }

    /// The name in swanctl.conf.
    pub const fn strongswan_name(self) -> &'static str {
        match self {
            Integrity::HmacSha256_128 => "sha256",
            Integrity::HmacSha384_192 => "sha384",
            Integrity::HmacSha512_256 => "sha512",
            Integrity::HmacSha1_96 => "sha1",
            Integrity::AesXcbc96 => "aesxcbc",
            Integrity::AesCmac96 => "aescmac",
        }
    }

    /// The name in Wireshark's `ikev2_decryption_table` (with an AEAD cipher it is
    /// [`Self::WIRESHARK_IKE_NONE`]).
    pub const fn wireshark_ike_name(self) -> &'static str {
        match self {
            Integrity::HmacSha256_128 => "HMAC_SHA2_256_128 [RFC4868]",
            Integrity::HmacSha384_192 => "HMAC_SHA2_384_192 [RFC4868]",
            Integrity::HmacSha512_256 => "HMAC_SHA2_512_256 [RFC4868]",
            Integrity::HmacSha1_96 => "HMAC_SHA1_96 [RFC2404]",
            // It decrypts without a check of these.
            Integrity::AesXcbc96 | Integrity::AesCmac96 => {
                "ANY 96-bits of Authentication [No Checking]"
            }
        }
    }

    /// The name in Wireshark's `esp_sa` table (with an AEAD cipher it is [`Self::WIRESHARK_ESP_NONE`]).
    pub const fn wireshark_esp_name(self) -> &'static str {
        match self {
            Integrity::HmacSha256_128 => "HMAC-SHA-256-128 [RFC4868]",
            Integrity::HmacSha384_192 => "HMAC-SHA-384-192 [RFC4868]",
            Integrity::HmacSha512_256 => "HMAC-SHA-512-256 [RFC4868]",
            Integrity::HmacSha1_96 => "HMAC-SHA-1-96 [RFC2404]",
            Integrity::AesXcbc96 | Integrity::AesCmac96 => {
                "ANY 96 bit authentication [no checking]"
            }
        }
    }

    /// Wireshark's `ikev2_decryption_table` word for "no integrity algorithm".
    pub const WIRESHARK_IKE_NONE: &'static str = "NONE [RFC4306]";
    /// Wireshark's `esp_sa` word for "no integrity algorithm".
    pub const WIRESHARK_ESP_NONE: &'static str = "NULL";
}

/// The name people know, for logs and status: `HMAC_SHA2_256_128`.
impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Integrity::HmacSha256_128 => "HMAC_SHA2_256_128",
            Integrity::HmacSha384_192 => "HMAC_SHA2_384_192",
            Integrity::HmacSha512_256 => "HMAC_SHA2_512_256",
            Integrity::HmacSha1_96 => "HMAC_SHA1_96",
            Integrity::AesXcbc96 => "AES_XCBC_96",
            Integrity::AesCmac96 => "AES_CMAC_96",
        })
    }
}
