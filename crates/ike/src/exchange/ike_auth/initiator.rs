//! The initiator's half of IKE_AUTH.

use std::time::Instant;

use cygnet_crypto::PskKey;
use cygnet_wire::{
    AuthMethodId, ExchangeType, IdType, Notify, NotifyType, PayloadChain, PayloadType,
};

use super::{Credential, child_failed, is_heeded};
use crate::channel::{Plaintext, SealError};
use crate::child::{ChildSa, ChildState, Fresh, KeySource, NotAccepted, Offer, Wanted};
use crate::config::{Childless, Uniqueness};
use crate::contents::Contents;
use crate::context::{Context, InitialContact};
use crate::deleting::Deleting;
use crate::errand::{Plan, What};
use crate::established::Established;
use crate::exchange::ike_sa_init::Handshake;
use crate::exchange::ike_session_resume as tickets;
use crate::exchange::redirect::{self, Asked};
use crate::exchange::{
    auth_lifetime, crash_detection, message_id_sync, mobike, replay_counter_sync, set_window_size,
};
use crate::identity::Identity;
use crate::info::Role;
use crate::io::{Answer, Refusal, RefusalKind, RequestId};
use crate::ppk::{self, Mixed, PpkPolicy, Stage};
use crate::proposal::ChildExchange;
use crate::reason::{AuthFailure, ChildFailure, FailureReason, Party};
use crate::sa::{Core, State};

/// The SPI of the first child SA is awaited from the data plane.
#[derive(Debug)]
pub(crate) struct SpiWanted {
    handshake: Handshake,
    wanted: Wanted,
    request: RequestId,
    pub(crate) deadline: Instant,
}

/// The request has been sent, the response is awaited.
#[derive(Debug)]
pub(crate) struct AuthSent {
    pub(crate) handshake: Handshake,
    /// The pre-shared key by which we have proved who we are, and with whom it is shared.
    psk: Option<(Identity, PskKey)>,
    /// The keys with the PPK that we have named.
    mixed: Option<Mixed>,
    child: FirstChild,
}

/// The child SA that the IKE SA is begun for.
#[derive(Debug)]
enum FirstChild {
    /// There is none.
    Unwanted,
    /// IKE_AUTH is to make it.
    Offered(Offer),
    /// A CREATE_CHILD_SA is to make it afterwards (RFC 6023).
    Deferred(Wanted),
}

impl FirstChild {
    fn offer(&self) -> Option<&Offer> {
        match self {
            Self::Offered(offer) => Some(offer),
            Self::Unwanted | Self::Deferred(_) => None,
        }
    }

    /// It is not to be: the IKE SA has not come about.
    fn give_up(self, core: &Core, cx: &mut Context<'_>) {
        let reason = ChildFailure::IkeSaEnded;
        match self {
            Self::Unwanted => {}
            Self::Offered(offer) => give_up_child(core, cx, offer, reason),
            Self::Deferred(wanted) => {
                child_failed(core, cx, wanted.id, Some(wanted.config), reason);
            }
        }
    }
}

/// Goes on from IKE_SA_INIT.
pub(crate) fn begin(
    core: &mut Core,
    cx: &mut Context<'_>,
    handshake: Handshake,
    child: Option<Wanted>,
) -> State {
    //= rfc6023#3
    //# A supporting initiator MAY send the modified IKE_AUTH request,
    //# described in Section 5, if the notification was included in the
    //# IKE_SA_INIT response.  The initiator MUST NOT send the modified
    //# IKE_AUTH request if the notification was not present.
    let able = handshake.childless;
    let deferred = |child: Option<Wanted>| child.map_or(FirstChild::Unwanted, FirstChild::Deferred);
    match (child, core.config.childless) {
        (child, Childless::Force) | (child @ None, _) if !able => {
            deferred(child).give_up(core, cx);
            core.fail(cx, FailureReason::ChildlessUnsupported)
        }
        (child, Childless::Force | Childless::Prefer) if able => {
            send(core, cx, handshake, deferred(child))
        }
        (None, _) => send(core, cx, handshake, FirstChild::Unwanted),
        (Some(wanted), _) => {
            let request = cx.request(core.id, wanted.allocate_spi(core));
            let deadline = cx.now + core.config.retransmit.timeout;
            State::SpiWanted(Box::new(SpiWanted {
                handshake,
                wanted,
                request,
                deadline,
            }))
        }
    }
}

impl SpiWanted {
    pub(crate) fn on_answer(
        self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        id: RequestId,
        answer: Answer,
    ) -> State {
        if id != self.request {
            return State::SpiWanted(self);
        }
        match answer {
            Answer::Spi(spi) => {
                let offer = self.wanted.offer(core, spi, ChildExchange::IkeAuth);
                send(core, cx, self.handshake, FirstChild::Offered(offer))
            }
            Answer::Failed(refusal) => self.refused(core, cx, refusal),
            Answer::Done | Answer::Solution(_) | Answer::Traffic(_) => {
                let refusal = Refusal::new(RefusalKind::Failed, "done, but no SPI was given");
                self.refused(core, cx, refusal)
            }
        }
    }

    fn refused(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>, refusal: Refusal) -> State {
        let reason = ChildFailure::SpiRefused(refusal.clone());
        child_failed(core, cx, self.wanted.id, Some(self.wanted.config), reason);
        core.fail(cx, FailureReason::Refused(refusal))
    }

    pub(crate) fn on_timeout(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        if cx.now < self.deadline {
            return State::SpiWanted(self);
        }
        self.wanted.abandon(core, cx, self.request);
        let refusal = Refusal::new(RefusalKind::Failed, "no answer to the request for an SPI");
        self.refused(core, cx, refusal)
    }

    pub(crate) fn cancel(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>) -> State {
        self.wanted.abandon(core, cx, self.request);
        child_failed(
            core,
            cx,
            self.wanted.id,
            Some(self.wanted.config),
            ChildFailure::IkeSaEnded,
        );
        core.fail(cx, FailureReason::Cancelled)
    }
}

/// Gives back the SPI of a child SA that is not to be, and reports why.
fn give_up_child(core: &Core, cx: &mut Context<'_>, offer: Offer, reason: ChildFailure) {
    cx.request_unheard(offer.release(core));
    child_failed(core, cx, offer.wanted.id, Some(offer.wanted.config), reason);
}

/// Neither the IKE SA nor its child SA has come about.
fn fail(core: &mut Core, cx: &mut Context<'_>, child: FirstChild, reason: FailureReason) -> State {
    child.give_up(core, cx);
    core.fail(cx, reason)
}

/// The pre-shared key with a peer.
fn find_psk(
    core: &Core,
    cx: &Context<'_>,
    handshake: &Handshake,
    remote: &Identity,
) -> Result<PskKey, FailureReason> {
    let local = &core.config.local_id;
    let (local_addr, remote_addr) = core.addresses();
    cx.directory
        .psk(local, remote, local_addr, remote_addr)
        .map(|psk| PskKey::new(handshake.suite.prf, psk.as_ref()))
        .ok_or_else(|| FailureReason::NoPsk {
            local: local.clone(),
            remote: remote.clone(),
        })
}

/// Sends the request.
fn send(
    core: &mut Core,
    cx: &mut Context<'_>,
    mut handshake: Handshake,
    child: FirstChild,
) -> State {
    let config = core.config.clone();
    let resumed = handshake.resumption.as_ref();
    let expected = match resumed {
        Some(resumption) => Some(&resumption.remote_id),
        None => config.remote_id.exact(),
    };
    // A peer that may be anybody is known by its address until it says more.
    let assumed = expected
        .cloned()
        .unwrap_or_else(|| Identity::from(core.path.remote.ip()));
    let credential = match resumed {
        Some(resumption) => Ok(Credential::Session(resumption.auth)),
        None => find_psk(core, cx, &handshake, &assumed).map(Credential::Psk),
    };
    let credential = match credential {
        Ok(credential) => credential,
        Err(reason) => return fail(core, cx, child, reason),
    };
    let id = &config.local_id;
    let body = id.payload_body();
    let plain_auth = || handshake.auth_data(Role::Initiator, &handshake.sk_pi, &credential, &body);
    let ppk = match handshake.ppk {
        Stage::InAuth => ppk::usable(cx, &config).into_iter().next(),
        _ => None,
    };
    let mixed = ppk.as_ref().map(|ppk| handshake.mixed(ppk));
    let auth = match &mixed {
        Some(mixed) => handshake.auth_data(Role::Initiator, &mixed.sk_pi, &credential, &body),
        None => plain_auth(),
    };
    //= rfc8784#3
    //# if using PPKs for communication with this
    //# responder is optional for the initiator (based on the
    //# mandatory_or_not flag), then the initiator MUST include a NO_PPK_AUTH
    //# notification in the above message.
    let no_ppk_auth = (mixed.is_some() && config.ppk != PpkPolicy::Insist).then(plain_auth);
    let pair = (id.clone(), assumed);
    //= rfc7296#2.4
    //# The INITIAL_CONTACT notification, if sent, MUST
    //# be in the first IKE_AUTH request or response, not as a separate
    //# exchange afterwards
    let first_contact = config.initial_contact
        && config.uniqueness != Uniqueness::Never
        && expected.is_some()
        && !cx.shared.pairs.contains_key(&pair);
    let introduction = mobike::introduction(core, cx);
    let token = crash_detection::own(core, cx);
    let sync = [
        message_id_sync::announcement(core),
        replay_counter_sync::announcement(core),
    ];
    let psk = match credential {
        Credential::Psk(psk) => Some((pair.1, psk)),
        Credential::Session(_) => None,
    };
    let expected = expected.cloned();
    let asks = tickets::asks(core);
    let Handshake {
        channel, solution, ..
    } = &mut handshake;
    let solution = solution.take().unwrap_or_default();
    let sent = Plaintext::write(|payloads| {
        payloads.id_i(IdType(id.id_type()), &id.data());
        if first_contact {
            payloads.notify(&Notify::new(NotifyType::INITIAL_CONTACT, &[]));
        }
        if let Some(expected) = &expected {
            payloads.id_r(IdType(expected.id_type()), &expected.data());
        }
        payloads.auth(AuthMethodId::SHARED_KEY, auth.as_ref());
        if let Some(token) = &token {
            token.write(payloads);
        }
        set_window_size::announce(config.window, payloads);
        for sync in sync.iter().flatten() {
            payloads.notify(sync);
        }
        if let Some(ppk) = &ppk {
            let id = ppk::write_id(&ppk.id);
            payloads.notify(&Notify::new(NotifyType::PPK_IDENTITY, &id));
        }
        if let Some(auth) = &no_ppk_auth {
            payloads.notify(&Notify::new(NotifyType::NO_PPK_AUTH, auth.as_ref()));
        }
        if let Some(offer) = child.offer() {
            offer.write(Fresh::default(), payloads);
        }
        for (kind, data) in &introduction {
            payloads.notify(&Notify::new(*kind, data));
        }
        //= rfc5723#4.2
        //# When a multi-round-trip IKE_AUTH exchange is used, the
        //# N(TICKET_REQUEST) payload MUST be included in the first IKE_AUTH
        //# request
        if asks {
            payloads.notify(&Notify::new(NotifyType::TICKET_REQUEST, &[]));
        }
    })
    .map_err(SealError::from)
    .and_then(|plain| {
        let plain = plain.behind(solution);
        core.request_plain(cx, channel, ExchangeType::IKE_AUTH, plain)
    });
    match sent {
        Ok(()) => State::AuthSent(Box::new(AuthSent {
            handshake,
            psk,
            mixed,
            child,
        })),
        Err(error) => fail(
            core,
            cx,
            child,
            FailureReason::Unsendable(error.to_string()),
        ),
    }
}

impl AuthSent {
    pub(crate) fn on_response(
        mut self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        chain: PayloadChain<'_>,
    ) -> State {
        let contents = match Contents::read(chain) {
            Ok(contents) => contents,
            Err(error) => {
                let (kind, data) = error.notify();
                return self.refuse(core, cx, kind, &data, error.into());
            }
        };
        if let Some(reason) = fatal(core, &contents) {
            return fail(core, cx, self.child, reason);
        }
        //= rfc8784#3
        //# If it receives one, it marks the
        //# SA as using the configured PPK to generate SK_d, SK_pi, and SK_pr (as
        //# shown above); the content of the received PPK_IDENTITY (if any) MUST
        //# be ignored.
        let accepted = contents.has(NotifyType::PPK_IDENTITY);
        if let Some(mixed) = self.mixed.take_if(|_| accepted) {
            self.handshake.adopt(mixed);
        }
        //= rfc8784#3
        //# If the initiator does not receive the PPK_IDENTITY, it MUST either
        //# fail the IKE SA negotiation sending the AUTHENTICATION_FAILED
        //# notification in the INFORMATIONAL exchange (if the PPK was configured
        //# as mandatory) or continue without using the PPK (if the PPK was not
        //# configured as mandatory and the initiator included the NO_PPK_AUTH
        //# notification in the request).
        if core.config.ppk == PpkPolicy::Insist && !self.handshake.has_ppk() {
            let kind = NotifyType::AUTHENTICATION_FAILED;
            return self.refuse(core, cx, kind, &[], FailureReason::PpkRequired);
        }
        let remote = match self.authenticate(core, cx, &contents) {
            Ok(remote) => remote,
            Err(reason) => {
                return self.refuse(core, cx, NotifyType::AUTHENTICATION_FAILED, &[], reason);
            }
        };
        if let Some(asked) = redirect::asked(core, &contents) {
            return self.redirected(core, cx, asked);
        }
        core.childless = self.child.offer().is_none();
        core.authenticated(cx, &mut self.handshake, remote.clone());
        auth_lifetime::heed(core, cx, &contents);
        tickets::heed(core, cx, &self.handshake.channel.sk_d, &contents);
        mobike::agree(core, cx, &contents);
        set_window_size::heed(core, &contents);
        set_window_size::begin(core);
        crash_detection::heed(core, &contents);
        message_id_sync::agree(core, &contents);
        replay_counter_sync::agree(core, &contents);
        if is_heeded(&core.config, &contents) {
            let (by, begun, local) = (core.id, core.created, core.config.local_id.clone());
            cx.shared.initial_contacts.push(InitialContact {
                by,
                begun,
                local,
                remote,
            });
        }
        let Self {
            handshake, child, ..
        } = *self;
        let Handshake {
            channel, ni, nr, ..
        } = handshake;
        let mut established = Established::new(channel);
        //= rfc7296#2.21.2
        //# If authentication has succeeded in the IKE_AUTH exchange, the IKE SA
        //# is established; however, establishing the Child SA or requesting
        //# configuration information may still fail.  This failure does not
        //# automatically cause the IKE SA to be deleted.
        match child {
            FirstChild::Unwanted => {}
            FirstChild::Deferred(wanted) => {
                established.plan(Plan::new(What::Child(wanted)), None);
            }
            FirstChild::Offered(offer) => match offer.accept(core, &contents) {
                Ok(agreed) => {
                    let id = offer.wanted.id;
                    let source = KeySource {
                        sk_d: &established.channel.sk_d,
                        secrets: &[],
                        ni: &ni,
                        nr: &nr,
                    };
                    let install = agreed.install(core, id, None, true, source);
                    let request = cx.request(core.id, install);
                    let doomed = None;
                    let state = ChildState::Installing { request, doomed };
                    established.children.reserve_exact(1);
                    established.children.push(ChildSa {
                        id,
                        state,
                        established: None,
                        agreed,
                        replaces: None,
                        outbound: true,
                        redundant: None,
                    });
                }
                Err(NotAccepted {
                    reason,
                    peer_has_it,
                }) => {
                    if peer_has_it {
                        established.delete_spi(offer.own_spi());
                    }
                    give_up_child(core, cx, offer, reason);
                }
            },
        }
        Box::new(established).proceed(core, cx)
    }

    /// Whether the responder is who it should be, and who that is.
    fn authenticate(
        &self,
        core: &Core,
        cx: &Context<'_>,
        contents: &Contents<'_>,
    ) -> Result<Identity, FailureReason> {
        let failed = |cause| FailureReason::AuthenticationFailed {
            by: Party::Us,
            cause,
        };
        let missing = |kind| failed(AuthFailure::Missing(kind));
        let auth = contents.auth.ok_or_else(|| missing(PayloadType::AUTH))?;
        let id = contents.id_r.ok_or_else(|| missing(PayloadType::ID_R))?;
        let remote =
            Identity::from_wire(id.id_type.0, id.data).map_err(FailureReason::BadIdentity)?;
        if !core.config.remote_id.accepts(&remote) {
            let expected = core.config.remote_id.to_string();
            return Err(FailureReason::WrongIdentity {
                expected,
                got: remote,
            });
        }
        if let Some(resumption) = &self.handshake.resumption {
            if remote != resumption.remote_id {
                let expected = resumption.remote_id.to_string();
                let got = remote;
                return Err(FailureReason::WrongIdentity { expected, got });
            }
            let (sk_p, auth) = (&self.handshake.sk_pr, (auth.method, auth.data));
            self.handshake
                .verify_session(Role::Responder, sk_p, id.body(), auth)
                .map_err(failed)?;
            return Ok(remote);
        }
        let found;
        let psk = match &self.psk {
            Some((with, psk)) if *with == remote => psk,
            _ => {
                found = find_psk(core, cx, &self.handshake, &remote)?;
                &found
            }
        };
        self.handshake
            .verify(
                Role::Responder,
                &self.handshake.sk_pr,
                psk,
                id.body(),
                (auth.method, auth.data),
            )
            .map_err(failed)?;
        Ok(remote)
    }

    /// Refuses the responder and tells it so.
    //= rfc7296#2.21.2
    //# If the error occurs on the initiator, the notification MAY be
    //# returned in a separate INFORMATIONAL exchange, usually with no other
    //# payloads.
    fn refuse(
        self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        kind: NotifyType,
        data: &[u8],
        reason: FailureReason,
    ) -> State {
        self.child.give_up(core, cx);
        core.report_failure(cx, reason);
        Deleting::complain(core, cx, self.handshake.channel, kind, data)
    }

    /// The gateway, which is who it should be, sends us to another one.
    //= rfc5685#6
    //# the client MUST verify the gateway's AUTH payload before
    //# acting on the REDIRECT payload.
    //= rfc5685#6
    //# When the client receives the IKE_AUTH response with the
    //# REDIRECT payload, it SHOULD delete the IKEv2 security association
    //# with the gateway by sending an INFORMATIONAL message with a DELETE
    //# payload.
    fn redirected(self: Box<Self>, core: &mut Core, cx: &mut Context<'_>, asked: Asked) -> State {
        self.child.give_up(core, cx);
        let reason = match asked {
            Asked::Go(to) => FailureReason::Redirected { to },
            Asked::Forbidden(to) => FailureReason::RedirectForbidden { to },
        };
        core.report_failure(cx, reason);
        Deleting::begin(core, cx, self.handshake.channel, None)
    }

    pub(crate) fn give_up(
        self: Box<Self>,
        core: &mut Core,
        cx: &mut Context<'_>,
        exchange: ExchangeType,
        sent: u32,
    ) -> State {
        fail(
            core,
            cx,
            self.child,
            FailureReason::NoResponse { exchange, sent },
        )
    }
}

/// The errors of a responder that end the IKE SA.
fn fatal(core: &Core, contents: &Contents<'_>) -> Option<FailureReason> {
    //= rfc7296#2.21.2
    //# In an IKE_AUTH exchange, or in the INFORMATIONAL exchange immediately
    //# following it (in case an error happened when processing a response to
    //# IKE_AUTH), the UNSUPPORTED_CRITICAL_PAYLOAD, INVALID_SYNTAX, and
    //# AUTHENTICATION_FAILED notifications are the only ones to cause the
    //# IKE SA to be deleted or not created, without a Delete payload.
    let by = Party::Peer;
    for notify in &contents.notifies {
        match notify.kind {
            NotifyType::AUTHENTICATION_FAILED => {
                let cause = AuthFailure::ByPeer;
                return Some(FailureReason::AuthenticationFailed { by, cause });
            }
            NotifyType::INVALID_SYNTAX => {
                return Some(FailureReason::InvalidSyntax {
                    by,
                    detail: String::new(),
                });
            }
            NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD => {
                let payload = notify.unsupported_payload().unwrap_or(PayloadType::NONE);
                return Some(FailureReason::UnsupportedCriticalPayload { by, payload });
            }
            _ => {}
        }
    }
    // Without AUTH any other error is an answer to the whole request.
    let error = contents.error().filter(|_| contents.auth.is_none())?;
    Some(match error.kind {
        NotifyType::NO_PROPOSAL_CHOSEN => {
            let ours = core.config.proposals.clone();
            FailureReason::NoProposalChosen {
                by,
                ours,
                theirs: None,
            }
        }
        other => FailureReason::PeerNotify(other),
    })
}
