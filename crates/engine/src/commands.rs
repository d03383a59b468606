//! From a negotiated child SA, a trap or a shunt to commands for the databases.
//!
//! Both planes get the same commands. In tunnel mode a child SA needs an
//! inbound policy for what is delivered here, a forward policy for what is
//! routed on, and an outbound one; in transport mode nothing is forwarded (K3).

use std::net::IpAddr;
use std::time::Duration;

use cygnet_crypto::{DirectionKeys, EspSuite};
use cygnet_ike::{ChildInstall, Resource};
use cygnet_ipsec::{
    Action, CipherKey, Compression, Direction, Encap, IntegrityKey, Iptfs, KeyMaterial, Lifetime,
    Mark, Mode, Policy, PolicyKey, Protocol, Sa, SaDirection, SaFlags, SaId, Selector, Template,
};

use crate::connection::ChildOptions;
use crate::selectors::{PriorityClass, priority};

/// Addresses of an SA pair, ours first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) local: IpAddr,
    pub(crate) remote: IpAddr,
}

/// What a set of policies is built from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PolicyPlan<'a> {
    pub(crate) selectors: &'a [Selector],
    pub(crate) path: Path,
    pub(crate) mode: Mode,
    pub(crate) protocol: Protocol,
    /// IPComp goes inside; it has the mode then.
    pub(crate) compressed: bool,
    pub(crate) reqid: u32,
    /// Each CPU may ask for an SA of its own.
    pub(crate) per_cpu: bool,
    pub(crate) options: &'a ChildOptions,
}

impl PolicyPlan<'_> {
    /// The policies of a trap or a child SA.
    pub(crate) fn protecting(&self) -> Vec<Policy> {
        self.selectors
            .iter()
            .flat_map(|selector| {
                let mut policies = vec![
                    self.policy(Direction::Out, *selector),
                    self.policy(Direction::In, mirrored(selector)),
                ];
                if self.mode != Mode::Transport {
                    policies.push(self.policy(Direction::Fwd, mirrored(selector)));
                }
                policies
            })
            .collect()
    }

    fn policy(&self, direction: Direction, selector: Selector) -> Policy {
        let outbound = direction == Direction::Out;
        let (src, dst) = if outbound {
            (self.path.local, self.path.remote)
        } else {
            (self.path.remote, self.path.local)
        };
        let template = Template {
            src,
            dst,
            spi: 0,
            protocol: self.protocol,
            reqid: self.reqid,
            mode: self.mode,
            optional: false,
        };
        let templates = if self.compressed {
            let inside = Template {
                protocol: Protocol::Comp,
                //= rfc3173#2.2
                //# If the total size of a compressed payload and the IPComp header, as
                //# defined in section 3, is not smaller than the size of the original
                //# payload, the IP datagram MUST be sent in the original non-compressed
                //# form.
                // So what comes in need not be compressed.
                optional: !outbound,
                ..template
            };
            let outside = Template {
                mode: Mode::Transport,
                ..template
            };
            vec![inside, outside]
        } else {
            vec![template]
        };
        Policy {
            priority: self
                .options
                .priority
                .unwrap_or_else(|| priority(&selector, PriorityClass::Protect)),
            templates,
            label: self.options.kernel_label().cloned(),
            per_cpu: outbound && self.per_cpu,
            ..Policy::new(key(direction, selector, self.options))
        }
    }
}

/// Policies that let packets pass in clear or drop them, both ways.
pub(crate) fn shunt_policies(
    selectors: &[Selector],
    action: Action,
    options: &ChildOptions,
) -> Vec<Policy> {
    selectors
        .iter()
        .flat_map(|selector| {
            // Without a template "in" alone would leave forwarded packets to the default (K3).
            [
                (Direction::Out, *selector),
                (Direction::In, mirrored(selector)),
                (Direction::Fwd, mirrored(selector)),
                (Direction::Fwd, *selector),
            ]
        })
        .map(|(direction, selector)| Policy {
            priority: options
                .priority
                .unwrap_or_else(|| priority(&selector, PriorityClass::Shunt)),
            action,
            ..Policy::new(key(direction, selector, options))
        })
        .collect()
}

fn key(direction: Direction, selector: Selector, options: &ChildOptions) -> PolicyKey {
    let mark = match (options.interface, direction) {
        // The interface chooses the policies, and the marks are those that SAs give.
        (Some(_), _) => Mark::ANY,
        (None, Direction::Out) => options.mark_out,
        (None, _) => options.mark_in,
    };
    PolicyKey {
        mark,
        if_id: options.if_id(),
        ..PolicyKey::new(direction, selector)
    }
}

/// The same traffic seen from the other end.
pub(crate) fn mirrored(selector: &Selector) -> Selector {
    let icmp = matches!(selector.protocol, 1 | 58);
    let mut out = *selector;
    std::mem::swap(&mut out.src, &mut out.dst);
    // Type and code of ICMP have no direction (K2).
    if !icmp {
        std::mem::swap(&mut out.sport, &mut out.dport);
    }
    out
}

/// When the two SAs of a child end, and when they ask to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChildLifetimes {
    pub(crate) inbound: Lifetime,
    pub(crate) outbound: Lifetime,
}

/// Lifetimes from the options; `fuzz` is a fresh random number.
///
/// The margin is enlarged by up to `rekeyfuzz` percent so that tunnels started
/// together do not renew together. Who did not start the exchange waits for
/// half the margin longer: normally the initiator is first and the exchanges
/// do not cross. Octets and packets are counted on both SAs; the soft limit
/// stands at three quarters.
pub(crate) fn lifetimes(options: &ChildOptions, initiator: bool, fuzz: u32) -> ChildLifetimes {
    let margin = rekey_margin(options, options.lifetime, initiator, fuzz);
    let soft = |limit: Option<u64>| limit.filter(|_| options.rekey).map(|l| l - l / 4);
    let lifetime = Lifetime {
        hard_add: Some(options.lifetime),
        soft_add: margin
            .and_then(|m| options.lifetime.checked_sub(m))
            .filter(|d| !d.is_zero()),
        hard_bytes: options.max_bytes,
        soft_bytes: soft(options.max_bytes),
        hard_packets: options.max_packets,
        soft_packets: soft(options.max_packets),
        ..Lifetime::UNLIMITED
    };
    // One of the two asks for the replacement; both asking at the same instant would say nothing new.
    ChildLifetimes {
        inbound: lifetime,
        outbound: Lifetime {
            soft_add: None,
            ..lifetime
        },
    }
}

/// How long before its end an SA is renewed; `None`: not at all. Never so early that less than a quarter of its life
/// would be left to it.
pub(crate) fn rekey_margin(
    options: &ChildOptions,
    lifetime: Duration,
    initiator: bool,
    fuzz: u32,
) -> Option<Duration> {
    if !options.rekey {
        return None;
    }
    let percent =
        100 + u32::try_from((u64::from(fuzz) * u64::from(options.rekey_fuzz)) >> 32).unwrap_or(0);
    let margin = options.rekey_margin.saturating_mul(percent) / 100;
    let margin = margin.min(lifetime - lifetime / 4);
    Some(if initiator { margin } else { margin / 2 })
}

/// The two SAs of a child; `inner` is the first of its outbound selectors.
pub(crate) fn security_associations(
    install: &ChildInstall,
    inner: Option<&Selector>,
    options: &ChildOptions,
    reqid: u32,
    lifetimes: ChildLifetimes,
) -> (Sa, Sa) {
    let encap = install.encapsulation.map(|kind| Encap {
        kind,
        local_port: install.local.port(),
        remote_port: install.remote.port(),
    });
    let (local, remote) = (install.local.ip(), install.remote.ip());
    let iptfs = options.iptfs.unwrap_or_default();
    let iptfs = (install.mode == Mode::Iptfs).then_some(Iptfs {
        dont_fragment: iptfs.dont_fragment || install.peer_refuses_fragments,
        ..iptfs
    });
    let common = |dst, src, spi, direction, keys: &DirectionKeys| {
        let (encryption, integrity) = keys_for(&install.suite, keys);
        Sa {
            id: SaId {
                dst,
                spi,
                protocol: install.protocol,
                mark: Mark::ANY,
            },
            src,
            direction,
            // The outer header is that of what is compressed.
            mode: match install.ipcomp {
                Some(_) => Mode::Transport,
                None => install.mode,
            },
            reqid,
            if_id: options.if_id(),
            set_mark: options.set_mark(direction),
            encryption,
            integrity,
            encap,
            replay_window: if direction == SaDirection::In {
                options.replay_window
            } else {
                0
            },
            esn: install.suite.esn,
            selector: None,
            lifetime: Lifetime::UNLIMITED,
            flags: SaFlags {
                // RFC 4302 §3.3.3.2.1: with IPv4, AH's length is a multiple of 4 octets, of 8 only with IPv6.
                align4: install.protocol == Protocol::Ah && local.is_ipv4(),
                ..SaFlags::default()
            },
            acquire_seq: 0,
            tfc_pad: 0,
            compression: None,
            iptfs,
            cpu: None,
            label: options.kernel_label().cloned(),
        }
    };
    let mut inbound = common(
        local,
        remote,
        install.spi_in,
        SaDirection::In,
        &install.keys_in,
    );
    inbound.lifetime = lifetimes.inbound;
    inbound.flags.decap_dscp = options.decap_dscp;
    let mut outbound = common(
        remote,
        local,
        install.spi_out,
        SaDirection::Out,
        &install.keys_out,
    );
    outbound.lifetime = lifetimes.outbound;
    outbound.acquire_seq = install.acquire_seq;
    outbound.cpu = install.resource.and_then(Resource::cpu);
    outbound.flags.dont_encap_dscp = !options.encap_dscp;
    outbound.flags.no_pmtu_disc = options.no_pmtu_disc;
    //= rfc7296#1.3.1
    //# If
    //# neither endpoint accepts TFC padding, this notification is included
    //# in both the request and the response.
    let padded = outbound.mode == Mode::Tunnel && !install.peer_refuses_tfc;
    outbound.tfc_pad = if padded { options.tfc } else { 0 };
    if install.mode == Mode::Beet {
        // What comes out gets its addresses from here.
        outbound.selector = inner.map(|s| Selector::new(s.src, s.dst));
        inbound.selector = inner.map(|s| Selector::new(s.dst, s.src));
    }
    if matches!(inbound.mode, Mode::Tunnel | Mode::Iptfs) {
        // Without a selector of its own, an SA takes either inner family only with this flag (S4.11).
        inbound.flags.af_unspec = true;
        outbound.flags.af_unspec = true;
    }
    (inbound, outbound)
}

/// The SAs of IPComp beside the two of a child, inbound and outbound, if packets are compressed.
pub(crate) fn compression(install: &ChildInstall, inbound: &Sa, outbound: &Sa) -> Option<[Sa; 2]> {
    let (cpi_in, cpi_out) = install.ipcomp?;
    let comp = |beside: &Sa, cpi: u16| {
        let id = SaId {
            spi: cpi.into(),
            protocol: Protocol::Comp,
            ..beside.id
        };
        Sa {
            compression: Some(Compression::Deflate),
            flags: SaFlags {
                af_unspec: install.mode == Mode::Tunnel,
                align4: false,
                ..beside.flags
            },
            label: beside.label.clone(),
            if_id: beside.if_id,
            ..Sa::new(id, beside.src, beside.direction, install.mode, beside.reqid)
        }
    };
    Some([comp(inbound, cpi_in), comp(outbound, cpi_out)])
}

fn keys_for(suite: &EspSuite, keys: &DirectionKeys) -> (Option<CipherKey>, Option<IntegrityKey>) {
    let encryption = suite.encryption.map(|encryption| CipherKey {
        transform: encryption.iana_id(),
        key: KeyMaterial::new(keys.encryption.as_ref().to_vec()),
    });
    let integrity = suite.integrity.map(|integrity| IntegrityKey {
        transform: integrity.iana_id(),
        key: KeyMaterial::new(keys.integrity.as_ref().to_vec()),
    });
    (encryption, integrity)
}
