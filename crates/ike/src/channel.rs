//! The protected channel of an IKE SA: the Encrypted payload and the header around it (RFC 7296 §3.1, §3.14), and the
//! Encrypted Fragment payloads of a message that is sent in pieces (RFC 7383 §2.5).

use cygnet_crypto::{
    AuthKey, Entropy, IkeKeys, IkeKeysInUse, IkeSuite, Protection, ProtectionError, SkD,
};
use cygnet_wire::limits::{MAX_FRAGMENTS, MAX_MESSAGE_LEN};
use cygnet_wire::{
    Header, Message, Payload, PayloadChain, PayloadType, PayloadWriter, ProtocolId, SkPayload,
    SkfPayload, WriteError, write_message,
};
use thiserror::Error;

use crate::fragment::{Datagrams, Form};
use crate::info::Role;
use crate::stats::DropReason;

/// Octets of a generic payload header.
const GENERIC_HEADER: usize = 4;
/// Octets of a message in front of the body of its Encrypted payload.
const SK_AT: usize = Header::LEN + GENERIC_HEADER;
/// The same of an Encrypted Fragment payload.
const SKF_AT: usize = SK_AT + 4;

/// Octets that a message is written into, enough for nearly all: room is made for it once.
pub(crate) const TYPICAL_LEN: usize = 512;

/// Keys of both directions, and what the keys of child SAs come from.
#[derive(Debug)]
pub(crate) struct Channel {
    outgoing: Protection,
    incoming: Protection,
    pub(crate) sk_d: SkD,
}

/// Why a message could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SealError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Protect(#[from] ProtectionError),
}

/// The payloads of a message before it is sealed, or after it has been opened: the content of its Encrypted payload, put
/// together from its fragments if it came in such.
#[derive(Debug)]
pub(crate) struct Plaintext {
    first: PayloadType,
    octets: Vec<u8>,
    /// Keys that solve a puzzle, to stand in clear before the Encrypted payload (RFC 8019 §7.2.2); empty: none.
    solution: Vec<u8>,
}

impl Plaintext {
    /// Payloads of which the first is of type `first`.
    pub(crate) fn new(first: PayloadType, octets: Vec<u8>) -> Self {
        Self {
            first,
            octets,
            solution: Vec::new(),
        }
    }

    /// The same behind the solution of a puzzle.
    pub(crate) fn behind(self, solution: Vec<u8>) -> Self {
        Self { solution, ..self }
    }

    /// The payloads that `write` writes.
    pub(crate) fn write(write: impl FnOnce(&mut PayloadWriter<'_>)) -> Result<Self, WriteError> {
        let mut octets = Vec::with_capacity(TYPICAL_LEN);
        let mut writer = PayloadWriter::new(&mut octets);
        write(&mut writer);
        let first = writer.finish()?;
        Ok(Self::new(first, octets))
    }

    /// Type of the first payload.
    pub(crate) fn first(&self) -> PayloadType {
        self.first
    }

    /// The octets of all payloads.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The octets of all payloads.
    pub(crate) fn into_octets(self) -> Box<[u8]> {
        self.octets.into_boxed_slice()
    }

    /// Whether it deletes the IKE SA.
    pub(crate) fn deletes_ike(&self) -> bool {
        self.chain().payloads().any(|payload| {
            matches!(payload, Ok(Payload::Delete(delete)) if delete.protocol == ProtocolId::IKE)
        })
    }

    //= rfc8019#7.2.2
    //# The PS payload MUST be placed outside the Encrypted payload, so that
    //# the Responder is able to verify the puzzle before calculating the DH
    //# shared secret and the SK_* keys.
    fn write_clear(&self, payloads: &mut PayloadWriter<'_>) {
        if !self.solution.is_empty() {
            payloads.ps(&self.solution);
        }
    }

    /// The payloads.
    pub(crate) fn chain(&self) -> PayloadChain<'_> {
        PayloadChain::new(self.first, &self.octets)
    }
}

/// The payload that protects a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protected<'a> {
    /// All of it.
    Whole(SkPayload<'a>),
    /// A fragment of it.
    Fragment(SkfPayload<'a>),
}

impl<'a> Protected<'a> {
    /// Looks for it in a message.
    pub(crate) fn find(message: &Message<'a>) -> Option<Self> {
        // It may be preceded by others, which are not encrypted: the solution of a puzzle, and what nobody has defined,
        // which is ignored.
        message.payloads().find_map(|payload| match payload {
            Ok(Payload::Sk(sk)) => Some(Self::Whole(sk)),
            Ok(Payload::Skf(skf)) => Some(Self::Fragment(skf)),
            _ => None,
        })
    }
}

impl Channel {
    /// The channel as `role` uses it, with SK_pi and SK_pr, which are for others.
    pub(crate) fn new(
        role: Role,
        suite: &IkeSuite,
        keys: IkeKeys,
    ) -> Result<(Self, AuthKey, AuthKey), ProtectionError> {
        let IkeKeysInUse {
            initiator,
            responder,
            sk_d,
            sk_pi,
            sk_pr,
        } = keys.into_use(suite)?;
        let (outgoing, incoming) = match role {
            Role::Initiator => (initiator, responder),
            Role::Responder => (responder, initiator),
        };
        let channel = Self {
            outgoing,
            incoming,
            sk_d,
        };
        Ok((channel, sk_pi, sk_pr))
    }

    /// A message with these payloads in its Encrypted payload, or in those of its fragments.
    //= rfc7383#2.5
    //# The content is treated as a binary blob and is
    //# split regardless of the boundaries of inner payloads.
    pub(crate) fn seal(
        &mut self,
        header: &Header,
        entropy: &mut dyn Entropy,
        plain: &Plaintext,
        form: Form,
    ) -> Result<Datagrams, SealError> {
        let clear_len = match plain.solution.len() {
            0 => 0,
            len => len.saturating_add(GENERIC_HEADER),
        };
        let whole = SK_AT
            .saturating_add(clear_len)
            .saturating_add(self.outgoing.body_len(plain.octets.len()));
        let max = match form {
            Form::Fragments { max, always } if always || whole > max => max,
            _ => usize::MAX,
        };
        // What is too long for one message is too long for all of its fragments together.
        if max == usize::MAX || whole > MAX_MESSAGE_LEN {
            let message = self.seal_one(header, entropy, &plain.octets, |payloads, body_len| {
                plain.write_clear(payloads);
                payloads.sk(plain.first, body_len);
            })?;
            return Ok(message.into());
        }
        // Rather larger datagrams than more fragments than anybody puts together.
        let len = plain.octets.len();
        let chunk = self
            .outgoing
            .max_plain_len(max.saturating_sub(SKF_AT).saturating_sub(clear_len))
            .max(len.div_ceil(usize::from(MAX_FRAGMENTS)))
            .max(1);
        let total = u16::try_from(len.div_ceil(chunk).max(1)).unwrap_or(MAX_FRAGMENTS);
        let mut chunks = plain.octets.chunks(chunk);
        //= rfc7383#2.5
        //# When prepending the IKE header to the IKE Fragment messages, it MUST
        //# be taken intact from the original message, except for the Length and
        //# Next Payload fields.
        let mut fragment = |number: u16| {
            let chunk = chunks.next().unwrap_or_default();
            self.seal_one(header, entropy, chunk, |payloads, body_len| {
                //= rfc8019#7.2.2
                //# If IKE fragmentation [RFC7383] is used in the IKE_AUTH exchange, then
                //# the PS payload MUST be present only in the first IKE Fragment
                //# message, in accordance with Section 2.5.3 of [RFC7383].
                if number == 1 {
                    plain.write_clear(payloads);
                }
                //= rfc7383#2.5
                //# if present in a message, MUST be the last payload in the message.
                //= rfc7383#2.5
                //# in the very first fragment (with Fragment Number equal to 1), this
                //# field MUST be set to the payload type of the first inner payload (the
                //# same as for the Encrypted payload).
                payloads.skf(plain.first, number, total, body_len);
            })
        };
        let first = fragment(1)?;
        let rest = (2..=total).map(fragment).collect::<Result<_, _>>()?;
        Ok(Datagrams::new(first, rest))
    }

    fn seal_one(
        &mut self,
        header: &Header,
        entropy: &mut dyn Entropy,
        plain: &[u8],
        announce: impl FnOnce(&mut PayloadWriter<'_>, usize),
    ) -> Result<Vec<u8>, SealError> {
        let body_len = self.outgoing.body_len(plain.len());
        let mut message = Vec::with_capacity(SKF_AT.saturating_add(body_len));
        write_message(&mut message, header, |payloads| {
            announce(payloads, body_len)
        })?;
        let aad_len = message.len();
        message.extend_from_slice(plain);
        self.outgoing.seal(aad_len, &mut message, entropy)?;
        Ok(message)
    }

    /// Checks the integrity of a message and decrypts it.
    //= rfc7296#2.21.2
    //# Although the IKE_AUTH messages
    //# are encrypted and integrity protected, if the peer receiving this
    //# notification has not authenticated the other end yet, that peer needs
    //# to treat the information with caution.
    pub(crate) fn open(
        &self,
        message: &Message<'_>,
        sk: &SkPayload<'_>,
    ) -> Result<Plaintext, DropReason> {
        self.open_at(message, sk.first_inner, sk.aad_len())
    }

    /// The same with a fragment: its part of the plaintext.
    pub(crate) fn open_fragment(
        &self,
        message: &Message<'_>,
        skf: &SkfPayload<'_>,
    ) -> Result<Plaintext, DropReason> {
        self.open_at(message, skf.first_inner, skf.aad_len())
    }

    fn open_at(
        &self,
        message: &Message<'_>,
        first: PayloadType,
        aad_len: usize,
    ) -> Result<Plaintext, DropReason> {
        let mut octets = message.as_bytes().to_vec();
        let plain = self
            .incoming
            .open(&mut octets, aad_len)
            .map_err(|_| DropReason::IntegrityCheck)?;
        octets.truncate(plain.end);
        octets.drain(..plain.start.min(octets.len()));
        Ok(Plaintext::new(first, octets))
    }
}
