//! The demo's network: alice - west - router - east - bob.

use std::io::Write as _;
use std::process::{Command, Stdio};

const HOSTS: [&str; 5] = ["alice", "west", "router", "east", "bob"];

/// The namespaces; their names carry this process's number, so that two demos
/// do not meet.
pub(super) struct Topology {
    prefix: String,
}

/// One veth pair: host, device, addresses; twice.
const WIRES: [[(&str, &str, &[&str]); 2]; 4] = [
    [
        ("alice", "lan", &["10.1.0.10/24", "2001:db8:1::10/64"]),
        ("west", "lan", &["10.1.0.1/24", "2001:db8:1::1/64"]),
    ],
    [
        ("west", "wan", &["192.0.2.1/24"]),
        ("router", "to-west", &["192.0.2.254/24"]),
    ],
    [
        ("east", "wan", &["198.51.100.1/24"]),
        ("router", "to-east", &["198.51.100.254/24"]),
    ],
    [
        ("bob", "lan", &["10.2.0.10/24", "2001:db8:2::10/64"]),
        ("east", "lan", &["10.2.0.1/24", "2001:db8:2::1/64"]),
    ],
];

const ROUTES: [(&str, &str); 6] = [
    ("alice", "default via 10.1.0.1"),
    ("alice", "default via 2001:db8:1::1"),
    ("bob", "default via 10.2.0.1"),
    ("bob", "default via 2001:db8:2::1"),
    ("west", "default via 192.0.2.254"),
    ("east", "default via 198.51.100.254"),
];

impl Topology {
    /// Makes it; what was made of a network that could not be finished is removed.
    pub(super) fn build() -> Result<Self, String> {
        let net = Self {
            prefix: format!("cygdemo{}", std::process::id()),
        };
        match net.make() {
            Ok(()) => Ok(net),
            Err(text) => {
                net.remove();
                Err(text)
            }
        }
    }

    /// The namespace of a host.
    pub(super) fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    fn make(&self) -> Result<(), String> {
        let mut batch = String::new();
        for host in HOSTS {
            batch += &format!("netns add {}\n", self.name(host));
        }
        for [(host_a, dev_a, _), (host_b, dev_b, _)] in WIRES {
            let (a, b) = (self.name(host_a), self.name(host_b));
            batch += &format!("link add {dev_a} netns {a} type veth peer name {dev_b} netns {b}\n");
        }
        ip(&["-batch", "-"], &batch)?;
        for host in HOSTS {
            // Without duplicate address detection every address is usable at once.
            let script = "for d in /proc/sys/net/ipv6/conf/*; do echo 0 > $d/accept_dad; done";
            ip(&["netns", "exec", &self.name(host), "sh", "-c", script], "")?;
            let mut batch = "link set lo up\n".to_owned();
            for (_, device, addresses) in WIRES.iter().flatten().filter(|(h, ..)| *h == host) {
                for address in *addresses {
                    batch += &format!("addr add {address} dev {device}\n");
                }
                batch += &format!("link set {device} up\n");
            }
            for (_, route) in ROUTES.iter().filter(|(h, _)| *h == host) {
                batch += &format!("route add {route}\n");
            }
            ip(&["-n", &self.name(host), "-batch", "-"], &batch)?;
        }
        for host in ["west", "router", "east"] {
            for setting in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
                let path = format!("/proc/sys/{}", setting.replace('.', "/"));
                let script = format!("echo 1 > {path}");
                ip(
                    &["netns", "exec", &self.name(host), "sh", "-c", &script],
                    "",
                )?;
            }
        }
        Ok(())
    }

    /// Removes the namespaces and with them everything inside.
    pub(super) fn remove(&self) {
        for host in HOSTS {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.name(host)])
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn ip(args: &[&str], input: &str) -> Result<(), String> {
    let mut child = Command::new("ip")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("ip: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.as_bytes())
            .map_err(|e| format!("ip: {e}"))?;
    }
    let output = child.wait_with_output().map_err(|e| format!("ip: {e}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let text = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "making the demo's network failed: ip {}: {}",
            args.join(" "),
            text.trim()
        ))
    }
}
