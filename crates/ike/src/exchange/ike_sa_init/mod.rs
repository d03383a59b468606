//! IKE_SA_INIT: algorithms, key exchange, cookies, NAT detection (RFC 7296 §1.2, §2.6, §2.14, §2.23).

mod initiator;
mod responder;

pub(crate) use initiator::{InitSent, begin};
pub(crate) use responder::{InitRequest, Verdict};

use cygnet_crypto::{AuthKey, IkeKeys, IkeSuite, SharedSecret, Skeyseed};
use cygnet_wire::{IkeSpi, NotifyType};

use crate::channel::Channel;
use crate::contents::Contents;
use crate::info::Role;
use crate::io::IkeKeyLog;
use crate::nat;

/// Octets of our nonces.
//= rfc7296#2.10
//# Nonces used in
//# IKEv2 MUST be randomly chosen, MUST be at least 128 bits in size, and
//# MUST be at least half the key size of the negotiated pseudorandom
//# function (PRF).
const NONCE_LEN: usize = 32;

/// What IKE_SA_INIT leaves for IKE_AUTH.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) channel: Channel,
    pub(crate) suite: IkeSuite,
    pub(crate) sk_pi: AuthKey,
    pub(crate) sk_pr: AuthKey,
    /// The whole IKE_SA_INIT request and response, which the AUTH payloads sign.
    pub(crate) request: Vec<u8>,
    pub(crate) response: Vec<u8>,
    pub(crate) ni: Vec<u8>,
    pub(crate) nr: Vec<u8>,
    pub(crate) key_log: Option<Box<IkeKeyLog>>,
    /// The peer can do without a child SA (RFC 6023).
    pub(crate) peer_childless: bool,
}

/// The SPIs and nonces of both ends.
struct Public<'a> {
    initiator_spi: IkeSpi,
    responder_spi: IkeSpi,
    ni: &'a [u8],
    nr: &'a [u8],
}

/// All keys of the IKE SA.
fn derive(suite: &IkeSuite, public: &Public<'_>, secret: &SharedSecret) -> IkeKeys {
    let Public {
        initiator_spi,
        responder_spi,
        ni,
        nr,
    } = public;
    Skeyseed::initial(suite.prf, ni, nr, secret).expand(
        suite,
        ni,
        nr,
        initiator_spi.0,
        responder_spi.0,
    )
}

impl Handshake {
    /// `messages` are the request and the response. `None` if keys and suite do not go together, which the types of
    /// `cygnet_crypto` rule out for suites that come from proposals.
    fn new(
        role: Role,
        suite: IkeSuite,
        public: &Public<'_>,
        keys: IkeKeys,
        messages: (Vec<u8>, Vec<u8>),
        key_log: bool,
    ) -> Option<Self> {
        let channel = Channel::new(role, &suite, &keys).ok()?;
        let key_log = key_log.then(|| {
            Box::new(IkeKeyLog {
                initiator_spi: public.initiator_spi,
                responder_spi: public.responder_spi,
                sk_ei: keys.sk_ei.clone(),
                sk_er: keys.sk_er.clone(),
                sk_ai: keys.sk_ai.clone(),
                sk_ar: keys.sk_ar.clone(),
                suite,
            })
        });
        let (request, response) = messages;
        Some(Self {
            channel,
            suite,
            sk_pi: keys.sk_pi,
            sk_pr: keys.sk_pr,
            request,
            response,
            ni: public.ni.to_vec(),
            nr: public.nr.to_vec(),
            key_log,
            peer_childless: false,
        })
    }
}

/// The NAT detection payloads of a message.
fn nat_hashes<'a>(contents: &Contents<'a>) -> nat::Received<'a> {
    nat::Received {
        source: contents.data_of(NotifyType::NAT_DETECTION_SOURCE_IP),
        destination: contents.data_of(NotifyType::NAT_DETECTION_DESTINATION_IP),
    }
}
