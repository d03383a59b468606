//! The data of TICKET_LT_OPAQUE: a ticket and how long it is good for (RFC 5723, 7.1). That of TICKET_OPAQUE is the ticket alone.

/// A ticket as a gateway gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketNotify<'a> {
    /// Seconds until it expires.
    pub lifetime: u32,
    /// The ticket, which only the gateway understands.
    pub ticket: &'a [u8],
}

impl<'a> TicketNotify<'a> {
    /// Reads the data of a notification; `None` if there is no lifetime or no ticket.
    //= rfc5723#7.1
    //# The
    //# four octet Lifetime field contains a relative time value, the number
    //# of seconds until the ticket expires (encoded as an unsigned integer,
    //# in network byte order).
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let (lifetime, ticket) = data.split_first_chunk()?;
        (!ticket.is_empty()).then_some(Self {
            lifetime: u32::from_be_bytes(*lifetime),
            ticket,
        })
    }

    /// The data of the notification.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        [&self.lifetime.to_be_bytes(), self.ticket].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //= rfc5723#7.1
    //= type=test
    //# The
    //# four octet Lifetime field contains a relative time value, the number
    //# of seconds until the ticket expires (encoded as an unsigned integer,
    //# in network byte order).
    #[test]
    fn there_and_back() {
        let data = [0, 0, 0x0e, 0x10, 1, 2, 3];
        let notify = TicketNotify::parse(&data).unwrap();
        assert_eq!((notify.lifetime, notify.ticket), (3600, &[1, 2, 3][..]));
        assert_eq!(notify.to_bytes(), data);
        for cut in 0..=4 {
            assert_eq!(TicketNotify::parse(&data[..cut]), None);
        }
    }
}
