//! The way in: reverse path, policy, and the SAs that the packet may have come out of (K6 to K9).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cygnet_ipsec::reference::{State, selector_matches};
use cygnet_ipsec::{
    Action, Counter, Direction, Flow, Inbound, InboundPacket, InstalledPolicy, SaDirection,
    SaState, Template,
};

use crate::machine::{Device, DeviceKind, Machine, Question, RouteQuestion};
use crate::objection::{policy_text, sa_text, template_text};
use crate::report::{Candidate, Cause, Explanation, Fate, Stage, Verdict, Way};

/// Index of the loopback device, which the route of packets for this host leads to.
const LOOPBACK: u32 = 1;

/// A device of which nothing is known.
fn unknown_device() -> Device {
    Device {
        index: 0,
        name: "any device".to_owned(),
        kind: DeviceKind::Plain,
        up: true,
        mtu: 0,
        disable_xfrm: false,
        disable_policy: false,
        rp_filter: 0,
    }
}

/// A packet at the policy check.
struct Arrived<'a> {
    direction: Direction,
    device: &'a Device,
    flow: Flow,
    /// The interface's, for what has come out of an SA.
    if_id: u32,
    /// By this device comes only what has come out of an SA.
    opened: bool,
}

impl Machine<'_> {
    pub(crate) fn inbound(&mut self, q: &Question) -> Explanation {
        let mut way = Way::default();
        let device = q.device.and_then(|index| self.device(index)).cloned();
        let device = device.unwrap_or_else(unknown_device);
        let if_id = match device.kind {
            DeviceKind::Xfrm { if_id } => {
                way.step(
                    Stage::Device,
                    format!("{} is an xfrm interface: what comes in by it has come out of an SA with if_id {if_id}", device.name),
                );
                if_id
            }
            DeviceKind::Vti { input_key, .. } => {
                way.step(
                    Stage::Device,
                    format!(
                        "{} is a VTI: its own policy check is with mark {input_key:#x}",
                        device.name
                    ),
                );
                0
            }
            DeviceKind::Plain | DeviceKind::Loopback => {
                way.step(Stage::Device, format!("it comes in by {}", device.name));
                0
            }
        };
        let src = q.src.unwrap_or(match q.dst {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        });
        let astray = self.reverse_path(&mut way, src, &device);
        let mut leads_to = LOOPBACK;
        if q.direction == Direction::Fwd {
            let asked = RouteQuestion {
                dst: q.dst,
                src: None,
                mark: q.mark,
                output: None,
            };
            match self.routes.route(&asked) {
                Ok(route) => {
                    way.step(
                        Stage::Route,
                        format!(
                            "{} dev {} table {}",
                            q.dst,
                            self.device_name(route.device),
                            route.table
                        ),
                    );
                    leads_to = route.device;
                }
                Err(no) => {
                    way.step(Stage::Route, format!("none to {}: {}", q.dst, no.0));
                    let text = format!("there is no route to {}", q.dst);
                    return way.ends(Verdict::dropped(Cause::NoRoute, text, "add a route for it"));
                }
            }
        }
        let arrived = Arrived {
            direction: q.direction,
            device: &device,
            flow: q.flow(src, q.mark, leads_to),
            if_id,
            opened: device.kind.is_ipsec(),
        };
        let verdict = self.check(&mut way, &arrived);
        // What has come out of an SA is not asked for its way back (K18, fib_validate_source).
        match astray {
            Some(astray) if verdict.fate == Fate::Clear => way.ends(astray),
            _ => way.ends(verdict),
        }
    }

    /// IPv4 only, and of packets in clear: the route back to the source must lead to the device that the packet came in
    /// by, or exist. What comes in by an interface has come out of an SA.
    fn reverse_path(&mut self, way: &mut Way, src: IpAddr, device: &Device) -> Option<Verdict> {
        let is_plain = matches!(device.kind, DeviceKind::Plain | DeviceKind::Loopback);
        if device.rp_filter == 0 || src.is_ipv6() || device.index == 0 || !is_plain {
            return None;
        }
        let asked = RouteQuestion {
            dst: src,
            src: None,
            mark: 0,
            output: None,
        };
        let back = self.routes.route(&asked);
        let (passes, where_to) = match &back {
            Ok(route) => {
                let same = route.device == device.index;
                (
                    same || device.rp_filter == 2,
                    format!(
                        "the route back to {src} leads to {}",
                        self.device_name(route.device)
                    ),
                )
            }
            Err(_) => (false, format!("there is no route back to {src}")),
        };
        way.step(
            Stage::ReversePath,
            format!(
                "rp_filter is {}, {where_to}; it is asked of packets in clear",
                device.rp_filter
            ),
        );
        if passes {
            return None;
        }
        let text = format!(
            "the reverse path filter of {} drops it: {where_to} (counted as IPReversePathFilter)",
            device.name
        );
        let cure = format!(
            "route {src} to {}, or set net.ipv4.conf.{}.rp_filter (and that of all) to 0 or 2",
            device.name, device.name
        );
        Some(Verdict::dropped(Cause::ReversePathFilter, text, cure))
    }

    fn check(&self, way: &mut Way, arrived: &Arrived<'_>) -> Verdict {
        if let DeviceKind::Vti { input_key, .. } = arrived.device.kind {
            let inside = Arrived {
                direction: Direction::In,
                flow: Flow {
                    mark: input_key,
                    ..arrived.flow
                },
                ..*arrived
            };
            let verdict = self.check_once(way, &inside);
            if verdict.fate == Fate::Dropped {
                return verdict;
            }
            if arrived.device.disable_policy {
                way.step(
                    Stage::PolicyCheck,
                    format!(
                        "{} has disable_policy set: there is no second check",
                        arrived.device.name
                    ),
                );
                return verdict;
            }
            return self.behind_vti(way, arrived, verdict);
        }
        if arrived.device.disable_policy {
            let text = format!(
                "{} has disable_policy set: no policy is asked",
                arrived.device.name
            );
            way.step(Stage::PolicyCheck, text.clone());
            return Verdict::new(Fate::Clear, text);
        }
        self.check_once(way, arrived)
    }

    /// Behind a VTI the policies are asked again, of a packet in clear with its own mark: the device takes off what says
    /// that it has come out of an SA (K17).
    fn behind_vti(&self, way: &mut Way, arrived: &Arrived<'_>, accepted: Verdict) -> Verdict {
        let (direction, flow) = (arrived.direction, &arrived.flow);
        let policy = self.databases.lookup_policy(direction, flow, 0);
        let text = match policy {
            Some(policy) => format!(
                "and behind the device, as a packet in clear: {}",
                policy_text(policy)
            ),
            None => "and behind the device, as a packet in clear: none is for it".to_owned(),
        };
        way.step(Stage::Policy, text);
        let end = self.databases.check(direction, &InboundPacket::clear(flow));
        let Inbound::Drop(counter) = end else {
            return accepted;
        };
        let name = &arrived.device.name;
        let text = match policy {
            Some(policy) => format!(
                "behind {name} the policies are asked again, and {} is not for packets in clear, which it takes it for",
                policy_text(policy)
            ),
            None => {
                format!("behind {name} the policies are asked again, and the default is to block")
            }
        };
        let cure = format!("set net.ipv4.conf.{name}.disable_policy (IPv6: net.ipv6) to 1");
        Verdict::dropped(Cause::MissingDisablePolicy, text, cure).counted(&[counter])
    }

    /// One policy check: what becomes of the packet in clear, and out of each SA that there is.
    fn check_once(&self, way: &mut Way, arrived: &Arrived<'_>) -> Verdict {
        let Arrived {
            direction,
            flow,
            if_id,
            opened,
            ..
        } = arrived;
        let policy = self.databases.lookup_policy(*direction, flow, *if_id);
        let candidates = self.policy_candidates(*direction, flow, *if_id, policy);
        way.choice(
            Stage::Policy,
            policy.map_or_else(|| "none is for it".to_owned(), policy_text),
            candidates,
        );
        // What an interface would do with a packet in clear is no question.
        let in_clear = match opened {
            true => Inbound::Drop(match policy {
                None => Counter::InNoPols,
                Some(p) if p.policy.action == Action::Block => Counter::InPolBlock,
                Some(_) => Counter::InTmplMismatch,
            }),
            false => self
                .databases
                .check(*direction, &InboundPacket::clear(flow)),
        };
        let sas: Vec<(&State, Inbound)> = self
            .databases
            .states()
            .filter(|x| x.sa.direction == SaDirection::In && x.state == SaState::Valid)
            // An interface gets what its own SAs open.
            .filter(|x| x.sa.if_id == *if_id)
            .map(|x| {
                let secpath = [&x.sa];
                let packet = InboundPacket {
                    if_id: *if_id,
                    ..InboundPacket::opened(flow, &secpath)
                };
                (x, self.databases.check(*direction, &packet))
            })
            .collect();
        let accepted = sas
            .iter()
            .find(|(_, end)| matches!(end, Inbound::Accept { .. }));
        let candidates = self.out_of_sas(policy, &sas);
        way.choice(
            Stage::PolicyCheck,
            match in_clear {
                _ if *opened => "what has come out of an SA".to_owned(),
                Inbound::Accept { .. } => "in clear it passes".to_owned(),
                Inbound::Drop(counter) => format!("in clear it is dropped ({})", counter.name()),
            },
            candidates,
        );
        match (accepted, in_clear, policy) {
            (Some((x, _)), _, _) => Verdict::new(
                Fate::Accepted,
                format!("it is accepted out of {}", sa_text(x)),
            ),
            (None, Inbound::Drop(Counter::InPolBlock), Some(policy)) => {
                self.blocked(*direction, flow, *if_id, policy, Counter::InPolBlock)
            }
            (None, Inbound::Drop(counter), Some(policy)) => {
                self.not_as_asked(policy, flow, *if_id, counter)
            }
            (None, Inbound::Drop(counter), None) if *opened => Verdict::dropped(
                Cause::TunnelWithoutPolicy,
                "no policy is for it, and what comes out of a tunnel needs one",
                self.why_no_policy(*direction, flow, *if_id),
            )
            .counted(&[counter]),
            (None, Inbound::Drop(counter), None) => Verdict::dropped(
                Cause::DefaultBlocks,
                "no policy is for it, and the default is to block",
                "install a policy for it, or `ip xfrm policy setdefault in accept fwd accept`",
            )
            .counted(&[counter]),
            (None, Inbound::Accept { .. }, _) => {
                let mut verdict = Verdict::new(
                    Fate::Clear,
                    "it is taken in clear: no policy asks for protection",
                );
                if let Some((x, _)) = sas
                    .iter()
                    .find(|(_, end)| *end == Inbound::Drop(Counter::InNoPols))
                {
                    verdict.cause = Some(Cause::TunnelWithoutPolicy);
                    verdict.text += &format!(
                        "; out of {} it would be dropped (XfrmInNoPols): what comes out of a tunnel needs a policy",
                        sa_text(x)
                    );
                    verdict.cure = Some(self.why_no_policy(*direction, flow, *if_id));
                }
                verdict
            }
        }
    }

    /// The inbound SAs and what the policy thinks of each.
    fn out_of_sas(
        &self,
        policy: Option<&InstalledPolicy>,
        sas: &[(&State, Inbound)],
    ) -> Vec<Candidate> {
        let templates = policy.map_or(&[][..], |p| &p.policy.templates[..]);
        sas.iter()
            .map(|(x, end)| Candidate {
                what: sa_text(x),
                chosen: matches!(end, Inbound::Accept { .. }),
                why: match end {
                    Inbound::Accept { .. } => "out of it the packet is accepted".to_owned(),
                    Inbound::Drop(counter) => {
                        let why: Vec<_> = templates.iter().flat_map(|t| unlike(t, x)).collect();
                        format!(
                            "dropped ({}){}{}",
                            counter.name(),
                            if why.is_empty() { "" } else { ": " },
                            why.join("; ")
                        )
                    }
                },
            })
            .collect()
    }

    /// The policy asks for SAs, and there is none that fits.
    fn not_as_asked(
        &self,
        policy: &InstalledPolicy,
        flow: &Flow,
        if_id: u32,
        counter: Counter,
    ) -> Verdict {
        let wanted: Vec<_> = policy.policy.templates.iter().map(template_text).collect();
        let wanted = wanted.join(", ");
        // An SA that would do but for one thing is the one that is meant.
        let nearest = policy.policy.templates.iter().find_map(|t| {
            self.databases
                .states()
                .filter(|x| x.sa.direction == SaDirection::In && x.state == SaState::Valid)
                .filter(|x| {
                    x.sa.selector
                        .as_ref()
                        .is_none_or(|s| selector_matches(s, flow))
                })
                .find_map(|x| {
                    let mut unlike = unlike(t, x);
                    if x.sa.if_id != if_id {
                        unlike.push(format!("if_id {}, the packet passes {if_id}", x.sa.if_id));
                    }
                    (unlike.len() == 1).then(|| (x, unlike.remove(0)))
                })
        });
        let (cause, text, cure) = match nearest {
            Some((x, why)) if why.starts_with("reqid") => (
                Cause::ReqidMismatch,
                format!(
                    "the policy wants {wanted}; {} is not that: {why}",
                    sa_text(x)
                ),
                "install policy and SA with the same reqid",
            ),
            Some((x, why)) if why.starts_with("if_id") => (
                Cause::IfIdMismatch,
                format!(
                    "the policy wants {wanted}; {} is not that: {why}",
                    sa_text(x)
                ),
                "install policies and SAs with the if_id of the interface",
            ),
            Some((x, why)) => (
                Cause::NoSa,
                format!(
                    "the policy wants {wanted}; {} is not that: {why}",
                    sa_text(x)
                ),
                "compare the SA with the policy's template",
            ),
            None => (
                Cause::ClearButMustBeProtected,
                format!(
                    "the policy wants {wanted}, and no SA fits: in clear, and out of every SA that there is, it is dropped"
                ),
                "the peer must send it protected; cygnet status says whether the connection is up",
            ),
        };
        Verdict::dropped(cause, text, cure).counted(&[counter])
    }

    /// What keeps the policies of a direction from a packet that came out of a tunnel.
    fn why_no_policy(&self, direction: Direction, flow: &Flow, if_id: u32) -> String {
        match self.nearly(direction, flow, if_id) {
            Some((p, why)) => format!("{} is not for it: {why}", policy_text(p)),
            None => {
                "widen the traffic selectors of the connection, or see who else sends through it"
                    .to_owned()
            }
        }
    }
}

/// What makes an SA another than a template of an inbound policy asks for (K9); reqid first in its text.
fn unlike(t: &Template, x: &State) -> Vec<String> {
    let sa = &x.sa;
    let mut all = Vec::new();
    if sa.id.protocol != t.protocol {
        all.push(format!("it is {}", sa.id.protocol.name()));
    }
    if t.spi != 0 && t.spi != sa.id.spi {
        all.push(format!("the template wants SPI {:#010x}", t.spi));
    }
    if t.reqid != 0 && t.reqid != sa.reqid {
        all.push(format!(
            "reqid {}, the template wants {}",
            sa.reqid, t.reqid
        ));
    }
    if t.mode != sa.mode {
        all.push(format!(
            "mode {}, the template wants {}",
            sa.mode.name(),
            t.mode.name()
        ));
    }
    if t.mode.is_tunnel_type() && !t.src.is_unspecified() && t.src != sa.src {
        all.push(format!(
            "it comes from {}, the template wants {}",
            sa.src, t.src
        ));
    }
    all
}
