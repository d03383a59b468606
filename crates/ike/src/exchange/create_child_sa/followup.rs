//! IKE_FOLLOWUP_KE: the additional key exchanges of a CREATE_CHILD_SA, one exchange each (RFC 9370 §2.2.4).
//!
//! The SA is made when the last one is over. Until then the initiator has an [`Asking`], the responder an [`Awaiting`],
//! one at most for each IKE SA. If both ends have begun to renew the same SA, the nonces are compared when
//! CREATE_CHILD_SA is over: who has lost goes no further, and there is nothing to delete.

use std::time::Duration;

use cygnet_crypto::{Additional, KeyExchange, PrivateKey, SharedSecret};
use cygnet_wire::{ExchangeType, KeId, Notify, NotifyType, PayloadType, PayloadWriter};
use thiserror::Error;

use super::{Answering, child_responder, ike_responder, refuse};
use crate::contents::Contents;
use crate::context::{Back, Context};
use crate::established::Established;
use crate::reason::{ChildFailure, FailureReason, Party};
use crate::sa::{Core, State};

/// How long a responder waits for the next request. RFC 9370 §2.2.4 finds 5 to 20 seconds appropriate.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// Octets by which we recognise the next request.
const LINK_LEN: usize = 16;

/// So many times in a row the responder may have lost its state before the IKE SA counts as out of step
/// (RFC 9370 §2.2.4: "several retries").
pub(crate) const MAX_FORGOTTEN: u32 = 3;

/// What came of the key exchanges of a CREATE_CHILD_SA, and those that are still to be made.
#[derive(Debug)]
pub(crate) struct KeyExchanges {
    secrets: Vec<SharedSecret>,
    /// The last one first.
    to_do: Vec<KeyExchange>,
}

impl KeyExchanges {
    /// After CREATE_CHILD_SA.
    pub(super) fn new(first: Option<SharedSecret>, additional: &Additional) -> Self {
        let mut to_do: Vec<_> = additional.iter().copied().flatten().collect();
        to_do.reverse();
        let secrets = first.into_iter().collect();
        Self { secrets, to_do }
    }

    /// The method of the next IKE_FOLLOWUP_KE exchange.
    pub(super) fn next(&self) -> Option<KeyExchange> {
        self.to_do.last().copied()
    }

    /// The secrets, in the order of the exchanges.
    pub(super) fn secrets(&self) -> &[SharedSecret] {
        &self.secrets
    }

    fn done(&mut self, secret: SharedSecret) {
        self.to_do.pop();
        self.secrets.push(secret);
    }
}

/// Why an additional key exchange is none.
#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error("the peer does not say how the key exchanges go on")]
    NoLink,
    #[error("a key exchange of IKE_FOLLOWUP_KE is missing")]
    Missing,
    #[error("the peer insists on key exchange method {0}")]
    Method(u16),
    #[error("{0}")]
    Failed(String),
}

impl From<Fault> for ChildFailure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Missing => Self::Missing(PayloadType::KE),
            Fault::Method(method) => Self::KeyExchangeMethod(method),
            Fault::NoLink | Fault::Failed(_) => Self::KeyExchange(fault.to_string()),
        }
    }
}

impl From<Fault> for FailureReason {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoLink | Fault::Missing => Self::InvalidSyntax {
                by: Party::Us,
                detail: fault.to_string(),
            },
            Fault::Method(method) => Self::KeyExchangeMethod(method),
            Fault::Failed(detail) => Self::KeyExchange(detail),
        }
    }
}

/// What the responder gave for the next exchange.
//= rfc9370#2.2.4
//# The data
//# associated with this notification is a blob meaningful only to the
//# responder so that the responder can correctly link successive
//# exchanges.
fn link<'a>(contents: &Contents<'a>) -> Option<&'a [u8]> {
    let notify = contents.notify(NotifyType::ADDITIONAL_KEY_EXCHANGE);
    notify.map(|notify| notify.data)
}

/// The next exchange of an initiator.
#[derive(Debug)]
pub(crate) struct Asking {
    exchanges: KeyExchanges,
    key: Box<dyn PrivateKey>,
    link: Vec<u8>,
    /// It waits for the window.
    pub(super) unsent: bool,
}

impl Asking {
    /// Prepares the exchange that follows one with this response.
    pub(super) fn new(
        cx: &mut Context<'_>,
        exchanges: KeyExchanges,
        method: KeyExchange,
        contents: &Contents<'_>,
    ) -> Result<Self, Fault> {
        let link = link(contents).ok_or(Fault::NoLink)?.to_vec();
        let key = cx.key_exchange.generate(method, cx.entropy);
        Ok(Self {
            exchanges,
            key: key.map_err(|error| Fault::Failed(error.to_string()))?,
            link,
            unsent: true,
        })
    }

    /// Sends the request.
    pub(super) fn send(
        &mut self,
        established: &mut Established,
        core: &mut Core,
        cx: &mut Context<'_>,
    ) -> Result<(), String> {
        self.unsent = false;
        let (channel, exchange) = (&mut established.channel, ExchangeType::IKE_FOLLOWUP_KE);
        let sent = core.request(cx, channel, exchange, |payloads| {
            payloads.ke(KeId(self.key.method().iana_id()), self.key.public());
            write_link(&self.link, payloads);
        });
        sent.map_err(|error| error.to_string())
    }

    /// Whether the peer has all that it needs once it has answered this one.
    pub(super) fn is_last(&self) -> bool {
        self.exchanges.to_do.len() <= 1
    }

    /// The response: the secrets so far.
    pub(super) fn finish(mut self, contents: &Contents<'_>) -> Result<KeyExchanges, Fault> {
        let ke = contents.ke.ok_or(Fault::Missing)?;
        if ke.method.0 != self.key.method().iana_id() {
            return Err(Fault::Method(ke.method.0));
        }
        let secret = self.key.agree(ke.data);
        let secret = secret.map_err(|error| Fault::Failed(error.to_string()))?;
        self.exchanges.done(secret);
        Ok(self.exchanges)
    }
}

pub(super) fn write_link(link: &[u8], payloads: &mut PayloadWriter<'_>) {
    payloads.notify(&Notify::new(NotifyType::ADDITIONAL_KEY_EXCHANGE, link));
}

/// The next exchange as a responder awaits it.
#[derive(Debug)]
pub(crate) struct Awaiting {
    link: [u8; LINK_LEN],
}

impl Awaiting {
    pub(super) fn new(cx: &mut Context<'_>) -> Self {
        Self { link: cx.random() }
    }

    pub(super) fn write(&self, payloads: &mut PayloadWriter<'_>) {
        write_link(&self.link, payloads);
    }

    /// Whether a request goes on from there.
    pub(super) fn is_meant(&self, contents: &Contents<'_>) -> bool {
        link(contents).is_some_and(|link| link == self.link)
    }
}

/// Our half of a key exchange.
#[derive(Debug)]
pub(super) struct OurHalf {
    pub(super) method: KeId,
    pub(super) public: Vec<u8>,
}

impl OurHalf {
    pub(super) fn write(&self, payloads: &mut PayloadWriter<'_>) {
        payloads.ke(self.method, &self.public);
    }
}

/// The responder's part in the next exchange.
pub(super) fn respond(
    cx: &mut Context<'_>,
    exchanges: &mut KeyExchanges,
    contents: &Contents<'_>,
) -> Result<OurHalf, Fault> {
    let ke = contents.ke.ok_or(Fault::Missing)?;
    let method = exchanges.next().filter(|m| m.iana_id() == ke.method.0);
    let method = method.ok_or(Fault::Method(ke.method.0))?;
    let (public, secret) = cx
        .key_exchange
        .respond(method, ke.data, cx.entropy)
        .map_err(|error| Fault::Failed(error.to_string()))?;
    exchanges.done(secret);
    let method = ke.method;
    Ok(OurHalf { method, public })
}

/// Answers a request.
pub(crate) fn answer(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    contents: &Contents<'_>,
    back: Back,
) -> State {
    match established.answering.take_if(|a| a.goes_on_with(contents)) {
        Some(Answering::Child(answering)) => {
            child_responder::on_followup(established, core, cx, *answering, contents, back)
        }
        Some(Answering::Ike(answering)) => {
            ike_responder::on_followup(established, core, cx, *answering, contents, back)
        }
        // Of what we know nothing, or no more, we say so (RFC 9370 §2.2.4).
        None => {
            let notify = Notify::new(NotifyType::STATE_NOT_FOUND, &[]);
            let exchange = ExchangeType::IKE_FOLLOWUP_KE;
            refuse(established, core, cx, exchange, back, &notify)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_crypto::SecretBytes;

    /// `SK(0)`, then `SK(1)` to `SK(n)` (RFC 9370 §2.2.4).
    #[test]
    fn the_order_is_that_of_the_transform_types() {
        let secret = |octet| SharedSecret::new(SecretBytes::copy_from(&[octet]));
        let mut additional = Additional::default();
        additional[2] = Some(KeyExchange::MlKem768);
        additional[6] = Some(KeyExchange::Ecp384);
        let mut exchanges = KeyExchanges::new(Some(secret(0)), &additional);
        for (method, octet) in [(KeyExchange::MlKem768, 1), (KeyExchange::Ecp384, 2)] {
            assert_eq!(exchanges.next(), Some(method));
            exchanges.done(secret(octet));
        }
        assert_eq!(exchanges.next(), None);
        assert_eq!(exchanges.secrets(), [secret(0), secret(1), secret(2)]);
    }
}
