//! Two hosts in namespaces and what a tunnel between them is made of.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command as Process;
use std::time::{Duration, Instant};

use cygnet_ipsec as ipsec;
use cygnet_kernel::sadb::LinuxSadb;
use cygnet_kernel::{Sadb, SadbEvent};
use ipsec::{
    AllocateSpi, CipherKey, Command, CommandError, Compression, Direction, Encap, EncapKind, Event,
    IntegrityKey, Lifetime, Mark, Mode, Policy, PolicyKey, Protocol, Reply, Sa, SaDatabase,
    SaDirection, SaFlags, SaId, SaReport, SaState, Selector, Template,
};

use crate::common::{Netns, privileged, veth};

pub fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two hosts on one wire, each with a protected address of each family.
pub struct Pair {
    pub west: Host,
    pub east: Host,
}

pub struct Host {
    pub ns: Netns,
    pub sadb: LinuxSadb,
    pub outer: [IpAddr; 2],
    pub inner: [IpAddr; 2],
}

impl Host {
    pub fn outer(&self, v6: bool) -> IpAddr {
        self.outer[usize::from(v6)]
    }

    pub fn inner(&self, v6: bool) -> IpAddr {
        self.inner[usize::from(v6)]
    }

    pub fn execute(&mut self, command: Command) -> Result<Reply, CommandError> {
        self.sadb.execute(&command)
    }

    pub fn event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            match self.sadb.next_event().unwrap() {
                Some(SadbEvent::Event(event)) if wanted(&event) => return event,
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        panic!("the event did not come");
    }

    pub fn report(&mut self, id: SaId) -> SaReport {
        match self.execute(Command::QuerySa(id)) {
            Ok(Reply::Sa(report)) => *report,
            other => panic!("{other:?}"),
        }
    }

    pub fn ip(&self, arguments: &str) -> String {
        self.ns.run(|| {
            let output = Process::new("ip")
                .args(arguments.split_whitespace())
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout)
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
    }
}

impl Pair {
    pub fn new() -> Self {
        let (west, east) = (Netns::new("west"), Netns::new("east"));
        veth(&west, "eth0", &east, "eth0");
        let host = |ns: Netns, me: u8, peer: u8| {
            ns.ip(&format!("addr add 192.0.2.{me}/24 dev eth0"));
            ns.ip(&format!("addr add 2001:db8::{me}/64 dev eth0 nodad"));
            ns.ip(&format!("addr add 10.{me}.0.1/32 dev lo"));
            ns.ip(&format!("addr add 2001:db8:{me}::1/128 dev lo nodad"));
            ns.ip(&format!(
                "route add 10.{peer}.0.0/16 via 192.0.2.{peer} src 10.{me}.0.1"
            ));
            ns.ip(&format!(
                "-6 route add 2001:db8:{peer}::/48 via 2001:db8::{peer} src 2001:db8:{me}::1"
            ));
            let sadb = ns.run(|| LinuxSadb::open(None)).unwrap();
            Host {
                sadb,
                outer: [
                    addr(&format!("192.0.2.{me}")),
                    addr(&format!("2001:db8::{me}")),
                ],
                inner: [
                    addr(&format!("10.{me}.0.1")),
                    addr(&format!("2001:db8:{me}::1")),
                ],
                ns,
            }
        };
        Self {
            west: host(west, 1, 2),
            east: host(east, 2, 1),
        }
    }
}

/// Whether this kernel does ESP for both families. Says so if not.
pub fn with_esp(test: &str) -> bool {
    if !privileged(test) {
        return false;
    }
    let ns = Netns::new("probe");
    let capabilities = ns
        .run(|| LinuxSadb::open(None).and_then(|mut sadb| sadb.probe()))
        .unwrap();
    let has = capabilities.esp_v4.is_available() && capabilities.esp_v6.is_available();
    if !has {
        assert!(
            std::env::var_os("CYGNET_REQUIRE_ESP").is_none_or(|v| v != "1"),
            "{test} needs ESP in the kernel: {capabilities:?}"
        );
        eprintln!(
            "skipped {test}: this kernel has no ESP: {:?}",
            capabilities.esp_v4
        );
    }
    has
}

/// What a tunnel is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// ESP or AH.
    pub protocol: Protocol,
    /// IPComp inside: it has the mode then, and what is around it is in transport mode.
    pub compressed: bool,
    pub encryption: (u16, usize),
    pub integrity: Option<(u16, usize)>,
    pub mode: Mode,
    pub outer_v6: bool,
    pub inner_v6: bool,
    pub esn: bool,
    pub window: u32,
    pub encap: bool,
    pub tfc_pad: u32,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            protocol: Protocol::Esp,
            compressed: false,
            encryption: (20, 20),
            integrity: None,
            mode: Mode::Tunnel,
            outer_v6: false,
            inner_v6: false,
            esn: false,
            window: 32,
            encap: false,
            tfc_pad: 0,
        }
    }
}

impl Recipe {
    pub fn key(len: usize, salt: u8) -> Vec<u8> {
        (0..len)
            .map(|i| (i as u8).wrapping_mul(37) ^ salt)
            .collect()
    }

    /// The SA from `src` to `dst`; `salt` keeps the directions' keys apart.
    pub fn sa(&self, src: IpAddr, dst: IpAddr, spi: u32, direction: SaDirection, salt: u8) -> Sa {
        Sa {
            id: SaId {
                dst,
                spi,
                protocol: self.protocol,
                mark: Mark::ANY,
            },
            src,
            direction,
            mode: match self.compressed {
                true => Mode::Transport,
                false => self.mode,
            },
            reqid: 77,
            if_id: 0,
            set_mark: None,
            encryption: (self.protocol == Protocol::Esp).then(|| CipherKey {
                transform: self.encryption.0,
                key: Self::key(self.encryption.1, salt).into(),
            }),
            integrity: self.integrity.map(|(transform, len)| IntegrityKey {
                transform,
                key: Self::key(len, salt ^ 0x80).into(),
            }),
            encap: self.encap.then_some(Encap {
                kind: EncapKind::Udp,
                local_port: 4500,
                remote_port: 4500,
            }),
            replay_window: self.window,
            esn: self.esn,
            selector: None,
            lifetime: Lifetime::UNLIMITED,
            // On both ends and in both directions, as a key manager sets them: what does not suit
            // a direction must not make the kernel refuse it.
            flags: SaFlags {
                decap_dscp: true,
                dont_encap_dscp: true,
                no_pmtu_disc: true,
                icmp: true,
                ..SaFlags::default()
            },
            acquire_seq: 0,
            tfc_pad: self.tfc_pad,
            compression: None,
            iptfs: None,
            cpu: None,
            label: None,
        }
    }

    /// The IPComp SA beside one of ESP or AH, with the lower half of its SPI.
    pub fn ipcomp(&self, sa: &Sa) -> Sa {
        let id = SaId {
            protocol: Protocol::Comp,
            spi: cpi(sa.id.spi),
            ..sa.id
        };
        Sa {
            compression: Some(Compression::Deflate),
            ..Sa::new(id, sa.src, sa.direction, self.mode, sa.reqid)
        }
    }

    pub fn selectors(&self, from: &Host, to: &Host) -> Selector {
        let end = |host: &Host| match self.mode {
            Mode::Transport => host.outer(self.inner_v6),
            _ => host.inner(self.inner_v6),
        };
        Selector::new(end(from).into(), end(to).into())
    }

    pub fn policy(&self, from: &Host, to: &Host, direction: Direction) -> Policy {
        let mut policy = Policy::new(PolicyKey::new(direction, self.selectors(from, to)));
        policy.priority = 1000;
        let template = Template {
            src: from.outer(self.outer_v6),
            dst: to.outer(self.outer_v6),
            spi: 0,
            protocol: self.protocol,
            reqid: 77,
            mode: self.mode,
            optional: false,
        };
        policy.templates = match self.compressed {
            false => vec![template],
            true => vec![
                Template {
                    protocol: Protocol::Comp,
                    // What does not become smaller comes without.
                    optional: direction != Direction::Out,
                    ..template
                },
                Template {
                    mode: Mode::Transport,
                    ..template
                },
            ],
        };
        policy
    }
}

/// The CPI that goes with an SPI in these tests.
pub fn cpi(spi: u32) -> u32 {
    spi & 0x3fff | 0x4000
}

pub fn allocate(host: &mut Host, src: IpAddr, dst: IpAddr, mode: Mode) -> u32 {
    allocate_for(host, src, dst, mode, Protocol::Esp)
}

pub fn allocate_for(
    host: &mut Host,
    src: IpAddr,
    dst: IpAddr,
    mode: Mode,
    protocol: Protocol,
) -> u32 {
    let request = AllocateSpi {
        src,
        dst,
        protocol,
        mode,
        reqid: 77,
        if_id: 0,
        mark: Mark::ANY,
        min: 0xc000_0000,
        max: 0xcfff_ffff,
        acquire_seq: 0,
    };
    match host.execute(Command::AllocateSpi(request)) {
        Ok(Reply::Spi(spi)) => {
            assert!((0xc000_0000..=0xcfff_ffff).contains(&spi));
            spi
        }
        other => panic!("{other:?}"),
    }
}

/// The SAs of a tunnel that is up: identities of west to east and of east to west.
pub struct Tunnel {
    pub there: SaId,
    pub back: SaId,
}

pub fn up(pair: &mut Pair, recipe: &Recipe) -> Tunnel {
    let (w, e) = (
        pair.west.outer(recipe.outer_v6),
        pair.east.outer(recipe.outer_v6),
    );
    let mode = recipe.sa(w, e, 256, SaDirection::In, 1).mode;
    let spi_there = allocate_for(&mut pair.east, w, e, mode, recipe.protocol);
    let spi_back = allocate_for(&mut pair.west, e, w, mode, recipe.protocol);
    let to_east = recipe.selectors(&pair.west, &pair.east);
    let to_west = recipe.selectors(&pair.east, &pair.west);
    // BEET takes the inner addresses from the SA.
    let beet = |selector| (recipe.mode == Mode::Beet).then_some(selector);
    let there = |direction| Sa {
        selector: beet(to_east),
        ..recipe.sa(w, e, spi_there, direction, 1)
    };
    let back = |direction| Sa {
        selector: beet(to_west),
        ..recipe.sa(e, w, spi_back, direction, 2)
    };

    let inbound = there(SaDirection::In);
    assert_eq!(pair.east.report(inbound.id).state, SaState::Larval);
    let install = |sa: Sa| Command::InstallSa(Box::new(sa));
    let policies = |policies: [Policy; 2]| policies.map(|p| Command::InstallPolicy(Box::new(p)));
    let with_ipcomp = |sas: [Sa; 2]| -> Vec<Command> {
        let ipcomp: Vec<Sa> = sas.iter().map(|sa| recipe.ipcomp(sa)).collect();
        let ipcomp = ipcomp.into_iter().filter(|_| recipe.compressed);
        sas.into_iter().chain(ipcomp).map(install).collect()
    };
    let (west, east) = (&pair.west, &pair.east);
    let mut for_west = with_ipcomp([back(SaDirection::In), there(SaDirection::Out)]);
    for_west.extend(policies([
        recipe.policy(west, east, Direction::Out),
        recipe.policy(east, west, Direction::In),
    ]));
    let mut for_east = with_ipcomp([inbound, back(SaDirection::Out)]);
    for_east.extend(policies([
        recipe.policy(east, west, Direction::Out),
        recipe.policy(west, east, Direction::In),
    ]));
    for (host, commands) in [(&mut pair.west, for_west), (&mut pair.east, for_east)] {
        for (command, result) in commands.iter().zip(host.sadb.execute_all(&commands)) {
            assert_eq!(result, Ok(Reply::Done), "{recipe:?} {command:?}");
        }
    }
    Tunnel {
        there: there(SaDirection::Out).id,
        back: back(SaDirection::Out).id,
    }
}

pub fn down(pair: &mut Pair, recipe: &Recipe, tunnel: &Tunnel) {
    let keys = [
        recipe.policy(&pair.west, &pair.east, Direction::Out).key,
        recipe.policy(&pair.east, &pair.west, Direction::In).key,
        recipe.policy(&pair.east, &pair.west, Direction::Out).key,
        recipe.policy(&pair.west, &pair.east, Direction::In).key,
    ];
    for (host, keys) in [(&mut pair.west, &keys[..2]), (&mut pair.east, &keys[2..])] {
        let both = [tunnel.there, tunnel.back];
        let ipcomp = both.map(|id| SaId {
            spi: cpi(id.spi),
            protocol: Protocol::Comp,
            ..id
        });
        let ipcomp = ipcomp.into_iter().filter(|_| recipe.compressed);
        for id in both.into_iter().chain(ipcomp) {
            assert_eq!(host.execute(Command::RemoveSa(id)), Ok(Reply::Done));
            assert_eq!(
                host.execute(Command::RemoveSa(id)),
                Err(CommandError::NotFound)
            );
        }
        for key in keys {
            assert_eq!(host.execute(Command::RemovePolicy(*key)), Ok(Reply::Done));
        }
    }
}

/// Sends datagrams one way and says how many arrived.
pub fn datagrams(from: &Host, from_ip: IpAddr, to: &Host, to_ip: IpAddr, count: usize) -> usize {
    datagrams_of(100, from, from_ip, to, to_ip, count)
}

/// The same with so many octets in each, which compress well.
pub fn datagrams_of(
    octets: usize,
    from: &Host,
    from_ip: IpAddr,
    to: &Host,
    to_ip: IpAddr,
    count: usize,
) -> usize {
    let receiver = to.ns.udp(SocketAddr::new(to_ip, 7000));
    from.ns.run(|| {
        let socket = UdpSocket::bind(SocketAddr::new(from_ip, 0)).unwrap();
        for n in 0..count {
            let _ = socket.send_to(&vec![n as u8; octets], SocketAddr::new(to_ip, 7000));
        }
    });
    let mut received = 0;
    let end = Instant::now() + Duration::from_millis(1500);
    while received < count && Instant::now() < end {
        match receiver.recv(&mut [0; 2000]) {
            Ok(_) => received += 1,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    received
}
