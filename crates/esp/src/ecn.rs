//! ECN and DSCP across a tunnel: RFC 6040 (which updates RFC 4301 §5.1.2) and RFC 2983.
//!
//! A TOS octet here is the IPv4 TOS or IPv6 Traffic Class octet: DSCP in the upper six bits, ECN in the lower two.

/// The two ECN bits of an IP header (RFC 3168 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ecn {
    /// Not ECN-capable transport.
    NotEct = 0b00,
    /// ECN-capable transport, codepoint 1.
    Ect1 = 0b01,
    /// ECN-capable transport, codepoint 0.
    Ect0 = 0b10,
    /// Congestion experienced.
    Ce = 0b11,
}

/// The bits of a TOS octet that hold ECN.
pub const ECN_MASK: u8 = 0b11;

impl Ecn {
    /// All codepoints in the order of their numbers.
    pub const ALL: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];

    /// The ECN field of a TOS octet.
    pub const fn of_tos(tos: u8) -> Self {
        match tos & ECN_MASK {
            0b00 => Ecn::NotEct,
            0b01 => Ecn::Ect1,
            0b10 => Ecn::Ect0,
            _ => Ecn::Ce,
        }
    }

    /// The TOS octet with its ECN field replaced by this one.
    pub const fn in_tos(self, tos: u8) -> u8 {
        (tos & !ECN_MASK) | self as u8
    }

    /// The outer ECN field when a packet with this field enters a tunnel (RFC 6040 §4.1, figure 3, normal mode).
    ///
    /// Linux still resets CE to ECT(0) in the outer header, as the superseded RFC 3168 §9.1.1 said; what the receiver
    /// delivers is the same with both.
    pub const fn encapsulate(self) -> Self {
        //= rfc6040#4.1
        //# In normal mode, an encapsulator compliant with this specification
        //# MUST construct the outer encapsulating IP header by copying the
        //# two-bit ECN field of the incoming IP header.
        self
    }

    /// The ECN field of the packet that leaves a tunnel, where `self` is the inner field: RFC 6040 §4.2, figure 4.
    ///
    /// `None` means that the packet is to be dropped: a router marked congestion on a transport that would not
    /// understand it.
    pub const fn decapsulate(self, outer: Ecn) -> Option<Ecn> {
        match (self, outer) {
            //= rfc6040#4.2
            //# If the inner ECN field is Not-ECT and the outer ECN field is
            //# CE, the decapsulator MUST drop the packet.
            (Ecn::NotEct, Ecn::Ce) => None,
            (Ecn::NotEct, _) => Some(Ecn::NotEct),
            (Ecn::Ce, _) | (_, Ecn::Ce) => Some(Ecn::Ce),
            (Ecn::Ect0, Ecn::Ect1) => Some(Ecn::Ect1),
            (inner, _) => Some(inner),
        }
    }
}

/// What an SA does with the TOS octet in tunnel mode; from the SA's flags, all false by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TosPolicy {
    /// The outer ECN field is 00 and none is propagated to the inner header (XFRM_STATE_NOECN; compatibility mode of
    /// RFC 6040).
    pub no_ecn: bool,
    /// The outer DSCP is 0 instead of the inner one (XFRM_SA_XFLAG_DONT_ENCAP_DSCP).
    pub dont_encap_dscp: bool,
    /// The inner DSCP is replaced by the outer one on arrival (XFRM_STATE_DECAP_DSCP; the uniform model of RFC 2983).
    pub decap_dscp: bool,
}

impl TosPolicy {
    /// The outer TOS octet for a packet with this inner one.
    pub const fn encapsulate(self, inner: u8) -> u8 {
        let dscp = if self.dont_encap_dscp { 0 } else { inner };
        let ecn = if self.no_ecn {
            Ecn::NotEct
        } else {
            Ecn::of_tos(inner).encapsulate()
        };
        ecn.in_tos(dscp)
    }

    /// The TOS octet of the packet that leaves the tunnel; `None` means drop, see [`Ecn::decapsulate`].
    pub const fn decapsulate(self, inner: u8, outer: u8) -> Option<u8> {
        let dscp = if self.decap_dscp { outer } else { inner };
        let ecn = Ecn::of_tos(inner);
        if self.no_ecn {
            return Some(ecn.in_tos(dscp));
        }
        match ecn.decapsulate(Ecn::of_tos(outer)) {
            Some(ecn) => Some(ecn.in_tos(dscp)),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ecn::{self, *};
    use super::*;

    /// RFC 6040 figure 4; rows: arriving inner header, columns: arriving outer Not-ECT, ECT(0), ECT(1), CE.
    const FIGURE_4: [(Ecn, [Option<Ecn>; 4]); 4] = [
        (NotEct, [Some(NotEct), Some(NotEct), Some(NotEct), None]),
        (Ect0, [Some(Ect0), Some(Ect0), Some(Ect1), Some(Ce)]),
        (Ect1, [Some(Ect1), Some(Ect1), Some(Ect1), Some(Ce)]),
        (Ce, [Some(Ce), Some(Ce), Some(Ce), Some(Ce)]),
    ];

    #[test]
    fn rfc6040_figure_3_encapsulation() {
        //= rfc6040#4.1
        //= type=test
        //# In normal mode, an encapsulator compliant with this specification
        //# MUST construct the outer encapsulating IP header by copying the
        //# two-bit ECN field of the incoming IP header.
        for inner in Ecn::ALL {
            assert_eq!(inner.encapsulate(), inner);
            let compatibility = TosPolicy {
                no_ecn: true,
                ..TosPolicy::default()
            };
            assert_eq!(compatibility.encapsulate(inner as u8), 0);
        }
    }

    #[test]
    fn rfc6040_figure_4_decapsulation() {
        //= rfc6040#4.2
        //= type=test
        //# If the inner ECN field is Not-ECT and the outer ECN field is
        //# CE, the decapsulator MUST drop the packet.
        for (inner, row) in FIGURE_4 {
            for (outer, expected) in [NotEct, Ect0, Ect1, Ce].into_iter().zip(row) {
                assert_eq!(
                    inner.decapsulate(outer),
                    expected,
                    "inner {inner:?} outer {outer:?}"
                );
            }
        }
    }

    #[test]
    fn dscp_follows_the_flags() {
        let plain = TosPolicy::default();
        let hide = TosPolicy {
            dont_encap_dscp: true,
            ..plain
        };
        let uniform = TosPolicy {
            decap_dscp: true,
            ..plain
        };
        assert_eq!(plain.encapsulate(0xb9), 0xb9);
        assert_eq!(hide.encapsulate(0xb9), 0x01);
        assert_eq!(plain.decapsulate(0xb8, 0x20), Some(0xb8));
        assert_eq!(uniform.decapsulate(0xb8, 0x20), Some(0x20));
        assert_eq!(uniform.decapsulate(0xba, 0x23), Some(0x23));
    }

    #[test]
    fn no_ecn_neither_discloses_nor_propagates() {
        let policy = TosPolicy {
            no_ecn: true,
            ..TosPolicy::default()
        };
        assert_eq!(policy.encapsulate(0xbb), 0xb8);
        assert_eq!(policy.decapsulate(0xba, 0xbb), Some(0xba));
        assert_eq!(policy.decapsulate(0xb8, 0xbb), Some(0xb8));
    }
}
