//! Child SAs and their negotiation, whichever exchange it happens in (RFC 7296 §1.3.1, §2.9, §2.17).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{
    Additional, AdditionalOffer, EspProposal, EspSuite, IkeSuite, SharedSecret, SkD,
};
use cygnet_ipsec::{Mode, Protocol};
use cygnet_wire::{
    AggfragNotify, CfgAttributeType, CfgType, KeId, Notify, NotifyType, PayloadType, PayloadWriter,
    TrafficSelector,
};

use crate::aggfrag;
use crate::config::ChildConfig;
use crate::contents::{Contents, ranges};
use crate::context::{Context, Undo};
use crate::info::ChildSaInfo;
use crate::io::{
    AcquireHint, ChildInstall, ChildRequest, ChildSaId, Refusal, Request, RequestId, Reserved,
};
use crate::ipcomp;
use crate::label;
use crate::mode;
use crate::proposal::{ChildExchange, EspChoice, SaSpi, accept_esp, esp_offer, select_esp};
use crate::reason::{ChildCloseReason, ChildFailure, Party};
use crate::resource::{self, Resource};
use crate::sa::Core;
use crate::selectors::{all_covered, contains, narrow, resolve, single_address, substitute};

/// A child SA that both ends have agreed on.
#[derive(Debug)]
pub(crate) struct ChildSa {
    pub(crate) id: ChildSaId,
    pub(crate) state: ChildState,
    pub(crate) established: Option<Instant>,
    pub(crate) agreed: Agreed,
    /// The child SA that it was made to replace.
    pub(crate) replaces: Option<ChildSaId>,
    /// We may send on it. If the peer has made it in place of another one, we keep to the old one until the peer closes
    /// that (RFC 7296 §2.8).
    pub(crate) outbound: bool,
    /// Exchanges have crossed and another successor has won: the peer, which made this one, will delete it. If it does
    /// not, we do at this time.
    pub(crate) redundant: Option<Instant>,
}

/// How far a child SA has come.
#[derive(Debug)]
pub(crate) enum ChildState {
    /// The data plane has been asked to install it.
    Installing {
        request: RequestId,
        /// It must go as soon as the data plane has answered.
        doomed: Option<ChildCloseReason>,
    },
    /// In use.
    Installed,
    /// In use, and the peer has made a successor: it will delete this one.
    Replaced,
    /// We have asked the peer to delete it, or are about to.
    Deleting(ChildCloseReason),
}

/// What two ends have agreed on.
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    pub(crate) config: Arc<ChildConfig>,
    /// We were the initiator of the exchange.
    pub(crate) initiator: bool,
    pub(crate) mode: Mode,
    pub(crate) suite: EspSuite,
    pub(crate) spi_in: u32,
    pub(crate) spi_out: u32,
    pub(crate) ipcomp: Option<(u16, u16)>,
    pub(crate) unused_cpi: Option<u16>,
    pub(crate) ts_local: Vec<TrafficSelector>,
    pub(crate) ts_remote: Vec<TrafficSelector>,
    pub(crate) peer_refuses_tfc: bool,
    pub(crate) peer_refuses_fragments: bool,
    pub(crate) acquire_seq: u32,
    pub(crate) resource: Option<Resource>,
}

/// Where the keys of a child SA come from (RFC 7296 §2.17).
#[derive(Clone, Copy)]
pub(crate) struct KeySource<'a> {
    pub(crate) sk_d: &'a SkD,
    /// What came of the exchange's own key exchanges.
    pub(crate) secrets: &'a [SharedSecret],
    /// The nonces of the exchange.
    pub(crate) ni: &'a [u8],
    pub(crate) nr: &'a [u8],
}

/// What an exchange brings in beside the child SA itself: CREATE_CHILD_SA has a nonce and perhaps a public value,
/// IKE_AUTH neither.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fresh<'a> {
    pub(crate) nonce: Option<&'a [u8]>,
    pub(crate) key_exchange: Option<(KeId, &'a [u8])>,
}

impl Fresh<'_> {
    fn write(&self, payloads: &mut PayloadWriter<'_>) {
        if let Some(nonce) = self.nonce {
            payloads.nonce(nonce);
        }
        if let Some((method, public)) = self.key_exchange {
            payloads.ke(method, public);
        }
    }
}

impl Agreed {
    /// The order to install it.
    pub(crate) fn install(
        &self,
        core: &Core,
        child: ChildSaId,
        replaces: Option<ChildSaId>,
        outbound: bool,
        source: KeySource<'_>,
    ) -> Request {
        let KeySource {
            sk_d,
            secrets,
            ni,
            nr,
        } = source;
        let keys = sk_d.child_keys(&self.suite, secrets, ni, nr);
        let (keys_out, keys_in) = if self.initiator {
            (keys.initiator, keys.responder)
        } else {
            (keys.responder, keys.initiator)
        };
        let path = core.child_path();
        Request::InstallChild(Box::new(ChildInstall {
            ike: core.id,
            child,
            replaces,
            outbound,
            config: Arc::clone(&self.config),
            initiator: self.initiator,
            local: path.local,
            remote: path.remote,
            encapsulation: path.encapsulation,
            mode: self.mode,
            protocol: self.config.protocol,
            suite: self.suite,
            spi_in: self.spi_in,
            spi_out: self.spi_out,
            ipcomp: self.ipcomp,
            unused_cpi: self.unused_cpi,
            keys_in,
            keys_out,
            ts_local: self.ts_local.clone(),
            ts_remote: self.ts_remote.clone(),
            peer_refuses_tfc: self.peer_refuses_tfc,
            peer_refuses_fragments: self.peer_refuses_fragments,
            acquire_seq: self.acquire_seq,
            resource: self.resource,
        }))
    }
}

impl Agreed {
    /// What the peer sends on.
    pub(crate) fn own_spi(&self) -> SaSpi {
        SaSpi {
            protocol: self.config.protocol_id(),
            spi: self.spi_in,
        }
    }

    /// What we send on.
    pub(crate) fn peers_spi(&self) -> SaSpi {
        SaSpi {
            protocol: self.config.protocol_id(),
            spi: self.spi_out,
        }
    }

    /// What must follow if it is installed after all.
    pub(crate) fn undo_install(&self, core: &Core, child: ChildSaId) -> Undo {
        let (local, remote) = core.addresses();
        Undo::Install {
            ike: core.id,
            child,
            local,
            remote,
            spi_in: self.spi_in,
            spi_out: self.spi_out,
            protocol: self.config.protocol,
        }
    }
}

/// What must follow if an SPI is reserved after all.
fn undo_spi(core: &Core, child: ChildSaId, config: &ChildConfig) -> Undo {
    let (local, remote) = core.addresses();
    Undo::Spi {
        child,
        local,
        remote,
        protocol: config.protocol,
    }
}

impl ChildSa {
    /// Whether its end is decided, and only waits for the peer or the data plane.
    pub(crate) fn is_doomed(&self) -> bool {
        match &self.state {
            ChildState::Installing { doomed, .. } => doomed.is_some(),
            ChildState::Installed | ChildState::Replaced => false,
            ChildState::Deleting(_) => true,
        }
    }

    /// As seen from outside.
    pub(crate) fn info(&self, core: &Core) -> ChildSaInfo {
        let Agreed {
            config,
            initiator,
            mode,
            suite,
            spi_in,
            spi_out,
            ipcomp,
            ts_local,
            ts_remote,
            resource,
            ..
        } = &self.agreed;
        let path = core.child_path();
        ChildSaInfo {
            id: self.id,
            ike: core.id,
            config: Arc::clone(config),
            initiator: *initiator,
            mode: *mode,
            protocol: config.protocol,
            suite: *suite,
            spi_in: *spi_in,
            spi_out: *spi_out,
            resource: *resource,
            ipcomp: *ipcomp,
            local: path.local,
            remote: path.remote,
            encapsulation: path.encapsulation,
            ts_local: ts_local.clone(),
            ts_remote: ts_remote.clone(),
            established: self.established,
            replaces: self.replaces,
            outbound: self.outbound,
        }
    }

    /// The order to send on it.
    pub(crate) fn activate(&self, core: &Core) -> Request {
        Request::ActivateOutbound {
            ike: core.id,
            child: self.id,
        }
    }

    /// The order to remove it.
    pub(crate) fn remove(&self, core: &Core) -> Request {
        Request::RemoveChild {
            ike: core.id,
            child: self.id,
            local: core.child_path().local.ip(),
            remote: core.child_path().remote.ip(),
            spi_in: self.agreed.spi_in,
            spi_out: self.agreed.spi_out,
            protocol: self.agreed.config.protocol,
        }
    }
}

/// A child SA that we are about to ask for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) id: ChildSaId,
    pub(crate) config: Arc<ChildConfig>,
    pub(crate) acquire: Option<AcquireHint>,
    /// What it is to be for, of several with the same selectors.
    pub(crate) resource: Option<Resource>,
    /// It is so already: it renews another one, or that may have more beside it.
    settled: bool,
}

impl Wanted {
    pub(crate) fn new(id: ChildSaId, request: ChildRequest) -> Self {
        let ChildRequest { config, acquire } = request;
        let cpu = acquire.as_ref().and_then(|hint| hint.cpu);
        let resource = match cpu {
            Some(cpu) => Resource::Cpu(Some(cpu)),
            None => Resource::Fallback,
        };
        Self {
            id,
            acquire,
            resource: (config.clones > 0).then_some(resource),
            settled: cpu.is_some(),
            config,
        }
    }

    /// One in place of another, which stays on its CPU.
    pub(crate) fn successor(id: ChildSaId, of: &Agreed) -> Self {
        Self {
            id,
            config: Arc::clone(&of.config),
            acquire: None,
            resource: of.resource,
            settled: true,
        }
    }

    fn acquire_seq(&self) -> u32 {
        self.acquire.as_ref().map_or(0, |hint| hint.seq)
    }

    /// The order to reserve an SPI for it.
    pub(crate) fn allocate_spi(&self, core: &Core) -> Request {
        let (own, _) = core.addresses();
        let inner = configured(&self.config, &self.config.local_ts, own);
        let compress = compresses(&self.config, own, &inner);
        allocate_spi(core, self.id, &self.config, compress, self.acquire_seq())
    }

    /// Stops waiting for the SPI.
    pub(crate) fn abandon(&self, core: &Core, cx: &mut Context<'_>, request: RequestId) {
        cx.abandon(request, undo_spi(core, self.id, &self.config));
    }

    /// What we ask for, once there is an SPI.
    pub(crate) fn offer(self, core: &Core, reserved: Reserved, exchange: ChildExchange) -> Offer {
        let (own, peer) = core.addresses();
        let mut ts_local = configured(&self.config, &self.config.local_ts, own);
        let mut ts_remote = configured(&self.config, &self.config.remote_ts, peer);
        // Further child SAs for single CPUs have the selectors of the first.
        if let Some(hint) = self.acquire.as_ref().filter(|hint| hint.cpu.is_none()) {
            //= rfc7296#2.9
            //# To enable the responder to choose the appropriate range in this case,
            //# if the initiator has requested the SA due to a data packet, the
            //# initiator SHOULD include as the first Traffic Selector in each of TSi
            //# and TSr a very specific Traffic Selector including the addresses in
            //# the packet triggering the request.
            let allowed =
                |all: &[TrafficSelector], packet| all.iter().any(|ts| contains(ts, packet));
            if allowed(&ts_local, &hint.local) && allowed(&ts_remote, &hint.remote) {
                ts_local.insert(0, hint.local);
                ts_remote.insert(0, hint.remote);
            }
        }
        Offer {
            proposals: self.proposals(core, exchange),
            wanted: self,
            exchange,
            reserved,
            ts_local,
            ts_remote,
        }
    }

    /// What is offered: without additional key exchanges where there are none, or if they are those of the IKE SA, which
    /// has none.
    fn proposals(&self, core: &Core, exchange: ChildExchange) -> Vec<EspProposal> {
        let ours = &self.config.proposals;
        let has_some = |suite: IkeSuite| suite.additional != Additional::default();
        if exchange == ChildExchange::CreateChildSa
            && (!self.config.additional_of_ike || core.suite.is_some_and(has_some))
        {
            return ours.clone();
        }
        let mut plain: Vec<EspProposal> = Vec::with_capacity(ours.len());
        for proposal in ours {
            let proposal = EspProposal {
                additional: AdditionalOffer::default(),
                ..proposal.clone()
            };
            if !plain.contains(&proposal) {
                plain.push(proposal);
            }
        }
        plain
    }
}

fn allocate_spi(
    core: &Core,
    child: ChildSaId,
    config: &Arc<ChildConfig>,
    compress: bool,
    acquire_seq: u32,
) -> Request {
    let (local, remote) = core.addresses();
    Request::AllocateSpi {
        ike: core.id,
        child,
        config: Arc::clone(config),
        local,
        remote,
        protocol: config.protocol,
        compress,
        acquire_seq,
    }
}

/// Whether packets between these selectors are to be compressed. With IPComp the tunnel is IPComp's and ESP around it is
/// in transport mode, in which the kernel takes inner packets of the outer family only.
fn compresses(config: &ChildConfig, own: IpAddr, inner: &[TrafficSelector]) -> bool {
    let same = |ts: &TrafficSelector| ts.start.is_ipv4() == own.is_ipv4();
    config.compress && !aggfrag::is_wanted(config) && inner.iter().all(same)
}

//= rfc7296#1.3.1
//# The ESP_TFC_PADDING_NOT_SUPPORTED notification asserts that the
//# sending endpoint will not accept packets that contain Traffic Flow
//# Confidentiality (TFC) padding over the Child SA being negotiated.
fn refuse_tfc(config: &ChildConfig, payloads: &mut PayloadWriter<'_>) {
    if config.refuse_tfc {
        payloads.notify(&Notify::new(NotifyType::ESP_TFC_PADDING_NOT_SUPPORTED, &[]));
    }
}

/// Whether the peer, if it agrees to IP-TFS, requires that packets are not fragmented.
fn refuses_fragments(required: Option<AggfragNotify>) -> bool {
    required.is_some_and(|required| required.contains(AggfragNotify::DONT_FRAGMENT))
}

/// The order to give an SPI back.
fn release_spi(core: &Core, child: ChildSaId, config: &ChildConfig, reserved: Reserved) -> Request {
    let (local, remote) = core.addresses();
    Request::ReleaseSpi {
        child,
        local,
        remote,
        spi: reserved.spi,
        cpi: reserved.cpi,
        protocol: config.protocol,
    }
}

/// The configured selectors of one end, which is at `own`.
fn configured(
    config: &ChildConfig,
    templates: &[crate::selectors::TsTemplate],
    own: IpAddr,
) -> Vec<TrafficSelector> {
    let selectors = resolve(templates, own);
    if config.mode != Mode::Transport {
        return selectors;
    }
    //= rfc7296#2.23.1
    //# For
    //# transport mode, it MUST use exactly one IP address in the TSi and TSr
    //# payloads.
    narrow(&selectors, &[TrafficSelector::addresses(own, own)])
}

/// A child SA that we have asked for.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) wanted: Wanted,
    pub(crate) proposals: Vec<EspProposal>,
    exchange: ChildExchange,
    reserved: Reserved,
    ts_local: Vec<TrafficSelector>,
    ts_remote: Vec<TrafficSelector>,
}

/// Why an offered child SA is not to be.
#[derive(Debug)]
pub(crate) struct NotAccepted {
    pub(crate) reason: ChildFailure,
    /// The peer has it all the same, until it is told.
    pub(crate) peer_has_it: bool,
}

impl Offer {
    /// What the peer is to send on.
    pub(crate) fn own_spi(&self) -> SaSpi {
        SaSpi {
            protocol: self.wanted.config.protocol_id(),
            spi: self.reserved.spi,
        }
    }

    /// The order to give its SPI back.
    pub(crate) fn release(&self, core: &Core) -> Request {
        release_spi(core, self.wanted.id, &self.wanted.config, self.reserved)
    }

    /// Writes SA, TSi, TSr and what goes with them.
    pub(crate) fn write(&self, fresh: Fresh<'_>, payloads: &mut PayloadWriter<'_>) {
        mode::announce(self.wanted.config.mode, payloads);
        if let Some(resource) = self.wanted.resource {
            resource::announce(resource, payloads);
        }
        if aggfrag::is_wanted(&self.wanted.config) {
            aggfrag::announce(&self.wanted.config, payloads);
        }
        refuse_tfc(&self.wanted.config, payloads);
        ipcomp::announce(self.reserved.cpi, payloads);
        payloads.sa(&esp_offer(&self.proposals, self.own_spi(), self.exchange));
        fresh.write(payloads);
        let label = self.wanted.config.label.as_ref();
        label::write_selectors(label, &self.ts_local, &self.ts_remote, payloads);
    }

    /// What the peer made of it.
    pub(crate) fn accept(
        &self,
        core: &Core,
        contents: &Contents<'_>,
    ) -> Result<Agreed, NotAccepted> {
        let config = &self.wanted.config;
        let refused = |reason| NotAccepted {
            reason,
            peer_has_it: false,
        };
        let wrong = |reason| NotAccepted {
            reason,
            peer_has_it: true,
        };
        //= rfc7296#3.10.1
        //# An
        //# implementation receiving a Notify payload with one of these types
        //# that it does not recognize in a response MUST assume that the
        //# corresponding request has failed entirely.
        if let Some(error) = contents.error() {
            return Err(refused(self.refusal(error.kind)));
        }
        let missing = |kind| refused(ChildFailure::Missing(kind));
        let sa = contents.sa.ok_or_else(|| missing(PayloadType::SA))?;
        let ts_i = contents
            .ts_i
            .ok_or_else(|| wrong(ChildFailure::Missing(PayloadType::TS_I)))?;
        let ts_r = contents
            .ts_r
            .ok_or_else(|| wrong(ChildFailure::Missing(PayloadType::TS_R)))?;
        let not_offered = |what: String| wrong(ChildFailure::NotOffered(what));
        let protocol = config.protocol_id();
        let (suite, spi_out) = accept_esp(&self.proposals, protocol, &sa, self.exchange)
            .ok_or_else(|| not_offered(crate::describe::proposals(&sa.to_proposals())))?;
        //= rfc7296#1.3.1
        //# If the responder declines the request, the Child
        //# SA will be established in tunnel mode.  If this is unacceptable to
        //# the initiator, the initiator MUST delete the SA.
        if config.protocol == Protocol::Ah && core.child_path().encapsulation.is_some() {
            return Err(wrong(ChildFailure::AhBehindNat));
        }
        if !mode::is_agreed(config.mode, contents) {
            return Err(wrong(ChildFailure::ModeMismatch(config.mode.name())));
        }
        let aggfrag = aggfrag::agreed(config, contents).map_err(not_offered)?;
        let (mut ts_local, mut ts_remote) = (ranges(&ts_i), ranges(&ts_r));
        if config.mode == Mode::Transport {
            // Seen from the peer, an end behind a NAT has the NAT's address (RFC 7296 §2.23.1).
            let (own, peer) = core.addresses();
            if core.nat.local && single_address(&ts_local) {
                ts_local = substitute(&ts_local, own);
            }
            if core.nat.remote && single_address(&ts_remote) {
                ts_remote = substitute(&ts_remote, peer);
            }
        }
        let vague =
            config.mode == Mode::Beet && !(single_address(&ts_local) && single_address(&ts_remote));
        if vague
            || !all_covered(&ts_local, &self.ts_local)
            || !all_covered(&ts_remote, &self.ts_remote)
        {
            let list = crate::describe::list;
            return Err(not_offered(format!(
                "{} === {}",
                list(&ts_local),
                list(&ts_remote)
            )));
        }
        let own_label = config.label.as_ref();
        if !label::is_agreed(own_label, &ts_i, &ts_r) {
            return Err(wrong(label::unacceptable(own_label, Some(&ts_i))));
        }
        let peers = ipcomp::accepted(self.reserved.cpi.is_some(), contents)
            .map_err(|()| not_offered("IPCOMP_SUPPORTED".to_owned()))?;
        let ipcomp = self.reserved.cpi.zip(peers);
        Ok(Agreed {
            config: Arc::clone(config),
            initiator: true,
            mode: aggfrag.map_or(config.mode, |_| Mode::Iptfs),
            suite,
            spi_in: self.reserved.spi,
            spi_out,
            ipcomp,
            unused_cpi: self.reserved.cpi.filter(|_| ipcomp.is_none()),
            ts_local,
            ts_remote,
            peer_refuses_tfc: contents.has(NotifyType::ESP_TFC_PADDING_NOT_SUPPORTED),
            peer_refuses_fragments: refuses_fragments(aggfrag),
            acquire_seq: self.wanted.acquire_seq(),
            resource: self
                .wanted
                .resource
                .filter(|_| self.wanted.settled || resource::is_said(contents)),
        })
    }

    /// What an error in the peer's answer means.
    pub(crate) fn refusal(&self, kind: NotifyType) -> ChildFailure {
        match kind {
            NotifyType::NO_PROPOSAL_CHOSEN => ChildFailure::NoProposalChosen {
                by: Party::Peer,
                ours: self.proposals.clone(),
                theirs: None,
            },
            NotifyType::TS_UNACCEPTABLE => ChildFailure::TsUnacceptable {
                by: Party::Peer,
                ours_local: self.ts_local.clone(),
                ours_remote: self.ts_remote.clone(),
                theirs: None,
            },
            NotifyType::SINGLE_PAIR_REQUIRED => ChildFailure::SinglePairRequired(Party::Peer),
            NotifyType::INTERNAL_ADDRESS_FAILURE => {
                ChildFailure::InternalAddressFailure(Party::Peer)
            }
            NotifyType::FAILED_CP_REQUIRED => ChildFailure::FailedCpRequired,
            NotifyType::NO_ADDITIONAL_SAS => ChildFailure::NoAdditionalSas,
            NotifyType::TS_MAX_QUEUE => ChildFailure::MaxQueue(Party::Peer),
            other => ChildFailure::PeerNotify(other),
        }
    }
}

/// What a responder has chosen of a peer's offer.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) id: ChildSaId,
    pub(crate) config: Arc<ChildConfig>,
    pub(crate) choice: EspChoice,
    mode: Mode,
    ts_local: Vec<TrafficSelector>,
    ts_remote: Vec<TrafficSelector>,
    peer_refuses_tfc: bool,
    peer_refuses_fragments: bool,
    /// The peer's CPI, if packets are to be compressed.
    cpi_out: Option<u16>,
    /// What it is for, if the peer asks for one of several with the same selectors, or it renews one.
    pub(crate) resource: Option<Resource>,
    /// The peer has said so.
    resource_said: bool,
}

/// What a responder awaits from the data plane for a child SA that it has chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    Spi(RequestId),
    Install { request: RequestId, spi: Reserved },
}

impl Phase {
    /// Why there is no child SA if the data plane refuses.
    pub(crate) fn failure(self, refusal: Refusal) -> ChildFailure {
        match self {
            Self::Spi(_) => ChildFailure::SpiRefused(refusal),
            Self::Install { .. } => ChildFailure::InstallFailed(refusal),
        }
    }
}

/// Why a responder refuses a child SA, and what the peer is told.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) notify: NotifyType,
    pub(crate) reason: ChildFailure,
    pub(crate) config: Option<Arc<ChildConfig>>,
}

/// How well a configuration fits what the peer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// They have something in common.
    Partly,
    /// The first selectors of the peer are within it.
    FirstChoice,
    /// It is what the peer asks for.
    Exactly,
}

/// How far the search came with a configuration that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    Mode,
    Selectors,
    Label,
    SinglePair,
    Proposal,
}

impl Chosen {
    /// What we are to send on.
    pub(crate) fn peers_spi(&self) -> SaSpi {
        SaSpi {
            protocol: self.config.protocol_id(),
            spi: self.choice.peer_spi,
        }
    }

    /// The best of our configurations for what the peer asks for.
    pub(crate) fn choose(
        core: &Core,
        id: ChildSaId,
        configs: &[Arc<ChildConfig>],
        contents: &Contents<'_>,
        exchange: ChildExchange,
    ) -> Result<Self, Refused> {
        if asks_for_address(contents) {
            return Err(Refused {
                notify: NotifyType::INTERNAL_ADDRESS_FAILURE,
                reason: ChildFailure::InternalAddressFailure(Party::Us),
                config: None,
            });
        }
        let mut best: Option<(Fit, Self)> = None;
        let mut worst: Option<(Obstacle, Refused)> = None;
        for config in configs {
            match Self::try_config(core, id, config, contents, exchange) {
                Ok((fit, chosen)) => {
                    if best.as_ref().is_none_or(|(known, _)| fit > *known) {
                        best = Some((fit, chosen));
                    }
                }
                Err(error) => {
                    let (obstacle, refused) = *error;
                    if worst.as_ref().is_none_or(|(known, _)| obstacle > *known) {
                        worst = Some((obstacle, refused));
                    }
                }
            }
        }
        match (best, worst) {
            (Some((_, chosen)), _) => Ok(chosen),
            (None, Some((_, refused))) => Err(refused),
            (None, None) => Err(Refused {
                notify: NotifyType::TS_UNACCEPTABLE,
                reason: ChildFailure::TsUnacceptable {
                    by: Party::Us,
                    ours_local: Vec::new(),
                    ours_remote: Vec::new(),
                    theirs: theirs(contents),
                },
                config: None,
            }),
        }
    }

    fn try_config(
        core: &Core,
        id: ChildSaId,
        config: &Arc<ChildConfig>,
        contents: &Contents<'_>,
        exchange: ChildExchange,
    ) -> Result<(Fit, Self), Box<(Obstacle, Refused)>> {
        let refuse = |obstacle, notify, reason| {
            let config = Some(Arc::clone(config));
            Box::new((
                obstacle,
                Refused {
                    notify,
                    reason,
                    config,
                },
            ))
        };
        if !mode::is_asked_for(config.mode, contents) {
            let reason = ChildFailure::ModeMismatch(config.mode.name());
            return Err(refuse(
                Obstacle::Mode,
                NotifyType::NO_PROPOSAL_CHOSEN,
                reason,
            ));
        }
        if config.protocol == Protocol::Ah && core.child_path().encapsulation.is_some() {
            return Err(refuse(
                Obstacle::Mode,
                NotifyType::NO_PROPOSAL_CHOSEN,
                ChildFailure::AhBehindNat,
            ));
        }
        let (own, peer) = core.addresses();
        let (mut theirs_local, mut theirs_remote) = theirs(contents).unwrap_or_default();
        if config.mode == Mode::Transport {
            //= rfc7296#2.23.1
            //# If the client is behind a NAT, substitute the IP address in the
            //# TSi entries with the remote address of the IKE SA.
            if core.nat.remote && single_address(&theirs_remote) {
                theirs_remote = substitute(&theirs_remote, peer);
            }
            //= rfc7296#2.23.1
            //# If the server is behind a NAT, substitute the IP address in the
            //# TSr entries with the local address of the IKE SA.
            if core.nat.local && single_address(&theirs_local) {
                theirs_local = substitute(&theirs_local, own);
            }
        }
        let ours_local = configured(config, &config.local_ts, own);
        let ours_remote = configured(config, &config.remote_ts, peer);
        let mut ts_local = narrow(&theirs_local, &ours_local);
        let mut ts_remote = narrow(&theirs_remote, &ours_remote);
        let is_pair = |local: &[_], remote: &[_]| single_address(local) && single_address(remote);
        // What is not sent must be one address at each end.
        let vague = config.mode == Mode::Beet && !is_pair(&ts_local, &ts_remote);
        if ts_local.is_empty() || ts_remote.is_empty() || vague {
            let theirs = Some((theirs_local, theirs_remote));
            let reason = ChildFailure::TsUnacceptable {
                by: Party::Us,
                ours_local,
                ours_remote,
                theirs,
            };
            return Err(refuse(
                Obstacle::Selectors,
                NotifyType::TS_UNACCEPTABLE,
                reason,
            ));
        }
        let own_label = config.label.as_ref();
        let (ts_i, ts_r) = (contents.ts_i.as_ref(), contents.ts_r.as_ref());
        if !label::is_asked_for(own_label, ts_i, ts_r) {
            let reason = label::unacceptable(own_label, ts_i);
            return Err(refuse(Obstacle::Label, NotifyType::TS_UNACCEPTABLE, reason));
        }
        if config.single_pair && !is_pair(&ts_local, &ts_remote) {
            ts_local = narrow(theirs_local.get(..1).unwrap_or_default(), &ours_local);
            ts_remote = narrow(theirs_remote.get(..1).unwrap_or_default(), &ours_remote);
            if !is_pair(&ts_local, &ts_remote) {
                let reason = ChildFailure::SinglePairRequired(Party::Us);
                return Err(refuse(
                    Obstacle::SinglePair,
                    NotifyType::SINGLE_PAIR_REQUIRED,
                    reason,
                ));
            }
        }
        let protocol = config.protocol_id();
        let choice = contents
            .sa
            .and_then(|sa| select_esp(&config.proposals, protocol, &sa, exchange));
        let Some(choice) = choice else {
            let offer = contents.sa.map_or_else(Vec::new, |sa| sa.to_proposals());
            let ours = config.proposals.clone();
            let reason = ChildFailure::NoProposalChosen {
                by: Party::Us,
                ours,
                theirs: Some(offer),
            };
            return Err(refuse(
                Obstacle::Proposal,
                NotifyType::NO_PROPOSAL_CHOSEN,
                reason,
            ));
        };
        let first_within = |theirs: &[TrafficSelector], narrowed: &[TrafficSelector]| {
            theirs
                .first()
                .is_some_and(|first| narrowed.iter().any(|ts| contains(ts, first)))
        };
        let fit = if all_covered(&ours_local, &ts_local)
            && all_covered(&ours_remote, &ts_remote)
            && all_covered(&theirs_local, &ts_local)
            && all_covered(&theirs_remote, &ts_remote)
        {
            Fit::Exactly
        } else if first_within(&theirs_local, &ts_local) && first_within(&theirs_remote, &ts_remote)
        {
            //= rfc7296#2.9
            //# If the responder's policy allows it to accept the first selector
            //# of TSi and TSr, then the responder MUST narrow the Traffic
            //# Selectors to a subset that includes the initiator's first choices.
            Fit::FirstChoice
        } else {
            Fit::Partly
        };
        let peer_refuses_tfc = contents.has(NotifyType::ESP_TFC_PADDING_NOT_SUPPORTED);
        let compress = compresses(config, own, &ts_local);
        let cpi_out = ipcomp::offered(contents).filter(|_| compress);
        let aggfrag = aggfrag::asked_for(config, contents);
        let mode = aggfrag.map_or(config.mode, |_| Mode::Iptfs);
        let resource_said = config.clones > 0 && resource::is_said(contents);
        let config = Arc::clone(config);
        Ok((
            fit,
            Self {
                id,
                config,
                choice,
                mode,
                ts_local,
                ts_remote,
                peer_refuses_tfc,
                peer_refuses_fragments: refuses_fragments(aggfrag),
                cpi_out,
                resource: resource_said.then_some(Resource::Fallback),
                resource_said,
            },
        ))
    }

    /// The order to reserve an SPI for it.
    pub(crate) fn allocate_spi(&self, core: &Core) -> Request {
        allocate_spi(core, self.id, &self.config, self.cpi_out.is_some(), 0)
    }

    /// The order to give its SPI back.
    pub(crate) fn release_spi(&self, core: &Core, spi: Reserved) -> Request {
        release_spi(core, self.id, &self.config, spi)
    }

    /// Stops waiting for the data plane.
    pub(crate) fn abandon(&self, core: &Core, cx: &mut Context<'_>, phase: Phase) {
        match phase {
            Phase::Spi(request) => cx.abandon(request, undo_spi(core, self.id, &self.config)),
            Phase::Install { request, spi } => {
                cx.abandon(request, self.agreed(spi).undo_install(core, self.id));
            }
        }
    }

    /// What is agreed, once there is an SPI.
    pub(crate) fn agreed(&self, reserved: Reserved) -> Agreed {
        let ipcomp = reserved.cpi.zip(self.cpi_out);
        Agreed {
            config: Arc::clone(&self.config),
            initiator: false,
            mode: self.mode,
            suite: self.choice.suite,
            spi_in: reserved.spi,
            spi_out: self.choice.peer_spi,
            ipcomp,
            unused_cpi: None,
            ts_local: self.ts_local.clone(),
            ts_remote: self.ts_remote.clone(),
            peer_refuses_tfc: self.peer_refuses_tfc,
            peer_refuses_fragments: self.peer_refuses_fragments,
            acquire_seq: 0,
            resource: self.resource,
        }
    }

    /// Whether it is of the same connection and selectors as another one.
    pub(crate) fn serves_the_same(&self, other: &Agreed) -> bool {
        other.config.tag == self.config.tag
            && (&other.ts_local, &other.ts_remote) == (&self.ts_local, &self.ts_remote)
    }

    /// Writes SA, TSi, TSr and what goes with them.
    pub(crate) fn write(
        &self,
        reserved: Reserved,
        fresh: Fresh<'_>,
        payloads: &mut PayloadWriter<'_>,
    ) {
        mode::announce(self.mode, payloads);
        if let Some(resource) = self.resource.filter(|_| self.resource_said) {
            resource::announce(resource, payloads);
        }
        if self.mode == Mode::Iptfs {
            aggfrag::announce(&self.config, payloads);
        }
        refuse_tfc(&self.config, payloads);
        ipcomp::announce(reserved.cpi, payloads);
        let (protocol, spi) = (self.config.protocol_id(), reserved.spi);
        payloads.sa(&[self.choice.answer(SaSpi { protocol, spi })]);
        fresh.write(payloads);
        let label = self.config.label.as_ref();
        label::write_selectors(label, &self.ts_remote, &self.ts_local, payloads);
    }
}

/// The selectors that the initiator proposes: of our side, of its side.
fn theirs(contents: &Contents<'_>) -> Option<(Vec<TrafficSelector>, Vec<TrafficSelector>)> {
    Some((
        ranges(contents.ts_r.as_ref()?),
        ranges(contents.ts_i.as_ref()?),
    ))
}

/// Whether the peer wants an inner address, of which we have none to give.
//= rfc7296#3.15.4
//# If the responder encounters an error while attempting to assign an IP
//# address to the initiator during the processing of a Configuration
//# payload, it responds with an INTERNAL_ADDRESS_FAILURE notification.
fn asks_for_address(contents: &Contents<'_>) -> bool {
    contents.cp.is_some_and(|cp| {
        cp.cfg_type == CfgType::REQUEST
            && cp.attributes().any(|attribute| {
                matches!(
                    attribute.kind,
                    CfgAttributeType::INTERNAL_IP4_ADDRESS | CfgAttributeType::INTERNAL_IP6_ADDRESS
                )
            })
    })
}
