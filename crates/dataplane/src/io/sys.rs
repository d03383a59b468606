//! The system calls that have no safe wrapper elsewhere, and all the `unsafe` of this crate: `recvmmsg`, `sendmmsg`,
//! `setsockopt`, `getsockopt` and one `ioctl`.
//!
//! Socket addresses and control messages are encoded and decoded here as plain bytes in safe code (their layout is kernel
//! ABI); `unsafe` is left with handing out pointers to live buffers and their lengths.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::packet::Packet;

/// The most datagrams that one system call moves.
pub(crate) const BATCH: usize = 64;

/// Room for the control messages of one datagram: packet info (40), TOS or traffic class (24),
/// and sent the mark (24), received the count of drops (24).
const CONTROL_LEN: usize = 128;

/// A socket address as the kernel has it, up to `sockaddr_in6`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct RawAddress {
    bytes: [u8; 28],
    len: u32,
}

impl RawAddress {
    const EMPTY: Self = Self {
        bytes: [0; 28],
        len: 0,
    };

    fn new(address: SocketAddr) -> Self {
        let mut raw = Self::EMPTY;
        raw.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                raw.bytes[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                raw.bytes[4..8].copy_from_slice(&v4.ip().octets());
                raw.len = 16;
            }
            SocketAddr::V6(v6) => {
                raw.bytes[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                raw.bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                raw.bytes[8..24].copy_from_slice(&v6.ip().octets());
                raw.bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                raw.len = 28;
            }
        }
        raw
    }

    fn decode(&self) -> Option<SocketAddr> {
        let b = &self.bytes;
        let family = i32::from(u16::from_ne_bytes([b[0], b[1]]));
        let port = u16::from_be_bytes([b[2], b[3]]);
        if family == libc::AF_INET && self.len >= 16 {
            Some(SocketAddr::new(
                Ipv4Addr::new(b[4], b[5], b[6], b[7]).into(),
                port,
            ))
        } else if family == libc::AF_INET6 && self.len >= 28 {
            let ip: [u8; 16] = b[8..24].try_into().ok()?;
            let scope = u32::from_ne_bytes([b[24], b[25], b[26], b[27]]);
            Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope).into())
        } else {
            None
        }
    }
}

/// The control messages of one datagram, as bytes.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control {
    bytes: [u8; CONTROL_LEN],
    len: usize,
}

const CMSG_HEADER: usize = mem::size_of::<libc::cmsghdr>();

/// `CMSG_ALIGN`.
const fn align(len: usize) -> usize {
    let unit = mem::size_of::<usize>();
    (len + unit - 1) & !(unit - 1)
}

impl Control {
    const EMPTY: Self = Self {
        bytes: [0; CONTROL_LEN],
        len: 0,
    };

    /// Adds one control message; one that does not fit is left out (the room is for all that we use together).
    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let total = CMSG_HEADER + data.len();
        let Some(slot) = self.bytes.get_mut(self.len..self.len + align(total)) else {
            return;
        };
        slot[..mem::size_of::<usize>()].copy_from_slice(&total.to_ne_bytes());
        slot[CMSG_HEADER - 8..CMSG_HEADER - 4].copy_from_slice(&level.to_ne_bytes());
        slot[CMSG_HEADER - 4..CMSG_HEADER].copy_from_slice(&kind.to_ne_bytes());
        slot[CMSG_HEADER..total].copy_from_slice(data);
        slot[total..].fill(0);
        self.len += align(total);
    }

    /// The messages as (level, type, data).
    fn iter(&self) -> impl Iterator<Item = (i32, i32, &[u8])> {
        let mut rest = self.bytes.get(..self.len).unwrap_or(&[]);
        std::iter::from_fn(move || {
            let header = rest.get(..CMSG_HEADER)?;
            let total = usize::from_ne_bytes(header[..mem::size_of::<usize>()].try_into().ok()?);
            let level =
                i32::from_ne_bytes(header[CMSG_HEADER - 8..CMSG_HEADER - 4].try_into().ok()?);
            let kind = i32::from_ne_bytes(header[CMSG_HEADER - 4..].try_into().ok()?);
            let data = rest.get(CMSG_HEADER..total)?;
            rest = rest.get(align(total)..).unwrap_or(&[]);
            Some((level, kind, data))
        })
    }
}

/// What came with a received datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// The sender.
    pub remote: Option<SocketAddr>,
    /// The address that it was sent to, if the socket reports packet info.
    pub local: Option<IpAddr>,
    /// TOS or traffic class, if the socket reports it.
    pub tos: u8,
    /// The datagram was longer than its buffer and is cut.
    pub truncated: bool,
    /// How many datagrams the socket has dropped so far because its buffer was full, if it has
    /// dropped any (SO_RXQ_OVFL).
    pub dropped: Option<u32>,
}

/// One datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending<'a> {
    /// The datagram.
    pub bytes: &'a [u8],
    /// Where to; `None` on a connected socket.
    pub remote: Option<SocketAddr>,
    /// The source address to use, where the socket is not bound to one.
    pub local: Option<IpAddr>,
    /// TOS or traffic class, as the IP header carries it; also for the choice of route.
    pub tos: u8,
    /// Family of the socket: it decides which control messages exist.
    pub v6: bool,
    /// Packet mark instead of the socket's.
    pub mark: Option<u32>,
}

/// Address and control buffers for batches, reused from call to call.
pub(crate) struct Scratch {
    addresses: Box<[RawAddress; BATCH]>,
    controls: Box<[Control; BATCH]>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            addresses: Box::new([RawAddress::EMPTY; BATCH]),
            controls: Box::new([Control::EMPTY; BATCH]),
        }
    }

    /// Receives up to [`BATCH`] datagrams without waiting: the first `n` packets hold them, `meta[..n]` says what came with
    /// them.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        packets: &mut [Packet],
        meta: &mut [Received; BATCH],
    ) -> io::Result<usize> {
        let count = packets.len().min(BATCH);
        let mut iovecs = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        let mut headers = [EMPTY_HEADER; BATCH];
        for (i, packet) in packets.iter_mut().enumerate().take(count) {
            let area = packet.receive_area();
            iovecs[i] = libc::iovec {
                iov_base: area.as_mut_ptr().cast(),
                iov_len: area.len(),
            };
            let header = &mut headers[i].msg_hdr;
            header.msg_name = self.addresses[i].bytes.as_mut_ptr().cast();
            header.msg_namelen = self.addresses[i].bytes.len() as u32;
            header.msg_iov = &raw mut iovecs[i];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[i].bytes.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_LEN as _;
        }
        // SAFETY: the first `count` headers point to buffers of the given lengths that are borrowed mutably for this call
        // (`packets`, `self.addresses`, `self.controls`) or live on this stack (`iovecs`), each to its own element; the kernel
        // keeps no pointer after the call. The time-out pointer may be null.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let n = usize::try_from(n)
            .map_err(|_| io::Error::last_os_error())?
            .min(count);
        for i in 0..n {
            let header = &headers[i];
            packets[i].set_len(header.msg_len as usize);
            self.addresses[i].len = header.msg_hdr.msg_namelen;
            self.controls[i].len = header.msg_hdr.msg_controllen.min(CONTROL_LEN);
            let mut received = Received {
                remote: self.addresses[i].decode(),
                truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                ..Received::default()
            };
            for (level, kind, data) in self.controls[i].iter() {
                match (level, kind) {
                    // struct in_pktinfo: ifindex, spec_dst, addr. addr is the header's destination.
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        received.local = data
                            .get(8..12)
                            .and_then(|b| <[u8; 4]>::try_from(b).ok())
                            .map(IpAddr::from);
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        received.local = data
                            .get(..16)
                            .and_then(|b| <[u8; 16]>::try_from(b).ok())
                            .map(IpAddr::from);
                    }
                    // One octet for IPv4, an int for IPv6.
                    (libc::IPPROTO_IP, libc::IP_TOS) => {
                        received.tos = data.first().copied().unwrap_or(0)
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                        received.tos = data
                            .get(..4)
                            .and_then(|b| b.try_into().ok())
                            .map_or(0, |b| i32::from_ne_bytes(b) as u8);
                    }
                    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                        received.dropped = data
                            .get(..4)
                            .and_then(|b| b.try_into().ok())
                            .map(u32::from_ne_bytes);
                    }
                    _ => {}
                }
            }
            meta[i] = received;
        }
        Ok(n)
    }

    /// Sends up to [`BATCH`] datagrams without waiting; the number that went out (at least one), or the error of the first.
    pub(crate) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        batch: &[Sending<'_>],
    ) -> io::Result<usize> {
        let count = batch.len().min(BATCH);
        let mut iovecs = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        let mut headers = [EMPTY_HEADER; BATCH];
        for (i, sending) in batch.iter().enumerate().take(count) {
            let control = &mut self.controls[i];
            control.len = 0;
            if sending.v6 {
                if let Some(IpAddr::V6(local)) = sending.local {
                    let mut info = [0; 20];
                    info[..16].copy_from_slice(&local.octets());
                    control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
                }
                control.push(
                    libc::IPPROTO_IPV6,
                    libc::IPV6_TCLASS,
                    &i32::from(sending.tos).to_ne_bytes(),
                );
            } else {
                if let Some(IpAddr::V4(local)) = sending.local {
                    let mut info = [0; 12];
                    info[4..8].copy_from_slice(&local.octets());
                    control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
                }
                control.push(
                    libc::IPPROTO_IP,
                    libc::IP_TOS,
                    &i32::from(sending.tos).to_ne_bytes(),
                );
            }
            if let Some(mark) = sending.mark {
                control.push(libc::SOL_SOCKET, libc::SO_MARK, &mark.to_ne_bytes());
            }
            // The kernel does not write through the iovec of a send, so the cast away from const is harmless.
            iovecs[i] = libc::iovec {
                iov_base: sending.bytes.as_ptr().cast_mut().cast(),
                iov_len: sending.bytes.len(),
            };
            let header = &mut headers[i].msg_hdr;
            if let Some(remote) = sending.remote {
                self.addresses[i] = RawAddress::new(remote);
                header.msg_name = self.addresses[i].bytes.as_mut_ptr().cast();
                header.msg_namelen = self.addresses[i].len;
            }
            header.msg_iov = &raw mut iovecs[i];
            header.msg_iovlen = 1;
            header.msg_control = control.bytes.as_mut_ptr().cast();
            header.msg_controllen = control.len as _;
        }
        // SAFETY: as in `receive`: every pointer in the first `count` headers is to a live buffer of the given length (the
        // datagrams are borrowed by `batch`), and the kernel keeps none of them.
        let n = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT as _,
            )
        };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
}

const EMPTY_HEADER: libc::mmsghdr = libc::mmsghdr {
    // SAFETY: `msghdr` is a plain C struct of pointers, lengths and flags: all zeroes is a valid value (null pointers, length 0).
    msg_hdr: unsafe { mem::zeroed() },
    msg_len: 0,
};

/// `setsockopt` with the option's value as bytes.
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &[u8],
) -> io::Result<()> {
    // SAFETY: `value` is a live buffer of the given length, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `setsockopt` of an option whose value is an `int`.
pub(crate) fn set_int_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: i32,
) -> io::Result<()> {
    set_option(socket, level, name, &value.to_ne_bytes())
}

/// `getsockopt` of an option whose value is an `int`.
pub(crate) fn int_option(socket: BorrowedFd<'_>, level: i32, name: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut len = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` and `len` live on this stack and `len` is the size of `value`; the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// One instruction of a classic BPF program: code, jump if true, jump if false, operand.
pub(crate) type Instruction = (u16, u8, u8, u32);

/// Attaches a classic BPF filter to a socket.
pub(crate) fn attach_filter(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let mut code: Vec<libc::sock_filter> = program
        .iter()
        .map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
        .collect();
    let program = libc::sock_fprog {
        len: code.len() as u16,
        filter: code.as_mut_ptr(),
    };
    // SAFETY: `program` and the instructions that it points to live until after the call; the kernel copies them. Whether the
    // instructions make sense is checked by the kernel.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            mem::size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `TUNSETIFF`: makes the open `/dev/net/tun` the device `name` with `flags`; the name that the kernel has given (a `%d` in
/// `name` becomes a number).
pub(crate) fn tun_set_iff(tun: BorrowedFd<'_>, name: &str, flags: i32) -> io::Result<String> {
    // struct ifreq is 40 bytes: 16 of name, then the flags.
    #[repr(C, align(8))]
    struct Request([u8; 40]);
    const _: () = assert!(mem::size_of::<Request>() >= mem::size_of::<libc::ifreq>());

    let mut request = Request([0; 40]);
    // The last octet of the name stays zero.
    let Some(slot) = request
        .0
        .get_mut(..name.len())
        .filter(|slot| slot.len() < libc::IFNAMSIZ)
    else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    slot.copy_from_slice(name.as_bytes());
    request.0[libc::IFNAMSIZ..libc::IFNAMSIZ + 2].copy_from_slice(&(flags as u16).to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, and `request` is at least as large (asserted above).
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, request.0.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let given = request.0[..libc::IFNAMSIZ]
        .split(|&b| b == 0)
        .next()
        .unwrap_or(&[]);
    Ok(String::from_utf8_lossy(given).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn addresses_survive_the_kernel_form() {
        for text in ["192.0.2.1:4500", "[2001:db8::1]:500", "[fe80::1%7]:4500"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::new(address).decode(), Some(address));
        }
        assert_eq!(RawAddress::EMPTY.decode(), None);
    }

    #[test]
    fn control_messages_have_the_layout_of_libc() {
        let mut control = Control::EMPTY;
        control.push(1, 2, b"abc");
        control.push(3, 4, b"defg");
        let seen: Vec<_> = control.iter().collect();
        assert_eq!(seen, [(1, 2, &b"abc"[..]), (3, 4, &b"defg"[..])]);
        assert_eq!(control.len, 48);
        // A length that points outside must end the walk.
        control.bytes[0] = 200;
        assert_eq!(control.iter().count(), 0);
    }

    #[test]
    fn a_batch_arrives_with_address_and_tos() {
        let (Ok(a), Ok(b)) = (UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind("0.0.0.0:0")) else {
            return;
        };
        set_int_option(b.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, 1).unwrap();
        set_int_option(b.as_fd(), libc::IPPROTO_IP, libc::IP_RECVTOS, 1).unwrap();
        let to = SocketAddr::new([127, 0, 0, 1].into(), b.local_addr().unwrap().port());
        let one = Sending {
            bytes: b"one",
            remote: Some(to),
            local: None,
            tos: 0xb8,
            v6: false,
            mark: None,
        };
        let two = Sending {
            bytes: b"three",
            tos: 0,
            local: Some([127, 0, 0, 1].into()),
            ..one
        };
        let mut scratch = Scratch::new();
        assert_eq!(scratch.send(a.as_fd(), &[one, two]).unwrap(), 2);
        let mut packets = [Packet::new(), Packet::new(), Packet::new()];
        let mut meta = [Received::default(); BATCH];
        assert_eq!(
            scratch.receive(b.as_fd(), &mut packets, &mut meta).unwrap(),
            2
        );
        assert_eq!(
            (packets[0].bytes(), packets[1].bytes()),
            (&b"one"[..], &b"three"[..])
        );
        let expected = Received {
            remote: Some(a.local_addr().unwrap()),
            local: Some([127, 0, 0, 1].into()),
            tos: 0xb8,
            ..Received::default()
        };
        assert_eq!(meta[0], expected);
        assert_eq!(meta[1], Received { tos: 0, ..expected });
    }
}
