//! What enters and leaves an [`Endpoint`](crate::Endpoint).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cygnet_crypto::{DirectionKeys, EspSuite, IkeSuite, SecretBytes};
use cygnet_ipsec::{EncapKind, Mode, Protocol};
use cygnet_wire::{Gateway, IkeSpi, NotifyType, ReplayCounterSync, TrafficSelector};
use thiserror::Error;

use crate::config::ChildConfig;
use crate::info::{ChildSaInfo, IkeSaInfo, Role};
use crate::puzzle::Puzzle;
use crate::reason::{
    ChildCloseReason, ChildFailure, CloseReason, FailureReason, Party, RejectReason,
};
use crate::resource::Resource;
use crate::ticket::Ticket;
use crate::transport::Transport;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id! {
    /// Names an IKE SA. Never used twice within an endpoint.
    IkeSaId, "#"
}
id! {
    /// Names a child SA, a pair of ESP SAs. Never used twice within an endpoint.
    ChildSaId, "$"
}
id! {
    /// Names a [`Request`] whose [`Answer`] is awaited. Never used twice within an endpoint.
    RequestId, "?"
}

/// Something that happened outside.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A datagram came in.
    Datagram {
        /// Where it came in: one of our addresses and ports.
        local: SocketAddr,
        /// Where it came from.
        remote: SocketAddr,
        /// The IKE message; a non-ESP marker has been removed.
        bytes: &'a [u8],
        /// What it came in.
        transport: Transport,
    },
    /// A stream is broken, or could not be opened. What has come over it has been said before.
    StreamLost {
        /// Our address and port.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
    },
    /// The time of [`Endpoint::next_timeout`](crate::Endpoint::next_timeout) has come. Too early or too
    /// often does no harm.
    Timeout,
    /// A request has been carried out, or not.
    Answer {
        /// Which request.
        id: RequestId,
        /// What came of it.
        answer: Answer,
    },
}

/// What came of a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Request::AllocateSpi`].
    Spi(Reserved),
    /// To [`Request::SolvePuzzle`]: what [`Puzzle::solve`] has found.
    Solution(Vec<u8>),
    /// To [`Request::LookForTraffic`]: whether anything has come.
    Traffic(bool),
    /// It is done.
    Done,
    /// It cannot be done.
    Failed(Refusal),
}

/// What is reserved for a child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The inbound SPI.
    pub spi: u32,
    /// The inbound compression parameter index, if one was wanted and could be had.
    pub cpi: Option<u16>,
}

impl From<u32> for Reserved {
    fn from(spi: u32) -> Self {
        Self { spi, cpi: None }
    }
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct Refusal {
    /// What sort of obstacle.
    pub kind: RefusalKind,
    /// For people: what was refused and why.
    pub text: String,
}

impl Refusal {
    /// A refusal by its kind and text.
    pub fn new(kind: RefusalKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }
}

/// Sorts of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// The data plane lacks what was asked for.
    Unsupported,
    /// The data plane says that the request is wrong.
    Invalid,
    /// Not permitted.
    NoPermission,
    /// Memory, SPIs or a limit are used up.
    OutOfResources,
    /// Something else.
    Failed,
}

/// Something to be done outside.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a datagram.
    Transmit(Transmit),
    /// Keep a stream, or no longer: an IKE SA uses it, or none does any more. What was transmitted is to be sent before it
    /// is closed.
    Stream {
        /// Our address and port.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
        /// It is in use.
        used: bool,
    },
    /// Do something and answer with [`Input::Answer`] under the same id.
    Request {
        /// The id to answer under.
        id: RequestId,
        /// What to do.
        request: Request,
    },
    /// Take notice.
    Event(Event),
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From which of our addresses and ports.
    pub local: SocketAddr,
    /// To where.
    pub remote: SocketAddr,
    /// What it goes in.
    pub transport: Transport,
    /// The IKE message.
    pub bytes: Vec<u8>,
}

/// Something to do with the SA database, or something that takes long.
#[derive(Clone, Debug)]
pub enum Request {
    /// Reserve an inbound SPI, and perhaps a compression parameter index. Answered with [`Answer::Spi`] or [`Answer::Failed`].
    AllocateSpi {
        /// The IKE SA it is for.
        ike: IkeSaId,
        /// The child SA it is for.
        child: ChildSaId,
        /// Its configuration.
        config: Arc<ChildConfig>,
        /// Our address: the destination of the inbound SA.
        local: IpAddr,
        /// The peer's address.
        remote: IpAddr,
        /// ESP or AH.
        protocol: Protocol,
        /// Reserve a CPI too (RFC 3173). If there is none the answer goes without.
        compress: bool,
        /// Sequence number of the ACQUIRE that asked for it; 0: none.
        acquire_seq: u32,
    },
    /// Solve a puzzle of the peer, elsewhere: it takes seconds of computing. Answered with [`Answer::Solution`] or
    /// [`Answer::Failed`].
    SolvePuzzle {
        /// The IKE SA it is for.
        ike: IkeSaId,
        /// The puzzle.
        puzzle: Puzzle,
        /// Nobody waits for the solution longer than that.
        time: Duration,
    },
    /// Say whether any of these child SAs has received anything since this was asked last, or since it was installed.
    /// Asked when a liveness check is due. Answered with [`Answer::Traffic`] or [`Answer::Failed`].
    LookForTraffic {
        /// The IKE SA they belong to.
        ike: IkeSaId,
        /// Which child SAs: some at least, if there are many.
        children: Vec<ChildSaId>,
    },
    /// Install the SAs and what belongs to them. Answered with [`Answer::Done`] or [`Answer::Failed`].
    /// A failure has undone whatever it did, the SPI included.
    InstallChild(Box<ChildInstall>),
    /// Install the outbound SA of a child SA that was installed without ([`ChildInstall::outbound`]): from now on we send on
    /// it. The answer is noted only.
    ActivateOutbound {
        /// The IKE SA it belongs to.
        ike: IkeSaId,
        /// Which child SA.
        child: ChildSaId,
    },
    /// Remove both SAs. The answer is noted only.
    RemoveChild {
        /// The IKE SA it belongs to.
        ike: IkeSaId,
        /// Which child SA.
        child: ChildSaId,
        /// Our address.
        local: IpAddr,
        /// The peer's address.
        remote: IpAddr,
        /// SPI of what comes in.
        spi_in: u32,
        /// SPI of what goes out.
        spi_out: u32,
        /// ESP or AH.
        protocol: Protocol,
    },
    /// Give back an SPI that was allocated and will not be used. The answer is noted only.
    ReleaseSpi {
        /// The child SA it was for.
        child: ChildSaId,
        /// Our address.
        local: IpAddr,
        /// The peer's address.
        remote: IpAddr,
        /// The SPI.
        spi: u32,
        /// The compression parameter index.
        cpi: Option<u16>,
        /// ESP or AH.
        protocol: Protocol,
    },
}

/// A negotiated child SA, ready for the data plane.
#[derive(Clone, Debug)]
pub struct ChildInstall {
    /// The IKE SA it belongs to.
    pub ike: IkeSaId,
    /// Which child SA.
    pub child: ChildSaId,
    /// The child SA in whose place it comes: it serves the same policies.
    pub replaces: Option<ChildSaId>,
    /// Install the outbound SA too. If not, what we send stays on the old child SA until
    /// [`Request::ActivateOutbound`] (RFC 7296 §2.8).
    pub outbound: bool,
    /// Its configuration.
    pub config: Arc<ChildConfig>,
    /// We were the initiator of the exchange that made it.
    pub initiator: bool,
    /// Our address and IKE port.
    pub local: SocketAddr,
    /// The peer's address and IKE port.
    pub remote: SocketAddr,
    /// What ESP goes into, between these ports; `None`: into IP.
    pub encapsulation: Option<EncapKind>,
    /// Tunnel, transport, BEET or IP-TFS mode, as negotiated.
    pub mode: Mode,
    /// ESP or AH.
    pub protocol: Protocol,
    /// The algorithms.
    pub suite: EspSuite,
    /// SPI of what comes in; ours.
    pub spi_in: u32,
    /// SPI of what goes out; the peer's.
    pub spi_out: u32,
    /// Packets are compressed (RFC 3173); the CPIs of what comes in and of what goes out.
    pub ipcomp: Option<(u16, u16)>,
    /// A CPI that was reserved and is not used: the peer does not compress. To be given back.
    pub unused_cpi: Option<u16>,
    /// Keys of what comes in.
    pub keys_in: DirectionKeys,
    /// Keys of what goes out.
    pub keys_out: DirectionKeys,
    /// Negotiated selectors of our side.
    pub ts_local: Vec<TrafficSelector>,
    /// Negotiated selectors of the peer's side.
    pub ts_remote: Vec<TrafficSelector>,
    /// The peer does not want traffic flow confidentiality padding (RFC 7296 §1.3.1).
    pub peer_refuses_tfc: bool,
    /// In IP-TFS mode, the peer does not take inner packets that are spread over several outer ones (RFC 9347 §6.1.4).
    pub peer_refuses_fragments: bool,
    /// Sequence number of the ACQUIRE that asked for it; 0: none.
    pub acquire_seq: u32,
    /// What it is for, if both ends may have several child SAs of the same selectors (RFC 9611).
    pub resource: Option<Resource>,
}

/// What to negotiate as a child SA.
#[derive(Clone, Debug)]
pub struct ChildRequest {
    /// Its configuration.
    pub config: Arc<ChildConfig>,
    /// The packet that asks for it, if it is one.
    pub acquire: Option<AcquireHint>,
}

/// The packet that asked for a child SA.
#[derive(Clone, Debug)]
pub struct AcquireHint {
    /// Sequence number of the ACQUIRE.
    pub seq: u32,
    /// Its source as a selector of one address.
    pub local: TrafficSelector,
    /// Its destination as a selector of one address.
    pub remote: TrafficSelector,
    /// The CPU that a further child SA of the same selectors is for (RFC 9611); `None` for the first one.
    pub cpu: Option<u32>,
}

/// Something that happened inside.
///
/// Every IKE SA ends with exactly one of [`Event::IkeFailed`] and [`Event::IkeClosed`], every child SA with
/// exactly one of [`Event::ChildFailed`] and [`Event::ChildClosed`], and the children of an IKE SA before it, unless
/// [`Event::ChildrenMoved`] has given them to its successor. Attempts to renew an SA that fail have no SA of their own:
/// they are told with the old one's name. Of several successors that exchanges crossing each other have made, only the
/// one that stays is told for an IKE SA; for a child SA all are, since all are installed.
#[derive(Clone, Debug)]
pub enum Event {
    /// An IKE SA is authenticated.
    IkeEstablished {
        /// Which.
        ike: IkeSaId,
        /// What was agreed.
        info: Box<IkeSaInfo>,
        /// Its keys; only with [`EndpointConfig::key_log`](crate::EndpointConfig::key_log).
        keys: Option<Box<IkeKeyLog>>,
    },
    /// An IKE SA did not come about.
    IkeFailed {
        /// Which.
        ike: IkeSaId,
        /// What was known of it.
        info: Box<IkeSaInfo>,
        /// Why.
        reason: FailureReason,
    },
    /// An established IKE SA is gone.
    IkeClosed {
        /// Which.
        ike: IkeSaId,
        /// What was known of it.
        info: Box<IkeSaInfo>,
        /// Why.
        reason: CloseReason,
        /// By which we may resume the session (RFC 5723): the peer is lost, and neither end has deleted the IKE SA.
        ticket: Option<Arc<Ticket>>,
    },
    /// The successor of an IKE SA has taken over its child SAs. The end of the old one follows.
    ChildrenMoved {
        /// The old IKE SA.
        from: IkeSaId,
        /// The new one.
        to: IkeSaId,
        /// The child SAs that changed hands.
        children: Vec<ChildSaId>,
    },
    /// An IKE SA could not be renewed. It stands as before.
    IkeRekeyFailed {
        /// Which.
        ike: IkeSaId,
        /// We had wanted it, or, as responder, the peer.
        role: Role,
        /// Why.
        reason: FailureReason,
    },
    /// A child SA could not be renewed. It stands as before.
    ChildRekeyFailed {
        /// Its IKE SA.
        ike: IkeSaId,
        /// Which.
        child: ChildSaId,
        /// We had wanted it, or, as responder, the peer.
        role: Role,
        /// Why.
        reason: ChildFailure,
    },
    /// A child SA is installed.
    ChildEstablished {
        /// Its IKE SA.
        ike: IkeSaId,
        /// Which.
        child: ChildSaId,
        /// What was agreed.
        info: Box<ChildSaInfo>,
    },
    /// A child SA did not come about.
    ChildFailed {
        /// Its IKE SA.
        ike: IkeSaId,
        /// Which.
        child: ChildSaId,
        /// Its configuration, if it got so far that one was chosen.
        config: Option<Arc<ChildConfig>>,
        /// Why.
        reason: ChildFailure,
    },
    /// An installed child SA is gone.
    ChildClosed {
        /// Its IKE SA.
        ike: IkeSaId,
        /// Which.
        child: ChildSaId,
        /// What it was.
        info: Box<ChildSaInfo>,
        /// Why.
        reason: ChildCloseReason,
    },
    /// A request was sent again.
    Retransmitting {
        /// Which IKE SA.
        ike: IkeSaId,
        /// The request's Message ID.
        message_id: u32,
        /// How many times it has been sent again.
        attempt: u32,
    },
    /// The peer does not answer over UDP: the IKE SA is begun anew over TCP (RFC 9329 §5.1).
    FallingBack {
        /// Which IKE SA.
        ike: IkeSaId,
        /// To which address and port.
        to: SocketAddr,
    },
    /// The peer is under load and wants to see work (RFC 8019).
    Puzzled {
        /// Which IKE SA.
        ike: IkeSaId,
        /// Zero bits to find, four times.
        difficulty: u8,
    },
    /// The peer has been sent to another gateway (RFC 5685). It is expected to end the IKE SA.
    Redirecting {
        /// Which IKE SA.
        ike: IkeSaId,
        /// To which gateway.
        to: Gateway,
    },
    /// The gateway sends us where we do not go. The IKE SA stays.
    RedirectRefused {
        /// Which IKE SA.
        ike: IkeSaId,
        /// To which gateway.
        to: Gateway,
    },
    /// The SAs run between other addresses now (RFC 7296 §2.23, RFC 4555 §3.5). The child SAs must follow.
    Moved {
        /// Which IKE SA.
        ike: IkeSaId,
        /// Our address and port, and the peer's, until now.
        from: (SocketAddr, SocketAddr),
        /// From now on.
        to: (SocketAddr, SocketAddr),
        /// What ESP goes into now; `None`: into IP.
        encapsulation: Option<EncapKind>,
    },
    /// The peer wants us to authenticate ourselves anew before this time has passed (RFC 4478).
    AuthLifetime {
        /// Which IKE SA.
        ike: IkeSaId,
        /// Time left.
        lifetime: Duration,
    },
    /// Somebody says without protection, with a token that is not the peer's, that the peer has lost the IKE SA (RFC 6290).
    /// Nothing changes. Told at most once a second.
    CrashTokenForged {
        /// Which IKE SA.
        ike: IkeSaId,
    },
    /// Both ends go on with Message IDs that they have agreed on (RFC 6311).
    Synchronised {
        /// Which IKE SA.
        ike: IkeSaId,
        /// Who has asked for it.
        by: Party,
        /// The Message ID of our next request.
        next_request: u32,
        /// The Message ID of the peer's next request.
        next_peer_request: u32,
    },
    /// Sequence numbers of child SAs may have been used elsewhere: what we send on each of them is to go on with later ones
    /// (RFC 6311 §5.2).
    ReplayCounters {
        /// Which IKE SA.
        ike: IkeSaId,
        /// Who has asked for it.
        by: Party,
        /// How many are left out, and of which child SAs.
        counters: ReplayCounterSync,
    },
    /// The peer notified us of a problem that changes nothing by itself (INVALID_SELECTORS,
    /// INVALID_MESSAGE_ID, an unknown error).
    PeerComplaint {
        /// Which IKE SA.
        ike: IkeSaId,
        /// The child SA that the complaint is about.
        child: Option<ChildSaId>,
        /// The complaint.
        notify: NotifyType,
    },
    /// A request was refused before there was an IKE SA.
    Rejected {
        /// Our address and port.
        local: SocketAddr,
        /// Whose request it was.
        remote: SocketAddr,
        /// Why.
        reason: RejectReason,
    },
}

impl Event {
    /// The stable name of the event in logs, status and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::IkeEstablished { .. } => "ike_established",
            Self::IkeFailed { .. } => "ike_failed",
            Self::IkeClosed { .. } => "ike_closed",
            Self::ChildrenMoved { .. } => "children_moved",
            Self::IkeRekeyFailed { .. } => "ike_rekey_failed",
            Self::ChildRekeyFailed { .. } => "child_rekey_failed",
            Self::ChildEstablished { .. } => "child_established",
            Self::ChildFailed { .. } => "child_failed",
            Self::ChildClosed { .. } => "child_closed",
            Self::Retransmitting { .. } => "retransmitting",
            Self::Moved { .. } => "moved",
            Self::FallingBack { .. } => "falling_back",
            Self::Puzzled { .. } => "puzzled",
            Self::Redirecting { .. } => "redirecting",
            Self::RedirectRefused { .. } => "redirect_refused",
            Self::AuthLifetime { .. } => "auth_lifetime",
            Self::CrashTokenForged { .. } => "crash_token_forged",
            Self::Synchronised { .. } => "synchronised",
            Self::ReplayCounters { .. } => "replay_counters",
            Self::PeerComplaint { .. } => "peer_complaint",
            Self::Rejected { .. } => "rejected",
        }
    }
}

/// The keys that decrypt the messages of an IKE SA: a row of Wireshark's `ikev2_decryption_table`.
#[derive(Clone, Debug)]
pub struct IkeKeyLog {
    /// The initiator's SPI.
    pub initiator_spi: IkeSpi,
    /// The responder's SPI.
    pub responder_spi: IkeSpi,
    /// SK_ei.
    pub sk_ei: SecretBytes,
    /// SK_er.
    pub sk_er: SecretBytes,
    /// SK_ai; empty with an AEAD.
    pub sk_ai: SecretBytes,
    /// SK_ar; empty with an AEAD.
    pub sk_ar: SecretBytes,
    /// The algorithms.
    pub suite: IkeSuite,
}
