//! A connection as the user wrote it: two ends, how to protect, when to start.
//!
//! The vocabulary is ipsec.conf's: a connection has a left and a right end and
//! does not say which of them is this host. [`crate::orient`] decides that.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use cygnet_crypto::{EspProposal, IkeProposal};
use cygnet_ike::{
    AcceptRedirect, AuthMethod, Childless, Encapsulation, Fragmentation, Gateway, Identity,
    PpkPolicy, PuzzlePolicy, RetransmitPolicy, SendRedirect, Tcp, TsTemplate, Uniqueness,
};
use cygnet_ipsec::{Iptfs, Mark, Mode, Protocol, SaDirection, SecurityLabel};
use ipnet::IpNet;

use crate::connection_state::Intent;
use crate::origin::{Origin, Sourced};
use crate::secrets::Secrets;

/// UDP port of IKE at both ends (RFC 7296 §2); another one cannot be configured.
pub(crate) const IKE_PORT: u16 = 500;

/// Everything one load of the configuration yields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionSet {
    /// Settings of the whole daemon.
    pub setup: Setup,
    /// The connections in the order of the files.
    pub connections: Vec<Connection>,
    /// The shared secrets.
    pub secrets: Secrets,
}

/// `config setup`.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// Addresses that IKE binds to; empty: every address of this host.
    pub listen: Vec<IpAddr>,
    /// UDP port of IKE (500).
    pub ike_port: u16,
    /// UDP port of IKE and ESP behind NAT (4500).
    pub nat_port: u16,
    /// IKE and ESP are taken from TCP streams too, on port [`Self::nat_port`] (`listen-tcp`).
    pub listen_tcp: bool,
    /// Time between NAT keepalives (`keep-alive`); zero: none.
    pub keepalive_interval: Duration,
    /// Half-open IKE SAs above which new ones are refused (`max-halfopen-ike`).
    pub max_half_open: u32,
    /// Half-open IKE SAs above which cookies are asked for (`ddos-ike-threshold`).
    pub cookie_threshold: u32,
    /// When puzzles are asked for (`ddos-puzzle-threshold`, `ddos-puzzle-difficulty`).
    pub puzzles: Option<PuzzlePolicy>,
    /// Zero bits of the hardest puzzle that is solved for a peer (`max-puzzle-difficulty`).
    pub max_puzzle_difficulty: u8,
    /// IKE SAs that one identity may have (`max-ike-per-id`).
    pub max_per_identity: u32,
    /// What becomes of other IKE SAs with an identity that connects again (`uniqueids`).
    pub uniqueness: Uniqueness,
    /// Whether peers are sent elsewhere at once (`global-redirect`).
    pub send_redirect: SendRedirect,
    /// To which gateways (`global-redirect-to`).
    pub redirect_to: Vec<Gateway>,
    /// Whether the devices of route-based connections are made where they are missing (`ipsec-interface-managed`).
    pub manage_interfaces: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            ike_port: IKE_PORT,
            nat_port: 4500,
            listen_tcp: false,
            keepalive_interval: Duration::from_secs(20),
            max_half_open: 50_000,
            cookie_threshold: 25_000,
            puzzles: Some(PuzzlePolicy {
                threshold: 37_500,
                difficulty: 16,
            }),
            max_puzzle_difficulty: 22,
            max_per_identity: 1000,
            uniqueness: Uniqueness::Replace,
            send_redirect: SendRedirect::No,
            redirect_to: Vec::new(),
            manage_interfaces: true,
        }
    }
}

/// One `conn` section after `also=` and `%default` were merged into it.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// Its name, unique within the configuration.
    pub name: String,
    /// The section's header. Not part of what makes two connections differ.
    pub origin: Sourced<()>,
    /// The end called left.
    pub left: HostEnd,
    /// The end called right.
    pub right: HostEnd,
    /// What is negotiated for the IKE SA.
    pub ike: IkeOptions,
    /// What is negotiated for the child SA, and how it is installed.
    pub child: ChildOptions,
    /// What happens to matching packets.
    pub kind: ConnectionKind,
    /// What to do when it is loaded.
    pub start: StartAction,
    /// Who transforms its packets.
    pub plane: PlaneChoice,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct HostEnd {
    /// Where it is reached.
    pub host: Sourced<HostSpec>,
    /// Its identity; `None`: its address.
    pub id: Option<Sourced<Identity>>,
    /// Preferred inner source addresses (`leftsourceip`).
    pub source_ips: Vec<IpAddr>,
    /// Addresses on the device of a route-based connection (`leftinterface-ip`).
    pub interface_ips: Vec<IpNet>,
    /// Traffic selectors (`leftsubnet`); the host itself is [`TsTemplate::Dynamic`].
    pub subnets: Vec<TsTemplate>,
}

/// How a host is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostSpec {
    /// A literal address.
    Address(IpAddr),
    /// `%defaultroute`: the source address of the default route.
    DefaultRoute,
    /// `%eth1`: the first address of an interface.
    Interface(String),
    /// `%any`: whoever calls.
    Any,
    /// A name for the resolver.
    Name(String),
}

/// The IKE half of a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct IkeOptions {
    /// What is offered and accepted, best first.
    pub proposals: Sourced<Vec<IkeProposal>>,
    /// Say as initiator that IKE_INTERMEDIATE is known even if nothing needs it (`intermediate`, RFC 9242).
    pub intermediate: bool,
    /// Say that we are strongSwan (`fake-strongswan`).
    pub fake_strongswan: bool,
    /// Whether a post-quantum pre-shared key is used (`ppk`, RFC 8784, RFC 9867).
    pub ppk: PpkPolicy,
    /// The names of the keys that may be used, best first (`ppk-ids`); empty: any.
    pub ppk_ids: Vec<Vec<u8>>,
    /// How both ends prove who they are.
    pub auth: AuthMethod,
    /// How often and how long requests are repeated.
    pub retransmit: RetransmitPolicy,
    /// Idle time after which the peer is probed (`dpddelay`).
    pub liveness: Option<Duration>,
    /// What becomes of the connection when the peer is found dead (`dpdaction`); `None`: it stays
    /// wanted as it was.
    pub dead_peer: Option<DeadPeerAction>,
    /// Failed attempts in a row after which a connection is no longer tried by itself
    /// (`keyingtries`); `None`: it always is.
    pub keying_tries: Option<NonZeroU32>,
    /// Whether IKE and ESP go over TCP (`enable-tcp`).
    pub tcp: Tcp,
    /// The peer's TCP port (`tcp-remoteport`).
    pub tcp_remote_port: u16,
    /// Whether ESP is put into UDP.
    pub encapsulation: Encapsulation,
    /// Whether large IKE messages are fragmented.
    pub fragmentation: Fragmentation,
    /// See [`PeerConfig::fragment_size`](cygnet_ike::PeerConfig::fragment_size).
    pub fragment_size: u16,
    /// The SAs go on at another address if theirs is lost (`mobike`).
    pub mobike: bool,
    /// See [`PeerConfig::window`](cygnet_ike::PeerConfig::window).
    pub window: u32,
    /// Whether a NAT in front of us gets keepalives (`nat-keepalive`).
    pub nat_keepalive: bool,
    /// Whether IKE_AUTH makes no child SA (`childless`, RFC 6023).
    pub childless: Childless,
    /// Hard lifetime of the IKE SA (`ikelifetime`).
    pub lifetime: Duration,
    /// Renewed by authenticating anew (`reauth`). As responder, the peer is told to.
    pub reauth: bool,
    /// Say that there is no other IKE SA with the peer when that is so (`initial-contact`).
    pub initial_contact: bool,
    /// Give the peer a token by which it will know that we have lost the IKE SA, and believe its own
    /// (`crash-detection`, RFC 6290).
    pub crash_detection: bool,
    /// Agree with the peer that either end may be a cluster of which another member takes over
    /// (`message-id-sync`, RFC 6311).
    pub message_id_sync: bool,
    /// Agree with the peer that either end may have the other leave sequence numbers out then
    /// (`replay-counter-sync`, RFC 6311).
    pub replay_counter_sync: bool,
    /// Sessions whose peer is lost are resumed (`session-resumption`, RFC 5723).
    pub resumption: bool,
    /// Where the gateway may send us (`accept-redirect`, `accept-redirect-to`).
    pub accept_redirect: AcceptRedirect,
    /// Whether authenticated peers are sent elsewhere (`send-redirect`).
    pub send_redirect: SendRedirect,
    /// To which gateways (`redirect-to`).
    pub redirect_to: Vec<Gateway>,
}

/// What becomes of a connection whose peer is dead (`dpdaction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadPeerAction {
    /// It ends; a trap that `auto=` asks for stays.
    Clear,
    /// It ends, and a trap brings it back with the next packet.
    Trap,
    /// It is brought up again, whoever made it.
    Restart,
}

/// The child half of a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildOptions {
    /// ESP or AH (`phase2`).
    pub protocol: Protocol,
    /// What is offered and accepted, best first (`esp`, `ah`).
    pub proposals: Sourced<Vec<EspProposal>>,
    /// The additional key exchanges in `proposals` are those of the IKE SA: they are offered only if it has some.
    pub additional_of_ike: bool,
    /// Hard lifetime (`ipsec-lifetime`).
    pub lifetime: Duration,
    /// Time without any packet after which it is deleted (`inactivity`); `None`: it is not.
    pub inactivity: Option<Duration>,
    /// Hard limit in octets per SA.
    pub max_bytes: Option<u64>,
    /// Hard limit in packets per SA.
    pub max_packets: Option<u64>,
    /// Replaced ahead of its end at all (`rekey=`), of both SAs.
    pub rekey: bool,
    /// Time before the hard limit at which the replacement starts (`rekeymargin`).
    pub rekey_margin: Duration,
    /// The margin is enlarged by a random part of up to so many percent of it (`rekeyfuzz`).
    pub rekey_fuzz: u32,
    /// Replay window in packets; 0: none.
    pub replay_window: u32,
    /// Fixed reqid; otherwise one is allocated.
    pub reqid: Option<u32>,
    /// Fixed policy priority; otherwise computed from the selectors.
    pub priority: Option<u32>,
    /// Lookup mark of the inbound policies (`mark-in`); with an interface, the mark of what has come out of the tunnel.
    pub mark_in: Mark,
    /// Lookup mark of the outbound policies (`mark-out`); with an interface, the mark of what goes to the peer.
    pub mark_out: Mark,
    /// The device of a route-based connection (`ipsec-interface`).
    pub interface: Option<IpsecInterface>,
    /// The metric of its routes (`metric`).
    pub metric: u32,
    /// Clear packets while there is no SA yet (`negotiationshunt`).
    pub negotiation_shunt: Shunt,
    /// Clear packets after negotiation failed (`failureshunt`).
    pub failure_shunt: Shunt,
    /// Copy the inner DSCP outwards (`encap-dscp`).
    pub encap_dscp: bool,
    /// Copy the outer DSCP inwards (`decap-dscp`).
    pub decap_dscp: bool,
    /// Leave the outer DF bit clear (`nopmtudisc`).
    pub no_pmtu_disc: bool,
    /// The security label of what it carries (`sec-label`); the peer must have the same.
    pub label: Option<SecurityLabel>,
    /// What the label is for (`label-mode`).
    pub label_mode: LabelMode,
    /// Compress with IPComp if the peer does too (`compress`).
    pub compress: bool,
    /// Pad packets in tunnel mode to so many octets (`tfc`), as far as the path takes them; 0: not, `u32::MAX`: always as
    /// far as that.
    pub tfc: u32,
    /// Aggregate and fragment packets if the peer does too (`iptfs`, RFC 9347), and how.
    pub iptfs: Option<Iptfs>,
    /// How many more child SAs there may be for single CPUs (`clones`, RFC 9611); `u32::MAX`: as many as there are CPUs.
    pub clones: u32,
    /// Tell the peer not to pad (`send-esp-tfc-padding-not-supported`).
    pub refuse_tfc: bool,
    /// MTU of the routes into the tunnel.
    pub mtu: Option<u32>,
}

/// The xfrm interface of a route-based connection (`ipsec-interface`): what is routed into it is protected or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpsecInterface(pub u32);

impl IpsecInterface {
    /// The `if_id` of the interface 0, because the kernel refuses 0 (S0.1).
    const IF_ID_OF_0: u32 = 0x4000;

    /// The key by which its policies and SAs belong to it.
    pub fn if_id(self) -> u32 {
        match self.0 {
            0 => Self::IF_ID_OF_0,
            number => number,
        }
    }

    /// Its name, if we make it.
    pub fn name(self) -> String {
        format!("ipsec{}", self.0)
    }
}

impl ChildOptions {
    /// The `if_id` of policies and SAs; 0: none.
    pub(crate) fn if_id(&self) -> u32 {
        self.interface.map_or(0, IpsecInterface::if_id)
    }

    /// The mark that the packets of an SA get, to the peer or out of the tunnel: by default the `if_id` (S0.3).
    pub(crate) fn set_mark(&self, direction: SaDirection) -> Option<Mark> {
        let interface = self.interface?;
        let configured = match direction {
            SaDirection::Out => self.mark_out,
            SaDirection::In => self.mark_in,
        };
        Some(match configured {
            Mark::ANY => Mark::exact(interface.if_id()),
            mark => mark,
        })
    }

    /// The label that SAs and policies get, for the kernel's security module.
    pub(crate) fn kernel_label(&self) -> Option<&SecurityLabel> {
        match self.label_mode {
            LabelMode::SeLinux => self.label.as_ref(),
            LabelMode::Simple => None,
        }
    }
}

/// What a security label is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelMode {
    /// The kernel's security module decides by it which packets go by its SAs.
    #[default]
    SeLinux,
    /// It is negotiated, and no more: ends that do not have the same make no child SA.
    Simple,
}

/// What a connection does to matching packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionKind {
    /// Protect them in tunnel mode.
    #[default]
    Tunnel,
    /// Protect them in transport mode.
    Transport,
    /// Protect them in BEET mode: as in tunnel mode, between one inner address at each end, which is not sent.
    Beet,
    /// Let them pass in clear.
    Passthrough,
    /// Drop them.
    Drop,
}

impl ConnectionKind {
    /// Whether its SAs can go on at other addresses: in transport mode those are the traffic selectors.
    pub(crate) fn can_move(self) -> bool {
        matches!(self, Self::Tunnel | Self::Beet)
    }

    /// The mode of its SAs, if it has any.
    pub fn mode(self) -> Option<Mode> {
        match self {
            Self::Tunnel => Some(Mode::Tunnel),
            Self::Transport => Some(Mode::Transport),
            Self::Beet => Some(Mode::Beet),
            Self::Passthrough | Self::Drop => None,
        }
    }
}

/// What `auto=` asks for when a connection is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAction {
    /// It is not even loaded.
    #[default]
    Ignore,
    /// It waits for a command or for the peer.
    Add,
    /// A trap negotiates it when the first packet comes.
    OnDemand,
    /// It is brought up.
    Start,
    /// The peer brings it up; once up it is kept up.
    Keep,
}

impl StartAction {
    /// What is wanted of a connection that was taken down: the trap that the configuration or the
    /// user asked for outlives the SA.
    pub(crate) fn resting(self) -> Intent {
        match self {
            Self::OnDemand => Intent::OnDemand,
            _ => Intent::Down,
        }
    }

    /// What is wanted of a connection when it is loaded.
    pub(crate) fn intent(self) -> Intent {
        match self {
            Self::Ignore | Self::Add | Self::Keep => Intent::Down,
            Self::OnDemand => Intent::OnDemand,
            Self::Start => Intent::Up,
        }
    }
}

/// Who transforms the packets of a connection (`dataplane=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaneChoice {
    /// The kernel where it can, user space where it cannot.
    #[default]
    Auto,
    /// The kernel's XFRM.
    Kernel,
    /// Cygnet's own data plane.
    Userspace,
}

/// What happens to clear packets in a phase without SA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shunt {
    /// Nothing is installed.
    #[default]
    None,
    /// They are dropped.
    Drop,
    /// They pass in clear.
    Passthrough,
}

impl Connection {
    /// Where the connection was written.
    pub fn origin(&self) -> &Origin {
        &self.origin.origin
    }

    /// What is wanted of it once it is not to be kept up any more. The trap of what is to be protected
    /// stays: it must not pass in clear, and may ask again.
    pub(crate) fn quiet(&self) -> Intent {
        match self.child.negotiation_shunt {
            Shunt::Drop => Intent::OnDemand,
            _ => self.start.resting(),
        }
    }

    /// Whether it takes part in IKE at all; passthrough and drop do not.
    pub fn negotiates(&self) -> bool {
        self.kind.mode().is_some()
    }
}
