//! The explicit way for keys to leave the process: lines for Wireshark, off unless asked for.

use crate::key_schedule::{DirectionKeys, IkeKeys};
use crate::proposal::{EspSuite, IkeSuite};

/// A receiver of keys. Nothing else ever shows them; a daemon that installs none logs none.
pub trait KeyLog: Send + Sync {
    /// An IKE SA has keys.
    fn ike(&self, line: &IkeKeyLine<'_>);
    /// One direction of a Child SA has keys.
    fn esp(&self, line: &EspKeyLine<'_>);
}

/// What a row of Wireshark's `ikev2_decryption_table` needs.
#[derive(Debug, Clone, Copy)]
pub struct IkeKeyLine<'a> {
    /// SPI of the IKE SA's original initiator.
    pub initiator_spi: u64,
    /// SPI of the IKE SA's original responder.
    pub responder_spi: u64,
    /// The algorithms.
    pub suite: &'a IkeSuite,
    /// The keys.
    pub keys: &'a IkeKeys,
}

/// What a row of Wireshark's `esp_sa` table needs, but for the addresses, which the caller knows.
#[derive(Debug, Clone, Copy)]
pub struct EspKeyLine<'a> {
    /// SPI of this direction.
    pub spi: u32,
    /// The algorithms.
    pub suite: &'a EspSuite,
    /// The keys of this direction.
    pub keys: &'a DirectionKeys,
}

/// Logs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoKeyLog;

impl KeyLog for NoKeyLog {
    fn ike(&self, _: &IkeKeyLine<'_>) {}
    fn esp(&self, _: &EspKeyLine<'_>) {}
}
