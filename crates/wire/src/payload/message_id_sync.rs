//! The data of IKEV2_MESSAGE_ID_SYNC (RFC 6311, 6.3).

use crate::payload::Notify;
use crate::registry::NotifyType;
use crate::writer::PayloadWriter;

/// Where the sender of the notification goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageIdSync {
    /// Random in the request, and the same in the response.
    pub nonce: u32,
    /// The Message ID of the sender's next request (EXPECTED_SEND_REQ_MESSAGE_ID).
    pub expected_send: u32,
    /// The Message ID of the receiver's next request (EXPECTED_RECV_REQ_MESSAGE_ID).
    pub expected_receive: u32,
}

impl MessageIdSync {
    /// Reads the data of a notification; `None` if it is not three times four octets.
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        let (&nonce, rest) = data.split_first_chunk()?;
        let (&send, rest) = rest.split_first_chunk()?;
        let receive = rest.try_into().ok()?;
        Some(Self {
            nonce: u32::from_be_bytes(nonce),
            expected_send: u32::from_be_bytes(send),
            expected_receive: u32::from_be_bytes(receive),
        })
    }

    /// The data of the notification.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 12] {
        let mut data = [0; 12];
        let fields = [self.nonce, self.expected_send, self.expected_receive];
        for (octets, field) in data.chunks_exact_mut(4).zip(fields) {
            octets.copy_from_slice(&field.to_be_bytes());
        }
        data
    }

    /// Writes the notification.
    pub fn write(&self, payloads: &mut PayloadWriter<'_>) {
        let data = self.to_bytes();
        payloads.notify(&Notify::new(NotifyType::IKEV2_MESSAGE_ID_SYNC, &data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octet by octet after the figure of RFC 6311, 6.3.
    #[test]
    fn the_three_fields() {
        let data = [0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 2, 0, 0, 1, 3];
        let said = MessageIdSync {
            nonce: 0xdead_beef,
            expected_send: 2,
            expected_receive: 259,
        };
        assert_eq!(MessageIdSync::parse(&data), Some(said));
        assert_eq!(said.to_bytes(), data);
    }

    #[test]
    fn fuzz_message_id_sync() {
        bolero::check!().with_max_len(20).for_each(|data: &[u8]| {
            let said = MessageIdSync::parse(data);
            assert_eq!(said.is_some(), data.len() == 12);
            if let Some(said) = said {
                assert_eq!(said.to_bytes(), data);
            }
        });
    }
}
