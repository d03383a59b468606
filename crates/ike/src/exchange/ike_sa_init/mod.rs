//! IKE_SA_INIT: algorithms, key exchange, cookies, NAT detection (RFC 7296 §1.2, §2.6, §2.14, §2.23).

mod initiator;
mod responder;

pub(crate) use initiator::{InitSent, begin};
pub(crate) use responder::InitRequest;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{Additional, AuthKey, IkeKeys, IkeSuite, SkD, Skeyseed};
use cygnet_wire::{ExchangeType, IkeSpi, Notify, NotifyType, PayloadWriter, limits};

use crate::channel::Channel;
use crate::child::Wanted;
use crate::config::{AcceptRedirect, Encapsulation, PeerConfig};
use crate::contents::Contents;
use crate::context::{Context, Path};
use crate::exchange::ike_auth;
use crate::exchange::ike_intermediate::Intermediate;
use crate::exchange::ike_session_resume::{Resumption, Tickets};
use crate::exchange::redirect::{self, Asked};
use crate::fragment;
use crate::info::Role;
use crate::io::{IkeKeyLog, IkeSaId};
use crate::nat::{self, HASH_LEN};
use crate::ppk;
use crate::reason::{ChildFailure, FailureReason, Party};
use crate::sa::{Arrival, Core, State};
use crate::stats::DropReason;
use crate::stream::Streams;
use crate::transport::Transport;

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

/// Cookies that are returned before the peer counts as mad.
const MAX_COOKIES: u32 = 5;

/// What IKE_SA_INIT, or IKE_SESSION_RESUME in its place, leaves for what follows.
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
    /// The session that is resumed.
    pub(crate) resumption: Option<Box<Resumption>>,
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
pub(crate) struct Spis {
    pub(crate) initiator: IkeSpi,
    pub(crate) responder: IkeSpi,
}

/// One end's view of a finished IKE_SA_INIT or IKE_SESSION_RESUME exchange, but for its keys.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) role: Role,
    pub(crate) suite: IkeSuite,
    pub(crate) spis: Spis,
    pub(crate) ni: Vec<u8>,
    pub(crate) nr: Vec<u8>,
    pub(crate) request: Vec<u8>,
    pub(crate) response: Vec<u8>,
    /// Both ends know IKE_INTERMEDIATE.
    pub(crate) intermediate: bool,
    pub(crate) ppk: ppk::Stage,
    /// The responder has said that it can do without a child SA.
    pub(crate) childless: bool,
    /// The keys are wanted for the log.
    pub(crate) key_log: bool,
    /// The session that is resumed.
    pub(crate) resumption: Option<Box<Resumption>>,
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
    let log = log.then(|| key_log(spis.initiator, spis.responder, &keys, &suite));
    let (channel, sk_pi, sk_pr) = Channel::new(role, &suite, keys).ok()?;
    Some(Keys {
        channel,
        sk_pi,
        sk_pr,
        log,
    })
}

impl Handshake {
    /// With the keys that `seed` gives; `None` as for [`expand`].
    pub(crate) fn new(finished: Finished, seed: Skeyseed) -> Option<Self> {
        let Finished {
            role,
            suite,
            spis,
            ni,
            nr,
            ..
        } = finished;
        let keys = expand(seed, role, suite, spis, (&ni, &nr), finished.key_log)?;
        // The algorithms of a session that is resumed are those of old, its key exchanges are not made again.
        let additional = match finished.resumption {
            Some(_) => Additional::default(),
            None => suite.additional,
        };
        Some(Self {
            channel: keys.channel,
            previous: None,
            suite,
            sk_pi: keys.sk_pi,
            sk_pr: keys.sk_pr,
            request: finished.request,
            response: finished.response,
            ni,
            nr,
            intermediate: Intermediate::new(finished.intermediate, additional),
            ppk: finished.ppk,
            key_log: keys.log,
            solution: None,
            childless: finished.childless,
            resumption: finished.resumption,
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

/// Writes the NAT detection payloads of a message.
pub(crate) fn write_nat_hashes(
    hashes: Option<&[[u8; HASH_LEN]; 2]>,
    payloads: &mut PayloadWriter<'_>,
) {
    if let Some([source, destination]) = hashes {
        payloads
            .notify(&Notify::new(NotifyType::NAT_DETECTION_SOURCE_IP, source))
            .notify(&Notify::new(
                NotifyType::NAT_DETECTION_DESTINATION_IP,
                destination,
            ));
    }
}

/// Writes what a first message ends with: whether its sender knows IKE_INTERMEDIATE, and its vendor IDs.
pub(crate) fn write_abilities(
    cx: &Context<'_>,
    intermediate: bool,
    fake_strongswan: bool,
    payloads: &mut PayloadWriter<'_>,
) {
    if intermediate {
        let kind = NotifyType::INTERMEDIATE_EXCHANGE_SUPPORTED;
        payloads.notify(&Notify::new(kind, &[]));
    }
    if fake_strongswan {
        payloads.vendor_id(&STRONGSWAN);
    }
    for id in &cx.config.vendor_ids {
        payloads.vendor_id(id);
    }
}

/// An IKE SA that we begin, perhaps where another gateway has sent us.
pub(crate) fn initiator(
    cx: &Context<'_>,
    id: IkeSaId,
    initiator_spi: IkeSpi,
    config: Arc<PeerConfig>,
    (path, streams): (Path, Streams),
    redirected_from: Option<IpAddr>,
) -> Core {
    let accepts = config.accept_redirect != AcceptRedirect::No;
    let spis = (initiator_spi, IkeSpi::ZERO);
    Core {
        local_id: Some(config.local_id.clone()),
        tickets: Tickets::of_client(&config),
        redirectable: accepts.then_some(Party::Us),
        redirected_from,
        streams,
        ..Core::new(id, Role::Initiator, spis, config, path, cx.now)
    }
}

/// Sends the request that begins an IKE SA.
pub(crate) fn send_first(
    core: &mut Core,
    cx: &mut Context<'_>,
    exchange: ExchangeType,
    bytes: Vec<u8>,
) {
    let policy = &core.config.retransmit;
    let message = bytes.clone().into();
    core.outgoing
        .sent(cx.now, exchange, message, None, policy, cx.entropy);
    cx.transmit(core.path, bytes);
}

/// Sends it in another form.
pub(crate) fn resend_first(core: &mut Core, cx: &mut Context<'_>, bytes: Vec<u8>) {
    let policy = &core.config.retransmit;
    core.outgoing
        .replace(cx.now, bytes.clone().into(), policy, cx.entropy);
    cx.transmit(core.path, bytes);
}

/// Notes what the notifications of a responder's first message say, and moves to port 4500 if that is where to go on.
pub(crate) fn heed_first(
    core: &mut Core,
    cx: &Context<'_>,
    arrival: Arrival,
    contents: &Contents<'_>,
) {
    core.fragments.agreed = fragment::agreed(core.config.fragmentation, contents);
    if core.config.force_encapsulation != Encapsulation::No {
        let (i, r) = (core.initiator_spi.0, core.responder_spi.0);
        core.nat = nat::judge(&contents.notifies, i, r, arrival.local, arrival.remote);
    }
    //= rfc4555#3.3
    //# To
    //# simplify things, implementations that support both this specification
    //# and NAT Traversal MUST change to port 4500 if the correspondent also
    //# supports both, even if no NAT was detected between them (this way,
    //# there is no need to change the ports later if a NAT is detected on
    //# some other path).
    let may_move = core.config.mobike && core.nat.supported;
    if core.wants_encapsulation() || may_move {
        float(core, cx);
    }
}

/// Moves to the ports on which IKE and ESP share UDP (RFC 7296 §2.23).
//= rfc7296#2.23
//# An IPsec
//# endpoint that discovers a NAT between it and its correspondent (as
//# described below) MUST send all subsequent traffic from port 4500,
//# which NATs should not treat specially (as they might with port 500).
fn float(core: &mut Core, cx: &Context<'_>) {
    if core.path.transport != Transport::Udp {
        return;
    }
    core.path.transport = Transport::UdpEncap;
    core.path.local.set_port(cx.config.nat_port);
    // A port other than the usual one was chosen by the user, and serves both.
    if core.path.remote.port() == cx.config.ike_port {
        core.path.remote.set_port(cx.config.nat_port);
    }
}

/// Neither the IKE SA nor its child SA has come about.
pub(crate) fn fail(
    core: &mut Core,
    cx: &mut Context<'_>,
    child: Option<Wanted>,
    reason: FailureReason,
) -> State {
    if let Some(Wanted { id, config, .. }) = child {
        ike_auth::child_failed(core, cx, id, Some(config), ChildFailure::IkeSaEnded);
    }
    core.fail(cx, reason)
}

/// The cookie that an initiator returns.
#[derive(Debug, Default)]
pub(crate) struct ReturnedCookie {
    data: Option<Vec<u8>>,
    times: u32,
}

impl ReturnedCookie {
    pub(crate) fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }

    /// One has come. Whether it is returned from now on, in all later forms of the request (RFC 7296 §2.6.1): not if it
    /// is malformed, the answer to what was sent before, or one too many.
    pub(crate) fn take(&mut self, cx: &mut Context<'_>, held: &mut Held, cookie: &[u8]) -> bool {
        //= rfc7296#2.6
        //# The data associated with this notification MUST
        //# be between 1 and 64 octets in length (inclusive)
        if !limits::COOKIE_LEN.contains(&cookie.len()) || self.data() == Some(cookie) {
            cx.drop(DropReason::BadResponse);
            return false;
        }
        //= rfc7296#2.6
        //# The initiator should limit the number of cookie exchanges it
        //# tries before giving up
        if self.times >= MAX_COOKIES {
            held.hold(cx, FailureReason::CookieLoop(self.times));
            return false;
        }
        self.times = self.times.saturating_add(1);
        self.data = Some(cookie.to_vec());
        true
    }
}

/// An unauthenticated error that counts unless something better comes.
#[derive(Debug, Default)]
pub(crate) struct Held(Option<(Instant, FailureReason)>);

impl Held {
    /// Keeps an error back; the first one counts.
    //= rfc7296#2.21.1
    //# Because all error notifications are completely
    //# unauthenticated, the recipient should continue trying for some time
    //# before giving up.
    pub(crate) fn hold(&mut self, cx: &Context<'_>, reason: FailureReason) {
        if self.0.is_none() {
            self.0 = Some((cx.now + cx.config.error_grace, reason));
        }
    }

    /// Keeps back what is wrong with a response that is dropped: the peer has no better one unless this is a forgery.
    pub(crate) fn drop_and_hold(&mut self, cx: &mut Context<'_>, reason: FailureReason) {
        cx.drop(DropReason::BadResponse);
        self.hold(cx, reason);
    }

    /// The gateway sends us to another one. Who knows the nonce has seen our request; who else the new gateway is, it has
    /// to prove like the old one. Why this IKE SA does not come about, if we go there.
    pub(crate) fn on_redirect(
        &mut self,
        core: &Core,
        cx: &mut Context<'_>,
        data: &[u8],
        nonce: &[u8],
    ) -> Option<FailureReason> {
        match redirect::asked_in_init(core, data, nonce) {
            Some(Asked::Go(to)) => return Some(FailureReason::Redirected { to }),
            Some(Asked::Forbidden(to)) => self.hold(cx, FailureReason::RedirectForbidden { to }),
            None => cx.drop(DropReason::BadResponse),
        }
        None
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// It counts no more.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }

    /// When it counts.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(|(deadline, _)| *deadline)
    }

    /// The error, if it counts now.
    pub(crate) fn due(&mut self, now: Instant) -> Option<FailureReason> {
        let (_, reason) = self.0.take_if(|(deadline, _)| now >= *deadline)?;
        Some(reason)
    }

    /// The error, if there is one.
    pub(crate) fn take(&mut self) -> Option<FailureReason> {
        self.0.take().map(|(_, reason)| reason)
    }
}
