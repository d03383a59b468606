//! Security associations (SAD entries) as values (K5, K8, K14, K15).

use std::net::IpAddr;
use std::time::Instant;

use crate::{
    CipherKey, CommandError, Family, IntegrityKey, Lifetime, Mark, Mode, Protocol, ReplayWindow,
    Selector,
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

/// A security association.
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
    /// Encryption or AEAD.
    pub encryption: CipherKey,
    /// Integrity; none with AEAD.
    pub integrity: Option<IntegrityKey>,
    /// UDP or TCP encapsulation.
    pub encap: Option<Encap>,
    /// Replay window in packets, up to [`ReplayWindow::MAX`](crate::ReplayWindow::MAX); 0 checks nothing.
    pub replay_window: u32,
    /// Extended (64-bit) sequence numbers.
    pub esn: bool,
    /// Which inner packets it may carry; `None` for no restriction.
    pub selector: Option<Selector>,
    /// When it ends.
    pub lifetime: Lifetime,
    /// Options.
    pub flags: SaFlags,
    /// The sequence number of the ACQUIRE that this SA answers, or 0 (K13).
    pub acquire_seq: u32,
    /// Pad tunnel packets to this many octets; 0 for none.
    pub tfc_pad: u32,
}

impl Sa {
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
        if self.mode == Mode::Iptfs && self.id.protocol != Protocol::Esp {
            return invalid("IP-TFS is for ESP only");
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
