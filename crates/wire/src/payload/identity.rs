//! Identification payloads (RFC 7296, 3.5).

use crate::error::ParseError;
use crate::reader::Reader;
use crate::registry::IdType;

/// Identification payload, of the initiator or of the responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdPayload<'a> {
    /// What `data` is.
    pub id_type: IdType,
    /// The identity in the form that its type defines. Whether it is one is not checked here.
    pub data: &'a [u8],
    body: &'a [u8],
}

impl<'a> IdPayload<'a> {
    /// Reads the body of an IDi or IDr payload.
    ///
    /// # Errors
    /// If it is shorter than four octets.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let id_type = IdType(reader.u8()?);
        let _reserved = reader.take(3)?;
        Ok(Self {
            id_type,
            data: reader.take_rest(),
            body,
        })
    }

    /// The whole body as received, reserved octets included: `RestOfInitIDPayload` and
    /// `RestOfRespIDPayload` of the AUTH computation (RFC 7296, 2.15).
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The body that an identity has when this crate writes it; the input to our own AUTH computation.
    #[must_use]
    pub fn body_of(id_type: IdType, data: &[u8]) -> Vec<u8> {
        let mut body = vec![id_type.0, 0, 0, 0];
        body.extend_from_slice(data);
        body
    }
}
