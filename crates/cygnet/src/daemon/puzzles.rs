//! The thread that solves the puzzles of peers under load (RFC 8019).

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use cygnet_engine::{Answer, RequestId};
use cygnet_ike::Puzzle;
use tokio::sync::mpsc::UnboundedSender;

use super::planes::Answered;

/// Puzzles that wait for the one that is being solved. Each takes a second or two; more are not solved in time.
const QUEUE: usize = 16;

struct Task {
    id: RequestId,
    puzzle: Puzzle,
    deadline: Instant,
}

/// Gives puzzles to the thread, which begins with the first of them.
pub(super) struct Solver {
    tasks: Option<SyncSender<Task>>,
    answers: UnboundedSender<Answered>,
}

impl Solver {
    /// Without a thread yet: most daemons never see a puzzle.
    pub(super) fn new(answers: UnboundedSender<Answered>) -> Self {
        Self {
            tasks: None,
            answers,
        }
    }

    /// Has a puzzle solved. Answers come through the channel of answers, a refusal too.
    pub(super) fn solve(&mut self, id: RequestId, puzzle: Puzzle, time: Duration) {
        let deadline = Instant::now() + time;
        let task = Task {
            id,
            puzzle,
            deadline,
        };
        if let Err(text) = self.enqueue(task) {
            let _ = self.answers.send((id, Answer::Failed(text)));
        }
    }

    fn enqueue(&mut self, task: Task) -> Result<(), String> {
        let tasks = match &self.tasks {
            Some(tasks) => tasks,
            None => {
                let (tasks, queue) = sync_channel::<Task>(QUEUE);
                let answers = self.answers.clone();
                std::thread::Builder::new()
                    .name("cygnet-puzzle".to_owned())
                    .spawn(move || {
                        // Ends with the daemon, at the latest when the deadline of its task has come.
                        for task in queue {
                            let answer = task.work(|| answers.is_closed());
                            let _ = answers.send((task.id, answer));
                        }
                    })
                    .map_err(|error| format!("no thread: {error}"))?;
                self.tasks.insert(tasks)
            }
        };
        tasks.try_send(task).map_err(|error| match error {
            TrySendError::Full(_) => format!("{QUEUE} other puzzles wait already"),
            TrySendError::Disconnected(_) => "the thread for puzzles has ended".to_owned(),
        })
    }
}

impl Task {
    fn work(&self, unwanted: impl Fn() -> bool) -> Answer {
        let begun = Instant::now();
        let go_on = || Instant::now() < self.deadline && !unwanted();
        match self.puzzle.solve(go_on) {
            Some(solution) => {
                let bits = self.puzzle.difficulty;
                tracing::info!(bits, took = ?begun.elapsed(), "a peer's puzzle is solved");
                Answer::Solution(solution)
            }
            None => Answer::Failed("no solution was found in time".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_crypto::Prf;

    fn puzzle(difficulty: u8) -> Puzzle {
        Puzzle {
            prf: Prf::HmacSha256,
            difficulty,
            data: vec![7; 44],
        }
    }

    #[test]
    fn each_puzzle_is_answered_and_the_queue_is_bounded() {
        let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let mut solver = Solver::new(sender);
        // Too hard for its time: the others wait behind it.
        let count = QUEUE as u64 + 10;
        for n in 0..count {
            solver.solve(RequestId(n), puzzle(28), Duration::from_millis(300));
        }
        let (mut full, mut late) = (0, 0);
        for _ in 0..count {
            match answers.blocking_recv().unwrap().1 {
                Answer::Failed(text) if text.contains("wait already") => full += 1,
                Answer::Failed(text) if text.contains("in time") => late += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!((8..=10).contains(&full), "{full}");
        assert_eq!(full + late, count);
        solver.solve(RequestId(99), puzzle(8), Duration::from_secs(20));
        match answers.blocking_recv().unwrap() {
            (RequestId(99), Answer::Solution(keys)) => assert_eq!(keys.len(), 16),
            other => panic!("{other:?}"),
        }
    }
}
