//! The SA store (K14's ALLOCSPI, NEWSA, UPDSA, DELSA) and the two searches for an SA (K5, K8).

use std::net::IpAddr;
use std::time::Instant;

use super::{Databases, State, family_of, mark_accepts, selector_matches};
use crate::{
    Acquire, AllocateSpi, CommandError, Counter, Flow, InboundSpi, Mark, Missing, Mode, MoveSa,
    OutboundLookup, OutboundLookupError, Policy, PolicyKey, Protocol, Sa, SaCounters, SaDirection,
    SaId, SaReport, SaState, SkipSequence, Template,
};

impl Databases {
    /// All states, oldest first.
    pub fn states(&self) -> impl Iterator<Item = &State> {
        self.states.iter()
    }

    /// The state with that serial.
    pub fn state(&self, serial: u64) -> Option<&State> {
        self.states.iter().find(|x| x.serial == serial)
    }

    /// Adds an SA in a state, as a dump shows it: whatever there is was once installed, so nothing is checked.
    pub fn adopt_sa(&mut self, now: Instant, sa: Sa, state: SaState) {
        self.push(now, sa, state);
    }

    /// Puts an SA into another state, as a limit reached or a failed negotiation does.
    pub fn set_state(&mut self, serial: u64, state: SaState) {
        if let Some(x) = self.states.iter_mut().find(|x| x.serial == serial) {
            x.state = state;
        }
    }

    /// Notes that an SA has reached a soft limit.
    pub fn set_dying(&mut self, serial: u64, dying: bool) {
        if let Some(x) = self.states.iter_mut().find(|x| x.serial == serial) {
            x.dying = dying;
        }
    }

    /// Removes larval states that have waited too long and returns them (K11).
    pub fn expire_larval(&mut self, now: Instant) -> Vec<State> {
        let limit = self.acquire_expires;
        let (expired, kept) = std::mem::take(&mut self.states)
            .into_iter()
            .partition(|x| x.state == SaState::Larval && now >= x.added + limit);
        self.states = kept;
        expired
    }

    /// K8: the SA for an inbound packet; of several the one inserted last. The xfrm interface is not considered.
    pub fn lookup_inbound(
        &self,
        dst: IpAddr,
        spi: u32,
        protocol: Protocol,
        mark: u32,
    ) -> Option<&State> {
        self.states
            .iter()
            .filter(|x| x.sa.id.spi != 0 && x.sa.id.spi == spi)
            .filter(|x| x.sa.id.dst == dst)
            .filter(|x| x.sa.id.protocol == protocol)
            .filter(|x| mark_accepts(x.sa.id.mark, mark))
            .max_by_key(|x| x.serial)
    }

    /// K8, steps 1 to 3, up to the replay check: the SA that may open a packet, or what counts the drop.
    ///
    /// # Errors
    ///
    /// The counter.
    pub fn accept_inbound(&self, packet: &InboundSpi) -> Result<u64, Counter> {
        let x = self
            .lookup_inbound(packet.dst, packet.spi, packet.protocol, packet.mark)
            .ok_or(Counter::InNoStates)?;
        if x.sa.direction != SaDirection::In {
            return Err(Counter::InStateDirError);
        }
        match x.state {
            SaState::Valid => {}
            SaState::Larval => return Err(Counter::AcquireError),
            SaState::Error | SaState::Expired => return Err(Counter::InStateInvalid),
        }
        if x.sa.encap.map(|encap| encap.kind) != packet.encap {
            return Err(Counter::InStateMismatch);
        }
        Ok(x.serial)
    }

    /// K5: the SA for an outbound packet that `policy` applies to, between the outer addresses `src` and `dst`.
    pub fn find_outbound(
        &self,
        policy: &Policy,
        template: &Template,
        flow: &Flow,
        src: IpAddr,
        dst: IpAddr,
    ) -> OutboundLookup<u64> {
        let policy_mark = policy.key.mark.value & policy.key.mark.mask;
        let candidate = |x: &&State| is_candidate(x, &policy.key, template, dst);

        let mut best: Option<&State> = None;
        let mut acquire_in_progress = false;
        let mut dead = false;
        let any_source = match src {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        // A second pass, over SAs whose source is open, only if the first has found nothing at all.
        for source in [src, any_source] {
            for x in self
                .states
                .iter()
                .filter(candidate)
                .filter(|x| x.sa.src == source)
            {
                let selected =
                    x.sa.selector
                        .as_ref()
                        .is_none_or(|selector| selector_matches(selector, flow));
                match x.state {
                    SaState::Valid if selected => {
                        if best.is_none_or(|best| preferred(x, best)) {
                            best = Some(x);
                        }
                    }
                    SaState::Valid => {}
                    // Whatever its selector is: one larval state mutes the template for all flows.
                    SaState::Larval => acquire_in_progress = true,
                    SaState::Error | SaState::Expired => dead |= selected,
                }
            }
            if best.is_some() || acquire_in_progress {
                break;
            }
        }

        if let Some(best) = best {
            return OutboundLookup::Found(best.serial);
        }
        if acquire_in_progress {
            return OutboundLookup::Pending;
        }
        if dead {
            return OutboundLookup::Error(OutboundLookupError::Dead);
        }
        if template.spi != 0
            && self
                .lookup_inbound(dst, template.spi, template.protocol, policy_mark)
                .is_some()
        {
            return OutboundLookup::Error(OutboundLookupError::SpiTaken);
        }
        OutboundLookup::Acquire
    }

    /// K5, K13: makes the larval state that stands for a missing SA, and the ACQUIRE that asks for it. `None` if
    /// nobody listens, or a larval state is there already.
    pub fn begin_acquire(&mut self, now: Instant, missing: &Missing) -> Option<Acquire> {
        let template = missing.template;
        let muted = self.states.iter().any(|x| {
            x.state == SaState::Larval
                && is_candidate(x, &missing.policy, &template, missing.dst)
                && (x.sa.src == missing.src || x.sa.src.is_unspecified())
        });
        if muted || !self.listener {
            return None;
        }
        self.acquire_seq = self.acquire_seq.wrapping_add(1).max(1);
        let seq = self.acquire_seq;
        let id = SaId {
            dst: missing.dst,
            spi: template.spi,
            protocol: template.protocol,
            mark: missing.policy.mark,
        };
        let mut sa = Sa::new(
            id,
            missing.src,
            SaDirection::Out,
            template.mode,
            template.reqid,
        );
        sa.if_id = missing.policy.if_id;
        sa.acquire_seq = seq;
        self.push(now, sa, SaState::Larval);
        Some(Acquire {
            seq,
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

    /// ALLOCSPI: gives an SPI to the larval state of the ACQUIRE or of these addresses, or makes one. SPIs are unique
    /// per protocol. The first free one from a random place in the range on, at its end from the beginning, is taken.
    ///
    /// # Errors
    ///
    /// [`CommandError::OutOfResources`] if the range is used up; a larval state made for the request stays, as in the
    /// kernel. [`CommandError::Invalid`] for an impossible one.
    pub fn allocate_spi(
        &mut self,
        now: Instant,
        random: &mut dyn FnMut() -> u32,
        request: &AllocateSpi,
    ) -> Result<u32, CommandError> {
        request.validate()?;
        let mark = request.mark.normalized();
        let by_seq = self
            .larval_by_seq(request.acquire_seq, mark)
            .filter(|&serial| {
                self.state(serial)
                    .is_some_and(|x| x.sa.id.dst == request.dst)
            });
        let found = by_seq.or_else(|| {
            self.larval_by_addresses(
                mark,
                request.mode,
                request.reqid,
                request.protocol,
                request.src,
                request.dst,
            )
        });
        if let Some(spi) = found
            .and_then(|serial| self.state(serial))
            .map(|x| x.sa.id.spi)
            && spi != 0
        {
            return Ok(spi);
        }
        let count = u64::from(request.max - request.min) + 1;
        let start = u64::from(random()) % count;
        let spi = (0..count)
            .map(|step| request.min + ((start + step) % count) as u32)
            .find(|&spi| {
                self.states
                    .iter()
                    .all(|x| x.sa.id.spi != spi || x.sa.id.protocol != request.protocol)
            })
            .ok_or(CommandError::OutOfResources);
        match found {
            Some(serial) => {
                let spi = spi?;
                let new_serial = self.next_serial;
                self.next_serial += 1;
                if let Some(x) = self.states.iter_mut().find(|x| x.serial == serial) {
                    x.sa.id.spi = spi;
                    // It enters the list by SPI only now, in front of all others.
                    x.serial = new_serial;
                }
                Ok(spi)
            }
            None => {
                let id = SaId {
                    dst: request.dst,
                    // Without an SPI the state made for it stays all the same.
                    spi: spi.as_ref().copied().unwrap_or(0),
                    protocol: request.protocol,
                    mark,
                };
                let mut sa = Sa::new(
                    id,
                    request.src,
                    SaDirection::In,
                    request.mode,
                    request.reqid,
                );
                // It does not take the number of the request: no ACQUIRE has made it.
                sa.if_id = request.if_id;
                self.push(now, sa, SaState::Larval);
                spi
            }
        }
    }

    /// Installs an SA: UPDSA where its SPI was allocated, else NEWSA. The larval state of the ACQUIRE that it answers
    /// goes (K13).
    ///
    /// # Errors
    ///
    /// [`CommandError::Exists`] if its id is taken, [`CommandError::Invalid`] if [`Sa::validate`] refuses it.
    pub fn install_sa(&mut self, now: Instant, sa: &Sa) -> Result<(), CommandError> {
        sa.validate()?;
        let sa = sa.clone();
        let larval = match self.locate(&sa.id).map(|x| (x.serial, x.state)) {
            Some((serial, SaState::Larval)) => Some(serial),
            Some(_) => return Err(CommandError::Exists),
            None => self
                .larval_by_seq(sa.acquire_seq, sa.id.mark)
                .filter(|&serial| {
                    self.state(serial).is_some_and(|x| {
                        x.sa.id.dst == sa.id.dst && x.sa.id.protocol == sa.id.protocol
                    })
                })
                .or_else(|| {
                    self.larval_by_addresses(
                        sa.id.mark,
                        sa.mode,
                        sa.reqid,
                        sa.id.protocol,
                        sa.src,
                        sa.id.dst,
                    )
                }),
        };
        self.push(now, sa, SaState::Valid);
        self.states.retain(|x| Some(x.serial) != larval);
        Ok(())
    }

    /// UPDSA: of a valid SA encapsulation ports, lifetimes, set-mark and if_id change and it is no longer dying; a
    /// larval state becomes the SA.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`]; [`CommandError::Invalid`] if the SA is neither valid nor larval or its direction
    /// differs.
    pub fn update_sa(&mut self, now: Instant, sa: &Sa) -> Result<(), CommandError> {
        sa.validate()?;
        let (serial, state) = self
            .locate(&sa.id)
            .map(|x| (x.serial, x.state))
            .ok_or(CommandError::NotFound)?;
        if state == SaState::Larval {
            return self.install_sa(now, sa);
        }
        let Some(x) = self.states.iter_mut().find(|x| x.serial == serial) else {
            return Err(CommandError::NotFound);
        };
        if x.state != SaState::Valid {
            return Err(CommandError::Invalid("the SA is no longer valid".into()));
        }
        if x.sa.direction != sa.direction {
            return Err(CommandError::Invalid(
                "the SA has the other direction".into(),
            ));
        }
        if let (Some(old), Some(new)) = (&mut x.sa.encap, sa.encap)
            && old.kind == new.kind
        {
            *old = new;
        }
        x.sa.lifetime = sa.lifetime;
        x.dying = false;
        if x.sa.set_mark.is_some() || sa.set_mark.is_some() {
            x.sa.set_mark = sa.set_mark;
        }
        if sa.if_id != 0 {
            x.sa.if_id = sa.if_id;
        }
        Ok(())
    }

    /// MIGRATE_STATE: a valid SA changes its addresses and its encapsulation, and nothing else.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`]; [`CommandError::Exists`] if another SA has the id that it would get;
    /// [`CommandError::Invalid`] if it is not valid, or would break the rules.
    pub fn move_sa(&mut self, request: &MoveSa) -> Result<(), CommandError> {
        let x = self.locate(&request.id).ok_or(CommandError::NotFound)?;
        if x.state != SaState::Valid {
            return Err(CommandError::Invalid("the SA is not valid".into()));
        }
        let serial = x.serial;
        let moved = request.apply(&x.sa)?;
        if self
            .locate(&moved.id)
            .is_some_and(|other| other.serial != serial)
        {
            return Err(CommandError::Exists);
        }
        if let Some(x) = self.states.iter_mut().find(|x| x.serial == serial) {
            x.sa = moved;
        }
        Ok(())
    }

    /// A valid outbound SA leaves sequence numbers out, of which this model knows nothing.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`]; [`CommandError::Invalid`] if it is not valid, or does not number packets.
    pub fn skip_sequence(&self, request: &SkipSequence) -> Result<(), CommandError> {
        let x = self.locate(&request.id).ok_or(CommandError::NotFound)?;
        if x.state != SaState::Valid {
            return Err(CommandError::Invalid("the SA is not valid".into()));
        }
        request.validate(&x.sa)
    }

    /// DELSA.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`].
    pub fn remove_sa(&mut self, id: &SaId) -> Result<State, CommandError> {
        let serial = self.locate(id).ok_or(CommandError::NotFound)?.serial;
        match self.states.iter().position(|x| x.serial == serial) {
            Some(position) => Ok(self.states.remove(position)),
            None => Err(CommandError::NotFound),
        }
    }

    /// FLUSHSA, of all protocols.
    pub fn flush_sas(&mut self) {
        self.states.clear();
    }

    /// GETSA. The counters are not kept here.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`].
    pub fn query_sa(&self, id: &SaId) -> Result<SaReport, CommandError> {
        let x = self.locate(id).ok_or(CommandError::NotFound)?;
        let counters = SaCounters {
            added: Some(x.added),
            ..SaCounters::default()
        };
        Ok(SaReport {
            sa: x.sa.clone(),
            state: x.state,
            counters,
        })
    }

    /// An SA by its id: found as a packet with the id's mark would find it (K14).
    fn locate(&self, id: &SaId) -> Option<&State> {
        self.lookup_inbound(id.dst, id.spi, id.protocol, id.mark.value & id.mark.mask)
    }

    fn larval_by_seq(&self, seq: u32, mark: Mark) -> Option<u64> {
        self.states
            .iter()
            .filter(|x| seq != 0 && x.state == SaState::Larval && x.sa.acquire_seq == seq)
            .filter(|x| mark_accepts(x.sa.id.mark, mark.value))
            .map(|x| x.serial)
            .max()
    }

    fn larval_by_addresses(
        &self,
        mark: Mark,
        mode: Mode,
        reqid: u32,
        protocol: Protocol,
        src: IpAddr,
        dst: IpAddr,
    ) -> Option<u64> {
        self.states
            .iter()
            .filter(|x| x.state == SaState::Larval && x.sa.id.spi == 0)
            .filter(|x| x.sa.mode == mode && x.sa.reqid == reqid)
            .filter(|x| x.sa.id.protocol == protocol && x.sa.src == src && x.sa.id.dst == dst)
            .filter(|x| mark_accepts(x.sa.id.mark, mark.value))
            .map(|x| x.serial)
            .max()
    }

    fn push(&mut self, now: Instant, sa: Sa, state: SaState) {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.states.push(State {
            serial,
            sa,
            state,
            dying: false,
            added: now,
        });
    }
}

/// K5: whether a state may serve a template, but for its source address, selector and state.
fn is_candidate(x: &State, policy: &PolicyKey, template: &Template, dst: IpAddr) -> bool {
    family_of(x.sa.id.dst) == template.family()
        && x.sa.reqid == template.reqid
        && mark_accepts(x.sa.id.mark, policy.mark.value & policy.mark.mask)
        && x.sa.if_id == policy.if_id
        && !x.sa.flags.wild_recv
        && x.sa.id.dst == dst
        && x.sa.mode == template.mode
        && x.sa.id.protocol == template.protocol
        && (template.spi == 0 || x.sa.id.spi == template.spi)
}

/// K5: not dying over dying, then the younger one; of two of the same age the one inserted last.
fn preferred(x: &State, best: &State) -> bool {
    if x.dying != best.dying {
        return best.dying;
    }
    (x.added, x.serial) > (best.added, best.serial)
}
