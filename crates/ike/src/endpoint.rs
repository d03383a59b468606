//! All IKE SAs of one daemon.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use cygnet_crypto::{Entropy, KeyExchangeProvider};

use crate::config::{Directory, EndpointConfig, PeerConfig};
use crate::info::{ChildSaInfo, IkeSaInfo};
use crate::io::{ChildRequest, ChildSaId, IkeSaId, Input, Output};
use crate::stats::Stats;

/// All IKE SAs of one daemon.
pub struct Endpoint {
    config: EndpointConfig,
    directory: Arc<dyn Directory>,
    key_exchange: Arc<dyn KeyExchangeProvider>,
    entropy: Box<dyn Entropy + Send>,
    output: VecDeque<Output>,
    stats: Stats,
    next_id: u64,
}

impl Endpoint {
    /// An endpoint without any SA.
    pub fn new(
        config: EndpointConfig,
        directory: Arc<dyn Directory>,
        key_exchange: Arc<dyn KeyExchangeProvider>,
        entropy: Box<dyn Entropy + Send>,
    ) -> Self {
        Self {
            config,
            directory,
            key_exchange,
            entropy,
            output: VecDeque::new(),
            stats: Stats::default(),
            next_id: 0,
        }
    }

    /// Replaces the configuration that responders look things up in. Existing SAs keep theirs.
    pub fn set_directory(&mut self, directory: Arc<dyn Directory>) {
        self.directory = directory;
    }

    /// Takes in what happened outside.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        let _ = (now, input);
    }

    /// Begins an IKE SA with a peer, and under it a first child SA if one is asked for.
    pub fn initiate(
        &mut self,
        now: Instant,
        peer: Arc<PeerConfig>,
        child: Option<ChildRequest>,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> IkeSaId {
        let _ = (
            now,
            peer,
            child,
            local,
            remote,
            &self.config,
            &self.key_exchange,
            &mut self.entropy,
        );
        self.next_id += 1;
        IkeSaId(self.next_id)
    }

    /// Deletes a child SA. Does nothing if there is none of that name.
    pub fn delete_child(&mut self, now: Instant, child: ChildSaId) {
        let _ = (now, child);
    }

    /// Deletes an IKE SA and its child SAs. Does nothing if there is none of that name.
    pub fn delete_ike(&mut self, now: Instant, ike: IkeSaId) {
        let _ = (now, ike);
    }

    /// Asks the peer for a sign of life. Does nothing if there is no established SA of that name, or an answer is
    /// awaited already.
    pub fn check_liveness(&mut self, now: Instant, ike: IkeSaId) {
        let _ = (now, ike);
    }

    /// The next thing to do outside; `None` when there is nothing more.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// When [`Input::Timeout`] is due; `None`: never.
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// An IKE SA.
    pub fn ike_sa(&self, ike: IkeSaId) -> Option<IkeSaInfo> {
        let _ = ike;
        None
    }

    /// All IKE SAs that have not ended, oldest first.
    pub fn ike_sas(&self) -> impl Iterator<Item = IkeSaInfo> + '_ {
        std::iter::empty()
    }

    /// A child SA that is installed.
    pub fn child_sa(&self, child: ChildSaId) -> Option<ChildSaInfo> {
        let _ = child;
        None
    }

    /// All child SAs that are installed, oldest first.
    pub fn child_sas(&self) -> impl Iterator<Item = ChildSaInfo> + '_ {
        std::iter::empty()
    }

    /// What has been counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}
