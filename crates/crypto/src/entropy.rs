//! The door through which randomness enters.

use std::fmt;

use zeroize::Zeroize;

/// A source of random octets, injected so that a seed can reproduce a whole run.
///
/// Everything secret (private keys, nonces, SPIs, CBC IVs) comes from it: outside of tests it must be a
/// cryptographically secure generator, such as [`SystemEntropy`].
pub trait Entropy {
    /// Fills the whole buffer with random octets.
    fn fill(&mut self, buf: &mut [u8]);
}

impl<T: Entropy + ?Sized> Entropy for &mut T {
    fn fill(&mut self, buf: &mut [u8]) {
        (**self).fill(buf);
    }
}

impl<T: Entropy + ?Sized> Entropy for Box<T> {
    fn fill(&mut self, buf: &mut [u8]) {
        (**self).fill(buf);
    }
}

/// Octets that [`SystemEntropy`] fetches at a time.
const STORE: usize = 512;

/// The random generator of the crypto library, seeded by the operating system.
///
/// A call of it costs ten times what the eight octets of an IV do, so some octets are kept in store. Each is handed out
/// once and wiped; what an attacker could read from the store tells no more than the generator's own state would.
pub struct SystemEntropy {
    store: [u8; STORE],
    /// Octets at the start of the store that have been handed out.
    used: usize,
}

impl Default for SystemEntropy {
    fn default() -> Self {
        SystemEntropy {
            store: [0; STORE],
            used: STORE,
        }
    }
}

impl Entropy for SystemEntropy {
    /// # Panics
    ///
    /// If the operating system has no randomness: there is no safe way to go on without it.
    fn fill(&mut self, buf: &mut [u8]) {
        if buf.len() > STORE {
            return generate(buf);
        }
        if buf.len() > STORE - self.used {
            generate(&mut self.store);
            self.used = 0;
        }
        let left = self.store.get_mut(self.used..).unwrap_or_default();
        for (to, from) in buf.iter_mut().zip(left) {
            *to = std::mem::take(from);
        }
        self.used += buf.len();
    }
}

impl Drop for SystemEntropy {
    fn drop(&mut self) {
        self.store.zeroize();
    }
}

/// Hides what is in store.
impl fmt::Debug for SystemEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemEntropy").finish_non_exhaustive()
    }
}

fn generate(buf: &mut [u8]) {
    aws_lc_rs::rand::fill(buf).expect("the system's random generator works");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the lengths, no octet is given twice and none is left out (a run of zeros of this length does not occur).
    #[test]
    fn every_octet_is_fresh() {
        let mut entropy = SystemEntropy::default();
        let mut seen = std::collections::HashSet::new();
        for len in (0..=70)
            .chain([STORE - 1, STORE, STORE + 1, 3 * STORE])
            .cycle()
            .take(500)
        {
            let mut octets = vec![0; len];
            entropy.fill(&mut octets);
            for block in octets.chunks_exact(8) {
                assert_ne!(block, [0; 8], "not filled");
                assert!(seen.insert(block.to_vec()), "the same octets twice");
            }
        }
    }

    /// What has been handed out is not kept.
    #[test]
    fn the_store_forgets() {
        let mut entropy = SystemEntropy::default();
        let mut octets = [0; 100];
        entropy.fill(&mut octets);
        assert_eq!(entropy.store[..100], [0; 100]);
        assert_ne!(entropy.store[100..], [0; STORE - 100]);
        assert_eq!(format!("{entropy:?}"), "SystemEntropy { .. }");
    }
}
