//! Configuration payload (RFC 7296, 3.15).

use crate::error::{ParseError, ParseErrorKind, WriteError};
use crate::limits::MAX_CONFIG_ATTRIBUTES;
use crate::reader::Reader;
use crate::registry::{CfgAttributeType, CfgType};
use crate::writer::{check_count, with_u16_length};

/// The bit before an attribute's type: reserved, sent as zero and ignored.
const RESERVED_BIT: u16 = 0x8000;

/// Configuration payload: addresses and other values, asked for or given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpPayload<'a> {
    /// Whether they are asked for, given, set or acknowledged.
    pub cfg_type: CfgType,
    attributes: &'a [u8],
}

impl<'a> CpPayload<'a> {
    /// Reads the body of a CP payload.
    ///
    /// # Errors
    /// If lengths do not agree, or there are more than [`MAX_CONFIG_ATTRIBUTES`].
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let cfg_type = CfgType(reader.u8()?);
        let _reserved = reader.take(3)?;
        let attributes = reader.rest();
        let mut count = 0_usize;
        while !reader.is_empty() {
            if count == MAX_CONFIG_ATTRIBUTES {
                let what = "configuration attributes";
                return Err(reader.error(ParseErrorKind::TooMany {
                    what,
                    limit: MAX_CONFIG_ATTRIBUTES,
                }));
            }
            ConfigAttribute::read(&mut reader)?;
            count = count.saturating_add(1);
        }
        Ok(Self {
            cfg_type,
            attributes,
        })
    }

    /// The attributes, in the order of the message.
    #[must_use]
    pub const fn attributes(&self) -> ConfigAttributes<'a> {
        ConfigAttributes {
            reader: Reader::new(self.attributes),
        }
    }
}

/// Iterator over the attributes of a [`CpPayload`].
#[derive(Debug, Clone)]
pub struct ConfigAttributes<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for ConfigAttributes<'a> {
    type Item = ConfigAttribute<'a>;

    fn next(&mut self) -> Option<ConfigAttribute<'a>> {
        ConfigAttribute::read(&mut self.reader).ok()
    }
}

/// One configuration attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigAttribute<'a> {
    /// Which; 15 bits.
    pub kind: CfgAttributeType,
    /// Its value, empty in most requests. Whether it is one of its kind is not checked here.
    pub value: &'a [u8],
}

impl<'a> ConfigAttribute<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ParseError> {
        let kind = CfgAttributeType(reader.u16()? & !RESERVED_BIT);
        let length = usize::from(reader.u16()?);
        Ok(Self {
            kind,
            value: reader.take(length)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        if self.kind.0 & RESERVED_BIT != 0 {
            return Err(WriteError::BadAttributeType {
                what: "configuration attribute type",
                value: self.kind.0,
            });
        }
        out.extend(self.kind.0.to_be_bytes());
        with_u16_length(out, "configuration attribute", 0, |out| {
            out.extend_from_slice(self.value);
            Ok(())
        })
    }
}

/// Writes the body of a CP payload.
pub(crate) fn write_cp(
    out: &mut Vec<u8>,
    cfg_type: CfgType,
    attributes: &[ConfigAttribute<'_>],
) -> Result<(), WriteError> {
    check_count(
        "configuration attributes",
        attributes.len(),
        MAX_CONFIG_ATTRIBUTES,
    )?;
    out.extend([cfg_type.0, 0, 0, 0]);
    attributes
        .iter()
        .try_for_each(|attribute| attribute.write(out))
}
