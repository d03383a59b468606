//! IKE and ESP in a TCP stream (RFC 9329): a prefix once, then messages that each follow their length.
//!
//! What a message is, [`classify_natt`](crate::classify_natt) tells, as on UDP port 4500.

use std::mem;

/// What the originator of a stream sends first (RFC 9329 §4).
//= rfc9329#4
//# Each stream of bytes used for IKE and IPsec encapsulation MUST begin
//# with a fixed sequence of 6 bytes as a magic value, containing the
//# characters "IKETCP" as ASCII values.
pub const STREAM_PREFIX: [u8; 6] = *b"IKETCP";

/// Octets of the length in front of a message, which it counts as well.
const LENGTH: usize = 2;

/// Octets of the longest message that the length has room for.
pub const MAX_STREAM_MESSAGE: usize = u16::MAX as usize - LENGTH;

/// Room for incomplete messages that a reader keeps while it has none.
const KEPT_ROOM: usize = 4096;

/// Why a stream cannot be read on. It is to be closed; what was sent over it before is not touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It does not begin with [`STREAM_PREFIX`].
    #[error("the stream does not begin with IKETCP")]
    Prefix,
    /// A length that does not even count itself.
    #[error("a length of {0} in the stream")]
    Length(u16),
}

impl StreamError {
    /// The stable name of the reason.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prefix => "no_stream_prefix",
            Self::Length(_) => "bad_stream_length",
        }
    }
}

/// Takes the messages out of one direction of a stream, in whatever pieces it comes.
///
/// Only a message that is not complete yet is kept: at most 65,535 octets.
#[derive(Debug)]
pub struct StreamReader {
    /// How much of the prefix is still to come.
    prefix: &'static [u8],
    /// The beginning of a message, its length included.
    partial: Vec<u8>,
    /// `partial` is complete and has been given out.
    given: bool,
    failed: Option<StreamError>,
}

impl StreamReader {
    /// For the end that has accepted the connection: the other one sends the prefix.
    //= rfc9329#6.1
    //# The TCP Responder
    //# MUST wait for the entire stream prefix to be received on the stream
    //# before trying to parse out any IKE or ESP messages.
    //= rfc9329#6.1
    //# The TCP Responder MUST NOT accept any messages for the existing IKE
    //# session on a new incoming connection, unless that connection begins
    //# with the stream prefix.
    #[must_use]
    pub const fn accepted() -> Self {
        Self::new(&STREAM_PREFIX)
    }

    /// For the originator.
    //= rfc9329#4
    //# This value is only sent
    //# once, by the TCP Originator only, at the beginning of the TCP stream
    //# of IKE and ESP messages.
    #[must_use]
    pub const fn originated() -> Self {
        Self::new(&[])
    }

    const fn new(prefix: &'static [u8]) -> Self {
        Self {
            prefix,
            partial: Vec::new(),
            given: false,
            failed: None,
        }
    }

    /// Whether the stream has shown that it is one for IKE and ESP.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.prefix.is_empty()
    }

    /// The next message, without its length. `input` is what has been received and not been taken yet; without a
    /// message all of it has been taken. Of an empty message nothing is said.
    ///
    /// # Errors
    /// Nothing that follows makes sense. The error comes again at each call.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<&'a [u8]>, StreamError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if mem::take(&mut self.given) {
            self.partial.clear();
            self.partial.shrink_to(KEPT_ROOM);
        }
        if let Err(error) = self.skip_prefix(input) {
            self.failed = Some(error);
            return Err(error);
        }
        loop {
            let from = if self.partial.is_empty() {
                *input
            } else {
                let missing = LENGTH.saturating_sub(self.partial.len());
                self.partial.extend_from_slice(take(input, missing));
                &self.partial
            };
            let Some(announced) = from.first_chunk().map(|field| u16::from_be_bytes(*field)) else {
                self.partial.extend_from_slice(mem::take(input));
                return Ok(None);
            };
            let length = usize::from(announced);
            //= rfc9329#3.1
            //# The value in the
            //# Length field MUST NOT be 0 or 1.  The receiver MUST treat these
            //# values as fatal errors and MUST close the TCP connection.
            if length < LENGTH {
                let error = StreamError::Length(announced);
                self.failed = Some(error);
                return Err(error);
            }
            let whole = if self.partial.is_empty() {
                if input.len() < length {
                    self.partial.extend_from_slice(mem::take(input));
                    return Ok(None);
                }
                take(input, length)
            } else {
                let missing = length.saturating_sub(self.partial.len());
                self.partial.extend_from_slice(take(input, missing));
                if self.partial.len() < length {
                    return Ok(None);
                }
                //= rfc9329#3
                //# Empty messages (where the
                //# Length field equals 2) MUST be silently ignored by receiver.
                if length == LENGTH {
                    self.partial.clear();
                    continue;
                }
                self.given = true;
                return Ok(self.partial.get(LENGTH..));
            };
            match whole.get(LENGTH..) {
                None | Some([]) => {}
                message => return Ok(message),
            }
        }
    }

    fn skip_prefix(&mut self, input: &mut &[u8]) -> Result<(), StreamError> {
        while let ([expected, rest @ ..], [octet, later @ ..]) = (self.prefix, *input) {
            if expected != octet {
                return Err(StreamError::Prefix);
            }
            (self.prefix, *input) = (rest, later);
        }
        Ok(())
    }
}

/// Takes up to `count` octets off the front.
fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (front, rest) = input.split_at_checked(count).unwrap_or((input, &[]));
    *input = rest;
    front
}

/// The length that goes in front of a message of so many octets; `None` if it is empty or longer than
/// [`MAX_STREAM_MESSAGE`].
//= rfc9329#3
//# The value in this field
//# is equal to the length of the original message plus the length of the
//# field itself, in octets.
#[must_use]
pub fn stream_length(message: usize) -> Option<[u8; LENGTH]> {
    let whole = message.checked_add(LENGTH).filter(|_| message > 0)?;
    u16::try_from(whole).ok().map(u16::to_be_bytes)
}
