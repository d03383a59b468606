//! What every state can reach while it handles something: the time, the configuration, and the way out.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_crypto::{Entropy, KeyExchangeProvider};
use cygnet_ipsec::Protocol;
use cygnet_wire::IkeSpi;

use crate::config::{Directory, EndpointConfig, PeerConfig, Tcp};
use crate::fragment::{Datagrams, Pool};
use crate::identity::Identity;
use crate::io::{
    Answer, ChildSaId, Event, IkeSaId, Output, Request, RequestId, Reserved, Transmit,
};
use crate::sa::IkeSa;
use crate::stats::{DropReason, Stats};
use crate::stream::StreamName;
use crate::succession::Transfer;
use crate::ticket::TicketOffice;
use crate::transport::Transport;

/// The surroundings of a state for the time of one call.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) config: &'a EndpointConfig,
    pub(crate) directory: &'a dyn Directory,
    pub(crate) key_exchange: &'a dyn KeyExchangeProvider,
    pub(crate) entropy: &'a mut dyn Entropy,
    pub(crate) shared: &'a mut Shared,
}

/// What all IKE SAs of an endpoint share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) output: VecDeque<Output>,
    pub(crate) stats: Stats,
    /// Which IKE SAs there are between two identities, ours first: those that are established, and those of which we have
    /// told the peer in an IKE_AUTH request.
    pub(crate) pairs: HashMap<(Identity, Identity), BTreeMap<IkeSaId, Acquaintance>>,
    /// Which IKE SA a child SA belongs to.
    pub(crate) children: HashMap<ChildSaId, IkeSaId>,
    /// Our SPIs and whose they are; some are reserved for an IKE SA that is yet to be.
    pub(crate) spis: HashMap<IkeSpi, IkeSaId>,
    /// IKE SAs that were made by rekeying another one, to be listed after the call.
    pub(crate) births: Vec<IkeSa>,
    /// What they take over, after that.
    pub(crate) transfers: Vec<Transfer>,
    /// Successors that have ended before they could take over: whose, and which.
    pub(crate) withdrawn: Vec<(IkeSaId, IkeSaId)>,
    /// The addresses at which this host may be reached.
    pub(crate) addresses: Vec<IpAddr>,
    /// Peers that have told us that they know of no other SA, to be acted on after the call.
    pub(crate) initial_contacts: Vec<InitialContact>,
    /// Strangers are asked for cookies.
    pub(crate) under_load: bool,
    /// How many peers have been sent to another gateway: they go to each in turn.
    pub(crate) redirects: usize,
    /// Those of sessions that peers resume.
    pub(crate) tickets: TicketOffice,
    /// IKE SAs whose sessions have been resumed: by their SPIs of ours, to be closed after the call.
    pub(crate) superseded: Vec<IkeSpi>,
    /// What incomplete messages cost.
    pub(crate) pool: Pool,
    /// How many IKE SAs use a stream: more than one while one replaces another.
    pub(crate) streams: HashMap<StreamName, usize>,
    requests: BTreeMap<RequestId, Owner>,
    /// Of replies to strangers.
    replies: Limiter,
    last_id: u64,
}

/// An IKE SA seen from others between the same identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acquaintance {
    /// The peer's address.
    pub(crate) address: IpAddr,
    /// When it was established.
    pub(crate) since: Option<Instant>,
}

impl Acquaintance {
    /// Whether it ends with the INITIAL_CONTACT of an IKE SA that was begun then: what was established after that may be
    /// younger than the peer's word.
    pub(crate) fn is_before(&self, begun: Instant) -> bool {
        self.since.is_some_and(|since| since < begun)
    }
}

/// INITIAL_CONTACT of an authenticated peer.
#[derive(Debug)]
pub(crate) struct InitialContact {
    /// The IKE SA on which it was said.
    pub(crate) by: IkeSaId,
    /// When that was begun: what is younger is not meant.
    pub(crate) begun: Instant,
    pub(crate) local: Identity,
    pub(crate) remote: Identity,
}

/// Who waits for the answer to a request.
#[derive(Debug)]
pub(crate) enum Owner {
    /// An IKE SA.
    Sa(IkeSaId),
    /// Nobody: it is only noted.
    Nobody,
    /// Nobody any more; when it succeeds, this must follow.
    Undo(Undo),
}

/// How to undo something that nobody waits for any more.
#[derive(Clone, Debug)]
pub(crate) enum Undo {
    Spi {
        child: ChildSaId,
        local: IpAddr,
        remote: IpAddr,
        protocol: Protocol,
    },
    Install {
        ike: IkeSaId,
        child: ChildSaId,
        local: IpAddr,
        remote: IpAddr,
        spi_in: u32,
        spi_out: u32,
        protocol: Protocol,
    },
}

impl Shared {
    /// A number that has not been used yet.
    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.last_id = self.last_id.saturating_add(1);
        self.last_id
    }

    fn request(&mut self, owner: Owner, request: Request) -> RequestId {
        let id = RequestId(self.fresh_id());
        self.requests.insert(id, owner);
        self.output.push_back(Output::Request { id, request });
        id
    }

    /// Whom an answer is for. What nobody waits for any more is undone here.
    pub(crate) fn answered(&mut self, id: RequestId, answer: &Answer) -> Option<IkeSaId> {
        match self.requests.remove(&id) {
            Some(Owner::Sa(ike)) => return Some(ike),
            Some(Owner::Nobody) => {}
            Some(Owner::Undo(undo)) => match (undo, answer) {
                (
                    Undo::Spi {
                        child,
                        local,
                        remote,
                        protocol,
                    },
                    Answer::Spi(Reserved { spi, cpi }),
                ) => {
                    let (spi, cpi) = (*spi, *cpi);
                    let release = Request::ReleaseSpi {
                        child,
                        local,
                        remote,
                        spi,
                        cpi,
                        protocol,
                    };
                    self.request(Owner::Nobody, release);
                }
                (
                    Undo::Install {
                        ike,
                        child,
                        local,
                        remote,
                        spi_in,
                        spi_out,
                        protocol,
                    },
                    Answer::Done,
                ) => {
                    let remove = Request::RemoveChild {
                        ike,
                        child,
                        local,
                        remote,
                        spi_in,
                        spi_out,
                        protocol,
                    };
                    self.request(Owner::Nobody, remove);
                }
                _ => {}
            },
            None => self.stats.count(DropReason::UnknownAnswer),
        }
        None
    }
}

impl Context<'_> {
    /// The configurations that a peer may use that comes this way.
    //= rfc9329#5
    //# TCP encapsulation is applicable only when it has been configured to
    //# be used with specific IKE peers.
    pub(crate) fn candidates(&self, path: Path) -> Vec<Arc<PeerConfig>> {
        let mut candidates = self.directory.candidates(path.local, path.remote);
        candidates.retain(|c| path.transport != Transport::Tcp || c.tcp != Tcp::No);
        candidates
    }

    /// Sends a datagram.
    pub(crate) fn transmit(&mut self, path: Path, bytes: Vec<u8>) {
        let stats = &mut self.shared.stats;
        stats.datagrams_out = stats.datagrams_out.saturating_add(1);
        stats.bytes_out = stats.bytes_out.saturating_add(bytes.len() as u64);
        let Path {
            local,
            remote,
            transport,
        } = path;
        self.shared.output.push_back(Output::Transmit(Transmit {
            local,
            remote,
            transport,
            bytes,
        }));
    }

    /// Sends a message, in as many datagrams as it has.
    pub(crate) fn transmit_message(&mut self, path: Path, message: &Datagrams) {
        if message.count() > 1 {
            let fragments = &mut self.shared.stats.fragments_out;
            *fragments = fragments.saturating_add(message.count() as u64);
        }
        for datagram in message.iter() {
            self.transmit(path, datagram.clone());
        }
    }

    /// Reports something.
    pub(crate) fn event(&mut self, event: Event) {
        self.shared.output.push_back(Output::Event(event));
    }

    /// Asks for something whose answer an IKE SA waits for.
    pub(crate) fn request(&mut self, ike: IkeSaId, request: Request) -> RequestId {
        self.shared.request(Owner::Sa(ike), request)
    }

    /// Asks for something whose answer does not matter.
    pub(crate) fn request_unheard(&mut self, request: Request) {
        self.shared.request(Owner::Nobody, request);
    }

    /// Stops waiting for an answer; if the request succeeds, it is undone.
    pub(crate) fn abandon(&mut self, id: RequestId, undo: Undo) {
        if let Some(owner) = self.shared.requests.get_mut(&id) {
            *owner = Owner::Undo(undo);
        }
    }

    /// Stops waiting for an answer that changes nothing outside.
    pub(crate) fn forget(&mut self, id: RequestId) {
        if let Some(owner) = self.shared.requests.get_mut(&id) {
            *owner = Owner::Nobody;
        }
    }

    /// Has the answer to a request given to another IKE SA.
    pub(crate) fn reassign(&mut self, id: RequestId, ike: IkeSaId) {
        if let Some(owner @ Owner::Sa(_)) = self.shared.requests.get_mut(&id) {
            *owner = Owner::Sa(ike);
        }
    }

    /// An SPI that no other IKE SA of ours has, reserved for this one.
    //= rfc7296#2.6
    //# Each endpoint chooses one of the two SPIs and MUST choose
    //# them so as to be unique identifiers of an IKE SA.
    pub(crate) fn fresh_spi(&mut self, ike: IkeSaId) -> IkeSpi {
        loop {
            let spi = IkeSpi(u64::from_be_bytes(self.random()));
            if spi != IkeSpi::ZERO
                && let Entry::Vacant(place) = self.shared.spis.entry(spi)
            {
                place.insert(ike);
                return spi;
            }
        }
    }

    /// Counts a drop.
    pub(crate) fn drop(&mut self, reason: DropReason) {
        self.shared.stats.count(reason);
    }

    /// Whether one more reply without protection may be sent.
    //= rfc7296#2.21.4
    //# A node needs to limit the rate at which it will send messages in
    //# response to unprotected messages.
    pub(crate) fn may_reply(&mut self) -> bool {
        let rate = self.config.unprotected_replies_per_second;
        let may = self.shared.replies.take(self.now, rate);
        if !may {
            self.drop(DropReason::RateLimited);
        }
        may
    }

    /// Random octets.
    pub(crate) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut octets = [0; N];
        self.entropy.fill(&mut octets);
        octets
    }
}

/// Where a response goes, and to which request it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Back {
    pub(crate) path: Path,
    pub(crate) message_id: u32,
}

/// Where messages of an IKE SA go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) transport: Transport,
}

impl Path {
    /// Our address and the peer's.
    pub(crate) fn ends(&self) -> (IpAddr, IpAddr) {
        (self.local.ip(), self.remote.ip())
    }
}

/// So many in some time, and as many at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limiter {
    window: Option<Instant>,
    used: u32,
}

impl Limiter {
    /// Whether there may be one more, of as many as `rate` per second.
    pub(crate) fn take(&mut self, now: Instant, rate: u32) -> bool {
        self.take_within(now, rate, Duration::from_secs(1))
    }

    /// Whether there may be one more, of as many as `rate` within `time`.
    pub(crate) fn take_within(&mut self, now: Instant, rate: u32, time: Duration) -> bool {
        let over = |begun: Instant| now.saturating_duration_since(begun) >= time;
        if self.window.is_none_or(over) {
            self.window = Some(now);
            self.used = 0;
        }
        let may = self.used < rate;
        self.used = self.used.saturating_add(u32::from(may));
        may
    }
}
