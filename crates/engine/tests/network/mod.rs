//! A network in a test: engines on hosts with in-memory kernels, a fake clock
//! and wires that deliver after a fixed time.

#![allow(dead_code)] // Each test file uses its part.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cygnet_crypto::testing::{InsecureEntropy, InsecureKeyExchange};
use cygnet_crypto::{EspProposal, IkeProposal, SecretBytes};
use cygnet_engine::{
    Answer, Capabilities, ChildOptions, Connection, ConnectionKind, ConnectionSet, Engine,
    EngineOptions, Event, HostEnd, HostSpec, IkeOptions, Input, KERNEL_SPIS, LabelMode, Origin,
    Output, Plane, PlaneChoice, Protection, ProtectionId, Request, RequestId, ResolveQuery,
    SecretEntry, SecretKind, SecretOwner, Secrets, Setup, Shunt, Sourced, StartAction, Status,
};
use cygnet_ike::{
    AcceptRedirect, AuthMethod, Childless, Encapsulation, Fragmentation, PpkPolicy,
    RetransmitPolicy, SendRedirect, Tcp, Transport, TsTemplate,
};
use cygnet_ipsec::{
    Acquire, AllocateSpi, Command, Direction, Expire, Flow, Mark, Mode, PlaneFeatures, Policy,
    PortMatch, Protocol, Reply, SaDatabase, Selector,
};
use cygnet_kernel::sadb::{MemorySadb, Sadb, SadbEvent};

/// Index of west.
pub const WEST: usize = 0;
/// Index of east.
pub const EAST: usize = 1;

/// One way through the network.
pub const LATENCY: Duration = Duration::from_millis(5);

pub struct Host {
    pub name: &'static str,
    pub address: IpAddr,
    pub seed: u64,
    pub engine: Engine,
    pub kernel: MemorySadb,
    pub userspace: MemorySadb,
    pub protections: HashMap<ProtectionId, Protection>,
    pub resolved: HashMap<ResolveQuery, Vec<IpAddr>>,
    pub events: Vec<Event>,
    /// Requests that wait for [`Network::release`], oldest first.
    pub held: VecDeque<(RequestId, Request)>,
    /// Requests are kept back instead of being carried out.
    pub holding: bool,
    /// Packets that each SA of this host says to have carried.
    pub carried: u64,
    /// How often SAs were asked what they carried.
    pub questions: usize,
    /// Refuses the next protection.
    pub refuse_protection: Option<String>,
}

struct Packet {
    due: Instant,
    from: SocketAddr,
    to: SocketAddr,
    transport: Transport,
    bytes: Vec<u8>,
}

pub struct Network {
    pub now: Instant,
    pub hosts: Vec<Host>,
    wire: Vec<Packet>,
    /// Nothing is delivered while it is cut.
    pub cut: bool,
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A connection between 192.0.2.1 (left) and 192.0.2.2 (right).
pub fn connection(name: &str, start: StartAction, plane: PlaneChoice) -> Connection {
    let end = |address: &str, id: &str, net: &str| HostEnd {
        host: Sourced::default_value(HostSpec::Address(ip(address))),
        id: Some(Sourced::default_value(id.parse().expect("an identity"))),
        source_ips: Vec::new(),
        interface_ips: Vec::new(),
        subnets: vec![TsTemplate::prefix(net.parse().expect("a prefix"))],
    };
    Connection {
        name: name.to_owned(),
        origin: Sourced::default_value(()),
        left: end("192.0.2.1", "@west", "10.1.0.0/24"),
        right: end("192.0.2.2", "@east", "10.2.0.0/24"),
        ike: IkeOptions {
            proposals: Sourced::default_value(IkeProposal::default_list()),
            intermediate: false,
            fake_strongswan: false,
            ppk: PpkPolicy::Never,
            ppk_ids: Vec::new(),
            auth: AuthMethod::Psk,
            retransmit: RetransmitPolicy::default(),
            liveness: None,
            dead_peer: None,
            keying_tries: None,
            tcp: Tcp::No,
            tcp_remote_port: 4500,
            encapsulation: Encapsulation::Auto,
            fragmentation: Fragmentation::Yes,
            fragment_size: 1280,
            mobike: false,
            window: 1,
            nat_keepalive: true,
            childless: Childless::Allow,
            lifetime: Duration::from_secs(8 * 3600),
            reauth: false,
            crash_detection: true,
            message_id_sync: true,
            replay_counter_sync: true,
            resumption: false,
            initial_contact: true,
            accept_redirect: AcceptRedirect::No,
            send_redirect: SendRedirect::No,
            redirect_to: Vec::new(),
        },
        child: ChildOptions {
            protocol: Protocol::Esp,
            proposals: Sourced::default_value(EspProposal::default_list()),
            additional_of_ike: false,
            lifetime: Duration::from_secs(3600),
            inactivity: None,
            max_bytes: None,
            max_packets: None,
            rekey: true,
            rekey_margin: Duration::from_secs(300),
            rekey_fuzz: 0,
            replay_window: 128,
            reqid: None,
            priority: None,
            mark_in: Mark::ANY,
            mark_out: Mark::ANY,
            interface: None,
            metric: 0,
            negotiation_shunt: Shunt::Drop,
            failure_shunt: Shunt::None,
            encap_dscp: true,
            decap_dscp: false,
            label: None,
            label_mode: LabelMode::default(),
            compress: false,
            iptfs: None,
            clones: 0,
            tfc: 0,
            refuse_tfc: false,
            no_pmtu_disc: false,
            mtu: None,
        },
        kind: ConnectionKind::Tunnel,
        start,
        plane,
    }
}

pub fn set(connections: Vec<Connection>, psk: &str) -> ConnectionSet {
    let entry = SecretEntry {
        name: Vec::new(),
        owners: ["@west", "@east"]
            .map(|o| SecretOwner::Id(o.parse().expect("an identity")))
            .to_vec(),
        kind: SecretKind::Psk,
        secret: SecretBytes::from(psk.as_bytes().to_vec()),
        origin: Origin::Default,
    };
    ConnectionSet {
        setup: Setup::default(),
        connections,
        secrets: Secrets {
            entries: vec![entry],
        },
    }
}

/// The plane of a host says that an inbound SA of it has reached a limit: the one that came last.
pub fn expire(net: &mut Network, host: usize, plane: Plane, hard: bool) {
    let host = &mut net.hosts[host];
    let (address, sas) = (host.address, host.sas(plane));
    let inbound = sas.iter().rfind(|sa| sa.id.dst == address);
    let inbound = inbound.expect("an inbound SA");
    let expire = Expire {
        sa: inbound.id,
        src: inbound.src,
        reqid: inbound.reqid,
        hard,
    };
    let event = SadbEvent::Event(cygnet_ipsec::Event::Expire(expire));
    host.database(plane).emit(event);
}

/// A host's outbound policy in the kernel.
pub fn outbound_policy(net: &mut Network, host: usize) -> Policy {
    let policies = net.hosts[host].kernel.policies().expect("a dump");
    let mut policies = policies.into_iter().map(|report| report.policy);
    let out = policies.find(|policy| policy.key.direction == Direction::Out);
    out.expect("an outbound policy")
}

/// What the kernel tells when [`packet`] meets a policy without an SA.
pub fn acquire(policy: &Policy, seq: u32) -> Acquire {
    let template = policy.templates[0];
    let packet = packet();
    let port = |port| PortMatch {
        port,
        mask: u16::MAX,
    };
    let selector = Selector {
        protocol: packet.protocol,
        sport: port(packet.sport),
        dport: port(packet.dport),
        ..Selector::new(packet.src.into(), packet.dst.into())
    };
    Acquire {
        seq,
        policy_index: policy.index,
        policy: policy.key,
        template,
        selector,
        src: template.src,
        dst: template.dst,
        mark: Mark::ANY,
        if_id: 0,
        cpu: None,
        label: None,
    }
}

/// A packet from behind west to behind east.
pub fn packet() -> Flow {
    Flow {
        src: ip("10.1.0.7"),
        dst: ip("10.2.0.9"),
        protocol: 17,
        sport: 1234,
        dport: 53,
        mark: 0,
        ifindex: 0,
    }
}

impl Network {
    /// West at 192.0.2.1 and east at 192.0.2.2.
    pub fn west_and_east() -> Self {
        Self::seeded(0)
    }

    /// The same with other random numbers.
    pub fn seeded(seed: u64) -> Self {
        let mut network = Self {
            now: Instant::now(),
            hosts: Vec::new(),
            wire: Vec::new(),
            cut: false,
        };
        for (index, (name, address)) in [("west", "192.0.2.1"), ("east", "192.0.2.2")]
            .into_iter()
            .enumerate()
        {
            let seed = seed * 2 + index as u64 + 1;
            network.hosts.push(Host::new(name, ip(address), seed));
        }
        let now = network.now;
        for host in &mut network.hosts {
            let address = host.address;
            host.engine.handle(now, Input::Addresses(vec![address]));
        }
        network
    }

    /// West alone, with other planes than usual.
    pub fn with_capabilities(capabilities: Capabilities) -> Self {
        let mut network = Self::west_and_east();
        let (name, address) = (network.west().name, network.west().address);
        network.hosts[WEST] = Host::with_capabilities(name, address, 1, capabilities);
        let now = network.now;
        let addresses = Input::Addresses(vec![address]);
        network.west().engine.handle(now, addresses);
        network
    }

    /// One more host; gives its index.
    pub fn add(&mut self, name: &'static str, address: &str) -> usize {
        let mut host = Host::new(name, ip(address), 1000 + self.hosts.len() as u64);
        let input = Input::Addresses(vec![host.address]);
        host.engine.handle(self.now, input);
        self.hosts.push(host);
        self.hosts.len() - 1
    }

    /// A host loses its memory, and with it everything that it has installed.
    pub fn restart(&mut self, host: usize) {
        let (old, now) = (&self.hosts[host], self.now);
        let (name, address, seed) = (old.name, old.address, old.seed + 100);
        self.hosts[host] = Host::new(name, address, seed);
        // SPIs are random outside of tests: those that the peer still has are not given out again.
        for _ in 0..seed / 100 {
            let spi = Command::AllocateSpi(AllocateSpi {
                src: address,
                dst: address,
                protocol: Protocol::Esp,
                mode: Mode::Tunnel,
                reqid: 1,
                if_id: 0,
                mark: Mark::ANY,
                min: *KERNEL_SPIS.start(),
                max: *KERNEL_SPIS.end(),
                acquire_seq: 0,
            });
            self.hosts[host].kernel.execute(&spi).expect("an SPI");
        }
        let input = Input::Addresses(vec![address]);
        self.hosts[host].engine.handle(now, input);
    }

    /// A host has another address from now on.
    pub fn move_to(&mut self, host: usize, address: &str) {
        let now = self.now;
        let host = &mut self.hosts[host];
        host.address = ip(address);
        let input = Input::Addresses(vec![host.address]);
        host.engine.handle(now, input);
    }

    pub fn west(&mut self) -> &mut Host {
        &mut self.hosts[0]
    }

    pub fn east(&mut self) -> &mut Host {
        &mut self.hosts[1]
    }

    pub fn status(&self, host: usize) -> Status {
        self.hosts[host].engine.status(self.now)
    }

    /// The state of a connection as `cygnet status` shows it.
    pub fn state(&self, host: usize, name: &str) -> &'static str {
        self.status(host)
            .connections
            .iter()
            .find(|c| c.name == name)
            .map_or("absent", |c| c.state)
    }

    pub fn last_failure(&self, host: usize, name: &str) -> Option<(&'static str, String)> {
        let connection = self
            .status(host)
            .connections
            .into_iter()
            .find(|c| c.name == name)?;
        connection.last_failure.map(|f| (f.reason, f.text))
    }

    pub fn load(&mut self, host: usize, set: ConnectionSet) {
        let now = self.now;
        let loaded = self.hosts[host].engine.load(now, set);
        loaded.expect("the connections go together");
        self.settle();
    }

    /// Carries out what the engines want until they want nothing, without
    /// letting time pass.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut busy = false;
            for index in 0..self.hosts.len() {
                let now = self.now;
                let host = &mut self.hosts[index];
                host.kernel.set_now(now);
                host.userspace.set_now(now);
                host.pass_on_events(now);
                while let Some(output) = host.engine.poll_output() {
                    busy = true;
                    match output {
                        Output::Transmit(t) => self.wire.push(Packet {
                            due: now + LATENCY,
                            from: t.local,
                            to: t.remote,
                            transport: t.transport,
                            bytes: t.bytes,
                        }),
                        Output::Stream { .. } => {}
                        Output::Event(event) => host.events.push(event),
                        Output::Request { id, request } if host.holding => {
                            host.held.push_back((id, request))
                        }
                        Output::Request { id, request } => {
                            let answer = host.carry_out(request);
                            host.engine.handle(now, Input::Answer { id, answer });
                        }
                    }
                }
            }
            if !busy {
                return;
            }
        }
        panic!("the engines never come to rest");
    }

    /// Carries out the first of what was held back on a host.
    pub fn release_one(&mut self, host: usize) {
        let now = self.now;
        let host = &mut self.hosts[host];
        let (id, request) = host.held.pop_front().expect("something is held back");
        let answer = host.carry_out(request);
        host.engine.handle(now, Input::Answer { id, answer });
        self.settle();
    }

    /// Carries out what was held back on a host and holds no more.
    pub fn release(&mut self, host: usize) {
        let now = self.now;
        let host = &mut self.hosts[host];
        host.holding = false;
        while let Some((id, request)) = host.held.pop_front() {
            let answer = host.carry_out(request);
            host.engine.handle(now, Input::Answer { id, answer });
        }
        self.settle();
    }

    /// What a host has sent and is on its way comes so much later.
    pub fn delay(&mut self, host: usize, time: Duration) {
        self.settle();
        let address = self.hosts[host].address;
        let sent = self.wire.iter_mut().filter(|p| p.from.ip() == address);
        sent.for_each(|packet| packet.due += time);
    }

    /// Lets time pass from one thing that is due to the next.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        for _ in 0..100_000 {
            let due = self.wire.iter().map(|p| p.due);
            let timers = self.hosts.iter().filter_map(|h| h.engine.next_timeout());
            let Some(next) = due.chain(timers).min().filter(|at| *at <= end) else {
                self.now = end;
                self.settle();
                return;
            };
            self.now = self.now.max(next);
            let now = self.now;
            let (arrived, rest) = std::mem::take(&mut self.wire)
                .into_iter()
                .partition(|p| p.due <= now);
            self.wire = rest;
            let arrived: Vec<Packet> = arrived;
            for p in arrived.into_iter().filter(|_| !self.cut) {
                if let Some(host) = self.hosts.iter_mut().find(|h| h.address == p.to.ip()) {
                    let input = Input::Datagram {
                        local: p.to,
                        remote: p.from,
                        bytes: &p.bytes,
                        transport: p.transport,
                    };
                    host.engine.handle(now, input);
                }
            }
            for host in &mut self.hosts {
                if host.engine.next_timeout().is_some_and(|at| at <= now) {
                    host.engine.handle(now, Input::Timeout);
                }
            }
            self.settle();
        }
        panic!("something is due all the time");
    }

    /// The two ends have SAs that mirror each other, and nothing besides.
    pub fn assert_tunnel(&mut self, plane: Plane) {
        let spis = |host: &mut Host| {
            let address = host.address;
            let mut sas: Vec<_> = host
                .sas(plane)
                .iter()
                .map(|sa| (sa.id.dst == address, sa.id.spi))
                .collect();
            sas.sort_unstable();
            sas
        };
        let west = spis(&mut self.hosts[0]);
        let east = spis(&mut self.hosts[1]);
        assert_eq!(west.len(), 2, "west has one pair of SAs: {west:x?}");
        let mirrored: Vec<_> = east
            .iter()
            .rev()
            .map(|(inbound, spi)| (!inbound, *spi))
            .collect();
        let mut mirrored = mirrored;
        mirrored.sort_unstable();
        assert_eq!(west, mirrored, "east has the same pair the other way round");
    }
}

/// Both planes of these hosts take everything.
pub const FEATURES: PlaneFeatures = PlaneFeatures {
    transport: true,
    beet: true,
    ah: true,
    ipcomp: true,
    iptfs: true,
    per_cpu: true,
    labels: true,
    interfaces: true,
    tfc_padding: true,
    esn: true,
};

impl Host {
    fn new(name: &'static str, address: IpAddr, seed: u64) -> Self {
        let capabilities = Capabilities {
            kernel: Some(FEATURES),
            userspace: Some(FEATURES),
        };
        Self::with_capabilities(name, address, seed, capabilities)
    }

    fn with_capabilities(
        name: &'static str,
        address: IpAddr,
        seed: u64,
        capabilities: Capabilities,
    ) -> Self {
        let options = EngineOptions {
            capabilities,
            key_log: false,
            vendor_ids: Vec::new(),
            cpus: 4,
            crash_secrets: vec![SecretBytes::copy_from(name.as_bytes())],
        };
        let engine = Engine::new(
            options,
            Setup::default(),
            Arc::new(InsecureKeyExchange),
            Box::new(InsecureEntropy::from_seed(seed)),
            Box::new(InsecureEntropy::from_seed(seed + 1000)),
        );
        Self {
            name,
            address,
            seed,
            engine,
            kernel: MemorySadb::new(),
            userspace: MemorySadb::new(),
            protections: HashMap::new(),
            resolved: HashMap::new(),
            events: Vec::new(),
            held: VecDeque::new(),
            holding: false,
            carried: 0,
            questions: 0,
            refuse_protection: None,
        }
    }

    fn carry_out(&mut self, request: Request) -> Answer {
        match request {
            Request::Execute { plane, commands } => {
                let database = match plane {
                    Plane::Kernel => &mut self.kernel,
                    Plane::Userspace => &mut self.userspace,
                };
                let mut results = Vec::new();
                for command in &commands {
                    let mut result = database.execute(command);
                    if let Ok(Reply::Sa(report)) = &mut result {
                        report.counters.packets = self.carried;
                        self.questions += 1;
                    }
                    results.push(result);
                    if results.last().is_some_and(Result::is_err) {
                        break;
                    }
                }
                Answer::Executed(results)
            }
            Request::SolvePuzzle { puzzle, .. } => match puzzle.solve(|| true) {
                Some(solution) => Answer::Solution(solution),
                None => Answer::Failed("no solution".to_owned()),
            },
            Request::Protect(protection) => {
                // Also what fails halfway stands until it is asked away.
                self.protections.insert(protection.id, protection);
                match self.refuse_protection.take() {
                    Some(text) => Answer::Failed(text),
                    None => Answer::Done,
                }
            }
            Request::Unprotect(id) => match self.protections.remove(&id) {
                Some(_) => Answer::Done,
                None => Answer::Failed("no such protection".to_owned()),
            },
            Request::Resolve(query) => {
                Answer::Addresses(self.resolved.get(&query).cloned().unwrap_or_default())
            }
        }
    }

    fn pass_on_events(&mut self, now: Instant) {
        for (plane, database) in [
            (Plane::Kernel, &mut self.kernel),
            (Plane::Userspace, &mut self.userspace),
        ] {
            while let Ok(Some(SadbEvent::Event(event))) = database.next_event() {
                self.engine.handle(now, Input::PlaneEvent { plane, event });
            }
        }
    }

    pub fn database(&mut self, plane: Plane) -> &mut MemorySadb {
        match plane {
            Plane::Kernel => &mut self.kernel,
            Plane::Userspace => &mut self.userspace,
        }
    }

    /// The SAs that are more than a reserved SPI.
    pub fn sas(&mut self, plane: Plane) -> Vec<cygnet_ipsec::Sa> {
        let reports = self.database(plane).sas().expect("in memory");
        reports
            .into_iter()
            .filter(|r| r.state != cygnet_ipsec::SaState::Larval)
            .map(|r| r.sa)
            .collect()
    }

    /// Everything in the databases of a plane, reserved SPIs too.
    pub fn leftovers(&mut self, plane: Plane) -> usize {
        let database = self.database(plane);
        database.sas().expect("in memory").len() + database.policies().expect("in memory").len()
    }

    pub fn policies(&mut self, plane: Plane) -> usize {
        self.database(plane).policies().expect("in memory").len()
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.events.iter().map(Event::name).collect()
    }
}
