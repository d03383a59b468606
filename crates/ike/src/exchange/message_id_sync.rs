//! Synchronisation of Message IDs after a failover (RFC 6311): the member of a cluster that has taken over an IKE SA, and
//! may not know how far it had come, agrees with the peer on where both go on.
//!
//! The exchange is an INFORMATIONAL with Message ID zero, outside of both windows. Either end may be a cluster: the one
//! that asks is told to ([`Endpoint::synchronise`](crate::Endpoint::synchronise)), the other one answers by itself. What
//! was under way is begun anew under the new Message IDs.

use std::time::Duration;

use cygnet_crypto::sha256;
use cygnet_wire::{ExchangeType, Message, MessageIdSync, Notify, NotifyType, ReplayCounterSync};

use super::create_child_sa;
use crate::channel::{Plaintext, Protected, SealError};
use crate::config::RetransmitPolicy;
use crate::contents::Contents;
use crate::context::{Context, Limiter};
use crate::errand::Errand;
use crate::established::Established;
use crate::exchange::{mobike, replay_counter_sync};
use crate::fragment::{Datagrams, Form};
use crate::info::Role;
use crate::io::Event;
use crate::reason::Party;
use crate::sa::{Arrival, Core, IkeSa, State};
use crate::stats::DropReason;
use crate::succession::Standing;
use crate::window::{Due, Outgoing};

/// The Message ID of the exchange.
//= rfc6311#5.1
//# The request and the response MUST both be sent with a Message ID
//# value of zero.
const MESSAGE_ID: u32 = 0;

/// How far a Message ID may skip at once. With [`REQUESTS`] no life of an IKE SA is long enough to come to the last one.
const MAX_SKIP: u32 = 1 << 16;

/// So many times the peer may ask within [`REQUESTS_TIME`].
const REQUESTS: u32 = 8;

/// See [`REQUESTS`].
const REQUESTS_TIME: Duration = Duration::from_secs(60);

/// The wait before the first repetition is so many times as long as that of other requests.
const LONGER_WAIT: u32 = 4;

/// When the request is repeated. Each repetition has both ends begin anew once more, and strongSwan 6 cannot answer a second
/// one in the life of an IKE SA with an AEAD: its initialization vectors do not let it say anything with Message ID zero
/// again, and it gives the IKE SA up.
fn repetition(usual: &RetransmitPolicy) -> RetransmitPolicy {
    let initial = usual.initial.saturating_mul(LONGER_WAIT);
    RetransmitPolicy {
        initial: initial.min(usual.max_interval),
        ..usual.clone()
    }
}

/// What both ends have agreed on, and how far it has come.
#[derive(Debug, Default)]
pub(crate) struct Synchronisation {
    /// The peer's next Message ID, as it said it last.
    announced: Option<u32>,
    answered: Option<Box<Answered>>,
    asked: Option<Box<Asked>>,
    requests: Limiter,
}

/// A request of the peer and the response to it, which is repeated with the request.
#[derive(Debug)]
struct Answered {
    digest: [u8; 32],
    response: Datagrams,
}

/// A request of ours that is under way.
#[derive(Debug)]
struct Asked {
    said: MessageIdSync,
    /// The peer was asked to leave sequence numbers out, too, in a request that it may not have got.
    counters_in_doubt: bool,
    /// Holds nothing but this request.
    outgoing: Outgoing,
}

impl Synchronisation {
    /// Whether a request of ours is under way: nothing else is said until it is answered.
    pub(crate) fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// The peer has gone on: it has our response.
    pub(crate) fn forget_response(&mut self) {
        self.answered = None;
    }

    /// When our request is to be repeated.
    pub(crate) fn next_due(&self) -> Option<std::time::Instant> {
        self.asked.as_ref()?.outgoing.next_due()
    }
}

/// What IKE_AUTH says of it.
//= rfc6311#5
//# When negotiating these capabilities, the responder MUST
//# NOT assert support of a capability unless such support was asserted
//# by the initiator.
//= rfc6311#6.1
//# The 'SPI Size' field MUST be set to 0 to indicate that the SPI is not
//# present in this message.
//= rfc6311#6.1
//# The 'Protocol ID' MUST be set to 0, since the notification is not
//# specific to a particular security association.
pub(crate) fn announcement(core: &Core) -> Option<Notify<'static>> {
    let wanted = match core.role {
        Role::Initiator => core.config.message_id_sync,
        Role::Responder => core.synchronisation.is_some(),
    };
    wanted.then(|| Notify::new(NotifyType::IKEV2_MESSAGE_ID_SYNC_SUPPORTED, &[]))
}

/// Takes in what the peer's part of IKE_AUTH says of it.
//= rfc6311#5
//# Only a capability whose support was asserted by
//# both parties can be used during the lifetime of the SA.
pub(crate) fn agree(core: &mut Core, contents: &Contents<'_>) {
    let supported = contents.has(NotifyType::IKEV2_MESSAGE_ID_SYNC_SUPPORTED);
    core.synchronisation =
        (core.config.message_id_sync && supported).then(|| Box::new(Synchronisation::default()));
}

/// What a message of the exchange says, if it is one: nothing else is in it. `may_skip`: it is a request, and both ends
/// can have sequence numbers left out.
//= rfc6311#5.1
//# Both the request and the response MUST NOT contain any additional
//# payloads, other than an optional IPSEC_REPLAY_COUNTER_SYNC
//# notification in the request.
fn read(plain: &Plaintext, may_skip: bool) -> Option<(MessageIdSync, Option<ReplayCounterSync>)> {
    let contents = Contents::read(plain.chain()).ok()?;
    let (mut said, mut counters) = (None, None);
    for notify in &contents.notifies {
        match notify.kind {
            NotifyType::IKEV2_MESSAGE_ID_SYNC if said.is_none() => {
                said = Some(MessageIdSync::parse(notify.data)?);
            }
            NotifyType::IPSEC_REPLAY_COUNTER_SYNC if may_skip && counters.is_none() => {
                counters = Some(ReplayCounterSync::parse(notify.data)?);
            }
            _ => return None,
        }
    }
    let payloads = 1 + usize::from(counters.is_some());
    (plain.chain().payloads().count() == payloads).then_some((said?, counters))
}

impl Established {
    /// Begins anew what was under way: what has become of it is not known. A child SA that the peer has made and we have
    /// not is found out when it is used.
    //= rfc6311#9
    //# The peer should not wait for any pending responses while
    //# responding with the new Message ID values.
    fn begin_anew(&mut self, core: &mut Core, cx: &mut Context<'_>) {
        let said = std::mem::take(&mut self.informational);
        let again = |errand: &Errand| !matches!(errand, Errand::Liveness | Errand::Mobike(_));
        for (_, errand) in said.into_iter().rev() {
            if again(&errand) {
                self.queue.push_front(errand);
            }
        }
        if let Some(mobike) = &mut core.mobike {
            **mobike = mobike.heir();
        }
        create_child_sa::restart(self, core, cx);
        self.peers_verdict = None;
    }
}

impl IkeSa {
    /// Whether a request may be one of this exchange: it stands outside of the window.
    fn may_synchronise(&self, message: &Message<'_>) -> bool {
        let header = message.header();
        self.core.synchronisation.is_some()
            && header.message_id == MESSAGE_ID
            && header.exchange == ExchangeType::INFORMATIONAL
            && matches!(&self.state, State::Established(s) if s.standing == Standing::Reigning)
    }

    /// A request that may be one of this exchange; false if it is not, and another one.
    pub(crate) fn on_sync_request(
        &mut self,
        cx: &mut Context<'_>,
        arrival: Arrival,
        message: &Message<'_>,
    ) -> bool {
        if !self.may_synchronise(message) {
            return false;
        }
        let digest = sha256(&[message.as_bytes()]);
        let answered = self.core.synchronisation.as_ref();
        let answered = answered.and_then(|s| s.answered.as_ref());
        if let Some(answered) = answered.filter(|answered| answered.digest == digest) {
            let stats = &mut cx.shared.stats;
            stats.responses_repeated = stats.responses_repeated.saturating_add(1);
            cx.transmit_message(arrival.back(), &answered.response);
            return true;
        }
        let opened = match (self.state.channel(), Protected::find(message)) {
            (Some(channel), Some(Protected::Whole(sk))) => channel.open(message, &sk).ok(),
            _ => None,
        };
        let may_skip = self.core.replay_counters.is_some();
        let Some(said) = opened.as_ref().and_then(|plain| read(plain, may_skip)) else {
            return false;
        };
        self.step(|state, core| match state {
            State::Established(s) => s.answer_sync(core, cx, arrival, said, digest),
            other => other,
        });
        true
    }

    /// A response that may be one of this exchange; false if it is not.
    pub(crate) fn on_sync_response(
        &mut self,
        cx: &mut Context<'_>,
        arrival: Arrival,
        message: &Message<'_>,
    ) -> bool {
        let header = message.header();
        let asked = self
            .core
            .synchronisation
            .as_ref()
            .and_then(|s| s.asked.as_ref())
            .map(|asked| asked.said);
        let awaited = header.message_id == MESSAGE_ID
            && header.exchange == ExchangeType::INFORMATIONAL
            && !self.core.outgoing.awaits(MESSAGE_ID, header.exchange);
        let Some(asked) = asked.filter(|_| awaited) else {
            return false;
        };
        let opened = match (self.state.channel(), Protected::find(message)) {
            (Some(channel), Some(Protected::Whole(sk))) => channel.open(message, &sk).ok(),
            _ => None,
        };
        let Some((said, _)) = opened.as_ref().and_then(|plain| read(plain, false)) else {
            cx.drop(DropReason::BadResponse);
            return true;
        };
        //= rfc6311#5.1
        //# A response MUST be silently dropped
        //# if the received nonce does not match the one that was sent.
        let fits = said.nonce == asked.nonce
            && (0..=MAX_SKIP).contains(&said.expected_receive.wrapping_sub(asked.expected_send))
            && (0..=MAX_SKIP).contains(&said.expected_send.wrapping_sub(asked.expected_receive));
        if !fits {
            cx.drop(DropReason::BadResponse);
            return true;
        }
        self.core.heard(cx, arrival);
        self.step(|state, core| match state {
            State::Established(s) => s.conclude_sync(core, cx, said),
            other => other,
        });
        true
    }

    /// Repeats the request, if that is due; true if the peer is given up over it.
    pub(crate) fn has_synchronised_in_vain(&mut self, cx: &mut Context<'_>) -> bool {
        let core = &mut self.core;
        let Some(asked) = core.synchronisation.as_mut().and_then(|s| s.asked.as_mut()) else {
            return false;
        };
        let policy = repetition(&core.config.retransmit);
        let attempt = match asked.outgoing.poll(cx.now, &policy, cx.entropy) {
            Due::Wait => return false,
            Due::Again { attempt, .. } => attempt,
            Due::GiveUp { exchange, sent } => {
                self.step(|state, core| match state {
                    State::Established(s) => s.give_up(core, cx, exchange, sent),
                    other => other,
                });
                return true;
            }
        };
        mobike::on_silence(core, cx, attempt);
        let stats = &mut cx.shared.stats;
        stats.retransmissions = stats.retransmissions.saturating_add(1);
        cx.event(Event::Retransmitting {
            ike: core.id,
            message_id: MESSAGE_ID,
            attempt,
        });
        self.step(|state, core| match state {
            State::Established(s) => s.ask_sync_again(core, cx),
            other => other,
        });
        false
    }

    /// Asks the peer to go on from Message IDs that neither end has used.
    pub(crate) fn synchronise(&mut self, cx: &mut Context<'_>) {
        self.step(|state, core| match state {
            State::Established(s) => s.ask_sync(core, cx),
            other => other,
        });
    }
}

impl Established {
    /// Sends the request.
    fn ask_sync(mut self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        let asking = core.synchronisation.as_ref().map(|s| s.is_asking());
        if asking != Some(false) || self.standing != Standing::Reigning {
            return State::Established(self);
        }
        self.begin_anew(core, cx);
        //= rfc6311#5.1
        //# M1
        //# MUST be chosen so that it is larger than any value known to have
        //# been used.  It is RECOMMENDED to increment the known value at
        //# least by the size of the IKE sender window.
        let window = core.outgoing.size();
        let said = MessageIdSync {
            nonce: u32::from_be_bytes(cx.random()),
            expected_send: core.outgoing.next_id().saturating_add(window),
            expected_receive: core.incoming.next_after_all(),
        };
        core.outgoing.skip_to(said.expected_send);
        //= rfc6311#8.1
        //# After sending its "receive" counter, the cluster member MUST reject
        //# (silently drop) any incoming IKE messages that are outside its
        //# declared window.
        core.incoming.skip_to(said.expected_receive);
        let counters = replay_counter_sync::wish(core, &self.children);
        if let Some(counters) = counters {
            replay_counter_sync::tell(core, cx, Party::Us, counters);
        }
        if let Some(message) = self.send_sync(core, cx, said, counters) {
            let mut outgoing = Outgoing::default();
            let policy = repetition(&core.config.retransmit);
            let exchange = ExchangeType::INFORMATIONAL;
            outgoing.sent(cx.now, exchange, message, None, &policy, cx.entropy);
            if let Some(state) = &mut core.synchronisation {
                state.asked = Some(Box::new(Asked {
                    said,
                    counters_in_doubt: false,
                    outgoing,
                }));
            }
        }
        self.proceed(core, cx)
    }

    /// Sends the request once more, as another one, for higher Message IDs: the same octets would be dropped by a peer whose
    /// response was lost.
    //= rfc6311#5.1
    //# The peer MUST silently drop any received synchronization message
    //# if M1 is lower than or equal to the highest value it has seen from
    //# the cluster.  This includes any previous received synchronization
    //# messages.
    fn ask_sync_again(mut self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        let window = core.outgoing.size();
        let state = core.synchronisation.as_mut();
        if let Some(asked) = state.and_then(|s| s.asked.as_mut()) {
            asked.said.nonce = u32::from_be_bytes(cx.random());
            asked.said.expected_send = asked.said.expected_send.saturating_add(window);
            // What is asked for twice is done twice: it is made up for by an exchange that is not.
            asked.counters_in_doubt = core.replay_counters.is_some();
            let said = asked.said;
            core.outgoing.skip_to(said.expected_send);
            self.send_sync(core, cx, said, None);
        }
        State::Established(self)
    }

    /// Sends a request; `None` if that cannot be.
    fn send_sync(
        &mut self,
        core: &mut Core,
        cx: &mut Context<'_>,
        said: MessageIdSync,
        counters: Option<ReplayCounterSync>,
    ) -> Option<Datagrams> {
        let message = self.seal_sync(core, cx, said, counters, false).ok()?;
        for path in mobike::request_paths(core, cx) {
            core.transmit(cx, path, &message);
        }
        Some(message)
    }

    /// Answers a request, and goes on from where both ends come to.
    //= rfc6311#5
    //# Following that, the peer MUST respond to any synchronization message
    //# it receives from the newly active cluster member, subject to the rules
    //# noted below.
    fn answer_sync(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        arrival: Arrival,
        (theirs, counters): (MessageIdSync, Option<ReplayCounterSync>),
        digest: [u8; 32],
    ) -> State {
        let (highest, next) = (core.incoming.next_after_all(), core.outgoing.next_id());
        let Some(state) = &mut core.synchronisation else {
            return State::Established(self);
        };
        //= rfc6311#5.1
        //# The peer MUST silently drop any received synchronization message
        //# if M1 is lower than or equal to the highest value it has seen from
        //# the cluster.  This includes any previous received synchronization
        //# messages.
        let lowest = highest.max(state.announced.map_or(0, |id| id.saturating_add(1)));
        let (m1, p1) = (theirs.expected_send, theirs.expected_receive);
        let skips = m1.saturating_sub(highest).max(p1.saturating_sub(next));
        if m1 < lowest || skips > MAX_SKIP {
            cx.drop(DropReason::MessageId);
            return State::Established(self);
        }
        if !state.requests.take_within(cx.now, REQUESTS, REQUESTS_TIME) {
            cx.drop(DropReason::RateLimited);
            return State::Established(self);
        }
        // Both ends have taken over: what the peer asks settles what we ask.
        state.asked = None;
        state.announced = Some(m1);
        self.begin_anew(core, cx);
        //= rfc6311#5.1
        //# M2 MUST be at least the higher of the received M1, and one more
        //# than the highest sender value received from the cluster.
        //= rfc6311#5.1
        //# P2 MUST be the higher of the received P1 value, and one more than
        //# the highest sender value used by the peer.
        let ours = MessageIdSync {
            nonce: theirs.nonce,
            expected_send: p1.max(next),
            expected_receive: m1,
        };
        core.outgoing.skip_to(ours.expected_send);
        core.incoming.skip_to(ours.expected_receive);
        core.heard(cx, arrival);
        let response = self.seal_sync(core, cx, ours, None, true);
        if let (Ok(response), Some(state)) = (response, &mut core.synchronisation) {
            cx.transmit_message(arrival.back(), &response);
            state.answered = Some(Box::new(Answered { digest, response }));
        }
        report(core, cx, Party::Peer);
        //= rfc6311#5.2
        //# If the IPSEC_REPLAY_COUNTER_SYNC is included in the same message as
        //# IKEV2_MESSAGE_ID_SYNC, the peer MUST process the Message ID
        //# notification first (which might cause the entire message to be
        //# dropped as a replay).
        if let Some(counters) = counters {
            replay_counter_sync::tell(core, cx, Party::Peer, counters);
        }
        self.proceed(core, cx)
    }

    fn seal_sync(
        &mut self,
        core: &Core,
        cx: &mut Context<'_>,
        said: MessageIdSync,
        counters: Option<ReplayCounterSync>,
        response: bool,
    ) -> Result<Datagrams, SealError> {
        let plain = Plaintext::write(|payloads| {
            said.write(payloads);
            if let Some(counters) = counters {
                counters.write(payloads);
            }
        })?;
        let header = core.sync_header(response);
        self.channel.seal(&header, cx.entropy, &plain, Form::Whole)
    }

    /// The peer has answered.
    //= rfc6311#11
    //# After it receives a valid response, it MUST NOT process the same
    //# response again and MUST discard any additional responses.
    fn conclude_sync(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        theirs: MessageIdSync,
    ) -> State {
        let state = core.synchronisation.as_mut();
        let asked = state.and_then(|state| state.asked.take());
        if asked.is_some_and(|asked| asked.counters_in_doubt) {
            self.queue.push_front(Errand::ReplayCounters);
        }
        core.outgoing.skip_to(theirs.expected_receive);
        core.incoming.skip_to(theirs.expected_send);
        report(core, cx, Party::Us);
        self.proceed(core, cx)
    }
}

fn report(core: &Core, cx: &mut Context<'_>, by: Party) {
    cx.event(Event::Synchronised {
        ike: core.id,
        by,
        next_request: core.outgoing.next_id(),
        next_peer_request: core.incoming.next_id(),
    });
}
