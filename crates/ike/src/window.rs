//! Message IDs, retransmission and the response cache: a window of requests in each direction (RFC 7296 §2.1 to §2.3).
//!
//! Both windows are of one request until the ends say otherwise.

use std::time::{Duration, Instant};

use cygnet_crypto::{Entropy, sha256};
use cygnet_wire::ExchangeType;

use crate::channel::Plaintext;
use crate::config::RetransmitPolicy;
use crate::fragment::Datagrams;

/// Requests of ours that are under way at the same time, whatever the peer allows, and of the peer's, whatever is
/// configured.
pub const MAX_WINDOW: u32 = 16;

/// Our requests.
#[derive(Debug)]
pub(crate) struct Outgoing {
    next_id: u32,
    /// How many the peer keeps state for.
    size: u32,
    /// By Message ID, lowest first.
    pending: Vec<Pending>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            next_id: 0,
            size: 1,
            pending: Vec::new(),
        }
    }
}

/// A request whose response has not come.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: u32,
    pub(crate) exchange: ExchangeType,
    pub(crate) message: Datagrams,
    /// Its payloads, if it can be fragmented smaller.
    pub(crate) plain: Option<Plaintext>,
    /// How many times it has been sent.
    pub(crate) sent: u32,
    /// How many of those were before its present form.
    sent_before: u32,
    first_sent: Instant,
    due: Instant,
    /// It is not sent again in this form: another one is being worked on.
    paused: bool,
}

/// What is to be done when the time of a request has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet.
    Wait,
    /// Send it again.
    Again { id: u32, attempt: u32 },
    /// Give up.
    GiveUp { exchange: ExchangeType, sent: u32 },
}

impl Pending {
    /// The next time of repetition, which is not after that of giving up.
    fn capped(&self, now: Instant, due: Instant, policy: &RetransmitPolicy) -> Instant {
        let end = self.first_sent + policy.timeout;
        due.min(end.max(now))
    }
}

impl Outgoing {
    /// The Message ID of the next request.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// How many more requests may be sent now.
    //= rfc7296#2.3
    //# An IKE endpoint MUST NOT exceed the peer's stated window size for
    //# transmitted IKE requests.  In other words, if the responder stated
    //# its window size is N, then when the initiator needs to make a request
    //# X, it MUST wait until it has received responses to all requests up
    //# through request X-N.
    pub(crate) fn room(&self) -> u32 {
        let first = self.pending.first().map_or(self.next_id, |p| p.id);
        self.size.saturating_sub(self.next_id.saturating_sub(first))
    }

    /// Whether no response is awaited.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// How many requests may be under way at the same time.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// The peer's SET_WINDOW_SIZE.
    //= rfc7296#2.3
    //# An IKE endpoint MUST wait for a response to each of its messages
    //# before sending a subsequent message unless it has received a
    //# SET_WINDOW_SIZE Notify message from its peer
    //= rfc7296#2.3
    //# Thus, there is currently no way to reduce the window
    //# size of an existing IKE SA; you can only increase it.
    pub(crate) fn enlarge(&mut self, size: u32) {
        self.size = self.size.max(size.min(MAX_WINDOW));
    }

    /// Notes that a request with [`Self::next_id`] is sent now.
    pub(crate) fn sent(
        &mut self,
        now: Instant,
        exchange: ExchangeType,
        message: Datagrams,
        plain: Option<Plaintext>,
        policy: &RetransmitPolicy,
        entropy: &mut dyn Entropy,
    ) {
        let due = now + jittered(policy, 0, entropy);
        // Nearly always the only one.
        self.pending.reserve_exact(1);
        self.pending.push(Pending {
            id: self.next_id,
            exchange,
            message,
            plain,
            sent: 1,
            sent_before: 0,
            first_sent: now,
            due,
            paused: false,
        });
        // 2^32 requests are never reached: SAs end long before.
        self.next_id = self.next_id.saturating_add(1);
    }

    /// Replaces the only request by another form of it, under the same Message ID (IKE_SA_INIT with a cookie or
    /// another key exchange). The time of giving up stays.
    pub(crate) fn replace(
        &mut self,
        now: Instant,
        message: Datagrams,
        policy: &RetransmitPolicy,
        entropy: &mut dyn Entropy,
    ) {
        if let Some(pending) = self.pending.first_mut() {
            pending.message = message;
            pending.sent = pending.sent.saturating_add(1);
            pending.due = now + jittered(policy, 0, entropy);
            pending.paused = false;
        }
    }

    /// Does not send the only request again until it is replaced.
    pub(crate) fn pause(&mut self) {
        if let Some(pending) = self.pending.first_mut() {
            pending.paused = true;
        }
    }

    /// Replaces a request, which is about to be repeated, by smaller fragments of it.
    //= rfc7383#2.5.2
    //# When starting a new probe,
    //# the node MUST reset its retransmission timers so that if it employs
    //# exponential back-off the timers will start over.
    pub(crate) fn refragment(
        &mut self,
        now: Instant,
        id: u32,
        message: Datagrams,
        policy: &RetransmitPolicy,
        entropy: &mut dyn Entropy,
    ) {
        if let Some(pending) = self.pending.iter_mut().find(|p| p.id == id) {
            pending.message = message;
            pending.plain = None;
            pending.sent_before = pending.sent.saturating_sub(1);
            pending.due = pending.capped(now, now + jittered(policy, 0, entropy), policy);
        }
    }

    /// A request whose response has not come.
    pub(crate) fn pending(&self, id: u32) -> Option<&Pending> {
        self.pending.iter().find(|p| p.id == id)
    }

    /// All requests whose responses have not come.
    pub(crate) fn all_pending(&self) -> impl Iterator<Item = &Pending> {
        self.pending.iter()
    }

    /// Whether a response with this header is an awaited one.
    pub(crate) fn awaits(&self, id: u32, exchange: ExchangeType) -> bool {
        self.pending(id).is_some_and(|p| p.exchange == exchange)
    }

    /// Notes that a response has come: the window moves.
    pub(crate) fn answered(&mut self, id: u32) {
        self.pending.retain(|p| p.id != id);
    }

    /// The same of the request that begins an IKE SA, which is given: AUTH signs it.
    pub(crate) fn first_answered(&mut self) -> Vec<u8> {
        self.pending
            .pop()
            .map_or_else(Vec::new, |first| first.message.into_first())
    }

    /// Goes on with this Message ID or a higher one. What is under way is not waited for any more.
    pub(crate) fn skip_to(&mut self, id: u32) {
        self.pending.clear();
        self.next_id = self.next_id.max(id);
    }

    /// When something is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.pending
            .iter()
            .filter(|p| !p.paused)
            .map(|p| p.due)
            .min()
    }

    /// What is due; to be asked until there is nothing more.
    //= rfc7296#2.1
    //# For every pair of IKE messages, the initiator is responsible for
    //# retransmission in the event of a timeout.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        policy: &RetransmitPolicy,
        entropy: &mut dyn Entropy,
    ) -> Due {
        let Some(pending) = self.pending.iter_mut().find(|p| p.due <= now && !p.paused) else {
            return Due::Wait;
        };
        if now.saturating_duration_since(pending.first_sent) >= policy.timeout {
            return Due::GiveUp {
                exchange: pending.exchange,
                sent: pending.sent,
            };
        }
        let attempt = pending.sent;
        let wait = jittered(policy, attempt.saturating_sub(pending.sent_before), entropy);
        pending.sent = pending.sent.saturating_add(1);
        //= rfc7296#2.4
        //# To be a good
        //# network citizen, retransmission times MUST increase exponentially to
        //# avoid flooding the network and making an existing congestion
        //# situation worse.
        pending.due = pending.capped(now, now + wait, policy);
        Due::Again {
            id: pending.id,
            attempt,
        }
    }
}

fn jittered(policy: &RetransmitPolicy, attempt: u32, entropy: &mut dyn Entropy) -> Duration {
    let interval = policy.interval(attempt);
    let percent = u32::from(policy.jitter_percent.min(100));
    if percent == 0 {
        return interval;
    }
    let mut random = [0; 2];
    entropy.fill(&mut random);
    // A part of at most `percent` hundredths, in steps of 1/65536.
    let cut = interval / 100 * percent / 65_536 * u32::from(u16::from_be_bytes(random));
    interval.saturating_sub(cut)
}

/// The peer's requests.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// The lowest Message ID that has not come.
    next_id: u32,
    /// How many we keep state for.
    size: u32,
    received: Vec<Received>,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            next_id: 0,
            size: 1,
            received: Vec::new(),
        }
    }
}

/// A request that has come.
#[derive(Debug)]
struct Received {
    id: u32,
    digest: [u8; 32],
    response: Option<Datagrams>,
}

/// What a request is, by its Message ID.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Classified {
    /// An expected one.
    New,
    /// One again that has been answered.
    Repeated,
    /// One again that is still being worked on.
    InProgress,
    /// It bears the Message ID of one that has been answered, but is not the same octets: another of its fragments, or
    /// one of another size, or a forgery.
    Reshaped,
    /// One that has been answered and is over, delivered late or again by the network or by somebody who
    /// has recorded it.
    Old,
    /// One that may not come yet.
    Ahead,
}

impl Incoming {
    /// The lowest Message ID of the peer's requests that has not come.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// How many requests may be under way at the same time.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Our SET_WINDOW_SIZE has been sent.
    pub(crate) fn enlarge(&mut self, size: u32) {
        self.size = self.size.max(size.min(MAX_WINDOW));
    }

    /// The Message ID after the highest that has come.
    pub(crate) fn next_after_all(&self) -> u32 {
        let after = self.received.iter().map(|r| r.id.saturating_add(1));
        after.fold(self.next_id, u32::max)
    }

    /// Goes on with this Message ID or a higher one. Lower ones are over.
    pub(crate) fn skip_to(&mut self, id: u32) {
        self.received.retain(|r| r.id >= id);
        self.next_id = self.next_id.max(id);
        self.slide();
    }

    fn slide(&mut self) {
        while self.find(self.next_id).is_some() {
            self.next_id = self.next_id.saturating_add(1);
        }
    }

    /// Whether there is a response that may be asked for again.
    pub(crate) fn has_response(&self) -> bool {
        self.received.iter().any(|r| r.response.is_some())
    }

    /// The response to a request.
    pub(crate) fn response(&self, id: u32) -> Option<&Datagrams> {
        self.find(id)?.response.as_ref()
    }

    fn find(&self, id: u32) -> Option<&Received> {
        self.received.iter().find(|r| r.id == id)
    }

    /// What a request is. A repetition is known by its octets, so that nobody can make us repeat
    /// a response with a forgery.
    pub(crate) fn classify(&self, id: u32, bytes: &[u8]) -> Classified {
        //= rfc7296#2.1
        //# The responder MUST never retransmit a response unless it receives a retransmission of the request.
        if let Some(known) = self.find(id) {
            return match known.response {
                None => Classified::InProgress,
                Some(_) if known.digest == sha256(&[bytes]) => Classified::Repeated,
                Some(_) => Classified::Reshaped,
            };
        }
        if id < self.next_id {
            return Classified::Old;
        }
        // The peer may not go on before it has the response to the request that is as many behind.
        let unanswered = self.received.iter().filter(|r| r.response.is_none());
        let first = unanswered.map(|r| r.id).fold(self.next_id, u32::min);
        if id.saturating_sub(first) < self.size {
            Classified::New
        } else {
            Classified::Ahead
        }
    }

    /// Notes that an expected request has come and is worked on.
    /// `digest` is the hash of the message or, if it came in fragments, of the first one.
    //= rfc7296#2.1
    //# The responder MUST remember each response
    //# until it receives a request whose sequence number is larger than or
    //# equal to the sequence number in the response plus its window size
    //# (see Section 2.3).
    pub(crate) fn accept(&mut self, id: u32, digest: [u8; 32]) {
        // Nearly always the only one.
        self.received.reserve_exact(1);
        self.received.push(Received {
            id,
            digest,
            response: None,
        });
        self.slide();
        let highest = self.received.iter().map(|r| r.id).fold(0, u32::max);
        let size = self.size;
        self.received
            .retain(|r| highest.saturating_sub(r.id) < size);
    }

    /// Keeps the response to a request.
    pub(crate) fn respond(&mut self, id: u32, response: Datagrams) {
        if let Some(received) = self.received.iter_mut().find(|r| r.id == id) {
            received.response = Some(response);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_crypto::testing::InsecureEntropy;

    fn policy() -> RetransmitPolicy {
        RetransmitPolicy {
            initial: Duration::from_secs(1),
            factor_tenths: 20,
            max_interval: Duration::from_secs(4),
            timeout: Duration::from_secs(10),
            jitter_percent: 0,
        }
    }

    //= rfc7296#2.4
    //= type=test
    //# To be a good
    //# network citizen, retransmission times MUST increase exponentially to
    //# avoid flooding the network and making an existing congestion
    //# situation worse.
    #[test]
    fn waits_double_up_to_the_limit_and_end() {
        let start = Instant::now();
        let mut entropy = InsecureEntropy::from_seed(1);
        let mut window = Outgoing::default();
        window.sent(
            start,
            ExchangeType::INFORMATIONAL,
            vec![1].into(),
            None,
            &policy(),
            &mut entropy,
        );
        let mut times = Vec::new();
        while let Some(due) = window.next_due() {
            let now = due;
            match window.poll(now, &policy(), &mut entropy) {
                Due::Again { id: 0, attempt } => times.push((attempt, (now - start).as_secs())),
                Due::GiveUp { sent, .. } => {
                    times.push((sent, (now - start).as_secs()));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(times, [(1, 1), (2, 3), (3, 7), (4, 10)]);
    }

    #[test]
    fn jitter_shortens_within_its_bounds() {
        let policy = RetransmitPolicy {
            jitter_percent: 20,
            ..policy()
        };
        let mut entropy = InsecureEntropy::from_seed(2);
        for attempt in 0..100 {
            let interval = policy.interval(attempt);
            let wait = jittered(&policy, attempt, &mut entropy);
            assert!(wait <= interval && wait >= interval / 100 * 80, "{wait:?}");
        }
    }

    #[test]
    fn a_factor_below_one_does_not_shrink_the_wait() {
        let policy = RetransmitPolicy {
            factor_tenths: 1,
            ..policy()
        };
        assert_eq!(policy.interval(5), Duration::from_secs(1));
    }

    //= rfc7383#2.5.2
    //= type=test
    //# When starting a new probe,
    //# the node MUST reset its retransmission timers so that if it employs
    //# exponential back-off the timers will start over.
    #[test]
    fn smaller_fragments_begin_anew_with_the_wait() {
        let start = Instant::now();
        let mut entropy = InsecureEntropy::from_seed(1);
        let mut window = Outgoing::default();
        let exchange = ExchangeType::IKE_AUTH;
        window.sent(
            start,
            exchange,
            vec![1].into(),
            None,
            &policy(),
            &mut entropy,
        );
        let mut times = Vec::new();
        while let Some(now) = window.next_due() {
            match window.poll(now, &policy(), &mut entropy) {
                Due::Again { attempt, .. } => {
                    times.push((now - start).as_secs());
                    if attempt == 2 {
                        let smaller = Datagrams::new(vec![1], vec![vec![2]]);
                        window.refragment(now, 0, smaller, &policy(), &mut entropy);
                    }
                }
                Due::GiveUp { sent, .. } => {
                    assert_eq!(sent, 5);
                    break;
                }
                Due::Wait => panic!("it was due"),
            }
        }
        assert_eq!(times, [1, 3, 4, 6]);
        assert_eq!(window.next_due(), Some(start + policy().timeout));
    }

    #[test]
    fn requests_are_known_by_id_and_octets() {
        let mut window = Incoming::default();
        let answer = Datagrams::from(b"A".to_vec());
        assert_eq!(window.classify(0, b"a"), Classified::New);
        window.accept(0, sha256(&[b"a"]));
        assert_eq!(window.classify(0, b"a"), Classified::InProgress);
        assert_eq!(window.classify(1, b"b"), Classified::Ahead);
        window.respond(0, answer.clone());
        assert_eq!(window.classify(0, b"a"), Classified::Repeated);
        assert_eq!(window.response(0), Some(&answer));
        assert_eq!(window.classify(0, b"x"), Classified::Reshaped);
        assert_eq!(window.classify(1, b"b"), Classified::New);
        assert_eq!(window.classify(2, b"c"), Classified::Ahead);
        window.accept(1, sha256(&[b"b"]));
        assert_eq!(window.classify(0, b"a"), Classified::Old);
    }

    //= rfc7296#2.1
    //= type=test
    //# The responder MUST remember each response
    //# until it receives a request whose sequence number is larger than or
    //# equal to the sequence number in the response plus its window size
    //# (see Section 2.3).
    #[test]
    fn a_larger_window_takes_requests_in_any_order() {
        let mut window = Incoming::default();
        window.enlarge(3);
        let digest = sha256(&[b"a"]);
        let new = |window: &Incoming| {
            let ids = (0..12).filter(|id| window.classify(*id, b"a") == Classified::New);
            ids.collect::<Vec<_>>()
        };
        assert_eq!(new(&window), [0, 1, 2]);
        window.accept(2, digest);
        assert_eq!((new(&window), window.next_id()), (vec![0, 1], 0));
        window.accept(0, digest);
        assert_eq!((new(&window), window.next_id()), (vec![1], 1));
        // The peer may not go on from 0 before its answer, even if it has that to others.
        window.respond(2, b"C".to_vec().into());
        window.accept(1, digest);
        assert_eq!((new(&window), window.next_id()), (vec![], 3));
        window.respond(0, b"A".to_vec().into());
        assert_eq!(new(&window), [3]);
        window.respond(1, b"B".to_vec().into());
        assert_eq!(new(&window), [3, 4, 5]);
        // Each answer is there until nobody can ask for it any more.
        window.accept(4, digest);
        let kept = |window: &Incoming| {
            let ids = (0..9).filter(|id| window.classify(*id, b"a") == Classified::Repeated);
            ids.collect::<Vec<_>>()
        };
        assert_eq!(kept(&window), [2]);
        assert_eq!(window.classify(1, b"a"), Classified::Old);
        window.accept(3, digest);
        assert_eq!(kept(&window), [2]);
        window.enlarge(2);
        assert_eq!(window.size, 3);
        window.enlarge(u32::MAX);
        assert_eq!(window.size, MAX_WINDOW);
    }

    //= rfc7296#2.3
    //= type=test
    //# An IKE endpoint MUST NOT exceed the peer's stated window size for
    //# transmitted IKE requests.  In other words, if the responder stated
    //# its window size is N, then when the initiator needs to make a request
    //# X, it MUST wait until it has received responses to all requests up
    //# through request X-N.
    #[test]
    fn no_request_goes_beyond_the_peers_window() {
        let mut entropy = InsecureEntropy::from_seed(1);
        let mut window = Outgoing::default();
        let mut send = |window: &mut Outgoing| {
            let exchange = ExchangeType::INFORMATIONAL;
            let message = vec![1].into();
            window.sent(
                Instant::now(),
                exchange,
                message,
                None,
                &policy(),
                &mut entropy,
            );
        };
        assert_eq!(window.room(), 1);
        send(&mut window);
        assert_eq!(window.room(), 0);
        window.enlarge(3);
        assert_eq!(window.room(), 2);
        send(&mut window);
        send(&mut window);
        assert_eq!((window.room(), window.next_id()), (0, 3));
        // Answers to the later ones do not help.
        window.answered(1);
        window.answered(2);
        assert_eq!(window.room(), 0);
        window.answered(0);
        assert_eq!((window.room(), window.is_idle()), (3, true));
        window.enlarge(1);
        assert_eq!(window.room(), 3);
    }
}
