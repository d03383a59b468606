//! Tickets by which an IKE SA is resumed (RFC 5723): those that are sealed for peers, and those that are held from them.
//!
//! A ticket that we give holds the whole session ("ticket by value", RFC 5723 appendix A.1), so that it is good after a
//! crash too, if the keys are. A number that the IKE SA has, its SPI of ours, says which ones are void: one IKE SA is
//! resumed once, and not after it has been ended.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use cygnet_crypto::{
    Additional, Encryption, IkeSuite, Integrity, KeyExchange, Prf, SealingKey, SecretBytes, SkD,
    sha256,
};
use cygnet_wire::IkeSpi;
use thiserror::Error;

use crate::identity::Identity;

/// The longest life of a ticket, given or held.
//= rfc5723#6.2
//# Even if neither of
//# these are enforced by the gateway, a finite lifetime MUST be
//# specified for the ticket.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Octets of a ticket, given or held: with all else of an IKE_SESSION_RESUME request it has to fit into one datagram,
/// since that cannot be fragmented (RFC 7383 §4).
pub(crate) const MAX_LEN: usize = 4096;

/// IKE SAs of which is remembered that they cannot be resumed any more; the oldest are forgotten.
const MAX_VOID: usize = 65_536;

/// Keys that are kept to open tickets.
const MAX_KEYS: usize = 16;

/// The form of our tickets.
const VERSION: u8 = 1;

/// Octets of a ticket in front of what is sealed: version, key, nonce.
const PREFIX_LEN: usize = 1 + TicketKey::ID_LEN + SealingKey::NONCE_LEN;

/// A key that seals tickets, or has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketKey {
    /// Its name, which stands in the tickets in clear. Another key has another one.
    //= rfc5723#6.1
    //# The "ticket by value" MUST additionally include a key identity field,
    //# so that keys for ticket encryption and authentication can be changed,
    //# and when necessary, algorithms can be replaced.
    pub id: [u8; Self::ID_LEN],
    /// [`Self::LEN`] random octets, used for nothing else.
    pub key: SecretBytes,
}

impl TicketKey {
    /// Octets of the name.
    pub const ID_LEN: usize = 8;
    /// Octets of the key.
    pub const LEN: usize = SealingKey::LEN;
}

/// The keys of a responder's tickets, and the time of day, by which tickets expire.
///
/// They should be kept where they outlive the daemon: tickets are for the time after a crash.
#[derive(Clone, Debug)]
pub struct TicketKeys {
    /// The first one seals; all open. More than sixteen are not looked at.
    pub keys: Vec<TicketKey>,
    /// A point in time,
    pub at: Instant,
    /// and what the clock showed then: seconds since 1970.
    pub unix: u64,
}

impl TicketKeys {
    /// What the clock shows.
    fn unix(&self, now: Instant) -> u64 {
        match now.checked_duration_since(self.at) {
            Some(since) => self.unix.saturating_add(since.as_secs()),
            None => {
                let until = self.at.saturating_duration_since(now).as_secs();
                self.unix.saturating_sub(until)
            }
        }
    }
}

/// Why a ticket is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum TicketRefusal {
    /// There are no keys: tickets are neither given nor taken.
    #[error("no tickets are taken here")]
    Disabled,
    /// It is none of ours, or of a version that is not known here.
    #[error("it is none of ours")]
    Malformed,
    /// The key is not known, or not any more.
    #[error("the key that has sealed it is not known")]
    UnknownKey,
    /// It has been changed, or made by somebody else.
    #[error("it does not verify")]
    Forged,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// It has been used, or its IKE SA has been ended.
    #[error("it has been used, or the session has been ended")]
    Void,
    /// The peer has to authenticate itself anew (RFC 4478).
    #[error("the peer has to authenticate itself anew")]
    ReauthenticationDue,
    /// No configuration permits such a session any more: its identities, its algorithms, that it is resumed.
    #[error("no configuration permits the session")]
    NoConfiguration,
    /// The pre-shared key is another one, or gone.
    #[error("the pre-shared key has changed")]
    CredentialsChanged,
}

impl TicketRefusal {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "ticket_disabled",
            Self::Malformed => "ticket_malformed",
            Self::UnknownKey => "ticket_unknown_key",
            Self::Forged => "ticket_forged",
            Self::Expired => "ticket_expired",
            Self::Void => "ticket_void",
            Self::ReauthenticationDue => "ticket_reauthentication_due",
            Self::NoConfiguration => "ticket_no_configuration",
            Self::CredentialsChanged => "ticket_credentials_changed",
        }
    }
}

/// What of an IKE SA outlives it: what the table of RFC 5723 §5 takes from the ticket.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) suite: IkeSuite,
    pub(crate) sk_d: SkD,
    pub(crate) local_id: Identity,
    pub(crate) remote_id: Identity,
    /// A post-quantum pre-shared key has part in SK_d.
    pub(crate) ppk: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("suite", &self.suite)
            .field("local_id", &self.local_id)
            .field("remote_id", &self.remote_id)
            .finish_non_exhaustive()
    }
}

/// A ticket that we hold, with what the peer has put into it. It is wiped when dropped.
#[derive(Debug)]
pub struct Ticket {
    pub(crate) opaque: Vec<u8>,
    pub(crate) expires: Instant,
    pub(crate) session: Session,
}

impl Ticket {
    /// When it is of no use any more.
    pub fn expires(&self) -> Instant {
        self.expires
    }
}

/// What one of our tickets says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) session: Session,
    /// Our SPI of the IKE SA.
    pub(crate) own_spi: IkeSpi,
    /// Seconds since 1970.
    //= rfc5723#6.1
    //# A "ticket by value" MUST include a protected expiration time, which
    //# is an absolute time value and SHOULD correspond to the value included
    //# in the TICKET_LT_OPAQUE payload.
    pub(crate) expires: u64,
    /// When the peer has to authenticate itself anew (RFC 4478), in seconds since 1970; `u64::MAX`: never.
    pub(crate) reauthenticate: u64,
    /// The hash of the pre-shared key that the peer has shown.
    pub(crate) psk: PskHash,
}

/// The hash of a pre-shared key. Whoever has it can try out guesses of the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PskHash(pub(crate) [u8; 32]);

impl PskHash {
    pub(crate) fn of(psk: &SecretBytes) -> Self {
        Self(sha256(&[psk.as_ref()]))
    }
}

impl fmt::Debug for PskHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PskHash")
    }
}

/// A responder's keys, and what it has to remember.
#[derive(Debug, Default)]
pub(crate) struct TicketOffice {
    keys: Option<TicketKeys>,
    void: HashSet<IkeSpi>,
    /// The same in the order in which they come to be forgotten.
    forgotten: VecDeque<(Instant, IkeSpi)>,
}

impl TicketOffice {
    pub(crate) fn set_keys(&mut self, keys: Option<TicketKeys>) {
        self.keys = keys;
    }

    /// The time of day; `None` without keys.
    pub(crate) fn unix(&self, now: Instant) -> Option<u64> {
        self.keys.as_ref().map(|keys| keys.unix(now))
    }

    /// The IKE SA cannot be resumed, or not again.
    //= rfc5723#4.3.1
    //# A reused ticket SHOULD be rejected by a gateway.
    pub(crate) fn make_void(&mut self, now: Instant, spi: IkeSpi) {
        self.forget(now);
        if self.void.insert(spi) {
            self.forgotten.push_back((now + MAX_LIFETIME, spi));
        }
        while self.forgotten.len() > MAX_VOID {
            if let Some((_, oldest)) = self.forgotten.pop_front() {
                self.void.remove(&oldest);
            }
        }
    }

    /// Forgets those whose tickets have expired.
    fn forget(&mut self, now: Instant) {
        while let Some((until, spi)) = self.forgotten.front().copied()
            && until <= now
        {
            self.forgotten.pop_front();
            self.void.remove(&spi);
        }
    }

    pub(crate) fn is_void(&self, spi: IkeSpi) -> bool {
        self.void.contains(&spi)
    }

    /// Seals a ticket. `None` without keys, or if it would be too long.
    //= rfc5723#6.1
    //# When passing a "ticket by value" to the client, the ticket content
    //# MUST be integrity protected and encrypted.
    //= rfc5723#6.1
    //# When the state is passed by value, the ticket MUST encode all state
    //# information marked "from the ticket" in the table on Section 5.
    //= rfc5723#9.1
    //# An IKEv2 responder MUST use strong encryption and integrity protection
    //# of the ticket to prevent an attacker from obtaining the ticket's
    //# contents, e.g., by using a brute force attack.
    //= rfc5723#9.9
    //# The "ticket by value" MUST have its integrity and confidentiality
    //# protected with strong cryptographic techniques to prevent a breach in
    //# the security of the system.
    //= rfc5723#9.10
    //# it is important that leakage of information, such as the identities of
    //# an IKEv2 initiator and a responder, MUST be avoided.
    pub(crate) fn seal(
        &self,
        grant: &Grant,
        nonce: [u8; SealingKey::NONCE_LEN],
    ) -> Option<Vec<u8>> {
        let TicketKey { id, key } = self.keys.as_ref()?.keys.first()?;
        let mut sealed = grant.write()?;
        let mut ticket = Vec::with_capacity(MAX_LEN);
        ticket.push(VERSION);
        ticket.extend_from_slice(id);
        SealingKey::new(key)?.seal(nonce, &ticket, &mut sealed)?;
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&sealed);
        (ticket.len() <= MAX_LEN).then_some(ticket)
    }

    /// Opens a ticket of ours that is good now. Whatever it is, this costs one decryption at most.
    pub(crate) fn open(&self, now: Instant, ticket: &[u8]) -> Result<Grant, TicketRefusal> {
        let keys = self.keys.as_ref().ok_or(TicketRefusal::Disabled)?;
        if ticket.len() > MAX_LEN {
            return Err(TicketRefusal::Malformed);
        }
        let (prefix, sealed) = ticket
            .split_at_checked(PREFIX_LEN)
            .ok_or(TicketRefusal::Malformed)?;
        let (aad, nonce) = prefix
            .split_last_chunk::<{ SealingKey::NONCE_LEN }>()
            .ok_or(TicketRefusal::Malformed)?;
        let Some((&VERSION, id)) = aad.split_first() else {
            return Err(TicketRefusal::Malformed);
        };
        let key = keys
            .keys
            .iter()
            .take(MAX_KEYS)
            .find(|key| key.id == id)
            .and_then(|key| SealingKey::new(&key.key))
            .ok_or(TicketRefusal::UnknownKey)?;
        let mut sealed = Wiped(sealed.to_vec());
        let plain = key
            .open(*nonce, aad, &mut sealed.0)
            .ok_or(TicketRefusal::Forged)?;
        let grant = Grant::read(plain).ok_or(TicketRefusal::Malformed)?;
        let unix = keys.unix(now);
        if grant.expires <= unix {
            return Err(TicketRefusal::Expired);
        }
        if grant.reauthenticate <= unix {
            return Err(TicketRefusal::ReauthenticationDue);
        }
        if self.is_void(grant.own_spi) {
            return Err(TicketRefusal::Void);
        }
        Ok(grant)
    }
}

/// Octets with keys among them.
struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        // Takes them over, and wipes them.
        SecretBytes::new(std::mem::take(&mut self.0));
    }
}

/// No transform: of an optional algorithm that is not there.
const NONE: u16 = 0;

/// The flag of a session with a PPK.
const PPK: u8 = 1;

impl Grant {
    /// The content of a ticket. `None` if an identity is too long for one.
    fn write(&self) -> Option<Vec<u8>> {
        let Session {
            suite,
            sk_d,
            local_id,
            remote_id,
            ppk,
        } = &self.session;
        let ids = [local_id, remote_id].map(|id| (id.id_type(), id.data()));
        if ids.iter().any(|(_, data)| data.len() > MAX_LEN / 4) {
            return None;
        }
        // Room for all of it: growing would leave copies of SK_d behind.
        let mut out = Vec::with_capacity(MAX_LEN);
        out.extend_from_slice(&self.own_spi.0.to_be_bytes());
        out.extend_from_slice(&self.expires.to_be_bytes());
        out.extend_from_slice(&self.reauthenticate.to_be_bytes());
        out.extend_from_slice(&self.psk.0);
        out.push(if *ppk { PPK } else { 0 });
        let method = |method: Option<KeyExchange>| method.map_or(NONE, KeyExchange::iana_id);
        let mut numbers = vec![
            suite.encryption.iana_id(),
            suite.encryption.key_bits().unwrap_or(NONE),
            suite.integrity.map_or(NONE, Integrity::iana_id),
            suite.prf.iana_id(),
            suite.key_exchange.iana_id(),
        ];
        numbers.extend(suite.additional.map(method));
        for number in numbers {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let key = sk_d.secret().as_ref();
        out.push(u8::try_from(key.len()).ok()?);
        out.extend_from_slice(key);
        for (kind, data) in ids {
            out.push(kind);
            out.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
            out.extend_from_slice(&data);
        }
        Some(out)
    }

    /// The content of a ticket; `None` if it is not of this form.
    fn read(octets: &[u8]) -> Option<Self> {
        let mut rest = octets;
        let own_spi = IkeSpi(u64::from_be_bytes(take(&mut rest)?));
        let expires = u64::from_be_bytes(take(&mut rest)?);
        let reauthenticate = u64::from_be_bytes(take(&mut rest)?);
        let psk = PskHash(take(&mut rest)?);
        let [flags] = take(&mut rest)?;
        let mut number = || take(&mut rest).map(u16::from_be_bytes);
        let (encryption, bits) = (number()?, number()?);
        let encryption = Encryption::from_iana(encryption, Some(bits).filter(|b| *b != NONE))?;
        let integrity = match number()? {
            NONE => None,
            id => Some(Integrity::from_iana(id)?),
        };
        let prf = Prf::from_iana(number()?)?;
        let key_exchange = KeyExchange::from_iana(number()?)?;
        let mut additional = Additional::default();
        for method in &mut additional {
            *method = match number()? {
                NONE => None,
                id => Some(KeyExchange::from_iana(id)?),
            };
        }
        let [len] = take(&mut rest)?;
        let key = take_slice(&mut rest, len.into())?;
        let sk_d = SkD::restore(prf, SecretBytes::copy_from(key))?;
        let mut identity = || {
            let [kind] = take(&mut rest)?;
            let len = u16::from_be_bytes(take(&mut rest)?);
            Identity::from_wire(kind, take_slice(&mut rest, len.into())?).ok()
        };
        let (local_id, remote_id) = (identity()?, identity()?);
        rest.is_empty().then_some(Self {
            session: Session {
                suite: IkeSuite {
                    encryption,
                    integrity,
                    prf,
                    key_exchange,
                    additional,
                },
                sk_d,
                local_id,
                remote_id,
                ppk: flags & PPK != 0,
            },
            own_spi,
            expires,
            reauthenticate,
            psk,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn take_slice<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests;
