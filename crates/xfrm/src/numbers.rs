//! Open newtypes over the kernel's numbers (`linux/xfrm.h`): known values have names, unknown
//! values survive.

use std::fmt;

macro_rules! open_number {
    ($(#[$meta:meta])* $name:ident($int:ty) { $($(#[$vmeta:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub $int);

        impl $name {
            $($(#[$vmeta])* pub const $variant: Self = Self($value);)*

            /// The kernel's name without its prefix, if the number has one here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($variant)),)*
                    _ => None,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "({})"), self.0),
                }
            }
        }
    };
}

open_number! {
    /// An XFRM netlink message type (`XFRM_MSG_*`).
    MessageType(u16) {
        /// Add an SA; also what dumps and notifications of SAs carry.
        NEWSA = 0x10,
        /// Delete an SA.
        DELSA = 0x11,
        /// Get one SA, or dump all.
        GETSA = 0x12,
        /// Add a policy; also what dumps and notifications of policies carry.
        NEWPOLICY = 0x13,
        /// Delete a policy by selector or index.
        DELPOLICY = 0x14,
        /// Get one policy, or dump all.
        GETPOLICY = 0x15,
        /// Reserve an SPI in a larval SA.
        ALLOCSPI = 0x16,
        /// The kernel wants an SA.
        ACQUIRE = 0x17,
        /// An SA reached a lifetime limit.
        EXPIRE = 0x18,
        /// Add or replace a policy.
        UPDPOLICY = 0x19,
        /// Complete a larval SA or change a valid one.
        UPDSA = 0x1a,
        /// A policy reached a lifetime limit.
        POLEXPIRE = 0x1b,
        /// Delete all SAs of a protocol.
        FLUSHSA = 0x1c,
        /// Delete all policies.
        FLUSHPOLICY = 0x1d,
        /// Replay or lifetime state of an SA (notification or setting).
        NEWAE = 0x1e,
        /// Ask for the replay and lifetime state of an SA.
        GETAE = 0x1f,
        /// Mobile IPv6 report.
        REPORT = 0x20,
        /// Move policies and SAs to other addresses.
        MIGRATE = 0x21,
        /// SAD summary.
        NEWSADINFO = 0x22,
        /// Ask for the SAD summary.
        GETSADINFO = 0x23,
        /// SPD summary, or setting of its hash thresholds.
        NEWSPDINFO = 0x24,
        /// Ask for the SPD summary.
        GETSPDINFO = 0x25,
        /// A peer behind a NAT shows another address or port.
        MAPPING = 0x26,
        /// Set what happens to packets that no policy matches (5.15).
        SETDEFAULT = 0x27,
        /// Ask for the defaults; also their change notification.
        GETDEFAULT = 0x28,
        /// Move one SA without a policy (7.2).
        MIGRATE_STATE = 0x29,
    }
}

open_number! {
    /// An attribute number of the main space (`XFRMA_*`).
    AttributeType(u16) {
        /// `xfrm_algo`: integrity algorithm with the kernel's default ICV length.
        ALG_AUTH = 1,
        /// `xfrm_algo`: cipher.
        ALG_CRYPT = 2,
        /// `xfrm_algo`: compression.
        ALG_COMP = 3,
        /// UDP or TCP encapsulation.
        ENCAP = 4,
        /// Templates of a policy.
        TMPL = 5,
        /// A whole `xfrm_usersa_info`, in notifications of deletion.
        SA = 6,
        /// A whole `xfrm_userpolicy_info`, in notifications of deletion.
        POLICY = 7,
        /// LSM security context.
        SEC_CTX = 8,
        /// Current lifetime counters.
        LTIME_VAL = 9,
        /// Legacy replay state.
        REPLAY_VAL = 10,
        /// Packets between replay notifications.
        REPLAY_THRESH = 11,
        /// Time between replay notifications.
        ETIMER_THRESH = 12,
        /// Source address, for route-optimisation protocols.
        SRCADDR = 13,
        /// Care-of address.
        COADDR = 14,
        /// Wall-clock second of last use.
        LASTUSED = 15,
        /// Main or sub policy.
        POLICY_TYPE = 16,
        /// Address changes of a migration.
        MIGRATE = 17,
        /// AEAD algorithm.
        ALG_AEAD = 18,
        /// Addresses for key management after a migration.
        KMADDRESS = 19,
        /// Integrity algorithm with explicit ICV length.
        ALG_AUTH_TRUNC = 20,
        /// Mark and mask.
        MARK = 21,
        /// Traffic-flow-confidentiality padding length.
        TFCPAD = 22,
        /// Replay state with 64-bit numbers or a large window.
        REPLAY_ESN_VAL = 23,
        /// More SA flags.
        SA_EXTRA_FLAGS = 24,
        /// Dump filter: protocol.
        PROTO = 25,
        /// Dump filter: addresses.
        ADDRESS_FILTER = 26,
        /// Alignment padding.
        PAD = 27,
        /// Hardware offload.
        OFFLOAD_DEV = 28,
        /// Mark set on packets by the SA.
        SET_MARK = 29,
        /// Mask for `SET_MARK`.
        SET_MARK_MASK = 30,
        /// xfrm interface id.
        IF_ID = 31,
        /// Seconds between mapping events.
        MTIMER_THRESH = 32,
        /// Direction of an SA (6.10).
        SA_DIR = 33,
        /// Seconds between kernel NAT keepalives (6.11).
        NAT_KEEPALIVE_INTERVAL = 34,
        /// CPU that an SA is pinned to (6.13).
        SA_PCPU = 35,
        /// IP-TFS: inbound drop time in microseconds (6.14).
        IPTFS_DROP_TIME = 36,
        /// IP-TFS: inbound reorder window in packets.
        IPTFS_REORDER_WINDOW = 37,
        /// IP-TFS: do not fragment inner packets.
        IPTFS_DONT_FRAG = 38,
        /// IP-TFS: outbound delay in microseconds.
        IPTFS_INIT_DELAY = 39,
        /// IP-TFS: outbound queue limit in octets.
        IPTFS_MAX_QSIZE = 40,
        /// IP-TFS: outer packet size in octets.
        IPTFS_PKT_SIZE = 41,
    }
}

open_number! {
    /// A multicast group of `NETLINK_XFRM` (`XFRMNLGRP_*`).
    Group(u32) {
        /// SAs wanted.
        ACQUIRE = 1,
        /// SA and policy expiry.
        EXPIRE = 2,
        /// SAs added, updated, deleted, flushed.
        SA = 3,
        /// Policies added, updated, deleted, flushed; defaults changed.
        POLICY = 4,
        /// Replay and lifetime state changes.
        AEVENTS = 5,
        /// Mobile IPv6 reports.
        REPORT = 6,
        /// Migrations done.
        MIGRATE = 7,
        /// NAT mappings changed.
        MAPPING = 8,
    }
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ACQUIRE,
        Self::EXPIRE,
        Self::SA,
        Self::POLICY,
        Self::AEVENTS,
        Self::REPORT,
        Self::MIGRATE,
        Self::MAPPING,
    ];
}

open_number! {
    /// An address family as the kernel stores it (`AF_*`).
    Family(u16) {
        /// Any or none.
        UNSPEC = 0,
        /// IPv4.
        INET = 2,
        /// IPv6.
        INET6 = 10,
    }
}

open_number! {
    /// Protocol of an SA: the IP protocol number.
    SaProtocol(u8) {
        /// Any, in filters and flushes.
        ANY = 0,
        /// Encapsulating security payload.
        ESP = 50,
        /// Authentication header.
        AH = 51,
        /// IP payload compression.
        COMP = 108,
        /// Route optimisation: IPv6 routing header.
        ROUTING = 43,
        /// Route optimisation: IPv6 destination options.
        DSTOPTS = 60,
    }
}

open_number! {
    /// Mode of an SA or a template (`XFRM_MODE_*`).
    Mode(u8) {
        /// Transport.
        TRANSPORT = 0,
        /// Tunnel.
        TUNNEL = 1,
        /// Mobile IPv6 route optimisation.
        ROUTEOPTIMIZATION = 2,
        /// Mobile IPv6 inbound trigger.
        IN_TRIGGER = 3,
        /// Bound end-to-end tunnel.
        BEET = 4,
        /// IP-TFS (6.14).
        IPTFS = 5,
    }
}

open_number! {
    /// Direction of a policy. Sockets' own policies show up in dumps with 3 added.
    PolicyDirection(u8) {
        /// Received for this host.
        IN = 0,
        /// Sent by this host, and forwarded packets on their way out.
        OUT = 1,
        /// Received to be forwarded.
        FWD = 2,
        /// A socket's own inbound policy.
        SOCKET_IN = 3,
        /// A socket's own outbound policy.
        SOCKET_OUT = 4,
    }
}

open_number! {
    /// What a policy does with a packet.
    Action(u8) {
        /// Let pass, through the templates if there are any.
        ALLOW = 0,
        /// Drop.
        BLOCK = 1,
    }
}

open_number! {
    /// Direction of an SA (`XFRMA_SA_DIR`); other numbers than [`PolicyDirection`].
    SaDirection(u8) {
        /// Receives.
        IN = 1,
        /// Sends.
        OUT = 2,
    }
}

open_number! {
    /// Encapsulation of ESP in another transport (`UDP_ENCAP_*`, `TCP_ENCAP_*`).
    EncapType(u16) {
        /// Obsolete draft form with an 8-octet non-IKE marker.
        ESPINUDP_NON_IKE = 1,
        /// RFC 3948.
        ESPINUDP = 2,
        /// RFC 9329.
        ESPINTCP = 7,
    }
}

open_number! {
    /// Which table of policies (`XFRM_POLICY_TYPE_*`).
    PolicyType(u8) {
        /// The ordinary one.
        MAIN = 0,
        /// The one that is looked up first.
        SUB = 1,
        /// Both, in flushes.
        ANY = 255,
    }
}

open_number! {
    /// What happens to packets that no policy matches.
    DefaultAction(u8) {
        /// Leave as it is (in requests).
        UNSPEC = 0,
        /// Drop.
        BLOCK = 1,
        /// Let pass.
        ACCEPT = 2,
    }
}

macro_rules! flags {
    ($(#[$meta:meta])* $name:ident($int:ty) { $($(#[$vmeta:meta])* $flag:ident = $value:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(pub $int);

        impl $name {
            $($(#[$vmeta])* pub const $flag: Self = Self($value);)*

            /// Whether every bit of `other` is set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// This with the bits of `other` set too, if `condition` holds.
            #[must_use]
            pub const fn with(self, other: Self, condition: bool) -> Self {
                if condition { Self(self.0 | other.0) } else { self }
            }

            /// Names of the bits that are set and have one.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                [$((Self::$flag, stringify!($flag)),)*]
                    .into_iter()
                    .filter(move |(flag, _)| self.contains(*flag))
                    .map(|(_, name)| name)
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x}"), self.0)?;
                for name in self.names() {
                    write!(f, " {name}")?;
                }
                f.write_str(")")
            }
        }
    };
}

flags! {
    /// `xfrm_usersa_info.flags` (`XFRM_STATE_*`).
    SaFlags(u8) {
        /// Do not copy ECN bits.
        NOECN = 1,
        /// Copy the DSCP inwards at decapsulation.
        DECAP_DSCP = 2,
        /// Do not copy DF to the outer header.
        NOPMTUDISC = 4,
        /// Inbound: accept any source.
        WILDRECV = 8,
        /// Check ICMP errors by the packet they quote.
        ICMP = 16,
        /// The selector has no family: inner and outer families may differ.
        AF_UNSPEC = 32,
        /// AH: align to 4 octets in IPv6.
        ALIGN4 = 64,
        /// Extended sequence numbers.
        ESN = 128,
    }
}

flags! {
    /// `XFRMA_SA_EXTRA_FLAGS` (`XFRM_SA_XFLAG_*`).
    SaExtraFlags(u32) {
        /// Do not copy the DSCP outwards.
        DONT_ENCAP_DSCP = 1,
        /// Let the 32-bit output sequence number wrap.
        OSEQ_MAY_WRAP = 2,
    }
}

flags! {
    /// `xfrm_userpolicy_info.flags` (`XFRM_POLICY_*`).
    PolicyFlags(u8) {
        /// Sockets may override.
        LOCALOK = 1,
        /// Let ICMP errors follow the policy of the packet they quote.
        ICMP = 2,
        /// Ask for one SA per CPU (6.13).
        CPU_ACQUIRE = 4,
    }
}

flags! {
    /// `xfrm_user_offload.flags` (`XFRM_OFFLOAD_*`).
    OffloadFlags(u8) {
        /// Historic, ignored.
        IPV6 = 1,
        /// The SA receives.
        INBOUND = 2,
        /// The device does the whole packet, not only its cryptography (6.2).
        PACKET = 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers_have_names_and_unknown_ones_survive() {
        assert_eq!(format!("{:?}", MessageType::NEWSA), "NEWSA");
        assert_eq!(format!("{:?}", MessageType(0x77)), "MessageType(119)");
        assert_eq!(format!("{:?}", SaFlags(0x81)), "SaFlags(0x81 NOECN ESN)");
        assert_eq!(format!("{:?}", PolicyFlags(0x80)), "PolicyFlags(0x80)");
    }
}
