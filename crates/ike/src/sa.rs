//! One IKE SA: what all its states share, and which state gets to see what.
//!
//! A state is a struct with exactly the data that is valid in it. Handling something consumes the state and gives
//! the next one, so that a state that is over cannot be used. The way of an IKE SA:
//!
//! ```text
//! initiator:  InitSent | ResumeSent [-> PuzzleWanted] [-> IntermediateSent…] -> SpiWanted -> AuthSent -> Established -> Deleting -> Lingering -> Gone
//! responder:  (KeysDeferred ->) AuthAwaited (IKE_INTERMEDIATE, too) -> ChildPending -> Established -> …
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::IkeSuite;
use cygnet_ipsec::EncapKind;
use cygnet_wire::{
    ExchangeType, Flags, Gateway, Header, IkeSpi, Message, NotifyType, PayloadWriter,
};

use crate::channel::{Channel, Plaintext, SealError};
use crate::child::ChildSa;
use crate::config::{Encapsulation, EndpointConfig, PeerConfig};
use crate::context::{Back, Context, Limiter, Path};
use crate::deleting::Deleting;
use crate::established::{Established, end_children, report_closed};
use crate::exchange::crash_detection::{self, PeerToken};
use crate::exchange::ike_auth::{AuthAwaited, AuthSent, ChildPending, KeysDeferred, SpiWanted};
use crate::exchange::ike_intermediate::IntermediateSent;
use crate::exchange::ike_sa_init::InitSent;
use crate::exchange::ike_session_resume::{ResumeSent, Tickets};
use crate::exchange::message_id_sync::Synchronisation;
use crate::exchange::mobike::{self, ChildPath, Mobike};
use crate::exchange::puzzle::PuzzleWanted;
use crate::fragment::{Datagrams, Fragments, SHRINK_AT};
use crate::identity::Identity;
use crate::info::{ChildSaInfo, IkeSaInfo, IkeSaState, NatSituation, Role};
use crate::io::{Answer, ChildRequest, ChildSaId, Event, IkeSaId, RequestId};
use crate::keepalive;
use crate::proposal::SaSpi;
use crate::reason::{CloseReason, FailureReason, Party};
use crate::stats::DropReason;
use crate::stream::{self, FALLBACK_AFTER, Streams};
use crate::succession::{Standing, Transfer};
use crate::transport::Transport;
use crate::window::{Due, Incoming, MAX_WINDOW, Outgoing};

/// Complaints to a peer, and liveness checks because of unprotected hints, per second.
const SPOKEN_UP_PER_SECOND: u32 = 4;

/// Where a datagram came from, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) transport: Transport,
}

impl Arrival {
    /// The way back.
    //= rfc7296#2.11
    //# An implementation MUST accept incoming requests even if the
    //# source port is not 500 or 4500, and MUST respond to the address and
    //# port from which the request was received.
    pub(crate) fn back(self) -> Path {
        Path {
            local: self.local,
            remote: self.remote,
            transport: self.transport,
        }
    }
}

/// What an IKE SA has in every state.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) id: IkeSaId,
    pub(crate) role: Role,
    pub(crate) initiator_spi: IkeSpi,
    pub(crate) responder_spi: IkeSpi,
    /// A responder has the best guess here until the peer is authenticated.
    pub(crate) config: Arc<PeerConfig>,
    pub(crate) path: Path,
    pub(crate) nat: NatSituation,
    pub(crate) suite: Option<IkeSuite>,
    /// A post-quantum pre-shared key has part in the keys of this SA or of one before it.
    pub(crate) ppk: bool,
    /// IKE_AUTH asked for no child SA, of this SA or of the first one before it.
    pub(crate) childless: bool,
    pub(crate) local_id: Option<Identity>,
    pub(crate) remote_id: Option<Identity>,
    pub(crate) created: Instant,
    pub(crate) established: Option<Instant>,
    /// The IKE SA in whose place it comes.
    pub(crate) replaces: Option<IkeSaId>,
    /// It may be told of. A successor is when it takes over, and a redundant one never.
    pub(crate) announced: bool,
    pub(crate) last_heard: Option<Instant>,
    /// When the last message, or what takes its place, was sent.
    pub(crate) last_sent: Instant,
    /// What is agreed and known for moves to other addresses.
    pub(crate) mobike: Option<Box<Mobike>>,
    /// Where the child SAs still are, if they do not follow yet.
    pub(crate) children_at: Option<ChildPath>,
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
    pub(crate) fragments: Fragments,
    /// We want it deleted as soon as that can be said.
    pub(crate) unwanted: bool,
    /// Of what others' datagrams make us say to the peer.
    pub(crate) spoken_up: Limiter,
    /// Of the peer's renewals of this IKE SA and of those before it.
    pub(crate) renewals: Limiter,
    /// Of child SAs that the peer has made, under this IKE SA and those before it.
    pub(crate) creations: Limiter,
    /// Child SAs that we want deleted as soon as that can be said.
    pub(crate) unwanted_children: Vec<ChildSaId>,
    /// Who of the two may be sent to another gateway: whoever has begun the first IKE SA, if it has said so.
    pub(crate) redirectable: Option<Party>,
    /// The gateway that has sent us to the peer.
    pub(crate) redirected_from: Option<IpAddr>,
    /// By what the peer may show that it has lost the IKE SA.
    pub(crate) peer_token: Option<Box<PeerToken>>,
    /// Of Message IDs, if both ends can.
    pub(crate) synchronisation: Option<Box<Synchronisation>>,
    /// How often the peer has had us leave sequence numbers out; `None` if not both ends can.
    pub(crate) replay_counters: Option<Limiter>,
    /// By which the session may be resumed; `None` where it may not.
    pub(crate) tickets: Option<Box<Tickets>>,
    /// What is known of its streams.
    pub(crate) streams: Streams,
}

impl Core {
    /// When its lifetime is over.
    pub(crate) fn ends(&self) -> Option<Instant> {
        let known = self.config.lifetime.zip(self.established);
        known.map(|(lifetime, established)| established + lifetime)
    }

    /// One that is to be made.
    pub(crate) fn new(
        id: IkeSaId,
        role: Role,
        (initiator_spi, responder_spi): (IkeSpi, IkeSpi),
        config: Arc<PeerConfig>,
        path: Path,
        now: Instant,
    ) -> Self {
        Self {
            id,
            role,
            initiator_spi,
            responder_spi,
            config,
            path,
            nat: NatSituation::default(),
            suite: None,
            ppk: false,
            childless: false,
            local_id: None,
            remote_id: None,
            created: now,
            established: None,
            replaces: None,
            announced: true,
            last_heard: None,
            last_sent: now,
            mobike: None,
            children_at: None,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            fragments: Fragments::default(),
            unwanted: false,
            spoken_up: Limiter::default(),
            renewals: Limiter::default(),
            creations: Limiter::default(),
            unwanted_children: Vec::new(),
            redirectable: None,
            redirected_from: None,
            peer_token: None,
            synchronisation: None,
            replay_counters: None,
            tickets: None,
            streams: Streams::default(),
        }
    }

    /// A successor, which we have begun as `role`, with new SPIs and algorithms and all counters at zero.
    //= rfc7296#2.18
    //# The new IKE SA MUST reset its message counters to 0.
    pub(crate) fn successor(
        &self,
        id: IkeSaId,
        role: Role,
        spis: (IkeSpi, IkeSpi),
        suite: IkeSuite,
        now: Instant,
    ) -> Self {
        Self {
            nat: self.nat,
            suite: Some(suite),
            ppk: self.ppk,
            childless: self.childless,
            local_id: self.local_id.clone(),
            remote_id: self.remote_id.clone(),
            established: Some(now),
            replaces: Some(self.id),
            announced: false,
            last_heard: self.last_heard,
            last_sent: self.last_sent,
            mobike: self.mobike.as_ref().map(|m| Box::new(m.heir())),
            children_at: self.children_at,
            fragments: Fragments::new(self.fragments.agreed),
            renewals: self.renewals,
            creations: self.creations,
            redirectable: self.redirectable,
            redirected_from: self.redirected_from,
            synchronisation: self.synchronisation.as_ref().map(|_| Box::default()),
            replay_counters: self.replay_counters,
            tickets: self.tickets.as_ref().map(|tickets| tickets.heir(now)),
            streams: self.streams,
            ..Self::new(id, role, spis, Arc::clone(&self.config), self.path, now)
        }
    }

    /// The SPI that we have chosen.
    pub(crate) fn own_spi(&self) -> IkeSpi {
        match self.role {
            Role::Initiator => self.initiator_spi,
            Role::Responder => self.responder_spi,
        }
    }

    /// Whether the peer may be told, or asked, once more because of a datagram that need not be its own. Each IKE SA has
    /// a limit of its own: neither strangers nor another peer can use it up.
    //= rfc7296#2.3
    //# Sending this notification is
    //# OPTIONAL, and notifications of this type MUST be rate limited.
    pub(crate) fn may_speak_up(&mut self, cx: &mut Context<'_>) -> bool {
        let may = self.spoken_up.take(cx.now, SPOKEN_UP_PER_SECOND);
        if !may {
            cx.drop(DropReason::RateLimited);
        }
        may
    }

    /// Our address and the peer's.
    pub(crate) fn addresses(&self) -> (IpAddr, IpAddr) {
        (self.path.local.ip(), self.path.remote.ip())
    }

    /// What child SAs put ESP into.
    //= rfc7296#2.23
    //# However, if a NAT
    //# is detected, both devices MUST use UDP encapsulation for ESP.
    //= rfc7296#2.23
    //# UDP encapsulation MUST NOT be done on port 500.
    pub(crate) fn encapsulation(&self) -> Option<EncapKind> {
        match self.path.transport {
            Transport::Udp => None,
            Transport::UdpEncap => self.wants_encapsulation().then_some(EncapKind::Udp),
            //= rfc9329#5
            //# If TCP encapsulation is being used for a specific IKE SA, all IKE
            //# messages for that IKE SA and ESP packets for its Child SAs MUST be
            //# sent over a TCP connection until the SA is deleted or IKEv2 Mobility
            //# and Multihoming (MOBIKE) is used to change the SA endpoints and/or the
            //# encapsulation protocol.
            Transport::Tcp => Some(EncapKind::Tcp),
        }
    }

    /// Between what the child SAs run.
    pub(crate) fn child_path(&self) -> ChildPath {
        self.children_at.unwrap_or(ChildPath {
            local: self.path.local,
            remote: self.path.remote,
            encapsulation: self.encapsulation(),
        })
    }

    /// Whether there is a reason to put ESP into UDP.
    pub(crate) fn wants_encapsulation(&self) -> bool {
        match self.config.force_encapsulation {
            Encapsulation::No => false,
            Encapsulation::Auto => self.nat.detected(),
            Encapsulation::Yes => self.nat.supported,
        }
    }

    fn header(&self, exchange: ExchangeType, response: bool, message_id: u32) -> Header {
        //= rfc7296#3.1
        //# This bit MUST be set in messages sent by the
        //# original initiator of the IKE SA and MUST be cleared in messages
        //# sent by the original responder.
        let flags = Flags {
            initiator: self.role == Role::Initiator,
            response,
            version: false,
        };
        Header::new(
            self.initiator_spi,
            self.responder_spi,
            exchange,
            flags,
            message_id,
        )
    }

    /// The header of our first request, in each of its forms.
    //= rfc7296#2.2
    //# The Message ID is a 32-bit quantity, which is zero for the
    //# IKE_SA_INIT messages
    pub(crate) fn first_header(&self, exchange: ExchangeType) -> Header {
        self.header(exchange, false, 0)
    }

    /// The header of our next request.
    pub(crate) fn request_header(&self, exchange: ExchangeType) -> Header {
        self.header(exchange, false, self.outgoing.next_id())
    }

    /// The header of a message that stands outside of the windows: its Message ID is zero.
    pub(crate) fn sync_header(&self, response: bool) -> Header {
        self.header(ExchangeType::INFORMATIONAL, response, 0)
    }

    /// The header of a response.
    pub(crate) fn response_header(&self, exchange: ExchangeType, back: Back) -> Header {
        self.header(exchange, true, back.message_id)
    }

    /// Sends a protected request.
    pub(crate) fn request(
        &mut self,
        cx: &mut Context<'_>,
        channel: &mut Channel,
        exchange: ExchangeType,
        write: impl FnOnce(&mut PayloadWriter<'_>),
    ) -> Result<(), SealError> {
        self.request_plain(cx, channel, exchange, Plaintext::write(write)?)
    }

    /// Sends a protected request with these payloads.
    pub(crate) fn request_plain(
        &mut self,
        cx: &mut Context<'_>,
        channel: &mut Channel,
        exchange: ExchangeType,
        plain: Plaintext,
    ) -> Result<(), SealError> {
        let header = self.request_header(exchange);
        let form = self.fragments.form(&self.config, self.path, exchange);
        let message = channel.seal(&header, cx.entropy, &plain, form)?;
        for path in mobike::request_paths(self, cx) {
            self.transmit(cx, path, &message);
        }
        let smaller = self
            .fragments
            .smaller_form(&self.config, self.path, exchange);
        let plain = smaller
            .filter(|form| !form.fits(message.first()))
            .map(|_| plain);
        let policy = &self.config.retransmit;
        self.outgoing
            .sent(cx.now, exchange, message, plain, policy, cx.entropy);
        Ok(())
    }

    /// Sends a protected response.
    pub(crate) fn respond(
        &mut self,
        cx: &mut Context<'_>,
        channel: &mut Channel,
        exchange: ExchangeType,
        back: Back,
        write: impl FnOnce(&mut PayloadWriter<'_>),
    ) -> Result<(), SealError> {
        self.respond_plain(cx, channel, exchange, back, &Plaintext::write(write)?)
    }

    /// Sends a protected response with these payloads.
    pub(crate) fn respond_plain(
        &mut self,
        cx: &mut Context<'_>,
        channel: &mut Channel,
        exchange: ExchangeType,
        back: Back,
        plain: &Plaintext,
    ) -> Result<(), SealError> {
        let header = self.response_header(exchange, back);
        let form = self.fragments.form(&self.config, back.path, exchange);
        let message = channel.seal(&header, cx.entropy, plain, form)?;
        self.transmit(cx, back.path, &message);
        self.incoming.respond(back.message_id, message);
        Ok(())
    }

    /// Sends a message and remembers when.
    pub(crate) fn transmit(&mut self, cx: &mut Context<'_>, path: Path, message: &Datagrams) {
        if path == self.path {
            self.last_sent = cx.now;
        }
        cx.transmit_message(path, message);
    }

    /// Puts a request into smaller fragments, if it has not come through in its present form for some time.
    fn refragment(
        &mut self,
        cx: &mut Context<'_>,
        channel: &mut Channel,
        message_id: u32,
    ) -> Option<()> {
        let pending = self.outgoing.pending(message_id)?;
        let form = self
            .fragments
            .smaller_form(&self.config, self.path, pending.exchange)?;
        let header = self.header(pending.exchange, false, message_id);
        let plain = pending.plain.as_ref()?;
        let message = channel.seal(&header, cx.entropy, plain, form).ok()?;
        //= rfc7383#2.5.2
        //# When selecting the
        //# next smaller value for the fragmentation threshold, the sender MUST
        //# ensure that the value in the Total Fragments field is really
        //# increased.
        if message.count() <= pending.message.count() {
            return None;
        }
        self.fragments.shrink(self.path);
        let policy = &self.config.retransmit;
        self.outgoing
            .refragment(cx.now, message_id, message, policy, cx.entropy);
        Some(())
    }

    /// Notes an authenticated and new message, and follows the peer if it has moved.
    pub(crate) fn heard(&mut self, cx: &mut Context<'_>, arrival: Arrival) {
        self.last_heard = Some(cx.now);
        let back = arrival.back();
        stream::on_heard(self, cx, back);
        if back == self.path {
            return;
        }
        //= rfc7296#2.23
        //# When such a
        //# validated packet is found, a host that does not support other
        //# methods of recovery such as IKEv2 Mobility and Multihoming
        //# (MOBIKE) [MOBIKE], and that is not behind a NAT, SHOULD send all
        //# packets (including retransmission packets) to the IP address and
        //# port in the validated packet, and SHOULD store this as the new
        //# address and port combination for the SA (that is, they SHOULD
        //# dynamically update the address).  A host behind a NAT SHOULD NOT
        //# do this type of dynamic address update
        let half_open = self.role == Role::Responder && self.established.is_none();
        // Until the peer is authenticated there is nothing that could be led astray: this is the move to port 4500.
        if half_open {
            self.path = back;
        } else if back.local.ip() == self.path.local.ip()
            && self.mobike.is_none()
            && self.may_follow()
            // Nobody goes back to port 500, where ESP would be without UDP: it is somebody else who has caught the message.
            && back.transport == self.path.transport
        {
            let before = self.child_path();
            self.path = back;
            mobike::report(self, cx, before);
        }
    }

    /// Whether the peer's NAT alone can have changed where authentic packets of its come from.
    fn may_follow(&self) -> bool {
        self.nat.remote && !self.nat.local
    }

    /// Notes where authentic ESP packets of the peer come from.
    //= rfc4555#3.8
    //# The host not behind a NAT MUST NOT use these dynamic
    //# updates for IKEv2 packets, but MAY use them for ESP packets.
    pub(crate) fn heard_esp(&mut self, cx: &mut Context<'_>, remote: SocketAddr) {
        let before = self.child_path();
        if self.established.is_none()
            || before.encapsulation != Some(EncapKind::Udp)
            || before.remote == remote
            || !self.may_follow()
        {
            return;
        }
        if self.mobike.is_some() {
            self.children_at = Some(ChildPath { remote, ..before });
        } else {
            self.path.remote = remote;
        }
        mobike::report(self, cx, before);
    }

    /// As seen from outside.
    pub(crate) fn info(&self, state: IkeSaState, children: Vec<ChildSaId>) -> IkeSaInfo {
        IkeSaInfo {
            id: self.id,
            role: self.role,
            state,
            config: Some(Arc::clone(&self.config)),
            local_id: self.local_id.clone(),
            remote_id: self.remote_id.clone(),
            initiator_spi: self.initiator_spi,
            responder_spi: self.responder_spi,
            local: self.path.local,
            remote: self.path.remote,
            nat: self.nat,
            transport: self.path.transport,
            encapsulation: self.encapsulation(),
            mobike: self.mobike.is_some(),
            fragmentation: self.fragments.agreed,
            own_window: self.incoming.size(),
            peer_window: self.outgoing.size(),
            suite: self.suite,
            ppk: self.ppk,
            resumed: self.tickets.as_ref().is_some_and(|t| t.is_resumed()),
            ticket: self.tickets.as_ref().and_then(|t| t.held_until()),
            ticket_granted: self.tickets.as_ref().is_some_and(|t| t.is_granted()),
            childless: self.childless,
            created: self.created,
            established: self.established,
            last_heard: self.last_heard,
            next_request: self.outgoing.next_id(),
            next_peer_request: self.incoming.next_id(),
            children,
            replaces: self.replaces,
            redirected_from: self.redirected_from,
            crash_token: self.peer_token.is_some(),
            message_id_sync: self.synchronisation.is_some(),
            replay_counter_sync: self.replay_counters.is_some(),
        }
    }

    /// The SA has not come about.
    pub(crate) fn fail(&mut self, cx: &mut Context<'_>, reason: FailureReason) -> State {
        self.report_failure(cx, reason);
        self.linger(cx)
    }

    /// Reports that the SA has not come about.
    pub(crate) fn report_failure(&self, cx: &mut Context<'_>, reason: FailureReason) {
        cx.shared.stats.failed = cx.shared.stats.failed.saturating_add(1);
        let info = Box::new(self.info(IkeSaState::Closed, Vec::new()));
        cx.event(Event::IkeFailed {
            ike: self.id,
            info,
            reason,
        });
    }

    /// The SA is over; the last response may still be asked for.
    pub(crate) fn linger(&mut self, cx: &Context<'_>) -> State {
        self.outgoing = Outgoing::default();
        self.synchronisation = None;
        self.fragments.clear();
        if self.incoming.has_response() {
            State::Lingering {
                until: cx.now + cx.config.linger,
            }
        } else {
            State::Gone
        }
    }
}

/// Where an IKE SA is.
#[derive(Debug)]
pub(crate) enum State {
    /// Initiator: IKE_SA_INIT has been sent.
    InitSent(Box<InitSent>),
    /// Initiator: IKE_SESSION_RESUME has been sent.
    ResumeSent(Box<ResumeSent>),
    /// Initiator: IKE_INTERMEDIATE has been sent.
    IntermediateSent(Box<IntermediateSent>),
    /// Initiator: the solution of a puzzle is awaited.
    PuzzleWanted(Box<PuzzleWanted>),
    /// Initiator: an SPI for the first child SA is awaited.
    SpiWanted(Box<SpiWanted>),
    /// Initiator: IKE_AUTH has been sent.
    AuthSent(Box<AuthSent>),
    /// Responder: IKE_SA_INIT has been answered with a puzzle, and no key is computed.
    KeysDeferred(Box<KeysDeferred>),
    /// Responder: IKE_SA_INIT has been answered.
    AuthAwaited(Box<AuthAwaited>),
    /// Responder: the peer is authenticated, its first child SA is being made, IKE_AUTH is not yet answered.
    ChildPending(Box<ChildPending>),
    /// Both are authenticated.
    Established(Box<Established>),
    /// We have asked for deletion.
    Deleting(Box<Deleting>),
    /// Over, but the peer may not have got our last response.
    Lingering {
        /// Until then.
        until: Instant,
    },
    /// Over.
    Gone,
}

impl State {
    pub(crate) fn channel(&self) -> Option<&Channel> {
        match self {
            Self::IntermediateSent(s) => Some(&s.handshake.channel),
            Self::AuthSent(s) => Some(&s.handshake.channel),
            Self::AuthAwaited(s) => Some(&s.handshake.channel),
            Self::Established(s) => Some(&s.channel),
            Self::Deleting(s) => Some(&s.channel),
            Self::InitSent(_)
            | Self::ResumeSent(_)
            | Self::PuzzleWanted(_)
            | Self::SpiWanted(_)
            | Self::KeysDeferred(_)
            | Self::ChildPending(_)
            | Self::Lingering { .. }
            | Self::Gone => None,
        }
    }

    fn channel_mut(&mut self) -> Option<&mut Channel> {
        match self {
            Self::IntermediateSent(s) => Some(&mut s.handshake.channel),
            Self::AuthSent(s) => Some(&mut s.handshake.channel),
            Self::Established(s) => Some(&mut s.channel),
            Self::Deleting(s) => Some(&mut s.channel),
            _ => None,
        }
    }

    /// The keys before those of [`Self::channel`], by which the last request was protected if it replaced them.
    pub(crate) fn previous_channel(&self) -> Option<&Channel> {
        match self {
            Self::AuthAwaited(s) => s.handshake.previous.as_ref(),
            _ => None,
        }
    }

    /// Whether a request of this type may come now. Others are dropped without a trace, so that they can be repeated at
    /// a better time.
    pub(crate) fn takes_request(&self, exchange: ExchangeType) -> bool {
        match self {
            Self::KeysDeferred(s) => s.takes_request(exchange),
            Self::AuthAwaited(s) => s.takes_request(exchange),
            Self::Established(_) | Self::Deleting(_) => !matches!(
                exchange,
                ExchangeType::IKE_INTERMEDIATE | ExchangeType::IKE_AUTH
            ),
            _ => false,
        }
    }
}

/// One IKE SA.
#[derive(Debug)]
pub(crate) struct IkeSa {
    pub(crate) core: Core,
    pub(crate) state: State,
}

impl IkeSa {
    /// Replaces the state by what `next` makes of it.
    pub(crate) fn step(&mut self, next: impl FnOnce(State, &mut Core) -> State) {
        let state = std::mem::replace(&mut self.state, State::Gone);
        self.state = next(state, &mut self.core);
    }

    /// Somebody says, without protection, that the peer does not know this SA, and may show it.
    //= rfc6290#4.5
    //# If the QCD_TOKEN verifies OK, the receiver MUST silently discard the
    //# IKE SA and all associated child SAs.
    //= rfc7296#2.21.4
    //# A peer receiving such an unprotected Notify payload MUST NOT respond
    //# and MUST NOT change the state of any existing SAs.
    //= rfc5723#9.4
    //# In particular, untrusted messages MUST NOT be relied upon to make this
    //# decision.
    pub(crate) fn on_unprotected_hint(&mut self, cx: &mut Context<'_>, message: &Message<'_>) {
        if crash_detection::is_proven_lost(&mut self.core, cx, message) {
            self.close(cx, CloseReason::PeerCrashed);
        } else if self.core.may_speak_up(cx) {
            self.check_liveness(cx);
        }
    }

    /// The addresses of this host have changed.
    pub(crate) fn on_addresses(&mut self, cx: &mut Context<'_>) {
        self.step(|state, core| match state {
            State::Established(s) => s.on_addresses(core, cx),
            other => other,
        });
    }

    /// Asks the peer for a sign of life.
    pub(crate) fn check_liveness(&mut self, cx: &mut Context<'_>) {
        self.step(|state, core| match state {
            State::Established(s) => s.check_liveness(core, cx),
            other => other,
        });
    }

    /// Sends the peer to another gateway.
    pub(crate) fn redirect(&mut self, cx: &mut Context<'_>, to: Gateway) {
        self.step(|state, core| match state {
            State::Established(s) => s.redirect(core, cx, to),
            other => other,
        });
    }

    /// Tells the peer of a problem.
    pub(crate) fn complain(
        &mut self,
        cx: &mut Context<'_>,
        kind: NotifyType,
        spi: Option<SaSpi>,
        data: Vec<u8>,
    ) {
        self.step(|state, core| match state {
            State::Established(s) => s.complain(core, cx, kind, spi, data),
            other => other,
        });
    }

    /// Whether it is a successor of which it is not known yet whether it will take over.
    pub(crate) fn is_pretending(&self) -> bool {
        matches!(&self.state, State::Established(s) if matches!(s.standing, Standing::Pretending { .. }))
    }

    /// We want a further child SA.
    pub(crate) fn create_child(
        &mut self,
        cx: &mut Context<'_>,
        child: ChildSaId,
        request: ChildRequest,
    ) {
        self.step(|state, core| match state {
            State::Established(s) => s.create_child(core, cx, child, request),
            other => other,
        });
    }

    /// We want a child SA renewed.
    pub(crate) fn rekey_child(&mut self, cx: &mut Context<'_>, child: ChildSaId) {
        self.step(|state, core| match state {
            State::Established(s) => s.rekey_child(core, cx, child),
            other => other,
        });
    }

    /// We want it renewed.
    pub(crate) fn rekey_ike(&mut self, cx: &mut Context<'_>) {
        self.step(|state, core| match state {
            State::Established(s) => s.rekey_ike(core, cx),
            other => other,
        });
    }

    /// Takes over from the predecessor. If it cannot any more, what it was to take over ends.
    pub(crate) fn inherit(&mut self, cx: &mut Context<'_>, transfer: Transfer) {
        self.core.announced = true;
        self.step(|state, core| match state {
            State::Established(s) => s.inherit(core, cx, transfer),
            other => {
                end_children(core, cx, transfer.children, &CloseReason::DeletedByPeer);
                report_closed(core, cx, CloseReason::DeletedByPeer);
                core.announced = false;
                other
            }
        });
    }

    /// The successor that the peer has made while we are making one has ended.
    pub(crate) fn forget_heir(&mut self, heir: IkeSaId) {
        if let State::Established(established) = &mut self.state {
            established.forget_heir(heir);
        }
    }

    /// We want a child SA deleted.
    pub(crate) fn delete_child(&mut self, cx: &mut Context<'_>, child: ChildSaId) {
        self.step(|state, core| match state {
            State::Established(s) => s.delete_child(core, cx, child),
            // It is not there yet, or not known to be.
            other @ (State::InitSent(_)
            | State::ResumeSent(_)
            | State::IntermediateSent(_)
            | State::PuzzleWanted(_)
            | State::SpiWanted(_)
            | State::AuthSent(_)
            | State::ChildPending(_)) => {
                core.unwanted_children.push(child);
                other
            }
            other => other,
        });
    }

    /// The SA ends, and the peer knows.
    pub(crate) fn close(&mut self, cx: &mut Context<'_>, reason: CloseReason) {
        self.step(|state, core| match state {
            State::Established(s) => s.close(core, cx, reason),
            State::ChildPending(s) => s.close(core, cx, reason),
            State::Deleting(s) => s.finish(core, cx),
            other => other,
        });
    }

    /// The answer to a request of ours to the world outside.
    pub(crate) fn on_answer(&mut self, cx: &mut Context<'_>, id: RequestId, answer: Answer) {
        self.step(|state, core| match state {
            State::InitSent(s) => s.on_solution(core, cx, id, answer),
            State::PuzzleWanted(s) => s.on_answer(core, cx, id, answer),
            State::SpiWanted(s) => s.on_answer(core, cx, id, answer),
            State::ChildPending(s) => s.on_answer(core, cx, id, answer),
            State::Established(s) => s.on_answer(core, cx, id, answer),
            other => other,
        });
    }

    /// When something is due.
    pub(crate) fn next_timeout(&self, config: &EndpointConfig) -> Option<Instant> {
        let own = match &self.state {
            State::InitSent(s) => s.deadline(),
            State::ResumeSent(s) => Some(s.deadline()),
            State::PuzzleWanted(s) => Some(s.deadline()),
            State::SpiWanted(s) => Some(s.deadline),
            State::KeysDeferred(_) | State::AuthAwaited(_) => {
                Some(self.core.created + config.half_open_timeout)
            }
            State::ChildPending(s) => Some(s.deadline),
            State::Established(s) => s.deadline(&self.core),
            State::Lingering { until } => Some(*until),
            State::IntermediateSent(_) | State::AuthSent(_) | State::Deleting(_) | State::Gone => {
                None
            }
        };
        let fragments = self.core.fragments.deadline();
        let keepalive = matches!(self.state, State::Established(_))
            .then(|| keepalive::due(&self.core, config))
            .flatten();
        let sync = self.core.synchronisation.as_ref();
        let sync = sync.and_then(|s| s.next_due());
        let pending = self.core.outgoing.next_due();
        [own, pending, sync, fragments, keepalive]
            .into_iter()
            .flatten()
            .min()
    }

    /// Something may be due.
    pub(crate) fn on_timeout(&mut self, cx: &mut Context<'_>) {
        self.core.fragments.on_timeout(cx);
        let policy = self.core.config.retransmit.clone();
        for _ in 0..MAX_WINDOW {
            match self.core.outgoing.poll(cx.now, &policy, cx.entropy) {
                Due::Wait => break,
                Due::Again { id, attempt } => self.repeat_request(cx, id, attempt),
                Due::GiveUp { exchange, sent } => {
                    return self.step(|state, core| match state {
                        State::InitSent(s) => s.give_up(core, cx, exchange, sent),
                        State::ResumeSent(s) => s.give_up(core, cx, sent),
                        State::IntermediateSent(s) => s.give_up(core, cx, exchange, sent),
                        State::AuthSent(s) => s.give_up(core, cx, exchange, sent),
                        State::Established(s) => s.give_up(core, cx, exchange, sent),
                        State::Deleting(s) => s.give_up(core, cx),
                        other => other,
                    });
                }
            }
        }
        if self.has_synchronised_in_vain(cx) {
            return;
        }
        if matches!(self.state, State::Established(_)) {
            keepalive::on_timeout(&mut self.core, cx);
        }
        self.step(|state, core| match state {
            State::InitSent(s) => s.on_timeout(core, cx),
            State::ResumeSent(s) => s.on_timeout(core, cx),
            State::PuzzleWanted(s) => s.on_timeout(core, cx),
            State::SpiWanted(s) => s.on_timeout(core, cx),
            State::KeysDeferred(s) => s.on_timeout(core, cx),
            State::AuthAwaited(s) => s.on_timeout(core, cx),
            State::ChildPending(s) => s.on_timeout(core, cx),
            State::Established(s) => s.on_timeout(core, cx),
            State::Lingering { until } if cx.now >= until => State::Gone,
            other => other,
        });
    }

    fn repeat_request(&mut self, cx: &mut Context<'_>, id: u32, attempt: u32) {
        mobike::on_silence(&mut self.core, cx, attempt);
        if self.repeat_over_stream(cx, id, attempt) {
            return;
        }
        if attempt >= FALLBACK_AFTER
            && matches!(&self.state, State::InitSent(s) if s.may_fall_back(&self.core))
        {
            return self.step(|state, core| match state {
                State::InitSent(s) => s.fall_back(core, cx),
                other => other,
            });
        }
        if attempt == SHRINK_AT
            && let Some(channel) = self.state.channel_mut()
            && self.core.refragment(cx, channel, id).is_some()
        {
            let stats = &mut cx.shared.stats;
            stats.refragmented = stats.refragmented.saturating_add(1);
        }
        if let Some(pending) = self.core.outgoing.pending(id) {
            let stats = &mut cx.shared.stats;
            stats.retransmissions = stats.retransmissions.saturating_add(1);
            cx.event(Event::Retransmitting {
                ike: self.core.id,
                message_id: id,
                attempt,
            });
            for path in mobike::request_paths(&self.core, cx) {
                cx.transmit_message(path, &pending.message);
            }
            self.core.last_sent = cx.now;
        }
    }

    /// We want it deleted.
    pub(crate) fn delete(&mut self, cx: &mut Context<'_>) {
        self.core.unwanted = true;
        self.step(|state, core| match state {
            State::InitSent(s) => s.cancel(core, cx),
            State::ResumeSent(s) => s.cancel(core, cx),
            State::IntermediateSent(s) => s.cancel(core, cx),
            State::PuzzleWanted(s) => s.cancel(core, cx),
            State::SpiWanted(s) => s.cancel(core, cx),
            // The peer may have it already: it can only be told when IKE_AUTH is over.
            State::Established(s) => s.proceed(core, cx),
            other => other,
        });
    }

    /// How far it has come.
    pub(crate) fn stage(&self) -> IkeSaState {
        match &self.state {
            State::InitSent(_) | State::ResumeSent(_) => IkeSaState::Initiating,
            State::IntermediateSent(_)
            | State::PuzzleWanted(_)
            | State::SpiWanted(_)
            | State::AuthSent(_)
            | State::KeysDeferred(_)
            | State::AuthAwaited(_)
            | State::ChildPending(_) => IkeSaState::Authenticating,
            State::Established(_) => IkeSaState::Established,
            State::Deleting(_) => IkeSaState::Deleting,
            State::Lingering { .. } | State::Gone => IkeSaState::Closed,
        }
    }

    /// Whether somebody has sent an IKE_AUTH request that its keys do not open.
    pub(crate) fn is_spoilt(&self) -> bool {
        matches!(&self.state, State::AuthAwaited(s) if s.spoilt)
    }

    /// Between whom it is: ours and the peer's identity, of what is established or, as far as we can say, about to be.
    pub(crate) fn identities(&self) -> Option<(&Identity, &Identity)> {
        let remote = match &self.state {
            // What is called off goes as soon as the peer can be told: another one need not leave it standing.
            State::AuthSent(_) if self.core.unwanted => None,
            State::AuthSent(_) => self.core.config.remote_id.exact(),
            State::ChildPending(_) | State::Established(_) => {
                self.core.remote_id.as_ref().filter(|_| self.core.announced)
            }
            _ => None,
        };
        Some((self.core.local_id.as_ref()?, remote?))
    }

    /// Its child SAs.
    pub(crate) fn children(&self) -> impl Iterator<Item = &ChildSa> {
        let children = match &self.state {
            State::Established(s) => Some(&s.children),
            _ => None,
        };
        children.into_iter().flatten()
    }

    /// As seen from outside.
    pub(crate) fn info(&self) -> IkeSaInfo {
        self.core.info(
            self.stage(),
            self.children().map(|child| child.id).collect(),
        )
    }

    /// Its installed child SAs as seen from outside.
    pub(crate) fn child_infos(&self) -> impl Iterator<Item = ChildSaInfo> {
        self.children()
            .filter(|c| c.established.is_some())
            .map(|child| child.info(&self.core))
    }
}
