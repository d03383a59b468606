//! The sequence numbers of SAs that are gone.
//!
//! An SA whose addresses change (MOBIKE, a new NAT mapping) is removed and installed again with the
//! keys that it had. If its numbers began anew, AEAD nonces would repeat, which gives the key away
//! (RFC 4106 §3), and old packets could be replayed. So the numbers of removed SAs are kept for a
//! while, by a fingerprint of SPI and key.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use cygnet_ipsec::{ReplayWindow, Sa};
use hashbrown::HashMap;

use super::live::{Live, Transform};

/// How many are kept; the oldest go first.
const LIMIT: usize = 4096;

#[derive(Debug)]
enum Numbers {
    Sent(u64),
    Received(ReplayWindow),
}

/// What is remembered of removed SAs.
#[derive(Debug, Default)]
pub(super) struct Retired {
    by_fingerprint: HashMap<u64, Numbers>,
    /// In the order of their end; may name one that has come back.
    order: VecDeque<u64>,
    /// Keyed at random: the fingerprint tells nothing about the key.
    hasher: RandomState,
}

impl Retired {
    fn fingerprint(&self, sa: &Sa) -> u64 {
        let key = sa.encryption.key.as_bytes();
        self.hasher
            .hash_one((sa.direction as u8, sa.id.spi, sa.encryption.transform, key))
    }

    /// Keeps the numbers of an SA that is removed.
    pub(super) fn retire(&mut self, sa: &Sa, live: &Live) {
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
        let fingerprint = self.fingerprint(sa);
        if self.by_fingerprint.insert(fingerprint, numbers).is_none() {
            self.order.push_back(fingerprint);
        }
        while self.order.len() > LIMIT {
            if let Some(oldest) = self.order.pop_front() {
                self.by_fingerprint.remove(&oldest);
            }
        }
    }

    /// Lets an SA that comes back go on where it was.
    pub(super) fn resume(&mut self, sa: &Sa, live: &mut Live) {
        if self.by_fingerprint.is_empty() {
            return;
        }
        let fingerprint = self.fingerprint(sa);
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
