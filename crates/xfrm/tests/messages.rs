//! Every message to bytes and back, cut everywhere, and compared with another implementation.

mod common;

use common::samples::{everything, new_sa, policy};
use cygnet_xfrm::{
    Address, AlgorithmName, Attribute, Attributes, Body, DecodeError, Family, KeyBytes, Message,
    MessageType, Mode, SaInfo, Template,
};

/// Fixed parts have the sizes of 64-bit kernels (the structures of `linux/xfrm.h`).
#[test]
fn fixed_parts_have_the_kernels_sizes() {
    for (message, size) in everything() {
        let plain = Message::new(message.body.clone());
        assert_eq!(plain.encode().len(), size, "{:?}", message.kind());
    }
}

#[test]
fn every_message_comes_back_as_it_was() {
    for (message, _) in everything() {
        let bytes = message.encode();
        let again = Message::decode(message.kind(), message.is_dump(), &bytes).unwrap();
        assert_eq!(again, message);
    }
}

#[test]
fn no_truncation_of_any_message_panics() {
    for (message, size) in everything() {
        let bytes = message.encode();
        for len in 0..bytes.len() {
            match Message::decode(message.kind(), message.is_dump(), &bytes[..len]) {
                // Cut between attributes, or in their padding: the first ones remain.
                Ok(Message {
                    body: Body::Unknown { .. },
                    ..
                }) => {}
                Ok(short) => {
                    assert_eq!(short.body, message.body);
                    assert!(message.attributes.0.starts_with(&short.attributes.0));
                }
                Err(DecodeError::Truncated { .. } | DecodeError::BadLength { .. }) => {}
            }
            // A fixed part of three bytes or of one is padded to four.
            if len + 3 < size && !matches!(message.body, Body::Unknown { .. }) {
                assert!(
                    Message::decode(message.kind(), message.is_dump(), &bytes[..len]).is_err(),
                    "{:?} cut to {len}",
                    message.kind()
                );
            }
        }
    }
}

#[test]
fn unknown_types_and_attributes_survive() {
    let unknown = Attribute::Unknown {
        kind: 0x8999,
        bytes: vec![1, 2, 3],
    };
    let (mut message, _) = new_sa();
    message.attributes.push(unknown);
    let again = Message::decode(MessageType::NEWSA, false, &message.encode()).unwrap();
    assert_eq!(again, message);

    let bytes = [9, 9, 9];
    let future = Message::decode(MessageType(0x77), false, &bytes).unwrap();
    assert_eq!(future.kind(), MessageType(0x77));
    assert_eq!(future.encode().as_slice(), bytes);
}

/// A known attribute that is too short for what we know is kept as bytes, and the rest is read.
#[test]
fn a_short_attribute_does_not_spoil_the_message() {
    let message = Message {
        body: Body::NewSa(SaInfo::default()),
        attributes: Attributes(vec![
            Attribute::Unknown {
                kind: 21,
                bytes: vec![1, 2, 3, 4],
            },
            Attribute::IfId(7),
        ]),
    };
    let again = Message::decode(MessageType::NEWSA, false, &message.encode()).unwrap();
    assert_eq!(again.attributes.mark(), None);
    assert_eq!(again.attributes.if_id(), Some(7));
    assert_eq!(again, message);
}

/// Selectors are compared bytewise by the kernel: what we do not set must be zero.
#[test]
fn padding_is_zero() {
    let all_ones = Template {
        id: cygnet_xfrm::Id {
            daddr: Address([0xff; 16]),
            spi: u32::MAX,
            proto: cygnet_xfrm::SaProtocol(0xff),
        },
        family: Family(0xffff),
        saddr: Address([0xff; 16]),
        reqid: u32::MAX,
        mode: Mode(0xff),
        share: 0xff,
        optional: true,
        aalgos: u32::MAX,
        ealgos: u32::MAX,
        calgos: u32::MAX,
    };
    let message = Message {
        body: Body::FlushPolicy,
        attributes: Attributes(vec![Attribute::Templates(vec![all_ones])]),
    };
    let bytes = message.encode();
    let template = &bytes[4..68];
    let zeros: Vec<usize> = (0..64).filter(|i| template[*i] == 0).collect();
    assert_eq!(zeros, [21, 22, 23, 26, 27, 51]);
}

#[test]
fn keys_are_not_shown() {
    let (message, _) = new_sa();
    let text = format!("{message:?}");
    assert!(text.contains("KeyBytes(36 bytes)"), "{text}");
    assert!(!text.contains("170, 170"), "key bytes are 0xaa: {text}");
}

#[test]
fn fuzz_decode() {
    bolero::check!()
        .with_iterations(20_000)
        .for_each(|input: &[u8]| {
            let Some(([kind, dump], bytes)) = input.split_first_chunk() else {
                return;
            };
            // Mostly real types.
            let kind = MessageType(0x10 + u16::from(*kind) % 0x1c);
            if let Ok(message) = Message::decode(kind, dump & 1 != 0, bytes) {
                // What was understood is written so that it is understood in the same way.
                let again = Message::decode(kind, dump & 1 != 0, &message.encode()).unwrap();
                assert_eq!(again, message);
            }
        });
}

/// Valid messages with some octets changed reach deeper than arbitrary ones.
#[test]
fn fuzz_mutated() {
    let samples = everything();
    bolero::check!()
        .with_iterations(20_000)
        .with_type::<(u8, Vec<(u16, u8)>)>()
        .for_each(|(which, changes)| {
            let (message, _) = &samples[usize::from(*which) % samples.len()];
            let mut bytes = message.encode();
            for (at, value) in changes.iter().take(16) {
                if let Some(byte) = bytes.get_mut(usize::from(*at)) {
                    *byte = *value;
                }
            }
            let _ = Message::decode(message.kind(), message.is_dump(), &bytes);
        });
}

mod oracle {
    //! The rust-netlink organisation's codec reads what we write and writes what we read.

    use netlink_packet_core::{Emitable, NetlinkDeserializable, NetlinkHeader};
    use netlink_packet_xfrm as other;
    use other::{XfrmAttrs, XfrmMessage};

    use super::*;

    fn theirs(message: &Message) -> XfrmMessage {
        let mut header = NetlinkHeader::default();
        header.message_type = message.kind().0;
        XfrmMessage::deserialize(&header, &message.encode())
            .unwrap_or_else(|e| panic!("{:?}: {e}", message.kind()))
    }

    /// All messages that both know: read by them, written by them, the same bytes.
    #[test]
    fn they_read_and_write_the_same_bytes() {
        let mut compared = 0;
        for (message, _) in everything() {
            // Dump requests, which it takes for single ones; messages with what only one of us
            // knows; and an attribute that it fixes to one entry.
            let skip = message.is_dump()
                || matches!(
                    message.body,
                    Body::Unknown { .. }
                        | Body::FlushPolicy
                        | Body::Migrate(_)
                        | Body::MigrateState(_)
                )
                || matches!(message.body, Body::NewSpdInfo(_) | Body::NewSadInfo(_));
            if skip {
                continue;
            }
            let parsed = theirs(&message);
            let mut bytes = vec![0; parsed.buffer_len()];
            parsed.emit(&mut bytes);
            let ours = message.encode();
            // It knows no attributes of EXPIRE, and does not pad fixed parts of one or three bytes.
            if matches!(message.body, Body::Expire(_)) {
                assert_eq!(bytes, &ours[..232]);
            } else if ours.len() > 4 {
                assert_eq!(bytes, ours.as_slice(), "{:?}", message.kind());
            }
            compared += 1;
        }
        assert!(compared >= 20, "{compared}");
    }

    #[test]
    fn they_see_the_fields_that_we_set() {
        let (message, _) = new_sa();
        let XfrmMessage::AddSa(sa) = theirs(&message) else {
            panic!("not an SA");
        };
        assert_eq!(sa.user_sa_info.id.spi, 0xc0ff_ee01);
        assert_eq!(sa.user_sa_info.reqid, 17);
        assert_eq!(sa.user_sa_info.replay_window, 32);
        assert_eq!(sa.user_sa_info.lifetime_cfg.hard_byte_limit, u64::MAX);
        assert_eq!(sa.user_sa_info.selector.prefixlen_d, 16);
        let aead = sa.nlas.iter().find_map(|a| match a {
            XfrmAttrs::EncryptionAlgAead(aead) => Some(aead),
            _ => None,
        });
        let aead = aead.unwrap();
        assert_eq!((aead.alg_key_len, aead.alg_icv_len), (288, 128));
        assert_eq!(aead.alg_key, [0xaa; 36]);
        let encap = sa.nlas.iter().find_map(|a| match a {
            XfrmAttrs::EncapsulationTemplate(encap) => Some(encap),
            _ => None,
        });
        assert_eq!(encap.unwrap().encap_dport, 4501);
        assert!(sa.nlas.iter().any(|a| matches!(a, XfrmAttrs::IfId(9))));

        let (message, _) = policy();
        let XfrmMessage::AddPolicy(policy) = theirs(&message) else {
            panic!("not a policy");
        };
        assert_eq!(policy.user_policy_info.priority, 4711);
        let templates = policy.nlas.iter().find_map(|a| match a {
            XfrmAttrs::Template(templates) => Some(templates),
            _ => None,
        });
        assert_eq!(templates.unwrap().len(), 2);
        assert_eq!(templates.unwrap()[1].reqid, 18);
    }
}

#[test]
fn names_and_keys_are_checked_where_they_are_made() {
    assert!(AlgorithmName::new("rfc4106(gcm(aes))").is_some());
    assert_eq!(KeyBytes::new(&[1; 20]).bits(), 160);
}
