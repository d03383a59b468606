//! Encryption algorithms (transform type 1).

use std::fmt;

/// What makes the ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Gcm,
    Ccm,
    Chacha20Poly1305,
    Gmac,
    AesCbc,
    AesCtr,
    CamelliaCbc,
    TripleDesCbc,
    Null,
}

/// One row of the table below.
struct Spec {
    id: u16,
    iana_name: &'static str,
    key_bits: Option<u16>,
    cipher_key_len: usize,
    salt_len: usize,
    iv_len: usize,
    block_len: usize,
    icv_len: usize,
    kind: Kind,
    name: &'static str,
    ipsec_conf_name: &'static str,
    strongswan_name: &'static str,
    wireshark_ike_name: Option<&'static str>,
    wireshark_esp_name: Option<&'static str>,
}

/// `Variant = id, IANA name, Key Length attribute, octets of key, salt, IV on the wire, block and own ICV, kind,
/// name in logs, in ipsec.conf, in swanctl.conf, in Wireshark's table for IKE, in that for ESP;`
macro_rules! encryption {
    ($(
        #[doc = $doc:literal]
        $variant:ident = $id:literal, $iana:literal, $bits:expr,
            key $key:literal, salt $salt:literal, iv $iv:literal, block $block:literal, icv $icv:literal, $kind:ident,
            $name:literal, $conf:literal, $swan:literal, $ws_ike:expr, $ws_esp:expr;
    )*) => {
        /// An encryption algorithm with its key length (transform type 1, ENCR).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Encryption {
            $(#[doc = $doc] $variant,)*
        }

        impl Encryption {
            /// Every supported algorithm.
            pub const ALL: [Encryption; [$($id),*].len()] = [$(Encryption::$variant),*];

            const fn spec(self) -> &'static Spec {
                match self {
                    $(Encryption::$variant => &Spec {
                        id: $id,
                        iana_name: $iana,
                        key_bits: $bits,
                        cipher_key_len: $key,
                        salt_len: $salt,
                        iv_len: $iv,
                        block_len: $block,
                        icv_len: $icv,
                        kind: Kind::$kind,
                        name: $name,
                        ipsec_conf_name: $conf,
                        strongswan_name: $swan,
                        wireshark_ike_name: $ws_ike,
                        wireshark_esp_name: $ws_esp,
                    },)*
                }
            }
        }
    };
}

encryption! {
    /// AES-GCM with a 16-octet ICV, 256-bit key (RFC 4106 for ESP, RFC 5282 for IKE).
    Aes256Gcm16 = 20, "ENCR_AES_GCM_16", Some(256),
        key 32, salt 4, iv 8, block 1, icv 16, Gcm,
        "AES_GCM_16_256", "aes_gcm_16_256", "aes256gcm16", Some("AES-GCM-256 with 16 octet ICV [RFC5282]"), Some("AES-GCM with 16 octet ICV [RFC4106]");
    /// AES-GCM with a 16-octet ICV, 192-bit key (RFC 4106 for ESP, RFC 5282 for IKE).
    Aes192Gcm16 = 20, "ENCR_AES_GCM_16", Some(192),
        key 24, salt 4, iv 8, block 1, icv 16, Gcm,
        "AES_GCM_16_192", "aes_gcm_16_192", "aes192gcm16", Some("AES-GCM-192 with 16 octet ICV [RFC5282]"), Some("AES-GCM with 16 octet ICV [RFC4106]");
    /// AES-GCM with a 16-octet ICV, 128-bit key (RFC 4106 for ESP, RFC 5282 for IKE).
    Aes128Gcm16 = 20, "ENCR_AES_GCM_16", Some(128),
        key 16, salt 4, iv 8, block 1, icv 16, Gcm,
        "AES_GCM_16_128", "aes_gcm_16_128", "aes128gcm16", Some("AES-GCM-128 with 16 octet ICV [RFC5282]"), Some("AES-GCM with 16 octet ICV [RFC4106]");
    /// AES-GCM with a 12-octet ICV, 256-bit key (RFC 4106 for ESP, RFC 5282 for IKE).
    Aes256Gcm12 = 19, "ENCR_AES_GCM_12", Some(256),
        key 32, salt 4, iv 8, block 1, icv 12, Gcm,
        "AES_GCM_12_256", "aes_gcm_12_256", "aes256gcm12", Some("AES-GCM-256 with 12 octet ICV [RFC5282]"), Some("AES-GCM with 12 octet ICV [RFC4106]");
    /// AES-GCM with a 12-octet ICV, 192-bit key (RFC 4106 for ESP, RFC 5282 for IKE).
    Aes192Gcm12 = 19, "ENCR_AES_GCM_12", Some(192),
        key 24, salt 4, iv 8, block 1, icv 12, Gcm,
        "AES_GCM_12_192", "aes_gcm_12_192", "aes192gcm12", Some("AES-GCM-192 with 12 octet ICV [RFC5282]"), Some("AES-GCM with 12 octet ICV [RFC4106]");
    /// AES-GCM with a 12-octet ICV, 128-bit key (RFC 4106 for ESP, RFC 5282 for IKE).
    Aes128Gcm12 = 19, "ENCR_AES_GCM_12", Some(128),
        key 16, salt 4, iv 8, block 1, icv 12, Gcm,
        "AES_GCM_12_128", "aes_gcm_12_128", "aes128gcm12", Some("AES-GCM-128 with 12 octet ICV [RFC5282]"), Some("AES-GCM with 12 octet ICV [RFC4106]");
    /// AES-GCM with a 8-octet ICV, 256-bit key (RFC 4106 for ESP, RFC 5282 for IKE).
    Aes256Gcm8 = 18, "ENCR_AES_GCM_8", Some(256),
        key 32, salt 4, iv 8, block 1, icv 8, Gcm,
        "AES_GCM_8_256", "aes_gcm_8_256", "aes256gcm8", Some("AES-GCM-256 with 8 octet ICV [RFC5282]"), Some("AES-GCM with 8 octet ICV [RFC4106]");
    /// AES-GCM with a 8-octet ICV, 192-bit key (RFC 4106 for ESP, RFC 5282 for IKE).
    Aes192Gcm8 = 18, "ENCR_AES_GCM_8", Some(192),
        key 24, salt 4, iv 8, block 1, icv 8, Gcm,
        "AES_GCM_8_192", "aes_gcm_8_192", "aes192gcm8", Some("AES-GCM-192 with 8 octet ICV [RFC5282]"), Some("AES-GCM with 8 octet ICV [RFC4106]");
    /// AES-GCM with a 8-octet ICV, 128-bit key (RFC 4106 for ESP, RFC 5282 for IKE).
    Aes128Gcm8 = 18, "ENCR_AES_GCM_8", Some(128),
        key 16, salt 4, iv 8, block 1, icv 8, Gcm,
        "AES_GCM_8_128", "aes_gcm_8_128", "aes128gcm8", Some("AES-GCM-128 with 8 octet ICV [RFC5282]"), Some("AES-GCM with 8 octet ICV [RFC4106]");
    /// AES-CCM with a 16-octet ICV, 256-bit key (RFC 4309 for ESP, RFC 5282 for IKE).
    Aes256Ccm16 = 16, "ENCR_AES_CCM_16", Some(256),
        key 32, salt 3, iv 8, block 1, icv 16, Ccm,
        "AES_CCM_16_256", "aes_ccm_16_256", "aes256ccm16", Some("AES-CCM-256 with 16 octet ICV [RFC5282]"), None;
    /// AES-CCM with a 16-octet ICV, 192-bit key (RFC 4309 for ESP, RFC 5282 for IKE).
    Aes192Ccm16 = 16, "ENCR_AES_CCM_16", Some(192),
        key 24, salt 3, iv 8, block 1, icv 16, Ccm,
        "AES_CCM_16_192", "aes_ccm_16_192", "aes192ccm16", Some("AES-CCM-192 with 16 octet ICV [RFC5282]"), None;
    /// AES-CCM with a 16-octet ICV, 128-bit key (RFC 4309 for ESP, RFC 5282 for IKE).
    Aes128Ccm16 = 16, "ENCR_AES_CCM_16", Some(128),
        key 16, salt 3, iv 8, block 1, icv 16, Ccm,
        "AES_CCM_16_128", "aes_ccm_16_128", "aes128ccm16", Some("AES-CCM-128 with 16 octet ICV [RFC5282]"), None;
    /// AES-CCM with a 12-octet ICV, 256-bit key (RFC 4309 for ESP, RFC 5282 for IKE).
    Aes256Ccm12 = 15, "ENCR_AES_CCM_12", Some(256),
        key 32, salt 3, iv 8, block 1, icv 12, Ccm,
        "AES_CCM_12_256", "aes_ccm_12_256", "aes256ccm12", Some("AES-CCM-256 with 12 octet ICV [RFC5282]"), None;
    /// AES-CCM with a 12-octet ICV, 192-bit key (RFC 4309 for ESP, RFC 5282 for IKE).
    Aes192Ccm12 = 15, "ENCR_AES_CCM_12", Some(192),
        key 24, salt 3, iv 8, block 1, icv 12, Ccm,
        "AES_CCM_12_192", "aes_ccm_12_192", "aes192ccm12", Some("AES-CCM-192 with 12 octet ICV [RFC5282]"), None;
    /// AES-CCM with a 12-octet ICV, 128-bit key (RFC 4309 for ESP, RFC 5282 for IKE).
    Aes128Ccm12 = 15, "ENCR_AES_CCM_12", Some(128),
        key 16, salt 3, iv 8, block 1, icv 12, Ccm,
        "AES_CCM_12_128", "aes_ccm_12_128", "aes128ccm12", Some("AES-CCM-128 with 12 octet ICV [RFC5282]"), None;
    /// AES-CCM with a 8-octet ICV, 256-bit key (RFC 4309 for ESP, RFC 5282 for IKE).
    Aes256Ccm8 = 14, "ENCR_AES_CCM_8", Some(256),
        key 32, salt 3, iv 8, block 1, icv 8, Ccm,
        "AES_CCM_8_256", "aes_ccm_8_256", "aes256ccm8", Some("AES-CCM-256 with 8 octet ICV [RFC5282]"), None;
    /// AES-CCM with a 8-octet ICV, 192-bit key (RFC 4309 for ESP, RFC 5282 for IKE).
    Aes192Ccm8 = 14, "ENCR_AES_CCM_8", Some(192),
        key 24, salt 3, iv 8, block 1, icv 8, Ccm,
        "AES_CCM_8_192", "aes_ccm_8_192", "aes192ccm8", Some("AES-CCM-192 with 8 octet ICV [RFC5282]"), None;
    /// AES-CCM with a 8-octet ICV, 128-bit key (RFC 4309 for ESP, RFC 5282 for IKE).
    Aes128Ccm8 = 14, "ENCR_AES_CCM_8", Some(128),
        key 16, salt 3, iv 8, block 1, icv 8, Ccm,
        "AES_CCM_8_128", "aes_ccm_8_128", "aes128ccm8", Some("AES-CCM-128 with 8 octet ICV [RFC5282]"), None;
    /// ChaCha20-Poly1305 (RFC 7634).
    Chacha20Poly1305 = 28, "ENCR_CHACHA20_POLY1305", None,
        key 32, salt 4, iv 8, block 1, icv 16, Chacha20Poly1305,
        "CHACHA20_POLY1305", "chacha20_poly1305", "chacha20poly1305", None, Some("ChaCha20 with Poly1305 [RFC7634]");
    /// AES-CBC, 256-bit key (RFC 3602).
    Aes256Cbc = 12, "ENCR_AES_CBC", Some(256),
        key 32, salt 0, iv 16, block 16, icv 0, AesCbc,
        "AES_CBC_256", "aes_cbc_256", "aes256", Some("AES-CBC-256 [RFC3602]"), Some("AES-CBC [RFC3602]");
    /// AES-CBC, 192-bit key (RFC 3602).
    Aes192Cbc = 12, "ENCR_AES_CBC", Some(192),
        key 24, salt 0, iv 16, block 16, icv 0, AesCbc,
        "AES_CBC_192", "aes_cbc_192", "aes192", Some("AES-CBC-192 [RFC3602]"), Some("AES-CBC [RFC3602]");
    /// AES-CBC, 128-bit key (RFC 3602).
    Aes128Cbc = 12, "ENCR_AES_CBC", Some(128),
        key 16, salt 0, iv 16, block 16, icv 0, AesCbc,
        "AES_CBC_128", "aes_cbc_128", "aes128", Some("AES-CBC-128 [RFC3602]"), Some("AES-CBC [RFC3602]");
    /// AES-CTR, 256-bit key (RFC 3686 for ESP, RFC 5930 for IKE).
    Aes256Ctr = 13, "ENCR_AES_CTR", Some(256),
        key 32, salt 4, iv 8, block 1, icv 0, AesCtr,
        "AES_CTR_256", "aes_ctr_256", "aes256ctr", Some("AES-CTR-256 [RFC5930]"), Some("AES-CTR [RFC3686]");
    /// AES-CTR, 192-bit key (RFC 3686 for ESP, RFC 5930 for IKE).
    Aes192Ctr = 13, "ENCR_AES_CTR", Some(192),
        key 24, salt 4, iv 8, block 1, icv 0, AesCtr,
        "AES_CTR_192", "aes_ctr_192", "aes192ctr", Some("AES-CTR-192 [RFC5930]"), Some("AES-CTR [RFC3686]");
    /// AES-CTR, 128-bit key (RFC 3686 for ESP, RFC 5930 for IKE).
    Aes128Ctr = 13, "ENCR_AES_CTR", Some(128),
        key 16, salt 4, iv 8, block 1, icv 0, AesCtr,
        "AES_CTR_128", "aes_ctr_128", "aes128ctr", Some("AES-CTR-128 [RFC5930]"), Some("AES-CTR [RFC3686]");
    /// Camellia-CBC, 256-bit key (RFC 5529 §2.1, RFC 4312).
    Camellia256Cbc = 23, "ENCR_CAMELLIA_CBC", Some(256),
        key 32, salt 0, iv 16, block 16, icv 0, CamelliaCbc,
        "CAMELLIA_CBC_256", "camellia_cbc_256", "camellia256", None, None;
    /// Camellia-CBC, 192-bit key (RFC 5529 §2.1, RFC 4312).
    Camellia192Cbc = 23, "ENCR_CAMELLIA_CBC", Some(192),
        key 24, salt 0, iv 16, block 16, icv 0, CamelliaCbc,
        "CAMELLIA_CBC_192", "camellia_cbc_192", "camellia192", None, None;
    /// Camellia-CBC, 128-bit key (RFC 5529 §2.1, RFC 4312).
    Camellia128Cbc = 23, "ENCR_CAMELLIA_CBC", Some(128),
        key 16, salt 0, iv 16, block 16, icv 0, CamelliaCbc,
        "CAMELLIA_CBC_128", "camellia_cbc_128", "camellia128", None, None;
    /// Triple DES in CBC mode (RFC 2451). Weak: 64-bit blocks.
    TripleDesCbc = 3, "ENCR_3DES", None,
        key 24, salt 0, iv 8, block 8, icv 0, TripleDesCbc,
        "3DES_CBC", "3des", "3des", Some("3DES [RFC2451]"), Some("TripleDES-CBC [RFC2451]");
    /// Authentication without encryption by AES-GMAC, 256-bit key, in ESP only (RFC 4543).
    Aes256Gmac = 21, "ENCR_NULL_AUTH_AES_GMAC", Some(256),
        key 32, salt 4, iv 8, block 1, icv 16, Gmac,
        "NULL_AUTH_AES_GMAC_256", "null_auth_aes_gmac_256", "aes256gmac", None, None;
    /// Authentication without encryption by AES-GMAC, 192-bit key, in ESP only (RFC 4543).
    Aes192Gmac = 21, "ENCR_NULL_AUTH_AES_GMAC", Some(192),
        key 24, salt 4, iv 8, block 1, icv 16, Gmac,
        "NULL_AUTH_AES_GMAC_192", "null_auth_aes_gmac_192", "aes192gmac", None, None;
    /// Authentication without encryption by AES-GMAC, 128-bit key, in ESP only (RFC 4543).
    Aes128Gmac = 21, "ENCR_NULL_AUTH_AES_GMAC", Some(128),
        key 16, salt 4, iv 8, block 1, icv 16, Gmac,
        "NULL_AUTH_AES_GMAC_128", "null_auth_aes_gmac_128", "aes128gmac", None, None;
    /// No encryption, in ESP only and with an integrity algorithm (RFC 2410).
    Null = 11, "ENCR_NULL", None,
        key 0, salt 0, iv 0, block 1, icv 0, Null,
        "NULL", "null", "null", None, Some("NULL");
    /// AES-GCM with a 16-octet ICV and implicit IV, 256-bit key, in ESP only (RFC 8750).
    Aes256Gcm16Iiv = 30, "ENCR_AES_GCM_16_IIV", Some(256),
        key 32, salt 4, iv 0, block 1, icv 16, Gcm,
        "AES_GCM_16_IIV_256", "aes_gcm_16_iiv_256", "aes256gcm16iiv", None, None;
    /// AES-GCM with a 16-octet ICV and implicit IV, 192-bit key, in ESP only (RFC 8750).
    Aes192Gcm16Iiv = 30, "ENCR_AES_GCM_16_IIV", Some(192),
        key 24, salt 4, iv 0, block 1, icv 16, Gcm,
        "AES_GCM_16_IIV_192", "aes_gcm_16_iiv_192", "aes192gcm16iiv", None, None;
    /// AES-GCM with a 16-octet ICV and implicit IV, 128-bit key, in ESP only (RFC 8750).
    Aes128Gcm16Iiv = 30, "ENCR_AES_GCM_16_IIV", Some(128),
        key 16, salt 4, iv 0, block 1, icv 16, Gcm,
        "AES_GCM_16_IIV_128", "aes_gcm_16_iiv_128", "aes128gcm16iiv", None, None;
    /// AES-CCM with an 8-octet ICV and implicit IV, 256-bit key, in ESP only (RFC 8750).
    Aes256Ccm8Iiv = 29, "ENCR_AES_CCM_8_IIV", Some(256),
        key 32, salt 3, iv 0, block 1, icv 8, Ccm,
        "AES_CCM_8_IIV_256", "aes_ccm_8_iiv_256", "aes256ccm8iiv", None, None;
    /// AES-CCM with an 8-octet ICV and implicit IV, 192-bit key, in ESP only (RFC 8750).
    Aes192Ccm8Iiv = 29, "ENCR_AES_CCM_8_IIV", Some(192),
        key 24, salt 3, iv 0, block 1, icv 8, Ccm,
        "AES_CCM_8_IIV_192", "aes_ccm_8_iiv_192", "aes192ccm8iiv", None, None;
    /// AES-CCM with an 8-octet ICV and implicit IV, 128-bit key, in ESP only (RFC 8750).
    Aes128Ccm8Iiv = 29, "ENCR_AES_CCM_8_IIV", Some(128),
        key 16, salt 3, iv 0, block 1, icv 8, Ccm,
        "AES_CCM_8_IIV_128", "aes_ccm_8_iiv_128", "aes128ccm8iiv", None, None;
    /// ChaCha20-Poly1305 with implicit IV, in ESP only (RFC 8750).
    Chacha20Poly1305Iiv = 31, "ENCR_CHACHA20_POLY1305_IIV", None,
        key 32, salt 4, iv 0, block 1, icv 16, Chacha20Poly1305,
        "CHACHA20_POLY1305_IIV", "chacha20_poly1305_iiv", "chacha20poly1305iiv", None, None;
}

impl Encryption {
    /// The IANA transform id (ENCR_AES_CBC = 12, ENCR_AES_GCM_16 = 20, ENCR_CHACHA20_POLY1305 = 28, …).
    pub const fn iana_id(self) -> u16 {
        self.spec().id
    }

    /// The value of the Key Length attribute in bits; `None` where the attribute must not be sent, since the cipher has
    /// one key length (RFC 7296 §3.3.5).
    pub const fn key_bits(self) -> Option<u16> {
        self.spec().key_bits
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
        self.spec().cipher_key_len
    }

    /// Octets of salt at the end of the key material: what of the nonce does not travel (RFC 4106 §4, RFC 4309 §4,
    /// RFC 3686 §4, RFC 7634 §2).
    pub const fn salt_len(self) -> usize {
        self.spec().salt_len
    }

    /// Octets of the IV that travels in front of the ciphertext: none if it is implicit or there is none.
    pub const fn iv_len(self) -> usize {
        self.spec().iv_len
    }

    /// The plaintext length must be a multiple of this many octets (1 for everything but block ciphers in CBC mode).
    pub const fn block_len(self) -> usize {
        self.spec().block_len
    }

    /// Octets of the ICV that the cipher itself makes (0 if a separate integrity algorithm is needed).
    pub const fn icv_len(self) -> usize {
        self.spec().icv_len
    }

    /// Whether the cipher authenticates by itself, so that no integrity algorithm is negotiated (RFC 5282 §8).
    pub const fn is_aead(self) -> bool {
        self.icv_len() != 0
    }

    /// Whether the IV follows from the sequence number and does not travel (RFC 8750), which the kernel does not do.
    pub const fn has_implicit_iv(self) -> bool {
        self.is_aead() && self.iv_len() == 0
    }

    /// Whether IKE messages can be protected with it; ESP packets can with each.
    pub const fn is_for_ike(self) -> bool {
        //= rfc8750#7
        //# these transforms are
        //# defined for ESP only and cannot be used in IKEv2.
        !matches!(self.kind(), Kind::Gmac | Kind::Null) && !self.has_implicit_iv()
    }

    /// Why it is weak, for a warning; `None` if it is not.
    pub const fn weakness(self) -> Option<&'static str> {
        match self.kind() {
            Kind::TripleDesCbc => Some("triple DES has 64-bit blocks (RFC 8221: SHOULD NOT)"),
            _ => None,
        }
    }

    /// What makes the ciphertext.
    pub(crate) const fn kind(self) -> Kind {
        self.spec().kind
    }

    /// The name in the IANA registry.
    pub const fn iana_name(self) -> &'static str {
        self.spec().iana_name
    }

    /// The full name in ipsec.conf, with the key length.
    pub const fn ipsec_conf_name(self) -> &'static str {
        self.spec().ipsec_conf_name
    }

    /// The name in swanctl.conf.
    pub const fn strongswan_name(self) -> &'static str {
        self.spec().strongswan_name
    }

    /// The name in Wireshark's `ikev2_decryption_table`; `None` for what Wireshark cannot decrypt in IKE. (A row with a name
    /// that it does not know makes it refuse the whole table.)
    pub const fn wireshark_ike_name(self) -> Option<&'static str> {
        self.spec().wireshark_ike_name
    }

    /// The name in Wireshark's `esp_sa` table; `None` for what it cannot decrypt. Wireshark 4.0 does not know that of
    /// ChaCha20-Poly1305, later ones do.
    pub const fn wireshark_esp_name(self) -> Option<&'static str> {
        self.spec().wireshark_esp_name
    }
}

/// The name people know, for logs and status: `AES_GCM_16_256`.
impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().name)
    }
}
