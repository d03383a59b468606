//! What the two directions take from an SA in the same way.

use cygnet_crypto::EspCipher;
use cygnet_ipsec::{Mode, Protocol, Sa, SaDirection};

use crate::beet::Hosts;
use crate::ecn::TosPolicy;
use crate::error::SaError;
use crate::overhead::Overhead;

/// SPIs below this one are reserved (RFC 4303 §2.1).
const FIRST_SPI: u32 = 256;

/// Refuses SAs that this crate cannot do and makes the cipher.
pub(crate) fn cipher(sa: &Sa, direction: SaDirection) -> Result<EspCipher, SaError> {
    if sa.direction != direction {
        return Err(SaError::Direction);
    }
    if sa.id.protocol != Protocol::Esp {
        return Err(SaError::Protocol(sa.id.protocol));
    }
    if !matches!(sa.mode, Mode::Tunnel | Mode::Transport | Mode::Beet) {
        return Err(SaError::Mode(sa.mode));
    }
    if sa.src.is_ipv4() != sa.id.dst.is_ipv4() {
        return Err(SaError::MixedFamilies);
    }
    if sa.id.spi < FIRST_SPI {
        return Err(SaError::ReservedSpi(sa.id.spi));
    }
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

pub(crate) fn overhead(sa: &Sa, cipher: &EspCipher) -> Overhead {
    Overhead::new(sa, cipher.iv_len(), cipher.icv_len(), cipher.alignment())
}

pub(crate) fn tos_policy(sa: &Sa) -> TosPolicy {
    TosPolicy {
        no_ecn: sa.flags.no_ecn,
        dont_encap_dscp: sa.flags.dont_encap_dscp,
        decap_dscp: sa.flags.decap_dscp,
    }
}
