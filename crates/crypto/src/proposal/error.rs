//! What is wrong with a written proposal, where, and what was probably meant.

use thiserror::Error;

/// A mistake in a written list of algorithms.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", self.message())]
pub struct NameError {
    /// The wrong part as written; may be empty where something is missing.
    pub token: String,
    /// Where `token` begins, in octets from the start of the parsed text.
    pub offset: usize,
    /// The nearest name that is known there, if one is near.
    pub suggestion: Option<String>,
    /// What is wrong. Its `Display` does not repeat the token, for use beside a marked excerpt.
    pub kind: NameErrorKind,
}

/// What is wrong with a name in a list of algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum NameErrorKind {
    /// Nothing of that name exists.
    #[error("unknown {0}")]
    Unknown(&'static str),
    /// The name is right, but this program cannot do it: not yet, or because it is unsafe.
    #[error("known but not supported: {0}")]
    NotSupported(&'static str),
    /// The cipher exists, but not with such a key length.
    #[error("impossible key length")]
    KeyLength,
    /// Something that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The parts do not go together.
    #[error("{0}")]
    NotAllowed(&'static str),
}

impl NameError {
    fn message(&self) -> String {
        let NameError { token, kind, .. } = self;
        let hint = match &self.suggestion {
            Some(name) => format!(" (did you mean \"{name}\"?)"),
            None => String::new(),
        };
        match kind {
            NameErrorKind::Unknown(_) => format!("{kind} \"{token}\"{hint}"),
            NameErrorKind::NotSupported(_) => format!("\"{token}\" is {kind}{hint}"),
            NameErrorKind::Missing(_) if token.is_empty() => kind.to_string(),
            NameErrorKind::KeyLength | NameErrorKind::Missing(_) => {
                format!("{kind} in \"{token}\"{hint}")
            }
            NameErrorKind::NotAllowed(_) => format!("\"{token}\": {kind}{hint}"),
        }
    }

    pub(super) fn new(kind: NameErrorKind, token: &str, offset: usize) -> Self {
        NameError {
            token: token.to_owned(),
            offset,
            suggestion: None,
            kind,
        }
    }

    /// An unknown name, with the nearest of `known` as suggestion.
    pub(super) fn unknown<'a>(
        what: &'static str,
        token: &str,
        offset: usize,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        NameError {
            suggestion: nearest(token, known).map(str::to_owned),
            ..Self::new(NameErrorKind::Unknown(what), token, offset)
        }
    }
}

/// The nearest of `known` by edit distance, if it is near: at most a third of the letters are wrong.
fn nearest<'a>(token: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let token = token.to_ascii_lowercase();
    // Long nonsense is near nothing, and distances cost the product of the lengths.
    if token.is_empty() || token.len() > 32 {
        return None;
    }
    let limit = (token.len() / 3).max(1);
    known
        .into_iter()
        .map(|name| (distance(&token, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The number of octets to insert, delete, replace or swap with their neighbour to get from `a` to `b` (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut before_previous: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    let mut last_x = None;
    for (i, x) in a.bytes().enumerate() {
        let mut row = Vec::with_capacity(previous.len());
        let mut left = i + 1;
        row.push(left);
        let mut last_y = None;
        for (j, (y, diagonal)) in b.iter().zip(previous.windows(2)).enumerate() {
            let [corner, above] = diagonal else { continue };
            let mut best = (corner + usize::from(x != *y)).min(above + 1).min(left + 1);
            if last_y == Some(x)
                && last_x == Some(*y)
                && let Some(swap) = j.checked_sub(1).and_then(|k| before_previous.get(k))
            {
                best = best.min(swap + 1);
            }
            row.push(best);
            left = best;
            last_y = Some(*y);
        }
        last_x = Some(x);
        before_previous = std::mem::replace(&mut previous, row);
    }
    previous.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("aes129", "aes128"), 1);
        assert_eq!(distance("ase128", "aes128"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
