//! MOBIKE: an IKE SA and its child SAs go on at other addresses (RFC 4555).
//!
//! The initiator decides. When its address has gone, or a request is not answered, it sends what it has to say over
//! every pair of addresses that both ends have ([`search`]); the pair over which the answer comes is the new path, and
//! UPDATE_SA_ADDRESSES tells the responder. Child SAs follow at once where the other end's address stays, and after a
//! return routability check (COOKIE2) where it is new. The responder tells when its own addresses change, and checks
//! where it is led before its child SAs follow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use cygnet_ipsec::{EncapKind, Mode};
use cygnet_wire::NotifyType;

use crate::config::{Encapsulation, EndpointConfig, Tcp};
use crate::contents::Contents;
use crate::context::{Back, Context, Path};
use crate::established::Established;
use crate::info::{NatSituation, Role};
use crate::io::Event;
use crate::nat;
use crate::reason::CloseReason;
use crate::sa::Core;
use crate::transport::Transport;

/// Addresses that are told, and those of the peer that are kept; more are left out.
const MAX_ADDRESSES: usize = 8;

/// Pairs of addresses that the peer has refused; of more, the oldest are forgotten and may be tried again.
const MAX_REFUSED: usize = MAX_ADDRESSES * MAX_ADDRESSES;

/// Paths that are tried at a time.
const MAX_PATHS: usize = 16;

/// Repetitions of a request on one path before the others are tried too.
pub(crate) const PATIENCE: u32 = 2;

/// How often an update that met an unexpected NAT is tried again.
const NAT_RETRIES: u32 = 3;

/// Octets of our COOKIE2.
//= rfc4555#4.2.5
//# The data associated with this notification MUST be between 8 and 64
//# octets in length (inclusive), and MUST be chosen by the exchange
//# initiator in a way that is unpredictable to the exchange responder.
const COOKIE_LEN: usize = 16;

/// A notification of a message to be written.
pub(crate) type Said = (NotifyType, Vec<u8>);

/// A request of MOBIKE's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Initiator: the SAs are to go to the addresses of this message.
    Update,
    /// These are our addresses.
    Addresses,
    /// Is the peer where it says it is?
    Check,
    /// Which path works?
    Probe,
}

/// What MOBIKE knows of an IKE SA on which both ends have agreed to it.
#[derive(Debug)]
pub(crate) struct Mobike {
    /// Our part in the first of a series of rekeyed IKE SAs (RFC 4555 §1.3): the initiator of that one decides.
    role: Role,
    /// The peer's addresses.
    peer: Vec<IpAddr>,
    /// Those of ours that the peer has been told.
    told: Vec<IpAddr>,
    /// What is to be said as soon as the window is free.
    wanted: Vec<Ask>,
    /// Requests go over all paths until one is answered.
    searching: bool,
    /// Pairs of addresses, ours first, that the peer does not want.
    refused: Vec<(IpAddr, IpAddr)>,
    /// What the request that is under way has said.
    request: Option<Request>,
    /// The hash of our address and port as the responder sees them.
    seen_as: Option<Vec<u8>>,
    /// When the peer has last been heard without being asked, or was asked how it sees us.
    reached: Option<Instant>,
    nat_retries: u32,
    /// The Message ID of the peer's last request about addresses.
    newest: Option<u32>,
}

#[derive(Debug)]
struct Request {
    /// `None`: for a sign of life.
    ask: Option<Ask>,
    path: Path,
    cookie: Option<[u8; COOKIE_LEN]>,
    told: Option<Vec<IpAddr>>,
}

/// Between what child SAs run while they do not follow the IKE SA yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChildPath {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) encapsulation: Option<EncapKind>,
}

impl ChildPath {
    /// Our address and the peer's.
    fn addresses(&self) -> (IpAddr, IpAddr) {
        (self.local.ip(), self.remote.ip())
    }
}

impl Mobike {
    fn new(role: Role, peer: Vec<IpAddr>, told: Vec<IpAddr>) -> Self {
        Self {
            role,
            peer,
            told,
            wanted: Vec::new(),
            searching: false,
            refused: Vec::new(),
            request: None,
            seen_as: None,
            reached: None,
            nat_retries: 0,
            newest: None,
        }
    }

    /// For the IKE SA that takes this one's place. What was about to be said is said there, and what is under way is said
    /// again: the answer will come to this one.
    pub(crate) fn heir(&self) -> Self {
        let mut heir = Self::new(self.role, self.peer.clone(), self.told.clone());
        heir.reached = self.reached;
        let under_way = self.request.as_ref().and_then(|request| request.ask);
        for ask in under_way.into_iter().chain(self.wanted.iter().copied()) {
            heir.want(ask);
        }
        heir
    }

    /// The peer does not want this pair of addresses.
    fn refuse(&mut self, local: IpAddr, remote: IpAddr) {
        if self.refused.len() >= MAX_REFUSED {
            self.refused.remove(0);
        }
        self.refused.push((local, remote));
    }

    fn want(&mut self, ask: Ask) {
        if !self.wanted.contains(&ask) {
            self.wanted.push(ask);
        }
    }
}

/// Our part in MOBIKE, if there is MOBIKE.
fn role(core: &Core) -> Option<Role> {
    core.mobike.as_ref().map(|mobike| mobike.role)
}

/// Whether SAs may run between such addresses.
fn is_usable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(a) => a.is_link_local() || a.is_broadcast(),
        IpAddr::V6(a) => a.is_unicast_link_local() || a.to_ipv4_mapped().is_some(),
    };
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || link_local)
}

/// Our addresses besides the one in use.
fn additional(core: &Core, own: &[IpAddr]) -> Vec<IpAddr> {
    let current = core.path.local.ip();
    let others = own.iter().copied();
    let others = others.filter(|a| *a != current && is_usable(*a));
    others.take(MAX_ADDRESSES).collect()
}

/// The notifications that tell addresses.
fn list(addresses: &[IpAddr]) -> Vec<Said> {
    addresses
        .iter()
        .map(|address| match address {
            IpAddr::V4(a) => (NotifyType::ADDITIONAL_IP4_ADDRESS, a.octets().to_vec()),
            IpAddr::V6(a) => (NotifyType::ADDITIONAL_IP6_ADDRESS, a.octets().to_vec()),
        })
        .collect()
}

/// The peer's addresses by a message: the one that it comes from, and those that it tells.
fn listed(contents: &Contents<'_>, source: IpAddr) -> Vec<IpAddr> {
    let mut addresses = vec![source];
    for notify in &contents.notifies {
        let address = match notify.kind {
            NotifyType::ADDITIONAL_IP4_ADDRESS => {
                <[u8; 4]>::try_from(notify.data).map(|a| IpAddr::V4(Ipv4Addr::from(a)))
            }
            NotifyType::ADDITIONAL_IP6_ADDRESS => {
                <[u8; 16]>::try_from(notify.data).map(|a| IpAddr::V6(Ipv6Addr::from(a)))
            }
            _ => continue,
        };
        if let Ok(address) = address
            && is_usable(address)
            && !addresses.contains(&address)
            && addresses.len() <= MAX_ADDRESSES
        {
            addresses.push(address);
        }
    }
    addresses
}

/// Whether a message tells addresses, be it that there are none.
fn tells(contents: &Contents<'_>) -> bool {
    [
        NotifyType::ADDITIONAL_IP4_ADDRESS,
        NotifyType::ADDITIONAL_IP6_ADDRESS,
        NotifyType::NO_ADDITIONAL_ADDRESSES,
    ]
    .into_iter()
    .any(|kind| contents.has(kind))
}

/// The content of NO_NATS_ALLOWED in a message from one address and port to another.
fn no_nats(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut octets = Vec::with_capacity(36);
    for address in [source.ip(), destination.ip()] {
        match address {
            IpAddr::V4(a) => octets.extend(a.octets()),
            IpAddr::V6(a) => octets.extend(a.octets()),
        }
    }
    octets.extend(source.port().to_be_bytes());
    octets.extend(destination.port().to_be_bytes());
    octets
}

/// Whether the message went through a NAT although its sender forbids that.
//= rfc4555#3.9
//# The exchange responder MUST verify that the contents
//# of the NO_NATS_ALLOWED notification match the addresses in the IP
//# header.
pub(crate) fn met_unexpected_nat(contents: &Contents<'_>, back: Path) -> bool {
    //= rfc9329#7.1
    //# In the case of TCP, the
    //# NO_NATS_ALLOWED notification SHOULD be ignored because TCP generally
    //# has no problems with NAT boxes.
    let forbidden = |data: &[u8]| data != no_nats(back.remote, back.local);
    back.transport != Transport::Tcp
        && contents
            .notify(NotifyType::NO_NATS_ALLOWED)
            .is_some_and(|notify| forbidden(notify.data))
}

/// What goes with a message about addresses: NAT detection, or its prohibition.
//= rfc4555#3.9
//# More specifically, when NAT Traversal is not enabled, all messages
//# that can update the addresses associated with the IKE_SA and/or IPsec
//# SAs (the first IKE_AUTH request and all INFORMATIONAL requests that
//# contain any of the following notifications: UPDATE_SA_ADDRESSES,
//# ADDITIONAL_IP4_ADDRESS, ADDITIONAL_IP6_ADDRESS,
//# NO_ADDITIONAL_ADDRESSES) MUST also include a NO_NATS_ALLOWED
//# notification.
fn prohibition(core: &Core) -> Option<Said> {
    let forbidden = core.config.force_encapsulation == Encapsulation::No;
    let data = || no_nats(core.path.local, core.path.remote);
    forbidden.then(|| (NotifyType::NO_NATS_ALLOWED, data()))
}

fn detection(core: &Core, cx: &mut Context<'_>, path: Path) -> Vec<Said> {
    if !core.nat.supported {
        return Vec::new();
    }
    let offer = nat::offer(
        core.config.force_encapsulation,
        core.initiator_spi.0,
        core.responder_spi.0,
        path.local,
        path.remote,
        cx.entropy,
    );
    let kinds = [
        NotifyType::NAT_DETECTION_SOURCE_IP,
        NotifyType::NAT_DETECTION_DESTINATION_IP,
    ];
    let hashes = offer.into_iter().flatten();
    kinds
        .into_iter()
        .zip(hashes)
        .map(|(kind, hash)| (kind, hash.to_vec()))
        .collect()
}

/// What a message between the ends of `path` says about NATs, if it does.
fn judged(core: &Core, contents: &Contents<'_>, path: Path) -> Option<NatSituation> {
    if core.config.force_encapsulation == Encapsulation::No {
        return None;
    }
    let (i, r) = (core.initiator_spi.0, core.responder_spi.0);
    let nat = nat::judge(&contents.notifies, i, r, path.local, path.remote);
    nat.supported.then_some(nat)
}

/// What IKE_AUTH says of it: in the request if we want it, in the response if both do.
//= rfc4555#3.2
//# Implementations that wish to use MOBIKE for a particular IKE_SA MUST
//# include a MOBIKE_SUPPORTED notification in the IKE_AUTH exchange (in
//# case of multiple IKE_AUTH exchanges, in the message containing the SA
//# payload).
pub(crate) fn introduction(core: &Core, cx: &Context<'_>) -> Vec<Said> {
    let wanted = match core.role {
        Role::Initiator => core.config.mobike,
        Role::Responder => core.mobike.is_some(),
    };
    if !wanted {
        return Vec::new();
    }
    //= rfc4555#4.2.1
    //# The notification data field
    //# MUST be left empty (zero-length) when sending, and its contents (if
    //# any) MUST be ignored when this notification is received.
    let mut said = vec![(NotifyType::MOBIKE_SUPPORTED, Vec::new())];
    said.extend(list(&additional(core, &cx.shared.addresses)));
    if core.role == Role::Initiator {
        said.extend(prohibition(core));
    }
    said
}

/// Takes in what the peer's part of IKE_AUTH says of it.
pub(crate) fn agree(core: &mut Core, cx: &Context<'_>, contents: &Contents<'_>) {
    if core.config.mobike && contents.has(NotifyType::MOBIKE_SUPPORTED) {
        let peer = listed(contents, core.path.remote.ip());
        let told = additional(core, &cx.shared.addresses);
        core.mobike = Some(Box::new(Mobike::new(core.role, peer, told)));
        on_reached(core, cx.now);
    }
}

/// Whether requests go over all paths now.
pub(crate) fn is_searching(core: &Core) -> bool {
    core.mobike.as_ref().is_some_and(|m| m.searching)
}

/// The initiator's SAs go over another stream: it says so. False if that is not MOBIKE's to say.
pub(crate) fn announce_stream(core: &mut Core) -> bool {
    match &mut core.mobike {
        Some(mobike) if mobike.role == Role::Initiator => {
            mobike.want(Ask::Update);
            true
        }
        _ => false,
    }
}

/// Whether there is something to ask.
pub(crate) fn wants(core: &Core) -> bool {
    core.mobike.as_ref().is_some_and(|m| !m.wanted.is_empty())
}

/// What is to be asked now, if anything.
pub(crate) fn next(core: &mut Core) -> Option<Ask> {
    let mobike = core.mobike.as_mut()?;
    // One after the other, however many requests the window has room for.
    let may = mobike.request.is_none() && !mobike.wanted.is_empty();
    may.then(|| mobike.wanted.remove(0))
}

/// What a request says; it is sent at once.
pub(crate) fn request(core: &mut Core, cx: &mut Context<'_>, ask: Ask) -> Vec<Said> {
    let addresses = additional(core, &cx.shared.addresses);
    let mut said = Vec::new();
    let mut told = None;
    let news = core.mobike.as_ref().is_some_and(|m| m.told != addresses);
    if ask == Ask::Update {
        said.push((NotifyType::UPDATE_SA_ADDRESSES, Vec::new()));
    }
    // libreswan 5 returns a cookie only beside these.
    if matches!(ask, Ask::Update | Ask::Check) {
        said.extend(detection(core, cx, core.path));
    }
    if ask == Ask::Addresses || (ask == Ask::Update && news) {
        if addresses.is_empty() {
            said.push((NotifyType::NO_ADDITIONAL_ADDRESSES, Vec::new()));
        }
        said.extend(list(&addresses));
        told = Some(addresses);
    }
    if matches!(ask, Ask::Update | Ask::Addresses) {
        said.extend(prohibition(core));
    }
    let cookie = matches!(ask, Ask::Update | Ask::Check).then(|| cx.random());
    said.extend(cookie.map(|cookie| (NotifyType::COOKIE2, cookie.to_vec())));
    let path = core.path;
    if let Some(mobike) = &mut core.mobike {
        let ask = Some(ask);
        mobike.request = Some(Request {
            ask,
            path,
            cookie,
            told,
        });
    }
    said
}

/// Since when it is not known that what the peer sends of itself reaches us, if we are the initiator and behind a NAT.
/// Its responses do, wherever its requests go: they return to where ours came from.
pub(crate) fn unreached_since(core: &Core) -> Option<Instant> {
    let mobike = core.mobike.as_ref()?;
    let asks = mobike.role == Role::Initiator && core.nat.local;
    mobike.reached.filter(|_| asks)
}

/// The peer has been heard, and not because it was asked.
pub(crate) fn on_reached(core: &mut Core, now: Instant) {
    if let Some(mobike) = &mut core.mobike {
        mobike.reached = Some(now);
    }
}

/// What a sign of life is asked for with: how the responder sees us.
//= rfc4555#3.8
//# When the initiator is behind a NAT (as detected earlier using the
//# NAT_DETECTION_SOURCE_IP and NAT_DETECTION_DESTINATION_IP
//# notifications), it SHOULD include these notifications in DPD messages
//# and compare the received NAT_DETECTION_DESTINATION_IP notifications
//# with the value from the previous UPDATE_SA_ADDRESSES response (or the
//# IKE_SA_INIT response).
pub(crate) fn liveness(core: &mut Core, cx: &mut Context<'_>) -> Vec<Said> {
    on_reached(core, cx.now);
    let free = core.mobike.as_ref().is_some_and(|m| m.request.is_none());
    if role(core) != Some(Role::Initiator) || !free {
        return Vec::new();
    }
    let path = core.path;
    let said = detection(core, cx, path);
    if let Some(mobike) = &mut core.mobike {
        let (ask, cookie, told) = (None, None, None);
        mobike.request = Some(Request {
            ask,
            path,
            cookie,
            told,
        });
    }
    said
}

/// Takes in the response to a request of MOBIKE's, or to one for a sign of life; `None`: it cannot be read. The reason if
/// the IKE SA ends with it.
pub(crate) fn on_response(
    core: &mut Core,
    cx: &mut Context<'_>,
    ask: Option<Ask>,
    contents: Option<&Contents<'_>>,
) -> Option<CloseReason> {
    let mobike = core.mobike.as_mut()?;
    let request = mobike.request.take_if(|request| request.ask == ask)?;
    //= rfc4555#3.7
    //# When processing the response, the original sender MUST
    //# verify that the value is the same one as sent.  If the values do not
    //# match, the IKE_SA MUST be closed.
    let returned = contents.and_then(|contents| contents.notify(NotifyType::COOKIE2));
    if let Some(cookie) = request.cookie
        && returned.map(|notify| notify.data) != Some(&cookie[..])
    {
        return Some(CloseReason::ReturnRoutability);
    }
    let contents = contents?;
    if request.path != core.path {
        // Another update follows; whether the peer is where the check went to begin with is of no interest any more.
        if ask == Some(Ask::Check) {
            mobike.want(Ask::Check);
        }
        return None;
    }
    match ask {
        Some(Ask::Update) => on_updated(core, cx, request, contents),
        Some(Ask::Addresses) => {
            if !contents.has(NotifyType::UNEXPECTED_NAT_DETECTED) {
                mobike.told = request.told.unwrap_or_default();
            } else if mobike.nat_retries < NAT_RETRIES {
                mobike.nat_retries += 1;
                mobike.want(Ask::Addresses);
            }
        }
        Some(Ask::Check) => arrive(core, cx),
        Some(Ask::Probe) => {}
        None => {
            let nat = judged(core, contents, core.path);
            let seen = seen_as(contents);
            let known = core.nat;
            if let Some((mobike, nat)) = core.mobike.as_mut().zip(nat) {
                // Of a new IKE SA, a successor too, it is not known how it was seen: its SPIs are part of that. An update
                // in vain is harmless, as RFC 4555 §3.8 has it.
                if nat != known || (known.local && mobike.seen_as != seen) {
                    mobike.want(Ask::Update);
                }
                mobike.seen_as = seen;
            }
        }
    }
    None
}

fn seen_as(contents: &Contents<'_>) -> Option<Vec<u8>> {
    contents
        .notify(NotifyType::NAT_DETECTION_DESTINATION_IP)
        .map(|n| n.data.to_vec())
}

fn on_updated(core: &mut Core, cx: &mut Context<'_>, request: Request, contents: &Contents<'_>) {
    let nat = judged(core, contents, core.path);
    let Some(mobike) = &mut core.mobike else {
        return;
    };
    //= rfc4555#3.9
    //# If the exchange initiator receives an UNEXPECTED_NAT_DETECTED
    //# notification in response to its INFORMATIONAL request, it SHOULD
    //# retry the operation several times using new INFORMATIONAL requests.
    if contents.has(NotifyType::UNEXPECTED_NAT_DETECTED) && mobike.nat_retries < NAT_RETRIES {
        mobike.nat_retries += 1;
        return mobike.want(Ask::Update);
    }
    //= rfc4555#3.5
    //# If the response contains an UNACCEPTABLE_ADDRESSES notification,
    //# the initiator MAY select another addresses and retry the exchange,
    //# keep on using the previously used addresses, or disconnect.
    if contents.has(NotifyType::UNEXPECTED_NAT_DETECTED)
        || contents.has(NotifyType::UNACCEPTABLE_ADDRESSES)
    {
        mobike.nat_retries = 0;
        let (local, remote) = core.path.ends();
        mobike.refuse(local, remote);
        if paths(core, cx.config, &cx.shared.addresses).is_empty() {
            core.unwanted = true;
        } else {
            search(core, cx);
        }
        return;
    }
    mobike.nat_retries = 0;
    mobike.refused.clear();
    mobike.seen_as = seen_as(contents);
    if let Some(told) = request.told {
        mobike.told = told;
    }
    let before = core.child_path();
    if let Some(nat) = nat {
        core.nat = nat;
    }
    core.children_at = None;
    report(core, cx, before);
}

/// Takes in what a request says of addresses; what the response is to say.
pub(crate) fn on_request(
    established: &Established,
    core: &mut Core,
    cx: &mut Context<'_>,
    contents: &Contents<'_>,
    back: Back,
) -> Vec<Said> {
    let Back {
        path: back,
        message_id,
    } = back;
    let mut said = Vec::new();
    //= rfc4555#3.7
    //# The sender of an INFORMATIONAL request MAY
    //# include a COOKIE2 notification, and if included, the recipient of an
    //# INFORMATIONAL request MUST copy the notification as-is to the
    //# response.
    //= rfc4555#4.2.5
    //# If the INFORMATIONAL request includes COOKIE2, the exchange responder
    //# MUST copy the notification to the response message.
    if let Some(cookie) = contents.notify(NotifyType::COOKIE2)
        && (8..=64).contains(&cookie.data.len())
    {
        said.push((NotifyType::COOKIE2, cookie.data.to_vec()));
    }
    if core.mobike.is_none() {
        return said;
    }
    let mut update =
        contents.has(NotifyType::UPDATE_SA_ADDRESSES) && role(core) == Some(Role::Responder);
    let mut tells = tells(contents);
    if (update || tells)
        && let Some(mobike) = &mut core.mobike
    {
        //= rfc4555#3.5
        //# Determines whether it has already received a newer
        //# UPDATE_SA_ADDRESSES request than this one (if the responder uses a
        //# window size greater than one, it is possible that requests are
        //# received out of order).  If it has, a normal response message
        //# (described below) is sent, but no other action is taken.
        if mobike.newest.is_some_and(|newest| message_id < newest) {
            (update, tells) = (false, false);
        } else {
            mobike.newest = Some(message_id);
        }
    }
    if (update || tells) && met_unexpected_nat(contents, back) {
        //= rfc4555#3.9
        //# If an UNEXPECTED_NAT_DETECTED notification is sent, the exchange
        //# responder MUST NOT use the contents of the NO_NATS_ALLOWED
        //# notification for any other purpose than possibly logging the
        //# information for troubleshooting purposes.
        said.push((NotifyType::UNEXPECTED_NAT_DETECTED, Vec::new()));
        return said;
    }
    if tells && let Some(mobike) = &mut core.mobike {
        // The complete list, in place of the one before.
        mobike.peer = listed(contents, back.remote.ip());
    }
    if update {
        let transport = established
            .children
            .iter()
            .any(|child| child.agreed.mode == Mode::Transport);
        // Selectors of transport mode are the addresses themselves. That a NAT has chosen another port changes nothing.
        let stays = core.child_path().addresses() == back.ends();
        if transport && !stays || !is_usable(back.remote.ip()) {
            said.push((NotifyType::UNACCEPTABLE_ADDRESSES, Vec::new()));
            return said;
        }
        follow(core, cx, contents, back);
    } else if tells && role(core) == Some(Role::Initiator) {
        let current = core.path.remote.ip();
        let known = |m: &Mobike| m.peer.contains(&current);
        if back.remote.ip() != current && !core.mobike.as_ref().is_some_and(|m| known(m)) {
            go(core, cx, back);
        }
    }
    //= rfc4555#3.8
    //# if the
    //# request includes them, the responder MUST also include them in the
    //# response (but no other action is taken, unless otherwise specified).
    if judged(core, contents, back).is_some() {
        said.extend(detection(core, cx, back));
    }
    said
}

/// Responder: the SAs go where the initiator wants them.
fn follow(core: &mut Core, cx: &mut Context<'_>, contents: &Contents<'_>, back: Path) {
    let before = core.child_path();
    let nat = judged(core, contents, back);
    //= rfc9329#7.1
    //# In the case of TCP
    //# encapsulation, this check has little value since a TCP handshake
    //# proves the routability of the TCP Originator's address; thus, the
    //# Return Routability Check SHOULD NOT be performed.
    let proven = back.transport == Transport::Tcp;
    let new_address = before.remote.ip() != back.remote.ip() && !proven;
    core.path = back;
    if let Some(nat) = nat {
        core.nat = nat;
    }
    let Some(mobike) = &mut core.mobike else {
        return;
    };
    mobike.searching = false;
    if new_address {
        //= rfc4555#3.7
        //# By
        //# default, the return routability check SHOULD be done before updating
        //# the IPsec SAs, but in some environments it MAY be postponed until
        //# after the IPsec SAs have been updated.
        core.children_at = Some(before);
        mobike.want(Ask::Check);
    } else {
        core.children_at = None;
        report(core, cx, before);
    }
}

/// Initiator: the IKE SA goes to another path, its child SAs too unless the peer's address is new.
fn go(core: &mut Core, cx: &mut Context<'_>, path: Path) {
    let before = core.child_path();
    core.path = path;
    core.children_at = (before.remote.ip() != path.remote.ip()).then_some(before);
    if let Some(mobike) = &mut core.mobike {
        mobike.searching = false;
        mobike.want(Ask::Update);
    }
    report(core, cx, before);
    //= rfc4555#3.5
    //# If there are outstanding IKEv2 requests (requests for which the
    //# initiator has not yet received a reply), continues retransmitting
    //# them using the addresses in the IKE_SA (the new addresses).
    for pending in core.outgoing.all_pending() {
        cx.transmit_message(path, &pending.message);
    }
}

/// The return routability of the peer's new address is shown: child SAs follow.
fn arrive(core: &mut Core, cx: &mut Context<'_>) {
    let before = core.child_path();
    core.children_at = None;
    report(core, cx, before);
}

/// Tells that child SAs run elsewhere now, if they do.
pub(crate) fn report(core: &Core, cx: &mut Context<'_>, before: ChildPath) {
    let now = core.child_path();
    if now != before {
        cx.event(Event::Moved {
            ike: core.id,
            from: (before.local, before.remote),
            to: (now.local, now.remote),
            encapsulation: now.encapsulation,
        });
    }
}

/// The paths that may work: all pairs of addresses of one family, the present one first.
pub(crate) fn paths(core: &Core, config: &EndpointConfig, own: &[IpAddr]) -> Vec<Path> {
    let Some(mobike) = &core.mobike else {
        return vec![core.path];
    };
    let current = core.path;
    if current.transport == Transport::Tcp && !core.streams.originator {
        // The others are the peer's to open.
        return vec![current];
    }
    let mut remotes = vec![current.remote.ip()];
    for address in mobike.peer.iter().chain(&core.config.remote) {
        if !remotes.contains(address) {
            remotes.push(*address);
        }
    }
    let mut locals: Vec<IpAddr> = own.iter().copied().filter(|a| is_usable(*a)).collect();
    locals.sort_by_key(|a| *a != current.local.ip());
    let mut paths = Vec::new();
    for (transport, local_port, remote_port) in transports(core, config) {
        for &remote in &remotes {
            for &local in &locals {
                let pair = (local, remote);
                if local.is_ipv4() != remote.is_ipv4() || mobike.refused.contains(&pair) {
                    continue;
                }
                let same = (remote, transport) == (current.remote.ip(), current.transport);
                let port = if same {
                    current.remote.port()
                } else {
                    remote_port
                };
                paths.push(Path {
                    local: SocketAddr::new(local, local_port),
                    remote: SocketAddr::new(remote, port),
                    transport,
                });
            }
        }
    }
    paths.truncate(MAX_PATHS);
    paths
}

/// What may carry the messages, with our port and the peer's: what does, and with [`Tcp::Fallback`] the other one of
/// UDP and TCP. That it is UDP on the port that ESP shares, both know who have agreed to MOBIKE.
//= rfc9329#7.1
//# Implementations that implement
//# both MOBIKE and TCP encapsulation within the same connection
//# configuration MUST support dynamically enabling and disabling TCP
//# encapsulation as interfaces change.
fn transports(core: &Core, config: &EndpointConfig) -> Vec<(Transport, u16, u16)> {
    let current = core.path.transport;
    let port = core.path.local.port();
    let encapsulated = (Transport::UdpEncap, config.nat_port, config.nat_port);
    let both = core.config.tcp == Tcp::Fallback && core.streams.originator;
    match current {
        Transport::Tcp => {
            let stream = (current, port, core.config.tcp_remote_port);
            let datagrams = both.then_some(encapsulated);
            datagrams.into_iter().chain([stream]).collect()
        }
        Transport::Udp | Transport::UdpEncap => {
            let remote_port = match current {
                Transport::Udp => config.ike_port,
                _ => config.nat_port,
            };
            let stream = core.streams.port().filter(|_| both);
            let stream = stream.map(|port| (Transport::Tcp, port, core.config.tcp_remote_port));
            [(current, port, remote_port)]
                .into_iter()
                .chain(stream)
                .collect()
        }
    }
}

/// The paths that a request is sent over now.
pub(crate) fn request_paths(core: &Core, cx: &Context<'_>) -> Vec<Path> {
    if core.mobike.as_ref().is_some_and(|m| m.searching) {
        let paths = paths(core, cx.config, &cx.shared.addresses);
        if !paths.is_empty() {
            return paths;
        }
    }
    vec![core.path]
}

/// From now on requests go over all paths, until one is answered.
fn search(core: &mut Core, cx: &mut Context<'_>) {
    let Some(mobike) = &mut core.mobike else {
        return;
    };
    mobike.searching = true;
    if core.outgoing.is_idle() {
        mobike.want(Ask::Probe);
    }
    for path in request_paths(core, cx) {
        for pending in core.outgoing.all_pending() {
            cx.transmit_message(path, &pending.message);
        }
    }
}

/// A request of ours has been repeated in vain: there may be other paths.
//= rfc4555#3.5
//# An IKEv2 request has been re-transmitted several times, but no
//# valid reply has been received.  This suggests the current path is
//# no longer working.
pub(crate) fn on_silence(core: &mut Core, cx: &Context<'_>, attempt: u32) {
    if role(core) == Some(Role::Initiator)
        && attempt >= PATIENCE
        && paths(core, cx.config, &cx.shared.addresses).len() > 1
        && let Some(mobike) = &mut core.mobike
    {
        mobike.searching = true;
    }
}

/// A response has come: where it came, the path works.
pub(crate) fn on_answered(core: &mut Core, cx: &mut Context<'_>, back: Path) {
    let Some(mobike) = &mut core.mobike else {
        return;
    };
    if !std::mem::take(&mut mobike.searching) {
        return;
    }
    let updating = |request: &Request| request.ask == Some(Ask::Update);
    if back == core.path {
        //= rfc4555#3.6
        //# If the request to update the addresses is
        //# retransmitted using several different source addresses, a new
        //# INFORMATIONAL request MUST be sent.
        // The peer may have followed one that came from elsewhere.
        if mobike.request.as_ref().is_some_and(updating) {
            mobike.want(Ask::Update);
        }
    } else {
        match mobike.role {
            Role::Initiator => go(core, cx, back),
            // Where the initiator is, it says itself. It finds us, and our end of the child SAs, where the response came.
            Role::Responder => {
                mobike.want(Ask::Addresses);
                let before = core.child_path();
                core.path = back;
                report(core, cx, before);
            }
        }
    }
}

/// The addresses of this host have changed.
pub(crate) fn on_addresses(core: &mut Core, cx: &mut Context<'_>) {
    let own = cx.shared.addresses.clone();
    let news = additional(core, &own);
    let lost = !own.contains(&core.path.local.ip());
    let paths = paths(core, cx.config, &own);
    let Some(mobike) = &mut core.mobike else {
        return;
    };
    if !lost {
        if mobike.told != news {
            mobike.want(Ask::Addresses);
        }
        return;
    }
    match (mobike.role, paths.as_slice()) {
        // Nowhere to go now: something may come.
        (_, []) => {}
        (Role::Initiator, [only]) => go(core, cx, *only),
        (Role::Initiator, _) => search(core, cx),
        //= rfc4555#3.5
        //# If
        //# the source address that the responder is currently using becomes
        //# unavailable (i.e., sending packets using that source address is no
        //# longer possible), the responder is allowed to update the IPsec SAs to
        //# use some other address (in addition to initiating the procedure
        //# described in the next section).
        (Role::Responder, [first, ..]) => {
            mobike.searching = true;
            mobike.want(Ask::Addresses);
            let before = core.child_path();
            core.path = *first;
            report(core, cx, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A responder that tells ever new addresses and refuses each.
    #[test]
    fn so_many_refusals_are_remembered_and_no_more() {
        let mut mobike = Mobike::new(Role::Initiator, Vec::new(), Vec::new());
        let local = IpAddr::from([192, 0, 2, 1]);
        for n in 0..1000_u32 {
            mobike.refuse(local, Ipv4Addr::from(n).into());
        }
        assert_eq!(mobike.refused.len(), MAX_REFUSED);
        let last = (local, Ipv4Addr::from(999).into());
        assert_eq!(mobike.refused.last(), Some(&last));
    }
}
