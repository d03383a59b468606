//! IntAuth: the IKE_INTERMEDIATE messages as they enter the AUTH payloads (RFC 9242 §3.3.2).

use cygnet_crypto::{AuthKey, SecretBytes};
use cygnet_wire::{Header, PayloadType, SkfPayload, WriteError, write_message};

use crate::channel::Plaintext;
use crate::fragment::Assembled;

/// What both ends have said in IKE_INTERMEDIATE, condensed.
#[derive(Debug, Default)]
pub(crate) struct IntAuth {
    initiator: Option<SecretBytes>,
    responder: Option<SecretBytes>,
    exchanges: u32,
}

impl IntAuth {
    /// Adds one exchange, with the keys by which it was protected. The messages are in the form that is authenticated:
    /// see [`ours`] and [`theirs`].
    //= rfc9242#3.3.2
    //# Each calculation of IntAuth_[i/r]* uses its own keys SK_p[i/r]*,
    //# which are the most recently updated SK_p[i/r] keys available before
    //# the corresponded IKE_INTERMEDIATE exchange is started.
    pub(super) fn add(
        &mut self,
        sk_pi: &AuthKey,
        sk_pr: &AuthKey,
        request: &[u8],
        response: &[u8],
    ) {
        let chain = |before: &mut Option<SecretBytes>, key: &AuthKey, message: &[u8]| {
            let before_that = before.as_ref().map_or(&[][..], AsRef::as_ref);
            *before = Some(key.mac(&[before_that, message]));
        };
        chain(&mut self.initiator, sk_pi, request);
        chain(&mut self.responder, sk_pr, response);
        self.exchanges = self.exchanges.saturating_add(1);
    }

    /// How many exchanges there were.
    pub(super) fn exchanges(&self) -> u32 {
        self.exchanges
    }

    /// `IntAuth_iN | IntAuth_rN | IKE_AUTH_MID`; nothing if there was no exchange.
    pub(crate) fn octets(&self) -> Vec<u8> {
        let (Some(initiator), Some(responder)) = (&self.initiator, &self.responder) else {
            return Vec::new();
        };
        //= rfc9242#3.2
        //# The Message ID for the first pair of
        //# IKE_AUTH messages is one more than the value used in the last
        //# IKE_INTERMEDIATE exchange.
        let ike_auth_mid = self.exchanges.saturating_add(1);
        [
            initiator.as_ref(),
            responder.as_ref(),
            &ike_auth_mid.to_be_bytes(),
        ]
        .concat()
    }
}

/// A message of ours in the form that is authenticated: as if the payloads were not encrypted, and no initialization
/// vector, padding and checksum were there.
//= rfc9242#3.3.2
//# For the purpose of prf calculation, the Length field in the IKE
//# Header and the Payload Length field in the Encrypted payload header
//# are adjusted so that they don't count the lengths of Initialization
//# Vector, Integrity Checksum Data, Padding, and Pad Length fields.
//= rfc9242#3.3.2
//# The prf calculations MUST be applied to whole messages only, before
//# possible IKE fragmentation.
pub(super) fn ours(header: &Header, plain: &Plaintext) -> Result<Vec<u8>, WriteError> {
    let mut message = Vec::new();
    write_message(&mut message, header, |payloads| {
        payloads.sk(plain.first(), plain.octets().len());
    })?;
    message.extend_from_slice(plain.octets());
    Ok(message)
}

/// A message of the peer in the same form.
//= rfc9242#3.3.2
//# In
//# other words, the Length field in the IKE Header (denoted as Adjusted
//# Length in Figure 1) is set to the sum of the lengths of IntAuth_[i/
//# r]*A and IntAuth_[i/r]*P, and the Payload Length field in the
//# Encrypted payload header (denoted as Adjusted Payload Length in
//# Figure 1) is set to the length of IntAuth_[i/r]*P plus the size of
//# the Encrypted payload header (four octets).
pub(super) fn theirs(message: &Assembled) -> Vec<u8> {
    let plain = message.plain.octets();
    let mut octets = message.clear.clone();
    // A message has at most 65535 octets, and its payloads fewer; reassembled ones are bounded by the same number.
    let payload_len = u16::try_from(plain.len().saturating_add(GENERIC_HEADER)).unwrap_or(u16::MAX);
    let len = u32::try_from(octets.len().saturating_add(plain.len())).unwrap_or(u32::MAX);
    if let Some(field) = octets.last_chunk_mut() {
        *field = payload_len.to_be_bytes();
    }
    if let Some(field) = octets.get_mut(Header::LENGTH_AT..Header::LEN) {
        field.copy_from_slice(&len.to_be_bytes());
    }
    octets.extend_from_slice(plain);
    octets
}

/// Octets of a payload's generic header.
const GENERIC_HEADER: usize = 4;
/// Octets of Fragment Number and Total Fragments.
const FRAGMENT_NUMBERS: usize = 4;

/// What stood before the Encrypted payload's content, had the message not been sent in fragments: from the IKE header to
/// that payload's generic header, whose length is of no account.
//= rfc9242#3.3.2
//# While reconstructing, the RESERVED field in the
//# reconstructed Encrypted payload header MUST be set to the value of
//# the RESERVED field in the Encrypted Fragment payload header from the
//# first fragment (with the Fragment Number field set to 1).
//= rfc9242#3.3.2
//# If the message was received in fragmented form, it MUST be
//# reconstructed before calculating the prf as if it were received
//# unfragmented.
pub(crate) fn clear_of_fragment(first: &SkfPayload<'_>) -> Vec<u8> {
    let len = first.prefix.len().saturating_sub(FRAGMENT_NUMBERS);
    let mut clear = first.prefix.get(..len).unwrap_or_default().to_vec();
    // Whatever names the Encrypted Fragment payload as the next one is to name the Encrypted payload: the IKE header, or
    // the last of the payloads that are not encrypted.
    let end = len.saturating_sub(GENERIC_HEADER);
    let (mut link, mut next) = (Header::NEXT_PAYLOAD_AT, Header::LEN);
    while next < end {
        let length = clear
            .get(next.saturating_add(2)..)
            .and_then(<[u8]>::first_chunk);
        let length = length.map_or(0, |octets| usize::from(u16::from_be_bytes(*octets)));
        link = next;
        next = next.saturating_add(length.max(GENERIC_HEADER));
    }
    if let Some(link) = clear.get_mut(link) {
        *link = PayloadType::SK.0;
    }
    clear
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_wire::{ExchangeType, Flags, IkeSpi, Message, Payload};

    /// A message and the same in one fragment of RFC 7383, cut after the generic header of SK or SKF.
    //= rfc9242#3.3.2
    //= type=test
    //# While reconstructing, the RESERVED field in the
    //# reconstructed Encrypted payload header MUST be set to the value of
    //# the RESERVED field in the Encrypted Fragment payload header from the
    //# first fragment (with the Fragment Number field set to 1).
    //= rfc9242#3.3.2
    //= type=test
    //# If the message was received in fragmented form, it MUST be
    //# reconstructed before calculating the prf as if it were received
    //# unfragmented.
    //= rfc9242#3.3.2
    //= type=test
    //# The prf calculations MUST be applied to whole messages only, before
    //# possible IKE fragmentation.
    #[test]
    fn a_fragmented_message_counts_as_if_it_were_whole() {
        for (unencrypted, reserved) in [(0, 0), (1, 0), (3, 0), (0, 0x55), (3, 0x01)] {
            let exchange = ExchangeType::IKE_INTERMEDIATE;
            let header = Header::new(IkeSpi(1), IkeSpi(2), exchange, Flags::default(), 1);
            let message = |fragment: bool| {
                let mut bytes = Vec::new();
                write_message(&mut bytes, &header, |payloads| {
                    for n in 0..unencrypted {
                        payloads.vendor_id(&vec![n; 5 + usize::from(n)]);
                    }
                    match fragment {
                        false => payloads.sk(PayloadType::KE, 40),
                        true => payloads.skf(PayloadType::KE, 1, 2, 40),
                    };
                })
                .unwrap();
                // After the type of the first payload inside.
                let header = if fragment { 8 } else { 4 };
                let at = bytes.len() - header + 1;
                bytes[at] = reserved;
                bytes.extend([9; 40]);
                bytes
            };
            let (whole, fragment) = (message(false), message(true));
            let of = |bytes: &[u8]| {
                let message = Message::parse(bytes).unwrap();
                let clear = message
                    .payloads()
                    .find_map(|payload| match payload.unwrap() {
                        Payload::Sk(sk) => Some(sk.prefix.to_vec()),
                        Payload::Skf(skf) => Some(clear_of_fragment(&skf)),
                        _ => None,
                    });
                theirs(&Assembled {
                    plain: Plaintext::new(PayloadType::KE, vec![7; 33]),
                    clear: clear.unwrap(),
                    digest: [0; 32],
                })
            };
            assert_eq!(of(&whole), of(&fragment));
            if (unencrypted, reserved) == (0, 0) {
                let plain = Plaintext::new(PayloadType::KE, vec![7; 33]);
                assert_eq!(of(&whole), ours(&header, &plain).unwrap());
            }
        }
    }
}
