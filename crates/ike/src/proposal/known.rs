//! What we know of a proposal, for a comparison with what we have (RFC 7296 §3.3.6).

use cygnet_crypto::{AdditionalOffer, Encryption, Integrity, KeyExchange, Prf};
use cygnet_wire::{EsnId, ProposalView, ProtocolId, TransformType, TransformView};

use super::{NONE, index_of};

/// Algorithms that room is made for at once: most proposals have no more.
const USUAL_TRANSFORMS: usize = 8;

/// An algorithm of a proposal that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Encryption(Encryption),
    /// `None` is INTEG "NONE".
    Integrity(Option<Integrity>),
    Prf(Prf),
    KeyExchange(KeyExchange),
    /// Of an additional key exchange, by its place among the seven; `None` is NONE.
    Additional(usize, Option<KeyExchange>),
    Esn(bool),
}

impl Algorithm {
    fn read(transform: &TransformView<'_>) -> Option<Self> {
        let id = transform.id;
        match transform.kind {
            TransformType::ENCR => {
                Encryption::from_iana(id, transform.key_length()).map(Self::Encryption)
            }
            TransformType::INTEG if id == NONE => Some(Self::Integrity(None)),
            TransformType::INTEG => Integrity::from_iana(id).map(|i| Self::Integrity(Some(i))),
            TransformType::PRF => Prf::from_iana(id).map(Self::Prf),
            TransformType::KE => KeyExchange::from_iana(id).map(Self::KeyExchange),
            TransformType::ESN => match EsnId(id) {
                EsnId(0) => Some(Self::Esn(false)),
                EsnId(1) => Some(Self::Esn(true)),
                _ => None,
            },
            kind => {
                let method = match id {
                    NONE => None,
                    id => Some(KeyExchange::from_iana(id)?),
                };
                Some(Self::Additional(index_of(kind)?, method))
            }
        }
    }
}

/// A proposal reduced to what we know, each algorithm once and in the peer's order. Transforms that we do not know, or
/// that have attributes which we do not know, are left out.
#[derive(Debug)]
pub(super) struct Known {
    algorithms: Vec<Algorithm>,
    /// There is a transform of the type KE, known or not.
    pub(super) has_key_exchange: bool,
    /// There is a transform of one of the types ADDKE1 to ADDKE7.
    pub(super) has_additional: bool,
    /// KE "NONE" is among the transforms.
    pub(super) no_key_exchange: bool,
}

impl Known {
    /// `None` if the proposal holds a transform type that we do not know or that does not belong to
    /// the protocol.
    pub(super) fn new(proposal: &ProposalView<'_>) -> Option<Self> {
        let mut known = Self {
            algorithms: Vec::with_capacity(USUAL_TRANSFORMS),
            has_key_exchange: false,
            has_additional: false,
            no_key_exchange: false,
        };
        let ike = proposal.protocol == ProtocolId::IKE;
        for transform in proposal.transforms() {
            //= rfc7296#3.3.6
            //# If the responder receives a proposal that contains a Transform Type it
            //# does not understand, or a proposal that is missing a mandatory
            //# Transform Type, it MUST consider this proposal unacceptable;
            //# however, other proposals in the same SA payload are processed as
            //# usual.
            match transform.kind {
                TransformType::ENCR if proposal.protocol == ProtocolId::AH => return None,
                TransformType::ENCR | TransformType::INTEG => {}
                TransformType::KE => known.has_key_exchange = true,
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
            known.no_key_exchange |= transform.kind == TransformType::KE && transform.id == NONE;
            if let Some(algorithm) = Algorithm::read(&transform)
                && !known.algorithms.contains(&algorithm)
            {
                known.algorithms.push(algorithm);
            }
        }
        known.has_additional_choices(proposal).then_some(known)
    }

    /// Whether there is something to choose for each additional key exchange that is offered.
    fn has_additional_choices(&self, proposal: &ProposalView<'_>) -> bool {
        let choosable = |index| {
            let of = |a: &Algorithm| matches!(a, Algorithm::Additional(i, _) if *i == index);
            self.algorithms.iter().any(of)
        };
        let offered = proposal.transforms().filter_map(|t| index_of(t.kind));
        !self.has_additional || offered.into_iter().all(choosable)
    }

    /// The first algorithm of some type that is among ours.
    fn first_common<T: PartialEq>(
        &self,
        of_type: impl Fn(Algorithm) -> Option<T>,
        ours: &[T],
    ) -> Option<T> {
        self.algorithms
            .iter()
            .filter_map(|algorithm| of_type(*algorithm))
            .find(|theirs| ours.contains(theirs))
    }

    /// The first cipher that both have, with its integrity algorithm if it needs one.
    pub(super) fn encryption(
        &self,
        encryption: &[Encryption],
        integrity: &[Integrity],
    ) -> Option<(Encryption, Option<Integrity>)> {
        let cipher = |algorithm| match algorithm {
            Algorithm::Encryption(encryption) => Some(encryption),
            _ => None,
        };
        let chosen = self.first_common(cipher, encryption)?;
        if chosen.is_aead() {
            //= rfc7296#3.3
            //# Combined-mode ciphers include both integrity and
            //# encryption in a single encryption algorithm, and MUST either offer no
            //# integrity algorithm or a single integrity algorithm of "NONE", with
            //# no integrity algorithm being the RECOMMENDED method.
            let mac = |a: &Algorithm| matches!(a, Algorithm::Integrity(Some(_)));
            return (!self.algorithms.iter().any(mac)).then_some((chosen, None));
        }
        Some((chosen, Some(self.integrity(integrity)?)))
    }

    /// The first integrity algorithm that both have.
    pub(super) fn integrity(&self, ours: &[Integrity]) -> Option<Integrity> {
        let mac = |algorithm| match algorithm {
            Algorithm::Integrity(integrity) => integrity,
            _ => None,
        };
        self.first_common(mac, ours)
    }

    /// The first pseudorandom function that both have.
    pub(super) fn prf(&self, ours: &[Prf]) -> Option<Prf> {
        let prf = |algorithm| match algorithm {
            Algorithm::Prf(prf) => Some(prf),
            _ => None,
        };
        self.first_common(prf, ours)
    }

    /// The first key exchange method that both have.
    pub(super) fn key_exchange(&self, ours: &[KeyExchange]) -> Option<KeyExchange> {
        let method = |algorithm| match algorithm {
            Algorithm::KeyExchange(method) => Some(method),
            _ => None,
        };
        self.first_common(method, ours)
    }

    /// The first way of counting packets that both have.
    pub(super) fn esn(&self, ours: &[bool]) -> Option<bool> {
        let esn = |algorithm| match algorithm {
            Algorithm::Esn(esn) => Some(esn),
            _ => None,
        };
        self.first_common(esn, ours)
    }

    /// The methods of each additional key exchange; empty where there is no transform of the type.
    pub(super) fn additional(&self) -> AdditionalOffer {
        let mut offer = AdditionalOffer::default();
        for algorithm in &self.algorithms {
            if let Algorithm::Additional(index, method) = algorithm
                && let Some(methods) = offer.get_mut(*index)
            {
                methods.push(*method);
            }
        }
        offer
    }
}
