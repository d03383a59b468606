//! Quick crash detection (RFC 6290): each end gives the other a token by which it can show, once it has lost everything,
//! that it has.
//!
//! A token is a hash over the SPIs of the IKE SA and a secret that survives a restart. It is passed under the protection
//! of that IKE SA and shown in clear when the IKE SA is gone.

use cygnet_crypto::{SecretBytes, constant_time_eq, sha256};
use cygnet_wire::{
    ExchangeType, IkeSpi, Message, Notify, NotifyType, Payload, PayloadWriter, ProtocolId,
};

use crate::channel::Protected;
use crate::contents::Contents;
use crate::context::{Context, Limiter};
use crate::io::Event;
use crate::sa::Core;
use crate::stats::DropReason;

/// Octets of our tokens.
//= rfc6290#5
//# Tokens MUST be at least 16 octets long, and no more than 128
//# octets long, to facilitate storage and transmission.
const TOKEN_LEN: usize = 16;

/// Octets that a peer's token may have.
const PEER_TOKEN_LEN: std::ops::RangeInclusive<usize> = 16..=128;

/// Tokens of one message that are looked at, or sent.
//= rfc6290#4.5
//# To support a periodic rollover of the secret used for token
//# generation, the token taker MUST support at least four QCD_TOKEN
//# notifications in a single packet.
const MAX_TOKENS: usize = 4;

/// Messages with tokens that are looked at, per second and IKE SA.
//= rfc6290#8.1
//# In order to limit the effects of Denial-of-Service (DoS) attacks, a
//# token taker SHOULD limit the rate of QCD_TOKENs verified from a
//# particular source.
const LOOKS_PER_SECOND: u32 = 20;

/// Octets of the shortest protected request there is: a header, and an SK payload that holds nothing, with the shortest
/// IV and ICV. The answer with a token has eleven more, and 24 more for each that a former secret makes.
const SHORTEST_REQUEST: usize = 49;

/// A token of ours.
#[derive(Debug)]
pub(crate) struct Token(SecretBytes);

impl Token {
    /// The token of an IKE SA with these SPIs.
    //= rfc6290#1.1
    //# A conforming
    //# implementation MUST be able to generate the same token from the same
    //# input even after rebooting.
    //= rfc6290#5.1
    //# TOKEN_SECRET_DATA = HASH(QCD_SECRET | SPI-I | SPI-R)
    //= rfc6290#5
    //# The token maker MUST be able to re-generate or retrieve the token
    //# based on the IKE SPIs even after it reboots.
    //= rfc6290#5
    //# The method of token generation MUST be such that a collision of QCD
    //# tokens between different pairs of IKE SPI will be highly unlikely.
    fn new(secret: &SecretBytes, initiator: IkeSpi, responder: IkeSpi) -> Self {
        let (i, r) = (initiator.0.to_be_bytes(), responder.0.to_be_bytes());
        let hash = sha256(&[secret.as_ref(), &i, &r]);
        Self(SecretBytes::copy_from(
            hash.get(..TOKEN_LEN).unwrap_or(&hash),
        ))
    }

    //= rfc6290#4.1
    //# Protocol ID (1 octet) MUST be 1, as this message is related to an
    //# IKE SA.
    //= rfc6290#4.1
    //# SPI Size (1 octet) MUST be zero, in conformance with Section 3.10 of
    //# [RFC5996].
    //= rfc6290#4.1
    //# QCD Token Notify Message Type (2 octets) - MUST be 16419, the value
    //# assigned for QCD token notifications.
    fn notify(&self) -> Notify<'_> {
        Notify {
            protocol: ProtocolId::IKE,
            ..Notify::new(NotifyType::QUICK_CRASH_DETECTION, self.0.as_ref())
        }
    }

    /// Writes it into a message that the IKE SA protects.
    pub(crate) fn write(&self, payloads: &mut PayloadWriter<'_>) {
        payloads.notify(&self.notify());
    }
}

/// Our token of an IKE SA, if its peer is to have one.
pub(crate) fn own(core: &Core, cx: &Context<'_>) -> Option<Token> {
    of(core, cx, core.initiator_spi, core.responder_spi)
}

/// The same of a successor with these SPIs.
pub(crate) fn of(
    core: &Core,
    cx: &Context<'_>,
    initiator: IkeSpi,
    responder: IkeSpi,
) -> Option<Token> {
    let secret = cx.config.crash_secrets.first()?;
    let wanted = core.config.crash_detection;
    wanted.then(|| Token::new(secret, initiator, responder))
}

/// What is kept of a peer's token, and how often it has been compared.
#[derive(Debug)]
pub(crate) struct PeerToken {
    digest: [u8; 32],
    looks: Limiter,
    complaints: Limiter,
}

/// The peer's token in a protected message.
//= rfc6290#3
//# A supporting implementation receiving such a token MUST store it (or
//# a digest thereof) along with the IKE SA.
pub(crate) fn read(core: &Core, contents: &Contents<'_>) -> Option<Box<PeerToken>> {
    let token = contents.notify(NotifyType::QUICK_CRASH_DETECTION)?.data;
    let taken = core.config.crash_detection && PEER_TOKEN_LEN.contains(&token.len());
    taken.then(|| {
        Box::new(PeerToken {
            digest: sha256(&[token]),
            looks: Limiter::default(),
            complaints: Limiter::default(),
        })
    })
}

/// Keeps the peer's token, if the message has one. It takes the place of an earlier one.
//= rfc6290#4.4
//# A token taker MUST accept such gratuitous QCD_TOKEN notifications as
//# long as they are carried in protected exchanges.
//= rfc6290#4.2
//# In any case, the lack of a QCD_TOKEN notification MUST NOT be taken as
//# an indication that the peer does not support this standard.
pub(crate) fn heed(core: &mut Core, contents: &Contents<'_>) {
    if let Some(token) = read(core, contents) {
        core.peer_token = Some(token);
    }
}

/// Whether an unprotected message shows that the peer has lost the IKE SA. A wrong token changes nothing, and is told of
/// now and then.
//= rfc6290#3
//# When a token taker receives the QCD token in an unprotected
//# notification, it MUST verify that the TOKEN_SECRET_DATA matches the
//# token stored with the matching IKE SA.
//= rfc6290#4.5
//# The token is considered verified
//# if any of the QCD_TOKEN notifications matches.
//= rfc6290#4.5
//# If the QCD_TOKEN cannot be
//# validated, a response MUST NOT be sent, and the event may be logged.
//= rfc6290#3
//# If it succeeds, it MUST silently delete the IKE SA associated with the
//# IKE_SPI fields and all dependent child SAs.
pub(crate) fn is_proven_lost(core: &mut Core, cx: &mut Context<'_>, message: &Message<'_>) -> bool {
    let Some(kept) = &mut core.peer_token else {
        return false;
    };
    let shown: Vec<_> = message
        .payloads()
        .filter_map(|payload| match payload {
            Ok(Payload::Notify(notify)) => Some(notify),
            _ => None,
        })
        .filter(|notify| notify.kind == NotifyType::QUICK_CRASH_DETECTION)
        .take(MAX_TOKENS)
        .collect();
    if shown.is_empty() {
        return false;
    }
    if !kept.looks.take(cx.now, LOOKS_PER_SECOND) {
        cx.drop(DropReason::RateLimited);
        return false;
    }
    let is_it = |notify: &Notify<'_>| constant_time_eq(&sha256(&[notify.data]), &kept.digest);
    if shown.iter().any(is_it) {
        return true;
    }
    let tell = kept.complaints.take(cx.now, 1);
    cx.drop(DropReason::CrashToken);
    if tell {
        cx.event(Event::CrashTokenForged { ike: core.id });
    }
    false
}

/// The tokens to answer a message with that is for an IKE SA which is not here: it may be from before a change of the
/// secret. Nobody must be able to have that of an IKE SA that lives, or is about to: all of those have an SPI of ours,
/// whichever end the message makes us.
//= rfc6290#5.1
//# When sending an unprotected QCD_TOKEN, as many as 4
//# notification payloads may be sent, each from a different
//# QCD_SECRET.
//= rfc6290#9.2
//# A token maker MUST NOT send a valid QCD token in an unprotected
//# message for an existing IKE SA.
pub(crate) fn of_lost(cx: &Context<'_>, message: &Message<'_>) -> Vec<Token> {
    let header = message.header();
    let (i, r) = (header.initiator_spi, header.responder_spi);
    let lives = cx.shared.spis.contains_key(&i) || cx.shared.spis.contains_key(&r);
    //= rfc6290#3
    //# When a token maker receives a protected IKE request message with
    //# unknown IKE SPIs, it SHOULD generate a new token that is identical to
    //# the previous token, and send it to the requesting peer in an
    //# unprotected IKE message as described in Section 4.5.
    let asked = header.exchange != ExchangeType::IKE_SA_INIT
        && Protected::find(message).is_some()
        && message.as_bytes().len() >= SHORTEST_REQUEST
        && ![i, r].contains(&IkeSpi::ZERO);
    if !asked || lives {
        return Vec::new();
    }
    let secrets = cx.config.crash_secrets.iter().take(MAX_TOKENS);
    secrets.map(|secret| Token::new(secret, i, r)).collect()
}

/// The answer to a message that is for an IKE SA which is not here.
//= rfc6290#4.5
//# The QCD_TOKEN and INVALID_IKE_SPI notifications are sent together to
//# support both implementations that conform to this specification and
//# implementations that don't.
pub(crate) fn write_lost(tokens: &[Token], payloads: &mut PayloadWriter<'_>) {
    payloads.notify(&Notify::new(NotifyType::INVALID_IKE_SPI, &[]));
    for token in tokens {
        token.write(payloads);
    }
}
