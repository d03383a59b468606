//! Who a peer says it is: the Identification payloads of RFC 7296 §3.5.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// ID_IPV4_ADDR.
const ID_IPV4_ADDR: u8 = 1;
/// ID_FQDN.
const ID_FQDN: u8 = 2;
/// ID_RFC822_ADDR.
const ID_RFC822_ADDR: u8 = 3;
/// ID_IPV6_ADDR.
const ID_IPV6_ADDR: u8 = 5;
/// ID_DER_ASN1_DN.
const ID_DER_ASN1_DN: u8 = 9;
/// ID_KEY_ID.
const ID_KEY_ID: u8 = 11;

/// An identity as IKEv2 carries it. A copy of it is cheap.
///
/// The text form is the one of `ipsec.conf`:
///
/// | text | identity |
/// |---|---|
/// | `192.0.2.1`, `2001:db8::1` | [`Identity::Ipv4`], [`Identity::Ipv6`] |
/// | `@gw.example.com`, `gw.example.com` | [`Identity::Fqdn`] |
/// | `alice@example.com`, `@@alice@example.com` | [`Identity::Email`] |
/// | `@[anything]`, `@#6b6579` | [`Identity::KeyId`] |
/// | `@~300c…` | [`Identity::Dn`] (DER, in hexadecimal) |
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// ID_IPV4_ADDR (1).
    Ipv4(Ipv4Addr),
    /// ID_IPV6_ADDR (5).
    Ipv6(Ipv6Addr),
    /// ID_FQDN (2), without a leading `@`.
    Fqdn(Arc<str>),
    /// ID_RFC822_ADDR (3).
    Email(Arc<str>),
    /// ID_KEY_ID (11), opaque octets.
    KeyId(Arc<[u8]>),
    /// ID_DER_ASN1_DN (9), opaque DER.
    Dn(Arc<[u8]>),
}

/// Why an identity could not be read from text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseIdentityError {
    /// There was nothing.
    #[error("the identity is empty")]
    Empty,
    /// `@#` or `@~` must be followed by an even number of hexadecimal digits.
    #[error("`{0}` is not an even number of hexadecimal digits")]
    Hex(String),
    /// `@[` was not closed.
    #[error("`{0}` lacks its closing bracket")]
    Bracket(String),
    /// Distinguished names in text form are not read here.
    #[error(
        "`{0}` is a distinguished name in text form, which is not supported; write its DER as @~hex"
    )]
    DistinguishedName(String),
    /// A name with characters that no name has.
    #[error("`{0}` is neither an address, a name nor a mail address")]
    Name(String),
}

/// Why an Identification payload could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// An address of the wrong length.
    #[error("identity of type {kind} has {len} octets")]
    Length {
        /// The ID type.
        kind: u8,
        /// Length of the identification data in octets.
        len: usize,
    },
    /// A name that is not text.
    #[error("identity of type {0} is not printable ASCII or UTF-8")]
    Text(u8),
    /// An ID type that is not known here.
    #[error("identity type {0} is not supported")]
    Type(u8),
}

impl Identity {
    /// The ID Type octet of RFC 7296 §3.5.
    pub fn id_type(&self) -> u8 {
        match self {
            Self::Ipv4(_) => ID_IPV4_ADDR,
            Self::Ipv6(_) => ID_IPV6_ADDR,
            Self::Fqdn(_) => ID_FQDN,
            Self::Email(_) => ID_RFC822_ADDR,
            Self::KeyId(_) => ID_KEY_ID,
            Self::Dn(_) => ID_DER_ASN1_DN,
        }
    }

    /// The Identification Data of RFC 7296 §3.5.
    pub fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Ipv4(a) => a.octets().to_vec().into(),
            Self::Ipv6(a) => a.octets().to_vec().into(),
            Self::Fqdn(name) | Self::Email(name) => name.as_bytes().into(),
            Self::KeyId(octets) | Self::Dn(octets) => octets[..].into(),
        }
    }

    /// The payload body without its generic header: type, three reserved octets, data.
    /// This is what the AUTH payload signs (`RestOfInitIDPayload`, RFC 7296 §2.15).
    pub fn payload_body(&self) -> Vec<u8> {
        let data = self.data();
        let mut body = Vec::with_capacity(4 + data.len());
        body.extend_from_slice(&[self.id_type(), 0, 0, 0]);
        body.extend_from_slice(&data);
        body
    }

    /// Reads the type and data of an Identification payload.
    ///
    /// # Errors
    /// When the type is unknown, or the data does not fit it.
    pub fn from_wire(id_type: u8, data: &[u8]) -> Result<Self, IdentityError> {
        let length = || IdentityError::Length {
            kind: id_type,
            len: data.len(),
        };
        //= rfc7296#3.5
        //# The string MUST NOT contain any terminators (e.g., NULL, CR, etc.).
        let text = || match std::str::from_utf8(data) {
            Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => {
                Ok(Arc::from(text))
            }
            _ => Err(IdentityError::Text(id_type)),
        };
        match id_type {
            ID_IPV4_ADDR => Ok(Self::Ipv4(
                <[u8; 4]>::try_from(data).map_err(|_| length())?.into(),
            )),
            ID_IPV6_ADDR => Ok(Self::Ipv6(
                <[u8; 16]>::try_from(data).map_err(|_| length())?.into(),
            )),
            ID_FQDN => Ok(Self::Fqdn(text()?)),
            ID_RFC822_ADDR => Ok(Self::Email(text()?)),
            ID_KEY_ID => Ok(Self::KeyId(data.into())),
            ID_DER_ASN1_DN => Ok(Self::Dn(data.into())),
            other => Err(IdentityError::Type(other)),
        }
    }

    /// Whether two identities name the same peer: names compare without regard to ASCII case
    /// and a trailing dot, everything else octet by octet.
    pub fn matches(&self, other: &Self) -> bool {
        let same = |a: &str, b: &str| {
            a.trim_end_matches('.')
                .eq_ignore_ascii_case(b.trim_end_matches('.'))
        };
        match (self, other) {
            (Self::Fqdn(a), Self::Fqdn(b)) | (Self::Email(a), Self::Email(b)) => same(a, b),
            _ => self == other,
        }
    }
}

impl From<IpAddr> for Identity {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => Self::Ipv4(a),
            IpAddr::V6(a) => Self::Ipv6(a),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, prefix: &str, octets: &[u8]| {
            f.write_str(prefix)?;
            octets.iter().try_for_each(|o| write!(f, "{o:02x}"))
        };
        match self {
            Self::Ipv4(a) => a.fmt(f),
            Self::Ipv6(a) => a.fmt(f),
            Self::Fqdn(name) => write!(f, "@{name}"),
            Self::Email(name) if name.starts_with('@') || !name.contains('@') => {
                write!(f, "@@{name}")
            }
            Self::Email(name) => f.write_str(name),
            Self::KeyId(octets) => match std::str::from_utf8(octets) {
                Ok(text)
                    if !text.is_empty()
                        && text.bytes().all(|b| b.is_ascii_graphic() && b != b']') =>
                {
                    write!(f, "@[{text}]")
                }
                _ => hex(f, "@#", octets),
            },
            Self::Dn(der) => hex(f, "@~", der),
        }
    }
}

impl FromStr for Identity {
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = |name: &str| {
            if name.is_empty() {
                Err(ParseIdentityError::Empty)
            } else if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
                Err(ParseIdentityError::Name(text.to_owned()))
            } else {
                Ok(Arc::from(name))
            }
        };
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        if let Some(digits) = text.strip_prefix("@#") {
            return Ok(Self::KeyId(hex_octets(digits)?));
        }
        if let Some(digits) = text.strip_prefix("@~") {
            return Ok(Self::Dn(hex_octets(digits)?));
        }
        if let Some(inner) = text.strip_prefix("@[") {
            let key = inner
                .strip_suffix(']')
                .ok_or_else(|| ParseIdentityError::Bracket(text.to_owned()))?;
            if key.is_empty() {
                return Err(ParseIdentityError::Empty);
            }
            return Ok(Self::KeyId(key.as_bytes().into()));
        }
        if let Some(mail) = text.strip_prefix("@@") {
            return Ok(Self::Email(name(mail)?));
        }
        if let Some(fqdn) = text.strip_prefix('@') {
            return Ok(Self::Fqdn(name(fqdn)?));
        }
        if text.contains('=') {
            return Err(ParseIdentityError::DistinguishedName(text.to_owned()));
        }
        if text.contains('@') {
            return Ok(Self::Email(name(text)?));
        }
        Ok(Self::Fqdn(name(text)?))
    }
}

/// Octets from an even, positive number of hexadecimal digits; a leading `0x` is allowed.
fn hex_octets(text: &str) -> Result<Arc<[u8]>, ParseIdentityError> {
    let wrong = || ParseIdentityError::Hex(text.to_owned());
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    digits
        .chunks_exact(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            u8::from_str_radix(pair, 16).map_err(|_| wrong())
        })
        .collect()
}

/// Which identities a configuration accepts from the peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerIdentity {
    /// Whoever can authenticate.
    Any,
    /// This one only.
    Exactly(Identity),
}

impl PeerIdentity {
    /// Whether `identity` is acceptable.
    pub fn accepts(&self, identity: &Identity) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(expected) => expected.matches(identity),
        }
    }

    /// The one identity that is accepted, if it is one.
    pub fn exact(&self) -> Option<&Identity> {
        match self {
            Self::Any => None,
            Self::Exactly(identity) => Some(identity),
        }
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("%any"),
            Self::Exactly(identity) => identity.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Identity {
        text.parse().unwrap()
    }

    #[test]
    fn text_round_trips() {
        for text in [
            "192.0.2.1",
            "2001:db8::1",
            "@gw.example.com",
            "alice@example.com",
            "@[north-key]",
            "@#00ff10",
            "@~300c310a",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
        assert_eq!(
            read("gw.example.com"),
            Identity::Fqdn("gw.example.com".into())
        );
        assert_eq!(
            read("@@alice@example.com"),
            Identity::Email("alice@example.com".into())
        );
        assert_eq!(read("@#6b6579").to_string(), "@[key]");
    }

    #[test]
    fn wrong_text_is_named() {
        use ParseIdentityError as E;
        for (text, error) in [
            ("", E::Empty),
            ("@", E::Empty),
            ("@#abc", E::Hex("abc".into())),
            ("@#+1+2", E::Hex("+1+2".into())),
            ("@[open", E::Bracket("@[open".into())),
            ("C=CH, O=x", E::DistinguishedName("C=CH, O=x".into())),
            ("two words", E::Name("two words".into())),
        ] {
            assert_eq!(text.parse::<Identity>(), Err(error), "{text}");
        }
    }

    #[test]
    fn wire_round_trips_and_refuses() {
        for text in ["192.0.2.1", "2001:db8::1", "@a", "a@b", "@#00", "@~30"] {
            let identity = read(text);
            assert_eq!(
                Identity::from_wire(identity.id_type(), &identity.data()),
                Ok(identity)
            );
        }
        assert_eq!(
            Identity::from_wire(1, &[1, 2, 3]),
            Err(IdentityError::Length { kind: 1, len: 3 })
        );
        //= rfc7296#3.5
        //= type=test
        //# The string MUST NOT contain any terminators (e.g., NULL, CR, etc.).
        assert_eq!(
            Identity::from_wire(2, b"gw.example.com\0"),
            Err(IdentityError::Text(2))
        );
        assert_eq!(Identity::from_wire(13, b"x"), Err(IdentityError::Type(13)));
    }

    #[test]
    fn names_match_without_case() {
        assert!(read("@GW.example.com.").matches(&read("@gw.example.com")));
        assert!(!read("@gw.example.com").matches(&read("gw@example.com")));
        assert!(PeerIdentity::Any.accepts(&read("@x")));
        assert!(!PeerIdentity::Exactly(read("@[K]")).accepts(&read("@[k]")));
    }
}
