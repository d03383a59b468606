//! S3.8: addresses that we put on devices (`leftinterface-ip=`, leased inner addresses), counted by their users.
//!
//! Two connections may ask for the same address on the same device; it goes when the last one releases it. An address
//! that somebody else put there is used but never removed. Ours carry [`crate::OWNER_PROTOCOL`] as `IFA_PROTO`, so that
//! after a crash the next run recognises them ([`InnerAddrs::remove_leftovers`]). Kernels before 5.18 drop the mark: there
//! a leftover looks foreign and stays.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::interface_addr::{InterfaceAddr, InterfaceAddrs};
use crate::netlink::RequestError;

/// Putting addresses on devices and taking them away: what [`InnerAddrs`] needs of the kernel.
pub trait AddressControl: InterfaceAddrs {
    /// Adds an address marked as ours; IPv6 addresses without duplicate address detection, since they are
    /// given to us by configuration or by the peer and must be usable at once.
    ///
    /// # Errors
    /// [`RequestError::Exists`] if the device has that address with that prefix length.
    fn add_address(&mut self, ifindex: u32, address: IpNet) -> Result<(), RequestError>;

    /// Removes an address.
    ///
    /// # Errors
    /// [`RequestError::NotFound`] if it, or the device, is gone.
    fn delete_address(&mut self, ifindex: u32, address: IpNet) -> Result<(), RequestError>;
}

/// What [`InnerAddrs::acquire`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquired {
    /// It was added.
    Added,
    /// Another user of ours has it already.
    Shared,
    /// It was there with our mark, left by an earlier run; it is ours again.
    Adopted,
    /// It was there and is not ours: used, never removed.
    Foreign,
}

#[derive(Debug)]
struct Entry {
    users: usize,
    foreign: bool,
}

/// The addresses in use, counted.
#[derive(Debug, Default)]
pub struct InnerAddrs {
    entries: BTreeMap<(u32, IpNet), Entry>,
}

impl InnerAddrs {
    /// Nothing in use.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes sure that the address is on the device and counts one more user of it.
    ///
    /// # Errors
    /// When the kernel refuses; nothing is counted then.
    pub fn acquire(
        &mut self,
        kernel: &mut impl AddressControl,
        ifindex: u32,
        address: IpNet,
    ) -> Result<Acquired, RequestError> {
        if let Some(entry) = self.entries.get_mut(&(ifindex, address)) {
            entry.users += 1;
            return Ok(Acquired::Shared);
        }
        let acquired = match kernel.add_address(ifindex, address) {
            Ok(()) => Acquired::Added,
            Err(error) if error.is_exists() => {
                let there = kernel.addresses()?;
                match find(&there, ifindex, &address) {
                    Some(found) if found.is_ours() => Acquired::Adopted,
                    Some(_) => Acquired::Foreign,
                    // Gone between the two requests: the caller may try again.
                    None => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        self.entries.insert(
            (ifindex, address),
            Entry {
                users: 1,
                foreign: acquired == Acquired::Foreign,
            },
        );
        Ok(acquired)
    }

    /// Counts one user less; the last one takes an address of ours away. Answers whether it was removed.
    ///
    /// An address that was never acquired is left alone.
    ///
    /// # Errors
    /// When the kernel refuses. The address is forgotten all the same; [`Self::remove_leftovers`] finds it.
    pub fn release(
        &mut self,
        kernel: &mut impl AddressControl,
        ifindex: u32,
        address: IpNet,
    ) -> Result<bool, RequestError> {
        let Some(entry) = self.entries.get_mut(&(ifindex, address)) else {
            return Ok(false);
        };
        entry.users = entry.users.saturating_sub(1);
        if entry.users > 0 {
            return Ok(false);
        }
        let foreign = entry.foreign;
        self.entries.remove(&(ifindex, address));
        if foreign {
            return Ok(false);
        }
        delete_if_there(kernel, ifindex, address)
    }

    /// Removes every address of ours that nobody uses: at start the leftovers of a crash, at stop all that is left.
    ///
    /// # Errors
    /// The first refusal of the kernel; those after it are not tried.
    pub fn remove_leftovers(
        &mut self,
        kernel: &mut impl AddressControl,
    ) -> Result<Vec<InterfaceAddr>, RequestError> {
        let mut leftovers = kernel.addresses()?;
        leftovers.retain(|a| a.is_ours() && !self.entries.contains_key(&(a.ifindex, a.address)));
        for leftover in &leftovers {
            delete_if_there(kernel, leftover.ifindex, leftover.address)?;
        }
        Ok(leftovers)
    }

    /// The addresses in use with the number of their users and whether they are foreign.
    pub fn iter(&self) -> impl Iterator<Item = (u32, IpNet, usize, bool)> + '_ {
        self.entries
            .iter()
            .map(|(&(ifindex, address), entry)| (ifindex, address, entry.users, entry.foreign))
    }
}

fn find<'a>(list: &'a [InterfaceAddr], ifindex: u32, address: &IpNet) -> Option<&'a InterfaceAddr> {
    // An IPv6 device holds an address once, whatever its prefix length; IPv4 distinguishes.
    list.iter().find(|a| {
        a.ifindex == ifindex
            && (a.address == *address
                || (a.address.addr().is_ipv6() && a.address.addr() == address.addr()))
    })
}

fn delete_if_there(
    kernel: &mut impl AddressControl,
    ifindex: u32,
    address: IpNet,
) -> Result<bool, RequestError> {
    match kernel.delete_address(ifindex, address) {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}
