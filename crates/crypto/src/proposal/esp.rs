//! Proposals for ESP and AH SAs.

use std::fmt;

use super::{
    AEAD_CIPHERS, AdditionalOffer, CBC_CIPHERS, NameError, additional, ipsec_conf, join,
    strongswan, weaknesses,
};
use crate::algorithm::{Encryption, Integrity, KeyExchange};

/// One proposal for a pair of ESP or AH SAs: of each list the peer takes one. Most preferred first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EspProposal {
    /// Ciphers, either all AEAD or none; empty for AH.
    pub encryption: Vec<Encryption>,
    /// Integrity algorithms; empty if the ciphers are AEAD.
    pub integrity: Vec<Integrity>,
    /// Key exchange methods for CREATE_CHILD_SA; empty if none was named. (The Child SA of IKE_AUTH has no key exchange
    /// of its own in any case.)
    pub key_exchange: Vec<KeyExchange>,
    /// Additional key exchanges, done one after the other in IKE_FOLLOWUP_KE (RFC 9370); none without the first one.
    pub additional: AdditionalOffer,
    /// Acceptable kinds of sequence numbers: `true` is extended (64 bits). Never empty.
    pub esn: Vec<bool>,
}

impl EspProposal {
    /// Parses the value of `esp=` (or `phase2alg=`) in ipsec.conf: `aes_gcm_16_256-dh31, aes256-sha2_256;modp2048`.
    ///
    /// What a proposal leaves out is filled in: key lengths (256, then 128), integrity (SHA-2 512, 384, 256), sequence
    /// numbers (extended, then not, which `esn=` may narrow). The key exchange stays empty if it is not given or `none`,
    /// which with `pfs=yes` stands for that of the IKE SA.
    ///
    /// # Errors
    ///
    /// At the first name that is wrong, unknown, or known but not supported.
    pub fn parse_ipsec_conf(text: &str) -> Result<Vec<Self>, NameError> {
        ipsec_conf::parse_esp(text)
    }

    /// Parses the value of `ah=` in ipsec.conf: `sha2_256-dh31, aes_xcbc`. The algorithms are those of integrity; what is
    /// left out is filled in as for ESP.
    ///
    /// # Errors
    ///
    /// At the first name that is wrong, unknown, or known but not supported.
    pub fn parse_ah_ipsec_conf(text: &str) -> Result<Vec<Self>, NameError> {
        ipsec_conf::parse_ah(text)
    }

    /// Parses the value of `esp_proposals` in swanctl.conf: `aes256gcm16-x25519, aes256-sha256-noesn`, or `default`.
    /// Sequence numbers are not extended unless `esn` is given.
    ///
    /// # Errors
    ///
    /// At the first name that is wrong, unknown, or known but not supported.
    pub fn parse_strongswan(text: &str) -> Result<Vec<Self>, NameError> {
        strongswan::parse_esp(text)
    }

    /// What is proposed when nothing is configured: the AEAD ciphers, then AES-CBC with HMAC.
    pub fn default_list() -> Vec<Self> {
        vec![
            EspProposal {
                encryption: AEAD_CIPHERS.to_vec(),
                integrity: Vec::new(),
                key_exchange: Vec::new(),
                additional: AdditionalOffer::default(),
                esn: vec![true, false],
            },
            EspProposal {
                encryption: CBC_CIPHERS.to_vec(),
                integrity: Integrity::DEFAULT.to_vec(),
                key_exchange: Vec::new(),
                additional: AdditionalOffer::default(),
                esn: vec![true, false],
            },
        ]
    }

    /// The same for AH.
    pub fn ah_default_list() -> Vec<Self> {
        vec![EspProposal {
            encryption: Vec::new(),
            integrity: Integrity::DEFAULT.to_vec(),
            key_exchange: Vec::new(),
            additional: AdditionalOffer::default(),
            esn: vec![true, false],
        }]
    }

    /// Why some of the algorithms are weak, for warnings.
    pub fn weaknesses(&self) -> impl Iterator<Item = &'static str> {
        let methods = self.additional.iter().flatten().flatten();
        weaknesses(
            (self.encryption.iter().map(|e| e.weakness()))
                .chain(self.integrity.iter().map(|i| i.weakness()))
                .chain(
                    self.key_exchange
                        .iter()
                        .chain(methods)
                        .map(|k| k.weakness()),
                ),
        )
    }

    /// In the notation of swanctl.conf.
    pub fn to_strongswan(&self) -> String {
        let mut parts = Vec::new();
        if !self.encryption.is_empty() {
            parts.push(join(&self.encryption, "-", Encryption::strongswan_name));
        }
        if !self.integrity.is_empty() {
            parts.push(join(&self.integrity, "-", Integrity::strongswan_name));
        }
        if !self.key_exchange.is_empty() {
            parts.push(join(&self.key_exchange, "-", KeyExchange::strongswan_name));
        }
        parts.extend(additional::strongswan(&self.additional));
        if self.esn != [false] {
            parts.push(join(
                &self.esn,
                "-",
                |esn| if esn { "esn" } else { "noesn" },
            ));
        }
        parts.join("-")
    }
}

/// In the notation of ipsec.conf.
impl fmt::Display for EspProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encryption = join(&self.encryption, "+", Encryption::ipsec_conf_name);
        let integrity = join(&self.integrity, "+", Integrity::ipsec_conf_name);
        let mut algorithms = vec![encryption, integrity];
        algorithms.retain(|list| !list.is_empty());
        f.write_str(&algorithms.join("-"))?;
        if !self.key_exchange.is_empty() {
            write!(
                f,
                "-{}",
                join(&self.key_exchange, "+", KeyExchange::ipsec_conf_name)
            )?;
        }
        additional::fmt_ipsec_conf(&self.additional, f)?;
        if self.esn != [true, false] {
            write!(
                f,
                ";sn={}",
                join(&self.esn, "+", |esn| if esn { "yes" } else { "no" })
            )?;
        }
        Ok(())
    }
}
