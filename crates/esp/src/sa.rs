//! What the two directions take from an SA in the same way.

use cygnet_crypto::EspCipher;
use cygnet_ipsec::{Mode, Protocol, Sa, SaDirection};

use crate::ah::Ah;
use crate::beet::Hosts;
use crate::ecn::TosPolicy;
use crate::error::SaError;
use crate::overhead::Overhead;

/// SPIs below this one are reserved (RFC 4302 §2.4, RFC 4303 §2.1).
const FIRST_SPI: u32 = 256;

/// What an SA does to a packet.
#[derive(Debug)]
pub(crate) enum Protection {
    Esp(EspCipher),
    Ah(Ah),
}

impl Protection {
    /// Refuses SAs that this crate cannot do and expands the keys.
    pub fn new(sa: &Sa, direction: SaDirection) -> Result<Self, SaError> {
        if sa.direction != direction {
            return Err(SaError::Direction);
        }
        if sa.src.is_ipv4() != sa.id.dst.is_ipv4() {
            return Err(SaError::MixedFamilies);
        }
        if sa.id.spi < FIRST_SPI {
            return Err(SaError::ReservedSpi(sa.id.spi));
        }
        match (sa.id.protocol, sa.mode) {
            (Protocol::Esp, Mode::Tunnel | Mode::Transport | Mode::Beet) => {
                cipher(sa).map(Self::Esp)
            }
            (Protocol::Ah, Mode::Tunnel | Mode::Transport) => Ah::new(sa).map(Self::Ah),
            (Protocol::Esp | Protocol::Ah, mode) => Err(SaError::Mode(mode)),
            (protocol, _) => Err(SaError::Protocol(protocol)),
        }
    }

    pub fn overhead(&self, sa: &Sa) -> Overhead {
        match self {
            Self::Esp(cipher) => {
                Overhead::of_esp(sa, cipher.iv_len(), cipher.icv_len(), cipher.alignment())
            }
            Self::Ah(ah) => Overhead::of_ah(sa, ah.header_len()),
        }
    }
}

fn cipher(sa: &Sa) -> Result<EspCipher, SaError> {
    let Some(encryption) = &sa.encryption else {
        return Err(SaError::NoCipher);
    };
    let (integrity, integrity_key) = match &sa.integrity {
        Some(integrity) => (Some(integrity.transform), integrity.key.as_bytes()),
        None => (None, &[][..]),
    };
    EspCipher::new(
        encryption.transform,
        encryption.key.as_bytes(),
        integrity,
        integrity_key,
    )
    .map_err(|error| SaError::Keys(error.to_string()))
}

/// The inner addresses that do not travel: of BEET SAs.
pub(crate) fn hosts(sa: &Sa) -> Result<Option<Hosts>, SaError> {
    (sa.mode == Mode::Beet).then(|| Hosts::of(sa)).transpose()
}

pub(crate) fn tos_policy(sa: &Sa) -> TosPolicy {
    TosPolicy {
        no_ecn: sa.flags.no_ecn,
        dont_encap_dscp: sa.flags.dont_encap_dscp,
        decap_dscp: sa.flags.decap_dscp,
    }
}
