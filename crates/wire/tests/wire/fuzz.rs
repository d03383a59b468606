//! Random input. `cargo test` runs each harness for about a second, after the corpus in `__fuzz__`;
//! `BOLERO_RANDOM_TEST_TIME_MS` makes it longer.

use std::path::Path;

use bolero::{TypeGenerator, check};
use cygnet_wire::{
    Attribute, AttributeType, AttributeValue, AuthMethodId, CertEncoding, CfgAttributeType,
    CfgType, ConfigAttribute, ExchangeType, Flags, Header, IdType, IkeSpi, KeId, Message, Notify,
    NotifyType, Payload, PayloadType, PayloadWriter, Proposal, ProtocolId, SelectorEntry, Spi,
    TrafficSelector, Transform, TransformType, TsType, limits::MAX_ATTRIBUTES, write_message,
};

use crate::{captures, samples, walk};

/// Our samples, strongSwan's messages, and strongSwan's plaintexts as clear messages.
fn valid_messages() -> Vec<Vec<u8>> {
    let captured = captures::strongswan();
    let theirs = captured.iter().flat_map(|item| {
        let message = item.message();
        let mut clear = Vec::new();
        write_message(&mut clear, message.header(), |w| {
            item.payloads().iter().for_each(|p| _ = w.any(p))
        })
        .expect("what was read can be written");
        [message.as_bytes().to_vec(), clear]
    });
    samples::all()
        .into_iter()
        .map(|(_, bytes)| bytes)
        .chain(theirs)
        .collect()
}

/// The harnesses that take octets as they are start from valid messages.
#[test]
fn the_corpora_hold_every_sample() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/__fuzz__");
    for (name, bytes) in samples::all() {
        let payloads = [&[bytes[16].wrapping_sub(33)], &bytes[28..]].concat();
        for (harness, input) in [
            ("fuzz__arbitrary_datagrams", bytes),
            ("fuzz__arbitrary_payloads", payloads),
        ] {
            let file = corpora.join(harness).join("corpus").join(name);
            if std::env::var_os("CYGNET_UPDATE_CORPUS").is_some() {
                std::fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
                std::fs::write(&file, &input).expect("a file");
            }
            let held = std::fs::read(&file).unwrap_or_default();
            assert_eq!(
                held,
                input,
                "{} (CYGNET_UPDATE_CORPUS=1 writes it)",
                file.display()
            );
        }
    }
}

#[test]
fn fuzz_arbitrary_datagrams() {
    check!().for_each(|input: &[u8]| {
        walk::datagram(input);
    });
}

/// Arbitrary octets hardly ever pass the header, so here they are only what follows one.
#[test]
fn fuzz_arbitrary_payloads() {
    check!().for_each(|input: &[u8]| {
        let [first, rest @ ..] = input else { return };
        let mut bytes = samples::request(ExchangeType::IKE_AUTH, samples::SPI_R, 1)
            .to_bytes()
            .to_vec();
        // Into the range of assigned types, mostly.
        bytes[16] = if *first < 192 {
            33 + first % 22
        } else {
            *first
        };
        bytes.extend_from_slice(rest);
        let length = u32::try_from(bytes.len()).expect("short");
        bytes[24..28].copy_from_slice(&length.to_be_bytes());
        walk::datagram(&bytes);
    });
}

/// Arbitrary bodies behind a generic header that is right.
#[test]
fn fuzz_arbitrary_bodies() {
    check!()
        .with_type::<(u8, bool, Vec<u8>)>()
        .for_each(|(payload_type, critical, body)| {
            let payload_type = PayloadType(33 + payload_type % 22);
            let mut bytes = Vec::new();
            let header = samples::request(ExchangeType::IKE_AUTH, samples::SPI_R, 1);
            let written = write_message(&mut bytes, &header, |w| {
                _ = w.raw(payload_type, *critical, body)
            });
            if written.is_ok() {
                walk::datagram(&bytes);
            }
        });
}

#[derive(Debug, TypeGenerator)]
enum Mutation {
    Set { at: u16, value: u8 },
    Flip { at: u16, bit: u8 },
    Add { at: u16, value: i8 },
    Insert { at: u16, octets: Vec<u8> },
    Remove { at: u16, count: u8 },
    Repeat { at: u16, count: u8 },
    Truncate { len: u16 },
    FixLength,
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let place = |at: u16| usize::from(at) % bytes.len().max(1);
    match mutation {
        Mutation::FixLength => {
            let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
            if let Some(field) = bytes.get_mut(24..28) {
                field.copy_from_slice(&length);
            }
        }
        Mutation::Truncate { len } => bytes.truncate(place(*len)),
        Mutation::Insert { at, octets } => {
            let at = place(*at);
            bytes.splice(at..at, octets.iter().copied());
        }
        Mutation::Remove { at, count } => {
            let at = place(*at);
            let end = (at + usize::from(*count)).min(bytes.len());
            bytes.drain(at..end);
        }
        Mutation::Repeat { at, count } => {
            let at = place(*at);
            let end = (at + usize::from(*count)).min(bytes.len());
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        Mutation::Set { at, .. } | Mutation::Flip { at, .. } | Mutation::Add { at, .. } => {
            let at = place(*at);
            if let Some(octet) = bytes.get_mut(at) {
                *octet = match mutation {
                    Mutation::Set { value, .. } => *value,
                    Mutation::Flip { bit, .. } => *octet ^ (1 << (bit % 8)),
                    Mutation::Add { value, .. } => octet.wrapping_add_signed(*value),
                    _ => *octet,
                };
            }
        }
    }
}

#[test]
fn fuzz_mutated_messages() {
    let valid = valid_messages();
    check!()
        .with_type::<(u8, Vec<Mutation>)>()
        .for_each(|(choice, mutations)| {
            let mut bytes = valid[usize::from(*choice) % valid.len()].clone();
            for mutation in mutations {
                mutate(&mut bytes, mutation);
            }
            walk::datagram(&bytes);
            // Once more with a length that lets the payloads be reached.
            mutate(&mut bytes, &Mutation::FixLength);
            walk::datagram(&bytes);
        });
}

#[derive(Debug, TypeGenerator)]
struct Proposed {
    number: u8,
    protocol: u8,
    spi: Vec<u8>,
    transforms: Vec<Transformed>,
}

#[derive(Debug, TypeGenerator)]
struct Transformed {
    kind: u8,
    id: u16,
    attributes: Vec<(u16, Result<u16, Vec<u8>>)>,
}

#[derive(Debug, TypeGenerator)]
enum Selected {
    V4 {
        protocol: u8,
        ports: (u16, u16),
        start: [u8; 4],
        end: [u8; 4],
    },
    V6 {
        protocol: u8,
        ports: (u16, u16),
        start: [u8; 16],
        end: [u8; 16],
    },
    Other {
        ts_type: u8,
        protocol: u8,
        data: Vec<u8>,
    },
}

/// One call of the writer.
#[derive(Debug, TypeGenerator)]
enum Call {
    Sa(Vec<Proposed>),
    Ke(u16, Vec<u8>),
    IdI(u8, Vec<u8>),
    IdR(u8, Vec<u8>),
    Cert(u8, Vec<u8>),
    CertReq(u8, Vec<u8>),
    Auth(u8, Vec<u8>),
    Nonce([u8; 16], Vec<u8>),
    Notify {
        protocol: u8,
        spi: Vec<u8>,
        kind: u16,
        data: Vec<u8>,
    },
    Delete(bool, Vec<u32>),
    DeleteIke,
    VendorId(Vec<u8>),
    TsI(Vec<Selected>),
    TsR(Vec<Selected>),
    Cp(u8, Vec<(u16, Vec<u8>)>),
    Eap(u8, u8, u8, Vec<u8>),
    Raw(u8, bool, Vec<u8>),
}

#[derive(Debug, TypeGenerator)]
enum End {
    Clear,
    Sk(u8, Vec<u8>),
    Skf(u8, u16, u8, Vec<u8>),
}

#[derive(Debug, TypeGenerator)]
struct Written {
    spis: (u64, u64),
    exchange: u8,
    flags: (bool, bool),
    message_id: u32,
    marker: bool,
    calls: Vec<Call>,
    end: End,
}

fn proposals(proposed: &[Proposed]) -> Vec<Proposal> {
    let attribute = |(kind, value): &(u16, Result<u16, Vec<u8>>)| Attribute {
        kind: AttributeType(kind & 0x7fff),
        value: match value {
            Ok(short) => AttributeValue::Short(*short),
            Err(long) => AttributeValue::Long(long.clone()),
        },
    };
    let transform = |transform: &Transformed| Transform {
        kind: TransformType(transform.kind),
        id: transform.id,
        attributes: transform
            .attributes
            .iter()
            .map(attribute)
            .take(MAX_ATTRIBUTES)
            .collect(),
    };
    proposed
        .iter()
        .map(|proposal| Proposal {
            number: proposal.number,
            protocol: ProtocolId(proposal.protocol),
            spi: proposal.spi.clone(),
            transforms: proposal.transforms.iter().map(transform).collect(),
        })
        .collect()
}

fn selectors(selected: &[Selected]) -> Vec<SelectorEntry<'_>> {
    let ip = |protocol: u8, ports: (u16, u16), start, end| {
        SelectorEntry::Ip(TrafficSelector {
            protocol,
            start_port: ports.0,
            end_port: ports.1,
            start,
            end,
        })
    };
    selected
        .iter()
        .map(|selector| match selector {
            Selected::V4 {
                protocol,
                ports,
                start,
                end,
            } => ip(*protocol, *ports, (*start).into(), (*end).into()),
            Selected::V6 {
                protocol,
                ports,
                start,
                end,
            } => ip(*protocol, *ports, (*start).into(), (*end).into()),
            Selected::Other {
                ts_type,
                protocol,
                data,
            } => {
                // Below 7 and above 8: those two are what the others are.
                let ts_type = if matches!(ts_type, 7 | 8) {
                    9
                } else {
                    *ts_type
                };
                SelectorEntry::Other {
                    ts_type: TsType(ts_type),
                    protocol: *protocol,
                    data,
                }
            }
        })
        .collect()
}

fn config(attributes: &[(u16, Vec<u8>)]) -> Vec<ConfigAttribute<'_>> {
    attributes
        .iter()
        .map(|(kind, value)| ConfigAttribute {
            kind: CfgAttributeType(kind & 0x7fff),
            value,
        })
        .collect()
}

fn eap(code: u8, identifier: u8, method: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 5).expect("short").to_be_bytes();
    [&[code, identifier, length[0], length[1], method], data].concat()
}

/// A fragment number and total that go together.
fn fragment(number: u16, more: u8) -> (u16, u16) {
    let number = number.max(1);
    (number, number.saturating_add(more.into()))
}

/// A payload type that can be written raw.
fn raw_type(kind: u8) -> PayloadType {
    match PayloadType(kind) {
        PayloadType::NONE | PayloadType::SK | PayloadType::SKF => PayloadType(200),
        other => other,
    }
}

fn call(w: &mut PayloadWriter<'_>, call: &Call) {
    match call {
        Call::Sa(proposed) => w.sa(&proposals(proposed)),
        Call::Ke(method, data) => w.ke(KeId(*method), data),
        Call::IdI(kind, data) => w.id_i(IdType(*kind), data),
        Call::IdR(kind, data) => w.id_r(IdType(*kind), data),
        Call::Cert(encoding, data) => w.cert(CertEncoding(*encoding), data),
        Call::CertReq(encoding, data) => w.certreq(CertEncoding(*encoding), data),
        Call::Auth(method, data) => w.auth(AuthMethodId(*method), data),
        Call::Nonce(head, tail) => w.nonce(&[&head[..], tail].concat()),
        Call::Notify {
            protocol,
            spi,
            kind,
            data,
        } => w.notify(&Notify {
            protocol: ProtocolId(*protocol),
            spi,
            kind: NotifyType(*kind),
            data,
        }),
        Call::Delete(esp, spis) => {
            let spis: Vec<Spi> = spis.iter().copied().map(Spi).collect();
            w.delete(
                if *esp {
                    ProtocolId::ESP
                } else {
                    ProtocolId::AH
                },
                &spis,
            )
        }
        Call::DeleteIke => w.delete_ike(),
        Call::VendorId(data) => w.vendor_id(data),
        Call::TsI(selected) => w.ts_i_entries(&selectors(selected)),
        Call::TsR(selected) => w.ts_r_entries(&selectors(selected)),
        Call::Cp(kind, attributes) => w.cp(CfgType(*kind), &config(attributes)),
        Call::Eap(code, identifier, method, data) => w.eap(&eap(*code, *identifier, *method, data)),
        Call::Raw(kind, critical, data) => w.raw(raw_type(*kind), *critical, data),
    };
}

/// Whether `payload`, read back, is what `call` wrote.
fn agrees(call: &Call, payload: &Payload<'_>) -> bool {
    match (call, payload) {
        (Call::Sa(proposed), Payload::Sa(sa)) => sa.to_proposals() == proposals(proposed),
        (Call::Ke(method, data), Payload::Ke(ke)) => ke.method.0 == *method && ke.data == data,
        (Call::IdI(kind, data), Payload::IdI(id)) | (Call::IdR(kind, data), Payload::IdR(id)) => {
            id.id_type.0 == *kind && id.data == data
        }
        (Call::Cert(encoding, data), Payload::Cert(cert)) => {
            cert.encoding.0 == *encoding && cert.data == data
        }
        (Call::CertReq(encoding, data), Payload::CertReq(request)) => {
            request.encoding.0 == *encoding && request.authorities == data
        }
        (Call::Auth(method, data), Payload::Auth(auth)) => {
            auth.method.0 == *method && auth.data == data
        }
        (Call::Nonce(head, tail), Payload::Nonce(nonce)) => {
            nonce.data() == [&head[..], tail].concat()
        }
        (
            Call::Notify {
                protocol,
                spi,
                kind,
                data,
            },
            Payload::Notify(notify),
        ) => {
            *notify
                == Notify {
                    protocol: ProtocolId(*protocol),
                    spi,
                    kind: NotifyType(*kind),
                    data,
                }
        }
        (Call::Delete(esp, spis), Payload::Delete(delete)) => {
            delete.protocol
                == if *esp {
                    ProtocolId::ESP
                } else {
                    ProtocolId::AH
                }
                && delete.esp_spis().map(|spi| spi.0).eq(spis.iter().copied())
        }
        (Call::DeleteIke, Payload::Delete(delete)) => {
            delete.protocol == ProtocolId::IKE && delete.spis().next().is_none()
        }
        (Call::VendorId(data), Payload::VendorId(id)) => id == data,
        (Call::TsI(selected), Payload::TsI(ts)) | (Call::TsR(selected), Payload::TsR(ts)) => {
            ts.entries().eq(selectors(selected))
        }
        (Call::Cp(kind, attributes), Payload::Cp(cp)) => {
            cp.cfg_type.0 == *kind && cp.attributes().eq(config(attributes))
        }
        (Call::Eap(code, identifier, method, data), Payload::Eap(message)) => {
            message.message() == eap(*code, *identifier, *method, data)
        }
        (
            Call::Raw(kind, critical, data),
            Payload::Unknown {
                payload_type,
                critical: bit,
                body,
            },
        ) => *payload_type == raw_type(*kind) && critical == bit && body == data,
        // A raw payload of a type that is known, and luckily well-formed.
        (Call::Raw(kind, ..), payload) => payload.payload_type() == raw_type(*kind),
        _ => false,
    }
}

#[test]
fn fuzz_written_messages_read_back() {
    check!().with_type::<Written>().for_each(|written| {
        let header = Header::new(
            IkeSpi(written.spis.0),
            IkeSpi(written.spis.1),
            ExchangeType(written.exchange),
            Flags {
                initiator: written.flags.0,
                response: written.flags.1,
                version: false,
            },
            written.message_id,
        );
        let mut out = if written.marker {
            vec![0; 4]
        } else {
            Vec::new()
        };
        let start = out.len();
        let result = write_message(&mut out, &header, |w| {
            written.calls.iter().for_each(|item| call(w, item));
            match &written.end {
                End::Clear => {}
                End::Sk(first, body) => _ = w.sk(PayloadType(*first), body.len()),
                End::Skf(first, number, more, body) => {
                    let (number, total) = fragment(*number, *more);
                    _ = w.skf(PayloadType(*first), number, total, body.len())
                }
            }
        });
        if result.is_err() {
            assert_eq!(out, vec![0; start], "an error leaves the buffer as it was");
            return;
        }
        if let End::Sk(_, body) | End::Skf(_, _, _, body) = &written.end {
            out.extend_from_slice(body);
        }
        let message = Message::parse(&out[start..]).expect("what was written can be read");
        let mut expected = header;
        expected.next_payload = message.header().next_payload;
        expected.length = u32::try_from(out.len() - start).expect("short");
        assert_eq!(*message.header(), expected);

        let mut payloads = message.payloads();
        for item in &written.calls {
            match payloads.next().expect("as many as were written") {
                Ok(payload) => assert!(agrees(item, &payload), "{item:?} became {payload:?}"),
                // Only a raw body can be malformed, and nothing behind it is read.
                Err(_) => {
                    assert!(matches!(item, Call::Raw(..)), "{item:?}");
                    return;
                }
            }
        }
        let last = payloads
            .next()
            .map(|payload| payload.expect("the writer's own"));
        match (&written.end, last) {
            (End::Clear, None) => {}
            (End::Sk(first, body), Some(Payload::Sk(sk))) => {
                assert_eq!((sk.first_inner.0, sk.body), (*first, &body[..]));
                assert_eq!(sk.prefix.len() + body.len(), out.len() - start);
            }
            (End::Skf(_, number, more, body), Some(Payload::Skf(skf))) => {
                assert_eq!((skf.number, skf.total), fragment(*number, *more));
                assert_eq!(skf.body, body);
            }
            (end, last) => panic!("{end:?} became {last:?}"),
        }
    });
}

/// However a stream is cut into pieces, the same messages come out of it, or the same error at its end.
#[test]
fn fuzz_streams() {
    let with_prefix = |octets: &[u8]| [&cygnet_wire::STREAM_PREFIX[..], octets].concat();
    check!()
        .with_type::<(Vec<u8>, Vec<u8>, bool)>()
        .for_each(|(octets, cuts, prefixed)| {
            let octets = if *prefixed {
                with_prefix(octets)
            } else {
                octets.clone()
            };
            let gather = |pieces: &[&[u8]]| {
                let mut reader = match prefixed {
                    true => cygnet_wire::StreamReader::accepted(),
                    false => cygnet_wire::StreamReader::originated(),
                };
                let mut messages = Vec::new();
                for mut input in pieces.iter().copied() {
                    loop {
                        match reader.next(&mut input) {
                            Ok(Some(message)) => {
                                assert!(!message.is_empty());
                                messages.push(message.to_vec());
                            }
                            Ok(None) => break,
                            Err(error) => return (messages, Some(error)),
                        }
                    }
                    assert!(input.is_empty());
                }
                (messages, None)
            };
            let mut pieces = Vec::new();
            let mut rest = &octets[..];
            for cut in cuts {
                let (piece, later) = rest.split_at(usize::from(*cut).min(rest.len()));
                pieces.push(piece);
                rest = later;
            }
            pieces.push(rest);
            let (messages, error) = gather(&[&octets]);
            let taken: usize = messages.iter().map(Vec::len).sum();
            assert!(taken <= octets.len());
            assert_eq!(gather(&pieces), (messages, error));
        });
}
