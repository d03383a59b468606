//! Negotiation of algorithms: what is offered, what is chosen, and whether an answer is within the offer
//! (RFC 7296 §2.7, §3.3).
//!
//! A responder follows the initiator's order: its first acceptable proposal, and in it the first acceptable
//! transform of each type. Ciphers with and without integrity of their own never share a proposal of ours
//! (RFC 7296 §2.7); the types of `cygnet_crypto` see to that.

mod known;

use std::iter;

use cygnet_crypto::{
    Additional, AdditionalOffer, Encryption, EspProposal, EspSuite, IkeProposal, IkeSuite,
    Integrity, KeyExchange,
};
use cygnet_wire::{
    Attribute, EncrId, EsnId, IkeSpi, IntegId, KeId, PrfId, Proposal, ProposalView, ProtocolId,
    SaPayload, Spi, Transform, TransformType, TransformView,
};

use known::Known;

/// The transform ID that says the same as the absence of the type: of INTEG, which some peers send beside an AEAD, of
/// KE and of ADDKE1 to ADDKE7.
const NONE: u16 = 0;

/// The exchange in which a child SA is made. There is a key exchange for it in CREATE_CHILD_SA only.
//= rfc7296#1.2
//# Note that IKE_AUTH messages do not contain KEi/KEr or Ni/Nr payloads.
//# Thus, the SA payloads in the IKE_AUTH exchange cannot contain
//# Transform Type 4 (Diffie-Hellman group) with any value other than
//# NONE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildExchange {
    IkeAuth,
    CreateChildSa,
}

/// The wire form of what we offer for an IKE SA: a new one, or the successor of one with its new SPI.
pub(crate) fn ike_offer(ours: &[IkeProposal], spi: Option<IkeSpi>) -> Vec<Proposal> {
    let spi = spi.map_or_else(Vec::new, |spi| spi.0.to_be_bytes().to_vec());
    number(ours.iter().map(|p| {
        let encryption = p.encryption.iter().map(|e| encr(*e));
        let integrity = p
            .integrity
            .iter()
            .map(|i| Transform::integ(IntegId(i.iana_id())));
        let prf = p.prf.iter().map(|prf| Transform::prf(PrfId(prf.iana_id())));
        let key_exchange = p
            .key_exchange
            .iter()
            .map(|k| Transform::ke(KeId(k.iana_id())));
        let transforms = encryption
            .chain(integrity)
            .chain(prf)
            .chain(key_exchange)
            .chain(additional_offer(&p.additional))
            .collect();
        Proposal {
            spi: spi.clone(),
            ..Proposal::ike(0, transforms)
        }
    }))
}

/// The wire form of what we offer for a child SA.
pub(crate) fn esp_offer(
    ours: &[EspProposal],
    own: SaSpi,
    exchange: ChildExchange,
) -> Vec<Proposal> {
    number(ours.iter().map(|p| {
        let encryption = p.encryption.iter().map(|e| encr(*e));
        let integrity = p
            .integrity
            .iter()
            .map(|i| Transform::integ(IntegId(i.iana_id())));
        let key_exchange = p
            .key_exchange
            .iter()
            .filter(|_| exchange == ChildExchange::CreateChildSa)
            .map(|k| Transform::ke(KeId(k.iana_id())));
        let additional =
            additional_offer(&p.additional).filter(|_| exchange == ChildExchange::CreateChildSa);
        let esn = p.esn.iter().map(|esn| Transform::esn(esn_id(*esn)));
        let transforms = encryption
            .chain(integrity)
            .chain(key_exchange)
            .chain(additional)
            .chain(esn);
        own.proposal(0, transforms.collect())
    }))
}

//= rfc7296#3.3.1
//# When a proposal is made, the first
//# proposal in an SA payload MUST be 1, and subsequent proposals MUST
//# be one more than the previous proposal (indicating an OR of the
//# two proposals).
fn number(proposals: impl Iterator<Item = Proposal>) -> Vec<Proposal> {
    (1..=u8::MAX)
        .zip(proposals)
        .map(|(number, proposal)| Proposal { number, ..proposal })
        .collect()
}

fn encr(encryption: Encryption) -> Transform {
    Transform::encr(EncrId(encryption.iana_id()), encryption.key_bits())
}

/// An additional key exchange; `None` is NONE.
fn additional(kind: TransformType, method: Option<KeyExchange>) -> Transform {
    Transform::new(kind, method.map_or(NONE, KeyExchange::iana_id))
}

fn additional_offer(offer: &AdditionalOffer) -> impl Iterator<Item = Transform> {
    TransformType::ADDITIONAL_KEY_EXCHANGES
        .into_iter()
        .zip(offer)
        .flat_map(|(kind, methods)| methods.iter().map(move |m| additional(kind, *m)))
}

/// The place of an additional key exchange among the seven.
fn index_of(kind: TransformType) -> Option<usize> {
    TransformType::ADDITIONAL_KEY_EXCHANGES
        .into_iter()
        .position(|additional| additional == kind)
}

fn esn_id(esn: bool) -> EsnId {
    EsnId(u16::from(esn))
}

fn ike_match(ours: &IkeProposal, theirs: &Known) -> Option<IkeSuite> {
    let (encryption, integrity) = theirs.encryption(&ours.encryption, &ours.integrity)?;
    Some(IkeSuite {
        encryption,
        integrity,
        prf: theirs.prf(&ours.prf)?,
        key_exchange: theirs.key_exchange(&ours.key_exchange)?,
        additional: additional_match(&ours.additional, &theirs.additional())?,
    })
}

/// For each additional key exchange the first method that both have, but none twice (RFC 9370 §2.2.1). If that leaves
/// nothing for a later one, an earlier one gets its next choice.
fn additional_match(ours: &AdditionalOffer, theirs: &AdditionalOffer) -> Option<Additional> {
    if theirs.iter().all(Vec::is_empty) {
        return is_optional(ours).then(Additional::default);
    }
    let common = |(ours, theirs): (&Vec<_>, &Vec<_>)| -> Vec<Option<KeyExchange>> {
        let theirs = if theirs.is_empty() {
            &[None]
        } else {
            &theirs[..]
        };
        let both = theirs.iter().filter(|method| permits(ours, **method));
        both.copied().collect()
    };
    let choices: Vec<_> = ours.iter().zip(theirs).map(common).collect();
    let mut chosen = Additional::default();
    let mut steps = MAX_CHOICES;
    choose(&choices, &mut chosen, 0, &mut steps).then_some(chosen)
}

/// Choices that are tried for the additional key exchanges of one proposal. Only a configuration of several exchanges
/// with the same methods needs more than one for each.
const MAX_CHOICES: u32 = 1000;

/// Chooses for the exchanges from `index` on; whether that was possible.
fn choose(
    choices: &[Vec<Option<KeyExchange>>],
    chosen: &mut Additional,
    index: usize,
    steps: &mut u32,
) -> bool {
    let Some(methods) = choices.get(index) else {
        return true;
    };
    for method in methods {
        if method.is_some() && chosen.iter().take(index).any(|earlier| earlier == method) {
            continue;
        }
        let Some(left) = steps.checked_sub(1) else {
            return false;
        };
        *steps = left;
        if let Some(slot) = chosen.get_mut(index) {
            *slot = *method;
        }
        if choose(choices, chosen, index.saturating_add(1), steps) {
            return true;
        }
    }
    false
}

/// Whether an offer of ours allows additional key exchanges that were chosen.
fn allows_additional(ours: &AdditionalOffer, chosen: &Additional) -> bool {
    ours.iter()
        .zip(chosen)
        .all(|(methods, chosen)| permits(methods, *chosen))
}

/// Whether an offer can do without additional key exchanges.
pub(crate) fn is_optional(offer: &AdditionalOffer) -> bool {
    allows_additional(offer, &Additional::default())
}

/// Whether what is offered for one additional key exchange permits a method, or none. One that is not offered is the same
/// as one that is NONE.
fn permits(methods: &[Option<KeyExchange>], method: Option<KeyExchange>) -> bool {
    match methods {
        [] => method.is_none(),
        methods => methods.contains(&method),
    }
}

fn esp_match(ours: &EspProposal, theirs: &Known, exchange: ChildExchange) -> Option<EspSuite> {
    //= rfc7296#3.3.3
    //# AH              INTEG, ESN
    let (encryption, integrity) = if ours.encryption.is_empty() {
        (None, Some(theirs.integrity(&ours.integrity)?))
    } else {
        let (encryption, integrity) = theirs.encryption(&ours.encryption, &ours.integrity)?;
        (Some(encryption), integrity)
    };
    let key_exchange = match exchange {
        ChildExchange::IkeAuth => None,
        // Who wants forward secrecy does not do without, and who is not prepared for it cannot give it.
        ChildExchange::CreateChildSa if ours.key_exchange.is_empty() => {
            (!theirs.has_key_exchange || theirs.no_key_exchange).then_some(None)?
        }
        ChildExchange::CreateChildSa => Some(theirs.key_exchange(&ours.key_exchange)?),
    };
    // There is none without the first one, neither of ours nor of the peer's.
    let additional = match exchange {
        ChildExchange::IkeAuth => Additional::default(),
        ChildExchange::CreateChildSa => additional_match(&ours.additional, &theirs.additional())?,
    };
    if key_exchange.is_none() && additional != Additional::default() {
        return None;
    }
    Some(EspSuite {
        encryption,
        integrity,
        key_exchange,
        additional,
        //= rfc7296#3.3.3
        //# ESP             ENCR, ESN
        esn: theirs.esn(&ours.esn)?,
    })
}

/// What an initiator offers for an IKE SA, made ready for a comparison with many configurations: the offer is a
/// stranger's and may be long.
#[derive(Debug)]
pub(crate) struct IkeOffer<'a>(Vec<(ProposalView<'a>, Known)>);

impl<'a> IkeOffer<'a> {
    /// For an IKE SA that is new.
    pub(crate) fn new(theirs: &SaPayload<'a>) -> Self {
        Self::with(theirs, |p| p.spi.is_empty())
    }

    /// For the successor of an IKE SA: each proposal has the initiator's new SPI.
    pub(crate) fn rekeying(theirs: &SaPayload<'a>) -> Self {
        Self::with(theirs, |p| p.ike_spi().is_some_and(|s| s != IkeSpi::ZERO))
    }

    fn with(theirs: &SaPayload<'a>, spi: impl Fn(&ProposalView<'_>) -> bool) -> Self {
        let usable = theirs
            .proposals()
            .filter(|p| p.protocol == ProtocolId::IKE && spi(p));
        Self(
            usable
                .filter_map(|p| Known::new(&p).map(|known| (p, known)))
                .collect(),
        )
    }

    /// The responder's choice, and the proposal to answer with. Where additional key exchanges are not possible, their
    /// transform types count as unknown (RFC 9370 §2.2.1).
    pub(crate) fn select(
        &self,
        ours: &[IkeProposal],
        additional: bool,
    ) -> Option<(IkeSuite, Proposal)> {
        let usable = |(_, known): &&(_, Known)| additional || !known.has_additional;
        self.0.iter().filter(usable).find_map(|(p, known)| {
            let suite = ours.iter().find_map(|our| ike_match(our, known))?;
            //= rfc7296#3.3.1
            //# When a proposal is accepted, the proposal number
            //# in the SA payload MUST match the number on the proposal sent that
            //# was accepted.
            let transforms = answered(ike_transforms(&suite), &nones(ike_transforms(&suite), p));
            Some((suite, Proposal::ike(p.number, transforms)))
        })
    }
}

/// Whether some proposal of ours allows what was chosen.
pub(crate) fn allows(ours: &[IkeProposal], suite: &IkeSuite) -> bool {
    ours.iter().any(|ours| {
        ours.encryption.contains(&suite.encryption)
            && suite.integrity.is_none_or(|i| ours.integrity.contains(&i))
            && ours.prf.contains(&suite.prf)
            && ours.key_exchange.contains(&suite.key_exchange)
            && allows_additional(&ours.additional, &suite.additional)
    })
}

/// The responder's choice for a child SA, the peer's SPI, and the number of the proposal.
pub(crate) fn select_esp(
    ours: &[EspProposal],
    protocol: ProtocolId,
    theirs: &SaPayload<'_>,
    exchange: ChildExchange,
) -> Option<EspChoice> {
    theirs
        .proposals()
        .filter(|p| p.protocol == protocol)
        .find_map(|p| {
            let peer_spi = usable_spi(&p)?;
            let known = Known::new(&p)?;
            let suite = ours
                .iter()
                .find_map(|our| esp_match(our, &known, exchange))?;
            let nones = nones(esp_transforms(&suite), &p);
            Some(EspChoice {
                suite,
                peer_spi,
                number: p.number,
                nones,
            })
        })
}

/// A chosen proposal for a child SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EspChoice {
    pub(crate) suite: EspSuite,
    pub(crate) peer_spi: u32,
    number: u8,
    /// The types of which the answer says NONE.
    nones: Vec<TransformType>,
}

impl EspChoice {
    /// The proposal to answer with.
    pub(crate) fn answer(&self, own: SaSpi) -> Proposal {
        let transforms = answered(esp_transforms(&self.suite), &self.nones);
        own.proposal(self.number, transforms)
    }
}

/// An SPI with the protocol that it belongs to: ESP and AH count their SPIs apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SaSpi {
    pub(crate) protocol: ProtocolId,
    pub(crate) spi: u32,
}

impl SaSpi {
    fn proposal(self, number: u8, transforms: Vec<Transform>) -> Proposal {
        Proposal {
            protocol: self.protocol,
            ..Proposal::esp(number, Spi(self.spi), transforms)
        }
    }
}

/// SPIs 1 to 255 are reserved and zero means none (RFC 4303 §2.1).
fn usable_spi(proposal: &ProposalView<'_>) -> Option<u32> {
    proposal.esp_spi().map(|spi| spi.0).filter(|spi| *spi > 255)
}

/// What the responder chose for an IKE SA, if it is something that we offered.
pub(crate) fn accept_ike(ours: &[IkeProposal], answer: &SaPayload<'_>) -> Option<IkeSuite> {
    let answer = only(answer)?;
    let offered = chosen_of(ours, &answer, ProtocolId::IKE)?;
    let suite = ike_match(offered, &Known::new(&answer)?)?;
    exactly(&answer, ike_transforms(&suite)).then_some(suite)
}

/// What the responder chose for a child SA, and its SPI, if it is something that we offered.
pub(crate) fn accept_esp(
    ours: &[EspProposal],
    protocol: ProtocolId,
    answer: &SaPayload<'_>,
    exchange: ChildExchange,
) -> Option<(EspSuite, u32)> {
    let answer = only(answer)?;
    let offered = chosen_of(ours, &answer, protocol)?;
    let suite = esp_match(offered, &Known::new(&answer)?, exchange)?;
    let peer_spi = usable_spi(&answer)?;
    exactly(&answer, esp_transforms(&suite)).then_some((suite, peer_spi))
}

/// The one proposal of an answer.
fn only<'a>(answer: &SaPayload<'a>) -> Option<ProposalView<'a>> {
    let mut proposals = answer.proposals();
    let first = proposals.next()?;
    proposals.next().is_none().then_some(first)
}

/// The offered proposal that an answer is about.
//= rfc7296#3.3.6
//# The initiator of an exchange MUST check that the
//# accepted offer is consistent with one of its proposals, and if not
//# MUST terminate the exchange.
fn chosen_of<'a, T>(
    ours: &'a [T],
    answer: &ProposalView<'_>,
    protocol: ProtocolId,
) -> Option<&'a T> {
    if answer.protocol != protocol {
        return None;
    }
    ours.get(usize::from(answer.number).checked_sub(1)?)
}

/// Whether an answer consists of one transform of each kind and nothing else. NONE of INTEG, KE or ADDKE1 to
/// ADDKE7 says the same as its absence.
fn exactly(answer: &ProposalView<'_>, mut expected: impl Iterator<Item = Chosen> + Clone) -> bool {
    let given: Vec<_> = answer.transforms().filter(|t| !says_none(t)).collect();
    given.len() == expected.clone().count()
        && expected.all(|chosen| given.iter().any(|t| chosen.is(t)))
}

/// Whether a transform says the same as the absence of its type.
fn says_none(transform: &TransformView<'_>) -> bool {
    let kind = transform.kind;
    transform.id == NONE && (kind == TransformType::INTEG || kind.is_key_exchange())
}

/// The types of which an offer has nothing else for us than "NONE".
//= rfc7296#2.7
//# The accepted cryptographic
//# suite MUST contain exactly one transform of each type included in the
//# proposal.
fn nones(
    chosen: impl Iterator<Item = Chosen> + Clone,
    offer: &ProposalView<'_>,
) -> Vec<TransformType> {
    let mut nones = Vec::new();
    for kind in offer.transforms().filter(says_none).map(|t| t.kind) {
        if !nones.contains(&kind) && !chosen.clone().any(|c| c.kind == kind) {
            nones.push(kind);
        }
    }
    nones
}

/// The transforms of an answer: what is chosen, and "NONE" of what is not.
fn answered(chosen: impl Iterator<Item = Chosen>, nones: &[TransformType]) -> Vec<Transform> {
    let nones = nones.iter().map(|kind| Transform::new(*kind, NONE));
    chosen.map(Chosen::transform).chain(nones).collect()
}

/// A transform of a suite.
#[derive(Clone, Copy, Debug)]
struct Chosen {
    kind: TransformType,
    id: u16,
    key_bits: Option<u16>,
}

impl Chosen {
    fn new(kind: TransformType, id: u16) -> Self {
        let key_bits = None;
        Self { kind, id, key_bits }
    }

    fn encryption(encryption: Encryption) -> Self {
        Self {
            key_bits: encryption.key_bits(),
            ..Self::new(TransformType::ENCR, encryption.iana_id())
        }
    }

    fn integrity(integrity: Integrity) -> Self {
        Self::new(TransformType::INTEG, integrity.iana_id())
    }

    fn key_exchange(method: KeyExchange) -> Self {
        Self::new(TransformType::KE, method.iana_id())
    }

    fn additional(chosen: Additional) -> impl Iterator<Item = Self> + Clone {
        TransformType::ADDITIONAL_KEY_EXCHANGES
            .into_iter()
            .zip(chosen)
            .filter_map(|(kind, method)| Some(Self::new(kind, method?.iana_id())))
    }

    /// Whether a received transform is this one, without further attributes.
    fn is(&self, received: &TransformView<'_>) -> bool {
        (received.kind, received.id, received.key_length()) == (self.kind, self.id, self.key_bits)
            && received.attributes().count() == usize::from(self.key_bits.is_some())
    }

    /// To be written.
    fn transform(self) -> Transform {
        let key_length = self.key_bits.map(Attribute::key_length);
        Transform {
            attributes: key_length.into_iter().collect(),
            ..Transform::new(self.kind, self.id)
        }
    }
}

fn ike_transforms(suite: &IkeSuite) -> impl Iterator<Item = Chosen> + Clone {
    iter::once(Chosen::encryption(suite.encryption))
        .chain(suite.integrity.map(Chosen::integrity))
        .chain([
            Chosen::new(TransformType::PRF, suite.prf.iana_id()),
            Chosen::key_exchange(suite.key_exchange),
        ])
        .chain(Chosen::additional(suite.additional))
}

fn esp_transforms(suite: &EspSuite) -> impl Iterator<Item = Chosen> + Clone {
    let encryption = suite.encryption.map(Chosen::encryption);
    encryption
        .into_iter()
        .chain(suite.integrity.map(Chosen::integrity))
        .chain(suite.key_exchange.map(Chosen::key_exchange))
        .chain(Chosen::additional(suite.additional))
        .chain([Chosen::new(TransformType::ESN, esn_id(suite.esn).0)])
}

#[cfg(test)]
mod tests;
