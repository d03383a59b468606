//! An initiator that is asked to solve a puzzle (RFC 8019 §7.1.2, §7.2.2).
//!
//! The work is done outside. In IKE_SA_INIT the exchange goes on without a solution if there is none, and the responder
//! may still serve us; in front of IKE_AUTH it cannot.

use std::time::{Duration, Instant};

use cygnet_wire::{Notify, PuzzleNotify};

use crate::child::Wanted;
use crate::context::Context;
use crate::exchange::ike_intermediate;
use crate::exchange::ike_sa_init::{Handshake, fail};
use crate::io::{Answer, Event, Request, RequestId};
use crate::puzzle::{self, Puzzle};
use crate::reason::FailureReason;
use crate::sa::{Core, State};

/// Time after which a solution is of no use: responders do not keep their cookies good for much longer.
const TIME: Duration = Duration::from_secs(20);

/// A puzzle that somebody works on.
#[derive(Debug)]
pub(crate) struct Solving {
    request: RequestId,
    difficulty: u8,
    pub(crate) deadline: Instant,
}

impl Solving {
    /// Has a puzzle over `data` solved, if we do such.
    //= rfc8019#9
    //# Initiators SHOULD set a maximum difficulty level beyond which they
    //# won't try to solve the puzzle and log or display a failure message to
    //# the administrator or user.
    //= rfc8019#8.1
    //# PRF (2 octets) -- Transform ID of the PRF algorithm that MUST be used
    //# to solve the puzzle.
    pub(crate) fn begin(
        core: &Core,
        cx: &mut Context<'_>,
        notify: PuzzleNotify,
        data: Vec<u8>,
    ) -> Result<Self, FailureReason> {
        let offered = |prf: &_| core.config.proposals.iter().any(|p| p.prf.contains(prf));
        let prf = puzzle::function(notify.prf.0)
            .filter(offered)
            .ok_or(FailureReason::PuzzleFunction(notify.prf.0))?;
        let limit = cx.config.max_puzzle_difficulty;
        let difficulty = puzzle::effective(notify.difficulty, limit);
        if difficulty > limit || limit == 0 {
            return Err(FailureReason::PuzzleTooHard { difficulty, limit });
        }
        let ike = core.id;
        cx.event(Event::Puzzled { ike, difficulty });
        let puzzle = Puzzle {
            prf,
            difficulty,
            data,
        };
        let time = TIME;
        let request = cx.request(ike, Request::SolvePuzzle { ike, puzzle, time });
        Ok(Self {
            request,
            difficulty,
            deadline: cx.now + time,
        })
    }

    /// Whether an answer is to this.
    pub(crate) fn asked(&self, id: RequestId) -> bool {
        self.request == id
    }

    /// What has come of it.
    pub(crate) fn outcome(&self, answer: Answer) -> Result<Vec<u8>, FailureReason> {
        match answer {
            Answer::Solution(solution) => Ok(solution),
            Answer::Failed(refusal) => Err(self.unsolved(refusal.text)),
            Answer::Spi(_) | Answer::Done | Answer::Traffic(_) => {
                Err(self.unsolved("an answer of the wrong kind".to_owned()))
            }
        }
    }

    /// It takes too long.
    pub(crate) fn too_late(&self, cx: &mut Context<'_>) -> FailureReason {
        cx.forget(self.request);
        self.unsolved("no solution in time".to_owned())
    }

    /// It does not matter any more.
    pub(crate) fn abandon(&self, cx: &mut Context<'_>) {
        cx.forget(self.request);
    }

    fn unsolved(&self, cause: String) -> FailureReason {
        let difficulty = self.difficulty;
        FailureReason::PuzzleUnsolved { difficulty, cause }
    }
}

/// The puzzle that a response to IKE_SA_INIT contains.
pub(crate) fn given(notifies: &[Notify<'_>]) -> Option<PuzzleNotify> {
    notifies.iter().find_map(PuzzleNotify::from_notify)
}

/// The solution of the puzzle in front of IKE_AUTH is awaited.
#[derive(Debug)]
pub(crate) struct PuzzleWanted {
    handshake: Handshake,
    child: Option<Wanted>,
    solving: Solving,
}

/// Goes on from IKE_SA_INIT, to a puzzle if the response contains one.
//= rfc8019#7.2.2
//# If the IKE_SA_INIT regular response message (i.e., the message
//# containing SA, KE, NONCE payloads) contains the PUZZLE notification
//# and the Initiator supports puzzles, it MUST solve the puzzle.
pub(crate) fn begin(
    core: &mut Core,
    cx: &mut Context<'_>,
    handshake: Handshake,
    child: Option<Wanted>,
    puzzle: Option<PuzzleNotify>,
) -> State {
    let Some(puzzle) = puzzle else {
        return ike_intermediate::begin(core, cx, handshake, child);
    };
    let data = Puzzle::data_before_auth(&handshake.nr, core.responder_spi);
    match Solving::begin(core, cx, puzzle, data) {
        Ok(solving) => State::PuzzleWanted(Box::new(PuzzleWanted {
            handshake,
            child,
            solving,
        })),
        Err(reason) => fail(core, cx, child, reason),
    }
}

impl PuzzleWanted {
    pub(crate) fn on_answer(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        id: RequestId,
        answer: Answer,
    ) -> State {
        if !self.solving.asked(id) {
            return State::PuzzleWanted(self);
        }
        match self.solving.outcome(answer) {
            Ok(solution) => {
                self.handshake.solution = Some(solution);
                ike_intermediate::begin(core, cx, self.handshake, self.child)
            }
            Err(reason) => fail(core, cx, self.child, reason),
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.solving.deadline
    }

    pub(crate) fn on_timeout(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        if cx.now < self.solving.deadline {
            return State::PuzzleWanted(self);
        }
        let reason = self.solving.too_late(cx);
        fail(core, cx, self.child, reason)
    }

    pub(crate) fn cancel(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        self.solving.abandon(cx);
        fail(core, cx, self.child, FailureReason::Cancelled)
    }
}
