//! Stateless cookies against floods of IKE_SA_INIT (RFC 7296 §2.6), which say what came with them (RFC 8019 §7.1.1.3).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use cygnet_crypto::{Entropy, Prf, SecretBytes, constant_time_eq, sha256};

/// Octets in front of the hash: version of the secret, difficulty and function of the puzzle, serial number.
const PREFIX_LEN: usize = 12;

/// Makes and checks cookies: `version | puzzle | serial | SHA-256(secret | puzzle | serial | Ni | IPi | SPIi)`.
///
/// The secret is replaced when it is older than its lifetime and a cookie is needed; the previous one is
/// good for as long again.
#[derive(Debug, Default)]
pub(crate) struct CookieJar {
    current: Option<Secret>,
    previous: Option<Secret>,
    /// When the first cookie was made.
    opened: Option<Instant>,
    /// How many have been made with a puzzle.
    puzzles: u32,
}

#[derive(Debug)]
struct Secret {
    version: u8,
    key: SecretBytes,
    made: Instant,
}

/// What a cookie is good for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bearer<'a> {
    pub(crate) nonce: &'a [u8],
    pub(crate) address: IpAddr,
    pub(crate) initiator_spi: u64,
}

/// The puzzle that came with a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) prf: Prf,
    pub(crate) difficulty: u8,
    /// When it was given, in seconds since the first cookie (high half), and a counter: no two cookies with a puzzle have
    /// the same. Zero when asked for.
    pub(crate) serial: u64,
}

impl CookieJar {
    /// The cookie for a request, to go with a puzzle if one is given. With one it is unlike any other.
    //= rfc8019#10
    //# Implementations MUST use one of the above (or some other)
    //# countermeasures to completely eliminate or make insignificant the
    //# possible benefit an attacker can get from reusing puzzle solutions.
    pub(crate) fn bake(
        &mut self,
        now: Instant,
        lifetime: Duration,
        entropy: &mut dyn Entropy,
        bearer: Bearer<'_>,
        puzzle: Option<(Prf, u8)>,
    ) -> Vec<u8> {
        let fresh = |secret: &&mut Secret| now.saturating_duration_since(secret.made) < lifetime;
        let version = self
            .current
            .as_ref()
            .map_or(0, |s| s.version.wrapping_add(1));
        if self.current.as_mut().filter(fresh).is_none() {
            let mut key = vec![0; 32];
            entropy.fill(&mut key);
            self.previous = self.current.take();
            self.current = Some(Secret {
                version,
                key: SecretBytes::new(key),
                made: now,
            });
        }
        self.opened.get_or_insert(now);
        let task = puzzle.map(|(prf, difficulty)| {
            self.puzzles = self.puzzles.wrapping_add(1);
            Task {
                prf,
                difficulty,
                serial: self.serial(now) | u64::from(self.puzzles),
            }
        });
        self.current
            .as_ref()
            .map_or_else(Vec::new, |s| s.cookie(bearer, task))
    }

    /// What came with a cookie, if it is one that we made for such a request not too long ago.
    pub(crate) fn read(
        &self,
        now: Instant,
        lifetime: Duration,
        cookie: &[u8],
        bearer: Bearer<'_>,
    ) -> Option<Option<Task>> {
        let (prefix, _) = cookie.split_first_chunk::<PREFIX_LEN>()?;
        let [_, difficulty, high, low, serial @ ..] = *prefix;
        let task = match u16::from_be_bytes([high, low]) {
            0 => None,
            prf => Some(Task {
                prf: Prf::from_iana(prf)?,
                difficulty,
                serial: u64::from_be_bytes(serial),
            }),
        };
        let good = [&self.current, &self.previous]
            .into_iter()
            .flatten()
            .any(|secret| {
                now.saturating_duration_since(secret.made) < lifetime.saturating_mul(2)
                    && constant_time_eq(cookie, &secret.cookie(bearer, task))
            });
        good.then_some(task)
    }

    /// Where the serial numbers of this moment begin.
    pub(crate) fn serial(&self, now: Instant) -> u64 {
        let seconds = self
            .opened
            .map_or(0, |opened| now.saturating_duration_since(opened).as_secs());
        seconds << 32
    }
}

impl Secret {
    //= rfc9329#6.3
    //# Note that the Responder MUST NOT include the Initiator's TCP port into
    //# the Cookie calculation (*) since the Cookie can be returned over a new
    //# TCP connection with a different port.
    fn cookie(&self, bearer: Bearer<'_>, task: Option<Task>) -> Vec<u8> {
        let (v4, v6);
        let address: &[u8] = match bearer.address {
            IpAddr::V4(a) => {
                v4 = a.octets();
                &v4
            }
            IpAddr::V6(a) => {
                v6 = a.octets();
                &v6
            }
        };
        let mut cookie = Vec::with_capacity(PREFIX_LEN + 32);
        let (prf, difficulty, serial) = task.map_or((0, 0, 0), |task| {
            (task.prf.iana_id(), task.difficulty, task.serial)
        });
        cookie.extend([self.version, difficulty]);
        cookie.extend(prf.to_be_bytes());
        cookie.extend(serial.to_be_bytes());
        // Key and prefix come first and have a fixed length; so do the parts after the nonce. SHA-256 lets a
        // message be extended at its end only, and the end is ours to compare.
        let hash = sha256(&[
            self.key.as_ref(),
            &cookie,
            bearer.nonce,
            address,
            &bearer.initiator_spi.to_be_bytes(),
        ]);
        cookie.extend_from_slice(&hash);
        cookie
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_crypto::testing::InsecureEntropy;

    const LIFETIME: Duration = Duration::from_secs(60);

    fn bearer(nonce: &[u8], last: u8, initiator_spi: u64) -> Bearer<'_> {
        Bearer {
            nonce,
            address: [192, 0, 2, last].into(),
            initiator_spi,
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_request_and_its_time() {
        let mut entropy = InsecureEntropy::from_seed(3);
        let mut jar = CookieJar::default();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let own = bearer(b"nonce", 1, 7);
        let cookie = jar.bake(start, LIFETIME, &mut entropy, own, None);
        //= rfc7296#2.6
        //= type=test
        //# The data associated with this notification MUST
        //# be between 1 and 64 octets in length (inclusive)
        assert!((1..=64).contains(&cookie.len()));
        let read =
            |jar: &CookieJar, s, cookie: &[u8], bearer| jar.read(at(s), LIFETIME, cookie, bearer);
        assert_eq!(read(&jar, 59, &cookie, own), Some(None));
        assert_eq!(read(&jar, 59, &cookie, bearer(b"other", 1, 7)), None);
        assert_eq!(read(&jar, 59, &cookie, bearer(b"nonce", 2, 7)), None);
        assert_eq!(read(&jar, 59, &cookie, bearer(b"nonce", 1, 8)), None);
        // A new secret: the old cookie is good for a while, the new one differs.
        let second = jar.bake(at(61), LIFETIME, &mut entropy, own, None);
        assert_ne!(cookie, second);
        assert_eq!(read(&jar, 119, &cookie, own), Some(None));
        assert_eq!(read(&jar, 120, &cookie, own), None);
        assert_eq!(read(&jar, 120, &second, own), Some(None));
    }

    //= rfc8019#7.1.1.3
    //= type=test
    //# If this information is encoded in the cookie, then
    //# the Responder MUST make it integrity protected, so that any intended
    //# or accidental alteration of this information in the returned cookie
    //# is detectable.
    #[test]
    fn a_cookie_says_which_puzzle_came_with_it_and_cannot_be_changed() {
        let mut entropy = InsecureEntropy::from_seed(4);
        let mut jar = CookieJar::default();
        let start = Instant::now();
        let own = bearer(b"nonce", 1, 7);
        let puzzle = Some((Prf::HmacSha384, 21));
        let cookie = jar.bake(start, LIFETIME, &mut entropy, own, puzzle);
        let later = start + Duration::from_secs(3);
        let again = jar.bake(later, LIFETIME, &mut entropy, own, puzzle);
        let read = |cookie: &[u8]| jar.read(later, LIFETIME, cookie, own).map(Option::unwrap);
        let (first, second) = (read(&cookie).unwrap(), read(&again).unwrap());
        assert_eq!((first.prf, first.difficulty), (Prf::HmacSha384, 21));
        // Never two of the same: a solution is good for one of them only.
        assert!(first.serial < jar.serial(later) && jar.serial(later) < second.serial);
        for at in 0..cookie.len() * 8 {
            let mut changed = cookie.clone();
            changed[at / 8] ^= 1 << (at % 8);
            assert_eq!(jar.read(later, LIFETIME, &changed, own), None, "bit {at}");
        }
        for len in 0..cookie.len() {
            assert_eq!(jar.read(later, LIFETIME, &cookie[..len], own), None);
        }
        assert!(cookie.len() <= 64);
    }

    /// Whatever strangers send, only what was baked is read, and as what it was.
    #[test]
    fn fuzz_cookies_and_solutions() {
        let mut entropy = InsecureEntropy::from_seed(5);
        let mut jar = CookieJar::default();
        let start = Instant::now();
        let own = bearer(b"nonce", 1, 7);
        let puzzle = Some((Prf::HmacSha256, 8));
        let cookie = jar.bake(start, LIFETIME, &mut entropy, own, puzzle);
        bolero::check!()
            .with_type::<(Vec<(u8, u8)>, u8, Vec<u8>, u8)>()
            .for_each(|(changes, cut, solution, difficulty)| {
                let mut changed = cookie.clone();
                for (at, value) in changes {
                    if let Some(octet) = changed.get_mut(usize::from(*at)) {
                        *octet = *value;
                    }
                }
                changed.truncate(cookie.len() + 8 - usize::from(*cut % 64).min(cookie.len()));
                let read = jar.read(start, LIFETIME, &changed, own);
                assert_eq!(read.is_some(), changed == cookie);
                let puzzle = crate::puzzle::Puzzle {
                    prf: Prf::HmacSha256,
                    difficulty: *difficulty,
                    data: changed,
                };
                if let Ok(ps) = cygnet_wire::PsPayload::parse(solution)
                    && puzzle.is_solved_by(&ps)
                {
                    let keys: Vec<_> = solution.chunks_exact(solution.len() / 4).collect();
                    for key in keys {
                        let result = Prf::HmacSha256.compute(key, &[&puzzle.data]);
                        let value = result.as_ref()[24..].try_into().map(u64::from_be_bytes);
                        let bits = value.unwrap().trailing_zeros();
                        assert!(bits >= u32::from(*difficulty).min(64));
                    }
                }
            });
    }
}
