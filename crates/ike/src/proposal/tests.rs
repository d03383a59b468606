//! What is offered, chosen and accepted, against hand-written proposals.

use super::*;
use cygnet_wire::{Attribute, AttributeType, AttributeValue, PayloadWriter};

fn ike(text: &str) -> Vec<IkeProposal> {
    IkeProposal::parse_ipsec_conf(text).unwrap()
}

fn esp(text: &str) -> Vec<EspProposal> {
    EspProposal::parse_ipsec_conf(text).unwrap()
}

/// What `read` makes of the SA payload with these proposals.
fn received<T>(proposals: &[Proposal], read: impl FnOnce(&SaPayload<'_>) -> T) -> T {
    let mut octets = Vec::new();
    let mut writer = PayloadWriter::new(&mut octets);
    writer.sa(proposals);
    writer.finish().unwrap();
    const GENERIC_HEADER: usize = 4;
    read(&SaPayload::parse(&octets[GENERIC_HEADER..]).unwrap())
}

fn select_ike(ours: &[IkeProposal], theirs: &[Proposal]) -> Option<(IkeSuite, Proposal)> {
    received(theirs, |sa| IkeOffer::new(sa).select(ours, true))
}

fn accept_ike(ours: &[IkeProposal], answer: &[Proposal]) -> Option<IkeSuite> {
    received(answer, |sa| super::accept_ike(ours, sa))
}

const ESP: ProtocolId = ProtocolId::ESP;

fn own(spi: u32) -> SaSpi {
    SaSpi { protocol: ESP, spi }
}

fn esp_offer(ours: &[EspProposal], spi: u32, exchange: ChildExchange) -> Vec<Proposal> {
    super::esp_offer(ours, own(spi), exchange)
}

fn select_esp(
    ours: &[EspProposal],
    theirs: &[Proposal],
    exchange: ChildExchange,
) -> Option<EspChoice> {
    received(theirs, |sa| super::select_esp(ours, ESP, sa, exchange))
}

fn accept_esp(
    ours: &[EspProposal],
    answer: &[Proposal],
    exchange: ChildExchange,
) -> Option<(EspSuite, u32)> {
    received(answer, |sa| super::accept_esp(ours, ESP, sa, exchange))
}

//= rfc7296#3.3.3
//= type=test
//# AH              INTEG, ESN
#[test]
fn ah_has_integrity_algorithms_and_no_others() {
    let ours = EspProposal::parse_ah_ipsec_conf("sha2_256+sha2_512").unwrap();
    let (protocol, exchange) = (ProtocolId::AH, ChildExchange::IkeAuth);
    let ah = |spi| SaSpi { protocol, spi };
    let offer = super::esp_offer(&ours, ah(0x1234), exchange);
    assert_eq!(offer[0].protocol, ProtocolId::AH);
    let select =
        |offer: &[Proposal]| received(offer, |sa| super::select_esp(&ours, protocol, sa, exchange));
    let choice = select(&offer).unwrap();
    assert_eq!(
        (choice.suite.encryption, choice.suite.integrity),
        (None, Some(Integrity::HmacSha256_128))
    );
    let answer = choice.answer(ah(0x4321));
    let accept = |answer| {
        received(&[answer], |sa| {
            super::accept_esp(&ours, protocol, sa, exchange)
        })
    };
    assert_eq!(accept(answer.clone()).map(|(_, spi)| spi), Some(0x4321));

    // The same under the name of ESP, and what is ESP's under the name of AH.
    let as_esp = Proposal {
        protocol: ESP,
        ..offer[0].clone()
    };
    assert_eq!(select(std::slice::from_ref(&as_esp)), None);
    assert_eq!(accept_esp(&ours, &[as_esp], exchange), None);
    let cipher = Transform::encr(EncrId(12), Some(256));
    for broken in [
        |p: &mut Proposal, cipher: Transform| p.transforms.push(cipher),
        |p: &mut Proposal, _| p.transforms.retain(|t| t.kind != TransformType::INTEG),
        |p: &mut Proposal, _| p.transforms.retain(|t| t.kind != TransformType::ESN),
        |p: &mut Proposal, _| {
            p.transforms.retain(|t| t.kind != TransformType::INTEG);
            p.transforms
                .push(Transform::new(TransformType::INTEG, NONE));
        },
        |p: &mut Proposal, _| p.spi = vec![0, 0, 0, 255],
        |p: &mut Proposal, _| p.spi = vec![1; 8],
    ] {
        let (mut offered, mut answered) = (offer[0].clone(), answer.clone());
        broken(&mut offered, cipher.clone());
        broken(&mut answered, cipher.clone());
        assert_eq!(select(&[offered]), None);
        assert_eq!(accept(answered), None);
    }
    // An ESP configuration does not take AH's.
    assert_eq!(
        select_esp(&EspProposal::default_list(), &offer, exchange),
        None
    );
}

const GCM: &str = "aes_gcm_16_256-sha2_256-dh31";

#[test]
fn what_is_offered_is_selected_and_accepted() {
    let ours = ike("aes_gcm_16_256-sha2_256-dh31, aes256-sha2_512-dh20");
    let theirs = ike("aes128-sha2_256-dh14, aes256-sha2_512-dh20+dh31");
    let (suite, answer) = select_ike(&ours, &ike_offer(&theirs, None)).unwrap();
    //= rfc7296#3.3.1
    //= type=test
    //# When a proposal is accepted, the proposal number
    //# in the SA payload MUST match the number on the proposal sent that
    //# was accepted.
    assert_eq!(answer.number, 2);
    assert_eq!(suite.key_exchange, KeyExchange::Ecp384);
    assert_eq!(suite.integrity, Some(Integrity::HmacSha512_256));
    assert_eq!(
        accept_ike(&theirs, std::slice::from_ref(&answer)),
        Some(suite)
    );
    // The same answer to another offer is none.
    assert_eq!(accept_ike(&ike(GCM), &[answer]), None);
}

#[test]
fn an_additional_key_exchange_is_chosen_once_only() {
    let ours = |addke: &str| ike(&format!("{GCM};{addke}"));
    let all = ours("addke1=ml_kem_768+ml_kem_512;addke2=ml_kem_768+ml_kem_512+dh19");
    for (theirs, chosen) in [
        // The first one has to step back for the second.
        (
            "addke1=ml_kem_768+ml_kem_512;addke2=ml_kem_768",
            Some(["ML_KEM_512", "ML_KEM_768"]),
        ),
        (
            "addke1=ml_kem_768;addke2=ml_kem_768+dh19",
            Some(["ML_KEM_768", "ECP_256"]),
        ),
        ("addke1=ml_kem_768;addke2=ml_kem_768", None),
        ("addke1=ml_kem_768;addke3=dh19", None),
    ] {
        let offer = ike_offer(&ours(theirs), None);
        let got = select_ike(&all, &offer);
        let names = got.as_ref().map(|(suite, _)| {
            let methods = suite.additional.into_iter().flatten();
            methods.map(|m| m.to_string()).collect::<Vec<_>>()
        });
        assert_eq!(
            names,
            chosen.map(|two| two.map(String::from).to_vec()),
            "{theirs}"
        );
        if let Some((suite, answer)) = got {
            assert_eq!(
                accept_ike(&ours(theirs), &[answer]),
                Some(suite),
                "{theirs}"
            );
        }
    }
    // An answer with a method twice is none.
    let mut twice = ike_offer(&ours("addke1=ml_kem_768;addke2=ml_kem_768"), None).remove(0);
    twice.number = 1;
    assert_eq!(accept_ike(&all, &[twice]), None);
}

#[test]
fn the_search_for_additional_key_exchanges_is_bounded() {
    // Seven exchanges, six methods for all of them: no choice is without repetition.
    let six = vec![
        Some(KeyExchange::X25519),
        Some(KeyExchange::Ecp256),
        Some(KeyExchange::Ecp384),
        Some(KeyExchange::Ecp521),
        Some(KeyExchange::Modp2048),
        Some(KeyExchange::Modp3072),
    ];
    let offer: AdditionalOffer = std::array::from_fn(|_| six.clone());
    let begun = std::time::Instant::now();
    assert_eq!(additional_match(&offer, &offer), None);
    assert!(begun.elapsed().as_millis() < 100);
}

#[test]
fn without_ike_intermediate_proposals_that_need_it_are_skipped() {
    let ours = ike(&format!("{GCM};addke1=ml_kem_768+none"));
    let offer = ike_offer(&ike(&format!("{GCM};addke1=ml_kem_768+none, {GCM}")), None);
    let select =
        |additional| received(&offer, |sa| IkeOffer::new(sa).select(&ours, additional)).unwrap();
    assert_eq!(select(true).1.number, 1);
    let (suite, answer) = select(false);
    assert_eq!(
        (answer.number, suite.additional),
        (2, Additional::default())
    );
}

#[test]
fn none_of_an_additional_key_exchange_is_given_back() {
    let ours = ike(GCM);
    let theirs = ike(&format!("{GCM};addke3=ml_kem_768+none"));
    let (suite, answer) = select_ike(&ours, &ike_offer(&theirs, None)).unwrap();
    assert_eq!(suite.additional, Additional::default());
    assert!(
        answer
            .transforms
            .contains(&additional(TransformType::ADDKE3, None))
    );
    assert_eq!(accept_ike(&theirs, &[answer]), Some(suite));
}

//= rfc7296#3.3
//= type=test
//# Combined-mode ciphers include both integrity and
//# encryption in a single encryption algorithm, and MUST either offer no
//# integrity algorithm or a single integrity algorithm of "NONE", with
//# no integrity algorithm being the RECOMMENDED method.
#[test]
fn none_beside_an_aead_is_given_back() {
    let mut offer = ike_offer(&ike(GCM), None);
    assert_eq!(offer[0].of_kind(TransformType::INTEG).count(), 0);
    offer[0].transforms.push(Transform::integ(IntegId(NONE)));
    let (_, answer) = select_ike(&ike(GCM), &offer).unwrap();
    //= rfc7296#2.7
    //= type=test
    //# The accepted cryptographic
    //# suite MUST contain exactly one transform of each type included in the
    //# proposal.
    assert_eq!(answer.of_kind(TransformType::INTEG).count(), 1);
    assert!(accept_ike(&ike(GCM), &[answer]).is_some());
    // But an AEAD does not go with a MAC.
    offer[0].transforms.push(Transform::integ(IntegId(12)));
    assert_eq!(select_ike(&ike(GCM), &offer), None);
}

//= rfc7296#3.3.6
//= type=test
//# If the responder receives a proposal that contains a Transform Type it
//# does not understand, or a proposal that is missing a mandatory
//# Transform Type, it MUST consider this proposal unacceptable;
//# however, other proposals in the same SA payload are processed as
//# usual.
#[test]
fn a_proposal_with_an_unknown_or_missing_transform_type_is_passed_over() {
    let good = ike_offer(&ike(GCM), None).remove(0);
    let mut odd = good.clone();
    odd.transforms
        .push(Transform::new(TransformType::ADDKE1, 35));
    assert_eq!(select_ike(&ike(GCM), std::slice::from_ref(&odd)), None);
    for kind in [TransformType::ENCR, TransformType::PRF, TransformType::KE] {
        let mut missing = good.clone();
        missing.transforms.retain(|t| t.kind != kind);
        assert_eq!(select_ike(&ike(GCM), &[missing]), None);
    }
    let second = Proposal { number: 2, ..good };
    assert_eq!(select_ike(&ike(GCM), &[odd, second]).unwrap().1.number, 2);
}

//= rfc7296#3.3.6
//= type=test
//# Similarly, if the responder receives a transform that
//# it does not understand, or one that contains a Transform Attribute it
//# does not understand, it MUST consider this transform unacceptable;
//# other transforms with the same Transform Type are processed as usual.
#[test]
fn a_transform_that_is_not_understood_is_passed_over() {
    let mut offer = ike_offer(&ike(GCM), None);
    let mut odd = encr(Encryption::Aes256Gcm16);
    let (kind, value) = (AttributeType(99), AttributeValue::Short(1));
    odd.attributes.push(Attribute { kind, value });
    offer[0]
        .transforms
        .insert(0, Transform::encr(EncrId(4242), None));
    offer[0].transforms.insert(0, odd.clone());
    assert!(select_ike(&ike(GCM), &offer).is_some());
    offer[0]
        .transforms
        .retain(|t| t.kind != TransformType::ENCR || *t == odd);
    assert_eq!(select_ike(&ike(GCM), &offer), None);
}

#[test]
fn an_answer_is_one_proposal_with_one_transform_each() {
    let ours = ike("aes_gcm_16_256+aes_gcm_16_128-sha2_256-dh31");
    let offer = ike_offer(&ours, None);
    let (_, answer) = select_ike(&ours, &offer).unwrap();
    assert!(accept_ike(&ours, std::slice::from_ref(&answer)).is_some());
    assert_eq!(accept_ike(&ours, &offer), None, "two ciphers");
    assert_eq!(accept_ike(&ours, &[answer.clone(), answer.clone()]), None);
    for other in [
        |answer: &mut Proposal| answer.number = 0,
        |answer: &mut Proposal| answer.number = 9,
        |answer: &mut Proposal| answer.protocol = ProtocolId::ESP,
    ] {
        let mut answer = answer.clone();
        other(&mut answer);
        assert_eq!(accept_ike(&ours, &[answer]), None);
    }
}

#[test]
fn esp_needs_a_usable_spi_and_says_nothing_of_key_exchange() {
    let ours = esp("aes_gcm_16_256-dh31");
    let offer = esp_offer(&ours, 0x1234, ChildExchange::IkeAuth);
    assert_eq!(offer[0].of_kind(TransformType::KE).count(), 0);
    let choice = select_esp(&ours, &offer, ChildExchange::IkeAuth).unwrap();
    assert_eq!((choice.peer_spi, choice.suite.esn), (0x1234, true));
    let answer = choice.answer(own(0x4321));
    assert_eq!(
        accept_esp(&ours, std::slice::from_ref(&answer), ChildExchange::IkeAuth)
            .unwrap()
            .1,
        0x4321
    );
    for spi in [
        vec![0, 0, 0, 0],
        vec![0, 0, 0, 255],
        vec![1, 2, 3],
        Vec::new(),
    ] {
        let offer = [Proposal {
            spi: spi.clone(),
            ..offer[0].clone()
        }];
        assert_eq!(select_esp(&ours, &offer, ChildExchange::IkeAuth), None);
        assert_eq!(
            accept_esp(
                &ours,
                &[Proposal {
                    spi,
                    ..answer.clone()
                }],
                ChildExchange::IkeAuth
            ),
            None
        );
    }
    // KE "NONE" is allowed in IKE_AUTH (RFC 7296 §1.2) and given back.
    let mut none = offer[0].clone();
    none.transforms.push(Transform::ke(KeId(0)));
    let answer = select_esp(&ours, &[none], ChildExchange::IkeAuth)
        .unwrap()
        .answer(own(0x4321));
    assert_eq!(answer.of_kind(TransformType::KE).count(), 1);
}

#[test]
fn forward_secrecy_is_given_to_whom_both_want_it() {
    let exchange = ChildExchange::CreateChildSa;
    let with = esp("aes_gcm_16_256-dh31+dh19");
    let without = esp("aes_gcm_16_256");
    let none = {
        let mut offer = esp_offer(&with, 0x1234, exchange);
        offer[0].transforms.push(Transform::ke(KeId(NONE)));
        offer
    };
    let chosen = |ours: &[EspProposal], theirs: &[Proposal]| {
        select_esp(ours, theirs, exchange).map(|choice| choice.suite.key_exchange)
    };
    let offer = esp_offer(&with, 0x1234, exchange);
    assert_eq!(chosen(&with, &offer), Some(Some(KeyExchange::X25519)));
    assert_eq!(
        chosen(&esp("aes_gcm_16_256-dh19"), &offer),
        Some(Some(KeyExchange::Ecp256))
    );
    assert_eq!(chosen(&esp("aes_gcm_16_256-dh20"), &offer), None);
    assert_eq!(chosen(&without, &offer), None);
    assert_eq!(chosen(&without, &none), Some(None));
    assert_eq!(chosen(&with, &esp_offer(&without, 0x1234, exchange)), None);
    // The answer says so, and another one is refused.
    let answer = select_esp(&with, &offer, exchange)
        .unwrap()
        .answer(own(0x4321));
    assert_eq!(answer.of_kind(TransformType::KE).count(), 1);
    assert!(accept_esp(&with, std::slice::from_ref(&answer), exchange).is_some());
    assert_eq!(accept_esp(&without, &[answer], exchange), None);
}

/// What is not wanted here is not left out of the answer: that is another proposal than the one offered.
#[test]
fn additional_key_exchanges_of_a_child_sa_are_made_if_both_want_them() {
    let exchange = ChildExchange::CreateChildSa;
    let (with, without) = (esp("aes_gcm_16_256-dh31"), esp("aes_gcm_16_256"));
    let number = |ours: &[EspProposal], theirs: &[Proposal]| {
        select_esp(ours, theirs, exchange).map(|choice| choice.answer(own(0x4321)).number)
    };
    let twice = [with.clone(), with.clone()].concat();
    let mut offer = esp_offer(&twice, 1234, exchange);
    let [kind, ..] = TransformType::ADDITIONAL_KEY_EXCHANGES;
    offer[0]
        .transforms
        .push(additional(kind, Some(KeyExchange::MlKem768)));
    assert_eq!(number(&with, &offer), Some(2));
    offer[0].transforms.push(additional(kind, None));
    assert_eq!(number(&with, &offer), Some(1), "it may be left out");
    // A method that is unknown here is one all the same.
    let mut unknown = esp_offer(&without, 1234, exchange);
    unknown[0].transforms.push(Transform::ke(KeId(60_000)));
    assert_eq!(number(&without, &unknown), None);
    let hybrid = esp("aes_gcm_16_256-dh31;addke1=ml_kem_768");
    let offer = esp_offer(&hybrid, 1234, exchange);
    let choice = select_esp(&hybrid, &offer, exchange).unwrap();
    assert_eq!(choice.suite.additional[0], Some(KeyExchange::MlKem768));
    let answer = [choice.answer(own(0x4321))];
    assert_eq!(answer[0].of_kind(kind).count(), 1);
    assert_eq!(
        accept_esp(&hybrid, &answer, exchange).map(|(suite, _)| suite),
        Some(choice.suite)
    );
    assert_eq!(accept_esp(&with, &answer, exchange), None);
    // IKE_AUTH has none.
    let first = esp_offer(&hybrid, 1234, ChildExchange::IkeAuth);
    assert_eq!(first[0].of_kind(kind).count(), 0);
    // There is none without the first one.
    let mut alone = esp_offer(&without, 1234, exchange);
    alone[0]
        .transforms
        .push(additional(kind, Some(KeyExchange::MlKem768)));
    assert_eq!(number(&hybrid, &alone), None);
}

#[test]
fn a_successor_needs_an_spi() {
    let ours = ike(GCM);
    let (bare, spi) = (ike_offer(&ours, None), IkeSpi(7));
    let rekeying = ike_offer(&ours, Some(spi));
    let select =
        |offer: &[Proposal]| received(offer, |sa| IkeOffer::rekeying(sa).select(&ours, true));
    assert!(select(&bare).is_none());
    assert!(select_ike(&ours, &rekeying).is_none());
    assert!(select(&rekeying).is_some());
    assert!(select(&ike_offer(&ours, Some(IkeSpi::ZERO))).is_none());
}

//= rfc7296#3.3.1
//= type=test
//# When a proposal is made, the first
//# proposal in an SA payload MUST be 1, and subsequent proposals MUST
//# be one more than the previous proposal (indicating an OR of the
//# two proposals).
#[test]
fn proposals_are_numbered_from_one() {
    let text = "aes256-sha2_256-dh31,aes_gcm_16_256-sha2_512-dh31,aes128-sha2_256-dh19";
    let offers = [
        ike_offer(&ike(text), None),
        ike_offer(&ike(text), Some(IkeSpi(7))),
        esp_offer(
            &esp("aes_gcm_16_256,aes256-sha2_256,aes128-sha2_256"),
            7,
            ChildExchange::IkeAuth,
        ),
    ];
    for offer in offers {
        let numbers: Vec<_> = offer.iter().map(|proposal| proposal.number).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }
}

//= rfc7296#2.18
//= type=test
//# In
//# other words, an initiator MUST NOT propose the value "NONE" for the
//# Diffie-Hellman transform, and a responder MUST NOT accept such a
//# proposal.
#[test]
fn a_successor_has_a_key_exchange() {
    let ours = ike(GCM);
    let mut offer = ike_offer(&ours, Some(IkeSpi(7)));
    let methods: Vec<_> = offer[0].of_kind(TransformType::KE).map(|t| t.id).collect();
    assert!(!methods.is_empty() && !methods.contains(&NONE));
    let refused = |offer: &[Proposal]| {
        received(offer, |sa| {
            IkeOffer::rekeying(sa).select(&ours, true).is_none()
        })
    };
    offer[0].transforms.retain(|t| t.kind != TransformType::KE);
    assert!(refused(&offer));
    offer[0].transforms.push(Transform::ke(KeId(NONE)));
    assert!(refused(&offer));
}
