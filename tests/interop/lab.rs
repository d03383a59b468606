//! A pair of daemons, Cygnet on west and strongSwan on east, used by one test after the other.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use cygnet_tests::{
    Capture, Conf, Daemon, Family, Kind, Packet, Site, Swan, SwanChild, SwanConf, Until, echo_all,
    within,
};

use crate::{Case, Initiator};

/// Packets each way, half of them IPv4, half IPv6.
const PACKETS: u64 = 1000;

/// Those that no test uses at the moment.
#[derive(Debug, Default)]
pub struct Labs(Mutex<Vec<Lab>>);

impl Labs {
    /// Runs a case on a free pair, or on a new one.
    pub fn run(&self, case: &Case) -> Result<(), String> {
        let free = self.0.lock().map_err(|e| e.to_string())?.pop();
        let mut lab = free.unwrap_or_else(Lab::new);
        // A pair on which something went wrong is not used again.
        lab.run(case)
            .map_err(|text| format!("{text}\n{}\n{}", lab.swan.log_tail(), lab.cygnet_tail()))?;
        self.0.lock().map_err(|e| e.to_string())?.push(lab);
        Ok(())
    }
}

#[derive(Debug)]
struct Lab {
    // In the order in which they have to go.
    capture: Capture,
    swan: Swan,
    cygnet: Daemon,
    site: Site,
}

impl Lab {
    fn new() -> Self {
        let site = Site::new();
        let conf = Conf::site(Family::V4);
        let cygnet = Daemon::running(&site.west, &conf);
        let swan = Swan::start(&site.east);
        let file: PathBuf = cygnet.dir().join("router.pcap");
        let capture = Capture::start(&site.router, Site::TO_WEST, &file);
        Self {
            capture,
            swan,
            cygnet,
            site,
        }
    }

    fn cygnet_tail(&self) -> String {
        let log = self.cygnet.log();
        let lines: Vec<&str> = log.lines().collect();
        lines
            .get(lines.len().saturating_sub(25)..)
            .unwrap_or_default()
            .join("\n")
    }

    fn run(&mut self, case: &Case) -> Result<(), String> {
        let (ours, theirs) = configurations(case);
        self.cygnet.configure(&ours);
        expect("cygnet reload", self.cygnet.cygnet(&["reload"]))?;
        self.swan.load(&theirs);
        self.capture.new_packets();

        match case.initiator {
            Initiator::Cygnet => expect("cygnet up", self.cygnet.cygnet(&["up", "office"]))?,
            Initiator::StrongSwan => {
                expect(
                    "swanctl --initiate",
                    self.swan
                        .swanctl(&["--initiate", "--child", "net", "--timeout", "20"]),
                )?;
            }
        }
        let established = within(Duration::from_secs(5), || {
            self.cygnet
                .packets("office")
                .and_then(|_| self.swan.child("office"))
        });
        let established = established.ok_or("not up on both ends")?;
        negotiated(case, &established)?;

        for family in Family::ALL {
            // Each sent back: exactly half of the packets each way.
            let count = Until::Count(PACKETS / 2);
            echo_all(&self.site, family, count).map_err(|e| {
                let status = self.cygnet.status();
                format!("{e}\n{status:#}")
            })?;
        }
        self.compare()?;
        self.look_at_the_wire()?;

        expect("cygnet down", self.cygnet.cygnet(&["down", "office"]))?;
        within(Duration::from_secs(5), || {
            (self.cygnet.packets("office").is_none() && self.swan.child("office").is_none())
                .then_some(())
        })
        .ok_or("still up after `cygnet down`")?;
        // The goodbye belongs to this test.
        self.capture.new_packets();
        Ok(())
    }

    /// Both ends' counters, both directions: packets and octets.
    fn compare(&self) -> Result<(), String> {
        let mut last = (None, None);
        within(Duration::from_secs(3), || {
            let ours = self.cygnet.traffic("office");
            let theirs = self.swan.child("office").map(|c| {
                [c.packets_in, c.bytes_in, c.packets_out, c.bytes_out]
            });
            last = (ours, theirs);
            let [packets_in, _, packets_out, _] = ours?;
            (ours == theirs && packets_in == PACKETS && packets_out == PACKETS).then_some(())
        })
        .ok_or_else(|| {
            let (ours, theirs) = last;
            format!("sent {PACKETS} each way; packets and octets in and out: ours {ours:?}, the peer's {theirs:?}")
        })
    }

    /// Every packet of the tunnel passed the router as ESP, and nothing in clear.
    fn look_at_the_wire(&mut self) -> Result<(), String> {
        let esp = |packets: &[Packet]| {
            packets
                .iter()
                .filter(|p| matches!(p.kind, Kind::Esp { udp: true, .. }))
                .count()
        };
        let expected = usize::try_from(2 * PACKETS).unwrap_or(usize::MAX);
        let packets = self
            .capture
            .until(Duration::from_secs(5), |all| esp(all) >= expected);
        if let Some(clear) = packets.iter().find(|p| p.kind == Kind::Clear) {
            return Err(format!("in clear on the wire: {clear:?}"));
        }
        match esp(&packets) {
            n if n == expected => Ok(()),
            n => Err(format!("{n} ESP packets on the wire, expected {expected}")),
        }
    }
}

fn expect(what: &str, outcome: cygnet_tests::Outcome) -> Result<(), String> {
    if outcome.ok() {
        Ok(())
    } else {
        Err(format!("{what}: {outcome:?}"))
    }
}

/// strongSwan's word on what was negotiated.
fn negotiated(case: &Case, child: &SwanChild) -> Result<(), String> {
    let missing = |wanted: &[&'static str], has: &[String]| {
        wanted
            .iter()
            .find(|w| !has.iter().any(|h| h == *w))
            .copied()
    };
    match missing(case.suite.ike.listed, &child.ike)
        .or_else(|| missing(case.suite.esp.listed, &child.esp))
    {
        Some(word) => Err(format!("no {word} in {child:?}")),
        None if !child.encapsulated => Err("ESP is not in UDP".to_owned()),
        None => Ok(()),
    }
}

fn configurations(case: &Case) -> (Conf, SwanConf) {
    let ours = Conf::site(case.outer)
        .set("ike", case.suite.ike.ours)
        .set("esp", case.suite.esp.ours);
    let theirs = SwanConf::site(case.outer)
        .connection(format!("proposals = {}", case.suite.ike.theirs))
        .child(format!("esp_proposals = {}", case.suite.esp.theirs));
    (ours, theirs)
}
