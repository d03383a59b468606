//! IKE and ESP in a stream.

use cygnet_wire::{
    MAX_STREAM_MESSAGE, NON_ESP_MARKER, STREAM_PREFIX, Spi, StreamError, StreamReader, UdpDatagram,
    classify_natt, stream_length,
};

/// All messages of a stream that comes in these pieces.
pub fn read(reader: &mut StreamReader, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, StreamError> {
    let mut messages = Vec::new();
    for mut input in pieces.iter().copied() {
        while let Some(message) = reader.next(&mut input)? {
            messages.push(message.to_vec());
        }
        assert!(input.is_empty(), "what is no message is kept");
    }
    Ok(messages)
}

/// By hand, from the figures of RFC 9329: prefix, an IKE message behind its marker, an ESP packet, a keepalive.
const BY_HAND: &[u8] = &[
    0x49, 0x4b, 0x45, 0x54, 0x43, 0x50, // Figure 3
    0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0xaa, 0xbb, // Figure 1: length 8, marker, message
    0x00, 0x0c, 0xc0, 0xff, 0xee, 0x01, 0x00, 0x00, 0x00, 0x07, 0x55, 0x66, // Figure 2
    0x00, 0x03, 0xff, // §6.6
];

//= rfc9329#4
//= type=test
//# Each stream of bytes used for IKE and IPsec encapsulation MUST begin
//# with a fixed sequence of 6 bytes as a magic value, containing the
//# characters "IKETCP" as ASCII values.
#[test]
fn a_stream_by_hand_is_read_whatever_its_pieces() {
    //= rfc9329#3
    //= type=test
    //# The value in this field
    //# is equal to the length of the original message plus the length of the
    //# field itself, in octets.
    let expected = [
        &[0, 0, 0, 0, 0xaa, 0xbb][..],
        &[0xc0, 0xff, 0xee, 0x01, 0, 0, 0, 7, 0x55, 0x66],
        &[0xff],
    ];
    for size in 1..=BY_HAND.len() {
        let pieces: Vec<&[u8]> = BY_HAND.chunks(size).collect();
        let mut reader = StreamReader::accepted();
        assert_eq!(read(&mut reader, &pieces).unwrap(), expected, "{size}");
        assert!(reader.has_begun());
    }
    assert_eq!(classify_natt(expected[0]), UdpDatagram::Ike(&[0xaa, 0xbb]));
    let UdpDatagram::Esp { spi, seq, .. } = classify_natt(expected[1]) else {
        panic!("an ESP packet")
    };
    assert_eq!((spi, seq), (Spi(0xc0ff_ee01), 7));
    assert_eq!(classify_natt(expected[2]), UdpDatagram::Keepalive);
}

//= rfc9329#6.1
//= type=test
//# The TCP Responder MUST NOT accept any messages for the existing IKE
//# session on a new incoming connection, unless that connection begins
//# with the stream prefix.
#[test]
fn nothing_is_read_before_the_whole_prefix() {
    //= rfc9329#6.1
    //= type=test
    //# The TCP Responder
    //# MUST wait for the entire stream prefix to be received on the stream
    //# before trying to parse out any IKE or ESP messages.
    let mut reader = StreamReader::accepted();
    assert_eq!(read(&mut reader, &[b"IKE", b"TC"]), Ok(vec![]));
    assert!(!reader.has_begun());
    assert_eq!(
        read(&mut reader, &[b"P", &[0, 3, 9]]),
        Ok(vec![vec![9]]),
        "and then all"
    );
    for wrong in [
        &b"GET / HTTP/1.1"[..],
        b"IKETCX",
        b"\x16\x03\x01",
        b"iketcp",
    ] {
        let mut reader = StreamReader::accepted();
        assert_eq!(read(&mut reader, &[wrong]), Err(StreamError::Prefix));
        let prefix = &STREAM_PREFIX[..];
        assert_eq!(
            read(&mut reader, &[prefix]),
            Err(StreamError::Prefix),
            "there is no way back"
        );
    }
    // Only the originator sends it: towards it the octets would be a length.
    let mut reader = StreamReader::originated();
    assert_eq!(read(&mut reader, &[&STREAM_PREFIX]), Ok(vec![]));
}

#[test]
fn a_length_that_does_not_count_itself_ends_the_stream() {
    //= rfc9329#3.1
    //= type=test
    //# The value in the
    //# Length field MUST NOT be 0 or 1.  The receiver MUST treat these
    //# values as fatal errors and MUST close the TCP connection.
    for (octets, length) in [([0, 0], 0), ([0, 1], 1)] {
        for pieces in [vec![&octets[..]], vec![&octets[..1], &octets[1..]]] {
            let mut reader = StreamReader::originated();
            let failed = Err(StreamError::Length(length));
            assert_eq!(read(&mut reader, &pieces), failed);
            assert_eq!(read(&mut reader, &[&[0, 3, 1]]), failed);
        }
    }
}

#[test]
fn empty_messages_are_passed_over() {
    //= rfc9329#3
    //= type=test
    //# Empty messages (where the
    //# Length field equals 2) MUST be silently ignored by receiver.
    let octets = [0, 2, 0, 3, 7, 0, 2, 0, 2];
    for size in 1..=octets.len() {
        let pieces: Vec<&[u8]> = octets.chunks(size).collect();
        let mut reader = StreamReader::originated();
        assert_eq!(read(&mut reader, &pieces), Ok(vec![vec![7]]), "{size}");
    }
}

#[test]
fn a_length_has_bounds() {
    assert_eq!(stream_length(0), None);
    assert_eq!(stream_length(1), Some([0, 3]));
    assert_eq!(stream_length(MAX_STREAM_MESSAGE), Some([0xff, 0xff]));
    assert_eq!(stream_length(MAX_STREAM_MESSAGE + 1), None);
    assert_eq!(stream_length(usize::MAX), None);
    let mut long = vec![0xff, 0xff];
    long.extend(vec![5; MAX_STREAM_MESSAGE]);
    let pieces: Vec<&[u8]> = long.chunks(1000).collect();
    let messages = read(&mut StreamReader::originated(), &pieces).unwrap();
    assert_eq!(messages, [vec![5; MAX_STREAM_MESSAGE]]);
}

#[test]
fn an_ike_message_behind_its_marker_has_six_octets_more() {
    let message = [1; 28];
    let length = stream_length(NON_ESP_MARKER.len() + message.len());
    assert_eq!(length, Some([0, 34]));
}
