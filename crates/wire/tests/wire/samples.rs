//! Valid messages, written by this crate, that together use every payload and every structure.

use std::net::IpAddr;

use cygnet_wire::{
    Attribute, AttributeType, AttributeValue, AuthMethodId, CertEncoding, CfgAttributeType,
    CfgType, ConfigAttribute, EncrId, EsnId, ExchangeType, Flags, Header, IdType, IkeSpi, IntegId,
    KeId, Notify, NotifyType, PayloadType, PayloadWriter, PrfId, Proposal, ProtocolId,
    PuzzleNotify, SelectorEntry, Spi, TicketNotify, TrafficSelector, Transform, TransformType,
    TsType, write_message,
};

pub const SPI_I: IkeSpi = IkeSpi(0x1122_3344_5566_7788);
pub const SPI_R: IkeSpi = IkeSpi(0x99aa_bbcc_ddee_ff01);
pub const NONCE: [u8; 32] = [0x5a; 32];
pub const PUBLIC: [u8; 32] = [0xc3; 32];
pub const CIPHERTEXT: [u8; 72] = [0xe7; 72];

/// A request of the original initiator.
pub fn request(exchange: ExchangeType, responder_spi: IkeSpi, message_id: u32) -> Header {
    Header::new(
        SPI_I,
        responder_spi,
        exchange,
        Flags {
            initiator: true,
            ..Flags::default()
        },
        message_id,
    )
}

pub fn message(header: &Header, payloads: impl FnOnce(&mut PayloadWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write_message(&mut out, header, payloads).expect("a sample can be written");
    out
}

/// Proposals for an IKE SA: AEAD with an additional key exchange, and CBC with alternatives.
pub fn ike_proposals() -> Vec<Proposal> {
    vec![
        Proposal::ike(
            1,
            vec![
                Transform::encr(EncrId::AES_GCM_16, Some(256)),
                Transform::encr(EncrId::CHACHA20_POLY1305, None),
                Transform::prf(PrfId::HMAC_SHA2_256),
                Transform::ke(KeId::CURVE25519),
                Transform::new(TransformType::ADDKE1, KeId::ML_KEM_768.0),
                Transform::new(TransformType::ADDKE1, KeId::NONE.0),
            ],
        ),
        Proposal::ike(
            2,
            vec![
                Transform::encr(EncrId::AES_CBC, Some(128)),
                Transform::encr(EncrId::AES_CBC, Some(256)),
                Transform::integ(IntegId::HMAC_SHA2_256_128),
                Transform::prf(PrfId::HMAC_SHA2_384),
                Transform::ke(KeId::ECP_384),
                Transform::ke(KeId::MODP_2048),
            ],
        ),
    ]
}

/// Proposals for a CHILD SA.
pub fn esp_proposals() -> Vec<Proposal> {
    vec![
        Proposal::esp(
            1,
            Spi(0xc0ff_ee01),
            vec![
                Transform::encr(EncrId::AES_GCM_16, Some(128)),
                Transform::esn(EsnId::YES),
                Transform::esn(EsnId::NO),
            ],
        ),
        Proposal::esp(
            2,
            Spi(0xc0ff_ee02),
            vec![
                Transform::encr(EncrId::AES_CBC, Some(256)),
                Transform::integ(IntegId::HMAC_SHA2_512_256),
                Transform::ke(KeId::ECP_256),
                Transform::esn(EsnId::NO),
            ],
        ),
    ]
}

/// A proposal of which nothing is known to anybody: protocol, transform type, transform ID, attributes of both forms.
pub fn unknown_proposal() -> Proposal {
    Proposal {
        number: 7,
        protocol: ProtocolId(201),
        spi: vec![1, 2, 3, 4, 5],
        transforms: vec![Transform {
            kind: TransformType(241),
            id: 0xfedc,
            attributes: vec![
                Attribute {
                    kind: AttributeType(0x7ffe),
                    value: AttributeValue::Short(0xabcd),
                },
                Attribute {
                    kind: AttributeType(0x1234),
                    value: AttributeValue::Long(b"opaque".to_vec()),
                },
                Attribute {
                    kind: AttributeType(3),
                    value: AttributeValue::Long(Vec::new()),
                },
            ],
        }],
    }
}

pub fn ipv4_selector() -> TrafficSelector {
    TrafficSelector::addresses(IpAddr::from([10, 1, 0, 0]), IpAddr::from([10, 1, 255, 255]))
}

pub fn ipv6_selector() -> TrafficSelector {
    TrafficSelector {
        protocol: 6,
        start_port: 443,
        end_port: 8443,
        start: "2001:db8::".parse().expect("an address"),
        end: "2001:db8::ffff:ffff".parse().expect("an address"),
    }
}

/// What follows when the peer's certificates and configuration are all in the clear, as in no real exchange.
pub fn everything(w: &mut PayloadWriter<'_>) {
    w.sa(&[esp_proposals(), vec![unknown_proposal()]].concat())
        .ke(KeId::CURVE25519, &PUBLIC)
        .id_i(IdType::FQDN, b"gw.example.org")
        .id_r(IdType::IPV6_ADDR, &[0x20; 16])
        .cert(
            CertEncoding::HASH_AND_URL_X509,
            b"twenty octets of hashhttp://example.org/gw.cer",
        )
        .certreq(CertEncoding::X509_SIGNATURE, &[0xaa; 40])
        .auth(AuthMethodId::SHARED_KEY, &[0x77; 32])
        .nonce(&NONCE)
        .notify(&Notify::new(NotifyType::INITIAL_CONTACT, &[]))
        .notify(&Notify {
            protocol: ProtocolId::ESP,
            spi: &[0xde, 0xad, 0xbe, 0xef],
            kind: NotifyType::REKEY_SA,
            data: &[],
        })
        .delete(ProtocolId::ESP, &[Spi(0x0102_0304), Spi(0x0506_0708)])
        .vendor_id(b"cygnet sample")
        .ts_i_entries(&[
            SelectorEntry::Ip(ipv4_selector()),
            SelectorEntry::Ip(ipv6_selector()),
            SelectorEntry::Other {
                ts_type: TsType::SECLABEL,
                protocol: 0,
                data: b"system_u:object_r:x:s0",
            },
            SelectorEntry::Other {
                ts_type: TsType::FC_ADDR_RANGE,
                protocol: 0,
                data: &[9; 12],
            },
            SelectorEntry::Other {
                ts_type: TsType(251),
                protocol: 99,
                data: &[],
            },
        ])
        .ts_r(&[ipv6_selector(), ipv4_selector()])
        .cp(
            CfgType::REPLY,
            &[
                ConfigAttribute {
                    kind: CfgAttributeType::INTERNAL_IP4_ADDRESS,
                    value: &[10, 9, 8, 7],
                },
                ConfigAttribute {
                    kind: CfgAttributeType::INTERNAL_IP6_DNS,
                    value: &[0xfe; 16],
                },
                ConfigAttribute {
                    kind: CfgAttributeType::INTERNAL_IP4_NBNS,
                    value: &[],
                },
                ConfigAttribute {
                    kind: CfgAttributeType(0x4567),
                    value: b"private",
                },
            ],
        )
        .eap(&[1, 42, 0, 9, 1, b'h', b'e', b'l', b'o'])
        .eap(&[3, 42, 0, 4])
        .raw(PayloadType(200), true, b"critical and private")
        .raw(PayloadType::GSA, false, &[]);
}

/// Every sample with its name.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let init = request(ExchangeType::IKE_SA_INIT, IkeSpi::ZERO, 0);
    let resume = request(ExchangeType::IKE_SESSION_RESUME, IkeSpi::ZERO, 0);
    let answer = Header {
        responder_spi: SPI_R,
        flags: Flags {
            response: true,
            ..Flags::default()
        },
        ..request(ExchangeType::IKE_SA_INIT, SPI_R, 0)
    };
    let resume_answer = Header {
        exchange: ExchangeType::IKE_SESSION_RESUME,
        responder_spi: IkeSpi::ZERO,
        ..answer
    };
    let auth = request(ExchangeType::IKE_AUTH, SPI_R, 1);
    let informational = request(ExchangeType::INFORMATIONAL, SPI_R, 2);
    vec![
        (
            "ike_sa_init_request",
            message(&init, |w| {
                w.sa(&ike_proposals())
                    .ke(KeId::CURVE25519, &PUBLIC)
                    .nonce(&NONCE)
                    .notify(&Notify::new(NotifyType::NAT_DETECTION_SOURCE_IP, &[1; 20]))
                    .notify(&Notify::new(
                        NotifyType::NAT_DETECTION_DESTINATION_IP,
                        &[2; 20],
                    ))
                    .notify(&Notify::new(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED, &[]))
                    .notify(&Notify::new(
                        NotifyType::SIGNATURE_HASH_ALGORITHMS,
                        &[0, 2, 0, 3, 0, 4, 0, 5],
                    ));
            }),
        ),
        (
            "cookie",
            message(&answer, |w| {
                _ = w.notify(&Notify::new(NotifyType::COOKIE, b"biscuit"))
            }),
        ),
        (
            "cookie_and_puzzle",
            message(&answer, |w| {
                let (prf, difficulty) = (PrfId::HMAC_SHA2_256, 18);
                let puzzle = PuzzleNotify { prf, difficulty }.to_bytes();
                w.notify(&Notify::new(NotifyType::COOKIE, b"biscuit"))
                    .notify(&Notify::new(NotifyType::PUZZLE, &puzzle));
            }),
        ),
        (
            "puzzle_solution",
            message(&init, |w| {
                // The keys of the first example of RFC 8019, 4.4.
                w.notify(&Notify::new(NotifyType::COOKIE, b"biscuit"))
                    .ps(b"\x06\x18\x40\x07\x33\x24\x0c\x8a\x2a\x0d\x94\xc8")
                    .sa(&ike_proposals())
                    .ke(KeId::CURVE25519, &PUBLIC)
                    .nonce(&NONCE);
            }),
        ),
        (
            "set_window_size",
            message(&informational, |w| {
                _ = w.notify(&Notify::new(NotifyType::SET_WINDOW_SIZE, &[0, 0, 0, 8]))
            }),
        ),
        (
            "session_resumption",
            message(&resume, |w| {
                w.notify(&Notify::new(NotifyType::COOKIE, b"biscuit"))
                    .nonce(&NONCE)
                    .notify(&Notify::new(NotifyType::TICKET_OPAQUE, b"a ticket"));
            }),
        ),
        (
            "ticket_refused",
            message(&resume_answer, |w| {
                _ = w.notify(&Notify::new(NotifyType::TICKET_NACK, &[]))
            }),
        ),
        (
            "tickets",
            message(&informational, |w| {
                let ticket = TicketNotify {
                    lifetime: 3600,
                    ticket: b"a ticket",
                };
                w.notify(&Notify::new(NotifyType::TICKET_REQUEST, &[]))
                    .notify(&Notify::new(NotifyType::TICKET_ACK, &[]))
                    .notify(&Notify::new(
                        NotifyType::TICKET_LT_OPAQUE,
                        &ticket.to_bytes(),
                    ));
            }),
        ),
        (
            "invalid_ke_payload",
            message(&answer, |w| {
                _ = w.notify(&Notify::new(NotifyType::INVALID_KE_PAYLOAD, &[0, 19]))
            }),
        ),
        ("everything", message(&init, everything)),
        ("empty", message(&informational, |_| {})),
        (
            "delete_ike",
            message(&informational, |w| _ = w.delete_ike()),
        ),
        (
            "encrypted",
            [
                message(&auth, |w| _ = w.sk(PayloadType::ID_I, CIPHERTEXT.len())),
                CIPHERTEXT.to_vec(),
            ]
            .concat(),
        ),
        (
            "encrypted_after_clear",
            [
                message(&auth, |w| {
                    w.notify(&Notify::new(NotifyType::COOKIE2, &[3; 8]))
                        .sk(PayloadType::NONE, CIPHERTEXT.len());
                }),
                CIPHERTEXT.to_vec(),
            ]
            .concat(),
        ),
        (
            "first_fragment",
            [
                message(&auth, |w| {
                    _ = w.skf(PayloadType::ID_I, 1, 3, CIPHERTEXT.len())
                }),
                CIPHERTEXT.to_vec(),
            ]
            .concat(),
        ),
        (
            "last_fragment",
            [
                message(&auth, |w| {
                    _ = w.skf(PayloadType::ID_I, 3, 3, CIPHERTEXT.len())
                }),
                CIPHERTEXT.to_vec(),
            ]
            .concat(),
        ),
    ]
}
