//! Child SAs of single CPUs: several with the same selectors under one IKE SA, each with keys and sequence numbers of its
//! own (RFC 9611).
//!
//! The first one is for all packets that have no other; SA_RESOURCE_INFO in it, from both ends, says that there may be
//! more. Those are for one CPU each, and each end has them on CPUs of its own.

use cygnet_wire::{Notify, NotifyType, PayloadWriter};

use crate::child::{ChildState, Chosen};
use crate::contents::Contents;
use crate::errand::Current;
use crate::established::Established;
use crate::info::Role;

/// What one of several child SAs with the same selectors is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// For all packets that have no other: there may be more child SAs beside it.
    Fallback,
    /// For the packets of this CPU. `None`: for none in particular, since all CPUs have one.
    Cpu(Option<u32>),
}

impl Resource {
    /// Its CPU, if it has one.
    pub fn cpu(self) -> Option<u32> {
        match self {
            Self::Fallback => None,
            Self::Cpu(cpu) => cpu,
        }
    }
}

/// Says what a child SA is for. The data helps who looks for faults, and no more.
pub(crate) fn announce(resource: Resource, payloads: &mut PayloadWriter<'_>) {
    let cpu = resource.cpu().map(u32::to_be_bytes);
    let data = cpu.as_ref().map_or(&[][..], |cpu| &cpu[..]);
    payloads.notify(&Notify::new(NotifyType::SA_RESOURCE_INFO, data));
}

/// Whether the peer speaks of it.
pub(crate) fn is_said(contents: &Contents<'_>) -> bool {
    contents.has(NotifyType::SA_RESOURCE_INFO)
}

/// What the child SA is for that a peer asks for: the first, or one for a CPU of ours that has none yet, of `cpus`. `None` if
/// there are as many as there may be.
pub(crate) fn place(
    chosen: &Chosen,
    established: &Established,
    role: Role,
    cpus: u32,
) -> Option<Resource> {
    let children = established
        .children
        .iter()
        .filter(|child| !child.is_doomed() && !matches!(child.state, ChildState::Replaced))
        .filter(|child| chosen.serves_the_same(&child.agreed))
        .filter_map(|child| child.agreed.resource);
    // Both ends may ask for the last one at the same time: that of the IKE SA's initiator has it.
    let asked_for = established
        .current
        .as_ref()
        .and_then(Current::begins)
        .filter(|wanted| role == Role::Initiator && wanted.config.tag == chosen.config.tag)
        .and_then(|wanted| wanted.resource)
        .filter(|resource| matches!(resource, Resource::Cpu(_)));
    let taken: Vec<Resource> = children.chain(asked_for).collect();
    if taken.is_empty() {
        return Some(Resource::Fallback);
    }
    let is_taken = |cpu: &u32| taken.contains(&Resource::Cpu(Some(*cpu)));
    let limit = usize::try_from(chosen.config.clones).unwrap_or(usize::MAX);
    (taken.len() <= limit).then(|| Resource::Cpu((0..cpus).rev().find(|cpu| !is_taken(cpu))))
}
