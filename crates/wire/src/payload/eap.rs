//! EAP payload (RFC 7296, 3.16): one EAP message (RFC 3748, 4).

use crate::error::ParseError;
use crate::reader::Reader;
use crate::registry::{EapCode, EapType};

/// An EAP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EapPayload<'a> {
    /// Request, response, success or failure.
    pub code: EapCode,
    /// Matches responses to requests.
    pub identifier: u8,
    /// The method, in requests and responses.
    pub eap_type: Option<EapType>,
    /// What follows the type (or the length, where there is no type).
    pub data: &'a [u8],
    message: &'a [u8],
}

impl<'a> EapPayload<'a> {
    /// Octets of an EAP message before the type.
    const HEADER_LEN: usize = 4;

    /// Reads the body of an EAP payload.
    ///
    /// # Errors
    /// If the message's own length is not that of the body, or a request or response has no type.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let code = EapCode(reader.u8()?);
        let identifier = reader.u8()?;
        let length = usize::from(reader.u16()?);
        let mut data = Reader::new(reader.take_counted(length, Self::HEADER_LEN)?);
        reader.finish()?;
        let eap_type = match code {
            EapCode::REQUEST | EapCode::RESPONSE => Some(EapType(
                data.u8().map_err(|error| error.shifted(Self::HEADER_LEN))?,
            )),
            _ => None,
        };
        Ok(Self {
            code,
            identifier,
            eap_type,
            data: data.take_rest(),
            message: body,
        })
    }

    /// The whole EAP message, as a RADIUS server wants it.
    #[must_use]
    pub const fn message(&self) -> &'a [u8] {
        self.message
    }
}
