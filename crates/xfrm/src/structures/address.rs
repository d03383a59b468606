//! Addresses, selectors and ids.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::numbers::{Family, SaProtocol};

/// `xfrm_address_t`: 16 bytes whose meaning depends on a family kept elsewhere.
///
/// IPv4 addresses fill the first four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Address(pub [u8; 16]);

impl Address {
    /// The address in `family`; `None` for families other than IPv4 and IPv6.
    pub fn ip(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::INET => {
                let [a, b, c, d, ..] = self.0;
                Some(Ipv4Addr::new(a, b, c, d).into())
            }
            Family::INET6 => Some(Ipv6Addr::from(self.0).into()),
            _ => None,
        }
    }

    /// Whether all bytes are zero, which the kernel reads as "any".
    pub fn is_any(&self) -> bool {
        self.0 == [0; 16]
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self([a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            }
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl From<&IpAddr> for Family {
    fn from(ip: &IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::INET,
            IpAddr::V6(_) => Self::INET6,
        }
    }
}

impl Wire for Address {
    const WHAT: &'static str = "xfrm_address_t";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array().map(Self)
    }
    fn write(&self, out: &mut Writer) {
        out.put(&self.0);
    }
}

/// `xfrm_selector` (56 bytes): which packets.
///
/// Ports are in host order here. For ICMP `sport` is the type and `dport` the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Selector {
    /// Destination network.
    pub daddr: Address,
    /// Source network.
    pub saddr: Address,
    /// Destination port.
    pub dport: u16,
    /// Bits of the destination port that count; 0 = any.
    pub dport_mask: u16,
    /// Source port.
    pub sport: u16,
    /// Bits of the source port that count; 0 = any.
    pub sport_mask: u16,
    /// Family of both networks.
    pub family: Family,
    /// Destination prefix length in bits.
    pub prefixlen_d: u8,
    /// Source prefix length in bits.
    pub prefixlen_s: u8,
    /// IP protocol; 0 = any.
    pub proto: u8,
    /// Interface index; 0 = any.
    pub ifindex: i32,
    /// User id; stored by the kernel but not matched.
    pub user: u32,
}

impl Wire for Selector {
    const WHAT: &'static str = "xfrm_selector";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let selector = Self {
            daddr: Wire::read(r)?,
            saddr: Wire::read(r)?,
            dport: r.u16_be()?,
            dport_mask: r.u16_be()?,
            sport: r.u16_be()?,
            sport_mask: r.u16_be()?,
            family: Family(r.u16()?),
            prefixlen_d: r.u8()?,
            prefixlen_s: r.u8()?,
            proto: r.u8()?,
            ..Self::default()
        };
        r.skip(3)?;
        Ok(Self {
            ifindex: r.i32()?,
            user: r.u32()?,
            ..selector
        })
    }
    fn write(&self, out: &mut Writer) {
        self.daddr.write(out);
        self.saddr.write(out);
        out.u16_be(self.dport);
        out.u16_be(self.dport_mask);
        out.u16_be(self.sport);
        out.u16_be(self.sport_mask);
        out.u16(self.family.0);
        out.u8(self.prefixlen_d);
        out.u8(self.prefixlen_s);
        out.u8(self.proto);
        out.zeros(3);
        out.i32(self.ifindex);
        out.u32(self.user);
    }
}

/// `xfrm_id` (24 bytes): destination, SPI and protocol of an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Id {
    /// Destination address.
    pub daddr: Address,
    /// SPI in host order.
    pub spi: u32,
    /// Protocol.
    pub proto: SaProtocol,
}

impl Wire for Id {
    const WHAT: &'static str = "xfrm_id";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = Self {
            daddr: Wire::read(r)?,
            spi: r.u32_be()?,
            proto: SaProtocol(r.u8()?),
        };
        r.skip(3)?;
        Ok(id)
    }
    fn write(&self, out: &mut Writer) {
        self.daddr.write(out);
        out.u32_be(self.spi);
        out.u8(self.proto.0);
        out.zeros(3);
    }
}
