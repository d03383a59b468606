//! The IPCOMP_SUPPORTED notification (RFC 7296, 2.22 and 3.10.1; RFC 3173).

use crate::registry::{IpcompTransform, NotifyType};

use super::Notify;

/// What an IPCOMP_SUPPORTED notification offers or accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpcompNotify {
    /// The compression parameter index by which the sender wants to be sent compressed packets.
    pub cpi: u16,
    /// How they are compressed.
    pub transform: IpcompTransform,
}

impl IpcompNotify {
    /// The CPIs that are negotiated (RFC 3173, 2.1 and 5): those below are well-known or reserved, those above for
    /// private use.
    pub const NEGOTIATED: std::ops::RangeInclusive<u16> = 256..=61439;

    /// The data of the notification, without attributes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 3] {
        let [high, low] = self.cpi.to_be_bytes();
        [high, low, self.transform.0]
    }

    /// What a notification says; `None` if it is not an IPCOMP_SUPPORTED of three octets and perhaps attributes, which
    /// none of the transforms has, or if its CPI is not one that is negotiated.
    #[must_use]
    pub fn from_notify(notify: &Notify<'_>) -> Option<Self> {
        match (notify.kind, notify.data) {
            (NotifyType::IPCOMP_SUPPORTED, &[high, low, transform, ..]) => {
                let cpi = u16::from_be_bytes([high, low]);
                let transform = IpcompTransform(transform);
                Self::NEGOTIATED
                    .contains(&cpi)
                    .then_some(Self { cpi, transform })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(data: &[u8]) -> Option<IpcompNotify> {
        IpcompNotify::from_notify(&Notify::new(NotifyType::IPCOMP_SUPPORTED, data))
    }

    #[test]
    fn cpi_and_transform() {
        let deflate = IpcompNotify {
            cpi: 0x2345,
            transform: IpcompTransform::DEFLATE,
        };
        assert_eq!(deflate.to_bytes(), [0x23, 0x45, 2]);
        assert_eq!(parse(&[0x23, 0x45, 2]), Some(deflate));
        assert_eq!(parse(&[0x23, 0x45, 2, 0x80, 1, 0, 1]), Some(deflate));
        let other = Notify::new(NotifyType::USE_TRANSPORT_MODE, &[0x23, 0x45, 2]);
        assert_eq!(IpcompNotify::from_notify(&other), None);
    }

    #[test]
    fn what_is_too_short_or_not_to_be_negotiated() {
        for (data, there) in [
            (&[][..], false),
            (&[1, 0], false),
            (&[0, 0, 2], false),
            (&[0, 255, 2], false),
            (&[1, 0, 2], true),
            (&[0xef, 0xff, 2], true),
            (&[0xf0, 0, 2], false),
            (&[0xff, 0xff, 2], false),
        ] {
            assert_eq!(parse(data).is_some(), there, "{data:x?}");
        }
    }
}
