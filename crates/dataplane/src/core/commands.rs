//! The commands of the key manager, and time.

use std::time::Instant;

use cygnet_ipsec::fast::SaIndex;
use cygnet_ipsec::{
    AllocateSpi, Command, CommandError, Event, Expire, Limit, Mode, MoveSa, Policy, PolicyExpire,
    PolicyKey, PolicyLifetimeState, PolicyReport, Protocol, Reply, Sa, SaDirection, SaId, SaReport,
    SaState,
};

use super::live::{Live, Transform};
use super::outbound::Origin;
use super::timer::Timer;
use super::{Core, Output};

impl Core {
    /// Executes a command. Packets that waited for it go to `output`.
    ///
    /// # Errors
    ///
    /// As the kernel refuses it, or [`CommandError::Unsupported`] for what this plane does not do;
    /// nothing has changed then.
    pub fn execute(
        &mut self,
        now: Instant,
        command: &Command,
        output: &mut Output,
    ) -> Result<Reply, CommandError> {
        match command {
            Command::AllocateSpi(request) => self.allocate_spi(now, request).map(Reply::Spi),
            Command::InstallSa(sa) => {
                self.install_sa(now, sa, output)?;
                Ok(Reply::Done)
            }
            Command::UpdateSa(sa) => {
                self.update_sa(now, sa, output)?;
                Ok(Reply::Done)
            }
            Command::MoveSa(request) => {
                self.move_sa(now, request, output)?;
                Ok(Reply::Done)
            }
            Command::SkipSequence(request) => {
                let index = self.db.sad.sender(request)?;
                let (Some(state), Some(live)) = (self.db.sad.get(index), self.live.get(index))
                else {
                    return Err(CommandError::NotFound);
                };
                live.skip_sequence(request, state.sa.esn)?;
                Ok(Reply::Done)
            }
            Command::RemoveSa(id) => {
                let index = self.db.sad.find(id).ok_or(CommandError::NotFound)?;
                self.remove_sa(index, output);
                Ok(Reply::Done)
            }
            Command::InstallPolicy(policy) => self.insert_policy(now, policy, false, output),
            Command::UpdatePolicy(policy) => self.insert_policy(now, policy, true, output),
            Command::RemovePolicy(key) => {
                self.remove_policy(key, output)?;
                Ok(Reply::Done)
            }
            Command::QuerySa(id) => Ok(Reply::Sa(Box::new(self.query_sa(id)?))),
            Command::QueryPolicy(key) => {
                let policy = self
                    .db
                    .spd
                    .get(key)
                    .ok_or(CommandError::NotFound)?
                    .policy
                    .clone();
                Ok(Reply::Policy(Box::new(PolicyReport { policy })))
            }
        }
    }

    /// Does what has become due: SAs and policies reach their time limits, larval states expire.
    pub fn handle_timeout(&mut self, now: Instant, output: &mut Output) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Sa(index) => {
                    let Some(live) = self.live.get_mut(index) else {
                        continue;
                    };
                    let limit = live.life.on_timer(now);
                    if let Some(at) = live.life.deadline() {
                        self.timers.set(at, timer);
                    }
                    if let Some(limit) = limit {
                        self.sa_limit(index, limit, output);
                    }
                }
                Timer::Policy(index) => self.policy_timer(now, index, output),
            }
        }
        self.expire_larval(now, output);
        self.expire_early(now, output);
    }

    fn allocate_spi(&mut self, now: Instant, request: &AllocateSpi) -> Result<u32, CommandError> {
        let ours = &self.config.spis;
        // A CPI is looked for only in what has been opened here: the planes need not share them out.
        let ours = match request.protocol {
            Protocol::Comp => &(request.min..=request.max),
            _ => ours,
        };
        let request = AllocateSpi {
            min: request.min.max(*ours.start()),
            max: request.max.min(*ours.end()),
            ..*request
        };
        if request.min > request.max {
            // The other plane gives out the SPIs that are asked for.
            return Err(CommandError::Invalid(format!(
                "the SPIs of the user-space data plane are {:#x} to {:#x}",
                ours.start(),
                ours.end()
            )));
        }
        let random = &mut self.random;
        self.db
            .sad
            .allocate_spi(now, &mut || random.next(), &request)
    }

    fn install_sa(
        &mut self,
        now: Instant,
        sa: &Sa,
        output: &mut Output,
    ) -> Result<(), CommandError> {
        sa.validate()?;
        let mut live = Live::new(sa, now)?;
        if self.numbers.is_sending(sa) {
            return Err(match self.db.sad.find(&sa.id) {
                Some(_) => CommandError::Exists,
                None => CommandError::Invalid("another outbound SA has the same key".to_owned()),
            });
        }
        let larval = self.db.sad.find(&sa.id);
        let index = self.db.sad.install(now, sa)?;
        live.negotiated = larval.is_some();
        self.ipcomp.enter(sa, index);
        self.numbers.enter(sa, &mut live);
        if let Transform::Out(out) = &live.transform {
            let mtu = self.paths.enter(out.path.local, out.path.remote);
            out.esp.set_path_mtu(u32::try_from(mtu).unwrap_or(u32::MAX));
        }
        if let Some(at) = live.life.deadline() {
            self.timers.set(at, Timer::Sa(index));
        }
        self.live.insert(index, Box::new(live));
        match sa.direction {
            SaDirection::Out => self.release_held_for(now, sa.reqid, output),
            SaDirection::In => self.release_early(now, &sa.id, output),
        }
        Ok(())
    }

    fn update_sa(
        &mut self,
        now: Instant,
        sa: &Sa,
        output: &mut Output,
    ) -> Result<(), CommandError> {
        let index = self.db.sad.find(&sa.id).ok_or(CommandError::NotFound)?;
        if self
            .db
            .sad
            .get(index)
            .is_some_and(|state| state.state == SaState::Larval)
        {
            return self.install_sa(now, sa, output);
        }
        self.db.sad.update(now, sa)?;
        let (Some(state), Some(live)) = (self.db.sad.get(index), self.live.get_mut(index)) else {
            return Err(CommandError::NotFound);
        };
        live.update(&state.sa)?;
        if let Some(at) = live.life.deadline() {
            self.timers.set(at, Timer::Sa(index));
        }
        Ok(())
    }

    /// Moves an SA in place: numbers, window, lifetimes and counters are not touched.
    fn move_sa(
        &mut self,
        now: Instant,
        request: &MoveSa,
        output: &mut Output,
    ) -> Result<(), CommandError> {
        let before = self.db.sad.find(&request.id);
        let before = before.and_then(|index| self.db.sad.get(index));
        let before = before.ok_or(CommandError::NotFound)?;
        // What the transform cannot do is found out before anything has changed.
        let moved = request.apply(&before.sa)?;
        let transform = Transform::new(&moved)?;
        let before = before.sa.clone();
        let index = self.db.sad.move_sa(request)?;
        self.ipcomp.leave(&before, index);
        self.ipcomp.enter(&moved, index);
        let live = self.live.get_mut(index).ok_or(CommandError::NotFound)?;
        let old = live.replace(transform);
        if let (Some(old), Transform::Out(out)) = (old, &live.transform) {
            let new = out.path;
            let mtu = self.paths.enter(new.local, new.remote);
            out.esp.set_path_mtu(u32::try_from(mtu).unwrap_or(u32::MAX));
            self.paths.leave(old.local, old.remote);
            self.release_held_for(now, moved.reqid, output);
        }
        Ok(())
    }

    /// Takes an SA, larval or not, out of everything.
    pub(super) fn remove_sa(&mut self, index: SaIndex, output: &mut Output) {
        let removed = self.db.sad.remove_at(index);
        if let Some(state) = &removed {
            self.ipcomp.leave(&state.sa, index);
            self.drop_early_of(&state.sa.id, state.sa.direction, output);
        }
        let Some(live) = self.live.remove(index) else {
            return;
        };
        if let Transform::Out(out) = &live.transform {
            self.paths.leave(out.path.local, out.path.remote);
        }
        if let Some(state) = removed {
            self.numbers.retire(&state.sa, &live);
        }
    }

    fn query_sa(&self, id: &SaId) -> Result<SaReport, CommandError> {
        let index = self.db.sad.find(id).ok_or(CommandError::NotFound)?;
        let state = self.db.sad.get(index).ok_or(CommandError::NotFound)?;
        let mut sa = state.sa.clone();
        // Nobody who asks needs the keys.
        if let Some(encryption) = &mut sa.encryption {
            encryption.key = Vec::new().into();
        }
        if let Some(integrity) = &mut sa.integrity {
            integrity.key = Vec::new().into();
        }
        let counters = self.live.get(index).map(Live::counters).unwrap_or_default();
        Ok(SaReport {
            sa,
            state: state.state,
            counters,
        })
    }

    fn insert_policy(
        &mut self,
        now: Instant,
        policy: &Policy,
        replace: bool,
        output: &mut Output,
    ) -> Result<Reply, CommandError> {
        policy.validate()?;
        self.check_templates(policy)?;
        let index = if replace {
            self.db.spd.update(policy)?
        } else {
            self.db.spd.insert(policy)?
        };
        let life = PolicyLifetimeState::new(policy.lifetime, now);
        // As the database knows it: by another one it could not be removed at its end.
        let key = policy.key.normalized();
        match life.deadline() {
            Some(at) => {
                self.timers.set(at, Timer::Policy(index));
                self.policy_lives.insert(index, (key, life));
            }
            None if policy.lifetime.soft_use.is_some() || policy.lifetime.hard_use.is_some() => {
                self.policy_lives.insert(index, (key, life));
            }
            None => {
                self.policy_lives.remove(&index);
            }
        }
        // A trap that has got the reqid of new SAs lets its packets go.
        self.release_held(now, output, |policy| policy.index == index);
        self.recheck_early(output);
        Ok(Reply::Done)
    }

    /// Refuses policies that no packet could ever satisfy here.
    fn check_templates(&self, policy: &Policy) -> Result<(), CommandError> {
        let unsupported = |what: String| Err(CommandError::Unsupported(what));
        let (ipcomp, rest) = match policy.templates.as_slice() {
            [first, rest @ ..] if first.protocol == Protocol::Comp => (Some(first), rest),
            all => (None, all),
        };
        if rest.len() > 1 {
            return unsupported(
                "policies with more templates than IPComp and ESP or AH".to_owned(),
            );
        }
        if let Some(ipcomp) = ipcomp
            && (!matches!(ipcomp.mode, Mode::Tunnel | Mode::Transport)
                || rest
                    .first()
                    .is_none_or(|around| around.mode != Mode::Transport))
        {
            return unsupported("IPComp without ESP or AH in transport mode around it".to_owned());
        }
        for template in rest {
            match (template.protocol, template.mode) {
                (Protocol::Esp, Mode::Tunnel | Mode::Transport | Mode::Beet)
                | (Protocol::Ah, Mode::Tunnel | Mode::Transport) => {}
                (protocol, mode) => {
                    return unsupported(format!(
                        "templates of {} in {mode:?} mode",
                        protocol.name()
                    ));
                }
            }
        }
        Ok(())
    }

    fn remove_policy(&mut self, key: &PolicyKey, output: &mut Output) -> Result<(), CommandError> {
        let index = self.db.spd.remove(key)?.index;
        self.policy_lives.remove(&index);
        self.drop_held(index, output);
        Ok(())
    }

    fn policy_timer(&mut self, now: Instant, index: u32, output: &mut Output) {
        let Some((key, life)) = self.policy_lives.get_mut(&index) else {
            return;
        };
        let key = *key;
        let limit = life.on_timer(now);
        if let Some(at) = life.deadline() {
            self.timers.set(at, Timer::Policy(index));
        }
        let Some(limit) = limit else { return };
        let hard = limit == Limit::Hard;
        self.events
            .push_back(Event::PolicyExpire(PolicyExpire { key, index, hard }));
        if hard {
            // It is there: policies and their lives come and go together.
            let _ = self.remove_policy(&key, output);
        }
    }

    /// Larval states that nobody has answered end, and what waited for them is dropped (K5, K11).
    fn expire_larval(&mut self, now: Instant, output: &mut Output) {
        for state in self.db.sad.expire_larval(now) {
            let sa = state.sa;
            self.drop_early_of(&sa.id, sa.direction, output);
            self.events.push_back(Event::Expire(Expire {
                sa: sa.id,
                src: sa.src,
                reqid: sa.reqid,
                hard: true,
            }));
            // One larval state may have stood for several policies with one template.
            for index in self.held.policies() {
                let waits = self.db.spd.get_by_index(index).is_none_or(|policy| {
                    policy.policy.key.if_id == sa.if_id
                        && policy.policy.templates.iter().any(|template| {
                            (template.reqid, template.mode, template.protocol)
                                == (sa.reqid, sa.mode, sa.id.protocol)
                                && (!template.mode.is_tunnel_type() || template.dst == sa.id.dst)
                        })
                });
                if waits && sa.direction == SaDirection::Out {
                    self.drop_held(index, output);
                }
            }
        }
    }

    /// Tries again what waits for an SA with this reqid.
    fn release_held_for(&mut self, now: Instant, reqid: u32, output: &mut Output) {
        self.release_held(now, output, |policy| {
            policy
                .templates
                .iter()
                .any(|template| template.reqid == reqid)
        });
    }

    /// Tries again what waits for policies that `concerned` picks.
    fn release_held(
        &mut self,
        now: Instant,
        output: &mut Output,
        concerned: impl Fn(&Policy) -> bool,
    ) {
        if self.held.is_empty() {
            return;
        }
        for index in self.held.policies() {
            if self
                .db
                .spd
                .get_by_index(index)
                .is_some_and(|policy| concerned(&policy.policy))
            {
                for held in self.held.take(index) {
                    self.outbound_packet(now, held.if_id, held.packet, Origin::Held, output);
                }
            }
        }
        self.seal_run(now, output);
    }

    fn drop_held(&mut self, index: u32, output: &mut Output) {
        for held in self.held.take(index) {
            self.counters.held_expired += 1;
            output.pool.give(held.packet);
        }
    }
}
