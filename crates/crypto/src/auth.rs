//! The AUTH payload (RFC 7296 §2.15): what is signed, and the shared-key method.

use zeroize::Zeroizing;

use crate::algorithm::Prf;
use crate::key_schedule::AuthKey;
use crate::secret::constant_time_eq;

/// What pads the shared secret before it becomes a key: 17 ASCII characters without a terminating zero.
const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// The octets that an end signs: its own first message, the other end's nonce, and `prf(SK_p, IDx')`.
///
/// `first_message` is the whole IKE_SA_INIT message as sent, from the first octet of the header and without the
/// non-ESP marker. `peer_nonce` is the nonce data without the payload header. `id_payload_body` is the own ID payload
/// without its generic header (type, three reserved octets, data).
pub fn signed_octets(
    first_message: &[u8],
    peer_nonce: &[u8],
    sk_p: &AuthKey,
    id_payload_body: &[u8],
) -> Vec<u8> {
    let maced_id = sk_p.mac(&[id_payload_body]);
    [first_message, peer_nonce, maced_id.as_ref()].concat()
}

/// The AUTH data of the shared-key method (RFC 7296 §2.15):
/// `prf(prf(psk, "Key Pad for IKEv2"), <signed octets>)`.
///
/// To make the own AUTH, give the own first message, the peer's nonce, the own SK_p and the own ID; to know what
/// the peer's should be, the same from its side. See [`signed_octets`] for the arguments.
pub fn psk_auth(
    prf: Prf,
    psk: &[u8],
    first_message: &[u8],
    peer_nonce: &[u8],
    sk_p: &AuthKey,
    id_payload_body: &[u8],
) -> Vec<u8> {
    let key = prf.compute(psk, &[KEY_PAD]);
    let maced_id = sk_p.mac(&[id_payload_body]);
    let auth = prf.compute(
        key.as_ref(),
        &[first_message, peer_nonce, maced_id.as_ref()],
    );
    auth.as_ref().to_vec()
}

/// Whether `received` is the AUTH data that [`psk_auth`] computes from the other arguments, in constant time.
pub fn psk_auth_verify(
    prf: Prf,
    psk: &[u8],
    first_message: &[u8],
    peer_nonce: &[u8],
    sk_p: &AuthKey,
    id_payload_body: &[u8],
    received: &[u8],
) -> bool {
    // The right AUTH data of a connection that is being attacked must not stay in memory either.
    let expected = Zeroizing::new(psk_auth(
        prf,
        psk,
        first_message,
        peer_nonce,
        sk_p,
        id_payload_body,
    ));
    constant_time_eq(&expected, received)
}

#[cfg(test)]
mod tests;
