//! Messages that are wrong, one thing at a time.

use cygnet_wire::{
    ExchangeType, Header, Message, ParseError, ParseErrorKind, Payload, PayloadChain, PayloadType,
    PayloadWriter, limits,
};

use crate::samples::{self, SPI_R};
use crate::walk;

/// The error of a chain of one payload of type `payload_type` with `body`.
fn refused(payload_type: PayloadType, body: &[u8]) -> ParseError {
    let mut bytes = Vec::new();
    let mut w = PayloadWriter::new(&mut bytes);
    w.raw(payload_type, false, body);
    let first = w.finish().expect("a chain");
    let error = PayloadChain::new(first, &bytes)
        .payloads()
        .next()
        .expect("one payload")
        .expect_err("malformed");
    assert_eq!(error.payload, Some(payload_type));
    error
}

#[test]
fn every_truncation_is_refused() {
    for (name, bytes) in samples::all() {
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            assert!(Message::parse(cut).is_err(), "{name} cut to {end} octets");
            walk::datagram(cut);
            // With the length field corrected, the cut is inside the payloads.
            if end >= Header::LEN {
                let mut cut = cut.to_vec();
                cut[24..28].copy_from_slice(&u32::try_from(end).expect("short").to_be_bytes());
                // The body of an Encrypted payload is opaque, but its length field tells.
                assert!(
                    Message::parse(&cut).is_err(),
                    "{name} cut to {end} octets, length corrected"
                );
                walk::datagram(&cut);
            }
        }
    }
}

#[test]
fn every_truncation_of_every_body_is_looked_at() {
    let bytes = samples::message(
        &samples::request(ExchangeType::IKE_AUTH, SPI_R, 1),
        samples::everything,
    );
    let message = Message::parse(&bytes).expect("a message");
    for raw in message.chain().raw_payloads() {
        let raw = raw.expect("a payload");
        for end in 0..raw.body.len() {
            let mut out = Vec::new();
            let mut w = PayloadWriter::new(&mut out);
            w.raw(raw.payload_type, raw.critical, &raw.body[..end]);
            let first = w.finish().expect("a chain");
            walk::datagram(&[&[first.0], &out[..]].concat());
        }
    }
}

#[test]
fn every_octet_set_to_its_extremes_is_survived() {
    for (_, bytes) in samples::all() {
        for at in 0..bytes.len() {
            for value in [
                0,
                1,
                0x7f,
                0x80,
                0xff,
                bytes[at] ^ 1,
                bytes[at].wrapping_add(1),
            ] {
                let mut changed = bytes.clone();
                changed[at] = value;
                walk::datagram(&changed);
            }
        }
    }
}

#[test]
fn lengths_counts_and_markers_of_proposals_must_agree() {
    //= rfc7296#3.3
    //= type=test
    //# When parsing an SA, an implementation MUST check that the total
    //# Payload Length is consistent with the payload's internal lengths and
    //# counts.
    let good = [0, 0, 0, 16, 1, 1, 0, 1, 0, 0, 0, 8, 2, 0, 0, 5];
    let with = |at: usize, value: u8| {
        let mut body = good;
        body[at] = value;
        refused(PayloadType::SA, &body).kind
    };
    assert_eq!(
        with(0, 2),
        ParseErrorKind::BadSubstructureMarker {
            found: 2,
            expected: 0
        }
    );
    assert_eq!(
        with(3, 17),
        ParseErrorKind::BadLength {
            length: 17,
            minimum: 8,
            maximum: 16
        }
    );
    assert_eq!(
        with(3, 7),
        ParseErrorKind::BadLength {
            length: 7,
            minimum: 8,
            maximum: 16
        }
    );
    assert_eq!(
        with(7, 2),
        ParseErrorKind::CountMismatch {
            what: "num transforms",
            stated: 2,
            found: 1
        }
    );
    assert_eq!(
        with(8, 3),
        ParseErrorKind::BadSubstructureMarker {
            found: 3,
            expected: 0
        }
    );
    assert_eq!(
        with(11, 9),
        ParseErrorKind::BadLength {
            length: 9,
            minimum: 8,
            maximum: 8
        }
    );
    assert!(matches!(
        with(6, 9),
        ParseErrorKind::Truncated { .. } | ParseErrorKind::BadLength { .. }
    ));
    // Shorter transform: what is left over is not a transform.
    assert!(matches!(
        with(11, 7),
        ParseErrorKind::BadLength { length: 7, .. }
    ));
}

#[test]
fn nonces_have_16_to_256_octets() {
    //= rfc7296#3.9
    //= type=test
    //# The size of the Nonce Data MUST be between 16 and 256 octets,
    //# inclusive.
    assert_eq!(
        refused(PayloadType::NONCE, &[0; 15]).kind,
        ParseErrorKind::BadNonceLength(15)
    );
    assert_eq!(
        refused(PayloadType::NONCE, &[0; 257]).kind,
        ParseErrorKind::BadNonceLength(257)
    );
}

#[test]
fn deletes_have_spis_of_the_size_of_their_protocol() {
    //= rfc7296#3.11
    //= type=test
    //# It MUST be zero for IKE (SPI is in message header)
    //# or four for AH and ESP.
    assert_eq!(
        refused(PayloadType::DELETE, &[1, 8, 0, 0]).kind,
        ParseErrorKind::BadSpiSize {
            spi_size: 8,
            count: 0
        }
    );
    assert_eq!(
        refused(PayloadType::DELETE, &[3, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]).kind,
        ParseErrorKind::BadSpiSize {
            spi_size: 8,
            count: 1
        }
    );
    assert_eq!(
        refused(PayloadType::DELETE, &[3, 4, 0, 1, 9, 9, 9, 9, 9]).kind,
        ParseErrorKind::TrailingBytes(1)
    );
    // A count without octets must not become a loop of 65,535 turns.
    assert_eq!(
        refused(PayloadType::DELETE, &[77, 0, 0xff, 0xff]).kind,
        ParseErrorKind::BadSpiSize {
            spi_size: 0,
            count: 65_535
        }
    );
}

#[test]
fn fragments_are_numbered_from_one_to_the_total() {
    //= rfc7383#2.5
    //= type=test
    //# This field MUST be less than or
    //# equal to the next field (Total Fragments).  This field MUST NOT be
    //# zero.
    let (_, good) = samples::all()
        .into_iter()
        .find(|(name, _)| *name == "first_fragment")
        .expect("a sample");
    for (number, total) in [(0, 3), (4, 3), (1, 0), (0, 0)] {
        let mut bytes = good.clone();
        bytes[33] = number;
        bytes[35] = total;
        let error = Message::parse(&bytes)
            .expect("framing is fine")
            .payloads()
            .next()
            .expect("one")
            .expect_err("not");
        let (number, total) = (u16::from(number), u16::from(total));
        assert_eq!(
            error.kind,
            ParseErrorKind::BadFragmentNumber { number, total }
        );
        assert_eq!(error.offset, 32);
    }
}

//= rfc7296#3.14
//= type=test
//# The Encrypted payload, if present in a message,
//# MUST be the last payload in the message.
#[test]
fn the_encrypted_payload_is_the_last_and_not_inside_another() {
    //= rfc7296#3.1
    //= type=test
    //# An Encrypted payload MUST be the last payload
    //# in a packet and an Encrypted payload MUST NOT contain another
    //# Encrypted payload.
    let (_, mut bytes) = samples::all()
        .into_iter()
        .find(|(name, _)| *name == "encrypted")
        .expect("a sample");
    assert_eq!(
        PayloadChain::new(PayloadType::SK, &bytes[28..])
            .check()
            .expect_err("nested")
            .kind,
        ParseErrorKind::NestedEncrypted
    );
    bytes.extend([0, 0, 0, 4]);
    bytes[27] += 4;
    assert_eq!(
        Message::parse(&bytes).expect_err("not the last").kind,
        ParseErrorKind::TrailingBytes(4)
    );
}

#[test]
fn octets_after_the_last_payload_are_refused() {
    let error = PayloadChain::new(PayloadType::NONE, &[0])
        .check()
        .expect_err("left over");
    assert_eq!(error.kind, ParseErrorKind::TrailingBytes(1));
    assert_eq!(PayloadChain::new(PayloadType::NONE, &[]).check(), Ok(()));
}

#[test]
fn a_chain_of_too_many_payloads_is_refused() {
    let chain = [[43, 0, 0, 4]; 2 * limits::MAX_PAYLOADS].concat();
    let error = PayloadChain::new(PayloadType::VENDOR_ID, &chain)
        .check()
        .expect_err("too many");
    assert_eq!(
        error.kind,
        ParseErrorKind::TooMany {
            what: "payloads",
            limit: limits::MAX_PAYLOADS
        }
    );
    assert_eq!(error.offset, 4 * limits::MAX_PAYLOADS);
}

#[test]
fn more_than_the_limits_is_refused() {
    let proposals = |count| {
        let mut body = [[2, 0, 0, 8, 1, 1, 0, 0]].repeat(count).concat();
        let last = body.len() - 8;
        body[last] = 0;
        body
    };
    let mut bytes = Vec::new();
    let mut w = PayloadWriter::new(&mut bytes);
    w.raw(PayloadType::SA, false, &proposals(limits::MAX_PROPOSALS));
    let first = w.finish().expect("a chain");
    let payload = PayloadChain::new(first, &bytes)
        .payloads()
        .next()
        .expect("one payload");
    assert!(
        matches!(payload, Ok(Payload::Sa(sa)) if sa.proposals().count() == limits::MAX_PROPOSALS)
    );

    let kind = |what, limit| ParseErrorKind::TooMany { what, limit };
    assert_eq!(
        refused(PayloadType::SA, &proposals(limits::MAX_PROPOSALS + 1)).kind,
        kind("proposals", limits::MAX_PROPOSALS)
    );
    let attributes = [[0x80, 14, 1, 0]]
        .repeat(limits::MAX_ATTRIBUTES + 1)
        .concat();
    let transform = [
        &[0, 0, 0, 8 + attributes.len() as u8, 1, 0, 0, 12],
        &attributes[..],
    ]
    .concat();
    let proposal = [
        &[0, 0, 0, 8 + transform.len() as u8, 1, 1, 0, 1],
        &transform[..],
    ]
    .concat();
    assert_eq!(
        refused(PayloadType::SA, &proposal).kind,
        kind("attributes", limits::MAX_ATTRIBUTES)
    );

    let spis = [&[3, 4, 4, 1][..], &[0; 4 * 1025]].concat();
    assert_eq!(
        refused(PayloadType::DELETE, &spis).kind,
        kind("spis", limits::MAX_DELETE_SPIS)
    );
    let attributes = [&[1, 0, 0, 0][..], &[0; 4 * 257]].concat();
    assert_eq!(
        refused(PayloadType::CP, &attributes).kind,
        kind("configuration attributes", limits::MAX_CONFIG_ATTRIBUTES)
    );
    let selectors = [&[0, 0, 0, 0][..], &[251, 0, 0, 4].repeat(256)].concat();
    assert_eq!(
        refused(PayloadType::TS_I, &selectors).kind,
        kind("traffic selectors", limits::MAX_SELECTORS)
    );
}

#[test]
fn selectors_of_addresses_have_the_length_of_their_type() {
    let body = [&[1, 0, 0, 0, 7, 0, 0, 20][..], &[0; 16]].concat();
    let error = refused(PayloadType::TS_R, &body);
    assert_eq!(
        error.kind,
        ParseErrorKind::BadSelectorLength {
            ts_type: 7,
            length: 20
        }
    );
    assert_eq!(
        error.offset, 8,
        "four octets of generic header, four before the selector"
    );
    assert_eq!(
        error.to_string(),
        "traffic selector of type 7 with length 20 at octet 8 in the TSr payload"
    );
}

#[test]
fn eap_messages_have_their_own_length() {
    assert!(matches!(
        refused(PayloadType::EAP, &[3, 1, 0, 5]).kind,
        ParseErrorKind::BadLength { .. }
    ));
    assert_eq!(
        refused(PayloadType::EAP, &[3, 1, 0, 4, 0]).kind,
        ParseErrorKind::TrailingBytes(1)
    );
    assert!(matches!(
        refused(PayloadType::EAP, &[1, 1, 0, 4]).kind,
        ParseErrorKind::Truncated { .. }
    ));
}
