//! Post-quantum pre-shared keys (PPK): mixed into the keys by IKE_AUTH (RFC 8784), or before it by IKE_INTERMEDIATE
//! (RFC 9867), which protects the IKE SA itself too.

use cygnet_crypto::{AuthKey, SecretBytes, SkD, Skeyseed, constant_time_eq, ppk_confirmation};
use cygnet_wire::{Notify, NotifyType, PayloadWriter, PpkIdType};

use crate::config::PeerConfig;
use crate::contents::Contents;
use crate::context::Context;
use crate::exchange::ike_sa_init::Handshake;
use crate::reason::FailureReason;

/// PPKs that we name to a peer, and that we look at of those that it names.
const MAX_NAMED: usize = 16;
/// Octets of a PPK Confirmation (RFC 9867 §3.1).
const CONFIRMATION_LEN: usize = 8;

/// Whether a PPK is used with a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PpkPolicy {
    /// Never.
    #[default]
    Never,
    /// If the peer begins with one.
    Permit,
    /// If the peer has it too.
    Propose,
    /// Always: without one there is no IKE SA.
    Insist,
}

/// A post-quantum pre-shared key with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ppk {
    /// The name, by which the other end finds the same key; without the octet that says of what type it is.
    pub id: Vec<u8>,
    /// The key.
    pub key: SecretBytes,
}

/// What IKE_SA_INIT has agreed on, and what has come of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No PPK is used.
    #[default]
    Unused,
    /// One is to be named in IKE_AUTH.
    InAuth,
    /// One is to be named in the last IKE_INTERMEDIATE exchange.
    InIntermediate,
    /// It is in the keys. Its name.
    Mixed(Vec<u8>),
}

/// The keys that a PPK changes in IKE_AUTH.
#[derive(Debug)]
pub(crate) struct Mixed {
    id: Vec<u8>,
    sk_d: SkD,
    pub(crate) sk_pi: AuthKey,
    pub(crate) sk_pr: AuthKey,
}

/// The PPKs for a peer, best first.
pub(crate) fn usable(cx: &Context<'_>, config: &PeerConfig) -> Vec<Ppk> {
    let mut ppks = match config.ppk {
        PpkPolicy::Never => Vec::new(),
        _ => cx.directory.ppks(config),
    };
    ppks.truncate(MAX_NAMED);
    ppks
}

/// An initiator's word in IKE_SA_INIT.
//= rfc8784#3
//# If the initiator is configured to use a PPK with the responder
//# (whether or not the use of the PPK is mandatory), then it MUST
//# include a notification USE_PPK in the IKE_SA_INIT request message
pub(crate) fn propose(payloads: &mut PayloadWriter<'_>) {
    payloads
        .notify(&Notify::new(NotifyType::USE_PPK, &[]))
        .notify(&Notify::new(NotifyType::USE_PPK_INT, &[]));
}

/// What both ends want, as far as the other's message says; `ours`: we are willing. The way by IKE_INTERMEDIATE is the
/// better one.
pub(crate) fn agreed(ours: bool, intermediate: bool, peer: &Contents<'_>) -> Stage {
    if ours && intermediate && peer.has(NotifyType::USE_PPK_INT) {
        Stage::InIntermediate
    } else if ours && peer.has(NotifyType::USE_PPK) {
        Stage::InAuth
    } else {
        Stage::Unused
    }
}

/// A responder's word in IKE_SA_INIT.
pub(crate) fn confirm(stage: &Stage, payloads: &mut PayloadWriter<'_>) {
    let kind = match stage {
        Stage::InIntermediate => NotifyType::USE_PPK_INT,
        Stage::InAuth => NotifyType::USE_PPK,
        Stage::Unused | Stage::Mixed(_) => return,
    };
    payloads.notify(&Notify::new(kind, &[]));
}

/// A name as it stands in a notification.
pub(crate) fn write_id(id: &[u8]) -> Vec<u8> {
    [&[PpkIdType::FIXED.0], id].concat()
}

/// The name in a notification, if it is of the type that has one.
fn read_id(data: &[u8]) -> Option<&[u8]> {
    let (kind, id) = data.split_first()?;
    (PpkIdType(*kind) == PpkIdType::FIXED && !id.is_empty()).then_some(id)
}

/// The name in the PPK_IDENTITY notification of a message. `Some(None)`: there is one with a name of unknown form.
pub(crate) fn named<'a>(contents: &Contents<'a>) -> Option<Option<&'a [u8]>> {
    let notify = contents.notify(NotifyType::PPK_IDENTITY)?;
    Some(read_id(notify.data))
}

impl Handshake {
    /// The keys with a PPK mixed in (RFC 8784 §3).
    pub(crate) fn mixed(&self, ppk: &Ppk) -> Mixed {
        let key = ppk.key.as_ref();
        Mixed {
            id: ppk.id.clone(),
            sk_d: self.channel.sk_d.with_ppk(key),
            sk_pi: self.sk_pi.with_ppk(key),
            sk_pr: self.sk_pr.with_ppk(key),
        }
    }

    /// Goes on with the keys that [`Self::mixed`] has made.
    pub(crate) fn adopt(&mut self, mixed: Mixed) {
        self.channel.sk_d = mixed.sk_d;
        self.sk_pi = mixed.sk_pi;
        self.sk_pr = mixed.sk_pr;
        self.ppk = Stage::Mixed(mixed.id);
    }

    /// Replaces all keys by those that a PPK makes of them (RFC 9867 §3.1).
    pub(crate) fn mix_in(&mut self, ppk: &Ppk) -> Result<(), FailureReason> {
        self.update_keys(|sk_d, _, _| Skeyseed::with_ppk(sk_d, ppk.key.as_ref()))?;
        self.ppk = Stage::Mixed(ppk.id.clone());
        Ok(())
    }

    /// Names a PPK in IKE_INTERMEDIATE.
    pub(crate) fn identity_key(&self, ppk: &Ppk) -> Vec<u8> {
        let mut data = write_id(&ppk.id);
        data.extend(self.confirmation(ppk));
        data
    }

    /// The PPK of ours that a peer has named in IKE_INTERMEDIATE, and has with the same content.
    pub(crate) fn confirmed<'a>(
        &self,
        contents: &Contents<'_>,
        ours: &'a [Ppk],
    ) -> Option<&'a Ppk> {
        let named = contents.data_of(NotifyType::PPK_IDENTITY_KEY);
        named.into_iter().take(MAX_NAMED).find_map(|data| {
            let (id, confirmation) =
                data.split_at_checked(data.len().checked_sub(CONFIRMATION_LEN)?)?;
            let id = read_id(id)?;
            ours.iter()
                .find(|ppk| ppk.id == id && constant_time_eq(&self.confirmation(ppk), confirmation))
        })
    }

    fn confirmation(&self, ppk: &Ppk) -> [u8; CONFIRMATION_LEN] {
        let (i, r) = self.spis();
        ppk_confirmation(
            self.suite.prf,
            ppk.key.as_ref(),
            &self.ni,
            &self.nr,
            i.0,
            r.0,
        )
    }
}
