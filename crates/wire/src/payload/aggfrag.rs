//! The USE_AGGFRAG notification (RFC 9347, 5.1 and 6.1.4).

use crate::registry::NotifyType;

use super::Notify;

/// What the sender of a USE_AGGFRAG notification requires of the other end: its octet of flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AggfragNotify(pub u8);

impl AggfragNotify {
    /// The D bit: the sender does not take inner packets that are spread over several outer ones.
    pub const DONT_FRAGMENT: Self = Self(0x01);
    /// The C bit: the sender wants to be told of congestion, periodically.
    pub const CONGESTION_CONTROL: Self = Self(0x02);

    /// Whether all of these flags are set.
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// The flags but these.
    #[must_use]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }

    /// The data of the notification.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 1] {
        [self.0]
    }

    /// What a notification says; `None` if it is not a USE_AGGFRAG of one octet. Nothing at all, which libreswan 5.2
    /// sends, requires nothing.
    #[must_use]
    pub fn from_notify(notify: &Notify<'_>) -> Option<Self> {
        match (notify.kind, notify.data) {
            (NotifyType::USE_AGGFRAG, &[]) => Some(Self::default()),
            (NotifyType::USE_AGGFRAG, &[flags]) => Some(Self(flags)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_octet_of_flags() {
        let parse =
            |data: &[u8]| AggfragNotify::from_notify(&Notify::new(NotifyType::USE_AGGFRAG, data));
        assert_eq!(parse(&[]), Some(AggfragNotify(0)));
        assert_eq!(parse(&[0, 0]), None);
        for flags in 0..=u8::MAX {
            let read = parse(&[flags]).unwrap();
            assert_eq!(read.to_bytes(), [flags]);
            let known = [
                AggfragNotify::DONT_FRAGMENT,
                AggfragNotify::CONGESTION_CONTROL,
            ];
            let set = known.map(|flag| read.contains(flag));
            assert_eq!(set, [flags & 1 != 0, flags & 2 != 0]);
            assert_eq!(read.without(known[0]).0, flags & 0xfe);
        }
        let other = Notify::new(NotifyType::USE_TRANSPORT_MODE, &[1]);
        assert_eq!(AggfragNotify::from_notify(&other), None);
    }
}
