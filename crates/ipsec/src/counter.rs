//! The counters of `/proc/net/xfrm_stat` (K10).

use std::fmt;
use std::ops::Index;

macro_rules! counters {
    ($(#[doc = $cause:literal] $name:ident,)*) => {
        /// Why a packet was dropped or an SA was missing, named as in `/proc/net/xfrm_stat` without the prefix
        /// `Xfrm`, in the order of that file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum Counter {
            $(#[doc = $cause] $name,)*
        }

        impl Counter {
            /// All counters, in the kernel's order.
            pub const ALL: [Counter; Counter::COUNT] = [$(Counter::$name,)*];
            /// How many there are.
            pub const COUNT: usize = [$(stringify!($name),)*].len();

            /// The kernel's name, such as `XfrmInNoStates`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Counter::$name => concat!("Xfrm", stringify!($name)),)*
                }
            }

            /// What makes it move, in a sentence.
            pub fn cause(self) -> &'static str {
                match self {
                    $(Counter::$name => $cause.trim(),)*
                }
            }
        }
    };
}

counters! {
    /// No memory for the secpath, route lost, or IP-TFS copy failure.
    InError,
    /// More than six transforms on one packet.
    InBufferError,
    /// SPI or packet header not parseable.
    InHdrError,
    /// No SA for destination, SPI, protocol and mark.
    InNoStates,
    /// Integrity check, padding or cipher failure.
    InStateProtoError,
    /// The mode's decapsulation failed, or the inner family is unknown.
    InStateModeError,
    /// Replay check failed.
    InStateSeqError,
    /// The hard byte or packet limit was hit by this packet.
    InStateExpired,
    /// Encapsulation type differs, or the inner packet lies outside the SA's selector.
    InStateMismatch,
    /// The SA is not valid: dead, expired, in error.
    InStateInvalid,
    /// The packet's SAs do not fit the policy's templates.
    InTmplMismatch,
    /// No policy where one is needed, or blocked by default.
    InNoPols,
    /// Blocked by a policy.
    InPolBlock,
    /// Policy lookup failed.
    InPolError,
    /// No headroom, route lost, or no memory.
    OutError,
    /// No route for the outer packet.
    OutBundleGenError,
    /// Never incremented.
    OutBundleCheckError,
    /// A policy asks for protection and an SA is missing or larval.
    OutNoStates,
    /// Cipher failure.
    OutStateProtoError,
    /// The mode's encapsulation failed, as for a packet that is too big.
    OutStateModeError,
    /// The sequence number is used up.
    OutStateSeqError,
    /// The hard byte or packet limit was hit by this packet.
    OutStateExpired,
    /// Blocked by a policy.
    OutPolBlock,
    /// Never incremented.
    OutPolDead,
    /// Policy lookup failed, or a template could not be resolved for another reason than a missing SA.
    OutPolError,
    /// A packet to be forwarded could not be decoded.
    FwdHdrError,
    /// The SA is not valid.
    OutStateInvalid,
    /// A packet arrived for an SA that is still larval.
    AcquireError,
    /// An inbound SA was to be used outbound.
    OutStateDirError,
    /// An outbound SA was to be used inbound.
    InStateDirError,
    /// IP-TFS reassembly or format error.
    InIptfsError,
    /// IP-TFS queue full.
    OutNoQueueSpace,
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One number per [`Counter`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Counters([u64; Counter::COUNT]);

impl Counters {
    /// All zero.
    pub const fn new() -> Counters {
        Counters([0; Counter::COUNT])
    }

    /// Counts one event.
    pub fn increment(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `n` events; wraps around as the kernel's counters do.
    pub fn add(&mut self, counter: Counter, n: u64) {
        if let Some(value) = self.0.get_mut(counter as usize) {
            *value = value.wrapping_add(n);
        }
    }

    /// The number of events counted.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }

    /// All counters with their values, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.into_iter().zip(self.0)
    }
}

impl Default for Counters {
    fn default() -> Counters {
        Counters::new()
    }
}

impl Index<Counter> for Counters {
    type Output = u64;

    fn index(&self, counter: Counter) -> &u64 {
        // The array has one element per counter.
        &self.0[counter as usize]
    }
}

/// Shows the counters that are not zero.
impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .filter(|(_, n)| *n != 0)
                    .map(|(c, n)| (c.name(), n)),
            )
            .finish()
    }
}

/// In the format of `/proc/net/xfrm_stat`.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (counter, value) in self.iter() {
            writeln!(f, "{:<24}\t{value}", counter.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_and_printing() {
        let mut counters = Counters::new();
        counters.increment(Counter::OutNoStates);
        counters.add(Counter::OutNoStates, 2);
        assert_eq!(counters[Counter::OutNoStates], 3);
        assert_eq!(format!("{counters:?}"), r#"{"XfrmOutNoStates": 3}"#);
        assert!(
            counters
                .to_string()
                .starts_with("XfrmInError             \t0\n")
        );
    }
}
