//! NAT detection (RFC 7296 §2.23).

use std::net::SocketAddr;

use cygnet_crypto::{Entropy, nat_detection_hash};
use cygnet_wire::{Notify, NotifyType};

use crate::config::Encapsulation;
use crate::info::NatSituation;

/// Octets of a NAT detection hash (SHA-1).
pub(crate) const HASH_LEN: usize = 20;

/// What the NAT detection payloads, among these notifications, say about a message that came from `remote` to `local`.
/// There may be several of the source.
pub(crate) fn judge(
    notifies: &[Notify<'_>],
    initiator_spi: u64,
    responder_spi: u64,
    local: SocketAddr,
    remote: SocketAddr,
) -> NatSituation {
    let of = |kind| notifies.iter().filter(move |n| n.kind == kind);
    let said = |kind| of(kind).next().is_some();
    let (source, destination) = (
        NotifyType::NAT_DETECTION_SOURCE_IP,
        NotifyType::NAT_DETECTION_DESTINATION_IP,
    );
    if !said(source) || !said(destination) {
        return NatSituation::default();
    }
    let holds = |kind, end: SocketAddr| {
        let hash = nat_detection_hash(initiator_spi, responder_spi, end.ip(), end.port());
        of(kind).any(|notify| notify.data == hash)
    };
    //= rfc7296#2.23
    //# The IKE initiator MUST check the NAT_DETECTION_SOURCE_IP or
    //# NAT_DETECTION_DESTINATION_IP payloads if present, and if they do
    //# not match the addresses in the outer packet, MUST tunnel all
    //# future IKE and ESP packets associated with this IKE SA over UDP
    //# port 4500.
    NatSituation {
        supported: true,
        local: !holds(destination, local),
        remote: !holds(source, remote),
    }
}

/// The two hashes that we send with a message from `local` to `remote`: of the source and of the destination.
/// `None` when we want no encapsulation.
pub(crate) fn offer(
    encapsulation: Encapsulation,
    initiator_spi: u64,
    responder_spi: u64,
    local: SocketAddr,
    remote: SocketAddr,
    entropy: &mut dyn Entropy,
) -> Option<[[u8; HASH_LEN]; 2]> {
    let hash =
        |end: SocketAddr| nat_detection_hash(initiator_spi, responder_spi, end.ip(), end.port());
    let source = match encapsulation {
        Encapsulation::No => return None,
        Encapsulation::Auto => hash(local),
        // A hash of nothing: the peer must believe that a NAT has changed our address.
        Encapsulation::Yes => {
            let mut random = [0; HASH_LEN];
            entropy.fill(&mut random);
            random
        }
    };
    Some([source, hash(remote)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_crypto::testing::InsecureEntropy;

    #[test]
    fn the_end_behind_the_nat_is_found() {
        let end = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (inside, nat, server) = (
            end("10.0.0.2:500"),
            end("192.0.2.1:1027"),
            end("198.51.100.1:500"),
        );
        let mut entropy = InsecureEntropy::from_seed(4);
        let [source, destination] =
            offer(Encapsulation::Auto, 1, 0, inside, server, &mut entropy).unwrap();
        let other = [9; HASH_LEN];
        let found = |sources: &[&[u8]], local, remote| {
            let source = |data| Notify::new(NotifyType::NAT_DETECTION_SOURCE_IP, data);
            let mut notifies: Vec<_> = sources.iter().copied().map(source).collect();
            let kind = NotifyType::NAT_DETECTION_DESTINATION_IP;
            notifies.push(Notify::new(kind, &destination));
            judge(&notifies, 1, 0, local, remote)
        };
        assert!(!found(&[&source], server, inside).detected());
        // One of several source hashes is enough.
        assert!(!found(&[&other, &source], server, inside).detected());
        let moved = found(&[&source, &other], server, nat);
        assert!(moved.remote && !moved.local);
        assert!(found(&[&source], end("10.1.1.1:500"), inside).local);
        assert!(!found(&[], server, nat).supported);

        let [forged, _] = offer(Encapsulation::Yes, 1, 0, inside, server, &mut entropy).unwrap();
        assert!(found(&[&forged], server, inside).remote);
        assert_eq!(
            offer(Encapsulation::No, 1, 0, inside, server, &mut entropy),
            None
        );
    }
}
