//! What is explained is what the model says: random databases, random packets.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use cygnet_explain::{
    Device, DeviceKind, Fate, Machine, NoRoute, Question, Route, RouteQuestion, Routes,
};
use cygnet_ipsec::reference::Databases;
use cygnet_ipsec::{
    Action, CipherKey, Direction, Inbound, InboundPacket, KeyMaterial, Mark, Mode, Outbound,
    OutboundPacket, Policy, PolicyKey, PolicyType, Protocol, Sa, SaDirection, SaId, SaState,
    Selector, Template,
};
use ipnet::{IpNet, Ipv4Net};

/// Everything leads to the same device.
struct OneRoute;

impl Routes for OneRoute {
    fn route(&mut self, _: &RouteQuestion) -> Result<Route, NoRoute> {
        Ok(Route {
            device: 2,
            source: None,
            gateway: None,
            table: 254,
            mtu: None,
            local: false,
        })
    }
}

/// Numbers from a seed: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn address(&mut self) -> IpAddr {
        Ipv4Addr::new(10, self.below(2) as u8, 0, self.below(3) as u8).into()
    }

    fn prefix(&mut self) -> IpNet {
        let IpAddr::V4(address) = self.address() else {
            unreachable!("addresses here are IPv4");
        };
        IpNet::V4(Ipv4Net::new(address, self.one_of(&[0, 8, 24, 32])).unwrap())
    }

    fn mark(&mut self) -> Mark {
        let mask = self.one_of(&[0, 0, 1, 3]);
        let value = self.below(4) as u32 & mask;
        Mark { value, mask }
    }

    fn mode(&mut self) -> Mode {
        self.one_of(&[Mode::Tunnel, Mode::Tunnel, Mode::Transport])
    }

    fn policy(&mut self) -> Policy {
        let mut selector = Selector::new(self.prefix(), self.prefix());
        selector.protocol = self.one_of(&[0, 0, 17]);
        let direction = self.one_of(&Direction::ALL);
        let mut policy = Policy::new(PolicyKey {
            policy_type: self.one_of(&[PolicyType::Main, PolicyType::Main, PolicyType::Sub]),
            mark: self.mark(),
            if_id: self.one_of(&[0, 0, 7]),
            ..PolicyKey::new(direction, selector)
        });
        policy.priority = self.below(3) as u32;
        policy.action = self.one_of(&[Action::Allow, Action::Allow, Action::Block]);
        for _ in 0..self.one_of(&[0, 1, 1, 2]) {
            let mode = self.mode();
            policy.templates.push(Template {
                src: Ipv4Addr::new(192, 0, 2, 1 + self.below(2) as u8).into(),
                dst: Ipv4Addr::new(192, 0, 2, 1 + self.below(2) as u8).into(),
                spi: self.one_of(&[0, 0, 0, 9]),
                protocol: Protocol::Esp,
                reqid: self.below(2) as u32,
                mode,
                optional: mode == Mode::Transport && self.below(4) == 0,
            });
        }
        policy
    }

    fn sa(&mut self) -> (Sa, SaState) {
        let mode = self.mode();
        let address = |random: &mut Self| -> IpAddr {
            if mode == Mode::Tunnel {
                Ipv4Addr::new(192, 0, 2, 1 + random.below(2) as u8).into()
            } else {
                random.address()
            }
        };
        let id = SaId {
            dst: address(self),
            spi: 1 + self.below(20) as u32,
            protocol: Protocol::Esp,
            mark: self.mark(),
        };
        let direction = self.one_of(&[SaDirection::In, SaDirection::Out, SaDirection::Out]);
        let mut sa = Sa::new(id, address(self), direction, mode, self.below(2) as u32);
        sa.if_id = self.one_of(&[0, 0, 7]);
        sa.encryption = Some(CipherKey {
            transform: 20,
            key: KeyMaterial::default(),
        });
        if self.below(4) == 0 {
            sa.selector = Some(Selector::new(self.prefix(), self.prefix()));
        }
        let state = self.one_of(&[
            SaState::Valid,
            SaState::Valid,
            SaState::Valid,
            SaState::Larval,
            SaState::Expired,
        ]);
        (sa, state)
    }
}

#[test]
fn the_fate_is_the_models() {
    let mut random = Random(0x5eed);
    let mut seen = [[0_u32; 4]; 2];
    for case in 0..4000 {
        let mut databases = Databases::new();
        for _ in 0..random.below(6) {
            // Two of one key: the second is refused.
            let _ = databases.insert_policy(&random.policy(), false);
        }
        for _ in 0..random.below(5) {
            let (sa, state) = random.sa();
            databases.adopt_sa(Instant::now(), sa, state);
        }
        for direction in Direction::ALL {
            databases.set_default(
                direction,
                random.one_of(&[Action::Allow, Action::Allow, Action::Block]),
            );
        }
        let device = Device {
            index: 2,
            name: "eth0".to_owned(),
            kind: DeviceKind::Plain,
            up: true,
            mtu: 1500,
            disable_xfrm: random.below(8) == 0,
            disable_policy: random.below(8) == 0,
            rp_filter: 0,
        };
        let question = Question {
            protocol: random.one_of(&[6, 17]),
            mark: random.below(4) as u32,
            device: Some(2),
            ..Question::new(
                random.one_of(&Direction::ALL),
                Some(random.address()),
                random.address(),
            )
        };
        let explanation = Machine {
            devices: vec![device.clone()],
            databases: databases.clone(),
            routes: &mut OneRoute,
        }
        .explain(&question);
        let mut flow =
            cygnet_ipsec::Flow::new(question.src.unwrap(), question.dst, question.protocol);
        flow.mark = question.mark;
        let verdict = &explanation.verdict;
        if question.direction == Direction::Out {
            flow.ifindex = 2;
            let packet = OutboundPacket {
                disable_xfrm: device.disable_xfrm,
                ..OutboundPacket::new(&flow)
            };
            let (fate, counters) = match databases.output(&packet).verdict {
                Outbound::Clear { .. } => (Fate::Clear, &[][..]),
                Outbound::Protect { .. } => (Fate::Protected, &[][..]),
                Outbound::Drop(drop) => (Fate::Dropped, drop.counters()),
            };
            let counters: Vec<_> = counters.iter().map(|c| c.name()).collect();
            assert_eq!(
                (verdict.fate, &verdict.counters),
                (fate, &counters),
                "case {case}\n{explanation}"
            );
            seen[0][fate as usize % 4] += 1;
        } else {
            flow.ifindex = if question.direction == Direction::Fwd {
                2
            } else {
                1
            };
            let clear = InboundPacket {
                disable_policy: device.disable_policy,
                ..InboundPacket::clear(&flow)
            };
            match (databases.check(question.direction, &clear), verdict.fate) {
                // In clear it passes, or it does so out of some SA.
                (Inbound::Accept { .. }, Fate::Clear | Fate::Accepted) => {}
                (Inbound::Drop(_), Fate::Accepted) => {}
                (Inbound::Drop(counter), Fate::Dropped) => {
                    assert_eq!(
                        verdict.counters,
                        [counter.name()],
                        "case {case}\n{explanation}"
                    );
                }
                (model, _) => panic!("case {case}: {model:?}\n{explanation}"),
            }
            seen[1][verdict.fate as usize % 4] += 1;
        }
    }
    // Protected and dropped, clear, accepted and dropped: each often enough to mean something.
    assert!(
        seen[0][0] > 50 && seen[0][1] > 50 && seen[1][1] > 50 && seen[1][2] > 50,
        "{seen:?}"
    );
}
