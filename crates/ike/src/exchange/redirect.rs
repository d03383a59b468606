//! REDIRECT: a gateway sends the initiator to another one (RFC 5685), in its answer to IKE_SA_INIT, in IKE_AUTH, or in the
//! middle of a session.

use std::net::IpAddr;

use cygnet_wire::{Gateway, Notify, NotifyType, PayloadWriter, RedirectNotify};

use crate::config::{AcceptRedirect, SendRedirect};
use crate::contents::Contents;
use crate::context::Context;
use crate::io::Event;
use crate::reason::Party;
use crate::sa::Core;

/// Says in IKE_SA_INIT that we go where we are sent, and by whom we have been.
//= rfc5685#3
//# In the IKE_SA_INIT exchange with the new VPN gateway,
//# the client MUST include the REDIRECTED_FROM payload (see
//# Section 9.3).
//= rfc5685#9.1
//# The 'SPI Size' field MUST be set to 0 to indicate that the SPI is not
//# present in this message.
//= rfc5685#9.1
//# The 'Protocol ID' MUST be set to 0, since the notification is not
//# specific to a particular security association.
//= rfc5685#9.3
//# The 'SPI Size' field MUST be set to 0 to indicate that the SPI is not
//# present in this message.
//= rfc5685#9.3
//# The 'Protocol ID' MUST be set to 0, since the notification is not
//# specific to a particular security association.
pub(crate) fn announce(core: &Core, payloads: &mut PayloadWriter<'_>) {
    if let Some(from) = core.redirected_from {
        let data = data(&from.into(), &[]);
        payloads.notify(&Notify::new(NotifyType::REDIRECTED_FROM, &data));
    } else if core.config.accept_redirect != AcceptRedirect::No {
        payloads.notify(&Notify::new(NotifyType::REDIRECT_SUPPORTED, &[]));
    }
}

/// Whether an initiator goes where it is sent.
//= rfc5685#3
//# The presence of the
//# REDIRECT_FROM payload in the IKE_SA_INIT exchange with the new
//# gateway indicates to the new gateway that the client supports the
//# redirect mechanism.
//= rfc5685#3
//# The gateway MUST keep track of those clients that indicated support
//# for the redirect mechanism and those that didn't.
pub(crate) fn is_supported(contents: &Contents<'_>) -> bool {
    contents.has(NotifyType::REDIRECT_SUPPORTED) || contents.has(NotifyType::REDIRECTED_FROM)
}

/// The data of a REDIRECT.
//= rfc5685#5
//# The gateway MUST NOT include
//# any nonce data in the REDIRECT payload, since it is a gateway-
//# initiated redirect and is protected by the IKEv2 security
//# association.
//= rfc5685#9.2
//# The 'SPI Size' field MUST be set to 0 to indicate that the SPI is not
//# present in this message.
//= rfc5685#9.2
//# The 'Protocol ID' MUST be set to 0, since the notification is not
//# specific to a particular security association.
//= rfc5685#9.2
//# It MUST NOT be included in the REDIRECT payload if sent in an IKE_AUTH
//# response or in a gateway-initiated redirect message.
//= rfc5685#5
//# The REDIRECT payload MUST carry information about the new VPN gateway.
pub(crate) fn data(gateway: &Gateway, nonce: &[u8]) -> Vec<u8> {
    let gateway = gateway.clone();
    RedirectNotify { gateway, nonce }.to_bytes()
}

/// Where the peer is to go, if it is to go elsewhere: the next of the gateways that are not ourselves and have an address
/// of the peer's family.
pub(crate) fn elsewhere(
    cx: &mut Context<'_>,
    when: SendRedirect,
    gateways: &[Gateway],
    own: IpAddr,
) -> Option<Gateway> {
    match when {
        SendRedirect::No => return None,
        SendRedirect::UnderLoad if !cx.shared.under_load => return None,
        SendRedirect::UnderLoad | SendRedirect::Yes => {}
    }
    let fits = |gateway: &&Gateway| match gateway {
        Gateway::Address(address) => *address != own && address.is_ipv4() == own.is_ipv4(),
        Gateway::Name(_) => true,
    };
    let fitting: Vec<_> = gateways.iter().filter(fits).collect();
    let turn = cx.shared.redirects.checked_rem(fitting.len())?;
    cx.shared.redirects = cx.shared.redirects.wrapping_add(1);
    fitting.get(turn).map(|gateway| (*gateway).clone())
}

/// What an authenticated gateway, or one that knows the nonce, asks of us.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To go to another gateway.
    Go(Gateway),
    /// To go where we do not go.
    Forbidden(Gateway),
}

/// What an answer to IKE_SA_INIT asks of us. `None`: nothing, or it is not an answer to us.
//= rfc5685#3
//# When the client receives the IKE_SA_INIT response, it MUST verify
//# that the nonce data matches the value sent in the IKE_SA_INIT
//# request.  If the values do not match, the client MUST silently
//# discard the response (and keep waiting for another response).
pub(crate) fn asked_in_init(core: &Core, data: &[u8], nonce: &[u8]) -> Option<Asked> {
    let said = RedirectNotify::parse(data).filter(|said| said.nonce == nonce)?;
    judge(core, said.gateway)
}

/// What a message of an authenticated gateway asks of us.
pub(crate) fn asked(core: &Core, contents: &Contents<'_>) -> Option<Asked> {
    if core.redirectable != Some(Party::Us) {
        return None;
    }
    let notify = contents.notify(NotifyType::REDIRECT)?;
    judge(core, RedirectNotify::parse(notify.data)?.gateway)
}

fn judge(core: &Core, gateway: Gateway) -> Option<Asked> {
    match &core.config.accept_redirect {
        AcceptRedirect::No => None,
        accept if accept.permits(&gateway) => Some(Asked::Go(gateway)),
        _ => Some(Asked::Forbidden(gateway)),
    }
}

/// Where the gateway sends us in the middle of a session. What is forbidden is told of.
pub(crate) fn heed(core: &Core, cx: &mut Context<'_>, contents: &Contents<'_>) -> Option<Gateway> {
    match asked(core, contents)? {
        Asked::Go(to) => Some(to),
        Asked::Forbidden(to) => {
            cx.event(Event::RedirectRefused { ike: core.id, to });
            None
        }
    }
}
