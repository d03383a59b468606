//! Plain hashes.

use std::net::IpAddr;

use aws_lc_rs::digest;

fn hash<const N: usize>(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> [u8; N] {
    let mut context = digest::Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; N];
    // Each caller below gives N as the algorithm's own output length.
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}

/// SHA-1 of the concatenated parts. Only for what the protocol defines with it (NAT detection, CERTREQ), where
/// collisions give an attacker nothing.
pub fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    hash(&digest::SHA1_FOR_LEGACY_USE_ONLY, parts)
}

/// SHA-256 of the concatenated parts.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    hash(&digest::SHA256, parts)
}

/// SHA-384 of the concatenated parts.
pub fn sha384(parts: &[&[u8]]) -> [u8; 48] {
    hash(&digest::SHA384, parts)
}

/// SHA-512 of the concatenated parts.
pub fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    hash(&digest::SHA512, parts)
}

/// The data of a NAT_DETECTION_SOURCE_IP or NAT_DETECTION_DESTINATION_IP notify (RFC 7296 §2.23): SHA-1 of the SPIs in
/// the order in which they stand in the header, the address (4 or 16 octets) and the port.
pub fn nat_detection_hash(
    initiator_spi: u64,
    responder_spi: u64,
    address: IpAddr,
    port: u16,
) -> [u8; 20] {
    let (v4, v6);
    let address: &[u8] = match address {
        IpAddr::V4(a) => {
            v4 = a.octets();
            &v4
        }
        IpAddr::V6(a) => {
            v6 = a.octets();
            &v6
        }
    };
    sha1(&[
        &initiator_spi.to_be_bytes(),
        &responder_spi.to_be_bytes(),
        address,
        &port.to_be_bytes(),
    ])
}
