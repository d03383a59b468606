//! Looks at everything that a received datagram offers. Used on hostile input: it must only ever return.

use std::fmt::Write;

use cygnet_wire::{
    AttributeValue, EspHeader, Header, Message, Payload, PayloadChain, PayloadType, PayloadWriter,
    SelectorEntry, UdpDatagram, classify_natt, write_message,
};

/// Swallows what is formatted into it, so that formatting runs and costs nothing.
struct Sink;

impl Write for Sink {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        Ok(())
    }
}

macro_rules! show {
    ($($value:expr),*) => {{ $( write!(Sink, "{:?}", $value).expect("a sink takes all"); )* }};
}

/// A datagram in every reading that a receiver could give it.
pub fn datagram(bytes: &[u8]) {
    match classify_natt(bytes) {
        UdpDatagram::Ike(message) => assert_eq!(message.len() + 4, bytes.len()),
        UdpDatagram::Esp {
            spi, bytes: packet, ..
        } => {
            assert!(spi.0 != 0 && packet == bytes);
        }
        UdpDatagram::Keepalive => assert_eq!(bytes, [0xff]),
        UdpDatagram::Malformed => assert!(bytes.len() < EspHeader::LEN),
    }
    if let Ok((header, rest)) = EspHeader::parse(bytes) {
        assert_eq!([&header.to_bytes(), rest].concat(), bytes);
    }
    if let Ok(header) = Header::parse(bytes) {
        show!(header);
    }
    match Message::parse(bytes) {
        Ok(message) => walk_message(&message),
        Err(error) => {
            write!(Sink, "{error}").expect("a sink takes all");
            assert!(error.offset <= bytes.len());
        }
    }
    // The same octets as the plaintext of an Encrypted payload.
    if let [first, plaintext @ ..] = bytes {
        chain(
            PayloadChain::new(PayloadType(*first), plaintext),
            plaintext.len(),
        );
    }
}

fn walk_message(message: &Message<'_>) {
    show!(message.header(), message);
    assert_eq!(message.chain().check(), Ok(()), "checked when parsed");
    chain(message.chain(), message.as_bytes().len());
    rewrite(message);
}

fn chain(chain: PayloadChain<'_>, len: usize) {
    show!(chain.unsupported_critical(), chain.check());
    let mut failed = false;
    for result in chain {
        assert!(!failed, "the iterator ends after an error");
        match result {
            Ok(item) => payload(&item),
            Err(error) => {
                write!(Sink, "{error}").expect("a sink takes all");
                assert!(error.offset <= len, "{error:?} in {len} octets");
                failed = true;
            }
        }
    }
}

fn payload(payload: &Payload<'_>) {
    show!(payload, payload.payload_type());
    match payload {
        Payload::Sa(sa) => {
            let owned = sa.to_proposals();
            assert_eq!(owned.len(), sa.proposals().count());
            show!(owned);
            for proposal in sa.proposals() {
                show!(proposal.esp_spi(), proposal.ike_spi());
                for transform in proposal.transforms() {
                    write!(Sink, "{}", transform.to_owned()).expect("a sink takes all");
                    show!(transform.key_length());
                    for attribute in transform.attributes() {
                        assert!(attribute.kind.0 < 0x8000);
                        if let AttributeValue::Long(value) = attribute.value {
                            show!(value);
                        }
                    }
                }
            }
        }
        Payload::IdI(id) | Payload::IdR(id) => assert_eq!(id.body().len(), id.data.len() + 4),
        Payload::CertReq(request) => show!(request.key_hashes().count()),
        Payload::Auth(auth) => show!(auth.digital_signature()),
        Payload::Nonce(nonce) => assert!((16..=256).contains(&nonce.data().len())),
        Payload::Notify(notify) => show!(
            notify.esp_spi(),
            notify.wanted_key_exchange(),
            notify.unsupported_payload(),
            notify.hash_algorithms().count()
        ),
        Payload::Delete(delete) => show!(
            delete.spis().count(),
            delete.esp_spis().count(),
            delete.spi_size()
        ),
        Payload::TsI(ts) | Payload::TsR(ts) => {
            for entry in ts.entries() {
                if let SelectorEntry::Ip(selector) = entry {
                    write!(Sink, "{selector}").expect("a sink takes all");
                    assert_eq!(selector.start.is_ipv4(), selector.end.is_ipv4());
                }
            }
            show!(ts.selectors().count());
        }
        Payload::Cp(cp) => show!(cp.attributes().count()),
        Payload::Eap(eap) => assert!(eap.message().len() >= 4 + eap.data.len()),
        Payload::Sk(sk) => assert_eq!(sk.aad_len(), sk.prefix.len()),
        Payload::Skf(skf) => assert!(skf.number >= 1 && skf.number <= skf.total),
        _ => {}
    }
}

/// Writes again what was received. Reserved bits aside that must give the same message, so a second pass must give
/// the same octets as the first.
fn rewrite(message: &Message<'_>) {
    let Ok(payloads) = message.payloads().collect::<Result<Vec<_>, _>>() else {
        return;
    };
    let mut first = Vec::new();
    let write = |w: &mut PayloadWriter<'_>| payloads.iter().for_each(|payload| _ = w.any(payload));
    write_message(&mut first, message.header(), write).expect("what was read can be written");
    assert_eq!(first.len(), message.as_bytes().len());

    let again = Message::parse(&first).expect("what was written can be read");
    let payloads = again
        .payloads()
        .collect::<Result<Vec<_>, _>>()
        .expect("every payload too");
    let mut second = Vec::new();
    let write = |w: &mut PayloadWriter<'_>| payloads.iter().for_each(|payload| _ = w.any(payload));
    write_message(&mut second, again.header(), write).expect("what was read can be written");
    assert_eq!(first, second);
}
