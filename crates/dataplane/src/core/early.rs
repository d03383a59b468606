//! Packets that come before their SA.
//!
//! The responder of an exchange may send on a new child SA as soon as it has answered, before the initiator has the keys;
//! the kernel drops such packets (XfrmAcquireError). Here they wait under their SPI, which has been given out, and go the
//! usual way when its SA is installed. If its policies are not there yet by then, they wait on, opened: an SA is installed
//! before its policies.
//!
//! Anybody who sees the SPI can send such packets, so they are few and do not stay long: [`CoreConfig::early_per_spi`] and
//! [`CoreConfig::early_total`] of them, [`LIFETIME`] each. Where there is no room the newest packet is dropped.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cygnet_ipsec::fast::SaIndex;
use cygnet_ipsec::{Counter, Protocol, SaDirection, SaId};

use super::{Arrival, Core, Delivery, Output};
use crate::packet::Packet;

/// How long a packet waits: longer than a response that got lost takes to be sent again.
const LIFETIME: Duration = Duration::from_secs(3);

/// What waits, and for what.
#[derive(Debug)]
pub(super) enum Early {
    /// For the SA of its SPI, as it came.
    Sealed(Arrival),
    /// For a policy, opened by the first SA, and decompressed by the second.
    Opened(SaId, Option<SaId>, Packet),
}

impl Early {
    /// What names the SA that it came with.
    fn key(&self) -> Key {
        match self {
            Early::Sealed(arrival) => (
                arrival.local,
                arrival.protocol,
                arrival.spi().unwrap_or_default(),
            ),
            Early::Opened(id, ..) => key(id),
        }
    }

    fn into_packet(self) -> Packet {
        match self {
            Early::Sealed(arrival) => arrival.packet,
            Early::Opened(.., packet) => packet,
        }
    }
}

/// The destination, the protocol and the SPI of an SA.
type Key = (IpAddr, Protocol, u32);

fn key(id: &SaId) -> Key {
    (id.dst, id.protocol, id.spi)
}

/// All that waits, in the order in which it came. There is little of it: looking through all is cheap.
#[derive(Debug, Default)]
pub(super) struct EarlyPackets(VecDeque<(Instant, Early)>);

impl EarlyPackets {
    /// Puts a packet in, or gives it back if there is no room.
    fn hold(
        &mut self,
        now: Instant,
        early: Early,
        per_spi: usize,
        total: usize,
    ) -> Result<(), Early> {
        let key = early.key();
        let same = || self.0.iter().filter(|(_, other)| other.key() == key);
        if self.0.len() >= total || same().count() >= per_spi {
            return Err(early);
        }
        self.0.push_back((now, early));
        Ok(())
    }

    /// Takes out what `chosen` picks, in order.
    fn take(&mut self, chosen: impl Fn(&Early) -> bool) -> Vec<(Instant, Early)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let (taken, kept) = std::mem::take(&mut self.0)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, early)| chosen(early));
        self.0 = kept.into();
        taken
    }

    /// When the oldest has waited long enough.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.0.front().map(|(since, _)| *since + LIFETIME)
    }
}

impl Core {
    /// Keeps a packet whose SPI has no SA yet.
    pub(super) fn hold_sealed(&mut self, now: Instant, arrival: Arrival, output: &mut Output) {
        self.hold_early(now, Early::Sealed(arrival), output);
    }

    /// Whether the policies of an SA may be still to come: it has been negotiated, and is younger than packets wait at most.
    pub(super) fn is_settling(&self, sa: SaIndex, now: Instant) -> bool {
        self.live.get(sa).is_some_and(|live| {
            live.negotiated && now.saturating_duration_since(live.life.added()) < LIFETIME
        })
    }

    /// Keeps a packet that no policy admits yet.
    pub(super) fn hold_opened(
        &mut self,
        now: Instant,
        sa: SaIndex,
        comp: Option<SaIndex>,
        packet: Packet,
        output: &mut Output,
    ) {
        let id = |index| self.db.sad.get(index).map(|entry| entry.sa.id);
        match (id(sa), comp.and_then(id)) {
            (Some(id), comp) => self.hold_early(now, Early::Opened(id, comp, packet), output),
            (None, _) => output.pool.give(packet),
        }
    }

    fn hold_early(&mut self, now: Instant, early: Early, output: &mut Output) {
        let (each, total) = (self.config.early_per_spi, self.config.early_total);
        match self.early.hold(now, early, each, total) {
            Ok(()) => self.counters.early += 1,
            Err(early) => {
                self.counters.early_full += 1;
                self.drop_early(early, output);
            }
        }
    }

    /// An inbound SA has been installed: what came before goes the usual way.
    pub(super) fn release_early(&mut self, now: Instant, id: &SaId, output: &mut Output) {
        let key = key(id);
        let sealed = |early: &Early| matches!(early, Early::Sealed(_)) && early.key() == key;
        for (_, early) in self.early.take(sealed) {
            if let Early::Sealed(arrival) = early {
                self.inbound_packet(now, arrival, output);
            }
        }
    }

    /// A policy has come: what waited for one is looked at again.
    pub(super) fn recheck_early(&mut self, output: &mut Output) {
        let opened = |early: &Early| matches!(early, Early::Opened(..));
        for (since, early) in self.early.take(opened) {
            let Early::Opened(id, comp, packet) = early else {
                continue;
            };
            let with = comp.and_then(|comp| self.db.sad.find(&comp));
            let verdict = match self.db.sad.find(&id) {
                Some(sa) if with.is_some() == comp.is_some() => {
                    self.check_policy(sa, with, packet.bytes())
                }
                _ => Err(Counter::InNoPols),
            };
            match verdict {
                Ok(if_id) => output.deliveries.push(Delivery { packet, if_id }),
                // What was first stays first.
                Err(Counter::InNoPols) => self
                    .early
                    .0
                    .push_back((since, Early::Opened(id, comp, packet))),
                Err(counter) => {
                    self.xfrm.increment(counter);
                    output.pool.give(packet);
                }
            }
        }
        self.early
            .0
            .make_contiguous()
            .sort_by_key(|(since, _)| *since);
    }

    /// An SPI or an SA is gone, and with it what came for it.
    pub(super) fn drop_early_of(&mut self, id: &SaId, direction: SaDirection, output: &mut Output) {
        if direction == SaDirection::Out {
            return;
        }
        let key = key(id);
        for (_, early) in self.early.take(|early| early.key() == key) {
            self.counters.early_expired += 1;
            self.drop_early(early, output);
        }
    }

    /// Drops what has waited long enough.
    pub(super) fn expire_early(&mut self, now: Instant, output: &mut Output) {
        while self.early.next_expiry().is_some_and(|at| at <= now) {
            if let Some((_, early)) = self.early.0.pop_front() {
                self.counters.early_expired += 1;
                self.drop_early(early, output);
            }
        }
    }

    /// Counts a drop as the kernel does that keeps nothing.
    fn drop_early(&mut self, early: Early, output: &mut Output) {
        self.xfrm.increment(match early {
            Early::Sealed(_) => Counter::AcquireError,
            Early::Opened(..) => Counter::InNoPols,
        });
        output.pool.give(early.into_packet());
    }
}
