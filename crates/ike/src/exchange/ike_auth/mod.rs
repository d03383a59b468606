//! IKE_AUTH: both ends prove who they are and make the first child SA (RFC 7296 §1.2, §2.15, §2.21.2).

mod deferred;
mod initiator;
mod responder;

pub(crate) use deferred::{Deferred, KeysDeferred};
pub(crate) use initiator::{AuthSent, SpiWanted, begin};
pub(crate) use responder::{AuthAwaited, ChildPending, choose_child};

use std::sync::Arc;

use cygnet_crypto::{AuthKey, PskKey, SecretBytes, SignedOctets};
use cygnet_wire::{AuthMethodId, NotifyType};

use crate::config::{ChildConfig, PeerConfig, Uniqueness};
use crate::contents::Contents;
use crate::context::Context;
use crate::exchange::ike_sa_init::Handshake;
use crate::exchange::ike_session_resume::ResumptionAuth;
use crate::identity::Identity;
use crate::info::{IkeSaState, Role};
use crate::io::{ChildSaId, Event};
use crate::ppk;
use crate::reason::{AuthFailure, ChildFailure};
use crate::sa::Core;

/// Whether a message says that the peer has no other IKE SA with us, and we act on that.
fn is_heeded(config: &PeerConfig, contents: &Contents<'_>) -> bool {
    config.uniqueness != Uniqueness::Never && contents.has(NotifyType::INITIAL_CONTACT)
}

/// By what an end proves who it is.
#[derive(Clone, Debug)]
enum Credential {
    /// A pre-shared key.
    Psk(PskKey),
    /// The keys of the session that is resumed.
    Session(ResumptionAuth),
}

impl Handshake {
    /// The AUTH data by which `role` proves that it is whom its ID payload names. `sk_p` is its SK_pi or SK_pr.
    fn auth_data(
        &self,
        role: Role,
        sk_p: &AuthKey,
        by: &Credential,
        id_body: &[u8],
    ) -> SecretBytes {
        let int_auth = self.intermediate.int_auth.octets();
        let octets = self.signed_by(role, sk_p, id_body, &int_auth);
        match by {
            Credential::Psk(psk) => octets.psk_auth(psk),
            Credential::Session(way) => way.data(sk_p, &octets),
        }
    }

    /// In which way the AUTH data of `role` show that it has the keys of the session that is resumed.
    fn verify_session(
        &self,
        role: Role,
        sk_p: &AuthKey,
        id_body: &[u8],
        (method, data): (AuthMethodId, &[u8]),
    ) -> Result<ResumptionAuth, AuthFailure> {
        if method != AuthMethodId::SHARED_KEY {
            return Err(AuthFailure::Method(method.0));
        }
        let int_auth = self.intermediate.int_auth.octets();
        let octets = self.signed_by(role, sk_p, id_body, &int_auth);
        ResumptionAuth::of(sk_p, &octets, data).ok_or(AuthFailure::WrongSession)
    }

    /// Whether the AUTH data of `role` are the right ones.
    fn verify(
        &self,
        role: Role,
        sk_p: &AuthKey,
        psk: &PskKey,
        id_body: &[u8],
        (method, data): (AuthMethodId, &[u8]),
    ) -> Result<(), AuthFailure> {
        if method != AuthMethodId::SHARED_KEY {
            return Err(AuthFailure::Method(method.0));
        }
        let int_auth = self.intermediate.int_auth.octets();
        let octets = self.signed_by(role, sk_p, id_body, &int_auth);
        if octets.psk_auth_verify(psk, data) {
            Ok(())
        } else {
            Err(AuthFailure::WrongPsk)
        }
    }

    /// Whether a PPK has part in the keys.
    fn has_ppk(&self) -> bool {
        matches!(self.ppk, ppk::Stage::Mixed(_)) || self.resumption.as_ref().is_some_and(|r| r.ppk)
    }

    /// What `role` signs.
    //= rfc7296#2.15
    //# For the responder, the octets to
    //# be signed start with the first octet of the first SPI in the header
    //# of the second message (IKE_SA_INIT response) and end with the last
    //# octet of the last payload in the second message.
    //= rfc9242#3.3.2
    //# InitiatorSignedOctets = RealMsg1 | NonceRData | MACedIDForI | IntAuth
    //# ResponderSignedOctets = RealMsg2 | NonceIData | MACedIDForR | IntAuth
    fn signed_by<'a>(
        &'a self,
        role: Role,
        sk_p: &'a AuthKey,
        id_payload_body: &'a [u8],
        int_auth: &'a [u8],
    ) -> SignedOctets<'a> {
        let (first_message, peer_nonce) = match role {
            Role::Initiator => (&self.request, &self.nr),
            Role::Responder => (&self.response, &self.ni),
        };
        SignedOctets {
            first_message,
            peer_nonce,
            sk_p,
            id_payload_body,
            int_auth,
        }
    }
}

impl Core {
    /// Notes and reports that the peer is authenticated.
    fn authenticated(&mut self, cx: &mut Context<'_>, handshake: &mut Handshake, remote: Identity) {
        self.remote_id = Some(remote);
        self.established = Some(cx.now);
        self.ppk = handshake.has_ppk();
        cx.shared.stats.established = cx.shared.stats.established.saturating_add(1);
        if handshake.resumption.is_some() {
            cx.shared.stats.resumed = cx.shared.stats.resumed.saturating_add(1);
            if let Some(tickets) = &mut self.tickets {
                tickets.set_resumed();
            }
        }
        let info = Box::new(self.info(IkeSaState::Established, Vec::new()));
        let keys = handshake.key_log.take();
        cx.event(Event::IkeEstablished {
            ike: self.id,
            info,
            keys,
        });
    }
}

/// Reports that a child SA has not come about.
pub(crate) fn child_failed(
    core: &Core,
    cx: &mut Context<'_>,
    child: ChildSaId,
    config: Option<Arc<ChildConfig>>,
    reason: ChildFailure,
) {
    cx.shared.children.remove(&child);
    cx.event(Event::ChildFailed {
        ike: core.id,
        child,
        config,
        reason,
    });
}
