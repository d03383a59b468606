//! Text for people: proposals and selectors as they appear in reasons.

use std::fmt::Display;

use cygnet_wire::Proposal;

/// Values in a row, or "none".
pub(crate) fn list<T: Display>(values: &[T]) -> String {
    join(values.iter().map(ToString::to_string))
}

/// Proposals as a peer sent them, by the registry's names; numbers where it has none.
pub(crate) fn proposals(proposals: &[Proposal]) -> String {
    join(proposals.iter().map(|proposal| {
        let transforms: Vec<_> = proposal
            .transforms
            .iter()
            .map(ToString::to_string)
            .collect();
        transforms.join("/")
    }))
}

fn join(parts: impl Iterator<Item = String>) -> String {
    let text = parts.collect::<Vec<_>>().join(", ");
    if text.is_empty() {
        "none".to_owned()
    } else {
        text
    }
}
