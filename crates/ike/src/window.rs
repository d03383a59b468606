//! Message IDs, retransmission and the response cache: windows of one request in each direction
//! (RFC 7296 §2.1 to §2.3).

use std::time::{Duration, Instant};

use cygnet_crypto::{Entropy, sha256};
use cygnet_wire::ExchangeType;

use crate::channel::Plaintext;
use crate::config::RetransmitPolicy;
use crate::fragment::Datagrams;

/// Our requests.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    next_id: u32,
    pending: Option<Pending>,
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

    /// Whether a request may be sent now.
    //= rfc7296#2.3
    //# An IKE endpoint MUST wait for a response to each of its messages before
    //# sending a subsequent message unless it has received a SET_WINDOW_SIZE
    //# Notify message from its peer
    pub(crate) fn is_free(&self) -> bool {
        self.pending.is_none()
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
        self.pending = Some(Pending {
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
    }

    /// Replaces the pending request by another form of it, under the same Message ID (IKE_SA_INIT with a cookie or
    /// another key exchange). The time of giving up stays.
    pub(crate) fn replace(
        &mut self,
        now: Instant,
        message: Datagrams,
        policy: &RetransmitPolicy,
        entropy: &mut dyn Entropy,
    ) {
        if let Some(pending) = &mut self.pending {
            pending.message = message;
            pending.sent = pending.sent.saturating_add(1);
            pending.due = now + jittered(policy, 0, entropy);
            pending.paused = false;
        }
    }

    /// Does not send the pending request again until it is replaced.
    pub(crate) fn pause(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.paused = true;
        }
    }

    /// Replaces the pending request, which is about to be repeated, by smaller fragments of it.
    //= rfc7383#2.5.2
    //# When starting a new probe,
    //# the node MUST reset its retransmission timers so that if it employs
    //# exponential back-off the timers will start over.
    pub(crate) fn refragment(
        &mut self,
        now: Instant,
        message: Datagrams,
        policy: &RetransmitPolicy,
        entropy: &mut dyn Entropy,
    ) {
        if let Some(pending) = &mut self.pending {
            pending.message = message;
            pending.plain = None;
            pending.sent_before = pending.sent.saturating_sub(1);
            pending.due = pending.capped(now, now + jittered(policy, 0, entropy), policy);
        }
    }

    /// The pending request.
    pub(crate) fn pending(&self) -> Option<&Pending> {
        self.pending.as_ref()
    }

    /// Whether a response with this header is the awaited one.
    pub(crate) fn awaits(&self, id: u32, exchange: ExchangeType) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|p| p.id == id && p.exchange == exchange)
    }

    /// Notes that the response has come: the window moves.
    pub(crate) fn answered(&mut self) {
        if self.pending.take().is_some() {
            // 2^32 requests are never reached: SAs end long before.
            self.next_id = self.next_id.saturating_add(1);
        }
    }

    /// When something is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.pending.as_ref().filter(|p| !p.paused).map(|p| p.due)
    }

    /// What is due.
    //= rfc7296#2.1
    //# For every pair of IKE messages, the initiator is responsible for
    //# retransmission in the event of a timeout.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        policy: &RetransmitPolicy,
        entropy: &mut dyn Entropy,
    ) -> Due {
        let Some(pending) = &mut self.pending else {
            return Due::Wait;
        };
        if now < pending.due || pending.paused {
            return Due::Wait;
        }
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
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    next_id: u32,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    digest: [u8; 32],
    response: Option<Datagrams>,
}

/// What a request is, by its Message ID.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Classified<'a> {
    /// The expected one.
    New,
    /// The last one again; here is its response.
    Repeated(&'a Datagrams),
    /// The last one again, and it is still being worked on.
    InProgress,
    /// It bears the Message ID of the last one, but is not the same octets: another of its fragments, or one of
    /// another size, or a forgery. There is a response.
    Reshaped,
    /// One that has been answered and is over, delivered late or again by the network or by somebody who
    /// has recorded it.
    Old,
    /// One that may not come yet.
    Ahead,
}

impl Incoming {
    /// The Message ID of the peer's next request.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// What a request is. A repetition is known by its octets, so that nobody can make us repeat
    /// a response with a forgery.
    pub(crate) fn classify(&self, id: u32, bytes: &[u8]) -> Classified<'_> {
        if id == self.next_id {
            // The previous request must have been answered before the next one counts.
            return match &self.last {
                Some(Last { response: None, .. }) => Classified::Ahead,
                _ => Classified::New,
            };
        }
        if id > self.next_id {
            return Classified::Ahead;
        }
        //= rfc7296#2.1
        //# The responder MUST never retransmit a response unless it receives a retransmission of the request.
        let last = self.last.as_ref();
        match last.filter(|_| id.checked_add(1) == Some(self.next_id)) {
            Some(Last { response: None, .. }) => Classified::InProgress,
            Some(Last {
                digest,
                response: Some(response),
            }) => {
                if *digest == sha256(&[bytes]) {
                    Classified::Repeated(response)
                } else {
                    Classified::Reshaped
                }
            }
            None => Classified::Old,
        }
    }

    /// The response to the last request.
    pub(crate) fn response(&self) -> Option<&Datagrams> {
        self.last.as_ref()?.response.as_ref()
    }

    /// Notes that the expected request has come and is worked on.
    /// `digest` is the hash of the message or, if it came in fragments, of the first one.
    pub(crate) fn accept(&mut self, digest: [u8; 32]) {
        self.next_id = self.next_id.saturating_add(1);
        self.last = Some(Last {
            digest,
            response: None,
        });
    }

    /// Keeps the response until the next request comes.
    //= rfc7296#2.1
    //# The responder MUST remember each response
    //# until it receives a request whose sequence number is larger than or
    //# equal to the sequence number in the response plus its window size
    //# (see Section 2.3).
    pub(crate) fn respond(&mut self, response: Datagrams) {
        if let Some(last) = &mut self.last {
            last.response = Some(response);
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
                        window.refragment(now, smaller, &policy(), &mut entropy);
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
        window.accept(sha256(&[b"a"]));
        assert_eq!(window.classify(0, b"a"), Classified::InProgress);
        assert_eq!(window.classify(1, b"b"), Classified::Ahead);
        window.respond(answer.clone());
        assert_eq!(window.classify(0, b"a"), Classified::Repeated(&answer));
        assert_eq!(window.classify(0, b"x"), Classified::Reshaped);
        assert_eq!(window.classify(1, b"b"), Classified::New);
        assert_eq!(window.classify(2, b"c"), Classified::Ahead);
        window.accept(sha256(&[b"b"]));
        assert_eq!(window.classify(0, b"a"), Classified::Old);
    }
}
