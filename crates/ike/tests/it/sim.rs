//! A network of endpoints in one process: fake clock, fake planes, and links that lose, repeat and reorder.
//!
//! Everything comes from one seed: the same seed gives the same run, octet for octet.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cygnet_crypto::testing::{InsecureEntropy, InsecureKeyExchange};
use cygnet_crypto::{Entropy, KeyExchangeProvider, SecretBytes};
use cygnet_ike::*;
use cygnet_wire::{Message, Payload, TrafficSelector};

/// Configurations and keys that a node knows.
#[derive(Clone, Default)]
pub struct Book {
    pub peers: Vec<Arc<PeerConfig>>,
    pub psks: Vec<(Identity, Identity, Vec<u8>)>,
    pub ppks: Vec<Ppk>,
}

impl Directory for Book {
    fn candidates(&self, local: SocketAddr, remote: SocketAddr) -> Vec<Arc<PeerConfig>> {
        let any = |list: &[IpAddr], a: SocketAddr| list.is_empty() || list.contains(&a.ip());
        let fits = |p: &&Arc<PeerConfig>| any(&p.local, local) && any(&p.remote, remote);
        self.peers.iter().filter(fits).cloned().collect()
    }

    fn psk(
        &self,
        local: &Identity,
        remote: &Identity,
        _: IpAddr,
        _: IpAddr,
    ) -> Option<SecretBytes> {
        let found = self.psks.iter().find(|(l, r, _)| l == local && r == remote);
        found.map(|(_, _, key)| SecretBytes::copy_from(key))
    }

    fn ppks(&self, config: &PeerConfig) -> Vec<Ppk> {
        let ids = &config.ppk_ids;
        let mut found = self.ppks.clone();
        found.retain(|ppk| ids.is_empty() || ids.contains(&ppk.id));
        found
    }
}

/// The data plane of a node: what it has been asked to install.
#[derive(Default)]
pub struct Plane {
    pub installed: BTreeMap<ChildSaId, ChildInstall>,
    /// Those on which it may send, the youngest last: that one is used.
    pub sending: Vec<ChildSaId>,
    /// SPIs that are reserved and not installed.
    pub reserved: BTreeMap<u32, ChildSaId>,
    /// How many SPIs it has given, or where it begins to count.
    pub next_spi: u32,
    /// How the next requests for SPIs and installations are answered; empty: well.
    pub refuse_spi: bool,
    pub refuse_install: bool,
    pub refuse_puzzle: bool,
    /// The peer has sent something, whenever that is asked; and how often it was.
    pub receives: bool,
    pub asked_for_traffic: usize,
    /// Answers are kept back until this is off.
    pub hold: bool,
    pub delay: Duration,
}

impl Plane {
    fn execute(&mut self, request: Request) -> Answer {
        let refused = |text| Answer::Failed(Refusal::new(RefusalKind::OutOfResources, text));
        match request {
            Request::AllocateSpi {
                child, compress, ..
            } => {
                if self.refuse_spi {
                    return refused("no SPI left");
                }
                self.next_spi += 1;
                let spi = 0x1000 + self.next_spi;
                self.reserved.insert(spi, child);
                // Reserved with the SPI, and given back with it.
                let cpi = compress.then_some(0x3000 | self.next_spi as u16);
                Answer::Spi(Reserved { spi, cpi })
            }
            Request::SolvePuzzle { puzzle, time, .. } => {
                if self.refuse_puzzle {
                    return refused("too tired");
                }
                let begun = Instant::now();
                match puzzle.solve(|| begun.elapsed() < time) {
                    Some(solution) => Answer::Solution(solution),
                    None => refused("too slow"),
                }
            }
            Request::LookForTraffic { children, .. } => {
                assert!(children.iter().all(|c| self.installed.contains_key(c)));
                self.asked_for_traffic += 1;
                Answer::Traffic(self.receives)
            }
            Request::InstallChild(install) => {
                assert_eq!(self.reserved.remove(&install.spi_in), Some(install.child));
                if self.refuse_install {
                    return refused("table full");
                }
                let predecessor = install.replaces.map(|old| self.installed.get(&old));
                assert!(
                    install.outbound || predecessor.is_some(),
                    "nothing to send on"
                );
                if install.outbound {
                    self.sending.push(install.child);
                }
                let old = self.installed.insert(install.child, *install);
                assert!(old.is_none(), "installed twice");
                Answer::Done
            }
            Request::ActivateOutbound { child, .. } => {
                assert!(
                    self.installed.contains_key(&child),
                    "activated what is not there"
                );
                assert!(!self.sending.contains(&child), "activated twice");
                self.sending.push(child);
                Answer::Done
            }
            Request::RemoveChild {
                child,
                spi_in,
                spi_out,
                ..
            } => {
                let removed = self
                    .installed
                    .remove(&child)
                    .expect("removed what is not there");
                assert_eq!((removed.spi_in, removed.spi_out), (spi_in, spi_out));
                self.sending.retain(|other| *other != child);
                Answer::Done
            }
            Request::ReleaseSpi { child, spi, .. } => {
                assert_eq!(
                    self.reserved.remove(&spi),
                    Some(child),
                    "released what is not reserved"
                );
                Answer::Done
            }
        }
    }
}

/// One endpoint with what belongs to it.
pub struct Node {
    pub name: &'static str,
    pub address: IpAddr,
    /// All of its addresses, if it has several, or none now.
    pub addresses: Option<Vec<IpAddr>>,
    pub endpoint: Endpoint,
    pub plane: Plane,
    pub events: Vec<Event>,
    pub config: EndpointConfig,
    pub book: Arc<Book>,
    /// Requests whose answers are held back.
    pub held: Vec<(RequestId, Request)>,
    /// The streams that its IKE SAs use.
    pub streams: Vec<(SocketAddr, SocketAddr)>,
    /// How its nonces begin, if a test has chosen that.
    pub nonces: Lead,
}

/// The first octet of everything random that is as long as our nonces; `None`: it is random, too.
pub type Lead = Arc<Mutex<Option<u8>>>;

/// Randomness from a seed, with chosen nonces.
struct Dice {
    rng: InsecureEntropy,
    nonces: Lead,
}

impl Entropy for Dice {
    fn fill(&mut self, octets: &mut [u8]) {
        self.rng.fill(octets);
        if let (32, Some(lead)) = (octets.len(), *self.nonces.lock().unwrap()) {
            octets[0] = lead;
        }
    }
}

impl Node {
    pub fn has(&self, address: IpAddr) -> bool {
        match &self.addresses {
            Some(addresses) => addresses.contains(&address),
            None => self.address == address,
        }
    }
}

/// A datagram under way.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub transport: Transport,
    pub bytes: Vec<u8>,
}

/// Something that will happen.
enum Future {
    Arrival(Datagram),
    Answer {
        node: usize,
        id: RequestId,
        request: Request,
    },
}

/// What the network does to datagrams.
#[derive(Clone, Debug)]
pub struct Link {
    /// Per mille that are lost.
    pub loss: u64,
    /// Per mille that arrive twice.
    pub duplicate: u64,
    pub latency: (Duration, Duration),
    /// Octets of the longest IKE message that comes through.
    pub longest: usize,
}

impl Default for Link {
    fn default() -> Self {
        let ms = Duration::from_millis(10);
        Self {
            loss: 0,
            duplicate: 0,
            latency: (ms, ms),
            longest: usize::MAX,
        }
    }
}

/// A NAT in front of one address.
pub struct Nat {
    pub inside: IpAddr,
    pub public: IpAddr,
    pub next_port: u16,
    pub mappings: BTreeMap<SocketAddr, u16>,
}

impl Nat {
    pub fn new(inside: IpAddr, public: IpAddr) -> Self {
        Self {
            inside,
            public,
            next_port: 40_000,
            mappings: BTreeMap::new(),
        }
    }

    fn out(&mut self, src: SocketAddr) -> SocketAddr {
        let next = &mut self.next_port;
        let port = *self.mappings.entry(src).or_insert_with(|| {
            *next += 1;
            *next
        });
        SocketAddr::new(self.public, port)
    }

    fn into(&self, dst: SocketAddr) -> Option<SocketAddr> {
        self.mappings
            .iter()
            .find(|(_, port)| **port == dst.port())
            .map(|(inside, _)| *inside)
    }

    /// Forgets all mappings: the next datagram gets a new port.
    pub fn rebind(&mut self) {
        self.mappings.clear();
    }
}

/// The whole world.
pub struct Sim {
    pub start: Instant,
    pub now: Instant,
    pub rng: InsecureEntropy,
    pub nodes: Vec<Node>,
    future: BTreeMap<(Instant, u64), Future>,
    sequence: u64,
    pub link: Link,
    pub nat: Option<Nat>,
    /// Pairs of addresses between which nothing passes, either way.
    pub broken: Vec<(IpAddr, IpAddr)>,
    /// Nothing but TCP passes.
    pub without_udp: bool,
    /// Every datagram that was sent, readable.
    pub trace: Vec<String>,
    /// Every octet that was sent.
    pub transcript: Vec<u8>,
    /// Datagrams are kept back for the test to deliver.
    pub manual: bool,
    pub outbox: Vec<Datagram>,
    /// Of the endpoints that are made from now on.
    pub key_exchange: Arc<dyn KeyExchangeProvider>,
}

/// A random number below `bound`.
pub fn below(rng: &mut InsecureEntropy, bound: u64) -> u64 {
    let mut octets = [0; 8];
    rng.fill(&mut octets);
    u64::from_be_bytes(octets) % bound.max(1)
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            rng: InsecureEntropy::from_seed(seed),
            nodes: Vec::new(),
            future: BTreeMap::new(),
            sequence: 0,
            link: Link::default(),
            nat: None,
            broken: Vec::new(),
            without_udp: false,
            key_exchange: Arc::new(InsecureKeyExchange),
            trace: Vec::new(),
            transcript: Vec::new(),
            manual: false,
            outbox: Vec::new(),
        }
    }

    pub fn add(
        &mut self,
        name: &'static str,
        address: &str,
        config: EndpointConfig,
        book: Book,
    ) -> usize {
        let book = Arc::new(book);
        let nonces = Lead::default();
        let endpoint = self.endpoint(&config, &book, &nonces);
        let (address, plane) = (address.parse().unwrap(), Plane::default());
        let (events, held) = (Vec::new(), Vec::new());
        self.nodes.push(Node {
            name,
            address,
            addresses: None,
            endpoint,
            plane,
            events,
            config,
            book,
            held,
            streams: Vec::new(),
            nonces,
        });
        self.nodes.len() - 1
    }

    fn endpoint(&mut self, config: &EndpointConfig, book: &Arc<Book>, nonces: &Lead) -> Endpoint {
        let key_exchange = Arc::clone(&self.key_exchange);
        let rng = InsecureEntropy::from_seed(below(&mut self.rng, u64::MAX));
        let nonces = Arc::clone(nonces);
        let entropy = Box::new(Dice { rng, nonces });
        Endpoint::new(config.clone(), book.clone(), key_exchange, entropy)
    }

    /// A node takes on its configuration, before anything has happened.
    pub fn restart_quietly(&mut self, node: usize) {
        let n = &self.nodes[node];
        let (config, book, nonces) = (n.config.clone(), n.book.clone(), n.nonces.clone());
        self.nodes[node].endpoint = self.endpoint(&config, &book, &nonces);
    }

    /// The node loses everything and starts again.
    pub fn crash(&mut self, node: usize) {
        self.restart_quietly(node);
        let next_spi = self.nodes[node].plane.next_spi;
        self.nodes[node].plane = Plane {
            next_spi,
            ..Plane::default()
        };
        self.nodes[node].events.clear();
        self.future
            .retain(|_, f| !matches!(f, Future::Answer { node: n, .. } if *n == node));
    }

    /// Begins the first configured connection of a node with the address of another one.
    pub fn initiate(&mut self, node: usize, remote: &str) -> IkeSaId {
        let peer = self.nodes[node].book.peers[0].clone();
        let child = peer.children.first().cloned();
        let child = child.map(|config| ChildRequest {
            config,
            acquire: None,
        });
        self.initiate_with(node, remote, peer, child)
    }

    pub fn initiate_with(
        &mut self,
        node: usize,
        remote: &str,
        peer: Arc<PeerConfig>,
        child: Option<ChildRequest>,
    ) -> IkeSaId {
        let remote = SocketAddr::new(remote.parse().unwrap(), peer.remote_port);
        let n = &mut self.nodes[node];
        let local = SocketAddr::new(n.address, peer.local_port);
        let id = n.endpoint.initiate(self.now, peer, child, local, remote);
        self.flush(node);
        id
    }

    /// Calls a method of a node's endpoint and takes its outputs.
    pub fn act<T>(&mut self, node: usize, f: impl FnOnce(&mut Endpoint, Instant) -> T) -> T {
        let result = f(&mut self.nodes[node].endpoint, self.now);
        self.flush(node);
        result
    }

    fn schedule(&mut self, at: Instant, what: Future) {
        self.sequence += 1;
        self.future.insert((at, self.sequence), what);
    }

    /// Takes the outputs of a node.
    pub fn flush(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].endpoint.poll_output() {
            match output {
                Output::Transmit(Transmit {
                    local,
                    remote,
                    transport,
                    bytes,
                }) => {
                    let own = &self.nodes[node];
                    if own.addresses.is_some() && !own.has(local.ip()) {
                        // The system refuses to.
                        continue;
                    }
                    assert!(own.has(local.ip()), "sent from another's address");
                    self.transmit(
                        node,
                        Datagram {
                            src: local,
                            dst: remote,
                            transport,
                            bytes,
                        },
                    );
                }
                Output::Request { id, request } => {
                    if self.nodes[node].plane.hold {
                        self.nodes[node].held.push((id, request));
                    } else {
                        let at = self.now + self.nodes[node].plane.delay;
                        self.schedule(at, Future::Answer { node, id, request });
                    }
                }
                Output::Stream {
                    local,
                    remote,
                    used,
                } => {
                    let streams = &mut self.nodes[node].streams;
                    match used {
                        true => streams.push((local, remote)),
                        false => streams.retain(|s| *s != (local, remote)),
                    }
                }
                Output::Event(event) => self.nodes[node].events.push(event),
            }
        }
    }

    /// Lets the plane of a node work on what was held back.
    pub fn release(&mut self, node: usize) {
        self.nodes[node].plane.hold = false;
        for (id, request) in std::mem::take(&mut self.nodes[node].held) {
            self.schedule(self.now, Future::Answer { node, id, request });
        }
    }

    fn transmit(&mut self, node: usize, datagram: Datagram) {
        let name = self.nodes[node].name;
        let at = (self.now - self.start).as_millis();
        self.trace
            .push(format!("{at:>5} {name} {}", describe(&datagram)));
        self.transcript.extend_from_slice(&datagram.bytes);
        if self.manual {
            return self.outbox.push(datagram);
        }
        let copies = 1 + u64::from(below(&mut self.rng, 1000) < self.link.duplicate);
        for _ in 0..copies {
            let too_long = datagram.bytes.len() > self.link.longest;
            if below(&mut self.rng, 1000) < self.link.loss || too_long {
                continue;
            }
            let (least, most) = self.link.latency;
            let spread = (most - least).as_micros() as u64;
            let latency = least + Duration::from_micros(below(&mut self.rng, spread + 1));
            let at = self.now + latency;
            let (src, dst) = (datagram.src.ip(), datagram.dst.ip());
            if self.without_udp && datagram.transport != Transport::Tcp {
                continue;
            }
            if self.broken.contains(&(src, dst)) || self.broken.contains(&(dst, src)) {
                continue;
            }
            let translated = self.translate_out(datagram.clone());
            self.schedule(at, Future::Arrival(translated));
        }
    }

    pub fn translate_out(&mut self, mut datagram: Datagram) -> Datagram {
        if let Some(nat) = &mut self.nat
            && datagram.src.ip() == nat.inside
        {
            datagram.src = nat.out(datagram.src);
        }
        datagram
    }

    /// Hands a datagram to whom it is for.
    pub fn deliver(&mut self, mut datagram: Datagram) {
        if let Some(nat) = &self.nat
            && datagram.dst.ip() == nat.public
        {
            match nat.into(datagram.dst) {
                Some(inside) => datagram.dst = inside,
                None => return,
            }
        }
        let to = self.nodes.iter().position(|n| n.has(datagram.dst.ip()));
        let Some(node) = to else { return };
        let (local, remote, bytes) = (datagram.dst, datagram.src, &datagram.bytes);
        let transport = datagram.transport;
        if *bytes == [0xff] {
            // A keepalive has served its purpose on the way; the sockets drop it.
            return;
        }
        // As the sockets do: the marker goes with the port.
        if transport != Transport::Tcp {
            assert_eq!(
                transport == Transport::UdpEncap,
                local.port() == 4500,
                "marker on the wrong port"
            );
        }
        let input = Input::Datagram {
            local,
            remote,
            bytes,
            transport,
        };
        self.nodes[node].endpoint.handle(self.now, input);
        self.flush(node);
    }

    /// All that was sent and not delivered, for tests that deliver by hand.
    pub fn sent(&mut self) -> Vec<Datagram> {
        std::mem::take(&mut self.outbox)
    }

    /// Delivers by hand everything that was sent, once, as it is, and lets the planes answer.
    pub fn exchange(&mut self) {
        for datagram in self.sent() {
            let translated = self.translate_out(datagram);
            self.deliver(translated);
            self.run_for(Duration::ZERO);
        }
    }

    /// When something happens next.
    fn next(&self) -> Option<Instant> {
        let future = self.future.keys().next().map(|(at, _)| *at);
        let timeouts = self.nodes.iter().filter_map(|n| n.endpoint.next_timeout());
        timeouts.chain(future).min()
    }

    /// Lets the world run for some time.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while let Some(at) = self.next().filter(|at| *at <= end) {
            steps += 1;
            assert!(
                steps < 200_000,
                "the world does not come to rest:\n{}",
                self.trace.join("\n")
            );
            self.now = self.now.max(at);
            let due = self.future.first_key_value().map(|(key, _)| *key);
            if let Some(key) = due.filter(|(at, _)| *at <= self.now) {
                match self.future.remove(&key).unwrap() {
                    Future::Arrival(datagram) => self.deliver(datagram),
                    Future::Answer { node, id, request } => {
                        let answer = self.nodes[node].plane.execute(request);
                        self.nodes[node]
                            .endpoint
                            .handle(self.now, Input::Answer { id, answer });
                        self.flush(node);
                    }
                }
                continue;
            }
            for node in 0..self.nodes.len() {
                if self.nodes[node]
                    .endpoint
                    .next_timeout()
                    .is_some_and(|t| t <= self.now)
                {
                    self.nodes[node].endpoint.handle(self.now, Input::Timeout);
                    self.flush(node);
                }
            }
        }
        self.now = end;
    }

    /// The names of a node's events, but for retransmissions.
    pub fn event_names(&self, node: usize) -> Vec<&'static str> {
        let names = self.nodes[node].events.iter().map(Event::name);
        names.filter(|name| *name != "retransmitting").collect()
    }

    /// The trace without times.
    pub fn lines(&self) -> Vec<String> {
        self.trace.iter().map(|line| line[6..].to_owned()).collect()
    }

    /// Selectors with the address inside in place of that of the NAT: in transport mode each end has the addresses
    /// that it sees (RFC 7296 §2.23.1).
    fn seen_inside(&self, selectors: &[TrafficSelector]) -> Vec<TrafficSelector> {
        let inside = |a: IpAddr| {
            self.nat
                .as_ref()
                .filter(|n| n.public == a)
                .map_or(a, |n| n.inside)
        };
        let one = |s: &TrafficSelector| TrafficSelector {
            start: inside(s.start),
            end: inside(s.end),
            ..*s
        };
        selectors.iter().map(one).collect()
    }

    /// What must hold when all is quiet: see the module `simulation`.
    pub fn assert_agreement(&self, a: usize, b: usize) {
        let established = |node: usize| {
            let sas = self.nodes[node].endpoint.ike_sas();
            let mut sas: Vec<_> = sas
                .map(|sa| {
                    assert_eq!(sa.state, IkeSaState::Established, "still busy: {sa:?}");
                    (
                        sa.initiator_spi,
                        sa.responder_spi,
                        sa.suite,
                        sa.children.len(),
                    )
                })
                .collect();
            sas.sort_by_key(|sa| sa.0);
            sas
        };
        assert_eq!(established(a), established(b), "the IKE SAs differ");

        let (ours, theirs) = (
            &self.nodes[a].plane.installed,
            &self.nodes[b].plane.installed,
        );
        assert_eq!(ours.len(), theirs.len(), "the child SAs differ");
        for x in ours.values() {
            let mirrored = |y: &&ChildInstall| y.spi_in == x.spi_out && y.spi_out == x.spi_in;
            let y = theirs
                .values()
                .find(mirrored)
                .expect("child SA without counterpart");
            assert_eq!(
                (&x.keys_in, &x.keys_out),
                (&y.keys_out, &y.keys_in),
                "keys do not mirror"
            );
            assert_ne!(x.keys_in, x.keys_out);
            let (x_local, x_remote) = (
                self.seen_inside(&x.ts_local),
                self.seen_inside(&x.ts_remote),
            );
            let (y_local, y_remote) = (
                self.seen_inside(&y.ts_local),
                self.seen_inside(&y.ts_remote),
            );
            assert_eq!((x_local, x_remote), (y_remote, y_local));
            assert_eq!(x.ipcomp, y.ipcomp.map(|(own, other)| (other, own)));
            assert_eq!(
                (x.suite, x.mode, x.encapsulation),
                (y.suite, y.mode, y.encapsulation)
            );
            assert_ne!(x.initiator, y.initiator);
        }
        for node in [a, b] {
            let node = &self.nodes[node];
            assert!(
                node.plane.reserved.is_empty(),
                "{}: SPIs left over",
                node.name
            );
            let mut known: Vec<_> = node.endpoint.child_sas().map(|c| c.id).collect();
            known.sort();
            let installed: Vec<_> = node.plane.installed.keys().copied().collect();
            assert_eq!(known, installed, "{}: endpoint and plane differ", node.name);
            let mut sending = node.plane.sending.clone();
            sending.sort();
            assert_eq!(sending, installed, "{}: some only receive", node.name);
            assert!(
                node.endpoint.child_sas().all(|c| c.outbound),
                "{}: endpoint and plane differ in what they send on",
                node.name
            );
            assert_eq!(node.endpoint.half_open(), 0);
            assert_eq!(
                node.endpoint.size(),
                node.endpoint.ike_sas().count(),
                "SAs left over"
            );
            assert_life_cycles(node);
        }
    }
}

/// Each SA begins and ends in order, and once.
fn assert_life_cycles(node: &Node) {
    let mut ikes: BTreeMap<IkeSaId, &str> = BTreeMap::new();
    let mut children: BTreeMap<ChildSaId, &str> = BTreeMap::new();
    let mut owners: BTreeMap<ChildSaId, IkeSaId> = BTreeMap::new();
    for event in &node.events {
        let name = event.name();
        match event {
            Event::IkeEstablished { ike, .. } => assert_eq!(ikes.insert(*ike, name), None),
            Event::IkeFailed { ike, .. } => assert_eq!(ikes.insert(*ike, name), None),
            Event::ChildrenMoved { from, to, children } => {
                assert_eq!(ikes.get(from), Some(&"ike_established"));
                assert_eq!(ikes.get(to), Some(&"ike_established"));
                for child in children {
                    // One that is being installed has not been told of.
                    if let Some(owner) = owners.get_mut(child) {
                        assert_eq!(*owner, *from);
                        *owner = *to;
                    }
                }
            }
            Event::IkeClosed { ike, .. } => {
                assert_eq!(ikes.insert(*ike, name), Some("ike_established"));
                for (child, owner) in &owners {
                    let open = children.get(child) == Some(&"child_established");
                    assert!(!(open && owner == ike), "{child} outlives {ike}");
                }
            }
            Event::ChildEstablished { ike, child, .. } => {
                assert_eq!(ikes.get(ike), Some(&"ike_established"));
                assert_eq!(children.insert(*child, name), None);
                owners.insert(*child, *ike);
            }
            Event::ChildFailed { child, .. } => assert_eq!(children.insert(*child, name), None),
            Event::ChildClosed { child, .. } => {
                assert_eq!(children.insert(*child, name), Some("child_established"));
            }
            _ => {}
        }
    }
    let open = ikes
        .values()
        .filter(|name| **name == "ike_established")
        .count();
    assert_eq!(
        open,
        node.endpoint.ike_sas().count(),
        "{}: events and SAs differ",
        node.name
    );
    let open = children
        .values()
        .filter(|name| **name == "child_established")
        .count();
    assert_eq!(
        open,
        node.endpoint.child_sas().count(),
        "{}: events and children differ",
        node.name
    );
}

/// A datagram in one line.
pub fn describe(datagram: &Datagram) -> String {
    let mut text = format!("{} > {}", datagram.src.port(), datagram.dst.port());
    if datagram.bytes == [0xff] {
        return text + " keepalive";
    }
    let Ok(message) = Message::parse(&datagram.bytes) else {
        return text + " malformed";
    };
    let header = message.header();
    let kind = if header.flags.response {
        "response"
    } else {
        "request"
    };
    write!(text, " {} {kind} {}", header.exchange, header.message_id).unwrap();
    for payload in message.payloads().flatten() {
        match payload {
            Payload::Notify(notify) => write!(text, " N({})", notify.kind).unwrap(),
            other => write!(text, " {}", other.payload_type()).unwrap(),
        }
    }
    text
}
