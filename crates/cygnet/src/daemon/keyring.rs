//! The keys that seal tickets of session resumption (RFC 5723 §9.5), and the secrets that the tokens of quick crash detection
//! are made of (RFC 6290 §5.1): kept in the state directory, so that both are good after the restart that they are for, and
//! changed from time to time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cygnet_crypto::{Entropy as _, SecretBytes, SystemEntropy};
use cygnet_ike::{TicketKey, TicketKeys};

use super::state_dir::StateDir;

/// Seconds for which a key seals.
//= rfc5723#9.5
//# The keys should be changed regularly.
const SEALS: u64 = 7 * DAY;

/// Seconds for which it opens in all: a day more, as long as a ticket lives at most, and an IKE SA that has a token.
//= rfc5723#6.2
//# The key that is used to protect the ticket MUST have a lifetime that
//# is significantly longer than the lifetime of an IKE SA.
const OPENS: u64 = SEALS + DAY;

const DAY: u64 = 24 * 3600;

/// Octets of a key in the file: when it was made, in seconds since 1970, its name, itself.
const RECORD_LEN: usize = 8 + TicketKey::ID_LEN + TicketKey::LEN;

/// Keys in the file at most: a week's and the one before, and what a clock that runs back may leave.
const MAX_KEYS: usize = 8;

/// A key and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dated {
    made: u64,
    key: TicketKey,
}

/// What a file of keys is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// To seal tickets.
    Tickets,
    /// To make the tokens of quick crash detection: of each key only the key itself counts.
    CrashTokens,
}

impl Purpose {
    /// The name of the file.
    fn file(self) -> &'static str {
        match self {
            Self::Tickets => "ticket-keys",
            Self::CrashTokens => "crash-secrets",
        }
    }

    /// What is not to be had without it.
    fn loss(self) -> &'static str {
        match self {
            Self::Tickets => "tickets do not outlive this daemon",
            Self::CrashTokens => "no quick crash detection",
        }
    }
}

/// The keys, newest first.
#[derive(Debug)]
pub(super) struct Keyring {
    purpose: Purpose,
    state_dir: PathBuf,
    keys: Vec<Dated>,
    /// What the file holds has been read, or cannot be.
    loaded: bool,
    /// The file holds all of them. One that could not be read or written is left alone.
    stored: bool,
}

impl Keyring {
    /// Without keys as yet: nothing is made that nobody needs.
    pub(super) fn new(purpose: Purpose, state_dir: &Path) -> Self {
        Self {
            purpose,
            state_dir: state_dir.to_owned(),
            keys: Vec::new(),
            loaded: false,
            stored: false,
        }
    }

    /// The keys for now. New ones are stored before they are used.
    pub(super) fn current(&mut self) -> TicketKeys {
        let (at, since_1970) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH));
        let unix = since_1970.map_or(0, |since| since.as_secs());
        if !std::mem::replace(&mut self.loaded, true) {
            match self.load() {
                Ok(keys) => (self.keys, self.stored) = (keys, true),
                Err(error) => self.complain(&error),
            }
        }
        if rotate(&mut self.keys, unix, fresh)
            && self.stored
            && let Err(error) = self.store()
        {
            self.stored = false;
            self.complain(&error);
        }
        let keys = self.keys.iter().map(|dated| dated.key.clone()).collect();
        TicketKeys { keys, at, unix }
    }

    /// The secrets for now; none that a restart would lose.
    //= rfc6290#5.1
    //# If key rollover is required by policy, the implementation MAY
    //# periodically generate a new QCD_SECRET and keep up to 3 previous
    //# generations.
    pub(super) fn secrets(&mut self) -> Vec<SecretBytes> {
        let keys = self.current().keys;
        let lasting = keys.into_iter().filter(|_| self.stored);
        lasting.map(|key| key.key).collect()
    }

    fn load(&self) -> io::Result<Vec<Dated>> {
        let stored = StateDir::open(&self.state_dir)?.load(self.purpose.file())?;
        Ok(stored
            .map(|octets| read(octets.as_ref()))
            .unwrap_or_default())
    }

    fn store(&self) -> io::Result<()> {
        StateDir::open(&self.state_dir)?.store(self.purpose.file(), &write(&self.keys))
    }

    fn complain(&self, error: &io::Error) {
        let (path, loss) = (self.state_dir.display(), self.purpose.loss());
        tracing::warn!(
            event = "state_dir",
            "{loss}: the state directory {path} cannot be used: {error}"
        );
    }
}

/// A new key.
//= rfc5723#9.5
//# The keys should be generated securely following the randomness
//# recommendations in [RFC4086].
fn fresh() -> TicketKey {
    let mut entropy = SystemEntropy::default();
    let mut id = [0; TicketKey::ID_LEN];
    entropy.fill(&mut id);
    let mut key = vec![0; TicketKey::LEN];
    entropy.fill(&mut key);
    let key = SecretBytes::new(key);
    TicketKey { id, key }
}

/// Drops the keys whose tickets have expired, and makes a new one if the newest has sealed for long enough, or is of a
/// time to come. Whether it did.
fn rotate(keys: &mut Vec<Dated>, unix: u64, fresh: impl FnOnce() -> TicketKey) -> bool {
    keys.retain(|dated| unix < dated.made.saturating_add(OPENS));
    let seals = |dated: &Dated| dated.made <= unix && unix < dated.made.saturating_add(SEALS);
    let due = !keys.first().is_some_and(seals);
    if due {
        let (made, key) = (unix, fresh());
        keys.insert(0, Dated { made, key });
        keys.truncate(MAX_KEYS);
    }
    due
}

/// The keys of a file; what is not whole is left out.
fn read(octets: &[u8]) -> Vec<Dated> {
    let records = octets.chunks_exact(RECORD_LEN).take(MAX_KEYS);
    records
        .filter_map(|record| {
            let (made, rest) = record.split_first_chunk()?;
            let (id, key) = rest.split_first_chunk()?;
            let (made, id) = (u64::from_be_bytes(*made), *id);
            let key = SecretBytes::copy_from(key);
            Some(Dated {
                made,
                key: TicketKey { id, key },
            })
        })
        .collect()
}

fn write(keys: &[Dated]) -> SecretBytes {
    let mut octets = Vec::with_capacity(MAX_KEYS * RECORD_LEN);
    for Dated { made, key } in keys {
        octets.extend_from_slice(&made.to_be_bytes());
        octets.extend_from_slice(&key.id);
        octets.extend_from_slice(key.key.as_ref());
    }
    SecretBytes::new(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u8) -> TicketKey {
        TicketKey {
            id: [id; TicketKey::ID_LEN],
            key: SecretBytes::new(vec![id; TicketKey::LEN]),
        }
    }

    fn ids(keys: &[Dated]) -> Vec<u8> {
        keys.iter().map(|dated| dated.key.id[0]).collect()
    }

    //= rfc5723#6.2
    //= type=test
    //# The key that is used to protect the ticket MUST have a lifetime that
    //# is significantly longer than the lifetime of an IKE SA.
    #[test]
    fn keys_change_every_week_and_open_for_a_day_more() {
        let mut keys = Vec::new();
        let start = 1_000_000_000;
        assert!(rotate(&mut keys, start, || key(1)));
        assert!(!rotate(&mut keys, start + SEALS - 1, || key(2)));
        assert!(rotate(&mut keys, start + SEALS, || key(2)));
        assert_eq!(ids(&keys), [2, 1]);
        assert!(!rotate(&mut keys, start + OPENS - 1, || key(3)));
        assert_eq!(ids(&keys), [2, 1]);
        assert!(!rotate(&mut keys, start + OPENS, || key(3)));
        assert_eq!(ids(&keys), [2]);
        // A clock that was wrong once does not keep a key for ever.
        assert!(rotate(&mut keys, start, || key(3)));
        assert_eq!(ids(&keys), [3, 2]);
        for id in 4..40 {
            rotate(&mut keys, start - u64::from(id), || key(id));
        }
        assert_eq!(keys.len(), MAX_KEYS);
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let mut keys = Vec::new();
        rotate(&mut keys, 7, || key(1));
        rotate(&mut keys, 7 + SEALS, || key(2));
        let octets = write(&keys);
        assert_eq!(read(octets.as_ref()), keys);
        let cut = octets.as_ref().split_last().unwrap().1;
        assert_eq!(read(cut), keys[..1]);
        assert_eq!(read(&[]), []);
    }

    #[test]
    fn keys_outlive_the_daemon() {
        let name = format!("cygnet-keyring-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let ring = |purpose| Keyring::new(purpose, &dir);
        let first = ring(Purpose::Tickets).current();
        let again = ring(Purpose::Tickets).current();
        assert_eq!(first.keys, again.keys);
        let secrets = ring(Purpose::CrashTokens).secrets();
        assert_eq!(secrets.len(), 1);
        assert_eq!(secrets, ring(Purpose::CrashTokens).secrets());
        assert_ne!(secrets[0], first.keys[0].key);
        std::fs::remove_dir_all(&dir).unwrap();
        // Where nothing can be stored they live as long as the daemon, and who has lost them must not have made tokens.
        let nowhere = Path::new("/proc/nowhere");
        let mut homeless = Keyring::new(Purpose::Tickets, nowhere);
        assert_eq!(homeless.current().keys, homeless.current().keys);
        let mut homeless = Keyring::new(Purpose::CrashTokens, nowhere);
        assert!(homeless.secrets().is_empty() && homeless.secrets().is_empty());
    }

    /// A secret that is not the newest any more still makes the tokens of IKE SAs from before; after a day there are none.
    //= rfc6290#5.1
    //= type=test
    //# If key rollover is required by policy, the implementation MAY
    //# periodically generate a new QCD_SECRET and keep up to 3 previous
    //# generations.
    #[test]
    fn a_former_secret_is_kept_for_a_day() {
        let name = format!("cygnet-crash-secrets-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        for (age, left) in [(SEALS - 60, 1), (SEALS + 60, 2), (OPENS + 60, 1)] {
            let old = Dated {
                made: unix - age,
                key: key(1),
            };
            let state = StateDir::open(&dir).unwrap();
            state.store("crash-secrets", &write(&[old])).unwrap();
            let secrets = Keyring::new(Purpose::CrashTokens, &dir).secrets();
            assert_eq!(secrets.len(), left, "{age}");
            assert_eq!(secrets.last() == Some(&key(1).key), age < OPENS);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
