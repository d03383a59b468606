//! The decisions of a run, all from its seed.

use std::time::Duration;

use cygnet_crypto::testing::InsecureEntropy;

/// A source of decisions.
pub struct Dice(InsecureEntropy);

impl Dice {
    /// The decisions of a seed; `purpose` separates those for one thing from those for others.
    pub fn new(seed: u64, purpose: u64) -> Self {
        Self(InsecureEntropy::from_seed(
            seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ purpose,
        ))
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound.max(1)
    }

    /// Whether a thing of so many in a thousand happens.
    pub fn permille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of the two hosts.
    pub fn host(&mut self) -> usize {
        usize::from(self.once_in(2))
    }

    /// One of several.
    pub fn one_of<T: Copy>(&mut self, what: &[T]) -> T {
        what[self.below(what.len() as u64) as usize]
    }

    /// A time in milliseconds between two.
    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }
}
