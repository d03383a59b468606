//! The xfrm interfaces of route-based connections (`ipsec-interface=`, S0.1 to S1.2): made or adopted, shared, counted.
//!
//! A device belongs to an `if_id`. Connections with the same one share it, whoever made it: one that is there already, of
//! the right kind and with the right `if_id`, is used and left alone when we go (systemd-networkd or an administrator has
//! made it). One that we made carries [`OWNER_ALIAS`]; a later run knows it by that after a crash, and it goes with its
//! last user. Addresses on it are counted by [`InnerAddrs`].

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::inner_addr::{Acquired, AddressControl, InnerAddrs};
use crate::links::{Link, LinkKind, Links, OWNER_ALIAS};
use crate::netlink::RequestError;

/// A device that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// The `if_id`; not 0, which the kernel refuses.
    pub if_id: u32,
    /// Its name, if we are to make it where it is missing; `None` (`ipsec-interface-managed=no`): it has to be there, by
    /// whatever name, and we change nothing about it.
    pub name: Option<String>,
    /// What is to be on it (`interface-ip`); without effect on a device that is not managed.
    pub addresses: Vec<IpNet>,
}

/// Why there is no such device.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// Somebody else's device has the name.
    #[error("there is a device {name} already, and it is {what}")]
    Occupied {
        /// The name.
        name: String,
        /// What it is, for people.
        what: String,
    },
    /// Another device has the `if_id`, and there can be one only.
    #[error(
        "the device {name} has if_id {if_id:#x} already: rename or remove it, or set ipsec-interface-managed=no"
    )]
    IfIdTaken {
        /// The device.
        name: String,
        /// The `if_id`.
        if_id: u32,
    },
    /// It is not managed by us and not there.
    #[error(
        "no xfrm interface with if_id {if_id:#x} is there, and ipsec-interface-managed=no says that we must not make one"
    )]
    Missing {
        /// The `if_id`.
        if_id: u32,
    },
    /// The kernel refused.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// What [`IpsecInterfaces::acquire`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// How it came to be ours to use; an address of that name is meant likewise.
    pub origin: Acquired,
}

#[derive(Debug)]
struct Entry {
    index: u32,
    name: String,
    foreign: bool,
    users: usize,
}

/// The devices in use, counted.
#[derive(Debug, Default)]
pub struct IpsecInterfaces {
    entries: BTreeMap<u32, Entry>,
    addresses: InnerAddrs,
}

impl IpsecInterfaces {
    /// Makes sure that the device is there, up and with these addresses, and counts one more user of each.
    ///
    /// # Errors
    /// [`InterfaceError`]; nothing is counted then, and what was made for it is gone again.
    pub fn acquire(
        &mut self,
        kernel: &mut (impl Links + AddressControl),
        wanted: &InterfaceSpec,
    ) -> Result<Interface, InterfaceError> {
        let interface = self.device(kernel, wanted)?;
        let managed = wanted.name.is_some();
        let addresses = if managed { &wanted.addresses[..] } else { &[] };
        let mut done = Vec::new();
        let mut ready = || {
            for &address in addresses {
                self.addresses.acquire(kernel, interface.index, address)?;
                done.push(address);
            }
            if managed {
                kernel.set_up(interface.index, true)?;
            }
            Ok(())
        };
        match ready() {
            Ok(()) => Ok(interface),
            Err(error) => {
                // The first refusal says more than what may follow from it.
                let _ = self.release(kernel, wanted.if_id, &done);
                Err(InterfaceError::Request(error))
            }
        }
    }

    /// The device, with one more user.
    fn device(
        &mut self,
        kernel: &mut impl Links,
        wanted: &InterfaceSpec,
    ) -> Result<Interface, InterfaceError> {
        let links = kernel.links()?;
        if let Some(entry) = self.entries.get_mut(&wanted.if_id) {
            let there = |l: &Link| l.index == entry.index && l.kind == kind(wanted.if_id);
            if links.iter().any(there) {
                entry.users += 1;
                return Ok(Interface {
                    index: entry.index,
                    name: entry.name.clone(),
                    origin: Acquired::Shared,
                });
            }
        }
        let found = links.iter().find(|l| l.kind == kind(wanted.if_id));
        let (link, origin) = match (found, &wanted.name) {
            (Some(link), None) => (link.clone(), Acquired::Foreign),
            (None, None) => {
                return Err(InterfaceError::Missing {
                    if_id: wanted.if_id,
                });
            }
            (Some(link), Some(name)) if link.name == *name => {
                let origin = if link.is_ours() {
                    Acquired::Adopted
                } else {
                    Acquired::Foreign
                };
                (link.clone(), origin)
            }
            (Some(link), Some(_)) => {
                return Err(InterfaceError::IfIdTaken {
                    name: link.name.clone(),
                    if_id: wanted.if_id,
                });
            }
            (None, Some(name)) => match links.iter().find(|l| l.name == *name) {
                Some(other) => {
                    return Err(InterfaceError::Occupied {
                        name: name.clone(),
                        what: describe(&other.kind),
                    });
                }
                None => (make(kernel, name, wanted.if_id)?, Acquired::Added),
            },
        };
        // If the former device of this if_id was taken away, its users are those of the new one.
        let users = self.entries.get(&wanted.if_id).map_or(0, |e| e.users) + 1;
        let entry = Entry {
            index: link.index,
            name: link.name.clone(),
            foreign: origin == Acquired::Foreign,
            users,
        };
        self.entries.insert(wanted.if_id, entry);
        Ok(Interface {
            index: link.index,
            name: link.name,
            origin,
        })
    }

    /// Counts one user of these addresses and of the device less; the last ones take away what is ours. Answers whether
    /// the device was removed.
    ///
    /// # Errors
    /// The first refusal of the kernel; the rest is done all the same.
    pub fn release(
        &mut self,
        kernel: &mut (impl Links + AddressControl),
        if_id: u32,
        addresses: &[IpNet],
    ) -> Result<bool, RequestError> {
        let Some(entry) = self.entries.get_mut(&if_id) else {
            return Ok(false);
        };
        let (index, foreign) = (entry.index, entry.foreign);
        entry.users = entry.users.saturating_sub(1);
        let last = entry.users == 0;
        let mut result = Ok(false);
        for &address in addresses {
            let released = self.addresses.release(kernel, index, address);
            result = result.and_then(|gone| released.map(|_| gone));
        }
        if !last {
            return result;
        }
        self.entries.remove(&if_id);
        if foreign {
            return result;
        }
        match kernel.delete_link(index) {
            Ok(()) => result.map(|_| true),
            Err(error) if error.is_not_found() => result,
            Err(error) => result.and(Err(error)),
        }
    }

    /// Removes the devices and addresses of ours that nobody uses: what a crash has left. Answers the names of the devices.
    ///
    /// # Errors
    /// The first refusal of the kernel; those after it are not tried.
    pub fn remove_leftovers(
        &mut self,
        kernel: &mut (impl Links + AddressControl),
    ) -> Result<Vec<String>, RequestError> {
        self.addresses.remove_leftovers(kernel)?;
        let mut names = Vec::new();
        for link in kernel.links()? {
            let LinkKind::Xfrm { if_id } = link.kind else {
                continue;
            };
            let used = self
                .entries
                .get(&if_id)
                .is_some_and(|e| e.index == link.index);
            if link.is_ours() && !used {
                kernel.delete_link(link.index)?;
                names.push(link.name);
            }
        }
        Ok(names)
    }

    /// The device of an `if_id`, if it is in use: index and name.
    #[must_use]
    pub fn get(&self, if_id: u32) -> Option<(u32, &str)> {
        self.entries.get(&if_id).map(|e| (e.index, e.name.as_str()))
    }
}

fn kind(if_id: u32) -> LinkKind {
    LinkKind::Xfrm { if_id }
}

/// Makes a device and marks it as ours, or leaves none.
fn make(kernel: &mut impl Links, name: &str, if_id: u32) -> Result<Link, RequestError> {
    kernel.add_xfrm_interface(name, if_id)?;
    let link = kernel.link(name)?;
    if let Err(error) = kernel.set_alias(link.index, OWNER_ALIAS) {
        let _ = kernel.delete_link(link.index);
        return Err(error);
    }
    Ok(link)
}

fn describe(kind: &LinkKind) -> String {
    match kind {
        LinkKind::Plain => "no xfrm interface".to_owned(),
        LinkKind::Tun => "a TUN device".to_owned(),
        LinkKind::Xfrm { if_id: 0 } => "an xfrm interface that collects metadata".to_owned(),
        LinkKind::Xfrm { if_id } => format!("an xfrm interface with if_id {if_id:#x}"),
        LinkKind::Vti { .. } => "a VTI".to_owned(),
        LinkKind::Other(kind) => format!("of kind {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface_addr::InterfaceAddrs;
    use crate::memory::Network;

    fn spec(number: u32, addresses: &[&str]) -> InterfaceSpec {
        InterfaceSpec {
            if_id: number,
            name: Some(format!("ipsec{number}")),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        }
    }

    fn names(kernel: &mut Network) -> Vec<String> {
        let links = kernel.links().unwrap();
        links.into_iter().map(|l| l.name).collect()
    }

    #[test]
    fn it_is_made_for_the_first_and_goes_with_the_last() {
        let mut kernel = Network::new();
        let mut interfaces = IpsecInterfaces::default();
        let (one, two) = (
            spec(1, &["10.9.0.1/24"]),
            spec(1, &["10.9.0.1/24", "2001:db8::1/64"]),
        );
        let first = interfaces.acquire(&mut kernel, &one).unwrap();
        assert_eq!(
            (first.name.as_str(), first.origin),
            ("ipsec1", Acquired::Added)
        );
        let link = kernel.link("ipsec1").unwrap();
        assert!(link.is_ours() && link.up && link.kind == LinkKind::Xfrm { if_id: 1 });
        let second = interfaces.acquire(&mut kernel, &two).unwrap();
        assert_eq!(
            (second.index, second.origin),
            (first.index, Acquired::Shared)
        );
        assert_eq!(kernel.addresses().unwrap().len(), 2);

        assert!(!interfaces.release(&mut kernel, 1, &two.addresses).unwrap());
        let left = kernel.addresses().unwrap();
        assert_eq!(left.len(), 1, "the address of the other stays");
        assert!(interfaces.release(&mut kernel, 1, &one.addresses).unwrap());
        assert_eq!(names(&mut kernel), ["lo"]);
        assert!(!interfaces.release(&mut kernel, 1, &[]).unwrap());
    }

    #[test]
    fn what_others_made_is_used_and_left() {
        let mut kernel = Network::new();
        kernel.add_link("ipsec7", LinkKind::Xfrm { if_id: 7 });
        let mut interfaces = IpsecInterfaces::default();
        let found = interfaces
            .acquire(&mut kernel, &spec(7, &["10.9.0.1/24"]))
            .unwrap();
        assert_eq!(found.origin, Acquired::Foreign);
        let addresses = ["10.9.0.1/24".parse().unwrap()];
        assert!(!interfaces.release(&mut kernel, 7, &addresses).unwrap());
        assert_eq!(names(&mut kernel), ["lo", "ipsec7"]);
        assert!(
            kernel.addresses().unwrap().is_empty(),
            "but our address goes"
        );
        assert_eq!(kernel.link("ipsec7").unwrap().alias, None);
    }

    #[test]
    fn devices_that_do_not_fit_are_named() {
        let mut kernel = Network::new();
        kernel.add_link("ipsec1", LinkKind::Other("bridge".to_owned()));
        kernel.add_link("ipsec3", LinkKind::Xfrm { if_id: 9 });
        kernel.add_link("wan", LinkKind::Xfrm { if_id: 4 });
        let mut interfaces = IpsecInterfaces::default();
        let mut refusal = |number| {
            let refused = interfaces.acquire(&mut kernel, &spec(number, &[]));
            refused.unwrap_err().to_string()
        };
        assert_eq!(
            refusal(1),
            "there is a device ipsec1 already, and it is of kind bridge"
        );
        assert_eq!(
            refusal(3),
            "there is a device ipsec3 already, and it is an xfrm interface with if_id 0x9"
        );
        assert_eq!(
            refusal(4),
            "the device wan has if_id 0x4 already: rename or remove it, or set ipsec-interface-managed=no"
        );
    }

    #[test]
    fn an_unmanaged_one_is_found_by_its_if_id_and_not_touched() {
        let mut kernel = Network::new();
        let mut interfaces = IpsecInterfaces::default();
        let wanted = InterfaceSpec {
            name: None,
            ..spec(4, &["10.9.0.1/24"])
        };
        assert!(matches!(
            interfaces.acquire(&mut kernel, &wanted),
            Err(InterfaceError::Missing { if_id: 4 })
        ));
        let index = kernel.add_link("wan", LinkKind::Xfrm { if_id: 4 });
        kernel.set_up(index, false).unwrap();
        assert_eq!(
            interfaces.acquire(&mut kernel, &wanted).unwrap().name,
            "wan"
        );
        assert!(kernel.addresses().unwrap().is_empty());
        assert!(!kernel.link("wan").unwrap().up);
    }

    #[test]
    fn what_a_crash_left_is_adopted_or_goes() {
        let mut kernel = Network::new();
        let mut dead = IpsecInterfaces::default();
        for number in [1, 2] {
            dead.acquire(&mut kernel, &spec(number, &["10.9.0.1/24"]))
                .unwrap();
        }
        let mut interfaces = IpsecInterfaces::default();
        let found = interfaces
            .acquire(&mut kernel, &spec(1, &["10.9.0.1/24"]))
            .unwrap();
        assert_eq!(found.origin, Acquired::Adopted);
        assert_eq!(
            interfaces.remove_leftovers(&mut kernel).unwrap(),
            ["ipsec2"]
        );
        assert_eq!(names(&mut kernel), ["lo", "ipsec1"]);
        assert!(
            interfaces
                .release(&mut kernel, 1, &found_addresses())
                .unwrap()
        );
        assert_eq!(names(&mut kernel), ["lo"]);
    }

    fn found_addresses() -> [IpNet; 1] {
        ["10.9.0.1/24".parse().unwrap()]
    }

    #[test]
    fn a_device_that_was_deleted_under_us_is_made_again() {
        let mut kernel = Network::new();
        let mut interfaces = IpsecInterfaces::default();
        let first = interfaces.acquire(&mut kernel, &spec(1, &[])).unwrap();
        kernel.delete_link(first.index).unwrap();
        let second = interfaces.acquire(&mut kernel, &spec(1, &[])).unwrap();
        assert_eq!(second.origin, Acquired::Added);
        assert!(!interfaces.release(&mut kernel, 1, &[]).unwrap());
        assert!(interfaces.release(&mut kernel, 1, &[]).unwrap());
    }
}
