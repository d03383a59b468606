//! From events to log lines: one span per IKE SA, one line per event, with the
//! event's stable name as a field.

mod limits;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use cygnet_engine::Event;
use cygnet_ike::{Event as IkeEvent, Identity, IkeSaId, Role};
use cygnet_ipsec::EncapKind;
use tracing::{Span, debug, info, info_span, warn};
use tracing_subscriber::EnvFilter;

use self::limits::Limits;
use crate::cli::LogFormat;

/// Installs the subscriber.
///
/// # Errors
/// A sentence if the filter is not one.
pub(super) fn init(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|e| format!("--log {filter}: {e}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Human => builder.with_target(false).with_ansi(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Whose lines are limited together.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Peer {
    /// Somebody who has been authenticated, under however many IKE SAs.
    Known(Identity),
    /// The other end of an IKE SA that has not come about yet.
    Unknown(IkeSaId),
}

/// The spans of the living IKE SAs, and how much is written about whom.
#[derive(Debug)]
pub(super) struct EventLog {
    spans: HashMap<IkeSaId, Span>,
    /// Whose the established IKE SAs are.
    identities: HashMap<IkeSaId, Identity>,
    /// Of what anybody can make us write, by address.
    strangers: Limits<IpAddr>,
    /// Of what an authenticated peer can make us write with each message.
    peers: Limits<Peer>,
}

impl EventLog {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            spans: HashMap::new(),
            identities: HashMap::new(),
            strangers: Limits::new(now),
            peers: Limits::new(now),
        }
    }

    /// Whether a line about what the peer of an IKE SA has done may be written; if so, how many before it were not.
    fn admit_peer(&mut self, ike: IkeSaId) -> Option<u64> {
        let peer = match self.identities.get(&ike) {
            Some(identity) => Peer::Known(identity.clone()),
            None => Peer::Unknown(ike),
        };
        self.peers.admit(Instant::now(), peer)
    }

    /// The same of a stranger.
    fn admit_stranger(&mut self, remote: SocketAddr) -> Option<u64> {
        self.strangers.admit(Instant::now(), remote.ip())
    }

    /// Writes one event.
    pub(super) fn write(&mut self, event: &Event) {
        let name = event.name();
        match event {
            Event::Ike { connection, event } => {
                let connection = connection.as_deref().unwrap_or("-");
                self.ike(connection, event);
            }
            Event::ConnectionUp {
                connection, child, ..
            } => {
                info!(event = name, connection = %connection, child = %child, "connection is up");
            }
            Event::ConnectionDown { connection } => {
                info!(event = name, connection = %connection, "connection is down");
            }
            Event::AttemptFailed {
                connection,
                reason,
                text,
                retry_in,
            } => match retry_in {
                Some(wait) => warn!(
                    event = name, connection = %connection, reason, retry_in_ms = wait.as_millis() as u64,
                    "attempt failed: {text}; next one in {:.1} s", wait.as_secs_f64()
                ),
                None => {
                    warn!(event = name, connection = %connection, reason, "attempt failed: {text}")
                }
            },
            Event::Redirected {
                connection,
                from,
                to,
            } => {
                info!(event = name, connection = %connection, %from, %to, "sent to another gateway");
            }
            Event::Trapped { connection } => {
                info!(event = name, connection = %connection, "trap and fence are in place");
            }
            Event::TrapFailed { connection, text } => {
                warn!(event = name, connection = %connection, "the trap could not be set: {text}");
            }
            Event::Acquired {
                connection,
                plane,
                selector,
            } => {
                info!(event = name, connection = %connection, ?plane, "a packet from {} to {} asks for an SA", selector.src, selector.dst);
            }
            Event::AcquireRefused {
                connection,
                plane,
                selector,
                reason,
            } => {
                warn!(event = name, connection = %connection, ?plane, reason = reason.name(), "a packet from {} to {} gets no SA: {reason}", selector.src, selector.dst);
            }
            Event::ForeignAcquire { plane, reqid } => {
                debug!(
                    event = name,
                    ?plane,
                    reqid,
                    "an ACQUIRE for a policy that is not ours"
                );
            }
            Event::MoveFailed {
                connection,
                child,
                text,
            } => {
                warn!(event = name, connection = %connection, child = %child, "the child SA could not follow to another address: {text}");
            }
            Event::SkipFailed {
                connection,
                child,
                text,
            } => {
                info!(event = name, connection = %connection, child = %child, "the child SA is renewed instead of leaving sequence numbers out: {text}");
            }
            Event::Unoriented { connection, text } => {
                warn!(event = name, connection = %connection, "no local end: {text}");
            }
            Event::CleanupFailed { plane, text } => {
                warn!(event = name, ?plane, "cleaning up failed: {text}");
            }
        }
    }

    fn span(&mut self, connection: &str, ike: IkeSaId) -> &Span {
        self.spans
            .entry(ike)
            .or_insert_with(|| info_span!(parent: None, "ike", id = %ike, connection))
    }

    fn ike(&mut self, connection: &str, event: &IkeEvent) {
        let name = event.name();
        match event {
            IkeEvent::IkeEstablished { ike, info, .. } => {
                // The name may have become known only now.
                self.spans.remove(ike);
                if let Some(identity) = &info.remote_id {
                    self.identities.insert(*ike, identity.clone());
                }
                let _in = self.span(connection, *ike).enter();
                let suite = info
                    .suite
                    .as_ref()
                    .map_or_else(String::new, ToString::to_string);
                let peer = info
                    .remote_id
                    .as_ref()
                    .map_or_else(String::new, ToString::to_string);
                info!(event = name, role = info.role.name(), remote = %info.remote, suite, resumed = info.resumed, "IKE SA established with {peer}");
            }
            IkeEvent::IkeFailed { ike, reason, info } => {
                // Whoever sends an IKE_SA_INIT and then nothing makes one of these.
                let stranger = info.role == Role::Responder;
                let suppressed = if stranger {
                    self.admit_stranger(info.remote)
                } else {
                    Some(0)
                };
                if let Some(suppressed) = suppressed {
                    let _in = self.span(connection, *ike).enter();
                    warn!(event = name, reason = reason.name(), remote = %info.remote, suppressed, "IKE SA failed: {reason}");
                }
                self.spans.remove(ike);
            }
            IkeEvent::IkeClosed { ike, reason, .. } => {
                {
                    let _in = self.span(connection, *ike).enter();
                    info!(
                        event = name,
                        reason = reason.name(),
                        "IKE SA closed: {reason}"
                    );
                }
                self.spans.remove(ike);
                self.identities.remove(ike);
            }
            IkeEvent::ChildEstablished { ike, child, info } => {
                let _in = self.span(connection, *ike).enter();
                let list = |ts: &[cygnet_wire::TrafficSelector]| {
                    ts.iter()
                        .map(cygnet_engine::describe)
                        .collect::<Vec<_>>()
                        .join(" ")
                };
                info!(
                    event = name, child = %child, suite = %info.suite,
                    spi_in = format!("{:08x}", info.spi_in), spi_out = format!("{:08x}", info.spi_out),
                    encapsulation = info.encapsulation.map(EncapKind::name),
                    "child SA established: {} === {}", list(&info.ts_local), list(&info.ts_remote)
                );
            }
            IkeEvent::ChildFailed {
                ike, child, reason, ..
            } => {
                let Some(suppressed) = self.admit_peer(*ike) else {
                    return;
                };
                let _in = self.span(connection, *ike).enter();
                warn!(event = name, child = %child, reason = reason.name(), suppressed, "child SA failed: {reason}");
            }
            IkeEvent::ChildClosed {
                ike, child, reason, ..
            } => {
                let _in = self.span(connection, *ike).enter();
                info!(event = name, child = %child, reason = reason.name(), "child SA closed: {reason}");
            }
            IkeEvent::ChildrenMoved { from, to, children } => {
                let _in = self.span(connection, *to).enter();
                info!(event = name, %from, children = children.len(), "IKE SA rekeyed, its child SAs go to the new one");
            }
            IkeEvent::IkeRekeyFailed { ike, role, reason } => {
                let Some(suppressed) = self.admit_peer(*ike) else {
                    return;
                };
                let _in = self.span(connection, *ike).enter();
                warn!(
                    event = name,
                    reason = reason.name(),
                    role = role.name(),
                    suppressed,
                    "IKE SA could not be rekeyed: {reason}"
                );
            }
            IkeEvent::ChildRekeyFailed {
                ike,
                child,
                role,
                reason,
            } => {
                let Some(suppressed) = self.admit_peer(*ike) else {
                    return;
                };
                let _in = self.span(connection, *ike).enter();
                warn!(event = name, child = %child, reason = reason.name(), role = role.name(), suppressed, "child SA could not be rekeyed: {reason}");
            }
            IkeEvent::Retransmitting {
                ike,
                message_id,
                attempt,
            } => {
                let _in = self.span(connection, *ike).enter();
                info!(
                    event = name,
                    message_id, attempt, "no response yet, sent again"
                );
            }
            IkeEvent::FallingBack { ike, to } => {
                let _in = self.span(connection, *ike).enter();
                info!(event = name, %to, "no answer over UDP, trying TCP");
            }
            IkeEvent::Puzzled { ike, difficulty } => {
                let _in = self.span(connection, *ike).enter();
                info!(
                    event = name,
                    difficulty, "the peer is under load, solving its puzzle"
                );
            }
            IkeEvent::Redirecting { ike, to } => {
                let _in = self.span(connection, *ike).enter();
                info!(event = name, %to, "the peer has been sent to another gateway");
            }
            IkeEvent::RedirectRefused { ike, to } => {
                let Some(suppressed) = self.admit_peer(*ike) else {
                    return;
                };
                let _in = self.span(connection, *ike).enter();
                warn!(event = name, %to, suppressed, "the gateway sends us where accept-redirect-to does not permit to go");
            }
            IkeEvent::Moved {
                ike,
                from,
                to,
                encapsulation,
            } => {
                let Some(suppressed) = self.admit_peer(*ike) else {
                    return;
                };
                let _in = self.span(connection, *ike).enter();
                info!(
                    event = name,
                    encapsulation = encapsulation.map(EncapKind::name),
                    suppressed,
                    "moved from {} - {} to {} - {}",
                    from.0,
                    from.1,
                    to.0,
                    to.1
                );
            }
            IkeEvent::AuthLifetime { ike, lifetime } => {
                let Some(suppressed) = self.admit_peer(*ike) else {
                    return;
                };
                info!(event = name, %ike, suppressed, "the peer wants to be authenticated to anew within {} s", lifetime.as_secs());
            }
            IkeEvent::CrashTokenForged { ike } => {
                let _in = self.span(connection, *ike).enter();
                warn!(
                    event = name,
                    "somebody says with a wrong token that the peer has lost the IKE SA"
                );
            }
            IkeEvent::Synchronised {
                ike,
                by,
                next_request,
                next_peer_request,
            } => {
                let _in = self.span(connection, *ike).enter();
                info!(
                    event = name,
                    next_request, next_peer_request, "Message IDs synchronised: {by} asked for it"
                );
            }
            IkeEvent::ReplayCounters { ike, by, counters } => {
                let _in = self.span(connection, *ike).enter();
                let delta = counters.delta;
                info!(
                    event = name,
                    delta, "sequence numbers left out: {by} asked for it"
                );
            }
            IkeEvent::PeerComplaint { ike, notify, .. } => {
                let Some(suppressed) = self.admit_peer(*ike) else {
                    return;
                };
                let _in = self.span(connection, *ike).enter();
                warn!(
                    event = name,
                    ?notify,
                    suppressed,
                    "the peer reports a problem"
                );
            }
            IkeEvent::Rejected { remote, reason, .. } => {
                if let Some(suppressed) = self.admit_stranger(*remote) {
                    warn!(event = name, reason = reason.name(), %remote, suppressed, "refused: {reason}");
                }
            }
        }
    }
}

/// One line about an event for whoever waits for a command, if it is worth one.
pub(super) fn progress(event: &Event) -> Option<String> {
    let Event::Ike { event, .. } = event else {
        return None;
    };
    Some(match event {
        IkeEvent::IkeEstablished { info, .. } => format!(
            "IKE SA {} with {} ({})",
            if info.resumed {
                "resumed"
            } else {
                "established"
            },
            info.remote_id
                .as_ref()
                .map_or_else(|| info.remote.to_string(), ToString::to_string),
            info.suite
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
        ),
        IkeEvent::Retransmitting { attempt, .. } => {
            format!("no response yet, sent again ({attempt})")
        }
        IkeEvent::FallingBack { to, .. } => format!("no answer over UDP, trying TCP to {to}"),
        IkeEvent::Puzzled { difficulty, .. } => {
            format!("the peer is under load, solving its puzzle of {difficulty} bits")
        }
        IkeEvent::ChildEstablished { info, .. } => {
            format!(
                "child SA established ({}), SPIs {:08x} in, {:08x} out",
                info.suite, info.spi_in, info.spi_out
            )
        }
        IkeEvent::ChildFailed { reason, .. } => format!("child SA failed: {reason}"),
        _ => return None,
    })
}
