//! From ESP and AH to clear packets.

use std::net::SocketAddr;
use std::time::Instant;

use cygnet_esp::{OpenError, OuterHeader, PacketBuffer};
use cygnet_ipsec::fast::SaIndex;
use cygnet_ipsec::{
    Counter, Direction, EncapKind, Event, Flow, Inbound, InboundPacket, InboundSpi, Limit, Mapping,
};

use super::live::Transform;
use super::{Arrival, Core, Delivery, Output};

/// IANA protocol numbers of ICMP for IPv4 and IPv6.
const ICMP: [u8; 2] = [1, 58];

impl Core {
    /// Opens a batch of received packets.
    ///
    /// `arrivals` is emptied; every buffer ends in `output`: to be delivered, or in the pool.
    pub fn inbound(&mut self, now: Instant, arrivals: &mut Vec<Arrival>, output: &mut Output) {
        for arrival in arrivals.drain(..) {
            self.inbound_packet(now, arrival, output);
        }
    }

    /// Opens one packet and checks it against the policies.
    pub(super) fn inbound_packet(
        &mut self,
        now: Instant,
        mut arrival: Arrival,
        output: &mut Output,
    ) {
        let counter = match self.open(now, &mut arrival, output) {
            Ok((sa, comp)) => match self.check_policy(sa, comp, arrival.packet.bytes()) {
                Ok(if_id) => {
                    return output.deliveries.push(Delivery {
                        packet: arrival.packet,
                        if_id,
                    });
                }
                Err(Counter::InNoPols) if self.is_settling(sa, now) => {
                    return self.hold_opened(now, sa, comp, arrival.packet, output);
                }
                Err(counter) => Some(counter),
            },
            Err(Some(Counter::AcquireError)) => return self.hold_sealed(now, arrival, output),
            Err(counter) => counter,
        };
        if let Some(counter) = counter {
            self.xfrm.increment(counter);
        }
        output.pool.give(arrival.packet);
    }

    /// Opens one packet; the SAs that have done it, the second one if it was compressed. `Err(None)` is a drop that is no
    /// error of XFRM's.
    fn open(
        &mut self,
        now: Instant,
        arrival: &mut Arrival,
        output: &mut Output,
    ) -> Result<(SaIndex, Option<SaIndex>), Option<Counter>> {
        let spi = arrival.spi().ok_or(Counter::InHdrError)?;
        let sa = self.db.sad.accept_inbound(&InboundSpi {
            dst: arrival.local,
            spi,
            protocol: arrival.protocol,
            // The mark of a received packet stays in the kernel.
            mark: 0,
            encap: arrival.ports.map(|ports| ports.kind),
        })?;
        let Some(live) = self.live.get_mut(sa) else {
            return Err(Some(Counter::InStateInvalid));
        };
        let Transform::In(inbound) = &mut live.transform else {
            return Err(Some(Counter::InStateDirError));
        };

        let first_use = live.life.used().is_none();
        let limit = live.life.before_packet(now);
        if limit == Some(Limit::Hard) {
            self.after_use(sa, first_use, limit, output);
            return Err(Some(Counter::InStateExpired));
        }
        let outer = OuterHeader {
            tos: arrival.tos,
            ..OuterHeader::between(arrival.remote, arrival.local)
        };
        let (storage, range) = arrival.packet.parts();
        let mut buffer = PacketBuffer::new(storage, range).ok_or(Counter::InError)?;
        let opened = match inbound.esp.open(&mut buffer, &outer) {
            Ok(opened) => opened,
            Err(error) => {
                live.count_failure(&error);
                if error == OpenError::Dummy {
                    self.counters.dummies += 1;
                }
                self.after_use(sa, first_use, limit, output);
                return Err(error.counter());
            }
        };
        let range = buffer.range();
        arrival.packet.set_range(range);
        live.life.count(opened.counted as u64);
        self.observe_peer(sa, opened.sequence, arrival);
        self.after_use(sa, first_use, limit, output);
        let comp = self.decompress(now, sa, &mut arrival.packet, output)?;
        Ok((sa, comp))
    }

    /// Reports when the packets of a peer behind a NAT begin to come from elsewhere (K14).
    fn observe_peer(&mut self, index: SaIndex, sequence: u64, arrival: &Arrival) {
        // Over which stream the peer is heard, IKE decides.
        let Some(ports) = arrival.ports.filter(|p| p.kind == EncapKind::Udp) else {
            return;
        };
        let Some(sa) = self.db.sad.get(index).map(|entry| &entry.sa) else {
            return;
        };
        let Some(encap) = sa.encap else { return };
        let Some(live) = self.live.get_mut(index) else {
            return;
        };
        let Transform::In(inbound) = &mut live.transform else {
            return;
        };
        let old = SocketAddr::new(sa.src, encap.remote_port);
        let seen = SocketAddr::new(arrival.remote, ports.remote);
        if let Some(new) = inbound.observe(sequence, old, seen) {
            self.counters.mappings += 1;
            self.events.push_back(Event::Mapping(Mapping {
                sa: sa.id,
                reqid: sa.reqid,
                old,
                new,
            }));
        }
    }

    /// K9. Whether the packet is for this host or to be forwarded is decided by the host's routing
    /// behind the device, so a policy of either kind admits it; where both exist, `In` decides. The
    /// kernel's own policies on the device come after.
    pub(super) fn check_policy(
        &self,
        index: SaIndex,
        comp: Option<SaIndex>,
        packet: &[u8],
    ) -> Result<u32, Counter> {
        let sa = &self.db.sad.get(index).ok_or(Counter::InStateInvalid)?.sa;
        let flow = Flow::from_packet(packet).map_err(|_| Counter::InHdrError)?;
        let quoted = ICMP
            .contains(&flow.protocol)
            .then(|| Flow::quoted_in(packet))
            .flatten();
        let comp = comp.map(|comp| self.db.sad.get(comp).ok_or(Counter::InStateInvalid));
        let comp = comp.transpose()?.map(|entry| &entry.sa);
        let both = [sa, comp.unwrap_or(sa)];
        let secpath = if comp.is_some() {
            &both[..]
        } else {
            &both[..1]
        };
        let inbound = InboundPacket {
            quoted: quoted.as_ref(),
            if_id: sa.if_id,
            ..InboundPacket::opened(&flow, secpath)
        };
        let mut verdict = self.db.check(Direction::In, &inbound);
        if verdict == Inbound::Drop(Counter::InNoPols) {
            verdict = self.db.check(Direction::Fwd, &inbound);
        }
        match verdict {
            Inbound::Accept { .. } => Ok(sa.if_id),
            Inbound::Drop(counter) => Err(counter),
        }
    }
}
