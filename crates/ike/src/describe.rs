//! Text for people: proposals and selectors as they appear in reasons.

use std::fmt::Display;

use cygnet_wire::Proposal;

/// Values in a row, or "none".
pub(crate) fn list<T: Display>(values: &[T]) -> String {
    join(values.iter().map(ToString::to_string))
}

/// Transforms that are shown of what a peer sent: more than real peers offer. A stranger must not fill the log.
const MAX_TRANSFORMS: usize = 128;

/// Proposals as a peer sent them, by the registry's names; numbers where it has none.
pub(crate) fn proposals(proposals: &[Proposal]) -> String {
    let total: usize = proposals.iter().map(|p| p.transforms.len()).sum();
    let mut left = MAX_TRANSFORMS;
    let mut text = join(proposals.iter().map_while(|proposal| {
        if left == 0 {
            return None;
        }
        let transforms: Vec<_> = proposal
            .transforms
            .iter()
            .take(left)
            .map(ToString::to_string)
            .collect();
        left = left.saturating_sub(transforms.len());
        Some(transforms.join("/"))
    }));
    if let Some(more) = total.checked_sub(MAX_TRANSFORMS).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn join(parts: impl Iterator<Item = String>) -> String {
    let text = parts.collect::<Vec<_>>().join(", ");
    if text.is_empty() {
        "none".to_owned()
    } else {
        text
    }
}
