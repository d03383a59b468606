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
//! | policy `out L→R allow, dev T` (IPv6) | while open | IPv6 out: there is no `disable_xfrm` for IPv6 |
//! | nftables `ip6`: `iifname T` sets a mark | while open | tells the SPD which IPv6 packets came from T |
//! | policies `in`, `fwd` `R→L allow, mark` (IPv6) | while open | IPv6 in and fwd: let the marked ones pass |
//! | `net.ipv6.conf.T.disable_policy=0` | with T | must *not* be 1, see below |
//!
//! # Why IPv6 arrival needs a mark
//!
//! A policy's device selector does not help inwards: for the IN and FWD checks the kernel compares it with the device of
//! the packet's *route*, the loopback device for local delivery and the outgoing one for forwarding, not with the device
//! that the packet came in by. `disable_policy` is no help either. For IPv6 it is honoured in two places: `ip6_forward` asks the
//! device of arrival, which would do; but for local delivery the flag sits on the route of the *destination address* and
//! is that of the device that owns the address (`addrconf_f6i_alloc`), wherever the packet came from. With
//! `disable_policy=1` on T, every address that we put on T (a leased inner address!) would accept clear text from anywhere,
//! and no other address would accept anything from T. IPv4 asks the device of arrival in both cases.
//!
//! So an nftables rule adds a mark to IPv6 packets from T, and policies that look for that mark let them pass. The rule
//! decides nothing; it only tells the SPD what the SPD cannot see. That way round, losing the rule (`nft flush ruleset`
//! by a firewall reload) blocks the tunnel instead of opening the fence, passthrough policies of better priority work as
//! everywhere, and one place, `ip xfrm policy`, shows what is forbidden. It runs in prerouting because the FWD check comes
//! before the forward hook; it sets one bit ([`ARRIVAL_MARK`]) and leaves the others to their owners (S1.6).
//!
//! Without nf_tables in the kernel, [`Fence::open`] says so and IPv6 into the tunnel works while IPv6 out of it is dropped.
//!
//! # Limits
//!
//! A socket with `CAP_NET_ADMIN` can always give itself a policy. `disable_policy` or `disable_xfrm` set to 1 on `all` or
//! on another device by the administrator makes a hole of that size: [`weaknesses`] lists such settings.

use std::collections::{BTreeMap, HashMap};

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

/// Marking IPv6 packets by the device of their arrival.
pub trait ArrivalMarks {
    /// From now on, IPv6 packets that arrive from one of these devices carry the mark, and no others get it from us.
    /// Replaces what was set before, by this process or an earlier one.
    ///
    /// # Errors
    /// [`RequestError::Unsupported`] on a kernel without nf_tables.
    fn set_arrival_marks(&mut self, devices: &[String], mark: Mark) -> Result<(), RequestError>;

    /// Removes all marking of ours.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn clear_arrival_marks(&mut self) -> Result<(), RequestError>;
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
    /// A device setting was refused.
    #[error("fence: {0}")]
    Setting(#[source] RequestError),
    /// IPv6 packets from the device cannot be told from others. IPv4 passes, IPv6 out of the tunnel is dropped.
    #[error("fence: ipv6 out of the tunnel stays blocked: {0}")]
    ArrivalMarks(#[source] RequestError),
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
    #[must_use]
    pub fn pass_policies(&self, ifindex: u32, arrival: Mark) -> Vec<Policy> {
        if !self.is_ipv6() {
            return Vec::new();
        }
        let mut out = self.outbound;
        out.ifindex = ifindex;
        let inbound = self.inbound();
        [
            (Direction::Out, out, Mark::ANY),
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
/// Life: [`raise`](Self::raise) as soon as a connection is loaded, before there is a device; [`open`](Self::open) when
/// the device and the routes into it are there; [`close`](Self::close) before the device goes; [`lower`](Self::lower)
/// when the connection is unloaded. After a crash the block policies are still there: raising again takes them over.
#[derive(Debug)]
pub struct Fence {
    arrival: Mark,
    enclosures: HashMap<Enclosure, Entry>,
    devices: BTreeMap<u32, String>,
}

#[derive(Debug)]
struct Entry {
    device: Option<u32>,
    users: usize,
}

impl Default for Fence {
    fn default() -> Self {
        Self::new(ARRIVAL_MARK)
    }
}

impl Fence {
    /// A fence around nothing, with the mark for IPv6 arrivals.
    #[must_use]
    pub fn new(arrival: Mark) -> Self {
        Self {
            arrival: arrival.normalized(),
            enclosures: HashMap::new(),
            devices: BTreeMap::new(),
        }
    }

    /// Blocks the enclosure's clear traffic. Counted: equal enclosures share policies.
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
    /// [`FenceError::Setting`]: the device must not be used. [`FenceError::ArrivalMarks`]: it may be, for IPv4.
    pub fn admit_device(
        &mut self,
        links: &mut impl Links,
        marks: &mut impl ArrivalMarks,
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
        self.write_marks(marks)
    }

    /// Lets the enclosure's traffic pass through the device. The route into the device should be there already.
    ///
    /// # Errors
    /// [`FenceError::Policy`].
    pub fn open(
        &mut self,
        spd: &mut impl SaDatabase,
        enclosure: &Enclosure,
        ifindex: u32,
    ) -> Result<(), FenceError> {
        let Some(entry) = self.enclosures.get_mut(enclosure) else {
            return Ok(());
        };
        if entry.device == Some(ifindex) {
            return Ok(());
        }
        let former = entry.device.replace(ifindex);
        if let Some(former) = former {
            for policy in enclosure.pass_policies(former, self.arrival) {
                remove(spd, &policy)?;
            }
        }
        for policy in enclosure.pass_policies(ifindex, self.arrival) {
            install(spd, policy)?;
        }
        Ok(())
    }

    /// Takes the passage back; the block stands.
    ///
    /// # Errors
    /// [`FenceError::Policy`].
    pub fn close(
        &mut self,
        spd: &mut impl SaDatabase,
        enclosure: &Enclosure,
    ) -> Result<(), FenceError> {
        let Some(entry) = self.enclosures.get_mut(enclosure) else {
            return Ok(());
        };
        if let Some(ifindex) = entry.device.take() {
            for policy in enclosure.pass_policies(ifindex, self.arrival) {
                remove(spd, &policy)?;
            }
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
        marks: &mut impl ArrivalMarks,
        ifindex: u32,
    ) -> Result<(), FenceError> {
        let mut result = Ok(());
        let open: Vec<Enclosure> = self
            .enclosures
            .iter()
            .filter(|(_, entry)| entry.device == Some(ifindex))
            .map(|(enclosure, _)| *enclosure)
            .collect();
        for enclosure in open {
            let closed = self.close(spd, &enclosure);
            result = result.and(closed);
        }
        self.devices.remove(&ifindex);
        let written = self.write_marks(marks);
        result.and(written)
    }

    /// Removes the block; the last user's call counts. Closes it first. Answers whether it was removed.
    ///
    /// # Errors
    /// [`FenceError::Policy`]; a policy that is gone already is none.
    pub fn lower(
        &mut self,
        spd: &mut impl SaDatabase,
        enclosure: &Enclosure,
    ) -> Result<bool, FenceError> {
        let Some(entry) = self.enclosures.get_mut(enclosure) else {
            return Ok(false);
        };
        if entry.users > 1 {
            entry.users -= 1;
            return Ok(false);
        }
        self.close(spd, enclosure)?;
        for policy in enclosure.block_policies() {
            remove(spd, &policy)?;
        }
        self.enclosures.remove(enclosure);
        Ok(true)
    }

    /// The fenced enclosures, and the device that each is open to.
    pub fn iter(&self) -> impl Iterator<Item = (&Enclosure, Option<u32>)> {
        self.enclosures.iter().map(|(e, entry)| (e, entry.device))
    }

    fn write_marks(&self, marks: &mut impl ArrivalMarks) -> Result<(), FenceError> {
        let devices: Vec<String> = self.devices.values().cloned().collect();
        if devices.is_empty() {
            marks.clear_arrival_marks()
        } else {
            marks.set_arrival_marks(&devices, self.arrival)
        }
        .map_err(FenceError::ArrivalMarks)
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
