//! How many bytes ESP or AH adds, and what MTU that leaves (K4; RFC 4303 §2.4, RFC 4302 §2, RFC 3948 §2.1, RFC 9329 §3).

use cygnet_crypto::{Encryption, Integrity};
use cygnet_ipsec::{EncapKind, Mode, Protocol, Sa};

use crate::ip::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, UDP_HEADER_LEN};

/// Octets of SPI and sequence number.
pub(crate) const ESP_HEADER_LEN: usize = 8;
/// Octets of a TCP header with timestamps (RFC 7323 §3.2) and of the length in front of a message (RFC 9329 §3.2).
const TCP_FRONT_LEN: usize = 20 + 12 + 2;
/// Octets of pad length and next header.
pub(crate) const ESP_TRAILER_LEN: usize = 2;

/// The sizes of everything that ESP or AH puts around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overhead {
    /// IP header in front of ESP. Options and extension headers that transport mode keeps come on top of it.
    pub outer_ip: usize,
    /// IP header of the packet that does not travel inside ESP: in transport mode the outer one itself, in BEET mode one
    /// that the SA knows, in tunnel mode 0.
    pub left_out_ip: usize,
    /// UDP header: 8 or 0. In a stream, what one message needs that fills a segment of its own: TCP header, timestamps
    /// and length.
    pub encapsulation: usize,
    /// SPI and sequence number of ESP, or all of AH.
    pub header: usize,
    /// Initialization vector.
    pub iv: usize,
    /// Pad length and next header of ESP.
    pub trailer: usize,
    /// Integrity check value behind the packet: ESP's.
    pub icv: usize,
    /// The ciphertext is a multiple of this, a power of two and at least 4; 1 where nothing is encrypted.
    pub alignment: usize,
}

impl Overhead {
    /// What an SA of ESP adds, by the numbers of its algorithms: no keys are needed. `None` of other protocols, and where
    /// an algorithm is not known.
    pub fn of(sa: &Sa) -> Option<Self> {
        let number = sa
            .encryption
            .as_ref()
            .filter(|_| sa.id.protocol == Protocol::Esp)?
            .transform;
        // Those of one number differ in the length of their keys only.
        let encryption = Encryption::ALL
            .into_iter()
            .find(|e| e.iana_id() == number)?;
        let icv = match &sa.integrity {
            _ if encryption.is_aead() => encryption.icv_len(),
            Some(integrity) => Integrity::from_iana(integrity.transform)?.icv_len(),
            None => 0,
        };
        let alignment = encryption.block_len().max(4);
        Some(Self::of_esp(sa, encryption.iv_len(), icv, alignment))
    }

    pub(crate) fn of_esp(sa: &Sa, iv: usize, icv: usize, alignment: usize) -> Self {
        Self {
            header: ESP_HEADER_LEN,
            iv,
            trailer: ESP_TRAILER_LEN,
            icv,
            alignment,
            ..Self::bare(sa)
        }
    }

    pub(crate) fn of_ah(sa: &Sa, header: usize) -> Self {
        Self {
            header,
            ..Self::bare(sa)
        }
    }

    /// What does not depend on the protocol.
    fn bare(sa: &Sa) -> Self {
        let ip = if sa.id.dst.is_ipv4() {
            IPV4_HEADER_LEN
        } else {
            IPV6_HEADER_LEN
        };
        let left_out_ip = match (sa.mode, &sa.selector) {
            (Mode::Tunnel, _) => 0,
            (Mode::Beet, Some(selector)) if selector.dst.addr().is_ipv4() => IPV4_HEADER_LEN,
            (Mode::Beet, Some(_)) => IPV6_HEADER_LEN,
            _ => ip,
        };
        Self {
            outer_ip: ip,
            left_out_ip,
            encapsulation: match sa.encap.map(|encap| encap.kind) {
                None => 0,
                Some(EncapKind::Udp) => UDP_HEADER_LEN,
                Some(EncapKind::Tcp) => TCP_FRONT_LEN,
            },
            header: 0,
            iv: 0,
            trailer: 0,
            icv: 0,
            alignment: 1,
        }
    }

    /// Octets between the IP or UDP header and what is protected.
    pub(crate) fn front(&self) -> usize {
        self.header + self.iv
    }

    /// Octets of padding, 0 to `alignment` - 1, so that payload, padding and trailer fill whole blocks.
    pub(crate) fn padding(&self, payload: usize) -> usize {
        (payload + self.trailer).wrapping_neg() & (self.alignment - 1)
    }

    /// The largest packet, IP header included, that fits a path of this MTU; 0 if none does.
    ///
    /// The kernel's `xfrm_state_mtu`: ((mtu − headers − ICV) rounded down to whole blocks) + the IP header that does not
    /// travel − 2.
    pub fn max_inner(&self, outer_mtu: usize) -> usize {
        let fixed = self.outer_ip + self.encapsulation + self.front() + self.icv;
        let blocks = outer_mtu.saturating_sub(fixed) & !(self.alignment - 1);
        (blocks + self.left_out_ip).saturating_sub(self.trailer)
    }
}
