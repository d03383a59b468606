//! Asking for tickets, giving them, and what they must outlive (RFC 5723 §4.1, §4.2, §6.2).

use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_crypto::{IkeSuite, SkD};
use cygnet_wire::{NotifyType, TicketNotify};

use crate::config::PeerConfig;
use crate::contents::Contents;
use crate::context::{Context, Limiter, Path};
use crate::identity::Identity;
use crate::ppk::PpkPolicy;
use crate::proposal::allows;
use crate::reason::CloseReason;
use crate::sa::Core;
use crate::ticket::{Grant, MAX_LEN, MAX_LIFETIME, PskHash, Session, Ticket, TicketRefusal};

/// Tickets that a peer may have of one IKE SA, in [`GRANTS_TIME`].
const GRANTS: u32 = 4;
const GRANTS_TIME: Duration = Duration::from_secs(60);

/// Wait before a ticket is asked for again that the peer has promised, or that replaces one that lives for a short time.
const SHORTEST_WAIT: Duration = Duration::from_secs(30);

/// How often the peer may put us off.
const MAX_PUT_OFF: u32 = 3;

/// What an IKE SA has to do with tickets, where sessions may be resumed.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    /// We have begun the first IKE SA: we ask.
    client: bool,
    /// By which the session may be resumed when the peer is lost.
    held: Option<Arc<Ticket>>,
    /// When another one is asked for.
    ask_at: Option<Instant>,
    put_off: u32,
    /// The peer has one.
    granted: bool,
    grants: Limiter,
    /// When the peer has to authenticate itself anew.
    reauthenticate: Option<Instant>,
    /// The session has been resumed.
    resumed: bool,
}

impl Tickets {
    /// Of an IKE SA that we begin.
    pub(crate) fn of_client(config: &PeerConfig) -> Option<Box<Self>> {
        let client = true;
        config.resumption.then(|| {
            Box::new(Self {
                client,
                ..Self::default()
            })
        })
    }

    /// Of one that a peer has begun, who has just been authenticated, or has to be until then.
    pub(crate) fn of_gateway(
        config: &PeerConfig,
        now: Instant,
        reauthenticate: Option<Instant>,
    ) -> Option<Box<Self>> {
        let own = config.auth_lifetime.map(|lifetime| now + lifetime);
        config.resumption.then(|| {
            Box::new(Self {
                reauthenticate: [own, reauthenticate].into_iter().flatten().min(),
                ..Self::default()
            })
        })
    }

    /// Of a successor.
    //= rfc5723#6.2
    //# When the IKE SA is rekeyed, the ticket is
    //# invalidated, and the client SHOULD request a new ticket.
    pub(crate) fn heir(&self, now: Instant) -> Box<Self> {
        Box::new(Self {
            client: self.client,
            //= rfc5723#4.1
            //# All such Informational exchanges MUST be initiated by the client.
            ask_at: self.client.then_some(now),
            reauthenticate: self.reauthenticate,
            resumed: self.resumed,
            ..Self::default()
        })
    }

    /// Notes that the session has been resumed.
    pub(crate) fn set_resumed(&mut self) {
        self.resumed = true;
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Until when the session can be resumed by us.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.held.as_ref().map(|ticket| ticket.expires)
    }

    /// Whether the peer has a ticket.
    pub(crate) fn is_granted(&self) -> bool {
        self.granted
    }

    /// When another ticket is asked for.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.ask_at
    }

    /// Whether one is to be asked for now. If so, it is.
    pub(crate) fn ask(&mut self, now: Instant) -> bool {
        self.ask_at.take_if(|at| *at <= now).is_some()
    }

    /// The credentials are not what they were.
    pub(crate) fn forget(&mut self) {
        self.held = None;
    }
}

/// Whether we ask for a ticket in IKE_AUTH.
pub(crate) fn asks(core: &Core) -> bool {
    core.tickets.as_ref().is_some_and(|tickets| tickets.client)
}

/// The configurations that permit a session now: those of its identities and algorithms that permit resumption, and whose
/// pre-shared key is the one by which the peer was authenticated.
pub(crate) fn permitted(
    cx: &Context<'_>,
    path: Path,
    session: &Session,
    shown: PskHash,
) -> Result<Vec<Arc<PeerConfig>>, TicketRefusal> {
    let Session {
        suite,
        local_id,
        remote_id,
        ppk,
        ..
    } = session;
    let Path { local, remote, .. } = path;
    let mut candidates = cx.candidates(path);
    candidates.retain(|config| permits(config, suite, local_id, remote_id, *ppk));
    if candidates.is_empty() {
        return Err(TicketRefusal::NoConfiguration);
    }
    let psk = cx
        .directory
        .psk(local_id, remote_id, local.ip(), remote.ip());
    match psk {
        Some(psk) if PskHash::of(&psk) == shown => {
            // Who is named goes before who may be anybody.
            candidates.sort_by_key(|config| config.remote_id.exact().is_none());
            Ok(candidates)
        }
        _ => Err(TicketRefusal::CredentialsChanged),
    }
}

/// Whether a configuration permits that a session goes on.
pub(crate) fn permits(
    config: &PeerConfig,
    suite: &IkeSuite,
    local_id: &Identity,
    remote_id: &Identity,
    ppk: bool,
) -> bool {
    config.resumption
        && config.local_id == *local_id
        && config.remote_id.accepts(remote_id)
        && allows(&config.proposals, suite)
        && (ppk || config.ppk != PpkPolicy::Insist)
}

impl Ticket {
    /// Whether it is good now for an IKE SA of this configuration.
    //= rfc5723#4.3.1
    //# A client
    //# MUST NOT present a ticket when it knows that the ticket's lifetime
    //# has expired.
    pub fn fits(&self, now: Instant, peer: &PeerConfig) -> bool {
        let Session {
            suite,
            local_id,
            remote_id,
            ppk,
            ..
        } = &self.session;
        now < self.expires && permits(peer, suite, local_id, remote_id, *ppk)
    }
}

/// The answer to a request for a ticket, if `asked`.
//= rfc5723#4.1
//# When an IKEv2 responder receives a request for a ticket using the
//# N(TICKET_REQUEST) payload, it MUST perform one of the following
//# operations if it supports the extension defined in this document:
pub(crate) fn answer(
    core: &mut Core,
    cx: &mut Context<'_>,
    sk_d: &SkD,
    asked: bool,
) -> Option<(NotifyType, Vec<u8>)> {
    if !asked {
        return None;
    }
    let given = give(core, cx, sk_d);
    Some(match given {
        Some(data) => (NotifyType::TICKET_LT_OPAQUE, data),
        None => (NotifyType::TICKET_NACK, Vec::new()),
    })
}

fn give(core: &mut Core, cx: &mut Context<'_>, sk_d: &SkD) -> Option<Vec<u8>> {
    let unix = cx.shared.tickets.unix(cx.now)?;
    let (own_spi, ppk) = (core.own_spi(), core.ppk);
    let suite = core.suite?;
    let (local_id, remote_id) = (core.local_id.clone()?, core.remote_id.clone()?);
    let (local, remote) = core.addresses();
    let psk = cx.directory.psk(&local_id, &remote_id, local, remote)?;
    let ends = core.ends();
    let tickets = core.tickets.as_mut().filter(|tickets| !tickets.client)?;
    if !tickets.grants.take_within(cx.now, GRANTS, GRANTS_TIME) {
        return None;
    }
    //= rfc5723#6.2
    //# The lifetime of the ticket sent by the gateway SHOULD be the minimum
    //# of the IKE SA lifetime (per the gateway's local policy) and its re-
    //# authentication time, according to [RFC4478].
    let left = [ends, tickets.reauthenticate]
        .into_iter()
        .flatten()
        .map(|end| end.saturating_duration_since(cx.now))
        .fold(MAX_LIFETIME, Duration::min)
        .as_secs();
    let lifetime = u32::try_from(left).ok().filter(|left| *left > 0)?;
    let since = |at: Instant| at.saturating_duration_since(cx.now).as_secs();
    let grant = Grant {
        session: Session {
            suite,
            sk_d: sk_d.clone(),
            local_id,
            remote_id,
            ppk,
        },
        own_spi,
        expires: unix.saturating_add(left),
        reauthenticate: tickets
            .reauthenticate
            .map_or(u64::MAX, |at| unix.saturating_add(since(at))),
        psk: PskHash::of(&psk),
    };
    let nonce = cx.random();
    let ticket = cx.shared.tickets.seal(&grant, nonce)?;
    if let Some(tickets) = &mut core.tickets {
        tickets.granted = true;
    }
    let stats = &mut cx.shared.stats;
    stats.tickets_granted = stats.tickets_granted.saturating_add(1);
    let ticket = &ticket[..];
    Some(TicketNotify { lifetime, ticket }.to_bytes())
}

/// Takes the answer to our request for a ticket.
//= rfc5723#4.2
//# When the client accepts the ticket, it stores it in its local storage
//# for later use, along with the IKE SA to which the ticket refers.
//# Since the ticket itself is opaque to the client, the local storage
//# MUST also include all items marked as "from the ticket" in the table
//# of Section 5.
pub(crate) fn heed(core: &mut Core, cx: &Context<'_>, sk_d: &SkD, contents: &Contents<'_>) {
    let (suite, ppk) = (core.suite, core.ppk);
    let ids = core.local_id.clone().zip(core.remote_id.clone());
    let Some(tickets) = core.tickets.as_mut().filter(|tickets| tickets.client) else {
        return;
    };
    tickets.ask_at = None;
    let given = contents.notify(NotifyType::TICKET_LT_OPAQUE);
    let given = given.and_then(|notify| TicketNotify::parse(notify.data));
    if let (Some(given), Some(suite), Some((local_id, remote_id))) = (given, suite, ids) {
        let lifetime = Duration::from_secs(given.lifetime.into()).min(MAX_LIFETIME);
        if lifetime.is_zero() || given.ticket.len() > MAX_LEN {
            return;
        }
        tickets.held = Some(Arc::new(Ticket {
            opaque: given.ticket.to_vec(),
            expires: cx.now + lifetime,
            session: Session {
                suite,
                sk_d: sk_d.clone(),
                local_id,
                remote_id,
                ppk,
            },
        }));
        tickets.put_off = 0;
        //= rfc5723#4.1
        //# In an Informational exchange at any time, e.g., if the gateway
        //# previously replied with an N(TICKET_ACK) instead of providing a
        //# ticket, or when the ticket lifetime is about to expire, or
        //# following a gateway-initiated IKE rekey.
        let early = (lifetime / 4).saturating_mul(3).max(SHORTEST_WAIT);
        tickets.ask_at = Some(cx.now + early);
    } else if contents.has(NotifyType::TICKET_ACK) && tickets.put_off < MAX_PUT_OFF {
        tickets.put_off = tickets.put_off.saturating_add(1);
        tickets.ask_at = Some(cx.now + SHORTEST_WAIT);
    }
}

/// The IKE SA ends. What remains of it is a ticket of ours by which the session can be resumed, if it has been lost rather
/// than deleted; otherwise the peer's is void.
//= rfc5723#6.2
//# In particular, when
//# an IKE SA is deleted by the client or the gateway, the client MUST
//# delete its stored ticket.
pub(crate) fn end(
    core: &mut Core,
    cx: &mut Context<'_>,
    reason: &CloseReason,
) -> Option<Arc<Ticket>> {
    let spi = core.own_spi();
    let tickets = core.tickets.as_mut()?;
    let held = tickets.held.take();
    if reason.is_loss() {
        return held;
    }
    if tickets.granted {
        cx.shared.tickets.make_void(cx.now, spi);
    }
    None
}

/// What the peer is told of how long its authentication is good for (RFC 4478): what is left of it, in a session that has
/// been resumed.
pub(crate) fn auth_lifetime(core: &Core, now: Instant) -> Option<Duration> {
    let tickets = core.tickets.as_ref();
    let left = tickets.and_then(|tickets| tickets.reauthenticate);
    match left {
        Some(at) => Some(at.saturating_duration_since(now)),
        None => core.config.auth_lifetime,
    }
}
