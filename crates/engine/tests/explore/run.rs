//! One run: what its seed makes of two hosts and the days they have, and what must hold when it is over.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cygnet_crypto::testing::InsecureKeyExchange;
use cygnet_crypto::{
    Encryption, EspProposal, IkeProposal, KeyExchange, KeyExchangeProvider, Prf,
    StandardKeyExchange,
};
use cygnet_engine::{
    Connection, ConnectionSet, DeadPeerAction, HostSpec, Intent, Plane, PlaneChoice, Sourced,
    StartAction,
};
use cygnet_ike::{
    AcceptRedirect, Childless, Fragmentation, IkeSaState, RetransmitPolicy, TsTemplate, Uniqueness,
};
use cygnet_ipsec::{Flow, Mode, SaDirection, SaState};
use cygnet_kernel::sadb::Sadb;

use crate::counts::Counts;
use crate::dice::Dice;
use crate::network::{connection, ip, packet, set};
use crate::wire::Kind;
use crate::world::{EAST, Nat, Violation, WEST, Weather, World, plane_index};

/// Within this time after the last disturbance everything that is wanted is up: a silent peer is found out in 20 s
/// plus 15 s, what has failed is tried again after 75 s at the latest, and that may fail once more.
const RECOVERY: Duration = Duration::from_secs(300);

/// For so long after that a moment is waited for in which nothing is under way.
const PATIENCE: u32 = 1200;

/// While nothing but rekeying happens the network loses the same message so often at most. With the retransmission of
/// these connections (0.5 s, doubling to 4 s, for 15 s) each request is sent six times.
const MOST_LOSSES: u32 = 1;

/// Before the end of an SA an exchange is begun so early at least. The responder takes half of it (see `rekey_margin`):
/// enough for two messages that are lost once each and 2 s late.
const LEAST_MARGIN: Duration = Duration::from_secs(12);

/// A plane answers within this time.
const PLANE_DELAY: Duration = Duration::from_millis(50);

/// What was begun last has ended after this time, however often the peer was busy.
const RENEWING: Duration = Duration::from_secs(60);

/// Time for both ends to part in: a successor of an IKE SA of which the peer has not heard, since it had made another one
/// and ended the old one, is deleted after two minutes, and the peer does not answer to that.
const PARTING: Duration = Duration::from_secs(180);

const WEST_HOME: &str = "192.0.2.1";
const WEST_ELSEWHERE: [&str; 2] = ["203.0.113.7", "198.51.100.9"];
const EAST_HOME: &str = "192.0.2.2";
const NAT_PUBLIC: &str = "198.51.100.1";

/// What the two hosts are configured to do. The ends agree wherever they must.
#[derive(Clone, Debug)]
struct Plan {
    /// West has any address and only it can begin.
    roaming: bool,
    nat: bool,
    two: bool,
    planes: [PlaneChoice; 2],
    ends: [EndPlan; 2],
}

/// What the ends can differ in.
#[derive(Clone, Debug)]
struct EndPlan {
    start: [StartAction; 2],
    has_two: bool,
    right_psk: bool,
    ike_lifetime: Duration,
    child_lifetime: Duration,
    margin: Duration,
    reauth: bool,
    mobike: bool,
    esp: Vec<EspProposal>,
    ike: Vec<IkeProposal>,
    dead_peer: Option<DeadPeerAction>,
    uniqueness: Uniqueness,
    initial_contact: bool,
    fragmentation: Fragmentation,
    fragment_size: u16,
    cookies: bool,
    window: u32,
    childless: Childless,
    intermediate: bool,
}

impl Plan {
    fn new(dice: &mut Dice) -> Self {
        let roaming = dice.once_in(3);
        let uniqueness = dice.one_of(&[
            Uniqueness::Replace,
            Uniqueness::Replace,
            Uniqueness::Replace,
            Uniqueness::No,
        ]);
        let reauth = dice.once_in(8);
        let mobike = dice.once_in(2);
        let pfs = dice.once_in(2);
        let choice = |dice: &mut Dice| {
            dice.one_of(&[
                PlaneChoice::Kernel,
                PlaneChoice::Kernel,
                PlaneChoice::Userspace,
            ])
        };
        let childless = dice.one_of(&[
            Childless::Allow,
            Childless::Allow,
            Childless::Prefer,
            Childless::Force,
        ]);
        let end = |dice: &mut Dice| EndPlan {
            start: [(); 2].map(|()| {
                dice.one_of(&[
                    StartAction::Start,
                    StartAction::Start,
                    StartAction::Start,
                    StartAction::Add,
                    StartAction::OnDemand,
                    StartAction::Keep,
                ])
            }),
            has_two: true,
            right_psk: true,
            ike_lifetime: dice.millis(60_000, 600_000),
            child_lifetime: Duration::from_secs(30 + dice.below(200)),
            margin: LEAST_MARGIN + dice.millis(0, 10_000),
            reauth,
            mobike: mobike && !dice.once_in(8),
            esp: esp_proposals(dice, pfs),
            ike: ike_proposals(dice),
            dead_peer: dice.one_of(&[None, None, Some(DeadPeerAction::Restart)]),
            uniqueness,
            initial_contact: !dice.once_in(4),
            fragmentation: dice.one_of(&[
                Fragmentation::Yes,
                Fragmentation::Yes,
                Fragmentation::Accept,
                Fragmentation::No,
            ]),
            fragment_size: dice.one_of(&[1280, 1280, 1280, 300]),
            cookies: dice.once_in(8),
            window: dice.one_of(&[1, 1, 1, 2, 5]),
            childless,
            intermediate: dice.once_in(4),
        };
        Self {
            roaming,
            nat: roaming && dice.once_in(2),
            two: dice.once_in(3),
            planes: [choice(dice), choice(dice)],
            ends: [end(dice), end(dice)],
        }
    }

    fn connections(&self, host: usize) -> ConnectionSet {
        let end = &self.ends[host];
        let mut connections = vec![self.connection(host, 0)];
        if self.two && end.has_two {
            connections.push(self.connection(host, 1));
        }
        let psk = if end.right_psk { "secret" } else { "another" };
        let mut set = set(connections, psk);
        set.setup.uniqueness = end.uniqueness;
        if end.cookies {
            set.setup.cookie_threshold = 0;
        }
        set
    }

    fn connection(&self, host: usize, index: usize) -> Connection {
        let end = &self.ends[host];
        let mut c = connection(["one", "two"][index], end.start[index], self.planes[index]);
        if self.roaming {
            let spec = if host == WEST {
                HostSpec::DefaultRoute
            } else {
                HostSpec::Any
            };
            c.left.host = Sourced::default_value(spec);
        }
        let net = |text: String| vec![TsTemplate::prefix(text.parse().expect("a prefix"))];
        c.left.subnets = net(format!("10.1.{index}.0/24"));
        c.right.subnets = net(format!("10.2.{index}.0/24"));
        c.ike.proposals = Sourced::default_value(end.ike.clone());
        c.ike.retransmit = RetransmitPolicy {
            initial: Duration::from_millis(500),
            factor_tenths: 20,
            max_interval: Duration::from_secs(4),
            timeout: Duration::from_secs(15),
            jitter_percent: 20,
        };
        c.ike.liveness = Some(Duration::from_secs(20));
        c.ike.dead_peer = end.dead_peer;
        c.ike.fragmentation = end.fragmentation;
        c.ike.fragment_size = end.fragment_size;
        c.ike.mobike = end.mobike;
        c.ike.lifetime = end.ike_lifetime;
        c.ike.reauth = end.reauth;
        c.ike.initial_contact = end.initial_contact;
        c.ike.window = end.window;
        c.ike.childless = end.childless;
        c.ike.intermediate = end.intermediate;
        c.ike.accept_redirect = AcceptRedirect::Any;
        c.child.proposals = Sourced::default_value(end.esp.clone());
        c.child.lifetime = end.child_lifetime;
        c.child.rekey_margin = end.margin;
        c.child.rekey_fuzz = 100;
        c
    }

    /// Counts what takes part.
    fn count(&self, counts: &mut Counts) {
        let any = |is: fn(&EndPlan) -> bool| self.ends.iter().any(is);
        let both = |is: fn(&EndPlan) -> bool| self.ends.iter().all(is);
        let optional = |end: &EndPlan| end.ike.iter().any(|p| !p.additional[0].is_empty());
        for (is, name) in [
            (self.nat, "behind a nat"),
            (self.roaming, "with a peer that may be anywhere"),
            (self.two, "with several children"),
            (any(|end| end.reauth), "with reauthentication"),
            (both(|end| end.mobike), "with mobike at both ends"),
            (any(|end| end.window > 1), "with windows"),
            (
                any(|end| end.childless != Childless::Allow),
                "without child in ike_auth",
            ),
            (any(|end| end.cookies), "with cookies"),
            (any(|end| end.fragment_size == 300), "with small fragments"),
            (both(optional), "with additional key exchanges"),
        ] {
            if is {
                counts.add(&format!("run {name}"));
            }
        }
    }

    /// The packets whose way is watched.
    fn flows(&self) -> Vec<(Flow, usize)> {
        (0..1 + usize::from(self.two))
            .map(|index| {
                let plane = match self.planes[index] {
                    PlaneChoice::Userspace => Plane::Userspace,
                    _ => Plane::Kernel,
                };
                let flow = Flow {
                    src: ip(&format!("10.1.{index}.7")),
                    dst: ip(&format!("10.2.{index}.9")),
                    ..packet()
                };
                (flow, plane_index(plane))
            })
            .collect()
    }
}

fn esp_proposals(dice: &mut Dice, pfs: bool) -> Vec<EspProposal> {
    let mut proposal = EspProposal::default_list().swap_remove(0);
    proposal.encryption = vec![Encryption::Aes128Gcm16, Encryption::Aes256Gcm16];
    if dice.once_in(2) {
        proposal.encryption.reverse();
    }
    proposal.integrity = Vec::new();
    if pfs {
        // The first is the one to guess.
        proposal.key_exchange = vec![KeyExchange::X25519, KeyExchange::Ecp256];
        if dice.once_in(4) {
            proposal.key_exchange.reverse();
        }
    }
    vec![proposal]
}

fn ike_proposals(dice: &mut Dice) -> Vec<IkeProposal> {
    let mut proposal = IkeProposal::default_list().swap_remove(0);
    proposal.encryption = vec![Encryption::Aes128Gcm16];
    proposal.integrity = Vec::new();
    proposal.prf = vec![Prf::HmacSha256];
    proposal.key_exchange = vec![KeyExchange::X25519, KeyExchange::Ecp256];
    proposal.additional = Default::default();
    if dice.once_in(4) {
        proposal.key_exchange.reverse();
    }
    if dice.once_in(4) {
        proposal.additional[0] = vec![Some(KeyExchange::MlKem768), None];
    }
    vec![proposal]
}

/// How a run is to be made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// With real key exchanges.
    pub real_crypto: bool,
    /// Print what happens.
    pub trace: bool,
}

/// Makes the run of a seed. What happened is counted; what must not have is returned.
pub fn run(seed: u64, options: Options, counts: &mut Counts) -> Result<(), Violation> {
    let mut dice = Dice::new(seed, 0x5eed);
    let plan = Plan::new(&mut dice);
    if options.trace {
        println!("{plan:#?}");
    }
    let key_exchange: Arc<dyn KeyExchangeProvider> = if options.real_crypto {
        Arc::new(StandardKeyExchange)
    } else {
        Arc::new(InsecureKeyExchange)
    };
    let addresses = [ip(WEST_HOME), ip(EAST_HOME)];
    let mut world = World::new(seed, key_exchange, addresses, options.trace);
    world.nat = plan.nat.then(|| Nat::new(ip(NAT_PUBLIC)));
    world.watch_flows(plan.flows());
    world.initial_contact = [WEST, EAST].map(|host| plan.ends[host].initial_contact);
    for host in &mut world.hosts {
        host.plane_delay = dice.millis(0, 1) * (dice.below(50) as u32);
        debug_assert!(host.plane_delay <= PLANE_DELAY);
    }
    let starts = |host: usize| {
        plan.ends[host]
            .start
            .map(|start| start == StartAction::Start)
    };
    let wants = [WEST, EAST].map(starts);
    let mut run = Run {
        dice,
        plan,
        world,
        wants,
    };
    run.plan.count(&mut run.world.counts);
    let outcome = run.all();
    counts.merge(&run.world.counts);
    for ((one, other, same), count) in &run.world.observer.crossings {
        let name = match (one, other) {
            (_, Kind::Another) => "crossing any / another".to_owned(),
            _ => format!("crossing {} / {}", one.name(), other.name()),
        };
        counts.add_many(&name, *count);
        if *same {
            counts.add_many(&format!("{name} (of the same SA)"), *count);
        }
    }
    counts.add_many("digest", run.world.digest());
    counts.add_many("stretches of sending judged", run.world.sads.judged);
    counts.add_many(
        "stretches of sending judged strictly",
        run.world.sads.judged_strictly,
    );
    outcome
}

struct Run {
    dice: Dice,
    plan: Plan,
    world: World,
    /// By host and connection: a person wants it up for certain. What the engine believes of it is another matter.
    wants: [[bool; 2]; 2],
}

impl Run {
    fn all(&mut self) -> Result<(), Violation> {
        for host in [EAST, WEST] {
            let set = self.plan.connections(host);
            self.world.load(host, set);
        }
        self.set_weather();
        let actions = 2 + self.dice.below(18);
        for _ in 0..actions {
            let pause = match self.dice.below(4) {
                0 => self.dice.millis(0, 50),
                1 => self.dice.millis(0, 1000),
                2 => self.dice.millis(0, 8000),
                _ => self.dice.millis(0, 40_000),
            };
            self.world.run_for(pause);
            self.world.check()?;
            self.disturb();
        }
        let rest = self.dice.millis(0, 10_000);
        self.world.run_for(rest);
        self.calm();
        self.world.run_for(RECOVERY);
        self.world.check()?;
        self.wait_for_agreement()?;
        self.world.check_reaches_west()?;
        self.renew_only()?;
        self.world.sads.judge(self.world.start, self.world.now)?;
        self.part()
    }

    /// Everything is renewed, often by both ends at once, on a network that repeats, reorders, delays and loses, but no
    /// message so often that an exchange would fail. No packet may be lost to that.
    fn renew_only(&mut self) -> Result<(), Violation> {
        let dice = &mut self.dice;
        self.world.weather = Weather {
            loss: dice.one_of(&[0, 50, 200]),
            duplicates: dice.below(200),
            delayed: dice.one_of(&[0, 100]),
            latency: (1 + dice.below(10), 11 + dice.below(200)),
            late: (500, 2000),
        };
        self.world.most_losses = MOST_LOSSES;
        // With several IKE SAs to the same peer (`uniqueids=no`) each end may authenticate anew under the one that the
        // other is leaving, and of connections that share an IKE SA each end does so for those that it wants: what is
        // then lost is made again.
        let mut hosts = self.world.hosts.iter();
        let single = hosts.all(|host| host.engine.endpoint().ike_sas().count() < 2);
        if single && !(self.plan.ends[WEST].reauth && self.plan.two) {
            // What is made under another IKE SA takes the place of what a plane is still working on under this one.
            let gap = match self.plan.ends[WEST].reauth {
                true => 4 * PLANE_DELAY,
                false => Duration::ZERO,
            };
            self.world.sads.be_strict(self.world.now, gap);
        } else {
            self.world.counts.add("renewals not judged");
        }
        for _ in 0..self.dice.below(8) {
            let pause = match self.dice.below(3) {
                0 => self.dice.millis(0, 100),
                1 => self.dice.millis(0, 1500),
                _ => self.dice.millis(0, 15_000),
            };
            self.world.run_for(pause);
            let what = ["rekey child", "rekey child", "rekey ike", "soft limit"];
            let hosts: &[usize] = match self.dice.below(4) {
                0 => &[WEST],
                1 => &[EAST],
                _ => &[WEST, EAST],
            };
            for &host in hosts {
                let what = self.dice.one_of(&what);
                let name = self.one_connection();
                if self.act(host, what, name) {
                    self.world
                        .counts
                        .add(&format!("event {what}, nothing else"));
                }
                let pause = self.dice.millis(0, 60);
                self.world.run_for(pause);
            }
            self.world.check()?;
        }
        self.world.run_for(RENEWING);
        self.world.weather = Weather::CALM;
        self.world.check()?;
        self.wait_for_agreement()
    }

    fn one_connection(&mut self) -> &'static str {
        match self.plan.two {
            true => self.dice.one_of(&["one", "two"]),
            false => "one",
        }
    }

    fn set_weather(&mut self) {
        let dice = &mut self.dice;
        let least = 1 + dice.below(30);
        self.world.weather = match dice.below(4) {
            0 => Weather {
                latency: (least, least + 20),
                ..Weather::CALM
            },
            kind => Weather {
                loss: dice.below(301),
                duplicates: dice.below(200),
                delayed: if kind == 1 { dice.below(150) } else { 0 },
                latency: (least, least + dice.below(500)),
                late: (1000, 1000 + dice.below(40_000)),
            },
        };
    }

    /// All is well from now on.
    fn calm(&mut self) {
        let world = &mut self.world;
        world.weather = Weather::CALM;
        world.dark_until = world.now;
        world.refusals = 0;
        for host in [WEST, EAST] {
            let end = &mut self.plan.ends[host];
            if !end.right_psk || !end.has_two {
                (end.right_psk, end.has_two) = (true, true);
                let set = self.plan.connections(host);
                world.sads.taken_down(world.now, host);
                world.load(host, set);
            }
        }
        let addresses = &world.hosts[WEST].addresses;
        if addresses.is_empty() || !self.plan.roaming && *addresses != [ip(WEST_HOME)] {
            world.readdress(WEST, vec![ip(WEST_HOME)]);
        }
    }

    /// One of the things that happen.
    fn disturb(&mut self) {
        let host = self.dice.host();
        let name = self.one_connection();
        // What both ends do at the same time is what crosses.
        let both = self.dice.once_in(4);
        let hosts: &[usize] = if both { &[WEST, EAST] } else { &[host] };
        let commands = [
            ("up", 4),
            ("down", 2),
            ("route", 1),
            ("unroute", 1),
            ("rekey child", 9),
            ("rekey ike", 7),
            ("restart", 2),
            ("reload", 1),
            ("reload changed", 3),
            ("soft limit", 8),
            ("hard limit", 2),
            ("address change", 3),
            ("nat rebinding", 2),
            ("esp from a new mapping", 1),
            ("packet", 3),
            ("weather change", 3),
            ("blackout", 2),
            ("planes refuse", 2),
            ("redirect", 1),
        ];
        let total = commands.iter().map(|(_, weight)| weight).sum();
        let mut rest = self.dice.below(total);
        let mut what = "up";
        for (command, weight) in commands {
            if rest < weight {
                what = command;
                break;
            }
            rest -= weight;
        }
        let mut happened = false;
        for &host in hosts {
            // The two ends seldom do the same within the same instant, and often different things.
            let what = if both && host == EAST && self.dice.once_in(2) {
                self.dice.one_of(&[
                    "rekey child",
                    "rekey ike",
                    "down",
                    "up",
                    "hard limit",
                    "soft limit",
                ])
            } else {
                what
            };
            happened |= self.act(host, what, name);
            if happened {
                self.world.counts.add(&format!("event {what}"));
            }
            if both {
                let pause = self.dice.millis(0, 30);
                self.world.run_for(pause);
            }
        }
    }

    fn act(&mut self, host: usize, what: &str, name: &str) -> bool {
        let world = &mut self.world;
        let now = world.now;
        match what {
            "restart" => {
                let set = self.plan.connections(host);
                self.wants[host] = self.plan.ends[host].start.map(|s| s == StartAction::Start);
                world.restart(host, set);
            }
            "reload" => {
                let set = self.plan.connections(host);
                world.load(host, set);
            }
            "reload changed" => {
                self.change(host);
                // Connections that come and go, or start otherwise, are wanted as they say.
                self.wants[host] = [false; 2];
                self.world.sads.taken_down(now, host);
                let set = self.plan.connections(host);
                self.world.load(host, set);
            }
            "soft limit" | "hard limit" => {
                let which = self.dice.any();
                return world.limit(host, which, what == "hard limit");
            }
            "address change" => return self.readdress(),
            "nat rebinding" => match &mut world.nat {
                Some(nat) => {
                    nat.rebind();
                    if self.dice.once_in(3) {
                        nat.public = ip(["198.51.100.1", "198.51.100.2"]
                            [usize::from(nat.public == ip(NAT_PUBLIC))]);
                    }
                }
                None => return false,
            },
            "esp from a new mapping" => return world.mapping(),
            "planes refuse" => world.refusals = self.dice.one_of(&[0, 20, 100, 400]),
            "redirect" => return world.redirect(host, name),
            "packet" => {
                let flow = usize::from(name == "two");
                world.packet(host, flow);
            }
            "weather change" => self.set_weather(),
            "blackout" => world.dark_until = now + self.dice.millis(100, 45_000),
            command => {
                let index = usize::from(name == "two");
                let known = world.command(host, command, name);
                match command {
                    "up" => self.wants[host][index] = known,
                    "down" | "route" | "unroute" => self.wants[host][index] = false,
                    _ => {}
                }
            }
        }
        true
    }

    /// Something in the configuration of a host that leaves it compatible with the other one's, or does so once both
    /// have been put right.
    fn change(&mut self, host: usize) {
        let dice = &mut self.dice;
        let end = &mut self.plan.ends[host];
        match dice.below(6) {
            0 => end.child_lifetime = Duration::from_secs(30 + dice.below(200)),
            1 => end.ike_lifetime = dice.millis(60_000, 600_000),
            2 => end.has_two = !end.has_two,
            3 => end.right_psk = !end.right_psk,
            4 => end.start[0] = dice.one_of(&[StartAction::Start, StartAction::OnDemand]),
            _ => end.mobike = !end.mobike,
        }
    }

    fn readdress(&mut self) -> bool {
        let world = &mut self.world;
        let home = if world.hosts[WEST].addresses.contains(&ip(WEST_HOME)) {
            WEST_ELSEWHERE
        } else {
            [WEST_HOME, WEST_ELSEWHERE[1]]
        };
        let [one, two] = home.map(ip);
        let addresses: Vec<IpAddr> = match self.dice.below(6) {
            0 => vec![],
            1 => {
                let mut several = world.hosts[WEST].addresses.clone();
                several.push(two);
                several.dedup();
                several
            }
            2 => vec![two],
            _ => vec![one],
        };
        world.readdress(WEST, addresses);
        true
    }

    /// Waits for a moment in which nothing is under way and looks whether the two ends agree then.
    fn wait_for_agreement(&mut self) -> Result<(), Violation> {
        let mut obstacle = String::new();
        for _ in 0..PATIENCE {
            match self.agreement() {
                Ok(()) => return Ok(()),
                Err(text) => obstacle = text,
            }
            let step = self.dice.millis(20, 150);
            self.world.run_for(step);
            self.world.check()?;
        }
        Err(obstacle)
    }

    fn agreement(&mut self) -> Result<(), Violation> {
        let world = &mut self.world;
        let now = world.now;
        let mut ikes = [Vec::new(), Vec::new()];
        let mut children = [Vec::new(), Vec::new()];
        let mut keys = [Vec::new(), Vec::new()];
        for (index, host) in world.hosts.iter_mut().enumerate() {
            let endpoint = host.engine.endpoint();
            for sa in endpoint.ike_sas() {
                if sa.state != IkeSaState::Established {
                    return Err(format!(
                        "host {index} has {} in state {}",
                        sa.id,
                        sa.state.name()
                    ));
                }
                ikes[index].push((sa.initiator_spi.0, sa.responder_spi.0, sa.children.len()));
            }
            for child in endpoint.child_sas() {
                if !child.outbound {
                    return Err(format!("host {index} does not send on {}", child.id));
                }
                let (tx, rx) = (child.spi_out, child.spi_in);
                children[index].push(if index == WEST { (rx, tx) } else { (tx, rx) });
            }
            for plane in &mut host.planes {
                for report in plane.sas().expect("in memory") {
                    let sa = report.sa;
                    let spi = sa.id.spi;
                    let ours = match sa.direction {
                        SaDirection::In => sa.id.dst,
                        SaDirection::Out => sa.src,
                    };
                    if !host.addresses.contains(&ours) {
                        return Err(format!("host {index} has {spi:08x} at {ours}"));
                    }
                    if report.state == SaState::Larval {
                        return Err(format!("host {index} has a larval SA {spi:08x}"));
                    }
                    // Of a child SA that was rekeyed the inbound SA stays for a little while.
                    let inbound = sa.direction == SaDirection::In;
                    if inbound && world.sads.lingers(now, index, spi) {
                        continue;
                    }
                    keys[index].push((
                        spi,
                        (sa.direction == SaDirection::In) == (index == WEST),
                        sa.encryption
                            .iter()
                            .flat_map(|e| e.key.as_bytes().to_vec())
                            .collect::<Vec<u8>>(),
                        sa.esn,
                        sa.mode == Mode::Tunnel,
                    ));
                }
            }
            ikes[index].sort_unstable();
            children[index].sort_unstable();
            keys[index].sort_unstable();
        }
        if ikes[0] != ikes[1] {
            return Err(format!(
                "the IKE SAs differ: {:x?} and {:x?}",
                ikes[0], ikes[1]
            ));
        }
        if children[0] != children[1] {
            return Err(format!(
                "the child SAs differ: {:x?} and {:x?}",
                children[0], children[1]
            ));
        }
        for (index, keys) in keys.iter().enumerate() {
            if keys.len() != 2 * children[index].len() {
                return Err(format!(
                    "host {index} has {} SAs installed for {} child SAs",
                    keys.len(),
                    children[index].len()
                ));
            }
        }
        if keys[0] != keys[1] {
            return Err("what is installed differs".to_owned());
        }
        for (index, host) in world.hosts.iter().enumerate() {
            if world.open_children(index) != children[index].len()
                || world.open_ikes(index) != ikes[index].len()
            {
                return Err(format!("host {index} has told of other SAs than it has"));
            }
            let engine = &host.engine;
            if engine.endpoint().half_open() + engine.endpoint().reassembling() > 0 {
                return Err(format!("host {index} has half-open IKE SAs or fragments"));
            }
        }
        // What is wanted is there.
        let status = [0, 1].map(|index| world.hosts[index].engine.status(now));
        let count = 1 + usize::from(self.plan.two);
        for (index, status) in status.iter().enumerate() {
            if status.connections.len() != count {
                return Err(format!(
                    "host {index} keeps connections that are not loaded"
                ));
            }
        }
        for name in &["one", "two"][..count] {
            let find = |index: usize| status[index].connections.iter().find(|c| c.name == *name);
            let (Some(west), Some(east)) = (find(WEST), find(EAST)) else {
                return Err(format!("connection {name} is not loaded"));
            };
            let index = usize::from(*name == "two");
            for (host, status) in [west, east].into_iter().enumerate() {
                if self.wants[host][index] && status.intent != Intent::Up {
                    return Err(format!("host {host} has given {name} up"));
                }
            }
            let wanted =
                west.intent == Intent::Up || east.intent == Intent::Up && !self.plan.roaming;
            if wanted && (west.children.is_empty() || east.children.is_empty()) {
                return Err(format!(
                    "connection {name} is wanted: it is {} and {}",
                    west.state, east.state
                ));
            }
        }
        Ok(())
    }

    /// Both ends leave off; nothing may be left over.
    fn part(&mut self) -> Result<(), Violation> {
        let first = self.dice.host();
        let how = self.dice.below(3);
        for host in [first, 1 - first] {
            let world = &mut self.world;
            let now = world.now;
            if how == 0 {
                // Everything goes out of the configuration.
                world.load(host, set(Vec::new(), "secret"));
            } else {
                world.hosts[host].engine.shutdown(now);
                world.pump(host);
            }
            let pause = match how {
                1 => Duration::ZERO,
                _ => self.dice.millis(0, 200),
            };
            world.run_for(pause);
        }
        let world = &mut self.world;
        world.run_for(PARTING);
        world.check()?;
        for index in [WEST, EAST] {
            if !world.hosts[index].engine.is_drained() {
                return Err(format!("host {index} is not drained"));
            }
            let now = world.now;
            if how == 0 && !world.hosts[index].engine.status(now).connections.is_empty() {
                return Err(format!("host {index} keeps unloaded connections"));
            }
            let open = (world.open_ikes(index), world.open_children(index));
            if open != (0, 0) {
                return Err(format!(
                    "host {index} has not told of the end of {open:?} SAs"
                ));
            }
            if let Some(spi) = world.forgotten_spi(index) {
                return Err(format!("host {index} has not given {spi:08x} back"));
            }
            let host = &mut world.hosts[index];
            let endpoint = host.engine.endpoint();
            let left = (
                endpoint.size(),
                endpoint.half_open(),
                endpoint.reassembling(),
            );
            if left != (0, 0, 0) {
                return Err(format!(
                    "host {index}: IKE SAs, half-open ones, fragments left over: {left:?}"
                ));
            }
            for plane in &mut host.planes {
                let left = (
                    plane.sas().expect("in memory").len(),
                    plane.policies().expect("in memory").len(),
                );
                if left != (0, 0) {
                    return Err(format!("host {index}: SAs, policies left over: {left:?}"));
                }
            }
            if !host.protections.is_empty() {
                return Err(format!("host {index} has fences left over"));
            }
        }
        Ok(())
    }
}
