//! Security labels (RFC 9478): a traffic selector of its own type beside those of addresses, in TSi and in TSr.
//!
//! Labels are opaque, and an end has one or none: they have to be equal, octet by octet.

use cygnet_ipsec::SecurityLabel;
use cygnet_wire::{PayloadWriter, SelectorEntry, TrafficSelector, TsPayload, TsType};

use crate::reason::ChildFailure;

/// Selectors of addresses beside a label: a TS payload has an octet for the number of all of them.
const MAX_RANGES: usize = u8::MAX as usize - 1;

/// Writes TSi and TSr, with the label in both if there is one.
pub(crate) fn write_selectors(
    label: Option<&SecurityLabel>,
    ts_i: &[TrafficSelector],
    ts_r: &[TrafficSelector],
    payloads: &mut PayloadWriter<'_>,
) {
    let Some(label) = label else {
        payloads.ts_i(ts_i).ts_r(ts_r);
        return;
    };
    let [ts_i, ts_r] = [ts_i, ts_r].map(|ranges| {
        let ranges = ranges.iter().take(MAX_RANGES).copied();
        let mut entries: Vec<_> = ranges.map(SelectorEntry::Ip).collect();
        entries.push(SelectorEntry::Other {
            ts_type: TsType::SECLABEL,
            protocol: 0,
            data: label.as_bytes(),
        });
        entries
    });
    payloads.ts_i_entries(&ts_i).ts_r_entries(&ts_r);
}

/// The labels in one TS payload.
fn labels<'a>(ts: &TsPayload<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    ts.entries().filter_map(|entry| match entry {
        SelectorEntry::Other { ts_type, data, .. } => (ts_type == TsType::SECLABEL).then_some(data),
        SelectorEntry::Ip(_) => None,
    })
}

/// Whether the peer, who initiates, asks for what we have: our label among its labels, in both payloads, or no label at all.
/// A payload with a label of no octets is worth nothing (RFC 9478 §2.2): it is no wildcard.
pub(crate) fn is_asked_for(
    own: Option<&SecurityLabel>,
    ts_i: Option<&TsPayload<'_>>,
    ts_r: Option<&TsPayload<'_>>,
) -> bool {
    [ts_i, ts_r].into_iter().flatten().all(|ts| match own {
        Some(own) => {
            labels(ts).all(|label| !label.is_empty())
                && labels(ts).any(|label| label == own.as_bytes())
        }
        None => labels(ts).next().is_none(),
    })
}

/// Whether the peer, who responds, has agreed to what we asked for, and to nothing else.
pub(crate) fn is_agreed(
    own: Option<&SecurityLabel>,
    ts_i: &TsPayload<'_>,
    ts_r: &TsPayload<'_>,
) -> bool {
    [ts_i, ts_r]
        .into_iter()
        .all(|ts| labels(ts).eq(own.map(SecurityLabel::as_bytes)))
}

/// Why there is no child SA with what a peer's payload has.
pub(crate) fn unacceptable(
    own: Option<&SecurityLabel>,
    ts: Option<&TsPayload<'_>>,
) -> ChildFailure {
    ChildFailure::LabelUnacceptable {
        ours: own.cloned(),
        theirs: describe(ts),
    }
}

/// What a peer's payload has of labels, for people; not more than the first octets of the first few.
fn describe(ts: Option<&TsPayload<'_>>) -> String {
    const SHOWN: usize = 3;
    const OCTETS: usize = 64;
    let shown = ts.into_iter().flat_map(labels).take(SHOWN).map(|label| {
        match SecurityLabel::new(label.get(..OCTETS).unwrap_or(label)) {
            Ok(label) => label.to_string(),
            Err(_) => "an empty one".to_owned(),
        }
    });
    let shown: Vec<String> = shown.collect();
    match shown.is_empty() {
        true => "none".to_owned(),
        false => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TS payload by hand (RFC 7296 §3.13, RFC 9478 §2.1): one range, and selectors of type 10 with these labels.
    fn payload(labels: &[&[u8]]) -> Vec<u8> {
        let mut octets = vec![1 + labels.len() as u8, 0, 0, 0];
        octets.extend([7, 0, 0, 16, 0, 0, 0xff, 0xff, 10, 1, 0, 0, 10, 1, 0, 255]);
        for label in labels {
            octets.extend([10, 0, 0, 4 + label.len() as u8]);
            octets.extend(*label);
        }
        octets
    }

    fn label(octets: &[u8]) -> SecurityLabel {
        SecurityLabel::new(octets).unwrap()
    }

    #[test]
    fn a_responder_takes_its_own_label_out_of_several() {
        let own = label(b"one\0");
        let asked = |own: Option<&SecurityLabel>, i: &[&[u8]], r: &[&[u8]]| {
            let (i, r) = (payload(i), payload(r));
            let (i, r) = (TsPayload::parse(&i).unwrap(), TsPayload::parse(&r).unwrap());
            is_asked_for(own, Some(&i), Some(&r))
        };
        let (one, two): (&[u8], &[u8]) = (b"one\0", b"two\0");
        assert!(asked(Some(&own), &[one], &[one]));
        assert!(asked(Some(&own), &[two, one], &[one, two]));
        assert!(asked(None, &[], &[]));
        for (i, r) in [
            (&[][..], &[][..]),
            (&[one], &[]),
            (&[], &[one]),
            (&[two], &[two]),
            (&[one], &[two]),
            // Longer, shorter, and of no octets.
            (&[b"one"], &[b"one"]),
            (&[b"one\0\0"], &[b"one\0\0"]),
            (&[b""], &[b""]),
            (&[b"", one], &[one]),
        ] {
            assert!(!asked(Some(&own), i, r), "{i:?} {r:?}");
        }
        for labels in [&[one][..], &[b""]] {
            assert!(!asked(None, labels, &[]));
            assert!(!asked(None, &[], labels));
        }
    }

    #[test]
    fn an_initiator_wants_its_own_label_back_and_no_other() {
        let own = label(b"one\0");
        let agreed = |own: Option<&SecurityLabel>, i: &[&[u8]], r: &[&[u8]]| {
            let (i, r) = (payload(i), payload(r));
            let (i, r) = (TsPayload::parse(&i).unwrap(), TsPayload::parse(&r).unwrap());
            is_agreed(own, &i, &r)
        };
        let (one, two): (&[u8], &[u8]) = (b"one\0", b"two\0");
        assert!(agreed(Some(&own), &[one], &[one]));
        assert!(agreed(None, &[], &[]));
        assert!(!agreed(None, &[one], &[one]));
        for (i, r) in [
            (&[][..], &[][..]),
            (&[one], &[]),
            (&[one], &[two]),
            (&[one, two], &[one]),
            (&[one], &[one, one]),
        ] {
            assert!(!agreed(Some(&own), i, r), "{i:?} {r:?}");
        }
    }

    #[test]
    fn what_a_peer_sends_is_shown_in_part() {
        let long = [b'x'; 200];
        let octets = payload(&[&long, b"", b"\n", b"four"]);
        let shown = describe(Some(&TsPayload::parse(&octets).unwrap()));
        assert_eq!(shown, format!("{}, an empty one, \\n", "x".repeat(64)));
        assert_eq!(describe(None), "none");
    }
}
