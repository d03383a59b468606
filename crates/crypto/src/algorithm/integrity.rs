//! Integrity algorithms (transform type 3).

use std::fmt;

use super::Prf;

/// An integrity algorithm (transform type 3, INTEG). All of them are truncated HMACs (RFC 4868).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Integrity {
    /// HMAC-SHA-256 truncated to 128 bits.
    HmacSha256_128,
    /// HMAC-SHA-384 truncated to 192 bits.
    HmacSha384_192,
    /// HMAC-SHA-512 truncated to 256 bits.
    HmacSha512_256,
}

impl Integrity {
    /// Every supported algorithm, strongest first.
    pub const ALL: [Integrity; 3] = [
        Integrity::HmacSha512_256,
        Integrity::HmacSha384_192,
        Integrity::HmacSha256_128,
    ];

    /// The IANA transform id (12, 13, 14).
    pub const fn iana_id(self) -> u16 {
        match self {
            Integrity::HmacSha256_128 => 12,
            Integrity::HmacSha384_192 => 13,
            Integrity::HmacSha512_256 => 14,
        }
    }

    /// The algorithm of a transform id.
    pub fn from_iana(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|i| i.iana_id() == id)
    }

    /// Octets of key material: the output length of the hash (RFC 4868 §2.1.1).
    pub const fn key_len(self) -> usize {
        match self {
            Integrity::HmacSha256_128 => 32,
            Integrity::HmacSha384_192 => 48,
            Integrity::HmacSha512_256 => 64,
        }
    }

    /// Octets of the truncated ICV: half of the hash's output.
    pub const fn icv_len(self) -> usize {
        self.key_len() / 2
    }

    /// The PRF on the same hash: what a configuration that names only the integrity algorithm means.
    pub const fn matching_prf(self) -> Prf {
        match self {
            Integrity::HmacSha256_128 => Prf::HmacSha256,
            Integrity::HmacSha384_192 => Prf::HmacSha384,
            Integrity::HmacSha512_256 => Prf::HmacSha512,
        }
    }

    /// The name in the IANA registry.
    pub const fn iana_name(self) -> &'static str {
        match self {
            Integrity::HmacSha256_128 => "AUTH_HMAC_SHA2_256_128",
            Integrity::HmacSha384_192 => "AUTH_HMAC_SHA2_384_192",
            Integrity::HmacSha512_256 => "AUTH_HMAC_SHA2_512_256",
        }
    }

    /// The usual name in ipsec.conf.
    pub const fn ipsec_conf_name(self) -> &'static str {
        match self {
            Integrity::HmacSha256_128 => "sha2_256",
            Integrity::HmacSha384_192 => "sha2_384",
            Integrity::HmacSha512_256 => "sha2_512",
        }
    }

    /// The name in swanctl.conf.
    pub const fn strongswan_name(self) -> &'static str {
        match self {
            Integrity::HmacSha256_128 => "sha256",
            Integrity::HmacSha384_192 => "sha384",
            Integrity::HmacSha512_256 => "sha512",
        }
    }

    /// The name in Wireshark's `ikev2_decryption_table` (with an AEAD cipher it is
    /// [`Self::WIRESHARK_IKE_NONE`]).
    pub const fn wireshark_ike_name(self) -> &'static str {
        match self {
            Integrity::HmacSha256_128 => "HMAC_SHA2_256_128 [RFC4868]",
            Integrity::HmacSha384_192 => "HMAC_SHA2_384_192 [RFC4868]",
            Integrity::HmacSha512_256 => "HMAC_SHA2_512_256 [RFC4868]",
        }
    }

    /// The name in Wireshark's `esp_sa` table (with an AEAD cipher it is [`Self::WIRESHARK_ESP_NONE`]).
    pub const fn wireshark_esp_name(self) -> &'static str {
        match self {
            Integrity::HmacSha256_128 => "HMAC-SHA-256-128 [RFC4868]",
            Integrity::HmacSha384_192 => "HMAC-SHA-384-192 [RFC4868]",
            Integrity::HmacSha512_256 => "HMAC-SHA-512-256 [RFC4868]",
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
        })
    }
}
