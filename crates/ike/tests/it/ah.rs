//! Child SAs by AH (RFC 4302): their proposals, SPIs and deletions are AH's.

use std::time::Duration;

use cygnet_crypto::EspProposal;
use cygnet_ike::*;
use cygnet_ipsec::Protocol;
use cygnet_wire::{ExchangeType, Notify, NotifyType, ProtocolId, Spi};

use crate::forge::Forge;
use crate::pair::*;
use crate::sim::*;

fn pair() -> Pair {
    let mut pair = Pair::default();
    pair.east_config.key_log = true;
    for child in [&mut pair.east_child, &mut pair.west_child] {
        child.protocol = Protocol::Ah;
        child.proposals = EspProposal::parse_ah_ipsec_conf("sha2_512, sha2_256").unwrap();
    }
    pair
}

fn only(sim: &Sim, node: usize) -> ChildSaInfo {
    sim.nodes[node].endpoint.child_sas().next().unwrap()
}

#[test]
fn ah_is_negotiated_renewed_and_deleted_as_ah() {
    for node in 0..2 {
        let mut sim = run(pair());
        established(&sim);
        for install in [child(&sim, 0), child(&sim, 1)] {
            assert_eq!(install.protocol, Protocol::Ah);
            assert_eq!(install.suite.to_string(), "HMAC_SHA2_512_256-ESN");
            let keys = (&install.keys_in.encryption, &install.keys_in.integrity);
            assert_eq!((keys.0.as_ref().len(), keys.1.as_ref().len()), (0, 64));
        }
        let old = only(&sim, node);
        sim.act(node, |endpoint, now| endpoint.rekey_child(now, old.id));
        sim.run_for(s(1));
        let new = only(&sim, node);
        assert_eq!((new.replaces, new.protocol), (Some(old.id), Protocol::Ah));
        sim.assert_agreement(0, 1);
        let forges = [Role::Initiator, Role::Responder].map(|role| Forge::new(&sim, 0, role));
        sim.manual = true;
        sim.act(node, |endpoint, now| endpoint.delete_child(now, new.id));
        for reader in [1 - node, node] {
            let line = forges[reader].read(&sim.outbox[0]);
            assert!(line.ends_with("D(AH 1)"), "{line}");
            sim.exchange();
        }
        assert!(sim.nodes.iter().all(|n| n.plane.installed.is_empty()));
        sim.assert_agreement(0, 1);
    }
}

#[test]
fn an_spi_of_ah_is_none_of_esp() {
    let mut sim = run(pair());
    sim.manual = true;
    let mut west = Forge::new(&sim, 0, Role::Responder);
    let peers = Spi(only(&sim, 0).spi_out);
    let ask = |sim: &mut Sim, west: &Forge, datagram| {
        sim.deliver(datagram);
        sim.run_for(Duration::ZERO);
        let sent = sim.sent();
        sent.iter()
            .map(|answer| west.read(answer))
            .collect::<Vec<_>>()
    };
    let inform = ExchangeType::INFORMATIONAL;
    let delete = west.message(inform, false, 0, |payloads| {
        payloads.delete(ProtocolId::ESP, &[peers]);
    });
    assert_eq!(ask(&mut sim, &west, delete), ["INFORMATIONAL response 0"]);
    assert_eq!(sim.nodes[0].plane.installed.len(), 1);
    let complaint = west.message(inform, false, 1, |payloads| {
        let data = peers.to_bytes();
        payloads.notify(&Notify::new(NotifyType::INVALID_SPI, &data));
    });
    ask(&mut sim, &west, complaint);
    let about = sim.nodes[0]
        .events
        .iter()
        .rev()
        .find_map(|event| match event {
            Event::PeerComplaint { child, .. } => Some(*child),
            _ => None,
        });
    assert_eq!(about, Some(Some(only(&sim, 0).id)));
    let delete = west.message(inform, false, 2, |payloads| {
        payloads
            .delete(ProtocolId::AH, &[peers, peers])
            .delete(ProtocolId::AH, &[peers]);
    });
    let answer = ask(&mut sim, &west, delete);
    assert_eq!(answer, ["INFORMATIONAL response 2 D(AH 1)"]);
    assert!(sim.nodes[0].plane.installed.is_empty());
}

#[test]
fn one_end_wants_ah_the_other_esp() {
    let mut pair = pair();
    pair.west_child.protocol = Protocol::Esp;
    pair.west_child.proposals = EspProposal::default_list();
    let sim = run(pair);
    for (node, party) in [(0, Party::Peer), (1, Party::Us)] {
        let failure = child_failure(&sim, node);
        assert!(
            matches!(&failure, ChildFailure::NoProposalChosen { by, .. } if *by == party),
            "{failure}"
        );
    }
    sim.assert_agreement(0, 1);
}

#[test]
fn ah_does_not_go_through_a_nat() {
    let mut sim = pair().sim(1);
    sim.nat = Some(Nat::new(EAST.parse().unwrap(), NAT.parse().unwrap()));
    sim.initiate(0, WEST);
    sim.run_for(s(1));
    assert_eq!(child_failure(&sim, 1), ChildFailure::AhBehindNat);
    assert!(sim.nodes.iter().all(|n| n.plane.installed.is_empty()));
}
