//! Links (network devices): finding them, bringing them up, their MTU, alias and per-device settings.
//!
//! A helper of the groups that work on devices (S3.7, S3.8) and of the fence. A link that we made carries
//! [`OWNER_ALIAS`] as its alias, which survives us and is how leftovers of a crash are recognised.

use crate::netlink::RequestError;

/// Alias of the links that we made (`ip link set dev X alias cygnet`).
pub const OWNER_ALIAS: &str = "cygnet";

/// What kind of device a link is (`IFLA_INFO_KIND`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// No kind: hardware, loopback and a few old drivers.
    Plain,
    /// A TUN or TAP device.
    Tun,
    /// An xfrm interface (K6).
    Xfrm {
        /// Its `if_id`, the lookup key of its policies and SAs; 0: it takes that of each packet (collect-metadata).
        if_id: u32,
    },
    /// A VTI device of either family (K7).
    Vti {
        /// The mark with which packets that it receives are looked up.
        input_key: u32,
        /// The mark with which packets that it sends are looked up.
        output_key: u32,
    },
    /// Any other, by the kernel's name, such as `veth` or `bridge`.
    Other(String),
}

/// A link as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The interface index; never 0.
    pub index: u32,
    /// The name, at most 15 octets.
    pub name: String,
    /// The kind.
    pub kind: LinkKind,
    /// `IFF_UP`: the administrator wants it up.
    pub up: bool,
    /// `IFF_LOWER_UP`: there is a carrier.
    pub carrier: bool,
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// The MTU in octets.
    pub mtu: u32,
    /// The alias (`ip link set … alias`).
    pub alias: Option<String>,
}

impl Link {
    /// Whether we made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.alias.as_deref() == Some(OWNER_ALIAS)
    }
}

/// A per-device setting below `/proc/sys/net`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Setting {
    /// `net.ipv4.conf.DEV.disable_policy`: no inbound policy check for IPv4 packets that arrive on the device (K2).
    DisablePolicyV4,
    /// `net.ipv6.conf.DEV.disable_policy`: no forward policy check for IPv6 packets that arrive on the device. For
    /// local delivery the kernel asks the device that *owns the destination address* instead (see [`crate::fence`]).
    DisablePolicyV6,
    /// `net.ipv4.conf.DEV.disable_xfrm`: no outbound policy lookup for IPv4 packets routed to the device (K2).
    DisableXfrmV4,
    /// `net.ipv4.conf.DEV.forwarding`.
    ForwardingV4,
    /// `net.ipv6.conf.DEV.forwarding`.
    ForwardingV6,
    /// `net.ipv4.conf.DEV.rp_filter`: 0 off, 1 strict, 2 loose. The kernel uses the larger of this and `all`.
    RpFilter,
    /// `net.ipv6.conf.DEV.disable_ipv6`.
    DisableIpv6,
    /// `net.ipv6.conf.DEV.addr_gen_mode`: 1 keeps the kernel from giving the device a link-local address.
    AddrGenMode,
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::DisablePolicyV4,
        Self::DisablePolicyV6,
        Self::DisableXfrmV4,
        Self::ForwardingV4,
        Self::ForwardingV6,
        Self::RpFilter,
        Self::DisableIpv6,
        Self::AddrGenMode,
    ];

    const fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::DisablePolicyV4 => ("ipv4", "disable_policy"),
            Self::DisablePolicyV6 => ("ipv6", "disable_policy"),
            Self::DisableXfrmV4 => ("ipv4", "disable_xfrm"),
            Self::ForwardingV4 => ("ipv4", "forwarding"),
            Self::ForwardingV6 => ("ipv6", "forwarding"),
            Self::RpFilter => ("ipv4", "rp_filter"),
            Self::DisableIpv6 => ("ipv6", "disable_ipv6"),
            Self::AddrGenMode => ("ipv6", "addr_gen_mode"),
        }
    }

    /// The sysctl's name for a device, with `/` between the parts because device names may contain dots.
    #[must_use]
    pub fn name(self, device: &str) -> String {
        let (family, leaf) = self.parts();
        format!("net/{family}/conf/{device}/{leaf}")
    }
}

/// Operations on links.
pub trait Links {
    /// All links.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    fn links(&mut self) -> Result<Vec<Link>, RequestError>;

    /// The link of that name.
    ///
    /// # Errors
    /// [`RequestError::NotFound`] if there is none.
    fn link(&mut self, name: &str) -> Result<Link, RequestError>;

    /// Brings a link up or down.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn set_up(&mut self, index: u32, up: bool) -> Result<(), RequestError>;

    /// Sets the MTU in octets.
    ///
    /// # Errors
    /// When the kernel refuses, for example because the driver's range is exceeded.
    fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<(), RequestError>;

    /// Sets the alias; [`OWNER_ALIAS`] marks a link as ours.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn set_alias(&mut self, index: u32, alias: &str) -> Result<(), RequestError>;

    /// Makes an xfrm interface (K6); it is down.
    ///
    /// It is bound to no other device: the route of the ESP packets decides by which they leave (Linux 5.3).
    ///
    /// # Errors
    /// [`RequestError::Exists`] if the name or the `if_id` is taken, [`RequestError::Unsupported`] if the kernel has no
    /// xfrm interfaces (4.19, `CONFIG_XFRM_INTERFACE`).
    fn add_xfrm_interface(&mut self, name: &str, if_id: u32) -> Result<(), RequestError>;

    /// Deletes a link.
    ///
    /// # Errors
    /// When the kernel refuses; hardware cannot be deleted.
    fn delete_link(&mut self, index: u32) -> Result<(), RequestError>;

    /// Reads a setting of a device (or of `all` and `default`).
    ///
    /// # Errors
    /// [`RequestError::NotFound`] if the device or, for IPv6 settings, IPv6 is not there.
    fn setting(&mut self, device: &str, setting: Setting) -> Result<i64, RequestError>;

    /// Writes a setting of a device.
    ///
    /// # Errors
    /// As for reading, and when the value is refused.
    fn set_setting(
        &mut self,
        device: &str,
        setting: Setting,
        value: i64,
    ) -> Result<(), RequestError>;
}
