//! Which SAs and policies are ours.
//!
//! Links, addresses, routes and rules carry a mark of their owner; XFRM objects have no field for
//! one. So a file in the run directory says it: an entry is written *before* the request that
//! makes the thing, confirmed after the kernel's answer, and removed when the thing is gone. After
//! a crash at any point the file names everything that may be ours:
//!
//! - a confirmed entry is ours if the table has the identity (and for SAs the reqid);
//! - an unconfirmed one only if the thing also has the source and is not older than the entry: the
//!   request may have failed because something foreign was there already;
//! - what is in no entry is foreign and never touched.
//!
//! The file is a journal of JSON lines, each written by one `write`. A killed process loses nothing that was written,
//! since the page cache is the kernel's; only a crash of the machine does, and that empties the
//! kernel's tables too. Hence no `fsync`, and a first line that names boot and network namespace:
//! entries of another one are void. A torn last line is ignored. From time to time the
//! file is written anew and renamed into place.

mod record;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cygnet_ipsec as ipsec;
use ipsec::{Command, SaReport, SaState};
use serde::{Deserialize, Serialize};

pub(crate) use record::Change;
pub use record::{Claim, Object, PolicyRecord, SaDetails, SaRecord, SpiRecord};

const VERSION: u32 = 1;
/// Name of the file in a run directory.
const FILE_NAME: &str = "xfrm.ledger";
/// Lines that are allowed beyond four per entry before the file is written anew.
const SLACK: usize = 1024;

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file, or what names boot and namespace, could not be read or written.
    #[error("ledger {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("ledger {0} is in use by another process")]
    InUse(PathBuf),
}

impl LedgerError {
    /// The errno behind it, `EBUSY` for [`LedgerError::InUse`].
    pub(crate) fn errno(&self) -> i32 {
        match self {
            Self::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Self::InUse(_) => libc::EBUSY,
        }
    }
}

/// Boot and network namespace: where the entries of a file are true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    version: u32,
    boot: String,
    netns: (u64, u64),
}

impl Place {
    fn here() -> io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let netns = std::fs::metadata("/proc/thread-self/ns/net")?;
        Ok(Self {
            version: VERSION,
            boot: boot.trim().to_owned(),
            netns: (netns.dev(), netns.ino()),
        })
    }
}

/// A line of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// First line.
    Ledger(Place),
    /// Something is about to be made.
    Begin {
        object: Object,
        since: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<SaDetails>,
    },
    /// It is made.
    Confirm {
        object: Object,
        since: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<SaDetails>,
    },
    /// It is gone, or was never made.
    End(Object),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    confirmed: bool,
    /// Wall-clock second of the entry: what is older is not ours unless confirmed.
    since: u64,
    details: Option<SaDetails>,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Made in this life.
    Now,
    /// From the file; not looked for yet.
    Before,
    /// From the file, and found in the table: stays until claimed or removed.
    Adopted,
}

/// The ledger. One process at a time has it open.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    place: Place,
    file: File,
    entries: HashMap<Object, Entry>,
    /// Lines in the file.
    lines: usize,
    /// The last write failed: the file lacks lines, and may end in part of one.
    behind: bool,
}

impl Ledger {
    /// Opens or creates the file, for the calling thread's network namespace; of a directory, the
    /// file `xfrm.ledger` in it. Entries of another boot or namespace are discarded.
    ///
    /// # Errors
    /// The file cannot be read, written or locked.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, LedgerError> {
        let mut path = path.into();
        if path.is_dir() {
            path.push(FILE_NAME);
        }
        let at = |source| LedgerError::Io {
            path: path.clone(),
            source,
        };
        let place = Place::here().map_err(at)?;
        let mut file = open_append(&path).map_err(at)?;
        lock(&file, &path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(at)?;
        let (entries, lines) = read(&text, &place);
        let mut ledger = Self {
            path,
            place,
            file,
            entries,
            lines,
            behind: false,
        };
        ledger.rewrite()?;
        Ok(ledger)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether this thing is in the ledger, and confirmed.
    pub fn has(&self, object: &Object) -> bool {
        self.entries.get(object).is_some_and(|e| e.confirmed)
    }

    /// Whether this may be changed and removed as ours: confirmed, or begun in this life without an
    /// answer that says what became of it.
    pub(crate) fn claims(&self, object: &Object) -> bool {
        self.entries
            .get(object)
            .is_some_and(|e| e.confirmed || e.origin == Origin::Now)
    }

    /// Writes down what is about to be made. Returns when it is in the file.
    ///
    /// # Errors
    /// The file could not be written: then the request must not be sent.
    pub fn begin(&mut self, claims: impl Iterator<Item = Claim>) -> Result<(), LedgerError> {
        let since = now();
        let mut lines = Vec::new();
        let mut before = Vec::new();
        for Claim { object, details } in claims {
            // What is ours stays so, whatever becomes of the request.
            if self.entries.get(&object).is_some_and(|e| e.confirmed) {
                continue;
            }
            let entry = Entry {
                confirmed: false,
                since,
                details,
                origin: Origin::Now,
            };
            before.push((object, self.entries.insert(object, entry)));
            lines.push(Line::Begin {
                object,
                since,
                details,
            });
        }
        let written = self.append(&lines);
        if written.is_err() {
            // Nothing is made then, so there is nothing to claim: it may be another's one day.
            for (object, entry) in before.into_iter().rev() {
                match entry {
                    Some(entry) => self.entries.insert(object, entry),
                    None => self.entries.remove(&object),
                };
            }
        }
        written
    }

    /// Writes down what has become of things.
    ///
    /// # Errors
    /// The file could not be written; the entries in memory are right all the same.
    pub(crate) fn apply(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), LedgerError> {
        let mut lines = Vec::new();
        for change in changes {
            match change {
                Change::Confirm(Claim { object, details }) => {
                    let before = self.entries.get(&object);
                    let since = before.map_or_else(now, |e| e.since);
                    let known = before.is_some_and(|e| e.confirmed && e.details == details);
                    let entry = Entry {
                        confirmed: true,
                        since,
                        details,
                        origin: Origin::Now,
                    };
                    self.entries.insert(object, entry);
                    if !known {
                        lines.push(Line::Confirm {
                            object,
                            since,
                            details,
                        });
                    }
                }
                Change::Refuse(object) => {
                    if self.entries.get(&object).is_some_and(|e| !e.confirmed) {
                        self.entries.remove(&object);
                        lines.push(Line::End(object));
                    }
                }
                Change::End(object) => {
                    if self.entries.remove(&object).is_some() {
                        lines.push(Line::End(object));
                    }
                }
            }
        }
        self.append(&lines)
    }

    /// Whether an SA of the table is of an earlier life of ours. `add_time` is the kernel's
    /// wall-clock second of its creation.
    pub(crate) fn owns_sa(&self, report: &SaReport, add_time: u64) -> bool {
        let sa = &report.sa;
        let young_enough =
            |entry: &Entry| entry.confirmed || add_time.saturating_add(1) >= entry.since;
        let object = Object::Sa(SaRecord::from(&sa.id));
        if let Some(entry) = self.entries.get(&object) {
            // One that was being moved may have another source than was last written.
            let details = |known: SaDetails| {
                known.reqid == sa.reqid && (known.src == sa.src || entry.confirmed)
            };
            return entry.origin == Origin::Before
                && entry.details.is_some_and(details)
                && young_enough(entry);
        }
        report.state == SaState::Larval
            && self.entries.iter().any(|(object, entry)| match object {
                Object::Spi(request) => {
                    entry.origin == Origin::Before && request.may_be(sa) && young_enough(entry)
                }
                _ => false,
            })
    }

    /// Keeps the entry of something that could not be removed, for the next attempt.
    pub(crate) fn keep(&mut self, object: &Object) {
        if let Some(entry) = self.entries.get_mut(object) {
            entry.origin = Origin::Adopted;
        }
    }

    /// Takes over a policy of the table if it is of an earlier life of ours.
    pub(crate) fn adopt_policy(&mut self, key: &ipsec::PolicyKey, add_time: u64) -> bool {
        let object = Object::Policy(PolicyRecord::from(key));
        match self.entries.get_mut(&object) {
            Some(entry)
                if entry.origin == Origin::Before
                    && (entry.confirmed || add_time.saturating_add(1) >= entry.since) =>
            {
                entry.origin = Origin::Adopted;
                entry.confirmed = true;
                true
            }
            _ => false,
        }
    }

    /// Forgets what was not found or has been removed (`removed` of them), and returns how many
    /// were not found.
    pub(crate) fn finish_reconciliation(&mut self, removed: usize) -> Result<usize, LedgerError> {
        let before = self.entries.len();
        self.entries
            .retain(|_, entry| entry.origin != Origin::Before);
        let gone = before - self.entries.len();
        self.rewrite()?;
        Ok(gone.saturating_sub(removed))
    }

    /// Whether this policy is of an earlier life and nobody has installed it in this one.
    pub(crate) fn is_unclaimed(&self, key: &ipsec::PolicyKey) -> bool {
        self.entries
            .get(&Object::Policy(PolicyRecord::from(key)))
            .is_some_and(|entry| entry.origin == Origin::Adopted)
    }

    /// Policies of an earlier life that nobody has installed in this one.
    pub(crate) fn unclaimed_policies(&self) -> Vec<ipsec::PolicyKey> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.origin == Origin::Adopted)
            .filter_map(|(object, _)| match object {
                Object::Policy(record) => record.key(),
                _ => None,
            })
            .collect()
    }

    /// The commands that remove everything ours, SAs first.
    pub(crate) fn removals(&self) -> Vec<Command> {
        let (mut sas, mut policies) = (Vec::new(), Vec::new());
        for object in self.entries.keys() {
            match object {
                Object::Sa(record) => sas.extend(record.id().map(Command::RemoveSa)),
                Object::Policy(record) => {
                    policies.extend(record.key().map(Command::RemovePolicy));
                }
                Object::Spi(_) => {}
            }
        }
        sas.append(&mut policies);
        sas
    }

    fn append(&mut self, lines: &[Line]) -> Result<(), LedgerError> {
        if lines.is_empty() {
            return Ok(());
        }
        // The entries have the changes already, and what earlier writes have failed to say.
        if self.behind || self.lines > SLACK + 4 * self.entries.len() {
            self.behind = true;
            return self.rewrite();
        }
        let mut text = Vec::new();
        for line in lines {
            write_line(&mut text, line).map_err(|source| self.error(source))?;
        }
        let written = self.file.write_all(&text);
        self.behind = written.is_err();
        written.map_err(|source| self.error(source))?;
        self.lines += lines.len();
        Ok(())
    }

    /// Writes the file anew beside the old one and puts it into its place.
    fn rewrite(&mut self) -> Result<(), LedgerError> {
        let mut text = Vec::new();
        let result = (|| {
            write_line(&mut text, &Line::Ledger(self.place.clone()))?;
            for (&object, entry) in &self.entries {
                let Entry { since, details, .. } = *entry;
                let line = if entry.confirmed {
                    Line::Confirm {
                        object,
                        since,
                        details,
                    }
                } else {
                    Line::Begin {
                        object,
                        since,
                        details,
                    }
                };
                write_line(&mut text, &line)?;
            }
            let new = self.path.with_extension("new");
            // One left by a crash in between is of no use.
            match std::fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = open_append(&new)?;
            file.write_all(&text)?;
            Ok((new, file))
        })();
        let (new, file) = result.map_err(|source| self.error(source))?;
        // Locked before it gets the name: nobody else can come in between.
        lock(&file, &self.path)?;
        std::fs::rename(&new, &self.path).map_err(|source| self.error(source))?;
        self.file = file;
        self.lines = self.entries.len() + 1;
        self.behind = false;
        Ok(())
    }

    fn error(&self, source: io::Error) -> LedgerError {
        LedgerError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

fn lock(file: &File, path: &Path) -> Result<(), LedgerError> {
    use rustix::fs::{FlockOperation, flock};
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
        if errno == rustix::io::Errno::WOULDBLOCK {
            LedgerError::InUse(path.to_owned())
        } else {
            LedgerError::Io {
                path: path.to_owned(),
                source: errno.into(),
            }
        }
    })
}

fn write_line(text: &mut Vec<u8>, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *text, line)?;
    text.push(b'\n');
    Ok(())
}

/// Entries and number of lines. Lines that cannot be read are skipped: a torn one is the rest of a
/// write that was not acknowledged.
fn read(text: &[u8], place: &Place) -> (HashMap<Object, Entry>, usize) {
    let mut entries = HashMap::new();
    let mut count = 0;
    let mut here = false;
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        count += 1;
        let entry = |confirmed, since, details| Entry {
            confirmed,
            since,
            details,
            origin: Origin::Before,
        };
        match serde_json::from_slice(line) {
            Ok(Line::Ledger(written_at)) => {
                here = written_at == *place;
                entries.clear();
            }
            Ok(_) if !here => {}
            Ok(Line::Begin {
                object,
                since,
                details,
            }) => {
                entries.insert(object, entry(false, since, details));
            }
            Ok(Line::Confirm {
                object,
                since,
                details,
            }) => {
                entries.insert(object, entry(true, since, details));
            }
            Ok(Line::End(object)) => {
                entries.remove(&object);
            }
            Err(error) => tracing::warn!(%error, "unreadable line in the ledger"),
        }
    }
    (entries, count)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests;
