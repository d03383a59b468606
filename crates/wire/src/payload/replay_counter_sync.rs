//! The data of IPSEC_REPLAY_COUNTER_SYNC (RFC 6311, 6.4).

use crate::payload::Notify;
use crate::registry::NotifyType;
use crate::writer::PayloadWriter;

/// How far the receiver of the notification is to skip in the sequence numbers of what it sends on all child SAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplayCounterSync {
    /// So many numbers are left out.
    pub delta: u64,
    /// Of child SAs with extended sequence numbers: the field has eight octets instead of four.
    pub extended: bool,
}

impl ReplayCounterSync {
    /// Reads the data of a notification; `None` if it has neither four nor eight octets.
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        if let Ok(short) = <[u8; 4]>::try_from(data) {
            let delta = u64::from(u32::from_be_bytes(short));
            return Some(Self {
                delta,
                extended: false,
            });
        }
        let delta = u64::from_be_bytes(data.try_into().ok()?);
        Some(Self {
            delta,
            extended: true,
        })
    }

    /// The data of the notification. More than four octets have room for is said as the most that they have.
    //= rfc6311#6.4
    //# The size of this field depends on the ESN bit associated
    //# with the Child SAs: if the ESN bit is 1, the field's size is 8
    //# octets; otherwise, it is 4 octets.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.extended {
            return self.delta.to_be_bytes().to_vec();
        }
        let short = u32::try_from(self.delta).unwrap_or(u32::MAX);
        short.to_be_bytes().to_vec()
    }

    /// Writes the notification.
    pub fn write(&self, payloads: &mut PayloadWriter<'_>) {
        let data = self.to_bytes();
        payloads.notify(&Notify::new(NotifyType::IPSEC_REPLAY_COUNTER_SYNC, &data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octet by octet after RFC 6311, 6.4.
    //= rfc6311#6.4
    //= type=test
    //# The size of this field depends on the ESN bit associated
    //# with the Child SAs: if the ESN bit is 1, the field's size is 8
    //# octets; otherwise, it is 4 octets.
    #[test]
    fn the_delta() {
        let cases: [(&[u8], u64, bool); 3] = [
            (&[0x40, 0, 0, 0], 1 << 30, false),
            (&[0, 0, 0, 0, 0x40, 0, 0, 0], 1 << 30, true),
            (&[0, 0, 0, 1, 0, 0, 0, 2], (1 << 32) + 2, true),
        ];
        for (data, delta, extended) in cases {
            let said = ReplayCounterSync { delta, extended };
            assert_eq!(ReplayCounterSync::parse(data), Some(said));
            assert_eq!(said.to_bytes(), data);
        }
    }

    #[test]
    fn fuzz_replay_counter_sync() {
        bolero::check!().with_max_len(12).for_each(|data: &[u8]| {
            let said = ReplayCounterSync::parse(data);
            assert_eq!(said.is_some(), [4, 8].contains(&data.len()));
            if let Some(said) = said {
                assert_eq!(said.to_bytes(), data);
            }
        });
    }
}
