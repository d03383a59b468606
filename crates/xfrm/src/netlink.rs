//! Netlink framing: headers, acknowledgements, and the extended acknowledgement's text.

use crate::codec::{DecodeError, Reader, Writer};
use crate::numbers::MessageType;

pub(crate) const HEADER_LEN: usize = 16;

// nlmsghdr.nlmsg_flags
pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_MULTI: u16 = 0x2;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;

// nlmsghdr.nlmsg_type below the protocol's own
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;

// Attributes of an extended acknowledgement
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;

/// `nlmsghdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// Port of whom the message answers or who caused it; 0 = the kernel itself.
    pub(crate) port: u32,
}

/// One netlink message inside a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) header: Header,
    pub(crate) payload: &'a [u8],
}

/// What a frame is to netlink itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// Nothing.
    Noop,
    /// Outcome of a request, or end of a dump: errno (0 = success) and what was said about it.
    Outcome { errno: i32, note: Note },
    /// A message of the protocol.
    Message {
        kind: MessageType,
        dump: bool,
        payload: &'a [u8],
    },
}

/// What an extended acknowledgement says beside the errno.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Note {
    pub(crate) text: Option<String>,
    pub(crate) offset: Option<u32>,
}

/// Splits a datagram into frames; ends after the first one whose length is impossible.
pub(crate) struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    pub(crate) fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let result = split(self.0);
        self.0 = match &result {
            Ok((_, rest)) => rest,
            Err(_) => &[],
        };
        Some(result.map(|(frame, _)| frame))
    }
}

fn split(bytes: &[u8]) -> Result<(Frame<'_>, &[u8]), DecodeError> {
    let mut r = Reader::new("nlmsghdr", bytes);
    let length = r.u32()? as usize;
    let header = Header {
        kind: r.u16()?,
        flags: r.u16()?,
        sequence: r.u32()?,
        port: r.u32()?,
    };
    let payload = length
        .checked_sub(HEADER_LEN)
        .ok_or(DecodeError::BadLength {
            what: "nlmsghdr",
            length,
        })?;
    let payload = r.bytes(payload)?;
    let padding = length.next_multiple_of(4) - length;
    r.skip(padding.min(r.rest().len()))?;
    Ok((Frame { header, payload }, r.rest()))
}

impl<'a> Frame<'a> {
    pub(crate) fn kind(&self) -> Result<Kind<'a>, DecodeError> {
        match self.header.kind {
            NLMSG_NOOP => Ok(Kind::Noop),
            NLMSG_ERROR => self.error(),
            NLMSG_DONE => self.done(),
            // Documented, never sent by the kernel: data was lost.
            NLMSG_OVERRUN => Ok(Kind::Outcome {
                errno: rustix::io::Errno::NOBUFS.raw_os_error(),
                note: Note::default(),
            }),
            kind => Ok(Kind::Message {
                kind: MessageType(kind),
                dump: self.header.flags & NLM_F_REQUEST != 0
                    && self.header.flags & NLM_F_DUMP == NLM_F_DUMP,
                payload: self.payload,
            }),
        }
    }

    /// `nlmsgerr`: errno, the request (or only its header), attributes.
    fn error(&self) -> Result<Kind<'a>, DecodeError> {
        let mut r = Reader::new("nlmsgerr", self.payload);
        let errno = r.i32()?;
        let mut note = Note::default();
        if self.header.flags & NLM_F_ACK_TLVS != 0 {
            let request_len = r.u32()? as usize;
            r.skip(HEADER_LEN - 4)?;
            if self.header.flags & NLM_F_CAPPED == 0 {
                let body = request_len.saturating_sub(HEADER_LEN);
                r.skip(body.next_multiple_of(4))?;
            }
            note = Note::read(r);
        }
        Ok(Kind::Outcome {
            errno: errno.saturating_neg(),
            note,
        })
    }

    /// End of a dump: errno and attributes.
    fn done(&self) -> Result<Kind<'a>, DecodeError> {
        let mut r = Reader::new("nlmsg_done", self.payload);
        // Some kernels send it without the errno.
        let errno = if self.payload.is_empty() { 0 } else { r.i32()? };
        let note = if self.header.flags & NLM_F_ACK_TLVS != 0 {
            Note::read(r)
        } else {
            Note::default()
        };
        Ok(Kind::Outcome {
            errno: errno.saturating_neg(),
            note,
        })
    }
}

impl Note {
    /// Reads as far as the attributes make sense: the text is a help, never worth an error.
    fn read(mut r: Reader<'_>) -> Self {
        let mut note = Self::default();
        while let (Ok(len), Ok(kind)) = (r.u16(), r.u16()) {
            let Some(payload) = usize::from(len).checked_sub(4) else {
                break;
            };
            let Ok(payload) = r.bytes(payload) else { break };
            let padding = usize::from(len).next_multiple_of(4) - usize::from(len);
            let _ = r.skip(padding.min(r.rest().len()));
            match kind {
                NLMSGERR_ATTR_MSG => {
                    let text = payload.split(|b| *b == 0).next().unwrap_or_default();
                    note.text = Some(String::from_utf8_lossy(text).into_owned());
                }
                NLMSGERR_ATTR_OFFS => {
                    note.offset = payload.try_into().ok().map(u32::from_ne_bytes);
                }
                _ => {}
            }
        }
        note
    }
}

/// Appends a netlink message whose payload `write` makes.
pub(crate) fn frame(
    out: &mut Writer,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    write: impl FnOnce(&mut Writer),
) {
    let start = out.len();
    out.u32(0);
    out.u16(kind);
    out.u16(flags);
    out.u32(sequence);
    // The kernel copies it into the notifications that the request causes.
    out.u32(port);
    write(out);
    let len = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out.patch(start, &len.to_ne_bytes());
    out.align4();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An extended acknowledgement made by hand after `netlink_ack()`: errno, the request's header
    /// (capped), text and offset. Real ones are read in the tests against the kernel.
    fn refusal(errno: i32, text: &str) -> Vec<u8> {
        let mut out = Writer::default();
        frame(
            &mut out,
            NLMSG_ERROR,
            NLM_F_CAPPED | NLM_F_ACK_TLVS,
            7,
            0,
            |out| {
                out.i32(-errno);
                out.u32(400);
                out.zeros(12);
                out.u16(u16::try_from(text.len() + 5).unwrap());
                out.u16(NLMSGERR_ATTR_MSG);
                out.put(text.as_bytes());
                out.zeros(1);
                out.align4();
                out.u16(8);
                out.u16(NLMSGERR_ATTR_OFFS);
                out.u32(228);
            },
        );
        out.as_slice().to_vec()
    }

    #[test]
    fn the_text_of_a_refusal_is_found() {
        let bytes = refusal(22, "Unsupported mode");
        let frame = Frames::new(&bytes).next().unwrap().unwrap();
        assert_eq!(frame.header.sequence, 7);
        assert_eq!(
            frame.kind().unwrap(),
            Kind::Outcome {
                errno: 22,
                note: Note {
                    text: Some("Unsupported mode".into()),
                    offset: Some(228)
                },
            }
        );
    }

    #[test]
    fn no_truncation_panics_and_none_invents_an_outcome() {
        let bytes = refusal(22, "Unsupported mode");
        for len in 0..bytes.len() {
            let mut frames = Frames::new(&bytes[..len]);
            if len > 0 {
                assert!(frames.next().unwrap().is_err(), "at {len}");
            }
            assert!(frames.next().is_none());
        }
        // Truncated inside, with a matching length: the errno stays, the text may go.
        for len in HEADER_LEN..bytes.len() {
            let mut cut = bytes[..len].to_vec();
            cut[..4].copy_from_slice(&u32::try_from(len).unwrap().to_ne_bytes());
            if let Ok(Kind::Outcome { errno, .. }) =
                Frames::new(&cut).next().unwrap().unwrap().kind()
            {
                assert_eq!(errno, 22);
            }
        }
    }

    #[test]
    fn an_impossible_length_ends_the_datagram() {
        let mut bytes = refusal(1, "x");
        bytes[..4].copy_from_slice(&3_u32.to_ne_bytes());
        let results: Vec<_> = Frames::new(&bytes).collect();
        assert_eq!(
            results,
            [Err(DecodeError::BadLength {
                what: "nlmsghdr",
                length: 3
            })]
        );
    }
}
