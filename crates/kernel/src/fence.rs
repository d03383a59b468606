//! The fence: nothing that a user-space tunnel protects travels in clear, whether or not the tunnel's process lives.
//!
//! The user-space data plane moves packets through a TUN device. The kernel knows nothing of its SAs, so without more a
//! packet whose route into the TUN is missing (not yet, no longer, or because a socket is bound to another device) would
//! leave in clear, and a forged clear packet from outside would be accepted. Routes and the TUN vanish with the process;
//! **XFRM policies do not**. So the kernel's SPD is told to block the selectors of the tunnel in all three directions,
//! and what comes and goes through the TUN is excepted by pieces that are worth nothing without it.
//!
//! # The pieces, and why each is needed
//!
//! For a tunnel with local network L, remote network R and the device T:
//!
//! | piece | lives | what it does |
//! |---|---|---|
//! | policy `out L→R block` | until lowered | stops clear text outwards, made here or forwarded (K3) |
//! | policy `in R→L block` | until lowered | stops clear text inwards to this host (K9) |
//! | policy `fwd R→L block` | until lowered | stops clear text inwards to hosts behind (K3, K9) |
//! | `net.ipv4.conf.T.disable_xfrm=1` | with T | IPv4 out: a route through T carries `DST_NOXFRM`, no policy lookup (K2) |
//! | `net.ipv4.conf.T.disable_policy=1` | with T | IPv4 in and fwd: packets from T are not checked (K2) |
//! | `net.ipv6.conf.T.disable_policy=0` | with T | must *not* be 1, see below |
//! | nftables `ip6`, prerouting: `iifname T` sets a mark, others lose it | while open | tells the SPD which IPv6 packets came from T |
//! | policies `in`, `fwd` `R→L allow, mark` (IPv6) | while open | IPv6 in and fwd: let the marked ones pass |
//! | nftables `ip6`, postrouting: `oifname T accept`, `L→R drop` | while open | IPv6 out: what does not leave by T does not leave |
//! | policy `out L→R allow, not escaping` (IPv6) | while open | IPv6 out: opens what the rule above guards |
//!
//! # Why IPv6 arrival needs a mark
//!
//! A policy's device selector does not help inwards: for the IN and FWD checks the kernel compares it with the device of
//! the packet's *route*, the loopback device for local delivery and the outgoing one for forwarding, not with the device
//! that the packet came in by. `disable_policy` is no help either. For IPv6 it is honoured in two places: `ip6_forward`
//! asks the device of arrival, which would do; but for local delivery the flag sits on the route of the *destination
//! address* and is that of the device that owns the address, wherever the packet came from. With `disable_policy=1` on T,
//! every address that we put on T (a leased inner address!) would accept clear text from anywhere, and no other address
//! would accept anything from T. IPv4 asks the device of arrival in both cases.
//!
//! So an nftables rule adds a mark to IPv6 packets from T, and policies that look for that mark let them pass. The rule
//! decides nothing; it only tells the SPD what the SPD cannot see. That way round, losing the rule (`nft flush ruleset`
//! by a firewall reload) blocks the tunnel instead of opening the fence, passthrough policies of better priority work as
//! everywhere, and one place, `ip xfrm policy`, shows what is forbidden. It runs in prerouting because the FWD check comes
//! before the forward hook; it sets one bit ([`ARRIVAL_MARK`]), clears it on whatever comes from elsewhere, and leaves
//! the others to their owners (S1.6).
//!
//! # Why IPv6 departure needs a guard
//!
//! There is no `disable_xfrm` for IPv6, and a policy with T as its device serves forwarded packets only: for packets made
//! here the kernel matches the device that the *socket* is bound to (`flowi_oif`, 0 for most), not the one that the route
//! chose. Nothing else of the flow tells the two apart, so while the tunnel is open an IPv6 policy must allow L→R as
//! a whole, and the decision by device is nftables', in postrouting, where the device is known. The allowing policy does not
//! match packets with the escape mark ([`crate::routing::ESCAPE_MARK`]), which the routing rules would not lead into T.
//!
//! Both survive a crash, and the guard then drops everything, as T is gone. Should someone flush the ruleset *after* a
//! crash, the allowing policy would be left alone; [`Fence::with_lease`] gives it an end of its own.
//!
//! Without nf_tables in the kernel, [`Fence::open`] says so for IPv6, and the block stands.
//!
//! # Limits
//!
//! A process with `CAP_NET_ADMIN` can always give its sockets policies of their own. `disable_policy` or `disable_xfrm` set
//! to 1 on `all` or on another device by the administrator makes a hole of that size: [`weaknesses`] lists them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use cygnet_ipsec::{
    Action, Command, CommandError, Direction, Mark, Policy, PolicyKey, SaDatabase, Selector,
};

use crate::links::{Links, Setting};
use crate::netlink::RequestError;

/// The mark by which IPv6 packets that arrived from one of our devices are known, unless configured otherwise.
pub const ARRIVAL_MARK: Mark = Mark {
    value: 0x2000_0000,
    mask: 0x2000_0000,
};

/// What the packet filter has to do for the fence. IPv6 only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterTable {
    /// Our devices: packets that arrive from them get the mark `arrival`, all others lose it; packets that leave by them
    /// are not guarded.
    pub devices: Vec<String>,
    /// The mark.
    pub arrival: Mark,
    /// Packets with this mark are our own sockets' and leave by any device.
    pub escape: Mark,
    /// These packets leave by one of the devices (or loopback) or not at all.
    pub guarded: Vec<Selector>,
    /// But these may leave anywhere (passthrough, or protected by the kernel's own IPsec after its own policy).
    pub exceptions: Vec<Selector>,
}

/// The packet filter that helps where the SPD cannot see devices.
pub trait PacketFilter {
    /// Makes the table what is given, in one step, whatever this process or an earlier one loaded before.
    ///
    /// # Errors
    /// [`RequestError::Unsupported`] on a kernel without nf_tables; the earlier table stands then.
    fn load(&mut self, table: &FilterTable) -> Result<(), RequestError>;

    /// Removes the table; that there is none is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn unload(&mut self) -> Result<(), RequestError>;
}

/// Why the fence could not be changed. It stands in its earlier shape, or blocks more than it should, never less.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    /// A policy was refused.
    #[error("fence: {action} {direction:?} policy {src} to {dst}: {error}")]
    Policy {
        /// `install` or `remove`.
        action: &'static str,
        /// The policy's direction.
        direction: Direction,
        /// Its source.
        src: ipnet::IpNet,
        /// Its destination.
        dst: ipnet::IpNet,
        /// What the database said.
        error: CommandError,
    },
    /// A device setting was refused; the device must not be used.
    #[error("fence: {0}")]
    Setting(#[source] RequestError),
    /// The packet filter was refused: IPv6 stays blocked, IPv4 is not concerned.
    #[error("fence: ipv6 stays blocked: {0}")]
    Filter(#[source] RequestError),
    /// The device was not admitted before ([`Fence::admit_device`]).
    #[error("fence: device #{ifindex} is not admitted")]
    UnknownDevice {
        /// Its index.
        ifindex: u32,
    },
}

/// What is to be fenced: the traffic of one pair of traffic selectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Enclosure {
    /// The outbound packets: source L, destination R, protocol and ports if the selectors have them. Its `ifindex` is 0.
    pub outbound: Selector,
    /// Priority of the block policies; smaller wins (K2). The exceptions for the device get the next smaller number,
    /// so it must not be 0, and the number before it must be free of policies that overlap.
    pub priority: u32,
}

impl Enclosure {
    fn is_ipv6(&self) -> bool {
        self.outbound.src.addr().is_ipv6()
    }

    /// The packets of the other direction.
    fn inbound(&self) -> Selector {
        let mut selector = self.outbound;
        (selector.src, selector.dst) = (selector.dst, selector.src);
        // ICMP's type and code are not a source and a destination: they stay where they are.
        if !matches!(selector.protocol, ICMP | ICMPV6 | MOBILITY) {
            (selector.sport, selector.dport) = (selector.dport, selector.sport);
        }
        selector
    }

    /// The policies that stand until the fence is lowered.
    #[must_use]
    pub fn block_policies(&self) -> [Policy; 3] {
        let inbound = self.inbound();
        [
            (Direction::Out, self.outbound),
            (Direction::In, inbound),
            (Direction::Fwd, inbound),
        ]
        .map(|(direction, selector)| {
            let mut policy = Policy::new(PolicyKey::new(direction, selector));
            policy.action = Action::Block;
            policy.priority = self.priority;
            policy
        })
    }

    /// The policies that let IPv6 through the device. None for IPv4, where the device's settings do.
    ///
    /// Each has a mark in its key: without, the outbound one would have the block's key and replace it (K1).
    #[must_use]
    pub fn pass_policies(&self, arrival: Mark, escape: Mark) -> Vec<Policy> {
        if !self.is_ipv6() {
            return Vec::new();
        }
        let not_escaping = Mark {
            value: !escape.value & escape.mask,
            mask: escape.mask,
        };
        let inbound = self.inbound();
        [
            (Direction::Out, self.outbound, not_escaping),
            (Direction::In, inbound, arrival),
            (Direction::Fwd, inbound, arrival),
        ]
        .into_iter()
        .map(|(direction, selector, mark)| {
            let mut key = PolicyKey::new(direction, selector);
            key.mark = mark;
            let mut policy = Policy::new(key);
            policy.priority = self.priority.saturating_sub(1);
            policy
        })
        .collect()
    }
}

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const MOBILITY: u8 = 135;

/// The settings of the device, see the module's table.
pub const DEVICE_SETTINGS: [(Setting, i64); 3] = [
    (Setting::DisableXfrmV4, 1),
    (Setting::DisablePolicyV4, 1),
    (Setting::DisablePolicyV6, 0),
];

/// The fence of all user-space tunnels of a process.
///
/// Life: [`raise`](Self::raise) as soon as a connection is loaded, before there is a device;
/// [`admit_device`](Self::admit_device) before the device is brought up; [`open`](Self::open) when the routes into it are
/// there; [`close`](Self::close) before the routes go; [`dismiss_device`](Self::dismiss_device) before the device goes;
/// [`lower`](Self::lower) when the connection is unloaded. After a crash the block policies are still there: raising again
/// takes them over and closes what was open.
#[derive(Debug)]
pub struct Fence {
    arrival: Mark,
    escape: Mark,
    lease: Option<Duration>,
    enclosures: HashMap<Enclosure, Entry>,
    devices: BTreeMap<u32, String>,
    exceptions: Vec<Selector>,
}

#[derive(Debug)]
struct Entry {
    device: Option<u32>,
    users: usize,
}

impl Default for Fence {
    fn default() -> Self {
        Self::new(ARRIVAL_MARK, crate::routing::ESCAPE_MARK)
    }
}

impl Fence {
    /// A fence around nothing. `arrival` marks IPv6 packets from our devices, `escape` our sockets' own packets; single
    /// bits that nobody else uses.
    #[must_use]
    pub fn new(arrival: Mark, escape: Mark) -> Self {
        Self {
            arrival: arrival.normalized(),
            escape: escape.normalized(),
            lease: None,
            enclosures: HashMap::new(),
            devices: BTreeMap::new(),
            exceptions: Vec::new(),
        }
    }

    /// Lets the policies that open IPv6 end by themselves (K11), unless [`refresh`](Self::refresh) comes in time: a dead
    /// man's handle. Whole seconds; call `refresh` at least three times in a lease.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Blocks the enclosure's clear traffic, and closes what an earlier run left open. Counted: equal enclosures share
    /// their policies.
    ///
    /// # Errors
    /// [`FenceError::Policy`]; then the enclosure is not counted, and policies already installed are left standing.
    pub fn raise(
        &mut self,
        spd: &mut impl SaDatabase,
        enclosure: &Enclosure,
    ) -> Result<(), FenceError> {
        if let Some(entry) = self.enclosures.get_mut(enclosure) {
            entry.users += 1;
            return Ok(());
        }
        for policy in enclosure.pass_policies(self.arrival, self.escape) {
            remove(spd, &policy)?;
        }
        for policy in enclosure.block_policies() {
            install(spd, policy)?;
        }
        self.enclosures.insert(
            *enclosure,
            Entry {
                device: None,
                users: 1,
            },
        );
        Ok(())
    }

    /// Prepares a device: what comes from it is not clear text from outside.
    ///
    /// Must come before the device is brought up, so that no packet finds half the settings.
    ///
    /// # Errors
    /// [`FenceError::Setting`]: the device must not be used.
    pub fn admit_device(
        &mut self,
        links: &mut impl Links,
        ifindex: u32,
        device: &str,
    ) -> Result<(), FenceError> {
        for (setting, value) in DEVICE_SETTINGS {
            match links.set_setting(device, setting, value) {
                Ok(()) => {}
                // A host without IPv6 needs no IPv6 setting.
                Err(error) if error.is_not_found() && setting == Setting::DisablePolicyV6 => {}
                Err(error) => return Err(FenceError::Setting(error)),
            }
        }
        self.devices.insert(ifindex, device.to_owned());
        Ok(())
    }

    /// Lets the enclosure's traffic pass through the device. The route into the device should be there already.
    ///
    /// # Errors
    /// [`FenceError::Policy`], [`FenceError::Filter`]; the enclosure is closed then.
    pub fn open(
        &mut self,
        spd: &mut impl SaDatabase,
        filter: &mut impl PacketFilter,
        enclosure: &Enclosure,
        ifindex: u32,
    ) -> Result<(), FenceError> {
        if !self.devices.contains_key(&ifindex) {
            return Err(FenceError::UnknownDevice { ifindex });
        }
        let Some(entry) = self.enclosures.get_mut(enclosure) else {
            return Ok(());
        };
        if entry.device.replace(ifindex) == Some(ifindex) || !enclosure.is_ipv6() {
            return Ok(());
        }
        // The guard stands before the policy opens.
        let opened = self
            .load(filter)
            .and_then(|()| self.install_passes(spd, enclosure));
        if opened.is_err() {
            // Which pieces are there is not known; take all of them away.
            let _ = self.close(spd, filter, enclosure);
        }
        opened
    }

    /// Takes the passage back; the block stands.
    ///
    /// # Errors
    /// [`FenceError::Policy`]: it may still be open, and the guard is left standing. [`FenceError::Filter`]: it is closed.
    pub fn close(
        &mut self,
        spd: &mut impl SaDatabase,
        filter: &mut impl PacketFilter,
        enclosure: &Enclosure,
    ) -> Result<(), FenceError> {
        let open = self
            .enclosures
            .get(enclosure)
            .is_some_and(|e| e.device.is_some());
        if !open {
            return Ok(());
        }
        for policy in enclosure.pass_policies(self.arrival, self.escape) {
            remove(spd, &policy)?;
        }
        if let Some(entry) = self.enclosures.get_mut(enclosure) {
            entry.device = None;
        }
        if enclosure.is_ipv6() {
            self.load(filter)?;
        }
        Ok(())
    }

    /// Forgets a device that goes or is gone. Enclosures open to it are closed.
    ///
    /// # Errors
    /// The first refusal; the rest is done all the same.
    pub fn dismiss_device(
        &mut self,
        spd: &mut impl SaDatabase,
        filter: &mut impl PacketFilter,
        ifindex: u32,
    ) -> Result<(), FenceError> {
        let open: Vec<Enclosure> = self
            .enclosures
            .iter()
            .filter(|(_, entry)| entry.device == Some(ifindex))
            .map(|(enclosure, _)| *enclosure)
            .collect();
        let mut result = Ok(());
        for enclosure in open {
            let closed = self.close(spd, filter, &enclosure);
            result = result.and(closed);
        }
        self.devices.remove(&ifindex);
        if self.opens_ipv6() {
            // Others are open: the table goes on without this device.
            let loaded = self.load(filter);
            result = result.and(loaded);
        }
        result
    }

    /// Removes the block; the last user's call counts. Closes it first. Answers whether it was removed.
    ///
    /// # Errors
    /// [`FenceError::Policy`]; a policy that is gone already is none.
    pub fn lower(
        &mut self,
        spd: &mut impl SaDatabase,
        filter: &mut impl PacketFilter,
        enclosure: &Enclosure,
    ) -> Result<bool, FenceError> {
        let Some(entry) = self.enclosures.get_mut(enclosure) else {
            return Ok(false);
        };
        if entry.users > 1 {
            entry.users -= 1;
            return Ok(false);
        }
        self.close(spd, filter, enclosure)?;
        for policy in enclosure.block_policies() {
            remove(spd, &policy)?;
        }
        self.enclosures.remove(enclosure);
        Ok(true)
    }

    /// Names packets that may leave in clear although they lie in an enclosure: those of passthrough connections and of
    /// connections that the kernel's own IPsec protects. Their policies in the SPD, of better priority, are the caller's.
    ///
    /// # Errors
    /// [`FenceError::Filter`].
    pub fn set_exceptions(
        &mut self,
        filter: &mut impl PacketFilter,
        outbound: Vec<Selector>,
    ) -> Result<(), FenceError> {
        self.exceptions = outbound;
        if self.opens_ipv6() {
            self.load(filter)?;
        }
        Ok(())
    }

    /// Makes the packet filter fit what is open now: rules of an earlier run that crashed go, once
    /// everything that this one fences stands.
    ///
    /// # Errors
    /// When the packet filter is refused.
    pub fn tidy(&self, filter: &mut impl PacketFilter) -> Result<(), FenceError> {
        self.load(filter)
    }

    /// Puts back what others may have taken away (the packet filter's table) and renews the lease.
    ///
    /// # Errors
    /// The first refusal.
    pub fn refresh(
        &mut self,
        spd: &mut impl SaDatabase,
        filter: &mut impl PacketFilter,
    ) -> Result<(), FenceError> {
        if !self.opens_ipv6() {
            return Ok(());
        }
        self.load(filter)?;
        for (enclosure, entry) in &self.enclosures {
            if self.lease.is_some() && entry.device.is_some() {
                self.install_passes(spd, enclosure)?;
            }
        }
        Ok(())
    }

    /// The fenced enclosures, and the device that each is open to.
    pub fn iter(&self) -> impl Iterator<Item = (&Enclosure, Option<u32>)> {
        self.enclosures.iter().map(|(e, entry)| (e, entry.device))
    }

    fn opens_ipv6(&self) -> bool {
        self.enclosures
            .iter()
            .any(|(e, entry)| e.is_ipv6() && entry.device.is_some())
    }

    fn install_passes(
        &self,
        spd: &mut impl SaDatabase,
        enclosure: &Enclosure,
    ) -> Result<(), FenceError> {
        for mut policy in enclosure.pass_policies(self.arrival, self.escape) {
            policy.lifetime.hard_add = self.lease;
            install(spd, policy)?;
        }
        Ok(())
    }

    /// Makes the packet filter fit the open enclosures.
    fn load(&self, filter: &mut impl PacketFilter) -> Result<(), FenceError> {
        let table = FilterTable {
            devices: self.devices.values().cloned().collect(),
            arrival: self.arrival,
            escape: self.escape,
            guarded: self
                .enclosures
                .iter()
                .filter(|(enclosure, entry)| enclosure.is_ipv6() && entry.device.is_some())
                .map(|(enclosure, _)| enclosure.outbound)
                .collect(),
            exceptions: self.exceptions.clone(),
        };
        if table.guarded.is_empty() {
            filter.unload()
        } else {
            filter.load(&table)
        }
        .map_err(FenceError::Filter)
    }
}

/// Installs or replaces: after a crash the same policy may be there (K1: NEWPOLICY would answer EEXIST).
fn install(spd: &mut impl SaDatabase, policy: Policy) -> Result<(), FenceError> {
    let key = policy.key;
    spd.execute(&Command::UpdatePolicy(Box::new(policy)))
        .map(drop)
        .map_err(failure("install", key))
}

fn remove(spd: &mut impl SaDatabase, policy: &Policy) -> Result<(), FenceError> {
    match spd.execute(&Command::RemovePolicy(policy.key)) {
        Ok(_) | Err(CommandError::NotFound) => Ok(()),
        Err(error) => Err(failure("remove", policy.key)(error)),
    }
}

fn failure(action: &'static str, key: PolicyKey) -> impl FnOnce(CommandError) -> FenceError {
    move |error| FenceError::Policy {
        action,
        direction: key.direction,
        src: key.selector.src,
        dst: key.selector.dst,
        error,
    }
}

/// Settings of `all` and of devices other than `ours` that let clear text past the fence, whoever made them.
///
/// # Errors
/// When the devices cannot be listed.
pub fn weaknesses(
    links: &mut impl Links,
    ours: &[&str],
) -> Result<Vec<(String, Setting)>, RequestError> {
    let mut devices = vec!["all".to_owned()];
    devices.extend(
        links
            .links()?
            .into_iter()
            .filter(|l| !l.loopback && !ours.contains(&l.name.as_str()))
            .map(|l| l.name),
    );
    let mut found = Vec::new();
    for device in devices {
        for setting in [
            Setting::DisablePolicyV4,
            Setting::DisableXfrmV4,
            Setting::DisablePolicyV6,
        ] {
            if links.setting(&device, setting).is_ok_and(|v| v != 0) {
                found.push((device.clone(), setting));
            }
        }
    }
    Ok(found)
}
