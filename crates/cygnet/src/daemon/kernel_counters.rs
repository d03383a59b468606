//! Since when the kernel's counters of XFRM move: it only says how often something has happened since the namespace was made.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};

/// One counter.
#[derive(Debug)]
struct Counter {
    /// Its value when the daemon started.
    at_start: u64,
    value: u64,
    /// When it was seen to have moved: for the first time since the start, and the last time.
    moved: Option<(SystemTime, SystemTime)>,
}

/// The counters of `/proc/net/xfrm_stat` (K10), looked at now and then.
#[derive(Debug, Default)]
pub(super) struct KernelCounters(BTreeMap<String, Counter>);

impl KernelCounters {
    /// Looks at them. Where the kernel does not count there are none.
    pub(super) fn look(&mut self) {
        match cygnet_kernel::linux::xfrm_statistics() {
            Ok(counters) => self.seen(counters, SystemTime::now()),
            Err(error) => tracing::debug!(%error, "the kernel's counters cannot be read"),
        }
    }

    fn seen(&mut self, counters: Vec<(String, u64)>, now: SystemTime) {
        for (name, value) in counters {
            let counter = self.0.entry(name).or_insert(Counter {
                at_start: value,
                value,
                moved: None,
            });
            if counter.value != value {
                let first = counter.moved.map_or(now, |(first, _)| first);
                counter.moved = Some((first, now));
                counter.value = value;
            }
        }
    }

    /// Those that have moved since the daemon started: by how much, and when that was seen (seconds since 1970).
    pub(super) fn report(&self) -> Value {
        let seconds = |at: SystemTime| {
            at.duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |d| d.as_secs())
        };
        let moved = self.0.iter().filter_map(|(name, counter)| {
            let (first, last) = counter.moved?;
            let report = json!({
                // The kernel's counters wrap around.
                "count": counter.value.wrapping_sub(counter.at_start),
                "first": seconds(first),
                "last": seconds(last),
            });
            Some((name.clone(), report))
        });
        Value::Object(moved.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_moves_is_told_and_since_when() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let two = |a: u64, b: u64| {
            vec![
                ("XfrmInError".to_owned(), a),
                ("XfrmInNoPols".to_owned(), b),
            ]
        };
        let mut counters = KernelCounters::default();
        counters.seen(two(7, 1), at(100));
        assert_eq!(counters.report(), json!({}));
        counters.seen(two(7, 3), at(115));
        counters.seen(two(7, 3), at(130));
        counters.seen(two(7, 4), at(145));
        assert_eq!(
            counters.report(),
            json!({"XfrmInNoPols": {"count": 3, "first": 115, "last": 145}})
        );
    }
}
