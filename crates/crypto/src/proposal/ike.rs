//! Proposals for IKE SAs.

use std::fmt;

use super::{
    AEAD_CIPHERS, AdditionalOffer, CBC_CIPHERS, NameError, additional, ipsec_conf, join,
    strongswan, weaknesses,
};
use crate::algorithm::{Encryption, Integrity, KeyExchange, Prf};

/// One proposal for an IKE SA: of each list the peer takes one algorithm. Most preferred first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IkeProposal {
    /// Ciphers, either all AEAD or none.
    pub encryption: Vec<Encryption>,
    /// Integrity algorithms; empty if the ciphers are AEAD.
    pub integrity: Vec<Integrity>,
    /// Pseudorandom functions.
    pub prf: Vec<Prf>,
    /// Key exchange methods; the first is the one to guess in IKE_SA_INIT.
    pub key_exchange: Vec<KeyExchange>,
    /// Additional key exchanges, done one after the other in IKE_INTERMEDIATE (RFC 9370).
    pub additional: AdditionalOffer,
}

impl IkeProposal {
    /// Parses the value of `ike=` in ipsec.conf: `aes_gcm_16_256-sha2_512-dh31, aes256-sha2_256;modp2048`.
    ///
    /// What a proposal leaves out is filled in: key lengths (256, then 128), PRF (from the integrity algorithm, or
    /// SHA-2 512, 384, 256), integrity (from the PRF), key exchange ([`KeyExchange::DEFAULT`]).
    ///
    /// # Errors
    ///
    /// At the first name that is wrong, unknown, or known but not supported.
    pub fn parse_ipsec_conf(text: &str) -> Result<Vec<Self>, NameError> {
        ipsec_conf::parse_ike(text)
    }

    /// Parses the value of `proposals` in swanctl.conf: `aes256gcm16-prfsha256-x25519, aes256-sha256-modp2048`, or
    /// `default`.
    ///
    /// As in strongSwan the key exchange must be given, and the PRF too where no integrity algorithm implies it.
    ///
    /// # Errors
    ///
    /// At the first name that is wrong, unknown, or known but not supported.
    pub fn parse_strongswan(text: &str) -> Result<Vec<Self>, NameError> {
        strongswan::parse_ike(text)
    }

    /// What is proposed when nothing is configured: the AEAD ciphers with ML-KEM-768 as an additional key exchange, the
    /// same without it for peers that do not know such a thing, then AES-CBC with HMAC.
    pub fn default_list() -> Vec<Self> {
        let aead = IkeProposal {
            encryption: AEAD_CIPHERS.to_vec(),
            integrity: Vec::new(),
            prf: Prf::DEFAULT.to_vec(),
            key_exchange: KeyExchange::DEFAULT.to_vec(),
            additional: AdditionalOffer::default(),
        };
        let mut hybrid = aead.clone();
        if let Some(first) = hybrid.additional.first_mut() {
            first.push(Some(KeyExchange::MlKem768));
        }
        let cbc = IkeProposal {
            encryption: CBC_CIPHERS.to_vec(),
            integrity: Integrity::DEFAULT.to_vec(),
            ..aead.clone()
        };
        vec![hybrid, aead, cbc]
    }

    /// Why some of the algorithms are weak, for warnings.
    pub fn weaknesses(&self) -> impl Iterator<Item = &'static str> {
        let methods = self.additional.iter().flatten().flatten();
        weaknesses(
            (self.encryption.iter().map(|e| e.weakness()))
                .chain(self.integrity.iter().map(|i| i.weakness()))
                .chain(self.prf.iter().map(|p| p.weakness()))
                .chain(
                    self.key_exchange
                        .iter()
                        .chain(methods)
                        .map(|k| k.weakness()),
                ),
        )
    }

    /// Whether each PRF is the one on the hash of the integrity algorithm at its place, and so need not be written.
    pub(super) fn prf_is_implied(&self) -> bool {
        self.prf.len() == self.integrity.len()
            && self
                .prf
                .iter()
                .zip(&self.integrity)
                .all(|(prf, integrity)| *prf == integrity.matching_prf())
    }

    /// In the notation of swanctl.conf.
    pub fn to_strongswan(&self) -> String {
        let mut parts = vec![join(&self.encryption, "-", Encryption::strongswan_name)];
        if !self.integrity.is_empty() {
            parts.push(join(&self.integrity, "-", Integrity::strongswan_name));
        }
        if !self.prf_is_implied() {
            parts.push(join(&self.prf, "-", Prf::strongswan_name));
        }
        parts.push(join(&self.key_exchange, "-", KeyExchange::strongswan_name));
        parts.extend(additional::strongswan(&self.additional));
        parts.join("-")
    }
}

/// In the notation of ipsec.conf.
impl fmt::Display for IkeProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join(&self.encryption, "+", Encryption::ipsec_conf_name))?;
        // A single hash stands for both PRF and integrity algorithm.
        if !self.prf_is_implied() || self.integrity.is_empty() {
            write!(f, "-{}", join(&self.prf, "+", Prf::ipsec_conf_name))?;
        }
        if !self.integrity.is_empty() {
            write!(
                f,
                "-{}",
                join(&self.integrity, "+", Integrity::ipsec_conf_name)
            )?;
        }
        write!(
            f,
            "-{}",
            join(&self.key_exchange, "+", KeyExchange::ipsec_conf_name)
        )?;
        additional::fmt_ipsec_conf(&self.additional, f)
    }
}
