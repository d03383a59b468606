//! Configuration as the protocol needs it.
//!
//! The values are built above this crate and shared by reference count. Nothing here reads files.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cygnet_crypto::{EspProposal, IkeProposal, SecretBytes};
use cygnet_ipsec::{Lifetime, Mode, Protocol, SecurityLabel};
use cygnet_wire::{Gateway, ProtocolId};

use crate::identity::{Identity, PeerIdentity};
use crate::ppk::{Ppk, PpkPolicy};
use crate::selectors::TsTemplate;

/// What is agreed with one peer: everything of a connection that belongs to the IKE SA.
///
/// Two connections with equal `PeerConfig`s may share an IKE SA.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerConfig {
    /// Its name for people.
    pub name: String,
    /// Who we say we are.
    pub local_id: Identity,
    /// Who the peer must prove to be.
    pub remote_id: PeerIdentity,
    /// What is offered and accepted for the IKE SA, best first.
    pub proposals: Vec<IkeProposal>,
    /// Say as initiator that we know IKE_INTERMEDIATE (RFC 9242) even if nothing needs it.
    pub intermediate: bool,
    /// Send strongSwan's vendor ID: to a strongSwan it gives numbers for private use their meaning.
    pub fake_strongswan: bool,
    /// Whether a post-quantum pre-shared key is used (RFC 8784, RFC 9867).
    pub ppk: PpkPolicy,
    /// The names of the PPKs for the peer, best first; empty: whichever there is.
    pub ppk_ids: Vec<Vec<u8>>,
    /// How both ends authenticate.
    pub auth: AuthMethod,
    /// Local addresses the configuration is for; empty: any.
    pub local: Vec<IpAddr>,
    /// Remote addresses the configuration is for; empty: any.
    pub remote: Vec<IpAddr>,
    /// Our UDP port (500).
    pub local_port: u16,
    /// The peer's UDP port (500).
    pub remote_port: u16,
    /// How often and how long requests are repeated.
    pub retransmit: RetransmitPolicy,
    /// Time without an authenticated message from the peer after which it is probed; `None`: never.
    pub liveness: Option<Duration>,
    /// Whether IKE and ESP go over TCP (RFC 9329).
    pub tcp: Tcp,
    /// The peer's TCP port (4500).
    pub tcp_remote_port: u16,
    /// Whether ESP goes into UDP.
    pub force_encapsulation: Encapsulation,
    /// Whether large messages are fragmented.
    pub fragmentation: Fragmentation,
    /// Octets of the largest IP datagram, headers included, that a fragmented message is sent in (1280). At least
    /// [`MIN_FRAGMENT_SIZE`], or 0: what RFC 7383 §2.5.1 recommends, 576 for IPv4 and 1280 for IPv6.
    pub fragment_size: u16,
    /// The SAs may move to other addresses (RFC 4555), if the peer agrees.
    pub mobike: bool,
    /// Keepalives are sent where there is a NAT in front of us (RFC 3948 §4).
    pub nat_keepalive: bool,
    /// Whether IKE_AUTH makes no child SA (RFC 6023).
    pub childless: Childless,
    /// How many requests the peer may have under way at the same time (RFC 7296 §2.3); 1 to
    /// [`MAX_WINDOW`](crate::MAX_WINDOW). More than 1 is said to the peer.
    pub window: u32,
    /// The child SAs that may be made under the IKE SA, best first.
    pub children: Vec<Arc<ChildConfig>>,
    /// Hard lifetime of the IKE SA; kept for the layer above, which acts on it.
    pub lifetime: Option<Duration>,
    /// As responder, time after which the peer is told to authenticate anew (RFC 4478); `None`: it is not told.
    pub auth_lifetime: Option<Duration>,
    /// What becomes of other IKE SAs with the same identities.
    pub uniqueness: Uniqueness,
    /// Say that there is no other IKE SA with the peer when that is so (INITIAL_CONTACT).
    pub initial_contact: bool,
    /// Give the peer a token by which it will know that we have lost the IKE SA, and believe its own (RFC 6290).
    pub crash_detection: bool,
    /// Agree with the peer that either end may be a cluster of which another member takes over (RFC 6311).
    pub message_id_sync: bool,
    /// Agree with the peer that either end may have the other leave sequence numbers of child SAs out, when another member
    /// of a cluster takes over (RFC 6311).
    pub replay_counter_sync: bool,
    /// A session whose peer is lost is resumed without a key exchange (RFC 5723): as initiator tickets are asked for, as
    /// responder they are given and taken, if the endpoint has keys for them.
    pub resumption: bool,
    /// As initiator, where we let the gateway send us (RFC 5685).
    pub accept_redirect: AcceptRedirect,
    /// As responder, whether a peer is sent to one of [`Self::redirect_to`] once it is authenticated.
    pub send_redirect: SendRedirect,
    /// The gateways that peers are sent to, in turn.
    pub redirect_to: Vec<Gateway>,
}

impl PeerConfig {
    /// A configuration with pre-shared keys, the default proposals and usual values for the rest.
    pub fn new(name: impl Into<String>, local_id: Identity, remote_id: PeerIdentity) -> Self {
        Self {
            name: name.into(),
            local_id,
            remote_id,
            proposals: IkeProposal::default_list(),
            intermediate: false,
            fake_strongswan: false,
            ppk: PpkPolicy::Never,
            ppk_ids: Vec::new(),
            auth: AuthMethod::Psk,
            local: Vec::new(),
            remote: Vec::new(),
            local_port: 500,
            remote_port: 500,
            retransmit: RetransmitPolicy::default(),
            liveness: None,
            tcp: Tcp::No,
            //= rfc9329#2
            //# Compliant implementations MUST support TCP encapsulation on TCP port
            //# 4500, which is reserved for IPsec NAT traversal.
            tcp_remote_port: 4500,
            force_encapsulation: Encapsulation::Auto,
            fragmentation: Fragmentation::Yes,
            fragment_size: 1280,
            mobike: false,
            window: 1,
            nat_keepalive: true,
            childless: Childless::default(),
            children: Vec::new(),
            lifetime: None,
            auth_lifetime: None,
            uniqueness: Uniqueness::default(),
            initial_contact: true,
            crash_detection: true,
            message_id_sync: true,
            replay_counter_sync: true,
            resumption: false,
            accept_redirect: AcceptRedirect::No,
            send_redirect: SendRedirect::No,
            redirect_to: Vec::new(),
        }
    }

    /// Whether an initiator speaks of a PPK.
    pub(crate) fn proposes_ppk(&self) -> bool {
        matches!(self.ppk, PpkPolicy::Propose | PpkPolicy::Insist)
    }

    /// Whether an initiator says that we know IKE_INTERMEDIATE.
    pub(crate) fn wants_intermediate(&self) -> bool {
        let additional = |p: &IkeProposal| p.additional.iter().any(|list| !list.is_empty());
        self.intermediate || self.proposes_ppk() || self.proposals.iter().any(additional)
    }
}

/// Where an initiator lets the gateway send it (RFC 5685).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum AcceptRedirect {
    /// Nowhere, and the gateway is told nothing of it.
    #[default]
    No,
    /// To these gateways. A name that is none of them is looked up and may turn out to have an address of them.
    To(Vec<Gateway>),
    /// To any gateway.
    Any,
}

impl AcceptRedirect {
    /// Whether an IKE SA may be begun with this gateway. For a name the question is to be asked again of its address.
    pub fn permits(&self, gateway: &Gateway) -> bool {
        let sensible = match gateway {
            Gateway::Address(address) => is_host(*address),
            Gateway::Name(_) => true,
        };
        sensible
            && match self {
                Self::No => false,
                Self::Any => true,
                Self::To(list) => list.iter().any(|permitted| match (permitted, gateway) {
                    (Gateway::Name(ours), Gateway::Name(name)) => ours.eq_ignore_ascii_case(name),
                    (Gateway::Address(_), Gateway::Name(_)) => true,
                    (permitted, gateway) => permitted == gateway,
                }),
            }
    }

    /// Whether an IKE SA may be begun with a gateway of this name at this address.
    pub fn permits_resolved(&self, name: &str, address: IpAddr) -> bool {
        let by_name = |permitted: &Gateway| matches!(permitted, Gateway::Name(ours) if ours.eq_ignore_ascii_case(name));
        let named = matches!(self, Self::To(list) if list.iter().any(by_name));
        (named && is_host(address)) || self.permits(&address.into())
    }
}

/// Whether an address can be another host's. Nobody makes us send anything elsewhere.
fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || broadcast
        || mapped)
}

/// Whether a responder sends peers to another gateway (RFC 5685).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SendRedirect {
    /// It does not.
    #[default]
    No,
    /// While it is under load: when it asks strangers for cookies.
    UnderLoad,
    /// Always.
    Yes,
}

/// How both ends prove who they are (RFC 7296 §2.15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthMethod {
    /// A pre-shared key on both sides (Auth Method 2).
    #[default]
    Psk,
}

/// What becomes of the IKE SAs between two identities when another one is authenticated between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Uniqueness {
    /// They stay, even if the peer says that it knows of no other (INITIAL_CONTACT).
    Never,
    /// They stay unless the peer says so.
    No,
    /// They stay, and a peer that comes from another address is refused unless it says so.
    Keep,
    /// They end. The layer above sees to it, which knows what they carry.
    #[default]
    Replace,
}

/// Whether an IKE SA is made without a child SA in IKE_AUTH (RFC 6023). The first one then comes with a
/// CREATE_CHILD_SA of its own, and with a key exchange of its own if its proposals have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Childless {
    /// Never, and a peer that begins so is refused.
    Never,
    /// The peer may begin so, we do not.
    #[default]
    Allow,
    /// So do we, if the peer can.
    Prefer,
    /// Only so, whoever begins.
    Force,
}

/// Whether ESP is put into UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encapsulation {
    /// When a NAT is found on the way.
    #[default]
    Auto,
    /// Always: the peer is made to believe in a NAT.
    Yes,
    /// Never: NAT detection is neither offered nor heeded.
    No,
}

/// Whether IKE and ESP go over TCP (RFC 9329). A responder takes either, unless it is [`Tcp::No`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tcp {
    /// Never, and peers that come over TCP are refused.
    #[default]
    No,
    /// When the peer does not answer over UDP.
    Fallback,
    /// From the start, and always.
    Yes,
}

/// The least [`PeerConfig::fragment_size`]: smaller datagrams would hold next to nothing.
pub const MIN_FRAGMENT_SIZE: u16 = 256;

/// Whether messages that are too large for one datagram go in fragments (RFC 7383).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fragmentation {
    /// Never, and the peer is not told that it could.
    No,
    /// The peer may, we do not.
    Accept,
    /// Where it is needed and the peer can.
    #[default]
    Yes,
    /// Every protected message, also one that fits into a single fragment, if the peer can; short INFORMATIONAL
    /// messages are left alone (RFC 7383 §2.4).
    Force,
}

/// How a request is repeated until its response comes (RFC 7296 §2.1, §2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RetransmitPolicy {
    /// Wait before the first repetition.
    pub initial: Duration,
    /// Growth of the wait from one repetition to the next, in tenths: 20 doubles it.
    pub factor_tenths: u32,
    /// The wait does not grow beyond this.
    pub max_interval: Duration,
    /// Time since the first transmission after which the peer counts as dead.
    pub timeout: Duration,
    /// Each wait is shortened by a random part of up to so many percent of it.
    pub jitter_percent: u8,
}

impl Default for RetransmitPolicy {
    /// Half a second, doubling up to 16 s, for a minute.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(500),
            factor_tenths: 20,
            max_interval: Duration::from_secs(16),
            timeout: Duration::from_secs(60),
            jitter_percent: 0,
        }
    }
}

impl RetransmitPolicy {
    /// The wait after transmission number `attempt` (0 is the original one), without jitter.
    pub fn interval(&self, attempt: u32) -> Duration {
        let mut wait = self.initial;
        for _ in 0..attempt {
            wait = wait
                .checked_mul(self.factor_tenths.max(10))
                .map_or(self.max_interval, |grown| grown / 10);
            if wait >= self.max_interval {
                return self.max_interval;
            }
        }
        wait.min(self.max_interval)
    }
}

/// One child SA as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildConfig {
    /// Its name for people.
    pub name: String,
    /// ESP or AH.
    pub protocol: Protocol,
    /// What is offered and accepted, best first.
    pub proposals: Vec<EspProposal>,
    /// The additional key exchanges in `proposals` are those of the IKE SA: they are offered only if it has some.
    pub additional_of_ike: bool,
    /// Tunnel, transport or BEET mode.
    pub mode: Mode,
    /// The traffic selectors of our side.
    pub local_ts: Vec<TsTemplate>,
    /// The traffic selectors of the peer's side.
    pub remote_ts: Vec<TsTemplate>,
    /// The security label of what it carries (RFC 9478): the peer must have the same.
    pub label: Option<SecurityLabel>,
    /// Compress with IPComp (RFC 3173) if the peer does too, and it is not IP-TFS.
    pub compress: bool,
    /// Aggregate and fragment packets (IP-TFS, RFC 9347) if the peer does too; of ESP in tunnel mode only.
    pub iptfs: bool,
    /// With IP-TFS, tell the peer not to spread an inner packet over several outer ones (the D bit, RFC 9347 §6.1.4).
    pub refuse_fragments: bool,
    /// How many more child SAs of the same selectors there may be, for single CPUs (RFC 9611); 0: none.
    pub clones: u32,
    /// Tell the peer not to pad for traffic flow confidentiality (ESP_TFC_PADDING_NOT_SUPPORTED, RFC 7296 §1.3.1).
    pub refuse_tfc: bool,
    /// Each child SA must serve one pair of addresses only (RFC 7296 §2.9, SINGLE_PAIR_REQUIRED).
    pub single_pair: bool,
    /// Replay window in packets; 0: no replay check. Passed through.
    pub replay_window: u32,
    /// Limits on the life of the installed SAs. Passed through.
    pub lifetimes: Lifetime,
    /// The key under which the layer above knows this child. Passed through.
    pub tag: u64,
}

impl ChildConfig {
    /// A tunnel between two sets of selectors with the default proposals.
    pub fn new(
        name: impl Into<String>,
        local_ts: Vec<TsTemplate>,
        remote_ts: Vec<TsTemplate>,
    ) -> Self {
        Self {
            name: name.into(),
            protocol: Protocol::Esp,
            proposals: EspProposal::default_list(),
            additional_of_ike: false,
            mode: Mode::Tunnel,
            local_ts,
            remote_ts,
            label: None,
            compress: false,
            iptfs: false,
            clones: 0,
            refuse_fragments: false,
            refuse_tfc: false,
            single_pair: false,
            replay_window: 128,
            lifetimes: Lifetime::UNLIMITED,
            tag: 0,
        }
    }
}

impl ChildConfig {
    /// The mode of a child SA with a peer that agrees to all that it is asked for.
    pub fn preferred_mode(&self) -> Mode {
        match crate::aggfrag::is_wanted(self) {
            true => Mode::Iptfs,
            false => self.mode,
        }
    }

    /// The number of the protocol in IKE messages.
    pub(crate) fn protocol_id(&self) -> ProtocolId {
        match self.protocol {
            Protocol::Ah => ProtocolId::AH,
            Protocol::Esp | Protocol::Comp => ProtocolId::ESP,
        }
    }
}

/// The configuration as a responder sees it.
///
/// Lookups must be pure: they are made in the middle of handling a message.
pub trait Directory: Send + Sync {
    /// The configurations that a peer at `remote` may use when it calls `local`, best first.
    fn candidates(&self, local: SocketAddr, remote: SocketAddr) -> Vec<Arc<PeerConfig>>;

    /// The pre-shared key between two identities.
    fn psk(
        &self,
        local: &Identity,
        remote: &Identity,
        local_addr: IpAddr,
        remote_addr: IpAddr,
    ) -> Option<SecretBytes>;

    /// The post-quantum pre-shared keys that may be used with a peer, best first: those that
    /// [`PeerConfig::ppk_ids`] names, or all.
    fn ppks(&self, config: &PeerConfig) -> Vec<Ppk> {
        let _ = config;
        Vec::new()
    }
}

/// When a responder asks for the solution of a puzzle, and of which (RFC 8019).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PuzzlePolicy {
    /// Half-open IKE SAs from which on nobody is served without one, but for a few.
    pub threshold: usize,
    /// Zero bits that the easiest one asks for; the load, and SAs of the same source, add up to six.
    pub difficulty: u8,
}

/// Settings of one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointConfig {
    /// UDP port of IKE (500).
    pub ike_port: u16,
    /// UDP port of IKE and ESP behind NAT (4500). What is sent from it carries the non-ESP marker.
    pub nat_port: u16,
    /// Half-open IKE SAs above which a cookie is asked for before any state is made.
    pub cookie_threshold: usize,
    /// Half-open IKE SAs above which no new one is accepted, cookie or not.
    pub max_half_open: usize,
    /// The same, of one source: an IPv4 address or an IPv6 network of 64 bits. With [`Self::puzzles`], who solves one
    /// gets in beyond that.
    pub max_half_open_per_address: usize,
    /// Authenticated IKE SAs between the same two identities above which peers are refused.
    pub max_per_identity: usize,
    /// When puzzles are asked for as well (RFC 8019); `None`: never.
    pub puzzles: Option<PuzzlePolicy>,
    /// Zero bits of the hardest puzzle of a responder that is solved; 0: none is.
    pub max_puzzle_difficulty: u8,
    /// Time a responder waits for IKE_AUTH, and then for the data plane.
    pub half_open_timeout: Duration,
    /// A cookie secret is replaced after this time and accepted for as long again.
    pub cookie_lifetime: Duration,
    /// Time for which an unauthenticated error in answer to IKE_SA_INIT is held back in the hope of a
    /// better answer (RFC 7296 §2.21.1).
    pub error_grace: Duration,
    /// Time for which a closed SA still answers repetitions of the peer's last request.
    pub linger: Duration,
    /// Replies to unprotected messages without an SA, per second.
    pub unprotected_replies_per_second: u32,
    /// Time without a message of ours after which a NAT in front of us gets a keepalive; zero: never.
    pub keepalive_interval: Duration,
    /// Whether peers are sent to one of [`Self::redirect_to`] before anything is computed for them (RFC 5685 §3).
    pub send_redirect: SendRedirect,
    /// The gateways that they are sent to, in turn.
    pub redirect_to: Vec<Gateway>,
    /// What the tokens of quick crash detection are made of (RFC 6290 §5.1), the same after each restart: the first makes
    /// new ones, three former ones at most are those of IKE SAs from before. Without any, peers get no tokens. Gateways of
    /// which several are active at a time must not have the same ones (§9.2).
    pub crash_secrets: Vec<SecretBytes>,
    /// Vendor IDs to send in IKE_SA_INIT.
    pub vendor_ids: Vec<Vec<u8>>,
    /// Datagrams longer than this are dropped unread, and so are messages put together from fragments.
    pub max_datagram: usize,
    /// Octets of incomplete fragmented messages, of all IKE SAs together, above which further fragments are dropped;
    /// of peers that are not authenticated, half of that.
    pub max_reassembly: usize,
    /// Time after its first fragment within which a message must be complete.
    pub reassembly_timeout: Duration,
    /// Child SAs that a peer may make under one IKE SA. What replaces another one does not count until twice as many
    /// are there.
    pub max_children: usize,
    /// How many CPUs this host has, for child SAs of single ones (RFC 9611).
    pub cpus: u32,
    /// [`Event::IkeEstablished`](crate::Event::IkeEstablished) carries the keys of the IKE SA.
    pub key_log: bool,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            ike_port: 500,
            nat_port: 4500,
            cookie_threshold: 100,
            max_half_open: 5000,
            max_half_open_per_address: 50,
            max_per_identity: 1000,
            puzzles: None,
            max_puzzle_difficulty: 22,
            half_open_timeout: Duration::from_secs(30),
            cookie_lifetime: Duration::from_secs(60),
            error_grace: Duration::from_secs(1),
            linger: Duration::from_secs(60),
            unprotected_replies_per_second: 20,
            keepalive_interval: Duration::from_secs(20),
            send_redirect: SendRedirect::No,
            redirect_to: Vec::new(),
            crash_secrets: Vec::new(),
            vendor_ids: Vec::new(),
            max_datagram: 65_535,
            max_reassembly: 64 << 20,
            reassembly_timeout: Duration::from_secs(30),
            max_children: 512,
            cpus: 0,
            key_log: false,
        }
    }
}
