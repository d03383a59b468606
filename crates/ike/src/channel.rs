//! The protected channel of an IKE SA: the Encrypted payload and the header around it (RFC 7296 §3.1, §3.14).

use std::ops::Range;

use cygnet_crypto::{Entropy, IkeKeys, IkeSuite, Protection, ProtectionError, SkD};
use cygnet_wire::{
    Header, Message, Payload, PayloadChain, PayloadType, PayloadWriter, WriteError, write_message,
};
use thiserror::Error;

use crate::info::Role;
use crate::stats::DropReason;

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

/// The plaintext of a message whose integrity has been checked.
#[derive(Debug)]
pub(crate) struct Opened {
    first: PayloadType,
    buffer: Vec<u8>,
    plaintext: Range<usize>,
}

impl Opened {
    /// The payloads within.
    pub(crate) fn chain(&self) -> PayloadChain<'_> {
        PayloadChain::new(
            self.first,
            self.buffer.get(self.plaintext.clone()).unwrap_or_default(),
        )
    }
}

impl Channel {
    /// The channel as `role` uses it.
    pub(crate) fn new(
        role: Role,
        suite: &IkeSuite,
        keys: &IkeKeys,
    ) -> Result<Self, ProtectionError> {
        let initiator = keys.initiator_protection(suite)?;
        let responder = keys.responder_protection(suite)?;
        let (outgoing, incoming) = match role {
            Role::Initiator => (initiator, responder),
            Role::Responder => (responder, initiator),
        };
        Ok(Self {
            outgoing,
            incoming,
            sk_d: keys.sk_d.clone(),
        })
    }

    /// A whole message with the payloads that `write` writes inside the Encrypted payload.
    pub(crate) fn seal(
        &mut self,
        header: &Header,
        entropy: &mut dyn Entropy,
        write: impl FnOnce(&mut PayloadWriter<'_>),
    ) -> Result<Vec<u8>, SealError> {
        let mut plaintext = Vec::new();
        let mut writer = PayloadWriter::new(&mut plaintext);
        write(&mut writer);
        let first = writer.finish()?;
        let body_len = self.outgoing.body_len(plaintext.len());
        let mut message =
            Vec::with_capacity(Header::LEN.saturating_add(4).saturating_add(body_len));
        write_message(&mut message, header, |payloads| {
            payloads.sk(first, body_len);
        })?;
        let aad_len = message.len();
        message.extend_from_slice(&plaintext);
        self.outgoing.seal(aad_len, &mut message, entropy)?;
        Ok(message)
    }

    /// Checks the integrity of a message and decrypts it.
    //= rfc7296#2.21.2
    //# Although the IKE_AUTH messages
    //# are encrypted and integrity protected, if the peer receiving this
    //# notification has not authenticated the other end yet, that peer needs
    //# to treat the information with caution.
    pub(crate) fn open(&self, message: &Message<'_>) -> Result<Opened, DropReason> {
        // The Encrypted payload may be preceded by others, which are not encrypted and which nobody defined:
        // they are ignored, as unknown ones are.
        let sk = message.payloads().find_map(|payload| match payload {
            Ok(Payload::Sk(sk)) => Some(sk),
            _ => None,
        });
        let sk = sk.ok_or(DropReason::Unprotected)?;
        let mut buffer = message.as_bytes().to_vec();
        let plaintext = self
            .incoming
            .open(&mut buffer, sk.aad_len())
            .map_err(|_| DropReason::IntegrityCheck)?;
        Ok(Opened {
            first: sk.first_inner,
            buffer,
            plaintext,
        })
    }
}
