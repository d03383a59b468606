//! Random policies for the hosts of these tests.

use std::net::IpAddr;

use cygnet_ipsec::{
    Action, Direction, Mark, Mode, Policy, PolicyKey, PolicyType, PortMatch, Protocol, Selector,
    Template,
};
use ipnet::IpNet;

/// Chosen with care: the kernel's second search for an SA, the one for an open source (K5), goes through one chain of
/// a hash table and does not compare sources. A state with another source that happens to be in that chain is taken.
/// With 8 chains that is common; with these addresses it does not happen. The model knows no hash tables.
pub const HOST: [&str; 4] = ["10.9.0.2", "10.9.0.3", "2001:db8:9::2", "2001:db8:9::3"];
pub const GATEWAY: [&str; 4] = [
    "10.9.0.101",
    "10.9.0.102",
    "2001:db8:9::101",
    "2001:db8:9::102",
];
pub const SERVER: [&str; 4] = ["10.9.1.1", "10.9.1.2", "2001:db8:a::1", "2001:db8:a::2"];
pub const SOURCE_PORTS: [u16; 3] = [2000, 2001, 2064];
pub const PORTS: [u16; 3] = [5000, 5001, 5064];

/// A small generator (xorshift64*), so that a seed is all it takes to see a case again.
pub struct Random(u64);

impl Random {
    pub fn new(offset: u64) -> Random {
        let seed = std::env::var("CYGNET_SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(1);
        println!("CYGNET_SEED={seed}");
        Random(u64::wrapping_add(seed, offset).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    pub fn one_in(&mut self, n: u32) -> bool {
        self.next().is_multiple_of(n)
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.next() as usize % from.len()].clone()
    }

    fn prefix(&mut self, hosts: &[&str], v4: bool) -> IpNet {
        let half = hosts.len() / 2;
        let hosts = if v4 { &hosts[..half] } else { &hosts[half..] };
        // IPv6 prefixes leave out what the kernel sends of itself, such as ff02::16.
        let lengths: &[u8] = if v4 {
            &[0, 16, 24, 31, 32]
        } else {
            &[32, 48, 64, 127, 128]
        };
        let prefix = format!("{}/{}", self.pick(hosts), self.pick(lengths));
        prefix.parse().expect("a prefix")
    }

    fn port(&mut self, ports: &[u16]) -> PortMatch {
        let mask = self.pick(&[0, 0, 0, 0, 0, u16::MAX, 0xfffe, 0xffc0]);
        PortMatch {
            port: self.pick(ports),
            mask,
        }
    }

    pub fn policy(&mut self, direction: Direction, ifindexes: &[u32]) -> Policy {
        let v4 = self.one_in(2);
        let to: Vec<&str> = match direction {
            Direction::In => GATEWAY.to_vec(),
            Direction::Fwd => SERVER.to_vec(),
            // The first half must be IPv4.
            Direction::Out => [&GATEWAY[..2], &SERVER[..2], &GATEWAY[2..], &SERVER[2..]].concat(),
        };
        let selector = Selector {
            protocol: self.pick(&[0, 0, 0, 17, 17, 6]),
            sport: self.port(&SOURCE_PORTS),
            dport: self.port(&PORTS),
            ifindex: self.pick(ifindexes),
            ..Selector::new(self.prefix(&HOST, v4), self.prefix(&to, v4))
        };
        let marks = [
            Mark::ANY,
            Mark::ANY,
            Mark::ANY,
            Mark::ANY,
            Mark { value: 3, mask: 1 },
            Mark::exact(2),
            Mark::exact(0),
        ];
        let key = PolicyKey {
            policy_type: if self.one_in(6) {
                PolicyType::Sub
            } else {
                PolicyType::Main
            },
            mark: self.pick(&marks),
            if_id: self.pick(&[0, 0, 0, 0, 0, 7]),
            ..PolicyKey::new(direction, selector)
        };
        let action = if self.one_in(3) {
            Action::Block
        } else {
            Action::Allow
        };
        Policy {
            priority: self.next() % 3,
            action,
            ..Policy::new(key)
        }
    }

    pub fn template(&mut self, v4: bool) -> Template {
        let of = |hosts: [&str; 4]| hosts[if v4 { 0 } else { 2 }].parse().expect("an address");
        let any: IpAddr = if v4 { [0; 4].into() } else { [0; 16].into() };
        let mode = self.pick(&[Mode::Transport, Mode::Tunnel]);
        let optional = mode == Mode::Transport && self.one_in(4);
        let (src, dst) = match mode {
            Mode::Tunnel => (of(HOST), of(GATEWAY)),
            _ => (any, any),
        };
        let protocol = self.pick(&[Protocol::Esp, Protocol::Ah]);
        Template {
            src,
            dst,
            spi: 0,
            protocol,
            reqid: self.next() % 2,
            mode,
            optional,
        }
    }
}
