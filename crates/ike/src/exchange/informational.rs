//! INFORMATIONAL: deletion, signs of life, complaints (RFC 7296 §1.4).

use cygnet_wire::{ExchangeType, Notify, NotifyType, ProtocolId, Spi};

use crate::child::ChildState;
use crate::contents::Contents;
use crate::context::{Back, Context};
use crate::errand::Current;
use crate::established::Established;
use crate::exchange::ike_session_resume as tickets;
use crate::exchange::{
    auth_lifetime, crash_detection, mobike, redirect, replay_counter_sync, set_window_size,
};
use crate::io::{ChildSaId, Event};
use crate::proposal::SaSpi;
use crate::reason::{ChildCloseReason, CloseReason};
use crate::sa::{Core, State};

/// Complaints of one message that are reported: an event each must not be what a peer can flood us with.
const MAX_REPORTED: usize = 4;

/// Answers a request.
//= rfc7296#1.4
//# Messages in an INFORMATIONAL exchange contain zero or more
//# Notification, Delete, and Configuration payloads.  The recipient of
//# an INFORMATIONAL exchange request MUST send some response; otherwise,
//# the sender will assume the message was lost in the network and will
//# retransmit it.  That response MAY be an empty message.
pub(crate) fn answer(
    mut established: Box<Established>,
    core: &mut Core,
    cx: &mut Context<'_>,
    contents: &Contents<'_>,
    back: Back,
) -> State {
    let exchange = ExchangeType::INFORMATIONAL;
    //= rfc7296#1.4.1
    //# The
    //# response to a request that deletes the IKE SA is an empty
    //# INFORMATIONAL response.
    if contents
        .deletes
        .iter()
        .any(|delete| delete.protocol == ProtocolId::IKE)
    {
        established.respond(core, cx, exchange, back, |_| {});
        return established.close(core, cx, CloseReason::DeletedByPeer);
    }
    if let Some(kind) = fatal(&established, contents, back) {
        established.respond(core, cx, exchange, back, |_| {});
        return established.close(core, cx, CloseReason::PeerNotify(kind));
    }
    auth_lifetime::heed(core, cx, contents);
    set_window_size::heed(core, contents);
    crash_detection::heed(core, contents);
    replay_counter_sync::heed(core, cx, contents);
    complaints(&mut established, core, cx, contents);
    let deleted = delete_children(&mut established, core, cx, contents);
    let mut said = mobike::on_request(&established, core, cx, contents, back);
    let asked = contents.has(NotifyType::TICKET_REQUEST);
    said.extend(tickets::answer(core, cx, &established.channel.sk_d, asked));
    established.respond(core, cx, exchange, back, |payloads| {
        for (kind, data) in &said {
            payloads.notify(&Notify::new(*kind, data));
        }
        for protocol in [ProtocolId::ESP, ProtocolId::AH] {
            let of = deleted.iter().filter(|sa| sa.protocol == protocol);
            let spis: Vec<_> = of.map(|sa| Spi(sa.spi)).collect();
            if !spis.is_empty() {
                payloads.delete(protocol, &spis);
            }
        }
    });
    //= rfc5685#5
    //# Once the client sends an acknowledgement to the gateway, it SHOULD
    //# delete the existing security associations with the old gateway by
    //# sending an INFORMATIONAL message with a DELETE payload.
    if let Some(to) = redirect::heed(core, cx, contents) {
        established.end(CloseReason::Redirected { to });
    }
    established.proceed(core, cx)
}

/// The errors by which an initiator refuses the response to its IKE_AUTH (RFC 7296 §2.21.2).
fn fatal(established: &Established, contents: &Contents<'_>, back: Back) -> Option<NotifyType> {
    if established.peers_verdict != Some(back.message_id) {
        return None;
    }
    [
        NotifyType::AUTHENTICATION_FAILED,
        NotifyType::INVALID_SYNTAX,
        NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD,
    ]
    .into_iter()
    .find(|kind| contents.has(*kind))
}

/// Reports what the peer complains of.
//= rfc7296#2.21.4
//# The recipient MUST NOT change the state of any SAs as a result, but
//# may wish to audit the event to aid in diagnosing malfunctions.
fn complaints(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    contents: &Contents<'_>,
) {
    for notify in contents
        .notifies
        .iter()
        .filter(|notify| notify.kind.is_error())
        .take(MAX_REPORTED)
    {
        let spi = match notify.kind {
            //= rfc7296#1.5
            //# The Notification Data contains the SPI of the invalid packet.
            NotifyType::INVALID_SPI => Spi::from_slice(notify.data),
            _ => notify.esp_spi(),
        };
        // The one notification that does not say which protocol it means.
        let protocols = match notify.kind {
            NotifyType::INVALID_SPI => &[ProtocolId::ESP, ProtocolId::AH][..],
            _ => &[notify.protocol],
        };
        let child = spi.and_then(|Spi(spi)| {
            protocols.iter().find_map(|protocol| {
                let protocol = *protocol;
                let child = established.child_by_peer_spi(SaSpi { protocol, spi })?;
                Some(child.id)
            })
        });
        cx.event(Event::PeerComplaint {
            ike: core.id,
            child,
            notify: notify.kind,
        });
    }
}

/// Deletes the child SAs that the peer has deleted; gives our SPIs of them.
//= rfc7296#1.4.1
//# The recipient MUST close the designated SAs.
fn delete_children(
    established: &mut Established,
    core: &Core,
    cx: &mut Context<'_>,
    contents: &Contents<'_>,
) -> Vec<SaSpi> {
    let children = contents
        .deletes
        .iter()
        .filter(|delete| [ProtocolId::ESP, ProtocolId::AH].contains(&delete.protocol));
    let peers = children.flat_map(|delete| {
        let protocol = delete.protocol;
        delete
            .esp_spis()
            .map(move |Spi(spi)| SaSpi { protocol, spi })
    });
    let mut ours = Vec::new();
    for spi in peers {
        let Some(child) = established.child_by_peer_spi(spi) else {
            // It may be what the peer has made for us, in a response that has not come yet.
            if let Some(Current::Child(creating)) = &mut established.current {
                creating.note_early_delete(spi);
            }
            continue;
        };
        let (id, spi_in) = (child.id, child.agreed.own_spi());
        if let ChildState::Installing { doomed, .. } = &mut child.state {
            if doomed.replace(ChildCloseReason::DeletedByPeer)
                != Some(ChildCloseReason::DeletedByPeer)
            {
                ours.push(spi_in);
            }
            continue;
        }
        let known = match &child.state {
            ChildState::Deleting(reason) => Some(reason.clone()),
            ChildState::Replaced => Some(ChildCloseReason::Rekeyed),
            _ => child.redundant.map(|_| ChildCloseReason::Redundant),
        };
        let reason = known.unwrap_or(if has_lost(established, id) {
            ChildCloseReason::Redundant
        } else {
            ChildCloseReason::DeletedByPeer
        });
        //= rfc7296#1.4.1
        //# If a node receives a delete request for SAs for
        //# which it has already issued a delete request, it MUST delete the
        //# outgoing SAs while processing the request and the incoming SAs while
        //# processing the response.  In that case, the responses MUST NOT
        //# include Delete payloads for the deleted SAs, since that would result
        //# in duplicate deletion and could in theory delete the wrong SA.
        if !established.is_deleting(id) {
            ours.push(spi_in);
        }
        established.remove_child(core, cx, id, reason);
    }
    ours
}

/// Whether the peer, which deletes a child SA that it has made, knows already that ours wins in its place: the old one
/// would have gone before.
fn has_lost(established: &Established, id: ChildSaId) -> bool {
    match &established.current {
        Some(Current::Child(ours)) if ours.is_crossed_by(id) => ours
            .replaces
            .is_some_and(|old| established.child(old).is_some()),
        _ => false,
    }
}
