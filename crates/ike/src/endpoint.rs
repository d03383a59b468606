//! All IKE SAs of one daemon: which message is for which SA, and what happens to those that are for none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{Entropy, KeyExchangeProvider, SecretBytes};
use cygnet_wire::{Gateway, IkeSpi, NotifyType};

use crate::child::Wanted;
use crate::config::{Directory, EndpointConfig, PeerConfig, Tcp};
use crate::context::{Acquaintance, Path, Shared};
use crate::defence::{Defence, DefenceLevel};
use crate::exchange::ike_sa_init;
use crate::exchange::ike_session_resume::{self, ResumptionAuth};
use crate::fragment::Share;
use crate::identity::Identity;
use crate::info::{ChildSaInfo, IkeSaInfo, IkeSaState};
use crate::io::{ChildRequest, ChildSaId, IkeSaId, Input, Output};
use crate::proposal::SaSpi;
use crate::reason::Party;
use crate::sa::{Arrival, IkeSa, State};
use crate::stats::Stats;
use crate::stream::{StreamName, Streams};
use crate::ticket::{Ticket, TicketKeys};
use crate::transport::Transport;

/// All IKE SAs of one daemon.
///
/// See the [crate's page](crate) for the order in which to call its methods.
pub struct Endpoint {
    config: EndpointConfig,
    directory: Arc<dyn Directory>,
    key_exchange: Arc<dyn KeyExchangeProvider>,
    entropy: Box<dyn Entropy + Send>,
    shared: Shared,
    sas: BTreeMap<IkeSaId, Box<Entry>>,
    /// By the IKE_SA_INIT request that made them, so that its repetitions are known.
    by_init: HashMap<InitKey, IkeSaId>,
    timers: BTreeSet<(Instant, IkeSaId)>,
    defence: Defence,
}

/// An IKE SA and where it is listed.
#[derive(Debug)]
struct Entry {
    sa: IkeSa,
    spi: IkeSpi,
    init: Option<InitKey>,
    timer: Option<Instant>,
    half_open: Option<IpAddr>,
    spoilt: bool,
    /// Its part in what incomplete messages cost.
    share: Share,
    pair: Option<((Identity, Identity), Acquaintance)>,
    stream: Option<StreamName>,
}

/// How an IKE SA of ours begins.
enum Start<'a> {
    /// With IKE_SA_INIT, perhaps where another gateway has sent us.
    Full(Option<IpAddr>),
    /// With IKE_SESSION_RESUME.
    Resume(&'a Ticket, ResumptionAuth),
}

/// A request that begins an IKE SA: the hash of its octets, and whence it came.
type InitKey = ([u8; 32], SocketAddr);

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("ike_sas", &self.sas.len())
            .field("half_open", &self.half_open())
            .field("stats", self.stats())
            .finish_non_exhaustive()
    }
}

/// Surroundings for a state, made of everything but the SAs themselves.
macro_rules! context {
    ($self:ident, $now:expr) => {
        $crate::context::Context {
            now: $now,
            config: &$self.config,
            directory: &*$self.directory,
            key_exchange: &*$self.key_exchange,
            entropy: &mut *$self.entropy,
            shared: &mut $self.shared,
        }
    };
}

mod bookkeeping;
mod datagrams;

impl Endpoint {
    /// An endpoint without any SA.
    pub fn new(
        config: EndpointConfig,
        directory: Arc<dyn Directory>,
        key_exchange: Arc<dyn KeyExchangeProvider>,
        entropy: Box<dyn Entropy + Send>,
    ) -> Self {
        Self {
            config,
            directory,
            key_exchange,
            entropy,
            shared: Shared::default(),
            sas: BTreeMap::new(),
            by_init: HashMap::new(),
            timers: BTreeSet::new(),
            defence: Defence::default(),
        }
    }

    /// Replaces the configuration in which identities and keys are looked up. Existing SAs keep what they have.
    pub fn set_directory(&mut self, directory: Arc<dyn Directory>) {
        self.directory = directory;
    }

    /// Replaces what is agreed with the peer of an IKE SA: what child SAs it may make from now on. Does nothing if there
    /// is none of that name.
    pub fn set_peer(&mut self, ike: IkeSaId, peer: Arc<PeerConfig>) {
        if let Some(entry) = self.sas.get_mut(&ike) {
            entry.sa.core.config = peer;
        }
    }

    /// Replaces the settings. The ports stay: they are part of SAs that exist.
    pub fn set_config(&mut self, config: EndpointConfig) {
        let (ike_port, nat_port) = (self.config.ike_port, self.config.nat_port);
        self.config = EndpointConfig {
            ike_port,
            nat_port,
            ..config
        };
    }

    /// Other secrets for the tokens of quick crash detection, as
    /// [`EndpointConfig::crash_secrets`]. Those of which an IKE SA has its token must be among them.
    pub fn set_crash_secrets(&mut self, secrets: Vec<SecretBytes>) {
        self.config.crash_secrets = secrets;
    }

    /// The keys of tickets for peers (RFC 5723), newest first, and the time of day. Without them no ticket is given or
    /// taken. Those that have sealed tickets which are still good must be among them.
    pub fn set_ticket_keys(&mut self, keys: Option<TicketKeys>) {
        self.shared.tickets.set_keys(keys);
    }

    /// Forgets the tickets that we hold: the credentials are not what they were.
    //= rfc5723#6.2
    //# Similarly, when credentials associated
    //# with the IKE SA are invalidated (e.g., when a user logs out), the
    //# ticket MUST be deleted.
    pub fn forget_tickets(&mut self) {
        for entry in self.sas.values_mut() {
            if let Some(tickets) = &mut entry.sa.core.tickets {
                tickets.forget();
            }
        }
    }

    /// Takes in what happened outside.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagram {
                local,
                remote,
                bytes,
                transport,
            } => {
                let stats = &mut self.shared.stats;
                stats.datagrams_in = stats.datagrams_in.saturating_add(1);
                stats.bytes_in = stats.bytes_in.saturating_add(bytes.len() as u64);
                self.on_datagram(
                    now,
                    Arrival {
                        local,
                        remote,
                        transport,
                    },
                    bytes,
                );
            }
            Input::StreamLost { local, remote } => self.on_stream_lost(now, (local, remote)),
            Input::Timeout => self.on_timeout(now),
            Input::Answer { id, answer } => self.on_answer(now, id, answer),
        }
        self.close_superseded(now);
        self.act_on_initial_contacts(now);
    }

    /// Begins an IKE SA with a peer, and under it a first child SA if one is asked for.
    ///
    /// From the NAT port everything goes with the non-ESP marker from the start. With [`Tcp::Yes`] both ports are others.
    pub fn initiate(
        &mut self,
        now: Instant,
        peer: Arc<PeerConfig>,
        child: Option<ChildRequest>,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> IkeSaId {
        self.begin(now, peer, child, (local, remote), Start::Full(None))
    }

    /// Resumes a session whose peer was lost (RFC 5723), by the ticket of [`Event::IkeClosed`], which should
    /// [fit](Ticket::fits). A ticket serves once; [`Event::IkeFailed`] with [`FailureReason::NoResponse`] to
    /// IKE_SESSION_RESUME leaves it unused.
    ///
    /// [`FailureReason::NoResponse`]: crate::FailureReason::NoResponse
    //= rfc5723#4.3.2
    //# The client MAY resume the IKE exchange from any IP address and
    //# port, regardless of its original address.
    pub fn resume(
        &mut self,
        now: Instant,
        peer: Arc<PeerConfig>,
        child: Option<ChildRequest>,
        (local, remote): (SocketAddr, SocketAddr),
        (ticket, auth): (&Ticket, ResumptionAuth),
    ) -> IkeSaId {
        let start = Start::Resume(ticket, auth);
        self.begin(now, peer, child, (local, remote), start)
    }

    /// The same with a gateway to which `from` has sent us (RFC 5685), as [`FailureReason::Redirected`] and
    /// [`CloseReason::Redirected`] say.
    //= rfc9329#7.2
    //# the client MUST first try UDP and then fall back to TCP while
    //# establishing a new IKE SA, regardless of the transport of the SA the
    //# redirect notification was received over (unless the client's
    //# configuration instructs it to instantly use TCP for the gateway it is
    //# redirected to).
    //= rfc5685#3
    //# When the client gets redirected, it MUST use the same Peer
    //# Authorization Database (PAD) and Security Policy Database (SPD)
    //# entries as it would have used with the original gateway.
    pub fn follow_redirect(
        &mut self,
        now: Instant,
        peer: Arc<PeerConfig>,
        child: Option<ChildRequest>,
        (local, remote): (SocketAddr, SocketAddr),
        from: IpAddr,
    ) -> IkeSaId {
        self.begin(now, peer, child, (local, remote), Start::Full(Some(from)))
    }

    fn begin(
        &mut self,
        now: Instant,
        peer: Arc<PeerConfig>,
        child: Option<ChildRequest>,
        (local, remote): (SocketAddr, SocketAddr),
        start: Start<'_>,
    ) -> IkeSaId {
        let id = IkeSaId(self.shared.fresh_id());
        let wanted = child.map(|request| Wanted::new(ChildSaId(self.shared.fresh_id()), request));
        if let Some(wanted) = &wanted {
            self.shared.children.insert(wanted.id, id);
        }
        self.shared.stats.initiated = self.shared.stats.initiated.saturating_add(1);
        let spi = context!(self, now).fresh_spi(id);
        let cx = &mut context!(self, now);
        let mut streams = Streams::of_originator();
        let listens = SocketAddr::new(remote.ip(), peer.tcp_remote_port);
        let path = if peer.tcp == Tcp::Yes {
            streams.open(cx, local.ip(), listens)
        } else {
            if peer.tcp == Tcp::Fallback {
                streams.draw(cx, local.ip(), listens);
            }
            let transport = if local.port() == cx.config.nat_port {
                Transport::UdpEncap
            } else {
                Transport::Udp
            };
            Path {
                local,
                remote,
                transport,
            }
        };
        let path = (path, streams);
        let sa = match start {
            Start::Full(from) => ike_sa_init::begin(cx, id, spi, peer, path, wanted, from),
            Start::Resume(ticket, auth) => {
                let session = (ticket.opaque.clone(), ticket.session.clone(), auth);
                ike_session_resume::begin(cx, (id, spi), peer, path, wanted, session)
            }
        };
        self.insert(id, spi, sa, None);
        id
    }

    /// Asks for a further child SA under an established IKE SA. `None` if there is none of that name, or one that ends.
    pub fn create_child(
        &mut self,
        now: Instant,
        ike: IkeSaId,
        request: ChildRequest,
    ) -> Option<ChildSaId> {
        let established = |entry: &Entry| matches!(entry.sa.state, State::Established(_));
        if !self.entry(ike).is_some_and(established) {
            return None;
        }
        let child = ChildSaId(self.shared.fresh_id());
        self.shared.children.insert(child, ike);
        self.with_sa(now, ike, |sa, cx| sa.create_child(cx, child, request));
        Some(child)
    }

    /// Renews a child SA: makes a successor, then deletes it (RFC 7296 §2.8). Does nothing if there is none of that name,
    /// or its renewal or end is under way.
    pub fn rekey_child(&mut self, now: Instant, child: ChildSaId) {
        if let Some(ike) = self.shared.children.get(&child).copied() {
            self.with_sa(now, ike, |sa, cx| sa.rekey_child(cx, child));
        }
    }

    /// Renews an IKE SA: makes a successor, which takes over the child SAs, then deletes it (RFC 7296 §2.18). Does nothing
    /// if there is none of that name, or its renewal or end is under way.
    pub fn rekey_ike(&mut self, now: Instant, ike: IkeSaId) {
        self.with_sa(now, ike, IkeSa::rekey_ike);
    }

    /// Whether an exchange is under way in which we make a successor of an IKE SA.
    pub fn is_rekeying(&self, ike: IkeSaId) -> bool {
        self.entry(ike).is_some_and(|entry| match &entry.sa.state {
            State::Established(established) => established.is_rekeying(),
            _ => false,
        })
    }

    /// Sends the peer to another gateway (RFC 5685 §5): [`Event::Redirecting`] follows when it has heard. False if that
    /// cannot be: there is no established IKE SA of that name, or the peer has not begun it or not said that it goes
    /// where it is sent.
    pub fn redirect(&mut self, now: Instant, ike: IkeSaId, to: Gateway) -> bool {
        let can_be = |entry: &Entry| {
            entry.sa.core.redirectable == Some(Party::Peer)
                && matches!(entry.sa.state, State::Established(_))
        };
        let can_be = self.entry(ike).is_some_and(can_be);
        if can_be {
            self.with_sa(now, ike, |sa, cx| sa.redirect(cx, to));
        }
        can_be
    }

    /// Agrees with the peer on Message IDs that neither end has used (RFC 6311): for whoever takes over an IKE SA and may
    /// not know how far it had come. What is under way is begun anew. [`Event::Synchronised`] follows when the peer has
    /// answered. Where the peer can do that too, sequence numbers of all child SAs are left out by both ends
    /// ([`Event::ReplayCounters`]), with or without the Message IDs. False if neither can be: there is no established IKE SA
    /// of that name, or the peer cannot do it.
    pub fn synchronise(&mut self, now: Instant, ike: IkeSaId) -> bool {
        let established = |entry: &&Entry| matches!(entry.sa.state, State::Established(_));
        let Some(entry) = self.entry(ike).filter(established) else {
            return false;
        };
        let core = &entry.sa.core;
        let (ids, counters) = (
            core.synchronisation.is_some(),
            core.replay_counters.is_some(),
        );
        if ids {
            self.with_sa(now, ike, IkeSa::synchronise);
        } else if counters {
            self.with_sa(now, ike, IkeSa::skip_sequences);
        }
        ids || counters
    }

    /// Deletes a child SA. Does nothing if there is none of that name.
    pub fn delete_child(&mut self, now: Instant, child: ChildSaId) {
        if let Some(ike) = self.shared.children.get(&child).copied() {
            self.with_sa(now, ike, |sa, cx| sa.delete_child(cx, child));
        }
    }

    /// Deletes an IKE SA and its child SAs. Does nothing if there is none of that name.
    pub fn delete_ike(&mut self, now: Instant, ike: IkeSaId) {
        self.with_sa(now, ike, IkeSa::delete);
    }

    /// Asks the peer for a sign of life. Does nothing if there is no established SA of that name, or an answer is
    /// awaited already.
    pub fn check_liveness(&mut self, now: Instant, ike: IkeSaId) {
        self.with_sa(now, ike, IkeSa::check_liveness);
    }

    /// Tells the peer that ESP came with an SPI that does not exist here (RFC 7296 §1.5, INVALID_SPI). Rate limited.
    pub fn report_invalid_spi(&mut self, now: Instant, ike: IkeSaId, spi: u32) {
        let data = spi.to_be_bytes().to_vec();
        self.with_sa(now, ike, |sa, cx| {
            sa.complain(cx, NotifyType::INVALID_SPI, None, data)
        });
    }

    /// Tells the peer that a packet came out of a child SA that does not fit its selectors (RFC 7296 §3.10.1,
    /// INVALID_SELECTORS). `packet` is its beginning. Rate limited.
    pub fn report_invalid_selectors(&mut self, now: Instant, child: ChildSaId, packet: &[u8]) {
        let Some(ike) = self.shared.children.get(&child).copied() else {
            return;
        };
        let Some(info) = self.child_sa(child) else {
            return;
        };
        let data = packet.get(..64).unwrap_or(packet).to_vec();
        let kind = NotifyType::INVALID_SELECTORS;
        let sa_spi = SaSpi {
            protocol: info.config.protocol_id(),
            spi: info.spi_in,
        };
        self.with_sa(now, ike, |sa, cx| sa.complain(cx, kind, Some(sa_spi), data));
    }

    /// The addresses at which this host may be reached by peers, all of them, best first: those that protected traffic
    /// has are none. IKE SAs that may move (RFC 4555) do so if theirs is gone, and tell their peers what has changed.
    pub fn set_addresses(&mut self, now: Instant, addresses: Vec<IpAddr>) {
        if addresses == self.shared.addresses {
            return;
        }
        self.shared.addresses = addresses;
        let mobile = self.sas.iter().filter(|(_, e)| e.sa.core.mobike.is_some());
        let ids: Vec<IkeSaId> = mobile.map(|(id, _)| *id).collect();
        for id in ids {
            self.with_sa(now, id, IkeSa::on_addresses);
        }
    }

    /// Notes where authentic ESP packets of a peer behind a NAT come from: its NAT's mapping may have changed
    /// (RFC 7296 §2.23). [`Event::Moved`] follows where they are followed.
    pub fn note_peer_address(&mut self, now: Instant, child: ChildSaId, remote: SocketAddr) {
        if let Some(ike) = self.shared.children.get(&child).copied() {
            self.with_sa(now, ike, |sa, cx| sa.core.heard_esp(cx, remote));
        }
    }

    /// The next thing to do outside; `None` when there is nothing more.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.shared.output.pop_front()
    }

    /// When [`Input::Timeout`] is due; `None`: never.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// An IKE SA.
    pub fn ike_sa(&self, ike: IkeSaId) -> Option<IkeSaInfo> {
        self.sas
            .get(&ike)
            .filter(|entry| entry.sa.core.announced)
            .map(|entry| entry.sa.info())
            .filter(is_alive)
    }

    /// All IKE SAs that have not ended, oldest first.
    pub fn ike_sas(&self) -> impl Iterator<Item = IkeSaInfo> + '_ {
        self.sas
            .values()
            .filter(|entry| entry.sa.core.announced)
            .map(|entry| entry.sa.info())
            .filter(is_alive)
    }

    /// A child SA that is installed.
    pub fn child_sa(&self, child: ChildSaId) -> Option<ChildSaInfo> {
        let ike = self.shared.children.get(&child)?;
        self.sas
            .get(ike)?
            .sa
            .child_infos()
            .find(|info| info.id == child)
    }

    /// All child SAs that are installed, by their IKE SAs.
    pub fn child_sas(&self) -> impl Iterator<Item = ChildSaInfo> + '_ {
        self.sas.values().flat_map(|entry| entry.sa.child_infos())
    }

    /// How many IKE SAs peers have begun and not finished.
    pub fn half_open(&self) -> usize {
        self.defence.half_open.total
    }

    /// What is asked of strangers now.
    pub fn defence(&self, now: Instant) -> DefenceLevel {
        self.defence.level(now, &self.config)
    }

    /// How many IKE SAs are held in memory, those that linger after their end included.
    pub fn size(&self) -> usize {
        self.sas.len()
    }

    /// Octets that fragments of incomplete messages take up, of all IKE SAs together.
    pub fn reassembling(&self) -> usize {
        self.shared.pool.used()
    }

    /// What has been counted.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }
}

fn is_alive(info: &IkeSaInfo) -> bool {
    info.state != IkeSaState::Closed
}
