//! Which SAs each host receives with, and which it would send a packet on, through all of a run; and, when the run is
//! over, whether a packet sent at any moment could have been decrypted where it arrived.
//!
//! What is sent changes only when a database is changed, so the question is answered for every instant without sending
//! anything: a stretch of time in which one end sends on an SA must lie within the stretch in which the other end has
//! it, and packets are a while on their way. An SA may go for many reasons. Those by which it goes in favour of another
//! one, because it was rekeyed or both ends had rekeyed at once, must never cost a packet.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use cygnet_ike::{ChildCloseReason, CloseReason};

/// How long a packet may be on its way.
pub const ON_THE_WAY: Duration = Duration::from_secs(2);

/// A rekeying that is disturbed is over after this time: what waits for the window waits for two requests at most.
const REKEYING: Duration = Duration::from_secs(40);

/// How an SA ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In favour of another one.
    Renewed,
    /// In any other way.
    Otherwise,
}

impl End {
    pub fn of(reason: &ChildCloseReason) -> Self {
        match reason {
            ChildCloseReason::Rekeyed
            | ChildCloseReason::Redundant
            | ChildCloseReason::IkeSaClosed(CloseReason::Rekeyed) => Self::Renewed,
            _ => Self::Otherwise,
        }
    }
}

/// An inbound SA.
#[derive(Debug)]
struct Inbound {
    installed: Instant,
    removed: Option<Instant>,
    /// Removed by a command, not by a crash or a hard limit.
    orderly: bool,
}

/// A stretch of time in which packets of a flow go out by one SA.
#[derive(Debug)]
struct Stretch {
    spi: Option<u32>,
    from: Instant,
    until: Option<Instant>,
    /// It ended because the SA went.
    gone: bool,
}

/// What a host has told of a child SA.
#[derive(Debug)]
struct Told {
    is_successor: bool,
    end: Option<End>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Sads {
    inbound: HashMap<(usize, u32), Inbound>,
    stretches: BTreeMap<(usize, usize), Vec<Stretch>>,
    /// By host and outbound SPI.
    told_out: HashMap<(usize, u32), Told>,
    /// By host and inbound SPI.
    ends_in: HashMap<(usize, u32), (Instant, End)>,
    /// What disturbs a host's SAs of a flow beside rekeying.
    losses: Vec<(usize, Instant)>,
    /// Ends of SAs that were looked at.
    pub judged: u64,
}

impl Sads {
    pub fn installed(&mut self, now: Instant, host: usize, spi: u32) {
        let inbound = Inbound {
            installed: now,
            removed: None,
            orderly: true,
        };
        self.inbound.insert((host, spi), inbound);
    }

    pub fn removed(&mut self, now: Instant, host: usize, spi: u32, orderly: bool) {
        if let Some(inbound) = self.inbound.get_mut(&(host, spi)) {
            inbound.removed.get_or_insert(now);
            inbound.orderly &= orderly;
        }
        if !orderly {
            self.losses.push((host, now));
        }
    }

    /// A host has lost everything.
    pub fn crashed(&mut self, now: Instant, host: usize) {
        for ((of, _), inbound) in &mut self.inbound {
            if *of == host && inbound.removed.is_none() {
                (inbound.removed, inbound.orderly) = (Some(now), false);
            }
        }
        self.losses.push((host, now));
    }

    /// A host loses SAs, or might, for another reason than rekeying.
    pub fn lost(&mut self, now: Instant, host: usize) {
        self.losses.push((host, now));
    }

    pub fn established(&mut self, host: usize, spi_out: u32, is_successor: bool) {
        let told = Told {
            is_successor,
            end: None,
        };
        self.told_out.insert((host, spi_out), told);
    }

    pub fn closed(&mut self, now: Instant, host: usize, spis: (u32, u32), end: End) {
        let (spi_in, spi_out) = spis;
        self.ends_in.insert((host, spi_in), (now, end));
        if let Some(told) = self.told_out.get_mut(&(host, spi_out)) {
            told.end = Some(end);
        }
        if end == End::Otherwise {
            self.losses.push((host, now));
        }
    }

    /// What packets of a flow go out by from now on; `gone`: by what they went out before is not there any more.
    pub fn sends(&mut self, now: Instant, host: usize, flow: usize, spi: Option<u32>, gone: bool) {
        let stretches = self.stretches.entry((host, flow)).or_default();
        if let Some(last) = stretches.last_mut() {
            if last.spi == spi {
                return;
            }
            (last.until, last.gone) = (Some(now), gone);
        }
        stretches.push(Stretch {
            spi,
            from: now,
            until: None,
            gone: false,
        });
    }

    /// What packets of a flow go out by.
    pub fn sending(&self, host: usize, flow: usize) -> Option<u32> {
        self.stretches.get(&(host, flow))?.last()?.spi
    }

    /// Looks at the whole run.
    pub fn judge(&mut self, start: Instant, end: Instant) -> Result<(), String> {
        let at = |time: Instant| time.saturating_duration_since(start).as_secs_f64();
        let mut judged = 0;
        for (&(host, flow), stretches) in &self.stretches {
            let peer = 1 - host;
            for stretch in stretches {
                let Some(spi) = stretch.spi else { continue };
                let until = stretch.until.unwrap_or(end);
                if until == stretch.from {
                    // Between two commands.
                    continue;
                }
                let told = self.told_out.get(&(host, spi));
                let is_successor = told.is_some_and(|told| told.is_successor);
                let interrupted = |host: usize, time: Instant| {
                    let mut losses = self.losses.iter();
                    losses.any(|(of, loss)| *of == host && *loss <= time && time < *loss + REKEYING)
                };
                match self.inbound.get(&(peer, spi)) {
                    None if is_successor
                        && !interrupted(host, stretch.from)
                        && !interrupted(peer, stretch.from) =>
                    {
                        return Err(format!(
                            "host {host} sends on {spi:08x} from {:.3} and the peer has never had it",
                            at(stretch.from)
                        ));
                    }
                    None => {}
                    Some(inbound) => {
                        if is_successor
                            && stretch.from < inbound.installed
                            && !interrupted(host, stretch.from)
                            && !interrupted(peer, stretch.from)
                        {
                            return Err(format!(
                                "host {host} sends on {spi:08x} from {:.3} and the peer has it from {:.3}",
                                at(stretch.from),
                                at(inbound.installed)
                            ));
                        }
                        let closed = self.ends_in.get(&(peer, spi));
                        let closed = closed.filter(|(_, end)| *end == End::Renewed);
                        let removed = inbound.removed.filter(|_| inbound.orderly).zip(closed);
                        // Of what is lost while it is renewed, nobody can expect anything.
                        let lost = |closed: Instant, removed: Instant| {
                            let mut losses = self.losses.iter();
                            losses.any(|(_, loss)| *loss + REKEYING > closed && *loss <= removed)
                        };
                        if let Some((removed, (closed, _))) = removed
                            && !lost(*closed, removed)
                        {
                            judged += 1;
                            if until + ON_THE_WAY > removed && stretch.from < removed {
                                return Err(format!(
                                    "host {host} sends on {spi:08x} until {:.3} and the peer has it until {:.3}",
                                    at(until),
                                    at(removed)
                                ));
                            }
                        }
                    }
                }
                // Is there something to go on with?
                let next_is_none = stretch.until.is_some() && {
                    let next = stretches.iter().find(|next| {
                        Some(next.from) >= stretch.until && !std::ptr::eq(*next, stretch)
                    });
                    next.is_some_and(|next| next.spi.is_none())
                };
                let renewed = told.is_some_and(|told| told.end == Some(End::Renewed));
                if stretch.gone && renewed {
                    judged += 1;
                    if next_is_none && !interrupted(host, until) && !interrupted(peer, until) {
                        return Err(format!(
                            "host {host} has nothing to send on from {:.3}, when {spi:08x} of flow {flow} was rekeyed",
                            at(until)
                        ));
                    }
                }
            }
        }
        self.judged = judged;
        Ok(())
    }
}
