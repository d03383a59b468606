//! `config setup`.

use std::collections::BTreeMap;

use cygnet_engine::{Origin, Setup};
use cygnet_ike::Uniqueness;
use cygnet_ike::{PUZZLE_DIFFICULTY, PuzzlePolicy};

use crate::address::addresses;
use crate::diagnostic::Diagnostics;
use crate::document::Assignment;
use crate::keyword::Side;
use crate::redirect;
use crate::section::Values;
use crate::value::{Parsed, TimeUnit, ValueError, choice, duration, number, yes_no};

/// Zero bits of the hardest puzzle that may be the easiest: what load adds stays below the limit.
const MOST_DIFFICULTY: u32 = 22;

fn bits(text: &str, range: std::ops::RangeInclusive<u32>) -> Parsed<u8> {
    number(text, range).map(|n| u8::try_from(n).unwrap_or(u8::MAX))
}

/// How cookies and puzzles are asked for (`ddos-mode`).
#[derive(Clone, Copy)]
enum DdosMode {
    Auto,
    Busy,
    Puzzles,
    Unlimited,
}

/// Reads the merged lines of all `config setup` sections. A later line counts more than an earlier one.
pub(crate) fn setup(assignments: &[Assignment], diagnostics: &mut Diagnostics) -> Setup {
    let mut entries: BTreeMap<(Side, &'static str), &Assignment> = BTreeMap::new();
    for assignment in assignments {
        let key = (assignment.side, assignment.keyword.name);
        if let Some(earlier) = entries.insert(key, assignment)
            && earlier.value.text != assignment.value.text
        {
            let message = format!(
                "`{}=` replaces the value given at {}",
                assignment.keyword.name,
                Origin::File(earlier.key_span())
            );
            diagnostics.warning(&assignment.key_span(), message, None);
        }
    }
    let mut values = Values::new(entries, false, diagnostics);
    values.check_status();
    read(&mut values)
}

fn read(values: &mut Values<'_, '_>) -> Setup {
    let default = Setup::default();
    values.get("protostack", (), |text| {
        if text.eq_ignore_ascii_case("klips") || text.eq_ignore_ascii_case("mast") {
            return Err(ValueError::new("this stack is no more").help("`xfrm` is what there is"));
        }
        choice(text, &[("xfrm", ()), ("netkey", ()), ("auto", ())])
    });
    let threshold = values.get("ddos-ike-threshold", default.cookie_threshold, |t| {
        number(t, 0..=u32::MAX)
    });
    let mode = values.get("ddos-mode", DdosMode::Auto, |text| {
        choice(
            text,
            &[
                ("auto", DdosMode::Auto),
                ("busy", DdosMode::Busy),
                ("puzzles", DdosMode::Puzzles),
                ("unlimited", DdosMode::Unlimited),
            ],
        )
    });
    let standard = default.puzzles.unwrap_or(PuzzlePolicy {
        threshold: 0,
        difficulty: *PUZZLE_DIFFICULTY.start(),
    });
    let (least, most) = (u32::from(*PUZZLE_DIFFICULTY.start()), MOST_DIFFICULTY);
    let puzzles = PuzzlePolicy {
        threshold: values.get("ddos-puzzle-threshold", standard.threshold, |t| {
            number(t, 0..=u32::MAX).map(|n| n as usize)
        }),
        difficulty: values.get("ddos-puzzle-difficulty", standard.difficulty, |t| {
            bits(t, least..=most)
        }),
    };
    let (send_redirect, redirect_to) =
        redirect::sent(values, "global-redirect", "global-redirect-to");
    Setup {
        send_redirect,
        redirect_to,
        keepalive_interval: values.get("keep-alive", default.keepalive_interval, |text| {
            duration(text, TimeUnit::Seconds)
        }),
        listen: values.get("listen", default.listen, addresses),
        manage_interfaces: values.get("ipsec-interface-managed", true, yes_no),
        listen_tcp: values.get("listen-tcp", false, yes_no),
        max_half_open: values.get("max-halfopen-ike", default.max_half_open, |t| {
            number(t, 1..=u32::MAX)
        }),
        max_per_identity: values.get("max-ike-per-id", default.max_per_identity, |t| {
            number(t, 1..=u32::MAX)
        }),
        uniqueness: values.get("uniqueids", Uniqueness::Replace, |text| {
            match yes_no(text) {
                Ok(true) => Ok(Uniqueness::Replace),
                Ok(false) => Ok(Uniqueness::No),
                Err(_) => choice(
                    text,
                    &[
                        ("yes", Uniqueness::Replace),
                        ("replace", Uniqueness::Replace),
                        ("no", Uniqueness::No),
                        ("keep", Uniqueness::Keep),
                        ("never", Uniqueness::Never),
                    ],
                ),
            }
        }),
        cookie_threshold: match mode {
            DdosMode::Auto => threshold,
            DdosMode::Busy | DdosMode::Puzzles => 0,
            DdosMode::Unlimited => u32::MAX,
        },
        puzzles: match mode {
            DdosMode::Auto | DdosMode::Busy => Some(puzzles),
            DdosMode::Puzzles => Some(PuzzlePolicy {
                threshold: 0,
                ..puzzles
            }),
            DdosMode::Unlimited => None,
        },
        max_puzzle_difficulty: values.get(
            "max-puzzle-difficulty",
            default.max_puzzle_difficulty,
            |t| bits(t, 0..=u32::from(*PUZZLE_DIFFICULTY.end())),
        ),
        ..default
    }
}
