//! What has happened in the runs, by name. Runs in which nothing happens prove nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Counters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// One more.
    pub fn add(&mut self, name: &str) {
        self.add_many(name, 1);
    }

    /// Several more.
    pub fn add_many(&mut self, name: &str, count: u64) {
        if count == 0 {
            return;
        }
        // Nearly every time the name is known.
        match self.0.get_mut(name) {
            Some(known) => *known += count,
            None => {
                self.0.insert(name.to_owned(), count);
            }
        }
    }

    /// Those of others too.
    pub fn merge(&mut self, others: &Counts) {
        for (name, count) in &others.0 {
            self.add_many(name, *count);
        }
    }

    /// Forgets one.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// How often.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// One line each.
    pub fn to_lines(&self) -> String {
        let mut text = String::new();
        for (name, count) in &self.0 {
            writeln!(text, "{count:>12} {name}").expect("a string takes everything");
        }
        text
    }

    /// The reverse of [`Counts::to_lines`]; lines that are no counts are left out.
    pub fn from_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut counts = Self::default();
        for line in lines {
            if let Some((count, name)) = line.trim_start().split_once(' ')
                && let Ok(count) = count.parse()
            {
                counts.add_many(name, count);
            }
        }
        counts
    }
}
