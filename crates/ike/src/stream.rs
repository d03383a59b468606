//! IKE SAs over TCP (RFC 9329): who opens streams, what becomes of an SA whose stream is lost, and when a stream takes
//! the place of UDP.
//!
//! A stream is named by its two addresses. Its originator draws the port, so that the name is known before the stream is
//! there; whoever carries out [`Output::Transmit`](crate::Output::Transmit) opens it for the first message.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use crate::context::{Context, Path};
use crate::exchange::mobike;
use crate::io::Event;
use crate::sa::{Core, IkeSa, State};
use crate::transport::Transport;

/// The ports that an originator draws from: those that Linux gives to clients.
const PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// Transmissions of an IKE_SA_INIT request over UDP, each without any answer, after which it is tried over TCP.
//= rfc9329#5.1
//# It is recommended that the
//# initial message over UDP be retransmitted at least once before
//# falling back to TCP
pub(crate) const FALLBACK_AFTER: u32 = 4;

/// Times at which a request would be repeated over UDP after which its stream counts as dead, though nobody has said so.
const PATIENCE: u32 = 3;

/// The two ends of a stream, ours first.
pub(crate) type StreamName = (SocketAddr, SocketAddr);

/// What an IKE SA knows of its streams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Streams {
    /// It is we who open them: we have begun the first of the IKE SAs that were each rekeyed to the next.
    //= rfc9329#1.2
    //# If an IKE SA
    //# is rekeyed one or more times, the TCP Originator MUST remain the peer
    //# that originally initiated the first IKE SA.
    pub(crate) originator: bool,
    /// Our port; 0 until one is needed.
    port: u16,
    /// The stream of the present path is broken.
    lost: bool,
    /// An authentic message has come over it.
    heard: bool,
}

impl Streams {
    /// Of the end that has begun an IKE SA.
    pub(crate) fn of_originator() -> Self {
        Self {
            originator: true,
            ..Self::default()
        }
    }

    /// Our port, once one was needed.
    pub(crate) fn port(&self) -> Option<u16> {
        (self.port != 0).then_some(self.port)
    }

    /// Our port from now on, another one than before, and than that of another IKE SA's stream to there.
    pub(crate) fn draw(&mut self, cx: &mut Context<'_>, local: IpAddr, remote: SocketAddr) -> u16 {
        let (first, last) = (*PORTS.start(), *PORTS.end());
        let count = last.saturating_sub(first).saturating_add(1);
        let drawn = u16::from_be_bytes(cx.random()) % count;
        let port = |n: u16| first.saturating_add(drawn.wrapping_add(n) % count);
        let streams = &cx.shared.streams;
        let is_free = |port: &u16| {
            let name = (SocketAddr::new(local, *port), remote);
            *port != self.port && !streams.contains_key(&name)
        };
        self.port = (0..count).map(port).find(is_free).unwrap_or(port(0));
        self.port
    }

    /// The way over a stream that is yet to be opened.
    //= rfc9329#6.1
    //# Multiple IKE SAs MUST NOT share a single TCP connection, unless one is
    //# a rekey of an existing IKE SA, in which case there will temporarily be
    //# two IKE SAs on the same TCP connection.
    pub(crate) fn open(&mut self, cx: &mut Context<'_>, local: IpAddr, remote: SocketAddr) -> Path {
        (self.lost, self.heard) = (false, false);
        Path {
            local: SocketAddr::new(local, self.draw(cx, local, remote)),
            remote,
            transport: Transport::Tcp,
        }
    }
}

/// Notes that an authentic message that is no repetition has come by `back`. The end that does not open streams goes on
/// over the one on which it was heard last.
//= rfc9329#6.1
//# In order to be
//# considered valid for choosing a TCP connection, an IKE message must
//# be successfully decrypted and authenticated, not be a retransmission
//# of a previously received message, and be within the expected window
//# for IKE message IDs.
//= rfc9329#6.1
//# Since new TCP connections may use different IP addresses and/or ports
//# due to NAT mappings or local address or port allocations changing, the
//# TCP Responder MUST allow packets for existing SAs to be received from
//# new source IP addresses and ports.
pub(crate) fn on_heard(core: &mut Core, cx: &mut Context<'_>, back: Path) {
    if (back.transport, core.path.transport) != (Transport::Tcp, Transport::Tcp) {
        return;
    }
    let news = back != core.path;
    if news && core.streams.originator {
        return;
    }
    core.streams.heard = true;
    if !news && !core.streams.lost {
        return;
    }
    core.streams.lost = false;
    let before = core.child_path();
    core.path = back;
    mobike::report(core, cx, before);
    send_pending(core, cx);
}

/// Sends over the present path what no response has come to yet.
//= rfc9329#6.2
//# If a new TCP connection for the IKE SA is established while the
//# exchange Initiator is waiting for a response, the Initiator MUST
//# retransmit its request over this connection and continue to wait
//# for a response.
fn send_pending(core: &mut Core, cx: &mut Context<'_>) {
    core.last_sent = cx.now;
    for pending in core.outgoing.all_pending() {
        cx.transmit_message(core.path, &pending.message);
    }
}

/// Goes on over a new stream.
//= rfc9329#6.1
//# The TCP
//# Originator is responsible for re-establishing the TCP connection if
//# it is torn down for any unexpected reason.
fn reopen(core: &mut Core, cx: &mut Context<'_>) {
    let before = core.child_path();
    let (local, remote) = (core.path.local.ip(), core.path.remote);
    core.path = core.streams.open(cx, local, remote);
    mobike::report(core, cx, before);
    send_pending(core, cx);
}

/// A request has not been answered for some time. TCP sees to it that it arrives, unless the stream is broken.
//= rfc9329#6.2
//# The exchange Initiator SHOULD NOT retransmit request message (*);
//# if no response is received within some reasonable period of time,
//# the IKE SA is deleted.
fn on_silence(core: &mut Core, cx: &mut Context<'_>, message_id: u32, attempt: u32) {
    let established = core.established.is_some();
    if !core.streams.originator || !(core.streams.lost || established && attempt >= PATIENCE) {
        return;
    }
    if established {
        reopen(core, cx);
    } else {
        // What the request says of NATs holds for this port.
        core.streams.lost = false;
        send_pending(core, cx);
    }
    let stats = &mut cx.shared.stats;
    stats.retransmissions = stats.retransmissions.saturating_add(1);
    cx.event(Event::Retransmitting {
        ike: core.id,
        message_id,
        attempt,
    });
}

impl IkeSa {
    /// Has a request over a stream repeated where that is of use. False if it does not go over a stream.
    pub(crate) fn repeat_over_stream(
        &mut self,
        cx: &mut Context<'_>,
        message_id: u32,
        attempt: u32,
    ) -> bool {
        let over_stream =
            self.core.path.transport == Transport::Tcp && !mobike::is_searching(&self.core);
        if over_stream {
            on_silence(&mut self.core, cx, message_id, attempt);
        }
        over_stream
    }

    /// The stream of the present path is broken. The SAs stand: the originator opens another one.
    //= rfc9329#6.1
    //# If a DELETE
    //# payload has not been sent, both sides SHOULD maintain the state for
    //# their SAs for the standard lifetime or timeout period.
    pub(crate) fn on_stream_lost(&mut self, cx: &mut Context<'_>) {
        let streams = &mut self.core.streams;
        streams.lost = true;
        // One over which nothing has come is tried again when the request is due: whoever refuses it gets no flood.
        if !streams.originator || !streams.heard || self.core.established.is_none() {
            return;
        }
        reopen(&mut self.core, cx);
        self.step(|state, core| match state {
            State::Established(s) => s.on_reopened(core, cx),
            other => other,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_ports_of_their_own() {
        assert!(!PORTS.contains(&500) && !PORTS.contains(&4500));
    }
}
