//! Exchanges that cross each other, message by message (RFC 7296 §2.8, §2.25).
//!
//! Each test says which message arrives when. Three things are looked at: the SPIs in each data plane and which child
//! SA is sent on, what the endpoint believes, and what it has told, each thing once. In the end the network is well
//! again, and both ends must agree on what there is.

mod child_delete;
mod child_followup;
mod child_rekey;
mod create;
mod ike_followup;
mod ike_rekey;
mod rules;
mod sync;

use std::time::{Duration, Instant};

use cygnet_ike::*;
use cygnet_wire::Message;

use crate::forge::Forge;
use crate::pair::*;
use crate::sim::*;

/// The two ends. Which of them has begun the IKE SA is not said: a [`Lab`] may be turned round.
pub const E: usize = 0;
/// See [`E`].
pub const W: usize = 1;

/// Two ends with an IKE SA and a child SA between them, and all messages in the hands of the test.
///
/// Child SAs are called by the SPIs of both ends, the own one first: `e1` is the first that east has chosen, so the
/// child SA that there is in the beginning is `e1 w1` at east and `w1 e1` at west. IKE SAs are called by who has begun
/// their renewal, and the one in the beginning `first`.
pub struct Lab {
    pub sim: Sim,
    /// East is the node 1, which has not begun the first IKE SA.
    turned: bool,
    /// How many events of each node have been looked at.
    seen: [usize; 2],
}

/// The four nonces of two crossing exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonce {
    /// Of the initiator in the exchange that east begins.
    EastInitiator,
    /// Of the responder in it: west's.
    EastResponder,
    /// Of the initiator in the exchange that west begins.
    WestInitiator,
    /// Of the responder in it: east's.
    WestResponder,
}

/// A test with each end in each part.
pub fn both(test: impl Fn(Lab)) {
    for turned in [false, true] {
        test(Lab::new(Pair::default(), turned));
    }
}

/// A test with each end in each part, with either of the nonces by which east's exchange turns out redundant.
pub fn east_loses(test: impl Fn(Lab, Nonce)) {
    for lowest in [Nonce::EastInitiator, Nonce::EastResponder] {
        both(|lab| test(lab, lowest));
    }
}

/// As [`east_loses`], with those by which west's is.
pub fn west_loses(test: impl Fn(Lab, Nonce)) {
    for lowest in [Nonce::WestInitiator, Nonce::WestResponder] {
        both(|lab| test(lab, lowest));
    }
}

/// A test with each end in each part and each of the nonces the lowest.
pub fn each_nonce(test: impl Fn(Lab, Nonce)) {
    east_loses(&test);
    west_loses(&test);
}

impl Lab {
    pub fn new(pair: Pair, turned: bool) -> Self {
        Self::behind(None, pair, turned)
    }

    /// With a NAT.
    pub fn behind(nat: Option<Nat>, mut pair: Pair, turned: bool) -> Self {
        for config in [&mut pair.east_config, &mut pair.west_config] {
            config.key_log = true;
        }
        let mut sim = pair.sim(1);
        sim.nat = nat;
        sim.nodes[1].plane.next_spi = 0x1000;
        sim.initiate(0, WEST);
        sim.run_for(s(1));
        sim.manual = true;
        let seen = [0; 2];
        let mut lab = Self { sim, turned, seen };
        lab.tells(&["ike first", "child e1 w1"], &["ike first", "child w1 e1"]);
        lab
    }

    /// The place of an end in the simulation.
    pub fn at(&self, end: usize) -> usize {
        if self.turned { 1 - end } else { end }
    }

    pub fn node(&mut self, end: usize) -> &mut Node {
        let at = self.at(end);
        &mut self.sim.nodes[at]
    }

    /// Calls a method of an endpoint, and its plane does what it is asked to.
    pub fn act<T>(&mut self, end: usize, act: impl FnOnce(&mut Endpoint, Instant) -> T) -> T {
        let at = self.at(end);
        let result = self.sim.act(at, act);
        self.sim.run_for(Duration::ZERO);
        result
    }

    /// The child SA with an SPI of ours.
    #[track_caller]
    pub fn child(&self, end: usize, name: &str) -> ChildSaId {
        let mut infos = self.sim.nodes[self.at(end)].endpoint.child_sas();
        let found = infos.find(|info| self.short(info.spi_in) == name);
        found.unwrap_or_else(|| panic!("there is no {name}")).id
    }

    /// The IKE SA that an end would use.
    pub fn ike(&self, end: usize) -> IkeSaId {
        let sas = self.sim.nodes[self.at(end)].endpoint.ike_sas();
        let established = |sa: &IkeSaInfo| sa.state == IkeSaState::Established;
        sas.filter(established).last().expect("an IKE SA").id
    }

    /// A soft limit of a child SA.
    pub fn rekey(&mut self, end: usize, name: &str) {
        let child = self.child(end, name);
        self.act(end, |endpoint, now| endpoint.rekey_child(now, child));
    }

    /// A soft limit of the IKE SA.
    pub fn rekey_ike(&mut self, end: usize) {
        let ike = self.ike(end);
        self.act(end, |endpoint, now| endpoint.rekey_ike(now, ike));
    }

    /// A user's word, or a hard limit.
    pub fn delete(&mut self, end: usize, name: &str) {
        let child = self.child(end, name);
        self.act(end, |endpoint, now| endpoint.delete_child(now, child));
    }

    /// A user's word.
    pub fn delete_ike(&mut self, end: usize) {
        let ike = self.ike(end);
        self.act(end, |endpoint, now| endpoint.delete_ike(now, ike));
    }

    /// A further child SA like the first one.
    pub fn create(&mut self, end: usize) -> ChildSaId {
        let ike = self.ike(end);
        let config = self.node(end).book.peers[0].children[0].clone();
        let acquire = None;
        let request = ChildRequest { config, acquire };
        let child = self.act(end, |endpoint, now| {
            endpoint.create_child(now, ike, request)
        });
        child.expect("there is an IKE SA")
    }

    /// The next nonces are those of the requests.
    pub fn nonces_of_requests(&mut self, lowest: Nonce) {
        self.low(E, lowest == Nonce::EastInitiator);
        self.low(W, lowest == Nonce::WestInitiator);
    }

    /// The next nonces are those of the responses.
    pub fn nonces_of_responses(&mut self, lowest: Nonce) {
        self.low(E, lowest == Nonce::WestResponder);
        self.low(W, lowest == Nonce::EastResponder);
    }

    pub fn low(&mut self, end: usize, low: bool) {
        let lead = if low { 1 } else { 0x80 };
        *self.node(end).nonces.lock().unwrap() = Some(lead);
    }

    /// Both begin to renew the first child SA; gives east's request and west's.
    #[track_caller]
    pub fn both_rekey(&mut self, lowest: Nonce) -> (Datagram, Datagram) {
        self.nonces_of_requests(lowest);
        self.rekey(E, "e1");
        self.rekey(W, "w1");
        self.nonces_of_responses(lowest);
        (self.request(E), self.request(W))
    }

    /// Both begin to renew the IKE SA; gives east's request and west's.
    #[track_caller]
    pub fn both_rekey_ike(&mut self, lowest: Nonce) -> (Datagram, Datagram) {
        self.nonces_of_requests(lowest);
        self.rekey_ike(E);
        self.rekey_ike(W);
        self.nonces_of_responses(lowest);
        (self.request(E), self.request(W))
    }

    /// The only request that an end has sent and that has not been taken.
    #[track_caller]
    pub fn request(&mut self, end: usize) -> Datagram {
        self.take(end, false)
    }

    /// The only response that an end has sent and that has not been taken.
    #[track_caller]
    pub fn response(&mut self, end: usize) -> Datagram {
        self.take(end, true)
    }

    #[track_caller]
    fn take(&mut self, end: usize, response: bool) -> Datagram {
        let from = self.node(end).address;
        let is_it = |d: &Datagram| {
            let header = *Message::parse(&d.bytes).unwrap().header();
            d.src.ip() == from && header.flags.response == response
        };
        let mut found = self.sim.outbox.extract_if(.., |d| is_it(d));
        let (one, more) = (found.next(), found.next());
        drop(found);
        assert!(
            more.is_none(),
            "more than one: {:?}",
            self.read(&more.unwrap())
        );
        let kind = if response { "response" } else { "request" };
        one.unwrap_or_else(|| panic!("no {kind} of {}", self.node(end).name))
    }

    /// Nothing is on its way that has not been taken.
    #[track_caller]
    pub fn silent(&self) {
        let left: Vec<_> = self.sim.outbox.iter().map(describe).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// The plane of an end does what was held back.
    pub fn release(&mut self, end: usize) {
        let at = self.at(end);
        self.sim.release(at);
        self.sim.run_for(Duration::ZERO);
    }

    /// A message arrives, and the planes do what they are asked to.
    pub fn deliver(&mut self, datagram: &Datagram) {
        let datagram = self.sim.translate_out(datagram.clone());
        self.sim.deliver(datagram);
        self.sim.run_for(Duration::ZERO);
    }

    /// A request arrives; gives the response.
    #[track_caller]
    pub fn answer(&mut self, request: &Datagram) -> Datagram {
        self.deliver(request);
        let to = self.sim.nodes.iter().position(|n| n.has(request.dst.ip()));
        let end = self.at(to.unwrap());
        self.response(end)
    }

    /// A request arrives, and its response, too.
    #[track_caller]
    pub fn exchange(&mut self, request: &Datagram) {
        let response = self.answer(request);
        self.deliver(&response);
    }

    /// The notifications and deletions in a message, by the keys that have been told.
    #[track_caller]
    pub fn read(&self, datagram: &Datagram) -> String {
        unusual(&self.forge(datagram, false).read(datagram))
    }

    /// Somebody with the keys of the end that a message is for, or with those of its sender.
    #[track_caller]
    pub fn forge(&self, datagram: &Datagram, sender: bool) -> Forge {
        let header = *Message::parse(&datagram.bytes).unwrap().header();
        let events = self.sim.nodes.iter().flat_map(|n| &n.events);
        let keys = events.filter_map(|event| match event {
            Event::IkeEstablished { keys, .. } => keys.clone(),
            _ => None,
        });
        let mut keys = keys.filter(|k| k.initiator_spi == header.initiator_spi);
        let role = if header.flags.initiator == sender {
            Role::Initiator
        } else {
            Role::Responder
        };
        Forge::with_keys(keys.next().expect("its keys are known"), role)
    }

    /// The child SAs of a node: `e1>w1` is the one that it sends on, `e1+w1` one that it could send on, `e1-w1` one that
    /// it only receives on.
    #[track_caller]
    pub fn plane(&self, end: usize) -> String {
        let n = &self.sim.nodes[self.at(end)];
        let mut planes: Vec<_> = n.plane.installed.values().collect();
        planes.sort_by_key(|c| c.spi_in);
        let used = n.plane.sending.last();
        let mark = |c: &ChildInstall| match n.plane.sending.contains(&c.child) {
            true if used == Some(&c.child) => '>',
            true => '+',
            false => '-',
        };
        let mut infos: Vec<_> = n.endpoint.child_sas().collect();
        infos.sort_by_key(|c| c.spi_in);
        let believed: Vec<_> = infos
            .iter()
            .map(|c| (c.spi_in, c.spi_out, c.outbound))
            .collect();
        let installed: Vec<_> = planes
            .iter()
            .map(|c| (c.spi_in, c.spi_out, mark(c) != '-'))
            .collect();
        assert_eq!(believed, installed, "{}: endpoint and plane differ", n.name);
        let lines = planes.iter().map(|c| {
            let (own, peer) = (self.short(c.spi_in), self.short(c.spi_out));
            format!("{own}{}{peer}", mark(c))
        });
        lines.collect::<Vec<_>>().join(" ")
    }

    /// What both ends have in their planes.
    #[track_caller]
    pub fn planes(&self, east: &str, west: &str) {
        assert_eq!(
            (self.plane(E).as_str(), self.plane(W).as_str()),
            (east, west)
        );
    }

    /// What an end has told since the last time.
    pub fn told(&mut self, end: usize) -> Vec<String> {
        let at = self.at(end);
        let events = &self.sim.nodes[at].events;
        let name = |id: &ChildSaId| {
            let infos = events.iter().filter_map(|event| match event {
                Event::ChildEstablished { child, info, .. } if child == id => Some(info.spi_in),
                _ => None,
            });
            let mut names = infos.map(|spi| self.short(spi));
            names.next().unwrap_or_else(|| "?".to_owned())
        };
        let ike = |info: &IkeSaInfo| match (info.replaces, info.role == Role::Initiator, end) {
            (None, ..) => "first",
            (_, true, E) | (_, false, W) => "east's",
            _ => "west's",
        };
        let line = |event: &Event| match event {
            Event::IkeEstablished { info, .. } => format!("ike {}", ike(info)),
            Event::IkeClosed { info, reason, .. } => {
                format!("ike_closed {} {}", ike(info), reason.name())
            }
            Event::IkeRekeyFailed { reason, .. } => format!("ike_rekey_failed {}", reason.name()),
            Event::ChildrenMoved { children, .. } => {
                let names: Vec<_> = children.iter().map(name).collect();
                format!("moved {}", names.join(" "))
            }
            Event::ChildEstablished { info, .. } => {
                let (own, peer) = (self.short(info.spi_in), self.short(info.spi_out));
                format!("child {own} {peer}")
            }
            Event::ChildClosed { info, reason, .. } => {
                format!("child_closed {} {}", self.short(info.spi_in), reason.name())
            }
            Event::ChildRekeyFailed { child, reason, .. } => {
                format!("child_rekey_failed {} {}", name(child), reason.name())
            }
            Event::ChildFailed { reason, .. } => format!("child_failed {}", reason.name()),
            other => other.name().to_owned(),
        };
        let fresh = events.iter().skip(self.seen[at]);
        let lines = fresh.map(line).filter(|l| l != "retransmitting").collect();
        self.seen[at] = events.len();
        lines
    }

    /// The name of an SPI by the plane that has given it.
    fn short(&self, spi: u32) -> String {
        let (first, second) = if self.turned { ('w', 'e') } else { ('e', 'w') };
        match spi {
            0x1001..=0x1fff => format!("{first}{}", spi - 0x1000),
            0x2001..=0x2fff => format!("{second}{}", spi - 0x2000),
            other => format!("{other:#x}"),
        }
    }

    /// What both ends have told since the last time.
    #[track_caller]
    pub fn tells(&mut self, east: &[&str], west: &[&str]) {
        let (e, w) = (self.told(E), self.told(W));
        assert_eq!((e, w), (owned(east), owned(west)));
    }

    /// The network takes over. What is under way is lost, and repeated by its senders. Nothing more is told, and both
    /// ends agree.
    #[track_caller]
    pub fn finish(self) {
        self.finish_with(&[], &[]);
    }

    /// As [`Self::finish`], with what is still to be told.
    #[track_caller]
    pub fn finish_with(mut self, east: &[&str], west: &[&str]) -> Self {
        self.sim.manual = false;
        self.sim.outbox.clear();
        self.sim.run_for(s(400));
        self.tells(east, west);
        self.sim.assert_agreement(E, W);
        self
    }
}

/// What a message says beside what each CREATE_CHILD_SA has.
fn unusual(line: &str) -> String {
    let usual = ["SA", "KE", "Nonce", "TSi", "TSr"];
    let rest = line.split(' ').skip(3).filter(|word| !usual.contains(word));
    rest.collect::<Vec<_>>().join(" ")
}

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}
