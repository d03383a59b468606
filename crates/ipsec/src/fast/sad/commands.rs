//! The commands to the SAD: ALLOCSPI, NEWSA, UPDSA, DELSA, GETSA (K13, K14).

use std::time::Instant;

use super::{LarvalKey, SaIndex, Sad, SadEntry, larval_key};
use crate::{
    AllocateSpi, CommandError, MoveSa, Sa, SaCounters, SaDirection, SaId, SaReport, SaState,
    SkipSequence,
};

impl Sad {
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
        let found = self
            .larval_by_seq(request.acquire_seq, mark.value, |sa| {
                sa.id.dst == request.dst
            })
            .or_else(|| {
                let key = LarvalKey {
                    dst: request.dst,
                    src: request.src,
                    reqid: request.reqid,
                    mode: request.mode,
                    protocol: request.protocol,
                };
                self.larval_by_addresses(&key, mark.value)
            });
        if let Some(entry) = found.and_then(|index| self.get(index))
            && entry.sa.id.spi != 0
        {
            return Ok(entry.sa.id.spi);
        }
        let free = self.free_spi(request, random());
        match (found, free) {
            (Some(_), None) => {}
            (Some(index), Some(spi)) => {
                self.unlink(index);
                let serial = self.next_serial;
                self.next_serial += 1;
                if let Some(entry) = self.entries.get_mut(index.0) {
                    entry.sa.id.spi = spi;
                    entry.serial = serial;
                }
                self.link(index);
            }
            (None, free) => {
                let id = SaId {
                    dst: request.dst,
                    spi: free.unwrap_or_default(),
                    protocol: request.protocol,
                    mark,
                };
                let sa = Sa {
                    if_id: request.if_id,
                    ..Sa::new(
                        id,
                        request.src,
                        SaDirection::In,
                        request.mode,
                        request.reqid,
                    )
                };
                self.add(now, sa, SaState::Larval);
            }
        }
        free.ok_or(CommandError::OutOfResources)
    }

    fn free_spi(&self, request: &AllocateSpi, random: u32) -> Option<u32> {
        let span = u64::from(request.max.checked_sub(request.min)?) + 1;
        let start = request.min + (u64::from(random) % span) as u32;
        (start..=request.max)
            .chain(request.min..start)
            .find(|&spi| !self.spis.contains_key(&(request.protocol, spi)))
    }

    /// Installs an SA: UPDSA where its SPI was allocated, else NEWSA. The larval state of the ACQUIRE that it answers
    /// goes (K13).
    ///
    /// # Errors
    ///
    /// [`CommandError::Exists`] if its id is taken, [`CommandError::Invalid`] if [`Sa::validate`] refuses it.
    pub fn install(&mut self, now: Instant, sa: &Sa) -> Result<SaIndex, CommandError> {
        sa.validate()?;
        let sa = sa.clone();
        let answered = match self.find(&sa.id) {
            Some(index) if self.get(index).is_some_and(|e| e.state == SaState::Larval) => {
                Some(index)
            }
            Some(_) => return Err(CommandError::Exists),
            None => {
                let same =
                    |other: &Sa| other.id.dst == sa.id.dst && other.id.protocol == sa.id.protocol;
                let mark = sa.id.mark.value;
                self.larval_by_seq(sa.acquire_seq, mark, same)
                    .or_else(|| self.larval_by_addresses(&larval_key(&sa), mark))
            }
        };
        if let Some(index) = answered {
            self.take(index);
        }
        Ok(self.add(now, sa, SaState::Valid))
    }

    /// UPDSA: of a valid SA encapsulation ports, lifetimes, set-mark and if_id change and it is no longer dying; a
    /// larval state becomes the SA.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`]; [`CommandError::Invalid`] if the SA is neither valid nor larval or its direction
    /// differs.
    pub fn update(&mut self, now: Instant, sa: &Sa) -> Result<SaIndex, CommandError> {
        sa.validate()?;
        let index = self.find(&sa.id).ok_or(CommandError::NotFound)?;
        let entry = self.get(index).ok_or(CommandError::NotFound)?;
        match entry.state {
            SaState::Larval => return self.install(now, sa),
            SaState::Valid => {}
            SaState::Error | SaState::Expired => {
                return Err(CommandError::Invalid("the SA is no longer valid".into()));
            }
        }
        if entry.sa.direction != sa.direction {
            return Err(CommandError::Invalid(
                "the SA has the other direction".into(),
            ));
        }
        self.unlink(index);
        if let Some(entry) = self.entries.get_mut(index.0) {
            if let (Some(old), Some(new)) = (entry.sa.encap, sa.encap)
                && old.kind == new.kind
            {
                entry.sa.encap = sa.encap;
            }
            entry.sa.lifetime = sa.lifetime;
            entry.dying = false;
            // Without one on either side this changes nothing.
            entry.sa.set_mark = sa.set_mark;
            if sa.if_id != 0 {
                entry.sa.if_id = sa.if_id;
            }
        }
        self.link(index);
        Ok(index)
    }

    /// MIGRATE_STATE: a valid SA changes its addresses and its encapsulation, and nothing else. Its place stays.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`]; [`CommandError::Exists`] if another SA has the id that it would get;
    /// [`CommandError::Invalid`] if it is not valid, or would break the rules.
    pub fn move_sa(&mut self, request: &MoveSa) -> Result<SaIndex, CommandError> {
        let index = self.find(&request.id).ok_or(CommandError::NotFound)?;
        let entry = self.get(index).ok_or(CommandError::NotFound)?;
        if entry.state != SaState::Valid {
            return Err(CommandError::Invalid("the SA is not valid".into()));
        }
        let moved = request.apply(&entry.sa)?;
        if self.find(&moved.id).is_some_and(|other| other != index) {
            return Err(CommandError::Exists);
        }
        self.unlink(index);
        if let Some(entry) = self.entries.get_mut(index.0) {
            entry.sa = moved;
        }
        self.link(index);
        Ok(index)
    }

    /// The SA that is to leave sequence numbers out. The numbers are kept by whoever moves the packets.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`]; [`CommandError::Invalid`] if it is not valid, or does not number packets.
    pub fn sender(&self, request: &SkipSequence) -> Result<SaIndex, CommandError> {
        let index = self.find(&request.id).ok_or(CommandError::NotFound)?;
        let entry = self.get(index).ok_or(CommandError::NotFound)?;
        if entry.state != SaState::Valid {
            return Err(CommandError::Invalid("the SA is not valid".into()));
        }
        request.validate(&entry.sa)?;
        Ok(index)
    }

    /// DELSA.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`].
    pub fn remove(&mut self, id: &SaId) -> Result<(SaIndex, SadEntry), CommandError> {
        let index = self.find(id).ok_or(CommandError::NotFound)?;
        let entry = self.take(index).ok_or(CommandError::NotFound)?;
        Ok((index, entry))
    }

    /// GETSA. The counters are kept by whoever moves the packets.
    ///
    /// # Errors
    ///
    /// [`CommandError::NotFound`].
    pub fn report(&self, id: &SaId) -> Result<SaReport, CommandError> {
        let entry = self
            .find(id)
            .and_then(|index| self.get(index))
            .ok_or(CommandError::NotFound)?;
        let counters = SaCounters {
            added: Some(entry.added),
            ..SaCounters::default()
        };
        Ok(SaReport {
            sa: entry.sa.clone(),
            state: entry.state,
            counters,
        })
    }
}
