//! Transform types, transform IDs and their attributes (RFC 7296, 3.3.2 to 3.3.5).

use super::registry;

registry! {
    /// Transform types (RFC 7296, 3.3.2). Types 6 to 12 are the additional key exchanges of RFC 9370.
    pub struct TransformType(u8) {
        1 ENCR ("RFC 7296"),
        2 PRF ("RFC 7296"),
        3 INTEG ("RFC 7296"),
        4 KE ("RFC 9370, before that D-H of RFC 7296"),
        5 ESN ("RFC 7296, renamed to sequence numbers (SN) by RFC 9827"),
        6 ADDKE1 ("RFC 9370"),
        7 ADDKE2 ("RFC 9370"),
        8 ADDKE3 ("RFC 9370"),
        9 ADDKE4 ("RFC 9370"),
        10 ADDKE5 ("RFC 9370"),
        11 ADDKE6 ("RFC 9370"),
        12 ADDKE7 ("RFC 9370"),
        13 KWA ("RFC 9838"),
        14 GCAUTH ("RFC 9838"),
    }
}

impl TransformType {
    /// The additional key exchanges in their order (RFC 9370).
    pub const ADDITIONAL_KEY_EXCHANGES: [Self; 7] = [
        Self::ADDKE1,
        Self::ADDKE2,
        Self::ADDKE3,
        Self::ADDKE4,
        Self::ADDKE5,
        Self::ADDKE6,
        Self::ADDKE7,
    ];

    /// KE or one of ADDKE1 to ADDKE7: the transform ID is a [`KeId`].
    #[must_use]
    pub const fn is_key_exchange(self) -> bool {
        matches!(self.0, 4 | 6..=12)
    }

    /// The registry's name of transform ID `id` of this type.
    #[must_use]
    pub const fn id_name(self, id: u16) -> Option<&'static str> {
        match self {
            Self::ENCR => EncrId(id).name(),
            Self::PRF => PrfId(id).name(),
            Self::INTEG => IntegId(id).name(),
            Self::ESN => EsnId(id).name(),
            Self::KWA => KeyWrapId(id).name(),
            Self::GCAUTH => GroupControllerAuthId(id).name(),
            kind if kind.is_key_exchange() => KeId(id).name(),
            _ => None,
        }
    }
}

registry! {
    /// Encryption algorithms, transform type 1.
    pub struct EncrId(u16) {
        1 DES_IV64 = "ENCR_DES_IV64" ("RFC 1827"),
        2 DES = "ENCR_DES" ("RFC 2405, deprecated by RFC 8247"),
        3 TRIPLE_DES = "ENCR_3DES" ("RFC 2451"),
        4 RC5 = "ENCR_RC5" ("RFC 2451, deprecated by RFC 9395"),
        5 IDEA = "ENCR_IDEA" ("RFC 2451, deprecated by RFC 9395"),
        6 CAST = "ENCR_CAST" ("RFC 2451, deprecated by RFC 9395"),
        7 BLOWFISH = "ENCR_BLOWFISH" ("RFC 2451, deprecated by RFC 9395"),
        8 TRIPLE_IDEA = "ENCR_3IDEA" ("RFC 2451, deprecated by RFC 9395"),
        9 DES_IV32 = "ENCR_DES_IV32" ("RFC 7296, deprecated by RFC 9395"),
        11 NULL = "ENCR_NULL" ("RFC 2410, not for IKE"),
        12 AES_CBC = "ENCR_AES_CBC" ("RFC 3602"),
        13 AES_CTR = "ENCR_AES_CTR" ("RFC 3686, RFC 5930 for IKE"),
        14 AES_CCM_8 = "ENCR_AES_CCM_8" ("RFC 4309, RFC 5282 for IKE"),
        15 AES_CCM_12 = "ENCR_AES_CCM_12" ("RFC 4309, RFC 5282 for IKE"),
        16 AES_CCM_16 = "ENCR_AES_CCM_16" ("RFC 4309, RFC 5282 for IKE"),
        18 AES_GCM_8 = "ENCR_AES_GCM_8" ("RFC 4106, RFC 5282 for IKE"),
        19 AES_GCM_12 = "ENCR_AES_GCM_12" ("RFC 4106, RFC 5282 for IKE"),
        20 AES_GCM_16 = "ENCR_AES_GCM_16" ("RFC 4106, RFC 5282 for IKE"),
        21 NULL_AUTH_AES_GMAC = "ENCR_NULL_AUTH_AES_GMAC" ("RFC 4543, not for IKE"),
        23 CAMELLIA_CBC = "ENCR_CAMELLIA_CBC" ("RFC 5529"),
        24 CAMELLIA_CTR = "ENCR_CAMELLIA_CTR" ("RFC 5529, not for IKE"),
        25 CAMELLIA_CCM_8 = "ENCR_CAMELLIA_CCM_8_ICV" ("RFC 5529, not for IKE"),
        26 CAMELLIA_CCM_12 = "ENCR_CAMELLIA_CCM_12_ICV" ("RFC 5529, not for IKE"),
        27 CAMELLIA_CCM_16 = "ENCR_CAMELLIA_CCM_16_ICV" ("RFC 5529, not for IKE"),
        28 CHACHA20_POLY1305 = "ENCR_CHACHA20_POLY1305" ("RFC 7634"),
        29 AES_CCM_8_IIV = "ENCR_AES_CCM_8_IIV" ("RFC 8750, not for IKE"),
        30 AES_GCM_16_IIV = "ENCR_AES_GCM_16_IIV" ("RFC 8750, not for IKE"),
        31 CHACHA20_POLY1305_IIV = "ENCR_CHACHA20_POLY1305_IIV" ("RFC 8750, not for IKE"),
        32 KUZNYECHIK_MGM_KTREE = "ENCR_KUZNYECHIK_MGM_KTREE" ("RFC 9227"),
        33 MAGMA_MGM_KTREE = "ENCR_MAGMA_MGM_KTREE" ("RFC 9227"),
        34 KUZNYECHIK_MGM_MAC_KTREE = "ENCR_KUZNYECHIK_MGM_MAC_KTREE" ("RFC 9227, not for IKE"),
        35 MAGMA_MGM_MAC_KTREE = "ENCR_MAGMA_MGM_MAC_KTREE" ("RFC 9227, not for IKE"),
    }
}

registry! {
    /// Pseudorandom functions, transform type 2.
    pub struct PrfId(u16) {
        1 HMAC_MD5 = "PRF_HMAC_MD5" ("RFC 2104, deprecated by RFC 8247"),
        2 HMAC_SHA1 = "PRF_HMAC_SHA1" ("RFC 2104"),
        3 HMAC_TIGER = "PRF_HMAC_TIGER" ("RFC 2104, deprecated by RFC 9395"),
        4 AES128_XCBC = "PRF_AES128_XCBC" ("RFC 4434"),
        5 HMAC_SHA2_256 = "PRF_HMAC_SHA2_256" ("RFC 4868"),
        6 HMAC_SHA2_384 = "PRF_HMAC_SHA2_384" ("RFC 4868"),
        7 HMAC_SHA2_512 = "PRF_HMAC_SHA2_512" ("RFC 4868"),
        8 AES128_CMAC = "PRF_AES128_CMAC" ("RFC 4615"),
        9 HMAC_STREEBOG_512 = "PRF_HMAC_STREEBOG_512" ("RFC 9385"),
    }
}

registry! {
    /// Integrity algorithms, transform type 3.
    pub struct IntegId(u16) {
        0 NONE ("RFC 7296"),
        1 HMAC_MD5_96 = "AUTH_HMAC_MD5_96" ("RFC 2403, deprecated by RFC 8247"),
        2 HMAC_SHA1_96 = "AUTH_HMAC_SHA1_96" ("RFC 2404"),
        3 DES_MAC = "AUTH_DES_MAC" ("RFC 7296, deprecated by RFC 8247"),
        4 KPDK_MD5 = "AUTH_KPDK_MD5" ("RFC 7296, deprecated by RFC 8247"),
        5 AES_XCBC_96 = "AUTH_AES_XCBC_96" ("RFC 3566"),
        6 HMAC_MD5_128 = "AUTH_HMAC_MD5_128" ("RFC 4595, deprecated by RFC 9395"),
        7 HMAC_SHA1_160 = "AUTH_HMAC_SHA1_160" ("RFC 4595, deprecated by RFC 9395"),
        8 AES_CMAC_96 = "AUTH_AES_CMAC_96" ("RFC 4494"),
        9 AES_128_GMAC = "AUTH_AES_128_GMAC" ("RFC 4543"),
        10 AES_192_GMAC = "AUTH_AES_192_GMAC" ("RFC 4543"),
        11 AES_256_GMAC = "AUTH_AES_256_GMAC" ("RFC 4543"),
        12 HMAC_SHA2_256_128 = "AUTH_HMAC_SHA2_256_128" ("RFC 4868"),
        13 HMAC_SHA2_384_192 = "AUTH_HMAC_SHA2_384_192" ("RFC 4868"),
        14 HMAC_SHA2_512_256 = "AUTH_HMAC_SHA2_512_256" ("RFC 4868"),
    }
}

registry! {
    /// Key exchange methods, transform types 4 and 6 to 12 and the number in a KE payload. Diffie-Hellman groups
    /// before RFC 9370.
    pub struct KeId(u16) {
        0 NONE ("RFC 7296"),
        1 MODP_768 = "768-bit MODP Group" ("RFC 7296, deprecated by RFC 8247"),
        2 MODP_1024 = "1024-bit MODP Group" ("RFC 7296"),
        5 MODP_1536 = "1536-bit MODP Group" ("RFC 3526"),
        14 MODP_2048 = "2048-bit MODP Group" ("RFC 3526"),
        15 MODP_3072 = "3072-bit MODP Group" ("RFC 3526"),
        16 MODP_4096 = "4096-bit MODP Group" ("RFC 3526"),
        17 MODP_6144 = "6144-bit MODP Group" ("RFC 3526"),
        18 MODP_8192 = "8192-bit MODP Group" ("RFC 3526"),
        19 ECP_256 = "256-bit random ECP group" ("RFC 5903"),
        20 ECP_384 = "384-bit random ECP group" ("RFC 5903"),
        21 ECP_521 = "521-bit random ECP group" ("RFC 5903"),
        22 MODP_1024_160 = "1024-bit MODP Group with 160-bit Prime Order Subgroup" ("RFC 5114, deprecated by RFC 8247"),
        23 MODP_2048_224 = "2048-bit MODP Group with 224-bit Prime Order Subgroup" ("RFC 5114"),
        24 MODP_2048_256 = "2048-bit MODP Group with 256-bit Prime Order Subgroup" ("RFC 5114"),
        25 ECP_192 = "192-bit Random ECP Group" ("RFC 5114"),
        26 ECP_224 = "224-bit Random ECP Group" ("RFC 5114"),
        27 BRAINPOOL_P224R1 = "brainpoolP224r1" ("RFC 6954"),
        28 BRAINPOOL_P256R1 = "brainpoolP256r1" ("RFC 6954"),
        29 BRAINPOOL_P384R1 = "brainpoolP384r1" ("RFC 6954"),
        30 BRAINPOOL_P512R1 = "brainpoolP512r1" ("RFC 6954"),
        31 CURVE25519 = "Curve25519" ("RFC 8031"),
        32 CURVE448 = "Curve448" ("RFC 8031"),
        33 GOST3410_2012_256 ("RFC 9385"),
        34 GOST3410_2012_512 ("RFC 9385"),
        35 ML_KEM_512 = "ml-kem-512" ("draft-ietf-ipsecme-ikev2-mlkem"),
        36 ML_KEM_768 = "ml-kem-768" ("draft-ietf-ipsecme-ikev2-mlkem"),
        37 ML_KEM_1024 = "ml-kem-1024" ("draft-ietf-ipsecme-ikev2-mlkem"),
    }
}

registry! {
    /// Sequence numbers of ESP and AH, transform type 5 (RFC 7296 calls it extended sequence numbers).
    pub struct EsnId(u16) {
        0 NO = "No Extended Sequence Numbers" ("RFC 7296"),
        1 YES = "Extended Sequence Numbers" ("RFC 7296"),
        2 UNSPECIFIED = "32-bit Unspecified Numbers" ("RFC 9827"),
    }
}

registry! {
    /// Key wrap algorithms, transform type 13.
    pub struct KeyWrapId(u16) {
        1 KW_5649_128 ("RFC 9838"),
        2 KW_5649_192 ("RFC 9838"),
        3 KW_5649_256 ("RFC 9838"),
        4 KW_ARX ("RFC 9838"),
    }
}

registry! {
    /// Group controller authentication methods, transform type 14.
    pub struct GroupControllerAuthId(u16) {
        1 IMPLICIT = "Implicit" ("RFC 9838"),
        2 DIGITAL_SIGNATURE = "Digital Signature" ("RFC 9838"),
    }
}

registry! {
    /// Transform attribute types, 15 bits (RFC 7296, 3.3.5).
    pub struct AttributeType(u16) {
        14 KEY_LENGTH = "Key Length (in bits)" ("RFC 7296"),
        18 SIGNATURE_ALGORITHM_IDENTIFIER = "Signature Algorithm Identifier" ("RFC 9838"),
    }
}
