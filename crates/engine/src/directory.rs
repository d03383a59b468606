//! The configuration as the IKE responder sees it: a snapshot that answers
//! "who could this be" and "which key".
//!
//! An ipsec.conf connection is one IKE half and one child half. Connections
//! whose IKE halves say the same are one peer with several children here, so
//! that whichever traffic selectors the peer asks for find their child.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use cygnet_crypto::SecretBytes;
use cygnet_ike::{ChildConfig, Directory, Identity, PeerConfig, PeerIdentity, Ppk};
use cygnet_ipsec::{Mode, PlaneFeatures};

use crate::connection::{Connection, ConnectionKind, HostEnd, IKE_PORT, Setup};
use crate::connection_state::ConnectionId;
use crate::ikes::{PeerKey, peer_key};
use crate::orient::Orientation;
use crate::secrets::{SecretEntry, Secrets};

/// One load's worth of answers.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    peers: Vec<Arc<PeerConfig>>,
    /// Those that may be the same peer, by what differs most.
    similar: HashMap<PeerKey, Vec<usize>>,
    secrets: Arc<Secrets>,
}

impl Snapshot {
    pub(crate) fn new<'a>(
        peers: impl IntoIterator<Item = &'a Arc<PeerConfig>>,
        secrets: Arc<Secrets>,
    ) -> Self {
        let mut merged: Vec<Arc<PeerConfig>> = Vec::new();
        let mut similar: HashMap<_, Vec<usize>> = HashMap::new();
        for peer in peers {
            let similar = similar.entry(peer_key(peer)).or_default();
            let is_same = |at: &usize| merged.get(*at).is_some_and(|m| same_peer(m, peer));
            match similar
                .iter()
                .copied()
                .find(is_same)
                .and_then(|at| merged.get_mut(at))
            {
                Some(known) => Arc::make_mut(known)
                    .children
                    .extend(peer.children.iter().cloned()),
                None => {
                    similar.push(merged.len());
                    merged.push(peer.clone());
                }
            }
        }
        Self {
            peers: merged,
            similar,
            secrets,
        }
    }

    /// The same peer with the children of all connections that share its IKE SA.
    pub(crate) fn merged(&self, peer: &PeerConfig) -> Option<&Arc<PeerConfig>> {
        let similar = self.similar.get(&peer_key(peer))?.iter();
        let mut known = similar.filter_map(|at| self.peers.get(*at));
        known.find(|known| same_peer(known, peer))
    }
}

/// Whether two configurations differ in nothing but name and children.
pub(crate) fn same_peer(a: &PeerConfig, b: &PeerConfig) -> bool {
    let bare = |p: &PeerConfig| PeerConfig {
        name: String::new(),
        children: Vec::new(),
        ..p.clone()
    };
    bare(a) == bare(b)
}

impl Directory for Snapshot {
    fn candidates(&self, local: SocketAddr, remote: SocketAddr) -> Vec<Arc<PeerConfig>> {
        // An address counts more than any address; the order of the files decides among equals.
        let covers = |list: &[IpAddr], address: IpAddr| {
            if list.is_empty() {
                Some(0u8)
            } else {
                list.contains(&address).then_some(1)
            }
        };
        let mut found: Vec<(u8, &Arc<PeerConfig>)> = self
            .peers
            .iter()
            .filter_map(|p| {
                Some((
                    covers(&p.remote, remote.ip())? * 2 + covers(&p.local, local.ip())?,
                    p,
                ))
            })
            .collect();
        found.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        found.into_iter().map(|(_, p)| p.clone()).collect()
    }

    fn psk(
        &self,
        local: &Identity,
        remote: &Identity,
        local_address: IpAddr,
        remote_address: IpAddr,
    ) -> Option<SecretBytes> {
        self.secrets
            .psk(local, remote, local_address, remote_address)
            .ok()
            .map(|e| e.secret.clone())
    }

    fn ppks(&self, config: &PeerConfig) -> Vec<Ppk> {
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let address = |list: &[IpAddr]| list.first().copied().unwrap_or(unspecified);
        let remote = config.remote_id.exact();
        let entries = self.secrets.ppks(
            &config.ppk_ids,
            (&config.local_id, address(&config.local)),
            remote.map(|id| (id, address(&config.remote))),
        );
        let ppk = |entry: &SecretEntry| Ppk {
            id: entry.name.clone(),
            key: entry.secret.clone(),
        };
        entries.into_iter().map(ppk).collect()
    }
}

/// The two halves of a connection as `ike` wants them.
pub(crate) fn build(
    id: ConnectionId,
    connection: &Connection,
    orientation: &Orientation,
    setup: &Setup,
    features: Option<&PlaneFeatures>,
    cpus: u32,
) -> (Arc<PeerConfig>, Arc<ChildConfig>) {
    let (local, remote) = orientation.ends(connection);
    let has_iptfs = features.is_some_and(|f| f.iptfs);
    let iptfs = connection.child.iptfs.filter(|_| has_iptfs);
    let child = Arc::new(ChildConfig {
        name: connection.name.clone(),
        protocol: connection.child.protocol,
        proposals: connection.child.proposals.value.clone(),
        additional_of_ike: connection.child.additional_of_ike,
        mode: connection.kind.mode().unwrap_or(Mode::Tunnel),
        local_ts: local.subnets.clone(),
        remote_ts: remote.subnets.clone(),
        label: connection.child.label.clone(),
        compress: connection.child.compress && features.is_some_and(|f| f.ipcomp),
        iptfs: iptfs.is_some(),
        clones: match (features.is_some_and(|f| f.per_cpu), connection.child.clones) {
            (false, _) => 0,
            (true, u32::MAX) => cpus,
            (true, clones) => clones,
        },
        refuse_fragments: iptfs.is_some_and(|iptfs| iptfs.dont_fragment),
        refuse_tfc: connection.child.refuse_tfc,
        single_pair: false,
        replay_window: connection.child.replay_window,
        // The engine draws the soft limits anew for each SA.
        lifetimes: cygnet_ipsec::Lifetime::UNLIMITED,
        tag: id.0,
    });
    let peer = Arc::new(PeerConfig {
        name: connection.name.clone(),
        local_id: identity(local, Some(orientation.local))
            .unwrap_or_else(|| Identity::from(orientation.local)),
        remote_id: match identity(remote, orientation.remote) {
            Some(id) => PeerIdentity::Exactly(id),
            None => PeerIdentity::Any,
        },
        proposals: connection.ike.proposals.value.clone(),
        intermediate: connection.ike.intermediate,
        // Without it strongSwan does not take the notification of BEET mode, whose number is for private use.
        fake_strongswan: connection.ike.fake_strongswan || connection.kind == ConnectionKind::Beet,
        ppk: connection.ike.ppk,
        ppk_ids: connection.ike.ppk_ids.clone(),
        auth: connection.ike.auth,
        local: vec![orientation.local],
        remote: orientation.remote.into_iter().collect(),
        local_port: IKE_PORT,
        remote_port: IKE_PORT,
        retransmit: connection.ike.retransmit.clone(),
        liveness: connection.ike.liveness,
        tcp: connection.ike.tcp,
        tcp_remote_port: connection.ike.tcp_remote_port,
        force_encapsulation: connection.ike.encapsulation,
        fragmentation: connection.ike.fragmentation,
        fragment_size: connection.ike.fragment_size,
        mobike: connection.ike.mobike && connection.kind.can_move(),
        window: connection.ike.window,
        nat_keepalive: connection.ike.nat_keepalive,
        childless: connection.ike.childless,
        children: vec![child.clone()],
        lifetime: Some(connection.ike.lifetime),
        auth_lifetime: connection.ike.reauth.then_some(connection.ike.lifetime),
        uniqueness: setup.uniqueness,
        initial_contact: connection.ike.initial_contact,
        crash_detection: connection.ike.crash_detection,
        message_id_sync: connection.ike.message_id_sync,
        replay_counter_sync: connection.ike.replay_counter_sync,
        resumption: connection.ike.resumption,
        accept_redirect: connection.ike.accept_redirect.clone(),
        send_redirect: connection.ike.send_redirect,
        redirect_to: connection.ike.redirect_to.clone(),
    });
    (peer, child)
}

fn identity(end: &HostEnd, address: Option<IpAddr>) -> Option<Identity> {
    end.id
        .as_ref()
        .map(|id| id.value.clone())
        .or_else(|| address.map(Identity::from))
}
