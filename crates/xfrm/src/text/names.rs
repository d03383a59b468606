//! The names that `ip xfrm` has for the kernel's numbers; numbers without a name are shown as such.

use std::borrow::Cow;

use crate::numbers::{
    EncapType, Mode, PolicyDirection, PolicyFlags, SaExtraFlags, SaFlags, SaProtocol,
};

fn or_number(name: Option<&'static str>, number: u32) -> Cow<'static, str> {
    name.map_or_else(|| Cow::Owned(number.to_string()), Cow::Borrowed)
}

impl SaProtocol {
    /// The name that `ip xfrm` has for it.
    pub fn ip_name(self) -> Cow<'static, str> {
        let name = match self {
            Self::ESP => Some("esp"),
            Self::AH => Some("ah"),
            Self::COMP => Some("comp"),
            Self(43) => Some("route2"),
            Self(60) => Some("hao"),
            _ => None,
        };
        or_number(name, self.0.into())
    }
}

impl Mode {
    /// The name that `ip xfrm` has for it.
    pub fn ip_name(self) -> Cow<'static, str> {
        let name = match self {
            Self::TRANSPORT => Some("transport"),
            Self::TUNNEL => Some("tunnel"),
            Self(2) => Some("ro"),
            Self(3) => Some("in_trigger"),
            Self::BEET => Some("beet"),
            Self::IPTFS => Some("iptfs"),
            _ => None,
        };
        or_number(name, self.0.into())
    }
}

impl EncapType {
    /// The name that `ip xfrm` has for it.
    pub fn ip_name(self) -> Cow<'static, str> {
        let name = match self.0 {
            1 => Some("espinudp-nonike"),
            2 => Some("espinudp"),
            7 => Some("espintcp"),
            _ => None,
        };
        or_number(name, self.0.into())
    }
}

impl PolicyDirection {
    /// The name that `ip xfrm` has for it; policies of sockets have the name of what they are for.
    pub fn ip_name(self) -> Cow<'static, str> {
        let name = match self.0 {
            0 | 3 => Some("in"),
            1 | 4 => Some("out"),
            2 | 5 => Some("fwd"),
            _ => None,
        };
        or_number(name, self.0.into())
    }

    /// Whether it is of a socket's own policy (`IP_XFRM_POLICY`): the kernel's number is three more.
    pub fn is_socket(self) -> bool {
        (3..6).contains(&self.0)
    }
}

/// The names of the bits that are set; bits without a name as one number.
fn set(bits: u32, names: &[(u32, &'static str)]) -> Vec<Cow<'static, str>> {
    let mut unknown = bits;
    let mut set = Vec::new();
    for (bit, name) in names {
        if bits & bit != 0 {
            set.push(Cow::Borrowed(*name));
        }
        unknown &= !bit;
    }
    if unknown != 0 {
        set.push(Cow::Owned(format!("{unknown:#x}")));
    }
    set
}

impl SaFlags {
    /// The names that `ip xfrm` has for the bits that are set.
    pub fn ip_names(self) -> Vec<Cow<'static, str>> {
        let names = [
            (Self::NOECN, "noecn"),
            (Self::DECAP_DSCP, "decap-dscp"),
            (Self::NOPMTUDISC, "nopmtudisc"),
            (Self::WILDRECV, "wildrecv"),
            (Self::ICMP, "icmp"),
            (Self::AF_UNSPEC, "af-unspec"),
            (Self::ALIGN4, "align4"),
            (Self::ESN, "esn"),
        ];
        set(
            self.0.into(),
            &names.map(|(bit, name)| (bit.0.into(), name)),
        )
    }
}

impl SaExtraFlags {
    /// The names that `ip xfrm` has for the bits that are set.
    pub fn ip_names(self) -> Vec<Cow<'static, str>> {
        let names = [
            (Self::DONT_ENCAP_DSCP, "dont-encap-dscp"),
            (Self::OSEQ_MAY_WRAP, "oseq-may-wrap"),
        ];
        set(self.0, &names.map(|(bit, name)| (bit.0, name)))
    }
}

impl PolicyFlags {
    /// The names that `ip xfrm` has for the bits that are set.
    pub fn ip_names(self) -> Vec<Cow<'static, str>> {
        let names = [
            (Self::LOCALOK, "localok"),
            (Self::ICMP, "icmp"),
            (Self::CPU_ACQUIRE, "cpu_acquire"),
        ];
        set(
            self.0.into(),
            &names.map(|(bit, name)| (bit.0.into(), name)),
        )
    }
}

/// The name of an upper-layer protocol, as in `/etc/protocols`.
pub fn upper_layer_name(number: u8) -> Cow<'static, str> {
    let name = match number {
        1 => Some("icmp"),
        2 => Some("igmp"),
        4 => Some("ipencap"),
        6 => Some("tcp"),
        17 => Some("udp"),
        33 => Some("dccp"),
        41 => Some("ipv6"),
        47 => Some("gre"),
        50 => Some("esp"),
        51 => Some("ah"),
        58 => Some("ipv6-icmp"),
        89 => Some("ospf"),
        108 => Some("ipcomp"),
        132 => Some("sctp"),
        135 => Some("mobility-header"),
        136 => Some("udplite"),
        _ => None,
    };
    or_number(name, number.into())
}
