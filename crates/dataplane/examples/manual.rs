//! A plane keyed by hand, as `ip xfrm` keys the kernel's: for experiments, and for the tests against
//! the kernel's own ESP and AH.
//!
//! ```text
//! manual device=cygnet0 local=192.0.2.1 remote=192.0.2.2 net=10.1.0.0/24,10.2.0.0/24 \
//!        in=0x80000001,HEX out=0x100,HEX [cipher=ENCR[:INTEG] | ah=INTEG] \
//!        [mode=tunnel|transport|beet] [udp=4500] [esn] [align4] [ipcomp] [mark=7]
//! ```
//!
//! `cipher` gives IKEv2's numbers, 20 (AES-GCM) if it is not there. HEX is the encryption key with its
//! salt, followed by a comma and the integrity key if there is one; with AH the integrity key alone.
//! `net` may be given again. Set the device up and route into it yourself. What has passed is printed
//! whenever it has changed; the program ends when its input does.

use std::error::Error;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use cygnet_dataplane::{Config, Dataplane, Handle, Tun};
use cygnet_ipsec::{
    CipherKey, Command, Compression, Direction, Encap, EncapKind, IntegrityKey, Lifetime, Mark,
    Mode, Policy, PolicyKey, Protocol, Reply, Sa, SaDatabase, SaDirection, SaFlags, SaId, Selector,
    Template,
};
use ipnet::IpNet;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = |name: &'static str| {
        arguments
            .iter()
            .filter_map(move |a| a.strip_prefix(name)?.strip_prefix('='))
    };
    let one = |name: &'static str| all(name).next().ok_or(format!("{name}= is missing"));
    let local: IpAddr = one("local")?.parse()?;
    let remote: IpAddr = one("remote")?.parse()?;
    let udp: Option<u16> = all("udp").next().map(str::parse).transpose()?;
    let mark: Option<u32> = all("mark").next().map(str::parse).transpose()?;
    let mode = match all("mode").next() {
        Some("transport") => Mode::Transport,
        Some("beet") => Mode::Beet,
        _ => Mode::Tunnel,
    };
    // The lower halves of the SPIs are the CPIs.
    let ipcomp = arguments.iter().any(|a| a == "ipcomp");
    let around = if ipcomp { Mode::Transport } else { mode };
    let ah: Option<u16> = all("ah").next().map(str::parse).transpose()?;
    let protocol = if ah.is_some() {
        Protocol::Ah
    } else {
        Protocol::Esp
    };
    let cipher = all("cipher").next().unwrap_or("20");
    let (encryption, integrity) = match cipher.split_once(':') {
        Some((encryption, integrity)) => (encryption, Some(integrity.parse()?)),
        None => (cipher, None),
    };
    let encryption: Option<u16> = match ah {
        None => Some(encryption.parse()?),
        Some(_) => None,
    };

    // Events have no reader: nobody negotiates here.
    let (events, _) = sync_channel(1);
    let plane = Dataplane::start(Config {
        socket_mark: mark,
        ..Config::new(events)
    })?;
    plane.add_device(Tun::create(one("device")?)?, 0)?;
    if let Some(port) = udp {
        let local = SocketAddr::new(local, port);
        plane.add_udp_socket(UdpSocket::bind(local)?.into(), local)?;
    }

    let mut ids = Vec::new();
    for direction in [SaDirection::In, SaDirection::Out] {
        let (name, src, dst) = match direction {
            SaDirection::In => ("in", remote, local),
            SaDirection::Out => ("out", local, remote),
        };
        let (spi, keys) = one(name)?.split_once(',').ok_or("an SA is SPI,KEY")?;
        let spi = u32::from_str_radix(spi.trim_start_matches("0x"), 16)?;
        let (key, integrity_key) = match ah {
            None => keys.split_once(',').unwrap_or((keys, "")),
            Some(_) => ("", keys),
        };
        let sa = Sa {
            id: SaId {
                dst,
                spi,
                protocol,
                mark: Mark::ANY,
            },
            src,
            direction,
            mode: around,
            reqid: 1,
            if_id: 0,
            set_mark: None,
            encryption: encryption
                .map(|transform| {
                    bytes(key).map(|key| CipherKey {
                        transform,
                        key: key.into(),
                    })
                })
                .transpose()?,
            integrity: ah
                .or(integrity)
                .map(|transform| {
                    bytes(integrity_key).map(|key| IntegrityKey {
                        transform,
                        key: key.into(),
                    })
                })
                .transpose()?,
            encap: udp.map(|port| Encap {
                kind: EncapKind::Udp,
                local_port: port,
                remote_port: port,
            }),
            replay_window: if direction == SaDirection::In { 64 } else { 0 },
            esn: arguments.iter().any(|a| a == "esn"),
            selector: match (mode, all("net").next().and_then(|net| net.split_once(','))) {
                (Mode::Beet, Some((ours, theirs))) => Some(match direction {
                    SaDirection::Out => Selector::new(ours.parse()?, theirs.parse()?),
                    SaDirection::In => Selector::new(theirs.parse()?, ours.parse()?),
                }),
                _ => None,
            },
            lifetime: Lifetime::UNLIMITED,
            flags: SaFlags {
                af_unspec: around == Mode::Tunnel,
                align4: arguments.iter().any(|a| a == "align4"),
                ..SaFlags::default()
            },
            acquire_seq: 0,
            tfc_pad: 0,
            compression: None,
            iptfs: None,
            cpu: None,
            label: None,
        };
        ids.push(sa.id);
        if ipcomp {
            let id = SaId {
                spi: spi & 0xffff,
                protocol: Protocol::Comp,
                ..sa.id
            };
            let comp = Sa {
                compression: Some(Compression::Deflate),
                ..Sa::new(id, src, direction, mode, sa.reqid)
            };
            plane.clone().execute(&Command::InstallSa(Box::new(comp)))?;
        }
        plane.clone().execute(&Command::InstallSa(Box::new(sa)))?;
    }
    for net in all("net") {
        let (ours, theirs) = net.split_once(',').ok_or("a net is OURS,THEIRS")?;
        let (ours, theirs): (IpNet, IpNet) = (ours.parse()?, theirs.parse()?);
        for (direction, from, to, src, dst) in [
            (Direction::Out, ours, theirs, local, remote),
            (Direction::In, theirs, ours, remote, local),
        ] {
            let mut policy = Policy::new(PolicyKey::new(direction, Selector::new(from, to)));
            let template = |protocol, mode| Template {
                src,
                dst,
                spi: 0,
                protocol,
                reqid: 1,
                mode,
                optional: protocol == Protocol::Comp && direction == Direction::In,
            };
            policy.templates = vec![template(protocol, around)];
            if ipcomp {
                policy.templates.insert(0, template(Protocol::Comp, mode));
            }
            plane
                .clone()
                .execute(&Command::InstallPolicy(Box::new(policy)))?;
        }
    }
    println!("ready");

    let input = thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let mut before = String::new();
    while !input.is_finished() {
        let now = status(&plane, &ids)?;
        if now != before {
            println!("{now}");
            before = now;
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn status(plane: &Handle, ids: &[SaId]) -> Result<String> {
    let mut line = String::new();
    for id in ids {
        if let Reply::Sa(report) = plane.clone().execute(&Command::QuerySa(*id))? {
            let (packets, bytes) = (report.counters.packets, report.counters.bytes);
            line += &format!("{:08x}: {packets} packets {bytes} bytes, ", id.spi);
        }
    }
    let report = plane.counters()?;
    let xfrm = report.xfrm.iter().map(|(counter, n)| (counter.name(), n));
    for (name, n) in xfrm.chain(report.core.iter()).chain(report.io.iter()) {
        if n > 0 {
            line += &format!("{name} {n}, ");
        }
    }
    Ok(line)
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    (0..hex.len())
        .step_by(2)
        .map(|at| {
            Ok(u8::from_str_radix(
                hex.get(at..at + 2).ok_or("odd number of digits")?,
                16,
            )?)
        })
        .collect()
}
