//! The AUTH payload (RFC 7296 §2.15): what is signed, and the shared-key method.

use crate::algorithm::Prf;
use crate::key_schedule::AuthKey;
use crate::secret::{SecretBytes, constant_time_eq};

/// What pads the shared secret before it becomes a key: 17 ASCII characters without a terminating zero.
const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// What a pre-shared key is for the shared-key method: `prf(psk, "Key Pad for IKEv2")`. The same for both ends.
#[derive(Clone, Debug)]
pub struct PskKey(SecretBytes);

impl PskKey {
    /// With the PRF of the IKE SA.
    pub fn new(prf: Prf, psk: &[u8]) -> Self {
        PskKey(prf.compute(psk, &[KEY_PAD]))
    }
}

/// The octets that an end signs: its own first message, the other end's nonce, `prf(SK_p, IDx')`, and what
/// IKE_INTERMEDIATE adds.
#[derive(Clone, Copy, Debug)]
pub struct SignedOctets<'a> {
    /// The signer's whole IKE_SA_INIT message as sent, from the first octet of the header and without the non-ESP marker.
    pub first_message: &'a [u8],
    /// The other end's nonce, without the payload header.
    pub peer_nonce: &'a [u8],
    /// The signer's SK_pi or SK_pr.
    pub sk_p: &'a AuthKey,
    /// The signer's ID payload without its generic header (type, three reserved octets, data).
    pub id_payload_body: &'a [u8],
    /// IntAuth (RFC 9242 §3.3.2), the same for both ends; empty if there was no IKE_INTERMEDIATE exchange.
    pub int_auth: &'a [u8],
}

impl SignedOctets<'_> {
    /// What a signature is made over.
    pub fn to_vec(&self) -> Vec<u8> {
        self.with_parts(|parts| parts.concat())
    }

    /// The AUTH data of a resumed session (RFC 5723 §4.3.3): `prf(SK_p, <signed octets>)`.
    pub fn resumption_auth(&self) -> SecretBytes {
        self.with_parts(|parts| self.sk_p.mac(parts))
    }

    /// The AUTH data of the shared-key method (RFC 7296 §2.15):
    /// `prf(prf(psk, "Key Pad for IKEv2"), <signed octets>)`. The PRF of `key` is that of the IKE SA.
    pub fn psk_auth(&self, key: &PskKey) -> SecretBytes {
        self.with_parts(|parts| self.sk_p.prf().compute(key.0.as_ref(), parts))
    }

    /// What `compute` makes of the octets, which come in parts.
    fn with_parts<T>(&self, compute: impl FnOnce(&[&[u8]]) -> T) -> T {
        let maced_id = self.sk_p.mac(&[self.id_payload_body]);
        compute(&[
            self.first_message,
            self.peer_nonce,
            maced_id.as_ref(),
            self.int_auth,
        ])
    }

    /// Whether `received` is the AUTH data that [`Self::psk_auth`] computes, in constant time.
    pub fn psk_auth_verify(&self, key: &PskKey, received: &[u8]) -> bool {
        // The right AUTH data of a connection that is being attacked must not stay in memory either.
        constant_time_eq(self.psk_auth(key).as_ref(), received)
    }
}

#[cfg(test)]
mod tests;
