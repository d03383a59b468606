//! A peer made by hand: IKE_SA_INIT and IKE_AUTH with whatever the test says, and keys computed here. It does not know
//! IKE_INTERMEDIATE, which our own ends offer whenever they have a use for it.

use std::net::SocketAddr;

use cygnet_crypto::testing::{InsecureEntropy, InsecureKeyExchange};
use cygnet_crypto::{
    AuthKey, IkeKeys, IkeProposal, IkeSuite, KeyExchangeProvider, PskKey, SecretBytes,
    SharedSecret, SignedOctets, Skeyseed,
};
use cygnet_ike::{IkeKeyLog, Role, Transport};
use cygnet_wire::{
    AuthMethodId, IdType, IkeSpi, KeId, Message, Notify, NotifyType, Payload, PayloadWriter,
    write_message,
};

use crate::forge::Forge;
use crate::pair::{EAST, Pair, WEST};
use crate::sim::{Datagram, Sim};

/// One end of an IKE SA whose IKE_SA_INIT is over.
pub struct ByHand {
    pub keys: IkeKeys,
    pub forge: Forge,
    role: Role,
    suite: IkeSuite,
    psk: Vec<u8>,
    /// Its message of IKE_SA_INIT, and the other end's nonce.
    first: Vec<u8>,
    peer_nonce: Vec<u8>,
    /// The other end's message.
    pub answer: Vec<u8>,
    /// What its AUTH payload says of the method.
    pub method: AuthMethodId,
}

/// Nonce and key exchange data of a message.
fn contribution(message: &Message<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut nonce, mut key) = (Vec::new(), Vec::new());
    for payload in message.payloads().map(Result::unwrap) {
        match payload {
            Payload::Nonce(payload) => nonce = payload.data().to_vec(),
            Payload::Ke(payload) => key = payload.data.to_vec(),
            _ => {}
        }
    }
    (nonce, key)
}

fn at(address: &str) -> SocketAddr {
    format!("{address}:500").parse().unwrap()
}

impl ByHand {
    /// Sets a pair to the one suite that this end knows.
    pub fn suit(pair: &mut Pair) {
        pair.east.proposals = crate::pair::ike("aes_gcm_16_256-sha2_512-dh31");
        pair.west.proposals = pair.east.proposals.clone();
    }

    fn new(
        proposal: &IkeProposal,
        role: Role,
        (first, answer): (Vec<u8>, Vec<u8>),
        shared: &SharedSecret,
        psk: &[u8],
    ) -> Self {
        let suite = IkeSuite {
            encryption: proposal.encryption[0],
            integrity: None,
            prf: proposal.prf[0],
            key_exchange: proposal.key_exchange[0],
            additional: Default::default(),
        };
        let (ours, theirs) = (
            Message::parse(&first).unwrap(),
            Message::parse(&answer).unwrap(),
        );
        let (request, response) = match role {
            Role::Initiator => (&ours, &theirs),
            Role::Responder => (&theirs, &ours),
        };
        let (ni, nr) = (contribution(request).0, contribution(response).0);
        let (i, r) = (
            response.header().initiator_spi,
            response.header().responder_spi,
        );
        let keys =
            Skeyseed::initial(suite.prf, &ni, &nr, shared).expand(&suite, &ni, &nr, i.0, r.0);
        let log = IkeKeyLog {
            initiator_spi: i,
            responder_spi: r,
            sk_ei: keys.sk_ei.clone(),
            sk_er: keys.sk_er.clone(),
            sk_ai: keys.sk_ai.clone(),
            sk_ar: keys.sk_ar.clone(),
            suite,
        };
        let peer_nonce = match role {
            Role::Initiator => nr,
            Role::Responder => ni,
        };
        Self {
            keys,
            forge: Forge::with_keys(Box::new(log), role),
            role,
            suite,
            psk: psk.to_vec(),
            first,
            peer_nonce,
            answer,
            method: AuthMethodId::SHARED_KEY,
        }
    }

    /// In place of `east`: goes through IKE_SA_INIT with `west`, saying these notifications too.
    pub fn initiator(sim: &mut Sim, notifies: &[NotifyType]) -> Self {
        let (proposal, psk) = (
            sim.nodes[0].book.peers[0].proposals[0].clone(),
            sim.nodes[0].book.psks[0].2.clone(),
        );
        // What east would say, with another key and without what it knows besides.
        sim.manual = true;
        let ike = sim.initiate(0, WEST);
        let request = sim.sent().remove(0);
        sim.act(0, |endpoint, now| endpoint.delete_ike(now, ike));
        sim.sent();
        let mut entropy = InsecureEntropy::from_seed(7);
        let method = proposal.key_exchange[0];
        let key = InsecureKeyExchange.generate(method, &mut entropy).unwrap();
        let message = Message::parse(&request.bytes).unwrap();
        let mut first = Vec::new();
        write_message(&mut first, message.header(), |payloads| {
            for payload in message.payloads().map(Result::unwrap) {
                match payload {
                    Payload::Ke(ke) => payloads.ke(ke.method, key.public()),
                    Payload::Sa(_) | Payload::Nonce(_) => payloads.any(&payload),
                    _ => payloads,
                };
            }
            for kind in notifies {
                payloads.notify(&Notify::new(*kind, &[]));
            }
        })
        .unwrap();
        sim.deliver(Datagram {
            bytes: first.clone(),
            ..request
        });
        let answer = sim.sent().remove(0).bytes;
        let theirs = contribution(&Message::parse(&answer).unwrap()).1;
        let shared = key.agree(&theirs).unwrap();
        Self::new(&proposal, Role::Initiator, (first, answer), &shared, &psk)
    }

    /// In place of `west`: answers the IKE_SA_INIT request of `east`, which has sent it by hand, saying these notifications too.
    pub fn responder(sim: &mut Sim, request: &Datagram, notifies: &[NotifyType]) -> Self {
        let (proposal, psk) = (
            sim.nodes[1].book.peers[0].proposals[0].clone(),
            sim.nodes[1].book.psks[0].2.clone(),
        );
        let message = Message::parse(&request.bytes).unwrap();
        let mut entropy = InsecureEntropy::from_seed(8);
        let method = proposal.key_exchange[0];
        let theirs = contribution(&message).1;
        let (public, shared) = InsecureKeyExchange
            .respond(method, &theirs, &mut entropy)
            .unwrap();
        let mut header = *message.header();
        header.responder_spi = IkeSpi(0x7777);
        (header.flags.initiator, header.flags.response) = (false, true);
        let mut first = Vec::new();
        write_message(&mut first, &header, |payloads| {
            for payload in message.payloads().map(Result::unwrap) {
                match payload {
                    Payload::Sa(_) => payloads.any(&payload),
                    _ => payloads,
                };
            }
            payloads.ke(KeId(method.iana_id()), &public).nonce(&[9; 32]);
            for kind in notifies {
                payloads.notify(&Notify::new(*kind, &[]));
            }
        })
        .unwrap();
        sim.deliver(Datagram {
            src: request.dst,
            dst: request.src,
            transport: Transport::Udp,
            bytes: first.clone(),
        });
        let answer = request.bytes.clone();
        Self::new(&proposal, Role::Responder, (first, answer), &shared, &psk)
    }

    /// The AUTH data of this end for an identity, with its SK_p or what has become of it.
    pub fn auth(&self, sk_p: &AuthKey, id: &str) -> SecretBytes {
        let body = [&[IdType::FQDN.0, 0, 0, 0], id.as_bytes()].concat();
        SignedOctets {
            first_message: &self.first,
            peer_nonce: &self.peer_nonce,
            sk_p,
            id_payload_body: &body,
            int_auth: &[],
        }
        .psk_auth(&PskKey::new(self.suite.prf, &self.psk))
    }

    /// This end's SK_pi or SK_pr.
    pub fn sk_p(&self) -> &AuthKey {
        match self.role {
            Role::Initiator => &self.keys.sk_pi,
            Role::Responder => &self.keys.sk_pr,
        }
    }

    /// Sends its message of IKE_AUTH: who it is, with these AUTH data, and what else the test says. What the other end then sends.
    pub fn authenticate(
        &mut self,
        sim: &mut Sim,
        id: &str,
        auth: &SecretBytes,
        write: impl FnOnce(&mut PayloadWriter<'_>),
    ) -> Vec<Datagram> {
        let (role, method) = (self.role, self.method);
        let exchange = cygnet_wire::ExchangeType::IKE_AUTH;
        let message = self
            .forge
            .message(exchange, role == Role::Responder, 1, |payloads| {
                match role {
                    Role::Initiator => payloads.id_i(IdType::FQDN, id.as_bytes()),
                    Role::Responder => payloads.id_r(IdType::FQDN, id.as_bytes()),
                };
                payloads.auth(method, auth.as_ref());
                write(payloads);
            });
        let (src, dst) = match role {
            Role::Initiator => (at(EAST), at(WEST)),
            Role::Responder => (at(WEST), at(EAST)),
        };
        sim.deliver(Datagram {
            src,
            dst,
            ..message
        });
        sim.run_for(std::time::Duration::ZERO);
        sim.sent()
    }
}
