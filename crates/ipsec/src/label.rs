//! Security labels of SAs and policies (RFC 9478), as the kernel's security modules have them.

use thiserror::Error;

/// A security label as it stands in TS_SECLABEL: opaque here, compared octet by octet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecurityLabel(Box<[u8]>);

/// Not a security label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a security label has 1 to {max} octets, not {0}", max = SecurityLabel::MAX)]
pub struct LabelError(pub usize);

impl SecurityLabel {
    /// The longest label: the kernel's limit on a security context is a page (K15).
    pub const MAX: usize = 4096;

    /// Takes the octets of a label.
    ///
    /// # Errors
    ///
    /// There are none, or more than [`MAX`](Self::MAX).
    pub fn new(label: impl Into<Box<[u8]>>) -> Result<SecurityLabel, LabelError> {
        let label = label.into();
        if label.is_empty() || label.len() > SecurityLabel::MAX {
            return Err(LabelError(label.len()));
        }
        Ok(SecurityLabel(label))
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Without the zero octet at its end, by which SELinux's labels end.
impl std::fmt::Display for SecurityLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.0.strip_suffix(&[0]).unwrap_or(&self.0);
        text.escape_ascii().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_shown_as_text() {
        let label = SecurityLabel::new(*b"system_u:object_r:a_t:s0\0").unwrap();
        assert_eq!(label.to_string(), "system_u:object_r:a_t:s0");
        assert_eq!(
            SecurityLabel::new([7, b'\n']).unwrap().to_string(),
            "\\x07\\n"
        );
    }

    #[test]
    fn labels_are_bounded() {
        let label = |len| SecurityLabel::new(vec![b'x'; len]).map(|label| label.as_bytes().len());
        assert_eq!(label(0), Err(LabelError(0)));
        assert_eq!(label(4096), Ok(4096));
        assert_eq!(label(4097), Err(LabelError(4097)));
    }
}
