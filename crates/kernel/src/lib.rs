//! The kernel behind nine replaceable groups of operations: Linux and in-memory implementations.
//!
//! | group | trait | Linux | in memory |
//! |---|---|---|---|
//! | S3.1 IKE sockets | [`IkeSockets`], [`IkeSocket`] | [`linux::UdpSockets`] | [`memory::Network`] |
//! | S3.2 default route | [`RouteLookup`] | [`linux::Rtnetlink`] | [`memory::Network`] |
//! | S3.3 interface addresses | [`InterfaceAddrs`] | [`linux::Rtnetlink`] | [`memory::Network`] |
//! | S3.4 address events | [`AddrEvents`] | [`linux::AddrMonitor`] | [`memory::AddrMonitor`] |
//! | S3.5 SAD and SPD | [`Sadb`] with [`cygnet_ipsec::SaDatabase`], owned by [`ledger`] | [`sadb::LinuxSadb`] | [`sadb::MemorySadb`] |
//! | S3.6 holes | [`holes`]: policies through the SPD | | |
//! | S3.7 offload | [`OffloadProbe`] | [`linux::Ethtool`] | [`memory::Network`] |
//! | S3.8 inner addresses | [`AddressControl`], counted by [`InnerAddrs`] | [`linux::Rtnetlink`] | [`memory::Network`] |
//! | S3.9 route events | [`RouteEvents`] | [`linux::RouteMonitor`] | [`memory::RouteMonitor`] |
//! | helpers | [`Links`], [`Routing`], [`PacketFilter`] | [`linux::Rtnetlink`], [`linux::Nftables`] | [`memory::Network`] |
//!
//! On top of them: [`IpsecInterfaces`] keeps the xfrm interfaces of route-based connections, [`Fence`] keeps protected traffic from travelling in clear when user space does the work, and
//! [`TunnelRouting`] and [`InterfaceRouting`] lead it into the devices.

mod addr_events;
mod default_route;
pub mod fence;
pub mod holes;
mod ike_socket;
mod inner_addr;
mod interface_addr;
mod interface_routing;
mod ipsec_interface;
pub mod ledger;
mod links;
pub mod linux;
pub mod memory;
mod netlink;
mod offload;
mod route_events;
mod routes;
pub mod routing;
pub mod sadb;

pub use addr_events::{AddrEvent, AddrEvents};
pub use default_route::{LookupError, RouteAnswer, RouteLookup, RouteQuery};
pub use fence::{Enclosure, Fence, FenceError, FilterTable, PacketFilter};
pub use ike_socket::{
    IKE_PORT, IkeSocket, IkeSocketSpec, IkeSockets, NAT_PORT, OpenError, PathMtu, Received,
    Unsuitable, listen_addresses, suitable,
};
pub use inner_addr::{Acquired, AddressControl, InnerAddrs};
pub use interface_addr::{InterfaceAddr, InterfaceAddrs, Scope, primary_address, source_within};
pub use interface_routing::{EscapeOptions, InterfaceRoute, InterfaceRouting};
pub use ipsec_interface::{Interface, InterfaceError, InterfaceSpec, IpsecInterfaces};
pub use links::{Link, LinkKind, Links, OWNER_ALIAS, Setting};
pub use netlink::RequestError;
pub use offload::{EspOffload, OffloadProbe};
pub use route_events::{RouteEvent, RouteEvents};
pub use routes::{Route, RouteKind, Routing, Rule, TABLE_MAIN};
pub use routing::{Leftovers, RoutingError, RoutingOptions, TunnelRoute, TunnelRouting};
pub use sadb::{Sadb, SadbEvent};

/// The protocol number that our routes, rules and addresses carry (`RTA_PROTOCOL`, `FRA_PROTOCOL`, `IFA_PROTO`). Not in
/// use by anybody in `/etc/iproute2/rt_protos`; 67 is `C` in ASCII.
pub const OWNER_PROTOCOL: u8 = 67;
