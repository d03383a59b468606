//! Negotiation of algorithms: what is offered, what is chosen, and whether an answer is within the offer
//! (RFC 7296 §2.7, §3.3).
//!
//! A responder follows the initiator's order: its first acceptable proposal, and in it the first acceptable
//! transform of each type. Ciphers with and without integrity of their own never share a proposal of ours
//! (RFC 7296 §2.7); the types of `cygnet_crypto` see to that.

use cygnet_crypto::{
    Additional, AdditionalOffer, Encryption, EspProposal, EspSuite, IkeProposal, IkeSuite,
    Integrity, KeyExchange, Prf,
};
use cygnet_wire::{
    EncrId, EsnId, IkeSpi, IntegId, KeId, PrfId, Proposal, ProtocolId, Spi, Transform,
    TransformType,
};

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

fn additional_chosen(chosen: Additional) -> impl Iterator<Item = Transform> {
    TransformType::ADDITIONAL_KEY_EXCHANGES
        .into_iter()
        .zip(chosen)
        .filter_map(|(kind, m)| m.map(|m| additional(kind, Some(m))))
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

/// A proposal reduced to what we know, each transform once. Transforms that we do not know, or that have attributes
/// which we do not know, are left out.
#[derive(Debug)]
struct Known {
    encryption: Vec<Encryption>,
    /// `None` among them is INTEG "NONE".
    integrity: Vec<Option<Integrity>>,
    prf: Vec<Prf>,
    key_exchange: Vec<KeyExchange>,
    /// There is a transform of the type KE, known or not.
    has_key_exchange: bool,
    /// By number; empty where there is no transform of the type.
    additional: AdditionalOffer,
    /// There is a transform of one of those types.
    has_additional: bool,
    /// KE "NONE" is among the transforms.
    no_key_exchange: bool,
    esn: Vec<bool>,
}

impl Known {
    /// `None` if the proposal holds a transform type that we do not know or that does not belong to
    /// the protocol.
    fn new(proposal: &Proposal) -> Option<Self> {
        let mut known = Self {
            encryption: Vec::new(),
            integrity: Vec::new(),
            prf: Vec::new(),
            key_exchange: Vec::new(),
            has_key_exchange: proposal.of_kind(TransformType::KE).next().is_some(),
            additional: AdditionalOffer::default(),
            has_additional: false,
            no_key_exchange: false,
            esn: Vec::new(),
        };
        for transform in &proposal.transforms {
            //= rfc7296#3.3.6
            //# If the responder receives a proposal that contains a Transform Type it
            //# does not understand, or a proposal that is missing a mandatory
            //# Transform Type, it MUST consider this proposal unacceptable;
            //# however, other proposals in the same SA payload are processed as
            //# usual.
            let ike = proposal.protocol == ProtocolId::IKE;
            match transform.kind {
                TransformType::ENCR if proposal.protocol == ProtocolId::AH => return None,
                TransformType::ENCR | TransformType::INTEG | TransformType::KE => {}
                TransformType::PRF if ike => {}
                TransformType::ESN if !ike => {}
                kind if index_of(kind).is_some() => known.has_additional = true,
                _ => return None,
            }
            //= rfc7296#3.3.6
            //# Similarly, if the responder receives a transform that
            //# it does not understand, or one that contains a Transform Attribute it
            //# does not understand, it MUST consider this transform unacceptable;
            //# other transforms with the same Transform Type are processed as usual.
            if !transform.attributes_understood() {
                continue;
            }
            match transform.kind {
                TransformType::ENCR => add(
                    &mut known.encryption,
                    Encryption::from_iana(transform.id, transform.key_length()),
                ),
                TransformType::INTEG if transform.id == NONE => {
                    add(&mut known.integrity, Some(None));
                }
                TransformType::INTEG => add(
                    &mut known.integrity,
                    Integrity::from_iana(transform.id).map(Some),
                ),
                TransformType::PRF => add(&mut known.prf, Prf::from_iana(transform.id)),
                TransformType::KE if transform.id == NONE => known.no_key_exchange = true,
                TransformType::KE => add(
                    &mut known.key_exchange,
                    KeyExchange::from_iana(transform.id),
                ),
                TransformType::ESN => match EsnId(transform.id) {
                    EsnId(0) => add(&mut known.esn, Some(false)),
                    EsnId(1) => add(&mut known.esn, Some(true)),
                    _ => {}
                },
                kind => {
                    let list = index_of(kind).and_then(|index| known.additional.get_mut(index));
                    if let Some(list) = list {
                        let method = KeyExchange::from_iana(transform.id).map(Some);
                        add(list, method.or((transform.id == NONE).then_some(None)));
                    }
                }
            }
        }
        known.has_additional_choices(proposal).then_some(known)
    }

    /// Whether there is something to choose for each additional key exchange that is offered.
    fn has_additional_choices(&self, proposal: &Proposal) -> bool {
        TransformType::ADDITIONAL_KEY_EXCHANGES
            .into_iter()
            .zip(&self.additional)
            .all(|(kind, list)| !list.is_empty() || proposal.of_kind(kind).next().is_none())
    }

    /// The first cipher that both have, with its integrity algorithm if it needs one.
    fn encryption(
        &self,
        encryption: &[Encryption],
        integrity: &[Integrity],
    ) -> Option<(Encryption, Option<Integrity>)> {
        let chosen = first_common(&self.encryption, encryption)?;
        if chosen.is_aead() {
            //= rfc7296#3.3
            //# Combined-mode ciphers include both integrity and
            //# encryption in a single encryption algorithm, and MUST either offer no
            //# integrity algorithm or a single integrity algorithm of "NONE", with
            //# no integrity algorithm being the RECOMMENDED method.
            let none = self.integrity.iter().all(Option::is_none);
            return none.then_some((chosen, None));
        }
        let theirs: Vec<_> = self.integrity.iter().copied().flatten().collect();
        Some((chosen, Some(first_common(&theirs, integrity)?)))
    }
}

/// Adds what is not there yet.
fn add<T: PartialEq>(list: &mut Vec<T>, value: Option<T>) {
    list.extend(value.filter(|value| !list.contains(value)));
}

fn first_common<T: Copy + PartialEq>(theirs: &[T], ours: &[T]) -> Option<T> {
    theirs.iter().copied().find(|t| ours.contains(t))
}

fn ike_match(ours: &IkeProposal, theirs: &Known) -> Option<IkeSuite> {
    let (encryption, integrity) = theirs.encryption(&ours.encryption, &ours.integrity)?;
    Some(IkeSuite {
        encryption,
        integrity,
        prf: first_common(&theirs.prf, &ours.prf)?,
        key_exchange: first_common(&theirs.key_exchange, &ours.key_exchange)?,
        additional: additional_match(&ours.additional, &theirs.additional)?,
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
        let theirs: Vec<_> = theirs.integrity.iter().copied().flatten().collect();
        (None, Some(first_common(&theirs, &ours.integrity)?))
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
        ChildExchange::CreateChildSa => {
            Some(first_common(&theirs.key_exchange, &ours.key_exchange)?)
        }
    };
    // There is none without the first one, neither of ours nor of the peer's.
    let additional = match exchange {
        ChildExchange::IkeAuth => Additional::default(),
        ChildExchange::CreateChildSa => additional_match(&ours.additional, &theirs.additional)?,
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
        esn: first_common(&theirs.esn, &ours.esn)?,
    })
}

/// What an initiator offers for an IKE SA, made ready for a comparison with many configurations: the offer is a
/// stranger's and may be long.
#[derive(Debug)]
pub(crate) struct IkeOffer<'a>(Vec<(&'a Proposal, Known)>);

impl<'a> IkeOffer<'a> {
    /// For an IKE SA that is new.
    pub(crate) fn new(theirs: &'a [Proposal]) -> Self {
        Self::with(theirs, |p| p.spi.is_empty())
    }

    /// For the successor of an IKE SA: each proposal has the initiator's new SPI.
    pub(crate) fn rekeying(theirs: &'a [Proposal]) -> Self {
        Self::with(theirs, |p| p.ike_spi().is_some_and(|s| s != IkeSpi::ZERO))
    }

    fn with(theirs: &'a [Proposal], spi: impl Fn(&Proposal) -> bool) -> Self {
        let usable = theirs
            .iter()
            .filter(|p| p.protocol == ProtocolId::IKE && spi(p));
        Self(usable.filter_map(|p| Some((p, Known::new(p)?))).collect())
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
            Some((
                suite,
                Proposal::ike(p.number, with_none(ike_transforms(&suite), p)),
            ))
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
    theirs: &[Proposal],
    exchange: ChildExchange,
) -> Option<EspChoice> {
    theirs
        .iter()
        .filter(|p| p.protocol == protocol)
        .find_map(|p| {
            let peer_spi = usable_spi(p)?;
            let known = Known::new(p)?;
            let suite = ours
                .iter()
                .find_map(|our| esp_match(our, &known, exchange))?;
            let transforms = with_none(esp_transforms(&suite), p);
            Some(EspChoice {
                suite,
                peer_spi,
                number: p.number,
                transforms,
            })
        })
}

/// A chosen proposal for a child SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EspChoice {
    pub(crate) suite: EspSuite,
    pub(crate) peer_spi: u32,
    number: u8,
    transforms: Vec<Transform>,
}

impl EspChoice {
    /// The proposal to answer with.
    pub(crate) fn answer(&self, own: SaSpi) -> Proposal {
        own.proposal(self.number, self.transforms.clone())
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
fn usable_spi(proposal: &Proposal) -> Option<u32> {
    proposal.esp_spi().map(|spi| spi.0).filter(|spi| *spi > 255)
}

/// What the responder chose for an IKE SA, if it is something that we offered.
pub(crate) fn accept_ike(ours: &[IkeProposal], answer: &[Proposal]) -> Option<IkeSuite> {
    let [answer] = answer else { return None };
    let offered = chosen_of(ours, answer, ProtocolId::IKE)?;
    let suite = ike_match(offered, &Known::new(answer)?)?;
    exactly(answer, &ike_transforms(&suite)).then_some(suite)
}

/// What the responder chose for a child SA, if it is something that we offered.
pub(crate) fn accept_esp(
    ours: &[EspProposal],
    protocol: ProtocolId,
    answer: &[Proposal],
    exchange: ChildExchange,
) -> Option<EspChoice> {
    let [answer] = answer else { return None };
    let offered = chosen_of(ours, answer, protocol)?;
    let suite = esp_match(offered, &Known::new(answer)?, exchange)?;
    let peer_spi = usable_spi(answer)?;
    let transforms = esp_transforms(&suite);
    exactly(answer, &transforms).then_some(EspChoice {
        suite,
        peer_spi,
        number: answer.number,
        transforms,
    })
}

/// The offered proposal that an answer is about.
//= rfc7296#3.3.6
//# The initiator of an exchange MUST check that the
//# accepted offer is consistent with one of its proposals, and if not
//# MUST terminate the exchange.
fn chosen_of<'a, T>(ours: &'a [T], answer: &Proposal, protocol: ProtocolId) -> Option<&'a T> {
    if answer.protocol != protocol {
        return None;
    }
    ours.get(usize::from(answer.number).checked_sub(1)?)
}

/// Whether an answer consists of one transform of each kind and nothing else. NONE of INTEG, KE or ADDKE1 to
/// ADDKE7 says the same as its absence.
fn exactly(answer: &Proposal, expected: &[Transform]) -> bool {
    let none = |t: &&Transform| {
        !(t.id == NONE && (t.kind == TransformType::INTEG || t.kind.is_key_exchange()))
    };
    let given: Vec<_> = answer.transforms.iter().filter(none).collect();
    given.len() == expected.len() && expected.iter().all(|t| given.contains(&t))
}

/// The chosen transforms and the "NONE" of those types of which the offer has nothing else for us.
//= rfc7296#2.7
//# The accepted cryptographic
//# suite MUST contain exactly one transform of each type included in the
//# proposal.
fn with_none(mut transforms: Vec<Transform>, offer: &Proposal) -> Vec<Transform> {
    let kinds = [TransformType::INTEG, TransformType::KE]
        .into_iter()
        .chain(TransformType::ADDITIONAL_KEY_EXCHANGES);
    for kind in kinds {
        if offer.of_kind(kind).any(|t| t.id == NONE) && !transforms.iter().any(|t| t.kind == kind) {
            transforms.push(Transform::new(kind, NONE));
        }
    }
    transforms
}

fn ike_transforms(suite: &IkeSuite) -> Vec<Transform> {
    let mut transforms = vec![encr(suite.encryption)];
    transforms.extend(
        suite
            .integrity
            .map(|i| Transform::integ(IntegId(i.iana_id()))),
    );
    transforms.push(Transform::prf(PrfId(suite.prf.iana_id())));
    transforms.push(Transform::ke(KeId(suite.key_exchange.iana_id())));
    transforms.extend(additional_chosen(suite.additional));
    transforms
}

fn esp_transforms(suite: &EspSuite) -> Vec<Transform> {
    let mut transforms: Vec<_> = suite.encryption.map(encr).into_iter().collect();
    transforms.extend(
        suite
            .integrity
            .map(|i| Transform::integ(IntegId(i.iana_id()))),
    );
    transforms.extend(suite.key_exchange.map(|k| Transform::ke(KeId(k.iana_id()))));
    transforms.extend(additional_chosen(suite.additional));
    transforms.push(Transform::esn(esn_id(suite.esn)));
    transforms
}

#[cfg(test)]
mod tests;
