//! What is known of a host, and what is asked about it.

use std::net::IpAddr;

use cygnet_ipsec::reference::Databases;
use cygnet_ipsec::{Direction, Flow};

use crate::report::Explanation;

/// A packet whose way is to be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// `Out`: made here or forwarded, on its way out. `In`: received, for this host. `Fwd`: received, to be forwarded.
    pub direction: Direction,
    /// Source address; of an outbound packet the route's if it has none yet.
    pub src: Option<IpAddr>,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// IP protocol number; 0 if it does not matter.
    pub protocol: u8,
    /// Source port, or ICMP type.
    pub sport: u16,
    /// Destination port, or ICMP code.
    pub dport: u16,
    /// The packet's mark.
    pub mark: u32,
    /// Out: the device that its sender is bound to. In, Fwd: the device that it comes in by.
    pub device: Option<u32>,
    /// Octets of the packet with its IP header; `None` if the size does not matter.
    pub size: Option<usize>,
}

impl Question {
    /// A packet without ports and marks.
    pub fn new(direction: Direction, src: Option<IpAddr>, dst: IpAddr) -> Self {
        Self {
            direction,
            src,
            dst,
            protocol: 0,
            sport: 0,
            dport: 0,
            mark: 0,
            device: None,
            size: None,
        }
    }

    /// What a selector looks at, once the source is known.
    pub(crate) fn flow(&self, src: IpAddr, mark: u32, ifindex: u32) -> Flow {
        Flow {
            sport: self.sport,
            dport: self.dport,
            mark,
            ifindex,
            ..Flow::new(src, self.dst, self.protocol)
        }
    }
}

/// What kind of device it is, as far as IPsec has to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// None of the others.
    Plain,
    /// The loopback device.
    Loopback,
    /// An xfrm interface (K6); `if_id` 0 if it takes that of each packet.
    Xfrm {
        /// The lookup key of its policies and SAs.
        if_id: u32,
    },
    /// A VTI device (K7).
    Vti {
        /// The mark with which packets that it receives are looked up.
        input_key: u32,
        /// The mark with which packets that it sends are looked up.
        output_key: u32,
    },
}

impl DeviceKind {
    /// Whether what goes through it is in clear on this side and protected on the other.
    pub fn is_ipsec(self) -> bool {
        matches!(self, Self::Xfrm { .. } | Self::Vti { .. })
    }
}

/// A network device and its settings for one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The index; never 0.
    pub index: u32,
    /// The name.
    pub name: String,
    /// The kind.
    pub kind: DeviceKind,
    /// Whether it is up.
    pub up: bool,
    /// The MTU in octets.
    pub mtu: usize,
    /// The sysctl `disable_xfrm` (IPv4): no policies for what is sent by it.
    pub disable_xfrm: bool,
    /// The sysctl `disable_policy` of the family asked about: no policies for what comes in by it.
    pub disable_policy: bool,
    /// The sysctl `rp_filter` (IPv4), the larger of the device's and that of `all`: 1 strict, 2 loose.
    pub rp_filter: u8,
}

/// What is asked about a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteQuestion {
    /// Where to.
    pub dst: IpAddr,
    /// The source address, if it is chosen.
    pub src: Option<IpAddr>,
    /// The packet's mark.
    pub mark: u32,
    /// The device that it has to leave by.
    pub output: Option<u32>,
}

/// A route that the kernel would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Index of the output device.
    pub device: u32,
    /// The source address that goes with it.
    pub source: Option<IpAddr>,
    /// The next hop; `None` on the link.
    pub gateway: Option<IpAddr>,
    /// The table it is from.
    pub table: u32,
    /// The path MTU, where the route has one.
    pub mtu: Option<usize>,
    /// The destination is an address of this host.
    pub local: bool,
}

/// There is no route, with the kernel's or the asker's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoute(pub String);

/// Who knows the routes. The kernel is asked, since rules, marks and next hops all have their effect.
pub trait Routes {
    /// The route that a packet takes.
    ///
    /// # Errors
    /// There is none.
    fn route(&mut self, question: &RouteQuestion) -> Result<Route, NoRoute>;
}

/// A host as far as IPsec is concerned.
pub struct Machine<'a> {
    /// Its devices.
    pub devices: Vec<Device>,
    /// SPD and SAD.
    pub databases: Databases,
    /// Its routes.
    pub routes: &'a mut dyn Routes,
}

impl std::fmt::Debug for Machine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("devices", &self.devices)
            .field("databases", &self.databases)
            .finish_non_exhaustive()
    }
}

impl Machine<'_> {
    /// Follows a packet to its end.
    pub fn explain(&mut self, question: &Question) -> Explanation {
        match question.direction {
            Direction::Out => self.outbound(question),
            Direction::In | Direction::Fwd => self.inbound(question),
        }
    }

    pub(crate) fn device(&self, index: u32) -> Option<&Device> {
        self.devices.iter().find(|d| d.index == index)
    }

    pub(crate) fn device_name(&self, index: u32) -> String {
        self.device(index)
            .map_or_else(|| format!("device {index}"), |d| d.name.clone())
    }
}
