//! An authenticated IKE SA: its child SAs, and the requests that wait for the window (RFC 7296 §2.3).

use std::collections::VecDeque;
use std::time::Instant;

use cygnet_wire::{ExchangeType, Notify, NotifyType, PayloadChain, PayloadWriter, ProtocolId, Spi};

use crate::channel::Channel;
use crate::child::{ChildSa, ChildState};
use crate::contents::{Contents, Unreadable};
use crate::context::{Context, Path, Undo};
use crate::deleting::Deleting;
use crate::exchange::{create_child_sa, ike_auth, informational};
use crate::info::IkeSaState;
use crate::io::{Answer, ChildSaId, Event, Refusal, RefusalKind, RequestId};
use crate::reason::{ChildCloseReason, ChildFailure, CloseReason, Party};
use crate::sa::{Core, State};
use crate::stats::DropReason;

/// Complaints that wait for the window; more are dropped.
const MAX_COMPLAINTS: usize = 4;

/// An authenticated IKE SA.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) channel: Channel,
    /// In the order of their making.
    pub(crate) children: Vec<ChildSa>,
    /// What we want to say, in this order, one at a time.
    queue: VecDeque<Errand>,
    /// What the pending request is about.
    current: Option<Errand>,
}

/// A request of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Errand {
    /// An empty INFORMATIONAL (RFC 7296 §2.4).
    Liveness,
    /// Delete a child SA.
    DeleteChild(ChildSaId),
    /// Delete a child SA that only the peer believes in, by our SPI.
    DeleteSpi(u32),
    /// Delete the IKE SA.
    DeleteIke,
    /// Tell the peer of a problem.
    Complain {
        kind: NotifyType,
        spi: Option<u32>,
        data: Vec<u8>,
    },
}

impl Errand {
    fn write(&self, children: &[ChildSa], payloads: &mut PayloadWriter<'_>) {
        match self {
            Self::Liveness => {}
            Self::DeleteChild(id) => {
                let spis: Vec<_> = children
                    .iter()
                    .filter(|child| child.id == *id)
                    .map(|child| Spi(child.agreed.spi_in))
                    .collect();
                payloads.delete(ProtocolId::ESP, &spis);
            }
            Self::DeleteSpi(spi) => {
                payloads.delete(ProtocolId::ESP, &[Spi(*spi)]);
            }
            Self::DeleteIke => {
                payloads.delete_ike();
            }
            Self::Complain { kind, spi, data } => {
                let octets = spi.map(|spi| Spi(spi).to_bytes());
                let mut notify = Notify::new(*kind, data);
                if let Some(octets) = &octets {
                    notify.protocol = ProtocolId::ESP;
                    notify.spi = octets;
                }
                payloads.notify(&notify);
            }
        }
    }
}

impl Established {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            channel,
            children: Vec::new(),
            queue: VecDeque::new(),
            current: None,
        }
    }

    /// Sends what waits, if the window is free.
    pub(crate) fn proceed(mut self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        for id in std::mem::take(&mut core.unwanted_children) {
            self.doom(id, ChildCloseReason::DeletedByUs);
        }
        if core.unwanted && !self.queue.contains(&Errand::DeleteIke) {
            self.queue.push_front(Errand::DeleteIke);
        }
        while core.outgoing.is_free() {
            let Some(errand) = self.queue.pop_front() else {
                break;
            };
            match &errand {
                Errand::DeleteIke => {
                    let reason = CloseReason::DeletedByUs;
                    end_children(core, cx, self.children, &reason);
                    return Deleting::begin(core, cx, self.channel, reason);
                }
                // The peer may have deleted it meanwhile.
                Errand::DeleteChild(id) if self.child(*id).is_none() => continue,
                _ => {}
            }
            let Self {
                channel, children, ..
            } = &mut *self;
            let sent = core.request(cx, channel, ExchangeType::INFORMATIONAL, |payloads| {
                errand.write(children, payloads);
            });
            debug_assert_eq!(sent, Ok(()), "an errand fits into a message");
            self.current = Some(errand);
        }
        State::Established(self)
    }

    fn child(&self, id: ChildSaId) -> Option<&ChildSa> {
        self.children.iter().find(|child| child.id == id)
    }

    /// A child SA by the SPI under which the peer knows it: that of what we send.
    pub(crate) fn child_by_peer_spi(&mut self, spi: u32) -> Option<&mut ChildSa> {
        self.children
            .iter_mut()
            .find(|child| child.agreed.spi_out == spi)
    }

    /// Whether we are waiting for the peer to acknowledge the deletion of a child SA.
    pub(crate) fn is_deleting(&self, id: ChildSaId) -> bool {
        self.current == Some(Errand::DeleteChild(id))
    }

    /// The peer is to delete a child SA that we do not have.
    pub(crate) fn delete_spi(&mut self, spi: u32) {
        self.queue.push_back(Errand::DeleteSpi(spi));
    }

    /// A child SA is to go.
    fn doom(&mut self, id: ChildSaId, reason: ChildCloseReason) {
        let Some(child) = self.children.iter_mut().find(|child| child.id == id) else {
            return;
        };
        match &mut child.state {
            // If the peer has deleted it already, it must not be asked to.
            ChildState::Installing { doomed, .. } => {
                doomed.get_or_insert(reason);
            }
            state @ ChildState::Installed => {
                *state = ChildState::Deleting(reason);
                self.queue.push_back(Errand::DeleteChild(id));
            }
            ChildState::Deleting(_) => {}
        }
    }

    /// Deletes a child SA.
    pub(crate) fn delete_child(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        id: ChildSaId,
    ) -> State {
        self.doom(id, ChildCloseReason::DeletedByUs);
        self.proceed(core, cx)
    }

    /// Asks for a sign of life, unless one is asked for already.
    //= rfc7296#2.4
    //# If no cryptographically protected
    //# messages have been received on an IKE SA or any of its Child SAs
    //# recently, the system needs to perform a liveness check in order to
    //# prevent sending messages to a dead peer.
    pub(crate) fn check_liveness(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
    ) -> State {
        if core.outgoing.is_free() && self.queue.is_empty() {
            self.queue.push_back(Errand::Liveness);
        }
        self.proceed(core, cx)
    }

    /// Tells the peer of a problem.
    pub(crate) fn complain(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        kind: NotifyType,
        spi: Option<u32>,
        data: Vec<u8>,
    ) -> State {
        let waiting = self
            .queue
            .iter()
            .filter(|e| matches!(e, Errand::Complain { .. }))
            .count();
        if waiting < MAX_COMPLAINTS && cx.may_reply() {
            self.queue.push_back(Errand::Complain { kind, spi, data });
        }
        self.proceed(core, cx)
    }

    /// Takes a child SA out and has it removed.
    pub(crate) fn remove_child(
        &mut self,
        core: &Core,
        cx: &mut Context<'_>,
        id: ChildSaId,
        reason: ChildCloseReason,
    ) {
        if let Some(at) = self.children.iter().position(|child| child.id == id) {
            close_child(core, cx, self.children.remove(at), reason);
        }
    }

    pub(crate) fn on_response(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        chain: PayloadChain<'_>,
    ) -> State {
        if let Some(Errand::DeleteChild(id)) = self.current.take() {
            let reason = self.child(id).and_then(|child| match &child.state {
                ChildState::Deleting(reason) => Some(reason.clone()),
                _ => None,
            });
            self.remove_child(
                core,
                cx,
                id,
                reason.unwrap_or(ChildCloseReason::DeletedByUs),
            );
        }
        match Contents::read(chain) {
            //= rfc7296#2.21.3
            //# If a peer parsing a request notices that it is badly formatted (after
            //# it has passed the message authentication code checks and window
            //# checks) and it returns an INVALID_SYNTAX notification, then this
            //# error notification is considered fatal in both peers, meaning that
            //# the IKE SA is deleted without needing an explicit Delete payload.
            Ok(contents) if contents.has(NotifyType::INVALID_SYNTAX) => {
                let detail = String::new();
                return self.close(
                    core,
                    cx,
                    CloseReason::InvalidSyntax {
                        by: Party::Peer,
                        detail,
                    },
                );
            }
            Ok(_) => {}
            Err(_) => cx.drop(DropReason::BadResponse),
        }
        self.proceed(core, cx)
    }

    pub(crate) fn on_request(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        exchange: ExchangeType,
        chain: PayloadChain<'_>,
        back: Path,
    ) -> State {
        match Contents::read(chain) {
            Ok(contents) => match exchange {
                ExchangeType::INFORMATIONAL => {
                    informational::answer(self, core, cx, &contents, back)
                }
                ExchangeType::CREATE_CHILD_SA => {
                    create_child_sa::answer(self, core, cx, &contents, back)
                }
                other => {
                    let detail = format!("unexpected exchange {other}");
                    self.invalid_syntax(core, cx, exchange, back, detail)
                }
            },
            Err(Unreadable::Critical(payload)) => {
                let data = [payload.0];
                let notify = Notify::new(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, &data);
                self.respond(core, cx, exchange, back, |payloads| {
                    payloads.notify(&notify);
                });
                self.proceed(core, cx)
            }
            Err(error) => {
                let detail = error.to_string();
                self.invalid_syntax(core, cx, exchange, back, detail)
            }
        }
    }

    /// Answers a malformed request, which ends the IKE SA.
    fn invalid_syntax(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        exchange: ExchangeType,
        back: Path,
        detail: String,
    ) -> State {
        self.respond(core, cx, exchange, back, |payloads| {
            payloads.notify(&Notify::new(NotifyType::INVALID_SYNTAX, &[]));
        });
        self.close(
            core,
            cx,
            CloseReason::InvalidSyntax {
                by: Party::Us,
                detail,
            },
        )
    }

    /// Sends the response to the request that was accepted last.
    pub(crate) fn respond(
        &mut self,
        core: &mut Core,
        cx: &mut Context<'_>,
        exchange: ExchangeType,
        back: Path,
        write: impl FnOnce(&mut PayloadWriter<'_>),
    ) {
        let sent = core.respond(cx, &mut self.channel, exchange, back, write);
        debug_assert_eq!(
            sent,
            Ok(()),
            "responses of an established SA fit into a message"
        );
    }

    pub(crate) fn on_answer(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        id: RequestId,
        answer: Answer,
    ) -> State {
        let ike = core.id;
        let waiting = self
            .children
            .iter_mut()
            .find(|c| matches!(&c.state, ChildState::Installing { request, .. } if *request == id));
        let Some(child) = waiting else {
            return State::Established(self);
        };
        let state = std::mem::replace(&mut child.state, ChildState::Installed);
        let ChildState::Installing { doomed, .. } = state else {
            return State::Established(self);
        };
        let (child_id, spi) = (child.id, child.agreed.spi_in);
        let refusal = match answer {
            Answer::Done => {
                child.established = Some(cx.now);
                let info = Box::new(child.info(core));
                cx.event(Event::ChildEstablished {
                    ike,
                    child: child_id,
                    info,
                });
                match doomed {
                    None => {}
                    Some(ChildCloseReason::DeletedByPeer) => {
                        let reason = ChildCloseReason::DeletedByPeer;
                        self.remove_child(core, cx, child_id, reason);
                    }
                    Some(reason) => self.doom(child_id, reason),
                }
                return self.proceed(core, cx);
            }
            Answer::Failed(refusal) => refusal,
            Answer::Spi(_) => Refusal::new(RefusalKind::Failed, "an answer of the wrong kind"),
        };
        if let Some(at) = self.children.iter().position(|child| child.id == child_id) {
            let config = self.children.remove(at).agreed.config;
            let reason = ChildFailure::InstallFailed(refusal);
            ike_auth::child_failed(core, cx, child_id, Some(config), reason);
        }
        if doomed != Some(ChildCloseReason::DeletedByPeer) {
            self.delete_spi(spi);
        }
        self.proceed(core, cx)
    }

    /// When the peer is to be probed.
    pub(crate) fn deadline(&self, core: &Core) -> Option<Instant> {
        let interval = core.config.liveness.filter(|_| core.outgoing.is_free())?;
        core.last_heard
            .or(core.established)
            .map(|heard| heard + interval)
    }

    pub(crate) fn on_timeout(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        match self.deadline(core) {
            Some(deadline) if cx.now >= deadline => self.check_liveness(core, cx),
            _ => State::Established(self),
        }
    }

    //= rfc7296#2.4
    //# An endpoint MUST conclude
    //# that the other endpoint has failed only when repeated attempts to
    //# contact it have gone unanswered for a timeout period or when a
    //# cryptographically protected INITIAL_CONTACT notification is received
    //# on a different IKE SA to the same authenticated identity.
    pub(crate) fn give_up(
        self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        exchange: ExchangeType,
        sent: u32,
    ) -> State {
        self.close(core, cx, CloseReason::PeerUnresponsive { exchange, sent })
    }

    /// Ends the IKE SA without a word to the peer.
    pub(crate) fn close(
        self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        reason: CloseReason,
    ) -> State {
        close_ike(core, cx, self.children, reason)
    }
}

/// Ends an IKE SA and its child SAs.
pub(crate) fn close_ike(
    core: &mut Core,
    cx: &mut Context<'_>,
    children: Vec<ChildSa>,
    reason: CloseReason,
) -> State {
    end_children(core, cx, children, &reason);
    report_closed(core, cx, reason);
    core.linger(cx)
}

/// Reports that an established IKE SA is gone.
pub(crate) fn report_closed(core: &Core, cx: &mut Context<'_>, reason: CloseReason) {
    cx.shared.stats.closed = cx.shared.stats.closed.saturating_add(1);
    let info = Box::new(core.info(IkeSaState::Closed, Vec::new()));
    cx.event(Event::IkeClosed {
        ike: core.id,
        info,
        reason,
    });
}

//= rfc7296#1.4.1
//# Deleting an IKE SA
//# implicitly closes any remaining Child SAs negotiated under it.
fn end_children(core: &Core, cx: &mut Context<'_>, children: Vec<ChildSa>, reason: &CloseReason) {
    for child in children {
        let (ike, id) = (core.id, child.id);
        if let ChildState::Installing { request, .. } = child.state {
            let (local, remote) = core.addresses();
            let (spi_in, spi_out) = (child.agreed.spi_in, child.agreed.spi_out);
            let undo = Undo::Install {
                ike,
                child: id,
                local,
                remote,
                spi_in,
                spi_out,
            };
            cx.abandon(request, undo);
            let config = Some(child.agreed.config);
            ike_auth::child_failed(core, cx, id, config, ChildFailure::IkeSaEnded);
        } else {
            close_child(
                core,
                cx,
                child,
                ChildCloseReason::IkeSaClosed(reason.clone()),
            );
        }
    }
}

/// Has an installed child SA removed and reports it.
fn close_child(core: &Core, cx: &mut Context<'_>, child: ChildSa, reason: ChildCloseReason) {
    cx.shared.children.remove(&child.id);
    cx.request_unheard(child.remove(core));
    let (ike, id, info) = (core.id, child.id, Box::new(child.info(core)));
    cx.event(Event::ChildClosed {
        ike,
        child: id,
        info,
        reason,
    });
}
