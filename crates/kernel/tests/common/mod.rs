//! Network namespaces, TUN devices and captures for the tests against the running kernel.
#![allow(dead_code, missing_docs, reason = "each test file uses its part")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Whether tests that need root can run here. Says why not; fails instead when everything is required.
pub fn privileged(test: &str) -> bool {
    let works = rustix::process::geteuid().is_root()
        && Command::new("ip")
            .args(["netns", "list"])
            .output()
            .is_ok_and(|o| o.status.success());
    if !works {
        assert!(
            std::env::var_os("CYGNET_REQUIRE_ALL").is_none_or(|v| v != "1"),
            "{test} needs root and ip(8)"
        );
        eprintln!("skipped {test}: it needs root and ip(8)");
    }
    works
}

/// Runs a command of ip(8) in the calling thread's namespace.
pub fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("ip runs");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A network namespace, deleted when dropped.
pub struct Netns {
    name: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Netns {
    pub fn new(role: &str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cygk-{}-{number}-{role}", std::process::id());
        ip(&format!("netns add {name}"));
        let ns = Self { name };
        ns.run(|| {
            ip("link set lo up");
            for file in [
                "net/ipv6/conf/all/accept_dad",
                "net/ipv6/conf/default/accept_dad",
                "net/ipv6/conf/default/accept_ra",
                // Probes come from protected addresses by the unprotected side on purpose.
                "net/ipv4/conf/all/rp_filter",
                "net/ipv4/conf/default/rp_filter",
            ] {
                std::fs::write(format!("/proc/sys/{file}"), "0").expect(file);
            }
        });
        ns
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into it, for good.
    pub fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.name)).expect("namespace");
        rustix::thread::move_into_link_name_space(
            file.as_fd(),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )
        .expect("setns");
    }

    /// Runs something inside.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter();
                    body()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub fn ip(&self, arguments: &str) {
        self.run(|| ip(arguments));
    }

    /// A UDP socket inside that does not wait.
    pub fn udp(&self, local: SocketAddr) -> UdpSocket {
        self.run(|| {
            let socket = UdpSocket::bind(local).unwrap_or_else(|e| panic!("bind {local}: {e}"));
            socket.set_nonblocking(true).expect("nonblocking");
            socket
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}

/// A veth pair between two namespaces.
pub fn veth(a: &Netns, a_name: &str, b: &Netns, b_name: &str) {
    a.ip(&format!(
        "link add {a_name} type veth peer name {b_name} netns {}",
        b.name()
    ));
    a.ip(&format!("link set {a_name} up"));
    b.ip(&format!("link set {b_name} up"));
}

/// A TUN device without packet information; gone when dropped, as after `kill -9`.
pub struct Tun {
    file: File,
    pub name: String,
}

impl Tun {
    /// Makes one in the calling thread's namespace.
    pub fn new(name: &str) -> Self {
        const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
        const IFF_TUN: libc::c_short = 1;
        const IFF_NO_PI: libc::c_short = 0x1000;
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .expect("/dev/net/tun");
        // SAFETY: all-zero octets are a valid ifreq; the name is shorter than the field.
        unsafe {
            let mut request: libc::ifreq = std::mem::zeroed();
            for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                *to = from as libc::c_char;
            }
            request.ifr_ifru.ifru_flags = IFF_TUN | IFF_NO_PI;
            assert_eq!(
                libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request),
                0,
                "TUNSETIFF: {}",
                io::Error::last_os_error()
            );
        }
        rustix::io::ioctl_fionbio(&file, true).expect("nonblocking");
        Self {
            file,
            name: name.to_owned(),
        }
    }

    /// All packets that the kernel has put into it.
    pub fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let mut buffer = [0; 2048];
        while let Ok(length) = self.file.read(&mut buffer) {
            packets.push(buffer[..length].to_vec());
        }
        packets
    }

    /// Gives the kernel a packet that came through the tunnel.
    pub fn inject(&mut self, packet: &[u8]) {
        self.file.write_all(packet).expect("write to tun");
    }
}

/// Every IP packet on a device, from the moment it is opened.
pub struct Capture(UdpSocket);

impl Capture {
    /// In the calling thread's namespace.
    pub fn open(device: &str) -> Self {
        // SAFETY: plain system calls; the descriptor is fresh and owned by what is made of it. `UdpSocket` is used for
        // its `recv` only, which suits any datagram socket.
        unsafe {
            let fd = libc::socket(
                libc::AF_PACKET,
                libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                i32::from((libc::ETH_P_ALL as u16).to_be()),
            );
            assert!(fd >= 0, "packet socket: {}", io::Error::last_os_error());
            let fd = OwnedFd::from_raw_fd(fd);
            let name = std::ffi::CString::new(device).unwrap();
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            assert_eq!(
                libc::bind(
                    fd.as_raw_fd(),
                    (&raw const address).cast(),
                    std::mem::size_of::<libc::sockaddr_ll>() as u32
                ),
                0
            );
            Self(UdpSocket::from(fd))
        }
    }

    pub fn drain(&self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let mut buffer = [0; 2048];
        while let Ok(length) = self.0.recv(&mut buffer) {
            packets.push(buffer[..length].to_vec());
        }
        packets
    }
}

/// Source and destination of an IP packet.
pub fn ends(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => Some((
            IpAddr::from(*packet.get(12..)?.first_chunk::<4>()?),
            IpAddr::from(*packet.get(16..)?.first_chunk::<4>()?),
        )),
        6 => Some((
            IpAddr::from(*packet.get(8..)?.first_chunk::<16>()?),
            IpAddr::from(*packet.get(24..)?.first_chunk::<16>()?),
        )),
        _ => None,
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|c| u32::from(u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)])))
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A UDP packet of either family.
pub fn udp_packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut udp = Vec::new();
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend(length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let mut addresses = Vec::new();
    for ip in [from.ip(), to.ip()] {
        match ip {
            IpAddr::V4(ip) => addresses.extend(ip.octets()),
            IpAddr::V6(ip) => addresses.extend(ip.octets()),
        }
    }
    let checksum = fold(sum(&addresses) + sum(&udp) + 17 + u32::from(length));
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = Vec::new();
    if from.is_ipv4() {
        packet.extend([0x45, 0]);
        packet.extend((20 + length).to_be_bytes());
        packet.extend([0, 1, 0x40, 0, 64, 17, 0, 0]);
        packet.extend(&addresses);
        let checksum = fold(sum(&packet));
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        packet.extend([0x60, 0, 0, 0]);
        packet.extend(length.to_be_bytes());
        packet.extend([17, 64]);
        packet.extend(&addresses);
    }
    packet.extend(udp);
    packet
}

/// Long enough for packets between namespaces of one machine, also a busy one.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(60));
}
