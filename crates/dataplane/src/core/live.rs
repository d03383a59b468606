//! What acts behind a valid SA: its cipher, its clock, its counters.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use cygnet_esp::{Inbound, IpComp, OpenError, Outbound, SaError};
use cygnet_ipsec::fast::SaIndex;
use cygnet_ipsec::{
    CommandError, LifetimeState, Mark, Mode, Protocol, ReplayError, Sa, SaCounters, SaDirection,
    SkipSequence,
};

use super::{Path, Ports};

/// The outbound half.
#[derive(Debug)]
pub(super) struct LiveOut {
    pub(super) esp: Outbound,
    pub(super) path: Path,
    pub(super) mark: Option<Mark>,
    pub(super) transport: bool,
    pub(super) protocol: Protocol,
}

/// The inbound half.
#[derive(Debug)]
pub(super) struct LiveIn {
    pub(super) esp: Inbound,
    /// The highest sequence number seen: only packets that raise it tell where the peer is now.
    highest: u64,
    /// The peer's address as last reported, while it differs from the SA's.
    reported: Option<SocketAddr>,
}

/// The transform of an SA.
#[derive(Debug)]
pub(super) enum Transform {
    Out(LiveOut),
    In(LiveIn),
    /// IPComp, either way.
    Comp(IpComp),
}

/// An SA at work.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) transform: Transform,
    pub(super) life: LifetimeState,
    /// Its SPI was given out before: its policies come after it, if they are not there.
    pub(super) negotiated: bool,
    replay_window: u32,
    replay: u32,
    integrity_failed: u32,
}

impl Live {
    /// Sets up the transform of an SA.
    ///
    /// # Errors
    ///
    /// The SA is one that this plane cannot do, or its keys do not fit its algorithms.
    pub(super) fn new(sa: &Sa, now: Instant) -> Result<Self, CommandError> {
        Ok(Self {
            transform: Transform::new(sa)?,
            life: LifetimeState::new(sa.lifetime, now),
            negotiated: false,
            replay_window: 0,
            replay: 0,
            integrity_failed: 0,
        })
    }

    /// Follows an update of the SA: sequence numbers, replay window and counters go on. `sa` has the
    /// keys that it had before.
    pub(super) fn update(&mut self, sa: &Sa) -> Result<(), CommandError> {
        self.replace(Transform::new(sa)?);
        self.life.update(sa.lifetime);
        Ok(())
    }

    /// Leaves sequence numbers out.
    pub(super) fn skip_sequence(
        &self,
        request: &SkipSequence,
        esn: bool,
    ) -> Result<(), CommandError> {
        let Transform::Out(out) = &self.transform else {
            return Err(CommandError::NotFound);
        };
        let last = request.after(out.esp.last_sequence(), esn)?;
        out.esp.resume_after(last);
        Ok(())
    }

    /// Puts the transform of the same SA, changed, into the place of the one that works until now.
    /// Of an outbound SA the former path is returned.
    pub(super) fn replace(&mut self, transform: Transform) -> Option<Path> {
        match (&mut self.transform, transform) {
            (Transform::Out(now), Transform::Out(next)) => {
                // A number used twice with one key would give the key away.
                next.esp.resume_after(now.esp.last_sequence());
                next.esp.set_path_mtu(now.esp.path_mtu());
                let path = now.path;
                *now = next;
                Some(path)
            }
            (Transform::In(now), Transform::In(mut next)) => {
                next.esp.resume_with(now.esp.replay().clone());
                // Packets from before the change, that come only now, still say nothing.
                next.highest = now.highest;
                *now = next;
                None
            }
            (Transform::Comp(now), Transform::Comp(next)) => {
                *now = next;
                None
            }
            // Neither the direction nor the protocol of an SA changes.
            _ => None,
        }
    }

    pub(super) fn counters(&self) -> SaCounters {
        SaCounters {
            bytes: self.life.bytes(),
            packets: self.life.packets(),
            added: Some(self.life.added()),
            used: self.life.used(),
            replay_window: self.replay_window,
            replay: self.replay,
            integrity_failed: self.integrity_failed,
        }
    }

    /// Counts a packet that could not be opened.
    pub(super) fn count_failure(&mut self, error: &OpenError) {
        match error {
            OpenError::NotAuthentic => {
                self.integrity_failed = self.integrity_failed.saturating_add(1)
            }
            OpenError::Replay(ReplayError::Replayed) => self.replay = self.replay.saturating_add(1),
            OpenError::Replay(_) => self.replay_window = self.replay_window.saturating_add(1),
            _ => {}
        }
    }
}

impl Transform {
    /// Of an SA whose numbers begin anew.
    ///
    /// # Errors
    ///
    /// The SA is one that this plane cannot do, or its keys do not fit its algorithms.
    pub(super) fn new(sa: &Sa) -> Result<Self, CommandError> {
        if sa.id.protocol == Protocol::Comp {
            return Ok(Self::Comp(IpComp::new(sa).map_err(refusal)?));
        }
        Ok(match sa.direction {
            SaDirection::Out => Self::Out(LiveOut {
                esp: Outbound::new(sa).map_err(refusal)?,
                path: path(sa),
                mark: sa.set_mark,
                transport: sa.mode == Mode::Transport,
                protocol: sa.id.protocol,
            }),
            SaDirection::In => Self::In(LiveIn {
                esp: Inbound::new(sa).map_err(refusal)?,
                highest: 0,
                reported: None,
            }),
        })
    }
}

impl LiveIn {
    /// Learns from an authentic packet where the peer is; the address to report if that is news.
    ///
    /// Packets that arrive out of order or late say nothing: they may have taken an older mapping.
    pub(super) fn observe(
        &mut self,
        sequence: u64,
        configured: SocketAddr,
        seen: SocketAddr,
    ) -> Option<SocketAddr> {
        if sequence <= self.highest {
            return None;
        }
        self.highest = sequence;
        if seen == configured {
            self.reported = None;
            return None;
        }
        (self.reported.replace(seen) != Some(seen)).then_some(seen)
    }
}

fn path(sa: &Sa) -> Path {
    let ports = sa.encap.map(|encap| Ports {
        kind: encap.kind,
        local: encap.local_port,
        remote: encap.remote_port,
    });
    Path {
        local: sa.src,
        remote: sa.id.dst,
        ports,
    }
}

fn refusal(error: SaError) -> CommandError {
    match error {
        SaError::Protocol(_) | SaError::Mode(_) => CommandError::Unsupported(error.to_string()),
        _ => CommandError::Invalid(error.to_string()),
    }
}

/// The live SAs by their place in the SAD.
#[derive(Debug, Default)]
pub(super) struct LiveTable {
    slots: Vec<Option<Box<Live>>>,
}

impl LiveTable {
    pub(super) fn insert(&mut self, index: SaIndex, live: Box<Live>) {
        let index = index.get();
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index] = Some(live);
    }

    pub(super) fn remove(&mut self, index: SaIndex) -> Option<Box<Live>> {
        self.slots.get_mut(index.get())?.take()
    }

    pub(super) fn get(&self, index: SaIndex) -> Option<&Live> {
        self.slots.get(index.get())?.as_deref()
    }

    pub(super) fn get_mut(&mut self, index: SaIndex) -> Option<&mut Live> {
        self.slots.get_mut(index.get())?.as_deref_mut()
    }

    /// Tells all SAs of a path its MTU.
    pub(super) fn set_path_mtu(&mut self, local: IpAddr, remote: IpAddr, mtu: usize) {
        for live in self.slots.iter().flatten() {
            if let Transform::Out(out) = &live.transform
                && (out.path.local, out.path.remote) == (local, remote)
            {
                out.esp.set_path_mtu(u32::try_from(mtu).unwrap_or(u32::MAX));
            }
        }
    }
}
