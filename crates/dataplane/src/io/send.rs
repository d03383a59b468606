//! From the core to devices and sockets.

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

use super::socket::{self, Kind};
use super::sys::Sending;
use cygnet_ipsec::EncapKind;

use super::*;
use crate::core::Transmit;

/// How long a full socket is waited for, once per flush. No TUN device is read meanwhile, so this
/// is what slows down the senders behind it; a socket that stays full loses packets.
const FULL_SOCKET_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 2_000_000,
};

impl Plane {
    /// Writes out what the core has produced.
    pub(super) fn flush(&mut self) {
        self.flush_deliveries();
        self.flush_transmits();
    }

    fn flush_deliveries(&mut self) {
        for delivery in self.output.deliveries.drain(..) {
            let slot = self.tables.device_by_if_id.get(&delivery.if_id);
            match slot.and_then(|&slot| self.tables.devices.get(slot)?.as_ref()) {
                Some(device) => match device.tun.write(delivery.packet.bytes()) {
                    Ok(()) => self.counters.tun_sent += 1,
                    Err(_) => self.counters.tun_write_failed += 1,
                },
                None => self.counters.no_device += 1,
            }
            self.output.pool.give(delivery.packet);
        }
    }

    fn flush_transmits(&mut self) {
        let mut transmits = mem::take(&mut self.output.transmits);
        let mut rest = &transmits[..];
        let mut waited = false;
        while let Some(first) = rest.first() {
            if first.path.ports.is_some_and(|p| p.kind == EncapKind::Tcp) {
                self.send_into_stream(first);
                rest = &rest[1..];
                continue;
            }
            let Some(slot) = self.tables.socket_for(first) else {
                self.counters.no_socket += 1;
                rest = &rest[1..];
                continue;
            };
            let run = rest
                .iter()
                .take(sys::BATCH)
                .take_while(|t| self.tables.socket_for(t) == Some(slot))
                .count();
            let (batch, after) = rest.split_at(run);
            self.send_run(slot, batch, &mut waited);
            rest = after;
        }
        for transmit in transmits.drain(..) {
            self.output.pool.give(transmit.packet);
        }
        // The vector goes back with its capacity.
        self.output.transmits = transmits;
        self.flush_streams();
    }

    /// Sends packets that leave by one socket; at most [`sys::BATCH`].
    fn send_run(&mut self, slot: usize, mut run: &[Transmit], waited: &mut bool) {
        let Some(Some(socket)) = self.tables.sockets.get(slot) else {
            return;
        };
        let raw = matches!(socket.kind, Kind::Raw { .. });
        let own_mark = self.socket_mark.unwrap_or(0);
        let mut batch = [sending(socket, &[], None, own_mark); sys::BATCH];
        for (place, transmit) in batch.iter_mut().zip(run) {
            *place = sending(socket, transmit.packet.bytes(), Some(transmit), own_mark);
        }
        let mut batch = batch.get(..run.len()).unwrap_or(&[]);
        // An ICMP error about an earlier packet is reported by the next send on a connected socket,
        // which then sends nothing: one packet is tried again, once.
        let mut retried = false;
        while !batch.is_empty() {
            let error = match self.scratch.send(socket.as_fd(), batch) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(n) => {
                    let counters = &mut self.counters;
                    *if raw {
                        &mut counters.raw_sent
                    } else {
                        &mut counters.udp_sent
                    } += n as u64;
                    batch = batch.get(n..).unwrap_or(&[]);
                    run = run.get(n..).unwrap_or(&[]);
                    retried = false;
                    continue;
                }
                Err(error) => error,
            };
            let counters = &mut self.counters;
            let lost = match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN) if !*waited => {
                    *waited = true;
                    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
                    // Whatever comes of it, the next try tells.
                    let _ = poll(&mut fds, Some(&FULL_SOCKET_WAIT));
                    continue;
                }
                Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH) if !retried => {
                    retried = true;
                    continue;
                }
                Some(libc::EAGAIN) => {
                    // Still full: so is it for the rest of the run.
                    counters.send_would_block += batch.len() as u64;
                    return;
                }
                Some(libc::ENOBUFS | libc::ENOMEM) => &mut counters.send_no_buffers,
                Some(libc::EMSGSIZE) => {
                    if let Some(transmit) = run.first() {
                        let path = (transmit.path.local, transmit.path.remote);
                        if !self.unprobed.contains(&path) {
                            self.unprobed.push_back(path);
                        }
                    }
                    &mut counters.send_too_big
                }
                Some(
                    libc::ENETUNREACH
                    | libc::EHOSTUNREACH
                    | libc::EADDRNOTAVAIL
                    | libc::EINVAL
                    | libc::ENETDOWN
                    | libc::ECONNREFUSED,
                ) => &mut counters.send_unreachable,
                Some(libc::EPERM | libc::EACCES) => &mut counters.send_not_permitted,
                _ => &mut counters.send_failed,
            };
            *lost += 1;
            retried = false;
            batch = batch.get(1..).unwrap_or(&[]);
            run = run.get(1..).unwrap_or(&[]);
        }
    }
}

/// How a packet goes out by a socket.
fn sending<'a>(
    socket: &Socket,
    bytes: &'a [u8],
    transmit: Option<&Transmit>,
    own_mark: u32,
) -> Sending<'a> {
    let (remote, local) = match (transmit, socket.kind) {
        (None, _) | (_, Kind::Peer { .. }) => (None, None),
        (Some(t), Kind::Udp { local }) => {
            let port = t.path.ports.map_or(0, |ports| ports.remote);
            let unbound = local.ip().is_unspecified();
            (
                Some(SocketAddr::new(t.path.remote, port)),
                unbound.then_some(t.path.local),
            )
        }
        (Some(t), Kind::Raw { .. }) => {
            (Some(SocketAddr::new(t.path.remote, 0)), Some(t.path.local))
        }
    };
    Sending {
        bytes,
        remote,
        // Of an SA whose source is open, the route chooses it.
        local: local.filter(|local| !local.is_unspecified()),
        tos: transmit.map_or(0, |t| t.tos),
        v6: socket.v6(),
        mark: transmit
            .and_then(|t| t.mark)
            .map(|mark| mark.apply(own_mark)),
    }
}

impl Tables {
    /// The socket by which a packet leaves: for UDP the one connected to the peer, else the one
    /// bound to the source address, else one bound to the port alone.
    fn socket_for(&self, transmit: &Transmit) -> Option<usize> {
        let path = &transmit.path;
        let v6 = path.remote.is_ipv6();
        let Some(ports) = path.ports else {
            let kind = Kind::raw(transmit.protocol, v6, transmit.dont_fragment);
            return self.raw.get(&kind).copied();
        };
        if ports.kind == EncapKind::Tcp {
            return None;
        }
        let local = SocketAddr::new(path.local, ports.local);
        let remote = SocketAddr::new(path.remote, ports.remote);
        self.peers
            .get(&(local, remote))
            .or_else(|| self.udp.get(&local))
            .or_else(|| {
                self.udp
                    .get(&SocketAddr::new(socket::unspecified(v6), ports.local))
            })
            .copied()
    }
}
