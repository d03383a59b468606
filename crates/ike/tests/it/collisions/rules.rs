//! Peers with the right keys that break the rules: what they get, what it costs, and what stays.

use cygnet_crypto::EspProposal;
use cygnet_wire::{
    ExchangeType, KeId, Notify, NotifyType, Payload, PayloadWriter, Proposal, ProtocolId, Spi,
    TrafficSelector,
};

use super::*;

/// A west that says what the test says, in place of the real one.
struct Peer {
    lab: Lab,
    forge: Forge,
    next_id: u32,
    /// What the real one would ask for.
    child: Offer,
    ike: Offer,
    /// And what it would answer.
    child_answer: Offer,
    ike_answer: Offer,
    count: u8,
}

/// The payloads of a request.
#[derive(Clone, Default)]
struct Offer {
    proposals: Vec<Proposal>,
    key: Option<(KeId, Vec<u8>)>,
    ts_i: Vec<TrafficSelector>,
    ts_r: Vec<TrafficSelector>,
}

impl Offer {
    fn of(payloads: &[Payload<'_>]) -> Self {
        let mut offer = Self::default();
        for payload in payloads {
            match payload {
                Payload::Sa(sa) => offer.proposals = sa.to_proposals(),
                Payload::Ke(ke) => offer.key = Some((ke.method, ke.data.to_vec())),
                Payload::TsI(ts) => offer.ts_i = ts.selectors().collect(),
                Payload::TsR(ts) => offer.ts_r = ts.selectors().collect(),
                _ => {}
            }
        }
        offer
    }

    fn spi(mut self, spi: &[u8]) -> Self {
        for proposal in &mut self.proposals {
            proposal.spi = spi.to_vec();
        }
        self
    }

    fn write(&self, nonce: u8, w: &mut PayloadWriter<'_>) {
        w.sa(&self.proposals).nonce(&[nonce; 32]);
        if let Some((method, public)) = &self.key {
            w.ke(*method, public);
        }
        if !self.ts_i.is_empty() {
            w.ts_i(&self.ts_i).ts_r(&self.ts_r);
        }
    }
}

const CREATE: ExchangeType = ExchangeType::CREATE_CHILD_SA;
const INFORM: ExchangeType = ExchangeType::INFORMATIONAL;

/// What a request or response of the real end would say.
fn offer(lab: &Lab, message: &Datagram) -> Offer {
    let mut offer = Offer::default();
    let mut forge = lab.forge(message, true);
    forge.edit(message, |payloads, _| offer = Offer::of(payloads));
    offer
}

impl Peer {
    fn new(pair: impl Fn() -> Pair, turned: bool) -> Self {
        let lab = || Lab::new(pair(), turned);
        let mut other = lab();
        other.rekey_ike(W);
        let ike = {
            let request = other.request(W);
            offer(&other, &request)
        };
        let [child_answer, ike_answer] = [false, true].map(|ike| {
            let mut other = lab();
            if ike {
                other.rekey_ike(E);
            } else {
                other.rekey(E, "e1");
            }
            let request = other.request(E);
            let answer = other.answer(&request);
            offer(&other, &answer)
        });
        let mut lab = lab();
        lab.create(W);
        let request = lab.request(W);
        let child = offer(&lab, &request);
        let forge = lab.forge(&request, true);
        let next_id = Message::parse(&request.bytes).unwrap().header().message_id;
        // It says nothing more of its own.
        let at = lab.at(W);
        lab.sim.crash(at);
        Self {
            lab,
            forge,
            next_id,
            child,
            child_answer,
            ike,
            ike_answer,
            count: 0x40,
        }
    }

    fn both(test: impl Fn(Self)) {
        for turned in [false, true] {
            test(Self::new(Pair::default, turned));
        }
    }

    /// West's SPI of that number.
    fn spi(&self, number: u32) -> u32 {
        number + if self.lab.turned { 0x1000 } else { 0x2000 }
    }

    /// A message from west, whichever part it has in the IKE SA.
    fn message(
        &mut self,
        exchange: ExchangeType,
        response: bool,
        id: u32,
        write: impl FnOnce(&mut PayloadWriter<'_>),
    ) -> Datagram {
        let mut message = self.forge.message(exchange, response, id, write);
        message.src.set_ip(self.lab.node(W).address);
        message.dst.set_ip(self.lab.node(E).address);
        message
    }

    /// A request; gives what east says.
    #[track_caller]
    fn ask(
        &mut self,
        exchange: ExchangeType,
        write: impl FnOnce(&mut PayloadWriter<'_>),
    ) -> String {
        let id = self.next_id;
        self.next_id += 1;
        let request = self.message(exchange, false, id, write);
        let response = self.lab.answer(&request);
        unusual(&self.forge.read(&response))
    }

    /// A request for a child SA with west's SPI of that number, perhaps in place of another one.
    #[track_caller]
    fn create(&mut self, replaces: Option<u32>, number: u32) -> String {
        let spi = self.spi(number);
        let replaces = replaces.map(|number| self.spi(number));
        self.create_as(replaces, self.child.clone().spi(&spi.to_be_bytes()))
    }

    #[track_caller]
    fn create_as(&mut self, replaces: Option<u32>, offer: Offer) -> String {
        let nonce = self.nonce();
        self.ask(CREATE, |w| {
            if let Some(spi) = replaces {
                w.notify(&Notify {
                    protocol: ProtocolId::ESP,
                    spi: &spi.to_be_bytes(),
                    kind: NotifyType::REKEY_SA,
                    data: &[],
                });
            }
            offer.write(nonce, w);
        })
    }

    /// A request to renew the IKE SA.
    #[track_caller]
    fn rekey_ike(&mut self) -> String {
        let nonce = self.nonce();
        let offer = self.ike.clone().spi(&[nonce; 8]);
        self.ask(CREATE, |w| offer.write(nonce, w))
    }

    /// West speaks on the IKE SA that east has told of last, which west has begun.
    fn follow(&mut self) {
        let at = self.lab.at(E);
        let events = self.lab.sim.nodes[at].events.iter().rev();
        let mut keys = events.filter_map(|event| match event {
            Event::IkeEstablished { keys, .. } => keys.clone(),
            _ => None,
        });
        self.forge = Forge::with_keys(keys.next().unwrap(), Role::Initiator);
        self.next_id = 0;
    }

    #[track_caller]
    fn delete(&mut self, numbers: &[u32]) -> String {
        let spis: Vec<_> = numbers.iter().map(|n| Spi(self.spi(*n))).collect();
        self.ask(INFORM, |w| {
            w.delete(ProtocolId::ESP, &spis);
        })
    }

    /// West's response to the only request of east.
    #[track_caller]
    fn respond(&mut self, write: impl FnOnce(&mut PayloadWriter<'_>)) {
        let request = self.lab.request(E);
        let header = *Message::parse(&request.bytes).unwrap().header();
        let (exchange, id) = (header.exchange, header.message_id);
        let response = self.message(exchange, true, id, write);
        self.lab.deliver(&response);
    }

    /// West answers the only request of east.
    #[track_caller]
    fn accept(&mut self, answer: &Offer) {
        let nonce = self.nonce();
        self.respond(|w| answer.write(nonce, w));
    }

    /// An answer with west's SPI of that number.
    fn answer(&self, number: u32) -> Offer {
        let spi = self.spi(number).to_be_bytes();
        self.child_answer.clone().spi(&spi)
    }

    /// East has nothing any more.
    #[track_caller]
    fn nothing_is_left(&mut self) {
        self.lab.sim.run_for(s(100));
        let node = self.lab.node(E);
        assert_eq!(node.endpoint.size(), 0);
        assert!(node.plane.installed.is_empty() && node.plane.reserved.is_empty());
    }

    fn nonce(&mut self) -> u8 {
        self.count = self.count.checked_add(1).unwrap_or(0x40);
        self.count
    }
}

/// Some Windows do this.
#[test]
fn the_same_child_sa_is_renewed_twice() {
    Peer::both(|mut peer| {
        peer.create(Some(1), 2);
        peer.create(Some(1), 3);
        assert_eq!(peer.lab.plane(E), "e1>w1 e2-w2 e3-w3");
        assert_eq!(peer.delete(&[1]), "D(ESP 1)");
        assert_eq!(peer.lab.plane(E), "e2+w2 e3>w3");
        assert_eq!(peer.delete(&[2]), "D(ESP 1)");
        assert_eq!(peer.lab.plane(E), "e3>w3");
        assert_eq!(
            peer.lab.told(E),
            [
                "child e2 w2",
                "child e3 w3",
                "child_closed e1 rekeyed",
                "child_closed e2 deleted_by_peer"
            ]
        );
        peer.lab.silent();
    });
}

#[test]
fn the_same_child_sa_is_renewed_twice_and_the_successors_are_deleted() {
    Peer::both(|mut peer| {
        peer.create(Some(1), 2);
        peer.create(Some(1), 3);
        assert_eq!(peer.delete(&[2, 3]), "D(ESP 2)");
        // The old one goes on, and can be renewed by us again.
        assert_eq!(peer.lab.plane(E), "e1>w1");
        peer.lab.rekey(E, "e1");
        let request = peer.lab.request(E);
        assert_eq!(peer.lab.read(&request), "N(REKEY_SA)");
    });
}

#[test]
fn the_same_child_sa_is_renewed_twice_while_we_renew_it() {
    Peer::both(|mut peer| {
        peer.lab.rekey(E, "e1");
        assert_eq!(peer.create(Some(1), 2), "");
        assert_eq!(peer.create(Some(1), 3), "N(TEMPORARY_FAILURE)");
        assert_eq!(peer.lab.plane(E), "e1>w1 e3-w2");
    });
}

#[test]
fn the_same_child_sa_is_renewed_again_and_again() {
    let few = || {
        let mut pair = Pair::default();
        pair.east_config.max_children = 8;
        pair
    };
    let mut peer = Peer::new(few, false);
    let mut refused = 0;
    for number in 2..1000 {
        match peer.create(Some(1), number).as_str() {
            "" => {}
            "N(NO_ADDITIONAL_SAS)" => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(refused, 998 - 15);
    let plane = &peer.lab.node(E).plane;
    assert_eq!((plane.installed.len(), plane.reserved.len()), (16, 0));
    assert_eq!(plane.next_spi, 16);
    // Nobody is harmed: what there is can be deleted, and then there is room again.
    assert_eq!(peer.delete(&[1]), "D(ESP 1)");
    assert_eq!(peer.create(Some(2), 2000), "");
}

#[test]
fn thousands_of_child_sas() {
    let mut peer = Peer::new(Pair::default, false);
    for number in 2..3000 {
        let said = peer.create(None, number);
        let expected = if number <= 512 {
            ""
        } else {
            "N(NO_ADDITIONAL_SAS)"
        };
        assert_eq!(said, expected, "{number}");
    }
    assert_eq!(peer.lab.node(E).plane.installed.len(), 512);
    let told = peer.lab.told(E);
    let failed = told
        .iter()
        .filter(|l| *l == "child_failed too_many_children");
    assert_eq!(failed.count(), 3000 - 513);
    // The old ones can be renewed all the same.
    assert_eq!(peer.create(Some(1), 4000), "");
}

#[test]
fn a_redundant_child_sa_is_never_deleted() {
    Peer::both(|mut peer| {
        peer.lab.low(E, false);
        peer.lab.rekey(E, "e1");
        // Our nonces begin with 0x80, west's with something lower: west's exchange makes the redundant one.
        peer.lab.low(E, false);
        peer.create(Some(1), 2);
        let answer = peer.answer(3);
        peer.accept(&answer);
        assert_eq!(peer.lab.plane(E), "e1+w1 e2>w3 e3-w2");
        peer.respond(|_| {});
        assert_eq!(peer.lab.plane(E), "e2>w3 e3-w2");
        peer.lab.sim.run_for(s(119));
        peer.lab.silent();
        peer.lab.sim.run_for(s(1));
        peer.respond(|_| {});
        assert_eq!(peer.lab.plane(E), "e2>w3");
        assert_eq!(
            peer.lab.told(E),
            [
                "child e3 w2",
                "child e2 w3",
                "child_closed e1 rekeyed",
                "child_closed e3 redundant"
            ]
        );
    });
}

#[test]
fn the_loser_deletes_the_old_child_sa() {
    Peer::both(|mut peer| {
        peer.lab.low(E, false);
        peer.lab.rekey(E, "e1");
        peer.create(Some(1), 2);
        let answer = peer.answer(3);
        peer.accept(&answer);
        // Ours is on its way, so the response says nothing of it.
        assert_eq!(peer.delete(&[1]), "");
        assert_eq!(peer.lab.plane(E), "e2>w3 e3-w2");
        peer.respond(|_| {});
        peer.lab.sim.run_for(s(120));
        peer.respond(|_| {});
        assert_eq!(peer.lab.plane(E), "e2>w3");
        assert_eq!(
            peer.lab.told(E),
            [
                "child e3 w2",
                "child e2 w3",
                "child_closed e1 rekeyed",
                "child_closed e3 redundant"
            ]
        );
    });
}

#[test]
fn an_spi_in_use() {
    Peer::both(|mut peer| {
        assert_eq!(peer.create(None, 1), "N(NO_PROPOSAL_CHOSEN)");
        assert_eq!(peer.create(Some(1), 1), "N(NO_PROPOSAL_CHOSEN)");
        assert_eq!(
            peer.lab.told(E),
            [
                "child_failed spi_in_use",
                "child_rekey_failed e1 spi_in_use"
            ]
        );
        // In a response: the peer has it all the same, and is told to delete it, by our SPI.
        peer.lab.create(E);
        let answer = peer.answer(1);
        peer.accept(&answer);
        assert_eq!(peer.lab.told(E), ["child_failed spi_in_use"]);
        peer.respond(|_| {});
        assert_eq!(peer.lab.plane(E), "e1>w1");
        assert!(peer.lab.node(E).plane.reserved.is_empty());
        peer.lab.silent();
    });
}

#[test]
fn spis_that_mean_none() {
    Peer::both(|mut peer| {
        for spi in [0_u32, 1, 255] {
            let offer = peer.child.clone().spi(&spi.to_be_bytes());
            let said = peer.create_as(None, offer);
            assert_eq!(said, "N(NO_PROPOSAL_CHOSEN)");
            let offer = peer.child.clone().spi(&7_u32.to_be_bytes());
            let said = peer.create_as(Some(spi), offer);
            assert_eq!(said, "N(CHILD_SA_NOT_FOUND)");
        }
        peer.lab.told(E);
        peer.lab.create(E);
        let answer = peer.child_answer.clone().spi(&[0; 4]);
        peer.accept(&answer);
        assert_eq!(peer.lab.told(E), ["child_failed not_offered"]);
        peer.respond(|_| {});
        let offer = peer.ike.clone().spi(&[0; 8]);
        assert_eq!(
            peer.ask(CREATE, |w| offer.write(0x50, w)),
            "N(NO_PROPOSAL_CHOSEN)"
        );
        assert_eq!(peer.lab.told(E), ["ike_rekey_failed no_proposal_chosen"]);
        assert_eq!(peer.lab.plane(E), "e1>w1");
        peer.lab.silent();
    });
}

#[test]
fn a_renewal_is_answered_with_other_selectors() {
    Peer::both(|mut peer| {
        // What it receives is wider than what we have asked for.
        let mut answer = peer.answer(2);
        answer.ts_r = vec![range("0.0.0.0/0")];
        peer.lab.rekey(E, "e1");
        peer.accept(&answer);
        assert_eq!(peer.lab.told(E), ["child_rekey_failed e1 not_offered"]);
        peer.respond(|_| {});
        assert_eq!(peer.lab.plane(E), "e1>w1");
        peer.lab.silent();
        assert!(peer.lab.node(E).plane.reserved.is_empty());
    });
}

/// A pair with forward secrecy for child SAs.
fn with_forward_secrecy() -> Pair {
    let mut pair = Pair::default();
    let esp = EspProposal::parse_ipsec_conf("aes_gcm_16_256-dh31").unwrap();
    (pair.east_child.proposals, pair.west_child.proposals) = (esp.clone(), esp);
    pair
}

#[test]
fn public_values_of_a_wrong_length() {
    for turned in [false, true] {
        let mut peer = Peer::new(with_forward_secrecy, turned);
        for len in [0, 1, 31, 33, 4000] {
            let mut offer = peer.child.clone().spi(&peer.spi(2).to_be_bytes());
            offer.key.as_mut().unwrap().1 = vec![7; len];
            let said = peer.create_as(None, offer.clone());
            assert_eq!(said, "N(NO_PROPOSAL_CHOSEN)", "{len}");
            let said = peer.create_as(Some(peer.spi(1)), offer);
            assert_eq!(said, "N(NO_PROPOSAL_CHOSEN)", "{len}");
            assert_eq!(
                peer.lab.told(E),
                [
                    "child_failed key_exchange_failed",
                    "child_rekey_failed e1 key_exchange_failed"
                ]
            );
            let mut offer = peer.ike.clone().spi(&[1; 8]);
            offer.key.as_mut().unwrap().1 = vec![7; len];
            let said = peer.ask(CREATE, |w| offer.write(0x51, w));
            assert_eq!(said, "N(NO_PROPOSAL_CHOSEN)", "{len}");
            let told = peer.lab.told(E);
            assert_eq!(told, ["ike_rekey_failed key_exchange_failed"]);
        }
        assert_eq!(peer.lab.plane(E), "e1>w1");
        assert_eq!(peer.lab.node(E).plane.next_spi & 0xfff, 1);
        // In a response.
        peer.lab.rekey(E, "e1");
        let mut answer = peer.answer(2);
        answer.key.as_mut().unwrap().1 = vec![7; 5];
        peer.accept(&answer);
        assert_eq!(
            peer.lab.told(E),
            ["child_rekey_failed e1 key_exchange_failed"]
        );
        peer.respond(|_| {});
        assert_eq!(peer.lab.plane(E), "e1>w1");
        peer.lab.silent();
        // Of a successor of the IKE SA: the peer has one that we do not have.
        peer.lab.rekey_ike(E);
        let mut answer = peer.ike_answer.clone().spi(&[1; 8]);
        answer.key.as_mut().unwrap().1 = vec![7; 5];
        peer.accept(&answer);
        peer.respond(|_| {});
        assert_eq!(
            peer.lab.told(E),
            [
                "ike_rekey_failed key_exchange_failed",
                "child_closed e1 ike_sa_closed",
                "ike_closed first out_of_step"
            ]
        );
        peer.lab.sim.run_for(s(100));
        peer.nothing_is_left();
    }
}

#[test]
fn a_peer_that_is_always_busy() {
    Peer::both(|mut peer| {
        peer.lab.rekey(E, "e1");
        let mut requests = 0;
        while peer.lab.sim.now - peer.lab.sim.start < s(600) {
            if !peer.lab.sim.outbox.is_empty() {
                requests += 1;
                peer.respond(|w| {
                    w.notify(&Notify::new(NotifyType::TEMPORARY_FAILURE, &[]));
                });
            }
            peer.lab.sim.run_for(Duration::from_millis(100));
        }
        // Ten or so in three minutes, then the end.
        assert!((8..16).contains(&requests), "{requests}");
        assert_eq!(
            peer.lab.told(E),
            [
                "child_rekey_failed e1 temporary_failure",
                "child_closed e1 ike_sa_closed",
                "ike_closed first out_of_step"
            ]
        );
        peer.nothing_is_left();
    });
}

#[test]
fn a_peer_that_always_wants_another_method() {
    for turned in [false, true] {
        let mut peer = Peer::new(with_forward_secrecy, turned);
        peer.lab.rekey(E, "e1");
        for method in [19_u16, 31] {
            if peer.lab.sim.outbox.is_empty() {
                break;
            }
            peer.respond(|w| {
                let data = method.to_be_bytes();
                w.notify(&Notify::new(NotifyType::INVALID_KE_PAYLOAD, &data));
            });
        }
        assert_eq!(
            peer.lab.told(E),
            ["child_rekey_failed e1 key_exchange_method"]
        );
        assert!(peer.lab.node(E).plane.reserved.is_empty());
        peer.lab.silent();
    }
}

#[test]
fn a_storm_of_renewals_of_the_ike_sa() {
    Peer::both(|mut peer| {
        // Somebody else's IKE SA.
        let other = {
            peer.lab.sim.manual = false;
            let (at, west) = (peer.lab.at(E), peer.lab.node(W).address.to_string());
            peer.lab.sim.initiate(at, &west);
            peer.lab.sim.run_for(s(1));
            peer.lab.sim.manual = true;
            peer.lab.told(E);
            peer.lab.ike(E)
        };
        let before = peer.lab.node(E).endpoint.size();
        let (mut made, mut most) = (0, 0);
        for second in 0..600 {
            peer.lab.sim.run_for(s(1));
            peer.lab.sim.outbox.clear();
            for _ in 0..5 {
                match peer.rekey_ike().as_str() {
                    "" => {
                        made += 1;
                        peer.follow();
                    }
                    "N(TEMPORARY_FAILURE)" => {}
                    other => panic!("{other} at {second}"),
                }
            }
            most = most.max(peer.lab.node(E).endpoint.size());
        }
        // Eight in a minute, each of which we delete after two, and forget after another one without an answer.
        assert_eq!(made, 80);
        assert!(most - before <= 8 * 5, "{most}");
        let other = peer.lab.node(E).endpoint.ike_sa(other);
        assert_eq!(other.unwrap().state, IkeSaState::Established);
        assert_eq!(peer.lab.node(E).plane.installed.len(), 2);
    });
}

#[test]
fn a_second_renewal_of_the_ike_sa_while_we_renew_it() {
    Peer::both(|mut peer| {
        peer.lab.rekey_ike(E);
        assert_eq!(peer.rekey_ike(), "");
        assert_eq!(peer.rekey_ike(), "N(TEMPORARY_FAILURE)");
        assert_eq!(peer.lab.told(E), [""; 0]);
    });
}

#[test]
fn a_renewal_of_the_ike_sa_that_is_never_finished() {
    Peer::both(|mut peer| {
        assert_eq!(peer.rekey_ike(), "");
        assert_eq!(peer.lab.told(E), ["ike west's", "moved e1"]);
        peer.lab.sim.run_for(s(119));
        peer.lab.silent();
        peer.lab.sim.run_for(s(1));
        let delete = peer.lab.request(E);
        assert_eq!(peer.lab.read(&delete), "D(IKE 0)");
        peer.lab.sim.run_for(s(100));
        assert_eq!(peer.lab.told(E), ["ike_closed first rekeyed"]);
        assert_eq!(peer.lab.plane(E), "e1>w1");
    });
}

/// A peer that renews and renews: each time an old child SA is to be removed, and a new one to be made.
#[test]
fn a_storm_of_renewals_is_put_off() {
    let pair = || {
        let mut pair = Pair::default();
        pair.east_config.max_children = 4;
        pair.west_config.max_children = 4;
        pair
    };
    for turned in [false, true] {
        let mut peer = Peer::new(pair, turned);
        let mut made = 0;
        for number in 0..40 {
            let old = if made == 0 { 1 } else { 0x100 + made - 1 };
            let said = peer.create(Some(old), 0x100 + made);
            match said.as_str() {
                "" => {
                    made += 1;
                    let spi = Spi(peer.spi(old));
                    peer.ask(INFORM, |w| {
                        w.delete(ProtocolId::ESP, &[spi]);
                    });
                }
                "N(TEMPORARY_FAILURE)" => {}
                other => panic!("{number}: {other}"),
            }
        }
        assert_eq!(made, 8);
        // The one that there is goes on, and may be renewed later.
        assert_eq!(peer.lab.plane(E).split(' ').count(), 1);
        peer.lab.sim.run_for(s(61));
        peer.lab.sim.sent();
        assert_eq!(peer.create(Some(0x100 + made - 1), 0x100 + made), "");
    }
}
