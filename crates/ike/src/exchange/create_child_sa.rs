//! CREATE_CHILD_SA: further child SAs and rekeying (RFC 7296 §1.3).
//!
//! Requests are refused in the way that the RFC provides for implementations with one child SA per IKE SA.

use cygnet_wire::{ExchangeType, Notify, NotifyType, ProtocolId};

use crate::child::ChildState;
use crate::contents::Contents;
use crate::context::{Context, Path};
use crate::established::Established;
use crate::sa::{Core, State};

/// Answers a request.
pub(crate) fn answer(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    contents: &Contents<'_>,
    back: Path,
) -> State {
    //= rfc7296#1.3
    //# The responder sends a NO_ADDITIONAL_SAS notification to indicate that
    //# a CREATE_CHILD_SA request is unacceptable because the responder is
    //# unwilling to accept any more Child SAs on this IKE SA.  This
    //# notification can also be used to reject IKE SA rekey.
    let mut refusal = Notify::new(NotifyType::NO_ADDITIONAL_SAS, &[]);
    if let Some(rekey) = contents.notify(NotifyType::REKEY_SA) {
        let child = rekey
            .esp_spi()
            .and_then(|spi| established.child_by_peer_spi(spi.0));
        match child.map(|child| &child.state) {
            //= rfc7296#2.25
            //# A CHILD_SA_NOT_FOUND notification SHOULD be sent when a peer receives
            //# a request to rekey a Child SA that does not exist.  The SA that the
            //# initiator attempted to rekey is indicated by the SPI field in the
            //# Notify payload, which is copied from the SPI field in the REKEY_SA
            //# notification.
            None => {
                refusal = Notify {
                    protocol: ProtocolId::ESP,
                    spi: rekey.spi,
                    kind: NotifyType::CHILD_SA_NOT_FOUND,
                    data: &[],
                };
            }
            //= rfc7296#2.25.1
            //# If a peer receives a request to rekey a Child SA that it is currently
            //# trying to close, it SHOULD reply with TEMPORARY_FAILURE.
            Some(ChildState::Deleting(_)) => {
                refusal = Notify::new(NotifyType::TEMPORARY_FAILURE, &[]);
            }
            Some(_) => {}
        }
    }
    established.respond(core, cx, ExchangeType::CREATE_CHILD_SA, back, |payloads| {
        payloads.notify(&refusal);
    });
    established.proceed(core, cx)
}
