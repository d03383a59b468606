//! Several requests that belong together: run one after the other, stopped at
//! the first failure, with a note of how far they came.

use std::collections::{HashMap, VecDeque};

use cygnet_ike::{ChildSaId, RequestId as IkeRequestId};
use cygnet_ipsec::{Command, CommandError};

use crate::connection_state::ConnectionId;
use crate::io::{Answer, Plane, Protection, ProtectionId, Request};
use crate::shared_policies::SharedPolicies;

/// One request of a transaction, kept until its answer is in.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Protect(Box<Protection>),
    Unprotect(ProtectionId),
    Execute {
        plane: Plane,
        commands: Vec<Command>,
    },
}

impl Step {
    pub(crate) fn request(&self) -> Request {
        match self {
            Self::Protect(p) => Request::Protect(Protection::clone(p)),
            Self::Unprotect(id) => Request::Unprotect(*id),
            Self::Execute { plane, commands } => Request::Execute {
                plane: *plane,
                commands: commands.clone(),
            },
        }
    }
}

/// What to do when a transaction has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Completion {
    /// Tell the IKE SA that its child is installed.
    ChildInstalled {
        request: IkeRequestId,
        child: ChildSaId,
    },
    /// Tell the IKE SA that its child is gone.
    ChildRemoved { request: Option<IkeRequestId> },
    /// The outbound SA of a child SA goes on with later sequence numbers.
    SequenceSkipped { child: ChildSaId },
    /// A child SA is at its new addresses.
    ChildMoved { child: ChildSaId },
    /// A trap, shunt or fence of a connection stands.
    Trapped(ConnectionId),
    /// A trap, shunt or fence of a connection is gone.
    Untrapped(ConnectionId),
}

/// How a transaction ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Everything was done.
    Done,
    /// A step failed. `installed_sas` counts the SAs that stand all the same.
    Failed { text: String, installed_sas: usize },
}

/// A running transaction.
#[derive(Debug)]
pub(crate) struct Transaction {
    steps: VecDeque<Step>,
    current: Option<Step>,
    pub(crate) then: Completion,
    /// A failure does not stop it: what can be taken away is taken away.
    tearing_down: bool,
    installed_sas: usize,
    /// The next step is the rest of one that a plane has stopped: others may have wanted something else meanwhile.
    is_outdated: bool,
    /// What went wrong in a teardown.
    pub(crate) complaints: Vec<(Plane, String)>,
}

impl Transaction {
    pub(crate) fn building(steps: impl IntoIterator<Item = Step>, then: Completion) -> Self {
        Self::new(steps, then, false)
    }

    pub(crate) fn tearing_down(steps: impl IntoIterator<Item = Step>, then: Completion) -> Self {
        Self::new(steps, then, true)
    }

    fn new(steps: impl IntoIterator<Item = Step>, then: Completion, tearing_down: bool) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            current: None,
            then,
            tearing_down,
            installed_sas: 0,
            is_outdated: false,
            complaints: Vec::new(),
        }
    }

    /// The next request; `None` when all steps are done.
    pub(crate) fn next(&mut self) -> Option<Request> {
        self.current = self.steps.pop_front();
        self.current.as_ref().map(Step::request)
    }

    /// Brings the rest of a teardown that a plane has stopped to what is wanted by now.
    pub(crate) fn refresh(&mut self, policies: &HashMap<Plane, SharedPolicies>) {
        if !std::mem::take(&mut self.is_outdated) {
            return;
        }
        if let Some(Step::Execute { plane, commands }) = self.steps.front_mut()
            && let Some(shared) = policies.get(plane)
        {
            *commands = std::mem::take(commands)
                .into_iter()
                .filter_map(|command| shared.brought_up_to_date(command))
                .collect();
        }
    }

    /// Takes the answer to the request that [`Self::next`] gave last. An
    /// outcome means that the transaction has failed.
    pub(crate) fn answer(&mut self, answer: Answer) -> Option<Outcome> {
        let step = self.current.take()?;
        let failure = match (&step, answer) {
            (Step::Execute { plane, commands }, Answer::Executed(results)) => {
                return self.executed(*plane, commands, results);
            }
            (Step::Protect(_) | Step::Unprotect(_), Answer::Done) => return None,
            (_, Answer::Failed(text)) => text,
            (_, other) => format!("unexpected answer {other:?}"),
        };
        if self.tearing_down {
            let plane = match step {
                Step::Execute { plane, .. } => plane,
                Step::Protect(_) | Step::Unprotect(_) => Plane::Kernel,
            };
            self.complaints.push((plane, failure));
            return None;
        }
        Some(Outcome::Failed {
            text: failure,
            installed_sas: self.installed_sas,
        })
    }

    fn executed(
        &mut self,
        plane: Plane,
        commands: &[Command],
        results: Vec<Result<cygnet_ipsec::Reply, CommandError>>,
    ) -> Option<Outcome> {
        let tried = results.len();
        for (command, result) in commands.iter().zip(results) {
            match result {
                Ok(_) => {
                    self.installed_sas += usize::from(matches!(command, Command::InstallSa(_)))
                }
                // An SA that expired by itself is as gone as one that was removed.
                Err(CommandError::NotFound) if self.tearing_down => {}
                Err(e) if self.tearing_down => self
                    .complaints
                    .push((plane, format!("{}: {e}", verb(command)))),
                Err(e) => {
                    return Some(Outcome::Failed {
                        text: format!("{}: {e}", verb(command)),
                        installed_sas: self.installed_sas,
                    });
                }
            }
        }
        if tried >= commands.len() {
            return None;
        }
        if self.tearing_down && tried > 0 {
            // The plane stopped at the failure; the rest is still to be taken away.
            self.is_outdated = true;
            self.steps.push_front(Step::Execute {
                plane,
                commands: commands[tried..].to_vec(),
            });
            return None;
        }
        Some(Outcome::Failed {
            text: "the data plane did not answer all commands".to_owned(),
            installed_sas: self.installed_sas,
        })
    }
}

/// What a command does, for messages. Never shows keys.
pub(crate) fn verb(command: &Command) -> String {
    match command {
        Command::AllocateSpi(a) => format!("allocating an SPI for {}", a.dst),
        Command::InstallSa(sa) => format!("installing the SA {:08x} to {}", sa.id.spi, sa.id.dst),
        Command::UpdateSa(sa) => format!("updating the SA {:08x} to {}", sa.id.spi, sa.id.dst),
        Command::MoveSa(m) => format!(
            "moving the SA {:08x} from {} to {}",
            m.id.spi, m.id.dst, m.dst
        ),
        Command::SkipSequence(skip) => format!(
            "leaving {} sequence numbers out of the SA {:08x} to {}",
            skip.by, skip.id.spi, skip.id.dst
        ),
        Command::RemoveSa(id) => format!("removing the SA {:08x} to {}", id.spi, id.dst),
        Command::InstallPolicy(p) | Command::UpdatePolicy(p) => {
            format!(
                "installing the {:?} policy {} to {}",
                p.key.direction, p.key.selector.src, p.key.selector.dst
            )
        }
        Command::RemovePolicy(key) => {
            format!(
                "removing the {:?} policy {} to {}",
                key.direction, key.selector.src, key.selector.dst
            )
        }
        Command::QuerySa(id) => format!("reading the SA {:08x} to {}", id.spi, id.dst),
        Command::QueryPolicy(_) => "reading a policy".to_owned(),
    }
}
