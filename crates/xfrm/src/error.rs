//! Why a request failed.

use std::io;

use crate::codec::DecodeError;
use crate::numbers::MessageType;

/// The kernel's refusal of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The request's type.
    pub request: MessageType,
    /// `errno`, positive.
    pub errno: i32,
    /// The extended acknowledgement's text, if the kernel gave one.
    pub text: Option<String>,
    /// Offset in the request (netlink header included) of what was wrong, if the kernel said.
    pub offset: Option<u32>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let errno = io::Error::from_raw_os_error(self.errno);
        write!(f, "kernel refused {}: {errno}", self.request)?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The kernel said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The socket failed.
    #[error("xfrm netlink socket: {0}")]
    Io(#[from] io::Error),
    /// No answer within the time that [`crate::Client`] waits.
    #[error("no answer from the kernel to {0}")]
    TimedOut(MessageType),
    /// Answers were lost for lack of socket memory: whether the request was carried out is
    /// unknown.
    #[error("answer to {0} lost for lack of socket memory")]
    AnswerLost(MessageType),
    /// The kernel's answer could not be read.
    #[error("answer to {request} unreadable: {source}")]
    Unreadable {
        /// The request's type.
        request: MessageType,
        /// What is wrong.
        source: DecodeError,
    },
    /// The request was carried out but the answer that it must have did not come.
    #[error("{0} was acknowledged without its answer")]
    NoAnswer(MessageType),
    /// The database changed under every attempt to read it.
    #[error("{0} dump interrupted by changes {1} times")]
    DumpInterrupted(MessageType, u32),
}

impl RequestError {
    /// The kernel's errno, if it refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused(refusal) => Some(refusal.errno),
            _ => None,
        }
    }
}
