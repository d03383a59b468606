//! Key exchange, nonces, certificates and authentication (RFC 7296, 3.4, 3.6 to 3.9).

use crate::error::{ParseError, ParseErrorKind};
use crate::limits::NONCE_LEN;
use crate::reader::Reader;
use crate::registry::{AuthMethodId, CertEncoding, KeId};

/// Key Exchange payload (RFC 7296, 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KePayload<'a> {
    /// The method that `data` is for.
    pub method: KeId,
    /// The public value, in the form that the method defines. Its length is not checked here.
    pub data: &'a [u8],
}

impl<'a> KePayload<'a> {
    /// Reads the body of a KE payload.
    ///
    /// # Errors
    /// If it is shorter than four octets.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let method = KeId(reader.u16()?);
        let _reserved = reader.u16()?;
        Ok(Self {
            method,
            data: reader.take_rest(),
        })
    }
}

/// Nonce payload (RFC 7296, 3.9): 16 to 256 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoncePayload<'a> {
    data: &'a [u8],
}

impl<'a> NoncePayload<'a> {
    /// Reads the body of a Nonce payload.
    ///
    /// # Errors
    /// If it is shorter than 16 or longer than 256 octets.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        //= rfc7296#3.9
        //# The size of the Nonce Data MUST be between 16 and 256 octets,
        //# inclusive.
        if NONCE_LEN.contains(&body.len()) {
            Ok(Self { data: body })
        } else {
            Err(ParseError::new(
                ParseErrorKind::BadNonceLength(body.len()),
                0,
            ))
        }
    }

    /// The nonce.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }
}

/// Certificate payload (RFC 7296, 3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertPayload<'a> {
    /// What `data` is.
    pub encoding: CertEncoding,
    /// The certificate, list or URL.
    pub data: &'a [u8],
}

impl<'a> CertPayload<'a> {
    /// Reads the body of a CERT payload.
    ///
    /// # Errors
    /// If it is empty.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        Ok(Self {
            encoding: CertEncoding(reader.u8()?),
            data: reader.take_rest(),
        })
    }
}

/// Certificate Request payload (RFC 7296, 3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertReqPayload<'a> {
    /// What kind of certificate is asked for.
    pub encoding: CertEncoding,
    /// For X.509: SHA-1 hashes of the public keys of trusted authorities, one after the other.
    pub authorities: &'a [u8],
}

impl<'a> CertReqPayload<'a> {
    /// Octets of one hash of an authority's public key.
    pub const KEY_HASH_LEN: usize = 20;

    /// Reads the body of a CERTREQ payload.
    ///
    /// # Errors
    /// If it is empty.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        Ok(Self {
            encoding: CertEncoding(reader.u8()?),
            authorities: reader.take_rest(),
        })
    }

    /// The hashes of the authorities' public keys. An incomplete one at the end is left out.
    pub fn key_hashes(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.authorities.chunks_exact(Self::KEY_HASH_LEN)
    }
}

/// Authentication payload (RFC 7296, 3.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthPayload<'a> {
    /// How `data` was computed.
    pub method: AuthMethodId,
    /// The signature or message integrity code.
    pub data: &'a [u8],
}

impl<'a> AuthPayload<'a> {
    /// Reads the body of an AUTH payload.
    ///
    /// # Errors
    /// If it is shorter than four octets.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let method = AuthMethodId(reader.u8()?);
        let _reserved = reader.take(3)?;
        Ok(Self {
            method,
            data: reader.take_rest(),
        })
    }

    /// The two parts of the data of method [`AuthMethodId::DIGITAL_SIGNATURE`] (RFC 7427, 3).
    ///
    /// # Errors
    /// If the length of the algorithm identifier does not fit. The offset is that in `data`.
    pub fn digital_signature(&self) -> Result<DigitalSignature<'a>, ParseError> {
        let mut reader = Reader::new(self.data);
        let length = usize::from(reader.u8()?);
        Ok(DigitalSignature {
            algorithm: reader.take(length)?,
            signature: reader.take_rest(),
        })
    }
}

/// Authentication data of method 14 (RFC 7427, 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigitalSignature<'a> {
    /// AlgorithmIdentifier, DER.
    pub algorithm: &'a [u8],
    /// The signature.
    pub signature: &'a [u8],
}
