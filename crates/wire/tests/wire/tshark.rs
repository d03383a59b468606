//! What Wireshark reads in the messages that this crate writes.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use cygnet_wire::{
    Message, Notify, Payload, ProtocolId, SelectorEntry, TransformType, write_message,
};

use crate::{captures, samples};

/// A classic pcap file of IPv4 UDP datagrams to port 500.
fn pcap(messages: &[Vec<u8>]) -> Vec<u8> {
    const LINKTYPE_RAW: u32 = 101;
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 0x0002_0004, 0, 0, 65_535, LINKTYPE_RAW] {
        file.extend(u32::to_be_bytes(word));
    }
    for (second, message) in messages.iter().enumerate() {
        let udp_len = u16::try_from(8 + message.len()).expect("one datagram");
        let total = udp_len + 20;
        for word in [
            u32::try_from(second).expect("few"),
            0,
            u32::from(total),
            u32::from(total),
        ] {
            file.extend(word.to_be_bytes());
        }
        file.extend([0x45, 0]);
        file.extend(total.to_be_bytes());
        file.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        file.extend(
            [
                500_u16.to_be_bytes(),
                500_u16.to_be_bytes(),
                udp_len.to_be_bytes(),
                [0, 0],
            ]
            .concat(),
        );
        file.extend_from_slice(message);
    }
    file
}

/// Every field of every packet, as (name, shown value) in the order of the packet; `None` if there is no tshark.
fn dissect(messages: &[Vec<u8>]) -> Option<Vec<Vec<(String, String)>>> {
    let spawned = Command::new("tshark")
        .args(["-r", "-", "-T", "pdml", "-n"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut tshark = match spawned {
        Ok(tshark) => tshark,
        Err(error) => {
            assert!(
                std::env::var_os("CYGNET_REQUIRE_ALL").is_none(),
                "tshark is required: {error}"
            );
            println!("skipped: tshark is not here ({error})");
            return None;
        }
    };
    let file = pcap(messages);
    let mut stdin = tshark.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || stdin.write_all(&file));
    let mut pdml = String::new();
    tshark
        .stdout
        .take()
        .expect("a pipe")
        .read_to_string(&mut pdml)
        .expect("tshark's output");
    writer
        .join()
        .expect("the writer ends")
        .expect("tshark reads it all");
    assert!(tshark.wait().expect("tshark ends").success());
    Some(pdml.split("<packet>").skip(1).map(fields).collect())
}

/// The fields of one packet of PDML, which has one element a line.
fn fields(packet: &str) -> Vec<(String, String)> {
    let attribute = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    packet
        .lines()
        .filter_map(|line| {
            Some((
                attribute(line, "name")?,
                attribute(line, "show").unwrap_or_default(),
            ))
        })
        .collect()
}

/// The fields compared. Those that Wireshark derives from others, or reads out of what this crate leaves opaque, are not.
const COMPARED: &[&str] = &[
    "isakmp.ispi",
    "isakmp.rspi",
    "isakmp.version",
    "isakmp.exchangetype",
    "isakmp.flag_i",
    "isakmp.flag_v",
    "isakmp.flag_r",
    "isakmp.messageid",
    "isakmp.length",
    "isakmp.typepayload",
    "isakmp.criticalpayload",
    "isakmp.prop.number",
    "isakmp.prop.protoid",
    "isakmp.prop.transforms",
    "isakmp.spisize",
    "isakmp.spi",
    "isakmp.tf.type",
    "isakmp.tf.id",
    "isakmp.tf.id.encr",
    "isakmp.tf.id.prf",
    "isakmp.tf.id.integ",
    "isakmp.tf.id.dh",
    "isakmp.tf.id.esn",
    "isakmp.ike2.attr.type",
    "isakmp.ike2.attr.key_length",
    "isakmp.key_exchange.dh_group",
    "isakmp.key_exchange.data",
    "isakmp.id.type",
    "isakmp.cert.encoding",
    "isakmp.certreq.type",
    "isakmp.ike.certreq.authority",
    "isakmp.auth.method",
    "isakmp.auth.data",
    "isakmp.nonce",
    "isakmp.notify.protoid",
    "isakmp.notify.msgtype",
    "isakmp.notify.data",
    "isakmp.delete.protoid",
    "isakmp.spinum",
    "isakmp.delete.spi",
    "isakmp.vid_bytes",
    "isakmp.ts.number",
    "isakmp.ts.type",
    "isakmp.ts.protoid",
    "isakmp.ts.start_port",
    "isakmp.ts.end_port",
    "isakmp.ts.start_ipv4",
    "isakmp.ts.end_ipv4",
    "isakmp.ts.start_ipv6",
    "isakmp.ts.end_ipv6",
    "isakmp.cfg.type",
    "isakmp.cfg.attr.type",
    "isakmp.cfg.attr.length",
    "isakmp.cfg.attr.value",
    "eap.code",
    "eap.id",
    "eap.len",
    "eap.type",
    "isakmp.frag.number",
    "isakmp.frag.total",
];

/// What this crate reads, under the names that Wireshark gives it.
struct Reading(Vec<(String, String)>);

impl Reading {
    fn of(message: &Message<'_>) -> Vec<(String, String)> {
        let mut reading = Self(Vec::new());
        let header = message.header();
        reading.bytes("isakmp.ispi", &header.initiator_spi.to_bytes());
        reading.bytes("isakmp.rspi", &header.responder_spi.to_bytes());
        reading.push("isakmp.version", "0x20");
        reading.push("isakmp.exchangetype", header.exchange.0);
        reading.push("isakmp.flag_i", u8::from(header.flags.initiator));
        reading.push("isakmp.flag_v", u8::from(header.flags.version));
        reading.push("isakmp.flag_r", u8::from(header.flags.response));
        reading.push("isakmp.messageid", format!("0x{:08x}", header.message_id));
        reading.push("isakmp.length", header.length);
        for (payload, raw) in message.payloads().zip(message.chain().raw_payloads()) {
            let (payload, raw) = (payload.expect("well-formed"), raw.expect("well-formed"));
            reading.push("isakmp.typepayload", payload.payload_type().0);
            reading.push("isakmp.criticalpayload", u8::from(raw.critical));
            reading.payload(&payload);
        }
        reading.0
    }

    fn push(&mut self, name: &str, value: impl ToString) {
        self.0.push((name.to_owned(), value.to_string()));
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.push(
            name,
            bytes
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect::<Vec<_>>()
                .join(":"),
        );
    }

    fn payload(&mut self, payload: &Payload<'_>) {
        match payload {
            Payload::Sa(sa) => {
                for proposal in sa.proposals() {
                    self.push("isakmp.typepayload", 2);
                    self.push("isakmp.prop.number", proposal.number);
                    self.push("isakmp.prop.protoid", proposal.protocol.0);
                    self.push("isakmp.spisize", proposal.spi.len());
                    self.push("isakmp.prop.transforms", proposal.transforms().count());
                    if !proposal.spi.is_empty() {
                        self.bytes("isakmp.spi", proposal.spi);
                    }
                    for transform in proposal.transforms() {
                        self.push("isakmp.typepayload", 3);
                        self.push("isakmp.tf.type", transform.kind.0);
                        let id = match transform.kind {
                            TransformType::ENCR => "isakmp.tf.id.encr",
                            TransformType::PRF => "isakmp.tf.id.prf",
                            TransformType::INTEG => "isakmp.tf.id.integ",
                            TransformType::KE => "isakmp.tf.id.dh",
                            TransformType::ESN => "isakmp.tf.id.esn",
                            _ => "isakmp.tf.id",
                        };
                        self.push(id, transform.id);
                        for attribute in transform.attributes() {
                            self.push("isakmp.ike2.attr.type", attribute.kind.0);
                        }
                        if let Some(bits) = transform.key_length() {
                            self.push("isakmp.ike2.attr.key_length", bits);
                        }
                    }
                }
            }
            Payload::Ke(ke) => {
                self.push("isakmp.key_exchange.dh_group", ke.method.0);
                self.bytes("isakmp.key_exchange.data", ke.data);
            }
            Payload::IdI(id) | Payload::IdR(id) => self.push("isakmp.id.type", id.id_type.0),
            Payload::Cert(cert) => self.push("isakmp.cert.encoding", cert.encoding.0),
            Payload::CertReq(request) => {
                self.push("isakmp.certreq.type", request.encoding.0);
                request
                    .key_hashes()
                    .for_each(|hash| self.bytes("isakmp.ike.certreq.authority", hash));
            }
            Payload::Auth(auth) => {
                self.push("isakmp.auth.method", auth.method.0);
                self.bytes("isakmp.auth.data", auth.data);
            }
            Payload::Nonce(nonce) => self.bytes("isakmp.nonce", nonce.data()),
            Payload::Notify(notify) => self.notify(notify),
            Payload::Delete(delete) => {
                self.push("isakmp.delete.protoid", delete.protocol.0);
                self.push("isakmp.spisize", delete.spi_size());
                self.push("isakmp.spinum", delete.spis().count());
                assert!(delete.protocol != ProtocolId::IKE || delete.spi_size() == 0);
                delete
                    .spis()
                    .for_each(|spi| self.bytes("isakmp.delete.spi", spi));
            }
            Payload::VendorId(id) => self.bytes("isakmp.vid_bytes", id),
            Payload::TsI(ts) | Payload::TsR(ts) => {
                self.push("isakmp.ts.number", ts.entries().count());
                ts.entries().for_each(|entry| self.selector(&entry));
            }
            Payload::Cp(cp) => {
                self.push("isakmp.cfg.type", cp.cfg_type.0);
                for attribute in cp.attributes() {
                    self.push("isakmp.cfg.attr.type", attribute.kind.0);
                    self.push("isakmp.cfg.attr.length", attribute.value.len());
                    if !attribute.value.is_empty() {
                        self.bytes("isakmp.cfg.attr.value", attribute.value);
                    }
                }
            }
            Payload::Eap(eap) => {
                self.push("eap.code", eap.code.0);
                self.push("eap.id", eap.identifier);
                self.push("eap.len", eap.message().len());
                if let Some(kind) = eap.eap_type {
                    self.push("eap.type", kind.0);
                }
            }
            Payload::Skf(skf) => {
                self.push("isakmp.frag.number", skf.number);
                self.push("isakmp.frag.total", skf.total);
            }
            _ => {}
        }
    }

    fn notify(&mut self, notify: &Notify<'_>) {
        self.push("isakmp.notify.protoid", notify.protocol.0);
        self.push("isakmp.spisize", notify.spi.len());
        self.push("isakmp.notify.msgtype", notify.kind.0);
        if !notify.spi.is_empty() {
            self.bytes("isakmp.spi", notify.spi);
        }
        self.bytes("isakmp.notify.data", notify.data);
    }

    fn selector(&mut self, entry: &SelectorEntry<'_>) {
        match entry {
            SelectorEntry::Ip(selector) => {
                self.push("isakmp.ts.type", selector.ts_type().0);
                self.push("isakmp.ts.protoid", selector.protocol);
                self.push("isakmp.ts.start_port", selector.start_port);
                self.push("isakmp.ts.end_port", selector.end_port);
                let family = if selector.start.is_ipv4() {
                    "ipv4"
                } else {
                    "ipv6"
                };
                self.push(&format!("isakmp.ts.start_{family}"), selector.start);
                self.push(&format!("isakmp.ts.end_{family}"), selector.end);
            }
            SelectorEntry::Other { ts_type, .. } => self.push("isakmp.ts.type", ts_type.0),
        }
    }
}

/// Compares our reading of messages with Wireshark's.
fn compare(messages: &[Vec<u8>]) {
    let Some(packets) = dissect(messages) else {
        return;
    };
    assert_eq!(packets.len(), messages.len());
    for (bytes, packet) in messages.iter().zip(packets) {
        let malformed = packet
            .iter()
            .find(|(name, _)| name.starts_with("_ws.malformed"));
        assert_eq!(malformed, None, "{packet:?}");
        let theirs: Vec<_> = packet
            .into_iter()
            .filter(|(name, _)| COMPARED.contains(&name.as_str()))
            .collect();
        let ours = Reading::of(&Message::parse(bytes).expect("a message"));
        for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(ours, theirs, "field {at}");
        }
        assert_eq!(ours.len(), theirs.len());
    }
}

#[test]
fn wireshark_reads_what_was_written() {
    compare(
        &samples::all()
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn wireshark_and_this_crate_read_strongswan_alike() {
    // The plaintexts too, as the clear part of messages that never were.
    let captured = captures::strongswan();
    let messages = captured.iter().map(|item| {
        let message = item.message();
        let mut bytes = Vec::new();
        write_message(&mut bytes, message.header(), |w| {
            item.payloads()
                .iter()
                .for_each(|payload| _ = w.any(payload))
        })
        .expect("what was read can be written");
        bytes
    });
    compare(&messages.collect::<Vec<_>>());
}
