//! What connections need in the kernel beside policies and SAs: the fence, device and routes of the user-space plane, and
//! the xfrm interfaces of route-based connections with the routes into them.

use cygnet_dataplane::Tun;
use cygnet_engine::{InterfaceUse, PriorityClass, Protection, ProtectionId, priority};
use cygnet_kernel::fence::weaknesses;
use cygnet_kernel::linux::Rtnetlink;
use cygnet_kernel::{
    Acquired, Enclosure, FenceError, InterfaceRoute, InterfaceSpec, Links, OWNER_ALIAS, Setting,
    TunnelRoute,
};
use ipnet::IpNet;

use super::planes::Executor;

/// MTU of the TUN device: what is left of 1500 octets with the largest overhead
/// of the listed algorithms (IPv6, UDP and ESP headers, IV, padding, ICV),
/// rounded down to what other user-space planes use.
const DEVICE_MTU: u32 = 1400;

/// What is in place for one protection.
#[derive(Default)]
pub(super) struct Protected {
    enclosures: Vec<Enclosure>,
    routes: Vec<IpNet>,
    interface: Option<InterfaceSpec>,
    interface_routes: Vec<InterfaceRoute>,
}

impl Executor {
    /// Puts a protection in place, and takes away what had its name before.
    pub(super) fn protect(&mut self, protection: &Protection) -> Result<(), String> {
        let mut done = Protected::default();
        let result = match &protection.interface {
            Some(interface) => self.lead_into(protection, interface, &mut done),
            None => self.enclose(protection, &mut done),
        };
        // Whatever failed, the fence that was raised stands until it is asked away: a tunnel that
        // cannot be built must not let its traffic out in clear. Everything is counted, so an
        // earlier protection of the name goes without a gap.
        let earlier = self.protected.insert(protection.id, done);
        earlier.map_or(Ok(()), |e| self.dismantle(e)).and(result)
    }

    /// The interface first, then the routes into it.
    fn lead_into(
        &mut self,
        protection: &Protection,
        wanted: &InterfaceUse,
        done: &mut Protected,
    ) -> Result<(), String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let spec = InterfaceSpec {
            if_id: wanted.if_id,
            name: wanted.name.clone(),
            addresses: wanted.addresses.clone(),
        };
        let interface = self
            .interfaces
            .acquire(&mut self.rtnetlink, &spec)
            .map_err(|e| text(&e))?;
        if interface.origin != Acquired::Shared {
            let how = match interface.origin {
                Acquired::Added => "made",
                Acquired::Adopted => "taken over from an earlier run",
                Acquired::Foreign | Acquired::Shared => "there already, not ours",
            };
            tracing::info!(
                event = "interface_in_use",
                device = %interface.name,
                if_id = wanted.if_id,
                ifindex = interface.index,
                "an xfrm interface is in use: {how}"
            );
        }
        done.interface = Some(spec);
        for &remote in &protection.routes {
            let v4 = remote.addr().is_ipv4();
            let local = of_family(&protection.local, v4);
            // Of its addresses one that the selectors take.
            let on_it = wanted.addresses.iter().map(IpNet::addr);
            let mut on_it = on_it.filter(|a| local.iter().any(|net| net.contains(a)));
            let mut sources = protection.source_ips.iter().copied();
            let source = sources.find(|a| a.is_ipv4() == v4).or_else(|| on_it.next());
            let route = InterfaceRoute {
                remote,
                ifindex: interface.index,
                local,
                source,
                mtu: protection.mtu,
                metric: wanted.metric,
                peer: wanted.peer,
                mark: wanted.mark,
            };
            self.interface_routing
                .add(&mut self.rtnetlink, &route)
                .map_err(|e| text(&e))?;
            done.interface_routes.push(route);
        }
        Ok(())
    }

    /// The fence first, then the device and the routes into it, then the gate.
    fn enclose(&mut self, protection: &Protection, done: &mut Protected) -> Result<(), String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        for selector in &protection.selectors {
            let enclosure = Enclosure {
                outbound: *selector,
                // By the selector alone: a trap and a child SA whose selectors were narrowed
                // share the policies of what both have.
                priority: priority(selector, PriorityClass::Protect),
            };
            self.own_policies.fenced(&enclosure);
            self.fence
                .raise(&mut self.kernel, &enclosure)
                .map_err(|e| text(&e))?;
            done.enclosures.push(enclosure);
        }
        let ifindex = self.device()?;
        for &remote in &protection.routes {
            let v4 = remote.addr().is_ipv4();
            let route = TunnelRoute {
                remote,
                ifindex,
                local: of_family(&protection.local, v4),
                source: protection
                    .source_ips
                    .iter()
                    .find(|a| a.is_ipv4() == v4)
                    .copied(),
                mtu: protection.mtu,
            };
            self.routing
                .add(&mut self.rtnetlink, &route)
                .map_err(|e| text(&e))?;
            done.routes.push(remote);
        }
        for enclosure in &done.enclosures {
            match self
                .fence
                .open(&mut self.kernel, &mut self.filter, enclosure, ifindex)
            {
                Ok(()) => {}
                // Blocked is safe; IPv4 of the same tunnel need not suffer.
                Err(error @ FenceError::Filter(_)) => {
                    tracing::warn!(event = "fence_closed", "{error}")
                }
                Err(error) => return Err(text(&error)),
            }
        }
        Ok(())
    }

    pub(super) fn unprotect(&mut self, id: ProtectionId) -> Result<(), String> {
        match self.protected.remove(&id) {
            Some(protected) => self.dismantle(protected),
            None => Ok(()),
        }
    }

    fn dismantle(&mut self, protected: Protected) -> Result<(), String> {
        let mut result = Ok(());
        for remote in protected.routes {
            let removed = self.routing.remove(&mut self.rtnetlink, remote);
            result = result.and(removed.map(drop).map_err(|e| e.to_string()));
        }
        for route in &protected.interface_routes {
            let removed = self.interface_routing.remove(&mut self.rtnetlink, route);
            result = result.and(removed.map_err(|e| e.to_string()));
        }
        if let Some(spec) = &protected.interface {
            result = result.and(self.leave(spec));
        }
        for enclosure in protected.enclosures {
            let lowered = self
                .fence
                .lower(&mut self.kernel, &mut self.filter, &enclosure);
            result = result.and(lowered.map(drop).map_err(|e| e.to_string()));
        }
        result
    }

    /// One user of an interface less.
    fn leave(&mut self, spec: &InterfaceSpec) -> Result<(), String> {
        let addresses = if spec.name.is_some() {
            &spec.addresses[..]
        } else {
            &[]
        };
        let released = self
            .interfaces
            .release(&mut self.rtnetlink, spec.if_id, addresses);
        match released {
            Ok(true) => tracing::info!(
                event = "interface_removed",
                device = spec.name.as_deref(),
                "the xfrm interface that nobody uses any more is gone"
            ),
            Ok(false) => {}
            Err(error) => return Err(error.to_string()),
        }
        // With the last address of a family the kernel takes the routes of others by this device too.
        self.interface_routing
            .restore(&mut self.rtnetlink)
            .map_err(|e| e.to_string())
    }

    /// The device of the user-space plane, made when it is first needed.
    fn device(&mut self) -> Result<u32, String> {
        if let Some(ifindex) = self.ifindex {
            return Ok(ifindex);
        }
        let userspace = self
            .userspace
            .as_ref()
            .ok_or("the user-space data plane is not running")?;
        let name = userspace.device.clone();
        let tun = Tun::create(&name).map_err(|e| e.to_string())?;
        let link = self.rtnetlink.link(&name).map_err(|e| e.to_string())?;
        let set_up = |links: &mut Rtnetlink| {
            links.set_alias(link.index, OWNER_ALIAS)?;
            // No link-local address: the device has no neighbours to solicit.
            match links.set_setting(&name, Setting::AddrGenMode, 1) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
            links.set_mtu(link.index, DEVICE_MTU)
        };
        set_up(&mut self.rtnetlink).map_err(|e| e.to_string())?;
        // What comes out of the device is excepted from the fence before the first packet can.
        self.fence
            .admit_device(&mut self.rtnetlink, link.index, &name)
            .map_err(|e| e.to_string())?;
        userspace
            .handle
            .add_device(tun, 0)
            .map_err(|e| e.to_string())?;
        if let Err(error) = self.rtnetlink.set_up(link.index, true) {
            // Otherwise the plane would keep the device and the next try would find its name taken.
            let _ = userspace.handle.remove_device(0);
            return Err(error.to_string());
        }
        tracing::info!(device = %name, ifindex = link.index, mtu = DEVICE_MTU, "device of the user-space plane is up");
        self.ifindex = Some(link.index);
        for (device, setting) in weaknesses(&mut self.rtnetlink, &[&name]).unwrap_or_default() {
            tracing::warn!(
                event = "fence_weak",
                "{} lets clear text past the fence",
                setting.name(&device)
            );
        }
        Ok(link.index)
    }
}

fn of_family(networks: &[IpNet], v4: bool) -> Vec<IpNet> {
    let mut networks = networks.to_vec();
    networks.retain(|n| n.addr().is_ipv4() == v4);
    networks
}
