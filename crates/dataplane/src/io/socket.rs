//! The sockets that carry ESP and AH: UDP sockets shared with IKE (RFC 3948) and raw sockets for the protocols 50 (RFC 4303)
//! and 51 (RFC 4302).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cygnet_esp::AhHeader;
use cygnet_ipsec::Protocol;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

use super::sys::{self, Instruction};
use crate::config::Exempt;

/// Receive buffer of a socket in bytes, as the kernel accounts them: some thousand full packets, which
/// is what a few milliseconds on a busy host bring.
const RECEIVE_BUFFER: i32 = 7 << 20;

/// What a socket carries and how it is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// UDP, bound to `local` (whose address may be unspecified), for every peer.
    Udp { local: SocketAddr },
    /// UDP, connected to one peer.
    Peer {
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// ESP or AH without UDP. Two sockets per family send, one setting DF and one not: DF is a property of a
    /// socket. Only the second of them receives. AH over IPv4 has but that one, since it brings its own header.
    Raw {
        protocol: Protocol,
        v6: bool,
        dont_fragment: bool,
    },
}

impl Kind {
    /// Of the raw socket that sends such a packet.
    pub(crate) fn raw(protocol: Protocol, v6: bool, dont_fragment: bool) -> Self {
        Self::Raw {
            protocol,
            v6,
            dont_fragment: dont_fragment && !brings_header(protocol, v6),
        }
    }
}

/// Whether what is sent begins with an IP header of our making, since AH covers all that an IPv4 header says.
fn brings_header(protocol: Protocol, v6: bool) -> bool {
    protocol == Protocol::Ah && !v6
}

/// A socket of the plane.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    pub(crate) kind: Kind,
    /// Datagrams that the kernel has dropped because they were not read in time.
    pub(crate) dropped: u32,
}

impl Socket {
    /// Is it an IPv6 socket?
    pub(crate) fn v6(&self) -> bool {
        match self.kind {
            Kind::Udp { local } | Kind::Peer { local, .. } => local.is_ipv6(),
            Kind::Raw { v6, .. } => v6,
        }
    }

    /// Takes over a UDP socket: non-blocking, reports destination address and TOS, has no error queue, carries `mark`.
    pub(crate) fn udp(fd: OwnedFd, kind: Kind, mark: Option<u32>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        let socket = Self {
            fd,
            kind,
            dropped: 0,
        };
        socket.prepare_to_receive()?;
        // An error in the queue would keep the socket ready until somebody takes it out, and nobody does.
        let (level, name) = if socket.v6() {
            (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        } else {
            (libc::IPPROTO_IP, libc::IP_RECVERR)
        };
        sys::set_int_option(socket.as_fd(), level, name, 0)?;
        socket.mark(mark)?;
        Ok(socket)
    }

    /// Opens the raw sockets of a protocol and a family in the calling thread's network namespace. A packet with an SPI
    /// outside `spis` belongs to somebody else, such as the kernel's own ESP, and is not read.
    pub(crate) fn raw(
        protocol: Protocol,
        v6: bool,
        mark: Option<u32>,
        exempt: Option<Exempt>,
        spis: &RangeInclusive<u32>,
    ) -> io::Result<Vec<Self>> {
        let open = |dont_fragment: bool| -> io::Result<Self> {
            let family = if v6 {
                AddressFamily::INET6
            } else {
                AddressFamily::INET
            };
            let number = match protocol {
                Protocol::Ah => ipproto::AH,
                _ => ipproto::ESP,
            };
            let fd = rustix::net::socket_with(
                family,
                SocketType::RAW,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                Some(number),
            )?;
            let socket = Self {
                fd,
                kind: Kind::raw(protocol, v6, dont_fragment),
                dropped: 0,
            };
            if dont_fragment {
                // This one only sends: without a filter that refuses everything, its receive queue
                // would fill with a copy of every packet.
                sys::attach_filter(socket.as_fd(), &[(BPF_RET, 0, 0, 0)])?;
            } else {
                sys::attach_filter(socket.as_fd(), &spi_filter(protocol, v6, spis))?;
                socket.prepare_to_receive()?;
            }
            socket.mark(mark)?;
            if let Some(exempt) = exempt {
                exempt(socket.as_fd(), v6)?;
            }
            let set = |level, name, value| sys::set_int_option(socket.as_fd(), level, name, value);
            if brings_header(protocol, v6) {
                set(libc::IPPROTO_IP, libc::IP_HDRINCL, 1)?;
            }
            let (level, name) = if v6 {
                (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
            } else {
                (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
            };
            // IPV6_PMTUDISC_* have the same values.
            let discover = if dont_fragment {
                libc::IP_PMTUDISC_DO
            } else {
                libc::IP_PMTUDISC_DONT
            };
            set(level, name, discover)?;
            Ok(socket)
        };
        let mut sockets = vec![open(false)?];
        if !brings_header(protocol, v6) {
            sockets.push(open(true)?);
        }
        Ok(sockets)
    }

    /// Asks for what comes with a datagram, and for room for bursts.
    fn prepare_to_receive(&self) -> io::Result<()> {
        let set = |name, value| sys::set_int_option(self.as_fd(), libc::SOL_SOCKET, name, value);
        set(libc::SO_RXQ_OVFL, 1)?;
        // Beyond net.core.rmem_max needs CAP_NET_ADMIN; without, the maximum has to do.
        if set(libc::SO_RCVBUFFORCE, RECEIVE_BUFFER).is_err() {
            set(libc::SO_RCVBUF, RECEIVE_BUFFER)?;
        }
        let options: &[(i32, i32)] = if self.v6() {
            &[
                (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
                (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
            ]
        } else {
            &[
                (libc::IPPROTO_IP, libc::IP_PKTINFO),
                (libc::IPPROTO_IP, libc::IP_RECVTOS),
            ]
        };
        for &(level, name) in options {
            sys::set_int_option(self.as_fd(), level, name, 1)?;
        }
        Ok(())
    }

    fn mark(&self, mark: Option<u32>) -> io::Result<()> {
        match mark {
            Some(mark) => sys::set_option(
                self.as_fd(),
                libc::SOL_SOCKET,
                libc::SO_MARK,
                &mark.to_ne_bytes(),
            ),
            None => Ok(()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

// Classic BPF: code values of <linux/bpf_common.h>.
const BPF_LD_W_IND: u16 = 0x40; // A = word at [X + k]
const BPF_LD_W_ABS: u16 = 0x20; // A = word at [k]
const BPF_LDX_B_MSH: u16 = 0xb1; // X = 4 * (byte at [k] & 0xf)
const BPF_JGE_K: u16 = 0x35;
const BPF_JGT_K: u16 = 0x25;
const BPF_RET: u16 = 0x06;

/// Accepts ESP or AH whose SPI is in `spis`.
///
/// A raw IPv4 socket's filter sees the packet from its IP header, whose length varies; an IPv6
/// socket's sees it from the header of ESP or AH.
fn spi_filter(protocol: Protocol, v6: bool, spis: &RangeInclusive<u32>) -> Vec<Instruction> {
    let at = match protocol {
        Protocol::Ah => AhHeader::SPI_AT as u32,
        _ => 0,
    };
    let load: &[Instruction] = if v6 {
        &[(BPF_LD_W_ABS, 0, 0, at)]
    } else {
        &[(BPF_LDX_B_MSH, 0, 0, 0), (BPF_LD_W_IND, 0, 0, at)]
    };
    let judge = [
        (BPF_JGE_K, 0, 2, *spis.start()),
        (BPF_JGT_K, 1, 0, *spis.end()),
        (BPF_RET, 0, 0, u32::MAX),
        (BPF_RET, 0, 0, 0),
    ];
    [load, &judge].concat()
}

/// What a raw IPv4 socket has read: destination, source, TOS and where the
/// ESP or AH header starts. `None` if the IP header is not sound, which the kernel does not let happen.
pub(crate) fn raw_v4_parts(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr, u8, usize)> {
    let header: &[u8; 20] = packet.get(..20)?.try_into().ok()?;
    let start = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || start < 20 || start > packet.len() {
        return None;
    }
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    Some((source, destination, header[1], start))
}

/// The MTU that the kernel knows for the way from `local` to `remote`, path MTU discovery included:
/// it is asked through a UDP socket that is connected and never used.
///
/// # Errors
///
/// No route, or `local` is not an address of this host.
pub(crate) fn path_mtu(
    local: IpAddr,
    remote: IpAddr,
    mark: Option<u32>,
    exempt: Option<Exempt>,
) -> io::Result<usize> {
    let v6 = remote.is_ipv6();
    let family = if v6 {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let fd = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    if let Some(mark) = mark {
        sys::set_option(
            fd.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_MARK,
            &mark.to_ne_bytes(),
        )?;
    }
    if let Some(exempt) = exempt {
        exempt(fd.as_fd(), v6)?;
    }
    rustix::net::bind(&fd, &SocketAddr::new(local, 0))?;
    // Any port will do: nothing is sent.
    rustix::net::connect(&fd, &SocketAddr::new(remote, 4500))?;
    let (level, name) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU)
    };
    let mtu = sys::int_option(fd.as_fd(), level, name)?;
    usize::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The unspecified address of a family.
pub(crate) fn unspecified(v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a filter answers, by an interpreter of the instructions used.
    fn run(program: &[Instruction], packet: &[u8]) -> u32 {
        let word = |at: usize| {
            packet
                .get(at..at + 4)
                .map(|b| u32::from_be_bytes(b.try_into().unwrap()))
        };
        let (mut a, mut x, mut pc) = (0, 0, 0);
        loop {
            let (code, jt, jf, k) = program[pc];
            pc += 1;
            match code {
                BPF_LDX_B_MSH => x = usize::from(packet[k as usize] & 0xf) * 4,
                BPF_LD_W_IND => match word(x + k as usize) {
                    Some(w) => a = w,
                    None => return 0,
                },
                BPF_LD_W_ABS => match word(k as usize) {
                    Some(w) => a = w,
                    None => return 0,
                },
                BPF_JGE_K => pc += usize::from(if a >= k { jt } else { jf }),
                BPF_JGT_K => pc += usize::from(if a > k { jt } else { jf }),
                BPF_RET => return k,
                _ => unreachable!(),
            }
        }
    }

    #[test]
    fn the_filter_passes_the_planes_own_spis_only() {
        let spis = 0x8000_0000..=0x8fff_ffff;
        for (spi, ours) in [
            (0x8000_0000u32, true),
            (0x8fff_ffff, true),
            (0x7fff_ffff, false),
            (0x9000_0000, false),
            (0, false),
        ] {
            for (protocol, before) in [(Protocol::Esp, 0), (Protocol::Ah, 4)] {
                let header = [&vec![0xff; before][..], &spi.to_be_bytes()].concat();
                assert_eq!(
                    run(&spi_filter(protocol, true, &spis), &header) != 0,
                    ours,
                    "{protocol:?} {spi:x}"
                );
                for ihl in [5u8, 15] {
                    let mut packet = vec![0; usize::from(ihl) * 4];
                    packet[0] = 0x40 | ihl;
                    packet.extend(&header);
                    assert_eq!(
                        run(&spi_filter(protocol, false, &spis), &packet) != 0,
                        ours,
                        "{protocol:?} {spi:x} {ihl}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_raw_ipv4_packet_is_taken_apart_behind_its_options() {
        let mut packet = vec![0; 24];
        packet[0] = 0x46;
        packet[1] = 0xb9;
        packet[12..16].copy_from_slice(&[192, 0, 2, 1]);
        packet[16..20].copy_from_slice(&[198, 51, 100, 1]);
        let (source, destination) = ([192, 0, 2, 1].into(), [198, 51, 100, 1].into());
        assert_eq!(raw_v4_parts(&packet), Some((source, destination, 0xb9, 24)));
        assert_eq!(raw_v4_parts(&packet[..23]), None);
        packet[0] = 0x44;
        assert_eq!(raw_v4_parts(&packet), None);
    }

    #[test]
    fn an_icmp_error_does_not_keep_a_socket_ready() {
        use rustix::event::{PollFd, PollFlags, poll};
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = std::net::UdpSocket::bind(loopback) else {
                continue;
            };
            let local = socket.local_addr().unwrap();
            let (level, name) = if local.is_ipv6() {
                (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
            } else {
                (libc::IPPROTO_IP, libc::IP_RECVERR)
            };
            sys::set_int_option(socket.as_fd(), level, name, 1).unwrap();
            let ours = socket.try_clone().unwrap();
            let socket = Socket::udp(socket.into(), Kind::Udp { local }, None).unwrap();
            let closed = std::net::UdpSocket::bind(loopback).unwrap();
            let nobody = closed.local_addr().unwrap();
            drop(closed);
            ours.send_to(b"x", nobody).unwrap();
            // On the loopback device the answer is there when the call returns. Reading must be all that it takes.
            let mut octets = [0; 8];
            ours.recv(&mut octets).unwrap_err();
            ours.recv(&mut octets).unwrap_err();
            let mut fds = [PollFd::new(&socket, PollFlags::IN)];
            let none = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            assert_eq!(poll(&mut fds, Some(&none)).unwrap(), 0, "{loopback}");
        }
    }
}
