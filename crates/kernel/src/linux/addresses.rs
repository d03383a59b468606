//! Addresses by rtnetlink.

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
};

use super::{Rtnetlink, family_of};
use crate::inner_addr::AddressControl;
use crate::interface_addr::{InterfaceAddr, InterfaceAddrs, Scope};
use crate::links::Links;
use crate::netlink::{NLM_F_CREATE, NLM_F_EXCL, RequestError};

/// `IFA_F_OPTIMISTIC`: usable although duplicate address detection still runs.
const OPTIMISTIC: AddressFlags = AddressFlags::Optimistic;

/// The address that a message describes; `None` for other families.
pub(crate) fn address_of(message: &AddressMessage) -> Option<InterfaceAddr> {
    let mut local = None;
    let mut address = None;
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let mut protocol = 0;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            // All 32 bits; the header has room for the lower eight only.
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::Protocol(p) => protocol = u8::from(*p),
            _ => {}
        }
    }
    // On point-to-point links IFA_ADDRESS is the other end and IFA_LOCAL ours; elsewhere IPv6 sends IFA_ADDRESS only.
    let own = local.or(address)?;
    Some(InterfaceAddr {
        ifindex: message.header.index,
        address: IpNet::new(own, message.header.prefix_len).ok()?,
        peer: address.filter(|a| *a != own),
        scope: Scope(u8::from(message.header.scope)),
        tentative: flags.contains(AddressFlags::Tentative) && !flags.contains(OPTIMISTIC),
        duplicate: flags.contains(AddressFlags::Dadfailed),
        deprecated: flags.contains(AddressFlags::Deprecated),
        secondary: flags.contains(AddressFlags::Secondary),
        protocol,
    })
}

impl InterfaceAddrs for Rtnetlink {
    fn addresses(&mut self) -> Result<Vec<InterfaceAddr>, RequestError> {
        let answers = self.dump(
            "list addresses",
            &RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        )?;
        Ok(answers
            .iter()
            .filter_map(|m| match m {
                RouteNetlinkMessage::NewAddress(m) => address_of(m),
                _ => None,
            })
            .collect())
    }

    fn addresses_of(&mut self, device: &str) -> Result<Vec<InterfaceAddr>, RequestError> {
        let link = self.link(device)?;
        let mut addresses = self.addresses()?;
        addresses.retain(|a| a.ifindex == link.index);
        Ok(addresses)
    }
}

fn message(ifindex: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family_of(address.addr().is_ipv6());
    message.header.prefix_len = address.prefix_len();
    message.header.index = ifindex;
    message
        .attributes
        .push(AddressAttribute::Local(address.addr()));
    message
        .attributes
        .push(AddressAttribute::Address(address.addr()));
    message
}

impl AddressControl for Rtnetlink {
    fn add_address(&mut self, ifindex: u32, address: IpNet) -> Result<(), RequestError> {
        let mut message = message(ifindex, address);
        if address.addr().is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message
            .attributes
            .push(AddressAttribute::Protocol(AddressProtocol::Other(
                crate::OWNER_PROTOCOL,
            )));
        self.ask(
            &format!("add address {address} dev #{ifindex}"),
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map(drop)
    }

    fn delete_address(&mut self, ifindex: u32, address: IpNet) -> Result<(), RequestError> {
        self.ask(
            &format!("delete address {address} dev #{ifindex}"),
            RouteNetlinkMessage::DelAddress(message(ifindex, address)),
            0,
        )
        .map(drop)
    }
}
