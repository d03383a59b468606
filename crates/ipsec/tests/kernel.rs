//! The reference lookups against the kernel that the tests run on: random policies, real packets.
//!
//! Three namespaces in a row, `host` — `gateway` — `server`. The host sends UDP with random addresses, ports and marks
//! past its own `out` policies to the gateway (`in` policies) or through it (`fwd` and `out` policies). For each packet
//! the model says whether the sender sees an error, where the packet arrives, which counters of
//! `/proc/net/xfrm_stat` move in which namespace, and which ACQUIRE is heard. Needs root and `ip`, no ESP.
//!
//! `CYGNET_SEED` chooses other cases.

#[path = "kernel/cases.rs"]
mod cases;
#[path = "kernel/netlink.rs"]
mod netlink;
#[path = "kernel/netns.rs"]
mod netns;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use cases::{GATEWAY, HOST, PORTS, Random, SERVER, SOURCE_PORTS};
use cygnet_ipsec::reference::Databases;
use cygnet_ipsec::{
    Action, AllocateSpi, Command, CommandError, Counter, Counters, Direction, Flow, Inbound,
    InboundPacket, Mark, Mode, Outbound, OutboundDrop, OutboundPacket, Policy, PolicyKey,
    PolicyType, Protocol, Reply, Selector,
};
use netlink::{Xfrm, selector_bytes};
use netns::Namespace;

const LOOPBACK: u32 = 1;

/// A namespace with the model of its databases.
struct Node {
    namespace: Namespace,
    model: Databases,
    before: Counters,
    expected: Counters,
}

impl Node {
    fn new() -> Node {
        let namespace = Namespace::new().expect("a network namespace");
        let (before, expected) = (Counters::new(), Counters::new());
        Node {
            namespace,
            model: Databases::new(),
            before,
            expected,
        }
    }

    /// Empties both databases.
    fn reset(&mut self) {
        self.model.flush_policies();
        self.model.flush_sas();
        for direction in Direction::ALL {
            self.model.set_default(direction, Action::Allow);
        }
        self.namespace.run(|| {
            let xfrm = Xfrm::open();
            xfrm.flush();
            xfrm.set_defaults(Action::Allow, Action::Allow, Action::Allow);
        });
    }

    fn install(&mut self, policies: Vec<Policy>) {
        let errors = self.namespace.run({
            let policies = policies.clone();
            move || {
                let xfrm = Xfrm::open();
                policies
                    .iter()
                    .map(|policy| xfrm.install_policy(policy))
                    .collect::<Vec<i32>>()
            }
        });
        for (policy, errno) in policies.into_iter().zip(errors) {
            let result = self.model.insert_policy(&policy, false).map(|_| ());
            assert_eq!(errno_of(&result), errno, "{policy:?}");
        }
    }

    fn set_default(&mut self, direction: Direction, action: Action) {
        self.model.set_default(direction, action);
        let default = move |of| {
            if of == direction {
                action
            } else {
                Action::Allow
            }
        };
        self.namespace.run(move || {
            let (input, forward) = (default(Direction::In), default(Direction::Fwd));
            Xfrm::open().set_defaults(input, forward, default(Direction::Out));
        });
    }

    fn begin(&mut self) {
        self.before = self.namespace.counters();
        self.expected = self.before;
    }

    fn expect(&mut self, counters: &[Counter]) {
        for counter in counters {
            self.expected.increment(*counter);
        }
    }

    /// Waits for the counters expected; says what they are instead after a while.
    fn settle(&self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_millis(500);
        loop {
            let now = self.namespace.counters();
            if now == self.expected {
                return Ok(());
            }
            if Instant::now() > deadline {
                let (before, expected) = (self.before, self.expected);
                return Err(format!(
                    "counters: {before:?} then {now:?}, expected {expected:?}"
                ));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn errno_of<T>(result: &Result<T, CommandError>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(CommandError::Exists) => libc::EEXIST,
        Err(CommandError::NotFound) => libc::ENOENT,
        Err(CommandError::OutOfResources) => libc::ENOENT,
        Err(_) => libc::EINVAL,
    }
}

fn three_nodes() -> (Node, Node, Node) {
    let (host, gateway, server) = (Node::new(), Node::new(), Node::new());
    for node in [&host, &gateway, &server] {
        // No address of its own, no IPv6 chatter, no filter but the policies.
        node.namespace
            .sysctl("ipv6/conf/default/addr_gen_mode", "1");
        node.namespace.sysctl("ipv6/conf/default/accept_ra", "0");
        node.namespace.sysctl("ipv4/conf/all/rp_filter", "0");
        node.namespace.sysctl("ipv4/conf/default/rp_filter", "0");
    }
    gateway.namespace.sysctl("ipv4/ip_forward", "1");
    gateway.namespace.sysctl("ipv6/conf/all/forwarding", "1");
    let link = |from: &Node, name: &str, to: &Node, peer: &str| {
        let (mac, peer_mac) = ("02:00:00:00:00:01", "02:00:00:00:00:02");
        from.namespace.ip(&format!(
            "link add {name} address {mac} type veth peer name {peer} address {peer_mac} netns {}",
            to.namespace.tid
        ));
        from.namespace.ip(&format!("link set {name} up"));
        to.namespace.ip(&format!("link set {peer} up"));
    };
    link(&host, "right", &gateway, "left");
    link(&gateway, "right", &server, "left");
    let addresses = |node: &Node, device: &str, addresses: &[&str]| {
        for address in addresses {
            let (bits, nodad) = if address.contains(':') {
                (64, "nodad")
            } else {
                (24, "")
            };
            node.namespace
                .ip(&format!("addr add {address}/{bits} dev {device} {nodad}"));
        }
    };
    addresses(&host, "right", &HOST);
    addresses(&gateway, "left", &GATEWAY);
    addresses(&gateway, "right", &["10.9.1.254", "2001:db8:a::fe"]);
    addresses(&server, "left", &SERVER);
    let neighbours = |node: &Node, device: &str, hosts: &[&str], mac: &str| {
        for host in hosts {
            node.namespace
                .ip(&format!("neigh add {host} lladdr {mac} dev {device}"));
        }
    };
    neighbours(&host, "right", &GATEWAY, "02:00:00:00:00:02");
    neighbours(&gateway, "right", &SERVER, "02:00:00:00:00:02");
    host.namespace.ip("route add 10.9.1.0/24 via 10.9.0.101");
    host.namespace
        .ip("route add 2001:db8:a::/64 via 2001:db8:9::101");
    (host, gateway, server)
}

/// Sockets for all ports, of both families.
fn receivers(node: &Node) -> Vec<UdpSocket> {
    node.namespace.run(|| {
        let bind = |port| {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).expect("a free port");
            socket.set_nonblocking(true).expect("a socket");
            socket
        };
        PORTS.into_iter().map(bind).collect()
    })
}

/// The datagram of that number, if it comes.
fn arrives(sockets: &[UdpSocket], number: u64, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        for socket in sockets {
            let mut buffer = [0; 8];
            if let Ok(len) = socket.recv(&mut buffer) {
                assert_eq!(
                    (len, u64::from_be_bytes(buffer)),
                    (8, number),
                    "an earlier datagram"
                );
                return true;
            }
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the way is open: links take their time to come up.
fn warm_up(host: &Node, sockets: &[UdpSocket], to: [&str; 4]) {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    for (src, dst) in HOST.into_iter().zip(to) {
        let flow = Flow {
            sport: 1999,
            dport: PORTS[0],
            ..Flow::new(address(src), address(dst), 17)
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while send(host, flow, 0).is_err() || !arrives(sockets, 0, Duration::from_millis(50)) {
            assert!(Instant::now() < deadline, "no way from {src} to {dst}");
        }
        // Others of these may still be on their way.
        while arrives(sockets, 0, Duration::from_millis(20)) {}
    }
}

fn send(node: &Node, flow: Flow, number: u64) -> io::Result<()> {
    node.namespace.run(move || {
        let socket = UdpSocket::bind(SocketAddr::new(flow.src, flow.sport))?;
        // SAFETY: the option's value is an int that lives through the call.
        let result = unsafe {
            let mark = (&raw const flow.mark).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MARK, mark, 4)
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        socket
            .send_to(&number.to_be_bytes(), SocketAddr::new(flow.dst, flow.dport))
            .map(|_| ())
    })
}

/// K1 to K3, K5, K9, K10, K13 on some thousand packets.
#[test]
fn packets_fare_as_the_reference_says() {
    if !netns::available() {
        return;
    }
    let mut random = Random::new(0);
    let (mut host, mut gateway, server) = three_nodes();
    let gateway_sockets = receivers(&gateway);
    let server_sockets = receivers(&server);
    let listener = host.namespace.run(|| {
        let xfrm = Xfrm::open();
        xfrm.listen();
        xfrm
    });
    let host_device = host.namespace.ifindex("right");
    let (left, right) = (
        gateway.namespace.ifindex("left"),
        gateway.namespace.ifindex("right"),
    );
    warm_up(&host, &gateway_sockets, GATEWAY);
    warm_up(&host, &server_sockets, SERVER);
    let mut outcomes = std::collections::BTreeMap::<String, u32>::new();

    for number in 1..=1200u64 {
        if number % 8 == 1 {
            host.reset();
            gateway.reset();
            listener.acquires();
            let mut policies: Vec<Policy> = Vec::new();
            for _ in 0..random.next() % 8 {
                let mut policy = random.policy(Direction::Out, &[0, 0, 0, host_device, left + 40]);
                let v4 = policy.key.selector.src.addr().is_ipv4();
                let count = random.pick(&[0, 0, 0, 1, 1, 2, 5, 6]);
                policy.templates = (0..count).map(|_| random.template(v4)).collect();
                policies.push(policy);
            }
            host.install(policies);
            let mut policies = Vec::new();
            for _ in 0..4 + random.next() % 8 {
                let direction = random.pick(&[Direction::In, Direction::In, Direction::Fwd]);
                let mut policy = random.policy(direction, &[0, 0, 0, 0, LOOPBACK, left, right]);
                let v4 = policy.key.selector.src.addr().is_ipv4();
                let count = random.pick(&[0, 0, 0, 0, 1, 1, 2, 6]);
                policy.templates = (0..count).map(|_| random.template(v4)).collect();
                policies.push(policy);
            }
            for _ in 0..random.next() % 3 {
                policies.push(random.policy(Direction::Out, &[0, 0, right, left]));
            }
            gateway.install(policies);
            if random.one_in(9) {
                host.set_default(Direction::Out, Action::Block);
            }
            if random.one_in(3) {
                let direction = random.pick(&[Direction::In, Direction::Fwd, Direction::Out]);
                gateway.set_default(direction, Action::Block);
            }
        }

        let forwarded = random.one_in(2);
        let place = random.next() as usize % 4;
        let family = place & 2;
        let to = if forwarded { SERVER } else { GATEWAY };
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let src = address(HOST[family | (random.next() as usize & 1)]);
        let dst = address(to[place]);
        let flow = Flow {
            sport: random.pick(&SOURCE_PORTS),
            dport: random.pick(&PORTS),
            mark: random.pick(&[0, 1, 2, 3]),
            // IPv6 asks the policies before it knows the device.
            ifindex: if src.is_ipv4() { host_device } else { 0 },
            ..Flow::new(src, dst, 17)
        };

        // What the model says.
        host.begin();
        gateway.begin();
        let resolution = host.model.output(&OutboundPacket::new(&flow));
        let mut error = 0;
        let mut wanted = Vec::new();
        let mut leaves = true;
        let mut outcome = format!("host {}", kind(&resolution.verdict));
        if let Outbound::Drop(drop) = resolution.verdict {
            leaves = false;
            host.expect(drop.counters());
            error = match drop {
                OutboundDrop::Blocked { .. } | OutboundDrop::Default => libc::EPERM,
                OutboundDrop::TooManyTemplates => libc::ENOBUFS,
                // The datagram goes into a black hole.
                OutboundDrop::NoState { .. } => 0,
                other => panic!("{other:?} cannot be"),
            };
        }
        for missing in &resolution.missing {
            wanted.extend(host.model.begin_acquire(Instant::now(), missing));
        }
        let mut reaches_gateway = false;
        let mut reaches_server = false;
        if leaves {
            let direction = if forwarded {
                Direction::Fwd
            } else {
                Direction::In
            };
            // The device of the route: the next one, or loopback for what is delivered here. Marks stay behind.
            let ifindex = if forwarded { right } else { LOOPBACK };
            let flow = Flow {
                mark: 0,
                ifindex,
                ..flow
            };
            let verdict = gateway.model.check(direction, &InboundPacket::clear(&flow));
            outcome = format!(
                "{direction:?} {}",
                match verdict {
                    Inbound::Accept { policy: None, .. } => "no policy",
                    Inbound::Accept { .. } => "accepted",
                    Inbound::Drop(counter) => counter.name(),
                }
            );
            match verdict {
                Inbound::Drop(counter) => gateway.expect(&[counter]),
                Inbound::Accept { .. } if !forwarded => reaches_gateway = true,
                Inbound::Accept { .. } => {
                    let resolution = gateway.model.output(&OutboundPacket::new(&flow));
                    outcome = format!("forwarded {}", kind(&resolution.verdict));
                    match resolution.verdict {
                        Outbound::Drop(drop) => gateway.expect(drop.counters()),
                        _ => reaches_server = true,
                    }
                }
            }
        }
        *outcomes.entry(outcome).or_default() += 1;

        // What the kernel does.
        let sent = send(&host, flow, number);
        let case = format!(
            "packet {number}: {flow:?}, {resolution:?}\nhost {:?}\ngateway {:?}",
            host.model.policies().collect::<Vec<_>>(),
            gateway.model.policies().collect::<Vec<_>>()
        );
        match &sent {
            Ok(()) => assert_eq!(error, 0, "{case}"),
            Err(e) if e.kind() == ErrorKind::AddrInUse => panic!("{e}"),
            Err(e) => assert_eq!(e.raw_os_error(), Some(error), "{e}: {case}"),
        }
        let patience = |wanted| Duration::from_millis(if wanted { 500 } else { 0 });
        let settled = host.settle().and_then(|()| gateway.settle());
        settled.unwrap_or_else(|e| panic!("{e}\n{case}"));
        let at_gateway = arrives(&gateway_sockets, number, patience(reaches_gateway));
        assert_eq!(
            at_gateway, reaches_gateway,
            "arrival at the gateway, {case}"
        );
        let at_server = arrives(&server_sockets, number, patience(reaches_server));
        assert_eq!(at_server, reaches_server, "arrival at the server, {case}");

        let heard = listener.acquires();
        assert_eq!(
            heard.len(),
            wanted.len(),
            "{heard:?}, expected {wanted:?}, {case}"
        );
        for (heard, wanted) in heard.iter().zip(&wanted) {
            assert_eq!((heard.src, heard.dst), (wanted.src, wanted.dst), "{case}");
            assert_eq!(heard.protocol, wanted.template.protocol.number(), "{case}");
            let policy = (
                wanted.policy_index,
                policy_priority(&host, wanted.policy_index),
            );
            assert_eq!((heard.policy_index, heard.priority), policy, "{case}");
            assert_eq!(heard.selector, selector_bytes(&wanted.selector), "{case}");

            // Answer some of them, or nearly: the larval state takes the SPI, or a new one does.
            if random.one_in(3) {
                continue;
            }
            let mut request = AllocateSpi {
                src: wanted.src,
                dst: wanted.dst,
                protocol: wanted.template.protocol,
                mode: wanted.template.mode,
                reqid: wanted.template.reqid,
                if_id: wanted.if_id,
                mark: wanted.mark,
                min: 0x1000 + random.next() % 8,
                max: 0,
                acquire_seq: 0,
            };
            request.max = request.min;
            match random.next() % 8 {
                0 => request.reqid ^= 1,
                1 => request.if_id ^= 7,
                2 => request.mark = Mark::exact(2),
                3 => std::mem::swap(&mut request.src, &mut request.dst),
                _ => {}
            }
            // Both count their ACQUIREs, but the kernel for all namespaces.
            let by_seq = random.one_in(2);
            let seq = |seq| if by_seq { seq } else { 0 };
            let to_kernel = AllocateSpi {
                acquire_seq: seq(heard.seq),
                ..request
            };
            let (answer, sas) = host.namespace.run(move || {
                let xfrm = Xfrm::open();
                (xfrm.allocate_spi(&to_kernel), xfrm.count_sas())
            });
            request.acquire_seq = seq(wanted.seq);
            let result = host.model.allocate_spi(Instant::now(), &mut || 0, &request);
            let expected = result.as_ref().map_err(|_| errno_of(&result)).copied();
            assert_eq!(answer, expected, "{request:?} after {wanted:?}, {case}");
            let states = host.model.states().count();
            assert_eq!(sas as usize, states, "{request:?} after {wanted:?}, {case}");
        }
    }
    println!("{outcomes:#?}");
    for outcome in [
        "host Drop(Blocked)",
        "host Drop(Default)",
        "host Drop(NoState)",
        "host Drop(TooManyTemplates)",
        "In accepted",
        "In XfrmInPolBlock",
        "In XfrmInNoPols",
        "In XfrmInTmplMismatch",
        "Fwd XfrmInPolBlock",
        "Fwd XfrmInTmplMismatch",
        "forwarded Drop(Blocked)",
        "forwarded Clear",
    ] {
        assert!(
            outcomes.contains_key(outcome),
            "no packet met {outcome:?}: {outcomes:#?}"
        );
    }
}

/// K9, as tried here: if a sub policy lets a forwarded packet pass, the main table is asked for an `in` policy, and
/// `fwd` policies there are not looked at.
#[test]
fn behind_a_sub_policy_forwarded_packets_meet_in_policies() {
    if !netns::available() {
        return;
    }
    let (host, mut gateway, server) = three_nodes();
    let sockets = receivers(&server);
    warm_up(&host, &sockets, SERVER);
    let everything = Selector::any(cygnet_ipsec::Family::V4);
    let policy = |policy_type, direction, action| {
        let key = PolicyKey {
            policy_type,
            ..PolicyKey::new(direction, everything)
        };
        Policy {
            action,
            ..Policy::new(key)
        }
    };
    let sub = policy(PolicyType::Sub, Direction::Fwd, Action::Allow);
    let src = HOST[0].parse().expect("an address");
    let dst = SERVER[0].parse().expect("an address");
    let flow = Flow {
        sport: 2000,
        dport: PORTS[0],
        ..Flow::new(src, dst, 17)
    };
    for (number, direction, passes) in [(1, Direction::In, false), (2, Direction::Fwd, true)] {
        gateway.reset();
        gateway.install(vec![
            sub.clone(),
            policy(PolicyType::Main, direction, Action::Block),
        ]);
        gateway.begin();
        match gateway
            .model
            .check(Direction::Fwd, &InboundPacket::clear(&flow))
        {
            Inbound::Accept { .. } => assert!(passes),
            Inbound::Drop(counter) => {
                assert_eq!((counter, passes), (Counter::InPolBlock, false));
                gateway.expect(&[counter]);
            }
        }
        send(&host, flow, number).expect("a way to the gateway");
        gateway.settle().unwrap_or_else(|e| panic!("{e}"));
        let patience = Duration::from_millis(if passes { 500 } else { 20 });
        assert_eq!(
            arrives(&sockets, number, patience),
            passes,
            "main {direction:?} block"
        );
    }
}

fn policy_priority(node: &Node, index: u32) -> u32 {
    let policy = node.model.policies().find(|p| p.policy.index == index);
    policy
        .expect("an ACQUIRE names a policy that is there")
        .policy
        .priority
}

/// A verdict without its particulars.
fn kind<H: Copy + std::fmt::Debug>(verdict: &Outbound<H>) -> &'static str {
    match verdict {
        Outbound::Clear { .. } => "Clear",
        Outbound::Protect { .. } => "Protect",
        Outbound::Drop(OutboundDrop::Blocked { .. }) => "Drop(Blocked)",
        Outbound::Drop(OutboundDrop::Default) => "Drop(Default)",
        Outbound::Drop(OutboundDrop::NoState { .. }) => "Drop(NoState)",
        Outbound::Drop(OutboundDrop::TooManyTemplates) => "Drop(TooManyTemplates)",
        Outbound::Drop(_) => "Drop(other)",
    }
}

/// K1: random commands to the policy store, their errors, and what is then there.
#[test]
fn policies_are_stored_as_the_reference_says() {
    if !netns::available() {
        return;
    }
    let mut random = Random::new(1);
    let mut node = Node::new();
    node.reset();
    let mut known: Vec<Policy> = Vec::new();
    let mut commands = Vec::new();
    for _ in 0..600 {
        let mut policy = if known.is_empty() || random.one_in(3) {
            let direction = random.pick(&Direction::ALL);
            random.policy(direction, &[0, 0, 1])
        } else {
            random.pick(&known)
        };
        if random.one_in(4) {
            policy.priority = random.next() % 4;
        }
        if random.one_in(6) {
            // A mark that differs only where its mask hides it, or in the mask, or really.
            policy.key.mark = random.pick(&[
                Mark { value: 3, mask: 1 },
                Mark { value: 1, mask: 1 },
                Mark { value: 1, mask: 3 },
                Mark { value: 5, mask: 0 },
            ]);
        }
        if random.one_in(8) {
            policy.index = random.next() % 48;
        }
        if random.one_in(4) {
            let same = !random.next().is_multiple_of(8);
            let v4 = policy.key.selector.src.addr().is_ipv4() == same;
            let count = random.pick(&[0, 1, 2, 6, 7]);
            policy.templates = (0..count).map(|_| random.template(v4)).collect();
            if random.one_in(4) {
                policy.templates.iter_mut().for_each(|t| t.optional = true);
            }
        }
        known.push(policy.clone());
        let key = policy.key;
        commands.push(match random.next() % 8 {
            0..3 => Command::InstallPolicy(Box::new(policy)),
            3 | 4 => Command::UpdatePolicy(Box::new(policy)),
            5 => Command::RemovePolicy(key),
            _ => Command::QueryPolicy(key),
        });
    }
    let answers = node.namespace.run({
        let commands = commands.clone();
        move || {
            let xfrm = Xfrm::open();
            let execute = |command: &Command| match command {
                Command::InstallPolicy(policy) => (xfrm.install_policy(policy), None),
                Command::UpdatePolicy(policy) => (xfrm.update_policy(policy), None),
                Command::RemovePolicy(key) => (xfrm.remove_policy(key), None),
                Command::QueryPolicy(key) => match xfrm.query_policy(key) {
                    Ok(found) => (0, Some(found)),
                    Err(errno) => (errno, None),
                },
                _ => unreachable!("only policy commands are made"),
            };
            commands.iter().map(execute).collect::<Vec<_>>()
        }
    });
    for (command, (errno, found)) in commands.iter().zip(answers) {
        let result = node.model.execute(Instant::now(), &mut || 0, command);
        assert_eq!(errno_of(&result), errno, "{command:?}: {result:?}");
        if let Ok(Reply::Policy(report)) = result {
            let model = (report.policy.index, report.policy.priority);
            assert_eq!(Some(model), found, "{command:?}");
        }
    }
}

/// K13, K14: which larval state an SPI goes to, and when one is refused.
#[test]
fn spis_are_allocated_as_the_reference_says() {
    if !netns::available() {
        return;
    }
    let mut random = Random::new(2);
    let mut node = Node::new();
    node.reset();
    let mut requests = Vec::new();
    for _ in 0..400 {
        let v4 = random.one_in(2);
        let of = |hosts: &[&str; 4], n: usize| {
            hosts[if v4 { n } else { n + 2 }]
                .parse()
                .expect("an address")
        };
        let spi = 0x100 + random.next() % 24;
        requests.push(AllocateSpi {
            src: of(&HOST, random.next() as usize % 2),
            dst: of(&GATEWAY, random.next() as usize % 2),
            protocol: random.pick(&[Protocol::Esp, Protocol::Esp, Protocol::Ah]),
            mode: random.pick(&[Mode::Tunnel, Mode::Transport]),
            reqid: random.next() % 2,
            if_id: random.pick(&[0, 0, 1]),
            mark: random.pick(&[Mark::ANY, Mark::exact(1)]),
            min: spi,
            // One SPI only, so that chance has no part in it.
            max: if random.one_in(20) { spi - 1 } else { spi },
            acquire_seq: random.pick(&[0, 0, 1, 2, 3]),
        });
    }
    let answers = node.namespace.run({
        let requests = requests.clone();
        move || {
            let xfrm = Xfrm::open();
            requests
                .iter()
                .map(|request| xfrm.allocate_spi(request))
                .collect::<Vec<_>>()
        }
    });
    for (request, answer) in requests.iter().zip(answers) {
        let result = node.model.allocate_spi(Instant::now(), &mut || 0, request);
        let expected = result.as_ref().map_err(|_| errno_of(&result)).copied();
        assert_eq!(answer, expected, "{request:?}");
    }
}
