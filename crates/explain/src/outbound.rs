//! The way out: route, device, policy, SAs, outer route, MTU (K2 to K7, S4.5, S4.12).

use std::net::IpAddr;

use cygnet_esp::Overhead;
use cygnet_ipsec::reference::State;
use cygnet_ipsec::{
    Action, Counter, Direction, Family, Flow, InstalledPolicy, Mark, Outbound, OutboundDrop,
    OutboundLookup, OutboundPacket, PolicyType, Template,
};

use crate::blame::{default_blocks, loops, too_big};
use crate::machine::{Device, DeviceKind, Machine, Question, Route, RouteQuestion};
use crate::objection::{
    PolicyObjection, SaObjection, family_text, policy_text, sa_text, template_text,
};
use crate::report::{Candidate, Cause, Explanation, Fate, Stage, Verdict, Way};

/// At most so many candidates are listed at a step; the rest is counted.
const MAX_LISTED: usize = 12;

/// What the policies make of a packet.
enum Looked {
    /// Nothing: it goes on as it is.
    Clear,
    /// These SAs, the innermost first.
    Sas(Vec<State>),
    /// The end.
    End(Verdict),
}

impl Machine<'_> {
    pub(crate) fn outbound(&mut self, q: &Question) -> Explanation {
        let mut way = Way::default();
        let asked = RouteQuestion {
            dst: q.dst,
            src: q.src,
            mark: q.mark,
            output: q.device,
        };
        let route = match self.routes.route(&asked) {
            Ok(route) => route,
            Err(no) => {
                way.step(Stage::Route, format!("none to {}: {}", q.dst, no.0));
                let cure = "add a route for it: policies are asked only once there is one";
                let text = format!("there is no route to {}", q.dst);
                return way.ends(Verdict::dropped(Cause::NoRoute, text, cure));
            }
        };
        way.step(Stage::Route, self.route_text(q.dst, &route));
        if route.local {
            let text = "it is for this host itself and does not leave";
            return way.ends(Verdict::new(Fate::Local, text));
        }
        let Some(src) = q.src.or(route.source) else {
            let cure = format!(
                "give the device an {} address",
                family_text(Family::of(q.dst))
            );
            let text = "the route has no source address for it";
            return way.ends(Verdict::dropped(Cause::NoRoute, text, cure));
        };
        let Some(device) = self.device(route.device).cloned() else {
            way.step(Stage::Device, "it is gone again");
            let text = "the device of the route is gone";
            return way.ends(Verdict::dropped(Cause::DeviceDown, text, "ask again"));
        };
        if !device.up {
            way.step(Stage::Device, format!("{} is down", device.name));
            let cure = format!("ip link set {} up", device.name);
            let text = format!("the route leads to {}, which is down", device.name);
            return way.ends(Verdict::dropped(Cause::DeviceDown, text, cure));
        }
        let flow = q.flow(src, q.mark, device.index);
        let size = q.size;

        // Whatever the device is, its packets first meet the policies that belong to no interface.
        let skipped = device.disable_xfrm && flow.family() == Family::V4;
        let first = self.look_up(&mut way, &flow, 0, skipped.then_some(&device));
        let sas = match (first, device.kind) {
            (Looked::End(verdict), _) => return way.ends(verdict),
            (Looked::Sas(sas), _) => sas,
            (Looked::Clear, DeviceKind::Xfrm { if_id: 0 }) => {
                way.step(
                    Stage::Device,
                    format!(
                        "{} takes the if_id of each packet's route, which is not known here",
                        device.name
                    ),
                );
                let text = format!(
                    "it goes into {}, which has no if_id of its own",
                    device.name
                );
                return way.ends(Verdict::new(Fate::Clear, text));
            }
            (Looked::Clear, DeviceKind::Xfrm { if_id }) => {
                way.step(
                    Stage::Device,
                    format!(
                        "{} is an xfrm interface: only policies with if_id {if_id} count",
                        device.name
                    ),
                );
                // The selector's device is that of the interface's link, which is usually none.
                let flow = Flow { ifindex: 0, ..flow };
                match self.look_up(&mut way, &flow, if_id, None) {
                    Looked::End(verdict) => return way.ends(verdict),
                    Looked::Sas(sas) => sas,
                    Looked::Clear => {
                        let verdict = self.nothing_on_interface(&flow, if_id, &device);
                        return way.ends(verdict);
                    }
                }
            }
            (Looked::Clear, DeviceKind::Vti { output_key, .. }) => {
                way.step(
                    Stage::Device,
                    format!("{} is a VTI: policies are asked with its output key {output_key:#x} as the mark", device.name),
                );
                let flow = Flow {
                    mark: output_key,
                    ..flow
                };
                match self.look_up(&mut way, &flow, 0, None) {
                    Looked::End(verdict) => return way.ends(verdict),
                    Looked::Sas(sas) => sas,
                    Looked::Clear => {
                        let cure = format!(
                            "the policy must be for mark {output_key:#x}: use mark= with the key of the device"
                        );
                        let text = format!(
                            "no policy is for what goes into {}: the device drops it",
                            device.name
                        );
                        return way.ends(Verdict::dropped(Cause::NoPolicyOnInterface, text, cure));
                    }
                }
            }
            (Looked::Clear, DeviceKind::Plain | DeviceKind::Loopback) => {
                let verdict = self.in_clear(&flow, &device);
                return way.ends(verdict);
            }
        };
        self.transform(way, &flow, &device, &route, &sas, size)
    }

    fn route_text(&self, dst: IpAddr, route: &Route) -> String {
        let mut text = dst.to_string();
        if let Some(gateway) = route.gateway {
            text += &format!(" via {gateway}");
        }
        text += &format!(
            " dev {} table {}",
            self.device_name(route.device),
            route.table
        );
        if let Some(source) = route.source {
            text += &format!(" src {source}");
        }
        if let Some(mtu) = route.mtu {
            text += &format!(" mtu {mtu}");
        }
        text
    }

    /// The policy and its SAs, for one `if_id`. With `skipped`, the device has `disable_xfrm` set.
    fn look_up(&self, way: &mut Way, flow: &Flow, if_id: u32, skipped: Option<&Device>) -> Looked {
        let packet = OutboundPacket {
            if_id,
            disable_xfrm: skipped.is_some(),
            ..OutboundPacket::new(flow)
        };
        let verdict = self.databases.output(&packet).verdict;
        if let Some(device) = skipped {
            way.step(
                Stage::Policy,
                format!("{} has disable_xfrm set: none is asked", device.name),
            );
            return match verdict {
                Outbound::Drop(_) => Looked::End(default_blocks()),
                _ => Looked::Clear,
            };
        }
        let first = self.databases.lookup_policy(Direction::Out, flow, if_id);
        let candidates = self.policy_candidates(Direction::Out, flow, if_id, first);
        let Some(first) = first else {
            let text = match if_id {
                0 => "none is for it".to_owned(),
                _ => format!("none with if_id {if_id} is for it"),
            };
            way.choice(Stage::Policy, text, candidates);
            return match verdict {
                Outbound::Drop(_) => Looked::End(default_blocks()),
                _ => Looked::Clear,
            };
        };
        way.choice(Stage::Policy, policy_text(first), candidates);
        let mut policies = vec![first];
        if first.policy.action == Action::Allow && first.policy.key.policy_type == PolicyType::Sub {
            let main =
                self.databases
                    .lookup_policy_of_type(PolicyType::Main, Direction::Out, flow, if_id);
            if let Some(main) = main {
                way.step(
                    Stage::Policy,
                    format!("and of the main table {}", policy_text(main)),
                );
                policies.push(main);
            }
        }
        match verdict {
            Outbound::Clear { .. } => return self.allowed_in_clear(flow, if_id, first),
            Outbound::Drop(OutboundDrop::Blocked { .. }) => {
                return Looked::End(self.blocked(
                    Direction::Out,
                    flow,
                    if_id,
                    first,
                    Counter::OutPolBlock,
                ));
            }
            _ => {}
        }
        self.resolve(way, &policies, flow, verdict)
    }

    /// The SAs of the templates, one after the other.
    fn resolve(
        &self,
        way: &mut Way,
        policies: &[&InstalledPolicy],
        flow: &Flow,
        verdict: Outbound<u64>,
    ) -> Looked {
        let (mut local, mut remote) = (flow.src, flow.dst);
        for policy in policies {
            for template in &policy.policy.templates {
                let (from, to) = if template.mode.is_tunnel_type() {
                    (template.src, template.dst)
                } else {
                    (local, remote)
                };
                let found = self
                    .databases
                    .find_outbound(&policy.policy, template, flow, from, to);
                let chosen = match found {
                    OutboundLookup::Found(serial) => self.databases.state(serial),
                    _ => None,
                };
                let candidates = self.sa_candidates(policy, template, flow, (from, to), chosen);
                let wanted = template_text(template);
                match (found, chosen) {
                    (_, Some(x)) => {
                        way.choice(
                            Stage::Sa,
                            format!("for {wanted}: {}", sa_text(x)),
                            candidates,
                        );
                        (local, remote) = (from, to);
                    }
                    (_, None) if template.optional => {
                        way.choice(
                            Stage::Sa,
                            format!("for {wanted}: none, and it is optional"),
                            candidates,
                        );
                    }
                    (found, None) => {
                        way.choice(Stage::Sa, format!("for {wanted}: none"), candidates);
                        return Looked::End(self.no_sa(policy, template, flow, (from, to), found));
                    }
                }
            }
        }
        match verdict {
            Outbound::Protect { sas, .. } => Looked::Sas(
                sas.iter()
                    .filter_map(|serial| self.databases.state(serial))
                    .cloned()
                    .collect(),
            ),
            Outbound::Clear { .. } => Looked::Clear,
            Outbound::Drop(drop) => {
                let text = match drop {
                    OutboundDrop::WrongDirection => "the SA is one for packets that come in",
                    OutboundDrop::NoSource => {
                        "no route gives the outer source address that the template leaves open"
                    }
                    OutboundDrop::TooManyTemplates => {
                        "the policies have six templates or more together"
                    }
                    _ => "the templates cannot be resolved",
                };
                let verdict = Verdict::dropped(
                    Cause::Unresolvable,
                    text,
                    "look at the policy and its SAs: ip xfrm policy, ip xfrm state",
                );
                Looked::End(verdict.counted(drop.counters()))
            }
        }
    }

    /// The policies that came near, the winner first.
    pub(crate) fn policy_candidates(
        &self,
        direction: Direction,
        flow: &Flow,
        if_id: u32,
        winner: Option<&InstalledPolicy>,
    ) -> Vec<Candidate> {
        let mut near = Vec::new();
        let mut far = 0_usize;
        for policy in self.databases.policies() {
            if policy.policy.key.direction != direction
                || policy.policy.key.selector.family() != flow.family()
            {
                continue;
            }
            let objections = PolicyObjection::all(&policy.policy, flow, if_id);
            if objections.iter().any(|o| o.is_about_addresses()) {
                far += 1;
                continue;
            }
            let chosen = winner.is_some_and(|w| w.policy.key == policy.policy.key);
            let why = match winner {
                _ if !objections.is_empty() => listed(&objections),
                Some(_) if chosen => "it fits, and no other has a smaller priority".to_owned(),
                Some(winner) => lost(policy, winner),
                None => "it fits".to_owned(),
            };
            near.push(Candidate {
                what: policy_text(policy),
                chosen,
                why,
            });
        }
        near.sort_by_key(|candidate| !candidate.chosen);
        shorten(near, far, "policies of this direction have other addresses")
    }

    fn sa_candidates(
        &self,
        policy: &InstalledPolicy,
        template: &Template,
        flow: &Flow,
        ends: (IpAddr, IpAddr),
        winner: Option<&State>,
    ) -> Vec<Candidate> {
        let mut near = Vec::new();
        let mut far = 0_usize;
        for x in self.databases.states() {
            let objections = SaObjection::all(x, &policy.policy, template, flow, ends);
            if is_far(&objections) {
                far += 1;
                continue;
            }
            let chosen = winner.is_some_and(|w| w.serial == x.serial);
            let why = if !objections.is_empty() {
                listed(&objections)
            } else if chosen {
                "it fits".to_owned()
            } else {
                "it fits, but a younger one does too, or one that has not reached a soft limit"
                    .to_owned()
            };
            near.push(Candidate {
                what: sa_text(x),
                chosen,
                why,
            });
        }
        near.sort_by_key(|candidate| !candidate.chosen);
        shorten(near, far, "SAs are for other peers and templates")
    }

    /// A policy lets it pass as it is. If another one of the same priority would protect it, that is what went wrong.
    fn allowed_in_clear(&self, flow: &Flow, if_id: u32, winner: &InstalledPolicy) -> Looked {
        if if_id != 0 {
            let text = format!(
                "{} lets it pass as it is, and an xfrm interface sends nothing in clear: it drops it",
                policy_text(winner)
            );
            let cure = "give the policy a template";
            return Looked::End(Verdict::dropped(Cause::NoPolicyOnInterface, text, cure));
        }
        let text = format!("it leaves in clear: {} says so", policy_text(winner));
        let mut verdict = Verdict::new(Fate::Clear, text);
        self.note_older_policy(&mut verdict, Direction::Out, flow, if_id, winner);
        Looked::End(verdict)
    }

    /// What the SAs make of it, and where that goes.
    fn transform(
        &mut self,
        mut way: Way,
        flow: &Flow,
        device: &Device,
        route: &Route,
        sas: &[State],
        size: Option<usize>,
    ) -> Explanation {
        let mut mark = flow.mark;
        let mut path = (device.index, route.mtu.unwrap_or(device.mtu));
        let mut fits: Option<usize> = None;
        for x in sas {
            let sa = &x.sa;
            let overhead = Overhead::of(sa);
            let mut text = sa_text(x);
            if let Some(set_mark) = sa.set_mark {
                text += &format!(
                    ", output mark {set_mark}: {mark:#x} becomes {:#x}",
                    set_mark.apply(mark)
                );
            }
            way.step(Stage::Transform, text);
            if sa.mode.is_tunnel_type() {
                // Without an output mark the mark of the clear packet is not used (K4).
                let outer_mark = sa.set_mark.map_or(0, |set: Mark| set.apply(mark));
                let asked = RouteQuestion {
                    dst: sa.id.dst,
                    src: Some(sa.src),
                    mark: outer_mark,
                    output: None,
                };
                let outer = match self.routes.route(&asked) {
                    Ok(outer) => outer,
                    Err(no) => {
                        way.step(
                            Stage::OuterRoute,
                            format!("none to {}: {}", sa.id.dst, no.0),
                        );
                        let cure = format!(
                            "a route to {} with mark {outer_mark:#x} is needed",
                            sa.id.dst
                        );
                        let text = format!("there is no route to the peer {}", sa.id.dst);
                        let verdict = Verdict::dropped(Cause::NoOuterRoute, text, cure);
                        return way.ends(verdict.counted(&[Counter::OutBundleGenError]));
                    }
                };
                way.step(
                    Stage::OuterRoute,
                    format!(
                        "{} with mark {outer_mark:#x}",
                        self.route_text(sa.id.dst, &outer)
                    ),
                );
                if device.kind.is_ipsec() && outer.device == device.index {
                    return way.ends(loops(device, sa.id.dst, sa.set_mark));
                }
                let mtu = outer
                    .mtu
                    .or_else(|| self.device(outer.device).map(|d| d.mtu));
                path = (outer.device, mtu.unwrap_or(path.1));
                mark = outer_mark;
            }
            fits = overhead.map(|o| o.max_inner(path.1));
        }
        let by = self.device_name(path.0);
        if let Some(fits) = fits {
            let text = format!("{} octets by {by}: packets up to {fits} octets fit", path.1);
            way.step(Stage::Mtu, text);
            if let Some(size) = size.filter(|size| *size > fits) {
                return way.ends(too_big(flow, device, size, fits));
            }
            if matches!(device.kind, DeviceKind::Xfrm { .. }) && device.mtu > fits {
                way.step(
                    Stage::Mtu,
                    format!("{} has an MTU of {}: its larger packets are refused or fragmented; {fits} would fit", device.name, device.mtu),
                );
            }
        }
        let last = sas.last().map(sa_text).unwrap_or_default();
        way.ends(Verdict::new(
            Fate::Protected,
            format!("it leaves protected by {by}: {last}"),
        ))
    }
}

/// Why a policy that fits is not the one.
fn lost(policy: &InstalledPolicy, winner: &InstalledPolicy) -> String {
    if policy.policy.key.policy_type != winner.policy.key.policy_type {
        return "the sub table is asked first".to_owned();
    }
    if policy.policy.priority == winner.policy.priority {
        return format!(
            "it fits and has the same priority as policy {}, but is younger",
            winner.policy.index
        );
    }
    format!(
        "it fits, but its priority {} comes after {}",
        policy.policy.priority, winner.policy.priority
    )
}

/// Whether an SA is plainly for something else: it shares nothing with what is wanted.
fn is_far(objections: &[SaObjection]) -> bool {
    objections.iter().any(|o| matches!(o, SaObjection::Inbound))
        || (objections
            .iter()
            .any(|o| matches!(o, SaObjection::Reqid { .. }))
            && objections
                .iter()
                .any(|o| matches!(o, SaObjection::Destination(_))))
}

fn listed(objections: &[impl ToString]) -> String {
    let all: Vec<_> = objections.iter().map(ToString::to_string).collect();
    all.join("; ")
}

/// The first of them, and a word about the rest.
fn shorten(mut near: Vec<Candidate>, far: usize, what: &str) -> Vec<Candidate> {
    let more = near.len().saturating_sub(MAX_LISTED);
    near.truncate(MAX_LISTED);
    if more > 0 {
        near.push(Candidate {
            what: format!("{more} more"),
            chosen: false,
            why: "not shown".to_owned(),
        });
    }
    if far > 0 {
        near.push(Candidate {
            what: format!("{far} others"),
            chosen: false,
            why: what.to_owned(),
        });
    }
    near
}
