//! The classic faults, each on a machine of its own: the cause must be named.

use std::net::IpAddr;
use std::time::Instant;

use cygnet_explain::{
    Cause, Device, DeviceKind, Explanation, Fate, Machine, NoRoute, Question, Route, RouteQuestion,
    Routes, Stage,
};
use cygnet_ipsec::reference::Databases;
use cygnet_ipsec::{
    Action, CipherKey, Direction, KeyMaterial, Mark, Mode, Policy, PolicyKey, Protocol, Sa,
    SaDirection, SaId, SaState, Selector, Template,
};

const ETH: u32 = 2;
const IPSEC: u32 = 3;
const VTI: u32 = 4;
const IF_ID: u32 = 7;
const KEY: u32 = 5;
const WEST: &str = "192.0.2.1";
const EAST: &str = "198.51.100.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn selector(src: &str, dst: &str) -> Selector {
    Selector::new(src.parse().unwrap(), dst.parse().unwrap())
}

/// Routes: a destination prefix, the marks that it is for, and the device.
struct Table(Vec<(&'static str, Option<u32>, u32)>);

impl Routes for Table {
    fn route(&mut self, q: &RouteQuestion) -> Result<Route, NoRoute> {
        let fits = |prefix: &str| prefix.parse::<ipnet::IpNet>().unwrap().contains(&q.dst);
        self.0
            .iter()
            .find(|(prefix, mark, _)| fits(prefix) && mark.is_none_or(|mark| mark == q.mark))
            .map(|(_, _, device)| Route {
                device: *device,
                source: Some(if *device == ETH {
                    ip(WEST)
                } else {
                    ip("10.1.0.1")
                }),
                gateway: None,
                table: 254,
                mtu: None,
                local: *device == 1,
            })
            .ok_or_else(|| NoRoute("no such prefix".to_owned()))
    }
}

struct Host {
    devices: Vec<Device>,
    databases: Databases,
    routes: Table,
}

impl Host {
    fn new() -> Self {
        let device = |index, name: &str, kind| Device {
            index,
            name: name.to_owned(),
            kind,
            up: true,
            mtu: 1500,
            disable_xfrm: false,
            disable_policy: false,
            rp_filter: 0,
        };
        let vti = DeviceKind::Vti {
            input_key: KEY,
            output_key: KEY,
        };
        Self {
            devices: vec![
                device(1, "lo", DeviceKind::Loopback),
                device(ETH, "eth0", DeviceKind::Plain),
                device(IPSEC, "ipsec1", DeviceKind::Xfrm { if_id: IF_ID }),
                device(VTI, "vti1", vti),
            ],
            databases: Databases::new(),
            routes: Table(vec![("10.0.0.0/8", None, ETH), ("0.0.0.0/0", None, ETH)]),
        }
    }

    fn policy(
        &mut self,
        direction: Direction,
        src: &str,
        dst: &str,
        change: impl FnOnce(&mut Policy),
    ) {
        let mut policy = Policy::new(PolicyKey::new(direction, selector(src, dst)));
        policy.priority = 100;
        let (from, to) = match direction {
            Direction::Out => (WEST, EAST),
            _ => (EAST, WEST),
        };
        policy.templates = vec![Template {
            src: ip(from),
            dst: ip(to),
            spi: 0,
            protocol: Protocol::Esp,
            reqid: 1,
            mode: Mode::Tunnel,
            optional: false,
        }];
        change(&mut policy);
        self.databases.insert_policy(&policy, false).unwrap();
    }

    /// The three policies of 10.1.0.0/24 and 10.2.0.0/24.
    fn policies(&mut self, change: impl Fn(&mut Policy)) {
        self.policy(Direction::Out, "10.1.0.0/24", "10.2.0.0/24", &change);
        self.policy(Direction::In, "10.2.0.0/24", "10.1.0.0/24", &change);
        self.policy(Direction::Fwd, "10.2.0.0/24", "10.1.0.0/24", &change);
    }

    fn sa(&mut self, direction: SaDirection, state: SaState, change: impl FnOnce(&mut Sa)) {
        let (src, dst) = match direction {
            SaDirection::Out => (WEST, EAST),
            SaDirection::In => (EAST, WEST),
        };
        let id = SaId {
            dst: ip(dst),
            spi: 0x1000 + direction as u32,
            protocol: Protocol::Esp,
            mark: Mark::ANY,
        };
        let mut sa = Sa::new(id, ip(src), direction, Mode::Tunnel, 1);
        sa.encryption = Some(CipherKey {
            transform: 20,
            key: KeyMaterial::default(),
        });
        change(&mut sa);
        self.databases.adopt_sa(Instant::now(), sa, state);
    }

    fn sas(&mut self, change: impl Fn(&mut Sa)) {
        self.sa(SaDirection::Out, SaState::Valid, &change);
        self.sa(SaDirection::In, SaState::Valid, &change);
    }

    fn ask(&mut self, question: &Question) -> Explanation {
        Machine {
            devices: self.devices.clone(),
            databases: self.databases.clone(),
            routes: &mut self.routes,
        }
        .explain(question)
    }

    fn out(&mut self) -> Explanation {
        self.ask(&Question::new(
            Direction::Out,
            Some(ip("10.1.0.5")),
            ip("10.2.0.5"),
        ))
    }

    fn inward(&mut self, device: u32) -> Explanation {
        self.ask(&Question {
            device: Some(device),
            ..Question::new(Direction::In, Some(ip("10.2.0.5")), ip("10.1.0.5"))
        })
    }

    /// Route-based: everything belongs to `ipsec1`, which the route leads to.
    fn on_interface(set_mark: Option<Mark>) -> Self {
        let mut host = Self::new();
        host.routes = Table(vec![("10.2.0.0/24", None, IPSEC), ("0.0.0.0/0", None, ETH)]);
        host.policies(|p| p.key.if_id = IF_ID);
        host.sas(|sa| {
            sa.if_id = IF_ID;
            sa.set_mark = set_mark;
        });
        host
    }
}

fn assert_cause(explanation: &Explanation, fate: Fate, cause: Cause) {
    assert_eq!(
        (explanation.verdict.fate, explanation.verdict.cause),
        (fate, Some(cause)),
        "{explanation}"
    );
    assert!(explanation.verdict.cure.is_some(), "{explanation}");
}

#[test]
fn all_is_well() {
    for mut host in [Host::new(), Host::on_interface(None)] {
        if host.databases.policies().next().is_none() {
            host.policies(|_| {});
            host.sas(|_| {});
        }
        let out = host.out();
        assert_eq!(
            (out.verdict.fate, out.verdict.cause),
            (Fate::Protected, None),
            "{out}"
        );
        // 1500 octets: 20 outer header, 16 ESP header and IV, 16 ICV, 2 trailer, in blocks of 4.
        assert!(
            out.to_string().contains("packets up to 1446 octets fit"),
            "{out}"
        );
        let json = serde_json::to_value(&out).unwrap();
        assert_eq!(json["verdict"]["fate"], "protected");
        assert_eq!(json["steps"][0]["stage"], "route");
    }
    let mut host = Host::on_interface(None);
    let inward = host.inward(IPSEC);
    assert_eq!(
        (inward.verdict.fate, inward.verdict.cause),
        (Fate::Accepted, None),
        "{inward}"
    );
}

#[test]
fn the_peer_lies_inside_the_remote_network_and_there_is_no_rule() {
    let mut host = Host::on_interface(None);
    host.routes = Table(vec![("0.0.0.0/0", None, IPSEC)]);
    assert_cause(&host.out(), Fate::Dropped, Cause::OuterRouteLoops);
    // With an output mark and a rule for it the packet gets away.
    let mut host = Host::on_interface(Some(Mark::exact(6)));
    host.routes = Table(vec![
        ("0.0.0.0/0", Some(6), ETH),
        ("0.0.0.0/0", None, IPSEC),
    ]);
    assert_eq!(host.out().verdict.fate, Fate::Protected, "{}", host.out());
}

#[test]
fn the_reverse_path_filter() {
    // In clear, and the way back leads elsewhere.
    let mut host = Host::new();
    host.routes = Table(vec![("0.0.0.0/0", None, IPSEC)]);
    host.devices[1].rp_filter = 1;
    assert_cause(&host.inward(ETH), Fate::Dropped, Cause::ReversePathFilter);
    host.devices[1].rp_filter = 2;
    assert_eq!(host.inward(ETH).verdict.fate, Fate::Clear);
    // What has come out of an SA is not asked.
    let mut host = Host::on_interface(None);
    host.devices[2].rp_filter = 1;
    host.routes = Table(vec![("0.0.0.0/0", None, ETH)]);
    assert_eq!(host.inward(IPSEC).verdict.fate, Fate::Accepted);
}

#[test]
fn a_vti_without_disable_policy() {
    let mut host = Host::new();
    host.policies(|p| p.key.mark = Mark::exact(KEY));
    host.sas(|_| {});
    // Behind the device nothing says any more that it has come out of an SA.
    assert_eq!(host.inward(VTI).verdict.fate, Fate::Accepted);
    // So a policy for all marks takes it for clear text.
    host.policies(|_| {});
    let inward = host.inward(VTI);
    assert_cause(&inward, Fate::Dropped, Cause::MissingDisablePolicy);
    assert_eq!(inward.verdict.counters, ["XfrmInTmplMismatch"], "{inward}");
    host.devices[3].disable_policy = true;
    assert_eq!(host.inward(VTI).verdict.fate, Fate::Accepted);
    // Out: the device's key is the mark.
    host.routes = Table(vec![("10.2.0.0/24", None, VTI), ("0.0.0.0/0", None, ETH)]);
    assert_eq!(host.out().verdict.fate, Fate::Protected, "{}", host.out());
}

#[test]
fn marks_outside_the_mask() {
    let mut host = Host::new();
    host.policies(|_| {});
    let bad = Mark {
        value: 0x105,
        mask: 0xff,
    };
    host.sas(|sa| sa.id.mark = bad);
    let out = host.out();
    assert_cause(&out, Fate::Dropped, Cause::MarkOutsideMask);
    assert_eq!(out.verdict.counters, ["XfrmOutNoStates"]);
}

#[test]
fn marks_that_are_not_there() {
    let mut host = Host::new();
    host.policies(|p| p.key.mark = Mark::exact(KEY));
    host.sas(|_| {});
    assert_cause(&host.out(), Fate::Clear, Cause::MarkMismatch);
    let mut host = Host::new();
    host.policies(|_| {});
    host.sas(|sa| sa.id.mark = Mark::exact(9));
    assert_cause(&host.out(), Fate::Dropped, Cause::MarkMismatch);
}

#[test]
fn if_ids_that_differ() {
    // SA and policy.
    let mut host = Host::on_interface(None);
    host.databases.flush_sas();
    host.sas(|sa| sa.if_id = 8);
    assert_cause(&host.out(), Fate::Dropped, Cause::IfIdMismatch);
    assert_cause(&host.inward(IPSEC), Fate::Dropped, Cause::IfIdMismatch);
    // Device and policy.
    let mut host = Host::on_interface(None);
    host.devices[2].kind = DeviceKind::Xfrm { if_id: 8 };
    assert_cause(&host.out(), Fate::Dropped, Cause::IfIdMismatch);
    // The packet does not get to the device at all.
    let mut host = Host::on_interface(None);
    host.routes = Table(vec![("0.0.0.0/0", None, ETH)]);
    assert_cause(&host.out(), Fate::Clear, Cause::IfIdMismatch);
}

#[test]
fn an_older_policy_of_equal_priority() {
    let mut host = Host::new();
    host.policy(Direction::Out, "10.0.0.0/8", "10.0.0.0/8", |p| {
        p.action = Action::Block;
        p.templates.clear();
    });
    host.policies(|_| {});
    host.sas(|_| {});
    let out = host.out();
    assert_cause(&out, Fate::Dropped, Cause::OlderPolicyWins);
    assert_eq!(out.verdict.counters, ["XfrmOutPolBlock"]);
    // Whoever allows without protecting is as bad.
    let mut host = Host::new();
    host.policy(Direction::Out, "10.0.0.0/8", "10.0.0.0/8", |p| {
        p.templates.clear()
    });
    host.policies(|_| {});
    assert_cause(&host.out(), Fate::Clear, Cause::OlderPolicyWins);
    // The other way round all is well.
    let mut host = Host::new();
    host.policies(|_| {});
    host.sas(|_| {});
    host.policy(Direction::Out, "10.0.0.0/8", "10.0.0.0/8", |p| {
        p.action = Action::Block
    });
    assert_eq!(host.out().verdict.cause, None);
}

#[test]
fn a_larval_sa_keeps_quiet() {
    let mut host = Host::new();
    host.policies(|_| {});
    host.sa(SaDirection::Out, SaState::Larval, |sa| {
        sa.selector = Some(selector("10.1.0.9/32", "10.2.0.9/32"));
        sa.encryption = None;
    });
    let out = host.out();
    assert_cause(&out, Fate::Dropped, Cause::LarvalMutes);
    assert_eq!(out.verdict.counters, ["XfrmOutNoStates"]);
}

#[test]
fn packets_that_are_too_big() {
    let mut host = Host::on_interface(None);
    let question = |size| Question {
        size: Some(size),
        ..Question::new(Direction::Out, Some(ip("10.1.0.5")), ip("10.2.0.5"))
    };
    let fits = host.ask(&question(1446));
    assert_eq!(fits.verdict.fate, Fate::Protected, "{fits}");
    let big = host.ask(&question(1447));
    assert_cause(&big, Fate::Dropped, Cause::TooBig);
    assert!(big.verdict.cure.unwrap().contains("MTU of ipsec1 to 1446"));
}

#[test]
fn reqids_that_differ() {
    let mut host = Host::new();
    host.policies(|_| {});
    host.sas(|sa| sa.reqid = 2);
    let out = host.out();
    assert_cause(&out, Fate::Dropped, Cause::ReqidMismatch);
    let sa = out.steps.iter().find(|s| s.stage == Stage::Sa).unwrap();
    assert_eq!(sa.candidates[0].why, "reqid 2, the template wants 1");
    let inward = host.inward(ETH);
    assert_cause(&inward, Fate::Dropped, Cause::ReqidMismatch);
    assert_eq!(inward.verdict.counters, ["XfrmInTmplMismatch"]);
}

#[test]
fn the_default_is_to_block() {
    let mut host = Host::new();
    host.databases.set_default(Direction::Out, Action::Block);
    host.databases.set_default(Direction::In, Action::Block);
    let out = host.out();
    assert_cause(&out, Fate::Dropped, Cause::DefaultBlocks);
    assert!(out.verdict.counters.is_empty(), "nothing counts it");
    let inward = host.inward(ETH);
    assert_cause(&inward, Fate::Dropped, Cause::DefaultBlocks);
    assert_eq!(inward.verdict.counters, ["XfrmInNoPols"]);
}

#[test]
fn no_sa_no_route_no_interface() {
    let mut host = Host::new();
    host.policies(|_| {});
    assert_cause(&host.out(), Fate::Dropped, Cause::NoSa);
    assert_cause(
        &host.inward(ETH),
        Fate::Dropped,
        Cause::ClearButMustBeProtected,
    );
    host.routes = Table(vec![]);
    assert_cause(&host.out(), Fate::Dropped, Cause::NoRoute);
    let mut host = Host::on_interface(None);
    host.databases.flush_policies();
    assert_cause(&host.out(), Fate::Dropped, Cause::NoPolicyOnInterface);
    // Out of a tunnel without a policy.
    let mut host = Host::new();
    host.sas(|_| {});
    assert_cause(&host.inward(ETH), Fate::Clear, Cause::TunnelWithoutPolicy);
}
