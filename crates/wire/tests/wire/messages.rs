//! Messages to octets and back, octet by octet.

use cygnet_wire::{
    AuthMethodId, EncrId, ExchangeType, Flags, Header, IkeSpi, KeId, Message, Notify, NotifyType,
    ParseErrorKind, Payload, PayloadChain, PayloadType, PayloadWriter, Proposal, ProtocolId, Spi,
    TrafficSelector, Transform, TransformType, Version, WriteError, write_message,
};

use crate::samples::{self, CIPHERTEXT, NONCE, SPI_I, SPI_R};

fn payloads<'a>(message: &Message<'a>) -> Vec<Payload<'a>> {
    message
        .payloads()
        .collect::<Result<_, _>>()
        .expect("a sample can be read")
}

#[test]
fn a_message_has_the_octets_of_the_rfc() {
    // IKE_SA_INIT with one proposal of one transform with a key length, drawn by hand after the figures 4 to 9.
    let expected: Vec<u8> = [
        &[
            0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 0, 0, 0, 0, 0, 0,
        ][..], // SPIs
        &[33, 0x20, 34, 0x08, 0, 0, 0, 0, 0, 0, 0, 72], // SA, 2.0, IKE_SA_INIT, I, 0, length
        &[41, 0, 0, 24],                                // Notify follows, 24 octets
        &[0, 0, 0, 20, 1, 1, 0, 1],                     // last, 20 octets, #1, IKE, no SPI, 1
        &[0, 0, 0, 12, 1, 0, 0, 20, 0x80, 14, 1, 0],    // last, ENCR AES_GCM_16, 256 bits
        &[0, 0, 0, 20, 3, 4, 0x40, 0x09, 0xde, 0xad, 0xbe, 0xef], // ESP, 4, REKEY_SA, SPI
        &[1, 2, 3, 4, 5, 6, 7, 8],                      // data
    ]
    .concat();
    let written = samples::message(
        &samples::request(ExchangeType::IKE_SA_INIT, IkeSpi::ZERO, 0),
        |w| {
            w.sa(&[Proposal::ike(
                1,
                vec![Transform::encr(EncrId::AES_GCM_16, Some(256))],
            )])
            .notify(&Notify {
                protocol: ProtocolId::ESP,
                spi: &[0xde, 0xad, 0xbe, 0xef],
                kind: NotifyType::REKEY_SA,
                data: &[1, 2, 3, 4, 5, 6, 7, 8],
            });
        },
    );
    assert_eq!(written, expected);
}

#[test]
fn samples_survive_reading_and_writing_octet_by_octet() {
    for (name, bytes) in samples::all() {
        let message = Message::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(message.header().length as usize, bytes.len(), "{name}");
        let mut again = Vec::new();
        write_message(&mut again, message.header(), |w| {
            payloads(&message).iter().for_each(|p| _ = w.any(p))
        })
        .expect(name);
        assert_eq!(again, bytes, "{name}");
    }
}

#[test]
fn header_flags_are_the_bits_of_the_rfc() {
    let bits = |initiator, response, version| {
        let flags = Flags {
            initiator,
            response,
            version,
        };
        Header::new(SPI_I, SPI_R, ExchangeType::INFORMATIONAL, flags, 7).to_bytes()[19]
    };
    assert_eq!(bits(true, false, false), 0b0000_1000);
    assert_eq!(bits(false, false, true), 0b0001_0000);
    assert_eq!(bits(false, true, false), 0b0010_0000);
}

#[test]
fn reserved_bits_and_the_minor_version_are_ignored() {
    //= rfc7296#3.1
    //= type=test
    //# They MUST ignore the minor
    //# version number of received messages.
    let mut bytes = samples::message(
        &samples::request(ExchangeType::INFORMATIONAL, SPI_R, 3),
        |w| _ = w.delete_ike(),
    );
    bytes[17] = 0x2f;
    //= rfc7296#3.1
    //= type=test
    //# 'X' bits MUST be
    //# cleared when sending and MUST be ignored on receipt.
    bytes[19] |= 0b1100_0111;
    //= rfc7296#3.2
    //= type=test
    //# RESERVED (7 bits) - MUST be sent as zero; MUST be ignored on
    //# receipt.
    bytes[29] = 0x7f;
    let message = Message::parse(&bytes).expect("a message");
    assert_eq!(
        message.header().version,
        Version {
            major: 2,
            minor: 15
        }
    );
    assert_eq!(
        message.header().flags,
        Flags {
            initiator: true,
            response: false,
            version: false
        }
    );
    assert!(
        matches!(payloads(&message)[..], [Payload::Delete(delete)] if delete.protocol == ProtocolId::IKE)
    );
}

#[test]
fn other_major_versions_are_told_apart() {
    //= rfc7296#3.1
    //= type=test
    //# Implementations based on this document's version
    //# (version 2) of IKE MUST reject or ignore messages containing a
    //# version number greater than 2 with an INVALID_MAJOR_VERSION
    //# notification message as described in Section 2.5.
    let mut bytes = samples::message(
        &samples::request(ExchangeType::IKE_SA_INIT, IkeSpi::ZERO, 0),
        |w| _ = w.nonce(&NONCE),
    );
    bytes[17] = 0x30;
    assert_eq!(
        Message::parse(&bytes).unwrap_err().kind,
        ParseErrorKind::UnsupportedMajorVersion(3)
    );
    assert_eq!(
        Header::parse(&bytes)
            .expect("readable all the same")
            .initiator_spi,
        SPI_I
    );
    bytes[17] = 0x10;
    assert_eq!(
        Message::parse(&bytes).unwrap_err().kind,
        ParseErrorKind::OldMajorVersion(1)
    );
}

#[test]
fn the_length_in_the_header_is_that_of_the_datagram() {
    for (name, bytes) in samples::all() {
        let mut longer = bytes.clone();
        longer.push(0);
        let error = Message::parse(&longer).unwrap_err();
        assert_eq!(error.kind, ParseErrorKind::TrailingBytes(1), "{name}");
        assert_eq!(error.offset, bytes.len(), "{name}");
        // The payloads fill the datagram, but the header says that it ends before.
        let mut understated = bytes.clone();
        understated[24..28].copy_from_slice(&28_u32.to_be_bytes());
        assert_eq!(
            Message::parse(&understated).is_err(),
            bytes.len() > 28,
            "{name}"
        );
        let mut overstated = bytes.clone();
        overstated[24..28].copy_from_slice(&65_535_u32.to_be_bytes());
        let kind = Message::parse(&overstated).unwrap_err().kind;
        assert!(
            matches!(kind, ParseErrorKind::Truncated { needed: 65_535, .. }),
            "{name}"
        );
        overstated[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
        let kind = Message::parse(&overstated).unwrap_err().kind;
        assert!(matches!(kind, ParseErrorKind::BadLength { .. }), "{name}");
    }
}

#[test]
fn unknown_payloads_keep_their_octets_and_their_critical_bit() {
    let bytes = samples::message(
        &samples::request(ExchangeType(240), SPI_R, 9),
        samples::everything,
    );
    let message = Message::parse(&bytes).expect("a message");
    assert_eq!(message.header().exchange, ExchangeType(240));
    let unknown: Vec<_> = payloads(&message)
        .into_iter()
        .filter(|payload| matches!(payload, Payload::Unknown { .. }))
        .collect();
    assert_eq!(
        unknown,
        [
            Payload::Unknown {
                payload_type: PayloadType(200),
                critical: true,
                body: b"critical and private"
            },
            Payload::Unknown {
                payload_type: PayloadType::GSA,
                critical: false,
                body: &[]
            },
        ]
    );
    //= rfc7296#2.5
    //= type=test
    //# If the critical flag is set
    //# and the payload type is unrecognized, the message MUST be rejected
    assert_eq!(
        message.chain().unsupported_critical(),
        Some(PayloadType(200))
    );
}

#[test]
fn the_critical_bit_of_known_payloads_is_ignored() {
    //= rfc7296#3.2
    //= type=test
    //# MUST be ignored by the recipient if the recipient
    //# understands the payload type code.
    for payload_type in 33..=48 {
        let mut bytes = Vec::new();
        let first = {
            let mut w = PayloadWriter::new(&mut bytes);
            if PayloadType(payload_type) == PayloadType::SK {
                continue;
            }
            w.raw(PayloadType(payload_type), true, &[0; 16]);
            w.finish().expect("a chain")
        };
        assert_eq!(
            PayloadChain::new(first, &bytes).unsupported_critical(),
            None,
            "{first}"
        );
    }
}

#[test]
fn proposals_keep_what_nobody_knows() {
    let bytes = samples::message(
        &samples::request(ExchangeType::CREATE_CHILD_SA, SPI_R, 4),
        |w| {
            w.sa(&[samples::ike_proposals(), vec![samples::unknown_proposal()]].concat());
        },
    );
    let message = Message::parse(&bytes).expect("a message");
    let [Payload::Sa(sa)] = payloads(&message)[..] else {
        panic!("one SA payload")
    };
    let proposals = sa.to_proposals();
    assert_eq!(proposals[..2], samples::ike_proposals());
    assert_eq!(proposals[2], samples::unknown_proposal());
    let understood = |n| {
        let mut transforms = sa.proposals().nth(n).expect("a proposal").transforms();
        transforms.all(|transform| transform.attributes_understood())
    };
    assert!(understood(0) && !understood(2));
    assert_eq!(proposals[0].transforms[0].key_length(), Some(256));
    assert_eq!(
        proposals[0].transforms[0].to_string(),
        "ENCR_AES_GCM_16-256"
    );
    assert_eq!(
        proposals[2].transforms[0].to_string(),
        "TransformType(241)(65244)"
    );
    let additional: Vec<u16> = proposals[0]
        .of_kind(TransformType::ADDKE1)
        .map(|transform| transform.id)
        .collect();
    assert_eq!(additional, [KeId::ML_KEM_768.0, KeId::NONE.0]);
}

#[test]
fn an_encrypted_payload_gives_the_octets_to_authenticate() {
    let samples = samples::all();
    let of = |name| {
        samples
            .iter()
            .find(|(sample, _)| *sample == name)
            .map(|(_, bytes)| bytes)
            .expect("a sample")
    };

    let bytes = of("encrypted");
    let message = Message::parse(bytes).expect("a message");
    let [Payload::Sk(sk)] = payloads(&message)[..] else {
        panic!("one SK payload")
    };
    assert_eq!(
        (sk.first_inner, sk.prefix, sk.body),
        (PayloadType::ID_I, &bytes[..32], &CIPHERTEXT[..])
    );

    let bytes = of("first_fragment");
    let message = Message::parse(bytes).expect("a message");
    let [Payload::Skf(skf)] = payloads(&message)[..] else {
        panic!("one SKF payload")
    };
    assert_eq!(
        (skf.number, skf.total, skf.prefix, skf.body),
        (1, 3, &bytes[..36], &CIPHERTEXT[..])
    );

    //= rfc7383#2.5
    //= type=test
    //# In the rest of the Fragment messages (with Fragment Number greater
    //# than 1), this field MUST be set to zero.
    let message = Message::parse(of("last_fragment")).expect("a message");
    assert!(
        matches!(payloads(&message)[..], [Payload::Skf(skf)] if skf.first_inner == PayloadType::NONE)
    );
}

#[test]
fn a_message_can_follow_a_marker_in_the_buffer() {
    let header = samples::request(ExchangeType::IKE_AUTH, SPI_R, 1);
    let plain = samples::message(&header, samples::everything);
    let mut marked = cygnet_wire::NON_ESP_MARKER.to_vec();
    write_message(&mut marked, &header, samples::everything).expect("a message");
    assert_eq!(
        cygnet_wire::classify_natt(&marked),
        cygnet_wire::UdpDatagram::Ike(&plain)
    );
}

#[test]
fn what_has_no_encoding_is_refused_and_leaves_the_buffer_alone() {
    let refused = |write: &dyn Fn(&mut PayloadWriter<'_>)| {
        let mut out = b"before".to_vec();
        let header = samples::request(ExchangeType::IKE_AUTH, SPI_R, 1);
        let error = write_message(&mut out, &header, |w| {
            w.vendor_id(b"fine");
            write(w);
            w.vendor_id(b"too late");
        });
        assert_eq!(out, b"before");
        error.expect_err("no encoding")
    };
    let v4 = samples::ipv4_selector();
    let mixed = TrafficSelector {
        end: samples::ipv6_selector().end,
        ..v4
    };

    assert_eq!(
        refused(&|w| _ = w.nonce(&[0; 15])),
        WriteError::BadNonceLength(15)
    );
    assert_eq!(
        refused(&|w| _ = w.nonce(&[0; 257])),
        WriteError::BadNonceLength(257)
    );
    assert!(matches!(
        refused(&|w| _ = w.vendor_id(&[0; 65_532])),
        WriteError::TooLong { length: 65_536, .. }
    ));
    assert!(matches!(
        refused(&|w| _ = w.vendor_id(&[0; 65_500])),
        WriteError::TooLong {
            what: "message",
            ..
        }
    ));
    assert!(matches!(
        refused(&|w| _ = w.ts_i(&[mixed])),
        WriteError::MixedFamilies { .. }
    ));
    assert!(matches!(
        refused(&|w| _ = w.ts_i(&[v4; 256])),
        WriteError::TooMany { count: 256, .. }
    ));
    assert!(matches!(
        refused(&|w| _ = w.delete(ProtocolId::ESP, &[Spi(256); 1025])),
        WriteError::TooMany { .. }
    ));
    assert_eq!(
        refused(&|w| _ = w.sk(PayloadType::NONE, 0)),
        WriteError::AfterEncrypted(PayloadType::VENDOR_ID)
    );
    assert!(matches!(
        refused(&|w| _ = w.skf(PayloadType::NONE, 4, 3, 0)),
        WriteError::BadFragmentNumber { .. }
    ));
    assert_eq!(
        refused(&|w| _ = w.raw(PayloadType::SK, false, &[])),
        WriteError::NotRaw(PayloadType::SK)
    );
    assert!(matches!(
        refused(&|w| _ = w.eap(&[1, 2, 0, 9, 1])),
        WriteError::MalformedEap(_)
    ));
    assert!(matches!(
        refused(&|w| _ = w.notify(&Notify {
            spi: &[0; 256],
            ..Notify::new(NotifyType::INVALID_SPI, &[])
        })),
        WriteError::TooLong { maximum: 255, .. }
    ));
    assert!(matches!(
        refused(&|w| (0..128).for_each(|_| _ = w.vendor_id(b""))),
        WriteError::TooMany { .. }
    ));
}

#[test]
fn notifications_say_what_their_data_means() {
    let wanted = Notify::new(NotifyType::INVALID_KE_PAYLOAD, &[0, 19]);
    assert_eq!(wanted.wanted_key_exchange(), Some(KeId::ECP_256));
    assert_eq!(
        Notify::new(NotifyType::INVALID_KE_PAYLOAD, &[19]).wanted_key_exchange(),
        None
    );
    let unsupported = Notify::new(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, &[200]);
    assert_eq!(unsupported.unsupported_payload(), Some(PayloadType(200)));
    let hashes = Notify::new(NotifyType::SIGNATURE_HASH_ALGORITHMS, &[0, 2, 0, 5]);
    assert_eq!(
        hashes
            .hash_algorithms()
            .map(|hash| hash.0)
            .collect::<Vec<_>>(),
        [2, 5]
    );
}

#[test]
fn digital_signatures_come_apart() {
    let chain = {
        let mut out = Vec::new();
        let mut w = PayloadWriter::new(&mut out);
        w.auth(AuthMethodId::DIGITAL_SIGNATURE, &[2, 0x30, 0x00, 9, 9, 9]);
        let first = w.finish().expect("a chain");
        (first, out)
    };
    let payload = PayloadChain::new(chain.0, &chain.1)
        .payloads()
        .next()
        .expect("one")
        .expect("well-formed");
    let Payload::Auth(auth) = payload else {
        panic!("an AUTH payload")
    };
    let signature = auth.digital_signature().expect("well-formed");
    assert_eq!(
        (signature.algorithm, signature.signature),
        (&[0x30, 0x00][..], &[9, 9, 9][..])
    );
}

/// Figures 4, 6 and 7 of RFC 5723, octet by octet.
//= rfc5723#7
//= type=test
//# For all these notifications, the Protocol ID and the SPI Size fields
//# MUST both be sent as 0.
#[test]
fn session_resumption_by_hand() {
    let named = |wanted: &str| {
        let (_, bytes) = samples::all()
            .into_iter()
            .find(|(name, _)| *name == wanted)
            .expect("a sample");
        bytes
    };
    let mut request = Vec::new();
    // SPIs, the first payload: Notify, version 2.0, IKE_SESSION_RESUME, the original initiator, Message ID, length.
    request.extend([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
    request.extend([0; 8]);
    request.extend([41, 0x20, 38, 0x08, 0, 0, 0, 0, 0, 0, 0, 95]);
    // N(COOKIE), then Ni.
    request.extend([40, 0, 0, 15, 0, 0, 0x40, 0x06]);
    request.extend(b"biscuit");
    request.extend([41, 0, 0, 36]);
    request.extend([0x5a; 32]);
    // N(TICKET_OPAQUE), 16413.
    request.extend([0, 0, 0, 16, 0, 0, 0x40, 0x1d]);
    request.extend(b"a ticket");
    assert_eq!(named("session_resumption"), request);

    let mut refusal = Vec::new();
    refusal.extend([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
    refusal.extend([0; 8]);
    refusal.extend([41, 0x20, 38, 0x20, 0, 0, 0, 0, 0, 0, 0, 36]);
    // N(TICKET_NACK), 16412.
    refusal.extend([0, 0, 0, 8, 0, 0, 0x40, 0x1c]);
    assert_eq!(named("ticket_refused"), refusal);

    // N(TICKET_REQUEST), N(TICKET_ACK), and N(TICKET_LT_OPAQUE) for an hour.
    let mut tickets = Vec::new();
    tickets.extend([41, 0, 0, 8, 0, 0, 0x40, 0x1a]);
    tickets.extend([41, 0, 0, 8, 0, 0, 0x40, 0x1b]);
    tickets.extend([0, 0, 0, 20, 0, 0, 0x40, 0x19, 0, 0, 0x0e, 0x10]);
    tickets.extend(b"a ticket");
    assert_eq!(named("tickets")[28..], tickets);
}
