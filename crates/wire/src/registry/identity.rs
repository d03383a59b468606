//! Identities, certificates and authentication.

use super::registry;

registry! {
    /// Identification types (RFC 7296, 3.5).
    pub struct IdType(u8) {
        1 IPV4_ADDR = "ID_IPV4_ADDR" ("RFC 7296"),
        2 FQDN = "ID_FQDN" ("RFC 7296"),
        3 RFC822_ADDR = "ID_RFC822_ADDR" ("RFC 7296"),
        5 IPV6_ADDR = "ID_IPV6_ADDR" ("RFC 7296"),
        9 DER_ASN1_DN = "ID_DER_ASN1_DN" ("RFC 7296"),
        10 DER_ASN1_GN = "ID_DER_ASN1_GN" ("RFC 7296"),
        11 KEY_ID = "ID_KEY_ID" ("RFC 7296"),
        12 FC_NAME = "ID_FC_NAME" ("RFC 4595"),
        13 NULL = "ID_NULL" ("RFC 7619"),
    }
}

registry! {
    /// Certificate encodings (RFC 7296, 3.6).
    pub struct CertEncoding(u8) {
        1 PKCS7 = "PKCS #7 wrapped X.509 certificate" ("RFC 7296, unspecified"),
        2 PGP = "PGP Certificate" ("RFC 7296, unspecified"),
        3 DNS_SIGNED_KEY = "DNS Signed Key" ("RFC 7296, unspecified"),
        4 X509_SIGNATURE = "X.509 Certificate - Signature" ("RFC 7296"),
        6 KERBEROS_TOKEN = "Kerberos Token" ("RFC 7296, unspecified"),
        7 CRL = "Certificate Revocation List (CRL)" ("RFC 7296"),
        8 ARL = "Authority Revocation List (ARL)" ("RFC 7296, unspecified"),
        9 SPKI = "SPKI Certificate" ("RFC 7296, unspecified"),
        10 X509_ATTRIBUTE = "X.509 Certificate - Attribute" ("RFC 7296, unspecified"),
        11 RAW_RSA_KEY = "Raw RSA Key" ("RFC 7296, deprecated"),
        12 HASH_AND_URL_X509 = "Hash and URL of X.509 certificate" ("RFC 7296"),
        13 HASH_AND_URL_BUNDLE = "Hash and URL of X.509 bundle" ("RFC 7296"),
        14 OCSP_CONTENT = "OCSP Content" ("RFC 4806"),
        15 RAW_PUBLIC_KEY = "Raw Public Key" ("RFC 7670"),
    }
}

registry! {
    /// Authentication methods, as in the AUTH payload (RFC 7296, 3.8).
    pub struct AuthMethodId(u8) {
        1 RSA_SIGNATURE = "RSA Digital Signature" ("RFC 7296"),
        2 SHARED_KEY = "Shared Key Message Integrity Code" ("RFC 7296"),
        3 DSS_SIGNATURE = "DSS Digital Signature" ("RFC 7296"),
        9 ECDSA_SHA256_P256 = "ECDSA with SHA-256 on the P-256 curve" ("RFC 4754"),
        10 ECDSA_SHA384_P384 = "ECDSA with SHA-384 on the P-384 curve" ("RFC 4754"),
        11 ECDSA_SHA512_P521 = "ECDSA with SHA-512 on the P-521 curve" ("RFC 4754"),
        12 SECURE_PASSWORD = "Generic Secure Password Authentication Method" ("RFC 6467"),
        13 NULL = "NULL Authentication" ("RFC 7619"),
        14 DIGITAL_SIGNATURE = "Digital Signature" ("RFC 7427"),
    }
}

registry! {
    /// Hash algorithms, as in SIGNATURE_HASH_ALGORITHMS (RFC 7427, 4).
    pub struct HashAlgorithm(u16) {
        1 SHA1 ("RFC 7427"),
        2 SHA2_256 = "SHA2-256" ("RFC 7427"),
        3 SHA2_384 = "SHA2-384" ("RFC 7427"),
        4 SHA2_512 = "SHA2-512" ("RFC 7427"),
        5 IDENTITY = "Identity" ("RFC 8420"),
        6 STREEBOG_256 ("RFC 9385"),
        7 STREEBOG_512 ("RFC 9385"),
    }
}

registry! {
    /// Types of post-quantum preshared key identifiers, as in PPK_IDENTITY (RFC 8784, 5.1.1).
    pub struct PpkIdType(u8) {
        1 OPAQUE = "PPK_ID_OPAQUE" ("RFC 8784"),
        2 FIXED = "PPK_ID_FIXED" ("RFC 8784"),
    }
}

registry! {
    /// Types of gateway identities, as in REDIRECT (RFC 5685, 6).
    pub struct GatewayIdType(u8) {
        1 IPV4 = "IPv4 address of the new VPN gateway" ("RFC 5685"),
        2 IPV6 = "IPv6 address of the new VPN gateway" ("RFC 5685"),
        3 FQDN = "FQDN of the new VPN gateway" ("RFC 5685"),
    }
}

registry! {
    /// Secure password methods, as in SECURE_PASSWORD_METHODS (RFC 6467).
    pub struct SecurePasswordMethod(u16) {
        1 PACE ("RFC 6631"),
        2 AUG_PAKE = "AugPAKE" ("RFC 6628"),
        3 SECURE_PSK = "Secure PSK Authentication" ("RFC 6617"),
    }
}
