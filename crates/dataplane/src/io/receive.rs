//! From devices and sockets into the core.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use cygnet_esp::{OuterHeader, PacketBuffer};
use cygnet_ipsec::{EncapKind, Protocol};

use super::socket::{self, Kind};
use super::*;
use crate::config::DataplaneEvent;
use crate::core::Ports;

/// What a datagram on a UDP port shared by IKE and ESP is (RFC 3948 §2), or a message in a stream (RFC 9329 §3).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Datagram {
    Keepalive,
    /// With a non-ESP marker in front.
    Ike,
    Esp,
    Malformed,
}

/// The protocol number of AH.
const IPPROTO_AH: u8 = Protocol::Ah as u8;

/// Octets of the non-ESP marker: an SPI of zero, which no SA has.
pub(super) const NON_ESP_MARKER: usize = 4;

pub(super) fn classify(bytes: &[u8]) -> Datagram {
    //= rfc3948#2.3
    //# The sender MUST use a one-octet-long payload with the value
    //# 0xFF.  The receiver SHOULD ignore a received NAT-keepalive packet.
    if bytes == [0xff] {
        return Datagram::Keepalive;
    }
    match bytes.first_chunk::<NON_ESP_MARKER>() {
        Some([0, 0, 0, 0]) => Datagram::Ike,
        // An ESP packet has a sequence number too.
        Some(_) if bytes.len() > 8 => Datagram::Esp,
        _ => Datagram::Malformed,
    }
}

impl Plane {
    /// Reads one batch from a device and sends what becomes of it.
    pub(super) fn read_device(&mut self, slot: usize) {
        let Some(Some(device)) = self.tables.devices.get(slot) else {
            return;
        };
        let mut lost = false;
        while self.inner.len() < sys::BATCH {
            let mut packet = self.output.pool.take();
            match device.tun.read(packet.receive_area()) {
                Ok(len) => {
                    packet.set_len(len);
                    self.inner.push(packet);
                }
                Err(error) => {
                    self.output.pool.give(packet);
                    // Anything else but these means that the device is gone for good; leaving it in
                    // the epoll set would be a busy loop.
                    lost = !matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    );
                    break;
                }
            }
        }
        let if_id = device.if_id;
        self.counters.tun_received += self.inner.len() as u64;
        if lost {
            let name = device.tun.name().to_owned();
            warn!(name, "a TUN device of the user-space data plane is gone");
            self.tables.device_by_if_id.remove(&if_id);
            self.tables.devices[slot] = None;
            self.backlog
                .push_back(DataplaneEvent::DeviceLost { if_id, name });
        }
        self.core
            .outbound(Instant::now(), if_id, &mut self.inner, &mut self.output);
    }

    /// Reads one batch from a socket and delivers what becomes of it.
    pub(super) fn read_socket(&mut self, slot: usize) {
        let Some(Some(socket)) = self.tables.sockets.get_mut(slot) else {
            return;
        };
        let mut meta = [sys::Received::default(); sys::BATCH];
        let received = match self
            .scratch
            .receive(socket.as_fd(), &mut self.spare, &mut meta)
        {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error about something sent is reported once, here; reading on clears it.
                if !matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) {
                    self.counters.receive_failed += 1;
                }
                return;
            }
        };
        let kind = socket.kind;
        if let Some(dropped) = meta[..received].last().and_then(|last| last.dropped) {
            let news = dropped.wrapping_sub(mem::replace(&mut socket.dropped, dropped));
            self.counters.receive_overflow += u64::from(news);
        }
        match kind {
            Kind::Raw { .. } => self.counters.raw_received += received as u64,
            Kind::Udp { .. } | Kind::Peer { .. } => self.counters.udp_received += received as u64,
        }
        for (packet, meta) in self.spare.iter_mut().zip(&meta).take(received) {
            if meta.truncated {
                self.counters.truncated += 1;
                continue;
            }
            let arrival = match kind {
                Kind::Raw {
                    protocol,
                    v6: false,
                    ..
                } => {
                    let Some((source, destination, tos, start)) =
                        socket::raw_v4_parts(packet.bytes())
                    else {
                        self.counters.malformed += 1;
                        continue;
                    };
                    if protocol != Protocol::Ah {
                        let len = packet.len();
                        packet.narrow(start..len);
                    }
                    (protocol, destination.into(), source.into(), None, tos)
                }
                Kind::Raw {
                    protocol, v6: true, ..
                } => {
                    let (Some(local), Some(remote)) = (meta.local, meta.remote) else {
                        self.counters.unaddressed += 1;
                        continue;
                    };
                    if protocol == Protocol::Ah
                        && restore_header(packet, remote.ip(), local, meta.tos).is_none()
                    {
                        self.counters.malformed += 1;
                        continue;
                    }
                    (protocol, local, remote.ip(), None, meta.tos)
                }
                Kind::Udp { local } | Kind::Peer { local, .. } => {
                    // A socket bound to one address needs no packet info.
                    let address = meta.local.unwrap_or(local.ip());
                    let Some(remote) = meta.remote.filter(|_| !address.is_unspecified()) else {
                        self.counters.unaddressed += 1;
                        continue;
                    };
                    match classify(packet.bytes()) {
                        Datagram::Keepalive => {
                            self.counters.keepalives += 1;
                            continue;
                        }
                        Datagram::Malformed => {
                            self.counters.malformed += 1;
                            continue;
                        }
                        Datagram::Ike => {
                            let event = DataplaneEvent::Ike {
                                local: SocketAddr::new(address, local.port()),
                                remote,
                                bytes: packet.bytes()[NON_ESP_MARKER..].to_vec(),
                                stream: false,
                            };
                            match self.events.try_send(event) {
                                Ok(()) => self.counters.ike_received += 1,
                                Err(_) => self.counters.ike_dropped += 1,
                            }
                            continue;
                        }
                        Datagram::Esp => {
                            let ports = Ports {
                                kind: EncapKind::Udp,
                                local: local.port(),
                                remote: remote.port(),
                            };
                            (Protocol::Esp, address, remote.ip(), Some(ports), meta.tos)
                        }
                    }
                }
            };
            let (protocol, local, remote, ports, tos) = arrival;
            // The buffer goes with the packet; a free one takes its place.
            let packet = mem::replace(packet, self.output.pool.take());
            self.arrivals.push(Arrival {
                protocol,
                packet,
                local,
                remote,
                ports,
                tos,
            });
        }
        self.core
            .inbound(Instant::now(), &mut self.arrivals, &mut self.output);
    }
}

/// Puts in front of AH what a raw IPv6 socket does not show and the ICV covers. Extension headers it does not show either: the
/// ICV of what came behind some is wrong then. `None` if the packet would be too long.
fn restore_header(packet: &mut Packet, src: IpAddr, dst: IpAddr, tos: u8) -> Option<()> {
    let (storage, range) = packet.parts();
    let mut buffer = PacketBuffer::new(storage, range)?;
    let outer = OuterHeader {
        tos,
        ..OuterHeader::between(src, dst)
    };
    outer.restore(&mut buffer, IPPROTO_AH).ok()?;
    let range = buffer.range();
    packet.set_range(range);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_on_the_shared_port_are_told_apart() {
        //= rfc3948#2.3
        //= type=test
        //# The sender MUST use a one-octet-long payload with the value
        //# 0xFF.  The receiver SHOULD ignore a received NAT-keepalive packet.
        assert_eq!(classify(&[0xff]), Datagram::Keepalive);
        assert_eq!(classify(&[0, 0, 0, 0, 1]), Datagram::Ike);
        assert_eq!(classify(&[0, 0, 0, 0]), Datagram::Ike);
        assert_eq!(classify(&[0, 0, 1, 0, 0, 0, 0, 1, 9]), Datagram::Esp);
        for malformed in [
            &[][..],
            &[0xfe],
            &[0xff, 0xff],
            &[0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 1],
        ] {
            assert_eq!(classify(malformed), Datagram::Malformed, "{malformed:?}");
        }
    }
}
