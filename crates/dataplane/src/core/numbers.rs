//! No sequence number is used twice with one key.
//!
//! An SA whose addresses change (MOBIKE, a new NAT mapping) is removed and installed again with the
//! keys that it had. If its numbers began anew, AEAD nonces would repeat, which gives the key away
//! (RFC 4106 §3), and old packets could be replayed. So the numbers of removed SAs are kept for a
//! while, by a fingerprint of the key; and two outbound SAs cannot have one key at a time.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use cygnet_ipsec::{ReplayWindow, Sa, SaDirection};
use hashbrown::{HashMap, HashSet};

use super::live::{Live, Transform};

/// How many are kept; the oldest go first.
const LIMIT: usize = 4096;

#[derive(Debug)]
enum Numbers {
    Sent(u64),
    Received(ReplayWindow),
}

/// Which keys send, and what is remembered of those of removed SAs.
#[derive(Debug, Default)]
pub(super) struct KeyNumbers {
    /// Fingerprints of the outbound SAs that are there.
    sending: HashSet<u64>,
    by_fingerprint: HashMap<u64, Numbers>,
    /// In the order of their end; may name one that has come back.
    order: VecDeque<u64>,
    /// Keyed at random: the fingerprint tells nothing about the key.
    hasher: RandomState,
}

impl KeyNumbers {
    /// Of the key that numbers must not repeat with: the cipher's, and where nothing is encrypted that of the ICV.
    fn fingerprint(&self, sa: &Sa) -> u64 {
        let cipher = sa
            .encryption
            .as_ref()
            .map(|e| (e.transform, e.key.as_bytes()));
        let key = match (cipher, &sa.integrity) {
            (Some((_, [])) | None, Some(integrity)) => (0, integrity.key.as_bytes()),
            (cipher, _) => cipher.unwrap_or_default(),
        };
        self.hasher.hash_one((sa.direction as u8, key))
    }

    /// Whether another SA sends with the key of this one.
    pub(super) fn is_sending(&self, sa: &Sa) -> bool {
        // IPComp has neither keys nor numbers.
        sa.direction == SaDirection::Out
            && sa.compression.is_none()
            && self.sending.contains(&self.fingerprint(sa))
    }

    /// Keeps the numbers of an SA that is removed.
    pub(super) fn retire(&mut self, sa: &Sa, live: &Live) {
        if sa.compression.is_some() {
            return;
        }
        let fingerprint = self.fingerprint(sa);
        if sa.direction == SaDirection::Out {
            self.sending.remove(&fingerprint);
        }
        let numbers = match &live.transform {
            Transform::Out(out) if out.esp.last_sequence() > 0 => {
                Numbers::Sent(out.esp.last_sequence())
            }
            Transform::In(inbound) if inbound.esp.replay().top() > 0 => {
                Numbers::Received(inbound.esp.replay().clone())
            }
            // Never used: nothing can repeat.
            _ => return,
        };
        if self.by_fingerprint.insert(fingerprint, numbers).is_none() {
            self.order.push_back(fingerprint);
        }
        while self.order.len() > LIMIT {
            if let Some(oldest) = self.order.pop_front() {
                self.by_fingerprint.remove(&oldest);
            }
        }
    }

    /// Notes a new SA, and lets one that comes back go on where it was.
    pub(super) fn enter(&mut self, sa: &Sa, live: &mut Live) {
        if sa.compression.is_some() {
            return;
        }
        let fingerprint = self.fingerprint(sa);
        if sa.direction == SaDirection::Out {
            self.sending.insert(fingerprint);
        }
        match (
            self.by_fingerprint.remove(&fingerprint),
            &mut live.transform,
        ) {
            (Some(Numbers::Sent(last)), Transform::Out(out)) => out.esp.resume_after(last),
            // Another window size is another SA's; then its own rules hold.
            (Some(Numbers::Received(window)), Transform::In(inbound))
                if (window.window(), window.esn()) == (sa.replay_window, sa.esn) =>
            {
                inbound.esp.resume_with(window);
            }
            _ => return,
        }
        self.order.retain(|&other| other != fingerprint);
    }
}
