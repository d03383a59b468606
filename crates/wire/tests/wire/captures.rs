//! Messages that other implementations wrote.
//!
//! Each is read completely, and everything that was read is written again: the octets must be those of the capture,
//! which shows that no field is lost or moved.

use cygnet_wire::{
    AuthMethodId, CfgAttributeType, CfgType, EapCode, EapType, EncrId, ExchangeType, IdType,
    IntegId, KeId, Message, NotifyType, Payload, PayloadChain, PayloadType, PayloadWriter, PrfId,
    ProtocolId, Transform, TransformType, UdpDatagram, classify_natt, write_message,
};

use crate::walk;

/// A UDP payload and, if it was encrypted, the type of its first inner payload and the plaintext.
pub struct Captured {
    datagram: Vec<u8>,
    inner: Option<(PayloadType, Vec<u8>)>,
}

impl Captured {
    pub fn message(&self) -> Message<'_> {
        let bytes = match classify_natt(&self.datagram) {
            UdpDatagram::Ike(bytes) => bytes,
            // Came to port 500, where there is no marker and the initiator's SPI looks like that of ESP.
            _ => &self.datagram,
        };
        Message::parse(bytes).expect("a message")
    }

    /// The payloads of the message, or the inner ones if it is encrypted.
    pub fn payloads(&self) -> Vec<Payload<'_>> {
        match &self.inner {
            Some((first, plaintext)) => PayloadChain::new(*first, plaintext)
                .payloads()
                .map(|p| p.expect("well-formed"))
                .collect(),
            None => self
                .message()
                .payloads()
                .map(|p| p.expect("well-formed"))
                .collect(),
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

pub fn strongswan() -> Vec<Captured> {
    let mut captured: Vec<Captured> = Vec::new();
    for line in include_str!("captures/strongswan-5.9.8.txt").lines() {
        let mut words = line.split(' ');
        match words.next() {
            Some("message") => {
                captured.push(Captured {
                    datagram: unhex(words.next().expect("a datagram")),
                    inner: None,
                });
            }
            Some("inner") => {
                let first = words
                    .next()
                    .and_then(|word| word.parse().ok())
                    .expect("a payload type");
                let plaintext = unhex(words.next().unwrap_or_default());
                captured.last_mut().expect("a message before").inner =
                    Some((PayloadType(first), plaintext));
            }
            _ => {}
        }
    }
    captured
}

#[test]
fn strongswans_messages_are_read_and_written_octet_by_octet() {
    let captured = strongswan();
    assert!(captured.len() > 30);
    for item in &captured {
        walk::datagram(&item.datagram);
        let message = item.message();
        let payloads: Vec<_> = message
            .payloads()
            .map(|payload| payload.expect("well-formed"))
            .collect();
        let mut again = Vec::new();
        write_message(&mut again, message.header(), |w| {
            payloads.iter().for_each(|payload| _ = w.any(payload))
        })
        .expect("what was read can be written");
        assert_eq!(again, message.as_bytes());

        if let Some((first, plaintext)) = &item.inner {
            let mut again = Vec::new();
            let mut w = PayloadWriter::new(&mut again);
            for payload in PayloadChain::new(*first, plaintext) {
                w.any(&payload.expect("well-formed"));
            }
            assert_eq!(w.finish(), Ok(*first));
            assert_eq!(again, *plaintext);
        }
    }
}

#[test]
fn strongswans_first_message_offers_what_its_configuration_says() {
    let captured = strongswan();
    let first = &captured[0];
    assert_eq!(first.message().header().exchange, ExchangeType::IKE_SA_INIT);
    let payloads = first.payloads();
    let Payload::Sa(sa) = payloads[0] else {
        panic!("SA first")
    };
    let proposals = sa.to_proposals();
    // proposals=aes128-sha256-x25519,3des-sha1-modp1024
    assert_eq!(
        proposals[0].transforms,
        [
            Transform::encr(EncrId::AES_CBC, Some(128)),
            Transform::integ(IntegId::HMAC_SHA2_256_128),
            Transform::prf(PrfId::HMAC_SHA2_256),
            Transform::ke(KeId::CURVE25519),
        ]
    );
    assert_eq!(
        proposals[1].transforms,
        [
            Transform::encr(EncrId::TRIPLE_DES, None),
            Transform::integ(IntegId::HMAC_SHA1_96),
            Transform::prf(PrfId::HMAC_SHA1),
            Transform::ke(KeId::MODP_1024),
        ]
    );
    assert!(
        matches!(payloads[1], Payload::Ke(ke) if ke.method == KeId::CURVE25519 && ke.data.len() == 32)
    );
    assert!(matches!(payloads[2], Payload::Nonce(nonce) if nonce.data().len() == 32));
    let notified = |kind| {
        payloads
            .iter()
            .any(|payload| matches!(payload, Payload::Notify(n) if n.kind == kind))
    };
    assert!(
        notified(NotifyType::NAT_DETECTION_SOURCE_IP)
            && notified(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED)
    );
    assert!(
        notified(NotifyType::SIGNATURE_HASH_ALGORITHMS) && notified(NotifyType::REDIRECT_SUPPORTED)
    );
}

#[test]
fn strongswans_identities_selectors_and_methods_are_those_of_its_configuration() {
    let captured = strongswan();
    let payloads: Vec<_> = captured.iter().flat_map(Captured::payloads).collect();
    let any = |test: &dyn Fn(&Payload<'_>) -> bool| payloads.iter().any(test);

    // id=a.example.org, id=keyid:0x0011aabb, id=192.0.2.2, id=carol@example.org
    assert!(any(
        &|p| matches!(p, Payload::IdI(id) if id.id_type == IdType::FQDN && id.data == b"a.example.org")
    ));
    assert!(any(
        &|p| matches!(p, Payload::IdR(id) if id.id_type == IdType::IPV4_ADDR && id.data == [192, 0, 2, 2])
    ));
    assert!(any(
        &|p| matches!(p, Payload::IdI(id) if id.id_type == IdType::RFC822_ADDR && id.data == b"carol@example.org")
    ));
    // local_ts=10.1.0.0/16[tcp/1000-2000], remote_ts=10.2.0.0/16[tcp/http]
    let selectors = |payload: &Payload<'_>| match payload {
        Payload::TsI(ts) | Payload::TsR(ts) => ts
            .selectors()
            .map(|selector| selector.to_string())
            .collect(),
        _ => Vec::new(),
    };
    assert!(any(
        &|p| selectors(p) == ["10.1.0.0-10.1.255.255[6/1000-2000]"]
    ));
    assert!(any(&|p| selectors(p) == ["10.2.0.0-10.2.255.255[6/80]"]));
    assert!(any(&|p| selectors(p)
        == [
            "10.2.0.0-10.2.255.255",
            "2001:db8:2::-2001:db8:2:ffff:ffff:ffff:ffff:ffff"
        ]));
    assert!(any(
        &|p| matches!(p, Payload::Auth(auth) if auth.method == AuthMethodId::SHARED_KEY)
    ));
    let signature = payloads.iter().find_map(|payload| match payload {
        Payload::Auth(auth) if auth.method == AuthMethodId::DIGITAL_SIGNATURE => {
            auth.digital_signature().ok()
        }
        _ => None,
    });
    // ecdsa-with-SHA256
    assert_eq!(
        signature.expect("one").algorithm,
        unhex("300a06082a8648ce3d040302")
    );
}

#[test]
fn strongswans_configuration_and_eap_payloads_are_understood() {
    let captured = strongswan();
    let payloads: Vec<_> = captured.iter().flat_map(Captured::payloads).collect();
    let cp = payloads.iter().filter_map(|payload| match payload {
        Payload::Cp(cp) => Some((cp.cfg_type, cp.attributes().collect::<Vec<_>>())),
        _ => None,
    });
    let (_, reply) = cp
        .clone()
        .find(|(kind, _)| *kind == CfgType::REPLY)
        .expect("a reply");
    let value = |kind| {
        reply
            .iter()
            .find(|attribute| attribute.kind == kind)
            .expect("given")
            .value
    };
    assert_eq!(value(CfgAttributeType::INTERNAL_IP4_ADDRESS), [10, 9, 0, 1]);
    assert_eq!(value(CfgAttributeType::INTERNAL_IP4_DNS), [10, 2, 0, 1]);
    assert_eq!(
        value(CfgAttributeType::INTERNAL_IP6_ADDRESS),
        unhex("20010db800090000000000000000000140")
    );
    // UNITY_SPLIT_INCLUDE is for private use and stays a number.
    assert_eq!(
        value(CfgAttributeType(28_676)),
        [10, 2, 0, 0, 255, 255, 0, 0]
    );
    let (_, request) = cp
        .clone()
        .find(|(kind, _)| *kind == CfgType::REQUEST)
        .expect("a request");
    assert_eq!(request[0].kind, CfgAttributeType::INTERNAL_IP4_ADDRESS);

    let mut eap: Vec<_> = payloads
        .iter()
        .filter_map(|payload| match payload {
            Payload::Eap(eap) => Some((eap.code, eap.eap_type)),
            _ => None,
        })
        .collect();
    eap.sort();
    assert_eq!(
        eap,
        [
            (EapCode::REQUEST, Some(EapType::IDENTITY)),
            (EapCode::REQUEST, Some(EapType::MD5_CHALLENGE)),
            (EapCode::RESPONSE, Some(EapType::IDENTITY)),
            (EapCode::RESPONSE, Some(EapType::MD5_CHALLENGE)),
            (EapCode::SUCCESS, None),
        ]
    );
}

#[test]
fn strongswans_rekeying_names_the_spis() {
    let captured = strongswan();
    let exchanges = |exchange| {
        captured
            .iter()
            .filter(move |item| item.message().header().exchange == exchange)
    };
    let rekeyed = exchanges(ExchangeType::CREATE_CHILD_SA)
        .flat_map(Captured::payloads)
        .find_map(|payload| match payload {
            Payload::Notify(notify) if notify.kind == NotifyType::REKEY_SA => {
                Some((notify.protocol, notify.esp_spi()))
            }
            _ => None,
        });
    let (protocol, spi) = rekeyed.expect("a CHILD SA was rekeyed");
    assert_eq!(protocol, ProtocolId::ESP);
    let spi = spi.expect("four octets");
    // The same SPI is in the initiator's first proposal for ESP, and in its Delete after the rekeying.
    assert!(exchanges(ExchangeType::IKE_AUTH).flat_map(Captured::payloads).any(
        |payload| matches!(payload, Payload::Sa(sa) if sa.proposals().any(|proposal| proposal.esp_spi() == Some(spi)))
    ));
    assert!(exchanges(ExchangeType::INFORMATIONAL).flat_map(Captured::payloads).any(
        |payload| matches!(payload, Payload::Delete(delete) if delete.esp_spis().any(|deleted| deleted == spi))
    ));
    // The IKE SA was rekeyed too: a proposal with an SPI of eight octets, which is in the headers from then on.
    let new = exchanges(ExchangeType::CREATE_CHILD_SA)
        .flat_map(Captured::payloads)
        .find_map(|payload| match payload {
            Payload::Sa(sa) => sa.proposals().find_map(|p| {
                p.ike_spi()
                    .filter(|_| p.transforms().any(|t| t.kind == TransformType::KE))
            }),
            _ => None,
        });
    let new = new.expect("an IKE SPI");
    assert!(
        captured
            .iter()
            .any(|item| item.message().header().initiator_spi == new)
    );
}
