//! Key exchange methods (transform type 4).

use std::fmt;

/// A key exchange method (transform type 4, KE; formerly "Diffie-Hellman group").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyExchange {
    /// 1024-bit MODP group (RFC 2409 §6.2). Weak.
    Modp1024 = 2,
    /// 1536-bit MODP group (RFC 3526). Weak.
    Modp1536 = 5,
    /// 2048-bit MODP group (RFC 3526).
    Modp2048 = 14,
    /// 3072-bit MODP group (RFC 3526).
    Modp3072 = 15,
    /// 4096-bit MODP group (RFC 3526).
    Modp4096 = 16,
    /// 6144-bit MODP group (RFC 3526).
    Modp6144 = 17,
    /// 8192-bit MODP group (RFC 3526).
    Modp8192 = 18,
    /// 256-bit random ECP group, NIST P-256 (RFC 5903).
    Ecp256 = 19,
    /// 384-bit random ECP group, NIST P-384 (RFC 5903).
    Ecp384 = 20,
    /// 521-bit random ECP group, NIST P-521 (RFC 5903).
    Ecp521 = 21,
    /// Curve25519 (RFC 8031).
    X25519 = 31,
    /// ML-KEM-512 (FIPS 203; draft-ietf-ipsecme-ikev2-mlkem).
    MlKem512 = 35,
    /// ML-KEM-768 (FIPS 203; draft-ietf-ipsecme-ikev2-mlkem).
    MlKem768 = 36,
    /// ML-KEM-1024 (FIPS 203; draft-ietf-ipsecme-ikev2-mlkem).
    MlKem1024 = 37,
}

impl KeyExchange {
    /// Every supported method.
    pub const ALL: [KeyExchange; 14] = [
        KeyExchange::X25519,
        KeyExchange::Ecp256,
        KeyExchange::Ecp384,
        KeyExchange::Ecp521,
        KeyExchange::Modp3072,
        KeyExchange::Modp4096,
        KeyExchange::Modp2048,
        KeyExchange::Modp6144,
        KeyExchange::Modp8192,
        KeyExchange::Modp1536,
        KeyExchange::Modp1024,
        KeyExchange::MlKem512,
        KeyExchange::MlKem768,
        KeyExchange::MlKem1024,
    ];

    /// Whether it is a key encapsulation: the responder's value is made from the initiator's, with the secret.
    pub fn is_kem(self) -> bool {
        matches!(self, Self::MlKem512 | Self::MlKem768 | Self::MlKem1024)
    }

    /// What a proposal that names no method offers, in order of preference.
    pub const DEFAULT: [KeyExchange; 7] = [
        KeyExchange::X25519,
        KeyExchange::Ecp256,
        KeyExchange::Ecp384,
        KeyExchange::Ecp521,
        KeyExchange::Modp3072,
        KeyExchange::Modp4096,
        KeyExchange::Modp2048,
    ];

    /// The IANA transform id.
    pub const fn iana_id(self) -> u16 {
        self as u16
    }

    /// The method of a transform id.
    pub fn from_iana(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.iana_id() == id)
    }

    /// Octets of the Key Exchange Data that the initiator of an exchange sends: its public value, or its encapsulation
    /// key (FIPS 203 table 3).
    pub const fn initiator_public_len(self) -> usize {
        match self {
            KeyExchange::MlKem512 => 800,
            KeyExchange::MlKem768 => 1184,
            KeyExchange::MlKem1024 => 1568,
            KeyExchange::Modp2048 => 256,
            KeyExchange::Modp3072 => 384,
            KeyExchange::Modp4096 => 512,
            KeyExchange::Modp1024 => 128,
            KeyExchange::Modp1536 => 192,
            KeyExchange::Modp6144 => 768,
            KeyExchange::Modp8192 => 1024,
            KeyExchange::Ecp256 => 64,
            KeyExchange::Ecp384 => 96,
            KeyExchange::Ecp521 => 132,
            KeyExchange::X25519 => 32,
        }
    }

    /// Octets of the Key Exchange Data that the responder of an exchange sends: its public value, or the ciphertext
    /// (FIPS 203 table 3).
    pub const fn responder_public_len(self) -> usize {
        match self {
            KeyExchange::MlKem512 => 768,
            KeyExchange::MlKem768 => 1088,
            KeyExchange::MlKem1024 => 1568,
            _ => self.initiator_public_len(),
        }
    }

    /// Octets of the shared secret g^ir as it enters the key schedule.
    pub const fn shared_len(self) -> usize {
        match self {
            KeyExchange::Modp1024
            | KeyExchange::Modp1536
            | KeyExchange::Modp2048
            | KeyExchange::Modp3072
            | KeyExchange::Modp4096
            | KeyExchange::Modp6144
            | KeyExchange::Modp8192 => self.initiator_public_len(),
            // The x coordinate alone (RFC 5903 §7).
            KeyExchange::Ecp256 | KeyExchange::Ecp384 | KeyExchange::Ecp521 => {
                self.initiator_public_len() / 2
            }
            KeyExchange::X25519
            | KeyExchange::MlKem512
            | KeyExchange::MlKem768
            | KeyExchange::MlKem1024 => 32,
        }
    }

    /// Why it is weak, for a warning; `None` if it is not.
    pub const fn weakness(self) -> Option<&'static str> {
        match self {
            KeyExchange::Modp1024 => {
                Some("a 1024-bit MODP group can be broken (RFC 8247: SHOULD NOT)")
            }
            KeyExchange::Modp1536 => {
                Some("a 1536-bit MODP group is too small (RFC 8247: SHOULD NOT)")
            }
            _ => None,
        }
    }

    /// The name in the IANA registry.
    pub const fn iana_name(self) -> &'static str {
        match self {
            KeyExchange::Modp2048 => "2048-bit MODP Group",
            KeyExchange::Modp3072 => "3072-bit MODP Group",
            KeyExchange::Modp4096 => "4096-bit MODP Group",
            KeyExchange::Modp1024 => "1024-bit MODP Group",
            KeyExchange::Modp1536 => "1536-bit MODP Group",
            KeyExchange::Modp6144 => "6144-bit MODP Group",
            KeyExchange::Modp8192 => "8192-bit MODP Group",
            KeyExchange::Ecp256 => "256-bit random ECP group",
            KeyExchange::Ecp384 => "384-bit random ECP group",
            KeyExchange::Ecp521 => "521-bit random ECP group",
            KeyExchange::X25519 => "Curve25519",
            KeyExchange::MlKem512 => "ml-kem-512",
            KeyExchange::MlKem768 => "ml-kem-768",
            KeyExchange::MlKem1024 => "ml-kem-1024",
        }
    }

    /// The usual name in ipsec.conf.
    pub const fn ipsec_conf_name(self) -> &'static str {
        match self {
            KeyExchange::Modp2048 => "dh14",
            KeyExchange::Modp3072 => "dh15",
            KeyExchange::Modp4096 => "dh16",
            KeyExchange::Modp1024 => "dh2",
            KeyExchange::Modp1536 => "dh5",
            KeyExchange::Modp6144 => "dh17",
            KeyExchange::Modp8192 => "dh18",
            KeyExchange::Ecp256 => "dh19",
            KeyExchange::Ecp384 => "dh20",
            KeyExchange::Ecp521 => "dh21",
            KeyExchange::X25519 => "dh31",
            KeyExchange::MlKem512 => "ml_kem_512",
            KeyExchange::MlKem768 => "ml_kem_768",
            KeyExchange::MlKem1024 => "ml_kem_1024",
        }
    }

    /// The name in swanctl.conf.
    pub const fn strongswan_name(self) -> &'static str {
        match self {
            KeyExchange::Modp2048 => "modp2048",
            KeyExchange::Modp3072 => "modp3072",
            KeyExchange::Modp4096 => "modp4096",
            KeyExchange::Modp1024 => "modp1024",
            KeyExchange::Modp1536 => "modp1536",
            KeyExchange::Modp6144 => "modp6144",
            KeyExchange::Modp8192 => "modp8192",
            KeyExchange::Ecp256 => "ecp256",
            KeyExchange::Ecp384 => "ecp384",
            KeyExchange::Ecp521 => "ecp521",
            KeyExchange::X25519 => "x25519",
            KeyExchange::MlKem512 => "mlkem512",
            KeyExchange::MlKem768 => "mlkem768",
            KeyExchange::MlKem1024 => "mlkem1024",
        }
    }
}

/// The name people know, for logs and status: `MODP2048`, `ECP_256`, `X25519`.
impl fmt::Display for KeyExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyExchange::Modp2048 => "MODP2048",
            KeyExchange::Modp3072 => "MODP3072",
            KeyExchange::Modp4096 => "MODP4096",
            KeyExchange::Modp1024 => "MODP1024",
            KeyExchange::Modp1536 => "MODP1536",
            KeyExchange::Modp6144 => "MODP6144",
            KeyExchange::Modp8192 => "MODP8192",
            KeyExchange::Ecp256 => "ECP_256",
            KeyExchange::Ecp384 => "ECP_384",
            KeyExchange::Ecp521 => "ECP_521",
            KeyExchange::X25519 => "X25519",
            KeyExchange::MlKem512 => "ML_KEM_512",
            KeyExchange::MlKem768 => "ML_KEM_768",
            KeyExchange::MlKem1024 => "ML_KEM_1024",
        })
    }
}
