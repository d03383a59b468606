//! Two hosts and what is between them: links that lose, repeat and reorder, a NAT, planes that take their time, and a
//! clock that jumps from one event to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_crypto::testing::InsecureEntropy;
use cygnet_crypto::{KeyExchangeProvider, SecretBytes};
use cygnet_engine::{
    Answer, Capabilities, ConnectionSet, Engine, EngineOptions, Event, Input, Output, Plane,
    ProtectionId, Request, RequestId, ResolveQuery, Setup,
};
use cygnet_ike::{ChildSaId, Gateway, IkeSaId, IkeSaState, Role, Transport};
use cygnet_ipsec::{
    Command, CommandError, Flow, Outbound, OutboundPacket, PlaneFeatures, Reply, SaDatabase,
    SaDirection, SaId, SaState,
};
use cygnet_kernel::sadb::{MemorySadb, Sadb, SadbEvent};
use cygnet_wire::NAT_KEEPALIVE;

use crate::counts::Counts;
use crate::dice::Dice;
use crate::sads::Sads;
use crate::wire::{Name, Observer, Sent};

/// Index of west, who may be behind a NAT and whose addresses change.
pub const WEST: usize = 0;
/// Index of east.
pub const EAST: usize = 1;
const NAMES: [&str; 2] = ["west", "east"];

/// What has gone wrong, as a sentence.
pub type Violation = String;

/// Child SAs have followed their IKE SA after this time: each moves once at a time, and its plane answers soon.
const FOLLOWING: Duration = Duration::from_secs(2);

/// What a plane has refused to move is deleted within this time.
const DELETING: Duration = Duration::from_secs(30);

/// An SPI is used or given back within this time: an exchange of these connections takes 15 s at most, and may have three
/// additional key exchanges and one repetition with another method.
const FORGOTTEN: Duration = Duration::from_secs(75);

/// A run that takes more steps than this does not come to rest.
const MAX_STEPS: u64 = 400_000;

/// How the network treats what is sent.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// In a thousand.
    pub loss: u64,
    pub duplicates: u64,
    /// Those that take as long as [`Weather::late`] says.
    pub delayed: u64,
    /// Milliseconds.
    pub latency: (u64, u64),
    pub late: (u64, u64),
}

impl Weather {
    pub const CALM: Self = Self {
        loss: 0,
        duplicates: 0,
        delayed: 0,
        latency: (5, 5),
        late: (0, 0),
    };
}

/// The NAT in front of west.
pub struct Nat {
    pub public: IpAddr,
    mappings: BTreeMap<SocketAddr, SocketAddr>,
    next_port: u16,
}

impl Nat {
    pub fn new(public: IpAddr) -> Self {
        Self {
            public,
            mappings: BTreeMap::new(),
            next_port: 20_000,
        }
    }

    fn outside(&mut self, inside: SocketAddr) -> SocketAddr {
        let next = SocketAddr::new(self.public, self.next_port);
        let outside = *self.mappings.entry(inside).or_insert(next);
        if outside == next {
            self.next_port += 1;
        }
        outside
    }

    fn inside(&self, outside: SocketAddr) -> Option<SocketAddr> {
        let found = self.mappings.iter().find(|(_, to)| **to == outside);
        found.map(|(inside, _)| *inside)
    }

    /// It forgets its mappings.
    pub fn rebind(&mut self) {
        self.mappings.clear();
    }
}

pub struct Host {
    pub addresses: Vec<IpAddr>,
    pub engine: Engine,
    pub planes: [MemorySadb; 2],
    pub protections: BTreeSet<ProtectionId>,
    pub plane_delay: Duration,
    started: Instant,
    /// It has had an IKE SA since.
    has_established: bool,
    /// How often it has been started.
    generation: u32,
    /// When an IKE SA has moved last, and when a plane has last refused something.
    moved: Option<Instant>,
    refused: Option<Instant>,
    /// Child SAs that it has told of and that have not ended.
    children: HashMap<ChildSaId, u32>,
    /// The same of IKE SAs, and when the lifetime of each is over.
    ikes: BTreeMap<IkeSaId, Lifetime>,
}

/// From when to when an IKE SA is to be.
#[derive(Clone, Copy, Debug)]
struct Lifetime {
    since: Instant,
    end: Option<Instant>,
}

enum Future {
    Arrival {
        src: SocketAddr,
        dst: SocketAddr,
        transport: Transport,
        bytes: Rc<[u8]>,
        from: usize,
        order: u64,
        sent: Option<Sent>,
    },
    Answer {
        host: usize,
        generation: u32,
        id: RequestId,
        request: Request,
    },
    /// Its child SAs have followed an IKE SA that has moved.
    Followed {
        host: usize,
        generation: u32,
        moved: Instant,
    },
    Limit {
        host: usize,
        generation: u32,
        plane: usize,
        spi: u32,
        direction: SaDirection,
        hard: bool,
    },
}

pub struct World {
    pub start: Instant,
    pub now: Instant,
    pub hosts: Vec<Host>,
    pub weather: Weather,
    /// Nothing gets through before this time.
    pub dark_until: Instant,
    /// So many times the same message may be lost.
    pub most_losses: u32,
    losses: HashMap<Name, u32>,
    /// Planes refuse so many commands in a thousand.
    pub refusals: u64,
    pub nat: Option<Nat>,
    /// Which hosts say INITIAL_CONTACT.
    pub initial_contact: [bool; 2],
    /// An IKE SA that the peer has just begun, by host.
    met_anew: [Option<IkeSaId>; 2],
    pub observer: Observer,
    pub sads: Sads,
    pub counts: Counts,
    /// The packets whose way is watched, as west sends them, and the plane of each.
    pub flows: Vec<(Flow, usize)>,
    key_exchange: Arc<dyn KeyExchangeProvider>,
    seed: u64,
    dice: Dice,
    queue: BTreeMap<(Instant, u64), Future>,
    sequence: u64,
    last_arrived: [u64; 2],
    keys: HashMap<Vec<u8>, u32>,
    installed: BTreeSet<(usize, u32, bool)>,
    /// SPIs that a host has been given, and for which it has neither installed an SA nor given them back. The planes
    /// forget them by themselves after a while.
    reserved: HashMap<(usize, SaId), Instant>,
    steps: u64,
    /// Of all that was sent, and of all that was told.
    hasher: DefaultHasher,
    violation: Option<Violation>,
    pub trace: bool,
}

pub fn plane_index(plane: Plane) -> usize {
    usize::from(plane == Plane::Userspace)
}

pub fn reversed(flow: &Flow) -> Flow {
    Flow {
        src: flow.dst,
        dst: flow.src,
        sport: flow.dport,
        dport: flow.sport,
        ..*flow
    }
}

macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if $world.trace {
            let at = $world.now.saturating_duration_since($world.start).as_secs_f64();
            println!("{at:>9.3} {}", format_args!($($text)*));
        }
    };
}

impl World {
    pub fn new(
        seed: u64,
        key_exchange: Arc<dyn KeyExchangeProvider>,
        addresses: [IpAddr; 2],
        trace: bool,
    ) -> Self {
        let now = Instant::now();
        let mut world = Self {
            start: now,
            now,
            hosts: Vec::new(),
            weather: Weather::CALM,
            dark_until: now,
            most_losses: u32::MAX,
            losses: HashMap::new(),
            refusals: 0,
            nat: None,
            initial_contact: [false; 2],
            met_anew: [None; 2],
            observer: Observer::default(),
            sads: Sads::default(),
            counts: Counts::default(),
            flows: Vec::new(),
            key_exchange,
            seed,
            dice: Dice::new(seed, 0x11ce),
            queue: BTreeMap::new(),
            sequence: 0,
            last_arrived: [0; 2],
            keys: HashMap::new(),
            installed: BTreeSet::new(),
            reserved: HashMap::new(),
            steps: 0,
            hasher: DefaultHasher::new(),
            violation: None,
            trace,
        };
        for (index, address) in addresses.into_iter().enumerate() {
            let host = world.boot(index, 0, vec![address], Duration::ZERO);
            world.hosts.push(host);
        }
        world
    }

    fn boot(&self, index: usize, generation: u32, addresses: Vec<IpAddr>, delay: Duration) -> Host {
        let features = PlaneFeatures {
            transport: true,
            esn: true,
            ..PlaneFeatures::default()
        };
        let options = EngineOptions {
            capabilities: Capabilities {
                kernel: Some(features),
                userspace: Some(features),
            },
            // The observer reads along.
            key_log: true,
            vendor_ids: Vec::new(),
            cpus: 4,
            // The same after each restart.
            crash_secrets: vec![SecretBytes::new(vec![index as u8; 32])],
        };
        let mut dice = Dice::new(self.seed, 0xb007 + u64::from(generation) * 2 + index as u64);
        let mut entropy = || Box::new(InsecureEntropy::from_seed(dice.any()));
        let mut engine = Engine::new(
            options,
            Setup::default(),
            self.key_exchange.clone(),
            entropy(),
            entropy(),
        );
        engine.handle(self.now, Input::Addresses(addresses.clone()));
        let mut planes = [0, 1].map(|_| MemorySadb::seeded(dice.any() as u32));
        for plane in &mut planes {
            plane.set_now(self.now);
        }
        Host {
            addresses,
            engine,
            planes,
            protections: BTreeSet::new(),
            plane_delay: delay,
            started: self.now,
            has_established: false,
            generation,
            moved: None,
            refused: None,
            children: HashMap::new(),
            ikes: BTreeMap::new(),
        }
    }

    /// A host loses its memory and everything that it has installed.
    pub fn restart(&mut self, index: usize, set: ConnectionSet) {
        note!(self, "{} restarts", NAMES[index]);
        let old = &self.hosts[index];
        let (generation, delay) = (old.generation + 1, old.plane_delay);
        let addresses = old.addresses.clone();
        self.sads.crashed(self.now, index);
        self.reserved.retain(|(host, _), _| *host != index);
        self.hosts[index] = self.boot(index, generation, addresses, delay);
        self.watch(index);
        self.load(index, set);
    }

    pub fn load(&mut self, index: usize, set: ConnectionSet) {
        note!(
            self,
            "{} loads {} connections",
            NAMES[index],
            set.connections.len()
        );
        let loaded = self.hosts[index].engine.load(self.now, set);
        if let Err(e) = loaded {
            self.fail(format!("the connections do not go together: {e}"));
        }
        self.pump(index);
    }

    /// A user's word.
    /// Tells whether the connection is known.
    pub fn command(&mut self, index: usize, what: &str, name: &str) -> bool {
        note!(self, "{}: {what} {name}", NAMES[index]);
        let (engine, now) = (&mut self.hosts[index].engine, self.now);
        let known = match what {
            "up" => engine.up(now, name),
            "down" => engine.down(now, name),
            "route" => engine.route(now, name),
            "unroute" => engine.unroute(now, name),
            "rekey child" => engine.rekey(now, name, false).map(drop),
            "rekey ike" => engine.rekey(now, name, true).map(drop),
            other => unreachable!("there is no command {other}"),
        };
        if known.is_ok() && matches!(what, "down" | "unroute") {
            self.sads.taken_down(self.now, index);
        }
        self.pump(index);
        known.is_ok()
    }

    /// A host sends its peer to itself: that comes back with a new IKE SA. Tells whether there was one.
    pub fn redirect(&mut self, index: usize, name: &str) -> bool {
        let Some(address) = self.hosts[index].addresses.first().copied() else {
            return false;
        };
        let (engine, now) = (&mut self.hosts[index].engine, self.now);
        let told = engine.redirect(now, Some(name), &Gateway::from(address));
        let told = told.is_ok_and(|told| told > 0);
        if told {
            note!(self, "{}: redirect {name}", NAMES[index]);
            self.pump(index);
        }
        told
    }

    /// A host has these addresses from now on.
    pub fn readdress(&mut self, index: usize, addresses: Vec<IpAddr>) {
        note!(self, "{} has the addresses {addresses:?}", NAMES[index]);
        // Without MOBIKE what is at an address goes with it.
        self.sads.taken_down(self.now, index);
        self.hosts[index].addresses.clone_from(&addresses);
        self.hosts[index]
            .engine
            .handle(self.now, Input::Addresses(addresses));
        self.pump(index);
    }

    /// An application sends a packet.
    pub fn packet(&mut self, index: usize, flow: usize) {
        let Some((packet, plane)) = self.flows.get(flow).cloned() else {
            return;
        };
        let packet = if index == WEST {
            packet
        } else {
            reversed(&packet)
        };
        note!(
            self,
            "{}: packet {} > {}",
            NAMES[index],
            packet.src,
            packet.dst
        );
        let host = &mut self.hosts[index];
        host.planes[plane].set_now(self.now);
        host.planes[plane].send(&packet);
        self.pump(index);
    }

    /// An SA reaches a limit. `which` chooses; tells whether there was one.
    pub fn limit(&mut self, index: usize, which: u64, hard: bool) -> bool {
        let host = &mut self.hosts[index];
        let sas = |plane: &MemorySadb| -> Vec<SaId> {
            let states = plane.databases().states();
            let valid = states.filter(|s| s.state == SaState::Valid);
            valid.map(|s| s.sa.id).collect()
        };
        let all: Vec<(usize, SaId)> = (0..2)
            .flat_map(|p| sas(&host.planes[p]).into_iter().map(move |id| (p, id)))
            .collect();
        if all.is_empty() {
            return false;
        }
        let (plane, id) = all[which as usize % all.len()];
        self.reach(index, plane, id, hard);
        true
    }

    fn reach(&mut self, index: usize, plane: usize, id: SaId, hard: bool) {
        let kind = if hard { "hard" } else { "soft" };
        note!(self, "{}: {kind} limit of {:08x}", NAMES[index], id.spi);
        self.hosts[index].planes[plane].expire(&id, hard);
        if hard {
            self.sads.struck(self.now, index, id.spi);
        }
        self.watch(index);
        self.pump(index);
    }

    /// East's plane sees ESP of west come from where the NAT sends it now.
    pub fn mapping(&mut self) -> bool {
        let Some(nat) = &mut self.nat else {
            return false;
        };
        let west = self.hosts[WEST].addresses.first().copied();
        let Some(west) = west else { return false };
        let new = nat.outside(SocketAddr::new(west, 4500));
        let mut found = None;
        for (index, plane) in self.hosts[EAST].planes.iter_mut().enumerate() {
            for state in plane.databases().states() {
                let sa = &state.sa;
                if let Some(encap) = sa.encap.filter(|_| sa.direction == SaDirection::In) {
                    let old = SocketAddr::new(sa.src, encap.remote_port);
                    if old != new {
                        let event = cygnet_ipsec::Event::Mapping(cygnet_ipsec::Mapping {
                            sa: sa.id,
                            reqid: sa.reqid,
                            old,
                            new,
                        });
                        found = Some((index, event));
                    }
                }
            }
        }
        let Some((index, event)) = found else {
            return false;
        };
        note!(self, "east sees ESP from {new}");
        self.hosts[EAST].planes[index].emit(SadbEvent::Event(event));
        self.pump(EAST);
        true
    }

    /// What east sends of itself comes through the NAT: west has found out that it has another mapping.
    pub fn check_reaches_west(&self) -> Result<(), Violation> {
        let Some(nat) = &self.nat else { return Ok(()) };
        let mut ikes = self.hosts[EAST].engine.endpoint().ike_sas();
        match ikes.find(|ike| nat.inside(ike.remote).is_none()) {
            Some(ike) => Err(format!(
                "what east sends to {} does not reach west",
                ike.remote
            )),
            None => Ok(()),
        }
    }

    /// What has gone wrong so far.
    pub fn check(&mut self) -> Result<(), Violation> {
        self.violation.take().map_or(Ok(()), Err)
    }

    fn fail(&mut self, text: String) {
        note!(self, "VIOLATION: {text}");
        self.violation.get_or_insert(text);
    }

    fn schedule(&mut self, at: Instant, what: Future) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), what);
    }

    /// Takes what a host wants done until it wants nothing more.
    pub fn pump(&mut self, index: usize) {
        let now = self.now;
        loop {
            let host = &mut self.hosts[index];
            for plane in [Plane::Kernel, Plane::Userspace] {
                while let Ok(Some(SadbEvent::Event(event))) =
                    host.planes[plane_index(plane)].next_event()
                {
                    host.engine.handle(now, Input::PlaneEvent { plane, event });
                }
            }
            let Some(output) = host.engine.poll_output() else {
                if let Some(ike) = self.met_anew[index].take() {
                    self.check_contact(index, ike);
                }
                return;
            };
            match output {
                Output::Transmit(t) => {
                    self.transmit(index, t.local, t.remote, t.transport, t.bytes)
                }
                Output::Stream { .. } => {}
                Output::Event(event) => self.told(index, &event),
                Output::Request { id, request } => {
                    let generation = self.hosts[index].generation;
                    let at = now + self.hosts[index].plane_delay;
                    self.schedule(
                        at,
                        Future::Answer {
                            host: index,
                            generation,
                            id,
                            request,
                        },
                    );
                }
            }
        }
    }

    fn transmit(
        &mut self,
        from: usize,
        src: SocketAddr,
        dst: SocketAddr,
        transport: Transport,
        bytes: Vec<u8>,
    ) {
        let keepalive = bytes == [NAT_KEEPALIVE];
        let sent = if keepalive {
            None
        } else {
            match self.observer.send(self.now, from, &bytes) {
                Ok(sent) => Some(sent),
                Err(text) => return self.fail(format!("{} {text}", NAMES[from])),
            }
        };
        // The system refuses to. Said is said: a response is repeated from another address, whatever the host is at by
        // then.
        if !self.hosts[from].addresses.contains(&src.ip()) {
            note!(self, "{} has no {src} to send from", NAMES[from]);
            return;
        }
        (self.now - self.start, from, src, dst, &bytes).hash(&mut self.hasher);
        if sent.is_some_and(|sent| sent.fragment) {
            self.counts.add("message fragment");
        }
        let mut fate = |fate: &str| {
            let Some(sent) = &sent else { return };
            let kind = if sent.response { "response" } else { "request" };
            self.counts
                .add(&format!("message {} {kind} {fate}", sent.exchange));
        };
        fate("sent");
        if sent.is_some_and(|sent| sent.repeated) {
            fate("repeated");
        }
        let bytes: Rc<[u8]> = bytes.into();
        let duplicated = self.dice.permille(self.weather.duplicates);
        if duplicated {
            fate("duplicated");
        }
        let mut arrivals = Vec::new();
        for _ in 0..1 + u32::from(duplicated) {
            let may_be_lost = sent.is_none_or(|sent| {
                self.losses
                    .get(&sent.name)
                    .is_none_or(|n| *n < self.most_losses)
            });
            if may_be_lost && self.dice.permille(self.weather.loss) || self.now < self.dark_until {
                fate("lost");
                if let Some(sent) = &sent {
                    *self.losses.entry(sent.name).or_default() += 1;
                }
                continue;
            }
            let late = self.dice.permille(self.weather.delayed);
            if late {
                fate("late");
            }
            let (least, most) = if late {
                self.weather.late
            } else {
                self.weather.latency
            };
            arrivals.push(self.now + self.dice.millis(least, most));
        }
        if self.trace {
            let what = match &sent {
                Some(s) => format!(
                    "{} {} {}{}",
                    s.exchange,
                    if s.response { "response" } else { "request" },
                    s.name.4,
                    s.kind.map_or(String::new(), |k| format!(": {}", k.name())),
                ),
                None => "keepalive".to_owned(),
            };
            let spis = sent.map_or((0, 0), |s| (s.name.0 as u32, s.name.1 as u32));
            let ways: Vec<f64> = arrivals
                .iter()
                .map(|at| at.saturating_duration_since(self.start).as_secs_f64())
                .collect();
            note!(
                self,
                "{} {src} > {dst} [{:08x} {:08x}] {what}, arrives {ways:.3?}",
                NAMES[from],
                spis.0,
                spis.1
            );
        }
        let seen_as = match &mut self.nat {
            Some(nat) if from == WEST => nat.outside(src),
            _ => src,
        };
        for at in arrivals {
            let order = self.sequence + 1;
            self.schedule(
                at,
                Future::Arrival {
                    src: seen_as,
                    dst,
                    transport,
                    bytes: bytes.clone(),
                    from,
                    order,
                    sent,
                },
            );
        }
    }

    fn arrive(
        &mut self,
        (src, mut dst): (SocketAddr, SocketAddr),
        transport: Transport,
        bytes: &[u8],
        from: usize,
        order: u64,
        sent: Option<Sent>,
    ) {
        if let Some(nat) = &self.nat
            && from == EAST
        {
            // From outside nobody reaches what is inside but through a mapping.
            match nat.inside(dst) {
                Some(inside) => dst = inside,
                None => return,
            }
        }
        let to = 1 - from;
        let Some(sent) = sent else { return };
        if !self.hosts[to].addresses.contains(&dst.ip()) {
            return;
        }
        if order < self.last_arrived[to] {
            let kind = if sent.response { "response" } else { "request" };
            self.counts
                .add(&format!("message {} {kind} overtaken", sent.exchange));
        }
        self.last_arrived[to] = self.last_arrived[to].max(order);
        if (transport == Transport::UdpEncap) != (dst.port() == 4500) {
            return self.fail(format!(
                "{} sends with the marker of another port",
                NAMES[from]
            ));
        }
        self.observer.arrive(to, sent.name);
        let input = Input::Datagram {
            local: dst,
            remote: src,
            bytes,
            transport,
        };
        self.hosts[to].engine.handle(self.now, input);
        self.pump(to);
    }

    fn answer(&mut self, index: usize, id: RequestId, request: Request) {
        let answer = match request {
            Request::Execute { plane, commands } => {
                let plane = plane_index(plane);
                let now = self.now;
                self.hosts[index].planes[plane].set_now(now);
                let mut results = Vec::new();
                for command in &commands {
                    let refused = makes_something(command) && self.dice.permille(self.refusals);
                    let result = match refused {
                        true => Err(CommandError::OutOfResources),
                        false => self.execute(index, plane, command),
                    };
                    self.executed(index, plane, command, result.as_ref().ok());
                    let failed = result.is_err();
                    results.push(result);
                    if failed {
                        break;
                    }
                }
                self.watch(index);
                Answer::Executed(results)
            }
            Request::SolvePuzzle { puzzle, .. } => match puzzle.solve(|| true) {
                Some(solution) => Answer::Solution(solution),
                None => Answer::Failed("no solution".to_owned()),
            },
            Request::Protect(_) if self.dice.permille(self.refusals) => {
                self.counts.add("event a fence is refused");
                Answer::Failed("no more fences".to_owned())
            }
            Request::Protect(protection) => {
                self.hosts[index].protections.insert(protection.id);
                Answer::Done
            }
            Request::Unprotect(id) => {
                if self.hosts[index].protections.remove(&id) {
                    Answer::Done
                } else {
                    Answer::Failed("no such protection".to_owned())
                }
            }
            Request::Resolve(ResolveQuery::DefaultRoute { .. }) => {
                let first = self.hosts[index].addresses.first().copied();
                Answer::Addresses(first.into_iter().collect())
            }
            Request::Resolve(_) => Answer::Addresses(Vec::new()),
        };
        self.hosts[index]
            .engine
            .handle(self.now, Input::Answer { id, answer });
        self.pump(index);
    }

    /// Has a plane carry out a command. Once in some 100,000 runs a plane draws an SPI that belonged to an SA which is
    /// long gone, as it may. The rules tell SAs apart by their SPIs in all of a run, so it is to draw again.
    fn execute(
        &mut self,
        index: usize,
        plane: usize,
        command: &Command,
    ) -> Result<Reply, CommandError> {
        let reply = self.hosts[index].planes[plane].execute(command)?;
        if let (Command::AllocateSpi(request), Reply::Spi(spi)) = (command, &reply)
            && self.installed.contains(&(index, *spi, true))
        {
            let drawn = SaId {
                dst: request.dst,
                spi: *spi,
                protocol: request.protocol,
                mark: request.mark,
            };
            self.hosts[index].planes[plane].execute(&Command::RemoveSa(drawn))?;
            self.counts.add("SPIs drawn again");
            return self.execute(index, plane, command);
        }
        Ok(reply)
    }

    /// A plane has done something.
    fn executed(&mut self, index: usize, plane: usize, command: &Command, reply: Option<&Reply>) {
        let name = NAMES[index];
        if self.trace {
            let outcome = if reply.is_some() { "" } else { ": refused" };
            match command {
                Command::InstallSa(sa) => {
                    note!(
                        self,
                        "{name} installs {:08x} {:?}{outcome}",
                        sa.id.spi,
                        sa.direction
                    );
                }
                Command::RemoveSa(id) => note!(self, "{name} removes {:08x}{outcome}", id.spi),
                Command::MoveSa(m) => note!(self, "{name} moves {:08x}{outcome}", m.id.spi),
                Command::InstallPolicy(p) | Command::UpdatePolicy(p) => {
                    let reqids: Vec<u32> = p.templates.iter().map(|t| t.reqid).collect();
                    let selector = &p.key.selector;
                    let (src, dst) = (selector.src, selector.dst);
                    note!(self, "{name} policy {src} > {dst} by {reqids:?}{outcome}");
                }
                Command::RemovePolicy(k) => {
                    let (src, dst) = (k.selector.src, k.selector.dst);
                    note!(self, "{name} removes the policy {src} > {dst}{outcome}");
                }
                _ => {}
            }
        }
        match (command, reply) {
            (Command::AllocateSpi(request), Some(Reply::Spi(spi))) => {
                let id = SaId {
                    dst: request.dst,
                    spi: *spi,
                    protocol: request.protocol,
                    mark: request.mark,
                };
                self.reserved.insert((index, id), self.now);
            }
            // Whatever the plane has to say to that.
            (Command::RemoveSa(id), _) => drop(self.reserved.remove(&(index, *id))),
            (Command::InstallSa(sa), _) => drop(self.reserved.remove(&(index, sa.id))),
            _ => {}
        }
        if reply.is_none() {
            let what = match command {
                Command::AllocateSpi(_) => "an SPI is refused",
                Command::InstallSa(_) => "an SA is refused",
                Command::MoveSa(_) => "a move is refused",
                Command::InstallPolicy(_) | Command::UpdatePolicy(_) => "a policy is refused",
                _ => "a removal is refused",
            };
            self.counts.add(&format!("event {what}"));
            // What was to be used cannot be.
            self.sads.taken_down(self.now, index);
            self.hosts[index].refused = Some(self.now);
            return;
        }
        match command {
            Command::InstallSa(sa) => {
                let inbound = sa.direction == SaDirection::In;
                let encryption = sa.encryption.iter();
                let mut key: Vec<u8> = encryption.flat_map(|e| e.key.as_bytes().to_vec()).collect();
                key.extend(sa.integrity.iter().flat_map(|i| i.key.as_bytes().to_vec()));
                // Both ends have it, and both call the SA by the SPI of who receives.
                if *self.keys.entry(key).or_insert(sa.id.spi) != sa.id.spi {
                    return self.fail("two ESP SAs have the same key".to_owned());
                }
                if !self.installed.insert((index, sa.id.spi, inbound)) {
                    return self.fail(format!("{name} installs {:08x} twice", sa.id.spi));
                }
                if inbound {
                    self.sads.installed(self.now, index, sa.id.spi);
                }
                let generation = self.hosts[index].generation;
                for (after, hard) in [(sa.lifetime.soft_add, false), (sa.lifetime.hard_add, true)] {
                    if let Some(after) = after {
                        let limit = Future::Limit {
                            host: index,
                            generation,
                            plane,
                            spi: sa.id.spi,
                            direction: sa.direction,
                            hard,
                        };
                        self.schedule(self.now + after, limit);
                    }
                }
            }
            Command::RemoveSa(id) => self.sads.removed(self.now, index, id.spi, true),
            // Of one that is moving nothing is left behind when it goes.
            Command::MoveSa(_) => self.sads.taken_down(self.now, index),
            _ => {}
        }
    }

    /// Looks at what a host would send its packets on.
    fn watch(&mut self, index: usize) {
        for flow in 0..self.flows.len() {
            let (packet, plane) = &self.flows[flow];
            let packet = if index == WEST {
                *packet
            } else {
                reversed(packet)
            };
            let databases = self.hosts[index].planes[*plane].databases();
            let verdict = databases.output(&OutboundPacket::new(&packet)).verdict;
            let spi = match verdict {
                Outbound::Protect { sas, .. } => sas
                    .single()
                    .and_then(|serial| databases.state(serial))
                    .map(|state| state.sa.id.spi),
                _ => None,
            };
            let before = self.sads.sending(index, flow);
            if before != spi {
                note!(
                    self,
                    "{} sends flow {flow} on {spi:08x?}, before on {before:08x?}",
                    NAMES[index]
                );
                let gone = before.is_some_and(|before| {
                    !databases
                        .states()
                        .any(|s| s.sa.id.spi == before && s.sa.direction == SaDirection::Out)
                });
                self.sads.sends(self.now, index, flow, spi, gone);
            }
        }
    }

    /// Another set of flows or planes.
    pub fn watch_flows(&mut self, flows: Vec<(Flow, usize)>) {
        self.flows = flows;
        for index in 0..self.hosts.len() {
            self.watch(index);
        }
    }

    fn told(&mut self, index: usize, event: &Event) {
        use cygnet_ike::Event as E;
        let (now, name) = (self.now, NAMES[index]);
        let inner = match event {
            Event::Ike { event, .. } => event,
            other => {
                note!(self, "{name} tells {other:?}");
                self.counts.add(&format!("told {}", other.name()));
                return;
            }
        };
        let full = full_name(inner);
        (now - self.start, index, &full).hash(&mut self.hasher);
        if !matches!(inner, E::Retransmitting { .. }) {
            note!(self, "{name} tells {full}");
        }
        self.counts.add(&format!("told {full}"));
        match inner {
            E::IkeEstablished { keys, ike, info } => {
                self.hosts[index].has_established = true;
                let ikes = &mut self.hosts[index].ikes;
                let old = info.replaces.and_then(|old| ikes.get(&old)?.end);
                let lifetime = info.config.as_ref().and_then(|config| config.lifetime);
                let (since, end) = (now, lifetime.map(|lifetime| now + lifetime));
                let known = ikes.insert(*ike, Lifetime { since, end });
                // It comes when the old one was to be deleted already, and goes with it.
                if old.is_some_and(|end| end <= now) {
                    self.outlived();
                }
                if info.role == Role::Responder && info.replaces.is_none() {
                    self.met_anew[index] = Some(*ike);
                }
                if known.is_some() {
                    self.fail(format!("{name} tells of {ike} twice"));
                }
                if let Some(Err(text)) = keys.as_ref().map(|keys| self.observer.learn(keys)) {
                    self.fail(format!("{name}: {text}"));
                }
            }
            E::IkeClosed { ike, .. } => match self.hosts[index].ikes.remove(ike) {
                Some(life) if life.end.is_some_and(|end| end <= now) => self.outlived(),
                Some(_) => {}
                None => self.fail(format!("{name} closes {ike}, which is not open")),
            },
            E::Moved { .. } | E::ChildrenMoved { .. } => {
                let host = &mut self.hosts[index];
                host.moved = Some(now);
                let followed = Future::Followed {
                    host: index,
                    generation: host.generation,
                    moved: now,
                };
                self.schedule(now + FOLLOWING, followed);
            }
            E::ChildEstablished { child, info, .. } => {
                self.observer.learn_child(index, info.spi_in, info.spi_out);
                let generation = self.hosts[index].generation;
                self.sads.established(now, index, generation, info);
                if self.hosts[index]
                    .children
                    .insert(*child, info.spi_in)
                    .is_some()
                {
                    self.fail(format!("{name} tells of {child} twice"));
                }
            }
            E::ChildClosed { child, reason, .. } => {
                let generation = self.hosts[index].generation;
                if let Err(text) = self.sads.closed(now, index, generation, *child, reason) {
                    self.fail(format!("{name}: {text}"));
                }
                if self.hosts[index].children.remove(child).is_none() {
                    self.fail(format!("{name} closes {child}, which is not open"));
                }
            }
            _ => {}
        }
    }

    /// A peer has begun an IKE SA. If it is the first one since the peer has lost its memory, the peer says so
    /// (INITIAL_CONTACT), and what it has forgotten goes at once.
    fn check_contact(&mut self, index: usize, new: IkeSaId) {
        let peer = &self.hosts[1 - index];
        let host = &self.hosts[index];
        let info = host.engine.endpoint().ike_sa(new);
        let begun = info.and_then(|info| self.observer.begun(info.initiator_spi.0));
        let first = !peer.has_established && begun.is_some_and(|begun| begun >= peer.started);
        if !self.initial_contact[1 - index] || peer.generation == 0 || !first {
            return;
        }
        let stands = |ike: &IkeSaId| {
            let info = host.engine.endpoint().ike_sa(*ike);
            *ike != new && info.is_some_and(|info| info.state == IkeSaState::Established)
        };
        let mut others = host.ikes.iter().filter(|(ike, _)| stands(ike));
        let forgotten = others.find(|(_, life)| life.since < peer.started);
        if let Some((ike, _)) = forgotten {
            let text = format!(
                "{} keeps {ike} though its peer has begun anew",
                NAMES[index]
            );
            return self.fail(text);
        }
        self.counts.add("event initial contact");
    }

    /// Each child SA is where its IKE SA is.
    fn check_followed(&mut self, index: usize) {
        let host = &self.hosts[index];
        if host.refused.is_some_and(|at| self.now < at + DELETING) {
            return;
        }
        let mut astray = None;
        for child in host.engine.endpoint().child_sas() {
            let (local, remote) = (child.local.ip(), child.remote.ip());
            let states = host
                .planes
                .iter()
                .flat_map(|plane| plane.databases().states());
            for sa in states.filter(|s| s.state == SaState::Valid).map(|s| &s.sa) {
                let expected = match sa.direction {
                    SaDirection::In if sa.id.spi == child.spi_in => (remote, local),
                    SaDirection::Out if sa.id.spi == child.spi_out => (local, remote),
                    _ => continue,
                };
                if (sa.src, sa.id.dst) != expected {
                    astray = Some((sa.id.spi, sa.src, sa.id.dst));
                }
            }
        }
        match astray {
            Some((spi, src, dst)) => self.fail(format!(
                "{} has {spi:08x} between {src} and {dst}, and its IKE SA has moved",
                NAMES[index]
            )),
            None => self.counts.add("event child sas have followed"),
        }
    }

    /// The lifetime of an IKE SA was over before it was renewed: there was too little time, or the peer was busy.
    fn outlived(&mut self) {
        self.counts.add("event ike lifetime over");
    }

    /// Lets the world run for some time, or until something goes wrong.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.violation.is_none() {
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timers = self.hosts.iter().filter_map(|h| h.engine.next_timeout());
            let next = queued.into_iter().chain(timers).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                break;
            };
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return self.fail("does not come to rest".to_owned());
            }
            self.now = self.now.max(next);
            if queued.is_some_and(|at| at <= self.now) {
                if let Some((_, what)) = self.queue.pop_first() {
                    self.happen(what);
                }
                continue;
            }
            for index in 0..self.hosts.len() {
                let engine = &mut self.hosts[index].engine;
                if engine.next_timeout().is_some_and(|at| at <= self.now) {
                    engine.handle(self.now, Input::Timeout);
                    self.pump(index);
                }
            }
        }
        self.now = end;
        for host in &mut self.hosts {
            for plane in &mut host.planes {
                plane.set_now(end);
            }
        }
        for index in 0..self.hosts.len() {
            self.pump(index);
        }
    }

    fn happen(&mut self, what: Future) {
        match what {
            Future::Arrival {
                src,
                dst,
                transport,
                bytes,
                from,
                order,
                sent,
            } => self.arrive((src, dst), transport, &bytes, from, order, sent),
            Future::Answer {
                host,
                generation,
                id,
                request,
            } => {
                if self.hosts[host].generation == generation {
                    self.answer(host, id, request);
                }
            }
            Future::Followed {
                host,
                generation,
                moved,
            } => {
                let of = &self.hosts[host];
                // It may have gone on.
                if of.generation == generation && of.moved == Some(moved) {
                    self.check_followed(host);
                }
            }
            Future::Limit {
                host,
                generation,
                plane,
                spi,
                direction,
                hard,
            } => {
                if self.hosts[host].generation != generation {
                    return;
                }
                let states = self.hosts[host].planes[plane].databases().states();
                // It may have moved.
                let found = states
                    .filter(|s| s.sa.id.spi == spi && s.sa.direction == direction)
                    .map(|s| s.sa.id)
                    .next();
                if let Some(id) = found {
                    let kind = if hard { "hard" } else { "soft" };
                    self.counts.add(&format!("event {kind} lifetime reached"));
                    self.reach(host, plane, id, hard);
                }
            }
        }
    }

    /// Stands for all that has happened.
    pub fn digest(&self) -> u64 {
        // Of many runs they are added up.
        self.hasher.finish() & u64::from(u32::MAX)
    }

    /// An SPI that a host has forgotten.
    pub fn forgotten_spi(&self, index: usize) -> Option<u32> {
        let mut all = self.reserved.iter();
        all.find(|((host, _), at)| *host == index && **at + FORGOTTEN < self.now)
            .map(|((_, id), _)| id.spi)
    }

    /// The children that a host has told of and that have not ended.
    pub fn open_children(&self, index: usize) -> usize {
        self.hosts[index].children.len()
    }

    /// The same of IKE SAs.
    pub fn open_ikes(&self, index: usize) -> usize {
        self.hosts[index].ikes.len()
    }
}

/// Whether a command asks for something new, which a plane may refuse. What is there it must let go.
fn makes_something(command: &Command) -> bool {
    matches!(
        command,
        Command::AllocateSpi(_)
            | Command::InstallSa(_)
            | Command::MoveSa(_)
            | Command::InstallPolicy(_)
            | Command::UpdatePolicy(_)
    )
}

/// The name of an event and of its reason.
fn full_name(event: &cygnet_ike::Event) -> String {
    use cygnet_ike::Event as E;
    let reason = match event {
        E::IkeFailed { reason, .. } => reason.name(),
        E::IkeClosed { reason, .. } => reason.name(),
        E::ChildFailed { reason, .. } => reason.name(),
        E::ChildClosed { reason, .. } => reason.name(),
        E::Rejected { reason, .. } => reason.name(),
        E::IkeRekeyFailed { reason, .. } => reason.name(),
        E::ChildRekeyFailed { reason, .. } => reason.name(),
        _ => return event.name().to_owned(),
    };
    format!("{} {reason}", event.name())
}
