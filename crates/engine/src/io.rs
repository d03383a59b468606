//! What goes into the engine and what comes out of it.
//!
//! Everything outside is a value: packets and events enter as [`Input`],
//! effects leave as [`Output`]. An effect whose outcome matters is a
//! [`Request`] with an id; its [`Answer`] comes back as an input whenever it
//! is ready, and only what waits for it waits.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cygnet_ike::{Transmit, Transport};
use cygnet_ipsec::{Command, CommandError, Mark, Reply, SaId, Selector};
use ipnet::IpNet;

use crate::event::Event;

/// Names a request until it is answered. Never used twice by one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Which databases a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Plane {
    /// The kernel's XFRM.
    Kernel,
    /// Cygnet's own data plane.
    Userspace,
}

/// What reaches the engine from outside.
#[derive(Debug)]
pub enum Input<'a> {
    /// An IKE message from an IKE socket or a stream, the non-ESP marker already removed.
    Datagram {
        /// Address and port it was sent to.
        local: SocketAddr,
        /// Where it came from.
        remote: SocketAddr,
        /// The IKE message.
        bytes: &'a [u8],
        /// What it came in.
        transport: Transport,
    },
    /// A stream is broken, or could not be opened (RFC 9329).
    StreamLost {
        /// Our address and port.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
    },
    /// The time that [`crate::Engine::next_timeout`] named has come.
    Timeout,
    /// The outcome of a request.
    Answer {
        /// Which request.
        id: RequestId,
        /// Its outcome.
        answer: Answer,
    },
    /// A plane speaks up: ACQUIRE, EXPIRE, MAPPING.
    PlaneEvent {
        /// Which one.
        plane: Plane,
        /// What happened.
        event: cygnet_ipsec::Event,
    },
    /// All SAs that a plane has, after events of it were lost.
    PlaneSas {
        /// Which one.
        plane: Plane,
        /// Its SAs.
        sas: Vec<SaId>,
    },
    /// The addresses of this host, all of them, at start and after each change.
    Addresses(Vec<IpAddr>),
    /// The routes changed: what had no route may have one now (S3.9).
    RoutesChanged,
}

/// What the engine wants done.
#[derive(Debug)]
pub enum Output {
    /// Send an IKE message.
    Transmit(Transmit),
    /// Keep a stream because an IKE SA uses it, or let it go because none does any more. What was transmitted is sent before
    /// it is closed.
    Stream {
        /// Our address and port.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
        /// It is in use.
        used: bool,
    },
    /// Do something and answer.
    Request {
        /// To be named in the answer.
        id: RequestId,
        /// What to do.
        request: Request,
    },
    /// Something worth telling; nothing needs to be done.
    Event(Event),
}

/// Something only the outside can do.
#[derive(Debug)]
pub enum Request {
    /// Run commands on a plane, in order, up to the first that fails.
    /// Answered by [`Answer::Executed`].
    Execute {
        /// Where.
        plane: Plane,
        /// What.
        commands: Vec<Command>,
    },
    /// Fence the traffic of a user-space connection in the kernel's SPD and
    /// lead it into the TUN device, or lead that of a route-based connection
    /// into its interface. Replaces a protection of the same name.
    /// Answered by [`Answer::Done`], or by [`Answer::Failed`]: what could be
    /// raised of the fence then stands all the same, until it is asked away.
    Protect(Protection),
    /// Take such a protection away again. Answered by [`Answer::Done`].
    Unprotect(ProtectionId),
    /// Solve a puzzle of a peer under load, which takes seconds of computing; nobody waits longer than `time`.
    /// Answered by [`Answer::Solution`].
    SolvePuzzle {
        /// The puzzle.
        puzzle: cygnet_ike::Puzzle,
        /// For how long a solution is of use.
        time: Duration,
    },
    /// Find addresses. Answered by [`Answer::Addresses`].
    Resolve(ResolveQuery),
}

/// The outcome of a request.
#[derive(Debug)]
pub enum Answer {
    /// One result per command that was tried; only the last can be an error.
    Executed(Vec<Result<Reply, CommandError>>),
    /// It is done.
    Done,
    /// The addresses asked for, best first; empty if there are none.
    Addresses(Vec<IpAddr>),
    /// What [`cygnet_ike::Puzzle::solve`] has found.
    Solution(Vec<u8>),
    /// It could not be done; the text is for people.
    Failed(String),
}

/// Names a [`Protection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProtectionId(pub u64);

/// What one connection needs beside policies and SAs. In user space the fence:
/// what it protects never passes in clear, and what it sends goes to the TUN
/// device. Route-based, its interface and the routes into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Its name.
    pub id: ProtectionId,
    /// Outbound selectors (source is ours); the inbound ones mirror them.
    pub selectors: Vec<Selector>,
    /// Networks reached through the TUN device.
    pub routes: Vec<IpNet>,
    /// Our side's networks, from which the preferred source address is chosen.
    pub local: Vec<IpNet>,
    /// Source addresses the user asked for; first of each family wins.
    pub source_ips: Vec<IpAddr>,
    /// MTU of the routes.
    pub mtu: Option<u32>,
    /// The interface of a route-based connection; `None`: the fence and the TUN device.
    pub interface: Option<InterfaceUse>,
}

/// An xfrm interface as a connection needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceUse {
    /// Its `if_id`; not 0.
    pub if_id: u32,
    /// Its name if it may be made where it is missing; `None`: it has to be there.
    pub name: Option<String>,
    /// Addresses that are to be on it.
    pub addresses: Vec<IpNet>,
    /// Where the protected packets go: never into the interface.
    pub peer: IpAddr,
    /// The mark that they carry.
    pub mark: Option<Mark>,
    /// Metric of the routes; 0: the kernel's default.
    pub metric: u32,
}

/// A question about addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ResolveQuery {
    /// Our source address toward a peer, or of the default route.
    DefaultRoute {
        /// The peer, if it has a literal address.
        toward: Option<IpAddr>,
    },
    /// The addresses of an interface.
    Interface(String),
    /// The addresses of a name.
    Name(String),
}
