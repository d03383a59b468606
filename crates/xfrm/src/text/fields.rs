//! What SAs, policies and events have in common: addresses, selectors, marks, lifetimes.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::Text;
use super::names::upper_layer_name;
use crate::numbers::Family;
use crate::structures::{Address, INFINITE, LifetimeLimits, LifetimeUsed, Mark, SaStats, Selector};

/// An address of a family that says which part of the sixteen octets counts.
pub(super) fn address(address: &Address, family: Family) -> String {
    address
        .ip(family)
        .map_or_else(|| "?".to_owned(), |ip| ip.to_string())
}

/// Value and mask of a mark; a value of 0 goes without prefix, as C's `%#x` has it.
pub(super) fn mark(mark: Mark) -> String {
    format!("{}/{}", hexadecimal(mark.value), hexadecimal(mark.mask))
}

/// As C's `%#x`: zero has no prefix.
pub(super) fn hexadecimal(value: u32) -> String {
    if value == 0 {
        "0".to_owned()
    } else {
        format!("{value:#x}")
    }
}

/// Seconds since 1970 as date and time of day in UTC; `-` for zero, which stands for never.
pub(super) fn moment(seconds: u64) -> String {
    if seconds == 0 {
        return "-".to_owned();
    }
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March put the leap day at their end (the calendar repeats after 400 years, or 146,097 days).
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

impl Text<'_> {
    /// The name of a device, or `if` and its index.
    pub(super) fn device(&self, index: i32) -> String {
        u32::try_from(index)
            .ok()
            .and_then(self.device)
            .unwrap_or_else(|| format!("if{index}"))
    }

    /// `src … dst …` and what else a selector has.
    pub(super) fn selector(&self, s: &Selector) -> String {
        let mut text = format!(
            "src {}/{} dst {}/{}",
            address(&s.saddr, s.family),
            s.prefixlen_s,
            address(&s.daddr, s.family),
            s.prefixlen_d
        );
        if s.proto != 0 {
            let _ = write!(text, " proto {}", upper_layer_name(s.proto));
        }
        let masked = |value: u16, mask: u16| match mask {
            u16::MAX => value.to_string(),
            _ => format!("{value}/{mask:#x}"),
        };
        match s.proto {
            // ICMP, ICMPv6 and mobility headers have their type and code where others have ports.
            1 | 58 | 135 => {
                if s.sport_mask != 0 {
                    let _ = write!(text, " type {}", masked(s.sport, s.sport_mask));
                }
                if s.dport_mask != 0 {
                    let _ = write!(text, " code {}", masked(s.dport, s.dport_mask));
                }
            }
            // GRE has its key there, the upper half first.
            47 if s.sport_mask != 0 || s.dport_mask != 0 => {
                let key = (u32::from(s.sport) << 16) | u32::from(s.dport);
                let _ = write!(text, " key {key}");
            }
            _ => {
                if s.sport_mask != 0 {
                    let _ = write!(text, " sport {}", masked(s.sport, s.sport_mask));
                }
                if s.dport_mask != 0 {
                    let _ = write!(text, " dport {}", masked(s.dport, s.dport_mask));
                }
            }
        }
        if s.ifindex != 0 {
            let _ = write!(text, " dev {}", self.device(s.ifindex));
        }
        if self.statistics {
            let _ = write!(text, " uid {}", s.user);
        }
        text
    }

    /// A number; with statistics also in the other base.
    pub(super) fn reqid(&self, reqid: u32) -> String {
        if self.statistics {
            format!("{reqid}(0x{reqid:08x})")
        } else {
            reqid.to_string()
        }
    }

    /// An SPI in hexadecimal digits; with statistics in decimal ones too.
    pub(super) fn spi(&self, spi: u32) -> String {
        if self.statistics {
            format!("0x{spi:08x}({spi})")
        } else {
            format!("0x{spi:08x}")
        }
    }
}

/// The lines about limits and use.
pub(super) fn lifetimes(limits: &LifetimeLimits, used: &LifetimeUsed) -> String {
    let limit = |value: u64| match value {
        INFINITE => "(INF)".to_owned(),
        value => value.to_string(),
    };
    format!(
        "\tlifetime config:\n\
         \t  limit: soft {}(bytes), hard {}(bytes)\n\
         \t  limit: soft {}(packets), hard {}(packets)\n\
         \t  expire add: soft {}(sec), hard {}(sec)\n\
         \t  expire use: soft {}(sec), hard {}(sec)\n\
         \tlifetime current:\n\
         \t  {}(bytes), {}(packets)\n\
         \t  add {} use {}\n",
        limit(limits.soft_bytes),
        limit(limits.hard_bytes),
        limit(limits.soft_packets),
        limit(limits.hard_packets),
        limits.soft_add_seconds,
        limits.hard_add_seconds,
        limits.soft_use_seconds,
        limits.hard_use_seconds,
        used.bytes,
        used.packets,
        moment(used.add_time),
        moment(used.use_time),
    )
}

/// The lines about failures.
pub(super) fn stats(stats: &SaStats) -> String {
    format!(
        "\tstats:\n\t  replay-window {} replay {} failed {}\n",
        stats.replay_window, stats.replay, stats.integrity_failed
    )
}

/// `flag` and the names that are set; with statistics always, and with the number.
pub(super) fn flags(word: &str, bits: u32, names: &[Cow<'_, str>], statistics: bool) -> String {
    match (names.is_empty(), statistics) {
        (true, false) => String::new(),
        (true, true) => format!(" {word} ({bits:#x})"),
        (false, false) => format!(" {word} {}", names.join(" ")),
        (false, true) => format!(" {word} {} ({bits:#x})", names.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        assert_eq!(moment(0), "-");
        assert_eq!(moment(1), "1970-01-01 00:00:01");
        assert_eq!(moment(951_827_696), "2000-02-29 12:34:56");
        assert_eq!(moment(1_709_251_199), "2024-02-29 23:59:59");
        assert_eq!(moment(4_107_542_400), "2100-03-01 00:00:00");
        // No kernel says so; nothing overflows.
        assert!(!moment(u64::MAX).is_empty());
    }

    #[test]
    fn selectors_say_what_their_ports_mean() {
        let text = Text {
            device: &|index| (index == 3).then(|| "eth1".to_owned()),
            ..Text::default()
        };
        let selector = Selector {
            family: Family::INET,
            prefixlen_s: 24,
            proto: 6,
            dport: 443,
            dport_mask: 0xffff,
            sport: 0x8000,
            sport_mask: 0x8000,
            ifindex: 3,
            ..Selector::default()
        };
        assert_eq!(
            text.selector(&selector),
            "src 0.0.0.0/24 dst 0.0.0.0/0 proto tcp sport 32768/0x8000 dport 443 dev eth1"
        );
        let selector = Selector {
            family: Family::INET6,
            proto: 58,
            sport: 135,
            sport_mask: 0xffff,
            ifindex: 4,
            ..Selector::default()
        };
        assert_eq!(
            text.selector(&selector),
            "src ::/0 dst ::/0 proto ipv6-icmp type 135 dev if4"
        );
    }
}
