//! How many lines others can make us write: a disk is not to be filled, and nobody is to be silenced by somebody else's noise.
//!
//! Each source has a number of lines a second of its own, and all together have another. What is not written is counted, and
//! the source's next line tells the count.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Lines a second of one source.
const PER_SOURCE: u32 = 10;

/// Lines a second of all sources together.
const OVERALL: u32 = 100;

/// The sources of which something is remembered.
const MAX_SOURCES: usize = 1024;

/// One source: its lines in this second, and those since its last one that were not written.
#[derive(Debug, Default)]
struct Source {
    lines: u32,
    suppressed: u64,
}

/// Lets so many lines a second through and counts the others.
#[derive(Debug)]
pub(super) struct Limits<K> {
    second: Instant,
    lines: u32,
    sources: HashMap<K, Source>,
}

impl<K: Eq + Hash> Limits<K> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            second: now,
            lines: 0,
            sources: HashMap::new(),
        }
    }

    /// Whether a line about `source` may be written now; if so, how many about it before were not.
    pub(super) fn admit(&mut self, now: Instant, source: K) -> Option<u64> {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.lines = 0;
            self.sources.retain(|_, source| {
                source.lines = 0;
                source.suppressed > 0
            });
        }
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&source) {
            // Only counts are lost: who has written in this second is one of few, and stays.
            self.sources.retain(|_, source| source.lines > 0);
        }
        let source = self.sources.entry(source).or_default();
        if source.lines >= PER_SOURCE || self.lines >= OVERALL {
            source.suppressed += 1;
            return None;
        }
        source.lines += 1;
        self.lines += 1;
        Some(std::mem::take(&mut source.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_source_writes_so_many_lines_and_then_tells_how_many_it_did_not() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        let written = (0..1000)
            .filter(|_| limits.admit(start, "west").is_some())
            .count();
        assert_eq!(written, PER_SOURCE as usize);
        let later = start + SECOND;
        let expected = 1000 - u64::from(PER_SOURCE);
        assert_eq!(limits.admit(later, "west"), Some(expected));
        assert_eq!(limits.admit(later, "west"), Some(0));
    }

    #[test]
    fn a_noisy_source_silences_no_other() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        for _ in 0..100_000 {
            limits.admit(start, "west");
        }
        assert_eq!(limits.admit(start, "east"), Some(0));
    }

    #[test]
    fn many_sources_write_no_more_than_all_may_and_are_forgotten() {
        let start = Instant::now();
        let mut limits = Limits::new(start);
        let mut written = 0;
        for source in 0..100_000_u32 {
            written += u32::from(limits.admit(start, source).is_some());
            assert!(limits.sources.len() <= MAX_SOURCES);
        }
        assert_eq!(written, OVERALL);
        // Those who have written are still held to their share.
        assert_eq!(limits.sources[&0].lines, 1);
        limits.admit(start + SECOND, 0);
        limits.admit(start + 2 * SECOND, 0);
        assert!(limits.sources.len() <= MAX_SOURCES);
    }
}
