//! How many IKE SAs are half open, in all and by address (RFC 7296 §2.6).

use std::collections::HashMap;
use std::net::IpAddr;

/// Counts of IKE SAs that peers have begun and not yet finished.
#[derive(Debug, Default)]
pub(crate) struct HalfOpen {
    pub(crate) total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl HalfOpen {
    /// How many are of one address.
    pub(crate) fn of(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).copied().unwrap_or_default()
    }

    /// One more of an address.
    pub(crate) fn add(&mut self, address: IpAddr) {
        self.total = self.total.saturating_add(1);
        let count = self.by_address.entry(address).or_default();
        *count = count.saturating_add(1);
    }

    /// One less of an address.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.by_address.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}
