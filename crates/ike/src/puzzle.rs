//! Client puzzles: four keys for which a PRF ends in many zero bits (RFC 8019 §4.4, §7.1.3, §7.2.3).

use cygnet_crypto::Prf;
use cygnet_wire::{IkeSpi, Message, Payload, PsPayload};

/// Zero bits that puzzles may have. Above them nobody waits for a solution.
//= rfc8019#4.4
//# This is a number between 8 and 255 (or a
//# special value - 0; see Section 7.1.1.1) that represents the
//# length of the zero-bit run at the end of the output of the PRF
//# function calculated over the cookie that the Initiator is to
//# send.
pub const PUZZLE_DIFFICULTY: std::ops::RangeInclusive<u8> = 8..=28;

/// Zero bits that we find where the responder leaves it to us: a fraction of a second of work.
const OF_OUR_CHOICE: u8 = 16;

/// Octets of the keys that we try: more than enough for any difficulty that we accept.
const KEY_LEN: usize = 4;

/// Times the expected work after which a solution is given up: never reached with a PRF that is one.
const PATIENCE: u32 = 16;

/// How many keys are tried between two questions whether to go on.
const BETWEEN_QUESTIONS: u32 = 4096;

/// Functions that puzzles are made with, the cheapest to check first.
const FUNCTIONS: [Prf; 3] = [Prf::HmacSha256, Prf::HmacSha512, Prf::HmacSha384];

/// A puzzle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Puzzle {
    /// The function.
    pub prf: Prf,
    /// Zero bits that each result must end with.
    pub difficulty: u8,
    /// What the function is computed over.
    pub data: Vec<u8>,
}

/// A function that a puzzle can be made with, of those that `offered` names.
//= rfc8019#7.1.1.2
//# The
//# Responder parses the received SA payload and finds mutually supported
//# transforms of type PRF.  The Responder selects the preferred PRF from
//# the list of mutually supported ones and includes it into the PUZZLE
//# notification.
pub(crate) fn choose(offered: impl Fn(Prf) -> bool) -> Option<Prf> {
    FUNCTIONS.into_iter().find(|prf| offered(*prf))
}

/// The function of a transform id, if puzzles are made with it here.
pub(crate) fn function(id: u16) -> Option<Prf> {
    Prf::from_iana(id).filter(|prf| FUNCTIONS.contains(prf))
}

/// Zero bits to find for a difficulty that a responder has asked for.
pub(crate) fn effective(difficulty: u8, limit: u8) -> u8 {
    if difficulty == 0 {
        OF_OUR_CHOICE.min(limit)
    } else {
        difficulty
    }
}

impl Puzzle {
    /// The puzzle in front of IKE_AUTH.
    pub(crate) fn before_auth(prf: Prf, difficulty: u8, nr: &[u8], responder_spi: IkeSpi) -> Self {
        Self {
            prf,
            difficulty,
            data: Self::data_before_auth(nr, responder_spi),
        }
    }

    /// What that puzzle is about.
    //= rfc8019#7.2.3
    //# Unlike the IKE_SA_INIT exchange, where S is the cookie, in the
    //# IKE_AUTH exchange, S is a concatenation of Nr and SPIr.
    pub(crate) fn data_before_auth(nr: &[u8], responder_spi: IkeSpi) -> Vec<u8> {
        [nr, &responder_spi.0.to_be_bytes()].concat()
    }

    /// Looks for four keys. `go_on` is asked every few milliseconds; `None` when it says no.
    ///
    /// The work is about `4 · 2^difficulty` computations of the function: this is for a thread that has nothing else to do.
    /// Returns the body of the Puzzle Solution payload.
    pub fn solve(&self, mut go_on: impl FnMut() -> bool) -> Option<Vec<u8>> {
        let expected = 1_u32.checked_shl(self.difficulty.into())?;
        let most = expected
            .checked_mul(PsPayload::KEYS as u32)
            .map_or(u32::MAX, |n| n.saturating_mul(PATIENCE));
        let mut solution = Vec::with_capacity(PsPayload::KEYS * KEY_LEN);
        for number in 0..=most {
            if number % BETWEEN_QUESTIONS == 0 && !go_on() {
                return None;
            }
            let key = number.to_be_bytes();
            if self.zero_bits(&key) >= u32::from(self.difficulty) {
                solution.extend(key);
                if solution.len() == PsPayload::KEYS * KEY_LEN {
                    return Some(solution);
                }
            }
        }
        None
    }

    /// Whether a Puzzle Solution payload solves it. Costs at most four computations of the function.
    //= rfc8019#7.1.4
    //# The solution is
    //# interpreted as four different keys.  The result of using each of them
    //# in the PRF (as described in Section 7.1.3) must contain at least the
    //# requested number of trailing zero bits.  The Responder MUST check all
    //# of the four returned keys.
    //= rfc8019#7.2.4
    //# The Responder MUST verify all four of the returned keys.
    pub fn is_solved_by(&self, solution: &PsPayload<'_>) -> bool {
        let data = solution.data();
        let key_len = data.len() / PsPayload::KEYS;
        //= rfc8019#8.2
        //# If the agreed upon PRF
        //# accepts keys of any size, then the size of each key MUST be
        //# between 1 octet and the preferred key length of the PRF
        //# (inclusive).
        if !(1..=self.prf.output_len()).contains(&key_len) {
            return false;
        }
        let keys: Vec<_> = data.chunks_exact(key_len).collect();
        let different = keys
            .iter()
            .enumerate()
            .all(|(at, key)| !keys.iter().take(at).any(|other| other == key));
        different
            && keys
                .iter()
                .all(|key| self.zero_bits(key) >= u32::from(self.difficulty))
    }

    /// Whether a message brings a solution, in front of what is encrypted.
    pub(crate) fn is_solved_in(&self, message: &Message<'_>) -> bool {
        let solution = message.payloads().find_map(|payload| match payload {
            Ok(Payload::Ps(solution)) => Some(solution),
            _ => None,
        });
        solution.is_some_and(|solution| self.is_solved_by(&solution))
    }

    fn zero_bits(&self, key: &[u8]) -> u32 {
        let result = self.prf.compute(key, &[&self.data]);
        let mut bits = 0;
        for octet in result.as_ref().iter().rev() {
            bits += octet.trailing_zeros();
            if *octet != 0 {
                break;
            }
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    /// With the cookie of the examples in RFC 8019 §4.4.
    fn of_the_rfc(difficulty: u8) -> Puzzle {
        Puzzle {
            prf: Prf::HmacSha256,
            difficulty,
            data: hex("739ae7492d8a810cf5e8dc0f9626c9dda773c5a3"),
        }
    }

    fn solves(puzzle: &Puzzle, solution: &str) -> bool {
        puzzle.is_solved_by(&PsPayload::parse(&hex(solution)).unwrap())
    }

    /// The first solutions in the order of four-octet keys, as Python's hmac module finds them. (The results that RFC 8019
    /// §4.4 prints are not those of its PRF with its keys and its cookie.)
    #[test]
    fn the_first_solutions_are_found() {
        for (prf, difficulty, keys) in [
            (Prf::HmacSha256, 16, "0000c51500024870000287cf00034992"),
            (Prf::HmacSha384, 12, "00002b810000344a00004c6800005e58"),
            (Prf::HmacSha512, 12, "00001c3400002bf30000440d000052a8"),
        ] {
            let puzzle = Puzzle {
                prf,
                ..of_the_rfc(difficulty)
            };
            assert_eq!(puzzle.solve(|| true), Some(hex(keys)));
            assert!(solves(&puzzle, keys));
        }
        // The fourth has one bit more than it needs.
        assert_eq!(of_the_rfc(16).zero_bits(&hex("00034992")), 17);
    }

    //= rfc8019#7.1.4
    //= type=test
    //# The Responder MUST check all
    //# of the four returned keys.
    //= rfc8019#7.2.4
    //= type=test
    //# The Responder MUST verify all four of the returned keys.
    #[test]
    fn each_of_four_different_keys_counts() {
        let puzzle = of_the_rfc(16);
        for wrong in [
            "0000c51600024870000287cf00034992",
            "0000c51500024871000287cf00034992",
            "0000c51500024870000287ce00034992",
            "0000c51500024870000287cf00034993",
            // The same one four times, and one of them twice.
            "0000c5150000c5150000c5150000c515",
            "0000c51500024870000287cf0000c515",
        ] {
            assert!(!solves(&puzzle, wrong), "{wrong}");
        }
        // 16 bits are not 17.
        assert!(!solves(&of_the_rfc(17), "0000c51500024870000287cf00034992"));
    }

    //= rfc8019#8.2
    //= type=test
    //# If the agreed upon PRF
    //# accepts keys of any size, then the size of each key MUST be
    //# between 1 octet and the preferred key length of the PRF
    //# (inclusive).
    #[test]
    fn keys_are_not_longer_than_the_function_prefers() {
        let puzzle = Puzzle {
            difficulty: 0,
            ..of_the_rfc(0)
        };
        for (len, good) in [(1, true), (32, true), (33, false), (4000, false)] {
            let keys: Vec<u8> = (0..4).flat_map(|n| vec![n; len]).collect();
            assert_eq!(
                puzzle.is_solved_by(&PsPayload::parse(&keys).unwrap()),
                good,
                "{len}"
            );
        }
    }

    #[test]
    fn the_search_ends_when_it_must() {
        let mut asked = 0;
        let found = of_the_rfc(28).solve(|| {
            asked += 1;
            asked < 5
        });
        assert_eq!((found, asked), (None, 5));
        assert_eq!(of_the_rfc(255).solve(|| true), None);
    }
}
