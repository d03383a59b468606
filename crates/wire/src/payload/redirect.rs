//! The data of REDIRECT and REDIRECTED_FROM: a gateway and perhaps a nonce (RFC 5685, 9.2, 9.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::registry::GatewayIdType;

/// The longest name of a host (RFC 1035, 2.3.4), in octets of text.
const MAX_NAME: usize = 253;

/// A gateway that somebody is sent to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gateway {
    /// Its address.
    Address(IpAddr),
    /// Its name in the DNS: letters, digits, dots, hyphens and underscores.
    Name(String),
}

/// A text names no gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither an address nor the name of a host")]
pub struct NoGateway;

impl Gateway {
    fn name(octets: &[u8]) -> Option<Self> {
        let fits =
            |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_');
        let valid = (1..=MAX_NAME).contains(&octets.len()) && octets.iter().all(fits);
        let text = std::str::from_utf8(octets).ok().filter(|_| valid)?;
        // What looks like an address is not taken for a name.
        if text.parse::<IpAddr>().is_ok() {
            return None;
        }
        Some(Self::Name(text.to_owned()))
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for Gateway {
    type Err = NoGateway;

    fn from_str(text: &str) -> Result<Self, NoGateway> {
        match text.parse() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) => Self::name(text.as_bytes()).ok_or(NoGateway),
        }
    }
}

impl From<IpAddr> for Gateway {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

/// What REDIRECT and REDIRECTED_FROM say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectNotify<'a> {
    /// To which gateway, or from which one.
    pub gateway: Gateway,
    /// The initiator's nonce, in an answer to IKE_SA_INIT; elsewhere it is empty.
    pub nonce: &'a [u8],
}

impl<'a> RedirectNotify<'a> {
    /// Reads the data of a notification; `None` if it is malformed or the gateway of an unknown kind.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let (&[kind, len], rest) = data.split_first_chunk()?;
        let (id, nonce) = rest.split_at_checked(len.into())?;
        let gateway = match GatewayIdType(kind) {
            GatewayIdType::IPV4 => {
                let octets: [u8; 4] = id.try_into().ok()?;
                Gateway::Address(Ipv4Addr::from(octets).into())
            }
            GatewayIdType::IPV6 => {
                let octets: [u8; 16] = id.try_into().ok()?;
                Gateway::Address(Ipv6Addr::from(octets).into())
            }
            GatewayIdType::FQDN => Gateway::name(id)?,
            _ => return None,
        };
        Some(Self { gateway, nonce })
    }

    /// The data of the notification.
    //= rfc5685#9.2
    //# The IPv4 address, the IPv6 address, or the FQDN of the new VPN gateway
    //# MUST be encoded as described in Section 3.5 of [2].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (kind, id) = match &self.gateway {
            Gateway::Address(IpAddr::V4(address)) => {
                (GatewayIdType::IPV4, address.octets().to_vec())
            }
            Gateway::Address(IpAddr::V6(address)) => {
                (GatewayIdType::IPV6, address.octets().to_vec())
            }
            Gateway::Name(name) => (GatewayIdType::FQDN, name.as_bytes().to_vec()),
        };
        // Names are shorter than that.
        let len = u8::try_from(id.len()).unwrap_or(u8::MAX);
        let mut data = vec![kind.0, len];
        data.extend(id.iter().take(len.into()));
        data.extend_from_slice(self.nonce);
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[u8]) -> Option<(String, Vec<u8>)> {
        let said = RedirectNotify::parse(data)?;
        assert_eq!(said.to_bytes(), data);
        Some((said.gateway.to_string(), said.nonce.to_vec()))
    }

    /// Octet by octet after the figure of RFC 5685, 9.2: IPv4 with a nonce, IPv6, and a name.
    //= rfc5685#9.2
    //= type=test
    //# The IPv4 address, the IPv6 address, or the FQDN of the new VPN gateway
    //# MUST be encoded as described in Section 3.5 of [2].
    #[test]
    fn the_three_forms() {
        let mut with_nonce = vec![1, 4, 192, 0, 2, 7];
        with_nonce.extend([9; 16]);
        assert_eq!(
            read(&with_nonce),
            Some(("192.0.2.7".to_owned(), vec![9; 16]))
        );
        let mut six = vec![2, 16, 0x20, 0x01, 0x0d, 0xb8];
        six.extend([0; 11]);
        six.push(1);
        assert_eq!(read(&six), Some(("2001:db8::1".to_owned(), vec![])));
        let name = b"\x03\x0agw.example";
        assert_eq!(read(name), Some(("gw.example".to_owned(), vec![])));
    }

    #[test]
    fn what_is_malformed_says_nothing() {
        let wrong: [&[u8]; 9] = [
            b"",
            b"\x01",
            b"\x01\x04\xc0\x00\x02",
            b"\x01\x05\xc0\x00\x02\x07\x00",
            b"\x02\x04\xc0\x00\x02\x07",
            b"\x03\x00",
            b"\x03\x04a\x00b\n",
            b"\x03\x03%a/",
            b"\x04\x04\xc0\x00\x02\x07",
        ];
        for data in wrong {
            assert_eq!(RedirectNotify::parse(data), None, "{data:x?}");
        }
        for text in ["", "a b", "gw/1", "host\u{e9}", &"a".repeat(254)] {
            assert_eq!(text.parse::<Gateway>(), Err(NoGateway), "{text}");
        }
    }

    #[test]
    fn fuzz_redirect() {
        bolero::check!().with_max_len(600).for_each(|data: &[u8]| {
            if let Some(said) = RedirectNotify::parse(data) {
                assert_eq!(said.to_bytes(), data);
                assert_eq!(said.gateway.to_string().parse(), Ok(said.gateway));
            }
        });
    }
}
