//! Bounds-checked reading and secret-safe writing of the kernel's native-endian structures.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// Why bytes could not be understood as an XFRM message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A structure ends before its last field.
    #[error("{what} truncated: {needed} bytes wanted, {available} left")]
    Truncated {
        /// The structure or attribute that was being read.
        what: &'static str,
        /// Bytes that the next field needs.
        needed: usize,
        /// Bytes that were left.
        available: usize,
    },
    /// A length field contradicts the bytes around it.
    #[error("{what} has the impossible length {length}")]
    BadLength {
        /// The structure or attribute whose length it is.
        what: &'static str,
        /// The length as sent.
        length: usize,
    },
}

/// A cursor over received bytes. Every read names the structure that it belongs to, for errors.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(len) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(DecodeError::Truncated {
                what: self.what,
                needed: len,
                available: self.rest.len(),
            }),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(*head)
            }
            None => Err(DecodeError::Truncated {
                what: self.what,
                needed: N,
                available: self.rest.len(),
            }),
        }
    }

    pub(crate) fn skip(&mut self, len: usize) -> Result<(), DecodeError> {
        self.bytes(len).map(|_| ())
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_ne_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_ne_bytes(self.array()?))
    }

    pub(crate) fn u16_be(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_ne_bytes(self.array()?))
    }

    pub(crate) fn u32_be(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_ne_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_ne_bytes(self.array()?))
    }
}

/// A growing buffer that never leaves key bytes behind: when it has to grow it wipes the old
/// memory, and it wipes itself when dropped.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Zeroizing<Vec<u8>>,
}

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Zeroizing::new(Vec::with_capacity(capacity)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.bytes
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let wanted = self.bytes.len() + bytes.len();
        if wanted > self.bytes.capacity() {
            // Vec would free the old memory unwiped; copy and wipe by hand instead.
            let mut larger = Vec::with_capacity(wanted.next_power_of_two().max(512));
            larger.extend_from_slice(&self.bytes);
            let mut old = std::mem::replace(&mut *self.bytes, larger);
            old.zeroize();
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn zeros(&mut self, count: usize) {
        const ZEROS: [u8; 64] = [0; 64];
        let mut left = count;
        while left > 0 {
            let n = left.min(ZEROS.len());
            self.put(&ZEROS[..n]);
            left -= n;
        }
    }

    /// Zeroes up to the next multiple of four, netlink's alignment.
    pub(crate) fn align4(&mut self) {
        self.zeros(self.len().next_multiple_of(4) - self.len());
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.put(&value.to_ne_bytes());
    }

    pub(crate) fn u16_be(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.put(&value.to_ne_bytes());
    }

    pub(crate) fn u32_be(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.put(&value.to_ne_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.put(&value.to_ne_bytes());
    }

    /// Overwrites bytes written earlier; used for the length fields of headers.
    pub(crate) fn patch(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({} bytes)", self.len())
    }
}

/// A structure of fixed size that has the same bytes in both directions.
pub(crate) trait Wire: Sized {
    /// The kernel's name of the structure.
    const WHAT: &'static str;
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
    fn write(&self, out: &mut Writer);

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(Self::WHAT, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_keeps_the_bytes() {
        let mut out = Writer::with_capacity(1);
        for i in 0..2000_u32 {
            out.u32(i);
        }
        assert_eq!(out.len(), 8000);
        assert_eq!(&out.as_slice()[4 * 1999..], 1999_u32.to_ne_bytes());
        out.u8(1);
        out.align4();
        assert_eq!(out.len(), 8004);
        assert_eq!(&out.as_slice()[8000..], [1, 0, 0, 0]);
    }

    #[test]
    fn reading_past_the_end_is_an_error_that_says_where() {
        let mut reader = Reader::new("test", &[1, 2, 3]);
        assert_eq!(reader.u16(), Ok(u16::from_ne_bytes([1, 2])));
        assert_eq!(
            reader.u32(),
            Err(DecodeError::Truncated {
                what: "test",
                needed: 4,
                available: 1
            })
        );
        assert_eq!(reader.u8(), Ok(3), "a failed read consumes nothing");
    }
}
