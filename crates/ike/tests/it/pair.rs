//! Two gateways and how their configurations differ from the usual one.

use std::sync::Arc;
use std::time::Duration;

use cygnet_crypto::IkeProposal;
use cygnet_ike::*;
use cygnet_wire::TrafficSelector;

use crate::sim::{Book, Sim};

/// A prefix with any protocol and port.
pub fn net(text: &str) -> TsTemplate {
    TsTemplate::prefix(text.parse().unwrap())
}

/// The selector of a prefix with any protocol and port.
pub fn range(text: &str) -> TrafficSelector {
    net(text).resolve(EAST.parse().unwrap())
}

/// Two gateways, `east` at 192.0.2.1 with 10.1.0.0/16 and `west` at 192.0.2.2 with 10.2.0.0/16, and how each
/// configuration differs from the usual one.
pub struct Pair {
    pub east: PeerConfig,
    pub west: PeerConfig,
    pub east_child: ChildConfig,
    pub west_child: ChildConfig,
    pub east_config: EndpointConfig,
    pub west_config: EndpointConfig,
    pub east_psk: Vec<u8>,
    pub west_psk: Vec<u8>,
    pub east_ppks: Vec<Ppk>,
    pub west_ppks: Vec<Ppk>,
}

pub const EAST: &str = "192.0.2.1";
pub const WEST: &str = "192.0.2.2";
pub const NAT: &str = "203.0.113.9";

impl Default for Pair {
    fn default() -> Self {
        let id = |text: &str| -> Identity { text.parse().unwrap() };
        let (e, w) = (id("@east.example.com"), id("@west.example.com"));
        let tunnel =
            |name: &str, local, remote| ChildConfig::new(name, vec![net(local)], vec![net(remote)]);
        let key = b"an excellent shared secret".to_vec();
        let peer = |name: &str, local: &Identity, remote: &Identity| {
            let remote = PeerIdentity::Exactly(remote.clone());
            let mut peer = PeerConfig::new(name, local.clone(), remote);
            // Without additional key exchanges: four messages are enough for most tests.
            peer.proposals
                .retain(|p| p.additional.iter().all(Vec::is_empty));
            peer
        };
        Self {
            east: peer("to-west", &e, &w),
            west: peer("to-east", &w, &e),
            east_child: tunnel("to-west", "10.1.0.0/16", "10.2.0.0/16"),
            west_child: tunnel("to-east", "10.2.0.0/16", "10.1.0.0/16"),
            east_config: EndpointConfig::default(),
            west_config: EndpointConfig::default(),
            east_psk: key.clone(),
            west_psk: key,
            east_ppks: Vec::new(),
            west_ppks: Vec::new(),
        }
    }
}

impl Pair {
    /// The world with both: east is node 0, west is node 1.
    pub fn sim(mut self, seed: u64) -> Sim {
        self.east.children = vec![Arc::new(self.east_child)];
        self.west.children = vec![Arc::new(self.west_child)];
        let book = |peer: PeerConfig, key: Vec<u8>, ppks: Vec<Ppk>| {
            let remote = peer
                .remote_id
                .exact()
                .cloned()
                .unwrap_or_else(|| peer.local_id.clone());
            Book {
                psks: vec![(peer.local_id.clone(), remote, key)],
                peers: vec![Arc::new(peer)],
                ppks,
            }
        };
        let mut sim = Sim::new(seed);
        sim.add(
            "east",
            EAST,
            self.east_config,
            book(self.east, self.east_psk, self.east_ppks),
        );
        sim.add(
            "west",
            WEST,
            self.west_config,
            book(self.west, self.west_psk, self.west_ppks),
        );
        sim
    }
}

/// Seconds.
pub fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Both ends report one IKE SA and one child SA, and agree.
pub fn established(sim: &Sim) {
    assert_eq!(sim.event_names(0), ["ike_established", "child_established"]);
    assert_eq!(sim.event_names(1), ["ike_established", "child_established"]);
    sim.assert_agreement(0, 1);
}

/// A pair whose first end has begun, a second later.
pub fn run(pair: Pair) -> Sim {
    let mut sim = pair.sim(1);
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    sim
}

/// The IKE SA of a node that has one and no other.
pub fn only(sim: &Sim, node: usize) -> IkeSaInfo {
    let mut all = sim.nodes[node].endpoint.ike_sas();
    let one = all.next().expect("an IKE SA");
    assert!(all.next().is_none());
    one
}

/// The only child SA of a node.
pub fn child(sim: &Sim, node: usize) -> &ChildInstall {
    sim.nodes[node]
        .plane
        .installed
        .values()
        .next()
        .expect("a child SA is installed")
}

/// Why the IKE SA of a node has failed.
pub fn ike_failure(sim: &Sim, node: usize) -> FailureReason {
    let reason = sim.nodes[node].events.iter().find_map(|event| match event {
        Event::IkeFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    reason.expect("the IKE SA has failed")
}

/// Why the child SA of a node has failed.
pub fn child_failure(sim: &Sim, node: usize) -> ChildFailure {
    let reason = sim.nodes[node].events.iter().find_map(|event| match event {
        Event::ChildFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    reason.expect("the child SA has failed")
}

/// IKE proposals by their names.
pub fn ike(proposals: &str) -> Vec<IkeProposal> {
    IkeProposal::parse_ipsec_conf(proposals).unwrap()
}
