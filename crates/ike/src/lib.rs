//! The IKEv2 protocol without I/O: endpoint, IKE SA, child SA, one module per exchange.
//!
//! An [`Endpoint`] is everything that one IKE daemon knows of the protocol (RFC 7296). Datagrams, the time, the
//! answers to its requests and user's wishes go in; datagrams, requests and events come out. It opens no
//! socket, reads no clock and draws no random numbers but from the [`Entropy`](cygnet_crypto::Entropy) it is given,
//! so that a whole network of endpoints runs in one test.
//!
//! After every call of [`Endpoint::handle`] or of a method that changes something, drain [`Endpoint::poll_output`], and
//! call [`Endpoint::handle`] with [`Input::Timeout`] when the time of [`Endpoint::next_timeout`] has come. Time must not
//! run backwards from one call to the next.
//!
//! * In and out: [`Input`], [`Output`], [`Request`], [`Answer`], [`Event`].
//! * Configuration: [`PeerConfig`], [`ChildConfig`], [`Directory`], [`EndpointConfig`], [`Identity`].
//! * Why: [`FailureReason`], [`CloseReason`], [`ChildFailure`], [`ChildCloseReason`], [`RejectReason`], [`DropReason`].
#![forbid(unsafe_code)]

mod aggfrag;
mod channel;
mod child;
mod config;
mod contents;
mod context;
mod cookie;
mod defence;
mod deleting;
mod describe;
mod endpoint;
mod errand;
mod established;
mod exchange;
mod fragment;
mod half_open;
mod identity;
mod info;
mod io;
mod ipcomp;
mod keepalive;
mod label;
mod liveness;
mod mode;
mod nat;
mod ppk;
mod proposal;
mod puzzle;
mod reason;
mod receive;
mod resource;
mod sa;
mod selectors;
mod stats;
mod stream;
mod succession;
mod ticket;
mod transport;
mod window;

pub use cygnet_wire::{Gateway, NoGateway};

pub use config::{
    AcceptRedirect, AuthMethod, ChildConfig, Childless, Directory, Encapsulation, EndpointConfig,
    Fragmentation, MIN_FRAGMENT_SIZE, PeerConfig, PuzzlePolicy, RetransmitPolicy, SendRedirect,
    Tcp, Uniqueness,
};
pub use defence::DefenceLevel;
pub use endpoint::Endpoint;
pub use exchange::ike_session_resume::ResumptionAuth;
pub use identity::{Identity, IdentityError, ParseIdentityError, PeerIdentity};
pub use info::{ChildSaInfo, IkeSaInfo, IkeSaState, NatSituation, Role};
pub use io::{
    AcquireHint, Answer, ChildInstall, ChildRequest, ChildSaId, Event, IkeKeyLog, IkeSaId, Input,
    Output, Refusal, RefusalKind, Request, RequestId, Reserved, Transmit,
};
pub use ppk::{Ppk, PpkPolicy};
pub use puzzle::{PUZZLE_DIFFICULTY, Puzzle};
pub use reason::{
    AuthFailure, ChildCloseReason, ChildFailure, CloseReason, FailureReason, Party, RejectReason,
};
pub use resource::Resource;
pub use selectors::{TsAddresses, TsTemplate};
pub use stats::{DropReason, Stats};
pub use ticket::{Ticket, TicketKey, TicketKeys, TicketRefusal};
pub use transport::Transport;
pub use window::MAX_WINDOW;
