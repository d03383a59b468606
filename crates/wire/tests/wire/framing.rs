//! What shares port 4500.

use cygnet_wire::{EspHeader, IkeSpi, NON_ESP_MARKER, Spi, UdpDatagram, classify_natt};

#[test]
fn port_4500_carries_three_things() {
    assert_eq!(classify_natt(&[0xff]), UdpDatagram::Keepalive);
    assert_eq!(
        classify_natt(&[0, 0, 0, 0, 9, 9]),
        UdpDatagram::Ike(&[9, 9])
    );
    assert_eq!(classify_natt(&NON_ESP_MARKER), UdpDatagram::Ike(&[]));
    let packet = [0xc0, 0xff, 0xee, 0x01, 0, 0, 1, 2, 3, 4];
    let esp = UdpDatagram::Esp {
        spi: Spi(0xc0ff_ee01),
        seq: 258,
        bytes: &packet,
    };
    assert_eq!(classify_natt(&packet), esp);
}

#[test]
fn what_is_none_of_them_is_malformed() {
    for datagram in [
        &[][..],
        &[0],
        &[0, 0, 0],
        &[0xfe],
        &[0xff, 0xff],
        &[1, 2, 3, 4, 5, 6, 7],
    ] {
        assert_eq!(
            classify_natt(datagram),
            UdpDatagram::Malformed,
            "{datagram:?}"
        );
    }
}

#[test]
fn an_spi_that_begins_like_a_keepalive_is_esp() {
    let packet = [0xff, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(
        classify_natt(&packet),
        UdpDatagram::Esp {
            spi: Spi(0xff00_0000),
            seq: 1,
            bytes: &packet
        }
    );
}

#[test]
fn the_header_of_esp_is_eight_octets() {
    let header = EspHeader {
        spi: Spi(0x0102_0304),
        seq: 0x0506_0708,
    };
    assert_eq!(header.to_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
    let packet = [&header.to_bytes()[..], b"rest"].concat();
    assert_eq!(EspHeader::parse(&packet), Ok((header, &b"rest"[..])));
    assert!(EspHeader::parse(&packet[..7]).is_err());
}

#[test]
fn spis_are_shown_with_all_their_digits() {
    assert_eq!(IkeSpi(0xbeef).to_string(), "000000000000beef");
    assert_eq!(format!("{:?}", Spi(0xbeef)), "Spi(0000beef)");
    assert_eq!(Spi::from_slice(&[0, 0, 0xbe, 0xef]), Some(Spi(0xbeef)));
    assert_eq!(Spi::from_slice(&[0; 8]), None);
    assert_eq!(IkeSpi::from_slice(&[0; 8]), Some(IkeSpi::ZERO));
}
