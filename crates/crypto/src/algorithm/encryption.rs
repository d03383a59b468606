//! Encryption algorithms (transform type 1).

use std::fmt;

/// An encryption algorithm with its key length (transform type 1, ENCR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encryption {
    /// AES-GCM with a 16-octet ICV, 128-bit key (RFC 4106 for ESP, RFC 5282 for IKE).
    Aes128Gcm16,
    /// AES-GCM with a 16-octet ICV, 256-bit key (RFC 4106 for ESP, RFC 5282 for IKE).
    Aes256Gcm16,
    /// ChaCha20-Poly1305 (RFC 7634).
    Chacha20Poly1305,
    /// AES-CBC, 128-bit key (RFC 3602).
    Aes128Cbc,
    /// AES-CBC, 192-bit key (RFC 3602).
    Aes192Cbc,
    /// AES-CBC, 256-bit key (RFC 3602).
    Aes256Cbc,
}

impl Encryption {
    /// Every supported algorithm, strongest recommendation first.
    pub const ALL: [Encryption; 6] = [
        Encryption::Aes256Gcm16,
        Encryption::Aes128Gcm16,
        Encryption::Chacha20Poly1305,
        Encryption::Aes256Cbc,
        Encryption::Aes192Cbc,
        Encryption::Aes128Cbc,
    ];

    /// The IANA transform id (ENCR_AES_CBC = 12, ENCR_AES_GCM_16 = 20, ENCR_CHACHA20_POLY1305 = 28).
    pub const fn iana_id(self) -> u16 {
        match self {
            Encryption::Aes128Cbc | Encryption::Aes192Cbc | Encryption::Aes256Cbc => 12,
            Encryption::Aes128Gcm16 | Encryption::Aes256Gcm16 => 20,
            Encryption::Chacha20Poly1305 => 28,
        }
    }

    /// The value of the Key Length attribute in bits; `None` where the attribute must not be sent.
    pub const fn key_bits(self) -> Option<u16> {
        match self {
            Encryption::Aes128Gcm16 | Encryption::Aes128Cbc => Some(128),
            Encryption::Aes192Cbc => Some(192),
            Encryption::Aes256Gcm16 | Encryption::Aes256Cbc => Some(256),
            // The cipher has one key length, so there is nothing to tell (RFC 7634 §4, RFC 7296 §3.3.5).
            Encryption::Chacha20Poly1305 => None,
        }
    }

    /// The algorithm of a received transform: its id and its Key Length attribute.
    ///
    /// `None` if it is unknown, if the attribute is missing where it is required, or present where it is forbidden
    /// (RFC 7296 §3.3.5).
    pub fn from_iana(id: u16, key_bits: Option<u16>) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|e| e.iana_id() == id && e.key_bits() == key_bits)
    }

    /// The algorithm that an id and the length of its key material (salt included) in octets denote.
    pub fn from_key_len(id: u16, key_len: usize) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|e| e.iana_id() == id && e.key_len() == key_len)
    }

    /// Octets of key material taken from KEYMAT, salt included.
    pub const fn key_len(self) -> usize {
        self.cipher_key_len() + self.salt_len()
    }

    /// Octets of the cipher's key proper, without the salt.
    pub const fn cipher_key_len(self) -> usize {
        match self {
            Encryption::Aes128Gcm16 | Encryption::Aes128Cbc => 16,
            Encryption::Aes192Cbc => 24,
            Encryption::Aes256Gcm16 | Encryption::Aes256Cbc | Encryption::Chacha20Poly1305 => 32,
        }
    }

    /// Octets of salt at the end of the key material (4 for the AEAD ciphers, otherwise 0).
    pub const fn salt_len(self) -> usize {
        if self.is_aead() { 4 } else { 0 }
    }

    /// Octets of the IV that travels in front of the ciphertext.
    pub const fn iv_len(self) -> usize {
        if self.is_aead() { 8 } else { 16 }
    }

    /// The plaintext length must be a multiple of this many octets (1 for the AEAD ciphers).
    pub const fn block_len(self) -> usize {
        if self.is_aead() { 1 } else { 16 }
    }

    /// Octets of the ICV that the cipher itself makes (0 if a separate integrity algorithm is needed).
    pub const fn icv_len(self) -> usize {
        if self.is_aead() { 16 } else { 0 }
    }

    /// Whether the cipher authenticates by itself, so that no integrity algorithm is negotiated (RFC 5282 §8).
    pub const fn is_aead(self) -> bool {
        matches!(
            self,
            Encryption::Aes128Gcm16 | Encryption::Aes256Gcm16 | Encryption::Chacha20Poly1305
        )
    }

    /// The name in the IANA registry, without the key length.
    pub const fn iana_name(self) -> &'static str {
        match self {
            Encryption::Aes128Cbc | Encryption::Aes192Cbc | Encryption::Aes256Cbc => "ENCR_AES_CBC",
            Encryption::Aes128Gcm16 | Encryption::Aes256Gcm16 => "ENCR_AES_GCM_16",
            Encryption::Chacha20Poly1305 => "ENCR_CHACHA20_POLY1305",
        }
    }

    /// The full name in ipsec.conf, with the key length.
    pub const fn ipsec_conf_name(self) -> &'static str {
        match self {
            Encryption::Aes128Gcm16 => "aes_gcm_16_128",
            Encryption::Aes256Gcm16 => "aes_gcm_16_256",
            Encryption::Chacha20Poly1305 => "chacha20_poly1305",
            Encryption::Aes128Cbc => "aes_cbc_128",
            Encryption::Aes192Cbc => "aes_cbc_192",
            Encryption::Aes256Cbc => "aes_cbc_256",
        }
    }

    /// The name in swanctl.conf.
    pub const fn strongswan_name(self) -> &'static str {
        match self {
            Encryption::Aes128Gcm16 => "aes128gcm16",
            Encryption::Aes256Gcm16 => "aes256gcm16",
            Encryption::Chacha20Poly1305 => "chacha20poly1305",
            Encryption::Aes128Cbc => "aes128",
            Encryption::Aes192Cbc => "aes192",
            Encryption::Aes256Cbc => "aes256",
        }
    }

    /// The name in Wireshark's `ikev2_decryption_table`; `None` for ChaCha20-Poly1305, which Wireshark cannot decrypt in
    /// IKE. (A row with a name that it does not know makes it refuse the whole table.)
    pub const fn wireshark_ike_name(self) -> Option<&'static str> {
        match self {
            Encryption::Aes128Gcm16 => Some("AES-GCM-128 with 16 octet ICV [RFC5282]"),
            Encryption::Aes256Gcm16 => Some("AES-GCM-256 with 16 octet ICV [RFC5282]"),
            Encryption::Chacha20Poly1305 => None,
            Encryption::Aes128Cbc => Some("AES-CBC-128 [RFC3602]"),
            Encryption::Aes192Cbc => Some("AES-CBC-192 [RFC3602]"),
            Encryption::Aes256Cbc => Some("AES-CBC-256 [RFC3602]"),
        }
    }

    /// The name in Wireshark's `esp_sa` table. Wireshark 4.0 does not know that of ChaCha20-Poly1305, later ones do.
    pub const fn wireshark_esp_name(self) -> &'static str {
        match self {
            Encryption::Aes128Gcm16 | Encryption::Aes256Gcm16 => {
                "AES-GCM with 16 octet ICV [RFC4106]"
            }
            Encryption::Chacha20Poly1305 => "ChaCha20 with Poly1305 [RFC7634]",
            Encryption::Aes128Cbc | Encryption::Aes192Cbc | Encryption::Aes256Cbc => {
                "AES-CBC [RFC3602]"
            }
        }
    }
}

/// The name people know, for logs and status: `AES_GCM_16_256`.
impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encryption::Aes128Gcm16 => "AES_GCM_16_128",
            Encryption::Aes256Gcm16 => "AES_GCM_16_256",
            Encryption::Chacha20Poly1305 => "CHACHA20_POLY1305",
            Encryption::Aes128Cbc => "AES_CBC_128",
            Encryption::Aes192Cbc => "AES_CBC_192",
            Encryption::Aes256Cbc => "AES_CBC_256",
        })
    }
}
