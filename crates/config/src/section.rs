//! The keywords of one section after merging, each asked for once by name.

use std::collections::BTreeMap;

use cygnet_engine::{FileSpan, Origin, Sourced};

use crate::diagnostic::Diagnostics;
use crate::document::Assignment;
use crate::keyword::{Side, Status, is_inert};
use crate::value::{Fault, Parsed, ValueError};

/// Reads values and reports what is wrong with them.
pub(crate) struct Values<'a, 'd> {
    entries: BTreeMap<(Side, &'static str), &'a Assignment>,
    pub(crate) diagnostics: &'d mut Diagnostics,
    /// The section is not used as it is (`auto=ignore`, `%default`): only values that are wrong whatever
    /// else is said are errors in it.
    lenient: bool,
    /// Something was wrong or is not supported.
    pub(crate) spoilt: bool,
}

impl<'a, 'd> Values<'a, 'd> {
    pub(crate) fn new(
        entries: BTreeMap<(Side, &'static str), &'a Assignment>,
        lenient: bool,
        diagnostics: &'d mut Diagnostics,
    ) -> Self {
        Self {
            entries,
            diagnostics,
            lenient,
            spoilt: false,
        }
    }

    /// The line that defines a keyword.
    pub(crate) fn assignment(&self, side: Side, name: &'static str) -> Option<&'a Assignment> {
        self.entries.get(&(side, name)).copied()
    }

    /// The value of a keyword, if it is there and right.
    pub(crate) fn optional<T>(
        &mut self,
        side: Side,
        name: &'static str,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> Option<T> {
        self.sourced(side, name, parse).map(|s| s.value)
    }

    /// The same with its place.
    pub(crate) fn sourced<T>(
        &mut self,
        side: Side,
        name: &'static str,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> Option<Sourced<T>> {
        let assignment = self.assignment(side, name)?;
        match parse(&assignment.value.text) {
            Ok(value) => Some(Sourced::new(value, Origin::File(assignment.value_span()))),
            Err(error) => {
                self.refuse(assignment, error);
                None
            }
        }
    }

    /// The value of a keyword, or its default if it is not there; also if it is wrong, for then nothing is loaded.
    pub(crate) fn get<T>(
        &mut self,
        name: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> T {
        self.optional(Side::Both, name, parse).unwrap_or(default)
    }

    /// Says that a value cannot be.
    pub(crate) fn refuse(&mut self, assignment: &Assignment, error: ValueError) {
        let value = &assignment.value.range;
        let span = match &error.at {
            Some(at) if at.end <= value.len() && !at.is_empty() => assignment
                .source
                .span(value.start + at.start..value.start + at.end),
            _ => assignment.value_span(),
        };
        let message = format!("{}: {}", assignment.key.text, error.message);
        self.report(&span, message, error.help, error.fault);
    }

    /// Says that something cannot be; less of it in a section that is not used.
    pub(crate) fn report(
        &mut self,
        span: &FileSpan,
        message: String,
        help: Option<String>,
        fault: Fault,
    ) {
        self.spoilt = true;
        match fault {
            Fault::Unsupported if self.lenient => self.diagnostics.warning(span, message, help),
            Fault::Combination if self.lenient => {}
            _ => self.diagnostics.error(span, message, help),
        }
    }

    /// Whether the section is not used as it is.
    pub(crate) fn lenient(&self) -> bool {
        self.lenient
    }

    /// What the table says about keywords that are known but do not work (yet).
    pub(crate) fn check_status(&mut self) {
        for assignment in self.entries.clone().into_values() {
            let (written, value) = (assignment.key.text.as_str(), assignment.value.text.as_str());
            match assignment.keyword.status {
                Status::Supported | Status::Alias(_) => {}
                Status::Obsolete(why) => {
                    let message = format!("`{written}=` has no effect: {why}");
                    self.diagnostics
                        .warning(&assignment.key_span(), message, None);
                }
                Status::NoEffectYet { inert } if is_inert(value, inert) => {}
                Status::NoEffectYet { .. } => {
                    let message = format!("`{written}=` has no effect yet");
                    self.diagnostics
                        .warning(&assignment.key_span(), message, None);
                }
                Status::NotSupportedYet { inert } if is_inert(value, inert) => {}
                Status::NotSupportedYet { inert } => {
                    let message = format!("`{written}=` is not supported yet");
                    let help = match inert.first() {
                        None | Some(&"") => None,
                        Some(only) => Some(format!(
                            "only `{written}={only}` is, which asks for nothing"
                        )),
                    };
                    self.report(&assignment.key_span(), message, help, Fault::Unsupported);
                }
            }
        }
    }
}
