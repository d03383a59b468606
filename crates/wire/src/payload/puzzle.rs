//! Client puzzles: the PUZZLE notification and the Puzzle Solution payload (RFC 8019, 8).

use crate::error::{ParseError, ParseErrorKind};
use crate::registry::{NotifyType, PrfId};

use super::Notify;

/// What a PUZZLE notification asks for (RFC 8019, 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PuzzleNotify {
    /// The pseudorandom function to use.
    pub prf: PrfId,
    /// Zero bits that each result must end with; 0: as many as the initiator can afford.
    pub difficulty: u8,
}

impl PuzzleNotify {
    /// The data of the notification.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 3] {
        let [high, low] = self.prf.0.to_be_bytes();
        [high, low, self.difficulty]
    }

    /// What a notification asks for; `None` if it is not a PUZZLE of three octets.
    #[must_use]
    pub fn from_notify(notify: &Notify<'_>) -> Option<Self> {
        match (notify.kind, notify.data) {
            (NotifyType::PUZZLE, &[high, low, difficulty]) => Some(Self {
                prf: PrfId(u16::from_be_bytes([high, low])),
                difficulty,
            }),
            _ => None,
        }
    }
}

/// A Puzzle Solution payload: four keys of equal length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PsPayload<'a> {
    data: &'a [u8],
}

impl<'a> PsPayload<'a> {
    /// How many keys there are (RFC 8019, 7.1.3).
    pub const KEYS: usize = 4;

    /// Reads the body of a Puzzle Solution payload.
    ///
    /// # Errors
    /// If it is empty or not four keys of equal length.
    //= rfc8019#8.2
    //# This
    //# field MUST NOT be empty.  All of the keys MUST have the same size;
    //# therefore, the size of this field is always a multiple of 4 bytes.
    pub fn parse(data: &'a [u8]) -> Result<Self, ParseError> {
        if data.is_empty() || !data.len().is_multiple_of(Self::KEYS) {
            return Err(ParseError::new(
                ParseErrorKind::BadSolutionLength(data.len()),
                0,
            ));
        }
        Ok(Self { data })
    }

    /// All keys, one after the other.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, PayloadChain};
    use crate::payload::Payload;
    use crate::registry::PayloadType;

    /// The figure of RFC 8019, 8.1, with PRF_HMAC_SHA2_256 and 18 bits.
    #[test]
    fn the_puzzle_notification_of_the_figure() {
        let body = [0, 0, 0x40, 0x32, 0x00, 0x05, 18];
        let notify = Notify::parse(&body).unwrap();
        let puzzle = PuzzleNotify::from_notify(&notify).unwrap();
        let prf = PrfId::HMAC_SHA2_256;
        assert_eq!(
            puzzle,
            PuzzleNotify {
                prf,
                difficulty: 18
            }
        );
        assert_eq!(puzzle.to_bytes(), body[4..]);
        for wrong in [&body[..6], &[0, 0, 0x40, 0x32, 0, 5, 18, 0]] {
            assert_eq!(
                PuzzleNotify::from_notify(&Notify::parse(wrong).unwrap()),
                None
            );
        }
    }

    //= rfc8019#8.2
    //= type=test
    //# This
    //# field MUST NOT be empty.  All of the keys MUST have the same size;
    //# therefore, the size of this field is always a multiple of 4 bytes.
    #[test]
    fn four_keys_or_nothing() {
        for len in 0..64 {
            let data = vec![7; len];
            let parsed = PsPayload::parse(&data).map(|p| p.data().len());
            let whole = len > 0 && len % 4 == 0;
            assert_eq!(parsed.is_ok(), whole, "{len}");
        }
    }

    /// In front of the Encrypted payload of IKE_AUTH (RFC 8019, 7.2.2), octet by octet.
    #[test]
    fn the_solution_stands_in_front_of_the_encrypted_payload() {
        let mut bytes = vec![0x11; 8];
        bytes.extend([0x22; 8]);
        bytes.extend([54, 0x20, 35, 0x08, 0, 0, 0, 1, 0, 0, 0, 28 + 20 + 8]);
        // PS, then SK with IDi as first inner payload.
        bytes.extend([46, 0, 0, 20]);
        bytes.extend((1..=16).collect::<Vec<u8>>());
        bytes.extend([35, 0, 0, 8, 0xee, 0xee, 0xee, 0xee]);
        let message = Message::parse(&bytes).unwrap();
        let payloads: Vec<_> = message.payloads().map(Result::unwrap).collect();
        match payloads[..] {
            [Payload::Ps(solution), Payload::Sk(sk)] => {
                assert_eq!(solution.data(), (1..=16).collect::<Vec<u8>>());
                assert_eq!(sk.first_inner, PayloadType::ID_I);
                assert_eq!(sk.aad_len(), 28 + 20 + 4);
            }
            ref other => panic!("{other:?}"),
        }
        let chain = PayloadChain::new(PayloadType::PS, &[0, 0x80, 0, 8, 1, 2, 3, 4]);
        assert_eq!(chain.unsupported_critical(), None);
    }
}
