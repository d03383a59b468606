//! What `cygnet status` shows, as values.
//!
//! The engine knows everything but the traffic counters: those are the planes'
//! and are filled in by whoever can ask them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use cygnet_ike::{ChildSaInfo, IkeSaInfo};
use cygnet_ipsec::{EncapKind, Lifetime, SaId};
use serde::Serialize;

use crate::connection::IpsecInterface;
use crate::connection_state::{Intent, State, Trap};
use crate::engine::Engine;
use crate::io::Plane;
use crate::selectors::describe;
use crate::timers::Timer;

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The loaded connections by the order of loading.
    pub connections: Vec<ConnectionStatus>,
    /// All IKE SAs, those of unknown connections too.
    pub ike_sas: Vec<IkeStatus>,
    /// Those who begin IKE SAs and have not proved who they are.
    pub strangers: StrangersStatus,
    /// What IKE has counted since the start.
    pub ike_counters: IkeCounters,
}

/// What IKE has counted since the start, as far as it is not zero, by the stable names of the counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IkeCounters {
    /// What was sent, received and made.
    #[serde(flatten)]
    pub counters: BTreeMap<&'static str, u64>,
    /// What was dropped, by the reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// What strangers cost, and what is asked of them (RFC 7296 section 2.6, RFC 8019).
#[derive(Clone, Debug, Serialize)]
pub struct StrangersStatus {
    /// IKE SAs that they have begun and not finished.
    pub half_open: usize,
    /// What they must do to be heard: `none`, `cookies`, `puzzles`.
    pub defence: &'static str,
    /// Cookies asked for.
    pub cookies_sent: u64,
    /// Puzzles given.
    pub puzzles_sent: u64,
    /// Puzzles solved.
    pub puzzles_solved: u64,
}

/// One connection.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionStatus {
    /// Its name.
    pub name: String,
    /// What the user wants.
    pub intent: Intent,
    /// What is the case: `up`, `connecting`, `retrying`, `trapped`, `waiting`, `unoriented`, `down`.
    pub state: &'static str,
    /// What it waits for or what is in the way, if anything.
    pub reason: Option<String>,
    /// Who transforms its packets.
    pub plane: Plane,
    /// The interface of a route-based connection; by another name if we did not make it.
    pub interface: Option<String>,
    /// Our address, once known.
    pub local: Option<IpAddr>,
    /// The peer's; `None`: not known or any.
    pub remote: Option<IpAddr>,
    /// The reqid of its policies and SAs.
    pub reqid: u32,
    /// The next attempt may resume a session that was lost.
    pub resumable: bool,
    /// The reason of the last failed attempt.
    pub last_failure: Option<FailureStatus>,
    /// Time until the next attempt.
    #[serde(serialize_with = "seconds_option")]
    pub retry_in: Option<Duration>,
    /// Its child SAs.
    pub children: Vec<ChildStatus>,
}

/// A failed attempt.
#[derive(Clone, Debug, Serialize)]
pub struct FailureStatus {
    /// Stable name of the reason.
    pub reason: &'static str,
    /// The reason as a sentence.
    pub text: String,
    /// How long ago.
    #[serde(serialize_with = "seconds")]
    pub ago: Duration,
}

/// One IKE SA.
#[derive(Clone, Debug, Serialize)]
pub struct IkeStatus {
    /// Its number.
    pub id: u64,
    /// The connection it was made for, of those that it serves.
    pub connection: Option<String>,
    /// All that it serves.
    pub connections: Vec<String>,
    /// The number of the IKE SA that it was made from by rekeying.
    pub replaces: Option<u64>,
    /// The gateway that has sent us to this one.
    pub redirected_from: Option<IpAddr>,
    /// Who began it.
    pub role: &'static str,
    /// How far it is.
    pub state: &'static str,
    /// What carries the messages: `udp` or `tcp`.
    pub transport: &'static str,
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// Who we say we are.
    pub local_id: Option<String>,
    /// Who the peer proved to be.
    pub remote_id: Option<String>,
    /// SPI of the initiator, 16 hexadecimal digits.
    pub initiator_spi: String,
    /// SPI of the responder.
    pub responder_spi: String,
    /// The algorithms.
    pub suite: Option<String>,
    /// A post-quantum pre-shared key has part in the keys.
    pub ppk: bool,
    /// IKE_AUTH made no child SA.
    pub childless: bool,
    /// It resumes a session that was lost (RFC 5723).
    pub resumed: bool,
    /// Time for which we can resume it, should it be lost; `None`: we have no ticket.
    #[serde(serialize_with = "seconds_option")]
    pub ticket_expires_in: Option<Duration>,
    /// The peer has a ticket.
    pub ticket_granted: bool,
    /// The peer has given a token by which it can show that it has lost the IKE SA (RFC 6290).
    pub crash_token: bool,
    /// Both ends have agreed that either may synchronise Message IDs (RFC 6311).
    pub message_id_sync: bool,
    /// Both ends have agreed that either may have the other leave sequence numbers of child SAs out (RFC 6311).
    pub replay_counter_sync: bool,
    /// A NAT was found in front of us.
    pub nat_local: bool,
    /// A NAT was found in front of the peer.
    pub nat_remote: bool,
    /// Both ends have agreed that the SAs may move to other addresses.
    pub mobike: bool,
    /// Both ends can put messages together from fragments.
    pub fragmentation: bool,
    /// How many requests of the peer's may be under way at the same time.
    pub own_window: u32,
    /// How many of ours.
    pub peer_window: u32,
    /// Time since authentication.
    #[serde(serialize_with = "seconds_option")]
    pub established: Option<Duration>,
    /// Time since the peer was last heard.
    #[serde(serialize_with = "seconds_option")]
    pub last_heard: Option<Duration>,
    /// Time until a successor is made.
    #[serde(serialize_with = "seconds_option")]
    pub rekey_in: Option<Duration>,
    /// Time until it ends, successor or not.
    #[serde(serialize_with = "seconds_option")]
    pub expires_in: Option<Duration>,
}

/// One child SA.
#[derive(Clone, Debug, Serialize)]
pub struct ChildStatus {
    /// Its number.
    pub id: u64,
    /// The IKE SA it belongs to.
    pub ike: u64,
    /// `tunnel`, `transport`, `beet` or `iptfs`.
    pub mode: &'static str,
    /// `esp` or `ah`.
    pub protocol: &'static str,
    /// The CPU whose packets it carries, of several child SAs with the same selectors.
    pub cpu: Option<u32>,
    /// Packets are compressed with IPComp: the CPIs of what comes in and of what goes out.
    pub ipcomp: Option<(u16, u16)>,
    /// The security label of what it carries (RFC 9478).
    pub label: Option<String>,
    /// What ESP goes into, `udp` or `tcp`; none: into IP.
    pub encapsulation: Option<&'static str>,
    /// The algorithms.
    pub suite: String,
    /// SPI of what comes in, 8 hexadecimal digits.
    pub spi_in: String,
    /// SPI of what goes out.
    pub spi_out: String,
    /// Negotiated selectors of our side.
    pub local_ts: Vec<String>,
    /// Negotiated selectors of the peer's side.
    pub remote_ts: Vec<String>,
    /// The reqid.
    pub reqid: u32,
    /// The number of the child SA that it was made from by rekeying.
    pub replaces: Option<u64>,
    /// We send on it: not yet, while the peer has not shown that it is ready.
    pub sending: bool,
    /// Time since installation.
    #[serde(serialize_with = "seconds_option")]
    pub established: Option<Duration>,
    /// Time until a successor is made.
    #[serde(serialize_with = "seconds_option")]
    pub rekey_in: Option<Duration>,
    /// Time until it ends, successor or not.
    #[serde(serialize_with = "seconds_option")]
    pub expires_in: Option<Duration>,
    /// Traffic in; filled in by whoever can ask the plane.
    pub inbound: Option<Traffic>,
    /// Traffic out.
    pub outbound: Option<Traffic>,
    /// Where to ask for the counters, inbound and outbound.
    #[serde(skip)]
    pub sas: Option<(Plane, SaId, SaId)>,
}

/// Counters of one SA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Octets of clear packets.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets refused by the replay check.
    pub replayed: u64,
    /// Packets with a wrong integrity check value.
    pub integrity_failed: u64,
}

fn seconds<S: serde::Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(d.as_secs())
}

fn seconds_option<S: serde::Serializer>(d: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    match d {
        Some(d) => s.serialize_some(&d.as_secs()),
        None => s.serialize_none(),
    }
}

impl Engine {
    /// The state of everything at `now`.
    pub fn status(&self, now: Instant) -> Status {
        Status {
            connections: self
                .connections
                .values()
                .map(|c| self.connection_status(now, c))
                .collect(),
            ike_sas: self
                .endpoint
                .ike_sas()
                .map(|info| self.ike_status(now, &info))
                .collect(),
            strangers: self.strangers_status(now),
            ike_counters: self.ike_counters(),
        }
    }

    fn ike_counters(&self) -> IkeCounters {
        let stats = self.endpoint.stats();
        let counted = |(_, count): &(&str, u64)| *count > 0;
        IkeCounters {
            counters: stats.counters().filter(counted).collect(),
            dropped: stats
                .drops()
                .map(|(reason, count)| (reason.name(), count))
                .filter(counted)
                .collect(),
        }
    }

    fn strangers_status(&self, now: Instant) -> StrangersStatus {
        let stats = self.endpoint.stats();
        StrangersStatus {
            half_open: self.endpoint.half_open(),
            defence: self.endpoint.defence(now).name(),
            cookies_sent: stats.cookies_sent,
            puzzles_sent: stats.puzzles_sent,
            puzzles_solved: stats.puzzles_solved,
        }
    }

    fn connection_status(&self, now: Instant, c: &State) -> ConnectionStatus {
        let oriented = c.oriented.as_ref().ok();
        let failure = c.last_failure.as_ref();
        let (state, reason) = if !c.children.is_empty() {
            ("up", None)
        } else if let Err(reason) = &c.oriented {
            ("unoriented", Some(reason.to_string()))
        } else if let Trap::Failed(text) = &c.trap {
            ("blocked", Some(text.clone()))
        } else if c.negotiating.is_some() || c.redirects.is_pending() {
            ("connecting", failure.map(|f| f.text.clone()))
        } else if c.retry_at.is_some() {
            ("retrying", failure.map(|f| f.text.clone()))
        } else if c.trap == Trap::Installed {
            ("trapped", None)
        } else if c.intent == Intent::Down && c.config.negotiates() {
            ("waiting", None)
        } else {
            ("down", None)
        };
        ConnectionStatus {
            name: c.name.to_string(),
            intent: c.intent,
            state,
            reason,
            plane: c.plane,
            interface: c.config.child.interface.map(IpsecInterface::name),
            local: oriented.map(|o| o.orientation.local),
            remote: oriented.and_then(|o| o.orientation.remote),
            reqid: c.reqid,
            resumable: self.is_resumable(c, now),
            last_failure: failure.map(|f| FailureStatus {
                reason: f.name,
                text: f.text.clone(),
                ago: now.saturating_duration_since(f.at),
            }),
            retry_in: c.retry_at.map(|at| at.saturating_duration_since(now)),
            children: c
                .children
                .iter()
                .filter_map(|id| self.endpoint.child_sa(*id))
                .map(|info| self.child_status(now, &info))
                .collect(),
        }
    }

    fn ike_status(&self, now: Instant, info: &IkeSaInfo) -> IkeStatus {
        let connections: Vec<String> = self
            .ikes
            .get(&info.id)
            .map(|record| record.users.iter())
            .into_iter()
            .flatten()
            .filter_map(|id| self.connections.get(id))
            .map(|c| c.name.to_string())
            .collect();
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let until = |timer| {
            let due = self.timers.due(timer)?;
            Some(due.saturating_duration_since(now))
        };
        IkeStatus {
            id: info.id.0,
            connection: connections.first().cloned(),
            connections,
            replaces: info.replaces.map(|old| old.0),
            redirected_from: info.redirected_from,
            role: info.role.name(),
            state: info.state.name(),
            transport: info.transport.name(),
            local: info.local,
            remote: info.remote,
            local_id: info.local_id.as_ref().map(ToString::to_string),
            remote_id: info.remote_id.as_ref().map(ToString::to_string),
            initiator_spi: info.initiator_spi.to_string(),
            responder_spi: info.responder_spi.to_string(),
            suite: info.suite.as_ref().map(ToString::to_string),
            ppk: info.ppk,
            childless: info.childless,
            resumed: info.resumed,
            ticket_expires_in: info.ticket.map(|at| at.saturating_duration_since(now)),
            ticket_granted: info.ticket_granted,
            crash_token: info.crash_token,
            message_id_sync: info.message_id_sync,
            replay_counter_sync: info.replay_counter_sync,
            nat_local: info.nat.local,
            nat_remote: info.nat.remote,
            mobike: info.mobike,
            fragmentation: info.fragmentation,
            own_window: info.own_window,
            peer_window: info.peer_window,
            established: since(info.established),
            last_heard: since(info.last_heard),
            rekey_in: until(Timer::RenewIke(info.id)),
            expires_in: until(Timer::ExpireIke(info.id)),
        }
    }

    fn child_status(&self, now: Instant, info: &ChildSaInfo) -> ChildStatus {
        let record = self.children.get(&info.id);
        let until = |limit: fn(&Lifetime) -> Option<Duration>| {
            let end = info.established? + limit(&record?.lifetime)?;
            Some(end.saturating_duration_since(now))
        };
        ChildStatus {
            id: info.id.0,
            ike: info.ike.0,
            mode: info.mode.name(),
            protocol: info.protocol.name(),
            cpu: info.resource.and_then(cygnet_ike::Resource::cpu),
            ipcomp: info.ipcomp,
            label: info.config.label.as_ref().map(ToString::to_string),
            encapsulation: info.encapsulation.map(EncapKind::name),
            suite: info.suite.to_string(),
            spi_in: format!("{:08x}", info.spi_in),
            spi_out: format!("{:08x}", info.spi_out),
            local_ts: info.ts_local.iter().map(describe).collect(),
            remote_ts: info.ts_remote.iter().map(describe).collect(),
            reqid: record.map_or(0, |r| r.reqid),
            replaces: info.replaces.map(|old| old.0),
            sending: info.outbound,
            established: info.established.map(|at| now.saturating_duration_since(at)),
            rekey_in: until(|lifetime| lifetime.soft_add),
            expires_in: until(|lifetime| lifetime.hard_add),
            inbound: None,
            outbound: None,
            sas: record.map(|r| (r.plane, r.inbound, r.outbound)),
        }
    }
}
