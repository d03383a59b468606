//! What MOBIKE's messages contain, and what is made of a peer's (RFC 4555 §3.6–§3.9, §4.2).

use super::*;

/// The requests of a node that have been sent, as its peer reads them, and what is answered.
fn round(sim: &mut Sim, reader: &Forge) -> Vec<String> {
    let sent = sim.sent();
    let said = sent.iter().map(|datagram| reader.read(datagram)).collect();
    for datagram in sent {
        sim.deliver(datagram);
    }
    said
}

fn notified(forge: &Forge, datagram: &Datagram, kind: NotifyType) -> Option<Vec<u8>> {
    let mut found = None;
    forge.look(datagram, |payloads| {
        found = payloads.iter().find_map(|payload| match payload {
            Payload::Notify(notify) if notify.kind == kind => Some(notify.data.to_vec()),
            _ => None,
        });
    });
    found
}

//= rfc4555#4.2.1
//= type=test
//# The notification data field
//# MUST be left empty (zero-length) when sending, and its contents (if
//# any) MUST be ignored when this notification is received.
#[test]
fn support_is_said_without_data_and_understood_with_some() {
    let (mut sim, request, keys) = stopped_at(2, || mobile().sim(1));
    let kind = NotifyType::MOBIKE_SUPPORTED;
    let reader = Forge::with_keys(keys.clone(), Role::Responder);
    assert_eq!(notified(&reader, &request, kind).as_deref(), Some(&[][..]));
    let with_data = Forge::with_keys(keys, Role::Initiator).edit(&request, |payloads, writer| {
        for payload in payloads {
            match payload {
                Payload::Notify(notify) if notify.kind == kind => {
                    writer.notify(&Notify::new(kind, b"of some later version"))
                }
                other => writer.any(other),
            };
        }
    });
    sim.deliver(with_data);
    sim.run_for(s(0));
    let answer = sim.sent().remove(0);
    let reader = reader.turned(Role::Initiator);
    assert_eq!(notified(&reader, &answer, kind).as_deref(), Some(&[][..]));
    assert!(info(&sim, 1).mobike);
}

//= rfc4555#4.2.5
//= type=test
//# The data associated with this notification MUST be between 8 and 64
//# octets in length (inclusive), and MUST be chosen by the exchange
//# initiator in a way that is unpredictable to the exchange responder.
#[test]
fn each_check_has_a_cookie_of_its_own() {
    let (mut sim, _) = up(logged(), &[EAST], &[WEST]);
    let reader = Forge::new(&sim, 0, Role::Initiator);
    sim.manual = true;
    let mut cookies = Vec::new();
    for address in [EAST2, EAST, EAST2] {
        addresses(&mut sim, 0, &[address]);
        while !sim.outbox.is_empty() {
            for datagram in sim.sent() {
                let of_west = datagram.src.ip() == ip(WEST);
                if of_west && let Some(cookie) = notified(&reader, &datagram, NotifyType::COOKIE2) {
                    cookies.push(cookie);
                }
                sim.deliver(datagram);
            }
        }
    }
    // West's own, and those that it returns, which are east's.
    assert!(cookies.len() >= 3, "{cookies:?}");
    assert!(cookies.iter().all(|c| (8..=64).contains(&c.len())));
    let count = cookies.len();
    cookies.sort();
    cookies.dedup();
    assert_eq!(cookies.len(), count, "none comes twice");
}

//= rfc4555#3.7
//= type=test
//# The sender of an INFORMATIONAL request MAY
//# include a COOKIE2 notification, and if included, the recipient of an
//# INFORMATIONAL request MUST copy the notification as-is to the
//# response.
//= rfc4555#4.2.5
//= type=test
//# If the INFORMATIONAL request includes COOKIE2, the exchange responder
//# MUST copy the notification to the response message.
#[test]
fn a_cookie_comes_back_as_it_is() {
    for mobike in [true, false] {
        let mut pair = logged();
        pair.west.mobike = mobike;
        (
            pair.east.mobike,
            pair.east.local_port,
            pair.east.remote_port,
        ) = (mobike, 4500, 4500);
        let (mut sim, _) = up(pair, &[EAST], &[WEST]);
        let mut east = Forge::new(&sim, 1, Role::Initiator);
        sim.manual = true;
        let id = info(&sim, 1).next_peer_request;
        for (n, len) in (0..).zip([8, 9, 33, 64]) {
            let cookie: Vec<u8> = (0..len).collect();
            let said = [(NotifyType::COOKIE2, cookie.clone())];
            say(&mut sim, &mut east, (EAST, WEST), (false, id + n), &said);
            let answer = sim.sent().remove(0);
            let back = notified(&east, &answer, NotifyType::COOKIE2);
            assert_eq!(back, Some(cookie), "{mobike} {len}");
        }
    }
}

fn forbidding() -> Pair {
    let mut pair = logged();
    pair.east.force_encapsulation = Encapsulation::No;
    pair.west.force_encapsulation = Encapsulation::No;
    (pair.east.local_port, pair.east.remote_port) = (4500, 4500);
    pair
}

//= rfc4555#3.9
//= type=test
//# More specifically, when NAT Traversal is not enabled, all messages
//# that can update the addresses associated with the IKE_SA and/or IPsec
//# SAs (the first IKE_AUTH request and all INFORMATIONAL requests that
//# contain any of the following notifications: UPDATE_SA_ADDRESSES,
//# ADDITIONAL_IP4_ADDRESS, ADDITIONAL_IP6_ADDRESS,
//# NO_ADDITIONAL_ADDRESSES) MUST also include a NO_NATS_ALLOWED
//# notification.
#[test]
fn whatever_updates_addresses_forbids_nats_where_there_are_to_be_none() {
    let (_, request, keys) = stopped_at(2, || forbidding().sim(1));
    let reader = Forge::with_keys(keys, Role::Responder);
    assert!(reader.read(&request).contains("N(NO_NATS_ALLOWED)"));

    let (mut sim, _) = up(forbidding(), &[EAST], &[WEST]);
    let responder = Forge::new(&sim, 0, Role::Responder);
    let initiator = Forge::new(&sim, 0, Role::Initiator);
    sim.manual = true;
    // The initiator moves, then it tells of another address, then of none.
    for now in [&[EAST2][..], &[EAST2, EAST], &[EAST2]] {
        addresses(&mut sim, 0, now);
        let said = round(&mut sim, &responder);
        assert!(said[0].contains("N(NO_NATS_ALLOWED)"), "{said:?}");
        while !sim.outbox.is_empty() {
            sim.exchange();
        }
    }
    // The responder tells of another address, and of none.
    for now in [&[WEST, WEST2][..], &[WEST]] {
        addresses(&mut sim, 1, now);
        let said = round(&mut sim, &initiator);
        assert!(said[0].contains("ADDRESS"), "{said:?}");
        assert!(said[0].contains("N(NO_NATS_ALLOWED)"), "{said:?}");
        while !sim.outbox.is_empty() {
            sim.exchange();
        }
    }
}

//= rfc4555#3.9
//= type=test
//# If an UNEXPECTED_NAT_DETECTED notification is sent, the exchange
//# responder MUST NOT use the contents of the NO_NATS_ALLOWED
//# notification for any other purpose than possibly logging the
//# information for troubleshooting purposes.
#[test]
fn what_a_forbidden_nat_has_not_changed_is_used_for_nothing() {
    let (mut sim, _) = up(forbidding(), &[EAST], &[WEST]);
    let mut east = Forge::new(&sim, 1, Role::Initiator);
    sim.manual = true;
    let (before, id) = (info(&sim, 1), info(&sim, 1).next_peer_request);
    // It says that it has sent this from 203.0.113.7:4500 to west.
    let inside = vec![203, 0, 113, 7, 192, 0, 2, 2, 0x11, 0x94, 0x11, 0x94];
    let said = [
        (NotifyType::UPDATE_SA_ADDRESSES, Vec::new()),
        (NotifyType::NO_NATS_ALLOWED, inside),
    ];
    say(&mut sim, &mut east, (EAST2, WEST), (false, id), &said);
    let sent = sim.sent();
    assert_eq!(sent.len(), 1);
    let answer = format!("INFORMATIONAL response {id} N(UNEXPECTED_NAT_DETECTED)");
    assert_eq!(east.read(&sent[0]), answer);
    assert_eq!(sent[0].dst.ip(), ip(EAST2));
    let after = info(&sim, 1);
    assert_eq!((after.local, after.remote), (before.local, before.remote));
    assert_eq!(child_info(&sim, 1).remote.ip(), ip(EAST));
    assert_eq!(moves(&sim, 1), 0);
}

/// The peer has followed the copy of an update that came from another address, and its answer to that is lost.
//= rfc4555#3.6
//= type=test
//# If the request to update the addresses is retransmitted using several
//# different source addresses, a new INFORMATIONAL request MUST be sent.
#[test]
fn an_update_that_went_from_several_addresses_is_made_again() {
    let (mut sim, _) = up(mobile(), &[EAST], &[WEST]);
    let third = "203.0.113.1";
    sim.manual = true;
    addresses(&mut sim, 0, &[EAST2]);
    sim.sent();
    addresses(&mut sim, 0, &[EAST2, third]);
    let id = info(&sim, 0).next_request - 1;
    let mut copies = Vec::new();
    for _ in 0..100 {
        sim.run_for(std::time::Duration::from_millis(100));
        copies.extend(sim.sent());
        if copies.iter().any(|d| d.src.ip() == ip(third)) {
            break;
        }
    }
    let copy = |from: &str| {
        let found = copies.iter().find(|d| d.src.ip() == ip(from));
        found.expect("a copy from there").clone()
    };
    assert!(describe(&copy(third)).ends_with(&format!("INFORMATIONAL request {id} SK")));
    assert_eq!(copy(third).bytes, copy(EAST2).bytes);
    sim.deliver(copy(third));
    sim.sent();
    sim.deliver(copy(EAST2));
    let answers = sim.sent();
    sim.manual = false;
    for answer in answers {
        sim.deliver(answer);
    }
    sim.run_for(s(10));
    assert_between(&sim, EAST2, WEST);
    sim.assert_agreement(0, 1);
}
