//! IPComp inside ESP or AH: SAs in bundles of two, the one that compresses first (RFC 3173, K4, K8).

use std::net::IpAddr;
use std::time::Instant;

use cygnet_esp::{Deflate, IpComp, OpenError, PacketBuffer, SealError, ipcomp};
use cygnet_ipsec::fast::SaIndex;
use cygnet_ipsec::{Counter, InboundSpi, Limit, Mode, Protocol, Sa, SaDirection};
use hashbrown::HashMap;

use super::live::{Live, Transform};
use super::{Core, Output};
use crate::packet::Packet;

/// What IPComp SAs share.
#[derive(Debug, Default)]
pub(super) struct Compressing {
    /// Made with the first packet: most planes never need it.
    deflate: Option<Box<Deflate>>,
    /// Inbound IPComp tunnels by outer addresses and reqid: what they do not compress comes without an IPComp header.
    tunnels: HashMap<(IpAddr, IpAddr, u32), Vec<SaIndex>>,
}

impl Compressing {
    fn key(sa: &Sa) -> Option<(IpAddr, IpAddr, u32)> {
        let is_tunnel = sa.id.protocol == Protocol::Comp
            && sa.mode == Mode::Tunnel
            && sa.direction == SaDirection::In;
        is_tunnel.then_some((sa.src, sa.id.dst, sa.reqid))
    }

    /// Notes an SA that has come.
    pub(super) fn enter(&mut self, sa: &Sa, index: SaIndex) {
        if let Some(key) = Self::key(sa) {
            self.tunnels.entry(key).or_default().push(index);
        }
    }

    /// Notes that an SA goes.
    pub(super) fn leave(&mut self, sa: &Sa, index: SaIndex) {
        if let Some(key) = Self::key(sa)
            && let Some(indices) = self.tunnels.get_mut(&key)
        {
            indices.retain(|other| *other != index);
            if indices.is_empty() {
                self.tunnels.remove(&key);
            }
        }
    }
}

impl Core {
    /// How much smaller than what the SA around takes a packet must be, so that it fits even if it is not compressed.
    pub(super) fn compression_overhead(&self, sa: SaIndex) -> Option<usize> {
        match &self.live.get(sa)?.transform {
            Transform::Comp(comp) => Some(comp.outer_ip()),
            _ => None,
        }
    }

    /// Compresses an outbound packet, or not if that would not make it smaller.
    pub(super) fn compress(
        &mut self,
        now: Instant,
        sa: SaIndex,
        packet: &mut Packet,
        output: &mut Output,
    ) -> Result<(), Counter> {
        self.transform(now, sa, packet, output, |comp, buffer, deflate| {
            comp.compress(buffer, deflate)
                .map_err(|error: SealError| error.counter())
        })
    }

    /// Runs an IPComp SA on a packet, with its lifetime.
    fn transform(
        &mut self,
        now: Instant,
        sa: SaIndex,
        packet: &mut Packet,
        output: &mut Output,
        act: impl FnOnce(&IpComp, &mut PacketBuffer<'_>, &mut Deflate) -> Result<usize, Counter>,
    ) -> Result<(), Counter> {
        let outbound = self
            .db
            .sad
            .get(sa)
            .is_some_and(|entry| entry.sa.direction == SaDirection::Out);
        let (invalid, expired) = match outbound {
            true => (Counter::OutStateInvalid, Counter::OutStateExpired),
            false => (Counter::InStateInvalid, Counter::InStateExpired),
        };
        let Some(Live {
            transform: Transform::Comp(comp),
            life,
            ..
        }) = self.live.get_mut(sa)
        else {
            return Err(invalid);
        };
        let deflate = self.ipcomp.deflate.get_or_insert_default();
        let first_use = life.used().is_none();
        let limit = life.before_packet(now);
        let outcome = if limit == Some(Limit::Hard) {
            Err(expired)
        } else {
            let (storage, range) = packet.parts();
            match PacketBuffer::new(storage, range) {
                Some(mut buffer) => {
                    let outcome = act(comp, &mut buffer, deflate);
                    let range = buffer.range();
                    packet.set_range(range);
                    outcome
                }
                None => Err(invalid),
            }
        };
        if let Ok(counted) = outcome {
            life.count(counted as u64);
        }
        self.after_use(sa, first_use, limit, output);
        outcome.map(drop)
    }

    /// Decompresses what an SA of ESP or AH in transport mode has opened, if it is compressed, or takes an IPComp tunnel's header
    /// off. The IPComp SA that has done it is part of the secpath; one that had nothing to decompress is not (K9).
    pub(super) fn decompress(
        &mut self,
        now: Instant,
        around: SaIndex,
        packet: &mut Packet,
        output: &mut Output,
    ) -> Result<Option<SaIndex>, Counter> {
        let Some(sa) = self.db.sad.get(around).map(|entry| &entry.sa) else {
            return Err(Counter::InStateInvalid);
        };
        if sa.mode != Mode::Transport {
            return Ok(None);
        }
        let encapsulated = sa.encap.is_some();
        let Some(cpi) = ipcomp::cpi(packet.bytes()) else {
            let tunnels = self.ipcomp.tunnels.get(&(sa.src, sa.id.dst, sa.reqid));
            let tunnel = tunnels.and_then(|indices| indices.last().copied());
            let Some(tunnel) = tunnel.filter(|_| ipcomp::is_encapsulated(packet.bytes())) else {
                return Ok(None);
            };
            self.transform(now, tunnel, packet, output, |comp, buffer, _| {
                let counted = buffer.len();
                comp.decapsulate(buffer).map(|()| counted).map_err(counter)
            })?;
            return Ok(None);
        };
        let comp = self.db.sad.accept_inbound(&InboundSpi {
            dst: sa.id.dst,
            spi: cpi.into(),
            protocol: Protocol::Comp,
            mark: 0,
            encap: None,
        })?;
        self.transform(now, comp, packet, output, |comp, buffer, deflate| {
            let counted = comp.decompress(buffer, deflate).map_err(counter)?;
            if encapsulated {
                comp.rewrite_checksum(buffer);
            }
            Ok(counted)
        })?;
        Ok(Some(comp))
    }
}

fn counter(error: OpenError) -> Counter {
    error.counter().unwrap_or(Counter::InStateProtoError)
}
