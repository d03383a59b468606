//! All IKE SAs of one daemon: which message is for which SA, and what happens to those that are for none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{Entropy, KeyExchangeProvider, sha256};
use cygnet_wire::{
    ExchangeType, Flags, Gateway, Header, IkeSpi, Message, Notify, NotifyType, ParseErrorKind,
    Payload, PayloadWriter, Version, write_message,
};

use crate::child::Wanted;
use crate::config::{Directory, EndpointConfig, PeerConfig, Tcp};
use crate::context::{Acquaintance, Context, InitialContact, Path, Shared};
use crate::cookie::Task;
use crate::defence::{Admission, Defence, DefenceLevel};
use crate::exchange::crash_detection;
use crate::exchange::first_request::{FirstRequest, Verdict};
use crate::exchange::ike_sa_init::{self, InitRequest};
use crate::exchange::ike_session_resume::{self, ResumeRequest, ResumptionAuth};
use crate::fragment::Share;
use crate::identity::Identity;
use crate::info::{ChildSaInfo, IkeSaInfo, IkeSaState, Role};
use crate::io::{Answer, ChildRequest, ChildSaId, Event, IkeSaId, Input, Output, RequestId};
use crate::proposal::SaSpi;
use crate::reason::{CloseReason, Party, RejectReason};
use crate::receive::is_first;
use crate::sa::{Arrival, IkeSa, State};
use crate::stats::{DropReason, Stats};
use crate::stream::Streams;
use crate::ticket::{Ticket, TicketKeys};
use crate::transport::Transport;

/// Octets of an IKE_SA_INIT request that are read. It is kept whole until IKE_AUTH, for anybody who asks; those of real
/// peers, with all their algorithms and vendor IDs, have a third of that.
const MAX_INIT_REQUEST: usize = 10_000;

/// All IKE SAs of one daemon.
///
/// See the [crate's page](crate) for the order in which to call its methods.
pub struct Endpoint {
    config: EndpointConfig,
    directory: Arc<dyn Directory>,
    key_exchange: Arc<dyn KeyExchangeProvider>,
    entropy: Box<dyn Entropy + Send>,
    shared: Shared,
    sas: BTreeMap<IkeSaId, Entry>,
    /// By the IKE_SA_INIT request that made them, so that its repetitions are known.
    by_init: HashMap<InitKey, IkeSaId>,
    timers: BTreeSet<(Instant, IkeSaId)>,
    defence: Defence,
    /// How many IKE SAs use a stream: more than one while one replaces another.
    streams: HashMap<StreamName, usize>,
}

/// An IKE SA and where it is listed.
#[derive(Debug)]
struct Entry {
    sa: Box<IkeSa>,
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

/// Why a request that begins an IKE SA is not served.
enum Unserved {
    /// It has been answered as it had to be, or is one too many.
    Told,
    /// There is nothing to negotiate.
    Incompatible,
}

/// The two ends of a stream, ours first.
type StreamName = (SocketAddr, SocketAddr);

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
        Context {
            now: $now,
            config: &$self.config,
            directory: &*$self.directory,
            key_exchange: &*$self.key_exchange,
            entropy: &mut *$self.entropy,
            shared: &mut $self.shared,
        }
    };
}

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
            streams: HashMap::new(),
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
        let path = if peer.tcp == Tcp::Yes {
            let remote = SocketAddr::new(remote.ip(), peer.tcp_remote_port);
            streams.open(cx, local.ip(), remote)
        } else {
            if peer.tcp == Tcp::Fallback {
                streams.draw(cx);
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
        if !self.sas.get(&ike).is_some_and(established) {
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

    /// Sends the peer to another gateway (RFC 5685 §5): [`Event::Redirecting`] follows when it has heard. False if that
    /// cannot be: there is no established IKE SA of that name, or the peer has not begun it or not said that it goes
    /// where it is sent.
    pub fn redirect(&mut self, now: Instant, ike: IkeSaId, to: Gateway) -> bool {
        let can_be = |entry: &Entry| {
            entry.sa.core.redirectable == Some(Party::Peer)
                && matches!(entry.sa.state, State::Established(_))
        };
        let can_be = self.sas.get(&ike).is_some_and(can_be);
        if can_be {
            self.with_sa(now, ike, |sa, cx| sa.redirect(cx, to));
        }
        can_be
    }

    /// Agrees with the peer on Message IDs that neither end has used (RFC 6311): for whoever takes over an IKE SA and may
    /// not know how far it had come. What is under way is begun anew. [`Event::Synchronised`] follows when the peer has
    /// answered. False if that cannot be: there is no established IKE SA of that name, or the peer cannot do it.
    pub fn synchronise(&mut self, now: Instant, ike: IkeSaId) -> bool {
        let can_be = |entry: &Entry| {
            entry.sa.core.synchronisation.is_some()
                && matches!(entry.sa.state, State::Established(_))
        };
        let can_be = self.sas.get(&ike).is_some_and(can_be);
        if can_be {
            self.with_sa(now, ike, IkeSa::synchronise);
        }
        can_be
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
        let mobile =
            |(id, entry): (&IkeSaId, &Entry)| entry.sa.core.mobike.is_some().then_some(*id);
        let ids: Vec<IkeSaId> = self.sas.iter().filter_map(mobile).collect();
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

    fn insert(&mut self, id: IkeSaId, spi: IkeSpi, sa: IkeSa, init: Option<InitKey>) {
        if let Some(key) = init {
            self.by_init.insert(key, id);
        }
        let (timer, half_open, pair) = (None, None, None);
        let share = Share::default();
        self.sas.insert(
            id,
            Entry {
                sa: Box::new(sa),
                spi,
                init,
                timer,
                half_open,
                share,
                spoilt: false,
                pair,
                stream: None,
            },
        );
        self.settle(id);
    }

    /// Lets an SA do something.
    fn with_sa(
        &mut self,
        now: Instant,
        id: IkeSaId,
        act: impl FnOnce(&mut IkeSa, &mut Context<'_>),
    ) {
        if let Some(entry) = self.sas.get_mut(&id) {
            act(&mut entry.sa, &mut context!(self, now));
            self.settle(id);
            self.admit_successors(now);
        }
    }

    /// Lists the IKE SAs that others have made to replace them, and hands over what is to be theirs. Those that will not
    /// take over are crossed out.
    fn admit_successors(&mut self, now: Instant) {
        for (old, heir) in std::mem::take(&mut self.shared.withdrawn) {
            self.with_sa(now, old, |sa, _| sa.forget_heir(heir));
        }
        for sa in std::mem::take(&mut self.shared.births) {
            let (id, spi) = (sa.core.id, sa.core.own_spi());
            self.insert(id, spi, sa, None);
        }
        for transfer in std::mem::take(&mut self.shared.transfers) {
            self.with_sa(now, transfer.to, |sa, cx| sa.inherit(cx, transfer));
        }
    }

    /// Brings the lists up to date with an SA that has done something.
    fn settle(&mut self, id: IkeSaId) {
        let Some(entry) = self.sas.get_mut(&id) else {
            return;
        };
        let core = &entry.sa.core;
        let gone = matches!(entry.sa.state, State::Gone);

        let timer = entry.sa.next_timeout(&self.config).filter(|_| !gone);
        if timer != entry.timer {
            if let Some(at) = entry.timer {
                self.timers.remove(&(at, id));
            }
            if let Some(at) = timer {
                self.timers.insert((at, id));
            }
            entry.timer = timer;
        }

        // One that failed counts until it is forgotten: it costs memory as long.
        let half_open = core.role == Role::Responder && core.established.is_none() && !gone;
        match (entry.half_open, half_open) {
            (None, true) => {
                let address = core.path.remote.ip();
                entry.half_open = Some(address);
                self.defence.half_open.add(address);
            }
            (Some(address), false) => {
                entry.half_open = None;
                self.defence.half_open.remove(address);
            }
            _ => {}
        }

        let spoilt = half_open && entry.sa.is_spoilt();
        if spoilt != entry.spoilt {
            let count = &mut self.defence.half_open.spoilt;
            *count = if spoilt {
                count.saturating_add(1)
            } else {
                count.saturating_sub(1)
            };
            entry.spoilt = spoilt;
        }

        let share = Share {
            cost: if gone { 0 } else { core.fragments.cost() },
            known: core.established.is_some(),
        };
        self.shared.pool.replace(entry.share, share);
        entry.share = share;

        let acquaintance = Acquaintance {
            address: core.path.remote.ip(),
            since: core.established,
        };
        let pair = entry.sa.identities().map(|pair| (pair, acquaintance));
        if pair != entry.pair {
            if let Some((old, _)) = entry.pair.take()
                && let Some(ids) = self.shared.pairs.get_mut(&old)
            {
                ids.remove(&id);
                if ids.is_empty() {
                    self.shared.pairs.remove(&old);
                }
            }
            if let Some((new, acquaintance)) = &pair {
                let ids = self.shared.pairs.entry(new.clone()).or_default();
                ids.insert(id, *acquaintance);
            }
            entry.pair = pair;
        }

        // An SA that is half open uses nothing yet: who has come with it may be anybody.
        let ended = gone || matches!(entry.sa.state, State::Lingering { .. });
        let known = core.streams.originator || core.established.is_some();
        let uses = core.path.transport == Transport::Tcp && known && !ended;
        let stream = uses.then_some((core.path.local, core.path.remote));
        let former = std::mem::replace(&mut entry.stream, stream);
        // Begun anew over TCP, it has another one.
        entry.spi = core.own_spi();

        if gone {
            self.shared.spis.remove(&entry.spi);
            if let Some(key) = &entry.init {
                self.by_init.remove(key);
            }
            self.sas.remove(&id);
        }
        if former != stream {
            self.count_streams(former, stream);
        }
    }

    /// Says which stream is no longer used, and which is from now on.
    fn count_streams(&mut self, former: Option<StreamName>, now: Option<StreamName>) {
        if let Some(name) = now {
            let users = self.streams.entry(name).or_default();
            *users = users.saturating_add(1);
            if *users == 1 {
                self.shared.output.push_back(stream_output(name, true));
            }
        }
        if let Some(name) = former
            && let Some(users) = self.streams.get_mut(&name)
        {
            *users = users.saturating_sub(1);
            if *users == 0 {
                self.streams.remove(&name);
                self.shared.output.push_back(stream_output(name, false));
            }
        }
    }

    /// A stream is broken: each IKE SA that uses it learns that.
    fn on_stream_lost(&mut self, now: Instant, name: StreamName) {
        if !self.streams.contains_key(&name) {
            return;
        }
        let users = self.sas.iter().filter(|(_, e)| e.stream == Some(name));
        let users: Vec<IkeSaId> = users.map(|(id, _)| *id).collect();
        for id in users {
            self.with_sa(now, id, IkeSa::on_stream_lost);
        }
    }

    //= rfc7296#2.4
    //# The INITIAL_CONTACT notification asserts that this IKE SA is the only
    //# IKE SA currently active between the authenticated identities.  It MAY
    //# be sent when an IKE SA is established after a crash, and the
    //# recipient MAY use this information to delete any other IKE SAs it has
    //# to the same authenticated identity without waiting for a timeout.
    fn act_on_initial_contacts(&mut self, now: Instant) {
        for contact in std::mem::take(&mut self.shared.initial_contacts) {
            let InitialContact {
                by,
                begun,
                local,
                remote,
            } = contact;
            let ids = self
                .shared
                .pairs
                .get(&(local, remote))
                .cloned()
                .unwrap_or_default();
            let gone = |(id, other): &(IkeSaId, Acquaintance)| *id != by && other.is_before(begun);
            for (id, _) in ids.into_iter().filter(gone) {
                let reason = CloseReason::ReplacedByInitialContact;
                self.with_sa(now, id, |sa, cx| sa.close(cx, reason));
            }
        }
    }

    /// Closes the IKE SAs whose sessions have been resumed.
    fn close_superseded(&mut self, now: Instant) {
        for spi in std::mem::take(&mut self.shared.superseded) {
            if let Some(id) = self.shared.spis.get(&spi).copied() {
                self.with_sa(now, id, |sa, cx| sa.close(cx, CloseReason::Resumed));
            }
        }
    }

    fn on_timeout(&mut self, now: Instant) {
        // Each SA once: what an SA sets anew for now is due next time.
        let due: Vec<_> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect();
        for id in due {
            self.with_sa(now, id, IkeSa::on_timeout);
        }
    }

    fn on_answer(&mut self, now: Instant, id: RequestId, answer: Answer) {
        if let Some(ike) = self.shared.answered(id, &answer) {
            self.with_sa(now, ike, |sa, cx| sa.on_answer(cx, id, answer));
        }
    }

    fn on_datagram(&mut self, now: Instant, arrival: Arrival, bytes: &[u8]) {
        if bytes.len() > self.config.max_datagram {
            return self.shared.stats.count(DropReason::TooLong);
        }
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(error) => match error.kind {
                ParseErrorKind::UnsupportedMajorVersion(version) => {
                    return self.on_major_version(now, arrival, bytes, version);
                }
                ParseErrorKind::OldMajorVersion(_) => {
                    return self.shared.stats.count(DropReason::MajorVersion);
                }
                _ => return self.shared.stats.count(DropReason::Malformed),
            },
        };
        self.shared.under_load = self.defence(now) != DefenceLevel::None;
        let header = message.header();
        if is_first(header.exchange) && !header.flags.response {
            return self.on_first_request(now, arrival, &message);
        }
        // The SPI that we have chosen is the one that the sender has not.
        let (ours, theirs) = if header.flags.initiator {
            (header.responder_spi, header.initiator_spi)
        } else {
            (header.initiator_spi, header.responder_spi)
        };
        let id = self.shared.spis.get(&ours).copied();
        let fits = |entry: &Entry| {
            let core = &entry.sa.core;
            let (known, role) = if header.flags.initiator {
                (core.initiator_spi, Role::Responder)
            } else {
                (core.responder_spi, Role::Initiator)
            };
            core.role == role && (known == theirs || known == IkeSpi::ZERO)
        };
        let Some(id) = id.filter(|id| self.sas.get(id).is_some_and(fits)) else {
            return self.on_unknown_spi(now, arrival, &message);
        };
        if is_unprotected_hint(&message) {
            return self.with_sa(now, id, |sa, cx| sa.on_unprotected_hint(cx, &message));
        }
        self.with_sa(now, id, |sa, cx| sa.on_message(cx, arrival, &message));
    }

    /// A message of a version that is yet to come.
    //= rfc7296#2.5
    //# If an endpoint receives a message with a higher major version number,
    //# it MUST drop the message and SHOULD send an unauthenticated Notify
    //# message of type INVALID_MAJOR_VERSION containing the highest
    //# (closest) version number it supports.
    fn on_major_version(&mut self, now: Instant, arrival: Arrival, bytes: &[u8], version: u8) {
        self.shared.stats.count(DropReason::MajorVersion);
        let Ok(header) = Header::parse(bytes) else {
            return;
        };
        if header.flags.response {
            return;
        }
        let data = [Version::IKEV2.major];
        let notify = Notify::new(NotifyType::INVALID_MAJOR_VERSION, &data);
        self.reject(now, arrival, RejectReason::MajorVersion(version), || {
            unprotected_answer(&header, |payloads| {
                payloads.notify(&notify);
            })
        });
    }

    /// A message for an IKE SA that is not here.
    fn on_unknown_spi(&mut self, now: Instant, arrival: Arrival, message: &Message<'_>) {
        self.shared.stats.count(DropReason::UnknownSpi);
        let header = message.header();
        //= rfc7296#2.21.4
        //# If the message is marked as a response, the node can audit the
        //# suspicious event but MUST NOT respond.
        if header.flags.response {
            return;
        }
        //= rfc7296#2.21.4
        //# If a response is sent, the response MUST be sent to the IP
        //# address and port from where it came with the same IKE SPIs and the
        //# Message ID copied.  The response MUST NOT be cryptographically
        //# protected and MUST contain an INVALID_IKE_SPI Notify payload.
        let mut cx = context!(self, now);
        if !cx.may_reply() {
            return;
        }
        let token = crash_detection::of_lost(&cx, message);
        let answer = unprotected_answer(header, |payloads| {
            crash_detection::write_lost(token.as_ref(), payloads);
        });
        if let Some(answer) = answer {
            let sent = &mut cx.shared.stats.crash_tokens_sent;
            *sent = sent.saturating_add(u64::from(token.is_some()));
            cx.transmit(arrival.back(), answer);
        }
    }

    /// Refuses something that has no SA, within the limit of such replies.
    fn reject(
        &mut self,
        now: Instant,
        arrival: Arrival,
        reason: RejectReason,
        answer: impl FnOnce() -> Option<Vec<u8>>,
    ) {
        let mut cx = context!(self, now);
        if cx.may_reply() {
            let Arrival { local, remote, .. } = arrival;
            cx.event(Event::Rejected {
                local,
                remote,
                reason,
            });
            if let Some(answer) = answer() {
                cx.transmit(arrival.back(), answer);
            }
        }
    }

    fn on_first_request(&mut self, now: Instant, arrival: Arrival, message: &Message<'_>) {
        if message.as_bytes().len() > MAX_INIT_REQUEST {
            return self.shared.stats.count(DropReason::TooLong);
        }
        //= rfc7296#2.1
        //# Instead, a
        //# robust responder will do the IKE SA lookup using the whole packet,
        //# its hash, or the Ni payload.
        let key = (sha256(&[message.as_bytes()]), arrival.remote);
        if let Some(id) = self.by_init.get(&key).copied() {
            let bytes = message.as_bytes();
            return self.with_sa(now, id, |sa, cx| sa.on_repeated_init(cx, arrival, bytes));
        }
        let verdict = if message.header().exchange == ExchangeType::IKE_SESSION_RESUME {
            ResumeRequest::read(message)
                .map(|request| self.on_resume_request(now, arrival, request))
        } else {
            InitRequest::read(message).map(|request| self.on_init_request(now, arrival, request))
        };
        match verdict {
            Ok(None) => {}
            Ok(Some(verdict)) | Err(verdict) => self.on_verdict(now, arrival, key, verdict),
        }
    }

    /// Whether a request is served at all now, before anything is computed for it: with the puzzle that it has solved.
    /// `Err`: it is not, and has been told so.
    fn admit(
        &mut self,
        now: Instant,
        arrival: Arrival,
        request: &FirstRequest<'_>,
    ) -> Result<Option<Task>, Unserved> {
        let admission = self.defence.admit(
            now,
            &self.config,
            &mut *self.entropy,
            &mut self.shared.stats,
            request,
            arrival,
        );
        match admission {
            Admission::Admitted(solved) => Ok(solved),
            Admission::Asked { cookie, puzzle } => {
                if let Some(answer) = request.ask(&cookie, puzzle) {
                    context!(self, now).transmit(arrival.back(), answer);
                }
                Err(Unserved::Told)
            }
            Admission::Incompatible => Err(Unserved::Incompatible),
            Admission::Refused(drop, reason) => {
                self.shared.stats.count(drop);
                self.reject(now, arrival, reason, || None);
                Err(Unserved::Told)
            }
        }
    }

    fn on_init_request(
        &mut self,
        now: Instant,
        arrival: Arrival,
        request: InitRequest<'_>,
    ) -> Option<Verdict> {
        let solved = match self.admit(now, arrival, &request.first) {
            Ok(solved) => solved,
            Err(Unserved::Told) => return None,
            Err(Unserved::Incompatible) => {
                return Some(request.incompatible(&context!(self, now), arrival));
            }
        };
        if let Some(verdict) = request.first.redirect(&mut context!(self, now), arrival) {
            return Some(verdict);
        }
        let id = IkeSaId(self.shared.fresh_id());
        let puzzle = solved.and_then(|task| self.defence.before_auth(task));
        let mut cx = context!(self, now);
        let spi = cx.fresh_spi(id);
        let verdict = request.accept(&mut cx, arrival, id, spi, puzzle);
        if !matches!(verdict, Verdict::Accepted(_)) {
            self.shared.spis.remove(&spi);
        }
        // Who has to come again with another public value may bring the same solution.
        if let Some(task) = solved
            && !matches!(verdict, Verdict::AnotherMethod(_))
        {
            self.defence.spend(task);
        }
        Some(verdict)
    }

    fn on_resume_request(
        &mut self,
        now: Instant,
        arrival: Arrival,
        request: ResumeRequest<'_>,
    ) -> Option<Verdict> {
        self.admit(now, arrival, &request.first).ok()?;
        let mut cx = context!(self, now);
        if let Some(verdict) = request.first.redirect(&mut cx, arrival) {
            return Some(verdict);
        }
        let grant = match request.open(&cx, arrival) {
            Ok(grant) => grant,
            Err(refusal) => return Some(request.refuse(refusal)),
        };
        let id = IkeSaId(cx.shared.fresh_id());
        let spi = cx.fresh_spi(id);
        let verdict = request.accept(&mut cx, arrival, id, spi, grant);
        if !matches!(verdict, Verdict::Accepted(_)) {
            self.shared.spis.remove(&spi);
        }
        Some(verdict)
    }

    fn on_verdict(&mut self, now: Instant, arrival: Arrival, key: InitKey, verdict: Verdict) {
        match verdict {
            Verdict::Accepted(sa) => {
                self.shared.stats.responded = self.shared.stats.responded.saturating_add(1);
                let (id, spi) = (sa.core.id, sa.core.responder_spi);
                self.insert(id, spi, *sa, Some(key));
            }
            Verdict::Refused { answer, reason } => {
                match reason {
                    RejectReason::KeyExchange(_) => self.defence.note_probe(now),
                    RejectReason::Ticket(_) => {
                        let refused = &mut self.shared.stats.tickets_refused;
                        *refused = refused.saturating_add(1);
                    }
                    _ => {}
                }
                self.shared.stats.count(DropReason::BadInit);
                self.reject(now, arrival, reason, || answer);
            }
            Verdict::AnotherMethod(answer) => {
                let stats = &mut self.shared.stats;
                stats.invalid_ke_sent = stats.invalid_ke_sent.saturating_add(1);
                context!(self, now).transmit(arrival.back(), answer);
            }
            Verdict::Redirected(answer) => {
                let stats = &mut self.shared.stats;
                stats.redirected = stats.redirected.saturating_add(1);
                context!(self, now).transmit(arrival.back(), answer);
            }
            Verdict::Dropped(reason) => self.shared.stats.count(reason),
        }
    }
}

fn stream_output((local, remote): StreamName, used: bool) -> Output {
    Output::Stream {
        local,
        remote,
        used,
    }
}

fn is_alive(info: &IkeSaInfo) -> bool {
    info.state != IkeSaState::Closed
}

/// Whether a message says, without protection, that the sender does not know the SA or the version: at most a hint,
/// since anybody can send it.
fn is_unprotected_hint(message: &Message<'_>) -> bool {
    !is_first(message.header().exchange)
        && message.payloads().any(|payload| {
            matches!(
                payload,
                Ok(Payload::Notify(Notify {
                    kind: NotifyType::INVALID_IKE_SPI
                        | NotifyType::INVALID_MAJOR_VERSION
                        | NotifyType::QUICK_CRASH_DETECTION,
                    ..
                }))
            )
        })
}

/// A response without protection, with SPIs, Message ID and exchange of the request.
fn unprotected_answer(
    request: &Header,
    write: impl FnOnce(&mut PayloadWriter<'_>),
) -> Option<Vec<u8>> {
    // The sender of the request is the original initiator exactly if we are not.
    let flags = Flags {
        initiator: !request.flags.initiator,
        response: true,
        version: false,
    };
    let (i, r) = (request.initiator_spi, request.responder_spi);
    let header = Header::new(i, r, request.exchange, flags, request.message_id);
    let mut bytes = Vec::new();
    write_message(&mut bytes, &header, write).ok()?;
    Some(bytes)
}
