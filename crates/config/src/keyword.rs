//! Every keyword of ipsec.conf, in one table: what it takes, its default, and
//! what Cygnet makes of it.
//!
//! The parser looks keywords up here, the documentation is written from here,
//! and a test compares the defaults named here with those in force. What
//! libreswan knows and Cygnet does not yet is listed too, so that nobody is
//! told that a right word is wrong.

mod table;

pub use table::KEYWORDS;

/// Where a keyword may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// In `config setup`.
    Setup,
    /// In `conn`.
    Conn,
}

/// What Cygnet makes of a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Supported,
    /// Another name for the keyword given.
    Alias(&'static str),
    /// It means nothing any more; accepted with a warning that says why.
    Obsolete(&'static str),
    /// It will do something, and until then it does no harm that it does not: accepted with a
    /// warning, without one for values that ask for nothing.
    NoEffectYet {
        /// Values that describe what happens anyway.
        inert: &'static [&'static str],
    },
    /// Leaving it out would change what the user asked for: refused, but for values that ask for nothing.
    NotSupportedYet {
        /// Values that describe what happens anyway.
        inert: &'static [&'static str],
    },
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyword {
    /// Its name, in lower case; without `left` or `right` if it is sided.
    pub name: &'static str,
    /// Where it may stand.
    pub section: Section,
    /// It exists as `left…` and as `right…`, one for each end.
    pub sided: bool,
    /// The values it takes, in words.
    pub values: &'static str,
    /// The value that is assumed without it; empty if there is none.
    pub default: &'static str,
    /// What it is for.
    pub summary: &'static str,
    /// What Cygnet makes of it.
    pub status: Status,
}

impl Keyword {
    /// The keyword as a user writes it; for a sided one, its left form.
    pub fn written(&self) -> String {
        if self.sided {
            format!("left{}", self.name)
        } else {
            self.name.to_owned()
        }
    }
}

/// Which end of a connection a keyword was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The connection as a whole.
    Both,
    Left,
    Right,
}

impl Side {
    /// The keyword of that side.
    pub(crate) fn write(self, name: &str) -> String {
        match self {
            Self::Both => name.to_owned(),
            Self::Left => format!("left{name}"),
            Self::Right => format!("right{name}"),
        }
    }
}

/// Finds a keyword of a section, without regard to case.
pub(crate) fn find(section: Section, key: &str) -> Option<(Side, &'static Keyword)> {
    let key = key.to_ascii_lowercase();
    let one = |side: Side, name: &str| {
        KEYWORDS
            .iter()
            .find(|k| k.section == section && k.sided == (side != Side::Both) && k.name == name)
            .map(|k| (side, k))
    };
    one(Side::Both, &key)
        .or_else(|| one(Side::Left, key.strip_prefix("left")?))
        .or_else(|| one(Side::Right, key.strip_prefix("right")?))
        .map(|(side, keyword)| match keyword.status {
            Status::Alias(of) => one(side, of).unwrap_or((side, keyword)),
            _ => (side, keyword),
        })
}

/// What to say about a keyword that a section does not have.
pub(crate) fn help_for_unknown(section: Section, key: &str) -> Option<String> {
    let lower = key.to_ascii_lowercase();
    let other = match section {
        Section::Setup => Section::Conn,
        Section::Conn => Section::Setup,
    };
    if find(other, &lower).is_some() {
        return Some(match other {
            Section::Setup => format!("`{lower}=` belongs into `config setup`"),
            Section::Conn => format!("`{lower}=` belongs into a `conn`"),
        });
    }
    if section == Section::Conn {
        let has = |name: &str, sided: bool| {
            !name.is_empty()
                && KEYWORDS
                    .iter()
                    .any(|k| k.section == Section::Conn && k.sided == sided && k.name == name)
        };
        if has(&lower, true) {
            return Some(format!(
                "each end has its own: `left{lower}=` and `right{lower}=`"
            ));
        }
        if let Some(name) = lower
            .strip_prefix("left")
            .or_else(|| lower.strip_prefix("right"))
            && has(name, false)
        {
            return Some(format!("both ends have it in common: `{name}=`"));
        }
    }
    let known: Vec<String> = KEYWORDS
        .iter()
        .filter(|k| k.section == section)
        .flat_map(|k| {
            let (one, two) = if k.sided {
                (Side::Left, Some(Side::Right))
            } else {
                (Side::Both, None)
            };
            [Some(one), two]
                .into_iter()
                .flatten()
                .map(|side| side.write(k.name))
        })
        .collect();
    crate::diagnostic::did_you_mean(&lower, known.iter().map(String::as_str))
}

/// Whether a value is among those that ask for nothing.
pub(crate) fn is_inert(value: &str, inert: &[&str]) -> bool {
    let value = value.to_ascii_lowercase();
    let plain = match value.as_str() {
        "true" | "on" | "1" if !inert.contains(&"1") => "yes",
        "false" | "off" | "0" if !inert.contains(&"0") => "no",
        other => other,
    };
    inert.contains(&plain)
}

#[cfg(test)]
mod tests {
    use super::Section::{Conn, Setup};
    use super::Status::Alias;
    use super::*;

    #[test]
    fn names_are_unique_and_in_lower_case() {
        for (i, a) in KEYWORDS.iter().enumerate() {
            assert_eq!(a.name, a.name.to_ascii_lowercase());
            let twin = KEYWORDS
                .iter()
                .skip(i + 1)
                .find(|b| (b.section, b.sided, b.name) == (a.section, a.sided, a.name));
            assert_eq!(twin, None);
        }
    }

    #[test]
    fn aliases_lead_to_keywords_that_are_none() {
        for k in KEYWORDS {
            if let Alias(of) = k.status {
                let (_, found) = find(k.section, &k.written()).expect("itself");
                assert_eq!(found.name, of);
                assert!(!matches!(found.status, Alias(_)), "{of}");
            }
        }
    }

    #[test]
    fn keywords_are_found_on_their_side_only() {
        let found = |key| find(Conn, key).map(|(side, k)| (side, k.name));
        assert_eq!(found("left"), Some((Side::Left, "")));
        assert_eq!(found("RightSubnet"), Some((Side::Right, "subnet")));
        assert_eq!(found("auto"), Some((Side::Both, "auto")));
        assert_eq!(found("subnet"), None);
        assert_eq!(found("leftauto"), None);
        assert_eq!(found("listen"), None);
    }

    #[test]
    fn help_knows_the_other_section_the_sides_and_near_names() {
        let help = |section, key| help_for_unknown(section, key).unwrap_or_default();
        assert_eq!(
            help(Conn, "uniqueids"),
            "`uniqueids=` belongs into `config setup`"
        );
        assert_eq!(help(Setup, "leftid"), "`leftid=` belongs into a `conn`");
        assert_eq!(
            help(Conn, "subnet"),
            "each end has its own: `leftsubnet=` and `rightsubnet=`"
        );
        assert_eq!(
            help(Conn, "leftauto"),
            "both ends have it in common: `auto=`"
        );
        assert_eq!(help(Conn, "rightsubent"), "did you mean `rightsubnet`?");
        assert_eq!(help(Conn, "frobnicate"), "");
    }
}
