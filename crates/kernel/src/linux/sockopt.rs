//! Socket options and messages that neither std nor rustix offers: the only place of these modules with `unsafe`.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

const IP_XFRM_POLICY: i32 = 17;
const IPV6_XFRM_POLICY: i32 = 35;
const UDP_ENCAP: i32 = 100;
const UDP_ENCAP_ESPINUDP: i32 = 2;

fn check(result: i32) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn set_bytes(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the pointer and length describe `value`, which lives during the call; the kernel only reads it.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), length) })
}

fn set_int(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_bytes(fd, level, name, &value.to_ne_bytes())
}

/// Marks all packets that the socket sends (`SO_MARK`; CAP_NET_ADMIN, or since 5.17 CAP_NET_RAW).
///
/// # Errors
/// `EPERM` without the capability.
pub fn set_mark(socket: impl AsFd, mark: u32) -> io::Result<()> {
    set_bytes(
        socket.as_fd(),
        libc::SOL_SOCKET,
        libc::SO_MARK,
        &mark.to_ne_bytes(),
    )
}

/// Lets the socket send and receive in clear whatever the SPD says, in both directions (`IP_XFRM_POLICY`,
/// `IPV6_XFRM_POLICY`). The kernel asks a socket's own policies before the SPD (K2), so this holds against the fence,
/// traps and tunnels alike. Needs CAP_NET_ADMIN.
///
/// # Errors
/// `EPERM` without the capability, `ENOPROTOOPT` on a kernel without XFRM.
pub fn exempt_from_policies(socket: impl AsFd, ipv6: bool) -> io::Result<()> {
    /// `struct xfrm_userpolicy_info` on 64-bit Linux, with the offsets of K14.
    const LEN: usize = 168;
    const FAMILY: usize = 40;
    const DIRECTION: usize = 160;
    const IN: u8 = 0;
    const OUT: u8 = 1;

    let (level, name, family) = if ipv6 {
        (libc::IPPROTO_IPV6, IPV6_XFRM_POLICY, libc::AF_INET6)
    } else {
        (libc::IPPROTO_IP, IP_XFRM_POLICY, libc::AF_INET)
    };
    for direction in [IN, OUT] {
        // All zeros: any address, any port, action "allow" (0), no templates, the wildcard mark.
        let mut policy = [0u8; LEN];
        let family = u16::try_from(family).unwrap_or_default().to_ne_bytes();
        policy[FAMILY..FAMILY + 2].copy_from_slice(&family);
        policy[DIRECTION] = direction;
        set_bytes(socket.as_fd(), level, name, &policy)?;
    }
    Ok(())
}

/// Lets the kernel take ESP and keepalives out of the socket's stream (`UDP_ENCAP_ESPINUDP`, RFC 3948).
pub(crate) fn set_espinudp(socket: impl AsFd) -> io::Result<()> {
    set_int(
        socket.as_fd(),
        libc::IPPROTO_UDP,
        UDP_ENCAP,
        UDP_ENCAP_ESPINUDP,
    )
}

/// Asks for the local address of each datagram (`IP_PKTINFO`, `IPV6_RECVPKTINFO`).
pub(crate) fn receive_pktinfo(socket: impl AsFd, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        set_int(
            socket.as_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_RECVPKTINFO,
            1,
        )
    } else {
        set_int(socket.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    }
}

/// Of two sockets with `SO_REUSEPORT` on one address and port, the second one that was bound gets the datagrams whose first
/// four octets, the SPI of ESP in UDP, are in a range, and the first one gets all others (`SO_ATTACH_REUSEPORT_CBPF`). The
/// choice comes before `UDP_ENCAP` of either.
pub(crate) fn steer_spis(socket: impl AsFd, spis: &RangeInclusive<u32>) -> io::Result<()> {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_GE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const IF_GT: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // What is too short for an SPI ends the program at its first instruction, with 0. Jumps count from the next one.
    let mut code = [
        (LOAD_WORD, 0, 0, 0),
        (IF_GE, 0, 2, *spis.start()),
        (IF_GT, 1, 0, *spis.end()),
        (RETURN, 0, 0, 1),
        (RETURN, 0, 0, 0),
    ]
    .map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k });
    let program = libc::sock_fprog {
        len: code.len() as u16,
        filter: code.as_mut_ptr(),
    };
    // SAFETY: `program` and the instructions that it points to live until after the call; the kernel copies and checks
    // them.
    check(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            mem::size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })
}

/// Asks for ICMP errors on the socket's error queue (`IP_RECVERR`, `IPV6_RECVERR`).
pub(crate) fn receive_errors(socket: impl AsFd, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        set_int(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)
    } else {
        set_int(socket.as_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, 1)
    }
}

/// A `sockaddr_in` or `sockaddr_in6` and its length.
fn sockaddr(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero octets are a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let length = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is larger than and aligned for every sockaddr.
            unsafe { ptr::write(ptr::from_mut(&mut storage).cast(), raw) };
            mem::size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { ptr::write(ptr::from_mut(&mut storage).cast(), raw) };
            mem::size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

fn socket_addr(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel wrote a sockaddr_in of that family; storage is larger and aligned.
            let raw: libc::sockaddr_in = unsafe { ptr::read(ptr::from_ref(storage).cast()) };
            Some(SocketAddr::V4(SocketAddrV4::new(
                Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes()),
                u16::from_be(raw.sin_port),
            )))
        }
        libc::AF_INET6 => {
            // SAFETY: the same for sockaddr_in6.
            let raw: libc::sockaddr_in6 = unsafe { ptr::read(ptr::from_ref(storage).cast()) };
            Some(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(raw.sin6_addr.s6_addr),
                u16::from_be(raw.sin6_port),
                raw.sin6_flowinfo,
                raw.sin6_scope_id,
            )))
        }
        _ => None,
    }
}

/// Room for one pktinfo control message of either family, aligned as control messages must be.
#[repr(C, align(8))]
struct Control([u8; 128]);

/// What [`receive`] found beside the octets.
pub(crate) struct Datagram {
    pub(crate) len: usize,
    pub(crate) truncated: bool,
    pub(crate) remote: SocketAddr,
    pub(crate) destination: Option<IpAddr>,
    pub(crate) ifindex: u32,
}

/// Receives one datagram with its pktinfo.
pub(crate) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control = Control([0; 128]);
    let mut iov = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all-zero octets are a valid msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = storage.as_mut_ptr().cast();
    message.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: every pointer in `message` is to a live local or to `buffer`, with its length.
    let length = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0) };
    let len = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: it was zeroed, and the kernel wrote a sockaddr or nothing.
    let storage = unsafe { storage.assume_init() };
    let remote = socket_addr(&storage)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "datagram without a sender"))?;

    let mut destination = None;
    let mut ifindex = 0;
    // SAFETY: the CMSG functions walk `msg_control` within `msg_controllen`, as the kernel left them; the payloads
    // are read unaligned, and only of types whose size the kernel guarantees for that level and type.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo =
                        ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                    destination = Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                    ifindex = u32::try_from(info.ipi_ifindex).unwrap_or(0);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo =
                        ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                    destination = Some(IpAddr::from(info.ipi6_addr.s6_addr));
                    ifindex = info.ipi6_ifindex;
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(Datagram {
        len,
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        remote,
        destination,
        ifindex,
    })
}

/// Sends one datagram, from a chosen source address if one is given.
pub(crate) fn send(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    to: Option<SocketAddr>,
    from: Option<IpAddr>,
) -> io::Result<()> {
    let mut storage = to.map(sockaddr);
    let mut control = Control([0; 128]);
    let mut iov = libc::iovec {
        // The kernel does not write through the iovec of a sendmsg.
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all-zero octets are a valid msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    if let Some((storage, length)) = &mut storage {
        message.msg_name = ptr::from_mut(storage).cast();
        message.msg_namelen = *length;
    }
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    if let Some(from) = from {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
        // SAFETY: `control` is zeroed, aligned and large enough for one header and either pktinfo; CMSG_FIRSTHDR is
        // not null because the length exceeds a header's.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            let size = match from {
                IpAddr::V4(ip) => {
                    (*header).cmsg_level = libc::IPPROTO_IP;
                    (*header).cmsg_type = libc::IP_PKTINFO;
                    let info = libc::in_pktinfo {
                        ipi_ifindex: 0,
                        ipi_spec_dst: libc::in_addr {
                            s_addr: u32::from_ne_bytes(ip.octets()),
                        },
                        ipi_addr: libc::in_addr { s_addr: 0 },
                    };
                    ptr::write_unaligned(libc::CMSG_DATA(header).cast(), info);
                    mem::size_of::<libc::in_pktinfo>()
                }
                IpAddr::V6(ip) => {
                    (*header).cmsg_level = libc::IPPROTO_IPV6;
                    (*header).cmsg_type = libc::IPV6_PKTINFO;
                    let info = libc::in6_pktinfo {
                        ipi6_addr: libc::in6_addr {
                            s6_addr: ip.octets(),
                        },
                        ipi6_ifindex: 0,
                    };
                    ptr::write_unaligned(libc::CMSG_DATA(header).cast(), info);
                    mem::size_of::<libc::in6_pktinfo>()
                }
            };
            (*header).cmsg_len = libc::CMSG_LEN(size as u32) as usize;
            message.msg_controllen = libc::CMSG_SPACE(size as u32) as usize;
        }
    }
    // SAFETY: every pointer in `message` is to a live local or to `bytes`, with its length.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
