//! SAs by SPI, by what templates ask for, and larval states by what answers them (K5, K8, K13).

mod commands;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use slab::Slab;

use super::prefix::SelectorBits;
use crate::{
    Acquire, Counter, Flow, InboundSpi, Mark, Missing, Mode, OutboundLookup, OutboundLookupError,
    Policy, Protocol, Sa, SaDirection, SaId, SaState, Template,
};

/// The place of an SA in a [`Sad`]: small, dense, and reused after the SA is gone, so that it can index tables beside
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SaIndex(usize);

impl SaIndex {
    /// The number itself.
    pub const fn get(self) -> usize {
        self.0
    }
}

/// An SA in a [`Sad`].
#[derive(Debug)]
pub struct SadEntry {
    /// The SA; of a larval one only identity, source, mode, reqid, if_id and direction mean something.
    pub sa: Sa,
    /// Its state.
    pub state: SaState,
    /// Whether a soft limit was reached.
    pub dying: bool,
    /// When it was inserted.
    pub added: Instant,
    /// The order of insertion. Unlike an index it is never reused.
    pub serial: u64,
    selector: Option<SelectorBits>,
}

/// What [`Sad::inbound`] looks for, but for the mark.
type SpiKey = (u32, Protocol, IpAddr);

/// What [`Sad::outbound`] looks for, but for mark, SPI and selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct TemplateKey {
    dst: IpAddr,
    src: IpAddr,
    reqid: u32,
    if_id: u32,
    mode: Mode,
    protocol: Protocol,
}

/// What finds a larval state without SPI, but for the mark. The xfrm interface is not looked at (K13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LarvalKey {
    dst: IpAddr,
    src: IpAddr,
    reqid: u32,
    mode: Mode,
    protocol: Protocol,
}

/// The Security Association Database.
#[derive(Debug)]
pub struct Sad {
    entries: Slab<SadEntry>,
    /// The newest first, as the kernel's hash chains are. More than one only with marks.
    by_spi: HashMap<SpiKey, Vec<SaIndex>>,
    /// How many SAs have an SPI, whatever their destination.
    spis: HashMap<(Protocol, u32), u32>,
    by_template: HashMap<TemplateKey, Vec<SaIndex>>,
    larval_by_seq: HashMap<u32, Vec<SaIndex>>,
    larval_by_addresses: HashMap<LarvalKey, Vec<SaIndex>>,
    larval_by_age: BTreeSet<(Instant, SaIndex)>,
    next_serial: u64,
    acquire_seq: u32,
    listener: bool,
    acquire_expires: Duration,
}

impl Default for Sad {
    fn default() -> Sad {
        Sad::new()
    }
}

impl Sad {
    /// An empty database whose ACQUIREs are heard and whose larval states last 30 seconds, as in the kernel.
    pub fn new() -> Sad {
        Sad {
            entries: Slab::new(),
            by_spi: HashMap::new(),
            spis: HashMap::new(),
            by_template: HashMap::new(),
            larval_by_seq: HashMap::new(),
            larval_by_addresses: HashMap::new(),
            larval_by_age: BTreeSet::new(),
            next_serial: 1,
            acquire_seq: 0,
            listener: true,
            acquire_expires: Duration::from_secs(30),
        }
    }

    /// Tells whether anybody hears an ACQUIRE. Without, no larval state is made (K5).
    pub fn set_listener(&mut self, listener: bool) {
        self.listener = listener;
    }

    /// Sets how long a larval state waits.
    pub fn set_acquire_expires(&mut self, limit: Duration) {
        self.acquire_expires = limit;
    }

    /// How many states there are, larval ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An SA by its place.
    pub fn get(&self, index: SaIndex) -> Option<&SadEntry> {
        self.entries.get(index.0)
    }

    /// All SAs with their places, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (SaIndex, &SadEntry)> {
        self.entries
            .iter()
            .map(|(index, entry)| (SaIndex(index), entry))
    }

    /// Puts an SA into another state, as a limit reached or a failed negotiation does.
    pub fn set_state(&mut self, index: SaIndex, state: SaState) {
        let Some(entry) = self.entries.get_mut(index.0) else {
            return;
        };
        if entry.state == SaState::Larval || state == SaState::Larval {
            self.unlink(index);
            if let Some(entry) = self.entries.get_mut(index.0) {
                entry.state = state;
            }
            self.link(index);
        } else {
            entry.state = state;
        }
    }

    /// Notes that an SA has reached a soft limit, or no longer has.
    pub fn set_dying(&mut self, index: SaIndex, dying: bool) {
        if let Some(entry) = self.entries.get_mut(index.0) {
            entry.dying = dying;
        }
    }

    /// Removes larval states that have waited too long and returns them; each wants an EXPIRE (K11).
    pub fn expire_larval(&mut self, now: Instant) -> Vec<SadEntry> {
        let mut expired = Vec::new();
        while let Some((added, index)) = self.larval_by_age.pop_first() {
            if now.saturating_duration_since(added) < self.acquire_expires {
                self.larval_by_age.insert((added, index));
                break;
            }
            expired.extend(self.take(index));
        }
        expired
    }

    /// When the next larval state will have waited too long.
    pub fn next_larval_expiry(&self) -> Option<Instant> {
        self.larval_by_age
            .first()?
            .0
            .checked_add(self.acquire_expires)
    }

    /// K8: the SA for an inbound packet, whatever its state.
    pub fn inbound(&self, dst: IpAddr, spi: u32, protocol: Protocol, mark: u32) -> Option<SaIndex> {
        let accepts = |index: &&SaIndex| {
            self.get(**index)
                .is_some_and(|e| accepts_mark(e.sa.id.mark, mark))
        };
        self.by_spi
            .get(&(spi, protocol, dst))?
            .iter()
            .find(accepts)
            .copied()
    }

    /// K8, steps 1 to 3, up to the replay check: the SA that may open a packet.
    ///
    /// # Errors
    ///
    /// What counts the drop.
    pub fn accept_inbound(&self, packet: &InboundSpi) -> Result<SaIndex, Counter> {
        let index = self
            .inbound(packet.dst, packet.spi, packet.protocol, packet.mark)
            .ok_or(Counter::InNoStates)?;
        let entry = self.get(index).ok_or(Counter::InNoStates)?;
        match (entry.sa.direction, entry.state) {
            (SaDirection::Out, _) => Err(Counter::InStateDirError),
            (SaDirection::In, SaState::Larval) => Err(Counter::AcquireError),
            (SaDirection::In, SaState::Error | SaState::Expired) => Err(Counter::InStateInvalid),
            (SaDirection::In, SaState::Valid) => {
                let kind = entry.sa.encap.as_ref().map(|encap| encap.kind);
                if kind == packet.encap {
                    Ok(index)
                } else {
                    Err(Counter::InStateMismatch)
                }
            }
        }
    }

    /// K5: the SA for an outbound packet that `policy` applies to, between the outer addresses `src` and `dst`.
    pub fn outbound(
        &self,
        policy: &Policy,
        template: &Template,
        flow: &Flow,
        src: IpAddr,
        dst: IpAddr,
    ) -> OutboundLookup<SaIndex> {
        let mut key = TemplateKey {
            dst,
            src,
            reqid: template.reqid,
            if_id: policy.key.if_id,
            mode: template.mode,
            protocol: template.protocol,
        };
        let mark = policy.key.mark.value & policy.key.mark.mask;
        let mut dead = false;
        // An SA whose source is open serves if there is nothing at all for the very source.
        let same_family = template.dst.is_ipv4() == dst.is_ipv4();
        for source in [src, unspecified(dst)].into_iter().filter(|_| same_family) {
            key.src = source;
            if let Some(outcome) = self.search(&key, mark, template.spi, flow, &mut dead) {
                return outcome;
            }
        }
        if dead {
            OutboundLookup::Error(OutboundLookupError::Dead)
        } else if template.spi != 0
            && self
                .inbound(dst, template.spi, template.protocol, mark)
                .is_some()
        {
            OutboundLookup::Error(OutboundLookupError::SpiTaken)
        } else {
            OutboundLookup::Acquire
        }
    }

    fn search(
        &self,
        key: &TemplateKey,
        mark: u32,
        spi: u32,
        flow: &Flow,
        dead: &mut bool,
    ) -> Option<OutboundLookup<SaIndex>> {
        let mut best: Option<((bool, Instant, u64), SaIndex)> = None;
        let mut larval = false;
        for &index in self.by_template.get(key)? {
            let Some(entry) = self.get(index) else {
                continue;
            };
            if !accepts_mark(entry.sa.id.mark, mark) || (spi != 0 && entry.sa.id.spi != spi) {
                continue;
            }
            if entry.state == SaState::Larval {
                larval = true;
                continue;
            }
            if !entry.selector.is_none_or(|selector| selector.accepts(flow)) {
                continue;
            }
            if entry.state != SaState::Valid {
                *dead = true;
                continue;
            }
            let preference = (!entry.dying, entry.added, entry.serial);
            if best.is_none_or(|(other, _)| preference > other) {
                best = Some((preference, index));
            }
        }
        match best {
            Some((_, index)) => Some(OutboundLookup::Found(index)),
            None if larval => Some(OutboundLookup::Pending),
            None => None,
        }
    }

    /// K5, K13: makes the larval state that stands for a missing SA, and the ACQUIRE that asks for it. `None` if
    /// nobody listens, or a larval state is there already.
    pub fn begin_acquire(&mut self, now: Instant, missing: &Missing) -> Option<Acquire> {
        let template = missing.template;
        let mut key = TemplateKey {
            dst: missing.dst,
            src: missing.src,
            reqid: template.reqid,
            if_id: missing.policy.if_id,
            mode: template.mode,
            protocol: template.protocol,
        };
        if !self.listener || self.is_muted(&key, template.spi, missing.policy.mark.value) {
            return None;
        }
        key.src = unspecified(missing.dst);
        if self.is_muted(&key, template.spi, missing.policy.mark.value) {
            return None;
        }
        self.acquire_seq = match self.acquire_seq.wrapping_add(1) {
            0 => 1,
            seq => seq,
        };
        let id = SaId {
            dst: missing.dst,
            spi: template.spi,
            protocol: template.protocol,
            mark: missing.policy.mark,
        };
        let sa = Sa {
            if_id: missing.policy.if_id,
            acquire_seq: self.acquire_seq,
            ..Sa::new(
                id,
                missing.src,
                SaDirection::Out,
                template.mode,
                template.reqid,
            )
        };
        self.add(now, sa, SaState::Larval);
        Some(Acquire {
            seq: self.acquire_seq,
            policy_index: missing.policy_index,
            policy: missing.policy,
            template,
            selector: missing.selector,
            src: missing.src,
            dst: missing.dst,
            mark: missing.policy.mark,
            if_id: missing.policy.if_id,
            cpu: None,
            label: None,
        })
    }

    fn is_muted(&self, key: &TemplateKey, spi: u32, mark: u32) -> bool {
        let states = self.by_template.get(key).into_iter().flatten();
        states.filter_map(|index| self.get(*index)).any(|entry| {
            entry.state == SaState::Larval
                && (spi == 0 || entry.sa.id.spi == spi)
                && accepts_mark(entry.sa.id.mark, mark)
        })
    }

    /// Removes an SA by its place.
    pub fn remove_at(&mut self, index: SaIndex) -> Option<SadEntry> {
        self.take(index)
    }

    /// Removes all SAs, larval ones included.
    pub fn flush(&mut self) {
        self.entries.clear();
        self.by_spi.clear();
        self.spis.clear();
        self.by_template.clear();
        self.larval_by_seq.clear();
        self.larval_by_addresses.clear();
        self.larval_by_age.clear();
    }

    /// An SA by its id: found as a packet with the id's mark would find it (K14).
    pub fn find(&self, id: &SaId) -> Option<SaIndex> {
        self.inbound(id.dst, id.spi, id.protocol, id.mark.value & id.mark.mask)
    }

    fn larval_by_seq(&self, seq: u32, mark: u32, also: impl Fn(&Sa) -> bool) -> Option<SaIndex> {
        // The newest that the mark leads to is *the* state of this number, or there is none.
        let states = self.larval_by_seq.get(&seq)?;
        let index = self.newest(states, mark)?;
        self.get(index)
            .filter(|entry| also(&entry.sa))
            .map(|_| index)
    }

    fn larval_by_addresses(&self, key: &LarvalKey, mark: u32) -> Option<SaIndex> {
        self.newest(self.larval_by_addresses.get(key)?, mark)
    }

    fn newest(&self, states: &[SaIndex], mark: u32) -> Option<SaIndex> {
        let serial = |index: &SaIndex| {
            let entry = self.get(*index)?;
            accepts_mark(entry.sa.id.mark, mark).then_some((entry.serial, *index))
        };
        states
            .iter()
            .filter_map(serial)
            .max()
            .map(|(_, index)| index)
    }

    fn add(&mut self, now: Instant, sa: Sa, state: SaState) -> SaIndex {
        let serial = self.next_serial;
        self.next_serial += 1;
        let selector = sa.selector.as_ref().map(SelectorBits::new);
        let entry = SadEntry {
            sa,
            state,
            dying: false,
            added: now,
            serial,
            selector,
        };
        let index = SaIndex(self.entries.insert(entry));
        self.link(index);
        index
    }

    fn take(&mut self, index: SaIndex) -> Option<SadEntry> {
        self.unlink(index);
        self.entries.try_remove(index.0)
    }

    /// Enters an SA into every index that it belongs to.
    fn link(&mut self, index: SaIndex) {
        let Some(entry) = self.entries.get(index.0) else {
            return;
        };
        let sa = &entry.sa;
        if sa.id.spi != 0 {
            // The newest first. Links are made in the order of serials but where an old SA is linked again.
            let newer = |other: &SaIndex| {
                self.entries
                    .get(other.0)
                    .is_some_and(|other| other.serial > entry.serial)
            };
            let chain = self
                .by_spi
                .entry((sa.id.spi, sa.id.protocol, sa.id.dst))
                .or_default();
            let place = chain.partition_point(newer);
            chain.insert(place, index);
            *self.spis.entry((sa.id.protocol, sa.id.spi)).or_default() += 1;
        }
        if !sa.flags.wild_recv {
            self.by_template
                .entry(template_key(sa))
                .or_default()
                .push(index);
        }
        if entry.state == SaState::Larval {
            self.larval_by_age.insert((entry.added, index));
            if sa.acquire_seq != 0 {
                self.larval_by_seq
                    .entry(sa.acquire_seq)
                    .or_default()
                    .push(index);
            }
            if sa.id.spi == 0 {
                self.larval_by_addresses
                    .entry(larval_key(sa))
                    .or_default()
                    .push(index);
            }
        }
    }

    /// Takes an SA out of every index. The SA must not have changed since it was entered.
    fn unlink(&mut self, index: SaIndex) {
        let Some(entry) = self.entries.get(index.0) else {
            return;
        };
        let sa = &entry.sa;
        if sa.id.spi != 0 {
            drop_from(
                &mut self.by_spi,
                &(sa.id.spi, sa.id.protocol, sa.id.dst),
                index,
            );
            if let Some(count) = self.spis.get_mut(&(sa.id.protocol, sa.id.spi)) {
                *count -= 1;
                if *count == 0 {
                    self.spis.remove(&(sa.id.protocol, sa.id.spi));
                }
            }
        }
        drop_from(&mut self.by_template, &template_key(sa), index);
        if entry.state == SaState::Larval {
            self.larval_by_age.remove(&(entry.added, index));
            drop_from(&mut self.larval_by_seq, &sa.acquire_seq, index);
            drop_from(&mut self.larval_by_addresses, &larval_key(sa), index);
        }
    }
}

fn drop_from<K: Eq + std::hash::Hash>(map: &mut HashMap<K, Vec<SaIndex>>, key: &K, index: SaIndex) {
    if let Some(chain) = map.get_mut(key) {
        chain.retain(|other| *other != index);
        if chain.is_empty() {
            map.remove(key);
        }
    }
}

fn accepts_mark(mark: Mark, packet: u32) -> bool {
    (packet ^ mark.value) & mark.mask == 0
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

fn template_key(sa: &Sa) -> TemplateKey {
    TemplateKey {
        dst: sa.id.dst,
        src: sa.src,
        reqid: sa.reqid,
        if_id: sa.if_id,
        mode: sa.mode,
        protocol: sa.id.protocol,
    }
}

fn larval_key(sa: &Sa) -> LarvalKey {
    LarvalKey {
        dst: sa.id.dst,
        src: sa.src,
        reqid: sa.reqid,
        mode: sa.mode,
        protocol: sa.id.protocol,
    }
}
