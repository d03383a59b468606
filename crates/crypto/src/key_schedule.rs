//! The key schedule of IKEv2 as one type per stage (RFC 7296 §2.13–2.14, 2.17–2.18), with additional key exchanges
//! (RFC 9370 §2.2.2, §2.2.4), post-quantum preshared keys (RFC 8784 §3, RFC 9867 §3.1) and resumption (RFC 5723 §5.1).
//!
//! ```text
//! g^ir, Ni, Nr ──► Skeyseed ──expand──► IkeKeys { sk_d, sk_ai, sk_ar, sk_ei, sk_er, sk_pi, sk_pr }
//!                     ▲                           │
//!                     ├── additional, with_ppk ◄──┤  in an IKE_INTERMEDIATE exchange
//!                     └─── rekeyed, resumed ◄──── SkD ──child_keys──► ChildKeys { initiator, responder }
//! ```
//!
//! A stage can only be made from the one before it, and [`Skeyseed::expand`] consumes it, so that a secret can be
//! neither skipped nor used twice.

use crate::algorithm::{Encryption, Integrity, Prf};
use crate::key_exchange::SharedSecret;
use crate::proposal::{EspSuite, IkeSuite};
use crate::protection::{Protection, ProtectionError};
use crate::secret::SecretBytes;

/// SKEYSEED, from which all keys of an IKE SA are expanded.
#[derive(Debug)]
pub struct Skeyseed(SecretBytes);

impl Skeyseed {
    /// The SKEYSEED of an IKE SA made by IKE_SA_INIT: `prf(Ni | Nr, g^ir)`.
    ///
    /// `ni` and `nr` are the nonces without payload headers. `prf` is the one just negotiated.
    pub fn initial(prf: Prf, ni: &[u8], nr: &[u8], shared: &SharedSecret) -> Self {
        //= rfc7296#2.14
        //# If the negotiated PRF is
        //# AES-XCBC-PRF-128 [AESXCBCPRF128] or AES-CMAC-PRF-128 [AESCMACPRF128],
        //# only the first 64 bits of Ni and the first 64 bits of Nr are used in
        //# calculating SKEYSEED, but all the bits are used for input to the prf+
        //# function.
        let taken = |nonce| match prf.nonce_len() {
            Some(len) => <[u8]>::get(nonce, ..len).unwrap_or(nonce),
            None => nonce,
        };
        // No secret: the nonces were sent in clear.
        let key = [taken(ni), taken(nr)].concat();
        Skeyseed(prf.compute(&key, &[shared.as_ref()]))
    }

    /// The SKEYSEED of an IKE SA made by rekeying: `prf(SK_d (old), g^ir (new) | Ni | Nr)`, and with additional key
    /// exchanges `prf(SK_d, SK(0) | Ni | Nr | SK(1) | … | SK(n))` (RFC 9370 §2.2.4).
    ///
    /// The PRF is the *old* SA's, which [`SkD`] carries; the nonces are those of the CREATE_CHILD_SA exchange, `shared`
    /// is its secret and `additional` those of the IKE_FOLLOWUP_KE exchanges in their order.
    pub fn rekeyed(
        old: &SkD,
        ni: &[u8],
        nr: &[u8],
        shared: &SharedSecret,
        additional: &[SharedSecret],
    ) -> Self {
        //= rfc7296#2.18
        //# The old and new IKE SA may have selected a different PRF.  Because
        //# the rekeying exchange belongs to the old IKE SA, it is the old IKE
        //# SA's PRF that is used to generate SKEYSEED.
        let mut parts = vec![shared.as_ref(), ni, nr];
        parts.extend(additional.iter().map(AsRef::as_ref));
        Skeyseed(old.prf.compute(old.key.as_ref(), &parts))
    }

    /// The SKEYSEED after an additional key exchange in IKE_INTERMEDIATE:
    /// `SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr)` (RFC 9370 §2.2.2).
    ///
    /// `previous` is the SK_d that was in force during the exchange, `ni` and `nr` are the nonces of IKE_SA_INIT. The IKE
    /// SA keeps its SPIs in [`Self::expand`].
    pub fn additional(previous: &SkD, ni: &[u8], nr: &[u8], shared: &SharedSecret) -> Self {
        Self::rekeyed(previous, ni, nr, shared, &[])
    }

    /// The SKEYSEED of an IKE SA that resumes another one: `prf(SK_d (old), "Resumption" | Ni | Nr)` (RFC 5723 §5.1).
    ///
    /// The nonces are those of the IKE_SESSION_RESUME exchange. The PRF is the old SA's, which is the new one's too.
    pub fn resumed(old: &SkD, ni: &[u8], nr: &[u8]) -> Self {
        //= rfc5723#5.1
        //# The literal string is
        //# encoded as 10 ASCII characters, with no NULL terminator.
        Skeyseed(old.prf.compute(old.key.as_ref(), &[b"Resumption", ni, nr]))
    }

    /// The SKEYSEED after a post-quantum preshared key was agreed on in IKE_INTERMEDIATE: `prf+(PPK, SK_d)`, as long as
    /// the PRF's preferred key (RFC 9867 §3.1).
    ///
    /// If the same exchange was an additional key exchange too, `previous` is the SK_d after that. The IKE SA keeps its
    /// nonces and SPIs in [`Self::expand`].
    pub fn with_ppk(previous: &SkD, ppk: &[u8]) -> Self {
        Skeyseed(mix_ppk(previous.prf, ppk, &previous.key))
    }

    /// All keys of the IKE SA: `prf+(SKEYSEED, Ni | Nr | SPIi | SPIr)` cut into SK_d, SK_ai, SK_ar, SK_ei, SK_er, SK_pi
    /// and SK_pr, with the PRF of `suite`.
    ///
    /// The SPIs are those of this IKE SA (the new ones when rekeying).
    pub fn expand(self, suite: &IkeSuite, ni: &[u8], nr: &[u8], spi_i: u64, spi_r: u64) -> IkeKeys {
        let prf = suite.prf;
        let integrity_len = suite.integrity.map_or(0, Integrity::key_len);
        let encryption_len = suite.encryption.key_len();
        let len = 3 * prf.output_len() + 2 * integrity_len + 2 * encryption_len;
        let mut stream = KeyStream::new(
            prf,
            &self.0,
            &[ni, nr, &spi_i.to_be_bytes(), &spi_r.to_be_bytes()],
            len,
        );
        //= rfc7296#2.14
        //# The lengths of SK_d, SK_pi,
        //# and SK_pr MUST be the preferred key length of the PRF agreed upon.
        IkeKeys {
            sk_d: SkD {
                prf,
                key: stream.take(prf.output_len()),
            },
            sk_ai: stream.take(integrity_len),
            sk_ar: stream.take(integrity_len),
            sk_ei: stream.take(encryption_len),
            sk_er: stream.take(encryption_len),
            sk_pi: AuthKey {
                prf,
                key: stream.take(prf.output_len()),
            },
            sk_pr: AuthKey {
                prf,
                key: stream.take(prf.output_len()),
            },
        }
    }

    /// The octets, for known-answer tests.
    #[cfg(test)]
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// A SKEYSEED from octets, for known-answer tests that start in the middle.
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Skeyseed(SecretBytes::copy_from(bytes))
    }
}

/// The keys of one IKE SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IkeKeys {
    /// SK_d, from which the keys of Child SAs and of the next IKE SA are derived.
    pub sk_d: SkD,
    /// SK_ai: integrity key for messages of the original initiator; empty with an AEAD cipher.
    pub sk_ai: SecretBytes,
    /// SK_ar: integrity key for messages of the original responder; empty with an AEAD cipher.
    pub sk_ar: SecretBytes,
    /// SK_ei: encryption key (salt included) for messages of the original initiator.
    pub sk_ei: SecretBytes,
    /// SK_er: encryption key (salt included) for messages of the original responder.
    pub sk_er: SecretBytes,
    /// SK_pi, which goes into the AUTH payload of the initiator.
    pub sk_pi: AuthKey,
    /// SK_pr, which goes into the AUTH payload of the responder.
    pub sk_pr: AuthKey,
}

impl IkeKeys {
    /// The keys in the forms in which they are used.
    ///
    /// # Errors
    ///
    /// If `suite` is not the one that these keys were expanded for.
    pub fn into_use(self, suite: &IkeSuite) -> Result<IkeKeysInUse, ProtectionError> {
        let protection =
            |sk_e, sk_a| Protection::with_keys(suite.encryption, suite.integrity, sk_e, sk_a);
        Ok(IkeKeysInUse {
            initiator: protection(self.sk_ei, self.sk_ai)?,
            responder: protection(self.sk_er, self.sk_ar)?,
            sk_d: self.sk_d,
            sk_pi: self.sk_pi,
            sk_pr: self.sk_pr,
        })
    }
}

/// The keys of one IKE SA in the forms in which they are used.
#[derive(Debug)]
pub struct IkeKeysInUse {
    /// The protection of messages that the original initiator of the IKE SA sends: SK_ei and SK_ai.
    pub initiator: Protection,
    /// The protection of messages that the original responder of the IKE SA sends: SK_er and SK_ar.
    pub responder: Protection,
    /// SK_d.
    pub sk_d: SkD,
    /// SK_pi.
    pub sk_pi: AuthKey,
    /// SK_pr.
    pub sk_pr: AuthKey,
}

/// SK_d with the PRF that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkD {
    prf: Prf,
    key: SecretBytes,
}

impl SkD {
    /// The PRF of the IKE SA.
    pub fn prf(&self) -> Prf {
        self.prf
    }

    /// SK_d as [`Self::secret`] gave it; `None` if it has not the length that the PRF wants.
    pub fn restore(prf: Prf, key: SecretBytes) -> Option<Self> {
        (key.len() == prf.output_len()).then_some(SkD { prf, key })
    }

    /// The octets, for a ticket by which the IKE SA can be resumed (RFC 5723 §6.1).
    pub fn secret(&self) -> &SecretBytes {
        &self.key
    }

    /// SK_d with a post-quantum preshared key mixed in: `prf+(PPK, SK_d')` (RFC 8784 §3). SK_pi and SK_pr change with it.
    pub fn with_ppk(&self, ppk: &[u8]) -> Self {
        SkD {
            prf: self.prf,
            key: mix_ppk(self.prf, ppk, &self.key),
        }
    }

    /// The keys of a Child SA: `KEYMAT = prf+(SK_d, [g^ir (new)] | Ni | Nr)` (RFC 7296 §2.17), and with additional key
    /// exchanges `prf+(SK_d, SK(0) | Ni | Nr | SK(1) | … | SK(n))` (RFC 9370 §2.2.4).
    ///
    /// `secrets` are those of the CREATE_CHILD_SA exchange and of the IKE_FOLLOWUP_KE exchanges after it, in their order;
    /// none for the first Child SA and without perfect forward secrecy. The nonces are those of the exchange that makes
    /// the Child SA: IKE_SA_INIT's for the first one. "Initiator" and "responder" in the result are the roles in that
    /// exchange, whoever began the IKE SA.
    pub fn child_keys(
        &self,
        suite: &EspSuite,
        secrets: &[SharedSecret],
        ni: &[u8],
        nr: &[u8],
    ) -> ChildKeys {
        let encryption_len = suite.encryption.map_or(0, Encryption::key_len);
        let integrity_len = suite.integrity.map_or(0, Integrity::key_len);
        let (first, additional) = match secrets {
            [first, additional @ ..] => (first.as_ref(), additional),
            [] => (&[][..], &[][..]),
        };
        let mut seed = vec![first, ni, nr];
        seed.extend(additional.iter().map(AsRef::as_ref));
        let mut stream = KeyStream::new(
            self.prf,
            &self.key,
            &seed,
            2 * (encryption_len + integrity_len),
        );
        //= rfc7296#2.17
        //# All keys for SAs carrying data from the initiator to the responder
        //# are taken before SAs going from the responder to the initiator.
        //= rfc7296#2.17
        //# the encryption key (if any) MUST be
        //# taken from the first bits and the integrity key (if any) MUST be
        //# taken from the remaining bits.
        let mut direction = || DirectionKeys {
            encryption: stream.take(encryption_len),
            integrity: stream.take(integrity_len),
        };
        ChildKeys {
            initiator: direction(),
            responder: direction(),
        }
    }

    /// An SK_d from octets, for known-answer tests that start in the middle.
    #[cfg(test)]
    pub(crate) fn from_bytes(prf: Prf, bytes: &[u8]) -> Self {
        SkD {
            prf,
            key: SecretBytes::copy_from(bytes),
        }
    }

    /// The octets, for known-answer tests.
    #[cfg(test)]
    pub(crate) fn expose(&self) -> &[u8] {
        self.key.as_ref()
    }
}

/// SK_pi or SK_pr with the PRF that it belongs to: the key that binds an identity to the IKE SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthKey {
    prf: Prf,
    key: SecretBytes,
}

impl AuthKey {
    /// An AUTH key from its octets: the MSK of an EAP method, or a test vector.
    pub fn new(prf: Prf, key: SecretBytes) -> Self {
        AuthKey { prf, key }
    }

    /// The key with a post-quantum preshared key mixed in: `prf+(PPK, SK_p')` (RFC 8784 §3). The one without it is still
    /// needed where NO_PPK_AUTH is possible.
    pub fn with_ppk(&self, ppk: &[u8]) -> Self {
        AuthKey {
            prf: self.prf,
            key: mix_ppk(self.prf, ppk, &self.key),
        }
    }

    /// `prf(SK_p, parts…)`.
    pub fn mac(&self, parts: &[&[u8]]) -> SecretBytes {
        self.prf.compute(self.key.as_ref(), parts)
    }

    /// The PRF of the IKE SA.
    pub fn prf(&self) -> Prf {
        self.prf
    }

    /// The octets, for known-answer tests.
    #[cfg(test)]
    pub(crate) fn expose(&self) -> &[u8] {
        self.key.as_ref()
    }
}

/// The keys of a Child SA pair, by the role in the exchange that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildKeys {
    /// For packets from the initiator of the exchange to its responder.
    pub initiator: DirectionKeys,
    /// For packets from the responder of the exchange to its initiator.
    pub responder: DirectionKeys,
}

/// The keys of one direction of a Child SA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectionKeys {
    /// Key of the cipher, with the salt at its end for AEAD ciphers.
    pub encryption: SecretBytes,
    /// Key of the integrity algorithm; empty with an AEAD cipher.
    pub integrity: SecretBytes,
}

/// What shows that both ends mean the same PPK: the first eight octets of `prf(PPK, Ni | Nr | SPIi | SPIr)`
/// (RFC 9867 §3.1, the PPK Confirmation of a PPK_IDENTITY_KEY notify).
pub fn ppk_confirmation(
    prf: Prf,
    ppk: &[u8],
    ni: &[u8],
    nr: &[u8],
    spi_i: u64,
    spi_r: u64,
) -> [u8; 8] {
    let spis = (spi_i.to_be_bytes(), spi_r.to_be_bytes());
    let whole = prf.compute(ppk, &[ni, nr, &spis.0, &spis.1]);
    // Every PRF has more output than that.
    whole.as_ref().first_chunk().copied().unwrap_or_default()
}

/// `prf+(PPK, SK_x)`, as long as `key` (RFC 8784 §3).
fn mix_ppk(prf: Prf, ppk: &[u8], key: &SecretBytes) -> SecretBytes {
    KeyStream::new(
        prf,
        &SecretBytes::copy_from(ppk),
        &[key.as_ref()],
        key.len(),
    )
    .take(key.len())
}

/// The output of prf+, taken piece by piece.
struct KeyStream {
    bytes: SecretBytes,
    taken: usize,
}

impl KeyStream {
    fn new(prf: Prf, key: &SecretBytes, seed: &[&[u8]], len: usize) -> Self {
        let bytes = prf
            .expand(key.as_ref(), seed, len)
            .expect("keys of any suite are far shorter than 255 PRF outputs");
        KeyStream { bytes, taken: 0 }
    }

    /// The next `len` octets; what `new` was asked for is exactly what its callers take.
    fn take(&mut self, len: usize) -> SecretBytes {
        let rest = self.bytes.as_ref().get(self.taken..).unwrap_or_default();
        let piece = rest.get(..len).unwrap_or_default();
        debug_assert_eq!(
            piece.len(),
            len,
            "keymat is as long as what is taken from it"
        );
        self.taken += piece.len();
        SecretBytes::copy_from(piece)
    }
}

#[cfg(test)]
mod tests;
