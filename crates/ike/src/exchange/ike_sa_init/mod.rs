//! IKE_SA_INIT: algorithms, key exchange, cookies, NAT detection (RFC 7296 §1.2, §2.6, §2.14, §2.23).

mod initiator;
mod responder;

pub(crate) use initiator::{InitSent, begin};
pub(crate) use responder::{InitRequest, Verdict};

use cygnet_crypto::{AuthKey, IkeKeys, IkeSuite, SharedSecret, SkD, Skeyseed};
use cygnet_wire::{IkeSpi, NotifyType};

use crate::channel::Channel;
use crate::contents::Contents;
use crate::exchange::ike_intermediate::Intermediate;
use crate::info::Role;
use crate::io::IkeKeyLog;
use crate::nat;
use crate::ppk;
use crate::reason::FailureReason;

/// Octets of our nonces.
//= rfc7296#2.10
//# Nonces used in
//# IKEv2 MUST be randomly chosen, MUST be at least 128 bits in size, and
//# MUST be at least half the key size of the negotiated pseudorandom
//# function (PRF).
pub(crate) const NONCE_LEN: usize = 32;

/// strongSwan's vendor ID: MD5 of its name.
const STRONGSWAN: [u8; 16] = [
    0x88, 0x2f, 0xe5, 0x6d, 0x6f, 0xd2, 0x0d, 0xbc, 0x22, 0x51, 0x61, 0x3b, 0x2e, 0xbe, 0x5b, 0xeb,
];

/// What IKE_SA_INIT leaves for what follows.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) channel: Channel,
    /// A responder's keys before the last IKE_INTERMEDIATE exchange replaced them: its request may come again in fragments
    /// of another size.
    pub(crate) previous: Option<Channel>,
    pub(crate) suite: IkeSuite,
    pub(crate) sk_pi: AuthKey,
    pub(crate) sk_pr: AuthKey,
    /// The whole IKE_SA_INIT request and response, which the AUTH payloads sign.
    pub(crate) request: Vec<u8>,
    pub(crate) response: Vec<u8>,
    pub(crate) ni: Vec<u8>,
    pub(crate) nr: Vec<u8>,
    pub(crate) intermediate: Intermediate,
    pub(crate) ppk: ppk::Stage,
    pub(crate) key_log: Option<Box<IkeKeyLog>>,
    /// Keys that solve the puzzle in front of IKE_AUTH (RFC 8019 §7.2.2).
    pub(crate) solution: Option<Vec<u8>>,
    /// The responder has said that it can do without a child SA (RFC 6023).
    pub(crate) childless: bool,
    role: Role,
    spis: Spis,
}

/// The keys of an IKE SA for the log of keys.
pub(crate) fn key_log(
    initiator_spi: IkeSpi,
    responder_spi: IkeSpi,
    keys: &IkeKeys,
    suite: &IkeSuite,
) -> Box<IkeKeyLog> {
    Box::new(IkeKeyLog {
        initiator_spi,
        responder_spi,
        sk_ei: keys.sk_ei.clone(),
        sk_er: keys.sk_er.clone(),
        sk_ai: keys.sk_ai.clone(),
        sk_ar: keys.sk_ar.clone(),
        suite: *suite,
    })
}

/// The SPIs of the IKE SA.
#[derive(Clone, Copy, Debug)]
struct Spis {
    initiator: IkeSpi,
    responder: IkeSpi,
}

/// One end's view of a finished IKE_SA_INIT exchange.
struct Finished<'a> {
    role: Role,
    suite: IkeSuite,
    spis: Spis,
    ni: &'a [u8],
    nr: &'a [u8],
    secret: &'a SharedSecret,
    request: Vec<u8>,
    response: Vec<u8>,
    /// Both ends know IKE_INTERMEDIATE.
    intermediate: bool,
    ppk: ppk::Stage,
    /// The responder has said that it can do without a child SA.
    childless: bool,
    /// The keys are wanted for the log.
    key_log: bool,
}

/// Keys in the forms in which they are used.
struct Keys {
    channel: Channel,
    sk_pi: AuthKey,
    sk_pr: AuthKey,
    log: Option<Box<IkeKeyLog>>,
}

/// All keys that a SKEYSEED gives. `None` if keys and suite do not go together, which the types of `cygnet_crypto` rule
/// out for suites that come from proposals.
fn expand(
    seed: Skeyseed,
    role: Role,
    suite: IkeSuite,
    spis: Spis,
    nonces: (&[u8], &[u8]),
    log: bool,
) -> Option<Keys> {
    let (ni, nr) = nonces;
    let keys = seed.expand(&suite, ni, nr, spis.initiator.0, spis.responder.0);
    let channel = Channel::new(role, &suite, &keys).ok()?;
    let log = log.then(|| key_log(spis.initiator, spis.responder, &keys, &suite));
    Some(Keys {
        channel,
        sk_pi: keys.sk_pi,
        sk_pr: keys.sk_pr,
        log,
    })
}

impl Handshake {
    /// `None` as for [`expand`].
    fn new(finished: Finished<'_>) -> Option<Self> {
        let Finished {
            role,
            suite,
            spis,
            ni,
            nr,
            ..
        } = finished;
        let seed = Skeyseed::initial(suite.prf, ni, nr, finished.secret);
        let keys = expand(seed, role, suite, spis, (ni, nr), finished.key_log)?;
        Some(Self {
            channel: keys.channel,
            previous: None,
            suite,
            sk_pi: keys.sk_pi,
            sk_pr: keys.sk_pr,
            request: finished.request,
            response: finished.response,
            ni: ni.to_vec(),
            nr: nr.to_vec(),
            intermediate: Intermediate::new(finished.intermediate, &suite),
            ppk: finished.ppk,
            key_log: keys.log,
            solution: None,
            childless: finished.childless,
            role,
            spis,
        })
    }

    /// The SPIs of initiator and responder.
    pub(crate) fn spis(&self) -> (IkeSpi, IkeSpi) {
        (self.spis.initiator, self.spis.responder)
    }

    /// Replaces the keys of the IKE SA by those that `seed` makes of SK_d and the nonces.
    pub(crate) fn update_keys(
        &mut self,
        seed: impl FnOnce(&SkD, &[u8], &[u8]) -> Skeyseed,
    ) -> Result<(), FailureReason> {
        let nonces = (&self.ni[..], &self.nr[..]);
        let seed = seed(&self.channel.sk_d, nonces.0, nonces.1);
        let log = self.key_log.is_some();
        let misfit = || FailureReason::KeyExchange("the keys do not fit the algorithms".to_owned());
        let keys =
            expand(seed, self.role, self.suite, self.spis, nonces, log).ok_or_else(misfit)?;
        let previous = std::mem::replace(&mut self.channel, keys.channel);
        // An exchange with a key exchange and a PPK replaces them twice: what protected it is the older one.
        if self.role == Role::Responder && self.previous.is_none() {
            self.previous = Some(previous);
        }
        self.sk_pi = keys.sk_pi;
        self.sk_pr = keys.sk_pr;
        self.key_log = keys.log;
        Ok(())
    }
}

/// The NAT detection payloads of a message.
fn nat_hashes<'a>(contents: &Contents<'a>) -> nat::Received<'a> {
    nat::Received {
        source: contents.data_of(NotifyType::NAT_DETECTION_SOURCE_IP),
        destination: contents.data_of(NotifyType::NAT_DETECTION_DESTINATION_IP),
    }
}
