//! Requests: one or many in one send, each with its answer; dumps.
//!
//! The kernel handles requests inside the system call that sends them and answers in order, so
//! a blocking call is short (except where an algorithm's module has to be loaded first). Sequence
//! numbers are matched all the same: answers to an earlier call that was given up are skipped.

use std::io;
use std::time::Duration;

use crate::attribute::Attributes;
use crate::codec::Writer;
use crate::error::{Refusal, RequestError};
use crate::message::{Body, Message};
use crate::netlink::{
    self, Frames, Kind, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTI, NLM_F_REPLACE,
    NLM_F_REQUEST,
};
use crate::numbers::{MessageType, SaProtocol};
use crate::socket::{Received, XfrmSocket};
use crate::structures::{PolicyDefaults, PolicyId, PolicyInfo, SaId, SaInfo, SpiRequest};

/// How many requests go into one send: their answers must fit into the socket's memory.
const PIPELINE: usize = 64;

/// Memory for answers: generous for the acknowledgements and SAs of one pipeline.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A lost answer shall not stop the caller for ever. Loading a module takes less.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often a dump is begun anew because the database changed meanwhile.
const DUMP_ATTEMPTS: u32 = 10;

/// What a request was answered with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The message that came before the acknowledgement, if the request has one.
    pub message: Option<Message>,
    /// A remark of the kernel on a request that it carried out.
    pub warning: Option<String>,
}

/// A socket for requests.
///
/// Needs `CAP_NET_ADMIN` over the network namespace; it stays in the namespace in which it was
/// opened. Calls block until the kernel has answered.
pub struct Client {
    socket: XfrmSocket,
    sequence: u32,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` where the kernel has no XFRM (or may not load it).
    pub fn open() -> io::Result<Self> {
        let socket = XfrmSocket::open(&[], RECEIVE_BUFFER)?;
        socket.set_timeout(TIMEOUT)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// The socket's netlink port: the notifications that our own requests cause carry it.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Sends one request and waits for its outcome.
    ///
    /// # Errors
    /// [`RequestError::Refused`] with the kernel's errno and text, or a failure of the exchange.
    pub fn call(&mut self, request: &Message) -> Result<Answer, RequestError> {
        let mut outcomes = self.batch(std::slice::from_ref(request));
        outcomes
            .pop()
            .unwrap_or(Err(RequestError::NoAnswer(request.kind())))
    }

    /// Sends requests together and returns their outcomes in the same order.
    ///
    /// The kernel carries them out one after the other; one's refusal does not stop the others.
    /// Dumps cannot be part of a batch: see [`Client::dump`].
    pub fn batch(&mut self, requests: &[Message]) -> Vec<Result<Answer, RequestError>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for chunk in requests.chunks(PIPELINE) {
            self.pipeline(chunk, &mut outcomes);
        }
        self.socket.wipe();
        outcomes
    }

    fn pipeline(&mut self, requests: &[Message], outcomes: &mut Vec<Result<Answer, RequestError>>) {
        let first = self.sequence.wrapping_add(1);
        let mut out = Writer::with_capacity(requests.len() * 512);
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            netlink::frame(
                &mut out,
                request.kind().0,
                flags(request),
                self.sequence,
                self.socket.port(),
                |out| request.write(out),
            );
        }
        let mut slots: Vec<Slot> = requests.iter().map(|_| Slot::default()).collect();
        let broken = match self.socket.send(out.as_slice()) {
            Ok(()) => self.collect(first, &mut slots).err(),
            Err(error) => Some(Broken::Io(error)),
        };
        for (request, slot) in requests.iter().zip(slots) {
            outcomes.push(match slot.outcome {
                Some(outcome) => outcome
                    .map(|warning| Answer {
                        message: slot.message,
                        warning,
                    })
                    .map_err(|failure| failure.into_error(request.kind())),
                None => Err(match &broken {
                    Some(broken) => broken.error(request.kind()),
                    None => RequestError::NoAnswer(request.kind()),
                }),
            });
        }
    }

    /// Receives until every slot has its outcome.
    fn collect(&mut self, first: u32, slots: &mut [Slot]) -> Result<(), Broken> {
        let mut missing = slots.len();
        while missing > 0 {
            let datagram = match self.socket.receive().map_err(Broken::Io)? {
                Received::Datagram(datagram) => datagram,
                Received::Lost => return Err(Broken::Lost),
                Received::Nothing => return Err(Broken::TimedOut),
            };
            for frame in Frames::new(datagram) {
                let Ok(frame) = frame else { break };
                // Answers to what an earlier call gave up on have older numbers.
                let index = frame.header.sequence.wrapping_sub(first) as usize;
                let Some(slot) = slots.get_mut(index).filter(|s| s.outcome.is_none()) else {
                    continue;
                };
                match frame.kind() {
                    Ok(Kind::Noop) => {}
                    Ok(Kind::Outcome { errno: 0, note }) => {
                        missing -= 1;
                        let unreadable = slot.unreadable.take();
                        slot.outcome = Some(match unreadable {
                            Some(error) => Err(Failure::Unreadable(error)),
                            None => Ok(note.text),
                        });
                    }
                    Ok(Kind::Outcome { errno, note }) => {
                        missing -= 1;
                        slot.outcome = Some(Err(Failure::Refused(errno, note)));
                    }
                    Ok(Kind::Message {
                        kind,
                        dump,
                        payload,
                    }) => match Message::decode(kind, dump, payload) {
                        Ok(message) => slot.message = Some(message),
                        Err(error) => slot.unreadable = Some(error),
                    },
                    Err(error) => {
                        missing -= 1;
                        slot.outcome = Some(Err(Failure::Unreadable(error)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads a whole table. `request` is a [`Body::DumpSa`] or [`Body::DumpPolicy`] with filter
    /// attributes, if wanted. Begins anew if the table changed under it.
    ///
    /// # Errors
    /// As [`Client::call`], and [`RequestError::DumpInterrupted`].
    pub fn dump(&mut self, request: &Message) -> Result<Vec<Message>, RequestError> {
        let mut result = Err(RequestError::DumpInterrupted(request.kind(), DUMP_ATTEMPTS));
        for _ in 0..DUMP_ATTEMPTS {
            match self.dump_once(request) {
                Ok(Some(messages)) => {
                    result = Ok(messages);
                    break;
                }
                Ok(None) => {}
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.socket.wipe();
        result
    }

    /// One attempt; `None` if it was interrupted. It is read to its end in any case, since the
    /// kernel refuses another dump on the socket before.
    fn dump_once(&mut self, request: &Message) -> Result<Option<Vec<Message>>, RequestError> {
        let kind = request.kind();
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let mut out = Writer::with_capacity(256);
        netlink::frame(
            &mut out,
            kind.0,
            NLM_F_REQUEST | NLM_F_DUMP,
            sequence,
            self.socket.port(),
            |out| {
                request.write(out);
            },
        );
        self.socket.send(out.as_slice())?;
        let mut messages = Vec::new();
        let mut interrupted = false;
        let mut unreadable = None;
        loop {
            let datagram = match self.socket.receive()? {
                Received::Datagram(datagram) => datagram,
                Received::Lost => return Err(RequestError::AnswerLost(kind)),
                Received::Nothing => return Err(RequestError::TimedOut(kind)),
            };
            for frame in Frames::new(datagram) {
                let Ok(frame) = frame else { break };
                if frame.header.sequence != sequence {
                    continue;
                }
                interrupted |= frame.header.flags & NLM_F_DUMP_INTR != 0;
                match frame.kind() {
                    Ok(Kind::Noop) => {}
                    Ok(Kind::Outcome { errno: 0, .. }) => {
                        return match unreadable {
                            Some(source) => Err(RequestError::Unreadable {
                                request: kind,
                                source,
                            }),
                            None => Ok((!interrupted).then_some(messages)),
                        };
                    }
                    Ok(Kind::Outcome { errno, note }) => {
                        return Err(Failure::Refused(errno, note).into_error(kind));
                    }
                    Ok(Kind::Message { kind, payload, .. }) => {
                        debug_assert!(frame.header.flags & NLM_F_MULTI != 0);
                        match Message::decode(kind, false, payload) {
                            Ok(message) => messages.push(message),
                            Err(error) => unreadable = Some(error),
                        }
                    }
                    Err(error) => unreadable = Some(error),
                }
            }
        }
    }
}

/// Requests by name.
impl Client {
    /// Reserves an SPI between `request.min` and `request.max` in a larval SA, and returns that.
    ///
    /// # Errors
    /// As [`Client::call`]; `ENOENT` if no SPI of the range is free.
    pub fn alloc_spi(
        &mut self,
        request: SpiRequest,
        attributes: Attributes,
    ) -> Result<SaInfo, RequestError> {
        let answer = self.call(&Message {
            body: Body::AllocSpi(request),
            attributes,
        })?;
        match answer.message.map(|m| m.body) {
            Some(Body::NewSa(info)) => Ok(info),
            _ => Err(RequestError::NoAnswer(MessageType::ALLOCSPI)),
        }
    }

    /// Adds an SA.
    ///
    /// # Errors
    /// As [`Client::call`]; `EEXIST` if one has the same destination, SPI, protocol and mark.
    pub fn add_sa(&mut self, info: SaInfo, attributes: Attributes) -> Result<Answer, RequestError> {
        self.call(&Message {
            body: Body::NewSa(info),
            attributes,
        })
    }

    /// Completes a larval SA, or changes lifetimes, encapsulation, set-mark or if_id of a valid one.
    ///
    /// # Errors
    /// As [`Client::call`]; `ESRCH` if there is none.
    pub fn update_sa(
        &mut self,
        info: SaInfo,
        attributes: Attributes,
    ) -> Result<Answer, RequestError> {
        self.call(&Message {
            body: Body::UpdateSa(info),
            attributes,
        })
    }

    /// Deletes an SA; one with a mark needs [`Attribute::Mark`](crate::Attribute::Mark).
    ///
    /// # Errors
    /// As [`Client::call`]; `ESRCH` if there is none.
    pub fn delete_sa(&mut self, id: SaId, attributes: Attributes) -> Result<Answer, RequestError> {
        self.call(&Message {
            body: Body::DeleteSa(id),
            attributes,
        })
    }

    /// Reads one SA, keys included.
    ///
    /// # Errors
    /// As [`Client::call`]; `ESRCH` if there is none.
    pub fn get_sa(
        &mut self,
        id: SaId,
        attributes: Attributes,
    ) -> Result<(SaInfo, Attributes), RequestError> {
        let answer = self.call(&Message {
            body: Body::GetSa(id),
            attributes,
        })?;
        match answer.message {
            Some(Message {
                body: Body::NewSa(info),
                attributes,
            }) => Ok((info, attributes)),
            _ => Err(RequestError::NoAnswer(MessageType::GETSA)),
        }
    }

    /// Reads all SAs, keys included.
    ///
    /// # Errors
    /// As [`Client::dump`].
    pub fn dump_sas(&mut self) -> Result<Vec<(SaInfo, Attributes)>, RequestError> {
        let messages = self.dump(&Message::new(Body::DumpSa))?;
        Ok(messages
            .into_iter()
            .filter_map(|m| match m.body {
                Body::NewSa(info) => Some((info, m.attributes)),
                _ => None,
            })
            .collect())
    }

    /// Deletes all SAs of a protocol, or of all with [`SaProtocol::ANY`].
    ///
    /// # Errors
    /// As [`Client::call`]; an empty table is no error.
    pub fn flush_sas(&mut self, protocol: SaProtocol) -> Result<Answer, RequestError> {
        self.call(&Message::new(Body::FlushSa(protocol)))
    }

    /// Adds a policy.
    ///
    /// # Errors
    /// As [`Client::call`]; `EEXIST` if one has the same selector, direction, mark and if_id,
    /// whatever its priority.
    pub fn add_policy(
        &mut self,
        info: PolicyInfo,
        attributes: Attributes,
    ) -> Result<Answer, RequestError> {
        self.call(&Message {
            body: Body::NewPolicy(info),
            attributes,
        })
    }

    /// Adds or replaces a policy; its index stays, its age begins anew.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn update_policy(
        &mut self,
        info: PolicyInfo,
        attributes: Attributes,
    ) -> Result<Answer, RequestError> {
        self.call(&Message {
            body: Body::UpdatePolicy(info),
            attributes,
        })
    }

    /// Deletes a policy. Type, mark and if_id must be those of the policy.
    ///
    /// # Errors
    /// As [`Client::call`]; `ENOENT` if there is none.
    pub fn delete_policy(
        &mut self,
        id: PolicyId,
        attributes: Attributes,
    ) -> Result<Answer, RequestError> {
        self.call(&Message {
            body: Body::DeletePolicy(id),
            attributes,
        })
    }

    /// Reads one policy. Type, mark and if_id must be those of the policy.
    ///
    /// # Errors
    /// As [`Client::call`]; `ENOENT` if there is none.
    pub fn get_policy(
        &mut self,
        id: PolicyId,
        attributes: Attributes,
    ) -> Result<(PolicyInfo, Attributes), RequestError> {
        let answer = self.call(&Message {
            body: Body::GetPolicy(id),
            attributes,
        })?;
        match answer.message {
            Some(Message {
                body: Body::NewPolicy(info),
                attributes,
            }) => Ok((info, attributes)),
            _ => Err(RequestError::NoAnswer(MessageType::GETPOLICY)),
        }
    }

    /// Reads all policies, those of sockets included (see [`crate::PolicyDirection`]).
    ///
    /// # Errors
    /// As [`Client::dump`].
    pub fn dump_policies(&mut self) -> Result<Vec<(PolicyInfo, Attributes)>, RequestError> {
        let messages = self.dump(&Message::new(Body::DumpPolicy))?;
        Ok(messages
            .into_iter()
            .filter_map(|m| match m.body {
                Body::NewPolicy(info) => Some((info, m.attributes)),
                _ => None,
            })
            .collect())
    }

    /// Deletes all policies of the main table but those of sockets.
    ///
    /// # Errors
    /// As [`Client::call`]; an empty table is no error.
    pub fn flush_policies(&mut self) -> Result<Answer, RequestError> {
        self.call(&Message::new(Body::FlushPolicy))
    }

    /// Reads what happens where no policy matches (5.15).
    ///
    /// # Errors
    /// As [`Client::call`]; `EINVAL` from older kernels.
    pub fn defaults(&mut self) -> Result<PolicyDefaults, RequestError> {
        let request = Message::new(Body::GetDefault(PolicyDefaults::default()));
        match self.call(&request)?.message.map(|m| m.body) {
            Some(Body::GetDefault(defaults)) => Ok(defaults),
            _ => Err(RequestError::NoAnswer(MessageType::GETDEFAULT)),
        }
    }

    /// Sets it.
    ///
    /// # Errors
    /// As [`Client::call`]; `EINVAL` from older kernels.
    pub fn set_defaults(&mut self, defaults: PolicyDefaults) -> Result<Answer, RequestError> {
        self.call(&Message::new(Body::SetDefault(defaults)))
    }

    /// Summary of the SAD: see [`Attributes::sad_count`].
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn sad_info(&mut self) -> Result<Attributes, RequestError> {
        let answer = self.call(&Message::new(Body::GetSadInfo(u32::MAX)))?;
        answer
            .message
            .map(|m| m.attributes)
            .ok_or(RequestError::NoAnswer(MessageType::GETSADINFO))
    }

    /// Summary of the SPD: see [`Attributes::spd_counts`].
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn spd_info(&mut self) -> Result<Attributes, RequestError> {
        let answer = self.call(&Message::new(Body::GetSpdInfo(u32::MAX)))?;
        answer
            .message
            .map(|m| m.attributes)
            .ok_or(RequestError::NoAnswer(MessageType::GETSPDINFO))
    }
}

/// What has come for one request of a pipeline so far.
#[derive(Default)]
struct Slot {
    message: Option<Message>,
    unreadable: Option<crate::codec::DecodeError>,
    outcome: Option<Result<Option<String>, Failure>>,
}

enum Failure {
    Refused(i32, netlink::Note),
    Unreadable(crate::codec::DecodeError),
}

impl Failure {
    fn into_error(self, request: MessageType) -> RequestError {
        match self {
            Self::Refused(errno, note) => RequestError::Refused(Refusal {
                request,
                errno,
                text: note.text,
                offset: note.offset,
            }),
            Self::Unreadable(source) => RequestError::Unreadable { request, source },
        }
    }
}

/// Why a pipeline ended before its last answer.
enum Broken {
    Io(io::Error),
    Lost,
    TimedOut,
}

impl Broken {
    fn error(&self, request: MessageType) -> RequestError {
        match self {
            // io::Error is no Clone; the errno is all that a netlink socket's errors have.
            Self::Io(error) => RequestError::Io(match error.raw_os_error() {
                Some(errno) => io::Error::from_raw_os_error(errno),
                None => error.kind().into(),
            }),
            Self::Lost => RequestError::AnswerLost(request),
            Self::TimedOut => RequestError::TimedOut(request),
        }
    }
}

fn flags(request: &Message) -> u16 {
    let replace = match request.body {
        // The kernel takes replay state only with the permission to replace it.
        Body::NewAe(_) => NLM_F_REPLACE,
        _ => 0,
    };
    NLM_F_REQUEST | NLM_F_ACK | replace
}
