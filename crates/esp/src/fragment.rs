//! Fragments of IPv4 packets (RFC 791 §3.2), for packets whose header nobody else may write: those of AH.

use crate::ip::{self, IPV4_HEADER_LEN, IpHeader, Version, v4};

/// What an offset counts in, octets.
const UNIT: usize = 8;

/// The fragments of an IPv4 packet, in order: the header of each and its part of the payload.
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    header: [u8; IPV4_HEADER_LEN],
    rest: &'a [u8],
    /// Octets of payload before `rest`.
    offset: usize,
    /// Octets of payload of every fragment but the last, a multiple of [`UNIT`].
    step: usize,
}

impl<'a> Fragments<'a> {
    /// Divides a packet for a path of this MTU, whether it says DF or not. `None` if it is no IPv4 packet without options that
    /// is whole yet, or the MTU leaves no room for any payload.
    pub fn new(packet: &'a [u8], mtu: usize) -> Option<Self> {
        let parsed = IpHeader::parse(packet).ok()?;
        let (header, rest) = packet
            .get(..parsed.total_len)?
            .split_first_chunk::<IPV4_HEADER_LEN>()?;
        let step = mtu.checked_sub(IPV4_HEADER_LEN)? / UNIT * UNIT;
        let divisible = parsed.version == Version::V4
            && parsed.header_len == IPV4_HEADER_LEN
            && !parsed.fragment
            && step > 0;
        divisible.then_some(Self {
            header: *header,
            rest,
            offset: 0,
            step,
        })
    }
}

impl<'a> Iterator for Fragments<'a> {
    type Item = ([u8; IPV4_HEADER_LEN], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (payload, rest) = self.rest.split_at(self.step.min(self.rest.len()));
        // Of 65535 octets at most: both fields have room.
        let units = (self.offset / UNIT) as u16;
        let more = if rest.is_empty() {
            0
        } else {
            v4::MORE_FRAGMENTS
        };
        let mut header = self.header;
        header[v4::TOTAL_LEN]
            .copy_from_slice(&((IPV4_HEADER_LEN + payload.len()) as u16).to_be_bytes());
        header[v4::FRAGMENT].copy_from_slice(&(units | more).to_be_bytes());
        header[v4::CHECKSUM].fill(0);
        let checksum = ip::fold(ip::sum(&header));
        header[v4::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
        self.offset += payload.len();
        self.rest = rest;
        Some((header, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: usize, flags: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0x12, 0x34, flags, 0, 64, 51, 0, 0];
        packet.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        packet.extend((0..payload).map(|n| n as u8));
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet
    }

    #[test]
    fn fragments_make_up_the_packet() {
        // DF is no property of a fragment that somebody has made all the same.
        let whole = packet(1000, 0x40);
        let fragments: Vec<_> = Fragments::new(&whole, 500).unwrap().collect();
        let fields: Vec<_> = fragments
            .iter()
            .map(|(header, payload)| {
                assert_eq!(ip::fold(ip::sum(header)), 0, "the checksum");
                assert_eq!(header[4..6], [0x12, 0x34], "the identification");
                let total = u16::from_be_bytes([header[2], header[3]]);
                assert_eq!(usize::from(total), 20 + payload.len());
                (total, u16::from_be_bytes([header[6], header[7]]))
            })
            .collect();
        assert_eq!(fields, [(500, 0x2000), (500, 0x2000 | 60), (60, 120)]);
        let payload: Vec<u8> = fragments
            .iter()
            .flat_map(|(_, part)| *part)
            .copied()
            .collect();
        assert_eq!(payload, whole[20..]);
    }

    #[test]
    fn what_cannot_be_divided_is_not() {
        assert!(Fragments::new(&packet(100, 0), 27).is_none());
        assert!(
            Fragments::new(&packet(100, 0x20), 60).is_none(),
            "a fragment"
        );
        let mut options = packet(100, 0);
        options[0] = 0x46;
        assert!(Fragments::new(&options, 60).is_none());
        assert!(Fragments::new(&[0x60; 60], 60).is_none());
        assert!(Fragments::new(&[], 60).is_none());
    }
}
