//! Security associations (SAD entries) as values (K5, K8, K14, K15).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::{
    CipherKey, CommandError, Family, IntegrityKey, Lifetime, Mark, Mode, Protocol, ReplayWindow,
    SecurityLabel, Selector,
};

/// What identifies an SA in the SAD.
///
/// The mark takes part as in a packet lookup: an id finds the SA whose mark accepts `mark.value & mark.mask` (K14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SaId {
    /// The outer destination.
    pub dst: IpAddr,
    /// The SPI in host order; 0 only in larval states.
    pub spi: u32,
    /// The IPsec protocol.
    pub protocol: Protocol,
    /// Which packet marks the SA accepts; [`Mark::ANY`] for nearly every SA (S1.7).
    pub mark: Mark,
}

/// Which way an SA is used (XFRMA_SA_DIR).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SaDirection {
    /// It opens received packets.
    In = 1,
    /// It seals packets to be sent.
    Out = 2,
}

/// What carries ESP in place of bare IP; the discriminants are the kernel's encapsulation types (K15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum EncapKind {
    /// UDP, RFC 3948.
    Udp = 2,
    /// TCP, RFC 9329.
    Tcp = 7,
}

impl EncapKind {
    /// The name for status and log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// UDP or TCP encapsulation of ESP. Which port is the packet's source follows from the SA's direction: that of an
/// inbound SA is `remote_port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Encap {
    /// What carries ESP.
    pub kind: EncapKind,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

/// Options of an SA; the kernel's XFRM_STATE_ and XFRM_SA_XFLAG_ flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct SaFlags {
    /// Do not carry congestion marks between the headers.
    pub no_ecn: bool,
    /// Copy the outer DSCP to the inner header after decapsulation.
    pub decap_dscp: bool,
    /// Do not copy DF to the outer header; let routers fragment it.
    pub no_pmtu_disc: bool,
    /// Mobile IPv6: the SA is for packets whose source address may differ.
    pub wild_recv: bool,
    /// Inbound ICMP errors may be checked against the packet they quote (K9).
    pub icmp: bool,
    /// A tunnel SA for inner packets of either family (S4.11).
    pub af_unspec: bool,
    /// IPv4 AH with 4-octet alignment.
    pub align4: bool,
    /// Do not copy the inner DSCP to the outer header.
    pub dont_encap_dscp: bool,
    /// Let the outbound 32-bit sequence number wrap (K12).
    pub oseq_may_wrap: bool,
}

/// How an IPComp SA compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// DEFLATE, RFC 2394.
    Deflate,
}

/// What an IP-TFS SA is told (RFC 9347); the default is the kernel's (6.14). Each direction takes what concerns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Iptfs {
    /// Out: never spread an inner packet over several outer ones: the peer does not take such.
    pub dont_fragment: bool,
    /// Out: octets of an outer packet, 0 for the path MTU.
    pub packet_size: u32,
    /// Out: octets of inner packets that may wait.
    pub max_queue: u32,
    /// Out: how long the first inner packet waits for others.
    pub init_delay: Duration,
    /// In: how many outer packets may be awaited out of order.
    pub reorder_window: u16,
    /// In: how long a missing one is waited for.
    pub drop_time: Duration,
}

impl Default for Iptfs {
    fn default() -> Iptfs {
        Iptfs {
            dont_fragment: false,
            packet_size: 0,
            max_queue: 1024 * 10240,
            init_delay: Duration::ZERO,
            reorder_window: 3,
            drop_time: Duration::from_secs(1),
        }
    }
}

/// A security association: one transform. IPComp is an SA of its own beside that of ESP or AH (RFC 3173 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sa {
    /// What identifies it. The outer destination is `id.dst`.
    pub id: SaId,
    /// The outer source.
    pub src: IpAddr,
    /// Which way it is used.
    pub direction: SaDirection,
    /// The mode.
    pub mode: Mode,
    /// The request id that binds policies to it.
    pub reqid: u32,
    /// The xfrm interface it belongs to, 0 for none.
    pub if_id: u32,
    /// The mark written on the packet that comes out, so that its route can be steered (S1.5, S1.6).
    pub set_mark: Option<Mark>,
    /// Encryption or AEAD; ESP has one, though it may be NULL, AH and IPComp have none.
    pub encryption: Option<CipherKey>,
    /// Integrity; none with AEAD and with IPComp.
    pub integrity: Option<IntegrityKey>,
    /// UDP or TCP encapsulation.
    pub encap: Option<Encap>,
    /// Replay window in packets, up to [`ReplayWindow::MAX`](crate::ReplayWindow::MAX); 0 checks nothing.
    pub replay_window: u32,
    /// Extended (64-bit) sequence numbers.
    pub esn: bool,
    /// Which inner packets it may carry; `None` for no restriction. That of a BEET SA names the two hosts whose addresses
    /// the inner header has.
    pub selector: Option<Selector>,
    /// When it ends.
    pub lifetime: Lifetime,
    /// Options.
    pub flags: SaFlags,
    /// The sequence number of the ACQUIRE that this SA answers, or 0 (K13).
    pub acquire_seq: u32,
    /// Pad tunnel packets to this many octets, or as far as the path allows (RFC 4303 §2.7); 0 for none.
    pub tfc_pad: u32,
    /// How an IPComp SA compresses; the other protocols do not.
    pub compression: Option<Compression>,
    /// Parameters of [`Mode::Iptfs`]; `None` leaves them to the plane.
    pub iptfs: Option<Iptfs>,
    /// Out: the CPU whose packets it carries (RFC 9611), the others' only as long as they have none of their own. The
    /// lookups of this crate know nothing of CPUs.
    pub cpu: Option<u32>,
    /// The security label of what it carries (RFC 9478).
    pub label: Option<SecurityLabel>,
}

impl Sa {
    /// An SA that has nothing but its identity: a larval one, or what the others begin with.
    pub fn new(id: SaId, src: IpAddr, direction: SaDirection, mode: Mode, reqid: u32) -> Sa {
        Sa {
            id,
            src,
            direction,
            mode,
            reqid,
            if_id: 0,
            set_mark: None,
            encryption: None,
            integrity: None,
            encap: None,
            replay_window: 0,
            esn: false,
            selector: None,
            lifetime: Lifetime::UNLIMITED,
            flags: SaFlags::default(),
            acquire_seq: 0,
            tfc_pad: 0,
            compression: None,
            iptfs: None,
            cpu: None,
            label: None,
        }
    }

    /// The family of the outer addresses.
    pub fn family(&self) -> Family {
        Family::of(self.id.dst)
    }

    /// Checks what every store checks before it takes an SA. Whether the keys fit the algorithms is for those to tell
    /// who know them.
    ///
    /// # Errors
    ///
    /// [`CommandError::Invalid`] naming the first rule broken.
    pub fn validate(&self) -> Result<(), CommandError> {
        let invalid = |reason: &str| Err(CommandError::Invalid(reason.into()));
        if self.id.spi == 0 {
            return invalid("an SA needs an SPI other than 0");
        }
        if self.id.mark != self.id.mark.normalized() {
            // The kernel clears such bits in the marks of policies only. It would keep the SA and never find it.
            return invalid("the SA's mark has bits outside its mask");
        }
        if Family::of(self.src) != self.family() {
            return invalid("the SA's addresses are of different families");
        }
        if self.replay_window > ReplayWindow::MAX {
            return invalid("a replay window has 4096 packets at most");
        }
        if self.esn && self.replay_window == 0 && self.direction == SaDirection::In {
            return invalid("inbound extended sequence numbers need a replay window");
        }
        match self.id.protocol {
            Protocol::Esp if self.encryption.is_none() => {
                return invalid("ESP needs a cipher, if only NULL");
            }
            Protocol::Ah if self.encryption.is_some() || self.integrity.is_none() => {
                return invalid("AH has integrity protection and no encryption");
            }
            Protocol::Comp if self.encryption.is_some() || self.integrity.is_some() => {
                return invalid("IPComp has no keys");
            }
            Protocol::Comp if self.id.spi > 0xffff => {
                return invalid("a compression parameter index has 16 bits");
            }
            _ => {}
        }
        if (self.id.protocol == Protocol::Comp) != self.compression.is_some() {
            return invalid("compression is what IPComp has and nothing else");
        }
        if self.mode == Mode::Iptfs && self.id.protocol != Protocol::Esp {
            return invalid("IP-TFS is for ESP only");
        }
        if self.iptfs.is_some() && self.mode != Mode::Iptfs {
            return invalid("IP-TFS parameters are for IP-TFS only");
        }
        if let Some(selector) = &self.selector {
            if !selector.is_consistent() {
                return invalid("the selector's prefixes are of different families");
            }
            if !self.mode.is_tunnel_type() && selector.family() != self.family() {
                return invalid("only tunnel-type modes may change the family");
            }
        }
        Ok(())
    }
}

/// What an SA has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SaCounters {
    /// Octets, counted as the kernel does: clear packet with its headers outbound (K4), decrypted inbound (K8).
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// When it was installed, if the plane can tell.
    pub added: Option<Instant>,
    /// When it was first used, if ever.
    pub used: Option<Instant>,
    /// Packets dropped by the replay check: left of the window.
    pub replay_window: u32,
    /// Packets dropped by the replay check: seen before.
    pub replay: u32,
    /// Packets that failed authentication.
    pub integrity_failed: u32,
}
