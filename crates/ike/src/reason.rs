//! Why something failed, ended or was refused: typed, with a stable name for machines and a sentence for people.
//!
//! Each enum says who is to blame: `by` tells whether we or the peer decided, and the names separate what is
//! wrong with the configuration from what is wrong with the peer.

use std::net::IpAddr;

use cygnet_crypto::{EspProposal, IkeProposal};
use cygnet_ipsec::SecurityLabel;
use cygnet_wire::{ExchangeType, Gateway, NotifyType, PayloadType, Proposal, TrafficSelector};
use thiserror::Error;

use crate::describe::{list, proposals};
use crate::identity::{Identity, IdentityError};
use crate::io::Refusal;
use crate::ticket::TicketRefusal;

/// Who found the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// We did.
    Us,
    /// The peer did and told us.
    Peer,
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Us => "we",
            Self::Peer => "the peer",
        })
    }
}

macro_rules! names {
    ($type:ident { $($variant:ident => $name:literal),* $(,)? }) => {
        impl $type {
            /// The stable name in logs, status and metrics.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $name),* }
            }
        }
    };
}

/// Why an IKE SA did not come about.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum FailureReason {
    /// The peer is silent.
    #[error("no response to {exchange} after {sent} transmissions")]
    NoResponse {
        /// The exchange.
        exchange: ExchangeType,
        /// How many times the request was sent.
        sent: u32,
    },
    /// The two ends have no algorithms in common.
    #[error("no proposal chosen: ours {}; the peer's {}", list(ours), theirs.as_deref().map_or("unknown".into(), proposals))]
    NoProposalChosen {
        /// Who refused.
        by: Party,
        /// What we offer or accept.
        ours: Vec<IkeProposal>,
        /// What the peer offers, if it said so.
        theirs: Option<Vec<Proposal>>,
    },
    /// The proof of an identity is wrong.
    #[error("authentication failed: {cause}")]
    AuthenticationFailed {
        /// Who refused.
        by: Party,
        /// What was wrong.
        cause: AuthFailure,
    },
    /// The peer is not who it should be.
    #[error("the peer's identity is {got}, expected {expected}")]
    WrongIdentity {
        /// Whom we expected.
        expected: String,
        /// Who it says it is.
        got: Identity,
    },
    /// The peer asks for an identity that is not ours.
    #[error("the peer wants to talk to {wanted}, we are {ours}")]
    WrongLocalIdentity {
        /// Whom the peer wants.
        wanted: Identity,
        /// Who we are.
        ours: String,
    },
    /// The peer's identity cannot be read.
    #[error("the peer's {0}")]
    BadIdentity(IdentityError),
    /// There is no pre-shared key for the pair.
    #[error("no pre-shared key between {local} and {remote}")]
    NoPsk {
        /// Our identity.
        local: Identity,
        /// The peer's identity.
        remote: Identity,
    },
    /// A PPK must be used, and there is none for the peer.
    #[error("a post-quantum pre-shared key is required, and there is none for the peer")]
    NoPpk,
    /// A PPK must be used, and the peer does not use it.
    #[error("a post-quantum pre-shared key is required, and the peer does not use ours")]
    PpkRequired,
    /// The peer insists on a PPK that is not known here.
    #[error("the peer names a post-quantum pre-shared key that is not one for it")]
    PpkUnknown,
    /// No configuration fits the authenticated peer.
    #[error("no configuration for peer {remote}")]
    NoConfiguration {
        /// The peer's identity.
        remote: Identity,
    },
    /// The identity has as many IKE SAs as one may have.
    #[error("peer {remote} has {count} IKE SAs with us already")]
    TooManyIkeSas {
        /// The peer's identity.
        remote: Identity,
        /// How many it has.
        count: usize,
    },
    /// The identity is connected from elsewhere, and that connection is kept (`uniqueids=keep`).
    #[error("peer {remote} is connected from {address} already")]
    AlreadyConnected {
        /// The peer's identity.
        remote: Identity,
        /// Where it is connected from.
        address: IpAddr,
    },
    /// The key exchange itself failed.
    #[error("key exchange failed: {0}")]
    KeyExchange(String),
    /// The peer asks for a key exchange method that we did not offer, or again and again for another one.
    #[error("the peer insists on key exchange method {0}")]
    KeyExchangeMethod(u16),
    /// The peer asks for one cookie after the other.
    #[error("the peer asked for a cookie {0} times")]
    CookieLoop(u32),
    /// The peer wants to see more work than we do.
    #[error("the peer wants a puzzle of {difficulty} bits solved, we solve them up to {limit}")]
    PuzzleTooHard {
        /// Zero bits that it asks for.
        difficulty: u8,
        /// Our limit.
        limit: u8,
    },
    /// The peer's puzzle was not solved.
    #[error("the peer's puzzle of {difficulty} bits was not solved: {cause}")]
    PuzzleUnsolved {
        /// Zero bits that it asks for.
        difficulty: u8,
        /// Why not.
        cause: String,
    },
    /// The peer's puzzle is made with a function that we did not offer or do not solve puzzles with.
    #[error("the peer wants a puzzle solved with pseudorandom function {0}")]
    PuzzleFunction(u16),
    /// The peer speaks another major version of IKE.
    #[error("the peer speaks IKE version {0}")]
    MajorVersion(u8),
    /// A payload that must be understood is not.
    #[error("{by} did not understand critical payload {payload}")]
    UnsupportedCriticalPayload {
        /// Who did not understand.
        by: Party,
        /// The payload.
        payload: PayloadType,
    },
    /// A message is malformed.
    #[error("{by} found a malformed message{}{detail}", if detail.is_empty() { "" } else { ": " })]
    InvalidSyntax {
        /// Who found it so.
        by: Party,
        /// What is wrong, if known.
        detail: String,
    },
    /// The peer refuses for another reason.
    #[error("the peer refuses: {0}")]
    PeerNotify(NotifyType),
    /// A responder waited in vain for IKE_AUTH.
    #[error("the peer did not finish the exchange in time")]
    HalfOpenTimeout,
    /// The IKE SA is to be made without a child SA, and the peer cannot do that (RFC 6023).
    #[error("the peer cannot make an IKE SA without a child SA")]
    ChildlessUnsupported,
    /// The peer asks for a child SA with IKE_AUTH, where we make none.
    #[error("the peer asks for a child SA in IKE_AUTH, where none is to be made")]
    ChildlessRequired,
    /// The peer is busy, and was each time that we asked again.
    #[error("the peer is busy: it refuses for the time being")]
    TemporaryFailure,
    /// The peer does not take the ticket by which a session was to be resumed (RFC 5723).
    #[error("the peer does not take our ticket")]
    TicketRefused,
    /// The ticket by which the peer resumes a session has been good, and is not any more.
    #[error("the peer's ticket is refused: {0}")]
    TicketVoid(TicketRefusal),
    /// The gateway sends us to another one (RFC 5685).
    #[error("the gateway sends us to {to}")]
    Redirected {
        /// To which one.
        to: Gateway,
    },
    /// The gateway sends us where we do not go.
    #[error("the gateway sends us to {to}, which the configuration does not permit")]
    RedirectForbidden {
        /// To which one.
        to: Gateway,
    },
    /// A responder waited in vain for the peer's next key exchange (RFC 9370 §2.2.4).
    #[error("the peer did not go on with its additional key exchanges")]
    Unfinished,
    /// We gave it up ourselves.
    #[error("cancelled")]
    Cancelled,
    /// Something outside refused.
    #[error("{0}")]
    Refused(Refusal),
    /// A message of ours has no encoding: the configuration is larger than messages can be.
    #[error("the message cannot be written: {0}")]
    Unsendable(String),
    /// The peer forbids NATs, and there is one on the way (RFC 4555 §3.9).
    #[error("there is a NAT on the way, which the peer forbids")]
    UnexpectedNat,
}

names!(FailureReason {
    UnexpectedNat => "unexpected_nat",
    NoResponse => "no_response",
    NoProposalChosen => "no_proposal_chosen",
    AuthenticationFailed => "authentication_failed",
    WrongIdentity => "wrong_identity",
    WrongLocalIdentity => "wrong_local_identity",
    BadIdentity => "bad_identity",
    NoPsk => "no_psk",
    NoPpk => "no_ppk",
    PpkRequired => "ppk_required",
    PpkUnknown => "ppk_unknown",
    NoConfiguration => "no_configuration",
    TooManyIkeSas => "too_many_ike_sas",
    AlreadyConnected => "already_connected",
    KeyExchange => "key_exchange_failed",
    KeyExchangeMethod => "key_exchange_method",
    CookieLoop => "cookie_loop",
    PuzzleTooHard => "puzzle_too_hard",
    PuzzleUnsolved => "puzzle_unsolved",
    PuzzleFunction => "puzzle_function",
    MajorVersion => "major_version",
    UnsupportedCriticalPayload => "unsupported_critical_payload",
    InvalidSyntax => "invalid_syntax",
    PeerNotify => "peer_notify",
    HalfOpenTimeout => "half_open_timeout",
    ChildlessUnsupported => "childless_unsupported",
    ChildlessRequired => "childless_required",
    TicketRefused => "ticket_refused",
    TicketVoid => "ticket_void",
    Redirected => "redirected",
    RedirectForbidden => "redirect_forbidden",
    TemporaryFailure => "temporary_failure",
    Unfinished => "unfinished",
    Cancelled => "cancelled",
    Refused => "refused",
    Unsendable => "unsendable",
});

/// What is wrong with an authentication.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthFailure {
    /// The AUTH data is not what the pre-shared key gives.
    #[error("the AUTH payload does not verify: the pre-shared keys differ")]
    WrongPsk,
    /// The AUTH data is not what the keys of the session give that is resumed.
    #[error("the AUTH payload does not verify: the peer does not have the keys of the session")]
    WrongSession,
    /// The AUTH payload is of a method that the configuration does not allow.
    #[error("the peer uses authentication method {0}")]
    Method(u8),
    /// A payload of the authentication is missing.
    #[error("the peer did not send {0}")]
    Missing(PayloadType),
    /// The peer refused us and does not say why.
    #[error("the peer refused our identity or key")]
    ByPeer,
}

/// Why an established IKE SA is gone.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CloseReason {
    /// We deleted it.
    #[error("deleted by us")]
    DeletedByUs,
    /// The peer deleted it.
    #[error("deleted by the peer")]
    DeletedByPeer,
    /// The peer is silent.
    #[error("no response to {exchange} after {sent} transmissions")]
    PeerUnresponsive {
        /// The exchange.
        exchange: ExchangeType,
        /// How many times the request was sent.
        sent: u32,
    },
    /// The peer began anew and says that it has no other SA with us.
    #[error("replaced by a new IKE SA: the peer has lost this one")]
    ReplacedByInitialContact,
    /// The peer has shown that it has lost this IKE SA (RFC 6290).
    #[error("the peer has lost this IKE SA, as its token shows")]
    PeerCrashed,
    /// The peer says that we failed to authenticate ourselves.
    #[error("the peer reports {0}")]
    PeerNotify(NotifyType),
    /// The peer has answered a return routability check without having seen it (RFC 4555 §3.7).
    #[error("the peer did not return the cookie of a return routability check")]
    ReturnRoutability,
    /// A message is malformed.
    #[error("{by} found a malformed message{}{detail}", if detail.is_empty() { "" } else { ": " })]
    InvalidSyntax {
        /// Who found it so.
        by: Party,
        /// What is wrong, if known.
        detail: String,
    },
    /// The gateway sends us to another one (RFC 5685 §5).
    #[error("the gateway sends us to {to}")]
    Redirected {
        /// To which one.
        to: Gateway,
    },
    /// We have sent the peer to another gateway, and it has not deleted the SA itself.
    #[error("the peer has been sent to another gateway")]
    SentAway,
    /// Its successor stands.
    #[error("rekeyed")]
    Rekeyed,
    /// The peer has lost it, and has resumed the session (RFC 5723).
    #[error("resumed: the peer had lost it")]
    Resumed,
    /// The peer refuses for the time being, and has for minutes: the two ends have different pictures of the SA.
    #[error("out of step with the peer, which has been busy for too long")]
    OutOfStep,
}

names!(CloseReason {
    ReturnRoutability => "return_routability",
    DeletedByUs => "deleted_by_us",
    DeletedByPeer => "deleted_by_peer",
    PeerUnresponsive => "peer_unresponsive",
    ReplacedByInitialContact => "replaced_by_initial_contact",
    PeerCrashed => "peer_crashed",
    PeerNotify => "peer_notify",
    InvalidSyntax => "invalid_syntax",
    Redirected => "redirected",
    SentAway => "sent_away",
    Rekeyed => "rekeyed",
    Resumed => "resumed",
    OutOfStep => "out_of_step",
});

impl CloseReason {
    /// Whether the peer has been lost, and no end has deleted the SA: its session may be resumed.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self, Self::PeerUnresponsive { .. } | Self::PeerCrashed)
    }
}

/// Why a child SA did not come about.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ChildFailure {
    /// The two ends have no algorithms in common.
    #[error("no proposal chosen: ours {}; the peer's {}", list(ours), theirs.as_deref().map_or("unknown".into(), proposals))]
    NoProposalChosen {
        /// Who refused.
        by: Party,
        /// What we offer or accept.
        ours: Vec<EspProposal>,
        /// What the peer offers, if it said so.
        theirs: Option<Vec<Proposal>>,
    },
    /// The two ends have no traffic in common.
    #[error(
        "traffic selectors unacceptable: ours {} === {}{}",
        list(ours_local),
        list(ours_remote),
        theirs_text(theirs)
    )]
    TsUnacceptable {
        /// Who refused.
        by: Party,
        /// Our selectors of our side.
        ours_local: Vec<TrafficSelector>,
        /// Our selectors of the peer's side.
        ours_remote: Vec<TrafficSelector>,
        /// What the peer sent: of our side, of its side.
        theirs: Option<(Vec<TrafficSelector>, Vec<TrafficSelector>)>,
    },
    /// The two ends have different security labels (RFC 9478), or one has one and the other not.
    #[error("security labels differ: ours {}; the peer's {theirs}", ours.as_ref().map_or("none".to_owned(), |label| label.to_string()))]
    LabelUnacceptable {
        /// Our label.
        ours: Option<SecurityLabel>,
        /// The peer's, for people.
        theirs: String,
    },
    /// Only single pairs of addresses are accepted, and more was asked for.
    #[error("{0} accept only a single pair of addresses per child SA")]
    SinglePairRequired(Party),
    /// The two ends want different modes.
    #[error("the peer did not agree to {0} mode")]
    ModeMismatch(&'static str),
    /// There are as many child SAs of the same selectors as the one end wants (TS_MAX_QUEUE, RFC 9611).
    #[error("{0} accept no more child SAs of the same traffic selectors")]
    MaxQueue(Party),
    /// AH protects the addresses that a NAT changes.
    #[error("AH does not go through a NAT")]
    AhBehindNat,
    /// The peer answered with something that was not offered.
    #[error("the peer's answer is not within our offer: {0}")]
    NotOffered(String),
    /// The answer lacks a payload.
    #[error("the peer did not send {0}")]
    Missing(PayloadType),
    /// No inbound SPI could be had.
    #[error("no SPI: {0}")]
    SpiRefused(Refusal),
    /// The data plane did not take the SAs.
    #[error("installation failed: {0}")]
    InstallFailed(Refusal),
    /// The peer could not assign an inner address.
    #[error("the peer could not assign an inner address")]
    InternalAddressFailure(Party),
    /// The peer wants us to ask for an inner address first.
    #[error("the peer requires a configuration request")]
    FailedCpRequired,
    /// The peer wants no more child SAs under this IKE SA.
    #[error("the peer accepts no more child SAs under this IKE SA")]
    NoAdditionalSas,
    /// The peer refuses for another reason.
    #[error("the peer refuses: {0}")]
    PeerNotify(NotifyType),
    /// The IKE SA failed or was closed before.
    #[error("the IKE SA ended before")]
    IkeSaEnded,
    /// Our limit on child SAs of one IKE SA is reached.
    #[error("too many child SAs under one IKE SA")]
    TooMany,
    /// The peer has chosen an SPI by which it has another child SA: a Delete could mean either.
    #[error("the peer's SPI {0:#010x} is that of another child SA")]
    SpiInUse(u32),
    /// The peer has deleted it before it could be used.
    #[error("the peer deleted it at once")]
    DeletedByPeer,
    /// The key exchange itself failed.
    #[error("key exchange failed: {0}")]
    KeyExchange(String),
    /// The peer asks for a key exchange method that we did not offer, or again and again for another one.
    #[error("the peer insists on key exchange method {0}")]
    KeyExchangeMethod(u16),
    /// The peer is busy, and was each time that we asked again.
    #[error("the peer is busy: it refuses for the time being")]
    TemporaryFailure,
    /// A responder waited in vain for the peer's next key exchange (RFC 9370 §2.2.4).
    #[error("the peer did not go on with its additional key exchanges")]
    Unfinished,
    /// We gave it up ourselves.
    #[error("cancelled")]
    Cancelled,
    /// A message of ours has no encoding: the configuration is larger than messages can be.
    #[error("the message cannot be written: {0}")]
    Unsendable(String),
}

fn theirs_text(theirs: &Option<(Vec<TrafficSelector>, Vec<TrafficSelector>)>) -> String {
    theirs.as_ref().map_or_else(String::new, |(local, remote)| {
        format!("; the peer's {} === {}", list(local), list(remote))
    })
}

names!(ChildFailure {
    NoProposalChosen => "no_proposal_chosen",
    TsUnacceptable => "ts_unacceptable",
    LabelUnacceptable => "label_unacceptable",
    SinglePairRequired => "single_pair_required",
    ModeMismatch => "mode_mismatch",
    MaxQueue => "max_queue",
    NotOffered => "not_offered",
    Missing => "missing_payload",
    SpiRefused => "spi_refused",
    InstallFailed => "install_failed",
    InternalAddressFailure => "internal_address_failure",
    FailedCpRequired => "failed_cp_required",
    NoAdditionalSas => "no_additional_sas",
    PeerNotify => "peer_notify",
    IkeSaEnded => "ike_sa_ended",
    TooMany => "too_many_children",
    SpiInUse => "spi_in_use",
    AhBehindNat => "ah_behind_nat",
    DeletedByPeer => "deleted_by_peer",
    KeyExchange => "key_exchange_failed",
    KeyExchangeMethod => "key_exchange_method",
    TemporaryFailure => "temporary_failure",
    Unfinished => "unfinished",
    Cancelled => "cancelled",
    Unsendable => "unsendable",
});

/// Why an installed child SA is gone.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ChildCloseReason {
    /// We deleted it.
    #[error("deleted by us")]
    DeletedByUs,
    /// The peer deleted it.
    #[error("deleted by the peer")]
    DeletedByPeer,
    /// Its IKE SA is gone.
    #[error("the IKE SA is gone: {0}")]
    IkeSaClosed(CloseReason),
    /// Its successor stands.
    #[error("rekeyed")]
    Rekeyed,
    /// It was made while the peer made another one, and that one stays.
    #[error("redundant: both ends have rekeyed at the same time")]
    Redundant,
    /// The peer does not know it.
    #[error("the peer has lost it")]
    UnknownToPeer,
}

names!(ChildCloseReason {
    DeletedByUs => "deleted_by_us",
    DeletedByPeer => "deleted_by_peer",
    IkeSaClosed => "ike_sa_closed",
    Rekeyed => "rekeyed",
    Redundant => "redundant",
    UnknownToPeer => "unknown_to_peer",
});

/// Why a request was refused before there was an IKE SA.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum RejectReason {
    /// No configuration is for such a peer.
    #[error("no configuration for this pair of addresses")]
    NoConfiguration,
    /// The two ends have no algorithms in common.
    #[error(
        "no proposal chosen: ours {}; the peer's {}",
        list(ours),
        proposals(theirs)
    )]
    NoProposalChosen {
        /// What we accept.
        ours: Vec<IkeProposal>,
        /// What the peer offers.
        theirs: Vec<Proposal>,
    },
    /// The peer's key exchange value is unacceptable.
    #[error("key exchange failed: {0}")]
    KeyExchange(String),
    /// The ticket by which a session was to be resumed is not accepted (RFC 5723).
    #[error("the ticket is refused: {0}")]
    Ticket(TicketRefusal),
    /// The message is malformed.
    #[error("malformed request: {0}")]
    InvalidSyntax(String),
    /// A payload that must be understood is not.
    #[error("critical payload {0} is not understood")]
    UnsupportedCriticalPayload(PayloadType),
    /// Another major version of IKE.
    #[error("IKE version {0} is not spoken here")]
    MajorVersion(u8),
    /// Too many half-open SAs.
    #[error("{0} IKE SAs are half open")]
    HalfOpenLimit(usize),
    /// Too many half-open SAs from this address.
    #[error("{count} IKE SAs from {address} are half open")]
    HalfOpenLimitOfAddress {
        /// The address.
        address: IpAddr,
        /// How many.
        count: usize,
    },
}

names!(RejectReason {
    NoConfiguration => "no_configuration",
    NoProposalChosen => "no_proposal_chosen",
    KeyExchange => "key_exchange_failed",
    Ticket => "ticket_refused",
    InvalidSyntax => "invalid_syntax",
    UnsupportedCriticalPayload => "unsupported_critical_payload",
    MajorVersion => "major_version",
    HalfOpenLimit => "half_open_limit",
    HalfOpenLimitOfAddress => "half_open_limit_of_address",
});
