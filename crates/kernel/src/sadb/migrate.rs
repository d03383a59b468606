//! An SA moves to other outer addresses, ports or encapsulation (`Command::MoveSa`) and keeps its numbers, or stays and
//! goes on with later ones (`Command::SkipSequence`), which is the third way below: XFRM_MSG_NEWAE would set them to what
//! may have been used since they were read.
//!
//! Three ways, the first that fits:
//!
//! 1. Only ports change: XFRM_MSG_UPDSA does it in place (K14).
//! 2. XFRM_MSG_MIGRATE_STATE (7.2) moves one SA, whatever changes, and the keys stay in the kernel.
//! 3. The SA is deleted and added again with the replay state that it had at its end, as the notification of the
//!    deletion tells it: nothing counts between that and the new SA, so no sequence number is used twice, and none
//!    is taken twice. Between the two the SA's policies stand, so nothing leaves in clear.
//!
//! XFRM_MSG_MIGRATE is not used: it finds SAs through a policy, of several one only, cannot take an encapsulation away,
//! and the copy that it makes counts on beside the original for a moment (K16), which repeats nonces.

use cygnet_ipsec as ipsec;
use cygnet_xfrm as xfrm;
use ipsec::{CommandError, MoveSa, Reply, SaState, SkipSequence};
use rustix::io::Errno;
use xfrm::{Attribute, Attributes, Body, Message, SaInfo};

use super::LinuxSadb;
use super::linux::request_error;
use super::{convert, probe};
use crate::ledger::{Change, Claim, Object, SaRecord};

/// What GETSA says of an SA.
struct Present {
    info: SaInfo,
    attributes: Attributes,
    sa: ipsec::Sa,
}

impl LinuxSadb {
    /// Carries the command out.
    pub(super) fn move_sa(&mut self, request: &MoveSa) -> Result<Reply, CommandError> {
        self.only_ours(Object::Sa(SaRecord::from(&request.id)))?;
        let present = self.present(&request.id)?;
        let moved = request.apply(&present.sa)?;
        if moved.id != present.sa.id && self.present(&moved.id).is_ok() {
            return Err(CommandError::Exists);
        }
        if !present.only_ports_change(&moved) && self.can_migrate_state() {
            return self.noted(&present.sa, &moved, |this| {
                this.migrate_state(&present, &moved)
            });
        }
        // From here on the kernel gets the keys from us, and we have them from it.
        readable(&present.attributes)?;
        if present.only_ports_change(&moved) {
            let (info, attributes) = renewed(&moved, present.info, present.attributes);
            let done = self.client().update_sa(info, attributes);
            return done.map(|_| Reply::Done).map_err(|e| request_error(&e));
        }
        self.noted(&present.sa, &moved, |this| {
            this.replace(&present, &moved, 0)
        })
    }

    /// Carries the command out.
    pub(super) fn skip_sequence(&mut self, request: &SkipSequence) -> Result<Reply, CommandError> {
        self.only_ours(Object::Sa(SaRecord::from(&request.id)))?;
        let present = self.present(&request.id)?;
        request.validate(&present.sa)?;
        readable(&present.attributes)?;
        // Before the SA is touched: whether it can go so far. It goes on meanwhile, which its reserve is for.
        let last = present
            .attributes
            .iter()
            .find_map(|a| last_sent(a, present.sa.esn));
        request.after(last.unwrap_or_default(), present.sa.esn)?;
        let (sa, by) = (present.sa.clone(), request.by);
        self.noted(&sa, &sa, |this| this.replace(&present, &sa, by))
    }

    fn present(&mut self, id: &ipsec::SaId) -> Result<Present, CommandError> {
        let (key, attributes) = convert::sa_id(id);
        let (info, attributes) = self
            .client()
            .get_sa(key, attributes)
            .map_err(|e| request_error(&e))?;
        let report = convert::sa_report(&info, &attributes)
            .map_err(|e| CommandError::Invalid(e.to_string()))?;
        if report.state != SaState::Valid {
            return Err(CommandError::Invalid("the SA is not valid".into()));
        }
        Ok(Present {
            info,
            attributes,
            sa: report.sa,
        })
    }

    /// Does something that moves an SA, with the ledger knowing both names meanwhile.
    fn noted(
        &mut self,
        before: &ipsec::Sa,
        after: &ipsec::Sa,
        act: impl FnOnce(&mut Self) -> Result<(), CommandError>,
    ) -> Result<Reply, CommandError> {
        let claim = Claim::sa(after);
        self.begin([claim].into_iter())
            .map_err(|error| CommandError::Failed {
                errno: error.errno(),
                text: error.to_string(),
            })?;
        let result = act(self);
        let mut changes = vec![claim.settled(result.is_ok())];
        let old = Object::Sa(SaRecord::from(&before.id));
        let gone = result.is_ok() || self.present(&before.id).is_err();
        if gone && (before.id != after.id || result.is_err()) {
            changes.push(Change::End(old));
        }
        self.note(changes);
        result.map(|()| Reply::Done)
    }

    /// From now on SAs are moved as on kernels before 7.2: for tests of that way on newer ones.
    #[doc(hidden)]
    pub fn without_migrate_state(&mut self) {
        self.knows_migrate_state = Some(false);
    }

    fn can_migrate_state(&mut self) -> bool {
        if let Some(known) = self.knows_migrate_state {
            return known;
        }
        let known = probe::knows_migrate_state(self.client()).unwrap_or(false);
        self.knows_migrate_state = Some(known);
        known
    }

    fn migrate_state(&mut self, present: &Present, moved: &ipsec::Sa) -> Result<(), CommandError> {
        let (id, mark) = convert::sa_id(&present.sa.id);
        let body = Body::MigrateState(xfrm::MigrateState {
            id,
            new_daddr: moved.id.dst.into(),
            new_saddr: moved.src.into(),
            old_mark: mark.mark().unwrap_or_default(),
            new_selector: present.info.selector,
            new_reqid: present.info.reqid,
            flags: 0,
            new_family: (&moved.id.dst).into(),
        });
        // What is left out is inherited; type 0 takes an encapsulation away.
        let encap = match (present.sa.encap, moved.encap) {
            (None, None) => None,
            (Some(_), None) => Some(xfrm::Encap::default()),
            (_, Some(encap)) => Some(convert::encapsulation(encap, moved.direction)),
        };
        let attributes = Attributes(encap.map(Attribute::Encap).into_iter().collect());
        self.client()
            .call(&Message { body, attributes })
            .map(drop)
            .map_err(|e| request_error(&e))
    }

    /// Deletes the SA and adds it again, elsewhere or with so many sequence numbers left out, with the numbers of its end.
    fn replace(
        &mut self,
        present: &Present,
        moved: &ipsec::Sa,
        left_out: u64,
    ) -> Result<(), CommandError> {
        let failed = |error: std::io::Error| CommandError::Failed {
            errno: error.raw_os_error().unwrap_or_default(),
            text: error.to_string(),
        };
        self.deletions
            .listen(xfrm::Group::SA, true)
            .map_err(failed)?;
        let (id, attributes) = convert::sa_id(&present.sa.id);
        let deleted = self.client().delete_sa(id, attributes);
        // The kernel tells before it acknowledges.
        let end = self.end_of(&present.info);
        self.deletions
            .listen(xfrm::Group::SA, false)
            .map_err(failed)?;
        deleted.map_err(|e| request_error(&e))?;
        // Without its last numbers the SA must not come back: its nonces could repeat.
        let (info, mut state) = end.map_err(failed)?.ok_or_else(|| CommandError::Failed {
            errno: Errno::OVERFLOW.raw_os_error(),
            text: "the kernel did not tell the state of the SA that was to move".into(),
        })?;
        leave_out(&mut state, left_out, moved.esn);
        let mut attributes = present.attributes.clone();
        attributes
            .0
            .retain(|a| !matches!(a, Attribute::Replay(_) | Attribute::ReplayEsn(_)));
        attributes.push(state);
        attributes.push(Attribute::LifetimeUsed(info.used));
        let (info, attributes) = renewed(moved, info, attributes);
        self.client()
            .add_sa(info, attributes)
            .map(drop)
            .map_err(|e| request_error(&e))
    }

    /// Reads what the kernel has told of deletions; what it says of this SA.
    fn end_of(&mut self, sa: &SaInfo) -> std::io::Result<Option<(SaInfo, Attribute)>> {
        let mut end = None;
        while let Some(event) = self.deletions.receive()? {
            if let xfrm::Event::Message { message, .. } = event {
                end = end.or_else(|| deletion(*message, sa));
            }
        }
        Ok(end)
    }
}

impl Present {
    /// Whether an update in place does it.
    fn only_ports_change(&self, moved: &ipsec::Sa) -> bool {
        let kind = |sa: &ipsec::Sa| sa.encap.map(|e| e.kind);
        (self.sa.id, self.sa.src) == (moved.id, moved.src) && kind(&self.sa) == kind(moved)
    }
}

/// The SA as it was when it was deleted, and its replay state, if the notification is that of this SA.
fn deletion(message: Message, sa: &SaInfo) -> Option<(SaInfo, Attribute)> {
    let Body::DeleteSa(id) = &message.body else {
        return None;
    };
    if (id.daddr, id.spi, id.proto) != (sa.id.daddr, sa.id.spi, sa.id.proto) {
        return None;
    }
    let mut info = None;
    let mut state = None;
    for attribute in message.attributes.0 {
        match attribute {
            Attribute::Sa(of) => info = Some(*of),
            Attribute::Replay(_) | Attribute::ReplayEsn(_) => state = Some(attribute),
            _ => {}
        }
    }
    Some((info?, state?))
}

/// The request that makes what was read of an SA into the moved one.
fn renewed(moved: &ipsec::Sa, mut info: SaInfo, attributes: Attributes) -> (SaInfo, Attributes) {
    info.id.daddr = moved.id.dst.into();
    info.saddr = moved.src.into();
    info.family = (&moved.id.dst).into();
    if moved.selector.is_none() {
        // An empty one gets its family from the addresses (K15).
        info.selector = xfrm::Selector::default();
    }
    // It answers no ACQUIRE any more.
    info.seq = 0;
    let has_trunc = attributes.auth_trunc().is_some();
    let mut kept: Vec<Attribute> = attributes
        .0
        .into_iter()
        .filter(|attribute| match attribute {
            // Said twice by the kernel, and taken once.
            Attribute::Auth(_) => !has_trunc,
            // What it tells and does not take, or takes from what has moved.
            Attribute::LastUsed(_) | Attribute::Encap(_) | Attribute::Unknown { .. } => false,
            _ => true,
        })
        .collect();
    kept.extend(
        moved
            .encap
            .map(|e| Attribute::Encap(convert::encapsulation(e, moved.direction))),
    );
    (info, Attributes(kept))
}

/// The last sequence number sent, if the attribute tells it.
fn last_sent(attribute: &Attribute, esn: bool) -> Option<u64> {
    match attribute {
        Attribute::Replay(state) => Some(u64::from(state.oseq)),
        Attribute::ReplayEsn(state) => {
            let high = if esn { state.oseq_hi } else { 0 };
            Some(u64::from(high) << 32 | u64::from(state.oseq))
        }
        _ => None,
    }
}

/// Counts so many sequence numbers as sent. One that has no more of them is at its end: it never begins anew.
fn leave_out(state: &mut Attribute, by: u64, esn: bool) {
    let Some(last) = last_sent(state, esn) else {
        return;
    };
    let last = last.saturating_add(by);
    match state {
        Attribute::ReplayEsn(state) if esn => {
            (state.oseq_hi, state.oseq) = ((last >> 32) as u32, last as u32);
        }
        Attribute::ReplayEsn(state) => state.oseq = u32::try_from(last).unwrap_or(u32::MAX),
        Attribute::Replay(state) => state.oseq = u32::try_from(last).unwrap_or(u32::MAX),
        _ => {}
    }
}

/// An SA that is made anew needs its keys, which a kernel may keep to itself.
fn readable(attributes: &Attributes) -> Result<(), CommandError> {
    if has_blank_key(attributes) {
        let text = "the kernel does not give keys away (lockdown), so an SA cannot be made anew";
        return Err(CommandError::Unsupported(text.into()));
    }
    Ok(())
}

/// Whether a key is all zero: then the kernel has blanked it.
fn has_blank_key(attributes: &Attributes) -> bool {
    let blank = |key: &[u8]| !key.is_empty() && key.iter().all(|octet| *octet == 0);
    attributes.iter().any(|attribute| match attribute {
        Attribute::Aead(a) | Attribute::AuthTrunc(a) => blank(a.key.as_ref()),
        Attribute::Auth(a) | Attribute::Crypt(a) => blank(a.key.as_ref()),
        _ => false,
    })
}
