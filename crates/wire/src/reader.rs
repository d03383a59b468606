//! A cursor over received octets. Nothing in it can panic.

use crate::error::{ParseError, ParseErrorKind};

/// Takes octets from the front and knows how far it has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            offset: 0,
        }
    }

    /// Octets taken so far.
    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    /// What has not been taken, without taking it.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// An error at this place.
    pub(crate) const fn error(&self, kind: ParseErrorKind) -> ParseError {
        ParseError::new(kind, self.offset)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], ParseError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.truncated(count));
        };
        self.rest = rest;
        // Cannot overflow: the sum stays within the length of one slice.
        self.offset = self.offset.saturating_add(count);
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return Err(self.truncated(N));
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(N);
        Ok(*taken)
    }

    #[cold]
    fn truncated(&self, needed: usize) -> ParseError {
        self.error(ParseErrorKind::Truncated {
            needed,
            available: self.rest.len(),
        })
    }

    pub(crate) fn u8(&mut self) -> Result<u8, ParseError> {
        self.array::<1>().map(|[octet]| octet)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, ParseError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, ParseError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ParseError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Everything that is left.
    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        let taken = self.rest;
        self.rest = &[];
        self.offset = self.offset.saturating_add(taken.len());
        taken
    }

    /// The body of a structure whose length field says `length`, of which `already` octets have been taken.
    pub(crate) fn take_counted(
        &mut self,
        length: usize,
        already: usize,
    ) -> Result<&'a [u8], ParseError> {
        let maximum = self.rest.len().saturating_add(already);
        match length.checked_sub(already) {
            Some(body) if length <= maximum => self.take(body),
            _ => Err(self.error(ParseErrorKind::BadLength {
                length,
                minimum: already,
                maximum,
            })),
        }
    }

    /// Complains if anything is left.
    pub(crate) fn finish(self) -> Result<(), ParseError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error(ParseErrorKind::TrailingBytes(self.rest.len())))
        }
    }
}
