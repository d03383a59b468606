//! Where each IKE SA is listed, and what is kept in step after each call: successors, timers, streams, who is known.

use std::time::Instant;

use cygnet_wire::IkeSpi;

use super::{Endpoint, Entry, InitKey};
use crate::context::{Acquaintance, Context, InitialContact};
use crate::fragment::Share;
use crate::info::Role;
use crate::io::{Answer, IkeSaId, Output, RequestId};
use crate::reason::CloseReason;
use crate::sa::{IkeSa, State};
use crate::stream::StreamName;
use crate::transport::Transport;

impl Endpoint {
    pub(super) fn insert(&mut self, id: IkeSaId, spi: IkeSpi, sa: IkeSa, init: Option<InitKey>) {
        if let Some(key) = init {
            self.by_init.insert(key, id);
        }
        let (timer, half_open, pair) = (None, None, None);
        let share = Share::default();
        self.sas.insert(
            id,
            Box::new(Entry {
                sa,
                spi,
                init,
                timer,
                half_open,
                share,
                spoilt: false,
                pair,
                stream: None,
            }),
        );
        self.settle(id);
    }

    /// The SA of this name.
    pub(super) fn entry(&self, id: IkeSaId) -> Option<&Entry> {
        self.sas.get(&id).map(|entry| &**entry)
    }

    /// Lets an SA do something.
    pub(super) fn with_sa(
        &mut self,
        now: Instant,
        id: IkeSaId,
        act: impl FnOnce(&mut IkeSa, &mut Context<'_>),
    ) {
        if let Some(entry) = self.sas.get_mut(&id) {
            act(&mut entry.sa, &mut context!(self, now));
            self.settle(id);
            self.admit_successors(now);
        }
    }

    /// Lists the IKE SAs that others have made to replace them, and hands over what is to be theirs. Those that will not
    /// take over are crossed out.
    pub(super) fn admit_successors(&mut self, now: Instant) {
        for (old, heir) in std::mem::take(&mut self.shared.withdrawn) {
            self.with_sa(now, old, |sa, _| sa.forget_heir(heir));
        }
        for sa in std::mem::take(&mut self.shared.births) {
            let (id, spi) = (sa.core.id, sa.core.own_spi());
            self.insert(id, spi, sa, None);
        }
        for transfer in std::mem::take(&mut self.shared.transfers) {
            self.with_sa(now, transfer.to, |sa, cx| sa.inherit(cx, transfer));
        }
    }

    /// Brings the lists up to date with an SA that has done something.
    pub(super) fn settle(&mut self, id: IkeSaId) {
        let Some(entry) = self.sas.get_mut(&id) else {
            return;
        };
        let core = &entry.sa.core;
        let gone = matches!(entry.sa.state, State::Gone);

        let timer = entry.sa.next_timeout(&self.config).filter(|_| !gone);
        if timer != entry.timer {
            if let Some(at) = entry.timer {
                self.timers.remove(&(at, id));
            }
            if let Some(at) = timer {
                self.timers.insert((at, id));
            }
            entry.timer = timer;
        }

        // One that failed counts until it is forgotten: it costs memory as long.
        let half_open = core.role == Role::Responder && core.established.is_none() && !gone;
        match (entry.half_open, half_open) {
            (None, true) => {
                let address = core.path.remote.ip();
                entry.half_open = Some(address);
                self.defence.half_open.add(address);
            }
            (Some(address), false) => {
                entry.half_open = None;
                self.defence.half_open.remove(address);
            }
            _ => {}
        }

        let spoilt = half_open && entry.sa.is_spoilt();
        if spoilt != entry.spoilt {
            let count = &mut self.defence.half_open.spoilt;
            *count = if spoilt {
                count.saturating_add(1)
            } else {
                count.saturating_sub(1)
            };
            entry.spoilt = spoilt;
        }

        let share = Share {
            cost: if gone { 0 } else { core.fragments.cost() },
            known: core.established.is_some(),
        };
        self.shared.pool.replace(entry.share, share);
        entry.share = share;

        let acquaintance = Acquaintance {
            address: core.path.remote.ip(),
            since: core.established,
        };
        let pair = entry.sa.identities();
        let listed = entry.pair.as_ref();
        if pair == listed.map(|((local, remote), _)| (local, remote)) {
            if let Some((pair, known)) = &mut entry.pair
                && *known != acquaintance
            {
                *known = acquaintance;
                if let Some(ids) = self.shared.pairs.get_mut(pair) {
                    ids.insert(id, acquaintance);
                }
            }
        } else {
            let pair = pair.map(|(local, remote)| ((local.clone(), remote.clone()), acquaintance));
            if let Some((old, _)) = entry.pair.take()
                && let Some(ids) = self.shared.pairs.get_mut(&old)
            {
                ids.remove(&id);
                if ids.is_empty() {
                    self.shared.pairs.remove(&old);
                }
            }
            if let Some((new, acquaintance)) = &pair {
                let ids = self.shared.pairs.entry(new.clone()).or_default();
                ids.insert(id, *acquaintance);
            }
            entry.pair = pair;
        }

        // An SA that is half open uses nothing yet: who has come with it may be anybody.
        let ended = gone || matches!(entry.sa.state, State::Lingering { .. });
        let known = core.streams.originator || core.established.is_some();
        let uses = core.path.transport == Transport::Tcp && known && !ended;
        let stream = uses.then_some((core.path.local, core.path.remote));
        let former = std::mem::replace(&mut entry.stream, stream);
        // Begun anew over TCP, it has another one.
        entry.spi = core.own_spi();

        if gone {
            self.shared.spis.remove(&entry.spi);
            if let Some(key) = &entry.init {
                self.by_init.remove(key);
            }
            self.sas.remove(&id);
        }
        if former != stream {
            self.count_streams(former, stream);
        }
    }

    /// Says which stream is no longer used, and which is from now on.
    fn count_streams(&mut self, former: Option<StreamName>, now: Option<StreamName>) {
        if let Some(name) = now {
            let users = self.shared.streams.entry(name).or_default();
            *users = users.saturating_add(1);
            if *users == 1 {
                self.shared.output.push_back(stream_output(name, true));
            }
        }
        if let Some(name) = former
            && let Some(users) = self.shared.streams.get_mut(&name)
        {
            *users = users.saturating_sub(1);
            if *users == 0 {
                self.shared.streams.remove(&name);
                self.shared.output.push_back(stream_output(name, false));
            }
        }
    }

    /// A stream is broken: each IKE SA that uses it learns that.
    pub(super) fn on_stream_lost(&mut self, now: Instant, name: StreamName) {
        if !self.shared.streams.contains_key(&name) {
            return;
        }
        let users = self.sas.iter().filter(|(_, e)| e.stream == Some(name));
        let users: Vec<IkeSaId> = users.map(|(id, _)| *id).collect();
        for id in users {
            self.with_sa(now, id, IkeSa::on_stream_lost);
        }
    }

    //= rfc7296#2.4
    //# The INITIAL_CONTACT notification asserts that this IKE SA is the only
    //# IKE SA currently active between the authenticated identities.  It MAY
    //# be sent when an IKE SA is established after a crash, and the
    //# recipient MAY use this information to delete any other IKE SAs it has
    //# to the same authenticated identity without waiting for a timeout.
    pub(super) fn act_on_initial_contacts(&mut self, now: Instant) {
        for contact in std::mem::take(&mut self.shared.initial_contacts) {
            let InitialContact {
                by,
                begun,
                local,
                remote,
            } = contact;
            let known = self.shared.pairs.get(&(local, remote));
            let gone =
                |(id, other): &(&IkeSaId, &Acquaintance)| **id != by && other.is_before(begun);
            let gone = known.into_iter().flatten().filter(gone);
            let gone: Vec<IkeSaId> = gone.map(|(id, _)| *id).collect();
            for id in gone {
                let reason = CloseReason::ReplacedByInitialContact;
                self.with_sa(now, id, |sa, cx| sa.close(cx, reason));
            }
        }
    }

    /// Closes the IKE SAs whose sessions have been resumed.
    pub(super) fn close_superseded(&mut self, now: Instant) {
        for spi in std::mem::take(&mut self.shared.superseded) {
            if let Some(id) = self.shared.spis.get(&spi).copied() {
                self.with_sa(now, id, |sa, cx| sa.close(cx, CloseReason::Resumed));
            }
        }
    }

    pub(super) fn on_timeout(&mut self, now: Instant) {
        // Each SA once: what an SA sets anew for now is due next time.
        let due: Vec<_> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect();
        for id in due {
            self.with_sa(now, id, IkeSa::on_timeout);
        }
    }

    pub(super) fn on_answer(&mut self, now: Instant, id: RequestId, answer: Answer) {
        if let Some(ike) = self.shared.answered(id, &answer) {
            self.with_sa(now, ike, |sa, cx| sa.on_answer(cx, id, answer));
        }
    }
}

fn stream_output((local, remote): StreamName, used: bool) -> Output {
    Output::Stream {
        local,
        remote,
        used,
    }
}
