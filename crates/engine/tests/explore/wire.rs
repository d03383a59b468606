//! What an observer on the wire who has the keys sees: what messages are for, which of them cross, and whether a key
//! protects two things under one number.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use cygnet_crypto::Protection;
use cygnet_ike::IkeKeyLog;
use cygnet_wire::{
    ExchangeType, Message, NotifyType, Payload, PayloadChain, PayloadType, ProtocolId,
};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Initiate,
    Authenticate,
    CreateChild,
    RekeyChild,
    RekeyIke,
    DeleteChild,
    DeleteIke,
    Mobike,
    /// Liveness checks, complaints and the like.
    OtherInformational,
    /// An additional key exchange, or one of an SA whose keys the observer has not got: it is not established, or will
    /// never be told of.
    Another,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Initiate => "initiate",
            Self::Authenticate => "authenticate",
            Self::CreateChild => "create child",
            Self::RekeyChild => "rekey child",
            Self::RekeyIke => "rekey ike",
            Self::DeleteChild => "delete child",
            Self::DeleteIke => "delete ike",
            Self::Mobike => "mobike",
            Self::OtherInformational => "other informational",
            Self::Another => "another",
        }
    }
}

/// Names a message: SPIs, sender (the first host or the second), response, Message ID.
pub type Name = (u64, u64, usize, bool, u32);

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub name: Name,
    pub exchange: ExchangeType,
    pub response: bool,
    /// It is one of several fragments.
    pub fragment: bool,
    /// It has been sent before.
    pub repeated: bool,
    pub kind: Option<Kind>,
}

struct Seen {
    /// Hash of each fragment, by number and total; of a whole message (0, 0).
    parts: Vec<((u16, u16), u64)>,
}

/// A request that has not been answered.
struct Open {
    name: Name,
    kind: Kind,
    /// The child SA that it is about.
    about: Option<(u32, u32)>,
    arrived: bool,
    since: Instant,
}

/// After this time whoever sent a request has given it up.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// See the module's text.
#[derive(Default)]
pub struct Observer {
    keys: HashMap<(u64, u64), [Protection; 2]>,
    key_octets: HashMap<u64, (u64, u64)>,
    seen: HashMap<Name, Seen>,
    /// When an IKE SA was begun, by the initiator's SPI.
    begun: HashMap<u64, Instant>,
    /// By SPIs, whether the original initiator sent it, and which keys of the SA were used.
    ivs: HashMap<(u64, u64, bool, u32, [u8; 8]), u64>,
    open: [Vec<Open>; 2],
    /// Child SAs by a host and its inbound SPI: both SPIs.
    children: HashMap<(usize, u32), (u32, u32)>,
    pub crossings: HashMap<(Kind, Kind, bool), u64>,
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl Observer {
    /// A host says which keys an IKE SA has.
    pub fn learn(&mut self, keys: &IkeKeyLog) -> Result<(), String> {
        let spis = (keys.initiator_spi.0, keys.responder_spi.0);
        for octets in [&keys.sk_ei, &keys.sk_er] {
            let hash = hash(octets.as_ref());
            if *self.key_octets.entry(hash).or_insert(spis) != spis {
                return Err(format!("two IKE SAs have the same key: {spis:x?}"));
            }
        }
        let suite = keys.suite;
        let protection = |e: &cygnet_crypto::SecretBytes, a: &cygnet_crypto::SecretBytes| {
            Protection::new(suite.encryption, suite.integrity, e.as_ref(), a.as_ref())
                .map_err(|e| e.to_string())
        };
        let both = [
            protection(&keys.sk_ei, &keys.sk_ai)?,
            protection(&keys.sk_er, &keys.sk_ar)?,
        ];
        self.keys.entry(spis).or_insert(both);
        Ok(())
    }

    /// A host has a child SA: each end calls it by the SPI of what comes in.
    pub fn learn_child(&mut self, host: usize, spi_in: u32, spi_out: u32) {
        let both = (spi_in.min(spi_out), spi_in.max(spi_out));
        self.children.insert((host, spi_in), both);
    }

    /// When an IKE SA was begun.
    pub fn begun(&self, initiator_spi: u64) -> Option<Instant> {
        self.begun.get(&initiator_spi).copied()
    }

    /// Host `from` sends a message.
    pub fn send(&mut self, now: Instant, from: usize, bytes: &[u8]) -> Result<Sent, String> {
        let message =
            Message::parse(bytes).map_err(|e| format!("sends a malformed message: {e}"))?;
        let header = *message.header();
        let spis = (header.initiator_spi.0, header.responder_spi.0);
        let response = header.flags.response;
        let name = (spis.0, spis.1, from, response, header.message_id);
        let initial = header.exchange == ExchangeType::IKE_SA_INIT;
        // Whoever does not know an SA says so without protection.
        let mut protected = false;
        let mut part = (0, 0);
        for payload in message.payloads() {
            let body = match payload.map_err(|e| format!("sends a malformed message: {e}"))? {
                Payload::Sk(sk) => sk.body,
                Payload::Skf(skf) => {
                    part = (skf.number, skf.total);
                    skf.body
                }
                _ => continue,
            };
            protected = true;
            let Some(iv) = body.first_chunk::<8>() else {
                return Err("sends an Encrypted payload without IV".to_owned());
            };
            // After each additional key exchange the SA has new keys (RFC 9370 §2.2.2).
            let keys = match header.exchange {
                ExchangeType::IKE_INTERMEDIATE => header.message_id,
                _ => u32::MAX,
            };
            let key = (spis.0, spis.1, header.flags.initiator, keys, *iv);
            if *self.ivs.entry(key).or_insert(hash(bytes)) != hash(bytes) {
                return Err(format!(
                    "uses an IV twice: {} {}",
                    header.exchange, header.message_id
                ));
            }
        }
        if initial && !response {
            self.begun.entry(spis.0).or_insert(now);
        }
        let hash = hash(bytes);
        if !protected && !initial {
            return Ok(Sent {
                name,
                exchange: header.exchange,
                response,
                fragment: part.1 > 1,
                repeated: false,
                kind: None,
            });
        }
        let known = self.seen.get_mut(&name);
        let first_time = known.is_none();
        let repeated = match known {
            None => {
                let parts = vec![(part, hash)];
                self.seen.insert(name, Seen { parts });
                false
            }
            Some(seen) => match seen.parts.iter().find(|(p, _)| *p == part) {
                Some((_, earlier)) if *earlier == hash => true,
                // Cookies, puzzles and another key exchange method change the first message. Nothing protects it.
                _ if initial => false,
                // Repeated in smaller fragments, or a further fragment.
                None if part.1 > 1 => {
                    seen.parts.push((part, hash));
                    false
                }
                _ => {
                    return Err(format!(
                        "says two things under one Message ID: {} {} {}",
                        header.exchange,
                        if response { "response" } else { "request" },
                        header.message_id
                    ));
                }
            },
        };
        let mut kind = None;
        if first_time && !response {
            let (is, spi) = self.read(&message, bytes, header.flags.initiator);
            let about = self.children.get(&(from, spi)).copied();
            kind = Some(is);
            self.cross(now, from, is, about);
            self.open[from].push(Open {
                name,
                kind: is,
                about,
                arrived: false,
                since: now,
            });
        }
        if first_time && response && self.makes_child_while_renewing(from, &message, bytes) {
            return Err("makes a child SA under an IKE SA that it is renewing".to_owned());
        }
        Ok(Sent {
            name,
            exchange: header.exchange,
            response,
            fragment: part.1 > 1,
            repeated,
            kind,
        })
    }

    /// A request is sent while one of the other end is on its way: they cross.
    fn cross(&mut self, now: Instant, from: usize, kind: Kind, about: Option<(u32, u32)>) {
        let theirs = &mut self.open[1 - from];
        theirs.retain(|open| now < open.since + GIVEN_UP);
        for open in theirs.iter().filter(|open| !open.arrived) {
            let pair = (kind.min(open.kind), kind.max(open.kind));
            let same = about.is_some() && about == open.about;
            *self.crossings.entry((pair.0, pair.1, same)).or_default() += 1;
        }
    }

    /// A message has come to the other end.
    pub fn arrive(&mut self, to: usize, name: Name) {
        let (spi_i, spi_r, from, response, id) = name;
        if response {
            // SPI_r may have been zero in the request.
            self.open[to].retain(|open| {
                (open.name.0, open.name.4) != (spi_i, id)
                    || open.name.1 != spi_r && open.name.1 != 0
            });
        } else {
            for open in &mut self.open[from] {
                open.arrived |= open.name == name;
            }
        }
    }

    /// What a request is for, and by which SPI it names a child SA.
    fn read(&self, message: &Message<'_>, bytes: &[u8], by_initiator: bool) -> (Kind, u32) {
        let header = message.header();
        match header.exchange {
            ExchangeType::IKE_SA_INIT => return (Kind::Initiate, 0),
            ExchangeType::IKE_AUTH => return (Kind::Authenticate, 0),
            ExchangeType::CREATE_CHILD_SA | ExchangeType::INFORMATIONAL => {}
            _ => return (Kind::Another, 0),
        }
        match self.decrypt(message, bytes, by_initiator) {
            Some((first, plain)) => read_plain(header.exchange, first, &plain),
            None => (Kind::Another, 0),
        }
    }

    /// Who renews an IKE SA says TEMPORARY_FAILURE to a peer that wants a child SA under it (RFC 7296 §2.25.2).
    fn makes_child_while_renewing(&self, host: usize, message: &Message<'_>, bytes: &[u8]) -> bool {
        let header = message.header();
        let spis = (header.initiator_spi.0, header.responder_spi.0);
        let mut own = self.open[host].iter();
        let renews =
            own.any(|open| open.kind == Kind::RekeyIke && (open.name.0, open.name.1) == spis);
        if header.exchange != ExchangeType::CREATE_CHILD_SA || !renews {
            return false;
        }
        let opened = self.decrypt(message, bytes, header.flags.initiator);
        opened.is_some_and(|(first, plain)| {
            let mut payloads = PayloadChain::new(first, &plain).payloads();
            payloads.any(|payload| match payload {
                Ok(Payload::Sa(sa)) => {
                    let chosen = sa.proposals().next();
                    chosen.is_some_and(|proposal| proposal.protocol != ProtocolId::IKE)
                }
                _ => false,
            })
        })
    }

    /// The first inner payload of a message and what is encrypted in it, if the observer can read it.
    fn decrypt(
        &self,
        message: &Message<'_>,
        bytes: &[u8],
        by_initiator: bool,
    ) -> Option<(PayloadType, Vec<u8>)> {
        let header = message.header();
        let spis = (header.initiator_spi.0, header.responder_spi.0);
        let keys = self.keys.get(&spis)?;
        let (first, aad_len) = message.payloads().find_map(|payload| match payload {
            Ok(Payload::Sk(sk)) => Some((sk.first_inner, sk.prefix.len())),
            Ok(Payload::Skf(skf)) if skf.number == 1 => Some((skf.first_inner, skf.prefix.len())),
            _ => None,
        })?;
        let mut copy = bytes.to_vec();
        let key = &keys[usize::from(!by_initiator)];
        let range = key.open(&mut copy, aad_len).ok()?;
        copy.truncate(range.end);
        copy.drain(..range.start);
        Some((first, copy))
    }
}

fn read_plain(exchange: ExchangeType, first: PayloadType, plain: &[u8]) -> (Kind, u32) {
    let create = exchange == ExchangeType::CREATE_CHILD_SA;
    for payload in PayloadChain::new(first, plain).payloads() {
        match payload {
            Ok(Payload::Notify(notify)) => match notify.kind {
                NotifyType::REKEY_SA => {
                    let spi = notify.spi.try_into().map_or(0, u32::from_be_bytes);
                    return (Kind::RekeyChild, spi);
                }
                NotifyType::UPDATE_SA_ADDRESSES
                | NotifyType::COOKIE2
                | NotifyType::ADDITIONAL_IP4_ADDRESS
                | NotifyType::NO_ADDITIONAL_ADDRESSES => return (Kind::Mobike, 0),
                _ => {}
            },
            Ok(Payload::Delete(delete)) if delete.protocol == ProtocolId::IKE => {
                return (Kind::DeleteIke, 0);
            }
            Ok(Payload::Delete(delete)) => {
                let spi = delete.esp_spis().next().map_or(0, |spi| spi.0);
                return (Kind::DeleteChild, spi);
            }
            Ok(Payload::Sa(sa)) if create => {
                let ike = sa.proposals().next();
                if ike.is_some_and(|proposal| proposal.protocol == ProtocolId::IKE) {
                    return (Kind::RekeyIke, 0);
                }
            }
            // What follows is in another fragment.
            Err(_) => break,
            Ok(_) => {}
        }
    }
    if create {
        (Kind::CreateChild, 0)
    } else {
        (Kind::OtherInformational, 0)
    }
}
