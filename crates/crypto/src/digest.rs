//! Plain hashes.

use std::net::IpAddr;

use sha1::Sha1;
use sha2::digest::Digest;
use sha2::{Sha256, Sha384, Sha512};

fn hash<D: Digest, const N: usize>(parts: &[&[u8]]) -> [u8; N]
where
    [u8; N]: From<sha2::digest::Output<D>>,
{
    let mut hasher = D::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// SHA-1 of the concatenated parts. Only for what the protocol defines with it (NAT detection, CERTREQ), where
/// collisions give an attacker nothing.
pub fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    hash::<Sha1, _>(parts)
}

/// SHA-256 of the concatenated parts.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    hash::<Sha256, _>(parts)
}

/// SHA-384 of the concatenated parts.
pub fn sha384(parts: &[&[u8]]) -> [u8; 48] {
    hash::<Sha384, _>(parts)
}

/// SHA-512 of the concatenated parts.
pub fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    hash::<Sha512, _>(parts)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::hex;

    /// FIPS 180-4 examples: "abc".
    #[test]
    fn abc() {
        let parts: [&[u8]; 3] = [b"a", b"", b"bc"];
        assert_eq!(
            sha1(&parts).to_vec(),
            hex("a9993e364706816aba3e25717850c26c9cd0d89d"),
        );
        assert_eq!(
            sha256(&parts).to_vec(),
            hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        );
        assert_eq!(
            sha384(&parts).to_vec(),
            hex(
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
                 8086072ba1e7cc2358baeca134c825a7"
            ),
        );
        assert_eq!(
            sha512(&parts).to_vec(),
            hex(
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
            ),
        );
    }

    /// Against Python's hashlib.
    #[test]
    fn nat_detection() {
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(
            nat_detection_hash(0x0011_2233_4455_6677, 0x8899_aabb_ccdd_eeff, address, 500).to_vec(),
            hex("f62ead21e6a756c429b205b272e506bec103e0ea"),
        );
        let address = "2001:db8::1".parse().unwrap();
        assert_eq!(
            nat_detection_hash(0x0011_2233_4455_6677, 0, address, 4500).to_vec(),
            hex("12ef39602e106325f19853f86f41b97a8f8a6809"),
        );
    }
}
