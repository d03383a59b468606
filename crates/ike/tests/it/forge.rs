//! Protected messages made by hand, with the keys that the key log gives.

use std::time::Duration;

use cygnet_crypto::Protection;
use cygnet_crypto::testing::InsecureEntropy;
use cygnet_ike::{ChildSaInfo, Event, IkeKeyLog, Role, Transport};
use cygnet_wire::{
    EncrId, EsnId, ExchangeType, Flags, Header, Message, Notify, NotifyType, Payload, PayloadChain,
    PayloadType, PayloadWriter, Proposal, Spi, Transform, write_message,
};

use crate::pair::{EAST, Pair, WEST, range, s};
use crate::sim::{Datagram, Sim};

/// Speaks as one end of an established IKE SA.
pub struct Forge {
    keys: Box<IkeKeyLog>,
    role: Role,
    protection: Protection,
    theirs: Protection,
}

impl Forge {
    /// With the keys that `node` has logged.
    pub fn new(sim: &Sim, node: usize, role: Role) -> Self {
        let keys = sim.nodes[node].events.iter().find_map(|event| match event {
            Event::IkeEstablished { keys, .. } => keys.clone(),
            _ => None,
        });
        Self::with_keys(keys.expect("the key log is on"), role)
    }

    pub fn with_keys(keys: Box<IkeKeyLog>, role: Role) -> Self {
        let protection = |e: &cygnet_crypto::SecretBytes, a: &cygnet_crypto::SecretBytes| {
            let suite = keys.suite;
            Protection::new(suite.encryption, suite.integrity, e.as_ref(), a.as_ref()).unwrap()
        };
        let (i, r) = (
            protection(&keys.sk_ei, &keys.sk_ai),
            protection(&keys.sk_er, &keys.sk_ar),
        );
        let (protection, theirs) = if role == Role::Initiator {
            (i, r)
        } else {
            (r, i)
        };
        Self {
            keys,
            role,
            protection,
            theirs,
        }
    }

    /// The other end of the same IKE SA, or the same one.
    pub fn turned(self, role: Role) -> Self {
        Self::with_keys(self.keys, role)
    }

    /// A message from this end to the other.
    pub fn message(
        &mut self,
        exchange: ExchangeType,
        response: bool,
        id: u32,
        write: impl FnOnce(&mut PayloadWriter<'_>),
    ) -> Datagram {
        let flags = Flags {
            initiator: self.role == Role::Initiator,
            response,
            version: false,
        };
        let (i, r) = (self.keys.initiator_spi, self.keys.responder_spi);
        let header = Header::new(i, r, exchange, flags, id);
        let mut plain = Vec::new();
        let mut writer = PayloadWriter::new(&mut plain);
        write(&mut writer);
        let first = writer.finish().unwrap();
        let mut bytes = Vec::new();
        let body_len = self.protection.body_len(plain.len());
        write_message(&mut bytes, &header, |payloads| {
            payloads.sk(first, body_len);
        })
        .unwrap();
        let aad_len = bytes.len();
        bytes.extend_from_slice(&plain);
        // The IVs of a forger must not meet those of the real sender: they do not matter here.
        self.protection
            .seal(aad_len, &mut bytes, &mut InsecureEntropy::from_seed(9))
            .unwrap();
        let end = |address: &str| format!("{address}:500").parse().unwrap();
        let (src, dst) = if self.role == Role::Initiator {
            (EAST, WEST)
        } else {
            (WEST, EAST)
        };
        Datagram {
            src: end(src),
            dst: end(dst),
            transport: Transport::Udp,
            bytes,
        }
    }

    /// A fragment of a message from this end: `number` of `total`, with a part of the plaintext. `first` is the type of
    /// its first payload.
    pub fn fragment(
        &mut self,
        (exchange, response, id): (ExchangeType, bool, u32),
        (number, total): (u16, u16),
        first: PayloadType,
        part: &[u8],
    ) -> Datagram {
        let mut made = self.message(exchange, response, id, |_| {});
        let header = *Message::parse(&made.bytes).unwrap().header();
        made.bytes.clear();
        let body_len = self.protection.body_len(part.len());
        write_message(&mut made.bytes, &header, |payloads| {
            payloads.skf(first, number, total, body_len);
        })
        .unwrap();
        let aad_len = made.bytes.len();
        made.bytes.extend_from_slice(part);
        self.protection
            .seal(aad_len, &mut made.bytes, &mut InsecureEntropy::from_seed(9))
            .unwrap();
        made
    }

    /// A message of this end as `edit` changes it: it gets the payloads and writes what it likes.
    pub fn edit(
        &mut self,
        datagram: &Datagram,
        edit: impl FnOnce(&[Payload<'_>], &mut PayloadWriter<'_>),
    ) -> Datagram {
        let (first, plain) = open(&self.protection, datagram);
        let payloads: Vec<_> = PayloadChain::new(first, &plain)
            .payloads()
            .map(Result::unwrap)
            .collect();
        let message = Message::parse(&datagram.bytes).unwrap();
        let header = *message.header();
        let made = self.message(
            header.exchange,
            header.flags.response,
            header.message_id,
            |w| {
                edit(&payloads, w);
            },
        );
        Datagram {
            bytes: made.bytes,
            ..datagram.clone()
        }
    }

    /// What a message of this end says, under another Message ID.
    pub fn again(&mut self, datagram: &Datagram, id: u32) -> Datagram {
        let (first, plain) = open(&self.protection, datagram);
        let exchange = Message::parse(&datagram.bytes).unwrap().header().exchange;
        let made = self.message(exchange, false, id, |w| {
            for payload in PayloadChain::new(first, &plain).payloads() {
                w.any(&payload.unwrap());
            }
        });
        Datagram {
            bytes: made.bytes,
            ..datagram.clone()
        }
    }

    /// Looks at the payloads of a message from the other end.
    pub fn look(&self, datagram: &Datagram, look: impl FnOnce(&[Payload<'_>])) {
        let (first, plain) = open(&self.theirs, datagram);
        let payloads = PayloadChain::new(first, &plain).payloads();
        look(&payloads.map(Result::unwrap).collect::<Vec<_>>());
    }

    /// The payloads of a message from the other end, in one line.
    pub fn read(&self, datagram: &Datagram) -> String {
        let (first, plain) = open(&self.theirs, datagram);
        let message = Message::parse(&datagram.bytes).unwrap();
        let payloads = PayloadChain::new(first, &plain).payloads();
        let names = payloads.map(|payload| match payload.unwrap() {
            Payload::Notify(notify) => format!("N({})", notify.kind),
            Payload::Delete(delete) => {
                format!("D({} {})", delete.protocol, delete.esp_spis().count())
            }
            other => other.payload_type().to_string(),
        });
        let header = message.header();
        let kind = if header.flags.response {
            "response"
        } else {
            "request"
        };
        let mut line = vec![format!("{} {kind} {}", header.exchange, header.message_id)];
        line.extend(names);
        line.join(" ")
    }
}

fn open(protection: &Protection, datagram: &Datagram) -> (PayloadType, Vec<u8>) {
    let message = Message::parse(&datagram.bytes).unwrap();
    let sk = message.payloads().find_map(|payload| match payload {
        Ok(Payload::Sk(sk)) => Some((sk.first_inner, sk.aad_len())),
        _ => None,
    });
    let (first, aad_len) = sk.expect("it is protected");
    let mut bytes = datagram.bytes.clone();
    let range = protection
        .open(&mut bytes, aad_len)
        .expect("it is from that end");
    (first, bytes[range].to_vec())
}

/// A world stopped before the `index`th datagram arrives, with the keys that the same world will have in the end.
pub fn stopped_at(index: usize, make: impl Fn() -> Sim) -> (Sim, Datagram, Box<IkeKeyLog>) {
    let run = |until: usize| {
        let mut sim = make();
        for node in 0..2 {
            sim.nodes[node].config.key_log = true;
            sim.restart_quietly(node);
        }
        sim.manual = true;
        sim.initiate(0, WEST);
        for _ in 0..until {
            sim.exchange();
        }
        sim.run_for(Duration::ZERO);
        sim
    };
    let whole = run(4);
    let keys = whole
        .nodes
        .iter()
        .flat_map(|node| &node.events)
        .find_map(|event| match event {
            Event::IkeEstablished { keys, .. } => keys.clone(),
            _ => None,
        });
    let mut sim = run(index);
    let datagram = sim.sent().remove(0);
    (sim, datagram, keys.expect("the world comes to an IKE SA"))
}

/// Notifications with their data.
pub type Said<'a> = [(NotifyType, &'a [u8])];

/// West's response to the IKE_AUTH of east, edited so that it says this too.
pub fn answered(make: impl Fn() -> Pair, said: &Said<'_>) -> Sim {
    let (mut sim, response, keys) = stopped_at(3, || make().sim(1));
    let mut west = Forge::with_keys(keys, Role::Responder);
    let edited = west.edit(&response, |payloads, w| {
        for payload in payloads {
            w.any(payload);
        }
        for (kind, data) in said {
            w.notify(&Notify::new(*kind, data));
        }
    });
    sim.deliver(edited);
    sim.run_for(Duration::ZERO);
    sim
}

/// West's child SAs: that of IKE_AUTH, and the one that it makes when east asks for another one and says this.
pub fn asked_for(mut pair: Pair, said: &Said<'_>) -> (Sim, ChildSaInfo, ChildSaInfo) {
    pair.east_config.key_log = true;
    let mut sim = pair.sim(1);
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    sim.manual = true;
    let mut east = Forge::new(&sim, 0, Role::Initiator);
    let old = sim.nodes[1].endpoint.child_sas().next().unwrap();
    let request = east.message(ExchangeType::CREATE_CHILD_SA, false, 2, |payloads| {
        for (kind, data) in said {
            payloads.notify(&Notify::new(*kind, data));
        }
        let transforms = vec![
            Transform::encr(EncrId(20), Some(256)),
            Transform::esn(EsnId(0)),
        ];
        payloads
            .sa(&[Proposal::esp(1, Spi(0x5000), transforms)])
            .nonce(&[7; 32])
            .ts_i(&[range("10.1.0.0/16")])
            .ts_r(&[range("10.2.0.0/16")]);
    });
    sim.deliver(request);
    sim.run_for(Duration::ZERO);
    let new = sim.nodes[1].endpoint.child_sas().find(|c| c.id != old.id);
    (sim, old, new.expect("a second child SA"))
}
