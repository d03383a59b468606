//! Which SAs each host receives with, and which it would send a packet on, through all of a run; and, when the run is
//! over, whether a packet sent at any moment could have been decrypted where it arrived.
//!
//! What is sent changes only when a database is changed, so the question is answered for every instant without sending
//! anything: a stretch of time in which one end sends on an SA must lie within the stretch in which the other end has
//! it, and packets are a while on their way.
//!
//! An SA may go for many reasons. Those by which it goes in favour of another one, because it was rekeyed or both ends
//! had rekeyed at once, must never cost a packet. What excuses one is named with each rule, and has to do with that very
//! SA and that very time. Where nothing happens but rekeying, nothing is excused: see [`Sads::be_strict`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use cygnet_ike::{ChildCloseReason, ChildSaId, ChildSaInfo, CloseReason};

/// How long a packet may be on its way.
pub const ON_THE_WAY: Duration = Duration::from_secs(2);

/// How long the inbound SA of a child SA that has ended in favour of another one may stay. A plane may take a while to
/// remove it, one that is moving first.
const LINGERING: Duration = Duration::from_secs(6);

/// A redundant child SA is deleted by whoever has made it: its peer waits for two minutes and helps itself then.
const OVERDUE: Duration = Duration::from_secs(119);

/// How long an exchange may take.
const EXCHANGE: Duration = Duration::from_secs(15);

/// Whether an SA ended in favour of another one.
fn is_renewal(reason: &ChildCloseReason) -> bool {
    matches!(
        reason,
        ChildCloseReason::Rekeyed
            | ChildCloseReason::Redundant
            | ChildCloseReason::IkeSaClosed(CloseReason::Rekeyed)
    )
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
    at: Instant,
    spi_out: u32,
    replaces: Option<ChildSaId>,
    /// When it ended, and whether in favour of another one.
    end: Option<(Instant, bool)>,
    /// Another successor has won.
    redundant: bool,
    /// One of its SAs has reached a hard limit.
    struck: Option<Instant>,
}

/// A host, its generation and the name that it gives a child SA.
type Name = (usize, u32, ChildSaId);

/// See the module's text.
#[derive(Debug, Default)]
pub struct Sads {
    inbound: HashMap<(usize, u32), Inbound>,
    stretches: BTreeMap<(usize, usize), Vec<Stretch>>,
    told: HashMap<Name, Told>,
    told_by_out: HashMap<(usize, u32), Name>,
    told_by_in: HashMap<(usize, u32), Name>,
    /// SAs that have reached a hard limit.
    struck: HashSet<(usize, u32)>,
    /// When a host took something down because it was told to, or lost everything.
    taken_down: Vec<(usize, Instant)>,
    strict: Option<Instant>,
    gap: Duration,
    /// Ends of SAs that were looked at.
    pub judged: u64,
    /// Those of them where nothing was excused.
    pub judged_strictly: u64,
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
    }

    /// An SA has reached a hard limit: with it goes its child SA.
    pub fn struck(&mut self, now: Instant, host: usize, spi: u32) {
        self.removed(now, host, spi, false);
        self.struck.insert((host, spi));
        for names in [&self.told_by_in, &self.told_by_out] {
            if let Some(told) = names
                .get(&(host, spi))
                .and_then(|name| self.told.get_mut(name))
            {
                told.end.get_or_insert((now, false));
                told.struck.get_or_insert(now);
            }
        }
    }

    /// A host has lost everything.
    pub fn crashed(&mut self, now: Instant, host: usize) {
        for ((of, _), inbound) in &mut self.inbound {
            if *of == host && inbound.removed.is_none() {
                (inbound.removed, inbound.orderly) = (Some(now), false);
            }
        }
        for ((of, _, _), told) in &mut self.told {
            if *of == host {
                told.end.get_or_insert((now, false));
            }
        }
        self.taken_down(now, host);
    }

    /// A host takes down what it has: a connection was taken down, or is another one now.
    pub fn taken_down(&mut self, now: Instant, host: usize) {
        self.taken_down.push((host, now));
    }

    /// From now on nothing happens but that SAs are renewed, and whoever has something to send on has again after this
    /// time at most.
    pub fn be_strict(&mut self, now: Instant, gap: Duration) {
        (self.strict, self.gap) = (Some(now), gap);
    }

    pub fn established(&mut self, now: Instant, host: usize, generation: u32, info: &ChildSaInfo) {
        let name = (host, generation, info.id);
        let told = Told {
            at: now,
            spi_out: info.spi_out,
            replaces: info.replaces,
            end: None,
            redundant: false,
            struck: None,
        };
        self.told_by_out.insert((host, info.spi_out), name);
        self.told_by_in.insert((host, info.spi_in), name);
        self.told.insert(name, told);
    }

    pub fn closed(
        &mut self,
        now: Instant,
        host: usize,
        generation: u32,
        child: ChildSaId,
        reason: &ChildCloseReason,
    ) -> Result<(), String> {
        let Some(told) = self.told.get_mut(&(host, generation, child)) else {
            return Ok(());
        };
        told.end.get_or_insert((now, is_renewal(reason)));
        told.redundant = matches!(reason, ChildCloseReason::Redundant);
        match told.redundant && now >= told.at + OVERDUE {
            true => Err(format!("nobody has deleted {child}, which is redundant")),
            false => Ok(()),
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

    /// Whether the inbound SA of a child SA that has ended may still be there.
    pub fn lingers(&self, now: Instant, host: usize, spi: u32) -> bool {
        let end = self.told_in(host, spi).and_then(|told| told.end);
        end.is_some_and(|(at, _)| now < at + LINGERING)
    }

    fn told_out(&self, host: usize, spi: u32) -> Option<&Told> {
        self.told.get(self.told_by_out.get(&(host, spi))?)
    }

    fn told_in(&self, host: usize, spi: u32) -> Option<&Told> {
        self.told.get(self.told_by_in.get(&(host, spi))?)
    }

    /// Whether a host took something down within this time.
    fn interfered(&self, host: usize, from: Instant, until: Instant) -> bool {
        let mut all = self.taken_down.iter();
        all.any(|(of, at)| *of == host && (from..=until).contains(at))
    }

    /// Looks at the whole run.
    pub fn judge(&mut self, start: Instant, end: Instant) -> Result<(), String> {
        let mut judged = (0, 0);
        for (&(host, flow), stretches) in &self.stretches {
            for (at, stretch) in stretches.iter().enumerate() {
                // What is between two commands of one time nobody sees.
                if stretch.until == Some(stretch.from) {
                    continue;
                }
                let next = stretches[at + 1..]
                    .iter()
                    .find(|next| next.until != Some(next.from));
                let strict = self
                    .strict
                    .is_some_and(|strict| stretch.until.is_none_or(|until| until > strict));
                let outcome = match stretch.spi {
                    Some(spi) => {
                        judged.0 += 1;
                        judged.1 += u64::from(strict);
                        self.judge_stretch(host, spi, stretch, next, end, strict)
                    }
                    // Nothing to send on: of what is not wanted nothing is asked.
                    None if strict
                        && self.strict.is_some_and(|strict| stretch.from > strict)
                        && stretch.until.unwrap_or(end) > stretch.from + self.gap =>
                    {
                        Err("has nothing to send on though nothing was taken down".to_owned())
                    }
                    None => Ok(()),
                };
                if let Err(text) = outcome {
                    let at = stretch.from.saturating_duration_since(start).as_secs_f64();
                    return Err(format!(
                        "host {host} flow {flow} from {at:.3} on {:08x?}: {text}",
                        stretch.spi
                    ));
                }
            }
        }
        (self.judged, self.judged_strictly) = judged;
        Ok(())
    }

    /// One host sends on an SA for some time. `strict`: nothing is excused.
    fn judge_stretch(
        &self,
        host: usize,
        spi: u32,
        stretch: &Stretch,
        next: Option<&Stretch>,
        end: Instant,
        strict: bool,
    ) -> Result<(), String> {
        let peer = 1 - host;
        let until = stretch.until.unwrap_or(end);
        let ours = self.told_out(host, spi);
        let inbound = self.inbound.get(&(peer, spi));
        // Of a first child SA the responder knows no better than to send on it at once, and the initiator has it when
        // the response has come (RFC 7296 §1.2). Of a successor the responder does not send on until the old one has
        // been deleted (§2.8), unless that went for another reason: then there is nothing else to send on.
        if let Some((made, old)) = ours.and_then(|ours| Some((ours.at, ours.replaces?))) {
            let old = self.told_of(host, spi, old);
            let end = old.and_then(|old| old.end);
            let bereft = end.is_some_and(|(at, renewal)| !renewal && at <= stretch.from);
            // The peer, which had asked for it, may have been told in the meantime that neither is wanted any more.
            let theirs = old.and_then(|old| self.told_in(peer, old.spi_out));
            let unwanted = theirs.is_some_and(|old| old.end.is_some_and(|(_, renewal)| !renewal));
            let bereft = bereft || unwanted || self.interfered(peer, made - EXCHANGE, stretch.from);
            let ready = inbound.is_some_and(|inbound| inbound.installed <= stretch.from);
            if !ready && (strict || !bereft) {
                return Err("the peer does not have this successor yet".to_owned());
            }
        }
        if let Some(inbound) = inbound
            && let Some(removed) = inbound.removed
            && stretch.from < removed
            && until + ON_THE_WAY > removed
        {
            let theirs = self.told_in(peer, spi);
            let renewed = theirs.filter(|theirs| theirs.end.is_some_and(|(_, renewal)| renewal));
            let begun = renewed.map(|_| self.renewal_of(peer, spi).unwrap_or(stretch.from));
            // What a plane ends at a hard limit, what a host loses and what a person takes down meanwhile nobody can
            // keep, and with the last child SA of a connection goes what is left of earlier ones.
            let excused = |begun| {
                !inbound.orderly
                    || self.interfered(peer, begun, removed)
                    // Or the end that sends, which has asked for the successor and does not want it any more.
                    || self.interfered(host, begun - EXCHANGE, removed)
                    || self.is_heirless(self.told_by_in.get(&(peer, spi)), removed)
            };
            if strict && inbound.orderly || begun.is_some_and(|begun| !excused(begun)) {
                return Err(format!(
                    "until {:.3} s before the peer removes it",
                    removed.saturating_duration_since(until).as_secs_f64()
                ));
            }
        }
        // Is there something to go on with? The successor may be lost already, for another reason; and a hard limit may end
        // what is still sent on while a plane is slow to take the successor up.
        let struck = self.struck.contains(&(host, spi));
        if stretch.gone && !struck && next.is_some_and(|next| next.spi.is_none()) {
            let renewed = ours
                .and_then(|ours| ours.end)
                .filter(|(_, renewal)| *renewal);
            if let Some((closed, _)) = renewed {
                let name = self.told_by_out.get(&(host, spi));
                let begun = name.and_then(|&(_, generation, child)| {
                    self.heirs((host, generation, child))
                        .map(|(_, heir)| heir.at)
                        .min()
                });
                let excused = self.interfered(host, begun.unwrap_or(closed), until)
                    || self.has_lost_heir(name, until)
                    || self.is_heirless(name, until);
                if strict || !excused {
                    return Err("there is nothing to go on with after it was rekeyed".to_owned());
                }
            }
        }
        Ok(())
    }

    /// When a host has made the first successor of a child SA, which it names by its inbound SPI.
    fn renewal_of(&self, host: usize, spi_in: u32) -> Option<Instant> {
        let name = *self.told_by_in.get(&(host, spi_in))?;
        self.heirs(name).map(|(_, told)| told.at).min()
    }

    /// The direct successors of a child SA.
    fn heirs(&self, (host, generation, old): Name) -> impl Iterator<Item = (Name, &Told)> {
        let all = self.told.iter().map(|(name, told)| (*name, told));
        all.filter(move |((of, era, _), told)| {
            (*of, *era) == (host, generation) && told.replaces == Some(old)
        })
    }

    /// All successors of a child SA and theirs.
    fn family(&self, child: Name) -> Vec<(Name, &Told)> {
        let mut family: Vec<(Name, &Told)> = self.heirs(child).collect();
        let mut at = 0;
        while let Some((ancestor, _)) = family.get(at).copied() {
            at += 1;
            family.extend(self.heirs(ancestor));
        }
        family
    }

    /// Whether a plane has ended a successor of a child SA by this time: both its ends leave that, and what else was made
    /// at once is redundant.
    fn has_lost_heir(&self, child: Option<&Name>, by: Instant) -> bool {
        let family = child.map(|child| self.family(*child));
        let lost = |told: &Told| told.struck.is_some_and(|at| at <= by);
        family.into_iter().flatten().any(|(_, told)| lost(told))
    }

    /// What the host that sends on an SA has told of another child SA.
    fn told_of(&self, host: usize, spi: u32, child: ChildSaId) -> Option<&Told> {
        let (_, generation, _) = self.told_by_out.get(&(host, spi))?;
        self.told.get(&(host, *generation, child))
    }

    /// Whether all successors of a child SA have ended by this time.
    fn is_heirless(&self, child: Option<&Name>, by: Instant) -> bool {
        let Some(child) = child else { return false };
        let alive = |told: &Told| {
            !told.redundant && told.at <= by && told.end.is_none_or(|(at, _)| at > by)
        };
        !self.family(*child).into_iter().any(|(_, told)| alive(told))
    }
}
