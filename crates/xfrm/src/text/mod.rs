//! SAs, policies and notifications in the words of `ip xfrm`: who knows that tool knows how to read them.
//!
//! What [`Text`] writes has the words of iproute2 6.15 in their order; lines are not padded with blanks, flags are shown as
//! hexadecimal numbers, and points in time are in UTC. Keys are hidden unless asked for.

mod event;
mod fields;
mod names;
mod policy;
mod sa;

pub use names::upper_layer_name;

/// How much is shown, and how devices are named.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    /// Keys in hexadecimal digits, as `ip xfrm state` shows them; without, as `ip xfrm state list nokeys` does.
    pub keys: bool,
    /// Lifetimes, counters and numbers that are rarely looked at, as `ip -s xfrm` shows them.
    pub statistics: bool,
    /// The name of the device with an index; where there is none, the index is shown.
    pub device: &'a dyn Fn(u32) -> Option<String>,
}

impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Text")
            .field("keys", &self.keys)
            .field("statistics", &self.statistics)
            .finish_non_exhaustive()
    }
}

impl Default for Text<'_> {
    /// Short, without keys, devices by index.
    fn default() -> Self {
        Self {
            keys: false,
            statistics: false,
            device: &|_| None,
        }
    }
}
