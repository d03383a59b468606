//! IPComp: how both ends agree to compress what a child SA carries (RFC 7296 §2.22, RFC 3173).

use cygnet_wire::{IpcompNotify, IpcompTransform, Notify, NotifyType, PayloadWriter};

use crate::contents::Contents;

/// Offers to take compressed packets by our CPI, or agrees to; without one nothing is said.
pub(crate) fn announce(cpi: Option<u16>, payloads: &mut PayloadWriter<'_>) {
    if let Some(cpi) = cpi {
        let data = IpcompNotify {
            cpi,
            transform: IpcompTransform::DEFLATE,
        };
        payloads.notify(&Notify::new(NotifyType::IPCOMP_SUPPORTED, &data.to_bytes()));
    }
}

/// The CPI by which the peer, who initiates, takes packets compressed with DEFLATE. What it offers besides, or by a CPI
/// that is none, is left alone.
pub(crate) fn offered(contents: &Contents<'_>) -> Option<u16> {
    let notifies = contents.notifies.iter();
    notifies
        .filter_map(IpcompNotify::from_notify)
        .find(|offer| offer.transform == IpcompTransform::DEFLATE)
        .map(|offer| offer.cpi)
}

/// The CPI by which the peer, who responds, takes compressed packets, if it agrees.
///
/// # Errors
/// If the peer has chosen what we did not offer, or more than one transform.
//= rfc7296#2.22
//# implementations of this specification MUST NOT accept an IPComp
//# algorithm that was not proposed, MUST NOT accept more than one, and
//# MUST NOT compress using an algorithm other than one proposed and
//# accepted in the setup of the Child SA.
pub(crate) fn accepted(we_offered: bool, contents: &Contents<'_>) -> Result<Option<u16>, ()> {
    let kind = NotifyType::IPCOMP_SUPPORTED;
    match (&contents.data_of(kind)[..], offered(contents)) {
        ([], _) => Ok(None),
        ([_], Some(cpi)) if we_offered => Ok(Some(cpi)),
        _ => Err(()),
    }
}
