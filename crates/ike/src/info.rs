//! What can be known of an SA from outside.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{EspSuite, IkeSuite};
use cygnet_ipsec::{EncapKind, Mode, Protocol};
use cygnet_wire::{IkeSpi, TrafficSelector};

use crate::config::{ChildConfig, PeerConfig};
use crate::identity::Identity;
use crate::io::{ChildSaId, IkeSaId};
use crate::resource::Resource;
use crate::transport::Transport;

/// Who began the IKE SA. Stays the same for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// We sent the first message.
    Initiator,
    /// The peer did.
    Responder,
}

impl Role {
    /// The other one.
    pub fn peer(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initiator => "initiator",
            Self::Responder => "responder",
        }
    }
}

/// What NAT detection found (RFC 7296 §2.23).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NatSituation {
    /// The peer takes part in NAT detection.
    pub supported: bool,
    /// There is a NAT in front of us.
    pub local: bool,
    /// There is a NAT in front of the peer.
    pub remote: bool,
}

impl NatSituation {
    /// Whether there is a NAT at all.
    pub fn detected(&self) -> bool {
        self.local || self.remote
    }
}

/// How far an IKE SA has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IkeSaState {
    /// Initiator: IKE_SA_INIT is under way.
    Initiating,
    /// IKE_AUTH is under way.
    Authenticating,
    /// Authenticated.
    Established,
    /// We have asked for its deletion.
    Deleting,
    /// Gone; only repeated requests are still answered.
    Closed,
}

impl IkeSaState {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initiating => "initiating",
            Self::Authenticating => "authenticating",
            Self::Established => "established",
            Self::Deleting => "deleting",
            Self::Closed => "closed",
        }
    }
}

/// An IKE SA as seen from outside.
#[derive(Clone, Debug)]
pub struct IkeSaInfo {
    /// Which.
    pub id: IkeSaId,
    /// Our part in it.
    pub role: Role,
    /// How far it has come.
    pub state: IkeSaState,
    /// Its configuration; a responder knows it for sure only once the peer is authenticated.
    pub config: Option<Arc<PeerConfig>>,
    /// Who we said we are.
    pub local_id: Option<Identity>,
    /// Who the peer is; only once authenticated.
    pub remote_id: Option<Identity>,
    /// The peer has given a token by which it can show that it has lost the IKE SA (RFC 6290).
    pub crash_token: bool,
    /// Both ends have agreed that either may synchronise Message IDs (RFC 6311).
    pub message_id_sync: bool,
    /// Both ends have agreed that either may have the other leave sequence numbers of child SAs out (RFC 6311).
    pub replay_counter_sync: bool,
    /// The initiator's SPI.
    pub initiator_spi: IkeSpi,
    /// The responder's SPI; zero until known.
    pub responder_spi: IkeSpi,
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// What NAT detection found.
    pub nat: NatSituation,
    /// What carries the messages.
    pub transport: Transport,
    /// What child SAs put ESP into; `None`: into IP.
    pub encapsulation: Option<EncapKind>,
    /// Both ends have agreed that the SAs may move (RFC 4555).
    pub mobike: bool,
    /// Both ends can put messages together from fragments (RFC 7383).
    pub fragmentation: bool,
    /// How many of the peer's requests may be under way at the same time (RFC 7296 §2.3).
    pub own_window: u32,
    /// How many of ours.
    pub peer_window: u32,
    /// The algorithms, once agreed.
    pub suite: Option<IkeSuite>,
    /// A post-quantum pre-shared key has part in the keys (RFC 8784, RFC 9867).
    pub ppk: bool,
    /// It resumes a session that was lost, or goes back to an IKE SA that does (RFC 5723).
    pub resumed: bool,
    /// Until when we can resume it; `None`: we have no ticket.
    pub ticket: Option<Instant>,
    /// The peer can resume it.
    pub ticket_granted: bool,
    /// IKE_AUTH made no child SA with it or the one that it goes back to (RFC 6023).
    pub childless: bool,
    /// When it was begun.
    pub created: Instant,
    /// When the peer was authenticated.
    pub established: Option<Instant>,
    /// When the last authenticated message came in.
    pub last_heard: Option<Instant>,
    /// Message ID of our next request.
    pub next_request: u32,
    /// Message ID of the peer's next request.
    pub next_peer_request: u32,
    /// Its child SAs, in the order of their making.
    pub children: Vec<ChildSaId>,
    /// The IKE SA whose successor it is.
    pub replaces: Option<IkeSaId>,
    /// The gateway that has sent us to the peer (RFC 5685).
    pub redirected_from: Option<IpAddr>,
}

/// A child SA as seen from outside.
#[derive(Clone, Debug)]
pub struct ChildSaInfo {
    /// Which.
    pub id: ChildSaId,
    /// Its IKE SA.
    pub ike: IkeSaId,
    /// Its configuration.
    pub config: Arc<ChildConfig>,
    /// We were the initiator of the exchange that made it.
    pub initiator: bool,
    /// Tunnel, transport, BEET or IP-TFS mode.
    pub mode: Mode,
    /// ESP or AH.
    pub protocol: Protocol,
    /// The algorithms.
    pub suite: EspSuite,
    /// SPI of what comes in; ours.
    pub spi_in: u32,
    /// SPI of what goes out; the peer's.
    pub spi_out: u32,
    /// What it is for, if both ends may have several child SAs of the same selectors (RFC 9611).
    pub resource: Option<Resource>,
    /// Packets are compressed; the CPIs of what comes in and of what goes out.
    pub ipcomp: Option<(u16, u16)>,
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// What ESP goes into; `None`: into IP.
    pub encapsulation: Option<EncapKind>,
    /// Negotiated selectors of our side.
    pub ts_local: Vec<TrafficSelector>,
    /// Negotiated selectors of the peer's side.
    pub ts_remote: Vec<TrafficSelector>,
    /// When it was installed.
    pub established: Option<Instant>,
    /// The child SA whose successor it is.
    pub replaces: Option<ChildSaId>,
    /// We send on it. Not yet if the peer has made it in place of another one that still stands.
    pub outbound: bool,
}
