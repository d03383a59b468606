//! How a responder defends itself against floods of IKE_SA_INIT: cookies, puzzles, limits (RFC 7296 §2.6, RFC 8019 §4, §6).
//!
//! ```text
//! half-open IKE SAs, all:      0 …… cookies …… puzzles …… max
//!                  one source:  0 …… cookies …… limit, beyond it only against puzzles
//! ```
//!
//! Nothing is remembered of who is asked for something; the cookie says it when it comes back. Of solved puzzles the
//! serial number is kept while it could be used again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cygnet_crypto::{Entropy, Prf};

use crate::config::{EndpointConfig, PuzzlePolicy};
use crate::cookie::{CookieJar, Task};
use crate::exchange::first_request::FirstRequest;
use crate::half_open::HalfOpen;
use crate::puzzle::{self, PUZZLE_DIFFICULTY, Puzzle};
use crate::reason::RejectReason;
use crate::sa::Arrival;
use crate::stats::{DropReason, Stats};
use crate::transport::Transport;

/// Time for which cookies are asked for after a useless public value.
const AFTER_PROBE: Duration = Duration::from_secs(10);

/// Bits that load and suspicion add to the difficulty at most.
const MOST_EXTRA: u8 = 6;

/// Bits of puzzles in front of IKE_AUTH: more work than checking one message, less than a person notices.
//= rfc8019#7.2.1.1
//# Unlike puzzles in the IKE_SA_INIT, the requested difficulty level for
//# IKE_AUTH puzzles MUST NOT be 0.
const AUTH_DIFFICULTY: u8 = 14;

/// Serial numbers of solved puzzles that are remembered. When there are more in the time for which they count, nobody
/// else is admitted by a puzzle.
const MAX_SPENT: usize = 65_536;

/// At the beginning of the crowd, one of so many that return a cookie without a solution is served.
const LOTS: u64 = 16;

/// What strangers must do to be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DefenceLevel {
    /// Nothing.
    None,
    /// Return a cookie.
    Cookies,
    /// Return a cookie and the solution of a puzzle.
    Puzzles,
}

impl DefenceLevel {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cookies => "cookies",
            Self::Puzzles => "puzzles",
        }
    }
}

/// What becomes of a request that begins an IKE SA before anything is computed for it.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is served. The puzzle that it has solved is spent when it is.
    Admitted(Option<Task>),
    /// It must come again with this cookie and, if there is one, the solution of a puzzle.
    Asked {
        cookie: Vec<u8>,
        puzzle: Option<(Prf, u8)>,
    },
    /// It offers no function that we know: there is nothing to negotiate.
    Incompatible,
    /// It is one too many.
    Refused(DropReason, RejectReason),
}

#[derive(Debug, Default)]
pub(crate) struct Defence {
    pub(crate) half_open: HalfOpen,
    cookies: CookieJar,
    spent: BTreeSet<u64>,
    /// When a stranger's public value was found to be useless.
    probed: Option<Instant>,
}

impl Defence {
    /// Somebody makes us compute for nothing.
    pub(crate) fn note_probe(&mut self, now: Instant) {
        self.probed = Some(now);
    }

    /// What is asked of strangers of whom we have heard nothing.
    pub(crate) fn level(&self, now: Instant, config: &EndpointConfig) -> DefenceLevel {
        if self.difficulty(config, 0).is_some() {
            DefenceLevel::Puzzles
        } else if self.needs_cookie(now, config, 0) {
            DefenceLevel::Cookies
        } else {
            DefenceLevel::None
        }
    }

    /// Decides about a request.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        config: &EndpointConfig,
        entropy: &mut dyn Entropy,
        stats: &mut Stats,
        request: &FirstRequest<'_>,
        arrival: Arrival,
    ) -> Admission {
        let address = arrival.remote.ip();
        //= rfc9329#6.3
        //# The exchange Responder SHOULD NOT send an IKEv2 Cookie request
        //# without an accompanied Puzzle
        // That it has a stream shows that its address is no forgery.
        let proven = arrival.transport == Transport::Tcp;
        let of_address = self.half_open.of(address);
        let crowded = self.difficulty(config, of_address);
        //= rfc8019#4.5
        //# When the Responder is under attack, it SHOULD prefer previously
        //# authenticated peers who present a Session Resumption ticket
        //# [RFC5723].
        let difficulty = crowded.filter(|_| !request.resumes());
        let mut solved = None;
        //= rfc8019#4.5
        //# When under attack, the Responder SHOULD require Initiators presenting
        //# Session Resumption tickets to pass a return routability check by
        //# including the COOKIE notification in the IKE_SESSION_RESUME response
        //# message, as described in Section 4.3.2. of [RFC5723].
        if crowded.is_some() || !proven && self.needs_cookie(now, config, of_address) {
            //= rfc7296#2.6
            //# When one party receives an IKE_SA_INIT request containing a cookie
            //# whose contents do not match the value expected, that party MUST
            //# ignore the cookie and process the message as if no cookie had been
            //# included; usually this means sending a response containing a new
            //# cookie.
            let bearer = request.bearer(address);
            let lifetime = config.cookie_lifetime;
            //= rfc8019#7.1.4
            //# First, the cookie MUST be checked for validity.
            let returned = request
                .cookie()
                .and_then(|cookie| self.cookies.read(now, lifetime, cookie, bearer));
            let served = match (returned, difficulty) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(task), Some(_)) => match (task, request.solution()) {
                    //= rfc8019#7.1.4
                    //# In this
                    //# case, the received request message must not contain the PS payload,
                    //# and this payload MUST be ignored if the message contains a PS payload
                    //# for any reason.
                    (None, _) | (_, None) => self.draws_a_lot(config, entropy),
                    (Some(task), Some(solution)) => {
                        let puzzle = Puzzle {
                            prf: task.prf,
                            difficulty: task.difficulty,
                            data: request.cookie().unwrap_or_default().to_vec(),
                        };
                        //= rfc8019#7.1.4
                        //# If a PS payload is found in the message, then the Responder MUST
                        //# verify the puzzle solution that it contains.
                        if self.is_unspent(now, lifetime, task) && puzzle.is_solved_by(&solution) {
                            stats.puzzles_solved = stats.puzzles_solved.saturating_add(1);
                            solved = Some(task);
                        } else {
                            stats.count(DropReason::PuzzleUnsolved);
                        }
                        solved.is_some()
                    }
                },
            };
            if !served {
                //= rfc8019#7.1.1.2
                //# If there are no mutually supported
                //# PRFs, then IKE SA negotiation will fail anyway and there is no reason
                //# to return a puzzle.  In this case, the Responder returns a
                //# NO_PROPOSAL_CHOSEN notification.
                let puzzle = match difficulty {
                    None => None,
                    Some(difficulty) => match puzzle::choose(|prf| request.offers(prf)) {
                        Some(prf) => Some((prf, difficulty)),
                        None => return Admission::Incompatible,
                    },
                };
                let sent = match puzzle {
                    None => &mut stats.cookies_sent,
                    Some(_) => &mut stats.puzzles_sent,
                };
                *sent = sent.saturating_add(1);
                let cookie = self.cookies.bake(now, lifetime, entropy, bearer, puzzle);
                return Admission::Asked { cookie, puzzle };
            }
            stats.cookies_accepted = stats.cookies_accepted.saturating_add(1);
        }
        let total = self.half_open.total;
        if total >= config.max_half_open {
            let reason = RejectReason::HalfOpenLimit(total);
            return Admission::Refused(DropReason::HalfOpenLimit, reason);
        }
        // Who has worked for it may be one of many behind a NAT.
        if of_address >= config.max_half_open_per_address && solved.is_none() {
            let reason = RejectReason::HalfOpenLimitOfAddress {
                address,
                count: of_address,
            };
            return Admission::Refused(DropReason::HalfOpenLimitOfAddress, reason);
        }
        Admission::Admitted(solved)
    }

    /// Notes that a puzzle has been used to be served.
    pub(crate) fn spend(&mut self, task: Task) {
        self.spent.insert(task.serial);
    }

    /// The puzzle that whoever has solved `task` must solve before IKE_AUTH, if many never come to a good one.
    //= rfc8019#7.2.1
    //# The
    //# Responder MUST NOT use puzzles in the IKE_AUTH exchange unless a
    //# puzzle has been previously presented and solved in the preceding
    //# IKE_SA_INIT exchange.
    pub(crate) fn before_auth(&self, task: Task) -> Option<(Prf, u8)> {
        let HalfOpen { total, spoilt, .. } = self.half_open;
        (spoilt > 0 && spoilt.saturating_mul(4) >= total).then_some((task.prf, AUTH_DIFFICULTY))
    }

    /// Whether an IKE_SA_INIT request must prove that its source address is no forgery: when many SAs are half open, so
    /// many of this address that forgeries could use up its share, or when somebody makes us compute for nothing, which
    /// leaves no SA to count.
    //= rfc7296#2.6
    //# When a responder detects a large number of half-open IKE SAs, it
    //# SHOULD reply to IKE_SA_INIT requests with a response containing the
    //# COOKIE notification.
    fn needs_cookie(&self, now: Instant, config: &EndpointConfig, of_address: usize) -> bool {
        self.half_open.total >= config.cookie_threshold
            || of_address > 0 && of_address >= config.max_half_open_per_address / 2
            || self
                .probed
                .is_some_and(|at| now.saturating_duration_since(at) < AFTER_PROBE)
    }

    /// How hard a puzzle must be solved by somebody from an address with so many half-open SAs, if one must.
    //= rfc8019#7.1.1.1
    //# If the Responder sets a non-zero difficulty level, then the level
    //# SHOULD be determined by analyzing the volume of the attack.  The
    //# Responder MAY set different difficulty levels to different requests
    //# depending on the IP address the request has come from.
    fn difficulty(&self, config: &EndpointConfig, of_address: usize) -> Option<u8> {
        let PuzzlePolicy {
            threshold,
            difficulty,
        } = config.puzzles?;
        let (total, most) = (self.half_open.total, config.max_half_open);
        let limit = config.max_half_open_per_address;
        if total >= most || total < threshold && of_address < limit {
            // Nobody works for nothing: a full house is full for all.
            return None;
        }
        // One bit more for each third of what is left between the threshold and the end.
        let thirds = total
            .saturating_sub(threshold)
            .saturating_mul(3)
            .checked_div(most.saturating_sub(threshold))
            .unwrap_or_default();
        // And for a quarter of the share of an address, and for each doubling from there.
        let quarters = of_address
            .saturating_mul(4)
            .checked_div(limit)
            .unwrap_or_default();
        let doublings = usize::try_from(quarters.saturating_add(1).ilog2()).unwrap_or_default();
        let extra = u8::try_from(thirds.saturating_add(doublings)).unwrap_or(u8::MAX);
        let (least, hardest) = PUZZLE_DIFFICULTY.into_inner();
        Some(
            difficulty
                .saturating_add(extra.min(MOST_EXTRA))
                .clamp(least, hardest),
        )
    }

    /// Whether one that has returned its cookie but solved no puzzle is served all the same. The chance falls with the load,
    /// and half of the room is kept for those that work.
    //= rfc8019#7.1
    //# The decision whether to process any particular request
    //# must be probabilistic, with the probability depending on the
    //# Responder's load (i.e., on the volume of attack).  The requests that
    //# don't contain the COOKIE notification MUST NOT participate in this
    //# lottery.
    fn draws_a_lot(&self, config: &EndpointConfig, entropy: &mut dyn Entropy) -> bool {
        let Some(policy) = config.puzzles else {
            return false;
        };
        let Some(over) = self.half_open.total.checked_sub(policy.threshold) else {
            return false;
        };
        let room = config.max_half_open.saturating_sub(policy.threshold) / 2;
        let (Ok(left), Ok(room)) = (
            u64::try_from(room.saturating_sub(over)),
            u64::try_from(room),
        ) else {
            return false;
        };
        let mut octets = [0; 4];
        entropy.fill(&mut octets);
        let drawn = u64::from(u32::from_be_bytes(octets));
        drawn
            .checked_rem(room.saturating_mul(LOTS))
            .is_some_and(|drawn| drawn < left)
    }

    /// Whether a puzzle is young enough and has not been used. Forgets those that are too old anyway.
    //= rfc8019#7.1.1.3
    //# When selecting cookie generation, algorithm implementations MUST
    //# ensure that an attacker gains no or insignificant benefit from reusing
    //# puzzle solutions in several requests.
    fn is_unspent(&mut self, now: Instant, lifetime: Duration, task: Task) -> bool {
        let oldest = now
            .checked_sub(lifetime)
            .map_or(0, |then| self.cookies.serial(then));
        self.spent = self.spent.split_off(&oldest);
        task.serial >= oldest && self.spent.len() < MAX_SPENT && !self.spent.contains(&task.serial)
    }
}
