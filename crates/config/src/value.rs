//! What stands behind `=`: numbers, durations, choices, marks.

use std::ops::Range;
use std::time::Duration;

use cygnet_ipsec::Mark;

use crate::diagnostic::nearest;

/// Why a value was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueError {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// The wrong part, in octets from the start of the value; `None`: all of it.
    pub(crate) at: Option<Range<usize>>,
    pub(crate) fault: Fault,
}

/// What kind of mistake a wrong value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The value is wrong whatever else is said.
    Value,
    /// It does not go with what another keyword says, or does not say. In a section that others
    /// take over, that may yet change.
    Combination,
    /// It is right, but nothing here can do it yet.
    Unsupported,
}

pub(crate) type Parsed<T> = Result<T, ValueError>;

impl ValueError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            at: None,
            fault: Fault::Value,
        }
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self {
            fault: Fault::Unsupported,
            ..Self::new(message)
        }
    }

    pub(crate) fn combination(message: impl Into<String>) -> Self {
        Self {
            fault: Fault::Combination,
            ..Self::new(message)
        }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
        }
    }

    pub(crate) fn at(self, at: Range<usize>) -> Self {
        Self {
            at: Some(at),
            ..self
        }
    }

    /// The same mistake in a part that starts `offset` octets into the value.
    pub(crate) fn within(self, offset: usize, part: &str) -> Self {
        let at = match self.at {
            Some(at) => offset + at.start..offset + at.end,
            None => offset..offset + part.len(),
        };
        Self {
            at: Some(at),
            ..self
        }
    }
}

/// The parts of a list with their offsets: what stands between commas and blanks.
pub(crate) fn list(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut offset = 0;
    text.split([',', ' ', '\t'])
        .map(move |part| {
            let start = offset;
            offset += part.len() + 1;
            (start, part)
        })
        .filter(|(_, part)| !part.is_empty())
}

/// One of several words, without regard to case.
pub(crate) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Parsed<T> {
    let lower = text.to_ascii_lowercase();
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == lower) {
        return Ok(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let message = if text.is_empty() {
        "a value is missing".to_owned()
    } else {
        "unknown value".to_owned()
    };
    Err(
        ValueError::new(message).help(match nearest(&lower, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it can be {}", alternatives(&names)),
        }),
    )
}

/// `a`, `b` or `c`
fn alternatives(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{n}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// `yes`, `no` and their other spellings.
pub(crate) fn yes_no(text: &str) -> Parsed<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => choice(text, &[("yes", true), ("no", false)]),
    }
}

/// Decimal digits and nothing else.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// A decimal number in a range.
pub(crate) fn number(text: &str, range: std::ops::RangeInclusive<u32>) -> Parsed<u32> {
    let expected = || {
        format!(
            "a number from {} to {} is expected",
            range.start(),
            range.end()
        )
    };
    match digits(text) {
        None if text.is_empty() => Err(ValueError::new("a value is missing").help(expected())),
        None => Err(ValueError::new("not a number").help(expected())),
        Some(n) => u32::try_from(n)
            .ok()
            .filter(|n| range.contains(n))
            .ok_or_else(|| ValueError::new("out of range").help(expected())),
    }
}

/// The units of durations in nanoseconds.
const TIMES: [(&str, u64); 7] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

/// The longest duration that is read: a thousand weeks. Adding it to a time cannot overflow.
const MAX_DURATION: Duration = Duration::from_secs(604_800_000);

/// Unit of a duration without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeUnit {
    Milliseconds,
    Seconds,
}

/// A decimal number, perhaps with a fraction, and a unit.
pub(crate) fn duration(text: &str, without_unit: TimeUnit) -> Parsed<Duration> {
    const EXPECTED: &str = "a duration is a number with a unit: us, ms, s, m, h, d or w";
    if text.is_empty() {
        return Err(ValueError::new("a value is missing").help(EXPECTED));
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (amount, unit) = text.split_at(end);
    let unit_name = unit.trim_start_matches([' ', '\t']).to_ascii_lowercase();
    let scale = match (unit_name.as_str(), without_unit) {
        ("", TimeUnit::Seconds) => Some(1_000_000_000),
        ("", TimeUnit::Milliseconds) => Some(1_000_000),
        (name, _) => TIMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, scale)| *scale),
    };
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
    let (Some(whole), Some(fraction_value)) = (digits(whole), digits(fraction)) else {
        return Err(ValueError::new("not a duration").help(EXPECTED));
    };
    let Some(scale) = scale else {
        return Err(ValueError::new("unknown unit of time")
            .help(EXPECTED)
            .at(end..text.len()));
    };
    let divisor = u32::try_from(fraction.len())
        .ok()
        .and_then(|n| 10_u128.checked_pow(n));
    let too_long = || ValueError::new("too long").help("the longest duration is 1000w");
    let part = divisor.map_or(0, |d| u128::from(fraction_value) * u128::from(scale) / d);
    let nanoseconds = u128::from(whole) * u128::from(scale) + part;
    let duration = u64::try_from(nanoseconds / 1_000_000_000)
        .ok()
        .zip(u32::try_from(nanoseconds % 1_000_000_000).ok())
        .map(|(s, n)| Duration::new(s, n));
    duration.filter(|d| *d <= MAX_DURATION).ok_or_else(too_long)
}

/// A duration that is not nothing.
pub(crate) fn positive_duration(text: &str, without_unit: TimeUnit) -> Parsed<Duration> {
    match duration(text, without_unit)? {
        Duration::ZERO => Err(ValueError::new("the duration must be longer than nothing")),
        d => Ok(d),
    }
}

/// Limits from here on are none: the kernel and libreswan count no further.
const NO_LIMIT: u64 = 1 << 63;

/// A count with a binary prefix (`Ki` … `Ei`), which `unit` may follow; `None` from 2^63 on.
pub(crate) fn count(text: &str, unit: &str) -> Parsed<Option<u64>> {
    let expected = || {
        format!(
            "a number, perhaps with a suffix: Ki{unit}, Mi{unit}, Gi{unit}, Ti{unit}, Pi{unit} or Ei{unit}"
        )
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (amount, suffix) = text.split_at(end);
    let Some(amount) = digits(amount) else {
        let overflow = !amount.is_empty();
        let message = if text.is_empty() {
            "a value is missing"
        } else if overflow {
            "out of range"
        } else {
            "not a number"
        };
        return Err(ValueError::new(message).help(expected()));
    };
    let suffix_name = suffix.trim_start_matches([' ', '\t']);
    let prefix = match suffix_name
        .len()
        .checked_sub(unit.len())
        .and_then(|at| suffix_name.split_at_checked(at))
    {
        Some((prefix, found)) if !unit.is_empty() && found.eq_ignore_ascii_case(unit) => prefix,
        _ => suffix_name,
    };
    let shift = ["", "ki", "mi", "gi", "ti", "pi", "ei"]
        .iter()
        .position(|name| *name == prefix.to_ascii_lowercase())
        .ok_or_else(|| {
            ValueError::new("unknown suffix")
                .help(expected())
                .at(end..text.len())
        })?;
    let value = u128::from(amount) << (10 * shift);
    match u64::try_from(value) {
        Ok(0) => Err(ValueError::new("the limit must not be 0")),
        Ok(value) if value < NO_LIMIT => Ok(Some(value)),
        _ => Ok(None),
    }
}

/// A percentage, with or without `%`.
pub(crate) fn percent(text: &str) -> Parsed<u32> {
    number(text.strip_suffix('%').unwrap_or(text), 0..=1000)
        .map_err(|e| e.help("a percentage from 0% to 1000% is expected"))
}

/// `value` or `value/mask`.
pub(crate) fn mark(text: &str) -> Parsed<Mark> {
    if text == "-1" || text.starts_with("-1/") {
        return Err(ValueError::unsupported(
            "unique marks are not supported yet",
        ));
    }
    let word = |part: &str, offset: usize| -> Parsed<u32> {
        let wrong = |message: &str| {
            ValueError::new(message)
                .help("a mark is a decimal or a 0x… number below 2^32, perhaps with /mask")
                .within(offset, part)
        };
        if let Some(hex) = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
            return if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                Err(wrong("not a hexadecimal number"))
            } else {
                u32::from_str_radix(hex, 16).map_err(|_| wrong("out of range"))
            };
        }
        if part.len() > 1 && part.starts_with('0') && digits(part).is_some() {
            // libreswan reads it as octal; nobody else expects that.
            return Err(wrong("a number with a leading 0 is ambiguous"));
        }
        match digits(part) {
            None => Err(wrong("not a number")),
            Some(n) => u32::try_from(n).map_err(|_| wrong("out of range")),
        }
    };
    let (value, mask) = match text.split_once('/') {
        None => (word(text, 0)?, u32::MAX),
        Some((value, mask)) => (word(value, 0)?, word(mask, value.len() + 1)?),
    };
    if value & !mask != 0 {
        return Err(ValueError::new("the value has bits outside of the mask")
            .help("such a mark could match no packet"));
    }
    Ok(Mark { value, mask })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(parsed: Parsed<T>) -> String {
        parsed.expect_err("an error").message
    }

    #[test]
    fn durations_have_units_and_fractions() {
        let s = |text| duration(text, TimeUnit::Seconds).expect("a duration");
        assert_eq!(s("30"), Duration::from_secs(30));
        assert_eq!(s("1.5h"), Duration::from_secs(5400));
        assert_eq!(s("250ms"), Duration::from_millis(250));
        assert_eq!(s("7us"), Duration::from_micros(7));
        assert_eq!(s("2 D"), Duration::from_secs(172_800));
        assert_eq!(s("1000w"), MAX_DURATION);
        assert_eq!(s("0.0000000000000000001s"), Duration::ZERO);
        assert_eq!(
            duration("500", TimeUnit::Milliseconds),
            Ok(Duration::from_millis(500))
        );
        for wrong in [
            "",
            "x",
            "1y",
            "1.2.3",
            "-1",
            "1001w",
            "99999999999999999999s",
            ".5s",
            "1.s",
        ] {
            assert!(duration(wrong, TimeUnit::Seconds).is_err(), "{wrong}");
        }
        assert!(positive_duration("0", TimeUnit::Seconds).is_err());
    }

    #[test]
    fn counts_have_binary_prefixes() {
        assert_eq!(count("10", "B"), Ok(Some(10)));
        assert_eq!(count("10KiB", "B"), Ok(Some(10 << 10)));
        assert_eq!(count("3 Gi", "B"), Ok(Some(3 << 30)));
        assert_eq!(count("4Ei", ""), Ok(Some(4 << 60)));
        assert_eq!(count("8EiB", "B"), Ok(None));
        assert_eq!(count("9223372036854775808", "B"), Ok(None));
        assert_eq!(count("9223372036854775807", "B"), Ok(Some((1 << 63) - 1)));
        assert_eq!(message(count("0", "B")), "the limit must not be 0");
        assert_eq!(message(count("1kB", "B")), "unknown suffix");
        assert_eq!(message(count("KiB", "B")), "not a number");
        assert_eq!(message(count("99999999999999999999", "B")), "out of range");
    }

    #[test]
    fn marks_lie_in_their_masks() {
        assert_eq!(mark("5"), Ok(Mark::exact(5)));
        assert_eq!(
            mark("0x10/0xf0"),
            Ok(Mark {
                value: 0x10,
                mask: 0xf0
            })
        );
        assert_eq!(
            message(mark("0x1f/0xf0")),
            "the value has bits outside of the mask"
        );
        assert_eq!(
            message(mark("010")),
            "a number with a leading 0 is ambiguous"
        );
        assert_eq!(mark("5/x").expect_err("an error").at, Some(2..3));
        assert_eq!(mark("-1").expect_err("an error").fault, Fault::Unsupported);
        assert!(mark("4294967296").is_err());
        assert!(mark("0x").is_err());
    }

    #[test]
    fn choices_name_the_nearest_or_all() {
        let help = |text| {
            choice(text, &[("tunnel", 1), ("transport", 2), ("drop", 3)])
                .expect_err("wrong")
                .help
        };
        assert_eq!(help("tunel").as_deref(), Some("did you mean `tunnel`?"));
        assert_eq!(
            help("x").as_deref(),
            Some("it can be `tunnel`, `transport` or `drop`")
        );
        assert_eq!(choice("Drop", &[("drop", 3)]), Ok(3));
    }

    #[test]
    fn lists_are_separated_by_commas_and_blanks() {
        let parts: Vec<_> = list("a, b c,,\td").collect();
        assert_eq!(parts, [(0, "a"), (3, "b"), (5, "c"), (9, "d")]);
    }

    #[test]
    fn numbers_have_ranges() {
        assert_eq!(number("16383", 1..=16383), Ok(16383));
        assert_eq!(message(number("16384", 1..=16383)), "out of range");
        assert_eq!(message(number("+1", 1..=16383)), "not a number");
        assert_eq!(percent("100%"), Ok(100));
        assert_eq!(percent("50"), Ok(50));
    }
}
