//! The databases of the Linux kernel, by XFRM netlink.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::slice;

use cygnet_ipsec as ipsec;
use cygnet_xfrm as xfrm;
use ipsec::{Command, CommandError, PolicyReport, Reply, SaDatabase, SaReport};
use rustix::io::Errno;
use xfrm::{Attribute, Attributes, Body, Client, Message, RequestError};

use super::{Algorithms, Capabilities, Sadb, SadbEvent, convert, probe};
use crate::ledger::{Change, Claim, Ledger, LedgerError, Object, PolicyRecord, SaRecord};

/// Why the kernel's databases could not be reached or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SadbError {
    /// The request or event socket could not be opened, or failed.
    #[error("xfrm netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// A table could not be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The ledger could not be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What a start found of an earlier life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciliation {
    /// SAs of the ledger that were still there and have been removed: their keys' owner is gone.
    pub removed_sas: Vec<ipsec::SaId>,
    /// Policies of the ledger that are still there. They stay, as a fence, until they are installed
    /// anew or [`LinuxSadb::remove_unclaimed`] is called.
    pub adopted_policies: Vec<ipsec::PolicyKey>,
    /// Entries of the ledger without anything of ours behind them: the request was never carried
    /// out, it is gone already, or something foreign is in its place.
    pub dropped_entries: usize,
}

/// The kernel's SAD and SPD in one network namespace.
///
/// Needs `CAP_NET_ADMIN`. Calls block for as long as the kernel takes, which is short; the first
/// use of an algorithm loads its module.
#[derive(Debug)]
pub struct LinuxSadb {
    client: Client,
    events: xfrm::EventSocket,
    ledger: Option<Ledger>,
    /// Hears of deletions while an SA is being moved; of nothing otherwise.
    pub(super) deletions: xfrm::EventSocket,
    /// Inbound SAs whose SPI the kernel has given us and which are not installed yet.
    larval: HashSet<ipsec::SaId>,
    /// Whether the kernel knows the direction of SAs (6.10): found out when it matters.
    knows_direction: Option<bool>,
    /// Whether the kernel can move one SA (7.2): found out when it matters.
    pub(super) knows_migrate_state: Option<bool>,
}

impl LinuxSadb {
    /// Opens the sockets in the calling thread's network namespace. From then on the kernel raises
    /// ACQUIREs. With a ledger, everything made is recorded in it before it is made.
    ///
    /// # Errors
    /// No XFRM in the kernel, or no permission.
    pub fn open(ledger: Option<Ledger>) -> Result<Self, SadbError> {
        let groups = [
            xfrm::Group::ACQUIRE,
            xfrm::Group::EXPIRE,
            xfrm::Group::MAPPING,
        ];
        Ok(Self {
            client: Client::open()?,
            events: xfrm::EventSocket::open(&groups)?,
            deletions: xfrm::EventSocket::open(&[])?,
            ledger,
            larval: HashSet::new(),
            knows_direction: None,
            knows_migrate_state: None,
        })
    }

    /// Compares the ledger of an earlier life with the tables. Call it once, before the first
    /// command. What is not in the ledger is not touched.
    ///
    /// # Errors
    /// A table could not be read, or the ledger not be written. A leftover that cannot be removed
    /// stays in the ledger.
    pub fn reconcile(&mut self) -> Result<Reconciliation, SadbError> {
        let mut result = Reconciliation::default();
        let Some(mut ledger) = self.ledger.take() else {
            return Ok(result);
        };
        let outcome = self.reconcile_with(&mut ledger, &mut result);
        self.ledger = Some(ledger);
        outcome.map(|()| result)
    }

    fn reconcile_with(
        &mut self,
        ledger: &mut Ledger,
        result: &mut Reconciliation,
    ) -> Result<(), SadbError> {
        if ledger.is_empty() {
            return Ok(());
        }
        for (info, attributes) in self.client.dump_sas()? {
            let Ok(report) = convert::sa_report(&info, &attributes) else {
                continue;
            };
            if !ledger.owns_sa(&report, info.used.add_time) {
                continue;
            }
            let (id, attributes) = convert::sa_id(&report.sa.id);
            match self.client.delete_sa(id, attributes) {
                Ok(_) => {}
                Err(error) if error.errno() == Some(Errno::SRCH.raw_os_error()) => {}
                Err(error) => {
                    ledger.keep(&Object::Sa(SaRecord::from(&report.sa.id)));
                    tracing::warn!(sa = ?report.sa.id, %error, "cannot remove a leftover SA");
                    continue;
                }
            }
            result.removed_sas.push(report.sa.id);
        }
        for (info, attributes) in self.client.dump_policies()? {
            // Sockets' policies go with their sockets.
            let Ok(key) = convert::policy_key(&info, &attributes) else {
                continue;
            };
            if ledger.adopt_policy(&key, info.used.add_time) {
                result.adopted_policies.push(key);
            }
        }
        result.dropped_entries = ledger.finish_reconciliation(result.removed_sas.len())?;
        Ok(())
    }

    /// Removes the policies of an earlier life that nobody has installed anew. Call it when
    /// everything configured has been installed.
    pub fn remove_unclaimed(&mut self) -> Vec<(ipsec::PolicyKey, Result<Reply, CommandError>)> {
        let unclaimed: Vec<_> = self
            .ledger
            .as_ref()
            .map(Ledger::unclaimed_policies)
            .unwrap_or_default();
        unclaimed
            .into_iter()
            .map(|key| (key, self.execute(&Command::RemovePolicy(key))))
            .collect()
    }

    /// The ledger, if there is one.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// Removes everything that the ledger says is ours: SAs first, so that nothing passes
    /// unprotected meanwhile. For a polite stop.
    pub fn remove_all(&mut self) -> Vec<(Command, CommandError)> {
        let commands: Vec<_> = self
            .ledger
            .as_ref()
            .map(Ledger::removals)
            .unwrap_or_default();
        let results = self.execute_all(&commands);
        commands
            .into_iter()
            .zip(results)
            .filter_map(|(command, result)| match result {
                Ok(_) | Err(CommandError::NotFound) => None,
                Err(error) => Some((command, error)),
            })
            .collect()
    }

    /// Whether this may be changed and removed: it is in the ledger, or there is none.
    fn is_ours(&self, object: Object) -> bool {
        self.ledger
            .as_ref()
            .is_none_or(|ledger| ledger.claims(&object))
    }

    /// Foreign things are to us as if they were not there.
    pub(super) fn only_ours(&self, object: Object) -> Result<(), CommandError> {
        if self.is_ours(object) {
            Ok(())
        } else {
            Err(CommandError::NotFound)
        }
    }

    /// The message for a command, after what must be known about it has been looked up. `made` are
    /// the things that earlier commands of the same send make.
    fn prepare(
        &self,
        command: &Command,
        made: &mut HashSet<Object>,
    ) -> Result<Message, CommandError> {
        let known = |object: Object, made: &HashSet<Object>| {
            if made.contains(&object) {
                Ok(())
            } else {
                self.only_ours(object)
            }
        };
        match command {
            Command::UpdateSa(sa) => known(Claim::sa(sa).object, made)?,
            Command::RemoveSa(id) => known(Object::Sa(SaRecord::from(id)), made)?,
            Command::RemovePolicy(key) => known(Object::Policy(PolicyRecord::from(key)), made)?,
            _ => {}
        }
        let message = self.message(command, made)?;
        made.extend(claim(command).map(|claim| claim.object));
        Ok(message)
    }

    fn message(&self, command: &Command, made: &HashSet<Object>) -> Result<Message, CommandError> {
        Ok(match command {
            Command::AllocateSpi(request) => convert::alloc_spi(request),
            Command::InstallSa(sa) => {
                let (info, attributes) = self.sa_message(sa)?;
                // UPDSA would change an SA that is valid already, so only where we hold the SPI.
                let body = if self.larval.contains(&sa.id) {
                    Body::UpdateSa(info)
                } else {
                    Body::NewSa(info)
                };
                Message { body, attributes }
            }
            Command::UpdateSa(sa) => {
                let (info, attributes) = self.sa_message(sa)?;
                Message {
                    body: Body::UpdateSa(info),
                    attributes,
                }
            }
            Command::MoveSa(_) | Command::SkipSequence(_) => {
                let text = "that takes more than one message";
                return Err(CommandError::Unsupported(text.into()));
            }
            Command::RemoveSa(id) => {
                let (id, attributes) = convert::sa_id(id);
                Message {
                    body: Body::DeleteSa(id),
                    attributes,
                }
            }
            Command::QuerySa(id) => {
                let (id, attributes) = convert::sa_id(id);
                Message {
                    body: Body::GetSa(id),
                    attributes,
                }
            }
            Command::InstallPolicy(policy) => {
                let (info, attributes) = convert::policy(policy);
                // One of an earlier life that we kept is ours to replace.
                let adopted = self
                    .ledger
                    .as_ref()
                    .is_some_and(|l| l.is_unclaimed(&policy.key));
                let body = if adopted {
                    Body::UpdatePolicy(info)
                } else {
                    Body::NewPolicy(info)
                };
                Message { body, attributes }
            }
            Command::UpdatePolicy(policy) => {
                let (info, attributes) = convert::policy(policy);
                // UPDPOLICY would replace a foreign one; NEWPOLICY is refused then.
                let object = Claim::policy(&policy.key).object;
                let body = if made.contains(&object) || self.is_ours(object) {
                    Body::UpdatePolicy(info)
                } else {
                    Body::NewPolicy(info)
                };
                Message { body, attributes }
            }
            Command::RemovePolicy(key) => {
                let (id, attributes) = convert::policy_id(key);
                Message {
                    body: Body::DeletePolicy(id),
                    attributes,
                }
            }
            Command::QueryPolicy(key) => {
                let (id, attributes) = convert::policy_id(key);
                Message {
                    body: Body::GetPolicy(id),
                    attributes,
                }
            }
        })
    }

    fn sa_message(&self, sa: &ipsec::Sa) -> Result<(xfrm::SaInfo, Attributes), CommandError> {
        let (info, mut attributes) = convert::sa(sa)?;
        if self.knows_direction == Some(false) {
            widen_outbound_window(sa, &mut attributes);
        }
        Ok((info, attributes))
    }

    /// Takes the kernel's answer, with a second attempt where the first one could not know.
    fn finish(
        &mut self,
        command: &Command,
        outcome: Result<xfrm::Answer, RequestError>,
    ) -> Result<Reply, CommandError> {
        let outcome = match (command, outcome) {
            (Command::InstallSa(sa), Err(error)) => self.install_again(sa, error),
            (_, outcome) => outcome,
        };
        let answer = outcome.map_err(|error| command_error(command, &error))?;
        if let Some(warning) = &answer.warning {
            tracing::warn!(warning, "remark of the kernel on an xfrm request");
        }
        let reply = self.reply(command, answer)?;
        match (command, &reply) {
            (Command::AllocateSpi(request), Reply::Spi(spi)) => {
                self.larval.insert(allocated(request, *spi));
            }
            (Command::InstallSa(sa), _) => {
                self.larval.remove(&sa.id);
            }
            (Command::RemoveSa(id), _) => {
                self.larval.remove(id);
            }
            _ => {}
        }
        Ok(reply)
    }

    fn install_again(
        &mut self,
        sa: &ipsec::Sa,
        error: RequestError,
    ) -> Result<xfrm::Answer, RequestError> {
        let errno = error.errno().map(Errno::from_raw_os_error);
        // The larval SA has expired meanwhile: its SPI is free again, or taken (then EEXIST).
        let expired =
            matches!(errno, Some(Errno::SRCH | Errno::NOENT)) && self.larval.remove(&sa.id);
        // Kernels before 6.10 do not know directions and want a window with ESN also outbound.
        let old_kernel = errno == Some(Errno::INVAL)
            && sa.esn
            && sa.direction == ipsec::SaDirection::Out
            && self.knows_direction.is_none()
            && !self.learn_direction();
        if !expired && !old_kernel {
            return Err(error);
        }
        let Ok((info, attributes)) = self.sa_message(sa) else {
            return Err(error);
        };
        self.client.add_sa(info, attributes)
    }

    fn learn_direction(&mut self) -> bool {
        let knows = probe::knows_direction(&mut self.client).unwrap_or(true);
        self.knows_direction = Some(knows);
        knows
    }

    fn reply(&self, command: &Command, answer: xfrm::Answer) -> Result<Reply, CommandError> {
        let unusable = |text: String| CommandError::Failed {
            errno: Errno::BADMSG.raw_os_error(),
            text,
        };
        match (command, answer.message) {
            (
                Command::AllocateSpi(_),
                Some(Message {
                    body: Body::NewSa(info),
                    ..
                }),
            ) => Ok(Reply::Spi(info.id.spi)),
            (
                Command::QuerySa(_),
                Some(Message {
                    body: Body::NewSa(info),
                    attributes,
                }),
            ) => convert::sa_report(&info, &attributes)
                .map(|report| Reply::Sa(Box::new(report)))
                .map_err(|e| unusable(e.to_string())),
            (
                Command::QueryPolicy(_),
                Some(Message {
                    body: Body::NewPolicy(info),
                    attributes,
                }),
            ) => convert::policy_report(&info, &attributes)
                .map(|report| Reply::Policy(Box::new(report)))
                .map_err(|e| unusable(e.to_string())),
            (Command::AllocateSpi(_) | Command::QuerySa(_) | Command::QueryPolicy(_), _) => {
                Err(unusable("acknowledged without an answer".into()))
            }
            _ => Ok(Reply::Done),
        }
    }

    /// The socket for requests.
    pub(super) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Writes into the ledger what is about to be made.
    pub(super) fn begin(&mut self, claims: impl Iterator<Item = Claim>) -> Result<(), LedgerError> {
        match &mut self.ledger {
            Some(ledger) => ledger.begin(claims),
            None => Ok(()),
        }
    }

    /// Writes into the ledger what has become of things.
    pub(super) fn note(&mut self, changes: impl IntoIterator<Item = Change>) {
        if let Some(ledger) = &mut self.ledger
            && let Err(error) = ledger.apply(changes)
        {
            // The entries stay unconfirmed, which is the safe side: the next start compares them.
            tracing::error!(%error, "cannot write the ledger");
        }
    }
}

/// Kernels without directions refuse ESN without a window; it has no effect outbound.
fn widen_outbound_window(sa: &ipsec::Sa, attributes: &mut Attributes) {
    if sa.direction != ipsec::SaDirection::Out {
        return;
    }
    for attribute in &mut attributes.0 {
        if let Attribute::ReplayEsn(state) = attribute {
            state.replay_window = 32;
            state.bitmap = vec![0];
        }
    }
}

fn allocated(request: &ipsec::AllocateSpi, spi: u32) -> ipsec::SaId {
    ipsec::SaId {
        dst: request.dst,
        spi,
        protocol: request.protocol,
        mark: request.mark,
    }
}

/// What a command will make, if it makes something.
fn claim(command: &Command) -> Option<Claim> {
    match command {
        Command::AllocateSpi(request) => Some(Claim::spi(request)),
        Command::InstallSa(sa) => Some(Claim::sa(sa)),
        Command::InstallPolicy(policy) | Command::UpdatePolicy(policy) => {
            Some(Claim::policy(&policy.key))
        }
        _ => None,
    }
}

/// What has become of commands.
fn changes(outcomes: &[(&Command, &Result<Reply, CommandError>)]) -> Vec<Change> {
    let mut changes = Vec::new();
    for (command, outcome) in outcomes {
        let done = match outcome {
            Ok(_) => true,
            // Whether it was carried out is unknown: leave the entry as it is.
            Err(CommandError::Failed { errno, .. }) if *errno == Errno::TIMEDOUT.raw_os_error() => {
                continue;
            }
            Err(_) => false,
        };
        match command {
            Command::AllocateSpi(request) => {
                if let Ok(Reply::Spi(spi)) = outcome {
                    let larval = Claim::larval(request, &allocated(request, *spi));
                    changes.push(Change::Confirm(larval));
                }
                changes.push(Change::End(Claim::spi(request).object));
            }
            Command::InstallSa(_) | Command::InstallPolicy(_) | Command::UpdatePolicy(_) => {
                changes.extend(claim(command).map(|claim| claim.settled(done)));
            }
            Command::RemoveSa(id) if done || gone(outcome) => {
                changes.push(Change::End(Object::Sa(SaRecord::from(id))));
            }
            Command::RemovePolicy(key) if done || gone(outcome) => {
                changes.push(Change::End(Object::Policy(PolicyRecord::from(key))));
            }
            _ => {}
        }
    }
    changes
}

fn gone(outcome: &Result<Reply, CommandError>) -> bool {
    matches!(outcome, Err(CommandError::NotFound))
}

impl SaDatabase for LinuxSadb {
    fn execute(&mut self, command: &Command) -> Result<Reply, CommandError> {
        self.execute_all(slice::from_ref(command))
            .pop()
            .unwrap_or(Err(CommandError::OutOfResources))
    }
}

impl Sadb for LinuxSadb {
    /// Commands go to the kernel together. A second attempt that one of them needs (see
    /// [`Command::InstallSa`]) comes after the others.
    fn execute_all(&mut self, commands: &[Command]) -> Vec<Result<Reply, CommandError>> {
        let takes_several =
            |c: &Command| matches!(c, Command::MoveSa(_) | Command::SkipSequence(_));
        if commands.iter().any(takes_several) {
            return commands
                .iter()
                .map(|command| match command {
                    Command::MoveSa(request) => self.move_sa(request),
                    Command::SkipSequence(request) => self.skip_sequence(request),
                    other => self
                        .execute_batch(slice::from_ref(other))
                        .pop()
                        .unwrap_or(Err(CommandError::OutOfResources)),
                })
                .collect();
        }
        self.execute_batch(commands)
    }

    fn next_event(&mut self) -> Result<Option<SadbEvent>, SadbError> {
        loop {
            let message = match self.events.receive()? {
                None => return Ok(None),
                Some(xfrm::Event::Resync) => return Ok(Some(SadbEvent::Resync)),
                Some(xfrm::Event::Unreadable { kind, error }) => {
                    tracing::warn!(%kind, %error, "unreadable xfrm event");
                    continue;
                }
                Some(xfrm::Event::Message { message, .. }) => message,
            };
            match convert::event(&message) {
                Ok(Some(event)) => {
                    self.forget_expired(&event);
                    return Ok(Some(SadbEvent::Event(event)));
                }
                Ok(None) => {}
                // Protocols and modes of others, such as Mobile IPv6.
                Err(error) => tracing::debug!(kind = %message.kind(), %error, "foreign xfrm event"),
            }
        }
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.events.as_fd())
    }

    fn sas(&mut self) -> Result<Vec<SaReport>, SadbError> {
        let dump = self.client.dump_sas()?;
        Ok(dump
            .iter()
            .filter_map(|(info, attributes)| convert::sa_report(info, attributes).ok())
            .collect())
    }

    fn policies(&mut self) -> Result<Vec<PolicyReport>, SadbError> {
        let dump = self.client.dump_policies()?;
        Ok(dump
            .iter()
            .filter_map(|(info, attributes)| convert::policy_report(info, attributes).ok())
            .collect())
    }

    fn algorithms(&mut self) -> Result<Algorithms, SadbError> {
        Ok(probe::algorithms(&mut self.client)?)
    }

    fn probe(&mut self) -> Result<Capabilities, SadbError> {
        let capabilities = probe::probe(&mut self.client)?;
        if capabilities.esp_v4.is_available() {
            self.knows_direction = Some(capabilities.sa_direction);
        }
        self.knows_migrate_state = Some(capabilities.migrate_state);
        Ok(capabilities)
    }
}

impl LinuxSadb {
    /// Sends commands together, each with one request.
    fn execute_batch(&mut self, commands: &[Command]) -> Vec<Result<Reply, CommandError>> {
        let mut made = HashSet::new();
        let prepared: Vec<_> = commands
            .iter()
            .map(|command| self.prepare(command, &mut made))
            .collect();
        let sent = commands.iter().zip(&prepared);
        let sent = sent.filter_map(|(command, message)| message.is_ok().then_some(command));
        if let Err(error) = self.begin(sent.filter_map(claim)) {
            // What is not in the ledger must not be made.
            let error = CommandError::Failed {
                errno: error.errno(),
                text: error.to_string(),
            };
            return commands.iter().map(|_| Err(error.clone())).collect();
        }
        let mut errors = Vec::with_capacity(commands.len());
        let mut messages = Vec::with_capacity(commands.len());
        for message in prepared {
            errors.push(match message {
                Ok(message) => {
                    messages.push(message);
                    None
                }
                Err(error) => Some(error),
            });
        }
        let mut answers = self.client.batch(&messages).into_iter();
        let results: Vec<_> = commands
            .iter()
            .zip(errors)
            .map(|(command, error)| match error {
                Some(error) => Err(error),
                None => match answers.next() {
                    Some(outcome) => self.finish(command, outcome),
                    None => Err(CommandError::OutOfResources),
                },
            })
            .collect();
        let outcomes: Vec<_> = commands.iter().zip(&results).collect();
        self.note(changes(&outcomes));
        results
    }

    /// What the kernel has deleted by itself is no longer ours.
    fn forget_expired(&mut self, event: &ipsec::Event) {
        let object = match event {
            ipsec::Event::Expire(expire) if expire.hard => {
                self.larval.remove(&expire.sa);
                Object::Sa(SaRecord::from(&expire.sa))
            }
            ipsec::Event::PolicyExpire(expire) if expire.hard => {
                Object::Policy(PolicyRecord::from(&expire.key))
            }
            _ => return,
        };
        self.note([Change::End(object)]);
    }
}

/// What the kernel's refusal of a command means.
fn command_error(command: &Command, error: &RequestError) -> CommandError {
    match (command, request_error(error)) {
        // There is no entry to be found for this one: the range has no free SPI.
        (Command::AllocateSpi(_), CommandError::NotFound)
            if error.errno() == Some(Errno::NOENT.raw_os_error()) =>
        {
            CommandError::OutOfResources
        }
        (_, error) => error,
    }
}

/// Sorts the kernel's refusals by what a key manager can do about them.
pub(super) fn request_error(error: &RequestError) -> CommandError {
    let RequestError::Refused(refusal) = error else {
        let errno = match error {
            RequestError::Io(error) => error.raw_os_error().unwrap_or_default(),
            // Carried out or not: nobody knows.
            _ => Errno::TIMEDOUT.raw_os_error(),
        };
        return CommandError::Failed {
            errno,
            text: error.to_string(),
        };
    };
    let text = refusal
        .text
        .clone()
        .unwrap_or_else(|| io::Error::from_raw_os_error(refusal.errno).to_string());
    match Errno::from_raw_os_error(refusal.errno) {
        Errno::EXIST => CommandError::Exists,
        Errno::SRCH | Errno::NOENT => CommandError::NotFound,
        Errno::PERM | Errno::ACCESS => CommandError::NoPermission,
        Errno::NOMEM | Errno::NOBUFS => CommandError::OutOfResources,
        Errno::PROTONOSUPPORT
        | Errno::OPNOTSUPP
        | Errno::AFNOSUPPORT
        | Errno::NOPROTOOPT
        | Errno::NOSYS => CommandError::Unsupported(text),
        Errno::INVAL | Errno::RANGE => CommandError::Invalid(text),
        errno => CommandError::Failed {
            errno: errno.raw_os_error(),
            text,
        },
    }
}
