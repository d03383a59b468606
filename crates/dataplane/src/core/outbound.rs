//! From clear packets to ESP and AH.

use std::time::Instant;

use cygnet_esp::{Fragments, PacketBuffer, SealError, icmp};
use cygnet_ipsec::fast::SaIndex;
use cygnet_ipsec::{
    Counter, Event, Expire, Flow, Limit, Outbound, OutboundDrop, OutboundPacket, Protocol,
};

use super::hold::Held;
use super::live::{Live, Transform};
use super::timer::Timer;
use super::{Core, Delivery, Output, Transmit};
use crate::packet::Packet;

/// Octets of an IPv6 header without extensions.
const IPV6_HEADER_LEN: usize = 40;

/// Whether a packet is seen for the first time, or comes from a hold queue and is counted already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Device,
    Held,
}

impl Core {
    /// Protects a batch of clear packets that the host has routed into the device of `if_id`.
    ///
    /// `packets` is emptied; every buffer ends in `output`: to be sent, as an ICMP error to be
    /// delivered, or in the pool; or it waits for its SA.
    pub fn outbound(
        &mut self,
        now: Instant,
        if_id: u32,
        packets: &mut Vec<Packet>,
        output: &mut Output,
    ) {
        for packet in packets.drain(..) {
            self.outbound_packet(now, if_id, packet, Origin::Device, output);
        }
        self.seal_run(now, output);
    }

    /// Looks up one packet. If it has an SA it joins the run of packets for that SA.
    pub(super) fn outbound_packet(
        &mut self,
        now: Instant,
        if_id: u32,
        packet: Packet,
        origin: Origin,
        output: &mut Output,
    ) {
        let Ok(flow) = Flow::from_packet(packet.bytes()) else {
            self.counters.not_ip += 1;
            output.pool.give(packet);
            return;
        };
        let resolution = self.db.output(&OutboundPacket {
            if_id,
            ..OutboundPacket::new(&flow)
        });
        for missing in &resolution.missing {
            if let Some(acquire) = self.db.sad.begin_acquire(now, missing) {
                self.events.push_back(Event::Acquire(acquire));
            }
        }
        match resolution.verdict {
            Outbound::Protect { policy, sas } => {
                self.use_policy(now, policy);
                let mut sas = sas.iter();
                match (sas.next(), sas.next(), sas.next()) {
                    (Some(sa), None, _) => self.join_run(now, None, sa, if_id, packet, output),
                    (Some(comp), Some(sa), None) => {
                        self.join_run(now, Some(comp), sa, if_id, packet, output);
                    }
                    // Policies with more templates are not accepted.
                    _ => self.drop_outbound(Counter::OutStateModeError, packet, output),
                }
            }
            Outbound::Drop(OutboundDrop::NoState { policy }) => {
                self.use_policy(now, policy);
                self.hold(policy, if_id, packet, origin, output);
            }
            Outbound::Drop(reason) => {
                for &counter in reason.counters() {
                    self.xfrm.increment(counter);
                }
                if reason == OutboundDrop::Default {
                    self.counters.no_policy += 1;
                }
                output.pool.give(packet);
            }
            Outbound::Clear { policy } => {
                if policy.is_some() {
                    self.counters.clear_refused += 1;
                } else {
                    self.counters.no_policy += 1;
                }
                output.pool.give(packet);
            }
        }
    }

    fn use_policy(&mut self, now: Instant, index: u32) {
        // Nearly never does a policy have a life of its own.
        if let Some((_, life)) = self.policy_lives.get_mut(&index) {
            life.on_use(now);
            if let Some(at) = life.deadline() {
                self.timers.set(at, Timer::Policy(index));
            }
        }
    }

    fn hold(
        &mut self,
        policy: u32,
        if_id: u32,
        packet: Packet,
        origin: Origin,
        output: &mut Output,
    ) {
        if origin == Origin::Device {
            self.xfrm.increment(Counter::OutNoStates);
            self.counters.held += 1;
        }
        let (each, total) = (self.config.held_per_policy, self.config.held_total);
        if let Err(packet) = self.held.hold(policy, Held { packet, if_id }, each, total) {
            self.counters.held -= 1;
            self.counters.held_full += 1;
            output.pool.give(packet);
        }
    }

    fn drop_outbound(&mut self, counter: Counter, packet: Packet, output: &mut Output) {
        self.xfrm.increment(counter);
        output.pool.give(packet);
    }

    /// Adds a packet to the run of its SA, after sealing the run of another, and after compressing it if another SA says so.
    fn join_run(
        &mut self,
        now: Instant,
        comp: Option<SaIndex>,
        sa: SaIndex,
        if_id: u32,
        mut packet: Packet,
        output: &mut Output,
    ) {
        if self.run_sa != Some(sa) {
            self.seal_run(now, output);
        }
        let Some(Transform::Out(out)) = self.live.get(sa).map(|live| &live.transform) else {
            self.drop_outbound(Counter::OutStateInvalid, packet, output);
            return;
        };
        let around = match comp.map(|comp| self.compression_overhead(comp)) {
            None => 0,
            Some(Some(around)) => around,
            Some(None) => return self.drop_outbound(Counter::OutStateInvalid, packet, output),
        };
        // The kernel writes the IP header of what a socket sends: it has no options and no extension
        // headers, so in transport mode they would be lost. Only AH over IPv4 brings its own.
        let own_header = out.protocol == Protocol::Ah && out.path.remote.is_ipv4();
        if out.transport && around == 0 && !own_header && has_options(packet.bytes()) {
            self.drop_outbound(Counter::OutStateModeError, packet, output);
            return;
        }
        // Before a sequence number is spent on it, and as if it could not be compressed.
        match out.esp.check_size_within(packet.bytes(), around) {
            Ok(()) => {
                if let Some(comp) = comp
                    && let Err(counter) = self.compress(now, comp, &mut packet, output)
                {
                    return self.drop_outbound(counter, packet, output);
                }
                self.run_sa = Some(sa);
                self.run.push(packet);
            }
            Err(SealError::TooBig { mtu }) => self.too_big(now, mtu, if_id, packet, output),
            Err(error) => self.drop_outbound(error.counter(), packet, output),
        }
    }

    /// Tells the sender of a packet that it must be smaller.
    fn too_big(
        &mut self,
        now: Instant,
        mtu: usize,
        if_id: u32,
        packet: Packet,
        output: &mut Output,
    ) {
        self.counters.too_big += 1;
        self.xfrm.increment(Counter::OutStateModeError);
        if !self.icmp.allow(now) {
            self.counters.icmp_limited += 1;
            output.pool.give(packet);
            return;
        }
        let mut answer = output.pool.take();
        // The error seems to come from the destination: of the addresses known here only that one
        // is sure to pass a reverse path filter on the device.
        let written = Flow::from_packet(packet.bytes()).ok().and_then(|flow| {
            icmp::too_big(packet.bytes(), mtu, flow.dst, answer.receive_area()).ok()
        });
        match written {
            Some(len) => {
                answer.set_len(len);
                output.deliveries.push(Delivery {
                    packet: answer,
                    if_id,
                });
            }
            // The packet is one that must not be answered, such as another ICMP error, or cannot be: to a group, say.
            None => output.pool.give(answer),
        }
        output.pool.give(packet);
    }

    /// Seals the packets collected so far under one block of sequence numbers (K4).
    pub(super) fn seal_run(&mut self, now: Instant, output: &mut Output) {
        let Some(sa) = self.run_sa.take() else { return };
        let Some(Live {
            transform: Transform::Out(out),
            life,
            ..
        }) = self.live.get_mut(sa)
        else {
            for packet in self.run.drain(..) {
                self.xfrm.increment(Counter::OutStateInvalid);
                output.pool.give(packet);
            }
            return;
        };
        let first_use = life.used().is_none();
        let wanted = u32::try_from(self.run.len()).unwrap_or(u32::MAX);
        // An error means that none is left; the loop counts the packets then.
        let mut numbers = out.esp.reserve(wanted).ok();
        let mut limit = None;
        for mut packet in self.run.drain(..) {
            match life.before_packet(now) {
                Some(Limit::Hard) => {
                    limit = Some(Limit::Hard);
                    self.xfrm.increment(Counter::OutStateExpired);
                    output.pool.give(packet);
                    continue;
                }
                Some(Limit::Soft) => limit = Some(Limit::Soft),
                None => {}
            }
            let Some(number) = numbers.as_mut().and_then(Iterator::next) else {
                self.xfrm.increment(Counter::OutStateSeqError);
                output.pool.give(packet);
                continue;
            };
            // What is larger than the path all the same, and was let pass, has to be fragmented outside:
            // IPv4 without DF, and IPv6 up to the size that every link must carry.
            let fits = packet.len() <= out.esp.max_inner();
            let (storage, range) = packet.parts();
            let sealed = PacketBuffer::new(storage, range).map(|mut buffer| {
                out.esp
                    .seal(number, &mut buffer)
                    .map(|sealed| (sealed, buffer.range()))
            });
            match sealed {
                Some(Ok((sealed, range))) => {
                    packet.set_range(range);
                    life.count(sealed.counted as u64);
                    let transmit = Transmit {
                        protocol: out.protocol,
                        packet,
                        path: out.path,
                        tos: sealed.outer.tos,
                        dont_fragment: sealed.outer.dont_fragment && fits,
                        mark: out.mark,
                    };
                    match out.protocol {
                        Protocol::Ah => {
                            if !transmit_ah(transmit, out.esp.path_mtu() as usize, output) {
                                self.xfrm.increment(Counter::OutStateModeError);
                            }
                        }
                        _ => output.transmits.push(transmit),
                    }
                }
                Some(Err(error)) => {
                    self.xfrm.increment(error.counter());
                    output.pool.give(packet);
                }
                None => {
                    self.xfrm.increment(Counter::OutError);
                    output.pool.give(packet);
                }
            }
        }
        self.after_use(sa, first_use, limit, output);
    }

    /// What the use of an SA has set off: a timer that runs from the first packet, an expiry.
    pub(super) fn after_use(
        &mut self,
        sa: SaIndex,
        first_use: bool,
        limit: Option<Limit>,
        output: &mut Output,
    ) {
        if first_use && let Some(at) = self.live.get(sa).and_then(|live| live.life.deadline()) {
            self.timers.set(at, Timer::Sa(sa));
        }
        if let Some(limit) = limit {
            self.sa_limit(sa, limit, output);
        }
    }

    /// An SA has reached a limit (K11): a soft one marks it as dying, a hard one ends it.
    pub(super) fn sa_limit(&mut self, sa: SaIndex, limit: Limit, output: &mut Output) {
        let Some(state) = self.db.sad.get(sa) else {
            return;
        };
        self.events.push_back(Event::Expire(Expire {
            sa: state.sa.id,
            src: state.sa.src,
            reqid: state.sa.reqid,
            hard: limit == Limit::Hard,
        }));
        match limit {
            Limit::Soft => self.db.sad.set_dying(sa, true),
            Limit::Hard => self.remove_sa(sa, output),
        }
    }
}

/// Queues a packet that AH protects, in fragments if it is too long for its path: of what brings its own IPv4 header the
/// kernel makes none. `false` if it had to be dropped.
fn transmit_ah(mut transmit: Transmit, path_mtu: usize, output: &mut Output) -> bool {
    let len = transmit.packet.len();
    if transmit.path.remote.is_ipv6() {
        // Of the header the kernel writes what the ICV covers just as it was.
        transmit.packet.narrow(IPV6_HEADER_LEN..len);
    } else if len > path_mtu {
        let Some(fragments) = Fragments::new(transmit.packet.bytes(), path_mtu) else {
            output.pool.give(transmit.packet);
            return false;
        };
        for (header, payload) in fragments {
            let mut packet = output.pool.take();
            let area = packet.receive_area();
            if let Some((front, rest)) = area.split_at_mut_checked(header.len())
                && let Some(rest) = rest.get_mut(..payload.len())
            {
                front.copy_from_slice(&header);
                rest.copy_from_slice(payload);
                packet.set_len(header.len() + payload.len());
            }
            output.transmits.push(Transmit {
                packet,
                dont_fragment: false,
                protocol: transmit.protocol,
                path: transmit.path,
                tos: transmit.tos,
                mark: transmit.mark,
            });
        }
        output.pool.give(transmit.packet);
        return true;
    }
    output.transmits.push(transmit);
    true
}

/// Whether an IPv4 header has options, or an IPv6 header is followed by extension headers.
fn has_options(packet: &[u8]) -> bool {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION_OPTIONS: u8 = 60;
    match packet.first().map(|first| first >> 4) {
        Some(4) => packet.first().is_some_and(|first| first & 0x0f != 5),
        _ => packet
            .get(6)
            .is_some_and(|next| matches!(*next, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS)),
    }
}
