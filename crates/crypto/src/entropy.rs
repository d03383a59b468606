//! The door through which randomness enters.

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

/// The random generator of the crypto library, seeded by the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    ///
    /// If the operating system has no randomness: there is no safe way to go on without it.
    fn fill(&mut self, buf: &mut [u8]) {
        aws_lc_rs::rand::fill(buf).expect("the system's random generator works");
    }
}
