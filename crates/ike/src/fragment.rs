//! IKE fragmentation (RFC 7383): how large our datagrams may be, and the fragments of the peer's messages until
//! they are whole.
//!
//! Each fragment is authenticated before anything of it is kept, so that strangers cost nothing that lasts. What the
//! peer itself can make us keep is bounded by number and octets per message, by time, and over all IKE SAs by
//! [`Pool`].

use std::collections::BTreeMap;
use std::time::Instant;

use cygnet_crypto::sha256;
use cygnet_wire::limits::MAX_FRAGMENTS;
use cygnet_wire::{
    ExchangeType, Message, Notify, NotifyType, PayloadType, PayloadWriter, SkfPayload,
};

use crate::channel::{Channel, Plaintext};
use crate::config::{Fragmentation, MIN_FRAGMENT_SIZE, PeerConfig};
use crate::contents::Contents;
use crate::context::{Context, Path};
use crate::exchange::ike_intermediate::clear_of_fragment;
use crate::stats::DropReason;
use crate::transport::Transport;

/// A repetition with this number is fragmented smaller than those before: the path may lose large datagrams.
//= rfc7383#2.5.2
//# Performing a few retries within
//# several seconds for each probe seems appropriate, but different
//# environments may require different rules.
pub(crate) const SHRINK_AT: u32 = 3;

/// What a fragment that is kept costs besides its octets.
const FRAGMENT_OVERHEAD: usize = 64;
/// What an incomplete message costs besides its fragments.
const ASSEMBLY_OVERHEAD: usize = 512;

/// A message as it goes out: one datagram, or its fragments in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagrams {
    first: Vec<u8>,
    rest: Vec<Vec<u8>>,
}

impl Datagrams {
    /// One after the other, the first first.
    pub(crate) fn new(first: Vec<u8>, rest: Vec<Vec<u8>>) -> Self {
        Self { first, rest }
    }

    /// The only datagram, or the first fragment.
    pub(crate) fn first(&self) -> &[u8] {
        &self.first
    }

    /// The only datagram, or the first fragment.
    pub(crate) fn into_first(self) -> Vec<u8> {
        self.first
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.rest.len().saturating_add(1)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Vec<u8>> {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

impl From<Vec<u8>> for Datagrams {
    fn from(only: Vec<u8>) -> Self {
        Self::new(only, Vec::new())
    }
}

/// In which form a protected message goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// With an Encrypted payload, however long.
    Whole,
    /// In messages of at most `max` octets each. `always`: also where one with an Encrypted payload would do.
    Fragments { max: usize, always: bool },
}

impl Form {
    /// Whether a message has this form already.
    pub(crate) fn fits(self, message: &[u8]) -> bool {
        match self {
            Self::Whole => true,
            Self::Fragments { max, .. } => message.len() <= max,
        }
    }
}

/// A message whose payloads are all there and authenticated.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) plain: Plaintext,
    /// What stands before them, from the IKE header to the generic header of the Encrypted payload, as if the message
    /// had come in one.
    pub(crate) clear: Vec<u8>,
    /// By which a repetition of a request is known: the hash of the message, or of its first fragment.
    pub(crate) digest: [u8; 32],
}

/// What an IKE SA knows of fragmentation.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    /// Both ends have said that they can.
    //= rfc7383#2.4
    //# IKE fragmentation MUST NOT be used unless both peers have indicated
    //# their support for it.
    pub(crate) agreed: bool,
    /// Octets of an IP datagram that has come through where the configured size has not, or that the peer uses.
    size: Option<u16>,
    /// The peer's messages that are not yet whole: at most one for each Message ID that the windows allow.
    assemblies: Vec<Assembly>,
}

/// Says in IKE_SA_INIT that we can put fragments together.
//= rfc7383#2.3
//# Protocol ID (1 octet) - MUST be 0.
//= rfc7383#2.3
//# SPI Size (1 octet) - MUST be 0, meaning no Security Parameter
//# Index (SPI) is present.
//= rfc7383#2.3
//# Notify Message Type (2 octets) - MUST be 16430, the value assigned for
//# the IKEV2_FRAGMENTATION_SUPPORTED notification.
pub(crate) fn announce(fragmentation: Fragmentation, payloads: &mut PayloadWriter<'_>) {
    if fragmentation != Fragmentation::No {
        let kind = NotifyType::IKEV2_FRAGMENTATION_SUPPORTED;
        payloads.notify(&Notify::new(kind, &[]));
    }
}

/// Whether both ends can, by what the peer says in IKE_SA_INIT.
pub(crate) fn agreed(fragmentation: Fragmentation, peer: &Contents<'_>) -> bool {
    fragmentation != Fragmentation::No && peer.has(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED)
}

impl Fragments {
    /// What an IKE SA begins with; `agreed`: both ends have said that they can.
    pub(crate) fn new(agreed: bool) -> Self {
        Self {
            agreed,
            ..Self::default()
        }
    }

    /// In which form messages go out now.
    pub(crate) fn form(&self, config: &PeerConfig, path: Path, exchange: ExchangeType) -> Form {
        let always = match config.fragmentation {
            Fragmentation::No | Fragmentation::Accept => return Form::Whole,
            Fragmentation::Yes => false,
            //= rfc7383#2.4
            //# For example, there is no point in fragmenting liveness
            //# check messages.
            // And strongSwan takes an INFORMATIONAL message with a fragment for one without protection.
            Fragmentation::Force => exchange != ExchangeType::INFORMATIONAL,
        };
        //= rfc9329#7.5
        //# Even if fragmentation is negotiated, an
        //# implementation SHOULD NOT send fragments when going over a TCP
        //# connection, although it MUST support receiving fragments.
        if !self.agreed || path.transport == Transport::Tcp {
            return Form::Whole;
        }
        let size = usize::from(self.datagram_size(config, path));
        let max = size.saturating_sub(overhead(path));
        Form::Fragments { max, always }
    }

    fn datagram_size(&self, config: &PeerConfig, path: Path) -> u16 {
        let configured = match config.fragment_size {
            0 => least_size(path),
            size => size.max(MIN_FRAGMENT_SIZE),
        };
        self.size.map_or(configured, |size| configured.min(size))
    }

    /// The form in which a message that got no answer is to be tried next; `None` if that is no smaller one. It counts
    /// for later messages once [`Self::shrink`] is called.
    //= rfc7383#2.5.2
    //# While doing probes, it MUST start from larger values and
    //# refragment the original message, using the next smaller value of the
    //# threshold if it did not receive a response in a reasonable time after
    //# several retransmissions.
    //= rfc7383#2.5.2
    //# Implementations MUST be prepared to probe in every exchange that
    //# utilizes IKE fragmentation to deal with possible changes in path MTU
    //# over time.
    pub(crate) fn smaller_form(
        &self,
        config: &PeerConfig,
        path: Path,
        exchange: ExchangeType,
    ) -> Option<Form> {
        let Form::Fragments { always, .. } = self.form(config, path, exchange) else {
            return None;
        };
        // They are short, and not every peer takes them in fragments.
        if exchange == ExchangeType::INFORMATIONAL {
            return None;
        }
        let size = least_size(path);
        if self.datagram_size(config, path) <= size {
            return None;
        }
        let max = usize::from(size).saturating_sub(overhead(path));
        Some(Form::Fragments { max, always })
    }

    /// Keeps to the smallest datagrams from now on.
    //= rfc7383#2.5.2
    //# After reaching the smallest allowed value for the fragmentation
    //# threshold, an implementation MUST continue retransmitting until the
    //# exchange either completes or times out using some timeout interval as
    //# discussed in Section 2.4 of [RFC7296].
    pub(crate) fn shrink(&mut self, path: Path) {
        self.size = Some(least_size(path));
    }

    /// Sends no larger datagrams than the peer has found necessary.
    //= rfc7383#2.5.1
    //# The responder in the exchange may use the maximum size of the
    //# received IKE Fragment message IP datagrams as a threshold when
    //# constructing a fragmented response.
    fn follow(&mut self, path: Path, longest: usize) {
        let size = u16::try_from(longest.saturating_add(overhead(path))).unwrap_or(u16::MAX);
        let size = size.max(least_size(path));
        self.size = Some(self.size.map_or(size, |old| old.min(size)));
    }

    /// Octets that incomplete messages cost.
    pub(crate) fn cost(&self) -> usize {
        self.assemblies
            .iter()
            .fold(0, |sum, assembly| sum.saturating_add(assembly.cost()))
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.assemblies.iter().map(|a| a.deadline).min()
    }

    /// Forgets what has not become whole in time.
    //= rfc7383#2.6
    //# If the receiver does not get all IKE fragments needed to reassemble
    //# the original message within a timeout interval, it MUST discard all
    //# IKE Fragment messages received so far for the exchange.
    pub(crate) fn on_timeout(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        self.assemblies.retain(|assembly| {
            let keep = now < assembly.deadline;
            if !keep {
                cx.drop(DropReason::FragmentsIncomplete);
            }
            keep
        });
    }

    /// Forgets the fragments of a message that is not waited for any more.
    pub(crate) fn forget(&mut self, response: bool, message_id: u32) {
        self.assemblies
            .retain(|a| (a.key.response, a.key.message_id) != (response, message_id));
    }

    /// Forgets all incomplete messages.
    pub(crate) fn clear(&mut self) {
        self.assemblies.clear();
    }

    /// Takes in a fragment of a message that is waited for; gives the message once it is whole.
    ///
    /// `path` is the way back to the peer. `known`: the peer is authenticated, not only its messages.
    pub(crate) fn take(
        &mut self,
        cx: &mut Context<'_>,
        channel: &Channel,
        message: &Message<'_>,
        fragment: &SkfPayload<'_>,
        path: Path,
        known: bool,
    ) -> Result<Option<Assembled>, DropReason> {
        if !self.agreed {
            return Err(DropReason::FragmentUnexpected);
        }
        if fragment.total > MAX_FRAGMENTS {
            return Err(DropReason::FragmentLimit);
        }
        let key = Key::of(message);
        let (number, total) = (fragment.number, fragment.total);
        let at = self.assemblies.iter().position(|a| a.key.names(&key));
        if let Some(assembly) = at.and_then(|at| self.assemblies.get(at)) {
            //= rfc7383#2.6
            //# if reassembling has already started, check that the value in
            //# the Total Fragments field is equal to or greater than the Total
            //# Fragments field in the fragments that have already been stored
            //# in the reassembling queue
            // And a Message ID is that of one exchange.
            if total < assembly.total || assembly.key != key {
                //= rfc7383#2.6
                //# If any of these tests fail, the message MUST be silently discarded.
                return Err(DropReason::FragmentMismatch);
            }
            //= rfc7383#2.6
            //# If an IKE Fragment message with the same Message
            //# ID, Fragment Number, and Total Fragments fields is already present
            //# in the reassembling queue, this message is considered a replay and
            //# MUST be silently discarded.
            if total == assembly.total && assembly.parts.contains_key(&number) {
                return Err(DropReason::FragmentRepeated);
            }
        }
        //= rfc7383#2.6
        //# If the ICV
        //# check fails, the message MUST be silently discarded.
        let plain = channel.open_fragment(message, fragment)?;
        let limit = cx.config.max_datagram;
        let pool = cx.shared.pool;
        let begun = at.map_or(ASSEMBLY_OVERHEAD, |_| 0);
        let clear = if number == 1 {
            fragment.prefix.len()
        } else {
            0
        };
        let cost = plain
            .octets()
            .len()
            .saturating_add(clear)
            .saturating_add(FRAGMENT_OVERHEAD)
            .saturating_add(begun);
        if !pool.has_room(cx.config.max_reassembly, cost, known) {
            return Err(DropReason::FragmentLimit);
        }
        let at = at.unwrap_or_else(|| {
            let deadline = cx.now + cx.config.reassembly_timeout;
            self.assemblies.push(Assembly::new(key, total, deadline));
            self.assemblies.len().saturating_sub(1)
        });
        let Some(assembly) = self.assemblies.get_mut(at) else {
            return Ok(None);
        };
        //= rfc7383#2.6
        //# If reassembling is not finished yet and the Total Fragments field
        //# in the received fragment is greater than the Total Fragments field
        //# in those fragments that are in the reassembling queue, the
        //# receiver MUST discard all received fragments and start the
        //# reassembly process over with just the received IKE Fragment
        //# message.
        if total > assembly.total {
            *assembly = Assembly::new(key, total, assembly.deadline);
        }
        assembly.store(message.as_bytes(), fragment, plain);
        if assembly.octets > limit {
            self.assemblies.remove(at);
            return Err(DropReason::TooLong);
        }
        if !assembly.is_whole() {
            return Ok(None);
        }
        let assembly = self.assemblies.remove(at);
        if !key.response && total > 1 {
            self.follow(path, assembly.longest);
        }
        Ok(Some(assembly.join()))
    }
}

/// Octets of the headers in front of an IKE message.
fn overhead(path: Path) -> usize {
    const UDP: usize = 8;
    let ip = if is_ipv4(path) { 20 } else { 40 };
    ip + UDP + path.transport.marker().len()
}

/// Octets of an IP datagram that any path should let through.
//= rfc7383#2.5.1
//# Otherwise, for messages to be sent over IPv6, it is RECOMMENDED that
//# a value of 1280 bytes as a maximum IP datagram size be used
//# ([RFC2460]).  For messages to be sent over IPv4, it is RECOMMENDED
//# that a value of 576 bytes as a maximum IP datagram size be used.
fn least_size(path: Path) -> u16 {
    if is_ipv4(path) { 576 } else { 1280 }
}

fn is_ipv4(path: Path) -> bool {
    path.remote.ip().to_canonical().is_ipv4()
}

/// Which message a fragment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    response: bool,
    message_id: u32,
    exchange: ExchangeType,
}

impl Key {
    /// Whether both have the same place in a window.
    fn names(&self, other: &Self) -> bool {
        (self.response, self.message_id) == (other.response, other.message_id)
    }

    fn of(message: &Message<'_>) -> Self {
        let header = message.header();
        Self {
            response: header.flags.response,
            message_id: header.message_id,
            exchange: header.exchange,
        }
    }
}

/// The fragments of one message, as far as they have come.
#[derive(Debug)]
struct Assembly {
    key: Key,
    total: u16,
    /// When it is forgotten.
    deadline: Instant,
    /// Type of the first payload; from the first fragment.
    first: PayloadType,
    /// See [`Assembled::clear`]; from the first fragment.
    clear: Vec<u8>,
    /// Of the first fragment.
    digest: [u8; 32],
    /// The plaintext of each, by its number.
    parts: BTreeMap<u16, Box<[u8]>>,
    /// Octets of all parts.
    octets: usize,
    /// Octets of the longest fragment as it came.
    longest: usize,
}

impl Assembly {
    fn new(key: Key, total: u16, deadline: Instant) -> Self {
        Self {
            key,
            total,
            deadline,
            first: PayloadType::NONE,
            clear: Vec::new(),
            digest: [0; 32],
            parts: BTreeMap::new(),
            octets: 0,
            longest: 0,
        }
    }

    fn store(&mut self, message: &[u8], fragment: &SkfPayload<'_>, plain: Plaintext) {
        if fragment.number == 1 {
            self.first = plain.first();
            self.clear = clear_of_fragment(fragment);
            self.digest = sha256(&[message]);
        }
        self.longest = self.longest.max(message.len());
        self.octets = self.octets.saturating_add(plain.octets().len());
        self.parts.insert(fragment.number, plain.into_octets());
    }

    fn is_whole(&self) -> bool {
        self.parts.len() == usize::from(self.total)
    }

    fn cost(&self) -> usize {
        let overhead = self.parts.len().saturating_mul(FRAGMENT_OVERHEAD);
        self.octets
            .saturating_add(self.clear.len())
            .saturating_add(overhead)
            .saturating_add(ASSEMBLY_OVERHEAD)
    }

    //= rfc7383#2.6
    //# When all IKE Fragment messages (as indicated in the Total Fragments
    //# field) are received, the decrypted content of all Encrypted Fragment
    //# payloads is merged together to form the content of the original
    //# Encrypted payload
    fn join(self) -> Assembled {
        let mut octets = Vec::with_capacity(self.octets);
        for part in self.parts.values() {
            octets.extend_from_slice(part);
        }
        Assembled {
            plain: Plaintext::new(self.first, octets),
            clear: self.clear,
            digest: self.digest,
        }
    }
}

/// What the incomplete messages of all IKE SAs cost, in octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pool {
    all: usize,
    /// Of IKE SAs whose peers are not authenticated.
    strangers: usize,
}

/// An IKE SA's part in the [`Pool`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) cost: usize,
    /// The peer is authenticated.
    pub(crate) known: bool,
}

impl Pool {
    /// Replaces an IKE SA's part.
    pub(crate) fn replace(&mut self, old: Share, new: Share) {
        self.all = self.all.saturating_sub(old.cost).saturating_add(new.cost);
        let strange = |share: Share| if share.known { 0 } else { share.cost };
        let strangers = self.strangers.saturating_sub(strange(old));
        self.strangers = strangers.saturating_add(strange(new));
    }

    /// Octets that all incomplete messages cost.
    pub(crate) fn used(self) -> usize {
        self.all
    }

    /// Whether so much more fits. Strangers get half at most, so that they cannot keep known peers out.
    fn has_room(self, limit: usize, cost: usize, known: bool) -> bool {
        let fits = |used: usize, limit: usize| used.saturating_add(cost) <= limit;
        fits(self.all, limit) && (known || fits(self.strangers, limit / 2))
    }
}
