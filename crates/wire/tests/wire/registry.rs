//! The numbers of the IANA registry.

use cygnet_wire::{
    EncrId, ExchangeType, IntegId, KeId, NotifyType, PayloadType, PrfId, ProtocolId, TransformType,
    TsType,
};

#[test]
fn names_are_the_registrys_and_unknown_values_keep_their_number() {
    assert_eq!(NotifyType(14).to_string(), "NO_PROPOSAL_CHOSEN");
    assert_eq!(NotifyType::USE_ASSIGNED_HOA.to_string(), "USE_ASSIGNED_HoA");
    assert_eq!(format!("{:?}", NotifyType(40_000)), "NotifyType(40000)");
    assert_eq!(format!("{:?}", ExchangeType(43)), "IKE_INTERMEDIATE");
    assert_eq!(format!("{:?}", PayloadType(46)), "SK");
    assert_eq!(TransformType::ADDKE7.id_name(37), Some("ml-kem-1024"));
    assert_eq!(TransformType::ENCR.id_name(20), Some("ENCR_AES_GCM_16"));
    assert_eq!(TransformType(99).id_name(1), None);
}

#[test]
fn errors_are_below_16384() {
    assert!(NotifyType::REGISTRATION_FAILED.is_error());
    assert!(NotifyType(16_383).is_error() && NotifyType(16_383).is_private_use());
    assert!(!NotifyType::INITIAL_CONTACT.is_error());
    assert!(NotifyType(8192).is_private_use() && !NotifyType(8191).is_private_use());
    assert!(NotifyType(40_960).is_private_use() && !NotifyType(40_959).is_private_use());
}

#[test]
fn named_values_ascend_without_gaps_where_the_registry_has_none() {
    fn ascending<T: Ord + Copy>(values: &[T]) -> bool {
        values.windows(2).all(|pair| pair[0] < pair[1])
    }
    assert!(ascending(NotifyType::NAMED) && ascending(EncrId::NAMED) && ascending(KeId::NAMED));
    assert!(ascending(IntegId::NAMED) && ascending(PrfId::NAMED) && ascending(PayloadType::NAMED));
    let status: Vec<u16> = NotifyType::NAMED
        .iter()
        .filter(|kind| !kind.is_error() && !kind.is_private_use())
        .map(|kind| kind.0)
        .collect();
    assert_eq!(
        status,
        (16_384..=16_447).collect::<Vec<_>>(),
        "every status type up to the last assigned one"
    );
    let errors: Vec<u16> = NotifyType::NAMED
        .iter()
        .filter(|kind| kind.is_error())
        .map(|kind| kind.0)
        .collect();
    assert_eq!(errors[..9], [1, 4, 5, 7, 9, 11, 14, 17, 24]);
    assert_eq!(errors[9..], (34..=49).collect::<Vec<_>>());
    assert_eq!(
        TransformType::NAMED
            .iter()
            .map(|kind| kind.0)
            .collect::<Vec<_>>(),
        (1..=14).collect::<Vec<_>>()
    );
    assert_eq!(
        ExchangeType::NAMED
            .iter()
            .map(|kind| kind.0)
            .collect::<Vec<_>>(),
        (34..=44).collect::<Vec<_>>()
    );
    assert_eq!(
        TsType::NAMED.iter().map(|kind| kind.0).collect::<Vec<_>>(),
        [7, 8, 9, 10]
    );
    assert_eq!(
        ProtocolId::NAMED
            .iter()
            .map(|kind| kind.0)
            .collect::<Vec<_>>(),
        (0..=6).collect::<Vec<_>>()
    );
}
